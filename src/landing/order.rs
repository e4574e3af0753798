//! The order in which approved work lands.
//!
//! What somebody depends on goes before it, and is as urgent as the most urgent of its dependents. Among what may go
//! next: higher priority first; then work whose gates were never red, because a red one costs its whole batch a
//! search; then work that fits everything placed before it; then work that is in the way of the fewest others, so
//! that the most of them land; then age. Work that was sent back over a conflict and came again has given way once,
//! and is not made to wait for its overlaps a second time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::model::{TicketId, WorkerId};

/// Approved work that waits to land.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The worker.
    pub(crate) worker: WorkerId,
    /// Its ticket.
    pub(crate) ticket: TicketId,
    /// 1 to 10, higher first.
    pub(crate) priority: u8,
    /// Tickets that have to land before it.
    pub(crate) depends_on: Vec<TicketId>,
    /// How often it was sent back because a gate was red.
    pub(crate) red_gates: usize,
    /// How often it was sent back because of a conflict.
    pub(crate) conflicts: usize,
}

/// The workers in the order in which they land. `entries` are in the order of their age, oldest first; `overlaps` are
/// pairs of workers whose work conflicts.
pub(crate) fn order(entries: &[Entry], overlaps: &[(WorkerId, WorkerId)]) -> Vec<WorkerId> {
    let urgency = urgency(entries);
    let rivals = rivals(entries, overlaps);
    let mut waiting: BTreeSet<usize> = (0..entries.len()).collect();
    let mut placed: BTreeSet<usize> = BTreeSet::new();
    let mut order = Vec::with_capacity(entries.len());
    while !waiting.is_empty() {
        let is_free = |index: &usize| {
            let needed = &entries[*index].depends_on;
            !waiting.iter().any(|other| other != index && needed.contains(&entries[*other].ticket))
        };
        let key = |index: &usize| {
            let entry = &entries[*index];
            let in_way: usize = if entry.conflicts > 0 { 0 } else { rivals[*index].intersection(&waiting).count() };
            let is_blocked = entry.conflicts == 0 && !rivals[*index].is_disjoint(&placed);
            (Reverse(urgency[*index]), entry.red_gates, is_blocked, in_way, *index)
        };
        let free: Vec<usize> = waiting.iter().copied().filter(|index| is_free(index)).collect();
        // In a circle of dependencies nobody is free; then the rest decides.
        let next = free.iter().min_by_key(|index| key(index)).or_else(|| waiting.iter().min_by_key(|index| key(index)));
        let Some(next) = next.copied() else { break };
        waiting.remove(&next);
        placed.insert(next);
        order.push(entries[next].worker.clone());
    }
    order
}

/// The priority of each entry, or that of the most urgent one that waits for it.
fn urgency(entries: &[Entry]) -> Vec<u8> {
    let mut urgency: Vec<u8> = entries.iter().map(|entry| entry.priority).collect();
    // As many rounds as the longest chain of dependencies can be long.
    for _ in 0..entries.len() {
        let before = urgency.clone();
        for (index, entry) in entries.iter().enumerate() {
            for (other, needed) in entries.iter().enumerate() {
                if other != index && entry.depends_on.contains(&needed.ticket) {
                    urgency[other] = urgency[other].max(urgency[index]);
                }
            }
        }
        if urgency == before {
            break;
        }
    }
    urgency
}

