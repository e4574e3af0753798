//! Batches: what lands together, what is sent back, and what a crash leaves.

use std::collections::BTreeSet;

use super::support::{Yard, gates, id, releasing};
use crate::git::crash;
use crate::git::fixture::with_line;
use crate::landing::{LandOptions, Outcome, Report, ReturnReason};
use crate::model::WorkerId;
use crate::model::ticket::TicketState;

/// A gate that fails where a file is called `bad*`, and writes down each tree it saw with its verdict.
fn logging_gate(yard: &Yard) -> LandOptions<'static> {
    let log = yard.git.worktrees.join("gate.log");
    let script = format!(
        "tree=$(git rev-parse HEAD^{{tree}}); if ls | grep -q ^bad; then echo red $tree >> {0}; exit 1; fi; echo green $tree >> {0}",
        log.display()
    );
    LandOptions { gates: gates(&[("test", &script)]), ..releasing() }
}

/// How often the gate ran with that verdict.
fn runs(yard: &Yard, verdict: &str) -> usize {
    let log = std::fs::read_to_string(yard.git.worktrees.join("gate.log")).unwrap_or_default();
    log.lines().filter(|line| line.starts_with(verdict)).count()
}

/// Every tree that the target pointed to after its first is one that the gate was green on.
fn assert_every_tip_was_tested(yard: &Yard, first: &str) {
    let log = std::fs::read_to_string(yard.git.worktrees.join("gate.log")).unwrap_or_default();
    let green: BTreeSet<_> = log.lines().filter_map(|line| line.strip_prefix("green ")).collect();
    let tips = yard.git.git(&yard.git.root, &["reflog", "show", "--format=%H", "main"]);
    for tip in tips.lines().take_while(|tip| *tip != first) {
        let tree = yard.git.git(&yard.git.root, &["rev-parse", &format!("{tip}^{{tree}}")]);
        assert!(green.contains(tree.as_str()), "{tree} of {tip} was never tested:\n{log}");
    }
}

/// Approved work that adds a file of its name.
fn adding(yard: &Yard, names: &[&str]) -> Vec<WorkerId> {
    names.iter().map(|name| yard.approved(name, &[(name, "new\n")])).collect()
}

/// `landed`, `returned` or `waiting` of each report, in order.
fn words(reports: &[Report]) -> Vec<&'static str> {
    let word = |report: &Report| match report.outcome.as_ref().unwrap() {
        Outcome::Landed(_) => "landed",
        Outcome::Returned(_) => "returned",
        Outcome::Waiting(_) => "waiting",
    };
    reports.iter().map(word).collect()
}

#[test]
fn a_green_batch_is_tested_once_and_lands_at_once() {
    let yard = Yard::new();
    let (first, workers) = (yard.head(), adding(&yard, &["one", "two", "three"]));
    let options = logging_gate(&yard);
    let reports = yard.land_all(&workers, &options);
    assert_eq!(words(&reports), ["landed"; 3]);
    assert_eq!((runs(&yard, "green"), runs(&yard, "red")), (1, 0));
    assert_every_tip_was_tested(&yard, first.as_str());
    let subjects = yard.git.git(&yard.git.root, &["log", "--first-parent", "--format=%s", "main"]);
    assert_eq!(subjects.lines().take(3).collect::<Vec<_>>(), ["Land three", "Land two", "Land one"]);
    // The target moved once: nobody ever saw a tip that was not tested.
    let moves = yard.git.git(&yard.git.root, &["reflog", "show", "--format=%gs", "main"]);
    assert_eq!(moves.lines().filter(|reason| reason.contains("landed")).count(), 1, "{moves}");
    for report in &reports {
        let Ok(Outcome::Landed(landed)) = &report.outcome else { panic!() };
        let tested = landed.tested.as_ref().unwrap();
        assert_eq!(tested.commit, yard.head());
        let note = yard.git.git(&yard.git.root, &["notes", "--ref=swarm", "show", landed.commit.as_str()]);
        let note: serde_json::Value = serde_json::from_str(&note).unwrap();
        assert_eq!(
            (&note["worker"], &note["tested"]["tree"]),
            (&report.worker.as_str().into(), &tested.tree.as_str().into())
        );
    }
    yard.assert_tidy();
}

#[test]
fn the_culprit_of_a_red_batch_goes_back_and_the_rest_lands() {
    for culprit in 0..5 {
        let yard = Yard::new();
        let mut names = ["a1", "a2", "a3", "a4", "a5"];
        names[culprit] = "bad";
        let (first, workers) = (yard.head(), adding(&yard, &names));
        let reports = yard.land_all(&workers, &logging_gate(&yard));
        let mut expected = ["landed"; 5];
        expected[culprit] = "returned";
        assert_eq!(words(&reports), expected, "{culprit}");
        let Ok(Outcome::Returned(returned)) = &reports[culprit].outcome else { panic!() };
        assert_eq!(returned.reason, ReturnReason::GateFailed);
        assert_eq!(yard.state(&id("bad")), TicketState::Approved);
        assert!(!yard.git.git(&yard.git.root, &["ls-tree", "--name-only", "main"]).contains("bad"));
        assert_every_tip_was_tested(&yard, first.as_str());
        yard.assert_tidy();
    }
}

#[test]
fn two_culprits_are_both_found() {
    let yard = Yard::new();
    let workers = adding(&yard, &["a1", "bad2", "a3", "bad4", "a5"]);
    let reports = yard.land_all(&workers, &logging_gate(&yard));
    assert_eq!(words(&reports), ["landed", "returned", "landed", "returned", "landed"]);
}

