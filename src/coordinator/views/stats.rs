//! The shape of statistics.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Time;

/// `stats --json`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct StatsView {
    /// [`super::VIEW_VERSION`].
    pub(crate) version: u32,
    /// When it was drawn up.
    pub(crate) at: Time,
    /// The beginning of the window; null is everything that is known.
    pub(crate) since: Option<Time>,
    /// When the history begins; null before anything happened. What was before is in no figure.
    pub(crate) known_from: Option<Time>,
    /// By what `groups` are.
    pub(crate) by: Option<StatsBy>,
    /// Everything together.
    pub(crate) total: StatsRow,
    /// The same by agent, model, label or day; empty where that was not asked.
    pub(crate) groups: Vec<StatsRow>,
    /// Runs of the coordinator in the window; utilisation is about them.
    pub(crate) runs: StatsRuns,
}

/// What rows of statistics are by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StatsBy {
    /// The agent; a ticket counts for that of its last attempt.
    Agent,
    /// The model that the agent's definition names; a ticket counts for that of its last attempt.
    Model,
    /// The ticket's labels; a ticket counts for each.
    Label,
    /// The day, in UTC, on which a ticket or an attempt ended.
    Day,
}

/// Figures of some tickets and attempts. Tickets count when they ended in the window, attempts when they were under way.
/// Null is unknown, or nothing to draw a figure from.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct StatsRow {
    /// The agent, model, label or day; null in the total, and for what has none.
    pub(crate) name: Option<String>,
    /// Tickets that ended.
    pub(crate) ended: usize,
    /// Of these, tickets whose work landed.
    pub(crate) landed: usize,
    /// Of these, tickets that ended well without changes.
    pub(crate) done: usize,
    /// Of these, tickets with no attempts left.
    pub(crate) failed: usize,
    /// Of these, tickets that somebody cancelled.
    pub(crate) cancelled: usize,
    /// Landed and done ones among those that were not cancelled, from 0 to 1.
    pub(crate) success_rate: Option<f64>,
    /// Attempts.
    pub(crate) attempts: usize,
    /// Of these, attempts that failed, were stopped or reached a limit.
    pub(crate) attempts_failed: usize,
    /// From publication to the end, of tickets that landed or are done.
    pub(crate) completion: Percentiles,
    /// Time that tickets which ended were free to be taken and not taken, all together.
    pub(crate) waiting: Percentiles,
    /// Time that attempts which ended had their tickets running.
    pub(crate) working: Percentiles,
    /// Tickets that landed or were done in an hour in which at least one worker ran.
    pub(crate) throughput_per_hour: Option<f64>,
    /// Busy time of workers within runs of the coordinator, as a part of their time times their workers; from 0 to 1. Null
    /// without a run. Of runs at the same time the one with the most workers counts.
    pub(crate) utilisation: Option<f64>,
    /// The same, only while tickets were free to be taken, and only of as many places as there was work for: what the
    /// coordinator made of its places, whatever the dependencies allowed. Null in groups, and where nothing waited.
    pub(crate) utilisation_while_queued: Option<f64>,
    /// Input tokens, of the attempts where they are known.
    pub(crate) input_tokens: Option<u64>,
    /// Output tokens, of the attempts where they are known.
    pub(crate) output_tokens: Option<u64>,
    /// US dollars, of the attempts where they are known.
    pub(crate) cost_usd: Option<f64>,
    /// Attempts of which nobody knows what they cost.
    pub(crate) cost_unknown_attempts: usize,
    /// US dollars a landed ticket; null where one attempt's cost is not known, or nothing landed.
    pub(crate) cost_per_landed_usd: Option<f64>,
}

/// Typical and bad cases: the values that half and 95 of 100 cases stay within (nearest rank). Null without cases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Percentiles {
    /// Cases.
    pub(crate) count: usize,
    /// Half of them, in milliseconds.
    pub(crate) p50_ms: Option<u64>,
    /// 95 of 100 of them, in milliseconds.
    pub(crate) p95_ms: Option<u64>,
}

/// Runs of the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct StatsRuns {
    /// How many.
    pub(crate) count: usize,
    /// How long at least one of them was under way, in milliseconds.
    pub(crate) wall_ms: u64,
    /// The most workers at once that one of them allowed.
    pub(crate) max_workers: Option<u32>,
}
