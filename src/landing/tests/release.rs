//! Giving worktrees back, and bringing work back.

use super::support::{Yard, releasing};
use crate::files::FileLock;
use crate::git::fixture::{put, with_line};
use crate::git::{DiffOptions, RestoreTo, crash};
use crate::landing::LandingError;
use crate::model::Time;
use crate::model::ticket::TicketState;
use crate::model::worker::{Phase, SpawnStep};

#[test]
fn a_released_worker_leaves_everything_in_its_keep_ref() {
    let yard = Yard::new();
    let worker = yard.worker("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let work = yard.git.head("swarm/fix");
    put(&yard.worktree("fix").join("b"), "not committed\n");
    put(&yard.worktree("fix").join("new"), "untracked\n");
    // No process has such an id.
    let half_written = yard.paths.worker_dir(&worker).join(".swarm-999999999-half");
    put(&half_written, "");
    let released = yard.landing().release(&worker, "removed by a person").unwrap();
    assert!(!half_written.exists(), "what a killed supervisor was writing");
    assert!(!released.was_released && !yard.worktree("fix").exists());
    let kept = |path: &str| yard.git.git(&yard.git.root, &["show", &format!("{}:{path}", released.keep)]);
    assert_eq!((kept("b"), kept("new")), ("not committed".to_owned(), "untracked".to_owned()));
    assert!(yard.git.git(&yard.git.root, &["log", "--format=%H", &released.keep]).contains(work.as_str()));
    let again = yard.landing().release(&worker, "again").unwrap();
    assert_eq!((again.keep, again.was_released), (released.keep, true));
}

#[test]
fn a_supervised_worker_is_not_released() {
    let yard = Yard::new();
    let worker = yard.worker("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let lock = FileLock::wait(&yard.paths.supervisor_lock(&worker)).unwrap();
    let error = yard.landing().release(&worker, "x").unwrap_err();
    assert!(matches!(error, LandingError::IsSupervised(_)));
    assert!(yard.worktree("fix").exists());
    assert_eq!(yard.keep_refs(), "");
    drop(lock);
    yard.landing().release(&worker, "x").unwrap();
}

#[test]
fn a_worker_that_is_being_spawned_is_not_released_and_a_dead_spawn_holds_nothing() {
    let yard = Yard::new();
    let worker = yard.worker("fix", &[("a", &with_line("a", 3, "fixed"))]);
    // By a process that lives: this one. What counts is whether the spawn does.
    let spawner = crate::process::own_identity().unwrap();
    yard.store
        .update_worker::<LandingError>(&worker, |row| {
            let (step, since) = (SpawnStep::Session, Time::now());
            row.phase = Phase::Preparing { step, spawner, since, before: None, earlier: None };
            Ok(())
        })
        .unwrap();
    let lock = FileLock::wait(&yard.paths.spawn_lock(&worker)).unwrap();
    assert!(matches!(yard.landing().release(&worker, "x").unwrap_err(), LandingError::IsSupervised(_)));
    assert!(yard.worktree("fix").exists());
    drop(lock);
    yard.landing().release(&worker, "x").unwrap();
    assert!(!yard.worktree("fix").exists());
}

#[test]
fn when_the_work_cannot_be_kept_nothing_is_removed() {
    let yard = Yard::new();
    let worker = yard.worker("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let inner = yard.worktree("fix").join("inner");
    std::fs::create_dir_all(&inner).unwrap();
    yard.git.git(&inner, &["init", "-q"]);
    put(&inner.join("only here"), "x\n");
    assert!(yard.landing().release(&worker, "x").is_err());
    assert!(yard.worktree("fix").join("a").exists());
    assert_eq!(yard.git.head("swarm/fix").as_str().len(), 40);
    let stored = yard.store.worker(&worker).unwrap().unwrap();
    assert!(matches!(stored.phase, Phase::Ended { .. }));
}

#[test]
fn a_landing_that_cannot_release_still_lands_and_says_so() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let _lock = FileLock::wait(&yard.paths.supervisor_lock(&worker)).unwrap();
    let landed = yard.landed(&worker, &releasing());
    assert_eq!((landed.keep, yard.state(&worker)), (None, TicketState::Landed));
    assert!(landed.warnings[0].contains("the supervisor of worker `fix` is running"), "{:?}", landed.warnings);
    assert!(yard.worktree("fix").exists());
    assert_eq!(yard.store.intents().unwrap(), []);
}

#[test]
fn work_that_was_not_committed_does_not_land_unnoticed() {
    let yard = Yard::new();
    let worker = yard.approved("fix", &[("a", &with_line("a", 3, "fixed"))]);
    put(&yard.worktree("fix").join("forgotten"), "x\n");
    let landed = yard.landed(&worker, &releasing());
    assert!(landed.warnings[0].contains("was not committed"), "{:?}", landed.warnings);
    let kept = format!("{}:forgotten", landed.keep.unwrap());
    assert_eq!(yard.git.git(&yard.git.root, &["show", &kept]), "x");
}

/// Every point of a release in order.
const POINTS: [&str; 7] =
    ["kept", "trash recorded", "removal begun", "moved away", "worktree removed", "snapshots deleted", "removed"];

#[test]
fn a_release_cut_off_anywhere_is_finished_by_the_next() {
    for point in POINTS {
        let yard = Yard::new();
        let worker = yard.worker("fix", &[("a", &with_line("a", 3, "fixed"))]);
        // Older than what is kept.
        yard.repository.snapshot(&yard.worktree("fix"), &worker, &[], false).unwrap();
        put(&yard.worktree("fix").join("new"), "untracked\n");
        crash::arm(point);
        assert!(yard.landing().release(&worker, "x").is_err());
        assert!(crash::revive(), "{point}");
        let is_whole = yard.worktree("fix").join("a").exists() && yard.worktree("fix").join("new").exists();
        assert_eq!(is_whole, yard.worktree("fix").exists(), "{point}: there as a whole, or gone");
        // As the thread of a process that was killed leaves it: half deleted.
        for gone in yard.repository.dead_scratch().unwrap() {
            std::fs::remove_file(gone.join("1/new")).ok();
        }
        let released = yard.landing().release(&worker, "x").unwrap();
        assert!(!yard.worktree("fix").exists());
        assert_eq!(yard.git.git(&yard.git.root, &["worktree", "list"]).lines().count(), 1, "{point}");
        assert!(!yard.repository.common_dir().join("worktrees").exists(), "{point}: a registration is left");
        assert_eq!(yard.keep_refs(), released.keep, "{point}: one keep ref");
        let names = yard.git.git(&yard.git.root, &["ls-tree", "--name-only", &released.keep]);
        assert!(names.lines().any(|name| name == "new"), "{point}: {names}");
        assert!(matches!(yard.store.worker(&worker).unwrap().unwrap().phase, Phase::Released { .. }));
        assert_eq!(yard.repository.sweep_scratch().unwrap(), usize::from(point != "kept"), "{point}");
        yard.assert_tidy();
    }
}

#[test]
fn what_is_done_after_a_removal_that_never_began_is_kept_anew() {
    let yard = Yard::new();
    let worker = yard.worker("fix", &[("a", &with_line("a", 3, "fixed"))]);
    crash::arm("removal begun");
    assert!(yard.landing().release(&worker, "x").is_err());
    assert!(crash::revive());
    yard.repository.sweep_scratch().unwrap();
    put(&yard.worktree("fix").join("later"), "x\n");
    yard.repository.snapshot(&yard.worktree("fix"), &worker, &[], false).unwrap();
    let moved = yard.git.worktrees.join("moved");
    std::fs::rename(yard.worktree("fix"), &moved).unwrap();
    let released = yard.landing().release(&worker, "x").unwrap();
    let kept = format!("{}:later", released.keep);
    assert_eq!(yard.git.git(&yard.git.root, &["show", &kept]), "x");
    // Moved by hand, not removed: it is a working repository as before.
    assert_eq!(yard.git.git(&moved, &["status", "--porcelain"]), "?? later");
}

#[test]
fn kept_work_is_found_shown_and_brought_back() {
    let yard = Yard::new();
    let worker = yard.worker("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let work = yard.git.head("swarm/fix");
    put(&yard.worktree("fix").join("new"), "untracked\n");
    let released = yard.landing().release(&worker, "removed by a person").unwrap();
    let landing = yard.landing();
    let entry = landing.find_kept("fix").unwrap();
    assert_eq!(entry, landing.find_kept(&released.keep).unwrap());
    assert_eq!((entry.reason.as_str(), entry.has_uncommitted), ("removed by a person", true));
    assert!(matches!(landing.find_kept("nobody"), Err(LandingError::NothingKept(_))));
    let shown = String::from_utf8(landing.show_kept(&entry, &DiffOptions::default()).unwrap()).unwrap();
    assert!(shown.contains("+fixed") && shown.contains("+untracked"), "{shown}");
    let to = RestoreTo { branch: "back".parse().unwrap(), worktree: Some(yard.git.worktrees.join("back")) };
    let restored = landing.restore(&entry, &to).unwrap();
    assert_eq!((restored.head, yard.git.head("back")), (work.clone(), work));
    assert_eq!(yard.read(&yard.git.worktrees.join("back/new")), "untracked\n");
}

#[test]
fn a_branch_that_was_there_before_its_worker_stays() {
    let yard = Yard::new();
    let worker = yard.worker("fix", &[("a", &with_line("a", 3, "fixed"))]);
    let head = yard.git.head("swarm/fix");
    yard.store
        .update_worker::<crate::store::StoreError>(&worker, |row| {
            row.place.made_branch = false;
            Ok(())
        })
        .unwrap();
    yard.landing().release(&worker, "x").unwrap();
    assert!(!yard.worktree("fix").exists());
    assert_eq!(yard.git.head("swarm/fix"), head);
}

#[test]
fn a_missing_worktree_is_told_when_its_worker_is_released() {
    let yard = Yard::new();
    let worker = yard.worker("fix", &[("a", &with_line("a", 3, "fixed"))]);
    std::fs::remove_dir_all(yard.worktree("fix")).unwrap();
    let released = yard.landing().release(&worker, "x").unwrap();
    assert_eq!(released.missing, Some(crate::landing::Missing::CommitsOnly));
    assert!(!released.has_uncommitted);
}

#[test]
fn a_worker_whose_worktree_was_emptied_is_released_like_one_whose_worktree_is_missing() {
    let yard = Yard::new();
    let worker = yard.worker("fix", &[("a", &with_line("a", 3, "fixed"))]);
    std::fs::remove_dir_all(yard.worktree("fix")).unwrap();
    std::fs::create_dir(yard.worktree("fix")).unwrap();
    let released = yard.landing().release(&worker, "x").unwrap();
    assert_eq!(released.missing, Some(crate::landing::Missing::CommitsOnly));
    assert!(matches!(yard.store.worker(&worker).unwrap().unwrap().phase, Phase::Released { .. }));
    assert!(!yard.worktree("fix").exists());
    assert_eq!(yard.git.git(&yard.git.root, &["branch", "--list", "swarm/*"]), "");
}
