//! Work that started from the branch of a dependency which had not landed.
//!
//! It lands after that one. When the dependency landed as it was, the target has the commits that the branch stands on,
//! and nothing is special any more. When it landed as other commits (squashed, rebased, or changed since), only the
//! worker's own commits are brought to the target: built so at landing, where its branch and its approval stay as they
//! are, and begun so in its worktree where they conflict. Nothing is done to a branch while its agent works on it.

use std::collections::BTreeSet;

use super::outcome::{Outcome, Waiting, WaitingReason};
use super::{Landing, LandingError};
use crate::model::ticket::TicketState;
use crate::model::worker::Worker;
use crate::model::{CommitId, TicketId, WorkerId};

impl Landing<'_> {
    /// Where the dependency is on whose commits a worker's branch stands, and which the target has not as they are;
    /// `None` where it stands on none.
    fn open_dependency(
        &self,
        worker: &Worker,
        work: &CommitId,
    ) -> Result<Option<(TicketId, TicketState)>, LandingError> {
        let place = &worker.place;
        let Some(stacked) = &place.stacked_on else { return Ok(None) };
        let Some(target) = self.repository.branch_head(&place.target)? else { return Ok(None) };
        if self.repository.stack_base(place, &target, work)?.is_none() {
            return Ok(None);
        }
        let state = self.queue.ticket(&stacked.ticket)?.map_or(TicketState::Open, |known| known.state);
        Ok(Some((stacked.ticket.clone(), state)))
    }

    /// Why work has to wait for the dependency that it started from; those in `landed` count as landed.
    pub(super) fn waits_for_dependency(
        &self,
        worker: &Worker,
        work: &CommitId,
        landed: &BTreeSet<TicketId>,
    ) -> Result<Option<String>, LandingError> {
        let open = self.open_dependency(worker, work)?;
        let Some((ticket, state)) = open.filter(|(ticket, _)| !landed.contains(ticket)) else { return Ok(None) };
        let id = &worker.id;
        Ok(match state {
            TicketState::Landed | TicketState::Done => None,
            TicketState::Cancelled | TicketState::Dead => Some(format!(
                "it started from the branch of `{ticket}`, which is {state} and will not land; \
                 swarm resolve {id} takes those commits out of it"
            )),
            _ => Some(format!("it started from the branch of `{ticket}`, which is {state}, and lands after it")),
        })
    }

    /// Where a worker's own commits begin, when only those may be brought to `onto`: its branch stands on commits of a
    /// dependency that has ended, which `onto` has as others or not at all.
    pub(crate) fn own_commits(
        &self,
        worker: &Worker,
        onto: &CommitId,
        work: &CommitId,
    ) -> Result<Option<CommitId>, LandingError> {
        match self.open_dependency(worker, work)? {
            Some((_, state)) if state.is_ended() => Ok(self.repository.stack_base(&worker.place, onto, work)?),
            _ => Ok(None),
        }
    }

    /// The ticket that has to land before a worker's, when that is what `outcome` says it waits for.
    pub(super) fn waits_for_landing_of(
        &self,
        worker: &WorkerId,
        outcome: &Outcome,
    ) -> Result<Option<TicketId>, LandingError> {
        let Outcome::Waiting(Waiting { reason: WaitingReason::DependencyOpen, .. }) = outcome else { return Ok(None) };
        Ok(self.worker(worker)?.place.stacked_on.map(|stacked| stacked.ticket))
    }

    /// Whether one of `workers` works on a ticket.
    pub(super) fn is_among<'w>(
        &self,
        ticket: &TicketId,
        mut workers: impl Iterator<Item = &'w WorkerId>,
    ) -> Result<bool, LandingError> {
        workers.try_fold(false, |found, worker| Ok(found || self.worker(worker)?.ticket == *ticket))
    }
}
