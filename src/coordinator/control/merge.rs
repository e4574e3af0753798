//! `merge` and `rm`: landing approved work, sending back what does not fit, and releasing workers.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::Serialize;

use super::act::{Acted, action};
use super::{Control, is_released};
use crate::config::{Template, trust_keys_of_gates};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::views::{
    ConflictView, GateView, LandedView, MergeView, ReturnedView, SettledView, VIEW_VERSION, WaitingView,
};
use crate::git::{CommitInfo, Repository};
use crate::landing::{
    ApprovedGates, Entry, GateReport, LandEvent, LandOptions, Landed, LandingError, Missing, Outcome, Plan,
    PrepareScratch, Prospect, Report, Returned, Waiting, order,
};
use crate::model::event::{Event, EventRecord};
use crate::model::settings::{LandingMode, Strategy};
use crate::model::ticket::{Ticket, TicketState};
use crate::model::worker::{Liveness, Worker};
use crate::model::{CommitId, Time, WorkerId, error_text};
use crate::queue::QueueTicket;
use crate::store::read_log;

/// How often a target that moves underneath is followed before the work waits.
const REBUILDS: u32 = 5;
/// How long gates run before those of the next batch run beside them: quick ones are not worth a checkout.
const SPECULATE_AFTER: Duration = Duration::from_secs(1);

/// What `merge` was asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct MergeRequest {
    /// Workers; empty is every approved one.
    pub(crate) workers: Vec<String>,
    /// Instead of the configured strategy.
    pub(crate) strategy: Option<Strategy>,
    /// Change nothing.
    pub(crate) dry_run: bool,
    /// By pull requests, whatever is configured.
    pub(crate) by_pull_request: bool,
    /// With pull requests: wait until each is merged, closed or has failed checks.
    pub(crate) wait: bool,
    /// How long to wait.
    pub(crate) timeout: Option<Duration>,
}

/// Hears what happens while workers land.
pub(crate) trait MergeProgress {
    /// Something happens to a worker, as a clause.
    fn tell(&mut self, worker: &str, what: &str);

    /// What is set when it is to end before it is done: the gate under way is ended, and what did not land stays as it is.
    fn ends(&self) -> Arc<AtomicBool> {
        Arc::default()
    }
}

impl Control {
    /// Lands workers. The second value is the failure for the exit code.
    pub(crate) fn merge(
        &self,
        request: &MergeRequest,
        progress: &mut dyn MergeProgress,
    ) -> Result<(MergeView, Result<(), Failure>), Failure> {
        let mode = self.project.settings()?.landing.mode;
        if (request.by_pull_request || mode == LandingMode::Pr) && !request.dry_run {
            return self.merge_by_pull_request(request, progress);
        }
        if request.wait {
            return Err(Failure::new(FailureKind::Usage, "there is nothing to wait for without pull requests")
                .hint("add --pr, or set landing.mode to pr"));
        }
        let mut workers = self.landable(request)?;
        let gates = self.approved_gates()?;
        let mut view = MergeView {
            version: VIEW_VERSION,
            dry_run: request.dry_run,
            landed: Vec::new(),
            returned: Vec::new(),
            waiting: Vec::new(),
            settled: Vec::new(),
            pull_requests: Vec::new(),
        };
        self.set_aside(&mut view, &mut workers)?;
        let settings = self.project.settings()?;
        let repository = self.project.repository.clone().for_one_landing();
        let message = |worker: &Worker, strategy: Strategy| {
            self.commit_message(&repository, worker, strategy).map_err(|e| e.chain.join(": "))
        };
        let stop = |workers: &[Worker]| {
            let stopped = self.stop_many(workers, "its work landed").into_iter();
            stopped.map(|answer| answer.map_err(|failure| failure.chain.join(": "))).collect()
        };
        let options = LandOptions {
            strategy: request.strategy.unwrap_or(settings.landing.strategy),
            gates,
            environment: self.project.call.environment.all(),
            settings_env: settings.env.clone(),
            gate_timeout: settings.limits.gate_timeout,
            commit_timeout: settings.limits.commit_timeout,
            message: &message,
            prepare: self.preparation()?,
            stop: Some(&stop),
            rebuilds: REBUILDS,
            batch: settings.landing.batch,
            speculate_after: speculation_delay(settings.landing.speculate),
            ends: progress.ends(),
        };
        if request.dry_run {
            let plans = self.with_landing(|landing| Ok(landing.plan(&workers, &options)?))?;
            for plan in plans {
                self.add_plan(&mut view, plan)?;
            }
            return Ok((view, Ok(())));
        }
        let unjudged = self.approve_by_policy(&workers)?;
        workers.retain(|worker| !unjudged.iter().any(|(unjudged, _)| unjudged == worker));
        let reports =
            self.with_landing(|landing| Ok(landing.land(&workers, &options, &mut |event| tell(progress, &event))?))?;
        let mut failures: Vec<_> =
            unjudged.into_iter().map(|(worker, failure)| (worker.to_string(), failure)).collect();
        for report in reports {
            if let Err((id, failure)) = self.add_report(&repository, &mut view, report) {
                failures.push((id, failure));
            }
        }
        self.tell_stacked_of(&view);
        self.release_landed(&[])?;
        self.clear_released();
        self.tell_facts();
        let result = outcome(&view, failures);
        Ok((view, result))
    }

