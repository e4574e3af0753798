//! The disk door: atomic writes, locks and the runtime folder.
//!
//! A file written here is there whole or not at all, whatever dies when. Locks are `flock` locks on files of
//! their own: the kernel drops them when their holder ends, so a held lock proves a living holder.

mod disk;

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

pub(crate) use disk::disk_bytes;

/// What the names of files that are being written begin with.
const HALF_WRITTEN: &str = ".swarm-";
/// Pause between two tries for a lock that others only look at.
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// A disk operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("could not {attempt} `{}`", path.display())]
pub(crate) struct FileError {
    /// What was attempted, as a verb.
    pub(crate) attempt: &'static str,
    /// On what.
    pub(crate) path: PathBuf,
    /// The cause.
    #[source]
    pub(crate) source: io::Error,
}

impl FileError {
    /// An adapter for `map_err` that names attempt and path.
    pub(crate) fn on(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { attempt, path, source }
    }
}

/// Who may read a file that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Whoever the umask allows.
    Shared,
    /// The owner only, from the first moment.
    Private,
}

/// Replaces `path` with `bytes`: afterwards it holds the old or the new content, never a part.
///
/// Missing parent folders are made. The file is not flushed to the device; callers that need that use
/// [`write_durably`].
pub(crate) fn write_atomically(path: &Path, bytes: &[u8], access: Access) -> Result<(), FileError> {
    replace(path, bytes, access, false)
}

/// Like [`write_atomically`], and on the device when it returns.
pub(crate) fn write_durably(path: &Path, bytes: &[u8], access: Access) -> Result<(), FileError> {
    replace(path, bytes, access, true)
}

/// The shared body of the two writes.
fn replace(path: &Path, bytes: &[u8], access: Access, durable: bool) -> Result<(), FileError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(FileError::on("make the folder of", path))?;
    let (mut builder, prefix) = (tempfile::Builder::new(), half_written());
    builder.prefix(&prefix);
    if access == Access::Shared {
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(FileError::on("write", path))?;
    file.write_all(bytes).map_err(FileError::on("write", path))?;
    if durable {
        file.as_file().sync_all().map_err(FileError::on("flush", path))?;
    }
    let written = file.persist(path).map_err(|error| FileError::on("replace", path)(error.error))?;
    drop(written);
    if durable {
        let folder = File::open(folder).map_err(FileError::on("flush the folder of", path))?;
        folder.sync_all().map_err(FileError::on("flush the folder of", path))?;
    }
    Ok(())
}

/// Like [`write_atomically`], for a file that belongs to somebody else: one that is there keeps its mode.
pub(crate) fn replace_content(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mode = match fs::symlink_metadata(path) {
        Ok(meta) => Some(meta.permissions()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(FileError::on("look at", path)(error)),
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    let (mut builder, prefix) = (tempfile::Builder::new(), half_written());
    builder.prefix(&prefix).permissions(fs::Permissions::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(FileError::on("write", path))?;
    file.write_all(bytes).map_err(FileError::on("write", path))?;
    if let Some(mode) = mode {
        file.as_file().set_permissions(mode).map_err(FileError::on("set the mode of", path))?;
    }
    let written = file.persist(path).map_err(|error| FileError::on("replace", path)(error.error))?;
    drop(written);
    Ok(())
}

/// Writes a new file and refuses to replace one.
///
/// # Errors
/// With [`io::ErrorKind::AlreadyExists`] inside when the file is there.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(FileError::on("make the folder of", path))?;
    let mut file = tempfile::Builder::new()
        .prefix(&half_written())
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(FileError::on("write", path))?;
    file.write_all(bytes).map_err(FileError::on("write", path))?;
    let written = file.persist_noclobber(path).map_err(|error| FileError::on("write", path)(error.error))?;
    drop(written);
    Ok(())
}

/// What the name of a file begins with while it is being written: whose it is.
fn half_written() -> String {
    format!("{HALF_WRITTEN}{}-", std::process::id())
}

/// Removes what ended processes were writing into `folder` itself; `is_alive` tells of a process whether it lives.
pub(crate) fn sweep_half_written(folder: &Path, is_alive: &dyn Fn(u32) -> bool) -> Result<(), FileError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        Err(error) => return Err(FileError::on("read the folder", folder)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(FileError::on("read the folder", folder))?;
        let name = entry.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(HALF_WRITTEN));
        let writer = rest.and_then(|rest| rest.split_once('-')).and_then(|(writer, _)| writer.parse().ok());
        if writer.is_some_and(|writer| !is_alive(writer)) {
            remove_if_exists(&entry.path())?;
        }
    }
    Ok(())
}

/// Reads a whole file; `None` when it does not exist.
pub(crate) fn read_if_exists(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::on("read", path)(error)),
    }
}

/// Reads a whole file and when it was changed last, which [`touch`] sets; `None` when it does not exist.
pub(crate) fn read_with_change(path: &Path) -> Result<Option<(Vec<u8>, SystemTime)>, FileError> {
    let read = || -> io::Result<(Vec<u8>, SystemTime)> {
        let mut file = File::open(path)?;
        let (mut bytes, metadata) = (Vec::new(), file.metadata()?);
        file.read_to_end(&mut bytes)?;
        Ok((bytes, metadata.modified()?))
    };
    match read() {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::on("read", path)(error)),
    }
}

