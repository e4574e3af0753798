//! Whether a target has the content of some work already, however it got there: merged, squashed, rebased or picked.
//!
//! Six checks, the cheap ones first; each proves that nothing of the work's content is missing from the target's
//! history, and what none of them proves counts as missing. All compare content exactly: a difference in white space
//! or in a binary file is a difference, and merge drivers of the repository (such as `merge=ours`, which throws one
//! side away) take no part.

use std::collections::BTreeMap;

use super::program::split_nul;
use super::{Forecast, GitError, Repository, commit_id};
use crate::model::CommitId;

/// Commits of the target that are compared with the work at most.
const MOST_COMMITS: usize = 2000;
/// Commits of the target that the work is merged with in memory at most.
const MOST_MERGES: usize = 200;

/// A proof that a target has the content of some work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// What proved it.
    pub(crate) check: Check,
    /// The commit of the target in which it was found, where it is a single one.
    pub(crate) at: Option<CommitId>,
}

/// What can prove that a target has the content of some work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Check {
    /// The target contains its last commit.
    Ancestor,
    /// A commit of the target has exactly its files.
    SameTree,
    /// Merging it into the target changes nothing.
    NothingToMerge,
    /// Each of its commits has one with the same changes in the target: picked or rebased.
    EachCommit,
    /// One commit of the target has all its changes together: squashed.
    Squashed,
    /// Merging it into an earlier state of the target changes nothing: it was all there, and went on from there.
    WasWhole,
}

impl Check {
    /// The word used in JSON and on screen.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ancestor => "ancestor",
            Self::SameTree => "same_tree",
            Self::NothingToMerge => "nothing_to_merge",
            Self::EachCommit => "each_commit",
            Self::Squashed => "squashed",
            Self::WasWhole => "was_whole",
        }
    }
}

impl Held {
    /// What holds, as a clause about the work, with the name of the target.
    pub(crate) fn clause(&self, target: &str) -> String {
        let at = self.at.as_ref().map(CommitId::short).unwrap_or_default();
        match self.check {
            Check::Ancestor => format!("`{target}` contains its last commit"),
            Check::SameTree => format!("{at} on `{target}` has exactly its files"),
            Check::NothingToMerge => format!("merging it into `{target}` changes nothing"),
            Check::EachCommit => format!("`{target}` has a commit with the same changes for each of its own"),
            Check::Squashed => format!("{at} on `{target}` has all its changes"),
            Check::WasWhole => format!("{at} on `{target}` had all of it"),
        }
    }
}

/// What the checks ask about.
struct Question<'a> {
    /// The work.
    work: &'a CommitId,
    /// Where it should be.
    target: &'a CommitId,
    /// Where the two parted.
    fork: CommitId,
}

impl Repository {
    /// What proves that `target` has the content of `work` with each commit behind it; `None` when nothing does.
    pub(crate) fn held_in(&self, work: &CommitId, target: &CommitId) -> Result<Option<Held>, GitError> {
        if self.is_ancestor(work, target)? {
            return Ok(Some(Held { check: Check::Ancestor, at: None }));
        }
        self.held(work, target, true)
    }

    /// The same of the files of a commit that only `swarm` made, whatever stands behind it.
    pub(crate) fn files_held_in(&self, work: &CommitId, target: &CommitId) -> Result<Option<Held>, GitError> {
        self.held(work, target, false)
    }

    /// All checks but the first; that of single commits only where they are the work's own.
    fn held(&self, work: &CommitId, target: &CommitId, by_commits: bool) -> Result<Option<Held>, GitError> {
        // Histories that never met have nothing to be compared by.
        let Some(fork) = self.merge_base(work, target)? else { return Ok(None) };
        let question = Question { work, target, fork };
        let found = |check, at: CommitId| Ok(Some(Held { check, at: Some(at) }));
        if let Some(at) = self.commit_with_its_files(&question)? {
            return found(Check::SameTree, at);
        }
        if self.first_whole(work, std::slice::from_ref(target))?.is_some() {
            return Ok(Some(Held { check: Check::NothingToMerge, at: None }));
        }
        let paths = self.changed_paths(&question.fork, work)?;
        let known = self.patches_since(&question, &paths)?;
        if by_commits && self.has_each_commit(&question, &known)? {
            return Ok(Some(Held { check: Check::EachCommit, at: None }));
        }
        if let Some(at) = self.squashed_as(&question, &known)? {
            return found(Check::Squashed, at);
        }
        let range = [target.to_string(), format!("^{}", question.fork)];
        let line = self.listed(&["--first-parent"], &range, &paths, MOST_MERGES)?;
        match self.first_whole(work, &line)? {
            Some(at) => found(Check::WasWhole, at),
            None => Ok(None),
        }
    }

    /// The first commit of the target since the fork whose tree is that of the work.
    fn commit_with_its_files(&self, question: &Question<'_>) -> Result<Option<CommitId>, GitError> {
        let tree = self.commit_facts(question.work)?.tree;
        let range = format!("{}..{}", question.fork, question.target);
        let call = ["log", "--no-show-signature", "--format=%T %H", range.as_str(), "--"];
        let text = self.git(self.home(), call).reading().text()?;
        let found = text.lines().find_map(|line| line.split_once(' ').filter(|(found, _)| *found == tree));
        found.map(|(_, commit)| commit_id(commit)).transpose()
    }

