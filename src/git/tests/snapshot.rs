use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::support::{TestRepo, branch, git_in, isolated, read, worker, write};
use crate::git::snapshot::UnsavedReason;
use crate::git::{GitError, Repository};

#[test]
fn a_snapshot_holds_all_that_is_not_ignored_and_touches_nothing() {
    let test = TestRepo::new();
    let place = test.add("one");
    write(&place.join("README.md"), "staged\n");
    git_in(&place, &["add", "README.md"]);
    write(&place.join("README.md"), "on disk\n");
    write(&place.join("new/ünï file.txt"), "new\n");
    write(&place.join("noise.log"), "ignored\n");
    fs::remove_file(place.join("src/main.rs")).unwrap();
    let index = test.repo.linked(&place).unwrap().index();
    let before = (fs::read(&index).unwrap(), fs::metadata(&index).unwrap().modified().unwrap());
    let snapshot = test.snapshot("one");
    assert!(snapshot.fresh && snapshot.dirty && snapshot.unsaved.is_empty());
    assert_eq!(snapshot.head, Some(test.head()));
    let at = snapshot.commit.as_str();
    assert_eq!(test.show(at, "README.md").as_deref(), Some("on disk\n"));
    assert_eq!(test.show(at, "new/ünï file.txt").as_deref(), Some("new\n"));
    assert_eq!((test.show(at, "noise.log"), test.show(at, "src/main.rs")), (None, None));
    assert_eq!(test.repo.ref_commit("refs/swarm/wip/one").unwrap(), Some(snapshot.commit.clone()));
    assert_eq!(git_in(&place, &["rev-parse", &format!("{at}^@")]), test.head().as_str());
    assert_eq!((fs::read(&index).unwrap(), fs::metadata(&index).unwrap().modified().unwrap()), before);
    assert_eq!(git_in(&place, &["diff", "--cached", "--name-only"]), "README.md");
    let changes = test.repo.changes(&test.head(), &snapshot).unwrap();
    assert_eq!((changes.files_changed, changes.insertions, changes.deletions), (3, 2, 2));
}

#[test]
fn an_unchanged_worktree_gets_no_new_snapshot() {
    let test = TestRepo::new();
    let place = test.add("one");
    let first = test.snapshot("one");
    assert!(first.fresh && !first.dirty);
    let again = test.snapshot("one");
    assert!(!again.fresh);
    assert_eq!(again.commit, first.commit);
    write(&place.join("a"), "1");
    let dirty = test.snapshot("one");
    assert!(dirty.fresh && dirty.dirty);
    assert!(!test.snapshot("one").fresh);
    write(&place.join("a"), "2");
    assert!(test.snapshot("one").fresh);
    fs::remove_file(place.join("a")).unwrap();
    let clean = test.snapshot("one");
    assert!(clean.fresh && !clean.dirty);
    write(&place.join("b"), "b");
    git_in(&place, &["add", "b"]);
    git_in(&place, &["commit", "-qm", "b"]);
    let committed = test.snapshot("one");
    assert!(committed.fresh && !committed.dirty);
    assert_eq!(test.repo.changes(&test.head(), &committed).unwrap().commits, 1);
    assert!(!test.repo.snapshot(&place, &worker("one"), &[], true).unwrap().fresh);
}

#[test]
fn made_paths_are_left_out_unless_tracked() {
    let test = TestRepo::new();
    let place = test.add("one");
    write(&place.join("made/x"), "x");
    write(&place.join("README.md"), "changed");
    let made = [PathBuf::from("made"), PathBuf::from("README.md")];
    let snapshot = test.repo.snapshot(&place, &worker("one"), &made, false).unwrap();
    assert_eq!(test.show(snapshot.commit.as_str(), "made/x"), None);
    assert_eq!(test.show(snapshot.commit.as_str(), "README.md").as_deref(), Some("changed"));
}

#[test]
fn nested_repositories_are_reported_and_not_embedded() {
    let test = TestRepo::new();
    let place = test.add("one");
    for nested in ["plain", "deep/with-commit"] {
        let nested = place.join(nested);
        fs::create_dir_all(&nested).unwrap();
        git_in(&nested, &["init", "-q"]);
        write(&nested.join("file"), "x");
    }
    super::support::first_commit(&place.join("deep/with-commit"));
    write(&place.join("deep/beside"), "x");
    let snapshot = test.snapshot("one");
    let mut paths: Vec<_> = snapshot.unsaved.iter().map(|unsaved| unsaved.path.display().to_string()).collect();
    paths.sort();
    assert_eq!(paths, ["deep/with-commit", "plain"]);
    assert!(snapshot.unsaved.iter().all(|unsaved| unsaved.why == UnsavedReason::NestedRepository));
    let listed = git_in(&place, &["ls-tree", "-r", snapshot.commit.as_str()]);
    assert!(!listed.contains("160000") && listed.contains("deep/beside"), "{listed}");
}

