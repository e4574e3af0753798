//! What can go wrong with a model, sorted by what to do about it.

use std::time::Duration;

/// A request that got no answer.
#[derive(Debug, thiserror::Error)]
#[error("{model}: {message}")]
pub(crate) struct ChatError {
    /// `provider/model` that was asked.
    pub(crate) model: String,
    /// What to do about it.
    pub(crate) trouble: Trouble,
    /// What the provider said, or what was seen, one clause.
    pub(crate) message: String,
    /// What a person can do, a whole sentence with the exact command where there is one.
    pub(crate) hint: Option<String>,
    /// What lay beneath.
    #[source]
    pub(crate) source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nobody listens at the address.
    Refused,
    /// Too busy; may work after the time named.
    Overloaded {
        /// As the provider asks.
        retry_after: Option<Duration>,
    },
    /// Too many requests; may work after the time named.
    RateLimited {
        /// As the provider asks.
        retry_after: Option<Duration>,
    },
    /// Nothing came for too long.
    TimedOut,
    /// The connection broke, or the answer ended in the middle.
    Cut,
    /// The provider failed, by its own account.
    ServerError,
    /// What came was not what the protocol says.
    Malformed,
    /// Not logged in, or not allowed.
    Unauthorized,
    /// No such model there.
    ModelMissing,
    /// The model cannot call tools.
    NoTools,
    /// The conversation is longer than the model can take.
    TooLong,
    /// The request itself is wrong in the provider's eyes.
    BadRequest,
    /// A budget is used up.
    Budget,
    /// A replayed recording holds another conversation.
    Mismatch,
}

impl Trouble {
    /// Whether the same request may well work a little later.
    pub(crate) fn is_transient(self) -> bool {
        matches!(
            self,
            Self::Refused
                | Self::Overloaded { .. }
                | Self::RateLimited { .. }
                | Self::TimedOut
                | Self::Cut
                | Self::ServerError
                | Self::Malformed
        )
    }
}
