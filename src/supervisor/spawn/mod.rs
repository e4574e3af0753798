//! The spawn transaction: claim, worktree, set-up, session, agent. Every step is written down before it has effects,
//! a failure undoes the steps before it, and what a dead spawner left is undone by the next one.

mod again;
mod briefing;
mod claim;
mod session;
mod undo;

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::finish::run_command;
use super::handover::RuntimePaths;
use super::ledger::Ledger;
use super::{MARKER, SupervisorError};
use crate::config::Environment;
use crate::files::{self, FileLock};
use crate::git::{NewWorktree, Repository};
use crate::model::agent::Agent;
use crate::model::event::Event;
use crate::model::node::Made;
use crate::model::settings::{Settings, SetupCommand};
use crate::model::ticket::{Ticket, TicketState, start_of};
use crate::model::worker::{Attempt, Outcome, Phase, Place, SpawnStep, StackedOn, Worker};
use crate::model::{BranchName, CommitId, RunId, TicketId, Time, WorkerId, duration_text, error_text};
use crate::process;
use crate::queue::{Claim, Queue};
use crate::store::{StatePaths, Store};
use crate::terminal::Tmux;

use claim::Renewing;

pub(crate) use again::ReservedAgain;
pub(crate) use claim::SeenLease;

/// How long a spawn lock may be held by somebody who only looks at it.
const LOCK_WITHIN: Duration = Duration::from_millis(200);
/// Port blocks tried before giving up because somebody else listens in each.
const PORT_TRIES: usize = 50;

/// Set-up commands that the caller found trusted (or trusted now); only these run.
#[derive(Debug, Clone, Default)]
pub(crate) struct ApprovedSetup(Vec<SetupCommand>);

impl ApprovedSetup {
    /// All commands, when `is_trusted` holds for each; else the ones it does not hold for.
    pub(crate) fn check(
        commands: &[SetupCommand],
        is_trusted: impl Fn(&SetupCommand) -> bool,
    ) -> Result<Self, Vec<SetupCommand>> {
        let untrusted: Vec<_> = commands.iter().filter(|command| !is_trusted(command)).cloned().collect();
        if untrusted.is_empty() { Ok(Self(commands.to_vec())) } else { Err(untrusted) }
    }
}

/// What every spawn of one command has in common.
pub(crate) struct Spawner {
    /// The repository.
    pub(crate) repository: Repository,
    /// Where state lies.
    pub(crate) paths: StatePaths,
    /// The store.
    pub(crate) store: Arc<Store>,
    /// The queue.
    pub(crate) queue: Arc<dyn Queue>,
    /// The resolved settings.
    pub(crate) settings: Settings,
    /// This process's environment.
    pub(crate) environment: Environment,
    /// Template overrides of the repository, by file.
    pub(crate) templates: Vec<(PathBuf, String)>,
    /// The tmux server; `None` runs detached.
    pub(crate) tmux: Option<Tmux>,
    /// The `swarm` program.
    pub(crate) program: PathBuf,
    /// This command.
    pub(crate) run: RunId,
    /// Set-up commands that may run.
    pub(crate) setup: ApprovedSetup,
}

/// A worker to start for a ticket.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    /// The ticket.
    pub(crate) ticket: Ticket,
    /// Its agent.
    pub(crate) agent: Agent,
    /// Where everything will be.
    pub(crate) plan: Plan,
    /// Without a person: print mode.
    pub(crate) headless: bool,
    /// Whether the ticket is published where it is not queued as it is; else only what is queued is taken.
    pub(crate) publishes: bool,
    /// The lease of a node that is gone, whose ticket is taken over; else it is claimed.
    pub(crate) takes_over: Option<SeenLease>,
    /// What another node left of the work on it.
    pub(crate) inherited: Option<Inherited>,
}

impl Start {
    /// What another node left of the work, where that is here.
    fn left(&self) -> Option<&Made> {
        self.inherited.as_ref()?.left.as_ref()
    }

    /// The same where it is finished, so that no agent is started for it.
    pub(crate) fn finished(&self) -> Option<&Made> {
        self.left().filter(|left| left.is_finished)
    }
}

/// Work on a ticket that another node began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inherited {
    /// The node.
    pub(crate) node: String,
    /// What is here of it; `None` where that is nothing.
    pub(crate) left: Option<Made>,
}

