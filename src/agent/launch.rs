//! What a launch is made from, and what it is.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::AgentError;
use crate::model::agent::Agent;
use crate::model::providers::ModelSettings;
use crate::model::settings::Limits;
use crate::model::{BranchName, TicketId, WorkerId};

/// Size limit of one argument with its final zero byte: `MAX_ARG_STRLEN`, 32 pages (execve(2)).
pub(super) const ARGUMENT_LIMIT: usize = 128 * 1024;

/// Everything an agent's start depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaunchPlan<'a> {
    /// Who works.
    pub(crate) agent: &'a Agent,
    /// On what.
    pub(crate) ticket: &'a TicketId,
    /// As whom.
    pub(crate) worker: &'a WorkerId,
    /// On which branch.
    pub(crate) branch: &'a BranchName,
    /// Absolute; the agent's working folder.
    pub(crate) worktree: &'a Path,
    /// The main worktree, or the common folder of a bare repository. Absolute.
    pub(crate) repo: &'a Path,
    /// The git common folder. Absolute.
    pub(crate) common_dir: &'a Path,
    /// Where files of this worker may be written. Absolute, there.
    pub(crate) worker_dir: &'a Path,
    /// The first message; empty opens a conversation and says nothing.
    pub(crate) prompt: &'a str,
    /// The ticket's own prompt, for a conversation that has not heard of it; see [`Self::anew`].
    pub(crate) ticket_prompt: &'a str,
    /// A file that holds exactly the first message. Absolute.
    pub(crate) prompt_file: &'a Path,
    /// The agent's system prompt, rendered; empty is none.
    pub(crate) system_prompt: &'a str,
    /// With a person's terminal or without.
    pub(crate) mode: Mode,
    /// The conversation to go on with, where there is one.
    pub(crate) resume: Option<&'a str>,
    /// The agent's whole environment.
    pub(crate) env: &'a [(String, String)],
    /// This program, absolute, for hooks.
    pub(crate) swarm_exe: &'a Path,
    /// Folders and files outside the worktree that the agent may write to. Absolute.
    pub(crate) writable: &'a [PathBuf],
    /// Durations and sizes.
    pub(crate) limits: &'a Limits,
    /// Who serves models.
    pub(crate) models: &'a ModelSettings,
    /// What the ticket may cost in US dollars; `None` is without limit.
    pub(crate) budget_usd: Option<f64>,
    /// What the attempt has cost so far.
    pub(crate) spent_usd: f64,
}

impl LaunchPlan<'_> {
    /// What to say instead of the first message where there is no conversation to go on with: it may have ended before it
    /// was written, or the agent cannot go on with any.
    pub(crate) fn anew(&self) -> String {
        match self.ticket_prompt.trim_end() {
            "" => self.prompt.to_owned(),
            ticket_prompt => format!("{ticket_prompt}\n\n{}", self.prompt),
        }
    }
}

/// With a person's terminal or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A person can attach and talk; the agent stays after its turn.
    Interactive,
    /// Nobody answers; the process ends with the work.
    Print,
}

/// How an agent's process relates to its turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turns {
    /// The process stays after a turn and takes messages.
    Conversation,
    /// The process ends with its turn, and its conversation can be gone on with.
    Resumable,
    /// The process ends with its turn and starts afresh.
    OneShot,
}

/// What to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Launch {
    /// Program, absolute, and arguments; each fits the kernel's limit.
    pub(crate) argv: Vec<OsString>,
    /// The whole environment, names unique.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Files that were written.
    pub(crate) files: Vec<PathBuf>,
    /// The terminal is to pass bytes unchanged, they go to [`super::Runtime::output`], and people see its
    /// [`super::AgentEvent::Display`] lines. Otherwise the bytes are the picture people see.
    pub(crate) raw_output: bool,
    /// Id of the conversation, where the runtime has such a thing.
    pub(crate) session_id: Option<String>,
    /// Whether an earlier conversation goes on. False with [`LaunchPlan::resume`] when that one never began.
    pub(crate) is_resumed: bool,
    /// Whether the usage it tells begins at nothing although an earlier conversation goes on.
    pub(crate) usage_restarts: bool,
    /// What a person should know beforehand, one sentence each.
    pub(crate) warnings: Vec<String>,
}

/// What to type to give an agent a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Submission {
    /// Keys that come first; the program gets a moment to act on them before the rest. Empty where none are needed.
    pub(crate) keys: Vec<u8>,
    /// Written to the terminal at once, and by nobody else since the keys.
    pub(crate) bytes: Vec<u8>,
    /// How it shows that the message arrived.
    pub(crate) confirm: Confirm,
    /// Whether a message typed during a turn is kept for the next one.
    pub(crate) is_queued_while_busy: bool,
}

/// How it shows that a message arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confirm {
    /// A [`super::AgentEvent::TurnStarted`] with `is_message` follows, within a second on an idle machine.
    TurnStarted,
    /// It does not show.
    None,
}

/// How to ask an agent to end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StopRequest {
    /// The signal.
    pub(crate) signal: Signal,
    /// Whether the whole process group gets it, or the agent alone because it ends its tools itself.
    pub(crate) to_group: bool,
}

/// The environment of a launch: `base` with `extra` on top, names unique.
pub(super) fn environment(base: &[(String, String)], extra: &[(&str, &OsStr)]) -> Vec<(OsString, OsString)> {
    let mut all = std::collections::BTreeMap::new();
    all.extend(base.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))));
    all.extend(extra.iter().map(|(name, value)| (OsString::from(name), (*value).to_owned())));
    all.into_iter().collect()
}

/// The value of a variable in an environment; the last one counts, an empty one is none.
pub(super) fn variable<'a>(env: &'a [(String, String)], name: &str) -> Option<&'a str> {
    env.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
}

/// Finds a program by the `PATH` of the given environment; a relative path counts from `cwd`.
pub(super) fn find_program(program: &OsStr, env: &[(String, String)], cwd: &Path) -> Option<PathBuf> {
    which::which_in(program, variable(env, "PATH"), cwd).ok()
}

/// Checks that the kernel takes `argument`.
pub(super) fn check_argument(argument: &OsStr, what: &'static str, hint: &str) -> Result<(), AgentError> {
    let bytes = argument.as_bytes();
    if bytes.contains(&0) {
        return Err(AgentError::ZeroByte { what });
    }
    if bytes.len() >= ARGUMENT_LIMIT {
        let hint = hint.to_owned();
        return Err(AgentError::ArgumentTooLong { what, bytes: bytes.len(), limit: ARGUMENT_LIMIT - 1, hint });
    }
    Ok(())
}

/// Puts `argv` behind a shell that only connects standard input with the file in `SWARM_PROMPT_FILE` and then
/// becomes the program: output stays the terminal, the pid stays the same, nothing of `argv` is parsed.
pub(super) fn read_from_prompt_file(argv: Vec<OsString>) -> Vec<OsString> {
    let shell = ["/bin/sh", "-c", "exec \"$@\" <\"$SWARM_PROMPT_FILE\"", "sh"];
    shell.into_iter().map(OsString::from).chain(argv).collect()
}
