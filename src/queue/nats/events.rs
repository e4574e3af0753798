//! What the nodes of a project tell of what happens there, beside the log.

use std::time::Duration;

use async_nats::jetstream::context::{Context, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, StorageType};

use super::bus::begins;
use super::connection::Link;
use super::error::{NatsError, is_answer};
use super::part::part;
use super::stream::{Names, ensure, is_missing, marked, marks_of};
use crate::model::node_event::NodeEvent;
use crate::model::queue::QueueSettings;
use crate::queue::bus::Start;
use crate::queue::server::encoded;

/// How long an event that is told again is known as the same. The server keeps the ids of that time in memory.
const SAME_WITHIN: Duration = Duration::from_secs(3_600);
/// Bytes of what is sent with an event besides, at most.
const HEADERS: usize = 1024;
/// Bytes that are told before somebody waits for the answers, but for the last event: what a slow line takes in one try.
const TOGETHER: usize = 64 * 1024;

/// What of the events a server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventsKept {
    /// When their stream was made, in nanoseconds since 1970: another one has other numbers. 0 where there is none.
    pub(crate) made: i128,
    /// The number of the first; one more than the last where there is none.
    pub(crate) first: u64,
    /// The number of the last that was told.
    pub(crate) last: u64,
}

/// A part of what was told.
pub(crate) struct EventsPart {
    /// The events, each with its number on the server; a sentence of one that cannot be read.
    pub(crate) events: Vec<(u64, Result<NodeEvent, String>)>,
    /// Whether there was more.
    pub(crate) is_more: bool,
}

/// An event as it is sent: its subject, its content, and what tells it from every other one.
type Sent = (String, Vec<u8>, String);

impl Link {
    /// Tells events one after the other; what is told again within an hour is there once. One that is more than the server takes
    /// at once is left out.
    pub(crate) fn tell_events(&self, events: &[NodeEvent]) -> Result<(), NatsError> {
        let most = self.context().client().server_info().max_payload.saturating_sub(HEADERS);
        let (mut together, mut bytes) = (Vec::new(), 0);
        for event in events {
            let payload = serde_json::to_vec(event).expect("events have keys of text");
            if payload.len() > most {
                tracing::warn!(seq = event.seq, "an event is more than the server takes at once");
                continue;
            }
            let (prefix, node) = (&self.names().prefix, encoded(event.node.as_str()));
            let subject = format!("{prefix}.events.{node}.{}", event.fact.kind());
            bytes += payload.len();
            together.push((subject, payload, format!("{}/{}", event.clone, event.seq)));
            if bytes > TOGETHER {
                self.tell_together(&std::mem::take(&mut together))?;
                bytes = 0;
            }
        }
        if together.is_empty() { Ok(()) } else { self.tell_together(&together) }
    }

    /// Tells some at once, in a stream that is made where nobody told anything yet.
    fn tell_together(&self, events: &[Sent]) -> Result<(), NatsError> {
        let mut answer = self.publish_together(events);
        if matches!(&answer, Some(Err(error)) if error.kind() == PublishErrorKind::StreamNotFound) {
            let (context, names) = (self.context(), self.names().clone());
            self.answered(async move { find_or_make(&context, &names, None).await })?;
            answer = self.publish_together(events);
        }
        match answer {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) if is_answer(&error) => Err(self.refused(error.into())),
            _ => Err(self.unanswered()),
        }
    }

    /// Publishes some, of which none waits for the answer to the one before.
    fn publish_together(&self, events: &[Sent]) -> Option<Result<(), PublishError>> {
        let (context, events) = (self.context(), events.to_vec());
        self.once(async move {
            let mut sent = Vec::with_capacity(events.len());
            for (subject, payload, id) in events {
                let message = PublishMessage::build().payload(payload.into()).message_id(&id);
                sent.push(context.send_publish(subject, message).await?);
            }
            for sent in sent {
                sent.await?;
            }
            Ok(())
        })
    }

    /// Has the server keep them for so long; zero is for ever.
    pub(super) fn keep_events(&self, age: Duration) -> Result<(), NatsError> {
        let (context, names) = (self.context(), self.names().clone());
        self.answered(async move { find_or_make(&context, &names, Some(age)).await })
    }

    /// What the server has, which is waited for so long.
    pub(crate) fn events_kept(&self, patience: Duration) -> Result<EventsKept, NatsError> {
        self.patiently(patience, || {
            let (context, name) = (self.context(), self.names().events.clone());
            async move {
                match context.get_stream(name).await {
                    Ok(found) => {
                        let info = found.cached_info();
                        let (made, state) = (info.created.unix_timestamp_nanos(), &info.state);
                        Ok(EventsKept { made, first: state.first_sequence.max(1), last: state.last_sequence })
                    }
                    Err(error) if is_missing(&error.kind()) => Ok(EventsKept { made: 0, first: 1, last: 0 }),
                    Err(error) => Err(error.into()),
                }
            }
        })
    }

    /// The events from some place on, as far as they come in one try, and the server is waited for so long.
    ///
    /// # Errors
    /// Also where nobody told any yet.
    pub(crate) fn events_from(&self, from: Start, patience: Duration) -> Result<EventsPart, NatsError> {
        self.patiently(patience, || {
            let (context, name) = (self.context(), self.names().events.clone());
            async move {
                let part = part(&context, &name, begins(from)?).await?;
                if part.messages.is_empty() && part.is_more {
                    return Err("the events that are there did not come".into());
                }
                let mut events = Vec::with_capacity(part.messages.len());
                for message in part.messages {
                    let read = serde_json::from_slice(&message.payload).map_err(|error| error.to_string());
                    events.push((message.info()?.stream_sequence, read));
                }
                Ok(EventsPart { events, is_more: part.is_more })
            }
        })
    }
}

/// Finds the stream, or makes it; with an `age` that is how long it keeps what is told.
async fn find_or_make(context: &Context, names: &Names, age: Option<Duration>) -> Result<(), async_nats::Error> {
    let log = context.get_stream(&names.stream).await?;
    let (_, founder) = marks_of(&log.cached_info().config);
    let wanted = config(names, age.unwrap_or(QueueSettings::default().keep_events));
    ensure(context, marked(wanted, &founder), age.is_some()).await.map(drop)
}

/// The stream.
fn config(names: &Names, max_age: Duration) -> Config {
    Config {
        name: names.events.clone(),
        subjects: vec![format!("{}.events.>", names.prefix)],
        storage: StorageType::File,
        num_replicas: names.replicas,
        allow_direct: names.is_direct(),
        max_age,
        duplicate_window: if max_age.is_zero() { SAME_WITHIN } else { SAME_WITHIN.min(max_age) },
        ..Config::default()
    }
}
