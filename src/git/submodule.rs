//! Commits of submodules that a branch points to and that nobody else could fetch.

use std::path::{Path, PathBuf};

use super::program::{path_of, split_nul};
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
        let args = ["diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", "--ignore-submodules=none"];
        let call = self.git(self.home(), args).args([base.as_str(), work.as_str(), "--"]);
        let out = call.reading().output()?.stdout;
        let mut fields = split_nul(&out);
        let mut stranded = Vec::new();
        while let (Some(change), Some(path)) = (fields.next(), fields.next()) {
            let change = String::from_utf8_lossy(change);
            let words: Vec<_> = change.split(' ').collect();
            if let [_, GITLINK, _, commit, ..] = words[..] {
                let path = path_of(path);
                let folder = worktree.join(&path);
                if folder.join(".git").exists() && !self.is_in_a_remote(&folder, commit)? {
                    stranded.push(path);
                }
            }
        }
        Ok(stranded)
    }

    /// Whether a remote of the repository in `folder` has a commit, as far as is known there.
    fn is_in_a_remote(&self, folder: &Path, commit: &str) -> Result<bool, GitError> {
        let args = ["rev-list", "--max-count=1", commit, "--not", "--remotes"];
        let done = self.git(folder, args).reading().run()?;
        // A commit that is not even there is not lost with the folder.
        Ok(done.code() != 0 || done.stdout.trim_ascii().is_empty())
    }
}
