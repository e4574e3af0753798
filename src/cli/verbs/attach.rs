//! `swarm attach`: the live terminal, through tmux or through the supervisor's socket.

use std::io::{IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;

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

/// Copies both ways until one side ends.
fn shuttle(stream: &UnixStream, ahead: &[u8]) -> std::io::Result<End> {
    let mut writer = stream.try_clone()?;
    let typing = std::thread::spawn(move || -> std::io::Result<()> {
        let mut keys = Keys::default();
        let mut size = terminal::terminal_size();
        let mut buffer = [0; 4096];
        let mut stdin = std::io::stdin().lock();
        loop {
            let count = stdin.read(&mut buffer)?;
            if terminal::terminal_size() != size {
                size = terminal::terminal_size();
                if let Some(Size { columns, rows }) = size {
                    writer.write_all(&Frame::Resize { columns, rows }.encode())?;
                }
            }
            let (pass, leaves) = keys.take(&buffer[..count]);
            if !pass.is_empty() {
                writer.write_all(&Frame::Input(pass).encode())?;
            }
            if leaves || count == 0 {
                // Ends the reading side too.
                return writer.shutdown(std::net::Shutdown::Both);
            }
        }
    });
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(ahead)?;
    let mut buffer = [0; 16 * 1024];
    let mut reader = stream;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                stdout.write_all(&buffer[..count])?;
                stdout.flush()?;
            }
        }
    }
    Ok(if typing.is_finished() { End::Left } else { End::Closed })
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
