//! Recordings of terminals as asciicast version 2: a JSON header line, then one JSON array a line.
//!
//! Only output and sizes are recorded: input holds secrets. Lines are buffered until [`Recording::flush`] or a bound
//! on the buffer, then written by one appending write. A crash loses what was buffered and may tear the last line;
//! readers skip a torn line and a writer that goes on begins a new one. A long recording goes aside and a new one begins
//! with a picture of the screen, so that an agent that prints without end costs no more disk than two of them.

mod reader;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Size;
use crate::files::{self, FileError};
use crate::model::Time;

pub(crate) use reader::plain_text;
#[cfg(test)]
use reader::{CastEvent, CastReader, EventKind};

/// Written without waiting for a flush once so much is buffered.
const BUFFER_BYTES: usize = 64 * 1024;

/// A recording over this size, in bytes, goes aside: hours of a busy terminal, a few seconds of a flood.
const LONG: u64 = 64 * 1024 * 1024;

/// First line of a recording, as far as it matters here; unknown keys are passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CastHeader {
    /// Version of the format: 2.
    version: u32,
    /// Columns at the start.
    width: u16,
    /// Rows at the start.
    height: u16,
    /// Start in whole seconds since 1970.
    timestamp: i64,
    /// What it is a recording of.
    #[serde(default)]
    title: String,
    /// `TERM` of the program, no other variable.
    #[serde(default)]
    env: CastEnv,
}

/// The recorded part of the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct CastEnv {
    /// Terminal type.
    #[serde(rename = "TERM", default)]
    term: String,
}

impl CastHeader {
    /// A header for a recording that starts now.
    pub(crate) fn new(size: Size, term: &str, title: &str) -> Self {
        let Size { columns: width, rows: height } = size.clamped();
        let timestamp = Time::now().as_millis().div_euclid(1000);
        let env = CastEnv { term: term.to_owned() };
        Self { version: 2, width, height, timestamp, title: title.to_owned(), env }
    }

    /// Size at the start.
    pub(crate) fn size(&self) -> Size {
        Size { columns: self.width, rows: self.height }.clamped()
    }
}

/// A recording that could not be written or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordingError {
    /// The disk refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not an asciicast of version 2.
    #[error("`{}` is not a terminal recording", path.display())]
    NotACast {
        /// The file.
        path: PathBuf,
        /// What the header line fails on; none when the version is another.
        #[source]
        source: Option<serde_json::Error>,
    },
}

/// A recording being written.
#[derive(Debug)]
pub(crate) struct Recording {
    /// The file, appending.
    file: File,
    /// Its path, for errors.
    path: PathBuf,
    /// Whole lines not yet written.
    buffer: Vec<u8>,
    /// Start of a character whose rest has not come yet.
    carry: Vec<u8>,
    /// Bytes in the file.
    length: u64,
    /// The header of the next file.
    header: CastHeader,
    /// When this writer began.
    began: Instant,
    /// Recording time at that moment.
    offset: Duration,
}

impl Recording {
    /// Begins a recording, or goes on with the one at `path`, whose header then stays and whose time runs on.
    ///
    /// # Errors
    /// When the file cannot be opened or holds something else.
    pub(crate) fn open(path: &Path, header: &CastHeader) -> Result<Self, RecordingError> {
        let file = files::open_log(path)?;
        let earlier = earlier(path)?;
        let mut recording = Self {
            length: file.metadata().map_or(0, |meta| meta.len()),
            file,
            path: path.to_owned(),
            buffer: Vec::new(),
            carry: Vec::new(),
            header: header.clone(),
            began: Instant::now(),
            offset: Duration::ZERO,
        };
        match earlier {
            None => recording.push(header),
            Some(earlier) => {
                let millis = Time::now().as_millis() - earlier.header.timestamp.saturating_mul(1000);
                let passed = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
                // A clock that was set back must not make time run backwards in the file.
                recording.offset = passed.max(earlier.last);
                if earlier.is_torn {
                    recording.buffer.push(b'\n');
                }
                recording.resize(header.size());
            }
        }
        recording.flush()?;
        Ok(recording)
    }

    /// Records what the program wrote, split anywhere. Bytes that are no UTF-8 become U+FFFD.
    pub(crate) fn output(&mut self, bytes: &[u8]) -> Result<(), RecordingError> {
        let text = decode(&mut self.carry, bytes);
        self.event("o", &text)
    }

    /// Records a new size.
    pub(crate) fn resize(&mut self, size: Size) {
        let Size { columns, rows } = size.clamped();
        self.push(&(self.seconds(), "r", format!("{columns}x{rows}")));
    }

