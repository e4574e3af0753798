//! Looking after workers that do not go on: each step is counted before it is taken, so that it is not taken twice by a
//! coordinator that follows one which died in the middle.

use super::Control;
use super::sessions::remove_abandoned_sockets;
use crate::coordinator::failure::Failure;
use crate::coordinator::run::CareOf;
use crate::coordinator::run::stuck::NUDGE;
use crate::model::event::{Event, SwarmEvent, SwarmRecord};
use crate::model::health::BadEnd;
use crate::model::ticket::TicketState;
use crate::model::worker::{Liveness, Outcome, Phase, Worker};
use crate::model::{Time, WorkerId, error_text};
use crate::queue::QueueTicket;
use crate::supervisor::Continue;
use crate::supervisor::protocol::{Reply, Request};

/// What an agent is told that was started again.
const STARTED_AGAIN: &str = "You were ended and started again, because nothing was seen of you for a long time. Look at \
                             `git status` and at what you did last, then go on with the ticket. If something blocks you, \
                             say what it is and end your turn.";

/// Where a ticket is whose worker was ended to be started again.
const OWED_FROM: &[TicketState] = &[TicketState::Failed, TicketState::Dead, TicketState::Lost];

impl Control {
    /// Reminds a stuck worker's agent at its next turn boundary. Whether it can be: a program that takes no messages
    /// cannot, and that counts all the same.
    fn nudge(&self, worker: &Worker) -> Result<bool, Failure> {
        self.project.store()?.change_care(&worker.id, |care| care.nudges += 1)?;
        let reply = self.ask(worker, &Request::Notice { text: NUDGE.to_owned() })?;
        self.tell_swarm(worker, SwarmEvent::Nudged)?;
        Ok(reply == Some(Reply::Ok))
    }

    /// Ends a stuck worker's agent and starts it again; one that has finished since it was looked at is left alone.
    fn restart_stuck(&self, worker: &Worker, why: &str) -> Result<(), Failure> {
        let fence = worker.attempt.fence;
        let known = self.project.queue()?.ticket(&worker.ticket)?;
        if !known.is_some_and(|known| known.state == TicketState::Running && known.fence == fence) {
            return Ok(());
        }
        self.project.store()?.change_care(&worker.id, |care| {
            care.restarts += 1;
            care.restart_owed = Some(fence);
        })?;
        self.stop_one(worker, why)?;
        self.restart_owed(&worker.id)
    }

    /// Starts a worker again that was ended for it, in its own conversation where it has one. Nothing is owed to one whose
    /// ticket went on: it may have finished just before it was ended.
    fn restart_owed(&self, id: &WorkerId) -> Result<(), Failure> {
        let (store, worker) = (self.project.store()?, self.worker(id.as_str())?);
        let owed = store.cares()?.into_iter().find(|(known, _)| known == id).and_then(|(_, care)| care.restart_owed);
        let known = self.project.queue()?.ticket(&worker.ticket)?;
        let state = known.filter(|known| owed == Some(known.fence)).map(|known| known.state);
        let is_owed = state.is_some_and(|state| OWED_FROM.contains(&state));
        let is_gone = self.liveness(&worker) == Liveness::Dead;
        if is_owed && !is_gone || matches!(state, Some(TicketState::Running | TicketState::Lost)) {
            // The queue has yet to hear that it ended.
            return Ok(());
        }
        if is_owed {
            let prompt = worker.attempt.session_id.is_some().then(|| STARTED_AGAIN.to_owned());
            let again = self.continuation(worker, prompt, true, false)?;
            let again = Continue { from: Some(OWED_FROM), ..again };
            let spawner = self.spawner_for(&again.worker)?;
            // It has its place already.
            let places = self.lock_places()?;
            let reserved = spawner.reserve_again(&again, None)?;
            drop(places);
            // A start that fails is still owed.
            store.change_care(id, |care| care.restart_owed = Some(reserved.fence()))?;
            spawner.start_again(&again, reserved, &|_| {})?;
        }
        store.change_care(id, |care| care.restart_owed = None)?;
        Ok(())
    }

    /// Ends a stuck worker's attempt as failed; its work stays.
    fn fail_stuck(&self, worker: &Worker, why: &str) -> Result<(), Failure> {
        self.end_failed(worker, why)?;
        self.tell_swarm(worker, SwarmEvent::LimitReached { why: why.to_owned() })
    }

    /// Counts that a worker's supervisor was lost, before the worker is continued.
    pub(super) fn note_lost(&self, worker: &Worker) -> Result<(), Failure> {
        let (at, fence) = (Time::now(), worker.attempt.fence);
        let end = BadEnd { at, fence, exit_code: None, why: "its supervisor was lost".to_owned() };
        self.project.store()?.change_care(&worker.id, |care| care.note_end(end))?;
        Ok(())
    }

