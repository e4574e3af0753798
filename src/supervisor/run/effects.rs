//! Carrying out what the machine asks for.

use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use tokio::time::Instant;

use super::meter::Walk;
use super::{Job, Supervision};
use crate::git::{Repository, StateOf};
use crate::model::event::{Event, SwarmEvent};
use crate::model::tool_call::ToolOutcome;
use crate::model::worker::{Changes, Outcome, Worker};
use crate::model::{AgentName, CommitId, Time};
use crate::process;
use crate::store::{Fate, write_result};
use crate::supervisor::SupervisorError;
use crate::supervisor::finish::{Finish, Progress};
use crate::supervisor::handover::{Handover, Reviewers};
use crate::supervisor::ledger::{Ledger, Renewal};
use crate::supervisor::machine::{Effect, FinishReport, Input, Mode};

/// Lines of a program's screen that stand for its result.
const SHOWN_RESULT: usize = 40;
/// How long work that is finished waits until it is handed over: as long as sending much of it may take.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(600);
/// How often that is tried; each try waits for a server that is away.
const HAND_OVER_TRIES: u32 = 3;
/// The code with which the command for it ends when that is done.
const DONE: i32 = 0;
/// The code with which it ends when a person has to see to it first.
const NEEDS_PERSON: i32 = 4;
/// How often it is seen to that it should still wait.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The pause before it is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// The longest pause between two snapshots of a worker whose agent does nothing, in ordinary ones.
const LONGEST_REST: u32 = 8;

impl Supervision {
    /// Carries out one effect; what it leads to at once comes back.
    pub(super) async fn carry_out(&mut self, effect: Effect) -> Option<Input> {
        use rustix::process::Signal;
        match effect {
            Effect::Submit(text) => self.submit(&text).await,
            Effect::Relaunch(prompt) => {
                let failed = self.relaunch(&prompt.text());
                if failed.is_none() {
                    self.settle(&prompt, Fate::Delivered).await;
                }
                return failed;
            }
            Effect::Delivered(parcel) => self.settle(&parcel, Fate::Delivered).await,
            Effect::GivenUp(parcel) => self.settle(&parcel, Fate::Withdrawn).await,
            Effect::Expired(letter) => self.settle_letter(letter, Fate::Expired).await,
            Effect::BeginFinish => self.begin_finish().await,
            Effect::Reopen => self.reopen().await,
            Effect::Conclude(outcome) => self.conclude(outcome).await,
            Effect::EndAgent => self.end_agent(),
            Effect::Freeze => {
                let frozen = self.signal_agent(Signal::STOP);
                self.note_error(frozen);
            }
            Effect::Thaw => {
                let thawed = self.signal_agent(Signal::CONT);
                self.note_error(thawed);
            }
            Effect::CloseTools => {
                let closed = self.tool_log.close_open(ToolOutcome::Lost, Time::now());
                self.note_error(closed);
                self.count_tools();
            }
            Effect::Snapshot => self.begin_snapshot(),
            Effect::ExpectBeyond(commit) => self.assignment.returned_at = Some(commit),
            Effect::Log(event) => self.log(event).await,
            Effect::Exit => self.is_over = true,
        }
        None
    }

