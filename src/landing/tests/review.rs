//! Verdicts and the commits they judge.

use super::support::{Yard, id, options, releasing, verdict};
use crate::git::fixture::with_line;
use crate::landing::outcome::WaitingReason;
use crate::landing::review::Standing;
use crate::landing::{LandingError, NewReview};
use crate::model::Time;
use crate::model::ticket::TicketState;
use crate::model::worker::{Changes, Figures, Live, Liveness, Outcome, Phase, Status};
use crate::store::{ReviewVerdict, read_live, write_live};

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

#[test]
fn facts_follow_the_commit_that_was_approved_and_landed() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let live = Live {
        heartbeat_at: Time::now(),
        attempt: 1,
        agent: None,
        status: Status::Done,
        reason: String::new(),
        since: Time::now(),
        evidence: Vec::new(),
        figures: Figures::default(),
        changes: Some(Changes::none(Time::now())),
        resources: None,
        sign: None,
        checks: Vec::new(),
        held_at: None,
        outside_scope: Vec::new(),
    };
    write_live(&yard.paths.live(&worker), &live).unwrap();
    let ended_at = match yard.store.worker(&worker).unwrap().unwrap().phase {
        Phase::Ended { at, .. } => at,
        other => panic!("{other:?}"),
    };
    let newer = yard.more_work(&worker, "b", "more\n");
    yard.waiting(&worker, &options());
    yard.landing().approve(&worker, verdict("Person")).unwrap();
    let row = yard.store.worker(&worker).unwrap().unwrap();
    let outcome = Outcome::Finished { commit: newer };
    assert_eq!(row.phase, Phase::Ended { outcome: outcome.clone(), at: ended_at });
    let changes = read_live(&yard.paths.live(&worker)).unwrap().unwrap().changes.unwrap();
    assert_eq!((changes.commits, changes.files_changed), (2, 2));
    yard.landed(&worker, &releasing());
    let row = yard.store.worker(&worker).unwrap().unwrap();
    assert!(matches!(&row.phase, Phase::Released { outcome: kept, .. } if *kept == outcome), "{:?}", row.phase);
    // Its age counts from its end, not from when somebody tidied up.
    let shown = row.verdict(Liveness::Dead, None, Time::now());
    assert_eq!((shown.since, shown.status), (Some(ended_at), Status::Done));
}
