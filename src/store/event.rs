//! The event table: facts about workers and changes of tickets in one order.

use rusqlite::params;

use super::{JsonLog, StatePaths, Store, StoreError, Txn};
use crate::model::TicketId;
use crate::model::event::EventRecord;

impl Store {
    /// Appends an event to the store and to its worker's own log, where it has a worker.
    pub(crate) fn record_event(&self, paths: &StatePaths, event: &EventRecord) -> Result<(), StoreError> {
        if let Some(worker) = &event.worker {
            JsonLog::open(&paths.events(worker))?.append(event)?;
        }
        self.append_event(event).map(drop)
    }

    /// Appends a fact about a worker; its sequence number, which only grows and is shared with the queue's events.
    pub(crate) fn append_event(&self, event: &EventRecord) -> Result<i64, StoreError> {
        let data = document("event", event.ticket.as_str(), event)?;
        self.write(|txn| txn.append_event("worker", &event.ticket, &data))
    }

    /// Up to `limit` facts about workers after sequence number `seq`, oldest first; 0 is before the first. Commands
    /// read a worker's own log instead.
    #[cfg(test)]
    pub(crate) fn events_since(&self, seq: i64, limit: usize) -> Result<Vec<(i64, EventRecord)>, StoreError> {
        self.read(|txn| txn.events_since("worker", seq, limit))
    }
}

impl Txn<'_> {
    /// Appends one event of `kind`; its sequence number.
    fn append_event(&self, kind: &str, ticket: &TicketId, data: &str) -> Result<i64, StoreError> {
        let sql = "INSERT INTO events(kind, ticket, data) VALUES(?1, ?2, ?3)";
        self.insert(sql, params![kind, ticket.as_str(), data])
    }

    /// Appends a change of a ticket; its sequence number.
    pub(crate) fn append_queue_event(
        &self,
        ticket: &TicketId,
        event: &impl serde::Serialize,
    ) -> Result<i64, StoreError> {
        self.append_event("queue", ticket, &document("event", ticket.as_str(), event)?)
    }

    /// Up to `limit` changes of tickets after `seq`.
    pub(crate) fn queue_events_since<T: serde::de::DeserializeOwned>(
        &self,
        seq: i64,
        limit: usize,
    ) -> Result<Vec<(i64, T)>, StoreError> {
        self.events_since("queue", seq, limit)
    }

    /// Up to `limit` events of `kind` after `seq`.
    fn events_since<T: serde::de::DeserializeOwned>(
        &self,
        kind: &str,
        seq: i64,
        limit: usize,
    ) -> Result<Vec<(i64, T)>, StoreError> {
        let sql = "SELECT seq, data FROM events WHERE seq > ?1 AND kind = ?2 ORDER BY seq LIMIT ?3";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows =
            self.rows(sql, params![seq, kind, limit], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
        rows.into_iter().map(|(seq, data)| Ok((seq, parse("event", &seq.to_string(), &data)?))).collect()
    }
}

/// Writes a value as the JSON document it is stored as.
pub(super) fn document(what: &'static str, name: &str, value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|source| StoreError::Document { what, name: name.to_owned(), source })
}

/// Reads a stored JSON document.
pub(super) fn parse<T: serde::de::DeserializeOwned>(
    what: &'static str,
    name: &str,
    text: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|source| StoreError::Document { what, name: name.to_owned(), source })
}
