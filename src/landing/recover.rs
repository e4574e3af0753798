//! Finding and bringing back kept work.

use super::{Landing, LandingError};
use crate::git::{DiffOptions, KeepEntry, RestoreTo, Restored};
use crate::model::{CommitId, WorkerId};

impl Landing<'_> {
    /// What is kept of one worker, newest first.
    pub(crate) fn kept_of(&self, worker: &WorkerId) -> Result<Vec<KeepEntry>, LandingError> {
        Ok(self.repository.kept_of(worker)?)
    }

    /// The kept work that a person names: a keep ref, whole or without its prefix, or a worker, whose newest is
    /// meant.
    ///
    /// # Errors
    /// [`LandingError::NothingKept`].
    pub(crate) fn find_kept(&self, name: &str) -> Result<KeepEntry, LandingError> {
        let kept = self.repository.kept()?;
        let full = format!("refs/swarm/keep/{name}");
        let by_reference = kept.iter().find(|entry| entry.reference == name || entry.reference == full);
        let found = by_reference.or_else(|| kept.iter().find(|entry| entry.worker.as_str() == name));
        found.cloned().ok_or_else(|| LandingError::NothingKept(name.to_owned()))
    }

    /// What kept work holds: its difference since it left the worker's base, or the target where that is unknown.
    pub(crate) fn show_kept(&self, entry: &KeepEntry, options: &DiffOptions) -> Result<Vec<u8>, LandingError> {
        Ok(self.repository.diff(&self.base_of_kept(entry)?, &entry.commit, options)?)
    }

    /// What kept work is compared with: its worker's base, or the target where that is unknown.
    pub(crate) fn base_of_kept(&self, entry: &KeepEntry) -> Result<CommitId, LandingError> {
        Ok(match self.store.worker(&entry.worker)? {
            Some(worker) => worker.place.base,
            None => {
                let target = self.repository.default_target()?;
                self.repository.branch_head(&target)?.ok_or(LandingError::NoTarget(target))?
            }
        })
    }

    /// Brings kept work back as a new branch and, where asked for, a new worktree; the keep ref stays.
    pub(crate) fn restore(&self, entry: &KeepEntry, to: &RestoreTo) -> Result<Restored, LandingError> {
        Ok(self.repository.restore(&entry.reference, to)?)
    }
}
