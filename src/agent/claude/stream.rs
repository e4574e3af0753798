//! The event stream of print mode: one JSON object a line, amid whatever else the terminal carries.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::display;
use super::ending::PrintResult;
use super::hooks::{exit_code_in, exit_code_of, output_bytes};
use super::session::{Running, Session};
use crate::agent::event::{AgentEvent, ToolEnd, ToolStart, Usage};
use crate::agent::patience;
use crate::model::Time;
use crate::model::tool_call::ToolOutcome;

/// A line longer than this is left out: a tool result of that size is no use to anyone, and memory is finite.
const LINE_LIMIT: usize = 32 * 1024 * 1024;
/// How the program closes a turn that a person broke off.
const INTERRUPT_MARK: &str = "[Request interrupted by user";

/// How 2.1.197 begins and ends the error of a call that it refused; it says so nowhere else before the end.
const REFUSALS: [(&str, &str); 4] = [
    ("This command requires approval", ""),
    ("Claude requested permissions to ", " granted it yet."),
    ("Permission to use ", " has been denied."),
    ("Cannot write to ", " while in plan mode."),
];

/// The stream as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The line under way.
    line: Vec<u8>,
    /// Whether the line under way is too long and left out.
    is_skipping: bool,
    /// Paths in it are shown from there.
    worktree: PathBuf,
    /// The result of the last turn; none while a turn is under way.
    result: Option<PrintResult>,
    /// What the results add up to.
    usage: Usage,
    /// The last line that was no event.
    last_text: Option<String>,
    /// Which open calls were made by a sub-agent.
    nested: BTreeMap<String, bool>,
}

impl Stream {
    /// A stream that has not begun.
    pub(super) fn new(worktree: &Path) -> Self {
        Self { worktree: worktree.to_owned(), ..Self::default() }
    }

    /// The result of the last turn; `None` while a turn is under way and when the last one has none.
    pub(super) fn result(&self) -> Option<&PrintResult> {
        self.result.as_ref()
    }

    /// The figures of the results so far.
    pub(super) fn usage(&self) -> Usage {
        self.usage
    }

    /// The last line that was no event: where the program says why it did not start.
    pub(super) fn last_text(&self) -> Option<&str> {
        self.last_text.as_deref()
    }

