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

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// For the next turn boundary.
    waiting: Vec<String>,
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
    /// The text.
    text: String,
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
    GivenUp,
}

impl Messages {
    /// What waits, as one message.
    pub(super) fn take_waiting(&mut self) -> Option<String> {
        let waiting = std::mem::take(&mut self.waiting);
        (!waiting.is_empty()).then(|| waiting.join("\n\n"))
    }

    /// All that was taken and is not known to have arrived, oldest first.
    pub(super) fn pending(&self) -> Vec<String> {
        self.unconfirmed.iter().map(|typed| &typed.text).chain(&self.waiting).cloned().collect()
    }

    /// Lets a notice wait, in the place of an earlier one that still does.
    pub(super) fn put_notice(&mut self, text: String) {
        if let Some(earlier) = self.notice.take() {
            self.waiting.retain(|waiting| *waiting != earlier);
        }
        self.notice = Some(text.clone());
        self.waiting.push(text);
    }

    /// Puts a message that could not be typed before all that waits.
    pub(super) fn put_back(&mut self, text: String) {
        self.unconfirmed = None;
        self.waiting.insert(0, text);
    }

    /// The typed message, when an agent took this prompt and it is the same.
    pub(super) fn take_confirmed(&mut self, prompt: &str) -> Option<String> {
        self.unconfirmed.take_if(|typed| is_same_message(prompt, &typed.text)).map(|typed| typed.text)
    }

    /// Looks at the typed message.
    fn confirmation(&mut self, now: Time) -> Confirmation {
        let Some(typed) = &mut self.unconfirmed else { return Confirmation::Nothing };
        if typed.at.age_at(now) < CONFIRM_WITHIN {
            return Confirmation::Awaited;
        }
        if typed.tries < SUBMITS {
            (typed.at, typed.tries) = (now, typed.tries + 1);
            return Confirmation::Again(typed.text.clone());
        }
        self.unconfirmed = None;
        Confirmation::GivenUp
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
        self.messages.waiting.splice(0..0, messages);
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

    /// Takes a message: types it, starts the agent with it, or lets it wait.
    pub(super) fn send(&mut self, text: String, returned_at: Option<CommitId>, now: Time) -> Vec<Effect> {
        let waits = self.send_waits_for().is_some();
        let mut effects: Vec<_> = returned_at.map(Effect::ExpectBeyond).into_iter().collect();
        if !waits && !self.agent_runs && self.stage == Stage::Blocked {
            effects.extend(self.hand_back(text, now));
        } else if waits || !self.agent_runs {
            self.messages.waiting.push(text);
        } else {
            effects.extend(self.submit(text, now));
        }
        effects
    }

    /// Types a message and remembers to see it taken.
    pub(super) fn submit(&mut self, text: String, now: Time) -> Vec<Effect> {
        self.messages.unconfirmed = Some(Typed { text: text.clone(), at: now, tries: 1 });
        if self.is_attempting() {
            self.say(Status::Working, "a message was typed", now);
        }
        vec![Effect::Submit(text)]
    }

    /// Time passed: sees to the typed message, and types what waits when nothing is in its way any more.
    pub(super) fn tick(&mut self, now: Time) -> Vec<Effect> {
        match self.messages.confirmation(now) {
            Confirmation::Nothing => {}
            Confirmation::Awaited => return Vec::new(),
            Confirmation::Again(text) => return vec![Effect::Submit(text)],
            Confirmation::GivenUp => {
                self.say(Status::Waiting, "a message was typed and not taken; attach and look", now);
                return vec![Effect::Log(Event::Warning { text: "a message was typed and not taken".to_owned() })];
            }
        }
        if self.send_waits_for().is_none()
            && self.agent_runs
            && matches!(self.stage, Stage::Running | Stage::Finished(_))
            && let Some(text) = self.messages.take_waiting()
        {
            return self.submit(text, now);
        }
        Vec::new()
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
