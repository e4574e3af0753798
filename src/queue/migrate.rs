//! Moving a project's tickets from its store to a server, or back: all of them or none.
//!
//! Both engines keep the same tables, so what moves is the word about which of them counts, and to a server also a copy of
//! everything in them. Each way has one step that decides. To a server: its stream gets the name of its log, without which
//! it is nobody's queue. Back: the log gets a last message that closes it, which the server takes only if nothing was
//! logged meanwhile. Both happen inside a transaction of the store that nobody else can write beside, and after a note of
//! what is about to happen: who opens the queue after a crash in between looks on which side of that step the server is,
//! and finishes the move or forgets it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::QueueError;
use super::engine::{Repository, leave_in, place, put_place};
use super::nats::{Change, Identity, Log, NatsError, applied, set_applied};
use super::server::Server;
use crate::model::TicketId;
use crate::model::ticket::TicketState;
use crate::store::{Store, StoreError, Txn};

/// The store's word for a move that was begun.
const MOVING: &str = "queue_moving";

/// A move that was begun.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Moving {
    /// The log, to or from which.
    log: String,
    /// The commit that its repository begins with.
    founder: String,
    /// The change that closes the log, where it is from there.
    closes: Option<String>,
}

/// What keeps tickets from moving.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MoveError {
    /// They are there already.
    #[error("the tickets of this project are there already")]
    There,
    /// A ticket is in somebody's hands.
    #[error("ticket `{ticket}` is {state}")]
    Held {
        /// The ticket.
        ticket: TicketId,
        /// Its state.
        state: TicketState,
    },
    /// Something was logged while they moved.
    #[error("the queue changed while it was to be moved")]
    Changed,
    /// A move was begun to or from another server than the settings name.
    #[error("a move of this queue was cut off, and its server is not the one of the settings")]
    CutOff,
}

impl MoveError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::There => None,
            Self::Held { ticket, .. } => {
                Some(format!("wait for it (swarm wait {ticket}), or end it: swarm stop {ticket}"))
            }
            Self::Changed => Some("try again".to_owned()),
            Self::CutOff => Some("run swarm queue migrate again with the same --to".to_owned()),
        }
    }
}

/// What would move, by id.
///
/// # Errors
/// [`MoveError::Held`] where a ticket runs or lands.
pub(crate) fn load(txn: &Txn<'_>) -> Result<Vec<(TicketId, TicketState)>, QueueError> {
    let mut states = txn.ticket_states()?;
    states.sort_by(|one, other| one.0.cmp(&other.0));
    match states.iter().find(|(_, state)| matches!(state, TicketState::Running | TicketState::Landing)) {
        Some((ticket, state)) => Err(MoveError::Held { ticket: ticket.clone(), state: *state }.into()),
        None => Ok(states),
    }
}

/// Moves everything to a server.
pub(crate) fn to_server(store: &Arc<Store>, server: &Server, repository: &Repository<'_>) -> Result<(), QueueError> {
    let is_finished = settle(store, Some(server))?;
    if store.read(place)?.is_some() {
        return if is_finished { Ok(()) } else { Err(MoveError::There.into()) };
    }
    let founder = (repository.founder)().ok_or(NatsError::NoCommit)?;
    let log = Log::begin(server, &founder)?;
    let Identity { log: name, founder } = log.identity().clone();
    note(store, &Moving { log: name, founder, closes: None })?;
    let moved = store.write(|txn| -> Result<(), Stop> {
        if place(txn)?.is_some() {
            return Err(QueueError::from(MoveError::There).into());
        }
        load(txn)?;
        txn.age_queue()?;
        let mut has = 0;
        for change in Change::everything(txn)? {
            if !log.append(has, &change).map_err(QueueError::from)? {
                return Err(QueueError::from(MoveError::Changed).into());
            }
            has += 1;
        }
        // From here on others may take it for the queue.
        log.name().map_err(|error| Stop::Undecided(error.into()))?;
        Ok(arrive(txn, server, log.identity(), has)?)
    });
    match moved {
        Ok(()) => Ok(()),
        // The next look finds out.
        Err(Stop::Undecided(error)) => Err(error),
        Err(Stop::Before(error)) => {
            forget(store)?;
            if let Err(error) = log.delete() {
                tracing::warn!(error = crate::model::error_text(&error), "a stream without a name was left");
            }
            Err(error)
        }
    }
}

