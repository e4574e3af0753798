//! Nodes: clones of one repository that work on one queue, and what they tell each other about themselves.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::topology::Round;
use super::{CommitId, NodeName, TicketId, Time};

/// Version of the shapes here.
const NODE_SCHEMA: u32 = 1;

/// This clone among those that share a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NodeSettings {
    /// What it is called; `None` is a name made of the machine's and the folder's.
    pub(crate) name: Option<NodeName>,
    /// What it offers beside what its agents offer.
    pub(crate) capabilities: Vec<String>,
    /// The remote that carries commits between nodes; `None` is the server of the queue.
    pub(crate) remote: Option<String>,
    /// Bytes of a bundle of commits that go through the server of the queue, from 1.
    pub(crate) bundle_bytes: u64,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self { name: None, capabilities: Vec::new(), remote: None, bundle_bytes: 256 * 1024 * 1024 }
    }
}

/// What a node says about itself, again and again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeRecord {
    /// [`NODE_SCHEMA`].
    schema: u32,
    /// What it is called.
    pub(crate) name: NodeName,
    /// Tells its clone from every other one.
    pub(crate) clone: String,
    /// What it offers beside what its agents offer.
    pub(crate) capabilities: Vec<String>,
    /// Workers at once, as configured.
    pub(crate) max_workers: usize,
    /// The same where scaling says otherwise.
    #[serde(default)]
    pub(crate) scaled: Option<usize>,
    /// Workers that run.
    pub(crate) running: usize,
    /// The load of its machine over the last minute, by core.
    pub(crate) load: Option<f64>,
    /// Whether it lands what is approved.
    pub(crate) lands: bool,
    /// Whether it takes nothing new.
    pub(crate) is_draining: bool,
    /// The tickets that somebody chose for it, as `swarm run TICKET` does; `None` where it takes any.
    #[serde(default)]
    pub(crate) chosen: Option<BTreeSet<TicketId>>,
    /// The version of its program.
    pub(crate) version: String,
    /// When it joined.
    pub(crate) joined_at: Time,
    /// When it said this, by its own clock.
    pub(crate) at: Time,
}

impl NodeRecord {
    /// The record of a node at rest.
    pub(crate) fn new(name: NodeName, clone: String, capabilities: Vec<String>, max_workers: usize) -> Self {
        let (version, now) = (env!("CARGO_PKG_VERSION").to_owned(), Time::now());
        Self {
            schema: NODE_SCHEMA,
            name,
            clone,
            capabilities,
            max_workers,
            scaled: None,
            running: 0,
            load: None,
            lands: false,
            is_draining: false,
            chosen: None,
            version,
            joined_at: now,
            at: now,
        }
    }

    /// Workers at once.
    pub(crate) fn limit(&self) -> usize {
        self.scaled.unwrap_or(self.max_workers)
    }
}

/// Where a target is for the whole swarm: the commit that landed last, whichever node landed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tip {
    /// [`NODE_SCHEMA`].
    schema: u32,
    /// The commit.
    pub(crate) commit: CommitId,
    /// The node that landed it.
    pub(crate) node: String,
    /// The fence of its turn to land.
    pub(crate) fence: u64,
    /// When, by its clock.
    pub(crate) at: Time,
    /// The commit that every clone has by itself: where the target was when the swarm first landed something on it.
    pub(crate) base: CommitId,
    /// The commits whose bundles lead from the base to this one, in order.
    pub(crate) chain: Vec<CommitId>,
    /// The tickets whose work came in with it: they have landed, whoever says so to the queue.
    #[serde(default)]
    pub(crate) landed: Vec<LandedTicket>,
}

/// A ticket whose work has landed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LandedTicket {
    /// It.
    pub(crate) ticket: TicketId,
    /// The fence of the attempt whose work it is.
    pub(crate) fence: u64,
}

impl Tip {
    /// A tip from now on, with which nothing came in and to which no bundle leads.
    pub(crate) fn now(commit: CommitId, node: String, fence: u64, base: CommitId) -> Self {
        let (chain, landed) = (Vec::new(), Vec::new());
        Self { schema: NODE_SCHEMA, commit, node, fence, at: Time::now(), base, chain, landed }
    }
}

/// Which node is to take which ticket, as the one that assigns says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Assignments {
    /// [`NODE_SCHEMA`].
    schema: u32,
    /// The node that assigns.
    pub(crate) by: String,
    /// The node of each ticket that is not over.
    pub(crate) tickets: BTreeMap<TicketId, String>,
    /// When, by its clock.
    pub(crate) at: Time,
}

impl Assignments {
    /// What a node says from now on.
    pub(crate) fn now(by: &NodeName, tickets: BTreeMap<TicketId, String>) -> Self {
        Self { schema: NODE_SCHEMA, by: by.to_string(), tickets, at: Time::now() }
    }
}

/// The work on a ticket as its node handed it over, in case that node goes away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Carried {
    /// [`NODE_SCHEMA`].
    schema: u32,
    /// The ticket.
    pub(crate) ticket: TicketId,
    /// The fence under which it was worked on.
    pub(crate) fence: u64,
    /// The node.
    pub(crate) node: String,
    /// What there is of it.
    #[serde(flatten)]
    pub(crate) made: Made,
    /// When, by the node's clock.
    pub(crate) at: Time,
}

/// What there is of the work on a ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    /// Where the branch is.
    pub(crate) head: CommitId,
    /// A snapshot on top of that with what is not committed; `None` where all is.
    pub(crate) snapshot: Option<CommitId>,
    /// Whether its attempt has come to a good end: it is to be judged, or was.
    #[serde(default)]
    pub(crate) is_finished: bool,
    /// The approval that lets it land.
    #[serde(default)]
    pub(crate) approval: Option<Approval>,
    /// Where it is on its way round a ring; `None` where it goes round none.
    #[serde(default)]
    pub(crate) round: Option<Round>,
}

/// That somebody approved work as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Approval {
    /// Who, as git names them.
    pub(crate) by: String,
    /// What they said of the whole.
    pub(crate) text: String,
}

impl Carried {
    /// The work as it is now.
    pub(crate) fn now(ticket: &TicketId, fence: u64, node: &str, made: Made) -> Self {
        let (ticket, node) = (ticket.clone(), node.to_owned());
        Self { schema: NODE_SCHEMA, ticket, fence, node, made, at: Time::now() }
    }

    /// The commit that has all of it.
    pub(crate) fn commit(&self) -> &CommitId {
        self.made.commit()
    }
}

impl Made {
    /// The commit that has all of it.
    pub(crate) fn commit(&self) -> &CommitId {
        self.snapshot.as_ref().unwrap_or(&self.head)
    }
}
