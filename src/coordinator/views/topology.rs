//! The views of topologies.

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::topology::{Role, Skipped, Topology};
use crate::model::{AgentName, Time};

/// `topology show --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct TopologyView {
    /// [`super::VIEW_VERSION`].
    pub(crate) version: u32,
    /// When it was drawn up.
    pub(crate) at: Time,
    /// The name it was chosen by; null where it is no saved one.
    pub(crate) name: Option<String>,
    /// Who decided that it is this one.
    pub(crate) source: TopologySource,
    /// The topology with all its parameters.
    pub(crate) topology: Topology,
    /// Who may assign, as a sentence.
    pub(crate) assigns: String,
    /// Who may message whom, as a sentence.
    pub(crate) messages: String,
    /// Everybody there is: coordinators first, workers last.
    pub(crate) members: Vec<MemberView>,
    /// Who assigns to whom and who may message whom, as far as both are there.
    pub(crate) links: Vec<LinkView>,
    /// Tickets that go round a ring, with whose turn it is.
    pub(crate) tokens: Vec<TokenView>,
    /// Links between workers that are not listed, because there are too many.
    pub(crate) links_left_out: usize,
}

/// Who decided about a topology.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TopologySource {
    /// Nobody: it is what there is without a setting.
    Default,
    /// The configuration.
    Configuration,
    /// Somebody, with `swarm topology set`.
    Set,
    /// Nobody yet: it is shown as it would be.
    Asked,
}

impl TopologySource {
    /// The same as words to follow the name of the topology.
    pub(crate) fn clause(self) -> &'static str {
        match self {
            Self::Default => "by default",
            Self::Configuration => "by the configuration",
            Self::Set => "set while running",
            Self::Asked => "as it would be",
        }
    }
}

/// Somebody in a topology.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct MemberView {
    /// Their name, unique among all.
    pub(crate) id: String,
    /// What they are.
    pub(crate) what: MemberKind,
    /// Their role.
    pub(crate) role: Role,
    /// Who assigns to them; null where nobody does.
    pub(crate) parent: Option<String>,
    /// What they do, as a word; null where that is not known.
    pub(crate) status: Option<String>,
    /// Workers that they may have at once; null where nothing limits them.
    pub(crate) max_workers: Option<usize>,
    /// Tickets that are theirs: of a worker the one it works on, of others those that wait.
    pub(crate) tickets: Vec<String>,
}

/// What somebody in a topology is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MemberKind {
    /// A clone with a coordinator of its own.
    Node,
    /// The process that starts and lands.
    Coordinator,
    /// A part of the tickets, and who works on them.
    Supervisor,
    /// An agent of a ring.
    Agent,
    /// An agent on a ticket.
    Worker,
}

/// What one may do to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct LinkView {
    /// Who.
    pub(crate) from: String,
    /// To whom.
    pub(crate) to: String,
    /// What.
    pub(crate) what: LinkKind,
}

/// What one may do to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LinkKind {
    /// Assign tickets.
    Assigns,
    /// Message, and be messaged back.
    Messages,
    /// Pass tickets on.
    Passes,
}

/// A ticket that goes round a ring.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct TokenView {
    /// The ticket.
    pub(crate) ticket: String,
    /// The agents in the order of this ticket.
    pub(crate) agents: Vec<AgentName>,
    /// Who has its token; null when nobody is left.
    pub(crate) holder: Option<AgentName>,
    /// Whose turn that is, from 1.
    pub(crate) turn: usize,
    /// Since when.
    pub(crate) since: Time,
    /// Agents that were passed over.
    pub(crate) skipped: Vec<Skipped>,
}

/// `topology list --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct TopologiesView {
    /// [`super::VIEW_VERSION`].
    pub(crate) version: u32,
    /// Kinds with their default parameters first, then those that are saved by name.
    pub(crate) topologies: Vec<SavedTopologyView>,
}

/// A topology that can be chosen.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct SavedTopologyView {
    /// What it is chosen by.
    pub(crate) name: String,
    /// The topology with all its parameters.
    pub(crate) topology: Topology,
    /// Whether it is in force now.
    pub(crate) is_in_force: bool,
}

/// `topology set --json`, `topology reset --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct TopologyChangedView {
    /// [`super::VIEW_VERSION`].
    pub(crate) version: u32,
    /// Whether nothing was changed because only the plan was asked for.
    pub(crate) dry_run: bool,
    /// Whether it is another one than before.
    pub(crate) changed: bool,
    /// What came of it, as a sentence.
    pub(crate) text: String,
    /// The topology from now on; with `dry_run` as it would be.
    pub(crate) now: TopologyView,
}
