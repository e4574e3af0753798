//! Which candidates get a place now: the rules that each has to pass, and who gets the places that there are.

use std::collections::BTreeMap;

use super::{Candidate, Decision, Draft, Judged, Step, capability, care_of, ring, suits, topology};
use crate::coordinator::run::crash_loop::{self, Again};
use crate::coordinator::run::distribution::{Load, NoOne};
use crate::coordinator::run::scope::scope_hold;
use crate::coordinator::run::spend::budget;
use crate::coordinator::run::world::Peer;
use crate::coordinator::run::{distribution, pace};
use crate::model::coordination::{Hold, HoldKind};
use crate::model::ticket::TicketState;
use crate::model::{AgentName, TicketId, Time};

/// Says why a candidate is not worked on now; `None` where the rule has nothing against it.
type Veto = fn(&Draft<'_>, &Candidate<'_>) -> Option<Hold>;

/// The rules that a candidate has to pass, in order, before it needs a place. The first that says no gives the reason; the
/// more a reason tells, the earlier its rule.
const VETOES: &[Veto] = &[
    draining,
    topology::stacked,
    paced,
    budget,
    crash_pause,
    ring::round,
    scope,
    topology::assigned,
    topology::left,
    topology::subordinate,
    limits,
];
/// Those that work has to pass which is finished.
const VETOES_OF_FINISHED: &[Veto] = &[draining, topology::stacked];
/// Those that hold a ticket at whatever node would take it: budgets, patience and limits are each node's own.
const VETOES_OF_ALL: &[Veto] = &[ring::round, scope];

/// Gives candidates their places: lost workers first, which hold work already, then the others in claim order.
pub(super) fn take_candidates<'a>(
    draft: &mut Draft<'a>,
    judged: &mut BTreeMap<&'a TicketId, Judged<'a>>,
    decision: &mut Decision,
) {
    for resumes in [true, false] {
        for entry in &draft.world.tickets {
            let id = &entry.ticket.id;
            let Some(Judged::Candidate(candidate)) = judged.get_mut(id) else { continue };
            if candidate.resumes.is_some() != resumes {
                continue;
            }
            let is_finished = candidate.is_finished();
            let for_another = if is_finished { None } else { unable(draft, candidate) };
            let is_ours = !is_finished && for_another.is_none();
            let nobody = for_another.or_else(|| is_ours.then(|| distribute(draft, candidate)).flatten());
            if !draft.world.is_chosen(id) {
                decision.waiting_elsewhere += usize::from(waits_elsewhere(draft, candidate));
                continue;
            }
            let vetoes = if is_finished { VETOES_OF_FINISHED } else { VETOES };
            let vetoed = nobody.or_else(|| vetoes.iter().find_map(|veto| veto(draft, candidate)));
            let full = (vetoed.is_none() && !is_finished).then(|| no_room(draft, candidate)).flatten();
            decision.waiting += usize::from(full.is_some());
            decision.waiting_elsewhere += usize::from(vetoed.is_some() && waits_elsewhere(draft, candidate));
            if let Some(hold) = vetoed.or(full) {
                let held = if hold.kind.passes() { Judged::Passing(hold) } else { Judged::Held(hold) };
                judged.insert(id, held);
                continue;
            }
            if !is_finished {
                draft.placed.insert(id.clone(), candidate.agent.clone());
            }
            if candidate.resumes.is_none() && !is_finished {
                draft.last = Some(candidate.agent.clone());
            }
            let (ticket, agent) = (id.clone(), candidate.agent.clone());
            decision.steps.push(match (candidate.hands, candidate.resumes, candidate.takes_over) {
                (Some(worker), ..) => Step::Hand { ticket, worker: worker.clone(), agent },
                (None, Some(worker), _) => Step::Resume { ticket, worker: worker.clone() },
                (None, None, Some(lease)) => Step::TakeOver { ticket, agent, lease },
                (None, None, None) => Step::Start { ticket, agent },
            });
        }
    }
}

