//! Checkouts that are not plain, and the table that states what landing does with every kind.

use std::os::unix::fs::PermissionsExt;

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use super::*;

/// A situation, what landing does, and the test that holds it to that.
type Row = (&'static str, &'static str, fn());

/// What `README.md` promises about checkouts of the target.
const STATED: [Row; 21] = [
    ("checked out and clean", "follows", a_clean_checkout_follows),
    ("in another worktree, or in several", "each follows", another_linked_worktree_follows_and_its_dirt_stops_it),
    ("checked out nowhere", "the branch moves", a_target_that_is_checked_out_nowhere_just_moves),
    ("a bare repository", "the branch moves", a_bare_repositorys_target_moves),
    (
        "changes in files that the landing does not touch, staged or not",
        "follows; they stay as they are",
        modified_and_staged_files_that_the_move_does_not_touch_stay_as_they_are,
    ),
    ("changes in files that it touches", "waits", a_file_modified_where_it_would_change_stops_everything),
    ("staged changes in files that it touches", "waits", staged_changes_where_it_would_change_stop_everything),
    ("a file that it touches was deleted by hand", "waits", a_file_deleted_by_hand_counts_as_modified),
    ("untracked or ignored files where new ones go", "waits", untracked_and_ignored_files_in_the_way_stop_everything),
    ("untracked files in a folder that becomes a file", "waits", a_folder_that_becomes_a_file_keeps_untracked_content),
    (
        "changes that `git update-index --assume-unchanged` hides",
        "waits",
        changes_that_git_was_told_to_overlook_are_not_overwritten,
    ),
    (
        "a merge, rebase, cherry-pick, revert or bisection is under way",
        "waits, also when it began on the target and left it",
        a_worktree_in_the_middle_of_an_operation_is_busy,
    ),
    ("a series of picks is under way", "waits", a_series_of_picks_between_two_of_them_is_busy),
    (
        "another git command holds `index.lock`",
        "waits after 2 seconds; the lock is left alone",
        a_held_index_makes_the_worktree_busy_and_is_not_stolen,
    ),
    ("sparse", "follows and stays sparse", sparse_worktrees_stay_sparse),
    (
        "your own file where a sparse checkout has left one out",
        "waits when it would be touched",
        a_file_outside_the_sparse_set_is_not_overwritten,
    ),
    (
        "with submodules",
        "follows; a submodule that moved stays at its commit, and you are told",
        a_submodule_that_moves_stays_where_it_is_and_is_told,
    ),
    ("changes in a submodule that moves", "waits", changes_in_a_submodule_that_moves_stop_everything),
    (
        "names that differ only in case, with `core.ignoreCase`",
        "waits",
        names_that_only_case_tells_apart_stop_where_case_is_ignored,
    ),
    ("a folder that cannot be written to", "waits", a_checkout_that_cannot_be_written_makes_it_wait),
    (
        "the target moves while its checkout is looked at",
        "is built and tested again",
        a_target_that_moves_between_check_and_swap_is_not_forced,
    ),
];

/// The table as markdown.
fn table() -> String {
    let mut table = "| The checkout of the target | What landing does |\n|---|---|\n".to_owned();
    for (situation, what, _) in STATED {
        table.push_str(&format!("| {situation} | {what} |\n"));
    }
    table
}

#[test]
fn the_readme_states_what_is_tested() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (begin, end) = ("<!-- checkouts: made by src/git/target/tests/odd.rs -->\n", "<!-- end of checkouts -->");
    let stated = readme.split_once(begin).and_then(|(_, rest)| rest.split_once(end)).map(|(table, _)| table);
    assert_eq!(stated, Some(table().as_str()), "put this between the marks of README.md:\n{}", table());
}

#[test]
fn changes_that_git_was_told_to_overlook_are_not_overwritten() {
    for flag in ["--assume-unchanged", "--skip-worktree"] {
        let (fixture, from, to) = ahead();
        fixture.git(&fixture.root, &["update-index", flag, "a"]);
        fixture.write("a", &with_line("a", 1, "mine"));
        let before = status(&fixture);
        busy(advance(&fixture, &from, &to));
        assert_eq!(fs::read_to_string(fixture.root.join("a")).unwrap(), with_line("a", 1, "mine"), "{flag}");
        assert_untouched(&fixture, &from, &before);
    }
}

#[test]
fn a_series_of_picks_between_two_of_them_is_busy() {
    let (fixture, from, to) = ahead();
    put(&fixture.root.join(".git/sequencer/todo"), "pick 1234567 next\n");
    assert!(busy(advance(&fixture, &from, &to)).why.contains("pick"));
    assert_untouched(&fixture, &from, "");
}

#[test]
fn a_file_outside_the_sparse_set_is_not_overwritten() {
    for path in ["out/x", "out/new"] {
        let fixture = Fixture::new();
        fixture.write("in/x", "1\n");
        fixture.write("out/x", "1\n");
        let from = fixture.commit("folders");
        let to = fixture.branch("work", &[("out/x", "2\n"), ("out/new", "2\n")]);
        fixture.git(&fixture.root, &["sparse-checkout", "set", "in"]);
        fixture.write(path, "mine\n");
        let before = status(&fixture);
        assert_eq!(busy(advance(&fixture, &from, &to)).files, [PathBuf::from(path)]);
        assert_eq!(fs::read_to_string(fixture.root.join(path)).unwrap(), "mine\n");
        assert_untouched(&fixture, &from, &before);
    }
}

