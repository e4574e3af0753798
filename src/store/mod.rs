//! The project's state on disk: one SQLite database, JSONL logs and live files, all under one folder.
//!
//! # Guarantees
//!
//! - Any number of processes and threads use one [`StatePaths`] folder at once. Every write is one `BEGIN IMMEDIATE`
//!   transaction, so it happens wholly or not at all and never loses another's update.
//! - What a call acknowledged survives the end of any process. It survives a power cut too with
//!   [`Durability::Full`], and always for landing intents; otherwise a power cut may take the last moments of
//!   bookkeeping, which git refs restore.
//! - The format has a number. An older state folder is brought up to date in one transaction when it is opened for
//!   writing; a newer one is refused untouched.
//! - SQLite's write-ahead log needs memory shared between its users, so a network file system is refused.
//!
//! Opening costs no schema work when the format is current. A connection must not cross a fork: open after it.
//! Closures given to [`Store::write`] and [`Store::read`] must not call the store again; the connection is theirs.

mod arrangement;
mod comment;
mod coordination;
mod database;
mod event;
mod filesystem;
mod health;
mod history;
mod home;
mod landing;
mod live;
mod log;
mod message;
mod messages;
mod path;
mod result;
mod reviewer;
mod scaling;
mod schema;
mod shared_spend;
mod spend;
mod ticket;
mod worker;

use std::path::PathBuf;

use crate::files::FileError;
use crate::model::WorkerId;

pub(crate) use comment::{Comment, CommentId, CommentState, Lines, NewComment, Side};
pub(crate) use coordination::Leadership;
pub(crate) use database::{Store, Txn};
pub(crate) use event::{KEEP_EVENTS, StoredEvent, StreamFilter};
pub(crate) use history::{HistoryKind, HistoryRow};
pub(crate) use landing::{IntentId, LandingIntent, Review, ReviewVerdict};
pub(crate) use live::{read_live, touch_live, write_live};
pub(crate) use log::{JsonLog, LogReader, read_log};
pub(crate) use message::{Fate, Posted};
pub(crate) use messages::{read_messages, write_messages};
pub(crate) use path::StatePaths;
pub(crate) use result::{as_result, read_result, write_result};
pub(crate) use reviewer::{ReviewerRun, ReviewerRunId, RunState, Tick};
pub(crate) use shared_spend::Heard;
pub(crate) use spend::{Charge, Charged, Counted, SpendRow, clocks};
pub(crate) use ticket::{Content, TicketRow};

/// What the store could not do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// A later version of the program wrote the state.
    #[error("the state in `{}` has format {found}, and this program knows formats up to {known}", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The state came with a copy of a clone's folder, and its workers are those of the original.
    #[error("the state in `{}` is a copy of that in `{}`, where its workers are", path.display(), original.display())]
    Copied {
        /// The state folder.
        path: PathBuf,
        /// That of the original.
        original: PathBuf,
    },
    /// The state folder is where the database cannot be shared safely.
    #[error("the state folder `{}` is on a network file system ({kind})", path.display())]
    NetworkFileSystem {
        /// The folder.
        path: PathBuf,
        /// The file system's name.
        kind: &'static str,
    },
    /// A database operation failed.
    #[error("could not {attempt} `{}`", path.display())]
    Database {
        /// What was attempted, as a verb.
        attempt: &'static str,
        /// The database.
        path: PathBuf,
        /// The cause.
        #[source]
        source: rusqlite::Error,
    },
    /// A stored document does not have the shape it should have.
    #[error("the stored {what} `{name}` is not readable")]
    Document {
        /// What it is.
        what: &'static str,
        /// Its id or path.
        name: String,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store has no such worker.
    #[error("there is no worker `{0}`")]
    NoWorker(WorkerId),
    /// Every block of ports is taken.
    #[error("no block of {size} ports is free from {base} up")]
    NoPorts {
        /// Where blocks begin.
        base: u16,
        /// Ports in a block.
        size: u16,
    },
}

impl StoreError {
    /// What a person can do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Newer { .. } => Some("update swarm to the version that wrote this state"),
            Self::Copied { .. } => Some(
                "work there; to begin afresh here, delete the copied folders `swarm` and `worktrees` in the git folder: branches \
                 and kept work stay",
            ),
            Self::NetworkFileSystem { .. } => Some("clone the repository to a local disk and work there"),
            Self::Database { source, .. } => match source.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
                    Some("another process holds the database; try again, and look for one that hangs")
                }
                Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => Some(
                    "the database is damaged: move it away and start afresh; commits are in git, see swarm recover",
                ),
                Some(rusqlite::ErrorCode::DiskFull) => Some("free some space on the disk"),
                _ => None,
            },
            Self::NoPorts { .. } => Some("release workers, or set `ports` in the configuration"),
            Self::Document { .. } | Self::File(_) | Self::NoWorker(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
