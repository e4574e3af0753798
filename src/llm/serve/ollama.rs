//! Ollama's own API (docs.ollama.com/api): `/api/chat` and what clients ask before it.

use serde_json::{Value, json};

use super::protocol::{Asked, Frames, Messages, Protocol, text};
use crate::llm::message::{Block, StopReason};
use crate::llm::play::Step;
use crate::llm::replay::pieces;
use crate::llm::script::ServedModel;
use crate::model::Time;

/// The version that the server says it is: new enough for every client.
const VERSION: &str = "0.40.0";

/// What a model is said to hold where the script does not say.
const CONTEXT: u64 = 131_072;

/// The API.
pub(super) struct Ollama;

impl Protocol for Ollama {
    fn read(&self, body: &Value) -> Asked {
        let mut asked = Asked::new(body);
        asked.is_stream = body["stream"] != false;
        let mut system = Vec::new();
        let mut messages = Messages::default();
        let mut unanswered = Vec::new();
        for message in body["messages"].as_array().into_iter().flatten() {
            let content = text(&message["content"]);
            match message["role"].as_str() {
                Some("system") => system.push(content),
                Some("assistant") => unanswered = read_answer(message, content, &mut messages),
                Some("tool") => {
                    // Results name their calls by their order; newer clients also by id.
                    let next = if unanswered.is_empty() { String::new() } else { unanswered.remove(0) };
                    let id = message["tool_call_id"].as_str().map_or(next, str::to_owned);
                    let name = message["tool_name"].as_str().or_else(|| message["name"].as_str()).unwrap_or_default();
                    messages.result(id, name.to_owned(), content, false);
                }
                _ => messages.say(content),
            }
        }
        asked.dialogue.system = system.join("\n");
        asked.dialogue.messages = messages.finish();
        asked
    }

    fn stream_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn frames(&self, asked: &Asked, step: &Step) -> Frames {
        let mut content = Vec::new();
        for block in &step.blocks {
            match block {
                Block::Text { text } => content.extend(pieces(text).map(|piece| json!({"content": piece}))),
                Block::Thinking { text, .. } => {
                    content.extend(pieces(text).map(|piece| json!({"content": "", "thinking": piece})));
                }
                Block::ToolCall { .. } => content.push(json!({"content": "", "tool_calls": [tool_call(block)]})),
            }
        }
        let lines = content.into_iter().map(|mut message| {
            message["role"] = json!("assistant");
            line(&json!({"model": asked.model, "created_at": Time::now(), "message": message, "done": false}))
        });
        Frames {
            start: Vec::new(),
            content: lines.collect(),
            end: vec![line(&last(asked, step, json!({"content": ""})))],
        }
    }

    fn whole(&self, asked: &Asked, step: &Step) -> Value {
        let of = |wanted: fn(&Block) -> Option<&str>| step.blocks.iter().filter_map(wanted).collect::<String>();
        let mut message = json!({"content": of(|block| match block {
            Block::Text { text } => Some(text),
            _ => None,
        })});
        let thought = of(|block| match block {
            Block::Thinking { text, .. } => Some(text),
            _ => None,
        });
        if !thought.is_empty() {
            message["thinking"] = json!(thought);
        }
        let calls: Vec<Value> =
            step.blocks.iter().filter(|block| matches!(block, Block::ToolCall { .. })).map(tool_call).collect();
        if !calls.is_empty() {
            message["tool_calls"] = json!(calls);
        }
        last(asked, step, message)
    }

    fn error(&self, _status: u16, message: &str) -> Value {
        json!({"error": message})
    }

    fn error_frame(&self, message: &str) -> String {
        line(&json!({"error": message}))
    }
}

/// Reads a message of the model; the ids of its calls come back.
fn read_answer(message: &Value, content: String, messages: &mut Messages) -> Vec<String> {
    messages.answer_begins();
    if let Some(thought) = message["thinking"].as_str().filter(|thought| !thought.is_empty()) {
        messages.answer(Block::Thinking { text: thought.to_owned(), signature: None });
    }
    if !content.is_empty() {
        messages.answer(Block::Text { text: content });
    }
    let calls = message["tool_calls"].as_array().into_iter().flatten().enumerate().map(|(index, call)| {
        let id = call["id"].as_str().map_or_else(|| format!("call_{index}"), str::to_owned);
        let function = &call["function"];
        messages.answer(Block::ToolCall {
            id: id.clone(),
            name: text(&function["name"]),
            input: function["arguments"].clone(),
        });
        id
    });
    calls.collect()
}

/// A call as the API has it.
fn tool_call(block: &Block) -> Value {
    match block {
        Block::ToolCall { id, name, input } => json!({"id": id, "function": {"name": name, "arguments": input}}),
        _ => Value::Null,
    }
}

/// The object that ends an answer.
fn last(asked: &Asked, step: &Step, mut message: Value) -> Value {
    message["role"] = json!("assistant");
    let reason = if step.stop == StopReason::Length { "length" } else { "stop" };
    json!({
        "model": asked.model, "created_at": Time::now(), "message": message, "done": true, "done_reason": reason,
        "total_duration": 2_000_000, "load_duration": 1_000_000,
        "prompt_eval_count": step.tokens.input_tokens, "prompt_eval_duration": 500_000,
        "eval_count": step.tokens.output_tokens, "eval_duration": 500_000,
    })
}

/// A line of a stream.
fn line(value: &Value) -> String {
    format!("{value}\n")
}

/// `GET /api/version`.
pub(super) fn version() -> Value {
    json!({"version": VERSION})
}

/// `GET /api/tags`.
pub(super) fn tags(models: &[ServedModel]) -> Value {
    json!({"models": models.iter().map(described).collect::<Vec<_>>()})
}

/// `GET /api/ps`: every model is loaded.
pub(super) fn running(models: &[ServedModel]) -> Value {
    let loaded = models.iter().map(|model| {
        let mut entry = described(model);
        entry["expires_at"] = json!(Time::now());
        entry["size_vram"] = json!(0);
        entry["context_length"] = json!(model.context.unwrap_or(CONTEXT));
        entry
    });
    json!({"models": loaded.collect::<Vec<_>>()})
}

/// `POST /api/show`.
pub(super) fn show(model: &ServedModel) -> Value {
    let mut capabilities = vec!["completion"];
    if model.tools {
        capabilities.push("tools");
    }
    json!({
        "capabilities": capabilities, "details": details(), "modified_at": Time::from_millis(0), "parameters": "",
        "template": "", "license": "",
        "model_info": {"general.architecture": "script", "script.context_length": model.context.unwrap_or(CONTEXT)},
    })
}

/// The answer to a chat without messages, by which clients load and unload a model.
pub(super) fn loaded(asked: &Asked) -> Value {
    let reason = if asked.body["keep_alive"] == 0 { "unload" } else { "load" };
    let message = json!({"role": "assistant", "content": ""});
    json!({
        "model": asked.model, "created_at": Time::now(), "message": message, "done": true, "done_reason": reason,
    })
}

/// A model in a list.
fn described(model: &ServedModel) -> Value {
    json!({
        "name": model.name, "model": model.name, "modified_at": Time::from_millis(0), "size": 0,
        "digest": "0".repeat(64), "details": details(),
    })
}

/// What a scripted model is made of.
fn details() -> Value {
    json!({"format": "script", "family": "script", "families": ["script"], "parameter_size": "0", "quantization_level": "none"})
}
