//! Comments on places of finished work: made against a commit, checked against its files, moved from state to state.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::{Landing, LandingError};
use crate::model::worker::Worker;
use crate::model::{CommitId, Time, WorkerId};
use crate::store::{Comment, CommentId, CommentState, Lines, NewComment, Side};

/// Changed files that an error names.
const NAMED_FILES: usize = 12;
/// Lines that a comment quotes; of a longer range the first ones.
const QUOTED: usize = 12;

/// A place as a person writes it: `FILE:LINE`, `FILE:FIRST-LAST`, `FILE:-LINE` for lines that the work removes, or
/// `FILE` for the file as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemarkPlace {
    /// The file, from the repository's root.
    pub(crate) file: String,
    /// Which side of the difference the lines are on.
    pub(crate) side: Side,
    /// The lines; `None` is the whole file.
    pub(crate) lines: Option<Lines>,
}

/// A text that is no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not FILE:LINE, FILE:FIRST-LAST, FILE:-LINE or FILE")]
pub(crate) struct NotAPlace(String);

impl FromStr for RemarkPlace {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        let refused = || NotAPlace(text.to_owned());
        let (file, place) = match text.rsplit_once(':') {
            Some((file, place)) if place.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') => (file, place),
            _ => (text, ""),
        };
        let file = file.strip_prefix("./").unwrap_or(file);
        if file.is_empty() || (place.is_empty() && text.ends_with(':')) {
            return Err(refused());
        }
        let (side, range) = place.strip_prefix('-').map_or((Side::New, place), |range| (Side::Old, range));
        let lines = if place.is_empty() {
            None
        } else {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number > 0).ok_or_else(refused);
            Some(Lines { first: number(first)?, last: number(last)? })
        };
        if lines.is_some_and(|lines| lines.first > lines.last) {
            return Err(refused());
        }
        Ok(Self { file: file.to_owned(), side, lines })
    }
}

impl fmt::Display for RemarkPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        match (self.lines, self.side) {
            (None, _) => Ok(()),
            (Some(lines), Side::New) => write!(f, ":{lines}"),
            (Some(lines), Side::Old) => write!(f, ":-{lines}"),
        }
    }
}

impl RemarkPlace {
    /// The place of a comment.
    pub(crate) fn of(comment: &NewComment) -> Self {
        Self { file: comment.file.clone(), side: comment.side, lines: comment.lines }
    }
}

/// Who makes comments at which commit, and how they begin.
#[derive(Debug, Clone)]
pub(crate) struct Remarking {
    /// Who.
    pub(crate) by: String,
    /// The commit that was looked at.
    pub(crate) commit: CommitId,
    /// `Open` for a person's, `Proposed` for an agent's.
    pub(crate) state: CommentState,
}

impl Landing<'_> {
    /// Works out a comment and checks its place; stores nothing.
    ///
    /// # Errors
    /// [`LandingError::NoSuchFile`] with the changed files, [`LandingError::NoSuchLine`] with the lines there are,
    /// [`LandingError::NoLines`] for lines of a binary file.
    pub(crate) fn remark(
        &self,
        worker: &Worker,
        place: &RemarkPlace,
        text: &str,
        how: &Remarking,
    ) -> Result<NewComment, LandingError> {
        if text.trim().is_empty() {
            return Err(LandingError::EmptyComment { place: place.to_string() });
        }
        let base = self.repository.own_base(&worker.place, &how.commit)?;
        let commit = if place.side == Side::Old { &base } else { &how.commit };
        let Some(bytes) = self.repository.file_at(commit.as_str(), Path::new(&place.file))? else {
            return Err(self.no_such_file(&base, &how.commit, place, commit)?);
        };
        let quote = match place.lines {
            None => Vec::new(),
            Some(lines) => quoted(&bytes, lines).map_err(|count| match count {
                None => LandingError::NoLines { file: place.file.clone() },
                Some(count) => {
                    LandingError::NoSuchLine { file: place.file.clone(), commit: commit.clone(), lines, count }
                }
            })?,
        };
        Ok(NewComment {
            ticket: worker.ticket.clone(),
            worker: worker.id.clone(),
            commit: commit.clone(),
            file: place.file.clone(),
            side: place.side,
            lines: place.lines,
            quote,
            text: text.trim().to_owned(),
            by: how.by.clone(),
            severity: None,
            state: how.state,
            at: Time::now(),
        })
    }

    /// The error for a file that is not there, naming those that changed.
    fn no_such_file(
        &self,
        base: &CommitId,
        head: &CommitId,
        place: &RemarkPlace,
        commit: &CommitId,
    ) -> Result<LandingError, LandingError> {
        let changed = self.repository.line_changes(base, head)?;
        let side = |file: crate::git::PatchFile| if place.side == Side::Old { file.old } else { file.new };
        let mut changed: Vec<_> = changed.into_iter().filter_map(side).collect();
        let more = changed.len().saturating_sub(NAMED_FILES);
        changed.truncate(NAMED_FILES);
        Ok(LandingError::NoSuchFile { file: place.file.clone(), commit: commit.clone(), changed, more })
    }

    /// Moves comments of a worker from one state to another. Those that are there already stay so.
    ///
    /// # Errors
    /// [`LandingError::NoComment`] for an id the worker has not, [`LandingError::WrongCommentState`] for one that is in
    /// none of the states `from`; nothing is changed then.
    pub(crate) fn move_comments(
        &self,
        worker: &WorkerId,
        ids: &[CommentId],
        from: &[CommentState],
        to: CommentState,
    ) -> Result<(), LandingError> {
        self.store.change_comments(worker, |comments| {
            let mut changes = Vec::new();
            for id in ids {
                let known = comments.iter().find(|comment| comment.id == *id);
                let state = known.ok_or_else(|| LandingError::NoComment { worker: worker.clone(), id: *id })?;
                let state = state.content.state;
                if state != to && !from.contains(&state) {
                    return Err(LandingError::WrongCommentState { id: *id, state, to });
                }
                changes.push((*id, to));
            }
            Ok(changes)
        })
    }

    /// The comments of a worker in a state.
    pub(crate) fn comments_in(&self, worker: &WorkerId, state: CommentState) -> Result<Vec<Comment>, LandingError> {
        let all = self.store.comments(worker)?;
        Ok(all.into_iter().filter(|comment| comment.content.state == state).collect())
    }
}

/// Lines of a file, without their ends; `Err` with the number of lines where it has not so many, or with nothing where
/// it is binary.
fn quoted(bytes: &[u8], lines: Lines) -> Result<Vec<String>, Option<usize>> {
    if bytes.contains(&0) {
        return Err(None);
    }
    let text = String::from_utf8_lossy(bytes);
    let count = text.lines().count();
    if lines.last as usize > count {
        return Err(Some(count));
    }
    let wanted = (lines.last - lines.first + 1) as usize;
    let quote = text.lines().skip(lines.first as usize - 1).take(wanted.min(QUOTED));
    Ok(quote.map(str::to_owned).collect())
}