    /// Takes bytes, cut anywhere.
    pub(super) fn feed(&mut self, bytes: &[u8], at: Time, session: &mut Session, events: &mut Vec<AgentEvent>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + piece.len() > LINE_LIMIT {
                self.is_skipping = true;
                self.line.clear();
            }
            if !self.is_skipping {
                self.line.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                self.finish(at, session, events);
            }
        }
    }

    /// Takes the line under way as if it were whole.
    pub(super) fn finish(&mut self, at: Time, session: &mut Session, events: &mut Vec<AgentEvent>) {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.is_skipping) {
            events.push(AgentEvent::Display("(a line of more than 32 MiB was left out)".to_owned()));
            return;
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\r', '\n']);
        // The program ends with a code that shows the cursor again; it may stand before a line as well.
        let body = text.trim().trim_start_matches("\x1b[?25h");
        if body.is_empty() {
            return;
        }
        match serde_json::from_str::<Value>(body) {
            Ok(event) if event.get("type").is_some_and(Value::is_string) => self.take(&event, at, session, events),
            _ => {
                self.last_text = Some(text.to_owned());
                events.push(AgentEvent::Display(text.to_owned()));
            }
        }
    }

    /// Takes one event; unknown ones tell nothing.
    fn take(&mut self, event: &Value, at: Time, session: &mut Session, events: &mut Vec<AgentEvent>) {
        let text = |field: &str| event.get(field).and_then(Value::as_str).unwrap_or("");
        if let Some(id) = event.get("session_id").and_then(Value::as_str) {
            session.identify(id, None, at, events);
        }
        match (text("type"), text("subtype")) {
            ("system", "init") => {
                self.result = None;
                session.note_running(at, events);
            }
            ("system", "api_retry") => {
                let status = event.get("error_status").and_then(Value::as_i64);
                let word = event.get("error").and_then(Value::as_str);
                let retry = retry(event);
                if let AgentEvent::Retry { reason } = &retry {
                    events.extend(patience::asked(status, word, reason, at));
                }
                events.push(retry);
            }
            ("system", "task_started") if !text("task_id").is_empty() && !text("tool_use_id").is_empty() => {
                session.name_parent(text("task_id"), text("tool_use_id"));
            }
            ("system", "permission_denied") => self.denied(event, at, session, events),
            ("assistant", _) => self.assistant(event, at, session, events),
            ("user", _) => self.user(event, at, session, events),
            ("result", _) => self.end_turn(event, at, session, events),
            _ => {}
        }
    }

    /// The content blocks of a message.
    fn blocks(event: &Value) -> impl Iterator<Item = &Value> {
        event.pointer("/message/content").and_then(Value::as_array).into_iter().flatten()
    }

    /// The model said something or called tools.
    fn assistant(&mut self, event: &Value, at: Time, session: &mut Session, events: &mut Vec<AgentEvent>) {
        let parent = event.get("parent_tool_use_id").and_then(Value::as_str);
        let agent = event.get("agent_id").and_then(Value::as_str);
        for block in Self::blocks(event) {
            let text = |field: &str| block.get(field).and_then(Value::as_str);
            match (text("type"), text("text"), text("id").zip(text("name"))) {
                (Some("text"), Some(said), _) => {
                    let lines = display::message(said, parent.is_some());
                    events.extend(lines.into_iter().map(AgentEvent::Display));
                }
                (Some("tool_use"), _, Some((id, tool))) => {
                    let input = block.get("input").cloned().unwrap_or(Value::Null);
                    let shown = display::call(tool, &input, &self.worktree, parent.is_some());
                    events.push(AgentEvent::Display(shown));
                    self.nested.insert(id.to_owned(), parent.is_some());
                    let start = ToolStart {
                        at,
                        call_id: id.to_owned(),
                        tool: tool.to_owned(),
                        input,
                        agent_id: agent.map(ToOwned::to_owned),
                        parent_call_id: parent.map(ToOwned::to_owned),
                    };
                    session.start_call(start, events);
                }
                _ => {}
            }
        }
    }

    /// Results of tools come back as messages of the user.
    fn user(&mut self, event: &Value, at: Time, session: &mut Session, events: &mut Vec<AgentEvent>) {
        for block in Self::blocks(event) {
            let text = |field: &str| block.get(field).and_then(Value::as_str);
            match (text("type"), text("tool_use_id")) {
                (Some("tool_result"), Some(id)) => self.end_call(event, block, id, at, session, events),
                (Some("text"), _) if text("text").is_some_and(|said| said.starts_with(INTERRUPT_MARK)) => {
                    events.push(AgentEvent::Display("(interrupted)".to_owned()));
                }
                _ => {}
            }
        }
    }

    /// One tool returned.
    fn end_call(
        &mut self,
        event: &Value,
        block: &Value,
        id: &str,
        at: Time,
        session: &mut Session,
        events: &mut Vec<AgentEvent>,
    ) {
        let is_error = block.get("is_error").and_then(Value::as_bool).unwrap_or(false);
        let said = content_text(block.get("content").unwrap_or(&Value::Null));
        let outcome = if is_error { error_outcome(event, id) } else { ToolOutcome::Ok };
        let is_nested = self.nested.remove(id).unwrap_or(false);
        let mut end = ToolEnd::bare(id.to_owned(), outcome, at);
        end.output_bytes = said.len() as u64;
        if is_error {
            let word = if outcome == ToolOutcome::Error { "error" } else { outcome_word(outcome) };
            events.push(AgentEvent::Display(display::failure(word, &said, is_nested)));
            end.exit_code = exit_code_in(&said);
            end.error = Some(said);
        } else if let Some(response) = event.get("tool_use_result").filter(|response| response.is_object()) {
            end.output_bytes = output_bytes(response);
            end.exit_code = exit_code_of(session.tool_of(id).unwrap_or(""), response, outcome);
        }
        session.end_call(end, false, events);
    }

    /// The program refused a call.
    fn denied(&mut self, event: &Value, at: Time, session: &mut Session, events: &mut Vec<AgentEvent>) {
        let text = |field: &str| event.get(field).and_then(Value::as_str);
        let Some(id) = text("tool_use_id") else { return };
        let mut end = ToolEnd::bare(id.to_owned(), ToolOutcome::Denied, at);
        end.error = text("message").or(text("decision_reason")).map(ToOwned::to_owned);
        session.end_call(end, false, events);
    }

    /// A turn ended.
    fn end_turn(&mut self, event: &Value, at: Time, session: &mut Session, events: &mut Vec<AgentEvent>) {
        let result = PrintResult::read(event);
        events.extend(result.patience(at));
        self.result = Some(result);
        self.usage = self.usage.merge(usage_of(event));
        session.end_turn(Running::default(), event.get("result").and_then(Value::as_str), at, events);
    }
}

