//! Scripts: model conversations that people write down, as data.
//!
//! A script file is YAML or JSON. It holds named conversations, each a list of turns; a turn is one message of the
//! "model". Which turn is played next is read off the conversation that a request brings along, never counted: so
//! scripts survive a restart of either side, retries, and many agents at once.
//!
//! ```yaml
//! version: 1
//! conversations:
//!   - name: greet                     # played when a prompt says SCRIPT:greet, maybe with SCRIPT:greet word=hello
//!     turns:
//!       - say: I write the file first.
//!         calls:
//!           - write: {path: "{cwd}/greeting.txt", content: "{word}\n"}
//!       - faults: [{kind: 503, times: 2, retry_after: 1s}, {kind: cut, times: 1}]
//!         say: Done.
//! ```
//!
//! Parts: this file is the format, [`place`] finds the turn of a request, [`words`] fills in variables.

pub(super) mod place;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::message::{Block, StopReason};
use crate::config::{self, ConfigError};
use crate::model::serde_duration;

/// A script file.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Script {
    /// Version of the format; 1 is the only one so far.
    #[serde(default = "first_version")]
    version: Version,
    /// Values for `{name}` in the texts of all turns. A `name=value` behind a marker wins over them, and they win over
    /// `{cwd}`, the client's working folder. `{{name}}` stands for `{name}` itself; other braces stay as they are.
    #[serde(default)]
    pub(crate) variables: BTreeMap<String, String>,
    /// Tokens that each turn claims to have used, unless it says otherwise. Without it they are estimated.
    #[serde(default)]
    pub(crate) usage: Option<Tokens>,
    /// What is said to a prompt that chooses no conversation; without it that is an error.
    #[serde(default)]
    pub(crate) otherwise: Option<String>,
    /// The models that are there; any other is missing. Without it every model is there.
    #[serde(default)]
    pub(crate) models: Vec<ServedModel>,
    /// The conversations.
    #[serde(deserialize_with = "named_once")]
    pub(crate) conversations: Vec<Conversation>,
}

/// One conversation: the answers to a prompt and to the tool results that follow it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Conversation {
    /// Letters, digits, `-` and `_`. A prompt that holds `SCRIPT:NAME` chooses it; words `key=value` behind that, on the
    /// same line, are its variables.
    pub(crate) name: Name,
    /// Which prompts without a marker choose it, too.
    #[serde(default, rename = "for")]
    pub(crate) chosen: Chosen,
    /// Prompts without a marker that contain this text choose it, before those that `for` says.
    #[serde(default)]
    pub(crate) prompt: Option<String>,
    /// The model's messages in order. Every one but the last should call a tool: the next one is the answer to its results.
    /// After the last one the model says that the script has ended.
    pub(crate) turns: Vec<Turn>,
}

/// Which prompts without a marker choose a conversation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Chosen {
    /// None.
    #[default]
    Marker,
    /// The first such prompt of a client chooses the first conversation that says `order`, the second one the second.
    Order,
    /// All that choose no other.
    Any,
}

/// One message of the model: first what it thinks, then what it says, then its calls. It may be empty.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Turn {
    /// Thoughts.
    #[serde(default)]
    pub(crate) think: Option<String>,
    /// Text for the person.
    #[serde(default)]
    pub(crate) say: Option<String>,
    /// Tool calls, side by side.
    #[serde(default)]
    pub(crate) calls: Vec<Call>,
    /// Why it ends there.
    #[serde(default)]
    pub(crate) stop: Stop,
    /// Tokens it claims to have used.
    #[serde(default)]
    pub(crate) usage: Option<Tokens>,
    /// Texts that must be in what came since the model's last message: the prompt or the tool results. Another request is
    /// refused, and told what is missing.
    #[serde(default)]
    pub(crate) expect: Vec<String>,
    /// What goes wrong before it gets through, in this order.
    #[serde(default)]
    pub(crate) faults: Vec<Fault>,
}

/// A tool call, `TOOL: INPUT`. A text instead of an input of keys and values is sent as it stands: a malformed call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    /// The tool's name, sent as it stands here.
    pub(crate) tool: String,
    /// Its input.
    pub(crate) input: Value,
}

/// Tokens of one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tokens {
    /// Read.
    pub(crate) input_tokens: u64,
    /// Written.
    pub(crate) output_tokens: u64,
}

/// Why a message ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stop {
    /// There is no more to say.
    #[default]
    End,
    /// The limit of output tokens is reached.
    Length,
    /// The provider withholds the rest.
    Refused,
}

impl From<Stop> for StopReason {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::End => Self::End,
            Stop::Length => Self::Length,
            Stop::Refused => Self::Refused("refusal".to_owned()),
        }
    }
}

/// Something that goes wrong with a turn.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    /// What.
    pub(crate) kind: FaultKind,
    /// How often, counted for each client and turn; without it every time.
    #[serde(default)]
    pub(crate) times: Option<u32>,
    /// With a status: when the client may try again, such as `2s`.
    #[serde(default, with = "serde_duration::option")]
    #[schemars(with = "Option<String>")]
    pub(crate) retry_after: Option<Duration>,
    /// With a status or `error`: what the provider says.
    #[serde(default)]
    pub(crate) message: Option<String>,
    /// With `slow`: how long nothing comes at first.
    #[serde(default, with = "serde_duration::option")]
    #[schemars(with = "Option<String>")]
    pub(crate) first: Option<Duration>,
    /// With `slow`: the pause between two pieces.
    #[serde(default, with = "serde_duration::option")]
    #[schemars(with = "Option<String>")]
    pub(crate) between: Option<Duration>,
}

