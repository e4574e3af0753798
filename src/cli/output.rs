//! Where text goes and how it looks: standard output is the answer, standard error the narration. Colour and width
//! are decided once.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use super::args::{ColorChoice, Global};
use crate::coordinator::{Failure, FailureKind};
use crate::model::worker::Status;

/// Lines of a command's output that are shown where it failed.
const OUTPUT_LINES: usize = 20;

/// The process's streams with the decisions that hold for the whole call.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    /// Print JSON.
    pub(crate) json: bool,
    /// Colour on standard output.
    pub(crate) color: bool,
    /// Colour on standard error.
    color_err: bool,
    /// Narration is wanted.
    pub(crate) narrate: bool,
    /// Details are wanted.
    pub(crate) verbose: bool,
}

/// Ways a piece of text can stand out; never the only signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// As it is.
    Plain,
    /// Headings.
    Bold,
    /// Less important.
    Dim,
    /// Good.
    Green,
    /// Wants a look.
    Yellow,
    /// Bad.
    Red,
    /// In motion.
    Cyan,
}

impl Style {
    /// The SGR parameters.
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "0",
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "31",
            Self::Cyan => "36",
        }
    }

    /// The style of a status.
    pub(crate) fn of(status: Status) -> Self {
        match status {
            Status::Working | Status::Starting => Self::Cyan,
            Status::Done => Self::Green,
            Status::Waiting | Status::Idle | Status::Paused | Status::Unknown => Self::Yellow,
            Status::Failed | Status::Lost => Self::Red,
            Status::Stopped => Self::Dim,
        }
    }
}

impl Output {
    /// Decides from the flags, the environment's `NO_COLOR`, and what the streams are.
    pub(crate) fn decide(global: &Global, no_color: bool) -> Self {
        let wanted = |is_terminal: bool| match global.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => is_terminal && !no_color,
        };
        Self {
            json: global.json,
            color: wanted(io::stdout().is_terminal()),
            color_err: wanted(io::stderr().is_terminal()),
            narrate: !global.quiet,
            verbose: global.verbose > 0,
        }
    }

    /// Without colour, for tests of what is shown.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self { json: false, color: false, color_err: false, narrate: true, verbose: false }
    }

    /// `text` in `style` for standard output.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        paint(self.color, style, text)
    }

    /// Writes text to standard output. A reader that went away is success (ripgrep's rule).
    ///
    /// This is the door through which everything passes that agents, programs and files of a repository say: of its
    /// control characters none reaches a terminal, but the colours of [`Output::paint`].
    pub(crate) fn print(&self, text: &str) -> Result<(), Failure> {
        self.print_bytes(self.visible(text).as_bytes())
    }

    /// Writes bytes to standard output as they are.
    pub(crate) fn print_bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(closed_pipe()),
            Err(error) => Err(Failure::from_error(FailureKind::Failed, &error)),
        }
    }

    /// Whether somebody can still read standard output: a pipe whose other end is closed says so when asked (poll(2)).
    pub(crate) fn has_reader(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, poll};
        let out = io::stdout();
        let mut ends = [PollFd::new(&out, PollFlags::empty())];
        // Who cannot be asked is taken to be there: the next write tells.
        let asked = poll(&mut ends, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }));
        asked.is_err() || !ends[0].revents().intersects(PollFlags::ERR | PollFlags::NVAL)
    }

    /// Writes one line to standard output.
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        self.print(&format!("{text}\n"))
    }

    /// Text for standard output, with what would not be safe there made visible.
    pub(crate) fn visible(&self, text: &str) -> String {
        visible(text, self.color)
    }

    /// Writes a view as one JSON document.
    pub(crate) fn document(&self, view: &impl Serialize) -> Result<(), Failure> {
        self.json(serde_json::to_string_pretty(view))
    }

    /// Writes a record as one line of JSON.
    pub(crate) fn record(&self, view: &impl Serialize) -> Result<(), Failure> {
        self.json(serde_json::to_string(view))
    }

    /// Writes JSON, with the control characters that JSON itself allows in strings as escapes of JSON.
    fn json(&self, text: serde_json::Result<String>) -> Result<(), Failure> {
        let text = text.map_err(|error| Failure::from_error(FailureKind::Internal, &error))?;
        let mut safe = String::with_capacity(text.len() + 1);
        for c in text.chars() {
            if c == '\n' || !is_unsafe(c) {
                safe.push(c);
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(safe, "\\u{unit:04x}").expect("a string takes all text");
                }
            }
        }
        safe.push('\n');
        self.print_bytes(safe.as_bytes())
    }

    /// Writes one line of narration to standard error.
    pub(crate) fn narrate(&self, text: &str) {
        if self.narrate {
            self.err_line(text);
        }
    }

    /// Writes a warning to standard error.
    pub(crate) fn warn(&self, text: &str) {
        if self.narrate {
            self.err_line(&format!("{} {text}", paint(self.color_err, Style::Yellow, "warning:")));
        }
    }

    /// Writes a failure: error, causes, hints.
    pub(crate) fn failure(&self, failure: &Failure) {
        let mut chain = failure.chain.iter();
        let first = chain.next().map_or("", String::as_str);
        self.err_line(&format!("{} {first}", paint(self.color_err, Style::Red, "error:")));
        for cause in chain {
            self.err_line(&format!("  caused by: {cause}"));
        }
        for hint in &failure.hints {
            self.err_line(&format!("{} {hint}", paint(self.color_err, Style::Cyan, "hint:")));
        }
    }

    /// One line to standard error; a closed one is ignored, there is nobody left to tell.
    fn err_line(&self, text: &str) {
        let text = visible(text, self.color_err);
        let columns = io::stderr().is_terminal().then(crate::terminal::terminal_size).flatten();
        let text = match columns.map(|size| usize::from(size.columns)) {
            Some(columns) => {
                let lines = text.split('\n').flat_map(|line| wrapped(line, columns));
                lines.collect::<Vec<_>>().join("\n")
            }
            None => text,
        };
        writeln!(io::stderr().lock(), "{text}").ok();
    }
}