    /// Releases workers whose work landed and who could not be released then, as when the disk was full, but for those
    /// that were judged just now; what fails again is for the next landing.
    pub(super) fn release_landed(&self, judged: &[WorkerId]) -> Result<(), Failure> {
        for worker in self.project.store()?.workers()?.iter().filter(|worker| !judged.contains(&worker.id)) {
            if !self.awaits_release(worker)? {
                continue;
            }
            // What landed by another node may have left an agent here that lost its supervisor.
            let reaped = self.reap(worker);
            if let Err(failure) =
                reaped.and_then(|_| self.with_landing(|landing| Ok(landing.release(&worker.id, "landed")?)))
            {
                let error = failure.chain.join(": ");
                tracing::warn!(worker = worker.id.as_str(), error, "a worker whose work landed could not be released");
            }
        }
        Ok(())
    }

    /// Whether a worker's work landed, and it was not released and nobody supervises it.
    pub(super) fn awaits_release(&self, worker: &Worker) -> Result<bool, Failure> {
        let is_left = !is_released(worker) && self.liveness(worker) == Liveness::Dead;
        if !is_left || self.ticket_state(&worker.ticket)? != Some(TicketState::Landed) {
            return Ok(false);
        }
        let workers = self.project.store()?.workers()?;
        if workers.iter().filter(|other| other.ticket == worker.ticket).count() == 1 {
            return Ok(true);
        }
        // Which of several landed, their own logs tell; what landed before an attempt is not that attempt's work.
        let log = read_log::<EventRecord>(&self.project.paths.events(&worker.id))?;
        let last = log.records.iter().rev().find_map(|record| match record.event {
            Event::Landed { .. } => Some(true),
            Event::AgentStarted { .. } => Some(false),
            _ => None,
        });
        Ok(last == Some(true))
    }

