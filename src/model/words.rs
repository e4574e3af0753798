//! Numbers in sentences, and texts that are too long.

use std::fmt::Display;

/// A number with its thing, `1 file` or `3 files`; the thing is given in the singular and takes a plain `s`.
pub(crate) fn counted<N: Display + PartialEq + From<u8>>(count: N, thing: &str) -> String {
    let plural = if count == N::from(1) { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

/// An amount of data in its largest decimal unit: `17 bytes`, `2.5 kB`, `10.0 MB`, `4.2 GB`.
pub(crate) fn size_text(bytes: u64) -> String {
    match bytes {
        0..1_000 => counted(bytes, "byte"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// The beginning of a text: whole characters, at most `bytes` of them.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

/// A line of tildes that is longer than any that a line of the text begins with, and therefore cannot be ended by it.
pub(crate) fn tildes_around(text: &str) -> String {
    let longest = text.lines().map(|line| line.trim_start().chars().take_while(|c| *c == '~').count()).max();
    "~".repeat(longest.unwrap_or(0).max(3) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_everything_else_plural() {
        let said: Vec<_> = [0_usize, 1, 2].map(|count| counted(count, "leftover file")).into();
        assert_eq!(said, ["0 leftover files", "1 leftover file", "2 leftover files"]);
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!([0, 1, 2, 3, 9].map(|bytes| cut("aé€", bytes)), ["", "a", "a", "aé", "aé€"]);
    }

    #[test]
    fn a_small_amount_is_never_shown_as_nothing() {
        let said: Vec<_> = [0, 1, 999, 2_500, 10_000_000, 4_200_000_000].map(size_text).into();
        assert_eq!(said, ["0 bytes", "1 byte", "999 bytes", "2.5 kB", "10.0 MB", "4.2 GB"]);
    }
}
