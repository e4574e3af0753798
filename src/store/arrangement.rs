//! What a topology needs to be remembered: which one somebody chose, which supervisor owns which ticket, and whose turn it is
//! on a ticket that goes round a ring.

use std::collections::BTreeMap;

use rusqlite::params;

use super::event::{document, parse};
use super::{Store, StoreError};
use crate::model::TicketId;
use crate::model::topology::{Token, TopologyRecord};

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

    /// The tokens of tickets that go round a ring.
    pub(crate) fn tokens(&self) -> Result<BTreeMap<TicketId, Token>, StoreError> {
        self.read(|txn| {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
            let rows = txn.rows("SELECT ticket, document FROM tokens", [], read)?;
            let known = rows.iter().filter_map(|(ticket, text)| Some((ticket.parse().ok()?, ticket, text)));
            known.map(|(id, ticket, text)| Ok((id, parse("token", ticket, text)?))).collect()
        })
    }

    /// The token of a ticket; `None` of one that goes round no ring.
    pub(crate) fn token(&self, ticket: &TicketId) -> Result<Option<Token>, StoreError> {
        self.read(|txn| {
            let sql = "SELECT document FROM tokens WHERE ticket = ?1";
            let found = txn.row(sql, [ticket.as_str()], |row| row.get::<_, String>(0))?;
            found.map(|text| parse("token", ticket.as_str(), &text)).transpose()
        })
    }

    /// Stores the token of a ticket in place of `before`; whether that was still the one.
    pub(crate) fn pass_token(
        &self,
        ticket: &TicketId,
        before: Option<&Token>,
        token: &Token,
    ) -> Result<bool, StoreError> {
        let text = document("token", ticket.as_str(), token)?;
        self.write(|txn| {
            let sql = "SELECT document FROM tokens WHERE ticket = ?1";
            let found = txn.row(sql, [ticket.as_str()], |row| row.get::<_, String>(0))?;
            let known = found.map(|text| parse::<Token>("token", ticket.as_str(), &text)).transpose()?;
            if known.as_ref() != before {
                return Ok(false);
            }
            let sql = "INSERT OR REPLACE INTO tokens(ticket, document) VALUES(?1, ?2)";
            txn.run(sql, params![ticket.as_str(), text])?;
            Ok(true)
        })
    }

    /// Forgets the token of a ticket.
    pub(crate) fn forget_token(&self, ticket: &TicketId) -> Result<(), StoreError> {
        self.write(|txn| txn.run("DELETE FROM tokens WHERE ticket = ?1", [ticket.as_str()]).map(|_| ()))
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
