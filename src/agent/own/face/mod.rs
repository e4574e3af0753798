//! The loop's face in its terminal: text as it streams, calls and their results, and a line to type in.
//!
//! What was said scrolls up and is never touched again; only the block at the bottom (the draft, or a question) is
//! drawn anew. While the model writes and nobody types there is no block, and text is passed on as it comes; once
//! somebody types, it is passed on in whole lines above the draft.

mod draft;
mod keys;
mod paint;

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use self::draft::Draft;
use self::keys::{Key, Keys};
use self::paint::Ink;
pub(super) use self::paint::Style;
use super::tools::Call;
use super::turn::{Choice, Show};
use crate::model::counted;

/// A second Control-C within this time ends the loop.
const TWICE: Duration = Duration::from_secs(2);
/// Lines of a draft that are shown.
const DRAFT_LINES: usize = 8;
/// What `/help` says.
const HELP: [&str; 9] = [
    "Type a message and press Enter. While the model works it is queued.",
    "   Alt-Enter    a new line in the message",
    "   Ctrl-C       interrupt the turn; twice: end",
    "   Ctrl-U       empty the line",
    "   Ctrl-D       end, on an empty line",
    "   /status      model, tokens, list of what is to do",
    "   /help        this",
    "   /exit        end",
    "A pasted text is never a command.",
];

/// What a person wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    /// Something for the model.
    Message(String),
    /// An answer to the question.
    Decide(Choice),
    /// The turn shall end.
    Interrupt,
    /// To know how things are.
    Status,
    /// The loop shall end.
    End,
    /// The loop shall end when its work is done.
    EndWhenDone,
}

/// What is being streamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    /// Nothing.
    None,
    /// The model's text.
    Text,
    /// The model's thoughts.
    Thinking,
}

/// How the face looks and where it is.
pub(super) struct Frame {
    /// Where it is drawn.
    pub(super) screen: Box<dyn Write + Send>,
    /// Whether that is a terminal whose input comes key by key.
    pub(super) is_terminal: bool,
    /// Colours.
    pub(super) style: Style,
    /// Columns of the terminal.
    pub(super) columns: usize,
    /// Paths are shown from here on.
    pub(super) worktree: PathBuf,
}

/// The face.
pub(super) struct Face {
    frame: Frame,
    keys: Keys,
    draft: Draft,
    /// Lines of input that are not whole, where it does not come key by key.
    line: Vec<u8>,
    /// A turn is under way.
    is_busy: bool,
    /// What is asked.
    question: Option<Call>,
    /// In which row of the block the cursor is; `None` when no block is drawn.
    drawn: Option<usize>,
    /// Whether the text above ends a line.
    is_line_start: bool,
    stream: Stream,
    /// Text that waits for the end of its line.
    held: String,
    /// When Control-C was pressed last.
    interrupted_at: Option<Instant>,
}

impl Face {
    /// A face; nothing is drawn before something is to be shown.
    pub(super) fn new(frame: Frame) -> Self {
        let mut face = Self {
            frame,
            keys: Keys::default(),
            draft: Draft::default(),
            line: Vec::new(),
            is_busy: false,
            question: None,
            drawn: None,
            is_line_start: true,
            stream: Stream::None,
            held: String::new(),
            interrupted_at: None,
        };
        if face.frame.is_terminal {
            face.put("\x1b[?2004h");
        }
        face
    }

    /// Says who is there.
    pub(super) fn greet(&mut self, model: &str, is_resumed: bool) {
        let goes_on = if is_resumed { ", the conversation goes on" } else { "" };
        self.say(&[self
            .frame
            .style
            .paint(Ink::Dim, &format!("swarm agent loop, {model}{goes_on}. /help shows the keys."))]);
    }

    /// The terminal has another width.
    pub(super) fn resize(&mut self, columns: usize) {
        self.erase();
        self.frame.columns = columns;
        self.draw();
    }

    /// A turn begins or ended.
    pub(super) fn set_busy(&mut self, is_busy: bool) {
        self.end_stream();
        self.is_busy = is_busy;
        self.draw();
    }

