//! `spawn`: everything is checked before anything is done; then one transaction a ticket, several at once.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::run::Silent;
use super::{Control, is_released, partial};
use crate::agent::probe;
use crate::config::{parse_ticket, ticket_text, trust_keys_of_setup};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::views::{QueuedView, SpawnView, SpawnedView, VIEW_VERSION};
use crate::files::{self, FileLock};
use crate::model::agent::Agent;
use crate::model::node::Made;
use crate::model::settings::Settings;
use crate::model::ticket::{DependencyKind, Ticket, TicketState, cycle, cycle_text, unmet};
use crate::model::worker::{Liveness, SpawnStep, Status, Worker};
use crate::model::{AgentName, BranchName, TicketId, Time, WorkerId};
use crate::supervisor::{ApprovedSetup, Continue, Plan, Reserved, ReservedAgain, SeenLease, Spawned, Spawner, Start};
use crate::terminal::Tmux;

/// Spawns carried out at once: one a core of a small machine; their locked parts take turns anyway.
const AT_ONCE: usize = 2;

/// What `spawn` was asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct SpawnRequest {
    /// Ticket ids, paths of markdown files, or one id for `text`.
    pub(crate) tickets: Vec<String>,
    /// Agent instead of the tickets' own.
    pub(crate) agent: Option<String>,
    /// Base instead of the tickets' own.
    pub(crate) base: Option<String>,
    /// The body of a new ticket, whose file is written first.
    pub(crate) text: Option<String>,
    /// Without tmux and a person.
    pub(crate) headless: bool,
    /// Queue what finds no room, or waits for another ticket.
    pub(crate) queues: bool,
    /// Change nothing.
    pub(crate) dry_run: bool,
    /// Take only what waits in the queue, as a coordinator does: what somebody cancelled since is not published again.
    pub(crate) takes_queued: bool,
    /// The fence under which a node that is gone held it.
    pub(crate) takes_over: Option<SeenLease>,
}

/// Where a ticket may be that a coordinator starts and that is not queued: its claim was left behind.
const LEFT_BEHIND: &[TicketState] = &[TicketState::Lost];

/// One checked spawn.
enum Prepared {
    /// A new worker.
    New(Box<Start>),
    /// A new attempt of an ended worker in its worktree.
    Again(Box<Continue>),
}

/// A spawn whose ticket and worker are taken; dropped unused, the next command undoes it.
enum Taken {
    /// A new worker.
    New(Box<Start>, Reserved),
    /// A new attempt.
    Again(Box<Continue>, ReservedAgain),
}

/// Something for each ticket, by its id, or why there is none.
type ByTicket<T> = Vec<(String, Result<T, Failure>)>;

/// Hears of each ticket's steps while several are spawned.
pub(crate) trait SpawnProgress: Sync {
    /// A step of a ticket is about to be done.
    fn step(&self, ticket: &str, step: SpawnStep);
    /// A ticket is through.
    fn done(&self, ticket: &str, spawned: bool);
}

impl Control {
    /// Starts a worker for each ticket. Everything is checked before the first effect; then each ticket succeeds or
    /// fails by itself. The second value is the failure for the exit code, if any ticket failed.
    pub(crate) fn spawn(
        &self,
        request: &SpawnRequest,
        progress: &dyn SpawnProgress,
    ) -> Result<(SpawnView, Result<(), Failure>), Failure> {
        if !request.dry_run {
            self.project.queue()?.expire(Time::now())?;
        }
        self.check_spawn_depth()?;
        self.check_may_assign()?;
        let tickets = self.tickets_of(request)?;
        let warnings = self.check_day_budget()?;
        let (version, dry_run) = (VIEW_VERSION, request.dry_run);
        let mut view = SpawnView { version, dry_run, spawned: Vec::new(), queued: Vec::new(), failed: Vec::new() };
        let spawner = self.spawner(request.headless)?;
        let mut ready = Vec::new();
        let mut failures = Vec::new();
        let mut waiting = Vec::new();
        for ticket in tickets {
            let id = ticket.id.to_string();
            if let (true, Err(failure)) = (request.queues, self.check_dependencies(&ticket)) {
                waiting.push((ticket, failure.chain.join(": ")));
                continue;
            }
            match self.prepare(request, &spawner, ticket) {
                Ok(prepared) => ready.push((id, prepared)),
                Err(failure) => failures.push((id, failure)),
            }
        }
        if request.dry_run {
            waiting.extend(self.split_off_waiting(request, &mut ready)?);
            view.spawned = ready.iter().map(|(_, prepared)| planned(prepared)).collect();
            view.queued = waiting.into_iter().map(|(ticket, why)| queued(&ticket, TicketState::Open, why)).collect();
        } else {
            for id in ready.iter().filter_map(|(id, _)| id.parse().ok()) {
                self.forget_care(&id)?;
            }
            let reserved = self.reserve(request, &spawner, &mut ready, &mut waiting, progress)?;
            for (ticket, why) in waiting {
                let ticket = self.as_requested(request, ticket)?;
                let state = self.publish(&*self.project.queue()?, ticket.clone())?;
                view.queued.push(queued(&ticket, state, why));
            }
            for (id, result) in carry_out(&spawner, reserved, progress) {
                match result {
                    Ok(spawned) => view.spawned.push(spawned_view(&spawned)),
                    Err(failure) => failures.push((id, failure)),
                }
            }
        }
        for spawned in &mut view.spawned {
            spawned.warnings.extend(warnings.iter().cloned());
            spawned.warnings.extend(self.money_doubt(&spawned.agent, &spawned.ticket)?);
        }
        view.failed = failures.iter().map(|(id, failure)| failure.view(id)).collect();
        let result = partial(view.spawned.len() + view.queued.len(), failures);
        Ok((view, result))
    }

