//! The shape of the event stream.

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::event::{Event, SwarmEvent};
use crate::model::message::Message;
use crate::model::ticket::TicketState;
use crate::model::{NodeName, RunId, TicketId, Time, WorkerId};

/// One line of `events --json`: one thing that happened, with its place in the one order of everything that happened.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct EventView {
    /// [`super::VIEW_VERSION`].
    pub(crate) version: u32,
    /// Its number; grows by one with every event of the project, or with every one that a node told. `--since` with it
    /// continues after it.
    pub(crate) seq: i64,
    /// When it happened.
    pub(crate) at: Time,
    /// The command or coordinator run it belongs to.
    pub(crate) run: Option<RunId>,
    /// The ticket it is about.
    pub(crate) ticket: Option<TicketId>,
    /// The worker it is about.
    pub(crate) worker: Option<WorkerId>,
    /// The node that it happened at, where those of all nodes are shown; null for this one's own.
    pub(crate) node: Option<NodeName>,
    /// What happened: `kind` and `event`, and what belongs to them.
    #[serde(flatten)]
    pub(crate) fact: Fact,
}

/// What happened, by who says it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Fact {
    /// The queue: tickets and their states.
    Queue(QueueFact),
    /// A worker's supervisor, or landing.
    Worker(Event),
    /// The coordinator.
    Swarm(SwarmEvent),
    /// A channel.
    Bus(BusFact),
    /// The stream itself.
    Stream(StreamFact),
}

/// What happened on a channel that is kept in this repository.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum BusFact {
    /// A message was published.
    Published {
        /// It.
        message: Message,
    },
}

/// What happened in the queue.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum QueueFact {
    /// A ticket changed its state.
    Moved {
        /// From which; null for the first publication.
        from: Option<TicketState>,
        /// To which.
        to: TicketState,
        /// The ticket's fence after the change.
        fence: u64,
        /// Attempts begun after the change.
        attempt: u32,
        /// Who did it.
        by: String,
    },
}

/// What a reader of the stream should know about it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum StreamFact {
    /// Events that were asked for are too old to be kept any more.
    Pruned {
        /// The first that is missing.
        first: i64,
        /// The last that is missing.
        last: i64,
    },
    /// The server, where those of all nodes are, does not answer. What happens meanwhile comes when it does.
    Away {
        /// Why, as a clause.
        reason: String,
    },
    /// An event that this version of the program cannot read.
    Unreadable {
        /// Why.
        reason: String,
    },
}
