//! Names on a server, and with a real one the contract of the bus and what only a server promises.

use super::{decoded, encoded};

#[test]
fn an_id_survives_being_part_of_a_subject() {
    for id in ["fix", "fix+2", "a.b", "a_b-c"] {
        assert_eq!(decoded(&encoded(id)).as_deref(), Some(id));
    }
    assert_eq!(decoded("=zz"), None);
}

#[cfg(feature = "real-agents")]
mod server {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use async_nats::jetstream::stream::Config;
    use tempfile::TempDir;

    use crate::model::message::{Address, Channel, Message, Sender, SenderKind};
    use crate::model::settings::Durability;
    use crate::model::{Time, WorkerId};
    use crate::queue::bus::contract::{BusEngine, bus_contract, message, take, texts};
    use crate::queue::bus::{Bus, BusError, Part, Start, post_here, tell_facts};
    use crate::queue::nats::bus::{NatsBus, REMEMBERED};
    use crate::queue::nats::tests::{Process, log};
    use crate::store::{Fate, StatePaths, Store};

    /// The bus on a server of its own, and one machine that uses it.
    struct NatsEngine {
        /// Ended before its folder goes.
        server: Process,
        /// The stream, and the machine's store.
        folder: TempDir,
    }

    impl NatsEngine {
        /// The machine's store of this name.
        fn store(&self, machine: &str) -> (StatePaths, Arc<Store>) {
            let paths = StatePaths::new(&self.folder.path().join(machine));
            let store = Arc::new(Store::open(&paths, Durability::Normal).unwrap());
            (paths, store)
        }

        /// A handle of another machine.
        fn bus_of(&self, machine: &str) -> (Arc<dyn Bus>, Arc<Store>) {
            let (_, store) = self.store(machine);
            (Arc::new(Self::open(&self.server.url, store.clone())), store)
        }

        /// One of this machine that reaches the server at this address, as what it is.
        fn bus_at(&self, url: &str) -> NatsBus {
            Self::open(url, self.store("here").1)
        }

        /// The bus at this address with this store.
        fn open(url: &str, store: Arc<Store>) -> NatsBus {
            NatsBus::open(log(url).unwrap().link().clone(), store).unwrap()
        }

        /// Publishes something as any program would.
        fn publish_raw(&self, subject: &'static str, payload: String) {
            let link = log(&self.server.url).unwrap().link().clone();
            let context = link.context();
            let sent = link.once(async move { context.publish(subject, payload.into()).await?.await });
            sent.unwrap().unwrap();
        }
    }

    /// Longer than a test takes.
    const DAY: Duration = Duration::from_secs(24 * 3_600);

    /// A letter of a program.
    fn letter(worker: &WorkerId, text: &str) -> Message {
        Message::now(Sender::client(), Address::Mail(worker.clone()), text)
    }

    /// Waits until the clock has gone on for certain; a moment in between.
    fn moment_between() -> Time {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(30) {
            std::thread::yield_now();
        }
        Time::from_millis(Time::now().as_millis() - 10)
    }

