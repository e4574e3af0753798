//! Messages on their way to the agent: what waits for a turn boundary, and what was typed and is to be confirmed.

use std::time::Duration;

use super::{Effect, Machine, Mode, Stage};
use crate::model::event::Event;
use crate::model::worker::Status;
use crate::model::{CommitId, Time};

/// How long a typed message may stay unconfirmed before it is typed again, or given up.
pub(super) const CONFIRM_WITHIN: Duration = Duration::from_secs(10);
/// How often a message is typed before a person is asked to look.
const SUBMITS: u32 = 2;
/// Letters and digits by which a message is known again.
const TELLING: usize = 200;

/// A letter from the worker's mailbox, as the machine knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::supervisor) struct Letter {
    /// Names it in the mailbox.
    pub(in crate::supervisor) id: String,
    /// Who sent it, for people.
    pub(in crate::supervisor) from: String,
    /// Whether it is of somebody who may have finished work taken up again.
    pub(in crate::supervisor) is_of_person: bool,
    /// Its agent does not get it after this.
    pub(in crate::supervisor) expires_at: Option<Time>,
}

/// A text for the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    /// It.
    text: String,
    /// The letter that it is; without one it is kept nowhere else.
    letter: Option<Letter>,
}

/// What the agent gets in one go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::supervisor) struct Parcel(Vec<Piece>);

impl Parcel {
    /// All of it as one text.
    pub(in crate::supervisor) fn text(&self) -> String {
        self.0.iter().map(|piece| piece.text.as_str()).collect::<Vec<_>>().join("\n\n")
    }

    /// The letters in it.
    pub(in crate::supervisor) fn letters(&self) -> impl Iterator<Item = &Letter> {
        self.0.iter().filter_map(|piece| piece.letter.as_ref())
    }
}

impl From<String> for Parcel {
    fn from(text: String) -> Self {
        Self(vec![Piece { text, letter: None }])
    }
}

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// For the next turn boundary.
    waiting: Vec<Piece>,
    /// The notice among them, to be replaced by a newer one.
    notice: Option<String>,
    /// A person began typing and has not submitted.
    pub(super) draft: bool,
    /// One that was typed.
    unconfirmed: Option<Typed>,
}

/// A message typed and not yet confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Typed {
    /// What.
    parcel: Parcel,
    /// When it was last typed.
    at: Time,
    /// How often.
    tries: u32,
}

/// What becomes of a typed message as time passes.
enum Confirmation {
    /// There is none.
    Nothing,
    /// It still may be confirmed.
    Awaited,
    /// It is to be typed again.
    Again(String),
    /// It was typed often enough.
    GivenUp(Parcel),
}

impl Messages {
    /// What waits, as one message.
    pub(super) fn take_waiting(&mut self) -> Option<Parcel> {
        let waiting = std::mem::take(&mut self.waiting);
        (!waiting.is_empty()).then_some(Parcel(waiting))
    }

    /// What waits and may have finished work taken up again, as one message.
    pub(super) fn take_waiting_for_more(&mut self) -> Option<Parcel> {
        let may = |piece: &mut Piece| piece.letter.as_ref().is_none_or(|letter| letter.is_of_person);
        let waiting: Vec<_> = self.waiting.extract_if(.., may).collect();
        (!waiting.is_empty()).then_some(Parcel(waiting))
    }

    /// All that was taken and is not known to have arrived, oldest first, but for letters: those are in the mailbox.
    pub(super) fn pending(&self) -> Vec<String> {
        let typed = self.unconfirmed.iter().flat_map(|typed| &typed.parcel.0);
        let kept = typed.chain(&self.waiting).filter(|piece| piece.letter.is_none());
        kept.map(|piece| piece.text.clone()).collect()
    }

    /// How many letters have not arrived.
    pub(super) fn letter_count(&self) -> usize {
        let typed = self.unconfirmed.iter().flat_map(|typed| &typed.parcel.0);
        typed.chain(&self.waiting).filter(|piece| piece.letter.is_some()).count()
    }

    /// Takes out the letters that wait and whose time is over.
    fn take_expired(&mut self, now: Time) -> Vec<Letter> {
        let is_over = |letter: &Letter| letter.expires_at.is_some_and(|end| end <= now);
        let expired = self.waiting.extract_if(.., |piece| piece.letter.as_ref().is_some_and(is_over));
        expired.filter_map(|piece| piece.letter).collect()
    }

