//! What is on a program's screen, and what a terminal would answer it.
//!
//! The parser keeps a few hundred kilobytes, from the first byte on that a program writes, and no scrollback: history is in
//! the recording, and hundreds of screens fit one machine. Answers are those tmux gives to the same queries, so that a program sees the same terminal in a pane
//! and without one; the caller passes them on only while no real terminal is attached.

use std::num::NonZeroU16;

use vt100::{Callbacks, MouseProtocolEncoding, MouseProtocolMode, Parser};

use super::Size;

/// The state of one terminal.
pub(crate) struct Screen {
    /// Parser and grid; `None` while nothing was written.
    parser: Option<Box<Parser<Watcher>>>,
    /// Its size.
    size: Size,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Screen").field("title", &self.title()).finish_non_exhaustive()
    }
}

impl Screen {
    /// An empty screen.
    pub(crate) fn new(size: Size) -> Self {
        Self { parser: None, size }
    }

    /// Takes what the program wrote, split anywhere, and returns what a terminal would answer to the queries in it.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let size = self.size;
        let parser = self.parser.get_or_insert_with(|| Box::new(empty(size)));
        parser.process(bytes);
        std::mem::take(&mut parser.callbacks_mut().replies)
    }

    /// Gives the screen another size.
    pub(crate) fn resize(&mut self, size: Size) {
        self.size = size;
        if let Some(parser) = &mut self.parser {
            let (rows, columns) = cells(size);
            parser.set_size(rows, columns);
        }
    }

    /// The last `count` lines that show something, top to bottom, a wrapped line as one.
    pub(crate) fn last_lines(&self, count: usize) -> Vec<String> {
        let contents = self.parser.as_ref().map(|parser| parser.screen().contents()).unwrap_or_default();
        let lines: Vec<&str> = contents.trim_end().lines().collect();
        lines[lines.len().saturating_sub(count)..].iter().map(|line| line.trim_end().to_owned()).collect()
    }

    /// The title the program gave its terminal, without control characters; empty before.
    pub(crate) fn title(&self) -> &str {
        self.parser.as_ref().map_or("", |parser| &parser.callbacks().title)
    }

    /// Bytes that draw the present state on a terminal of the same size: screen, cursor, title and the modes that
    /// decide what its keys and mouse send. Scroll margins are not known here; a resize makes the program set its own.
    pub(crate) fn repaint(&self) -> Vec<u8> {
        let blank;
        let parser = match &self.parser {
            Some(parser) => parser.as_ref(),
            None => {
                blank = empty(self.size);
                &blank
            }
        };
        let (screen, watcher) = (parser.screen(), parser.callbacks());
        let mut text = String::from(if screen.alternate_screen() { "\x1b[?1049h" } else { "\x1b[?1049l" });
        text.push_str("\x1b[r\x1b[0m");
        text.push_str(&screen.state_formatted());
        text.push_str(if watcher.reports_focus { "\x1b[?1004h" } else { "\x1b[?1004l" });
        if watcher.key_mode > 0 {
            text.push_str(&format!("\x1b[>4;{}m", watcher.key_mode));
        }
        if !watcher.title.is_empty() {
            text.push_str(&format!("\x1b]2;{}\x1b\\", watcher.title));
        }
        text.into_bytes()
    }
}

/// A parser with nothing on its screen.
fn empty(size: Size) -> Parser<Watcher> {
    let (rows, columns) = cells(size);
    Parser::new_with_callbacks(rows, columns, 0, Watcher::default())
}

/// A size in the parser's types.
pub(super) fn cells(size: Size) -> (NonZeroU16, NonZeroU16) {
    let size = size.clamped();
    let cells = |count| NonZeroU16::new(count).unwrap_or(NonZeroU16::MIN);
    (cells(size.rows), cells(size.columns))
}

/// Collects what the grid does not hold.
#[derive(Debug, Default)]
struct Watcher {
    /// Answers not yet taken.
    replies: Vec<u8>,
    /// Title.
    title: String,
    /// Focus reports (`?1004`).
    reports_focus: bool,
    /// xterm's modifyOtherKeys level.
    key_mode: u16,
}

