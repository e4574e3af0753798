//! Bringing a worktree and its branch back to a saved state, after what is there was kept.
//!
//! The order is files, branch, index. The files move by git's own two-tree merge, which refuses as a whole before it
//! changes anything when a file is not what was kept or an ignored one is in the way. Killed anywhere, nothing is
//! lost, because everything is kept before the first step, and doing it again brings it to the end.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::keep::KeptWork;
use super::program::{path_of, split_nul};
use super::snapshot::Extent;
use super::state::Operation;
use super::worktree::Linked;
use super::{GitError, Repository, crash_point};
use crate::files::{Access, FileError, read_if_exists, remove_if_exists, write_atomically};
use crate::model::CommitId;

/// Where a worktree is to be brought back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RewindTo {
    /// The branch's head.
    pub(crate) head: CommitId,
    /// A commit with the files.
    pub(crate) files: CommitId,
}

impl Repository {
    /// How many files going back would change, seen from the last snapshot.
    pub(crate) fn count_changes(&self, from: &CommitId, to: &CommitId) -> Result<usize, GitError> {
        let call = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", from.as_str(), to.as_str()];
        let out = self.git(self.home(), call).reading().output()?.stdout;
        Ok(split_nul(&out).count())
    }

    /// Brings the worktree and the branch that `kept` covers to another state; files that are ignored, and untracked
    /// ones below `made_paths`, stay. An unfinished merge, rebase or the like is ended as it is. Says how many files
    /// changed.
    ///
    /// # Errors
    /// [`GitError::Refused`] when something changed since it was kept, when a git command is at work there, or when a
    /// file that is not tracked and not kept is in the way; then nothing was changed.
    pub(crate) fn rewind(
        &self,
        worktree: &Path,
        kept: &KeptWork,
        to: &RewindTo,
        made_paths: &[PathBuf],
    ) -> Result<usize, GitError> {
        let linked = self.linked(worktree)?;
        let refuse = |why: &str, hint: &str| GitError::Refused {
            what: format!("rewinding `{}`", worktree.display()),
            why: why.to_owned(),
            hint: hint.to_owned(),
        };
        let again = "repeat it";
        let covered = kept.worktree.as_ref().filter(|covered| covered.path == linked.path());
        let covered = covered.ok_or_else(|| refuse("its files were not among what was kept", again))?;
        let old = kept.branch_head().ok_or_else(|| GitError::NoBranch { branch: kept.branch().clone() })?;
        if linked.git_dir().join("index.lock").exists() {
            return Err(refuse("a git command is at work in it", "wait for it, or remove its index.lock"));
        }
        let lock = self.lock_snapshot(kept.worker())?;
        let extent = Extent { made_paths: &[], most_bytes: u64::MAX, anew: true };
        let now = self.take(&linked, kept.worker(), extent, None)?;
        if now.tree != covered.tree || now.state.head != covered.head {
            return Err(refuse("something changed in it since its work was kept", again));
        }
        let index = self.private_index(kept.worker());
        let goal = self.with_made(&linked, &now.tree, &self.tree_of(&to.files)?, made_paths)?;
        let files = self.move_files(&linked, &index, &now.tree, &goal)?;
        crash_point!("files rewound");
        if let Some(operation) = Operation::under_way(linked.git_dir()) {
            self.git(linked.path(), [operation.as_str(), "--quit"]).output()?;
        }
        crash_point!("operation ended");
        let reference = format!("refs/heads/{}", kept.branch());
        let reason = "swarm: rewound";
        let moved = ["update-ref", "-m", reason, reference.as_str(), to.head.as_str(), old.as_str()];
        self.git(linked.path(), moved).output()?;
        crash_point!("branch rewound");
        self.git(linked.path(), ["symbolic-ref", "-m", reason, "HEAD", reference.as_str()]).output()?;
        self.git(linked.path(), ["read-tree", to.head.as_str()]).output()?;
        self.git(linked.path(), ["update-index", "-q", "--refresh"]).run()?;
        crash_point!("index rewound");
        // It knows files that snapshots leave out; the next snapshot starts a new one.
        remove_if_exists(&index)?;
        drop(lock);
        Ok(files)
    }

