//! What an agent left uncommitted when it finished, and committing it as the person would.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::program::{failed, last_words};
use super::snapshot::nul_list;
use super::state::{EntryKind, Operation};
use super::{GitError, Repository};
use crate::files::FileError;
use crate::model::{BranchName, CommitId};
use crate::process::ProcessError;

/// How much of a hook's output is handed back.
const OUTPUT_TAIL: usize = 16 * 1024;

/// What is not committed in a worktree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leftovers {
    /// Changed tracked files, and untracked files that are neither ignored nor made by set-up; from the root.
    pub(crate) files: Vec<PathBuf>,
    /// Their size together; deleted files count nothing.
    pub(crate) bytes: u64,
    /// Repositories of their own in the worktree: never committed.
    pub(crate) nested: Vec<PathBuf>,
    /// An operation that has to be ended before anything can be committed.
    pub(crate) operation: Option<Operation>,
    /// The branch that is checked out; `None` when the head is detached.
    pub(crate) branch: Option<BranchName>,
    /// The commit that is checked out.
    pub(crate) head: Option<CommitId>,
}

/// How committing leftovers ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommitOutcome {
    /// There is a new commit.
    Committed(CommitId),
    /// A commit hook refused.
    HookRefused {
        /// Which, such as `pre-commit`.
        hook: String,
        /// The end of what it said.
        output: String,
    },
    /// Hooks or signing took too long and were ended.
    TimedOut {
        /// The end of what they said.
        output: String,
    },
    /// A merge, rebase or the like is unfinished: committing would conclude it in the agent's place.
    Unfinished(Operation),
    /// Nothing differs.
    Nothing,
}

impl Repository {
    /// What is not committed in a worktree; reads only.
    pub(crate) fn leftovers(&self, worktree: &Path, made_paths: &[PathBuf]) -> Result<Leftovers, GitError> {
        let linked = self.linked(worktree)?;
        let state = self.worktree_state(&linked, None)?;
        let mut left = Leftovers {
            files: Vec::new(),
            bytes: 0,
            nested: Vec::new(),
            operation: state.operation,
            branch: state.branch.clone(),
            head: state.head.clone(),
        };
        for entry in state.changed_except(made_paths) {
            match entry.kind {
                EntryKind::NestedRepository => left.nested.push(entry.path.clone()),
                // Work inside a submodule is not this repository's to commit.
                EntryKind::Submodule { dirty: true } => left.nested.push(entry.path.clone()),
                _ => {
                    let meta = linked.path().join(&entry.path).symlink_metadata();
                    left.bytes += meta.map_or(0, |meta| if meta.is_dir() { 0 } else { meta.len() });
                    left.files.push(entry.path.clone());
                }
            }
        }
        Ok(left)
    }

    /// Commits `files` with the person's identity, hooks and signing; no editor, no prompt. `env` replaces the
    /// environment the hooks get.
    ///
    /// # Errors
    /// [`GitError::NoIdentity`] before anything is changed; [`GitError::Failed`] when git itself fails, for
    /// example in signing.
    pub(crate) fn commit_leftovers(
        &self,
        worktree: &Path,
        files: &[PathBuf],
        message: &str,
        timeout: Duration,
        env: Option<&[(OsString, OsString)]>,
    ) -> Result<CommitOutcome, GitError> {
        let linked = self.linked(worktree)?;
        if let Some(operation) = Operation::under_way(linked.git_dir()) {
            return Ok(CommitOutcome::Unfinished(operation));
        }
        let call = |args: &[&str]| {
            let call = self.git(linked.path(), args).own_locale();
            if let Some(env) = env { call.environment(env.to_vec()) } else { call }
        };
        let who = call(&["var", "GIT_AUTHOR_IDENT"]).run()?;
        if who.code() != 0 {
            return Err(GitError::NoIdentity { detail: last_words(&who) });
        }
        self.drop_dead_locks(worktree)?;
        let add = ["update-index", "-z", "--add", "--remove", "--replace", "--stdin"];
        call(&add).stdin(nul_list(files)).output()?;
        let head = self.head_of(&linked)?;
        if call(&["diff-index", "--cached", "--quiet", "HEAD", "--"]).is_true()? {
            return Ok(CommitOutcome::Nothing);
        }
        let trace = tempfile::NamedTempFile::new_in(self.state_dir());
        let trace = trace.map_err(FileError::on("write in", &self.state_dir()))?;
        let commit = call(&["commit", "--quiet", "--file=-"])
            .stdin(message.as_bytes().to_vec())
            .env("GIT_EDITOR", "true")
            .env("GIT_TRACE2_EVENT", trace.path())
            .timeout(timeout)
            .tail(OUTPUT_TAIL);
        let name = commit.name();
        match commit.run() {
            Ok(done) if done.code() == 0 => match self.head_of(&linked)? {
                Some(new) if Some(&new) != head.as_ref() => Ok(CommitOutcome::Committed(new)),
                _ => Ok(CommitOutcome::Nothing),
            },
            Ok(done) => match refusing_hook(trace.path())? {
                Some(hook) => Ok(CommitOutcome::HookRefused { hook, output: done.text() }),
                None => Err(failed(name, &done)),
            },
            Err(GitError::Process(ProcessError::TimedOut { output, .. })) => Ok(CommitOutcome::TimedOut { output }),
            Err(error) => Err(error),
        }
    }
}

/// One event of git's trace (api-trace2: `child_start` names a hook, `child_exit` how it ended).
#[derive(Debug, Deserialize)]
struct TraceEvent {
    /// What happened.
    event: String,
    /// The session of the git process that wrote it; those of git commands inside hooks have a longer one.
    sid: String,
    /// Which child.
    child_id: Option<i64>,
    /// The hook, where the child is one.
    hook_name: Option<String>,
    /// Its exit code.
    code: Option<i64>,
}

/// The hook of the traced call that ended badly.
fn refusing_hook(trace: &Path) -> Result<Option<String>, GitError> {
    let text = std::fs::read_to_string(trace).map_err(FileError::on("read", trace))?;
    let events: Vec<TraceEvent> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let Some(session) = events.first().map(|event| event.sid.clone()) else {
        return Ok(None);
    };
    let own = || events.iter().filter(|event| event.sid == session);
    let bad = own().filter(|event| event.event == "child_exit" && event.code != Some(0));
    let mut hooks = bad.filter_map(|exit| {
        let start = own().find(|event| event.event == "child_start" && event.child_id == exit.child_id)?;
        start.hook_name.clone()
    });
    Ok(hooks.next_back())
}
