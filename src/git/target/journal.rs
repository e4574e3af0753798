//! What a move is about to do to a worktree, written down before it begins.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::{Access, FileError, read_if_exists, sweep_half_written, write_durably, write_new};
use crate::git::{GitError, Repository};
use crate::model::{BranchName, CommitId};
use crate::process::may_live;

/// What our index locks begin with.
const TOKEN: &str = "swarm ";

/// One move of one worktree.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Journal {
    /// Content of the index lock that is ours; unique.
    pub(super) token: String,
    /// The worktree.
    pub(super) worktree: PathBuf,
    /// Its own git folder.
    pub(super) git_dir: PathBuf,
    /// The branch that moves.
    pub(super) branch: BranchName,
    /// From where.
    pub(super) from: CommitId,
    /// To where.
    pub(super) to: CommitId,
}

impl Journal {
    /// A new content for an index lock.
    pub(super) fn new_token() -> String {
        format!("{TOKEN}{}", uuid::Uuid::new_v4())
    }

    /// Where journals lie.
    fn folder(repository: &Repository) -> PathBuf {
        repository.common_dir().join("swarm/moves")
    }

    /// Where this one lies.
    fn path(&self, repository: &Repository) -> PathBuf {
        Self::folder(repository).join(format!("{}.json", self.token.trim_start_matches(TOKEN)))
    }

    /// The journals of ended processes, under the lock that every live one holds; what they had half written goes.
    pub(super) fn all(repository: &Repository) -> Result<Vec<Self>, GitError> {
        let folder = Self::folder(repository);
        sweep_half_written(&folder, &may_live)?;
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(FileError::on("read the folder", &folder)(error).into()),
        };
        let mut journals = Vec::new();
        for entry in entries {
            let path = entry.map_err(FileError::on("read the folder", &folder))?.path();
            if path.extension().is_some_and(|extension| extension == "json")
                && let Some(bytes) = read_if_exists(&path)?
            {
                let journal = serde_json::from_slice(&bytes).map_err(|error| error.into());
                journals.push(journal.map_err(FileError::on("understand", &path))?);
            }
        }
        Ok(journals)
    }

    /// Writes it down.
    pub(super) fn write(&self, repository: &Repository) -> Result<(), GitError> {
        let bytes = serde_json::to_vec(self).map_err(io::Error::from);
        let path = self.path(repository);
        let bytes = bytes.map_err(FileError::on("write", &path))?;
        Ok(write_durably(&path, &bytes, Access::Shared)?)
    }

    /// Git's lock on the worktree's index.
    pub(super) fn lock_path(&self) -> PathBuf {
        self.git_dir.join("index.lock")
    }

    /// The worktree's index.
    pub(super) fn index_path(&self) -> PathBuf {
        self.git_dir.join("index")
    }

    /// The private copy of the index.
    pub(super) fn private_path(&self) -> PathBuf {
        self.git_dir.join("index.swarm")
    }

    /// Takes git's own lock with our token in it; false when somebody holds it.
    ///
    /// It is on the device before anything moves: after a power cut it tells a move that was under way from one that
    /// was over. A lock of ours without a journal is one that a power cut brought back.
    pub(super) fn lock(&self) -> Result<bool, GitError> {
        let path = self.lock_path();
        if read_if_exists(&path)?.is_some_and(|bytes| bytes.starts_with(TOKEN.as_bytes())) {
            remove_if_exists(&path)?;
        }
        match write_new(&path, self.token.as_bytes()) {
            Ok(()) => {}
            Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        for synced in [path.as_path(), self.git_dir.as_path()] {
            fs::File::open(synced).and_then(|file| file.sync_all()).map_err(FileError::on("flush", synced))?;
        }
        Ok(true)
    }

    /// Whether the index lock is ours.
    pub(super) fn is_locked(&self) -> Result<bool, GitError> {
        Ok(read_if_exists(&self.lock_path())?.is_some_and(|bytes| bytes == self.token.as_bytes()))
    }

    /// Copies the index with its time, by which git tells entries that may have changed since it was written.
    pub(super) fn copy_index(&self) -> Result<(), GitError> {
        let (index, private) = (self.index_path(), self.private_path());
        self.remove_private()?;
        if !index.exists() {
            return Ok(());
        }
        let copy = || -> io::Result<()> {
            let modified = fs::metadata(&index)?.modified()?;
            fs::copy(&index, &private)?;
            fs::File::options().write(true).open(&private)?.set_modified(modified)
        };
        Ok(copy().map_err(FileError::on("copy", &index))?)
    }

    /// Removes the private copy, and git's lock on it, which an ended process may have left.
    pub(super) fn remove_private(&self) -> Result<(), GitError> {
        remove_if_exists(&self.private_path())?;
        remove_if_exists(&self.git_dir.join("index.swarm.lock"))
    }

    /// Puts the private copy in the index's place; the lock is still held.
    pub(super) fn install_index(&self) -> Result<(), GitError> {
        let index = self.index_path();
        Ok(fs::rename(self.private_path(), &index).map_err(FileError::on("replace", &index))?)
    }

    /// Removes what the move left in the worktree's git folder, then the journal.
    pub(super) fn clear(&self, repository: &Repository) -> Result<(), GitError> {
        self.remove_private()?;
        if self.is_locked()? {
            remove_if_exists(&self.lock_path())?;
        }
        remove_if_exists(&self.path(repository))
    }
}

/// Removes a file of ours; no error when it is not there.
pub(super) fn remove_if_exists(path: &Path) -> Result<(), GitError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
        Err(error) => Err(FileError::on("remove", path)(error).into()),
    }
}
