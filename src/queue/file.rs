//! The queue on tables, and the file engine: the tables are the project's own store, shared by every process of one
//! machine.
//!
//! Each operation is one write transaction of the store; a claim that can find nothing, and a sweep with nothing to
//! do, only read, so that idle pollers do not queue for the write lock. Order is strict: SQLite lets one writer in
//! at a time, so two claims never overlap. The clock is this machine's, or what the keeper says.
//!
//! Where the tables are kept, and what makes a change of them good, is a [`Keeper`]'s: the file engine's is the store
//! alone.

pub(super) mod operation;
mod publish;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use self::operation::{Lease, Operation, entry};
use super::engine::check_in_file;
use super::nats::{Keep, Link};
use super::server::Server;
use super::{
    Claim, ClaimRequest, Completion, Lead, LeadRequest, Leader, NewTicket, Published, Queue, QueueError, QueueEvent,
    QueueTicket, Renewed, Reopen, Settlement,
};
use crate::model::ticket::{TicketEvent, TicketState};
use crate::model::{TicketId, Time};
use crate::store::{Content, Leadership, Store, TicketRow, Txn};

/// Keeps the tables of a queue.
pub(crate) trait Keeper: Send + Sync {
    /// Runs one operation under the name `by`: wholly or, when it answers an error, not at all. It may be run more than
    /// once before one run counts.
    fn write<T>(&self, by: &str, body: impl Fn(&Operation<'_>) -> Result<T, QueueError>) -> Result<T, QueueError>;

    /// Runs `body` on one unchanging view of the tables, which has all that was acknowledged before.
    fn read<T>(&self, body: impl FnOnce(&Txn<'_>) -> Result<T, QueueError>) -> Result<T, QueueError>;

    /// What the clock that counts says at a moment that is `local` by this machine's.
    fn by_clock(&self, local: Time) -> Result<Time, QueueError>;

    /// The server that counts, where one does.
    fn server(&self) -> Option<&Server>;

    /// The connection to it.
    fn link(&self) -> Option<&Arc<Link>>;

    /// Brings the tables up to date with it.
    fn refresh(&self) -> Result<(), QueueError>;

    /// See [`Queue::shorten`].
    fn shorten(&self, keep: &Keep) -> Result<(), QueueError>;
}

/// The project's own store as the one place of the tables.
#[derive(Debug)]
pub(crate) struct Local(Arc<Store>);

impl Keeper for Local {
    fn write<T>(&self, by: &str, body: impl Fn(&Operation<'_>) -> Result<T, QueueError>) -> Result<T, QueueError> {
        self.0.write(|txn| {
            check_in_file(txn)?;
            body(&Operation::new(txn, by, Time::now()))
        })
    }

    fn read<T>(&self, body: impl FnOnce(&Txn<'_>) -> Result<T, QueueError>) -> Result<T, QueueError> {
        self.0.read(body)
    }

    fn by_clock(&self, local: Time) -> Result<Time, QueueError> {
        Ok(local)
    }

    fn server(&self) -> Option<&Server> {
        None
    }

    fn link(&self) -> Option<&Arc<Link>> {
        None
    }

    fn refresh(&self) -> Result<(), QueueError> {
        Ok(())
    }

    fn shorten(&self, _keep: &Keep) -> Result<(), QueueError> {
        Ok(())
    }
}

/// The queue on tables that `K` keeps.
#[derive(Debug)]
pub(crate) struct TableQueue<K> {
    /// Where entries are kept.
    keeper: K,
    /// Who acts, for events.
    by: String,
    /// Whether the last claim found something, so that the next one need not look before it asks to write.
    found_last: AtomicBool,
}

/// The queue on the project's own store.
pub(crate) type FileQueue = TableQueue<Local>;

impl FileQueue {
    /// A queue on an open store; `by` names who acts in events.
    pub(crate) fn new(store: Arc<Store>, by: &str) -> Self {
        Self::on(Local(store), by)
    }
}

impl<K: Keeper> TableQueue<K> {
    /// What keeps its tables.
    #[cfg(test)]
    #[cfg(feature = "real-agents")]
    pub(super) fn keeper(&self) -> &K {
        &self.keeper
    }

    /// A queue on the tables of a keeper; `by` names who acts in events.
    pub(super) fn on(keeper: K, by: &str) -> Self {
        Self { keeper, by: by.to_owned(), found_last: AtomicBool::new(false) }
    }
}

impl<K: Keeper> TableQueue<K> {
    /// Takes the lead in a role unless somebody has it; the one under the fence `gone` has not.
    fn take_lead(&self, request: &LeadRequest, gone: Option<u64>) -> Result<Lead, QueueError> {
        let find = |txn: &Txn<'_>| Ok::<_, QueueError>(txn.leadership(&request.role)?.map(leader));
        let has_it = |known: &Leader, now: Time| is_good(known, now, request.lease) && Some(known.fence) != gone;
        // Who stands by asks all the time, and only looks.
        let now = self.keeper.by_clock(Time::now())?;
        if let Some(known) = self.keeper.read(find)?.filter(|known| has_it(known, now)) {
            return Ok(Lead::Held(known));
        }
        self.keeper.write(&request.holder, |operation| {
            let known = find(operation.txn)?;
            if let Some(known) = known.clone().filter(|known| has_it(known, operation.now)) {
                return Ok(Lead::Held(known));
            }
            let fence = known.map_or(0, |known| known.fence) + 1;
            let lease_until = operation.now.after(request.lease);
            let taken = Leader { holder: request.holder.clone(), fence, lease_until };
            operation.put_leadership(&request.role, &row(&taken))?;
            Ok(Lead::Taken(taken))
        })
    }
}

impl<K: Keeper> Queue for TableQueue<K> {
    fn publish(&self, new: &NewTicket) -> Result<Published, QueueError> {
        let content = Content::new(&new.ticket, &new.dedupe_key)?;
        self.keeper.write(&self.by, |operation| operation.publish(&content))
    }

    fn claim(&self, request: &ClaimRequest) -> Result<Vec<Claim>, QueueError> {
        if request.limit == 0 {
            return Ok(Vec::new());
        }
        let may_find = request.request_id.is_some() || self.found_last.load(Ordering::Relaxed) || {
            let now = self.keeper.by_clock(Time::now())?;
            self.keeper.read(|txn| Ok::<_, QueueError>(txn.has_claimable(now)?))?
        };
        if !may_find {
            return Ok(Vec::new());
        }
        let claims = self.keeper.write(&request.node, |operation| operation.claim(request))?;
        self.found_last.store(!claims.is_empty(), Ordering::Relaxed);
        Ok(claims)
    }

    fn renew(&self, ticket: &TicketId, fence: u64, lease: Duration) -> Result<Renewed, QueueError> {
        self.keeper.write(&self.by, |operation| {
            let mut row = operation.load(ticket)?;
            if row.state() != TicketState::Running || row.fence != fence {
                return Ok(Renewed::Lost);
            }
            let lease_until = operation.now.after(lease);
            row.lease_until = Some(lease_until);
            operation.put(&mut row)?;
            Ok(Renewed::Held { lease_until })
        })
    }

    fn complete(&self, ticket: &TicketId, fence: u64, completion: Completion) -> Result<TicketState, QueueError> {
        use TicketState as S;
        let event = match completion {
            Completion::Review => TicketEvent::FinishedWithWork,
            Completion::Done => TicketEvent::FinishedWithoutWork,
        };
        let was_completed =
            |row: &TicketRow| matches!(row.state(), S::Review | S::Approved | S::Landing | S::Landed | S::Done);
        self.keeper.write(&self.by, |operation| {
            operation.end_attempt(ticket, fence, was_completed, |row| {
                row.error = None;
                event
            })
        })
    }

    fn fail(
        &self,
        ticket: &TicketId,
        fence: u64,
        error: &str,
        retry_at: Option<Time>,
    ) -> Result<TicketState, QueueError> {
        let retry_at = retry_at.map(|at| self.keeper.by_clock(at)).transpose()?;
        let has_failed = |row: &TicketRow| match row.state() {
            TicketState::Failed | TicketState::Dead => true,
            // Its time came since.
            TicketState::Queued | TicketState::Blocked => row.error.as_deref() == Some(error),
            _ => false,
        };
        self.keeper.write(&self.by, |operation| {
            operation.end_attempt(ticket, fence, has_failed, |row| {
                let exhausted = row.attempts.saturating_sub(row.attempts_before) >= row.max_attempts;
                row.error = Some(error.to_owned());
                row.retry_at = retry_at.filter(|_| !exhausted);
                TicketEvent::AttemptFailed { exhausted }
            })
        })
    }

    fn declare_lost(&self, ticket: &TicketId, fence: u64) -> Result<TicketState, QueueError> {
        let is_over = |row: &TicketRow| row.state() != TicketState::Running;
        self.keeper
            .write(&self.by, |operation| operation.end_attempt(ticket, fence, is_over, |_| TicketEvent::LeaseExpired))
    }

    fn release(&self, ticket: &TicketId, fence: u64) -> Result<TicketState, QueueError> {
        let was_released = |row: &TicketRow| matches!(row.state(), TicketState::Queued | TicketState::Blocked);
        self.keeper.write(&self.by, |operation| {
            let state = operation.end_attempt(ticket, fence, was_released, |row| {
                row.attempts -= u32::from(std::mem::take(&mut row.counted));
                TicketEvent::Released
            })?;
            if state == TicketState::Queued {
                operation.judge_dependencies(&mut operation.load(ticket)?)
            } else {
                Ok(state)
            }
        })
    }

    fn withdraw(&self, ticket: &TicketId, fence: u64, dedupe_key: &str) -> Result<TicketState, QueueError> {
        let is_over =
            |row: &TicketRow| matches!(row.state(), TicketState::Open | TicketState::Queued | TicketState::Blocked);
        self.keeper.write(&self.by, |operation| {
            let state = operation.end_attempt(ticket, fence, is_over, |row| {
                row.attempts -= u32::from(std::mem::take(&mut row.counted));
                if row.is_published_by(dedupe_key) { TicketEvent::Withdrawn } else { TicketEvent::Released }
            })?;
            if state == TicketState::Queued {
                operation.judge_dependencies(&mut operation.load(ticket)?)
            } else {
                Ok(state)
            }
        })
    }

    fn reopen(&self, request: &Reopen) -> Result<Claim, QueueError> {
        self.keeper.write(&request.node, |operation| {
            let row = operation.load_under(&request.ticket, request.expected_fence)?;
            request.check_from(row.state())?;
            let lease = Lease {
                event: TicketEvent::Reopened,
                node: &request.node,
                duration: request.lease,
                counts_attempt: request.counts_attempt || row.attempts == 0,
            };
            let ticket = operation.txn.content(&row)?;
            operation.lease(row, ticket, &lease)
        })
    }

    fn settle(
        &self,
        ticket: &TicketId,
        expected_fence: u64,
        settlement: Settlement,
    ) -> Result<TicketState, QueueError> {
        let (event, repeated_at) = match settlement {
            Settlement::Approve => (TicketEvent::Approved, Some(TicketState::Approved)),
            Settlement::VoidApproval => (TicketEvent::ApprovalVoided, Some(TicketState::Review)),
            Settlement::BeginLanding => (TicketEvent::LandingStarted, None),
            Settlement::DeferLanding => (TicketEvent::LandingDeferred, Some(TicketState::Approved)),
            Settlement::Landed => (TicketEvent::Landed, Some(TicketState::Landed)),
        };
        self.keeper.write(&self.by, |operation| {
            let mut row = operation.load_under(ticket, expected_fence)?;
            if repeated_at != Some(row.state()) {
                operation.change(&mut row, event)?;
            }
            Ok(row.state())
        })
    }

    fn requeue(&self, ticket: &TicketId) -> Result<TicketState, QueueError> {
        self.keeper.write(&self.by, |operation| {
            let mut row = operation.load(ticket)?;
            if row.state() == TicketState::Dead {
                row.attempts_before = row.attempts;
            }
            operation.queue_again(&mut row)
        })
    }

    fn cancel(&self, ticket: &TicketId) -> Result<TicketState, QueueError> {
        self.keeper.write(&self.by, |operation| {
            let mut row = operation.load(ticket)?;
            if row.state() != TicketState::Cancelled {
                row.lease_until = None;
                row.retry_at = None;
                operation.change(&mut row, TicketEvent::Cancelled)?;
            }
            Ok(row.state())
        })
    }

    fn expire(&self, now: Time) -> Result<Vec<TicketId>, QueueError> {
        let now = self.keeper.by_clock(now)?;
        if !self.keeper.read(|txn| Ok(txn.has_due(now)?))? {
            return Ok(Vec::new());
        }
        self.keeper.write(&self.by, |operation| {
            operation.queue_due_retries(now)?;
            let mut lost = Vec::new();
            for mut row in operation.txn.overdue(now)? {
                row.lease_until = None;
                operation.change(&mut row, TicketEvent::LeaseExpired)?;
                lost.push(row.id);
            }
            Ok(lost)
        })
    }

    fn ticket(&self, ticket: &TicketId) -> Result<Option<QueueTicket>, QueueError> {
        self.keeper.read(|txn| {
            let row = txn.find_ticket(ticket)?.filter(|row| row.id == *ticket);
            row.map(|row| entry(txn, row)).transpose()
        })
    }

    fn snapshot(&self) -> Result<Vec<QueueTicket>, QueueError> {
        self.keeper.read(|txn| txn.tickets()?.into_iter().map(|row| entry(txn, row)).collect())
    }

    fn states(&self) -> Result<Vec<(TicketId, TicketState)>, QueueError> {
        self.keeper.read(|txn| Ok(txn.ticket_states()?))
    }

    fn events_since(&self, seq: i64, limit: usize) -> Result<Vec<(i64, QueueEvent)>, QueueError> {
        self.keeper.read(|txn| Ok(txn.queue_events_since(seq, limit)?))
    }

    fn leader_lease(&self, request: &LeadRequest) -> Result<Lead, QueueError> {
        self.take_lead(request, None)
    }

    fn succeed(&self, request: &LeadRequest, gone: u64) -> Result<Lead, QueueError> {
        self.take_lead(request, Some(gone))
    }

    fn renew_lead(&self, role: &str, fence: u64, lease: Duration) -> Result<Renewed, QueueError> {
        self.keeper.write(&self.by, |operation| {
            let known = operation.txn.leadership(role)?.map(leader).filter(|known| known.fence == fence);
            let Some(mut known) = known.filter(|known| known.lease_until > RELEASED) else {
                return Ok(Renewed::Lost);
            };
            known.lease_until = operation.now.after(lease);
            operation.put_leadership(role, &row(&known))?;
            Ok(Renewed::Held { lease_until: known.lease_until })
        })
    }

    fn release_lead(&self, role: &str, fence: u64) -> Result<(), QueueError> {
        self.keeper.write(&self.by, |operation| {
            if let Some(known) = operation.txn.leadership(role)?.map(leader).filter(|known| known.fence == fence) {
                operation.put_leadership(role, &row(&Leader { lease_until: RELEASED, ..known }))?;
            }
            Ok(())
        })
    }

    fn leader(&self, role: &str) -> Result<Option<Leader>, QueueError> {
        let now = self.keeper.by_clock(Time::now())?;
        let known = self.keeper.read(|txn| Ok::<_, QueueError>(txn.leadership(role)?))?.map(leader);
        Ok(known.filter(|known| known.lease_until > now))
    }

    fn ahead(&self) -> Result<i64, QueueError> {
        let local = Time::now();
        Ok(self.keeper.by_clock(local)?.as_millis() - local.as_millis())
    }

    fn node(&self) -> &str {
        &self.by
    }

    fn server(&self) -> Option<&Server> {
        self.keeper.server()
    }

    fn link(&self) -> Option<&Arc<Link>> {
        self.keeper.link()
    }

    fn refresh(&self) -> Result<(), QueueError> {
        self.keeper.refresh()
    }

    fn shorten(&self, keep: &Keep) -> Result<(), QueueError> {
        self.keeper.shorten(keep)
    }
}

/// The end of a lease that was given up.
const RELEASED: Time = Time::from_millis(0);

/// Whether a lead is good at `now`. One that ends later than any lease given now would was given before the clock was set
/// back; its holder, if it lives, finds out at its next renewal.
fn is_good(leader: &Leader, now: Time, lease: Duration) -> bool {
    leader.lease_until > now && leader.lease_until <= now.after(lease * 2)
}

/// A lead as stored.
fn row(leader: &Leader) -> Leadership {
    Leadership { holder: leader.holder.clone(), fence: leader.fence, lease_until: leader.lease_until }
}

/// A stored lead.
fn leader(row: Leadership) -> Leader {
    Leader { holder: row.holder, fence: row.fence, lease_until: row.lease_until }
}

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
