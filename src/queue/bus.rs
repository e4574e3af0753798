//! Messages between people, agents and programs, beside the queue and kept where it is.
//!
//! # Theory of operation
//!
//! **Channels** are for everybody: what is published on one is kept for thirty days, in one order for all channels, and
//! whoever reads on after the last number that they dealt with misses nothing and sees nothing twice. A message has an id:
//! publishing it again publishes nothing, on a server for an hour. A **request** is a message like any other, and its answers
//! are messages on the same channel that name it in `reply_to`.
//!
//! **Mailboxes** hold messages for one worker until its supervisor has given them to the agent, which happens at the
//! boundary of a turn and once. They are in the store of the machine that runs the worker. A message from another machine
//! is on the server until the agent has it, and that machine has a copy. What nobody fetched in time expires, and a full
//! mailbox takes nothing more: what is sent on the machine itself is refused by what waits there, what is sent from another
//! one by what is on the server.
//!
//! **In the file engine** messages of channels are events among the others: the numbers are the same, followers wait as
//! those of events do, and they are deleted with them. What workers and landing do is there already, and is read off the
//! events as messages of `status`, `errors`, `results` and `tasks` without being written again.
//!
//! **On a server** channels are a stream that any program may write to and read from; what the events of this machine say
//! is copied to it by whoever makes them ([`tell_facts`]). Nothing that comes over the server is taken for the word of the
//! person, whatever it says of itself: nobody checked it.

#[cfg(test)]
pub(crate) mod contract;
mod facts;
mod file;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Queue;
use super::nats::{NatsBus, NatsError};
use crate::model::message::{Address, Channel, MESSAGE_BYTES, Message, SenderKind};
use crate::model::{Time, WorkerId, size_text};
use crate::store::{Posted, StatePaths, Store, StoreError};

pub(crate) use facts::tell_facts;
use file::FileBus;

/// Channels, and the mailboxes of workers. The module's page has what every engine promises.
///
/// All methods but those that say so answer within milliseconds. All may be called from several threads at once.
pub(crate) trait Bus: Send + Sync {
    /// Publishes a message on its channel; its number. An id that was published before has the number that it had then. In
    /// the file engine that is for as long as messages are kept, on a server for an hour.
    ///
    /// # Errors
    /// [`BusError::TooLarge`], and [`BusError::ReadOnly`] for a channel that nobody publishes on.
    fn publish(&self, message: &Message) -> Result<u64, BusError>;

    /// What was published on some channels, oldest first, up to now.
    fn read(&self, from: Start, channels: &[Channel]) -> Result<Part, BusError>;

    /// Reads on after a number, and goes on as messages come.
    fn subscribe(&self, after: u64, channels: &[Channel]) -> Result<Box<dyn Subscription>, BusError>;

    /// Puts a message into the mailbox of the worker that it is addressed to, unless so many wait there already: of what
    /// other machines sent, also what the worker's has fetched. Several that post at once may each see the last free place.
    /// Posting it again posts nothing.
    ///
    /// # Errors
    /// [`BusError::MailboxFull`] and [`BusError::TooLarge`].
    fn post(&self, worker: &WorkerId, message: &Message, limit: usize) -> Result<(), BusError>;

    /// What waits for a worker of this machine, oldest first, what expired among it. What has come over a server is copied to
    /// this machine as far as fewer than `limit` wait here, and goes from the server at the first call after the store was
    /// told that it left the mailbox. Whatever other programs put there by themselves far beyond the limit is thrown away.
    fn mail(&self, worker: &WorkerId, limit: usize) -> Result<Vec<Message>, BusError>;

    /// Where it is heard that something came over a server for a worker; `None` in an engine over which nothing comes.
    fn await_mail(&self, worker: &WorkerId) -> Option<Box<dyn Subscription>>;

    /// The message of this id, or number.
    fn find(&self, id: &str) -> Result<Option<Message>, BusError> {
        let mut all = self.read(Start::Beginning, &Channel::open())?.messages;
        let place = all.iter().position(|message| message.id == id).or_else(|| {
            let seq = id.parse::<u64>().ok()?;
            all.iter().position(|message| message.seq == Some(seq))
        });
        Ok(place.map(|place| all.swap_remove(place)))
    }

