//! How commits relate, and what a worktree holds that git does not track.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use git2::Oid;

use super::{GitError, Repository, commit_id};
use crate::model::CommitId;

impl Repository {
    /// The best common ancestor of two commits; `None` when their histories never met.
    pub(crate) fn merge_base(&self, one: &CommitId, other: &CommitId) -> Result<Option<CommitId>, GitError> {
        if let Some(repo) = self.libgit() {
            let ids = || Ok((Oid::from_str(one.as_str())?, Oid::from_str(other.as_str())?));
            let (one, other) = ids().map_err(GitError::libgit("find the common ancestor"))?;
            return match repo.merge_base(one, other) {
                Ok(base) => commit_id(&base.to_string()).map(Some),
                Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
                Err(error) => Err(GitError::libgit("find the common ancestor")(error)),
            };
        }
        let done = self.git(self.home(), ["merge-base", one.as_str(), other.as_str()]).reading().run()?;
        if done.code() == 0 { commit_id(&done.text()).map(Some) } else { Ok(None) }
    }

    /// What lies in a worktree untracked and not ignored, whole folders as one entry; from its root, sorted.
    pub(crate) fn untracked(&self, worktree: &Path) -> Result<Vec<PathBuf>, GitError> {
        let linked = self.linked(worktree)?;
        let args = ["ls-files", "-z", "--others", "--exclude-standard", "--directory"];
        let listed = self.git(linked.path(), args).reading().output()?;
        let parts = listed.stdout.split(|byte| *byte == 0).filter(|part| !part.is_empty());
        let mut paths: Vec<_> = parts.map(|part| PathBuf::from(std::ffi::OsStr::from_bytes(part))).collect();
        paths.sort();
        Ok(paths)
    }
}
