//! Publication: spelling, cycles, rounds.

use std::collections::{BTreeMap, VecDeque};

use super::operation::Operation;
use crate::model::TicketId;
use crate::model::ticket::{IllegalEdge, TicketEvent, TicketState};
use crate::queue::{Published, QueueError};
use crate::store::{Content, TicketRow};

impl Operation<'_> {
    /// The body of [`crate::queue::Queue::publish`].
    pub(super) fn publish(&self, new: &Content<'_>) -> Result<Published, QueueError> {
        if new.ticket.depends_on.is_empty() && self.txn.is_unheard_of(new.key, &new.ticket.id)? {
            let row = self.insert(new, false, false)?;
            return Ok(Published { state: row.state(), ticket: row.id, fresh: true });
        }
        if let Some(row) = self.txn.published_by(new.key)? {
            return Ok(Published { state: row.state(), ticket: row.id, fresh: false });
        }
        let known = self.txn.find_ticket(&new.ticket.id)?;
        let is_blocked = self.check_ids(new, known.as_ref())?;
        let row = match known {
            None => self.insert(new, is_blocked, !self.txn.spelled_by_dependents(&new.ticket.id)?.is_empty())?,
            Some(row) => self.publish_again(new, row, is_blocked)?,
        };
        Ok(Published { state: row.state(), ticket: row.id, fresh: true })
    }

    /// Checks spelling and cycles; whether a dependency is not satisfied.
    fn check_ids(&self, new: &Content<'_>, known: Option<&TicketRow>) -> Result<bool, QueueError> {
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

    /// Makes a new entry; `is_needed` says whether some ticket waits for it already.
    fn insert(&self, new: &Content<'_>, is_blocked: bool, is_needed: bool) -> Result<TicketRow, QueueError> {
        let mut row = TicketRow::new(new, self.now);
        row.is_needed = is_needed;
        self.begin_round(&mut row, is_blocked, None)?;
        self.txn.put_ticket(&mut row)?;
        self.txn.put_first_content(&row, new)?;
        Ok(row)
    }

    /// Publishes new content for a known id: in place while it waits, as a new round after it ended.
    fn publish_again(&self, new: &Content<'_>, mut row: TicketRow, is_blocked: bool) -> Result<TicketRow, QueueError> {
        use TicketState as S;
        let from = row.state();
        match from {
            S::Queued | S::Blocked => {
                self.txn.put_new_content(&mut row, new)?;
                self.judge_dependencies(&mut row)?;
                if row.state() == from {
                    // The content may have changed: followers are told, though the state did not.
                    self.record(&row, Some(from))?;
                }
            }
            S::Open | S::Failed | S::Dead | S::Cancelled | S::Done | S::Landed => {
                row.reset();
                row.attempts_before = row.attempts;
                row.error = None;
                row.retry_at = None;
                row.node = None;
                row.published_at = self.now;
                row.changed_at = self.now;
                self.begin_round(&mut row, is_blocked, Some(from))?;
                self.txn.put_ticket(&mut row)?;
                self.txn.put_new_content(&mut row, new)?;
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
    fn refuse_cycle(&self, new: &Content<'_>) -> Result<(), QueueError> {
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
