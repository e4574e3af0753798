//! A machine's replica of the queue's tables, kept by a log.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::change::{Change, Draft};
use super::connection::{ANSWER, Link, PATIENCE};
use super::error::NatsError;
use super::log::Log;
use super::shorten::Keep;
use crate::model::Time;
use crate::queue::QueueError;
use crate::queue::engine::check_in_log;
use crate::queue::file::operation::Operation;
use crate::queue::file::{Keeper, TableQueue};
use crate::queue::server::Server;
use crate::store::{Store, StoreError, Txn};

/// Where the store keeps how far in the log its tables are.
const APPLIED: &str = "queue_log_applied";
/// Where it keeps the number of the last change in them that no later one makes superfluous.
const CHANGED: &str = "queue_log_changed";
/// Where it keeps that number again with the id of that change.
const CHANGED_ID: &str = "queue_log_changed_id";
/// Where it keeps when that was all of the log.
const SEEN: &str = "queue_log_seen";
/// How old that may be while nothing happens.
const SEEN_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Messages that are read without a look at whether a beginning stands for them.
const FEW: u64 = 256;
/// The longest pause before an operation that others were faster than runs again.
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

/// The queue in a log on a NATS server.
pub(crate) type NatsQueue = TableQueue<Replica>;

impl NatsQueue {
    /// A queue in the log on `server`, with its replica in an open store; `by` names who acts in events.
    pub(crate) fn new(log: Log, server: Server, store: Arc<Store>, by: &str) -> Self {
        Self::on(Replica { log, server, store, compared: Mutex::default() }, by)
    }
}

/// The tables, and the log that they follow.
#[derive(Debug)]
pub(crate) struct Replica {
    /// What counts.
    log: Log,
    /// Where it is.
    server: Server,
    /// Where the tables are, for all processes of this machine.
    store: Arc<Store>,
    /// The connection on which the log was last found to have what the tables have.
    compared: Mutex<Option<u64>>,
}

