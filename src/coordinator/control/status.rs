//! `status` and `why`: evidence drawn up into a view. Reading starts no process and costs a few file reads a worker.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use super::mend::processes;
use super::pull_request::pull_view;
use super::{Control, Known, is_released};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::queue_place::Tables;
use crate::coordinator::register::Register;
use crate::coordinator::views::{ElsewhereView, QueueEngine, StatusView, VIEW_VERSION, WorkerView};
use crate::model::health::Resources;
use crate::model::scaling::SwarmScaling;
use crate::model::ticket::TicketState;
use crate::model::worker::{Evidence, EvidenceSource, Liveness, Outcome, Phase, Status, Worker};
use crate::model::{TicketId, Time, counted, duration_text, error_text, size_text};
use crate::process;
use crate::queue::Queue;
use crate::supervisor::{MARKER, tell_end};

/// Processes that are named in one clause at most.
const PIDS_SHOWN: usize = 5;

impl Control {
    /// The status of the named workers, or of all; released ones only with `all` or by name.
    pub(crate) fn status(&self, names: &[String], all: bool) -> Result<StatusView, Failure> {
        let mut tickets: BTreeMap<String, usize> =
            TicketState::ALL.iter().map(|state| (state.as_str().to_owned(), 0)).collect();
        let mut view = StatusView {
            version: VIEW_VERSION,
            at: Time::now(),
            workers: Vec::new(),
            tickets: BTreeMap::new(),
            paced: Vec::new(),
            coordinator: None,
            holds: Vec::new(),
            queue: None,
            nodes: Vec::new(),
            elsewhere: Vec::new(),
            scaled: None,
        };
        let Some(Tables { store, queue, role, view: place }) = self.project.tables()? else {
            if let Some(name) = names.first() {
                return Err(no_worker(name));
            }
            tickets.insert(TicketState::Open.as_str().to_owned(), self.unspawned(&HashMap::new())?);
            view.tickets = tickets;
            return Ok(view);
        };
        view.queue = Some(place);
        view.paced = store.paces()?.into_iter().filter(|pace| pace.holds_at(view.at)).collect();
        let states: HashMap<TicketId, TicketState> = queue.states()?.into_iter().collect();
        let mut workers = store.workers()?;
        if names.is_empty() {
            workers.retain(|worker| all || !is_released(worker));
        } else {
            for name in names {
                if !workers.iter().any(|worker| worker.id.as_str() == name) {
                    return Err(no_worker(name));
                }
            }
            workers.retain(|worker| names.iter().any(|name| name == worker.id.as_str()));
        }
        let mut known: Vec<Known> = workers
            .into_iter()
            .map(|worker| {
                let state = states.get(&worker.ticket).copied();
                self.know(worker, state)
            })
            .collect();
        let mut states = states;
        self.find_left_behind(&mut known);
        let is_away = view.queue.as_ref().is_some_and(|place| place.problem.is_some());
        // A server that is away hears it from the next look.
        for known in known.iter_mut().filter(|_| !is_away) {
            if self.reconcile(known)? {
                states.extend(known.ticket_state.map(|state| (known.worker.ticket.clone(), state)));
            }
        }
        for state in states.values() {
            *tickets.entry(state.as_str().to_owned()).or_default() += 1;
        }
        *tickets.entry(TicketState::Open.as_str().to_owned()).or_default() += self.unspawned(&states)?;
        view.tickets = tickets;
        view.coordinator = self.leader_view(&queue, &role)?;
        if view.coordinator.as_ref().is_some_and(|coordinator| coordinator.leader.is_some()) {
            view.holds = store.holds()?;
        }
        let mut entry = None;
        if !is_away && view.queue.as_ref().is_some_and(|place| place.engine == QueueEngine::Nats) {
            entry = self.add_nodes(&mut view, &queue)?;
        }
        view.scaled = self.scaled_view(&store.scaling()?, entry.as_ref())?;
        view.workers = known.iter().map(worker_view).collect();
        Ok(view)
    }

    /// Adds the nodes, and what they work on; what all of them are scaled to.
    fn add_nodes(&self, view: &mut StatusView, queue: &dyn Queue) -> Result<Option<SwarmScaling>, Failure> {
        let asked = Register::open(&*self.project.queue()?).map_err(Failure::from).and_then(|register| {
            let Some(register) = register else { return Ok((Vec::new(), None)) };
            Ok((self.node_views(&register)?, register.scaling()?.map(|(entry, _)| entry)))
        });
        let entry = match asked {
            Ok((nodes, entry)) => {
                view.nodes = nodes;
                entry
            }
            Err(failure) => {
                let error = failure.chain.join(": ");
                tracing::warn!(error, "the nodes could not be asked for");
                None
            }
        };
        let own = self.project.node();
        for entry in queue.snapshot()?.into_iter().filter(|entry| entry.state.is_begun()) {
            let (ticket, state) = (entry.ticket.id.to_string(), entry.state);
            let node = entry.node.filter(|node| node != own.as_str());
            view.elsewhere.extend(node.map(|node| ElsewhereView { ticket, state, node }));
        }
        Ok(entry)
    }

