//! What is decided about tickets that go round a ring: who is next, who takes its turn now, and who is passed over.

use super::{Candidate, Draft, Judged, person, set_back};
use crate::coordinator::run::world::{Rules, Seen, Setback, World};
use crate::model::AgentName;
use crate::model::coordination::{Hold, HoldKind};
use crate::model::ticket::{Ticket, TicketState as S};
use crate::model::topology::{RingOrder, Token};
use crate::queue::QueueTicket;

/// Looks at a ticket whose token somebody has; `None` where the ring has nothing to say.
pub(super) fn judge<'a>(world: &World, entry: &'a QueueTicket, seen: Option<&'a Seen>) -> Option<Judged<'a>> {
    let token = world.tokens.get(&entry.ticket.id)?;
    let Some(holder) = token.holder() else {
        return (entry.state == S::Queued && token.last().is_none()).then(|| nobody(entry, token));
    };
    let works = seen.map(|seen| &seen.worker.agent);
    let has_begun = works.is_some_and(|agent| token.has_begun(entry.fence, agent));
    match entry.state {
        S::Review if has_begun => {
            let is_over = works.is_some_and(|agent| token.is_over(entry.fence, agent));
            (!is_over).then_some(Judged::Pass(None))
        }
        S::Review => {
            let waits = hindered(world, entry, token, holder).or_else(|| set_back(world, entry));
            Some(waits.unwrap_or_else(|| hand(entry, holder, seen)))
        }
        // One that has begun is tried again as any other agent is.
        S::Queued if !has_begun => hindered(world, entry, token, holder),
        _ => None,
    }
}

/// Every agent of a ring was passed over before one had worked.
fn nobody<'a>(entry: &QueueTicket, token: &Token) -> Judged<'a> {
    let each = token.skipped.iter().map(|skipped| format!("`{}` {}", skipped.agent, skipped.why));
    let each = each.collect::<Vec<_>>().join("; ");
    let id = &entry.ticket.id;
    person(id, format!("found no agent of its ring that could begin ({each}): swarm queue cancel {id}, then retry it"))
}

/// The holder of a token takes its turn on work that is there.
fn hand<'a>(entry: &'a QueueTicket, holder: &AgentName, seen: Option<&'a Seen>) -> Judged<'a> {
    let Some(seen) = seen else {
        let why = "goes round a ring and has no worker any more: swarm recover list".to_owned();
        return person(&entry.ticket.id, why);
    };
    Judged::Candidate(Candidate {
        entry,
        agent: holder.clone(),
        is_distributed: false,
        resumes: None,
        takes_over: None,
        hands: Some(&seen.worker.id),
    })
}

/// What becomes of a token whose holder cannot begin: a while it is waited for.
fn hindered<'a>(world: &World, entry: &QueueTicket, token: &Token, holder: &AgentName) -> Option<Judged<'a>> {
    let id = &entry.ticket.id;
    let (why, due) = match hindrance(world, entry, holder)? {
        (why, true) => (why, world.now),
        (why, false) => (why, token.due()),
    };
    if world.now < due {
        let why = format!("waits for `{holder}` to take its token: {why}");
        return Some(Judged::Passing(Hold { ticket: id.clone(), kind: HoldKind::Time, why, until: Some(due) }));
    }
    if token.skips {
        return Some(Judged::Pass(Some(why)));
    }
    let within = token.timeout().as_millis();
    let why = format!("waits for somebody to mend `{holder}`, which has not taken its token within {within} ms: {why}");
    Some(person(id, why))
}

/// Why the holder of a token cannot begin now, and whether waiting is of no use. Patience that its model asks for and places
/// that are taken end by themselves; whatever else failed was tried more than once.
fn hindrance(world: &World, entry: &QueueTicket, holder: &AgentName) -> Option<(String, bool)> {
    if !world.agents.contains_key(holder) {
        return Some((format!("there is no agent `{holder}`"), true));
    }
    let setback = world.setbacks.get(&entry.ticket.id).filter(|setback| {
        setback.at == (entry.state, entry.fence) && setback.until.is_none_or(|until| world.now < until)
    });
    let is_told =
        |setback: &&Setback| setback.kind != HoldKind::Place && (setback.count > 1 || setback.until.is_none());
    setback.filter(is_told).map(|setback| (setback.why.clone(), false))
}

/// Who works on a queued ticket of a ring, and whether that is decided when it is its turn; `None` where no ring has it.
pub(super) fn agent_of(world: &World, rules: &Rules, ticket: &Ticket) -> Option<(AgentName, bool)> {
    if let Some(agent) = world.tokens.get(&ticket.id).and_then(|token| token.holder().or(token.last())) {
        return Some((agent.clone(), false));
    }
    // Who names an agent means that one alone.
    let ring = rules.topology.ring().filter(|_| ticket.agent.is_none())?;
    Some((ring.agents.first()?.clone(), ring.order == RingOrder::Load))
}

/// The agents that a ticket goes round, or would; `None` where no ring has it.
pub(super) fn agents_of<'a>(world: &'a World, rules: &'a Rules, ticket: &Ticket) -> Option<&'a [AgentName]> {
    let token = world.tokens.get(&ticket.id).filter(|token| token.holder().or(token.last()).is_some());
    let ring = rules.topology.ring().filter(|_| ticket.agent.is_none());
    token.map(|token| token.agents.as_slice()).or(ring.map(|ring| ring.agents.as_slice()))
}

/// The agent of a ring with the fewest workers, the first of several.
pub(super) fn least_loaded(draft: &Draft<'_>) -> Option<AgentName> {
    let count = |agent: &&AgentName| draft.placed.values().filter(|other| other == agent).count();
    draft.rules.topology.ring()?.agents.iter().min_by_key(count).cloned()
}

/// What it needs is only in review between two agents of a ring.
pub(super) fn round(draft: &Draft<'_>, candidate: &Candidate<'_>) -> Option<Hold> {
    let world = draft.world;
    let is_under_way = |entry: &&QueueTicket| {
        let token = world.tokens.get(&entry.ticket.id).filter(|_| entry.state == S::Review);
        let works = world.worker_of(&entry.ticket.id).map(|seen| &seen.worker.agent);
        token.zip(works).is_some_and(|(token, agent)| !token.is_over(entry.fence, agent))
    };
    let ticket = &candidate.entry.ticket;
    let needs = ticket.depends_on.iter().filter_map(|need| world.ticket(&need.ticket));
    let need = needs.into_iter().find(is_under_way).filter(|_| candidate.resumes.is_none())?;
    let why = format!("waits for `{}`, which goes round a ring", need.ticket.id);
    Some(Hold { ticket: ticket.id.clone(), kind: HoldKind::Dependency, why, until: None })
}
