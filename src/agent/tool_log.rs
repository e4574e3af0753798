//! The tool log of one worker: the only place that numbers, pairs, redacts and writes tool-call records.
//!
//! Guarantees, over any loss, repetition and order of what it is told and over restarts: every start has exactly one
//! end, no call is recorded twice, `seq` has no gaps, and each record is one write.

mod resume;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::AgentError;
use super::event::{AgentEvent, ToolEnd, ToolStart};
use super::redact::Redactor;
use crate::files::open_log;
use crate::model::Time;
use crate::model::tool_call::{TOOL_LOG_SCHEMA, ToolBody, ToolOrigin, ToolOutcome, ToolRecord};

/// A call by the conversation that made it and its id: ids of two conversations may be equal.
type CallKey = (String, String);

/// Writes the tool log.
#[derive(Debug)]
pub(crate) struct ToolLog {
    /// Where.
    path: PathBuf,
    /// Open for appending.
    file: File,
    /// The last number used.
    seq: u64,
    /// What goes into each record.
    origin: ToolOrigin,
    /// Keeps secrets out.
    redactor: Redactor,
    /// Started, not ended.
    open: BTreeMap<CallKey, OpenCall>,
    /// Ended.
    ended: BTreeSet<CallKey>,
    /// Starts of this attempt.
    call_count: u64,
    /// Ends of this attempt that are errors.
    error_count: u64,
    /// Whether the file may end in a part of a line.
    is_torn: bool,
}

/// What an end repeats from its start.
#[derive(Debug, Clone)]
struct OpenCall {
    /// When it began.
    at: Time,
    /// Whose it is.
    origin: ToolOrigin,
    /// The tool.
    tool: String,
    /// The sub-agent.
    agent_id: Option<String>,
    /// The call that started the sub-agent.
    parent_call_id: Option<String>,
}

impl ToolLog {
    /// Opens the log at `path`, makes it when missing, and goes on where an earlier supervisor left off: a torn last
    /// line is closed off, `late` events of the agent that is gone are taken (see [`super::late_events`]), and calls
    /// that are still open are ended as `lost`.
    pub(crate) fn open(
        path: &Path,
        origin: ToolOrigin,
        redactor: Redactor,
        late: &[AgentEvent],
        at: Time,
    ) -> Result<Self, AgentError> {
        let past = resume::read(path, &origin)?;
        let file = open_log(path)?;
        let mut log = Self {
            path: path.to_owned(),
            file,
            seq: past.seq,
            origin,
            redactor,
            open: past.open,
            ended: past.ended,
            call_count: past.call_count,
            error_count: past.error_count,
            is_torn: past.is_torn,
        };
        let session_id = log.origin.session_id.clone();
        for event in late {
            log.take(event)?;
        }
        log.close_open(ToolOutcome::Lost, at)?;
        log.origin.session_id = session_id;
        Ok(log)
    }

