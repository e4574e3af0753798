//! What is known about one conversation: its turn, its open calls, whom it waits for.
//!
//! Hooks, stream and status file all end up here. Each fact is told once; what a lost hook left open is closed by
//! the next fact that proves it over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::display;
use super::status_file::{Doing, StatusFile};
use crate::agent::event::{AgentEvent, Denial, ToolEnd, ToolStart};
use crate::model::Time;
use crate::model::tool_call::ToolOutcome;

/// The status file is believed against the hooks only when it has stood for this long: a hook may still be on its
/// way when the file already says so.
const STATUS_SETTLES: Duration = Duration::from_secs(2);

/// One conversation.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Whether nobody answers questions and the end of the process is what counts.
    is_print: bool,
    /// The conversation's id; empty before it is known.
    id: String,
    /// Whether the id was told.
    is_told: bool,
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
    /// Sub-agents that started and did not stop, with the call that started them.
    sub_agents: BTreeMap<String, Option<String>>,
    /// Refused calls.
    denied: Vec<Denial>,
    /// Why the last turn failed, where it did.
    failure: Option<String>,
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
    /// Whether a person was asked and has not been seen to consent.
    is_asked: bool,
}

impl Session {
    /// A conversation that a launch is about to start or go on with.
    pub(super) fn new(is_print: bool, id: String) -> Self {
        Self { is_print, id, ..Self::default() }
    }

    /// Whether nobody answers questions.
    pub(super) fn is_print(&self) -> bool {
        self.is_print
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
        if id.is_empty() || (self.is_told && self.id == id) {
            return;
        }
        if self.id != id {
            self.close_calls(ToolOutcome::Interrupted, at, events, |_| true);
            self.ended.clear();
            id.clone_into(&mut self.id);
        }
        self.is_told = true;
        events.push(AgentEvent::SessionStarted { id: id.to_owned(), transcript });
    }

    /// A turn began on a message that was told.
    pub(super) fn begin_turn(&mut self, prompt: &str, at: Time, events: &mut Vec<AgentEvent>) {
        self.close_idle_calls(at, events);
        self.settle_waiting(false, events);
        self.failure = None;
        self.turn = Turn::Running;
        self.changed_at = Some(at);
        events.push(AgentEvent::TurnStarted { prompt: prompt.to_owned() });
    }

    /// A turn is under way, whether or not its beginning was told.
    pub(super) fn note_running(&mut self, at: Time, events: &mut Vec<AgentEvent>) {
        if self.turn == Turn::Running {
            self.changed_at = Some(at);
        } else {
            self.begin_turn("", at, events);
        }
    }

    /// The turn ended by itself; `background` things will wake it again.
    pub(super) fn end_turn(
        &mut self,
        background: usize,
        last_message: Option<&str>,
        at: Time,
        events: &mut Vec<AgentEvent>,
    ) {
        if background == 0 {
            self.sub_agents.clear();
        }
        self.close_idle_calls(at, events);
        self.settle_waiting(false, events);
        let finished = background == 0 && !self.is_print;
        self.stop_turn(finished, background, last_message, at, events);
    }

    /// The turn ended with an error.
    pub(super) fn fail_turn(&mut self, reason: &str, at: Time, events: &mut Vec<AgentEvent>) {
        self.close_idle_calls(at, events);
        self.settle_waiting(false, events);
        self.failure = Some(reason.to_owned());
        events.push(AgentEvent::Failed { reason: reason.to_owned() });
        self.stop_turn(false, 0, None, at, events);
    }

    /// The turn was broken off: nothing says so but that the program listens again.
    fn break_turn(&mut self, at: Time, events: &mut Vec<AgentEvent>) {
        self.close_calls(ToolOutcome::Interrupted, at, events, |call| call.agent_id.is_none());
        self.settle_waiting(false, events);
        self.stop_turn(false, 0, None, at, events);
    }

    /// Writes down that no turn is under way.
    fn stop_turn(
        &mut self,
        finished: bool,
        background: usize,
        last_message: Option<&str>,
        at: Time,
        events: &mut Vec<AgentEvent>,
    ) {
        self.turn = Turn::Ended { finished };
        self.changed_at = Some(at);
        let last_message = last_message.map(ToOwned::to_owned);
        events.push(AgentEvent::TurnEnded { finished, background, last_message });
    }

