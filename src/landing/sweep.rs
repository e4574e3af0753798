//! What nodes left on the server that died between sending a bundle and saying so.
//!
//! A bundle is sent first, and then an entry of the board is written that points to it. So a young one to which nothing
//! points may be needed in a moment, and one that has been there for a while is not: who needs it again sends it again.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::LandingError;
use super::shared::{CARRIED, Shared, TIPS};
use super::transport::Parcel;
use crate::model::node::{Carried, Tip};
use crate::queue::QueueError;

impl Shared<'_> {
    /// Deletes what has been on the server for `age` and nothing points to; how much of that there was. Where a git remote
    /// carries commits nothing is deleted: it does not tell since when it has a reference.
    ///
    /// # Errors
    /// Where anything on the board cannot be read, such as what a newer program wrote, nothing is deleted.
    pub(crate) fn sweep(&self, age: Duration) -> Result<usize, LandingError> {
        let Some(objects) = self.transport().objects() else { return Ok(0) };
        let mut old = objects.stored().map_err(QueueError::from)?;
        old.retain(|stored| stored.age >= age);
        if old.is_empty() {
            return Ok(0);
        }
        // Read afterwards: whatever came to be needed meanwhile is there, and what is sent again is not deleted.
        let needed = self.needed()?;
        old.retain(|stored| match &stored.name {
            Some(name) => Parcel::is_name(name) && !needed.contains(name),
            None => true,
        });
        for stored in &old {
            objects.discard(stored).map_err(QueueError::from)?;
        }
        Ok(old.len())
    }

    /// The names of the bundles that entries of the board point to.
    fn needed(&self) -> Result<BTreeSet<String>, LandingError> {
        let mut needed = BTreeSet::new();
        for Tip { commit, chain, .. } in self.entries(TIPS)? {
            needed.extend(chain.iter().chain([&commit]).map(|commit| Parcel::Tip(commit).object()));
        }
        for carried in self.entries::<Carried>(CARRIED)? {
            needed.insert(Parcel::Carried(&carried.ticket, carried.commit()).object());
        }
        Ok(needed)
    }

    /// All entries of a kind.
    fn entries<T: DeserializeOwned>(&self, keys: &str) -> Result<Vec<T>, LandingError> {
        let entries = self.board.entries(keys).map_err(QueueError::from)?.into_iter();
        let read = entries.map(|entry| {
            serde_json::from_slice(&entry.value).map_err(|source| LandingError::UnknownEntry { key: entry.key, source })
        });
        read.collect()
    }
}