/// The failure that means: the reader of standard output is gone, end quietly.
fn closed_pipe() -> Failure {
    Failure { kind: FailureKind::Failed, chain: Vec::new(), hints: Vec::new() }
}

/// Whether a failure is only a closed pipe.
pub(crate) fn is_closed_pipe(failure: &Failure) -> bool {
    failure.chain.is_empty()
}

/// Wraps text in SGR codes.
fn paint(color: bool, style: Style, text: &str) -> String {
    if color && style != Style::Plain && !text.is_empty() {
        format!("\x1b[{}m{text}\x1b[0m", style.code())
    } else {
        text.to_owned()
    }
}

/// Columns of the terminal on standard output; `None` when it is none.
pub(crate) fn width() -> Option<usize> {
    io::stdout().is_terminal().then(|| crate::terminal::terminal_size().map(|size| usize::from(size.columns)))?
}

/// A text in lines of at most `room` columns, broken at spaces where there are any.
pub(crate) fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is one from the beginning");
        if line.is_empty() {
            line.push_str(word);
        } else if line.width() + 1 + word.width() <= room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// A text as lines that fit the terminal on standard output, each line after the first moved in by `indent` more than the
/// first, which has `indent`; as it is where there is no terminal.
pub(crate) fn paragraph(text: &str, indent: usize) -> String {
    let room = width().map_or(usize::MAX, |columns| columns.saturating_sub(indent + 2).max(FLEXIBLE_MIN));
    wrapped(text, room).join(&format!("\n{:1$}", "", indent + 2))
}

/// Room that the flexible column gets before optional ones are shown.
const FLEXIBLE_MIN: usize = 24;

/// A table without lines: columns are as wide as needed, and the one marked flexible gives way on a terminal.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Header, then rows.
    rows: Vec<Vec<(Style, String)>>,
    /// Index of the column that is cut when the terminal is too narrow.
    flexible: Option<usize>,
    /// Columns that are left out on a terminal that is too narrow, the first one first.
    optional: Vec<usize>,
}

impl Table {
    /// A table with these headings; the column `flexible` gives way.
    pub(crate) fn new(headings: &[&str], flexible: Option<usize>) -> Self {
        let header = headings.iter().map(|heading| (Style::Dim, (*heading).to_owned())).collect();
        Self { rows: vec![header], flexible, optional: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = (Style, String)>) {
        self.rows.push(cells.into_iter().map(|(style, text)| (style, one_line(&text))).collect());
    }

    /// Names columns that a narrow terminal does without, the first one first.
    pub(crate) fn optional(mut self, columns: &[usize]) -> Self {
        self.optional = columns.to_vec();
        self
    }

    /// The columns that fit into `width` with at least `FLEXIBLE_MIN` for the flexible one.
    fn fitting(&self, widths: &[usize], width: Option<usize>) -> Vec<usize> {
        let mut shown: Vec<usize> = (0..widths.len()).collect();
        let Some(limit) = width else { return shown };
        let needed = |column: usize| match self.flexible {
            Some(flexible) if flexible == column => widths[column].min(FLEXIBLE_MIN),
            _ => widths[column],
        };
        for column in &self.optional {
            let total: usize = shown.iter().map(|column| needed(*column) + 2).sum();
            if total.saturating_sub(2) <= limit {
                break;
            }
            shown.retain(|shown| shown != column);
        }
        shown
    }

    /// The table as text, at most `width` columns wide where that is possible.
    pub(crate) fn render(&self, color: bool, width: Option<usize>) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let mut widths: Vec<usize> = (0..columns)
            .map(|column| self.rows.iter().filter_map(|row| row.get(column)).map(|(_, text)| text.width()).max())
            .map(Option::unwrap_or_default)
            .collect();
        let shown = self.fitting(&widths, width);
        if let (Some(limit), Some(flexible)) = (width, self.flexible) {
            let total: usize = shown.iter().map(|column| widths[*column] + 2).sum::<usize>().saturating_sub(2);
            let others = total - widths[flexible];
            widths[flexible] = widths[flexible].min(limit.saturating_sub(others).max(12));
        }
        let last = shown.last().copied();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (style, cell)) in row.iter().enumerate().filter(|(column, _)| shown.contains(column)) {
                let cell = cut(cell, widths[column]);
                let pad = if Some(column) == last { 0 } else { widths[column] - cell.width() + 2 };
                write!(line, "{}{:pad$}", paint(color, *style, &cell), "").expect("a string takes all text");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// The last lines of what a command wrote, indented and without control characters.
pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.trim_end().lines().collect();
    let skipped = lines.len().saturating_sub(OUTPUT_LINES);
    let mut shown = if skipped > 0 { "    ...\n".to_owned() } else { String::new() };
    for line in &lines[skipped..] {
        writeln!(shown, "    {}", one_line(line)).expect("a string takes all text");
    }
    shown
}

/// Replaces line breaks and everything else that does something to a terminal by spaces: one line of plain text.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) { ' ' } else { c }).collect()
}

