//! Messages: those of channels among the events, in the same one order, and the mailboxes of workers. A letter with a number
//! is the copy of one that is on a server under that number.

use rusqlite::params;

use super::event::{document, parse};
use super::{Store, StoreError, StoredEvent, Txn};
use crate::model::message::{Address, Message};
use crate::model::{Time, WorkerId};

/// What became of a message for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Posted {
    /// It is in the mailbox.
    Taken,
    /// A message of this id was posted to the worker before, and waits.
    Known,
    /// One was, and has left the mailbox.
    Settled,
    /// As many as may be wait there.
    Full,
}

/// How a message left a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The agent has it.
    Delivered,
    /// Its time was over before.
    Expired,
    /// Its sender took it back.
    Withdrawn,
}

impl Fate {
    /// The word in the store.
    fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl Store {
    /// Appends a message of a channel to the events; its number. One whose id is known has the number that it had.
    pub(crate) fn append_message(&self, message: &Message) -> Result<i64, StoreError> {
        let data = document("message", &message.id, message)?;
        self.write(|txn| {
            let known = "SELECT seq FROM events WHERE kind = 'bus' AND json_extract(data, '$.id') = ?1";
            match txn.row(known, [&message.id], |row| row.get(0))? {
                Some(seq) => Ok(seq),
                None => txn.insert("INSERT INTO events(kind, ticket, data) VALUES('bus', '', ?1)", [&data]),
            }
        })
    }

    /// Puts a message into the mailbox of the worker that it is addressed to, unless `limit` wait there already.
    pub(crate) fn post(&self, worker: &WorkerId, message: &Message, limit: usize) -> Result<Posted, StoreError> {
        let data = document("message", &message.id, message)?;
        self.write(|txn| {
            let known = "SELECT state = 'waiting' FROM mail WHERE id = ?1 AND worker = ?2";
            match txn.row(known, [message.id.as_str(), worker.as_str()], |row| row.get(0))? {
                Some(true) => return Ok(Posted::Known),
                Some(false) => return Ok(Posted::Settled),
                None => {}
            }
            let now = Time::now();
            if txn.waiting_mail(worker)?.iter().filter(|mail| !mail.is_expired(now)).count() >= limit {
                return Ok(Posted::Full);
            }
            let sql = "INSERT INTO mail(id, worker, state, at, document) VALUES(?1, ?2, 'waiting', ?3, ?4)";
            txn.insert(sql, params![message.id, worker.as_str(), now.as_millis(), data])?;
            Ok(Posted::Taken)
        })
    }

    /// The messages that wait for a worker, oldest first, those among them whose time is over.
    pub(crate) fn waiting_mail(&self, worker: &WorkerId) -> Result<Vec<Message>, StoreError> {
        self.read(|txn| txn.waiting_mail(worker))
    }

    /// Takes a message out of a worker's mailbox; whether it was still in it.
    pub(crate) fn settle_mail(&self, worker: &WorkerId, id: &str, fate: Fate) -> Result<bool, StoreError> {
        let sql = "UPDATE mail SET state = ?3 WHERE id = ?1 AND worker = ?2 AND state = 'waiting'";
        self.write(|txn| Ok(txn.run(sql, [id, worker.as_str(), fate.as_str()])? > 0))
    }

    /// Takes out what came into a worker's mailbox before `moment`, but for copies of what is on a server: there it is for
    /// whoever goes on with the work, which may be this machine again.
    pub(crate) fn withdraw_mail_before(&self, worker: &WorkerId, moment: Time) -> Result<(), StoreError> {
        let sql = "UPDATE mail SET state = 'withdrawn' WHERE worker = ?1 AND state = 'waiting' AND at < ?2
                   AND json_extract(document, '$.seq') IS NULL";
        self.write(|txn| txn.run(sql, params![worker.as_str(), moment.as_millis()]).map(|_| ()))
    }

    /// Counts a message of `sender`, unless it has sent `limit` already; whether it may.
    pub(crate) fn count_sent(&self, sender: &str, limit: u32) -> Result<bool, StoreError> {
        let sql = "INSERT INTO sent(sender, count, at) SELECT ?1, 1, ?3 WHERE ?2 > 0
                   ON CONFLICT(sender) DO UPDATE SET count = count + 1, at = ?3 WHERE count < ?2";
        self.write(|txn| Ok(txn.run(sql, params![sender, limit, Time::now().as_millis()])? > 0))
    }
}

impl Txn<'_> {
    /// The messages that wait for a worker, oldest first.
    fn waiting_mail(&self, worker: &WorkerId) -> Result<Vec<Message>, StoreError> {
        let sql = "SELECT id, document FROM mail WHERE worker = ?1 AND state = 'waiting' ORDER BY seq";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
        let rows = self.rows(sql, [worker.as_str()], read)?;
        rows.iter().map(|(id, text)| parse("message", id, text)).collect()
    }

