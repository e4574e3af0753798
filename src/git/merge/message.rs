//! The person's hooks for commit messages, run on the messages of commits that landing makes.
//!
//! `git merge` runs `prepare-commit-msg` and `commit-msg`, so landing does; hooks that look at an index
//! (`pre-commit`, `pre-merge-commit`) have none here, and what they check belongs into gates.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::files::FileError;
use crate::git::{GitError, Repository};
use crate::process::ProcessError;

/// Bytes of a refusing hook's output that are told.
const TAIL: usize = 2 * 1024;

/// A message that a hook refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefusedMessage {
    /// The hook.
    pub(crate) hook: &'static str,
    /// The end of what it said; empty when it took too long and said nothing.
    pub(crate) output: String,
}

impl Repository {
    /// The message that the hooks make of `message`; `source` is what they are told it is for (githooks(5)), such as
    /// `merge`.
    pub(crate) fn hooked_message(
        &self,
        message: &str,
        source: &str,
        timeout: Duration,
    ) -> Result<Result<String, RefusedMessage>, GitError> {
        let hooks = [("prepare-commit-msg", Some(source)), ("commit-msg", None)];
        let hooks: Vec<_> = hooks.into_iter().filter(|(hook, _)| self.has_hook(hook)).collect();
        if hooks.is_empty() {
            return Ok(Ok(message.to_owned()));
        }
        let mut file =
            tempfile::NamedTempFile::new().map_err(FileError::on("make a file in", &std::env::temp_dir()))?;
        let path = file.path().to_owned();
        file.write_all(message.as_bytes()).map_err(FileError::on("write", &path))?;
        let folder = self.main_worktree().filter(|folder| folder.is_dir()).unwrap_or_else(|| self.home());
        for (hook, source) in hooks {
            let call = self.git(folder, ["hook", "run", "--ignore-missing", hook, "--"]).args([&path]);
            let done = call.args(source).own_locale().timeout(timeout).tail(TAIL).run();
            let output = match done {
                Ok(done) if done.code() == 0 => continue,
                Ok(done) => done.text(),
                Err(GitError::Process(ProcessError::TimedOut { output, .. })) => output,
                Err(error) => return Err(error),
            };
            return Ok(Err(RefusedMessage { hook, output: output.trim().to_owned() }));
        }
        let text = fs::read_to_string(&path).map_err(FileError::on("read", &path))?;
        Ok(Ok(text))
    }

    /// Whether there may be a hook of that name; what git makes of it is its own affair.
    pub(in crate::git) fn has_hook(&self, name: &str) -> bool {
        let Some(repository) = self.libgit() else { return true };
        let configured = repository.config().and_then(|config| config.get_path("core.hooksPath")).ok();
        let folder = match configured {
            Some(folder) => self.anchor().join(folder),
            None => self.common_dir().join("hooks"),
        };
        is_executable(&folder.join(name))
    }
}

/// Whether a file can be run.
fn is_executable(path: &PathBuf) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
