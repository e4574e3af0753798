//! What the topology has against starting a ticket now.

use std::time::Duration;

use super::places::{in_time, no_place};
use super::{Candidate, Draft, suits};
use crate::coordinator::run::world::Peer;
use crate::model::coordination::{Hold, HoldKind};
use crate::model::counted;
use crate::model::node::Assignments;
use crate::model::topology::{Mesh, Routing, Topology};

/// How long a node leaves a ticket to another one that has less to do.
const LEFT_FOR: Duration = Duration::from_secs(3);

/// In a hierarchy a ticket is its supervisor's, which has as many workers at once as it may. What goes on has its place
/// already.
pub(super) fn subordinate(draft: &Draft<'_>, candidate: &Candidate<'_>) -> Option<Hold> {
    let Topology::Hierarchical(own) = &draft.rules.topology else { return None };
    let owner = draft.world.owners.get(&candidate.entry.ticket.id).filter(|_| candidate.resumes.is_none())?;
    let count = draft.placed.keys().filter(|id| draft.world.owners.get(*id) == Some(owner)).count();
    let (most, has) = (own.parent_child_ratio, counted(count, "worker"));
    (count >= most).then(|| no_place(candidate, format!("waits for `{owner}`, which has {has} and may have {most}")))
}

/// What the node that assigns says, and the name of this one, where one assigns what is begun anew; within, `None` where
/// none has done so yet. What this node has begun goes on.
fn assignments<'a>(draft: &Draft<'a>, candidate: &Candidate<'_>) -> Option<(Option<&'a Assignments>, &'a str)> {
    let nodes = &draft.world.nodes;
    let goes_on = candidate.resumes.is_some() || candidate.hands.is_some();
    let (known, own) = (nodes.assignments.as_ref()?, nodes.own.as_deref()?);
    (!goes_on).then_some((known.as_ref(), own))
}

/// The node that a ticket was given to, where one assigns.
pub(super) fn given<'a>(draft: &Draft<'a>, candidate: &Candidate<'_>) -> Option<&'a String> {
    assignments(draft, candidate)?.0?.tickets.get(&candidate.entry.ticket.id)
}

/// Where one node assigns, this one takes what is assigned to it.
pub(super) fn assigned(draft: &Draft<'_>, candidate: &Candidate<'_>) -> Option<Hold> {
    let (known, own) = assignments(draft, candidate)?;
    let Some(known) = known else { return Some(no_place(candidate, "waits for a node that assigns it".to_owned())) };
    let (by, nodes) = (&known.by, &draft.world.nodes);
    match known.tickets.get(&candidate.entry.ticket.id) {
        Some(node) if node == own => None,
        Some(node) => Some(no_place(candidate, format!("is assigned to node `{node}`"))),
        None if room(draft, candidate).is_some() => None,
        None if by == own => Some(no_place(candidate, "waits for a node that can take it".to_owned())),
        None if draft.rules.topology.fails_over() || nodes.peers.get(by).is_some_and(|peer| !peer.is_gone) => {
            Some(no_place(candidate, format!("waits for node `{by}` to assign it")))
        }
        None => {
            let why =
                format!("waits for node `{by}`, which alone assigns tickets and is gone: swarm topology set star");
            Some(Hold { ticket: candidate.entry.ticket.id.clone(), kind: HoldKind::Person, why, until: None })
        }
    }
}

/// In a star a ticket that was given to no node waits for one that has room, as long as somebody assigns. It waits for a
/// place as it would where each node takes what it can, and counts as such.
pub(super) fn room(draft: &Draft<'_>, candidate: &Candidate<'_>) -> Option<Hold> {
    let (Some(known), own) = assignments(draft, candidate)? else { return None };
    let is_star = matches!(draft.rules.topology, Topology::Star(_));
    if !is_star || known.tickets.contains_key(&candidate.entry.ticket.id) {
        return None;
    }
    let by = &known.by;
    if by == own {
        return Some(no_place(candidate, "waits for a node that has room".to_owned()));
    }
    let is_there = draft.world.nodes.peers.get(by).is_some_and(|peer| !peer.is_gone);
    is_there.then(|| no_place(candidate, format!("waits for node `{by}` to assign it")))
}

/// A ticket that starts from the branch of another one begins where that is, as long as that has not landed. One that has a
/// worker here goes on in its worktree.
pub(super) fn stacked(draft: &Draft<'_>, candidate: &Candidate<'_>) -> Option<Hold> {
    let (world, ticket) = (draft.world, &candidate.entry.ticket);
    let need = world.begins_behind(ticket)?;
    if world.worker_of(&ticket.id).is_some_and(|seen| !seen.is_half_spawned()) {
        return None;
    }
    let (id, state) = (&need.ticket.id, need.state);
    let node = world.nodes.holder(need, world.worker_of(id))?;
    let peer = world.nodes.peers.get(node);
    let is_there = world.nodes.is_there(node);
    let takes = |peer: &Peer| peer.takes(&ticket.id) && suits(world, draft.rules, ticket, &peer.capabilities);
    if is_there && peer.is_none_or(takes) {
        let why = format!("waits for node `{node}`, which has `{id}`, from whose branch it starts");
        return Some(no_place(candidate, why));
    }
    let (kind, what) = match peer {
        Some(peer) if is_there && peer.lands => (HoldKind::Dependency, format!("lands on node `{node}` first")),
        Some(_) if !is_there && draft.rules.lands => {
            (HoldKind::Dependency, format!("is to be taken over from node `{node}`"))
        }
        _ => (HoldKind::Person, format!("is in {state} on `{node}` and has to land")),
    };
    let why = format!("waits for `{id}`, from whose branch it starts and which {what}");
    Some(Hold { ticket: ticket.id.clone(), kind, why, until: None })
}

/// In a mesh with targeted routing a node leaves a ticket for a moment to one that has less to do.
pub(super) fn left(draft: &Draft<'_>, candidate: &Candidate<'_>) -> Option<Hold> {
    let Topology::Mesh(Mesh { routing: Routing::Targeted, .. }) = &draft.rules.topology else { return None };
    let (world, entry) = (draft.world, candidate.entry);
    let until = world.by_own_clock(entry.changed_at.after(LEFT_FOR));
    let goes_on = candidate.resumes.is_some() || candidate.hands.is_some() || candidate.takes_over.is_some();
    if goes_on || until <= world.now {
        return None;
    }
    let load = |count: usize, most: usize| count * 1_000 / most.max(1);
    let own = load(draft.placed.len(), draft.rules.limit());
    let takes = world.nodes.peers.iter().filter(|(_, peer)| {
        !peer.is_gone
            && peer.takes(&entry.ticket.id)
            && peer.running < peer.limit
            && load(peer.running, peer.limit) < own
    });
    let (node, _) = takes.into_iter().find(|(_, peer)| suits(world, draft.rules, &entry.ticket, &peer.capabilities))?;
    Some(in_time(candidate, format!("is left to node `{node}`, which has less to do"), until))
}
