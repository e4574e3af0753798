//! Locks that a process left when it was killed, on a worker's worktree, on references of ours and on git's own upkeep.
//!
//! Git never removes them: every later command fails until a person does. A lock is dead when no git command works
//! where it could have been taken, or names that place, and no process has it open, as whoever locks through a library has
//! meanwhile. On references that others move too it must also be older than any move takes.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::{GitError, Repository};
use crate::files::{FileError, read_if_exists, remove_if_exists};
use crate::model::BranchName;
use crate::process;

/// No move of a reference takes longer, but for hooks, and while those run so does git. It is for who cannot be seen: a
/// library that has closed the locks of a transaction, and git in another namespace of processes. Nothing lands so long
/// after a git command was killed, and a shorter wait gains less than it risks.
const MOVES_WITHIN: Duration = Duration::from_secs(5);

/// How often it is looked whether a lock is dead that nobody may look for again.
const LOOKS: u32 = 20;
/// The pause before the next look.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);

impl Repository {
    /// Removes the dead locks on the index and the head of a linked worktree, on the branch it is on, and on the upkeep
    /// that git begins after a commit, which otherwise never takes place again.
    pub(crate) fn drop_dead_locks(&self, worktree: &Path) -> Result<(), GitError> {
        let linked = self.linked(worktree)?;
        for name in ["index.lock", "HEAD.lock"] {
            drop_if_dead(&linked.git_dir().join(name), &[linked.path()])?;
        }
        // Whoever has taken this one keeps it open (`hold_lock_file_for_update` in git's `builtin/gc.c`).
        drop_if_dead(&self.common_dir().join("objects/maintenance.lock"), &[])?;
        let head = read_if_exists(&linked.git_dir().join("HEAD"))?.unwrap_or_default();
        let head = String::from_utf8_lossy(&head);
        let Some(reference) = head.trim().strip_prefix("ref: ") else { return Ok(()) };
        self.drop_dead_reference_lock(reference, &[linked.path()])
    }

    /// Removes the dead lock on a branch of a worker that nobody works on. Git commands that happen to work in the
    /// repository are waited for, for a moment: nobody may look for it again.
    pub(crate) fn drop_dead_branch_lock(&self, branch: &BranchName) -> Result<(), GitError> {
        let lock = self.common_dir().join(format!("refs/heads/{branch}.lock"));
        for _ in 0..LOOKS {
            if identity(&lock)?.is_none() || drop_if_dead(&lock, &self.with_own(&[]))? {
                break;
            }
            std::thread::sleep(LOOK_AGAIN_AFTER);
        }
        Ok(())
    }

    /// Removes dead locks on a branch that anybody may move, and on the heads of the worktrees that are on it; whether there
    /// was one.
    pub(super) fn drop_dead_target_locks(&self, branch: &BranchName) -> Result<bool, GitError> {
        let worktrees = self.worktrees()?;
        let places: Vec<_> = worktrees.iter().map(|worktree| worktree.path.as_path()).collect();
        let heads = worktrees.iter().filter(|worktree| worktree.uses(branch));
        let heads = heads.map(|worktree| worktree.git_dir.join("HEAD.lock"));
        let mut was_one = false;
        for lock in heads.chain([self.common_dir().join(format!("refs/heads/{branch}.lock"))]) {
            was_one |= is_old(&lock) && drop_if_dead(&lock, &self.with_own(&places))?;
        }
        Ok(was_one)
    }

    /// Removes a dead lock on a reference that only `swarm` and those who work at `places` move.
    pub(super) fn drop_dead_reference_lock(&self, reference: &str, places: &[&Path]) -> Result<(), GitError> {
        drop_if_dead(&self.common_dir().join(format!("{reference}.lock")), &self.with_own(places)).map(drop)
    }

    /// Removes the dead locks on all references of ours: some are named once and never again.
    pub(super) fn drop_dead_swarm_locks(&self) -> Result<(), GitError> {
        let mut folders = vec![self.common_dir().join("refs/swarm")];
        while let Some(folder) = folders.pop() {
            // It may be gone by now, and where references are kept in tables it never was.
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            for entry in entries.flatten() {
                let path = entry.path();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "lock") {
                    drop_if_dead(&path, &self.with_own(&[]))?;
                }
            }
        }
        Ok(())
    }

    /// Places, and those where the repository itself lies.
    fn with_own<'p>(&'p self, places: &[&'p Path]) -> Vec<&'p Path> {
        places.iter().copied().chain([self.common_dir()]).chain(self.main_worktree()).collect()
    }
}

/// Removes a lock that nobody who lives can have taken; whether there was one.
fn drop_if_dead(lock: &Path, places: &[&Path]) -> Result<bool, GitError> {
    let Some(found) = identity(lock)? else { return Ok(false) };
    if process::is_used_by("git", places, lock)? || identity(lock)? != Some(found) {
        return Ok(false);
    }
    tracing::warn!(lock = %lock.display(), "the lock of a git command that was killed is removed");
    remove_if_exists(lock)?;
    Ok(true)
}

/// Whether a file is older than a move of a reference takes; one from the future is not.
fn is_old(lock: &Path) -> bool {
    let age = lock.symlink_metadata().and_then(|meta| meta.modified()).map(|modified| modified.elapsed());
    age.is_ok_and(|age| age.is_ok_and(|age| age > MOVES_WITHIN))
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
