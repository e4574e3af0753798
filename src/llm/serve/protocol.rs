//! What the four APIs have in common for a server: a request is a conversation, an answer is a message that comes whole or
//! in frames.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use crate::llm::message::{Block, Message, ToolResult};
use crate::llm::play::{Dialogue, Step};
use crate::model::Time;

/// An API by which models are asked.
pub(super) trait Protocol: Sync {
    /// Reads a request's body.
    fn read(&self, body: &Value) -> Asked;

    /// The content type of its streams.
    fn stream_type(&self) -> &'static str;

    /// The message as a stream.
    fn frames(&self, asked: &Asked, step: &Step) -> Frames;

    /// The message as one document.
    fn whole(&self, asked: &Asked, step: &Step) -> Value;

    /// The body of an error answer.
    fn error(&self, status: u16, message: &str) -> Value;

    /// The frame that says, in the middle of a stream, that something failed.
    fn error_frame(&self, message: &str) -> String;
}

/// A request as far as scripts care.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    /// The conversation. Its folder and session are filled in by the server.
    pub(super) dialogue: Dialogue,
    /// The model asked for.
    pub(super) model: String,
    /// Whether the answer comes as a stream.
    pub(super) is_stream: bool,
    /// Whether there are tools to call.
    pub(super) has_tools: bool,
    /// Whether it wants JSON of a given shape: an agent that asks for a title, not a turn of the conversation.
    pub(super) wants_json: bool,
    /// The request.
    pub(super) body: Value,
}

impl Asked {
    /// A request without its conversation.
    pub(super) fn new(body: &Value) -> Self {
        Self {
            model: text(&body["model"]),
            is_stream: body["stream"] == true,
            has_tools: body["tools"].as_array().is_some_and(|tools| !tools.is_empty()),
            body: body.clone(),
            ..Self::default()
        }
    }
}

/// A message in the pieces of a stream, each whole in the protocol's eyes.
#[derive(Debug, Clone, Default)]
pub(super) struct Frames {
    /// Before its content.
    pub(super) start: Vec<String>,
    /// Its content.
    pub(super) content: Vec<String>,
    /// What ends it.
    pub(super) end: Vec<String>,
}

/// Builds a conversation of what a request lists: parts of one speaker that follow each other become one message.
#[derive(Debug, Default)]
pub(super) struct Messages(Vec<Message>);

impl Messages {
    /// Adds what the person said.
    pub(super) fn say(&mut self, text: String) {
        self.0.push(Message::User { text });
    }

    /// Adds a part of the model's message.
    pub(super) fn answer(&mut self, block: Block) {
        match self.0.last_mut() {
            Some(Message::Assistant { blocks }) => blocks.push(block),
            _ => self.0.push(Message::Assistant { blocks: vec![block] }),
        }
    }

    /// Adds a message of the model that may have no parts.
    pub(super) fn answer_begins(&mut self) {
        if !matches!(self.0.last(), Some(Message::Assistant { .. })) {
            self.0.push(Message::Assistant { blocks: Vec::new() });
        }
    }

    /// Adds the result of a tool call; the tool's name is looked up by the call's id where `name` is empty.
    pub(super) fn result(&mut self, call_id: String, name: String, text: String, is_error: bool) {
        let name = if name.is_empty() { self.name_of(&call_id) } else { name };
        let result = ToolResult { call_id, name, text, is_error };
        match self.0.last_mut() {
            Some(Message::Tool { results }) => results.push(result),
            _ => self.0.push(Message::Tool { results: vec![result] }),
        }
    }

    /// The conversation.
    pub(super) fn finish(self) -> Vec<Message> {
        self.0
    }

    /// The tool of an earlier call.
    fn name_of(&self, call_id: &str) -> String {
        let calls = self.0.iter().rev().filter_map(|message| match message {
            Message::Assistant { blocks } => Some(blocks),
            _ => None,
        });
        let found = calls.flatten().find_map(|block| match block {
            Block::ToolCall { id, name, .. } if id == call_id => Some(name.clone()),
            _ => None,
        });
        found.unwrap_or_default()
    }
}

/// A text, or nothing for another value.
pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The texts of a `content`: a text, or a list of parts that have texts.
pub(super) fn texts(content: &Value) -> Vec<String> {
    match content {
        Value::String(text) => vec![text.clone()],
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// Arguments that came as a text: the object they say, or the text itself where they say none.
pub(super) fn arguments(text: &str) -> Value {
    serde_json::from_str(text).ok().filter(Value::is_object).unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Arguments as a text; malformed ones as they were written.
pub(super) fn arguments_text(input: &Value) -> String {
    match input {
        Value::String(text) => text.clone(),
        input => input.to_string(),
    }
}

/// An id that no other message or call of any server had: agents key calls by it, also over a restart of the server.
pub(super) fn fresh_id(prefix: &str) -> String {
    static BEGAN: LazyLock<i64> = LazyLock::new(|| Time::now().as_millis());
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{prefix}_{:x}{:06x}", *BEGAN, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Seconds since 1970, as these APIs tell moments.
pub(super) fn seconds() -> i64 {
    Time::now().as_millis() / 1000
}
