//! What topologies have against starting tickets.

use super::*;
use crate::model::topology::TopologySetting;

/// Rules by a topology, with room for nine workers.
fn by(kind: &str, parameters: &[&str]) -> Rules {
    let parameters: Vec<_> = parameters.iter().map(|text| (*text).to_owned()).collect();
    let topology = TopologySetting::parse(kind, &parameters).unwrap().resolve(&BTreeMap::new()).unwrap().topology;
    Rules { max_workers: 9, topology, ..rules() }
}

#[test]
fn a_supervisor_has_only_so_many_workers_whoever_else_has_room() {
    let tickets = ["a", "b", "c", "d"].map(|name| entry(name, S::Queued)).to_vec();
    let owners = [("a", "one"), ("b", "one"), ("c", "one"), ("d", "two")];
    let owners = owners.map(|(ticket, owner)| (id(ticket), owner.to_owned()));
    let world = World { owners: owners.into(), ..world(tickets, Vec::new()) };
    let decision = decide(&world, &by("hierarchical", &["parent_child_ratio=2", "levels.worker=4"]));
    assert_eq!(decision.steps, [start("a"), start("b"), start("d")]);
    assert_eq!(hold(&decision, "c").why, "waits for `one`, which has 2 workers and may have 2");
    let all = decide(&world, &by("mesh", &[]));
    assert_eq!(all.steps, [start("a"), start("b"), start("c"), start("d")]);
}

#[test]
fn a_star_has_only_so_many_workers_in_all() {
    let tickets = ["a", "b", "c"].map(|name| entry(name, S::Queued)).to_vec();
    let decision = decide(&world(tickets, Vec::new()), &by("star", &["max_workers=2"]));
    assert_eq!(decision.steps, [start("a"), start("b")]);
    assert_eq!(hold(&decision, "c").why, "waits for a place: 2 of 2 workers run");
}
