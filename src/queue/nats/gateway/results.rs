//! What attempts came to, for whoever works on what depends on them, on any machine and in any program.

use std::sync::Arc;

use async_nats::jetstream::stream::{DirectGetErrorKind, LastRawMessageErrorKind, Stream};

use super::fold::json;
use super::streams::Streams;
use crate::model::TicketId;
use crate::queue::message::TaskResult;
use crate::queue::nats::connection::{Link, PATIENCE};
use crate::queue::nats::error::NatsError;
use crate::queue::nats::stream::is_missing;
use crate::queue::server::encoded;

impl Link {
    /// Keeps what an attempt came to, once for each fence, for as long as what became of tickets is kept.
    pub(crate) fn keep_result(self: &Arc<Self>, result: &TaskResult) -> Result<(), NatsError> {
        let subject = self.subject_of_result(&result.task_id);
        let keep =
            || self.keep(subject.clone(), json(result), &format!("{}/{}", result.task_id, result.fence)).map(drop);
        match keep() {
            // Nobody may have answered other programs yet, for whom it is made.
            Err(_) if self.history()?.is_none() => {
                Streams::open(self, None)?;
                keep()
            }
            kept => kept,
        }
    }

    /// What was kept last of a ticket; `None` where nothing was, or too long ago.
    pub(crate) fn result_of(&self, ticket: &TicketId) -> Result<Option<TaskResult>, NatsError> {
        let Some(history) = self.history()? else { return Ok(None) };
        let subject = self.subject_of_result(ticket);
        let found = self.patiently(PATIENCE, || {
            let (history, subject) = (history.clone(), subject.clone());
            async move { last_of(&history, &subject).await }
        })?;
        Ok(found.and_then(|payload| serde_json::from_slice(&payload).ok()))
    }

    /// The subject of what a ticket came to.
    fn subject_of_result(&self, ticket: &TicketId) -> String {
        format!("{}.tasks.results.{}", self.prefix(), encoded(ticket.as_str()))
    }

    /// The stream of what became of tickets, where there is one.
    fn history(&self) -> Result<Option<Stream>, NatsError> {
        self.patiently(PATIENCE, || {
            let (context, name) = (self.context(), format!("{}_history", self.names().stream));
            async move {
                match context.get_stream(&name).await {
                    Ok(found) => Ok(Some(found)),
                    Err(error) if is_missing(&error.kind()) => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }
        })
    }
}

/// The last message of a subject; `None` where there is none. Whoever leads in the stream answers, where others could.
async fn last_of(stream: &Stream, subject: &str) -> Result<Option<Vec<u8>>, async_nats::Error> {
    if !stream.cached_info().config.allow_direct {
        return match stream.get_last_raw_message_by_subject(subject).await {
            Ok(message) => Ok(Some(Vec::from(message.payload))),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(error.into()),
        };
    }
    match stream.direct_get_last_for_subject(subject.to_owned()).await {
        Ok(message) => Ok(Some(Vec::from(message.payload))),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}
