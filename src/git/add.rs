//! Making a worktree: registration under a lock, checkout outside it, and taking back what was half made.
//!
//! A worktree is finished when its git folder holds an index: git and the fast checkout both write that last.
//! Whoever checks out holds a lock beside it, so a registration without index whose lock is free was left by a
//! process that died, and is taken back by the next one that wants the place.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::program::last_words;
use super::stage::{self, Prepared};
use super::worktree::{Head, Linked};
use super::{GitError, Repository};
use crate::files::{FileError, FileLock, make_folder};
use crate::model::{BranchName, CommitId};
use crate::process;

/// Registrations that are tried before giving up: `git worktree add` fails on the half-written entry of another
/// one running at the same time, and not everybody holds our lock.
const TRIES: u32 = 6;
/// The first pause between two tries; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Time a `post-checkout` hook may take.
const HOOK_LIMIT: Duration = Duration::from_secs(300);

/// A worktree to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewWorktree {
    /// Absolute path of a folder that does not exist or is empty.
    pub(crate) path: PathBuf,
    /// The branch it gets.
    pub(crate) branch: BranchName,
    /// Where a new branch starts.
    pub(crate) base: CommitId,
    /// Whether the branch exists and is used as it is.
    pub(crate) use_existing_branch: bool,
}

/// A worktree that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddedWorktree {
    /// Its folder, with symbolic links resolved.
    pub(crate) path: PathBuf,
    /// Whether the fast checkout was used.
    pub(crate) fast: bool,
    /// What the person's `post-checkout` hook said when it failed; the worktree is there all the same, as with git.
    pub(crate) hook_problem: Option<String>,
}

impl Repository {
    /// Makes a branch (or takes an existing one) and a worktree with its files.
    ///
    /// On an error nothing of it is left. A process that dies in the middle leaves something that the next call
    /// for the same place, or [`Repository::undo_add_worktree`], takes back.
    ///
    /// # Errors
    /// [`GitError::PathTaken`], [`GitError::BranchExists`], [`GitError::NoBranch`] and [`GitError::BranchInUse`]
    /// before any effect; git's own words when it fails.
    pub(crate) fn add_worktree(&self, new: &NewWorktree) -> Result<AddedWorktree, GitError> {
        let head = match new.use_existing_branch {
            true => self.branch_head(&new.branch)?.ok_or_else(|| GitError::NoBranch { branch: new.branch.clone() })?,
            false => new.base.clone(),
        };
        // The files need nothing of the new worktree, so they are written while the program registers it.
        let stop = AtomicBool::new(false);
        let (registered, prepared) = std::thread::scope(|scope| {
            let prepared = scope.spawn(|| Prepared::make(self, &head, &new.path, &stop));
            let registered = self.register(new, &head);
            stop.store(registered.is_err(), Ordering::Relaxed);
            (registered, prepared.join().unwrap_or(Ok(None)))
        });
        let (linked, lock) = registered?;
        let filled = prepared.and_then(|prepared| self.fill(&linked, &head, prepared));
        drop(lock);
        match filled {
            Ok(added) => Ok(added),
            Err(error) => {
                self.take_back(new);
                Err(error)
            }
        }
    }

    /// Takes back what a failed call made. Its error is the one that counts, so that of this goes to the log.
    fn take_back(&self, new: &NewWorktree) {
        if let Err(error) = self.undo_add_worktree(new, &[]) {
            tracing::warn!(path = %new.path.display(), %error, "a half-made worktree could not be taken back");
        }
    }

