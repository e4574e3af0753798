//! What is decided about finished work.

use super::*;

fn landing(names: &[&str]) -> Step {
    Step::Land { workers: names.iter().map(|name| (id(name), name.parse().unwrap())).collect() }
}

#[test]
fn what_started_from_another_ticket_lands_after_it() {
    let stacked = |on: &str| {
        let mut seen = working("top");
        let branch = "swarm/base".parse().unwrap();
        seen.worker.place.stacked_on = Some(crate::model::worker::StackedOn { ticket: id(on), branch });
        seen
    };
    let lands = |state: S, rules: &Rules| {
        let tickets = vec![entry("base", state), entry("top", S::Approved)];
        decide(&world(tickets, vec![working("base"), stacked("base")]), rules)
    };
    let running = lands(S::Running, &rules());
    assert_eq!((running.steps.len(), running.is_over()), (0, false));
    let why = "lands after `base`, from whose branch it started and which is running";
    assert_eq!(hold(&running, "top").why, why);
    // Where the one below waits for a person, the one on it does.
    let review = lands(S::Review, &rules());
    assert!(review.is_over());
    assert_eq!(hold(&review, "top").why, "waits for `base`, which waits for a verdict: swarm review base");
    // What has landed, and what never will, is for landing itself.
    for ended in [S::Landed, S::Cancelled] {
        assert!(matches!(&lands(ended, &rules()).steps[..], [Step::Land { workers }] if workers[0].0 == id("top")));
    }
}

#[test]
fn without_landing_review_is_the_end_and_with_it_a_verdict_is_waited_for() {
    let tickets = || vec![entry("a", S::Review), entry("b", S::Approved)];
    let workers = || vec![working("a"), working("b")];
    let plain = decide(&world(tickets(), workers()), &Rules { lands: false, ..rules() });
    assert!(plain.is_over() && plain.standings.iter().all(|(_, standing)| *standing == Standing::Made));
    let decision = decide(&world(tickets(), workers()), &rules());
    assert_eq!(decision.steps, [landing(&["b"])]);
    assert_eq!(hold(&decision, "a").why, "waits for a verdict: swarm review a");
    let by_itself = decide(&world(tickets(), workers()), &Rules { approves: true, ..rules() });
    assert_eq!(by_itself.steps, [landing(&["a", "b"])]);
    let doing = BTreeMap::from([(id("b"), Doing::Landing)]);
    let busy = decide(&World { doing, ..world(tickets(), workers()) }, &Rules { approves: true, ..rules() });
    assert_eq!(busy.steps, [], "one landing at a time");
}

#[test]
fn a_landing_that_was_interrupted_is_a_persons_where_nothing_lands_and_is_gone_on_with_where_it_does() {
    let left = |seconds, nobody_lands| {
        let tickets = vec![QueueTicket { changed_at: ago(seconds), ..entry("a", S::Landing) }, blocked_by("b", &["a"])];
        World { nobody_lands, ..world(tickets, vec![working("a")]) }
    };
    let plain = Rules { lands: false, ..rules() };
    let decision = decide(&left(4, true), &plain);
    assert_eq!(hold(&decision, "a").why, "was interrupted while it landed: swarm merge");
    assert_eq!(hold(&decision, "b").why, "waits for `a`, which was interrupted while it landed: swarm merge");
    assert!(decision.is_over());
    assert!(!decide(&left(1, true), &plain).is_over(), "whoever lands it may be about to take its turn");
    assert!(!decide(&left(4, false), &plain).is_over(), "somebody lands it");
    assert_eq!(decide(&left(4, true), &rules()).steps, [landing(&["a"])]);
}

#[test]
fn a_landing_that_was_left_unfinished_is_finished_though_its_ticket_has_landed() {
    let tickets = vec![entry("a", S::Landed), entry("b", S::Landed)];
    let unfinished = BTreeMap::from([(id("a"), "a".parse().unwrap())]);
    let left = World { unfinished, nobody_lands: true, ..world(tickets, Vec::new()) };
    let decision = decide(&left, &rules());
    assert_eq!(decision.steps, [landing(&["a"])]);
    assert_eq!(*standing_of(&decision, "a"), Standing::Made);
    assert_eq!(decide(&left, &Rules { lands: false, ..rules() }).steps, []);
    assert_eq!(decide(&World { nobody_lands: false, ..left.clone() }, &rules()).steps, [], "somebody is about to");
    // What could not be done now is tried again, and keeps no run from its end.
    let tried = |until| {
        let (kind, at) = (HoldKind::Time, (S::Landed, 1));
        let setback = Setback { kind, why: "is still to be released".to_owned(), until: Some(until), at, count: 1 };
        World { setbacks: BTreeMap::from([(id("a"), setback)]), ..left.clone() }
    };
    assert!(decide(&tried(ago(-5)), &rules()).is_over());
    assert_eq!(decide(&tried(ago(1)), &rules()).steps, [landing(&["a"])]);
    let mut setbacks = tried(ago(-5)).setbacks;
    forget_changed(&mut setbacks, &left);
    assert_eq!(setbacks.len(), 1, "how often it was tried counts on");
    forget_changed(&mut setbacks, &World { unfinished: BTreeMap::new(), ..left });
    assert!(setbacks.is_empty());
}

#[test]
fn who_stands_by_behind_one_that_never_lands_does_not_wait_for_it() {
    let tickets = vec![entry("a", S::Approved), entry("b", S::Running)];
    let never_lands = Some("process 7 on here".to_owned());
    let standing_by = World { never_lands, ..world(tickets, vec![working("a"), working("b")]) };
    let decision = decide(&standing_by, &rules());
    let why = "waits to land, and process 7 on here coordinates and lands nothing: swarm merge";
    assert_eq!(hold(&decision, "a").why, why);
    assert!(!decision.is_over(), "what runs is waited for");
    assert!(matches!(&decide(&World { never_lands: None, ..standing_by }, &rules()).steps[..], [Step::Land { .. }]));
}
