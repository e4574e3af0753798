//! Which engine keeps a project's queue: the one place where that is decided.
//!
//! The tables of both engines are the same ones, in the project's own store: with the file engine they are the queue, with
//! a server they are a replica of it. So a project's **place** is a fact in that store: a server, or the store itself where
//! none is written down. It changes only while the tables are empty, or by moving all of them (`swarm queue migrate`); and
//! each engine looks at it in every transaction that writes, so that a process that opened the queue before it moved
//! changes nothing afterwards.
//!
//! Settings that name another place than where the tickets are are refused, whichever way. Settings that may fall back
//! (`auto`) do so where there is no server that can be used and no ticket is open there: an open one may be in the hands of
//! another machine.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::migrate::settle;
use super::nats::{Identity, Log, NatsError, NatsQueue, foreign};
use super::server::Server;
use super::{FileQueue, Queue, QueueError};
use crate::store::{Store, StoreError, Txn};

/// The store's word for the place.
const PLACE: &str = "queue_place";
/// Its word for the end of the log of that place.
const CLOSED: &str = "queue_log_closed";

/// What settings ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Engine {
    /// The project's own store.
    File,
    /// A server.
    Server {
        /// Which.
        server: Server,
        /// Whether the store is as good where there is none.
        falls_back: bool,
    },
}

impl Engine {
    /// The server, where one is asked for.
    fn server(&self) -> Option<&Server> {
        match self {
            Self::File => None,
            Self::Server { server, .. } => Some(server),
        }
    }
}

/// What a stream is told from another repository's by.
pub(crate) struct Repository<'a> {
    /// The commit that its history begins with, where there is one.
    pub(crate) founder: &'a dyn Fn() -> Option<String>,
    /// Whether it has a commit.
    pub(crate) has: &'a dyn Fn(&str) -> bool,
}

/// An open queue.
pub(crate) struct Opened {
    /// It.
    pub(crate) queue: Arc<dyn Queue>,
    /// Why the store took the place of a server.
    pub(crate) fell_back: Option<NatsError>,
}

/// Where a project's tickets are, unless in its own store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The address under which it was found.
    pub(crate) address: String,
    /// The project's name there.
    pub(crate) project: String,
    /// Names the log.
    pub(crate) log: String,
}

/// That settings name another place than where the tickets are.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Elsewhere {
    /// They are in the store.
    #[error("the tickets of this project are in its own store, not at `{address}`")]
    InFile {
        /// The server of the settings.
        address: String,
    },
    /// They are on a server.
    #[error("the tickets of this project are in the queue `{}` at `{}`", .0.project, .0.address)]
    OnServer(Place),
    /// Another machine took them off the server.
    #[error("the tickets of this project were moved away from the queue `{}` at `{}`", .0.project, .0.address)]
    Closed(Place),
    /// They went somewhere else since this process opened the queue.
    #[error("the tickets of this project were moved to another queue")]
    Moved,
}

impl Elsewhere {
    /// What to do about it.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::InFile { address } => {
                format!("swarm queue migrate --to {address} moves them; `queue: file` leaves them where they are")
            }
            Self::OnServer(Place { address, .. }) => {
                format!("set `queue: {address}` in .swarm/config.yaml, or move them: swarm queue migrate --to file")
            }
            Self::Closed(_) => "whoever moved them has them: swarm queue migrate moves them back".to_owned(),
            Self::Moved => "run the command again".to_owned(),
        }
    }
}

/// Opens a project's queue as its settings say; `by` names who acts in events.
pub(crate) fn open(
    store: &Arc<Store>,
    engine: &Engine,
    repository: &Repository<'_>,
    by: &str,
) -> Result<Opened, QueueError> {
    settle(store, engine.server())?;
    let (place, tables) = store.read(|txn| Ok::<_, QueueError>((place(txn)?, Tables::of(txn)?)))?;
    let in_file = |fell_back| {
        let queue: Arc<dyn Queue> = Arc::new(FileQueue::new(store.clone(), by));
        Ok(Opened { queue, fell_back })
    };
    match (engine, place) {
        (Engine::File, None) => in_file(None),
        (Engine::File, Some(place)) if tables != Tables::Empty => Err(Elsewhere::OnServer(place).into()),
        (Engine::File, Some(_)) => {
            leave(store)?;
            in_file(None)
        }
        (Engine::Server { falls_back: true, .. }, None) if tables != Tables::Empty => in_file(None),
        (Engine::Server { server, .. }, None) if tables != Tables::Empty => {
            Err(Elsewhere::InFile { address: server.address.clone() }.into())
        }
        (Engine::Server { server, falls_back }, place) => match on_server(store, server, repository, place, by) {
            Err(QueueError::Nats(error)) if *falls_back && error.is_no_server() && tables != Tables::Open => {
                leave(store)?;
                in_file(Some(error))
            }
            opened => Ok(Opened { queue: Arc::new(opened?), fell_back: None }),
        },
    }
}

