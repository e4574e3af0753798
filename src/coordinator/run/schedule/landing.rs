//! What is decided about finished work: whether it lands now, by whom it is held, and which landings are still to be finished.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Decision, Judged, Step, person, set_back};
use crate::coordinator::run::world::{Doing, Rules, Seen, World};
use crate::model::TicketId;
use crate::model::ticket::TicketState as S;
use crate::queue::QueueTicket;

/// How long a landing may be nobody's before it is looked after.
const LANDING_SETTLES: Duration = Duration::from_secs(3);

/// Looks at a ticket whose work is finished.
pub(super) fn judge<'a>(world: &World, rules: &Rules, entry: &QueueTicket, seen: Option<&'a Seen>) -> Judged<'a> {
    let id = &entry.ticket.id;
    let lands = rules.lands && world.never_lands.is_none();
    match entry.state {
        S::Landing if entry.changed_at.age_at(world.queue_now()) < LANDING_SETTLES => Judged::Moving,
        S::Landing if !lands && world.nobody_lands => {
            person(id, "was interrupted while it landed: swarm merge".to_owned())
        }
        S::Landing if !lands => Judged::Moving,
        _ if !rules.lands => Judged::Made,
        S::Review if !rules.approves => {
            let worker = seen.map_or(id.as_str(), |seen| seen.worker.id.as_str());
            person(id, format!("waits for a verdict: swarm review {worker}"))
        }
        _ if !lands => {
            let leader = world.never_lands.as_deref().unwrap_or_default();
            person(id, format!("waits to land, and {leader} coordinates and lands nothing: swarm merge"))
        }
        _ => match seen {
            Some(seen) => match lands_after(world, seen) {
                Some(need) if entry.state != S::Landing => Judged::Behind(need),
                _ => Judged::Landable(seen.worker.id.clone()),
            },
            None => person(id, "has no worker any more whose work could land: swarm recover list".to_owned()),
        },
    }
}

/// The ticket from whose branch a worker's started, while that may still land. Of one that will not, landing says what a
/// person can do.
fn lands_after<'a>(world: &World, seen: &'a Seen) -> Option<&'a TicketId> {
    let need = &seen.worker.place.stacked_on.as_ref()?.ticket;
    world.ticket(need).is_some_and(|needed| !needed.state.is_ended()).then_some(need)
}

/// Lands everything that can land, in one go, and finishes what was left of landings; a landing under way is waited for.
pub(super) fn land(world: &World, rules: &Rules, judged: &BTreeMap<&TicketId, Judged<'_>>, decision: &mut Decision) {
    if world.doing.values().any(|doing| *doing == Doing::Landing) {
        return;
    }
    let mut workers = Vec::new();
    for entry in world.tickets.iter().filter(|entry| world.is_chosen(&entry.ticket.id)) {
        let id = &entry.ticket.id;
        match judged.get(id) {
            Some(Judged::Landable(worker)) => workers.push((id.clone(), worker.clone())),
            // Whoever lands now may be about to finish it. It is over for the run whether that can be done or not.
            Some(Judged::Made) if rules.lands && world.nobody_lands && set_back(world, entry).is_none() => {
                workers.extend(world.unfinished.get(id).map(|worker| (id.clone(), worker.clone())));
            }
            _ => {}
        }
    }
    if !workers.is_empty() {
        decision.steps.push(Step::Land { workers });
    }
}