    /// The workers to land, in the order they go in: as named, or as [`order`] says.
    pub(super) fn landable(&self, request: &MergeRequest) -> Result<Vec<WorkerId>, Failure> {
        if !request.workers.is_empty() {
            return request.workers.iter().map(|name| self.worker(name).map(|worker| worker.id)).collect();
        }
        let auto = self.approves_without_person()?;
        let workers = self.project.store()?.workers()?;
        let tickets = self.project.queue()?.snapshot()?;
        let tokens = self.project.store()?.tokens()?;
        let is_on_its_way = |entry: &QueueTicket| {
            let worker = workers.iter().find(|worker| worker.ticket == entry.ticket.id && !is_released(worker));
            let token = tokens.get(&entry.ticket.id).zip(worker);
            token.is_some_and(|(token, worker)| !token.is_over(entry.fence, &worker.agent))
        };
        // What a dead process was landing is finished or approved again before anything else lands.
        let has_abandoned = !request.dry_run && self.with_landing(|landing| Ok(landing.is_idle()?))?;
        let ready = tickets.iter().filter(|entry| match entry.state {
            TicketState::Approved => true,
            TicketState::Landing => has_abandoned,
            TicketState::Review => auto && !is_on_its_way(entry),
            _ => false,
        });
        let ids = ready.flat_map(|entry| {
            let own = workers.iter().filter(|worker| worker.ticket == entry.ticket.id && !is_released(worker));
            own.map(move |worker| (entry, worker))
        });
        let ready: Vec<_> = ids.collect();
        let mut entries = Vec::with_capacity(ready.len());
        for (entry, worker) in &ready {
            entries.push(self.entry(&entry.ticket, worker)?);
        }
        let workers: Vec<_> = ready.into_iter().map(|(_, worker)| worker.clone()).collect();
        let overlaps = self.with_landing(|landing| Ok(landing.known_conflicts(&workers)?))?;
        Ok(order(&entries, &overlaps))
    }

    /// What decides when a worker's work lands.
    pub(super) fn entry(&self, ticket: &Ticket, worker: &Worker) -> Result<Entry, Failure> {
        let log = read_log::<EventRecord>(&self.project.paths.events(&worker.id))?;
        let returns = log.records.iter().filter_map(|record| match &record.event {
            Event::Returned { files, .. } => Some(files.is_empty()),
            _ => None,
        });
        let (red_gates, conflicts): (Vec<_>, Vec<_>) = returns.partition(|is_red| *is_red);
        Ok(Entry {
            worker: worker.id.clone(),
            ticket: ticket.id.clone(),
            priority: ticket.priority,
            depends_on: ticket.depends_on.iter().map(|dependency| dependency.ticket.clone()).collect(),
            red_gates: red_gates.len(),
            conflicts: conflicts.len(),
        })
    }

    /// Takes those with nothing to land out of `workers`.
    fn set_aside(&self, view: &mut MergeView, workers: &mut Vec<WorkerId>) -> Result<(), Failure> {
        let mut rest = Vec::new();
        for id in workers.drain(..) {
            match self.settled(&self.worker(id.as_str())?)? {
                Some(settled) => view.settled.push(settled),
                None => rest.push(id),
            }
        }
        *workers = rest;
        Ok(())
    }

    /// What to say of a worker with nothing to land; `None` where there may be something.
    pub(super) fn settled(&self, worker: &Worker) -> Result<Option<SettledView>, Failure> {
        let (commit, why) = match self.ticket_state(&worker.ticket)? {
            Some(TicketState::Landed) => {
                let commit = self.landed_commit(worker)?;
                let name = commit.as_ref().map(|commit| format!(" as {}", commit.short())).unwrap_or_default();
                (commit, format!("landed already{name}"))
            }
            Some(TicketState::Done) => (None, "is done without changes, so there is nothing to land".to_owned()),
            _ => return Ok(None),
        };
        let commit = commit.map(|commit| commit.to_string());
        Ok(Some(SettledView { worker: worker.id.to_string(), commit, why }))
    }

    /// The commit as which a worker's work landed last, as its event log tells.
    fn landed_commit(&self, worker: &Worker) -> Result<Option<CommitId>, Failure> {
        let log = read_log::<EventRecord>(&self.project.paths.events(&worker.id))?;
        Ok(log.records.into_iter().rev().find_map(|record| match record.event {
            Event::Landed { commit, .. } => Some(commit),
            _ => None,
        }))
    }

