//! Finds the worktrees that hold a branch, also those that will come back to it after a rebase or a bisection.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files::{FileError, read_if_exists};
use crate::git::program::path_of;
use crate::git::{GitError, Repository};
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
const OPERATIONS: [(&str, &str); 6] = [
    ("MERGE_HEAD", "a merge"),
    ("rebase-merge", "a rebase"),
    ("rebase-apply", "a rebase"),
    ("CHERRY_PICK_HEAD", "a cherry-pick"),
    ("REVERT_HEAD", "a revert"),
    ("BISECT_LOG", "a bisection"),
];

/// Files in a worktree's git folder that name the branch it will come back to.
const RETURNS: [&str; 4] =
    ["rebase-merge/head-name", "rebase-apply/head-name", "rebase-merge/update-refs", "BISECT_START"];

/// A worktree as git lists it.
#[derive(Debug, Default)]
struct Listed {
    /// Where it is.
    path: PathBuf,
    /// The full name of the branch it is on.
    branch: Option<String>,
    /// The bare repository itself.
    is_bare: bool,
    /// Its folder is gone and git would forget it.
    is_prunable: bool,
}

impl Repository {
    /// The worktrees that hold `branch`.
    pub(super) fn holders(&self, branch: &BranchName) -> Result<Vec<Holder>, GitError> {
        let reference = format!("refs/heads/{branch}");
        let mut holders = Vec::new();
        for listed in self.listed()? {
            let is_on = listed.branch.as_ref() == Some(&reference);
            let Some(git_dir) = git_dir_of(&listed.path)? else {
                if is_on {
                    let why = Some("the worktree is locked and cannot be reached".to_owned());
                    holders.push(Holder { worktree: listed.path, git_dir: PathBuf::new(), why_not: why });
                }
                continue;
            };
            if !is_on && !is_coming_back(&git_dir, branch)? {
                continue;
            }
            let operation = OPERATIONS.iter().find(|(file, _)| git_dir.join(file).exists());
            let why_not = match operation {
                Some((_, operation)) => Some(format!("{operation} is in progress there")),
                None if !is_on => Some("an operation that began on the branch is in progress there".to_owned()),
                None => None,
            };
            holders.push(Holder { worktree: listed.path, git_dir, why_not });
        }
        Ok(holders)
    }

    /// What git lists, without the bare repository and without worktrees whose folder is gone.
    fn listed(&self) -> Result<Vec<Listed>, GitError> {
        let output = self.git(self.home(), ["worktree", "list", "--porcelain", "-z"]).reading().output()?.stdout;
        let mut all: Vec<Listed> = Vec::new();
        for line in output.split(|byte| *byte == 0) {
            if let Some(path) = line.strip_prefix(b"worktree ") {
                all.push(Listed { path: path_of(path), ..Listed::default() });
            }
            let Some(last) = all.last_mut() else { continue };
            if let Some(branch) = line.strip_prefix(b"branch ") {
                last.branch = Some(String::from_utf8_lossy(branch).into_owned());
            }
            last.is_bare |= line == b"bare";
            last.is_prunable |= line == b"prunable" || line.starts_with(b"prunable ");
        }
        all.retain(|listed| !listed.is_bare && !listed.is_prunable);
        Ok(all)
    }
}

/// The git folder of a worktree; `None` when the worktree is not there.
fn git_dir_of(worktree: &Path) -> Result<Option<PathBuf>, GitError> {
    let link = worktree.join(".git");
    match fs::metadata(&link) {
        Ok(meta) if meta.is_dir() => return Ok(Some(link)),
        Ok(_) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(FileError::on("look at", &link)(error).into()),
    }
    let text = read_if_exists(&link)?.unwrap_or_default();
    let target = text.strip_prefix(b"gitdir: ").map(|target| worktree.join(path_of(target.trim_ascii_end())));
    Ok(target.filter(|target| target.is_dir()))
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
