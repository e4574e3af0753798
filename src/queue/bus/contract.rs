//! What every bus must do: put one under the suite with [`bus_contract`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Bus, BusError, Start, Subscription};
use crate::model::message::{Address, Channel, MESSAGE_BYTES, Message, Sender, SenderKind};
use crate::model::{Time, WorkerId};
use crate::store::{Fate, Store};

/// No test waits longer for a message.
const DEADLINE: Duration = Duration::from_secs(20);

/// A bus under test: reached by any number of handles, all of one machine.
pub(crate) trait BusEngine: Sized + Sync {
    /// One that nobody else uses; it goes away with the value.
    fn fresh() -> Self;

    /// A handle, as another process would make it, with this machine's store.
    fn bus(&self) -> (Arc<dyn Bus>, Arc<Store>);
}

/// Makes a test of every rule for one engine.
macro_rules! bus_contract {
    ($engine:ty) => {
        $crate::queue::bus::contract::bus_contract!(@rules $engine;
            what_was_published_is_read_again_in_order
            an_id_is_published_once
            reading_begins_at_a_number_or_a_moment
            two_followers_see_every_message_once
            a_follower_goes_on_where_another_stopped
            a_request_has_the_first_answer_to_it
            a_request_that_nobody_answers_ends
            what_expired_is_not_shown
            a_message_that_is_too_large_is_refused
            nobody_publishes_on_tasks
            mail_waits_until_it_is_settled_once
            one_message_to_two_workers_reaches_both
            a_full_mailbox_takes_nothing_more
        );
    };
    (@rules $engine:ty; $($rule:ident)*) => {
        $(
            #[test]
            fn $rule() {
                $crate::queue::bus::contract::$rule::<$engine>();
            }
        )*
    };
}
pub(crate) use bus_contract;

/// A message of a program.
pub(crate) fn message(channel: Channel, text: &str) -> Message {
    Message::now(Sender::client(), Address::Channel(channel), text)
}

/// A message of one worker for another.
fn letter(text: &str) -> Message {
    let from = Sender { kind: SenderKind::Worker, name: "other".to_owned() };
    Message::now(from, Address::Mail(worker()), text)
}

/// Whose mailbox is looked at.
fn worker() -> WorkerId {
    "fix+2".parse().unwrap()
}

/// The texts of messages.
pub(crate) fn texts(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.text.as_str()).collect()
}

/// The next `count` messages.
pub(crate) fn take(subscription: &mut dyn Subscription, count: usize) -> Vec<Message> {
    let deadline = Instant::now() + DEADLINE;
    let mut taken = Vec::new();
    while taken.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} messages came", taken.len());
        match subscription.next(deadline) {
            Ok(messages) => taken.extend(messages),
            Err(error) => assert!(error.is_away(), "{error:?}"),
        }
    }
    taken
}

pub(crate) fn what_was_published_is_read_again_in_order<E: BusEngine>() {
    let engine = E::fresh();
    let (bus, _) = engine.bus();
    let sent = Message {
        body: Some(serde_json::json!({"deep": [1, null]})),
        reply_to: Some("earlier".to_owned()),
        ..message(Channel::General, "one\n\"two\"")
    };
    let first = bus.publish(&sent).unwrap();
    let second = bus.publish(&message(Channel::Roadmap, "plan")).unwrap();
    assert!(second > first);
    let (other, _) = engine.bus();
    let part = other.read(Start::Beginning, &[Channel::General, Channel::Roadmap]).unwrap();
    assert_eq!(part.messages[0], Message { seq: Some(first), ..sent.clone() });
    assert_eq!((texts(&part.messages), part.seq), (vec![sent.text.as_str(), "plan"], second));
    assert_eq!(texts(&other.read(Start::Beginning, &[Channel::Roadmap]).unwrap().messages), ["plan"]);
    assert_eq!(other.find(&sent.id).unwrap().unwrap().seq, Some(first));
    assert_eq!(other.find(&second.to_string()).unwrap().unwrap().text, "plan");
    assert_eq!(other.find("nobody's").unwrap(), None);
}

pub(crate) fn an_id_is_published_once<E: BusEngine>() {
    let engine = E::fresh();
    let (bus, _) = engine.bus();
    let sent = message(Channel::General, "once");
    let seq = bus.publish(&sent).unwrap();
    bus.publish(&message(Channel::General, "between")).unwrap();
    assert_eq!(bus.publish(&Message { text: "twice".to_owned(), ..sent }).unwrap(), seq);
    assert_eq!(texts(&bus.read(Start::Beginning, &[Channel::General]).unwrap().messages), ["once", "between"]);
}