    /// How many ticket files there are of which the queue knows nothing, told by their names.
    fn unspawned(&self, known: &HashMap<TicketId, TicketState>) -> Result<usize, Failure> {
        let ids = self.ticket_paths()?.into_iter().filter_map(|path| path.file_stem()?.to_str()?.parse().ok());
        Ok(ids.filter(|id: &TicketId| !known.contains_key(id)).count())
    }

    /// Lets the queue say what is true of a worker whose supervisor could not tell it: that it was lost, or how its attempt
    /// ended. Whether the ticket moved.
    pub(super) fn reconcile(&self, known: &mut Known) -> Result<bool, Failure> {
        use TicketState::{Lost, Running};
        let (id, ticket, fence) = (&known.worker.id, &known.worker.ticket, known.worker.attempt.fence);
        let before = known.ticket_state;
        let told = match (&known.worker.phase, before) {
            (_, Some(Running)) if known.verdict.status == Status::Lost => {
                self.project.queue()?.declare_lost(ticket, fence).map(|state| (state, fence))
            }
            (Phase::Ended { outcome, .. }, Some(Running | Lost)) if known.liveness == Liveness::Dead => {
                let queue = self.project.queue()?;
                if queue.ticket(ticket)?.is_none_or(|entry| entry.fence != fence) {
                    return Ok(false);
                }
                tell_end(&*queue, ticket, fence, outcome)
            }
            _ => return Ok(false),
        };
        // A ticket under another fence is somebody else's by now.
        let Ok((state, now)) = told else { return Ok(false) };
        if now != fence {
            self.project.store()?.update_worker::<Failure>(id, |row| {
                row.attempt.fence = if row.attempt.fence == fence { now } else { row.attempt.fence };
                Ok(())
            })?;
            known.worker.attempt.fence = now;
        }
        known.ticket_state = Some(state);
        Ok(known.ticket_state != before)
    }

    /// Looks for what the agents of lost workers left running, in one go for all of them.
    fn find_left_behind(&self, known: &mut [Known]) {
        let is_lost = |known: &Known| known.verdict.status == Status::Lost;
        if !known.iter().any(is_lost) {
            return;
        }
        let running = match process::find_all_marked(MARKER) {
            Ok(running) => running,
            Err(error) => {
                // `why` fails over it; a status without this is still worth having.
                tracing::warn!(error = error_text(&error), "the process table could not be read");
                return;
            }
        };
        for known in known.iter_mut().filter(|known| is_lost(known)) {
            let marker = self.project.paths.worker_dir(&known.worker.id);
            known.left_behind = running.get(marker.as_os_str().as_bytes()).cloned().unwrap_or_default();
        }
    }

    /// What is known about one worker, as a view.
    pub(super) fn view(&self, worker: Worker) -> Result<WorkerView, Failure> {
        let state = self.ticket_state(&worker.ticket)?;
        let mut known = self.know(worker, state);
        self.find_left_behind(std::slice::from_mut(&mut known));
        self.reconcile(&mut known)?;
        Ok(worker_view(&known))
    }
}

/// The failure for an unknown worker.
fn no_worker(name: &str) -> Failure {
    Failure::new(FailureKind::NotFound, format!("there is no worker `{name}`")).hint("swarm status --all lists workers")
}

/// The limit or budget at which a worker ended, or is held.
fn limit_reached(known: &Known) -> Option<String> {
    match &known.worker.phase {
        Phase::Ended { outcome: Outcome::LimitReached { reason }, .. }
        | Phase::Released { outcome: Outcome::LimitReached { reason }, .. } => Some(reason.clone()),
        _ => known.live.as_ref().filter(|_| known.liveness == Liveness::Alive)?.held_at.clone(),
    }
}

