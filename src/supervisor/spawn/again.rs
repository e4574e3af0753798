//! Starting an ended or lost worker again in its worktree. There is nothing to undo but the attempt itself.

use super::claim::Renewing;
use super::{Continue, Spawned, Spawner, SupervisorError};
use crate::files::FileLock;
use crate::model::event::Event;
use crate::model::ticket::TicketState;
use crate::model::worker::{Outcome, Phase, SpawnStep, Worker};
use crate::model::{Time, error_text};
use crate::queue::{Claim, ClaimRequest, QueueError, QueueTicket, Reopen};
use crate::supervisor::ledger::Ledger;

/// A worker whose ticket is taken back; its start may begin.
#[derive(Debug)]
pub(crate) struct ReservedAgain {
    /// The worker.
    worker: Worker,
    /// Keeps other spawns of the worker out.
    _lock: FileLock,
    /// Keeps its claim.
    _renewing: Option<Renewing>,
}

impl ReservedAgain {
    /// The fence of its lease.
    pub(crate) fn fence(&self) -> u64 {
        self.worker.attempt.fence
    }
}

impl Spawner {
    /// Keeps every other command from starting an ended or lost worker while the lock lives.
    ///
    /// # Errors
    /// [`SupervisorError::Spawning`] and [`SupervisorError::Superseded`] when another command was faster.
    pub(crate) fn hold(&self, worker: &Worker) -> Result<FileLock, SupervisorError> {
        let lock = self.lock_spawn(&worker.id)?;
        self.check_is_as_seen(worker)?;
        Ok(lock)
    }

    /// Refuses a worker that another command has changed or started since it was looked at.
    fn check_is_as_seen(&self, worker: &Worker) -> Result<(), SupervisorError> {
        let is_taken = FileLock::is_held(&self.paths.supervisor_lock(&worker.id))?;
        if is_taken || self.store.worker(&worker.id)?.as_ref() != Some(worker) {
            return Err(SupervisorError::Superseded { worker: worker.id.clone() });
        }
        Ok(())
    }

    /// Takes an ended or lost worker, under a lock that [`Spawner::hold`] gave if there is one, for one more start: ends
    /// what its agent left running and takes the ticket back.
    ///
    /// # Errors
    /// As of [`Spawner::hold`].
    pub(crate) fn reserve_again(
        &self,
        again: &Continue,
        held: Option<FileLock>,
    ) -> Result<ReservedAgain, SupervisorError> {
        let lock = match held {
            Some(lock) => lock,
            None => self.lock_spawn(&again.worker.id)?,
        };
        self.check_is_as_seen(&again.worker)?;
        let mut worker = again.worker.clone();
        if !worker.place.worktree.is_dir() {
            return Err(SupervisorError::NoWorktree { worker: worker.id, path: worker.place.worktree });
        }
        // Whoever works in one of another repository is none of ours.
        self.repository.linked(&worker.place.worktree)?;
        self.clean_up_after(&worker)?;
        if let Err(error) = self.repository.drop_dead_locks(&worker.place.worktree) {
            let error = error_text(&error);
            tracing::warn!(worker = worker.id.as_str(), error, "dead locks in its worktree could not be removed");
        }
        if let Phase::Preparing { spawner, .. } = &worker.phase {
            // Whoever wanted to start it before died meanwhile.
            self.clean_runtime(&worker.id, worker.attempt.fence, spawner.pid)?;
        }
        let before = match &worker.phase {
            Phase::Ended { outcome, .. } | Phase::Preparing { before: Some(outcome), .. } => outcome.clone(),
            _ => Outcome::Stopped { reason: "its supervisor was lost".to_owned() },
        };
        let claim = self.claim_again(&worker, again)?;
        self.begin_again(&mut worker, again, claim.fence, before).inspect_err(|error| {
            // As when a later step fails: a ticket that runs without anybody at it would wait for ever.
            self.queue.fail(&again.worker.ticket, claim.fence, &not_started_again(error), None).ok();
        })?;
        let _renewing = self.keep_claim(&worker);
        Ok(ReservedAgain { worker, _lock: lock, _renewing })
    }

    /// Writes the row of a worker that starts again under a new lease.
    fn begin_again(
        &self,
        worker: &mut Worker,
        again: &Continue,
        fence: u64,
        before: Outcome,
    ) -> Result<(), SupervisorError> {
        let session = worker.attempt.session_id.clone().filter(|_| again.in_session);
        if session.is_none() {
            worker.attempt.number += 1;
        }
        worker.attempt.fence = fence;
        worker.attempt.run = self.run.clone();
        worker.attempt.session_id = session;
        worker.attempt.started_at = Time::now();
        worker.attempt.headless = again.headless;
        worker.attempt.tmux = None;
        worker.agent = again.agent.name.clone();
        worker.runtime = again.agent.runtime;
        worker.phase = self.preparing(SpawnStep::Claim, Some(before), None)?;
        Ok(self.store.put_worker(worker)?)
    }

