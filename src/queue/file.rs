//! The file engine.

use std::sync::Arc;

use crate::store::Store;

/// The queue on the project's own store.
#[derive(Debug)]
pub(crate) struct FileQueue {
    /// Where entries are kept.
    store: Arc<Store>,
    /// Who acts, for events.
    by: String,
}

impl FileQueue {
    /// A queue on an open store; `by` names who acts in events.
    pub(crate) fn new(store: Arc<Store>, by: &str) -> Self {
        Self { store, by: by.to_owned() }
    }
}
