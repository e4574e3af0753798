//! Messages as Anthropic has them; Ollama and others imitate them.
//!
//! What it insists on and others do not: an answer has a limit of tokens; no block is empty; ids of calls are of few
//! characters; thoughts come back with their signatures or not at all, and where thinking has a budget, the turn that goes
//! on begins with them. Requests mark what to cache, because each turn of an agent sends everything before it again.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::draft::{Counts, Draft, End, as_object, parse_input};
use super::fault::Fault;
use super::lines::Framing;
use super::openai::FIELD_MARK;
use super::prices::{Facts, ThinkingStyle};
use super::target::{Target, Told};
use super::wire::{Abilities, Decoder, Question, Wire};
use super::{Block, ChatRequest, Message, StopReason, ToolResult};
use crate::model::providers::{Provider, Thinking};

/// What the signature of thoughts begins with that Anthropic keeps from us.
const HIDDEN_MARK: &str = "redacted:";

/// Tokens of an answer of a model nobody knows here; every model since 2025 can do that many.
const USUAL_MAX_OUTPUT: u64 = 32_000;

/// A model behind Messages.
pub(super) struct Anthropic {
    /// Its name there.
    model: String,
    /// Tokens of an answer.
    max_output: u64,
    /// How much it thinks.
    thinking: Option<Thinking>,
    /// How it is told to.
    style: ThinkingStyle,
}

impl Anthropic {
    /// The model `model` as the provider's settings want it.
    pub(super) fn new(model: String, provider: &Provider, facts: Option<Facts>) -> Self {
        let known = facts.as_ref().and_then(|facts| facts.max_output).unwrap_or(USUAL_MAX_OUTPUT);
        let style = facts.as_ref().and_then(|facts| facts.thinking).unwrap_or(ThinkingStyle::Adaptive);
        let max_output = provider.max_output.map_or(known, |most| most.min(known));
        Self { model, max_output, thinking: provider.thinking, style }
    }

    /// Adds what tells the model how much to think.
    fn put_thinking(&self, body: &mut Map<String, Value>, messages: &[Message]) {
        let Some(thinking) = self.thinking else { return };
        let mut put = |key: &str, value: Value| drop(body.insert(key.to_owned(), value));
        let off = thinking == Thinking::Off;
        match self.style {
            ThinkingStyle::Always if off => put("output_config", json!({"effort": "low"})),
            ThinkingStyle::Adaptive if off => put("thinking", json!({"type": "disabled"})),
            // A turn that another model began has no thoughts of this one to begin with, and is refused with a budget.
            ThinkingStyle::Budget if off || !turn_has_thoughts(messages) => {}
            ThinkingStyle::Budget => {
                let tokens = match thinking {
                    Thinking::Off | Thinking::Low => 4_000,
                    Thinking::Medium => 10_000,
                    Thinking::High => 24_000,
                };
                // From 1,024, and below the limit of the answer.
                let tokens = tokens.min(self.max_output.saturating_sub(1_000));
                if tokens >= 1_024 {
                    put("thinking", json!({"type": "enabled", "budget_tokens": tokens}));
                }
            }
            ThinkingStyle::Adaptive | ThinkingStyle::Always => {
                put("thinking", json!({"type": "adaptive"}));
                put("output_config", json!({"effort": thinking.as_str()}));
            }
        }
    }
}

impl Wire for Anthropic {
    fn framing(&self) -> Framing {
        Framing::Events
    }

    fn path(&self) -> &'static str {
        "/v1/messages"
    }

    fn body(&self, request: &ChatRequest<'_>) -> Value {
        let mut messages: Vec<Value> = request.messages.iter().filter_map(message).collect();
        let last = messages.last_mut().and_then(|message| message["content"].as_array_mut()?.last_mut());
        if let Some(block) = last {
            block["cache_control"] = json!({"type": "ephemeral"});
        }
        let tools: Vec<Value> = request
            .tools
            .iter()
            .map(|tool| json!({"name": tool.name, "description": tool.description, "input_schema": tool.parameters}))
            .collect();
        let mut body = Map::new();
        let mut put = |key: &str, value: Value| drop(body.insert(key.to_owned(), value));
        put("model", json!(self.model));
        put("max_tokens", json!(self.max_output));
        if !request.system.trim().is_empty() {
            // Tools stand before the system prompt, so this caches both.
            let block = json!({"type": "text", "text": request.system, "cache_control": {"type": "ephemeral"}});
            put("system", json!([block]));
        }
        if !tools.is_empty() {
            put("tools", Value::Array(tools));
        }
        put("messages", Value::Array(messages));
        put("stream", json!(true));
        self.put_thinking(&mut body, request.messages);
        Value::Object(body)
    }

    fn decoder<'a>(&'a self, target: &'a Target) -> Box<dyn Decoder + 'a> {
        Box::new(Reader { target, open: None, stop: None, counts: Counts::default(), is_complete: false })
    }

    fn question(&self) -> Option<Question> {
        Some(Question { path: format!("/v1/models/{}", self.model), body: None })
    }

    fn abilities(&self, answer: &Value) -> Abilities {
        let window = answer.get("max_input_tokens").and_then(Value::as_u64);
        let present = answer.get("id").map(|_| true);
        Abilities { present, context_window: window, tools: None, others: Vec::new() }
    }
}

