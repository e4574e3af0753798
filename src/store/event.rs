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

/// One row of the event table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredEvent {
    /// Its sequence number.
    pub(crate) seq: i64,
    /// `queue`, `worker`, `swarm` or `bus`.
    pub(crate) kind: String,
    /// The ticket it is about; empty where it is about none.
    pub(crate) ticket: String,
    /// The record as JSON.
    pub(crate) data: String,
}

/// A part of the event stream, in order, as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamPart {
    /// The events.
    pub(crate) events: Vec<StoredEvent>,
    /// The sequence number up to which everything has been looked at: the next part begins after it.
    pub(crate) seq: i64,
    /// The first sequence number that is still kept, or the next one to be given out where none is.
    pub(crate) first_kept: i64,
}

/// Which events of the stream are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StreamFilter {
    /// Only those about this ticket.
    pub(crate) ticket: Option<TicketId>,
    /// Only these kinds; all where none is named.
    pub(crate) kinds: Vec<&'static str>,
}

impl Store {
    /// Up to `limit` events of the stream after sequence number `seq`, oldest first; 0 is before the first. Events are
    /// numbered in the order in which they were committed, without gaps, so who goes on where the last part ended
    /// misses none and sees none twice.
    pub(crate) fn stream(&self, seq: i64, filter: &StreamFilter, limit: usize) -> Result<StreamPart, StoreError> {
        self.read(|txn| txn.stream(seq, filter, limit))
    }

    /// The highest sequence number given out so far; 0 before the first.
    pub(crate) fn last_seq(&self) -> Result<i64, StoreError> {
        self.read(|txn| txn.last_seq())
    }

    /// The sequence number before that of the first kept event at or after `moment`.
    pub(crate) fn seq_before(&self, moment: Time) -> Result<i64, StoreError> {
        self.read(|txn| Ok(txn.first_since(&moment.to_string())?.map_or(txn.last_seq()?, |first| first - 1)))
    }
}

/// Events older than this are not kept in the store. A worker's own log keeps them as long as it is there, and tickets
/// that wait are not events.
pub(crate) const KEEP_EVENTS: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often it is looked for older ones.
const PRUNE_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Events deleted in one transaction, so that others get their turn.
const PRUNED_AT_ONCE: usize = 5_000;
/// The fact that says when it was last looked.
const PRUNED_AT: &str = "events_pruned_at";

impl Store {
    /// Whether old events are to be deleted at `now`; once a day.
    pub(crate) fn is_pruning_due(&self, now: Time) -> Result<bool, StoreError> {
        let last = self.meta(PRUNED_AT)?.and_then(|text| text.parse().ok()).map(Time::from_millis);
        // A clock that was set back since does not stop it for long.
        Ok(!last.is_some_and(|last| last <= now && last.age_at(now) < PRUNE_EVERY))
    }

    /// Deletes events that are older than thirty days, at most once a day; cheap the other times. What is to outlive
    /// them has been taken out of them before.
    pub(crate) fn prune_events(&self, now: Time) -> Result<(), StoreError> {
        if !self.is_pruning_due(now)? {
            return Ok(());
        }
        self.set_meta(PRUNED_AT, &now.as_millis().to_string())?;
        let moment = Time::from_millis(now.as_millis().saturating_sub(millis(KEEP_EVENTS)));
        self.write(|txn| txn.prune_mail(moment))?;
        let before = moment.to_string();
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
        let first_kept = self.first_since(moment)?.unwrap_or(i64::MAX);
        let sql = "DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE seq < ?1 ORDER BY seq LIMIT ?2)";
        self.run(sql, params![first_kept, i64::try_from(PRUNED_AT_ONCE).unwrap_or(i64::MAX)])
    }

    /// The first event in the stream that is not older than `moment`.
    fn first_since(&self, moment: &str) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT seq FROM events WHERE json_extract(data, '$.at') >= ?1 ORDER BY seq LIMIT 1";
        self.row(sql, [moment], |row| row.get(0))
    }

    /// The highest sequence number given out so far.
    fn last_seq(&self) -> Result<i64, StoreError> {
        let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'events'";
        Ok(self.row(sql, [], |row| row.get(0))?.unwrap_or(0))
    }

    /// Up to `limit` events after `seq`.
    pub(crate) fn stream(&self, seq: i64, filter: &StreamFilter, limit: usize) -> Result<StreamPart, StoreError> {
        let sql = "SELECT seq, kind, ticket, data FROM events
            WHERE seq > ?1 AND (?2 = '' OR ticket = ?2 COLLATE NOCASE) AND (?3 = '' OR instr(?3, kind) > 0)
            ORDER BY seq LIMIT ?4";
        let ticket = filter.ticket.as_ref().map_or("", TicketId::as_str);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let events = self.rows(sql, params![seq, ticket, filter.kinds.join(" "), limit], |row| {
            Ok(StoredEvent { seq: row.get(0)?, kind: row.get(1)?, ticket: row.get(2)?, data: row.get(3)? })
        })?;
        let last = self.last_seq()?;
        let first = self.row("SELECT min(seq) FROM events", [], |row| row.get::<_, Option<i64>>(0))?.flatten();
        let is_full = i64::try_from(events.len()).is_ok_and(|length| length == limit);
        let seq = match events.last() {
            Some(event) if is_full => event.seq,
            _ => last.max(seq),
        };
        Ok(StreamPart { events, seq, first_kept: first.unwrap_or(last + 1) })
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
