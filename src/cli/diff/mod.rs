//! Differences as a person reads them: syntax colours, changed words marked, nothing wider than the terminal.
//!
//! Only the sixteen colours of the person's own theme are used, so that they read on dark and light. Signs stay in
//! front of every line: colour is never the only signal. Control characters in the work are shown, not obeyed.

mod syntax;
mod words;

use std::ops::Range;

use unicode_width::UnicodeWidthChar;

use self::syntax::{Inside, Syntax, Token, syntax_of, tokens};
use self::words::{Changed, compare_block};
use crate::git::{LineKind, PatchFile, PatchHunk, PatchLine, parse_patch};

/// Columns between tab stops.
const TAB: usize = 8;
/// SGR parameters that end all others.
const RESET: &str = "\x1b[0m";

/// A patch in colour, with lines broken at `width` columns.
pub(crate) fn render_patch(text: &str, width: Option<usize>) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for file in parse_patch(text) {
        let syntax = syntax_of(file.name());
        render_header(&file, &mut out);
        file.hunks.iter().for_each(|hunk| render_hunk(hunk, syntax, width, &mut out));
    }
    out
}

/// The lines before the hunks.
fn render_header(file: &PatchFile, out: &mut String) {
    for line in &file.header {
        let style = if line.starts_with("index ") { "2" } else { "1" };
        styled(out, style, &visible(line));
        out.push('\n');
    }
}

/// One hunk.
fn render_hunk(hunk: &PatchHunk, syntax: Option<&'static Syntax>, width: Option<usize>, out: &mut String) {
    let (range, place) = hunk.head[2..]
        .split_once("@@")
        .map_or((hunk.head.as_str(), ""), |(range, place)| (&hunk.head[..range.len() + 4], place));
    styled(out, "36", range);
    out.push_str(&visible(place));
    out.push('\n');
    let (mut before, mut after) = (Inside::default(), Inside::default());
    let mut rest = hunk.lines.as_slice();
    while let Some(first) = rest.first() {
        if first.kind == LineKind::Context || first.kind == LineKind::NoNewline {
            let pieces = pieces(&first.text, syntax, &mut after);
            before = after;
            put_line(first, &pieces, &[], width, out);
            rest = &rest[1..];
            continue;
        }
        let is_change = |line: &PatchLine| line.kind != LineKind::Context;
        let count = rest.iter().position(|line| !is_change(line)).unwrap_or(rest.len());
        let (block, others) = rest.split_at(count);
        put_block(block, syntax, (&mut before, &mut after), width, out);
        rest = others;
    }
}

/// Lines that were taken out and put in at one place.
fn put_block(
    block: &[PatchLine],
    syntax: Option<&'static Syntax>,
    (before, after): (&mut Inside, &mut Inside),
    width: Option<usize>,
    out: &mut String,
) {
    let of =
        |kind| block.iter().filter(move |line| line.kind == kind).map(|line| line.text.as_str()).collect::<Vec<_>>();
    let (removed, added) = compare_block(&of(LineKind::Removed), &of(LineKind::Added));
    let (mut removed, mut added) = (removed.iter(), added.iter());
    for line in block {
        let (inside, changed) = match line.kind {
            LineKind::Removed => (&mut *before, removed.next()),
            _ => (&mut *after, if line.kind == LineKind::Added { added.next() } else { None }),
        };
        let pieces = if line.kind == LineKind::NoNewline { Vec::new() } else { pieces(&line.text, syntax, inside) };
        put_line(line, &pieces, changed.map_or(&[], Changed::as_slice), width, out);
    }
}

/// A line in pieces of one kind.
fn pieces(text: &str, syntax: Option<&'static Syntax>, inside: &mut Inside) -> Vec<(Range<usize>, Token)> {
    syntax
        .map_or_else(|| std::iter::once((0..text.len(), Token::Plain)).collect(), |syntax| tokens(syntax, text, inside))
}

/// The SGR parameters of a piece: what is removed is red whatever it is, what is added keeps the colours of code.
fn style_of(kind: LineKind, token: Token, is_changed: bool) -> &'static str {
    match (kind, token) {
        (LineKind::Removed, _) if is_changed => "7;31",
        (LineKind::Removed, _) => "31",
        (LineKind::Added, _) if is_changed => "7;32",
        (LineKind::NoNewline, _) => "2",
        (_, Token::Keyword) => "35",
        (_, Token::Text) => "33",
        (_, Token::Comment) => "90",
        (_, Token::Number) => "36",
        (LineKind::Added, Token::Plain) => "32",
        (LineKind::Context, Token::Plain) => "",
    }
}

/// One line, broken where it is too long.
fn put_line(
    line: &PatchLine,
    pieces: &[(Range<usize>, Token)],
    changed: &[Range<usize>],
    width: Option<usize>,
    out: &mut String,
) {
    let sign_style = match line.kind {
        LineKind::Removed => "1;31",
        LineKind::Added => "1;32",
        _ => "",
    };
    let mut sign = [0; 4];
    styled(out, sign_style, line.kind.sign().encode_utf8(&mut sign));
    if line.kind == LineKind::NoNewline {
        styled(out, "2", &line.text);
        out.push('\n');
        return;
    }
    let limit = width.unwrap_or(usize::MAX).max(8);
    let (mut column, mut open) = (1, "");
    let mut run = |out: &mut String, style: &'static str| {
        if open != style {
            if !open.is_empty() {
                out.push_str(RESET);
            }
            if !style.is_empty() {
                out.push_str("\x1b[");
                out.push_str(style);
                out.push('m');
            }
            open = style;
        }
    };
    for (range, token) in pieces {
        for (at, letter) in line.text[range.clone()].char_indices() {
            let at = range.start + at;
            let style = style_of(line.kind, *token, changed.iter().any(|changed| changed.contains(&at)));
            let (shown, wide) = shown(letter, column);
            if column + wide > limit {
                run(out, "");
                out.push_str("\n ");
                column = 1;
            }
            run(out, style);
            match shown {
                Shown::Letter(letter) => out.push(letter),
                Shown::Spaces => out.extend(std::iter::repeat_n(' ', wide)),
                Shown::Caret(letter) => out.extend(['^', letter]),
            }
            column += wide;
        }
    }
    run(out, "");
    out.push('\n');
}

/// How a letter is shown.
enum Shown {
    /// As it is.
    Letter(char),
    /// As spaces to the next tab stop.
    Spaces,
    /// As a control character.
    Caret(char),
}

/// How a letter at a column is shown, and how wide that is.
fn shown(letter: char, column: usize) -> (Shown, usize) {
    match letter {
        '\t' => (Shown::Spaces, TAB - column % TAB),
        '\u{7f}' => (Shown::Caret('?'), 2),
        control if control < ' ' => (Shown::Caret(char::from(control as u8 + b'@')), 2),
        // Controls of the second page, and those that turn the direction of text around.
        '\u{80}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => (Shown::Letter('\u{fffd}'), 1),
        letter => (Shown::Letter(letter), letter.width().unwrap_or(0)),
    }
}

/// A text in a style.
fn styled(out: &mut String, style: &str, text: &str) {
    if style.is_empty() || text.is_empty() {
        return out.push_str(text);
    }
    out.extend(["\x1b[", style, "m", text, RESET]);
}

/// A text without control characters.
fn visible(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests;