    /// Asks about a call, or asks no more.
    pub(super) fn ask(&mut self, question: Option<Call>) {
        self.end_stream();
        self.question = question;
        self.erase();
        if let (Some(call), false) = (&self.question, self.frame.is_terminal) {
            let question = self.frame.style.question(call);
            self.say(&[question]);
        }
        self.draw();
    }

    /// More of the model's text.
    pub(super) fn text(&mut self, text: &str) {
        self.pass_on(Stream::Text, text);
    }

    /// More of the model's thoughts.
    pub(super) fn thinking(&mut self, text: &str) {
        self.pass_on(Stream::Thinking, text);
    }

    /// Shows something of the turn.
    pub(super) fn show(&mut self, show: &Show) {
        let style = self.frame.style;
        let lines = match show {
            Show::Call(call) => style.call(call, &self.frame.worktree),
            Show::Result(call, output) => style.result(call, output),
            Show::Note(text) => vec![style.paint(Ink::Dim, &format!("   ({text})"))],
            Show::Problem(text) => vec![style.paint(Ink::Red, &format!("error: {text}"))],
            Show::Delivered(_) => return,
        };
        self.say(&lines);
    }

    /// Shows what the person said, and whether it waits.
    pub(super) fn echo(&mut self, text: &str, is_queued: bool) {
        let style = self.frame.style;
        let mark = |at: usize| if at == 0 { "> " } else { "  " };
        let plain = |line: &str| line.chars().filter(|letter| !letter.is_control()).collect::<String>();
        let mut lines: Vec<String> =
            text.trim_end().lines().enumerate().map(|(at, line)| format!("{}{}", mark(at), plain(line))).collect();
        let more = lines.len().saturating_sub(DRAFT_LINES);
        if more > 0 {
            lines.truncate(DRAFT_LINES);
            lines.push(format!("  ... {} more", counted(more, "line")));
        }
        let mut lines: Vec<String> = lines.iter().map(|line| style.paint(Ink::Person, line)).collect();
        if is_queued {
            lines.push(style.paint(Ink::Dim, "   (queued: the model gets it with its next step)"));
        }
        self.say(&lines);
    }

    /// Shows figures by name.
    pub(super) fn figures(&mut self, pairs: &[(&str, String)]) {
        self.say(&paint::figures(pairs));
    }

    /// Shows a list of what is to do.
    pub(super) fn todos(&mut self, todos: &[super::tools::Todo]) {
        let lines = self.frame.style.todos(todos);
        self.say(&lines);
    }