    /// Writes what is buffered; how long that may wait is the caller's decision.
    pub(crate) fn flush(&mut self) -> Result<(), RecordingError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all(&self.buffer);
        self.length += self.buffer.len() as u64;
        // Kept lines would be written twice in part after a full disk; the gap is the lesser harm.
        self.buffer.clear();
        Ok(written.map_err(FileError::on("write the recording", &self.path))?)
    }

    /// Whether it is so long that [`Recording::begin_anew`] is due.
    pub(crate) fn is_long(&self) -> bool {
        self.length > LONG
    }

    /// Puts what is recorded aside as `NAME.earlier.cast`, over what was put aside before, and begins a new recording
    /// with `picture`, which draws the present screen of that size.
    pub(crate) fn begin_anew(&mut self, size: Size, picture: &[u8]) -> Result<(), RecordingError> {
        self.flush()?;
        let aside = self.path.with_extension("earlier.cast");
        std::fs::rename(&self.path, &aside).map_err(FileError::on("put the recording aside as", &aside))?;
        self.file = files::open_log(&self.path)?;
        (self.length, self.began, self.offset) = (0, Instant::now(), Duration::ZERO);
        self.header = CastHeader::new(size, &self.header.env.term, &self.header.title);
        self.push(&self.header.clone());
        self.push(&(0.0, "o", String::from_utf8_lossy(picture)));
        self.flush()
    }

    /// Adds one event with text.
    fn event(&mut self, kind: &str, text: &str) -> Result<(), RecordingError> {
        if !text.is_empty() {
            self.push(&(self.seconds(), kind, text));
        }
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Adds a line to the buffer.
    fn push(&mut self, line: &impl Serialize) {
        serde_json::to_writer(&mut self.buffer, line).expect("plain values serialise into memory");
        self.buffer.push(b'\n');
    }

    /// Seconds since the recording began, in microseconds' precision.
    fn seconds(&self) -> f64 {
        let now = self.offset + self.began.elapsed();
        (now.as_secs_f64() * 1e6).round() / 1e6
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if !self.carry.is_empty() {
            self.carry.clear();
            self.event("o", "\u{fffd}").ok();
        }
        // Whoever needs to know of a failure flushes before.
        self.flush().ok();
    }
}

/// What stands in a file that is gone on with.
struct Earlier {
    /// Its header.
    header: CastHeader,
    /// Time of its last whole event.
    last: Duration,
    /// Whether its last line has no end.
    is_torn: bool,
}

/// Looks at a recording to go on with: header and last lines only. `None` when there is no whole header yet.
fn earlier(path: &Path) -> Result<Option<Earlier>, RecordingError> {
    let read = FileError::on("read the recording", path);
    let look = || -> io::Result<(Vec<u8>, Vec<u8>)> {
        let mut file = File::open(path)?;
        let mut header = Vec::new();
        BufReader::new(&file).take(1 << 20).read_until(b'\n', &mut header)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(1 << 20)))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        Ok((header, tail))
    };
    let (first, tail) = look().map_err(read)?;
    if first.is_empty() {
        return Ok(None);
    }
    if !first.ends_with(b"\n") {
        // A header torn by a crash in the first write: nothing was recorded yet.
        let file = std::fs::OpenOptions::new().write(true).open(path);
        file.and_then(|file| file.set_len(0)).map_err(FileError::on("empty the torn recording", path))?;
        return Ok(None);
    }
    let header = reader::parse_header(path, &first)?;
    let times = tail.split(|byte| *byte == b'\n').rev().filter_map(reader::parse_event);
    let last = times.map(|event| event.at).next().unwrap_or_default();
    Ok(Some(Earlier { header, last, is_torn: !tail.ends_with(b"\n") }))
}

/// Text of `carry` + `bytes`; an unfinished character at the end goes back into `carry`.
fn decode(carry: &mut Vec<u8>, bytes: &[u8]) -> String {
    carry.extend_from_slice(bytes);
    let mut text = String::with_capacity(carry.len());
    let mut kept = 0;
    let mut chunks = carry.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        text.push_str(chunk.valid());
        let invalid = chunk.invalid();
        if chunks.peek().is_none() && is_unfinished(invalid) {
            kept = invalid.len();
        } else if !invalid.is_empty() {
            text.push('\u{fffd}');
        }
    }
    carry.drain(..carry.len() - kept);
    text
}

/// Whether bytes are the start of a character.
fn is_unfinished(bytes: &[u8]) -> bool {
    !bytes.is_empty() && std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests;