/// Where a new worker will be; made without any effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The worker.
    pub(crate) worker: WorkerId,
    /// Its branch.
    pub(crate) branch: BranchName,
    /// Whether the branch is there already and is used as it is.
    pub(crate) use_existing_branch: bool,
    /// Where it starts.
    pub(crate) base: CommitId,
    /// Where it lands.
    pub(crate) target: BranchName,
    /// Its worktree.
    pub(crate) worktree: PathBuf,
    /// Whose branch it starts from, where that is a dependency's.
    pub(crate) stacked_on: Option<StackedOn>,
}

/// A worker to start again in its worktree.
#[derive(Debug, Clone)]
pub(crate) struct Continue {
    /// The worker as it is.
    pub(crate) worker: Worker,
    /// The ticket as published.
    pub(crate) ticket: Ticket,
    /// Its agent.
    pub(crate) agent: Agent,
    /// What to say to it; `None` is the ticket's own prompt.
    pub(crate) prompt: Option<String>,
    /// Go on in the agent's own conversation where it has one.
    pub(crate) in_session: bool,
    /// Whether this counts as a new attempt of the ticket.
    pub(crate) counts_attempt: bool,
    /// Work was sent back: finishing needs a commit beyond this one.
    pub(crate) returned_at: Option<CommitId>,
    /// Without a person.
    pub(crate) headless: bool,
    /// If given, only a ticket that is queued or in one of these states: whoever decided this did not mean any other.
    pub(crate) from: Option<&'static [TicketState]>,
}

/// A worker whose ticket is claimed and whose row is written; the spawn may begin.
#[derive(Debug)]
pub(crate) struct Reserved {
    /// The worker.
    worker: Worker,
    /// Keeps other spawns of the worker out.
    _lock: FileLock,
    /// Keeps its claim.
    _renewing: Option<Renewing>,
}

impl Reserved {
    /// The fence of its lease.
    pub(crate) fn fence(&self) -> u64 {
        self.worker.attempt.fence
    }
}

/// A worker whose agent runs, or whose work another node had finished.
#[derive(Debug, Clone)]
pub(crate) struct Spawned {
    /// The worker.
    pub(crate) worker: Worker,
    /// The agent's pid; `None` where nothing is left to do for one.
    pub(crate) pid: Option<u32>,
    /// Whether it took over a branch that was there before it.
    pub(crate) took_branch: bool,
}

impl Spawner {
    /// Works out where a worker for `ticket` will be. `base` overrides the ticket's. Changes nothing.
    pub(crate) fn plan(&self, ticket: &Ticket, base: Option<&str>) -> Result<Plan, SupervisorError> {
        let worker = WorkerId::of(&ticket.id, 1);
        let target = match ticket.target.as_ref() {
            Some(name) => name.parse().map_err(crate::git::GitError::from)?,
            None => match &self.settings.target {
                Some(target) => target.clone(),
                None => self.repository.default_target()?,
            },
        };
        let branch: BranchName =
            self.settings.branch.replace("{worker}", worker.as_str()).parse().map_err(crate::git::GitError::from)?;
        let existing = self.repository.branch_head(&branch)?;
        let named = base.or(ticket.base.as_deref());
        let stacked_on = if named.is_some() { None } else { self.start_of(ticket, &target)? };
        let from = match &stacked_on {
            Some(on) => on.branch.as_str(),
            None => named.unwrap_or(target.as_str()),
        };
        let from = self.repository.resolve(from)?.ok_or_else(|| SupervisorError::NoBase { base: from.to_owned() })?;
        let base = match &existing {
            // What is on an existing branch beyond the target is the worker's own work.
            Some(head) => self.repository.merge_base(head, &from)?.unwrap_or_else(|| from.clone()),
            None => from.clone(),
        };
        // A branch that was there before may start elsewhere.
        let stacked_on = stacked_on.filter(|_| base == from);
        let worktree = self.worktree_path(&worker);
        Ok(Plan { worker, branch, use_existing_branch: existing.is_some(), base, target, worktree, stacked_on })
    }