    /// Takes what was typed. No bytes are the end of the input.
    pub(super) fn typed(&mut self, bytes: &[u8]) -> Vec<Act> {
        if self.frame.is_terminal {
            let keys = self.keys.feed(bytes);
            let acts = keys.into_iter().filter_map(|key| self.press(key)).collect();
            let ended = bytes.is_empty().then_some(Act::End);
            self.draw();
            return [acts, ended.into_iter().collect::<Vec<_>>()].concat();
        }
        self.line.extend_from_slice(bytes);
        let mut acts = Vec::new();
        while let Some(at) = self.line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.line.drain(..=at).collect();
            acts.extend(self.enter(&String::from_utf8_lossy(&line), true));
        }
        if bytes.is_empty() {
            let line = std::mem::take(&mut self.line);
            acts.extend(self.enter(&String::from_utf8_lossy(&line), true));
            acts.push(Act::EndWhenDone);
        }
        acts
    }

    /// Control-C, as a key or as a signal.
    pub(super) fn interrupt(&mut self) -> Option<Act> {
        let is_second = self.interrupted_at.replace(Instant::now()).is_some_and(|before| before.elapsed() < TWICE);
        if is_second {
            return Some(Act::End);
        }
        if self.is_busy {
            return Some(Act::Interrupt);
        }
        self.draft.clear();
        self.say(&[self.frame.style.paint(Ink::Dim, "   (Ctrl-C again ends the loop)")]);
        None
    }

    /// Leaves the terminal as it was.
    pub(super) fn close(&mut self) {
        self.end_stream();
        self.erase();
        if self.frame.is_terminal {
            self.put("\x1b[?2004l");
        }
        self.flush();
    }

    /// Takes one key.
    fn press(&mut self, key: Key) -> Option<Act> {
        if self.question.is_some() && self.draft.is_empty() {
            let choice = match key {
                Key::Letter('y' | 'Y') => Some(Choice::Yes),
                Key::Letter('a' | 'A') => Some(Choice::Always),
                Key::Letter('n' | 'N') | Key::Escape => Some(Choice::No),
                _ => None,
            };
            if let Some(choice) = choice {
                return Some(Act::Decide(choice));
            }
        }
        match key {
            Key::Enter => {
                let (text, is_typed) = self.draft.finish();
                self.enter(&text, is_typed)
            }
            Key::Interrupt => self.interrupt(),
            Key::EndOfInput if self.draft.is_empty() => Some(Act::End),
            Key::Redraw => {
                self.erase();
                None
            }
            // A letter that is no answer to the question is not the beginning of a message.
            Key::Letter(_) if self.question.is_some() && self.draft.is_empty() => None,
            key => {
                self.draft.take(&key);
                None
            }
        }
    }

    /// Takes a line that was entered. Only what was typed by hand can be a command.
    fn enter(&mut self, text: &str, is_typed: bool) -> Option<Act> {
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        if !self.frame.is_terminal && self.question.is_some() {
            match text {
                "y" | "yes" => return Some(Act::Decide(Choice::Yes)),
                "a" | "always" => return Some(Act::Decide(Choice::Always)),
                "n" | "no" => return Some(Act::Decide(Choice::No)),
                _ => {}
            }
        }
        let is_command = is_typed && text.starts_with('/') && !text.contains(['\n', ' ']);
        match text {
            _ if !is_command => return Some(Act::Message(text.to_owned())),
            "/exit" | "/quit" => return Some(Act::End),
            "/status" => return Some(Act::Status),
            "/help" => self.say(&HELP.map(ToOwned::to_owned)),
            // A path is a message like any other.
            path if path[1..].contains('/') => return Some(Act::Message(text.to_owned())),
            other => self.say(&[format!("There is no command {other}; /help shows those that are.")]),
        }
        None
    }

    /// Whether a block belongs at the bottom.
    fn needs_block(&self) -> bool {
        self.frame.is_terminal && (!self.is_busy || !self.draft.is_empty() || self.question.is_some())
    }

    /// Passes streamed text on.
    fn pass_on(&mut self, stream: Stream, text: &str) {
        if self.stream != stream {
            self.end_stream();
            self.stream = stream;
            let text = text.trim_start_matches('\n');
            return if text.is_empty() { self.stream = Stream::None } else { self.pass_on(stream, text) };
        }
        self.held.extend(text.chars().filter(|letter| !letter.is_control() || matches!(letter, '\n' | '\t')));
        let ready = if self.needs_block() { self.held.rfind('\n').map_or(0, |at| at + 1) } else { self.held.len() };
        if ready > 0 {
            let ready: String = self.held.drain(..ready).collect();
            self.write_stream(&ready);
        }
        self.flush();
    }

    /// Writes streamed text above the block.
    fn write_stream(&mut self, text: &str) {
        self.erase();
        let style = self.frame.style;
        if self.stream == Stream::Thinking {
            self.put(style.begin(Ink::Dim));
        }
        self.put_text(text);
        if self.stream == Stream::Thinking {
            self.put(style.end());
        }
        self.is_line_start = text.ends_with('\n');
        self.draw();
    }

    /// The stream is over: its last line ends.
    fn end_stream(&mut self) {
        if self.stream == Stream::None {
            return;
        }
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            self.write_stream(&held);
        }
        self.stream = Stream::None;
        self.erase();
        if !std::mem::replace(&mut self.is_line_start, true) {
            self.put_text("\n");
        }
        self.draw();
    }

    /// Writes whole lines above the block.
    fn say(&mut self, lines: &[String]) {
        self.end_stream();
        self.erase();
        for line in lines {
            self.put_text(line);
            self.put_text("\n");
        }
        self.draw();
    }

    /// Removes the block.
    fn erase(&mut self) {
        if let Some(row) = self.drawn.take() {
            let up = if row > 0 { format!("\x1b[{row}A") } else { String::new() };
            self.put(&format!("{up}\r\x1b[J"));
        }
    }

    /// Draws the block where one belongs.
    fn draw(&mut self) {
        self.erase();
        if !self.needs_block() {
            return self.flush();
        }
        if !std::mem::replace(&mut self.is_line_start, true) {
            self.put_text("\n");
        }
        let (rows, row, column) = self.block();
        let below = rows.len() - 1 - row;
        self.put(&rows.join("\r\n"));
        let up = if below > 0 { format!("\x1b[{below}A") } else { String::new() };
        let right = if column > 0 { format!("\x1b[{column}C") } else { String::new() };
        self.put(&format!("{up}\r{right}"));
        self.drawn = Some(row);
        self.flush();
    }

    /// The rows of the block, each narrower than the terminal, and where the cursor is in them.
    fn block(&self) -> (Vec<String>, usize, usize) {
        let mut rows = Vec::new();
        if let Some(call) = &self.question {
            // Its codes take no room; without them it is cut to the width.
            let plain = Style { is_coloured: false }.question(call);
            let (answers, what) = plain.split_at(plain.rfind("? [").unwrap_or(0));
            let room = self.frame.columns.saturating_sub(what.width() + 1);
            let shown = if answers.width() > room { fit(answers, room).0 } else { answers.to_owned() };
            rows.push(self.frame.style.paint(Ink::Yellow, &format!("{shown}{what}")));
            if self.draft.is_empty() {
                return (rows, 0, 0);
            }
        }
        let (lines, line, column) = self.draft.lines();
        let first = (line + 1).saturating_sub(DRAFT_LINES);
        let room = self.frame.columns.saturating_sub(4).max(1);
        let mut cursor = (0, 2);
        for (at, text) in lines.iter().enumerate().skip(first).take(DRAFT_LINES) {
            let mark = if at == 0 { "> " } else { "  " };
            // A long line is shown around the cursor.
            let skip = if at == line { hidden(text, column, room) } else { 0 };
            let (shown, _) = fit(&text.chars().skip(skip).collect::<String>(), room);
            if at == line {
                let before: String = text.chars().skip(skip).take(column - skip).collect();
                cursor = (rows.len(), 2 + shown_width(&before));
            }
            rows.push(format!("{mark}{shown}"));
        }
        (rows, cursor.0, cursor.1)
    }

    /// Writes text for people; line ends are those of the terminal's mode.
    fn put_text(&mut self, text: &str) {
        if self.frame.is_terminal { self.put(&text.replace('\n', "\r\n")) } else { self.put(text) }
    }

    /// Writes to the screen. A screen that is gone takes nothing, and the loop hears of that by a signal.
    fn put(&mut self, text: &str) {
        self.frame.screen.write_all(text.as_bytes()).ok();
    }

    /// What was written is to be seen.
    fn flush(&mut self) {
        self.frame.screen.flush().ok();
    }
}

/// Columns that a letter of a draft takes; a tab is shown as a space.
fn letter_width(letter: char) -> usize {
    if letter == '\t' { 1 } else { letter.width().unwrap_or(0) }
}

/// Columns that a text of a draft takes.
fn shown_width(text: &str) -> usize {
    text.chars().map(letter_width).sum()
}

/// The beginning of a text that fits into `room` columns, and its width.
fn fit(text: &str, room: usize) -> (String, usize) {
    let (mut shown, mut width) = (String::new(), 0);
    for letter in text.chars() {
        if width + letter_width(letter) > room {
            break;
        }
        width += letter_width(letter);
        shown.push(if letter == '\t' { ' ' } else { letter });
    }
    (shown, width)
}

/// How many letters at the beginning of a line are hidden so that the cursor is within `room` columns.
fn hidden(text: &str, column: usize, room: usize) -> usize {
    let letters: Vec<char> = text.chars().take(column).collect();
    let mut width = 0;
    let shown = letters.iter().rev().take_while(|letter| {
        width += letter_width(**letter);
        width < room
    });
    column - shown.count()
}

#[cfg(test)]
mod tests;
