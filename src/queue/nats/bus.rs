//! The bus on a server: a stream of messages that any program may write to and read from, so that what comes from there
//! says of nobody reliably who sent it.

mod mailbox;
mod read;

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::message::{Info, PublishMessage};
use async_nats::jetstream::stream::{Config, StorageType};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::read::{PART, Reader};
use super::connection::{ANSWER, Link, PATIENCE};
use super::error::NatsError;
use super::stream::Names;
use crate::model::message::{Address, Channel, MESSAGE_BYTES, Message, Sender, SenderKind};
use crate::model::{Time, WorkerId, error_text};
use crate::queue::bus::{Bus, BusError, Part, Start, Subscription, channel_of, payload};
use crate::queue::server::encoded;
use crate::store::{KEEP_EVENTS, Store};

/// How long an id is remembered that was published. The server keeps those of that time in memory.
const REMEMBERED: Duration = Duration::from_secs(3_600);
/// Messages that are deleted at once.
const WINDOW: usize = 64;
/// Messages that may wait for a reader who is slow.
const AHEAD: usize = 256;
/// How often it is seen to that the connection is the one that a reader was made on.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The pause before a server that is away is looked for again.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Messages on a server. Mail for workers of this machine comes from there into the store.
#[derive(Debug)]
pub(crate) struct NatsBus {
    /// The connection.
    link: Arc<Link>,
    /// What things are called.
    names: Subjects,
    /// This machine's store.
    store: Arc<Store>,
}

/// What the project's messages are called on the server.
#[derive(Debug, Clone)]
struct Subjects {
    /// The stream.
    stream: String,
    /// What all subjects begin with.
    prefix: String,
    /// How many servers keep them.
    replicas: usize,
}

impl Subjects {
    /// The subject of an address. A worker's id has characters that are not for subjects.
    fn of(&self, address: &Address) -> String {
        match address {
            Address::Channel(channel) => format!("{}.{channel}", self.prefix),
            Address::Mail(worker) => format!("{}.mail.{}", self.prefix, encoded(worker.as_str())),
        }
    }

    /// Those of channels.
    fn all(&self, channels: &[Channel]) -> Vec<String> {
        channels.iter().map(|channel| self.of(&Address::Channel(*channel))).collect()
    }

    /// Whether one server alone keeps the stream. Of several, one that is behind would say of what it has not got yet that it
    /// is not there.
    fn is_alone(&self) -> bool {
        self.replicas == 1
    }

    /// The stream.
    fn config(&self) -> Config {
        let mut subjects = self.all(&Channel::open());
        subjects.push(format!("{}.mail.*", self.prefix));
        Config {
            name: self.stream.clone(),
            subjects,
            storage: StorageType::File,
            num_replicas: self.replicas,
            allow_direct: self.is_alone(),
            max_age: KEEP_EVENTS,
            max_message_size: i32::try_from(2 * MESSAGE_BYTES).unwrap_or(i32::MAX),
            duplicate_window: REMEMBERED,
            ..Config::default()
        }
    }
}

impl NatsBus {
    /// Finds the project's stream of messages, or makes it.
    pub(crate) fn open(link: Arc<Link>, store: Arc<Store>) -> Result<Self, NatsError> {
        let Names { channels: stream, prefix, replicas, .. } = link.names().clone();
        let mut names = Subjects { stream, prefix, replicas };
        names.replicas = link.patiently(PATIENCE, || {
            let (context, wanted) = (link.context(), names.config());
            async move { ensure(&context, wanted).await }
        })?;
        Ok(Self { link, names, store })
    }

    /// Publishes a message; its number.
    fn send(&self, message: &Message) -> Result<u64, BusError> {
        let payload = payload(message)?;
        let subject = self.names.of(&message.channel);
        let id = match &message.channel {
            Address::Channel(_) => message.id.clone(),
            // One message to two workers is two letters.
            Address::Mail(worker) => format!("{}/{worker}", message.id),
        };
        Ok(self.link.patiently(PATIENCE, || {
            let publish = PublishMessage::build().payload(payload.clone().into()).message_id(&id);
            let (context, subject) = (self.link.context(), subject.clone());
            async move { Ok(context.send_publish(subject, publish).await?.into_future().await?.sequence) }
        })?)
    }

    /// Everything on some subjects up to now, and the number of the last message of all.
    fn read_subjects(&self, from: Start, subjects: Vec<String>) -> Result<Part, BusError> {
        self.read_in_parts(from, subjects, PART)
    }

    /// The same with so many messages at once, at most.
    fn read_in_parts(&self, from: Start, subjects: Vec<String>, most: usize) -> Result<Part, BusError> {
        let mut reader = Reader::begin(&self.link, &self.names, from, subjects, most)?;
        let mut messages = Vec::new();
        while let Some(part) = reader.part()? {
            messages.extend(part);
        }
        Ok(Part { messages, seq: reader.last() })
    }

