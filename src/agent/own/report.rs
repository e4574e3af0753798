//! What a loop tells its supervisor, in the order in which it happens.

use std::cell::Cell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::agent::event::HookCall;
use crate::model::Time;
use crate::model::tool_call::ToolOutcome;

/// How long the supervisor may take for the last reports.
const LAST_REPORTS: Duration = Duration::from_secs(5);

/// The event that hook calls of a loop are made for.
const EVENT: &str = "loop";

/// Somebody who passes hook calls on to the supervisor. What it is told is told in order, and it may not fail: what
/// reaches nobody is kept for the next supervisor.
pub(crate) trait Reporter: Send {
    /// Passes on one call. May block for as long as the supervisor takes.
    fn report(&mut self, call: &HookCall);
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub(super) enum Report {
    /// The loop is ready.
    SessionStarted {
        /// The conversation file.
        conversation: PathBuf,
    },
    /// The loop is about to end.
    SessionEnded {
        /// Why.
        reason: String,
    },
    /// A turn began, or a message was queued during one.
    TurnStarted {
        /// The message.
        prompt: String,
        /// Whether it came in by the terminal or the plan.
        is_message: bool,
    },
    /// The turn ended, and nothing is queued.
    TurnEnded {
        /// Whether the model had nothing more to do; false when it was broken off.
        finished: bool,
        /// The last thing it said.
        last_message: Option<String>,
    },
    /// The turn ended by an error.
    TurnFailed {
        /// One clause.
        reason: String,
    },
    /// A person is asked.
    Waiting {
        /// For what.
        what: String,
    },
    /// The person answered, or need not any more.
    WaitingOver,
    /// A tool call began.
    ToolStarted {
        /// Its id.
        call_id: String,
        /// The tool.
        tool: String,
        /// What it was given.
        input: Value,
    },
    /// A tool call ended.
    ToolEnded(ToolReport),
    /// What the conversation used so far.
    Used {
        /// Input tokens.
        input_tokens: u64,
        /// Output tokens.
        output_tokens: u64,
        /// US dollars; absent where a price is not known.
        cost_usd: Option<f64>,
        /// Whether some of the tokens are a guess.
        #[serde(default)]
        is_estimated: bool,
    },
    /// The model could not answer, and is asked again, or another one is.
    Retrying {
        /// One clause.
        reason: String,
    },
    /// The model is busy or over its limits.
    Busy {
        /// What it said, one clause.
        why: String,
        /// How long it asks to be left alone, in milliseconds; absent where it does not say.
        wait_ms: Option<u64>,
    },
    /// Something that people should be able to find later.
    Noted {
        /// One clause.
        text: String,
    },
    /// How the loop ends.
    Concluded(Conclusion),
}

/// The end of a tool call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ToolReport {
    /// Its id.
    pub(super) call_id: String,
    /// How it ended.
    pub(super) outcome: ToolOutcome,
    /// What went wrong.
    pub(super) error: Option<String>,
    /// Of a shell command that ran to its end.
    pub(super) exit_code: Option<i32>,
    /// Wall time, waiting for a person excluded.
    pub(super) duration_ms: u64,
    /// Size of the whole output, also of what the model does not get to read.
    pub(super) output_bytes: u64,
    /// Whether a rule wants a person to decide and none was there.
    pub(super) by_ask_rule: bool,
}

/// How a loop ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "reason", rename_all = "snake_case")]
pub(crate) enum Conclusion {
    /// The work is done, or the person said so.
    Done,
    /// It failed.
    Failed(String),
    /// It failed by something that may pass: the model was not reached, or too busy.
    FailedForNow(String),
    /// It ended at a limit.
    Limit(String),
    /// Only a person can decide what comes next.
    NeedsPerson(String),
    /// It was ended from outside, by this signal.
    Signal(i32),
}

impl Conclusion {
    /// The exit code of the process: 0 done, 1 failed, 4 a person is needed, 7 limit reached, 75 failed for now
    /// (`EX_TEMPFAIL`, sysexits.h), 128+n ended by signal n.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed(_) => 1,
            Self::NeedsPerson(_) => 4,
            Self::Limit(_) => 7,
            Self::FailedForNow(_) => 75,
            Self::Signal(number) => u8::try_from(128 + number).unwrap_or(u8::MAX),
        }
    }
}

impl Report {
    /// The hook call that says this of the conversation `session`.
    pub(super) fn call(&self, session: &str, at: Time) -> HookCall {
        let mut payload = json!(self);
        payload["session_id"] = json!(session);
        HookCall { at, event: EVENT.to_owned(), payload }
    }

    /// What a hook call says; `None` for one that is none of a loop.
    pub(super) fn read(call: &HookCall) -> Option<Self> {
        if call.event != EVENT {
            return None;
        }
        serde_json::from_value(call.payload.clone()).ok()
    }
}

/// Reports on their way, passed on by a thread of their own: whoever listens may be slow, and the loop is not.
pub(super) struct Reports {
    /// The conversation they are about.
    pub(super) session: String,
    sender: Option<std::sync::mpsc::Sender<HookCall>>,
    /// One for each that was passed on.
    passed_on: std::sync::mpsc::Receiver<()>,
    /// How many are on their way.
    under_way: Cell<usize>,
}

impl Reports {
    /// Starts the thread.
    pub(super) fn start(session: &str, mut reporter: Box<dyn Reporter>) -> Self {
        let (sender, calls) = std::sync::mpsc::channel();
        let (done, passed_on) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for call in calls {
                reporter.report(&call);
                done.send(()).ok();
            }
        });
        Self { session: session.to_owned(), sender: Some(sender), passed_on, under_way: Cell::new(0) }
    }

    /// Passes a report on.
    pub(super) fn tell(&self, report: &Report) {
        if let Some(sender) = &self.sender {
            sender.send(report.call(&self.session, Time::now())).ok();
            self.under_way.set(self.under_way.get() + 1);
        }
    }

    /// Waits until everything that was told was passed on, though no longer than `limit`. A supervisor answers the
    /// report of a call when it has saved what the call left, so a call that waits for this changes nothing of that.
    pub(super) fn settle(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while self.under_way.get() > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.passed_on.recv_timeout(left).is_err() {
                return;
            }
            self.under_way.set(self.under_way.get() - 1);
        }
    }

    /// Waits until everything was passed on, though not for ever.
    pub(super) fn finish(&mut self) {
        self.sender = None;
        self.settle(LAST_REPORTS);
    }
}
