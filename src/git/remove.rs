//! Removing worktrees and branches: only what is proven ours, unchanged since it was kept, and by recorded ids.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::keep::{KeptWork, is_gone};
use super::pristine::By;
use super::snapshot::Extent;
use super::trash::Trash;
use super::worktree::{Head, Linked, Worktree, is_locked};
use super::{GitError, Repository, crash_point};
use crate::files::{Access, FileError, FileLock, read_if_exists, remove_if_exists, write_atomically};
use crate::model::BranchName;

/// Marks the registration of a worktree whose removal has begun; it holds the commit in which its work is kept.
const REMOVAL: &str = "swarm-removal";

impl Repository {
    /// Removes a linked worktree of this repository whose work is in `kept`; ignored files go with it. One whose
    /// folder is gone, or empty and was kept as that, may have been moved by hand, and the moved one needs its
    /// registration: that is set aside, so that path and branch are free. No error when both are gone.
    ///
    /// # Errors
    /// [`GitError::NotOurWorktree`] for anything that is not a linked worktree of this repository, the main one
    /// included; [`GitError::Refused`] when `kept` is for another worktree, when something changed since, or when
    /// a person locked it.
    pub(crate) fn remove_worktree(&self, path: &Path, kept: &KeptWork) -> Result<(), GitError> {
        self.remove_worktree_into(&Trash::new(self), path, kept)
    }

    /// The same; the files are deleted with the trash.
    pub(crate) fn remove_worktree_into(&self, trash: &Trash, path: &Path, kept: &KeptWork) -> Result<(), GitError> {
        let refuse = |why: &str, hint: &str| GitError::Refused {
            what: format!("removing `{}`", path.display()),
            why: why.to_owned(),
            hint: hint.to_owned(),
        };
        if self.main_worktree().is_some_and(|main| path.canonicalize().is_ok_and(|path| path == main)) {
            let why = "it is the main worktree".to_owned();
            return Err(GitError::NotOurWorktree { path: path.to_owned(), why });
        }
        let locked = || refuse("it is locked", &format!("unlock it: git worktree unlock {}", path.display()));
        if path.symlink_metadata().is_err() || (kept.is_worktree_missing() && is_gone(path)) {
            let registered = self.worktrees()?.into_iter().find(|worktree| is_same(&worktree.path, path));
            // The folder of a locked one may be where a disk is mounted.
            if registered.as_ref().is_some_and(|gone| gone.locked) {
                return Err(locked());
            }
            remove_empty(path)?;
            let Some(gone) = registered else {
                return Ok(());
            };
            let lock = self.lock_worktrees()?;
            // One whose removal was cut off is not somewhere else. In a mark of an earlier version there is nothing.
            match read_if_exists(&gone.git_dir.join(REMOVAL))? {
                Some(mark) if mark.is_empty() || mark == kept.commit.as_str().as_bytes() => {
                    self.forget_registration(&gone.git_dir)?;
                }
                _ => self.set_aside(&gone)?,
            }
            drop(lock);
            return Ok(());
        }
        let linked = self.linked(path)?;
        if is_locked(linked.git_dir()) {
            return Err(locked());
        }
        let snapshot_lock = self.check_kept(&linked, kept, "removing")?;
        let lock = self.lock_worktrees()?;
        self.linked(path)?;
        self.remove_linked(&linked, kept, trash)?;
        drop(lock);
        drop(snapshot_lock);
        Ok(())
    }

    /// Has git forget a worktree that is registered and whose folder is gone. Whether there was one; one that is there, or
    /// that a person locked, stays.
    pub(crate) fn forget_missing_worktree(&self, path: &Path) -> Result<bool, GitError> {
        let _registration = self.lock_worktrees()?;
        let registered = self.worktrees()?.into_iter().any(|worktree| worktree.path == path && !worktree.locked);
        if !registered || path.symlink_metadata().is_ok() {
            return Ok(false);
        }
        self.force_remove(path)?;
        Ok(true)
    }

