//! The log of a queue: a stream that takes a message only right after the one its sender knew as the last.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::header::NATS_ROLLUP;
use async_nats::jetstream::context::{ConsumerInfoErrorKind, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{DirectGetErrorKind, LastRawMessageErrorKind, RawMessageErrorKind, Stream};
use tokio::task::JoinSet;

use super::change::Change;
use super::connection::{AGAIN_AFTER, Link, PATIENCE};
use super::error::{NatsError, is_answer};
use super::gateway::{GROUP, make_submissions};
use super::stream::{self, Identity};
use crate::queue::server::Server;

/// Messages asked for at once by a replica that is behind.
const WINDOW: u64 = 64;

/// How much of a log is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// The number of the first message; all before it were purged or made superfluous.
    pub(super) first: u64,
    /// The number of the last one.
    pub(super) last: u64,
    /// How many there are.
    pub(super) messages: u64,
}

/// The stream that is one project's log.
#[derive(Debug)]
pub(crate) struct Log {
    /// The connection.
    link: Arc<Link>,
    /// The stream.
    stream: Stream,
    /// Whose log it is.
    identity: Identity,
}

impl Log {
    /// Connects to a server and finds the project's stream, or makes it for the repository that begins with the commit
    /// `founder`.
    pub(crate) fn open(server: &Server, founder: Option<String>) -> Result<Self, NatsError> {
        let link = Link::open(server)?;
        let (context, names, to) = (link.context(), link.names().clone(), server.clone());
        let stream = link.run(async move { stream::open(&to, &context, &names, founder.as_deref()).await })??;
        let identity = Identity::of(&stream.cached_info().config, server)?;
        Ok(Self { link, stream, identity })
    }

    /// Makes a stream that is nobody's queue before it is named, for the repository that begins with the commit `founder`.
    ///
    /// # Errors
    /// [`NatsError::Occupied`] where there is a queue of that name that is in use.
    pub(crate) fn begin(server: &Server, founder: &str) -> Result<Self, NatsError> {
        let link = Link::open(server)?;
        let (context, names, to, founder) = (link.context(), link.names().clone(), server.clone(), founder.to_owned());
        let begun = link.run(async move { stream::begin(&to, &context, &names, &founder).await });
        let (stream, identity) = begun??;
        Ok(Self { link, stream, identity })
    }

    /// Gives the stream the name of its log, so that it is a queue from now on.
    pub(crate) fn name(&self) -> Result<(), NatsError> {
        let (context, config) = (self.link.context(), stream::named(&self.stream, &self.identity));
        let (names, founder) = (self.link.names().clone(), self.identity.founder.clone());
        // Without it, whoever answers first makes it.
        let before = context.clone();
        drop(self.link.once(async move { make_submissions(&before, &names, &founder).await }));
        match self.link.once(async move { context.update_stream(config).await }) {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(self.link.refused(error.into())),
            None => Err(self.link.unanswered()),
        }
    }

    /// Deletes the stream.
    pub(crate) fn delete(&self) -> Result<(), NatsError> {
        let (context, name) = (self.link.context(), self.stream.cached_info().config.name.clone());
        match self.link.once(async move { context.delete_stream(name).await }) {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(self.link.refused(error.into())),
            None => Err(self.link.unanswered()),
        }
    }

    /// Whether its last message is the change of this name.
    pub(crate) fn ends_with(&self, id: &str) -> Result<bool, NatsError> {
        let last = self.last(PATIENCE)?;
        Ok(last > 0 && self.read(last, last)?.iter().any(|(_, change)| change.id == id))
    }

    /// The connection.
    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Whose log it is.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The number of the last message; 0 before the first.
    pub(crate) fn last(&self, patience: Duration) -> Result<u64, NatsError> {
        self.link.patiently(patience, || {
            let (stream, subject) = (self.stream.clone(), self.link.names().all.clone());
            async move {
                match stream.get_last_raw_message_by_subject(&subject).await {
                    Ok(message) => Ok(message.sequence),
                    Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(0),
                    Err(error) => Err(error.into()),
                }
            }
        })
    }

    /// How much of it is there, after a look at whether it is still the same log.
    pub(super) fn extent(&self) -> Result<Extent, NatsError> {
        let info = self.link.patiently(PATIENCE, || {
            let stream = self.stream.clone();
            async move { Ok(stream.get_info().await?) }
        })?;
        let (log, _) = stream::marks_of(&info.config);
        if log != self.identity.log {
            let (address, project) = (self.link.address().to_owned(), self.link.names().project.clone());
            return Err(NatsError::Replaced { address, project });
        }
        let state = info.state;
        Ok(Extent { first: state.first_sequence, last: state.last_sequence, messages: state.messages })
    }

