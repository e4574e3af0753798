//! Measuring what scaling policies look at: the same for a coordinator that runs and for the history of one that ran, so
//! that `swarm scale --dry-run` decides as a coordinator would have.

mod replay;

use std::time::Duration;

use crate::model::Time;
use crate::model::scaling::{Metric, Sample, ScaleDecision, ScalingPolicy, Standing, Watched, bounds, decide};

pub(crate) use replay::{Recorded, replay};

/// What is seen at one moment, and goes on until the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Tickets that would be worked on if there were a place.
    pub(crate) waiting: usize,
    /// Places that are taken.
    pub(crate) busy: usize,
    /// Places that there are.
    pub(crate) places: usize,
}

/// One policy with what it measured.
#[derive(Debug, Clone)]
struct Gauge {
    policy: ScalingPolicy,
    /// When its present period began.
    from: Time,
    /// What was seen in it, times how long, in seconds.
    waiting: f64,
    busy: f64,
    places: f64,
    seconds: f64,
    /// Attempts that ended in it, and those of them that ended badly.
    ended: usize,
    failed: usize,
    /// What it measured, the newest last.
    samples: Vec<Sample>,
}

/// The policies of one scope with what they measure.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gauges {
    gauges: Vec<Gauge>,
    /// What was seen last, and when.
    last: Option<(Time, Reading)>,
}

impl Gauges {
    /// Goes by these policies from now on. One that is as it was keeps what it measured.
    pub(crate) fn follow(&mut self, policies: &[ScalingPolicy], now: Time) {
        let mut before = std::mem::take(&mut self.gauges);
        self.gauges = policies
            .iter()
            .filter(|policy| policy.is_active)
            .map(|policy| match before.iter().position(|known| known.policy == *policy) {
                Some(place) => before.swap_remove(place),
                None => Gauge::new(policy.clone(), now),
            })
            .collect();
    }

    /// Begins anew: nobody knows what was since the last look.
    pub(crate) fn forget(&mut self, now: Time) {
        self.last = None;
        for gauge in &mut self.gauges {
            *gauge = Gauge::new(gauge.policy.clone(), now);
        }
    }

    /// An attempt ended.
    pub(crate) fn ended(&mut self, is_failure: bool) {
        for gauge in &mut self.gauges {
            gauge.ended += 1;
            gauge.failed += usize::from(is_failure);
        }
    }

    /// Lets time pass until `now`, in which all was as it was seen last; whether a period ended. One that began later than
    /// `now`, because a clock was set, begins anew.
    pub(crate) fn pass(&mut self, now: Time) -> bool {
        if self.gauges.iter().any(|gauge| gauge.from > now) {
            self.forget(now);
        }
        let passed = self.last.map(|(at, seen)| (at.age_at(now).as_secs_f64(), seen));
        let mut has_ended = false;
        for gauge in &mut self.gauges {
            if let Some((seconds, seen)) = passed {
                gauge.add(seen, seconds);
            }
            if gauge.from.age_at(now) >= gauge.policy.period {
                gauge.turn(now);
                has_ended = true;
            }
        }
        self.last = self.last.map(|(_, seen)| (now, seen));
        has_ended
    }

    /// What is seen from now on.
    pub(crate) fn see(&mut self, reading: Reading, now: Time) {
        self.last = Some((now, reading));
    }

    /// How long ago it was looked last; `None` before the first look.
    pub(crate) fn looked_at(&self) -> Option<Time> {
        self.last.map(|(at, _)| at)
    }

    /// When the next period ends; `None` where nothing is measured.
    pub(crate) fn next_end(&self) -> Option<Time> {
        self.gauges.iter().map(|gauge| gauge.from.after(gauge.policy.period)).min()
    }

    /// Decides by what was measured, for a number of workers where `base` is configured.
    pub(crate) fn decide(&self, current: usize, base: usize, last_action_at: Option<Time>, now: Time) -> ScaleDecision {
        let watched = self.gauges.iter().map(|gauge| Watched { policy: &gauge.policy, samples: &gauge.samples });
        let bounds = bounds(self.gauges.iter().map(|gauge| &gauge.policy), base).unwrap_or((current, current));
        decide(&watched.collect::<Vec<_>>(), &Standing { current, bounds, last_action_at }, now)
    }
}

impl Gauge {
    /// One that measured nothing yet.
    fn new(policy: ScalingPolicy, from: Time) -> Self {
        let samples = Vec::new();
        Self { policy, from, waiting: 0.0, busy: 0.0, places: 0.0, seconds: 0.0, ended: 0, failed: 0, samples }
    }

    /// Adds what was so for some seconds.
    fn add(&mut self, seen: Reading, seconds: f64) {
        self.waiting += seen.waiting as f64 * seconds;
        self.busy += seen.busy.min(seen.places) as f64 * seconds;
        self.places += seen.places as f64 * seconds;
        self.seconds += seconds;
    }

    /// Ends a period and begins the next.
    fn turn(&mut self, now: Time) {
        let (part, whole) = match self.policy.metric {
            Metric::QueueDepth => (self.waiting, self.seconds),
            Metric::AgentUtilization => (self.busy, self.places),
            Metric::ErrorRate => (self.failed as f64, self.ended as f64),
        };
        let mut samples = std::mem::take(&mut self.samples);
        if whole > 0.0 {
            samples.push(Sample { from: self.from, value: part / whole });
        }
        let surplus = samples.len().saturating_sub(self.policy.evaluation_periods);
        samples.drain(..surplus);
        *self = Self { samples, ..Self::new(self.policy.clone(), now) };
    }
}

/// How long it may not be looked until what was measured counts for nothing: the process slept, or was stopped.
pub(crate) const LONGEST_GAP: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::scaling::ScaleScope;

    #[test]
    fn a_sample_is_the_average_over_its_period_and_an_empty_one_is_none() {
        let at = |seconds: i64| Time::from_millis(seconds * 1_000);
        let policy = |metric| ScalingPolicy {
            up: Some(0.5),
            down: Some(0.6),
            evaluation_periods: 1,
            period: Duration::from_secs(10),
            ..ScalingPolicy::new(metric, ScaleScope::Node)
        };
        let mut gauges = Gauges::default();
        gauges.follow(&[Metric::QueueDepth, Metric::AgentUtilization, Metric::ErrorRate].map(policy), at(0));
        gauges.see(Reading { waiting: 8, busy: 1, places: 2 }, at(0));
        assert!(!gauges.pass(at(5)));
        gauges.see(Reading { waiting: 0, busy: 2, places: 2 }, at(5));
        assert_eq!(gauges.next_end(), Some(at(10)));
        assert!(gauges.pass(at(10)));
        let values = |gauges: &Gauges| {
            gauges.gauges.iter().map(|gauge| gauge.samples.last().map(|it| it.value)).collect::<Vec<_>>()
        };
        assert_eq!(values(&gauges), [Some(4.0), Some(0.75), None]);
        [true, false, false, false].into_iter().for_each(|failed| gauges.ended(failed));
        assert!(gauges.pass(at(20)));
        assert_eq!(values(&gauges), [Some(0.0), Some(1.0), Some(0.25)]);
        // Nothing ended since: what is known of errors stays known.
        assert!(gauges.pass(at(30)));
        assert_eq!(values(&gauges)[2], Some(0.25));
        gauges.pass(at(3));
        assert_eq!(values(&gauges), [None, None, None], "a clock that was set back begins anew");
    }
}
