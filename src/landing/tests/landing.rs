//! Strategies, conflicts, busy checkouts, moving targets, plans.

use super::support::{Yard, gates, options, releasing, verdict};
use crate::git::fixture::{Fixture, put, with_line};
use crate::git::{ConflictKind, crash};
use crate::landing::outcome::WaitingReason;
use crate::landing::{LandOptions, Landing, Outcome, Prospect, ReturnReason};
use crate::model::settings::Strategy;
use crate::model::ticket::TicketState;
use crate::model::worker::Phase;

#[test]
fn an_approved_merge_lands_and_its_worker_is_released() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let work = yard.git.head("swarm/fix");
    let landed = yard.landed(&worker, &LandOptions { gates: gates(&[("test", "grep -q fixed a")]), ..releasing() });
    assert_eq!(yard.head(), landed.commit);
    assert_eq!((landed.work.clone(), landed.updated), (work.clone(), vec![yard.git.root.clone()]));
    assert_eq!(landed.warnings, Vec::<String>::new());
    let facts =
        yard.git.git(&yard.git.root, &["log", "-1", "--format=%P|%T|%s|%(trailers:key=Swarm-Ticket,valueonly)"]);
    assert!(facts.starts_with(&format!(
        "{}|{}|Land fix|fix",
        format_args!("{} {work}", yard.git.head("main~1")),
        landed.tree
    )));
    assert_eq!(yard.read(&yard.git.root.join("a")), with_line("a", 3, "fixed"));
    assert_eq!(yard.state(&worker), TicketState::Landed);
    // Released: worktree and branch are gone, the work is kept.
    assert!(!yard.worktree("fix").exists());
    assert_eq!(yard.git.git(&yard.git.root, &["branch", "--list", "swarm/*"]), "");
    let keep = landed.keep.unwrap();
    assert_eq!(yard.keep_refs(), keep);
    let stored = yard.store.worker(&worker).unwrap().unwrap();
    assert!(matches!(stored.phase, Phase::Released { keep: stored, .. } if stored == keep));
    yard.assert_tidy();
    assert_eq!(yard.told.take(), ["started fix", "gate test", "passed test", "ended fix"]);
}

#[test]
fn the_note_holds_the_evidence() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let landed = yard.landed(&worker, &LandOptions { gates: gates(&[("test", "echo all good")]), ..options() });
    let note = yard.git.git(&yard.git.root, &["notes", "--ref=swarm", "show", landed.commit.as_str()]);
    let note: serde_json::Value = serde_json::from_str(&note).unwrap();
    assert_eq!(note["schema"], 1);
    assert_eq!(note["worker"], "fix");
    assert_eq!(note["tree"], landed.tree.as_str());
    assert_eq!(note["commit"], landed.commit.as_str());
    assert_eq!(note["gates"][0]["name"], "test");
    assert_eq!(note["gates"][0]["passed"], true);
    assert_eq!(note["gates"][0]["output_tail"], "all good\n");
    assert!(note["gates"][0]["duration_ms"].is_u64());
    assert_eq!(note["approvals"][0]["by"], "Person");
    assert_eq!(note["approvals"][0]["commit"], landed.work.as_str());
}

#[test]
fn a_squash_keeps_the_original_commits() {
    let yard = Yard::new();
    let worker = yard.worker("fix", &[("a", &with_line("a", 3, "one"))]);
    let work = yard.more_work(&worker, "b", "two\n");
    yard.landing().approve(&worker, super::support::verdict("Person")).unwrap();
    let before = yard.head();
    let landed = yard.landed(&worker, &LandOptions { strategy: Strategy::Squash, ..releasing() });
    assert_eq!(yard.git.git(&yard.git.root, &["log", "--format=%P", "-1"]), before.as_str());
    let kept = yard.git.git(&yard.git.root, &["log", "--format=%H", &landed.keep.unwrap()]);
    assert!(kept.contains(work.as_str()));
    yard.assert_tidy();
}

