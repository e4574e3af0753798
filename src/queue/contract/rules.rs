//! Rules that one handle can show.

use std::time::Duration;

use super::{Engine, LONG, claim, claim_only, id, needs, publish, publish_as, reopen, request, state, ticket};
use crate::model::Time;
use crate::model::budget::Budget;
use crate::model::ticket::{DependencyKind as K, StartFrom, Ticket, TicketState as S};
use crate::queue::{
    ClaimRequest, Completion, Lead, LeadRequest, Leader, NewTicket, Published, Queue, QueueError, QueueTicket, Renewed,
    Reopen, Settlement,
};

/// Takes a queued ticket to `review`; its fence.
fn to_review(queue: &dyn Queue, name: &str) -> u64 {
    let fence = claim_only(queue, name).fence;
    assert_eq!(queue.complete(&id(name), fence, Completion::Review).unwrap(), S::Review);
    fence
}

/// Takes a queued ticket to `landed`; its fence.
fn to_landed(queue: &dyn Queue, name: &str) -> u64 {
    let fence = to_review(queue, name);
    for settlement in [Settlement::Approve, Settlement::BeginLanding, Settlement::Landed] {
        queue.settle(&id(name), fence, settlement).unwrap();
    }
    fence
}

/// Runs `operation` and checks that it is refused as `refusal` says and changes nothing.
#[track_caller]
fn refused<T: std::fmt::Debug>(
    queue: &dyn Queue,
    operation: impl FnOnce() -> Result<T, QueueError>,
    refusal: impl FnOnce(&QueueError) -> bool,
) {
    let everything = |queue: &dyn Queue| (queue.snapshot().unwrap(), queue.events_since(0, usize::MAX).unwrap().len());
    let before = everything(queue);
    let error = operation().unwrap_err();
    assert!(refusal(&error), "{error:?}");
    assert_eq!(everything(queue), before);
}

/// The names of all tickets in the order they are claimed.
fn claim_order(queue: &dyn Queue) -> Vec<String> {
    let claims = queue.claim(&ClaimRequest { limit: 100, ..request() }).unwrap();
    claims.into_iter().map(|claim| claim.ticket.id.into()).collect()
}

/// The entry of a ticket.
fn entry(queue: &dyn Queue, name: &str) -> QueueTicket {
    queue.ticket(&id(name)).unwrap().unwrap()
}

pub(crate) fn a_published_ticket_is_claimed_completed_and_landed<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    assert_eq!(publish(&*queue, ticket("a")).unwrap(), S::Queued);
    let before = Time::now();
    let held = claim(&*queue).unwrap();
    assert_eq!((held.ticket.id.as_str(), held.attempt), ("a", 1));
    assert!(held.fence > 0 && held.lease_until.after(Duration::from_secs(1)) > before.after(LONG));
    assert!(claim(&*queue).is_none(), "it is held");
    assert_eq!(entry(&*queue, "a").node.as_deref(), Some("n1"));
    assert_eq!(queue.complete(&id("a"), held.fence, Completion::Review).unwrap(), S::Review);
    assert_eq!(queue.settle(&id("a"), held.fence, Settlement::Approve).unwrap(), S::Approved);
    assert_eq!(queue.settle(&id("a"), held.fence, Settlement::BeginLanding).unwrap(), S::Landing);
    assert_eq!(queue.settle(&id("a"), held.fence, Settlement::Landed).unwrap(), S::Landed);
    assert_eq!(queue.states().unwrap(), [(id("a"), S::Landed)]);
    assert_eq!(entry(&*queue, "a").lease_until, None);
}

pub(crate) fn a_key_publishes_once<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    let new = |name: &str, key: &str| NewTicket { ticket: ticket(name), dedupe_key: key.to_owned() };
    let first = queue.publish(&new("a", "k")).unwrap();
    assert_eq!(first, Published { ticket: id("a"), state: S::Queued, fresh: true });
    claim(&*queue).unwrap();
    let second = queue.publish(&new("a", "k")).unwrap();
    assert_eq!(second, Published { ticket: id("a"), state: S::Running, fresh: false });
    let other = queue.publish(&new("b", "k")).unwrap();
    assert_eq!(other, Published { ticket: id("a"), state: S::Running, fresh: false });
    assert!(queue.ticket(&id("b")).unwrap().is_none());
    // A key stays known when later ones follow it.
    queue.fail(&id("a"), 1, "no", None).unwrap();
    assert!(queue.publish(&new("a", "k2")).unwrap().fresh);
    assert!(!queue.publish(&new("a", "k")).unwrap().fresh);
}

pub(crate) fn an_unknown_ticket_is_not_found<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish(&*queue, ticket("known")).unwrap();
    let not_found = |error: &QueueError| matches!(error, QueueError::NotFound(name) if *name == id("a"));
    refused(&*queue, || queue.renew(&id("a"), 1, LONG), not_found);
    refused(&*queue, || queue.complete(&id("a"), 1, Completion::Done), not_found);
    refused(&*queue, || queue.fail(&id("a"), 1, "x", None), not_found);
    refused(&*queue, || queue.release(&id("a"), 1), not_found);
    refused(&*queue, || queue.reopen(&reopen("a", 0)), not_found);
    refused(&*queue, || queue.settle(&id("a"), 0, Settlement::Approve), not_found);
    refused(&*queue, || queue.requeue(&id("a")), not_found);
    refused(&*queue, || queue.cancel(&id("a")), not_found);
    assert!(queue.ticket(&id("a")).unwrap().is_none());
    assert!(queue.ticket(&id("KNOWN")).unwrap().is_none(), "ids are exact");
    let named = ClaimRequest { only: Some(vec![id("a")]), ..request() };
    assert!(queue.claim(&named).unwrap().is_empty());
}