    /// The tree to go to, with the files below `made_paths` that are there now and in no commit.
    fn with_made(&self, linked: &Linked, now: &str, goal: &str, made_paths: &[PathBuf]) -> Result<String, GitError> {
        if made_paths.is_empty() {
            return Ok(goal.to_owned());
        }
        let listed = self.git(linked.path(), ["ls-tree", "-r", "-z", "--full-tree", now, "--"]);
        let listed = listed.env("GIT_LITERAL_PATHSPECS", "1").args(made_paths.iter().map(|path| path.as_os_str()));
        let made = listed.reading().output()?.stdout;
        let there = self.git(linked.path(), ["ls-tree", "-r", "-z", "--name-only", "--full-tree", goal]);
        let there = there.reading().output()?.stdout;
        let there: HashSet<&[u8]> = split_nul(&there).collect();
        let is_new = |entry: &&[u8]| {
            let path = entry.iter().position(|byte| *byte == b'\t').map(|tab| &entry[tab + 1..]);
            path.is_some_and(|path| !there.contains(path))
        };
        let lines: Vec<u8> = split_nul(&made).filter(is_new).flat_map(|entry| [entry, b"\0"].concat()).collect();
        if lines.is_empty() {
            return Ok(goal.to_owned());
        }
        let index = self.scratch_index()?;
        let call = |args: &[&str]| self.git(linked.path(), args).env("GIT_INDEX_FILE", index.path());
        call(&["read-tree", goal]).output()?;
        call(&["update-index", "-z", "--index-info"]).stdin(lines).output()?;
        call(&["write-tree"]).text()
    }

    /// The first file in the way of what `to` has and `from` has not: it is in no tree, so it is ignored, and git would
    /// write over it.
    fn ignored_in_the_way(&self, linked: &Linked, from: &str, to: &str) -> Result<Option<PathBuf>, GitError> {
        let added = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", "--diff-filter=A", from, to];
        let added = self.git(linked.path(), added).reading().output()?.stdout;
        let known = self.git(linked.path(), ["ls-tree", "-r", "-z", "--name-only", "--full-tree", from]);
        let known = known.reading().output()?.stdout;
        let known: HashSet<PathBuf> = split_nul(&known).map(path_of).collect();
        for path in split_nul(&added).map(path_of) {
            // A file in place of one of its folders, or it or something below it.
            let folders = path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty());
            let is_file = |path: &&Path| linked.path().join(path).symlink_metadata().is_ok_and(|meta| !meta.is_dir());
            let above = folders.filter(is_file).find(|folder| !known.contains(*folder));
            let found = above.map(Path::to_owned).or_else(|| stranger_below(linked.path(), &path, &known));
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Moves the files of a worktree from one tree to another by a copy of the private index, which knows them as they
    /// are; says how many changed.
    fn move_files(&self, linked: &Linked, index: &Path, from: &str, to: &str) -> Result<usize, GitError> {
        let refuse = |why: String| GitError::Refused {
            what: format!("rewinding `{}`", linked.path().display()),
            why,
            hint: "move what is in the way, then repeat it".to_owned(),
        };
        if let Some(path) = self.ignored_in_the_way(linked, from, to)? {
            return Err(refuse(format!("`{}` is ignored and in the way", path.display())));
        }
        let copy = self.scratch_index()?;
        let bytes = read_if_exists(index)?.unwrap_or_default();
        write_atomically(copy.path(), &bytes, Access::Private)?;
        let call = self.git(linked.path(), ["read-tree", "-m", "-u", from, to]).env("GIT_INDEX_FILE", copy.path());
        let call = call.config("core.fsmonitor=false").config("core.splitIndex=false").own_locale();
        call.output().map_err(|error| refuse(error.to_string()))?;
        let changed = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", from, to];
        let changed = self.git(linked.path(), changed).reading().output()?.stdout;
        Ok(split_nul(&changed).count())
    }

    /// A file for an index of a moment.
    fn scratch_index(&self) -> Result<tempfile::NamedTempFile, GitError> {
        let file = tempfile::NamedTempFile::new_in(self.state_dir());
        let file = file.map_err(FileError::on("write in", &self.state_dir()))?;
        // Git takes an empty file for a broken index.
        std::fs::remove_file(file.path()).map_err(FileError::on("write in", &self.state_dir()))?;
        Ok(file)
    }
}

/// The first file at or below a path of a worktree that is not known.
fn stranger_below(root: &Path, path: &Path, known: &HashSet<PathBuf>) -> Option<PathBuf> {
    let meta = root.join(path).symlink_metadata().ok()?;
    if !meta.is_dir() {
        return (!known.contains(path)).then(|| path.to_owned());
    }
    let entries = std::fs::read_dir(root.join(path)).into_iter().flatten().flatten();
    entries.map(|entry| path.join(entry.file_name())).find_map(|path| stranger_below(root, &path, known))
}
