//! The spawn transaction: claim, worktree, set-up, session, agent. Every step is written down before it has effects,
//! a failure undoes the steps before it, and what a dead spawner left is undone by the next one.

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::finish::run_command;
use super::handover::{FirstWord, Handover, RuntimePaths};
use super::ledger::{Ledger, node_name};
use super::{LEASE, MARKER, SupervisorError};
use crate::agent::AgentError;
use crate::config::{Environment, Template, Templates, agent_environment};
use crate::files::{self, FileLock};
use crate::git::{NewWorktree, Repository};
use crate::model::agent::Agent;
use crate::model::briefing::Briefing;
use crate::model::event::Event;
use crate::model::settings::{Settings, SetupCommand};
use crate::model::ticket::Ticket;
use crate::model::worker::{Attempt, Outcome, Phase, Place, SpawnStep, TmuxSession, Worker};
use crate::model::{BranchName, CommitId, RunId, Time, WorkerId};
use crate::process;
use crate::queue::{Claim, ClaimRequest, NewTicket, Queue, Reopen};
use crate::store::{StatePaths, Store};
use crate::terminal::{NewTmuxSession, Size, Tmux, TmuxError, session_name};

/// How long a supervisor may take to say that its agent runs.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// How often a silent supervisor is looked at while its first word is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(200);
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
}

