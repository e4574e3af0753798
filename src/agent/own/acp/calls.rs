//! The agent's tool calls as the protocol tells them -> our calls, each begun once and ended once.

use std::collections::BTreeMap;
use std::time::Instant;

use agent_client_protocol::v1::schema::{
    ContentBlock, ToolCall, ToolCallContent, ToolCallStatus, ToolCallUpdate, ToolCallUpdateFields, ToolKind,
};
use serde_json::{Map, Value, json};

use crate::agent::own::report::{Report, ToolReport};
use crate::agent::own::tools::{Call, Output};
use crate::model::tool_call::ToolOutcome;

/// Longest error in a report, in bytes.
const ERROR_LIMIT: usize = 2000;
/// Where agents put the exit code of a command in what a tool returned; the protocol has no place for it.
const EXIT_CODES: [&str; 4] = ["/metadata/exit", "/exit_code", "/exitCode", "/metadata/exitCode"];

/// Something to tell about a call.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Told {
    /// It began.
    Began(Call, Report),
    /// It ended.
    Ended(Call, Output, Report),
}

/// All calls of a conversation.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// By id.
    seen: BTreeMap<String, Seen>,
}

/// One call as far as it is known.
#[derive(Debug)]
struct Seen {
    /// What kind of tool it is.
    kind: ToolKind,
    /// What the agent calls it.
    title: String,
    /// What it was given.
    input: Value,
    /// Files it is about.
    paths: Vec<String>,
    /// What it returned as text.
    text: String,
    /// What it returned.
    output: Value,
    /// Since when it is known.
    since: Instant,
    /// Whether its beginning was told.
    is_begun: bool,
    /// Whether its end was told.
    is_ended: bool,
    /// Refused by us; and whether a rule wants a person to decide.
    refused: Option<bool>,
}

impl Calls {
    /// Takes a call that is new, or told again.
    pub(super) fn take(&mut self, call: ToolCall) -> Vec<Told> {
        let fields = ToolCallUpdateFields::new()
            .kind(call.kind)
            .status(call.status)
            .title(call.title)
            .content(call.content)
            .locations(call.locations)
            .raw_input(call.raw_input)
            .raw_output(call.raw_output);
        self.update(ToolCallUpdate::new(call.tool_call_id, fields))
    }

    /// Takes a change of a call.
    pub(super) fn update(&mut self, update: ToolCallUpdate) -> Vec<Told> {
        let id = update.tool_call_id.to_string();
        let status = update.fields.status;
        let seen = self.seen.entry(id.clone()).or_insert_with(Seen::new);
        seen.merge(update.fields);
        match status {
            Some(ToolCallStatus::Completed) => seen.end(&id, ToolOutcome::Ok),
            Some(ToolCallStatus::Failed) => seen.end(&id, ToolOutcome::Error),
            Some(ToolCallStatus::InProgress) => seen.begin(&id).into_iter().collect(),
            // A call may be told before the model has said what it gives to the tool.
            _ => Vec::new(),
        }
    }

    /// A person, or a rule, is asked about a call: as it is judged, and what is to be told first.
    pub(super) fn asked(&mut self, update: ToolCallUpdate) -> (Call, Vec<Told>) {
        let id = update.tool_call_id.to_string();
        let seen = self.seen.entry(id.clone()).or_insert_with(Seen::new);
        let known = (!seen.input.is_null() && seen.input != json!({})).then(|| seen.input.clone());
        seen.merge(update.fields);
        // What the question is about may be told differently from what the tool is given; both are judged.
        if let Some(known) = known {
            seen.input = merged(known, &seen.input);
        }
        let told = seen.begin(&id).into_iter().collect();
        (seen.call(&id), told)
    }

    /// A call was refused by us.
    pub(super) fn refuse(&mut self, id: &str, by_ask_rule: bool) {
        if let Some(seen) = self.seen.get_mut(id) {
            seen.refused = Some(by_ask_rule);
        }
    }

    /// The turn is over: calls that were refused are told so, the others were broken off.
    pub(super) fn close(&mut self) -> Vec<Told> {
        let open = self.seen.iter_mut().filter(|(_, seen)| seen.is_begun && !seen.is_ended);
        open.flat_map(|(id, seen)| seen.end(id, ToolOutcome::Interrupted)).collect()
    }
}

