//! Scaling policies over recorded history: what would have been done, and when.
//!
//! The agents of the history are taken as they worked: the replay knows what waited, what ran and how it ended, not what
//! would have run beside it. What ran counts as busy among the places that there would have been.

use std::collections::BTreeMap;

use super::{Gauges, Reading};
use crate::model::Time;
use crate::model::scaling::{ScaleDecision, ScalingAction, ScalingPolicy, ScalingState};

/// What is known of a window of the past.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorded {
    /// When some coordinator was at work; they may overlap.
    pub(crate) runs: Vec<(Time, Time)>,
    /// When a ticket was free to be taken and was not.
    pub(crate) waiting: Vec<(Time, Time)>,
    /// When an agent worked.
    pub(crate) busy: Vec<(Time, Time)>,
    /// When an attempt ended, and whether badly.
    pub(crate) ended: Vec<(Time, bool)>,
}

/// What changes at one moment.
#[derive(Debug, Clone, Copy, Default)]
struct Change {
    waiting: i64,
    busy: i64,
    well: usize,
    badly: usize,
}

/// Plays policies over the past, from `base` workers on; what they would have done, in order. Nothing was decided while no
/// coordinator was at work, and a new one measures anew.
pub(crate) fn replay(policies: &[ScalingPolicy], recorded: &Recorded, base: usize) -> Vec<ScalingAction> {
    let changes = recorded.changes();
    let mut state = ScalingState::default();
    let mut actions = Vec::new();
    for (begun, over) in recorded.sessions() {
        let mut gauges = Gauges::default();
        gauges.follow(policies, begun);
        let mut now_is = Change::default();
        changes.range(..=begun).for_each(|(_, change)| now_is.take(change));
        let mut now = begun;
        loop {
            let current = state.workers(policies, base).unwrap_or(base);
            gauges.see(now_is.reading(current), now);
            let change = changes.range((std::ops::Bound::Excluded(now), std::ops::Bound::Unbounded)).next();
            let moments = change.map(|(at, _)| *at).into_iter().chain(gauges.next_end());
            let Some(next) = moments.min().filter(|next| *next <= over) else { break };
            if let Some(change) = changes.get(&next) {
                now_is.take(change);
                (0..change.well).for_each(|_| gauges.ended(false));
                (0..change.badly).for_each(|_| gauges.ended(true));
            }
            now = next;
            let last_action_at = state.last.as_ref().map(|last| last.at);
            if gauges.pass(now)
                && let ScaleDecision::Change { to, metric, value, why } =
                    gauges.decide(current, base, last_action_at, now)
            {
                let (metric, value) = (Some(metric), Some(value));
                let action = ScalingAction { at: now, from: current, to, metric, value, why };
                state.act(action.clone());
                actions.push(action);
            }
        }
    }
    actions
}

impl Change {
    /// Takes a change of what there is over.
    fn take(&mut self, change: &Self) {
        self.waiting += change.waiting;
        self.busy += change.busy;
    }

    /// What is seen.
    fn reading(self, places: usize) -> Reading {
        let count = |number: i64| usize::try_from(number).unwrap_or(0);
        Reading { waiting: count(self.waiting), busy: count(self.busy), places }
    }
}

impl Recorded {
    /// What changes when.
    fn changes(&self) -> BTreeMap<Time, Change> {
        let mut changes = BTreeMap::<Time, Change>::new();
        let mut span = |spans: &[(Time, Time)], add: fn(&mut Change, i64)| {
            for (from, to) in spans.iter().filter(|(from, to)| from < to) {
                add(changes.entry(*from).or_default(), 1);
                add(changes.entry(*to).or_default(), -1);
            }
        };
        span(&self.waiting, |change, sign| change.waiting += sign);
        span(&self.busy, |change, sign| change.busy += sign);
        for (at, is_failure) in &self.ended {
            let change = changes.entry(*at).or_default();
            if *is_failure { change.badly += 1 } else { change.well += 1 }
        }
        changes
    }

    /// When at least one coordinator was at work, in order.
    fn sessions(&self) -> Vec<(Time, Time)> {
        let mut runs = self.runs.clone();
        runs.sort();
        let mut sessions: Vec<(Time, Time)> = Vec::new();
        for (from, to) in runs {
            match sessions.last_mut().filter(|last| from <= last.1) {
                Some(last) => last.1 = last.1.max(to),
                None => sessions.push((from, to)),
            }
        }
        sessions
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::scaling::{Metric, ScaleScope};

    fn at(seconds: i64) -> Time {
        Time::from_millis(seconds * 1_000)
    }

    /// A policy that looks every ten seconds, twice.
    fn policy(metric: Metric, up: Option<f64>, down: Option<f64>) -> ScalingPolicy {
        let (period, cooldown) = (Duration::from_secs(10), Duration::from_secs(30));
        let new = ScalingPolicy::new(metric, ScaleScope::Node);
        ScalingPolicy { up, down, period, cooldown, evaluation_periods: 2, max_workers: Some(5), ..new }
    }

    /// When what would have been done.
    fn told(policies: &[ScalingPolicy], recorded: &Recorded) -> Vec<(i64, usize, usize)> {
        let actions = replay(policies, recorded, 2);
        actions.iter().map(|action| (action.at.as_millis() / 1_000, action.from, action.to)).collect()
    }

    #[test]
    fn a_backlog_of_the_past_is_met_and_its_end_followed() {
        let spans = |count: usize, to: i64| vec![(at(0), at(to)); count];
        let recorded =
            Recorded { runs: vec![(at(0), at(200))], waiting: spans(6, 95), busy: spans(2, 200), ended: Vec::new() };
        let depth = policy(Metric::QueueDepth, Some(3.0), Some(1.0));
        assert_eq!(
            told(std::slice::from_ref(&depth), &recorded),
            [(20, 2, 3), (50, 3, 4), (80, 4, 5), (120, 5, 4), (150, 4, 3), (180, 3, 2)]
        );
        let halves = Recorded { runs: vec![(at(0), at(15)), (at(40), at(75)), (at(60), at(70))], ..recorded.clone() };
        assert_eq!(told(&[depth], &halves), [(60, 2, 3)], "nobody decides while no coordinator is there");
        assert_eq!(told(&[], &recorded), []);
    }

    #[test]
    fn what_ran_is_busy_among_the_places_that_there_would_have_been() {
        let recorded =
            Recorded { runs: vec![(at(0), at(300))], busy: vec![(at(0), at(300)); 3], ..Recorded::default() };
        let busy = policy(Metric::AgentUtilization, Some(0.8), Some(0.3));
        assert_eq!(told(&[busy], &recorded), [(20, 2, 3), (50, 3, 4)], "three of four are no reason for a fifth");
    }

    #[test]
    fn failures_of_the_past_are_counted_in_the_periods_in_which_something_ended() {
        let ended = [(3, true), (4, true), (45, true), (99, false), (104, false)].map(|(s, bad)| (at(s), bad)).to_vec();
        let recorded = Recorded { runs: vec![(at(0), at(120))], ended, ..Recorded::default() };
        let errors = policy(Metric::ErrorRate, Some(0.1), Some(0.5));
        assert_eq!(told(&[errors], &recorded), [(50, 2, 1), (110, 1, 2)]);
    }
}
