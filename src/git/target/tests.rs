//! Moves of a target against real worktrees.

mod odd;

use std::fs;

use super::*;
use crate::git::crash;
use crate::git::fixture::{Fixture, branch, put, with_line};

/// A target, a commit ahead of it that touches `a`, removes `e` and adds `new/file`, and the repository.
fn ahead() -> (Fixture, CommitId, CommitId) {
    let fixture = Fixture::new();
    let to = ahead_of(&fixture);
    let from = fixture.head("main");
    (fixture, from, to)
}

/// The commit of [`ahead`].
fn ahead_of(fixture: &Fixture) -> CommitId {
    let path = fixture.worktree("work");
    put(&path.join("a"), &with_line("a", 5, "landed"));
    fs::remove_file(path.join("e")).unwrap();
    put(&path.join("new/file"), "new\n");
    fixture.commit_in(&path, "work")
}

fn advance(fixture: &Fixture, from: &CommitId, to: &CommitId) -> Advance {
    fixture.open().advance_target(&branch("main"), from, to, "swarm: landed x").unwrap()
}

fn status(fixture: &Fixture) -> String {
    fixture.git(&fixture.root, &["status", "--porcelain"])
}

/// Nothing moved and nothing was left behind.
fn assert_untouched(fixture: &Fixture, from: &CommitId, status_before: &str) {
    assert_eq!(fixture.head("main"), *from);
    assert_eq!(status(fixture), status_before);
    assert_nothing_left(fixture);
}

fn assert_nothing_left(fixture: &Fixture) {
    assert!(!fixture.root.join(".git/index.lock").exists());
    assert!(!fixture.root.join(".git/index.swarm").exists());
    let moves = fixture.root.join(".git/swarm/moves");
    assert!(fs::read_dir(moves).map_or(0, Iterator::count) == 0);
}

fn busy(advance: Advance) -> Busy {
    let Advance::Busy(busy) = advance else { panic!("{advance:?}") };
    busy
}

#[test]
fn a_clean_checkout_follows() {
    let (fixture, from, to) = ahead();
    let advance = advance(&fixture, &from, &to);
    assert_eq!(advance, Advance::Moved { updated: vec![fixture.root.clone()] });
    assert_eq!(fixture.head("HEAD"), to);
    assert_eq!(status(&fixture), "");
    assert_eq!(fs::read_to_string(fixture.root.join("new/file")).unwrap(), "new\n");
    assert!(!fixture.root.join("e").exists());
    let log = fixture.git(&fixture.root, &["log", "-g", "-1", "--format=%gs"]);
    assert_eq!(log, "swarm: landed x");
    assert_nothing_left(&fixture);
}

#[test]
fn a_checkout_that_was_touched_but_not_changed_follows() {
    let (fixture, from, to) = ahead();
    fixture.write("a", &with_line("a", 99, ""));
    assert!(matches!(advance(&fixture, &from, &to), Advance::Moved { .. }));
    assert_eq!(status(&fixture), "");
}

#[test]
fn a_file_modified_where_it_would_change_stops_everything() {
    let (fixture, from, to) = ahead();
    fixture.write("a", &with_line("a", 1, "mine"));
    let before = status(&fixture);
    let busy = busy(advance(&fixture, &from, &to));
    assert_eq!((busy.worktree, busy.files), (fixture.root.clone(), vec![PathBuf::from("a")]));
    assert_untouched(&fixture, &from, &before);
}

#[test]
fn a_file_deleted_by_hand_counts_as_modified() {
    let (fixture, from, to) = ahead();
    fs::remove_file(fixture.root.join("a")).unwrap();
    let before = status(&fixture);
    assert_eq!(busy(advance(&fixture, &from, &to)).files, [PathBuf::from("a")]);
    assert_untouched(&fixture, &from, &before);
}

#[test]
fn modified_and_staged_files_that_the_move_does_not_touch_stay_as_they_are() {
    let (fixture, from, to) = ahead();
    fixture.write("b", &with_line("b", 3, "staged"));
    fixture.git(&fixture.root, &["add", "b"]);
    fixture.write("b", &with_line("b", 4, "not staged"));
    fixture.write("c", "mine\n");
    fixture.write("mine.txt", "untracked\n");
    fixture.git(&fixture.root, &["rm", "-q", "--cached", "d"]);
    let before =
        (status(&fixture), fixture.git(&fixture.root, &["diff"]), fixture.git(&fixture.root, &["diff", "--cached"]));
    assert!(matches!(advance(&fixture, &from, &to), Advance::Moved { .. }));
    let after =
        (status(&fixture), fixture.git(&fixture.root, &["diff"]), fixture.git(&fixture.root, &["diff", "--cached"]));
    assert_eq!(after, before);
    assert_eq!(fs::read_to_string(fixture.root.join("c")).unwrap(), "mine\n");
}

