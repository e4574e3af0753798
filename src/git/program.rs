//! The door to the git program: one place decides its environment, its locale and what it may ask.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use super::{GitError, Repository};
use crate::process::{self, Finished, Invocation};

/// Oldest git that works: `merge-tree --stdin` came with 2.39 (its release notes).
pub(crate) const NEEDED: &str = "2.39";

/// Variables that would point git at another repository, index or reading of paths than the one we name; git
/// exports most of them to hooks, and `swarm` may be called from one.
const LOCATION: [&str; 21] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INDEX_VERSION",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_QUARANTINE_PATH",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_GRAFT_FILE",
    "GIT_SHALLOW_FILE",
    "GIT_REPLACE_REF_BASE",
    "GIT_ATTR_SOURCE",
    "GIT_REFLOG_ACTION",
    "GIT_LITERAL_PATHSPECS",
    "GIT_GLOB_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
];

/// One call of the git program, being put together.
#[derive(Debug, Clone)]
#[must_use = "a call does nothing until it is run"]
pub(crate) struct Call {
    /// What will run; `args` holds only what comes after the common options.
    invocation: Invocation,
    /// `name=value` settings for this call.
    config: Vec<OsString>,
}

impl Call {
    /// A call in `cwd` with the environment every call has; `extra` is set last.
    pub(super) fn new(
        cwd: &Path,
        args: impl IntoIterator<Item = impl Into<OsString>>,
        extra: &[(OsString, OsString)],
    ) -> Self {
        let mut invocation = Invocation::new("git", cwd).args(args);
        invocation.unset = LOCATION.iter().map(OsString::from).collect();
        let fixed = [("LC_ALL", "C"), ("GIT_TERMINAL_PROMPT", "0"), ("GIT_PAGER", "cat"), ("GIT_MERGE_AUTOEDIT", "no")];
        invocation.set = fixed.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
        invocation.set.extend(extra.iter().cloned());
        let config = ["gc.auto=0", "maintenance.auto=false", "core.quotePath=off"].map(OsString::from).to_vec();
        Self { invocation, config }
    }

    /// Takes no optional lock and refreshes no index: for reads beside a working agent.
    pub(crate) fn reading(self) -> Self {
        self.env("GIT_OPTIONAL_LOCKS", "0")
    }

    /// Lets the person's locale through, for calls that run hooks or filters and whose output is not parsed.
    pub(crate) fn own_locale(mut self) -> Self {
        self.invocation.set.retain(|(name, _)| name != "LC_ALL");
        self
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.invocation.set.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Replaces the inherited environment by `env`; what every call has is set on top.
    pub(crate) fn environment(mut self, env: Vec<(OsString, OsString)>) -> Self {
        self.invocation.env = Some(env);
        self
    }

    /// Sets a git setting, `name=value`, for this call.
    pub(crate) fn config(mut self, setting: impl Into<OsString>) -> Self {
        self.config.push(setting.into());
        self
    }

    /// Appends arguments.
    pub(crate) fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.invocation = self.invocation.args(args);
        self
    }

    /// Gives standard input; without it the program reads nothing.
    pub(crate) fn stdin(mut self, bytes: Vec<u8>) -> Self {
        self.invocation.stdin = bytes;
        self
    }

    /// Limits its wall time.
    pub(crate) fn timeout(mut self, limit: Duration) -> Self {
        self.invocation.timeout = Some(limit);
        self
    }

    /// Keeps only the last `bytes` of both streams together.
    pub(crate) fn tail(mut self, bytes: usize) -> Self {
        self.invocation.tail = Some(bytes);
        self
    }

    /// Runs it to its end, whatever its exit code.
    ///
    /// # Errors
    /// [`GitError::Process`] when it does not start or takes too long.
    pub(crate) fn run(mut self) -> Result<Finished, GitError> {
        let own = std::mem::take(&mut self.invocation.args);
        let settings = self.config.into_iter().flat_map(|setting| [OsString::from("-c"), setting]);
        self.invocation.args = settings.chain(own).collect();
        Ok(process::run(&self.invocation)?)
    }

    /// Runs it and demands exit code 0.
    ///
    /// # Errors
    /// [`GitError::Failed`] with the telling lines of its standard error.
    pub(crate) fn output(self) -> Result<Finished, GitError> {
        let command = self.name();
        let done = self.run()?;
        if done.code() == 0 { Ok(done) } else { Err(failed(command, &done)) }
    }

    /// Runs it, demands exit code 0 and gives its standard output without the last newline.
    pub(crate) fn text(self) -> Result<String, GitError> {
        Ok(self.output()?.text().trim_end_matches('\n').to_owned())
    }

    /// Runs a call that answers by exit code: 0 is true, 1 is false.
    #[expect(clippy::wrong_self_convention, reason = "running a call uses it up")]
    pub(crate) fn is_true(self) -> Result<bool, GitError> {
        let command = self.name();
        let done = self.run()?;
        match done.code() {
            0 => Ok(true),
            1 => Ok(false),
            _ => Err(failed(command, &done)),
        }
    }