    /// A reader of some subjects.
    fn listen(&self, after: u64, subjects: Vec<String>) -> Listening {
        let (sender, incoming) = mpsc::channel(AHEAD);
        let pump = Pump {
            context: self.link.context(),
            names: self.names.clone(),
            address: self.link.address().to_owned(),
            subjects,
            after,
            sender,
        };
        self.link.spawn(pump.run());
        Listening { link: self.link.clone(), incoming }
    }

    /// Deletes messages. One that stays all the same is deleted by whoever comes upon it next.
    fn delete(&self, seqs: &[u64]) -> Result<(), BusError> {
        for window in seqs.chunks(WINDOW) {
            self.link.patiently(PATIENCE, || {
                let (context, name, window) = (self.link.context(), self.names.stream.clone(), window.to_vec());
                async move {
                    let stream = context.get_stream_no_info(name).await?;
                    let mut asked = JoinSet::new();
                    for seq in window {
                        let stream = stream.clone();
                        asked.spawn(async move { stream.delete_message(seq).await });
                    }
                    // Gone already is as good: another call was faster.
                    while asked.join_next().await.is_some() {}
                    Ok(())
                }
            })?;
        }
        Ok(())
    }
}

impl Bus for NatsBus {
    fn publish(&self, message: &Message) -> Result<u64, BusError> {
        channel_of(message)?;
        self.send(message)
    }

    fn read(&self, from: Start, channels: &[Channel]) -> Result<Part, BusError> {
        check_there(channels)?;
        let mut part = self.read_subjects(from, self.names.all(channels))?;
        let now = Time::now();
        part.messages.retain(|message| !message.is_expired(now));
        Ok(part)
    }

    fn subscribe(&self, after: u64, channels: &[Channel]) -> Result<Box<dyn Subscription>, BusError> {
        check_there(channels)?;
        Ok(Box::new(self.listen(after, self.names.all(channels))))
    }

    fn post(&self, worker: &WorkerId, message: &Message, limit: usize) -> Result<(), BusError> {
        let address = Address::Mail(worker.clone());
        let waiting = self.read_subjects(Start::Beginning, vec![self.names.of(&address)])?.messages;
        let now = Time::now();
        if waiting.iter().any(|mail| mail.id == message.id) {
            return Ok(());
        }
        if waiting.iter().filter(|mail| !mail.is_expired(now)).count() >= limit {
            return Err(BusError::MailboxFull { worker: worker.clone(), limit });
        }
        self.send(&Message { channel: address, ..message.clone() }).map(drop)
    }

    fn mail(&self, worker: &WorkerId, limit: usize) -> Result<Vec<Message>, BusError> {
        match self.fetch_mail(worker, limit, limit.saturating_mul(2).max(mailbox::KEPT)) {
            // What is on this machine is delivered all the same.
            Err(error) if error.is_away() => {}
            fetched => fetched?,
        }
        Ok(self.store.waiting_mail(worker)?)
    }

    fn await_mail(&self, worker: &WorkerId) -> Option<Box<dyn Subscription>> {
        Some(Box::new(self.listen(0, vec![self.names.of(&Address::Mail(worker.clone()))])))
    }
}

/// Who sent something over the server. Nobody checked that, so it is neither the person's word nor the coordinator's,
/// whatever it says of itself.
fn unproven(from: Sender) -> Sender {
    match from.kind {
        SenderKind::Worker => from,
        SenderKind::Person | SenderKind::Coordinator | SenderKind::Client => {
            Sender { kind: SenderKind::Client, name: from.name }
        }
    }
}

/// Refuses channels that are not there.
fn check_there(channels: &[Channel]) -> Result<(), BusError> {
    let missing = channels.iter().find(|channel| channel.is_read_only());
    missing.map_or(Ok(()), |channel| Err(BusError::NotThere(*channel)))
}

/// Finds the stream, or makes it; how many servers keep it. In one that is there, what an earlier version did otherwise is
/// changed.
async fn ensure(context: &Context, wanted: Config) -> Result<usize, async_nats::Error> {
    let found = context.get_or_create_stream(wanted.clone()).await?;
    let config = &found.cached_info().config;
    let (duplicate_window, allow_direct) = (wanted.duplicate_window, config.num_replicas == 1);
    if (config.duplicate_window, config.allow_direct) != (duplicate_window, allow_direct) {
        let changed = Config { duplicate_window, allow_direct, ..config.clone() };
        // Whoever may not change it uses it as it is.
        if let Err(error) = context.update_stream(changed).await {
            tracing::warn!(error = error_text(&error), "the stream of messages could not be brought up to date");
        }
    }
    Ok(config.num_replicas)
}

