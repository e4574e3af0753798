//! Reviews of finished work, and intents to move a target branch.

use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::event::{document, parse};
use super::{Store, StoreError};
use crate::model::{BranchName, CommitId, TicketId, Time, WorkerId};

/// A verdict on a worker's work at one commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Review {
    /// The ticket.
    pub(crate) ticket: TicketId,
    /// The worker whose work was judged.
    pub(crate) worker: WorkerId,
    /// The commit it judged.
    pub(crate) commit: CommitId,
    /// The verdict.
    pub(crate) verdict: ReviewVerdict,
    /// Who, as git names them.
    pub(crate) by: String,
    /// What they said about the whole; may be empty.
    pub(crate) text: String,
    /// When.
    pub(crate) at: Time,
}

/// What a review decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReviewVerdict {
    /// May land.
    Approved,
    /// Goes back to the agent.
    Rejected,
    /// Remarks that decide nothing; earlier formats stored them as reviews.
    Commented,
}

/// A landing that is about to move its target; written before the move and closed after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LandingIntent {
    /// The ticket.
    pub(crate) ticket: TicketId,
    /// The worker whose work lands.
    pub(crate) worker: WorkerId,
    /// The fence of the approved attempt.
    pub(crate) fence: u64,
    /// The head of the worker's branch.
    pub(crate) work: CommitId,
    /// The branch to move.
    pub(crate) target: BranchName,
    /// Where the target points before.
    pub(crate) from: CommitId,
    /// Where the target points after.
    pub(crate) to: CommitId,
    /// When.
    pub(crate) at: Time,
    /// What the landing rests on, as the line of its note; earlier versions had it in a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) evidence: Option<String>,
}

impl LandingIntent {
    /// The commit that is landed: the one the target moves to, or where it has the work already and does not move, the
    /// work itself.
    pub(crate) fn landed(&self) -> &CommitId {
        if self.moves() { &self.to } else { &self.work }
    }

    /// Whether the target is to move.
    pub(crate) fn moves(&self) -> bool {
        self.from != self.to
    }
}

/// Names an open intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct IntentId(i64);

impl Store {
    /// Stores a review.
    pub(crate) fn put_review(&self, review: &Review) -> Result<(), StoreError> {
        let text = document("review", review.worker.as_str(), review)?;
        self.write(|txn| {
            let sql = "INSERT INTO reviews(worker, document) VALUES(?1, ?2)";
            txn.run(sql, params![review.worker.as_str(), text]).map(|_| ())
        })
    }

    /// The reviews of a worker's work, oldest first.
    pub(crate) fn reviews(&self, worker: &WorkerId) -> Result<Vec<Review>, StoreError> {
        self.read(|txn| {
            let sql = "SELECT document FROM reviews WHERE worker = ?1 ORDER BY seq";
            let rows: Vec<String> = txn.rows(sql, [worker.as_str()], |row| row.get(0))?;
            rows.iter().map(|text| parse("review", worker.as_str(), text)).collect()
        })
    }

    /// Stores intents, all or none; they are on the device when this returns, whatever the store's durability.
    pub(crate) fn put_intents(&self, intents: &[LandingIntent]) -> Result<Vec<IntentId>, StoreError> {
        let texts = intents.iter().map(|intent| document("landing intent", intent.ticket.as_str(), intent));
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        self.write_durably(|txn| {
            let insert = |text: &String| txn.insert("INSERT INTO landing_intents(document) VALUES(?1)", [text]);
            texts.iter().map(|text| insert(text).map(IntentId)).collect()
        })
    }

    /// The intents that nobody closed, oldest first: each is a landing under way or one that died.
    pub(crate) fn intents(&self) -> Result<Vec<(IntentId, LandingIntent)>, StoreError> {
        self.read(|txn| {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
            let rows = txn.rows("SELECT id, document FROM landing_intents ORDER BY id", [], read)?;
            let parsed =
                rows.iter().map(|(id, text)| Ok((IntentId(*id), parse("landing intent", &id.to_string(), text)?)));
            parsed.collect()
        })
    }

    /// Closes intents after their facts were written, all or none; no error when some are closed already.
    pub(crate) fn close_intents(&self, ids: impl IntoIterator<Item = IntentId>) -> Result<(), StoreError> {
        let delete = "DELETE FROM landing_intents WHERE id = ?1";
        self.write(|txn| ids.into_iter().try_for_each(|id| txn.run(delete, [id.0]).map(|_| ())))
    }
}