/// The view of what is known.
pub(super) fn worker_view(known: &Known) -> WorkerView {
    let Known { worker, verdict, live, .. } = known;
    let figures = live.as_ref().map(|live| live.figures).unwrap_or_default();
    let changes = known.changes;
    let alive = known.liveness == Liveness::Alive;
    let supervisor = match &worker.phase {
        Phase::Supervised { supervisor, .. } if alive => Some(supervisor.pid),
        _ => None,
    };
    let (ended_at, keep) = match &worker.phase {
        Phase::Ended { at, .. } => (Some(*at), None),
        Phase::Released { at, ended_at, keep, .. } => (ended_at.or(Some(*at)), Some(keep.clone())),
        _ => (None, None),
    };
    WorkerView {
        id: worker.id.to_string(),
        ticket: worker.ticket.to_string(),
        title: worker.title.clone(),
        agent: worker.agent.to_string(),
        runtime: worker.runtime,
        status: verdict.status,
        reason: match left_behind(known) {
            Some(left) => format!("{}; {left} without it", verdict.reason),
            None => verdict.reason.clone(),
        },
        since: verdict.since,
        evidence: evidence(known),
        ticket_state: known.ticket_state,
        branch: worker.place.branch.to_string(),
        base: worker.place.base.to_string(),
        target: worker.place.target.to_string(),
        worktree: (!is_released(worker)).then(|| worker.place.worktree.clone()),
        tmux_session: worker.attempt.tmux.as_ref().filter(|_| !is_released(worker)).map(|tmux| tmux.name.clone()),
        pid: live.as_ref().filter(|_| alive).and_then(|live| live.agent.as_ref()).map(|agent| agent.pid),
        supervisor_pid: supervisor,
        commits: changes.map(|changes| changes.commits),
        files_changed: changes.map(|changes| changes.files_changed),
        insertions: changes.map(|changes| changes.insertions),
        deletions: changes.map(|changes| changes.deletions),
        dirty: changes.map(|changes| changes.dirty),
        changes_at: changes.map(|changes| changes.at),
        tool_calls: figures.tool_calls,
        tool_errors: figures.tool_errors,
        input_tokens: figures.input_tokens,
        output_tokens: figures.output_tokens,
        cost_usd: figures.cost_usd,
        resources: live.as_ref().and_then(|live| live.resources),
        quiet_seconds: live.as_ref().and_then(|live| Some(live.sign.as_ref()?.quiet_ms / 1_000)),
        checks: live.as_ref().map(|live| live.checks.clone()).unwrap_or_default(),
        outside_scope: live.as_ref().map(|live| live.outside_scope.clone()).unwrap_or_default(),
        attempt: worker.attempt.number,
        started_at: worker.attempt.started_at,
        limit_reached: limit_reached(known),
        heartbeat_at: live.as_ref().map(|live| live.heartbeat_at),
        ended_at,
        keep,
        pull_request: known
            .pull
            .as_ref()
            .filter(|pull| pull.number.is_some())
            .map(|pull| pull_view(&worker.id, pull, "unchanged")),
    }
}

/// What an agent's processes use, as a clause.
fn resources_text(resources: &Resources) -> String {
    let share = resources.cpu_percent.map_or(String::new(), |percent| format!(", {percent} % of a core"));
    let disk = resources.disk_bytes.map_or(String::new(), |bytes| format!(", {} on the disk", size_text(bytes)));
    format!(
        "{}{share}, {} of processor time, {} of memory{disk}",
        processes(resources.process_count),
        duration_text(Duration::from_millis(resources.cpu_ms)),
        size_text(resources.memory_bytes),
    )
}

/// What runs on without a supervisor, as a clause.
fn left_behind(known: &Known) -> Option<String> {
    let pids: Vec<_> = known.left_behind.iter().take(PIDS_SHOWN).map(u32::to_string).collect();
    let more = match known.left_behind.len().saturating_sub(PIDS_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match &pids[..] {
        [] => None,
        [pid] => Some(format!("process {pid} that it started runs on")),
        pids => Some(format!("processes {}{more} that it started run on", pids.join(", "))),
    }
}

/// The evidence, with the heartbeat and the last snapshot beside what the supervisor weighed.
fn evidence(known: &Known) -> Vec<Evidence> {
    let found = left_behind(known).map(|says| Evidence { source: EvidenceSource::Process, says, at: Time::now() });
    let Some(live) = &known.live else { return found.into_iter().collect() };
    // What the supervisor saw of processes is older than what is there now.
    let mut evidence: Vec<_> =
        live.evidence.iter().filter(|old| found.is_none() || old.source != EvidenceSource::Process).cloned().collect();
    evidence.extend(found);
    evidence.push(Evidence {
        source: EvidenceSource::Heartbeat,
        says: format!("said {}", live.status.as_str()),
        at: live.heartbeat_at,
    });
    if let Some(resources) = &live.resources {
        let says = resources_text(resources);
        evidence.push(Evidence { source: EvidenceSource::Process, says, at: resources.at });
    }
    if let Some(changes) = &live.changes {
        let says =
            format!("{}, {} changed", counted(changes.commits, "commit"), counted(changes.files_changed, "file"));
        evidence.push(Evidence { source: EvidenceSource::Git, says, at: changes.at });
    }
    evidence.sort_by_key(|evidence| evidence.source);
    evidence
}