pub(crate) fn a_withdrawn_publication_leaves_the_ticket_open<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish_as(&*queue, ticket("a"), "k1").unwrap();
    publish_as(&*queue, Ticket { depends_on: vec![needs("a", K::Completion)], ..ticket("b") }, "kb").unwrap();
    let held = claim_only(&*queue, "a");
    assert_eq!(queue.withdraw(&id("a"), held.fence, "k1").unwrap(), S::Open);
    assert_eq!(queue.withdraw(&id("a"), held.fence, "k1").unwrap(), S::Open, "twice is once");
    assert!(claim(&*queue).is_none(), "nobody gets it");
    assert_eq!(entry(&*queue, "a").attempts, 0);
    assert_eq!(publish_as(&*queue, ticket("a"), "k2").unwrap(), S::Queued, "it can be published again");
    let held = claim_only(&*queue, "a");
    assert_eq!(queue.withdraw(&id("a"), held.fence, "k1").unwrap(), S::Queued, "somebody else had queued it");
    let held = claim_only(&*queue, "a");
    queue.complete(&id("a"), held.fence, Completion::Done).unwrap();
    let illegal = |error: &QueueError| matches!(error, QueueError::Illegal { .. });
    refused(&*queue, || queue.withdraw(&id("a"), held.fence, "k2"), illegal);
}

pub(crate) fn higher_priority_comes_first_and_age_decides_among_equals<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    for (name, priority) in [("z-first", 5), ("low", 1), ("high", 9), ("a-second", 5), ("top", 10)] {
        publish(&*queue, Ticket { priority, ..ticket(name) }).unwrap();
    }
    assert_eq!(claim_order(&*queue), ["top", "high", "z-first", "a-second", "low"]);
}

pub(crate) fn an_edit_keeps_the_place_and_a_new_round_goes_to_the_end<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    for name in ["a", "b", "c"] {
        publish(&*queue, ticket(name)).unwrap();
    }
    let edited = Ticket { title: "New".to_owned(), ..ticket("a") };
    assert_eq!(publish_as(&*queue, edited, "again").unwrap(), S::Queued);
    assert_eq!(entry(&*queue, "a").ticket.title, "New");
    let fence = claim_only(&*queue, "b").fence;
    queue.complete(&id("b"), fence, Completion::Done).unwrap();
    publish_as(&*queue, ticket("b"), "round two").unwrap();
    assert_eq!(claim_order(&*queue), ["a", "c", "b"]);
}

pub(crate) fn a_held_ticket_takes_no_new_content<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish(&*queue, ticket("a")).unwrap();
    let fence = claim(&*queue).unwrap().fence;
    let illegal = |error: &QueueError| matches!(error, QueueError::Illegal { .. });
    let try_it = || publish_as(&*queue, Ticket { title: "New".to_owned(), ..ticket("a") }, "again");
    refused(&*queue, try_it, illegal);
    queue.complete(&id("a"), fence, Completion::Review).unwrap();
    refused(&*queue, try_it, illegal);
    queue.settle(&id("a"), fence, Settlement::Approve).unwrap();
    refused(&*queue, try_it, illegal);
    queue.settle(&id("a"), fence, Settlement::BeginLanding).unwrap();
    refused(&*queue, try_it, illegal);
    queue.settle(&id("a"), fence, Settlement::Landed).unwrap();
    assert_eq!(try_it().unwrap(), S::Queued);
}

pub(crate) fn ids_that_differ_in_case_only_are_refused<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish(&*queue, Ticket { depends_on: vec![needs("Later", K::Success)], ..ticket("Fix") }).unwrap();
    let clash = |error: &QueueError| matches!(error, QueueError::CaseClash { .. });
    refused(&*queue, || publish(&*queue, ticket("fix")), clash);
    refused(&*queue, || publish(&*queue, ticket("LATER")), clash);
    let on_other_case = Ticket { depends_on: vec![needs("FIX", K::Success)], ..ticket("b") };
    refused(&*queue, || publish(&*queue, on_other_case), clash);
    assert_eq!(publish(&*queue, ticket("Later")).unwrap(), S::Queued);
}

pub(crate) fn only_covered_capabilities_are_handed_out<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    let able = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    publish(&*queue, Ticket { capabilities: able(&["gpu", "rust"]), priority: 9, ..ticket("both") }).unwrap();
    publish(&*queue, Ticket { capabilities: able(&["rust"]), ..ticket("one") }).unwrap();
    publish(&*queue, ticket("none")).unwrap();
    let take = |names: &[&str]| {
        let claims = queue.claim(&ClaimRequest { capabilities: able(names), ..request() }).unwrap();
        claims.into_iter().next().map(|claim| String::from(claim.ticket.id))
    };
    assert_eq!(take(&["rust", "python"]).as_deref(), Some("one"));
    assert_eq!(take(&["gpu"]).as_deref(), Some("none"));
    assert_eq!(take(&["gpu"]), None);
    let named = ClaimRequest { only: Some(vec![id("both")]), ..request() };
    assert!(queue.claim(&named).unwrap().is_empty(), "naming a ticket does not give capabilities");
    assert_eq!(take(&["rust", "gpu"]).as_deref(), Some("both"));
}

pub(crate) fn a_claim_can_be_limited_to_named_tickets<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    for (name, priority) in [("a", 9), ("b", 1), ("c", 5), ("d", 5)] {
        publish(&*queue, Ticket { priority, ..ticket(name) }).unwrap();
    }
    let only = Some(vec![id("b"), id("d"), id("c"), id("nobody"), id("c")]);
    let claims = queue.claim(&ClaimRequest { limit: 2, only: only.clone(), ..request() }).unwrap();
    let names: Vec<&str> = claims.iter().map(|claim| claim.ticket.id.as_str()).collect();
    assert_eq!(names, ["c", "d"]);
    assert!(queue.claim(&ClaimRequest { limit: 0, only, ..request() }).unwrap().is_empty());
    assert!(queue.claim(&ClaimRequest { only: Some(Vec::new()), ..request() }).unwrap().is_empty());
    assert_eq!(state(&*queue, "a"), S::Queued);
}