impl Seen {
    /// A call of which nothing is known.
    fn new() -> Self {
        Self {
            kind: ToolKind::Other,
            title: String::new(),
            input: Value::Null,
            paths: Vec::new(),
            text: String::new(),
            output: Value::Null,
            since: Instant::now(),
            is_begun: false,
            is_ended: false,
            refused: None,
        }
    }

    /// Takes what is told now.
    fn merge(&mut self, fields: ToolCallUpdateFields) {
        if let Some(kind) = fields.kind {
            self.kind = kind;
        }
        if let Some(title) = fields.title {
            self.title = title;
        }
        if let Some(input) = fields.raw_input {
            self.input = input;
        }
        if let Some(locations) = fields.locations {
            self.paths = locations.iter().map(|location| location.path.display().to_string()).collect();
        }
        if let Some(content) = fields.content {
            self.text = text_of(&content);
            self.paths.extend(content.iter().filter_map(|content| match content {
                ToolCallContent::Diff(diff) => Some(diff.path.display().to_string()),
                _ => None,
            }));
        }
        if let Some(output) = fields.raw_output {
            self.output = output;
        }
    }

    /// The call in our words, so that the rules of agent definitions hold for it.
    fn call(&self, id: &str) -> Call {
        let tool = match self.kind {
            ToolKind::Read => "Read",
            ToolKind::Edit => "Edit",
            ToolKind::Delete => "Delete",
            ToolKind::Move => "Move",
            ToolKind::Search => "Grep",
            ToolKind::Execute => "Bash",
            ToolKind::Think => "Think",
            ToolKind::Fetch => "WebFetch",
            ToolKind::SwitchMode => "SwitchMode",
            _ if !self.title.is_empty() => &self.title,
            _ => "Tool",
        };
        let mut input = match &self.input {
            Value::Object(fields) => fields.clone(),
            Value::Null => Map::new(),
            other => Map::from_iter([("input".to_owned(), other.clone())]),
        };
        if self.kind == ToolKind::Execute && !input.contains_key("command") {
            input.insert("command".to_owned(), json!(self.title));
        }
        let is_file = matches!(self.kind, ToolKind::Read | ToolKind::Edit | ToolKind::Delete | ToolKind::Move);
        if let (true, Some(path)) = (is_file, self.paths.first()) {
            input.insert("file_path".to_owned(), json!(path));
        }
        Call { id: id.to_owned(), tool: tool.to_owned(), input: Value::Object(input) }
    }

    /// Tells the beginning, once.
    fn begin(&mut self, id: &str) -> Option<Told> {
        if std::mem::replace(&mut self.is_begun, true) {
            return None;
        }
        self.since = Instant::now();
        let call = self.call(id);
        let report =
            Report::ToolStarted { call_id: call.id.clone(), tool: call.tool.clone(), input: call.input.clone() };
        Some(Told::Began(call, report))
    }

    /// Tells the end, once, and the beginning before it where that was never told.
    fn end(&mut self, id: &str, outcome: ToolOutcome) -> Vec<Told> {
        if std::mem::replace(&mut self.is_ended, true) {
            return Vec::new();
        }
        let began = self.begin(id);
        let exit_code = EXIT_CODES.iter().find_map(|pointer| self.output.pointer(pointer)).and_then(Value::as_i64);
        let exit_code = exit_code.and_then(|code| i32::try_from(code).ok());
        let outcome = match (outcome, self.refused, exit_code) {
            (ToolOutcome::Ok, _, Some(code)) if code != 0 => ToolOutcome::Error,
            (ToolOutcome::Ok, ..) => ToolOutcome::Ok,
            (_, Some(_), _) => ToolOutcome::Denied,
            (outcome, ..) => outcome,
        };
        let text = self.result_text();
        let call = self.call(id);
        let error = (outcome != ToolOutcome::Ok).then(|| match exit_code {
            Some(code) if code != 0 => format!("exit code {code}"),
            _ => text.chars().take(ERROR_LIMIT).collect(),
        });
        let report = Report::ToolEnded(ToolReport {
            call_id: call.id.clone(),
            outcome,
            error: error.filter(|error| !error.is_empty()),
            exit_code,
            duration_ms: u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            output_bytes: text.len() as u64,
            by_ask_rule: self.refused == Some(true),
        });
        let output = Output { bytes: text.len() as u64, text, outcome, exit_code };
        began.into_iter().chain([Told::Ended(call, output, report)]).collect()
    }

