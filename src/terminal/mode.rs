//! Our own terminal: raw mode with a guard, its size, and text made safe to paste into a program.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::Size;

/// Switches off what a full-screen program may have switched on: written to our own terminal when a view of an agent
/// ends. Mouse reports, focus reports, bracketed paste, key modes, alternate screen; cursor and colours back.
pub(crate) const RESTORE_MODES: &[u8] = b"\x1b[?9l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1005l\x1b[?1006l\x1b[?1004l\
    \x1b[?2004l\x1b[>4;0m\x1b[?1l\x1b>\x1b[?1049l\x1b[r\x1b[0m\x1b[?25h";

/// Keeps a terminal in raw mode; dropping it, also by a panic, puts the former modes back.
#[derive(Debug)]
pub(crate) struct RawMode {
    /// The terminal.
    terminal: OwnedFd,
    /// Its modes before.
    before: Termios,
}

impl RawMode {
    /// Puts the terminal behind `fd` (standard input, as a rule) into raw mode.
    ///
    /// # Errors
    /// When it is not a terminal.
    pub(crate) fn enter(fd: impl AsFd) -> io::Result<Self> {
        let terminal = rustix::io::fcntl_dupfd_cloexec(fd, 3)?;
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Flush, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring. Now, not Drain: a hung-up reader must not hold us here.
        tcsetattr(&self.terminal, OptionalActions::Now, &self.before).ok();
    }
}

/// The size of the terminal on standard output, error or input, whichever is one; `None` without a terminal or
/// when it does not know its size.
pub(crate) fn terminal_size() -> Option<Size> {
    let sizes = [rustix::stdio::stdout(), rustix::stdio::stderr(), rustix::stdio::stdin()];
    sizes.into_iter().find_map(size_of)
}

/// The size of one terminal.
fn size_of(fd: impl AsFd) -> Option<Size> {
    let size = tcgetwinsize(fd).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some(Size { columns: size.ws_col, rows: size.ws_row })
}

/// The bytes that put `text` into a program as one paste, without pressing any key but those of the text.
///
/// Control characters other than tab and newline are dropped, so nothing in a text can end the paste, interrupt the
/// program or move its cursor. Line ends are carriage returns, as terminals send them; within a paste they submit
/// nothing, and nothing is submitted at the end.
pub(crate) fn bracketed_paste(text: &str) -> Vec<u8> {
    let text = text.replace("\x1b[200~", "").replace("\x1b[201~", "").replace("\r\n", "\n");
    let plain = text.chars().filter(|character| !character.is_control() || matches!(character, '\n' | '\r' | '\t'));
    let body: String = plain.map(|character| if character == '\n' { '\r' } else { character }).collect();
    format!("\x1b[200~{body}\x1b[201~").into_bytes()
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use rustix::termios::LocalModes;

    use super::*;

    #[test]
    fn a_prompt_cannot_leave_the_paste_or_press_keys() {
        let hostile = "a\x1b[201~\x03rm\r\nb\x1b[20\x1b[201~1~c\x04\u{9b}d\te\x7f";
        let bytes = bracketed_paste(hostile);
        assert_eq!(String::from_utf8(bytes).unwrap(), "\x1b[200~arm\rb[201~cd\te\x1b[201~");
        assert_eq!(bracketed_paste(""), b"\x1b[200~\x1b[201~");
    }

    #[test]
    fn raw_mode_is_undone_by_a_panic() {
        let pair = portable_pty::native_pty_system().openpty(portable_pty::PtySize::default()).unwrap();
        let slave = std::fs::File::open(pair.master.tty_name().unwrap()).unwrap();
        let is_cooked = || tcgetattr(&slave).unwrap().local_modes.contains(LocalModes::ECHO | LocalModes::ICANON);
        assert!(is_cooked());
        let result = catch_unwind(AssertUnwindSafe(|| {
            let _raw = RawMode::enter(&slave).unwrap();
            assert!(!is_cooked());
            panic!("on purpose");
        }));
        assert!(result.is_err() && is_cooked());
        assert_eq!(size_of(&slave), Some(Size { columns: 80, rows: 24 }));
    }

    #[test]
    fn a_pipe_has_no_modes_and_no_size() {
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(RawMode::enter(&reader).is_err() && size_of(&reader).is_none());
    }
}
