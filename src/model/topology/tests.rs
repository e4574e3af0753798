use proptest::prelude::*;

use super::ring::Report;
use super::*;
use crate::model::AgentName;
use crate::model::ticket::{Dependency, DependencyKind};

fn ticket(name: &str) -> Ticket {
    Ticket::plain(name.parse().unwrap())
}

fn chosen(kind: &str, parameters: &[&str]) -> Result<Topology, TopologyFault> {
    let parameters: Vec<_> = parameters.iter().map(|text| (*text).to_owned()).collect();
    Ok(TopologySetting::parse(kind, &parameters)?.resolve(&BTreeMap::new())?.topology)
}

#[test]
fn parameters_are_read_and_what_does_not_fit_is_refused_with_its_key() {
    let small = chosen("hierarchical", &["levels.supervisor=2", "levels.worker=6", "parent_child_ratio=3"]).unwrap();
    assert_eq!(small.supervisors(), ["supervisor-1", "supervisor-2"]);
    assert_eq!(small.max_workers(), Some(6));
    assert_eq!(chosen("mesh", &["connection_strategy=nearest"]).unwrap().kind(), "mesh");
    let refused = |kind: &str, parameters: &[&str]| {
        let fault = chosen(kind, parameters).unwrap_err();
        format!("{}: {}", fault.key.unwrap_or_default(), fault.why)
    };
    assert!(refused("hierarchical", &["levels.worker=13"]).contains("levels.worker: 3 supervisors"));
    assert!(refused("star", &["max_workers=0"]).contains("max_workers: at least one"));
    assert!(refused("star", &["coordinator_count=2"]).contains("coordinator_count: one coordinator"));
    assert!(refused("star", &["connection_strategy=full"]).contains("unknown field `connection_strategy`"));
    assert!(refused("mesh", &["connection_strategy=far"]).contains("`full`"));
    assert!(refused("mesh", &["gossip_interval_ms=100"]).contains("gossip_interval_ms: expected"));
    assert!(refused("ring", &["agents=[]"]).contains("agents: a ring has two agents"));
    assert!(refused("ring", &["agents=a,a"]).contains("agents: `a` is there twice"));
    assert!(refused("ring", &["token_timeout_ms=5"]).contains("token_timeout_ms: expected"));
    assert!(refused("cube", &[]).contains("there is no topology `cube`; there are star"));
    assert!(refused("star", &["max_workers"]).contains("is not KEY=VALUE"));
}

#[test]
fn a_saved_topology_stands_alone() {
    let saved = BTreeMap::from([("calm".to_owned(), Topology::Star(Star { max_workers: 2, ..Star::default() }))]);
    let named = TopologySetting::parse("calm", &[]).unwrap().resolve(&saved).unwrap();
    assert_eq!((named.name.as_deref(), named.topology.max_workers()), (Some("calm"), Some(2)));
    let more = TopologySetting::parse("calm", &["max_workers=3".to_owned()]).unwrap();
    assert!(more.resolve(&saved).unwrap_err().why.contains("takes no others"));
}

fn desk<'a>(ticket: &'a Ticket, supervisor: Option<&'a str>) -> Desk<'a> {
    Desk { ticket, supervisor }
}

#[test]
fn each_topology_lets_other_workers_message_each_other() {
    let (one, other) = (ticket("one"), ticket("other"));
    let need = Dependency { ticket: other.id.clone(), kind: DependencyKind::Success };
    let needing = Ticket { depends_on: vec![need], ..ticket("needing") };
    let scoped = |name: &str| Ticket { scope: vec!["src/a/**".to_owned()], ..ticket(name) };
    let (left, right) = (scoped("left"), scoped("right"));
    let star = chosen("star", &[]).unwrap();
    let full = chosen("mesh", &[]).unwrap();
    let near = chosen("mesh", &["connection_strategy=nearest"]).unwrap();
    let levels = chosen("hierarchical", &[]).unwrap();
    let may = |topology: &Topology, from: &Ticket, to: &Ticket| {
        topology.may_message(Some(&desk(from, Some("a"))), &desk(to, Some("a")))
    };
    assert!(!may(&star, &one, &other) && may(&full, &one, &other));
    assert!(!may(&near, &one, &other) && may(&near, &needing, &other) && may(&near, &other, &needing));
    assert!(may(&near, &left, &right) && !may(&near, &left, &other));
    assert!(may(&levels, &one, &other));
    assert!(!levels.may_message(Some(&desk(&one, Some("a"))), &desk(&other, Some("b"))));
    assert!(!levels.may_message(Some(&desk(&one, None)), &desk(&other, None)), "nobody owns them yet");
    assert!(full.may_message(None, &desk(&one, None)) && !near.may_message(None, &desk(&one, None)));
    assert!(!star.may_message(None, &desk(&one, None)));
}

#[test]
fn workers_assign_in_a_mesh_alone() {
    let may = |kind| chosen(kind, &[]).unwrap().may_assign(Role::Worker);
    assert_eq!([may("star"), may("mesh"), may("hierarchical"), may("ring")], [false, true, false, false]);
    for kind in Topology::KINDS {
        let topology = chosen(kind, &[]).unwrap();
        assert!([Role::Leader, Role::Coordinator, Role::Supervisor].iter().all(|role| topology.may_assign(*role)));
    }
    let roles = |kind| {
        let topology: Topology = chosen(kind, &[]).unwrap();
        (topology.role_of_coordinator(true), topology.role_of_coordinator(false))
    };
    assert_eq!(roles("star"), (Role::Leader, Role::Coordinator));
    assert_eq!(roles("mesh"), (Role::Coordinator, Role::Coordinator));
}

