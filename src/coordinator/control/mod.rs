//! The control surface of one repository on this machine.

mod act;
mod agents;
mod attach;
mod background;
mod budget;
mod bus;
mod care;
mod carry;
mod clean;
mod collect;
mod conflicts;
mod doctor;
mod events;
mod give_back;
mod hear;
mod import;
mod init;
mod mend;
mod merge;
mod migrate;
mod node_events;
mod nodes;
mod plan;
mod pull_request;
mod queue;
mod radar;
mod recover;
mod resolve;
mod review;
mod review_view;
mod reviewers;
mod rewind;
mod ring;
mod run;
mod scale;
mod send;
mod sessions;
mod spawn;
mod stacked;
mod stats;
mod status;
mod ticket_log;
mod tickets;
mod topology;
mod trust;
mod wait;
mod why;

use std::time::{Duration, Instant};

use super::failure::{Failure, FailureKind};
use super::project::{Call, Project};
use crate::files::FileLock;
use crate::landing::PullRecord;
use crate::model::event::{Event, EventRecord};
use crate::model::ticket::TicketState;
use crate::model::worker::{Changes, Live, Liveness, Phase, Verdict, Worker};
use crate::model::{RunId, TicketId, Time, WorkerId};
use crate::store::read_live;
use crate::supervisor::{Client, RuntimePaths};

pub(crate) use act::Acted;
pub(crate) use attach::{Attachment, LogPaths};
pub(in crate::coordinator) use background::holder_name;
pub(crate) use background::{UpHandover, UpRequest};
pub(crate) use budget::{BudgetRequest, SpendBy};
pub(crate) use bus::{BusFilter, Heard, PublishRequest};
pub(crate) use clean::CleanRequest;
pub(crate) use events::{EventFilter, EventKind, EventReader, Since};
pub(crate) use import::ImportRequest;
pub(crate) use merge::{MergeProgress, MergeRequest};
pub(crate) use node_events::NodeEventReader;
pub(crate) use nodes::JoinRequest;
pub(crate) use plan::PlanRequest;
pub(crate) use queue::QueueFilter;
pub(crate) use recover::KeptDiff;
pub(crate) use resolve::{Resolving, has_markers};
pub(crate) use review::{CommentChoice, ReviewRequest};
pub(crate) use rewind::RewindRequest;
pub(in crate::coordinator) use run::{Beside, Choice};
pub(crate) use scale::{PolicyChange, ScaleChange};
pub(crate) use send::SendRequest;
pub(crate) use spawn::{SpawnProgress, SpawnRequest};
pub(crate) use tickets::NewTicketRequest;
pub(in crate::coordinator) use topology::InForce;
pub(crate) use wait::WaitRequest;

/// How long a supervisor that lives may take to listen.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// How often it is tried.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// One repository under one command.
pub(crate) struct Control {
    /// The repository.
    project: Project,
    /// This command, in events and tool logs.
    run: RunId,
    /// Whether commands of the repository that this call runs become trusted.
    trusts: bool,
}

/// What is known about a worker at one moment.
pub(super) struct Known {
    /// Its row.
    worker: Worker,
    /// Whether its supervisor lives.
    liveness: Liveness,
    /// What its supervisor wrote last in this attempt.
    live: Option<Live>,
    /// Its changes, as far as they are known.
    changes: Option<Changes>,
    /// The verdict.
    verdict: Verdict,
    /// Where its ticket is.
    ticket_state: Option<TicketState>,
    /// Its pull request as it was seen last.
    pull: Option<PullRecord>,
    /// Processes of a lost worker's agent that run on, where it was looked for them.
    left_behind: Vec<u32>,
}

impl Control {
    /// Control of the repository around the call's folder. With `trusts`, set-up and gate commands that a call
    /// runs become trusted.
    pub(crate) fn open(call: Call, trusts: bool) -> Result<Self, Failure> {
        Self::open_as(call, trusts, RunId::random())
    }

    /// The same as a part of the run `run`.
    fn open_as(call: Call, trusts: bool, run: RunId) -> Result<Self, Failure> {
        Ok(Self { project: Project::open(call, run.clone())?, run, trusts })
    }

    /// The same control, which says what a person who waits should know: a clause at a time.
    pub(crate) fn with_listener(self, listener: impl Fn(&str) + 'static) -> Self {
        Self { project: self.project.with_listener(listener), ..self }
    }

    /// The role of whoever coordinates here.
    pub(in crate::coordinator) fn role(&self) -> Result<String, Failure> {
        Ok(self.project.coordinator_role(self.project.queue()?.server().is_some()))
    }

    /// Says what is going on.
    fn tell(&self, what: &str) {
        self.project.tell(what);
    }

    /// The history of the target as a graph for a person.
    pub(crate) fn graph(&self, color: bool) -> Result<String, Failure> {
        let target = self.project.repository.default_target()?;
        Ok(self.project.repository.graph(target.as_str(), color)?)
    }

    /// Takes back the trust in this repository's commands.
    pub(crate) fn forget_trust(&self) -> Result<(), Failure> {
        self.project.trust()?.revoke(self.project.repository.common_dir())?;
        Ok(())
    }

    /// Ends the tmux server of this repository's settings with everything in it.
    pub(crate) fn kill_tmux_server(&self) -> Result<(), Failure> {
        if let Some(tmux) = self.project.tmux()? {
            tmux.kill_server()?;
        }
        Ok(())
    }

    /// The worker that `name` means: a worker id, or a ticket id with one worker.
    fn worker(&self, name: &str) -> Result<Worker, Failure> {
        let id: WorkerId = name.parse()?;
        match self.project.store()?.worker(&id)? {
            Some(worker) => Ok(worker),
            None => Err(self.no_worker(&id)),
        }
    }

