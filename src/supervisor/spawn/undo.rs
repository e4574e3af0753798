//! Taking back what a spawn that failed, or whose process died, has left.

use super::claim::publication_key;
use super::{NewWorktree, RuntimePaths, Spawner, SupervisorError};
use crate::files::FileLock;
use crate::model::worker::{Outcome, Phase, SpawnStep, Worker};
use crate::model::{RunId, TicketId, Time, WorkerId, error_text};
use crate::process;
use crate::supervisor::MARKER;

impl Spawner {
    /// Ends every process that carries the worker's marker, outside a living supervisor, and removes what a dead one was
    /// writing.
    pub(crate) fn end_leftovers(&self, worker: &WorkerId) -> Result<usize, SupervisorError> {
        let folder = self.paths.worker_dir(worker);
        let count = process::stop_marked(MARKER, &folder.to_string_lossy(), self.settings.limits.grace)?;
        crate::files::sweep_half_written(&folder, &process::may_live)?;
        Ok(count)
    }

    /// Undoes a spawn whose process is gone; any other worker is left alone. Whether there was one.
    pub(crate) fn undo_interrupted(&self, id: &WorkerId) -> Result<bool, SupervisorError> {
        match self.lock_spawn(id) {
            Ok(_lock) => self.undo_dead_spawn(id),
            Err(SupervisorError::Spawning { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The same, for a caller that holds the spawn lock: no spawner of the worker lives.
    pub(super) fn undo_dead_spawn(&self, id: &WorkerId) -> Result<bool, SupervisorError> {
        let Some(worker) = self.store.worker(id)? else { return Ok(false) };
        let is_dead = matches!(&worker.phase, Phase::Preparing { .. });
        if !is_dead || FileLock::is_held(&self.paths.supervisor_lock(id))? {
            return Ok(false);
        }
        self.undo(&worker)?;
        Ok(true)
    }

    /// Undoes what this process did for a worker that it had reserved so.
    pub(super) fn undo_own(&self, reserved: &Worker) -> Result<(), SupervisorError> {
        self.end_supervisor(&reserved.id)?;
        let worker = self.store.worker(&reserved.id)?;
        let Some(mut worker) = worker.filter(|worker| worker.attempt.fence == reserved.attempt.fence) else {
            return Ok(());
        };
        // A supervisor that took over wrote its own phase; what was before the spawn is in ours.
        if !matches!(worker.phase, Phase::Preparing { .. }) {
            worker.phase = reserved.phase.clone();
            if let Phase::Preparing { step, .. } = &mut worker.phase {
                *step = SpawnStep::Agent;
            }
        }
        self.undo(&worker)
    }

    /// Ends a supervisor that did not come up as it should.
    pub(super) fn end_supervisor(&self, id: &WorkerId) -> Result<(), SupervisorError> {
        let Some(worker) = self.store.worker(id)? else { return Ok(()) };
        if let (Some(tmux), Some(session)) = (&self.tmux, &worker.attempt.tmux) {
            tmux.kill_session(session)?;
        }
        let lock = self.paths.supervisor_lock(id);
        if let Phase::Supervised { supervisor, .. } = &worker.phase
            && FileLock::is_held(&lock)?
        {
            process::stop_process(supervisor, self.settings.limits.grace * 2)?;
        }
        Ok(())
    }

    /// Takes a spawn back, last step first; a worker in any other phase is left alone. Work in the worktree, however it
    /// came there, is kept.
    fn undo(&self, worker: &Worker) -> Result<(), SupervisorError> {
        let Phase::Preparing { step, spawner, before, earlier, .. } = &worker.phase else { return Ok(()) };
        self.clean_up_after(worker)?;
        // A runtime folder that cannot be written may be why the spawn failed; what is in it is worth nothing now.
        if let Err(error) = self.clean_runtime(&worker.id, worker.attempt.fence, spawner.pid) {
            let error = error_text(&error);
            tracing::warn!(worker = worker.id.as_str(), error, "the runtime folder could not be cleaned");
        }
        if let Some(outcome) = before {
            return self.end_again(worker, outcome.clone());
        }
        if *step > SpawnStep::Claim {
            self.undo_worktree(worker)?;
        }
        self.give_back(&worker.ticket, worker.attempt.fence, &worker.attempt.run)?;
        match earlier {
            Some(earlier) => self.store.put_worker(earlier)?,
            None => self.store.forget_worker(&worker.id)?,
        }
        Ok(())
    }

    /// Puts a worker that was to be started again back to where it was.
    fn end_again(&self, worker: &Worker, outcome: Outcome) -> Result<(), SupervisorError> {
        use crate::queue::QueueError::{Illegal, NotFound, Stale};
        let why = "its start was interrupted";
        let outcome = match self.queue.fail(&worker.ticket, worker.attempt.fence, why, None) {
            Ok(_) | Err(Illegal { .. } | NotFound(_) | Stale { .. }) => outcome,
            // The queue hears later how the attempt under this fence ended: not as the one before.
            Err(_) => Outcome::Failed { reason: why.to_owned(), exit_code: None },
        };
        self.store.update_worker::<SupervisorError>(&worker.id, |row| {
            row.phase = Phase::Ended { outcome, at: Time::now() };
            Ok(())
        })?;
        Ok(())
    }

    /// Gives a claim back; a ticket that the same command published for it is as before.
    pub(super) fn give_back(&self, ticket: &TicketId, fence: u64, run: &RunId) -> Result<(), SupervisorError> {
        use crate::queue::QueueError::{Illegal, NotFound, Stale};
        match self.queue.withdraw(ticket, fence, &publication_key(ticket, run)) {
            // It went its own way meanwhile: cancelled, or under somebody else's lease.
            Ok(_) | Err(Illegal { .. } | NotFound(_) | Stale { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends the session and the processes of a worker that nobody supervises.
    pub(super) fn clean_up_after(&self, worker: &Worker) -> Result<(), SupervisorError> {
        if let Some(tmux) = &self.tmux {
            // A spawner that died right after it had made the session did not write down which.
            let session = match &worker.attempt.tmux {
                Some(session) => Some(session.clone()),
                None => tmux.find(&self.session_name(worker))?,
            };
            if let Some(session) = session {
                tmux.kill_session(&session)?;
            }
        }
        self.end_leftovers(&worker.id)?;
        Ok(())
    }

    /// Removes what a start left in the runtime folder; the hand-over file holds the agent's environment.
    pub(super) fn clean_runtime(&self, id: &WorkerId, fence: u64, spawner: u32) -> Result<(), SupervisorError> {
        let runtime = RuntimePaths::new(self.repository.common_dir(), id)?;
        let mut gone = vec![runtime.handover(fence), runtime.ready_of(spawner)];
        if !FileLock::is_held(&self.paths.supervisor_lock(id))? {
            gone.push(runtime.socket());
        }
        for path in gone {
            crate::files::remove_if_exists(&path)?;
        }
        Ok(())
    }

    /// Removes the worktree of an undone spawn: nothing in it, or what is in it is kept first. A folder that is not
    /// this worker's worktree is left alone.
    fn undo_worktree(&self, worker: &Worker) -> Result<(), SupervisorError> {
        let place = &worker.place;
        let real = |path: &std::path::Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let registered = self.repository.worktree_of_branch(&place.branch)?;
        let is_elsewhere = registered.as_deref().is_some_and(|path| real(path) != real(&place.worktree));
        let is_headless = self.repository.headless(&place.worktree)?.is_some();
        let is_foreign = registered.is_none() && !is_headless && place.worktree.join(".git").exists();
        if is_elsewhere || is_foreign {
            return Ok(());
        }
        let new = NewWorktree {
            path: place.worktree.clone(),
            branch: place.branch.clone(),
            base: place.base.clone(),
            use_existing_branch: !place.made_branch,
        };
        match self.repository.undo_add_worktree(&new, &place.made_paths) {
            Ok(()) => Ok(()),
            Err(crate::git::GitError::Refused { .. }) => {
                let kept = self.repository.keep(&worker.id, Some(&place.worktree), &place.branch, "spawn undone")?;
                self.repository.remove_worktree(&place.worktree, &kept)?;
                if place.made_branch {
                    self.repository.delete_branch(&place.branch, &kept)?;
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}
