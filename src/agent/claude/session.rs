//! What is known about one conversation: its turn, its open calls, whom it waits for.
//!
//! Hooks, stream and status file all end up here. Each fact is told once; what a lost hook left open is closed by
//! the next fact that proves it over.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::display;
use super::status_file::{Doing, StatusFile};
use super::transcript::parent_call;
use crate::agent::event::{AgentEvent, Denial, ToolEnd, ToolStart};
use crate::model::Time;
use crate::model::tool_call::ToolOutcome;

/// The status file is believed against the hooks only when it has stood for this long: a hook may still be on its
/// way when the file already says so.
const STATUS_SETTLES: Duration = Duration::from_secs(1);
/// An end of turn that is held back for queued messages is told after this long even when nothing confirms it.
const HELD_END_LIMIT: Duration = Duration::from_secs(10);
/// How a message begins that the program writes to itself when a background task ended.
const NOTIFICATION_MARK: &str = "<task-notification>";

/// One conversation.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Whether nobody answers questions and the end of the process is what counts.
    is_print: bool,
    /// The conversation's id; empty before it is known.
    id: String,
    /// Whether the id was told.
    is_told: bool,
    /// Where the program keeps it.
    transcript: Option<PathBuf>,
    /// What it is doing.
    turn: Turn,
    /// The last thing that was fed about the turn.
    changed_at: Option<Time>,
    /// Started, not ended.
    open: BTreeMap<String, OpenCall>,
    /// Ended.
    ended: BTreeSet<String>,
    /// What it waits for besides open calls.
    notice: bool,
    /// Whether the last thing told about waiting was that it does.
    is_waiting_told: bool,
    /// Sub-agents that started and did not stop, with the call that must have started them, where only one can have.
    sub_agents: BTreeMap<String, Option<String>>,
    /// Which call started which sub-agent, as far as that was told.
    parents: BTreeMap<String, String>,
    /// Background tasks that were seen to run and whose end was not reported to the model.
    tasks: BTreeSet<String>,
    /// Refused calls.
    denied: Vec<Denial>,
    /// Why the last turn failed, where it did.
    failure: Option<String>,
    /// Messages that were queued during the turn and not seen to be delivered.
    queued_count: usize,
    /// Whether the input line may hold a text: one that was typed and not taken, or the message of a turn that was
    /// broken off, which the program puts back there.
    has_input: Cell<bool>,
    /// An end of turn that is not told yet, because queued messages may begin the next one.
    held_end: Option<HeldEnd>,
}

/// An end of turn that is not told yet.
#[derive(Debug, Clone)]
struct HeldEnd {
    /// When the turn ended.
    at: Time,
    /// The last thing that was said.
    last_message: Option<String>,
}

/// What a conversation is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Turn {
    /// No turn has begun.
    #[default]
    Never,
    /// A turn is under way.
    Running,
    /// The last turn ended, and whether nothing is left to wait for.
    Ended {
        /// As [`AgentEvent::TurnEnded`] has it.
        finished: bool,
    },
}

/// A call under way.
#[derive(Debug, Clone)]
struct OpenCall {
    /// The tool.
    tool: String,
    /// What it was given.
    input: Value,
    /// The sub-agent that made it.
    agent_id: Option<String>,
    /// Whether a sub-agent made it, known or not.
    is_nested: bool,
    /// Whether a person was asked and has not been seen to consent.
    is_asked: bool,
}

impl Session {
    /// A conversation that a launch is about to start or go on with.
    pub(super) fn new(is_print: bool, id: String) -> Self {
        Self { is_print, id, ..Self::default() }
    }

    /// What it is doing.
    pub(super) fn turn(&self) -> Turn {
        self.turn
    }

    /// Why the last turn failed, where it did.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Refused calls so far.
    pub(super) fn denied(&self) -> &[Denial] {
        &self.denied
    }