    /// Lets a notice wait, in the place of an earlier one that still does.
    pub(super) fn put_notice(&mut self, text: String) {
        if let Some(earlier) = self.notice.take() {
            self.waiting.retain(|waiting| waiting.letter.is_some() || waiting.text != earlier);
        }
        self.notice = Some(text.clone());
        self.waiting.push(Piece { text, letter: None });
    }

    /// Puts a message that could not be typed before all that waits.
    pub(super) fn put_back(&mut self, text: String) {
        let pieces = match self.unconfirmed.take() {
            Some(typed) if typed.parcel.text() == text => typed.parcel,
            _ => text.into(),
        };
        self.waiting.splice(0..0, pieces.0);
    }

    /// The typed message, when an agent took this prompt and it is the same.
    pub(super) fn take_confirmed(&mut self, prompt: &str) -> Option<Parcel> {
        self.unconfirmed.take_if(|typed| is_same_message(prompt, &typed.parcel.text())).map(|typed| typed.parcel)
    }

    /// Looks at the typed message.
    fn confirmation(&mut self, now: Time) -> Confirmation {
        let Some(typed) = &mut self.unconfirmed else { return Confirmation::Nothing };
        if typed.at.age_at(now) < CONFIRM_WITHIN {
            return Confirmation::Awaited;
        }
        if typed.tries < SUBMITS {
            (typed.at, typed.tries) = (now, typed.tries + 1);
            return Confirmation::Again(typed.parcel.text());
        }
        self.unconfirmed.take().map_or(Confirmation::Nothing, |typed| Confirmation::GivenUp(typed.parcel))
    }
}

impl Machine {
    /// Whether a typed message is still to be confirmed.
    pub(in crate::supervisor) fn is_confirming(&self) -> bool {
        self.messages.unconfirmed.is_some()
    }

    /// The messages that were taken and are not known to have arrived, oldest first.
    pub(in crate::supervisor) fn pending_messages(&self) -> Vec<String> {
        self.messages.pending()
    }

    /// Takes what an earlier supervisor could not deliver, for the next turn boundary.
    pub(in crate::supervisor) fn take_over_messages(&mut self, messages: Vec<String>) {
        self.messages.waiting.splice(0..0, messages.into_iter().map(|text| Piece { text, letter: None }));
    }

    /// Whether the agent is in a turn at whose boundary it can be told something: it goes on in its conversation then,
    /// and a program that starts afresh with each message would take a notice for its work.
    pub(in crate::supervisor) fn takes_notices(&self) -> bool {
        self.stage == Stage::Running && self.in_turn && self.mode != Mode::OneShot
    }