pub(crate) fn a_claim_that_is_made_again_under_its_name_is_the_same_lease<E: Engine>() {
    let engine = E::fresh();
    let (queue, other) = (engine.handle(), engine.handle());
    for name in ["a", "b", "c"] {
        publish(&*queue, ticket(name)).unwrap();
    }
    let named = |node: &str, id: &str| {
        let request_id = Some(id.to_owned());
        ClaimRequest { node: node.to_owned(), request_id, lease: Duration::from_secs(60), ..request() }
    };
    let first = queue.claim(&named("n1", "r1")).unwrap().pop().unwrap();
    let longer = ClaimRequest { lease: LONG, ..named("n1", "r1") };
    let again = other.claim(&longer).unwrap().pop().unwrap();
    assert_eq!((&again.ticket, again.attempt, again.fence), (&first.ticket, 1, first.fence));
    assert!(again.lease_until > first.lease_until, "it lasts as long from now");
    assert_eq!(entry(&*queue, first.ticket.id.as_str()).node.as_deref(), Some("n1"), "the name is nobody's business");
    let others = [named("n1", "r2"), named("n2", "r1")].map(|request| queue.claim(&request).unwrap().pop().unwrap());
    let mut held = vec![&first.ticket.id, &others[0].ticket.id, &others[1].ticket.id];
    held.sort_unstable();
    held.dedup();
    assert_eq!(held.len(), 3, "another request, and one of somebody else");
    assert!(queue.claim(&named("n3", "r1")).unwrap().is_empty());
    assert_eq!(queue.claim(&named("n2", "r1")).unwrap()[0].fence, others[1].fence, "also where nothing else is there");
    let events = queue.events_since(0, 99).unwrap();
    assert_eq!(events.iter().filter(|(_, event)| event.to == S::Running).count(), 3);
    assert!(events.iter().all(|(_, event)| !event.by.contains('\n')), "{events:?}");
    queue.complete(&first.ticket.id, first.fence, Completion::Done).unwrap();
    assert!(queue.claim(&named("n1", "r1")).unwrap().is_empty(), "what is over is not granted again");
}

pub(crate) fn a_success_dependency_waits_for_the_landing<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish(&*queue, ticket("a")).unwrap();
    publish(&*queue, ticket("b")).unwrap();
    let both = vec![needs("a", K::Success), needs("b", K::Success)];
    assert_eq!(publish(&*queue, Ticket { depends_on: both.clone(), ..ticket("c") }).unwrap(), S::Blocked);
    assert_eq!(entry(&*queue, "c").waits_for, both);
    let done = claim_only(&*queue, "b");
    queue.complete(&id("b"), done.fence, Completion::Done).unwrap();
    let fence = to_review(&*queue, "a");
    queue.settle(&id("a"), fence, Settlement::Approve).unwrap();
    queue.settle(&id("a"), fence, Settlement::BeginLanding).unwrap();
    assert_eq!(state(&*queue, "c"), S::Blocked);
    assert_eq!(entry(&*queue, "c").waits_for, [needs("a", K::Success)]);
    assert!(claim(&*queue).is_none());
    queue.settle(&id("a"), fence, Settlement::Landed).unwrap();
    assert_eq!(state(&*queue, "c"), S::Queued);
    assert_eq!(claim(&*queue).unwrap().ticket.id, id("c"));
}

pub(crate) fn a_completion_dependency_waits_for_review<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish(&*queue, ticket("a")).unwrap();
    let blocked = Ticket { depends_on: vec![needs("a", K::Completion)], ..ticket("b") };
    assert_eq!(publish(&*queue, blocked).unwrap(), S::Blocked);
    let held = claim_only(&*queue, "a");
    queue.fail(&id("a"), held.fence, "no", None).unwrap();
    assert_eq!(state(&*queue, "b"), S::Blocked, "a failure satisfies nothing");
    queue.requeue(&id("a")).unwrap();
    to_review(&*queue, "a");
    assert_eq!(state(&*queue, "b"), S::Queued);
    let late = Ticket { depends_on: vec![needs("a", K::Completion)], ..ticket("c") };
    assert_eq!(publish(&*queue, late).unwrap(), S::Queued, "satisfied when it is published");
}

pub(crate) fn a_data_dependency_waits_like_a_completion<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish(&*queue, ticket("a")).unwrap();
    publish(&*queue, ticket("done")).unwrap();
    let wanted = vec![needs("a", K::Data), needs("done", K::Data)];
    let dependent = Ticket { depends_on: wanted.clone(), ..ticket("b") };
    assert_eq!(publish(&*queue, dependent.clone()).unwrap(), S::Blocked);
    assert_eq!(entry(&*queue, "b").waits_for, wanted, "the kind is kept");
    let held = claim_only(&*queue, "done");
    queue.complete(&id("done"), held.fence, Completion::Done).unwrap();
    assert_eq!(entry(&*queue, "b").waits_for, [needs("a", K::Data)]);
    to_review(&*queue, "a");
    assert_eq!(state(&*queue, "b"), S::Queued);
    assert_eq!(claim(&*queue).unwrap().ticket, dependent);
}

/// A ticket that may start from its dependencies' branches.
fn stacked(name: &str, on: &[&str]) -> Ticket {
    let depends_on = on.iter().map(|need| needs(need, K::Success)).collect();
    Ticket { depends_on, start_from: Some(StartFrom::Dependency), ..ticket(name) }
}