    /// Checks that a worktree is as it was kept; nothing of ours changes it while the answer lives.
    ///
    /// # Errors
    /// [`GitError::Refused`] when `kept` is for another worktree or something changed since; `doing` says what is
    /// refused.
    pub(super) fn check_kept(&self, linked: &Linked, kept: &KeptWork, doing: &str) -> Result<FileLock, GitError> {
        let refuse = |why: &str| GitError::Refused {
            what: format!("{doing} `{}`", linked.path().display()),
            why: why.to_owned(),
            hint: "keep its work again, then repeat it".to_owned(),
        };
        let covered = kept.worktree.as_ref().filter(|covered| covered.path == linked.path());
        let covered = covered.ok_or_else(|| refuse("its files were not among what was kept"))?;
        let snapshot_lock = self.lock_snapshot(kept.worker())?;
        if let Some((state, tree)) = self.pristine(linked, By::Content)?
            && (&state.head, &tree) == (&covered.head, &covered.tree)
            && covered.unsaved.is_empty()
        {
            return Ok(snapshot_lock);
        }
        // Looked at through the index that keeping left, by whose dates every later change is seen.
        let extent = Extent { made_paths: &[], most_bytes: u64::MAX, anew: false };
        let now = self.take(linked, kept.worker(), extent, Some(covered.tree.clone()))?;
        if now.tree != covered.tree || now.state.head != covered.head || now.unsaved != covered.unsaved {
            return Err(refuse("something changed in it since its work was kept"));
        }
        Ok(snapshot_lock)
    }

    /// Removes a worktree as `git worktree remove --force` does, without a process. It leaves its place as a whole, by
    /// one rename, so nobody ever finds half of it there and takes that for what it held.
    fn remove_linked(&self, linked: &Linked, kept: &KeptWork, trash: &Trash) -> Result<(), GitError> {
        let (mark, place) = (linked.git_dir().join(REMOVAL), trash.place_for(linked)?);
        write_atomically(&mark, kept.commit.as_str().as_bytes(), Access::Private)?;
        crash_point!("removal begun");
        if let Err(error) = move_away(linked.path(), &place) {
            remove_if_exists(&mark)?;
            return Err(FileError::on("remove", linked.path())(error).into());
        }
        crash_point!("moved away");
        trash.delete(place);
        self.forget_registration(linked.git_dir())
    }

    /// Removes a worktree's own git folder at once; the caller holds the lock, so what lies at its last place is a dead
    /// process's.
    fn forget_registration(&self, git_dir: &Path) -> Result<(), GitError> {
        let last_place = self.state_dir().join("gone");
        fs::remove_dir_all(&last_place).ok();
        fs::create_dir_all(&last_place).map_err(FileError::on("make the folder", &last_place))?;
        let moved = last_place.join(git_dir.file_name().unwrap_or_default());
        fs::rename(git_dir, moved).map_err(FileError::on("remove", git_dir))?;
        fs::remove_dir_all(&last_place).ok();
        // Git takes the folder of all registrations away with the last one; it is not empty otherwise.
        fs::remove_dir(self.common_dir().join("worktrees")).ok();
        Ok(())
    }

