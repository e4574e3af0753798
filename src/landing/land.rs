//! Landing itself: judge, take, build, gates, intent, move, facts. `mod.rs` tells the whole story.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::evidence;
use super::gate::{ApprovedGates, Bench, GateReport, Scratch};
use super::outcome::{
    LandEvent, Outcome, Plan, PlannedGate, Prospect, Report, ReturnReason, Returned, Waiting, WaitingReason,
};
use super::review::Standing;
use super::shared::Shared;
use super::turn::MARKER;
use super::{Landing, LandingError};
use crate::git::{Built, Commit, Repository, crash_point};
use crate::model::event::{Event, EventRecord};
use crate::model::settings::Strategy;
use crate::model::ticket::TicketState;
use crate::model::worker::{Place, Worker};
use crate::model::{CommitId, TicketId, WorkerId};
use crate::queue::Settlement;
use crate::store::{Review, read_log};

/// Writes the message of a merge or squashed commit.
pub(crate) type WriteMessage<'a> = &'a dyn Fn(&Worker, Strategy) -> Result<String, String>;
/// Puts what gates need besides the tree into their worktree.
pub(crate) type PrepareScratch = Arc<dyn Fn(&Path) -> Result<(), String> + Send + Sync>;
/// Stops a worker's supervisor.
pub(crate) type Stop<'a> = &'a dyn Fn(&Worker) -> Result<(), String>;
/// Stops the supervisors of several workers; an answer for each, in their order.
pub(crate) type StopAll<'a> = &'a dyn Fn(&[Worker]) -> Vec<Result<(), String>>;

/// How to land.
pub(crate) struct LandOptions<'a> {
    /// What the target's history looks like.
    pub(crate) strategy: Strategy,
    /// What must pass; a proof of trust.
    pub(crate) gates: ApprovedGates,
    /// Environment of gates, whole.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Variables of the project, set on top of it.
    pub(crate) settings_env: BTreeMap<String, String>,
    /// Time a gate may take that names none.
    pub(crate) gate_timeout: Duration,
    /// Time one commit may take; signing can run a program.
    pub(crate) commit_timeout: Duration,
    /// Writes the message of a merge or squashed commit.
    pub(crate) message: WriteMessage<'a>,
    /// Puts what gates need besides the tree into their worktree, such as copied ignored files.
    pub(crate) prepare: Option<PrepareScratch>,
    /// Stops the workers' supervisors, so that they can be released; `None` leaves worktrees and branches.
    pub(crate) stop: Option<StopAll<'a>>,
    /// How often to begin again when the target moves underneath.
    pub(crate) rebuilds: u32,
    /// Most workers whose work is tested together, from 1.
    pub(crate) batch: usize,
    /// How long the gates of a batch run before those of the next one run beside them; `None` is never.
    pub(crate) speculate_after: Option<Duration>,
    /// Set by whoever wants the landing to end: the gate under way is ended and says nothing, and nothing more is begun.
    pub(crate) ends: Arc<AtomicBool>,
}

impl LandOptions<'_> {
    /// Whether somebody wants the landing to end.
    pub(super) fn is_ended(&self) -> bool {
        self.ends.load(Ordering::SeqCst)
    }
}

/// Work whose approval holds.
pub(super) struct Candidate {
    /// The worker.
    pub(super) worker: Worker,
    /// The fence of its attempt.
    pub(super) fence: u64,
    /// The head of its branch.
    pub(super) work: CommitId,
    /// The verdict that lets it land.
    pub(super) approval: Review,
}

/// A commit that may become the target.
pub(super) struct Next {
    /// What it is built on: the target's head, or the commit of the work before it in its batch.
    pub(super) from: CommitId,
    /// The commit.
    pub(super) to: CommitId,
    /// Its tree, as hex.
    pub(super) tree: String,
}

/// A step's answer: go on with a value, or stop with an outcome.
pub(super) type Step<T> = Result<T, Outcome>;