/// There is no place for it: at no node, or not here.
fn no_room(draft: &Draft<'_>, candidate: &Candidate<'_>) -> Option<Hold> {
    topology::room(draft, candidate).or_else(|| places(draft, candidate))
}

/// Whether a ticket that this node does not take would be worked on if there were a place at another one: those that could
/// take it have none, and nothing else is in its way. Where one of them has a place, it is about to take it, or has a reason
/// of its own not to.
fn waits_elsewhere(draft: &Draft<'_>, candidate: &Candidate<'_>) -> bool {
    let (world, ticket) = (draft.world, &candidate.entry.ticket);
    let is_here = candidate.resumes.is_some() || candidate.hands.is_some();
    if is_here || candidate.is_finished() || world.nodes.peers.is_empty() {
        return false;
    }
    let given = topology::given(draft, candidate).map(String::as_str);
    let start = world.begins_behind(ticket).and_then(|need| world.node_of(need));
    let is_meant = |node: &str| [given, start].into_iter().flatten().all(|only| only == node);
    let can_take = |node: &str, peer: &Peer| {
        !peer.is_gone
            && peer.takes(&ticket.id)
            && is_meant(node)
            && suits(world, draft.rules, ticket, &peer.capabilities)
    };
    let mut takers = world.nodes.peers.iter().filter(|(node, peer)| can_take(node, peer)).peekable();
    takers.peek().is_some()
        && takers.all(|(_, peer)| peer.running >= peer.limit)
        && VETOES_OF_ALL.iter().all(|veto| veto(draft, candidate).is_none())
}

/// It asks for something that this node does not offer, and another one does. What this node has in hand is not left to others.
fn unable(draft: &Draft<'_>, candidate: &Candidate<'_>) -> Option<Hold> {
    let (world, rules, ticket) = (draft.world, draft.rules, &candidate.entry.ticket);
    let is_free = candidate.entry.state == TicketState::Queued || candidate.takes_over.is_some();
    capability::lacking(world, rules, ticket).filter(|_| is_free)?;
    capability::for_another_node(world, rules, ticket)
}

/// This node takes nothing new. Work that it has begun goes on.
fn draining(draft: &Draft<'_>, candidate: &Candidate<'_>) -> Option<Hold> {
    let is_held = draft.world.nodes.is_draining && candidate.resumes.is_none() && candidate.hands.is_none();
    is_held.then(|| no_place(candidate, "waits for another node: this one takes nothing new".to_owned()))
}

/// As many workers run as may.
fn places(draft: &Draft<'_>, candidate: &Candidate<'_>) -> Option<Hold> {
    let most = draft.rules.topology.max_workers().unwrap_or(usize::MAX);
    let everywhere = draft.placed.len() + draft.world.elsewhere();
    if everywhere >= most {
        return Some(no_place(candidate, format!("waits for a place: {everywhere} of {most} workers run")));
    }
    let (count, limit) = (draft.placed.len(), draft.rules.limit());
    let by = draft.rules.scaled.as_ref().map(|scaled| format!(" (set by {}: swarm scale)", scaled.by));
    let why = || format!("waits for a place: {count} of {limit} workers run{}", by.unwrap_or_default());
    (count >= limit).then(|| no_place(candidate, why()))
}

/// Decides who gets a candidate that names nobody; the hold where that is no one.
fn distribute(draft: &Draft<'_>, candidate: &mut Candidate<'_>) -> Option<Hold> {
    if !candidate.is_distributed {
        return None;
    }
    if let Some(agent) = ring::least_loaded(draft) {
        candidate.agent = agent;
        return None;
    }
    let (rules, world) = (draft.rules, draft.world);
    let pool: Vec<_> = rules.run.agents.iter().map(|agent| draft.in_pool(agent)).collect();
    let (load, last, history) = (draft.load(), draft.last.as_ref(), &world.past.history);
    let choice = distribution::Choice { settings: &rules.run, pool: &pool, load: &load, last, history };
    match distribution::choose(&candidate.entry.ticket, &choice) {
        Ok(chosen) => {
            candidate.agent = chosen.agent.clone();
            None
        }
        Err(NoOne::Full(full)) => Some(no_place(candidate, format!("waits for a place: {full}"))),
        Err(unable) => {
            let (ticket, kind) = (candidate.entry.ticket.id.clone(), HoldKind::Person);
            Some(Hold { ticket, kind, why: unable.to_string(), until: None })
        }
    }
}

