//! What was taken out of the event stream to be kept longer than it.

use rusqlite::params;

use super::event::StreamPart;
use super::{Store, StoreError, StreamFilter, Txn};
use crate::model::Time;

/// The fact that says up to which event the history has been written.
const WRITTEN_TO: &str = "history_seq";
/// The fact that says when the first event happened that the history knows.
const WRITTEN_FROM: &str = "history_from";

/// What a row of the history is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HistoryKind {
    /// A ticket, from one publication to the next.
    Ticket,
    /// A run of the coordinator.
    Run,
}

impl HistoryKind {
    /// The word in the table.
    fn as_str(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Run => "run",
        }
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HistoryRow {
    /// Its number; `None` before it was stored.
    pub(crate) id: Option<i64>,
    /// What it is about.
    pub(crate) kind: HistoryKind,
    /// The ticket, or the run.
    pub(crate) name: String,
    /// When the last thing happened that changed it.
    pub(crate) changed_at: Time,
    /// The content, as JSON.
    pub(crate) document: String,
}

impl Store {
    /// Up to `limit` events that the history has not seen, and the number of the last one that it has.
    pub(crate) fn unwritten_history(&self, limit: usize) -> Result<(i64, StreamPart), StoreError> {
        self.read(|txn| {
            let from = txn.history_seq()?;
            Ok((from, txn.stream(from, &StreamFilter::default(), limit)?))
        })
    }

    /// The newest row about a ticket or run.
    pub(crate) fn last_history(&self, kind: HistoryKind, name: &str) -> Result<Option<HistoryRow>, StoreError> {
        self.read(|txn| {
            let sql = "SELECT id, name, changed_at, document FROM history WHERE kind = ?1 AND name = ?2
                ORDER BY id DESC LIMIT 1";
            txn.row(sql, params![kind.as_str(), name], |row| history_row(kind, row))
        })
    }

    /// The rows of one kind that something happened to at `since` or later, in the order of their beginnings.
    pub(crate) fn history(&self, kind: HistoryKind, since: Time) -> Result<Vec<HistoryRow>, StoreError> {
        self.read(|txn| {
            let sql = "SELECT id, name, changed_at, document FROM history WHERE kind = ?1 AND changed_at >= ?2
                ORDER BY id";
            txn.rows(sql, params![kind.as_str(), since.as_millis()], |row| history_row(kind, row))
        })
    }

    /// When the first event happened that the history knows; `None` before there is one.
    pub(crate) fn history_from(&self) -> Result<Option<Time>, StoreError> {
        Ok(self.meta(WRITTEN_FROM)?.and_then(|text| text.parse().ok()).map(Time::from_millis))
    }

    /// Writes what the events after `from` up to `to` made of the history, unless somebody else did meanwhile.
    /// `first_at` is when the first of them happened.
    pub(crate) fn write_history(
        &self,
        (from, to): (i64, i64),
        first_at: Time,
        rows: &[HistoryRow],
    ) -> Result<bool, StoreError> {
        self.write(|txn| {
            if txn.history_seq()? != from {
                return Ok(false);
            }
            for row in rows {
                txn.put_history(row)?;
            }
            let sql = "INSERT INTO meta(key, value) VALUES(?1, ?2) ON CONFLICT DO NOTHING";
            txn.run(sql, params![WRITTEN_FROM, first_at.as_millis().to_string()])?;
            let sql = "INSERT INTO meta(key, value) VALUES(?1, ?2) ON CONFLICT DO UPDATE SET value = ?2";
            txn.run(sql, params![WRITTEN_TO, to.to_string()])?;
            Ok(true)
        })
    }
}

impl Txn<'_> {
    /// The event up to which the history has been written; 0 before the first.
    fn history_seq(&self) -> Result<i64, StoreError> {
        let text = self.row("SELECT value FROM meta WHERE key = ?1", [WRITTEN_TO], |row| row.get::<_, String>(0))?;
        Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
    }

    /// Stores a row in its place, or as a new one.
    fn put_history(&self, row: &HistoryRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO history(id, kind, name, changed_at, document) VALUES(?1, ?2, ?3, ?4, ?5)
            ON CONFLICT(id) DO UPDATE SET changed_at = ?4, document = ?5";
        self.run(sql, params![row.id, row.kind.as_str(), row.name, row.changed_at.as_millis(), row.document])?;
        Ok(())
    }
}

/// Reads one row.
fn history_row(kind: HistoryKind, row: &rusqlite::Row<'_>) -> rusqlite::Result<HistoryRow> {
    let changed_at = Time::from_millis(row.get(2)?);
    Ok(HistoryRow { id: Some(row.get(0)?), kind, name: row.get(1)?, changed_at, document: row.get(3)? })
}
