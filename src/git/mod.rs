//! The repository: worktrees, snapshots, kept work, commits; the only user of the git program and of git2.
//!
//! What this module guarantees:
//! - Paths through which a person's set-up matters (registration of worktrees, hooks, filters, signing) go through
//!   the git program; git2 answers fast reads where it understands the repository, else the program does.
//! - A worktree's own index is never written except by a commit that was asked for.
//! - Nothing is removed without a [`KeptWork`], which only saving work can make.
//! - A folder is acted on as a worktree only after it was proven to be a linked worktree of this very repository:
//!   in a deleted worktree git would silently find the repository around it.

mod add;
mod ancestry;
mod begin;
mod bundle;
mod calls;
mod changes;
mod checkout;
mod compare;
mod content;
mod copy;
#[cfg(test)]
pub(crate) mod crash;
mod create;
mod dead_locks;
mod diff;
mod dropped;
#[cfg(test)]
pub(crate) mod fixture;

mod keep;
mod leftovers;
mod merge;
mod notes;
mod object;
mod patch;
mod pristine;
mod program;
mod reference;
mod remote;
mod remove;
mod repository;
mod restore;
mod rewind;
mod scratch;
mod settled;
mod snapshot;
mod stage;
mod state;
mod submodule;
mod target;
mod trash;
mod worktree;

use std::path::PathBuf;

use crate::files::FileError;
use crate::model::{BranchName, CommitId, IdError};
use crate::process::ProcessError;

pub(crate) use add::NewWorktree;
pub(crate) use ancestry::CommitInfo;
pub(crate) use begin::{Begin, Begun};
pub(crate) use bundle::{Packed, TAKEN};
pub(crate) use calls::{CallStates, StateOf};
pub(crate) use content::{Check, Held};
pub(crate) use diff::DiffOptions;
pub(crate) use keep::{KeepEntry, LooseEnd, is_gone};
pub(crate) use leftovers::CommitOutcome;
#[cfg(test)]
pub(crate) use merge::ConflictKind;
pub(crate) use merge::{Built, Commit, ConflictFile, ConflictPlace, Forecast, Hunk, Rehearsal};
pub(crate) use patch::{LineKind, PatchFile, PatchHunk, PatchLine, parse_patch};
pub(crate) use program::Call;
pub(crate) use remote::Pushed;
pub(crate) use repository::Repository;
pub(crate) use restore::{RestoreTo, Restored};
pub(crate) use rewind::RewindTo;
pub(crate) use scratch::ScratchWorktree;
pub(crate) use state::Operation;
pub(crate) use target::{Advance, Busy};
pub(crate) use trash::Trash;
pub(crate) use worktree::{Head, Worktree};