#[test]
fn staged_changes_where_it_would_change_stop_everything() {
    let (fixture, from, to) = ahead();
    fixture.write("a", &with_line("a", 1, "mine"));
    fixture.git(&fixture.root, &["add", "a"]);
    let before = status(&fixture);
    let busy = busy(advance(&fixture, &from, &to));
    assert_eq!(busy.files, [PathBuf::from("a")]);
    assert!(busy.why.contains("staged"), "{}", busy.why);
    assert_untouched(&fixture, &from, &before);
}

#[test]
fn untracked_and_ignored_files_in_the_way_stop_everything() {
    for (path, exclude) in
        [("new/file", ""), ("new/file", "new"), ("new", ""), ("new", "new"), ("new/file/deep", "deep")]
    {
        let (fixture, from, to) = ahead();
        put(&fixture.root.join(".git/info/exclude"), exclude);
        fixture.write(path, "mine\n");
        let before = status(&fixture);
        let busy = busy(advance(&fixture, &from, &to));
        assert_eq!(busy.files, [PathBuf::from(path)], "{path} {exclude}");
        assert_eq!(fs::read_to_string(fixture.root.join(path)).unwrap(), "mine\n");
        assert_untouched(&fixture, &from, &before);
    }
}

#[test]
fn an_untracked_folder_beside_the_new_file_is_no_obstacle() {
    let (fixture, from, to) = ahead();
    fixture.write("new/other", "mine\n");
    assert!(matches!(advance(&fixture, &from, &to), Advance::Moved { .. }));
    assert_eq!(status(&fixture), "?? new/other");
}

#[test]
fn a_folder_that_becomes_a_file_keeps_untracked_content() {
    let fixture = Fixture::new();
    fixture.write("slot/tracked", "x\n");
    let from = fixture.commit("slot");
    let path = fixture.worktree("work");
    fs::remove_dir_all(path.join("slot")).unwrap();
    put(&path.join("slot"), "file\n");
    let to = fixture.commit_in(&path, "slot is a file");
    put(&fixture.root.join(".git/info/exclude"), "mine");
    fixture.write("slot/mine", "ignored\n");
    assert_eq!(busy(advance(&fixture, &from, &to)).files, [PathBuf::from("slot/mine")]);
    fs::remove_file(fixture.root.join("slot/mine")).unwrap();
    assert!(matches!(advance(&fixture, &from, &to), Advance::Moved { .. }));
    assert_eq!(status(&fixture), "");
}

#[test]
fn what_a_killed_move_was_writing_down_goes_with_the_next_one() {
    let (fixture, from, to) = ahead();
    // Above the highest number that a process can have.
    fixture.write(".git/swarm/moves/.swarm-4194305-W0pz4t", "{\"token\":");
    assert!(matches!(advance(&fixture, &from, &to), Advance::Moved { .. }));
    assert_nothing_left(&fixture);
}

#[test]
fn a_target_that_is_checked_out_nowhere_just_moves() {
    let (fixture, from, to) = ahead();
    fixture.git(&fixture.root, &["switch", "-q", "--detach"]);
    assert_eq!(advance(&fixture, &from, &to), Advance::Moved { updated: Vec::new() });
    assert_eq!(fixture.head("main"), to);
    assert_eq!(fixture.head("HEAD"), from);
}

#[test]
fn a_bare_repositorys_target_moves() {
    let fixture = Fixture::bare();
    let (to, from) = (ahead_of(&fixture), fixture.head("main"));
    assert_eq!(advance(&fixture, &from, &to), Advance::Moved { updated: Vec::new() });
    assert_eq!(fixture.head("main"), to);
}