pub(crate) fn reading_begins_at_a_number_or_a_moment<E: BusEngine>() {
    let engine = E::fresh();
    let (bus, _) = engine.bus();
    let first = bus.publish(&message(Channel::General, "one")).unwrap();
    // The clock of a server is the one that counts, and goes on between two messages that are a while apart.
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(30) {
        std::thread::yield_now();
    }
    let moment = Time::from_millis(Time::now().as_millis() - 10);
    let second = bus.publish(&message(Channel::General, "two")).unwrap();
    let read = |start| bus.read(start, &[Channel::General]).unwrap();
    assert_eq!(texts(&read(Start::After(first)).messages), ["two"]);
    assert_eq!(texts(&read(Start::Moment(moment)).messages), ["two"]);
    let rest = read(Start::After(second));
    assert_eq!((rest.messages.len(), rest.seq), (0, second));
}

pub(crate) fn two_followers_see_every_message_once<E: BusEngine>() {
    const WRITERS: usize = 3;
    const EACH: usize = 40;
    let engine = E::fresh();
    let (bus, _) = engine.bus();
    let mut followers = [0, 1].map(|_| bus.subscribe(0, &[Channel::Status, Channel::General]).unwrap());
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let engine = &engine;
            scope.spawn(move || {
                let (bus, _) = engine.bus();
                for number in 0..EACH {
                    bus.publish(&message(Channel::General, &format!("{writer}.{number}"))).unwrap();
                    bus.publish(&message(Channel::Errors, "not asked for")).unwrap();
                }
            });
        }
        let seen = followers.each_mut().map(|follower| take(follower.as_mut(), WRITERS * EACH));
        assert_eq!(seen[0], seen[1]);
        assert!(seen[0].is_sorted_by_key(|message| message.seq));
        let unique: std::collections::BTreeSet<_> = texts(&seen[0]).into_iter().collect();
        assert_eq!(unique.len(), WRITERS * EACH);
    });
}

pub(crate) fn a_follower_goes_on_where_another_stopped<E: BusEngine>() {
    let engine = E::fresh();
    let (bus, _) = engine.bus();
    for text in ["one", "two", "three"] {
        bus.publish(&message(Channel::General, text)).unwrap();
    }
    let mut follower = bus.subscribe(0, &[Channel::General]).unwrap();
    let seen = take(follower.as_mut(), 3);
    drop(follower);
    bus.publish(&message(Channel::General, "four")).unwrap();
    let (other, _) = engine.bus();
    let mut follower = other.subscribe(seen[1].seq.unwrap(), &[Channel::General]).unwrap();
    assert_eq!(texts(&take(follower.as_mut(), 2)), ["three", "four"]);
    assert!(follower.next(Instant::now()).unwrap().is_empty());
}

pub(crate) fn a_request_has_the_first_answer_to_it<E: BusEngine>() {
    let engine = E::fresh();
    let (bus, _) = engine.bus();
    let question = message(Channel::Coordination, "who?");
    let answer = |text: &str| Message { reply_to: Some(question.id.clone()), ..message(Channel::Coordination, text) };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (bus, _) = engine.bus();
            let mut follower = bus.subscribe(0, &[Channel::Coordination]).unwrap();
            assert_eq!(texts(&take(follower.as_mut(), 1)), ["who?"]);
            let other = Message { reply_to: Some("another".to_owned()), ..message(Channel::Coordination, "no") };
            bus.publish(&other).unwrap();
            bus.publish(&answer("me")).unwrap();
            bus.publish(&answer("me too")).unwrap();
        });
        assert_eq!(bus.request(&question, DEADLINE).unwrap().unwrap().text, "me");
    });
}

pub(crate) fn a_request_that_nobody_answers_ends<E: BusEngine>() {
    let engine = E::fresh();
    let (bus, _) = engine.bus();
    let question = message(Channel::Coordination, "who?");
    assert_eq!(bus.request(&question, Duration::from_millis(100)).unwrap(), None);
}

