//! What is decided about tickets that go round a ring: who is next, who takes its turn now, and who is passed over.

use super::{Candidate, Draft, Judged, person};
use crate::coordinator::run::pace;
use crate::coordinator::run::world::{Rules, Seen, World};
use crate::model::AgentName;
use crate::model::coordination::{Hold, HoldKind};
use crate::model::ticket::{Ticket, TicketState as S};
use crate::model::topology::{RingOrder, Token};
use crate::queue::QueueTicket;

/// Looks at a ticket whose token somebody has; `None` where the ring has nothing to say.
pub(super) fn judge<'a>(world: &World, entry: &'a QueueTicket, seen: Option<&'a Seen>) -> Option<Judged<'a>> {
    let token = world.tokens.get(&entry.ticket.id)?;
    let holder = token.holder()?;
    match entry.state {
        S::Review if token.has_begun(entry.fence) => (!token.is_over(entry.fence)).then_some(Judged::Pass(None)),
        S::Review => Some(hindered(world, entry, token, holder).unwrap_or_else(|| hand(entry, holder, seen))),
        S::Queued => hindered(world, entry, token, holder),
        _ => None,
    }
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

/// Why the holder of a token cannot begin now, and whether waiting is of no use.
fn hindrance(world: &World, entry: &QueueTicket, holder: &AgentName) -> Option<(String, bool)> {
    let Some(facts) = world.agents.get(holder) else { return Some((format!("there is no agent `{holder}`"), true)) };
    let setback = world.setbacks.get(&entry.ticket.id).filter(|setback| {
        setback.at == (entry.state, entry.fence) && setback.until.is_none_or(|until| world.now < until)
    });
    let paced = || pace::held(&facts.asks, &world.paces, world.now).map(|(why, _)| why);
    setback.map(|setback| setback.why.clone()).or_else(paced).map(|why| (why, false))
}

/// Who works on a queued ticket of a ring, and whether that is decided when it is its turn; `None` where no ring has it.
pub(super) fn agent_of(world: &World, rules: &Rules, ticket: &Ticket) -> Option<(AgentName, bool)> {
    if let Some(holder) = world.tokens.get(&ticket.id).and_then(Token::holder) {
        return Some((holder.clone(), false));
    }
    // Who names an agent means that one alone.
    let ring = rules.topology.ring().filter(|_| ticket.agent.is_none())?;
    Some((ring.agents.first()?.clone(), ring.order == RingOrder::Load))
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
        token.is_some_and(|token| !token.is_over(entry.fence))
    };
    let ticket = &candidate.entry.ticket;
    let needs = ticket.depends_on.iter().filter_map(|need| world.ticket(&need.ticket));
    let need = needs.into_iter().find(is_under_way).filter(|_| candidate.resumes.is_none())?;
    let why = format!("waits for `{}`, which goes round a ring", need.ticket.id);
    Some(Hold { ticket: ticket.id.clone(), kind: HoldKind::Dependency, why, until: None })
}
