//! The radar against real git: its verdicts are those of `git merge`.

use proptest::prelude::*;

use super::support::Yard;
use crate::git::fixture::{Fixture, put, with_line};
use crate::landing::OverlapVerdict::{Clean, Conflict, Identical};
use crate::landing::{Overlap, OverlapVerdict};

/// The verdicts of all workers of a yard.
fn overlaps(yard: &Yard) -> Vec<Overlap> {
    yard.landing().overlaps(&yard.store.workers().unwrap()).unwrap()
}

/// Names and verdict of each pair.
fn verdicts(overlaps: &[Overlap]) -> Vec<(&str, &str, OverlapVerdict)> {
    overlaps.iter().map(|overlap| (overlap.a.as_str(), overlap.b.as_str(), overlap.verdict)).collect()
}

#[test]
fn every_worker_is_judged_against_the_target_and_the_others() {
    let yard = Yard::new();
    yard.worker("x", &[("a", &with_line("a", 5, "X"))]);
    yard.worker("y", &[("a", &with_line("a", 5, "Y")), ("y", "y\n")]);
    yard.worker("z", &[("b", &with_line("b", 5, "Z"))]);
    let found = overlaps(&yard);
    let expected = [
        ("main", "x", Clean),
        ("main", "y", Clean),
        ("main", "z", Clean),
        ("x", "y", Conflict),
        ("x", "z", Clean),
        ("y", "z", Clean),
    ];
    assert_eq!(verdicts(&found), expected);
    let file = &found[3].files[0];
    assert_eq!((file.file.path.as_str(), file.file.kind.as_str()), ("a", "content"));
    assert_eq!((file.hunks[0].line, file.hunks[0].ours[0].as_str(), file.hunks[0].theirs[0].as_str()), (5, "X", "Y"));
    put(&yard.git.root.join("a"), &with_line("a", 5, "M"));
    yard.git.commit("main moves");
    assert_eq!(
        verdicts(&overlaps(&yard))[..3],
        [("main", "x", Conflict), ("main", "y", Conflict), ("main", "z", Clean)]
    );
}

#[test]
fn work_that_is_not_committed_counts_as_soon_as_a_snapshot_has_it() {
    let yard = Yard::new();
    let (x, _) = (yard.worker("x", &[("x", "x\n")]), yard.worker("y", &[("new", "of y\n")]));
    assert_eq!(verdicts(&overlaps(&yard))[2], ("x", "y", Clean));
    put(&yard.worktree("x").join("new"), "of x\n");
    yard.repository.snapshot(&yard.worktree("x"), &x, &[], false).unwrap();
    let found = overlaps(&yard);
    assert_eq!(verdicts(&found)[2], ("x", "y", Conflict));
    assert_eq!(found[2].files[0].file.kind.as_str(), "add_add");
    // A branch that went on after its last snapshot speaks for itself.
    std::fs::remove_file(yard.worktree("x").join("new")).unwrap();
    yard.git.commit_in(&yard.worktree("x"), "without");
    assert_eq!(verdicts(&overlaps(&yard))[2], ("x", "y", Clean));
}

#[test]
fn two_workers_with_the_same_work_are_identical() {
    let yard = Yard::new();
    yard.worker("x", &[("new", "same\n")]);
    yard.worker("y", &[("new", "same\n")]);
    assert_eq!(verdicts(&overlaps(&yard))[2], ("x", "y", Identical));
}

#[test]
fn what_was_judged_is_remembered_until_the_merge_settings_change() {
    let yard = Yard::new();
    yard.worker("x", &[("a", &with_line("a", 5, "X"))]);
    yard.worker("y", &[("a", &with_line("a", 5, "Y"))]);
    assert_eq!(verdicts(&overlaps(&yard))[2].2, Conflict);
    // A memory that says otherwise is believed: so it is read.
    let file = yard.paths.root().join("overlaps.json");
    let memory = std::fs::read_to_string(&file).unwrap();
    put(&file, &memory.replace("\"conflict\"", "\"clean\""));
    assert_eq!(verdicts(&overlaps(&yard))[2].2, Clean);
    put(&yard.git.root.join(".git/info/attributes"), "a merge=union\n");
    let found = overlaps(&yard);
    assert_eq!(verdicts(&found)[2].2, Clean, "the union driver merges everything");
    assert!(std::fs::read_to_string(&file).unwrap().contains("\"clean\""));
    put(&yard.git.root.join(".git/info/attributes"), "");
    assert_eq!(verdicts(&overlaps(&yard))[2].2, Conflict);
    put(&file, "no JSON at all");
    assert_eq!(verdicts(&overlaps(&yard))[2].2, Conflict);
}

