//! What stands for the first messages of a log once they are deleted: the tables that they make, as an object, and an entry
//! of the board that names the one that counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::change::Change;
use super::connection::Link;
use super::error::NatsError;
use super::replica::{applied, changed, changed_id, set_changed, set_counted};
use super::{Board, Objects};
use crate::model::TicketId;
use crate::model::ticket::TicketState;
use crate::queue::{QUEUE_EVENT_SCHEMA, QueueError, QueueEvent};
use crate::store::{TicketRow, Txn};

/// Version of the shape of [`Beginning`] and [`Pointer`].
const BEGINNING_SCHEMA: u32 = 1;
/// What the keys of the board about the log begin with.
const ABOUT_LOG: &str = "log";
/// The key of the entry that says which beginning counts.
const POINTER: &str = "log.beginning";
/// What the names of objects with beginnings begin with.
const OBJECTS: &str = "beginning.";
/// Who did it, in an event that stands for several.
const BY: &str = "log";

/// The tables that the first messages of a log make.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Beginning {
    /// [`BEGINNING_SCHEMA`].
    schema: u32,
    /// Names the log.
    log: String,
    /// The number of the last of those messages.
    pub(super) number: u64,
    /// The number of the last of them that no later one makes superfluous; `None` where that is not known.
    changed: Option<u64>,
    /// The id of that one.
    #[serde(default)]
    changed_id: Option<String>,
    /// Everything in the tables but events.
    parts: Vec<Change>,
}

impl Beginning {
    /// Of tables that are a replica of a log.
    pub(super) fn of(txn: &Txn<'_>, log: &str) -> Result<Self, QueueError> {
        Ok(Self {
            schema: BEGINNING_SCHEMA,
            log: log.to_owned(),
            number: applied(txn)?,
            changed: changed(txn)?,
            changed_id: changed_id(txn)?,
            parts: Change::everything(txn)?,
        })
    }

    /// Makes the tables of a replica what it says, unless they have more of the log already. What changed of a ticket is one
    /// event, from what the tables knew to what is said here: the events in between are not in it.
    pub(super) fn load(&self, txn: &Txn<'_>) -> Result<(), QueueError> {
        if applied(txn)? >= self.number {
            return Ok(());
        }
        let known: HashMap<TicketId, TicketRow> = txn.tickets()?.into_iter().map(|row| (row.id.clone(), row)).collect();
        Change::restore(&self.parts, txn)?;
        for row in self.parts.iter().flat_map(Change::entries) {
            if let Some(event) = summary(known.get(&row.id), row) {
                txn.append_queue_event(&event.ticket, &event)?;
            }
        }
        set_changed(txn, self.changed, self.changed_id.as_deref())?;
        Ok(set_counted(txn, self.number)?)
    }
}

/// What became of an entry, as one event; `None` where nothing did.
fn summary(known: Option<&TicketRow>, now: &TicketRow) -> Option<QueueEvent> {
    let facts = |row: &TicketRow| (row.state(), row.fence, row.attempts, row.published_at);
    if known.is_some_and(|known| facts(known) == facts(now)) {
        return None;
    }
    let is_new_round = known.is_none_or(|known| known.published_at != now.published_at);
    let is_under_way = !now.state().is_ended() && now.state() != TicketState::Running;
    Some(QueueEvent {
        schema: QUEUE_EVENT_SCHEMA,
        // Read as a publication, it is told when that was.
        at: if is_new_round && is_under_way { now.published_at } else { now.changed_at },
        ticket: now.id.clone(),
        from: known.map(TicketRow::state),
        to: now.state(),
        fence: now.fence,
        attempt: now.attempts,
        by: BY.to_owned(),
    })
}

/// The entry of the board that says which beginning counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pointer {
    /// [`BEGINNING_SCHEMA`].
    schema: u32,
    /// Names the log.
    log: String,
    /// The number of the last message that it stands for.
    pub(super) number: u64,
    /// The name of the object.
    pub(super) object: String,
}

/// The pointer as it is on the board.
#[derive(Debug, Clone)]
pub(super) struct Pointed {
    /// What it says; `None` where it is of another log that had the place before.
    pub(super) pointer: Option<Pointer>,
    /// Its revision.
    pub(super) revision: u64,
    /// How long it has been there.
    pub(super) age: Duration,
}

/// The beginnings of one log on its server.
pub(super) struct Beginnings {
    /// Where the pointer is.
    board: Board,
    /// Where they are.
    objects: Objects,
    /// Names the log.
    log: String,
}