/// Moves everything into the store. What a server does not have any more is what this machine knows of it.
pub(crate) fn to_file(store: &Arc<Store>, server: &Server) -> Result<(), QueueError> {
    let is_finished = settle(store, Some(server))?;
    let Some(known) = store.read(place)? else {
        return if is_finished { Ok(()) } else { Err(MoveError::There.into()) };
    };
    let log = match Log::open(server, None) {
        Ok(log) if log.identity().log == known.log => log,
        Ok(_) | Err(NatsError::NoStream { .. }) => {
            return store.write(|txn| {
                load(txn)?;
                Ok(return_home(txn)?)
            });
        }
        Err(error) => return Err(error.into()),
    };
    let closing = Change::closing();
    let Identity { log: name, founder } = log.identity().clone();
    note(store, &Moving { log: name, founder, closes: Some(closing.id.clone()) })?;
    let moved = store.write(|txn| -> Result<(), Stop> {
        load(txn)?;
        if !log.append(applied(txn)?, &closing).map_err(|error| Stop::Undecided(error.into()))? {
            return Err(QueueError::from(MoveError::Changed).into());
        }
        Ok(return_home(txn)?)
    });
    match moved {
        Ok(()) => {
            // Its last message says that it is closed; without that it only takes place.
            if let Err(error) = log.delete() {
                tracing::warn!(error = crate::model::error_text(&error), "the closed stream was left");
            }
            Ok(())
        }
        Err(Stop::Undecided(error)) => Err(error),
        Err(Stop::Before(error)) => {
            forget(store)?;
            Err(error)
        }
    }
}

/// Finishes or forgets a move that was cut off; whether it finished one.
pub(super) fn settle(store: &Arc<Store>, server: Option<&Server>) -> Result<bool, QueueError> {
    let text = store.meta(MOVING)?;
    let Some(moving) = text.and_then(|text| serde_json::from_str::<Moving>(&text).ok()) else { return Ok(false) };
    let server = server.ok_or(MoveError::CutOff)?;
    match (moving.closes.as_deref(), Log::open(server, None)) {
        (None, Ok(log)) if log.identity().log == moving.log => {
            store.write(|txn| {
                txn.age_queue()?;
                // Others may have logged more since it has a name; what it began with is what is here.
                let has = u64::try_from(Change::everything(txn)?.len()).unwrap_or(u64::MAX);
                arrive(txn, server, log.identity(), has)
            })?;
            Ok(true)
        }
        (Some(id), Ok(log)) if log.ends_with(id)? => {
            store.write(|txn| Ok::<_, QueueError>(return_home(txn)?))?;
            Ok(true)
        }
        (_, Ok(_) | Err(NatsError::NoStream { .. } | NatsError::Foreign { .. })) => forget(store).map(|()| false),
        (_, Err(error)) => Err(error.into()),
    }
}

/// Where a move was stopped.
enum Stop {
    /// Before the step that decides.
    Before(QueueError),
    /// Nobody knows on which side of it.
    Undecided(QueueError),
}

impl From<QueueError> for Stop {
    fn from(error: QueueError) -> Self {
        Self::Before(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Before(error.into())
    }
}

/// Notes what is about to happen.
fn note(store: &Store, moving: &Moving) -> Result<(), QueueError> {
    let text = serde_json::to_string(moving).expect("names are plain text");
    Ok(store.set_meta(MOVING, &text)?)
}

/// Forgets what was to happen.
fn forget(store: &Store) -> Result<(), QueueError> {
    store.write(|txn| Ok(txn.forget_meta(MOVING)?))
}

/// Makes the tables a replica that has this much of its log.
fn arrive(txn: &Txn<'_>, server: &Server, identity: &Identity, has: u64) -> Result<(), QueueError> {
    put_place(txn, server, identity)?;
    set_applied(txn, has)?;
    Ok(txn.forget_meta(MOVING)?)
}

/// Makes the tables the queue itself.
fn return_home(txn: &Txn<'_>) -> Result<(), StoreError> {
    txn.age_queue()?;
    leave_in(txn)?;
    txn.forget_meta(MOVING)
}
