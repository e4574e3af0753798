//! Where the place of a comment is now, in a commit that came after the one it was made at.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::{Landing, LandingError};
use crate::git::PatchFile;
use crate::model::CommitId;
use crate::store::{Lines, NewComment, Side};

/// Lines that are shown of a place.
const SHOWN: usize = 12;

/// What became of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fate {
    /// It is where it was, as it was.
    Same,
    /// The same lines are elsewhere.
    Moved,
    /// The lines were changed.
    Changed,
    /// The lines, or the file, are gone.
    Gone,
    /// It is about lines that the work removes.
    Removed,
    /// It cannot be told: the commit it was made at is no longer there.
    Unknown,
}

impl Fate {
    /// As the end of a sentence.
    pub(crate) fn clause(self) -> &'static str {
        match self {
            Self::Same => "unchanged",
            Self::Moved => "moved",
            Self::Changed => "changed since",
            Self::Gone => "gone",
            Self::Removed => "removed by the work",
            Self::Unknown => "cannot be told any more",
        }
    }
}

/// A place now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spot {
    /// What became of it.
    pub(crate) fate: Fate,
    /// The file's name now; `None` when it is gone.
    pub(crate) file: Option<String>,
    /// The lines now.
    pub(crate) lines: Option<Lines>,
    /// The code there now.
    pub(crate) code: Vec<String>,
}

impl Spot {
    /// A place with nothing to show.
    fn bare(fate: Fate, file: Option<String>) -> Self {
        Self { fate, file, lines: None, code: Vec::new() }
    }
}

/// Finds places of comments in one commit; differences are worked out once per commit.
pub(crate) struct Finder<'a> {
    /// The repository.
    landing: Landing<'a>,
    /// The commit.
    head: CommitId,
    /// Differences from earlier commits; `None` for one that is gone.
    changes: BTreeMap<String, Option<Vec<PatchFile>>>,
}

impl<'a> Finder<'a> {
    /// A finder for `head`.
    pub(crate) fn new(landing: Landing<'a>, head: &CommitId) -> Self {
        Self { landing, head: head.clone(), changes: BTreeMap::new() }
    }

    /// Where a comment's place is now.
    pub(crate) fn find(&mut self, comment: &NewComment) -> Result<Spot, LandingError> {
        if comment.side == Side::Old {
            return Ok(Spot::bare(Fate::Removed, Some(comment.file.clone())));
        }
        let spot = if comment.commit == self.head {
            Spot { fate: Fate::Same, file: Some(comment.file.clone()), lines: comment.lines, code: Vec::new() }
        } else {
            match self.changes_since(&comment.commit)? {
                Some(changes) => trace(changes, &comment.file, comment.lines),
                None => return self.search(comment),
            }
        };
        self.with_code(spot)
    }

    /// What changed since a commit; `None` when that is gone.
    fn changes_since(&mut self, commit: &CommitId) -> Result<Option<&[PatchFile]>, LandingError> {
        if !self.changes.contains_key(commit.as_str()) {
            let is_there = self.landing.repository.resolve(commit.as_str())?.is_some();
            let changes = if is_there { Some(self.landing.repository.line_changes(commit, &self.head)?) } else { None };
            self.changes.insert(commit.to_string(), changes);
        }
        Ok(self.changes[commit.as_str()].as_deref())
    }

    /// Looks for the quoted lines, for a comment whose commit is gone; only one place that has them is an answer.
    fn search(&self, comment: &NewComment) -> Result<Spot, LandingError> {
        let unknown = Spot::bare(Fate::Unknown, Some(comment.file.clone()));
        let (Some(lines), Some(text)) = (comment.lines, self.text_of(&comment.file)?) else { return Ok(unknown) };
        let all: Vec<&str> = text.lines().collect();
        let found: Vec<usize> = match comment.quote.len() {
            0 => Vec::new(),
            count => all.windows(count).enumerate().filter(|(_, w)| *w == comment.quote).map(|(at, _)| at).collect(),
        };
        let [at] = found[..] else { return Ok(unknown) };
        let first = u32::try_from(at + 1).unwrap_or(u32::MAX);
        let fate = if first == lines.first { Fate::Same } else { Fate::Moved };
        let lines = Lines { first, last: first + (lines.last - lines.first) };
        self.with_code(Spot { fate, file: Some(comment.file.clone()), lines: Some(lines), code: Vec::new() })
    }

    /// Reads the code at a place.
    fn with_code(&self, mut spot: Spot) -> Result<Spot, LandingError> {
        if let (Some(file), Some(lines)) = (&spot.file, spot.lines)
            && let Some(text) = self.text_of(file)?
        {
            let count = (lines.last - lines.first + 1) as usize;
            let code = text.lines().skip(lines.first.max(1) as usize - 1).take(count.min(SHOWN));
            spot.code = code.map(str::to_owned).collect();
        }
        Ok(spot)
    }

