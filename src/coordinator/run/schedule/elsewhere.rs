//! What is decided about tickets that other nodes hold: they are left alone while their node is there, and taken over from
//! one that is gone, whether their work is under way or finished. Who is no node, such as a person who works in a clone by
//! hand, is not there and not gone: what they finished is theirs.

use super::{Candidate, Judged, candidate, person};
use crate::coordinator::run::world::{Rules, Seen, World};
use crate::model::ticket::TicketState as S;
use crate::model::worker::STOPPED_BY_PERSON;
use crate::queue::QueueTicket;
use crate::supervisor::SeenLease;

/// Looks at a ticket that another node holds; `None` where it is this node's to decide about.
pub(super) fn judge<'a>(
    world: &World,
    rules: &Rules,
    entry: &'a QueueTicket,
    seen: Option<&Seen>,
) -> Option<Judged<'a>> {
    let node = world.nodes.holder(entry, seen)?;
    let peer = world.nodes.peers.get(node);
    let is_there = world.nodes.is_there(node);
    let id = &entry.ticket.id;
    match entry.state {
        S::Running | S::Lost if world.nodes.may_be_at(node, id) => Some(Judged::Moving),
        S::Running | S::Lost => Some(heir(world, rules, entry)),
        // Whoever tried it tries again, where its worktree is.
        S::Failed if is_there => Some(Judged::Moving),
        S::Failed if entry.error.as_deref() == Some(STOPPED_BY_PERSON) => {
            let text = format!("was stopped by a person on node `{node}`: swarm queue retry {id} lets it go on");
            Some(person(id, text))
        }
        S::Review | S::Approved | S::Landing if !rules.lands => Some(Judged::Made),
        S::Review | S::Approved | S::Landing if !is_there && peer.is_none() => {
            Some(person(id, format!("is finished on `{node}`, which is no node: swarm merge there")))
        }
        S::Review | S::Approved | S::Landing if !is_there && world.nodes.over.contains(id) => {
            Some(heir(world, rules, entry))
        }
        S::Review | S::Approved | S::Landing if !is_there => Some(Judged::Moving),
        S::Review | S::Approved | S::Landing if peer.is_some_and(|peer| !peer.lands) => {
            Some(person(id, format!("is finished on node `{node}`, which lands nothing: swarm merge there")))
        }
        S::Review | S::Approved | S::Landing => Some(Judged::Moving),
        _ => None,
    }
}

/// A ticket that goes on here.
fn heir<'a>(world: &World, rules: &Rules, entry: &'a QueueTicket) -> Judged<'a> {
    match candidate(world, rules, entry) {
        Judged::Candidate(found) => {
            let takes_over = Some(SeenLease { fence: entry.fence, until: entry.lease_until });
            Judged::Candidate(Candidate { takes_over, ..found })
        }
        judged => judged,
    }
}
