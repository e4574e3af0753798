//! The command line of a `command` agent.

use std::ffi::{OsStr, OsString};

use crate::model::agent::Agent;

/// The placeholders of a command, as `{name}`.
pub(super) const PLACEHOLDERS: [&str; 6] = ["prompt_file", "worktree", "repo", "ticket", "worker", "branch"];

/// What the placeholders stand for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommandValues<'a> {
    /// The file that holds the prompt.
    pub(crate) prompt_file: &'a OsStr,
    /// The worker's worktree.
    pub(crate) worktree: &'a OsStr,
    /// The main worktree.
    pub(crate) repo: &'a OsStr,
    /// The ticket's id.
    pub(crate) ticket: &'a OsStr,
    /// The worker's id.
    pub(crate) worker: &'a OsStr,
    /// The worker's branch.
    pub(crate) branch: &'a OsStr,
}

/// The program and arguments of an agent with each `{placeholder}` filled in. No shell takes part, and a value
/// is never searched for placeholders itself. `{{name}}` stays as `{name}`; other braces stay as they are.
pub(crate) fn expand_command(agent: &Agent, values: &CommandValues<'_>) -> Vec<OsString> {
    let value = |name: &str| match name {
        "prompt_file" => Some(values.prompt_file),
        "worktree" => Some(values.worktree),
        "repo" => Some(values.repo),
        "ticket" => Some(values.ticket),
        "worker" => Some(values.worker),
        "branch" => Some(values.branch),
        _ => None,
    };
    agent.command.iter().map(|argument| expand(argument, value)).collect()
}

/// One argument.
fn expand<'a>(argument: &str, value: impl Fn(&str) -> Option<&'a OsStr>) -> OsString {
    let mut text = OsString::new();
    for part in parts(argument) {
        match part {
            Part::Text(piece) => text.push(piece),
            Part::Name(name) => match value(name) {
                Some(value) => text.push(value),
                None => text.push(format!("{{{name}}}")),
            },
        }
    }
    text
}

/// The names between braces of an argument that are placeholders.
pub(super) fn placeholders(argument: &str) -> impl Iterator<Item = &str> {
    parts(argument).into_iter().filter_map(|part| match part {
        Part::Name(name) => Some(name),
        Part::Text(_) => None,
    })
}

/// A piece of an argument.
#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    /// Stays as it is.
    Text(&'a str),
    /// A placeholder.
    Name(&'a str),
}

/// Takes an argument apart.
fn parts(argument: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = argument;
    while let Some(open) = rest.find('{') {
        let after = &rest[open + 1..];
        let doubled = after.starts_with('{');
        let inner = after.strip_prefix('{').unwrap_or(after);
        let name = &inner[..inner.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(inner.len())];
        let close = if doubled { "}}" } else { "}" };
        if name.is_empty() || !inner[name.len()..].starts_with(close) {
            parts.push(Part::Text(&rest[..=open]));
            rest = after;
            continue;
        }
        parts.push(Part::Text(&rest[..open]));
        if doubled {
            // `{{name}}`: the inner pair of braces is the text.
            parts.push(Part::Text(&after[..name.len() + 2]));
        } else {
            parts.push(Part::Name(name));
        }
        rest = &inner[name.len() + close.len()..];
    }
    parts.push(Part::Text(rest));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_filled_in_once_and_other_braces_stay() {
        let value = |name: &str| (name == "ticket").then_some(OsStr::new("{worker}"));
        for (argument, expected) in [
            ("{ticket}", "{worker}"),
            ("a{ticket}b{ticket}", "a{worker}b{worker}"),
            ("{{ticket}}", "{ticket}"),
            (r#"{"a":{"b":"{ticket}"}}"#, r#"{"a":{"b":"{worker}"}}"#),
            ("{}", "{}"),
            ("{ticket", "{ticket"),
            ("{{ticket}", "{{worker}"),
            ("ä{ticket}ö", "ä{worker}ö"),
        ] {
            assert_eq!(expand(argument, value), expected, "{argument}");
        }
    }
}
