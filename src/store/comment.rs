//! Comments on places of a worker's work, each an object of its own with a state.

use std::fmt;

use rusqlite::params;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::event::{document, parse};
use super::{Store, StoreError, Txn};
use crate::model::{CommitId, TicketId, Time, WorkerId};

/// Names a comment; unique in the store, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct CommentId(pub(crate) i64);

impl fmt::Display for CommentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// A stored comment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Comment {
    /// Its id.
    pub(crate) id: CommentId,
    /// What it says and where it stands.
    pub(crate) content: NewComment,
}

/// What somebody said about a place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct NewComment {
    /// The ticket.
    pub(crate) ticket: TicketId,
    /// The worker whose work it is about.
    pub(crate) worker: WorkerId,
    /// The commit in which the lines are counted: the one that was looked at, or for removed lines its base.
    pub(crate) commit: CommitId,
    /// The file, from the repository's root.
    pub(crate) file: String,
    /// Which side of the difference the lines are on.
    pub(crate) side: Side,
    /// The lines; `None` is the file as a whole.
    pub(crate) lines: Option<Lines>,
    /// Those lines as they were.
    pub(crate) quote: Vec<String>,
    /// The remark.
    pub(crate) text: String,
    /// Who: a person as git names them, or an agent's name.
    pub(crate) by: String,
    /// How grave an agent finds it, in its own word.
    #[serde(default)]
    pub(crate) severity: Option<String>,
    /// Where it stands.
    pub(crate) state: CommentState,
    /// When.
    pub(crate) at: Time,
}

/// Lines of a file, from 1, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Lines {
    /// The first.
    pub(crate) first: u32,
    /// The last.
    pub(crate) last: u32,
}

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// A side of a difference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Side {
    /// The work.
    #[default]
    New,
    /// What was there before: lines that the work removes.
    Old,
}

/// Where a comment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CommentState {
    /// An agent made it; a person accepts or drops it.
    Proposed,
    /// A person stands behind it; it goes to the worker's agent with the next rejection.
    Open,
    /// The worker's agent has it.
    Sent,
    /// A person is content.
    Resolved,
    /// A person did not want it.
    Dropped,
}

impl CommentState {
    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Open => "open",
            Self::Sent => "sent",
            Self::Resolved => "resolved",
            Self::Dropped => "dropped",
        }
    }
}

impl Store {
    /// Stores comments, all or none, in this order.
    pub(crate) fn add_comments(&self, comments: &[NewComment]) -> Result<Vec<CommentId>, StoreError> {
        self.write(|txn| comments.iter().map(|comment| txn.add_comment(comment)).collect())
    }

    /// The comments on a worker's work, oldest first.
    pub(crate) fn comments(&self, worker: &WorkerId) -> Result<Vec<Comment>, StoreError> {
        self.read(|txn| txn.comments(worker))
    }

    /// Changes states of a worker's comments in one transaction: `change` answers the new state of each that gets one.
    /// An error of it stores nothing.
    pub(crate) fn change_comments<E: From<StoreError>>(
        &self,
        worker: &WorkerId,
        change: impl FnOnce(&[Comment]) -> Result<Vec<(CommentId, CommentState)>, E>,
    ) -> Result<(), E> {
        self.write(|txn| {
            let comments = txn.comments(worker)?;
            for (id, state) in change(&comments)? {
                let Some(known) = comments.iter().find(|comment| comment.id == id) else { continue };
                let changed = NewComment { state, ..known.content.clone() };
                let text = document("comment", worker.as_str(), &changed)?;
                txn.run("UPDATE comments SET document = ?2 WHERE id = ?1", params![id.0, text])?;
            }
            Ok(())
        })
    }
}

impl Txn<'_> {
    /// Stores a comment.
    pub(super) fn add_comment(&self, comment: &NewComment) -> Result<CommentId, StoreError> {
        let text = document("comment", comment.worker.as_str(), comment)?;
        let sql = "INSERT INTO comments(worker, document) VALUES(?1, ?2)";
        self.insert(sql, params![comment.worker.as_str(), text]).map(CommentId)
    }

    /// A worker's comments, oldest first.
    fn comments(&self, worker: &WorkerId) -> Result<Vec<Comment>, StoreError> {
        let sql = "SELECT id, document FROM comments WHERE worker = ?1 ORDER BY id";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
        let rows = self.rows(sql, [worker.as_str()], read)?;
        let parsed = rows
            .into_iter()
            .map(|(id, text)| Ok(Comment { id: CommentId(id), content: parse("comment", &id.to_string(), &text)? }));
        parsed.collect()
    }
}
