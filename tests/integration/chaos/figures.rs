//! How long it took until work went on after a fault, by kind of fault.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The faults so far.
#[derive(Debug, Default)]
pub(super) struct Recoveries {
    /// How many there were.
    pub(super) faults: u64,
    /// By kind, how long it took until work went on.
    took: BTreeMap<&'static str, Vec<Duration>>,
    /// By kind, faults at which nothing was left to go on, or another one came first.
    unmeasured: BTreeMap<&'static str, u64>,
}

impl Recoveries {
    /// Counts a fault.
    pub(super) fn note(&mut self, kind: &'static str, took: Option<Duration>) {
        self.faults += 1;
        match took {
            Some(took) => self.took.entry(kind).or_default().push(took),
            None => *self.unmeasured.entry(kind).or_default() += 1,
        }
    }

    /// The time within which work went on after that many of a hundred faults; `None` where none was measured.
    pub(super) fn percentile(&self, percent: usize) -> Option<Duration> {
        let mut all: Vec<_> = self.took.values().flatten().copied().collect();
        all.sort_unstable();
        at(&all, percent)
    }

    /// How many were measured.
    pub(super) fn measured(&self) -> usize {
        self.took.values().map(Vec::len).sum()
    }

    /// The figures as a table.
    pub(super) fn table(&self) -> String {
        let mut text =
            format!("{:<26} {:>6} {:>8} {:>7} {:>7} {:>7}\n", "FAULT", "COUNT", "MEASURED", "P50", "P99", "MAX");
        let mut line = |name: &str, took: &[Duration], other: u64| {
            let mut took = took.to_vec();
            took.sort_unstable();
            let shown = |percent| at(&took, percent).map_or("-".to_owned(), |at| format!("{:.2}s", at.as_secs_f64()));
            let (count, measured) = (took.len() as u64 + other, took.len());
            let (half, most, max) = (shown(50), shown(99), shown(100));
            text.push_str(&format!("{name:<26} {count:>6} {measured:>8} {half:>7} {most:>7} {max:>7}\n"));
        };
        let none = Vec::new();
        for name in self.took.keys().chain(self.unmeasured.keys()).collect::<BTreeSet<_>>() {
            let other = self.unmeasured.get(name).copied().unwrap_or_default();
            line(name, self.took.get(name).unwrap_or(&none), other);
        }
        let all: Vec<_> = self.took.values().flatten().copied().collect();
        line("all", &all, self.unmeasured.values().sum());
        text
    }
}

/// What that many of a hundred of some sorted times do not exceed.
fn at(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let index = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(index).copied()
}