pub(crate) fn a_ticket_that_starts_from_its_dependency_waits_for_review_of_the_last<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    for name in ["a", "b"] {
        publish(&*queue, ticket(name)).unwrap();
    }
    publish(&*queue, Ticket { depends_on: vec![needs("a", K::Success)], ..ticket("plain") }).unwrap();
    assert_eq!(publish(&*queue, stacked("on-a", &["a"])).unwrap(), S::Blocked);
    assert_eq!(publish(&*queue, stacked("on-both", &["a", "b"])).unwrap(), S::Blocked);
    let fence = to_review(&*queue, "a");
    assert_eq!((state(&*queue, "on-a"), state(&*queue, "plain")), (S::Queued, S::Blocked));
    assert_eq!(publish(&*queue, stacked("late", &["a"])).unwrap(), S::Queued);
    to_review(&*queue, "b");
    let both = [needs("a", K::Success), needs("b", K::Success)];
    assert_eq!(entry(&*queue, "on-both").waits_for, both, "a branch begins in one place");
    for settlement in [Settlement::Approve, Settlement::BeginLanding, Settlement::Landed] {
        queue.settle(&id("a"), fence, settlement).unwrap();
    }
    assert_eq!(state(&*queue, "on-both"), S::Queued, "one is left, and its work is in review");
    assert_eq!(state(&*queue, "on-a"), S::Queued);
}

pub(crate) fn one_that_starts_from_its_dependency_waits_again_when_that_is_reopened_or_cancelled<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish(&*queue, ticket("a")).unwrap();
    for name in ["waiting", "running"] {
        publish(&*queue, stacked(name, &["a"])).unwrap();
    }
    let fence = to_review(&*queue, "a");
    claim_only(&*queue, "running");
    let again = queue.reopen(&reopen("a", fence)).unwrap();
    assert_eq!((state(&*queue, "waiting"), state(&*queue, "running")), (S::Blocked, S::Running));
    queue.complete(&id("a"), again.fence, Completion::Review).unwrap();
    assert_eq!(state(&*queue, "waiting"), S::Queued);
    queue.cancel(&id("a")).unwrap();
    assert_eq!((state(&*queue, "waiting"), state(&*queue, "running")), (S::Blocked, S::Running));
}

pub(crate) fn an_unknown_dependency_blocks_until_it_ends_well<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    let waiting = Ticket { depends_on: vec![needs("later", K::Success)], ..ticket("a") };
    assert_eq!(publish(&*queue, waiting).unwrap(), S::Blocked);
    publish(&*queue, ticket("later")).unwrap();
    assert_eq!(state(&*queue, "a"), S::Blocked);
    to_landed(&*queue, "later");
    assert_eq!(state(&*queue, "a"), S::Queued);
}

pub(crate) fn a_reopened_dependency_blocks_again<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish(&*queue, ticket("a")).unwrap();
    publish(&*queue, Ticket { depends_on: vec![needs("a", K::Completion)], ..ticket("b") }).unwrap();
    let fence = to_review(&*queue, "a");
    assert_eq!(state(&*queue, "b"), S::Queued);
    let again = queue.reopen(&reopen("a", fence)).unwrap();
    assert_eq!(state(&*queue, "b"), S::Blocked);
    queue.complete(&id("a"), again.fence, Completion::Review).unwrap();
    let held = claim_only(&*queue, "b");
    queue.reopen(&reopen("a", again.fence)).unwrap();
    assert_eq!(state(&*queue, "b"), S::Running, "what runs is left alone");
    assert_eq!(queue.release(&id("b"), held.fence).unwrap(), S::Blocked);
}

pub(crate) fn a_cycle_is_refused_and_named<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    let on = |name: &str, need: &str| Ticket { depends_on: vec![needs(need, K::Success)], ..ticket(name) };
    publish(&*queue, on("a", "b")).unwrap();
    publish(&*queue, on("b", "c")).unwrap();
    publish(&*queue, on("x", "b")).unwrap();
    let cycle = |error: &QueueError| matches!(error, QueueError::Cycle(ids) if *ids == [id("c"), id("a"), id("b")]);
    refused(&*queue, || publish(&*queue, on("c", "a")), cycle);
    let own = |error: &QueueError| matches!(error, QueueError::Cycle(ids) if *ids == [id("d")]);
    refused(&*queue, || publish(&*queue, on("d", "d")), own);
    // An edit may close a cycle as well as a new ticket.
    publish(&*queue, ticket("c")).unwrap();
    refused(&*queue, || publish_as(&*queue, on("c", "a"), "edit"), cycle);
    let error = publish_as(&*queue, on("c", "a"), "edit").unwrap_err();
    assert_eq!(error.to_string(), "the dependencies form a cycle: c -> a -> b -> c");
}

pub(crate) fn a_dependency_on_ended_work_closes_no_cycle<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish(&*queue, ticket("b")).unwrap();
    publish(&*queue, Ticket { depends_on: vec![needs("b", K::Success)], ..ticket("a") }).unwrap();
    to_landed(&*queue, "b");
    to_landed(&*queue, "a");
    let follow_up = Ticket { depends_on: vec![needs("a", K::Success)], ..ticket("b") };
    assert_eq!(publish_as(&*queue, follow_up, "round two").unwrap(), S::Queued);
}

pub(crate) fn an_old_fence_changes_nothing<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish(&*queue, ticket("a")).unwrap();
    let old = claim(&*queue).unwrap().fence;
    queue.release(&id("a"), old).unwrap();
    let new = claim(&*queue).unwrap().fence;
    assert!(new > old);
    let stale = |error: &QueueError| matches!(error, QueueError::Stale { expected, found, .. } if (*expected, *found) == (old, new));
    refused(&*queue, || queue.complete(&id("a"), old, Completion::Review), stale);
    refused(&*queue, || queue.fail(&id("a"), old, "x", None), stale);
    refused(&*queue, || queue.release(&id("a"), old), stale);
    assert_eq!(queue.renew(&id("a"), old, LONG).unwrap(), Renewed::Lost);
    queue.complete(&id("a"), new, Completion::Review).unwrap();
    refused(&*queue, || queue.complete(&id("a"), old, Completion::Review), stale);
    refused(&*queue, || queue.settle(&id("a"), old, Settlement::Approve), stale);
    refused(&*queue, || queue.reopen(&reopen("a", old)), stale);
    let from_the_future = |error: &QueueError| matches!(error, QueueError::Stale { .. });
    refused(&*queue, || queue.settle(&id("a"), new + 1, Settlement::Approve), from_the_future);
}

