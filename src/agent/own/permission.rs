//! Whether a call may be made: deny rules first, then those that ask, then those that allow, then the mode.
//!
//! Rules are in Claude Code's syntax. A shell text is allowed only when each of its commands is; one in which the
//! commands cannot be told from its words alone (substitutions, here-documents) is allowed only by a rule for all of
//! `Bash`.

mod commands;

use serde_json::{Value, json};

use self::commands::commands;
use super::tools::{Call, Place, Toolbox};
use crate::agent::policy::rule::{covers, covers_command};
use crate::model::agent::{PermissionMode, Permissions};

/// Tools whose rules also hold for others: an `Edit` rule for everything that writes, a `Read` rule for everything
/// that shows.
const GENERAL: [(&str, &str); 3] = [("Write", "Edit"), ("Grep", "Read"), ("Glob", "Read")];

/// Programs that only look, at what their arguments name.
const LOOKING: [&str; 13] =
    ["ls", "cat", "head", "tail", "wc", "pwd", "echo", "printf", "true", "cd", "basename", "dirname", "which"];

/// What may be done.
#[derive(Debug, Clone)]
pub(super) struct Permission {
    /// How far it acts without asking.
    mode: PermissionMode,
    /// The rules; those that a person adds while the loop runs are the last of `allow`.
    rules: Permissions,
    /// Where paths lead.
    place: Place,
}

/// A judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may be made.
    Allow,
    /// A person has to be asked.
    Ask {
        /// The rule that wants so; `None` where no rule allows the call.
        rule: Option<String>,
    },
    /// It may not be made.
    Deny {
        /// A sentence for the model.
        reason: String,
    },
}

impl Permission {
    /// The rules of a definition; rules in its list of tools allow.
    pub(super) fn new(mode: PermissionMode, rules: &Permissions, tools: &[String], place: Place) -> Self {
        let mut rules = rules.clone();
        rules.allow.extend(tools.iter().filter(|tool| tool.contains('(') || tool.starts_with("mcp__")).cloned());
        Self { mode, rules, place }
    }

    /// Judges a call.
    pub(super) fn judge(&self, call: &Call) -> Verdict {
        let covered = |rules: &[String]| rules.iter().find(|rule| self.covers(rule, call)).cloned();
        if let Some(rule) = covered(&self.rules.deny) {
            let reason = format!("The rule `{rule}` forbids this. It is an answer: do not look for a way around it.");
            return Verdict::Deny { reason };
        }
        if self.mode == PermissionMode::Plan && !Toolbox::is_harmless(&call.tool) && !self.only_looks(call) {
            let reason = "In plan mode nothing may be changed. Say what you would do.".to_owned();
            return Verdict::Deny { reason };
        }
        if let Some(rule) = covered(&self.rules.ask) {
            return Verdict::Ask { rule: Some(rule) };
        }
        let is_allowed = Toolbox::is_harmless(&call.tool)
            || self.mode == PermissionMode::Bypass
            || (self.mode == PermissionMode::AcceptEdits && matches!(call.tool.as_str(), "Write" | "Edit"))
            || self.is_allowed_by_rule(call)
            || self.only_looks(call);
        if is_allowed { Verdict::Allow } else { Verdict::Ask { rule: None } }
    }

    /// A person allows calls like this one from now on.
    pub(super) fn allow_always(&mut self, call: &Call) {
        let rule = match call.input.get("command").and_then(Value::as_str) {
            Some(command) if call.tool == "Bash" => format!("Bash({command})"),
            _ => call.tool.clone(),
        };
        self.rules.allow.push(rule);
    }

    /// Whether a file may be read, for tools that look at many.
    pub(super) fn may_read(&self, shown: &str) -> bool {
        let input = json!({"file_path": shown});
        let forbids = |rule: &String| covers(rule, "Read", &input);
        !self.rules.deny.iter().any(forbids)
    }

    /// Whether a rule speaks of a call: by the path as it was named, and by where it leads.
    fn covers(&self, rule: &str, call: &Call) -> bool {
        let general = GENERAL.iter().find(|(tool, _)| *tool == call.tool).map(|(_, general)| *general);
        let led = self.led(&call.input);
        let inputs = [Some(&call.input), led.as_ref()];
        let tools = [Some(call.tool.as_str()), general];
        let pairs = tools.into_iter().flatten().flat_map(|tool| inputs.into_iter().flatten().map(move |i| (tool, i)));
        pairs.into_iter().any(|(tool, input)| covers(rule, tool, input))
    }

    /// The input with its path where that leads, where it names one.
    fn led(&self, input: &Value) -> Option<Value> {
        let named = ["file_path", "path", "filename", "file", "filePath"];
        let named = named.into_iter().find_map(|field| input.get(field).and_then(Value::as_str))?;
        let path = self.place.to_read(named).ok()?.path;
        Some(json!({"file_path": path}))
    }

    /// Whether allow rules cover the whole of a call.
    fn is_allowed_by_rule(&self, call: &Call) -> bool {
        let Some(text) = call.input.get("command").and_then(Value::as_str).filter(|_| call.tool == "Bash") else {
            return self.rules.allow.iter().any(|rule| self.covers(rule, call));
        };
        let patterns: Vec<&str> = self.rules.allow.iter().filter_map(|rule| shell_pattern(rule)).collect();
        if patterns.iter().any(|pattern| matches!(*pattern, "" | "*" | ":*") || *pattern == text) {
            return true;
        }
        let Some(commands) = commands(text) else { return false };
        commands.iter().all(|command| {
            let targets_are_inside = command.writes_to.iter().all(|target| self.place.to_write(target).is_ok());
            let is_known = patterns.iter().any(|pattern| covers_command(pattern, &command.text));
            targets_are_inside && (is_known || self.is_looking(command))
        })
    }

    /// Whether a shell text consists of commands that only look, at nothing outside the worktree.
    fn only_looks(&self, call: &Call) -> bool {
        let text = call.input.get("command").and_then(Value::as_str).filter(|_| call.tool == "Bash");
        let commands = text.and_then(commands).unwrap_or_default();
        !commands.is_empty() && commands.iter().all(|command| self.is_looking(command))
    }

    /// Whether a command only looks at what is inside the worktree and may be read.
    fn is_looking(&self, command: &commands::Command) -> bool {
        let mut words = command.words.iter().map(String::as_str);
        let is_known = match words.next() {
            Some("git") => words.next() == Some("status"),
            Some(program) => LOOKING.contains(&program),
            None => false,
        };
        let may_be_seen = |word: &str| match self.place.to_read(word) {
            Ok(spot) => !word.contains(['$', '*', '?', '[']) && self.may_read(word) && self.may_read(&spot.shown),
            Err(_) => false,
        };
        let is_option = |word: &str| word.starts_with('-') && !word.contains(['/', '$']);
        is_known && command.writes_to.is_empty() && words.all(|word| is_option(word) || may_be_seen(word))
    }
}

/// The pattern of a shell rule; empty for one that speaks of every command.
fn shell_pattern(rule: &str) -> Option<&str> {
    let rule = rule.trim();
    if rule == "Bash" {
        return Some("");
    }
    Some(rule.strip_prefix("Bash(")?.strip_suffix(')')?.trim())
}

#[cfg(test)]
mod tests;