#[test]
fn a_gate_that_fails_once_starts_no_search() {
    let yard = Yard::new();
    let workers = adding(&yard, &["one", "two", "three", "four"]);
    let (once, log) = (yard.git.worktrees.join("once"), yard.git.worktrees.join("log"));
    let script = format!("echo run >> {1}; test -e {0} && exit 0; touch {0}; exit 1", once.display(), log.display());
    let reports = yard.land_all(&workers, &LandOptions { gates: gates(&[("flaky", &script)]), ..releasing() });
    assert_eq!(words(&reports), ["landed"; 4]);
    assert_eq!(std::fs::read_to_string(log).unwrap().lines().count(), 2);
}

#[test]
fn work_that_conflicts_with_work_below_it_is_judged_by_what_landed() {
    let yard = Yard::new();
    let one = yard.approved("one", &[("a", &with_line("a", 3, "one"))]);
    let two = yard.approved("two", &[("a", &with_line("a", 3, "two"))]);
    let three = yard.approved("three", &[("b", &with_line("b", 3, "three"))]);
    let reports = yard.land_all(&[one, two, three], &logging_gate(&yard));
    assert_eq!(words(&reports), ["landed", "returned", "landed"]);
    let Ok(Outcome::Returned(returned)) = &reports[1].outcome else { panic!() };
    assert_eq!((returned.reason, returned.why.as_str()), (ReturnReason::Conflict, "`a` conflicts with `main`"));
    assert!(returned.evidence.contains("work of swarm/one"), "{}", returned.evidence);
    // Had the first been red, the second would have landed: it fits the target as it was.
    let yard = Yard::new();
    let bad = yard.approved("one", &[("a", &with_line("a", 3, "one")), ("bad", "x\n")]);
    let two = yard.approved("two", &[("a", &with_line("a", 3, "two"))]);
    assert_eq!(words(&yard.land_all(&[bad, two], &logging_gate(&yard))), ["returned", "landed"]);
}

#[test]
fn a_gate_of_a_batch_is_told_where_the_target_was() {
    let yard = Yard::new();
    let (first, workers) = (yard.head(), adding(&yard, &["one", "two"]));
    let out = yard.git.worktrees.join("target");
    let script = format!("echo $SWARM_TARGET_COMMIT > {}", out.display());
    yard.land_all(&workers, &LandOptions { gates: gates(&[("look", &script)]), ..releasing() });
    assert_eq!(std::fs::read_to_string(out).unwrap().trim(), first.as_str());
}

#[test]
fn a_batch_of_one_tests_each_alone() {
    let yard = Yard::new();
    let workers = adding(&yard, &["one", "two", "three"]);
    let options = LandOptions { batch: 1, ..logging_gate(&yard) };
    assert_eq!(words(&yard.land_all(&workers, &options)), ["landed"; 3]);
    assert_eq!(runs(&yard, "green"), 3);
}

#[test]
fn a_batch_killed_at_any_step_lands_whole_or_not_at_all() {
    for (point, _) in super::resume::POINTS {
        let yard = Yard::new();
        let (before, workers) = (yard.head(), adding(&yard, &["one", "two", "three"]));
        let options = logging_gate(&yard);
        crash::arm(point);
        assert!(yard.landing().land(&workers, &options, &mut |_| ()).is_err(), "{point}");
        assert!(crash::revive(), "{point}");
        let has_moved = yard.head() != before;
        if has_moved {
            let listed = yard.git.git(&yard.git.root, &["ls-tree", "--name-only", "main"]);
            assert!(["one", "two", "three"].iter().all(|name| listed.contains(name)), "{point}: {listed}");
        }
        yard.resumed(&options);
        let expected = if has_moved { TicketState::Landed } else { TicketState::Approved };
        for worker in &workers {
            assert_eq!(yard.state(worker), expected, "{point}: {worker}");
        }
        if !has_moved {
            assert_eq!(words(&yard.land_all(&workers, &options)), ["landed"; 3], "{point}");
        }
        assert_every_tip_was_tested(&yard, before.as_str());
        assert!(workers.iter().all(|worker| !yard.worktree(worker.as_str()).exists()), "{point}");
        yard.assert_tidy();
    }
}

#[test]
fn a_failure_is_told_of_the_worker_it_concerns() {
    let yard = Yard::new();
    let workers = adding(&yard, &["one", "two", "three"]);
    let message: crate::landing::land::WriteMessage<'_> = &|worker, _| match worker.id.as_str() {
        "two" => Err("no words".to_owned()),
        other => Ok(format!("Land {other}")),
    };
    let reports = yard.land_all(&workers, &LandOptions { message, ..logging_gate(&yard) });
    let fine: Vec<_> = reports.iter().map(|report| report.outcome.is_ok()).collect();
    assert_eq!(fine, [true, false, true]);
    assert_eq!(yard.state(&workers[1]), TicketState::Approved);
    yard.assert_tidy();
}

#[test]
fn a_failure_in_a_batch_of_work_that_does_not_merge_is_told_of_the_worker_it_concerns() {
    let yard = Yard::new();
    let workers = ["one", "two", "three"].map(|name| yard.approved(name, &[("a", &with_line("a", 3, name))]));
    yard.git.write("a", &with_line("a", 3, "main"));
    yard.git.commit("main moves");
    let message: crate::landing::land::WriteMessage<'_> = &|worker, _| match worker.id.as_str() {
        "one" => Err("no words".to_owned()),
        other => Ok(format!("Land {other}")),
    };
    let reports = yard.land_all(&workers, &LandOptions { message, batch: 1, ..releasing() });
    assert_eq!(reports.iter().map(|report| report.outcome.is_ok()).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(words(&reports[1..]), ["returned"; 2]);
    yard.assert_tidy();
}