    /// How a message given now would travel: `None` when it is typed at once or starts the agent, else what it waits
    /// for.
    pub(in crate::supervisor) fn send_waits_for(&self) -> Option<&'static str> {
        if self.hold {
            Some("the pause to end")
        } else if self.dialog.is_some() {
            Some("a person to answer what it asks")
        } else if self.stage == Stage::Finishing {
            Some("leftovers and checks to be done")
        } else if !self.agent_runs && self.stage == Stage::Blocked {
            None
        } else if self.mode != Mode::Conversation {
            Some("the running turn to end")
        } else if self.in_turn || self.is_confirming() {
            Some("the turn to end")
        } else if self.messages.draft {
            Some("the draft in the terminal to be submitted")
        } else {
            None
        }
    }

    /// The same of a letter. One of an agent does not have finished work taken up again: that would take back what a
    /// person or a reviewer said about it.
    pub(in crate::supervisor) fn letter_waits_for(&self, letter: &Letter) -> Option<&'static str> {
        match (self.send_waits_for(), &self.stage) {
            (None, Stage::Finished(_) | Stage::Blocked) if !letter.is_of_person => {
                Some("its work to be taken up again")
            }
            (waits, _) => waits,
        }
    }

    /// Whether a letter waits.
    pub(in crate::supervisor) fn holds_letter(&self, id: &str) -> bool {
        self.messages.waiting.iter().any(|piece| piece.letter.as_ref().is_some_and(|letter| letter.id == id))
    }

    /// Whether a letter was typed and is to be confirmed.
    pub(in crate::supervisor) fn is_typing_letter(&self, id: &str) -> bool {
        let typed = self.messages.unconfirmed.as_ref();
        typed.is_some_and(|typed| typed.parcel.letters().any(|letter| letter.id == id))
    }

    /// Takes a letter: types it, starts the agent with it, or lets it wait.
    pub(super) fn take_letter(&mut self, text: String, letter: Letter, now: Time) -> Vec<Effect> {
        let waits = self.letter_waits_for(&letter).is_some();
        let piece = Piece { text, letter: Some(letter) };
        if !waits && !self.agent_runs && self.stage == Stage::Blocked {
            return self.hand_back(Parcel(vec![piece]), now);
        }
        if waits || !self.agent_runs {
            self.messages.waiting.push(piece);
            return Vec::new();
        }
        self.submit(Parcel(vec![piece]), now)
    }

    /// Takes a message: types it, starts the agent with it, or lets it wait.
    pub(super) fn send(&mut self, text: String, returned_at: Option<CommitId>, now: Time) -> Vec<Effect> {
        let waits = self.send_waits_for().is_some();
        let mut effects: Vec<_> = returned_at.map(Effect::ExpectBeyond).into_iter().collect();
        if !waits && !self.agent_runs && self.stage == Stage::Blocked {
            effects.extend(self.hand_back(text, now));
        } else if waits || !self.agent_runs {
            self.messages.waiting.push(Piece { text, letter: None });
        } else {
            effects.extend(self.submit(text, now));
        }
        effects
    }

    /// Types a message and remembers to see it taken.
    pub(super) fn submit(&mut self, parcel: impl Into<Parcel>, now: Time) -> Vec<Effect> {
        let parcel = parcel.into();
        let text = parcel.text();
        self.messages.unconfirmed = Some(Typed { parcel, at: now, tries: 1 });
        if self.is_attempting() {
            self.say(Status::Working, "a message was typed", now);
        }
        vec![Effect::Submit(text)]
    }

    /// Time passed: sees to the typed message, and types what waits when nothing is in its way any more.
    pub(super) fn tick(&mut self, now: Time) -> Vec<Effect> {
        let mut effects: Vec<_> = self.messages.take_expired(now).into_iter().map(Effect::Expired).collect();
        match self.messages.confirmation(now) {
            Confirmation::Nothing => {}
            Confirmation::Awaited => return effects,
            Confirmation::Again(text) => {
                effects.push(Effect::Submit(text));
                return effects;
            }
            Confirmation::GivenUp(parcel) => {
                self.say(Status::Waiting, "a message was typed and not taken; attach and look", now);
                let text = "a message was typed and not taken".to_owned();
                effects.extend([Effect::Log(Event::Warning { text }), Effect::GivenUp(parcel)]);
                return effects;
            }
        }
        if self.send_waits_for().is_none() && self.agent_runs {
            let parcel = match self.stage {
                Stage::Running => self.messages.take_waiting(),
                Stage::Finished(_) => self.messages.take_waiting_for_more(),
                _ => None,
            };
            effects.extend(parcel.into_iter().flat_map(|parcel| self.submit(parcel, now)));
        }
        effects
    }
}

