//! Work that started from the branch of a dependency: after it, and nothing of it twice.

use super::support::{Yard, id, options, releasing, verdict};
use crate::git::fixture::{put, with_line};
use crate::landing::outcome::WaitingReason;
use crate::landing::{LandOptions, Outcome, Plan, Prospect, ReturnReason};
use crate::model::settings::Strategy;
use crate::model::ticket::TicketState;
use crate::model::{CommitId, WorkerId};
use crate::queue::Queue;

/// `base` in review with a change of line 3 of `a`, and `top`, which stands on it, with one of line 5.
fn tower(yard: &Yard) -> (WorkerId, WorkerId) {
    let base = yard.worker("base", &[("a", &with_line("a", 3, "base"))]);
    let top = yard.stacked("top", "base", &[("a", &both()), ("new", "top\n")]);
    (base, top)
}

/// `a` with the changes of both.
fn both() -> String {
    with_line("a", 3, "base").replace("a 5\n", "top\n")
}

fn approve(yard: &Yard, worker: &WorkerId) {
    yard.landing().approve(worker, verdict("Person")).unwrap();
}

/// Subjects of the target's commits, newest first, without the first one.
fn log(yard: &Yard) -> Vec<String> {
    let text = yard.git.git(&yard.git.root, &["log", "--topo-order", "--format=%s", "main"]);
    text.lines().filter(|line| *line != "base").map(str::to_owned).collect()
}

fn own_base(yard: &Yard, worker: &WorkerId) -> CommitId {
    let place = yard.store.worker(worker).unwrap().unwrap().place;
    yard.repository.own_base(&place, &yard.git.head(place.branch.as_str())).unwrap()
}

#[test]
fn it_waits_for_its_dependency_and_lands_in_the_same_call() {
    for order in [[0, 1], [1, 0]] {
        let yard = Yard::new();
        let (base, top) = tower(&yard);
        assert_eq!(own_base(&yard, &top), yard.git.head("swarm/base"), "only its own is its own");
        approve(&yard, &top);
        let waiting = yard.waiting(&top, &releasing());
        assert_eq!(waiting.reason, WaitingReason::DependencyOpen);
        assert_eq!(waiting.why, "it started from the branch of `base`, which is review, and lands after it");
        assert_eq!(yard.state(&top), TicketState::Approved);
        approve(&yard, &base);
        let workers = order.map(|index| [&base, &top][index].clone());
        let reports = yard.land_all(&workers, &releasing());
        assert!(reports.iter().all(|report| matches!(report.outcome, Ok(Outcome::Landed(_)))), "{reports:?}");
        assert_eq!((yard.on_target("a"), yard.on_target("new")), (both().trim_end().to_owned(), "top".to_owned()));
        assert_eq!(log(&yard), ["Land top", "work of swarm/top", "Land base", "work of swarm/base"]);
        yard.assert_tidy();
    }
}

#[test]
fn nothing_of_a_squashed_dependency_lands_again() {
    for strategy in [Strategy::Merge, Strategy::Squash, Strategy::Rebase] {
        let yard = Yard::new();
        let (base, top) = tower(&yard);
        // What stands beside it makes that the dependency can be nothing but other commits.
        yard.git.write("c", "main moved\n");
        yard.git.commit("main moves");
        approve(&yard, &base);
        let squash = LandOptions { strategy: Strategy::Squash, ..releasing() };
        yard.landed(&base, &squash);
        assert_eq!(yard.git.git(&yard.git.root, &["branch", "--list", "swarm/base"]), "", "its branch is gone");
        let (work, start) = (yard.git.head("swarm/top"), yard.git.head("swarm/top~1"));
        assert_eq!(own_base(&yard, &top), start);
        approve(&yard, &top);
        let landed = yard.landed(&top, &LandOptions { strategy, ..options() });
        assert_eq!(landed.work, work, "its branch and its approval are as they were");
        assert_eq!((yard.on_target("a"), yard.on_target("new")), (both().trim_end().to_owned(), "top".to_owned()));
        let expected: &[&str] = match strategy {
            Strategy::Merge => &["Land top", "work of swarm/top", "Land base", "main moves"],
            Strategy::Squash => &["Land top", "Land base", "main moves"],
            _ => &["work of swarm/top", "Land base", "main moves"],
        };
        assert_eq!(log(&yard), expected, "{strategy:?}");
    }
}

#[test]
fn a_dependency_that_went_on_or_was_written_anew_is_landed_as_it_ended() {
    for rewritten in [false, true] {
        let yard = Yard::new();
        let (base, top) = tower(&yard);
        // Changes were requested when `top` had begun.
        let worktree = yard.worktree("base");
        put(&worktree.join("a"), &with_line("a", 3, "base, mended"));
        if rewritten {
            yard.git.git(&worktree, &["commit", "-q", "-a", "--amend", "-m", "mended work of swarm/base"]);
        } else {
            yard.git.commit_in(&worktree, "mended");
        }
        assert_eq!(own_base(&yard, &top), yard.git.head("swarm/top~1"));
        approve(&yard, &base);
        approve(&yard, &top);
        yard.land_all(&[base, top.clone()], &options());
        assert_eq!(yard.state(&top), TicketState::Landed);
        let a = both().replace("base\n", "base, mended\n");
        assert_eq!(yard.on_target("a"), a.trim_end());
        let first = "work of swarm/base".to_owned();
        assert_eq!(log(&yard).contains(&first), !rewritten, "{:?}", log(&yard));
    }
}

