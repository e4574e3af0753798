use super::*;
use crate::coordinator::run::decide;
use crate::coordinator::run::world::{AgentFacts, Doing, Nodes, Peer};
use crate::model::Time;
use crate::model::scaling::{ScaleScope, Scaled};
use crate::model::ticket::{Dependency, DependencyKind, StartFrom};
use crate::model::topology::TopologySetting;

fn id(name: &str) -> TicketId {
    name.parse().unwrap()
}

fn entry(name: &str, state: TicketState, node: Option<&str>) -> QueueTicket {
    let ticket = Ticket::plain(id(name));
    QueueTicket { state, node: node.map(str::to_owned), ..QueueTicket::unpublished(ticket, Time::from_millis(0)) }
}

fn queued(name: &str) -> QueueTicket {
    entry(name, TicketState::Queued, None)
}

fn labelled(name: &str, label: &str) -> QueueTicket {
    let entry = queued(name);
    QueueTicket { ticket: Ticket { labels: vec![label.to_owned()], ..entry.ticket }, ..entry }
}

/// A world seen by node `a`, beside `b`.
fn world(tickets: Vec<QueueTicket>, peer: Peer) -> World {
    let peers = BTreeMap::from([("b".to_owned(), Peer { limit: 2, ..peer })]);
    let nodes = Nodes { own: Some("a".to_owned()), peers, is_watched: true, ..Nodes::default() };
    World { tickets, nodes, ..World::empty(None) }
}

fn rules(kind: &str, parameters: &[&str]) -> Rules {
    let parameters: Vec<_> = parameters.iter().map(|text| (*text).to_owned()).collect();
    let topology = TopologySetting::parse(kind, &parameters).unwrap().resolve(&BTreeMap::new()).unwrap().topology;
    Rules { topology, ..Rules::plain(2) }
}

/// What is assigned, as words.
fn words(assigned: &BTreeMap<TicketId, String>) -> Vec<String> {
    assigned.iter().map(|(ticket, node)| format!("{ticket}:{node}")).collect()
}

#[test]
fn in_a_star_what_waits_goes_where_there_is_room_and_stays_there() {
    let tickets: Vec<_> = ["t1", "t2", "t3", "t4", "t5"].map(queued).to_vec();
    let assigned = assign(&world(tickets.clone(), Peer::default()), &rules("star", &[]), &BTreeMap::new());
    assert_eq!(words(&assigned), ["t1:a", "t2:b", "t3:a", "t4:b"], "the fifth has no room anywhere");
    let bounded =
        assign(&world(tickets.clone(), Peer::default()), &rules("star", &["max_workers=3"]), &BTreeMap::new());
    assert_eq!(bounded.len(), 3);
    let scaled = Scaled { workers: 1, scope: ScaleScope::Node, by: "a person".to_owned() };
    let scaled = Rules { scaled: Some(scaled), ..rules("star", &[]) };
    let narrow = assign(&world(tickets.clone(), Peer::default()), &scaled, &BTreeMap::new());
    assert_eq!(words(&narrow), ["t1:a", "t2:b", "t3:b"], "a node that was scaled down has fewer places");
    // What runs takes a place; what is assigned stays.
    let mut later = tickets;
    later[0] = entry("t1", TicketState::Running, Some("a"));
    later[1] = entry("t2", TicketState::Landed, Some("b"));
    let now = assign(&world(later, Peer::default()), &rules("star", &[]), &assigned);
    assert_eq!(words(&now), ["t1:a", "t3:a", "t4:b", "t5:b"]);
}

#[test]
fn a_node_that_runs_chosen_tickets_is_given_no_others() {
    let tickets: Vec<_> = ["t1", "t2", "t3"].map(queued).to_vec();
    let gone = Peer { is_gone: true, ..Peer::default() };
    let chosen = World { chosen: Some([id("t3")].into()), ..world(tickets, gone) };
    let before = BTreeMap::from([(id("t1"), "a".to_owned()), (id("t2"), "a".to_owned())]);
    assert_eq!(words(&assign(&chosen, &rules("star", &[]), &before)), ["t3:a"]);
    let other = Peer { chosen: Some([id("t2")].into()), ..Peer::default() };
    let tickets: Vec<_> = ["t1", "t2", "t3", "t4"].map(queued).to_vec();
    let before = BTreeMap::from([(id("t1"), "b".to_owned())]);
    assert_eq!(words(&assign(&world(tickets, other), &rules("star", &[]), &before)), ["t1:a", "t2:b", "t3:a"]);
}

