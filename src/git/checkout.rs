//! The fast first checkout of a new worktree, for repositories where it gives exactly what git would.
//!
//! Git writes a worktree's files one after the other; most of that time is inflating objects and making files.
//! Here several threads do it, and the index is written from what the file system said about each new file, so
//! that the first `git status` finds everything as it should be. Anything that could make git write other bytes
//! (filters, line ends, sparse patterns, hooks, replaced objects ...) is left to the program.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use git2::{Index, IndexEntry, IndexTime, ObjectType, Oid};

use super::program::path_of;
use super::repository::find_tree;
use super::{GitError, Repository};
use crate::files::FileError;
use crate::model::CommitId;

/// Mode of a plain file in a tree.
const PLAIN: u32 = 0o100_644;
/// Mode of an executable file in a tree.
const EXECUTABLE: u32 = 0o100_755;
/// Mode of a symbolic link in a tree.
const LINK: u32 = 0o120_000;
/// Threads that write files. More than four gained nothing on local disks.
const MOST_THREADS: usize = 4;
/// Files a thread takes at a time: neighbours share a folder, and threads in one folder wait for each other.
const BATCH: usize = 64;

/// What a new worktree will hold.
#[derive(Debug)]
pub(super) struct Plan {
    /// Where handles are opened.
    common_dir: PathBuf,
    /// Folders, parents first.
    folders: Vec<PathBuf>,
    /// Files in the order of the index.
    files: Vec<PlannedFile>,
}

/// One file to be written.
#[derive(Debug)]
struct PlannedFile {
    /// Its path from the root.
    path: Vec<u8>,
    /// Its content.
    id: Oid,
    /// One of the three modes.
    mode: u32,
}

impl Plan {
    /// A plan for the files of `commit`; `None` where the program has to do it.
    pub(super) fn make(repo: &Repository, commit: &CommitId) -> Option<Self> {
        let handle = repo.libgit()?;
        let settings = Settings::read(repo)?;
        if !settings.is_plain(repo) || has_replaced_objects(&handle)? {
            return None;
        }
        let mut plan = Self { common_dir: repo.common_dir().to_owned(), folders: Vec::new(), files: Vec::new() };
        let tree = find_tree(&handle, commit).ok()?;
        plan.walk(&handle, &tree, &[])?;
        Some(plan)
    }

    /// Adds a tree and what is below it; `None` when something in it is not plain.
    fn walk(&mut self, repo: &git2::Repository, tree: &git2::Tree<'_>, above: &[u8]) -> Option<()> {
        for entry in tree {
            let name = entry.name_bytes();
            if !is_harmless_name(name) {
                return None;
            }
            let path = [above, name].concat();
            let mode = u32::try_from(entry.filemode()).ok()?;
            match entry.kind()? {
                ObjectType::Tree => {
                    self.folders.push(path_of(&path));
                    let below = repo.find_tree(entry.id()).ok()?;
                    self.walk(repo, &below, &[path.as_slice(), b"/"].concat())?;
                }
                ObjectType::Blob if matches!(mode, PLAIN | EXECUTABLE | LINK) => {
                    if name == b".gitattributes" {
                        let blob = repo.find_blob(entry.id()).ok()?;
                        is_plain_attributes(blob.content()).then_some(())?;
                    }
                    self.files.push(PlannedFile { path, id: entry.id(), mode });
                }
                // A submodule, or a mode of old git versions.
                _ => return None,
            }
        }
        Some(())
    }

    /// Writes folders and files into an empty folder; what the index says of them comes back in its order. `None` when
    /// `stop` was set meanwhile.
    pub(super) fn lay_out(&self, root: &Path, stop: &AtomicBool) -> Result<Option<Vec<IndexEntry>>, GitError> {
        for folder in &self.folders {
            let path = root.join(folder);
            DirBuilder::new().create(&path).map_err(FileError::on("make the folder", &path))?;
        }
        let entries = self.write_files(root, stop)?;
        Ok((entries.len() == self.files.len()).then_some(entries))
    }

