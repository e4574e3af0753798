//! Tickets that go round a ring of `shell` and `other`.

use super::*;
use crate::model::topology::{Ring, Token};

/// Rules by that ring.
fn ring_rules(parameters: &[&str]) -> Rules {
    let parameters: Vec<_> = ["agents=shell,other"].iter().chain(parameters).map(|text| (*text).to_owned()).collect();
    let setting = crate::model::topology::TopologySetting::parse("ring", &parameters).unwrap();
    let topology = setting.resolve(&BTreeMap::new()).unwrap().topology;
    Rules { topology, approves: true, ..rules() }
}

fn ring(rules: &Rules) -> &Ring {
    rules.topology.ring().unwrap()
}

/// A world in which a ticket that is in this state has this token; its worker has ended.
fn with_token(state: S, token: Token) -> World {
    let commit: CommitId = "0123456789012345678901234567890123456789".parse().unwrap();
    let workers = vec![ended("a", Outcome::Finished { commit })];
    World { tokens: BTreeMap::from([(id("a"), token)]), ..world(vec![entry("a", state)], workers) }
}

/// The token of a ticket under fence 1, which its first agent got under this one.
fn token(rules: &Rules, fence: u64) -> Token {
    since(NOW, Token::begin(ring(rules), &"shell".parse().unwrap(), fence))
}

/// A token that its holder has since then.
fn since(at: Time, mut token: Token) -> Token {
    token.since = at;
    token
}

fn pass(why: Option<&str>) -> Vec<Step> {
    vec![Step::Pass { ticket: id("a"), why: why.map(str::to_owned) }]
}

fn hand(agent: &str) -> Vec<Step> {
    vec![Step::Hand { ticket: id("a"), worker: "a".parse().unwrap(), agent: agent.parse().unwrap() }]
}

#[test]
fn finished_work_passes_on_and_lands_after_the_last_one_alone() {
    let rules = ring_rules(&[]);
    let first = token(&rules, 0);
    let decision = decide(&with_token(S::Review, first.clone()), &rules);
    assert_eq!((&decision.steps, decision.is_over()), (&pass(None), false));
    // The token was passed, and nobody has begun since: whoever looks next starts the same one.
    let second = since(NOW, first.passed(1, None));
    assert_eq!(decide(&with_token(S::Review, second.clone()), &rules).steps, hand("other"));
    // It has begun under a later fence, and is the last.
    let mut finished = with_token(S::Review, second);
    finished.tickets[0].fence = 2;
    assert_eq!(decide(&finished, &rules).steps, hand("other"), "a message only brought the one before back");
    finished.workers[0].worker.agent = "other".parse().unwrap();
    let land = vec![Step::Land { workers: vec![(id("a"), "a".parse().unwrap())] }];
    assert_eq!(decide(&finished, &rules).steps, land);
    // A person who approves earlier ends the round.
    assert_eq!(decide(&with_token(S::Approved, first), &rules).steps, land);
}

#[test]
fn a_round_goes_on_whatever_the_topology_is_by_now_and_a_failed_turn_is_tried_by_the_same_agent() {
    let rules = ring_rules(&[]);
    let second = since(NOW, token(&rules, 0).passed(1, None));
    assert_eq!(decide(&with_token(S::Review, second.clone()), &super::rules()).steps, hand("other"));
    let again = decide(&with_token(S::Queued, second), &super::rules()).steps;
    assert_eq!(again, [Step::Start { ticket: id("a"), agent: "other".parse().unwrap() }]);
    let named = with_agent(entry("b", S::Queued), "other");
    let alone = decide(&world(vec![named], Vec::new()), &rules).steps;
    assert_eq!(alone, [Step::Start { ticket: id("b"), agent: "other".parse().unwrap() }]);
}

