//! The event table: facts about workers and changes of tickets in one order.

use std::time::Duration;

use rusqlite::params;

use super::{JsonLog, StatePaths, Store, StoreError, Txn};
use crate::model::event::{EventRecord, SwarmRecord};
use crate::model::{TicketId, Time};

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
        self.write(|txn| txn.append_event("worker", event.ticket.as_str(), &data))
    }

    /// Appends a fact of the coordinator; its sequence number.
    pub(crate) fn append_swarm_event(&self, event: &SwarmRecord) -> Result<i64, StoreError> {
        self.write(|txn| txn.append_swarm_event(event))
    }

    /// Up to `limit` facts about workers after sequence number `seq`, oldest first; 0 is before the first. Commands
    /// read a worker's own log instead.
    #[cfg(test)]
    pub(crate) fn events_since(&self, seq: i64, limit: usize) -> Result<Vec<(i64, EventRecord)>, StoreError> {
        self.read(|txn| txn.events_since("worker", seq, limit))
    }
}

/// Events older than this are not kept in the store. A worker's own log keeps them as long as it is there, and tickets
/// that wait are not events.
const KEEP_EVENTS: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often it is looked for older ones.
const PRUNE_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Events deleted in one transaction, so that others get their turn.
const PRUNED_AT_ONCE: usize = 5_000;
/// The fact that says when it was last looked.
const PRUNED_AT: &str = "events_pruned_at";

impl Store {
    /// Deletes events that are older than thirty days, at most once a day; cheap the other times.
    pub(crate) fn prune_events(&self, now: Time) -> Result<(), StoreError> {
        let last = self.meta(PRUNED_AT)?.and_then(|text| text.parse().ok()).map(Time::from_millis);
        // A clock that was set back since does not stop it for long.
        if last.is_some_and(|last| last <= now && last.age_at(now) < PRUNE_EVERY) {
            return Ok(());
        }
        self.set_meta(PRUNED_AT, &now.as_millis().to_string())?;
        let before = Time::from_millis(now.as_millis().saturating_sub(millis(KEEP_EVENTS))).to_string();
        while self.write(|txn| txn.delete_events_before(&before))? >= PRUNED_AT_ONCE {}
        Ok(())
    }
}

/// A duration as the difference of two moments.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Txn<'_> {
    /// Deletes the oldest events up to the first that is not older than `moment`, some thousand at most; how many.
    fn delete_events_before(&self, moment: &str) -> Result<usize, StoreError> {
        // Moments are written alike, so their order is that of their texts.
        let sql = "SELECT seq FROM events WHERE json_extract(data, '$.at') >= ?1 ORDER BY seq LIMIT 1";
        let first_kept = self.row(sql, [moment], |row| row.get::<_, i64>(0))?.unwrap_or(i64::MAX);
        let sql = "DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE seq < ?1 ORDER BY seq LIMIT ?2)";
        self.run(sql, params![first_kept, i64::try_from(PRUNED_AT_ONCE).unwrap_or(i64::MAX)])
    }

    /// Appends one event of `kind`; its sequence number.
    fn append_event(&self, kind: &str, ticket: &str, data: &str) -> Result<i64, StoreError> {
        let sql = "INSERT INTO events(kind, ticket, data) VALUES(?1, ?2, ?3)";
        self.insert(sql, params![kind, ticket, data])
    }

    /// Appends a fact of the coordinator, in the same step as what it is about; its sequence number.
    pub(crate) fn append_swarm_event(&self, event: &SwarmRecord) -> Result<i64, StoreError> {
        let ticket = event.ticket.as_ref().map_or("", TicketId::as_str);
        self.append_event("swarm", ticket, &document("event", ticket, event)?)
    }

    /// Appends a change of a ticket; its sequence number.
    pub(crate) fn append_queue_event(
        &self,
        ticket: &TicketId,
        event: &impl serde::Serialize,
    ) -> Result<i64, StoreError> {
        self.append_event("queue", ticket.as_str(), &document("event", ticket.as_str(), event)?)
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
