//! What a worker's life is made of: a plain state machine from inputs to effects, without clock, disk or terminal.
//!
//! The loop in `run` turns everything that happens into an [`Input`], hands it to [`Machine::handle`], and carries
//! out the [`Effect`]s in order. Nothing else decides what happens to the worker.

mod effect;
mod finishing;
mod input;
mod messages;
mod turns;

use std::collections::BTreeMap;

use crate::model::Time;
use crate::model::event::Event;
use crate::model::worker::{Evidence, EvidenceSource, Outcome, Status};

pub(super) use effect::Effect;
pub(super) use finishing::RETURNS;
pub(super) use input::{FinishReport, Input};
use messages::Messages;

/// What the agent is told when a person lets it go on after a turn that failed.
const AFTER_FAILURE: &str = "Your last turn was ended by an error outside of your reach. Go on from where you were.";

/// How the agent's process relates to its turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// The process stays and takes messages: interactive Claude.
    Conversation,
    /// The process ends with its turn and its conversation can be resumed: print-mode Claude.
    Resumable,
    /// The process ends with its turn and starts afresh: any other program.
    OneShot,
}

/// Where the attempt is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// The agent works, waits or idles under the lease.
    Running,
    /// The turn ended while a pause holds; finishing waits.
    Held,
    /// Leftovers and checks are under way.
    Finishing,
    /// Finishing needs a person first; `resume` tries again.
    Blocked,
    /// The attempt is complete; the agent idles in its session.
    Finished(Outcome),
    /// The agent is being ended.
    Stopping(Outcome),
    /// Nothing more happens.
    Ended,
}

/// The life of one worker under one supervisor.
#[derive(Debug)]
pub(super) struct Machine {
    /// How process and turns relate.
    mode: Mode,
    /// Where the attempt is.
    stage: Stage,
    /// The verdict.
    status: Status,
    /// Why.
    reason: String,
    /// Since when.
    since: Time,
    /// What the verdict rests on.
    evidence: BTreeMap<EvidenceSource, Evidence>,
    /// A pause was asked for.
    hold: bool,
    /// The processes are stopped.
    frozen: bool,
    /// Messages on their way.
    messages: Messages,
    /// Evidence given back in this attempt.
    returns: u32,
    /// Whether the agent's process runs.
    agent_runs: bool,
    /// Whether a turn is under way.
    in_turn: bool,
    /// A dialog is open: whatever is typed now would answer it.
    has_dialog: bool,
    /// The last turn ended with an error, and none has begun since.
    turn_failed: bool,
    /// Leftovers and checks are under way, whatever the stage is meanwhile.
    finish_runs: bool,
    /// A turn began after they did, so what they find says nothing.
    finish_is_stale: bool,
}

impl Machine {
    /// A worker whose agent is about to be started.
    pub(super) fn new(mode: Mode, now: Time) -> Self {
        Self {
            mode,
            stage: Stage::Running,
            status: Status::Starting,
            reason: "starting the agent".to_owned(),
            since: now,
            evidence: BTreeMap::new(),
            hold: false,
            frozen: false,
            messages: Messages::default(),
            returns: 0,
            agent_runs: false,
            in_turn: true,
            has_dialog: false,
            turn_failed: false,
            finish_runs: false,
            finish_is_stale: false,
        }
    }

    /// The verdict: status, reason, since when.
    pub(super) fn verdict(&self) -> (Status, &str, Time) {
        (self.status, &self.reason, self.since)
    }

    /// What the verdict rests on, strongest source first.
    pub(super) fn evidence(&self) -> Vec<Evidence> {
        self.evidence.values().cloned().collect()
    }

    /// Notes what a source says without judging it.
    pub(super) fn note(&mut self, source: EvidenceSource, says: impl Into<String>, now: Time) {
        self.evidence.insert(source, Evidence { source, says: says.into(), at: now });
    }

    /// Whether an attempt is under way, for lease and time limit.
    pub(super) fn is_attempting(&self) -> bool {
        matches!(self.stage, Stage::Running | Stage::Held | Stage::Finishing | Stage::Blocked)
    }

    /// Whether the agent is being ended.
    pub(super) fn is_stopping(&self) -> bool {
        matches!(self.stage, Stage::Stopping(_))
    }

    /// Whether a person holds the agent's processes stopped; otherwise a stopped agent is continued.
    pub(super) fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// How often evidence was given back in this attempt.
    pub(super) fn returns(&self) -> u32 {
        self.returns
    }

