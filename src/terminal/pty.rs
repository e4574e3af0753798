//! A program in a pseudo-terminal of its own.
//!
//! The PTY crate opens the pair and forks; from then on one descriptor of the master and one pidfd are all that is
//! kept, both driven by the async runtime, so a waiting agent costs no thread. The crate's writer is never taken: its
//! end types a newline and an end-of-file at the agent. End of output and end of the program are separate facts:
//! what the program left behind may keep the terminal open, and output may still be buffered when it has ended.

use std::ffi::OsString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitIdOptions, WaitOptions, kill_process_group, pidfd_open, waitid, waitpid,
};
use rustix::termios::{InputModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{ProgramError, Size, program};
use crate::process;

/// A program to run in a terminal.
#[derive(Debug, Clone)]
pub(crate) struct PtyCommand {
    /// Program and arguments; a bare name is looked up in the `PATH` of `env`.
    pub(crate) argv: Vec<OsString>,
    /// The whole environment; nothing is inherited. A missing `SHELL` is filled in from the password database,
    /// because the PTY crate insists on one.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Working folder.
    pub(crate) cwd: PathBuf,
    /// Size it starts with.
    pub(crate) size: Size,
    /// Whether the terminal starts without echo, line editing, signal keys and output processing, so that lines of
    /// JSON come out byte for byte.
    pub(crate) raw: bool,
    /// Standard input from this file instead of the terminal, which stays the controlling one.
    pub(crate) stdin: Option<PathBuf>,
}

/// How a program ended; one of the two is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExitInfo {
    /// Its exit code.
    pub(crate) code: Option<i32>,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
}

/// Why [`Pty::drain`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drained {
    /// Everything that can ever come was read.
    End,
    /// Time is up; something still holds the terminal open.
    Held,
}

