//! What a file plays: the next message of the model for a conversation, from a script or a recording.
//!
//! Both ways to play stand on this: [`super::replay::Replay`] inside our own loop, [`super::serve`] over HTTP.

mod summary;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub(crate) use summary::{PlayKind, PlayView};

use super::message::{Block, Message, StopReason};
use super::replay::{BadExchange, Recording};
use super::script::place::{self, Place};
use super::script::{Fault, Script, ServedModel, Tokens, Turn};
use crate::config::ConfigError;
use crate::files::{self, FileError};

/// What the model says when a script has no more turns.
const ENDED: &str = "The script has ended.";

/// Bytes of text that one token stands for where nobody counts them: a common rule of thumb for English and code.
const TOKEN_BYTES: usize = 4;

/// A file that cannot be played.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlayError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not there.
    #[error("there is no file `{}`", .0.display())]
    Missing(PathBuf),
    /// It is not text.
    #[error("`{}` is not UTF-8 text", .0.display())]
    NotText(PathBuf),
    /// It is no script.
    #[error(transparent)]
    Script(#[from] ConfigError),
    /// It is no recording.
    #[error(transparent)]
    Recording(#[from] BadExchange),
}

/// What a file holds.
#[derive(Debug, Clone)]
pub(crate) enum Play {
    /// Written by hand.
    Script(Script),
    /// Written down while a model answered.
    Recording(Recording),
}

/// A conversation as far as a request tells it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Dialogue {
    /// The system prompt.
    pub(crate) system: String,
    /// The messages, oldest first.
    pub(crate) messages: Vec<Message>,
    /// The client's working folder.
    pub(crate) cwd: Option<String>,
    /// What tells this client from others; empty where it says nothing.
    pub(crate) session: String,
}

/// The model's next message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    /// The conversation's name; empty where there is none.
    pub(crate) conversation: String,
    /// Its turn, from 0.
    pub(crate) turn: usize,
    /// The message.
    pub(crate) blocks: Vec<Block>,
    /// Why it ends.
    pub(crate) stop: StopReason,
    /// Tokens it claims to have used.
    pub(crate) tokens: Tokens,
    /// Whether somebody counted or wrote down the tokens; they are estimated otherwise.
    pub(crate) measured: bool,
    /// What goes wrong before it gets through.
    pub(crate) faults: Vec<Fault>,
}

/// Why there is no next message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Astray {
    /// The prompt names no conversation, or one that is not there.
    NoConversation(String),
    /// The conversation is another one than that of the file; both sides.
    Mismatch(String),
}

impl Astray {
    /// In words, maybe several lines.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::NoConversation(text) | Self::Mismatch(text) => text,
        }
    }
}

impl Play {
    /// Reads a file: a recording if its name ends in `.jsonl`, else a script.
    pub(crate) fn load(path: &Path) -> Result<Self, PlayError> {
        let bytes = files::read_if_exists(path)?.ok_or_else(|| PlayError::Missing(path.to_owned()))?;
        // The last line of a recording may end in the middle of a character.
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            return Ok(Self::Recording(Recording::parse(path, &String::from_utf8_lossy(&bytes))?));
        }
        let text = String::from_utf8(bytes).map_err(|_| PlayError::NotText(path.to_owned()))?;
        Ok(Self::Script(Script::parse(path, &text)?))
    }

    /// The models that are there; every one if empty.
    pub(crate) fn models(&self) -> &[ServedModel] {
        match self {
            Self::Script(script) => &script.models,
            Self::Recording(_) => &[],
        }
    }

    /// The model's next message. `id` makes a name for the tool call with that number in it; recorded calls have theirs.
    pub(crate) fn next(&self, dialogue: &Dialogue, id: impl Fn(usize) -> String) -> Result<Step, Astray> {
        match self {
            Self::Script(script) => from_script(script, dialogue, id),
            Self::Recording(recording) => from_recording(recording, dialogue),
        }
    }
}

