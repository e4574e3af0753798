//! Scaling policies: when a coordinator lets more or fewer workers run at once.
//!
//! A policy looks at one metric. It measures it again and again, a **sample** a period, and says more or fewer when as many
//! samples in a row as it has evaluation periods are beyond one of its thresholds. Between the two thresholds it says
//! nothing, and after any change it waits for its cooldown and for samples that are newer than the change: so nothing is
//! done twice on the same evidence, and a metric that stays where it is moves the number one way at most.
//!
//! Many tickets that wait, and many agents at work, ask for more workers. Many errors ask for fewer: whatever makes attempts
//! fail, a busy provider or a broken target, is not made better by more of them. So `up` is above `down` for the first two
//! metrics and below it for the error rate.
//!
//! **Several policies** are heard in this order: the error rate that asks for fewer; then whoever asks for more; then
//! whoever asks for fewer. The error rate asks for more only where it is alone: few errors are a permission, not a need. Of
//! those that ask for the same the largest step counts.

mod decision;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NodeName, Time, duration_text, serde_duration};

pub(crate) use decision::{Sample, ScaleDecision, Standing, Watched, decide};

/// The shortest period of a sample.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);

/// What a policy looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// Tickets that would be worked on if there were a place, on average over a period.
    QueueDepth,
    /// Places that are taken as a part of those that there are, from 0 to 1, on average over a period.
    AgentUtilization,
    /// Attempts that ended badly as a part of those that ended in a period, from 0 to 1.
    ErrorRate,
}

impl Metric {
    /// The word in settings, arguments and views.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::QueueDepth => "queue_depth",
            Self::AgentUtilization => "agent_utilization",
            Self::ErrorRate => "error_rate",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whose workers are counted and allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ScaleScope {
    /// Those of one node: each decides for itself.
    #[default]
    Node,
    /// Those of all nodes together: one decides, and each node has a share.
    Swarm,
}

impl ScaleScope {
    /// The word in settings, arguments and views.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Swarm => "swarm",
        }
    }
}

impl fmt::Display for ScaleScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScalingPolicy {
    /// What it looks at.
    pub(crate) metric: Metric,
    /// For whom it decides.
    #[serde(default)]
    pub(crate) scope: ScaleScope,
    /// Beyond this it asks for more workers: above it, and with the error rate below it; `None` is never.
    #[serde(default)]
    pub(crate) up: Option<f64>,
    /// Beyond this it asks for fewer: below it, and with the error rate above it; `None` is never.
    #[serde(default)]
    pub(crate) down: Option<f64>,
    /// How many more at a time, from 1.
    #[serde(default = "one")]
    pub(crate) increment: usize,
    /// How many fewer at a time, from 1.
    #[serde(default = "one")]
    pub(crate) decrement: usize,
    /// How long after a change it changes nothing.
    #[serde(default = "five_minutes", with = "serde_duration")]
    pub(crate) cooldown: Duration,
    /// How many samples in a row have to agree, from 1.
    #[serde(default = "three")]
    pub(crate) evaluation_periods: usize,
    /// How long one sample is measured.
    #[serde(default = "one_minute", with = "serde_duration")]
    pub(crate) period: Duration,
    /// The fewest workers at once, from 1.
    #[serde(default = "one")]
    pub(crate) min_workers: usize,
    /// The most; `None` leaves that to the other policies, and where none says so to what is configured without scaling.
    #[serde(default)]
    pub(crate) max_workers: Option<usize>,
    /// Whether it counts; one that is paused neither asks nor bounds.
    #[serde(default = "yes")]
    pub(crate) is_active: bool,
}

/// The default of steps and of the fewest workers.
fn one() -> usize {
    1
}

/// The default of evaluation periods.
fn three() -> usize {
    3
}

/// The default of a period.
fn one_minute() -> Duration {
    Duration::from_secs(60)
}

/// The default of a cooldown.
fn five_minutes() -> Duration {
    Duration::from_secs(300)
}

/// The default of being active.
fn yes() -> bool {
    true
}

/// Which way a policy asks to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// More workers.
    Up,
    /// Fewer.
    Down,
}