#[test]
fn another_linked_worktree_follows_and_its_dirt_stops_it() {
    let fixture = Fixture::new();
    let (to, from) = (ahead_of(&fixture), fixture.head("main"));
    fixture.git(&fixture.root, &["switch", "-q", "-c", "elsewhere"]);
    let linked = fixture.worktrees.join("linked main");
    fixture.git(&fixture.root, &["worktree", "add", "-q", linked.to_str().unwrap(), "main"]);
    put(&linked.join("a"), "dirty\n");
    assert_eq!(busy(advance(&fixture, &from, &to)).worktree, linked);
    fixture.git(&linked, &["checkout", "-q", "a"]);
    assert_eq!(advance(&fixture, &from, &to), Advance::Moved { updated: vec![linked.clone()] });
    assert_eq!(fixture.git(&linked, &["status", "--porcelain"]), "");
    assert_eq!(fixture.head("HEAD"), from);
}

#[test]
fn a_worktree_in_the_middle_of_an_operation_is_busy() {
    let (fixture, _, _) = ahead();
    let clash = fixture.branch("clash", &[("a", &with_line("a", 5, "clash"))]);
    fixture.write("a", &with_line("a", 5, "mine"));
    let from = fixture.commit("mine");
    let tree = fixture.git(&fixture.root, &["rev-parse", "main^{tree}"]);
    let to: CommitId =
        fixture.git(&fixture.root, &["commit-tree", "-p", from.as_str(), "-m", "to", &tree]).parse().unwrap();
    for (begin, abort) in [
        (["rebase", clash.as_str()], ["rebase", "--abort"]),
        (["merge", clash.as_str()], ["merge", "--abort"]),
        (["cherry-pick", clash.as_str()], ["cherry-pick", "--abort"]),
    ] {
        fixture.git_fails(&fixture.root, &begin);
        let before = status(&fixture);
        let busy = busy(advance(&fixture, &from, &to));
        assert!(busy.why.contains(begin[0]), "{begin:?}: {}", busy.why);
        assert_eq!(busy.worktree, fixture.root);
        assert_untouched(&fixture, &from, &before);
        fixture.git(&fixture.root, &abort);
    }
    fixture.git(&fixture.root, &["bisect", "start"]);
    fixture.git(&fixture.root, &["bisect", "bad", "HEAD"]);
    assert!(busy(advance(&fixture, &from, &to)).why.contains("bisection"));
}

#[test]
fn a_held_index_makes_the_worktree_busy_and_is_not_stolen() {
    let (fixture, from, to) = ahead();
    fixture.write(".git/index.lock", "");
    let busy = busy(advance(&fixture, &from, &to));
    assert!(busy.why.contains("index"), "{}", busy.why);
    assert!(fixture.root.join(".git/index.lock").exists());
    assert_eq!(fixture.head("main"), from);
}

#[test]
fn a_target_that_moved_underneath_is_told_apart() {
    let (fixture, from, to) = ahead();
    let found = fixture.commit("somebody was faster");
    assert_eq!(advance(&fixture, &from, &to), Advance::MovedUnderneath { found: Some(found) });
    assert_eq!(status(&fixture), "");
    assert_nothing_left(&fixture);
}

#[test]
fn a_target_that_moves_between_check_and_swap_is_not_forced() {
    let (fixture, from, to) = ahead();
    let other = fixture.branch("other", &[("b", "b\n")]);
    // Somebody else's update-ref needs no index: our lock on it does not stop them.
    let (fixture, found) = (std::rc::Rc::new(fixture), other.clone());
    let theirs = std::rc::Rc::clone(&fixture);
    crash::meanwhile("target checked", move || {
        theirs.git(&theirs.root, &["update-ref", "refs/heads/main", other.as_str()]);
    });
    assert_eq!(advance(&fixture, &from, &to), Advance::MovedUnderneath { found: Some(found.clone()) });
    assert_eq!(fixture.head("main"), found);
    assert_eq!(fs::read_to_string(fixture.root.join("a")).unwrap(), with_line("a", 0, ""));
    assert_nothing_left(&fixture);
}

#[test]
fn sparse_worktrees_stay_sparse() {
    let fixture = Fixture::new();
    fixture.write("in/x", "1\n");
    fixture.write("out/x", "1\n");
    let from = fixture.commit("folders");
    let to = fixture.branch("work", &[("in/x", "2\n"), ("out/x", "2\n")]);
    fixture.git(&fixture.root, &["sparse-checkout", "set", "in"]);
    assert!(matches!(advance(&fixture, &from, &to), Advance::Moved { .. }));
    assert_eq!(status(&fixture), "");
    assert_eq!(fs::read_to_string(fixture.root.join("in/x")).unwrap(), "2\n");
    assert!(!fixture.root.join("out").exists());
}

