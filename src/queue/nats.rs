//! The NATS engine: one queue for the processes of many machines, in a stream of a JetStream server.
//!
//! # Theory of operation
//!
//! The stream is a **log of changes**, one message for each operation that changed something, in one order for everybody.
//! Each machine has a **replica**: the tables of the file engine in its own store, and how far in the log they are.
//!
//! An operation runs on the replica by the file engine's own rules, in a transaction that is rolled back, which yields its
//! answer and its change. The change is then offered to the log as the message right after the last one the replica has;
//! the server takes it only if there is none yet. Taken, it is applied to the replica for good. Refused, the replica takes
//! over what others logged meanwhile and the operation runs again. So every promise of the file engine holds across
//! machines: whatever an operation looked at was true when its change was made.
//!
//! A change that only prolongs a lease has a subject of its own, by ticket or role, and the server deletes the one before
//! it on that subject: what it said is said again by the next. So the log grows with work that is done and not with time,
//! and its numbers have gaps.
//!
//! The log would still grow for ever, so it is **shortened**: the tables as its first messages make them are put beside it as
//! its **beginning**, and the messages are deleted (the page of `shorten` has how, and why nothing is lost). A replica that
//! lacks any of those begins with the beginning and reads on from there.
//!
//! An answer that changes nothing, a refusal for example, counts only when the replica had all of the log.
//!
//! **What survives**: an operation returns after the server has its change on file, so it survives the end of any process,
//! of this machine, and of the server; power cuts of the server as far as its `sync_interval` goes. A change whose
//! answer is lost is offered again for the same place, and found there if it had arrived; when the server stays away, the
//! caller is told that it is unknown whether the change was made.
//!
//! **Times** are the server's: whatever an operation does happens at the moment that the server's clock says, so machines
//! whose clocks differ agree on when a lease ends.
//!
//! **Beside the log** the server keeps what the nodes of a project tell each other: a [`Board`] of short entries that are
//! changed by compare-and-swap, and [`Objects`], the bundles of commits that they hand to each other. Both go by the same
//! connection, a [`Link`]. The queue needs neither.
//!
//! **Differences from the file engine**: it needs the server, and says so when that is away; age is a number of the log;
//! events have numbers of the machine's own. A machine that joined, or was away, while the log was shortened has one event
//! for each ticket that changed in what it did not read: from the state that it knew to the one that it found, at the time
//! of the last change, by `log`. So the last event of a ticket says where it is and follows from the one before it on every
//! machine; which steps lay between, and who made them, is not among them. For other programs the history stream has all.

mod beginning;
mod board;
mod bus;
mod change;
mod clock;
mod connection;
mod error;
mod events;
mod gateway;
mod log;
mod objects;
mod part;
mod replica;
mod shorten;
mod spend;
mod stream;
#[cfg(test)]
#[cfg(feature = "real-agents")]
mod tests;
mod watch;

pub(crate) use board::{Board, Posted};
pub(crate) use bus::NatsBus;
pub(crate) use change::Change;
pub(crate) use connection::Link;
pub(crate) use error::NatsError;
pub(crate) use gateway::{Gateway, GatewaySettings};
pub(crate) use log::Log;
pub(crate) use objects::Objects;
pub(crate) use replica::{NatsQueue, applied, forget_applied, seen, set_applied};
pub(crate) use shorten::Keep;
pub(crate) use spend::REPORTS_KEPT_DAYS;
pub(crate) use stream::{Identity, foreign};
#[cfg(all(test, feature = "real-agents"))]
pub(crate) use tests::NatsEngine;
pub(crate) use watch::Watch;