/// Something the repository could not do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    /// No repository at or above a folder.
    #[error("`{}` is not in a git repository", path.display())]
    NotARepository {
        /// Where the search began.
        path: PathBuf,
    },
    /// The git program is too old.
    #[error("git {found} is too old, {needed} or newer is needed")]
    TooOld {
        /// What is installed.
        found: String,
        /// The oldest that works.
        needed: &'static str,
    },
    /// The repository has no commit yet.
    #[error("the repository has no commit yet")]
    Unborn,
    /// No branch could be taken as the default target.
    #[error("the repository's default branch could not be told")]
    NoDefaultBranch,
    /// Git does not know who commits.
    #[error("git does not know who commits here")]
    NoIdentity {
        /// What git said.
        detail: String,
    },
    /// A path that must be free holds something.
    #[error("`{}` exists and is not empty", path.display())]
    PathTaken {
        /// The path.
        path: PathBuf,
    },
    /// A branch that was to be made is there.
    #[error("the branch `{branch}` exists")]
    BranchExists {
        /// The branch.
        branch: BranchName,
    },
    /// A branch that is needed is not there.
    #[error("there is no branch `{branch}`")]
    NoBranch {
        /// The branch.
        branch: BranchName,
    },
    /// A branch is checked out somewhere else.
    #[error("the branch `{branch}` is checked out in `{}`", worktree.display())]
    BranchInUse {
        /// The branch.
        branch: BranchName,
        /// Where.
        worktree: PathBuf,
    },
    /// A folder is not a linked worktree of this repository, so nothing is done there.
    #[error("`{}` is not a linked worktree of this repository: {why}", path.display())]
    NotOurWorktree {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Doing it could lose work or break something, so it was not done.
    #[error("{what} was refused: {why}")]
    Refused {
        /// What was asked.
        what: String,
        /// Why not.
        why: String,
        /// What a person can do.
        hint: String,
    },
    /// A pattern of files to copy is none.
    #[error("`{pattern}` is not a pattern of files")]
    Pattern {
        /// The line.
        pattern: String,
        /// The cause.
        #[source]
        source: ignore::Error,
    },
    /// A reference that another git process has locked, or that one which was killed left locked.
    #[error("`{reference}` cannot be changed while `{}` is there", lock.display())]
    Locked {
        /// The reference.
        reference: String,
        /// The file.
        lock: PathBuf,
    },
    /// A git command ended with an error.
    #[error("`{command}` failed with exit code {code}: {message}")]
    Failed {
        /// Program, subcommand and the arguments that tell calls apart.
        command: String,
        /// Its exit code.
        code: i32,
        /// The telling lines of what it wrote to standard error.
        message: String,
    },
    /// A git command answered something this program does not understand.
    #[error("`{command}` answered something unexpected: `{answer}`")]
    Unexpected {
        /// Program and subcommand.
        command: String,
        /// The beginning of the answer.
        answer: String,
    },
    /// The program could not be run.
    #[error("the git program could not be used")]
    Process(#[from] ProcessError),
    /// A file could not be read or written.
    #[error("a file of the repository could not be used")]
    Files(#[from] FileError),
    /// The library failed.
    #[error("could not {attempt} with libgit2")]
    Libgit {
        /// What was attempted, as a verb.
        attempt: &'static str,
        /// The cause.
        #[source]
        source: git2::Error,
    },
    /// Git named something by a text that is no valid name.
    #[error("git answered with an invalid name")]
    Name(#[from] IdError),
}

impl GitError {
    /// An adapter for `map_err` on libgit2 results.
    pub(crate) fn libgit(attempt: &'static str) -> impl FnOnce(git2::Error) -> Self {
        move |source| Self::Libgit { attempt, source }
    }

    /// What a person can do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::NotARepository { .. } => Some("run it inside a git repository, or name one with -C DIR".to_owned()),
            Self::TooOld { needed, .. } => Some(format!("install git {needed} or newer")),
            Self::Unborn => Some("make the first commit: git commit --allow-empty -m start".to_owned()),
            Self::NoDefaultBranch => Some("set `target` in .swarm/config.yaml".to_owned()),
            Self::NoIdentity { .. } => {
                Some("set it: git config user.name NAME; git config user.email ADDRESS".to_owned())
            }
            Self::PathTaken { .. } => Some("move it away, or change `worktrees` in .swarm/config.yaml".to_owned()),
            Self::BranchExists { branch } => {
                Some(format!("rename it: git branch -m {branch} NEW-NAME, or change `branch` in .swarm/config.yaml"))
            }
            Self::NoBranch { .. } => Some("see the branches: git branch".to_owned()),
            Self::BranchInUse { worktree, .. } => {
                Some(format!("switch that worktree to another branch: git -C {} switch --detach", worktree.display()))
            }
            Self::NotOurWorktree { path, .. } => {
                Some(format!("see git worktree list; git worktree repair {} mends one that was moved", path.display()))
            }
            Self::Refused { hint, .. } => Some(hint.clone()),
            Self::Locked { lock, .. } => {
                let lock = lock.display();
                Some(format!("if no git runs here any more, one that was killed left it; then repeat after: rm {lock}"))
            }
            Self::Process(ProcessError::Start { .. }) => Some("install git and have it in PATH".to_owned()),
            _ => None,
        }
    }
}

/// The text of an object id from git or libgit2 as a [`CommitId`].
fn commit_id(text: &str) -> Result<CommitId, GitError> {
    Ok(text.trim().parse()?)
}

/// Marks a point at which a test can end an operation as if its process had been killed; nothing in other builds.
macro_rules! crash_point {
    ($point:literal) => {
        #[cfg(test)]
        if $crate::git::crash::is_reached($point) {
            return Err($crate::git::GitError::Unborn.into());
        }
    };
}
pub(crate) use crash_point;

#[cfg(test)]
mod tests;
