//! Output of bounded length: its beginning and its end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The text, or its beginning and end with a note between them where it is longer than `limit` bytes.
pub(in crate::agent::own) fn cap_text(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let head = floor(text, limit / 2);
    let tail = ceil(text, text.len() - limit / 2);
    let (head, tail) = (whole_lines_before(&text[..head]), whole_lines_after(&text[tail..]));
    joined(head, tail, text.len() - head.len() - tail.len())
}

/// The same of a file's content from `from` to `to`, of which no more than that is read.
pub(super) fn cap_file(file: &File, from: u64, to: u64, limit: usize) -> io::Result<String> {
    let length = to.saturating_sub(from);
    let read = |at: u64, length: usize| -> io::Result<String> {
        let mut bytes = vec![0; length];
        let mut done = 0;
        while done < length {
            match file.read_at(&mut bytes[done..], at + done as u64)? {
                0 => break,
                count => done += count,
            }
        }
        bytes.truncate(done);
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    if length <= limit as u64 {
        return read(from, usize::try_from(length).unwrap_or(limit));
    }
    let (head, tail) = (read(from, limit / 2)?, read(to - limit as u64 / 2, limit / 2)?);
    let (head, tail) = (whole_lines_before(&head), whole_lines_after(&tail));
    let left_out = length.saturating_sub((head.len() + tail.len()) as u64);
    Ok(joined(head, tail, usize::try_from(left_out).unwrap_or(usize::MAX)))
}

/// The last place up to `at` where a letter begins or the text ends.
pub(in crate::agent::own) fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The first place from `at` on where a letter begins or the text ends.
fn ceil(text: &str, at: usize) -> usize {
    (at..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

/// Beginning and end with the note between them.
fn joined(head: &str, tail: &str, left_out: usize) -> String {
    let end = if head.ends_with('\n') { "" } else { "\n" };
    format!("{head}{end}[... {left_out} bytes left out ...]\n{tail}")
}

/// A text without its last line, where that is not all of it.
fn whole_lines_before(text: &str) -> &str {
    text.rfind('\n').filter(|at| *at > text.len() / 2).map_or(text, |at| &text[..=at])
}

/// A text without its first line, where that is not all of it.
fn whole_lines_after(text: &str) -> &str {
    text.find('\n').filter(|at| *at < text.len() / 2).map_or(text, |at| &text[at + 1..])
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn beginning_and_end_of_a_long_text_stay() {
        let text: String = (0..1000).map(|number| format!("line {number} äöü\n")).collect();
        let capped = cap_text(&text, 500);
        assert!(capped.len() < 560 && capped.starts_with("line 0 äöü\n") && capped.ends_with("line 999 äöü\n"));
        let note = capped.lines().find(|line| line.contains("left out")).unwrap();
        let left: usize = note.split(' ').nth(1).unwrap().parse().unwrap();
        assert_eq!(left + capped.len() - note.len() - 1, text.len());
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        assert_eq!(cap_file(&file, 0, text.len() as u64, 500).unwrap(), capped);
        assert_eq!(cap_file(&file, 3, 9, 500).unwrap(), &text[3..9]);
    }

    #[test]
    fn one_endless_line_is_cut_at_letters() {
        let text = "ä".repeat(10_000);
        let capped = cap_text(&text, 101);
        assert!(capped.starts_with("ää") && capped.ends_with("ää") && capped.len() < 200);
        assert_eq!(cap_text("short", 5), "short");
    }
}