#[test]
fn a_merge_in_progress_and_a_locked_index_do_not_stop_it() {
    let test = TestRepo::new();
    let place = test.add_with_half_a_merge("one");
    let lock = test.repo.linked(&place).unwrap().git_dir().join("index.lock");
    write(&lock, "");
    let snapshot = test.snapshot("one");
    assert!(test.show(snapshot.commit.as_str(), "README.md").unwrap().contains("<<<<<<<"));
    assert!(lock.exists());
    assert_eq!(git_in(&place, &["ls-files", "--unmerged"]).lines().count(), 3);
}

#[test]
fn what_a_killed_snapshot_left_is_cleared() {
    let test = TestRepo::new();
    let place = test.add("one");
    test.snapshot("one");
    let index = test.repo.common_dir().join("swarm/workers/one/snapshot.index");
    write(&index.with_extension("index.lock"), "");
    write(&place.join("a"), "a");
    assert!(test.snapshot("one").fresh);
    write(&index, "torn");
    write(&place.join("a"), "b");
    let snapshot = test.snapshot("one");
    assert_eq!(test.show(snapshot.commit.as_str(), "a").as_deref(), Some("b"));
}

#[test]
fn files_that_change_their_kind_are_followed() {
    let test = TestRepo::new();
    let place = test.add("one");
    write(&place.join("x"), "file");
    test.snapshot("one");
    fs::remove_file(place.join("x")).unwrap();
    write(&place.join("x/inside"), "folder");
    fs::remove_file(place.join("README.md")).unwrap();
    write(&place.join("README.md/now a folder"), "folder");
    let snapshot = test.snapshot("one");
    assert_eq!(test.show(snapshot.commit.as_str(), "x/inside").as_deref(), Some("folder"));
    assert_eq!(test.show(snapshot.commit.as_str(), "README.md/now a folder").as_deref(), Some("folder"));
    fs::remove_dir_all(place.join("x")).unwrap();
    std::os::unix::fs::symlink("nowhere", place.join("x")).unwrap();
    let snapshot = test.snapshot("one");
    assert_eq!(test.show(snapshot.commit.as_str(), "x").as_deref(), Some("nowhere"));
}

#[test]
fn files_that_vanish_meanwhile_do_not_stop_it() {
    let test = TestRepo::new();
    let place = test.add("one");
    std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let churn = place.clone();
        scope.spawn(move || {
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                for number in 0..40 {
                    write(&churn.join(format!("t/{number}")), "x");
                }
                fs::remove_dir_all(churn.join("t")).unwrap();
            }
        });
        for _ in 0..15 {
            test.snapshot("one");
        }
        drop(stop);
    });
}

