//! What an earlier supervisor left in a tool log.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{AgentError, CallKey, OpenCall};
use crate::files::read_if_exists;
use crate::model::tool_call::{ToolBody, ToolOrigin, ToolOutcome, ToolRecord};

/// The state of a log.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// The highest number used.
    pub(super) seq: u64,
    /// Started, not ended.
    pub(super) open: BTreeMap<CallKey, OpenCall>,
    /// Ended.
    pub(super) ended: BTreeSet<CallKey>,
    /// Starts of the attempt in question.
    pub(super) call_count: u64,
    /// Ends of that attempt that are errors.
    pub(super) error_count: u64,
    /// Whether the last line has no end: its writer died in it.
    pub(super) is_torn: bool,
}

/// Reads the log at `path`; counts are those of `origin`'s attempt. Lines that are no records are passed over.
pub(super) fn read(path: &Path, origin: &ToolOrigin) -> Result<Past, AgentError> {
    let bytes = read_if_exists(path)?.unwrap_or_default();
    let mut past = Past { is_torn: !bytes.is_empty() && !bytes.ends_with(b"\n"), ..Past::default() };
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(record) = serde_json::from_slice::<ToolRecord>(line) {
            past.add(record, origin.attempt);
        }
    }
    Ok(past)
}

impl Past {
    /// Takes one record into account.
    fn add(&mut self, record: ToolRecord, attempt: u32) {
        self.seq = self.seq.max(record.seq);
        let is_ours = record.origin.attempt == attempt;
        let key = (record.origin.session_id.clone(), record.call_id);
        match record.body {
            ToolBody::Start { .. } => {
                self.call_count += u64::from(is_ours);
                let call = OpenCall {
                    at: record.at,
                    origin: record.origin,
                    tool: record.tool,
                    agent_id: record.agent_id,
                    parent_call_id: record.parent_call_id,
                };
                self.open.insert(key, call);
            }
            ToolBody::End { outcome, .. } => {
                self.error_count += u64::from(is_ours && outcome == ToolOutcome::Error);
                self.open.remove(&key);
                self.ended.insert(key);
            }
        }
    }
}
