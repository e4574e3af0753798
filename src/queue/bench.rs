//! The queue's engines as `benches/queue.rs` and `benches/queue_nats.rs` see them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{
    ClaimRequest, Completion, Engine, FileQueue, Gateway, GatewaySettings, Login, NewTicket, Queue, Renewed,
    Repository, Server,
};
use crate::model::queue::TlsFiles;
use crate::model::settings::{Backoff, Durability};
use crate::model::ticket::Ticket;
use crate::store::{StatePaths, Store};

/// How long the leases of the benches last.
const LEASE: Duration = Duration::from_secs(600);

/// A queue with plain arguments; every failure panics.
pub struct QueueBench {
    queue: Arc<dyn Queue>,
    store: Arc<Store>,
}

/// A gateway, until it is dropped.
pub struct GatewayBench {
    _gateway: Gateway,
}

impl QueueBench {
    /// Opens the queue whose state is under `folder`.
    pub fn open(folder: &Path) -> Self {
        let store = Store::open(&StatePaths::new(folder), Durability::Normal);
        let store = Arc::new(store.expect("the bench has a folder of its own"));
        Self { queue: Arc::new(FileQueue::new(store.clone(), "bench")), store }
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
        Self { queue: opened.queue, store }
    }

    /// The queue itself.
    pub(crate) fn queue(&self) -> &Arc<dyn Queue> {
        &self.queue
    }

    /// The store of its tables.
    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Answers other programs on the server.
    pub fn gateway(&self) -> GatewayBench {
        let backoff = Backoff { first: Duration::from_secs(5), factor: 2, max: Duration::from_secs(60) };
        let settings =
            GatewaySettings { retention: Duration::from_secs(3600), keep_events: Duration::from_secs(3600), backoff };
        let started = Gateway::start(&self.queue, settings).expect("the bench's server answers");
        GatewayBench { _gateway: started.expect("the queue is on a server") }
    }

    /// Publishes a ticket of ordinary size.
    pub fn publish(&self, name: &str) {
        let id = name.parse().expect("the bench's names are good");
        let body = "Find what is slow, and say how you measured it.".to_owned();
        let ticket = Ticket { title: "Make the parser faster".to_owned(), body, ..Ticket::plain(id) };
        let new = NewTicket { ticket, dedupe_key: format!("key of {name}") };
        self.queue.publish(&new).expect("a fresh name is published");
    }

    /// Claims the best ticket, if there is one; its name and fence.
    pub fn claim(&self) -> Option<(String, u64)> {
        self.claim_up_to(1).pop()
    }

    /// Claims the best tickets, so many at most; their names and fences.
    pub fn claim_up_to(&self, limit: usize) -> Vec<(String, u64)> {
        let request = ClaimRequest {
            node: "bench".to_owned(),
            capabilities: Vec::new(),
            limit,
            only: None,
            lease: LEASE,
            request_id: None,
        };
        let claims = self.queue.claim(&request).expect("a claim is answered");
        claims.into_iter().map(|claim| (claim.ticket.id.into(), claim.fence)).collect()
    }

    /// Renews the lease of a claimed ticket.
    pub fn renew(&self, name: &str, fence: u64) {
        let id = name.parse().expect("the name came from a claim");
        let renewed = self.queue.renew(&id, fence, LEASE).expect("a renewal is answered");
        assert!(matches!(renewed, Renewed::Held { .. }), "the lease is held");
    }

    /// Completes a claimed ticket.
    pub fn complete(&self, name: &str, fence: u64) {
        let id = name.parse().expect("the name came from a claim");
        self.queue.complete(&id, fence, Completion::Review).expect("the lease is held");
    }

    /// What `status` does: opens the state for reading and counts its tickets.
    pub fn count_afresh(folder: &Path) -> usize {
        let store = Store::open_read_only(&StatePaths::new(folder)).expect("the state is readable");
        let store = store.expect("the state exists");
        FileQueue::new(store.into(), "bench").states().expect("the state is readable").len()
    }
}