    /// Starts a worker for one ticket, as given.
    pub(super) fn spawn_one(&self, request: &SpawnRequest, ticket: Ticket) -> Result<SpawnedView, Failure> {
        let spawner = self.spawner(request.headless)?;
        let id = ticket.id.to_string();
        let prepared = self.prepare(request, &spawner, ticket)?;
        let reserved = self.reserve(request, &spawner, &mut vec![(id, prepared)], &mut Vec::new(), &Silent)?;
        let results = carry_out(&spawner, reserved, &Silent);
        let (_, result) = results.into_iter().next().expect("one was reserved");
        result.map(|spawned| spawned_view(&spawned))
    }

    /// Takes a place, the ticket and the worker for each spawn. Two commands cannot both take the last place: one lock
    /// covers the check and the taking, and nothing that takes long.
    fn reserve(
        &self,
        request: &SpawnRequest,
        spawner: &Spawner,
        ready: &mut Vec<(String, Prepared)>,
        waiting: &mut Vec<(Ticket, String)>,
        progress: &dyn SpawnProgress,
    ) -> Result<ByTicket<Taken>, Failure> {
        let _places = self.lock_places()?;
        waiting.extend(self.split_off_waiting(request, ready)?);
        if let Some(text) = &request.text {
            self.write_ticket_text(request, text)?;
        }
        let take = |(id, prepared): (String, Prepared)| {
            progress.step(&id, SpawnStep::Claim);
            let taken = match prepared {
                Prepared::New(mut start) => spawner.reserve(&mut start).map(|place| {
                    if let Some(made) = start.finished() {
                        self.adopt_finished(&start.ticket.id, place.fence(), &start.agent.name, made);
                    }
                    Taken::New(start, place)
                }),
                Prepared::Again(again) => spawner.reserve_again(&again, None).map(|place| Taken::Again(again, place)),
            };
            (id, taken.map_err(Failure::from))
        };
        Ok(ready.drain(..).map(take).collect())
    }

    /// Takes out what there is no room for, where it may be queued instead; else none may be too many.
    fn split_off_waiting(
        &self,
        request: &SpawnRequest,
        ready: &mut Vec<(String, Prepared)>,
    ) -> Result<Vec<(Ticket, String)>, Failure> {
        if !request.queues {
            let needs_place =
                |prepared: &Prepared| !matches!(prepared, Prepared::New(start) if start.finished().is_some());
            self.check_capacity(ready.iter().filter(|(_, prepared)| needs_place(prepared)).count())?;
            return Ok(Vec::new());
        }
        let (limit, busy) = (self.most_workers()?, self.busy()?.len());
        let room = limit.saturating_sub(busy).min(ready.len());
        let why = format!("{} of {limit} workers run", busy + room);
        let ticket = |(_, prepared)| match prepared {
            Prepared::New(start) => start.ticket,
            Prepared::Again(again) => again.ticket,
        };
        Ok(ready.split_off(room).into_iter().map(|left| (ticket(left), why.clone())).collect())
    }