    /// The dependency whose branch a ticket starts from; `None` where it starts from its target.
    fn start_of(&self, ticket: &Ticket, target: &BranchName) -> Result<Option<StackedOn>, SupervisorError> {
        let state_of = |id: &TicketId| self.queue.ticket(id).map(|known| known.map(|known| known.state));
        let needs = ticket.needs(state_of)?;
        let Some(need) = start_of(&needs) else { return Ok(None) };
        let dependency = &need.dependency.ticket;
        let refuse =
            |why: String| SupervisorError::NoStart { ticket: ticket.id.clone(), dependency: dependency.clone(), why };
        let mut workers = self.store.workers()?;
        workers.retain(|worker| worker.ticket == *dependency && !matches!(worker.phase, Phase::Released { .. }));
        let Some(worker) = workers.first() else {
            return Err(refuse("it has no worker any more".to_owned()));
        };
        let place = &worker.place;
        if place.target != *target {
            return Err(refuse(format!("that lands on `{}`, and this one on `{target}`", place.target)));
        }
        Ok(Some(StackedOn { ticket: dependency.clone(), branch: place.branch.clone() }))
    }

    /// The path that the `worktrees` setting gives a worker.
    fn worktree_path(&self, worker: &WorkerId) -> PathBuf {
        let name = self.repository.name();
        let path = self.settings.worktrees.replace("{repo}", &name).replace("{worker}", worker.as_str());
        let joined = self.repository.anchor().join(path);
        normalize(&joined)
    }

    /// Takes ticket and worker for one spawn: short, so that a caller can hold a lock over its own checks and this.
    ///
    /// # Errors
    /// [`SupervisorError::Spawning`] when another command is at it, [`SupervisorError::Superseded`] when one was since
    /// the plan was made. Nothing is left of a reservation that failed.
    pub(crate) fn reserve(&self, start: &mut Start) -> Result<Reserved, SupervisorError> {
        let id = &start.plan.worker;
        let lock = self.lock_spawn(id)?;
        if self.undo_dead_spawn(id)? && self.repository.branch_head(&start.plan.branch)?.is_none() {
            // The plan had found the branch of the spawn that is undone now.
            start.plan.use_existing_branch = false;
        }
        let earlier = self.store.worker(id)?;
        if earlier.as_ref().is_some_and(|worker| !matches!(worker.phase, Phase::Released { .. })) {
            return Err(SupervisorError::Superseded { worker: id.clone() });
        }
        let claim = match start.takes_over {
            Some(seen) => self.take_over(&start.ticket.id, seen)?,
            None => self.claim(&start.ticket, start.publishes)?,
        };
        match self.begin(start, &claim, earlier) {
            Ok(worker) => {
                let _renewing = self.keep_claim(&worker);
                Ok(Reserved { worker, _lock: lock, _renewing })
            }
            Err(error) => {
                self.give_back(&start.ticket.id, claim.fence, &self.run).ok();
                Err(error)
            }
        }
    }

    /// Starts a reserved worker. `progress` hears of each step before it is done.
    ///
    /// # Errors
    /// Whatever a step says; everything before it is undone then.
    pub(crate) fn spawn(
        &self,
        start: &Start,
        reserved: Reserved,
        progress: &dyn Fn(SpawnStep),
    ) -> Result<Spawned, SupervisorError> {
        let Reserved { worker, _lock, _renewing } = reserved;
        let reserved = worker.clone();
        let ledger = Ledger::new(self.store.clone(), self.queue.clone(), &self.paths, &worker)?;
        let spawned = self.prepare(start, &ledger, worker, progress).inspect_err(|error| {
            // The first error is the one to tell; what cannot be undone stays written down for the next spawn.
            ledger.log(Event::SpawnUndone { reason: error.to_string() }).ok();
            if let Err(error) = self.undo_own(&reserved) {
                let text = format!("the spawn could not be undone: {}", error_text(&error));
                ledger.log(Event::Warning { text }).ok();
            }
        })?;
        Ok(Spawned { took_branch: start.plan.use_existing_branch, ..spawned })
    }

    /// The lock that one spawn of a worker holds from its first effect to its end.
    fn lock_spawn(&self, id: &WorkerId) -> Result<FileLock, SupervisorError> {
        let lock = FileLock::take_within(&self.paths.spawn_lock(id), LOCK_WITHIN)?;
        lock.ok_or_else(|| SupervisorError::Spawning { worker: id.clone() })
    }