#[test]
fn a_kill_at_any_moment_leaves_before_or_after_and_the_next_look_repairs() {
    let points =
        ["journal written", "index locked", "target checked", "target moved", "files written", "index installed"];
    for point in points {
        let (fixture, from, to) = ahead();
        fixture.write("b", "mine\n");
        crash::arm(point);
        assert!(fixture.open().advance_target(&branch("main"), &from, &to, "x").is_err());
        assert!(crash::revive(), "{point}");
        let has_moved = fixture.head("main") == to;
        assert_eq!(has_moved, points.iter().position(|p| p == &point) >= Some(3), "{point}");
        fixture.open().repair_targets().unwrap();
        assert_eq!(fixture.head("main") == to, has_moved);
        assert_eq!(status(&fixture), " M b", "{point}");
        assert_nothing_left(&fixture);
        assert!(matches!(advance(&fixture, &from, &to), Advance::Moved { .. } | Advance::MovedUnderneath { .. }));
        assert_eq!(fixture.head("main"), to);
        assert_eq!(status(&fixture), " M b", "{point}");
    }
}

#[test]
fn a_checkout_cut_off_between_files_is_finished_and_edits_made_since_are_kept() {
    let (fixture, from, to) = ahead();
    crash::arm("target moved");
    fixture.open().advance_target(&branch("main"), &from, &to, "x").unwrap_err();
    assert!(crash::revive());
    // Git had written one file, was writing the second, and a person has edited the third since. It held its lock.
    fixture.write(".git/index.swarm.lock", "");
    fixture.write("new/file", "ne");
    fs::remove_file(fixture.root.join("e")).unwrap();
    fixture.write("a", &with_line("a", 1, "an edit"));
    let repaired = fixture.open().repair_targets().unwrap();
    let expected = Repaired { worktree: fixture.root.clone(), is_finished: true, left_alone: vec![PathBuf::from("a")] };
    assert_eq!(repaired, [expected]);
    assert_eq!(fs::read_to_string(fixture.root.join("new/file")).unwrap(), "new\n");
    assert_eq!(fs::read_to_string(fixture.root.join("a")).unwrap(), with_line("a", 1, "an edit"));
    assert_eq!(status(&fixture), " M a");
    assert_eq!(fixture.open().repair_targets().unwrap(), []);
    assert_nothing_left(&fixture);
}

#[test]
fn scratch_worktrees_hold_the_whole_commit_and_go() {
    let (fixture, _, to) = ahead();
    fixture.git(&fixture.root, &["sparse-checkout", "set", "nothing"]);
    let repository = fixture.open();
    let scratch = repository.scratch_worktree(&to, &fixture.worktrees).unwrap();
    let path = scratch.path().to_owned();
    assert_eq!(fs::read_to_string(path.join("new/file")).unwrap(), "new\n");
    put(&path.join("a"), "changed\n");
    put(&path.join("junk"), "x\n");
    fixture.commit_in(&path, "a gate that commits");
    fixture.git(&path, &["branch", "of-a-gate"]);
    fixture.git(&path, &["symbolic-ref", "HEAD", "refs/heads/of-a-gate"]);
    put(&fixture.root.join(".git/worktrees").join(path.file_name().unwrap()).join("MERGE_HEAD"), to.as_str());
    put(&path.join("more"), "x\n");
    scratch.restore().unwrap();
    assert_eq!(fixture.git(&path, &["rev-parse", "HEAD"]), to.as_str());
    assert_eq!(fixture.git(&path, &["rev-parse", "--abbrev-ref", "HEAD"]), "HEAD", "of no branch");
    assert_eq!(fixture.git(&path, &["status", "--porcelain"]), "");
    assert!(!fixture.git(&path, &["status"]).contains("merg"));
    assert!(!path.join("junk").exists());
    drop(scratch);
    assert!(!path.exists());
    assert!(!fixture.git(&fixture.root, &["worktree", "list"]).contains("+gate"));
    assert_eq!(fs::read_dir(fixture.root.join(".git/swarm/scratch")).unwrap().count(), 0);
}