    /// Runs a blocking piece of bookkeeping beside the loop and waits for it.
    pub(super) async fn book<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Ledger) -> Result<T, SupervisorError> + Send + 'static,
    ) -> Option<T> {
        let ledger = self.assignment.ledger.clone();
        match tokio::task::spawn_blocking(move || work(&ledger)).await {
            Ok(Ok(value)) => Some(value),
            Ok(Err(error)) => {
                self.note_error::<(), _>(Err(error));
                None
            }
            Err(_panicked) => None,
        }
    }

    /// Writes an event.
    pub(super) async fn log(&mut self, event: Event) {
        self.book(move |ledger| ledger.log(event)).await;
        self.begin_telling();
    }

    /// Writes down a fact that concerns the whole swarm.
    pub(super) async fn tell_swarm(&mut self, event: SwarmEvent) {
        self.book(move |ledger| ledger.tell_swarm(event)).await;
    }

    /// Starts leftovers and checks.
    async fn begin_finish(&mut self) {
        let (fence, agent) = (self.assignment.fence, self.assignment.handover.agent.name.clone());
        let is_followed = self.book(move |ledger| ledger.is_followed(fence, &agent)).await.unwrap_or(false);
        let finish = Finish {
            ticket: self.assignment.handover.ticket.clone(),
            place: self.assignment.worker.place.clone(),
            env: self.assignment.handover.env.clone(),
            limits: self.assignment.handover.limits,
            templates: self.assignment.handover.templates.clone(),
            briefing: self.briefing(),
            returns: self.machine.returns(),
            returned_at: self.assignment.returned_at.clone(),
            is_followed,
            repository: self.assignment.repository.clone(),
            progress: Progress::begin(),
        };
        let (repository, worker) = (self.assignment.repository.clone(), self.assignment.worker.clone());
        let (calls, most) = self.take_calls();
        self.finishing = Some(finish.progress.clone());
        let (results, handover) = (self.job_results.clone(), self.assignment.handover.clone());
        tokio::task::spawn_blocking(move || {
            let finishing = finish.run();
            // First, so that who sees the verdict sees the figures it is about.
            results.blocking_send(Job::Snapshot(snapshot(&repository, &worker, calls, most))).ok();
            let is_handed_over = match &finishing.report {
                FinishReport::Work(commit) => hand_over(&handover, commit, &finish.progress),
                _ => false,
            };
            results.blocking_send(Job::Finish(finishing, is_handed_over.then_some(fence))).ok();
        });
    }

    /// Takes the ticket back after it was finished.
    async fn reopen(&mut self) {
        // Whatever it says, the ticket is taken back now.
        self.end_renewal().await;
        let fence = self.assignment.fence;
        self.concluded = None;
        self.facts.checks.clear();
        self.facts.outside_scope.clear();
        self.forget_given_result();
        self.timers.attempt = Instant::now();
        if let Some(fence) = self.book(move |ledger| ledger.reopen(fence)).await {
            self.assignment.fence = fence;
        }
    }

    /// Ends the attempt in the queue once, and the worker when no agent is left.
    async fn conclude(&mut self, outcome: Outcome) {
        if let Outcome::Finished { .. } = outcome {
            self.assignment.returned_at = None;
        }
        if self.agent.is_none() {
            self.save_last_snapshot().await;
        }
        self.charge().await;
        // Before the ticket moves, so that whoever waits for what it came to finds that, and who sees it in review sees the
        // figures and the status that belong to it; those last, since who sees the status looks for the ticket's state.
        if matches!(outcome, Outcome::Finished { .. } | Outcome::NoChanges) {
            let written = self.write_result();
            self.note_error(written);
        }
        let is_new = self.concluded.as_ref() != Some(&outcome);
        if is_new && self.agent.is_none() && matches!(outcome, Outcome::Stopped { .. }) {
            return self.conclude_stop(outcome).await;
        }
        if is_new {
            // Where the lease is gone, the queue refuses the end, and that is told.
            self.end_renewal().await;
        }
        self.write_live();
        if is_new {
            let (fence, ended) = (self.assignment.fence, outcome.clone());
            // First, so that whoever goes on with the ticket knows what it cost.
            self.share_spend().await;
            let told = self.book(move |ledger| ledger.complete(fence, &ended)).await;
            self.assignment.fence = told.unwrap_or(fence);
            let used = Some(self.facts.figures);
            self.log(Event::AttemptEnded { outcome: outcome.clone(), used }).await;
            self.concluded = Some(outcome.clone());
            if let Outcome::Finished { commit } = &outcome {
                let started = self.start_finished(commit);
                self.note_error(started);
            }
        }
        if self.agent.is_none() {
            self.book(move |ledger| ledger.close(&outcome)).await;
        }
    }

    /// The same of an agent that was stopped: whoever did that does not wait for a queue that may not answer, so that hears of
    /// it last.
    async fn conclude_stop(&mut self, outcome: Outcome) {
        self.write_live();
        self.concluded = Some(outcome.clone());
        let ended = outcome.clone();
        self.log(Event::AttemptEnded { outcome: ended.clone(), used: Some(self.facts.figures) }).await;
        self.book(move |ledger| ledger.close(&ended)).await;
        self.answer_stops();
        self.end_renewal().await;
        let fence = self.assignment.fence;
        self.share_spend().await;
        self.book(move |ledger| ledger.complete(fence, &outcome)).await;
    }

    /// Writes down what the attempt came to: what the agent put into the file for it, else its last answer, else, of a
    /// program that only runs and ends, the end of what it showed. Others read it, agents among them, so it has no
    /// secrets; they are taken out before it is cut.
    fn write_result(&self) -> Result<(), SupervisorError> {
        let (paths, id) = (&self.assignment.paths, &self.assignment.worker.id);
        let given = crate::files::read_if_exists(&paths.given_result(id))?.unwrap_or_default();
        let given = Some(String::from_utf8_lossy(&given).into_owned()).filter(|text| !text.trim().is_empty());
        let shown = || {
            let is_program = self.assignment.mode() == Mode::OneShot;
            is_program.then(|| self.terminal.screen.last_lines(SHOWN_RESULT).join("\n"))
        };
        let text = given.or_else(|| self.facts.answer.clone()).or_else(shown).unwrap_or_default();
        Ok(write_result(&paths.result(id), &self.assignment.redactor()?.text(&text))?)
    }

    /// Removes what an earlier attempt, or an earlier turn, gave as its result.
    pub(super) fn forget_given_result(&self) {
        let gone = crate::files::remove_if_exists(&self.assignment.paths.given_result(&self.assignment.worker.id));
        self.note_error(gone);
    }

    /// Starts the commands for work that is finished: one hands it over to other nodes where that was not done before under
    /// the fence that its ticket has now, and one asks its reviewers.
    fn start_finished(&self, commit: &CommitId) -> Result<(), SupervisorError> {
        let handover = &self.assignment.handover;
        let Handover { worker, reviewers, .. } = handover;
        if self.facts.handed_over_fence != Some(self.assignment.fence) {
            start_carrying(handover, commit)?;
        }
        if let Some(Reviewers { agents, env }) = reviewers {
            let log = crate::files::open_log(&self.assignment.paths.reviewers_log(worker))?;
            let ask = ["review", worker.as_str(), "--ask"].into_iter();
            let args: Vec<_> = ask.chain(agents.iter().map(AgentName::as_str)).collect();
            start_beside(handover, &args, env, log.into())?;
        }
        Ok(())
    }

    /// The last figures are taken when nothing runs any more.
    async fn save_last_snapshot(&mut self) {
        let (repository, worker) = (self.assignment.repository.clone(), self.assignment.worker.clone());
        let (calls, most) = self.take_calls();
        if let Ok(result) = tokio::task::spawn_blocking(move || snapshot(&repository, &worker, calls, most)).await {
            self.snapshot_done(result).await;
        }
    }

    /// Starts a snapshot unless one runs.
    pub(super) fn begin_snapshot(&mut self) {
        if std::mem::replace(&mut self.snapshots.is_running, true) {
            return;
        }
        self.snapshots.last = Instant::now();
        let (repository, worker) = (self.assignment.repository.clone(), self.assignment.worker.clone());
        let (calls, most) = self.take_calls();
        let walk = self.meter.begin_walk(Instant::now());
        let results = self.job_results.clone();
        tokio::task::spawn_blocking(move || {
            results.blocking_send(Job::Snapshot(snapshot(&repository, &worker, calls, most))).ok();
            if let Some(cpu) = walk {
                results.blocking_send(Job::Walked(Walk::through(&worker.place.worktree, cpu))).ok();
            }
        });
    }

    /// Has the state after a call saved, whose end has the number `end` in the tool log. Calls that end while a
    /// snapshot is taken share the next one.
    pub(super) fn save_call(&mut self, end: u64) {
        let first = self.snapshots.calls.map_or(end, |(first, _)| first);
        self.snapshots.calls = Some((first, end));
        self.snapshots.call_count += 1;
        self.begin_snapshot();
    }

    /// The calls that the next snapshot is for, and how many states are kept.
    fn take_calls(&mut self) -> (Option<(u64, u64)>, usize) {
        (self.snapshots.calls.take(), self.assignment.handover.call_states)
    }

    /// Starts a snapshot where the agent found a branch or worktree with work in it, so that its figures are right from
    /// the beginning.
    pub(super) fn measure_earlier_work(&mut self) {
        if !self.assignment.worker.is_untouched() {
            self.begin_snapshot();
        }
    }

    /// Starts a snapshot when the last one is old enough. While the agent's processes use nothing, only a person can
    /// change the worktree, and the pauses grow: a look at each of hundreds of worktrees every few moments would keep a
    /// processor busy.
    pub(super) fn begin_snapshot_if_due(&mut self) {
        let cpu = self.meter.cpu();
        let is_at_rest = cpu == self.snapshots.cpu && self.meter.has_looked_since(self.snapshots.last);
        let pause = if is_at_rest { self.snapshots.rest } else { 1 };
        let every = self.assignment.handover.limits.snapshot_every.saturating_mul(pause);
        if self.machine.is_attempting() && self.snapshots.last.elapsed() >= every {
            self.snapshots.rest = if is_at_rest { (pause * 2).min(LONGEST_REST) } else { 1 };
            self.snapshots.cpu = cpu;
            self.begin_snapshot();
        }
    }

    /// Takes the figures of a snapshot; one that failed is told once.
    pub(super) async fn snapshot_done(&mut self, result: Result<Changes, String>) {
        self.snapshots.is_running = false;
        if self.snapshots.calls.is_some() {
            self.begin_snapshot();
        } else {
            self.snapshots.release(Duration::ZERO);
        }
        match result {
            Ok(changes) => {
                // Results of two threads may come in the wrong order.
                if self.facts.changes.is_none_or(|known| known.at <= changes.at) {
                    self.note_change(self.facts.changes, &changes);
                    self.note_worktree(self.facts.changes, &changes);
                    self.facts.changes = Some(changes);
                }
                self.snapshots.error = None;
                self.told.live_is_stale = true;
            }
            Err(error) => {
                if self.snapshots.error.as_ref() != Some(&error) {
                    self.snapshots.error = Some(error.clone());
                    self.log(Event::Warning { text: format!("its work could not be saved: {error}") }).await;
                }
            }
        }
    }

    /// Renews the lease beside the loop, where it is time. The first time is right after the start: a ticket that was
    /// cancelled while its worker was being started is not worked on.
    pub(super) fn begin_renewal_if_due(&mut self, now: Instant) {
        let every = self.assignment.ledger.renew_every(self.is_at_rest());
        let is_due = self.timers.renewal.is_none_or(|last| now.duration_since(last) >= every);
        if is_due && self.timers.renewing.is_none() {
            self.timers.renewal = Some(now);
            let (ledger, fence) = (self.assignment.ledger.clone(), self.assignment.fence);
            self.timers.renewing = Some(tokio::task::spawn_blocking(move || ledger.renew(fence).ok()));
        }
    }

    /// Takes the answer of a renewal under way, and waits for it: nothing else may be done with the lease meanwhile, or
    /// the renewal takes a ticket back that was just finished. Why the lease is gone, where it is.
    pub(super) async fn end_renewal(&mut self) -> Option<String> {
        // A store that could not be written is tried again at the next renewal.
        match self.timers.renewing.take()?.await.ok()?? {
            Renewal::Held { fence } => {
                self.assignment.fence = fence;
                None
            }
            Renewal::Gone { why } => Some(why),
        }
    }
}