impl Beginnings {
    /// Those of a log.
    pub(super) fn open(link: &Arc<Link>, log: &str) -> Result<Self, NatsError> {
        Ok(Self { board: Board::open(link)?, objects: Objects::open(link)?, log: log.to_owned() })
    }

    /// The pointer; `None` where there never was one.
    pub(super) fn pointed(&self) -> Result<Option<Pointed>, NatsError> {
        let Some(entry) = self.board.entries(ABOUT_LOG)?.into_iter().find(|entry| entry.key == POINTER) else {
            return Ok(None);
        };
        let read = serde_json::from_slice::<Pointer>(&entry.value);
        let pointer = read.map_err(|source| NatsError::NoBeginning { number: 0, source: Some(source) })?;
        if pointer.schema != BEGINNING_SCHEMA {
            return Err(NatsError::NoBeginning { number: pointer.number, source: None });
        }
        let pointer = Some(pointer).filter(|pointer| pointer.log == self.log);
        Ok(Some(Pointed { pointer, revision: entry.revision, age: entry.age }))
    }

    /// The beginning that stands for more than the first `has` messages; `None` where none does. One that is gone has made
    /// room for the next.
    pub(super) fn beyond(&self, has: u64) -> Result<Option<Beginning>, NatsError> {
        let mut missed = None;
        loop {
            let pointer = self.pointed()?.and_then(|pointed| pointed.pointer);
            let Some(pointer) = pointer.filter(|pointer| pointer.number > has) else { return Ok(None) };
            match self.read(&pointer) {
                Ok(Some(beginning)) => return Ok(Some(beginning)),
                // Deleted, or being deleted, if somebody has moved the pointer.
                Ok(None) if missed.as_ref() == Some(&pointer) => {
                    return Err(NatsError::NoBeginning { number: pointer.number, source: None });
                }
                Err(error) if missed.as_ref() == Some(&pointer) => return Err(error),
                _ => missed = Some(pointer),
            }
        }
    }

    /// The beginning that a pointer names; `None` where it is gone.
    pub(super) fn read(&self, pointer: &Pointer) -> Result<Option<Beginning>, NatsError> {
        let Some(bytes) = self.objects.get(&pointer.object)? else { return Ok(None) };
        let unreadable = |source| NatsError::NoBeginning { number: pointer.number, source };
        let found: Beginning = serde_json::from_slice(&bytes).map_err(|source| unreadable(Some(source)))?;
        let is_it = found.schema == BEGINNING_SCHEMA && found.log == self.log && found.number == pointer.number;
        if is_it { Ok(Some(found)) } else { Err(unreadable(None)) }
    }

    /// Puts a beginning on the server, where nobody looks at it yet.
    pub(super) fn put(&self, beginning: &Beginning) -> Result<Pointer, NatsError> {
        let bytes = serde_json::to_vec(beginning).expect("tables are plain JSON");
        let object = format!("{}{}.{}", self.prefix(), beginning.number, Uuid::new_v4());
        self.objects.put(&object, bytes)?;
        Ok(Pointer { schema: BEGINNING_SCHEMA, log: self.log.clone(), number: beginning.number, object })
    }

    /// Makes a beginning the one that counts, unless the pointer changed since it had the revision `known`; whether it
    /// does. Where it does not, it is deleted.
    pub(super) fn point(&self, pointer: &Pointer, known: Option<u64>) -> Result<bool, NatsError> {
        let value = serde_json::to_vec(pointer).expect("names are plain text");
        if self.board.put(POINTER, &value, known)?.is_some() {
            return Ok(true);
        }
        self.objects.delete(&pointer.object)?;
        Ok(false)
    }

    /// The objects of earlier beginnings than the one that counts, and of other logs that had the place before.
    pub(super) fn earlier(&self, pointer: &Pointer) -> Result<Vec<String>, NatsError> {
        let is_earlier = |name: &String| match name.strip_prefix(&self.prefix()) {
            Some(rest) => {
                let number = rest.split('.').next().and_then(|number| number.parse::<u64>().ok());
                number.is_some_and(|number| number < pointer.number)
            }
            None => true,
        };
        Ok(self.objects.names(OBJECTS)?.into_iter().filter(is_earlier).collect())
    }

    /// Deletes objects.
    pub(super) fn delete(&self, objects: &[String]) -> Result<(), NatsError> {
        objects.iter().try_for_each(|object| self.objects.delete(object))
    }

    /// What the names of the objects of this log begin with.
    fn prefix(&self) -> String {
        format!("{OBJECTS}{}.", self.log)
    }
}
