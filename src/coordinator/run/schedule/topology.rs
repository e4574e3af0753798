//! What the topology has against starting a ticket now.

use std::time::Duration;

use super::places::{in_time, no_place};
use super::{Candidate, Draft};
use crate::coordinator::run::assign::covers;
use crate::model::coordination::{Hold, HoldKind};
use crate::model::counted;
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

/// Where one node assigns, this one takes what is assigned to it. What it has begun goes on.
pub(super) fn assigned(draft: &Draft<'_>, candidate: &Candidate<'_>) -> Option<Hold> {
    let nodes = &draft.world.nodes;
    let (known, own) = (nodes.assignments.as_ref()?, nodes.own.as_deref()?);
    if candidate.resumes.is_some() || candidate.hands.is_some() {
        return None;
    }
    let Some(known) = known else { return Some(no_place(candidate, "waits for a node that assigns it".to_owned())) };
    let by = &known.by;
    match known.tickets.get(&candidate.entry.ticket.id) {
        Some(node) if node == own => None,
        Some(node) => Some(no_place(candidate, format!("is assigned to node `{node}`"))),
        None if by == own => Some(no_place(candidate, "waits for a node that has room".to_owned())),
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
    let (node, _) = takes.into_iter().find(|(_, peer)| covers(world, &entry.ticket, &peer.capabilities))?;
    Some(in_time(candidate, format!("is left to node `{node}`, which has less to do"), until))
}