    /// A ticket with what the request says instead of it, so that whoever starts it later knows.
    fn as_requested(&self, request: &SpawnRequest, ticket: Ticket) -> Result<Ticket, Failure> {
        let agent = request.agent.as_ref().map(|name| name.parse()).transpose()?;
        Ok(Ticket { agent: agent.or(ticket.agent), base: request.base.clone().or(ticket.base), ..ticket })
    }

    /// The tickets a request names, read and checked.
    fn tickets_of(&self, request: &SpawnRequest) -> Result<Vec<Ticket>, Failure> {
        if let Some(text) = &request.text {
            let [id] = &request.tickets[..] else {
                return Err(Failure::new(FailureKind::Usage, "a text needs exactly one ticket id"));
            };
            let id: TicketId = id.parse()?;
            let path = self.project.ticket_folder()?.join(format!("{id}.md"));
            if path.exists() {
                let text = format!("ticket `{id}` exists already");
                return Err(Failure::new(FailureKind::Failed, text).hint(format!("swarm spawn {id}, or edit its file")));
            }
            return Ok(vec![self.with_start(parse_ticket(&path, text)?)?]);
        }
        let mut tickets: Vec<Ticket> = Vec::new();
        for name in &request.tickets {
            let ticket = self.with_start(self.ticket_of(name)?)?;
            if !tickets.iter().any(|known| known.id == ticket.id) {
                tickets.push(ticket);
            }
        }
        Ok(tickets)
    }

    /// A ticket as it is published: with where it starts.
    pub(super) fn with_start(&self, mut ticket: Ticket) -> Result<Ticket, Failure> {
        ticket.settle_start(self.project.settings()?.run.start_from);
        Ok(ticket)
    }

    /// A ticket by id or path.
    pub(super) fn ticket_of(&self, name: &str) -> Result<Ticket, Failure> {
        let path = self.project.call.directory.join(name);
        if name.contains('/')
            || Path::new(name).extension().is_some_and(|extension| extension == "md") && path.is_file()
        {
            let text = files::read_if_exists(&path)?
                .ok_or_else(|| Failure::new(FailureKind::NotFound, format!("there is no file `{name}`")))?;
            let text = String::from_utf8(text)
                .map_err(|_| Failure::new(FailureKind::Usage, format!("`{name}` is not UTF-8 text")))?;
            return Ok(parse_ticket(Path::new(name), &text)?);
        }
        let id: TicketId = name.parse()?;
        if let Some(ticket) = self.project.ticket_file(&id)? {
            return Ok(ticket);
        }
        // A ticket that was spawned from a file elsewhere is known to the queue only.
        if let Some(known) = self.project.queue()?.ticket(&id)? {
            return Ok(known.ticket);
        }
        Err(Failure::new(FailureKind::NotFound, format!("there is no ticket `{id}`"))
            .hint(format!("write it: swarm ticket new {id} --title \"...\""))
            .hint("swarm ticket list shows all"))
    }

    /// What every spawn of this command shares; set-up commands need trust.
    pub(super) fn spawner(&self, headless: bool) -> Result<Spawner, Failure> {
        Ok(Spawner { setup: self.approved_setup()?, ..self.plain_spawner(headless)? })
    }

    /// A spawner that sets nothing up.
    pub(super) fn plain_spawner(&self, headless: bool) -> Result<Spawner, Failure> {
        let tmux = if headless { None } else { self.project.tmux()? };
        self.spawner_with(self.project.settings()?.clone(), self.project.templates()?, tmux)
    }

    /// A spawner that sets nothing up, with these settings.
    pub(super) fn spawner_with(
        &self,
        settings: Settings,
        templates: Vec<(PathBuf, String)>,
        tmux: Option<Tmux>,
    ) -> Result<Spawner, Failure> {
        let project = &self.project;
        Ok(Spawner {
            repository: project.repository.clone(),
            paths: project.paths.clone(),
            store: project.store()?.clone(),
            queue: project.queue()?,
            settings,
            environment: project.call.environment.clone(),
            templates,
            tmux,
            program: project.call.program.clone(),
            run: self.run.clone(),
            setup: ApprovedSetup::default(),
        })
    }