pub(crate) fn ending_an_attempt_twice_is_ending_it_once<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish(&*queue, ticket("a")).unwrap();
    let fence = claim(&*queue).unwrap().fence;
    queue.fail(&id("a"), fence, "no", None).unwrap();
    let events = queue.events_since(0, usize::MAX).unwrap();
    assert_eq!(queue.fail(&id("a"), fence, "still no", None).unwrap(), S::Failed);
    assert_eq!(entry(&*queue, "a").error.as_deref(), Some("no"));
    assert_eq!(queue.events_since(0, usize::MAX).unwrap(), events);
    queue.requeue(&id("a")).unwrap();

    let fence = claim(&*queue).unwrap().fence;
    queue.release(&id("a"), fence).unwrap();
    assert_eq!(queue.release(&id("a"), fence).unwrap(), S::Queued);

    let fence = to_review(&*queue, "a");
    let events = queue.events_since(0, usize::MAX).unwrap();
    assert_eq!(queue.complete(&id("a"), fence, Completion::Review).unwrap(), S::Review);
    assert_eq!(queue.complete(&id("a"), fence, Completion::Done).unwrap(), S::Review, "the first word counts");
    assert_eq!(queue.events_since(0, usize::MAX).unwrap(), events);
    queue.settle(&id("a"), fence, Settlement::Approve).unwrap();
    assert_eq!(queue.complete(&id("a"), fence, Completion::Review).unwrap(), S::Approved);
}

pub(crate) fn an_overdue_lease_is_held_as_lost<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish(&*queue, ticket("a")).unwrap();
    publish(&*queue, ticket("b")).unwrap();
    let short = ClaimRequest { lease: Duration::from_secs(60), only: Some(vec![id("a")]), ..request() };
    let held = queue.claim(&short).unwrap().pop().unwrap();
    claim_only(&*queue, "b");
    // Its end is by the clock that counts, which may be a server's.
    let last = Time::from_millis(held.lease_until.as_millis() - queue.ahead().unwrap());
    assert_eq!(queue.expire(last).unwrap(), [], "a lease holds through its last moment");
    let later = last.after(Duration::from_millis(1));
    assert_eq!(queue.expire(later).unwrap(), [id("a")]);
    assert_eq!(queue.expire(later).unwrap(), []);
    assert_eq!(state(&*queue, "a"), S::Lost);
    assert_eq!(state(&*queue, "b"), S::Running);
    assert!(claim(&*queue).is_none(), "a lost ticket is not handed on");
    assert_eq!(queue.renew(&id("a"), held.fence, LONG).unwrap(), Renewed::Lost);
    let illegal = |error: &QueueError| matches!(error, QueueError::Illegal { .. });
    refused(&*queue, || queue.complete(&id("a"), held.fence, Completion::Review), illegal);
    assert_eq!(queue.fail(&id("a"), held.fence, "gone", None).unwrap(), S::Failed);
}

pub(crate) fn a_renewal_keeps_the_lease<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish(&*queue, ticket("a")).unwrap();
    let held = queue.claim(&ClaimRequest { lease: Duration::ZERO, ..request() }).unwrap().pop().unwrap();
    let events = queue.events_since(0, usize::MAX).unwrap().len();
    let renewed = queue.renew(&id("a"), held.fence, LONG).unwrap();
    let Renewed::Held { lease_until } = renewed else { panic!("an overdue lease that nobody took is renewed") };
    assert!(lease_until > held.lease_until);
    assert_eq!(entry(&*queue, "a").lease_until, Some(lease_until));
    assert_eq!(queue.expire(Time::now().after(Duration::from_secs(60))).unwrap(), []);
    assert_eq!(queue.events_since(0, usize::MAX).unwrap().len(), events, "a renewal is no event");
}

pub(crate) fn a_lost_ticket_is_taken_back_by_one<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish(&*queue, ticket("a")).unwrap();
    let held = queue.claim(&ClaimRequest { lease: Duration::ZERO, ..request() }).unwrap().pop().unwrap();
    queue.expire(Time::now().after(LONG)).unwrap();
    let back = queue.reopen(&reopen("a", held.fence)).unwrap();
    assert_eq!(back.attempt, 1, "resume uses up no attempt");
    assert!(back.fence > held.fence);
    let stale = |error: &QueueError| matches!(error, QueueError::Stale { .. });
    refused(&*queue, || queue.reopen(&reopen("a", held.fence)), stale);
    assert_eq!(queue.complete(&id("a"), back.fence, Completion::Review).unwrap(), S::Review);
}

pub(crate) fn a_ticket_is_reopened_only_from_the_states_that_are_named<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    let illegal = |error: &QueueError| matches!(error, QueueError::Illegal { .. });
    let back = |fence| queue.reopen(&Reopen { from: Some(&[S::Lost]), ..reopen("a", fence) });
    publish(&*queue, Ticket { max_attempts: 2, ..ticket("a") }).unwrap();
    refused(&*queue, || back(0), illegal);
    let first = claim(&*queue).unwrap().fence;
    refused(&*queue, || back(first), illegal);
    queue.declare_lost(&id("a"), first).unwrap();
    let fence = back(first).unwrap().fence;
    refused(&*queue, || back(first), |error| matches!(error, QueueError::Stale { .. }));
    queue.complete(&id("a"), fence, Completion::Review).unwrap();
    refused(&*queue, || back(fence), illegal);
    for settlement in [Settlement::Approve, Settlement::BeginLanding] {
        queue.settle(&id("a"), fence, settlement).unwrap();
        refused(&*queue, || back(fence), illegal);
    }
    let mut fence = queue.reopen(&reopen("a", fence)).unwrap().fence;
    for (counts_attempt, ended) in [(true, S::Failed), (false, S::Dead)] {
        assert_eq!(queue.fail(&id("a"), fence, "no", None).unwrap(), ended);
        refused(&*queue, || back(fence), illegal);
        fence = queue.reopen(&Reopen { counts_attempt, ..reopen("a", fence) }).unwrap().fence;
    }
    queue.complete(&id("a"), fence, Completion::Done).unwrap();
    refused(&*queue, || back(fence), illegal);
    fence = queue.reopen(&Reopen { from: Some(&[S::Lost, S::Done]), ..reopen("a", fence) }).unwrap().fence;
    queue.cancel(&id("a")).unwrap();
    refused(&*queue, || back(fence), illegal);
}

