//! Which worktrees there are, and proof that a folder is one of them.

use std::path::{Path, PathBuf};

use super::program::{path_of, split_nul};
use super::{GitError, Repository};
use crate::files::{FileError, FileLock, read_if_exists};
use crate::model::{BranchName, CommitId};

/// A worktree of the repository as it is registered; its folder may be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Worktree {
    /// Its folder.
    pub(crate) path: PathBuf,
    /// Its own git folder: `<common dir>/worktrees/NAME`, or the common folder for the main worktree.
    pub(crate) git_dir: PathBuf,
    /// What is checked out.
    pub(crate) head: Head,
    /// The branch that an unfinished rebase there will move.
    pub(crate) rebasing: Option<BranchName>,
    /// Whether a person locked it.
    pub(crate) locked: bool,
}

/// What a worktree has checked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Head {
    /// A branch, which need not exist.
    Branch(BranchName),
    /// A commit.
    Detached(CommitId),
    /// It could not be read.
    Unknown,
}

impl Worktree {
    /// Whether moving or deleting `branch` would disturb this worktree.
    pub(crate) fn uses(&self, branch: &BranchName) -> bool {
        self.head == Head::Branch(branch.clone()) || self.rebasing.as_ref() == Some(branch)
    }
}

/// A folder proven to be a linked worktree of the repository: its `.git` file and the repository's registration
/// point at each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Linked {
    /// The folder, with symbolic links resolved.
    path: PathBuf,
    /// Its own git folder.
    git_dir: PathBuf,
}

impl Linked {
    /// The folder, with symbolic links resolved.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its own git folder, `<common dir>/worktrees/NAME`.
    pub(crate) fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// Its index.
    pub(crate) fn index(&self) -> PathBuf {
        self.git_dir.join("index")
    }
}

impl Repository {
    /// Proves that `path` is a linked worktree of this repository; starts no process. The main worktree is none.
    ///
    /// # Errors
    /// [`GitError::NotOurWorktree`] with what is wrong.
    pub(crate) fn linked(&self, path: &Path) -> Result<Linked, GitError> {
        let refuse = |why: &str| GitError::NotOurWorktree { path: path.to_owned(), why: why.to_owned() };
        let real = path.canonicalize().map_err(|_| refuse("it does not exist"))?;
        let link = real.join(".git");
        if !link.symlink_metadata().map_err(|_| refuse("it has no `.git` file"))?.is_file() {
            return Err(refuse("it has its own `.git` folder"));
        }
        let text = read_if_exists(&link)?.unwrap_or_default();
        let target = text.strip_prefix(b"gitdir: ").ok_or_else(|| refuse("its `.git` file names no git folder"))?;
        let git_dir = real.join(path_of(target.trim_ascii_end()));
        let git_dir = git_dir.canonicalize().map_err(|_| refuse("its registration is gone"))?;
        if git_dir.parent() != Some(&self.common_dir().join("worktrees")) {
            return Err(refuse("it belongs to another repository"));
        }
        let registered = registered_path(&git_dir)?.ok_or_else(|| refuse("its registration is broken"))?;
        if registered.canonicalize().ok().as_deref() != Some(&real) {
            return Err(refuse(&format!("its registration is for `{}`", registered.display())));
        }
        Ok(Linked { path: real, git_dir })
    }

    /// All registered worktrees: the main one first, where there is one, then the linked ones by name.
    pub(crate) fn worktrees(&self) -> Result<Vec<Worktree>, GitError> {
        if self.common_dir().join("reftable").is_dir() {
            return self.worktrees_by_program();
        }
        let mut all = Vec::new();
        if let Some(main) = self.main_worktree() {
            all.push(read_worktree(main.to_owned(), self.common_dir().to_owned())?);
        }
        for git_dir in self.registrations()? {
            // An entry without this file is being made by somebody at this moment and no worktree yet.
            if let Some(path) = registered_path(&git_dir)? {
                all.push(read_worktree(path, git_dir)?);
            }
        }
        Ok(all)
    }