    /// Writes all files on several threads, or some until `stop` is set; the entries come back in order.
    fn write_files(&self, root: &Path, stop: &AtomicBool) -> Result<Vec<IndexEntry>, GitError> {
        // What was read from the store of this machine a moment ago is taken as it is, as git does on checkout.
        git2::opts::strict_hash_verification(false);
        let next = AtomicUsize::new(0);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.min(MOST_THREADS).min(self.files.len().div_ceil(BATCH)).max(1);
        let mut written: Vec<(usize, Vec<IndexEntry>)> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| self.write_batches(root, &next, stop))).collect();
            let mut all = Vec::new();
            for worker in workers {
                all.extend(worker.join().expect("a checkout thread does not panic")?);
            }
            Ok::<_, GitError>(all)
        })?;
        written.sort_by_key(|(start, _)| *start);
        Ok(written.into_iter().flat_map(|(_, entries)| entries).collect())
    }

    /// One thread: takes batches until none is left.
    fn write_batches(
        &self,
        root: &Path,
        next: &AtomicUsize,
        stop: &AtomicBool,
    ) -> Result<Vec<(usize, Vec<IndexEntry>)>, GitError> {
        let repo = git2::Repository::open(&self.common_dir).map_err(GitError::libgit("open the repository"))?;
        let objects = repo.odb().map_err(GitError::libgit("open the object store"))?;
        let mut batches = Vec::new();
        loop {
            let start = next.fetch_add(BATCH, Ordering::Relaxed);
            let rest = self.files.get(start..).filter(|rest| !rest.is_empty() && !stop.load(Ordering::Relaxed));
            let Some(files) = rest else {
                return Ok(batches);
            };
            let files = &files[..files.len().min(BATCH)];
            let entries = files.iter().map(|file| {
                let object = objects.read(file.id).map_err(GitError::libgit("read an object"))?;
                Ok(file.write(root, object.data())?)
            });
            batches.push((start, entries.collect::<Result<_, GitError>>()?));
        }
    }
}

impl PlannedFile {
    /// Writes one file that is not there and describes it for the index.
    fn write(&self, root: &Path, content: &[u8]) -> Result<IndexEntry, FileError> {
        let path = root.join(path_of(&self.path));
        let meta = if self.mode == LINK {
            symlink(path_of(content), &path).map_err(FileError::on("make the link", &path))?;
            fs::symlink_metadata(&path).map_err(FileError::on("look at", &path))?
        } else {
            let mode = if self.mode == EXECUTABLE { 0o777 } else { 0o666 };
            let open = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
            let mut file = open.map_err(FileError::on("make", &path))?;
            file.write_all(content).map_err(FileError::on("write", &path))?;
            file.metadata().map_err(FileError::on("look at", &path))?
        };
        let mut entry = IndexEntry {
            ctime: IndexTime::new(0, 0),
            mtime: IndexTime::new(0, 0),
            dev: 0,
            ino: 0,
            mode: self.mode,
            uid: 0,
            gid: 0,
            file_size: 0,
            id: self.id,
            flags: 0,
            flags_extended: 0,
            path: self.path.clone(),
        };
        describe(&mut entry, &meta);
        Ok(entry)
    }
}

/// Puts what the file system says of a file into its index entry, cut to 32 bits as git cuts it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the format has 32 bits")]
pub(super) fn describe(entry: &mut IndexEntry, meta: &fs::Metadata) {
    entry.ctime = IndexTime::new(meta.ctime() as i32, meta.ctime_nsec() as u32);
    entry.mtime = IndexTime::new(meta.mtime() as i32, meta.mtime_nsec() as u32);
    (entry.dev, entry.ino) = (meta.dev() as u32, meta.ino() as u32);
    (entry.uid, entry.gid) = (meta.uid(), meta.gid());
    entry.file_size = meta.size() as u32;
}

/// Writes a new index; it appears whole or not at all.
pub(super) fn write_index(path: &Path, entries: &[IndexEntry]) -> Result<(), GitError> {
    let attempt = || GitError::libgit("write the index of a new worktree");
    let mut index = Index::open(path).map_err(attempt())?;
    for entry in entries {
        index.add(entry).map_err(attempt())?;
    }
    index.write().map_err(attempt())
}

/// Git's whole configuration and the places of its attribute files, in lower case, by `git var -l`.
struct Settings {
    /// All values of each name.
    values: HashMap<String, Vec<String>>,
}

impl Settings {
    /// Asks the program, which alone knows every source: files, includes, the environment.
    fn read(repo: &Repository) -> Option<Self> {
        let out = repo.git(repo.home(), ["var", "-l"]).reading().output().ok()?;
        let mut values: HashMap<String, Vec<String>> = HashMap::new();
        for line in out.text().lines() {
            let (name, value) = line.split_once('=').unwrap_or((line, "true"));
            values.entry(name.to_lowercase()).or_default().push(value.to_owned());
        }
        Some(Self { values })
    }

    /// Whether a name has no value or only those of `harmless`.
    fn only(&self, name: &str, harmless: &[&str]) -> bool {
        let values = self.values.get(name).map_or(&[][..], Vec::as_slice);
        values.iter().all(|value| harmless.contains(&value.to_lowercase().as_str()))
    }

    /// Whether checking out means nothing but writing the bytes of each object.
    fn is_plain(&self, repo: &Repository) -> bool {
        const NO: [&str; 4] = ["false", "no", "off", "0"];
        const YES: [&str; 4] = ["true", "yes", "on", "1"];
        let off = ["core.autocrlf", "core.ignorecase", "core.sparsecheckout", "core.fsmonitor", "core.splitindex"];
        let off_too = ["core.untrackedcache", "index.sparse", "index.skiphash", "feature.manyfiles"];
        let unset =
            ["core.eol", "core.worktree", "core.hookspath", "attr.tree", "index.version", "core.virtualfilesystem"];
        off.iter().chain(&off_too).all(|name| self.only(name, &NO))
            && unset.iter().all(|name| self.only(name, &[]))
            && self.only("core.symlinks", &YES)
            && self.only("core.filemode", &YES)
            && self.only("core.sharedrepository", &["false", "umask", "0"])
            && self.values.iter().all(|(name, values)| is_plain_section(name, values))
            && self.has_plain_attributes(repo)
            && has_no_hook(repo.common_dir())
    }