/// Whether a prompt that an agent took is the message that was typed. Programs wrap pasted text and change its white
/// space, so only letters and digits are compared, and only the first of them.
fn is_same_message(prompt: &str, typed: &str) -> bool {
    let letters = |text: &str| text.chars().filter(|letter| letter.is_alphanumeric()).collect::<String>();
    let wanted: String = letters(typed).chars().take(TELLING).collect();
    letters(prompt).contains(&wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::machine::Input;

    fn machine(mode: Mode) -> Machine {
        Machine::new(mode, Time::now())
    }

    #[test]
    fn a_notice_waits_for_the_turn_boundary_and_a_newer_one_takes_its_place() {
        let mut machine = machine(Mode::Conversation);
        let now = Time::now();
        assert!(machine.takes_notices());
        machine.handle(Input::Notice { text: "old".to_owned() }, now);
        machine.handle(Input::Send { text: "of a person".to_owned(), returned_at: None }, now);
        machine.handle(Input::Notice { text: "new".to_owned() }, now);
        assert_eq!(machine.pending_messages(), ["of a person", "new"]);
        let effects = machine.turn_ended(true, 0, now);
        assert!(effects.contains(&Effect::Submit("of a person\n\nnew".to_owned())), "{effects:?}");
    }

    fn letter(id: &str, is_of_person: bool, expires_at: Option<Time>) -> Input {
        let letter = Letter { id: id.to_owned(), from: "somebody".to_owned(), is_of_person, expires_at };
        Input::Letter { text: format!("text of {id}"), letter }
    }

    #[test]
    fn letters_go_to_the_agent_with_what_else_waits_and_are_kept_nowhere_but_in_the_mailbox() {
        let (mut machine, now) = (machine(Mode::Conversation), Time::now());
        machine.handle(Input::Started { pid: 1 }, now);
        machine.handle(letter("one", false, None), now);
        machine.handle(Input::Send { text: "of a person".to_owned(), returned_at: None }, now);
        assert_eq!((machine.pending_messages(), machine.holds_letter("one")), (vec!["of a person".to_owned()], true));
        let typed = "text of one\n\nof a person".to_owned();
        assert!(machine.turn_ended(true, 0, now).contains(&Effect::Submit(typed.clone())));
        assert!(machine.is_typing_letter("one") && !machine.holds_letter("one"));
        // It could not be typed, and is a letter still.
        machine.handle(Input::NotSubmitted { text: typed.clone() }, now);
        assert!(machine.holds_letter("one"));
        assert_eq!(machine.tick(now), [Effect::Submit(typed.clone())]);
        let effects = machine.turn_started(&typed, true, now);
        let has_it = |effect: &Effect| matches!(effect, Effect::Delivered(parcel) if parcel.letters().count() == 1);
        assert!(effects.iter().any(has_it), "{effects:?}");
    }

    #[test]
    fn a_letter_expires_while_it_waits_and_not_when_it_is_typed() {
        let (mut machine, now) = (machine(Mode::Conversation), Time::now());
        let later = now.after(Duration::from_secs(5));
        machine.handle(letter("short", true, Some(later)), now);
        assert_eq!(machine.tick(now), []);
        let expired = machine.tick(later);
        assert!(matches!(&expired[..], [Effect::Expired(letter)] if letter.id == "short"), "{expired:?}");
        assert_eq!(machine.tick(later), []);
        machine.handle(letter("typed", true, Some(later)), now);
        machine.turn_ended(true, 0, now);
        assert_eq!(machine.tick(later), []);
    }

    #[test]
    fn only_a_persons_letter_takes_finished_work_up_again() {
        let (mut machine, now) = (machine(Mode::Conversation), Time::now());
        machine.handle(Input::Started { pid: 1 }, now);
        machine.turn_ended(true, 0, now);
        let commit = "0123456789012345678901234567890123456789".parse().unwrap();
        machine.handle(Input::Finish(super::super::FinishReport::Work(commit)), now);
        assert_eq!(machine.handle(letter("of_agent", false, None), now), []);
        assert_eq!(machine.tick(now), []);
        let effects = machine.handle(letter("of_person", true, None), now);
        assert_eq!(effects, [Effect::Submit("text of of_person".to_owned())]);
        machine.turn_started("text of of_person", true, now);
        let effects = machine.turn_ended(true, 0, now);
        assert!(effects.contains(&Effect::Submit("text of of_agent".to_owned())), "{effects:?}");
    }

    #[test]
    fn notices_are_for_agents_in_a_turn_of_a_conversation() {
        assert!(machine(Mode::Resumable).takes_notices());
        assert!(!machine(Mode::OneShot).takes_notices());
        let mut finished = machine(Mode::Conversation);
        finished.turn_ended(true, 0, Time::now());
        assert!(!finished.takes_notices());
    }

    #[test]
    fn a_message_is_known_again_whatever_the_program_wraps_it_in() {
        let typed = "one\ttwo\n\n!three";
        assert!(is_same_message("\n<pasted_content id=\"1\">\none    two\n\n!three\n</pasted_content>\n", typed));
        assert!(!is_same_message("something that a person typed", typed));
        assert!(is_same_message("...", "..."));
    }
}
