use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::support::{TestRepo, branch, git_in, git_raw, read, worker, write};
use crate::git::keep::KeptWork;
use crate::git::{GitError, RestoreTo};

fn refused<T: std::fmt::Debug>(result: Result<T, GitError>) -> String {
    let error = result.unwrap_err();
    assert!(matches!(error, GitError::Refused { .. }), "{error:?}");
    assert!(error.hint().is_some());
    error.to_string()
}

fn shown(test: &TestRepo, kept: &KeptWork, path: &str) -> Option<String> {
    test.show(kept.keep_ref(), path)
}

#[test]
fn kept_work_comes_back_as_it_was() {
    let test = TestRepo::new();
    let place = test.add("one");
    write(&place.join("done.txt"), "committed\n");
    git_in(&place, &["add", "-A"]);
    git_in(&place, &["commit", "-qm", "work"]);
    write(&place.join("README.md"), "uncommitted\n");
    write(&place.join("new file"), "untracked\n");
    fs::remove_file(place.join("src/main.rs")).unwrap();
    write(&place.join("noise.log"), "ignored\n");
    let status = git_in(&place, &["status", "--porcelain"]);
    let kept = test.keep("one").unwrap();
    assert_eq!(kept.keep_ref(), "refs/swarm/keep/one/1");
    test.repo.remove_worktree(&place, &kept).unwrap();
    test.repo.delete_branch(&branch("swarm/one"), &kept).unwrap();
    assert!(!place.exists());
    let entry = test.repo.kept().unwrap().remove(0);
    assert_eq!((entry.worker, entry.reason.as_str(), entry.files), (worker("one"), "test", 3));
    assert!(entry.has_uncommitted && entry.branch == branch("swarm/one"));
    let to = RestoreTo { branch: branch("back"), worktree: Some(test.place("back")) };
    let restored = test.repo.restore(kept.keep_ref(), &to).unwrap();
    assert!(restored.has_uncommitted);
    let back = test.place("back");
    assert_eq!(git_in(&back, &["status", "--porcelain"]), status);
    assert_eq!(read(&back.join("new file")), "untracked\n");
    assert_eq!(git_in(&back, &["log", "--format=%s"]), "work\nstart");
    // Nothing is overwritten, and what was kept stays kept.
    assert!(matches!(test.repo.restore(kept.keep_ref(), &to).unwrap_err(), GitError::PathTaken { .. }));
    let again = RestoreTo { branch: branch("back"), worktree: None };
    assert!(matches!(test.repo.restore(kept.keep_ref(), &again).unwrap_err(), GitError::BranchExists { .. }));
    refused(test.repo.restore("refs/heads/main", &RestoreTo { branch: branch("x"), worktree: None }));
    let only_branch = RestoreTo { branch: branch("back2"), worktree: None };
    test.repo.restore(kept.keep_ref(), &only_branch).unwrap();
    assert_eq!(test.repo.branch_head(&branch("back2")).unwrap(), Some(restored.head));
    assert_eq!(test.repo.kept().unwrap().len(), 1);
}

#[test]
fn the_same_state_is_kept_once_and_a_new_one_gets_a_new_number() {
    let test = TestRepo::new();
    let place = test.add("one");
    assert_eq!(test.keep("one").unwrap().keep_ref(), "refs/swarm/keep/one/1");
    assert_eq!(test.keep("one").unwrap().keep_ref(), "refs/swarm/keep/one/1");
    for number in 2..12 {
        write(&place.join("a"), &number.to_string());
        assert_eq!(test.keep("one").unwrap().keep_ref(), format!("refs/swarm/keep/one/{number}"));
    }
}