/// Text in which nothing can move the cursor, ring, hide, reorder or rename: such a character is shown as its escape.
/// Line breaks and tabs stay, and with `color` sequences that only choose colours.
pub(crate) fn visible(text: &str, color: bool) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let colors = color.then(|| color_sequence(rest)).flatten();
        let length = colors.unwrap_or_else(|| c.len_utf8());
        if colors.is_some() || matches!(c, '\n' | '\t') || !is_unsafe(c) {
            shown.push_str(&rest[..length]);
        } else {
            shown.extend(c.escape_default());
        }
        rest = &rest[length..];
    }
    shown
}

/// The length of the sequence at the start of `text` that chooses a colour or weight: `ESC [`, numbers, `m` (SGR of
/// ECMA-48).
fn color_sequence(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|c: char| !matches!(c, '0'..='9' | ';' | ':'))?;
    parameters[end..].starts_with('m').then_some(2 + end + 1)
}

/// Whether a character does something to the text around it or to the terminal: control characters, marks of direction,
/// and those that are not to be seen.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{61c}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// Cuts to `width` columns, with an ellipsis where something is missing.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    for c in text.chars() {
        let mut longer = short.clone();
        longer.push(c);
        if longer.width() + 1 > width {
            break;
        }
        short = longer;
    }
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_the_terminal_by_cutting_the_flexible_column() {
        let mut table = Table::new(&["A", "B"], Some(1));
        table.row([(Style::Plain, "x".to_owned()), (Style::Plain, "a long text that does not fit".to_owned())]);
        insta::assert_snapshot!(table.render(false, Some(18)), @r"
        A  B
        x  a long text th…
        ");
    }

    #[test]
    fn of_a_long_output_the_last_lines_are_shown_and_none_moves_the_cursor() {
        let text: String = (1..=30).map(|number| format!("line {number}\x1b[2J\n")).collect();
        let shown = last_lines(&text);
        assert!(shown.starts_with("    ...\n    line 11 [2J\n") && shown.ends_with("    line 30 [2J\n"), "{shown}");
        assert_eq!((last_lines("one\n"), last_lines("")), ("    one\n".to_owned(), String::new()));
    }

    #[test]
    fn nothing_that_is_printed_can_do_more_than_choose_a_colour() {
        let evil = "a\x1b[31mred\x1b]0;title\x07\x1b[2J\r\u{9b}2J\u{202e}b\x7f\tc\n";
        let shown = r"a\u{1b}[31mred\u{1b}]0;title\u{7}\u{1b}[2J\r\u{9b}2J\u{202e}b\u{7f}".to_owned() + "\tc\n";
        assert_eq!(visible(evil, false), shown);
        assert_eq!(visible(evil, true), shown.replacen("\\u{1b}[31m", "\x1b[31m", 1));
        assert_eq!(visible("\x1b[0;38:5:1m\x1b[mé日", true), "\x1b[0;38:5:1m\x1b[mé日");
        assert_eq!(visible("\x1b[12", true), r"\u{1b}[12");
    }

    #[test]
    fn a_narrow_terminal_does_without_the_optional_columns() {
        let mut table = Table::new(&["A", "BRANCH", "WHY"], Some(2)).optional(&[1]);
        let cells = ["x", "a-branch-with-a-long-name", "a reason of thirty characters."];
        table.row(cells.map(|cell| (Style::Plain, cell.to_owned())));
        assert!(table.render(false, Some(80)).contains("BRANCH"));
        let narrow = table.render(false, Some(40));
        assert!(!narrow.contains("BRANCH") && narrow.contains("a reason of thirty characters."), "{narrow}");
    }

    #[test]
    fn wide_characters_and_control_codes_keep_columns_straight() {
        let mut table = Table::new(&["A", "B"], None);
        table.row([(Style::Plain, "日本".to_owned()), (Style::Red, "b\x1b[2J\nc".to_owned())]);
        insta::assert_snapshot!(table.render(false, None), @r"
        A     B
        日本  b [2J c
        ");
    }

    #[test]
    fn text_is_broken_at_spaces_and_long_words_stay_whole() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("aaaaaaaaaa b", 4), ["aaaaaaaaaa", "b"]);
        assert_eq!(wrapped("", 4), [""]);
    }
}
