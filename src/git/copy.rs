//! Copying ignored files, such as `.env`, from the main worktree into a new one.

use std::fs::{self, DirBuilder, File, FileTimes, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::program::{path_of, split_nul};
use super::{GitError, Repository};
use crate::files::{FileError, read_if_exists};

/// A file in the root of the main worktree with one pattern a line, in the manner of gitignore(5).
const INCLUDE: &str = ".worktreeinclude";

/// What was copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Copied {
    /// Files, and ignored folders that were copied whole; from the root, sorted. Folders made on the way to a
    /// file are not among them: an agent's own new files there are its work.
    pub(crate) made: Vec<PathBuf>,
    /// What matched and was left out, with the reason.
    pub(crate) skipped: Vec<(PathBuf, String)>,
}

/// The patterns of what is copied.
struct Patterns {
    /// All of them.
    matcher: Gitignore,
    /// Fixed beginnings of those that name something inside a folder.
    inside: Vec<PathBuf>,
}

/// One copy under way.
struct Copier<'a> {
    /// The worktree copied from.
    from: &'a Path,
    /// The worktree copied to.
    to: &'a Path,
    /// Roots of all worktrees: never copied.
    worktrees: Vec<PathBuf>,
    /// What matches.
    patterns: Patterns,
    /// What was done.
    copied: Copied,
}

impl Repository {
    /// Copies what git ignores in `from` and what matches `patterns` or a line of `from/.worktreeinclude`, both
    /// in the manner of gitignore(5), into the worktree `to`. A pattern without a slash does not look into ignored
    /// folders; one with a slash does. Never copied: tracked files, `.git`, other worktrees. Never written: what
    /// is there already, and anything outside `to`.
    ///
    /// # Errors
    /// For a pattern that is none, and when `to` cannot be written.
    pub(crate) fn copy_ignored(&self, from: &Path, to: &Path, patterns: &[String]) -> Result<Copied, GitError> {
        let include = read_if_exists(&from.join(INCLUDE))?.unwrap_or_default();
        let include = String::from_utf8_lossy(&include);
        let lines: Vec<&str> = patterns.iter().map(String::as_str).chain(include.lines()).collect();
        let Some(patterns) = Patterns::parse(&lines)? else {
            return Ok(Copied::default());
        };
        let linked = self.linked(to)?;
        let from = from.canonicalize().map_err(FileError::on("find", from))?;
        let worktrees = self.worktrees()?.into_iter().map(|worktree| worktree.path).collect();
        let ignored = self.ignored(&from)?;
        let mut copier = Copier { from: &from, to: linked.path(), worktrees, patterns, copied: Copied::default() };
        for (path, is_folder) in ignored {
            copier.take(&path, is_folder)?;
        }
        copier.copied.made.sort();
        Ok(copier.copied)
    }

    /// What git ignores in a worktree: files, and folders that are ignored whole (marked true).
    fn ignored(&self, worktree: &Path) -> Result<Vec<(PathBuf, bool)>, GitError> {
        let flags =
            ["status", "--porcelain=v2", "-z", "--ignored=matching", "--untracked-files=normal", "--no-renames"];
        let out = self.git(worktree, flags).args(["--ignore-submodules=all"]).reading().output()?.stdout;
        let lines = split_nul(&out).filter_map(|line| line.strip_prefix(b"! "));
        Ok(lines.map(|path| (path_of(path.strip_suffix(b"/").unwrap_or(path)), path.ends_with(b"/"))).collect())
    }
}

impl Patterns {
    /// Reads pattern lines; `None` when there is no pattern.
    fn parse(lines: &[&str]) -> Result<Option<Self>, GitError> {
        let mut builder = GitignoreBuilder::new("");
        let mut inside = Vec::new();
        for line in lines {
            let wrap = |source| GitError::Pattern { pattern: (*line).to_owned(), source };
            builder.add_line(None, line).map_err(wrap)?;
            let plain = line.trim().trim_start_matches('/');
            let fixed: PathBuf = Path::new(plain)
                .components()
                .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[', '\\', '!', '#']))
                .collect();
            if plain.trim_end_matches('/').contains('/') && !fixed.as_os_str().is_empty() {
                inside.push(fixed);
            }
        }
        let wrap = |source| GitError::Pattern { pattern: lines.join(" "), source };
        let matcher = builder.build().map_err(wrap)?;
        Ok((!matcher.is_empty()).then_some(Self { matcher, inside }))
    }

    /// Whether the path, or a folder above it, is to be copied.
    fn matches(&self, path: &Path, is_folder: bool) -> bool {
        self.matcher.matched_path_or_any_parents(path, is_folder).is_ignore()
    }

    /// Whether something inside an ignored folder may match.
    fn reach_into(&self, folder: &Path) -> bool {
        self.inside.iter().any(|fixed| fixed.starts_with(folder) || folder.starts_with(fixed))
    }
}

impl Copier<'_> {
    /// Copies one ignored path, or what matches inside it.
    fn take(&mut self, path: &Path, is_folder: bool) -> Result<(), GitError> {
        if self.is_excluded(path) {
            return Ok(());
        }
        if self.patterns.matches(path, is_folder) {
            if self.copy(path)? {
                self.copied.made.push(path.to_owned());
            }
        } else if is_folder && self.patterns.reach_into(path) {
            for (name, below_is_folder) in self.list(path) {
                self.take(&path.join(name), below_is_folder)?;
            }
        }
        Ok(())
    }