#[test]
fn a_change_after_keeping_stops_the_removal() {
    let test = TestRepo::new();
    let place = test.add("one");
    let kept = test.keep("one").unwrap();
    write(&place.join("late"), "x");
    assert!(refused(test.repo.remove_worktree(&place, &kept)).contains("changed"));
    git_in(&place, &["add", "-A"]);
    git_in(&place, &["commit", "-qm", "late"]);
    refused(test.repo.remove_worktree(&place, &kept));
    refused(test.repo.delete_branch(&branch("swarm/one"), &kept));
    assert!(place.join("late").exists());
    let kept = test.keep("one").unwrap();
    let error = test.repo.delete_branch(&branch("swarm/one"), &kept).unwrap_err();
    assert!(matches!(error, GitError::BranchInUse { .. }), "{error:?}");
    test.repo.remove_worktree(&place, &kept).unwrap();
    test.repo.delete_branch(&branch("swarm/one"), &kept).unwrap();
    test.repo.delete_branch(&branch("swarm/one"), &kept).unwrap();
    test.repo.remove_worktree(&place, &kept).unwrap();
    assert_eq!(shown(&test, &kept, "late").as_deref(), Some("x"));
}

#[test]
fn only_the_kept_worktree_and_branch_can_be_removed() {
    let test = TestRepo::new();
    test.add("one");
    test.add("two");
    let kept = test.keep("one").unwrap();
    refused(test.repo.remove_worktree(&test.place("two"), &kept));
    refused(test.repo.delete_branch(&branch("swarm/two"), &kept));
    refused(test.repo.delete_branch(&branch("main"), &kept));
    for path in [&test.root, &test.root.join("src"), &test.folder.path().to_owned(), &test.place("one/src")] {
        let error = test.repo.remove_worktree(path, &kept).unwrap_err();
        assert!(matches!(error, GitError::NotOurWorktree { .. }), "{error:?}");
    }
    git_in(&test.root, &["worktree", "lock", test.place("one").to_str().unwrap()]);
    refused(test.repo.remove_worktree(&test.place("one"), &kept));
    assert!(test.root.join("README.md").exists() && test.place("two/README.md").exists());
    let without_files = test.repo.keep(&worker("one"), None, &branch("swarm/one"), "test").unwrap();
    git_in(&test.root, &["worktree", "unlock", test.place("one").to_str().unwrap()]);
    refused(test.repo.remove_worktree(&test.place("one"), &without_files));
}

#[test]
fn a_conflict_half_resolved_is_kept_with_its_other_side() {
    let test = TestRepo::new();
    let place = test.add_with_half_a_merge("one");
    write(&place.join("README.md"), "half resolved\n");
    let kept = test.keep("one").unwrap();
    assert_eq!(shown(&test, &kept, "README.md").as_deref(), Some("half resolved\n"));
    let facts = test.repo.commit_facts(kept.commit()).unwrap();
    assert_eq!(facts.parents[1], test.head());
    assert_eq!(test.repo.kept().unwrap()[0].operation.as_deref(), Some("merge"));
    test.repo.remove_worktree(&place, &kept).unwrap();
}

#[test]
fn a_rebase_half_done_keeps_both_heads_and_the_autostash() {
    let test = TestRepo::new();
    let place = test.add("one");
    for name in ["a", "README.md"] {
        write(&place.join(name), "ours\n");
        git_in(&place, &["add", "-A"]);
        git_in(&place, &["commit", "-qm", name]);
    }
    let branch_head = git_in(&place, &["rev-parse", "HEAD"]);
    write(&test.root.join("README.md"), "theirs\n");
    test.git(&["commit", "-qam", "theirs"]);
    write(&place.join("src/main.rs"), "stashed\n");
    assert_ne!(git_raw(&place, test.folder.path(), &["rebase", "-q", "--autostash", "main"]).code(), 0);
    let head = git_in(&place, &["rev-parse", "HEAD"]);
    assert_eq!(test.repo.worktree_of_branch(&branch("swarm/one")).unwrap().as_deref(), Some(place.as_path()));
    let kept = test.keep("one").unwrap();
    let parents = test.repo.commit_facts(kept.commit()).unwrap().parents;
    assert_eq!((parents[0].as_str(), parents[1].as_str()), (branch_head.as_str(), head.as_str()));
    assert!(parents.iter().any(|parent| test.show(parent.as_str(), "src/main.rs").as_deref() == Some("stashed\n")));
    let error = test.repo.delete_branch(&branch("swarm/one"), &kept).unwrap_err();
    assert!(matches!(error, GitError::BranchInUse { .. }), "{error:?}");
}