/// Whether the turn that goes on begins with thoughts that may be given back, or has only just begun.
fn turn_has_thoughts(messages: &[Message]) -> bool {
    let turn = messages.iter().rposition(|message| matches!(message, Message::User { .. }));
    let after = &messages[turn.map_or(0, |turn| turn + 1)..];
    let answers = after.iter().filter_map(|message| match message {
        Message::Assistant { blocks } => Some(blocks),
        _ => None,
    });
    let is_own = |block: &Block| matches!(block, Block::Thinking { signature: Some(mark), .. } if is_own_mark(mark));
    answers.filter(|blocks| !blocks.is_empty()).all(|blocks| blocks.first().is_some_and(is_own))
}

/// Whether a signature is one of Anthropic's.
fn is_own_mark(signature: &str) -> bool {
    !signature.is_empty() && !signature.starts_with(FIELD_MARK)
}

/// A message as Anthropic wants it; `None` for one that says nothing.
fn message(message: &Message) -> Option<Value> {
    let (role, content): (_, Vec<Value>) = match message {
        Message::User { text } => ("user", vec![json!({"type": "text", "text": filled(text)})]),
        Message::Assistant { blocks } => ("assistant", blocks.iter().filter_map(block).collect()),
        Message::Tool { results } => ("user", results.iter().map(result).collect()),
    };
    (!content.is_empty()).then(|| json!({"role": role, "content": content}))
}

/// A text that is not blank, because blank ones are refused.
fn filled(text: &str) -> &str {
    if text.trim().is_empty() { "(empty)" } else { text }
}

/// A block of the model, given back to it.
fn block(block: &Block) -> Option<Value> {
    match block {
        Block::Text { text } if text.trim().is_empty() => None,
        Block::Text { text } => Some(json!({"type": "text", "text": text})),
        Block::Thinking { text, signature } => {
            let signature = signature.as_deref().filter(|signature| is_own_mark(signature))?;
            Some(match signature.strip_prefix(HIDDEN_MARK) {
                Some(data) => json!({"type": "redacted_thinking", "data": data}),
                None => json!({"type": "thinking", "thinking": text, "signature": signature}),
            })
        }
        Block::ToolCall { id, name, input } => {
            Some(json!({"type": "tool_use", "id": call_id(id), "name": name, "input": as_object(input)}))
        }
    }
}

/// The result of a tool.
fn result(result: &ToolResult) -> Value {
    let mut block = json!({"type": "tool_result", "tool_use_id": call_id(&result.call_id)});
    if !result.text.is_empty() {
        block["content"] = json!(result.text);
    }
    if result.is_error {
        block["is_error"] = json!(true);
    }
    block
}

/// An id with letters, digits, `_` and `-` only; others, which other providers gave, are written as numbers.
fn call_id(id: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    id.chars().map(|c| if plain(c) { c.to_string() } else { format!("_{:x}_", u32::from(c)) }).collect()
}

/// An event of the stream.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event {
    /// The message begins.
    MessageStart {
        /// What is known of it.
        message: Start,
    },
    /// A block begins.
    ContentBlockStart {
        /// How.
        content_block: BlockStart,
    },
    /// A block goes on.
    ContentBlockDelta {
        /// With what.
        delta: BlockDelta,
    },
    /// A block ended.
    ContentBlockStop,
    /// The message is about to end.
    MessageDelta {
        /// Why.
        #[serde(default)]
        delta: Stop,
        /// All counted tokens.
        #[serde(default)]
        usage: Counted,
    },
    /// The message ended.
    MessageStop,
    /// A sign of life, or something new.
    #[serde(other)]
    Other,
}

/// The beginning of a message.
#[derive(Debug, Deserialize)]
struct Start {
    /// Tokens counted so far.
    #[serde(default)]
    usage: Counted,
}

/// The beginning of a block.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum BlockStart {
    /// Text.
    Text {
        /// Mostly empty.
        #[serde(default)]
        text: String,
    },
    /// Thoughts.
    Thinking {
        /// Mostly empty.
        #[serde(default)]
        thinking: String,
    },
    /// Thoughts that are kept from us.
    RedactedThinking {
        /// To be given back.
        data: String,
    },
    /// A tool call.
    ToolUse {
        /// Its id.
        #[serde(default)]
        id: String,
        /// The tool.
        name: String,
        /// Mostly empty; imitations send all of it here.
        #[serde(default)]
        input: Value,
    },
    /// Something new.
    #[serde(other)]
    Other,
}

/// More of a block.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum BlockDelta {
    /// Text.
    TextDelta {
        /// The piece.
        text: String,
    },
    /// Thoughts.
    ThinkingDelta {
        /// The piece.
        thinking: String,
    },
    /// The signature of thoughts.
    SignatureDelta {
        /// The piece.
        signature: String,
    },
    /// Input of a tool.
    InputJsonDelta {
        /// The piece.
        partial_json: String,
    },
    /// Something new.
    #[serde(other)]
    Other,
}

