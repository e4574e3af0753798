//! Read: a file's lines with their numbers.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};

use super::input::Input;
use super::place::Place;

/// Lines that are read where no number is given.
const LINES: u64 = 2000;
/// Longest part of a line that is shown, in bytes.
const LINE_LIMIT: usize = 2000;
/// Bytes by which a file is known to be text.
const LOOK: usize = 8 * 1024;

/// Does the call; at most about `limit` bytes come out, in whole lines.
pub(super) fn read(place: &Place, input: &Input<'_>, limit: usize) -> Result<String, String> {
    let spot = place.to_read(input.text("file_path")?)?;
    let first = input.number("offset")?.unwrap_or(1).max(1);
    let count = input.number("limit")?.unwrap_or(LINES).max(1);
    let Some(file) = spot.open()? else { return Err(format!("there is no file `{}`", spot.shown)) };
    let mut reader = BufReader::with_capacity(LOOK, file);
    let failed = |error: std::io::Error| format!("could not read `{}`: {error}", spot.shown);
    if is_binary(reader.fill_buf().map_err(failed)?) {
        return Err(format!(
            "`{}` is a binary file. Look at it with a program of the shell, such as `file`.",
            spot.shown
        ));
    }
    let (mut text, mut number) = (String::new(), 0);
    while let Some(line) = next_line(&mut reader).map_err(failed)? {
        number += 1;
        if number < first {
            continue;
        }
        if number >= first.saturating_add(count) || (text.len() + line.len() > limit && !text.is_empty()) {
            let note = format!("[... more lines follow; read on with offset {number} ...]\n");
            return Ok(text + &note);
        }
        writeln!(text, "{number:>6}\t{line}").ok();
    }
    match (number, text.is_empty()) {
        (0, _) => Ok(format!("`{}` is empty.", spot.shown)),
        (_, true) => Err(format!("`{}` has only {number} lines", spot.shown)),
        _ => Ok(text),
    }
}

/// Whether these first bytes are of something else than text: a zero byte, or more than a few that are no UTF-8.
fn is_binary(bytes: &[u8]) -> bool {
    let odd = String::from_utf8_lossy(bytes).matches('\u{fffd}').count();
    bytes.contains(&0) || odd * 10 > bytes.len()
}

/// The next line without its end, cut to the limit; nothing is kept of what is cut.
fn next_line(reader: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut bytes = Vec::new();
    let room = LINE_LIMIT as u64 + 1;
    if reader.by_ref().take(room).read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    if bytes.last() != Some(&b'\n') && bytes.len() as u64 == room {
        bytes.truncate(LINE_LIMIT);
        let cut = reader.skip_until(b'\n')?;
        let line = String::from_utf8_lossy(&bytes).into_owned();
        return Ok(Some(format!("{line} [... {cut} bytes more ...]")));
    }
    while matches!(bytes.last(), Some(b'\n' | b'\r')) {
        bytes.pop();
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}
