//! Differences between commits, as git itself prints them for a person.

use std::path::{Path, PathBuf};

use super::{GitError, Repository};
use crate::model::CommitId;

/// What to print of a difference.
#[derive(Debug, Clone, Default)]
pub(crate) struct DiffOptions {
    /// Colours, in the person's own choice.
    pub(crate) color: bool,
    /// A table of files with their counts instead of the lines.
    pub(crate) stat: bool,
    /// Columns for that table; `None` is git's default.
    pub(crate) width: Option<usize>,
    /// Only these, as git pathspecs from the repository's root; empty is everything.
    pub(crate) paths: Vec<PathBuf>,
}

impl Repository {
    /// What `head` changed since it left `base` (`base...head`), as bytes for a terminal or a pipe.
    ///
    /// No program of the person's is started for it, because it may be shown without a terminal; text filters of
    /// attributes (`textconv`) apply.
    pub(crate) fn diff(&self, base: &CommitId, head: &CommitId, options: &DiffOptions) -> Result<Vec<u8>, GitError> {
        let color = if options.color { "--color=always" } else { "--color=never" };
        let range = format!("{base}...{head}");
        let mut call =
            self.git(self.attributes_folder(), ["diff", color, "--no-ext-diff", "--word-diff=none"]).reading();
        if options.stat {
            call = call.args([options.width.map_or_else(|| "--stat".to_owned(), |width| format!("--stat={width}"))]);
        }
        call = call.args([range.as_str(), "--"]).args(options.paths.iter().map(|path| path.as_os_str()));
        Ok(call.output()?.stdout)
    }

    /// The newest `limit` commits of `theirs` that touched any of `paths` since `ours` left it, one line each: short
    /// id, subject and author. None without paths.
    pub(crate) fn history_of(
        &self,
        ours: &CommitId,
        theirs: &CommitId,
        paths: &[&str],
        limit: usize,
    ) -> Result<Vec<String>, GitError> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let (range, count) = (format!("{ours}..{theirs}"), format!("--max-count={limit}"));
        let call = ["log", "--no-show-signature", "--format=%h %s (%an)", count.as_str(), range.as_str(), "--"];
        let call = self.git(self.home(), call).env("GIT_LITERAL_PATHSPECS", "1");
        let text = call.args(paths.iter().copied()).reading().text()?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// A folder in which git finds the attributes of a checkout: a worktree where there is one.
    pub(super) fn attributes_folder(&self) -> &Path {
        let worktree = self.current_worktree().or(self.main_worktree());
        worktree.filter(|worktree| worktree.is_dir()).unwrap_or_else(|| self.home())
    }
}
