//! Runs a program to its end with a time limit, and never hangs on what it leaves behind.

use std::ffi::OsString;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{ProcessError, command, forget, spawn, tree};

/// Bytes of output that are kept of a call that took too long, where it says nothing itself.
const LATE_OUTPUT: usize = 8 * 1024;
/// How often it is asked whether a call is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A program to run to its end.
#[derive(Debug, Clone)]
pub(crate) struct Invocation {
    /// Program name or path.
    pub(crate) program: OsString,
    /// Its arguments.
    pub(crate) args: Vec<OsString>,
    /// Working folder; always stated.
    pub(crate) cwd: PathBuf,
    /// `None` keeps this process's environment; `Some` replaces it.
    pub(crate) env: Option<Vec<(OsString, OsString)>>,
    /// Variables set on top.
    pub(crate) set: Vec<(OsString, OsString)>,
    /// Variables removed.
    pub(crate) unset: Vec<OsString>,
    /// What it reads; empty is `/dev/null`.
    pub(crate) stdin: Vec<u8>,
    /// Wall time it may take; `None` is for our own short calls only.
    pub(crate) timeout: Option<Duration>,
    /// `Some(n)`: standard output and error go together and only their last `n` bytes are kept.
    pub(crate) tail: Option<usize>,
}

/// A program that ran to its end.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// What it wrote, or the tail of both streams.
    pub(crate) stdout: Vec<u8>,
    /// What it wrote to standard error; empty with `tail`.
    pub(crate) stderr: Vec<u8>,
    /// Wall time.
    pub(crate) duration: Duration,
}

impl Finished {
    /// Exit code, or 128 + signal as shells have it.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().or_else(|| self.status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
    }

    /// Standard output as text, invalid bytes replaced.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl Invocation {
    /// A call of `program` in `cwd` with no arguments, this process's environment and no input.
    pub(crate) fn new(program: impl Into<OsString>, cwd: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            cwd: cwd.into(),
            env: None,
            set: Vec::new(),
            unset: Vec::new(),
            stdin: Vec::new(),
            timeout: None,
            tail: None,
        }
    }

    /// Appends arguments.
    pub(crate) fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }
}

/// Runs to the end. The program gets its own process group; its output is read while it runs, and what it leaves
/// running in the background does not hold the call. A group that outlives the time limit is ended with all its
/// descendants.
///
/// # Errors
/// [`ProcessError::TimedOut`] after the limit; a non-zero exit is no error here.
pub(crate) fn run(call: &Invocation) -> Result<Finished, ProcessError> {
    let program = call.program.to_string_lossy().into_owned();
    let started = Instant::now();
    let follow = |source: io::Error| ProcessError::Follow { program: program.clone(), source };
    let (mut child, merged) = start(call)?;
    let pid = child.id();
    let mut streams = Streams::take(&mut child, merged, call.tail).map_err(follow)?;
    let ended = follow_to_end(&mut child, &mut streams, call.timeout.map(|limit| started + limit));
    if matches!(ended, Ok(None)) {
        tree::kill_group_and_descendants(pid);
    }
    let status = child.wait().map_err(follow);
    forget(pid);
    match ended.map_err(follow)? {
        Some(()) => {
            let (stdout, stderr) = streams.finish().map_err(follow)?;
            Ok(Finished { status: status?, stdout, stderr, duration: started.elapsed() })
        }
        None => {
            let (stdout, stderr) = streams.finish().map_err(follow)?;
            let limit = call.timeout.unwrap_or_default();
            Err(ProcessError::TimedOut { program, limit, output: last_text(&[stdout, stderr].concat(), call.tail) })
        }
    }
}

/// Runs to the end like [`run`], or until `is_ended` says so: then `stop` ends it, again and again, because it may be
/// about to start more.
pub(crate) fn run_until(
    call: &Invocation,
    is_ended: impl Fn() -> bool + Sync,
    stop: impl Fn() + Sync,
) -> Result<Finished, ProcessError> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                if is_ended() {
                    stop();
                }
                std::thread::park_timeout(LOOK_EVERY);
            }
        });
        let answer = run(call);
        is_over.store(true, Ordering::SeqCst);
        watcher.thread().unpark();
        answer
    })
}

/// The last bytes as text, from the beginning of a character.
fn last_text(bytes: &[u8], tail: Option<usize>) -> String {
    let mut rest = &bytes[bytes.len().saturating_sub(tail.unwrap_or(LATE_OUTPUT))..];
    while rest.len() < bytes.len() && rest.first().is_some_and(|byte| byte & 0xC0 == 0x80) {
        rest = &rest[1..];
    }
    String::from_utf8_lossy(rest).into_owned()
}

