//! The claim of a spawn: a ticket that is queued, or one whose node is gone.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::{Spawner, SupervisorError};
use crate::model::ticket::{Ticket, TicketState};
use crate::model::worker::Worker;
use crate::model::{RunId, TicketId, Time};
use crate::queue::{Claim, ClaimRequest, NewTicket, QueueTicket, Renewed, Reopen};
use crate::supervisor::ledger::lease_of;

/// A lease of another node that is over, as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeenLease {
    /// Its fence.
    pub(crate) fence: u64,
    /// When it was to end.
    pub(crate) until: Option<Time>,
}

/// Renews a claim until it is dropped, and nobody waits for that.
#[derive(Debug)]
pub(super) struct Renewing {
    /// Closed when it ends.
    _ends: mpsc::Sender<()>,
}

impl Spawner {
    /// Takes a ticket whose holder is gone, if it is still under the lease that was seen: a holder that has renewed it since
    /// is not gone.
    pub(super) fn take_over(&self, ticket: &TicketId, seen: SeenLease) -> Result<Claim, SupervisorError> {
        let SeenLease { fence, until } = seen;
        self.queue.refresh()?;
        let known = self.queue.ticket(ticket)?;
        if let Some(known) = known.filter(|known| known.state == TicketState::Running && known.lease_until != until) {
            return Err(SupervisorError::NotClaimable { ticket: ticket.clone(), state: known.state });
        }
        self.queue.declare_lost(ticket, fence)?;
        Ok(self.queue.reopen(&Reopen {
            ticket: ticket.clone(),
            expected_fence: fence,
            node: self.queue.node().to_owned(),
            lease: self.lease(),
            counts_attempt: false,
            from: Some(&[TicketState::Lost, TicketState::Review, TicketState::Approved]),
        })?)
    }

    /// Claims the ticket; with `publishes` it is published before, unless it is queued as it is.
    pub(super) fn claim(&self, ticket: &Ticket, publishes: bool) -> Result<Claim, SupervisorError> {
        let known = self.queue.ticket(&ticket.id)?;
        if let Some(known) = &known
            && matches!(known.state, TicketState::Running | TicketState::Lost)
            && known.node.as_deref() == Some(self.queue.node())
        {
            // Whoever claims here holds the spawn lock until the worker's row is written, and there is neither.
            self.queue.release(&ticket.id, known.fence)?;
        }
        let is_queued = |known: &QueueTicket| {
            known.ticket == *ticket
                && matches!(
                    known.state,
                    TicketState::Running | TicketState::Lost | TicketState::Queued | TicketState::Blocked
                )
        };
        if publishes && !known.as_ref().is_some_and(is_queued) {
            let dedupe_key = publication_key(&ticket.id, &self.run);
            self.queue.publish(&NewTicket { ticket: ticket.clone(), dedupe_key })?;
        }
        let request = ClaimRequest {
            node: self.queue.node().to_owned(),
            capabilities: ticket.capabilities.clone(),
            limit: 1,
            only: Some(vec![ticket.id.clone()]),
            lease: self.lease(),
            request_id: None,
        };
        match self.queue.claim(&request)?.pop() {
            Some(claim) if !is_same_work(&claim.ticket, ticket) => {
                self.queue.release(&ticket.id, claim.fence)?;
                Err(SupervisorError::Republished { ticket: ticket.id.clone() })
            }
            Some(claim) => Ok(claim),
            None => {
                let state = self.queue.ticket(&ticket.id)?.map_or(TicketState::Open, |known| known.state);
                Err(SupervisorError::NotClaimable { ticket: ticket.id.clone(), state })
            }
        }
    }

    /// How long a claim lasts unless renewed.
    pub(super) fn lease(&self) -> Duration {
        lease_of(&*self.queue)
    }

    /// Renews the claim of a worker while it is being made, where other nodes take one for gone that says nothing for as
    /// long as a lease lasts.
    pub(super) fn keep_claim(&self, worker: &Worker) -> Option<Renewing> {
        self.queue.server()?;
        let (ends, ended) = mpsc::channel();
        let (queue, ticket, fence, lease) =
            (self.queue.clone(), worker.ticket.clone(), worker.attempt.fence, self.lease());
        std::thread::spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(lease / 4) {
                if let Ok(Renewed::Lost) = queue.renew(&ticket, fence, lease) {
                    return;
                }
            }
        });
        Some(Renewing { _ends: ends })
    }
}

/// Whether two tickets are the same but for the budget, which a person may raise without changing the work.
fn is_same_work(one: &Ticket, other: &Ticket) -> bool {
    *one == Ticket { budget: one.budget, ..other.clone() }
}

/// Names the publication of a ticket by one command.
pub(super) fn publication_key(ticket: &TicketId, run: &RunId) -> String {
    format!("{ticket}/{}", run.as_str())
}