    /// The gates, all of them trusted.
    pub(super) fn approved_gates(&self) -> Result<ApprovedGates, Failure> {
        let settings = self.project.settings()?;
        let items = trust_keys_of_gates(settings, self.project.repository.common_dir());
        let mut trust = self.project.trust()?;
        if self.trusts && !items.is_empty() {
            trust.trust(&items, Time::now())?;
        }
        let is_trusted = |run: &str| items.iter().any(|item| item.run == run && trust.is_trusted(&item.key));
        ApprovedGates::check(&settings.gates, |gate| is_trusted(&gate.run)).map_err(|untrusted| {
            Failure::from_error(FailureKind::NeedsPerson, &untrusted)
                .hint("read them in .swarm/config.yaml, then run swarm trust, or repeat with --yes")
        })
    }

    /// The message of a merge or squashed commit.
    fn commit_message(&self, repository: &Repository, worker: &Worker, strategy: Strategy) -> Result<String, Failure> {
        let head = repository.branch_head(&worker.place.branch)?;
        let commits = match head {
            Some(head) => repository.commits_between(&repository.own_base(&worker.place, &head)?, &head)?,
            None => Vec::new(),
        };
        let template = if strategy == Strategy::Squash { Template::SquashCommit } else { Template::MergeCommit };
        self.render(template, worker, &self.published_ticket(worker)?, Commits { commits })
    }

    /// What copies ignored files that `copy` names into a gate's worktree.
    fn preparation(&self) -> Result<Option<PrepareScratch>, Failure> {
        let (repository, patterns) = (self.project.repository.clone(), self.project.settings()?.copy.clone());
        if patterns.is_empty() {
            return Ok(None);
        }
        let Some(main) = repository.main_worktree().map(Path::to_owned) else { return Ok(None) };
        let copy = move |scratch: &Path| {
            repository.copy_ignored(&main, scratch, &patterns).map(drop).map_err(|error| error_text(&error))
        };
        Ok(Some(Arc::new(copy)))
    }

    /// Adds what would become of a worker.
    fn add_plan(&self, view: &mut MergeView, plan: Plan) -> Result<(), Failure> {
        let worker = self.worker(plan.worker.as_str())?;
        match plan.prospect {
            Prospect::Land { tree, gates } => view.landed.push(LandedView {
                worker: worker.id.to_string(),
                commit: None,
                tree,
                tested: None,
                commits: self.commit_count(&worker)?,
                target: worker.place.target.to_string(),
                gates: gates
                    .into_iter()
                    .map(|gate| GateView {
                        name: gate.name,
                        passed: gate.is_remembered.then_some(true),
                        exit_code: None,
                        duration_ms: 0,
                        cached: gate.is_remembered,
                        output_tail: String::new(),
                    })
                    .collect(),
                keep: None,
                check: None,
                warnings: Vec::new(),
            }),
            Prospect::Return(returned) => view.returned.push(returned_view(&worker.id, &returned)),
            Prospect::Wait(waiting) => view.waiting.push(waiting_view(&worker.id, &waiting)),
        }
        Ok(())
    }

    /// Commits of a worker's branch since its base.
    fn commit_count(&self, worker: &Worker) -> Result<usize, Failure> {
        match self.project.repository.branch_head(&worker.place.branch)? {
            Some(head) => {
                let repository = &self.project.repository;
                Ok(repository.count_between(&repository.own_base(&worker.place, &head)?, &head)?)
            }
            None => Ok(0),
        }
    }

    /// Adds what became of a worker, and takes what goes back to its agent.
    fn add_report(
        &self,
        repository: &Repository,
        view: &mut MergeView,
        report: Report,
    ) -> Result<(), (String, Failure)> {
        let id = report.worker.to_string();
        let told = self.worker(&id).and_then(|worker| {
            // Another process may have landed it before this worker's turn.
            let is_late = match &report.outcome {
                Ok(Outcome::Landed(_)) => false,
                Ok(Outcome::Waiting(_) | Outcome::Returned(_)) => true,
                Err(error) => matches!(error, LandingError::IsReleased(_) | LandingError::NoWork { .. }),
            };
            if is_late && let Some(settled) = self.settled(&worker)? {
                view.settled.push(settled);
                return Ok(());
            }
            match report.outcome? {
                Outcome::Landed(landed) => view.landed.push(self.landed_view(repository, &worker, landed)?),
                Outcome::Waiting(waiting) => view.waiting.push(waiting_view(&worker.id, &waiting)),
                Outcome::Returned(returned) => self.give_back(view, worker, &returned)?,
            }
            Ok(())
        });
        told.map_err(|failure| (id, failure))
    }