pub(crate) fn a_failed_attempt_may_be_tried_again_until_none_is_left<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish(&*queue, ticket("a")).unwrap();
    let first = claim(&*queue).unwrap();
    assert_eq!(queue.fail(&id("a"), first.fence, "exit 1", None).unwrap(), S::Failed);
    assert_eq!(entry(&*queue, "a").error.as_deref(), Some("exit 1"));
    assert!(claim(&*queue).is_none(), "without a time it waits for a person");
    assert_eq!(queue.requeue(&id("a")).unwrap(), S::Queued);
    let second = claim(&*queue).unwrap();
    assert_eq!(second.attempt, 2);
    let soon = Some(Time::from_millis(0));
    assert_eq!(queue.fail(&id("a"), second.fence, "exit 2", soon).unwrap(), S::Dead);
    assert!(claim(&*queue).is_none(), "dead stays dead whatever the time");
}

pub(crate) fn a_retry_waits_for_its_time<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish(&*queue, Ticket { max_attempts: 9, ..ticket("a") }).unwrap();
    let fail = |retry_at: Time| {
        let fence = claim(&*queue).unwrap().fence;
        queue.fail(&id("a"), fence, "busy", Some(retry_at)).unwrap();
    };
    let now = Time::now();
    fail(now.after(LONG));
    let retry_at = entry(&*queue, "a").retry_at.unwrap();
    // The clock that counts may be a server's.
    assert!(retry_at.as_millis().abs_diff(now.after(LONG).as_millis()) < 1_000, "{retry_at}");
    assert!(claim(&*queue).is_none());
    assert_eq!(queue.requeue(&id("a")).unwrap(), S::Queued, "a person need not wait");
    fail(Time::from_millis(0));
    let held = claim(&*queue).unwrap();
    assert_eq!(held.attempt, 3);
    queue.fail(&id("a"), held.fence, "busy", Some(now.after(LONG))).unwrap();
    assert_eq!(queue.expire(now.after(2 * LONG)).unwrap(), [], "nothing is lost");
    assert_eq!(state(&*queue, "a"), S::Queued, "a sweep queues what is due");
    // Whoever did not hear the answer says it again.
    assert_eq!(queue.fail(&id("a"), held.fence, "busy", Some(now)).unwrap(), S::Queued);
    assert!(matches!(queue.fail(&id("a"), held.fence, "another", None), Err(QueueError::Illegal { .. })));
    assert_eq!(entry(&*queue, "a").retry_at, None);
}

pub(crate) fn a_released_claim_counts_no_attempt<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish(&*queue, Ticket { max_attempts: 1, ..ticket("a") }).unwrap();
    publish(&*queue, ticket("b")).unwrap();
    let held = claim(&*queue).unwrap();
    assert_eq!(queue.release(&id("a"), held.fence).unwrap(), S::Queued);
    let again = claim(&*queue).unwrap();
    assert_eq!((again.ticket.id.as_str(), again.attempt), ("a", 1), "it kept its place");
    queue.fail(&id("a"), again.fence, "no", None).unwrap();
    // A lease that counted no attempt gives none back.
    let free = queue.reopen(&reopen("a", again.fence)).unwrap();
    queue.release(&id("a"), free.fence).unwrap();
    assert_eq!(claim(&*queue).unwrap().attempt, 2);
}

pub(crate) fn a_dead_ticket_queued_by_hand_gets_its_attempts_anew<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish(&*queue, ticket("a")).unwrap();
    for expected in [S::Failed, S::Dead, S::Failed, S::Dead] {
        let fence = claim(&*queue).unwrap().fence;
        assert_eq!(queue.fail(&id("a"), fence, "no", None).unwrap(), expected);
        assert_eq!(queue.requeue(&id("a")).unwrap(), S::Queued);
    }
    assert_eq!(claim(&*queue).unwrap().attempt, 5);
}

pub(crate) fn a_new_round_goes_on_counting<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish(&*queue, Ticket { max_attempts: 1, ..ticket("a") }).unwrap();
    let first = claim(&*queue).unwrap();
    assert_eq!(queue.fail(&id("a"), first.fence, "no", None).unwrap(), S::Dead);
    let again = Ticket { max_attempts: 2, body: "Better.".to_owned(), ..ticket("a") };
    assert_eq!(publish_as(&*queue, again, "round two").unwrap(), S::Queued);
    assert_eq!(entry(&*queue, "a").error, None);
    let second = claim(&*queue).unwrap();
    assert_eq!((second.attempt, second.ticket.body.as_str()), (2, "Better."));
    assert!(second.fence > first.fence);
    assert_eq!(queue.fail(&id("a"), second.fence, "no", None).unwrap(), S::Failed, "one attempt of two is left");
}