#[test]
fn what_was_assigned_to_a_node_that_is_gone_or_drains_goes_to_another_and_what_runs_there_only_when_its_lease_is_over()
{
    let before = BTreeMap::from([(id("t1"), "b".to_owned()), (id("t2"), "b".to_owned())]);
    let tickets = vec![queued("t1"), entry("t2", TicketState::Running, Some("b"))];
    for peer in [Peer { is_gone: true, ..Peer::default() }, Peer { is_draining: true, ..Peer::default() }] {
        let mut world = world(tickets.clone(), peer);
        assert_eq!(words(&assign(&world, &rules("star", &[]), &before)), ["t1:a", "t2:b"]);
        world.nodes.over = [id("t2")].into();
        assert_eq!(words(&assign(&world, &rules("star", &[]), &before)), ["t1:a", "t2:a"]);
    }
}

#[test]
fn in_a_hierarchy_every_ticket_has_a_node_by_its_label_and_what_a_node_lacks_goes_elsewhere() {
    let mut tickets = vec![labelled("t1", "ui"), labelled("t2", "core"), labelled("t3", "ui"), labelled("t4", "ui")];
    let assigned = assign(&world(tickets.clone(), Peer::default()), &rules("hierarchical", &[]), &BTreeMap::new());
    assert_eq!(words(&assigned), ["t1:a", "t2:b", "t3:a", "t4:a"]);
    tickets[3].ticket.capabilities = vec!["gpu".to_owned()];
    let able = Peer { capabilities: vec!["gpu".to_owned()], ..Peer::default() };
    let assigned = assign(&world(tickets, able), &rules("hierarchical", &[]), &BTreeMap::new());
    assert_eq!(words(&assigned), ["t1:a", "t2:b", "t3:a", "t4:b"]);
}

#[test]
fn what_is_begun_is_the_nodes_that_has_it_whatever_was_said_before() {
    let tickets = vec![
        entry("t1", TicketState::Running, Some("a")),
        entry("t2", TicketState::Review, Some("b")),
        entry("t3", TicketState::Landing, Some("a")),
        entry("t4", TicketState::Running, Some("client:bot")),
        entry("t5", TicketState::Approved, Some("clone")),
        queued("t6"),
    ];
    let world = world(tickets, Peer::default());
    let anew = assign(&world, &rules("hierarchical", &[]), &BTreeMap::new());
    assert_eq!(words(&anew), ["t1:a", "t2:b", "t3:a", "t6:b"], "other programs and clones are no supervisors");
    let before = BTreeMap::from([(id("t1"), "b".to_owned()), (id("t4"), "b".to_owned())]);
    let moved = assign(&world, &rules("hierarchical", &[]), &before);
    assert_eq!(words(&moved)[..4], ["t1:a", "t2:b", "t3:a", "t4:b"]);
}

#[test]
fn workers_that_ran_before_the_hierarchy_was_set_count_among_those_of_their_node() {
    let names = ["t1", "t2", "t3", "t4"];
    let mut tickets: Vec<_> = names.map(|name| entry(name, TicketState::Running, Some("a"))).to_vec();
    tickets.push(queued("t5"));
    let mut world = world(tickets, Peer { is_draining: true, ..Peer::default() });
    let rules = Rules { max_workers: 9, ..rules("hierarchical", &["parent_child_ratio=2", "levels.worker=6"]) };
    let owners = assign(&world, &rules, &BTreeMap::new());
    world.nodes.assignments = Some(Some(Assignments::now(&"a".parse().unwrap(), owners)));
    world.adopt_assignments(&rules);
    world.doing = names.map(|name| (id(name), Doing::Starting { agent: None })).into();
    let decision = decide(&world, &rules);
    let why = decision.holds.iter().find(|hold| hold.ticket == id("t5")).map(|hold| hold.why.as_str());
    assert_eq!((decision.steps.len(), why), (0, Some("waits for `a`, which has 4 workers and may have 2")));
}

