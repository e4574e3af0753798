//! What a worker's life is made of: a plain state machine from inputs to effects, without clock, disk or terminal.
//!
//! The loop in `run` turns everything that happens into an [`Input`], hands it to [`Machine::handle`], and carries
//! out the [`Effect`]s in order. Nothing else decides what happens to the worker.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::agent::{AgentEvent, Denial, Ending};
use crate::model::event::Event;
use crate::model::worker::{Evidence, EvidenceSource, Outcome, Status};
use crate::model::{CommitId, Time};

/// How often an agent gets evidence of a failing check or commit hook back before the attempt fails.
pub(super) const RETURNS: u32 = 2;
/// How long a typed message may stay unconfirmed before it is typed again, or given up.
const CONFIRM_WITHIN: Duration = Duration::from_secs(10);
/// How often a message is typed before a person is asked to look.
const SUBMITS: u32 = 2;
/// Letters and digits by which a message is known again.
const TELLING: usize = 200;
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

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Input {
    /// The agent's process runs.
    Started {
        /// Its pid.
        pid: u32,
    },
    /// A hook or stream event of the agent.
    Agent(AgentEvent),
    /// The agent's process ended, and everything it had started is gone.
    Exited(Ending),
    /// There was no agent to end any more.
    AgentGone,
    /// Leftovers and checks are through.
    Finish(FinishReport),
    /// A message for the agent.
    Send {
        /// The text.
        text: String,
        /// See [`super::protocol::Request::Send`].
        returned_at: Option<CommitId>,
    },
    /// Hold.
    Pause {
        /// At once.
        now: bool,
    },
    /// Go on.
    Resume,
    /// End the agent and keep the work.
    Stop {
        /// Why, as a clause.
        reason: String,
    },
    /// The agent takes no message now: it is not ready, or asks something.
    NotSubmitted {
        /// The message.
        text: String,
    },
    /// A person typed in the agent's terminal.
    Typed {
        /// Whether the last byte submits the line.
        submitted: bool,
    },
    /// A screen rule matches, or none does any more.
    Screen(Option<(Status, String)>),
    /// Time passed.
    Tick,
    /// The lease is lost and somebody else has it.
    LeaseLost,
}

/// What finishing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FinishReport {
    /// There is work to judge at this commit; checks passed.
    Work(CommitId),
    /// Nothing changed since the base.
    NoChanges,
    /// Work was returned and nothing new was committed.
    NothingNew,
    /// A commit hook refused the leftovers; the text is the prompt that says so.
    HookRefused(String),
    /// Checks failed; the text is the prompt that says so.
    ChecksFailed(String),
    /// A person has to look first.
    NeedsPerson(String),
}