    /// The set-up commands, all of them trusted.
    fn approved_setup(&self) -> Result<ApprovedSetup, Failure> {
        let settings = self.project.settings()?;
        if settings.setup.is_empty() {
            return Ok(ApprovedSetup::default());
        }
        let items = trust_keys_of_setup(settings, self.project.repository.common_dir());
        let mut trust = self.project.trust()?;
        if self.trusts {
            trust.trust(&items, Time::now())?;
        }
        let is_trusted = |run: &str| items.iter().any(|item| item.run == run && trust.is_trusted(&item.key));
        ApprovedSetup::check(&settings.setup, |command| is_trusted(&command.run)).map_err(|untrusted| {
            let list: Vec<_> = untrusted.iter().map(|command| format!("  {}", command.run)).collect();
            let text = format!("set-up commands of this repository are not trusted yet:\n{}", list.join("\n"));
            Failure::new(FailureKind::NeedsPerson, text).hint("read them, then run swarm trust, or repeat with --yes")
        })
    }

    /// Checks one ticket and works out its spawn; changes nothing.
    fn prepare(&self, request: &SpawnRequest, spawner: &Spawner, ticket: Ticket) -> Result<Prepared, Failure> {
        let name = match &request.agent {
            Some(name) => name.parse()?,
            None => ticket.agent.clone().unwrap_or_else(|| spawner.settings.agent.clone()),
        };
        let agent = self.ready_agent(&name)?;
        self.check_dependencies(&ticket)?;
        let ticket = if request.takes_queued { self.with_raised_budget(ticket)? } else { ticket };
        self.check_ticket_budget(&ticket)?;
        let id = WorkerId::of(&ticket.id, 1);
        let existing = spawner.store.worker(&id)?.filter(|worker| !is_released(worker));
        match existing {
            Some(worker) if !self.is_abandoned_spawn(&worker) => self.prepare_again(worker, ticket, agent, request),
            _ => {
                let mut plan = spawner.plan(&ticket, request.base.as_deref())?;
                let inherited = self.inherited(request.takes_over, &ticket.id)?;
                let inherited = inherited.filter(|_| !plan.use_existing_branch);
                if let Some(Made { head, .. }) = inherited.as_ref().and_then(|inherited| inherited.left.as_ref()) {
                    // What is on its branch beyond the target is the work that goes on.
                    plan.base = spawner.repository.merge_base(head, &plan.base)?.unwrap_or(plan.base);
                }
                let (headless, publishes, takes_over) = (request.headless, !request.takes_queued, request.takes_over);
                let start = Start { ticket, agent, plan, headless, publishes, takes_over, inherited };
                Ok(Prepared::New(Box::new(start)))
            }
        }
    }

    /// Whether a worker is only the rest of a first spawn whose process died.
    fn is_abandoned_spawn(&self, worker: &Worker) -> bool {
        use crate::model::worker::Phase;
        matches!(worker.phase, Phase::Preparing { before: None, .. }) && self.liveness(worker) == Liveness::Dead
    }

    /// A new attempt of an ended worker; a live one is refused.
    fn prepare_again(
        &self,
        worker: Worker,
        ticket: Ticket,
        agent: Agent,
        request: &SpawnRequest,
    ) -> Result<Prepared, Failure> {
        let state = self.ticket_state(&worker.ticket)?;
        let known = self.know(worker, state);
        let id = known.worker.id.clone();
        if known.liveness != Liveness::Dead {
            let text = format!("worker `{id}` is {} already: {}", known.verdict.status.as_str(), known.verdict.reason);
            return Err(Failure::new(FailureKind::Failed, text)
                .hint(format!("swarm attach {id}, or swarm send {id} \"...\", or swarm restart {id}")));
        }
        // A lost worker's attempt goes on, unless the queue knows that it is over: then only the last word of its supervisor
        // is missing, and the next attempt may begin.
        if known.verdict.status == Status::Lost && state != Some(TicketState::Queued) {
            let text = format!("worker `{id}` is lost: {}", known.verdict.reason);
            return Err(Failure::new(FailureKind::NeedsPerson, text)
                .hint(format!("swarm resume {id} goes on with it, swarm restart {id} begins a new attempt")));
        }
        let again = Continue {
            worker: known.worker,
            ticket,
            agent,
            prompt: None,
            in_session: false,
            // A claim that was left behind counted it.
            counts_attempt: !matches!(state, Some(TicketState::Running | TicketState::Lost)),
            returned_at: None,
            headless: request.headless,
            from: request.takes_queued.then_some(LEFT_BEHIND),
        };
        Ok(Prepared::Again(Box::new(again)))
    }

