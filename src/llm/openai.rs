//! Chat completions as OpenAI has them, and as LM Studio, llama.cpp, vLLM, OpenRouter and many others imitate them.
//!
//! Imitations differ in what they leave out, so everything is optional and nothing is believed: a call without an id,
//! calls without an index or all with the same, arguments as an object, thoughts under one of two names, an answer
//! without `[DONE]` or without counted tokens, an error in the middle of the stream or instead of it.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::draft::{Counts, Draft, End, as_object, parse_input};
use super::fault::Fault;
use super::lines::Framing;
use super::target::{Target, Told};
use super::wire::{Abilities, Decoder, Question, Wire};
use super::{Block, ChatRequest, Message, StopReason, Trouble};
use crate::model::providers::{Provider, Thinking};

/// What the signature of thoughts begins with here: under this name they came, and are given back.
pub(super) const FIELD_MARK: &str = "field:";

/// The names under which servers send thoughts.
const THINKING_FIELDS: [&str; 2] = ["reasoning_content", "reasoning"];

/// A model behind chat completions.
pub(super) struct OpenAi {
    /// Its name there.
    model: String,
    /// Whether this is OpenAI itself.
    is_original: bool,
    /// Tokens of an answer.
    max_output: Option<u64>,
    /// How much it thinks.
    thinking: Option<Thinking>,
    /// Whether the server wants it said that there is no thinking where there are tools.
    must_not_think: bool,
}

impl OpenAi {
    /// The model `model` at `url` as the provider's settings want it.
    pub(super) fn new(model: String, provider: &Provider, url: &str) -> Self {
        Self {
            model,
            is_original: url.starts_with("https://api.openai.com"),
            max_output: provider.max_output,
            thinking: provider.thinking,
            must_not_think: false,
        }
    }

    /// The effort to ask for. OpenAI itself refuses any together with tools in this interface (openai-openapi issue
    /// 541), and newer models of it want that said.
    fn effort(&self, has_tools: bool) -> Option<&'static str> {
        if has_tools && self.must_not_think {
            return Some("none");
        }
        match self.thinking {
            Some(_) if has_tools && self.is_original => None,
            Some(Thinking::Off) => Some("none"),
            level => level.map(Thinking::as_str),
        }
    }
}

impl Wire for OpenAi {
    fn framing(&self) -> Framing {
        Framing::Events
    }

    fn path(&self) -> &'static str {
        "/chat/completions"
    }

    fn body(&self, request: &ChatRequest<'_>) -> Value {
        let mut messages = Vec::new();
        if !request.system.is_empty() {
            messages.push(json!({"role": "system", "content": request.system}));
        }
        let turn = request.messages.iter().rposition(|message| matches!(message, Message::User { .. }));
        for (index, message) in request.messages.iter().enumerate() {
            push_message(&mut messages, message, turn.is_none_or(|turn| index > turn));
        }
        let mut body = Map::new();
        let mut put = |key: &str, value: Value| drop(body.insert(key.to_owned(), value));
        put("model", json!(self.model));
        put("messages", Value::Array(messages));
        if !request.tools.is_empty() {
            let tools = request.tools.iter().map(|tool| {
                let function = json!({
                    "name": tool.name, "description": tool.description, "parameters": tool.parameters,
                });
                json!({"type": "function", "function": function})
            });
            put("tools", tools.collect());
        }
        put("stream", json!(true));
        put("stream_options", json!({"include_usage": true}));
        if let Some(most) = self.max_output {
            put(if self.is_original { "max_completion_tokens" } else { "max_tokens" }, json!(most));
        }
        if let Some(effort) = self.effort(!request.tools.is_empty()) {
            put("reasoning_effort", json!(effort));
        }
        Value::Object(body)
    }

    fn decoder<'a>(&'a self, target: &'a Target) -> Box<dyn Decoder + 'a> {
        Box::new(Reader { target, calls: Vec::new(), stop: None, counts: Counts::default(), field: None })
    }

    fn question(&self) -> Option<Question> {
        Some(Question { path: "/models".to_owned(), body: None })
    }

    fn abilities(&self, answer: &Value) -> Abilities {
        let list = answer.get("data").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let id = |model: &Value| model.get("id").and_then(Value::as_str).map(str::to_owned);
        let Some(found) = list.iter().find(|model| id(model).is_some_and(|id| id == self.model)) else {
            let others: Vec<_> = list.iter().filter_map(id).collect();
            // A server that lists nothing, as some proxies do, says nothing.
            return Abilities { present: (!others.is_empty()).then_some(false), others, ..Abilities::default() };
        };
        // vLLM; LM Studio; OpenRouter; llama.cpp.
        let names = ["/max_model_len", "/loaded_context_length", "/context_length", "/meta/n_ctx"];
        let window = names.iter().find_map(|name| found.pointer(name)?.as_u64());
        let supported = found.get("supported_parameters").and_then(Value::as_array);
        let tools = supported.map(|list| list.iter().any(|one| one == "tools"));
        Abilities { present: Some(true), context_window: window, tools, others: Vec::new() }
    }

    fn learn(&mut self, fault: &Fault) -> bool {
        let wants = fault.trouble == Trouble::BadRequest && fault.message.contains("reasoning_effort to 'none'");
        wants && !std::mem::replace(&mut self.must_not_think, true)
    }
}

