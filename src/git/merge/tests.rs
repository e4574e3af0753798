//! Merges against real git, whose own `git merge` is the judge.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use super::*;
use crate::git::fixture::{Fixture, put, with_line};

/// How commits are made here.
const COMMIT: Commit<'static> = Commit { message: "Land it\n\nSwarm-Ticket: x", timeout: Duration::from_secs(20) };

fn fs_write(path: &Path, bytes: &[u8]) {
    crate::files::write_atomically(path, bytes, crate::files::Access::Shared).unwrap();
}

fn built(built: Built) -> (CommitId, String) {
    let Built::New { commit, tree } = built else { panic!("{built:?}") };
    (commit, tree)
}

/// The files in which two commits do not fit.
fn conflicts(fixture: &Fixture, ours: &CommitId, theirs: &CommitId) -> Vec<ConflictFile> {
    let Forecast::Conflict { files, .. } = fixture.open().merge_pair(ours, theirs).unwrap() else { panic!() };
    files
}

#[test]
fn conflict_kinds_are_those_of_git() {
    let fixture = Fixture::new();
    fs_write(&fixture.root.join("bin"), b"\0one");
    fixture.write("gone", &"gone\n".repeat(30));
    fixture.write("mode", "x\n");
    fixture.write("renamed", &(0..40).map(|n| format!("r{n}\n")).collect::<String>());
    for n in 0..4 {
        fixture.write(&format!("dir/f{n}"), &format!("file {n}\n").repeat(9));
    }
    fixture.commit("more");
    let (x, y) = (fixture.worktree("x"), fixture.worktree("y"));
    put(&x.join("a"), &with_line("a", 5, "X"));
    put(&y.join("a"), &with_line("a", 5, "Y"));
    fs_write(&x.join("bin"), b"\0two");
    fs_write(&y.join("bin"), b"\0three");
    put(&x.join("both"), "X\n");
    put(&y.join("both"), "Y\n");
    put(&x.join("gone"), &"gone\n".repeat(29));
    std::fs::remove_file(y.join("gone")).unwrap();
    fixture.git(&x, &["mv", "renamed", "renamed-x"]);
    fixture.git(&y, &["mv", "renamed", "renamed-y"]);
    fixture.git(&x, &["mv", "dir", "moved"]);
    put(&y.join("dir/new"), "new\n");
    put(&x.join("link"), "file\n");
    symlink("a", y.join("link")).unwrap();
    put(&x.join("slot/inner"), "x\n");
    put(&y.join("slot"), "y\n");
    let (x, y) = (fixture.commit_in(&x, "x"), fixture.commit_in(&y, "y"));
    let conflicts = conflicts(&fixture, &x, &y);
    let found: Vec<_> = conflicts.iter().map(|file| (file.path.as_str(), file.kind.as_str())).collect();
    for expected in [
        ("a", "content"),
        ("bin", "binary"),
        ("both", "add_add"),
        ("gone", "modify_delete"),
        ("renamed", "rename_rename"),
        ("moved/new", "directory_rename"),
        ("link", "type"),
    ] {
        assert!(found.contains(&expected), "{expected:?} in {found:?}");
    }
    assert!(found.iter().any(|(path, kind)| path.starts_with("slot") && *kind == "file_directory"), "{found:?}");
}