#[test]
fn a_file_that_cannot_be_read_is_reported() {
    let test = TestRepo::new();
    let place = test.add("one");
    write(&place.join("secret"), "x");
    write(&place.join("open"), "x");
    fs::set_permissions(place.join("secret"), fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser reads everything.
    let readable = fs::File::open(place.join("secret")).is_ok();
    let snapshot = test.snapshot("one");
    assert_eq!(snapshot.unsaved.len(), usize::from(!readable));
    assert!(test.show(snapshot.commit.as_str(), "open").is_some());
}

#[test]
fn a_deleted_branch_leaves_the_snapshots_tied_together() {
    let test = TestRepo::new();
    let place = test.add("one");
    write(&place.join("a"), "a");
    git_in(&place, &["add", "a"]);
    git_in(&place, &["commit", "-qm", "a"]);
    let first = test.snapshot("one");
    test.git(&["update-ref", "-d", "refs/heads/swarm/one"]);
    assert!(!test.snapshot("one").fresh);
    write(&place.join("b"), "b");
    let second = test.snapshot("one");
    assert_eq!(second.head, None);
    assert_eq!(test.repo.commit_facts(&second.commit).unwrap().parents, [first.commit]);
}

#[test]
fn a_folder_that_is_no_worktree_of_ours_is_refused() {
    let test = TestRepo::new();
    let place = test.add("one");
    let refused = |path: &std::path::Path| {
        let error = test.repo.snapshot(path, &worker("one"), &[], false).unwrap_err();
        assert!(matches!(error, GitError::NotOurWorktree { .. }), "{error:?}");
        error.to_string()
    };
    refused(&test.root);
    refused(&test.root.join("src"));
    refused(&place.join("src"));
    refused(test.folder.path());
    let other = TestRepo::new();
    refused(&other.add("one"));
    // A deleted worktree inside the main one: git would answer for the main one there.
    let mut plan = test.plan("two");
    plan.path = test.root.join("trees/two");
    let inside = test.repo.add_worktree(&plan).unwrap().path;
    fs::remove_file(inside.join(".git")).unwrap();
    refused(&inside);
    fs::remove_dir_all(&inside).unwrap();
    refused(&inside);
    // A copy of a worktree is not the worktree.
    fs::create_dir(test.place("copy")).unwrap();
    fs::copy(place.join(".git"), test.place("copy/.git")).unwrap();
    assert!(refused(&test.place("copy")).contains("registration"), "its registration is for the other one");
    assert_eq!(test.git(&["status", "--porcelain"]), "");
}

#[test]
fn sparse_worktrees_keep_what_is_not_checked_out() {
    let test = TestRepo::new();
    let place = test.add("one");
    test.snapshot("one");
    git_in(&place, &["sparse-checkout", "set", "--no-cone", "/README.md"]);
    assert!(!place.join("src/main.rs").exists());
    write(&place.join("README.md"), "sparse");
    let snapshot = test.snapshot("one");
    assert!(test.show(snapshot.commit.as_str(), "src/main.rs").is_some());
    assert_eq!(test.show(snapshot.commit.as_str(), "README.md").as_deref(), Some("sparse"));
}

#[test]
fn variants_of_a_ticket_have_references_of_their_own() {
    let test = TestRepo::new();
    let place = test.add("one");
    let snapshot = test.repo.snapshot(&place, &worker("fix.it+2"), &[], false).unwrap();
    assert_eq!(test.repo.ref_commit("refs/swarm/wip/fix.it+2").unwrap(), Some(snapshot.commit));
    let kept = test.repo.keep(&worker("fix.it+2"), Some(&place), &branch("swarm/one"), "test").unwrap();
    assert_eq!(kept.keep_ref(), "refs/swarm/keep/fix.it+2/1");
    let inside = Repository::discover_with(&place, isolated(test.folder.path())).unwrap();
    assert_eq!(inside.kept().unwrap()[0].worker, worker("fix.it+2"));
    assert_eq!(read(&place.join("README.md")), "hello\n");
}

#[test]
fn a_merge_that_is_unfinished_in_a_snapshot_is_unfinished_where_that_is_laid_out() {
    let test = TestRepo::new();
    let place = test.add_with_half_a_merge("one");
    let (ours, theirs) = (test.repo.resolve("swarm/one").unwrap().unwrap(), test.head());
    write(&place.join("README.md"), "half resolved\n");
    write(&place.join("new.txt"), "of the agent\n");
    fs::remove_file(place.join("src/main.rs")).unwrap();
    let snapshot = test.snapshot("one");
    let parents = || test.repo.commit_facts(&test.snapshot("one").commit).unwrap().parents;
    assert_eq!(parents(), [ours.clone(), theirs.clone()]);
    assert!(!test.snapshot("one").fresh);

    let elsewhere = test.add("two");
    git_in(&elsewhere, &["reset", "-q", "--hard", ours.as_str()]);
    test.repo.lay_out_work(&elsewhere, &ours, &snapshot.commit).unwrap();
    assert_eq!(test.repo.unmerged(&elsewhere).unwrap(), [PathBuf::from("README.md")]);
    assert_eq!(read(&elsewhere.join("README.md")), "half resolved\n");
    let status = |place: &std::path::Path| git_in(place, &["status", "--porcelain"]);
    assert_eq!(status(&elsewhere), status(&place));
    git_in(&elsewhere, &["add", "-A"]);
    git_in(&elsewhere, &["commit", "-q", "--no-edit"]);
    assert_eq!(git_in(&elsewhere, &["rev-parse", "HEAD^1", "HEAD^2"]), format!("{ours}\n{theirs}"));
    assert_eq!(git_in(&elsewhere, &["rev-parse", "HEAD^{tree}"]), snapshot.tree);

    // Concluded where it was begun, it is over in the next snapshot, though no file changes.
    git_in(&place, &["add", "-A"]);
    git_in(&place, &["commit", "-q", "--no-edit"]);
    let concluded = test.snapshot("one");
    assert!(concluded.fresh && !concluded.dirty);
    assert_eq!(parents().len(), 1);
}
