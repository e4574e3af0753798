//! States after tool calls, and going back to them.

use std::fs;

use super::support::{TestRepo, branch, git_in, git_raw, read, worker, write};
use crate::git::keep::KeptWork;
use crate::git::{GitError, RewindTo, StateOf, crash};
use crate::model::CommitId;

/// Saves the present state as that after the call `end`.
fn record(test: &TestRepo, end: u64) -> bool {
    let snapshot = test.snapshot("one");
    let of = StateOf::Calls { first: end, last: end };
    test.repo.record_state(&worker("one"), &snapshot, of, 100).unwrap()
}

/// Where the state after a call is.
fn goal(test: &TestRepo, end: u64) -> RewindTo {
    let states = test.repo.call_states(&worker("one")).unwrap();
    let state = states.after(end).unwrap().clone();
    RewindTo { head: state.head.unwrap(), files: state.snapshot }
}

/// Everything that git and a person see of a worktree.
fn picture(test: &TestRepo) -> (String, String, Option<String>, Option<String>) {
    let place = test.place("one");
    let text = |name: &str| fs::read_to_string(place.join(name)).ok();
    let status = git_in(&place, &["status", "--porcelain", "--branch"]);
    (status, git_in(&place, &["log", "--format=%s"]), text("README.md"), text("new file"))
}

fn rewind(test: &TestRepo, kept: &KeptWork, to: &RewindTo) -> Result<usize, GitError> {
    test.repo.rewind(&test.place("one"), kept, to, &[])
}

/// A worker with three states: a change and a new file, a commit of both, and a rewrite that also deletes.
fn with_states() -> TestRepo {
    let test = TestRepo::new();
    let place = test.add("one");
    write(&place.join("README.md"), "first\n");
    write(&place.join("new file"), "untracked\n");
    assert!(record(&test, 2));
    git_in(&place, &["add", "-A"]);
    git_in(&place, &["commit", "-qm", "work"]);
    assert!(record(&test, 4));
    write(&place.join("README.md"), "second\n");
    fs::remove_file(place.join("new file")).unwrap();
    write(&place.join("later/deep.txt"), "later\n");
    assert!(record(&test, 6));
    test
}

#[test]
fn each_state_comes_back_as_it_was_and_forward_again() {
    let test = with_states();
    let end = picture(&test);
    let back = |to: u64| {
        let kept = test.keep("one").unwrap();
        rewind(&test, &kept, &goal(&test, to)).unwrap();
        kept
    };
    let kept = back(2);
    let (status, log, readme, new) = picture(&test);
    assert_eq!(status, "## swarm/one\n M README.md\n?? \"new file\"");
    assert_eq!((log.as_str(), readme.as_deref(), new.as_deref()), ("start", Some("first\n"), Some("untracked\n")));
    assert!(!test.place("one").join("later").exists());
    assert_eq!(test.show(kept.keep_ref(), "later/deep.txt").as_deref(), Some("later\n"));
    back(4);
    assert_eq!(picture(&test).0, "## swarm/one");
    assert_eq!(picture(&test).1, "work\nstart");
    back(6);
    assert_eq!(picture(&test), end);
    // A snapshot after it sees what is there, not what was there.
    assert_eq!(test.show(test.snapshot("one").commit.as_str(), "README.md").as_deref(), Some("second\n"));
}

#[test]
fn a_call_that_changed_nothing_adds_no_state_and_has_that_of_the_call_before() {
    let test = with_states();
    assert!(!record(&test, 8));
    assert_eq!(goal(&test, 8), goal(&test, 6));
    assert_eq!(goal(&test, 5), goal(&test, 4));
    assert!(test.repo.call_states(&worker("one")).unwrap().after(1).is_none());
}

#[test]
fn after_going_back_a_call_that_only_reads_has_the_state_that_was_gone_back_to() {
    let test = with_states();
    let kept = test.keep("one").unwrap();
    let first = goal(&test, 2);
    rewind(&test, &kept, &first).unwrap();
    let snapshot = test.snapshot("one");
    test.repo.record_state(&worker("one"), &snapshot, StateOf::Rewind { after: 6 }, 100).unwrap();
    let read = goal(&test, 8);
    assert_eq!(
        (read.head, test.repo.tree_of(&read.files).unwrap()),
        (first.head, test.repo.tree_of(&first.files).unwrap())
    );
    // And the last call before it still has its own.
    assert_eq!(test.show(goal(&test, 6).files.as_str(), "README.md").as_deref(), Some("second\n"));
}

#[test]
fn only_so_many_states_stay_and_it_is_known_that_earlier_ones_went() {
    let test = TestRepo::new();
    let place = test.add("one");
    for end in 1..=9 {
        write(&place.join("README.md"), &format!("{end}\n"));
        let snapshot = test.snapshot("one");
        test.repo.record_state(&worker("one"), &snapshot, StateOf::Calls { first: end, last: end }, 3).unwrap();
        let states = test.repo.call_states(&worker("one")).unwrap();
        assert_eq!(states.is_cut, end > 6, "{end}");
        assert!(states.states.len() <= 6 && states.after(end).unwrap().snapshot == snapshot.commit, "{end}");
    }
    let states = test.repo.call_states(&worker("one")).unwrap();
    assert!(states.after(3).is_none() && states.after(5).is_some(), "{states:?}");
    test.git(&["gc", "-q", "--prune=now"]);
    assert_eq!(test.show(goal(&test, 5).files.as_str(), "README.md").as_deref(), Some("5\n"));
}

