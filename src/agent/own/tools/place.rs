//! Where the file tools may go: into the worktree and the folders beside it that were declared, and nowhere else.
//!
//! A path is resolved first as the kernel would, links and `..` included, and judged by where it leads. It is then
//! walked anew from the folder it must stay in, one name at a time and without following links: what somebody puts in
//! its way between the two makes the call fail, and never lets it out.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

use crate::agent::policy::path::resolve;
use crate::agent::policy::{Policy, refuse_write};
use crate::files;

/// The folders of one loop.
#[derive(Debug, Clone)]
pub(in crate::agent::own) struct Place {
    /// The worktree with its links resolved.
    worktree: PathBuf,
    /// What the file tools may write to.
    policy: Policy,
}

/// A path that was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::agent::own) struct Spot {
    /// Where it leads.
    pub(in crate::agent::own) path: PathBuf,
    /// The folder that it must stay in.
    root: PathBuf,
    /// As people and models read it: from the worktree on, where it is in there.
    pub(in crate::agent::own) shown: String,
}

impl Place {
    /// A place around a worktree.
    pub(in crate::agent::own) fn new(worktree: &Path, writable: &[PathBuf], protected: &[PathBuf]) -> Self {
        let (worktree, writable, protected) = (resolve(worktree), writable.to_vec(), protected.to_vec());
        let policy = Policy { worktree: worktree.clone(), writable, protected, ..Policy::default() };
        Self { worktree, policy }
    }

    /// The worktree, absolute.
    pub(in crate::agent::own) fn worktree(&self) -> &Path {
        &self.worktree
    }

    /// Judges a path that is to be read; the reason where it may not be.
    pub(in crate::agent::own) fn to_read(&self, named: &str) -> Result<Spot, String> {
        if named.contains('\0') {
            return Err("a path cannot contain a zero byte".to_owned());
        }
        let path = resolve(&self.worktree.join(named));
        let mut roots = [&self.worktree].into_iter().chain(&self.policy.writable).map(|root| resolve(root));
        match roots.find(|root| path.starts_with(root)) {
            Some(root) if !named.starts_with('~') => Ok(Spot { shown: self.shown(&path), path, root }),
            _ => {
                Err(format!("`{named}` is outside your worktree. Use only paths below `{}`.", self.worktree.display()))
            }
        }
    }

    /// Judges a path that is to be written; the reason where it may not be.
    pub(in crate::agent::own) fn to_write(&self, named: &str) -> Result<Spot, String> {
        if let Some(reason) = refuse_write(Path::new(named), &self.worktree, &self.policy) {
            return Err(reason);
        }
        let spot = self.to_read(named)?;
        if spot.path == spot.root { Err(format!("`{}` is a folder", spot.shown)) } else { Ok(spot) }
    }

    /// A path from the worktree on, where it is in there.
    pub(in crate::agent::own) fn shown(&self, path: &Path) -> String {
        match path.strip_prefix(&self.worktree) {
            Ok(below) if below.as_os_str().is_empty() => ".".to_owned(),
            Ok(below) => below.display().to_string(),
            Err(_) => path.display().to_string(),
        }
    }
}

impl Spot {
    /// Opens the file for reading; `None` where there is none.
    pub(in crate::agent::own) fn open(&self) -> Result<Option<File>, String> {
        let opened = self.folder(false).and_then(|folder| {
            // A pipe that nobody writes to would hold us for ever.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            openat(&folder, self.name(), flags, Mode::empty())
        });
        let file = match opened {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(format!("could not open `{}`: {error}", self.shown)),
        };
        let meta = file.metadata().map_err(|error| format!("could not look at `{}`: {error}", self.shown))?;
        if meta.is_dir() {
            return Err(format!("`{}` is a folder; list it with Glob or `ls`", self.shown));
        }
        if meta.is_file() { Ok(Some(file)) } else { Err(format!("`{}` is no regular file", self.shown)) }
    }

    /// Replaces the file, or makes it with the folders above it. Who reads meanwhile sees the old or the new content.
    pub(in crate::agent::own) fn write(&self, bytes: &[u8]) -> Result<(), String> {
        let failed = |cause: &dyn std::fmt::Display| format!("could not write `{}`: {cause}", self.shown);
        let folder = self.folder(true).map_err(|error| failed(&error))?;
        // The folder by its descriptor: what happens to its path meanwhile does not matter.
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(self.name());
        if path.symlink_metadata().is_ok_and(|meta| !meta.is_file()) {
            return Err(failed(&"it is no regular file"));
        }
        files::replace_content(&path, bytes).map_err(|error| failed(&error.source))
    }

    /// Its last name.
    fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or(OsStr::new("."))
    }

    /// Opens the folder it is in, and makes what is missing of it if wanted.
    fn folder(&self, is_made: bool) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut folder = openat(CWD, &self.root, flags, Mode::empty())?;
        let below = self.path.strip_prefix(&self.root).ok().and_then(Path::parent).unwrap_or(Path::new(""));
        for part in below.components() {
            // A resolved path has names only.
            let Component::Normal(name) = part else { return Err(Errno::INVAL) };
            folder = match openat(&folder, name, flags, Mode::empty()) {
                Err(Errno::NOENT) if is_made => make_folder(folder.as_fd(), name, flags)?,
                opened => opened?,
            };
        }
        Ok(folder)
    }
}

/// Makes a folder and opens it; somebody else may make it first.
fn make_folder(parent: impl AsFd, name: &OsStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    match mkdirat(&parent, name, Mode::from_raw_mode(0o777)) {
        Ok(()) | Err(Errno::EXIST) => openat(&parent, name, flags, Mode::empty()),
        Err(error) => Err(error),
    }
}