    /// Takes one event of the agent; those that are not about tools or the conversation's id change nothing.
    /// Says whether a record was written.
    pub(crate) fn take(&mut self, event: &AgentEvent) -> Result<bool, AgentError> {
        match event {
            AgentEvent::ToolStarted(start) => self.start(start),
            AgentEvent::ToolEnded(end) => self.end(end),
            AgentEvent::SessionStarted { id, .. } => {
                self.origin.session_id.clone_from(id);
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    /// Records a start, unless the call is known.
    pub(crate) fn start(&mut self, start: &ToolStart) -> Result<bool, AgentError> {
        let key = self.key(&start.call_id);
        if self.open.contains_key(&key) || self.ended.contains(&key) {
            return Ok(false);
        }
        let call = OpenCall {
            at: start.at,
            origin: self.origin.clone(),
            tool: start.tool.clone(),
            agent_id: start.agent_id.clone(),
            parent_call_id: start.parent_call_id.clone(),
        };
        let clean = self.redactor.clean(&start.input);
        let body = ToolBody::Start { input: clean.value, redacted: clean.redacted, truncated: clean.truncated };
        self.write(&call, &start.call_id, start.at, body)?;
        self.call_count += 1;
        self.open.insert(key, call);
        Ok(true)
    }

    /// Records an end, unless the call has one. A call that was never started is started first where the end tells
    /// enough, and left out otherwise.
    pub(crate) fn end(&mut self, end: &ToolEnd) -> Result<bool, AgentError> {
        let key = self.key(&end.call_id);
        if self.ended.contains(&key) {
            return Ok(false);
        }
        if let (false, Some(start)) = (self.open.contains_key(&key), &end.start) {
            self.start(&ToolStart { call_id: end.call_id.clone(), ..(**start).clone() })?;
        }
        let Some(call) = self.open.get(&key).cloned() else { return Ok(false) };
        let elapsed = u64::try_from(call.at.age_at(end.at).as_millis()).unwrap_or(u64::MAX);
        let body = ToolBody::End {
            outcome: end.outcome,
            error: end.error.as_deref().map(|error| self.redactor.short_text(error)),
            exit_code: end.exit_code,
            duration_ms: end.duration_ms.unwrap_or(elapsed),
            output_bytes: end.output_bytes,
            usage: end.usage,
        };
        self.write(&call, &end.call_id, end.at, body)?;
        self.error_count += u64::from(end.outcome == ToolOutcome::Error);
        self.open.remove(&key);
        self.ended.insert(key);
        Ok(true)
    }

    /// Ends every open call; says how many there were.
    pub(crate) fn close_open(&mut self, outcome: ToolOutcome, at: Time) -> Result<usize, AgentError> {
        let open = std::mem::take(&mut self.open);
        let count = open.len();
        for (key, call) in open {
            let duration_ms = u64::try_from(call.at.age_at(at).as_millis()).unwrap_or(u64::MAX);
            let body =
                ToolBody::End { outcome, error: None, exit_code: None, duration_ms, output_bytes: 0, usage: None };
            self.write(&call, &key.1, at, body)?;
            self.ended.insert(key);
        }
        Ok(count)
    }

    /// Calls of this attempt, and how many of them ended in an error.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.call_count, self.error_count)
    }

    /// The number of the last record.
    pub(crate) fn last_seq(&self) -> u64 {
        self.seq
    }

    /// The tool of a call of the present conversation that has not ended.
    pub(crate) fn tool_of(&self, call_id: &str) -> Option<&str> {
        self.open.get(&self.key(call_id)).map(|call| call.tool.as_str())
    }

    /// The key of a call of the present conversation.
    fn key(&self, call_id: &str) -> CallKey {
        (self.origin.session_id.clone(), call_id.to_owned())
    }

    /// Writes one record of `call`.
    fn write(&mut self, call: &OpenCall, call_id: &str, at: Time, body: ToolBody) -> Result<(), AgentError> {
        let record = ToolRecord {
            schema: TOOL_LOG_SCHEMA,
            seq: self.seq + 1,
            at,
            origin: call.origin.clone(),
            agent_id: call.agent_id.clone(),
            parent_call_id: call.parent_call_id.clone(),
            call_id: call_id.to_owned(),
            tool: call.tool.clone(),
            body,
        };
        let mut line = serde_json::to_vec(&record).expect("a record has text keys only");
        line.push(b'\n');
        self.append(&line)?;
        self.seq += 1;
        Ok(())
    }

    /// Adds a line to the file in one write, after closing off what an earlier write left unfinished.
    fn append(&mut self, line: &[u8]) -> Result<(), AgentError> {
        let bytes = if self.is_torn { [b"\n", line].concat() } else { line.to_vec() };
        self.is_torn = true;
        let wrap = |source| AgentError::Log { path: self.path.clone(), source };
        self.file.write_all(&bytes).map_err(wrap)?;
        self.is_torn = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
