//! One operation on the store: who is where, under which lease, and who follows.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::ticket::{Dependency, DependencyKind, TicketEvent, TicketState};
use crate::model::{TicketId, Time};
use crate::queue::{Claim, ClaimRequest, QUEUE_EVENT_SCHEMA, QueueError, QueueEvent, QueueTicket};
use crate::store::{TicketRow, Txn};

/// An entry with its content.
pub(super) fn entry(txn: &Txn<'_>, row: TicketRow) -> Result<QueueTicket, QueueError> {
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
pub(super) fn unmet(txn: &Txn<'_>, row: &TicketRow) -> Result<Vec<Dependency>, QueueError> {
    let open = |(dependency, state): &(Dependency, Option<TicketState>)| {
        !state.is_some_and(|state| dependency.kind.is_satisfied_by(state))
    };
    Ok(txn.dependencies(row)?.into_iter().filter(open).map(|(dependency, _)| dependency).collect())
}

/// One operation under way: a write transaction, who acts, and the one moment it happens at.
pub(super) struct Operation<'a> {
    /// The transaction.
    pub(super) txn: &'a Txn<'a>,
    /// Who acts.
    pub(super) by: &'a str,
    /// When.
    pub(super) now: Time,
}

impl Operation<'_> {
    /// The entry with exactly this id.
    pub(super) fn load(&self, ticket: &TicketId) -> Result<TicketRow, QueueError> {
        let row = self.txn.find_ticket(ticket)?.filter(|row| row.id == *ticket);
        row.ok_or_else(|| QueueError::NotFound(ticket.clone()))
    }

    /// The entry, if it is under the fence the caller means.
    pub(super) fn load_under(&self, ticket: &TicketId, expected: u64) -> Result<TicketRow, QueueError> {
        let row = self.load(ticket)?;
        if row.fence == expected {
            Ok(row)
        } else {
            Err(QueueError::Stale { ticket: ticket.clone(), expected, found: row.fence })
        }
    }

    /// Takes one edge, stores the entry, appends the event and lets dependents follow.
    pub(super) fn change(&self, row: &mut TicketRow, event: TicketEvent) -> Result<(), QueueError> {
        let from = row.state();
        row.apply(event).map_err(|edge| QueueError::Illegal { ticket: row.id.clone(), edge })?;
        row.changed_at = self.now;
        self.txn.put_ticket(row)?;
        self.record(row, Some(from))?;
        self.tell_dependents(row, from)
    }

    /// Appends the event of a change that is made; its sequence number.
    pub(super) fn record(&self, row: &TicketRow, from: Option<TicketState>) -> Result<i64, QueueError> {
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
    pub(super) fn tell_dependents(&self, row: &TicketRow, from: TicketState) -> Result<(), QueueError> {
        let differs = |kind: DependencyKind| kind.is_satisfied_by(from) != kind.is_satisfied_by(row.state());
        if differs(DependencyKind::Success) || differs(DependencyKind::Completion) {
            for mut dependent in self.txn.waiting_dependents(&row.id)? {
                self.judge_dependencies(&mut dependent)?;
            }
        }
        Ok(())
    }

    /// Moves a queued or blocked entry to the one of the two that its dependencies say; its state then.
    pub(super) fn judge_dependencies(&self, row: &mut TicketRow) -> Result<TicketState, QueueError> {
        let is_blocked = !unmet(self.txn, row)?.is_empty();
        match (row.state(), is_blocked) {
            (TicketState::Queued, true) => self.change(row, TicketEvent::Blocked)?,
            (TicketState::Blocked, false) => self.change(row, TicketEvent::Unblocked)?,
            _ => {}
        }
        Ok(row.state())
    }

    /// Queues a failed or dead entry again.
    pub(super) fn queue_again(&self, row: &mut TicketRow) -> Result<TicketState, QueueError> {
        row.retry_at = None;
        self.change(row, TicketEvent::Requeued)?;
        self.judge_dependencies(row)
    }

    /// Queues the failed entries whose time has come.
    pub(super) fn queue_due_retries(&self, now: Time) -> Result<(), QueueError> {
        for mut row in self.txn.due_retries(now)? {
            self.queue_again(&mut row)?;
        }
        Ok(())
    }

    /// Ends an attempt by the event that `end` decides, unless it `has_ended` that way under this fence before.
    pub(super) fn end_attempt(
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
    pub(super) fn lease(
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

    /// The body of [`crate::queue::Queue::claim`].
    pub(super) fn claim(&self, request: &ClaimRequest) -> Result<Vec<Claim>, QueueError> {
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
}