/// A worker whose agent runs.
#[derive(Debug, Clone)]
pub(crate) struct Spawned {
    /// The worker.
    pub(crate) worker: Worker,
    /// The agent's pid.
    pub(crate) pid: u32,
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
        let from = base.or(ticket.base.as_deref()).unwrap_or(target.as_str());
        let from = self.repository.resolve(from)?.ok_or_else(|| SupervisorError::NoBase { base: from.to_owned() })?;
        let base = match &existing {
            // What is on an existing branch beyond the target is the worker's own work.
            Some(head) => self.repository.merge_base(head, &from)?.unwrap_or(from),
            None => from,
        };
        let worktree = self.worktree_path(&worker);
        Ok(Plan { worker, branch, use_existing_branch: existing.is_some(), base, target, worktree })
    }

    /// The path that the `worktrees` setting gives a worker.
    fn worktree_path(&self, worker: &WorkerId) -> PathBuf {
        let name = self.repository.name();
        let path = self.settings.worktrees.replace("{repo}", &name).replace("{worker}", worker.as_str());
        let joined = self.repository.anchor().join(path);
        normalize(&joined)
    }

    /// Starts a worker. `progress` hears of each step before it is done.
    ///
    /// # Errors
    /// Whatever a step says; everything before it is undone then.
    pub(crate) fn spawn(&self, start: &Start, progress: &dyn Fn(SpawnStep)) -> Result<Spawned, SupervisorError> {
        self.undo_interrupted(&start.plan.worker)?;
        progress(SpawnStep::Claim);
        let claim = self.claim(&start.ticket)?;
        let begun = self.begin(start, &claim).and_then(|worker| {
            let ledger = Ledger::new(self.store.clone(), self.queue.clone(), &self.paths, &worker)?;
            match self.prepare(start, &ledger, worker, progress) {
                Ok(spawned) => Ok(spawned),
                Err(error) => {
                    ledger.log(Event::SpawnUndone { reason: error.to_string() })?;
                    Err(error)
                }
            }
        });
        begun.inspect_err(|_| {
            // The first error is the one to tell; what cannot be undone stays written down for the next spawn.
            self.undo_interrupted_by_us(&start.plan.worker, claim.fence).ok();
        })
    }

    /// Publishes the ticket and claims it.
    fn claim(&self, ticket: &Ticket) -> Result<Claim, SupervisorError> {
        let known = self.queue.ticket(&ticket.id)?;
        let dedupe_key = format!("{}/{}", ticket.id, self.run.as_str());
        if known.is_none_or(|known| known.ticket != *ticket || known.state.is_ended()) {
            self.queue.publish(&NewTicket { ticket: ticket.clone(), dedupe_key })?;
        } else if matches!(self.queue.ticket(&ticket.id)?, Some(known) if known.state == crate::model::ticket::TicketState::Failed)
        {
            self.queue.requeue(&ticket.id)?;
        }
        let request = ClaimRequest {
            node: node_name(),
            capabilities: ticket.capabilities.clone(),
            limit: 1,
            only: Some(vec![ticket.id.clone()]),
            lease: LEASE,
        };
        match self.queue.claim(&request)?.pop() {
            Some(claim) => Ok(claim),
            None => {
                let state = self.queue.ticket(&ticket.id)?.map(|ticket| ticket.state);
                let state = state.unwrap_or(crate::model::ticket::TicketState::Open);
                Err(SupervisorError::NotClaimable { ticket: ticket.id.clone(), state })
            }
        }
    }

    /// Writes the worker's first row.
    fn begin(&self, start: &Start, claim: &Claim) -> Result<Worker, SupervisorError> {
        let plan = &start.plan;
        let first_port = self.take_ports(&plan.worker)?;
        let earlier = self.store.worker(&plan.worker)?;
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
            phase: self.preparing(SpawnStep::Claim, None)?,
            created_at: earlier.map_or_else(Time::now, |worker| worker.created_at),
        };
        files::make_folder(&self.paths.worker_dir(&worker.id))?;
        // The tool log exists from spawn, so that a reader never mistakes "not yet" for "not there".
        drop(files::open_log(&self.paths.tool_calls(&worker.id))?);
        self.store.put_worker(&worker)?;
        Ok(worker)
    }

    /// The phase of a spawn by this process.
    fn preparing(&self, step: SpawnStep, before: Option<Outcome>) -> Result<Phase, SupervisorError> {
        Ok(Phase::Preparing { step, spawner: process::own_identity()?, since: Time::now(), before })
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
        let enter = |step| self.enter(ledger, step, None, progress);
        enter(SpawnStep::Worktree)?;
        let plan = &start.plan;
        let added = self.repository.add_worktree(&new_worktree(plan))?;
        if let Some(text) = added.hook_problem {
            ledger.log(Event::Warning { text: format!("the post-checkout hook failed: {text}") })?;
        }
        worker.place.worktree = added.path;
        enter(SpawnStep::Setup)?;
        let env = self.environment_of(&start.agent, &worker)?;
        worker.place.made_paths = self.set_up(&worker, &env, ledger)?;
        let place = worker.place.clone();
        ledger.update(|row| row.place = place)?;
        let prompt = self.prompt(&start.ticket, &worker)?;
        let handover = self.handover(&worker, &start.ticket, &start.agent, env, prompt)?;
        self.start_supervisor(worker, handover, &enter)
    }

    /// Writes a step down before its effects.
    fn enter(
        &self,
        ledger: &Ledger,
        step: SpawnStep,
        before: Option<Outcome>,
        progress: &dyn Fn(SpawnStep),
    ) -> Result<(), SupervisorError> {
        progress(step);
        let phase = self.preparing(step, before)?;
        ledger.log(Event::SpawnStep { step })?;
        ledger.update(|worker| worker.phase = phase)
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
        for command in &self.setup.0 {
            let timeout = command.timeout.unwrap_or(self.settings.limits.setup_timeout);
            let result = run_command(&command.run, worktree, env, timeout)?;
            if !result.passed {
                let code = result.exit_code.unwrap_or(-1);
                return Err(SupervisorError::Setup { run: command.run.clone(), code, output: result.output_tail });
            }
        }
        if !self.setup.0.is_empty() {
            made.extend(self.repository.untracked(worktree)?);
            made.sort();
            made.dedup();
        }
        Ok(made)
    }

    /// The allow-listed environment with what tells the agent where it is.
    fn environment_of(&self, agent: &Agent, worker: &Worker) -> Result<Vec<(String, String)>, SupervisorError> {
        let place = &worker.place;
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let runtime = RuntimePaths::new(self.repository.common_dir(), &worker.id)?;
        let own = [
            ("SWARM_SOCKET", text(runtime.socket())),
            (MARKER, text(self.paths.worker_dir(&worker.id))),
            ("SWARM_TICKET", worker.ticket.to_string()),
            ("SWARM_WORKER", worker.id.to_string()),
            ("SWARM_AGENT_NAME", agent.name.to_string()),
            ("SWARM_ATTEMPT", worker.attempt.number.to_string()),
            ("SWARM_RUN", worker.attempt.run.as_str().to_owned()),
            ("SWARM_WORKTREE", text(place.worktree.clone())),
            ("SWARM_REPO", text(self.repository.anchor().to_owned())),
            ("SWARM_BRANCH", place.branch.to_string()),
            ("SWARM_BASE", place.base.to_string()),
            ("SWARM_TARGET_BRANCH", place.target.to_string()),
            ("SWARM_PROMPT_FILE", text(self.paths.prompt(&worker.id))),
            ("SWARM_PORT", place.first_port.to_string()),
            ("SWARM_PORT_COUNT", place.port_count.to_string()),
            ("TERM", super::run::TERM.to_owned()),
        ];
        let own: Vec<_> = own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Ok(agent_environment(&self.environment, &self.settings, agent, &own))
    }

    /// The first prompt.
    fn prompt(&self, ticket: &Ticket, worker: &Worker) -> Result<String, SupervisorError> {
        let mut dependencies = Vec::new();
        for dependency in &ticket.depends_on {
            let known = self.queue.ticket(&dependency.ticket)?;
            dependencies.push(DependencyView {
                ticket: dependency.ticket.to_string(),
                title: known.as_ref().map(|known| known.ticket.title.clone()).unwrap_or_default(),
                kind: dependency.kind,
                state: known.map_or("unknown", |known| known.state.as_str()),
                commit: None,
            });
        }
        let briefing = Briefing::new(worker, ticket, self.repository.anchor());
        let own = PromptVariables { body: &ticket.body, dependencies, attempt: worker.attempt.number };
        let templates = Templates::from_files(self.templates.clone())?;
        Ok(templates.render(Template::Prompt, briefing.with(own))?)
    }

    /// What the supervisor gets.
    fn handover(
        &self,
        worker: &Worker,
        ticket: &Ticket,
        agent: &Agent,
        env: Vec<(String, String)>,
        prompt: String,
    ) -> Result<Handover, SupervisorError> {
        let runtime = RuntimePaths::new(self.repository.common_dir(), &worker.id)?;
        Ok(Handover {
            common_dir: self.repository.common_dir().to_owned(),
            repository: self.repository.anchor().to_owned(),
            worker: worker.id.clone(),
            ticket: ticket.clone(),
            agent: agent.clone(),
            prompt,
            resume: None,
            returned_at: None,
            env,
            limits: self.settings.limits,
            redact: self.settings.redact.clone(),
            durability: self.settings.durability,
            templates: self.templates.clone(),
            detached: self.tmux.is_none() || worker.attempt.headless,
            socket: runtime.socket(),
            ready: runtime.ready(),
            program: self.program.clone(),
        })
    }

    /// Starts the supervisor in a tmux session or detached, and waits for its first word.
    fn start_supervisor(
        &self,
        mut worker: Worker,
        handover: Handover,
        enter: &dyn Fn(SpawnStep) -> Result<(), SupervisorError>,
    ) -> Result<Spawned, SupervisorError> {
        enter(SpawnStep::Session)?;
        let runtime = RuntimePaths::new(&handover.common_dir, &worker.id)?;
        let file = runtime.handover(worker.attempt.fence);
        let ready = Ready::listen(handover.ready.clone())?;
        handover.write(&file)?;
        let argv = [self.program.clone().into(), "supervise".into(), file.clone().into_os_string()];
        let (tmux, child) = match self.tmux.as_ref().filter(|_| !handover.detached) {
            Some(tmux) => (Some(self.new_session(tmux, &worker, argv.to_vec())?), None),
            None => (None, Some(self.start_detached(&worker, &argv)?)),
        };
        worker.attempt.tmux.clone_from(&tmux);
        self.store.update_worker::<SupervisorError>(&worker.id, |row| {
            row.attempt.tmux.clone_from(&tmux);
            Ok(())
        })?;
        let pid = ready.wait(&self.paths, &worker.id, child);
        std::fs::remove_file(&file).ok();
        let worker = self.store.worker(&worker.id)?.ok_or(SupervisorError::NoRow)?;
        match pid {
            Ok(pid) => Ok(Spawned { worker, pid }),
            Err(error) => {
                if let (Some(tmux), Some(session)) = (&self.tmux, &worker.attempt.tmux) {
                    tmux.kill_session(session)?;
                }
                Err(error)
            }
        }
    }

    /// Makes the tmux session; a dead one of an earlier attempt makes room.
    fn new_session(
        &self,
        tmux: &Tmux,
        worker: &Worker,
        argv: Vec<std::ffi::OsString>,
    ) -> Result<TmuxSession, SupervisorError> {
        let name = session_name(&self.repository.name(), self.repository.common_dir(), &worker.id);
        let cwd = worker.place.worktree.clone();
        let new = NewTmuxSession { name, cwd, argv, size: Size::UNSEEN };
        match tmux.new_session(&new) {
            Err(TmuxError::Exists(old)) => {
                // The supervisor's lock was free, so nothing but a finished pane can be in it.
                tmux.kill_session(&old)?;
                Ok(tmux.new_session(&new)?)
            }
            made => Ok(made?),
        }
    }

    /// Starts the supervisor without a terminal.
    fn start_detached(&self, worker: &Worker, argv: &[std::ffi::OsString]) -> Result<Child, SupervisorError> {
        let log = files::open_log(&self.paths.supervisor_log(&worker.id))?;
        let mut command = process::command(&argv[0]);
        command.args(&argv[1..]).current_dir(&worker.place.worktree);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(process::spawn(&mut command)?)
    }

    /// Starts an ended or lost worker again in its worktree: ends what its agent left running, takes the ticket back,
    /// and starts a supervisor.
    pub(crate) fn go_on(&self, again: &Continue, progress: &dyn Fn(SpawnStep)) -> Result<Spawned, SupervisorError> {
        let mut worker = again.worker.clone();
        self.end_leftovers(&worker.id)?;
        let before = match &worker.phase {
            Phase::Ended { outcome, .. } => outcome.clone(),
            _ => Outcome::Stopped { reason: "its supervisor was lost".to_owned() },
        };
        progress(SpawnStep::Claim);
        let known = self.queue.ticket(&worker.ticket)?;
        let fence = known.map_or(worker.attempt.fence, |known| known.fence);
        self.queue.declare_lost(&worker.ticket, fence)?;
        let claim = self.queue.reopen(&Reopen {
            ticket: worker.ticket.clone(),
            expected_fence: fence,
            node: node_name(),
            lease: LEASE,
            counts_attempt: again.counts_attempt,
        })?;
        let session = worker.attempt.session_id.clone().filter(|_| again.in_session);
        if session.is_none() {
            worker.attempt.number += 1;
        }
        worker.attempt.fence = claim.fence;
        worker.attempt.run = self.run.clone();
        worker.attempt.session_id.clone_from(&session);
        worker.attempt.started_at = Time::now();
        worker.attempt.headless = again.headless;
        worker.attempt.tmux = None;
        worker.agent = again.agent.name.clone();
        worker.runtime = again.agent.runtime;
        worker.phase = self.preparing(SpawnStep::Claim, Some(before.clone()))?;
        self.store.put_worker(&worker)?;
        let ledger = Ledger::new(self.store.clone(), self.queue.clone(), &self.paths, &worker)?;
        let enter = |step| self.enter(&ledger, step, Some(before.clone()), progress);
        let env = self.environment_of(&again.agent, &worker)?;
        let prompt = match &again.prompt {
            Some(prompt) => prompt.clone(),
            None => self.prompt(&again.ticket, &worker)?,
        };
        let mut handover = self.handover(&worker, &again.ticket, &again.agent, env, prompt)?;
        handover.resume = session;
        handover.returned_at.clone_from(&again.returned_at);
        let started = self.start_supervisor(worker, handover, &enter);
        started.inspect_err(|error| {
            let reason = format!("it could not be started again: {error}");
            let outcome = Outcome::Failed { reason, exit_code: None };
            ledger.complete(claim.fence, &outcome).ok();
            ledger.end(&outcome).ok();
        })
    }

    /// Ends every process that carries the worker's marker, outside a living supervisor.
    pub(crate) fn end_leftovers(&self, worker: &WorkerId) -> Result<usize, SupervisorError> {
        let marker = self.paths.worker_dir(worker);
        Ok(process::stop_marked(MARKER, &marker.to_string_lossy(), self.settings.limits.grace)?)
    }

    /// Undoes a spawn whose process is gone; any other worker is left alone.
    pub(crate) fn undo_interrupted(&self, id: &WorkerId) -> Result<bool, SupervisorError> {
        let Some(worker) = self.store.worker(id)? else { return Ok(false) };
        let Phase::Preparing { spawner, .. } = &worker.phase else { return Ok(false) };
        if process::is_alive(spawner)? || FileLock::is_held(&self.paths.supervisor_lock(id))? {
            return Ok(false);
        }
        self.undo(&worker)?;
        Ok(true)
    }

    /// Undoes what this process began under `fence`, whether the worker's row was written or not.
    fn undo_interrupted_by_us(&self, id: &WorkerId, fence: u64) -> Result<(), SupervisorError> {
        let worker = self.store.worker(id)?.filter(|worker| worker.attempt.fence == fence);
        match worker {
            Some(worker) => self.undo(&worker),
            None => {
                self.queue.release(&id.ticket(), fence)?;
                Ok(())
            }
        }
    }

    /// Takes a spawn back, last step first. Work in the worktree, however it came there, is kept.
    fn undo(&self, worker: &Worker) -> Result<(), SupervisorError> {
        let before = match &worker.phase {
            Phase::Preparing { before, .. } => before.clone(),
            _ => None,
        };
        if let (Some(tmux), Some(session)) = (&self.tmux, &worker.attempt.tmux) {
            tmux.kill_session(session)?;
        }
        self.end_leftovers(&worker.id)?;
        if let Some(outcome) = before {
            let fence = worker.attempt.fence;
            let reason = "its start was interrupted".to_owned();
            self.queue.fail(&worker.ticket, fence, &reason, None).ok();
            self.store.update_worker::<SupervisorError>(&worker.id, |row| {
                row.phase = Phase::Ended { outcome, at: Time::now() };
                Ok(())
            })?;
            return Ok(());
        }
        self.undo_worktree(worker)?;
        self.queue.release(&worker.ticket, worker.attempt.fence).ok();
        self.store.forget_worker(&worker.id)?;
        Ok(())
    }

    /// Removes the worktree of an undone spawn: nothing in it, or what is in it is kept first.
    fn undo_worktree(&self, worker: &Worker) -> Result<(), SupervisorError> {
        let place = &worker.place;
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

/// Waits for a supervisor's first word. The socket file goes when dropped.
struct Ready {
    /// Where it comes.
    socket: UnixDatagram,
    /// The file of the socket.
    path: PathBuf,
}

impl Ready {
    /// Listens at `path`.
    fn listen(path: PathBuf) -> Result<Self, SupervisorError> {
        std::fs::remove_file(&path).ok();
        let socket = UnixDatagram::bind(&path).map_err(files::FileError::on("listen on", &path))?;
        socket.set_read_timeout(Some(LOOK_EVERY)).map_err(files::FileError::on("listen on", &path))?;
        Ok(Self { socket, path })
    }

    /// The agent's pid, or why there is none. A supervisor that died is noticed before the time is over.
    fn wait(&self, paths: &StatePaths, worker: &WorkerId, mut child: Option<Child>) -> Result<u32, SupervisorError> {
        let deadline = Instant::now() + READY_WITHIN;
        let log = paths.supervisor_log(worker);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if let Ok(count) = self.socket.recv(&mut buffer) {
                return match serde_json::from_slice(&buffer[..count]) {
                    Ok(FirstWord::Running { pid }) => Ok(pid),
                    Ok(FirstWord::Failed { error, hint }) => Err(SupervisorError::NotStarted { error, hint }),
                    Err(source) => Err(SupervisorError::Talk { source: source.into() }),
                };
            }
            if child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_)))) {
                return Err(SupervisorError::Silent { what: "ended at once", log });
            }
            if Instant::now() >= deadline {
                return Err(SupervisorError::Silent { what: "did not answer in time", log });
            }
        }
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}

/// A dependency as `prompt.md` sees it.
#[derive(serde::Serialize)]
struct DependencyView {
    ticket: String,
    title: String,
    kind: crate::model::ticket::DependencyKind,
    state: &'static str,
    commit: Option<String>,
}

/// The variables of `prompt.md` besides the common ones.
#[derive(serde::Serialize)]
struct PromptVariables<'a> {
    body: &'a str,
    dependencies: Vec<DependencyView>,
    attempt: u32,
}
