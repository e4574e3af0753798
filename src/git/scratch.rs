//! Worktrees of our own for a moment: a commit checked out somewhere no person works, to run gates on it.
//!
//! Each one is written down before it is made and locked while its process lives, so that the next process can
//! remove what a dead one left. Nothing in them is anybody's work.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::pristine::By;
use super::program::path_of;
use super::remove::make_folders_writable;
use super::state::WorktreeState;
use super::{GitError, Repository, crash_point};
use crate::files::{Access, FileError, FileLock, read_if_exists, remove_if_exists, write_durably};
use crate::model::CommitId;

/// What git keeps of a merge, pick or revert that was begun.
const BEGUN: [&str; 7] =
    ["MERGE_HEAD", "MERGE_MODE", "MERGE_MSG", "AUTO_MERGE", "CHERRY_PICK_HEAD", "REVERT_HEAD", "SQUASH_MSG"];

/// A commit checked out in a folder of ours; removed when dropped.
#[derive(Debug)]
pub(crate) struct ScratchWorktree {
    /// The repository.
    repository: Repository,
    /// The folder.
    path: PathBuf,
    /// The commit.
    commit: CommitId,
    /// Where its path is written down.
    record: PathBuf,
    /// Says that its owner lives.
    _alive: FileLock,
}

impl Repository {
    /// Checks `commit` out, whole, in a new folder below `parent`.
    ///
    /// `parent` must not lie in the git folder: test runners such as Jest look at nothing below a `.git`. No hook
    /// runs, filters do.
    pub(crate) fn scratch_worktree(&self, commit: &CommitId, parent: &Path) -> Result<ScratchWorktree, GitError> {
        self.sweep_scratch()?;
        let (id, record, alive) = self.scratch_record()?;
        // No worker's folder begins with `+`, because no ticket id does.
        let path = parent.join(format!("+gate-{}", &id[..12]));
        write_durably(&record, path.as_os_str().as_encoded_bytes(), Access::Shared)?;
        crash_point!("scratch recorded");
        let scratch = ScratchWorktree { repository: self.clone(), path, commit: commit.clone(), record, _alive: alive };
        scratch.make()?;
        Ok(scratch)
    }

    /// A new id, where its path is to be written down, and the lock that says that its owner lives.
    pub(super) fn scratch_record(&self) -> Result<(String, PathBuf, FileLock), GitError> {
        loop {
            let id = uuid::Uuid::new_v4().simple().to_string();
            let record = self.scratch_folder().join(format!("{id}.path"));
            let lock = record.with_extension("lock");
            let alive = FileLock::wait(&lock)?;
            // A sweep may have taken the file for a dead one's before it was locked.
            if lock.exists() {
                return Ok((id, record, alive));
            }
        }
    }

    /// Removes scratch worktrees whose process ended, and worktrees that it had begun to delete; answers how many. What
    /// cannot be removed stays written down.
    pub(crate) fn sweep_scratch(&self) -> Result<usize, GitError> {
        let folder = self.scratch_folder();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(FileError::on("read the folder", &folder)(error).into()),
        };
        let mut count = 0;
        for entry in entries {
            let record = entry.map_err(FileError::on("read the folder", &folder))?.path();
            if record.extension().is_some_and(|extension| extension == "lock") {
                self.sweep_lock(&record)?;
            }
            if record.extension().is_none_or(|extension| extension != "path") {
                continue;
            }
            let Some(_dead) = FileLock::try_take(&record.with_extension("lock"))? else { continue };
            if let Some(path) = read_if_exists(&record)? {
                match self.remove_scratch(&path_of(&path), &record) {
                    Ok(()) => count += 1,
                    // Files of another user, which a container leaves, must not hold up the landings of everybody.
                    Err(error) => tracing::warn!(%error, "what a dead process left could not be removed"),
                }
            }
        }
        Ok(count)
    }

    /// Folders of scratch worktrees, and of worktrees that are being deleted, whose process ended.
    pub(crate) fn dead_scratch(&self) -> Result<Vec<PathBuf>, GitError> {
        let folder = self.scratch_folder();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(FileError::on("read the folder", &folder)(error).into()),
        };
        let mut dead = Vec::new();
        for entry in entries {
            let record = entry.map_err(FileError::on("read the folder", &folder))?.path();
            if record.extension().is_some_and(|extension| extension == "path")
                && !FileLock::is_held(&record.with_extension("lock"))?
                && let Some(path) = read_if_exists(&record)?
            {
                dead.push(path_of(&path));
            }
        }
        dead.sort();
        Ok(dead)
    }

    /// Removes the lock of a process that ended before it wrote a path down.
    fn sweep_lock(&self, lock: &Path) -> Result<(), GitError> {
        if !lock.with_extension("path").exists()
            && let Some(_dead) = FileLock::try_take(lock)?
            && !lock.with_extension("path").exists()
        {
            remove_if_exists(lock)?;
        }
        Ok(())
    }

    /// Where scratch worktrees are written down.
    fn scratch_folder(&self) -> PathBuf {
        self.common_dir().join("swarm/scratch")
    }

    /// Removes one, its registration and its record.
    fn remove_scratch(&self, path: &Path, record: &Path) -> Result<(), GitError> {
        {
            let _registration = self.lock_worktrees()?;
            let call = self.git(self.home(), ["worktree", "remove", "--force", "--force", "--"]).args([path]);
            // It may never have been registered.
            let removed = call.run()?;
            if removed.code() != 0 && path.exists() {
                make_folders_writable(path);
                remove_folder(path)?;
            }
            // A git that was killed while it registered one leaves an entry that git does not list. The name is ours alone.
            if let Some(name) = path.file_name().filter(|name| name.as_encoded_bytes().starts_with(b"+gate-")) {
                remove_folder(&self.common_dir().join("worktrees").join(name))?;
            }
        }
        for file in [record.to_owned(), record.with_extension("lock")] {
            match fs::remove_file(&file) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(FileError::on("remove", &file)(error).into()),
            }
        }
        Ok(())
    }
}

