//! What other programs ask.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::model::{TicketId, parse_duration};
use crate::queue::Completion;

/// The shortest lease.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A time that something lasts: seconds, or a text such as `90s` or `5m`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Lasting {
    /// Seconds.
    Seconds(f64),
    /// A number with a unit.
    Text(String),
}

impl Lasting {
    /// The time.
    ///
    /// # Errors
    /// A sentence for a person where it is none.
    pub(crate) fn duration(&self) -> Result<Duration, String> {
        match self {
            Self::Seconds(seconds) => {
                Duration::try_from_secs_f64(*seconds).map_err(|_| format!("`{seconds}` is not a number of seconds"))
            }
            Self::Text(text) => parse_duration(text),
        }
    }

    /// The time as one between two attempts.
    pub(crate) fn pause(&self) -> Result<Duration, String> {
        let pause = self.duration()?;
        (pause <= LONGEST_PAUSE).then_some(pause).ok_or_else(|| "an attempt waits for 30 days at most".to_owned())
    }

    /// The time as one of a lease.
    pub(crate) fn lease(&self) -> Result<Duration, String> {
        let lease = self.duration()?;
        let is_good = (SHORTEST..=LONGEST).contains(&lease);
        is_good.then_some(lease).ok_or_else(|| "a lease lasts from one second to one day".to_owned())
    }
}

/// Asks for a ticket.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub(crate) struct ClaimAsk {
    /// Which; null is the best one that is there.
    #[serde(default, alias = "id", alias = "ticket")]
    pub(crate) task_id: Option<TicketId>,
    /// Who will hold it: a name of one's own, up to 64 bytes.
    #[serde(alias = "worker_id", alias = "agent_id", alias = "owner")]
    pub(crate) worker: String,
    /// What the holder offers; it gets no ticket that needs more.
    #[serde(default)]
    pub(crate) capabilities: Vec<String>,
    /// How long the lease lasts unless renewed; null is two minutes.
    #[serde(default)]
    pub(crate) lease: Option<Lasting>,
    /// Names the request, up to 64 bytes: who hears no answer makes it again under the same name and is granted the same
    /// lease, for as long again, while the ticket is held under it. Null is a request that is never made again.
    #[serde(default)]
    pub(crate) request_id: Option<String>,
}

/// Prolongs a lease; also as a heartbeat.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub(crate) struct LeaseAsk {
    /// The ticket.
    #[serde(alias = "id", alias = "ticket")]
    pub(crate) task_id: TicketId,
    /// The lease, as it was granted.
    pub(crate) fence: u64,
    /// How long it lasts from now; null is two minutes.
    #[serde(default)]
    pub(crate) lease: Option<Lasting>,
}

/// Says that the work is done.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub(crate) struct CompletionAsk {
    /// The ticket.
    #[serde(alias = "id", alias = "ticket")]
    pub(crate) task_id: TicketId,
    /// The lease, as it was granted.
    pub(crate) fence: u64,
    /// How it ended; `done` where nothing is said.
    #[serde(default)]
    pub(crate) outcome: CompletionWord,
    /// What it came to: any JSON.
    #[serde(default)]
    pub(crate) result: Option<serde_json::Value>,
}

/// How work ended well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CompletionWord {
    /// Nothing is left to do.
    #[default]
    Done,
    /// There is work to judge.
    Review,
}

impl From<CompletionWord> for Completion {
    fn from(word: CompletionWord) -> Self {
        match word {
            CompletionWord::Done => Self::Done,
            CompletionWord::Review => Self::Review,
        }
    }
}

/// Says that the attempt failed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub(crate) struct FailureAsk {
    /// The ticket.
    #[serde(alias = "id", alias = "ticket")]
    pub(crate) task_id: TicketId,
    /// The lease, as it was granted.
    pub(crate) fence: u64,
    /// Why, for people.
    #[serde(alias = "reason")]
    pub(crate) error: String,
    /// When it is queued again, where attempts are left; null is after the waiting time of the configuration.
    #[serde(default)]
    pub(crate) retry_in: Option<Lasting>,
}

/// Gives a ticket back unused.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub(crate) struct ReleaseAsk {
    /// The ticket.
    #[serde(alias = "id", alias = "ticket")]
    pub(crate) task_id: TicketId,
    /// The lease, as it was granted.
    pub(crate) fence: u64,
}

/// Asks about one ticket.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub(crate) struct StatusAsk {
    /// Which.
    #[serde(alias = "id", alias = "ticket")]
    pub(crate) task_id: TicketId,
}

/// Asks what there is.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct ListAsk {
    /// How many of each list at most, up to 200; null is 100.
    pub(crate) limit: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_seconds_or_a_text_within_bounds() {
        let lease = |json: &str| serde_json::from_str::<Lasting>(json).unwrap().lease();
        assert_eq!(lease("90"), Ok(Duration::from_secs(90)));
        assert_eq!(lease("1.5"), Ok(Duration::from_millis(1_500)));
        assert_eq!(lease("\"5m\""), Ok(Duration::from_secs(300)));
        for bad in ["0", "-1", "1e99", "\"soon\"", "\"2d\""] {
            assert!(lease(bad).is_err(), "{bad}");
        }
    }
}