    /// A line to a server on which some hundred thousand bytes come back in a second; where it begins.
    fn slow_line(url: &str) -> String {
        let to = url.trim_start_matches("nats://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = format!("nats://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                let far = TcpStream::connect(&to).unwrap();
                let (mut out, mut there) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut out, &mut there));
                std::thread::spawn(move || trickle(far, near));
            }
        });
        own
    }

    /// Passes on what comes, slowly.
    fn trickle(mut from: TcpStream, mut to: TcpStream) {
        let mut piece = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            if to.write_all(&piece[..count]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    impl BusEngine for NatsEngine {
        fn fresh() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self { server: Process::start(folder.path()), folder }
        }

        fn bus(&self) -> (Arc<dyn Bus>, Arc<Store>) {
            self.bus_of("here")
        }
    }

    bus_contract!(NatsEngine);

    #[test]
    fn a_follower_goes_on_when_the_server_is_killed_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let server = Process::start(folder.path());
        let port = server.url.rsplit(':').next().unwrap().to_owned();
        let engine = NatsEngine { server, folder };
        let (bus, _) = engine.bus();
        bus.publish(&message(Channel::General, "before")).unwrap();
        let mut follower = bus.subscribe(0, &[Channel::General]).unwrap();
        assert_eq!(texts(&take(follower.as_mut(), 1)), ["before"]);
        let NatsEngine { server, folder } = engine;
        drop(server);
        let engine = NatsEngine { server: Process::start_at(folder.path(), &port), folder };
        let (other, _) = engine.bus();
        other.publish(&message(Channel::General, "after")).unwrap();
        assert_eq!(texts(&take(follower.as_mut(), 1)), ["after"]);
        assert_eq!(texts(&bus.read(Start::Beginning, &[Channel::General]).unwrap().messages), ["before", "after"]);
    }

    #[test]
    fn mail_goes_to_the_machine_that_fetches_it_and_is_nobodys_word_but_an_agents() {
        let engine = NatsEngine::fresh();
        let ((here, store), (there, _)) = (engine.bus(), engine.bus_of("there"));
        let worker = "fix+2".parse().unwrap();
        let mut incoming = here.await_mail(&worker).unwrap();
        let letter = |kind, text: &str| {
            let from = Sender { kind, name: "ada".to_owned() };
            Message::now(from, Address::Mail(worker.clone()), text)
        };
        for mail in [letter(SenderKind::Person, "one"), letter(SenderKind::Worker, "two")] {
            there.post(&worker, &mail, 9).unwrap();
        }
        assert_eq!(texts(&take(incoming.as_mut(), 2)), ["one", "two"]);
        let mail = here.mail(&worker, 9).unwrap();
        assert_eq!(texts(&mail), ["one", "two"]);
        assert_eq!(
            mail.iter().map(|mail| mail.from.kind).collect::<Vec<_>>(),
            [SenderKind::Client, SenderKind::Worker]
        );
        assert_eq!(store.waiting_mail(&worker).unwrap(), mail, "it is on this machine now");
        for letter in &mail {
            assert!(store.settle_mail(&worker, &letter.id, Fate::Delivered).unwrap());
        }
        assert!(here.mail(&worker, 9).unwrap().is_empty());
        assert!(there.mail(&worker, 9).unwrap().is_empty(), "and it is delivered on no other");
    }

    #[test]
    fn what_a_machine_has_fetched_counts_for_senders_until_its_agent_has_it() {
        let engine = NatsEngine::fresh();
        let ((here, store), (there, _)) = (engine.bus(), engine.bus_of("there"));
        let worker: WorkerId = "fix".parse().unwrap();
        let [one, two, three] = ["one", "two", "three"].map(|text| letter(&worker, text));
        for mail in [&one, &two] {
            there.post(&worker, mail, 2).unwrap();
        }
        assert_eq!(texts(&here.mail(&worker, 2).unwrap()), ["one", "two"]);
        assert!(matches!(there.post(&worker, &three, 2), Err(BusError::MailboxFull { .. })));
        store.settle_mail(&worker, &one.id, Fate::Delivered).unwrap();
        assert_eq!(texts(&here.mail(&worker, 2).unwrap()), ["two"]);
        there.post(&worker, &three, 2).unwrap();
        assert_eq!(texts(&here.mail(&worker, 2).unwrap()), ["two", "three"]);
    }

    #[test]
    fn mail_for_which_there_is_no_room_waits_on_the_server() {
        let engine = NatsEngine::fresh();
        let ((here, store), (there, _)) = (engine.bus(), engine.bus_of("there"));
        let worker: WorkerId = "fix".parse().unwrap();
        let own = letter(&worker, "own");
        post_here(&store, &worker, &own, 1).unwrap();
        there.post(&worker, &letter(&worker, "from afar"), 1).unwrap();
        assert_eq!(texts(&here.mail(&worker, 1).unwrap()), ["own"]);
        store.settle_mail(&worker, &own.id, Fate::Delivered).unwrap();
        assert_eq!(texts(&here.mail(&worker, 1).unwrap()), ["from afar"]);
    }

    #[test]
    fn mail_that_a_machine_left_is_delivered_where_the_work_goes_on_and_not_again_when_that_machine_is_back() {
        let engine = NatsEngine::fresh();
        let ((here, store), (there, store_there)) = (engine.bus(), engine.bus_of("there"));
        let (afar, _) = engine.bus_of("afar");
        let worker: WorkerId = "fix".parse().unwrap();
        let [one, two] = ["one", "two"].map(|text| letter(&worker, text));
        for mail in [&one, &two] {
            afar.post(&worker, mail, 9).unwrap();
        }
        assert_eq!(texts(&here.mail(&worker, 9).unwrap()), ["one", "two"]);
        store.settle_mail(&worker, &one.id, Fate::Delivered).unwrap();
        // Whoever settled it was killed before it could say so to the server.
        let (again, _) = engine.bus();
        assert_eq!(texts(&again.mail(&worker, 9).unwrap()), ["two"]);
        assert_eq!(texts(&there.mail(&worker, 9).unwrap()), ["two"]);
        store_there.settle_mail(&worker, &two.id, Fate::Delivered).unwrap();
        assert!(there.mail(&worker, 9).unwrap().is_empty());
        assert_eq!(texts(&store.waiting_mail(&worker).unwrap()), ["two"]);
        assert!(here.mail(&worker, 9).unwrap().is_empty());
    }

    #[test]
    fn programs_that_fill_a_mailbox_by_themselves_are_in_the_way_of_nothing() {
        let engine = NatsEngine::fresh();
        let store = engine.bus().1;
        let worker: WorkerId = "fix".parse().unwrap();
        for number in 0..10 {
            engine.publish_raw("swarm.tests.mail.fix", number.to_string());
        }
        let server = engine.bus_at(&engine.server.url);
        let fetched = || {
            server.fetch_mail(&worker, 2, 4).unwrap();
            store.waiting_mail(&worker).unwrap()
        };
        assert_eq!(texts(&fetched()), ["0", "1"]);
        let kept = server.read_subjects(Start::Beginning, vec!["swarm.tests.mail.fix".to_owned()]).unwrap();
        assert_eq!(texts(&kept.messages), ["0", "1", "2", "3"]);
        for expected in [["2", "3"].as_slice(), &[]] {
            for mail in store.waiting_mail(&worker).unwrap() {
                store.settle_mail(&worker, &mail.id, Fate::Delivered).unwrap();
            }
            assert_eq!(texts(&fetched()), expected);
        }
    }

    #[test]
    fn what_is_read_in_parts_is_all_of_it_once() {
        const ALL: u64 = 60;
        let engine = NatsEngine::fresh();
        let bus = engine.bus_at(&engine.server.url);
        let read = |from, most| {
            let part = bus.read_in_parts(from, vec![bus.names.of(&Address::Channel(Channel::General))], most).unwrap();
            let numbers: Vec<u64> = part.messages.iter().map(|message| message.text.parse().unwrap()).collect();
            assert_eq!(part.messages.iter().filter_map(|message| message.seq).collect::<Vec<_>>(), numbers);
            (numbers, part.seq)
        };
        for from in [Start::Beginning, Start::After(7), Start::Moment(Time::now())] {
            assert_eq!(read(from, 3), (Vec::new(), 0), "nothing is there");
        }
        let mut moment = None;
        for number in 1..=ALL {
            if number == 20 {
                moment = Some(moment_between());
            }
            // Most are on another channel, and all that come late.
            let channel = if number % 4 == 0 && number < 40 { Channel::General } else { Channel::Errors };
            assert_eq!(bus.publish(&message(channel, &number.to_string())).unwrap(), number);
        }
        let wanted: Vec<u64> = (4..40).step_by(4).collect();
        for most in [1, 2, 4, wanted.len(), 500] {
            assert_eq!(read(Start::Beginning, most), (wanted.clone(), ALL), "{most} at once");
            assert_eq!(read(Start::After(12), most), (wanted[3..].to_vec(), ALL), "{most} at once");
            assert_eq!(read(Start::After(13), most), (wanted[3..].to_vec(), ALL), "{most} at once");
            assert_eq!(read(Start::Moment(moment.unwrap()), most), (wanted[4..].to_vec(), ALL), "{most} at once");
        }
        let later = Start::Moment(Time::now().after(DAY));
        for from in [Start::After(36), Start::After(ALL), Start::After(2 * ALL), later] {
            assert_eq!(read(from, 3), (Vec::new(), ALL));
        }
    }

    #[test]
    fn more_than_a_slow_line_carries_in_one_try_is_read_all_the_same() {
        const COUNT: usize = 25;
        let engine = NatsEngine::fresh();
        let (fast, slow) = (engine.bus_at(&engine.server.url), engine.bus_at(&slow_line(&engine.server.url)));
        let sent: Vec<_> = (0..COUNT)
            .map(|number| {
                let sent = message(Channel::General, &format!("{number}{}", " ".repeat(60_000)));
                Message { seq: Some(fast.publish(&sent).unwrap()), ..sent }
            })
            .collect();
        let Part { messages, seq } = slow.read(Start::Beginning, &[Channel::General]).unwrap();
        assert!(messages == sent, "{} messages of {COUNT} came", messages.len());
        assert_eq!(Some(seq), sent[COUNT - 1].seq);
    }

    #[test]
    fn the_stream_of_an_earlier_version_is_brought_up_to_date() {
        let engine = NatsEngine::fresh();
        let bus = engine.bus_at(&engine.server.url);
        let earlier = Config { duplicate_window: Duration::from_secs(120), allow_direct: false, ..bus.names.config() };
        let context = bus.link.context();
        bus.link.once(async move { context.update_stream(earlier).await }).unwrap().unwrap();
        let has = || {
            let (context, name) = (bus.link.context(), bus.names.stream.clone());
            let found = bus.link.once(async move { context.get_stream(name).await }).unwrap().unwrap();
            let config = &found.cached_info().config;
            (config.duplicate_window, config.allow_direct, config.subjects.len())
        };
        let subjects = bus.names.config().subjects.len();
        assert_eq!(has(), (Duration::from_secs(120), false, subjects));
        drop(engine.bus_at(&engine.server.url));
        assert_eq!((has(), REMEMBERED), ((Duration::from_secs(3_600), true, subjects), Duration::from_secs(3_600)));
    }

    #[test]
    fn what_happened_on_a_machine_is_told_once() {
        use crate::model::event::{Event, EventRecord};
        use crate::model::worker::Outcome;
        let engine = NatsEngine::fresh();
        let (bus, store) = engine.bus();
        let (paths, _) = engine.store("here");
        let run = serde_json::from_str("\"2d3f1c84-5d0f-4a31-9a0e-7f6a3c7f0b11\"").unwrap();
        let ended = |worker: &str, outcome| {
            let event = Event::AttemptEnded { outcome, used: None };
            let (ticket, worker) = (worker.parse().unwrap(), worker.parse().unwrap());
            store.record_event(&paths, &EventRecord::now(&run, &ticket, &worker, event)).unwrap();
        };
        ended("good", Outcome::NoChanges);
        ended("bad", Outcome::Failed { reason: "exit code 3".to_owned(), exit_code: Some(3) });
        for _ in 0..2 {
            tell_facts(bus.as_ref(), &store, &paths).unwrap();
        }
        store.set_meta("bus_told", "0").unwrap();
        tell_facts(bus.as_ref(), &store, &paths).unwrap();
        let on = |channel| bus.read(Start::Beginning, &[channel]).unwrap().messages;
        assert_eq!(texts(&on(Channel::Results)), ["good: done: no changes"]);
        let errors = on(Channel::Errors);
        assert_eq!(texts(&errors), ["bad: failed: exit code 3"]);
        assert_eq!((errors[0].from.kind, &errors[0].from.name[..]), (SenderKind::Client, "supervisor"));
        assert_eq!(errors[0].body.as_ref().unwrap()["worker"], "bad");
    }

    #[test]
    fn what_happens_at_nodes_is_kept_for_as_long_as_it_is_to() {
        let engine = NatsEngine::fresh();
        let link = log(&engine.server.url).unwrap().link().clone();
        let kept = || {
            let (context, name) = (link.context(), link.names().events.clone());
            let config = link.once(async move { context.get_stream(name).await.unwrap().cached_info().config.clone() });
            config.map(|config| (config.max_age.as_secs(), config.duplicate_window.as_secs())).unwrap()
        };
        for (wanted, known) in [(86_400, 3_600), (60, 60), (0, 3_600)] {
            link.keep_events(Duration::from_secs(wanted)).unwrap();
            assert_eq!(kept(), (wanted, known));
        }
    }

    #[test]
    fn nobody_speaks_on_a_channel_in_the_name_of_a_person() {
        let engine = NatsEngine::fresh();
        let (bus, _) = engine.bus();
        let mut follower = bus.subscribe(0, &[Channel::Coordination]).unwrap();
        let kinds = [SenderKind::Person, SenderKind::Coordinator, SenderKind::Worker, SenderKind::Client];
        for kind in kinds {
            let from = Sender { kind, name: "ada".to_owned() };
            bus.publish(&Message::now(from, Address::Channel(Channel::Coordination), "Land it all.")).unwrap();
        }
        let [client, worker] =
            [SenderKind::Client, SenderKind::Worker].map(|kind| Sender { kind, name: "ada".to_owned() });
        let expected = [client.clone(), client.clone(), worker, client];
        let senders = |messages: Vec<Message>| messages.into_iter().map(|message| message.from).collect::<Vec<_>>();
        assert_eq!(senders(take(follower.as_mut(), 4)), expected);
        assert_eq!(senders(bus.read(Start::Beginning, &[Channel::Coordination]).unwrap().messages), expected);
    }

    #[test]
    fn whatever_a_program_publishes_breaks_no_follower() {
        let engine = NatsEngine::fresh();
        let (bus, _) = engine.bus();
        let mut follower = bus.subscribe(0, &[Channel::General]).unwrap();
        for payload in ["not JSON", "", r#"{"text":"hi","from":{"kind":"king"}}"#] {
            engine.publish_raw("swarm.tests.general", payload.to_owned());
        }
        let seen = take(follower.as_mut(), 3);
        assert_eq!(texts(&seen), ["not JSON", "", "hi"]);
        assert!(seen.iter().all(|message| message.from == Sender::client()));
        assert!(seen.iter().all(|message| message.at.age_at(Time::now()) < Duration::from_secs(60)));
    }

    #[test]
    fn mail_that_is_too_long_is_in_the_way_of_nothing() {
        let engine = NatsEngine::fresh();
        let (bus, _) = engine.bus();
        let worker: WorkerId = "fix".parse().unwrap();
        // As JSON it is twice as long as it is here.
        for payload in ["\n".repeat(40_000), "hi".to_owned()] {
            engine.publish_raw("swarm.tests.mail.fix", payload);
        }
        for _ in 0..2 {
            assert_eq!(texts(&bus.mail(&worker, 9).unwrap()), ["hi"]);
        }
    }

    #[test]
    fn a_server_that_is_away_is_told_once_to_a_follower() {
        let engine = NatsEngine::fresh();
        let (bus, _) = engine.bus();
        let mut follower = bus.subscribe(0, &[Channel::General]).unwrap();
        let NatsEngine { server, folder } = engine;
        drop(server);
        let deadline = Instant::now() + Duration::from_secs(60);
        let told = loop {
            match follower.next(deadline) {
                Err(error) => break error,
                Ok(messages) => assert!(messages.is_empty() && Instant::now() < deadline),
            }
        };
        assert!(matches!(told, BusError::Nats(_)) && told.is_away(), "{told:?}");
        drop(folder);
    }
}
