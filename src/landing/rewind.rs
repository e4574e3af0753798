//! Bringing a worker back to the state after a tool call, keeping the present first.

use std::time::Duration;

use super::{Landing, LandingError};
use crate::files::FileLock;
use crate::git::{RewindTo, StateOf, crash_point};
use crate::model::event::Event;
use crate::model::worker::Worker;
use crate::model::{CommitId, WorkerId};

/// How long a lock may be held by somebody who only looks at it.
const LOCK_WITHIN: Duration = Duration::from_millis(200);

/// What a worker is brought back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RewindPlan {
    /// The call, by its number in the tool log.
    pub(crate) call: u64,
    /// The number of the last record in the tool log.
    pub(crate) last_record: u64,
    /// The state.
    pub(crate) to: RewindTo,
    /// States that are kept.
    pub(crate) states: usize,
}

/// A worker that was brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rewound {
    /// The keep ref with the state before.
    pub(crate) keep: String,
    /// Where the branch was.
    pub(crate) from: CommitId,
    /// How many files changed.
    pub(crate) files: usize,
}

impl Landing<'_> {
    /// Keeps what a worker's branch and worktree hold and brings both back. The caller saw that no turn runs; with
    /// `is_living` a supervisor owns the worker and stays, without one none can begin meanwhile.
    ///
    /// # Errors
    /// [`LandingError::IsSupervised`] when one has begun since; [`crate::git::GitError::Refused`] when something stands
    /// in the way. Then nothing but the keep ref was made.
    pub(crate) fn rewind(
        &self,
        worker: &WorkerId,
        plan: &RewindPlan,
        is_living: bool,
    ) -> Result<Rewound, LandingError> {
        let worker = self.live_worker(worker)?;
        let _locks = if is_living { None } else { Some(self.hold(&worker)?) };
        let place = &worker.place;
        let reason = format!("before going back to call #{}", plan.call);
        let kept = self.repository.keep(&worker.id, Some(&place.worktree), &place.branch, &reason)?;
        crash_point!("kept");
        let from = self.head_of(&worker)?;
        let files = self.repository.rewind(&place.worktree, &kept, &plan.to, &place.made_paths)?;
        let snapshot = self.repository.snapshot(&place.worktree, &worker.id, &place.made_paths, false)?;
        let of = StateOf::Rewind { after: plan.last_record };
        self.repository.record_state(&worker.id, &snapshot, of, plan.states)?;
        crash_point!("rewound");
        let (keep, to) = (kept.keep_ref().to_owned(), plan.to.head.clone());
        let event = Event::Rewound { call: plan.call, keep: keep.clone(), from: from.clone(), to };
        self.note_event(&worker, event)?;
        Ok(Rewound { keep, from, files })
    }

    /// Keeps spawns and supervisors from beginning.
    fn hold(&self, worker: &Worker) -> Result<(FileLock, FileLock), LandingError> {
        let id = &worker.id;
        let spawn = FileLock::take_within(&self.paths.spawn_lock(id), LOCK_WITHIN)?;
        let supervisor = FileLock::take_within(&self.paths.supervisor_lock(id), LOCK_WITHIN)?;
        spawn.zip(supervisor).ok_or_else(|| LandingError::IsSupervised(id.clone()))
    }
}