    /// A lease on the ticket of a worker that nobody supervises: of one that was queued again, the next in its turn.
    fn claim_again(&self, worker: &Worker, again: &Continue) -> Result<Claim, SupervisorError> {
        let known = self.queue.ticket(&worker.ticket)?;
        if let Some(known) = known.as_ref().filter(|known| known.state == TicketState::Queued) {
            let request = ClaimRequest {
                node: self.queue.node().to_owned(),
                capabilities: known.ticket.capabilities.clone(),
                limit: 1,
                only: Some(vec![worker.ticket.clone()]),
                lease: self.lease(),
                request_id: None,
            };
            let claim = self.queue.claim(&request)?.pop();
            return claim.ok_or_else(|| SupervisorError::Superseded { worker: worker.id.clone() });
        }
        if let Some(known) = known.as_ref().filter(|known| known.client().is_some()) {
            // Another program holds it by a lease of its own.
            return Err(SupervisorError::NotClaimable { ticket: worker.ticket.clone(), state: known.state });
        }
        if let Some(node) = known.as_ref().and_then(|known| self.elsewhere(worker, known)) {
            return Err(SupervisorError::Elsewhere { ticket: worker.ticket.clone(), node });
        }
        let fence = known.map_or(worker.attempt.fence, |known| known.fence);
        self.queue.declare_lost(&worker.ticket, fence)?;
        let reopened = self.queue.reopen(&Reopen {
            ticket: worker.ticket.clone(),
            expected_fence: fence,
            node: self.queue.node().to_owned(),
            lease: self.lease(),
            counts_attempt: again.counts_attempt,
            from: again.from,
        });
        reopened.map_err(|error| match error {
            QueueError::Illegal { ticket, edge } if again.from.is_some() => {
                SupervisorError::NotClaimable { ticket, state: edge.state }
            }
            error => error.into(),
        })
    }

    /// The other node that took the ticket over since this worker had it.
    fn elsewhere(&self, worker: &Worker, known: &QueueTicket) -> Option<String> {
        // A machine may change its name, and the queue that is in its own store is its own all the same.
        let is_shared = self.queue.server().is_some();
        let other = known.taken_over_by(self.queue.node(), worker.attempt.fence);
        other.filter(|_| is_shared).map(str::to_owned)
    }

    /// Starts a reserved worker again in its worktree.
    ///
    /// # Errors
    /// Whatever a step says; the attempt has failed then, and the worktree is as it was.
    pub(crate) fn start_again(
        &self,
        again: &Continue,
        reserved: ReservedAgain,
        progress: &dyn Fn(SpawnStep),
    ) -> Result<Spawned, SupervisorError> {
        let ReservedAgain { worker, _lock, _renewing } = reserved;
        let (id, fence) = (worker.id.clone(), worker.attempt.fence);
        let ledger = Ledger::new(self.store.clone(), self.queue.clone(), &self.paths, &worker)?;
        self.prepare_again(again, worker, &ledger, progress).inspect_err(|error| {
            ledger.log(Event::SpawnUndone { reason: error.to_string() }).ok();
            self.end_supervisor(&id).ok();
            let outcome = Outcome::Failed { reason: not_started_again(error), exit_code: None };
            ledger.complete(fence, &outcome).ok();
            ledger.end(&outcome).ok();
            self.clean_runtime(&id, fence, std::process::id()).ok();
        })
    }

    /// The steps of a start in a worktree that is there.
    fn prepare_again(
        &self,
        again: &Continue,
        worker: Worker,
        ledger: &Ledger,
        progress: &dyn Fn(SpawnStep),
    ) -> Result<Spawned, SupervisorError> {
        let enter = |step| self.enter(ledger, step, progress);
        let env = self.environment_of(&again.agent, &worker)?;
        let ticket_prompt = self.prompt(&again.ticket, &worker);
        let (prompt, ticket_prompt) = match &again.prompt {
            // A template that is broken keeps nobody from going on as before.
            Some(prompt) => (prompt.clone(), Some(ticket_prompt.unwrap_or_else(|_| again.ticket.body.clone()))),
            None => (ticket_prompt?, None),
        };
        let mut handover = self.handover(&worker, &again.ticket, &again.agent, env, prompt)?;
        handover.ticket_prompt = ticket_prompt;
        handover.resume.clone_from(&worker.attempt.session_id);
        handover.returned_at.clone_from(&again.returned_at);
        self.start_supervisor(worker, handover, &enter)
    }
}

/// Why an attempt has ended that never began, as a clause.
fn not_started_again(error: &SupervisorError) -> String {
    format!("it could not be started again: {error}")
}
