//! Deciding by what policies measured: which of them is heard, and what that comes to.
//!
//! Two things keep the number from going back and forth. It goes down no further than where the same work would ask for more
//! again by its utilization, whichever policy asks for fewer: so it rests above that number, where there is room for one
//! ticket more, and not below it. And an error rate silences the others only as long as it is one of the present number: one
//! that was not measured since the last change, though there was the time for that, keeps nobody from being heard.

use super::{Direction, Metric, ScalingPolicy, value_text};
use crate::model::Time;

/// How far a product of what was measured may be off, as a part of it.
const ROUNDING: f64 = 1e-9;

/// What was measured in one period.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    /// Its beginning.
    pub(crate) from: Time,
    /// Its value.
    pub(crate) value: f64,
}

/// A policy with its newest samples, oldest first. A period in which nothing could be measured, such as the error rate of
/// one in which nothing ended, has none.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Watched<'a> {
    /// The policy; it is active.
    pub(crate) policy: &'a ScalingPolicy,
    /// Its samples.
    pub(crate) samples: &'a [Sample],
}

/// What to do about the number of workers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ScaleDecision {
    /// Nothing, and why, as a clause.
    Hold(String),
    /// Another number.
    Change {
        /// Which.
        to: usize,
        /// Whose policy asks for it.
        metric: Metric,
        /// The newest value of that.
        value: f64,
        /// Why, as a clause.
        why: String,
    },
}

/// Where a number of workers stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Workers at once now.
    pub(crate) current: usize,
    /// The fewest and the most.
    pub(crate) bounds: (usize, usize),
    /// When it was changed last.
    pub(crate) last_action_at: Option<Time>,
}

impl Standing {
    /// When it was changed last, unless a clock was set back since.
    fn changed_at(&self, now: Time) -> Option<Time> {
        self.last_action_at.filter(|last| *last <= now)
    }
}

impl Watched<'_> {
    /// The samples that count, where there are enough of them.
    fn evidence(&self) -> Option<&[Sample]> {
        let count = self.policy.evaluation_periods;
        self.samples.len().checked_sub(count).map(|first| &self.samples[first..])
    }

    /// Which way all of them ask to go.
    fn asks(&self) -> Option<Direction> {
        let evidence = self.evidence()?;
        let first = self.policy.asks(evidence.first()?.value)?;
        evidence.iter().all(|sample| self.policy.asks(sample.value) == Some(first)).then_some(first)
    }

    /// How large its step is.
    fn step(&self, direction: Direction) -> usize {
        match direction {
            Direction::Up => self.policy.increment,
            Direction::Down => self.policy.decrement,
        }
    }

    /// What keeps it from being followed now, as a clause.
    fn waits(&self, standing: &Standing, now: Time) -> Option<String> {
        let metric = self.policy.metric;
        let until = self.policy.cools_until(standing.last_action_at, now);
        let cools = until.map(|until| format!("{metric} waits until {} UTC after the last change", until.clock()));
        cools.or_else(|| self.stale(standing, now))
    }

    /// That some of its samples are older than the last change, as a clause.
    fn stale(&self, standing: &Standing, now: Time) -> Option<String> {
        let last = standing.changed_at(now)?;
        let is_old = self.evidence()?.iter().any(|sample| sample.from < last);
        is_old.then(|| format!("{} is measured anew since the last change", self.policy.metric))
    }

    /// Whether it was not measured since the last change, though all its periods have passed since, and the one that was
    /// under way then.
    fn is_outdated(&self, standing: &Standing, now: Time) -> bool {
        let Some(last) = standing.changed_at(now) else { return false };
        let periods = u32::try_from(self.policy.evaluation_periods).unwrap_or(u32::MAX).saturating_add(1);
        let has_passed = last.after(self.policy.period.saturating_mul(periods)) <= now;
        has_passed && self.samples.last().is_none_or(|newest| newest.from < last)
    }

    /// Whether it looks at utilization and asks for more beyond some of it.
    fn asks_by_utilization(&self) -> bool {
        self.policy.metric == Metric::AgentUtilization && self.policy.up.is_some()
    }

    /// The fewest workers, up to as many as there are, on which the work that it measured would not ask for more.
    fn fewest_for_its_work(&self, current: usize) -> Option<usize> {
        let up = self.policy.up.filter(|_| self.asks_by_utilization())?;
        let least = self.evidence()?.iter().map(|sample| sample.value).fold(f64::INFINITY, f64::min);
        let taken = least * current as f64;
        let asks_for_more = |workers: usize| taken > up * workers as f64 * (1.0 - ROUNDING);
        Some((0..current).find(|workers| !asks_for_more(*workers)).unwrap_or(current))
    }

    /// That it asks for nothing, as a clause.
    fn within(&self) -> String {
        let metric = self.policy.metric;
        let value = self.samples.last().map_or_else(|| "unknown".to_owned(), |last| value_text(metric, last.value));
        format!("{metric} is {value}, which asks for nothing yet")
    }
}