/// The entries that each one conflicts with.
fn rivals(entries: &[Entry], overlaps: &[(WorkerId, WorkerId)]) -> Vec<BTreeSet<usize>> {
    let places: BTreeMap<&WorkerId, usize> =
        entries.iter().enumerate().map(|(at, entry)| (&entry.worker, at)).collect();
    let mut rivals = vec![BTreeSet::new(); entries.len()];
    for (a, b) in overlaps {
        if let (Some(a), Some(b)) = (places.get(a), places.get(b)) {
            rivals[*a].insert(*b);
            rivals[*b].insert(*a);
        }
    }
    rivals
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(name: &str) -> Entry {
        Entry {
            worker: name.parse().unwrap(),
            ticket: name.parse().unwrap(),
            priority: 5,
            depends_on: Vec::new(),
            red_gates: 0,
            conflicts: 0,
        }
    }

    fn needs(name: &str, other: &str) -> Entry {
        Entry { depends_on: vec![other.parse().unwrap()], ..entry(name) }
    }

    fn names(entries: &[Entry], overlaps: &[(&str, &str)]) -> Vec<String> {
        let overlaps: Vec<_> = overlaps.iter().map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap())).collect();
        order(entries, &overlaps).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn priority_then_age_decide_where_nothing_else_does() {
        let urgent = Entry { priority: 9, ..entry("c") };
        assert_eq!(names(&[entry("a"), entry("b"), urgent], &[]), ["c", "a", "b"]);
    }

    #[test]
    fn what_is_needed_goes_first_and_is_as_urgent_as_who_needs_it() {
        let urgent = Entry { priority: 9, ..needs("c", "b") };
        let low = Entry { priority: 1, ..entry("b") };
        assert_eq!(names(&[entry("a"), low, urgent], &[]), ["b", "c", "a"]);
        // What is not among them has landed, or will be missed by others.
        assert_eq!(names(&[needs("a", "gone"), entry("b")], &[]), ["a", "b"]);
    }

    #[test]
    fn a_circle_of_dependencies_loses_nobody() {
        assert_eq!(names(&[needs("a", "b"), needs("b", "a"), needs("c", "c")], &[]), ["c", "a", "b"]);
    }

    #[test]
    fn red_gates_send_work_back_in_the_row() {
        let red = Entry { red_gates: 1, ..entry("a") };
        assert_eq!(names(&[red.clone(), entry("b")], &[]), ["b", "a"]);
        // Not behind what is less urgent.
        assert_eq!(names(&[red, Entry { priority: 4, ..entry("b") }], &[]), ["a", "b"]);
    }

    #[test]
    fn one_that_is_in_everybodys_way_waits_for_them() {
        let all = [entry("a"), entry("b"), entry("c"), entry("d")];
        assert_eq!(names(&all, &[("a", "b"), ("a", "c"), ("d", "a")]), ["b", "c", "d", "a"]);
        // Of two that only conflict with each other the older one goes first, and the other after all that fits.
        assert_eq!(names(&all, &[("a", "b")]), ["c", "d", "a", "b"]);
    }

    #[test]
    fn who_gave_way_once_goes_by_age() {
        let again = Entry { conflicts: 1, ..entry("a") };
        assert_eq!(names(&[again, entry("b"), entry("c")], &[("a", "b"), ("a", "c")]), ["a", "b", "c"]);
    }

    proptest! {
        #[test]
        fn everybody_is_placed_once_and_never_before_what_it_needs(
            priorities in proptest::collection::vec(1_u8..=10, 1..12),
            needs in proptest::collection::vec((0_usize..12, 0_usize..12), 0..20),
            overlaps in proptest::collection::vec((0_usize..12, 0_usize..12), 0..20),
        ) {
            let name = |index: usize| format!("t{index}");
            let mut entries: Vec<Entry> = priorities.iter().enumerate()
                .map(|(index, priority)| Entry { priority: *priority, ..entry(&name(index)) }).collect();
            // From a later one to an earlier one, so that there is no circle.
            for (a, b) in &needs {
                if a > b && *a < entries.len() {
                    entries[*a].depends_on.push(name(*b).parse().unwrap());
                }
            }
            let overlaps: Vec<_> = overlaps.iter()
                .map(|(a, b)| (name(*a).parse().unwrap(), name(*b).parse().unwrap())).collect();
            let order = order(&entries, &overlaps);
            prop_assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), entries.len());
            for (at, worker) in order.iter().enumerate() {
                let entry = entries.iter().find(|entry| entry.worker == *worker).unwrap();
                for needed in &entry.depends_on {
                    let place = order.iter().position(|other| other.as_str() == needed.as_str()).unwrap();
                    prop_assert!(place < at, "{} before {}", worker, needed);
                }
            }
        }
    }
}