/// The next message of a script.
fn from_script(script: &Script, dialogue: &Dialogue, id: impl Fn(usize) -> String) -> Result<Step, Astray> {
    let (conversation, turn, parameters) = match place::find(script, &dialogue.messages) {
        Place::Turn { conversation, turn, parameters } => (&script.conversations[conversation], turn, parameters),
        Place::Unknown(name) => {
            let text = format!("there is no conversation `{name}`; there are: {}", script.names());
            return Err(Astray::NoConversation(text));
        }
        Place::Nowhere => {
            let Some(text) = &script.otherwise else {
                let text = "the prompt chooses no conversation: put `SCRIPT:NAME` into it; there are: ";
                return Err(Astray::NoConversation(format!("{text}{}", script.names())));
            };
            return Ok(said(dialogue, "", 0, text, script.usage));
        }
    };
    let name = conversation.name.as_str();
    let Some(scripted) = conversation.turns.get(turn) else {
        return Ok(said(dialogue, name, turn, ENDED, script.usage));
    };
    check_expected(scripted, dialogue, name, turn)?;
    let cwd = dialogue.cwd.iter().map(|cwd| ("cwd".to_owned(), cwd.clone()));
    let variables: BTreeMap<_, _> = cwd.chain(script.variables.clone()).chain(parameters).collect();
    let blocks = scripted.blocks(&variables, id);
    let tokens = scripted.usage.or(script.usage);
    Ok(Step {
        conversation: name.to_owned(),
        turn,
        tokens: tokens.unwrap_or_else(|| estimate(dialogue, &blocks)),
        measured: tokens.is_some(),
        blocks,
        stop: scripted.stop.into(),
        faults: scripted.faults.clone(),
    })
}

/// Fails when a text is missing that a turn expects.
fn check_expected(turn: &Turn, dialogue: &Dialogue, name: &str, number: usize) -> Result<(), Astray> {
    let now = latest(&dialogue.messages);
    match turn.expect.iter().find(|expected| !now.contains(expected.as_str())) {
        None => Ok(()),
        Some(missing) => {
            let text = format!("turn {} of `{name}` expects\n    {missing}\n  and was told\n", number + 1);
            let told: String = now.lines().take(12).map(|line| format!("    {line}\n")).collect();
            Err(Astray::Mismatch(format!("{text}{}", told.trim_end())))
        }
    }
}

/// What came since the model's last message.
pub(crate) fn latest(messages: &[Message]) -> String {
    let last = messages.iter().rposition(|message| matches!(message, Message::Assistant { .. }));
    let since = &messages[last.map_or(0, |last| last + 1)..];
    let texts = since.iter().flat_map(|message| match message {
        Message::User { text } => vec![text.as_str()],
        Message::Tool { results } => results.iter().map(|result| result.text.as_str()).collect(),
        Message::Assistant { .. } => Vec::new(),
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// A message of one text.
fn said(dialogue: &Dialogue, conversation: &str, turn: usize, text: &str, tokens: Option<Tokens>) -> Step {
    let blocks = vec![Block::Text { text: text.to_owned() }];
    Step {
        conversation: conversation.to_owned(),
        turn,
        tokens: tokens.unwrap_or_else(|| estimate(dialogue, &blocks)),
        measured: tokens.is_some(),
        blocks,
        stop: StopReason::End,
        faults: Vec::new(),
    }
}

/// The next message of a recording.
fn from_recording(recording: &Recording, dialogue: &Dialogue) -> Result<Step, Astray> {
    let cwd = dialogue.cwd.as_deref().unwrap_or_default();
    let exchange = recording.find(&dialogue.messages, cwd).map_err(Astray::Mismatch)?;
    let usage = exchange.usage;
    Ok(Step {
        conversation: exchange.model,
        turn: exchange.turn,
        blocks: exchange.answer,
        stop: exchange.stop,
        tokens: Tokens { input_tokens: usage.input_tokens, output_tokens: usage.output_tokens },
        measured: usage.measured,
        faults: Vec::new(),
    })
}

/// Tokens by the length of what was read and written.
fn estimate(dialogue: &Dialogue, blocks: &[Block]) -> Tokens {
    let length = |bytes: Option<usize>| bytes.unwrap_or_default();
    let messages = length(serde_json::to_vec(&dialogue.messages).ok().map(|json| json.len()));
    let answer = length(serde_json::to_vec(blocks).ok().map(|json| json.len()));
    Tokens { input_tokens: tokens(dialogue.system.len() + messages), output_tokens: tokens(answer) }
}

/// Tokens of this many bytes, estimated.
pub(super) fn tokens(bytes: usize) -> u64 {
    u64::try_from(bytes / TOKEN_BYTES + 1).unwrap_or(u64::MAX)
}

/// How often each fault has happened, by client, conversation, turn and number of the fault.
#[derive(Debug, Default)]
pub(crate) struct FaultCounts(Mutex<HashMap<(String, String, usize, usize), u32>>);

impl FaultCounts {
    /// The fault of a step that is due now, counting it.
    pub(crate) fn due(&self, session: &str, step: &Step) -> Option<Fault> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, fault) in step.faults.iter().enumerate() {
            let key = (session.to_owned(), step.conversation.clone(), step.turn, number);
            let seen = counts.entry(key).or_default();
            if fault.times.is_none_or(|times| *seen < times) {
                *seen += 1;
                return Some(fault.clone());
            }
        }
        None
    }
}
