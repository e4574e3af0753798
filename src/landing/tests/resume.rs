//! Landings that were killed at each step, and what the next call makes of them.

use super::support::{Yard, gates, releasing};
use crate::git::crash;
use crate::git::fixture::{put, with_line};
use crate::landing::{LandOptions, Outcome, Report};
use crate::model::event::Event;
use crate::model::ticket::TicketState;

/// Every point of a landing in order, and whether the target has moved by then.
pub(super) const POINTS: [(&str, bool); 21] = [
    ("landing begun", false),
    ("scratch recorded", false),
    ("scratch registered", false),
    ("gates passed", false),
    ("intent written", false),
    ("journal written", false),
    ("index locked", false),
    ("target checked", false),
    ("target moved", true),
    ("files written", true),
    ("index installed", true),
    ("advanced", true),
    ("note written", true),
    ("ticket landed", true),
    ("kept", true),
    ("trash recorded", true),
    ("removal begun", true),
    ("moved away", true),
    ("worktree removed", true),
    ("removed", true),
    ("released", true),
];

fn with_gate() -> LandOptions<'static> {
    LandOptions { gates: gates(&[("test", "grep -q fixed a")]), ..releasing() }
}

#[test]
fn a_landing_killed_at_any_step_is_before_or_after_and_the_next_call_completes_it() {
    for (point, has_moved) in POINTS {
        let yard = Yard::new();
        let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
        let (before, work) = (yard.head(), yard.git.head("swarm/fix"));
        crash::arm(point);
        assert!(yard.landing().land(std::slice::from_ref(&worker), &with_gate(), &mut |_| ()).is_err(), "{point}");
        assert!(crash::revive(), "{point}");
        assert_eq!(yard.head() != before, has_moved, "{point}");
        let reports = yard.resumed(&with_gate());
        let outcome = reports.into_iter().next().map(|report| report.outcome.unwrap());
        if has_moved {
            assert!(
                matches!(outcome, Some(Outcome::Landed(ref landed)) if landed.warnings.is_empty()),
                "{point}: {outcome:?}"
            );
        } else {
            assert_eq!((yard.head(), yard.state(&worker)), (before, TicketState::Approved), "{point}");
            yard.landed(&worker, &with_gate());
        }
        assert_eq!(yard.state(&worker), TicketState::Landed, "{point}");
        assert_eq!(yard.read(&yard.git.root.join("a")), with_line("a", 3, "fixed"));
        let note = yard.git.git(&yard.git.root, &["notes", "--ref=swarm", "show", "main"]);
        assert_eq!(note.lines().count(), 1, "{point}");
        assert!(note.contains("\"passed\":true"));
        assert!(!yard.worktree("fix").exists(), "{point}");
        let kept = yard.keep_refs();
        let log = yard.git.git(&yard.git.root, &["log", "--format=%H", kept.lines().next().unwrap()]);
        assert!(log.contains(work.as_str()), "{point}");
        yard.assert_tidy();
        let landings = yard.git.git(&yard.git.root, &["log", "--merges", "--format=%s", "main"]);
        assert_eq!(landings, "Land fix", "{point}");
    }
}

#[test]
fn a_dead_landing_is_finished_before_the_next_begins() {
    let yard = Yard::new();
    let one = yard.approved("one", &[("a", &with_line("a", 3, "fixed"))]);
    let two = yard.approved("two", &[("b", &with_line("b", 3, "two"))]);
    crash::arm("target moved");
    assert!(yard.landing().land(std::slice::from_ref(&one), &releasing(), &mut |_| ()).is_err());
    assert!(crash::revive());
    // It is reported, too, though nobody named it.
    let reports = yard.land_all(std::slice::from_ref(&two), &releasing());
    assert_eq!(yard.told.take(), ["resumed one", "started two", "ended two"]);
    assert_eq!(reports.iter().map(|report| &report.worker).collect::<Vec<_>>(), [&one, &two]);
    assert!(reports.iter().all(|report| matches!(report.outcome, Ok(Outcome::Landed(_)))), "{reports:?}");
    yard.assert_tidy();
}

#[test]
fn a_named_worker_whose_dead_landing_was_finished_is_reported_once() {
    let yard = Yard::new();
    let workers = ["one", "two"].map(|name| yard.approved(name, &[(name, "new\n")]));
    crash::arm("target moved");
    assert!(yard.landing().land(&workers[..1], &releasing(), &mut |_| ()).is_err());
    assert!(crash::revive());
    let reports = yard.land_all(&[workers[1].clone(), workers[0].clone()], &releasing());
    assert_eq!(reports.iter().map(|report| &report.worker).collect::<Vec<_>>(), [&workers[1], &workers[0]]);
    assert!(reports.iter().all(|report| matches!(report.outcome, Ok(Outcome::Landed(_)))), "{reports:?}");
}

