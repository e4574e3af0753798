//! What an operation changed, apart from the tables it changed: the form in which a log keeps it and other replicas of
//! the tables take it over.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::TicketId;
use crate::model::ticket::Ticket;
use crate::queue::file::operation::Recorder;
use crate::queue::{QueueError, QueueEvent};
use crate::store::{Content, Leadership, TicketRow, Txn};

/// Version of the shape of [`Change`].
const CHANGE_SCHEMA: u32 = 1;

/// Everything that one operation changed. It holds what is true afterwards and no rules, so that programs of different
/// versions make the same tables of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Change {
    /// [`CHANGE_SCHEMA`].
    schema: u32,
    /// Names this change: the same in every repetition of the attempt to log it.
    pub(super) id: String,
    /// The entries that changed, as they are now.
    tickets: Vec<TicketRow>,
    /// What was published, for the entries above.
    publications: Vec<Publication>,
    /// Changes of state, in order.
    events: Vec<QueueEvent>,
    /// The roles whose lead changed.
    leads: Vec<Lead>,
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
    /// Whether nothing changed.
    pub(super) fn is_empty(&self) -> bool {
        self.tickets.is_empty() && self.publications.is_empty() && self.events.is_empty() && self.leads.is_empty()
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
        Ok(())
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
        let change = Change {
            schema: CHANGE_SCHEMA,
            id: Uuid::new_v4().to_string(),
            tickets: Vec::new(),
            publications: Vec::new(),
            events: Vec::new(),
            leads: Vec::new(),
        };
        Self { position, touched: RefCell::default(), change: RefCell::new(change) }
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