impl Landing<'_> {
    /// Lands workers in the order given, several at once as [`super::batch`] says, and tells what happens through
    /// `events`. The reports are in the order of `workers`, after those of others whose interrupted landings were
    /// finished or could not be.
    ///
    /// Takes turns with other processes, and finishes what a dead one left first. One worker's failure does not stop
    /// the next.
    pub(crate) fn land(
        &self,
        workers: &[WorkerId],
        options: &LandOptions<'_>,
        events: &mut dyn FnMut(LandEvent<'_>),
    ) -> Result<Vec<Report>, LandingError> {
        let turn = self.take_turn_unless(&options.ends, events)?.ok_or(LandingError::Ended)?;
        let repository = turn.marked(self.repository);
        let landing = Landing { repository: &repository, ..*self };
        let Some(mut shared) = Shared::open(&landing)? else { return landing.land_in_turn(workers, options, events) };
        if !shared.take_turn(&options.ends, events)? {
            return Err(LandingError::Ended);
        }
        shared.in_turn(|| {
            let landing = Landing { shared: Some(&shared), ..landing };
            landing.follow_targets(workers)?;
            landing.land_in_turn(workers, options, events)
        })
    }

    /// Brings the targets up to what other nodes landed: those of the workers, and those of interrupted landings.
    fn follow_targets(&self, workers: &[WorkerId]) -> Result<(), LandingError> {
        let Some(shared) = self.shared else { return Ok(()) };
        let mut targets: BTreeSet<_> = self.store.intents()?.into_iter().map(|(_, intent)| intent.target).collect();
        for worker in workers {
            targets.insert(self.worker(worker)?.place.target);
        }
        targets.iter().try_for_each(|target| shared.catch_up(target).map(drop))
    }

    /// The same for a process whose turn it is.
    fn land_in_turn(
        &self,
        workers: &[WorkerId],
        options: &LandOptions<'_>,
        events: &mut dyn FnMut(LandEvent<'_>),
    ) -> Result<Vec<Report>, LandingError> {
        let landing = *self;
        let mut reports = landing.resume_in_turn(options)?;
        reports.iter().for_each(|report| events(LandEvent::Resumed(report)));
        // What was taken back has its turn like any other.
        reports.retain(|report| !matches!(report.outcome, Ok(Outcome::Waiting(_) | Outcome::Returned(_))));
        let is_left = |worker: &&WorkerId| !reports.iter().any(|report| report.worker == **worker);
        let left: Vec<_> = workers.iter().filter(is_left).cloned().collect();
        reports.extend(landing.land_in_batches(&left, options, events)?);
        reports.sort_by_key(|report| workers.iter().position(|worker| *worker == report.worker));
        Ok(reports)
    }

    /// Says what [`Landing::land`] would do, by the same steps, and changes nothing: each worker is judged as if
    /// those before it had landed, objects go to a scratch folder, gates do not run.
    pub(crate) fn plan(&self, workers: &[WorkerId], options: &LandOptions<'_>) -> Result<Vec<Plan>, LandingError> {
        let rehearsal = self.repository.rehearsal()?;
        // What lands in the rehearsal is built on by what comes after it.
        let repository = rehearsal.repository().without_libgit();
        let landing = Landing { repository: &repository, ..*self };
        let mut tips: BTreeMap<String, CommitId> = BTreeMap::new();
        let mut plans = Vec::new();
        let mut landed = BTreeSet::new();
        let mut left: VecDeque<&WorkerId> = workers.iter().collect();
        let mut passed_on = 0;
        while let Some(worker) = left.pop_front() {
            // Not through the view: what is asked of submodules is asked in their own repositories.
            let prospect = match self.judge_after(worker, &landed)? {
                Err(outcome) => {
                    let behind = self.waits_for_landing_of(worker, &outcome)?;
                    // Those that wait for each other would pass the turn on for ever.
                    if passed_on < left.len()
                        && let Some(dependency) = behind
                        && self.is_among(&dependency, left.iter().copied())?
                    {
                        passed_on += 1;
                        left.push_back(worker);
                        continue;
                    }
                    Prospect::of(outcome)
                }
                Ok(candidate) => {
                    let target = candidate.worker.place.target.as_str().to_owned();
                    let from = match tips.get(&target) {
                        Some(tip) => tip.clone(),
                        None => landing.target_head(&candidate)?,
                    };
                    match landing.build(&candidate, from, options)? {
                        Err(outcome) => Prospect::of(outcome),
                        Ok(next) => {
                            let gates = landing.planned_gates(&candidate, &next, options)?;
                            tips.insert(target, next.to);
                            landed.insert(candidate.worker.ticket.clone());
                            passed_on = 0;
                            Prospect::Land { tree: next.tree, gates }
                        }
                    }
                }
            };
            plans.push(Plan { worker: worker.clone(), prospect });
        }
        plans.sort_by_key(|plan| workers.iter().position(|worker| *worker == plan.worker));
        Ok(plans)
    }

    /// Decides whether a worker's work may land, changing nothing.
    pub(super) fn judge(&self, worker: &WorkerId) -> Result<Step<Candidate>, LandingError> {
        self.judge_after(worker, &BTreeSet::new())
    }

    /// The same as if the work of some more tickets had landed.
    fn judge_after(&self, worker: &WorkerId, landed: &BTreeSet<TicketId>) -> Result<Step<Candidate>, LandingError> {
        let worker = self.live_worker(worker)?;
        let ticket = self.ticket_of(&worker)?;
        let work = self.head_of(&worker)?;
        let waiting = |reason, why| Ok(Err(Outcome::Waiting(Waiting { reason, why, files: Vec::new() })));
        if let Some(node) = self.elsewhere(&worker, &ticket) {
            return waiting(WaitingReason::NotApproved, format!("the work on its ticket is node `{node}`'s"));
        }
        if ticket.state != TicketState::Approved {
            return waiting(WaitingReason::NotApproved, format!("the ticket is {}, not approved", ticket.state));
        }
        match self.standing(&worker)? {
            Standing::Approved(approval) => match self.objection_after(&worker, &work, landed)? {
                Some((reason, why)) => waiting(reason, why),
                None => Ok(Ok(Candidate { worker, fence: ticket.fence, work, approval })),
            },
            Standing::Voided(review) => {
                let (then, now) = (review.commit.short(), work.short());
                let why = format!("it was approved at {then} and is at {now} now; it needs a new review");
                waiting(WaitingReason::ApprovalVoided, why)
            }
            Standing::Rejected(review) => {
                waiting(WaitingReason::NotApproved, format!("{} asked for changes", review.by))
            }
            Standing::Unreviewed => {
                waiting(WaitingReason::NotApproved, "nobody approved this worker's work".to_owned())
            }
        }
    }

    /// What a person has to see to before approved work may land.
    pub(super) fn objection(
        &self,
        worker: &Worker,
        work: &CommitId,
    ) -> Result<Option<(WaitingReason, String)>, LandingError> {
        self.objection_after(worker, work, &BTreeSet::new())
    }

    /// The same as if the work of some more tickets had landed.
    fn objection_after(
        &self,
        worker: &Worker,
        work: &CommitId,
        landed: &BTreeSet<TicketId>,
    ) -> Result<Option<(WaitingReason, String)>, LandingError> {
        let place = &worker.place;
        if let Some(why) = self.waits_for_dependency(worker, work, landed)? {
            return Ok(Some((WaitingReason::DependencyOpen, why)));
        }
        let since = self.repository.own_base(place, work)?;
        let stranded = self.repository.stranded_submodules(&place.worktree, &since, work)?;
        if !stranded.is_empty() {
            let paths: Vec<_> = stranded.iter().map(|path| format!("`{}`", path.display())).collect();
            let why = format!(
                "it points to commits of submodules that are in no remote of theirs; push them first: {}",
                paths.join(", ")
            );
            return Ok(Some((WaitingReason::StrandedSubmodule, why)));
        }
        let dropped = self.brought_back(worker, work)?;
        Ok(dropped.first().map(|last| {
            let (target, last) = (&place.target, last.short());
            let what = match dropped.len() {
                1 => format!("a commit that it had, {last}"),
                count => format!("{count} commits that it had, {last} the last of them"),
            };
            let why = format!(
                "`{target}` was rewritten, and landing would bring back {what}; run `git rebase --onto {target} {last}` \
                 in its worktree and approve it again, or put them back on `{target}` yourself"
            );
            (WaitingReason::TargetRewound, why)
        }))
    }

    /// Commits that a person took out of the target and that landing would bring back.
    fn brought_back(&self, worker: &Worker, work: &CommitId) -> Result<Vec<CommitId>, LandingError> {
        let Place { target, base, .. } = &worker.place;
        let Some(head) = self.repository.branch_head(target)? else { return Ok(Vec::new()) };
        let dropped = self.repository.dropped_commits(target, &head, work)?;
        if dropped.is_empty() {
            return Ok(dropped);
        }
        let log = read_log::<EventRecord>(&self.paths.events(&worker.id))?;
        match log.records.iter().any(|record| matches!(record.event, Event::Landed { .. })) {
            // A person took its own landing back, and what it made is its own to land again.
            true => Ok(self.repository.dropped_commits(target, &head, base)?),
            false => Ok(dropped),
        }
    }

    /// Takes an approval back that new commits voided.
    pub(super) fn void(&self, worker: &WorkerId, outcome: &Outcome) -> Result<(), LandingError> {
        if let Outcome::Waiting(Waiting { reason: WaitingReason::ApprovalVoided, .. }) = outcome {
            let worker = self.worker(worker)?;
            let fence = self.ticket_of(&worker)?.fence;
            self.queue.settle(&worker.ticket, fence, Settlement::VoidApproval)?;
        }
        Ok(())
    }

    /// Where the target points.
    pub(super) fn target_head(&self, candidate: &Candidate) -> Result<CommitId, LandingError> {
        let target = &candidate.worker.place.target;
        self.repository.branch_head(target)?.ok_or_else(|| LandingError::NoTarget(target.clone()))
    }

    /// Builds what `from` would become.
    pub(super) fn build(
        &self,
        candidate: &Candidate,
        from: CommitId,
        options: &LandOptions<'_>,
    ) -> Result<Step<Next>, LandingError> {
        let message = self.message(candidate, options)?;
        let commit = Commit { message: &message, timeout: options.commit_timeout };
        let repository: &Repository = self.repository;
        match build_on(repository, options.strategy, &from, (&candidate.worker.place, &candidate.work), &commit)? {
            Built::New { commit: to, tree } => Ok(Ok(Next { from, to, tree })),
            // The target has it already, by whatever way: landing then is writing that down.
            Built::Nothing => {
                let tree = repository.tree_of(&from)?;
                Ok(Ok(Next { to: from.clone(), from, tree }))
            }
            Built::Behind => Ok(Err(Outcome::Returned(behind(candidate, from)))),
            Built::Conflict { files, messages, commit } => {
                let worker = &candidate.worker;
                let conflict = evidence::Conflict { files: &files, messages: &messages, commit: commit.as_ref() };
                let text = evidence::conflict_text(repository, worker, &candidate.work, &from, &conflict)?;
                let why = match files.len() {
                    0 => messages.first().cloned().unwrap_or_default(),
                    1 => format!("`{}` conflicts with `{}`", files[0].path, worker.place.target),
                    count => format!("{count} files conflict with `{}`", worker.place.target),
                };
                Ok(Err(Outcome::Returned(Returned {
                    reason: ReturnReason::Conflict,
                    why,
                    files,
                    evidence: text,
                    gates: Vec::new(),
                    onto: from,
                    fence: candidate.fence,
                })))
            }
        }
    }

    /// The message of a new commit as the person's hooks want it; empty where none is made.
    fn message(&self, candidate: &Candidate, options: &LandOptions<'_>) -> Result<String, LandingError> {
        let source = match options.strategy {
            Strategy::Merge => "merge",
            Strategy::Squash => "squash",
            Strategy::Rebase | Strategy::FastForward => return Ok(String::new()),
        };
        let message = (options.message)(&candidate.worker, options.strategy).map_err(LandingError::Message)?;
        let hooked = self.repository.hooked_message(&message, source, options.commit_timeout)?;
        hooked.map_err(|refused| {
            let said = if refused.output.is_empty() { "it said nothing" } else { &refused.output };
            LandingError::Message(format!("hook {} refused it: {said}", refused.hook))
        })
    }

    /// The gates' bench for a commit.
    fn bench<'b>(
        &'b self,
        candidate: &Candidate,
        next: &'b Next,
        onto: &CommitId,
        options: &'b LandOptions<'_>,
    ) -> Bench<'b> {
        Bench {
            paths: self.paths,
            tree: &next.tree,
            environment: &options.environment,
            settings_env: &options.settings_env,
            facts: gate_facts(self.repository, &candidate.worker, &next.to, onto),
            timeout: options.gate_timeout,
            token: uuid::Uuid::new_v4().to_string(),
            is_cancelled: Some(&options.ends),
        }
    }

    /// The gates that would run on a commit.
    fn planned_gates(
        &self,
        candidate: &Candidate,
        next: &Next,
        options: &LandOptions<'_>,
    ) -> Result<Vec<PlannedGate>, LandingError> {
        let bench = self.bench(candidate, next, &next.from, options);
        let plan = options.gates.gates().iter().map(|gate| {
            let is_remembered = bench.remembered(gate)?.is_some();
            Ok(PlannedGate { name: gate.name.clone(), is_remembered })
        });
        plan.collect()
    }

    /// Runs the gates on exactly a commit that stands on the target's head `onto`; stops at the first red one, which
    /// is then the last report. With `insists` a red gate is run once more before it counts. `last` is the worktree of the
    /// gates before, which is used again where it can be made what a new one would be.
    pub(super) fn test(
        &self,
        (candidate, next): (&Candidate, &Next),
        onto: &CommitId,
        insists: bool,
        (options, last): (&LandOptions<'_>, &mut Option<Scratch>),
        events: &mut dyn FnMut(LandEvent<'_>),
    ) -> Result<Vec<GateReport>, LandingError> {
        let worker = &candidate.worker;
        let bench = self.bench(candidate, next, onto, options);
        let mut scratch = None;
        let mut reports = Vec::new();
        for gate in options.gates.gates() {
            let report = if let Some(report) = bench.remembered(gate)? {
                report
            } else {
                if scratch.is_none() {
                    scratch = Some(self.scratch(worker, next, options, last.take())?);
                }
                let scratch = scratch.as_mut().expect("it was made above");
                events(LandEvent::GateStarted(&worker.id, &gate.name));
                bench.run(gate, scratch, if insists { gate.retry.max(1) } else { gate.retry })?
            };
            events(LandEvent::GateEnded(&worker.id, &report));
            let has_passed = report.passed;
            reports.push(report);
            if !has_passed {
                break;
            }
        }
        crash_point!("gates passed");
        *last = scratch.or(last.take());
        Ok(reports)
    }

    /// A scratch worktree of a commit, beside the worker's own.
    fn scratch(
        &self,
        worker: &Worker,
        next: &Next,
        options: &LandOptions<'_>,
        last: Option<Scratch>,
    ) -> Result<Scratch, LandingError> {
        let own = &worker.place.worktree;
        let parent = own.parent().ok_or_else(|| LandingError::BadPlace(own.clone()))?;
        // What was put into it besides its files would be that of another commit.
        let last = last.filter(|_| options.prepare.is_none());
        if let Some(scratch) = last.and_then(|last| last.moved_to(&next.to, parent)) {
            return Ok(scratch);
        }
        let scratch = self.repository.scratch_worktree(&next.to, parent)?;
        if let Some(prepare) = &options.prepare {
            prepare(scratch.path()).map_err(LandingError::Prepare)?;
        }
        Ok(Scratch::new(scratch))
    }
}

/// Builds what `from` would become with `work`, by a strategy. Of work that stands on commits of a dependency which
/// `from` has as others, only its own commits come along.
pub(super) fn build_on(
    repository: &Repository,
    strategy: Strategy,
    from: &CommitId,
    (place, work): (&Place, &CommitId),
    commit: &Commit<'_>,
) -> Result<Built, LandingError> {
    let replayed = match repository.stack_base(place, from, work)? {
        // A fast-forward takes the branch as it is; that it stands elsewhere is for its agent.
        Some(since) if strategy != Strategy::FastForward => {
            match repository.build_replay(from, &since, work, commit.timeout)? {
                Built::New { commit, .. } => Some(commit),
                other => return Ok(other),
            }
        }
        _ => None,
    };
    let work = replayed.as_ref().unwrap_or(work);
    Ok(match strategy {
        Strategy::Merge => repository.build_merge(from, work, commit)?,
        Strategy::Squash => repository.build_squash(from, work, commit)?,
        Strategy::Rebase => repository.build_rebase(from, work, commit.timeout)?,
        Strategy::FastForward => repository.build_fast_forward(from, work)?,
    })
}

/// What a gate is told about the landing that it decides.
pub(super) fn gate_facts(
    repository: &Repository,
    worker: &Worker,
    commit: &CommitId,
    onto: &CommitId,
) -> Vec<(String, String)> {
    let facts = [
        ("SWARM_WORKER", worker.id.as_str()),
        ("SWARM_TICKET", worker.ticket.as_str()),
        ("SWARM_BRANCH", worker.place.branch.as_str()),
        ("SWARM_TARGET", worker.place.target.as_str()),
        ("SWARM_TARGET_COMMIT", onto.as_str()),
        ("SWARM_COMMIT", commit.as_str()),
    ];
    let turn = repository.variable(MARKER).map(|token| (MARKER, token));
    facts.into_iter().chain(turn).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// What to say of work that stands beside the target where only a fast-forward may land.
fn behind(candidate: &Candidate, onto: CommitId) -> Returned {
    let target = &candidate.worker.place.target;
    let why = format!("`{target}` went on since its branch left it, and only a fast-forward may land");
    let evidence = format!("{why}; `{target}` is at {} now", onto.short());
    let (files, gates) = (Vec::new(), Vec::new());
    Returned { reason: ReturnReason::Behind, why, files, evidence, gates, onto, fence: candidate.fence }
}

/// What to say of work with a red gate, which is the last report.
pub(super) fn red(candidate: &Candidate, next: &Next, gates: Vec<GateReport>) -> Returned {
    let (why, evidence) = match gates.last() {
        Some(gate) => (evidence::gate_sentence(gate), evidence::gate_text(gate, &candidate.worker, &next.from)),
        None => (String::new(), String::new()),
    };
    Returned {
        reason: ReturnReason::GateFailed,
        why,
        files: Vec::new(),
        evidence,
        gates,
        onto: next.from.clone(),
        fence: candidate.fence,
    }
}
