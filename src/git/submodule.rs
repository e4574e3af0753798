//! Commits of submodules that a branch points to and that nobody else could fetch.

use std::path::{Path, PathBuf};

use git2::{DiffOptions, FileMode};

use super::program::{path_of, split_nul};
use super::repository::find_tree;
use super::{GitError, Repository};
use crate::model::CommitId;

/// The mode of a submodule in a tree.
const GITLINK: &str = "160000";

impl Repository {
    /// The submodules that `work` points to a commit of, unlike `base`, that is in no remote of theirs: it would be
    /// gone with `worktree`. What is not checked out there cannot be judged and is passed over.
    pub(crate) fn stranded_submodules(
        &self,
        worktree: &Path,
        base: &CommitId,
        work: &CommitId,
    ) -> Result<Vec<PathBuf>, GitError> {
        let mut stranded = Vec::new();
        for (path, commit) in self.moved_submodules(base, work)? {
            let folder = worktree.join(&path);
            if folder.join(".git").exists() && !self.is_in_a_remote(&folder, &commit)? {
                stranded.push(path);
            }
        }
        Ok(stranded)
    }

    /// The submodules whose commit differs between two commits and that are checked out in `worktree` at another one
    /// than the newer wants: as after `git merge`, their own checkout stays where it is.
    pub(crate) fn submodules_behind(
        &self,
        worktree: &Path,
        from: &CommitId,
        to: &CommitId,
    ) -> Result<Vec<PathBuf>, GitError> {
        if !worktree.join(".gitmodules").exists() {
            return Ok(Vec::new());
        }
        let mut behind = Vec::new();
        for (path, commit) in self.moved_submodules(from, to)? {
            let folder = worktree.join(&path);
            if folder.join(".git").exists() && self.git(&folder, ["rev-parse", "HEAD"]).reading().text()? != commit {
                behind.push(path);
            }
        }
        Ok(behind)
    }

    /// The submodules whose commit differs between two commits, with the newer one.
    fn moved_submodules(&self, from: &CommitId, to: &CommitId) -> Result<Vec<(PathBuf, String)>, GitError> {
        if let Some(moved) = self.libgit().and_then(|repo| moved_by_libgit(&repo, from, to).ok()) {
            return Ok(moved);
        }
        let args = ["diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", "--ignore-submodules=none"];
        let call = self.git(self.home(), args).args([from.as_str(), to.as_str(), "--"]);
        let out = call.reading().output()?.stdout;
        let mut fields = split_nul(&out);
        let mut moved = Vec::new();
        while let (Some(change), Some(path)) = (fields.next(), fields.next()) {
            let change = String::from_utf8_lossy(change);
            let words: Vec<_> = change.split(' ').collect();
            if let [_, GITLINK, _, commit, ..] = words[..] {
                moved.push((path_of(path), commit.to_owned()));
            }
        }
        Ok(moved)
    }

    /// Whether a remote of the repository in `folder` has a commit, as far as is known there.
    fn is_in_a_remote(&self, folder: &Path, commit: &str) -> Result<bool, GitError> {
        let args = ["rev-list", "--max-count=1", commit, "--not", "--remotes"];
        let done = self.git(folder, args).reading().run()?;
        // A commit that is not even there is not lost with the folder.
        Ok(done.code() != 0 || done.stdout.trim_ascii().is_empty())
    }
}

/// The same as [`Repository::moved_submodules`] without a process.
fn moved_by_libgit(
    repo: &git2::Repository,
    from: &CommitId,
    to: &CommitId,
) -> Result<Vec<(PathBuf, String)>, git2::Error> {
    let (from, to) = (find_tree(repo, from)?, find_tree(repo, to)?);
    let mut options = DiffOptions::new();
    options.ignore_submodules(false);
    let diff = repo.diff_tree_to_tree(Some(&from), Some(&to), Some(&mut options))?;
    let moved = diff.deltas().map(|delta| delta.new_file()).filter(|file| file.mode() == FileMode::Commit);
    let pairs = moved.filter_map(|file| Some((path_of(file.path_bytes()?), file.id().to_string())));
    Ok(pairs.collect())
}