/// Decides by some policies, all active.
pub(crate) fn decide(watched: &[Watched<'_>], standing: &Standing, now: Time) -> ScaleDecision {
    let (direction, heard) = match heard(watched, standing, now) {
        Ok(heard) => heard,
        Err(why) => return ScaleDecision::Hold(why),
    };
    let free = heard.iter().filter(|watched| watched.waits(standing, now).is_none());
    let Some(first) = free.max_by_key(|watched| watched.step(direction)) else {
        let why = heard.iter().find_map(|watched| watched.waits(standing, now));
        return ScaleDecision::Hold(why.unwrap_or_default());
    };
    let (metric, value) = (first.policy.metric, first.samples.last().map_or(0.0, |sample| sample.value));
    let why = first.policy.beyond(value, direction);
    let (current, (low, high)) = (standing.current, standing.bounds);
    let to = match direction {
        Direction::Up => current.saturating_add(first.step(direction)).min(high.max(current)),
        Direction::Down => current.saturating_sub(first.step(direction)).max(low.min(current)),
    };
    if to == current {
        let bound = if direction == Direction::Up { "most" } else { "fewest" };
        return ScaleDecision::Hold(format!("{why}, and {to} is the {bound} that may be"));
    }
    if direction == Direction::Up || metric == Metric::ErrorRate {
        return ScaleDecision::Change { to, metric, value, why };
    }
    let fewest = match fewest_for_the_work(watched, standing, now) {
        Ok(fewest) => fewest,
        Err(waits) => return ScaleDecision::Hold(format!("{why}, and {waits}")),
    };
    let to = to.max(fewest);
    if to == current {
        return ScaleDecision::Hold(format!("{why}, and with fewer workers the same work would ask for more"));
    }
    ScaleDecision::Change { to, metric, value, why }
}

/// The fewest workers on which the same work would ask for more by no policy; else which of them has yet to be measured, as
/// a clause.
fn fewest_for_the_work(watched: &[Watched<'_>], standing: &Standing, now: Time) -> Result<usize, String> {
    let by_utilization = || watched.iter().filter(|watched| watched.asks_by_utilization());
    if let Some(stale) = by_utilization().find_map(|watched| watched.stale(standing, now)) {
        return Err(stale);
    }
    Ok(by_utilization().filter_map(|watched| watched.fewest_for_its_work(standing.current)).max().unwrap_or(0))
}

/// Which way it is to go, and the policies that ask for it; else why it is to go nowhere.
fn heard<'a, 'b>(
    watched: &'a [Watched<'b>],
    standing: &Standing,
    now: Time,
) -> Result<(Direction, Vec<&'a Watched<'b>>), String> {
    let (errors, others): (Vec<_>, Vec<_>) =
        watched.iter().partition(|watched| watched.policy.metric == Metric::ErrorRate);
    let asking = |from: &[&'a Watched<'b>], direction| {
        from.iter().copied().filter(|watched| watched.asks() == Some(direction)).collect::<Vec<_>>()
    };
    let mut too_many = asking(&errors, Direction::Down);
    too_many.retain(|watched| !watched.is_outdated(standing, now));
    if !too_many.is_empty() {
        return Ok((Direction::Down, too_many));
    }
    // One that is heard before the others are measured would be overruled a moment later.
    let is_alone = others.is_empty();
    let judges = if is_alone { &errors } else { &others };
    if let Some(young) = judges.iter().find(|watched| watched.evidence().is_none()) {
        let (metric, count) = (young.policy.metric, young.policy.evaluation_periods);
        return Err(format!("{metric} was measured in {} of {count} periods", young.samples.len()));
    }
    for direction in [Direction::Up, Direction::Down] {
        let asking = asking(judges, direction);
        if !asking.is_empty() {
            return Ok((direction, asking));
        }
    }
    Err(judges.first().map_or_else(|| "no policy is active".to_owned(), |first| first.within()))
}