#[test]
fn a_plan_counts_what_lands_before_it_in_the_same_call() {
    for strategy in [Strategy::Merge, Strategy::Squash, Strategy::Rebase] {
        for order in [[0, 1], [1, 0]] {
            let yard = Yard::new();
            let (base, top) = tower(&yard);
            approve(&yard, &top);
            let options = LandOptions { strategy, ..releasing() };
            let workers = order.map(|index| [&base, &top][index].clone());
            let prospects = |workers: &[WorkerId]| yard.landing().plan(workers, &options).unwrap();
            let waits = |plan: &Plan| matches!(&plan.prospect, Prospect::Wait(waiting) if !waiting.why.is_empty());
            assert!(prospects(&workers).iter().all(waits), "`base` is not approved");
            approve(&yard, &base);
            assert!(prospects(std::slice::from_ref(&top)).iter().all(waits), "`base` is not in the call");
            let plans = prospects(&workers);
            assert_eq!(plans.iter().map(|plan| &plan.worker).collect::<Vec<_>>(), workers.iter().collect::<Vec<_>>());
            let planned = plans.iter().find_map(|plan| match &plan.prospect {
                Prospect::Land { tree, .. } if plan.worker == top => Some(tree.clone()),
                _ => None,
            });
            let reports = yard.land_all(&workers, &options);
            assert!(reports.iter().all(|report| matches!(report.outcome, Ok(Outcome::Landed(_)))), "{reports:?}");
            assert_eq!(planned, Some(yard.repository.tree_of(&yard.head()).unwrap()), "{strategy:?}");
        }
    }
}

#[test]
fn what_conflicts_with_the_squashed_dependency_goes_back_by_its_own_commits() {
    let yard = Yard::new();
    let base = yard.approved("base", &[("a", &with_line("a", 3, "base"))]);
    let top = yard.stacked("top", "base", &[("a", &with_line("a", 3, "top"))]);
    approve(&yard, &top);
    yard.landed(&base, &LandOptions { strategy: Strategy::Squash, ..releasing() });
    // It changes what the dependency had changed: from that one's state on, which is no conflict.
    yard.git.write("a", &with_line("a", 3, "somebody"));
    yard.git.commit("somebody changes it");
    let returned = yard.returned(&top, &options());
    assert_eq!((returned.reason, returned.files[0].path.as_str()), (ReturnReason::Conflict, "a"));
    let worker = yard.store.worker(&top).unwrap().unwrap();
    let work = yard.git.head("swarm/top");
    let since = yard.landing().own_commits(&worker, &returned.onto, &work).unwrap();
    assert_eq!(since, Some(yard.git.head("swarm/top~1")));
    // Resolved by a rebase of its own commits it stands on the target, and nothing is special any more.
    let worktree = yard.worktree("top");
    yard.git.git_fails(&worktree, &["rebase", "-q", "--onto", "main", since.unwrap().as_str()]);
    put(&worktree.join("a"), &with_line("a", 3, "top"));
    yard.git.git(&worktree, &["add", "a"]);
    yard.git.git(&worktree, &["-c", "core.editor=true", "rebase", "--continue"]);
    assert_eq!(own_base(&yard, &top), yard.head());
    approve_again(&yard, &top);
    yard.landed(&top, &options());
    assert_eq!(yard.on_target("a"), with_line("a", 3, "top").trim_end());
}

/// Approves work that went on after its approval.
fn approve_again(yard: &Yard, worker: &WorkerId) {
    let outcome = yard.land(worker, &options());
    assert!(matches!(outcome, Outcome::Waiting(_)), "{outcome:?}");
    approve(yard, worker);
}

#[test]
fn with_a_cancelled_dependency_it_waits_until_those_commits_are_out_of_it() {
    let yard = Yard::new();
    let base = yard.worker("base", &[("b", "base\n")]);
    let top = yard.stacked("top", "base", &[("new", "top\n")]);
    approve(&yard, &top);
    yard.queue.cancel(&"base".parse().unwrap()).unwrap();
    let waiting = yard.waiting(&top, &releasing());
    let why = "it started from the branch of `base`, which is cancelled and will not land; \
               swarm resolve top takes those commits out of it";
    assert_eq!(waiting.why, why);
    let worker = yard.store.worker(&top).unwrap().unwrap();
    let since = yard.landing().own_commits(&worker, &yard.head(), &yard.git.head("swarm/top")).unwrap().unwrap();
    yard.git.git(&yard.worktree("top"), &["rebase", "-q", "--onto", "main", since.as_str()]);
    approve_again(&yard, &top);
    yard.landed(&top, &releasing());
    assert_eq!((yard.on_target("new").as_str(), yard.on_target("b").lines().count()), ("top", 20));
    assert_eq!(yard.state(&base), TicketState::Cancelled);
}

#[test]
fn a_dependency_that_does_not_make_it_takes_nobody_along() {
    let yard = Yard::new();
    let base = yard.approved("base", &[("a", &with_line("a", 3, "base"))]);
    let top = yard.stacked("top", "base", &[("new", "top\n")]);
    approve(&yard, &top);
    let other = yard.approved("other", &[("b", &with_line("b", 3, "other"))]);
    yard.git.write("a", &with_line("a", 3, "somebody"));
    yard.git.commit("somebody changes it");
    let reports = yard.land_all(&[top, base, other], &options());
    let ends: Vec<_> = reports
        .iter()
        .map(|report| match &report.outcome {
            Ok(Outcome::Landed(_)) => "landed",
            Ok(Outcome::Returned(_)) => "returned",
            Ok(Outcome::Waiting(waiting)) if waiting.reason == WaitingReason::DependencyOpen => "waits",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ends, ["waits", "returned", "landed"]);
    assert_eq!(reports[0].worker, id("top"));
    yard.assert_tidy();
}
