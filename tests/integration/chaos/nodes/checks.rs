//! What must hold while a play goes on and when it is over.

use std::collections::{BTreeMap, BTreeSet};

use super::super::checks::{check_order, check_tips_by, find_litter};
use super::backlog::{Mark, Plans, marks};
use super::field::{Blind, Field, Node};

/// How long after a node is itself again its agents may run beside others: it has to find out that its leases are over.
const FINDS_OUT: f64 = 20.0;

/// The tickets in the history of a node's target.
fn landed(node: &Node) -> Vec<String> {
    let format = "--format=%(trailers:key=Swarm-Ticket,valueonly,separator=%x2C)";
    let text = node.swarm.git(["log", "--first-parent", format, "main"]).success();
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// While it goes on: nothing has landed twice anywhere, and no clone works twice on a ticket.
pub(super) fn check_so_far(field: &Field) {
    for mark in marks(&field.ground) {
        assert!(mark.words != "TWICE", "an attempt of {} began on {} while another one ran", mark.ticket, mark.node);
        assert!(!mark.words.starts_with("cannot"), "{mark:?}");
    }
    for node in &field.nodes {
        let landed = landed(node);
        let once: BTreeSet<_> = landed.iter().collect();
        assert_eq!(once.len(), landed.len(), "something landed twice on {}: {landed:?}", node.name);
    }
}

/// Whether all targets are at one commit and their checkouts follow.
pub(super) fn are_level(field: &Field) -> bool {
    let head = |node: &Node| node.swarm.git(["rev-parse", "main"]).success();
    let is_clean = |node: &Node| node.swarm.git(["status", "--porcelain"]).success().is_empty();
    let heads: BTreeSet<_> = field.nodes.iter().map(head).collect();
    heads.len() == 1 && field.nodes.iter().all(is_clean)
}

/// Whether no worker is left on a node.
pub(super) fn is_tidy(node: &Node) -> bool {
    let worktrees = node.swarm.git(["worktree", "list"]).success();
    let branches = node.swarm.git(["branch", "--list", "swarm/*"]).success();
    worktrees.lines().count() == 1 && branches.is_empty()
}

/// Everything has landed once, with all of its work, on every clone, and nothing is left there.
pub(super) fn check_end(field: &Field, plans: &Plans, start: &str) {
    check_so_far(field);
    let expected: BTreeSet<_> = plans.keys().cloned().collect();
    for node in &field.nodes {
        let (swarm, name) = (&node.swarm, node.name);
        let landed: BTreeSet<_> = landed(node).into_iter().collect();
        assert_eq!(landed, expected, "{name}");
        for (ticket, steps) in plans {
            for step in 1..=*steps {
                let text = swarm.git(["show", &format!("main:work/{ticket}.{step}")]).success();
                assert_eq!(text, format!("{ticket} {step}\n"), "{name}");
            }
        }
        for (clash, twins) in [("clash1.txt", ["twin1", "twin2"]), ("clash2.txt", ["twin3", "twin4"])] {
            let text = swarm.git(["show", &format!("main:{clash}")]).success();
            let lines: BTreeSet<_> = text.lines().collect();
            assert_eq!((text.lines().count(), lines), (3, BTreeSet::from(["a person", twins[0], twins[1]])), "{name}");
        }
        check_order(swarm, start);
        check_tips_by(swarm, &field.ground);
        swarm.git(["fsck", "--connectivity-only", "--no-dangling"]).success();
        let mut left = Vec::new();
        find_litter(&swarm.repository().join(".git"), &mut left);
        assert!(left.is_empty(), "left behind on {name}: {left:?}");
    }
    check_alone(&marks(&field.ground), &field.blind);
}

/// What one agent did, from its beginning to the last that it wrote.
#[derive(Debug)]
struct Stretch {
    node: String,
    from: f64,
    to: f64,
}

/// No two nodes work on a ticket at once, but for one that could not know that its lease was over: it was cut off,
/// suspended, without its coordinator or its server, or its agent was without a supervisor, and has had no time to find out.
fn check_alone(marks: &[Mark], blind: &[Blind]) {
    let mut stretches: BTreeMap<&str, Vec<Stretch>> = BTreeMap::new();
    for mark in marks {
        let of_ticket = stretches.entry(&mark.ticket).or_default();
        match of_ticket.iter_mut().rev().find(|stretch| stretch.node == mark.node) {
            Some(stretch) if !mark.words.starts_with("begin") => stretch.to = mark.at,
            _ => of_ticket.push(Stretch { node: mark.node.clone(), from: mark.at, to: mark.at }),
        }
    }
    for (ticket, of_ticket) in stretches {
        for first in &of_ticket {
            let is_beside =
                |second: &&Stretch| second.node != first.node && second.from > first.from && second.from < first.to;
            for second in of_ticket.iter().filter(is_beside) {
                let excuses = |blind: &&Blind| {
                    let until = blind.until.unwrap_or(f64::MAX) + FINDS_OUT;
                    blind.node == first.node && blind.from <= second.from && second.from <= until
                };
                assert!(
                    blind.iter().any(|blind| excuses(&blind)),
                    "{ticket} was worked on twice: {first:?} {second:?}"
                );
            }
        }
    }
}