    /// Whether the attribute files outside the tree change nothing on checkout.
    fn has_plain_attributes(&self, repo: &Repository) -> bool {
        let named = ["git_attr_system", "git_attr_global"].map(|name| self.values.get(name));
        let mut paths = vec![repo.common_dir().join("info/attributes")];
        match named {
            [Some(system), Some(global)] => paths.extend(system.iter().chain(global).map(PathBuf::from)),
            // Git before 2.41 does not say where they are.
            _ if self.only("core.attributesfile", &[]) => paths.extend(usual_attribute_files(repo)),
            _ => return false,
        }
        paths.into_iter().all(|path| match fs::read(&path) {
            Ok(content) => is_plain_attributes(&content),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        })
    }
}

/// Where attribute files outside a repository can be (gitattributes(5)) for a git that does not tell: `etc/` beside its
/// `bin/`, and the person's. More places than git reads are no harm.
fn usual_attribute_files(repo: &Repository) -> Vec<PathBuf> {
    let given = |wanted: &str| {
        let found = repo.program_env().iter().rev().find(|(name, _)| name == wanted);
        found.map(|(_, value)| PathBuf::from(value))
    };
    let person = directories::BaseDirs::new();
    let home = given("HOME").or_else(|| person.as_ref().map(|person| person.home_dir().to_owned()));
    let config = given("XDG_CONFIG_HOME").or_else(|| person.as_ref().map(|person| person.config_dir().to_owned()));
    let mut paths: Vec<_> = config.into_iter().chain(home.map(|home| home.join(".config"))).collect();
    paths.iter_mut().for_each(|folder| folder.push("git/attributes"));
    paths.extend(["/etc/gitattributes", "/usr/local/etc/gitattributes"].map(PathBuf::from));
    let programs = which::which_all("git").into_iter().flatten();
    let real = |program: &PathBuf| program.canonicalize().ok();
    let programs = programs.flat_map(|program| [real(&program), Some(program)]).flatten();
    paths.extend(programs.filter_map(|program| Some(program.parent()?.parent()?.join("etc/gitattributes"))));
    paths
}

/// Whether one setting is none of the families that change a checkout.
fn is_plain_section(name: &str, values: &[String]) -> bool {
    if name.starts_with("extensions.") {
        return match name {
            "extensions.objectformat" => values.iter().all(|value| value == "sha1"),
            "extensions.refstorage" => values.iter().all(|value| value == "files"),
            "extensions.noop" | "extensions.relativeworktrees" => true,
            _ => false,
        };
    }
    !(name.starts_with("hook.") || (name.starts_with("remote.") && name.ends_with(".promisor")))
}

/// Whether no hook would run after a checkout.
fn has_no_hook(common_dir: &Path) -> bool {
    ["post-checkout", "post-index-change"].iter().all(|hook| !common_dir.join("hooks").join(hook).exists())
}

/// Whether some object stands in for another; libgit2 does not follow that. `None` when it cannot be told.
fn has_replaced_objects(repo: &git2::Repository) -> Option<bool> {
    Some(repo.references_glob("refs/replace/*").ok()?.next().is_some())
}

/// Whether a name in a tree is one that git writes on every platform without a second look: not `.git` in any of
/// the spellings that file systems fold together.
fn is_harmless_name(name: &[u8]) -> bool {
    let lower = name.to_ascii_lowercase();
    let odd_dot_git = lower.starts_with(b".") && !lower.is_ascii();
    let ends_oddly = matches!(lower.last(), None | Some(b'.' | b' '));
    let has_separator = lower.iter().any(|byte| matches!(byte, b'/' | b'\\' | b':'));
    !(lower == b".git" || lower.starts_with(b"git~") || odd_dot_git || ends_oddly || has_separator)
}

/// Whether an attributes file changes nothing on checkout. `text` alone does not: without `core.eol` and
/// `core.autocrlf` lines end as they are stored (gitattributes(5)).
fn is_plain_attributes(content: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(content) else {
        return false;
    };
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).all(|line| {
        let odd_line = line.starts_with('"') || line.starts_with("[attr]");
        let mut attributes = line.split_ascii_whitespace().skip(1);
        !odd_line
            && attributes.all(|attribute| {
                let name = attribute.trim_start_matches(['-', '!']).split('=').next().unwrap_or_default();
                !matches!(name, "eol" | "crlf" | "ident" | "filter" | "working-tree-encoding")
            })
    })
}
