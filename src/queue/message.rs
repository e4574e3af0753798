//! The messages by which programs in any language use a queue on a server: what they send, and what they are answered.
//!
//! Everything is JSON. What is sent may leave keys out and may have others, which are passed over; what is answered has every
//! key, and null means unknown. Names that other task boards use are understood and answered as well: `task_id`,
//! `description`, `blocked_by`, `status`, `owner`.

mod ask;
mod reply;
mod submission;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use ask::{ClaimAsk, CompletionAsk, FailureAsk, Lasting, LeaseAsk, ListAsk, ReleaseAsk, StatusAsk};
pub(crate) use reply::{Ended, Grant, Listing, Problem, ProblemKind, Refusal, Renewal, Task, TaskWithResult};
pub(crate) use submission::{Submission, Unusable};

use crate::model::{TicketId, Time};
use crate::store::as_result;

/// Version of the shape of the messages.
pub(crate) const MESSAGE_SCHEMA: u32 = 1;

/// A message that could not be used, as it is kept for people.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Rejected {
    /// [`MESSAGE_SCHEMA`].
    pub(crate) schema: u32,
    /// When it was looked at.
    pub(crate) at: Time,
    /// Its number in the stream of what was submitted.
    pub(crate) seq: u64,
    /// Why it could not be used.
    pub(crate) error: Problem,
    /// The message, as far as it is text.
    pub(crate) message: String,
    /// Whether only the beginning of it is there.
    pub(crate) is_cut: bool,
}

/// What an attempt came to, of another program or of a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct TaskResult {
    /// [`MESSAGE_SCHEMA`].
    pub(crate) schema: u32,
    /// When it was told.
    pub(crate) at: Time,
    /// The ticket.
    pub(crate) task_id: TicketId,
    /// The lease under which it was told.
    pub(crate) fence: u64,
    /// Who told it.
    pub(crate) owner: Option<String>,
    /// What it said; any JSON.
    pub(crate) result: Value,
}

impl TaskResult {
    /// One that is told now.
    pub(crate) fn now(ticket: &TicketId, fence: u64, owner: Option<String>, result: Value) -> Self {
        Self { schema: MESSAGE_SCHEMA, at: Time::now(), task_id: ticket.clone(), fence, owner, result }
    }

    /// What it says, as the result of a worker is kept.
    pub(crate) fn text(&self) -> String {
        match &self.result {
            Value::String(text) => as_result(text),
            other => as_result(&serde_json::to_string_pretty(other).expect("it was JSON")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_result_is_a_text_whatever_json_it_is() {
        let text = |result| TaskResult::now(&"t".parse().unwrap(), 1, None, result).text();
        assert_eq!(text(json!(" found\u{1b}[2J it\n")), "found[2J it");
        assert_eq!(text(json!({"answer": [42]})), "{\n  \"answer\": [\n    42\n  ]\n}");
        assert_eq!(text(json!("x".repeat(1_000_000))).len(), 64 * 1024);
    }
}
