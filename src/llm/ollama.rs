//! Ollama's own interface: `/api/chat` with one JSON document per line.
//!
//! Its OpenAI-compatible interface can set neither the context window nor how long a model stays loaded, and a
//! window that is too small cuts the conversation without a word. So the window is sent with each request. Facts from
//! Ollama's API documentation (docs/api.md) and its server's sources.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::draft::{Counts, Draft, End, as_object, parse_input};
use super::fault::Fault;
use super::lines::Framing;
use super::target::{Target, Told};
use super::wire::{Abilities, Decoder, Question, Wire};
use super::{Block, ChatRequest, Message, StopReason};
use crate::model::providers::{Provider, Thinking};

/// A model of Ollama.
pub(super) struct Ollama {
    /// Its name there.
    model: String,
    /// Options of each request.
    options: Map<String, Value>,
    /// How long it stays loaded.
    keep_alive: Option<Value>,
    /// How much it thinks.
    think: Option<Value>,
}

impl Ollama {
    /// The model `model` as the provider's settings want it.
    pub(super) fn new(model: String, provider: &Provider) -> Self {
        let mut options = Map::new();
        options.extend(provider.context_window.map(|window| ("num_ctx".to_owned(), window.into())));
        options.extend(provider.max_output.map(|most| ("num_predict".to_owned(), most.into())));
        // A number is in seconds, and only a number may be negative.
        let keep_alive = provider.keep_alive.as_ref();
        let keep_alive = keep_alive.map(|text| text.parse::<i64>().map_or_else(|_| json!(text), Value::from));
        let think = provider.thinking.map(|thinking| match thinking {
            Thinking::Off => json!(false),
            level => json!(level.as_str()),
        });
        Self { model, options, keep_alive, think }
    }
}

impl Wire for Ollama {
    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn path(&self) -> &'static str {
        "/api/chat"
    }

    fn body(&self, request: &ChatRequest<'_>) -> Value {
        let mut messages = Vec::new();
        if !request.system.is_empty() {
            messages.push(json!({"role": "system", "content": request.system}));
        }
        request.messages.iter().for_each(|message| push_message(&mut messages, message));
        let tools = request.tools.iter().map(|tool| {
            let function = json!({
                "name": tool.name, "description": tool.description, "parameters": tool.parameters,
            });
            json!({"type": "function", "function": function})
        });
        let mut body = Map::new();
        body.insert("model".to_owned(), json!(self.model));
        body.insert("messages".to_owned(), Value::Array(messages));
        if !request.tools.is_empty() {
            body.insert("tools".to_owned(), tools.collect());
        }
        body.insert("stream".to_owned(), json!(true));
        body.insert("options".to_owned(), Value::Object(self.options.clone()));
        body.extend(self.keep_alive.clone().map(|keep| ("keep_alive".to_owned(), keep)));
        body.extend(self.think.clone().map(|think| ("think".to_owned(), think)));
        Value::Object(body)
    }

    fn decoder<'a>(&'a self, target: &'a Target) -> Box<dyn Decoder + 'a> {
        Box::new(Reader { target, end: None })
    }

    fn question(&self) -> Option<Question> {
        Some(Question { path: "/api/show".to_owned(), body: Some(json!({"model": self.model})) })
    }

    fn abilities(&self, answer: &Value) -> Abilities {
        let info = answer.get("model_info").and_then(Value::as_object);
        let window = info.and_then(|info| {
            let (_, length) = info.iter().find(|(key, _)| key.ends_with(".context_length"))?;
            length.as_u64()
        });
        // Servers from before there were capabilities do not say.
        let capabilities = answer.get("capabilities").and_then(Value::as_array);
        let tools = capabilities.map(|list| list.iter().any(|one| one == "tools"));
        Abilities { present: Some(true), context_window: window, tools, others: Vec::new() }
    }
}

/// Adds a message as Ollama wants it: a tool message for each result.
fn push_message(messages: &mut Vec<Value>, message: &Message) {
    match message {
        Message::User { text } => messages.push(json!({"role": "user", "content": text})),
        Message::Assistant { blocks } => messages.push(assistant(blocks)),
        Message::Tool { results } => messages.extend(results.iter().map(|result| {
            json!({
                "role": "tool", "tool_name": result.name, "tool_call_id": result.call_id, "content": result.text,
            })
        })),
    }
}