    /// Takes path and branch from the registration of a worktree whose folder is not where it was. A folder that was
    /// moved stays a working repository that way, and `git worktree repair` there makes it known again; git itself
    /// forgets the registration of one that is not found for long (gc.worktreePruneExpire).
    fn set_aside(&self, gone: &Worktree) -> Result<(), GitError> {
        let admin = |path: &str| gone.git_dir.join(path);
        if gone.head != Head::Unknown {
            let head = self.git(self.home(), ["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]);
            let head = head.env("GIT_DIR", &gone.git_dir).reading().run()?;
            // A branch without commits holds nothing back.
            if head.code() == 0 {
                let text = format!("{}\n", head.text().trim());
                write_atomically(&admin("HEAD"), text.as_bytes(), Access::Shared)?;
            }
        }
        let mut path = gone.path.clone().into_os_string();
        path.push(".missing/.git\n");
        Ok(write_atomically(&admin("gitdir"), path.as_bytes(), Access::Shared)?)
    }

    /// Deletes a branch that is still where `kept` has it. No error when it is gone already.
    ///
    /// # Errors
    /// [`GitError::Refused`] when it is another branch or has moved; [`GitError::BranchInUse`] when a worktree
    /// has it checked out.
    pub(crate) fn delete_branch(&self, branch: &BranchName, kept: &KeptWork) -> Result<(), GitError> {
        let lock = self.lock_worktrees()?;
        let Some(head) = self.branch_head(branch)? else {
            // One that was killed as it deleted the branch may have left its lock.
            return self.drop_dead_branch_lock(branch);
        };
        if branch != kept.branch() || kept.branch_head() != Some(&head) {
            return Err(GitError::Refused {
                what: format!("deleting the branch `{branch}`"),
                why: "it has moved since its work was kept".to_owned(),
                hint: "keep its work again, then delete it".to_owned(),
            });
        }
        if let Some(worktree) = self.worktree_of_branch(branch)? {
            return Err(GitError::BranchInUse { branch: branch.clone(), worktree });
        }
        self.delete_ref(&format!("refs/heads/{branch}"), &head)?;
        drop(lock);
        Ok(())
    }

    /// Deletes the snapshots, those after tool calls too, of the worker whose work is in `kept`.
    pub(crate) fn delete_snapshots(&self, kept: &KeptWork) -> Result<(), GitError> {
        let lock = self.lock_snapshot(kept.worker())?;
        self.delete_states(kept.worker())?;
        let name = Self::wip_ref(kept.worker());
        if let Some(commit) = self.ref_commit(&name)? {
            self.delete_ref(&name, &commit)?;
        }
        drop(lock);
        Ok(())
    }

    /// Removes a worktree that the caller proved to be ours and to hold nothing that would be lost; the caller
    /// holds the lock.
    pub(super) fn force_remove(&self, path: &Path) -> Result<(), GitError> {
        let remove = || self.git(self.common_dir(), ["worktree", "remove", "--force"]).args([path]).output();
        match remove() {
            Ok(_) => Ok(()),
            // Tools leave folders that forbid writing (the module cache of Go does); deleting needs it.
            Err(GitError::Failed { .. }) if path.is_dir() => {
                make_folders_writable(path);
                // The first call may have come past the registration's own file.
                if self.linked(path).is_ok() { remove().map(drop) } else { self.finish_removal(path) }
            }
            Err(error) => Err(error),
        }
    }

    /// Deletes the rest of a worktree whose removal stopped half-way, and its registration.
    fn finish_removal(&self, path: &Path) -> Result<(), GitError> {
        fs::remove_dir_all(path).map_err(FileError::on("remove", path))?;
        let registered = self.worktrees()?.into_iter().any(|worktree| is_same(&worktree.path, path));
        if registered {
            self.git(self.common_dir(), ["worktree", "remove", "--force"]).args([path]).output()?;
        }
        Ok(())
    }
}

/// Removes a folder, where it is there, that is empty.
fn remove_empty(path: &Path) -> Result<(), GitError> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(FileError::on("remove", path)(error).into()),
        _ => Ok(()),
    }
}

/// Renames a folder.
fn move_away(path: &Path, place: &Path) -> std::io::Result<()> {
    fs::rename(path, place).or_else(|_| {
        // A folder that forbids writing does not go into another one.
        make_folders_writable(path);
        fs::rename(path, place)
    })
}

/// Whether two paths name the same place, which need not exist.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| -> PathBuf { path.canonicalize().unwrap_or_else(|_| path.to_owned()) };
    one == other || real(one) == real(other)
}

/// Gives the owner every right on the folders below `path`; links are not followed.
pub(super) fn make_folders_writable(path: &Path) {
    let is_folder = |path: &Path| path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    if !is_folder(path) {
        return;
    }
    // What cannot be changed will be named by the removal that follows.
    if let Ok(meta) = path.symlink_metadata() {
        let mode = meta.permissions().mode() | 0o700;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).ok();
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        make_folders_writable(&entry.path());
    }
}