    /// The view of landed work.
    fn landed_view(&self, repository: &Repository, worker: &Worker, landed: Landed) -> Result<LandedView, Failure> {
        for text in &landed.warnings {
            self.log(worker, Event::Warning { text: text.clone() })?;
        }
        Ok(LandedView {
            worker: worker.id.to_string(),
            commit: Some(landed.commit.to_string()),
            commits: landed_count(repository, worker, &landed)?,
            tree: landed.tree,
            tested: landed.tested,
            target: worker.place.target.to_string(),
            gates: landed.gates.iter().map(gate_view).collect(),
            keep: landed.keep,
            check: None,
            warnings: landed.warnings,
        })
    }

    /// Removes workers: stops them, keeps their work, then removes worktree and branch. `confirm` is asked once with the
    /// names.
    pub(crate) fn rm(
        &self,
        names: &[String],
        all: bool,
        confirm: &dyn Fn(&[String]) -> Result<bool, Failure>,
    ) -> Result<Acted, Failure> {
        let workers = self.select(names, all)?;
        let ids: Vec<_> = workers.iter().filter(|worker| !is_released(worker)).map(|w| w.id.to_string()).collect();
        if !ids.is_empty() && !confirm(&ids)? {
            return Err(Failure::new(FailureKind::NeedsPerson, "nothing was removed"));
        }
        let acted = self.each(workers, |worker| {
            if is_released(&worker) {
                return Ok(action(&worker.id, "released", "It was released before".to_owned()));
            }
            self.stop_one(&worker, "a person removed it")?;
            if self.project.store()?.worker(&worker.id)?.is_none() {
                return Ok(action(&worker.id, "undone", "Undid its interrupted spawn".to_owned()));
            }
            let released = self.with_landing(|landing| Ok(landing.release(&worker.id, "removed by a person")?))?;
            let node = self.went_on_elsewhere(&worker)?;
            if node.is_none() && !self.ticket_state(&worker.ticket)?.is_some_and(TicketState::is_ended) {
                self.project.queue()?.cancel(&worker.ticket)?;
            }
            let goes_on = node.map(|node| format!("; node `{node}` goes on with its ticket")).unwrap_or_default();
            let uncommitted = if released.has_uncommitted { ", uncommitted work included" } else { "" };
            let text = match released.missing {
                Some(missing) => {
                    let hint = Missing::HINT;
                    format!("Removed; {} in {}{uncommitted}{goes_on}; {hint}", missing.as_sentence(), released.keep)
                }
                None => format!("Removed; its work is kept in {}{uncommitted}{goes_on}", released.keep),
            };
            Ok(action(&worker.id, "released", text))
        });
        self.clear_released();
        Ok(acted)
    }

    /// The node that has the ticket of a worker of this clone under a lease of its own by now.
    fn went_on_elsewhere(&self, worker: &Worker) -> Result<Option<String>, Failure> {
        let queue = self.project.queue()?;
        let entry = queue.ticket(&worker.ticket)?;
        let other = entry.as_ref().and_then(|entry| entry.taken_over_by(queue.node(), worker.attempt.fence));
        Ok(other.filter(|_| queue.server().is_some()).map(str::to_owned))
    }
}

/// Commits that came into the target with a landing and were not there before.
fn landed_count(repository: &Repository, worker: &Worker, landed: &Landed) -> Result<usize, Failure> {
    let since = match &landed.from {
        from if *from != landed.work => repository.merge_base(from, &landed.work)?,
        _ => None,
    };
    let since = since.unwrap_or_else(|| worker.place.base.clone());
    Ok(repository.count_between(&since, &landed.work)?)
}