/// Hands work over that is judged to be finished, before the queue hears so: whoever sees that it is finished finds it, also
/// when this machine is gone by then. Whether that is done, or nothing that another try would change; a server that is away
/// is waited for a moment.
fn hand_over(handover: &Handover, commit: &CommitId, progress: &Progress) -> bool {
    let begun = std::time::Instant::now();
    for again in 0..HAND_OVER_TRIES {
        if again > 0 {
            std::thread::sleep(AGAIN_AFTER);
        }
        match start_carrying(handover, commit) {
            Ok(None) => return true,
            Ok(Some(ended)) => {
                let code = loop {
                    if progress.is_cancelled() || begun.elapsed() > HAND_OVER_WITHIN {
                        return false;
                    }
                    match ended.recv_timeout(LOOK_EVERY) {
                        Err(RecvTimeoutError::Timeout) => {}
                        ended => break ended.ok().flatten(),
                    }
                };
                if let Some(DONE | NEEDS_PERSON) = code {
                    return true;
                }
            }
            // Whoever tries it after the end says why.
            Err(_) => {}
        }
    }
    false
}

/// Starts the command that hands finished work over to other nodes, which a coordinator does as well but not after it was
/// killed; `None` where there are none. It says with which code it ended.
fn start_carrying(handover: &Handover, commit: &CommitId) -> Result<Option<Receiver<Option<i32>>>, SupervisorError> {
    let Some(env) = &handover.carry_env else { return Ok(None) };
    let args = ["--quiet", "carry", handover.worker.as_str(), commit.as_str()];
    start_beside(handover, &args, env, Stdio::null()).map(Some)
}