    /// An agent whose program is there.
    pub(super) fn ready_agent(&self, name: &AgentName) -> Result<Agent, Failure> {
        let agent = self.project.agent(name)?.clone();
        let env: Vec<_> = self.agent_env(&agent)?;
        // Its model is not asked for: that may take seconds, and an agent that finds none says so.
        let found = probe(&agent, &env, self.project.repository.anchor(), None);
        match found.problem {
            None => Ok(agent),
            Some(problem) => {
                let mut failure = Failure::new(FailureKind::Failed, format!("agent `{name}` cannot run: {problem}"));
                failure.hints.extend(found.hint);
                Err(failure)
            }
        }
    }

    /// The environment an agent would get, without what belongs to one worker.
    pub(super) fn agent_env(&self, agent: &Agent) -> Result<Vec<(String, String)>, Failure> {
        let settings = self.project.settings()?;
        Ok(crate::config::agent_environment(&self.project.call.environment, settings, agent, &[]))
    }

    /// Nothing that the ticket depends on keeps it from starting.
    fn check_dependencies(&self, ticket: &Ticket) -> Result<(), Failure> {
        let queue = self.project.queue()?;
        let needs = ticket.needs(|id| Ok::<_, Failure>(queue.ticket(id)?.map(|known| known.state)))?;
        let Some(open) = unmet(&needs).into_iter().next() else { return Ok(()) };
        let (id, missing) = (&ticket.id, &open.ticket);
        let needs_person = |text: String| Failure::new(FailureKind::NeedsPerson, text);
        if let Some(cycle) = self.cycle_through(ticket)? {
            return Err(needs_person(format!("the dependencies form a cycle: {}", cycle_text(&cycle)))
                .hint(format!("take one of them out of depends_on, such as `{missing}` in `{id}`")));
        }
        let state = needs.iter().find(|need| need.dependency == open).and_then(|need| need.state);
        if state.is_none() && self.project.ticket_file(missing).is_ok_and(|file| file.is_none()) {
            let text = format!("ticket `{id}` waits for `{missing}`, and there is no such ticket");
            return Err(
                needs_person(text).hint(format!("write it: swarm ticket new {missing}, or take it out of depends_on"))
            );
        }
        let state = state.unwrap_or(TicketState::Open);
        let failure = needs_person(format!("ticket `{id}` waits for `{missing}`, which is {state}"));
        Err(match open.kind {
            DependencyKind::Success => failure.hint(format!("land `{missing}` first, or take it out of depends_on")),
            _ => failure.hint(format!("bring `{missing}` to its end first, or take it out of depends_on")),
        })
    }

    /// The tickets that wait for each other in a circle with this one, by their files or what the queue knows.
    fn cycle_through(&self, ticket: &Ticket) -> Result<Option<Vec<TicketId>>, Failure> {
        let queue = self.project.queue()?;
        cycle(&ticket.id, |id| {
            let state = queue.ticket(id)?.map(|known| known.state);
            if *id != ticket.id && matches!(state, Some(TicketState::Landed | TicketState::Done)) {
                return Ok(Vec::new());
            }
            let known = match self.project.ticket_file(id) {
                _ if *id == ticket.id => Some(ticket.clone()),
                Ok(Some(file)) => Some(file),
                // A broken file is told where it is used.
                _ => queue.ticket(id)?.map(|known| known.ticket),
            };
            Ok(known.map(|it| it.depends_on.into_iter().map(|need| need.ticket).collect()).unwrap_or_default())
        })
    }

    /// Keeps others from taking a place: held from [`Self::check_capacity`] until those that were found room for are
    /// reserved.
    pub(super) fn lock_places(&self) -> Result<FileLock, Failure> {
        Ok(FileLock::wait(&self.project.paths.lock("spawn"))?)
    }

    /// How many workers may run at once, whoever starts them. Scaling makes room for more; with fewer only a coordinator
    /// holds back, because who starts one by hand means it.
    fn most_workers(&self) -> Result<usize, Failure> {
        let base = self.project.settings()?.max_workers;
        Ok(self.scaled_by(None)?.map_or(base, |scaled| scaled.workers.max(base)))
    }

    /// There is room for `wanted` more workers among those that may run at once.
    pub(super) fn check_capacity(&self, wanted: usize) -> Result<(), Failure> {
        let limit = self.most_workers()?;
        let busy = self.busy()?.len();
        if wanted == 0 || busy + wanted <= limit {
            return Ok(());
        }
        let text = format!("{busy} of {limit} workers run, no room for {wanted} more");
        Err(Failure::new(FailureKind::Limit, text)
            .hint("wait for one (swarm wait --any), stop one, or raise max_workers (--config max_workers=N)"))
    }