impl Keeper for Replica {
    fn write<T>(&self, by: &str, body: impl Fn(&Operation<'_>) -> Result<T, QueueError>) -> Result<T, QueueError> {
        let mut is_current = false;
        let mut refused = 0;
        self.compare()?;
        loop {
            let Trial { answer, change, applied } = self.try_out(by, &body)?;
            if answer.is_err() || change.is_empty() {
                if is_current || !self.catch_up(PATIENCE)? {
                    return answer;
                }
                is_current = true;
                continue;
            }
            if self.log.append(applied, &change)? {
                self.apply(applied, &[(applied + 1, change)], applied + 1)?;
                return answer;
            }
            refused += 1;
            pause(refused);
            self.catch_up(PATIENCE)?;
            is_current = true;
        }
    }

    fn read<T>(&self, body: impl FnOnce(&Txn<'_>) -> Result<T, QueueError>) -> Result<T, QueueError> {
        self.compare()?;
        self.catch_up(PATIENCE)?;
        self.store.read(body)
    }

    fn by_clock(&self, local: Time) -> Result<Time, QueueError> {
        Ok(self.log.link().by_server(local)?)
    }

    fn server(&self) -> Option<&Server> {
        Some(&self.server)
    }

    fn link(&self) -> Option<&Arc<Link>> {
        Some(self.log.link())
    }

    fn refresh(&self) -> Result<(), QueueError> {
        self.catch_up(ANSWER).map(drop)
    }

    fn shorten(&self, keep: &Keep) -> Result<(), QueueError> {
        self.shorten_to(keep)
    }
}

/// What an operation comes to on the replica as it is.
struct Trial<T> {
    /// What it answers.
    answer: Result<T, QueueError>,
    /// What it changes.
    change: Change,
    /// How much of the log the replica had.
    applied: u64,
}

/// How the transaction of a trial ends: by rolling back, one way or the other.
enum Undone<T> {
    /// It ran.
    Tried(Box<Trial<T>>),
    /// It could not run.
    Failed(QueueError),
}

impl<T> From<StoreError> for Undone<T> {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl<T> From<QueueError> for Undone<T> {
    fn from(error: QueueError) -> Self {
        Self::Failed(error)
    }
}

impl Replica {
    /// Runs an operation without effect.
    fn try_out<T>(
        &self,
        by: &str,
        body: impl Fn(&Operation<'_>) -> Result<T, QueueError>,
    ) -> Result<Trial<T>, QueueError> {
        // Asked before the transaction: nobody waits for it meanwhile.
        let (asked, before) = (self.by_clock(Time::now())?, Instant::now());
        let undone = self.store.write(|txn| -> Result<std::convert::Infallible, Undone<T>> {
            check_in_log(txn, self.log.identity())?;
            // It may have waited for others to write.
            let now = asked.after(before.elapsed());
            let applied = applied(txn)?;
            let draft = Draft::new(i64::try_from(applied + 1).unwrap_or(i64::MAX));
            let answer = body(&Operation::new(txn, by, now).told_to(&draft));
            let mut change = draft.finish(txn)?;
            (change.after, change.after_id) = (changed(txn)?, changed_id(txn)?);
            Err(Undone::Tried(Box::new(Trial { answer, change, applied })))
        });
        match undone {
            Ok(never) => match never {},
            Err(Undone::Tried(trial)) => Ok(*trial),
            Err(Undone::Failed(error)) => Err(error),
        }
    }

    /// What counts.
    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    /// Where the tables are.
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Sees to it, once for each connection, that the log still has the last lasting change of the tables: a server that lost
    /// its last messages was restarted, and may have as many again since.
    fn compare(&self) -> Result<(), QueueError> {
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Link::connection(&self.log.link().context());
        if now.is_none() || *compared == now {
            return Ok(());
        }
        let known = self.store.read(|txn| Ok::<_, QueueError>(changed(txn)?.zip(changed_id(txn)?)))?;
        if let Some((number, id)) = known {
            let found = self.log.read(number, number)?;
            // One that is not there is either before the beginning of the log or after its end, which is told elsewhere.
            if found.iter().any(|(_, change)| change.id != id) {
                return Err(NatsError::Parted { seq: number }.into());
            }
        }
        *compared = now;
        Ok(())
    }

    /// Takes over what the log has and the replica has not; whether there was anything.
    pub(super) fn catch_up(&self, patience: Duration) -> Result<bool, QueueError> {
        let mut had_less = false;
        loop {
            let (has, seen) = self.store.read(|txn| Ok::<_, QueueError>((applied(txn)?, seen(txn)?)))?;
            let last = self.log.last(patience)?;
            if last < has {
                return Err(NatsError::Shorter { last, applied: has }.into());
            }
            if last == has {
                if seen.is_none_or(|seen| seen.age_at(Time::now()) > SEEN_AGAIN_AFTER) {
                    self.apply(has, &[], last)?;
                }
                return Ok(had_less);
            }
            had_less = true;
            // Where most of it is far behind a beginning, that need not be read first.
            if last - has > FEW && self.begin_beyond(has)? {
                continue;
            }
            let changes = self.log.read(has + 1, last)?;
            if self.take_over(has, &changes, last)? {
                return Ok(true);
            }
        }
    }

    /// Applies what was read of the log after the number `has` up to `last`; `false` where part of that had been deleted, and
    /// the tables are those of a later beginning now.
    pub(super) fn take_over(&self, has: u64, changes: &[(u64, Change)], last: u64) -> Result<bool, QueueError> {
        let is_whole = u64::try_from(changes.len()).is_ok_and(|read| read == last - has);
        // Asked after it was read: whatever was deleted by then is before the beginning that counts now.
        if !is_whole && self.begin_beyond(has)? {
            return Ok(false);
        }
        if let Some(missing) = missing(has, changes) {
            return Err(NatsError::Gap { missing }.into());
        }
        self.apply(has, changes, last)?;
        Ok(true)
    }

    /// Makes the tables those of the beginning that counts, where messages after the number `has` may have been deleted and
    /// it stands for them; whether it does.
    fn begin_beyond(&self, has: u64) -> Result<bool, QueueError> {
        if self.log.extent()?.first <= has + 1 {
            return Ok(false);
        }
        let Some(beginning) = self.beginnings()?.beyond(has)? else { return Ok(false) };
        self.store.write(|txn| {
            check_in_log(txn, self.log.identity())?;
            beginning.load(txn)
        })?;
        Ok(true)
    }

    /// Applies the changes between the numbers `after` and `last`, in order; those that another process of this machine
    /// applied are passed over.
    fn apply(&self, after: u64, changes: &[(u64, Change)], last: u64) -> Result<(), QueueError> {
        self.store.write(|txn| {
            check_in_log(txn, self.log.identity())?;
            let has = applied(txn)?;
            if has < after {
                // They wait for those before them, which the next look brings.
                return Ok(());
            }
            let (mut number, mut id) = (changed(txn)?, changed_id(txn)?);
            for (seq, change) in changes.iter().filter(|(seq, _)| *seq > has) {
                if !follows(change, number, id.as_deref()) {
                    return Err(NatsError::Parted { seq: *seq }.into());
                }
                change.apply(txn)?;
                if change.renewed().is_none() {
                    (number, id) = (Some(*seq), Some(change.id.clone()));
                }
            }
            set_changed(txn, number, id.as_deref())?;
            set_applied(txn, has.max(last))
        })
    }
}

/// The number of a change that is missing among those read after the number `has`, though it cannot have been made
/// superfluous; `None` where there is none.
fn missing(has: u64, changes: &[(u64, Change)]) -> Option<u64> {
    let is_there = |after: &u64| *after <= has || changes.binary_search_by_key(after, |(seq, _)| *seq).is_ok();
    changes.iter().filter_map(|(_, change)| change.after).find(|after| !is_there(after))
}

/// Whether a change was made to tables whose last lasting change is this one, as far as that is known.
fn follows(change: &Change, number: Option<u64>, id: Option<&str>) -> bool {
    let is_same_number = change.after.zip(number).is_none_or(|(after, number)| after == number);
    let is_same = change.after_id.as_deref().zip(id).is_none_or(|(after, id)| after == id);
    is_same_number && is_same
}

/// How much of the log the tables have.
pub(crate) fn applied(txn: &Txn<'_>) -> Result<u64, QueueError> {
    Ok(txn.meta(APPLIED)?.and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// Notes that the tables have this much of the log, which is all of it.
pub(crate) fn set_applied(txn: &Txn<'_>, has: u64) -> Result<(), QueueError> {
    set_counted(txn, has)?;
    Ok(txn.set_meta(SEEN, &Time::now().as_millis().to_string())?)
}

/// Notes that the tables have this much of the log, of which there may be more.
pub(super) fn set_counted(txn: &Txn<'_>, has: u64) -> Result<(), StoreError> {
    txn.set_meta(APPLIED, &has.to_string())
}

/// The number of the last change in the tables that no later one makes superfluous, 0 where there is none; `None` where
/// that is not known.
pub(super) fn changed(txn: &Txn<'_>) -> Result<Option<u64>, QueueError> {
    match txn.meta(CHANGED)? {
        Some(text) => Ok(text.parse().ok()),
        None if applied(txn)? == 0 => Ok(Some(0)),
        None => Ok(None),
    }
}

/// The id of that change; `None` where that is not known, as when an older program took it over.
pub(super) fn changed_id(txn: &Txn<'_>) -> Result<Option<String>, QueueError> {
    let (number, text) = (txn.meta(CHANGED)?, txn.meta(CHANGED_ID)?.unwrap_or_default());
    Ok(text.split_once(' ').filter(|(of, _)| number.as_deref() == Some(*of)).map(|(_, id)| id.to_owned()))
}

/// Notes both.
pub(super) fn set_changed(txn: &Txn<'_>, changed: Option<u64>, id: Option<&str>) -> Result<(), StoreError> {
    match changed {
        Some(changed) => txn.set_meta(CHANGED, &changed.to_string())?,
        None => txn.forget_meta(CHANGED)?,
    }
    match changed.zip(id) {
        Some((changed, id)) => txn.set_meta(CHANGED_ID, &format!("{changed} {id}")),
        None => txn.forget_meta(CHANGED_ID),
    }
}

/// When the tables last had all of the log; `None` where they never had.
pub(crate) fn seen(txn: &Txn<'_>) -> Result<Option<Time>, QueueError> {
    Ok(txn.meta(SEEN)?.and_then(|text| text.parse().ok()).map(Time::from_millis))
}

/// Forgets how far in a log the tables are.
pub(crate) fn forget_applied(txn: &Txn<'_>) -> Result<(), StoreError> {
    txn.forget_meta(APPLIED)?;
    set_changed(txn, None, None)?;
    txn.forget_meta(SEEN)
}

/// Waits a little, at random and longer each time, so that those who were refused together do not meet again.
fn pause(refused: u32) {
    let longest = LONGEST_PAUSE.min(Duration::from_micros(200) * 2u32.saturating_pow(refused.min(8)));
    let share = f64::from(uuid::Uuid::new_v4().as_bytes()[0]) / 255.0;
    std::thread::sleep(longest.mul_f64(share));
}