pub(crate) fn a_reopened_ticket_gets_a_new_fence_and_keeps_its_attempt<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish(&*queue, ticket("a")).unwrap();
    let mut fence = to_review(&*queue, "a");
    let mut attempt = 1;
    for counts_attempt in [false, true] {
        let back = queue.reopen(&Reopen { counts_attempt, ..reopen("a", fence) }).unwrap();
        attempt += u32::from(counts_attempt);
        assert_eq!((back.attempt, entry(&*queue, "a").attempts), (attempt, attempt));
        assert!(back.fence > fence);
        assert_eq!(entry(&*queue, "a").node.as_deref(), Some("n2"));
        fence = back.fence;
        queue.complete(&id("a"), fence, Completion::Review).unwrap();
    }
    // A ticket that never ran begins its first attempt, whatever the caller says.
    publish(&*queue, ticket("b")).unwrap();
    queue.cancel(&id("b")).unwrap();
    assert_eq!(queue.reopen(&reopen("b", 0)).unwrap().attempt, 1);
}

pub(crate) fn a_landing_is_begun_by_one<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish(&*queue, ticket("a")).unwrap();
    let fence = to_review(&*queue, "a");
    assert_eq!(queue.settle(&id("a"), fence, Settlement::Approve).unwrap(), S::Approved);
    assert_eq!(queue.settle(&id("a"), fence, Settlement::Approve).unwrap(), S::Approved, "approving twice is once");
    queue.settle(&id("a"), fence, Settlement::BeginLanding).unwrap();
    let illegal = |error: &QueueError| matches!(error, QueueError::Illegal { .. });
    refused(&*queue, || queue.settle(&id("a"), fence, Settlement::BeginLanding), illegal);
    queue.settle(&id("a"), fence, Settlement::Landed).unwrap();
    assert_eq!(queue.settle(&id("a"), fence, Settlement::Landed).unwrap(), S::Landed, "landing twice is once");
    refused(&*queue, || queue.settle(&id("a"), fence, Settlement::DeferLanding), illegal);
}

pub(crate) fn a_voided_or_deferred_verdict_goes_back<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish(&*queue, ticket("a")).unwrap();
    let fence = to_review(&*queue, "a");
    let settle = |settlement| queue.settle(&id("a"), fence, settlement).unwrap();
    settle(Settlement::Approve);
    settle(Settlement::BeginLanding);
    assert_eq!(settle(Settlement::DeferLanding), S::Approved);
    assert_eq!(settle(Settlement::VoidApproval), S::Review);
    assert_eq!(settle(Settlement::VoidApproval), S::Review);
    settle(Settlement::Approve);
    settle(Settlement::BeginLanding);
    let back = queue.reopen(&reopen("a", fence)).unwrap();
    let stale = |error: &QueueError| matches!(error, QueueError::Stale { .. });
    refused(&*queue, || queue.settle(&id("a"), fence, Settlement::Landed), stale);
    assert_eq!(queue.complete(&id("a"), back.fence, Completion::Review).unwrap(), S::Review);
}

pub(crate) fn a_cancelled_ticket_is_lost_to_its_holder<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish(&*queue, ticket("a")).unwrap();
    let held = claim(&*queue).unwrap();
    assert_eq!(queue.cancel(&id("a")).unwrap(), S::Cancelled);
    assert_eq!(queue.cancel(&id("a")).unwrap(), S::Cancelled);
    assert_eq!(queue.renew(&id("a"), held.fence, LONG).unwrap(), Renewed::Lost);
    let illegal = |error: &QueueError| matches!(error, QueueError::Illegal { .. });
    refused(&*queue, || queue.complete(&id("a"), held.fence, Completion::Review), illegal);
    refused(&*queue, || queue.release(&id("a"), held.fence), illegal);
    assert_eq!(queue.expire(Time::now().after(2 * LONG)).unwrap(), []);
    assert_eq!(queue.reopen(&reopen("a", held.fence)).unwrap().attempt, 1);
}

pub(crate) fn an_illegal_edge_changes_nothing<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish(&*queue, ticket("a")).unwrap();
    let illegal = |error: &QueueError| matches!(error, QueueError::Illegal { .. });
    refused(&*queue, || queue.requeue(&id("a")), illegal);
    refused(&*queue, || queue.settle(&id("a"), 0, Settlement::Landed), illegal);
    refused(&*queue, || queue.reopen(&reopen("a", 0)), illegal);
    refused(&*queue, || queue.complete(&id("a"), 0, Completion::Done), illegal);
    let fence = to_landed(&*queue, "a");
    refused(&*queue, || queue.cancel(&id("a")), illegal);
    refused(&*queue, || queue.reopen(&reopen("a", fence)), illegal);
    refused(&*queue, || queue.requeue(&id("a")), illegal);
}

pub(crate) fn every_change_is_one_event<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    publish(&*queue, ticket("a")).unwrap();
    publish(&*queue, Ticket { depends_on: vec![needs("a", K::Success)], ..ticket("b") }).unwrap();
    let fence = claim(&*queue).unwrap().fence;
    queue.complete(&id("a"), fence, Completion::Done).unwrap();
    let events = queue.events_since(0, usize::MAX).unwrap();
    let told: Vec<_> = events.iter().map(|(_, event)| (event.ticket.as_str(), event.from, event.to)).collect();
    let expected = [
        ("a", None, S::Queued),
        ("b", None, S::Blocked),
        ("a", Some(S::Queued), S::Running),
        ("a", Some(S::Running), S::Done),
        ("b", Some(S::Blocked), S::Queued),
    ];
    assert_eq!(told, expected);
    assert_eq!((events[2].1.by.as_str(), events[2].1.fence, events[2].1.attempt), ("n1", fence, 1));
    assert!(events.is_sorted_by(|one, next| one.0 < next.0));
    let rest = queue.events_since(events[1].0, 2).unwrap();
    assert_eq!(rest, events[2..4]);
    let json = serde_json::to_value(&events[0].1).unwrap();
    for key in ["schema", "at", "ticket", "from", "to", "fence", "by"] {
        assert!(json.get(key).is_some(), "{key}");
    }
}

