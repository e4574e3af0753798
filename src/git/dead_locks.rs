//! Locks that a process left when it was killed, on a worker's worktree and on references of ours.
//!
//! Git never removes them: every later command fails until a person does. A lock is dead when no git command works
//! where it could have been taken and no process has it open, as whoever locks through a library has meanwhile.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{GitError, Repository};
use crate::files::{FileError, read_if_exists, remove_if_exists};
use crate::model::BranchName;
use crate::process;

impl Repository {
    /// Removes the dead locks on the index and the head of a linked worktree, and on the branch it is on.
    pub(crate) fn drop_dead_locks(&self, worktree: &Path) -> Result<(), GitError> {
        let linked = self.linked(worktree)?;
        for name in ["index.lock", "HEAD.lock"] {
            drop_if_dead(&linked.git_dir().join(name), &[linked.path()])?;
        }
        let head = read_if_exists(&linked.git_dir().join("HEAD"))?.unwrap_or_default();
        let head = String::from_utf8_lossy(&head);
        let Some(reference) = head.trim().strip_prefix("ref: ") else { return Ok(()) };
        self.drop_dead_reference_lock(reference, &[linked.path()])
    }

    /// Removes the dead lock on a branch that is gone.
    pub(crate) fn drop_dead_branch_lock(&self, branch: &BranchName) -> Result<(), GitError> {
        self.drop_dead_reference_lock(&format!("refs/heads/{branch}"), &[])
    }

    /// Removes a dead lock on a reference that only `swarm` and those who work at `places` move.
    pub(super) fn drop_dead_reference_lock(&self, reference: &str, places: &[&Path]) -> Result<(), GitError> {
        let places: Vec<_> = places.iter().copied().chain([self.common_dir()]).chain(self.main_worktree()).collect();
        drop_if_dead(&self.common_dir().join(format!("{reference}.lock")), &places)
    }
}

/// Removes a lock that nobody who lives can have taken.
fn drop_if_dead(lock: &Path, places: &[&Path]) -> Result<(), GitError> {
    let Some(found) = identity(lock)? else { return Ok(()) };
    if process::is_used_by("git", places, lock)? || identity(lock)? != Some(found) {
        return Ok(());
    }
    tracing::warn!(lock = %lock.display(), "the lock of a git command that was killed is removed");
    Ok(remove_if_exists(lock)?)
}

/// What tells a file from another one of its name.
fn identity(file: &Path) -> Result<Option<(u64, i64, i64)>, GitError> {
    match file.symlink_metadata() {
        Ok(meta) => Ok(Some((meta.ino(), meta.mtime(), meta.mtime_nsec()))),
        // Where references are kept in tables, `refs/heads` is a file.
        Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => Ok(None),
        Err(error) => Err(FileError::on("look at", file)(error).into()),
    }
}
