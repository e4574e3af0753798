//! Errors that show a person the place and the way out.

use std::fmt;
use std::ops::{Deref, DerefMut};

use unicode_width::UnicodeWidthChar;

use crate::files::FileError;

/// Why something a person wrote could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The text itself is at fault.
    #[error(transparent)]
    Text(#[from] Problem),
    /// The disk is at fault.
    #[error(transparent)]
    File(#[from] FileError),
    /// The operating system names no home folder for this user.
    #[error("could not find the configuration folder of this user")]
    NoHome,
    /// A template needs a value that was not given, or fails in another way while it is filled in.
    #[error("could not fill in the template `{name}`")]
    Render {
        /// The template's file name.
        name: String,
        /// The cause, with its line.
        #[source]
        source: minijinja::Error,
    },
    /// The system prompt of an agent cannot be filled in.
    #[error("could not fill in the prompt of agent `{agent}` in `{file}`")]
    SystemPrompt {
        /// The agent's name.
        agent: String,
        /// Its file.
        file: String,
        /// The cause, with its line below the front matter.
        #[source]
        source: minijinja::Error,
    },
    /// The list of trust decisions cannot be understood; nothing in it counts.
    #[error("the list of trusted commands `{file}` is damaged")]
    Trust {
        /// Where it is.
        file: String,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// The list of trust decisions was written by a newer version.
    #[error("the list of trusted commands `{file}` has format {version}, which this version cannot read")]
    TrustVersion {
        /// Where it is.
        file: String,
        /// Its format version.
        version: u64,
    },
}

impl ConfigError {
    /// What to do about it, as one sentence without a full stop.
    pub(crate) fn hint(&self) -> Option<&str> {
        match self {
            Self::Text(problem) => problem.hint.as_deref(),
            Self::NoHome => Some("set HOME"),
            Self::Trust { .. } => Some("move the file away; every command is then asked about again"),
            Self::TrustVersion { .. } => Some("use the newer version of swarm"),
            Self::File(_) | Self::Render { .. } | Self::SystemPrompt { .. } => None,
        }
    }

    /// The line at fault with a caret under the column, several lines without a last newline.
    pub(crate) fn snippet(&self) -> Option<&str> {
        match self {
            Self::Text(problem) => problem.snippet.as_deref(),
            _ => None,
        }
    }
}

/// A fault in a text: where it is, what is wrong, what would be right.
///
/// `Display` is one line, `FILE:LINE:COLUMN: MESSAGE; valid keys: ...`. Faces print [`Details::snippet`] below
/// it and [`Details::hint`] as a hint. The details are boxed, so that results stay small.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Problem(Box<Details>);

/// What a [`Problem`] says, piece by piece.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Details {
    /// The file, variable or flag as the caller named it; `None` when the fault is in no text.
    pub(crate) file: Option<String>,
    /// Where in it, both from 1; `None` when the whole text is meant.
    pub(crate) position: Option<Position>,
    /// What is wrong.
    pub(crate) message: String,
    /// What could stand there instead, with the word for it, such as `valid keys`.
    pub(crate) valid: Option<(&'static str, Vec<String>)>,
    /// What to do.
    pub(crate) hint: Option<String>,
    /// The line with a caret.
    pub(crate) snippet: Option<String>,
}

/// A place in a text; both numbers count from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// The line.
    pub(crate) line: usize,
    /// The column.
    pub(crate) column: usize,
}

impl std::error::Error for Problem {}

impl Deref for Problem {
    type Target = Details;

    fn deref(&self) -> &Details {
        &self.0
    }
}

impl DerefMut for Problem {
    fn deref_mut(&mut self) -> &mut Details {
        &mut self.0
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
            if let Some(position) = self.position {
                write!(f, "{}:{}:", position.line, position.column)?;
            }
            f.write_str(" ")?;
        }
        f.write_str(&self.message)?;
        match &self.valid {
            Some((what, words)) => write!(f, "; {what}: {}", words.join(", ")),
            None => Ok(()),
        }
    }
}

impl Problem {
    /// A fault that is in no text.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(Box::new(Details { message: message.into(), ..Details::default() }))
    }

    /// The same, in a file as a whole.
    pub(super) fn in_file(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self(Box::new(Details { file: Some(file.into()), message: message.into(), ..Details::default() }))
    }

    /// Adds a place and draws the line of `text` it is in.
    pub(super) fn at(mut self, position: Position, text: &str) -> Self {
        self.position = Some(position);
        self.snippet = text.lines().nth(position.line.saturating_sub(1)).map(|line| draw(line, position));
        self
    }

    /// Adds advice.
    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what would be valid, and the nearest of it to `word` as advice.
    pub(super) fn with_valid(mut self, what: &'static str, words: &[&str], word: &str) -> Self {
        self.valid = Some((what, words.iter().map(|&valid| valid.to_owned()).collect()));
        if let Some(near) = nearest(word, words) {
            self.hint = Some(format!("did you mean `{near}`?"));
        }
        self
    }
}

/// Characters of a line that a snippet shows; longer ones are cut around the caret.
const SNIPPET_WIDTH: usize = 100;

/// Draws `line` with its number and a caret under the column.
fn draw(line: &str, position: Position) -> String {
    let column = position.column.saturating_sub(1);
    let skipped = if line.chars().count() > SNIPPET_WIDTH { column.saturating_sub(SNIPPET_WIDTH / 2) } else { 0 };
    let shown: String =
        line.chars().skip(skipped).take(SNIPPET_WIDTH).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let before: usize = shown.chars().take(column - skipped).map(|c| c.width().unwrap_or(0)).sum();
    let number = position.line.to_string();
    let gutter = " ".repeat(number.len());
    format!("{gutter} |\n{number} | {}\n{gutter} | {}^", shown.trim_end(), " ".repeat(before))
}

/// The candidate that differs from `word` by a slip or two; none when the word is simply another one.
pub(super) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    let distances = candidates.iter().map(|candidate| (distance(word, candidate), *candidate));
    // `retries` for `retry`: a long common beginning makes up for one more difference.
    let begins_alike = |other: &str| word.chars().zip(other.chars()).take_while(|(a, b)| a == b).count() >= 4;
    let near = distances.filter(|(distance, other)| *distance <= allowed + usize::from(begins_alike(other)));
    near.min().map(|(_, candidate)| candidate)
}

/// How many insertions, deletions, replacements and swaps of neighbours turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let fold = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<Vec<_>>();
    let (a, b) = (fold(a), fold(b));
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_another_word_finds_nothing() {
        let keys = ["agent", "gates", "max_workers", "target"];
        assert_eq!(nearest("gate", &keys), Some("gates"));
        assert_eq!(nearest("maxWorkers", &keys), Some("max_workers"));
        assert_eq!(nearest("tagret", &keys), Some("target"));
        assert_eq!(nearest("retries", &["name", "retry"]), Some("retry"));
        assert_eq!(nearest("colour", &keys), None);
        assert_eq!(nearest("", &keys), None);
    }

    #[test]
    fn the_caret_stands_under_wide_characters() {
        let drawn = draw("日本: x", Position { line: 12, column: 5 });
        assert_eq!(drawn, "   |\n12 | 日本: x\n   |       ^");
    }

    #[test]
    fn a_very_long_line_is_cut_around_the_caret() {
        let line = format!("{}X{}", "a".repeat(5_000), "b".repeat(5_000));
        let drawn = draw(&line, Position { line: 1, column: 5_001 });
        assert!(drawn.len() < 400, "{drawn}");
        let rows: Vec<_> = drawn.lines().collect();
        assert_eq!(rows[1].find('X'), rows[2].find('^'));
    }
}
