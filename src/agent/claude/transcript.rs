//! The conversation file, read for its token counts while it grows.
//!
//! Its format is internal to the program and changes between versions: every line that does not look as expected
//! tells nothing. Assistant lines repeat the counts of their message, so each message counts once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::stream::has_price;
use crate::agent::event::Usage;

/// Most bytes read from one file at a time, so that a long conversation does not hold up its supervisor.
const READ_LIMIT: u64 = 8 * 1024 * 1024;

/// The conversation as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    /// The file of the conversation itself; sub-agents have files beside it.
    path: Option<PathBuf>,
    /// How far each file was read: the end of its last whole line.
    offsets: BTreeMap<PathBuf, u64>,
    /// Input and output tokens by message.
    messages: BTreeMap<String, (u64, u64)>,
    /// The price as the program states it.
    cost_usd: Option<f64>,
    /// Whether a model is used whose price is unknown.
    is_unpriced: bool,
}

/// The call that started a sub-agent, as the program notes it beside the conversation when it starts one (2.1.329).
pub(super) fn parent_call(transcript: &Path, agent: &str) -> Option<String> {
    let is_name = agent.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_'));
    let file = transcript.with_extension("").join("subagents").join(format!("agent-{agent}.meta.json"));
    let note: Value = serde_json::from_slice(&std::fs::read(file).ok().filter(|_| is_name)?).ok()?;
    Some(note.get("toolUseId")?.as_str()?.to_owned())
}

impl Transcript {
    /// Reads this file from now on; another one than before is another conversation.
    pub(super) fn follow(&mut self, path: &Path) {
        if self.path.as_deref() != Some(path) {
            *self = Self { path: Some(path.to_owned()), ..Self::default() };
        }
    }

    /// The figures so far.
    pub(super) fn usage(&self) -> Usage {
        Usage {
            input_tokens: self.messages.values().map(|(input, _)| input).sum(),
            output_tokens: self.messages.values().map(|(_, output)| output).sum(),
            cost_usd: self.cost_usd.filter(|_| !self.is_unpriced),
            is_estimated: false,
        }
    }

    /// Reads what is new.
    pub(super) fn read_on(&mut self) {
        let Some(path) = self.path.clone() else { return };
        let sub_agents = std::fs::read_dir(path.with_extension("").join("subagents"));
        let beside = sub_agents.into_iter().flatten().flatten().map(|entry| entry.path());
        let files: Vec<PathBuf> = beside.filter(|file| file.extension().is_some_and(|end| end == "jsonl")).collect();
        for file in files.into_iter().chain([path]) {
            self.read_file(&file);
        }
    }

    /// Reads what is new in one file.
    fn read_file(&mut self, path: &Path) {
        let mut offset = self.offsets.get(path).copied().unwrap_or(0);
        let Ok(mut file) = File::open(path) else { return };
        let length = file.metadata().map_or(0, |meta| meta.len());
        if length < offset {
            offset = 0;
        }
        let mut bytes = Vec::new();
        if length == offset
            || file.seek(SeekFrom::Start(offset)).is_err()
            || file.take(READ_LIMIT).read_to_end(&mut bytes).is_err()
        {
            return;
        }
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        // A line that is longer than one read would be met again and again: pass over what there is of it.
        let step = if whole == 0 && bytes.len() as u64 == READ_LIMIT { bytes.len() } else { whole };
        for line in bytes[..whole].split(|byte| *byte == b'\n') {
            if let Ok(line) = serde_json::from_slice::<Value>(line) {
                self.take(&line);
            }
        }
        self.offsets.insert(path.to_owned(), offset + step as u64);
    }

    /// Takes one line.
    fn take(&mut self, line: &Value) {
        match line.get("type").and_then(Value::as_str) {
            Some("assistant") => self.take_message(line.get("message").unwrap_or(&Value::Null)),
            Some("cost-state") => {
                let models = line.get("modelUsage").and_then(Value::as_object);
                self.is_unpriced |= line.get("hasUnknownModelCost").and_then(Value::as_bool) == Some(true);
                self.is_unpriced |= models.is_some_and(|models| !models.keys().all(|model| has_price(model)));
                self.cost_usd = line.get("totalCostUSD").and_then(Value::as_f64).or(self.cost_usd);
            }
            _ => {}
        }
    }

    /// Takes the counts of one message; the program's own error messages have a model in angle brackets.
    fn take_message(&mut self, message: &Value) {
        let (Some(id), Some(usage)) = (message.get("id").and_then(Value::as_str), message.get("usage")) else { return };
        let model = message.get("model").and_then(Value::as_str).unwrap_or("");
        self.is_unpriced |= !model.is_empty() && !model.starts_with('<') && !has_price(model);
        let count = |field: &str| usage.get(field).and_then(Value::as_u64).unwrap_or(0);
        let input = count("input_tokens") + count("cache_read_input_tokens") + count("cache_creation_input_tokens");
        let known = self.messages.entry(id.to_owned()).or_default();
        *known = (known.0.max(input), known.1.max(count("output_tokens")));
    }
}

#[cfg(test)]
mod tests;