#[test]
fn tickets_of_one_label_have_one_supervisor_and_the_rest_is_shared_out_evenly() {
    let labelled = |name: &str, label: &str| Ticket { labels: vec![label.to_owned()], ..ticket(name) };
    let tickets = [labelled("a", "ui"), ticket("b"), labelled("c", "ui"), ticket("d"), ticket("e")];
    let tickets: Vec<_> = tickets.iter().collect();
    let supervisors = ["one", "two"].map(str::to_owned);
    let owners = share_out(&tickets, &BTreeMap::new(), &supervisors);
    let owners: Vec<_> = owners.values().map(String::as_str).collect();
    assert_eq!(owners, ["one", "two", "one", "two", "one"]);
}

#[test]
fn a_token_passes_each_agent_once_in_order_and_knows_who_has_begun() {
    let Topology::Ring(ring) = chosen("ring", &["agents=a,b,c", "order=load"]).unwrap() else { panic!("it is a ring") };
    let [a, b, c] = ["a", "b", "c"].map(|name| name.parse().unwrap());
    let token = Token::begin(&ring, &b, 7);
    assert!(!token.has_begun(7, &b) && token.has_begun(8, &b));
    let second = token.passed(8, Some("did it".to_owned()));
    assert_eq!(second.report, Some(Report { agent: "b".parse().unwrap(), text: Some("did it".to_owned()) }));
    let third = second.skipped("it is ill".to_owned());
    assert_eq!(third.report, second.report, "who was passed over left nothing");
    assert!(!third.has_begun(8, &a), "and has not begun");
    assert!(!second.has_begun(9, &b) && second.has_begun(9, &c), "the one before came back");
    let holders: Vec<_> = [&token, &second, &third].map(|token| token.holder().unwrap().to_string()).into();
    assert_eq!(holders, ["b", "c", "a"]);
    assert!(!second.is_over(9, &c) && !third.is_over(8, &a) && third.is_over(9, &a) && !third.is_over(9, &b));
    let over = third.skipped("so is this".to_owned());
    assert!(over.is_over(8, &b) && over.holder().is_none() && over.last() == Some(&b));
    let approved = second.ended(&c);
    assert!(approved.is_over(9, &c) && approved.last() == Some(&c));
    assert_eq!(over.skipped.len(), 2);
}

#[test]
fn a_round_goes_on_elsewhere_with_whose_turn_it_was() {
    let Topology::Ring(ring) = chosen("ring", &["agents=a,b,c"]).unwrap() else { panic!("it is a ring") };
    let [a, b, c]: [AgentName; 3] = ["a", "b", "c"].map(|name| name.parse().unwrap());
    let first = Token::begin(&ring, &a, 1);
    let second = first.passed(2, None);
    let third = second.passed(3, None);
    let goes_on = |token: &Token, agent: &AgentName, now, then, is_finished| {
        let round = Round { token: token.clone(), agent: agent.clone() }.under(now, then, is_finished);
        (round.token.holder().cloned(), round.agent)
    };
    assert_eq!(goes_on(&second, &b, 3, 3, false), (Some(b.clone()), b.clone()), "in the turn of the second");
    assert_eq!(goes_on(&second, &b, 3, 3, true), (Some(b.clone()), b.clone()), "after it");
    assert_eq!(goes_on(&third, &b, 3, 3, true), (Some(c.clone()), b.clone()), "before that of the third");
    assert_eq!(goes_on(&third, &b, 4, 3, true), (Some(c.clone()), c.clone()), "which has begun since");
    assert_eq!(goes_on(&second, &b, 4, 3, true), (Some(c.clone()), c.clone()), "after two steps at once");
    assert_eq!(goes_on(&second, &b, 4, 3, false), (Some(b.clone()), b.clone()), "the second began again");
    assert_eq!(goes_on(&third, &c, 5, 4, true), (None, c.clone()), "the round was over, and the last was brought back");
    assert_eq!(goes_on(&third.passed(4, None), &c, 5, 4, true), (None, c), "the same, with nobody left");
}

proptest! {
    #[test]
    fn every_ticket_has_exactly_one_supervisor_and_keeps_it(
        labels in prop::collection::vec(prop::option::of("[a-c]"), 1..20), count in 1_usize..5, first in 0_usize..20,
    ) {
        let labelled = |(number, label): (usize, &Option<String>)| {
            Ticket { labels: label.iter().cloned().collect(), ..ticket(&format!("t{number}")) }
        };
        let all: Vec<_> = labels.iter().enumerate().map(labelled).collect();
        let supervisors: Vec<_> = (0..count).map(|number| format!("s{number}")).collect();
        let begun: Vec<_> = all.iter().take(first).collect();
        let before = share_out(&begun, &BTreeMap::new(), &supervisors);
        let after = share_out(&all.iter().collect::<Vec<_>>(), &before, &supervisors);
        prop_assert_eq!(after.len(), all.len());
        prop_assert!(after.values().all(|owner| supervisors.contains(owner)));
        prop_assert!(before.iter().all(|(id, owner)| after[id] == *owner));
        let fewer = share_out(&all.iter().collect::<Vec<_>>(), &after, &supervisors[..1]);
        prop_assert!(fewer.values().all(|owner| *owner == supervisors[0]));
    }

    #[test]
    fn who_may_message_may_be_answered_except_across_the_borders_of_the_swarm(
        kind in prop::sample::select(Topology::KINDS.to_vec()), one in "[ab]", other in "[ab]",
    ) {
        let (left, right) = (ticket("left"), ticket("right"));
        let topology = chosen(kind, &[]).unwrap();
        let (left, right) =
            (Desk { ticket: &left, supervisor: Some(&one) }, Desk { ticket: &right, supervisor: Some(&other) });
        prop_assert_eq!(topology.may_message(Some(&left), &right), topology.may_message(Some(&right), &left));
    }
}
