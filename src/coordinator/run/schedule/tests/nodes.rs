//! What is decided where several nodes share the queue.

use super::*;
use crate::coordinator::run::world::{Nodes, Peer};

/// A ticket that another node holds, or held last.
fn elsewhere(name: &str, state: S) -> QueueTicket {
    QueueTicket { fence: 7, node: Some("other".to_owned()), ..entry(name, state) }
}

/// A world in which this node is `own`, and the other one like this.
fn shared(tickets: Vec<QueueTicket>, workers: Vec<Seen>, peer: Peer) -> World {
    let peers = BTreeMap::from([("other".to_owned(), peer)]);
    let nodes = Nodes { own: Some("own".to_owned()), peers, is_watched: true, ..Nodes::default() };
    World { nodes, ..world(tickets, workers) }
}

fn there() -> Peer {
    Peer { lands: true, ..Peer::default() }
}

fn gone() -> Peer {
    Peer { is_gone: true, ..there() }
}

#[test]
fn what_a_node_holds_that_is_there_is_left_alone_and_waited_for() {
    for state in [S::Running, S::Lost, S::Failed, S::Review, S::Approved, S::Landing] {
        // A worker of an earlier attempt is no reason to do anything about it.
        let stale = seen("a", Phase::Ended { outcome: Outcome::NoChanges, at: ago(60) }, Liveness::Dead, Status::Done);
        let world = shared(vec![elsewhere("a", state)], vec![stale], there());
        let decision = decide(&world, &Rules { approves: true, ..rules() });
        assert_eq!((&decision.steps[..], standing_of(&decision, "a")), (&[][..], &Standing::Moving), "{state}");
        assert!(!decision.is_over());
    }
}

#[test]
fn only_what_a_node_held_that_is_gone_and_whose_lease_is_over_is_taken_over() {
    let take =
        Step::TakeOver { ticket: id("a"), agent: "shell".parse().unwrap(), lease: SeenLease { fence: 7, until: None } };
    for state in [S::Running, S::Lost, S::Review, S::Approved, S::Landing] {
        let mut world = shared(vec![elsewhere("a", state)], Vec::new(), gone());
        // Its coordinator is gone; its workers live.
        assert_eq!(decide(&world, &rules()).steps, []);
        world.nodes.over = [id("a")].into();
        assert_eq!(decide(&world, &rules()).steps, std::slice::from_ref(&take));
        world.nodes.is_draining = true;
        assert_eq!(hold(&decide(&world, &rules()), "a").why, "waits for another node: this one takes nothing new");
        let mut there = shared(vec![elsewhere("a", state)], Vec::new(), there());
        there.nodes.over = [id("a")].into();
        assert_eq!(decide(&there, &rules()).steps, []);
        let mut unseen = shared(vec![elsewhere("a", state)], Vec::new(), gone());
        (unseen.nodes.over, unseen.nodes.is_watched) = ([id("a")].into(), false);
        assert_eq!(decide(&unseen, &rules()).steps, []);
    }
}

#[test]
fn finished_work_needs_no_place_and_work_that_goes_on_does() {
    for (state, goes_on) in [(S::Running, false), (S::Review, true), (S::Approved, true), (S::Landing, true)] {
        let mut world = shared(vec![elsewhere("a", state)], Vec::new(), gone());
        world.nodes.over = [id("a")].into();
        let decision = decide(&world, &Rules { max_workers: 0, ..rules() });
        assert_eq!(!decision.steps.is_empty(), goes_on, "{state}");
    }
}

#[test]
fn finished_work_of_who_is_no_node_or_lands_nothing_is_held_and_says_why() {
    let held = |peer: Peer| {
        let decision = decide(&shared(vec![elsewhere("a", S::Approved)], Vec::new(), peer), &rules());
        hold(&decision, "a").why.clone()
    };
    let mut removed = shared(vec![elsewhere("a", S::Approved)], Vec::new(), gone());
    removed.nodes.peers.clear();
    removed.nodes.over = [id("a")].into();
    let decision = decide(&removed, &rules());
    assert_eq!(hold(&decision, "a").why, "is finished on `other`, which is no node: swarm merge there");
    assert_eq!(decision.steps, []);
    assert_eq!(
        held(Peer { lands: false, ..there() }),
        "is finished on node `other`, which lands nothing: swarm merge there"
    );
}

#[test]
fn what_a_person_stopped_on_a_node_that_is_gone_is_left_to_a_person_and_what_failed_there_is_tried_again() {
    let failed = |error: &str| QueueTicket { error: Some(error.to_owned()), ..elsewhere("a", S::Failed) };
    let decide = |error: &str| decide(&shared(vec![failed(error)], Vec::new(), gone()), &rules());
    let stopped = decide(crate::model::worker::STOPPED_BY_PERSON);
    assert_eq!(stopped.steps, []);
    let why = "was stopped by a person on node `other`: swarm queue retry a lets it go on";
    assert_eq!(hold(&stopped, "a").why, why);
    assert_eq!(decide("its command exited with code 1").steps, [Step::Requeue { ticket: id("a") }]);
}

