//! OpenAI's chat completions (platform.openai.com/docs/api-reference/chat), as compatible servers speak them.

use serde_json::{Value, json};

use super::protocol::{Asked, Frames, Messages, Protocol, arguments, arguments_text, fresh_id, seconds, text, texts};
use crate::llm::message::{Block, StopReason};
use crate::llm::play::Step;
use crate::llm::replay::pieces;

/// The API.
pub(super) struct Completions;

impl Protocol for Completions {
    fn read(&self, body: &Value) -> Asked {
        let mut asked = Asked::new(body);
        let mut system = Vec::new();
        let mut messages = Messages::default();
        for message in body["messages"].as_array().into_iter().flatten() {
            let content = &message["content"];
            match message["role"].as_str() {
                Some("system" | "developer") => system.append(&mut texts(content)),
                Some("assistant") => read_answer(message, &mut messages),
                Some("tool") => {
                    messages.result(text(&message["tool_call_id"]), String::new(), texts(content).join("\n"), false);
                }
                _ => texts(content).into_iter().for_each(|text| messages.say(text)),
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
        let (id, created) = (fresh_id("chatcmpl"), seconds());
        let chunk = |delta: Value, finish: Value| {
            let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
            json!({
                "id": id, "object": "chat.completion.chunk", "created": created, "model": asked.model,
                "choices": [choice],
            })
        };
        let start = chunk(json!({"role": "assistant", "content": ""}), Value::Null);
        let content = deltas(&step.blocks).into_iter().map(|delta| data(&chunk(delta, Value::Null))).collect();
        let mut end = vec![data(&chunk(json!({}), json!(finish_reason(step))))];
        if asked.body["stream_options"]["include_usage"] == true {
            let mut last = chunk(json!({}), Value::Null);
            last["choices"] = json!([]);
            last["usage"] = usage(step);
            end.push(data(&last));
        }
        end.push("data: [DONE]\n\n".to_owned());
        Frames { start: vec![data(&start)], content, end }
    }

    fn whole(&self, asked: &Asked, step: &Step) -> Value {
        let mut message = json!({"role": "assistant", "content": null});
        let (mut said, mut thought, mut calls) = (String::new(), String::new(), Vec::new());
        for block in &step.blocks {
            match block {
                Block::Text { text } => said.push_str(text),
                Block::Thinking { text, .. } => thought.push_str(text),
                Block::ToolCall { id, name, input } => {
                    let function = json!({"name": name, "arguments": arguments_text(input)});
                    calls.push(json!({"id": id, "type": "function", "function": function}));
                }
            }
        }
        if !said.is_empty() || calls.is_empty() {
            message["content"] = json!(said);
        }
        if !thought.is_empty() {
            message["reasoning_content"] = json!(thought);
        }
        if !calls.is_empty() {
            message["tool_calls"] = json!(calls);
        }
        let choice = json!({"index": 0, "message": message, "finish_reason": finish_reason(step)});
        json!({
            "id": fresh_id("chatcmpl"), "object": "chat.completion", "created": seconds(), "model": asked.model,
            "choices": [choice], "usage": usage(step),
        })
    }

    fn error(&self, status: u16, message: &str) -> Value {
        error(status, message)
    }

    fn error_frame(&self, message: &str) -> String {
        data(&error(500, message))
    }
}

/// The body of an error of every OpenAI API.
pub(super) fn error(status: u16, message: &str) -> Value {
    let (kind, code) = match status {
        401 => ("invalid_request_error", json!("invalid_api_key")),
        404 => ("invalid_request_error", json!("model_not_found")),
        429 => ("requests", json!("rate_limit_exceeded")),
        400..=499 => ("invalid_request_error", Value::Null),
        _ => ("server_error", Value::Null),
    };
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}

/// Reads a message of the model.
fn read_answer(message: &Value, messages: &mut Messages) {
    messages.answer_begins();
    let thought = ["reasoning_content", "reasoning"].iter().find_map(|key| message[*key].as_str());
    if let Some(thought) = thought.filter(|thought| !thought.is_empty()) {
        messages.answer(Block::Thinking { text: thought.to_owned(), signature: None });
    }
    for said in texts(&message["content"]).into_iter().filter(|said| !said.is_empty()) {
        messages.answer(Block::Text { text: said });
    }
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        let function = &call["function"];
        messages.answer(Block::ToolCall {
            id: text(&call["id"]),
            name: text(&function["name"]),
            input: arguments(function["arguments"].as_str().unwrap_or_default()),
        });
    }
}

/// One server-sent event.
fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

/// The deltas of a message; thoughts as most compatible servers send them.
fn deltas(blocks: &[Block]) -> Vec<Value> {
    let (mut deltas, mut calls) = (Vec::new(), 0);
    for block in blocks {
        match block {
            Block::Text { text } => deltas.extend(pieces(text).map(|piece| json!({"content": piece}))),
            Block::Thinking { text, .. } => {
                deltas.extend(pieces(text).map(|piece| json!({"reasoning_content": piece})));
            }
            Block::ToolCall { id, name, input } => {
                let function = json!({"name": name, "arguments": ""});
                let begin = json!({"index": calls, "id": id, "type": "function", "function": function});
                deltas.push(json!({"tool_calls": [begin]}));
                deltas.extend(
                    pieces(&arguments_text(input))
                        .map(|piece| json!({"tool_calls": [{"index": calls, "function": {"arguments": piece}}]})),
                );
                calls += 1;
            }
        }
    }
    deltas
}

/// Why the message ended, in the API's word.
fn finish_reason(step: &Step) -> &'static str {
    match &step.stop {
        StopReason::Length => "length",
        StopReason::Refused(_) => "content_filter",
        StopReason::End if step.blocks.iter().any(|block| matches!(block, Block::ToolCall { .. })) => "tool_calls",
        StopReason::End => "stop",
    }
}

/// Tokens in the API's words.
fn usage(step: &Step) -> Value {
    let (input, output) = (step.tokens.input_tokens, step.tokens.output_tokens);
    json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output})
}
