//! Acting on workers: stop, pause, resume, restart. Each worker succeeds or fails by itself.

use std::path::Path;

use super::hear::Until;
use super::{Control, Known, is_released, partial};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::views::{ActionView, ActionsView, VIEW_VERSION};
use crate::files::FileLock;
use crate::model::event::Event;
use crate::model::ticket::{Ticket, TicketState};
use crate::model::worker::{Liveness, Outcome, Phase, STOPPED_BY_PERSON, Status, Worker};
use crate::model::{CommitId, Time};
use crate::process;
use crate::queue::QueueTicket;
use crate::supervisor::protocol::{Reply, Request};
use crate::supervisor::{ANSWER_WITHIN, Continue, MARKER, Spawned, Spawner};
use crate::terminal::Tmux;

/// Whether a worker that is brought back needs a place among `max_workers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Only where there is room.
    Limited,
    /// Always: a verdict or a landing sent its work back, and nothing that was said about it may be lost.
    Always,
}

/// What several workers' actions come to: the view, and the failure for the exit code.
pub(crate) type Acted = (ActionsView, Result<(), Failure>);

impl Control {
    /// Brings a message to a worker's agent: to its living supervisor, or by starting the agent again with it, which is
    /// done only where its ticket is in one of the states given.
    pub(super) fn deliver(
        &self,
        worker: Worker,
        text: &str,
        returned_at: Option<CommitId>,
        admission: Admission,
        from: Option<&'static [TicketState]>,
    ) -> Result<ActionView, Failure> {
        let id = worker.id.clone();
        let request = Request::Send { text: text.to_owned(), returned_at: returned_at.clone() };
        if let Some(reply) = self.ask(&worker, &request)? {
            return match reply {
                Reply::Queued { until } => {
                    Ok(action(&id, "queued", format!("Queued the message; it waits for {until}")))
                }
                Reply::Refused { why } => {
                    Err(Failure::new(FailureKind::NeedsPerson, why)
                        .hint(format!("swarm attach {id} shows its terminal")))
                }
                _ => Ok(action(&id, "delivered", "Delivered the message".to_owned())),
            };
        }
        let again = self.continuation(self.worker(id.as_str())?, Some(text.to_owned()), true, false)?;
        let spawned = self.go_on(&Continue { returned_at, from, ..again }, admission, None)?;
        let text = format!("Started attempt {} with the message", spawned.worker.attempt.number);
        Ok(action(&id, "restarted", text))
    }

    /// Ends the agents of workers; their work and worktrees stay.
    pub(crate) fn stop(&self, names: &[String], all: bool) -> Result<Acted, Failure> {
        let workers = self.select_living(names, all)?;
        Ok(self.each(workers, |worker| {
            self.forget_care(&worker.id)?;
            self.stop_until(&worker, STOPPED_BY_PERSON, Until::Written)
        }))
    }

    /// Ends one worker's agent and its supervisor. One that has ended already is a success that says so.
    pub(super) fn stop_one(&self, worker: &Worker, reason: &str) -> Result<ActionView, Failure> {
        self.stop_until(worker, reason, Until::Gone)
    }

    /// The same, where nothing else may be to be done with the worker.
    fn stop_until(&self, worker: &Worker, reason: &str, until: Until) -> Result<ActionView, Failure> {
        self.refuse_own(worker)?;
        let id = &worker.id;
        if let Some(reply) = self.ask_to_stop(worker, reason, until)? {
            let known = self.know(self.worker(id.as_str())?, None);
            // One that was killed meanwhile has written nothing down and may have left its agent.
            if reply != Reply::Ending || !matches!(known.worker.phase, Phase::Supervised { .. }) {
                let (status, untold) = (known.verdict.status.as_str(), self.untold(worker)?);
                return Ok(action(id, "stopped", format!("Stopped; it is {status}{untold}")));
            }
        }
        self.refuse_being_spawned(worker)?;
        // What it left is ended also while no server answers.
        self.project.make_do_with_tables()?;
        let spawner = self.ending_spawner(worker)?;
        if spawner.undo_interrupted(id)? {
            return Ok(action(id, "undone", "Undid its interrupted spawn".to_owned()));
        }
        let count = spawner.end_leftovers(id)?;
        if let Phase::Supervised { .. } = worker.phase {
            let outcome = Outcome::Stopped { reason: reason.to_owned() };
            let queue = self.project.queue()?;
            queue.declare_lost(&worker.ticket, worker.attempt.fence).ok();
            queue.fail(&worker.ticket, worker.attempt.fence, reason, None).ok();
            let used = self.know(worker.clone(), None).live.map(|live| live.figures);
            self.log(worker, Event::AttemptEnded { outcome: outcome.clone(), used })?;
            self.project.store()?.update_worker::<Failure>(id, |row| {
                row.phase = Phase::Ended { outcome, at: Time::now() };
                Ok(())
            })?;
            let untold = self.untold(worker)?;
            let text = format!("Stopped; {count} processes it had left behind were ended{untold}");
            return Ok(action(id, "stopped", text));
        }
        Ok(action(id, "ended", "It had ended already".to_owned()))
    }

