//! One worktree that follows the branch: taken, checked, and brought to the new commit.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use git2::{Delta, DiffOptions, FileMode};
use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::Busy;
use super::holder::Holder;
use super::journal::Journal;
use crate::files::FileError;
use crate::git::pristine::Known;
use crate::git::program::{failed, path_of, split_nul};
use crate::git::repository::find_tree;
use crate::git::worktree::{Head, checked_out};
use crate::git::{Call, GitError, Repository, crash_point};
use crate::model::{BranchName, CommitId};

/// How long another git process may hold the index before the worktree counts as busy.
const INDEX_WAIT: Duration = Duration::from_secs(2);

/// A worktree whose index we hold. Dropped, it lets go of it unchanged.
#[derive(Debug)]
pub(super) struct Checkout<'a> {
    /// The repository.
    repository: &'a Repository,
    /// What was written down about the move.
    journal: Journal,
    /// Whether to leave journal and lock behind, because the branch may have moved.
    is_kept: bool,
}

/// What taking a worktree gave.
#[derive(Debug)]
pub(super) enum Checked<'a> {
    /// It can follow, and stays so while this value lives.
    Ready(Checkout<'a>),
    /// It cannot.
    Busy(Busy),
}

/// A file that differs between two commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Touched {
    /// Its path in the worktree.
    pub(super) path: PathBuf,
    /// Its mode afterwards; zeros when it is gone.
    pub(super) mode: String,
    /// Its object afterwards; zeros when it is gone.
    pub(super) object: String,
    /// Whether it is not there before.
    pub(super) is_added: bool,
    /// Whether it is not there afterwards.
    pub(super) is_deleted: bool,
}