#[test]
fn a_rebase_lands_each_commit() {
    let yard = Yard::new();
    let worker = yard.worker("fix", &[("a", &with_line("a", 3, "one"))]);
    let work = yard.more_work(&worker, "b", "two\n");
    yard.landing().approve(&worker, super::support::verdict("Person")).unwrap();
    yard.git.write("c", "main moved\n");
    let before = yard.git.commit("main moves");
    let landed = yard.landed(&worker, &LandOptions { strategy: Strategy::Rebase, ..releasing() });
    let range = format!("{before}..main");
    assert_eq!(yard.git.git(&yard.git.root, &["log", "--format=%s", &range]), "more work\nwork of swarm/fix");
    assert_ne!(landed.commit, work);
    let kept = yard.git.git(&yard.git.root, &["log", "--format=%H", &landed.keep.unwrap()]);
    assert!(kept.contains(work.as_str()));
}

#[test]
fn a_conflict_returns_with_the_evidence_and_changes_nothing() {
    for strategy in [Strategy::Merge, Strategy::Squash, Strategy::Rebase] {
        let yard = Yard::new();
        let worker = yard.approved("fix", &[("a", &with_line("a", 3, "theirs"))]);
        yard.git.write("a", &with_line("a", 3, "ours"));
        let before = yard.git.commit("Make a ours");
        let returned = yard.returned(&worker, &LandOptions { strategy, ..releasing() });
        assert_eq!(returned.reason, ReturnReason::Conflict);
        assert_eq!((returned.files[0].path.as_str(), returned.files[0].kind), ("a", ConflictKind::Content));
        assert_eq!(returned.why, "`a` conflicts with `main`");
        for part in ["swarm/fix", "- a (content)", "Merge conflict in a", "Make a ours (Person)"] {
            assert!(returned.evidence.contains(part), "{part} in {}", returned.evidence);
        }
        assert_eq!(yard.head(), before);
        assert_eq!(yard.state(&worker), TicketState::Approved);
        assert!(yard.worktree("fix").exists());
        yard.assert_tidy();
        // The caller takes it back to the agent with what was answered.
        let reopen = crate::queue::Reopen {
            ticket: worker.as_str().parse().unwrap(),
            expected_fence: returned.fence,
            node: "test".to_owned(),
            lease: std::time::Duration::from_secs(60),
            counts_attempt: false,
            from: None,
        };
        crate::queue::Queue::reopen(&yard.queue, &reopen).unwrap();
        assert_eq!(yard.state(&worker), TicketState::Running);
    }
}

#[test]
fn one_conflict_stops_only_its_own_worker() {
    let yard = Yard::new();
    let one = yard.approved("one", &[("a", &with_line("a", 3, "one"))]);
    let two = yard.approved("two", &[("a", &with_line("a", 3, "two"))]);
    let three = yard.approved("three", &[("b", &with_line("b", 3, "three"))]);
    yard.land_all(&[one.clone(), two.clone(), three.clone()], &releasing());
    let states = [&one, &two, &three].map(|worker| yard.state(worker));
    assert_eq!(states, [TicketState::Landed, TicketState::Approved, TicketState::Landed]);
    assert_eq!(
        (yard.on_target("a"), yard.on_target("b")),
        (with_line("a", 3, "one").trim_end().to_owned(), with_line("b", 3, "three").trim_end().to_owned(),)
    );
    yard.assert_tidy();
}

#[test]
fn a_dirty_checkout_makes_it_wait_and_untouched_dirt_does_not() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    yard.git.write("a", "mine\n");
    yard.git.write("b", "mine too\n");
    let before = yard.head();
    let waiting = yard.waiting(&worker, &releasing());
    assert_eq!(waiting.reason, WaitingReason::TargetBusy);
    assert_eq!(waiting.files, [std::path::PathBuf::from("a")]);
    assert!(waiting.why.contains("main") && waiting.why.contains("re po"), "{}", waiting.why);
    assert_eq!((yard.head(), yard.state(&worker)), (before, TicketState::Approved));
    assert_eq!(yard.store.intents().unwrap(), []);
    yard.git.git(&yard.git.root, &["checkout", "-q", "a"]);
    yard.landed(&worker, &releasing());
    assert_eq!(yard.read(&yard.git.root.join("b")), "mine too\n");
    assert_eq!(yard.git.git(&yard.git.root, &["status", "--porcelain"]), " M b");
}