impl ScalingPolicy {
    /// A policy with the defaults and without thresholds, which it needs at least one of.
    pub(crate) fn new(metric: Metric, scope: ScaleScope) -> Self {
        Self {
            metric,
            scope,
            up: None,
            down: None,
            increment: one(),
            decrement: one(),
            cooldown: five_minutes(),
            evaluation_periods: three(),
            period: one_minute(),
            min_workers: one(),
            max_workers: None,
            is_active: yes(),
        }
    }

    /// What is wrong with it: the key, and why; `None` where nothing is.
    pub(crate) fn fault(&self) -> Option<(&'static str, &'static str)> {
        let counts = [
            ("increment", self.increment),
            ("decrement", self.decrement),
            ("evaluation_periods", self.evaluation_periods),
            ("min_workers", self.min_workers),
        ];
        if let Some((key, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Some((key, "expected a number from 1"));
        }
        if self.period < SHORTEST_PERIOD {
            return Some(("period", "it must be at least 100ms"));
        }
        if self.max_workers.is_some_and(|max| max < self.min_workers) {
            return Some(("max_workers", "it must not be less than `min_workers`"));
        }
        self.threshold_fault()
    }

    /// What is wrong with its thresholds.
    fn threshold_fault(&self) -> Option<(&'static str, &'static str)> {
        // By the metric, the one beyond which high values lie and the one beyond which low ones do.
        let (high, low) = match self.metric {
            Metric::ErrorRate => (("down", self.down), ("up", self.up)),
            Metric::QueueDepth | Metric::AgentUtilization => (("up", self.up), ("down", self.down)),
        };
        let is_part = self.metric != Metric::QueueDepth;
        let is_negative = |value: f64| value.is_nan() || value < 0.0;
        let is_nothing = |value: f64| value.is_nan() || value <= 0.0;
        match (high.1, low.1) {
            (None, None) => Some(("metric", "a policy needs one of the thresholds `up` and `down`")),
            (Some(value), _) if is_negative(value) || value.is_infinite() => Some((high.0, "expected a number from 0")),
            (Some(value), _) if is_part && value >= 1.0 => Some((high.0, "nothing is above 1")),
            (_, Some(value)) if is_nothing(value) => Some((low.0, "nothing is below 0, so expected a number above it")),
            (_, Some(value)) if value.is_infinite() => Some((low.0, "expected a number")),
            (_, Some(value)) if is_part && value > 1.0 => Some((low.0, "expected a number up to 1")),
            (Some(high), Some(low)) if low >= high => Some(match self.metric {
                Metric::ErrorRate => ("up", "it must be less than `down`: many errors ask for fewer workers"),
                _ => ("down", "it must be less than `up`"),
            }),
            _ => None,
        }
    }

    /// Which way a value asks to go; `None` between the thresholds.
    pub(crate) fn asks(&self, value: f64) -> Option<Direction> {
        let (more, fewer) = match self.metric {
            Metric::ErrorRate => (self.up.is_some_and(|up| value < up), self.down.is_some_and(|down| value > down)),
            _ => (self.up.is_some_and(|up| value > up), self.down.is_some_and(|down| value < down)),
        };
        match (more, fewer) {
            (true, _) => Some(Direction::Up),
            (_, true) => Some(Direction::Down),
            _ => None,
        }
    }

    /// When it may change something again; `None` where it may now.
    pub(crate) fn cools_until(&self, last_action_at: Option<Time>, now: Time) -> Option<Time> {
        // A clock that was set back since does not stop it for long.
        let last = last_action_at.filter(|last| *last <= now)?;
        Some(last.after(self.cooldown)).filter(|until| *until > now)
    }
}

/// The fewest workers that active policies ask for, and the most where one says that; `None` without any.
fn asked<'a>(policies: impl IntoIterator<Item = &'a ScalingPolicy>) -> Option<(usize, Option<usize>)> {
    let active = policies.into_iter().filter(|policy| policy.is_active);
    let each = active.map(|policy| (policy.min_workers, policy.max_workers));
    each.reduce(|one, other| (one.0.max(other.0), one.1.into_iter().chain(other.1).min()))
}