/// The failure for the exit code: all landed, some, all returned, or a person needed.
fn outcome(view: &MergeView, mut failures: Vec<(String, Failure)>) -> Result<(), Failure> {
    let done = view.landed.len() + view.settled.len();
    for returned in &view.returned {
        let failure = Failure::new(
            FailureKind::Failed,
            format!("`{}` went back to its agent: {}", returned.worker, returned.why),
        );
        failures.push((returned.worker.clone(), failure));
    }
    for waiting in &view.waiting {
        let failure = Failure::new(FailureKind::NeedsPerson, format!("`{}` waits: {}", waiting.worker, waiting.why));
        failures.push((waiting.worker.clone(), failure));
    }
    super::partial(done, failures)
}

/// How long the gates of a batch run before those of the next one run beside them, where that is wanted and there are
/// cores for two.
fn speculation_delay(is_wanted: bool) -> Option<Duration> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (is_wanted && cores > 1).then_some(SPECULATE_AFTER)
}

/// Tells what happens as a clause.
fn tell(progress: &mut dyn MergeProgress, event: &LandEvent<'_>) {
    match event {
        LandEvent::WaitingForOthers => progress.tell("", "waiting for another landing to end"),
        LandEvent::Resumed(report) => {
            let what = match &report.outcome {
                Ok(Outcome::Landed(_)) => "finished a landing that was interrupted".to_owned(),
                Ok(_) => "took back a landing that was interrupted".to_owned(),
                Err(error) => format!("could not finish a landing that was interrupted: {}", error_text(error)),
            };
            progress.tell(report.worker.as_str(), &what);
        }
        LandEvent::Started(worker) => progress.tell(worker.as_str(), "test merge"),
        LandEvent::GateStarted(worker, gate) => progress.tell(worker.as_str(), &format!("gate {gate}")),
        LandEvent::GateEnded(worker, gate) => {
            let word = if gate.passed { "passed" } else { "failed" };
            progress.tell(worker.as_str(), &format!("gate {} {word}", gate.name));
        }
        LandEvent::Rebuilding(worker) => progress.tell(worker.as_str(), "the target moved, building again"),
        LandEvent::Ended(report) => progress.tell(report.worker.as_str(), ""),
    }
}

/// The view of a gate.
pub(super) fn gate_view(gate: &GateReport) -> GateView {
    GateView {
        name: gate.name.clone(),
        passed: Some(gate.passed),
        exit_code: gate.exit_code,
        duration_ms: gate.duration_ms,
        cached: gate.cached,
        output_tail: if gate.passed { String::new() } else { gate.output_tail.clone() },
    }
}

/// The files in conflict.
pub(super) fn conflicts(returned: &Returned) -> Vec<ConflictView> {
    let word = |kind| serde_json::to_value(kind).ok().and_then(|value| value.as_str().map(str::to_owned));
    let view = |file: &crate::git::ConflictFile| ConflictView {
        path: file.path.clone(),
        kind: word(file.kind).unwrap_or_default(),
    };
    returned.files.iter().map(view).collect()
}

/// The view of returned work.
pub(super) fn returned_view(worker: &WorkerId, returned: &Returned) -> ReturnedView {
    ReturnedView {
        worker: worker.to_string(),
        why: returned.why.clone(),
        files: conflicts(returned),
        gates: returned.gates.iter().map(gate_view).collect(),
    }
}

/// The view of waiting work.
fn waiting_view(worker: &WorkerId, waiting: &Waiting) -> WaitingView {
    let mut why = waiting.why.clone();
    if !waiting.files.is_empty() {
        let files: Vec<_> = waiting.files.iter().map(|file| file.display().to_string()).collect();
        why = format!("{why}: {}", files.join(", "));
    }
    WaitingView { worker: worker.to_string(), why, gates: Vec::new() }
}

/// Variables of the commit message templates.
#[derive(Serialize)]
struct Commits {
    commits: Vec<CommitInfo>,
}
