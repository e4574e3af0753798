//! Append-only logs of one JSON object a line.
//!
//! A line is one appending write, so lines of several writers never mix on a local file system, and a process that
//! dies leaves at most one line without its end. Writers begin after such a torn line on a line of their own, and
//! readers report it and go on: a log is never unreadable because of one bad line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use crate::files::{self, FileError};

/// The writing end of a log.
#[derive(Debug)]
pub(crate) struct JsonLog {
    /// Open for appending.
    file: File,
    /// For messages.
    path: PathBuf,
    /// Whether the last line may lack its end, so that the next write ends it first.
    torn: bool,
    /// The line being built, kept for its capacity.
    line: Vec<u8>,
}

impl JsonLog {
    /// Opens a log for appending; makes it and its folder when missing.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        if let Some(folder) = path.parent() {
            files::make_folder(folder)?;
        }
        let file = files::open_log(path)?;
        let torn = ends_torn(path)?;
        Ok(Self { file, path: path.to_owned(), torn, line: Vec::new() })
    }

    /// Appends one record in one write.
    ///
    /// # Errors
    /// When the record could not be written whole (disk full); the next one starts on a line of its own.
    pub(crate) fn append(&mut self, record: &impl Serialize) -> Result<(), StoreError> {
        self.line.clear();
        if self.torn {
            self.line.push(b'\n');
        }
        let name = || self.path.display().to_string();
        serde_json::to_writer(&mut self.line, record).map_err(|source| StoreError::Document {
            what: "log record",
            name: name(),
            source,
        })?;
        self.line.push(b'\n');
        let written = self.file.write_all(&self.line);
        self.torn = written.is_err();
        Ok(written.map_err(FileError::on("append to", &self.path))?)
    }
}

/// Whether the file's last byte is not the end of a line.
fn ends_torn(path: &Path) -> Result<bool, StoreError> {
    let read = || {
        let mut file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(false);
        }
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        Ok(last != *b"\n")
    };
    Ok(read().map_err(FileError::on("read", path))?)
}

/// A line that is not a record of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the line at byte {offset} of `{}` is not a record: {reason}", path.display())]
pub(crate) struct BadLine {
    /// The log.
    pub(crate) path: PathBuf,
    /// Where the line starts.
    pub(crate) offset: u64,
    /// What is wrong with it.
    pub(crate) reason: String,
}

/// Reads a log from a byte offset on, and goes on later where it stopped: memory use is one line.
#[derive(Debug)]
pub(crate) struct LogReader<T> {
    /// The log.
    path: PathBuf,
    /// Open once the file exists.
    file: Option<BufReader<File>>,
    /// Where the first line not yet returned starts.
    offset: u64,
    /// The beginning of that line, when its end is not written yet.
    partial: Vec<u8>,
    /// The kind of record.
    kind: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> LogReader<T> {
    /// A reader from `offset` on: 0, or what [`LogReader::offset`] said earlier. The file need not exist yet.
    pub(crate) fn new(path: &Path, offset: u64) -> Self {
        Self { path: path.to_owned(), file: None, offset, partial: Vec::new(), kind: PhantomData }
    }

    /// The next complete line; `None` when there is none for now, and asking again later may bring more.
    ///
    /// A line that is not a record comes as the inner error and does not stop the reader; empty lines are passed
    /// over.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn next_record(&mut self) -> Result<Option<Result<T, BadLine>>, StoreError> {
        loop {
            if !self.read_line()? {
                return Ok(None);
            }
            let line = std::mem::take(&mut self.partial);
            let offset = self.offset;
            self.offset += line.len() as u64;
            let text = line.trim_ascii();
            if !text.is_empty() {
                let bad =
                    |error: serde_json::Error| BadLine { path: self.path.clone(), offset, reason: error.to_string() };
                return Ok(Some(serde_json::from_slice(text).map_err(bad)));
            }
        }
    }

    /// Where the first line not yet returned starts; a later reader may go on there.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether a line was begun at the end of the file and its end is not there.
    pub(crate) fn is_torn(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Reads on into `partial`; whether it holds a line with its end now.
    fn read_line(&mut self) -> Result<bool, StoreError> {
        let mut line = std::mem::take(&mut self.partial);
        let read = match self.open_file()? {
            Some(file) => file.read_until(b'\n', &mut line),
            None => Ok(0),
        };
        self.partial = line;
        read.map_err(FileError::on("read", &self.path))?;
        Ok(self.partial.last() == Some(&b'\n'))
    }

    /// The file from the right place on; `None` while it does not exist.
    fn open_file(&mut self) -> Result<Option<&mut BufReader<File>>, StoreError> {
        if self.file.is_none() {
            let mut file = match File::open(&self.path) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(FileError::on("open", &self.path)(error).into()),
            };
            file.seek(SeekFrom::Start(self.offset)).map_err(FileError::on("read", &self.path))?;
            self.file = Some(BufReader::new(file));
        }
        Ok(self.file.as_mut())
    }
}

/// A whole log as read at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReadLog<T> {
    /// The good records, in order.
    pub(crate) records: Vec<T>,
    /// The bad lines, in order; a torn last one included.
    pub(crate) problems: Vec<BadLine>,
}

/// Reads a whole log; a missing file is an empty log. For logs that may be large, read one by one with
/// [`LogReader`].
pub(crate) fn read_log<T: DeserializeOwned>(path: &Path) -> Result<ReadLog<T>, StoreError> {
    let mut reader = LogReader::new(path, 0);
    let mut log = ReadLog { records: Vec::new(), problems: Vec::new() };
    while let Some(line) = reader.next_record()? {
        match line {
            Ok(record) => log.records.push(record),
            Err(problem) => log.problems.push(problem),
        }
    }
    if reader.is_torn() {
        let reason = "its end was never written".to_owned();
        log.problems.push(BadLine { path: path.to_owned(), offset: reader.offset(), reason });
    }
    Ok(log)
}
