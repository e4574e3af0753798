//! A repository for a test.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::files::{Access, write_atomically};
use crate::git::snapshot::Snapshot;
use crate::git::{GitError, NewWorktree, Repository};
use crate::model::{BranchName, CommitId, WorkerId};
use crate::process::{Finished, Invocation, run};

/// A repository in a temporary folder with one commit.
pub(super) struct TestRepo {
    /// Everything is below it.
    pub(super) folder: TempDir,
    /// The main worktree, or the bare repository.
    pub(super) root: PathBuf,
    /// What is tested.
    pub(super) repo: Repository,
}

/// Variables that shut the person's configuration out.
pub(super) fn isolated(home: &Path) -> Vec<(OsString, OsString)> {
    let home = home.as_os_str().to_owned();
    let fixed = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
    vec![
        ("HOME".into(), home.clone()),
        ("XDG_CONFIG_HOME".into(), home),
        fixed("GIT_CONFIG_GLOBAL", "/dev/null"),
        fixed("GIT_CONFIG_NOSYSTEM", "1"),
    ]
}

/// Runs git by hand.
pub(super) fn git_raw(folder: &Path, home: &Path, args: &[&str]) -> Finished {
    let mut call = Invocation::new("git", folder).args(args.iter().map(OsString::from));
    call.set = isolated(home);
    for (name, value) in [("USER", "Ann"), ("LC_ALL", "C"), ("GIT_EDITOR", "true")] {
        call.set.push((name.into(), value.into()));
    }
    run(&call).unwrap()
}

/// Runs git by hand, demands success and gives its output without the last newline.
pub(super) fn git_in(folder: &Path, args: &[&str]) -> String {
    let home = std::env::temp_dir();
    let done = git_raw(folder, &home, args);
    assert_eq!(done.code(), 0, "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    done.text().trim_end_matches('\n').to_owned()
}

/// Sets up identity and one commit in an empty worktree.
pub(super) fn first_commit(root: &Path) {
    git_in(root, &["config", "user.name", "Ann"]);
    git_in(root, &["config", "user.email", "ann@example.org"]);
    write(&root.join("README.md"), "hello\n");
    write(&root.join("src/main.rs"), "fn main() {}\n");
    write(&root.join(".gitignore"), "*.log\n/target/\n.env\n");
    git_in(root, &["add", "-A"]);
    git_in(root, &["commit", "-qm", "start"]);
}

/// Writes a file with its folders.
pub(super) fn write(path: &Path, text: &str) {
    write_atomically(path, text.as_bytes(), Access::Shared).unwrap();
}

/// Writes an executable script.
pub(super) fn script(path: &Path, text: &str) {
    write(path, &format!("#!/bin/sh\n{text}\n"));
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

pub(super) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

pub(super) fn branch(name: &str) -> BranchName {
    name.parse().unwrap()
}

pub(super) fn worker(name: &str) -> WorkerId {
    name.parse().unwrap()
}

impl TestRepo {
    /// A repository in a folder whose name has a space and letters outside ASCII.
    pub(super) fn new() -> Self {
        Self::with_init(&[])
    }

    /// The same with more arguments for `git init`.
    pub(super) fn with_init(args: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("swärm test ").tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap().join("repö x");
        fs::create_dir(&root).unwrap();
        git_in(&root, &[&["init", "-q", "-b", "main"], args].concat());
        first_commit(&root);
        let repo = Repository::discover_with(&root, isolated(folder.path())).unwrap();
        Self { folder, root, repo }
    }

    /// Runs git in the main worktree.
    pub(super) fn git(&self, args: &[&str]) -> String {
        git_in(&self.root, args)
    }

    pub(super) fn head(&self) -> CommitId {
        self.repo.resolve("HEAD").unwrap().unwrap()
    }

    /// Where the worktree of a worker goes.
    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("wörk trees").join(name)
    }

    pub(super) fn plan(&self, name: &str) -> NewWorktree {
        NewWorktree {
            path: self.place(name),
            branch: branch(&format!("swarm/{name}")),
            base: self.head(),
            use_existing_branch: false,
        }
    }

    /// Makes a worker's worktree.
    pub(super) fn add(&self, name: &str) -> PathBuf {
        self.repo.add_worktree(&self.plan(name)).unwrap().path
    }

    /// Makes a worker's worktree in which a merge of `main` stopped at a conflict in `README.md`: `ours` and `theirs`.
    pub(super) fn add_with_half_a_merge(&self, name: &str) -> PathBuf {
        let place = self.add(name);
        write(&place.join("README.md"), "ours\n");
        git_in(&place, &["commit", "-qam", "ours"]);
        write(&self.root.join("README.md"), "theirs\n");
        self.git(&["commit", "-qam", "theirs"]);
        assert_ne!(git_raw(&place, self.folder.path(), &["merge", "-q", "main"]).code(), 0);
        place
    }

    pub(super) fn snapshot(&self, name: &str) -> Snapshot {
        self.repo.snapshot(&self.place(name), &worker(name), &[], false).unwrap()
    }

    pub(super) fn keep(&self, name: &str) -> Result<crate::git::keep::KeptWork, GitError> {
        let place = self.place(name);
        self.repo.keep(&worker(name), Some(&place), &branch(&format!("swarm/{name}")), "test")
    }

    /// Content of a file in a revision.
    pub(super) fn show(&self, revision: &str, path: &str) -> Option<String> {
        self.repo.file_at(revision, Path::new(path)).unwrap().map(|bytes| String::from_utf8(bytes).unwrap())
    }
}
