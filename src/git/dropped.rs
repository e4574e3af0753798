//! Commits that a branch had and has no more, because a person moved it back.

use git2::Oid;

use super::{GitError, Repository};
use crate::model::{BranchName, CommitId};

/// How far back the log of a branch is looked at.
const MOVES: usize = 500;

impl Repository {
    /// The commits of `work` that `branch` once had and, at `head`, has no more. By the branch's reflog: where there
    /// is none, nothing is known of that and nothing comes back.
    pub(crate) fn dropped_commits(
        &self,
        branch: &BranchName,
        head: &CommitId,
        work: &CommitId,
    ) -> Result<Vec<CommitId>, GitError> {
        let reference = format!("refs/heads/{branch}");
        if self.libgit().is_some_and(|repo| has_only_gone_on(&repo, &reference, head).unwrap_or(false)) {
            return Ok(Vec::new());
        }
        let most = format!("--max-count={MOVES}");
        let log = self.git(self.home(), ["log", "--walk-reflogs", "--format=%H", &most, &reference, "--"]);
        let log = log.reading().run()?;
        if log.code() != 0 {
            return Ok(Vec::new());
        }
        let dropped = self.reachable(&log.text(), head)?;
        if dropped.is_empty() {
            return Ok(Vec::new());
        }
        let new = self.reachable(work.as_str(), head)?;
        Ok(new.into_iter().filter(|commit| dropped.contains(commit)).collect())
    }

    /// The commits reachable from some, one a line, and not from `head`.
    fn reachable(&self, from: &str, head: &CommitId) -> Result<Vec<CommitId>, GitError> {
        let call = self.git(self.home(), ["rev-list", "--ignore-missing", "--stdin"]).reading();
        let text = call.stdin(format!("{}\n^{head}\n", from.trim()).into_bytes()).text()?;
        text.lines().map(super::commit_id).collect()
    }
}

/// Whether all that a branch's log names is still in it: the usual case, told without starting a process.
fn has_only_gone_on(repo: &git2::Repository, reference: &str, head: &CommitId) -> Result<bool, git2::Error> {
    let log = repo.reflog(reference)?;
    let mut walk = repo.revwalk()?;
    for commit in log.iter().take(MOVES).map(|entry| entry.id_new()) {
        // One that is not there any more is passed over.
        if repo.find_commit(commit).is_ok() {
            walk.push(commit)?;
        }
    }
    walk.hide(Oid::from_str(head.as_str())?)?;
    Ok(walk.next().is_none())
}