    /// Whether nothing can reach the agent any more; whoever asks has to wait for the end.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self.stage, Stage::Stopping(_) | Stage::Ended)
    }

    /// Takes one input and says what follows from it.
    pub(super) fn handle(&mut self, input: Input, now: Time) -> Vec<Effect> {
        if self.stage == Stage::Ended {
            return Vec::new();
        }
        match input {
            Input::Started { pid } => self.started(pid, now),
            Input::Agent(event) => self.agent_event(event, now),
            Input::Exited(ending) => self.exited(ending, now),
            Input::AgentGone => self.agent_gone(now),
            Input::Finish(report) => self.finish(report, now),
            Input::Send { text, returned_at } => self.send(text, returned_at, now),
            Input::NotSubmitted { text } => {
                self.messages.put_back(text);
                Vec::new()
            }
            Input::Pause { now: at_once } => self.pause(at_once, now),
            Input::Resume => self.resume(now),
            Input::Stop { reason } => self.stop(Outcome::Stopped { reason }, now),
            Input::Typed { submitted } => {
                // What is typed into a dialog answers it.
                self.messages.draft = !submitted && !self.has_dialog;
                self.note(EvidenceSource::Terminal, "a person typed", now);
                Vec::new()
            }
            Input::Screen(finding) => self.screen(finding, now),
            Input::Tick => self.tick(now),
            Input::LeaseLost => {
                let reason = "its lease went to somebody else".to_owned();
                self.stop(Outcome::Stopped { reason }, now)
            }
        }
    }

    /// Sets the verdict; the time stays when nothing changed.
    fn say(&mut self, status: Status, reason: impl Into<String>, now: Time) {
        let reason = reason.into();
        if self.status != status {
            self.since = now;
        }
        (self.status, self.reason) = (status, reason);
    }

    fn pause(&mut self, at_once: bool, now: Time) -> Vec<Effect> {
        self.hold = true;
        if at_once && self.agent_runs {
            self.frozen = true;
            self.say(Status::Paused, "its processes are stopped", now);
            return vec![Effect::Freeze];
        }
        if !self.in_turn && self.stage == Stage::Running {
            self.say(Status::Paused, "held at the turn boundary", now);
        }
        Vec::new()
    }

    fn resume(&mut self, now: Time) -> Vec<Effect> {
        self.hold = false;
        let mut effects = Vec::new();
        if std::mem::take(&mut self.frozen) {
            effects.push(Effect::Thaw);
            self.say(Status::Working, "continued", now);
        }
        match self.stage {
            Stage::Held | Stage::Blocked => effects.extend(match self.messages.take_waiting() {
                Some(text) => self.hand_back(text, now),
                None => self.begin_finish(now),
            }),
            Stage::Running if !self.in_turn => match self.messages.take_waiting() {
                Some(text) => effects.extend(self.submit(text, now)),
                None if self.turn_failed => effects.extend(self.submit(AFTER_FAILURE.to_owned(), now)),
                None => self.say(Status::Idle, "the turn ended unfinished", now),
            },
            _ => {}
        }
        effects
    }

    /// Ends the agent; a finished attempt keeps its outcome.
    fn stop(&mut self, outcome: Outcome, now: Time) -> Vec<Effect> {
        let outcome = match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Finished(finished) => finished,
            Stage::Stopping(first) => first,
            _ => outcome,
        };
        self.stage = Stage::Stopping(outcome);
        self.say(self.status, "ending the agent", now);
        vec![Effect::EndAgent]
    }

    /// Nothing runs any more: write the outcome and leave.
    fn end(&mut self, outcome: Outcome, now: Time) -> Vec<Effect> {
        let (status, reason) = outcome.verdict();
        self.stage = Stage::Ended;
        self.say(status, reason, now);
        let mut effects = vec![Effect::CloseTools];
        if let Some(text) = self.messages.take_waiting() {
            effects.push(Effect::Log(Event::Warning { text: format!("a message was not delivered: {text}") }));
        }
        effects.extend([Effect::Conclude(outcome), Effect::Exit]);
        effects
    }

    fn screen(&mut self, finding: Option<(Status, String)>, now: Time) -> Vec<Effect> {
        let from_screen = self.evidence.get(&EvidenceSource::Terminal).is_some_and(|e| e.says.starts_with("shows"));
        match finding {
            Some((Status::Waiting, what)) if self.stage == Stage::Running && !self.hold => {
                self.note(EvidenceSource::Terminal, format!("shows {what}"), now);
                self.has_dialog = true;
                self.say(Status::Waiting, what, now);
            }
            Some((_, what)) => self.note(EvidenceSource::Terminal, format!("shows {what}"), now),
            None if from_screen => {
                self.note(EvidenceSource::Terminal, "shows nothing special", now);
                self.has_dialog = false;
                if self.status == Status::Waiting && self.stage == Stage::Running {
                    self.say(Status::Working, "what it waited for is gone from the screen", now);
                }
            }
            None => {}
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
