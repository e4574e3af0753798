//! What is known about the conversation of a program with a preset; each thing is told once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::mapping::{Call, CallEnd, Said};
use crate::agent::display;
use crate::agent::event::{AgentEvent, Denial, ToolEnd, ToolStart, Usage};
use crate::agent::patience;
use crate::model::Time;
use crate::model::preset::UsageCount;
use crate::model::tool_call::ToolOutcome;

/// Longest reason, in characters.
const REASON_LIMIT: usize = 300;

/// One conversation.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    /// Whether the end of a turn may be the end of the work; not so where the process ends with its turn.
    pub(super) is_interactive: bool,
    /// Put before ids of calls, so that those of two processes differ.
    pub(super) id_prefix: String,
    /// How figures count.
    pub(super) usage_count: UsageCount,
    /// Paths are shown from there.
    pub(super) worktree: PathBuf,
    /// The id as far as it was told.
    session: Option<String>,
    /// An id that is told with the first turn: before it a program has nothing that could be gone on with.
    next_session: Option<String>,
    /// Whether a turn is under way.
    in_turn: bool,
    /// Whether a turn ended, by itself or with an error.
    has_ended: bool,
    /// Started, not ended: tool and subject.
    open: BTreeMap<String, (String, String)>,
    /// Ended.
    ended: BTreeSet<String>,
    /// Calls without an id so far.
    nameless: usize,
    /// Refused calls.
    denied: Vec<Denial>,
    /// Why the last turn failed, and whether that may pass.
    failure: Option<(String, bool)>,
    /// The last thing it said.
    last_message: Option<String>,
    /// Whether a person is asked.
    is_waiting: bool,
    /// The figures so far.
    usage: Usage,
}

impl Conversation {
    /// Whether a turn has ended.
    pub(super) fn has_ended_turn(&self) -> bool {
        self.has_ended
    }

    /// Why the last turn failed.
    pub(super) fn failure(&self) -> Option<&(String, bool)> {
        self.failure.as_ref()
    }

    /// Refused calls.
    pub(super) fn denied(&self) -> &[Denial] {
        &self.denied
    }

    /// Whether a person is asked.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// The process goes to work on a message.
    pub(super) fn begin(&mut self, events: &mut Vec<AgentEvent>) {
        if !self.in_turn {
            self.in_turn = true;
            self.failure = None;
            events.push(AgentEvent::TurnStarted { prompt: String::new(), is_message: false });
        }
    }

    /// Takes one thing that was said.
    pub(super) fn take(&mut self, said: Said, at: Time, events: &mut Vec<AgentEvent>) {
        match said {
            Said::Session(id) => self.next_session = Some(id).filter(|id| self.session.as_ref() != Some(id)),
            Said::Show(text) => show(&text, events),
            said => {
                self.tell_session(events);
                self.take_turn(said, at, events);
            }
        }
        // Where nothing marks the beginning of a turn, an id is as good as it gets.
        if self.is_interactive {
            self.tell_session(events);
        }
    }

    /// Takes what belongs to a turn.
    fn take_turn(&mut self, said: Said, at: Time, events: &mut Vec<AgentEvent>) {
        match said {
            Said::TurnStarted => self.begin(events),
            Said::ToolStarted(call) => {
                self.start_call(call, at, events);
            }
            Said::ToolEnded(call, end) => self.end_call(call, end, at, events),
            Said::Message(text) => {
                if !self.is_interactive {
                    events.extend(display::message(&text, false).into_iter().map(AgentEvent::Display));
                }
                self.last_message = Some(text);
            }
            Said::Usage(usage) => self.count(usage, events),
            Said::Retry(reason) => {
                let reason = display::one_line(&reason, REASON_LIMIT);
                events.extend(patience::said(&reason, at));
                events.push(AgentEvent::Retry { reason });
            }
            Said::Failed { reason, is_transient } => {
                let reason = display::one_line(&reason, REASON_LIMIT);
                events.extend(patience::said(&reason, at));
                self.end_turn(at, events, Some((reason, is_transient)));
            }
            Said::Waiting(what) => {
                self.is_waiting = true;
                events.push(AgentEvent::Waiting { what });
            }
            Said::TurnEnded => self.end_turn(at, events, None),
            Said::Session(_) | Said::Show(_) => {}
        }
    }

    /// Tells an id that waits to be told.
    fn tell_session(&mut self, events: &mut Vec<AgentEvent>) {
        if let Some(id) = self.next_session.take() {
            self.session = Some(id.clone());
            events.push(AgentEvent::SessionStarted { id, transcript: None });
        }
    }

