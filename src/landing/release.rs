//! Giving a worker's worktree and branch back, after its work was kept.

use std::time::Duration;

use super::{Landing, LandingError};
use crate::files::{FileLock, sweep_half_written};
use crate::git::{Trash, crash_point};
use crate::model::event::Event;
use crate::model::worker::{Outcome, Phase, Worker};
use crate::model::{Time, WorkerId, error_text};
use crate::process::may_live;

/// How long a lock may be held by somebody who only looks at it.
const LOCK_WITHIN: Duration = Duration::from_millis(200);

/// A worker that has no worktree any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Released {
    /// The worker.
    pub(crate) worker: WorkerId,
    /// The keep ref that holds its work.
    pub(crate) keep: String,
    /// Whether it had been released before this call.
    pub(crate) was_released: bool,
    /// Whether the keep ref holds files that no commit of the branch has.
    pub(crate) has_uncommitted: bool,
    /// What is to be said of a worktree that was not where it should be.
    pub(crate) missing: Option<Missing>,
}

/// A worktree that could not be looked at when its worker was released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Its last snapshot is kept.
    Snapshot,
    /// Only commits are kept.
    CommitsOnly,
}

impl Missing {
    /// What a person should know, as a sentence without its full stop.
    pub(crate) fn as_sentence(self) -> &'static str {
        match self {
            Self::Snapshot => "its worktree is missing, so its last snapshot was kept",
            Self::CommitsOnly => "its worktree is missing, so only its commits were kept",
        }
    }

    /// What a person can do.
    pub(crate) const HINT: &str = "if it was moved, `git worktree repair` in its new place brings it back";
}

impl Landing<'_> {
    /// Keeps a worker's work, removes its worktree and its branch, and marks it released. `reason` goes into the
    /// keep ref, for people.
    ///
    /// Can be called again after it was cut off anywhere; a released worker stays as it is.
    ///
    /// # Errors
    /// [`LandingError::IsSupervised`] while a supervisor or a spawn owns the worker: the caller stops it first. When
    /// the work cannot be kept, nothing is removed.
    pub(crate) fn release(&self, worker: &WorkerId, reason: &str) -> Result<Released, LandingError> {
        self.release_into(&Trash::new(self.repository), worker, reason)
    }

    /// The same; the worktree's files are deleted with the trash.
    pub(super) fn release_into(
        &self,
        trash: &Trash,
        worker: &WorkerId,
        reason: &str,
    ) -> Result<Released, LandingError> {
        let worker = self.worker(worker)?;
        if let Phase::Released { keep, .. } = &worker.phase {
            let keep = keep.clone();
            return Ok(Released { worker: worker.id, keep, was_released: true, has_uncommitted: false, missing: None });
        }
        // A spawn holds the first lock and a supervisor the second as long as they live; none can begin while we do.
        let id = &worker.id;
        let locks = (
            FileLock::take_within(&self.paths.spawn_lock(id), LOCK_WITHIN)?,
            FileLock::take_within(&self.paths.supervisor_lock(id), LOCK_WITHIN)?,
        );
        let (Some(_unspawned), Some(_unsupervised)) = locks else {
            return Err(LandingError::IsSupervised(worker.id));
        };
        // Somebody may have released or started it again before the locks were ours.
        let worker = self.worker(id)?;
        if let Phase::Released { keep, .. } = &worker.phase {
            let keep = keep.clone();
            return Ok(Released { worker: worker.id, keep, was_released: true, has_uncommitted: false, missing: None });
        }
        let Removed { keep, has_uncommitted, missing } = self.remove(trash, &worker, reason)?;
        crash_point!("removed");
        // Nobody comes by here again.
        if let Err(error) = sweep_half_written(&self.paths.worker_dir(id), &may_live) {
            tracing::warn!(
                worker = id.as_str(),
                error = error_text(&error),
                "what was being written could not be removed"
            );
        }
        let (outcome, ended_at) = last_outcome(&worker);
        let phase = Phase::Released { outcome, keep: keep.clone(), at: Time::now(), ended_at };
        self.store.update_worker::<LandingError>(&worker.id, |worker| {
            worker.phase = phase;
            Ok(())
        })?;
        self.note_event(&worker, Event::Released { keep: keep.clone() })?;
        Ok(Released { worker: worker.id, keep, was_released: false, has_uncommitted, missing })
    }

    /// Keeps and removes.
    fn remove(&self, trash: &Trash, worker: &Worker, reason: &str) -> Result<Removed, LandingError> {
        let (worktree, branch) = (&worker.place.worktree, &worker.place.branch);
        let is_gone = worktree.symlink_metadata().is_err() && self.repository.branch_head(branch)?.is_none();
        if is_gone && let Some(entry) = self.kept_of(&worker.id)?.into_iter().next() {
            self.repository.drop_dead_branch_lock(branch)?;
            return Ok(Removed { keep: entry.reference, has_uncommitted: entry.has_uncommitted, missing: None });
        }
        // A removal that was cut off kept everything before it began.
        let head = self.repository.branch_head(branch)?;
        let was_kept = self.kept_of(&worker.id)?.into_iter().any(|entry| head == Some(entry.head));
        let kept = self.repository.keep(&worker.id, Some(worktree), branch, reason)?;
        crash_point!("kept");
        self.repository.remove_worktree_into(trash, worktree, &kept)?;
        crash_point!("worktree removed");
        self.repository.delete_snapshots(&kept)?;
        crash_point!("snapshots deleted");
        // A branch that was there before the worker is somebody's own. Without it all is gone: it goes last.
        if worker.place.made_branch {
            self.repository.delete_branch(branch, &kept)?;
        }
        let missing = (kept.is_worktree_missing() && !was_kept).then(|| match kept.is_from_snapshot() {
            true => Missing::Snapshot,
            false => Missing::CommitsOnly,
        });
        Ok(Removed { keep: kept.keep_ref().to_owned(), has_uncommitted: kept.has_uncommitted(), missing })
    }
}

/// What a removal left.
struct Removed {
    /// The keep ref.
    keep: String,
    /// Whether it holds more than the commit it is restored from.
    has_uncommitted: bool,
    /// Whether the worktree was missing.
    missing: Option<Missing>,
}

/// How and when a worker's last attempt ended.
fn last_outcome(worker: &Worker) -> (Outcome, Option<Time>) {
    match &worker.phase {
        Phase::Ended { outcome, at } => (outcome.clone(), Some(*at)),
        Phase::Released { outcome, ended_at, .. } => (outcome.clone(), *ended_at),
        Phase::Preparing { .. } | Phase::Supervised { .. } => {
            (Outcome::Stopped { reason: "it was lost and then released".to_owned() }, None)
        }
    }
}