    /// Writes the worker's first row.
    fn begin(&self, start: &Start, claim: &Claim, earlier: Option<Worker>) -> Result<Worker, SupervisorError> {
        let plan = &start.plan;
        let first_port = self.take_ports(&plan.worker)?;
        let worker = Worker {
            id: plan.worker.clone(),
            ticket: start.ticket.id.clone(),
            title: start.ticket.title.clone(),
            agent: start.agent.name.clone(),
            runtime: start.agent.runtime,
            place: Place {
                worktree: plan.worktree.clone(),
                branch: plan.branch.clone(),
                base: plan.base.clone(),
                target: plan.target.clone(),
                first_port,
                port_count: self.settings.ports.size,
                made_branch: !plan.use_existing_branch,
                made_paths: Vec::new(),
                stacked_on: plan.stacked_on.clone(),
            },
            attempt: Attempt {
                number: earlier.as_ref().map_or(1, |worker| worker.attempt.number + 1),
                fence: claim.fence,
                run: self.run.clone(),
                session_id: None,
                started_at: Time::now(),
                headless: start.headless,
                tmux: None,
            },
            created_at: earlier.as_ref().map_or_else(Time::now, |worker| worker.created_at),
            phase: self.preparing(SpawnStep::Claim, None, earlier)?,
        };
        files::make_folder(&self.paths.worker_dir(&worker.id))?;
        // The tool log exists from spawn, so that a reader never mistakes "not yet" for "not there".
        drop(files::open_log(&self.paths.tool_calls(&worker.id))?);
        self.store.put_worker(&worker)?;
        Ok(worker)
    }

    /// The phase of a spawn by this process.
    fn preparing(
        &self,
        step: SpawnStep,
        before: Option<Outcome>,
        earlier: Option<Worker>,
    ) -> Result<Phase, SupervisorError> {
        let earlier = earlier.map(Box::new);
        Ok(Phase::Preparing { step, spawner: process::own_identity()?, since: Time::now(), before, earlier })
    }

    /// A port block in which nobody listens.
    fn take_ports(&self, worker: &WorkerId) -> Result<u16, SupervisorError> {
        let ports = self.settings.ports;
        let mut refused = Vec::new();
        loop {
            let first = self.store.take_ports(worker, ports, &refused)?;
            let is_free = (first..first + ports.size).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
            if is_free || refused.len() >= PORT_TRIES {
                return Ok(first);
            }
            refused.push(first);
        }
    }

    /// The steps from the worktree on.
    fn prepare(
        &self,
        start: &Start,
        ledger: &Ledger,
        mut worker: Worker,
        progress: &dyn Fn(SpawnStep),
    ) -> Result<Spawned, SupervisorError> {
        let enter = |step| self.enter(ledger, step, progress);
        enter(SpawnStep::Worktree)?;
        let plan = &start.plan;
        let mut new = new_worktree(plan);
        if let Some(left) = start.left() {
            new.base = left.head.clone();
        }
        let added = match self.repository.add_worktree(&new) {
            Ok(added) => added,
            Err(error) => {
                // It left nothing, and whatever is at that place is somebody else's: there is no worktree to undo.
                set_step(ledger, SpawnStep::Claim)?;
                return Err(error.into());
            }
        };
        if let Some(text) = added.hook_problem {
            ledger.log(Event::Warning { text: format!("the post-checkout hook failed: {text}") })?;
        }
        worker.place.worktree = added.path;
        self.lay_out_inherited(start, &worker, ledger)?;
        enter(SpawnStep::Setup)?;
        let env = self.environment_of(&start.agent, &worker)?;
        worker.place.made_paths = self.set_up(&worker, &env, ledger)?;
        let place = worker.place.clone();
        ledger.update(|row| row.place = place)?;
        if let Some(Made { head, .. }) = start.finished() {
            return self.hand_in(ledger, &worker, head);
        }
        let mut prompt = self.prompt(&start.ticket, &worker)?;
        if let (Some(inherited), Some(_)) = (&start.inherited, start.left()) {
            let node = &inherited.node;
            prompt.push_str(&format!("\n\nWork on this began on node `{node}`; what it left is in this worktree.\n"));
            if let Some(operation) = self.repository.operation_in(&worker.place.worktree)? {
                let what = operation.as_str();
                prompt.push_str(&format!(
                    "A {what} is unfinished in it: resolve what `git status` names, and conclude it.\n"
                ));
            }
        }
        let handover = self.handover(&worker, &start.ticket, &start.agent, env, prompt)?;
        self.start_supervisor(worker, handover, &enter)
    }

