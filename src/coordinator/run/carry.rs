//! Handing over what is made here, in case this node goes away.
//!
//! One worker whose work cannot be handed over is left alone for a while, and keeps no other from it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::jobs::{Done, Job};
use super::nodes::LOOK_EVERY;
use super::world::World;
use super::{Engine, News};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::model::node::Made;
use crate::model::worker::Status;
use crate::model::{TicketId, WorkerId};

/// How often the work of a worker is handed over at most while its agent works.
const CARRY_EVERY: Duration = Duration::from_secs(10);
/// How long work is left alone that a person has to see to, unless more is made or the configuration changes.
const CARRY_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What was handed over of the work here.
#[derive(Default)]
pub(super) struct Bags {
    /// By worker its ticket, what was handed over, and when.
    sent: BTreeMap<WorkerId, (TicketId, Made, Instant)>,
    /// By worker what could not be handed over.
    refused: BTreeMap<WorkerId, Refused>,
    /// What is being handed over, and the tickets of which it is thrown away.
    under_way: Option<(Vec<Bag>, Vec<TicketId>)>,
    /// When that failed as a whole last.
    failed_at: Option<Instant>,
    /// When it was looked at.
    looked_at: Option<Instant>,
    /// What is still to be thrown away; `None` before it looked what was left when this one began.
    left: Option<Vec<TicketId>>,
}

/// Work that could not be handed over.
struct Refused {
    /// It.
    work: Made,
    /// When that was tried.
    at: Instant,
    /// The fence of the attempt that made it.
    fence: u64,
    /// Whether a person has to see to it; else it passes by itself, as a server does that is away.
    needs_person: bool,
}

/// A worker, its ticket, what there is of its work, and the fence of its attempt.
type Bag = (WorkerId, TicketId, Made, u64);

impl Bags {
    /// Whether it may be time to hand a worker's work over.
    fn may_look(&self, id: &WorkerId, has_ended: bool, now: Instant) -> bool {
        let is_old = |at: &Instant| now.duration_since(*at) >= CARRY_EVERY;
        match self.refused.get(id) {
            Some(refused) => is_old(&refused.at),
            None => self.sent.get(id).is_none_or(|(.., at)| has_ended || is_old(at)),
        }
    }

    /// Whether a worker's work as it is now is to be handed over.
    fn is_due(&self, id: &WorkerId, work: &Made, now: Instant) -> bool {
        match self.refused.get(id) {
            Some(refused) if refused.needs_person && refused.work == *work => {
                now.duration_since(refused.at) >= CARRY_AGAIN_AFTER
            }
            Some(_) => true,
            None => self.sent.get(id).is_none_or(|(_, sent, _)| sent != work),
        }
    }

    /// Lets what could not be handed over be tried again at once.
    pub(super) fn try_again(&mut self) {
        self.refused.clear();
    }
}

impl Engine<'_> {
    /// Hands the work of the workers here over where it changed: not too often, but at once when a turn ended.
    pub(super) fn carry(&mut self, world: &World) -> Result<(), Failure> {
        let Some(register) = self.nodes.register().cloned().filter(|_| self.leads) else { return Ok(()) };
        let (now, bags) = (Instant::now(), &mut self.nodes.bags);
        let is_young = |at: Option<Instant>, age: Duration| at.is_some_and(|at| now.duration_since(at) < age);
        if bags.under_way.is_some() || is_young(bags.looked_at, LOOK_EVERY) || is_young(bags.failed_at, CARRY_EVERY) {
            return Ok(());
        }
        bags.looked_at = Some(now);
        let is_over = |id: &TicketId| world.ticket(id).is_none_or(|entry| entry.state.is_ended());
        let mut over = match bags.left.take() {
            Some(left) => left,
            None => register.all_carried()?.into_iter().map(|carried| carried.ticket).filter(is_over).collect(),
        };
        over.extend(bags.sent.values().map(|(ticket, ..)| ticket.clone()).filter(is_over));
        bags.sent.retain(|_, (ticket, ..)| !is_over(ticket));
        // A new attempt is told anew.
        let is_of_now = |id: &WorkerId, fence| {
            world.workers.iter().any(|seen| seen.worker.id == *id && seen.worker.attempt.fence == fence)
        };
        bags.refused.retain(|id, refused| is_of_now(id, refused.fence));
        bags.left = Some(Vec::new());
        let mut due = Vec::new();
        for seen in &world.workers {
            let (id, ticket) = (&seen.worker.id, &seen.worker.ticket);
            let Some(entry) = world.ticket(ticket).filter(|entry| entry.state.is_begun()) else { continue };
            if world.nodes.holder(entry, Some(seen)).is_some() || *id != WorkerId::of(ticket, 1) {
                continue;
            }
            let has_ended = !matches!(seen.status, Status::Working | Status::Starting);
            if bags.may_look(id, has_ended, now)
                && let Some(work) = self.control.work_of(&seen.worker, entry)?
                && bags.is_due(id, &work, now)
            {
                due.push((id.clone(), ticket.clone(), work, seen.worker.attempt.fence));
            }
        }
        if !due.is_empty() || !over.is_empty() {
            let workers = due.iter().map(|(id, ..)| id.clone()).collect();
            bags.under_way = Some((due, over.clone()));
            self.jobs.begin(Job::Carry { workers, over });
        }
        Ok(())
    }

    /// Hears how handing work over went. What was not handed over is tried again.
    pub(super) fn carried(&mut self, carried: Result<Done, Failure>) {
        let bags = &mut self.nodes.bags;
        let (now, (sent, over)) = (Instant::now(), bags.under_way.take().unwrap_or_default());
        let refused = match carried {
            Ok(Done::Carried(refused)) => refused,
            Ok(_) => Vec::new(),
            Err(failure) => {
                let error = failure.chain.join(": ");
                tracing::warn!(error, "work could not be handed over");
                (bags.failed_at, bags.left) = (Some(now), Some(over));
                return;
            }
        };
        let mut told = Vec::new();
        for (worker, ticket, work, fence) in sent {
            let Some((_, failure)) = refused.iter().find(|(id, _)| *id == worker) else {
                bags.refused.remove(&worker);
                bags.sent.insert(worker, (ticket, work, now));
                continue;
            };
            let needs_person = failure.kind == FailureKind::NeedsPerson;
            let before = bags.refused.insert(worker.clone(), Refused { work, at: now, fence, needs_person });
            match needs_person {
                true if before.as_ref().is_none_or(|before| !before.needs_person) => told.push((worker, failure)),
                true => {}
                false => {
                    let error = failure.chain.join(": ");
                    tracing::warn!(worker = worker.as_str(), error, "its work could not be handed over");
                }
            }
        }
        for (worker, failure) in told {
            self.tell_not_carried(&worker, failure);
        }
    }

    /// Says that the work of a worker cannot be handed over.
    fn tell_not_carried(&mut self, worker: &WorkerId, failure: &Failure) {
        let why = failure.chain.join(": ");
        self.face.tell(&News::Said(&format!("what `{worker}` makes cannot be handed over to other nodes: {why}")));
        if let Err(failure) = self.control.note_not_carried(worker, why) {
            let error = failure.chain.join(": ");
            tracing::warn!(worker = worker.as_str(), error, "that could not be written down");
        }
    }
}
