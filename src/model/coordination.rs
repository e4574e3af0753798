//! What a coordinator establishes: why a ticket does not move, and which runs there were.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RunId, TicketId, Time};

/// The role of whoever starts, resumes and lands by itself.
pub(crate) const COORDINATOR: &str = "coordinator";

/// The role of the node that assigns tickets to all nodes, in a topology that has one.
pub(crate) const ASSIGNER: &str = "assigner";

/// Why a ticket does not move now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Hold {
    /// The ticket.
    pub(crate) ticket: TicketId,
    /// What would let it go on.
    pub(crate) kind: HoldKind,
    /// One clause for a person, to follow the ticket's name: ``waits for `lexer`, which is running``.
    pub(crate) why: String,
    /// When it is over, where that is known.
    pub(crate) until: Option<Time>,
}

/// What a held ticket waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HoldKind {
    /// Another ticket.
    Dependency,
    /// A place: as many workers run as may, or work runs that it must not run beside.
    Place,
    /// The time between two attempts, or a model that wants to be left alone.
    Time,
    /// A person: review, an answer, something broken.
    Person,
    /// A limit or budget that somebody would have to raise.
    Limit,
}

impl HoldKind {
    /// Whether it ends by itself, as far as anybody can tell.
    pub(crate) fn passes(self) -> bool {
        matches!(self, Self::Dependency | Self::Place | Self::Time)
    }
}

/// One run of a coordinator, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    /// Its id, as the events and tool logs of what it started have it.
    pub(crate) id: RunId,
    /// When it began.
    pub(crate) began_at: Time,
    /// The tickets it was to bring to an end; `None` is whatever is queued.
    pub(crate) tickets: Option<Vec<TicketId>>,
    /// Workers at once.
    pub(crate) max_workers: usize,
    /// Whether it landed what was approved.
    pub(crate) lands: bool,
    /// Who it was: machine and process.
    pub(crate) holder: String,
    /// How it ended; absent while it runs, and for ever when it was killed.
    pub(crate) ended: Option<RunEnd>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunEnd {
    /// When.
    pub(crate) at: Time,
    /// Its exit code.
    pub(crate) exit_code: u8,
    /// One clause for a person.
    pub(crate) why: String,
}