#[test]
fn an_index_of_its_own_is_kept_too() {
    let test = TestRepo::new();
    let place = test.add("one");
    write(&place.join("README.md"), "staged\n");
    git_in(&place, &["add", "-A"]);
    write(&place.join("README.md"), "on disk\n");
    let kept = test.keep("one").unwrap();
    let parents = test.repo.commit_facts(kept.commit()).unwrap().parents;
    assert_eq!(test.show(parents[1].as_str(), "README.md").as_deref(), Some("staged\n"));
    assert_eq!(shown(&test, &kept, "README.md").as_deref(), Some("on disk\n"));
}

#[test]
fn a_detached_head_and_a_deleted_branch_lose_nothing() {
    let test = TestRepo::new();
    let place = test.add("one");
    git_in(&place, &["switch", "-q", "--detach"]);
    write(&place.join("a"), "detached\n");
    git_in(&place, &["add", "-A"]);
    git_in(&place, &["commit", "-qm", "detached"]);
    let head = git_in(&place, &["rev-parse", "HEAD"]);
    let kept = test.keep("one").unwrap();
    assert!(test.repo.commit_facts(kept.commit()).unwrap().parents.iter().any(|parent| parent.as_str() == head));
    let place = test.add("two");
    write(&place.join("b"), "committed\n");
    git_in(&place, &["add", "-A"]);
    git_in(&place, &["commit", "-qm", "b"]);
    let head = git_in(&place, &["rev-parse", "HEAD"]);
    test.git(&["update-ref", "-d", "refs/heads/swarm/two"]);
    write(&place.join("c"), "uncommitted\n");
    let kept = test.keep("two").unwrap();
    assert_eq!(kept.branch_head(), None);
    assert_eq!(shown(&test, &kept, "c").as_deref(), Some("uncommitted\n"));
    assert_eq!(test.repo.kept().unwrap()[0].head.as_str(), head);
    test.repo.remove_worktree(&place, &kept).unwrap();
}

#[test]
fn a_worktree_that_is_gone_leaves_branch_and_last_snapshot() {
    let test = TestRepo::new();
    let place = test.add("one");
    write(&place.join("a"), "unsaved but in a snapshot\n");
    test.snapshot("one");
    fs::remove_dir_all(&place).unwrap();
    let error = test.repo.add_worktree(&test.plan("one")).unwrap_err();
    assert!(matches!(error, GitError::Refused { .. }), "{error:?}");
    let kept = test.keep("one").unwrap();
    assert_eq!(shown(&test, &kept, "a").as_deref(), Some("unsaved but in a snapshot\n"));
    test.repo.remove_worktree(&place, &kept).unwrap();
    test.repo.delete_branch(&branch("swarm/one"), &kept).unwrap();
    test.repo.delete_snapshots(&kept).unwrap();
    assert!(test.repo.worktrees().unwrap().iter().all(|worktree| worktree.path != place));
    assert_eq!(test.repo.ref_commit("refs/swarm/wip/one").unwrap(), None);
    refused(test.keep("never"));
    test.add("one");
}

#[test]
fn an_old_snapshot_does_not_undo_newer_commits() {
    let test = TestRepo::new();
    let place = test.add("one");
    write(&place.join("a"), "old\n");
    let old = test.snapshot("one");
    write(&place.join("a"), "new\n");
    git_in(&place, &["add", "-A"]);
    git_in(&place, &["commit", "-qm", "new"]);
    fs::remove_dir_all(&place).unwrap();
    let kept = test.keep("one").unwrap();
    assert_eq!(shown(&test, &kept, "a").as_deref(), Some("new\n"));
    assert!(test.repo.commit_facts(kept.commit()).unwrap().parents.contains(&old.commit));
}

