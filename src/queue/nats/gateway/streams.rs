//! The streams beside the log: what was submitted, what became of tickets, and what could not be used.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::context::Context;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType};
use async_nats::jetstream::{self};
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::{GROUP, INBOX, Input, PULL};
use crate::model::queue::QueueSettings;
use crate::queue::nats::connection::Link;
use crate::queue::nats::error::{NatsError, is_answer, is_passing};
use crate::queue::nats::stream::{self, Names};
use crate::queue::server::encoded;

/// How long a message that is sent again is known as the same.
const SAME_WITHIN: Duration = Duration::from_secs(10 * 60);
/// How long the server waits until it hands a message to another gateway.
const HAND_ON_AFTER: Duration = Duration::from_secs(30);
/// Messages that could not be used and are kept.
const KEPT_REJECTED: i64 = 10_000;

/// What things are called on the server.
pub(super) struct Streams {
    /// What subjects of tickets begin with.
    tasks: String,
    /// The stream of the log.
    log: String,
    /// The subject of its changes.
    changes: String,
    /// The name of the log, which one that is made anew has not.
    pub(super) log_name: String,
}

impl Streams {
    /// Finds them or makes them; `retention` is how long what became of tickets is kept, `None` as long as it was.
    pub(super) fn open(link: &Arc<Link>, retention: Option<Duration>) -> Result<Self, NatsError> {
        let (context, names) = (link.context(), link.names().clone());
        let tasks = format!("{}.tasks", names.prefix);
        let wanted = configs(&names, &tasks, retention.unwrap_or(QueueSettings::default().retention));
        let log = names.stream.clone();
        let made = link.run(async move {
            let log = context.get_stream(&log).await?;
            let (log_name, founder) = stream::marks_of(&log.cached_info().config);
            let [submitted, history, rejected] = wanted.map(|wanted| stream::marked(wanted, &founder));
            stream::ensure(&context, submitted, true).await?;
            stream::ensure(&context, rejected, true).await?;
            stream::ensure(&context, history, retention.is_some()).await?;
            Ok::<_, async_nats::Error>(log_name)
        })?;
        let log_name =
            made.map_err(|error| if is_passing(&error) { link.unanswered() } else { link.refused(error) })?;
        Ok(Self { tasks, log: names.stream.clone(), changes: names.changes.clone(), log_name })
    }

    /// The subject below those of tickets.
    pub(super) fn subject(&self, word: &str) -> String {
        format!("{}.{word}", self.tasks)
    }

    /// The subject about one ticket.
    pub(super) fn subject_of(&self, word: &str, ticket: &str) -> String {
        format!("{}.{word}.{}", self.tasks, encoded(ticket))
    }

    /// What was submitted.
    pub(super) fn submissions(&self) -> Source {
        Source { stream: format!("{}_tasks", self.log), subject: self.subject("submitted") }
    }

    /// The changes of the log.
    pub(super) fn changes(&self) -> Source {
        Source { stream: self.log.clone(), subject: self.changes.clone() }
    }
}

/// Makes the stream of submissions of the repository that begins with the commit `founder`, so that tickets can be handed in
/// before anybody answered.
pub(in crate::queue::nats) async fn make_submissions(
    context: &Context,
    names: &Names,
    founder: &str,
) -> Result<(), async_nats::Error> {
    let [submitted, ..] = configs(names, &format!("{}.tasks", names.prefix), Duration::ZERO);
    stream::ensure(context, stream::marked(submitted, founder), true).await.map(drop)
}

/// The streams as they have to be: of submissions, of the history, and of what was rejected.
fn configs(names: &Names, tasks: &str, retention: Duration) -> [Config; 3] {
    let stream = |name: &str, subjects: &[&str]| Config {
        name: format!("{}_{name}", names.stream),
        subjects: subjects.iter().map(|subject| format!("{tasks}.{subject}")).collect(),
        storage: StorageType::File,
        num_replicas: names.replicas,
        allow_direct: names.is_direct(),
        duplicate_window: SAME_WITHIN,
        ..Config::default()
    };
    [
        Config { retention: RetentionPolicy::WorkQueue, ..stream("tasks", &["submitted"]) },
        Config {
            max_age: retention,
            duplicate_window: if retention.is_zero() { SAME_WITHIN } else { SAME_WITHIN.min(retention) },
            ..stream("history", &["available", "changed.>", "results.>"])
        },
        Config { max_messages: KEPT_REJECTED, ..stream("rejected", &["rejected"]) },
    ]
}

/// A stream from which gateways take messages, each from the others.
pub(super) struct Source {
    /// The stream.
    stream: String,
    /// The subject.
    subject: String,
}

impl Source {
    /// Hands over what is there and what comes, until nobody takes it any more.
    pub(super) async fn receive(
        &self,
        context: &Context,
        wrap: fn(jetstream::Message) -> Input,
        inbox: &mpsc::Sender<Input>,
    ) -> Result<(), async_nats::Error> {
        let config = pull::Config {
            durable_name: Some(GROUP.to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: HAND_ON_AFTER,
            max_ack_pending: i64::try_from(INBOX)?,
            filter_subject: self.subject.clone(),
            ..pull::Config::default()
        };
        let stream = context.get_stream(&self.stream).await?;
        let consumer = stream.get_or_create_consumer(GROUP, config).await?;
        loop {
            let mut messages = consumer.batch().max_messages(INBOX).expires(PULL).messages().await?;
            while let Some(message) = messages.next().await {
                if inbox.send(wrap(message?)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

impl Link {
    /// Appends a message to the stream of its subject, once for each `id`; its number there.
    pub(in crate::queue::nats) fn keep(&self, subject: String, payload: Vec<u8>, id: &str) -> Result<u64, NatsError> {
        let message = PublishMessage::build().payload(payload.into()).message_id(id);
        let context = self.context();
        match self.once(async move { context.send_publish(subject, message).await?.await }) {
            Some(Ok(kept)) => Ok(kept.sequence),
            Some(Err(error)) if is_answer(&error) => Err(self.refused(error.into())),
            _ => Err(self.unanswered()),
        }
    }
}
