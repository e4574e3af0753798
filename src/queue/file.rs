//! The file engine: the queue on the project's own store, shared by every process of one machine.
//!
//! Each operation is one write transaction of the store; a claim that can find nothing, and a sweep with nothing to
//! do, only read, so that idle pollers do not queue for the write lock. Order is strict: SQLite lets one writer in
//! at a time, so two claims never overlap. The clock is this machine's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{
    Claim, ClaimRequest, Completion, NewTicket, Published, QUEUE_EVENT_SCHEMA, Queue, QueueError, QueueEvent,
    QueueTicket, Renewed, Reopen, Settlement,
};
use crate::model::settings::Durability;
use crate::model::ticket::{Dependency, IllegalEdge, TicketEvent, TicketState};
use crate::model::{TicketId, Time};
use crate::store::{StatePaths, Store, TicketRow, Txn};

/// The queue on the project's own store.
#[derive(Debug)]
pub(crate) struct FileQueue {
    /// Where entries are kept.
    store: Arc<Store>,
    /// Who acts, for events.
    by: String,
}

impl FileQueue {
    /// A queue on an open store; `by` names who acts in events.
    pub(crate) fn new(store: Arc<Store>, by: &str) -> Self {
        Self { store, by: by.to_owned() }
    }

    /// Opens the store of a project for its queue alone; `by` names who acts in events.
    pub(crate) fn open(paths: &StatePaths, durability: Durability, by: &str) -> Result<Self, QueueError> {
        Ok(Self::new(Arc::new(Store::open(paths, durability)?), by))
    }

    /// Runs one operation as a transaction under the name `by`.
    fn operate<T>(
        &self,
        by: &str,
        body: impl FnOnce(&Operation<'_>) -> Result<T, QueueError>,
    ) -> Result<T, QueueError> {
        self.store.write(|txn| body(&Operation { txn, by, now: Time::now() }))
    }
}

impl Queue for FileQueue {
    fn publish(&self, new: &NewTicket) -> Result<Published, QueueError> {
        self.operate(&self.by, |operation| operation.publish(new))
    }

    fn claim(&self, request: &ClaimRequest) -> Result<Vec<Claim>, QueueError> {
        if request.limit == 0 || !self.store.read(|txn| txn.has_claimable(Time::now()))? {
            return Ok(Vec::new());
        }
        self.operate(&request.node, |operation| operation.claim(request))
    }

    fn renew(&self, ticket: &TicketId, fence: u64, lease: Duration) -> Result<Renewed, QueueError> {
        self.operate(&self.by, |operation| {
            let mut row = operation.load(ticket)?;
            if row.state() != TicketState::Running || row.fence != fence {
                return Ok(Renewed::Lost);
            }
            let lease_until = operation.now.after(lease);
            row.lease_until = Some(lease_until);
            operation.txn.put_ticket(&mut row)?;
            Ok(Renewed::Held { lease_until })
        })
    }

