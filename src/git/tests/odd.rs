//! Cases that other tools lost work by and that belong to no single operation.

use std::fs;

use super::support::{TestRepo, branch, git_in, script, worker, write};
use crate::git::keep::KeptWork;
use crate::git::{GitError, Head};

#[test]
fn a_hostile_tree_cannot_write_into_the_git_folder() {
    let test = TestRepo::new();
    let blob = git_in(&test.root, &["rev-parse", "HEAD:README.md"]);
    for name in ["git~1", ".GIT", "x:y", "trail "] {
        let tree = test.repo.git(&test.root, ["mktree"]).stdin(format!("100644 blob {blob}\t{name}\n").into_bytes());
        let tree = tree.text().unwrap();
        let commit = git_in(&test.root, &["commit-tree", "-m", "hostile", &tree]);
        let mut plan = test.plan("hostile");
        plan.base = commit.parse().unwrap();
        // Whether git takes the name is git's to say; the fast checkout does not decide it.
        if let Ok(added) = test.repo.add_worktree(&plan) {
            assert!(!added.fast, "{name}");
        }
        test.repo.undo_add_worktree(&plan, &[]).unwrap();
    }
}

#[test]
fn replaced_objects_are_checked_out_as_git_shows_them() {
    let test = TestRepo::new();
    write(&test.root.join("other"), "replaced\n");
    let other = git_in(&test.root, &["hash-object", "-w", "other"]);
    let blob = git_in(&test.root, &["rev-parse", "HEAD:README.md"]);
    git_in(&test.root, &["replace", &blob, &other]);
    let place = test.add("one");
    assert_eq!(super::support::read(&place.join("README.md")), "replaced\n");
}

#[test]
fn branches_and_workers_that_begin_alike_stay_apart() {
    let test = TestRepo::new();
    for name in ["t-1", "t-12", "t-1.x"] {
        test.add(name);
        write(&test.place(name).join("work"), name);
    }
    let kept = test.keep("t-1").unwrap();
    test.repo.remove_worktree(&test.place("t-1"), &kept).unwrap();
    test.repo.delete_branch(&branch("swarm/t-1"), &kept).unwrap();
    assert!(test.place("t-12/work").exists() && test.place("t-1.x/work").exists());
    assert!(test.repo.branch_head(&branch("swarm/t-12")).unwrap().is_some());
    assert_eq!(test.repo.kept().unwrap().len(), 1);
}

#[test]
fn a_worktree_switched_to_another_branch_keeps_both() {
    let test = TestRepo::new();
    let place = test.add("one");
    write(&place.join("a"), "a");
    git_in(&place, &["add", "-A"]);
    git_in(&place, &["commit", "-qm", "a"]);
    git_in(&place, &["switch", "-q", "-c", "agents-own"]);
    write(&place.join("b"), "b");
    git_in(&place, &["add", "-A"]);
    git_in(&place, &["commit", "-qm", "b"]);
    let kept: KeptWork = test.keep("one").unwrap();
    assert_eq!(test.repo.commit_facts(kept.commit()).unwrap().parents.len(), 2);
    test.repo.remove_worktree(&place, &kept).unwrap();
    test.repo.delete_branch(&branch("swarm/one"), &kept).unwrap();
    assert!(test.repo.branch_head(&branch("agents-own")).unwrap().is_some(), "not recorded as ours");
}

#[test]
fn worktrees_are_listed_with_their_heads() {
    let test = TestRepo::new();
    test.add("one");
    let two = test.add("two");
    git_in(&two, &["switch", "-q", "--detach"]);
    git_in(&test.root, &["worktree", "lock", two.to_str().unwrap()]);
    let all = test.repo.worktrees().unwrap();
    let heads: Vec<_> = all.iter().map(|worktree| worktree.head.clone()).collect();
    let named = |name: &str| Head::Branch(branch(name));
    assert_eq!(heads, [named("main"), named("swarm/one"), Head::Detached(test.head())]);
    assert_eq!((all[0].path.as_path(), all[2].locked), (test.root.as_path(), true));
    // A half-written registration of somebody else is no worktree and no error.
    fs::create_dir(test.root.join(".git/worktrees/half")).unwrap();
    write(&test.root.join(".git/worktrees/stray"), "");
    assert_eq!(test.repo.worktrees().unwrap().len(), 3);
}

#[test]
fn two_processes_keeping_one_worker_get_one_reference() {
    let test = TestRepo::new();
    test.add("one");
    write(&test.place("one/work"), "x");
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..6).map(|_| scope.spawn(|| test.keep("one").unwrap())).collect();
        for kept in all {
            assert_eq!(kept.join().unwrap().keep_ref(), "refs/swarm/keep/one/1");
        }
    });
}

#[test]
fn a_half_written_registration_of_somebody_else_is_waited_out() {
    let test = TestRepo::new();
    let half = test.root.join(".git/worktrees/half");
    fs::create_dir_all(&half).unwrap();
    write(&half.join("gitdir"), test.place("half/.git").to_str().unwrap());
    write(&half.join("HEAD"), "ref: refs/heads/half\n");
    std::thread::scope(|scope| {
        let making = scope.spawn(|| test.repo.add_worktree(&test.plan("one")));
        std::thread::yield_now();
        write(&half.join("commondir"), "../..\n");
        making.join().unwrap().unwrap();
    });
    assert!(test.place("one/README.md").exists());
}

#[test]
fn a_hook_that_removes_the_worktree_is_an_error_and_not_the_main_worktree() {
    let test = TestRepo::new();
    script(&test.root.join(".git/hooks/post-checkout"), "rm -rf \"$PWD\"");
    let place = test.place("one");
    test.repo.add_worktree(&test.plan("one")).ok();
    assert!(!place.exists());
    let error = test.repo.snapshot(&place, &worker("one"), &[], false).unwrap_err();
    assert!(matches!(error, GitError::NotOurWorktree { .. }), "{error:?}");
    assert!(test.root.join("README.md").exists());
}
