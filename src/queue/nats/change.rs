//! What an operation changed, apart from the tables it changed: the form in which a log keeps it and other replicas of
//! the tables take it over.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::TicketId;
use crate::model::ticket::{Ticket, TicketState};
use crate::queue::engine::close;
use crate::queue::file::operation::Recorder;
use crate::queue::server::encoded;
use crate::queue::{QueueError, QueueEvent};
use crate::store::{Content, Leadership, TicketRow, Txn};

/// Entries of one part of everything, and bytes of what was published; a server takes a message of 1 MB.
const ROWS: usize = 200;
/// See [`ROWS`].
const BYTES: usize = 256 * 1024;

/// Version of the shape of [`Change`].
const CHANGE_SCHEMA: u32 = 1;

/// Everything that one operation changed. It holds what is true afterwards and no rules, so that programs of different
/// versions make the same tables of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Change {
    /// [`CHANGE_SCHEMA`].
    schema: u32,
    /// Names this change: the same in every repetition of the attempt to log it.
    pub(crate) id: String,
    /// The entries that changed, as they are now.
    tickets: Vec<TicketRow>,
    /// What was published, for the entries above.
    publications: Vec<Publication>,
    /// Changes of state, in order.
    events: Vec<QueueEvent>,
    /// The roles whose lead changed.
    leads: Vec<Lead>,
    /// Whether it is the last one, because the tickets went somewhere else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) closes: bool,
    /// The number of the last change before it that no later one makes superfluous, 0 where there is none: whoever has not
    /// got that one may not take this one over. `None` where its writer did not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<u64>,
    /// The id of that one: a server that lost its last messages may have others under their numbers since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) after_id: Option<String>,
}

/// Content under the key that published it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Publication {
    /// The key.
    key: String,
    /// The ticket as frozen.
    ticket: Ticket,
}

/// Who leads in a role, good or given up.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Lead {
    /// The role.
    role: String,
    /// Who.
    #[serde(flatten)]
    who: Leadership,
}

impl Change {
    /// One of nothing yet.
    fn nothing() -> Self {
        Self {
            schema: CHANGE_SCHEMA,
            id: Uuid::new_v4().to_string(),
            tickets: Vec::new(),
            publications: Vec::new(),
            events: Vec::new(),
            leads: Vec::new(),
            closes: false,
            after: None,
            after_id: None,
        }
    }

    /// The last one of a log.
    pub(crate) fn closing() -> Self {
        Self { closes: true, ..Self::nothing() }
    }

    /// Everything in the tables but events, in parts that a server takes.
    pub(crate) fn everything(txn: &Txn<'_>) -> Result<Vec<Self>, QueueError> {
        let mut parts = Vec::new();
        for rows in txn.tickets()?.chunks(ROWS) {
            parts.push(Self { tickets: rows.to_vec(), ..Self::nothing() });
        }
        let (mut part, mut bytes) = (Self::nothing(), 0);
        for (key, ticket, length) in txn.publications()? {
            if bytes > 0 && bytes + length > BYTES {
                parts.push(std::mem::replace(&mut part, Self::nothing()));
                bytes = 0;
            }
            part.publications.push(Publication { key, ticket });
            bytes += length;
        }
        part.leads = txn.leaderships()?.into_iter().map(|(role, who)| Lead { role, who }).collect();
        parts.push(part);
        Ok(parts)
    }

    /// Whether nothing changed.
    pub(super) fn is_empty(&self) -> bool {
        self.tickets.is_empty() && self.publications.is_empty() && self.events.is_empty() && self.leads.is_empty()
    }

    /// What it prolongs the lease of, where it does nothing else; as part of a subject. The next one of the same makes it
    /// superfluous: what it says is said again, and everything in between says it, too.
    pub(super) fn renewed(&self) -> Option<String> {
        match (&self.tickets[..], &self.leads[..]) {
            _ if !self.events.is_empty() || !self.publications.is_empty() || self.closes => None,
            ([row], []) => Some(format!("ticket.{}", encoded(row.id.as_str()))),
            ([], [lead]) => Some(format!("role.{}", encoded(&lead.role))),
            _ => None,
        }
    }

    /// The changes of state in it, in order.
    pub(super) fn events(&self) -> &[QueueEvent] {
        &self.events
    }

    /// The entries that changed, as they were then.
    pub(super) fn entries(&self) -> &[TicketRow] {
        &self.tickets
    }

    /// The tickets that it brought from another queue and that are queued.
    pub(super) fn brought(&self) -> impl Iterator<Item = &TicketId> {
        let rows = self.tickets.iter().filter(|row| self.events.is_empty() && row.state() == TicketState::Queued);
        rows.map(|row| &row.id)
    }

    /// Makes the parts of everything the whole of other tables, whatever those had.
    pub(super) fn restore(parts: &[Self], txn: &Txn<'_>) -> Result<(), QueueError> {
        txn.clear_queue()?;
        // Publications first: each one marks the entries that it needs, and entries know better by whom they are needed now.
        for Publication { key, ticket } in parts.iter().flat_map(|part| &part.publications) {
            txn.mirror_content(&Content::new(ticket, key)?)?;
        }
        for row in parts.iter().flat_map(|part| &part.tickets) {
            txn.mirror_ticket(row)?;
        }
        for Lead { role, who } in parts.iter().flat_map(|part| &part.leads) {
            txn.put_leadership(role, who)?;
        }
        Ok(())
    }

    /// Makes the same change in other tables, which had all changes before it.
    pub(super) fn apply(&self, txn: &Txn<'_>) -> Result<(), QueueError> {
        for row in &self.tickets {
            txn.mirror_ticket(row)?;
        }
        for Publication { key, ticket } in &self.publications {
            txn.mirror_content(&Content::new(ticket, key)?)?;
        }
        for event in &self.events {
            txn.append_queue_event(&event.ticket, event)?;
        }
        for Lead { role, who } in &self.leads {
            txn.put_leadership(role, who)?;
        }
        if self.closes { close(txn) } else { Ok(()) }
    }
}

/// Collects the change of an operation under way.
#[derive(Debug)]
pub(super) struct Draft {
    /// The age of what is published: the number that the change will have in the log.
    position: i64,
    /// The entries that changed.
    touched: RefCell<BTreeSet<TicketId>>,
    /// The rest.
    change: RefCell<Change>,
}

impl Draft {
    /// Of a change that will have this number in the log.
    pub(super) fn new(position: i64) -> Self {
        Self { position, touched: RefCell::default(), change: RefCell::new(Change::nothing()) }
    }

    /// The whole change, with the entries as the operation's transaction has them now.
    pub(super) fn finish(self, txn: &Txn<'_>) -> Result<Change, QueueError> {
        let mut change = self.change.into_inner();
        for id in self.touched.into_inner() {
            change.tickets.extend(txn.find_ticket(&id)?);
        }
        Ok(change)
    }
}

impl Recorder for Draft {
    fn age(&self, _event: i64) -> i64 {
        self.position
    }

    fn entry(&self, ticket: &TicketId) {
        self.touched.borrow_mut().insert(ticket.clone());
    }

    fn content(&self, content: &Content<'_>) {
        let publication = Publication { key: content.key.to_owned(), ticket: content.ticket.clone() };
        self.change.borrow_mut().publications.push(publication);
    }

    fn event(&self, event: &QueueEvent) {
        self.change.borrow_mut().events.push(event.clone());
    }

    fn lead(&self, role: &str, who: &Leadership) {
        self.change.borrow_mut().leads.push(Lead { role: role.to_owned(), who: who.clone() });
    }
}