/// Says that a file was changed at a moment, and leaves its content alone.
pub(crate) fn touch(path: &Path, at: SystemTime) -> Result<(), FileError> {
    let file = File::options().write(true).open(path);
    file.and_then(|file| file.set_modified(at)).map_err(FileError::on("touch", path))
}

/// Removes a file; no error when there is none.
pub(crate) fn remove_if_exists(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::on("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Makes a folder and its parents; no error when it is there.
pub(crate) fn make_folder(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(FileError::on("make the folder", path))
}

/// Opens a log for appending. Each line must be one `write_all` of at most a few megabytes: lines of several
/// writers then never mix on a local file system.
pub(crate) fn open_log(path: &Path) -> Result<File, FileError> {
    let open = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    open.map_err(FileError::on("open the log", path))
}

/// An exclusive lock on a file, held until dropped or until the process ends.
#[derive(Debug)]
pub(crate) struct FileLock {
    /// Keeps the lock.
    _file: File,
}

impl FileLock {
    /// Waits for the lock; the file is made when missing and stays when the lock is dropped.
    pub(crate) fn wait(path: &Path) -> Result<Self, FileError> {
        let file = Self::open(path)?;
        file.lock().map_err(FileError::on("lock", path))?;
        Ok(Self { _file: file })
    }

    /// Takes the lock if it is free; `None` when somebody holds it.
    pub(crate) fn try_take(path: &Path) -> Result<Option<Self>, FileError> {
        let file = Self::open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(FileError::on("lock", path)(error)),
        }
    }

    /// Takes the lock if it becomes free within `limit`. [`FileLock::is_held`] of others holds it for moments, so whoever
    /// must have it looks more than once.
    pub(crate) fn take_within(path: &Path, limit: Duration) -> Result<Option<Self>, FileError> {
        let deadline = Instant::now() + limit;
        loop {
            match Self::try_take(path)? {
                None if Instant::now() < deadline => std::thread::sleep(LOCK_PAUSE),
                taken => return Ok(taken),
            }
        }
    }

    /// Whether somebody holds the lock; a missing file is not held. Never makes the file, and holds a shared
    /// lock only for a moment, so that probes do not disturb each other.
    pub(crate) fn is_held(path: &Path) -> Result<bool, FileError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(FileError::on("read the lock", path)(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(FileError::on("read the lock", path)(error)),
        }
    }

    /// Opens the lock file.
    fn open(path: &Path) -> Result<File, FileError> {
        if let Some(folder) = path.parent() {
            make_folder(folder)?;
        }
        let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path);
        open.map_err(FileError::on("open the lock", path))
    }
}

/// The per-user folder for sockets and hand-over files: the platform's, else one in the temp folder that is
/// proven to be ours alone.
///
/// # Errors
/// When the temp folder holds a folder of that name that belongs to somebody else or is open to others.
pub(crate) fn runtime_folder() -> Result<PathBuf, FileError> {
    let platform = directories::BaseDirs::new().and_then(|dirs| dirs.runtime_dir().map(|dir| dir.join("swarm")));
    if let Some(folder) = platform.filter(|folder| folder.parent().is_some_and(Path::is_dir)) {
        return private_folder(folder);
    }
    let user = rustix::process::getuid().as_raw();
    private_folder(std::env::temp_dir().join(format!("swarm-{user}")))
}

/// Makes a 0700 folder, or checks that the one that is there is ours and closed.
fn private_folder(folder: PathBuf) -> Result<PathBuf, FileError> {
    let refuse = |why: &str| FileError::on("use the runtime folder", &folder)(io::Error::other(why.to_owned()));
    match DirBuilder::new().mode(0o700).create(&folder) {
        Ok(()) => Ok(folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let meta = fs::symlink_metadata(&folder).map_err(FileError::on("look at", &folder))?;
            if !meta.is_dir() || meta.uid() != rustix::process::getuid().as_raw() {
                Err(refuse("it belongs to another user"))
            } else if meta.permissions().mode() & 0o077 != 0 {
                Err(refuse("other users can enter it; make it private with chmod 700"))
            } else {
                Ok(folder)
            }
        }
        Err(error) => Err(FileError::on("make the runtime folder", &folder)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_whole_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.json");
        write_atomically(&path, b"one", Access::Shared).unwrap();
        write_durably(&path, b"two", Access::Private).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_script_stays_executable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.sh");
        replace_content(&path, b"one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o111, 0);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        replace_content(&path, b"two").unwrap();
        assert_eq!((fs::read(&path).unwrap(), fs::metadata(&path).unwrap().mode() & 0o777), (b"two".to_vec(), 0o750));
    }

    #[test]
    fn a_new_file_is_never_a_replacement() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        write_new(&path, b"one").unwrap();
        let error = write_new(&path, b"two").unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
    }

    #[test]
    fn a_held_lock_is_seen_and_a_dropped_one_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert!(!FileLock::is_held(&path).unwrap());
        let lock = FileLock::wait(&path).unwrap();
        assert!(FileLock::is_held(&path).unwrap());
        assert!(FileLock::try_take(&path).unwrap().is_none());
        drop(lock);
        assert!(FileLock::try_take(&path).unwrap().is_some());
    }

    #[test]
    fn a_runtime_folder_open_to_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("swarm-1");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(private_folder(open).is_err());
        assert!(private_folder(folder.path().join("fresh")).is_ok());
    }
}