#[test]
fn a_nested_repository_with_work_stops_keeping() {
    let test = TestRepo::new();
    let place = test.add("one");
    let nested = place.join("vendor/dep");
    fs::create_dir_all(nested.parent().unwrap()).unwrap();
    git_in(&place, &["clone", "-q", test.root.to_str().unwrap(), "vendor/dep"]);
    test.keep("one").unwrap();
    write(&nested.join("README.md"), "work\n");
    refused(test.keep("one"));
    git_in(&nested, &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "only here"]);
    assert!(refused(test.keep("one")).contains("vendor/dep"));
    fs::remove_dir_all(&nested).unwrap();
    test.keep("one").unwrap();
}

#[test]
fn a_submodule_with_commits_of_its_own_stops_keeping() {
    let test = TestRepo::new();
    let other = TestRepo::new();
    let allow = ["-c", "protocol.file.allow=always", "submodule", "--quiet"];
    test.git(&[&allow[..], &["add", other.root.to_str().unwrap(), "lib"]].concat());
    test.git(&["commit", "-qm", "submodule"]);
    let place = test.add("one");
    git_in(&place, &[&allow[..], &["update", "--init"]].concat());
    let kept = test.keep("one").unwrap();
    write(&place.join("lib/README.md"), "dirty\n");
    refused(test.keep("one"));
    git_in(&place.join("lib"), &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "only here"]);
    refused(test.keep("one"));
    git_in(&place.join("lib"), &["reset", "-q", "--hard", "HEAD~1"]);
    test.repo.remove_worktree(&place, &kept).unwrap();
}

#[test]
fn a_worktree_that_lost_its_registration_is_never_touched() {
    let test = TestRepo::new();
    let place = test.add("one");
    let kept = test.keep("one").unwrap();
    let git_dir = test.repo.linked(&place).unwrap().git_dir().to_owned();
    fs::remove_dir_all(&git_dir).unwrap();
    let error = test.keep("one").unwrap_err();
    assert!(matches!(error, GitError::NotOurWorktree { .. }), "{error:?}");
    let error = test.repo.remove_worktree(&place, &kept).unwrap_err();
    assert!(matches!(error, GitError::NotOurWorktree { .. }), "{error:?}");
    assert!(place.join("README.md").exists());
}

#[test]
fn folders_that_forbid_writing_do_not_stop_a_removal() {
    let test = TestRepo::new();
    let place = test.add("one");
    write(&place.join("target/mod/cache/x"), "read-only module cache");
    for folder in ["target/mod/cache", "target/mod"] {
        fs::set_permissions(place.join(folder), fs::Permissions::from_mode(0o555)).unwrap();
    }
    let kept = test.keep("one").unwrap();
    test.repo.remove_worktree(&place, &kept).unwrap();
    assert!(!place.exists());
    assert_eq!(test.repo.worktrees().unwrap().len(), 1);
}

#[test]
fn work_that_cannot_be_saved_cannot_be_removed() {
    let test = TestRepo::new();
    let place = test.add("one");
    write(&place.join("a"), "work\n");
    // A file where the folder of the keep refs must be: no reference can be made.
    write(&test.root.join(".git/refs/swarm/keep"), "");
    assert!(test.keep("one").is_err());
    assert!(place.join("a").exists());
}

#[test]
fn a_worktree_that_was_moved_by_hand_stays_a_repository() {
    let test = TestRepo::new();
    let place = test.add("one");
    write(&place.join("a"), "committed\n");
    git_in(&place, &["add", "-A"]);
    git_in(&place, &["commit", "-qm", "work"]);
    let head = git_in(&place, &["rev-parse", "HEAD"]);
    write(&place.join("b"), "only there\n");
    let moved = test.place("elsewhere");
    fs::rename(&place, &moved).unwrap();
    let kept = test.keep("one").unwrap();
    assert!(kept.is_worktree_missing() && !kept.is_from_snapshot() && !kept.has_uncommitted());
    test.repo.remove_worktree(&place, &kept).unwrap();
    test.repo.delete_branch(&branch("swarm/one"), &kept).unwrap();
    assert_eq!(git_in(&moved, &["status", "--porcelain"]), "?? b");
    assert_eq!(git_in(&moved, &["rev-parse", "HEAD"]), head);
    git_in(&moved, &["worktree", "repair"]);
    assert!(test.git(&["worktree", "list"]).contains("elsewhere"));
    test.add("one");
}