/// A message of the model, given back to it.
fn assistant(blocks: &[Block]) -> Value {
    let (mut content, mut thinking, mut calls) = (String::new(), String::new(), Vec::new());
    for block in blocks {
        match block {
            Block::Text { text } => content.push_str(text),
            Block::Thinking { text, .. } => thinking.push_str(text),
            Block::ToolCall { id, name, input } => {
                let function = json!({"index": calls.len(), "name": name, "arguments": as_object(input)});
                calls.push(json!({"id": id, "function": function}));
            }
        }
    }
    let mut message = json!({"role": "assistant", "content": content});
    if !thinking.is_empty() {
        message["thinking"] = json!(thinking);
    }
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
    }
    message
}

/// A line of the stream.
#[derive(Debug, Deserialize)]
struct Line {
    /// The piece.
    #[serde(default)]
    message: Piece,
    /// Whether it is the last one.
    #[serde(default)]
    done: bool,
    /// Why it is.
    #[serde(default)]
    done_reason: Option<String>,
    /// Input tokens, in the last line; left out when it is zero.
    #[serde(default)]
    prompt_eval_count: Option<u64>,
    /// Those that were cached.
    #[serde(default)]
    prompt_eval_cached_count: Option<u64>,
    /// Output tokens, in the last line.
    #[serde(default)]
    eval_count: Option<u64>,
}

/// A piece of the message.
#[derive(Debug, Default, Deserialize)]
struct Piece {
    /// Text.
    #[serde(default)]
    content: Option<String>,
    /// Thoughts.
    #[serde(default)]
    thinking: Option<String>,
    /// Complete tool calls.
    #[serde(default)]
    tool_calls: Option<Vec<Call>>,
}

/// A tool call.
#[derive(Debug, Deserialize)]
struct Call {
    /// Newer servers give one.
    #[serde(default)]
    id: Option<String>,
    /// What is called.
    function: Function,
}

/// What is called.
#[derive(Debug, Deserialize)]
struct Function {
    /// The tool.
    name: String,
    /// An object; some servers that imitate Ollama send its text.
    #[serde(default)]
    arguments: Value,
}

/// Reads one answer.
struct Reader<'a> {
    /// For the words of errors.
    target: &'a Target,
    /// Set by the last line.
    end: Option<End>,
}

impl Decoder for Reader<'_> {
    fn payload(&mut self, payload: &str, draft: &mut Draft<'_>) -> Result<bool, Fault> {
        let unreadable = |error| self.target.malformed("a line is not what Ollama sends", payload).caused_by(error);
        let document: Value = serde_json::from_str(payload).map_err(unreadable)?;
        if let Some(told) = Told::read(&document) {
            return Err(self.target.told(&told));
        }
        let line: Line = serde_json::from_value(document).map_err(unreadable)?;
        draft.thinking(line.message.thinking.as_deref().unwrap_or_default());
        draft.text(line.message.content.as_deref().unwrap_or_default());
        for Call { id, function } in line.message.tool_calls.unwrap_or_default() {
            let input = match function.arguments {
                Value::String(text) => parse_input(&text),
                Value::Null => parse_input(""),
                object @ Value::Object(_) => object,
                other => Value::String(other.to_string()),
            };
            draft.call_began(&function.name);
            draft.call(id.as_deref().unwrap_or_default(), &function.name, input);
        }
        if line.done {
            let stop = match line.done_reason.as_deref() {
                Some("length") => StopReason::Length,
                _ => StopReason::End,
            };
            let counts = Counts {
                input: line.prompt_eval_count.filter(|count| *count > 0),
                cached: line.prompt_eval_cached_count.unwrap_or_default(),
                cache_write: 0,
                output: line.eval_count,
            };
            self.end = Some(End { stop, counts });
        }
        Ok(line.done)
    }

    fn end(&mut self, _: &mut Draft<'_>) -> Result<End, Fault> {
        self.end.take().ok_or_else(|| self.target.cut())
    }
}

/// The address in `OLLAMA_HOST`, read as Ollama's own client does: scheme and port may be missing, and an address to
/// listen at everywhere is this machine.
pub(super) fn address(host: &str) -> String {
    let (scheme, rest) = host.split_once("://").unwrap_or(("http", host));
    let usual_port = match scheme {
        "https" => "443",
        _ if host.contains("://") => "80",
        _ => "11434",
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') && !name.contains(':') | name.ends_with(']') => (name, port),
        _ => (authority, usual_port),
    };
    let name = match name {
        "" | "0.0.0.0" => "127.0.0.1".to_owned(),
        "[::]" | "::" => "[::1]".to_owned(),
        bare if bare.contains(':') && !bare.starts_with('[') => format!("[{bare}]"),
        name => name.to_owned(),
    };
    let port = if port.is_empty() { usual_port } else { port };
    let path = if path.is_empty() { String::new() } else { format!("/{path}") };
    format!("{scheme}://{name}:{port}{path}")
}

#[cfg(test)]
mod tests;
