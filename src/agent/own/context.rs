//! What the model gets to read of a conversation, kept within its window.
//!
//! A context is made of the conversation's entries, live and after a resume in the same way. Its size in tokens is
//! reckoned from its bytes, by the ratio that the last measured answer showed.

use std::sync::Arc;

use super::conversation::Entry;
use super::tools::cap_text;
use crate::llm::{Block, Message, Usage};

/// Bytes of a token before one was measured; lower than for most text, so that the guess is rather too high.
const BYTES_A_TOKEN: f64 = 3.0;
/// Bytes that a message costs besides its text.
const MESSAGE_COST: usize = 16;
/// Tokens that are left free for an answer, where the window is large enough.
const ANSWER: u64 = 8_000;
/// Of what there is room for, this share is filled when something had to be left out: room for some turns, so that
/// not each request begins with another text.
const REFILL: f64 = 0.6;
/// Messages at the end that are left whole as long as possible: the last calls and what led to them.
const RECENT: usize = 6;
/// Results shorter than this are not worth shortening.
const WORTH: usize = 400;
/// What the first message says when later ones are left out.
const GAP: &str = "\n\n[What came after this at first is left out here to save room. Your work is in the files.]";

/// A conversation as the model reads it.
#[derive(Debug, Clone)]
pub(super) struct Context {
    /// The messages.
    messages: Arc<Vec<Message>>,
    /// Bytes of the messages.
    bytes: usize,
    /// Bytes of system prompt and tools, which come with every request.
    fixed: usize,
    /// Bytes of a token, as measured.
    ratio: f64,
    /// Whether something was left out after the first message.
    has_gap: bool,
}

impl Context {
    /// An empty conversation; `fixed` is the size of what comes with every request.
    pub(super) fn new(fixed: usize) -> Self {
        Self { messages: Arc::default(), bytes: 0, fixed, ratio: BYTES_A_TOKEN, has_gap: false }
    }

    /// The messages.
    pub(super) fn messages(&self) -> Arc<Vec<Message>> {
        self.messages.clone()
    }

    /// The messages, to look at.
    pub(super) fn all(&self) -> &[Message] {
        &self.messages
    }

    /// Takes an entry.
    pub(super) fn apply(&mut self, entry: &Entry) {
        let messages = Arc::make_mut(&mut self.messages);
        let new = match entry {
            Entry::Opened { .. } => return,
            Entry::User { text, .. } => Message::User { text: text.clone() },
            Entry::Assistant { blocks, usage, .. } => {
                // Before the answer counts itself: the request was what was there.
                self.ratio = measured_ratio(self.fixed + self.bytes, usage).unwrap_or(self.ratio);
                Message::Assistant { blocks: blocks.clone() }
            }
            Entry::Tool { result } => {
                if let Some(Message::Tool { results }) = messages.last_mut() {
                    self.bytes += result.text.len() + MESSAGE_COST;
                    return results.push(result.clone());
                }
                Message::Tool { results: vec![result.clone()] }
            }
            Entry::Shortened { calls, keep } => {
                shorten(messages, calls, *keep);
                return self.count();
            }
            Entry::Dropped { messages: count } => {
                let end = (1 + count).min(messages.len());
                messages.drain(1.min(end)..end);
                if let (Some(Message::User { text }), false) = (messages.first_mut(), self.has_gap) {
                    text.push_str(GAP);
                    self.has_gap = true;
                }
                return self.count();
            }
        };
        self.bytes += size(&new);
        messages.push(new);
    }

    /// Counts the bytes anew.
    fn count(&mut self) {
        self.bytes = self.messages.iter().map(size).sum();
    }

    /// Calls of the last answer that have no result, with their tools.
    pub(super) fn open_calls(&self) -> Vec<(String, String)> {
        let mut answered = Vec::new();
        for message in self.messages.iter().rev() {
            match message {
                Message::Tool { results } => answered.extend(results.iter().map(|result| &result.call_id)),
                Message::User { .. } => return Vec::new(),
                Message::Assistant { blocks } => {
                    let call = |block: &Block| match block {
                        Block::ToolCall { id, name, .. } if !answered.contains(&id) => Some((id.clone(), name.clone())),
                        _ => None,
                    };
                    return blocks.iter().filter_map(call).collect();
                }
            }
        }
        Vec::new()
    }

    /// Tokens of the next request, reckoned.
    pub(super) fn tokens(&self) -> u64 {
        tokens(self.fixed + self.bytes, self.ratio)
    }

