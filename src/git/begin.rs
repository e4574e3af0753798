//! Beginning in a worktree what its agent or a person is to finish: merging the target, or rebasing onto it.
//!
//! Nothing is begun over work that is not committed, and nothing before the work was kept: a rebase moves the branch,
//! and the keep ref has it as it was.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keep::KeptWork;
use super::program::last_words;
use super::state::{EntryKind, Operation};
use super::worktree::Linked;
use super::{GitError, Repository};
use crate::files::read_if_exists;
use crate::model::CommitId;

/// What beginning came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Begun {
    /// The operation waits for these files, or where there are none, to be concluded.
    Open {
        /// What is under way.
        operation: Operation,
        /// Files in conflict, from the worktree's root.
        files: Vec<PathBuf>,
    },
    /// The branch holds all of the target now, without a conflict.
    Done,
    /// Nothing was begun and nothing changed.
    Refused {
        /// Why, as a clause.
        why: String,
    },
}

/// What to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin<'a> {
    /// A merge of the target into the branch, left to be concluded even where it fits.
    Merge,
    /// A rebase of the branch onto the target.
    Rebase,
    /// A rebase onto the target of what the branch has beyond this commit of it; the rest stays behind.
    Replay(&'a CommitId),
}

impl Repository {
    /// Begins to bring `onto` into the branch of a worktree. What was begun before with the same commit is gone on
    /// with, so a caller that was cut off can call again.
    ///
    /// `name` is what the other side is called in messages, such as the target's name.
    pub(crate) fn begin(
        &self,
        what: Begin<'_>,
        worktree: &Path,
        (onto, name): (&CommitId, &str),
        kept: &KeptWork,
    ) -> Result<Begun, GitError> {
        let linked = self.linked(worktree)?;
        if let Some(operation) = Operation::under_way(linked.git_dir()) {
            if self.is_about(&linked, operation, onto)? {
                return self.open(&linked, operation);
            }
            let why = format!("a {} is unfinished in its worktree", operation.as_str());
            return Ok(Begun::Refused { why });
        }
        if let Some(why) = self.in_the_way(&linked, kept)? {
            return Ok(Begun::Refused { why });
        }
        self.drop_dead_locks(worktree)?;
        let call = match what {
            Begin::Merge => {
                let message = format!("Merge {name} into {}", kept.branch());
                let call = self.git(linked.path(), ["merge", "--quiet", "--no-commit", "--no-ff", "-m"]);
                // By its name where that means the same: git writes it beside the markers of conflicts.
                let is_named = self.resolve(name)?.as_ref() == Some(onto);
                let theirs = if is_named { name } else { onto.as_str() };
                call.args([message.as_str(), theirs]).config("merge.autoStash=false")
            }
            Begin::Rebase | Begin::Replay(_) => {
                let call = self.git(linked.path(), ["rebase", "--quiet", "--no-autosquash"]);
                let call = match what {
                    Begin::Replay(since) => call.args(["--onto", onto.as_str(), since.as_str()]),
                    _ => call.args([onto.as_str()]),
                };
                call.config("rebase.autoStash=false").config("rebase.updateRefs=false").env("GIT_EDITOR", "true")
            }
        };
        let done = call.own_locale().run()?;
        match Operation::under_way(linked.git_dir()) {
            Some(operation) => self.open(&linked, operation),
            None if done.code() == 0 => Ok(Begun::Done),
            None => Ok(Begun::Refused { why: last_words(&done) }),
        }
    }

    /// Files in conflict in a worktree, from its root.
    pub(crate) fn unmerged(&self, worktree: &Path) -> Result<Vec<PathBuf>, GitError> {
        let state = self.worktree_state(&self.linked(worktree)?, None)?;
        let conflicted = state.entries.into_iter().filter(|entry| entry.kind == EntryKind::Conflicted);
        Ok(conflicted.map(|entry| entry.path).collect())
    }

