//! Tickets, and where they come from.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use crate::coordinator::views::FailureView;
use crate::model::ticket::{StartFrom, TicketState};

/// `ticket list --json`; with one ticket, `ticket new --json` and `ticket show --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct TicketsView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// Tickets by id.
    pub(crate) tickets: Vec<TicketView>,
    /// What a person should know about them together.
    pub(crate) warnings: Vec<String>,
}

/// One ticket.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct TicketView {
    /// Ticket id.
    pub(crate) id: String,
    /// One line.
    pub(crate) title: String,
    /// Where it is.
    pub(crate) state: TicketState,
    /// Its agent, the configured default included.
    pub(crate) agent: String,
    /// 1 to 10, higher first.
    pub(crate) priority: u8,
    /// Tickets it waits for.
    pub(crate) depends_on: Vec<String>,
    /// Whether it may start from the branch of the last of them that has not landed.
    pub(crate) start_from: StartFrom,
    /// Files it means to touch.
    pub(crate) scope: Vec<String>,
    /// Commands run before review.
    pub(crate) checks: Vec<String>,
    /// What a person ticks in the review, open items of the body included.
    pub(crate) checklist: Vec<String>,
    /// Agents that review the work, the configured ones included.
    pub(crate) reviewers: Vec<String>,
    /// Free words.
    pub(crate) labels: Vec<String>,
    /// What a node must offer to run it.
    pub(crate) capabilities: Vec<String>,
    /// Revision its branch starts from; the target where it names none.
    pub(crate) base: Option<String>,
    /// Branch it lands on, the configured or default one included; null when that cannot be told.
    pub(crate) target: Option<String>,
    /// Wall time of one attempt in milliseconds, the configured limit included; null is no limit.
    pub(crate) timeout_ms: Option<u64>,
    /// Attempts before it is dead.
    pub(crate) max_attempts: u32,
    /// Spending limit in US dollars; null is none.
    pub(crate) budget_usd: Option<f64>,
    /// Spending limit in tokens; null is none.
    pub(crate) budget_tokens: Option<u64>,
    /// Its file; null when only the queue has it.
    pub(crate) path: Option<PathBuf>,
    /// The prompt; null in lists.
    pub(crate) body: Option<String>,
    /// Why its file cannot be used; the other fields are then what the queue knows, or empty.
    pub(crate) problem: Option<String>,
}

/// `ticket import --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct ImportView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// Whether nothing was written.
    pub(crate) dry_run: bool,
    /// The issues, by number.
    pub(crate) issues: Vec<ImportedView>,
    /// Issues that could not be imported.
    pub(crate) failed: Vec<FailureView>,
}

/// One issue.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct ImportedView {
    /// Its number.
    pub(crate) number: u64,
    /// Its address.
    pub(crate) url: String,
    /// Its title.
    pub(crate) title: String,
    /// The ticket.
    pub(crate) ticket: String,
    /// What was done.
    pub(crate) action: ImportWord,
    /// What was left out.
    pub(crate) warnings: Vec<String>,
}

/// What was done with an issue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ImportWord {
    /// Its ticket was written.
    Imported,
    /// It was imported before, and is as it was; its ticket was left alone.
    Unchanged,
    /// It was imported before, and has changed since; its ticket was left alone.
    Changed,
    /// Another ticket has its id; nothing was written.
    Exists,
}

/// `plan --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct PlanView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// Its name.
    pub(crate) name: String,
    /// Where its proposals are, as files for a person to edit; null when they became tickets.
    pub(crate) folder: Option<PathBuf>,
    /// The tickets, in an order in which they can start.
    pub(crate) tickets: Vec<PlannedTicketView>,
    /// What the planner said besides; null when it is not known.
    pub(crate) remarks: Option<String>,
    /// What the plan cost in US dollars; null when that is not known.
    pub(crate) cost_usd: Option<f64>,
}

/// One proposed ticket.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct PlannedTicketView {
    /// Its id.
    pub(crate) id: String,
    /// One line.
    pub(crate) title: String,
    /// 1 to 10, higher first.
    pub(crate) priority: u8,
    /// Tickets it waits for.
    pub(crate) depends_on: Vec<String>,
    /// Files it means to touch.
    pub(crate) scope: Vec<String>,
    /// Commands run before review.
    pub(crate) checks: Vec<String>,
    /// Its file.
    pub(crate) path: PathBuf,
}

/// `plan list --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct PlansView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// Plans that wait for a person, by name.
    pub(crate) plans: Vec<PlanView>,
    /// Plans that cannot be read, and why.
    pub(crate) failed: Vec<FailureView>,
}
