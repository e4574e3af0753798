//! Turns of the agent, and the end of its process.

use super::{Effect, Machine, Mode, Stage};
use crate::agent::{AgentEvent, Denial, Ending};
use crate::model::Time;
use crate::model::event::Event;
use crate::model::worker::{EvidenceSource, Outcome, Status};

/// What is said of an agent between the other things that it does in a turn.
pub(super) const IN_TURN: &str = "a turn is under way";

impl Machine {
    pub(super) fn started(&mut self, pid: u32, now: Time) -> Vec<Effect> {
        self.agent_runs = true;
        self.in_turn = true;
        self.note(EvidenceSource::Process, format!("agent runs as pid {pid}"), now);
        if self.mode == Mode::Conversation {
            self.say(Status::Starting, "waiting for the agent's first word", now);
        } else {
            self.say(Status::Working, "the process runs", now);
        }
        Vec::new()
    }

    pub(super) fn agent_event(&mut self, event: AgentEvent, now: Time) -> Vec<Effect> {
        match event {
            AgentEvent::TurnStarted { prompt, is_message } => self.turn_started(&prompt, is_message, now),
            AgentEvent::TurnEnded { finished, background, .. } => self.turn_ended(finished, background, now),
            AgentEvent::Waiting { what } => {
                self.note(self.source, format!("waits for {what}"), now);
                self.dialog = Some(self.source);
                self.say(Status::Waiting, what, now);
                Vec::new()
            }
            AgentEvent::WaitingOver => {
                self.note(self.source, "waits for nobody any more", now);
                self.dialog = None;
                self.say_goes_on(now);
                Vec::new()
            }
            AgentEvent::ToolStarted(start) => {
                self.note(self.source, format!("began {}", start.tool), now);
                if self.stage == Stage::Running && !self.frozen {
                    // A sub-agent may work when the conversation's own turn is over and messages are taken.
                    self.in_turn |= start.agent_id.is_none() && start.parent_call_id.is_none();
                    if self.dialog.is_none() {
                        self.say(Status::Working, format!("runs {}", start.tool), now);
                    }
                }
                Vec::new()
            }
            AgentEvent::ToolEnded(_) => {
                self.note(self.source, "a tool call ended", now);
                self.say_goes_on(now);
                Vec::new()
            }
            AgentEvent::Retry { reason } => {
                self.note(self.source, format!("retries: {reason}"), now);
                if self.stage == Stage::Running {
                    self.say(Status::Working, format!("its provider says: {reason}"), now);
                }
                vec![Effect::Log(Event::ProviderRetry { reason })]
            }
            AgentEvent::Note { text } => vec![Effect::Log(Event::Warning { text })],
            AgentEvent::Failed { reason } => self.turn_failed(&reason, now),
            AgentEvent::SessionStarted { .. } => {
                self.note(self.source, "its conversation began", now);
                if self.status == Status::Starting {
                    self.say(Status::Working, "its conversation began", now);
                }
                Vec::new()
            }
            AgentEvent::SessionEnded { reason } => {
                self.note(self.source, format!("said goodbye: {reason}"), now);
                Vec::new()
            }
            AgentEvent::Usage(_) | AgentEvent::Display(_) | AgentEvent::Patience { .. } => Vec::new(),
        }
    }

    pub(super) fn turn_started(&mut self, prompt: &str, is_message: bool, now: Time) -> Vec<Effect> {
        self.note(self.source, if is_message { "took a message" } else { "began a turn" }, now);
        self.in_turn = true;
        self.background = 0;
        self.messages.draft &= !is_message;
        self.dialog = None;
        self.turn_failed = false;
        let mut effects = Vec::new();
        if is_message && let Some(parcel) = self.messages.take_confirmed(prompt) {
            effects.push(Effect::Log(Event::MessageSent { bytes: parcel.text().len() }));
            if parcel.letters().next().is_some() {
                effects.push(Effect::Delivered(parcel));
            }
        }
        if matches!(self.stage, Stage::Finished(_)) {
            self.stage = Stage::Running;
            self.returns = 0;
            effects.push(Effect::Reopen);
        } else if matches!(self.stage, Stage::Blocked | Stage::Held | Stage::Finishing) {
            self.stage = Stage::Running;
            self.finish_is_stale = self.finish_runs;
        }
        if !matches!(self.stage, Stage::Stopping(_)) {
            self.say(Status::Working, IN_TURN, now);
        }
        effects
    }

    /// Says that the agent goes on with what it did before a question or a tool call, unless a question is open.
    pub(super) fn say_goes_on(&mut self, now: Time) {
        let is_open = matches!(self.status, Status::Working | Status::Waiting) && self.dialog.is_none();
        if !is_open || self.stage != Stage::Running {
            return;
        }
        match self.background {
            count if count > 0 && !self.in_turn => self.say(Status::Working, behind_the_turn(count), now),
            _ => self.say(Status::Working, IN_TURN, now),
        }
    }