/// One change of a worktree.
#[derive(Debug, Clone)]
enum Change {
    /// Another text in a line of a file.
    Line(usize, usize, u8),
    /// A file gone.
    Delete(usize),
    /// A file under another name.
    Rename(usize, u8),
    /// A file moved into a folder.
    Move(usize, u8),
    /// A new file, maybe of the same name as another's.
    Add(u8, u8),
    /// A folder in the place of a file.
    Folder(usize),
    /// Another mode.
    Mode(usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (0..5usize, 1..21usize, 0..3u8).prop_map(|(file, line, text)| Change::Line(file, line, text)),
        1 => (0..5usize).prop_map(Change::Delete),
        2 => (0..5usize, 0..2u8).prop_map(|(file, name)| Change::Rename(file, name)),
        1 => (0..5usize, 0..2u8).prop_map(|(file, folder)| Change::Move(file, folder)),
        2 => (0..3u8, 0..2u8).prop_map(|(name, text)| Change::Add(name, text)),
        1 => (0..5usize).prop_map(Change::Folder),
        1 => (0..5usize).prop_map(Change::Mode),
    ]
}

/// Makes a change in a folder; one that makes no sense there any more does nothing.
fn apply(folder: &std::path::Path, change: &Change) {
    use std::os::unix::fs::PermissionsExt;
    let file = |index: usize| folder.join(["a", "b", "c", "d", "e"][index]);
    match change {
        Change::Line(index, line, text) if file(*index).is_file() => {
            let old = std::fs::read_to_string(file(*index)).unwrap();
            let lines = old.lines().enumerate();
            let new: String = lines
                .map(|(number, old)| if number + 1 == *line { format!("text {text}\n") } else { format!("{old}\n") })
                .collect();
            put(&file(*index), &new);
        }
        Change::Delete(index) => drop(std::fs::remove_file(file(*index))),
        Change::Rename(index, name) if file(*index).is_file() => {
            drop(std::fs::rename(file(*index), folder.join(format!("renamed-{name}"))));
        }
        Change::Move(index, name) if file(*index).is_file() => {
            std::fs::create_dir_all(folder.join(format!("folder-{name}"))).unwrap();
            drop(std::fs::rename(file(*index), folder.join(format!("folder-{name}/{index}"))));
        }
        Change::Add(name, text) => put(&folder.join(format!("new-{name}")), &format!("added {text}\n")),
        Change::Folder(index) if file(*index).is_file() => {
            std::fs::remove_file(file(*index)).unwrap();
            put(&file(*index).join("inner"), "inner\n");
        }
        Change::Mode(index) if file(*index).is_file() => {
            std::fs::set_permissions(file(*index), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        _ => {}
    }
}

/// What `git merge` says when it really merges, in a worktree: whether it could, and the tree.
fn really_merged(git: &Fixture, ours: &str, theirs: &str) -> Option<String> {
    let place = git.worktrees.join("judge");
    git.git(&git.root, &["worktree", "add", "-q", "--detach", place.to_str().unwrap(), ours]);
    let merge = ["-c", "user.name=J", "-c", "user.email=j@example.com", "merge", "-q", "--no-ff", "-m", "m", theirs];
    let merged = git.succeeds(&place, &merge);
    let tree = merged.then(|| git.git(&place, &["rev-parse", "HEAD^{tree}"]).trim().to_owned());
    git.git(&git.root, &["worktree", "remove", "--force", place.to_str().unwrap()]);
    tree
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_verdict_is_that_of_a_real_merge(
        left in prop::collection::vec(change(), 1..5),
        right in prop::collection::vec(change(), 1..5),
    ) {
        let yard = Yard::new();
        for (name, changes) in [("x", &left), ("y", &right)] {
            yard.worker(name, &[]);
            changes.iter().for_each(|change| apply(&yard.worktree(name), change));
            yard.git.commit_in(&yard.worktree(name), name);
        }
        let found = overlaps(&yard);
        let pair = found.iter().find(|pair| pair.a == "x").unwrap();
        let merged = really_merged(&yard.git, "swarm/x", "swarm/y");
        prop_assert_eq!(pair.verdict == Conflict, merged.is_none(), "{:?} {:?} {:?}", pair, left, right);
        prop_assert_eq!(pair.verdict == Conflict, !pair.files.is_empty());
    }
}
