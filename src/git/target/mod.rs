//! Moves a target branch, and every worktree that has it checked out, from one commit to the next.
//!
//! The branch moves by compare-and-swap. A worktree follows only where that costs its owner nothing: no touched
//! file is modified, staged or in the way, and no merge, rebase or bisection is under way there. Otherwise nothing
//! moves at all. Files that the move does not touch keep their bytes and their staged state.
//!
//! **What survives a kill.** For each such worktree the order is: journal, git's own index lock with a token of
//! ours in it, check on a private copy of the index, compare-and-swap, files, private index in place, lock away,
//! journal away. While the token lies in `index.lock` no git command changes that index, so what was checked stays
//! true. [`Repository::repair_targets`] reads the journals: before the swap it takes everything back, after it it
//! finishes the worktree. A file that changed after such a kill is left alone and shows as modified.

mod checkout;
mod holder;
mod journal;
mod repair;

use std::path::PathBuf;

use super::crash_point;
use super::{GitError, Repository};
use crate::files::FileLock;
use crate::model::{BranchName, CommitId};
use checkout::{Checked, Checkout};
use journal::Journal;

/// What became of a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Advance {
    /// The branch points to the new commit.
    Moved {
        /// The worktrees that followed.
        updated: Vec<PathBuf>,
    },
    /// The branch did not point where the caller thought; nothing changed.
    MovedUnderneath {
        /// Where it points; `None` when it is gone.
        found: Option<CommitId>,
    },
    /// A worktree that has the branch checked out cannot follow now; nothing changed.
    Busy(Busy),
}

/// Why a worktree cannot follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Busy {
    /// The worktree.
    pub(crate) worktree: PathBuf,
    /// The files in question, sorted; empty when it is not about files.
    pub(crate) files: Vec<PathBuf>,
    /// Why, as a clause for a person.
    pub(crate) why: String,
}

/// A move that an ended process had left half done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repaired {
    /// The worktree.
    pub(crate) worktree: PathBuf,
    /// Whether it was brought to the new commit (`true`) or left at the old one.
    pub(crate) is_finished: bool,
    /// Files that somebody changed in between; they were left as they are.
    pub(crate) left_alone: Vec<PathBuf>,
}

impl Repository {
    /// Moves `branch` from one commit to the next and brings along the worktrees that have it checked out.
    ///
    /// `reason` goes to the reflog. Half-done moves of ended processes are repaired first.
    pub(crate) fn advance_target(
        &self,
        branch: &BranchName,
        from: &CommitId,
        to: &CommitId,
        reason: &str,
    ) -> Result<Advance, GitError> {
        let _alone = self.lock_targets()?;
        self.repair_targets_locked()?;
        let found = self.branch_head(branch)?;
        if found.as_ref() != Some(from) {
            return Ok(Advance::MovedUnderneath { found });
        }
        let mut held = Vec::new();
        for holder in self.holders(branch)? {
            if let Some(why) = holder.why_not {
                return Ok(Advance::Busy(Busy { worktree: holder.worktree, files: Vec::new(), why }));
            }
            match Checkout::take(self, holder, branch, from, to)? {
                Checked::Ready(checkout) => held.push(checkout),
                Checked::Busy(busy) => return Ok(Advance::Busy(busy)),
            }
        }
        crash_point!("target checked");
        if !self.swap(branch, from, to, reason, &mut held)? {
            return Ok(Advance::MovedUnderneath { found: self.branch_head(branch)? });
        }
        crash_point!("target moved");
        let mut updated = Vec::new();
        for checkout in held {
            updated.push(checkout.apply()?);
        }
        Ok(Advance::Moved { updated })
    }

    /// Why a worktree that has `branch` checked out could not follow it from one commit to the next now; `None` where all
    /// could. Changes nothing.
    pub(crate) fn hindrance(
        &self,
        branch: &BranchName,
        from: &CommitId,
        to: &CommitId,
    ) -> Result<Option<Busy>, GitError> {
        let _alone = self.lock_targets()?;
        self.repair_targets_locked()?;
        for holder in self.holders(branch)? {
            if let Some(why) = holder.why_not {
                return Ok(Some(Busy { worktree: holder.worktree, files: Vec::new(), why }));
            }
            if let Checked::Busy(busy) = Checkout::take(self, holder, branch, from, to)? {
                return Ok(Some(busy));
            }
        }
        Ok(None)
    }

    /// Finishes or takes back what ended processes left half done. Cheap when there is nothing.
    pub(crate) fn repair_targets(&self) -> Result<Vec<Repaired>, GitError> {
        let _alone = self.lock_targets()?;
        self.repair_targets_locked()
    }

    /// The body of [`Repository::repair_targets`], under the lock.
    fn repair_targets_locked(&self) -> Result<Vec<Repaired>, GitError> {
        let mut repaired = Vec::new();
        for journal in Journal::all(self)? {
            repaired.extend(repair::repair(self, journal)?);
        }
        Ok(repaired)
    }

    /// One move at a time per repository.
    fn lock_targets(&self) -> Result<FileLock, GitError> {
        Ok(FileLock::wait(&self.common_dir().join("swarm/locks/target"))?)
    }

    /// The compare-and-swap; false when the branch was not at `from` any more.
    fn swap(
        &self,
        branch: &BranchName,
        from: &CommitId,
        to: &CommitId,
        reason: &str,
        held: &mut [Checkout<'_>],
    ) -> Result<bool, GitError> {
        // In the worktree that has the branch checked out, git also writes the log of its HEAD.
        let cwd = held.first().map_or_else(|| self.home().to_owned(), |checkout| checkout.worktree().to_owned());
        let reference = format!("refs/heads/{branch}");
        let call = ["update-ref", "-m", reason, reference.as_str(), to.as_str(), from.as_str()];
        // From here on a failure may come after the fact: only a look at the branch tells.
        held.iter_mut().for_each(Checkout::keep);
        let mut answer = self.git(&cwd, call).output();
        if answer.is_err() && self.drop_dead_target_locks(branch)? {
            answer = self.git(&cwd, call).output();
        }
        match answer {
            Ok(_) => Ok(true),
            Err(error) => {
                let found = self.branch_head(branch)?;
                if found.as_ref() == Some(to) {
                    return Ok(true);
                }
                held.iter_mut().for_each(Checkout::let_go);
                if found.as_ref() == Some(from) { Err(self.locked(&reference, error)) } else { Ok(false) }
            }
        }
    }
}

#[cfg(test)]
mod tests;