/// Kinds of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum FaultKind {
    /// An error answer with this HTTP status.
    Status(u16),
    /// The connection closes in the middle of the answer.
    Cut,
    /// Bytes that are no answer of the protocol.
    Malformed,
    /// The answer begins, and then says that something failed.
    Error,
    /// Nothing comes until the conversation is released, then the turn.
    Hang,
    /// The turn comes, but its message does not end until the conversation is released.
    HangAtEnd,
    /// The turn comes slowly.
    Slow,
}

/// The words for faults besides the statuses.
const FAULT_WORDS: [(&str, FaultKind); 6] = [
    ("cut", FaultKind::Cut),
    ("malformed", FaultKind::Malformed),
    ("error", FaultKind::Error),
    ("hang", FaultKind::Hang),
    ("hang_at_end", FaultKind::HangAtEnd),
    ("slow", FaultKind::Slow),
];

impl TryFrom<String> for FaultKind {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Some((_, kind)) = FAULT_WORDS.iter().find(|(word, _)| *word == text) {
            return Ok(*kind);
        }
        match text.parse() {
            Ok(status @ 400..=599) => Ok(Self::Status(status)),
            _ => {
                let words = FAULT_WORDS.map(|(word, _)| word).join(", ");
                Err(format!("`{text}` is no fault: expected an HTTP status from 400 to 599, or one of {words}"))
            }
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            kind => f.write_str(FAULT_WORDS.iter().find(|(_, known)| known == kind).map_or("", |(word, _)| word)),
        }
    }
}

impl JsonSchema for FaultKind {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FaultKind".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let words = FAULT_WORDS.map(|(word, _)| word);
        schemars::json_schema!({
            "description": "An HTTP status; or `cut`: the connection closes in the middle of the answer; `malformed`: bytes \
                that are no answer of the protocol; `error`: the answer begins and then says that something failed; `hang`: \
                nothing comes until the conversation is released; `hang_at_end`: the turn comes, but its message does not \
                end until then; `slow`: the turn comes slowly.",
            "anyOf": [{"type": "integer", "minimum": 400, "maximum": 599}, {"enum": words}],
        })
    }
}

/// A model that a script serves.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServedModel {
    /// Its name.
    pub(crate) name: String,
    /// Whether it can call tools; requests with tools are refused otherwise.
    #[serde(default = "yes")]
    pub(crate) tools: bool,
    /// Tokens that fit into its context.
    #[serde(default)]
    pub(crate) context: Option<u64>,
}

/// The name of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub(crate) struct Name(#[schemars(regex(pattern = "^[A-Za-z0-9_-]+$"))] String);

impl Name {
    /// As a text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if !text.is_empty() && text.chars().all(place::is_name_character) {
            Ok(Self(text))
        } else {
            Err(format!("`{text}` is no name of a conversation: letters, digits, `-` and `_`"))
        }
    }
}

/// The version of a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u64")]
struct Version;

impl TryFrom<u64> for Version {
    type Error = String;

    fn try_from(version: u64) -> Result<Self, String> {
        if version == 1 {
            Ok(Self)
        } else {
            Err(format!("version {version} is not known; this program reads version 1"))
        }
    }
}

impl JsonSchema for Version {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Version".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"const": 1, "default": 1})
    }
}

/// The version of a file that names none.
fn first_version() -> Version {
    Version
}

/// The default of a switch.
fn yes() -> bool {
    true
}

/// Reads the conversations and refuses two of one name.
fn named_once<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Conversation>, D::Error> {
    let conversations = Vec::<Conversation>::deserialize(deserializer)?;
    for (index, conversation) in conversations.iter().enumerate() {
        if conversations[..index].iter().any(|earlier| earlier.name == conversation.name) {
            let name = conversation.name.as_str();
            return Err(de::Error::custom(format!("two conversations are called `{name}`")));
        }
    }
    Ok(conversations)
}

impl<'de> Deserialize<'de> for Call {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(CallVisitor)
    }
}

/// Reads the one entry of a call.
struct CallVisitor;

impl<'de> Visitor<'de> for CallVisitor {
    type Value = Call;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tool's name with its input")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Call, A::Error> {
        let wrong = || de::Error::custom("a call is one tool's name with its input, such as `bash: {command: ls}`");
        let tool = access.next_key::<String>()?.ok_or_else(wrong)?;
        let input = access.next_value()?;
        match access.next_key::<String>()? {
            None => Ok(Call { tool, input }),
            Some(_) => Err(wrong()),
        }
    }
}

impl JsonSchema for Call {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Call".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A tool call, `TOOL: INPUT`. The name is sent as it stands here; a text instead of an input of \
                keys and values is sent as it stands, too: a malformed call.",
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
        })
    }
}

impl Script {
    /// Reads a script; `file` is for messages.
    ///
    /// # Errors
    /// With file, line and column.
    pub(crate) fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        config::parse_yaml(file, text)
    }

    /// The names of all conversations, for messages.
    pub(crate) fn names(&self) -> String {
        let names: Vec<_> = self.conversations.iter().map(|one| format!("`{}`", one.name.as_str())).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }
}

impl Turn {
    /// Its blocks with the variables filled in; `id` gives the call with that number a name.
    pub(super) fn blocks(&self, variables: &BTreeMap<String, String>, id: impl Fn(usize) -> String) -> Vec<Block> {
        let fill = |text: &String| words::fill(text, variables);
        let thought = self.think.iter().map(|text| Block::Thinking { text: fill(text), signature: None });
        let said = self.say.iter().map(|text| Block::Text { text: fill(text) });
        let called = self.calls.iter().enumerate().map(|(index, call)| Block::ToolCall {
            id: id(index),
            name: call.tool.clone(),
            input: words::fill_all(&call.input, variables),
        });
        thought.chain(said).chain(called).collect()
    }
}

#[cfg(test)]
mod tests;
