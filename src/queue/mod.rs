//! Where tickets wait, and who holds them.
//!
//! # Theory of operation
//!
//! A ticket id is one entry. **Publishing** freezes the ticket's content and makes it `queued`, or `blocked` while
//! a dependency is not satisfied. **Claiming** hands it to one holder under a **lease**: until `lease_until` nobody
//! else gets it, and after that it is still not handed on, but becomes `lost` when somebody calls
//! [`Queue::expire`]: the work of an attempt is in a worktree, so only a deliberate [`Queue::reopen`] continues it.
//!
//! Each lease has a **fence**, a number that only grows within one ticket. Whoever ends, extends or judges an
//! attempt names the fence it means. When the ticket has moved on to another lease the operation is refused with
//! [`QueueError::Stale`] and changes nothing, so a process that slept through its lease cannot hurt the next one. The
//! fence stays the same from the claim through review and landing, and changes when a new lease is given: a verdict
//! or a landing therefore names exactly the attempt whose work it judged. A lease ends with its attempt; `review`,
//! `approved` and `landing` have no holder and need no renewal.
//!
//! Every change goes through [`crate::model::ticket::apply`], so an entry never takes an edge the state machine does
//! not have, and every change of state appends one [`QueueEvent`] in the same step. Followers read events by
//! sequence number and never miss or repeat one, unless they stay away for more than the thirty days that an event is
//! kept; tickets themselves never grow too old. A renewal changes no state and appends nothing.
//!
//! **Order**: priority first (10 before 1), then age. Age is the order of publication in this queue, not a clock; a
//! released, retried or edited ticket keeps its place, a ticket published again after it ended goes to the end.
//!
//! **Dependencies** are judged by [`crate::model::ticket::unmet`] at every change of the
//! ticket depended on, in the same step: blocked dependents are queued when the last one is satisfied, and queued
//! dependents that nobody claimed yet are blocked again when a dependency is reopened or published anew. A
//! dependency on an id that the queue does not know blocks. A publication that would close a cycle is refused.
//!
//! **Rounds**: publishing an id again under a new key begins a new round of the same entry. Attempt numbers and
//! fences go on counting (recordings and logs are named by them), `max_attempts` counts from the new round. While
//! an attempt's work is held (`running`, `review`, `approved`, `landing`, `lost`) a new publication is refused with
//! [`QueueError::Illegal`]; `queued` and `blocked` entries take the new content in place and keep their age.
//!
//! **Attempts**: a claim counts one. [`Queue::release`] takes it back. When an attempt fails and no attempt is left
//! the ticket is `dead`; otherwise it is `failed`, and with a `retry_at` the first claim or expiry sweep at or after
//! that moment queues it again.
//!
//! **Roles**: beside tickets there are leases of roles, such as the coordinator's. A role has one leader at a time, whose
//! fence grows with every change of hands; nobody judges whether the leader is well but its lease.
//!
//! **What survives**: once an operation returned, its effect survives the end (`kill -9` included) of any process,
//! this one included. An operation that was cut off happened wholly or not at all.

#[cfg(feature = "bench-internals")]
pub(crate) mod bench;
mod bus;
#[cfg(test)]
mod contract;
mod engine;
mod file;
pub(crate) mod message;
mod migrate;
mod nats;
mod node_events;
mod server;
mod spend;

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::ticket::{Dependency, IllegalEdge, Ticket, TicketEvent, TicketState, cycle_text};
use crate::model::{TicketId, Time};
use crate::store::StoreError;

pub(crate) use bus::{Bus, BusError, Start, Subscription, bus, post_here, tell_facts};
pub(crate) use engine::{Elsewhere, Engine, Place, Repository, open, open_again, place};
pub(crate) use file::FileQueue;
pub(crate) use migrate::{MoveError, load, to_file, to_server};
#[cfg(all(test, feature = "real-agents"))]
pub(crate) use nats::NatsEngine;
pub(crate) use nats::{Board, Gateway, GatewaySettings, Keep, Link, NatsError, Objects, Posted, Watch, seen};
pub(crate) use node_events::tell_events;
pub(crate) use server::{Login, Server};
pub(crate) use spend::{Hear, share_spend};

/// Version of the shape of [`QueueEvent`].
pub(crate) const QUEUE_EVENT_SCHEMA: u32 = 1;