pub(crate) fn what_expired_is_not_shown<E: BusEngine>() {
    let engine = E::fresh();
    let (bus, _) = engine.bus();
    let over = Message { expires_at: Some(Time::from_millis(1)), ..message(Channel::General, "over") };
    let later = Message { expires_at: Some(Time::now().after(DEADLINE)), ..message(Channel::General, "later") };
    bus.publish(&over).unwrap();
    bus.publish(&later).unwrap();
    assert_eq!(texts(&bus.read(Start::Beginning, &[Channel::General]).unwrap().messages), ["later"]);
    let mut follower = bus.subscribe(0, &[Channel::General]).unwrap();
    assert_eq!(texts(&take(follower.as_mut(), 1)), ["later"]);
}

pub(crate) fn a_message_that_is_too_large_is_refused<E: BusEngine>() {
    let engine = E::fresh();
    let (bus, _) = engine.bus();
    let large = message(Channel::General, &"x".repeat(MESSAGE_BYTES));
    assert!(matches!(bus.publish(&large), Err(BusError::TooLarge { .. })));
    let mail = Message { channel: Address::Mail(worker()), ..large };
    assert!(matches!(bus.post(&worker(), &mail, 9), Err(BusError::TooLarge { .. })));
    let most = message(Channel::General, &"x".repeat(MESSAGE_BYTES - 400));
    let seq = bus.publish(&most).unwrap();
    assert_eq!(bus.read(Start::Beginning, &Channel::open()).unwrap().messages, [Message { seq: Some(seq), ..most }]);
}

pub(crate) fn nobody_publishes_on_tasks<E: BusEngine>() {
    let engine = E::fresh();
    let (bus, _) = engine.bus();
    assert!(matches!(bus.publish(&message(Channel::Tasks, "x")), Err(BusError::ReadOnly(Channel::Tasks))));
}

pub(crate) fn mail_waits_until_it_is_settled_once<E: BusEngine>() {
    let engine = E::fresh();
    let (bus, store) = engine.bus();
    let (one, two) = (letter("one"), letter("two"));
    for mail in [&one, &two, &one] {
        bus.post(&worker(), mail, 9).unwrap();
    }
    assert_eq!(texts(&bus.mail(&worker(), 9).unwrap()), ["one", "two"]);
    assert_eq!(texts(&engine.bus().0.mail(&worker(), 9).unwrap()), ["one", "two"], "nobody has settled them");
    assert!(bus.mail(&"fix".parse().unwrap(), 9).unwrap().is_empty());
    assert!(store.settle_mail(&worker(), &one.id, Fate::Delivered).unwrap());
    assert!(!store.settle_mail(&worker(), &one.id, Fate::Delivered).unwrap(), "somebody did");
    bus.post(&worker(), &one, 9).unwrap();
    assert_eq!(texts(&bus.mail(&worker(), 9).unwrap()), ["two"]);
    assert!(bus.read(Start::Beginning, &Channel::open()).unwrap().messages.is_empty(), "mail is for nobody else");
}

pub(crate) fn one_message_to_two_workers_reaches_both<E: BusEngine>() {
    let engine = E::fresh();
    let (bus, _) = engine.bus();
    let other: WorkerId = "other+2".parse().unwrap();
    let mail = letter("both");
    bus.post(&worker(), &mail, 9).unwrap();
    bus.post(&other, &mail, 9).unwrap();
    assert_eq!(texts(&bus.mail(&worker(), 9).unwrap()), ["both"]);
    assert_eq!(texts(&bus.mail(&other, 9).unwrap()), ["both"]);
}

pub(crate) fn a_full_mailbox_takes_nothing_more<E: BusEngine>() {
    let engine = E::fresh();
    let (bus, _) = engine.bus();
    bus.post(&worker(), &letter("one"), 2).unwrap();
    let over = Message { expires_at: Some(Time::from_millis(1)), ..letter("over") };
    bus.post(&worker(), &over, 2).unwrap();
    bus.post(&worker(), &letter("two"), 2).unwrap();
    let refused = bus.post(&worker(), &letter("three"), 2).unwrap_err();
    assert_eq!(refused.to_string(), "2 messages wait for worker `fix+2` already");
    let waiting = bus.mail(&worker(), 2).unwrap();
    assert_eq!(texts(&waiting), ["one", "over", "two"], "whoever delivers says what expired");
    assert_eq!(waiting.iter().map(|mail| mail.is_expired(Time::now())).collect::<Vec<_>>(), [false, true, false]);
}
