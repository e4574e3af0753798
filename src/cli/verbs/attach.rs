//! `swarm attach`: the live terminal, through tmux or through the supervisor's socket.

use std::io::{IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::cli::Context;
use crate::cli::args::AttachArgs;
use crate::coordinator::{Attachment, Failure, FailureKind};
use crate::process;
use crate::supervisor::Client;
use crate::supervisor::protocol::{Frame, Reply, Request};
use crate::terminal::{self, AttachStep, RESTORE_MODES, RawMode, Size};

/// The key that leaves, the same as in our tmux server: Ctrl-Q, then `d`.
const PREFIX: u8 = 0x11;

/// Runs the verb.
pub(super) fn run(args: &AttachArgs, context: &Context) -> Result<ExitCode, Failure> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err(Failure::new(FailureKind::Usage, "attach needs a terminal")
            .hint(format!("swarm logs {} --terminal prints what it showed", args.worker)));
    }
    match context.control()?.attachment(&args.worker, args.read_only)? {
        Attachment::Tmux(steps) => by_tmux(&steps),
        Attachment::Socket(client) => by_socket(client, args, context),
    }
}

/// Runs the first way that works.
fn by_tmux(steps: &[AttachStep]) -> Result<ExitCode, Failure> {
    for (index, step) in steps.iter().enumerate() {
        let mut command = process::command(&step.argv[0]);
        command.args(&step.argv[1..]);
        for name in step.unset {
            command.env_remove(name);
        }
        let mut child = process::spawn(&mut command)?;
        let status = child.wait();
        process::forget(child.id());
        let status = status.map_err(|error| Failure::from_error(FailureKind::Failed, &error))?;
        if status.success() || index + 1 == steps.len() {
            let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
            return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
        }
    }
    Ok(ExitCode::FAILURE)
}

/// Shows the terminal that the supervisor sends, until it ends or the person leaves.
fn by_socket(mut client: Client, args: &AttachArgs, context: &Context) -> Result<ExitCode, Failure> {
    let Size { columns, rows } = terminal::terminal_size().unwrap_or(Size::UNSEEN);
    match client.ask(&Request::Attach { columns, rows, read_only: args.read_only })? {
        Reply::Ok => {}
        other => return Err(Failure::new(FailureKind::Failed, format!("the supervisor answered {other:?}"))),
    }
    context.output.narrate(&format!("Attached to `{}` without tmux; Ctrl-Q d leaves.", args.worker));
    let failed = |error: std::io::Error| Failure::from_error(FailureKind::Failed, &error);
    let (stream, ahead) = client.into_raw();
    stream.set_read_timeout(None).map_err(failed)?;
    let raw = RawMode::enter(std::io::stdin()).map_err(failed)?;
    let result = shuttle(&stream, &ahead);
    std::io::stdout().write_all(RESTORE_MODES).ok();
    drop(raw);
    let word = match result.map_err(failed)? {
        End::Left => "Left; the worker runs on.",
        End::Closed => "The worker's terminal ended.",
    };
    context.output.narrate(&format!("\n{word}"));
    Ok(ExitCode::SUCCESS)
}

/// Why an attached terminal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The person left.
    Left,
    /// The supervisor closed.
    Closed,
}

/// How often the terminal's size is looked at; nobody sees the difference from a signal.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Copies both ways until one side ends.
fn shuttle(stream: &UnixStream, ahead: &[u8]) -> std::io::Result<End> {
    let (mut reader, mut writer) = (stream, stream);
    // Below the buffer of the standard library, which poll would know nothing of.
    let stdin = std::io::stdin();
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(ahead)?;
    stdout.flush()?;
    let mut keys = Keys::default();
    let mut size = terminal::terminal_size();
    let mut buffer = [0; 16 * 1024];
    loop {
        let [from_person, from_worker] = readable(&stdin, stream)?;
        let now = terminal::terminal_size();
        if now != size {
            size = now;
            if let Some(Size { columns, rows }) = now {
                writer.write_all(&Frame::Resize { columns, rows }.encode())?;
            }
        }
        if from_person {
            let count = rustix::io::read(&stdin, &mut buffer)?;
            let (pass, leaves) = keys.take(&buffer[..count]);
            if !pass.is_empty() {
                writer.write_all(&Frame::Input(pass).encode())?;
            }
            if leaves || count == 0 {
                return Ok(End::Left);
            }
        }
        if from_worker {
            match reader.read(&mut buffer) {
                Ok(0) | Err(_) => return Ok(End::Closed),
                Ok(count) => stdout.write_all(&buffer[..count]).and_then(|()| stdout.flush())?,
            }
        }
    }
}

/// Waits for either side, for a moment: which of the two can be read.
fn readable(stdin: &std::io::Stdin, stream: &UnixStream) -> std::io::Result<[bool; 2]> {
    let mut fds = [PollFd::new(stdin, PollFlags::IN), PollFd::new(stream, PollFlags::IN)];
    match poll(&mut fds, Some(&LOOK_EVERY)) {
        Ok(_) => Ok(fds.map(|fd| !fd.revents().is_empty())),
        Err(Errno::INTR) => Ok([false; 2]),
        Err(error) => Err(error.into()),
    }
}

/// Finds the keys that leave among what is typed.
#[derive(Debug, Default)]
struct Keys {
    /// The prefix was typed.
    after_prefix: bool,
}

impl Keys {
    /// What to pass on, and whether the person leaves. The prefix twice passes one.
    fn take(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut pass = Vec::new();
        for &byte in typed {
            match (std::mem::take(&mut self.after_prefix), byte) {
                (true, b'd') => return (pass, true),
                (true, PREFIX) => pass.push(PREFIX),
                (true, byte) => pass.extend([PREFIX, byte]),
                (false, PREFIX) => self.after_prefix = true,
                (false, byte) => pass.push(byte),
            }
        }
        (pass, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_prefix_and_d_leave() {
        let mut keys = Keys::default();
        assert_eq!(keys.take(b"ad"), (b"ad".to_vec(), false));
        assert_eq!(keys.take(b"x\x11"), (b"x".to_vec(), false));
        assert_eq!(keys.take(b"d"), (Vec::new(), true));
        assert_eq!(keys.take(b"\x11\x11\x11c"), (b"\x11\x11c".to_vec(), false));
    }
}
