//! What counts as a worktree that holds its commit and nothing else.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::support::{TestRepo, branch, git_in, write};
use crate::git::pristine::By;

/// Whether it is proven of a worker's worktree, by both kinds of look; they must agree unless only dates changed.
fn is_proven(test: &TestRepo, name: &str, by: By) -> bool {
    let linked = test.repo.linked(&test.place(name)).unwrap();
    let found = test.repo.pristine(&linked, by).unwrap();
    if let Some((state, tree)) = &found {
        let place = test.place(name);
        assert_eq!(git_in(&place, &["status", "--porcelain", "--ignored", "--untracked-files=all"]), "");
        assert_eq!(*tree, git_in(&place, &["rev-parse", "HEAD^{tree}"]));
        assert_eq!(state.head.as_ref().map(ToString::to_string), Some(git_in(&place, &["rev-parse", "HEAD"])));
        assert!(state.entries.is_empty());
    }
    found.is_some()
}

#[test]
fn a_fresh_worktree_and_one_with_commits_of_its_own_hold_nothing_else() {
    let test = TestRepo::new();
    let place = test.add("one");
    assert!(is_proven(&test, "one", By::Dates) && is_proven(&test, "one", By::Content));
    write(&place.join("deep/er/new.txt"), "new\n");
    symlink("new.txt", place.join("deep/er/link")).unwrap();
    write(&place.join("run.sh"), "x\n");
    fs::set_permissions(place.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(!is_proven(&test, "one", By::Content));
    git_in(&place, &["add", "-A"]);
    assert!(!is_proven(&test, "one", By::Content), "staged is not committed");
    git_in(&place, &["commit", "-qm", "work"]);
    assert!(is_proven(&test, "one", By::Content));
    let linked = test.repo.linked(&place).unwrap();
    assert_eq!(test.repo.pristine(&linked, By::Content).unwrap().unwrap().0.branch, Some(branch("swarm/one")));
    git_in(&place, &["checkout", "-q", "--detach"]);
    assert!(is_proven(&test, "one", By::Content));
}

#[test]
fn anything_besides_the_commit_is_left_to_git() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 13] = [
        ("untracked", |place| write(&place.join("new"), "x")),
        ("ignored", |place| write(&place.join("noise.log"), "x")),
        ("in an ignored folder", |place| write(&place.join("target/deep/x"), "x")),
        ("an empty folder", |place| fs::create_dir(place.join("empty")).unwrap()),
        ("another content", |place| write(&place.join("README.md"), "hellO\n")),
        ("another mode", |place| {
            fs::set_permissions(place.join("README.md"), fs::Permissions::from_mode(0o755)).unwrap();
        }),
        ("a link in its place", |place| {
            fs::remove_file(place.join("README.md")).unwrap();
            symlink("src/main.rs", place.join("README.md")).unwrap();
        }),
        ("gone", |place| fs::remove_file(place.join("README.md")).unwrap()),
        ("a nested repository", |place| drop(git_in(place, &["init", "-q", "inner"]))),
        ("a path that the index says to pass over", |place| {
            git_in(place, &["update-index", "--assume-unchanged", "README.md"]);
            write(&place.join("README.md"), "hellO\n");
        }),
        ("a path that is said not to be there", |place| {
            git_in(place, &["update-index", "--skip-worktree", "README.md"]);
            fs::remove_file(place.join("README.md")).unwrap();
        }),
        ("a removal that is staged", |place| drop(git_in(place, &["rm", "-q", "--cached", "README.md"]))),
        ("a name that is to be added", |place| {
            write(&place.join("new"), "");
            git_in(place, &["add", "--intent-to-add", "new"]);
        }),
    ];
    let test = TestRepo::new();
    for (number, (what, change)) in changes.into_iter().enumerate() {
        let name = format!("w{number}");
        change(&test.add(&name));
        assert!(!is_proven(&test, &name, By::Content), "{what}");
        assert!(!is_proven(&test, &name, By::Dates), "{what}");
    }
    test.add_with_half_a_merge("half");
    assert!(!is_proven(&test, "half", By::Content));
}

#[test]
fn a_change_that_keeps_size_and_date_is_seen() {
    let test = TestRepo::new();
    let file = test.add("one").join("README.md");
    let before = fs::metadata(&file).unwrap().modified().unwrap();
    // In place, in the moment in which the index was written, with the old date put back.
    fs::OpenOptions::new()
        .write(true)
        .open(&file)
        .and_then(|mut file| std::io::Write::write_all(&mut file, b"hellO"))
        .unwrap();
    File::options().write(true).open(&file).unwrap().set_modified(before).unwrap();
    let linked = test.repo.linked(&test.place("one")).unwrap();
    assert!(test.repo.pristine(&linked, By::Content).unwrap().is_none());
}

#[test]
fn a_file_that_was_only_touched_is_the_same_by_its_content() {
    let test = TestRepo::new();
    let file = test.add("one").join("README.md");
    File::options().write(true).open(&file).unwrap().set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    // In this order: where it is proven git is asked as well, and then writes the new dates down.
    assert!(!is_proven(&test, "one", By::Dates) && is_proven(&test, "one", By::Content));
}

#[test]
fn an_index_that_git_wrote_in_another_form_is_read_or_left_to_git() {
    for args in [["update-index", "--index-version", "4"], ["update-index", "--split-index", "--refresh"]] {
        let test = TestRepo::new();
        let place = test.add("one");
        git_in(&place, &args);
        write(&place.join("new"), "x");
        assert!(!is_proven(&test, "one", By::Content), "{args:?}");
        fs::remove_file(place.join("new")).unwrap();
        // Checks itself against git where it is proven.
        is_proven(&test, "one", By::Content);
    }
}

#[test]
fn a_kept_worktree_that_changed_before_its_removal_stays() {
    let test = TestRepo::new();
    let place = test.add("one");
    let kept = test.keep("one").unwrap();
    write(&place.join("late"), "x");
    assert!(test.repo.remove_worktree(&place, &kept).unwrap_err().to_string().contains("something changed"));
    assert!(place.join("late").exists());
    fs::remove_file(place.join("late")).unwrap();
    test.repo.remove_worktree(&place, &kept).unwrap();
    assert!(!place.exists());
}