#[test]
fn it_lands_in_a_bare_repository() {
    let yard = Yard::on(Fixture::bare());
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let landed = yard.landed(&worker, &LandOptions { gates: gates(&[("test", "grep -q fixed a")]), ..releasing() });
    assert_eq!(yard.head(), landed.commit);
    assert_eq!(landed.warnings, Vec::<String>::new());
    assert!(!yard.worktree("fix").exists());
}

#[test]
fn work_that_the_target_has_already_is_landed_without_a_commit() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    yard.git.git(&yard.git.root, &["merge", "-q", "--no-ff", "-m", "by hand", "swarm/fix"]);
    let before = yard.head();
    let landed = yard.landed(&worker, &releasing());
    // The commit of somebody else is not the landing's.
    assert_eq!(landed.commit, landed.work);
    assert_eq!(
        landed.warnings,
        [format!("`main` had this work already and was not moved; it is at {}", before.short())]
    );
    assert_eq!((yard.head(), yard.state(&worker)), (before, TicketState::Landed));
    yard.assert_tidy();
}

#[test]
fn a_target_that_moves_during_the_gates_is_built_and_tested_again() {
    let yard = std::rc::Rc::new(Yard::new());
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let other = yard.git.branch("other", &[("b", "other\n")]);
    let theirs = std::rc::Rc::clone(&yard);
    crash::meanwhile("gates passed", move || {
        theirs.git.git(&theirs.git.root, &["merge", "-q", "--ff-only", other.as_str()]);
    });
    let landed = yard.landed(&worker, &LandOptions { gates: gates(&[("test", "cat b")]), ..releasing() });
    assert_eq!(landed.gates[0].output_tail, "other\n");
    assert_eq!(
        (yard.on_target("b"), yard.on_target("a")),
        ("other".to_owned(), with_line("a", 3, "fixed").trim_end().to_owned(),)
    );
    let told = yard.told.take();
    assert!(told.contains(&"rebuilding fix".to_owned()), "{told:?}");
    yard.assert_tidy();
}

#[test]
fn a_target_that_never_stands_still_makes_it_wait() {
    let yard = std::rc::Rc::new(Yard::new());
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let theirs = std::rc::Rc::clone(&yard);
    crash::meanwhile("gates passed", move || {
        theirs.git.write("b", "other\n");
        theirs.git.commit("somebody was faster");
    });
    let waiting = yard.waiting(&worker, &LandOptions { rebuilds: 0, ..releasing() });
    assert_eq!(waiting.reason, WaitingReason::TargetMoving);
    assert_eq!(yard.state(&worker), TicketState::Approved);
    yard.landed(&worker, &releasing());
    yard.assert_tidy();
}

#[test]
fn a_plan_says_what_would_happen_and_changes_nothing() {
    let yard = Yard::new();
    let one = yard.approved("one", &[("a", &with_line("a", 3, "one"))]);
    let two = yard.approved("two", &[("a", &with_line("a", 3, "two"))]);
    let three = yard.worker("three", &[("c", "three\n")]);
    let all = [one.clone(), two.clone(), three.clone()];
    let picture = |yard: &Yard| {
        let refs = yard.git.git(&yard.git.root, &["for-each-ref"]);
        let objects = yard.git.git(&yard.git.root, &["count-objects", "-v"]);
        (refs, objects, all.clone().map(|worker| yard.state(&worker)), yard.store.events_since(0, 1000).unwrap().len())
    };
    let before = picture(&yard);
    let planned = LandOptions { gates: gates(&[("test", "true")]), ..releasing() };
    let plans = yard.landing().plan(&all, &planned).unwrap();
    assert_eq!(picture(&yard), before);
    let Prospect::Land { tree, gates } = &plans[0].prospect else { panic!("{plans:?}") };
    assert_eq!((gates[0].name.as_str(), gates[0].is_remembered), ("test", false));
    let Prospect::Return(returned) = &plans[1].prospect else { panic!("{plans:?}") };
    assert_eq!(returned.files[0].path, "a");
    assert!(matches!(&plans[2].prospect, Prospect::Wait(waiting) if waiting.reason == WaitingReason::NotApproved));
    let landed = yard.landed(&one, &planned);
    assert_eq!(landed.tree, *tree);
}

