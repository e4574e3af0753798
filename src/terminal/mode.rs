//! Our own terminal: raw mode with a guard, its size, and text made safe to paste into a program.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

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

/// Whether `fd` is a terminal.
pub(crate) fn is_terminal(fd: impl AsFd) -> bool {
    isatty(fd)
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

/// The bytes that type `text` into a program without pressing any key but those of the text.
///
/// Control characters other than tab and newline are dropped, so nothing in a text can end the paste, interrupt the
/// program or move its cursor. With `bracketed` (the program asked for it, [`super::Screen::bracketed_paste`]) the whole
/// is marked as one paste, in which line ends are carriage returns as terminals send them, and submit nothing. Without,
/// they are line feeds: the end of a line to programs that read lines, and to editors a new line where a carriage
/// return would be the Enter key. Nothing is submitted at the end.
pub(crate) fn bracketed_paste(text: &str, bracketed: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + 12);
    if bracketed {
        bytes.extend_from_slice(b"\x1b[200~");
    }
    let text = text.replace("\x1b[200~", "").replace("\x1b[201~", "").replace("\r\n", "\n");
    for character in text.chars() {
        match character {
            '\n' | '\r' => bytes.push(if bracketed { b'\r' } else { b'\n' }),
            '\t' => bytes.push(b'\t'),
            control if control.is_control() => {}
            other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    if bracketed {
        bytes.extend_from_slice(b"\x1b[201~");
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use rustix::termios::LocalModes;

    use super::*;

    #[test]
    fn a_prompt_cannot_leave_the_paste_or_press_keys() {
        let hostile = "a\x1b[201~\x03rm\r\nb\x1b[20\x1b[201~1~c\x04\u{9b}d\te\x7f";
        let bytes = bracketed_paste(hostile, true);
        assert_eq!(String::from_utf8(bytes).unwrap(), "\x1b[200~arm\rb[201~cd\te\x1b[201~");
        assert_eq!(bracketed_paste("one\ntwo ü", false), "one\ntwo ü".as_bytes());
        assert_eq!(bracketed_paste("", true), b"\x1b[200~\x1b[201~");
    }

    #[test]
    fn raw_mode_is_undone_by_a_panic() {
        let pair = portable_pty::native_pty_system().openpty(portable_pty::PtySize::default()).unwrap();
        let slave = std::fs::File::open(pair.master.tty_name().unwrap()).unwrap();
        let is_cooked = || tcgetattr(&slave).unwrap().local_modes.contains(LocalModes::ECHO | LocalModes::ICANON);
        assert!(is_cooked() && is_terminal(&slave));
        let result = catch_unwind(AssertUnwindSafe(|| {
            let _raw = RawMode::enter(&slave).unwrap();
            assert!(!is_cooked());
            panic!("on purpose");
        }));
        assert!(result.is_err() && is_cooked());
        assert_eq!(size_of(&slave), Some(Size { columns: 80, rows: 24 }));
    }

    #[test]
    fn a_pipe_is_no_terminal() {
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(!is_terminal(&reader) && RawMode::enter(&reader).is_err() && size_of(&reader).is_none());
    }
}
