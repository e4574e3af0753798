//! `run --json`: how a run ended.

use schemars::JsonSchema;
use serde::Serialize;

use crate::coordinator::run::RunOutcome;
use crate::model::coordination::HoldKind;
use crate::model::ticket::TicketState;
use crate::model::{RunId, Time};

/// `run --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct RunView {
    /// [`super::VIEW_VERSION`].
    pub(crate) version: u32,
    /// Its id, as events and tool logs have it.
    pub(crate) run: RunId,
    /// How it ended.
    pub(crate) outcome: RunOutcome,
    /// Its exit code.
    pub(crate) exit_code: u8,
    /// The same as a clause.
    pub(crate) why: String,
    /// When it began.
    pub(crate) began_at: Time,
    /// When it ended.
    pub(crate) ended_at: Time,
    /// How many tickets reached their end.
    pub(crate) made: usize,
    /// Every chosen ticket, in the order of the queue.
    pub(crate) tickets: Vec<RunTicketView>,
}

/// One ticket of a run.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct RunTicketView {
    /// Ticket id.
    pub(crate) ticket: String,
    /// Its title.
    pub(crate) title: String,
    /// Where it is.
    pub(crate) state: TicketState,
    /// Whether it reached its end: landed or done; where nothing lands, also review and everything after.
    pub(crate) made: bool,
    /// Its worker, while that has a worktree.
    pub(crate) worker: Option<String>,
    /// Attempts begun.
    pub(crate) attempts: u32,
    /// Why it did not make it, as a clause after its name; null where it did.
    pub(crate) why: Option<String>,
    /// What it waits for, where it waits for something that can come.
    pub(crate) waits_for: Option<HoldKind>,
}

/// `up --json` and `down --json`, and in `status --json` who leads.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct CoordinatorView {
    /// [`super::VIEW_VERSION`].
    pub(crate) version: u32,
    /// What the coordinator in the background does.
    pub(crate) state: CoordinatorState,
    /// Its process.
    pub(crate) pid: Option<u32>,
    /// Since when it runs.
    pub(crate) since: Option<Time>,
    /// Who leads: this one, or a `swarm run`; null where nobody does.
    pub(crate) leader: Option<String>,
    /// Until when, unless the lease is renewed.
    pub(crate) lease_until: Option<Time>,
    /// The same as a sentence.
    pub(crate) text: String,
}

/// What the coordinator in the background does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CoordinatorState {
    /// There is none.
    None,
    /// It starts, resumes and lands.
    Leads,
    /// It waits for who leads to be gone.
    StandsBy,
    /// It is gone without a word; nobody starts it again by itself.
    Killed,
}

/// `queue list --json` and `queue dead --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct QueueView {
    /// [`super::VIEW_VERSION`].
    pub(crate) version: u32,
    /// When it was drawn up.
    pub(crate) at: Time,
    /// Who starts what is queued; null where nobody does.
    pub(crate) leader: Option<String>,
    /// Where they are; null where there is no state yet.
    pub(crate) queue: Option<super::QueuePlaceView>,
    /// The tickets, in the order in which they are taken.
    pub(crate) tickets: Vec<QueueEntryView>,
}

/// `queue migrate --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct MigrateView {
    /// [`super::VIEW_VERSION`].
    pub(crate) version: u32,
    /// Where the tickets were: the address of a server, or `this repository`.
    pub(crate) from: String,
    /// Where they go.
    pub(crate) to: String,
    /// Whether they were moved; false with `--dry-run`.
    pub(crate) moved: bool,
    /// All of them, by id.
    pub(crate) tickets: Vec<MovedTicketView>,
}

/// A ticket that moves.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct MovedTicketView {
    /// Its id.
    pub(crate) ticket: String,
    /// Its state, which moving does not change.
    pub(crate) state: TicketState,
}

/// One ticket of the queue.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct QueueEntryView {
    /// Ticket id.
    pub(crate) ticket: String,
    /// Its title.
    pub(crate) title: String,
    /// Where it is.
    pub(crate) state: TicketState,
    /// 1 to 10, higher first.
    pub(crate) priority: u8,
    /// The agent it names.
    pub(crate) agent: Option<String>,
    /// Attempts begun.
    pub(crate) attempts: u32,
    /// Attempts before it is dead.
    pub(crate) max_attempts: u32,
    /// The tickets it depends on.
    pub(crate) needs: Vec<String>,
    /// Why it does not move, as a clause after its name; null where nothing is known to hold it.
    pub(crate) why: Option<String>,
    /// Until when, where that is known.
    pub(crate) until: Option<Time>,
    /// Why its last attempt failed.
    pub(crate) error: Option<String>,
    /// When it was published.
    pub(crate) published_at: Time,
    /// When its state last changed.
    pub(crate) changed_at: Time,
}

/// `queue serve --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct QueueServeView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// The server.
    pub(crate) address: String,
    /// The project's name there.
    pub(crate) project: String,
    /// What the subjects of the messages begin with.
    pub(crate) prefix: String,
}