#[test]
fn who_cannot_begin_is_waited_for_and_then_passed_over_or_told() {
    let at = (S::Review, 1);
    let (kind, until) = (HoldKind::Time, Some(NOW.after(Duration::from_secs(9))));
    let setback = Setback { kind, why: "could not be started: ill".to_owned(), until, at, count: 2 };
    let ill = |rules: &Rules, at| {
        let second = since(at, token(rules, 0).passed(1, None));
        World { setbacks: BTreeMap::from([(id("a"), setback.clone())]), ..with_token(S::Review, second) }
    };
    let rules = ring_rules(&["token_timeout_ms=2000"]);
    let waits = decide(&ill(&rules, ago(1)), &rules);
    assert_eq!((&waits.steps[..], waits.is_over()), (&[][..], false));
    assert_eq!(hold(&waits, "a").why, "waits for `other` to take its token: could not be started: ill");
    assert_eq!(waits.wake_at, Some(ago(-1)), "it is looked at again when the time is over");
    assert_eq!(decide(&ill(&rules, ago(2)), &rules).steps, pass(Some("could not be started: ill")));
    let strict = ring_rules(&["token_timeout_ms=2000", "skip_unhealthy=false"]);
    let told = decide(&ill(&strict, ago(2)), &strict);
    assert_eq!((&told.steps[..], hold(&told, "a").kind), (&[][..], HoldKind::Person));
    assert!(hold(&told, "a").why.contains("to mend `other`, which has not taken its token within 2000 ms"));
    // Neither a first failure nor the want of a place is an illness.
    let mut once = ill(&rules, ago(2));
    once.setbacks.get_mut(&id("a")).unwrap().count = 1;
    assert_eq!(decide(&once, &rules).steps, [], "it is tried again");
    once.setbacks.insert(id("a"), Setback { kind: HoldKind::Place, count: 9, ..setback.clone() });
    assert_eq!(decide(&once, &rules).steps, [], "it waits");
    once.setbacks.get_mut(&id("a")).unwrap().until = Some(ago(0));
    assert_eq!(decide(&once, &rules).steps, hand("other"));
    // One that does not exist is not waited for.
    let mut gone = with_token(S::Review, since(NOW, token(&rules, 0).passed(1, None)));
    gone.agents.clear();
    assert_eq!(decide(&gone, &rules).steps, pass(Some("there is no agent `other`")));
    // Who waits for a place is not ill.
    let full = Rules { max_workers: 0, ..rules.clone() };
    let second = since(ago(100), token(&rules, 0).passed(1, None));
    let held = decide(&with_token(S::Review, second), &full);
    assert_eq!(hold(&held, "a").why, "waits for a place: 0 of 0 workers run");
}

#[test]
fn a_ring_by_load_begins_with_whoever_has_the_fewest_workers() {
    let rules = Rules { max_workers: 9, ..ring_rules(&["order=load"]) };
    let tickets = ["a", "b", "c"].map(|name| entry(name, S::Queued)).to_vec();
    let steps = decide(&world(tickets, Vec::new()), &rules).steps;
    let agents = steps.iter().map(|step| match step {
        Step::Start { agent, .. } => agent.as_str(),
        other => panic!("{other:?}"),
    });
    assert_eq!(agents.collect::<Vec<_>>(), ["shell", "other", "shell"]);
}

#[test]
fn what_needs_a_ticket_of_a_ring_to_have_ended_waits_for_the_whole_round() {
    let rules = ring_rules(&[]);
    let need = Dependency { ticket: id("a"), kind: DependencyKind::Completion };
    let mut world = with_token(S::Review, token(&rules, 0));
    let dependent = entry("b", S::Queued);
    world.tickets.push(QueueTicket { ticket: Ticket { depends_on: vec![need], ..dependent.ticket }, ..dependent });
    world.chosen = None;
    let decision = decide(&world, &rules);
    assert_eq!(decision.steps, pass(None));
    assert_eq!(hold(&decision, "b").why, "waits for `a`, which goes round a ring");
}

#[test]
fn a_turn_that_has_begun_is_not_passed_over_and_a_ring_that_nobody_could_begin_is_told() {
    let rules = ring_rules(&[]);
    let first = since(ago(100), token(&rules, 0));
    let mut again = with_token(S::Queued, first.clone());
    let (kind, why, at) = (HoldKind::Time, "could not be started: ill".to_owned(), (S::Queued, 1));
    let setback = Setback { kind, why, until: Some(NOW.after(Duration::from_secs(9))), at, count: 5 };
    again.setbacks.insert(id("a"), setback);
    assert_eq!(decide(&again, &rules).steps, [], "the agent that has begun is tried again, and nobody in its place");
    let nobody = first.skipped("is missing".to_owned()).skipped("is missing too".to_owned());
    let told = decide(&with_token(S::Queued, nobody), &rules);
    assert_eq!((&told.steps[..], hold(&told, "a").kind), (&[][..], HoldKind::Person));
    assert!(hold(&told, "a").why.contains("(`shell` is missing; `other` is missing too)"), "{}", hold(&told, "a").why);
    // What comes back after the round goes to the one that had its turn last.
    let over = token(&rules, 0).passed(1, None).skipped("is missing".to_owned());
    let start = vec![Step::Start { ticket: id("a"), agent: "shell".parse().unwrap() }];
    assert_eq!(decide(&with_token(S::Queued, over), &super::rules()).steps, start);
}
