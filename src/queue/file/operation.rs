//! One operation on the store: who is where, under which lease, and who follows.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::ticket::{self, Dependency, DependencyKind, Ticket, TicketEvent, TicketState};
use crate::model::{TicketId, Time};
use crate::queue::{Claim, ClaimRequest, QUEUE_EVENT_SCHEMA, QueueError, QueueEvent, QueueTicket, without_request};
use crate::store::{Content, Leadership, TicketRow, Txn};

/// An entry with its content.
pub(super) fn entry(txn: &Txn<'_>, row: TicketRow) -> Result<QueueTicket, QueueError> {
    let waits_for = if row.state() == TicketState::Blocked { unmet(txn, &row)? } else { Vec::new() };
    Ok(QueueTicket {
        ticket: txn.content(&row)?,
        state: row.state(),
        attempts: row.attempts,
        fence: row.fence,
        node: row.node.map(without_request),
        lease_until: row.lease_until,
        retry_at: row.retry_at,
        error: row.error,
        waits_for,
        published_at: row.published_at,
        changed_at: row.changed_at,
    })
}

/// The dependencies that keep an entry from being claimed.
pub(super) fn unmet(txn: &Txn<'_>, row: &TicketRow) -> Result<Vec<Dependency>, QueueError> {
    Ok(ticket::unmet(&txn.dependencies(row)?))
}

/// A lease to be given.
pub(super) struct Lease<'a> {
    /// The edge that leads to `running`.
    pub(super) event: TicketEvent,
    /// Who will hold it.
    pub(super) node: &'a str,
    /// How long it lasts unless renewed.
    pub(super) duration: Duration,
    /// Whether it counts an attempt.
    pub(super) counts_attempt: bool,
}

/// Is told what an operation changes, while it does.
pub(crate) trait Recorder {
    /// The age of an entry that the event with the number `event` publishes.
    fn age(&self, event: i64) -> i64;

    /// An entry changes.
    fn entry(&self, ticket: &TicketId);

    /// Content is published.
    fn content(&self, content: &Content<'_>);

    /// A state changes.
    fn event(&self, event: &QueueEvent);

    /// The lead in a role changes.
    fn lead(&self, role: &str, who: &Leadership);
}

/// One operation under way: a write transaction, who acts, and the one moment it happens at.
pub(crate) struct Operation<'a> {
    /// The transaction.
    pub(super) txn: &'a Txn<'a>,
    /// Who acts.
    pub(super) by: &'a str,
    /// When.
    pub(super) now: Time,
    /// Who is told what it changes.
    recorder: Option<&'a dyn Recorder>,
}

impl<'a> Operation<'a> {
    /// An operation that happens at a moment.
    pub(in crate::queue) fn new(txn: &'a Txn<'a>, by: &'a str, now: Time) -> Self {
        Self { txn, by, now, recorder: None }
    }

