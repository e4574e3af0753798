use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::support::{TestRepo, git_in, read, write};
use crate::git::GitError;
use crate::git::copy::Copied;

fn copy(test: &TestRepo, patterns: &[&str]) -> Copied {
    let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
    test.repo.copy_ignored(&test.root, &test.place("one"), &patterns).unwrap()
}

fn paths(of: &[&str]) -> Vec<PathBuf> {
    of.iter().map(PathBuf::from).collect()
}

#[test]
fn ignored_files_that_match_are_copied_and_nothing_else() {
    let test = TestRepo::new();
    let place = test.add("one");
    write(&test.root.join(".env"), "SECRET=1\n");
    fs::set_permissions(test.root.join(".env"), fs::Permissions::from_mode(0o640)).unwrap();
    write(&test.root.join("src/.env"), "INNER=1\n");
    write(&test.root.join("a.log"), "log\n");
    write(&test.root.join("untracked.txt"), "not ignored\n");
    write(&test.root.join("README.md"), "changed, tracked\n");
    write(&test.root.join("target/debug/deep/x"), "built\n");
    symlink("/etc/hostname", test.root.join("target/link")).unwrap();
    assert_eq!(copy(&test, &[]), Copied::default());
    let copied = copy(&test, &[".env", "*.md", "untracked.txt"]);
    assert_eq!((copied.made, copied.skipped), (paths(&[".env", "src/.env"]), vec![]));
    assert_eq!(read(&place.join("src/.env")), "INNER=1\n");
    assert_eq!(fs::metadata(place.join(".env")).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(read(&place.join("README.md")), "hello\n");
    assert!(!place.join("a.log").exists() && !place.join("untracked.txt").exists());
    write(&test.root.join(".worktreeinclude"), "# build\ntarget/\n");
    assert_eq!(copy(&test, &[]).made, paths(&["target"]));
    assert_eq!(read(&place.join("target/debug/deep/x")), "built\n");
    assert_eq!(fs::read_link(place.join("target/link")).unwrap(), Path::new("/etc/hostname"));
    assert_eq!(git_in(&place, &["status", "--porcelain"]), "");
}

#[test]
fn a_pattern_with_a_slash_reaches_into_ignored_folders() {
    let test = TestRepo::new();
    let place = test.add("one");
    write(&test.root.join("target/config/local.yml"), "x\n");
    write(&test.root.join("target/big/file"), "x\n");
    assert_eq!(copy(&test, &["local.yml"]).made, paths(&[]));
    assert_eq!(copy(&test, &["target/config/*.yml"]).made, paths(&["target/config/local.yml"]));
    assert!(!place.join("target/big").exists());
}

#[test]
fn what_is_there_stays_and_the_way_never_leaves_the_worktree() {
    let test = TestRepo::new();
    let place = test.add("one");
    write(&place.join(".env"), "MINE\n");
    write(&test.root.join(".env"), "THEIRS\n");
    let outside = test.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, place.join("lib")).unwrap();
    write(&test.root.join("lib/.env"), "x\n");
    let copied = copy(&test, &[".env"]);
    assert_eq!(copied.made, paths(&[]));
    assert_eq!(copied.skipped.len(), 2);
    assert_eq!(read(&place.join(".env")), "MINE\n");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn git_folders_and_worktrees_are_never_copied() {
    let test = TestRepo::new();
    write(&test.root.join(".gitignore"), "/trees/\n/target/\n");
    let mut plan = test.plan("one");
    plan.path = test.root.join("trees/one");
    test.repo.add_worktree(&plan).unwrap();
    let place = test.add("one-more");
    write(&test.root.join("trees/note.txt"), "x\n");
    write(&test.root.join("target/x"), "x\n");
    git_in(&test.root.join("target"), &["init", "-q", "nested"]);
    let copied = test.repo.copy_ignored(&test.root, &place, &["trees/".to_owned(), "target".to_owned()]).unwrap();
    assert_eq!(copied.made, paths(&["target", "trees"]));
    assert!(!place.join("trees/one").exists());
    assert!(place.join("target/nested").exists() && !place.join("target/nested/.git").exists());
}

#[test]
fn a_bad_pattern_is_an_error() {
    let test = TestRepo::new();
    test.add("one");
    let error = test.repo.copy_ignored(&test.root, &test.place("one"), &["[z-a]".to_owned()]).unwrap_err();
    assert!(matches!(error, GitError::Pattern { .. }), "{error:?}");
}