    fn complete(&self, ticket: &TicketId, fence: u64, completion: Completion) -> Result<TicketState, QueueError> {
        use TicketState as S;
        let event = match completion {
            Completion::Review => TicketEvent::FinishedWithWork,
            Completion::Done => TicketEvent::FinishedWithoutWork,
        };
        let was_completed = |state| matches!(state, S::Review | S::Approved | S::Landing | S::Landed | S::Done);
        self.operate(&self.by, |operation| {
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
        let has_failed = |state| matches!(state, TicketState::Failed | TicketState::Dead);
        self.operate(&self.by, |operation| {
            operation.end_attempt(ticket, fence, has_failed, |row| {
                let exhausted = row.attempts.saturating_sub(row.attempts_before) >= row.max_attempts;
                row.error = Some(error.to_owned());
                row.retry_at = retry_at.filter(|_| !exhausted);
                TicketEvent::AttemptFailed { exhausted }
            })
        })
    }

    fn declare_lost(&self, ticket: &TicketId, fence: u64) -> Result<TicketState, QueueError> {
        let is_over = |state| state != TicketState::Running;
        self.operate(&self.by, |operation| operation.end_attempt(ticket, fence, is_over, |_| TicketEvent::LeaseExpired))
    }

    fn release(&self, ticket: &TicketId, fence: u64) -> Result<TicketState, QueueError> {
        let was_released = |state| matches!(state, TicketState::Queued | TicketState::Blocked);
        self.operate(&self.by, |operation| {
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

    fn reopen(&self, request: &Reopen) -> Result<Claim, QueueError> {
        self.operate(&request.node, |operation| {
            let mut row = operation.load_under(&request.ticket, request.expected_fence)?;
            let counts = request.counts_attempt || row.attempts == 0;
            operation.lease(&mut row, TicketEvent::Reopened, &request.node, request.lease, counts)
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
        self.operate(&self.by, |operation| {
            let mut row = operation.load_under(ticket, expected_fence)?;
            if repeated_at != Some(row.state()) {
                operation.change(&mut row, event)?;
            }
            Ok(row.state())
        })
    }

    fn requeue(&self, ticket: &TicketId) -> Result<TicketState, QueueError> {
        self.operate(&self.by, |operation| {
            let mut row = operation.load(ticket)?;
            if row.state() == TicketState::Dead {
                row.attempts_before = row.attempts;
            }
            operation.queue_again(&mut row)
        })
    }

    fn cancel(&self, ticket: &TicketId) -> Result<TicketState, QueueError> {
        self.operate(&self.by, |operation| {
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
        if !self.store.read(|txn| txn.has_due(now))? {
            return Ok(Vec::new());
        }
        self.operate(&self.by, |operation| {
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
        self.store.read(|txn| {
            let row = txn.find_ticket(ticket)?.filter(|row| row.id == *ticket);
            row.map(|row| entry(txn, row)).transpose()
        })
    }

    fn snapshot(&self) -> Result<Vec<QueueTicket>, QueueError> {
        self.store.read(|txn| txn.tickets()?.into_iter().map(|row| entry(txn, row)).collect())
    }

    fn states(&self) -> Result<Vec<(TicketId, TicketState)>, QueueError> {
        self.store.read(|txn| Ok(txn.ticket_states()?))
    }

    fn events_since(&self, seq: i64, limit: usize) -> Result<Vec<(i64, QueueEvent)>, QueueError> {
        self.store.read(|txn| Ok(txn.queue_events_since(seq, limit)?))
    }
}

/// An entry with its content.
fn entry(txn: &Txn<'_>, row: TicketRow) -> Result<QueueTicket, QueueError> {
    let waits_for = if row.state() == TicketState::Blocked { unmet(txn, &row)? } else { Vec::new() };
    Ok(QueueTicket {
        ticket: txn.content(&row)?,
        state: row.state(),
        attempts: row.attempts,
        fence: row.fence,
        node: row.node,
        lease_until: row.lease_until,
        retry_at: row.retry_at,
        error: row.error,
        waits_for,
        published_at: row.published_at,
        changed_at: row.changed_at,
    })
}

/// The dependencies of an entry that are not satisfied.
fn unmet(txn: &Txn<'_>, row: &TicketRow) -> Result<Vec<Dependency>, QueueError> {
    let open = |(dependency, state): &(Dependency, Option<TicketState>)| {
        !state.is_some_and(|state| dependency.kind.is_satisfied_by(state))
    };
    Ok(txn.dependencies(row)?.into_iter().filter(open).map(|(dependency, _)| dependency).collect())
}

/// One operation under way: a write transaction, who acts, and the one moment it happens at.
struct Operation<'a> {
    /// The transaction.
    txn: &'a Txn<'a>,
    /// Who acts.
    by: &'a str,
    /// When.
    now: Time,
}

impl Operation<'_> {
    /// The entry with exactly this id.
    fn load(&self, ticket: &TicketId) -> Result<TicketRow, QueueError> {
        let row = self.txn.find_ticket(ticket)?.filter(|row| row.id == *ticket);
        row.ok_or_else(|| QueueError::NotFound(ticket.clone()))
    }

    /// The entry, if it is under the fence the caller means.
    fn load_under(&self, ticket: &TicketId, expected: u64) -> Result<TicketRow, QueueError> {
        let row = self.load(ticket)?;
        if row.fence == expected {
            Ok(row)
        } else {
            Err(QueueError::Stale { ticket: ticket.clone(), expected, found: row.fence })
        }
    }

    /// Takes one edge, stores the entry, appends the event and lets dependents follow.
    fn change(&self, row: &mut TicketRow, event: TicketEvent) -> Result<(), QueueError> {
        let from = row.state();
        row.apply(event).map_err(|edge| QueueError::Illegal { ticket: row.id.clone(), edge })?;
        row.changed_at = self.now;
        self.txn.put_ticket(row)?;
        self.record(row, Some(from))?;
        self.tell_dependents(row, from)
    }

    /// Appends the event of a change that is made; its sequence number.
    fn record(&self, row: &TicketRow, from: Option<TicketState>) -> Result<i64, QueueError> {
        let event = QueueEvent {
            schema: QUEUE_EVENT_SCHEMA,
            at: self.now,
            ticket: row.id.clone(),
            from,
            to: row.state(),
            fence: row.fence,
            attempt: row.attempts,
            by: self.by.to_owned(),
        };
        Ok(self.txn.append_queue_event(&row.id, &event)?)
    }

    /// Blocks or unblocks those who wait for `row`, when its change matters to any kind of dependency.
    fn tell_dependents(&self, row: &TicketRow, from: TicketState) -> Result<(), QueueError> {
        use crate::model::ticket::DependencyKind as K;
        let differs = |kind: K| kind.is_satisfied_by(from) != kind.is_satisfied_by(row.state());
        if differs(K::Success) || differs(K::Completion) {
            for mut dependent in self.txn.waiting_dependents(&row.id)? {
                self.judge_dependencies(&mut dependent)?;
            }
        }
        Ok(())
    }

    /// Moves a queued or blocked entry to the one of the two that its dependencies say; its state then.
    fn judge_dependencies(&self, row: &mut TicketRow) -> Result<TicketState, QueueError> {
        let is_blocked = !unmet(self.txn, row)?.is_empty();
        match (row.state(), is_blocked) {
            (TicketState::Queued, true) => self.change(row, TicketEvent::Blocked)?,
            (TicketState::Blocked, false) => self.change(row, TicketEvent::Unblocked)?,
            _ => {}
        }
        Ok(row.state())
    }

    /// Queues a failed or dead entry again.
    fn queue_again(&self, row: &mut TicketRow) -> Result<TicketState, QueueError> {
        row.retry_at = None;
        self.change(row, TicketEvent::Requeued)?;
        self.judge_dependencies(row)
    }

    /// Queues the failed entries whose time has come.
    fn queue_due_retries(&self, now: Time) -> Result<(), QueueError> {
        for mut row in self.txn.due_retries(now)? {
            self.queue_again(&mut row)?;
        }
        Ok(())
    }

    /// Ends an attempt by the event that `end` decides, unless it `has_ended` that way under this fence before.
    fn end_attempt(
        &self,
        ticket: &TicketId,
        fence: u64,
        has_ended: impl Fn(TicketState) -> bool,
        end: impl FnOnce(&mut TicketRow) -> TicketEvent,
    ) -> Result<TicketState, QueueError> {
        let mut row = self.load_under(ticket, fence)?;
        if !has_ended(row.state()) {
            let event = end(&mut row);
            row.lease_until = None;
            self.change(&mut row, event)?;
        }
        Ok(row.state())
    }

    /// Gives a new lease on an entry by an edge that leads to `running`.
    fn lease(
        &self,
        row: &mut TicketRow,
        event: TicketEvent,
        node: &str,
        lease: Duration,
        counts_attempt: bool,
    ) -> Result<Claim, QueueError> {
        let lease_until = self.now.after(lease);
        row.fence += 1;
        row.attempts += u32::from(counts_attempt);
        row.counted = counts_attempt;
        row.node = Some(node.to_owned());
        row.lease_until = Some(lease_until);
        row.retry_at = None;
        self.change(row, event)?;
        Ok(Claim { ticket: self.txn.content(row)?, attempt: row.attempts, fence: row.fence, lease_until })
    }

    /// The body of [`Queue::claim`].
    fn claim(&self, request: &ClaimRequest) -> Result<Vec<Claim>, QueueError> {
        self.queue_due_retries(self.now)?;
        let covers = |needed: &[String]| needed.iter().all(|capability| request.capabilities.contains(capability));
        let rows = match &request.only {
            None => self.txn.queued(request.limit, covers)?,
            Some(only) => self.queued_among(only, request.limit, covers)?,
        };
        let lease = |mut row| self.lease(&mut row, TicketEvent::Claimed, &request.node, request.lease, true);
        rows.into_iter().map(lease).collect()
    }

    /// The best queued entries among some, in claim order.
    fn queued_among(
        &self,
        only: &[TicketId],
        limit: usize,
        covers: impl Fn(&[String]) -> bool,
    ) -> Result<Vec<TicketRow>, QueueError> {
        let mut found = Vec::new();
        for id in only.iter().collect::<BTreeSet<_>>() {
            let row = self.txn.find_ticket(id)?.filter(|row| row.id == *id && row.state() == TicketState::Queued);
            found.extend(row.filter(|row| covers(&row.capabilities)));
        }
        found.sort_by_key(|row| (std::cmp::Reverse(row.priority), row.position));
        found.truncate(limit);
        Ok(found)
    }

    /// The body of [`Queue::publish`].
    fn publish(&self, new: &NewTicket) -> Result<Published, QueueError> {
        if let Some(row) = self.txn.published_by(&new.dedupe_key)? {
            return Ok(Published { state: row.state(), ticket: row.id, fresh: false });
        }
        let known = self.txn.find_ticket(&new.ticket.id)?;
        let is_blocked = self.check_ids(new, known.as_ref())?;
        let mut row = match known {
            None => self.insert(new, is_blocked)?,
            Some(row) => self.publish_again(new, row, is_blocked)?,
        };
        self.txn.note_publication(&new.dedupe_key, &row)?;
        Ok(Published { state: row.state(), ticket: row.id, fresh: true })
    }

    /// Checks spelling and cycles; whether a dependency is not satisfied.
    fn check_ids(&self, new: &NewTicket, known: Option<&TicketRow>) -> Result<bool, QueueError> {
        let id = &new.ticket.id;
        same_spelling(id, known.map(|row| &row.id))?;
        let dependents = self.txn.spelled_by_dependents(id)?;
        for spelling in &dependents {
            same_spelling(id, Some(spelling))?;
        }
        let mut is_blocked = false;
        for dependency in &new.ticket.depends_on {
            same_spelling(&dependency.ticket, Some(id))?;
            let row = self.txn.find_ticket(&dependency.ticket)?;
            same_spelling(&dependency.ticket, row.as_ref().map(|row| &row.id))?;
            is_blocked |= !row.is_some_and(|row| dependency.kind.is_satisfied_by(row.state()));
        }
        self.refuse_cycle(new)?;
        Ok(is_blocked)
    }

    /// Makes a new entry.
    fn insert(&self, new: &NewTicket, is_blocked: bool) -> Result<TicketRow, QueueError> {
        let mut row = TicketRow::new(&new.ticket, self.now);
        self.begin_round(&mut row, is_blocked, None)?;
        self.txn.put_ticket(&mut row)?;
        self.txn.put_content(&row, &new.ticket, true)?;
        Ok(row)
    }

    /// Publishes new content for a known id: in place while it waits, as a new round after it ended.
    fn publish_again(&self, new: &NewTicket, mut row: TicketRow, is_blocked: bool) -> Result<TicketRow, QueueError> {
        use TicketState as S;
        let from = row.state();
        match from {
            S::Open | S::Queued | S::Blocked => {
                self.txn.put_content(&row, &new.ticket, false)?;
                self.judge_dependencies(&mut row)?;
                if row.state() == from {
                    // The content may have changed: followers are told, though the state did not.
                    self.record(&row, Some(from))?;
                }
            }
            S::Failed | S::Dead | S::Cancelled | S::Done | S::Landed => {
                row.reset();
                row.attempts_before = row.attempts;
                row.error = None;
                row.retry_at = None;
                row.node = None;
                row.published_at = self.now;
                row.changed_at = self.now;
                self.begin_round(&mut row, is_blocked, Some(from))?;
                self.txn.put_ticket(&mut row)?;
                self.txn.put_content(&row, &new.ticket, false)?;
                self.tell_dependents(&row, from)?;
            }
            S::WaitingApproval | S::Running | S::Review | S::Approved | S::Landing | S::Lost => {
                let edge = IllegalEdge { state: from, event: TicketEvent::Published { blocked: is_blocked } };
                return Err(QueueError::Illegal { ticket: row.id, edge });
            }
        }
        Ok(row)
    }

    /// Takes the edge from `open` and appends the event, whose number is the entry's age.
    fn begin_round(&self, row: &mut TicketRow, is_blocked: bool, from: Option<TicketState>) -> Result<(), QueueError> {
        let published = row.apply(TicketEvent::Published { blocked: is_blocked });
        published.map_err(|edge| QueueError::Illegal { ticket: row.id.clone(), edge })?;
        row.position = self.record(row, from)?;
        Ok(())
    }

    /// Refuses a publication whose dependencies lead back to itself. Edges of tickets that ended well are not
    /// followed: nothing waits for them any more.
    fn refuse_cycle(&self, new: &NewTicket) -> Result<(), QueueError> {
        let start = &new.ticket.id;
        let mut reached_from: BTreeMap<TicketId, TicketId> = BTreeMap::new();
        let mut todo = VecDeque::new();
        let needs = new.ticket.depends_on.iter().map(|dependency| dependency.ticket.clone());
        let mut edges: Vec<(TicketId, TicketId)> = needs.map(|need| (start.clone(), need)).collect();
        loop {
            for (from, to) in edges {
                if to == *start {
                    return Err(QueueError::Cycle(path_back(&reached_from, from)));
                }
                if !reached_from.contains_key(&to) {
                    reached_from.insert(to.clone(), from);
                    todo.push_back(to);
                }
            }
            let Some(next) = todo.pop_front() else { return Ok(()) };
            edges = self.waiting_edges(&next)?;
        }
    }

    /// The edges from an entry to what it may still wait for.
    fn waiting_edges(&self, from: &TicketId) -> Result<Vec<(TicketId, TicketId)>, QueueError> {
        match self.txn.find_ticket(from)? {
            Some(row) if !matches!(row.state(), TicketState::Landed | TicketState::Done) => {
                let needs = self.txn.dependencies(&row)?;
                Ok(needs.into_iter().map(|(dependency, _)| (from.clone(), dependency.ticket)).collect())
            }
            _ => Ok(Vec::new()),
        }
    }
}

/// The way from the start of a search to `last`, start first.
fn path_back(reached_from: &BTreeMap<TicketId, TicketId>, last: TicketId) -> Vec<TicketId> {
    let mut path = vec![last];
    while let Some(previous) = path.last().and_then(|id| reached_from.get(id)) {
        path.push(previous.clone());
    }
    path.reverse();
    path
}

/// Refuses two ids that differ in case only.
fn same_spelling(given: &TicketId, known: Option<&TicketId>) -> Result<(), QueueError> {
    match known {
        Some(known) if known != given && known.as_str().eq_ignore_ascii_case(given.as_str()) => {
            Err(QueueError::CaseClash { given: given.clone(), known: known.clone() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
