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