#[test]
fn what_starts_from_the_branch_of_a_ticket_goes_to_the_node_that_has_it_or_to_none() {
    let need = Dependency { ticket: id("t1"), kind: DependencyKind::Success };
    let top = queued("t2");
    let top = Ticket { depends_on: vec![need], start_from: Some(StartFrom::Dependency), ..top.ticket };
    let top = QueueTicket { ticket: top, ..queued("t2") };
    let before = BTreeMap::from([(id("t2"), "a".to_owned())]);
    for kind in ["star", "hierarchical"] {
        let assigned = |state, peer| {
            let tickets = vec![entry("t1", state, Some("b")), top.clone()];
            words(&assign(&world(tickets, peer), &rules(kind, &[]), &before))
        };
        assert_eq!(assigned(TicketState::Review, Peer::default()), ["t1:b", "t2:b"], "{kind}");
        let away = Peer { is_draining: true, ..Peer::default() };
        assert_eq!(assigned(TicketState::Review, away), ["t1:b"], "it takes nothing new, and nobody else can");
        assert_eq!(assigned(TicketState::Landed, Peer::default()), ["t2:a"], "it stays where it was");
    }
}

#[test]
fn a_ticket_goes_to_a_node_that_could_take_it_with_the_agents_that_may_work_on_it() {
    let asking = |name: &str, agent: Option<&str>| {
        let entry = queued(name);
        let (agent, capabilities) = (agent.map(|agent| agent.parse().unwrap()), vec!["gpu".to_owned()]);
        QueueTicket { ticket: Ticket { agent, capabilities, ..entry.ticket }, ..entry }
    };
    let assigned = |agent, offers: &[&str]| {
        let capabilities = offers.iter().map(|name| (*name).to_owned()).collect();
        let mut world = world(vec![asking("t1", agent)], Peer { capabilities, ..Peer::default() });
        let facts = AgentFacts { capabilities: vec!["gpu".to_owned()], ..AgentFacts::default() };
        world.agents.insert("able".parse().unwrap(), facts);
        words(&assign(&world, &rules("star", &[]), &BTreeMap::new()))
    };
    assert_eq!(assigned(None, &["gpu"]), ["t1:b"], "no agent that would get it at `a` has it");
    assert_eq!(assigned(Some("able"), &["gpu"]), ["t1:a"]);
    assert_eq!(assigned(Some("shell"), &["gpu"]), ["t1:b"]);
    assert_eq!(assigned(Some("shell"), &[]), ["t1:a"], "it means that agent, where nobody offers what it asks for");
    assert!(assigned(None, &[]).is_empty());
}

#[test]
fn in_a_star_what_may_touch_the_same_files_goes_to_one_node_and_nowhere_beside_what_runs() {
    let scoped = |name: &str, state, node| {
        let entry = entry(name, state, node);
        QueueTicket { ticket: Ticket { scope: vec!["src/**".to_owned()], ..entry.ticket }, ..entry }
    };
    let assigned = |state, node, rules: &Rules| {
        let tickets = vec![scoped("t1", state, node), scoped("t2", TicketState::Queued, None), queued("t3")];
        words(&assign(&world(tickets, Peer::default()), rules, &BTreeMap::new()))
    };
    let star = rules("star", &[]);
    assert_eq!(assigned(TicketState::Queued, None, &star), ["t1:a", "t2:a", "t3:b"]);
    assert_eq!(assigned(TicketState::Running, Some("a"), &star), ["t1:a", "t3:b"]);
    assert_eq!(assigned(TicketState::Review, Some("a"), &star), ["t1:a", "t2:a", "t3:b"]);
    let run = crate::model::settings::RunSettings { allow_scope_overlap: true, ..star.run.clone() };
    assert_eq!(assigned(TicketState::Queued, None, &Rules { run, ..star.clone() }), ["t1:a", "t2:b", "t3:a"]);
}
