//! The views of nodes.

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::Time;
use crate::model::ticket::TicketState;

/// `node list --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct NodesView {
    /// [`super::VIEW_VERSION`].
    pub(crate) version: u32,
    /// When it was drawn up.
    pub(crate) at: Time,
    /// The nodes that are registered, by name.
    pub(crate) nodes: Vec<NodeView>,
}

/// One node.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct NodeView {
    /// What it is called.
    pub(crate) name: String,
    /// What it does.
    pub(crate) state: NodeState,
    /// Whether it is this clone.
    pub(crate) is_this: bool,
    /// What it offers beside what its agents offer.
    pub(crate) capabilities: Vec<String>,
    /// Workers that run there.
    pub(crate) running: usize,
    /// Workers that may run there at once.
    pub(crate) max_workers: usize,
    /// The load of its machine over the last minute, by core; null where that is not known.
    pub(crate) load: Option<f64>,
    /// Whether it lands what is approved.
    pub(crate) lands: bool,
    /// The version of its program.
    pub(crate) version: String,
    /// When it joined.
    pub(crate) joined_at: Time,
    /// How long ago it was heard, in milliseconds of the server's clock.
    pub(crate) heard_ms: u64,
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NodeState {
    /// It takes tickets.
    Active,
    /// It takes nothing new, and what it works on comes to its end.
    Draining,
    /// It takes nothing new, nothing runs there, and nothing that it finished has yet to land.
    Drained,
    /// It has said nothing for 4.5 seconds.
    Silent,
    /// It has said nothing for 7 seconds: others go on with what it had.
    Gone,
}

impl NodeState {
    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Silent => "silent",
            Self::Gone => "gone",
        }
    }
}

/// `node join --json`, `node drain --json`, `node remove --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct NodeChangedView {
    /// [`super::VIEW_VERSION`].
    pub(crate) version: u32,
    /// The node.
    pub(crate) node: String,
    /// What became of it: `joined`, `drained`, `active` or `removed`.
    pub(crate) action: String,
    /// The same as a sentence.
    pub(crate) text: String,
}

/// A ticket that another node works on.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct ElsewhereView {
    /// The ticket.
    pub(crate) ticket: String,
    /// Where it is.
    pub(crate) state: TicketState,
    /// The node.
    pub(crate) node: String,
}
