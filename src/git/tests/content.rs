//! Each way in which work gets into a target is recognised by its check, and what only looks like it is not.

use crate::git::fixture::{Fixture, put, with_line};
use crate::git::{Check, Repository};
use crate::model::CommitId;

/// A repository with a branch `work` of two commits, in `a` and `b`.
fn with_work() -> (Fixture, Repository, CommitId) {
    let fixture = Fixture::new();
    let tree = fixture.worktree("work");
    put(&tree.join("a"), &with_line("a", 5, "one"));
    fixture.commit_in(&tree, "first");
    put(&tree.join("b"), &with_line("b", 5, "two"));
    let work = fixture.commit_in(&tree, "second");
    let repository = fixture.open();
    (fixture, repository, work)
}

/// Which check says that `main` has the work.
fn check(fixture: &Fixture, repository: &Repository, work: &CommitId) -> Option<Check> {
    repository.held_in(work, &fixture.head("main")).unwrap().map(|held| held.check)
}

/// Squashes `work` into `main`.
fn squash(fixture: &Fixture) -> CommitId {
    fixture.git(&fixture.root, &["merge", "-q", "--squash", "work"]);
    fixture.commit("squashed")
}

#[test]
fn work_that_is_nowhere_else_is_held_by_nothing() {
    let (fixture, repository, work) = with_work();
    assert_eq!(check(&fixture, &repository, &work), None);
    fixture.write("c", "more\n");
    fixture.commit("main goes on");
    assert_eq!(check(&fixture, &repository, &work), None);
    // Half of it is not all of it.
    fixture.git(&fixture.root, &["cherry-pick", "work~1"]);
    assert_eq!(check(&fixture, &repository, &work), None);
}

#[test]
fn merged_work_is_an_ancestor() {
    let (fixture, repository, work) = with_work();
    fixture.git(&fixture.root, &["merge", "-q", "--no-ff", "-m", "merge", "work"]);
    assert_eq!(check(&fixture, &repository, &work), Some(Check::Ancestor));
}

#[test]
fn a_squash_on_an_untouched_target_has_the_same_tree_also_when_the_target_went_on() {
    let (fixture, repository, work) = with_work();
    let squashed = squash(&fixture);
    fixture.write("a", "rewritten\n");
    fixture.commit("main goes on");
    let held = repository.held_in(&work, &fixture.head("main")).unwrap().unwrap();
    assert_eq!((held.check, held.at), (Check::SameTree, Some(squashed)));
}

#[test]
fn work_that_came_in_by_hand_among_other_changes_leaves_nothing_to_merge() {
    let (fixture, repository, work) = with_work();
    fixture.write("a", &with_line("a", 5, "one"));
    fixture.write("c", "other\n");
    fixture.commit("by hand, half");
    fixture.write("b", &with_line("b", 5, "two"));
    fixture.write("d", "other\n");
    fixture.commit("by hand, the rest");
    assert_eq!(check(&fixture, &repository, &work), Some(Check::NothingToMerge));
}

#[test]
fn picked_commits_are_known_by_their_patches_after_the_lines_changed_again() {
    let (fixture, repository, work) = with_work();
    fixture.write("c", "other\n");
    fixture.commit("main goes on");
    fixture.git(&fixture.root, &["cherry-pick", "work~1", "work"]);
    fixture.write("a", &with_line("a", 5, "changed again"));
    fixture.commit("on top");
    assert_eq!(check(&fixture, &repository, &work), Some(Check::EachCommit));
}

#[test]
fn a_squash_is_known_by_its_patch_after_the_lines_changed_again() {
    let (fixture, repository, work) = with_work();
    fixture.write("c", "other\n");
    fixture.commit("main goes on");
    let squashed = squash(&fixture);
    fixture.write("a", &with_line("a", 5, "changed again"));
    fixture.commit("on top");
    let held = repository.held_in(&work, &fixture.head("main")).unwrap().unwrap();
    assert_eq!((held.check, held.at), (Check::Squashed, Some(squashed)));
}

#[test]
fn a_squash_with_changes_of_its_own_was_whole_once() {
    let (fixture, repository, work) = with_work();
    // Beside the line that the work changes: the patch gets another context.
    fixture.write("a", &with_line("a", 8, "near"));
    fixture.commit("main goes on");
    fixture.git(&fixture.root, &["merge", "-q", "--squash", "work"]);
    fixture.write("d", "an addition while landing\n");
    let squashed = fixture.commit("squashed with more");
    fixture.write("a", &with_line("a", 5, "changed again"));
    fixture.commit("on top");
    let held = repository.held_in(&work, &fixture.head("main")).unwrap().unwrap();
    assert_eq!((held.check, held.at), (Check::WasWhole, Some(squashed)));
}