    /// Puts into a new worktree what another node had not committed, and writes down where its work comes from.
    fn lay_out_inherited(&self, start: &Start, worker: &Worker, ledger: &Ledger) -> Result<(), SupervisorError> {
        let Some(Inherited { node, left }) = &start.inherited else { return Ok(()) };
        let Some(Made { head, snapshot, .. }) = left else {
            let text = format!("node `{node}` left nothing of its work on this: it starts from its target");
            return ledger.log(Event::Warning { text });
        };
        if let Some(snapshot) = snapshot {
            self.repository.lay_out_work(&worker.place.worktree, head, snapshot)?;
        }
        let commit = snapshot.as_ref().unwrap_or(head).clone();
        ledger.log(Event::TakenOver { node: node.clone(), commit })
    }

    /// Hands work in that another node had finished: it is judged as if it had been made here.
    fn hand_in(&self, ledger: &Ledger, worker: &Worker, head: &CommitId) -> Result<Spawned, SupervisorError> {
        let outcome = Outcome::Finished { commit: head.clone() };
        ledger.complete(worker.attempt.fence, &outcome)?;
        ledger.end(&outcome)?;
        let worker = self.store.worker(&worker.id)?.ok_or(SupervisorError::NoRow)?;
        Ok(Spawned { worker, pid: None, took_branch: false })
    }

    /// Writes a step down before its effects.
    fn enter(&self, ledger: &Ledger, step: SpawnStep, progress: &dyn Fn(SpawnStep)) -> Result<(), SupervisorError> {
        progress(step);
        ledger.log(Event::SpawnStep { step })?;
        set_step(ledger, step)
    }

    /// Copies ignored files and runs the set-up commands; the paths that this made.
    fn set_up(
        &self,
        worker: &Worker,
        env: &[(String, String)],
        ledger: &Ledger,
    ) -> Result<Vec<PathBuf>, SupervisorError> {
        let worktree = &worker.place.worktree;
        let mut made = Vec::new();
        if let Some(main) = self.repository.main_worktree() {
            let copied = self.repository.copy_ignored(main, worktree, &self.settings.copy)?;
            for (path, why) in copied.skipped {
                ledger.log(Event::Warning { text: format!("`{}` was not copied: {why}", path.display()) })?;
            }
            made = copied.made;
        }
        // What another node left uncommitted is work, and none of the set-up's.
        let before = if self.setup.0.is_empty() { Vec::new() } else { self.repository.untracked_files(worktree)? };
        for command in &self.setup.0 {
            let timeout = command.timeout.unwrap_or(self.settings.limits.setup_timeout);
            let result = run_command(&command.run, worktree, env, timeout)?;
            if !result.passed {
                let how = match result.exit_code {
                    Some(code) => format!("failed with exit code {code}"),
                    None if result.timed_out => format!("took longer than {}", duration_text(timeout)),
                    None => "was ended by a signal".to_owned(),
                };
                return Err(SupervisorError::Setup { run: command.run.clone(), how, output: result.output_tail });
            }
        }
        if !self.setup.0.is_empty() {
            made.extend(match before.is_empty() {
                true => self.repository.untracked(worktree)?,
                false => {
                    let mut files = self.repository.untracked_files(worktree)?;
                    files.retain(|file| !before.contains(file));
                    files
                }
            });
            made.sort();
            made.dedup();
        }
        Ok(made)
    }
}

/// The step under way, in the worker's row.
fn set_step(ledger: &Ledger, now: SpawnStep) -> Result<(), SupervisorError> {
    ledger.update(|worker| {
        if let Phase::Preparing { step, since, .. } = &mut worker.phase {
            (*step, *since) = (now, Time::now());
        }
    })
}

/// What git is asked for.
fn new_worktree(plan: &Plan) -> NewWorktree {
    NewWorktree {
        path: plan.worktree.clone(),
        branch: plan.branch.clone(),
        base: plan.base.clone(),
        use_existing_branch: plan.use_existing_branch,
    }
}

/// Resolves `.` and `..` in a path by its text; the folders need not exist.
fn normalize(path: &std::path::Path) -> PathBuf {
    use std::path::Component;
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}
