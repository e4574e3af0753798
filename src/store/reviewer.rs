//! What reviewer agents found, and what people ticked on a ticket's checklist.

use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::event::{document, parse};
use super::{CommentId, NewComment, Store, StoreError};
use crate::model::{AgentName, CommitId, Time, WorkerId};

/// Names a run of a reviewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ReviewerRunId(pub(crate) i64);

/// One reviewer on one commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReviewerRun {
    /// The reviewer.
    pub(crate) agent: AgentName,
    /// The commit it looks at.
    pub(crate) commit: CommitId,
    /// How far it is.
    pub(crate) state: RunState,
    /// How often it was asked.
    pub(crate) tries: u32,
    /// Input tokens; `None` where they are not known.
    pub(crate) input_tokens: Option<u64>,
    /// Output tokens.
    pub(crate) output_tokens: Option<u64>,
    /// US dollars.
    pub(crate) cost_usd: Option<f64>,
    /// When it began.
    pub(crate) started_at: Time,
    /// When it ended.
    pub(crate) ended_at: Option<Time>,
}

/// How far a reviewer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum RunState {
    /// It reads; or its process was killed, which the free lock shows.
    Running,
    /// It found the work good.
    Approves {
        /// What it said.
        summary: String,
    },
    /// It wants changes.
    Rejects {
        /// What it said.
        summary: String,
    },
    /// It gave no verdict that could be read.
    NoVerdict {
        /// Why.
        why: String,
    },
}

impl RunState {
    /// The word for it.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Approves { .. } => "approve",
            Self::Rejects { .. } => "reject",
            Self::NoVerdict { .. } => "no_verdict",
        }
    }
}

/// A tick on one item of a checklist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tick {
    /// The item.
    pub(crate) item: String,
    /// The commit at which it holds.
    pub(crate) commit: CommitId,
    /// Who.
    pub(crate) by: String,
    /// When.
    pub(crate) at: Time,
}

impl Store {
    /// Stores that a reviewer begins.
    pub(crate) fn begin_reviewer(&self, worker: &WorkerId, run: &ReviewerRun) -> Result<ReviewerRunId, StoreError> {
        let text = document("reviewer run", worker.as_str(), run)?;
        let sql = "INSERT INTO reviewer_runs(worker, document) VALUES(?1, ?2)";
        self.write(|txn| txn.insert(sql, params![worker.as_str(), text]).map(ReviewerRunId))
    }

    /// Stores how a reviewer ended together with its comments; their ids.
    pub(crate) fn end_reviewer(
        &self,
        worker: &WorkerId,
        id: ReviewerRunId,
        run: &ReviewerRun,
        comments: &[NewComment],
    ) -> Result<Vec<CommentId>, StoreError> {
        let text = document("reviewer run", worker.as_str(), run)?;
        self.write(|txn| {
            txn.run("UPDATE reviewer_runs SET document = ?2 WHERE id = ?1", params![id.0, text])?;
            comments.iter().map(|comment| txn.add_comment(comment)).collect()
        })
    }

    /// The runs of a worker's reviewers, oldest first.
    pub(crate) fn reviewer_runs(&self, worker: &WorkerId) -> Result<Vec<(ReviewerRunId, ReviewerRun)>, StoreError> {
        self.read(|txn| {
            let sql = "SELECT id, document FROM reviewer_runs WHERE worker = ?1 ORDER BY id";
            let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
            let rows = txn.rows(sql, [worker.as_str()], read)?;
            let parsed = rows
                .into_iter()
                .map(|(id, text)| Ok((ReviewerRunId(id), parse("reviewer run", &id.to_string(), &text)?)));
            parsed.collect()
        })
    }

    /// Ticks items of a worker's checklist, each once.
    pub(crate) fn put_ticks(&self, worker: &WorkerId, ticks: &[Tick]) -> Result<(), StoreError> {
        self.write(|txn| {
            for tick in ticks {
                let text = document("tick", worker.as_str(), tick)?;
                let sql = "INSERT INTO ticks(worker, item, document) VALUES(?1, ?2, ?3)
                           ON CONFLICT(worker, item) DO UPDATE SET document = ?3";
                txn.run(sql, params![worker.as_str(), tick.item, text])?;
            }
            Ok(())
        })
    }

    /// Takes ticks back; no error where there is none.
    pub(crate) fn remove_ticks(&self, worker: &WorkerId, items: &[String]) -> Result<(), StoreError> {
        self.write(|txn| {
            for item in items {
                txn.run("DELETE FROM ticks WHERE worker = ?1 AND item = ?2", [worker.as_str(), item.as_str()])?;
            }
            Ok(())
        })
    }

    /// The ticks on a worker's checklist.
    pub(crate) fn ticks(&self, worker: &WorkerId) -> Result<Vec<Tick>, StoreError> {
        self.read(|txn| {
            let sql = "SELECT document FROM ticks WHERE worker = ?1";
            let rows: Vec<String> = txn.rows(sql, [worker.as_str()], |row| row.get(0))?;
            rows.iter().map(|text| parse("tick", worker.as_str(), text)).collect()
        })
    }
}