    /// What is to be said where the queue has not heard that an attempt ended.
    fn untold(&self, worker: &Worker) -> Result<&'static str, Failure> {
        let fence = self.worker(worker.id.as_str())?.attempt.fence;
        let is_untold = |entry: QueueTicket| entry.fence == fence && entry.state == TicketState::Running;
        let entry = self.project.heard_of(&worker.ticket)?;
        Ok(if entry.is_some_and(is_untold) { "; its queue is told when the server answers" } else { "" })
    }

    /// Ends the agents of workers; an answer for each, in their order. Of those that have ended already, looks at the
    /// process table together tell whether they left something behind.
    pub(super) fn stop_many(&self, workers: &[Worker], reason: &str) -> Vec<Result<(), Failure>> {
        let has_ended = |worker: &Worker| {
            let has_ended = matches!(self.worker(worker.id.as_str())?.phase, Phase::Ended { .. });
            let is_held = FileLock::is_held(&self.project.paths.supervisor_lock(&worker.id))?;
            Ok::<_, Failure>(has_ended && !is_held && self.refuse_own(worker).is_ok())
        };
        let ended: Vec<_> = workers.iter().map(|worker| has_ended(worker).unwrap_or(false)).collect();
        // The second look finds what was started, and left by its parent, during the first.
        let looks = process::find_all_marked(MARKER).and_then(|one| Ok([one, process::find_all_marked(MARKER)?]));
        let has_left = |worker: &Worker| {
            let folder = self.project.paths.worker_dir(&worker.id);
            let marker = folder.to_string_lossy();
            looks.as_ref().map_or(true, |looks| looks.iter().any(|look| look.contains_key(marker.as_bytes())))
        };
        let stop = |(worker, ended): (&Worker, bool)| match ended && !has_left(worker) {
            true => Ok(()),
            false => self.stop_one(worker, reason).map(drop),
        };
        workers.iter().zip(ended).map(stop).collect()
    }

    /// Asks a worker's supervisor; `None` when it is gone, or has ended without doing anything of it.
    pub(super) fn ask(&self, worker: &Worker, request: &Request) -> Result<Option<Reply>, Failure> {
        let reply = match self.client(&worker.id)? {
            Some(client) => self.hear(worker, client, request, ANSWER_WITHIN)?,
            // Its socket goes shortly before it does.
            None if matches!(self.worker(worker.id.as_str())?.phase, Phase::Ended { .. }) => Reply::Ending,
            None => return Ok(None),
        };
        if reply == Reply::Ending {
            self.await_end(worker)?;
            return Ok(None);
        }
        Ok(Some(reply))
    }

    /// Refuses to end the worker to which this very command belongs: its end would be the command's, half done.
    fn refuse_own(&self, worker: &Worker) -> Result<(), Failure> {
        let own = self.project.call.environment.get(MARKER).map(Path::new);
        if own != Some(&self.project.paths.worker_dir(&worker.id)) {
            return Ok(());
        }
        let id = &worker.id;
        let text = format!("this command runs inside worker `{id}`, and would be ended with it");
        Err(Failure::new(FailureKind::Failed, text)
            .hint("an agent ends by ending its turn or its process; leave the rest to the person")
            .hint(format!("a person runs it in a terminal of their own, without {MARKER} in its environment")))
    }

    /// Refuses a worker that some command is spawning now.
    fn refuse_being_spawned(&self, worker: &Worker) -> Result<(), Failure> {
        match &worker.phase {
            Phase::Preparing { step, spawner, .. } if self.liveness(worker) == Liveness::Alive => {
                let (id, pid) = (&worker.id, spawner.pid);
                let text = format!("worker `{id}` is being spawned by process {pid}: it is {}", step.as_clause());
                Err(Failure::new(FailureKind::Failed, text).hint("wait for it, or end that process and repeat"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a worker whose first spawn is not through: there is nothing to go on with.
    fn refuse_half_spawned(&self, worker: &Worker) -> Result<(), Failure> {
        self.refuse_being_spawned(worker)?;
        if let Phase::Preparing { before: None, step, .. } = &worker.phase
            && self.liveness(worker) == Liveness::Dead
        {
            let text = format!("the spawn of worker `{}` ended while {}", worker.id, step.as_clause());
            let failure = Failure::new(FailureKind::Failed, text);
            return Err(failure.hint(format!("swarm spawn {} undoes it and begins anew", worker.ticket)));
        }
        Ok(())
    }

    /// Holds workers at their next turn boundary, or their processes at once.
    pub(crate) fn pause(&self, names: &[String], all: bool, now: bool) -> Result<Acted, Failure> {
        let workers = self.select_living(names, all)?;
        Ok(self.each(workers, |worker| {
            let id = &worker.id;
            self.ask(&worker, &Request::Pause { now })?.ok_or_else(|| self.not_living(&worker))?;
            let text = if now { "Paused; its processes are stopped" } else { "Will pause at the turn boundary" };
            Ok(action(id, "paused", text.to_owned()))
        }))
    }

    /// Continues paused, blocked and lost workers, and stopped ones in their own conversation.
    pub(crate) fn resume(&self, names: &[String], all: bool) -> Result<Acted, Failure> {
        self.check_may_assign()?;
        let mut workers = self.select(names, all)?;
        if all {
            workers.retain(|worker| {
                let status = self.know(worker.clone(), None).verdict.status;
                matches!(status, Status::Paused | Status::Lost)
            });
        }
        Ok(self.each(workers, |worker| {
            self.forget_care(&worker.id)?;
            self.resume_one(worker, None)
        }))
    }

    /// Continues one worker; one that has to be started again only where its ticket is in one of the states given.
    pub(super) fn resume_one(
        &self,
        worker: Worker,
        from: Option<&'static [TicketState]>,
    ) -> Result<ActionView, Failure> {
        let id = worker.id.clone();
        self.refuse_half_spawned(&worker)?;
        let known = self.know(worker.clone(), None);
        let is_held = known.live.is_some_and(|live| live.held_at.is_some());
        let ticket = self.frozen_ticket(&worker)?;
        if is_held {
            self.check_budgets(&ticket, &worker.attempt.run)?;
        }
        // A configuration that is broken keeps nobody from going on as before.
        let budget = self.budget_of(&ticket).ok();
        if self.ask(&worker, &Request::Resume { budget })?.is_some() {
            return Ok(action(&id, "resumed", "Resumed".to_owned()));
        }
        let known = self.know(self.worker(id.as_str())?, None);
        if let (Phase::Ended { outcome: Outcome::Finished { .. } | Outcome::NoChanges, .. }, _)
        | (Phase::Released { .. }, _) = (&known.worker.phase, known.liveness)
        {
            return Err(self.not_living(&known.worker));
        }
        let in_session = known.worker.attempt.session_id.is_some();
        let prompt = in_session.then(|| RESUME_PROMPT.to_owned());
        let again = self.continuation(known.worker, prompt, true, false)?;
        let spawned = self.go_on(&Continue { from, ..again }, Admission::Limited, None)?;
        let how = if in_session { "in its own conversation" } else { "from its prompt, in the same worktree" };
        Ok(action(&id, "resumed", format!("Resumed attempt {} {how}", spawned.worker.attempt.number)))
    }

    /// Stops workers and begins a new attempt of each in the same worktree.
    pub(crate) fn restart(&self, names: &[String], all: bool) -> Result<Acted, Failure> {
        self.check_may_assign()?;
        let workers = self.select_living(names, all)?;
        Ok(self.each(workers, |worker| {
            self.forget_care(&worker.id)?;
            self.restart_one(&worker)
        }))
    }

    /// Begins a new attempt of one worker.
    fn restart_one(&self, worker: &Worker) -> Result<ActionView, Failure> {
        let id = &worker.id;
        if is_released(worker) {
            return Err(released(worker));
        }
        self.refuse_half_spawned(worker)?;
        // Whether the new attempt can start is known before the old one is ended, and nobody takes its place between.
        let again = self.continuation(worker.clone(), None, false, true)?;
        self.check_budgets(&again.ticket, &self.run)?;
        let places = self.lock_places()?;
        if !self.busy()?.contains(id) {
            self.check_capacity(1)?;
        }
        self.stop_one(worker, "a person restarted it")?;
        let again = self.continuation(self.worker(id.as_str())?, None, false, true)?;
        let spawner = self.spawner_for(&again.worker)?;
        let reserved = spawner.reserve_again(&again, None)?;
        drop(places);
        let spawned = spawner.start_again(&again, reserved, &|_| {})?;
        Ok(action(id, "restarted", format!("Started attempt {}", spawned.worker.attempt.number)))
    }

    /// What starting an ended worker again takes.
    pub(super) fn continuation(
        &self,
        worker: Worker,
        prompt: Option<String>,
        in_session: bool,
        counts_attempt: bool,
    ) -> Result<Continue, Failure> {
        if is_released(&worker) {
            return Err(released(&worker));
        }
        let agent = self.ready_agent(&worker.agent)?;
        let mut ticket = self.frozen_ticket(&worker)?;
        // A budget that a person has raised since counts: it is no part of the work.
        ticket.budget = self.budget_of(&ticket)?.ticket;
        let headless = worker.attempt.headless;
        let (returned_at, from) = (None, None);
        Ok(Continue { worker, ticket, agent, prompt, in_session, counts_attempt, returned_at, headless, from })
    }

    /// The ticket as it was published.
    fn frozen_ticket(&self, worker: &Worker) -> Result<Ticket, Failure> {
        match self.project.queue()?.ticket(&worker.ticket)? {
            Some(known) => Ok(known.ticket),
            None => self.ticket_of(worker.ticket.as_str()),
        }
    }

    /// Starts an ended worker again, one that is held by the lock if there is one.
    pub(super) fn go_on(
        &self,
        again: &Continue,
        admission: Admission,
        held: Option<FileLock>,
    ) -> Result<Spawned, Failure> {
        let spawner = self.spawner_for(&again.worker)?;
        let places = self.lock_places()?;
        if admission == Admission::Limited {
            self.check_capacity(1)?;
            self.check_budgets(&again.ticket, &self.run)?;
        }
        let reserved = spawner.reserve_again(again, held)?;
        drop(places);
        Ok(spawner.start_again(again, reserved, &|_| {})?)
    }

    /// The spawner for what is done to an existing worker: nothing is set up again, so no trust is asked.
    pub(super) fn spawner_for(&self, worker: &Worker) -> Result<Spawner, Failure> {
        self.plain_spawner(worker.attempt.headless)
    }

    /// The spawner for ending what is left of a worker. It needs no configuration: one that is broken must not keep an
    /// agent running, and the worker knows its own tmux server.
    pub(super) fn ending_spawner(&self, worker: &Worker) -> Result<Spawner, Failure> {
        let tmux = match &worker.attempt.tmux {
            Some(session) => Some(self.project.tmux_server(&session.socket)?).filter(Tmux::is_installed),
            None => self.project.tmux().ok().flatten(),
        };
        self.spawner_with(self.project.settings_or_default(), Vec::new(), tmux)
    }

    /// The named workers, or with `all` those whose supervisor lives.
    fn select_living(&self, names: &[String], all: bool) -> Result<Vec<Worker>, Failure> {
        let mut workers = self.select(names, all)?;
        if all {
            workers.retain(|worker| self.liveness(worker) == Liveness::Alive);
        }
        Ok(workers)
    }

    /// The failure for what only a living supervisor can do, or one that can live again.
    fn not_living(&self, worker: &Worker) -> Failure {
        let Known { worker, verdict, .. } = self.know(worker.clone(), None);
        let id = &worker.id;
        let hint = match worker.phase {
            Phase::Released { .. } => return released(&worker),
            Phase::Ended { outcome: Outcome::Finished { .. } | Outcome::NoChanges, .. } => {
                format!("swarm send {id} \"...\" gives it more to do, swarm restart {id} begins anew")
            }
            _ => format!("swarm resume {id}"),
        };
        let text = format!("worker `{id}` is {}: {}", verdict.status.as_str(), verdict.reason);
        Failure::new(FailureKind::Failed, text).hint(hint)
    }

    /// Does something to each worker.
    pub(super) fn each(
        &self,
        workers: Vec<Worker>,
        mut act: impl FnMut(Worker) -> Result<ActionView, Failure>,
    ) -> Acted {
        let mut view = ActionsView { version: VIEW_VERSION, done: Vec::new(), failed: Vec::new() };
        let mut failures = Vec::new();
        for worker in workers {
            let id = worker.id.to_string();
            match act(worker) {
                Ok(action) => view.done.push(action),
                Err(failure) => failures.push((id, failure)),
            }
        }
        view.failed = failures.iter().map(|(id, failure)| failure.view(id)).collect();
        let result = partial(view.done.len(), failures);
        (view, result)
    }
}

/// What a resumed agent is told.
const RESUME_PROMPT: &str = "You were interrupted. Look at `git status` and at what you did last, then go on with the \
                             ticket from there. Do not repeat what is done.";

/// An action on a worker.
pub(super) fn action(worker: &crate::model::WorkerId, what: &str, text: String) -> ActionView {
    ActionView { worker: worker.to_string(), action: what.to_owned(), text }
}

/// The failure for a worker whose worktree is gone.
pub(super) fn released(worker: &Worker) -> Failure {
    let text = format!("worker `{}` was released; its worktree is gone", worker.id);
    Failure::new(FailureKind::Failed, text)
        .hint(format!("swarm recover restore {} brings its work back", worker.id))
        .hint(format!("swarm spawn {} begins anew", worker.ticket))
}
