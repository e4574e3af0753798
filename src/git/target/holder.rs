//! Finds the worktrees that hold a branch, also those that will come back to it after a rebase or a bisection.

use std::io;
use std::path::{Path, PathBuf};

use crate::files::read_if_exists;
use crate::git::{GitError, Head, Repository, Worktree};
use crate::model::BranchName;

/// A worktree that holds a branch.
#[derive(Debug)]
pub(super) struct Holder {
    /// The worktree.
    pub(super) worktree: PathBuf,
    /// Its own git folder.
    pub(super) git_dir: PathBuf,
    /// Why it cannot follow the branch, whatever its files.
    pub(super) why_not: Option<String>,
}

/// Files and folders in a worktree's git folder that mean an operation is under way, and what to call it
/// (the list of `wt_status_get_state` in git's own status).
const OPERATIONS: [(&str, &str); 7] = [
    ("MERGE_HEAD", "a merge"),
    ("rebase-merge", "a rebase"),
    ("rebase-apply", "a rebase"),
    ("CHERRY_PICK_HEAD", "a cherry-pick"),
    ("REVERT_HEAD", "a revert"),
    ("BISECT_LOG", "a bisection"),
    // Between two picks of a series only this is there.
    ("sequencer", "a cherry-pick or revert of several commits"),
];

/// Files in a worktree's git folder that name the branch it will come back to.
const RETURNS: [&str; 4] =
    ["rebase-merge/head-name", "rebase-apply/head-name", "rebase-merge/update-refs", "BISECT_START"];

impl Repository {
    /// The worktrees that hold `branch`.
    pub(super) fn holders(&self, branch: &BranchName) -> Result<Vec<Holder>, GitError> {
        let mut holders = Vec::new();
        for Worktree { path: worktree, git_dir, head, locked, .. } in self.worktrees()? {
            let is_on = head == Head::Branch(branch.clone());
            if !is_on && !is_coming_back(&git_dir, branch)? {
                continue;
            }
            if !worktree.is_dir() {
                // One that is not locked is merely forgotten; a locked one can lie on a disk that is not connected.
                if locked {
                    let why = "the worktree is locked and cannot be reached".to_owned();
                    holders.push(Holder { worktree, git_dir, why_not: Some(why) });
                }
                continue;
            }
            let operation = OPERATIONS.iter().find(|(file, _)| git_dir.join(file).exists());
            let why_not = match operation {
                Some((_, operation)) => Some(format!("{operation} is in progress there")),
                None if !is_on => Some("an operation that began on the branch is in progress there".to_owned()),
                None => None,
            };
            holders.push(Holder { worktree, git_dir, why_not });
        }
        Ok(holders)
    }
}

/// Whether an operation under way in a worktree will come back to `branch`.
fn is_coming_back(git_dir: &Path, branch: &BranchName) -> Result<bool, GitError> {
    let full = format!("refs/heads/{branch}");
    for file in RETURNS {
        let text = read_if_exists(&git_dir.join(file));
        let text = match text {
            // `rebase-merge` can be a file of somebody else's making; then it names nothing.
            Err(error) if error.source.kind() == io::ErrorKind::NotADirectory => None,
            text => text?,
        };
        let text = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
        if text.lines().any(|line| line == full || line == branch.as_str()) {
            return Ok(true);
        }
    }
    Ok(false)
}