    /// The same, and `recorder` is told what it changes.
    pub(in crate::queue) fn told_to(self, recorder: &'a dyn Recorder) -> Self {
        Self { recorder: Some(recorder), ..self }
    }
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
        self.put(row)?;
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
        if let Some(recorder) = self.recorder {
            recorder.event(&event);
        }
        Ok(self.txn.append_queue_event(&row.id, &event)?)
    }

    /// Stores an entry without its content.
    pub(super) fn put(&self, row: &mut TicketRow) -> Result<(), QueueError> {
        if let Some(recorder) = self.recorder {
            recorder.entry(&row.id);
        }
        Ok(self.txn.put_ticket(row)?)
    }

    /// Stores who leads in a role.
    pub(super) fn put_leadership(&self, role: &str, who: &Leadership) -> Result<(), QueueError> {
        if let Some(recorder) = self.recorder {
            recorder.lead(role, who);
        }
        Ok(self.txn.put_leadership(role, who)?)
    }

    /// Notes that content is published.
    pub(super) fn note_content(&self, content: &Content<'_>) {
        if let Some(recorder) = self.recorder {
            recorder.content(content);
        }
    }

    /// The age of what is published by the event `seq`.
    pub(super) fn age(&self, seq: i64) -> i64 {
        self.recorder.map_or(seq, |recorder| recorder.age(seq))
    }

    /// Blocks or unblocks those who wait for `row`, when its change matters to any kind of dependency.
    pub(super) fn tell_dependents(&self, row: &TicketRow, from: TicketState) -> Result<(), QueueError> {
        if !row.is_needed {
            return Ok(());
        }
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
        has_ended: impl Fn(&TicketRow) -> bool,
        end: impl FnOnce(&mut TicketRow) -> TicketEvent,
    ) -> Result<TicketState, QueueError> {
        let mut row = self.load_under(ticket, fence)?;
        if !has_ended(&row) {
            let event = end(&mut row);
            row.lease_until = None;
            self.change(&mut row, event)?;
        }
        Ok(row.state())
    }

    /// Gives a new lease on an entry with this content, by an edge that leads to `running`.
    pub(super) fn lease(&self, mut row: TicketRow, ticket: Ticket, lease: &Lease<'_>) -> Result<Claim, QueueError> {
        let lease_until = self.now.after(lease.duration);
        row.fence += 1;
        row.attempts += u32::from(lease.counts_attempt);
        row.counted = lease.counts_attempt;
        row.node = Some(lease.node.to_owned());
        row.lease_until = Some(lease_until);
        row.retry_at = None;
        self.change(&mut row, lease.event)?;
        Ok(Claim { ticket, attempt: row.attempts, fence: row.fence, lease_until })
    }

    /// The body of [`crate::queue::Queue::claim`].
    pub(super) fn claim(&self, request: &ClaimRequest) -> Result<Vec<Claim>, QueueError> {
        let holder = request.holder();
        if request.request_id.is_some() {
            let granted = self.granted(&holder, request.lease)?;
            if !granted.is_empty() {
                return Ok(granted);
            }
        }
        let covers = |needed: &[String]| needed.iter().all(|capability| request.capabilities.contains(capability));
        let lease = Lease { event: TicketEvent::Claimed, node: &holder, duration: request.lease, counts_attempt: true };
        let best = |limit| self.txn.queued(self.now, limit, covers);
        let ids = match &request.only {
            None => match best(request.limit)? {
                Some(ids) => ids,
                None => {
                    self.queue_due_retries(self.now)?;
                    best(request.limit)?.unwrap_or_default()
                }
            },
            Some(only) => {
                self.queue_due_retries(self.now)?;
                self.queued_among(only, request.limit, covers)?
            }
        };
        let mut claims = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some((row, ticket)) = self.txn.ticket_and_content(&id)? {
                claims.push(self.lease(row, ticket, &lease)?);
            }
        }
        Ok(claims)
    }

    /// What was granted to a request that is made again, for as long from now.
    fn granted(&self, holder: &str, duration: Duration) -> Result<Vec<Claim>, QueueError> {
        let lease_until = self.now.after(duration);
        let mut claims = Vec::new();
        for mut row in self.txn.held_by(holder)? {
            row.lease_until = Some(lease_until);
            self.put(&mut row)?;
            let (ticket, attempt, fence) = (self.txn.content(&row)?, row.attempts, row.fence);
            claims.push(Claim { ticket, attempt, fence, lease_until });
        }
        Ok(claims)
    }

    /// The best queued entries among some, in claim order.
    fn queued_among(
        &self,
        only: &[TicketId],
        limit: usize,
        covers: impl Fn(&[String]) -> bool,
    ) -> Result<Vec<String>, QueueError> {
        let mut found = Vec::new();
        for id in only.iter().collect::<BTreeSet<_>>() {
            let row = self.txn.find_ticket(id)?.filter(|row| row.id == *id && row.state() == TicketState::Queued);
            found.extend(row.filter(|row| covers(&row.capabilities)));
        }
        found.sort_by_key(|row| (std::cmp::Reverse(row.priority), row.position));
        Ok(found.into_iter().take(limit).map(|row| row.id.into()).collect())
    }
}
