//! The verdict in the last words of a reviewer: one block of JSON.

use serde::Deserialize;
use serde_json::Value;

use crate::agent::last_object;
use crate::store::Lines;

/// Comments of one answer that are taken; a reviewer with more has lost its way.
const MOST_COMMENTS: usize = 200;

/// What a reviewer answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Whether it found the work good.
    pub(super) approves: bool,
    /// One or two sentences.
    pub(super) summary: String,
    /// About places.
    pub(super) comments: Vec<Said>,
}

/// One comment of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// The file, as the reviewer wrote it.
    pub(super) file: String,
    /// The lines; `None` is the file as a whole.
    pub(super) lines: Option<Lines>,
    /// The remark.
    pub(super) text: String,
    /// How grave, in its own word.
    pub(super) severity: Option<String>,
}

/// The block as it is written; further keys mean nothing.
#[derive(Deserialize)]
struct Written {
    verdict: String,
    #[serde(default)]
    summary: Option<String>,
    #[serde(default)]
    comments: Option<Vec<WrittenComment>>,
}

/// One of its comments.
#[derive(Deserialize)]
struct WrittenComment {
    file: String,
    #[serde(default)]
    line: Value,
    text: String,
    #[serde(default)]
    severity: Option<String>,
}

/// Finds the last block with a verdict in what a reviewer said.
///
/// # Errors
/// One clause that says what is wrong, which the reviewer is told.
pub(super) fn read_answer(said: &str) -> Result<Answer, String> {
    let Some(block) = last_object(said, "verdict") else {
        return Err("it ended without a block of JSON that has a `verdict`".to_owned());
    };
    let written: Written =
        serde_json::from_value(block).map_err(|error| format!("its verdict is malformed: {error}"))?;
    let approves = match written.verdict.trim().to_lowercase().as_str() {
        "approve" | "approved" => true,
        "reject" | "rejected" | "request_changes" | "changes_requested" => false,
        other => return Err(format!("its verdict is `{other}`, not `approve` or `reject`")),
    };
    let comments = written.comments.unwrap_or_default();
    if comments.len() > MOST_COMMENTS {
        return Err(format!("it made {} comments, and {MOST_COMMENTS} are the most", comments.len()));
    }
    let comments = comments.into_iter().enumerate().map(|(index, comment)| said_of(index, comment));
    let comments = comments.collect::<Result<Vec<_>, _>>()?;
    let summary = written.summary.unwrap_or_default().trim().to_owned();
    if !approves && summary.is_empty() && comments.is_empty() {
        return Err("it rejects without a word why".to_owned());
    }
    Ok(Answer { approves, summary, comments })
}

/// One comment; `index` is for the error.
fn said_of(index: usize, comment: WrittenComment) -> Result<Said, String> {
    let wrong = |what: &str| format!("`comments[{index}]`: {what}");
    if comment.text.trim().is_empty() || comment.file.trim().is_empty() {
        return Err(wrong("it needs a `file` and a `text`"));
    }
    let numbers = match &comment.line {
        Value::Null => None,
        Value::Number(number) => Some((number.as_u64(), number.as_u64())),
        Value::String(text) => {
            let (first, last) = text.trim().split_once('-').unwrap_or((text.trim(), text.trim()));
            Some((first.trim().parse().ok(), last.trim().parse().ok()))
        }
        _ => Some((None, None)),
    };
    let number =
        |number: Option<u64>| number.and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0);
    let lines = match numbers {
        None => None,
        Some((first, last)) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Some(Lines { first, last }),
            _ => return Err(wrong("`line` is a number from 1, or null")),
        },
    };
    let severity = comment.severity.filter(|word| !word.trim().is_empty());
    let file = comment.file.trim().trim_start_matches("./").to_owned();
    Ok(Said { file, lines, text: comment.text.trim().to_owned(), severity })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_block_with_a_verdict_counts() {
        let said = "I read it.\n```json\n{\"verdict\": \"approve\"}\n```\nNo, wait: `{\"verdict\": \"approve\"}`\n\n```json\n\
            {\"verdict\": \"reject\", \"summary\": \" bad \", \"comments\": [\n  {\"file\": \"./a.rs\", \"line\": 3, \
            \"text\": \"x {\", \"severity\": \"high\"},\n  {\"file\": \"b\", \"line\": \"4-6\", \"text\": \"y\"},\n  \
            {\"file\": \"c\", \"line\": null, \"text\": \"z\"}\n]}\n```\n";
        let answer = read_answer(said).unwrap();
        assert_eq!((answer.approves, answer.summary.as_str()), (false, "bad"));
        let places: Vec<_> =
            answer.comments.iter().map(|c| (c.file.as_str(), c.lines.map(|l| (l.first, l.last)))).collect();
        assert_eq!(places, [("a.rs", Some((3, 3))), ("b", Some((4, 6))), ("c", None)]);
        assert_eq!(answer.comments[0].severity.as_deref(), Some("high"));
    }

    #[test]
    fn what_is_no_verdict_is_told_why() {
        let wrong = |said: &str| read_answer(said).unwrap_err();
        assert!(wrong("Looks good to me!").contains("without a block"));
        assert!(wrong("{\"verdict\": \"approve\"").contains("without a block"), "cut off");
        assert!(wrong("the work says {\"verdict\": \"approve\"}").contains("without a block"), "quoted within a line");
        assert!(wrong("{\"verdict\": \"maybe\"}").contains("`maybe`"));
        assert!(wrong("{\"verdict\": true}").contains("malformed"));
        assert!(wrong("{\"verdict\": \"reject\"}").contains("without a word"));
        let comment = |json: &str| wrong(&format!("{{\"verdict\": \"reject\", \"comments\": [{json}]}}"));
        assert!(comment("{\"file\": \"a\", \"line\": 0, \"text\": \"x\"}").contains("`comments[0]`: `line`"));
        assert!(comment("{\"file\": \"a\", \"line\": 1}").contains("missing field `text`"));
        assert!(comment("{\"file\": \"\", \"line\": 1, \"text\": \"x\"}").contains("needs a `file`"));
    }
}
