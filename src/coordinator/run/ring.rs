//! Tickets that go round a ring. Whose turn it is is a token in the store: it is passed in one transaction, and only then is
//! the next agent started. By the fence of the ticket everybody can tell whether the holder of a token has begun, so a
//! coordinator that is killed between the two neither skips an agent nor starts one twice.

use std::time::Duration;

use super::jobs::Job;
use super::world::{Setback, World};
use super::{Engine, News};
use crate::coordinator::failure::Failure;
use crate::model::coordination::HoldKind;
use crate::model::event::{SwarmEvent, SwarmRecord};
use crate::model::ticket::TicketState as S;
use crate::model::topology::Token;
use crate::model::{AgentName, TicketId, Time, WorkerId};

/// How soon it is tried again to start an agent that has a token; later and later up to the longest.
const TAKE_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// The longest of these times.
const TAKE_AGAIN_WITHIN: Duration = Duration::from_secs(60);

impl Engine<'_> {
    /// Gives a ticket that is about to begin its token, where it goes round a ring.
    pub(super) fn enter_ring(&mut self, ticket: &TicketId, first: &AgentName) -> Result<(), Failure> {
        let project = self.control.project();
        let Some(ring) = self.rules.topology.ring() else { return Ok(()) };
        let Some(entry) = project.queue()?.ticket(ticket)?.filter(|entry| entry.ticket.agent.is_none()) else {
            return Ok(());
        };
        let token = Token::begin(ring, first, entry.fence);
        if project.store()?.pass_token(ticket, None, &token)? {
            let (to, turn, of) = (token.holder().cloned(), 1, token.agents.len());
            let event = SwarmEvent::TokenPassed { from: None, to, turn, of, skipped: None };
            self.note(SwarmRecord::now(&self.record.id, event).about(ticket))?;
        }
        Ok(())
    }

    /// Passes the token of a ticket on: after its holder's turn, or over a holder that cannot begin.
    pub(super) fn pass_token(&mut self, ticket: &TicketId, skipped: Option<String>) -> Result<(), Failure> {
        let project = self.control.project();
        let store = project.store()?;
        let (Some(token), Some(entry)) = (store.token(ticket)?, project.queue()?.ticket(ticket)?) else {
            return Ok(());
        };
        // A person may have decided about it since it was looked at.
        let is_finished = entry.state == S::Review && token.has_begun(entry.fence);
        let waits = matches!(entry.state, S::Review | S::Queued);
        if if skipped.is_some() { !waits } else { !is_finished } {
            return Ok(());
        }
        let worker = WorkerId::of(ticket, 1);
        let next = match &skipped {
            Some(why) => token.skipped(why.clone()),
            None => token.passed(entry.fence, self.control.result_of(&worker)?),
        };
        if !store.pass_token(ticket, Some(&token), &next)? {
            return Ok(());
        }
        self.setbacks.remove(ticket);
        let (from, to) = (token.holder().cloned(), next.holder().cloned());
        let (turn, of) = (next.turn + 1, next.agents.len());
        let text = match (&from, &to, &skipped) {
            (Some(from), Some(to), None) => format!("`{ticket}` passes from {from} to {to}"),
            (Some(from), Some(to), Some(why)) => format!("`{ticket}` passes over {from} to {to}: {why}"),
            (from, _, _) => {
                let why = skipped.clone().unwrap_or_default();
                format!("`{ticket}` has ended its round without {}: {why}", from.as_ref().map_or("", AgentName::as_str))
            }
        };
        self.face.tell(&News::Said(&text));
        if to.is_none() && entry.state == S::Review {
            self.jobs.begin(Job::Ask { worker });
        }
        let event = SwarmEvent::TokenPassed { from, to, turn, of, skipped };
        self.note(SwarmRecord::now(&self.record.id, event).about(ticket))
    }

    /// Notes that the holder of a token could not be started.
    pub(super) fn token_not_taken(&mut self, ticket: TicketId, failure: &Failure) {
        let now = self.control.project().queue().and_then(|queue| Ok(queue.ticket(&ticket)?));
        let Some(entry) = now.ok().flatten().filter(|entry| entry.state == S::Review) else {
            return self.not_started(ticket, failure);
        };
        let at = (entry.state, entry.fence);
        let count = self.setbacks.get(&ticket).map_or(0, |setback| setback.count) + 1;
        let why = format!("could not be started: {}", failure.chain.join(": "));
        let until = Some(Time::now().after(TAKE_AGAIN_AFTER.saturating_mul(count * count).min(TAKE_AGAIN_WITHIN)));
        self.setbacks.insert(ticket, Setback { kind: HoldKind::Time, why, until, at, count });
    }

    /// Forgets the tokens of tickets that have come to a good end or were given up. One that is dead may be tried again.
    pub(super) fn forget_tokens(&mut self, world: &World) -> Result<(), Failure> {
        let is_over = |id: &TicketId| {
            world.ticket(id).is_none_or(|entry| matches!(entry.state, S::Landed | S::Done | S::Cancelled))
        };
        for id in world.tokens.keys().filter(|id| is_over(id)) {
            self.control.project().store()?.forget_token(id)?;
        }
        Ok(())
    }
}
