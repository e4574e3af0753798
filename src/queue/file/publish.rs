//! Publication: spelling, cycles, rounds.

use super::operation::Operation;
use crate::model::TicketId;
use crate::model::ticket::{IllegalEdge, TicketEvent, TicketState, cycle, unmet};
use crate::queue::{Published, QueueError};
use crate::store::{Content, TicketRow};

impl Operation<'_> {
    /// The body of [`crate::queue::Queue::publish`].
    pub(in crate::queue) fn publish(&self, new: &Content<'_>) -> Result<Published, QueueError> {
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
        let needs = new.ticket.needs(|needed| {
            same_spelling(needed, Some(id))?;
            let row = self.txn.find_ticket(needed)?;
            same_spelling(needed, row.as_ref().map(|row| &row.id))?;
            Ok::<_, QueueError>(row.map(|row| row.state()))
        })?;
        self.refuse_cycle(new)?;
        Ok(!unmet(&needs).is_empty())
    }

    /// Makes a new entry; `is_needed` says whether some ticket waits for it already.
    fn insert(&self, new: &Content<'_>, is_blocked: bool, is_needed: bool) -> Result<TicketRow, QueueError> {
        let mut row = TicketRow::new(new, self.now);
        row.is_needed = is_needed;
        self.begin_round(&mut row, is_blocked, None)?;
        self.put(&mut row)?;
        self.note_content(new);
        self.txn.put_first_content(&row, new)?;
        Ok(row)
    }

    /// Publishes new content for a known id: in place while it waits, as a new round after it ended.
    fn publish_again(&self, new: &Content<'_>, mut row: TicketRow, is_blocked: bool) -> Result<TicketRow, QueueError> {
        use TicketState as S;
        let from = row.state();
        match from {
            S::Queued | S::Blocked => {
                self.put_new_content(&mut row, new)?;
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
                self.put(&mut row)?;
                self.put_new_content(&mut row, new)?;
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
        row.position = self.age(self.record(row, from)?);
        Ok(())
    }

    /// Stores new content of a known entry, which thereby changed.
    fn put_new_content(&self, row: &mut TicketRow, new: &Content<'_>) -> Result<(), QueueError> {
        self.note_content(new);
        self.txn.put_new_content(row, new)?;
        self.put(row)
    }

    /// Refuses a publication whose dependencies lead back to itself. Edges of tickets that ended well are not
    /// followed: nothing waits for them any more.
    fn refuse_cycle(&self, new: &Content<'_>) -> Result<(), QueueError> {
        let start = &new.ticket.id;
        let found = cycle(start, |id| match id {
            id if id == start => Ok(new.ticket.depends_on.iter().map(|need| need.ticket.clone()).collect()),
            id => self.may_wait_for(id),
        })?;
        found.map_or(Ok(()), |ids| Err(QueueError::Cycle(ids)))
    }

    /// What an entry may still wait for.
    fn may_wait_for(&self, id: &TicketId) -> Result<Vec<TicketId>, QueueError> {
        match self.txn.find_ticket(id)? {
            Some(row) if !matches!(row.state(), TicketState::Landed | TicketState::Done) => {
                let needs = self.txn.dependencies(&row)?;
                Ok(needs.into_iter().map(|need| need.dependency.ticket).collect())
            }
            _ => Ok(Vec::new()),
        }
    }
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
