//! The bus in the project's own store: messages are events among the others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::facts::fact;
use super::{Bus, BusError, Part, Start, Subscription, channel_of, payload, post_here};
use crate::model::message::{Address, Channel, Message};
use crate::model::settings::Durability;
use crate::model::{Time, WorkerId};
use crate::store::{StatePaths, Store, StoredEvent, StreamFilter};

/// How often the store's change counter is read; one page of shared memory.
const PEEK_EVERY: Duration = Duration::from_millis(20);
/// Events read in one go.
const BATCH: usize = 500;

/// Messages in a store.
#[derive(Debug)]
pub(crate) struct FileBus {
    /// The store.
    store: Arc<Store>,
    /// Where what workers came to lies.
    paths: StatePaths,
}

impl FileBus {
    /// The bus of an open store.
    pub(crate) fn new(store: Arc<Store>, paths: StatePaths) -> Self {
        Self { store, paths }
    }

    /// A reader that begins after a number, with this connection.
    fn reader(&self, store: Arc<Store>, after: u64, channels: &[Channel]) -> Reader {
        let seq = i64::try_from(after).unwrap_or(i64::MAX);
        Reader { store, paths: self.paths.clone(), filter: filter(channels), channels: channels.to_vec(), seq }
    }
}

impl Bus for FileBus {
    fn publish(&self, message: &Message) -> Result<u64, BusError> {
        channel_of(message)?;
        payload(message)?;
        Ok(self.store.append_message(message)?.unsigned_abs())
    }

    fn read(&self, from: Start, channels: &[Channel]) -> Result<Part, BusError> {
        let after = match from {
            Start::Beginning => 0,
            Start::After(seq) => seq,
            Start::Moment(moment) => self.store.seq_before(moment)?.unsigned_abs(),
        };
        let mut reader = self.reader(self.store.clone(), after, channels);
        let mut messages = Vec::new();
        while reader.read_on(&mut messages)? {}
        Ok(Part { messages, seq: reader.seq.unsigned_abs() })
    }

    fn subscribe(&self, after: u64, channels: &[Channel]) -> Result<Box<dyn Subscription>, BusError> {
        // What a connection writes itself does not change its counter.
        let own = Arc::new(Store::open(&self.paths, Durability::Normal)?);
        Ok(Box::new(self.reader(own, after, channels)))
    }

    fn post(&self, worker: &WorkerId, message: &Message, limit: usize) -> Result<(), BusError> {
        post_here(&self.store, worker, message, limit)
    }

    fn mail(&self, worker: &WorkerId, _limit: usize) -> Result<Vec<Message>, BusError> {
        Ok(self.store.waiting_mail(worker)?)
    }

    fn await_mail(&self, _worker: &WorkerId) -> Option<Box<dyn Subscription>> {
        None
    }
}

/// The events in which messages of these channels are.
fn filter(channels: &[Channel]) -> StreamFilter {
    let has = |channel| channels.contains(&channel);
    let mut kinds = vec!["bus"];
    if has(Channel::Status) || has(Channel::Errors) || has(Channel::Results) {
        kinds.extend(["worker", "swarm"]);
    }
    if has(Channel::Tasks) {
        kinds.push("queue");
    }
    StreamFilter { ticket: None, kinds }
}

/// A place in the events.
struct Reader {
    /// The store.
    store: Arc<Store>,
    /// Where what workers came to lies.
    paths: StatePaths,
    /// The events that are looked at.
    filter: StreamFilter,
    /// What is wanted of them.
    channels: Vec<Channel>,
    /// Everything up to here has been read.
    seq: i64,
}

impl Reader {
    /// Reads the next events; false when there are none.
    fn read_on(&mut self, messages: &mut Vec<Message>) -> Result<bool, BusError> {
        let part = self.store.stream(self.seq, &self.filter, BATCH)?;
        let is_end = part.seq == self.seq;
        self.seq = part.seq;
        let now = Time::now();
        messages.extend(part.events.iter().filter_map(|event| self.message(event)).filter(|message| {
            let is_wanted = matches!(message.channel, Address::Channel(channel) if self.channels.contains(&channel));
            is_wanted && !message.is_expired(now)
        }));
        Ok(!is_end)
    }

    /// An event as a message.
    fn message(&self, event: &StoredEvent) -> Option<Message> {
        event.message().or_else(|| fact(event, &self.paths))
    }
}

impl Subscription for Reader {
    fn next(&mut self, until: Instant) -> Result<Vec<Message>, BusError> {
        let mut messages = Vec::new();
        loop {
            // Before reading: what is committed in between then counts as a change.
            let version = self.store.data_version()?;
            while self.read_on(&mut messages)? {}
            if !messages.is_empty() {
                return Ok(messages);
            }
            while self.store.data_version()? == version {
                let now = Instant::now();
                if now >= until {
                    return Ok(messages);
                }
                std::thread::sleep(PEEK_EVERY.min(until - now));
            }
        }
    }
}
