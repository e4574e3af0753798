//! What is decided where several nodes share the queue.

use super::*;
use crate::coordinator::run::world::{Nodes, Peer};
use crate::model::node::Assignments;
use crate::model::ticket::StartFrom;
use crate::model::topology::TopologySetting;

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

/// Rules by a topology.
fn by(kind: &str, parameters: &[&str]) -> Rules {
    let parameters: Vec<_> = parameters.iter().map(|text| (*text).to_owned()).collect();
    let topology = TopologySetting::parse(kind, &parameters).unwrap().resolve(&BTreeMap::new()).unwrap().topology;
    Rules { topology, ..rules() }
}

/// What a node assigned: tickets, each with its node.
fn given(by: &str, tickets: &[(&str, &str)]) -> Option<Option<Assignments>> {
    let tickets = tickets.iter().map(|(ticket, node)| (id(ticket), (*node).to_owned()));
    Some(Some(Assignments::now(&by.parse().unwrap(), tickets.collect())))
}

/// A queued ticket that asks for something.
fn asking(name: &str, capabilities: &[&str]) -> QueueTicket {
    let (entry, capabilities) = (entry(name, S::Queued), capabilities.iter().map(|name| (*name).to_owned()).collect());
    QueueTicket { ticket: Ticket { capabilities, ..entry.ticket }, ..entry }
}

