//! What a supervisor knows of a loop, from its reports. Each thing is passed on once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::report::{Conclusion, Report, ToolReport};
use crate::agent::command::signal_name;
use crate::agent::display::{one_line, subject};
use crate::agent::event::{AgentEvent, Denial, Ending, Exit, ExitInfo, HookCall, ToolEnd, ToolStart, Usage};
use crate::model::Time;
use crate::model::tool_call::ToolOutcome;

/// Longest reason, in characters.
const REASON_LIMIT: usize = 300;

/// What was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The loop has shown itself.
    is_ready: bool,
    /// It asks a person.
    is_waiting: bool,
    /// Where its turn is.
    turn: Turn,
    /// Why the last turn failed.
    failure: Option<String>,
    /// Tool and subject of the calls that began and did not end.
    open: BTreeMap<String, (String, String)>,
    /// Calls that ended.
    ended: BTreeSet<String>,
    /// Refused calls.
    denied: Vec<Denial>,
    /// How it says that it ends.
    conclusion: Option<Conclusion>,
}

/// Where a turn is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Turn {
    /// None has begun.
    #[default]
    Never,
    /// One is under way.
    Running,
    /// The last one ended, with its work done or without.
    Ended {
        /// Whether the work is done.
        finished: bool,
    },
}

impl Told {
    /// Whether it listens.
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Whether it asks a person.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Takes a report. Odd ones say nothing.
    pub(super) fn take(&mut self, call: &HookCall, is_print: bool) -> Vec<AgentEvent> {
        let Some(report) = Report::read(call) else { return Vec::new() };
        match report {
            Report::SessionStarted { conversation } => {
                self.is_ready = true;
                let id = call.text("session_id").unwrap_or_default().to_owned();
                vec![AgentEvent::SessionStarted { id, transcript: Some(conversation) }]
            }
            Report::SessionEnded { reason } => {
                let mut events = self.close_calls(call.at);
                events.push(AgentEvent::SessionEnded { reason });
                events
            }
            Report::TurnStarted { prompt, is_message } => {
                self.turn = Turn::Running;
                self.failure = None;
                vec![AgentEvent::TurnStarted { prompt, is_message }]
            }
            Report::TurnEnded { finished, last_message } => self.end_turn(finished, last_message, is_print, call.at),
            Report::TurnFailed { reason } => {
                let mut events = vec![AgentEvent::Failed { reason: reason.clone() }];
                events.extend(self.end_turn(false, None, is_print, call.at));
                self.failure = Some(reason);
                events
            }
            Report::Waiting { what } => {
                self.is_waiting = true;
                vec![AgentEvent::Waiting { what }]
            }
            Report::WaitingOver => self.stop_waiting(),
            Report::ToolStarted { call_id, tool, input } => self.start_call(call_id, tool, input, call.at),
            Report::ToolEnded(end) => self.end_call(end, call.at),
            Report::Used { input_tokens, output_tokens, cost_usd, is_estimated } => {
                vec![AgentEvent::Usage(Usage { input_tokens, output_tokens, cost_usd, is_estimated })]
            }
            Report::Retrying { reason } => vec![AgentEvent::Retry { reason }],
            Report::Busy { why, wait_ms } => {
                vec![AgentEvent::Patience { why, wait: wait_ms.map(Duration::from_millis) }]
            }
            Report::Noted { text } => vec![AgentEvent::Note { text }],
            Report::Concluded(conclusion) => {
                self.conclusion = Some(conclusion);
                Vec::new()
            }
        }
    }

    /// A turn ended.
    fn end_turn(&mut self, finished: bool, last_message: Option<String>, is_print: bool, at: Time) -> Vec<AgentEvent> {
        let mut events = self.close_calls(at);
        events.extend(self.stop_waiting());
        self.turn = Turn::Ended { finished };
        events.push(AgentEvent::TurnEnded { finished: finished && !is_print, background: 0, last_message });
        events
    }

    /// Nobody is asked any more.
    fn stop_waiting(&mut self) -> Vec<AgentEvent> {
        let was_waiting = std::mem::take(&mut self.is_waiting);
        was_waiting.then_some(AgentEvent::WaitingOver).into_iter().collect()
    }