    /// Publishes a message and waits for the first answer to it; `None` when none came in time.
    fn request(&self, message: &Message, within: Duration) -> Result<Option<Message>, BusError> {
        let Address::Channel(channel) = message.channel else { return Ok(None) };
        let deadline = Instant::now() + within;
        let mut answers = self.subscribe(self.publish(message)?, &[channel])?;
        loop {
            for answer in answers.next(deadline)? {
                if answer.reply_to.as_deref() == Some(message.id.as_str()) {
                    return Ok(Some(answer));
                }
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
    }
}

/// A reader with its place, which messages come to. It is read by one thread.
pub(crate) trait Subscription: Send {
    /// The next messages, oldest first; none when the time is over.
    ///
    /// # Errors
    /// Those of a server that is away: once for each time. Reading on goes on where it stopped, when the server is back.
    fn next(&mut self, until: Instant) -> Result<Vec<Message>, BusError>;
}

/// Where to begin to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// With the first that is kept.
    Beginning,
    /// After this number.
    After(u64),
    /// With the first that came at this moment or later.
    Moment(Time),
}

/// What was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    /// The messages, oldest first.
    pub(crate) messages: Vec<Message>,
    /// The number after which to read on.
    pub(crate) seq: u64,
}

/// Why the bus refused or failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BusError {
    /// It is more than a message may be.
    #[error("the message has {}, and {} is the most", size_text(*bytes as u64), size_text(MESSAGE_BYTES as u64))]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Nobody publishes there.
    #[error("`{0}` is what the queue does, and can only be read")]
    ReadOnly(Channel),
    /// The channel cannot be read on its own where the queue is on a server.
    #[error("`{0}` is not a channel on the server")]
    NotThere(Channel),
    /// As many messages as may be wait for the worker.
    #[error("{limit} messages wait for worker `{worker}` already")]
    MailboxFull {
        /// Whose.
        worker: WorkerId,
        /// How many may.
        limit: usize,
    },
    /// The store failed.
    #[error("the messages could not be read or written")]
    Store(#[from] StoreError),
    /// The server failed.
    #[error("the messages could not be read or written")]
    Nats(#[from] NatsError),
}

impl BusError {
    /// Whether the same may work in a moment: a server is away.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Nats(error) if error.is_away())
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::TooLarge { .. } => Some("put it into a file, and say where it is".to_owned()),
            Self::ReadOnly(_) => Some("swarm queue changes the queue".to_owned()),
            Self::NotThere(_) => Some("swarm events --kind queue --follow shows the same".to_owned()),
            Self::MailboxFull { worker, .. } => {
                Some(format!("they wait for the end of its agent's turn: swarm status {worker}"))
            }
            Self::Store(error) => error.hint().map(str::to_owned),
            Self::Nats(error) => error.hint(),
        }
    }
}

/// The bus beside a queue, with the store of this machine.
pub(crate) fn bus(queue: &dyn Queue, store: &Arc<Store>, paths: &StatePaths) -> Result<Arc<dyn Bus>, BusError> {
    Ok(match queue.link() {
        Some(link) => Arc::new(NatsBus::open(link.clone(), store.clone())?),
        None => Arc::new(FileBus::new(store.clone(), paths.clone())),
    })
}

/// A message as it is kept: without a number, and not too large.
pub(super) fn payload(message: &Message) -> Result<Vec<u8>, BusError> {
    let message = Message { seq: None, ..message.clone() };
    let bytes = serde_json::to_vec(&message).expect("a message is plain JSON");
    if bytes.len() > MESSAGE_BYTES { Err(BusError::TooLarge { bytes: bytes.len() }) } else { Ok(bytes) }
}

/// The channel that a message is for, where it is for one that it can be published on.
pub(super) fn channel_of(message: &Message) -> Result<Channel, BusError> {
    match message.channel {
        Address::Channel(channel) if !channel.is_read_only() => Ok(channel),
        Address::Channel(_) | Address::Mail(_) => Err(BusError::ReadOnly(Channel::Tasks)),
    }
}

/// Puts a message into a mailbox of this machine. The person's own may be of any size: it goes nowhere else.
pub(crate) fn post_here(store: &Store, worker: &WorkerId, message: &Message, limit: usize) -> Result<(), BusError> {
    if message.from.kind != SenderKind::Person {
        payload(message)?;
    }
    match store.post(worker, message, limit)? {
        Posted::Taken | Posted::Known | Posted::Settled => Ok(()),
        Posted::Full => Err(BusError::MailboxFull { worker: worker.clone(), limit }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::contract::{BusEngine, bus_contract};
    use super::{Bus, FileBus};
    use crate::model::settings::Durability;
    use crate::store::{StatePaths, Store};

    /// The bus in a store of its own.
    struct FileEngine(tempfile::TempDir);

    impl BusEngine for FileEngine {
        fn fresh() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn bus(&self) -> (Arc<dyn Bus>, Arc<Store>) {
            let paths = StatePaths::new(self.0.path());
            let store = Arc::new(Store::open(&paths, Durability::Normal).unwrap());
            (Arc::new(FileBus::new(store.clone(), paths)), store)
        }
    }

    bus_contract!(FileEngine);
}
