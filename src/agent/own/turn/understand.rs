//! What a model meant: small models write calls as text, get names wrong, and use an id twice.

use serde_json::Value;

use super::Engine;
use crate::agent::own::text_calls;
use crate::agent::own::tools::Call;
use crate::llm::Block;

impl Engine {
    /// The parts of an answer as they were meant: calls that were written as text are calls, tools have their right
    /// names, inputs are what they say, and ids are used once.
    pub(super) fn understand(&mut self, mut blocks: Vec<Block>) -> Vec<Block> {
        if !blocks.iter().any(|block| matches!(block, Block::ToolCall { .. })) {
            blocks = self.find_text_calls(blocks);
        }
        for block in &mut blocks {
            let Block::ToolCall { id, name, input } = block else { continue };
            if let Some(right) = text_calls::right_name(name, &self.rules.tools) {
                *name = right;
            }
            if let Value::String(text) = &*input
                && let Ok(object @ Value::Object(_)) = serde_json::from_str(text)
            {
                *input = object;
            }
            let mut number = 1;
            let first = if id.is_empty() { "call".to_owned() } else { id.clone() };
            while id.is_empty() || !self.ids.insert(id.clone()) {
                number += 1;
                *id = format!("{first}-{number}");
            }
        }
        blocks
    }

    /// The parts with the calls that the text holds.
    fn find_text_calls(&self, blocks: Vec<Block>) -> Vec<Block> {
        let text: Vec<&str> = blocks.iter().filter_map(text_of).collect();
        let Some((before, calls)) = text_calls::find(&text.join("\n"), &self.rules.tools) else { return blocks };
        let mut meant: Vec<Block> = blocks.into_iter().filter(|block| text_of(block).is_none()).collect();
        if !before.trim().is_empty() {
            meant.push(Block::Text { text: before });
        }
        let block = |(at, call): (usize, text_calls::TextCall)| Block::ToolCall {
            id: format!("text-{}", self.ids.len() + at + 1),
            name: call.tool,
            input: call.input,
        };
        meant.extend(calls.into_iter().enumerate().map(block));
        meant
    }
}

/// The text of a part that is one.
pub(super) fn text_of(block: &Block) -> Option<&str> {
    match block {
        Block::Text { text } => Some(text),
        _ => None,
    }
}

/// The call of a part that is one.
pub(super) fn call_of(block: &Block) -> Option<Call> {
    match block {
        Block::ToolCall { id, name, input } => Some(Call { id: id.clone(), tool: name.clone(), input: input.clone() }),
        _ => None,
    }
}
