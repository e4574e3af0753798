//! An answer as it grows.

use std::collections::HashSet;

use serde_json::Value;

use super::prices::Tariff;
use super::{Answer, Block, ChatRequest, Delta, Message, StopReason, Usage};

/// The blocks that came so far; whoever listens hears of each piece.
pub(super) struct Draft<'a> {
    /// In the order in which they began.
    blocks: Vec<Block>,
    /// Who listens.
    on_delta: &'a mut (dyn FnMut(Delta) + Send),
}

/// How an answer ended, and what the provider counted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct End {
    /// Why it ended.
    pub(super) stop: StopReason,
    /// The tokens.
    pub(super) counts: Counts,
}

/// Tokens as the provider counted them; `None` where it did not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// All input, cached or not.
    pub(super) input: Option<u64>,
    /// Those of the input that were in the cache.
    pub(super) cached: u64,
    /// Those of the input that were put into the cache.
    pub(super) cache_write: u64,
    /// All output.
    pub(super) output: Option<u64>,
}

impl<'a> Draft<'a> {
    /// An empty answer.
    pub(super) fn new(on_delta: &'a mut (dyn FnMut(Delta) + Send)) -> Self {
        Self { blocks: Vec::new(), on_delta }
    }

    /// More text.
    pub(super) fn text(&mut self, more: &str) {
        if more.is_empty() {
            return;
        }
        match self.blocks.last_mut() {
            Some(Block::Text { text }) => text.push_str(more),
            _ => self.blocks.push(Block::Text { text: more.to_owned() }),
        }
        (self.on_delta)(Delta::Text(more.to_owned()));
    }

    /// More thought. Thoughts that have a signature are complete.
    pub(super) fn thinking(&mut self, more: &str) {
        if more.is_empty() {
            return;
        }
        match self.blocks.last_mut() {
            Some(Block::Thinking { text, signature: None }) => text.push_str(more),
            _ => self.blocks.push(Block::Thinking { text: more.to_owned(), signature: None }),
        }
        (self.on_delta)(Delta::Thinking(more.to_owned()));
    }

    /// New thoughts begin; of some nothing but their signature will come.
    pub(super) fn thinking_began(&mut self) {
        self.blocks.push(Block::Thinking { text: String::new(), signature: None });
    }

    /// More of the signature of the thoughts before.
    pub(super) fn signature(&mut self, more: &str) {
        if let Some(Block::Thinking { signature, .. }) = self.blocks.last_mut() {
            signature.get_or_insert_default().push_str(more);
        }
    }

    /// Thoughts that are kept from us; only their signature is there.
    pub(super) fn hidden_thinking(&mut self, signature: String) {
        self.blocks.push(Block::Thinking { text: String::new(), signature: Some(signature) });
    }

    /// Puts a signature to all thoughts that have none.
    pub(super) fn sign_all(&mut self, mark: &str) {
        for block in &mut self.blocks {
            if let Block::Thinking { signature: signature @ None, .. } = block {
                *signature = Some(mark.to_owned());
            }
        }
    }

    /// A tool call began, though its input may still come.
    pub(super) fn call_began(&mut self, name: &str) {
        (self.on_delta)(Delta::ToolCall { name: name.to_owned() });
    }

    /// A complete tool call. An empty id is made up later.
    pub(super) fn call(&mut self, id: &str, name: &str, input: Value) {
        self.blocks.push(Block::ToolCall { id: id.to_owned(), name: name.to_owned(), input });
    }

    /// The finished answer of `model` to `request`.
    pub(super) fn finish(mut self, end: End, request: &ChatRequest<'_>, model: String, tariff: &Tariff) -> Answer {
        self.blocks.retain(|block| !matches!(block, Block::Thinking { text, signature: None } if text.is_empty()));
        name_calls(&mut self.blocks, request.messages);
        let usage = usage(end.counts, request, &self.blocks, tariff);
        Answer { blocks: self.blocks, stop: end.stop, usage, model }
    }
}

/// The input of a tool call from a text that should be a JSON object; what is none stays the text it was.
pub(super) fn parse_input(text: &str) -> Value {
    if text.trim().is_empty() {
        return Value::Object(serde_json::Map::new());
    }
    match serde_json::from_str(text) {
        Ok(object @ Value::Object(_)) => object,
        _ => Value::String(text.to_owned()),
    }
}

/// The input of a tool call as an object, for providers that take nothing else: what is none is put into one.
pub(super) fn as_object(input: &Value) -> Value {
    match input {
        Value::Object(_) => input.clone(),
        other => serde_json::json!({ "malformed": other }),
    }
}

/// Gives each call an id that no other call of the conversation has; some providers give none, or begin anew with
/// each answer.
fn name_calls(blocks: &mut [Block], messages: &[Message]) {
    let earlier = messages.iter().filter_map(|message| match message {
        Message::Assistant { blocks } => Some(blocks),
        _ => None,
    });
    let ids = earlier.flatten().filter_map(|block| match block {
        Block::ToolCall { id, .. } => Some(id.clone()),
        _ => None,
    });
    let mut taken: HashSet<String> = ids.collect();
    for block in blocks {
        if let Block::ToolCall { id, .. } = block {
            if id.is_empty() || taken.contains(id) {
                *id = format!("call_{}", uuid::Uuid::new_v4().simple());
            }
            taken.insert(id.clone());
        }
    }
}

/// What the answer used; tokens that nobody counted are estimated.
fn usage(counts: Counts, request: &ChatRequest<'_>, blocks: &[Block], tariff: &Tariff) -> Usage {
    let measured = counts.input.is_some() && counts.output.is_some();
    let input = counts.input.unwrap_or_else(|| estimate_request(request));
    let output = counts.output.unwrap_or_else(|| blocks.iter().map(estimate_block).sum());
    let counts = Counts { input: Some(input), output: Some(output), ..counts };
    Usage {
        input_tokens: input,
        cached_tokens: counts.cached,
        output_tokens: output,
        cost_usd: tariff.cost(counts),
        measured,
    }
}

/// About how many tokens a text has. Four bytes each is what English and code come to with the usual vocabularies,
/// within a third; other languages have more.
pub(crate) fn estimate_tokens(text: &str) -> u64 {
    (text.len() as u64).div_ceil(4)
}

/// The same for everything a model is given. Each message costs a few tokens of its own.
fn estimate_request(request: &ChatRequest<'_>) -> u64 {
    let tools = request.tools.iter().map(|tool| {
        let schema = estimate_tokens(&tool.parameters.to_string());
        schema + estimate_tokens(&tool.name) + estimate_tokens(&tool.description)
    });
    let messages = request.messages.iter().map(|message| {
        4 + match message {
            Message::User { text } => estimate_tokens(text),
            Message::Assistant { blocks } => blocks.iter().map(estimate_block).sum(),
            Message::Tool { results } => results.iter().map(|result| estimate_tokens(&result.text)).sum(),
        }
    });
    estimate_tokens(request.system) + tools.sum::<u64>() + messages.sum::<u64>()
}

/// The same for one block.
fn estimate_block(block: &Block) -> u64 {
    match block {
        Block::Text { text } | Block::Thinking { text, .. } => estimate_tokens(text),
        Block::ToolCall { name, input, .. } => estimate_tokens(name) + estimate_tokens(&input.to_string()),
    }
}
