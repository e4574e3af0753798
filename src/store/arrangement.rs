//! What a topology needs to be remembered: which one somebody chose, and which supervisor owns which ticket.

use std::collections::BTreeMap;

use rusqlite::params;

use super::event::{document, parse};
use super::{Store, StoreError};
use crate::model::TicketId;
use crate::model::topology::TopologyRecord;

/// The key of the topology that somebody chose.
const TOPOLOGY: &str = "topology";

impl Store {
    /// The topology that somebody chose; `None` where the configuration decides.
    pub(crate) fn topology(&self) -> Result<Option<TopologyRecord>, StoreError> {
        let text = self.meta(TOPOLOGY)?.filter(|text| !text.is_empty());
        text.map(|text| parse("topology", TOPOLOGY, &text)).transpose()
    }

    /// Keeps the topology that somebody chose, or that nobody does any more.
    pub(crate) fn set_topology(&self, record: Option<&TopologyRecord>) -> Result<(), StoreError> {
        let text = record.map(|record| document("topology", TOPOLOGY, record)).transpose()?;
        self.set_meta(TOPOLOGY, &text.unwrap_or_default())
    }

    /// The supervisor that owns each ticket.
    pub(crate) fn owners(&self) -> Result<BTreeMap<TicketId, String>, StoreError> {
        self.read(|txn| {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
            let rows = txn.rows("SELECT ticket, supervisor FROM owners", [], read)?;
            Ok(rows.into_iter().filter_map(|(ticket, owner)| Some((ticket.parse().ok()?, owner))).collect())
        })
    }

    /// Stores who owns each ticket, in place of all that was stored before.
    pub(crate) fn set_owners(&self, owners: &BTreeMap<TicketId, String>) -> Result<(), StoreError> {
        self.write(|txn| {
            txn.run("DELETE FROM owners", [])?;
            for (ticket, owner) in owners {
                let sql = "INSERT OR REPLACE INTO owners(ticket, supervisor) VALUES(?1, ?2)";
                txn.run(sql, params![ticket.as_str(), owner])?;
            }
            Ok(())
        })
    }
}
