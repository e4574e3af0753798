//! Who offers what a ticket asks for: the agents that may work on it, and the nodes.
//!
//! A node can take a ticket where one of these agents has, together with the node, all that the ticket asks for. In a ring it
//! is all of its agents together, since each of them has its turn. Where this node cannot and another one that is there can,
//! it is left to that one. Who names an agent means that one, whatever it says of itself, and so does a ring: where nobody
//! offers what such a ticket asks for, it is worked on all the same.

use super::ring;
use crate::coordinator::run::world::{Peer, Rules, World};
use crate::model::AgentName;
use crate::model::coordination::{Hold, HoldKind};
use crate::model::ticket::Ticket;

/// What each of those that may work on a ticket offers; never empty.
fn skills<'a>(world: &'a World, rules: &'a Rules, ticket: &Ticket) -> Vec<Vec<&'a String>> {
    let of = |agent: &AgentName| {
        let facts = world.agents.get(agent);
        facts.map(|facts| facts.capabilities.iter().collect::<Vec<_>>()).unwrap_or_default()
    };
    if let Some(agents) = ring::agents_of(world, rules, ticket) {
        return vec![agents.iter().flat_map(of).collect()];
    }
    match &ticket.agent {
        Some(agent) => vec![of(agent)],
        None if rules.run.agents.is_empty() => vec![of(&rules.agent)],
        None => rules.run.agents.iter().map(of).collect(),
    }
}

/// The first of what a ticket asks for that neither one with these skills nor a node that offers this has.
fn lack<'a>(ticket: &'a Ticket, skills: &[&String], offers: &[String]) -> Option<&'a String> {
    ticket.capabilities.iter().find(|name| !offers.contains(name) && !skills.contains(name))
}

/// The same where each of those that may work on it lacks something; `None` where the node can take it.
fn missing<'a>(world: &World, rules: &Rules, ticket: &'a Ticket, offers: &[String]) -> Option<&'a String> {
    if ticket.capabilities.is_empty() {
        return None;
    }
    let each: Option<Vec<_>> = skills(world, rules, ticket).iter().map(|skills| lack(ticket, skills, offers)).collect();
    each?.into_iter().next()
}

/// What this node lacks to take a ticket, the first of it; `None` where it can.
pub(super) fn lacking<'a>(world: &World, rules: &Rules, ticket: &'a Ticket) -> Option<&'a String> {
    missing(world, rules, ticket, &rules.offers)
}

/// That a ticket which this node cannot take waits for one that can; `None` where none does.
pub(super) fn for_another_node(world: &World, rules: &Rules, ticket: &Ticket) -> Option<Hold> {
    let skills = skills(world, rules, ticket);
    let takes = |peer: &Peer| !peer.is_gone && peer.takes(&ticket.id);
    let (node, capability) = world.nodes.peers.iter().filter(|(_, peer)| takes(peer)).find_map(|(node, peer)| {
        let able = skills.iter().find(|skills| lack(ticket, skills, &peer.capabilities).is_none())?;
        Some((node, lack(ticket, able, &rules.offers)?))
    })?;
    let why = format!("waits for node `{node}`, which offers `{capability}`");
    Some(Hold { ticket: ticket.id.clone(), kind: HoldKind::Place, why, until: None })
}

/// Whether a node that offers this is one to take a ticket: it can, or no node can and the ticket is for whom it names.
pub(in crate::coordinator::run) fn suits(world: &World, rules: &Rules, ticket: &Ticket, offers: &[String]) -> bool {
    let can = |offers: &[String]| missing(world, rules, ticket, offers).is_none();
    if can(offers) {
        return true;
    }
    let is_for_one = ticket.agent.is_some() || ring::agents_of(world, rules, ticket).is_some();
    let mut peers = world.nodes.peers.values().filter(|peer| !peer.is_gone && peer.takes(&ticket.id));
    is_for_one && !can(&rules.offers) && !peers.any(|peer| can(&peer.capabilities))
}