impl Draft<'_> {
    /// An agent with what distribution looks at.
    fn in_pool(&self, agent: &AgentName) -> distribution::Candidate {
        let facts = self.world.agents.get(agent).cloned().unwrap_or_default();
        let capabilities = facts.capabilities.into_iter().chain(self.rules.offers.iter().cloned()).collect();
        distribution::Candidate { agent: agent.clone(), model: facts.model, capabilities }
    }

    /// The model of an agent.
    fn model_of(&self, agent: &AgentName) -> Option<&str> {
        self.world.agents.get(agent)?.model.as_deref()
    }

    /// How many workers run with what.
    fn load(&self) -> Load {
        let mut load = Load::default();
        self.placed.values().for_each(|agent| load.add(agent, self.model_of(agent)));
        load
    }
}

/// Nothing runs that may touch the same files, here or elsewhere, where that is not allowed. A worker that goes on has its
/// place already.
fn scope(draft: &Draft<'_>, candidate: &Candidate<'_>) -> Option<Hold> {
    if draft.rules.run.allow_scope_overlap || candidate.resumes.is_some() {
        return None;
    }
    let world = draft.world;
    let here = draft.placed.keys().filter_map(|id| world.ticket(id));
    let running = here.chain(world.worked_on_elsewhere()).map(|entry| &entry.ticket);
    Some(no_place(candidate, scope_hold(&candidate.entry.ticket, running)?.to_string()))
}

/// As many workers run with its agent, and with that one's model, as may.
fn limits(draft: &Draft<'_>, candidate: &Candidate<'_>) -> Option<Hold> {
    let model = draft.model_of(&candidate.agent);
    let full = distribution::full(&draft.rules.run, &draft.load(), &candidate.agent, model)?;
    Some(no_place(candidate, format!("waits for a place: {full}")))
}

/// Its model wants to be left alone. Work that was begun goes on: its agent waits by itself.
fn paced(draft: &Draft<'_>, candidate: &Candidate<'_>) -> Option<Hold> {
    let facts = draft.world.agents.get(&candidate.agent).filter(|_| candidate.resumes.is_none())?;
    let (why, until) = pace::held(&facts.asks, &draft.world.paces, draft.world.now)?;
    Some(in_time(candidate, format!("waits: {why}"), until))
}

/// Its worker ended badly a moment ago.
fn crash_pause(draft: &Draft<'_>, candidate: &Candidate<'_>) -> Option<Hold> {
    let seen = draft.world.worker_of(&candidate.entry.ticket.id).filter(|_| candidate.resumes.is_some())?;
    match crash_loop::judge(&care_of(draft.world, seen), draft.rules.health.crash_loop, draft.world.now) {
        Again::At(due) => Some(in_time(candidate, "was lost, and is continued in a moment".to_owned(), due)),
        Again::Now | Again::Never(_) => None,
    }
}

/// A hold that ends at a known time.
pub(super) fn in_time(candidate: &Candidate<'_>, why: String, until: Time) -> Hold {
    Hold { ticket: candidate.entry.ticket.id.clone(), kind: HoldKind::Time, why, until: Some(until) }
}

/// A hold for want of a place.
pub(super) fn no_place(candidate: &Candidate<'_>, why: String) -> Hold {
    Hold { ticket: candidate.entry.ticket.id.clone(), kind: HoldKind::Place, why, until: None }
}
