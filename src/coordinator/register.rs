//! The register of nodes: what each says about itself on the board of the queue's server.
//!
//! A node is `node.NAME`, said again every few seconds by its coordinator. `drain.NAME` asks it to take nothing new; it is
//! a key of its own, because the other one is the node's alone to write. `carried.TICKET` says where the work on a ticket is
//! that a node handed over, in case it goes away. `scaling` is how many workers all of them may run, and who decides that.
//! `topology` is the one that somebody chose, and `assigned` says which node is to take which ticket, where one node assigns.

use std::time::Duration;

use super::failure::Failure;
use crate::landing::{CARRIED, TIPS};
use crate::model::node::{Assignments, Carried, NodeRecord};
use crate::model::scaling::SwarmScaling;
use crate::model::topology::TopologyRecord;
use crate::model::{NodeName, TicketId, Time};
use crate::queue::{Board, NatsError, Posted, Queue, QueueError};

/// How often a node says that it is there.
pub(super) const BEAT_EVERY: Duration = Duration::from_secs(2);
/// How long a node may say nothing until that is told: a beat is late, and half a second more.
pub(super) const SILENT_AFTER: Duration = Duration::from_millis(4_500);
/// How long a node may say nothing until it counts as gone: two beats may be lost.
pub(super) const GONE_AFTER: Duration = Duration::from_secs(7);

/// The keys of nodes.
const NODES: &str = "node";
/// The keys of those that are to take nothing new.
const DRAINED: &str = "drain";

/// The key of what the swarm was scaled to.
const SCALING: &str = "scaling";
/// The key of the topology that somebody chose.
const TOPOLOGY: &str = "topology";

/// The key of what the node that assigns says.
const ASSIGNED: &str = "assigned";

/// The nodes of a project.
#[derive(Debug, Clone)]
pub(super) struct Register {
    board: Board,
}

/// A node as it is registered.
#[derive(Debug, Clone)]
pub(super) struct Registered {
    /// What it said last.
    pub(super) record: NodeRecord,
    /// The revision of that.
    pub(super) revision: u64,
    /// How long ago that was, by the server's clock.
    pub(super) age: Duration,
    /// Whether somebody asked it to take nothing new.
    pub(super) is_draining: bool,
}

impl Registered {
    /// Whether it has said nothing for too long.
    pub(super) fn is_gone(&self) -> bool {
        self.age >= GONE_AFTER
    }
}

impl Register {
    /// The register beside a queue; `None` where no server keeps that.
    pub(super) fn open(queue: &dyn Queue) -> Result<Option<Self>, QueueError> {
        Ok(queue.link().map(Board::open).transpose()?.map(|board| Self { board }))
    }

    /// What landed last on each target, as keys and revisions.
    pub(super) fn tips(&self) -> Result<Vec<(String, u64)>, QueueError> {
        Ok(self.board.entries(TIPS)?.into_iter().map(|entry| (entry.key, entry.revision)).collect())
    }

    /// All nodes by name. What a newer program wrote and this one cannot read is passed over.
    pub(super) fn nodes(&self) -> Result<Vec<Registered>, QueueError> {
        let drained = self.board.entries(DRAINED)?;
        let is_drained = |name: &NodeName| drained.iter().any(|entry| entry.key == key(DRAINED, name));
        let read = |entry: Posted| {
            let record: NodeRecord = serde_json::from_slice(&entry.value).ok()?;
            let is_draining = is_drained(&record.name);
            Some(Registered { record, revision: entry.revision, age: entry.age, is_draining })
        };
        Ok(self.board.entries(NODES)?.into_iter().filter_map(read).collect())
    }

    /// One node; `None` where there is none of that name.
    pub(super) fn node(&self, name: &NodeName) -> Result<Option<Registered>, QueueError> {
        Ok(self.nodes()?.into_iter().find(|known| known.record.name == *name))
    }

    /// Says what a node is, where the last revision of that is `known`; the new one, or `None` where somebody else said so
    /// meanwhile.
    pub(super) fn say(&self, record: &NodeRecord, known: Option<u64>) -> Result<Option<u64>, QueueError> {
        let value = serde_json::to_vec(record).map_err(|source| NatsError::Unreadable { seq: 0, source })?;
        Ok(self.board.put(&key(NODES, &record.name), &value, known)?)
    }

    /// Asks a node to take nothing new, or takes that back.
    pub(super) fn set_draining(&self, name: &NodeName, is_draining: bool) -> Result<(), QueueError> {
        let key = key(DRAINED, name);
        match (self.board.entry(&key)?, is_draining) {
            // Somebody who is faster asks for the same.
            (None, true) => self.board.put(&key, b"{}", None).map(drop)?,
            (Some(_), false) => self.board.remove(&key)?,
            _ => {}
        }
        Ok(())
    }