/// Where tickets wait. The module's page has the rules every engine keeps; each method adds its own.
///
/// All methods block for as long as the engine needs to answer, which is milliseconds; none waits for a ticket.
/// All are safe to call from several threads and processes at once.
pub(crate) trait Queue: Send + Sync {
    /// Publishes a ticket.
    ///
    /// A key that was seen before publishes nothing, whatever the content, and answers with the entry as it is
    /// now: a publisher that is not sure whether its call arrived calls again.
    ///
    /// # Errors
    /// [`QueueError::CaseClash`] when the id or one of its dependencies differs from a known id in case only,
    /// [`QueueError::Cycle`], and [`QueueError::Illegal`] while an attempt's work is held.
    fn publish(&self, new: &NewTicket) -> Result<Published, QueueError>;

    /// Leases up to `limit` queued tickets to one holder, best first; empty when nothing fits.
    ///
    /// A ticket is handed out only when it is queued and the request's capabilities cover its own. Tickets named in
    /// `only` that are unknown or not queued are passed over in silence.
    fn claim(&self, request: &ClaimRequest) -> Result<Vec<Claim>, QueueError>;

    /// Extends a lease to `lease` from now, overdue or not, as long as nobody declared it lost or took it.
    ///
    /// Any other state or fence answers [`Renewed::Lost`] and changes nothing: the holder then stops and keeps its
    /// work. It may try to take the ticket back with [`Queue::reopen`] under the fence it had, and only from `lost`:
    /// in every other state somebody ended the attempt, and a renewal that comes late must not undo that.
    fn renew(&self, ticket: &TicketId, fence: u64, lease: Duration) -> Result<Renewed, QueueError>;

    /// Ends an attempt well. Completing again under the same fence changes nothing and answers the present state.
    fn complete(&self, ticket: &TicketId, fence: u64, completion: Completion) -> Result<TicketState, QueueError>;

    /// Ends a running or lost attempt badly: `failed`, or `dead` when no attempt is left.
    ///
    /// `error` is kept for people. With `retry_at` a failed ticket is queued again by itself from that moment on.
    /// Failing again under the same fence changes nothing and answers the present state.
    fn fail(
        &self,
        ticket: &TicketId,
        fence: u64,
        error: &str,
        retry_at: Option<Time>,
    ) -> Result<TicketState, QueueError>;

    /// Gives a claim back unused: the ticket is queued (or blocked) at its old age, and the attempt is not counted.
    /// Releasing again under the same fence changes nothing. A lease from [`Queue::reopen`] ends by
    /// [`Queue::fail`] instead, which keeps the ticket from being handed out as if it had never run.
    fn release(&self, ticket: &TicketId, fence: u64) -> Result<TicketState, QueueError>;

    /// Like [`Queue::release`], and takes the publication `dedupe_key` back with the claim where it is the present one:
    /// the ticket is `open` then, known and not queued. For a command that published only to claim.
    fn withdraw(&self, ticket: &TicketId, fence: u64, dedupe_key: &str) -> Result<TicketState, QueueError>;

    /// Declares a running ticket lost before its lease is over, for a caller that knows its holder to be dead. Any
    /// other state under that fence is left as it is.
    fn declare_lost(&self, ticket: &TicketId, fence: u64) -> Result<TicketState, QueueError>;

    /// Takes a ticket that is not queued and not held back to `running` under a new fence and lease.
    ///
    /// For new input, requested changes, a conflict, resume and restart. Dependencies and capabilities are not
    /// judged again. Two callers that expect the same fence: exactly one gets the claim. In a state that
    /// [`Reopen::from`] does not name it is refused with [`QueueError::Illegal`].
    fn reopen(&self, request: &Reopen) -> Result<Claim, QueueError>;

    /// Moves finished work along: verdicts and landing. Named twice, every settlement but
    /// [`Settlement::BeginLanding`] is one; that one is refused to all but the first.
    fn settle(&self, ticket: &TicketId, expected_fence: u64, settlement: Settlement)
    -> Result<TicketState, QueueError>;

    /// Queues a failed or dead ticket again, by hand; a dead one gets all its attempts anew.
    fn requeue(&self, ticket: &TicketId) -> Result<TicketState, QueueError>;

