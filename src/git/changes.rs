//! The figures of a worktree against its base.

use git2::{DiffOptions, Oid};

use super::snapshot::Snapshot;
use super::{GitError, Repository, StateOf};
use crate::model::worker::{Changes, Place};
use crate::model::{CommitId, WorkerId};

impl Repository {
    /// Saves a worktree to its wip ref, and as a state to go back to where one is named, of which so many stay, and
    /// measures what is its worker's own in it.
    pub(crate) fn save_and_measure(
        &self,
        worker: &WorkerId,
        place: &Place,
        state: Option<(StateOf, usize)>,
    ) -> Result<Changes, GitError> {
        let taken = self.snapshot(&place.worktree, worker, &place.made_paths, false)?;
        if let Some((of, most)) = state {
            self.record_state(worker, &taken, of, most)?;
        }
        let base = match &taken.head {
            Some(head) => self.own_base(place, head)?,
            None => place.base.clone(),
        };
        self.changes(&base, &taken)
    }

    /// The files in which two commits differ, from the top of the repository and in the order of their names; a moved one
    /// counts in both places.
    pub(crate) fn changed_files(&self, from: &CommitId, to: &CommitId) -> Result<Vec<String>, GitError> {
        let paths = self.changed_paths(from, to)?;
        Ok(paths.into_iter().map(|path| String::from_utf8_lossy(&path).into_owned()).collect())
    }

    /// Counts what a snapshot has that its base has not: commits of its head, files, lines.
    pub(crate) fn changes(&self, base: &CommitId, snapshot: &Snapshot) -> Result<Changes, GitError> {
        let (files_changed, insertions, deletions) = self.count_lines(base, &snapshot.commit)?;
        let commits = match &snapshot.head {
            Some(head) if head != base => self.count_commits(base, head)?,
            _ => 0,
        };
        Ok(Changes { commits, files_changed, insertions, deletions, dirty: snapshot.dirty, at: snapshot.at })
    }

    /// Commits that `head` has and `base` has not.
    fn count_commits(&self, base: &CommitId, head: &CommitId) -> Result<usize, GitError> {
        if let Some(repo) = self.libgit() {
            let count = || {
                let ids = (Oid::from_str(head.as_str())?, Oid::from_str(base.as_str())?);
                Ok(repo.graph_ahead_behind(ids.0, ids.1)?.0)
            };
            return count().map_err(GitError::libgit("count commits"));
        }
        let range = format!("{base}..{head}");
        let text = self.git(self.home(), ["rev-list", "--count", range.as_str()]).reading().text()?;
        text.parse().map_err(|_| GitError::Unexpected { command: "git rev-list".to_owned(), answer: text })
    }

    /// Files, lines added and lines removed between the trees of two commits. Lines of binary files do not count.
    fn count_lines(&self, base: &CommitId, head: &CommitId) -> Result<(usize, usize, usize), GitError> {
        if let Some(repo) = self.libgit() {
            let count = || {
                let old = super::repository::find_tree(&repo, base)?;
                let new = super::repository::find_tree(&repo, head)?;
                let mut options = DiffOptions::new();
                options.context_lines(0).skip_binary_check(false);
                let diff = repo.diff_tree_to_tree(Some(&old), Some(&new), Some(&mut options))?;
                let stats = diff.stats()?;
                Ok((stats.files_changed(), stats.insertions(), stats.deletions()))
            };
            return count().map_err(GitError::libgit("count changed lines"));
        }
        let call =
            self.git(self.home(), ["diff-tree", "-r", "--no-renames", "--numstat", "-z", base.as_str(), head.as_str()]);
        let out = call.reading().output()?.stdout;
        let mut counts = (0, 0, 0);
        for line in super::program::split_nul(&out) {
            let mut words = line.split(|byte| *byte == b'\t').map(|word| std::str::from_utf8(word).unwrap_or_default());
            let mut number = || words.next().and_then(|word| word.parse::<usize>().ok()).unwrap_or(0);
            counts = (counts.0 + 1, counts.1 + number(), counts.2 + number());
        }
        Ok(counts)
    }
}