    /// What it returned, as a text.
    fn result_text(&self) -> String {
        let raw = |pointer: &str| self.output.pointer(pointer).and_then(Value::as_str).map(ToOwned::to_owned);
        let text = Some(self.text.clone()).filter(|text| !text.is_empty());
        text.or_else(|| raw("/error")).or_else(|| raw("/output")).or_else(|| raw("")).unwrap_or_default()
    }
}

/// The fields of both; those of `over` count where both have one.
fn merged(below: Value, over: &Value) -> Value {
    match (below, over) {
        (Value::Object(mut below), Value::Object(over)) => {
            below.extend(over.iter().map(|(name, value)| (name.clone(), value.clone())));
            Value::Object(below)
        }
        (_, over) => over.clone(),
    }
}

/// The text in what a call returned.
fn text_of(content: &[ToolCallContent]) -> String {
    let text = |content: &ToolCallContent| match content {
        ToolCallContent::Content(content) => match &content.content {
            ContentBlock::Text(text) => Some(text.text.clone()),
            _ => None,
        },
        _ => None,
    };
    content.iter().filter_map(text).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change as an agent sends it.
    fn update(value: Value) -> ToolCallUpdate {
        serde_json::from_value(value).unwrap()
    }

    /// What was told, in short.
    fn short(told: &[Told]) -> Vec<String> {
        let one = |told: &Told| match told {
            Told::Began(call, _) => format!("began {} {}", call.tool, call.input),
            Told::Ended(call, output, Report::ToolEnded(end)) => {
                format!("ended {} {:?} {:?} {:?}", call.tool, output.outcome, end.exit_code, end.error)
            }
            Told::Ended(..) => "odd".to_owned(),
        };
        told.iter().map(one).collect()
    }

    #[test]
    fn a_command_is_told_once_and_its_exit_code_makes_an_error() {
        let mut calls = Calls::default();
        let call: ToolCall = serde_json::from_value(json!({"toolCallId": "c1", "title": "bash", "kind": "execute",
            "status": "pending", "rawInput": {"cwd": "/w"}}))
        .unwrap();
        assert!(calls.take(call).is_empty());
        let running = json!({"toolCallId": "c1", "status": "in_progress", "title": "exit 3",
            "rawInput": {"command": "exit 3"}});
        assert_eq!(short(&calls.update(update(running.clone()))), [r#"began Bash {"command":"exit 3"}"#]);
        assert!(calls.update(update(running)).is_empty());
        let done = json!({"toolCallId": "c1", "status": "completed",
            "content": [{"type": "content", "content": {"type": "text", "text": "oops"}}],
            "rawOutput": {"output": "oops", "metadata": {"exit": 3}}});
        assert_eq!(short(&calls.update(update(done.clone()))), [r#"ended Bash Error Some(3) Some("exit code 3")"#]);
        assert!(calls.update(update(done)).is_empty() && calls.close().is_empty());
    }

    #[test]
    fn a_refused_call_is_denied_however_the_agent_tells_it() {
        let mut calls = Calls::default();
        let ask = json!({"toolCallId": "c2", "title": "/w/a.txt", "kind": "edit",
            "locations": [{"path": "/w/a.txt"}], "rawInput": {"diff": ""}});
        let (call, told) = calls.asked(update(ask));
        assert_eq!((call.tool.as_str(), &call.input["file_path"]), ("Edit", &json!("/w/a.txt")));
        assert_eq!(told.len(), 1);
        calls.refuse("c2", true);
        let failed = json!({"toolCallId": "c2", "status": "failed", "rawOutput": {"error": "rejected"}});
        assert_eq!(short(&calls.update(update(failed))), [r#"ended Edit Denied None Some("rejected")"#]);
        calls.asked(update(json!({"toolCallId": "c3", "title": "ls", "kind": "execute"})));
        calls.refuse("c3", false);
        assert_eq!(short(&calls.close()), ["ended Bash Denied None None"]);
    }
}