/// What the loop has to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Effect {
    /// Type a message into the agent's terminal.
    Submit(String),
    /// Start the agent again with this prompt: in its conversation, or afresh.
    Relaunch(String),
    /// Run leftovers and checks.
    BeginFinish,
    /// Take the ticket back under a lease.
    Reopen,
    /// End the attempt in the queue and in the worker's facts.
    Conclude(Outcome),
    /// End the agent's processes.
    EndAgent,
    /// Stop the agent's processes where they are.
    Freeze,
    /// Let them run again.
    Thaw,
    /// Close as lost what no end of a tool call will come for.
    CloseTools,
    /// Save the worktree.
    Snapshot,
    /// Remember that finishing needs a commit beyond this one.
    ExpectBeyond(CommitId),
    /// Write an event.
    Log(Event),
    /// Leave the loop.
    Exit,
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
    /// Messages for the next turn boundary.
    pending: Vec<String>,
    /// A person began typing and has not submitted.
    draft: bool,
    /// A message on its way.
    unconfirmed: Option<Typed>,
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
            pending: Vec::new(),
            draft: false,
            unconfirmed: None,
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

    /// Whether a typed message is still to be confirmed.
    pub(super) fn is_confirming(&self) -> bool {
        self.unconfirmed.is_some()
    }

    /// How often evidence was given back in this attempt.
    pub(super) fn returns(&self) -> u32 {
        self.returns
    }

    /// Whether nothing can reach the agent any more; whoever asks has to wait for the end.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self.stage, Stage::Stopping(_) | Stage::Ended)
    }

    /// How a message given now would travel: `None` when it is typed at once or starts the agent, else what it waits
    /// for.
    pub(super) fn send_waits_for(&self) -> Option<&'static str> {
        if self.hold {
            Some("the pause to end")
        } else if self.has_dialog {
            Some("a person to answer what it asks")
        } else if self.stage == Stage::Finishing {
            Some("leftovers and checks to be done")
        } else if !self.agent_runs && self.stage == Stage::Blocked {
            None
        } else if self.mode != Mode::Conversation {
            Some("the running turn to end")
        } else if self.in_turn || self.unconfirmed.is_some() {
            Some("the turn to end")
        } else if self.draft {
            Some("the draft in the terminal to be submitted")
        } else {
            None
        }
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
                self.unconfirmed = None;
                self.pending.insert(0, text);
                Vec::new()
            }
            Input::Pause { now: at_once } => self.pause(at_once, now),
            Input::Resume => self.resume(now),
            Input::Stop { reason } => self.stop(Outcome::Stopped { reason }, now),
            Input::Typed { submitted } => {
                // What is typed into a dialog answers it.
                self.draft = !submitted && !self.has_dialog;
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

    fn started(&mut self, pid: u32, now: Time) -> Vec<Effect> {
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

    fn agent_event(&mut self, event: AgentEvent, now: Time) -> Vec<Effect> {
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

    fn turn_started(&mut self, prompt: &str, is_message: bool, now: Time) -> Vec<Effect> {
        self.note(EvidenceSource::Hook, if is_message { "took a message" } else { "began a turn" }, now);
        self.in_turn = true;
        self.draft &= !is_message;
        self.has_dialog = false;
        self.turn_failed = false;
        let mut effects = Vec::new();
        if let Some(typed) = self.unconfirmed.take_if(|typed| is_message && is_same_message(prompt, &typed.text)) {
            effects.push(Effect::Log(Event::MessageSent { bytes: typed.text.len() }));
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

    fn turn_ended(&mut self, finished: bool, background: usize, now: Time) -> Vec<Effect> {
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
        } else if let Some(text) = self.take_pending() {
            effects.extend(self.submit(text, now));
        } else if finished {
            effects.extend(self.begin_finish(now));
        } else if !self.turn_failed {
            self.say(Status::Idle, "the turn ended unfinished", now);
        }
        effects
    }

    fn turn_failed(&mut self, reason: &str, now: Time) -> Vec<Effect> {
        self.note(EvidenceSource::Hook, format!("its turn failed: {reason}"), now);
        self.in_turn = false;
        self.turn_failed = true;
        if self.stage == Stage::Running && self.mode == Mode::Conversation {
            self.say(Status::Waiting, format!("its turn failed: {reason}"), now);
        }
        vec![Effect::Snapshot]
    }

    fn exited(&mut self, ending: Ending, now: Time) -> Vec<Effect> {
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
            (_, Ending::Finished { denied }) => match (self.take_pending(), left_to_a_person(&denied)) {
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

    fn agent_gone(&mut self, now: Time) -> Vec<Effect> {
        self.agent_runs = false;
        match self.stage.clone() {
            Stage::Stopping(outcome) => self.end(outcome, now),
            _ => Vec::new(),
        }
    }

    fn begin_finish(&mut self, now: Time) -> Vec<Effect> {
        self.stage = Stage::Finishing;
        self.say(Status::Working, "finishing: leftovers and checks", now);
        // One at a time: a stale one that still runs is followed by another when it is through.
        if std::mem::replace(&mut self.finish_runs, true) { Vec::new() } else { vec![Effect::BeginFinish] }
    }

    fn finish(&mut self, report: FinishReport, now: Time) -> Vec<Effect> {
        self.finish_runs = false;
        let is_stale = std::mem::take(&mut self.finish_is_stale);
        if self.stage != Stage::Finishing {
            return Vec::new();
        }
        if is_stale {
            return self.begin_finish(now);
        }
        let failed = |reason: String| Outcome::Failed { reason, exit_code: None };
        match report {
            FinishReport::Work(commit) => self.finished(Outcome::Finished { commit }, now),
            FinishReport::NoChanges => self.finished(Outcome::NoChanges, now),
            FinishReport::NothingNew => {
                self.stop(failed("the returned work came back without a new commit".to_owned()), now)
            }
            FinishReport::HookRefused(prompt) => self.give_back(prompt, "a commit hook refused its changes", now),
            FinishReport::ChecksFailed(prompt) => self.give_back(prompt, "its checks fail", now),
            FinishReport::NeedsPerson(why) => {
                self.stage = Stage::Blocked;
                self.say(Status::Waiting, why, now);
                Vec::new()
            }
        }
    }

    /// Returns evidence to the agent, or fails the attempt when that was done often enough or cannot help.
    fn give_back(&mut self, prompt: String, why: &str, now: Time) -> Vec<Effect> {
        if self.returns >= RETURNS || self.mode == Mode::OneShot {
            return self.stop(Outcome::Failed { reason: why.to_owned(), exit_code: None }, now);
        }
        self.returns += 1;
        self.hand_back(prompt, now)
    }

    /// Gives a prompt to the agent that ended its turn.
    fn hand_back(&mut self, prompt: String, now: Time) -> Vec<Effect> {
        self.stage = Stage::Running;
        if self.agent_runs && self.mode == Mode::Conversation {
            return self.submit(prompt, now);
        }
        self.in_turn = true;
        self.say(Status::Starting, "starting the agent with a new prompt", now);
        vec![Effect::Log(Event::MessageSent { bytes: prompt.len() }), Effect::Relaunch(prompt)]
    }

    /// The attempt is complete.
    fn finished(&mut self, outcome: Outcome, now: Time) -> Vec<Effect> {
        let (status, reason) = outcome.verdict();
        self.say(status, reason, now);
        if self.agent_runs {
            self.stage = Stage::Finished(outcome.clone());
            let mut effects = vec![Effect::Conclude(outcome)];
            if let Some(text) = self.take_pending() {
                effects.extend(self.submit(text, now));
            }
            return effects;
        }
        self.end(outcome, now)
    }

    fn send(&mut self, text: String, returned_at: Option<CommitId>, now: Time) -> Vec<Effect> {
        let waits = self.send_waits_for().is_some();
        let mut effects: Vec<_> = returned_at.map(Effect::ExpectBeyond).into_iter().collect();
        if !waits && !self.agent_runs && self.stage == Stage::Blocked {
            effects.extend(self.hand_back(text, now));
        } else if waits || !self.agent_runs {
            self.pending.push(text);
        } else {
            effects.extend(self.submit(text, now));
        }
        effects
    }

    /// Types a message and remembers to see it taken.
    fn submit(&mut self, text: String, now: Time) -> Vec<Effect> {
        self.unconfirmed = Some(Typed { text: text.clone(), at: now, tries: 1 });
        if self.is_attempting() {
            self.say(Status::Working, "a message was typed", now);
        }
        vec![Effect::Submit(text)]
    }

    /// The messages that wait, as one.
    fn take_pending(&mut self) -> Option<String> {
        let pending = std::mem::take(&mut self.pending);
        (!pending.is_empty()).then(|| pending.join("\n\n"))
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
            Stage::Held | Stage::Blocked => effects.extend(match self.take_pending() {
                Some(text) => self.hand_back(text, now),
                None => self.begin_finish(now),
            }),
            Stage::Running if !self.in_turn => match self.take_pending() {
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
        if let Some(text) = self.take_pending() {
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

    fn tick(&mut self, now: Time) -> Vec<Effect> {
        if let Some(typed) = &mut self.unconfirmed {
            if typed.at.age_at(now) < CONFIRM_WITHIN {
                return Vec::new();
            }
            if typed.tries < SUBMITS {
                (typed.at, typed.tries) = (now, typed.tries + 1);
                return vec![Effect::Submit(typed.text.clone())];
            }
            self.unconfirmed = None;
            self.say(Status::Waiting, "a message was typed and not taken; attach and look", now);
            return vec![Effect::Log(Event::Warning { text: "a message was typed and not taken".to_owned() })];
        }
        if self.send_waits_for().is_none()
            && self.agent_runs
            && matches!(self.stage, Stage::Running | Stage::Finished(_))
            && let Some(text) = self.take_pending()
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

#[cfg(test)]
mod tests;