    /// What is unfinished in a worktree.
    pub(crate) fn operation_in(&self, worktree: &Path) -> Result<Option<Operation>, GitError> {
        Ok(Operation::under_way(self.linked(worktree)?.git_dir()))
    }

    /// Takes files of a worktree as resolved.
    pub(crate) fn take_resolved(&self, worktree: &Path, files: &[PathBuf]) -> Result<(), GitError> {
        let linked = self.linked(worktree)?;
        let call = self.git(linked.path(), ["add", "--"]).env("GIT_LITERAL_PATHSPECS", "1");
        call.args(files.iter().map(PathBuf::as_path)).output().map(drop)
    }

    /// Concludes a merge, or goes on with a rebase, with the person's hooks and signing; `Open` when a rebase stops
    /// at its next conflict.
    ///
    /// # Errors
    /// [`GitError::Failed`] when git does not, such as when a hook refuses the commit.
    pub(crate) fn conclude(&self, worktree: &Path, timeout: Duration) -> Result<Begun, GitError> {
        let linked = self.linked(worktree)?;
        let args: &[&str] = match Operation::under_way(linked.git_dir()) {
            None => return Ok(Begun::Done),
            Some(Operation::Merge) => &["commit", "--quiet", "--no-edit"],
            Some(Operation::Rebase) => &["rebase", "--continue"],
            Some(other) => {
                return Ok(Begun::Refused { why: format!("a {} is unfinished in its worktree", other.as_str()) });
            }
        };
        let call = self.git(linked.path(), args.iter().copied());
        let call = call.env("GIT_EDITOR", "true").own_locale().timeout(timeout);
        let (name, done) = (call.name(), call.run()?);
        match Operation::under_way(linked.git_dir()) {
            None => Ok(Begun::Done),
            Some(operation) => match self.open(&linked, operation)? {
                Begun::Open { files, .. } if files.is_empty() => Err(super::program::failed(name, &done)),
                open => Ok(open),
            },
        }
    }

    /// Gives up what is unfinished in a worktree whose files are in `kept`; the branch is where it was before.
    ///
    /// # Errors
    /// [`GitError::Refused`] when `kept` is for another worktree, or the files changed since; git's words where it does
    /// not.
    pub(crate) fn give_up(&self, worktree: &Path, kept: &KeptWork) -> Result<(), GitError> {
        let linked = self.linked(worktree)?;
        let Some(operation) = Operation::under_way(linked.git_dir()) else { return Ok(()) };
        self.check_kept(&linked, kept, "giving up what is begun in")?;
        self.git(linked.path(), [operation.as_str(), "--abort"]).own_locale().output().map(drop)
    }

    /// The operation with its files in conflict.
    fn open(&self, linked: &Linked, operation: Operation) -> Result<Begun, GitError> {
        Ok(Begun::Open { operation, files: self.unmerged(linked.path())? })
    }

