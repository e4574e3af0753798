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

use crate::model::event::Event;
use crate::model::worker::{Evidence, EvidenceSource, Outcome, Status};
use crate::model::{Time, counted};

pub(super) use effect::Effect;
pub(super) use finishing::RETURNS;
pub(super) use input::{Finding, FinishReport, Input};
use messages::Messages;
pub(super) use messages::{Letter, Parcel};

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
    /// The budget for which a pause was asked, as a clause.
    limit: Option<String>,
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
    /// Background tasks and timers that will begin the next turn.
    background: usize,
    /// A dialog is open, as this source says: whatever is typed now would answer it.
    dialog: Option<EvidenceSource>,
    /// What the screen said last.
    on_screen: Option<Finding>,
    /// Where the events of the agent come from at present.
    source: EvidenceSource,
    /// The last turn ended with an error, and none has begun since.
    turn_failed: bool,
    /// Leftovers and checks are under way, whatever the stage is meanwhile.
    finish_runs: bool,
    /// A turn began after they did, so what they find says nothing.
    finish_is_stale: bool,
    /// How often in a row they could not be done.
    hindrances: u32,
    /// Ticks until they are tried again by themselves.
    finish_again_in: Option<u32>,
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
            limit: None,
            frozen: false,
            messages: Messages::default(),
            returns: 0,
            agent_runs: false,
            in_turn: true,
            background: 0,
            dialog: None,
            on_screen: None,
            source: EvidenceSource::Hook,
            turn_failed: false,
            finish_runs: false,
            finish_is_stale: false,
            hindrances: 0,
            finish_again_in: None,
        }
    }

    /// Whether the last turn ended with an error and none has begun since.
    pub(super) fn has_failed_turn(&self) -> bool {
        self.turn_failed
    }

    /// The budget at which the agent is held.
    pub(super) fn held_at(&self) -> Option<&str> {
        self.limit.as_deref().filter(|_| self.status == Status::Paused)
    }

    /// Whether it works, in contrast to being held, at rest, or waiting for a person.
    pub(super) fn is_working(&self) -> bool {
        self.is_attempting() && matches!(self.status, Status::Starting | Status::Working | Status::Unknown)
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

    /// Records that the agent wrote output; what its screen was found to show still holds until it is looked at again.
    pub(super) fn note_output(&mut self, now: Time) {
        let says = match &self.on_screen {
            Some(finding) => format!("wrote output; on the screen: {}", finding.what),
            None => "wrote output".to_owned(),
        };
        self.note(EvidenceSource::Terminal, says, now);
    }

    /// The events of the agent that follow come from this source.
    pub(super) fn hear(&mut self, source: EvidenceSource) {
        self.source = source;
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
            Input::Letter { text, letter } => self.take_letter(text, letter, now),
            Input::Notice { text } => {
                self.messages.put_notice(text);
                Vec::new()
            }
            Input::NotSubmitted { text } => {
                self.messages.put_back(text);
                Vec::new()
            }
            Input::Pause { now: at_once } => self.pause(at_once, now),
            Input::Hold { reason } => {
                self.limit = Some(reason);
                self.pause(false, now)
            }
            Input::Resume => self.resume(now),
            Input::Stop { reason } => self.stop(Outcome::Stopped { reason }, now),
            Input::GiveUp { reason } => self.stop(Outcome::Failed { reason, exit_code: None }, now),
            Input::Limit { reason } => self.stop(Outcome::LimitReached { reason }, now),
            Input::Typed { submitted } => {
                // What is typed into a dialog answers it.
                self.messages.draft = !submitted && self.dialog.is_none();
                self.note(EvidenceSource::Terminal, "a person typed", now);
                Vec::new()
            }
            Input::Screen(finding) => self.screen(finding, now),
            Input::Tick if self.is_time_to_finish() => self.begin_finish(now),
            Input::Tick => self.tick(now),
            // A finished attempt has no lease: that its ticket is in review, or further, is as it should be.
            Input::LeaseLost { .. } if !self.is_attempting() => Vec::new(),
            Input::LeaseLost { why } => self.stop(Outcome::Stopped { reason: why }, now),
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
            self.say(Status::Paused, self.held("at the turn boundary"), now);
        }
        Vec::new()
    }

    /// What is said of an agent that is held.
    fn held(&self, place: &str) -> String {
        self.limit.as_ref().map_or_else(|| format!("held {place}"), |limit| format!("held {place}: {limit}"))
    }

    fn resume(&mut self, now: Time) -> Vec<Effect> {
        self.hold = false;
        self.limit = None;
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
                None => self.say_at_rest(now),
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
        let pending = self.messages.pending();
        if !pending.is_empty() {
            let text = format!("not delivered, waits for the next start: {}", pending.join("\n\n"));
            effects.push(Effect::Log(Event::Warning { text }));
        }
        if let count @ 1.. = self.messages.letter_count() {
            let text = format!("not delivered, waits in its mailbox for the next start: {}", counted(count, "message"));
            effects.push(Effect::Log(Event::Warning { text }));
        }
        effects.extend([Effect::Conclude(outcome), Effect::Exit]);
        effects
    }

    /// Takes what the screen shows. It is the weakest source: it opens no question twice, closes only what it opened
    /// itself, and gives a reason only where nothing else does.
    fn screen(&mut self, finding: Option<Finding>, now: Time) -> Vec<Effect> {
        let before = std::mem::replace(&mut self.on_screen, finding.clone());
        if finding.is_some() || before.is_some() {
            let what = finding.as_ref().map_or("nothing special", |finding| &finding.what);
            self.note(EvidenceSource::Terminal, format!("on the screen: {what}"), now);
        }
        let is_running = self.stage == Stage::Running && !self.hold;
        match finding {
            Some(Finding { status: Status::Waiting, what, .. }) => {
                if is_running && self.dialog.is_none_or(|source| source == EvidenceSource::Terminal) {
                    self.dialog = Some(EvidenceSource::Terminal);
                    self.say(Status::Waiting, what, now);
                }
            }
            Some(Finding { status: Status::Working, what, is_news: true }) if is_running && self.in_turn => {
                let is_new = before.is_none_or(|before| before.what != what);
                if self.dialog.is_none() && self.status == Status::Working {
                    self.say(Status::Working, what.clone(), now);
                }
                return if is_new { vec![Effect::Log(Event::ProviderRetry { reason: what })] } else { Vec::new() };
            }
            _ => {
                if self.dialog.take_if(|source| *source == EvidenceSource::Terminal).is_some()
                    || before.is_some_and(|before| before.is_news && before.what == self.reason)
                {
                    self.say_goes_on(now);
                }
            }
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
