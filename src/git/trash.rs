//! Removed worktrees whose files are deleted while other work goes on.
//!
//! A worktree leaves its place by one rename, into a folder beside it that is written down like a scratch worktree: what
//! a dead process did not come to delete, the next sweep deletes.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use super::remove::make_folders_writable;
use super::worktree::Linked;
use super::{GitError, Repository, crash_point};
use crate::files::{Access, FileLock, make_folder, remove_if_exists, write_durably};

/// Where removed worktrees go; all their files are deleted when it is dropped.
#[derive(Debug)]
pub(crate) struct Trash {
    /// The repository.
    repository: Repository,
    /// A bin for each folder that worktrees lay in.
    bins: RefCell<Vec<Bin>>,
    /// Tells the thread what to delete.
    deletions: Option<Sender<PathBuf>>,
    /// The thread.
    thread: Option<JoinHandle<()>>,
}

/// A folder of removed worktrees.
#[derive(Debug)]
struct Bin {
    /// It.
    path: PathBuf,
    /// Where that is written down.
    record: PathBuf,
    /// How many places in it were given away.
    count: usize,
    /// Says that its owner lives.
    _alive: FileLock,
}

impl Trash {
    /// An empty one; it makes nothing before something comes into it.
    pub(crate) fn new(repository: &Repository) -> Self {
        let (deletions, wait) = channel::<PathBuf>();
        let thread = std::thread::spawn(move || wait.iter().for_each(|path| delete(&path)));
        let (repository, bins) = (repository.clone(), RefCell::default());
        Self { repository, bins, deletions: Some(deletions), thread: Some(thread) }
    }

    /// Where the folder of a worktree is to be moved; beside it, because a rename does not leave a file system.
    pub(super) fn place_for(&self, linked: &Linked) -> Result<PathBuf, GitError> {
        let path = linked.path();
        let parent = path.parent().unwrap_or(path);
        let mut bins = self.bins.borrow_mut();
        let index = match bins.iter().position(|bin| bin.path.parent() == Some(parent)) {
            Some(index) => index,
            None => {
                bins.push(Bin::make(&self.repository, parent)?);
                bins.len() - 1
            }
        };
        let bin = &mut bins[index];
        bin.count += 1;
        Ok(bin.path.join(bin.count.to_string()))
    }

    /// Begins to delete what was moved to a place.
    pub(super) fn delete(&self, place: PathBuf) {
        // The drop deletes what the thread does not.
        if let Some(deletions) = &self.deletions {
            deletions.send(place).ok();
        }
    }
}

impl Bin {
    /// A new one in `parent`.
    fn make(repository: &Repository, parent: &Path) -> Result<Self, GitError> {
        let (id, record, alive) = repository.scratch_record()?;
        // No worker's folder begins with `+`, because no ticket id does.
        let path = parent.join(format!("+gone-{}", &id[..12]));
        write_durably(&record, path.as_os_str().as_encoded_bytes(), Access::Shared)?;
        crash_point!("trash recorded");
        make_folder(&path)?;
        Ok(Self { path, record, count: 0, _alive: alive })
    }
}

impl Drop for Trash {
    fn drop(&mut self) {
        self.deletions.take();
        self.thread.take().map(JoinHandle::join);
        #[cfg(test)]
        if super::crash::is_dead() {
            return;
        }
        for bin in self.bins.take() {
            delete(&bin.path);
            // What cannot be deleted stays written down.
            if !bin.path.exists() {
                remove_if_exists(&bin.record).ok();
                remove_if_exists(&bin.record.with_extension("lock")).ok();
            }
        }
    }
}

/// Deletes a folder as far as that can be done.
fn delete(path: &Path) {
    if fs::remove_dir_all(path).is_err() {
        // Tools leave folders that forbid writing (the module cache of Go does); deleting needs it.
        make_folders_writable(path);
        fs::remove_dir_all(path).ok();
    }
}