    /// The work on a ticket as some node handed it over, with its revision; `None` where none did.
    pub(super) fn carried(&self, ticket: &TicketId) -> Result<Option<(Carried, u64)>, QueueError> {
        let entry = self.board.entry(&format!("{CARRIED}.{ticket}"))?;
        Ok(entry.and_then(|entry| Some((serde_json::from_slice(&entry.value).ok()?, entry.revision))))
    }

    /// The tickets of which some node handed work over.
    pub(super) fn all_carried(&self) -> Result<Vec<Carried>, QueueError> {
        let entries = self.board.entries(CARRIED)?;
        Ok(entries.iter().filter_map(|entry| serde_json::from_slice(&entry.value).ok()).collect())
    }

    /// Says where the work on a ticket is; false where somebody else has said so since the revision `known`.
    pub(super) fn say_carried(&self, carried: &Carried, known: Option<u64>) -> Result<bool, QueueError> {
        let value = serde_json::to_vec(carried).map_err(|source| NatsError::Unreadable { seq: 0, source })?;
        Ok(self.board.put(&format!("{CARRIED}.{}", carried.ticket), &value, known)?.is_some())
    }

    /// Forgets what was handed over of a ticket.
    pub(super) fn forget_carried(&self, ticket: &TicketId) -> Result<(), QueueError> {
        Ok(self.board.remove(&format!("{CARRIED}.{ticket}"))?)
    }

    /// What the swarm was scaled to, with its revision; `None` where nobody ever did.
    pub(super) fn scaling(&self) -> Result<Option<(SwarmScaling, u64)>, QueueError> {
        let Some(entry) = self.board.entry(SCALING)? else { return Ok(None) };
        let read = serde_json::from_slice(&entry.value);
        let scaling = read.map_err(|source| NatsError::Unreadable { seq: entry.revision, source })?;
        Ok(Some((scaling, entry.revision)))
    }

    /// Says what the swarm is scaled to, where the last revision of that is `known`; the new one, or `None` where somebody
    /// else said so meanwhile.
    pub(super) fn say_scaling(&self, scaling: &SwarmScaling, known: Option<u64>) -> Result<Option<u64>, QueueError> {
        let said = SwarmScaling { at: Some(Time::now()), ..scaling.clone() };
        let value = serde_json::to_vec(&said).map_err(|source| NatsError::Unreadable { seq: 0, source })?;
        Ok(self.board.put(SCALING, &value, known)?)
    }

    /// The topology that somebody chose, with its revision; `None` where the configuration decides.
    pub(super) fn topology(&self) -> Result<Option<(TopologyRecord, u64)>, QueueError> {
        let entry = self.board.entry(TOPOLOGY)?;
        Ok(entry.and_then(|entry| Some((serde_json::from_slice(&entry.value).ok()?, entry.revision))))
    }

    /// Keeps the topology that somebody chose, or that nobody does any more. Of two who choose at once the later one wins.
    pub(super) fn set_topology(&self, record: Option<&TopologyRecord>) -> Result<(), QueueError> {
        // Whoever assigns next is another question then.
        self.board.remove(ASSIGNED)?;
        let Some(record) = record else { return Ok(self.board.remove(TOPOLOGY)?) };
        let value = serde_json::to_vec(record).map_err(|source| NatsError::Unreadable { seq: 0, source })?;
        loop {
            let known = self.board.entry(TOPOLOGY)?.map(|entry| entry.revision);
            if self.board.put(TOPOLOGY, &value, known)?.is_some() {
                return Ok(());
            }
        }
    }

    /// Which node is to take which ticket, with the revision; `None` where nobody has assigned anything.
    pub(super) fn assignments(&self) -> Result<Option<(Assignments, u64)>, QueueError> {
        let entry = self.board.entry(ASSIGNED)?;
        Ok(entry.and_then(|entry| Some((serde_json::from_slice(&entry.value).ok()?, entry.revision))))
    }

    /// Says which node is to take which ticket, unless somebody has said so since the revision `known`; whether it did.
    pub(super) fn assign(&self, assignments: &Assignments, known: Option<u64>) -> Result<bool, QueueError> {
        let value = serde_json::to_vec(assignments).map_err(|source| NatsError::Unreadable { seq: 0, source })?;
        Ok(self.board.put(ASSIGNED, &value, known)?.is_some())
    }

    /// Forgets a node.
    pub(super) fn forget(&self, name: &NodeName) -> Result<(), QueueError> {
        self.board.remove(&key(NODES, name))?;
        self.set_draining(name, false)
    }
}

/// The key of a node.
fn key(prefix: &str, name: &NodeName) -> String {
    format!("{prefix}.{name}")
}

/// That a name belongs to another clone.
pub(super) fn taken(name: &NodeName) -> Failure {
    let text = format!("another clone is the node `{name}` at this moment");
    Failure::new(super::failure::FailureKind::Failed, text)
        .hint("give this one another name: swarm node join --name NAME")
}