    /// The first of some commits into which merging the work changes nothing.
    fn first_whole(&self, work: &CommitId, commits: &[CommitId]) -> Result<Option<CommitId>, GitError> {
        if commits.is_empty() {
            return Ok(None);
        }
        let pairs: Vec<_> = commits.iter().map(|commit| (commit.clone(), work.clone())).collect();
        // What the merges would write is of no use to anybody.
        let rehearsal = self.rehearsal()?;
        let forecasts = rehearsal.repository().forecast_plainly(&pairs)?;
        for (commit, forecast) in commits.iter().zip(forecasts) {
            if let Forecast::Clean { tree } = forecast
                && tree == self.commit_facts(commit)?.tree
            {
                return Ok(Some(commit.clone()));
            }
        }
        Ok(None)
    }

    /// Whether the work is single commits only, and each has its like in the target.
    fn has_each_commit(&self, question: &Question<'_>, known: &BTreeMap<String, CommitId>) -> Result<bool, GitError> {
        let range = [question.work.to_string(), format!("^{}", question.target)];
        // What a merge commit itself changed is in no patch.
        if !self.listed(&["--merges"], &range, &[], 1)?.is_empty() {
            return Ok(false);
        }
        let own = self.listed(&[], &range, &[], MOST_COMMITS + 1)?;
        if own.len() > MOST_COMMITS {
            return Ok(false);
        }
        let patches = self.patches(&own)?;
        Ok(!patches.is_empty() && patches.keys().all(|patch| known.contains_key(patch)))
    }

    /// The commit of the target whose changes are those of the whole work.
    fn squashed_as(
        &self,
        question: &Question<'_>,
        known: &BTreeMap<String, CommitId>,
    ) -> Result<Option<CommitId>, GitError> {
        let (fork, work) = (question.fork.as_str(), question.work.as_str());
        let call = self.git(self.home(), ["diff-tree", "-p", "-r", "--binary", "--full-index", "--no-renames"]);
        let patch = call.args([fork, work]).reading().output()?.stdout;
        let headed = [work.as_bytes(), b"\n", &patch].concat();
        Ok(self.patch_ids(headed)?.keys().find_map(|patch| known.get(patch).cloned()))
    }

    /// Ids of the patches of the target's commits since the fork that touch any of `paths`.
    fn patches_since(
        &self,
        question: &Question<'_>,
        paths: &[Vec<u8>],
    ) -> Result<BTreeMap<String, CommitId>, GitError> {
        let range = [question.target.to_string(), format!("^{}", question.fork)];
        let commits = self.listed(&["--no-merges", "--full-history"], &range, paths, MOST_COMMITS)?;
        self.patches(&commits)
    }

    /// Paths that differ between two commits.
    pub(super) fn changed_paths(&self, from: &CommitId, to: &CommitId) -> Result<Vec<Vec<u8>>, GitError> {
        let call = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", from.as_str(), to.as_str()];
        let out = self.git(self.home(), call).reading().output()?.stdout;
        Ok(split_nul(&out).map(<[u8]>::to_vec).collect())
    }

    /// The newest `most` commits of a range, those that touch `paths` where any are given.
    fn listed(
        &self,
        flags: &[&str],
        range: &[String],
        paths: &[Vec<u8>],
        most: usize,
    ) -> Result<Vec<CommitId>, GitError> {
        let count = format!("--max-count={most}");
        let call = self.git(self.home(), ["rev-list", "--stdin", count.as_str()]).args(flags.iter().copied());
        let mut input = format!("{}\n", range.join("\n")).into_bytes();
        // Paths are told by lines: one that holds a line end cannot be told, so all commits are asked for.
        if !paths.is_empty() && !paths.iter().any(|path| path.contains(&b'\n')) {
            input.extend_from_slice(b"--\n");
            input.extend(paths.iter().flat_map(|path| [path.as_slice(), b"\n"].concat()));
        }
        let text = call.stdin(input).env("GIT_LITERAL_PATHSPECS", "1").reading().text()?;
        text.lines().map(commit_id).collect()
    }

    /// The commits by the ids of their patches; those that change nothing have none.
    fn patches(&self, commits: &[CommitId]) -> Result<BTreeMap<String, CommitId>, GitError> {
        if commits.is_empty() {
            return Ok(BTreeMap::new());
        }
        let input: String = commits.iter().map(|commit| format!("{commit}\n")).collect();
        let flags = ["diff-tree", "--stdin", "--root", "-p", "-r", "--binary", "--full-index", "--no-renames"];
        let patches = self.git(self.home(), flags).stdin(input.into_bytes()).reading().output()?.stdout;
        self.patch_ids(patches)
    }

    /// Ids of patches that are each headed by the id of their commit, by the exact text of what they change.
    fn patch_ids(&self, patches: Vec<u8>) -> Result<BTreeMap<String, CommitId>, GitError> {
        let text = self.git(self.home(), ["patch-id", "--verbatim"]).stdin(patches).reading().text()?;
        let mut found = BTreeMap::new();
        for line in text.lines() {
            if let Some((patch, commit)) = line.split_once(' ') {
                found.insert(patch.to_owned(), commit_id(commit)?);
            }
        }
        Ok(found)
    }

    /// Bytes on disk of what only these references hold, and no other one; freed by git's own clean-up some time after
    /// they are gone.
    pub(crate) fn bytes_only_in(&self, references: &[&str]) -> Result<u64, GitError> {
        if references.is_empty() {
            return Ok(0);
        }
        let call = self.git(self.home(), ["rev-list", "--disk-usage", "--objects"]).args(references.iter().copied());
        let call = call.args(["--not"]).args(references.iter().map(|name| format!("--exclude={name}")));
        let call = call.args(["--all"]).reading();
        let command = call.name();
        let text = call.text()?;
        text.trim().parse().map_err(|_| GitError::Unexpected { command, answer: text })
    }
}