/// Why a message ends.
#[derive(Debug, Default, Deserialize)]
struct Stop {
    /// The word for it.
    #[serde(default)]
    stop_reason: Option<String>,
}

/// Counted tokens; those of the end replace those of the beginning.
#[derive(Debug, Default, Deserialize)]
struct Counted {
    /// Input that has nothing to do with the cache.
    #[serde(default)]
    input_tokens: Option<u64>,
    /// Input from the cache.
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    /// Input put into the cache.
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
    /// Output, thoughts included.
    #[serde(default)]
    output_tokens: Option<u64>,
}

/// A tool call as it grows.
struct OpenCall {
    /// Its id.
    id: String,
    /// The tool.
    name: String,
    /// The text of its input.
    text: String,
}

/// Reads one answer.
struct Reader<'a> {
    /// For the words of errors.
    target: &'a Target,
    /// The tool call that has not ended.
    open: Option<OpenCall>,
    /// Set near the end.
    stop: Option<StopReason>,
    /// Counted tokens.
    counts: Counts,
    /// Whether the message ended.
    is_complete: bool,
}

impl Decoder for Reader<'_> {
    fn payload(&mut self, payload: &str, draft: &mut Draft<'_>) -> Result<bool, Fault> {
        let unreadable = |error| self.target.malformed("an event is not one of Messages", payload).caused_by(error);
        let document: Value = serde_json::from_str(payload).map_err(unreadable)?;
        if let Some(told) = Told::read(&document) {
            return Err(self.target.told(&told));
        }
        match serde_json::from_value(document).map_err(unreadable)? {
            Event::MessageStart { message } => self.count(&message.usage),
            Event::ContentBlockStart { content_block } => self.begin(content_block, draft),
            Event::ContentBlockDelta { delta } => self.go_on(delta, draft),
            Event::ContentBlockStop => self.close(draft),
            Event::MessageDelta { delta, usage } => {
                self.count(&usage);
                self.stop = delta.stop_reason.map(|reason| match reason.as_str() {
                    "max_tokens" | "model_context_window_exceeded" => StopReason::Length,
                    "refusal" => StopReason::Refused(reason),
                    _ => StopReason::End,
                });
            }
            Event::MessageStop => self.is_complete = true,
            Event::Other => {}
        }
        Ok(self.is_complete)
    }

    fn end(&mut self, draft: &mut Draft<'_>) -> Result<End, Fault> {
        self.close(draft);
        match self.stop.take() {
            Some(stop) => Ok(End { stop, counts: self.counts }),
            None if self.is_complete => Ok(End { stop: StopReason::End, counts: self.counts }),
            None => Err(self.target.cut()),
        }
    }
}

impl Reader<'_> {
    /// Takes counted tokens over.
    fn count(&mut self, counted: &Counted) {
        let Counted { input_tokens, cache_read_input_tokens, cache_creation_input_tokens, output_tokens } = counted;
        let cached = cache_read_input_tokens.unwrap_or(self.counts.cached);
        let cache_write = cache_creation_input_tokens.unwrap_or(self.counts.cache_write);
        // Imitations send a zero where they have not counted.
        if let Some(input) = input_tokens.map(|plain| plain + cached + cache_write).filter(|input| *input > 0) {
            self.counts = Counts { input: Some(input), cached, cache_write, ..self.counts };
        }
        self.counts.output = output_tokens.or(self.counts.output);
    }

    /// A block begins.
    fn begin(&mut self, block: BlockStart, draft: &mut Draft<'_>) {
        self.close(draft);
        match block {
            BlockStart::Text { text } => draft.text(&text),
            BlockStart::Thinking { thinking } => {
                draft.thinking_began();
                draft.thinking(&thinking);
            }
            BlockStart::RedactedThinking { data } => draft.hidden_thinking(format!("{HIDDEN_MARK}{data}")),
            BlockStart::ToolUse { id, name, input } => {
                draft.call_began(&name);
                let is_here = input.as_object().is_some_and(|input| !input.is_empty());
                let text = if is_here { input.to_string() } else { String::new() };
                self.open = Some(OpenCall { id, name, text });
            }
            BlockStart::Other => {}
        }
    }

    /// A block goes on.
    fn go_on(&mut self, delta: BlockDelta, draft: &mut Draft<'_>) {
        match delta {
            BlockDelta::TextDelta { text } => draft.text(&text),
            BlockDelta::ThinkingDelta { thinking } => draft.thinking(&thinking),
            BlockDelta::SignatureDelta { signature } => draft.signature(&signature),
            BlockDelta::InputJsonDelta { partial_json } => {
                if let Some(call) = &mut self.open {
                    call.text.push_str(&partial_json);
                }
            }
            BlockDelta::Other => {}
        }
    }

    /// Completes the open tool call.
    fn close(&mut self, draft: &mut Draft<'_>) {
        if let Some(call) = self.open.take() {
            draft.call(&call.id, &call.name, parse_input(&call.text));
        }
    }
}

#[cfg(test)]
mod tests;
