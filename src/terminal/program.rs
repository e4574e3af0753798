//! Finds the program to run before anything is forked, because neither a PTY child nor a tmux pane can say clearly why
//! its program did not start.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

/// Longest single argument or `NAME=value` the kernel takes: 32 pages, its end included (execve(2)).
const LONGEST_ARGUMENT: usize = 128 * 1024;
/// What the kernel takes in all when the stack is unlimited: three quarters of 8 MiB (execve(2)).
const MOST_ARGUMENTS: u64 = 6 * 1024 * 1024;

/// A program that cannot be started as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    /// The argument list is empty.
    #[error("no program named")]
    Unnamed,
    /// Nothing of that name can be run.
    #[error("no executable `{program}` found")]
    Missing {
        /// The name or path.
        program: String,
        /// The search's own words.
        #[source]
        source: which::Error,
    },
    /// A script names an interpreter that is not there.
    #[error("`{}` names the interpreter `{}`, which is not an executable file", program.display(), interpreter.display())]
    Interpreter {
        /// The script.
        program: PathBuf,
        /// What its first line names.
        interpreter: PathBuf,
    },
    /// The working folder is not there.
    #[error("working folder `{}` is not a folder", .0.display())]
    Folder(PathBuf),
    /// The kernel would refuse the arguments and environment.
    #[error("{what} takes {bytes} bytes, over the limit of {limit}")]
    TooLong {
        /// Which: an argument, a variable by its name, or all of them.
        what: String,
        /// Size found.
        bytes: usize,
        /// Size allowed.
        limit: usize,
    },
    /// A zero byte, which no argument can carry.
    #[error("{0} holds a zero byte")]
    ZeroByte(String),
}

/// Checks that `argv` can be started in `cwd` with `env`, and returns the absolute path of its program.
///
/// A name without `/` is looked up in the given environment's `PATH`; a relative path is taken from `cwd`.
///
/// # Errors
/// When the folder, the program or its interpreter is missing, or the kernel would refuse the sizes.
pub(super) fn check(argv: &[OsString], env: &[(OsString, OsString)], cwd: &Path) -> Result<PathBuf, ProgramError> {
    if !cwd.is_dir() {
        return Err(ProgramError::Folder(cwd.to_owned()));
    }
    let name = argv.first().filter(|name| !name.is_empty()).ok_or(ProgramError::Unnamed)?;
    let path = env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value);
    let found = which::which_in(name, path, cwd);
    let program =
        found.map_err(|source| ProgramError::Missing { program: name.to_string_lossy().into_owned(), source })?;
    check_interpreter(&program, cwd)?;
    check_sizes(argv, env)?;
    Ok(program)
}

/// Checks the first line of a script. An unreadable program is left to the kernel, which can run it all the same.
fn check_interpreter(program: &Path, cwd: &Path) -> Result<(), ProgramError> {
    let mut line = [0; 256];
    let Ok(count) = File::open(program).and_then(|mut file| file.read(&mut line)) else {
        return Ok(());
    };
    let Some(rest) = line[..count].strip_prefix(b"#!") else {
        return Ok(());
    };
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = rest.iter().position(|byte| !is_blank(byte)).unwrap_or(rest.len());
    let word = rest[start..].split(|byte| is_blank(byte) || *byte == b'\n' || *byte == 0).next().unwrap_or_default();
    let interpreter = cwd.join(OsStr::from_bytes(word));
    if word.is_empty() || which::which_in(&interpreter, None::<&OsStr>, cwd).is_err() {
        let interpreter = PathBuf::from(OsStr::from_bytes(word));
        return Err(ProgramError::Interpreter { program: program.to_owned(), interpreter });
    }
    Ok(())
}

/// Checks what execve(2) would answer with `E2BIG` or could not express.
fn check_sizes(argv: &[OsString], env: &[(OsString, OsString)]) -> Result<(), ProgramError> {
    let arguments =
        argv.iter().enumerate().map(|(at, value)| (format!("argument {at}"), value.len() + 1, has_zero(value)));
    let variables = env.iter().map(|(name, value)| {
        let zero = has_zero(name) || has_zero(value);
        (format!("variable `{}`", name.to_string_lossy()), name.len() + value.len() + 2, zero)
    });
    let mut total = 0;
    for (what, bytes, zero) in arguments.chain(variables) {
        if zero {
            return Err(ProgramError::ZeroByte(what));
        }
        if bytes > LONGEST_ARGUMENT {
            return Err(ProgramError::TooLong { what, bytes, limit: LONGEST_ARGUMENT });
        }
        total += bytes + size_of::<usize>();
    }
    let stack = getrlimit(Resource::Stack).current.map_or(MOST_ARGUMENTS, |stack| (stack / 4).min(MOST_ARGUMENTS));
    let limit = usize::try_from(stack).unwrap_or(usize::MAX).max(LONGEST_ARGUMENT);
    if total > limit {
        let what = "the argument list with the environment".to_owned();
        return Err(ProgramError::TooLong { what, bytes: total, limit });
    }
    Ok(())
}

/// Whether a string holds a zero byte.
fn has_zero(text: &OsStr) -> bool {
    text.as_bytes().contains(&0)
}