    /// The call for messages: program, subcommand and, for commands that have them, the second word.
    pub(crate) fn name(&self) -> String {
        let words = self.invocation.args.iter().map(|arg| arg.to_string_lossy());
        let plain: Vec<_> = words.take(2).take_while(|word| !word.starts_with('-')).collect();
        format!("git {}", plain.join(" "))
    }
}

/// The error of a call that ended badly.
pub(crate) fn failed(command: String, done: &Finished) -> GitError {
    GitError::Failed { command, code: done.code(), message: last_words(done) }
}

/// Lines of a failed call that are told at most.
const TELLING_LINES: usize = 5;

/// The telling lines a call wrote to standard error, or to standard output where there are none, as one line.
///
/// Git ends with `fatal: ` or `error: ` and the reason, but around that are the words of programs it called, such as
/// gpg's, and advice in paragraphs of its own. So of each paragraph with such a mark the lines from the mark on count,
/// and without any mark, as for a hook that refuses, the last lines.
pub(crate) fn last_words(done: &Finished) -> String {
    let stream = if done.stderr.trim_ascii().is_empty() { &done.stdout } else { &done.stderr };
    let text = String::from_utf8_lossy(stream);
    let lines: Vec<&str> = text.lines().map(|line| line.rsplit('\r').next().unwrap_or(line).trim()).collect();
    let is_mark = |line: &&str| ["fatal: ", "error: ", "remote: "].iter().any(|mark| line.starts_with(mark));
    let is_noise = |line: &&str| line.is_empty() || line.starts_with("hint: ") || line.starts_with("[GNUPG:]");
    let marked = lines.split(|line| line.is_empty()).flat_map(|part| part.iter().copied().skip_while(|l| !is_mark(l)));
    let mut telling: Vec<&str> = marked.filter(|line| !is_noise(line)).collect();
    if telling.is_empty() {
        telling = lines.into_iter().filter(|line| !is_noise(line)).collect();
    }
    let mut words = String::new();
    for line in &telling[telling.len().saturating_sub(TELLING_LINES)..] {
        // A line that ends with a colon announces the next one.
        let join = if words.is_empty() {
            ""
        } else if words.ends_with(':') {
            " "
        } else {
            "; "
        };
        words = format!("{words}{join}{line}");
    }
    if words.is_empty() { "it said nothing".to_owned() } else { words }
}

impl Repository {
    /// A call of the git program in `cwd`. Paths it prints are raw bytes: ask for `-z` where it prints any.
    pub(crate) fn git(&self, cwd: &Path, args: impl IntoIterator<Item = impl Into<OsString>>) -> Call {
        Call::new(cwd, args, self.program_env())
    }
}

/// Splits the `-z` output of git.
pub(crate) fn split_nul(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty())
}

/// A path from git's bytes.
pub(crate) fn path_of(bytes: &[u8]) -> std::path::PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::path::PathBuf::from(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    /// What is told of a call that wrote this.
    fn told(stdout: &str, stderr: &str) -> String {
        let status = std::process::ExitStatus::from_raw(1 << 8);
        last_words(&Finished { status, stdout: stdout.into(), stderr: stderr.into(), duration: Duration::ZERO })
    }

    #[test]
    fn a_lock_in_the_way_is_named_and_the_advice_around_it_is_not_told() {
        let words = told(
            "",
            "fatal: Unable to create '/r/.git/index.lock': File exists.\n\nAnother git process seems to be running in \
             this repository, e.g.\nan editor opened by 'git commit'. Please make sure all processes\nare terminated \
             then try again. If it still fails, a git process\nmay have crashed in this repository earlier:\nremove \
             the file manually to continue.\n",
        );
        assert_eq!(words, "fatal: Unable to create '/r/.git/index.lock': File exists.");
    }

    #[test]
    fn the_reason_of_gpg_is_told_with_the_failure_of_git() {
        let words = told(
            "",
            "error: gpg failed to sign the data:\ngpg: skipped \"nokey\": No secret key\n[GNUPG:] INV_SGNR 9 nokey\n\
             gpg: signing failed: No secret key\n\nfatal: failed to write commit object\n",
        );
        let wanted = "error: gpg failed to sign the data: gpg: skipped \"nokey\": No secret key; gpg: signing failed: \
                      No secret key; fatal: failed to write commit object";
        assert_eq!(words, wanted);
    }

    #[test]
    fn without_a_mark_of_git_the_last_lines_are_told() {
        assert_eq!(told("", "one\ntwo\n\nthree\nfour\nfive\nsix\n"), "two; three; four; five; six");
        assert_eq!((told("said\n", "\n"), told("", "")), ("said".to_owned(), "it said nothing".to_owned()));
        let identity = "Author identity unknown\n\n*** Please tell me who you are.\n\nfatal: no email was given\n";
        assert_eq!(told("", identity), "fatal: no email was given");
    }
}