#[test]
fn killed_anywhere_nothing_is_lost_and_doing_it_again_ends_it() {
    for point in ["files rewound", "operation ended", "branch rewound", "index rewound"] {
        let test = with_states();
        let to = goal(&test, 2);
        let kept = test.keep("one").unwrap();
        crash::arm(point);
        assert!(rewind(&test, &kept, &to).is_err(), "{point}");
        assert!(crash::revive(), "{point}");
        assert_eq!(test.show(kept.keep_ref(), "later/deep.txt").as_deref(), Some("later\n"), "{point}");
        let again = test.keep("one").unwrap();
        rewind(&test, &again, &to).unwrap();
        let (status, log, ..) = picture(&test);
        assert_eq!(
            (status.as_str(), log.as_str()),
            ("## swarm/one\n M README.md\n?? \"new file\"", "start"),
            "{point}"
        );
    }
}

#[test]
fn ignored_and_made_files_stay() {
    let test = with_states();
    let place = test.place("one");
    write(&place.join("noise.log"), "ignored\n");
    write(&place.join("made/file"), "by set-up\n");
    let kept = test.keep("one").unwrap();
    test.repo.rewind(&place, &kept, &goal(&test, 2), &["made".into()]).unwrap();
    assert_eq!(
        (read(&place.join("noise.log")), read(&place.join("made/file"))),
        ("ignored\n".into(), "by set-up\n".into())
    );
}

#[test]
fn what_is_not_kept_is_not_touched() {
    let test = with_states();
    let place = test.place("one");
    let kept = test.keep("one").unwrap();
    write(&place.join("README.md"), "since\n");
    let before = picture(&test);
    assert!(matches!(rewind(&test, &kept, &goal(&test, 2)).unwrap_err(), GitError::Refused { .. }));
    assert_eq!(picture(&test), before);
    // An ignored file where the state has a folder or a file of its own.
    let test = with_states();
    let place = test.place("one");
    git_in(&place, &["rm", "-q", "--cached", "new file"]);
    git_in(&place, &["commit", "-qm", "untrack"]);
    write(&place.join(".gitignore"), "new file\n*.log\n");
    write(&place.join("new file"), "ignored by now\n");
    let kept = test.keep("one").unwrap();
    let before = picture(&test);
    let error = rewind(&test, &kept, &goal(&test, 2)).unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("in the way")), "{error}");
    assert_eq!(picture(&test), before);
}

#[test]
fn a_git_command_at_work_is_waited_for() {
    let test = with_states();
    let kept = test.keep("one").unwrap();
    let lock = test.repo.linked(&test.place("one")).unwrap().git_dir().join("index.lock");
    write(&lock, "");
    assert!(rewind(&test, &kept, &goal(&test, 2)).unwrap_err().to_string().contains("at work"));
    fs::remove_file(lock).unwrap();
    rewind(&test, &kept, &goal(&test, 2)).unwrap();
}

#[test]
fn an_unfinished_merge_is_ended_and_its_sides_are_kept() {
    let test = TestRepo::new();
    test.add("one");
    record(&test, 2);
    let to = RewindTo { head: test.head(), files: test.head() };
    git_in(&test.root, &["worktree", "remove", "--force", test.place("one").to_str().unwrap()]);
    git_in(&test.root, &["branch", "-qD", "swarm/one"]);
    let place = test.add_with_half_a_merge("one");
    let theirs: CommitId = git_in(&place, &["rev-parse", "MERGE_HEAD"]).parse().unwrap();
    let kept = test.keep("one").unwrap();
    rewind(&test, &kept, &to).unwrap();
    assert_eq!(git_in(&place, &["status", "--porcelain", "--branch"]), "## swarm/one");
    assert_eq!(git_raw(&place, test.folder.path(), &["rev-parse", "-q", "--verify", "MERGE_HEAD"]).code(), 1);
    let entry = test.repo.kept().unwrap().remove(0);
    assert!(entry.also.iter().any(|(_, commit)| *commit == theirs), "{entry:?}");
    assert_eq!(test.repo.branch_head(&branch("swarm/one")).unwrap(), Some(to.head));
}

#[test]
fn a_snapshot_that_was_killed_half_way_is_not_taken_for_the_last_one() {
    let test = TestRepo::new();
    let place = test.add("one");
    write(&place.join("README.md"), "first\n");
    test.snapshot("one");
    write(&place.join("README.md"), "second\n");
    // What such a process leaves: the private index knows the change, the reference does not.
    let index = test.repo.private_index(&worker("one"));
    let call = test.repo.git(&place, ["update-index", "README.md"]).env("GIT_INDEX_FILE", &index);
    call.output().unwrap();
    fs::remove_file(index.with_extension("tree")).unwrap();
    assert_eq!(test.show(test.snapshot("one").commit.as_str(), "README.md").as_deref(), Some("second\n"));
}
