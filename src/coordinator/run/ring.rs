//! Tickets that go round a ring. Whose turn it is is a token in the store: it is passed in one transaction, and only then is
//! the next agent started. By the fence of the ticket everybody can tell whether the holder of a token has begun, so a
//! coordinator that is killed between the two neither skips an agent nor starts one twice.

use std::time::Duration;

use super::jobs::Job;
use super::world::{Setback, World};
use super::{Engine, News};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::model::coordination::HoldKind;
use crate::model::event::{SwarmEvent, SwarmRecord};
use crate::model::ticket::TicketState as S;
use crate::model::topology::Token;
use crate::model::{AgentName, TicketId, Time, WorkerId};
use crate::queue::QueueTicket;

/// How soon it is tried again to start an agent that has a token; later and later up to the longest.
const TAKE_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// The longest of these times.
const TAKE_AGAIN_WITHIN: Duration = Duration::from_secs(60);

impl Engine<'_> {
    /// Who goes on with a ticket: where it goes round a ring, whose turn it was on the node that had it last, or with which
    /// it enters that ring now if it `begins`.
    pub(super) fn whose_turn(
        &mut self,
        ticket: &TicketId,
        agent: AgentName,
        begins: bool,
    ) -> Result<AgentName, Failure> {
        let fence = self.known_at(ticket).map_or(0, |(_, fence)| fence);
        if let Some(goes_on) = self.control.take_token(ticket, fence)? {
            return Ok(goes_on);
        }
        if begins {
            self.enter_ring(ticket, &agent)?;
        }
        Ok(agent)
    }

    /// Gives a ticket that is about to begin its token, where it goes round a ring.
    fn enter_ring(&mut self, ticket: &TicketId, first: &AgentName) -> Result<(), Failure> {
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
        let worker = WorkerId::of(ticket, 1);
        let works = store.worker(&worker)?.map(|worker| worker.agent);
        let has_begun = works.is_some_and(|agent| token.has_begun(entry.fence, &agent));
        // A person may have decided about it since it was looked at.
        let is_due = match &skipped {
            Some(_) => matches!(entry.state, S::Review | S::Queued) && !has_begun,
            None => entry.state == S::Review && has_begun,
        };
        if !is_due {
            return Ok(());
        }
        let next = match &skipped {
            Some(why) => token.skipped(why.clone()),
            None => token.passed(entry.fence, self.control.result_of(ticket, entry.fence)?),
        };
        if !store.pass_token(ticket, Some(&token), &next)? {
            return Ok(());
        }
        self.setbacks.remove(ticket);
        if next.holder().is_none() && entry.state == S::Review {
            self.jobs.begin(Job::Ask { worker });
        }
        self.tell_token(ticket, &token, &next, skipped)
    }

    /// Says to whom a token passed, and writes it down.
    fn tell_token(
        &mut self,
        ticket: &TicketId,
        before: &Token,
        now: &Token,
        skipped: Option<String>,
    ) -> Result<(), Failure> {
        let (from, to) = (before.holder().cloned(), now.holder().cloned());
        let name = |agent: &Option<AgentName>| agent.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string);
        let (one, other) = (name(&from), name(&to));
        self.face.tell(&News::Said(&match &skipped {
            None => format!("`{ticket}` passes from {one} to {other}"),
            Some(why) if to.is_some() => format!("`{ticket}` passes over {one} to {other}: {why}"),
            Some(why) => format!("`{ticket}` has ended its round without {one}: {why}"),
        }));
        let event = SwarmEvent::TokenPassed { from, to, turn: now.turn + 1, of: now.agents.len(), skipped };
        self.note(SwarmRecord::now(&self.record.id, event).about(ticket))
    }

    /// Notes that the reviewers of finished work could not be asked.
    pub(super) fn not_asked(&mut self, worker: &WorkerId, failure: &Failure) {
        let Ok(Some(worker)) = self.control.project().store().and_then(|store| Ok(store.worker(worker)?)) else {
            return;
        };
        let Some(at) = self.known_at(&worker.ticket) else { return };
        let why =
            format!("its reviewers could not be asked: {}; swarm review {} --ask", failure.chain.join(": "), worker.id);
        self.broke_off(worker.ticket, at, failure, why);
    }

    /// Notes that the holder of a token could not be started. That there was no room is nobody's fault.
    pub(super) fn token_not_taken(&mut self, ticket: TicketId, failure: &Failure) {
        let now = self.control.project().queue().and_then(|queue| Ok(queue.ticket(&ticket)?));
        // What a person has to mend, such as trust, is nothing that another agent would not meet.
        let is_its_own = !matches!(failure.kind, FailureKind::NeedsPerson | FailureKind::Limit);
        let is_first = |entry: &QueueTicket| is_its_own && entry.state == S::Queued && self.has_yet_to_begin(entry);
        let waits_for_holder = |entry: &QueueTicket| entry.state == S::Review || is_first(entry);
        let Some(entry) = now.ok().flatten().filter(waits_for_holder) else {
            return self.not_started(ticket, failure);
        };
        let at = (entry.state, entry.fence);
        let why = format!("could not be started: {}", failure.chain.join(": "));
        if failure.kind == FailureKind::Limit {
            let until = Some(Time::now().after(TAKE_AGAIN_AFTER));
            self.setbacks.insert(ticket, Setback { kind: HoldKind::Place, why, until, at, count: 0 });
            return;
        }
        let count = self.setbacks.get(&ticket).map_or(0, |setback| setback.count) + 1;
        let until = Some(Time::now().after(TAKE_AGAIN_AFTER.saturating_mul(count * count).min(TAKE_AGAIN_WITHIN)));
        self.setbacks.insert(ticket, Setback { kind: HoldKind::Time, why, until, at, count });
    }

    /// Whether a ticket has a token, and nobody has had a turn yet.
    fn has_yet_to_begin(&self, entry: &QueueTicket) -> bool {
        let id = &entry.ticket.id;
        let known = self.control.project().store().and_then(|store| {
            let works = store.worker(&WorkerId::of(id, 1))?.map(|worker| worker.agent);
            let has_holder = |token: &Token| token.holder().is_some();
            let has_begun = |token: &Token| works.as_ref().is_some_and(|agent| token.has_begun(entry.fence, agent));
            Ok(store.token(id)?.is_some_and(|token| has_holder(&token) && !has_begun(&token)))
        });
        known.unwrap_or(false)
    }

    /// Forgets the tokens of tickets that have come to a good end or were given up, and ends the rounds of those that
    /// somebody approved. One that is dead may be tried again.
    pub(super) fn forget_tokens(&mut self, world: &World) -> Result<(), Failure> {
        for (id, token) in world.tokens.iter().filter(|(_, token)| token.holder().is_some()) {
            let is_approved = |entry: &QueueTicket| matches!(entry.state, S::Approved | S::Landing);
            if let Some(seen) = world.worker_of(id).filter(|_| world.ticket(id).is_some_and(is_approved)) {
                self.control.project().store()?.pass_token(id, Some(token), &token.ended(&seen.worker.agent))?;
            }
        }
        let is_over = |id: &TicketId| {
            world.ticket(id).is_none_or(|entry| matches!(entry.state, S::Landed | S::Done | S::Cancelled))
        };
        for id in world.tokens.keys().filter(|id| is_over(id)) {
            self.control.project().store()?.forget_token(id)?;
        }
        Ok(())
    }
}
