use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::support::{TestRepo, git_in, isolated, script, write};
use crate::git::{CommitOutcome, GitError, Operation};

/// Commits everything that is left.
fn commit(test: &TestRepo, place: &Path) -> Result<CommitOutcome, GitError> {
    let left = test.repo.leftovers(place, &[]).unwrap();
    test.repo.commit_leftovers(place, &left.files, "Leftovers\n\nbody", Duration::from_secs(30), None)
}

#[test]
fn leftovers_are_what_git_would_lose_and_set_up_did_not_make() {
    let test = TestRepo::new();
    let place = test.add("one");
    assert!(test.repo.leftovers(&place, &[]).unwrap().files.is_empty());
    write(&place.join("README.md"), "12345");
    write(&place.join("new file"), "123");
    write(&place.join("made/x"), "x");
    write(&place.join("noise.log"), "x");
    fs::remove_file(place.join("src/main.rs")).unwrap();
    git_in(&place, &["init", "-q", "nested"]);
    let left = test.repo.leftovers(&place, &["made".into()]).unwrap();
    let mut files = left.files.clone();
    files.sort();
    assert_eq!(files, ["README.md", "new file", "src/main.rs"].map(PathBuf::from));
    assert_eq!((left.bytes, left.nested), (8, vec![PathBuf::from("nested")]));
    let outcome = test.repo.commit_leftovers(&place, &left.files, "Rest\n", Duration::from_secs(30), None).unwrap();
    let CommitOutcome::Committed(id) = outcome else { panic!("{outcome:?}") };
    assert_eq!(git_in(&place, &["log", "-1", "--format=%H %an %s"]), format!("{id} Ann Rest"));
    assert_eq!(git_in(&place, &["status", "--porcelain"]), "?? made/\n?? nested/");
    assert_eq!(commit_nothing(&test, &place), CommitOutcome::Nothing);
}

fn commit_nothing(test: &TestRepo, place: &Path) -> CommitOutcome {
    test.repo.commit_leftovers(place, &[], "x", Duration::from_secs(30), None).unwrap()
}

#[test]
fn a_refusing_hook_is_told_apart_from_a_failure_of_git() {
    let test = TestRepo::new();
    let place = test.add("one");
    write(&place.join("a"), "a");
    let hook = test.root.join(".git/hooks/pre-commit");
    script(&hook, "git status >/dev/null; false; echo 'lint: ä is wrong' >&2; exit 1");
    let outcome = commit(&test, &place).unwrap();
    let CommitOutcome::HookRefused { hook: name, output } = outcome else { panic!("{outcome:?}") };
    assert_eq!((name.as_str(), output.trim()), ("pre-commit", "lint: ä is wrong"));
    fs::remove_file(&hook).unwrap();
    script(&test.root.join(".git/hooks/commit-msg"), "grep -q body \"$1\" && exit 1");
    assert!(matches!(commit(&test, &place).unwrap(), CommitOutcome::HookRefused { hook, .. } if hook == "commit-msg"));
    script(&test.root.join(".git/hooks/commit-msg"), "exit 0");
    git_in(&place, &["config", "commit.gpgSign", "true"]);
    git_in(&place, &["config", "gpg.program", "/nonexistent/gpg"]);
    let error = commit(&test, &place).unwrap_err();
    assert!(matches!(error, GitError::Failed { .. }), "{error:?}");
    git_in(&place, &["config", "commit.gpgSign", "false"]);
    assert!(matches!(commit(&test, &place).unwrap(), CommitOutcome::Committed(_)));
}

#[test]
fn a_hook_that_hangs_or_asks_is_ended() {
    let test = TestRepo::new();
    let place = test.add("one");
    write(&place.join("a"), "a");
    script(&test.root.join(".git/hooks/pre-commit"), "read answer; echo formatting; sleep 60");
    let started = Instant::now();
    let outcome = test.repo.commit_leftovers(&place, &["a".into()], "x", Duration::from_secs(1), None).unwrap();
    assert_eq!(outcome, CommitOutcome::TimedOut { output: "formatting\n".to_owned() });
    assert!(started.elapsed() < Duration::from_secs(20));
    script(&test.root.join(".git/hooks/pre-commit"), "exit 0");
    assert!(matches!(commit(&test, &place).unwrap(), CommitOutcome::Committed(_)));
}

#[test]
fn an_unfinished_merge_is_not_concluded() {
    let test = TestRepo::new();
    let place = test.add_with_half_a_merge("one");
    assert_eq!(commit(&test, &place).unwrap(), CommitOutcome::Unfinished(Operation::Merge));
}

#[test]
fn a_missing_identity_stops_before_anything_is_staged() {
    let test = TestRepo::new();
    let place = test.add("one");
    write(&place.join("a"), "a");
    test.git(&["config", "--unset", "user.name"]);
    test.git(&["config", "--unset", "user.email"]);
    test.git(&["config", "user.useConfigOnly", "true"]);
    assert!(matches!(commit(&test, &place).unwrap_err(), GitError::NoIdentity { .. }));
    assert_eq!(git_in(&place, &["diff", "--cached", "--name-only"]), "");
}

#[test]
fn hooks_get_the_given_environment() {
    let test = TestRepo::new();
    let place = test.add("one");
    script(&test.root.join(".git/hooks/pre-commit"), "env > seen.log");
    write(&place.join("a"), "a");
    let mut env = isolated(test.folder.path());
    env.push(("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into()));
    env.push(("SWARM_WORKER".into(), "one".into()));
    let outcome = test.repo.commit_leftovers(&place, &["a".into()], "x", Duration::from_secs(30), Some(&env));
    assert!(matches!(outcome.unwrap(), CommitOutcome::Committed(_)));
    let seen = super::support::read(&place.join("seen.log"));
    assert!(seen.contains("SWARM_WORKER=one") && !seen.contains("CARGO_MANIFEST_DIR"), "{seen}");
}