/// A program that could not be put into a terminal or followed there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PtyError {
    /// It cannot be started as asked.
    #[error("could not start the program")]
    Program(#[from] ProgramError),
    /// The PTY crate failed to open a terminal or to start the program in it.
    #[error("could not start `{program}` in a terminal")]
    Spawn {
        /// The program.
        program: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A call on the terminal or the process failed.
    #[error("could not {attempt} of `{program}`")]
    Follow {
        /// What was tried.
        attempt: &'static str,
        /// The program.
        program: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Pause before more is typed into a terminal whose input is full.
const FULL_PAUSE: Duration = Duration::from_millis(20);

/// A running program and the master side of its terminal.
///
/// All methods take `&self`, so one task may read, write and wait at once. Dropping it hangs the terminal up (SIGHUP to
/// the session) but ends nothing that ignores that.
#[derive(Debug)]
pub(crate) struct Pty {
    /// Master side, non-blocking.
    master: AsyncFd<OwnedFd>,
    /// Readable once the program has ended.
    pidfd: AsyncFd<OwnedFd>,
    /// The child.
    child: Child,
}

impl Pty {
    /// Starts the program as leader of a session whose controlling terminal is the new one. Needs a runtime with I/O.
    ///
    /// # Errors
    /// [`PtyError::Program`] before anything was started; nothing is left running after any error.
    pub(crate) fn spawn(command: &PtyCommand) -> Result<Self, PtyError> {
        let program = program::check(&command.argv, &command.env, &command.cwd)?;
        let name = program.display().to_string();
        let (master, child) = start(command, program.into_os_string())?;
        let follow = |attempt| {
            let program = name.clone();
            move |source: io::Error| PtyError::Follow { attempt, program, source }
        };
        rustix::io::ioctl_fionbio(&master, true).map_err(io::Error::from).map_err(follow("set up the terminal"))?;
        let pidfd = pidfd_open(child.pid, PidfdFlags::empty()).map_err(io::Error::from);
        let pidfd = pidfd.and_then(|fd| watch(fd, Interest::READABLE)).map_err(follow("watch the end"))?;
        let master = watch(master, Interest::READABLE | Interest::WRITABLE).map_err(follow("watch the terminal"))?;
        child.is_kept.set(()).ok();
        Ok(Self { master, pidfd, child })
    }

    /// The program's pid, which is also its session and first process group.
    pub(crate) fn child_pid(&self) -> u32 {
        self.child.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Reads what the terminal shows; 0 means that nothing holds the terminal open any more. Cancel safe.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = |fd: &OwnedFd| unless_hung_up(|| rustix::io::read(fd, &mut *buffer));
        self.master.async_io(Interest::READABLE, retrying(read)).await
    }

    /// Types what fits into the terminal's input now and returns how much; 0 when it is full. Cancel safe.
    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let write = |fd: &OwnedFd| match rustix::io::write(fd, bytes) {
            // Full for ever: nobody is left to read it. The runtime takes a hang-up for readiness and would never rest.
            Err(Errno::AGAIN) if is_hung_up(fd) => Err(Errno::IO.into()),
            result => result.map_err(io::Error::from),
        };
        self.master.async_io(Interest::WRITABLE, retrying(write)).await
    }

    /// Types all of `bytes`. It waits while the program does not read, so keep reading beside it; when cancelled, a
    /// part may have been typed. Two calls at once would mix.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = self.write(bytes).await?;
            bytes = &bytes[count..];
            if count == 0 {
                // A terminal whose input is full and raw takes nothing and calls that success.
                tokio::time::sleep(FULL_PAUSE).await;
            }
        }
        Ok(())
    }

    /// Gives the terminal another size; the kernel tells the foreground program.
    pub(crate) fn resize(&self, size: Size) -> io::Result<()> {
        let Size { columns, rows } = size.clamped();
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(&self.master, size)?)
    }

    /// Waits until the program itself has ended, whatever it left behind. Cancel safe; any number of calls.
    pub(crate) async fn wait(&self) -> io::Result<ExitInfo> {
        loop {
            let mut guard = self.pidfd.readable().await?;
            match self.child.try_wait()? {
                Some(exit) => return Ok(exit),
                None => guard.clear_ready(),
            }
        }
    }

    /// Whether the program was stopped (Ctrl-Z, SIGSTOP) since this was last asked.
    pub(crate) fn take_stop(&self) -> bool {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        let stop = waitid(rustix::process::WaitId::Pid(self.child.pid), options);
        self.child.exit.get().is_none() && matches!(stop, Ok(Some(_)))
    }

    /// Reads what is left after the program ended, until the end of output or until `limit` has passed.
    pub(crate) async fn drain(&self, limit: Duration, mut take: impl FnMut(&[u8])) -> io::Result<Drained> {
        let mut buffer = vec![0; 16 * 1024];
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            match tokio::time::timeout_at(deadline, self.read(&mut buffer)).await {
                Err(_) => return Ok(Drained::Held),
                Ok(Ok(0)) => return Ok(Drained::End),
                Ok(Ok(count)) => take(&buffer[..count]),
                Ok(Err(error)) => return Err(error),
            }
        }
    }
}

/// What a read of the master answers, 0 once nobody has the other side open: Linux says EIO then (pty(7) leaves it out).
/// It looks for input before it looks for that, and says EIO of what was written in between; the next read gets it.
fn unless_hung_up(mut read: impl FnMut() -> rustix::io::Result<usize>) -> io::Result<usize> {
    match read() {
        Err(Errno::IO) => match read() {
            Err(Errno::IO) => Ok(0),
            result => Ok(result?),
        },
        result => Ok(result?),
    }
}