    /// Whether a path is never copied.
    fn is_excluded(&self, path: &Path) -> bool {
        let real = self.from.join(path);
        path.file_name().is_some_and(|name| name == ".git") || self.worktrees.contains(&real)
    }

    /// Names in a folder, sorted, and whether each is a folder; a folder that cannot be read is noted.
    fn list(&mut self, path: &Path) -> Vec<(PathBuf, bool)> {
        let mut names = Vec::new();
        match fs::read_dir(self.from.join(path)) {
            Ok(entries) => names.extend(entries.flatten().map(|entry| {
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                (PathBuf::from(entry.file_name()), is_folder)
            })),
            Err(error) => self.copied.skipped.push((path.to_owned(), error.to_string())),
        }
        names.sort();
        names
    }

    /// Copies a file, link or folder; whether it is there now because of this.
    fn copy(&mut self, path: &Path) -> Result<bool, GitError> {
        let from = self.from.join(path);
        let to = self.to.join(path);
        let Ok(meta) = from.symlink_metadata() else {
            return Ok(false);
        };
        if to.symlink_metadata().is_ok_and(|there| !(there.is_dir() && meta.is_dir())) {
            self.copied.skipped.push((path.to_owned(), "it is there already".to_owned()));
            return Ok(false);
        }
        if !self.make_parents(path)? {
            self.copied.skipped.push((path.to_owned(), "a link or file is in its way".to_owned()));
            return Ok(false);
        }
        if meta.is_dir() {
            return self.copy_folder(path, &to, &meta);
        }
        let done = if meta.is_symlink() {
            fs::read_link(&from).and_then(|target| symlink(target, &to))
        } else if meta.is_file() {
            copy_file(&from, &to, &meta)
        } else {
            Err(io::Error::other("it is no file, folder or link"))
        };
        if let Err(error) = done {
            self.copied.skipped.push((path.to_owned(), error.to_string()));
            return Ok(false);
        }
        Ok(true)
    }

    /// Copies a folder and what is in it. A folder that was there is not ours, only what is new in it.
    fn copy_folder(&mut self, path: &Path, to: &Path, meta: &fs::Metadata) -> Result<bool, GitError> {
        let is_new = !to.exists();
        if is_new {
            DirBuilder::new().create(to).map_err(FileError::on("make the folder", to))?;
        }
        for (name, _) in self.list(path) {
            let below = path.join(name);
            if !self.is_excluded(&below) && self.copy(&below)? && !is_new {
                self.copied.made.push(below);
            }
        }
        if is_new {
            // Last, because a folder may forbid writing.
            let mode = fs::Permissions::from_mode(meta.permissions().mode() | 0o700);
            fs::set_permissions(to, mode).map_err(FileError::on("set the mode of", to))?;
        }
        Ok(is_new)
    }

    /// Makes the folders above a path in the new worktree; false when one of them is no real folder, because
    /// then the way could lead out of the worktree.
    fn make_parents(&self, path: &Path) -> Result<bool, GitError> {
        let mut folder = self.to.to_owned();
        for part in path.parent().into_iter().flat_map(Path::components) {
            folder.push(part);
            match folder.symlink_metadata() {
                Ok(meta) if meta.is_dir() => {}
                Ok(_) => return Ok(false),
                Err(_) => DirBuilder::new().create(&folder).map_err(FileError::on("make the folder", &folder))?,
            }
        }
        Ok(true)
    }
}

/// Copies a file with its mode and date, sharing its blocks where the file system can.
fn copy_file(from: &Path, to: &Path, meta: &fs::Metadata) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mode = meta.permissions().mode() & 0o777;
    let mut target = OpenOptions::new().write(true).create_new(true).mode(mode | 0o600).open(to)?;
    if reflink_copy::reflink_file(&source, &target).is_err() {
        io::copy(&mut source, &mut target)?;
    }
    target.set_times(FileTimes::new().set_modified(meta.modified()?))?;
    target.set_permissions(fs::Permissions::from_mode(mode))
}