#[test]
fn two_modes_for_one_new_file_are_a_mode_conflict() {
    let fixture = Fixture::new();
    let (x, y) = (fixture.worktree("x"), fixture.worktree("y"));
    put(&x.join("tool"), "same\n");
    put(&y.join("tool"), "same\n");
    std::fs::set_permissions(y.join("tool"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (x, y) = (fixture.commit_in(&x, "x"), fixture.commit_in(&y, "y"));
    assert_eq!(conflicts(&fixture, &x, &y), [ConflictFile { path: "tool".to_owned(), kind: ConflictKind::Mode }]);
}

#[test]
fn commits_without_common_ancestor_do_not_merge() {
    let fixture = Fixture::new();
    let tree = fixture.git(&fixture.root, &["write-tree"]);
    let orphan: CommitId = fixture.git(&fixture.root, &["commit-tree", "-m", "orphan", &tree]).parse().unwrap();
    let main = fixture.head("main");
    assert_eq!(fixture.open().merge_pair(&main, &orphan).unwrap(), Forecast::Unrelated);
    let missing = "1".repeat(40).parse().unwrap();
    assert!(fixture.open().merge_pair(&main, &missing).is_err());
    assert!(matches!(fixture.open().build_merge(&main, &orphan, &COMMIT).unwrap(), Built::Conflict { .. }));
}

#[test]
fn attributes_of_the_target_decide_the_merge() {
    let fixture = Fixture::bare();
    let folder = fixture.worktree("t");
    put(&folder.join(".gitattributes"), "log merge=union\n");
    put(&folder.join("log"), "start\n");
    let target = fixture.commit_in(&folder, "union");
    fixture.git(&fixture.root, &["update-ref", "refs/heads/main", target.as_str()]);
    let x = fixture.branch("x", &[("log", "start\nx\n")]);
    let y = fixture.branch("y", &[("log", "start\ny\n")]);
    assert!(matches!(fixture.open().build_merge(&x, &y, &COMMIT).unwrap(), Built::New { .. }));
}

#[test]
fn a_merge_commit_has_both_parents_and_the_tree_git_makes() {
    let fixture = Fixture::new();
    let work = fixture.branch("x", &[("a", &with_line("a", 2, "X"))]);
    fixture.write("a", &with_line("a", 18, "main"));
    let target = fixture.commit("main moves");
    let repository = fixture.open();
    let (commit, tree) = built(repository.build_merge(&target, &work, &COMMIT).unwrap());
    let parents = fixture.git(&fixture.root, &["log", "-1", "--format=%P %T %an", commit.as_str()]);
    assert_eq!(parents, format!("{target} {work} {tree} Person"));
    let message = fixture.git(&fixture.root, &["log", "-1", "--format=%B", commit.as_str()]);
    assert_eq!(message.trim_end(), "Land it\n\nSwarm-Ticket: x");
    fixture.git(&fixture.root, &["merge", "-q", "--no-ff", "-m", "by git", work.as_str()]);
    assert_eq!(fixture.git(&fixture.root, &["rev-parse", "HEAD^{tree}"]), tree);
    assert_eq!(repository.build_merge(&commit, &work, &COMMIT).unwrap(), Built::Nothing);
}

#[test]
fn a_squash_is_one_commit_by_the_works_author() {
    let fixture = Fixture::new();
    let path = fixture.worktree("x");
    put(&path.join("a"), &with_line("a", 2, "X"));
    fixture.git(&path, &["add", "-A"]);
    fixture.git(&path, &["commit", "-q", "-m", "one", "--author=Agent <agent@x>"]);
    put(&path.join("b"), "b\n");
    let work = fixture.commit_in(&path, "two");
    let target = fixture.head("main");
    let repository = fixture.open();
    let (commit, _) = built(repository.build_squash(&target, &work, &COMMIT).unwrap());
    let facts = fixture.git(&fixture.root, &["log", "-1", "--format=%P|%an|%cn|%B", commit.as_str()]);
    let trailer = "Co-authored-by: Person <person@example.org>";
    assert_eq!(facts.trim_end(), format!("{target}|Agent|Person|Land it\n\nSwarm-Ticket: x\n{trailer}"));
    assert_eq!(repository.build_squash(&commit, &work, &COMMIT).unwrap(), Built::Nothing);
}

#[test]
fn a_rebase_keeps_authors_dates_and_messages_and_drops_what_is_there_already() {
    let fixture = Fixture::new();
    let path = fixture.worktree("x");
    put(&path.join("a"), &with_line("a", 2, "X"));
    fixture.git(&path, &["add", "-A"]);
    let message = "one\n\nwith a body: é\n# not a comment";
    let date = "--date=1600000000 +0200";
    fixture.git(&path, &["commit", "-q", "--cleanup=verbatim", "-m", message, "--author=Agent <agent@x>", date]);
    put(&path.join("b"), "b\n");
    fixture.commit_in(&path, "also on main");
    put(&path.join("c"), "c\n");
    let work = fixture.commit_in(&path, "three");
    fixture.write("b", "b\n");
    let target = fixture.commit("main has b");
    let repository = fixture.open();
    let (commit, _) = built(repository.build_rebase(&target, &work, COMMIT.timeout).unwrap());
    let range = format!("{target}..{commit}");
    let facts = fixture.git(&fixture.root, &["log", "--format=%s %an %ad", "--date=raw", &range]);
    assert_eq!(facts, "three Person 1700000000 +0000\none Agent 1600000000 +0200");
    let first = fixture.git(&fixture.root, &["log", "-1", "--format=%B", &format!("{commit}~1")]);
    assert_eq!(first.trim_end(), message);
    // A branch that stands on the target already stays as it is.
    assert_eq!(built(repository.build_rebase(&target, &commit, COMMIT.timeout).unwrap()).0, commit);
    assert_eq!(repository.build_rebase(&commit, &commit, COMMIT.timeout).unwrap(), Built::Nothing);
}

#[test]
fn a_rebase_names_the_commit_that_does_not_fit() {
    let fixture = Fixture::new();
    let path = fixture.worktree("x");
    put(&path.join("b"), "b\n");
    fixture.commit_in(&path, "fits");
    put(&path.join("a"), &with_line("a", 2, "X"));
    let work = fixture.commit_in(&path, "does not");
    fixture.write("a", &with_line("a", 2, "main"));
    let target = fixture.commit("main moves");
    let Built::Conflict { files, commit, messages } =
        fixture.open().build_rebase(&target, &work, COMMIT.timeout).unwrap()
    else {
        panic!()
    };
    assert_eq!(files, [ConflictFile { path: "a".to_owned(), kind: ConflictKind::Content }]);
    assert_eq!(commit, Some(work));
    assert!(messages[0].contains("Merge conflict in a"), "{messages:?}");
}

#[test]
fn a_rebase_never_loses_what_a_merge_commit_changed() {
    let fixture = Fixture::new();
    let path = fixture.worktree("x");
    put(&path.join("b"), "b\n");
    fixture.commit_in(&path, "work");
    fixture.write("c", "c\n");
    let target = fixture.commit("main moves");
    fixture.git(&path, &["merge", "-q", "--no-commit", "main"]);
    put(&path.join("d"), "changed inside the merge\n");
    let evil = fixture.commit_in(&path, "merge main");
    assert!(matches!(fixture.open().build_rebase(&target, &evil, COMMIT.timeout).unwrap(), Built::Conflict { .. }));
    fixture.git(&path, &["checkout", "-q", "HEAD~1", "--", "d"]);
    // A merge that changes nothing of its own is left out.
    fixture.git(&path, &["reset", "-q", "--hard", "HEAD~1"]);
    fixture.git(&path, &["merge", "-q", "--no-edit", "main"]);
    let plain = fixture.head("x");
    let (commit, _) = built(fixture.open().build_rebase(&target, &plain, COMMIT.timeout).unwrap());
    assert_eq!(fixture.git(&fixture.root, &["log", "--format=%s", &format!("{target}..{commit}")]), "work");
}

/// Has every commit signed by a program that says it did.
fn sign_all(fixture: &Fixture) {
    let signer = fixture.worktrees.join("signer");
    put(&signer, "#!/bin/sh\ncat >/dev/null\necho '[GNUPG:] SIG_CREATED ' >&2\necho 'a signature'\n");
    std::fs::set_permissions(&signer, std::fs::Permissions::from_mode(0o755)).unwrap();
    fixture.git(&fixture.root, &["config", "commit.gpgSign", "true"]);
    fixture.git(&fixture.root, &["config", "gpg.program", signer.to_str().unwrap()]);
}

#[test]
fn signing_follows_the_persons_settings() {
    let fixture = Fixture::new();
    let work = fixture.branch("x", &[("b", "b\n")]);
    sign_all(&fixture);
    let (commit, _) = built(fixture.open().build_merge(&fixture.head("main"), &work, &COMMIT).unwrap());
    assert!(fixture.git(&fixture.root, &["cat-file", "commit", commit.as_str()]).contains("gpgsig a signature"));
}

#[test]
fn commits_made_without_a_process_are_those_the_program_makes() {
    let fixture = Fixture::new();
    let path = fixture.worktree("x");
    put(&path.join("b"), "b\n");
    fixture.git(&path, &["add", "-A"]);
    let date = "--date=1600000000 -0230";
    fixture.git(&path, &["commit", "-q", "-m", "one", "--author=Ägent <agent@x>", date]);
    let work = fixture.head("x");
    fixture.write("c", "c\n");
    let target = fixture.commit("main moves");
    let variables = ["GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"].map(|name| (name.into(), "1700000000 +0130".into()));
    let named = [("GIT_COMMITTER_NAME".into(), "Só mething".into())];
    let env: Vec<_> = fixture.open().program_env().iter().cloned().chain(variables).chain(named).collect();
    let by_program = Repository::discover_with(&fixture.root, env).unwrap();
    let in_process = by_program.clone().for_one_landing();
    assert!(in_process.in_process().is_some() && by_program.in_process().is_none());
    let message = Commit { message: "Land it\n\nwith é\n\nSwarm-Ticket: x\n\n", ..COMMIT };
    let merged = built(in_process.build_merge(&target, &work, &message).unwrap());
    assert_eq!(merged, built(by_program.build_merge(&target, &work, &message).unwrap()));
    let squashed = built(in_process.build_squash(&target, &work, &message).unwrap());
    assert_eq!(squashed, built(by_program.build_squash(&target, &work, &message).unwrap()));
    let rebased = built(in_process.build_rebase(&target, &work, COMMIT.timeout).unwrap());
    assert_eq!(rebased, built(by_program.build_rebase(&target, &work, COMMIT.timeout).unwrap()));
    let facts = fixture.git(&fixture.root, &["log", "-1", "--format=%an %ad %cn %cd", "--date=raw", merged.0.as_str()]);
    assert_eq!(facts, "Person 1700000000 +0130 Só mething 1700000000 +0130");
}

#[test]
fn signing_is_never_passed_over_in_a_landing() {
    let fixture = Fixture::new();
    let work = fixture.branch("x", &[("b", "b\n")]);
    sign_all(&fixture);
    let landing = fixture.open().for_one_landing();
    let (commit, _) = built(landing.build_merge(&fixture.head("main"), &work, &COMMIT).unwrap());
    assert!(fixture.git(&fixture.root, &["cat-file", "commit", commit.as_str()]).contains("gpgsig a signature"));
    fixture.git(&fixture.root, &["config", "--unset", "commit.gpgSign"]);
    fixture.git(&fixture.root, &["config", "user.useConfigOnly", "true"]);
    fixture.git(&fixture.root, &["config", "--unset", "user.email"]);
    let nobody = fixture.open().for_one_landing().build_merge(&fixture.head("main"), &work, &COMMIT);
    assert!(nobody.unwrap_err().to_string().contains("commit-tree"), "git says what is wrong");
}
