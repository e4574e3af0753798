//! Whether an error of a provider asks for patience, and for how long. Status and error word decide where a program tells
//! them; programs that only show a sentence are known by the words that providers use.

use std::time::Duration;

use super::AgentEvent;
use crate::model::Time;

/// Statuses by which a provider says that it is too much: too many requests, and overloaded (Anthropic's own).
const STATUSES: [i64; 2] = [429, 529];
/// Words for the same in the errors of programs.
const WORDS: [&str; 3] = ["rate_limit", "rate_limit_error", "overloaded"];
/// The same in sentences, in lower case.
const SAYINGS: [&str; 9] = [
    "too many requests",
    "rate limit",
    "rate_limit",
    "overloaded",
    "usage limit reached",
    "quota exceeded",
    "(429)",
    "error 429",
    "status 429",
];

/// The event for an error with this status and word, as far as the program tells them.
pub(super) fn asked(status: Option<i64>, word: Option<&str>, says: &str, now: Time) -> Option<AgentEvent> {
    let is_asked = match (status, word) {
        (Some(status), _) => STATUSES.contains(&status),
        (None, Some(word)) => WORDS.contains(&word),
        (None, None) => false,
    };
    is_asked.then(|| AgentEvent::Patience { why: says.to_owned(), wait: resets_in(says, now) })
}

/// The event for an error of which only its sentence is known.
pub(super) fn said(says: &str, now: Time) -> Option<AgentEvent> {
    let lower = says.to_lowercase();
    let is_asked = SAYINGS.iter().any(|saying| lower.contains(saying));
    is_asked.then(|| AgentEvent::Patience { why: says.to_owned(), wait: resets_in(says, now) })
}

/// How long it is until the limit of a subscription is over: `usage limit reached|1763719200` (Claude Code, seconds since
/// 1970).
fn resets_in(says: &str, now: Time) -> Option<Duration> {
    let digits = says.rsplit_once('|')?.1.trim();
    let seconds: i64 = digits.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()?;
    let until = Time::from_millis(seconds.checked_mul(1_000)?);
    Some(now.age_at(until)).filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(event: Option<AgentEvent>) -> Option<Option<u64>> {
        match event? {
            AgentEvent::Patience { wait, .. } => Some(wait.map(|wait| wait.as_secs())),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn status_and_word_decide_where_they_are_told() {
        let now = Time::from_millis(1_763_719_200_000);
        let ask = |status, word| wait(asked(status, word, "x", now));
        assert_eq!(ask(Some(429), None), Some(None));
        assert_eq!(ask(Some(529), Some("overloaded")), Some(None));
        assert_eq!(ask(None, Some("rate_limit")), Some(None));
        assert_eq!(ask(Some(500), Some("server_error")), None);
        assert_eq!(ask(None, Some("authentication_failed")), None);
        assert_eq!(ask(None, None), None);
    }

    #[test]
    fn a_reset_that_is_told_is_waited_for() {
        let now = Time::from_millis(1_763_719_200_000);
        assert_eq!(wait(said("Claude AI usage limit reached|1763722800", now)), Some(Some(3_600)));
        assert_eq!(wait(said("Claude AI usage limit reached|1763719100", now)), Some(None), "it is over");
        assert_eq!(wait(said("HTTP error 429: slow down", now)), Some(None));
        assert_eq!(wait(said("the file has 429 lines", now)), None);
    }
}
