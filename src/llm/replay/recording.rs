//! Recordings: what a model was told and what it answered, one exchange a line.
//!
//! An exchange holds what came since the model's last message, and a digest of that message. So the exchange that a
//! conversation has come to is found from the conversation alone, wherever it was interrupted, and also when its older
//! part was shortened meanwhile. Working folders are stored as a placeholder: a recording plays in any folder.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::compare::{CWD, difference, normal, with_placeholder};
use crate::llm::message::{Block, Message, StopReason, ToolResult, Usage};
use crate::model::Time;

/// Version of [`Exchange`].
const VERSION: u32 = 1;

/// One line of a recording: a request in short, and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Exchange {
    /// Version of this shape; within one version fields are only added.
    version: u32,
    /// When it was answered.
    at: Time,
    /// `provider/model` that answered.
    pub(crate) model: String,
    /// How many messages of the model the request held.
    pub(crate) turn: usize,
    /// What stands for the working folder in the texts of this line.
    cwd: String,
    /// Digest of the conversation's first message, and so of conversations that share a file.
    pub(crate) conversation: String,
    /// Digest of the model's last message before; absent in a conversation's first exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    /// What was said since: the prompt, or the tool results and what was said with them.
    saw: Vec<Message>,
    /// The model's message.
    pub(crate) answer: Vec<Block>,
    /// Why it ended there.
    pub(crate) stop: StopReason,
    /// What it cost.
    pub(crate) usage: Usage,
}

/// What an answer was, to be recorded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answered<'a> {
    /// `provider/model`.
    pub(super) model: &'a str,
    /// Its blocks.
    pub(super) blocks: &'a [Block],
    /// Why it ended.
    pub(super) stop: &'a StopReason,
    /// What it cost.
    pub(super) usage: Usage,
}

impl Exchange {
    /// The record of an answer to these messages, given in the folder `cwd`.
    pub(super) fn new(messages: &[Message], answered: Answered<'_>, cwd: &str) -> Self {
        let (before, saw) = at_last_answer(messages);
        let mut exchange = Self {
            version: VERSION,
            at: Time::now(),
            model: answered.model.to_owned(),
            turn: turn(messages),
            cwd: CWD.to_owned(),
            conversation: conversation(messages, cwd),
            after: before.map(|blocks| digest(blocks, cwd)),
            saw: saw.to_vec(),
            answer: answered.blocks.to_vec(),
            stop: answered.stop.clone(),
            usage: answered.usage,
        };
        // A text may hold the placeholder itself: then another one stands for the folder.
        let text = serde_json::to_string(&(&exchange.saw, &exchange.answer)).unwrap_or_default();
        let mut number = 1;
        while text.contains(&exchange.cwd) {
            number += 1;
            exchange.cwd = format!("{{cwd{number}}}");
        }
        let placeholder = exchange.cwd.clone();
        exchange.map_texts(&|text| with_placeholder(text, cwd, &placeholder));
        exchange
    }

