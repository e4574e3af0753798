//! What an agent may not do, judged before each tool call.
//!
//! The judgement is a plain function of the call and a [`Policy`], which also lies as a file in the worker's
//! folder: a hook that finds no supervisor still judges. It covers file tools, whose paths are known from the
//! call; a shell command is bounded by permission rules and by the sandbox, not here.

pub(super) mod path;
pub(super) mod rule;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::event::{HookCall, HookReply};

/// Tools that write a file, with the field that names it.
const WRITE_TOOLS: [(&str, &str); 4] =
    [("Write", "file_path"), ("Edit", "file_path"), ("MultiEdit", "file_path"), ("NotebookEdit", "notebook_path")];

/// What one worker's agent may touch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Policy {
    /// The worker's worktree, absolute.
    pub(crate) worktree: PathBuf,
    /// What else it may write to, absolute.
    pub(crate) writable: Vec<PathBuf>,
    /// What it may not write to even where the lines above allow it, absolute.
    pub(crate) protected: Vec<PathBuf>,
    /// Rules whose calls wait for a person.
    pub(crate) ask: Vec<String>,
    /// Whether nobody is there to ask.
    pub(crate) is_headless: bool,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deny {
    /// Why, and what to do instead: a sentence for the agent.
    pub(crate) reason: String,
    /// Whether a person could have allowed it.
    pub(crate) by_ask_rule: bool,
}

/// Where the policy of a worker lies.
pub(crate) fn policy_file(worker_dir: &Path) -> PathBuf {
    worker_dir.join("policy.json")
}

/// Judges a tool call before it is made; `None` leaves it to the agent's own permission rules. Calls of other
/// hooks are never refused.
pub(crate) fn decide(call: &HookCall, policy: &Policy) -> Option<Deny> {
    if call.event != "PreToolUse" {
        return None;
    }
    let tool = call.text("tool_name")?;
    let input = call.payload.get("tool_input").unwrap_or(&Value::Null);
    let cwd = call.text("cwd").map_or(policy.worktree.as_path(), Path::new);
    if let Some((_, field)) = WRITE_TOOLS.iter().find(|(name, _)| *name == tool)
        && let Some(named) = input.get(*field).and_then(Value::as_str)
        && let Some(reason) = refuse_write(Path::new(named), cwd, policy)
    {
        return Some(Deny { reason, by_ask_rule: false });
    }
    if !policy.is_headless {
        return None;
    }
    let rule = policy.ask.iter().find(|rule| rule::covers(rule, tool, input))?;
    let reason = format!(
        "The rule `{rule}` lets only a person decide this, and nobody is there to ask. \
         Go on without it, and say at the end what is left for a person to do."
    );
    Some(Deny { reason, by_ask_rule: true })
}

/// The reason why `named` must not be written, if there is one.
pub(super) fn refuse_write(named: &Path, cwd: &Path, policy: &Policy) -> Option<String> {
    let worktree = path::resolve(&policy.worktree);
    let shown = named.display();
    let inside = worktree.display();
    if named.starts_with("~") {
        return Some(format!("`{shown}` is outside your worktree. Write only below `{inside}`."));
    }
    let target = path::resolve(&cwd.join(named));
    if policy.protected.iter().any(|folder| target.starts_with(path::resolve(folder))) {
        return Some(format!("`{shown}` steers this run and is not yours to change. Write only below `{inside}`."));
    }
    let mut roots = policy.writable.iter().map(|folder| path::resolve(folder)).chain([worktree.clone()]);
    let Some(below) = roots.find_map(|root| target.strip_prefix(root).ok().map(Path::to_owned)) else {
        return Some(format!(
            "`{shown}` is outside your worktree. Write only below `{inside}`; \
             if the work needs a change elsewhere, say so in your answer instead of making it."
        ));
    };
    let is_git = below.components().any(|part| part.as_os_str().eq_ignore_ascii_case(".git"));
    is_git.then(|| format!("`{shown}` is git's own data. Use git commands to change it."))
}

/// The answer of a hook that only the policy speaks for.
pub(crate) fn reply_by_policy(call: &HookCall, policy: &Policy) -> HookReply {
    decide(call, policy).map(|deny| deny.reply()).unwrap_or_default()
}

impl Deny {
    /// The refusal as a PreToolUse hook says it.
    pub(crate) fn reply(&self) -> HookReply {
        let answer = json!({"hookSpecificOutput": {
            "hookEventName": "PreToolUse",
            "permissionDecision": "deny",
            "permissionDecisionReason": self.reason,
        }});
        HookReply { stdout: answer.to_string() }
    }
}

#[cfg(test)]
mod tests;
