//! Anthropic's Messages API (docs.anthropic.com/en/api/messages and /messages-streaming).

use serde_json::{Value, json};

use super::protocol::{Asked, Frames, Messages, Protocol, arguments_text, fresh_id, text, texts};
use crate::llm::message::{Block, StopReason};
use crate::llm::play::Step;
use crate::llm::replay::pieces;

/// How Claude Code begins, inside a tool result, what a person said while the tool ran (measured with 2.1.329).
const STEERED: &str = "The user sent a new message while you were working:\n";

/// What ends such a message: the agent's own explanation of it, or its frame.
const STEERED_END: [&str; 2] = ["\n\nThis is how Claude Code surfaces", "\n</system-reminder>"];

/// The API.
pub(super) struct Anthropic;

impl Protocol for Anthropic {
    fn read(&self, body: &Value) -> Asked {
        let mut asked = Asked::new(body);
        asked.wants_json = !body["output_config"]["format"].is_null();
        let mut system = texts(&body["system"]);
        let mut messages = Messages::default();
        for message in body["messages"].as_array().into_iter().flatten() {
            match message["role"].as_str() {
                // Claude Code adds system messages behind the prompt.
                Some("system") => system.append(&mut texts(&message["content"])),
                Some("assistant") => read_answer(&message["content"], &mut messages),
                Some("user") => read_told(&message["content"], &mut messages),
                _ => {}
            }
        }
        asked.dialogue.system = system.join("\n");
        asked.dialogue.messages = messages.finish();
        asked
    }

    fn stream_type(&self) -> &'static str {
        "text/event-stream"
    }

    fn frames(&self, asked: &Asked, step: &Step) -> Frames {
        let usage = json!({
            "input_tokens": step.tokens.input_tokens, "output_tokens": 1,
            "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0,
        });
        let message = json!({
            "id": fresh_id("msg"), "type": "message", "role": "assistant", "model": asked.model,
            "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage,
        });
        let delta = json!({"stop_reason": stop_reason(step), "stop_sequence": null});
        let usage = json!({"output_tokens": step.tokens.output_tokens});
        Frames {
            start: vec![event(&json!({"type": "message_start", "message": message}))],
            content: step.blocks.iter().enumerate().flat_map(|(index, block)| block_events(index, block)).collect(),
            end: vec![
                event(&json!({"type": "message_delta", "delta": delta, "usage": usage})),
                event(&json!({"type": "message_stop"})),
            ],
        }
    }

    fn whole(&self, asked: &Asked, step: &Step) -> Value {
        let content = step.blocks.iter().map(|block| match block {
            Block::Text { text } => json!({"type": "text", "text": text}),
            Block::Thinking { text, signature } => {
                json!({"type": "thinking", "thinking": text, "signature": signed(signature.as_deref())})
            }
            Block::ToolCall { id, name, input } => json!({"type": "tool_use", "id": id, "name": name, "input": input}),
        });
        let usage = json!({"input_tokens": step.tokens.input_tokens, "output_tokens": step.tokens.output_tokens});
        json!({
            "id": fresh_id("msg"), "type": "message", "role": "assistant", "model": asked.model,
            "content": content.collect::<Value>(), "stop_reason": stop_reason(step), "stop_sequence": null, "usage": usage,
        })
    }

    fn error(&self, status: u16, message: &str) -> Value {
        json!({"type": "error", "error": {"type": error_kind(status), "message": message}})
    }

    fn error_frame(&self, message: &str) -> String {
        event(&json!({"type": "error", "error": {"type": "overloaded_error", "message": message}}))
    }
}

/// The API's word for what a status means.
fn error_kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

/// Reads a message of the model.
fn read_answer(content: &Value, messages: &mut Messages) {
    messages.answer_begins();
    if let Some(said) = content.as_str() {
        messages.answer(Block::Text { text: said.to_owned() });
    }
    for part in content.as_array().into_iter().flatten() {
        match part["type"].as_str() {
            Some("text") => messages.answer(Block::Text { text: text(&part["text"]) }),
            Some("thinking") => messages.answer(Block::Thinking {
                text: text(&part["thinking"]),
                signature: part["signature"].as_str().map(str::to_owned),
            }),
            Some("tool_use") => messages.answer(Block::ToolCall {
                id: text(&part["id"]),
                name: text(&part["name"]),
                input: part["input"].clone(),
            }),
            _ => {}
        }
    }
}

/// Reads a message to the model: tool results, then what was said while the tools ran, then other texts.
fn read_told(content: &Value, messages: &mut Messages) {
    let mut steered = Vec::new();
    for part in content.as_array().into_iter().flatten().filter(|part| part["type"] == "tool_result") {
        let told = texts(&part["content"]);
        steered.extend(told.iter().flat_map(|text| steering(text)));
        messages.result(text(&part["tool_use_id"]), String::new(), told.join("\n"), part["is_error"] == true);
    }
    let said = match content {
        Value::Array(parts) => {
            parts.iter().filter(|part| part["type"] == "text").map(|part| text(&part["text"])).collect()
        }
        content => texts(content),
    };
    steered.into_iter().chain(said).for_each(|text| messages.say(text));
}

/// What a person said, inside a tool result.
fn steering(result: &str) -> Vec<String> {
    let said = result.split(STEERED).skip(1).map(|rest| {
        let end = STEERED_END.iter().filter_map(|end| rest.find(end)).min().unwrap_or(rest.len());
        rest[..end].to_owned()
    });
    said.collect()
}

/// One server-sent event, named as its `type`.
fn event(event: &Value) -> String {
    format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default())
}

/// The events of a block.
fn block_events(index: usize, block: &Block) -> Vec<String> {
    let (content, deltas): (Value, Vec<Value>) = match block {
        Block::Text { text } => {
            let deltas = pieces(text).map(|piece| json!({"type": "text_delta", "text": piece}));
            (json!({"type": "text", "text": ""}), deltas.collect())
        }
        Block::Thinking { text, signature } => {
            let deltas = pieces(text).map(|piece| json!({"type": "thinking_delta", "thinking": piece}));
            let proof = json!({"type": "signature_delta", "signature": signed(signature.as_deref())});
            (json!({"type": "thinking", "thinking": "", "signature": ""}), deltas.chain([proof]).collect())
        }
        Block::ToolCall { id, name, input } => {
            let input = arguments_text(input);
            let deltas = pieces(&input).map(|piece| json!({"type": "input_json_delta", "partial_json": piece}));
            (json!({"type": "tool_use", "id": id, "name": name, "input": {}}), deltas.collect())
        }
    };
    let start = json!({"type": "content_block_start", "index": index, "content_block": content});
    let deltas = deltas.into_iter().map(|delta| json!({"type": "content_block_delta", "index": index, "delta": delta}));
    let stop = json!({"type": "content_block_stop", "index": index});
    [start].into_iter().chain(deltas).chain([stop]).map(|one| event(&one)).collect()
}

/// The signature of a thought; clients want one.
fn signed(signature: Option<&str>) -> &str {
    signature.unwrap_or("c2NyaXB0ZWQ=")
}

/// Why the message ended, in the API's word.
fn stop_reason(step: &Step) -> &'static str {
    match &step.stop {
        StopReason::Length => "max_tokens",
        StopReason::Refused(_) => "refusal",
        StopReason::End if step.blocks.iter().any(|block| matches!(block, Block::ToolCall { .. })) => "tool_use",
        StopReason::End => "end_turn",
    }
}