/// Whether nobody has the other side open.
fn is_hung_up(master: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(master, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
}

/// Repeats a call that a signal interrupted.
fn retrying<T>(mut call: impl FnMut(&OwnedFd) -> io::Result<T>) -> impl FnMut(&OwnedFd) -> io::Result<T> {
    move |fd| {
        loop {
            match call(fd) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

/// The child process, collected exactly once.
#[derive(Debug)]
struct Child {
    /// Its pid; names it for certain until it is collected.
    pid: Pid,
    /// How it ended, once collected.
    exit: OnceLock<ExitInfo>,
    /// Set when [`Pty::spawn`] succeeded; until then dropping ends the child.
    is_kept: OnceLock<()>,
}

impl Child {
    /// Collects the child if it has ended.
    fn try_wait(&self) -> io::Result<Option<ExitInfo>> {
        if let Some(exit) = self.exit.get() {
            return Ok(Some(*exit));
        }
        match waitpid(Some(self.pid), WaitOptions::NOHANG) {
            Ok(None) => Ok(None),
            Ok(Some((_, status))) => Ok(Some(self.ended(status.exit_status(), status.terminating_signal()))),
            // Another thread collected it between the look and the call.
            Err(error) => self.exit.get().copied().map(Some).ok_or(error.into()),
        }
    }

    /// Notes the end.
    fn ended(&self, code: Option<i32>, signal: Option<i32>) -> ExitInfo {
        process::forget(self.pid.as_raw_nonzero().get().unsigned_abs());
        *self.exit.get_or_init(|| ExitInfo { code, signal })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.is_kept.get().is_none() && matches!(self.try_wait(), Ok(None)) {
            kill_process_group(self.pid, Signal::KILL).ok();
            waitpid(Some(self.pid), WaitOptions::empty()).ok();
        }
        if !matches!(self.try_wait(), Ok(Some(_))) {
            // From here it is an orphan like any other.
            process::forget(self.pid.as_raw_nonzero().get().unsigned_abs());
        }
    }
}

/// Opens the terminal and starts the program under the spawn lock, because both ends are inheritable for a moment.
fn start(command: &PtyCommand, program: OsString) -> Result<(OwnedFd, Child), PtyError> {
    let name = program.to_string_lossy().into_owned();
    let wrap = |source: Box<dyn std::error::Error + Send + Sync>| PtyError::Spawn { program: name.clone(), source };
    let _lock = process::spawn_lock();
    let Size { columns, rows } = command.size.clamped();
    let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
    let pair = native_pty_system().openpty(size).map_err(|error| wrap(error.into()))?;
    let master = duplicate(&*pair.master).map_err(|error| wrap(error.into()))?;
    set_modes(&master, command.raw).map_err(|error| wrap(error.into()))?;
    let child = pair.slave.spawn_command(builder(command, program)).map_err(|error| wrap(error.into()))?;
    let pid = child.process_id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| wrap(io::Error::from(io::ErrorKind::InvalidData).into()))?;
    process::note_waited(pid.as_raw_nonzero().get().unsigned_abs());
    Ok((master, Child { pid, exit: OnceLock::new(), is_kept: OnceLock::new() }))
}

/// A descriptor of the master that outlives the PTY crate's own.
fn duplicate(master: &dyn portable_pty::MasterPty) -> io::Result<OwnedFd> {
    let fd = master.as_raw_fd().ok_or(io::ErrorKind::Unsupported)?;
    #[expect(unsafe_code, reason = "the crate only hands out a number; `master` keeps it open during this call")]
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?)
}

/// Hands a descriptor to the runtime.
fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(unsafe_code, reason = "an owned descriptor stays open and the same until it is dropped with its watch")]
    let watched = unsafe { AsyncFd::register_with_interest(fd, interest) };
    Ok(watched?)
}

/// Sets the terminal's modes before anything runs in it.
fn set_modes(master: &OwnedFd, raw: bool) -> io::Result<()> {
    let mut modes = tcgetattr(master)?;
    if raw {
        modes.make_raw();
    }
    // Erasing a character of several bytes in line editing erases all of it.
    modes.input_modes |= InputModes::IUTF8;
    Ok(tcsetattr(master, OptionalActions::Now, &modes)?)
}

/// The command in the PTY crate's words.
fn builder(command: &PtyCommand, program: OsString) -> CommandBuilder {
    let mut argv = Vec::new();
    if let Some(file) = &command.stdin {
        // The crate ties all three streams to the terminal; the shell swaps one and becomes the program.
        let script = r#"file=$1; shift; exec "$@" <"$file""#;
        argv.extend(["/bin/sh", "-c", script, "sh"].map(OsString::from));
        argv.push(file.into());
    }
    argv.push(program);
    argv.extend(command.argv.iter().skip(1).cloned());
    let mut builder = CommandBuilder::from_argv(argv);
    builder.env_clear();
    for (name, value) in &command.env {
        builder.env(name, value);
    }
    builder.cwd(&command.cwd);
    builder
}

#[cfg(test)]
mod tests;
