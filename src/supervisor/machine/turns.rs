//! Turns of the agent, and the end of its process.

use super::{Effect, Machine, Mode, Stage};
use crate::agent::{AgentEvent, Denial, Ending};
use crate::model::Time;
use crate::model::event::Event;
use crate::model::worker::{EvidenceSource, Outcome, Status};

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
                self.note(EvidenceSource::Hook, format!("waits for {what}"), now);
                self.has_dialog = true;
                self.say(Status::Waiting, what, now);
                Vec::new()
            }
            AgentEvent::WaitingOver => {
                self.has_dialog = false;
                if self.status == Status::Waiting && self.stage == Stage::Running {
                    self.say(Status::Working, "a turn is under way", now);
                }
                Vec::new()
            }
            AgentEvent::ToolStarted(start) => {
                self.note(EvidenceSource::Hook, format!("began {}", start.tool), now);
                if self.stage == Stage::Running && !self.frozen {
                    self.in_turn = true;
                    self.say(Status::Working, format!("runs {}", start.tool), now);
                }
                Vec::new()
            }
            AgentEvent::ToolEnded(_) => {
                self.note(EvidenceSource::Hook, "a tool call ended", now);
                if matches!(self.status, Status::Working | Status::Waiting) && self.stage == Stage::Running {
                    self.say(Status::Working, "a turn is under way", now);
                }
                Vec::new()
            }
            AgentEvent::Retry { reason } => {
                self.note(EvidenceSource::Hook, format!("retries: {reason}"), now);
                if self.stage == Stage::Running {
                    self.say(Status::Working, format!("its provider says: {reason}"), now);
                }
                vec![Effect::Log(Event::ProviderRetry { reason })]
            }
            AgentEvent::Note { text } => vec![Effect::Log(Event::Warning { text })],
            AgentEvent::Failed { reason } => self.turn_failed(&reason, now),
            AgentEvent::SessionStarted { .. } => {
                self.note(EvidenceSource::Hook, "its conversation began", now);
                if self.status == Status::Starting {
                    self.say(Status::Working, "its conversation began", now);
                }
                Vec::new()
            }
            AgentEvent::SessionEnded { reason } => {
                self.note(EvidenceSource::Hook, format!("said goodbye: {reason}"), now);
                Vec::new()
            }
            AgentEvent::Usage(_) | AgentEvent::Display(_) => Vec::new(),
        }
    }

    pub(super) fn turn_started(&mut self, prompt: &str, is_message: bool, now: Time) -> Vec<Effect> {
        self.note(EvidenceSource::Hook, if is_message { "took a message" } else { "began a turn" }, now);
        self.in_turn = true;
        self.messages.draft &= !is_message;
        self.has_dialog = false;
        self.turn_failed = false;
        let mut effects = Vec::new();
        if is_message && let Some(text) = self.messages.take_confirmed(prompt) {
            effects.push(Effect::Log(Event::MessageSent { bytes: text.len() }));
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
            self.say(Status::Working, "a turn is under way", now);
        }
        effects
    }

    pub(super) fn turn_ended(&mut self, finished: bool, background: usize, now: Time) -> Vec<Effect> {
        self.note(EvidenceSource::Hook, "its turn ended", now);
        self.in_turn = background > 0;
        self.has_dialog = false;
        if self.stage != Stage::Running {
            return Vec::new();
        }
        if background > 0 {
            self.say(Status::Working, format!("{background} of its background tasks run"), now);
            return Vec::new();
        }
        let mut effects = vec![Effect::Snapshot];
        // Where the process ends with its turn, its exit is the boundary; nothing is decided before.
        if self.mode != Mode::Conversation {
            return effects;
        }
        if self.hold {
            self.stage = if finished { Stage::Held } else { Stage::Running };
            self.say(Status::Paused, "held at the turn boundary", now);
        } else if let Some(text) = self.messages.take_waiting() {
            effects.extend(self.submit(text, now));
        } else if finished {
            effects.extend(self.begin_finish(now));
        } else if !self.turn_failed {
            self.say(Status::Idle, "the turn ended unfinished", now);
        }
        effects
    }

    pub(super) fn turn_failed(&mut self, reason: &str, now: Time) -> Vec<Effect> {
        self.note(EvidenceSource::Hook, format!("its turn failed: {reason}"), now);
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
                self.say(Status::Paused, "held after the agent's process ended", now);
            }
            (_, Ending::Finished { denied }) => match (self.messages.take_waiting(), left_to_a_person(&denied)) {
                (Some(text), _) => effects.extend(self.hand_back(text, now)),
                (None, Some(what)) => {
                    self.stage = Stage::Blocked;
                    self.say(Status::Waiting, what, now);
                }
                (None, None) => effects.extend(self.begin_finish(now)),
            },
            (_, Ending::Interrupted { reason } | Ending::Limit { reason }) => {
                effects.extend(self.stop(Outcome::Stopped { reason }, now));
            }
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