    /// Reads one line; `None` for one that was cut off when its writer died.
    pub(super) fn parse(line: &str) -> Result<Option<Self>, String> {
        let exchange: Self = match serde_json::from_str(line) {
            Ok(exchange) => exchange,
            Err(error) if error.is_eof() => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        match exchange.version {
            VERSION => Ok(Some(exchange)),
            version => Err(format!("version {version} is not known; this program reads version {VERSION}")),
        }
    }

    /// What it was told; empty for tool results.
    pub(crate) fn prompt(&self) -> &str {
        self.saw
            .iter()
            .find_map(|message| match message {
                Message::User { text } => Some(text.as_str()),
                _ => None,
            })
            .unwrap_or_default()
    }

    /// The same as it would be in another working folder.
    fn in_folder(&self, cwd: &str) -> Self {
        let mut exchange = self.clone();
        exchange.map_texts(&|text| text.replace(&self.cwd, cwd));
        exchange
    }

    /// Applies `change` to every text in which a path can be.
    fn map_texts(&mut self, change: &dyn Fn(&str) -> String) {
        for message in &mut self.saw {
            match message {
                Message::User { text } => *text = change(text),
                Message::Assistant { blocks } => blocks.iter_mut().for_each(|block| map_block(block, change)),
                Message::Tool { results } => results.iter_mut().for_each(|result| result.text = change(&result.text)),
            }
        }
        self.answer.iter_mut().for_each(|block| map_block(block, change));
    }
}

/// Applies `change` to the texts of a block. A thought that is signed stays as it is, else its signature would not hold.
fn map_block(block: &mut Block, change: &dyn Fn(&str) -> String) {
    match block {
        Block::Text { text } | Block::Thinking { text, signature: None } => *text = change(text),
        Block::Thinking { .. } => {}
        Block::ToolCall { input, .. } => map_value(input, change),
    }
}

/// Applies `change` to every string of a value.
fn map_value(value: &mut Value, change: &dyn Fn(&str) -> String) {
    match value {
        Value::String(text) => *text = change(text),
        Value::Array(items) => items.iter_mut().for_each(|item| map_value(item, change)),
        Value::Object(entries) => entries.values_mut().for_each(|item| map_value(item, change)),
        _ => {}
    }
}

/// How many messages of the model there are.
fn turn(messages: &[Message]) -> usize {
    messages.iter().filter(|message| matches!(message, Message::Assistant { .. })).count()
}

/// The model's last message, and what came since.
fn at_last_answer(messages: &[Message]) -> (Option<&[Block]>, &[Message]) {
    let last = messages.iter().rposition(|message| matches!(message, Message::Assistant { .. }));
    match last.map(|last| (&messages[last], &messages[last + 1..])) {
        Some((Message::Assistant { blocks }, since)) => (Some(blocks), since),
        _ => (None, messages),
    }
}

/// Names a message of the model by what it says and calls, whatever the ids of the calls and the folder.
fn digest(blocks: &[Block], cwd: &str) -> String {
    let parts = blocks.iter().filter_map(|block| match block {
        Block::Text { text } => {
            let text = with_placeholder(text.trim(), cwd, CWD);
            (!text.is_empty()).then_some(Value::String(text))
        }
        Block::Thinking { .. } => None,
        Block::ToolCall { name, input, .. } => {
            let mut input = input.clone();
            map_value(&mut input, &|text| with_placeholder(text, cwd, CWD));
            Some(serde_json::json!([name, input]))
        }
    });
    let mut parts = Value::Array(parts.collect());
    // In whatever order the model wrote the keys of an input.
    parts.sort_all_objects();
    hash(&parts.to_string())
}

/// Names a conversation by its first message.
fn conversation(messages: &[Message], cwd: &str) -> String {
    hash(&messages.first().map_or_else(String::new, |first| said(std::slice::from_ref(first), cwd)))
}

/// Twelve hex digits of a text's hash.
fn hash(text: &str) -> String {
    let mut hex: String = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(12);
    hex
}

/// What was said to the model as one text to compare.
fn said(messages: &[Message], cwd: &str) -> String {
    let parts = messages.iter().map(|message| match message {
        Message::User { text } => format!("user:\n{}", normal(text, cwd)),
        Message::Assistant { .. } => String::new(),
        Message::Tool { results } => {
            results.iter().map(|result| result_text(result, cwd)).collect::<Vec<_>>().join("\n")
        }
    });
    parts.collect::<Vec<_>>().join("\n")
}

/// A tool result as a text to compare.
fn result_text(result: &ToolResult, cwd: &str) -> String {
    let kind = if result.is_error { "error" } else { "result" };
    format!("{kind} of {}:\n{}", result.name, normal(&result.text, cwd))
}

/// A recording as it was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recording {
    /// Where it is, for messages.
    file: PathBuf,
    /// Its exchanges in the order recorded.
    pub(crate) exchanges: Vec<Exchange>,
}

/// A line of a recording that is none.
#[derive(Debug, thiserror::Error)]
#[error("{}:{line}: not an exchange of a recording: {reason}", file.display())]
pub(crate) struct BadExchange {
    /// The recording.
    file: PathBuf,
    /// The line, from 1.
    line: usize,
    /// What is wrong with it.
    reason: String,
}

impl Recording {
    /// Reads a recording. A line that was cut off does not count: its answer never reached a conversation.
    ///
    /// # Errors
    /// With file and line of any other line that is no exchange.
    pub(crate) fn parse(file: &Path, text: &str) -> Result<Self, BadExchange> {
        let mut exchanges = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let bad = |reason| BadExchange { file: file.to_owned(), line: index + 1, reason };
            exchanges.extend(Exchange::parse(line.trim()).map_err(bad)?);
        }
        Ok(Self { file: file.to_owned(), exchanges })
    }

    /// The exchange that a conversation has come to, as in the folder `cwd`.
    ///
    /// # Errors
    /// Both sides, when what is said now is not what was recorded.
    pub(crate) fn find(&self, messages: &[Message], cwd: &str) -> Result<Exchange, String> {
        let (before, since) = at_last_answer(messages);
        let after = before.map(|blocks| digest(blocks, cwd));
        let (conversation, turn) = (conversation(messages, cwd), turn(messages));
        let candidates: Vec<Exchange> =
            self.exchanges.iter().filter(|one| one.after == after).map(|one| one.in_folder(cwd)).collect();
        // The last of equals: after a crash the same question was asked again, and this is the answer that went on.
        let nearest = |one: &&Exchange| (one.conversation == conversation, one.turn == turn);
        let now = said(since, cwd);
        if let Some(found) = candidates.iter().filter(|one| said(&one.saw, cwd) == now).max_by_key(nearest) {
            return Ok(found.clone());
        }
        match candidates.iter().max_by_key(nearest) {
            Some(recorded) => Err(format!(
                "what the model is told in turn {} is not what `{}` was recorded with\n{}",
                turn + 1,
                self.file.display(),
                difference(&said(&recorded.saw, cwd), &now)
            )),
            None => Err(self.astray(turn, &now)),
        }
    }

    /// Words for a conversation whose last answer is followed by nothing in the recording.
    fn astray(&self, turn: usize, now: &str) -> String {
        let file = self.file.display();
        let what = match self.exchanges.iter().map(|one| one.turn).max() {
            None => format!("`{file}` holds no exchange"),
            Some(last) if turn > last => format!("`{file}` ends after turn {}, and the conversation goes on", last + 1),
            Some(_) => format!("the model's last message before turn {} is not in `{file}`", turn + 1),
        };
        format!("{what}\n{}", difference("", now))
    }
}

#[cfg(test)]
mod tests;