    /// Ends a ticket. Its holder learns it at the next renewal. Cancelling a cancelled ticket changes nothing.
    fn cancel(&self, ticket: &TicketId) -> Result<TicketState, QueueError>;

    /// Declares the running tickets lost whose lease ended before `now`, and queues failed tickets whose time has
    /// come. Answers the tickets that became lost; anybody may call it at any time.
    fn expire(&self, now: Time) -> Result<Vec<TicketId>, QueueError>;

    /// One entry; `None` when the id is unknown.
    fn ticket(&self, ticket: &TicketId) -> Result<Option<QueueTicket>, QueueError>;

    /// All entries at one moment, in claim order (priority, then age).
    fn snapshot(&self) -> Result<Vec<QueueTicket>, QueueError>;

    /// Ids and states of all entries at one moment, in no order: cheap, for `status` and waiting.
    fn states(&self) -> Result<Vec<(TicketId, TicketState)>, QueueError>;

    /// Up to `limit` events after sequence number `seq`, oldest first; 0 is before the first.
    fn events_since(&self, seq: i64, limit: usize) -> Result<Vec<(i64, QueueEvent)>, QueueError>;

    /// Takes the lead in a role, where nobody has it or whoever had it let its lease run out. Two that ask at once:
    /// exactly one takes it. The fence of a role only grows.
    ///
    /// A holder asks like anybody else, and is answered that it is [`Lead::Held`]: its own lease it renews.
    fn leader_lease(&self, request: &LeadRequest) -> Result<Lead, QueueError>;

    /// The same where the leader under the fence `gone` is known to have died: its lease counts no more. At no moment in
    /// between nobody leads.
    fn succeed(&self, request: &LeadRequest, gone: u64) -> Result<Lead, QueueError>;

    /// Extends the lead to `lease` from now, overdue or not, as long as nobody took it since. [`Renewed::Lost`] changes
    /// nothing: who hears it stops acting in that role.
    fn renew_lead(&self, role: &str, fence: u64, lease: Duration) -> Result<Renewed, QueueError>;

    /// Gives the lead up, so that the next one need not wait. An old fence changes nothing.
    fn release_lead(&self, role: &str, fence: u64) -> Result<(), QueueError>;

    /// Who leads in a role now; `None` when nobody's lease is good.
    fn leader(&self, role: &str) -> Result<Option<Leader>, QueueError>;

    /// Who acts through it: the name in events, and of the holder of leases.
    fn node(&self) -> &str;

    /// The server that keeps it; `None` where the project's own store does. What another process of this machine needs
    /// to open the same queue.
    fn server(&self) -> Option<&Server>;

    /// Milliseconds that the clock by which its times are is ahead of this machine's.
    fn ahead(&self) -> Result<i64, QueueError>;

    /// The connection to it; `None` where there is none.
    fn link(&self) -> Option<&Arc<Link>>;

    /// Brings the tables in the project's store up to date with the server, without patience; nothing where they are the
    /// queue itself.
    fn refresh(&self) -> Result<(), QueueError>;

    /// Keeps what a server has about the past of the queue short, where that grew longer than it may; nothing where there is
    /// no server. Anybody may call it at any time, several at once. It takes as long as all tickets take to be sent.
    fn shorten(&self, keep: &Keep) -> Result<(), QueueError>;
}

/// Who wants the lead in a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeadRequest {
    /// The role, a plain word.
    pub(crate) role: String,
    /// Who asks, for people and events.
    pub(crate) holder: String,
    /// How long the lease lasts unless renewed. Everybody who asks for a role uses the same.
    pub(crate) lease: Duration,
}

/// Who leads in a role, and until when unless renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leader {
    /// Who.
    pub(crate) holder: String,
    /// Proves the lease.
    pub(crate) fence: u64,
    /// When it ends.
    pub(crate) lease_until: Time,
}

/// The answer to who wants the lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lead {
    /// The asker has it now.
    Taken(Leader),
    /// Somebody has it.
    Held(Leader),
}

/// A ticket to publish.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NewTicket {
    /// Its content, frozen from now on.
    pub(crate) ticket: Ticket,
    /// Names this publication, not the ticket: unique per intent to publish, equal in repeats of the same intent.
    pub(crate) dedupe_key: String,
}

