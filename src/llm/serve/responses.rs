//! OpenAI's responses (platform.openai.com/docs/api-reference/responses), which Codex speaks. Stateless: every request
//! repeats the conversation in `input`, as Codex does; `previous_response_id` is not understood.

use std::cell::Cell;

use serde_json::{Value, json};

use super::openai;
use super::protocol::{Asked, Frames, Messages, Protocol, arguments, arguments_text, fresh_id, seconds, text, texts};
use crate::llm::message::{Block, StopReason};
use crate::llm::play::Step;
use crate::llm::replay::pieces;

/// The API.
pub(super) struct Responses;

impl Protocol for Responses {
    fn read(&self, body: &Value) -> Asked {
        let mut asked = Asked::new(body);
        let mut system = texts(&body["instructions"]);
        let mut messages = Messages::default();
        if let Some(said) = body["input"].as_str() {
            messages.say(said.to_owned());
        }
        for item in body["input"].as_array().into_iter().flatten() {
            read_item(item, &mut system, &mut messages);
        }
        asked.dialogue.system = system.join("\n");
        asked.dialogue.messages = messages.finish();
        asked
    }

    fn stream_type(&self) -> &'static str {
        "text/event-stream"
    }

    fn frames(&self, asked: &Asked, step: &Step) -> Frames {
        let events = Events { next: Cell::new(0) };
        let id = fresh_id("resp");
        let begun = response(&id, asked, "in_progress", &[], None);
        let start = ["response.created", "response.in_progress"];
        let start = start.map(|kind| events.event(kind, json!({"response": begun}))).to_vec();
        let items: Vec<Value> = step.blocks.iter().map(|block| item(asked, block)).collect();
        let each = step.blocks.iter().zip(&items).enumerate();
        let content = each.flat_map(|(index, (block, item))| events.of_item(index, block, item)).collect();
        let (status, kind) = match step.stop {
            StopReason::End => ("completed", "response.completed"),
            _ => ("incomplete", "response.incomplete"),
        };
        let done = response(&id, asked, status, &items, Some(step));
        Frames { start, content, end: vec![events.event(kind, json!({"response": done}))] }
    }

    fn whole(&self, asked: &Asked, step: &Step) -> Value {
        let items: Vec<Value> = step.blocks.iter().map(|block| item(asked, block)).collect();
        let status = if step.stop == StopReason::End { "completed" } else { "incomplete" };
        response(&fresh_id("resp"), asked, status, &items, Some(step))
    }

    fn error(&self, status: u16, message: &str) -> Value {
        openai::error(status, message)
    }

    fn error_frame(&self, message: &str) -> String {
        let error = json!({"code": "server_error", "message": message});
        let response = json!({
            "id": fresh_id("resp"), "object": "response", "created_at": seconds(), "status": "failed",
            "error": error, "output": [], "usage": null,
        });
        let event = json!({"type": "response.failed", "sequence_number": 0, "response": response});
        format!("event: response.failed\ndata: {event}\n\n")
    }
}

/// Reads one item of the input.
fn read_item(item: &Value, system: &mut Vec<String>, messages: &mut Messages) {
    match (item["type"].as_str().unwrap_or("message"), item["role"].as_str()) {
        ("message", Some("system" | "developer")) => system.append(&mut texts(&item["content"])),
        ("message", Some("assistant")) => {
            messages.answer_begins();
            texts(&item["content"]).into_iter().for_each(|text| messages.answer(Block::Text { text }));
        }
        ("message", _) => texts(&item["content"]).into_iter().for_each(|text| messages.say(text)),
        ("reasoning", _) => {
            let text = texts(&item["summary"]).join("\n");
            messages.answer(Block::Thinking { text, signature: None });
        }
        ("function_call" | "custom_tool_call", _) => {
            let written = item["arguments"].as_str().or_else(|| item["input"].as_str()).unwrap_or_default();
            messages.answer(Block::ToolCall {
                id: text(&item["call_id"]),
                name: text(&item["name"]),
                input: arguments(written),
            });
        }
        ("function_call_output" | "custom_tool_call_output", _) => {
            let output = match &item["output"] {
                Value::Object(object) => object.get("content").map(texts).unwrap_or_default(),
                output => texts(output),
            };
            messages.result(text(&item["call_id"]), String::new(), output.join("\n"), false);
        }
        _ => {}
    }
}