#[test]
fn where_one_node_assigns_only_what_is_assigned_to_this_one_is_taken() {
    use crate::model::node::Assignments;
    let by = |parameters: &[&str]| {
        let parameters: Vec<_> = parameters.iter().map(|text| (*text).to_owned()).collect();
        let setting = crate::model::topology::TopologySetting::parse("star", &parameters).unwrap();
        Rules { topology: setting.resolve(&BTreeMap::new()).unwrap().topology, ..rules() }
    };
    let tickets = [("mine", "own"), ("theirs", "other")].map(|(ticket, node)| (id(ticket), node.to_owned()));
    let assignments = Assignments::now(&"other".parse().unwrap(), tickets.into());
    let entries = ["mine", "theirs", "nobodys"].map(|name| entry(name, S::Queued)).to_vec();
    let world = |peer| {
        let mut world = shared(entries.clone(), Vec::new(), peer);
        world.nodes.assignments = Some(Some(assignments.clone()));
        world
    };
    let decision = decide(&world(there()), &by(&[]));
    assert_eq!(decision.steps, [start("mine")]);
    assert_eq!(hold(&decision, "theirs").why, "is assigned to node `other`");
    assert_eq!(hold(&decision, "nobodys").why, "waits for node `other` to assign it");
    let alone = decide(&world(gone()), &by(&["failover_coordinator=false"]));
    assert!(hold(&alone, "nobodys").why.starts_with("waits for node `other`, which alone assigns tickets and is gone"));
    assert_eq!(hold(&alone, "nobodys").kind, HoldKind::Person);
    let followed = decide(&world(gone()), &by(&[]));
    assert_eq!(hold(&followed, "nobodys").kind, HoldKind::Place);
}

#[test]
fn with_targeted_routing_a_ticket_is_left_for_a_moment_to_a_node_that_has_less_to_do() {
    use crate::model::topology::{Mesh, Routing, Topology};
    let topology = Topology::Mesh(Mesh { routing: Routing::Targeted, ..Mesh::default() });
    let targeted = Rules { topology, ..rules() };
    let fresh = |seconds| QueueTicket { changed_at: ago(seconds), ..entry("a", S::Queued) };
    let busy = entry("busy", S::Running);
    let world = |seconds, running| {
        let peer = Peer { running, limit: 2, ..there() };
        shared(vec![fresh(seconds), busy.clone()], vec![working("busy")], peer)
    };
    let decision = decide(&world(1, 0), &targeted);
    assert_eq!(hold(&decision, "a").why, "is left to node `other`, which has less to do");
    assert_eq!((&decision.steps[..], decision.wake_at), (&[][..], Some(ago(-2))));
    assert_eq!(decide(&world(3, 0), &targeted).steps, [start("a")], "that time is over");
    assert_eq!(decide(&world(1, 1), &targeted).steps, [start("a")], "it has as much to do");
    assert_eq!(decide(&world(1, 0), &rules()).steps, [start("a")]);
}

#[test]
fn a_worker_here_under_the_same_lease_is_ours_whatever_this_clone_was_called_then() {
    let mut lost = lost("a");
    lost.worker.attempt.fence = 7;
    let world = shared(vec![elsewhere("a", S::Lost)], vec![lost], there());
    assert_eq!(decide(&world, &rules()).steps, [Step::Resume { ticket: id("a"), worker: "a".parse().unwrap() }]);
}

#[test]
fn a_capability_is_a_nodes_as_well_as_an_agents() {
    let mut ticket = with_agent(entry("a", S::Queued), "shell");
    ticket.ticket.capabilities = vec!["gpu".to_owned()];
    let capable = Peer { capabilities: vec!["gpu".to_owned()], ..there() };
    let world = |peer: Peer| shared(vec![ticket.clone()], Vec::new(), peer);
    let decision = decide(&world(capable.clone()), &rules());
    assert_eq!(hold(&decision, "a").why, "waits for node `other`, which offers `gpu`");
    assert!(hold(&decision, "a").kind.passes() && decision.steps.is_empty());
    let own = Rules { offers: vec!["gpu".to_owned()], ..rules() };
    assert_eq!(decide(&world(capable.clone()), &own).steps, [start("a")]);
    // Who names an agent means that one, where nobody offers it.
    assert_eq!(decide(&world(Peer { is_gone: true, ..capable }), &rules()).steps, [start("a")]);
}
