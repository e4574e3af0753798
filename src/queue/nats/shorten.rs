//! Shortening a log: what its first messages made is kept as a whole, and they are deleted.
//!
//! # Theory of operation
//!
//! The steps are: (1) read the pointer to the **beginning** that counts, (2) take over all of the log, (3) dump the tables
//! as one beginning, (4) put it on the server as an object with a name of its own, (5) make the pointer name it, by
//! compare-and-swap; and at a later look, when the pointer has stood for a while, (6) read that beginning back, (7) delete
//! the messages that it stands for, but for some, and (8) the objects of earlier ones.
//!
//! **Nothing is lost**, because at every moment the log from its first message on, or the beginning that the pointer names
//! and the log after it, have everything. The pointer only goes forward: its number is that of a dump made after it was
//! read, and whoever read an older one is refused. Messages are deleted only below a pointer that stands, whose object was
//! read back. An object is deleted only when one with a greater number stands, so that no pointer can come to name it any
//! more. Each step leaves a state from which the next look goes on, whoever takes it.
//!
//! **The pause** before the deletion is for power cuts: a server says that it has something before the disk does, and what
//! stands for deleted messages has to be on the disk before they go. It is for the slow, too: a reader or writer who is a
//! few messages behind finds them where they were.
//!
//! **Who reads** sees missing numbers after any purge, as after renewals that were made superfluous. Was anything deleted
//! that it has not got, then there is a pointer beyond what it has; it looks for that after it read, and begins with that
//! beginning. Each change names the last one that can only be missing by deletion; where that is missing and there is no
//! such pointer, the server lost something, and the reader refuses to go on.
//!
//! **Gateways** share a consumer of the log; what it has not told yet stays.

use std::time::Duration;

use super::beginning::{Beginning, Beginnings, Pointed, Pointer};
use super::connection::PATIENCE;
use super::error::NatsError;
use super::replica::Replica;
use crate::queue::QueueError;
use crate::queue::engine::check_in_log;

/// How much of a log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keep {
    /// Messages that a log may have before it is shortened.
    pub(crate) messages: u64,
    /// Numbers before the beginning of which the messages are kept.
    pub(crate) margin: u64,
    /// How long a beginning stands before the messages before it are deleted.
    pub(crate) settled: Duration,
}

/// Numbers before the beginning of which the messages are kept: some minutes of a busy queue, so that machines that were
/// away for a moment go on where they were and see each event.
const MARGIN: u64 = 2_000;
/// How long a beginning stands: more than twice the two minutes after which a server has everything on the disk unless its
/// `sync_interval` says otherwise (docs.nats.io/running-a-nats-service/configuration).
const SETTLED: Duration = Duration::from_secs(5 * 60);

impl Keep {
    /// So many messages.
    pub(crate) fn messages(messages: u64) -> Self {
        Self { messages, margin: MARGIN, settled: SETTLED }
    }
}

impl Replica {
    /// Makes a new beginning where the log is too long, and deletes what stands before the one that counts.
    pub(super) fn shorten_to(&self, keep: &Keep) -> Result<(), QueueError> {
        let beginnings = self.beginnings()?;
        self.cut(&beginnings, keep)?;
        let pointed = beginnings.pointed()?;
        let extent = self.log().extent()?;
        let before = pointed.as_ref().and_then(|pointed| Some((pointed.pointer.as_ref()?.number, pointed.age)));
        // One that has not stood long enough to cut by it stays: another in its place would have to stand as long.
        let (number, may) = before.map_or((0, true), |(number, age)| (number, age >= keep.settled));
        if may && extent.messages > keep.messages && extent.last.saturating_sub(number) > keep.messages {
            self.begin_anew(&beginnings, pointed.as_ref())?;
            self.cut(&beginnings, keep)?;
        }
        Ok(())
    }

    /// The beginnings of its log.
    pub(super) fn beginnings(&self) -> Result<Beginnings, NatsError> {
        Beginnings::open(self.log().link(), &self.log().identity().log)
    }

    /// Makes a new beginning, unless somebody did since the pointer was read; whether it did.
    fn begin_anew(&self, beginnings: &Beginnings, pointed: Option<&Pointed>) -> Result<bool, QueueError> {
        let beginning = self.dump()?;
        let before = pointed.and_then(|pointed| pointed.pointer.as_ref()).map_or(0, |pointer| pointer.number);
        if beginning.number <= before {
            return Ok(false);
        }
        let pointer = beginnings.put(&beginning)?;
        Ok(beginnings.point(&pointer, pointed.map(|pointed| pointed.revision))?)
    }

    /// The tables with all of the log.
    pub(super) fn dump(&self) -> Result<Beginning, QueueError> {
        self.catch_up(PATIENCE)?;
        let identity = self.log().identity();
        self.store().read(|txn| {
            check_in_log(txn, identity)?;
            Beginning::of(txn, &identity.log)
        })
    }

    /// Deletes the messages before the beginning that counts, and earlier beginnings, when it has stood long enough.
    pub(super) fn cut(&self, beginnings: &Beginnings, keep: &Keep) -> Result<(), QueueError> {
        let Some(Pointed { pointer: Some(pointer), age, .. }) = beginnings.pointed()? else { return Ok(()) };
        if age < keep.settled {
            return Ok(());
        }
        let extent = self.log().extent()?;
        if pointer.number > extent.last {
            return Err(NatsError::Shorter { last: extent.last, applied: pointer.number }.into());
        }
        let first = self.first_to_stay(&pointer, keep.margin)?;
        let earlier = beginnings.earlier(&pointer)?;
        if first <= extent.first && earlier.is_empty() {
            return Ok(());
        }
        if !stands(beginnings, &pointer)? {
            return Ok(());
        }
        if first > extent.first {
            self.log().purge(first)?;
        }
        Ok(beginnings.delete(&earlier)?)
    }

    /// The number of the first message that stays. The one that the beginning ends with does, so the log never is empty.
    fn first_to_stay(&self, pointer: &Pointer, margin: u64) -> Result<u64, NatsError> {
        let told = self.log().told()?.unwrap_or(u64::MAX);
        let before = pointer.number.saturating_sub(margin).min(told);
        Ok((before + 1).min(pointer.number))
    }
}

/// Whether the beginning that a pointer names can be read; not where somebody moved the pointer on meanwhile. What nobody can
/// read takes the place of nothing.
fn stands(beginnings: &Beginnings, pointer: &Pointer) -> Result<bool, NatsError> {
    let read = beginnings.read(pointer);
    if matches!(read, Ok(Some(_))) {
        return Ok(true);
    }
    match beginnings.pointed()? {
        Some(Pointed { pointer: Some(now), .. }) if now == *pointer => {
            read?;
            Err(NatsError::NoBeginning { number: pointer.number, source: None })
        }
        _ => Ok(false),
    }
}
