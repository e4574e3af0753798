//! What an agent does, as events; what a hook says and hears; how an agent ended.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::Time;
use crate::model::tool_call::{ToolOutcome, ToolUsage};

/// Something an agent did.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AgentEvent {
    /// Its conversation has this id from now on.
    SessionStarted {
        /// Needed for resume.
        id: String,
        /// Where the agent keeps it, where known.
        transcript: Option<PathBuf>,
    },
    /// It said goodbye; its process is about to end.
    SessionEnded {
        /// In the agent's word.
        reason: String,
    },
    /// It took a message, or began to work. Comes again during a turn when a message is queued.
    TurnStarted {
        /// The message as the agent got it (it may wrap a long one); empty where the source does not tell it.
        prompt: String,
        /// Whether a message was taken from outside: the proof that what was typed was submitted.
        is_message: bool,
    },
    /// It stopped working and listens.
    TurnEnded {
        /// Whether nothing is left to wait for. Never true where the end of the process is what counts.
        finished: bool,
        /// Background tasks and timers that will wake it again.
        background: usize,
        /// The last thing it said.
        last_message: Option<String>,
    },
    /// It needs a person.
    Waiting {
        /// For what, as a clause: `permission for Bash`.
        what: String,
    },
    /// It no longer needs a person.
    WaitingOver,
    /// A tool call began.
    ToolStarted(ToolStart),
    /// A tool call ended.
    ToolEnded(ToolEnd),
    /// What the conversation has used so far.
    Usage(Usage),
    /// Its provider answered with an error that it tries again.
    Retry {
        /// One clause for a person.
        reason: String,
    },
    /// Its provider is busy or its limits are reached: it wants to be left alone for a while.
    Patience {
        /// What the provider said, as a clause.
        why: String,
        /// For how long, where it says so.
        wait: Option<Duration>,
    },
    /// It did something out of the ordinary that people should be able to find later.
    Note {
        /// One clause for a person.
        text: String,
    },
    /// Its turn ended with an error; it lives on and listens, or its process is about to end.
    Failed {
        /// One clause for a person.
        reason: String,
    },
    /// A line for whoever watches, without a line end.
    Display(String),
}

/// The beginning of a tool call as its runtime tells it: neither redacted nor capped.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToolStart {
    /// When.
    pub(crate) at: Time,
    /// Pairs start and end.
    pub(crate) call_id: String,
    /// The tool's name as the runtime says it.
    pub(crate) tool: String,
    /// What the tool was given.
    pub(crate) input: Value,
    /// The sub-agent that made the call.
    pub(crate) agent_id: Option<String>,
    /// The call that started the sub-agent.
    pub(crate) parent_call_id: Option<String>,
}

/// The end of a tool call as its runtime tells it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToolEnd {
    /// When.
    pub(crate) at: Time,
    /// Pairs start and end.
    pub(crate) call_id: String,
    /// How.
    pub(crate) outcome: ToolOutcome,
    /// What went wrong.
    pub(crate) error: Option<String>,
    /// Exit code of a shell command, where known.
    pub(crate) exit_code: Option<i32>,
    /// Wall time in milliseconds; `None` is the time between the two records.
    pub(crate) duration_ms: Option<u64>,
    /// Size of what the tool returned.
    pub(crate) output_bytes: u64,
    /// What the call cost, where the runtime says so.
    pub(crate) usage: Option<ToolUsage>,
    /// The call as the end tells it, for a start that was never told.
    pub(crate) start: Option<Box<ToolStart>>,
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

/// What a conversation has used from its beginning; never falls.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Usage {
    /// Input tokens, cached ones included.
    pub(crate) input_tokens: u64,
    /// Output tokens.
    pub(crate) output_tokens: u64,
    /// US dollars as the agent states them; `None` where it states none that can be trusted.
    pub(crate) cost_usd: Option<f64>,
    /// Whether some of the tokens are a guess, because nobody counted them.
    pub(crate) is_estimated: bool,
}

/// One call of a hook by an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct HookCall {
    /// When the hook was called.
    pub(crate) at: Time,
    /// The event it was called for.
    pub(crate) event: String,
    /// What it was given; `null` where that was not JSON.
    pub(crate) payload: Value,
}

impl HookCall {
    /// A call of the hook for `event` with `payload` as it came on standard input. Anything is accepted: a hook
    /// must never fail because of what it is told.
    pub(crate) fn new(event: &str, payload: &[u8], at: Time) -> Self {
        let payload = serde_json::from_slice(payload).unwrap_or(Value::Null);
        Self { at, event: event.to_owned(), payload }
    }

    /// A text field of the payload that is there and not empty.
    pub(crate) fn text(&self, field: &str) -> Option<&str> {
        self.payload.get(field).and_then(Value::as_str).filter(|text| !text.is_empty())
    }
}

/// What a hook answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HookReply {
    /// What it writes to standard output; empty is consent.
    pub(crate) stdout: String,
}

/// How an agent's process ended, and what it showed last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExitInfo {
    /// How.
    pub(crate) exit: Exit,
    /// The last lines of its screen, oldest first; used to say why, never to decide.
    pub(crate) last_lines: Vec<String>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// How an agent ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ending {
    /// It did what it could.
    Finished {
        /// What it was refused on the way.
        denied: Vec<Denial>,
    },
    /// It failed.
    Failed {
        /// One clause for a person.
        reason: String,
        /// Whether the same thing may well work later: overload, rate limit, network.
        is_transient: bool,
        /// Its exit code, where it ended by one.
        exit_code: Option<i32>,
    },
    /// It was ended from outside before it was done.
    Interrupted {
        /// One clause for a person.
        reason: String,
    },
    /// It ended at a limit it was given.
    Limit {
        /// Which, as a clause for a person.
        reason: String,
    },
    /// It ended because only a person can decide what comes next.
    NeedsPerson {
        /// What there is to decide, as a clause.
        reason: String,
    },
}

/// One refused tool call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denial {
    /// The tool.
    pub(crate) tool: String,
    /// What it was to do, short.
    pub(crate) what: String,
    /// Whether a rule wants a person to decide this.
    pub(crate) by_ask_rule: bool,
}
