//! The conversation file: one JSON object a line, only ever added to, each line in one write.
//!
//! It holds what the model is told, and what was left out of that later, so that reading it gives the conversation as
//! it was when the process ended, however it ended. A torn last line is as if it had not been written.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::agent::AgentError;
use crate::files::{open_log, read_if_exists};
use crate::llm::{Block, ToolResult, Usage};
use crate::model::Time;

/// Version of the lines.
pub(super) const VERSION: u32 = 1;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub(super) enum Entry {
    /// A process took the conversation up.
    Opened {
        /// [`VERSION`].
        version: u32,
        /// Its id.
        session: String,
        /// The model that is asked.
        model: String,
    },
    /// Somebody said something.
    User {
        /// What.
        text: String,
        /// Whether the loop said it in the person's place.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_loop: bool,
    },
    /// The model answered.
    Assistant {
        /// What, with calls as they were understood.
        blocks: Vec<Block>,
        /// Who it was.
        model: String,
        /// What it cost.
        usage: Usage,
    },
    /// A call ended.
    Tool {
        /// What it came to.
        result: ToolResult,
    },
    /// The model reads less of these results from here on.
    Shortened {
        /// Ids of their calls.
        calls: Vec<String>,
        /// Bytes that stay of each, from its beginning and end.
        keep: usize,
    },
    /// The model does not read this many messages after the first any more.
    Dropped {
        /// How many.
        messages: usize,
    },
}

/// A line with its time.
#[derive(Debug, Serialize, Deserialize)]
struct Line<E> {
    /// When it was written.
    at: Time,
    /// What it says.
    #[serde(flatten)]
    entry: E,
}

/// Whether anything was said in the conversation of a file. One that cannot be read is left to whoever opens it.
pub(super) fn has_begun(path: &Path) -> bool {
    let is_said = |entries: Vec<Entry>| entries.iter().any(|entry| matches!(entry, Entry::User { .. }));
    read_if_exists(path).map_or(true, |bytes| bytes.is_some_and(|bytes| is_said(entries(&bytes))))
}

/// What a file holds. Lines that cannot be read are left out.
fn entries(bytes: &[u8]) -> Vec<Entry> {
    let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Line<Entry>>(line).ok());
    lines.map(|line| line.entry).collect()
}

/// A conversation file that is added to.
#[derive(Debug)]
pub(super) struct Conversation {
    /// Where.
    path: PathBuf,
    /// Open for appending.
    file: File,
    /// Whether it may end in a part of a line.
    is_torn: bool,
}

impl Conversation {
    /// Opens the file, makes it when missing, and reads what it holds.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<Entry>), AgentError> {
        let bytes = read_if_exists(path)?.unwrap_or_default();
        let is_torn = bytes.last().is_some_and(|last| *last != b'\n');
        Ok((Self { path: path.to_owned(), file: open_log(path)?, is_torn }, entries(&bytes)))
    }

    /// Adds a line, after closing off what an earlier write left unfinished.
    pub(super) fn add(&mut self, entry: &Entry, at: Time) -> Result<(), AgentError> {
        let mut line = serde_json::to_vec(&Line { at, entry }).expect("an entry has text keys only");
        line.push(b'\n');
        if self.is_torn {
            line.insert(0, b'\n');
        }
        self.is_torn = true;
        self.file.write_all(&line).map_err(|source| AgentError::Log { path: self.path.clone(), source })?;
        self.is_torn = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> Entry {
        Entry::User { text: text.to_owned(), by_loop: false }
    }

    #[test]
    fn a_conversation_cut_anywhere_loses_at_most_its_last_line_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.jsonl");
        let entries = [user("one"), user("two\nlines"), Entry::Dropped { messages: 3 }];
        let (mut conversation, past) = Conversation::open(&path).unwrap();
        assert_eq!(past, []);
        entries.iter().for_each(|entry| conversation.add(entry, Time::now()).unwrap());
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            crate::files::write_atomically(&path, &whole[..cut], crate::files::Access::Private).unwrap();
            let ends = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
            let (mut conversation, past) = Conversation::open(&path).unwrap();
            // A line that lacks only its end says all it has to say.
            let is_whole = cut < whole.len() && whole[cut] == b'\n';
            assert_eq!(past, entries[..ends + usize::from(is_whole)], "cut at {cut}");
            conversation.add(&user("more"), Time::now()).unwrap();
            let (_, now) = Conversation::open(&path).unwrap();
            assert_eq!((now.len(), now.last()), (past.len() + 1, Some(&user("more"))), "cut at {cut}");
        }
    }
}
