//! Locks that a killed git command left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::support::{TestRepo, branch, git_in, isolated, script, worker, write};
use crate::process::{command, spawn};

/// A worktree and where locks on its index, its head, git's upkeep and its branch lie.
fn worktree() -> (TestRepo, PathBuf, [PathBuf; 4]) {
    let test = TestRepo::new();
    let place = test.add("one");
    let git_dir = test.repo.linked(&place).unwrap().git_dir().to_owned();
    let branch = git_in(&place, &["symbolic-ref", "HEAD"]);
    let branch = test.repo.common_dir().join(format!("{branch}.lock"));
    let upkeep = test.repo.common_dir().join("objects/maintenance.lock");
    (test, place, [git_dir.join("index.lock"), git_dir.join("HEAD.lock"), upkeep, branch])
}

fn commit(place: &Path) {
    write(&place.join("new.txt"), "new\n");
    git_in(place, &["add", "-A"]);
    git_in(place, &["commit", "-q", "-m", "New"]);
}

#[test]
fn locks_of_the_dead_go_and_git_works_again() {
    let (test, place, locks) = worktree();
    locks.iter().for_each(|lock| write(lock, ""));
    test.repo.drop_dead_locks(&place).unwrap();
    assert!(locks.iter().all(|lock| !lock.exists()));
    commit(&place);
    test.repo.drop_dead_locks(&place).unwrap();
}

#[test]
fn references_of_ours_are_moved_and_deleted_past_the_locks_of_the_dead() {
    let (test, place, [.., branch_lock]) = worktree();
    write(&place.join("new.txt"), "new\n");
    let lock = |name: &str| write(&test.repo.common_dir().join(format!("{name}.lock")), "");
    lock("refs/swarm/wip/one");
    let snapshot = test.snapshot("one");
    assert_eq!(test.repo.ref_commit("refs/swarm/wip/one").unwrap(), Some(snapshot.commit));
    lock("refs/swarm/keep/one/1");
    let kept = test.repo.keep(&worker("one"), Some(&place), &branch("swarm/one"), "test").unwrap();
    test.repo.remove_worktree(&place, &kept).unwrap();
    write(&branch_lock, "");
    lock("refs/swarm/wip/one");
    test.repo.delete_branch(&branch("swarm/one"), &kept).unwrap();
    test.repo.delete_snapshots(&kept).unwrap();
    assert_eq!(git_in(&test.root, &["for-each-ref", "--format=%(refname)", "refs/heads/swarm", "refs/swarm/wip"]), "");
    // Killed between the deletion and the end of its lock.
    write(&branch_lock, "");
    lock("refs/swarm/wip/one");
    test.repo.delete_branch(&branch("swarm/one"), &kept).unwrap();
    test.repo.delete_snapshots(&kept).unwrap();
    let mut left = fs::read_dir(test.repo.common_dir().join("refs/swarm/wip")).into_iter().flatten().flatten();
    assert_eq!((left.next().map(|entry| entry.path()), branch_lock.exists()), (None, false));
    lock("refs/notes/swarm");
    test.repo.add_note(&test.head(), "evidence").unwrap();
    assert_eq!(git_in(&test.root, &["notes", "--ref=swarm", "show"]), "evidence");
}

#[test]
fn a_worktree_that_was_killed_as_its_branch_was_made_is_undone_with_the_lock_of_that() {
    let test = TestRepo::new();
    let plan = test.plan("one");
    let lock = test.repo.common_dir().join(format!("refs/heads/{}.lock", plan.branch));
    write(&lock, "");
    test.repo.undo_add_worktree(&plan, &[]).unwrap();
    assert!(!lock.exists());
    // Or as it was deleted again.
    test.repo.add_worktree(&plan).unwrap();
    write(&lock, "");
    test.repo.undo_add_worktree(&plan, &[]).unwrap();
    assert!(!lock.exists() && test.repo.branch_head(&plan.branch).unwrap().is_none());
}

#[test]
fn a_lock_that_a_process_has_open_stays() {
    let (test, place, locks) = worktree();
    for lock in &locks {
        write(lock, "");
        let held = fs::File::open(lock).unwrap();
        test.repo.drop_dead_locks(&place).unwrap();
        assert!(lock.exists(), "{}", lock.display());
        drop(held);
        test.repo.drop_dead_locks(&place).unwrap();
        assert!(!lock.exists());
    }
}

#[test]
fn the_lock_of_a_commit_whose_message_is_being_written_stays() {
    let (test, place, [index, ..]) = worktree();
    write(&place.join("README.md"), "changed\n");
    let editor = test.folder.path().join("editor");
    let (open, done) = (test.folder.path().join("open"), test.folder.path().join("done"));
    let wait = format!(
        "touch '{}'; while [ ! -e '{}' ]; do sleep 0.01; done; echo Changed > \"$1\"",
        open.display(),
        done.display()
    );
    script(&editor, &wait);
    let mut git = command("git");
    git.args(["commit", "-q", "-a"])
        .current_dir(&place)
        .envs(isolated(test.folder.path()))
        .env("GIT_EDITOR", format!("'{}'", editor.display()));
    let mut git = spawn(git.stdin(Stdio::null()).stdout(Stdio::null())).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !open.exists() {
        assert!(Instant::now() < deadline, "the editor does not open");
        std::thread::yield_now();
    }
    assert!(index.exists());
    test.repo.drop_dead_locks(&place).unwrap();
    assert!(index.exists(), "a person is writing their message");
    write(&done, "");
    assert!(git.wait().unwrap().success());
    assert_eq!(git_in(&place, &["log", "-1", "--format=%s"]), "Changed");
}
