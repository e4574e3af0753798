//! Files of a new worktree, written beside its place while the program still registers it, and then moved in.
//!
//! The folder lies next to the worktree, under a hidden name made of the worktree's own, so that it is on the same
//! file system and inherits the same group and access lists. Its maker holds a lock on it: one that is not locked was
//! left by a process that died, and goes with the next attempt for the place or with taking it back.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use git2::IndexEntry;

use super::checkout::{Plan, write_index};
use super::program::path_of;
use super::worktree::Linked;
use super::{GitError, Repository};
use crate::files::FileError;
use crate::model::CommitId;

/// What a new worktree will hold, and where it is by now.
#[derive(Debug)]
pub(super) struct Prepared {
    /// What it is.
    plan: Plan,
    /// The files, where they could be written ahead.
    staged: Option<(Stage, Vec<IndexEntry>)>,
}

impl Prepared {
    /// Works out the files of `commit` and writes them beside `place`; `None` where the program has to do it, or when
    /// `stop` was set meanwhile. Without a folder above `place` nothing is written yet.
    pub(super) fn make(
        repo: &Repository,
        commit: &CommitId,
        place: &Path,
        stop: &AtomicBool,
    ) -> Result<Option<Self>, GitError> {
        let Some(plan) = Plan::make(repo, commit) else { return Ok(None) };
        let Some(stage) = Stage::make(place)? else { return Ok(Some(Self { plan, staged: None })) };
        let entries = plan.lay_out(&stage.folder, stop)?;
        Ok(entries.map(|entries| Self { plan, staged: Some((stage, entries)) }))
    }

    /// Gives an empty worktree its files and then its index.
    pub(super) fn carry_out(self, linked: &Linked) -> Result<(), GitError> {
        match self.staged.filter(|(stage, _)| stage.is_on_disk_of(linked)) {
            Some((stage, entries)) => stage.move_into(linked, entries),
            None => match self.plan.lay_out(linked.path(), &AtomicBool::new(false))? {
                Some(entries) => write_index(&linked.index(), &entries),
                None => Ok(()),
            },
        }
    }
}

/// A folder beside the place of a worktree. It goes when dropped.
#[derive(Debug)]
struct Stage {
    /// Where it is.
    folder: PathBuf,
    /// Says that somebody is at it.
    _lock: File,
}

impl Stage {
    /// Makes the folder for a place; `None` when there is no folder above it yet or somebody else is at it.
    fn make(place: &Path) -> Result<Option<Self>, FileError> {
        let folder = folder_of(place);
        if !folder.is_absolute() {
            return Ok(None);
        }
        clear(place)?;
        match DirBuilder::new().create(&folder) {
            Ok(()) => Ok(take(&folder)?.map(|lock| Self { folder, _lock: lock })),
            Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => Ok(None),
            Err(error) => Err(FileError::on("make the folder", &folder)(error)),
        }
    }

    /// Whether its content can be moved into the worktree, whose folder may be a mount of its own.
    fn is_on_disk_of(&self, linked: &Linked) -> bool {
        let disk = |path: &Path| path.metadata().ok().map(|meta| meta.dev());
        disk(&self.folder) == disk(linked.path())
    }

    /// Moves everything into the worktree and describes it in its index. A move changes one date of what is moved
    /// itself, and of nothing below it.
    fn move_into(self, linked: &Linked, mut entries: Vec<IndexEntry>) -> Result<(), GitError> {
        let list = fs::read_dir(&self.folder).map_err(FileError::on("list", &self.folder))?;
        for entry in list {
            let from = entry.map_err(FileError::on("list", &self.folder))?.path();
            let to = linked.path().join(from.file_name().unwrap_or_default());
            if to.symlink_metadata().is_ok() {
                return Err(FileError::on("make", &to)(ErrorKind::AlreadyExists.into()).into());
            }
            fs::rename(&from, &to).map_err(FileError::on("move into place", &to))?;
        }
        for entry in entries.iter_mut().filter(|entry| !entry.path.contains(&b'/')) {
            let path = linked.path().join(path_of(&entry.path));
            let meta = path.symlink_metadata().map_err(FileError::on("look at", &path))?;
            super::checkout::describe(entry, &meta);
        }
        write_index(&linked.index(), &entries)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        #[cfg(test)]
        if super::crash::is_dead() {
            return;
        }
        // What cannot be removed now is removed with the next attempt for the place.
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// Removes what a dead process left beside a place; what somebody is at stays.
pub(super) fn clear(place: &Path) -> Result<(), FileError> {
    let folder = folder_of(place);
    match folder.symlink_metadata() {
        Ok(meta) if meta.is_dir() => {}
        _ => return Ok(()),
    }
    match take(&folder)? {
        Some(_lock) => fs::remove_dir_all(&folder).map_err(FileError::on("remove", &folder)),
        None => Ok(()),
    }
}

/// Locks a folder; `None` when somebody has it, or it has just gone.
fn take(folder: &Path) -> Result<Option<File>, FileError> {
    let file = match File::open(folder) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::on("open", folder)(error)),
    };
    let is_free = file.try_lock().is_ok();
    let same = |meta: fs::Metadata, other: fs::Metadata| (meta.dev(), meta.ino()) == (other.dev(), other.ino());
    let is_there = file.metadata().ok().zip(folder.symlink_metadata().ok()).is_some_and(|(one, two)| same(one, two));
    Ok((is_free && is_there).then_some(file))
}

/// The folder for a place.
fn folder_of(place: &Path) -> PathBuf {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    place.with_file_name(format!(".{name}.swarm-checkout"))
}