/// What became of a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Published {
    /// The entry; for a key that was seen before, the one it published then.
    pub(crate) ticket: TicketId,
    /// Its state now.
    pub(crate) state: TicketState,
    /// Whether the key was new.
    pub(crate) fresh: bool,
}

/// Who wants tickets, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimRequest {
    /// Who will hold them, for people and events.
    pub(crate) node: String,
    /// What the holder offers.
    pub(crate) capabilities: Vec<String>,
    /// How many at most.
    pub(crate) limit: usize,
    /// If given, only these.
    pub(crate) only: Option<Vec<TicketId>>,
    /// How long the leases last unless renewed.
    pub(crate) lease: Duration,
    /// Names the request: made again it is granted the tickets that it was granted before, as long as they are held, under
    /// the same fences and for as long again.
    pub(crate) request_id: Option<String>,
}

impl ClaimRequest {
    /// Who will hold the tickets, with the request that they were granted to: as it is stored, and shown to nobody.
    fn holder(&self) -> String {
        match &self.request_id {
            Some(id) => format!("{}{REQUEST}{id}", self.node),
            None => self.node.clone(),
        }
    }
}

/// A lease on a ticket.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Claim {
    /// The ticket as published.
    pub(crate) ticket: Ticket,
    /// The attempt this is, from 1.
    pub(crate) attempt: u32,
    /// Proves this lease.
    pub(crate) fence: u64,
    /// When it ends unless renewed.
    pub(crate) lease_until: Time,
}

/// The answer to a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewed {
    /// The lease goes on.
    Held {
        /// Until when.
        lease_until: Time,
    },
    /// The ticket is no longer held under this fence.
    Lost,
}

/// How an attempt ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Completion {
    /// With work to judge.
    Review,
    /// Without changes.
    Done,
}

/// A request to take a ticket back to its agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reopen {
    /// Which.
    pub(crate) ticket: TicketId,
    /// The fence the caller saw last.
    pub(crate) expected_fence: u64,
    /// Who will hold it.
    pub(crate) node: String,
    /// How long the lease lasts unless renewed.
    pub(crate) lease: Duration,
    /// Whether it counts as a new attempt (restart) or goes on with the last one (resume, new input). The first
    /// attempt of a ticket always counts.
    pub(crate) counts_attempt: bool,
    /// If given, only from these states: what a caller decided on may have ended meanwhile under the same fence.
    pub(crate) from: Option<&'static [TicketState]>,
}

impl Reopen {
    /// Refuses a state that it does not name.
    fn check_from(&self, state: TicketState) -> Result<(), QueueError> {
        if self.from.is_none_or(|from| from.contains(&state)) {
            return Ok(());
        }
        let edge = IllegalEdge { state, event: TicketEvent::Reopened };
        Err(QueueError::Illegal { ticket: self.ticket.clone(), edge })
    }
}

/// A step of finished work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settlement {
    /// Review to approved.
    Approve,
    /// Approved to review.
    VoidApproval,
    /// Approved to landing; exclusive.
    BeginLanding,
    /// Landing to approved: the target was busy or dirty.
    DeferLanding,
    /// Landing to landed.
    Landed,
}

/// An entry of the queue.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct QueueTicket {
    /// The ticket as published.
    pub(crate) ticket: Ticket,
    /// Where it is in its life.
    pub(crate) state: TicketState,
    /// Attempts begun so far, over all rounds.
    pub(crate) attempts: u32,
    /// The last fence given out; 0 before the first claim.
    pub(crate) fence: u64,
    /// Who holds or last held it.
    pub(crate) node: Option<String>,
    /// End of its lease while it runs.
    pub(crate) lease_until: Option<Time>,
    /// When a failed ticket is queued again by itself.
    pub(crate) retry_at: Option<Time>,
    /// Why its last attempt failed, until one ends well.
    pub(crate) error: Option<String>,
    /// The dependencies not satisfied now; empty unless blocked.
    pub(crate) waits_for: Vec<Dependency>,
    /// When its present round was published.
    pub(crate) published_at: Time,
    /// When its state last changed.
    pub(crate) changed_at: Time,
}

/// What the name of a holder begins with that is another program on the queue's server. No machine's name has a colon.
const CLIENT: &str = "client:";

/// What is between a holder and its request where both are stored. No name has it.
const REQUEST: char = '\n';