    /// The number up to which gateways have told other programs of its changes; `None` where there never was one.
    pub(super) fn told(&self) -> Result<Option<u64>, NatsError> {
        self.link.patiently(PATIENCE, || {
            let stream = self.stream.clone();
            async move {
                match stream.consumer_info(GROUP).await {
                    Ok(info) => Ok(Some(info.ack_floor.stream_sequence)),
                    Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }
        })
    }

    /// Deletes all messages before the number `first`, which is not above the last one.
    pub(super) fn purge(&self, first: u64) -> Result<(), NatsError> {
        self.link.patiently(PATIENCE, || {
            let stream = self.stream.clone();
            async move { Ok(stream.purge().sequence(first).await.map(drop)?) }
        })
    }

    /// The changes with the numbers `first` to `last`; without those that later ones made superfluous, or that were purged.
    pub(super) fn read(&self, first: u64, last: u64) -> Result<Vec<(u64, Change)>, NatsError> {
        let mut messages = Vec::new();
        let mut from = first;
        while from <= last {
            let until = last.min(from + WINDOW - 1);
            let found: Vec<(u64, Vec<u8>)> = self.link.patiently(PATIENCE, || {
                let stream = self.stream.clone();
                async move {
                    let mut asked = JoinSet::new();
                    for seq in from..=until {
                        let stream = stream.clone();
                        asked.spawn(async move { message_at(&stream, seq).await });
                    }
                    let mut found = Vec::new();
                    while let Some(answer) = asked.join_next().await {
                        found.extend(answer??);
                    }
                    found.sort_by_key(|(seq, _)| *seq);
                    Ok(found)
                }
            })?;
            let has_end = found.last().is_some_and(|(seq, _)| *seq == until);
            messages.extend(found);
            from = until + 1;
            if !has_end && from <= last {
                from = self.next_from(from)?.unwrap_or(last + 1);
            }
        }
        let parse = |(seq, payload): (u64, Vec<u8>)| {
            let change = serde_json::from_slice(&payload).map_err(|source| NatsError::Unreadable { seq, source })?;
            Ok((seq, change))
        };
        messages.into_iter().map(parse).collect()
    }

    /// The number of the first message from `first` on that is there.
    fn next_from(&self, first: u64) -> Result<Option<u64>, NatsError> {
        self.link.patiently(PATIENCE, || {
            let (stream, subject) = (self.stream.clone(), self.link.names().all.clone());
            async move {
                if !stream.cached_info().config.allow_direct {
                    return match stream.get_first_raw_message_by_subject(&subject, first).await {
                        Ok(message) => Ok(Some(message.sequence)),
                        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
                        Err(error) => Err(error.into()),
                    };
                }
                match stream.direct_get_next_for_subject(&subject, Some(first)).await {
                    Ok(message) => Ok(Some(message.sequence)),
                    Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }
        })
    }

    /// Appends a change as the message after `after`; `false` when another one is there already.
    pub(crate) fn append(&self, after: u64, change: &Change) -> Result<bool, NatsError> {
        let started = Instant::now();
        let mut is_repeated = false;
        loop {
            match self.offer(after, change, is_repeated) {
                Ok(Some(is_taken)) => return Ok(is_taken),
                Ok(None) if started.elapsed() > PATIENCE => return Err(self.link.unanswered()),
                Err(error) if !error.is_away() || started.elapsed() > PATIENCE => return Err(error),
                Ok(None) | Err(_) => {
                    is_repeated = true;
                    std::thread::sleep(AGAIN_AFTER);
                }
            }
        }
    }

    /// Offers a change once, or again: then the message in its place may be itself. `None` when no answer came.
    pub(super) fn offer(&self, after: u64, change: &Change, is_repeated: bool) -> Result<Option<bool>, NatsError> {
        let payload = serde_json::to_vec(change).map_err(|error| self.link.refused(error.into()))?;
        let mut message = PublishMessage::build().payload(payload.into()).expected_last_sequence(after);
        let subject = match change.renewed() {
            Some(what) => {
                // The server deletes the one before.
                message = message.header(NATS_ROLLUP, "sub");
                format!("{}.{what}", self.link.names().renewals)
            }
            None => self.link.names().changes.clone(),
        };
        let context = self.link.context();
        let sent = self.link.once(async move { context.send_publish(subject, message).await?.into_future().await });
        match sent {
            Some(Ok(_)) => Ok(Some(true)),
            Some(Err(error)) if error.kind() == PublishErrorKind::WrongLastSequence => {
                (if is_repeated { self.is_at(after + 1, change) } else { Ok(false) }).map(Some)
            }
            Some(Err(error)) if is_answer(&error) => Err(self.link.refused(error.into())),
            _ => Ok(None),
        }
    }

    /// Whether the message of a number is this change.
    fn is_at(&self, seq: u64, change: &Change) -> Result<bool, NatsError> {
        match self.read(seq, seq)?.first() {
            Some((_, found)) => Ok(found.id == change.id),
            // One that was made superfluous is offered again without harm.
            None if change.renewed().is_some() => Ok(false),
            // What was there may have been purged: then nobody can tell.
            None if self.extent()?.first > seq => Err(self.link.unanswered()),
            None => Ok(false),
        }
    }
}

/// The message of a number, with it; `None` where there is none. Whoever leads in the stream answers, where others could.
async fn message_at(stream: &Stream, seq: u64) -> Result<Option<(u64, Vec<u8>)>, async_nats::Error> {
    if !stream.cached_info().config.allow_direct {
        return match stream.get_raw_message(seq).await {
            Ok(message) => Ok(Some((seq, Vec::from(message.payload)))),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(error.into()),
        };
    }
    match stream.direct_get(seq).await {
        Ok(message) => Ok(Some((seq, Vec::from(message.payload)))),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}
