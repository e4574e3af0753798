//! Bringing kept work back, without overwriting anything.

use std::path::{Path, PathBuf};

use super::add::NewWorktree;
use super::state::Operation;
use super::{GitError, Repository};
use crate::files::{Access, read_if_exists, write_atomically};
use crate::model::{BranchName, CommitId};

/// Where kept work is to be brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RestoreTo {
    /// A branch that does not exist yet.
    pub(crate) branch: BranchName,
    /// A worktree to make for it; without one, uncommitted work stays in the keep ref.
    pub(crate) worktree: Option<PathBuf>,
}

/// Kept work that was brought back; its keep ref stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Restored {
    /// The head of the new branch.
    pub(crate) head: CommitId,
    /// The new worktree.
    pub(crate) worktree: Option<PathBuf>,
    /// Whether uncommitted work lies in the new worktree as uncommitted changes.
    pub(crate) has_uncommitted: bool,
}

impl Repository {
    /// Brings kept work back as a new branch and, where asked for, a new worktree in which what was uncommitted
    /// is uncommitted again (untracked files too).
    ///
    /// # Errors
    /// [`GitError::Refused`] when `keep_ref` is no keep ref; [`GitError::BranchExists`], [`GitError::PathTaken`].
    pub(crate) fn restore(&self, keep_ref: &str, to: &RestoreTo) -> Result<Restored, GitError> {
        let entry = self.kept()?.into_iter().find(|entry| entry.reference == keep_ref).ok_or_else(|| {
            let what = format!("restoring `{keep_ref}`");
            let hint = "list kept work: swarm recover list".to_owned();
            GitError::Refused { what, why: "there is no kept work of that name".to_owned(), hint }
        })?;
        let Some(path) = &to.worktree else {
            if self.branch_head(&to.branch)?.is_some() {
                return Err(GitError::BranchExists { branch: to.branch.clone() });
            }
            self.move_ref(&format!("refs/heads/{}", to.branch), None, &entry.head)?;
            return Ok(Restored { head: entry.head, worktree: None, has_uncommitted: false });
        };
        let new = NewWorktree {
            path: path.clone(),
            branch: to.branch.clone(),
            base: entry.head.clone(),
            use_existing_branch: false,
        };
        let added = self.add_worktree(&new)?;
        if entry.has_uncommitted {
            self.lay_out_snapshot(&added.path, &entry.head, &entry.commit)?;
        }
        Ok(Restored { head: entry.head, worktree: Some(added.path), has_uncommitted: entry.has_uncommitted })
    }

    /// Puts the files of a saved state into a fresh worktree, leaving its index at the head.
    pub(crate) fn lay_out_snapshot(&self, worktree: &Path, head: &CommitId, saved: &CommitId) -> Result<(), GitError> {
        let linked = self.linked(worktree)?;
        let (head, kept) = (head.as_str(), saved.as_str());
        self.git(linked.path(), ["read-tree", "-m", "-u", head, kept]).own_locale().output()?;
        self.git(linked.path(), ["read-tree", head]).output()?;
        self.git(linked.path(), ["update-index", "-q", "--refresh"]).run()?;
        Ok(())
    }

    /// Puts a worker's last snapshot into a fresh worktree at the head that it was taken on. A merge that was unfinished
    /// is unfinished again, over the files as they were, where git begins it: without it what is left of its conflicts
    /// would look like work.
    pub(crate) fn lay_out_work(&self, worktree: &Path, head: &CommitId, snapshot: &CommitId) -> Result<(), GitError> {
        let linked = self.linked(worktree)?;
        let parents = self.commit_facts(snapshot)?.parents;
        let [_, other] = parents.as_slice() else { return self.lay_out_snapshot(worktree, head, snapshot) };
        let call = self.git(linked.path(), ["merge", "--quiet", "--no-commit", "--no-ff", other.as_str()]);
        call.config("merge.autoStash=false").own_locale().run()?;
        if Operation::under_way(linked.git_dir()) != Some(Operation::Merge) {
            return self.lay_out_snapshot(worktree, head, snapshot);
        }
        let index = linked.index();
        let merged = read_if_exists(&index)?.unwrap_or_default();
        self.git(linked.path(), ["read-tree", "--reset", "-u", snapshot.as_str()]).own_locale().output()?;
        write_atomically(&index, &merged, Access::Shared)?;
        self.git(linked.path(), ["update-index", "-q", "--refresh"]).run()?;
        Ok(())
    }
}