/// Starts the child; with `tail` both streams share one pipe, whose reading end is returned.
fn start(call: &Invocation) -> Result<(Child, Option<io::PipeReader>), ProcessError> {
    let mut cmd = command(&call.program);
    cmd.args(&call.args).current_dir(&call.cwd).process_group(0);
    if let Some(env) = &call.env {
        let inherited = env.iter().filter(|(name, _)| name != super::APART);
        cmd.env_clear().envs(inherited.map(|(name, value)| (name, value)));
    }
    for name in &call.unset {
        cmd.env_remove(name);
    }
    cmd.envs(call.set.iter().map(|(name, value)| (name, value)));
    let wrap = |source| ProcessError::Start { program: call.program.to_string_lossy().into_owned(), source };
    cmd.stdin(input_file(&call.stdin).map_err(wrap)?);
    let mut merged = None;
    if call.tail.is_some() {
        let (reader, writer) = io::pipe().map_err(wrap)?;
        cmd.stdout(writer.try_clone().map_err(wrap)?).stderr(writer);
        merged = Some(reader);
    } else {
        cmd.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    Ok((spawn(&mut cmd)?, merged))
}

/// Standard input as an unlinked file, so that feeding it can never block.
fn input_file(bytes: &[u8]) -> io::Result<Stdio> {
    if bytes.is_empty() {
        return Ok(Stdio::null());
    }
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

/// A child's output while it runs.
struct Streams {
    /// Standard output, or both.
    out: Option<Pipe>,
    /// Standard error where it has its own pipe.
    err: Option<Pipe>,
}

/// One pipe being read.
struct Pipe {
    /// Non-blocking reading end.
    file: std::fs::File,
    /// What was read, or its tail.
    bytes: Vec<u8>,
    /// Keep only so much.
    tail: Option<usize>,
    /// Whether the other end is closed.
    ended: bool,
}

impl Streams {
    /// Takes the child's pipes and makes them non-blocking.
    fn take(child: &mut Child, merged: Option<io::PipeReader>, tail: Option<usize>) -> io::Result<Self> {
        let out = match merged {
            Some(reader) => Some(Pipe::new(reader.into(), tail)?),
            None => child.stdout.take().map(|pipe| Pipe::new(pipe.into(), None)).transpose()?,
        };
        let err = child.stderr.take().map(|pipe| Pipe::new(pipe.into(), None)).transpose()?;
        Ok(Self { out, err })
    }

    /// The pipes that are still open.
    fn open(&mut self) -> impl Iterator<Item = &mut Pipe> {
        self.out.iter_mut().chain(self.err.iter_mut()).filter(|pipe| !pipe.ended)
    }

    /// Reads what is there now and gives up the pipes.
    fn finish(mut self) -> io::Result<(Vec<u8>, Vec<u8>)> {
        for pipe in self.open() {
            pipe.read_available()?;
        }
        let bytes = |pipe: Option<Pipe>| pipe.map(Pipe::into_bytes).unwrap_or_default();
        Ok((bytes(self.out), bytes(self.err)))
    }
}

impl Pipe {
    /// Wraps a descriptor.
    fn new(fd: std::os::fd::OwnedFd, tail: Option<usize>) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self { file: fd.into(), bytes: Vec::new(), tail, ended: false })
    }

    /// Reads until nothing is there.
    fn read_available(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(());
                }
                Ok(count) => self.push(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Appends, keeping at most twice the tail in memory.
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if let Some(tail) = self.tail.filter(|tail| self.bytes.len() > 2 * tail + 16 * 1024) {
            self.bytes.drain(..self.bytes.len() - tail);
        }
    }

    /// The bytes, cut to the tail.
    fn into_bytes(mut self) -> Vec<u8> {
        if let Some(tail) = self.tail.filter(|tail| self.bytes.len() > *tail) {
            self.bytes.drain(..self.bytes.len() - tail);
        }
        self.bytes
    }
}

/// Reads until the child itself ends: `Some(())`, or `None` when the deadline passed first.
fn follow_to_end(child: &mut Child, streams: &mut Streams, deadline: Option<Instant>) -> io::Result<Option<()>> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        let wait = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            Some(Duration::ZERO) => return Ok(None),
            wait => wait.map(|wait| Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(wait.subsec_nanos()),
            }),
        };
        let is_ended = {
            let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
            let pipes: Vec<_> = streams.open().map(|pipe| &*pipe).collect();
            fds.extend(pipes.iter().map(|pipe| PollFd::from_borrowed_fd(pipe.file.as_fd(), PollFlags::IN)));
            match poll(&mut fds, wait.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            !fds[0].revents().is_empty()
        };
        for pipe in streams.open() {
            pipe.read_available()?;
        }
        if is_ended {
            return Ok(Some(()));
        }
    }
}
