//! Snapshots: the whole state of a worktree as a commit on `refs/swarm/wip/<worker>`, while its agent works.
//!
//! A snapshot is taken through an index of its own in the state folder, which starts as a copy of the worktree's
//! index (so that unchanged files are known by their dates) and is then kept up to date. The worktree's own index
//! is only read. When nothing changed since the last one, a snapshot costs one `git status`.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::object::CommitFacts;
use super::program::Call;
use super::state::{Entry, EntryKind, WorktreeState};
use super::worktree::Linked;
use super::{GitError, Repository};
use crate::files::{Access, FileError, FileLock, read_if_exists, remove_if_exists, write_atomically};
use crate::model::{BranchName, CommitId, Time, WorkerId};

/// Files above this size are left out of the snapshots of a working agent; keeping takes every size.
const MOST_BYTES: u64 = 64 * 1024 * 1024;
/// Files that may fail one by one before the whole snapshot fails: then the cause is not theirs.
const MOST_FAILURES: usize = 20;

/// A saved state of a worktree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// The commit; its parent is the worktree's head.
    pub(crate) commit: CommitId,
    /// Id of its tree in hex.
    pub(crate) tree: String,
    /// The head at that time; `None` when the branch was gone.
    pub(crate) head: Option<CommitId>,
    /// The branch that was checked out; `None` when the head was detached.
    pub(crate) branch: Option<BranchName>,
    /// Whether this call made the commit, because something changed.
    pub(crate) fresh: bool,
    /// Whether anything is not committed.
    pub(crate) dirty: bool,
    /// What could not be saved.
    pub(crate) unsaved: Vec<Unsaved>,
    /// When the worktree was looked at.
    pub(crate) at: Time,
}

/// A path whose content a snapshot does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unsaved {
    /// The path from the worktree's root.
    pub(crate) path: PathBuf,
    /// Why not.
    pub(crate) why: UnsavedReason,
}

/// Why a snapshot does not hold a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnsavedReason {
    /// It is a repository of its own.
    NestedRepository,
    /// It is a submodule with uncommitted work.
    DirtySubmodule,
    /// It could not be read.
    Unreadable,
    /// It is larger than snapshots take.
    TooLarge,
}

/// The state of a worktree, written to the object store.
#[derive(Debug)]
pub(super) struct Taken {
    /// Id of the tree in hex.
    pub(super) tree: String,
    /// What git said about the worktree.
    pub(super) state: WorktreeState,
    /// What is not in the tree.
    pub(super) unsaved: Vec<Unsaved>,
}

/// How much of a worktree is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent<'a> {
    /// Untracked paths that are left out.
    pub(super) made_paths: &'a [PathBuf],
    /// Largest file taken.
    pub(super) most_bytes: u64,
    /// Whether the private index starts anew.
    pub(super) anew: bool,
}

impl Repository {
    /// The reference that holds a worker's last snapshot.
    pub(crate) fn wip_ref(worker: &WorkerId) -> String {
        format!("refs/swarm/wip/{worker}")
    }

    /// Saves the state of a worker's worktree, untracked files included, without those in `made_paths`. Works
    /// beside a working agent: what vanishes or cannot be read meanwhile is left out and reported. With `force`
    /// the private index starts anew and files of every size are taken. The other side of an unfinished merge is its
    /// second parent.
    ///
    /// # Errors
    /// [`GitError::NotOurWorktree`] before anything is read when the folder is not one; git's words otherwise.
    pub(crate) fn snapshot(
        &self,
        worktree: &Path,
        worker: &WorkerId,
        made_paths: &[PathBuf],
        force: bool,
    ) -> Result<Snapshot, GitError> {
        let linked = self.linked(worktree)?;
        let lock = self.lock_snapshot(worker)?;
        let at = Time::now();
        let name = Self::wip_ref(worker);
        let last = match self.ref_commit(&name)? {
            Some(commit) => Some((self.commit_facts(&commit)?, commit)),
            None => None,
        };
        let last_head = last.as_ref().and_then(|(facts, _)| facts.parents.first());
        // A moved head means that the agent's own index is up to date: a good moment to start from it again.
        let anew = force || last_head.is_none() || last_head != self.head_of(&linked)?.as_ref();
        let extent = Extent { made_paths, most_bytes: if force { u64::MAX } else { MOST_BYTES }, anew };
        let known_tree = last.as_ref().map(|(facts, _)| facts.tree.clone());
        let merged_before = merged_in(&linked)?;
        let Taken { tree, state, unsaved } = self.take(&linked, worker, extent, known_tree)?;
        // One that began or ended meanwhile may have half of its files in the tree.
        let merged = merged_in(&linked)?.filter(|now| merged_before.as_ref() == Some(now));
        let head_tree = state.head.as_ref().map(|head| self.commit_facts(head)).transpose()?.map(|facts| facts.tree);
        let dirty = head_tree.as_ref() != Some(&tree);
        let is_last = |facts: &CommitFacts| {
            let is_same_place = facts.parents.first() == state.head.as_ref() && facts.parents.get(1) == merged.as_ref();
            facts.tree == tree && (state.head.is_none() || is_same_place)
        };
        let (commit, fresh) = match last {
            Some((facts, commit)) if is_last(&facts) => (commit, false),
            last => {
                let last = last.map(|(_, commit)| commit);
                // With its branch gone, the last snapshot is the only tie to the worktree's commits.
                let parent = state.head.clone().or_else(|| last.clone());
                let parents: Vec<_> = parent.into_iter().chain(merged.filter(|_| state.head.is_some())).collect();
                let commit = self.own_commit(&tree, &parents, &format!("Snapshot of `{worker}`\n"))?;
                self.move_ref(&name, last.as_ref(), &commit)?;
                (commit, true)
            }
        };
        drop(lock);
        Ok(Snapshot { commit, tree, head: state.head, branch: state.branch, fresh, dirty, unsaved, at })
    }