/// The fewest and the most workers that active policies allow together, where `base` is configured; `None` without any.
pub(crate) fn bounds<'a>(policies: impl IntoIterator<Item = &'a ScalingPolicy>, base: usize) -> Option<(usize, usize)> {
    // Where nothing is within all of them, the fewest count.
    asked(policies).map(|(low, high)| (low, high.unwrap_or(base).max(low)))
}

/// The fewest and the most workers that active policies ask for, where no number is within both.
pub(crate) fn contradiction<'a>(policies: impl IntoIterator<Item = &'a ScalingPolicy>) -> Option<(usize, usize)> {
    let (low, high) = asked(policies)?;
    high.filter(|high| low > *high).map(|high| (low, high))
}

/// A value of a metric for a person.
pub(crate) fn value_text(metric: Metric, value: f64) -> String {
    match metric {
        Metric::QueueDepth => format!("{value:.1}"),
        Metric::AgentUtilization | Metric::ErrorRate => format!("{:.0} %", value * 100.0),
    }
}

impl ScalingPolicy {
    /// That a value is beyond a threshold, as a clause.
    fn beyond(&self, value: f64, direction: Direction) -> String {
        let (side, threshold) = match (direction, self.metric) {
            (Direction::Up, Metric::ErrorRate) => ("below", self.up),
            (Direction::Up, _) => ("above", self.up),
            (Direction::Down, Metric::ErrorRate) => ("above", self.down),
            (Direction::Down, _) => ("below", self.down),
        };
        let text = |value| value_text(self.metric, value);
        format!("{} is {}, {side} {}", self.metric, text(value), threshold.map(text).unwrap_or_default())
    }
}

/// Divides workers over nodes by how many each may have: as many in proportion, rounded down, and one more each to those
/// that lost most by rounding, the first by name where two lost the same. No node gets more than it may have.
pub(crate) fn shares(workers: usize, capacities: &BTreeMap<NodeName, usize>) -> BTreeMap<NodeName, usize> {
    let all: usize = capacities.values().sum();
    let workers = workers.min(all);
    let part = |capacity: usize| (workers * capacity).checked_div(all).unwrap_or(0);
    let lost = |capacity: usize| (workers * capacity).checked_rem(all).unwrap_or(0);
    let mut shares: BTreeMap<_, _> =
        capacities.iter().map(|(name, capacity)| (name.clone(), part(*capacity))).collect();
    let left = workers - shares.values().sum::<usize>();
    let mut order: Vec<_> = capacities.iter().collect();
    order.sort_by_key(|(_, capacity)| std::cmp::Reverse(lost(**capacity)));
    for (name, _) in order.into_iter().take(left) {
        *shares.entry(name.clone()).or_default() += 1;
    }
    shares
}

/// Version of the shape of [`ScalingState`].
const SCALING_SCHEMA: u32 = 1;

/// What is kept of scaling, for one node or for the swarm: what was set while it ran, and what was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ScalingState {
    /// [`SCALING_SCHEMA`].
    schema: u32,
    /// The number of workers that somebody or a policy set last; `None` is none so far.
    pub(crate) number: Option<usize>,
    /// Whether a person set it: then it holds without any policy.
    pub(crate) is_by_hand: bool,
    /// What changed it last.
    pub(crate) last: Option<ScalingAction>,
    /// Policies that were set by command, in place of the configured ones; null where one was removed.
    pub(crate) changes: BTreeMap<Metric, Option<ScalingPolicy>>,
}

impl Default for ScalingState {
    fn default() -> Self {
        Self { schema: SCALING_SCHEMA, number: None, is_by_hand: false, last: None, changes: BTreeMap::new() }
    }
}

/// A change of a number of workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ScalingAction {
    /// When.
    pub(crate) at: Time,
    /// Workers at once before.
    pub(crate) from: usize,
    /// And from then on.
    pub(crate) to: usize,
    /// The metric whose policy asked for it; null where a person did.
    pub(crate) metric: Option<Metric>,
    /// Its value; null where a person asked.
    pub(crate) value: Option<f64>,
    /// Why, as a clause.
    pub(crate) why: String,
}

