//! A repository in a temp folder for tests, shut off from the configuration of whoever runs them.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::Repository;
use crate::model::{BranchName, CommitId};
use crate::process::{Invocation, run};

/// A repository with one commit on `main`; the folder goes when it is dropped.
pub(crate) struct Fixture {
    /// Keeps the folder.
    _folder: tempfile::TempDir,
    /// The main worktree, or the bare repository.
    pub(crate) root: PathBuf,
    /// A folder for further worktrees.
    pub(crate) worktrees: PathBuf,
    /// Set for every git call.
    env: Vec<(OsString, OsString)>,
}

impl Fixture {
    /// A repository with `a` to `e`, each with twenty numbered lines.
    pub(crate) fn new() -> Self {
        let fixture = Self::empty(&["init", "-q", "-b", "main"]);
        for name in ["a", "b", "c", "d", "e"] {
            let lines: String = (1..=20).map(|line| format!("{name} {line}\n")).collect();
            fixture.write(name, &lines);
        }
        fixture.commit("base");
        fixture
    }

    /// A bare clone of [`Fixture::new`].
    pub(crate) fn bare() -> Self {
        let source = Self::new();
        let fixture = Self::empty(&["init", "-q", "--bare", "-b", "main"]);
        fixture.git(&fixture.root, &["fetch", "-q", source.root.to_str().unwrap(), "main:main"]);
        fixture
    }

    /// A fresh repository.
    fn empty(init: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        let (root, worktrees) = (base.join("re po"), base.join("worktrees"));
        fs::create_dir_all(&root).unwrap();
        fs::create_dir_all(base.join("home")).unwrap();
        let home = base.join("home");
        let pairs = [("HOME", home.as_os_str()), ("XDG_CONFIG_HOME", home.as_os_str())];
        let mut env: Vec<_> = pairs.map(|(name, value)| (name.into(), value.to_owned())).into();
        env.extend([
            ("GIT_CONFIG_NOSYSTEM".into(), "1".into()),
            ("GIT_AUTHOR_DATE".into(), "1700000000 +0000".into()),
            ("GIT_COMMITTER_DATE".into(), "1700000000 +0000".into()),
        ]);
        let fixture = Self { _folder: folder, root, worktrees, env };
        fixture.git(&fixture.root, init);
        fixture.git(&fixture.root, &["config", "user.name", "Person"]);
        fixture.git(&fixture.root, &["config", "user.email", "person@example.org"]);
        fixture
    }

    /// The repository as the product opens it.
    pub(crate) fn open(&self) -> Repository {
        let env = self.env.iter().filter(|(name, _)| !name.to_str().unwrap().ends_with("DATE")).cloned();
        Repository::discover_with(&self.root, env.collect()).unwrap()
    }

    /// Runs git in a folder and gives its output.
    pub(crate) fn git(&self, cwd: &Path, args: &[&str]) -> String {
        let mut call = Invocation::new("git", cwd).args(args.iter().copied());
        call.set.clone_from(&self.env);
        let done = run(&call).unwrap();
        assert_eq!(done.code(), 0, "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
        done.text().trim_end().to_owned()
    }

    /// Whether a call of git ends well.
    pub(crate) fn succeeds(&self, cwd: &Path, args: &[&str]) -> bool {
        let mut call = Invocation::new("git", cwd).args(args.iter().copied());
        call.set.clone_from(&self.env);
        run(&call).unwrap().code() == 0
    }

    /// Runs git where it is expected to fail.
    pub(crate) fn git_fails(&self, cwd: &Path, args: &[&str]) {
        assert!(!self.succeeds(cwd, args), "git {args:?}");
    }

    /// Writes a file of the main worktree.
    pub(crate) fn write(&self, path: &str, text: &str) {
        put(&self.root.join(path), text);
    }

    /// Commits everything in the main worktree.
    pub(crate) fn commit(&self, message: &str) -> CommitId {
        self.commit_in(&self.root, message)
    }

    /// Commits everything in a worktree.
    pub(crate) fn commit_in(&self, cwd: &Path, message: &str) -> CommitId {
        self.git(cwd, &["add", "-A"]);
        self.git(cwd, &["commit", "-q", "--allow-empty", "-m", message]);
        self.git(cwd, &["rev-parse", "HEAD"]).parse().unwrap()
    }

    /// A worktree of a new branch from `main`.
    pub(crate) fn worktree(&self, branch: &str) -> PathBuf {
        let path = self.worktrees.join(branch.replace('/', "-"));
        self.git(&self.root, &["worktree", "add", "-q", "-b", branch, path.to_str().unwrap(), "main"]);
        path
    }

    /// A commit with some files on a new branch from `main`, made in a worktree of its own that stays.
    pub(crate) fn branch(&self, branch: &str, files: &[(&str, &str)]) -> CommitId {
        let path = self.worktree(branch);
        for (name, text) in files {
            put(&path.join(name), text);
        }
        self.commit_in(&path, &format!("work of {branch}"))
    }

    /// Where a branch or any other revision points.
    pub(crate) fn head(&self, revision: &str) -> CommitId {
        self.git(&self.root, &["rev-parse", revision]).parse().unwrap()
    }
}

/// Writes a file with its folders.
pub(crate) fn put(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    crate::files::write_atomically(path, text.as_bytes(), crate::files::Access::Shared).unwrap();
}

/// The text of file `name` with one line replaced.
pub(crate) fn with_line(name: &str, line: usize, text: &str) -> String {
    (1..=20).map(|n| if n == line { format!("{text}\n") } else { format!("{name} {n}\n") }).collect()
}

/// A branch name.
pub(crate) fn branch(name: &str) -> BranchName {
    name.parse().unwrap()
}