#[test]
fn a_branch_deleted_under_its_worker_comes_back_at_its_last_commit() {
    for is_gone in [false, true] {
        let test = TestRepo::new();
        let place = test.add("one");
        write(&place.join("a"), "committed\n");
        git_in(&place, &["add", "-A"]);
        git_in(&place, &["commit", "-qm", "work"]);
        let head = git_in(&place, &["rev-parse", "HEAD"]);
        write(&place.join("b"), "not committed\n");
        test.snapshot("one");
        test.git(&["update-ref", "-d", "refs/heads/swarm/one"]);
        write(&place.join("c"), "not committed\n");
        test.snapshot("one");
        if is_gone {
            fs::remove_dir_all(&place).unwrap();
        }
        let kept = test.keep("one").unwrap();
        let entry = test.repo.kept().unwrap().remove(0);
        assert_eq!((entry.head.as_str(), entry.has_uncommitted), (head.as_str(), true));
        assert_eq!((kept.has_uncommitted(), kept.is_from_snapshot()), (true, is_gone));
    }
}

#[test]
fn work_beside_the_branch_comes_back_as_the_commits_it_was() {
    let test = TestRepo::new();
    let place = test.add("one");
    git_in(&place, &["switch", "-q", "--detach"]);
    write(&place.join("a"), "detached\n");
    git_in(&place, &["add", "-A"]);
    git_in(&place, &["commit", "-qm", "detached"]);
    let head = git_in(&place, &["rev-parse", "HEAD"]);
    test.keep("one").unwrap();
    let entry = test.repo.kept().unwrap().remove(0);
    assert_eq!((entry.head.as_str(), entry.has_uncommitted, entry.beside), (head.as_str(), false, None));
    git_in(&place, &["switch", "-q", "swarm/one"]);
    git_in(&place, &["commit", "-qm", "on the branch", "--allow-empty"]);
    let on_branch = git_in(&place, &["rev-parse", "HEAD"]);
    git_in(&place, &["switch", "-q", "--detach", &head]);
    test.keep("one").unwrap();
    let entry = test.repo.kept().unwrap().remove(0);
    assert_eq!(entry.head.as_str(), head);
    assert_eq!(entry.beside.unwrap().as_str(), on_branch);
}

#[test]
fn a_worktree_that_was_emptied_goes_like_one_that_is_gone() {
    let test = TestRepo::new();
    let place = test.add("one");
    write(&place.join("a"), "unsaved but in a snapshot\n");
    test.snapshot("one");
    fs::remove_dir_all(&place).unwrap();
    fs::create_dir(&place).unwrap();
    let kept = test.keep("one").unwrap();
    assert_eq!(shown(&test, &kept, "a").as_deref(), Some("unsaved but in a snapshot\n"));
    // Where a disk may be mounted, and where somebody has put something since, it stays.
    git_in(&test.root, &["worktree", "lock", place.to_str().unwrap()]);
    assert!(refused(test.repo.remove_worktree(&place, &kept)).contains("locked") && place.exists());
    git_in(&test.root, &["worktree", "unlock", place.to_str().unwrap()]);
    write(&place.join("late"), "x");
    assert!(test.repo.remove_worktree(&place, &kept).is_err() && place.join("late").exists());
    fs::remove_file(place.join("late")).unwrap();
    for _ in 0..2 {
        test.repo.remove_worktree(&place, &kept).unwrap();
        assert!(!place.exists());
    }
    test.repo.delete_branch(&branch("swarm/one"), &kept).unwrap();
    test.repo.delete_snapshots(&kept).unwrap();
    test.add("one");
}
