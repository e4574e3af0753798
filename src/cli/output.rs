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

/// A number of bytes for a person: `512 B`, `1.5 kB`, `23 MB`.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    // In tenths of the unit, so that no digit is made up.
    let (mut tenths, mut unit) = (bytes / 100, 0);
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        (tenths, unit) = (tenths / 1000, unit + 1);
    }
    let name = UNITS[unit];
    if tenths < 100 { format!("{}.{} {name}", tenths / 10, tenths % 10) } else { format!("{} {name}", tenths / 10) }
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

    /// `text` in `style` for standard output.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        paint(self.color, style, text)
    }

    /// Writes text to standard output. A reader that went away is success (ripgrep's rule).
    pub(crate) fn print(&self, text: &str) -> Result<(), Failure> {
        self.print_bytes(text.as_bytes())
    }

    /// Writes bytes to standard output.
    pub(crate) fn print_bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(closed_pipe()),
            Err(error) => Err(Failure::from_error(FailureKind::Failed, &error)),
        }
    }

    /// Writes one line to standard output.
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        self.print(&format!("{text}\n"))
    }

    /// Writes a view as one JSON document.
    pub(crate) fn document(&self, view: &impl Serialize) -> Result<(), Failure> {
        let text =
            serde_json::to_string_pretty(view).map_err(|error| Failure::from_error(FailureKind::Internal, &error))?;
        self.line(&text)
    }

    /// Writes one line of narration to standard error.
    pub(crate) fn narrate(&self, text: &str) {
        if self.narrate {
            err_line(text);
        }
    }

    /// Writes a warning to standard error.
    pub(crate) fn warn(&self, text: &str) {
        if self.narrate {
            err_line(&format!("{} {text}", paint(self.color_err, Style::Yellow, "warning:")));
        }
    }

    /// Writes a failure: error, causes, hints.
    pub(crate) fn failure(&self, failure: &Failure) {
        let mut chain = failure.chain.iter();
        let first = chain.next().map_or("", String::as_str);
        err_line(&format!("{} {first}", paint(self.color_err, Style::Red, "error:")));
        for cause in chain {
            err_line(&format!("  caused by: {cause}"));
        }
        for hint in &failure.hints {
            err_line(&format!("{} {hint}", paint(self.color_err, Style::Cyan, "hint:")));
        }
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

/// One line to standard error; a closed one is ignored, there is nobody left to tell.
fn err_line(text: &str) {
    writeln!(io::stderr().lock(), "{text}").ok();
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

/// Makes line breaks and control characters visible as spaces, so that no text can move the cursor.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
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
    fn sizes_have_two_or_three_digits_and_a_unit() {
        let shown = [0, 999, 1000, 1550, 99_949, 100_000, 12_345_678, 5_000_000_000].map(bytes_text);
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "1.5 kB", "99 kB", "100 kB", "12 MB", "5.0 GB"]);
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
}
