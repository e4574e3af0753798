//! Keeps secrets out of logs, and large values small.
//!
//! A secret is known by the name of the field that holds it, or by its own shape. Shapes are checked before a value
//! is cut, so that a cut never leaves half a key; the hash of a cut value is taken after redaction, so that it can
//! not be used to guess the secret.

mod pattern;

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::AgentError;
use crate::model::tool_call::Capped;

/// What stands where a secret was.
pub(super) const MARK: &str = "[redacted]";
/// Text values longer than this many bytes are cut to it.
const VALUE_LIMIT: usize = 4 * 1024;
/// An input that is still longer than this when its values are cut is cut as a whole.
const INPUT_LIMIT: usize = 64 * 1024;

/// Knows what a secret looks like.
#[derive(Debug, Clone)]
pub(crate) struct Redactor {
    /// Shapes of secrets besides the built-in ones.
    extra: Vec<Regex>,
}

/// A value without secrets and of bounded size.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Clean {
    /// The value.
    pub(super) value: Value,
    /// Paths of what was redacted, such as `env.TOKEN` or `edits.0.new_string`; sorted.
    pub(super) redacted: Vec<String>,
    /// Paths of what was cut; the empty path is the whole value.
    pub(super) truncated: BTreeMap<String, Capped>,
}

impl Redactor {
    /// The built-in shapes and `extra` ones. In an extra pattern the first group, where there is one, is the secret;
    /// otherwise the whole match is.
    pub(crate) fn new(extra: &[String]) -> Result<Self, AgentError> {
        let compile = |text: &String| {
            Regex::new(text).map_err(|source| AgentError::Pattern { pattern: text.clone(), source: Box::new(source) })
        };
        Ok(Self { extra: extra.iter().map(compile).collect::<Result<_, _>>()? })
    }

    /// A text without secrets.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut clean = text.to_owned();
        for pattern in pattern::built_in().iter().chain(&self.extra) {
            if let Some(changed) = pattern::replace(pattern, &clean) {
                clean = changed;
            }
        }
        clean
    }

    /// A text without secrets, cut to a length that fits a log line.
    pub(super) fn short_text(&self, text: &str) -> String {
        prefix(&self.text(text), VALUE_LIMIT).to_owned()
    }

    /// A value without secrets and of bounded size.
    pub(super) fn clean(&self, value: &Value) -> Clean {
        let mut clean = Clean { value: value.clone(), redacted: Vec::new(), truncated: BTreeMap::new() };
        self.walk(value, String::new(), &mut clean.redacted, &mut clean.truncated, &mut clean.value);
        clean.redacted.sort();
        let whole = clean.value.to_string();
        if whole.len() > INPUT_LIMIT {
            clean.truncated = BTreeMap::from([(String::new(), measure(&whole))]);
            clean.value = Value::String(prefix(&whole, VALUE_LIMIT).to_owned());
        }
        clean
    }

    /// Cleans `value` into `slot`, noting paths.
    fn walk(
        &self,
        value: &Value,
        path: String,
        redacted: &mut Vec<String>,
        truncated: &mut BTreeMap<String, Capped>,
        slot: &mut Value,
    ) {
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match (value, slot) {
            (Value::String(text), slot) => {
                let clean = self.text(text);
                if clean != *text {
                    redacted.push(path.clone());
                }
                if clean.len() > VALUE_LIMIT {
                    truncated.insert(path, measure(&clean));
                    *slot = Value::String(prefix(&clean, VALUE_LIMIT).to_owned());
                } else {
                    *slot = Value::String(clean);
                }
            }
            (Value::Array(items), Value::Array(slots)) => {
                for (index, (item, slot)) in items.iter().zip(slots).enumerate() {
                    self.walk(item, below(&index.to_string()), redacted, truncated, slot);
                }
            }
            (Value::Object(fields), Value::Object(slots)) => {
                for ((name, field), (_, slot)) in fields.iter().zip(slots.iter_mut()) {
                    if pattern::is_secret_name(name) && holds_something(field) {
                        redacted.push(below(name));
                        *slot = Value::String(MARK.to_owned());
                    } else {
                        self.walk(field, below(name), redacted, truncated, slot);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Whether a value can be a secret at all.
fn holds_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) => false,
        Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// The beginning of a text in at most `limit` bytes.
fn prefix(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

/// Size and hash.
fn measure(text: &str) -> Capped {
    let digest = Sha256::digest(text.as_bytes());
    let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Capped { bytes: text.len() as u64, sha256 }
}

#[cfg(test)]
mod tests;