/// A repository with a submodule `sub`, and a commit ahead of it in which the submodule has gone on.
fn with_submodule() -> (Fixture, Fixture, CommitId, CommitId) {
    let (fixture, other) = (Fixture::new(), Fixture::new());
    let allow = ["-c", "protocol.file.allow=always"];
    let add = ["submodule", "--quiet", "add", other.root.to_str().unwrap(), "sub"];
    fixture.git(&fixture.root, &[allow.as_slice(), &add].concat());
    let from = fixture.commit("a submodule");
    other.write("a", "gone on\n");
    let newer = other.commit("gone on");
    let path = fixture.worktree("work");
    let moved = format!("160000,{newer},sub");
    fixture.git(&path, &["update-index", "--cacheinfo", &moved]);
    fixture.git(&path, &["commit", "-q", "-m", "move the submodule"]);
    let to = fixture.head("work");
    (fixture, other, from, to)
}

#[test]
fn a_submodule_that_moves_stays_where_it_is_and_is_told() {
    let (fixture, _other, from, to) = with_submodule();
    let repository = fixture.open();
    let before = fixture.git(&fixture.root.join("sub"), &["rev-parse", "HEAD"]);
    let updated = vec![fixture.root.clone()];
    assert_eq!(advance(&fixture, &from, &to), Advance::Moved { updated });
    assert_eq!(fixture.git(&fixture.root.join("sub"), &["rev-parse", "HEAD"]), before);
    assert_eq!(repository.submodules_behind(&fixture.root, &from, &to).unwrap(), [PathBuf::from("sub")]);
    fixture.git(&fixture.root, &["-c", "protocol.file.allow=always", "submodule", "--quiet", "update"]);
    assert_eq!(status(&fixture), "");
    assert!(repository.submodules_behind(&fixture.root, &from, &to).unwrap().is_empty());
    assert_nothing_left(&fixture);
}

#[test]
fn changes_in_a_submodule_that_moves_stop_everything() {
    let (fixture, _other, from, to) = with_submodule();
    put(&fixture.root.join("sub/a"), "mine\n");
    let before = status(&fixture);
    assert_eq!(busy(advance(&fixture, &from, &to)).files, [PathBuf::from("sub")]);
    assert_eq!(fs::read_to_string(fixture.root.join("sub/a")).unwrap(), "mine\n");
    assert_untouched(&fixture, &from, &before);
}

#[test]
fn names_that_only_case_tells_apart_stop_where_case_is_ignored() {
    let fixture = Fixture::new();
    let (to, from) = (fixture.branch("work", &[("A", "another\n")]), fixture.head("main"));
    fixture.git(&fixture.root, &["config", "core.ignoreCase", "true"]);
    let busy = busy(advance(&fixture, &from, &to));
    assert_eq!(busy.files, [PathBuf::from("A")]);
    assert!(busy.why.contains("case"), "{}", busy.why);
    assert_untouched(&fixture, &from, "");
    // A new name for the same file is no second one.
    let path = fixture.worktree("renames");
    fixture.git(&path, &["mv", "b", "b2"]);
    fixture.git(&path, &["mv", "b2", "B"]);
    let to = fixture.commit_in(&path, "another case");
    assert!(matches!(advance(&fixture, &from, &to), Advance::Moved { .. }));
    fixture.git(&fixture.root, &["config", "core.ignoreCase", "false"]);
    assert_eq!(status(&fixture), "");
}

#[test]
fn where_case_counts_both_names_are_checked_out() {
    let fixture = Fixture::new();
    let (to, from) = (fixture.branch("work", &[("A", "another\n")]), fixture.head("main"));
    assert!(matches!(advance(&fixture, &from, &to), Advance::Moved { .. }));
    assert_eq!(fs::read_to_string(fixture.root.join("A")).unwrap(), "another\n");
    assert_eq!(status(&fixture), "");
}

#[test]
fn a_checkout_that_cannot_be_written_makes_it_wait() {
    let (fixture, from, to) = ahead();
    let set_mode = |mode| fs::set_permissions(&fixture.root, fs::Permissions::from_mode(mode)).unwrap();
    set_mode(0o555);
    // Root writes everywhere, for as long as it has the capability to.
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).unwrap();
    let answer = advance(&fixture, &from, &to);
    set_mode(0o755);
    let busy = busy(answer);
    assert!(busy.why.contains("written"), "{}", busy.why);
    assert_eq!(busy.files, ["a", "e", "new/file"].map(PathBuf::from));
    assert_untouched(&fixture, &from, "");
}

#[test]
fn a_split_index_is_followed() {
    let (fixture, from, to) = ahead();
    fixture.git(&fixture.root, &["update-index", "--split-index"]);
    fixture.write("b", "mine\n");
    assert!(matches!(advance(&fixture, &from, &to), Advance::Moved { .. }));
    assert_eq!(status(&fixture), " M b");
}
