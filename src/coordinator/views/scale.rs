//! How many workers may run at once, and what changes that.

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::Time;
use crate::model::scaling::{Metric, ScaleScope, ScalingAction};

/// `scale --json`, and that of the verbs below it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct ScaleView {
    /// [`super::VIEW_VERSION`].
    pub(crate) version: u32,
    /// When this was looked up.
    pub(crate) at: Time,
    /// How many workers a coordinator may run at once on this node.
    pub(crate) workers: usize,
    /// The same without scaling: `max_workers`.
    pub(crate) max_workers: usize,
    /// This node, and where a server keeps the queue the swarm.
    pub(crate) scopes: Vec<ScaleScopeView>,
    /// What the policies would have done; null but with `--dry-run`.
    pub(crate) replay: Option<ScaleReplayView>,
    /// What a person should know.
    pub(crate) warnings: Vec<String>,
}

/// One number of workers, and the policies that change it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct ScaleScopeView {
    /// Whose workers.
    pub(crate) scope: ScaleScope,
    /// How many may run at once; null where nothing scales them.
    pub(crate) workers: Option<usize>,
    /// What it would be without scaling: `max_workers`, in the swarm that of all its nodes.
    pub(crate) max_workers: usize,
    /// The fewest and the most that the active policies allow; null without any.
    pub(crate) bounds: Option<(usize, usize)>,
    /// What changed it last; null where nothing did.
    pub(crate) last: Option<ScalingAction>,
    /// The node that decides; null for one node, and where nobody does.
    pub(crate) decider: Option<String>,
    /// How many of them this node may run; null for one node.
    pub(crate) share: Option<usize>,
    /// The policies, by metric.
    pub(crate) policies: Vec<PolicyView>,
}

/// A policy.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct PolicyView {
    /// What it looks at.
    pub(crate) metric: Metric,
    /// Beyond this it asks for more workers: above it, with `error_rate` below it; null is never.
    pub(crate) up: Option<f64>,
    /// Beyond this it asks for fewer: below it, with `error_rate` above it; null is never.
    pub(crate) down: Option<f64>,
    /// How many more at a time.
    pub(crate) increment: usize,
    /// How many fewer at a time.
    pub(crate) decrement: usize,
    /// How long after a change it changes nothing, in seconds.
    pub(crate) cooldown_seconds: f64,
    /// How many periods in a row have to agree.
    pub(crate) evaluation_periods: usize,
    /// How long each is, in seconds.
    pub(crate) period_seconds: f64,
    /// The fewest workers.
    pub(crate) min_workers: usize,
    /// The most; null leaves that to the other policies, and where none says so to what is configured without scaling.
    pub(crate) max_workers: Option<usize>,
    /// Whether it counts.
    pub(crate) is_active: bool,
    /// Whether it was set by command, in place of the configuration.
    pub(crate) is_set: bool,
    /// Until when it rests after the last change; null where it does not.
    pub(crate) cools_until: Option<Time>,
    /// All of that as a clause.
    pub(crate) text: String,
}

/// What policies would have done.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct ScaleReplayView {
    /// The beginning of the window.
    pub(crate) since: Option<Time>,
    /// How many runs of a coordinator it has.
    pub(crate) runs: usize,
    /// The changes, oldest first.
    pub(crate) actions: Vec<ReplayedView>,
}

/// A change that would have been made.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct ReplayedView {
    /// Whose number.
    pub(crate) scope: ScaleScope,
    /// The change.
    #[serde(flatten)]
    pub(crate) action: ScalingAction,
}

/// What scaling allows here, in `status --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct ScaledView {
    /// Workers at once.
    pub(crate) workers: usize,
    /// What it is without scaling.
    pub(crate) max_workers: usize,
    /// Whose number it is.
    pub(crate) scope: ScaleScope,
    /// The same as a sentence.
    pub(crate) text: String,
}