impl ScalingState {
    /// The policies that hold, by metric: the configured ones of a scope, but for those that were set or removed since.
    pub(crate) fn policies(&self, configured: &[ScalingPolicy], scope: ScaleScope) -> Vec<ScalingPolicy> {
        let configured = configured.iter().filter(|policy| policy.scope == scope);
        let mut policies: BTreeMap<Metric, ScalingPolicy> =
            configured.map(|policy| (policy.metric, policy.clone())).collect();
        for (metric, change) in &self.changes {
            match change {
                Some(policy) => policies.insert(*metric, policy.clone()),
                None => policies.remove(metric),
            };
        }
        policies.into_values().collect()
    }

    /// How many workers may run at once, where `base` is configured; `None` where scaling says nothing.
    pub(crate) fn workers(&self, policies: &[ScalingPolicy], base: usize) -> Option<usize> {
        let number = self.number.filter(|_| self.is_by_hand || !policies.is_empty());
        match bounds(policies, base) {
            Some((low, high)) => Some(number.unwrap_or(base).clamp(low, high)),
            None => number,
        }
    }

    /// Notes a change.
    pub(crate) fn act(&mut self, action: ScalingAction) {
        (self.number, self.is_by_hand) = (Some(action.to), action.metric.is_none());
        self.last = Some(action);
    }
}

/// What one node reads of the scaling of the swarm, from the board of the queue's server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SwarmScaling {
    /// What was set and done.
    #[serde(flatten)]
    pub(crate) state: ScalingState,
    /// The node that decides.
    pub(crate) decider: Option<NodeName>,
    /// How many workers each node may run at once.
    pub(crate) shares: BTreeMap<NodeName, usize>,
    /// When this was written, by the clock of whoever wrote it: nothing is written twice alike.
    pub(crate) at: Option<Time>,
}

/// How many workers a coordinator may run at once because of scaling, and what set that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scaled {
    /// How many.
    pub(crate) workers: usize,
    /// For whom that was decided.
    pub(crate) scope: ScaleScope,
    /// What set it, to follow `set by`.
    pub(crate) by: String,
}

impl Scaled {
    /// By the state of one scope.
    pub(crate) fn of_node(state: &ScalingState, policies: &[ScalingPolicy], base: usize) -> Option<Self> {
        let workers = state.workers(policies, base)?;
        let by = match state.last.as_ref().filter(|last| last.to == workers) {
            Some(ScalingAction { metric: Some(metric), .. }) => metric.to_string(),
            Some(_) => "hand".to_owned(),
            None => "the bounds of a policy".to_owned(),
        };
        Some(Self { workers, scope: ScaleScope::Node, by })
    }

    /// The share of a node in a swarm whose number is scaled.
    pub(crate) fn share(entry: &SwarmScaling, node: &NodeName) -> Self {
        let all: usize = entry.shares.values().sum();
        let workers = entry.shares.get(node).copied().unwrap_or(0);
        Self { workers, scope: ScaleScope::Swarm, by: format!("this node's share of {all} in the swarm") }
    }

    /// The one that allows fewer.
    pub(crate) fn fewest(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        one.into_iter().chain(other).min_by_key(|scaled| scaled.workers)
    }
}

/// A policy as a person reads it: what it asks for beyond which threshold, and how often.
impl fmt::Display for ScalingPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (over, under) = if self.metric == Metric::ErrorRate { ("below", "above") } else { ("above", "below") };
        let text = |value| value_text(self.metric, value);
        if let Some(up) = self.up {
            write!(f, "+{} {over} {}", self.increment, text(up))?;
        }
        if let Some(down) = self.down {
            let comma = if self.up.is_some() { ", " } else { "" };
            write!(f, "{comma}-{} {under} {}", self.decrement, text(down))?;
        }
        let (count, period) = (self.evaluation_periods, duration_text(self.period));
        write!(f, "; {count} x {period}, then {} of rest", duration_text(self.cooldown))
    }
}
