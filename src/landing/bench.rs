//! Approved work without agents, as `benches/landing.rs` needs it, and commits on their way through a server, as
//! `benches/queue_nats` does; every failure panics.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::transport::{Parcel, Transport};
use super::{ApprovedGates, LandEvent, LandOptions, Landing, NewReview};
use crate::git::Repository;
use crate::model::agent::RuntimeKind;
use crate::model::settings::{Durability, Gate, Strategy};
use crate::model::ticket::Ticket;
use crate::model::worker::{Attempt, Outcome, Phase, Place, Worker};
use crate::model::{CommitId, RunId, Time, WorkerId};
use crate::queue::bench::QueueBench;
use crate::queue::{ClaimRequest, Completion, FileQueue, NewTicket, Queue};
use crate::store::{StatePaths, Store};

/// Workers whose agents are said to have finished, on branches that are there.
pub struct ReadyWork {
    repository: Repository,
    paths: StatePaths,
    store: Arc<Store>,
    queue: FileQueue,
    run: RunId,
    workers: Vec<WorkerId>,
}

impl ReadyWork {
    /// A worker in review for each name, which has the branch `swarm/NAME` and the worktree `worktrees/NAME`.
    pub fn make(repository: &Path, worktrees: &Path, names: &[String]) -> Self {
        let repository = Repository::discover(repository).expect("a repository");
        let paths = StatePaths::new(repository.common_dir());
        let store = Arc::new(Store::open(&paths, Durability::Normal).expect("the state opens"));
        let queue = FileQueue::new(Arc::clone(&store), "bench");
        let mut work = Self { repository, paths, store, queue, run: RunId::random(), workers: Vec::new() };
        for name in names {
            work.add(name, worktrees.join(name));
        }
        work
    }

    /// One of them.
    fn add(&mut self, name: &str, worktree: PathBuf) {
        let ticket = Ticket { title: format!("Do {name}"), ..Ticket::plain(name.parse().expect("a ticket id")) };
        let id = ticket.id.clone();
        let new = NewTicket { ticket, dedupe_key: name.to_owned() };
        self.queue.publish(&new).expect("the name is fresh");
        let request = ClaimRequest {
            node: "bench".to_owned(),
            capabilities: Vec::new(),
            limit: 1,
            only: Some(vec![id.clone()]),
            lease: Duration::from_secs(3600),
            request_id: None,
        };
        let fence = self.queue.claim(&request).expect("a claim is answered").pop().expect("the ticket waits").fence;
        self.queue.complete(&id, fence, Completion::Review).expect("the claim is ours");
        let branch = format!("swarm/{name}").parse().expect("a branch name");
        let target = "main".parse().expect("a branch name");
        let head = |branch| self.repository.branch_head(branch).expect("it is readable").expect("the branch is there");
        let (commit, base) = (head(&branch), head(&target));
        let place = Place {
            worktree,
            branch,
            base,
            target,
            first_port: 0,
            port_count: 0,
            made_branch: true,
            made_paths: Vec::new(),
            stacked_on: None,
        };
        let attempt = Attempt {
            number: 1,
            fence,
            run: self.run.clone(),
            session_id: None,
            started_at: Time::now(),
            headless: true,
            tmux: None,
        };
        let worker = Worker {
            id: WorkerId::of(&id, 1),
            ticket: id,
            title: format!("Do {name}"),
            agent: "shell".parse().expect("an agent's name"),
            runtime: RuntimeKind::Command,
            place,
            attempt,
            phase: Phase::Ended { outcome: Outcome::Finished { commit }, at: Time::now() },
            created_at: Time::now(),
        };
        self.store.put_worker(&worker).expect("the state is writable");
        self.workers.push(worker.id);
    }

    /// The landing of this repository.
    fn landing(&self) -> Landing<'_> {
        Landing {
            repository: &self.repository,
            store: &self.store,
            paths: &self.paths,
            queue: &self.queue,
            run: &self.run,
            remote: None,
            bundle_bytes: u64::MAX,
            shared: None,
        }
    }

    /// Approves all of them.
    pub fn approve(&self) {
        for worker in &self.workers {
            let review = NewReview { by: "Bench".to_owned(), text: String::new(), commit: None };
            self.landing().approve(worker, review).expect("it is in review");
        }
    }

    /// Lands all of them under one gate, so many at a time, and answers how often the gate ran.
    pub fn land(&self, gate: &str, batch: usize) -> u32 {
        let gate = Gate { name: "gate".to_owned(), run: gate.to_owned(), timeout: None, retry: 0 };
        let options = LandOptions {
            speculate_after: Some(Duration::from_secs(1)),
            ends: Arc::default(),
            strategy: Strategy::Merge,
            gates: ApprovedGates::check(&[gate], |_| true).expect("it is trusted"),
            environment: std::env::vars_os().collect(),
            settings_env: BTreeMap::new(),
            gate_timeout: Duration::from_secs(60),
            commit_timeout: Duration::from_secs(60),
            message: &|worker, _| Ok(format!("Merge {}", worker.id)),
            prepare: None,
            stop: None,
            rebuilds: 3,
            batch,
        };
        let mut runs = 0;
        let mut count = |event: LandEvent<'_>| {
            if let LandEvent::GateEnded(_, report) = event
                && !report.cached
            {
                runs += report.tries;
            }
        };
        self.landing().land(&self.workers, &options, &mut count).expect("landing answers");
        runs
    }
}

/// A clone whose commits go through a server.
pub struct BundleWay {
    repository: Repository,
    queue: QueueBench,
}

impl BundleWay {
    /// The clone at `repository`, with the queue of the server at `url`.
    pub fn open(repository: &Path, url: &str) -> Self {
        let repository = Repository::discover(repository).expect("a repository");
        let queue = QueueBench::open_nats(url, repository.common_dir());
        Self { repository, queue }
    }

    /// The way.
    fn transport(&self) -> Transport<'_> {
        let link = self.queue.queue().link().expect("the queue is on a server");
        Transport::open(&self.repository, link, (None, u64::MAX)).expect("the bench's server answers")
    }

    /// Hands a commit over to whoever has `without`.
    pub fn send(&self, commit: &str, without: &str) {
        let (commit, without) = (id(commit), id(without));
        self.transport().send(Parcel::Tip(&commit), &commit, &[without]).expect("the server takes it");
    }

    /// Takes a commit over that was handed over, as the reference `into`.
    pub fn take(&self, commit: &str, into: &str) {
        let commit = id(commit);
        self.transport().take(Parcel::Tip(&commit), &commit, into).expect("it was handed over");
    }

    /// Throws away what was handed over.
    pub fn forget(&self, commit: &str) {
        self.transport().forget(Parcel::Tip(&id(commit))).expect("the server is there");
    }
}

/// A commit's id.
fn id(text: &str) -> CommitId {
    text.parse().expect("git printed it")
}
