//! What must hold when a play is over.

use std::collections::{BTreeMap, BTreeSet};

use super::super::checks::{check_order, check_tips, find_litter};
use super::backlog::{Ends, files, work_log};
use super::place::Place;
use super::watch::landed;

/// The states of all tickets that the queue knows.
pub(super) fn states(place: &Place) -> Result<BTreeMap<String, String>, String> {
    let said = place.swarm.run(["queue", "list", "--all", "--json"]);
    if said.code != 0 {
        return Err(said.transcript());
    }
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let tickets = said.json()["tickets"].as_array().unwrap().clone();
    Ok(tickets.iter().map(|entry| (text(&entry["ticket"]), text(&entry["state"]))).collect())
}

/// Whether every ticket is where it ends.
pub(super) fn is_over(place: &Place, ends: &Ends) -> Result<bool, String> {
    let states = states(place)?;
    Ok(ends.iter().all(|(id, end)| states.get(id).is_some_and(|state| state == end)))
}

/// Work while it goes on: nobody was there twice, and nobody missed what was there before.
pub(super) fn check_work_so_far(place: &Place) {
    let mut calls = BTreeSet::new();
    for (ticket, words) in work_log(place) {
        assert!(!words.starts_with("TWICE"), "an attempt of {ticket} began while another one ran");
        assert!(!words.starts_with("LOST"), "{ticket} found that its work is gone: {words}");
        assert!(!words.starts_with("cannot"), "{ticket}: {words}");
        if words.starts_with("call ") {
            assert!(calls.insert((ticket.clone(), words.clone())), "{ticket} made a call twice: {words}");
        }
    }
    let landed = landed(place);
    let once: BTreeSet<_> = landed.iter().collect();
    assert_eq!(once.len(), landed.len(), "something landed twice: {landed:?}");
}

/// Everything ended as it has to, once, with all its work, and nothing is left.
pub(super) fn check_end(place: &Place, ends: &Ends, start: &str) {
    let swarm = &place.swarm;
    check_work_so_far(place);
    let landed: BTreeSet<_> = landed(place).into_iter().collect();
    let expected: BTreeSet<_> = ends.iter().filter(|(_, end)| **end == "landed").map(|(id, _)| id.clone()).collect();
    assert_eq!(landed, expected);
    let tree = swarm.git(["ls-tree", "-r", "--name-only", "main"]).success();
    let tree: BTreeSet<_> = tree.lines().map(str::to_owned).collect();
    for ticket in &landed {
        let files = files(place, ticket);
        assert!(!files.is_empty() && files.is_subset(&tree), "work of {ticket} is missing: {tree:?}");
    }
    for (clash, twins) in [("clash1.txt", ["twin1", "twin2"]), ("clash2.txt", ["twin3", "twin4"])] {
        let text = swarm.git(["show", &format!("main:{clash}")]).success();
        // Who began when the other one had landed wrote behind it.
        let lines: BTreeSet<_> = text.lines().collect();
        assert_eq!((text.lines().count(), lines), (3, BTreeSet::from(["a person", twins[0], twins[1]])));
    }
    check_order(swarm, start);
    check_tips(swarm);
    // What did not land is there, committed or not.
    for name in
        work_log(place).iter().filter(|(id, _)| id == "bad1").filter_map(|(_, words)| words.strip_prefix("wrote "))
    {
        assert!(swarm.worktree("bad1").join("work").join(name).exists(), "{name} is gone");
    }
    assert_eq!(swarm.git(["worktree", "list"]).success().lines().count(), 2, "only that of `bad1` is left");
    assert_eq!(swarm.git(["branch", "--list", "swarm/*", "--format=%(refname:short)"]).success(), "swarm/bad1\n");
    swarm.git(["fsck", "--connectivity-only", "--no-dangling"]).success();
    let mut left = Vec::new();
    find_litter(&swarm.repository().join(".git"), &mut left);
    assert!(left.is_empty(), "left behind: {left:?}");
    let said = swarm.run(["doctor", "--json"]);
    let findings = said.json()["findings"].as_array().unwrap().clone();
    let bad: Vec<_> = findings.iter().filter(|finding| finding["level"] != "ok").collect();
    assert!(bad.is_empty(), "the doctor finds {bad:#?}");
    let is_tmux = |shown: &str| shown.split(' ').next().is_some_and(|program| program.ends_with("tmux"));
    let others = || swarm.processes().into_iter().filter(|(_, shown)| !is_tmux(shown)).collect::<Vec<_>>();
    swarm.wait_until("every process to be gone", || others().is_empty());
}
