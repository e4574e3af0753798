//! Which turn of which conversation a request has come to, read off the messages that it repeats.
//!
//! A prompt chooses a conversation. Each round of tool results behind it is one turn of that conversation. A prompt that
//! comes after the model had finished, or that interrupts it, chooses anew; what a person says while a tool runs does not,
//! unless it holds a marker.

use std::collections::BTreeMap;

use super::{Chosen, Script};
use crate::llm::message::{Block, Message};

/// What starts a marker in a prompt.
const MARKER: &str = "SCRIPT:";

/// How Claude Code tells the model that a person stopped the turn before.
const INTERRUPTED: &str = "[Request interrupted by user";

/// What a request has come to.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::llm) enum Place {
    /// A turn of a conversation.
    Turn {
        /// The conversation's number in the script.
        conversation: usize,
        /// How many of its turns have been answered with tool results.
        turn: usize,
        /// The `key=value` words behind its marker.
        parameters: BTreeMap<String, String>,
    },
    /// A marker names a conversation that is not there.
    Unknown(String),
    /// The prompt chooses none.
    Nowhere,
}

/// Whether a character belongs to a conversation's name.
pub(super) fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

/// Finds the place of a request.
pub(in crate::llm) fn find(script: &Script, messages: &[Message]) -> Place {
    let mut place = Place::Nowhere;
    let (mut has_finished, mut ordered) = (true, 0);
    let mut rest = messages;
    while let Some(first) = rest.first() {
        let length = rest.iter().take_while(|one| is_same_role(one, first)).count();
        let (run, behind) = rest.split_at(length);
        rest = behind;
        match first {
            Message::Assistant { .. } => has_finished = !run.iter().any(calls_a_tool),
            Message::Tool { .. } => {
                if let Place::Turn { turn, .. } = &mut place {
                    *turn += 1;
                }
                has_finished = false;
            }
            Message::User { .. } => {
                let texts: Vec<&str> = run.iter().filter_map(user_text).collect();
                if let Some((name, parameters)) = texts.iter().rev().find_map(|text| parse_marker(text)) {
                    place = marked(script, name, parameters);
                } else if has_finished || texts.iter().any(|text| text.starts_with(INTERRUPTED)) {
                    place = unmarked(script, &texts, &mut ordered);
                }
                has_finished = false;
            }
        }
    }
    place
}

/// Whether two messages are of one speaker.
fn is_same_role(one: &Message, other: &Message) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

/// Whether a message of the model calls a tool.
fn calls_a_tool(message: &Message) -> bool {
    matches!(message, Message::Assistant { blocks } if blocks.iter().any(|block| matches!(block, Block::ToolCall { .. })))
}

/// What a message of the person says.
fn user_text(message: &Message) -> Option<&str> {
    match message {
        Message::User { text } => Some(text),
        _ => None,
    }
}

/// The place that a marker names.
fn marked(script: &Script, name: String, parameters: BTreeMap<String, String>) -> Place {
    match script.conversations.iter().position(|one| one.name.as_str() == name) {
        Some(conversation) => Place::Turn { conversation, turn: 0, parameters },
        None => Place::Unknown(name),
    }
}

/// The place that a prompt without a marker chooses.
fn unmarked(script: &Script, texts: &[&str], ordered: &mut usize) -> Place {
    let all = &script.conversations;
    let by_prompt = all.iter().position(|one| {
        one.prompt.as_ref().is_some_and(|prompt| texts.iter().any(|text| text.contains(prompt.as_str())))
    });
    let with = |chosen: Chosen| (0..all.len()).filter(move |index| all[*index].chosen == chosen);
    let by_order = || {
        let next = with(Chosen::Order).nth(*ordered);
        *ordered += usize::from(next.is_some());
        next
    };
    match by_prompt.or_else(by_order).or_else(|| with(Chosen::Any).next()) {
        Some(conversation) => Place::Turn { conversation, turn: 0, parameters: BTreeMap::new() },
        None => Place::Nowhere,
    }
}

/// Reads `SCRIPT:name key=value ...` up to the end of its line.
fn parse_marker(text: &str) -> Option<(String, BTreeMap<String, String>)> {
    let at = text.rfind(MARKER)? + MARKER.len();
    let mut words = text[at..].lines().next()?.split_whitespace();
    let name: String = words.next()?.chars().take_while(|c| is_name_character(*c)).collect();
    let parameters = words.map_while(|word| word.split_once('='));
    let parameters = parameters.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    (!name.is_empty()).then_some((name, parameters))
}
