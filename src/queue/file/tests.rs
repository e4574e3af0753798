//! The file engine under the contract, and what only it promises.

use std::sync::Arc;

use tempfile::TempDir;

use super::FileQueue;
use crate::model::settings::Durability;
use crate::queue::Queue;
use crate::queue::contract::{Engine, queue_contract};
use crate::store::{StatePaths, Store};

/// A file queue in a temp folder.
struct FileEngine(TempDir);

impl Engine for FileEngine {
    fn fresh() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn handle(&self) -> Box<dyn Queue> {
        Self::handle_at(&self.address())
    }

    fn address(&self) -> String {
        self.0.path().to_str().unwrap().to_owned()
    }

    fn handle_at(address: &str) -> Box<dyn Queue> {
        let paths = StatePaths::new(address.as_ref());
        Box::new(FileQueue::new(Arc::new(Store::open(&paths, Durability::Normal).unwrap()), "tests"))
    }
}

queue_contract!(FileEngine, "queue::file::tests");