    /// Adds figures as the preset counts them. They never fall.
    fn count(&mut self, usage: Usage, events: &mut Vec<AgentEvent>) {
        let (now, before) = (usage, self.usage);
        let cost = |add: bool| match (now.cost_usd, before.cost_usd) {
            (Some(now), Some(before)) => Some(if add { now + before } else { now.max(before) }),
            (now, before) => now.or(before),
        };
        self.usage = if self.usage_count == UsageCount::Step {
            Usage {
                input_tokens: before.input_tokens + now.input_tokens,
                output_tokens: before.output_tokens + now.output_tokens,
                cost_usd: cost(true),
                is_estimated: false,
            }
        } else {
            Usage {
                input_tokens: before.input_tokens.max(now.input_tokens),
                output_tokens: before.output_tokens.max(now.output_tokens),
                cost_usd: cost(false),
                is_estimated: false,
            }
        };
        if self.usage != before {
            events.push(AgentEvent::Usage(self.usage));
        }
    }

    /// The id of a call within all of the worker's.
    fn call_id(&mut self, id: Option<&String>) -> String {
        match id {
            Some(id) => format!("{}{id}", self.id_prefix),
            None => {
                self.nameless += 1;
                format!("{}call-{}", self.id_prefix, self.nameless)
            }
        }
    }

    /// A call began; its id as it is told.
    fn start_call(&mut self, call: Call, at: Time, events: &mut Vec<AgentEvent>) -> String {
        let call_id = self.call_id(call.id.as_ref());
        if self.ended.contains(&call_id) || self.open.contains_key(&call_id) {
            return call_id;
        }
        self.begin(events);
        let tool = call.tool.unwrap_or_else(|| "tool".to_owned());
        events.push(AgentEvent::Display(display::call(&tool, &call.input, &self.worktree, false)));
        self.open.insert(call_id.clone(), (tool.clone(), display::subject(&call.input)));
        let input = call.input;
        let start = ToolStart { at, call_id: call_id.clone(), tool, input, agent_id: None, parent_call_id: None };
        events.push(AgentEvent::ToolStarted(start));
        call_id
    }

    /// A call ended; one that never began, begins now.
    fn end_call(&mut self, call: Call, end: CallEnd, at: Time, events: &mut Vec<AgentEvent>) {
        let is_open = call.id.as_ref().is_some_and(|id| self.open.contains_key(&format!("{}{id}", self.id_prefix)));
        let call_id = if is_open { self.call_id(call.id.as_ref()) } else { self.start_call(call, at, events) };
        if !self.ended.insert(call_id.clone()) {
            return;
        }
        let (tool, what) = self.open.remove(&call_id).unwrap_or_default();
        let word = match end.outcome {
            ToolOutcome::Denied => {
                self.denied.push(Denial { tool, what, by_ask_rule: false });
                Some("denied")
            }
            ToolOutcome::Error => Some("failed"),
            _ => None,
        };
        if let Some(word) = word {
            let error = end.error.as_deref().unwrap_or_default();
            events.push(AgentEvent::Display(display::failure(word, error, false)));
        }
        let mut event = ToolEnd::bare(call_id, end.outcome, at);
        event.error = end.error;
        event.exit_code = end.exit_code;
        event.duration_ms = end.duration_ms;
        event.output_bytes = end.output_bytes;
        events.push(AgentEvent::ToolEnded(event));
    }

    /// The turn ended, by itself or with an error.
    fn end_turn(&mut self, at: Time, events: &mut Vec<AgentEvent>, failure: Option<(String, bool)>) {
        if self.is_interactive {
            // Nothing tells that a person began this turn, only that it is over.
            self.begin(events);
        }
        self.close_calls(at, events);
        self.in_turn = false;
        self.has_ended = true;
        self.failure = failure;
        if std::mem::take(&mut self.is_waiting) {
            events.push(AgentEvent::WaitingOver);
        }
        if let Some((reason, _)) = &self.failure {
            if !self.is_interactive {
                events.push(AgentEvent::Display(display::failure("failed", reason, false).trim_start().to_owned()));
            }
            events.push(AgentEvent::Failed { reason: reason.clone() });
        }
        let finished = self.is_interactive && self.failure.is_none();
        events.push(AgentEvent::TurnEnded { finished, background: 0, last_message: self.last_message.take() });
    }

    /// Ends what is open: nobody works on it any more.
    pub(super) fn close_calls(&mut self, at: Time, events: &mut Vec<AgentEvent>) {
        for (call_id, _) in std::mem::take(&mut self.open) {
            self.ended.insert(call_id.clone());
            events.push(AgentEvent::ToolEnded(ToolEnd::bare(call_id, ToolOutcome::Interrupted, at)));
        }
    }
}

/// Shows a text, line by line, without anything that could steer a terminal.
pub(super) fn show(text: &str, events: &mut Vec<AgentEvent>) {
    events.extend(display::message(text, false).into_iter().map(AgentEvent::Display));
}

/// A conversation that has not begun.
pub(super) fn fresh(worktree: &Path, usage_count: UsageCount, id_prefix: String, is_interactive: bool) -> Conversation {
    Conversation { is_interactive, id_prefix, usage_count, worktree: worktree.to_owned(), ..Conversation::default() }
}