impl Watcher {
    /// Answers.
    fn reply(&mut self, text: &str) {
        self.replies.extend_from_slice(text.as_bytes());
    }

    /// Answers a device status report; `mark` is `?` for the DEC form.
    fn report_status(&mut self, screen: &vt100::Screen, mark: &str, what: u16) {
        match what {
            5 if mark.is_empty() => self.reply("\x1b[0n"),
            6 => {
                let (row, column) = screen.cursor_position();
                let column = column.min(screen.size().1.get() - 1);
                self.reply(&format!("\x1b[{mark}{};{}R", row + 1, column + 1));
            }
            _ => {}
        }
    }

    /// Answers whether a DEC private mode is set (DECRQM): 1 set, 2 reset, 0 unknown.
    fn report_mode(&mut self, screen: &vt100::Screen, mode: u16) {
        use {MouseProtocolEncoding as Encoding, MouseProtocolMode as Mouse};
        let is_set = match mode {
            1 => screen.application_cursor(),
            9 => screen.mouse_protocol_mode() == Mouse::Press,
            25 => !screen.hide_cursor(),
            47 | 1047 | 1049 => screen.alternate_screen(),
            1000 => screen.mouse_protocol_mode() == Mouse::PressRelease,
            1002 => screen.mouse_protocol_mode() == Mouse::ButtonMotion,
            1003 => screen.mouse_protocol_mode() == Mouse::AnyMotion,
            1004 => self.reports_focus,
            1005 => screen.mouse_protocol_encoding() == Encoding::Utf8,
            1006 => screen.mouse_protocol_encoding() == Encoding::Sgr,
            2004 => screen.bracketed_paste(),
            _ => return self.reply(&format!("\x1b[?{mode};0$y")),
        };
        self.reply(&format!("\x1b[?{mode};{}$y", if is_set { 1 } else { 2 }));
    }
}

impl Callbacks for Watcher {
    fn set_window_title(&mut self, _: &mut vt100::Screen, title: &[u8]) {
        self.title = String::from_utf8_lossy(title).chars().filter(|character| !character.is_control()).collect();
    }

    fn unhandled_csi(
        &mut self,
        screen: &mut vt100::Screen,
        first: Option<u8>,
        second: Option<u8>,
        params: &[&[u16]],
        end: char,
    ) {
        let param = params.first().and_then(|param| param.first()).copied().unwrap_or(0);
        match (first, second, end) {
            // DA1, DA2 and XTVERSION as tmux answers them, whose TERM programs see here.
            (None, _, 'c') if param == 0 => self.reply("\x1b[?1;2c"),
            (Some(b'>'), _, 'c') if param == 0 => self.reply("\x1b[>84;0;0c"),
            (Some(b'>'), _, 'q') if param == 0 => {
                self.reply(concat!("\x1bP>|swarm ", env!("CARGO_PKG_VERSION"), "\x1b\\"));
            }
            (None, _, 'n') => self.report_status(screen, "", param),
            (Some(b'?'), None, 'n') => self.report_status(screen, "?", param),
            (Some(b'?'), Some(b'$'), 'p') => self.report_mode(screen, param),
            (Some(b'$'), _, 'p') => self.reply(&format!("\x1b[{param};0$y")),
            (None, _, 't') if param == 18 => {
                let (rows, columns) = screen.size();
                self.reply(&format!("\x1b[8;{rows};{columns}t"));
            }
            (Some(b'?'), None, 'h' | 'l') if params.contains(&&[1004][..]) => self.reports_focus = end == 'h',
            (Some(b'>'), _, 'm') if param == 4 => {
                self.key_mode = params.get(1).and_then(|level| level.first()).copied().unwrap_or(0).min(2);
            }
            // `?u`, the kitty keyboard query, stays unanswered: by its protocol that means "not here", and programs
            // ask DA1 after it. An answer would promise key codes that nothing here sends.
            _ => {}
        }
    }

    fn unhandled_osc(&mut self, _: &mut vt100::Screen, params: &[&[u8]]) {
        match params {
            [b"10", b"?"] => self.reply("\x1b]10;rgb:e5e5/e5e5/e5e5\x1b\\"),
            [b"11", b"?"] => self.reply("\x1b]11;rgb:0000/0000/0000\x1b\\"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