    /// Takes back a worktree that was made, or half made, and in which nothing has happened: its branch is at the
    /// base, no tracked file is changed, and nothing untracked is there but what lies in `made_paths`. The branch
    /// goes too unless it existed before. Nothing to take back is no error.
    ///
    /// # Errors
    /// [`GitError::Refused`] when work would be lost.
    pub(crate) fn undo_add_worktree(&self, new: &NewWorktree, made_paths: &[PathBuf]) -> Result<(), GitError> {
        let lock = self.lock_worktrees()?;
        stage::clear(&new.path)?;
        if let Some(headless) = self.headless(&new.path)? {
            let remove = |folder: &Path| std::fs::remove_dir_all(folder).map_err(FileError::on("remove", folder));
            remove(headless.path())?;
            remove(headless.git_dir())?;
        } else if new.path.join(".git").symlink_metadata().is_ok() {
            let linked = self.linked(&new.path)?;
            let unfinished = self.unfinished(&linked, new)?.is_some();
            if !unfinished && !self.is_untouched(&linked, new, made_paths)? {
                return Err(refused_undo("there is work in it"));
            }
            self.force_remove(linked.path())?;
        } else if let Some(gone) = self.worktrees()?.into_iter().find(|worktree| worktree.path == real(&new.path)) {
            if gone.head != Head::Branch(new.branch.clone()) {
                return Err(refused_undo("it is registered with another head"));
            }
            self.force_remove(&gone.path)?;
        }
        if !new.use_existing_branch {
            // Of one that was killed as it made the branch, whether that is there or not.
            self.drop_dead_branch_lock(&new.branch)?;
        }
        if !new.use_existing_branch
            && self.branch_head(&new.branch)?.as_ref() == Some(&new.base)
            && self.worktree_of_branch(&new.branch)?.is_none()
        {
            let reference = format!("refs/heads/{}", new.branch);
            self.git(self.home(), ["update-ref", "-d", reference.as_str(), new.base.as_str()]).output()?;
        }
        drop(lock);
        Ok(())
    }

    /// The worktree at `path` where `git worktree add` was killed before it had written a head: nothing but the link to
    /// the registration is there, and no command of git can do anything with it.
    pub(crate) fn headless(&self, path: &Path) -> Result<Option<Linked>, GitError> {
        let Ok(linked) = self.linked(path) else { return Ok(None) };
        let entries = std::fs::read_dir(path).map_err(FileError::on("list", path))?;
        let is_empty = entries.count() == 1;
        let is_headless = is_empty && !linked.git_dir().join("HEAD").exists();
        // Whoever is about to write it has its lock open.
        let is_made = || process::is_used_by("git", &[], &linked.git_dir().join("HEAD.lock"));
        Ok(if is_headless && !is_made()? { Some(linked) } else { None })
    }

    /// Whether a finished worktree is as it was made.
    fn is_untouched(&self, linked: &Linked, new: &NewWorktree, made_paths: &[PathBuf]) -> Result<bool, GitError> {
        let state = self.worktree_state(linked, None)?;
        let start = if new.use_existing_branch { self.branch_head(&new.branch)? } else { Some(new.base.clone()) };
        let at_start = state.head.is_some() && state.head == start && state.branch.as_ref() == Some(&new.branch);
        Ok(at_start && state.operation.is_none() && state.changed_except(made_paths).next().is_none())
    }

    /// The checkout lock of a registration that a dead process left without files; `None` when it is finished,
    /// somebody is at it, or it is not what `new` asks for.
    fn unfinished(&self, linked: &Linked, new: &NewWorktree) -> Result<Option<FileLock>, GitError> {
        let registered = self.worktrees()?.into_iter().find(|worktree| worktree.git_dir == linked.git_dir());
        let same = registered.is_some_and(|worktree| worktree.head == Head::Branch(new.branch.clone()));
        if !same || linked.index().exists() { Ok(None) } else { checkout_lock(linked) }
    }