    /// The conversation has this id. Another id than before means another conversation: what the old one had open
    /// is over.
    pub(super) fn identify(&mut self, id: &str, transcript: Option<PathBuf>, at: Time, events: &mut Vec<AgentEvent>) {
        if id.is_empty() {
            return;
        }
        if transcript.is_some() {
            self.transcript.clone_from(&transcript);
        }
        if self.is_told && self.id == id {
            return;
        }
        if self.id != id {
            self.close_calls(ToolOutcome::Interrupted, at, events, |_| true);
            self.ended.clear();
            self.tasks.clear();
            id.clone_into(&mut self.id);
        }
        self.is_told = true;
        events.push(AgentEvent::SessionStarted { id: id.to_owned(), transcript });
    }

    /// Whether a person is waited for, as far as was told.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting_told
    }

    /// Whether the program has shown itself.
    pub(super) fn is_ready(&self) -> bool {
        self.is_told
    }

    /// A message was taken. During a turn that means it was queued, and the turn's calls go on; otherwise a turn
    /// begins, and what an earlier one left open is over. A question has the keyboard: a message after it means that
    /// it was answered with no, or broken off.
    pub(super) fn take_message(&mut self, prompt: &str, at: Time, events: &mut Vec<AgentEvent>) {
        if !is_notification(prompt) {
            self.has_input.set(false);
        }
        for task in reported_tasks(prompt) {
            self.tasks.remove(task);
        }
        if self.turn == Turn::Running && self.held_end.is_none() && !self.is_waiting_told {
            self.queued_count += 1;
        } else {
            self.held_end = None;
            self.close_idle_calls(ToolOutcome::Interrupted, at, events);
            self.settle_waiting(false, events);
        }
        self.begin_turn(prompt, at, events);
    }

    /// Writes down and tells that a turn is under way.
    fn begin_turn(&mut self, prompt: &str, at: Time, events: &mut Vec<AgentEvent>) {
        self.failure = None;
        self.turn = Turn::Running;
        self.changed_at = Some(at);
        let is_message = !prompt.is_empty() && !is_notification(prompt);
        events.push(AgentEvent::TurnStarted { prompt: prompt.to_owned(), is_message });
    }

    /// A turn is under way, whether or not its beginning was told.
    pub(super) fn note_running(&mut self, at: Time, events: &mut Vec<AgentEvent>) {
        self.held_end = None;
        self.changed_at = Some(at);
        if self.turn != Turn::Running {
            self.begin_turn("", at, events);
        }
    }

    /// The turn ended by itself; `running` things will wake it again. When messages were queued meanwhile, or a
    /// background task ended and the model does not know it yet, the next turn begins at once and without a word, so
    /// the end is told only when the program is seen to listen.
    pub(super) fn end_turn(
        &mut self,
        running: Running,
        last_message: Option<&str>,
        at: Time,
        events: &mut Vec<AgentEvent>,
    ) {
        let background = running.count;
        let is_unreported = self.tasks.iter().any(|task| !running.tasks.contains(task));
        self.tasks.extend(running.tasks);
        if background == 0 && !self.is_print {
            self.sub_agents.clear();
        }
        // An interrupt ends no turn like this, and a tool that ran has told its end: these were refused by a rule.
        self.close_idle_calls(ToolOutcome::Denied, at, events);
        self.settle_waiting(false, events);
        if self.is_print && self.turn != Turn::Running {
            return;
        }
        let last_message = last_message.map(ToOwned::to_owned);
        let is_queued = std::mem::take(&mut self.queued_count) > 0;
        if (is_queued || is_unreported) && background == 0 && !self.is_print {
            self.changed_at = Some(at);
            self.held_end = Some(HeldEnd { at, last_message });
            return;
        }
        self.stop_turn(background == 0 && !self.is_print, background, last_message, at, events);
    }

    /// The turn ended with an error.
    pub(super) fn fail_turn(&mut self, reason: &str, at: Time, events: &mut Vec<AgentEvent>) {
        self.close_idle_calls(ToolOutcome::Interrupted, at, events);
        self.settle_waiting(false, events);
        self.failure = Some(reason.to_owned());
        events.push(AgentEvent::Failed { reason: reason.to_owned() });
        self.queued_count = 0;
        self.stop_turn(false, 0, None, at, events);
    }

    /// The turn was broken off, and with it the sub-agents that it waited for: nothing says so but that the program
    /// listens again.
    fn break_turn(&mut self, at: Time, events: &mut Vec<AgentEvent>) {
        self.has_input.set(true);
        let tasks = self.tasks.clone();
        self.sub_agents.retain(|agent, _| tasks.contains(agent));
        self.close_idle_calls(ToolOutcome::Interrupted, at, events);
        self.settle_waiting(false, events);
        self.queued_count = 0;
        self.stop_turn(false, 0, None, at, events);
    }

    /// Writes down that no turn is under way.
    fn stop_turn(
        &mut self,
        finished: bool,
        background: usize,
        last_message: Option<String>,
        at: Time,
        events: &mut Vec<AgentEvent>,
    ) {
        self.turn = Turn::Ended { finished };
        self.changed_at = Some(at);
        self.held_end = None;
        events.push(AgentEvent::TurnEnded { finished, background, last_message });
    }

    /// A call began; told once.
    pub(super) fn start_call(&mut self, start: ToolStart, events: &mut Vec<AgentEvent>) {
        if self.ended.contains(&start.call_id) || self.open.contains_key(&start.call_id) {
            return;
        }
        let is_nested = start.agent_id.is_some() || start.parent_call_id.is_some();
        if !is_nested {
            self.note_running(start.at, events);
        }
        let mut start = start;
        match (&start.agent_id, &start.parent_call_id) {
            (Some(agent), None) => start.parent_call_id = self.parent_of(agent),
            (None, Some(parent)) => start.agent_id = self.agent_of(parent),
            _ => {}
        }
        let call = OpenCall {
            tool: start.tool.clone(),
            input: start.input.clone(),
            agent_id: start.agent_id.clone(),
            is_nested,
            is_asked: false,
        };
        self.open.insert(start.call_id.clone(), call);
        events.push(AgentEvent::ToolStarted(start));
    }

    /// A call ended; told once. One whose start was never told needs [`ToolEnd::start`] to be told at all.
    pub(super) fn end_call(&mut self, end: ToolEnd, by_ask_rule: bool, events: &mut Vec<AgentEvent>) {
        if self.ended.contains(&end.call_id) {
            return;
        }
        if let (false, Some(start)) = (self.open.contains_key(&end.call_id), &end.start) {
            self.start_call((**start).clone(), events);
        }
        let Some(call) = self.open.remove(&end.call_id) else { return };
        if !call.is_nested {
            self.changed_at = Some(end.at);
            // Queued messages go to the model with the result of a tool.
            self.queued_count = 0;
        }
        if end.outcome == ToolOutcome::Denied {
            let what = display::subject(&call.input);
            self.denied.push(Denial { tool: call.tool, what, by_ask_rule });
        }
        self.ended.insert(end.call_id.clone());
        events.push(AgentEvent::ToolEnded(end));
        self.settle_waiting(false, events);
    }

    /// The tool of an open call.
    pub(super) fn tool_of(&self, call_id: &str) -> Option<&str> {
        self.open.get(call_id).map(|call| call.tool.as_str())
    }

    /// Ends the open calls that `which` picks, by its sub-agent. One for which a person was asked and did not
    /// consent was refused, not interrupted.
    pub(super) fn close_calls(
        &mut self,
        outcome: ToolOutcome,
        at: Time,
        events: &mut Vec<AgentEvent>,
        which: impl Fn(&CallOwner) -> bool,
    ) {
        let owner = |call: &OpenCall| CallOwner { agent_id: call.agent_id.clone(), is_nested: call.is_nested };
        let picked = |call: &OpenCall| which(&owner(call));
        let ids: Vec<(String, bool)> =
            self.open.iter().filter(|(_, call)| picked(call)).map(|(id, call)| (id.clone(), call.is_asked)).collect();
        for (call_id, is_asked) in ids {
            let outcome = if is_asked { ToolOutcome::Denied } else { outcome };
            self.end_call(ToolEnd::bare(call_id, outcome, at), false, events);
        }
    }

    /// Ends the open calls that nobody is working on any more at a turn's border: those of the conversation itself
    /// and of sub-agents that are known not to run.
    fn close_idle_calls(&mut self, outcome: ToolOutcome, at: Time, events: &mut Vec<AgentEvent>) {
        let running: BTreeSet<String> = self.sub_agents.keys().cloned().collect();
        self.close_calls(outcome, at, events, |call| {
            call.agent_id.as_ref().map_or(!call.is_nested, |agent| !running.contains(agent))
        });
    }

    /// The call that started a sub-agent: as it was told, else as the program notes it, else the only one it can be.
    fn parent_of(&mut self, agent: &str) -> Option<String> {
        if let Some(parent) = self.parents.get(agent) {
            return Some(parent.clone());
        }
        match self.transcript.as_deref().and_then(|transcript| parent_call(transcript, agent)) {
            Some(parent) => {
                self.name_parent(agent, &parent);
                Some(parent)
            }
            None => self.sub_agents.get(agent).cloned().flatten(),
        }
    }

    /// The sub-agent that a call started.
    fn agent_of(&mut self, call_id: &str) -> Option<String> {
        let known = self.parents.iter().find(|(_, parent)| *parent == call_id);
        if let Some((agent, _)) = known {
            return Some(agent.clone());
        }
        let running: Vec<String> = self.sub_agents.keys().cloned().collect();
        running.into_iter().find(|agent| self.parent_of(agent).as_deref() == Some(call_id))
    }

    /// A sub-agent started. Which call started it is known when only one can have.
    pub(super) fn start_sub_agent(&mut self, id: &str) {
        let taken: BTreeSet<&String> = self.sub_agents.values().flatten().collect();
        let mut parents = self
            .open
            .iter()
            .filter(|(call_id, call)| matches!(call.tool.as_str(), "Agent" | "Task") && !taken.contains(call_id));
        let parent = match (parents.next(), parents.next()) {
            (Some((call_id, _)), None) => Some(call_id.clone()),
            _ => None,
        };
        self.sub_agents.insert(id.to_owned(), parent);
    }

    /// A call says which sub-agent it started.
    pub(super) fn name_parent(&mut self, agent: &str, call_id: &str) {
        self.parents.insert(agent.to_owned(), call_id.to_owned());
    }

    /// A task was started that runs on when the turn ends.
    pub(super) fn start_task(&mut self, id: &str) {
        self.tasks.insert(id.to_owned());
    }

    /// A sub-agent stopped: by itself, which tells of calls as the end of a turn does, or not.
    pub(super) fn stop_sub_agent(&mut self, id: &str, by_itself: bool, at: Time, events: &mut Vec<AgentEvent>) {
        self.sub_agents.remove(id);
        let outcome = if by_itself { ToolOutcome::Denied } else { ToolOutcome::Interrupted };
        self.close_calls(outcome, at, events, |call| call.agent_id.as_deref() == Some(id));
    }

    /// How many sub-agents are known to run.
    pub(super) fn sub_agent_count(&self) -> usize {
        self.sub_agents.len()
    }

    /// A message is about to be typed; whether the input line is empty.
    pub(super) fn begin_typing(&self) -> bool {
        !self.has_input.replace(true)
    }

    /// A person is asked about the open call that `tool` and `input` describe, or about something else.
    pub(super) fn ask(&mut self, ask: &Ask<'_>, at: Time, events: &mut Vec<AgentEvent>) {
        if self.is_print {
            return;
        }
        if ask.agent_id.is_none() {
            self.note_running(at, events);
        }
        self.changed_at = Some(at);
        let same = |call: &&mut OpenCall| {
            call.tool == ask.tool && call.agent_id.as_deref() == ask.agent_id && call.input == *ask.input
        };
        match self.open.values_mut().find(same) {
            Some(call) if call.is_asked && self.is_waiting_told => return,
            Some(call) => call.is_asked = true,
            None => self.notice = true,
        }
        self.is_waiting_told = true;
        events.push(AgentEvent::Waiting { what: ask.what.clone() });
    }

    /// The program says that it needs a person, not about what; nothing new when it waits already.
    pub(super) fn notice(&mut self, what: &str, at: Time, events: &mut Vec<AgentEvent>) {
        if !self.is_print && !self.is_waiting_told {
            self.note_running(at, events);
            self.notice = true;
            self.is_waiting_told = true;
            events.push(AgentEvent::Waiting { what: what.to_owned() });
        }
    }

    /// The program has listened for a while, so no turn is under way.
    pub(super) fn note_idle(&mut self, at: Time, events: &mut Vec<AgentEvent>) {
        if self.held_end.is_some() {
            self.tell_held_end(at, events);
        } else if self.turn == Turn::Running {
            self.break_turn(at, events);
        }
    }

    /// Tells the end of waiting when nothing is waited for any more.
    fn settle_waiting(&mut self, notice: bool, events: &mut Vec<AgentEvent>) {
        self.notice = notice;
        let is_waiting = notice || self.open.values().any(|call| call.is_asked);
        if self.is_waiting_told && !is_waiting {
            self.is_waiting_told = false;
            events.push(AgentEvent::WaitingOver);
        }
    }

    /// Compares with the program's status file, which also knows what no hook tells: consent, refusal, interrupt.
    pub(super) fn compare(&mut self, status: Option<&StatusFile>, now: Time, events: &mut Vec<AgentEvent>) {
        let is_newer = |status: &StatusFile| self.changed_at.is_none_or(|changed| status.at > changed);
        let settled = status.filter(|status| is_newer(status) && status.at.age_at(now) >= STATUS_SETTLES);
        match (status.map(|status| &status.doing), settled) {
            (Some(Doing::Busy), _) if self.is_waiting_told && status.is_some_and(is_newer) => {
                self.open.values_mut().for_each(|call| call.is_asked = false);
                self.settle_waiting(false, events);
                self.changed_at = status.map(|status| status.at);
            }
            (Some(Doing::Waiting(what)), Some(status)) => self.notice(what, status.at, events),
            (Some(Doing::Idle), Some(_)) if self.held_end.is_some() => self.tell_held_end(now, events),
            (Some(Doing::Idle), Some(_)) if self.turn == Turn::Running => self.break_turn(now, events),
            _ if self.held_end.as_ref().is_some_and(|held| held.at.age_at(now) >= HELD_END_LIMIT) => {
                self.tell_held_end(now, events);
            }
            _ => {}
        }
    }

    /// Tells an end of turn that was held back.
    fn tell_held_end(&mut self, now: Time, events: &mut Vec<AgentEvent>) {
        if let Some(held) = self.held_end.take() {
            self.tasks.clear();
            self.stop_turn(true, 0, held.last_message, now, events);
        }
    }
}

/// What runs on when a turn ends.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// How many tasks and timers will wake the conversation.
    pub(super) count: usize,
    /// The tasks among them that have a name.
    pub(super) tasks: BTreeSet<String>,
}

/// Whether the program wrote a message to itself.
fn is_notification(prompt: &str) -> bool {
    prompt.trim_start().starts_with(NOTIFICATION_MARK)
}

/// The tasks whose end a message reports.
fn reported_tasks(prompt: &str) -> impl Iterator<Item = &str> {
    let told = if is_notification(prompt) { prompt } else { "" };
    told.split("<task-id>").skip(1).filter_map(|rest| rest.split("</task-id>").next())
}

/// Whose a call is.
pub(super) struct CallOwner {
    /// The sub-agent, where it is known.
    pub(super) agent_id: Option<String>,
    /// Whether a sub-agent made it.
    pub(super) is_nested: bool,
}

/// A question to a person about a call.
pub(super) struct Ask<'a> {
    /// The tool.
    pub(super) tool: &'a str,
    /// What it is given.
    pub(super) input: &'a Value,
    /// The sub-agent.
    pub(super) agent_id: Option<&'a str>,
    /// The question as a clause.
    pub(super) what: String,
}
