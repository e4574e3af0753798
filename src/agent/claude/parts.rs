//! A first message that is too long for an argument: files that the program puts before a message that names them.
//!
//! The program reads a file that is named as `@"path"` without asking, but not at any length (2.1.329): it has its server
//! count the tokens of one that looks long, and of a file above 25,000 tokens it takes the first 2,000 lines, or nothing
//! at all when those are too many tokens as well; neither shows outside of the request. Many small files come whole.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::agent::AgentError;
use crate::files::{Access, FileError, write_atomically};

/// Bytes of one file: no tokeniser makes more tokens than bytes, so this many stay below 25,000 whatever they are.
pub(super) const PART_BYTES: usize = 24_000;
/// Lines of one file, below the 2,000 that are read of a long one.
pub(super) const PART_LINES: usize = 1_500;

/// Writes `text` in parts into `folder`, in place of what an earlier launch left there. A conversation that goes on knows
/// the files it read by their names, so no name comes twice.
pub(super) fn write(folder: &Path, text: &str) -> Result<Vec<PathBuf>, AgentError> {
    if let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(FileError::on("remove the folder", folder)(error).into());
    }
    let run = Uuid::new_v4().simple().to_string();
    let parts = split(text);
    let count = parts.len();
    let write = |(index, part): (usize, &str)| {
        let path = folder.join(format!("{}-{}-of-{count}.md", &run[..8], index + 1));
        write_atomically(&path, part.as_bytes(), Access::Private)?;
        Ok(path)
    };
    parts.into_iter().enumerate().map(write).collect()
}

/// The message that names the parts.
pub(super) fn message(files: &[PathBuf]) -> String {
    let names: Vec<String> = files.iter().map(|file| format!("@\"{}\"", file.display())).collect();
    match names.as_slice() {
        [one] => format!("Do what is written in {one}"),
        many => format!(
            "Do what is written in these {} files. They are one text cut into parts, in this order, and a line may go on \
             in the next part:\n{}",
            many.len(),
            many.join("\n")
        ),
    }
}

/// Cuts a text into parts that each come whole: after a line where there is one, else after a word, else anywhere
/// between two letters. Together the parts are the text.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (part, after) = rest.split_at(part_end(rest));
        parts.push(part);
        rest = after;
    }
    parts
}

/// Where the first part of a text ends.
fn part_end(text: &str) -> usize {
    let lines_end = text.match_indices('\n').nth(PART_LINES - 1).map_or(text.len(), |(at, _)| at + 1);
    if lines_end <= PART_BYTES {
        return lines_end;
    }
    let limit = (0..=PART_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let head = &text[..limit];
    head.rfind('\n').or_else(|| head.rfind(' ')).map_or(limit, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that a text comes whole and every part can be read; returns the parts.
    #[track_caller]
    fn parts(text: &str) -> Vec<&str> {
        let parts = split(text);
        assert_eq!(parts.concat(), text);
        assert!(parts.iter().all(|part| !part.is_empty() && part.len() <= PART_BYTES));
        assert!(parts.iter().all(|part| part.lines().count() <= PART_LINES));
        parts
    }

    #[test]
    fn a_text_is_cut_after_lines() {
        let text: String = (0..4_000).map(|number| format!("line {number} of a long text\n")).collect();
        let parts = parts(&text);
        assert!(parts.len() > 3);
        assert!(parts.iter().all(|part| part.ends_with("text\n")));
    }

    #[test]
    fn empty_lines_count_as_lines() {
        assert_eq!(parts(&"\n".repeat(4 * PART_LINES)).len(), 4);
        assert_eq!(parts(&"\r\n".repeat(PART_LINES + 1)).len(), 2);
    }

    #[test]
    fn a_line_without_end_is_cut_after_words_and_never_within_a_letter() {
        let words = parts(&"word ".repeat(10_000)).len();
        assert_eq!(words, 3);
        let letters = "漢".repeat(20_000);
        assert_eq!(parts(&letters)[0].len(), PART_BYTES);
        let odd = format!("x{letters}");
        assert_eq!(parts(&odd)[0].len(), PART_BYTES - 2);
    }

    #[test]
    fn a_short_text_is_one_part_and_none_is_none() {
        assert_eq!(parts("a\0b"), ["a\0b"]);
        assert!(parts("").is_empty());
    }

    #[test]
    fn a_later_launch_replaces_the_files_and_gives_them_other_names() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("first-message");
        let first = write(&folder, "one").unwrap();
        let second = write(&folder, &"two ".repeat(10_000)).unwrap();
        assert!(!first[0].exists());
        assert_eq!(second.len(), 2);
        let text: String = second.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        assert_eq!(text, "two ".repeat(10_000));
        assert!(first.iter().all(|file| !second.contains(file)));
        let message = message(&second);
        assert!(second.iter().all(|file| message.contains(&format!("@\"{}\"", file.display()))));
    }
}