/// Adds a message. Thoughts of the turn that goes on are given back under the name they came by: servers that sent
/// them want them there, and nowhere else.
fn push_message(messages: &mut Vec<Value>, message: &Message, with_thoughts: bool) {
    match message {
        Message::User { text } => messages.push(json!({"role": "user", "content": text})),
        Message::Assistant { blocks } => messages.push(assistant(blocks, with_thoughts)),
        Message::Tool { results } => messages.extend(
            results
                .iter()
                .map(|result| json!({"role": "tool", "tool_call_id": result.call_id, "content": result.text})),
        ),
    }
}

/// A message of the model, given back to it.
fn assistant(blocks: &[Block], with_thoughts: bool) -> Value {
    let (mut content, mut calls) = (String::new(), Vec::new());
    let mut message = json!({"role": "assistant"});
    for block in blocks {
        match block {
            Block::Text { text } => content.push_str(text),
            Block::Thinking { text, signature } => {
                let field = signature.as_deref().and_then(|signature| signature.strip_prefix(FIELD_MARK));
                if let Some(field) = field.filter(|_| with_thoughts) {
                    let earlier = message.get(field).and_then(Value::as_str).unwrap_or_default();
                    message[field] = json!(format!("{earlier}{text}"));
                }
            }
            Block::ToolCall { id, name, input } => {
                // Some servers parse the text again and fail on what is no object.
                let function = json!({"name": name, "arguments": as_object(input).to_string()});
                calls.push(json!({"id": id, "type": "function", "function": function}));
            }
        }
    }
    message["content"] = json!(content);
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
    }
    message
}

/// A chunk of the stream.
#[derive(Debug, Deserialize)]
struct Chunk {
    /// One, or none in the chunk that counts the tokens.
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    /// The counted tokens.
    #[serde(default)]
    usage: Option<Counted>,
}

/// The one choice.
#[derive(Debug, Deserialize)]
struct Choice {
    /// The piece; a server that does not stream sends the whole message.
    #[serde(default, alias = "message")]
    delta: Option<Map<String, Value>>,
    /// Why it ended, in the last chunk.
    #[serde(default)]
    finish_reason: Option<String>,
}

/// Counted tokens.
#[derive(Debug, Deserialize)]
struct Counted {
    /// Input, cached ones included.
    #[serde(default)]
    prompt_tokens: Option<u64>,
    /// Output, thoughts included.
    #[serde(default)]
    completion_tokens: Option<u64>,
    /// More about the input.
    #[serde(default)]
    prompt_tokens_details: Option<InputDetails>,
}

/// More about the input.
#[derive(Debug, Default, Deserialize)]
struct InputDetails {
    /// Those that were cached.
    #[serde(default)]
    cached_tokens: Option<u64>,
    /// Those that are cached from now on.
    #[serde(default)]
    cache_write_tokens: Option<u64>,
}

/// A tool call as it grows.
#[derive(Debug, Default)]
struct Call {
    /// Which one, as the server counts.
    index: Option<u64>,
    /// Its id.
    id: String,
    /// The tool.
    name: String,
    /// The text of its input.
    arguments: String,
}

