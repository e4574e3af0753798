//! Places of workers over time: how many there were, how many were taken, and how many more tickets wanted one.

use std::collections::BTreeMap;

use crate::model::Time;

/// What changes at one moment.
#[derive(Debug, Default)]
struct Change {
    /// Runs that begin (or end, where negative) by how many workers they may have.
    runs: BTreeMap<u32, i64>,
    /// Workers that begin or end.
    busy: i64,
    /// Tickets that begin or end to be free to be taken.
    wanted: i64,
}

/// Places over time.
#[derive(Debug, Default)]
pub(super) struct Places {
    changes: BTreeMap<Time, Change>,
}

impl Places {
    /// A run with so many places.
    pub(super) fn there(&mut self, from: Time, to: Time, count: u32) {
        self.span(from, to, |change, sign| *change.runs.entry(count).or_default() += sign);
    }

    /// A worker.
    pub(super) fn busy(&mut self, from: Time, to: Time) {
        self.span(from, to, |change, sign| change.busy += sign);
    }

    /// A ticket that could be taken.
    pub(super) fn wanted(&mut self, from: Time, to: Time) {
        self.span(from, to, |change, sign| change.wanted += sign);
    }

    /// Taken places as a part of those that there were; `None` where there were none.
    pub(super) fn utilisation(&self) -> Option<f64> {
        self.part(|there, _, _| there)
    }

    /// Taken places as a part of those that there was work for, while tickets could be taken.
    pub(super) fn utilisation_while_queued(&self) -> Option<f64> {
        self.part(|there, busy, wanted| if wanted > 0 { there.min(busy + wanted) } else { 0 })
    }

    /// Notes both ends of a span; one without any length changes nothing.
    fn span(&mut self, from: Time, to: Time, mut note: impl FnMut(&mut Change, i64)) {
        if from < to {
            note(self.changes.entry(from).or_default(), 1);
            note(self.changes.entry(to).or_default(), -1);
        }
    }

    /// Taken places by `whole`, which is given the places that there are, busy workers and tickets to be taken, and
    /// answers 0 for a time that does not count. Of runs at the same time the largest has its places.
    fn part(&self, whole: impl Fn(i64, i64, i64) -> i64) -> Option<f64> {
        let (mut runs, mut busy, mut wanted) = (BTreeMap::<u32, i64>::new(), 0, 0);
        let (mut taken, mut all) = (0.0, 0.0);
        let mut moments = self.changes.iter().peekable();
        while let Some((at, change)) = moments.next() {
            for (count, sign) in &change.runs {
                *runs.entry(*count).or_default() += sign;
            }
            runs.retain(|_, count| *count > 0);
            busy += change.busy;
            wanted += change.wanted;
            let Some((next, _)) = moments.peek() else { break };
            let there = runs.last_key_value().map_or(0, |(count, _)| i64::from(*count));
            let seconds = at.age_at(**next).as_secs_f64();
            let count = whole(there, busy, wanted);
            taken += seconds * busy.min(count) as f64;
            all += seconds * count as f64;
        }
        (all > 0.0).then(|| taken / all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spans in seconds: runs with their places, workers, and tickets that could be taken.
    fn parts(runs: &[(i64, i64, u32)], busy: &[(i64, i64)], wanted: &[(i64, i64)]) -> [Option<f64>; 2] {
        let at = |seconds: i64| Time::from_millis(seconds * 1_000);
        let mut places = Places::default();
        runs.iter().for_each(|(from, to, count)| places.there(at(*from), at(*to), *count));
        busy.iter().for_each(|(from, to)| places.busy(at(*from), at(*to)));
        wanted.iter().for_each(|(from, to)| places.wanted(at(*from), at(*to)));
        [places.utilisation(), places.utilisation_while_queued()]
    }

    #[test]
    fn places_that_nobody_wanted_count_only_for_all_the_time() {
        // Two places: both taken until 6 while one more waits, then one until 10.
        let told = parts(&[(0, 10, 2)], &[(0, 6), (0, 10)], &[(0, 6)]);
        assert_eq!(told, [Some(16.0 / 20.0), Some(1.0)]);
        // One ticket waits beside one that runs, and there are four places: two of them were for somebody.
        assert_eq!(parts(&[(0, 10, 4)], &[(0, 10)], &[(0, 10)]), [Some(0.25), Some(0.5)]);
        assert_eq!(parts(&[(0, 10, 4)], &[(0, 10)], &[]), [Some(0.25), None]);
        assert_eq!(parts(&[], &[(0, 10)], &[(0, 10)]), [None, None]);
    }

    #[test]
    fn two_runs_at_the_same_time_are_one_and_what_runs_beside_them_does_not_count() {
        assert_eq!(parts(&[(0, 10, 2), (5, 15, 4)], &[(0, 20)], &[])[0], Some(15.0 / (2.0 * 5.0 + 4.0 * 10.0)));
        // More workers than a run may have: somebody else's.
        assert_eq!(parts(&[(0, 10, 1)], &[(0, 10), (0, 10)], &[])[0], Some(1.0));
    }
}