    /// Forgets mail that left its mailbox before `moment`, and what was counted of senders who sent nothing since.
    pub(super) fn prune_mail(&self, moment: Time) -> Result<(), StoreError> {
        let before = moment.as_millis();
        self.run("DELETE FROM mail WHERE at < ?1", [before])?;
        self.run("DELETE FROM sent WHERE at < ?1", [before]).map(|_| ())
    }
}

impl StoredEvent {
    /// The message of a channel that it is; `None` where it is something else, or not readable here.
    pub(crate) fn message(&self) -> Option<Message> {
        let message: Message = serde_json::from_str(&self.data).ok().filter(|_| self.kind == "bus")?;
        let is_of_channel = matches!(message.channel, Address::Channel(_));
        is_of_channel.then(|| Message { seq: u64::try_from(self.seq).ok(), ..message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::message::Sender;
    use crate::model::settings::Durability;
    use crate::store::{KEEP_EVENTS, StatePaths};

    fn letter(worker: &WorkerId) -> Message {
        Message::now(Sender::client(), Address::Mail(worker.clone()), "Hello")
    }

    #[test]
    fn what_was_for_another_worker_of_the_name_is_forgotten_and_old_mail_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&StatePaths::new(folder.path()), Durability::Normal).unwrap();
        let (one, two): (WorkerId, WorkerId) = ("one".parse().unwrap(), "two".parse().unwrap());
        for worker in [&one, &two] {
            assert_eq!(store.post(worker, &letter(worker), 9).unwrap(), Posted::Taken);
        }
        store.withdraw_mail_before(&one, Time::from_millis(0)).unwrap();
        assert_eq!(store.waiting_mail(&one).unwrap().len(), 1, "it came later");
        store.withdraw_mail_before(&one, Time::now().after(KEEP_EVENTS)).unwrap();
        assert!(store.waiting_mail(&one).unwrap().is_empty());
        assert_eq!(store.waiting_mail(&two).unwrap().len(), 1, "it is another's");
        store.prune_events(Time::now()).unwrap();
        assert_eq!(store.waiting_mail(&two).unwrap().len(), 1);
        store.prune_events(Time::now().after(2 * KEEP_EVENTS)).unwrap();
        assert!(store.waiting_mail(&two).unwrap().is_empty());
    }

    #[test]
    fn one_message_to_two_workers_is_a_letter_for_each() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&StatePaths::new(folder.path()), Durability::Normal).unwrap();
        let (one, two): (WorkerId, WorkerId) = ("one".parse().unwrap(), "two".parse().unwrap());
        let to = |worker: &WorkerId| Message { id: "same".to_owned(), ..letter(worker) };
        let post = |worker| store.post(worker, &to(worker), 9).unwrap();
        assert_eq!([post(&one), post(&two), post(&one)], [Posted::Taken, Posted::Taken, Posted::Known]);
        assert!(store.settle_mail(&one, "same", Fate::Delivered).unwrap());
        assert_eq!((store.waiting_mail(&one).unwrap().len(), store.waiting_mail(&two).unwrap().len()), (0, 1));
        assert!(!store.settle_mail(&one, "same", Fate::Delivered).unwrap() && post(&one) == Posted::Settled);
    }

    #[test]
    fn a_copy_of_what_is_on_a_server_is_not_forgotten_for_a_new_worker_of_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&StatePaths::new(folder.path()), Durability::Normal).unwrap();
        let worker: WorkerId = "one".parse().unwrap();
        let copy = Message { seq: Some(7), ..letter(&worker) };
        for letter in [&copy, &letter(&worker)] {
            assert_eq!(store.post(&worker, letter, 9).unwrap(), Posted::Taken);
        }
        store.withdraw_mail_before(&worker, Time::now().after(KEEP_EVENTS)).unwrap();
        assert_eq!(store.waiting_mail(&worker).unwrap(), [copy]);
    }

    #[test]
    fn a_sender_is_counted_up_to_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&StatePaths::new(folder.path()), Durability::Normal).unwrap();
        let sent: Vec<_> = (0..3).map(|_| store.count_sent("one#1", 2).unwrap()).collect();
        assert_eq!(sent, [true, true, false]);
        assert!(store.count_sent("one#2", 2).unwrap(), "another attempt");
        assert!(store.count_sent("one#1", 3).unwrap(), "the limit was raised");
        assert!(!store.count_sent("none", 0).unwrap());
    }

    #[test]
    fn a_message_is_found_by_its_id_without_reading_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let paths = StatePaths::new(folder.path());
        drop(Store::open(&paths, Durability::Normal).unwrap());
        let connection = rusqlite::Connection::open(paths.db()).unwrap();
        let sql = "EXPLAIN QUERY PLAN SELECT seq FROM events WHERE kind = 'bus' AND json_extract(data, '$.id') = ?1";
        let plan: String = connection.query_row(sql, ["x"], |row| row.get(3)).unwrap();
        assert!(plan.contains("events_by_message"), "{plan}");
    }
}