#[test]
fn white_space_and_binary_content_make_a_difference() {
    let fixture = Fixture::new();
    let tree = fixture.worktree("work");
    put(&tree.join("a"), &with_line("a", 5, "    indented"));
    let spaces = fixture.commit_in(&tree, "spaces");
    let tree = fixture.worktree("binary");
    put(&tree.join("blob"), "\0one\n");
    let binary = fixture.commit_in(&tree, "binary");
    let repository = fixture.open();
    fixture.write("a", &with_line("a", 5, "indented"));
    fixture.write("blob", "\0two\n");
    fixture.commit("nearly the same");
    assert_eq!(check(&fixture, &repository, &spaces), None);
    assert_eq!(check(&fixture, &repository, &binary), None);
}

#[test]
fn a_merge_driver_that_drops_the_work_proves_nothing() {
    let fixture = Fixture::new();
    fixture.git(&fixture.root, &["config", "merge.ours.driver", "true"]);
    fixture.write(".gitattributes", "a merge=ours\n");
    fixture.commit("attributes");
    let work = fixture.branch("work", &[("a", &with_line("a", 5, "work"))]);
    fixture.write("a", &with_line("a", 15, "main"));
    fixture.commit("main goes on");
    let repository = fixture.open();
    assert_eq!(check(&fixture, &repository, &work), None);
}

#[test]
fn what_a_merge_commit_of_the_work_changed_itself_is_not_overlooked() {
    let (fixture, repository, _) = with_work();
    fixture.write("c", "other\n");
    fixture.commit("main goes on");
    let tree = fixture.worktrees.join("work");
    fixture.git(&tree, &["merge", "-q", "--no-commit", "--no-ff", "main"]);
    put(&tree.join("hidden"), "only in the merge\n");
    let work = fixture.commit_in(&tree, "merge with more");
    fixture.git(&fixture.root, &["cherry-pick", "work~2", "work~1"]);
    fixture.write("a", &with_line("a", 5, "changed again"));
    fixture.commit("on top");
    assert_eq!(check(&fixture, &repository, &work), None);
}

#[test]
fn histories_that_never_met_hold_nothing_of_each_other() {
    let (fixture, repository, work) = with_work();
    let tree = repository.tree_of(&work).unwrap();
    let alone: CommitId = fixture.git(&fixture.root, &["commit-tree", "-m", "alone", &tree]).parse().unwrap();
    assert_eq!(check(&fixture, &repository, &alone), None);
}

#[test]
fn files_alone_are_not_judged_by_the_commits_behind_them() {
    let (fixture, repository, work) = with_work();
    let head = repository.tree_of(&work).unwrap();
    let saved = fixture.git(&fixture.root, &["commit-tree", "-m", "saved", "-p", work.as_str(), &head]);
    fixture.git(&fixture.root, &["merge", "-q", "--no-ff", "-m", "merge", "work"]);
    let saved: CommitId = saved.parse().unwrap();
    let main = fixture.head("main");
    assert_eq!(repository.files_held_in(&saved, &main).unwrap().map(|held| held.check), Some(Check::SameTree));
    put(&fixture.worktrees.join("work").join("e"), "not landed\n");
    let more = fixture.commit_in(&fixture.worktrees.join("work"), "more");
    assert_eq!(repository.files_held_in(&more, &main).unwrap(), None);
}

#[test]
fn the_size_of_a_reference_is_what_nothing_else_holds() {
    let (fixture, repository, work) = with_work();
    let (mine, other) = ("refs/swarm/keep/w/1", "refs/swarm/keep/w/2");
    fixture.git(&fixture.root, &["update-ref", mine, work.as_str()]);
    assert_eq!(repository.bytes_only_in(&[mine]).unwrap(), 0);
    fixture.git(&fixture.root, &["worktree", "remove", "--force", fixture.worktrees.join("work").to_str().unwrap()]);
    fixture.git(&fixture.root, &["branch", "-qD", "work"]);
    let alone = repository.bytes_only_in(&[mine]).unwrap();
    assert!(alone > 0);
    fixture.git(&fixture.root, &["update-ref", other, work.as_str()]);
    assert_eq!(repository.bytes_only_in(&[mine]).unwrap(), 0);
    assert_eq!(repository.bytes_only_in(&[mine, other]).unwrap(), alone);
}
