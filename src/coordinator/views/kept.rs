//! What is kept, what can go, and what was brought back.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use super::CommitView;
use crate::coordinator::views::FailureView;
use crate::git::{Check, LooseEnd};
use crate::model::Time;

/// `recover list --json` and `recover show --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct RecoverView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// Newest first.
    pub(crate) kept: Vec<KeptView>,
}

/// One keep ref.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct KeptView {
    /// Full ref name.
    pub(crate) reference: String,
    /// Worker id.
    pub(crate) worker: String,
    /// Commit id it points at.
    pub(crate) commit: String,
    /// The branch the work was on.
    pub(crate) branch: String,
    /// Why it was kept.
    pub(crate) reason: String,
    /// When.
    pub(crate) at: Time,
    /// Whether it holds work that was not committed.
    pub(crate) has_uncommitted: bool,
    /// What is in it, in words: `branch`, `uncommitted`, `untracked`, `index`, `autostash`, `other_side`,
    /// `before_rebase`, `snapshot` (files of the last snapshot, because the worktree was gone), or the name of an
    /// operation that was unfinished.
    pub(crate) holds: Vec<String>,
    /// How many files were not committed.
    pub(crate) uncommitted_files: usize,
    /// How many of them git did not track.
    pub(crate) untracked_files: usize,
    /// Commits that are kept besides, such as staged changes: what each is, and its id.
    pub(crate) also: Vec<KeptCommitView>,
    /// Bytes on disk that nothing but this ref holds.
    pub(crate) bytes: u64,
    /// When `swarm clean` begins to propose its removal.
    pub(crate) expires_at: Time,
}

/// A commit that is kept besides branch and files.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct KeptCommitView {
    /// What it is: `index`, `autostash`, `other_side` or `before_rebase`; null where an earlier version kept it.
    pub(crate) kind: Option<LooseEnd>,
    /// Its id.
    pub(crate) commit: String,
}

/// `clean --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct CleanView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// Whether nothing was removed.
    pub(crate) dry_run: bool,
    /// What was removed, or can go.
    pub(crate) goes: Vec<CleanedView>,
    /// What stays although it is old or ended.
    pub(crate) stays: Vec<StaysView>,
    /// What could not be removed.
    pub(crate) failed: Vec<FailureView>,
    /// Bytes of everything in `goes` together; those of references are free when git cleans up.
    pub(crate) bytes: u64,
}

/// One thing that can go.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct CleanedView {
    /// `worker`, `kept`, `snapshots`, `scratch` or `logs`.
    pub(crate) kind: String,
    /// Worker id, reference or path.
    pub(crate) subject: String,
    /// Its bytes on disk.
    pub(crate) bytes: u64,
    /// Why it can go.
    pub(crate) why: String,
    /// The check that proved its content to be in the target, where that was asked.
    pub(crate) check: Option<Check>,
    /// What was done; null in a dry run.
    pub(crate) text: Option<String>,
}

/// One thing that stays.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct StaysView {
    /// `worker`, `kept`, `snapshots`, `scratch` or `logs`.
    pub(crate) kind: String,
    /// Worker id, reference or path.
    pub(crate) subject: String,
    /// Why it stays.
    pub(crate) why: String,
}

/// `rewind --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct RewindView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// Whether nothing was changed.
    pub(crate) dry_run: bool,
    /// Worker id.
    pub(crate) worker: String,
    /// The call's number in the tool log.
    pub(crate) call: u64,
    /// Its tool.
    pub(crate) tool: String,
    /// When the state was saved; null for the state that the worker began with.
    pub(crate) saved_at: Option<Time>,
    /// The last call whose changes are in the state; later than `call` where several ended together.
    pub(crate) state_of: Option<u64>,
    /// Where the branch was.
    pub(crate) from: String,
    /// Where it is now.
    pub(crate) to: String,
    /// Commits that are no longer on the branch, oldest first.
    pub(crate) left: Vec<CommitView>,
    /// How many files changed.
    pub(crate) files: usize,
    /// The keep ref with the state before; null in a dry run.
    pub(crate) keep: Option<String>,
}

/// `recover restore --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct RestoredView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// The branch that was made.
    pub(crate) branch: String,
    /// The worktree that was made, if any.
    pub(crate) worktree: Option<PathBuf>,
    /// Whether uncommitted work is not in the branch and was left in the keep ref, for want of a worktree.
    pub(crate) left_uncommitted: bool,
    /// Further commits that are kept and are not in the branch: where the worker's branch was.
    pub(crate) beside: Option<String>,
    /// The keep ref, which stays.
    pub(crate) reference: String,
}