/// Reads one answer.
struct Reader<'a> {
    /// For the words of errors.
    target: &'a Target,
    /// Tool calls so far.
    calls: Vec<Call>,
    /// Set by the last chunk with a choice.
    stop: Option<StopReason>,
    /// Counted tokens.
    counts: Counts,
    /// The name under which thoughts came.
    field: Option<&'static str>,
}

impl Decoder for Reader<'_> {
    fn payload(&mut self, payload: &str, draft: &mut Draft<'_>) -> Result<bool, Fault> {
        if payload.trim() == "[DONE]" {
            return Ok(true);
        }
        let unreadable = |error| self.target.malformed("an event is not a chat completion", payload).caused_by(error);
        let document: Value = serde_json::from_str(payload).map_err(unreadable)?;
        if let Some(told) = Told::read(&document) {
            return Err(self.target.told(&told));
        }
        let chunk: Chunk = serde_json::from_value(document).map_err(unreadable)?;
        if let Some(counted) = chunk.usage {
            let details = counted.prompt_tokens_details.unwrap_or_default();
            self.counts = Counts {
                input: counted.prompt_tokens,
                cached: details.cached_tokens.unwrap_or_default(),
                cache_write: details.cache_write_tokens.unwrap_or_default(),
                output: counted.completion_tokens,
            };
        }
        for choice in chunk.choices.unwrap_or_default().into_iter().take(1) {
            self.piece(&choice.delta.unwrap_or_default(), draft);
            if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
                self.stop = Some(match reason.as_str() {
                    "length" => StopReason::Length,
                    "content_filter" => StopReason::Refused(reason),
                    "error" => return Err(self.target.told(&Told::default())),
                    _ => StopReason::End,
                });
            }
        }
        Ok(false)
    }

    fn end(&mut self, draft: &mut Draft<'_>) -> Result<End, Fault> {
        let stop = self.stop.take().ok_or_else(|| self.target.cut())?;
        for call in self.calls.drain(..) {
            draft.call(&call.id, &call.name, parse_input(&call.arguments));
        }
        if let Some(field) = self.field {
            draft.sign_all(&format!("{FIELD_MARK}{field}"));
        }
        Ok(End { stop, counts: self.counts })
    }
}

impl Reader<'_> {
    /// A piece of the message.
    fn piece(&mut self, delta: &Map<String, Value>, draft: &mut Draft<'_>) {
        for field in THINKING_FIELDS {
            if let Some(Value::String(text)) = delta.get(field)
                && !text.is_empty()
                && self.field.is_none_or(|known| known == field)
            {
                self.field = Some(field);
                draft.thinking(text);
            }
        }
        match delta.get("content") {
            Some(Value::String(text)) => draft.text(text),
            // Mistral sends parts once a model thinks.
            Some(Value::Array(parts)) => {
                parts.iter().filter_map(|part| part.get("text")?.as_str()).for_each(|text| draft.text(text));
            }
            _ => {}
        }
        if let Some(Value::String(refusal)) = delta.get("refusal") {
            draft.text(refusal);
        }
        for call in delta.get("tool_calls").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
            self.call(call, draft);
        }
    }

    /// A piece of a tool call.
    fn call(&mut self, piece: &Value, draft: &mut Draft<'_>) {
        let text = |pointer: &str| piece.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (id, name) = (text("/id"), text("/function/name"));
        let index = piece.get("index").and_then(Value::as_u64);
        let found = match index {
            Some(_) => self.calls.iter().rposition(|call| call.index == index),
            None => self.calls.len().checked_sub(1),
        };
        // Another id, or a name after input has begun, is another call, whatever its index says.
        let is_other = |call: &Call| match (id, call.id.as_str()) {
            ("", _) | (_, "") => {
                !name.is_empty() && !call.arguments.is_empty() && (index.is_none() || name != call.name)
            }
            (id, known) => id != known,
        };
        let at = found.filter(|at| !is_other(&self.calls[*at])).unwrap_or_else(|| {
            self.calls.push(Call { index, ..Call::default() });
            self.calls.len() - 1
        });
        let call = &mut self.calls[at];
        if call.id.is_empty() {
            call.id.push_str(id);
        }
        if call.name.is_empty() && !name.is_empty() {
            call.name.push_str(name);
            draft.call_began(name);
        }
        match piece.pointer("/function/arguments") {
            Some(Value::String(text)) => call.arguments.push_str(text),
            Some(Value::Null) | None => {}
            Some(other) => call.arguments.push_str(&other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
