//! Verdicts and the commits they judge.

use super::support::{Yard, id, options, verdict};
use crate::git::fixture::with_line;
use crate::landing::outcome::WaitingReason;
use crate::landing::review::Standing;
use crate::landing::{LandingError, NewReview};
use crate::model::ticket::TicketState;
use crate::store::ReviewVerdict;

#[test]
fn a_new_commit_voids_an_approval() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let before = yard.head();
    yard.more_work(&worker, "b", "sneaked in\n");
    let waiting = yard.waiting(&worker, &options());
    assert_eq!(waiting.reason, WaitingReason::ApprovalVoided);
    assert_eq!((yard.head(), yard.state(&worker)), (before, TicketState::Review));
    let stored = yard.store.worker(&worker).unwrap().unwrap();
    assert!(matches!(yard.landing().standing(&stored).unwrap(), Standing::Voided(_)));
    yard.landing().approve(&worker, verdict("Person")).unwrap();
    yard.landed(&worker, &options());
    assert_eq!(yard.on_target("b"), "sneaked in");
}

#[test]
fn work_without_a_verdict_does_not_land() {
    let yard = Yard::new();
    let worker = yard.worker("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let before = yard.head();
    assert_eq!(yard.waiting(&worker, &options()).reason, WaitingReason::NotApproved);
    assert_eq!((yard.head(), yard.state(&worker)), (before, TicketState::Review));
}

#[test]
fn a_rejection_takes_an_approval_back() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let review = yard.landing().reject(&worker, verdict("Second person")).unwrap();
    assert_eq!(review.verdict, ReviewVerdict::Rejected);
    assert_eq!(yard.state(&worker), TicketState::Review);
    assert_eq!(yard.waiting(&worker, &options()).reason, WaitingReason::NotApproved);
}

#[test]
fn a_verdict_on_another_commit_than_the_present_one_is_refused() {
    let yard = Yard::new();
    let worker = yard.worker("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let looked_at = yard.git.head("swarm/fix");
    yard.more_work(&worker, "b", "later\n");
    let review = NewReview { commit: Some(looked_at), ..verdict("Person") };
    assert!(matches!(yard.landing().approve(&worker, review), Err(LandingError::MovedOn { .. })));
    assert_eq!(yard.state(&worker), TicketState::Review);
    assert!(matches!(yard.landing().approve(&id("nobody"), verdict("x")), Err(LandingError::NoWorker(_))));
}

#[test]
fn approving_twice_is_approving_once() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    yard.landing().approve(&worker, verdict("Person")).unwrap();
    assert_eq!(yard.state(&worker), TicketState::Approved);
    yard.landed(&worker, &options());
    assert!(matches!(yard.landing().approve(&worker, verdict("x")), Err(LandingError::NotInReview { .. })));
}