    /// A call began; told once.
    pub(super) fn start_call(&mut self, start: ToolStart, events: &mut Vec<AgentEvent>) {
        if self.ended.contains(&start.call_id) || self.open.contains_key(&start.call_id) {
            return;
        }
        self.note_running(start.at, events);
        let mut start = start;
        if start.parent_call_id.is_none()
            && let Some(agent) = &start.agent_id
        {
            start.parent_call_id = self.sub_agents.get(agent).cloned().flatten();
        }
        let call = OpenCall {
            tool: start.tool.clone(),
            input: start.input.clone(),
            agent_id: start.agent_id.clone(),
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
        self.changed_at = Some(end.at);
        if end.outcome == ToolOutcome::Denied {
            let what = display::subject(&call.tool, &call.input);
            self.denied.push(Denial { tool: call.tool, what, by_ask_rule });
        }
        self.ended.insert(end.call_id.clone());
        events.push(AgentEvent::ToolEnded(end));
        self.settle_waiting(self.notice, events);
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
        which: impl Fn(&CallOwner<'_>) -> bool,
    ) {
        let picked = |call: &OpenCall| which(&CallOwner { agent_id: call.agent_id.as_deref() });
        let ids: Vec<(String, bool)> =
            self.open.iter().filter(|(_, call)| picked(call)).map(|(id, call)| (id.clone(), call.is_asked)).collect();
        for (call_id, is_asked) in ids {
            let outcome = if is_asked { ToolOutcome::Denied } else { outcome };
            self.end_call(ToolEnd::bare(call_id, outcome, at), false, events);
        }
    }

    /// Ends the open calls that nobody is working on any more at a turn's border: those of the conversation itself
    /// and of sub-agents that are not known to run.
    fn close_idle_calls(&mut self, at: Time, events: &mut Vec<AgentEvent>) {
        let running: BTreeSet<String> = self.sub_agents.keys().cloned().collect();
        self.close_calls(ToolOutcome::Interrupted, at, events, |call| {
            call.agent_id.is_none_or(|agent| !running.contains(agent))
        });
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

    /// A sub-agent stopped.
    pub(super) fn stop_sub_agent(&mut self, id: &str, at: Time, events: &mut Vec<AgentEvent>) {
        self.sub_agents.remove(id);
        self.close_calls(ToolOutcome::Interrupted, at, events, |call| call.agent_id == Some(id));
    }

    /// How many sub-agents are known to run.
    pub(super) fn sub_agent_count(&self) -> usize {
        self.sub_agents.len()
    }

    /// A person is asked about the open call that `tool` and `input` describe, or about something else.
    pub(super) fn ask(&mut self, ask: &Ask<'_>, at: Time, events: &mut Vec<AgentEvent>) {
        if self.is_print {
            return;
        }
        self.note_running(at, events);
        let same = |call: &&mut OpenCall| {
            call.tool == ask.tool && call.agent_id.as_deref() == ask.agent_id && call.input == *ask.input
        };
        match self.open.values_mut().find(same) {
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
        if self.turn == Turn::Running {
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
    pub(super) fn compare(&mut self, status: &StatusFile, now: Time, events: &mut Vec<AgentEvent>) {
        let is_newer = self.changed_at.is_none_or(|changed| status.at > changed);
        let is_settled = status.at.age_at(now) >= STATUS_SETTLES;
        match &status.doing {
            Doing::Busy if self.is_waiting_told && is_newer => {
                self.open.values_mut().for_each(|call| call.is_asked = false);
                self.settle_waiting(false, events);
                self.changed_at = Some(status.at);
            }
            Doing::Waiting(what) if is_settled && is_newer => self.notice(what, status.at, events),
            Doing::Idle if is_settled && is_newer && self.turn == Turn::Running => self.break_turn(now, events),
            _ => {}
        }
    }
}

/// Whose a call is.
pub(super) struct CallOwner<'a> {
    /// The sub-agent, or the conversation itself.
    pub(super) agent_id: Option<&'a str>,
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

impl ToolEnd {
    /// An end about which only the outcome is known.
    pub(super) fn bare(call_id: String, outcome: ToolOutcome, at: Time) -> Self {
        Self {
            at,
            call_id,
            outcome,
            error: None,
            exit_code: None,
            duration_ms: None,
            output_bytes: 0,
            usage: None,
            start: None,
        }
    }
}
