//! How a launch ended, from its exit and the last thing it said. Measured with 2.1.197 and 2.1.329.

use serde_json::Value;

use super::display::one_line;
use super::session::{Session, Turn};
use crate::agent::command::signal_name;
use crate::agent::event::{AgentEvent, Denial, Ending, Exit, ExitInfo};
use crate::agent::patience;
use crate::model::Time;

/// Longest reason, in characters.
const REASON_LIMIT: usize = 300;

/// The last `result` event of print mode.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct PrintResult {
    /// `success`, `error_max_turns`, `error_during_execution`...
    subtype: String,
    /// Whether it speaks of an error; `success` may come with one.
    is_error: bool,
    /// `completed`, `api_error`, `aborted_tools`...
    terminal_reason: String,
    /// The final text, or the errors.
    text: String,
    /// What the provider answered, where that was the trouble.
    api_status: Option<i64>,
}

impl PrintResult {
    /// Reads the event. Absent fields are as if nothing was wrong.
    pub(super) fn read(event: &Value) -> Self {
        let text = |field: &str| event.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let errors = event.get("errors").and_then(Value::as_array);
        let errors = errors.map(|errors| errors.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("; "));
        Self {
            subtype: text("subtype"),
            is_error: event.get("is_error").and_then(Value::as_bool).unwrap_or(false),
            terminal_reason: text("terminal_reason"),
            text: errors.filter(|errors| !errors.is_empty()).unwrap_or_else(|| text("result")),
            api_status: event.get("api_error_status").and_then(Value::as_i64),
        }
    }

    /// Whether the trouble may pass by itself: too many requests, overload, a fault over there, a lost connection.
    fn is_transient(&self) -> bool {
        // 2.1.197 says `completed` there too, with the status of the answer.
        (self.terminal_reason == "api_error" || self.api_status.is_some())
            && self.api_status.is_none_or(|status| matches!(status, 408 | 429 | 500..=599))
    }

    /// Whether the provider wants to be left alone.
    pub(super) fn patience(&self, now: Time) -> Option<AgentEvent> {
        let says = one_line(&self.text, REASON_LIMIT);
        match self.api_status {
            Some(status) => patience::asked(Some(status), None, &says, now),
            None if self.is_error => patience::said(&says, now),
            None => None,
        }
    }

    /// Whether it says that the work is done.
    fn is_success(&self) -> bool {
        !self.is_error && self.subtype == "success" && matches!(self.terminal_reason.as_str(), "" | "completed")
    }
}

/// The end of a print-mode launch. Only the end of the process ends it: `result` is what it said in its last turn,
/// and `None` when that turn has none.
pub(super) fn of_print(
    exit: &ExitInfo,
    result: Option<&PrintResult>,
    last_text: Option<&str>,
    denied: &[Denial],
) -> Ending {
    let code = match exit.exit {
        Exit::Code(code) => code,
        Exit::Signal(number) => return by_signal(number),
    };
    let failed = |reason: String, is_transient| Ending::Failed { reason, is_transient, exit_code: Some(code) };
    let Some(result) = result else {
        return match (code, signal_of_code(code)) {
            (_, Some(number)) => by_signal(number),
            (0, None) => interrupted("claude was interrupted before it had finished"),
            (_, None) => failed(exit_reason(code, last_text, exit), false),
        };
    };
    let says = || one_line(if result.text.is_empty() { &result.subtype } else { &result.text }, REASON_LIMIT);
    match (result.terminal_reason.as_str(), result.subtype.as_str()) {
        (reason, _) if reason.starts_with("aborted") => interrupted("claude was interrupted in the middle of a turn"),
        ("max_turns", _) | (_, "error_max_turns") => Ending::Limit { reason: says() },
        ("budget_exhausted", _) | (_, "error_max_budget_usd") => {
            Ending::Limit { reason: format!("the budget of this run is used up: {}", says()) }
        }
        ("hook_stopped", _) => interrupted("a hook stopped claude"),
        ("tool_deferred", _) => Ending::NeedsPerson { reason: "a tool call waits for a decision".to_owned() },
        _ if code != 0 && signal_of_code(code).is_some() => by_signal(code - 128),
        _ if code == 0 && result.is_success() => Ending::Finished { denied: denied.to_vec() },
        _ if result.is_success() => failed(exit_reason(code, last_text, exit), false),
        _ => failed(says(), result.is_transient()),
    }
}

/// The end of a launch in a terminal: what counts is whether the last turn was over.
pub(super) fn of_terminal(exit: &ExitInfo, session: &Session) -> Ending {
    let code = match exit.exit {
        Exit::Code(code) => code,
        Exit::Signal(number) => return by_signal(number),
    };
    if let Some(number) = signal_of_code(code) {
        return by_signal(number);
    }
    let failed = |reason: String| Ending::Failed { reason, is_transient: false, exit_code: Some(code) };
    if code != 0 {
        let reason = session.failure().map_or_else(|| exit_reason(code, None, exit), ToOwned::to_owned);
        return failed(reason);
    }
    match session.turn() {
        Turn::Ended { finished: true } => Ending::Finished { denied: session.denied().to_vec() },
        Turn::Ended { finished: false } => match session.failure() {
            Some(reason) => failed(reason.to_owned()),
            None => interrupted("claude was closed before it had finished"),
        },
        Turn::Running => interrupted("claude was closed in the middle of a turn"),
        Turn::Never => interrupted("claude was closed before it began"),
    }
}

/// The signal that a program says it ended by: it exits with 128 + number after cleaning up.
fn signal_of_code(code: i32) -> Option<i32> {
    matches!(code, 129 | 130 | 131 | 137 | 143).then(|| code - 128)
}

/// An end by a signal: from outside, or a crash of its own.
fn by_signal(number: i32) -> Ending {
    let name = signal_name(number);
    if matches!(number, 4 | 6 | 7 | 8 | 11 | 31) {
        return Ending::Failed { reason: format!("claude crashed with {name}"), is_transient: false, exit_code: None };
    }
    interrupted(&format!("claude was ended by {name}"))
}

/// An interruption.
fn interrupted(reason: &str) -> Ending {
    Ending::Interrupted { reason: reason.to_owned() }
}

/// A reason where the program gave none but its exit code.
fn exit_reason(code: i32, last_text: Option<&str>, exit: &ExitInfo) -> String {
    let on_screen = || exit.last_lines.iter().rev().map(String::as_str).find(|line| !line.trim().is_empty());
    match last_text.or_else(on_screen) {
        Some(said) => format!("claude exited with code {code}: {}", one_line(said, REASON_LIMIT)),
        None => format!("claude exited with code {code}"),
    }
}