    /// Keeps two processes from using a worker's private index, or moving its snapshots, at once.
    pub(super) fn lock_snapshot(&self, worker: &WorkerId) -> Result<FileLock, GitError> {
        let lock = FileLock::wait(&self.worker_file(worker, "snapshot.lock"))?;
        // One that was killed as it deleted them may have left locks on what is no longer there.
        for name in [Self::wip_ref(worker), Self::calls_ref(worker)] {
            self.drop_dead_reference_lock(&name, &[])?;
        }
        Ok(lock)
    }

    /// The index that snapshots of a worker are taken through.
    pub(super) fn private_index(&self, worker: &WorkerId) -> PathBuf {
        self.worker_file(worker, "snapshot.index")
    }

    /// A file in the worker's state folder.
    fn worker_file(&self, worker: &WorkerId, name: &str) -> PathBuf {
        self.state_dir().join("workers").join(worker.as_str()).join(name)
    }

    /// The commit a worktree has checked out.
    pub(super) fn head_of(&self, linked: &Linked) -> Result<Option<CommitId>, GitError> {
        if self.libgit().is_some() {
            let repo = git2::Repository::open(linked.path()).map_err(GitError::libgit("open a worktree"))?;
            return match repo.head().and_then(|head| head.peel_to_commit()) {
                Ok(commit) => Ok(Some(super::commit_id(&commit.id().to_string())?)),
                Err(error) if super::repository::is_absence(&error) => Ok(None),
                Err(error) => Err(GitError::libgit("read the head of a worktree")(error)),
            };
        }
        let done = self.git(linked.path(), ["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]).reading().run()?;
        if done.code() == 0 { super::commit_id(&done.text()).map(Some) } else { Ok(None) }
    }

    /// Writes the worktree's state to the object store through the worker's private index, whose lock the caller
    /// holds. `known_tree` is the tree of the private index as it is; with nothing changed it comes back at once.
    pub(super) fn take(
        &self,
        linked: &Linked,
        worker: &WorkerId,
        extent: Extent<'_>,
        known_tree: Option<String>,
    ) -> Result<Taken, GitError> {
        let index = self.private_index(worker);
        // Says which tree the index is. Away while the index changes: one whose process was killed then, or that was
        // used for something else meanwhile, is not taken for the last snapshot's.
        let stamp = self.worker_file(worker, "snapshot.tree");
        let known_tree = match read_if_exists(&stamp)? {
            Some(tree) => known_tree.filter(|known| known.as_bytes() == tree),
            None => None,
        };
        let sparse = linked.git_dir().join("info/sparse-checkout").exists();
        let mut seeded = extent.anew || sparse || !index.exists();
        // Left by a process that was killed while it wrote; the lock we hold says that no living one does.
        let left = [index.with_extension("index.lock")].iter().any(|path| fs::remove_file(path).is_ok());
        if seeded || left {
            seeded = true;
            remove_if_exists(&stamp)?;
            self.seed_index(linked, &index)?;
        }
        let state = match self.worktree_state(linked, Some(&index)) {
            Ok(state) => state,
            // A private index that git cannot read is made anew; a second failure has another cause.
            Err(_) if !seeded => {
                seeded = true;
                remove_if_exists(&stamp)?;
                self.seed_index(linked, &index)?;
                self.worktree_state(linked, Some(&index))?
            }
            Err(error) => return Err(error),
        };
        let mut sorted = Sorted::default();
        for entry in state.changed_except(extent.made_paths) {
            sorted.take(entry, linked.path(), extent.most_bytes);
        }
        let Sorted { update, remove, mut unsaved } = sorted;
        if let Some(tree) = known_tree.filter(|_| !seeded && update.is_empty() && remove.is_empty()) {
            return Ok(Taken { tree, state, unsaved });
        }
        remove_if_exists(&stamp)?;
        if state.entries.is_empty()
            && let Some(head) = &state.head
        {
            // Files, index and head are the same.
            let tree = self.commit_facts(head)?.tree;
            write_atomically(&stamp, tree.as_bytes(), Access::Private)?;
            return Ok(Taken { tree, state, unsaved });
        }
        if !remove.is_empty() {
            self.remove_from_index(linked, &index, &remove)?;
        }
        if !update.is_empty() {
            let mut failed = Vec::new();
            self.update_index(linked, &index, &update, &mut failed)?;
            unsaved.extend(failed.into_iter().map(|path| Unsaved { path, why: UnsavedReason::Unreadable }));
        }
        let tree = private(self.git(linked.path(), ["write-tree"]), &index).text()?;
        write_atomically(&stamp, tree.as_bytes(), Access::Private)?;
        Ok(Taken { tree, state, unsaved })
    }

    /// Starts the private index as a copy of the worktree's own, or from the head where there is none.
    fn seed_index(&self, linked: &Linked, index: &Path) -> Result<(), GitError> {
        match read_if_exists(&linked.index())? {
            Some(bytes) => write_atomically(index, &bytes, Access::Private)?,
            None => {
                match fs::remove_file(index) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        return Err(FileError::on("remove", index)(error).into());
                    }
                    _ => {}
                }
                let start = self.head_of(linked)?.map_or("--empty".to_owned(), |head| head.to_string());
                private(self.git(linked.path(), ["read-tree", start.as_str()]), index).output()?;
            }
        }
        Ok(())
    }