#[test]
fn a_dead_landing_that_cannot_be_finished_is_an_error_of_its_worker_until_it_can() {
    let yard = Yard::new();
    let one = yard.approved("one", &[("a", &with_line("a", 3, "fixed"))]);
    let two = yard.approved("two", &[("b", &with_line("b", 3, "two"))]);
    crash::arm("advanced");
    assert!(yard.landing().land(std::slice::from_ref(&one), &releasing(), &mut |_| ()).is_err());
    assert!(crash::revive());
    // Nobody can write where its log is.
    let (log, aside) = (yard.paths.events(&one), yard.git.worktrees.join("log"));
    std::fs::rename(&log, &aside).unwrap();
    std::fs::create_dir(&log).unwrap();
    let reports = yard.land_all(&[one.clone(), two], &releasing());
    assert_eq!((reports.len(), &reports[0].worker), (2, &one));
    assert!(reports[0].outcome.is_err() && matches!(reports[1].outcome, Ok(Outcome::Landed(_))), "{reports:?}");
    std::fs::remove_dir(&log).unwrap();
    std::fs::rename(&aside, &log).unwrap();
    let reports = yard.land_all(&[], &releasing());
    assert!(matches!(reports[..], [Report { outcome: Ok(Outcome::Landed(_)), .. }]), "{reports:?}");
    yard.assert_tidy();
}

#[test]
fn a_target_that_went_on_after_the_crash_still_counts_as_landed() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    crash::arm("advanced");
    assert!(yard.landing().land(std::slice::from_ref(&worker), &releasing(), &mut |_| ()).is_err());
    assert!(crash::revive());
    yard.git.write("c", "later\n");
    yard.git.commit("somebody goes on");
    assert!(matches!(yard.resumed(&releasing())[0].outcome, Ok(Outcome::Landed(_))));
    assert_eq!(yard.state(&worker), TicketState::Landed);
    yard.assert_tidy();
}

#[test]
fn a_landing_that_a_person_took_back_after_the_crash_is_not_landed() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    crash::arm("advanced");
    assert!(yard.landing().land(std::slice::from_ref(&worker), &releasing(), &mut |_| ()).is_err());
    assert!(crash::revive());
    yard.git.git(&yard.git.root, &["reset", "-q", "--hard", "main~1"]);
    assert!(matches!(yard.resumed(&releasing())[0].outcome, Ok(Outcome::Waiting(_))));
    assert_eq!(yard.state(&worker), TicketState::Approved);
    assert!(yard.worktree("fix").exists());
    yard.assert_tidy();
}

#[test]
fn intent_and_landing_are_in_the_event_log() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let landed = yard.landed(&worker, &releasing());
    let events: Vec<_> = yard.store.events_since(0, 100).unwrap().into_iter().map(|(_, record)| record.event).collect();
    assert!(matches!(&events[0], Event::Reviewed { verdict, .. } if verdict == "approved"));
    assert!(matches!(&events[1], Event::LandingIntent { to, .. } if *to == landed.commit));
    assert!(matches!(&events[2], Event::Landed { commit, .. } if *commit == landed.commit));
    assert!(matches!(&events[3], Event::Released { keep } if Some(keep) == landed.keep.as_ref()));
    assert_eq!(events.len(), 4);
}

#[test]
fn one_that_died_as_it_wrote_its_turn_down_leaves_nothing() {
    let yard = Yard::new();
    let left = yard.git.root.join(".git/swarm/locks/.swarm-4194305-x");
    put(&left, "half");
    drop(yard.landing().take_turn(&mut |_| ()).unwrap());
    assert!(!left.exists());
}

#[test]
fn what_a_dead_landing_left_running_is_ended_before_the_next_begins() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let places = (yard.git.root.join(".git/left"), yard.git.root.join(".git/child"));
    // A gate as it goes on when only the landing itself is killed: with the landing's token, and a child of its own.
    let gate = format!("env > '{}'", places.0.display());
    crash::arm("gates passed");
    let options = LandOptions { gates: gates(&[("test", &gate)]), ..releasing() };
    assert!(yard.landing().land(std::slice::from_ref(&worker), &options, &mut |_| ()).is_err());
    assert!(crash::revive());
    let token = yard.read(&places.0);
    let token = token.lines().find_map(|line| line.strip_prefix("SWARM_LANDING=")).unwrap();
    let child = format!("sleep 1000 & echo $! > '{}'", places.1.display());
    let mut orphan = crate::process::Invocation::new("sh", &yard.git.root).args(["-c", &child]);
    orphan.set = vec![("SWARM_LANDING".into(), token.into())];
    crate::process::run(&orphan).unwrap();
    let child: u32 = yard.read(&places.1).trim().parse().unwrap();
    assert!(crate::process::identify(child).unwrap().is_some());
    // Above the highest number that a process can have; and this very process, which lives.
    let [dead, living] = [4_194_305, std::process::id()].map(|pid| format!("swarm/moves/.swarm-{pid}-x"));
    for name in [&dead, &living] {
        crate::git::fixture::put(&yard.repository.common_dir().join(name), "{");
    }
    yard.landed(&worker, &LandOptions { gates: gates(&[("test", "true")]), ..releasing() });
    let is_there = |name: &String| yard.repository.common_dir().join(name).exists();
    assert_eq!((is_there(&dead), is_there(&living)), (false, true));
    let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    assert!(!yard.repository.common_dir().join("swarm/locks/landing.turn").exists());
}
