//! Commits that a branch had and has no more, because a person moved it back.

use super::{GitError, Repository};
use crate::model::{BranchName, CommitId};

/// How far back the log of a branch is looked at.
const MOVES: &str = "--max-count=500";

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
        let log = self.git(self.home(), ["log", "--walk-reflogs", "--format=%H", MOVES, &reference, "--"]);
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