/// Removes a folder with what is in it, if it is there.
fn remove_folder(path: &Path) -> Result<(), GitError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::on("remove", path)(error).into()),
        _ => Ok(()),
    }
}

impl ScratchWorktree {
    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Registers and fills it.
    fn make(&self) -> Result<(), GitError> {
        {
            let _registration = self.repository.lock_worktrees()?;
            let call = ["worktree", "add", "--quiet", "--force", "--detach", "--no-checkout", "--"];
            let call = self.repository.git(self.repository.home(), call);
            call.args([self.path.as_os_str(), self.commit.as_str().as_ref()]).output()?;
        }
        crash_point!("scratch registered");
        self.reset()
    }

    /// Makes it hold another commit, as a new one would; false where it holds anything besides its present one, or is not
    /// known to hold only that.
    pub(crate) fn move_to(&mut self, commit: &CommitId) -> Result<bool, GitError> {
        let linked = self.repository.linked(&self.path)?;
        let is_plain = |(state, _): (WorktreeState, String)| {
            state.head.as_ref() == Some(&self.commit) && state.branch.is_none() && state.operation.is_none()
        };
        if !self.repository.pristine(&linked, By::Dates)?.is_some_and(is_plain) || !self.is_bare_of_state()? {
            return Ok(false);
        }
        let attempt = || GitError::libgit("set the head of a worktree");
        let repo = git2::Repository::open(&self.path).map_err(attempt())?;
        let id = git2::Oid::from_str(commit.as_str()).map_err(attempt())?;
        repo.set_head_detached(id).map_err(attempt())?;
        self.commit = commit.clone();
        self.reset().map(|()| true)
    }

    /// Whether its git folder holds nothing but what a new one holds.
    fn is_bare_of_state(&self) -> Result<bool, GitError> {
        let folder = self.git_dir();
        let entries = fs::read_dir(&folder).map_err(FileError::on("read the folder", &folder))?;
        for entry in entries {
            let entry = entry.map_err(FileError::on("read the folder", &folder))?;
            let is_known = match entry.file_name().as_encoded_bytes() {
                b"HEAD" | b"commondir" | b"gitdir" | b"index" | b"logs" => true,
                b"refs" => fs::read_dir(entry.path()).is_ok_and(|mut found| found.next().is_none()),
                _ => false,
            };
            if !is_known {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes it hold exactly its commit again, whatever was changed, committed, begun or added there. Ignored files, such
    /// as build output, stay.
    pub(crate) fn restore(&self) -> Result<(), GitError> {
        self.call(["update-ref", "--no-deref", "HEAD", self.commit.as_str()]).output()?;
        for name in BEGUN {
            remove_if_exists(&self.git_dir().join(name))?;
        }
        self.reset()?;
        self.call(["clean", "--quiet", "-d", "--force", "--force"]).output().map(drop)
    }

    /// Sets index and files to the commit; all of it, in a sparse repository too.
    ///
    /// `reset --hard` would do the same, and lock the packed references for a moment: one that is killed then leaves the
    /// lock, and nobody in the repository can delete a reference any more.
    fn reset(&self) -> Result<(), GitError> {
        let call = self.call(["read-tree", "--reset", "-u", self.commit.as_str()]);
        call.config("core.sparseCheckout=false").output().map(drop)
    }

    /// Its own git folder.
    fn git_dir(&self) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default();
        self.repository.common_dir().join("worktrees").join(name)
    }

    /// A call of git in it.
    fn call<'s>(&self, args: impl IntoIterator<Item = &'s str>) -> super::Call {
        self.repository.git(&self.path, args)
    }
}

impl Drop for ScratchWorktree {
    fn drop(&mut self) {
        #[cfg(test)]
        if super::crash::is_dead() {
            return;
        }
        // What cannot be removed now, the next sweep removes.
        self.repository.remove_scratch(&self.path, &self.record).ok();
    }
}
