//! The file engine under the contract, and what only it promises.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::FileQueue;
use crate::model::Time;
use crate::model::settings::Durability;
use crate::queue::Queue;
use crate::queue::contract::{Engine, publish, queue_contract, request, ticket};
use crate::store::{StatePaths, Store};

/// A file queue in a temp folder.
struct FileEngine(TempDir);

impl Engine for FileEngine {
    fn fresh() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn handle(&self) -> Arc<dyn Queue> {
        Self::handle_at(&self.address())
    }

    fn address(&self) -> String {
        self.0.path().to_str().unwrap().to_owned()
    }

    fn handle_at(address: &str) -> Arc<dyn Queue> {
        let paths = StatePaths::new(address.as_ref());
        Arc::new(FileQueue::new(Arc::new(Store::open(&paths, Durability::Normal).unwrap()), "tests"))
    }
}

#[test]
fn a_ticket_that_waits_is_never_too_old() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&StatePaths::new(folder.path()), Durability::Normal).unwrap());
    let queue = FileQueue::new(store.clone(), "tests");
    publish(&queue, ticket("waits")).unwrap();
    let years = Duration::from_secs(5 * 365 * 24 * 3600);
    store.prune_events(Time::now().after(years)).unwrap();
    assert_eq!(queue.events_since(0, 9).unwrap(), []);
    assert_eq!(queue.claim(&request()).unwrap()[0].ticket, ticket("waits"));
    assert_eq!(queue.events_since(0, 9).unwrap().len(), 1);
}

queue_contract!(FileEngine, "queue::file::tests");