/// A holder without its request.
fn without_request(mut holder: String) -> String {
    let length = holder.find(REQUEST).unwrap_or(holder.len());
    holder.truncate(length);
    holder
}

/// What another program calls itself, of the name that it holds tickets by; `None` where that is one of ours.
pub(crate) fn client_name(node: &str) -> Option<&str> {
    node.strip_prefix(CLIENT)
}

impl QueueTicket {
    /// The other program on the queue's server that holds it.
    pub(crate) fn client(&self) -> Option<&str> {
        let is_held = matches!(self.state, TicketState::Running | TicketState::Lost);
        self.node.as_deref().filter(|_| is_held).and_then(client_name)
    }

    /// The other node than `own` that has it in hand, or its work, by another lease than that of `fence`.
    pub(crate) fn taken_over_by(&self, own: &str, fence: u64) -> Option<&str> {
        let is_held = self.state.is_begun() || self.state == TicketState::Lost;
        let is_others = is_held && self.fence != fence && self.client().is_none();
        self.node.as_deref().filter(|node| is_others && *node != own)
    }

    /// A ticket that nobody has published yet, as it would be.
    pub(crate) fn unpublished(ticket: Ticket, now: Time) -> Self {
        Self {
            ticket,
            state: TicketState::Queued,
            attempts: 0,
            fence: 0,
            node: None,
            lease_until: None,
            retry_at: None,
            error: None,
            waits_for: Vec::new(),
            published_at: now,
            changed_at: now,
        }
    }
}

/// A change of state; public as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct QueueEvent {
    /// [`QUEUE_EVENT_SCHEMA`].
    pub(crate) schema: u32,
    /// When.
    pub(crate) at: Time,
    /// Which ticket.
    pub(crate) ticket: TicketId,
    /// From which state; `None` for the first publication.
    pub(crate) from: Option<TicketState>,
    /// To which state.
    pub(crate) to: TicketState,
    /// The ticket's fence after the change.
    pub(crate) fence: u64,
    /// Attempts begun after the change.
    pub(crate) attempt: u32,
    /// Who did it: the name the queue was opened with, or the node of a claim.
    pub(crate) by: String,
}

/// Why the queue refused or failed. Every refusal left the queue as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueueError {
    /// The id is unknown.
    #[error("the queue has no ticket `{0}`")]
    NotFound(TicketId),
    /// The ticket has moved on to another lease.
    #[error("ticket `{ticket}` moved on: it is under fence {found}, not {expected}")]
    Stale {
        /// Which ticket.
        ticket: TicketId,
        /// The fence the caller named.
        expected: u64,
        /// The fence it has.
        found: u64,
    },
    /// The ticket's state does not allow it.
    #[error("could not change ticket `{ticket}`")]
    Illegal {
        /// Which ticket.
        ticket: TicketId,
        /// The edge the state machine does not have.
        #[source]
        edge: IllegalEdge,
    },
    /// The publication would close a cycle of dependencies.
    #[error("the dependencies form a cycle: {}", cycle_text(.0))]
    Cycle(
        /// The tickets of the cycle, each depending on the next and the last on the first.
        Vec<TicketId>,
    ),
    /// An id differs from a known one in case only.
    #[error("ticket id `{given}` differs from `{known}` in case only")]
    CaseClash {
        /// The id as given.
        given: TicketId,
        /// The id the queue has.
        known: TicketId,
    },
    /// The engine failed.
    #[error("the queue could not be read or written")]
    Store(#[from] StoreError),
    /// The server of a queue shared by many machines failed.
    #[error("the queue could not be read or written")]
    Nats(#[from] NatsError),
    /// The tickets are not where they are looked for.
    #[error(transparent)]
    Elsewhere(#[from] Elsewhere),
    /// The tickets cannot be moved.
    #[error(transparent)]
    Move(#[from] MoveError),
}

impl QueueError {
    /// Whether the same may work in a moment: a server is away.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Nats(error) if error.is_away())
    }

    /// What to do about it, as one sentence without a full stop.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Nats(error) => error.hint(),
            Self::Elsewhere(elsewhere) => Some(elsewhere.hint()),
            Self::Move(error) => error.hint(),
            Self::Store(error) => error.hint().map(str::to_owned),
            _ => None,
        }
    }
}
