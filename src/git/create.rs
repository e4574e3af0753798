//! A new repository, for the demo and for nodes.

use std::ffi::OsString;
use std::path::Path;

use super::program::Call;
use super::{GitError, Repository};

impl Repository {
    /// Makes a repository in `folder` on `branch`, with an identity of its own, and commits everything that lies there.
    /// The person's hooks, signing and style of conflicts take no part.
    pub(crate) fn create(folder: &Path, branch: &str, identity: (&str, &str), message: &str) -> Result<Self, GitError> {
        let run = |args: &[&str]| Call::new(folder, args.iter().map(OsString::from), &[]).output().map(drop);
        run(&["init", "--quiet", "--template=", "-b", branch])?;
        run(&["config", "user.name", identity.0])?;
        run(&["config", "user.email", identity.1])?;
        run(&["config", "commit.gpgSign", "false"])?;
        run(&["config", "core.hooksPath", "/dev/null"])?;
        run(&["config", "merge.conflictStyle", "merge"])?;
        run(&["add", "--all"])?;
        run(&["commit", "--quiet", "-m", message])?;
        Self::discover(folder)
    }

    /// Clones a repository into a folder that is not there yet, as the person's own git does it.
    pub(crate) fn clone_from(url: &str, folder: &Path, here: &Path) -> Result<(), GitError> {
        let args = ["clone", "--quiet", "--", url].map(OsString::from).into_iter().chain([folder.into()]);
        Call::new(here, args, &[]).own_locale().output().map(drop)
    }

    /// The history of a branch as a graph, one line a commit, for a person.
    pub(crate) fn graph(&self, branch: &str, color: bool) -> Result<String, GitError> {
        let color = if color { "--color=always" } else { "--color=never" };
        self.git(self.home(), ["log", "--graph", "--oneline", color, branch, "--"]).reading().text()
    }
}
