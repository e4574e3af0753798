//! A repository with workers whose work is in review, and what tests ask of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::git::Repository;
use crate::git::fixture::{Fixture, branch, put};
use crate::landing::{
    ApprovedGates, LandEvent, LandOptions, Landed, Landing, NewReview, Outcome, Report, Returned, Waiting,
};
use crate::model::agent::RuntimeKind;
use crate::model::settings::{Durability, Gate, Strategy};
use crate::model::ticket::{Ticket, TicketState};
use crate::model::worker::{Attempt, Outcome as WorkerOutcome, Phase, Place, StackedOn, Worker};
use crate::model::{CommitId, RunId, Time, WorkerId};
use crate::queue::{ClaimRequest, Completion, FileQueue, NewTicket, Queue};
use crate::store::{StatePaths, Store};

/// Everything landing works on.
pub(super) struct Yard {
    /// The repository's folder and helpers.
    pub(super) git: Fixture,
    /// The repository.
    pub(super) repository: Repository,
    /// The state folder.
    pub(super) paths: StatePaths,
    /// The store.
    pub(super) store: Arc<Store>,
    /// The queue.
    pub(super) queue: FileQueue,
    /// The run.
    run: RunId,
    /// What was told while landing, one word an event.
    pub(super) told: RefCell<Vec<String>>,
}

/// Options that release nothing; tests change what they are about.
pub(super) fn options() -> LandOptions<'static> {
    let names = ["PATH", "HOME"].map(OsString::from);
    let environment = std::env::vars_os().filter(|(name, _)| names.contains(name)).collect();
    LandOptions {
        strategy: Strategy::Merge,
        gates: ApprovedGates::default(),
        environment,
        settings_env: BTreeMap::new(),
        gate_timeout: Duration::from_secs(30),
        commit_timeout: Duration::from_secs(30),
        message: &|worker, _| Ok(format!("Land {}\n\nSwarm-Ticket: {}", worker.id, worker.ticket)),
        prepare: None,
        speculate_after: None,
        ends: Arc::default(),
        stop: None,
        rebuilds: 3,
        batch: 8,
    }
}

/// Trusted gates by name and command.
pub(super) fn gates(gates: &[(&str, &str)]) -> ApprovedGates {
    let gates: Vec<_> = gates.iter().map(|(name, run)| gate(name, run)).collect();
    ApprovedGates::check(&gates, |_| true).unwrap()
}

/// One gate.
pub(super) fn gate(name: &str, run: &str) -> Gate {
    Gate { name: name.to_owned(), run: run.to_owned(), timeout: None, retry: 0 }
}

/// Options that stop nobody, because nobody runs, and so release what landed.
pub(super) fn releasing() -> LandOptions<'static> {
    LandOptions { stop: Some(&|workers| workers.iter().map(|_| Ok(())).collect()), ..options() }
}

pub(super) fn id(worker: &str) -> WorkerId {
    worker.parse().unwrap()
}

pub(super) fn verdict(by: &str) -> NewReview {
    NewReview { by: by.to_owned(), text: "looks right".to_owned(), commit: None }
}

impl Yard {
    pub(super) fn new() -> Self {
        Self::on(Fixture::new())
    }

    pub(super) fn on(git: Fixture) -> Self {
        let repository = git.open();
        let paths = StatePaths::new(repository.common_dir());
        let store = Arc::new(Store::open(&paths, Durability::Normal).unwrap());
        let queue = FileQueue::new(Arc::clone(&store), "test");
        Self { git, repository, paths, store, queue, run: RunId::random(), told: RefCell::default() }
    }

    pub(super) fn landing(&self) -> Landing<'_> {
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

    /// A worker whose finished work changes some files, in review.
    pub(super) fn worker(&self, name: &str, files: &[(&str, &str)]) -> WorkerId {
        let base = self.git.head("main");
        let work = self.git.branch(&format!("swarm/{name}"), files);
        self.finished(name, base, work, None)
    }

    /// The same, started from the branch of another worker.
    pub(super) fn stacked(&self, name: &str, on: &str, files: &[(&str, &str)]) -> WorkerId {
        let (start, path) = (format!("swarm/{on}"), self.worktree(name));
        let base = self.git.head(&start);
        let own = format!("swarm/{name}");
        self.git.git(&self.git.root, &["worktree", "add", "-q", "-b", &own, path.to_str().unwrap(), &start]);
        for (file, text) in files {
            put(&path.join(file), text);
        }
        let work = self.git.commit_in(&path, &format!("work of {own}"));
        let stacked_on = StackedOn { ticket: on.parse().unwrap(), branch: branch(&start) };
        self.finished(name, base, work, Some(stacked_on))
    }