    /// A call began.
    fn start_call(&mut self, call_id: String, tool: String, input: serde_json::Value, at: Time) -> Vec<AgentEvent> {
        if self.ended.contains(&call_id) || self.open.contains_key(&call_id) {
            return Vec::new();
        }
        self.open.insert(call_id.clone(), (tool.clone(), subject(&input)));
        vec![AgentEvent::ToolStarted(ToolStart { at, call_id, tool, input, agent_id: None, parent_call_id: None })]
    }

    /// A call ended.
    fn end_call(&mut self, end: ToolReport, at: Time) -> Vec<AgentEvent> {
        if !self.ended.insert(end.call_id.clone()) {
            return Vec::new();
        }
        let call = self.open.remove(&end.call_id);
        if let (ToolOutcome::Denied, Some((tool, what))) = (end.outcome, call) {
            self.denied.push(Denial { tool, what, by_ask_rule: end.by_ask_rule });
        }
        let mut event = ToolEnd::bare(end.call_id, end.outcome, at);
        event.error = end.error;
        event.exit_code = end.exit_code;
        event.duration_ms = Some(end.duration_ms);
        event.output_bytes = end.output_bytes;
        vec![AgentEvent::ToolEnded(event)]
    }

    /// Ends what is open: nobody works on it any more.
    pub(super) fn close_calls(&mut self, at: Time) -> Vec<AgentEvent> {
        let open = std::mem::take(&mut self.open);
        self.ended.extend(open.keys().cloned());
        let ends = open.into_keys().map(|id| ToolEnd::bare(id, ToolOutcome::Interrupted, at));
        ends.map(AgentEvent::ToolEnded).collect()
    }

    /// How it ended.
    pub(super) fn ending(&self, exit: &ExitInfo, is_print: bool) -> Ending {
        let code = match exit.exit {
            Exit::Code(code) => code,
            Exit::Signal(number) => return by_signal(number),
        };
        let failed = |reason: &str, is_transient| Ending::Failed {
            reason: one_line(reason, REASON_LIMIT),
            is_transient,
            exit_code: Some(code),
        };
        let finished = || Ending::Finished { denied: self.denied.clone() };
        let interrupted = |reason: &str| Ending::Interrupted { reason: reason.to_owned() };
        match (code, &self.conclusion) {
            (_, Some(Conclusion::Failed(reason))) => failed(reason, false),
            (_, Some(Conclusion::FailedForNow(reason))) => failed(reason, true),
            (_, Some(Conclusion::Limit(reason))) => Ending::Limit { reason: reason.clone() },
            // Its list of refused calls says the same and more.
            (_, Some(Conclusion::NeedsPerson(_))) if self.denied.iter().any(|denial| denial.by_ask_rule) => finished(),
            (_, Some(Conclusion::NeedsPerson(reason))) => Ending::NeedsPerson { reason: reason.clone() },
            (_, Some(Conclusion::Signal(number))) => by_signal(*number),
            (0, _) if is_print => finished(),
            (0, _) => match self.turn {
                Turn::Ended { finished: true } => finished(),
                Turn::Ended { finished: false } => match &self.failure {
                    Some(reason) => failed(reason, false),
                    None => interrupted("the agent loop was closed before it had finished"),
                },
                Turn::Running => interrupted("the agent loop was closed in the middle of a turn"),
                Turn::Never => interrupted("the agent loop was closed before it began"),
            },
            (129 | 130 | 131 | 137 | 143, _) => by_signal(code - 128),
            _ => failed(&exit_reason(code, exit), false),
        }
    }
}

/// An end by a signal: from outside, or a crash of its own.
fn by_signal(number: i32) -> Ending {
    let name = signal_name(number);
    if matches!(number, 4 | 6 | 7 | 8 | 11 | 31) {
        let reason = format!("the agent loop crashed with {name}");
        return Ending::Failed { reason, is_transient: false, exit_code: None };
    }
    Ending::Interrupted { reason: format!("the agent loop was ended by {name}") }
}

/// A reason where the loop gave none but its exit code.
fn exit_reason(code: i32, exit: &ExitInfo) -> String {
    let said = exit.last_lines.iter().rev().find(|line| !line.trim().is_empty());
    match said {
        Some(said) => format!("the agent loop exited with code {code}: {said}"),
        None => format!("the agent loop exited with code {code}"),
    }
}