    /// That there is no worker of that name here, though another node may have one.
    fn no_worker(&self, id: &WorkerId) -> Failure {
        let entry = id.as_str().parse().ok().and_then(|ticket| self.project.queue().ok()?.ticket(&ticket).ok()?);
        let own = self.project.node();
        let elsewhere = entry.and_then(|entry| entry.node.filter(|node| node != own.as_str()));
        let text = format!("there is no worker `{id}`");
        match elsewhere.filter(|node| crate::queue::client_name(node).is_none()) {
            Some(node) => Failure::new(FailureKind::NotFound, format!("{text} here: node `{node}` has its ticket"))
                .hint("call it in that node's clone; swarm status and swarm why tell of it here too"),
            None => Failure::new(FailureKind::NotFound, text).hint("swarm status --all lists workers"),
        }
    }

    /// The workers that names mean, or with `all` every one that is not released.
    fn select(&self, names: &[String], all: bool) -> Result<Vec<Worker>, Failure> {
        if all {
            let workers = self.project.store()?.workers()?;
            return Ok(workers.into_iter().filter(|worker| !is_released(worker)).collect());
        }
        names.iter().map(|name| self.worker(name)).collect()
    }

    /// What is known about a worker now.
    fn know(&self, worker: Worker, ticket_state: Option<TicketState>) -> Known {
        let (worker, liveness) = self.look_twice(worker);
        let last = read_live(&self.project.paths.live(&worker.id)).ok().flatten();
        let live = last.clone().filter(|live| live.attempt == worker.attempt.number);
        let changes = match &live {
            Some(live) => live.changes,
            None => worker.early_changes(last.as_ref()),
        };
        let verdict = worker.verdict(liveness, live.as_ref(), Time::now());
        let pull = match ticket_state {
            Some(TicketState::Approved) => PullRecord::load(&self.project.paths, &worker.id).ok().flatten(),
            _ => None,
        };
        Known { worker, liveness, live, changes, verdict, ticket_state, pull, left_behind: Vec::new() }
    }

    /// Whether a worker's supervisor lives. One that is gone may have written down the end between our two looks, and who
    /// ended is not lost.
    fn look_twice(&self, worker: Worker) -> (Worker, Liveness) {
        let liveness = self.liveness(&worker);
        let is_at_work = matches!(worker.phase, Phase::Preparing { .. } | Phase::Supervised { .. });
        if liveness == Liveness::Dead
            && is_at_work
            && let Ok(Some(now)) = self.project.store().and_then(|store| Ok(store.worker(&worker.id)?))
        {
            let liveness = self.liveness(&now);
            return (now, liveness);
        }
        (worker, liveness)
    }

    /// Whether the worker's supervisor lives, or before there is one, its spawner.
    fn liveness(&self, worker: &Worker) -> Liveness {
        match FileLock::is_held(&self.project.paths.supervisor_lock(&worker.id)) {
            Ok(true) => return Liveness::Alive,
            Err(_) => return Liveness::Unreadable,
            Ok(false) => {}
        }
        match &worker.phase {
            Phase::Preparing { .. } => match FileLock::is_held(&self.project.paths.spawn_lock(&worker.id)) {
                Ok(true) => Liveness::Alive,
                Ok(false) => Liveness::Dead,
                Err(_) => Liveness::Unreadable,
            },
            _ => Liveness::Dead,
        }
    }

    /// Where a ticket is in the queue.
    fn ticket_state(&self, ticket: &TicketId) -> Result<Option<TicketState>, Failure> {
        Ok(self.project.queue()?.ticket(ticket)?.map(|known| known.state))
    }

    /// A connection to the worker's supervisor; `None` when it is gone.
    fn client(&self, worker: &WorkerId) -> Result<Option<Client>, Failure> {
        let deadline = Instant::now() + CONNECT_WITHIN;
        // One that has just begun holds its lock before it listens.
        while FileLock::is_held(&self.project.paths.supervisor_lock(worker))? {
            let socket = RuntimePaths::new(self.project.repository.common_dir(), worker)?.socket();
            if let Some(client) = Client::connect(&socket)? {
                return Ok(Some(client));
            }
            if Instant::now() >= deadline {
                let text = format!("the supervisor of `{worker}` lives and does not listen on `{}`", socket.display());
                return Err(Failure::new(FailureKind::TimedOut, text)
                    .hint("is XDG_RUNTIME_DIR the same as when it was spawned? swarm why shows its process"));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(None)
    }

    /// Writes an event about a worker without a living supervisor.
    fn log(&self, worker: &Worker, event: Event) -> Result<(), Failure> {
        let record = EventRecord::now(&self.run, &worker.ticket, &worker.id, event);
        Ok(self.project.store()?.record_event(&self.project.paths, &record)?)
    }
}

/// Whether a worker's worktree was released.
fn is_released(worker: &Worker) -> bool {
    matches!(worker.phase, Phase::Released { .. })
}

/// Folds the results for several subjects into one exit: all failed, some, or none.
pub(super) fn partial(done: usize, failures: Vec<(String, Failure)>) -> Result<(), Failure> {
    let Some((_, first)) = failures.first() else { return Ok(()) };
    let same = failures.iter().all(|(_, failure)| failure.kind == first.kind);
    let kind = match (done, same) {
        (0, true) => first.kind,
        (0, false) => FailureKind::Failed,
        _ => FailureKind::Partial,
    };
    let mut all = failures.into_iter();
    let Some((_, mut failure)) = all.next() else { return Ok(()) };
    failure.kind = kind;
    for (subject, other) in all {
        failure.chain.push(format!("{subject}: {}", other.chain.join(": ")));
        failure.hints.extend(other.hints);
    }
    failure.hints.dedup();
    Err(failure)
}
