//! What a worktree holds that is not committed, as `git status` sees it.

use std::path::{Path, PathBuf};

use super::program::path_of;
use super::worktree::Linked;
use super::{GitError, Repository};
use crate::model::{BranchName, CommitId};

/// A worktree's head and everything in it that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorktreeState {
    /// The commit that is checked out; `None` when its branch has no commit or is gone.
    pub(crate) head: Option<CommitId>,
    /// The branch that is checked out; `None` when the head is detached.
    pub(crate) branch: Option<BranchName>,
    /// What is unfinished.
    pub(crate) operation: Option<Operation>,
    /// Paths that differ from the index or whose index differs from the head.
    pub(crate) entries: Vec<Entry>,
}

/// A git operation that waits to be continued or given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A merge.
    Merge,
    /// A rebase, or patches being applied.
    Rebase,
    /// A cherry-pick.
    CherryPick,
    /// A revert.
    Revert,
}

impl Operation {
    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Rebase => "rebase",
            Self::CherryPick => "cherry-pick",
            Self::Revert => "revert",
        }
    }

    /// The operation that a worktree's git folder says is under way.
    pub(super) fn under_way(git_dir: &Path) -> Option<Self> {
        let marks = [
            ("rebase-merge", Self::Rebase),
            ("rebase-apply", Self::Rebase),
            ("CHERRY_PICK_HEAD", Self::CherryPick),
            ("REVERT_HEAD", Self::Revert),
            ("MERGE_HEAD", Self::Merge),
        ];
        marks.into_iter().find(|(mark, _)| git_dir.join(mark).exists()).map(|(_, operation)| operation)
    }
}

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The path from the worktree's root.
    pub(crate) path: PathBuf,
    /// How git sees it.
    pub(crate) kind: EntryKind,
    /// Whether the file differs from the index, and not only the index from the head.
    pub(super) differs_on_disk: bool,
}

/// How git sees a path that differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// In the index.
    Tracked,
    /// In the index in several versions.
    Conflicted,
    /// Not in the index, and not ignored.
    Untracked,
    /// A folder that is a repository of its own and not in the index.
    NestedRepository,
    /// A submodule; `dirty` when it holds changes that no commit of it has.
    Submodule {
        /// Whether there is uncommitted work in it.
        dirty: bool,
    },
}

impl WorktreeState {
    /// The entries without untracked ones that lie in `made_paths`.
    pub(crate) fn changed_except<'a>(&'a self, made_paths: &'a [PathBuf]) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| {
            let untracked = matches!(entry.kind, EntryKind::Untracked | EntryKind::NestedRepository);
            !(untracked && made_paths.iter().any(|made| entry.path.starts_with(made)))
        })
    }
}

impl Repository {
    /// Reads the state of a worktree. Against its own index nothing is written; a private `index` is refreshed.
    pub(super) fn worktree_state(&self, linked: &Linked, index: Option<&Path>) -> Result<WorktreeState, GitError> {
        let flags = ["status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all", "--no-renames"];
        let more = ["--ignore-submodules=none", "--no-ahead-behind", "--no-show-stash"];
        let call = self.git(linked.path(), flags).args(more).config("core.fsmonitor=false");
        let call = match index {
            Some(index) => call.env("GIT_INDEX_FILE", index),
            None => call.reading(),
        };
        let out = call.output()?.stdout;
        let unexpected = |line: &[u8]| GitError::Unexpected {
            command: "git status".to_owned(),
            answer: String::from_utf8_lossy(line).chars().take(80).collect(),
        };
        let operation = Operation::under_way(linked.git_dir());
        let mut state = WorktreeState { head: None, branch: None, operation, entries: Vec::new() };
        for line in super::program::split_nul(&out) {
            state.take_line(line).ok_or_else(|| unexpected(line))?;
        }
        Ok(state)
    }
}

impl WorktreeState {
    /// Takes one record of `git status --porcelain=v2 -z` (git-status(1)); `None` when it is not understood.
    fn take_line(&mut self, line: &[u8]) -> Option<()> {
        let (kind, rest) = line.split_at_checked(2)?;
        match kind {
            b"# " => self.take_header(std::str::from_utf8(rest).ok()?),
            b"1 " => self.entries.push(tracked(rest, 7)?),
            b"u " => {
                self.entries.push(Entry { kind: EntryKind::Conflicted, differs_on_disk: true, ..tracked(rest, 9)? })
            }
            b"? " => {
                let nested = rest.ends_with(b"/");
                let kind = if nested { EntryKind::NestedRepository } else { EntryKind::Untracked };
                let path = path_of(rest.strip_suffix(b"/").unwrap_or(rest));
                self.entries.push(Entry { path, kind, differs_on_disk: true });
            }
            _ => return None,
        }
        Some(())
    }

    /// Takes a header; unknown ones are passed over, as the format asks.
    fn take_header(&mut self, header: &str) {
        match header.split_once(' ') {
            Some(("branch.oid", id)) => self.head = id.parse().ok(),
            Some(("branch.head", name)) if name != "(detached)" => self.branch = name.parse().ok(),
            _ => {}
        }
    }
}

/// An entry of a path in the index; `skip` words come before the path, the first being the two letters of change
/// and the second what is known of a submodule.
fn tracked(rest: &[u8], skip: usize) -> Option<Entry> {
    let mut words = rest.splitn(skip + 1, |byte| *byte == b' ');
    let change = words.next()?;
    let submodule = words.next()?;
    let path = path_of(words.nth(skip - 2)?);
    let kind = match submodule.first() {
        Some(b'S') => EntryKind::Submodule { dirty: submodule.get(2..) != Some(b"..") },
        _ => EntryKind::Tracked,
    };
    Some(Entry { path, kind, differs_on_disk: change.get(1) != Some(&b'.') })
}