#[test]
fn scratch_worktrees_of_dead_processes_are_swept_and_live_ones_are_not() {
    let (fixture, _, to) = ahead();
    let repository = fixture.open();
    let live = repository.scratch_worktree(&to, &fixture.worktrees).unwrap();
    for point in ["scratch recorded", "scratch registered"] {
        crash::arm(point);
        assert!(repository.scratch_worktree(&to, &fixture.worktrees).is_err());
        assert!(crash::revive(), "{point}");
        assert_eq!(repository.sweep_scratch().unwrap(), 1, "{point}");
    }
    // One that ended before it had written a path down left its lock alone.
    put(&fixture.root.join(".git/swarm/scratch/0123.lock"), "");
    assert_eq!(repository.sweep_scratch().unwrap(), 0);
    assert!(!fixture.root.join(".git/swarm/scratch/0123.lock").exists());
    assert!(live.path().join("a").exists());
    assert_eq!(fs::read_dir(&fixture.worktrees).unwrap().count(), 2);
}

#[test]
fn what_cannot_be_deleted_holds_up_no_sweep_and_stays_written_down() {
    let (fixture, _, to) = ahead();
    let repository = fixture.open();
    // No folder, so no user can delete it as one.
    let stuck = fixture.worktrees.join("+gone-0000");
    put(&stuck, "x");
    put(&fixture.root.join(".git/swarm/scratch/0000.path"), stuck.to_str().unwrap());
    drop(repository.scratch_worktree(&to, &fixture.worktrees).unwrap());
    assert_eq!(repository.sweep_scratch().unwrap(), 0);
    assert_eq!(repository.dead_scratch().unwrap(), [stuck]);
}

#[test]
fn what_a_git_that_died_while_registering_left_goes_with_its_scratch_worktree() {
    let (fixture, _, to) = ahead();
    let repository = fixture.open();
    crash::arm("scratch recorded");
    assert!(repository.scratch_worktree(&to, &fixture.worktrees).is_err());
    assert!(crash::revive());
    let [path] = &repository.dead_scratch().unwrap()[..] else { panic!("one died") };
    // Git makes the folder and locks it before it writes down where the worktree is.
    let entries = fixture.root.join(".git/worktrees");
    let (ours, foreign) = (entries.join(path.file_name().unwrap()), entries.join("foreign"));
    for entry in [&ours, &foreign] {
        put(&entry.join("locked"), "initializing");
    }
    assert_eq!(repository.sweep_scratch().unwrap(), 1);
    assert!(!ours.exists());
    assert!(foreign.exists());
}

#[test]
fn notes_of_several_writers_all_stay() {
    let fixture = Fixture::new();
    let (head, repository) = (fixture.head("main"), fixture.open());
    assert_eq!(repository.note(&head).unwrap(), None);
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (repository, head) = (&repository, &head);
            scope.spawn(move || repository.add_note(head, &format!("{{\"n\":{n}}}")).unwrap());
        }
    });
    repository.add_note(&head, "{\"n\":0}").unwrap();
    let note = repository.note(&head).unwrap().unwrap();
    let mut lines: Vec<_> = note.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["{\"n\":0}", "{\"n\":1}", "{\"n\":2}", "{\"n\":3}"]);
}

#[test]
fn differences_are_those_since_the_branch_left() {
    let fixture = Fixture::new();
    let work = fixture.branch("x", &[("a", &with_line("a", 2, "X")), ("new", "n\n")]);
    fixture.write("b", "main\n");
    let main = fixture.commit("main moves");
    let repository = fixture.open();
    let plain = crate::git::DiffOptions::default();
    let text = String::from_utf8(repository.diff(&main, &work, &plain).unwrap()).unwrap();
    assert!(text.contains("+X") && !text.contains("main") && !text.contains('\u{1b}'), "{text}");
    let options = crate::git::DiffOptions { color: true, paths: vec!["new".into()], ..plain.clone() };
    let text = String::from_utf8(repository.diff(&main, &work, &options).unwrap()).unwrap();
    assert!(text.contains('\u{1b}') && !text.contains("+X"), "{text}");
    let options = crate::git::DiffOptions { stat: true, width: Some(60), ..plain };
    assert!(String::from_utf8(repository.diff(&main, &work, &options).unwrap()).unwrap().contains("2 files changed"));
}