pub(crate) fn content_survives_as_written<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    let rich = Ticket {
        title: "Quotes ' \" ` and \u{1F41D}".to_owned(),
        agent: Some("ticket-worker".parse().unwrap()),
        priority: 10,
        depends_on: Vec::new(),
        capabilities: vec!["z".to_owned(), "a".to_owned()],
        scope: vec!["src/**".to_owned()],
        checks: vec!["cargo test -- --exact 'a b'".to_owned()],
        base: Some("main~1".to_owned()),
        target: Some("release".to_owned()),
        timeout: Some(Duration::from_millis(1_500)),
        max_attempts: 7,
        budget: Budget { usd: Some(0.25), tokens: Some(u64::MAX), time: None },
        labels: vec![String::new()],
        body: "line\r\n\0\n".repeat(30_000),
        ..ticket("rich")
    };
    publish(&*queue, rich.clone()).unwrap();
    assert_eq!(queue.snapshot().unwrap()[0].ticket, rich);
    let able = ClaimRequest { capabilities: rich.capabilities.clone(), ..request() };
    assert_eq!(queue.claim(&able).unwrap()[0].ticket, rich);
}

/// A request to lead.
fn wants_lead(holder: &str, lease: Duration) -> LeadRequest {
    LeadRequest { role: "coordinator".to_owned(), holder: holder.to_owned(), lease }
}

/// Takes the lead.
#[track_caller]
fn take_lead(queue: &dyn Queue, request: &LeadRequest) -> Leader {
    match queue.leader_lease(request).unwrap() {
        Lead::Taken(leader) => leader,
        Lead::Held(leader) => panic!("{leader:?} has it"),
    }
}

/// Asks for the lead until it is given, and no longer than a lease of moments lasts.
fn await_lead(queue: &dyn Queue, request: &LeadRequest) -> Leader {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        match queue.leader_lease(request).unwrap() {
            Lead::Taken(leader) => return leader,
            Lead::Held(leader) => assert!(std::time::Instant::now() < deadline, "{leader:?} never lost it"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn a_role_has_one_leader_at_a_time<E: Engine>() {
    let engine = E::fresh();
    let (one, other) = (engine.handle(), engine.handle());
    assert_eq!(one.leader("coordinator").unwrap(), None);
    let leader = take_lead(&*one, &wants_lead("one", LONG));
    assert_eq!((leader.holder.as_str(), leader.fence), ("one", 1));
    assert_eq!(other.leader("coordinator").unwrap(), Some(leader.clone()));
    assert_eq!(other.leader_lease(&wants_lead("other", LONG)).unwrap(), Lead::Held(leader.clone()));
    assert_eq!(one.leader_lease(&wants_lead("one", LONG)).unwrap(), Lead::Held(leader.clone()), "nor twice");
    assert_eq!(other.renew_lead("coordinator", leader.fence + 1, LONG).unwrap(), Renewed::Lost);
    assert!(matches!(one.renew_lead("coordinator", leader.fence, LONG).unwrap(), Renewed::Held { .. }));
    let role = LeadRequest { role: "another".to_owned(), ..wants_lead("other", LONG) };
    assert_eq!(take_lead(&*other, &role).fence, 1, "each role has its own");
}

pub(crate) fn a_lead_that_ran_out_is_taken_under_a_new_fence<E: Engine>() {
    let engine = E::fresh();
    let (one, other) = (engine.handle(), engine.handle());
    let old = take_lead(&*one, &wants_lead("one", Duration::from_millis(50)));
    let new = await_lead(&*other, &wants_lead("other", Duration::from_millis(50)));
    assert!(new.fence > old.fence);
    assert_eq!(one.renew_lead("coordinator", old.fence, LONG).unwrap(), Renewed::Lost, "the old one notices");
    one.release_lead("coordinator", old.fence).unwrap();
    let renewed = other.renew_lead("coordinator", new.fence, LONG).unwrap();
    assert!(matches!(renewed, Renewed::Held { .. }), "and cannot give up what is not its own");
    assert_eq!(one.leader("coordinator").unwrap().unwrap().holder, "other");
}

pub(crate) fn a_released_lead_is_free_at_once<E: Engine>() {
    let engine = E::fresh();
    let (one, other) = (engine.handle(), engine.handle());
    let old = take_lead(&*one, &wants_lead("one", LONG));
    one.release_lead("coordinator", old.fence).unwrap();
    one.release_lead("coordinator", old.fence).unwrap();
    assert_eq!(one.renew_lead("coordinator", old.fence, LONG).unwrap(), Renewed::Lost, "given up is given up");
    assert_eq!(one.leader("coordinator").unwrap(), None);
    assert!(take_lead(&*other, &wants_lead("other", LONG)).fence > old.fence);
}

pub(crate) fn a_leader_that_died_is_succeeded_at_once_and_no_other_is<E: Engine>() {
    let engine = E::fresh();
    let (one, other) = (engine.handle(), engine.handle());
    let old = take_lead(&*one, &wants_lead("one", LONG));
    let Lead::Taken(new) = other.succeed(&wants_lead("other", LONG), old.fence).unwrap() else {
        panic!("the one before is gone")
    };
    assert!(new.fence > old.fence);
    assert_eq!(one.renew_lead("coordinator", old.fence, LONG).unwrap(), Renewed::Lost);
    assert_eq!(one.succeed(&wants_lead("one", LONG), old.fence).unwrap(), Lead::Held(new), "somebody was faster");
}

pub(crate) fn an_overdue_lead_is_renewed_where_nobody_took_it<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    let leader = take_lead(&*queue, &wants_lead("one", Duration::from_millis(1)));
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while queue.leader("coordinator").unwrap().is_some() {
        assert!(std::time::Instant::now() < deadline, "it never ended");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(matches!(queue.renew_lead("coordinator", leader.fence, LONG).unwrap(), Renewed::Held { .. }));
    assert_eq!(queue.leader("coordinator").unwrap().unwrap().fence, leader.fence);
}