    /// A worker in review.
    fn finished(&self, name: &str, base: CommitId, work: CommitId, stacked_on: Option<StackedOn>) -> WorkerId {
        self.publish(name);
        let fence = self.claim(name);
        self.queue.complete(&name.parse().unwrap(), fence, Completion::Review).unwrap();
        let place = Place {
            worktree: self.worktree(name),
            branch: branch(&format!("swarm/{name}")),
            base,
            target: branch("main"),
            first_port: 0,
            port_count: 0,
            made_branch: true,
            made_paths: Vec::new(),
            stacked_on,
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
        let phase = Phase::Ended { outcome: WorkerOutcome::Finished { commit: work }, at: Time::now() };
        let worker = Worker {
            id: id(name),
            ticket: name.parse().unwrap(),
            title: format!("Do {name}"),
            agent: "shell".parse().unwrap(),
            runtime: RuntimeKind::Command,
            place,
            attempt,
            phase,
            created_at: Time::now(),
        };
        self.store.put_worker(&worker).unwrap();
        worker.id
    }

    /// A worker whose work was approved.
    pub(super) fn approved(&self, name: &str, files: &[(&str, &str)]) -> WorkerId {
        let worker = self.worker(name, files);
        self.landing().approve(&worker, verdict("Person")).unwrap();
        worker
    }

    fn publish(&self, name: &str) {
        let title = format!("Do {name}");
        let ticket = Ticket { title, max_attempts: 3, ..Ticket::plain(name.parse().unwrap()) };
        self.queue.publish(&NewTicket { ticket, dedupe_key: name.to_owned() }).unwrap();
    }

    /// A further attempt of a worker's ticket, in review with the work as it is.
    pub(super) fn publish_again(&self, worker: &WorkerId) {
        let ticket = Ticket::plain(worker.as_str().parse().unwrap());
        self.queue.publish(&NewTicket { ticket, dedupe_key: format!("{worker} again") }).unwrap();
        let fence = self.claim(worker.as_str());
        self.queue.complete(&worker.as_str().parse().unwrap(), fence, Completion::Review).unwrap();
        self.store
            .update_worker::<crate::store::StoreError>(worker, |row| {
                row.attempt.fence = fence;
                Ok(())
            })
            .unwrap();
    }

    /// Takes a ticket; the fence.
    fn claim(&self, name: &str) -> u64 {
        let claim = self.queue.claim(&ClaimRequest {
            node: "test".to_owned(),
            capabilities: Vec::new(),
            limit: 1,
            only: Some(vec![name.parse().unwrap()]),
            lease: Duration::from_secs(60),
            request_id: None,
        });
        claim.unwrap()[0].fence
    }

    pub(super) fn worktree(&self, name: &str) -> PathBuf {
        self.git.worktrees.join(format!("swarm-{name}"))
    }

    /// Lands several workers.
    pub(super) fn land_all(&self, workers: &[WorkerId], options: &LandOptions<'_>) -> Vec<Report> {
        let mut events = |event: LandEvent<'_>| {
            let word = match event {
                LandEvent::WaitingForOthers => "waiting".to_owned(),
                LandEvent::Resumed(report) => format!("resumed {}", report.worker),
                LandEvent::Started(worker) => format!("started {worker}"),
                LandEvent::GateStarted(_, gate) => format!("gate {gate}"),
                LandEvent::GateEnded(_, report) => {
                    let word = if report.passed { "passed" } else { "failed" };
                    format!("{word} {}{}", report.name, if report.cached { " cached" } else { "" })
                }
                LandEvent::Rebuilding(worker) => format!("rebuilding {worker}"),
                LandEvent::Ended(report) => format!("ended {}", report.worker),
            };
            self.told.borrow_mut().push(word);
        };
        self.landing().land(workers, options, &mut events).unwrap()
    }

    /// Finishes or takes back what dead processes left.
    pub(super) fn resumed(&self, options: &LandOptions<'_>) -> Vec<Report> {
        let landing = self.landing();
        let _turn = landing.take_turn(&mut |_| ()).unwrap();
        landing.resume_in_turn(options).unwrap()
    }

    /// Lands one worker.
    pub(super) fn land(&self, worker: &WorkerId, options: &LandOptions<'_>) -> Outcome {
        self.land_all(std::slice::from_ref(worker), options).remove(0).outcome.unwrap()
    }

    pub(super) fn landed(&self, worker: &WorkerId, options: &LandOptions<'_>) -> Landed {
        match self.land(worker, options) {
            Outcome::Landed(landed) => landed,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn returned(&self, worker: &WorkerId, options: &LandOptions<'_>) -> Returned {
        match self.land(worker, options) {
            Outcome::Returned(returned) => returned,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn waiting(&self, worker: &WorkerId, options: &LandOptions<'_>) -> Waiting {
        match self.land(worker, options) {
            Outcome::Waiting(waiting) => waiting,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn state(&self, worker: &WorkerId) -> TicketState {
        self.queue.ticket(&worker.as_str().parse().unwrap()).unwrap().unwrap().state
    }

    pub(super) fn head(&self) -> CommitId {
        self.git.head("main")
    }

    /// A file of the target.
    pub(super) fn on_target(&self, path: &str) -> String {
        self.git.git(&self.git.root, &["show", &format!("main:{path}")])
    }

    pub(super) fn keep_refs(&self) -> String {
        self.git.git(&self.git.root, &["for-each-ref", "--format=%(refname)", "refs/swarm/keep"])
    }

    /// Nothing of a landing is left: no intent, lock, journal, scratch worktree.
    pub(super) fn assert_tidy(&self) {
        assert_eq!(self.store.intents().unwrap(), []);
        assert_eq!(self.git.git(&self.git.root, &["status", "--porcelain"]), "");
        let common = self.repository.common_dir();
        assert!(!common.join("index.lock").exists());
        for folder in ["swarm/moves", "swarm/scratch"] {
            assert_eq!(std::fs::read_dir(common.join(folder)).map_or(0, Iterator::count), 0, "{folder}");
        }
        assert!(!self.git.git(&self.git.root, &["worktree", "list"]).contains("+gate"));
        let names =
            std::fs::read_dir(&self.git.worktrees).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let ours: Vec<_> = names.filter(|name| name.as_encoded_bytes().starts_with(b"+")).collect();
        assert!(ours.is_empty(), "{ours:?}");
    }

    /// A further commit on a worker's branch.
    pub(super) fn more_work(&self, worker: &WorkerId, path: &str, text: &str) -> CommitId {
        let worktree = self.worktree(worker.as_str());
        put(&worktree.join(path), text);
        self.git.commit_in(&worktree, "more work")
    }

    pub(super) fn read(&self, path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }
}