    pub(super) fn turn_ended(&mut self, finished: bool, background: usize, now: Time) -> Vec<Effect> {
        let is_broken = !finished && background == 0 && !self.turn_failed && self.mode == Mode::Conversation;
        self.note(self.source, if is_broken { "its turn was interrupted" } else { "its turn ended" }, now);
        self.in_turn = false;
        self.background = background;
        self.dialog = None;
        if self.stage != Stage::Running {
            return Vec::new();
        }
        let mut effects = vec![Effect::Snapshot];
        // Where the process ends with its turn, its exit is the boundary; nothing is decided before.
        if self.mode != Mode::Conversation {
            return effects;
        }
        if self.hold {
            self.stage = if finished { Stage::Held } else { Stage::Running };
            self.say(Status::Paused, self.held("at the turn boundary"), now);
        } else if let Some(text) = self.messages.take_waiting() {
            effects.extend(self.submit(text, now));
        } else if finished {
            effects.extend(self.begin_finish(now));
        } else if !self.turn_failed {
            self.say_at_rest(now);
        }
        effects
    }

    /// Says what an agent does whose turn is over and not its work.
    pub(super) fn say_at_rest(&mut self, now: Time) {
        match self.background {
            0 => self.say(Status::Idle, "its turn was interrupted", now),
            count => self.say(Status::Working, behind_the_turn(count), now),
        }
    }

    pub(super) fn turn_failed(&mut self, reason: &str, now: Time) -> Vec<Effect> {
        self.note(self.source, format!("its turn failed: {reason}"), now);
        self.in_turn = false;
        self.turn_failed = true;
        if self.stage == Stage::Running && self.mode == Mode::Conversation {
            self.say(Status::Waiting, format!("its turn failed: {reason}"), now);
        }
        vec![Effect::Snapshot]
    }

    pub(super) fn exited(&mut self, ending: Ending, now: Time) -> Vec<Effect> {
        self.agent_runs = false;
        self.in_turn = false;
        self.frozen = false;
        self.background = 0;
        self.evidence.remove(&EvidenceSource::Process);
        self.note(EvidenceSource::Exit, clause(&ending), now);
        let mut effects = vec![Effect::CloseTools];
        match (self.stage.clone(), ending) {
            (Stage::Stopping(outcome) | Stage::Finished(outcome), _) => effects.extend(self.end(outcome, now)),
            (Stage::Held, _) => {}
            (Stage::Finishing | Stage::Blocked, _) => {}
            (_, Ending::Finished { .. }) if self.mode == Mode::Conversation => {
                let reason = "the agent was ended from its terminal".to_owned();
                effects.extend(self.stop(Outcome::Stopped { reason }, now));
            }
            (_, Ending::Finished { .. }) if self.hold => {
                self.stage = Stage::Held;
                self.say(Status::Paused, self.held("after the agent's process ended"), now);
            }
            (_, Ending::Finished { denied }) => match (self.messages.take_waiting(), left_to_a_person(&denied)) {
                (Some(text), _) => effects.extend(self.hand_back(text, now)),
                (None, Some(what)) => {
                    self.stage = Stage::Blocked;
                    self.say(Status::Waiting, what, now);
                }
                (None, None) => effects.extend(self.begin_finish(now)),
            },
            (_, Ending::Interrupted { reason }) => effects.extend(self.stop(Outcome::Stopped { reason }, now)),
            (_, Ending::Limit { reason }) => effects.extend(self.stop(Outcome::LimitReached { reason }, now)),
            (_, Ending::NeedsPerson { reason }) => {
                self.stage = Stage::Blocked;
                self.say(Status::Waiting, reason, now);
            }
            (_, Ending::Failed { reason, exit_code, .. }) => {
                effects.extend(self.stop(Outcome::Failed { reason, exit_code }, now));
            }
        }
        effects
    }

    pub(super) fn agent_gone(&mut self, now: Time) -> Vec<Effect> {
        self.agent_runs = false;
        match self.stage.clone() {
            Stage::Stopping(outcome) => self.end(outcome, now),
            _ => Vec::new(),
        }
    }
}

/// What is said of an agent whose turn is over while things it started run on.
fn behind_the_turn(count: usize) -> String {
    match count {
        1 => "its turn ended, and a background task runs".to_owned(),
        _ => format!("its turn ended, and {count} background tasks run"),
    }
}

/// What rules leave to a person among the calls that were refused because nobody was there to ask.
fn left_to_a_person(denied: &[Denial]) -> Option<String> {
    let asked: Vec<_> = denied.iter().filter(|denial| denial.by_ask_rule).collect();
    let list: Vec<_> = asked.iter().map(|denial| format!("{} {}", denial.tool, denial.what)).collect();
    (!list.is_empty()).then(|| format!("a person has to decide about: {}", list.join("; ")))
}

/// What an ending says, as a clause.
fn clause(ending: &Ending) -> String {
    match ending {
        Ending::Finished { denied } if denied.is_empty() => "the agent ended well".to_owned(),
        Ending::Finished { denied } => format!("the agent ended well, {} of its calls were refused", denied.len()),
        Ending::Failed { reason, .. }
        | Ending::Interrupted { reason }
        | Ending::Limit { reason }
        | Ending::NeedsPerson { reason } => reason.clone(),
    }
}