/// How a call with an error ended. `non_execution_kind` says that the tool was not let to its end; a decision says
/// that it was a refusal, otherwise it was an interrupt (2.1.329). Without these fields the words decide.
fn error_outcome(event: &Value, id: &str) -> ToolOutcome {
    let metas = event.get("tool_result_meta").and_then(Value::as_array).into_iter().flatten();
    let meta = metas.into_iter().find(|meta| meta.get("id").and_then(Value::as_str) == Some(id));
    if let Some(meta) = meta {
        let decision = meta.pointer("/permission_decision/decision").and_then(Value::as_str);
        let is_execution = meta.get("non_execution_kind").is_none_or(Value::is_null);
        return match (is_execution, decision) {
            (_, Some("reject" | "deny")) => ToolOutcome::Denied,
            (false, _) => ToolOutcome::Interrupted,
            (true, _) => ToolOutcome::Error,
        };
    }
    let said = event.get("tool_use_result").and_then(Value::as_str).unwrap_or("");
    let is_refusal = REFUSALS.iter().any(|(start, end)| {
        said.strip_prefix("Error: ").is_some_and(|said| said.starts_with(start) && said.ends_with(end))
    });
    match said {
        "User rejected tool use" => ToolOutcome::Interrupted,
        _ if is_refusal => ToolOutcome::Denied,
        _ => ToolOutcome::Error,
    }
}

/// The word under which a call that did not run is shown.
fn outcome_word(outcome: ToolOutcome) -> &'static str {
    if outcome == ToolOutcome::Denied { "denied" } else { "interrupted" }
}

/// The text of a tool result: a text, or blocks of text and other things.
fn content_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let texts = blocks.iter().filter_map(|block| block.get("text").and_then(Value::as_str));
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// A request that is tried again.
fn retry(event: &Value) -> AgentEvent {
    let number = |field: &str| event.get(field).and_then(Value::as_u64);
    let error = event.get("error").and_then(Value::as_str).unwrap_or("unknown").replace('_', " ");
    let answered = match number("error_status") {
        Some(status) => format!("the provider answered {status} ({error})"),
        None => "the connection to the provider was lost".to_owned(),
    };
    let again = number("attempt").zip(number("max_retries"));
    let again = again.map(|(attempt, most)| format!(", retry {attempt} of {most}")).unwrap_or_default();
    AgentEvent::Retry { reason: display::plain(&format!("{answered}{again}")) }
}

/// The figures of a result. `modelUsage` covers the conversation with its sub-agents and every turn so far. A price
/// is believed only where all models are Anthropic's: others are priced as if they were (2.1.329).
fn usage_of(event: &Value) -> Usage {
    let count = |value: &Value, field: &str| value.get(field).and_then(Value::as_u64).unwrap_or(0);
    let Some(models) = event.get("modelUsage").and_then(Value::as_object).filter(|models| !models.is_empty()) else {
        let usage = event.get("usage").unwrap_or(&Value::Null);
        let inputs = ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"];
        let input_tokens = inputs.iter().map(|field| count(usage, field)).sum();
        return Usage { input_tokens, output_tokens: count(usage, "output_tokens"), ..Usage::default() };
    };
    let inputs = ["inputTokens", "cacheReadInputTokens", "cacheCreationInputTokens"];
    let input = |model: &Value| inputs.iter().map(|field| count(model, field)).sum::<u64>();
    let is_priced = models.keys().all(|model| has_price(model));
    Usage {
        input_tokens: models.values().map(input).sum(),
        output_tokens: models.values().map(|model| count(model, "outputTokens")).sum(),
        cost_usd: event.get("total_cost_usd").and_then(Value::as_f64).filter(|_| is_priced),
        is_estimated: false,
    }
}

/// Whether the program's price for a model can be believed.
pub(super) fn has_price(model: &str) -> bool {
    model.contains("claude")
}

#[cfg(test)]
mod tests;