/// Starts a command of ours that is no part of this worker, and goes on when the supervisor ends. It says with which code it
/// ended, to whoever wants to know; `None` where a signal ended it.
fn start_beside(
    handover: &Handover,
    args: &[&str],
    env: &[(String, String)],
    log: Stdio,
) -> Result<Receiver<Option<i32>>, SupervisorError> {
    let mut command = process::command(&handover.program);
    command.args(args).current_dir(&handover.repository).env_clear();
    command.envs(env.iter().map(|(name, value)| (name, value)));
    // Without a group of its own the end of the pane would end it.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut child = process::spawn(&mut command)?;
    let (sender, ended) = channel();
    std::thread::spawn(move || {
        let code = child.wait().ok().and_then(|status| status.code());
        process::forget(child.id());
        sender.send(code).ok();
    });
    Ok(ended)
}

/// Saves a worktree to its wip ref, and as the state after calls where there are any, and measures it.
fn snapshot(
    repository: &Repository,
    worker: &Worker,
    calls: Option<(u64, u64)>,
    most: usize,
) -> Result<Changes, String> {
    let of = calls.map(|(first, last)| (StateOf::Calls { first, last }, most));
    repository.save_and_measure(&worker.id, &worker.place, of).map_err(|error| error.to_string())
}