    /// The git folders of the linked worktrees, by name.
    fn registrations(&self) -> Result<Vec<PathBuf>, GitError> {
        let folder = self.common_dir().join("worktrees");
        let mut git_dirs = Vec::new();
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(git_dirs),
            Err(error) => return Err(FileError::on("list", &folder)(error).into()),
        };
        for entry in entries {
            git_dirs.push(entry.map_err(FileError::on("list", &folder))?.path());
        }
        git_dirs.sort();
        Ok(git_dirs)
    }

    /// The list where heads are not in files of their own.
    fn worktrees_by_program(&self) -> Result<Vec<Worktree>, GitError> {
        let out = self.git(self.home(), ["worktree", "list", "--porcelain", "-z"]).reading().output()?.stdout;
        let mut all: Vec<Worktree> = Vec::new();
        for line in split_nul(&out) {
            let (key, value) =
                line.iter().position(|byte| *byte == b' ').map_or((line, &[][..]), |at| (&line[..at], &line[at + 1..]));
            let text = || String::from_utf8_lossy(value).into_owned();
            match (key, all.last_mut()) {
                (b"worktree", _) => {
                    let path = path_of(value);
                    let git_dir = self.linked(&path).map_or(self.common_dir().to_owned(), |linked| linked.git_dir);
                    let rebasing = rebasing(&git_dir)?;
                    all.push(Worktree { path, git_dir, head: Head::Unknown, rebasing, locked: false });
                }
                (b"HEAD", Some(last)) => last.head = text().parse().map_or(Head::Unknown, Head::Detached),
                (b"branch", Some(last)) => last.head = parse_head(format!("ref: {}", text()).as_bytes()),
                (b"locked", Some(last)) => last.locked = true,
                _ => {}
            }
        }
        all.retain(|worktree| worktree.git_dir != self.common_dir() || self.main_worktree().is_some());
        Ok(all)
    }

    /// The worktree that has `branch` checked out, or is in the middle of rebasing it.
    pub(crate) fn worktree_of_branch(&self, branch: &BranchName) -> Result<Option<PathBuf>, GitError> {
        let in_use = |worktree: &Worktree| worktree.uses(branch);
        // With many worktrees it counts what is read of each.
        if !self.common_dir().join("reftable").is_dir() && !self.may_be_in_use(branch)? {
            return Ok(None);
        }
        Ok(self.worktrees()?.into_iter().find(in_use).map(|worktree| worktree.path))
    }

    /// Whether a worktree has `branch` checked out, or any has a rebase under way.
    fn may_be_in_use(&self, branch: &BranchName) -> Result<bool, GitError> {
        let main = self.main_worktree().map(|_| self.common_dir().to_owned());
        for git_dir in self.registrations()?.into_iter().chain(main) {
            let is_rebasing = ["rebase-merge", "rebase-apply"].iter().any(|state| git_dir.join(state).exists());
            // What cannot be read is for the look at all of it.
            if is_rebasing || checked_out(&git_dir).map_or(true, |head| head == Head::Branch(branch.clone())) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The lock of this repository for what git itself does not make safe: making and removing worktrees, and
    /// deleting branches. Never held while files are checked out.
    pub(crate) fn lock_worktrees(&self) -> Result<FileLock, GitError> {
        Ok(FileLock::wait(&self.state_dir().join("worktrees.lock"))?)
    }

    /// Where `swarm` keeps its state for this repository.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.common_dir().join("swarm")
    }
}

/// The folder a registration is for; `None` when it does not say.
fn registered_path(git_dir: &Path) -> Result<Option<PathBuf>, GitError> {
    let text = match read_if_exists(&git_dir.join("gitdir")) {
        Ok(text) => text.unwrap_or_default(),
        // A stray file among the registrations, which git passes over too.
        Err(error) if error.source.kind() == std::io::ErrorKind::NotADirectory => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let link = path_of(text.trim_ascii_end());
    // Relative since git 2.48 where `worktree.useRelativePaths` is set; seen from the registration.
    let link = if link.is_absolute() { link } else { git_dir.join(link) };
    let named = !text.trim_ascii_end().is_empty() && link.ends_with(".git");
    Ok(link.parent().filter(|_| named).map(|path| path.canonicalize().unwrap_or_else(|_| path.to_owned())))
}

/// Reads what is checked out in a worktree from its files.
fn read_worktree(path: PathBuf, git_dir: PathBuf) -> Result<Worktree, GitError> {
    let (head, rebasing) = (checked_out(&git_dir)?, rebasing(&git_dir)?);
    let locked = is_locked(&git_dir);
    Ok(Worktree { path, git_dir, head, rebasing, locked })
}

/// What is checked out in the worktree with this git folder, where heads are in files of their own.
pub(in crate::git) fn checked_out(git_dir: &Path) -> Result<Head, GitError> {
    Ok(read_if_exists(&git_dir.join("HEAD"))?.map_or(Head::Unknown, |text| parse_head(&text)))
}

/// Whether a person locked the worktree with this git folder.
pub(super) fn is_locked(git_dir: &Path) -> bool {
    git_dir.join("locked").exists()
}

/// The meaning of a `HEAD` file.
fn parse_head(text: &[u8]) -> Head {
    let text = String::from_utf8_lossy(text);
    let text = text.trim();
    match text.strip_prefix("ref: ") {
        Some(reference) => reference
            .trim()
            .strip_prefix("refs/heads/")
            .and_then(|name| name.parse().ok())
            .map_or(Head::Unknown, Head::Branch),
        None => text.parse().map_or(Head::Unknown, Head::Detached),
    }
}

/// The branch an unfinished rebase will move (git keeps its name in the rebase's state folder).
fn rebasing(git_dir: &Path) -> Result<Option<BranchName>, GitError> {
    for state in ["rebase-merge/head-name", "rebase-apply/head-name"] {
        if let Some(text) = read_if_exists(&git_dir.join(state))? {
            let text = String::from_utf8_lossy(&text);
            return Ok(text.trim().strip_prefix("refs/heads/").and_then(|name| name.parse().ok()));
        }
    }
    Ok(None)
}