impl<'a> Checkout<'a> {
    /// Takes the worktree's index and checks that it can follow.
    pub(super) fn take(
        repository: &'a Repository,
        holder: Holder,
        branch: &BranchName,
        from: &CommitId,
        to: &CommitId,
    ) -> Result<Checked<'a>, GitError> {
        let Holder { worktree, git_dir, .. } = holder;
        let token = Journal::new_token();
        let (branch, from, to) = (branch.clone(), from.clone(), to.clone());
        let journal = Journal { token, worktree, git_dir, branch, from, to };
        journal.write(repository)?;
        crash_point!("journal written");
        let checkout = Self { repository, journal, is_kept: false };
        match checkout.lock_index() {
            Ok(true) => {}
            Ok(false) => {
                return Ok(checkout.busy(Vec::new(), "another git process holds its index (`index.lock`)"));
            }
            Err(GitError::Files(error)) if is_refusal(&error.source) => {
                return Ok(checkout.busy(Vec::new(), "its index cannot be written"));
            }
            Err(error) => return Err(error),
        }
        crash_point!("index locked");
        checkout.check()
    }

    /// Says why it cannot follow, and lets go.
    fn busy(self, files: Vec<PathBuf>, why: &str) -> Checked<'a> {
        Checked::Busy(Busy { worktree: self.journal.worktree.clone(), files, why: why.to_owned() })
    }

    /// Takes the index; false when somebody holds it all the time.
    fn lock_index(&self) -> Result<bool, GitError> {
        let deadline = Instant::now() + INDEX_WAIT;
        loop {
            if self.journal.lock()? {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Checks that the worktree is still on the branch and that nothing of its owner is in the way.
    fn check(self) -> Result<Checked<'a>, GitError> {
        if !self.is_on_branch()? {
            return Ok(self.busy(Vec::new(), "it is being switched to another branch"));
        }
        self.journal.copy_index()?;
        let touched = self.touched()?;
        let unchanged = self.unchanged(&touched)?;
        if unchanged.is_none() {
            self.refresh()?;
            let (changed, staged) = (self.changed()?, self.staged()?);
            let of = |paths: &BTreeSet<PathBuf>| -> Vec<PathBuf> {
                touched.iter().filter(|file| paths.contains(&file.path)).map(|file| file.path.clone()).collect()
            };
            let mut files = of(&changed);
            if !files.is_empty() {
                return Ok(self.busy(files, "files that would change have uncommitted modifications"));
            }
            files = of(&staged);
            if !files.is_empty() {
                return Ok(self.busy(files, "files that would change have staged modifications"));
            }
        }
        let mut files = self.in_the_way(&touched)?;
        if !files.is_empty() {
            return Ok(self.busy(files, "untracked or ignored files are in the way"));
        }
        let may_hide = unchanged.is_none_or(|known| has_doubles(&known, &touched));
        files = if may_hide { self.hidden_by_case(&touched)? } else { Vec::new() };
        if !files.is_empty() {
            return Ok(self.busy(files, "names differ only in case, and git is told to ignore case there"));
        }
        files = self.unwritable(&touched)?;
        if !files.is_empty() {
            return Ok(self.busy(files, "files that would change cannot be written"));
        }
        let (from, to) = (self.journal.from.as_str(), self.journal.to.as_str());
        let call = self.call(["read-tree", "-m", "-u", "-n", from, to]);
        let name = call.name();
        let rehearsal = call.run()?;
        match rehearsal.code() {
            0 => Ok(Checked::Ready(self)),
            _ => Ok(self.busy(Vec::new(), &failed(name, &rehearsal).to_string())),
        }
    }

    /// A call in the worktree on the private index.
    pub(super) fn call<'s>(&self, args: impl IntoIterator<Item = &'s str>) -> Call {
        let call = self.repository.git(&self.journal.worktree, args);
        call.env("GIT_INDEX_FILE", self.journal.private_path())
    }

    /// Looks at the files again, so that touching without changing does not count.
    pub(super) fn refresh(&self) -> Result<(), GitError> {
        // Exit code 1 means that some files did change.
        self.call(["update-index", "-q", "--refresh"]).run().map(drop)
    }

    /// Whether the worktree has the branch checked out.
    fn is_on_branch(&self) -> Result<bool, GitError> {
        if self.repository.libgit().is_some() {
            return Ok(checked_out(&self.journal.git_dir)? == Head::Branch(self.journal.branch.clone()));
        }
        let head = self.call(["symbolic-ref", "--quiet", "HEAD"]).reading().run()?;
        Ok(head.text().trim_end() == format!("refs/heads/{}", self.journal.branch))
    }

    /// The private index, where without a process it is plain that it is the old commit's and that nobody changed the
    /// files that the move touches.
    fn unchanged(&self, touched: &[Touched]) -> Result<Option<Known>, GitError> {
        let Some(repo) = self.repository.libgit() else { return Ok(None) };
        let tree = self.repository.commit_facts(&self.journal.from)?.tree;
        let known = Known::read(&self.journal.private_path()).and_then(|(known, mut index)| {
            let is_old = index.write_tree_to(&repo).ok()?.to_string() == tree;
            is_old.then_some(known)
        });
        let is_there = |known: &Known, file: &Touched| {
            let path = self.journal.worktree.join(&file.path);
            path.symlink_metadata().is_ok_and(|meta| known.has(file.path.as_os_str().as_bytes(), &path, &meta))
        };
        Ok(known.filter(|known| touched.iter().all(|file| file.is_added || is_there(known, file))))
    }

    /// The files that the move touches.
    pub(super) fn touched(&self) -> Result<Vec<Touched>, GitError> {
        let (from, to) = (&self.journal.from, &self.journal.to);
        if let Some(touched) = self.repository.libgit().and_then(|repo| touched_by_libgit(&repo, from, to)) {
            return Ok(touched);
        }
        let (from, to) = (self.journal.from.as_str(), self.journal.to.as_str());
        let call = self.call(["diff-tree", "-r", "-z", "--raw", "--no-renames", "--full-index", from, to]);
        let output = call.reading().output()?.stdout;
        let fields: Vec<_> = split_nul(&output).collect();
        let touched = fields.chunks_exact(2).filter_map(|pair| {
            let meta = std::str::from_utf8(pair[0]).ok()?;
            let meta: Vec<_> = meta.trim_start_matches(':').split(' ').collect();
            let [_, mode, _, object, status] = meta[..] else { return None };
            let (is_added, is_deleted) = (status == "A", status == "D");
            let (mode, object) = (mode.to_owned(), object.to_owned());
            Some(Touched { path: path_of(pair[1]), mode, object, is_added, is_deleted })
        });
        Ok(touched.collect())
    }

    /// Tracked files whose content on disk differs from the private index, missing ones included.
    pub(super) fn changed(&self) -> Result<BTreeSet<PathBuf>, GitError> {
        let output = self.call(["diff-files", "--name-only", "-z"]).reading().output()?.stdout;
        Ok(split_nul(&output).map(path_of).collect())
    }

    /// Files whose staged content is neither that of the old nor that of the new commit.
    fn staged(&self) -> Result<BTreeSet<PathBuf>, GitError> {
        let against = |commit: &CommitId| -> Result<BTreeSet<PathBuf>, GitError> {
            let call = self.call(["diff-index", "--cached", "--name-only", "-z", "--no-renames", commit.as_str()]);
            Ok(split_nul(&call.reading().output()?.stdout).map(path_of).collect())
        };
        let old = against(&self.journal.from)?;
        if old.is_empty() {
            return Ok(old);
        }
        let new = against(&self.journal.to)?;
        Ok(old.intersection(&new).cloned().collect())
    }

    /// Untracked files, ignored ones too, where the move puts new ones. Git itself would overwrite ignored ones.
    fn in_the_way(&self, touched: &[Touched]) -> Result<Vec<PathBuf>, GitError> {
        let gone: BTreeSet<_> = touched.iter().filter(|file| file.is_deleted).map(|file| file.path.as_path()).collect();
        let mut found = BTreeSet::new();
        for file in touched.iter().filter(|file| file.is_added) {
            let mut at = PathBuf::new();
            for part in file.path.components() {
                at.push(part);
                let Some(meta) = metadata(&self.journal.worktree.join(&at))? else { break };
                let is_last = at == file.path;
                if is_last && meta.is_dir() {
                    found.extend(self.untracked_below(&at)?);
                } else if (is_last && !self.is_tracked(&at)?)
                    || (!is_last && !meta.is_dir() && !gone.contains(at.as_path()))
                {
                    found.insert(at.clone());
                    break;
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    /// New files whose names another file has in other letters, where the person's git ignores case
    /// (`core.ignoreCase`, git-config(1)): such a file system has room for one of the two.
    fn hidden_by_case(&self, touched: &[Touched]) -> Result<Vec<PathBuf>, GitError> {
        let added: Vec<_> = touched.iter().filter(|file| file.is_added).collect();
        let setting = ["config", "--type=bool", "--default=false", "--get", "core.ignoreCase"];
        if added.is_empty() || self.call(setting).reading().text()? != "true" {
            return Ok(Vec::new());
        }
        let folded = |path: &Path| path.to_string_lossy().to_lowercase();
        let call = self.call(["ls-tree", "-r", "-z", "--name-only", "--full-tree", self.journal.to.as_str()]);
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        for path in split_nul(&call.reading().output()?.stdout) {
            *count.entry(folded(&path_of(path))).or_default() += 1;
        }
        let is_double = |file: &&&Touched| count.get(&folded(&file.path)).is_some_and(|count| *count > 1);
        Ok(added.iter().filter(is_double).map(|file| file.path.clone()).collect())
    }

    /// Files in folders that cannot be written to.
    fn unwritable(&self, touched: &[Touched]) -> Result<Vec<PathBuf>, GitError> {
        let mut known: BTreeMap<PathBuf, bool> = BTreeMap::new();
        let mut files = Vec::new();
        for file in touched {
            let mut folder = self.journal.worktree.join(&file.path);
            while folder.pop() && !metadata(&folder)?.is_some_and(|meta| meta.is_dir()) {}
            let check = || access(&folder, Access::WRITE_OK | Access::EXEC_OK);
            let is_refused = *known
                .entry(folder.clone())
                .or_insert_with(|| matches!(check(), Err(Errno::ACCESS | Errno::PERM | Errno::ROFS)));
            if is_refused {
                files.push(file.path.clone());
            }
        }
        Ok(files)
    }

    /// Whether the private index has the path.
    fn is_tracked(&self, path: &Path) -> Result<bool, GitError> {
        let call = self.call(["ls-files", "-z"]).env("GIT_LITERAL_PATHSPECS", "1");
        Ok(!call.args([OsStr::new("--"), path.as_os_str()]).reading().output()?.stdout.is_empty())
    }

    /// Untracked files below a folder.
    fn untracked_below(&self, folder: &Path) -> Result<Vec<PathBuf>, GitError> {
        let call = self.call(["ls-files", "--others", "-z"]).env("GIT_LITERAL_PATHSPECS", "1");
        let output = call.args([OsStr::new("--"), folder.as_os_str()]).reading().output()?.stdout;
        Ok(split_nul(&output).map(path_of).collect())
    }

    /// Leaves journal and lock behind when dropped: the branch may have moved.
    pub(super) fn keep(&mut self) {
        self.is_kept = true;
    }

    /// Takes [`Checkout::keep`] back: the branch has not moved.
    pub(super) fn let_go(&mut self) {
        self.is_kept = false;
    }

    /// The worktree.
    pub(super) fn worktree(&self) -> &Path {
        &self.journal.worktree
    }

    /// Brings files and index to the new commit and lets go.
    pub(super) fn apply(mut self) -> Result<PathBuf, GitError> {
        let (from, to) = (self.journal.from.as_str(), self.journal.to.as_str());
        self.call(["read-tree", "-m", "-u", from, to]).own_locale().output()?;
        crash_point!("files written");
        self.journal.install_index()?;
        crash_point!("index installed");
        self.is_kept = false;
        Ok(self.journal.worktree.clone())
    }

    /// Takes over what an ended process left, with its lock.
    pub(super) fn take_over(repository: &'a Repository, journal: Journal) -> Self {
        Self { repository, journal, is_kept: true }
    }

    /// What was written down.
    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }
}

impl Drop for Checkout<'_> {
    fn drop(&mut self) {
        #[cfg(test)]
        if crate::git::crash::is_dead() {
            return;
        }
        // What cannot be removed here, the next repair removes.
        if !self.is_kept {
            self.journal.clear(self.repository).ok();
        }
    }
}

/// The files that differ between two commits, without a process; `None` where git has to say it.
fn touched_by_libgit(repo: &git2::Repository, from: &CommitId, to: &CommitId) -> Option<Vec<Touched>> {
    let (from, to) = (find_tree(repo, from).ok()?, find_tree(repo, to).ok()?);
    let mut options = DiffOptions::new();
    options.ignore_submodules(false).include_typechange(true).skip_binary_check(true);
    let diff = repo.diff_tree_to_tree(Some(&from), Some(&to), Some(&mut options)).ok()?;
    let touched = diff.deltas().map(|delta| {
        let (is_added, is_deleted) = (delta.status() == Delta::Added, delta.status() == Delta::Deleted);
        let (old, new) = (delta.old_file(), delta.new_file());
        let is_plain = |mode| matches!(mode, FileMode::Blob | FileMode::BlobExecutable | FileMode::Link);
        let are_plain = (is_added || is_plain(old.mode())) && (is_deleted || is_plain(new.mode()));
        let file = if is_deleted { &old } else { &new };
        let path = file.path_bytes().filter(|_| are_plain).map(path_of)?;
        let mode = if is_deleted { 0 } else { i32::from(file.mode()) };
        let object = new.id().to_string();
        Some(Touched { path, mode: format!("{mode:06o}"), object, is_added, is_deleted })
    });
    touched.collect()
}

/// Whether a new file has the name of another one but for the case of its letters.
fn has_doubles(known: &Known, touched: &[Touched]) -> bool {
    let folded = |path: &[u8]| String::from_utf8_lossy(path).to_lowercase();
    let added: Vec<_> = touched.iter().filter(|file| file.is_added).collect();
    let new: BTreeSet<_> = added.iter().map(|file| folded(file.path.as_os_str().as_bytes())).collect();
    new.len() < added.len() || !new.is_empty() && known.paths().any(|path| new.contains(&folded(path)))
}

/// Whether the file system lets nobody, or not us, write.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// What is at a path itself, links not followed; `None` when nothing is.
pub(super) fn metadata(path: &Path) -> Result<Option<fs::Metadata>, GitError> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(FileError::on("look at", path)(error).into()),
    }
}
