//! What was spent, and what may be.

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::Time;
use crate::model::budget::Scope;

/// `budget --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct BudgetView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// When this was looked up.
    pub(crate) at: Time,
    /// The local day that is spent on, such as `2026-11-21`.
    pub(crate) day: String,
    /// When the next day begins.
    pub(crate) day_ends_at: Time,
    /// What agents do that reach a budget: `stop` or `pause`.
    pub(crate) on_reached: String,
    /// What may be spent, and how much of it is.
    pub(crate) limits: Vec<LimitView>,
    /// What the rows are by: `ticket`, `agent`, `model`, `node` or `day`.
    pub(crate) by: String,
    /// The first day that the rows count.
    pub(crate) since: String,
    /// What was spent since, the most expensive first; days in order.
    pub(crate) rows: Vec<SpendView>,
    /// All of it together.
    pub(crate) total: SpendView,
    /// What a person should know.
    pub(crate) warnings: Vec<String>,
}

/// One limit.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct LimitView {
    /// What it is for.
    pub(crate) scope: Scope,
    /// The ticket; null for the day, and for what holds for every ticket or run.
    pub(crate) ticket: Option<String>,
    /// `usd`, `tokens` or `time`.
    pub(crate) what: String,
    /// The limit: US dollars, tokens or seconds; null is none.
    pub(crate) limit: Option<f64>,
    /// What was spent; null for what holds for every ticket or run.
    pub(crate) spent: Option<f64>,
    /// Whether it is used up.
    pub(crate) is_reached: bool,
}

/// What was spent on something.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct SpendView {
    /// The ticket, agent, model, node or day; empty where there is none, as of a model that nobody names.
    pub(crate) name: String,
    /// Input tokens, cached ones included.
    pub(crate) input_tokens: u64,
    /// Output tokens.
    pub(crate) output_tokens: u64,
    /// US dollars, as far as they are known.
    pub(crate) cost_usd: f64,
    /// Of the tokens those whose price is not known.
    pub(crate) unpriced_tokens: u64,
    /// Of the tokens those that are a guess.
    pub(crate) estimated_tokens: u64,
    /// Time that agents worked, in milliseconds.
    pub(crate) time_ms: u64,
    /// Attempts, reviews and plans that spent something.
    pub(crate) attempts: usize,
}
