//! Branches of a remote: reading, fetching and pushing them, never over commits of others.
//!
//! Calls run in the main worktree where there is one, as a person's do: hooks expect it, and paths of remotes and hooks
//! that are relative are relative to it.

use std::path::Path;
use std::time::Duration;

use super::{GitError, Repository, commit_id};
use crate::model::{BranchName, CommitId};

/// Time that one call over the network may take.
const NETWORK: Duration = Duration::from_secs(300);
/// Lines of what was said about a refused push that are told.
const REFUSAL_LINES: usize = 3;

/// What a push came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// The remote has the commit.
    Done,
    /// The remote's branch was not where it was thought to be, or would lose commits.
    Moved,
    /// The remote, a hook of it or one of ours refused.
    Refused {
        /// Its last words.
        why: String,
    },
}

impl Repository {
    /// Where calls run that a person would make in the main worktree.
    fn worktree_or_home(&self) -> &Path {
        self.main_worktree().filter(|main| main.is_dir()).unwrap_or_else(|| self.home())
    }

    /// The address of a remote; `None` when there is no such remote.
    pub(crate) fn remote_url(&self, remote: &str) -> Result<Option<String>, GitError> {
        let done = self.git(self.worktree_or_home(), ["remote", "get-url", "--", remote]).reading().run()?;
        Ok((done.code() == 0).then(|| done.text().trim().to_owned()))
    }

    /// Where a remote has a branch now; `None` when it has none of that name.
    pub(crate) fn remote_head(&self, remote: &str, branch: &BranchName) -> Result<Option<CommitId>, GitError> {
        let reference = format!("refs/heads/{branch}");
        let call = self.git(self.worktree_or_home(), ["ls-remote", "--", remote, reference.as_str()]).timeout(NETWORK);
        let text = call.text()?;
        // A pattern also matches at the end of longer names.
        let lines = text.lines().filter_map(|line| line.split_once('\t'));
        lines.filter(|(_, name)| *name == reference).map(|(id, _)| commit_id(id)).next().transpose()
    }

    /// Fetches a branch of a remote into its remote-tracking branch; `None` when the remote has none of that name.
    pub(crate) fn fetch_branch(&self, remote: &str, branch: &BranchName) -> Result<Option<CommitId>, GitError> {
        if self.remote_head(remote, branch)?.is_none() {
            return Ok(None);
        }
        let tracking = format!("refs/remotes/{remote}/{branch}");
        let refspec = format!("+refs/heads/{branch}:{tracking}");
        let call = self.git(self.worktree_or_home(), ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--"]);
        call.args([remote, refspec.as_str()]).timeout(NETWORK).own_locale().output()?;
        self.ref_commit(&tracking)
    }

    /// Fetches a reference of ours of a remote; false when the remote has none of that name.
    pub(crate) fn fetch_swarm_ref(&self, remote: &str, name: &str, into: &str) -> Result<bool, GitError> {
        let place = self.worktree_or_home();
        let there = self.git(place, ["ls-remote", "--", remote, name]).timeout(NETWORK).text()?;
        if !there.lines().any(|line| line.split_once('\t').is_some_and(|(_, found)| found == name)) {
            return Ok(false);
        }
        let refspec = format!("+{name}:{into}");
        let call = self.git(place, ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--"]);
        call.args([remote, refspec.as_str()]).timeout(NETWORK).own_locale().output()?;
        Ok(true)
    }

    /// Lets a reference of ours on a remote point to a commit, or deletes it. The person's hooks take no part: they are
    /// about branches.
    pub(crate) fn push_swarm_ref(&self, remote: &str, name: &str, commit: Option<&CommitId>) -> Result<(), GitError> {
        let refspec = format!("+{}:{name}", commit.map(CommitId::as_str).unwrap_or_default());
        let call =
            self.git(self.worktree_or_home(), ["push", "--quiet", "--no-verify", "--", remote, refspec.as_str()]);
        call.timeout(NETWORK).output().map(drop)
    }

    /// Makes `branch` of a remote point to `commit`, where it is at `expected` now (`None`: it must not exist). Only
    /// what stands between the two can be replaced, so a caller that passes what it pushed itself overwrites nobody.
    /// The person's hooks run.
    pub(crate) fn push_branch(
        &self,
        remote: &str,
        branch: &BranchName,
        commit: &CommitId,
        expected: Option<&CommitId>,
    ) -> Result<Pushed, GitError> {
        let expected = expected.map(CommitId::as_str).unwrap_or_default();
        let lease = format!("--force-with-lease=refs/heads/{branch}:{expected}");
        let refspec = format!("{commit}:refs/heads/{branch}");
        let call =
            self.git(self.worktree_or_home(), ["push", "--porcelain", lease.as_str(), "--", remote, refspec.as_str()]);
        let done = call.timeout(NETWORK).run()?;
        if done.code() == 0 {
            return Ok(Pushed::Done);
        }
        // With --porcelain a rejected reference has the line `! from:to summary (reason)` (git-push(1), "OUTPUT").
        let text = done.text();
        let rejected = text.lines().find(|line| line.starts_with('!'));
        let reason = rejected.and_then(|line| line.split('\t').nth(2)).unwrap_or_default();
        if ["(stale info)", "(non-fast-forward)", "(fetch first)"].iter().any(|why| reason.ends_with(why)) {
            return Ok(Pushed::Moved);
        }
        Ok(Pushed::Refused { why: refusal(reason, &String::from_utf8_lossy(&done.stderr)) })
    }
}

/// Why a push was refused: git's reason, where it gave one, and the last that a hook on either side said.
fn refusal(reason: &str, said: &str) -> String {
    let lines = said.lines().map(|line| line.strip_prefix("remote: ").unwrap_or(line).trim());
    let is_git = |line: &&str| {
        line.is_empty() || ["error: failed to push some refs", "hint: ", "To "].iter().any(|own| line.starts_with(own))
    };
    let words: Vec<_> = lines.filter(|line| !is_git(line)).collect();
    let words = words[words.len().saturating_sub(REFUSAL_LINES)..].join("; ");
    match (reason, words.as_str()) {
        ("", "") => "git gave no reason".to_owned(),
        ("", words) => words.to_owned(),
        (reason, "") => reason.to_owned(),
        (reason, words) => format!("{reason}: {words}"),
    }
}