    /// Ends a worker that is started no more before a person has looked: what it left running, its attempt, its lease.
    fn give_up(&self, worker: &Worker, why: &str) -> Result<(), Failure> {
        self.project.store()?.change_care(&worker.id, |care| care.gave_up = Some(why.to_owned()))?;
        self.reap(worker)?;
        if let Phase::Supervised { .. } | Phase::Preparing { before: Some(_), .. } = worker.phase
            && self.liveness(worker) == Liveness::Dead
        {
            let (queue, fence) = (self.project.queue()?, worker.attempt.fence);
            // A ticket that went its own way needs neither.
            queue.declare_lost(&worker.ticket, fence).ok();
            queue.fail(&worker.ticket, fence, why, None).ok();
            let outcome = Outcome::Failed { reason: why.to_owned(), exit_code: None };
            let used = self.know(worker.clone(), None).live.map(|live| live.figures);
            self.log(worker, Event::AttemptEnded { outcome: outcome.clone(), used })?;
            self.project.store()?.update_worker::<Failure>(&worker.id, |row| {
                row.phase = Phase::Ended { outcome, at: Time::now() };
                Ok(())
            })?;
        }
        self.tell_swarm(worker, SwarmEvent::LimitReached { why: why.to_owned() })
    }

    /// Writes down the end of a worker whose supervisor was killed when it had told only the queue: nobody continues one
    /// whose ticket has come to its end, and it would be called lost for ever.
    fn close(&self, worker: &Worker) -> Result<(), Failure> {
        self.reap(worker)?;
        let Some(entry) = self.project.queue()?.ticket(&worker.ticket)? else { return Ok(()) };
        let outcome = match entry.state {
            TicketState::Dead => {
                let reason = entry.error.unwrap_or_else(|| "its supervisor was lost".to_owned());
                Outcome::Failed { reason, exit_code: None }
            }
            TicketState::Done => Outcome::NoChanges,
            TicketState::Cancelled => Outcome::Stopped { reason: "its ticket was cancelled".to_owned() },
            _ => return Ok(()),
        };
        if !matches!(worker.phase, Phase::Supervised { .. }) || self.liveness(worker) != Liveness::Dead {
            return Ok(());
        }
        self.log(worker, Event::AttemptEnded { outcome: outcome.clone(), used: None })?;
        self.project.store()?.update_worker::<Failure>(&worker.id, |row| {
            // Somebody may have started it again meanwhile.
            if row == worker {
                row.phase = Phase::Ended { outcome, at: Time::now() };
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Does what is to be done about a worker that does not go on.
    pub(in crate::coordinator) fn care_for(&self, id: &WorkerId, what: &CareOf) -> Result<(), Failure> {
        let worker = self.worker(id.as_str())?;
        match what {
            CareOf::Nudge => self.nudge(&worker).map(drop),
            CareOf::Restart { why } => self.restart_stuck(&worker, why),
            CareOf::RestartOwed => self.restart_owed(id),
            CareOf::Fail { why } => self.fail_stuck(&worker, why),
            CareOf::GiveUp { why } => self.give_up(&worker, why),
            CareOf::Close => self.close(&worker),
        }
    }

    /// Forgets what was counted of a worker, because a person decided about it.
    pub(super) fn forget_care(&self, worker: &WorkerId) -> Result<(), Failure> {
        Ok(self.project.store()?.end_care(worker)?)
    }

    /// Ends what the agents of workers left running that nobody supervises, and removes the sockets of killed processes; who
    /// and how many processes there were. One that cannot be looked at does not keep the others from it.
    pub(in crate::coordinator) fn reap_orphans(&self) -> Result<Vec<(WorkerId, usize)>, Failure> {
        let mut reaped = Vec::new();
        if let Err(failure) = remove_abandoned_sockets() {
            tracing::warn!(error = failure.chain.join(": "), "the sockets of killed commands could not be removed");
        }
        if let Err(error) = self.project.repository.sweep_packing() {
            tracing::warn!(
                error = error_text(&error),
                "what killed commands left among references could not be removed"
            );
        }
        for worker in self.project.store()?.workers()? {
            if let Err(failure) = self.undo_overtaken_spawn(&worker) {
                let error = failure.chain.join(": ");
                tracing::warn!(worker = worker.id.as_str(), error, "its interrupted spawn could not be undone");
            }
            match self.remove_dead_socket(&worker.id).and_then(|()| self.reap(&worker)) {
                Ok(0) => {}
                Ok(count) => {
                    let what = format!("ended {count} processes that nobody supervised");
                    self.tell_swarm(&worker, SwarmEvent::Mended { what })?;
                    reaped.push((worker.id, count));
                }
                Err(failure) => tracing::warn!(
                    worker = worker.id.as_str(),
                    error = failure.chain.join(": "),
                    "what it left running could not be ended"
                ),
            }
        }
        Ok(reaped)
    }

    /// Undoes a spawn that was killed and whose ticket went on without it, as on another node: nobody will begin it again.
    fn undo_overtaken_spawn(&self, worker: &Worker) -> Result<(), Failure> {
        if !matches!(worker.phase, Phase::Preparing { .. }) || self.liveness(worker) != Liveness::Dead {
            return Ok(());
        }
        let entry = self.project.queue()?.ticket(&worker.ticket)?;
        let went_on = |entry: QueueTicket| entry.state.is_ended() || entry.fence > worker.attempt.fence;
        if entry.is_none_or(went_on) && self.ending_spawner(worker)?.undo_interrupted(&worker.id)? {
            self.tell_swarm(worker, SwarmEvent::Mended { what: "undid its interrupted spawn".to_owned() })?;
        }
        Ok(())
    }

    /// Writes a fact about a worker into the event stream.
    fn tell_swarm(&self, worker: &Worker, event: SwarmEvent) -> Result<(), Failure> {
        let fact = SwarmRecord::now(&self.run, event).about_worker(&worker.ticket, &worker.id);
        self.project.store()?.append_swarm_event(&fact)?;
        Ok(())
    }
}