#[test]
fn two_processes_take_turns() {
    let yard = Yard::new();
    let names = ["one", "two", "three", "four"];
    let files = ["a", "b", "c", "d"];
    let workers: Vec<_> =
        names.iter().zip(files).map(|(name, file)| yard.approved(name, &[(file, &with_line(file, 3, name))])).collect();
    std::thread::scope(|scope| {
        for pair in workers.chunks(2) {
            let landing = (yard.git.open(), yard.paths.clone());
            scope.spawn(move || {
                let (repository, paths) = landing;
                let store = crate::store::Store::open(&paths, crate::model::settings::Durability::Normal).unwrap();
                let store = std::sync::Arc::new(store);
                let queue = crate::queue::FileQueue::new(std::sync::Arc::clone(&store), "other");
                let run = crate::model::RunId::random();
                let (repository, store, paths) = (&repository, &store, &paths);
                let (remote, bundle_bytes, shared) = (None, u64::MAX, None);
                let landing =
                    Landing { repository, store, paths, queue: &queue, run: &run, remote, bundle_bytes, shared };
                for report in landing.land(pair, &releasing(), &mut |_| ()).unwrap() {
                    assert!(matches!(report.outcome, Ok(Outcome::Landed(_))), "{report:?}");
                }
            });
        }
    });
    for (name, file) in names.iter().zip(files) {
        assert_eq!(yard.on_target(file), with_line(file, 3, name).trim_end());
    }
    yard.assert_tidy();
}

#[test]
fn a_move_that_a_hook_refuses_is_taken_back() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let before = yard.head();
    let hook = yard.git.root.join(".git/hooks/reference-transaction");
    put(&hook, "#!/bin/sh\ngrep -q refs/heads/main && test \"$1\" = prepared && exit 1\nexit 0\n");
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let report = yard.land_all(std::slice::from_ref(&worker), &releasing()).remove(0);
    assert!(report.outcome.is_err(), "{report:?}");
    assert_eq!((yard.head(), yard.state(&worker)), (before, TicketState::Approved));
    yard.assert_tidy();
    std::fs::remove_file(&hook).unwrap();
    yard.landed(&worker, &releasing());
}

#[test]
fn commits_that_a_person_took_out_of_the_target_do_not_come_back() {
    let yard = Yard::new();
    for text in ["one", "two"] {
        yard.git.write("dropped", text);
        yard.git.commit(text);
    }
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    yard.git.git(&yard.git.root, &["reset", "-q", "--hard", "HEAD~2"]);
    let before = yard.head();
    let waiting = yard.waiting(&worker, &options());
    assert_eq!(waiting.reason, WaitingReason::TargetRewound);
    assert!(waiting.why.contains("back 2 commits"), "{}", waiting.why);
    assert_eq!((yard.head(), yard.state(&worker)), (before, TicketState::Approved));
    yard.git.git(&yard.git.root, &["reset", "-q", "--hard", "HEAD@{1}"]);
    yard.landed(&worker, &options());
}

#[test]
fn what_rebasing_as_it_is_told_leaves_behind_lands() {
    let yard = Yard::new();
    yard.git.write("dropped", "one");
    yard.git.commit("one");
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    yard.git.git(&yard.git.root, &["reset", "-q", "--hard", "HEAD~1"]);
    let why = yard.waiting(&worker, &options()).why;
    let command = why.split('`').find(|part| part.starts_with("git rebase")).unwrap();
    let words: Vec<_> = command.split(' ').skip(1).collect();
    yard.git.git(&yard.worktree("fix"), &words);
    assert_eq!(yard.waiting(&worker, &options()).reason, WaitingReason::ApprovalVoided);
    yard.landing().approve(&worker, verdict("Person")).unwrap();
    yard.landed(&worker, &options());
    assert!(!yard.git.root.join("dropped").exists());
}

