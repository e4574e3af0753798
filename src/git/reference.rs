//! Lists of references.

use super::{GitError, Repository};
use crate::model::{CommitId, Time};

impl Repository {
    /// Full names of the references whose names begin with `prefix`, which ends in `/`.
    pub(crate) fn references(&self, prefix: &str) -> Result<Vec<String>, GitError> {
        if let Some(repo) = self.libgit() {
            let attempt = || GitError::libgit("list references");
            let mut found = repo.references_glob(&format!("{prefix}*")).map_err(attempt())?;
            return found.names().map(|name| name.map(str::to_owned)).collect::<Result<_, _>>().map_err(attempt());
        }
        let call = self.git(self.home(), ["for-each-ref", "--format=%(refname)", prefix]);
        Ok(call.reading().text()?.lines().map(str::to_owned).collect())
    }

    /// Lets a reference of ours point to a commit, wherever it pointed before.
    pub(crate) fn set_swarm_ref(&self, name: &str, commit: &CommitId) -> Result<(), GitError> {
        match self.ref_commit(name)? {
            Some(now) if now == *commit => Ok(()),
            now => self.move_ref(name, now.as_ref(), commit),
        }
    }

    /// Deletes a reference of ours that is still at `commit`, whose work somebody decided to let go; no error when it
    /// is gone already.
    ///
    /// # Errors
    /// [`GitError::Refused`] for one that is not below `refs/swarm/`; git's words when it is elsewhere by now.
    pub(crate) fn forget_swarm_ref(&self, name: &str, commit: &CommitId) -> Result<(), GitError> {
        if !name.starts_with("refs/swarm/") {
            let what = format!("deleting `{name}`");
            let hint = "git deletes other references".to_owned();
            return Err(GitError::Refused { what, why: "it is not one of ours".to_owned(), hint });
        }
        self.delete_ref(name, commit)
    }

    /// When a commit was made.
    pub(crate) fn committed_at(&self, commit: &CommitId) -> Result<Time, GitError> {
        let call = ["show", "--no-patch", "--no-notes", "--no-show-signature", "--format=%ct", commit.as_str()];
        let call = self.git(self.home(), call).reading();
        let command = call.name();
        let text = call.text()?;
        let seconds: i64 = text.trim().parse().map_err(|_| GitError::Unexpected { command, answer: text.clone() })?;
        Ok(Time::from_millis(seconds.saturating_mul(1000)))
    }
}