/// A block as an item of the output. A tool that takes free text, such as Codex's patches, is called in its own way.
fn item(asked: &Asked, block: &Block) -> Value {
    match block {
        Block::Text { text } => json!({
            "id": fresh_id("msg"), "type": "message", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": text, "annotations": []}],
        }),
        Block::Thinking { text, .. } => json!({
            "id": fresh_id("rs"), "type": "reasoning", "summary": [{"type": "summary_text", "text": text}],
        }),
        Block::ToolCall { id, name, input } if takes_text(asked, name) => json!({
            "id": fresh_id("ctc"), "type": "custom_tool_call", "status": "completed", "call_id": id, "name": name,
            "input": arguments_text(input),
        }),
        Block::ToolCall { id, name, input } => json!({
            "id": fresh_id("fc"), "type": "function_call", "status": "completed", "call_id": id, "name": name,
            "arguments": arguments_text(input),
        }),
    }
}

/// Whether the request declares a tool as one that takes free text.
fn takes_text(asked: &Asked, name: &str) -> bool {
    let tools = asked.body["tools"].as_array();
    tools.into_iter().flatten().any(|tool| tool["type"] == "custom" && tool["name"] == name)
}

/// The response as such.
fn response(id: &str, asked: &Asked, status: &str, items: &[Value], step: Option<&Step>) -> Value {
    let why = match step.map(|step| &step.stop) {
        Some(StopReason::Length) => json!({"reason": "max_output_tokens"}),
        Some(StopReason::Refused(_)) => json!({"reason": "content_filter"}),
        _ => Value::Null,
    };
    json!({
        "id": id, "object": "response", "created_at": seconds(), "status": status, "model": asked.model,
        "output": items, "error": null, "incomplete_details": why, "parallel_tool_calls": true,
        "usage": step.map(usage),
    })
}

/// Tokens in the API's words.
fn usage(step: &Step) -> Value {
    let (input, output) = (step.tokens.input_tokens, step.tokens.output_tokens);
    json!({
        "input_tokens": input, "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": output, "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input + output,
    })
}

/// Numbers the events of one stream.
struct Events {
    /// The next number.
    next: Cell<u64>,
}

impl Events {
    /// One event with its fields.
    fn event(&self, kind: &str, mut fields: Value) -> String {
        fields["type"] = json!(kind);
        fields["sequence_number"] = json!(self.next.replace(self.next.get() + 1));
        format!("event: {kind}\ndata: {fields}\n\n")
    }

    /// The events of one item of the output.
    fn of_item(&self, index: usize, block: &Block, item: &Value) -> Vec<String> {
        let place = |mut fields: Value| {
            fields["output_index"] = json!(index);
            fields["item_id"] = item["id"].clone();
            fields
        };
        let deltas = |kind: &str, text: &str, mut fields: Value| -> Vec<String> {
            let all = pieces(text).map(|piece| {
                fields["delta"] = json!(piece);
                self.event(kind, place(fields.clone()))
            });
            all.collect()
        };
        let mut begun = item.clone();
        begun["status"] = json!("in_progress");
        for key in ["content", "summary"].into_iter().filter(|key| !item[*key].is_null()) {
            begun[key] = json!([]);
        }
        for key in ["arguments", "input"].into_iter().filter(|key| !item[*key].is_null()) {
            begun[key] = json!("");
        }
        let mut all = vec![self.event("response.output_item.added", json!({"output_index": index, "item": begun}))];
        match block {
            Block::Text { text } => {
                let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": []});
                let at = || json!({"content_index": 0});
                let with = |key: &str, value: Value| {
                    let mut fields = at();
                    fields[key] = value;
                    place(fields)
                };
                all.push(self.event("response.content_part.added", with("part", part(""))));
                all.extend(deltas("response.output_text.delta", text, at()));
                all.push(self.event("response.output_text.done", with("text", json!(text))));
                all.push(self.event("response.content_part.done", with("part", part(text))));
            }
            Block::Thinking { text, .. } => {
                let at = json!({"summary_index": 0});
                all.extend(deltas("response.reasoning_summary_text.delta", text, at));
            }
            Block::ToolCall { input, .. } => {
                let written = arguments_text(input);
                let (kind, key) = match item["type"].as_str() {
                    Some("custom_tool_call") => ("response.custom_tool_call_input", "input"),
                    _ => ("response.function_call_arguments", "arguments"),
                };
                all.extend(deltas(&format!("{kind}.delta"), &written, json!({})));
                let mut fields = json!({});
                fields[key] = json!(written);
                all.push(self.event(&format!("{kind}.done"), place(fields)));
            }
        }
        all.push(self.event("response.output_item.done", json!({"output_index": index, "item": item})));
        all
    }
}
