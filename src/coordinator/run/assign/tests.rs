use super::*;
use crate::coordinator::run::world::{Nodes, Peer};
use crate::model::Time;
use crate::model::scaling::{ScaleScope, Scaled};
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
