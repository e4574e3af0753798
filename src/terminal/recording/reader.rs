//! Reads recordings: event by event for replay, or as the plain text that scrolled by.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use vt100::capture::{BasicFormattedCaptureRange, BasicFormattedCaptureState, RowContents, basic_formatted_to_plain};
use vt100::{Callbacks, Parser};

use super::{CastHeader, RecordingError};
use crate::files::FileError;
use crate::terminal::Size;
use crate::terminal::screen::cells;

/// Rows that the parser itself keeps above the screen: a screen that grows pulls rows back down, and blank ones where
/// it has kept none.
const PULLED_BACK: usize = 1000;

/// What an event of a recording is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// The program wrote.
    Output,
    /// Somebody typed.
    Input,
    /// The terminal got another size.
    Resize(Size),
}

/// One event of a recording.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CastEvent {
    /// Time since the start.
    pub(crate) at: Duration,
    /// What it is.
    pub(crate) kind: EventKind,
    /// What was written or typed; empty for sizes.
    pub(crate) text: String,
}

/// Reads the events of a recording in order, also while it is being written.
#[derive(Debug)]
pub(crate) struct CastReader {
    /// The file.
    file: BufReader<File>,
    /// Its path, for errors.
    path: PathBuf,
    /// The header.
    header: CastHeader,
    /// Start of a line whose end has not been written yet.
    partial: Vec<u8>,
}

impl CastReader {
    /// Opens a recording.
    ///
    /// # Errors
    /// When it is missing, or its header is not whole or not that of a recording.
    pub(crate) fn open(path: &Path) -> Result<Self, RecordingError> {
        let file = File::open(path).map_err(FileError::on("open the recording", path))?;
        let mut file = BufReader::new(file);
        let mut line = Vec::new();
        file.read_until(b'\n', &mut line).map_err(FileError::on("read the recording", path))?;
        let header = parse_header(path, &line)?;
        Ok(Self { file, path: path.to_owned(), header, partial: Vec::new() })
    }

    /// The header.
    pub(crate) fn header(&self) -> &CastHeader {
        &self.header
    }

    /// The next whole event; `None` at the present end, where a later call may find more. Torn and unknown lines are
    /// passed over.
    pub(crate) fn next_event(&mut self) -> Result<Option<CastEvent>, RecordingError> {
        loop {
            let count = self.file.read_until(b'\n', &mut self.partial);
            count.map_err(FileError::on("read the recording", &self.path))?;
            if !self.partial.ends_with(b"\n") {
                return Ok(None);
            }
            let line = std::mem::take(&mut self.partial);
            if let Some(event) = parse_event(&line) {
                return Ok(Some(event));
            }
        }
    }
}

/// Parses the header line.
pub(super) fn parse_header(path: &Path, line: &[u8]) -> Result<CastHeader, RecordingError> {
    let not_a_cast = |source| RecordingError::NotACast { path: path.to_owned(), source };
    let header: CastHeader = serde_json::from_slice(line).map_err(|error| not_a_cast(Some(error)))?;
    if header.version == 2 { Ok(header) } else { Err(not_a_cast(None)) }
}

/// Parses one event line; `None` for anything else.
pub(super) fn parse_event(line: &[u8]) -> Option<CastEvent> {
    /// The line as JSON has it.
    #[derive(Deserialize)]
    struct Line(f64, String, String);
    let Line(seconds, kind, text) = serde_json::from_slice(line).ok()?;
    let at = Duration::try_from_secs_f64(seconds).ok()?;
    match kind.as_str() {
        "o" => Some(CastEvent { at, kind: EventKind::Output, text }),
        "i" => Some(CastEvent { at, kind: EventKind::Input, text }),
        "r" => {
            let (columns, rows) = text.split_once('x')?;
            let size = Size { columns: columns.parse().ok()?, rows: rows.parse().ok()? };
            Some(CastEvent { at, kind: EventKind::Resize(size), text: String::new() })
        }
        _ => None,
    }
}

/// The last `count` lines a recording shows when its output is written to a terminal: what scrolled off its main
/// screen, then what stands on the screen at the end. Memory is bounded by `count`. Lines
/// that stand on the screen while its width changes stay cut where they were.
pub(crate) fn plain_text(path: &Path, count: usize) -> Result<Vec<String>, RecordingError> {
    let mut reader = CastReader::open(path)?;
    let (rows, columns) = cells(reader.header().size());
    let history = History { count, lines: VecDeque::new(), state: BasicFormattedCaptureState::new() };
    let mut parser = Parser::new_with_callbacks(rows, columns, PULLED_BACK, history);
    while let Some(event) = reader.next_event()? {
        match event.kind {
            EventKind::Output => parser.process(event.text.as_bytes()),
            EventKind::Resize(size) => {
                let (rows, columns) = cells(size);
                parser.set_size(rows, columns);
            }
            EventKind::Input => {}
        }
    }
    let (screen, history) = parser.screen_and_callbacks_mut();
    let mut rows = String::new();
    let range = BasicFormattedCaptureRange::Full(&mut history.state);
    screen.write_contents_formatted_basic(&mut rows, range).expect("a string takes everything");
    history.append(&rows, true);
    Ok(history.lines.iter().map(|line| line.trim_end().to_owned()).collect())
}

/// The last lines that scrolled off.
struct History {
    /// How many are kept.
    count: usize,
    /// The lines.
    lines: VecDeque<String>,
    /// Whether the next row continues the last line.
    state: BasicFormattedCaptureState,
}

impl History {
    /// Adds rows as the parser prints them: each begins with a newline unless it continues the row before. The last
    /// rows of all are cut where nothing follows.
    fn append(&mut self, rows: &str, is_last: bool) {
        let plain: String = basic_formatted_to_plain(rows).collect();
        let plain = if is_last { plain.trim_end() } else { &plain };
        for (at, row) in plain.split('\n').enumerate() {
            match self.lines.back_mut() {
                Some(line) if at == 0 => line.push_str(row),
                _ => self.lines.push_back(row.to_owned()),
            }
        }
        while self.lines.len() > self.count {
            self.lines.pop_front();
        }
    }
}

impl Callbacks for History {
    fn on_scroll(&mut self, contents: RowContents<'_>, alternate_screen: bool) {
        if !alternate_screen {
            let mut row = String::new();
            contents.write_formatted_basic(&mut row, &mut self.state).expect("a string takes everything");
            self.append(&row, false);
        }
    }
}