    /// Registers the worktree without files and takes its checkout lock.
    fn register(&self, new: &NewWorktree, head: &CommitId) -> Result<(Linked, FileLock), GitError> {
        let lock = self.lock_worktrees()?;
        self.clear_place(new)?;
        let mut branch_made = new.use_existing_branch;
        self.check_branch_free(new, branch_made)?;
        if let Some(parent) = new.path.parent() {
            make_folder(parent)?;
        }
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let mut call = self.git(self.home(), ["worktree", "add", "--no-checkout", "--no-guess-remote", "--quiet"]);
            if branch_made {
                call = call.args([new.path.as_os_str(), new.branch.as_str().as_ref()]);
            } else {
                let flags = ["--no-track", "-b", new.branch.as_str()];
                call = call.args(flags).args([new.path.as_os_str(), head.as_str().as_ref()]);
            }
            match call.output() {
                Ok(_) => break,
                Err(error) if attempt == TRIES => {
                    drop(lock);
                    self.take_back(new);
                    return Err(error);
                }
                Err(_) => std::thread::sleep(pause),
            }
            pause *= 2;
            self.clear_place(new)?;
            // The failed call may have got as far as its branch.
            branch_made = branch_made || self.branch_head(&new.branch)?.as_ref() == Some(head);
            self.check_branch_free(new, branch_made)?;
        }
        let linked = self.linked(&new.path)?;
        let checkout = checkout_lock(&linked)?.ok_or_else(|| refused_undo("somebody else works on it"))?;
        drop(lock);
        Ok((linked, checkout))
    }

    /// Makes sure that the path is free, taking back what a dead process left there.
    fn clear_place(&self, new: &NewWorktree) -> Result<(), GitError> {
        let taken = || GitError::PathTaken { path: new.path.clone() };
        if !new.path.is_absolute() || real(&new.path).starts_with(self.common_dir()) {
            return Err(GitError::Refused {
                what: format!("a worktree at `{}`", new.path.display()),
                why: "a worktree needs an absolute path outside the repository's git folder".to_owned(),
                hint: "change `worktrees` in .swarm/config.yaml".to_owned(),
            });
        }
        let is_free = match std::fs::read_dir(&new.path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => return Err(taken()),
            Err(error) => return Err(FileError::on("look into", &new.path)(error).into()),
        };
        if !is_free {
            let linked = self.linked(&new.path).map_err(|_| taken())?;
            let checkout = self.unfinished(&linked, new)?.ok_or_else(taken)?;
            self.force_remove(linked.path())?;
            drop(checkout);
            self.delete_branch_at_base(new)?;
        } else if let Some(stale) = self.worktrees()?.into_iter().find(|worktree| worktree.path == real(&new.path)) {
            return Err(GitError::Refused {
                what: format!("a worktree at `{}`", new.path.display()),
                why: "its folder was deleted, but it is still registered".to_owned(),
                hint: format!("look for commits only it knows, then run: git worktree remove {}", stale.path.display()),
            });
        }
        Ok(())
    }

    /// Deletes the branch that a half-made worktree got, when it is new and still where it started.
    fn delete_branch_at_base(&self, new: &NewWorktree) -> Result<(), GitError> {
        if !new.use_existing_branch && self.branch_head(&new.branch)?.as_ref() == Some(&new.base) {
            let reference = format!("refs/heads/{}", new.branch);
            self.git(self.home(), ["update-ref", "-d", reference.as_str(), new.base.as_str()]).output()?;
        }
        Ok(())
    }

    /// Makes sure that the branch can be checked out here.
    fn check_branch_free(&self, new: &NewWorktree, must_exist: bool) -> Result<(), GitError> {
        if let Some(worktree) = self.worktree_of_branch(&new.branch)? {
            return Err(GitError::BranchInUse { branch: new.branch.clone(), worktree });
        }
        match self.branch_head(&new.branch)? {
            Some(_) if !must_exist => Err(GitError::BranchExists { branch: new.branch.clone() }),
            None if must_exist => Err(GitError::NoBranch { branch: new.branch.clone() }),
            _ => Ok(()),
        }
    }

    /// Writes the files, by the fast way where it gives the same result, and runs the person's hook.
    fn fill(&self, linked: &Linked, head: &CommitId, prepared: Option<Prepared>) -> Result<AddedWorktree, GitError> {
        let path = linked.path().to_owned();
        if let Some(prepared) = prepared {
            prepared.carry_out(linked)?;
            return Ok(AddedWorktree { path, fast: true, hook_problem: None });
        }
        // As `git reset --hard`, which git itself runs here, without its lock on the packed references.
        self.git(&path, ["read-tree", "--reset", "-u", "--no-recurse-submodules", "HEAD"]).own_locale().output()?;
        let no_commit = "0".repeat(head.as_str().len());
        let arguments =
            ["hook", "run", "--ignore-missing", "post-checkout", "--", no_commit.as_str(), head.as_str(), "1"];
        let hook = self.git(&path, arguments).own_locale().timeout(HOOK_LIMIT).tail(4096).run()?;
        let hook_problem = (hook.code() != 0).then(|| last_words(&hook));
        Ok(AddedWorktree { path, fast: false, hook_problem })
    }
}

/// Takes the lock that says that somebody writes the files of a new worktree.
fn checkout_lock(linked: &Linked) -> Result<Option<FileLock>, GitError> {
    Ok(FileLock::try_take(&linked.git_dir().join("swarm-checkout.lock"))?)
}

/// The path with the links of its existing part resolved, as git registers it.
fn real(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_owned(),
    }
}

/// A refusal to take a worktree back.
fn refused_undo(why: &str) -> GitError {
    GitError::Refused {
        what: "taking back the worktree".to_owned(),
        why: why.to_owned(),
        hint: "look at it; `swarm rm` keeps its work and removes it".to_owned(),
    }
}
