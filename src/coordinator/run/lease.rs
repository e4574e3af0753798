//! The coordinator's lease: who leads acts, everybody else stands by. Whoever lost it without noticing (it was stopped, or
//! the machine slept) notices before its next act, because each act renews it first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::coordination::COORDINATOR;
use crate::queue::{Lead, LeadRequest, Leader, Queue, QueueError, Renewed};

/// How long the lease lasts unless renewed: a leader that was killed is missed after that.
pub(crate) const LEASE: Duration = Duration::from_secs(4);
/// How often it is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// A renewal that is younger than this still counts when something is to be done.
const IS_FRESH: Duration = Duration::from_millis(200);

/// The lease of one process.
pub(super) struct Lease {
    queue: Arc<dyn Queue>,
    /// This process, for people.
    holder: String,
    /// What it holds.
    held: Option<Leader>,
    /// When that was last heard, by a clock that nobody sets.
    renewed_at: Instant,
}

/// Where a process stands in the role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Leading {
    /// It has led before.
    Leads,
    /// It leads from now on.
    Began(Leader),
    /// It led, and somebody took the role meanwhile.
    Lost(Leader),
    /// Somebody else leads.
    StandsBy(Leader),
}

impl Lease {
    /// No lease yet.
    pub(super) fn new(queue: Arc<dyn Queue>, holder: String) -> Self {
        Self { queue, holder, held: None, renewed_at: Instant::now() }
    }

    /// Takes, keeps or notices the loss of the lease.
    pub(super) fn keep(&mut self) -> Result<Leading, QueueError> {
        self.keep_for(RENEW_EVERY)
    }

    /// The same right before an act, for which what was heard a second ago is too old.
    pub(super) fn confirm(&mut self) -> Result<Leading, QueueError> {
        self.keep_for(IS_FRESH)
    }

    /// The same with a renewal that may be `old` at most.
    fn keep_for(&mut self, old: Duration) -> Result<Leading, QueueError> {
        if let Some(held) = &self.held {
            if self.renewed_at.elapsed() < old {
                return Ok(Leading::Leads);
            }
            let asked_at = Instant::now();
            return match self.queue.renew_lead(COORDINATOR, held.fence, LEASE)? {
                Renewed::Held { .. } => {
                    self.renewed_at = asked_at;
                    Ok(Leading::Leads)
                }
                Renewed::Lost => {
                    let lost = held.clone();
                    self.held = None;
                    Ok(Leading::Lost(lost))
                }
            };
        }
        let role = COORDINATOR.to_owned();
        let request = LeadRequest { role, holder: self.holder.clone(), lease: LEASE };
        let asked_at = Instant::now();
        match self.queue.leader_lease(&request)? {
            Lead::Taken(leader) => {
                self.renewed_at = asked_at;
                self.held = Some(leader.clone());
                Ok(Leading::Began(leader))
            }
            Lead::Held(leader) => Ok(Leading::StandsBy(leader)),
        }
    }

    /// Gives the role up; what was held.
    pub(super) fn release(&mut self) -> Result<Option<Leader>, QueueError> {
        let Some(held) = self.held.take() else { return Ok(None) };
        self.queue.release_lead(COORDINATOR, held.fence)?;
        Ok(Some(held))
    }
}