    /// A file of the commit as text.
    fn text_of(&self, file: &str) -> Result<Option<String>, LandingError> {
        let bytes = self.landing.repository.file_at(self.head.as_str(), Path::new(file))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// Follows lines of a file through a difference without context.
fn trace(changes: &[PatchFile], file: &str, lines: Option<Lines>) -> Spot {
    let same = |file: String, fate| Spot { fate, file: Some(file), lines, code: Vec::new() };
    let Some(changed) = changes.iter().find(|changed| changed.old.as_deref() == Some(file)) else {
        return same(file.to_owned(), Fate::Same);
    };
    let Some(name) = changed.new.clone() else { return Spot::bare(Fate::Gone, None) };
    let Some(wanted) = lines else {
        let fate = if name != file {
            Fate::Moved
        } else if changed.hunks.is_empty() {
            Fate::Same
        } else {
            Fate::Changed
        };
        return same(name, fate);
    };
    let is_touched = changed.hunks.iter().any(|hunk| touches(hunk.old, wanted));
    let now = if is_touched {
        // The range is what lies between the lines before and after it.
        let (before, after) =
            (follow(changed, wanted.first - 1, Edge::End), follow(changed, wanted.last + 1, Edge::Start));
        Lines { first: before + 1, last: after.saturating_sub(1) }
    } else {
        let first = follow(changed, wanted.first, Edge::Start);
        Lines { first, last: first + (wanted.last - wanted.first) }
    };
    if now.last < now.first {
        return Spot::bare(Fate::Gone, Some(name));
    }
    let fate = if is_touched {
        Fate::Changed
    } else if now != wanted || name != file {
        Fate::Moved
    } else {
        Fate::Same
    };
    Spot { fate, file: Some(name), lines: Some(now), code: Vec::new() }
}

/// Whether a hunk changes a line of a range, or puts something between two of them.
fn touches((first, count): (u32, u32), lines: Lines) -> bool {
    if count == 0 {
        first >= lines.first && first < lines.last
    } else {
        first <= lines.last && first + count > lines.first
    }
}

/// Which end of a hunk stands for a line in it.
#[derive(Clone, Copy, PartialEq)]
enum Edge {
    /// What the hunk put in counts to the range after the line.
    End,
    /// What the hunk put in counts to the range before the line.
    Start,
}

/// Where a line of the old file is in the new one. For a line that a hunk replaced, the line
/// before the hunk (`End`) or behind it (`Start`), so that the replacement lies in the range beside it.
fn follow(file: &PatchFile, line: u32, edge: Edge) -> u32 {
    let mut shift = 0i64;
    for hunk in &file.hunks {
        let ((old, old_count), (new, new_count)) = (hunk.old, hunk.new);
        // A pure insertion comes after its old line, a pure removal after its new one.
        let is_past = if old_count == 0 { line > old } else { line >= old + old_count };
        if is_past {
            shift += i64::from(new_count) - i64::from(old_count);
            continue;
        }
        if old_count > 0 && line >= old {
            let first_new = if new_count == 0 { new + 1 } else { new };
            let place = if edge == Edge::End { first_new - 1 } else { first_new + new_count };
            return place;
        }
        break;
    }
    u32::try_from(i64::from(line) + shift).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::parse_patch;

    fn traced(hunks: &str, first: u32, last: u32) -> (Fate, Option<(u32, u32)>) {
        let text = format!("diff --git a/f b/f\n--- a/f\n+++ b/f\n{hunks}");
        let spot = trace(&parse_patch(&text), "f", Some(Lines { first, last }));
        (spot.fate, spot.lines.map(|lines| (lines.first, lines.last)))
    }

    #[test]
    fn lines_are_followed_through_insertions_removals_and_replacements() {
        let inserted = "@@ -2,0 +3,2 @@\n+x\n+y\n";
        assert_eq!(traced(inserted, 2, 2), (Fate::Same, Some((2, 2))));
        assert_eq!(traced(inserted, 3, 3), (Fate::Moved, Some((5, 5))));
        assert_eq!(traced(inserted, 2, 3), (Fate::Changed, Some((2, 5))));
        let removed = "@@ -4,2 +3,0 @@\n-x\n-y\n";
        assert_eq!(traced(removed, 4, 5), (Fate::Gone, None));
        assert_eq!(traced(removed, 5, 6), (Fate::Changed, Some((4, 4))));
        assert_eq!(traced(removed, 7, 7), (Fate::Moved, Some((5, 5))));
        let replaced = "@@ -4 +4,3 @@\n-x\n+a\n+b\n+c\n";
        assert_eq!(traced(replaced, 4, 4), (Fate::Changed, Some((4, 6))));
        assert_eq!(traced(replaced, 5, 5), (Fate::Moved, Some((7, 7))));
        assert_eq!(traced(replaced, 1, 1), (Fate::Same, Some((1, 1))));
    }

    #[test]
    fn files_that_move_or_go_take_their_comments_along() {
        let moved = parse_patch("diff --git a/f b/g\nsimilarity index 100%\nrename from f\nrename to g\n");
        let spot = trace(&moved, "f", Some(Lines { first: 1, last: 1 }));
        assert_eq!((spot.fate, spot.file.as_deref()), (Fate::Moved, Some("g")));
        let gone =
            parse_patch("diff --git a/f b/f\ndeleted file mode 100644\n--- a/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n");
        assert_eq!(trace(&gone, "f", None).fate, Fate::Gone);
        assert_eq!(trace(&gone, "other", None).fate, Fate::Same);
    }
}