    /// The workers that take a place.
    pub(super) fn busy(&self) -> Result<Vec<WorkerId>, Failure> {
        let states: std::collections::HashMap<_, _> = self.project.queue()?.states()?.into_iter().collect();
        let mut workers = self.project.store()?.workers()?;
        workers.retain(|worker| {
            // A worker whose work is in review only keeps its agent at hand.
            worker.is_begun()
                && matches!(states.get(&worker.ticket), Some(TicketState::Running))
                && self.liveness(worker) == Liveness::Alive
        });
        Ok(workers.into_iter().map(|worker| worker.id).collect())
    }

    /// Writes the file of a ticket given as text.
    fn write_ticket_text(&self, request: &SpawnRequest, text: &str) -> Result<(), Failure> {
        let id: TicketId = request.tickets[0].parse()?;
        let path = self.project.ticket_folder()?.join(format!("{id}.md"));
        let ticket = parse_ticket(&path, text)?;
        Ok(files::write_new(&path, ticket_text(&ticket).as_bytes())?)
    }
}

/// Carries out spawns, a few at once; results in the given order.
fn carry_out(spawner: &Spawner, reserved: ByTicket<Taken>, progress: &dyn SpawnProgress) -> ByTicket<Spawned> {
    let count = reserved.len();
    let todo = Mutex::new(reserved.into_iter().enumerate());
    let results = Mutex::new(Vec::new());
    let work = || {
        loop {
            let next = locked(&todo).next();
            let Some((index, (id, taken))) = next else { return };
            let step = |step| progress.step(&id, step);
            let result = taken.and_then(|taken| match taken {
                Taken::New(start, place) => Ok(spawner.spawn(&start, place, &step)?),
                Taken::Again(again, place) => Ok(spawner.start_again(&again, place, &step)?),
            });
            progress.done(&id, result.is_ok());
            locked(&results).push((index, id, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(count) {
            scope.spawn(work);
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(index, ..)| *index);
    results.into_iter().map(|(_, id, result)| (id, result)).collect()
}

/// The content of a lock, whoever panicked with it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The view of a ticket that waits in the queue.
fn queued(ticket: &Ticket, state: TicketState, why: String) -> QueuedView {
    QueuedView { ticket: ticket.id.to_string(), state, why }
}

/// The view of a spawn that would be done.
fn planned(prepared: &Prepared) -> SpawnedView {
    match prepared {
        Prepared::New(start) => {
            let Plan { worker, branch, base, worktree, .. } = &start.plan;
            SpawnedView {
                worker: worker.to_string(),
                ticket: start.ticket.id.to_string(),
                agent: start.agent.name.to_string(),
                branch: branch.to_string(),
                worktree: worktree.clone(),
                base: base.to_string(),
                tmux_session: None,
                pid: None,
                attempt: 1,
                warnings: branch_warning(start.plan.use_existing_branch, worker, branch),
            }
        }
        Prepared::Again(again) => {
            let mut view = worker_spawned(&again.worker, None);
            view.agent = again.agent.name.to_string();
            view.attempt += 1;
            view
        }
    }
}

/// The view of a spawn that was done.
pub(super) fn spawned_view(spawned: &Spawned) -> SpawnedView {
    let Spawned { worker, pid, took_branch } = spawned;
    let warnings = branch_warning(*took_branch, &worker.id, &worker.place.branch);
    SpawnedView { warnings, ..worker_spawned(worker, *pid) }
}

/// What to say of a branch that was there before its worker.
fn branch_warning(was_there: bool, worker: &WorkerId, branch: &BranchName) -> Vec<String> {
    let text =
        || format!("branch `{branch}` was there already; `{worker}` goes on with it, and swarm rm will leave it there");
    was_there.then(text).into_iter().collect()
}

/// The shared part of the two.
fn worker_spawned(worker: &Worker, pid: Option<u32>) -> SpawnedView {
    SpawnedView {
        worker: worker.id.to_string(),
        ticket: worker.ticket.to_string(),
        agent: worker.agent.to_string(),
        branch: worker.place.branch.to_string(),
        worktree: worker.place.worktree.clone(),
        base: worker.place.base.to_string(),
        tmux_session: worker.attempt.tmux.as_ref().map(|tmux| tmux.name.clone()),
        pid,
        attempt: worker.attempt.number,
        warnings: Vec::new(),
    }
}
