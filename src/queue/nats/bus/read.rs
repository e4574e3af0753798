//! Reading what a server has, in parts. A try to reach a server is cut off after [`ANSWER`] and begun anew, so what takes
//! longer than that is read in several: what came is had, and the next part begins after it.

use std::cell::Cell;

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer};
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::{Subjects, begins};
use crate::model::Time;
use crate::model::message::{MESSAGE_BYTES, Message};
use crate::queue::bus::Start;
use crate::queue::nats::connection::{ANSWER, Link, PATIENCE};
use crate::queue::nats::error::NatsError;

/// Messages in one part, at most.
pub(super) const PART: usize = 500;
/// Their bytes on the line: more than any one message has, and little enough that a part of which only some came in time
/// is not in the way of the next one for long.
const PART_BYTES: usize = 4 * MESSAGE_BYTES;

/// Reads what a server has on some subjects, up to what was the last message of all when it began: what comes meanwhile is
/// not waited for.
pub(super) struct Reader<'a> {
    /// The connection.
    link: &'a Link,
    /// What things are called.
    names: &'a Subjects,
    /// What is read.
    subjects: Vec<String>,
    /// Where the next part begins; `None` when all is read.
    from: Option<Start>,
    /// The number of the last message.
    last: u64,
    /// When the stream was made, by the server's clock.
    made: Time,
    /// Messages in one part, at most.
    most: usize,
    /// How many are asked for next: fewer where the line was too slow for more.
    asked: usize,
}

impl<'a> Reader<'a> {
    /// Begins to read; nothing but the number of the last message is known yet.
    pub(super) fn begin(
        link: &'a Link,
        names: &'a Subjects,
        from: Start,
        subjects: Vec<String>,
        most: usize,
    ) -> Result<Self, NatsError> {
        let (last, made) = link.patiently(PATIENCE, || {
            let (context, name) = (link.context(), names.stream.clone());
            async move {
                let stream = context.get_stream(name).await?;
                let info = stream.cached_info();
                Ok((info.state.last_sequence, i64::try_from(info.created.unix_timestamp_nanos() / 1_000_000)?))
            }
        })?;
        let made = Time::from_millis(made);
        Ok(Self { link, names, subjects, from: Some(from), last, made, most, asked: most })
    }

    /// The number of the last message of all subjects, read or not.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// When what is read from was made, by the server's clock.
    pub(super) fn made(&self) -> Time {
        self.made
    }

    /// Whether all is read.
    pub(super) fn is_over(&self) -> bool {
        self.from.is_none()
    }

    /// The next messages, oldest first; `None` when all is read.
    pub(super) fn part(&mut self) -> Result<Option<Vec<Message>>, NatsError> {
        let Some(from) = self.from else { return Ok(None) };
        let asked = Cell::new(self.asked);
        let part = self.link.patiently(PATIENCE, || {
            // After a try that is cut off it is asked for less.
            let most = asked.replace((asked.get() / 4).max(1));
            let (context, names, subjects) = (self.link.context(), self.names.clone(), self.subjects.clone());
            Asked { context, names, subjects, from, last: self.last, most }.answer()
        })?;
        self.from = (!part.is_end).then_some(Start::After(part.read));
        let next = if part.is_slow { part.count } else { 2 * part.count };
        self.asked = next.clamp(1, self.most);
        Ok(Some(part.messages))
    }
}

/// What is asked for in one try.
struct Asked {
    /// The server's face.
    context: Context,
    /// What things are called there.
    names: Subjects,
    /// What is read.
    subjects: Vec<String>,
    /// Where it begins.
    from: Start,
    /// Where it ends.
    last: u64,
    /// Messages, at most.
    most: usize,
}

/// What came.
struct Answered {
    /// The messages, oldest first.
    messages: Vec<Message>,
    /// How many there were, with those whose subject is no address.
    count: usize,
    /// Everything up to this number is read.
    read: u64,
    /// Whether there were more to come for which the time was too short.
    is_slow: bool,
    /// Whether that is all.
    is_end: bool,
}

impl Asked {
    /// Reads one part, and so much less than asked for as keeps the try from being cut off.
    ///
    /// # Errors
    /// Also where nothing came although there is something: of several servers the one that reads is behind, and is asked
    /// again.
    async fn answer(self) -> Result<Answered, async_nats::Error> {
        let until = Instant::now() + ANSWER / 2;
        let stream = self.context.get_stream_no_info(&self.names.stream).await?;
        let consumer = stream.create_consumer(self.consumer()?).await?;
        let (begun, left) = (self.begun(&consumer), consumer.cached_info().num_pending);
        let mut part = Answered { messages: Vec::new(), count: 0, read: begun, is_slow: false, is_end: false };
        let left = if left > 0 && begun < self.last { self.receive(&consumer, until, &mut part).await? } else { left };
        part.is_end = part.read >= self.last || (left == 0 && self.is_all(&stream, part.read).await?);
        if !part.is_end && part.read == begun {
            return Err("what is there did not come".into());
        }
        Ok(part)
    }

    /// The place of a reader on the server, which counts for this part alone.
    fn consumer(&self) -> Result<Config, async_nats::Error> {
        Ok(Config {
            deliver_policy: begins(self.from)?,
            filter_subjects: self.subjects.clone(),
            ack_policy: AckPolicy::None,
            inactive_threshold: PATIENCE,
            num_replicas: 1,
            memory_storage: true,
            ..Config::default()
        })
    }

    /// The number before the first one that a reader looks at.
    fn begun(&self, consumer: &PullConsumer) -> u64 {
        let before = consumer.cached_info().delivered.stream_sequence;
        match self.from {
            // A server that is behind begins where it ends.
            Start::After(seq) => before.max(seq),
            Start::Beginning | Start::Moment(_) => before,
        }
    }

    /// Takes what comes, for as long as it may but for the first message, which is waited for; how many there are after
    /// that.
    async fn receive(
        &self,
        consumer: &PullConsumer,
        until: Instant,
        part: &mut Answered,
    ) -> Result<u64, async_nats::Error> {
        let mut left = consumer.cached_info().num_pending;
        let mut incoming = consumer.fetch().max_messages(self.most).max_bytes(PART_BYTES).messages().await?;
        while left > 0 && part.count < self.most && part.read < self.last {
            let end = if part.count == 0 { until + ANSWER } else { until };
            let Ok(next) = timeout_at(end, incoming.next()).await else {
                part.is_slow = true;
                break;
            };
            // Whatever ends it, what came is there; and one that was lost on the way is not passed over.
            let Some(Ok(raw)) = next else { break };
            let (message, info) = self.names.read(&raw)?;
            if usize::try_from(info.consumer_sequence) != Ok(part.count + 1) {
                break;
            }
            (part.count, left) = (part.count + 1, info.pending);
            if info.stream_sequence > self.last {
                part.read = self.last;
            } else if info.stream_sequence > part.read {
                part.read = info.stream_sequence;
                part.messages.extend(message);
            }
        }
        Ok(left)
    }

    /// Whether there is nothing from here to the end. Of several servers the one that reads may be behind; the one that
    /// leads knows.
    async fn is_all(&self, stream: &Stream<()>, read: u64) -> Result<bool, async_nats::Error> {
        if self.names.is_alone() {
            return Ok(true);
        }
        for subject in &self.subjects {
            match stream.get_first_raw_message_by_subject(subject, read + 1).await {
                Ok(message) if message.sequence <= self.last => return Ok(false),
                Ok(_) => {}
                Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}