/// Where a reader on the server begins.
pub(super) fn begins(from: Start) -> Result<DeliverPolicy, async_nats::Error> {
    Ok(match from {
        Start::Beginning | Start::After(0) => DeliverPolicy::All,
        Start::After(seq) => DeliverPolicy::ByStartSequence { start_sequence: seq + 1 },
        Start::Moment(moment) => {
            let start_time = async_nats::datetime::from_nanos(i128::from(moment.as_millis()) * 1_000_000)?;
            DeliverPolicy::ByStartTime { start_time }
        }
    })
}

impl Subjects {
    /// A message off the stream, with its place there. `None` for one whose subject is no address.
    fn read<'a>(
        &self,
        raw: &'a async_nats::jetstream::Message,
    ) -> Result<(Option<Message>, Info<'a>), async_nats::Error> {
        let info = raw.info()?;
        let at = i64::try_from(info.published.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        let words = raw.subject.as_str().strip_prefix(&self.prefix).unwrap_or_default();
        let address = match words.strip_prefix(".mail.") {
            Some(worker) => decoded(worker).and_then(|worker| worker.parse().ok()).map(Address::Mail),
            None => words.strip_prefix('.').and_then(|word| word.parse().ok()).map(Address::Channel),
        };
        let message = address.map(|address| {
            let message = Message::read(&raw.payload, address, info.stream_sequence, Time::from_millis(at));
            Message { from: unproven(message.from), ..message }
        });
        Ok((message, info))
    }
}

/// A text that [`encoded`] made a part of a subject.
fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = part.as_bytes();
    while let [first, after @ ..] = rest {
        match (first, after) {
            (b'=', [high, low, after @ ..]) => {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
                rest = after;
            }
            (byte, after) => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

/// Brings messages from the server to a reader, for as long as there is one.
struct Pump {
    /// The server's face.
    context: Context,
    /// What things are called there.
    names: Subjects,
    /// The server, for messages.
    address: String,
    /// What is listened to.
    subjects: Vec<String>,
    /// The number of the last message that was passed on.
    after: u64,
    /// Where messages go.
    sender: mpsc::Sender<Result<Message, NatsError>>,
}

impl Pump {
    /// Runs until the reader is gone. A server that was away is asked for what came after the last message.
    async fn run(mut self) {
        let mut is_away = false;
        while !self.sender.is_closed() {
            match tokio::time::timeout(ANSWER, self.open()).await {
                Ok(Ok(incoming)) => {
                    is_away = false;
                    self.pass_on(incoming).await;
                }
                failed if !std::mem::replace(&mut is_away, true) => {
                    let why = failed.ok().and_then(Result::err);
                    self.sender.send(Err(NatsError::unreachable(&self.address, why))).await.ok();
                }
                _ => {}
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }

    /// Begins to listen after the last message.
    async fn open(&self) -> Result<Ordered, async_nats::Error> {
        let stream = self.context.get_stream_no_info(&self.names.stream).await?;
        let (deliver_policy, filter_subjects) = (begins(Start::After(self.after))?, self.subjects.clone());
        let config = OrderedConfig { deliver_policy, filter_subjects, ..OrderedConfig::default() };
        Ok(stream.create_consumer(config).await?.messages().await?)
    }

    /// Passes messages on until that fails, or nobody reads any more.
    async fn pass_on(&mut self, mut incoming: Ordered) {
        let first = Link::connection(&self.context);
        loop {
            let next = tokio::select! {
                next = incoming.next() => next,
                () = self.sender.closed() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {
                    if Link::connection(&self.context).is_none_or(|now| Some(now) != first) {
                        return;
                    }
                    continue;
                }
            };
            let Some(Ok(raw)) = next else { return };
            // One that cannot be read is none of ours, and is not read again.
            let Ok((Some(message), _)) = self.names.read(&raw) else { continue };
            self.after = message.seq.unwrap_or(self.after);
            if self.sender.send(Ok(message)).await.is_err() {
                return;
            }
        }
    }
}

/// The end at which messages arrive.
struct Listening {
    /// The connection.
    link: Arc<Link>,
    /// Messages, and the news that the server is away.
    incoming: mpsc::Receiver<Result<Message, NatsError>>,
}

impl Subscription for Listening {
    fn next(&mut self, until: Instant) -> Result<Vec<Message>, BusError> {
        let now = Time::now();
        let mut messages = Vec::new();
        let wait = until.saturating_duration_since(Instant::now());
        let incoming = &mut self.incoming;
        let first = self.link.wait(async move { tokio::time::timeout(wait, incoming.recv()).await.ok().flatten() });
        if let Some(first) = first {
            messages.push(first?);
            while let Ok(Ok(next)) = self.incoming.try_recv() {
                messages.push(next);
            }
        }
        messages.retain(|message| !message.is_expired(now));
        Ok(messages)
    }
}

#[cfg(test)]
mod tests;