/// A ticket in this state that starts from the branch of `dep`.
fn behind_dep(entry: QueueTicket) -> QueueTicket {
    let depends_on = vec![Dependency { ticket: id("dep"), kind: DependencyKind::Success }];
    let start_from = Some(StartFrom::Dependency);
    QueueTicket { ticket: Ticket { depends_on, start_from, ..entry.ticket }, ..entry }
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
    let entries = ["mine", "theirs", "nobodys"].map(|name| entry(name, S::Queued)).to_vec();
    let world = |peer| {
        let mut world = shared(entries.clone(), Vec::new(), peer);
        world.nodes.assignments = given("other", &[("mine", "own"), ("theirs", "other")]);
        world
    };
    let decision = decide(&world(there()), &by("star", &[]));
    assert_eq!(decision.steps, [start("mine")]);
    assert_eq!(hold(&decision, "theirs").why, "is assigned to node `other`");
    assert_eq!(hold(&decision, "nobodys").why, "waits for node `other` to assign it");
    let alone = decide(&world(gone()), &by("star", &["failover_coordinator=false"]));
    assert!(hold(&alone, "nobodys").why.starts_with("waits for node `other`, which alone assigns tickets and is gone"));
    assert_eq!(hold(&alone, "nobodys").kind, HoldKind::Person);
    let followed = decide(&world(gone()), &by("star", &[]));
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

#[test]
fn who_is_chosen_among_several_or_goes_round_a_ring_waits_for_the_node_that_offers_what_is_asked_for_as_well() {
    let capable = Peer { capabilities: vec!["gpu".to_owned()], ..there() };
    let run = RunSettings { agents: vec!["shell".parse().unwrap(), "other".parse().unwrap()], ..rules().run };
    let (several, ring) = (Rules { run, ..rules() }, by("ring", &["agents=shell,other"]));
    let world = |capabilities: &[&str], peer: &Peer| shared(vec![asking("a", capabilities)], Vec::new(), peer.clone());
    for rules in [&several, &ring] {
        let decision = decide(&world(&["gpu", "rust"], &capable), rules);
        assert_eq!(hold(&decision, "a").why, "waits for node `other`, which offers `gpu`");
        assert!(decision.steps.is_empty() && hold(&decision, "a").kind.passes() && !decision.is_over());
        let own = Rules { offers: vec!["gpu".to_owned()], ..rules.clone() };
        assert_eq!(decide(&world(&["gpu"], &capable), &own).steps, [start("a")]);
        assert_eq!(decide(&world(&["rust"], &capable), rules).steps, [start("a")], "the agents offer that");
    }
    let nobody = Peer { is_gone: true, ..capable.clone() };
    let unable = decide(&world(&["gpu"], &nobody), &several);
    assert_eq!((&unable.steps[..], hold(&unable, "a").kind), (&[][..], HoldKind::Person));
    assert_eq!(decide(&world(&["gpu"], &nobody), &ring).steps, [start("a")], "a ring means its agents");
    // Together with the node one agent alone has to have all of it.
    let mut split = world(&["gpu", "web"], &capable);
    assert_eq!(hold(&decide(&split, &several), "a").kind, HoldKind::Person);
    split.agents.get_mut(&"other".parse::<AgentName>().unwrap()).unwrap().capabilities = vec!["web".to_owned()];
    assert_eq!(hold(&decide(&split, &several), "a").why, "waits for node `other`, which offers `gpu`");
}

#[test]
fn what_runs_elsewhere_keeps_what_may_touch_its_files_from_starting_and_what_is_finished_does_not() {
    let many = Rules { max_workers: 9, ..rules() };
    let world = |state, node: &str| {
        let running = QueueTicket { state, fence: 7, node: Some(node.to_owned()), ..scoped("r", "src/**") };
        shared(vec![running, scoped("a", "src/a.rs"), scoped("b", "docs")], Vec::new(), there())
    };
    for (state, node) in [(S::Running, "other"), (S::Running, "client:bot")] {
        let decision = decide(&world(state, node), &many);
        assert_eq!(decision.steps, [start("b")], "{state} at {node}");
        let why = "waits for `r`, which runs and may touch the same files, such as `src/a.rs`";
        assert_eq!((hold(&decision, "a").why.as_str(), hold(&decision, "a").kind), (why, HoldKind::Place));
        let run = RunSettings { allow_scope_overlap: true, ..RunSettings::default() };
        assert_eq!(decide(&world(state, node), &Rules { run, ..many.clone() }).steps, [start("a"), start("b")]);
    }
    for state in [S::Lost, S::Review, S::Approved, S::Landed, S::Failed] {
        assert_eq!(decide(&world(state, "other"), &many).steps, [start("a"), start("b")], "{state}");
    }
}

#[test]
fn what_is_taken_over_does_not_wait_for_what_is_taken_over_as_well() {
    let left = |name: &str| QueueTicket { ticket: scoped(name, "src/**").ticket, ..elsewhere(name, S::Lost) };
    let mut world = shared(vec![left("a"), left("b")], Vec::new(), gone());
    world.nodes.over = [id("a"), id("b")].into();
    let decision = decide(&world, &rules());
    assert!(matches!(&decision.steps[..], [Step::TakeOver { ticket, .. }] if *ticket == id("a")), "{decision:?}");
    assert!(hold(&decision, "b").why.starts_with("waits for `a`, which runs"), "one after the other");
}

#[test]
fn what_starts_from_the_branch_of_a_ticket_waits_for_the_node_that_has_that_until_it_has_landed() {
    let top = || behind_dep(entry("top", S::Queued));
    let land = Rules { approves: true, ..rules() };
    for state in [S::Review, S::Approved, S::Landing] {
        let decision = decide(&shared(vec![elsewhere("dep", state), top()], Vec::new(), there()), &land);
        assert_eq!((&decision.steps[..], decision.is_over()), (&[][..], false), "{state}");
        let why = "waits for node `other`, which has `dep`, from whose branch it starts";
        assert_eq!((hold(&decision, "top").why.as_str(), hold(&decision, "top").kind), (why, HoldKind::Place));
    }
    let steps = |world: &World| decide(world, &land).steps;
    let landed = shared(vec![elsewhere("dep", S::Landed), top()], Vec::new(), there());
    assert_eq!(steps(&landed), [start("top")]);
    let mut based = shared(vec![elsewhere("dep", S::Review), top()], Vec::new(), there());
    based.tickets[1].ticket.base = Some("main".to_owned());
    assert_eq!(steps(&based), [start("top")], "it names where it starts");
    let again = shared(vec![elsewhere("dep", S::Review), top()], vec![ended("top", broke())], there());
    assert_eq!(steps(&again), [start("top")], "its worktree is here");
    let here = shared(vec![entry("dep", S::Review), top()], vec![working("dep")], there());
    assert_eq!(decide(&here, &Rules { lands: false, ..rules() }).steps, [start("top")], "nobody else has it");
}

#[test]
fn what_starts_from_the_branch_of_a_ticket_whose_node_is_gone_waits_for_whoever_takes_that_over() {
    for state in [S::Queued, S::Review] {
        let top = match state {
            S::Queued => behind_dep(entry("top", S::Queued)),
            state => behind_dep(elsewhere("top", state)),
        };
        let mut world = shared(vec![elsewhere("dep", S::Review), top], Vec::new(), gone());
        world.nodes.over = [id("dep"), id("top")].into();
        let decision = decide(&world, &rules());
        assert!(matches!(&decision.steps[..], [Step::TakeOver { ticket, .. }] if *ticket == id("dep")), "{decision:?}");
        let why = "waits for `dep`, from whose branch it starts and which is to be taken over from node `other`";
        assert_eq!((hold(&decision, "top").why.as_str(), hold(&decision, "top").kind), (why, HoldKind::Dependency));
    }
    let tickets = vec![elsewhere("dep", S::Review), behind_dep(entry("top", S::Queued))];
    let nobody = decide(&shared(tickets, Vec::new(), gone()), &Rules { lands: false, ..rules() });
    let why = "waits for `dep`, from whose branch it starts and which is in review on `other` and has to land";
    assert_eq!((hold(&nobody, "top").why.as_str(), nobody.is_over()), (why, true));
}

#[test]
fn what_waits_in_a_star_for_room_at_any_node_waits_for_a_place_and_what_else_is_in_its_way_does_not() {
    let world = |tickets: Vec<QueueTicket>, by: &str, peer| {
        let mut world = shared(tickets, Vec::new(), peer);
        world.nodes.assignments = given(by, &[("mine", "own"), ("theirs", "other")]);
        world
    };
    let tickets = || ["mine", "theirs", "a", "b"].map(|name| entry(name, S::Queued)).to_vec();
    for (by_whom, why) in [("own", "waits for a node that has room"), ("other", "waits for node `other` to assign it")]
    {
        let decision = decide(&world(tickets(), by_whom, there()), &by("star", &[]));
        assert_eq!((decision.steps.as_slice(), decision.waiting), (&[start("mine")][..], 2), "by {by_whom}");
        assert_eq!((hold(&decision, "a").why.as_str(), hold(&decision, "a").kind), (why, HoldKind::Place));
    }
    let waiting = |tickets, by_whom: &str, peer, rules: &Rules| decide(&world(tickets, by_whom, peer), rules).waiting;
    assert_eq!(waiting(tickets(), "other", gone(), &by("star", &[])), 0, "nobody assigns it");
    assert_eq!(waiting(tickets(), "own", there(), &by("hierarchical", &[])), 0, "there each has its node");
    let mut others = tickets();
    others[2] = asking("a", &["gpu"]);
    (others[0].ticket.scope, others[3].ticket.scope) = (vec!["src/**".to_owned()], vec!["src/b.rs".to_owned()]);
    assert_eq!(waiting(others, "own", there(), &by("star", &[])), 0, "nobody has a GPU, and `mine` runs");
    let max_per_agent = BTreeMap::from([("shell".parse().unwrap(), 1)]);
    let limited = Rules { run: RunSettings { max_per_agent, ..RunSettings::default() }, ..by("star", &[]) };
    assert_eq!(waiting(tickets(), "own", there(), &limited), 0, "with another place it would not start");
}

#[test]
fn what_waits_for_places_at_other_nodes_alone_is_counted_and_what_is_held_otherwise_is_not() {
    let full = Peer { running: 2, limit: 2, ..there() };
    let tickets = || vec![entry("a", S::Queued), asking("b", &["gpu"])];
    let counts = |world: &World, rules: &Rules| {
        let decision = decide(world, rules);
        (decision.waiting, decision.waiting_elsewhere)
    };
    let mut world = shared(tickets(), Vec::new(), full.clone());
    assert_eq!(counts(&world, &Rules { max_workers: 0, ..rules() }), (1, 0), "for a place here");
    world.nodes.is_draining = true;
    assert_eq!(counts(&world, &rules()), (0, 1));
    let wait = Some(Duration::from_secs(60));
    let paces = vec![Pace::after_refusal(None, "big", "429", wait, Pacing::default(), ago(10))];
    assert_eq!(counts(&World { paces, ..world.clone() }, &rules()), (0, 1), "here alone its model is left alone");
    let able = Peer { capabilities: vec!["gpu".to_owned()], ..full.clone() };
    assert_eq!(counts(&shared(tickets(), Vec::new(), able), &rules()), (0, 1), "one starts, one is for the other node");
    let roomy = shared(tickets(), Vec::new(), Peer { running: 1, ..full.clone() });
    let nodes = Nodes { is_draining: true, ..roomy.nodes.clone() };
    assert_eq!(counts(&World { nodes, ..roomy }, &rules()), (0, 0), "the other one is about to take it");
    world.nodes.is_draining = false;
    world.chosen = Some(BTreeSet::new());
    assert_eq!(counts(&world, &rules()), (0, 1), "nobody chose it for this node");
    let mut assigned = shared(tickets(), Vec::new(), full.clone());
    assigned.nodes.assignments = given("own", &[("a", "other")]);
    assert_eq!(counts(&assigned, &by("hierarchical", &[])), (0, 1));
    assigned.nodes.assignments = given("own", &[("a", "own")]);
    let none = Rules { max_workers: 0, ..by("hierarchical", &[]) };
    assert_eq!(counts(&assigned, &none), (1, 0));
    assert_eq!(counts(&shared(tickets(), Vec::new(), full), &rules()), (0, 0), "it starts");
}