/// Opens the queue that another process of this machine opened: on `server`, else in the store.
pub(crate) fn open_again(store: &Arc<Store>, server: Option<Server>, by: &str) -> Result<Arc<dyn Queue>, QueueError> {
    let Some(server) = server else { return Ok(Arc::new(FileQueue::new(store.clone(), by))) };
    let log = Log::open(&server, None)?;
    check_place(store, log.identity())?;
    Ok(Arc::new(NatsQueue::new(log, server, store.clone(), by)))
}

/// Opens the queue on a server and notes that it is there.
fn on_server(
    store: &Arc<Store>,
    server: &Server,
    repository: &Repository<'_>,
    place: Option<Place>,
    by: &str,
) -> Result<NatsQueue, QueueError> {
    let closed = store.read(is_closed)?;
    let founder = match &place {
        Some(place) if place.project != server.project => return Err(Elsewhere::OnServer(place.clone()).into()),
        // A stream that was there is not made again: what it had would seem never to have been.
        Some(_) => None,
        None => Some((repository.founder)().ok_or(NatsError::NoCommit)?),
    };
    let log = match (Log::open(server, founder), &place) {
        (Err(NatsError::NoStream { .. }), Some(place)) if closed => return Err(Elsewhere::Closed(place.clone()).into()),
        (opened, _) => opened?,
    };
    if place.as_ref().is_none_or(|place| place.log != log.identity().log) {
        if place.is_some() && !closed {
            let (address, project) = (server.address.clone(), server.project.clone());
            return Err(NatsError::Replaced { address, project }.into());
        }
        if !(repository.has)(&log.identity().founder) {
            return Err(foreign(server).into());
        }
        enter(store, server, log.identity())?;
    }
    check_place(store, log.identity())?;
    Ok(NatsQueue::new(log, server.clone(), store.clone(), by))
}

/// What the tables hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tables {
    /// Nothing.
    Empty,
    /// Tickets that are all over.
    Over,
    /// A ticket that is not.
    Open,
}

impl Tables {
    /// Looks.
    fn of(txn: &Txn<'_>) -> Result<Self, QueueError> {
        let states = txn.ticket_states()?;
        Ok(match states.iter().all(|(_, state)| state.is_ended()) {
            true if states.is_empty() => Self::Empty,
            true => Self::Over,
            false => Self::Open,
        })
    }
}

/// Where the tickets of a store are; `None` is in it.
pub(crate) fn place(txn: &Txn<'_>) -> Result<Option<Place>, QueueError> {
    let text = txn.meta(PLACE)?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// Refuses to write where the tickets are not in the store any more.
pub(super) fn check_in_file(txn: &Txn<'_>) -> Result<(), QueueError> {
    match txn.meta(PLACE)? {
        None => Ok(()),
        Some(_) => Err(Elsewhere::Moved.into()),
    }
}

/// Refuses to write where the tickets are not in this log any more.
pub(super) fn check_in_log(txn: &Txn<'_>, identity: &Identity) -> Result<(), QueueError> {
    match place(txn)? {
        Some(place) if place.log == identity.log && is_closed(txn)? => Err(Elsewhere::Closed(place).into()),
        Some(place) if place.log == identity.log => Ok(()),
        _ => Err(Elsewhere::Moved.into()),
    }
}

/// The same in a transaction of its own.
fn check_place(store: &Store, identity: &Identity) -> Result<(), QueueError> {
    store.read(|txn| check_in_log(txn, identity))
}

/// Makes the tables, which are empty, a replica of a log.
fn enter(store: &Store, server: &Server, identity: &Identity) -> Result<(), QueueError> {
    store.write(|txn| {
        match place(txn)? {
            None if Tables::of(txn)? != Tables::Empty => {
                return Err(Elsewhere::InFile { address: server.address.clone() }.into());
            }
            // Another process was faster.
            Some(_) if !is_closed(txn)? => return Ok(()),
            _ => {}
        }
        txn.clear_queue()?;
        put_place(txn, server, identity)
    })
}

/// Notes that the tickets are on a server, and that nothing of its log was applied.
pub(super) fn put_place(txn: &Txn<'_>, server: &Server, identity: &Identity) -> Result<(), QueueError> {
    let place = Place { address: server.address.clone(), project: server.project.clone(), log: identity.log.clone() };
    let text = serde_json::to_string(&place).expect("a place is plain text");
    txn.set_meta(PLACE, &text)?;
    txn.forget_meta(CLOSED)?;
    Ok(super::nats::forget_applied(txn)?)
}

/// Makes the tables the queue itself.
fn leave(store: &Store) -> Result<(), QueueError> {
    store.write(|txn| Ok(leave_in(txn)?))
}

/// The same in a transaction under way.
pub(super) fn leave_in(txn: &Txn<'_>) -> Result<(), StoreError> {
    super::nats::forget_applied(txn)?;
    txn.forget_meta(CLOSED)?;
    txn.forget_meta(PLACE)
}

/// Notes that the log of the tables ended.
pub(super) fn close(txn: &Txn<'_>) -> Result<(), QueueError> {
    Ok(txn.set_meta(CLOSED, "1")?)
}

/// Whether the log of the tables ended.
fn is_closed(txn: &Txn<'_>) -> Result<bool, QueueError> {
    Ok(txn.meta(CLOSED)?.is_some())
}