    /// What has to be left out so that the next request and its answer fit into `window` tokens, as entries to apply
    /// and to write down; none when it fits.
    pub(super) fn fit(&self, window: u64) -> Vec<Entry> {
        let room = window - ANSWER.min(window / 4);
        if self.tokens() <= room {
            return Vec::new();
        }
        let target = (room as f64 * REFILL) as u64;
        let mut trial = self.clone();
        let mut entries = Vec::new();
        let mut take = |trial: &mut Self, entry: Entry| {
            trial.apply(&entry);
            entries.push(entry);
        };
        let old = self.messages.len().saturating_sub(RECENT);
        if let Some(entry) = trial.shortening(..old, target, 0) {
            take(&mut trial, entry);
        }
        if trial.tokens() > room
            && let Some(entry) = trial.dropping(target)
        {
            take(&mut trial, entry);
        }
        // Only what is recent is left: the largest results give way.
        let mut keep = (room as f64 * trial.ratio / 4.0) as usize;
        while trial.tokens() > room && keep > WORTH {
            if let Some(entry) = trial.shortening(.., 0, keep) {
                take(&mut trial, entry);
            }
            keep /= 2;
        }
        entries
    }

    /// The oldest results in `range` whose shortening to `keep` bytes brings the request down to `target`, or all.
    fn shortening(
        &self,
        range: impl std::slice::SliceIndex<[Message], Output = [Message]>,
        target: u64,
        keep: usize,
    ) -> Option<Entry> {
        let results = self.messages[range].iter().filter_map(|message| match message {
            Message::Tool { results } => Some(results),
            _ => None,
        });
        let mut bytes = self.fixed + self.bytes;
        let mut calls = Vec::new();
        for result in results.flatten().filter(|result| result.text.len() > keep.max(WORTH) + 100) {
            if tokens(bytes, self.ratio) <= target {
                break;
            }
            bytes -= result.text.len() - keep;
            calls.push(result.call_id.clone());
        }
        (!calls.is_empty()).then_some(Entry::Shortened { calls, keep })
    }

    /// The oldest messages after the first whose dropping brings the request down to `target`, or as many as may be.
    /// What is left begins with an answer of the model, so that no result is without its call.
    fn dropping(&self, target: u64) -> Option<Entry> {
        let last = self.messages.len().saturating_sub(RECENT);
        let mut bytes = self.fixed + self.bytes;
        let mut count = None;
        for (at, message) in self.messages.iter().enumerate().skip(1) {
            if at > 1 && matches!(message, Message::Assistant { .. }) {
                if at > last && count.is_some() {
                    break;
                }
                count = Some(at - 1);
                if tokens(bytes, self.ratio) <= target || at > last {
                    break;
                }
            }
            bytes -= size(message);
        }
        count.map(|messages| Entry::Dropped { messages })
    }
}

/// Shortens the results of these calls.
fn shorten(messages: &mut [Message], calls: &[String], keep: usize) {
    for message in messages {
        let Message::Tool { results } = message else { continue };
        for result in results.iter_mut().filter(|result| calls.contains(&result.call_id)) {
            result.text = match keep {
                0 => format!(
                    "[{} bytes of output left out to save room; call the tool again if needed]",
                    result.text.len()
                ),
                keep => cap_text(&result.text, keep),
            };
        }
    }
}

/// Bytes of a token in a request of this size; `None` when nobody counted, or the count cannot be.
fn measured_ratio(bytes: usize, usage: &Usage) -> Option<f64> {
    let is_counted = usage.measured && usage.input_tokens > 100;
    let ratio = bytes as f64 / usage.input_tokens as f64;
    is_counted.then_some(ratio).filter(|ratio| ratio.is_finite()).map(|ratio| ratio.clamp(1.5, 6.0))
}

/// Tokens of so many bytes.
fn tokens(bytes: usize, ratio: f64) -> u64 {
    (bytes as f64 / ratio).ceil() as u64
}

/// Bytes of a message.
fn size(message: &Message) -> usize {
    let block = |block: &Block| match block {
        Block::Text { text } => text.len(),
        Block::Thinking { text, signature } => text.len() + signature.as_ref().map_or(0, String::len),
        Block::ToolCall { name, input, .. } => name.len() + input_size(input) + MESSAGE_COST,
    };
    MESSAGE_COST
        + match message {
            Message::User { text } => text.len(),
            Message::Assistant { blocks } => blocks.iter().map(block).sum(),
            Message::Tool { results } => results.iter().map(|result| result.text.len() + MESSAGE_COST).sum(),
        }
}

/// Bytes of an input, about as many as its text has.
fn input_size(input: &serde_json::Value) -> usize {
    use serde_json::Value;
    match input {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| input_size(item) + 1).sum::<usize>() + 2,
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| name.len() + input_size(value) + 4).sum::<usize>() + 2
        }
        _ => 5,
    }
}

#[cfg(test)]
mod tests;
