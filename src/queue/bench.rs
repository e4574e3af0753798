//! The queue's engines as `benches/queue.rs` and `benches/queue_nats.rs` see them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{ClaimRequest, Completion, Engine, FileQueue, Login, NewTicket, Queue, Repository, Server};
use crate::model::queue::TlsFiles;
use crate::model::settings::Durability;
use crate::model::ticket::Ticket;
use crate::store::{StatePaths, Store};

/// A queue with plain arguments; every failure panics.
pub struct QueueBench(Arc<dyn Queue>);

impl QueueBench {
    /// Opens the queue whose state is under `folder`.
    pub fn open(folder: &Path) -> Self {
        let store = Store::open(&StatePaths::new(folder), Durability::Normal);
        Self(Arc::new(FileQueue::new(Arc::new(store.expect("the bench has a folder of its own")), "bench")))
    }

    /// Opens the queue of the server at `url`, with a replica of its own under `folder`.
    pub fn open_nats(url: &str, folder: &Path) -> Self {
        let store = Store::open(&StatePaths::new(folder), Durability::Normal);
        let store = Arc::new(store.expect("the bench has a folder of its own"));
        let server = Server {
            address: url.to_owned(),
            project: "bench".to_owned(),
            login: Login::Nobody,
            tls: TlsFiles::default(),
            replicas: 1,
        };
        let engine = Engine::Server { server, falls_back: false };
        let repository = Repository { founder: &|| Some("bench".to_owned()), has: &|_| true };
        let opened = super::open(&store, &engine, &repository, "bench").expect("the bench's server answers");
        Self(opened.queue)
    }

    /// Publishes a ticket of ordinary size.
    pub fn publish(&self, name: &str) {
        let id = name.parse().expect("the bench's names are good");
        let body = "Find what is slow, and say how you measured it.".to_owned();
        let ticket = Ticket { title: "Make the parser faster".to_owned(), body, ..Ticket::plain(id) };
        let new = NewTicket { ticket, dedupe_key: format!("key of {name}") };
        self.0.publish(&new).expect("a fresh name is published");
    }

    /// Claims the best ticket, if there is one; its name and fence.
    pub fn claim(&self) -> Option<(String, u64)> {
        let request = ClaimRequest {
            node: "bench".to_owned(),
            capabilities: Vec::new(),
            limit: 1,
            only: None,
            lease: Duration::from_secs(60),
        };
        let claim = self.0.claim(&request).expect("a claim is answered").pop()?;
        Some((claim.ticket.id.into(), claim.fence))
    }

    /// Completes a claimed ticket.
    pub fn complete(&self, name: &str, fence: u64) {
        let id = name.parse().expect("the name came from a claim");
        self.0.complete(&id, fence, Completion::Review).expect("the lease is held");
    }

    /// What `status` does: opens the state for reading and counts its tickets.
    pub fn count_afresh(folder: &Path) -> usize {
        let store = Store::open_read_only(&StatePaths::new(folder)).expect("the state is readable");
        let store = store.expect("the state exists");
        FileQueue::new(store.into(), "bench").states().expect("the state is readable").len()
    }
}
