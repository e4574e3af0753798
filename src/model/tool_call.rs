//! The tool log: one record when a tool call starts and one when it ends (design section 8, a contract).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::agent::RuntimeKind;
use super::{AgentName, RunId, TicketId, Time, WorkerId};

/// Version of the record shape.
pub(crate) const TOOL_LOG_SCHEMA: u32 = 1;

/// One line of `tool_calls.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ToolRecord {
    /// [`TOOL_LOG_SCHEMA`].
    pub(crate) schema: u32,
    /// From 1, without gaps within one file.
    pub(crate) seq: u64,
    /// When it happened.
    pub(crate) at: Time,
    /// Whose call it is.
    #[serde(flatten)]
    pub(crate) origin: ToolOrigin,
    /// The sub-agent within the session, where one made the call.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) agent_id: Option<String>,
    /// The call that started the sub-agent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) parent_call_id: Option<String>,
    /// Pairs start and end.
    pub(crate) call_id: String,
    /// The tool's name as the runtime says it.
    pub(crate) tool: String,
    /// Start or end.
    #[serde(flatten)]
    pub(crate) body: ToolBody,
}

/// Whose call it is; the same in every record of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ToolOrigin {
    /// Command or coordinator run.
    pub(crate) run: RunId,
    /// Ticket.
    pub(crate) ticket: TicketId,
    /// Worker.
    pub(crate) worker: WorkerId,
    /// Attempt, from 1.
    pub(crate) attempt: u32,
    /// Agent definition.
    pub(crate) agent: AgentName,
    /// Runtime.
    pub(crate) runtime: RuntimeKind,
    /// The agent's own conversation; empty before it is known.
    pub(crate) session_id: String,
}

/// The part that differs between start and end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum ToolBody {
    /// The call began.
    Start {
        /// What the tool was given, secrets redacted and large values capped.
        input: serde_json::Value,
        /// Paths within `input` that were redacted.
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        redacted: Vec<String>,
        /// Paths within `input` that were capped, with the size and hash of the whole value.
        #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
        truncated: BTreeMap<String, Capped>,
    },
    /// The call ended.
    End {
        /// How.
        outcome: ToolOutcome,
        /// What went wrong, capped and redacted.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        error: Option<String>,
        /// Exit code of a shell command, where known.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        exit_code: Option<i32>,
        /// Wall time in milliseconds.
        duration_ms: u64,
        /// Size of what the tool returned.
        output_bytes: u64,
        /// What the call cost, where the runtime says so.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        usage: Option<ToolUsage>,
    },
}

/// Size and hash of a value that was capped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Capped {
    /// Size of the whole value in bytes.
    pub(crate) bytes: u64,
    /// SHA-256 of the whole value, lower-case hex.
    pub(crate) sha256: String,
}

/// How a tool call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToolOutcome {
    /// It did what it should.
    Ok,
    /// It failed.
    Error,
    /// A rule or a person refused it.
    Denied,
    /// A person interrupted it.
    Interrupted,
    /// Its attempt ended without a word about it.
    Lost,
}

/// What one call cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ToolUsage {
    /// Input tokens.
    pub(crate) input_tokens: u64,
    /// Output tokens.
    pub(crate) output_tokens: u64,
    /// US dollars.
    pub(crate) cost_usd: f64,
    /// Whether the figures were measured; otherwise they are estimated.
    pub(crate) measured: bool,
}