#[test]
fn a_target_that_a_person_moves_back_during_the_gates_is_noticed() {
    let yard = std::rc::Rc::new(Yard::new());
    yard.git.write("dropped", "one");
    yard.git.commit("one");
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let theirs = std::rc::Rc::clone(&yard);
    crash::meanwhile("gates passed", move || {
        theirs.git.git(&theirs.git.root, &["reset", "-q", "--hard", "HEAD~1"]);
    });
    assert_eq!(yard.waiting(&worker, &options()).reason, WaitingReason::TargetRewound);
    assert_eq!(yard.state(&worker), TicketState::Approved);
    assert!(!yard.git.root.join("dropped").exists());
}

#[test]
fn a_commit_that_a_person_only_amended_stops_nothing() {
    let yard = Yard::new();
    let amend = |message: &str| yard.git.git(&yard.git.root, &["commit", "-q", "--amend", "-m", message]);
    yard.git.write("b", "changed\n");
    yard.git.commit("one");
    // Before the branch: nothing is based on the old one.
    yard.git.write("b", "changed again\n");
    yard.git.git(&yard.git.root, &["add", "b"]);
    amend("other content");
    let first = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    // After it: the target has the same change under another name.
    amend("other message");
    yard.landed(&first, &options());
    let second = yard.approved("more", &[("c", &with_line("c", 3, "fixed"))]);
    // This change is taken back in part, and the branch still has it whole.
    yard.git.write("d", "kept\n");
    yard.git.write("e", "secret\n");
    yard.git.commit("too much");
    let third = yard.approved("last", &[("c", &with_line("c", 9, "fixed"))]);
    yard.git.git(&yard.git.root, &["checkout", "-q", "HEAD~1", "--", "e"]);
    amend("less");
    yard.landed(&second, &options());
    assert_eq!(yard.waiting(&third, &options()).reason, WaitingReason::TargetRewound);
}

#[test]
fn work_whose_landing_a_person_took_back_lands_again() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    yard.landed(&worker, &options());
    yard.git.git(&yard.git.root, &["reset", "-q", "--hard", "HEAD~1"]);
    yard.publish_again(&worker);
    yard.landing().approve(&worker, verdict("Person")).unwrap();
    yard.landed(&worker, &options());
}

#[test]
fn a_submodule_commit_that_only_the_worktree_has_does_not_land() {
    let yard = Yard::new();
    let other = crate::git::fixture::Fixture::new();
    let allow = ["-c", "protocol.file.allow=always", "submodule", "--quiet"];
    yard.git.git(&yard.git.root, &[&allow[..], &["add", other.root.to_str().unwrap(), "lib"]].concat());
    yard.git.commit("submodule");
    let worker = yard.worker("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let worktree = yard.worktree("fix");
    yard.git.git(&worktree, &[&allow[..], &["update", "--init"]].concat());
    for (key, value) in [("user.name", "Person"), ("user.email", "person@example.org")] {
        yard.git.git(&worktree.join("lib"), &["config", key, value]);
    }
    put(&worktree.join("lib/new"), "x\n");
    yard.git.commit_in(&worktree.join("lib"), "only here");
    yard.git.commit_in(&worktree, "bump");
    yard.landing().approve(&worker, super::support::verdict("Person")).unwrap();
    let waiting = yard.waiting(&worker, &options());
    assert_eq!(waiting.reason, WaitingReason::StrandedSubmodule);
    assert!(waiting.why.contains("`lib`"), "{}", waiting.why);
    assert_eq!(yard.state(&worker), TicketState::Approved);
    yard.git.git(&worktree.join("lib"), &["push", "-q", "origin", "HEAD:refs/heads/pushed"]);
    yard.landed(&worker, &options());
}