    /// Takes paths out of the private index, whatever is on the disk.
    fn remove_from_index(&self, linked: &Linked, index: &Path, paths: &[PathBuf]) -> Result<(), GitError> {
        let flags = ["update-index", "-z", "--force-remove", "--stdin"];
        private(self.git(linked.path(), flags).stdin(nul_list(paths)), index).output().map(drop)
    }

    /// Brings paths of the private index up to date. Paths that cannot be read are found by halving, because the
    /// program gives up on the first.
    fn update_index(
        &self,
        linked: &Linked,
        index: &Path,
        paths: &[PathBuf],
        failed: &mut Vec<PathBuf>,
    ) -> Result<(), GitError> {
        let flags = ["update-index", "-z", "--add", "--remove", "--replace", "--stdin"];
        let call = private(self.git(linked.path(), flags).stdin(nul_list(paths)), index).own_locale();
        match call.output() {
            Ok(_) => Ok(()),
            Err(GitError::Failed { .. }) if paths.len() > 1 => {
                let (one, other) = paths.split_at(paths.len() / 2);
                self.update_index(linked, index, one, failed)?;
                self.update_index(linked, index, other, failed)
            }
            Err(GitError::Failed { .. }) if failed.len() < MOST_FAILURES => {
                failed.extend_from_slice(paths);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// The other side of a merge that is unfinished in a worktree; `None` where it has several.
fn merged_in(linked: &Linked) -> Result<Option<CommitId>, GitError> {
    let text = read_if_exists(&linked.git_dir().join("MERGE_HEAD"))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines();
    Ok(lines.next().filter(|_| lines.next().is_none()).and_then(|line| super::commit_id(line).ok()))
}

/// Points a call at the private index, which must not start features that tie an index to its place.
fn private(call: Call, index: &Path) -> Call {
    call.env("GIT_INDEX_FILE", index).config("core.fsmonitor=false").config("core.splitIndex=false")
}

/// Paths as the program reads them with `-z`.
pub(super) fn nul_list(paths: &[PathBuf]) -> Vec<u8> {
    let mut list = Vec::new();
    for path in paths {
        list.extend_from_slice(path.as_os_str().as_bytes());
        list.push(0);
    }
    list
}

/// Changed paths by what is to be done with them.
#[derive(Default)]
struct Sorted {
    /// To be read into the index, or to be removed if they vanish.
    update: Vec<PathBuf>,
    /// To be removed, because something that is no file took their place.
    remove: Vec<PathBuf>,
    /// Left alone.
    unsaved: Vec<Unsaved>,
}

impl Sorted {
    /// Sorts one entry in.
    fn take(&mut self, entry: &Entry, root: &Path, most_bytes: u64) {
        let path = entry.path.clone();
        match entry.kind {
            EntryKind::NestedRepository => {
                self.unsaved.push(Unsaved { path, why: UnsavedReason::NestedRepository });
            }
            EntryKind::Submodule { dirty } => {
                if dirty {
                    self.unsaved.push(Unsaved { path: path.clone(), why: UnsavedReason::DirtySubmodule });
                }
                if entry.differs_on_disk {
                    self.update.push(path);
                }
            }
            _ if !entry.differs_on_disk => {}
            EntryKind::Tracked | EntryKind::Conflicted | EntryKind::Untracked => {
                self.take_file(path, &root.join(&entry.path), most_bytes);
            }
        }
    }

    /// Sorts one file in by what is on the disk now.
    fn take_file(&mut self, path: PathBuf, real: &Path, most_bytes: u64) {
        match real.symlink_metadata() {
            Ok(meta) if meta.is_file() && meta.len() > most_bytes => {
                self.unsaved.push(Unsaved { path, why: UnsavedReason::TooLarge });
            }
            Ok(meta) if meta.is_file() => match fs::File::open(real) {
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    self.unsaved.push(Unsaved { path, why: UnsavedReason::Unreadable });
                }
                _ => self.update.push(path),
            },
            Ok(meta) if !meta.is_symlink() => self.remove.push(path),
            _ => self.update.push(path),
        }
    }
}