    /// Whether what is under way brings in `onto`.
    fn is_about(&self, linked: &Linked, operation: Operation, onto: &CommitId) -> Result<bool, GitError> {
        let file = match operation {
            Operation::Merge => "MERGE_HEAD",
            Operation::Rebase => "rebase-merge/onto",
            Operation::CherryPick | Operation::Revert => return Ok(false),
        };
        let said = read_if_exists(&linked.git_dir().join(file))?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&said).trim() == onto.as_str())
    }

    /// Why nothing can be begun in a worktree.
    fn in_the_way(&self, linked: &Linked, kept: &KeptWork) -> Result<Option<String>, GitError> {
        let state = self.worktree_state(linked, None)?;
        if state.branch.as_ref() != Some(kept.branch()) || state.head.as_ref() != kept.branch_head() {
            return Ok(Some(format!("its worktree is not on `{}` as it was kept", kept.branch())));
        }
        let is_work = |kind| !matches!(kind, EntryKind::Untracked | EntryKind::NestedRepository);
        let changed: Vec<_> = state.entries.iter().filter(|entry| is_work(entry.kind)).collect();
        Ok(changed.first().map(|first| {
            let more = if changed.len() > 1 { format!(" and {} more", changed.len() - 1) } else { String::new() };
            format!("`{}`{more} in its worktree is not committed", first.path.display())
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::fixture::{Fixture, branch, put, with_line};

    /// A worktree whose commits conflict with `main` in `a`, and what was kept of it.
    fn conflicted(fixture: &Fixture) -> (PathBuf, CommitId, KeptWork) {
        let folder = fixture.worktree("x");
        put(&folder.join("a"), &with_line("a", 3, "X"));
        fixture.commit_in(&folder, "X");
        put(&folder.join("b"), &with_line("b", 3, "X"));
        fixture.commit_in(&folder, "X too");
        fixture.write("a", &with_line("a", 3, "M"));
        let onto = fixture.commit("M");
        let kept = keep(fixture, &folder);
        (folder, onto, kept)
    }

    fn keep(fixture: &Fixture, folder: &Path) -> KeptWork {
        fixture.open().keep(&"x".parse().unwrap(), Some(folder), &branch("x"), "before").unwrap()
    }

    fn open(operation: Operation, files: &[&str]) -> Begun {
        Begun::Open { operation, files: files.iter().map(PathBuf::from).collect() }
    }

    #[test]
    fn a_merge_is_begun_resolved_and_concluded() {
        let fixture = Fixture::new();
        let (folder, onto, kept) = conflicted(&fixture);
        let repository = fixture.open();
        let begin = || repository.begin(Begin::Merge, &folder, (&onto, "main"), &kept).unwrap();
        assert_eq!(begin(), open(Operation::Merge, &["a"]));
        // Cut off and called again: the same, whatever was resolved meanwhile.
        assert_eq!(begin(), open(Operation::Merge, &["a"]));
        assert!(matches!(repository.conclude(&folder, Duration::from_secs(20)).unwrap(), Begun::Open { .. }));
        put(&folder.join("a"), &with_line("a", 3, "X and M"));
        repository.take_resolved(&folder, &[PathBuf::from("a")]).unwrap();
        assert_eq!(repository.unmerged(&folder).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(repository.conclude(&folder, Duration::from_secs(20)).unwrap(), Begun::Done);
        assert_eq!(fixture.git(&folder, &["log", "-1", "--format=%s"]), "Merge main into x");
        assert_eq!(fixture.git(&folder, &["rev-parse", "HEAD^2"]), onto.as_str());
        assert_eq!(repository.conclude(&folder, Duration::from_secs(20)).unwrap(), Begun::Done);
    }

    #[test]
    fn what_was_killed_as_it_began_is_begun_again() {
        for what in [Begin::Merge, Begin::Rebase] {
            let fixture = Fixture::new();
            let (folder, onto, kept) = conflicted(&fixture);
            let repository = fixture.open();
            put(&repository.linked(&folder).unwrap().git_dir().join("index.lock"), "");
            let begun = repository.begin(what, &folder, (&onto, "main"), &kept).unwrap();
            assert!(matches!(begun, Begun::Open { .. }), "{begun:?}");
        }
    }

    #[test]
    fn what_is_begun_can_be_given_up_after_its_files_were_kept() {
        for what in [Begin::Merge, Begin::Rebase] {
            let fixture = Fixture::new();
            let (folder, onto, kept) = conflicted(&fixture);
            let repository = fixture.open();
            repository.begin(what, &folder, (&onto, "main"), &kept).unwrap();
            put(&folder.join("a"), "half resolved\n");
            // What was kept before does not hold the edit.
            assert!(matches!(repository.give_up(&folder, &kept), Err(GitError::Refused { .. })));
            let now = keep(&fixture, &folder);
            repository.give_up(&folder, &now).unwrap();
            assert_eq!(repository.operation_in(&folder).unwrap(), None);
            assert_eq!(Some(&fixture.head("x")), kept.branch_head());
            assert_eq!(fixture.git(&folder, &["status", "--porcelain", "--branch"]), "## x");
            assert_eq!(fixture.git(&folder, &["show", &format!("{}:a", now.keep_ref())]), "half resolved");
            repository.give_up(&folder, &now).unwrap();
        }
    }

    #[test]
    fn a_rebase_is_begun_and_goes_on_to_its_end() {
        let fixture = Fixture::new();
        let (folder, onto, kept) = conflicted(&fixture);
        let repository = fixture.open();
        let begun = repository.begin(Begin::Rebase, &folder, (&onto, "main"), &kept).unwrap();
        assert_eq!(begun, open(Operation::Rebase, &["a"]));
        put(&folder.join("a"), &with_line("a", 3, "X and M"));
        repository.take_resolved(&folder, &[PathBuf::from("a")]).unwrap();
        assert_eq!(repository.conclude(&folder, Duration::from_secs(20)).unwrap(), Begun::Done);
        assert_eq!(fixture.git(&folder, &["log", "--format=%s", "main..HEAD"]), "X too\nX");
        // The branch as it was is kept.
        let before = kept.branch_head().unwrap();
        assert!(fixture.succeeds(&folder, &["merge-base", "--is-ancestor", before.as_str(), kept.keep_ref()]));
    }

    #[test]
    fn a_replay_leaves_behind_what_the_branch_had_before() {
        let fixture = Fixture::new();
        let (folder, _, kept) = conflicted(&fixture);
        let (since, onto) = (fixture.head("x~1"), fixture.head("main"));
        let begun = fixture.open().begin(Begin::Replay(&since), &folder, (&onto, "main"), &kept).unwrap();
        assert_eq!(begun, Begun::Done, "what conflicts is left behind");
        assert_eq!(fixture.git(&folder, &["log", "--format=%s", "main..HEAD"]), "X too");
    }

    #[test]
    fn what_fits_is_rebased_at_once_and_a_merge_of_it_waits_to_be_concluded() {
        for what in [Begin::Merge, Begin::Rebase] {
            let fixture = Fixture::new();
            let folder = fixture.worktree("x");
            put(&folder.join("b"), "X\n");
            fixture.commit_in(&folder, "X");
            fixture.write("a", "M\n");
            let onto = fixture.commit("M");
            let kept = keep(&fixture, &folder);
            let begun = fixture.open().begin(what, &folder, (&onto, "main"), &kept).unwrap();
            let expected = if what == Begin::Merge { open(Operation::Merge, &[]) } else { Begun::Done };
            assert_eq!(begun, expected);
        }
    }

    #[test]
    fn nothing_is_begun_over_work_that_is_not_committed() {
        let fixture = Fixture::new();
        let (folder, onto, kept) = conflicted(&fixture);
        put(&folder.join("c"), "not committed\n");
        for what in [Begin::Merge, Begin::Rebase] {
            let begun = fixture.open().begin(what, &folder, (&onto, "main"), &kept).unwrap();
            assert_eq!(begun, Begun::Refused { why: "`c` in its worktree is not committed".to_owned() });
        }
        fixture.git(&folder, &["checkout", "-q", "c"]);
        // An untracked file is in nobody's way but where the target has one of that name: git says so itself.
        put(&folder.join("late"), "untracked\n");
        fixture.write("late", "of main\n");
        let late = fixture.commit("late");
        let begun = fixture.open().begin(Begin::Merge, &folder, (&late, "main"), &kept).unwrap();
        assert!(matches!(begun, Begun::Refused { .. }), "{begun:?}");
        assert_eq!(std::fs::read_to_string(folder.join("late")).unwrap(), "untracked\n");
        assert_eq!(fixture.open().operation_in(&folder).unwrap(), None);
        // Another branch than the kept one, or another commit.
        fixture.git(&folder, &["commit", "-q", "--allow-empty", "-m", "later"]);
        let begun = fixture.open().begin(Begin::Merge, &folder, (&onto, "main"), &kept).unwrap();
        assert_eq!(begun, Begun::Refused { why: "its worktree is not on `x` as it was kept".to_owned() });
    }
}
