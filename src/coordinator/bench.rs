//! Many workers as `benches/status.rs` needs them, and a coordinator's way to wait as `benches/queue_nats` does.

use std::path::Path;
use std::time::Duration;

use super::run::pulse::{PEEK_EVERY, Pulse};
use crate::files::{self, Access, FileLock};
use crate::model::WorkerId;
use crate::model::settings::Durability;
use crate::model::worker::TmuxSession;
use crate::queue::bench::QueueBench;
use crate::queue::{ClaimRequest, FileQueue, NewTicket, Queue};
use crate::store::{StatePaths, Store};

/// Copies of one real worker, alive as far as `status` can see for as long as this value lives; every failure panics.
pub struct ManyWorkers {
    /// What a living supervisor of each would hold.
    _locks: Vec<FileLock>,
}

impl ManyWorkers {
    /// Makes copies `<worker>-1`, `<worker>-2`, ... of `worker` in the repository with this common folder, until there
    /// are `count` workers in all.
    pub fn copy(common_dir: &Path, worker: &str, count: usize) -> Self {
        let paths = StatePaths::new(common_dir);
        let store = std::sync::Arc::new(Store::open(&paths, Durability::Normal).expect("the state opens"));
        let queue = FileQueue::new(store.clone(), "bench");
        let id: WorkerId = worker.parse().expect("a worker id");
        let model = store.worker(&id).expect("the state is readable").expect("the worker exists");
        let ticket = queue.ticket(&model.ticket).expect("the state is readable").expect("the ticket exists").ticket;
        let live = files::read_if_exists(&paths.live(&id)).expect("it is readable").expect("the worker has been seen");
        let mut locks = Vec::new();
        for number in 1..count {
            let name = format!("{worker}-{number}");
            let mut ticket = ticket.clone();
            ticket.id = name.parse().expect("a ticket id");
            let new = NewTicket { ticket: ticket.clone(), dedupe_key: name.clone() };
            queue.publish(&new).expect("the name is fresh");
            let request = ClaimRequest {
                node: "bench".to_owned(),
                capabilities: Vec::new(),
                limit: 1,
                only: Some(vec![ticket.id.clone()]),
                lease: Duration::from_secs(3600),
                request_id: None,
            };
            let claim = queue.claim(&request).expect("a claim is answered").pop().expect("the ticket waits");
            let mut copy = model.clone();
            copy.id = WorkerId::of(&ticket.id, 1);
            copy.ticket = ticket.id;
            copy.place.worktree.set_file_name(&name);
            copy.place.branch = format!("swarm/{name}").parse().expect("a branch name");
            copy.attempt.fence = claim.fence;
            copy.attempt.tmux = copy.attempt.tmux.map(|tmux| TmuxSession { id: format!("${number}"), ..tmux });
            files::write_atomically(&paths.live(&copy.id), &live, Access::Private).expect("it is writable");
            locks.push(FileLock::wait(&paths.supervisor_lock(&copy.id)).expect("the lock is free"));
            store.put_worker(&copy).expect("the state is writable");
        }
        Self { _locks: locks }
    }
}

/// A process that waits for tickets as a coordinator does; every failure panics.
pub struct Waiting {
    queue: QueueBench,
    pulse: Pulse,
}

impl Waiting {
    /// Waits for the tickets of a queue.
    pub fn on(queue: QueueBench) -> Self {
        Self { pulse: Pulse::of(queue.store(), &**queue.queue()), queue }
    }

    /// Waits for the next ticket and claims it.
    pub fn next(&self) -> (String, u64) {
        loop {
            let mark = self.pulse.mark().expect("the state is readable");
            if let Some(claim) = self.queue.claim() {
                return claim;
            }
            let mut wait = self.pulse.wait(mark, None);
            while wait.goes_on() {
                std::thread::sleep(PEEK_EVERY);
            }
        }
    }
}
