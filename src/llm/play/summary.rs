//! What a file holds, in short.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::Play;
use crate::llm::message::Block;
use crate::llm::replay::Recording;
use crate::llm::script::{Chosen, Conversation};

/// Version of [`PlayView`].
const VERSION: u32 = 1;

/// What a script or a recording holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct PlayView {
    /// Version of this shape; within one version fields are only added.
    version: u32,
    /// The file.
    pub(crate) file: String,
    /// Whether it was written by hand or recorded.
    pub(crate) kind: PlayKind,
    /// Its conversations.
    pub(crate) conversations: Vec<ConversationView>,
}

/// Who wrote a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PlayKind {
    /// A person.
    Script,
    /// `--record`.
    Recording,
}

/// One conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct ConversationView {
    /// Its name; of a recorded one a digest of its first prompt.
    pub(crate) name: String,
    /// Which prompts choose it, in words; of a recorded one the beginning of its first prompt.
    pub(crate) chosen_by: String,
    /// Messages of the model.
    pub(crate) turns: usize,
    /// Tool calls in them.
    pub(crate) calls: usize,
    /// Faults before them.
    pub(crate) faults: usize,
}

impl Play {
    /// What it holds; `file` is for the answer.
    pub(crate) fn view(&self, file: &Path) -> PlayView {
        let (kind, conversations) = match self {
            Self::Script(script) => (PlayKind::Script, script.conversations.iter().map(scripted).collect()),
            Self::Recording(recording) => (PlayKind::Recording, recorded(recording)),
        };
        PlayView { version: VERSION, file: file.display().to_string(), kind, conversations }
    }
}

/// A conversation of a script.
fn scripted(conversation: &Conversation) -> ConversationView {
    let name = conversation.name.as_str();
    let mut chosen_by = format!("SCRIPT:{name}");
    if let Some(prompt) = &conversation.prompt {
        chosen_by.push_str(&format!(", prompts with `{prompt}`"));
    }
    match conversation.chosen {
        Chosen::Marker => {}
        Chosen::Order => chosen_by.push_str(", prompts by their order"),
        Chosen::Any => chosen_by.push_str(", any prompt"),
    }
    ConversationView {
        name: name.to_owned(),
        chosen_by,
        turns: conversation.turns.len(),
        calls: conversation.turns.iter().map(|turn| turn.calls.len()).sum(),
        faults: conversation.turns.iter().map(|turn| turn.faults.len()).sum(),
    }
}

/// The conversations of a recording in the order of their beginnings.
fn recorded(recording: &Recording) -> Vec<ConversationView> {
    let mut views: Vec<ConversationView> = Vec::new();
    for exchange in &recording.exchanges {
        let calls = exchange.answer.iter().filter(|block| matches!(block, Block::ToolCall { .. })).count();
        match views.iter_mut().find(|view| view.name == exchange.conversation) {
            Some(view) => {
                view.turns += 1;
                view.calls += calls;
            }
            None => views.push(ConversationView {
                name: exchange.conversation.clone(),
                chosen_by: exchange.prompt().lines().next().unwrap_or_default().to_owned(),
                turns: 1,
                calls,
                faults: 0,
            }),
        }
    }
    views
}
