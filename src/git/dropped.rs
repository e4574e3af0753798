//! Commits that a branch had and has no more, because a person rewrote it.

use std::collections::BTreeSet;

use git2::Oid;

use super::{GitError, Repository, commit_id};
use crate::model::{BranchName, CommitId};

/// How many moves of a branch are looked at, the last ones.
const MOVES: usize = 500;

impl Repository {
    /// The commits of `work` that `branch` once had and, at `head`, has no more, newest first. By the branch's reflog:
    /// where there is none, nothing is known of that. What `head` has as another commit with the same change (after an
    /// amended message or a rebase) does not count, and neither do merges, which bring nothing of their own.
    pub(crate) fn dropped_commits(
        &self,
        branch: &BranchName,
        head: &CommitId,
        work: &CommitId,
    ) -> Result<Vec<CommitId>, GitError> {
        let earlier = self.earlier_heads(branch)?;
        if earlier.is_empty() {
            return Ok(Vec::new());
        }
        let dropped = self.left_behind(&earlier, head)?;
        // Nearly always the end: the branch only ever moved on.
        if dropped.is_empty() {
            return Ok(Vec::new());
        }
        let range = format!("{head}...{work}");
        let args = ["rev-list", "--right-only", "--cherry-pick", "--no-merges", range.as_str(), "--"];
        let text = self.git(self.home(), args).reading().text()?;
        text.lines().filter(|id| dropped.contains(*id)).map(commit_id).collect()
    }

    /// The commits that were reachable from some heads and are not from `head`, as hex.
    fn left_behind(&self, earlier: &BTreeSet<String>, head: &CommitId) -> Result<BTreeSet<String>, GitError> {
        if let Some(repo) = self.walker() {
            let walk = || {
                let (mut walk, objects) = (repo.revwalk()?, repo.odb()?);
                // What is gone from the object database brings nothing back.
                for id in earlier.iter().filter_map(|id| Oid::from_str(id).ok()).filter(|id| objects.exists(*id)) {
                    walk.push(id)?;
                }
                walk.hide(Oid::from_str(head.as_str())?)?;
                walk.map(|id| id.map(|id| id.to_string())).collect::<Result<_, git2::Error>>()
            };
            return walk().map_err(GitError::libgit("walk the log of the branch"));
        }
        let from: String = earlier.iter().map(|id| format!("{id}\n")).collect();
        let call = self.git(self.home(), ["rev-list", "--ignore-missing", "--stdin"]).reading();
        let text = call.stdin(format!("{from}^{head}\n").into_bytes()).text()?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Where a branch pointed at its last moves, as hex.
    fn earlier_heads(&self, branch: &BranchName) -> Result<BTreeSet<String>, GitError> {
        let reference = format!("refs/heads/{branch}");
        if let Some(repo) = self.libgit() {
            let failed = || GitError::libgit("read the log of the branch");
            // Reading one that is not there would make it.
            if !repo.reference_has_log(&reference).map_err(failed())? {
                return Ok(BTreeSet::new());
            }
            let log = repo.reflog(&reference).map_err(failed())?;
            let ids = log.iter().take(MOVES).flat_map(|entry| [entry.id_old(), entry.id_new()]);
            return Ok(ids.filter(|id| !id.is_zero()).map(|id| id.to_string()).collect());
        }
        let count = format!("--max-count={MOVES}");
        let log = self.git(self.home(), ["log", "--walk-reflogs", "--format=%H", &count, &reference, "--"]);
        let log = log.reading().run()?;
        // Without a log git fails.
        Ok(if log.code() == 0 { log.text().lines().map(str::to_owned).collect() } else { BTreeSet::new() })
    }
}
