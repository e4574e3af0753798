//! Acts on tickets that go round a ring.

use std::collections::BTreeSet;

use super::Control;
use super::act::Admission;
use crate::coordinator::failure::Failure;
use crate::model::ticket::TicketState;
use crate::model::worker::Worker;
use crate::model::{AgentName, TicketId, WorkerId, error_text};
use crate::store::read_result;
use crate::supervisor::Continue;

/// Where a ticket is whose work the next agent goes on with.
const FROM_REVIEW: Option<&[TicketState]> = Some(&[TicketState::Review]);

impl Control {
    /// Ends the agent of finished work, where it still waits for a person, and starts the next one of the ring in the same
    /// worktree. That uses up no attempt.
    pub(in crate::coordinator) fn hand_on(&self, worker: &WorkerId, agent: &AgentName) -> Result<(), Failure> {
        let worker = self.worker(worker.as_str())?;
        let agent = self.ready_agent(agent)?;
        // Were this node to go away now, another one would not know whose turn it is.
        let failed = match self.carry(std::slice::from_ref(&worker.id), &[]) {
            Ok(refused) => refused.into_iter().map(|(_, failure)| failure).next(),
            Err(failure) => Some(failure),
        };
        if let Some(failure) = failed {
            let error = failure.chain.join(": ");
            tracing::warn!(worker = worker.id.as_str(), error, "a finished turn could not be handed over");
        }
        self.stop_one(&worker, &format!("its token passed to `{}`", agent.name))?;
        let worker = self.worker(worker.id.as_str())?;
        let mut ticket = self.published_ticket(&worker)?;
        ticket.budget = self.budget_of(&ticket)?.ticket;
        let (prompt, returned_at, headless) = (None, None, worker.attempt.headless);
        let (in_session, counts_attempt, from) = (false, false, FROM_REVIEW);
        let again = Continue { worker, ticket, agent, prompt, in_session, counts_attempt, returned_at, headless, from };
        self.go_on(&again, Admission::Limited, None).map(drop)
    }

    /// What the agent that worked on a ticket last, under this fence, left at its end: here, or where it did so there, on
    /// another node.
    pub(in crate::coordinator) fn result_of(&self, ticket: &TicketId, fence: u64) -> Result<Option<String>, Failure> {
        let path = self.project.paths.result(&WorkerId::of(ticket, 1));
        let queue = self.project.queue()?;
        let Some(link) = queue.link().filter(|_| !path.exists()) else { return Ok(read_result(&path)?) };
        let result = link.result_of(ticket).unwrap_or_else(|error| {
            tracing::warn!(
                ticket = ticket.as_str(),
                error = error_text(&error),
                "what its agent left could not be read"
            );
            None
        });
        // It took a new fence to go on with it here.
        Ok(result.filter(|result| result.fence <= fence).map(|result| result.text()))
    }

    /// The workers whose finished work is only on its way to the next agent of a ring; none where nobody passes it on.
    pub(super) fn on_their_way(&self) -> Result<BTreeSet<WorkerId>, Failure> {
        let store = self.project.store()?;
        let tokens = store.tokens()?;
        if tokens.is_empty() || self.project.queue()?.leader(&self.role()?)?.is_none() {
            return Ok(BTreeSet::new());
        }
        let is_under_way = |worker: &Worker| {
            tokens.get(&worker.ticket).is_some_and(|token| !token.is_over(worker.attempt.fence, &worker.agent))
        };
        Ok(store.workers()?.into_iter().filter(is_under_way).map(|worker| worker.id).collect())
    }

    /// Whose turn it is on the ticket of a worker, as a fact; `None` where it goes round no ring.
    pub(super) fn token_fact(&self, ticket: &TicketId) -> Result<Option<String>, Failure> {
        let Some(token) = self.project.store()?.token(ticket)? else { return Ok(None) };
        let (of, turn) = (token.agents.len(), token.turn + 1);
        let skipped =
            token.skipped.iter().map(|skipped| format!("; `{}` was passed over: {}", skipped.agent, skipped.why));
        let skipped: String = skipped.collect();
        Ok(Some(match token.holder() {
            Some(holder) => format!("it goes round a ring, and `{holder}` has its token, {turn} of {of}{skipped}"),
            None => format!("it has gone round its ring{skipped}"),
        }))
    }
}
