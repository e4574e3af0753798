//! What to do next: one pure function from what is seen to a few steps. Nothing here has an effect; the order of its
//! answers is the order in which they are carried out.
//!
//! Every chosen ticket gets a **standing**: it made it, it moves (by itself, or by a step), it is held, or it failed for
//! good. A run is over when none moves. What keeps a ticket from moving is a [`Hold`], and its sentence is written here
//! or in the rule that says no, nowhere else.

mod capability;
mod elsewhere;
mod landing;
mod places;
mod ring;
mod standing;
mod topology;

use std::collections::BTreeMap;
use std::time::Duration;

use super::backoff;
use super::crash_loop::{self, Again};
use super::jobs::CareOf;
use super::stuck::{self, StuckStep};
use super::world::{Doing, Rules, Seen, World};
use crate::model::coordination::{Hold, HoldKind};
use crate::model::health::{BadEnd, Care};
use crate::model::settings::Restart;
use crate::model::ticket::TicketState as S;
use crate::model::worker::{Liveness, Outcome, Phase, Status};
use crate::model::{AgentName, TicketId, Time, WorkerId, counted};
use crate::queue::QueueTicket;
use crate::supervisor::SeenLease;

pub(super) use capability::suits;
use places::take_candidates;
use standing::{Standings, passing_holds};

/// How long a claim may be without a worker: whoever took it may be about to write the worker down.
const CLAIM_SETTLES: Duration = Duration::from_secs(3);
/// How long a ticket stays as it is before what the leader says holds it counts for others.
pub(super) const HOLD_SETTLES: Duration = Duration::from_secs(3);
/// How long an agent asks for a person before the run counts on none.
const QUESTION_SETTLES: Duration = Duration::from_secs(5);

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Queue a ticket whose publication was taken back.
    Publish {
        /// Which.
        ticket: TicketId,
    },
    /// Queue a failed ticket again.
    Requeue {
        /// Which.
        ticket: TicketId,
    },
    /// Start a worker for a queued ticket, new or again.
    Start {
        /// Which.
        ticket: TicketId,
        /// With whom.
        agent: AgentName,
    },
    /// Go on with a ticket of a node that is gone.
    TakeOver {
        /// Which.
        ticket: TicketId,
        /// With whom.
        agent: AgentName,
        /// The lease that is over.
        lease: SeenLease,
    },
    /// Let the next agent of a ring go on with work that is there.
    Hand {
        /// The ticket.
        ticket: TicketId,
        /// Its worker.
        worker: WorkerId,
        /// The agent.
        agent: AgentName,
    },
    /// Pass the token of a ticket to the next agent of its ring.
    Pass {
        /// The ticket.
        ticket: TicketId,
        /// Why its holder is passed over, as a clause; `None` when it had its turn.
        why: Option<String>,
    },
    /// Continue a lost worker.
    Resume {
        /// Its ticket.
        ticket: TicketId,
        /// Which.
        worker: WorkerId,
    },
    /// Look after a worker that does not go on.
    Care {
        /// Its ticket.
        ticket: TicketId,
        /// Which.
        worker: WorkerId,
        /// What to do.
        what: CareOf,
    },
    /// Land finished work.
    Land {
        /// Whose, in claim order.
        workers: Vec<(TicketId, WorkerId)>,
    },
}

/// Where a ticket stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It reached its end: landed or done; where nothing lands, also review and everything after.
    Made,
    /// It goes on, by itself or by a step.
    Moving,
    /// It is held.
    Held(Hold),
    /// It will not make it: dead, cancelled, or it needs one that will not.
    Failed(String),
}

/// What follows from a look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    /// What to do, in this order.
    pub(crate) steps: Vec<Step>,
    /// What is held and why, among the chosen.
    pub(crate) holds: Vec<Hold>,
    /// Where each chosen ticket stands, in claim order.
    pub(crate) standings: Vec<(TicketId, Standing)>,
    /// When something is due that no change announces.
    pub(crate) wake_at: Option<Time>,
    /// How many tickets would be worked on now if there were places for them: here, or in a star anywhere.
    pub(crate) waiting: usize,
    /// How many more would be if there were places at the nodes that could take them; this one does not.
    pub(crate) waiting_elsewhere: usize,
}

impl Decision {
    /// Whether nothing moves any more without somebody else.
    pub(crate) fn is_over(&self) -> bool {
        self.steps.is_empty() && !self.standings.iter().any(|(_, standing)| *standing == Standing::Moving)
    }
}

/// A ticket that could be worked on now.
pub(crate) struct Candidate<'a> {
    /// Its entry.
    pub(crate) entry: &'a QueueTicket,
    /// Who would work on it.
    pub(crate) agent: AgentName,
    /// Whether that is decided among the agents of `run.agents` when it is its turn.
    pub(crate) is_distributed: bool,
    /// Its lost worker, which would go on; else it is started.
    pub(crate) resumes: Option<&'a WorkerId>,
    /// The fence under which another node held it that is gone.
    pub(crate) takes_over: Option<SeenLease>,
    /// Its worker, whose work the next agent of a ring goes on with.
    pub(crate) hands: Option<&'a WorkerId>,
}

impl Candidate<'_> {
    /// Whether its work was finished where it is taken over from: it needs no agent and no place, and lands.
    fn is_finished(&self) -> bool {
        self.takes_over.is_some() && matches!(self.entry.state, S::Review | S::Approved | S::Landing)
    }
}

/// What is known while deciding: what takes a place grows with every step.
pub(crate) struct Draft<'a> {
    /// What is seen.
    pub(crate) world: &'a World,
    /// By which rules.
    pub(crate) rules: &'a Rules,
    /// The tickets that take a place by now, each with its agent.
    pub(crate) placed: BTreeMap<TicketId, AgentName>,
    /// Who got the last new worker.
    pub(crate) last: Option<AgentName>,
}

/// Decides.
pub(crate) fn decide(world: &World, rules: &Rules) -> Decision {
    let (placed, last) = (world.placed(rules), world.past.last.clone());
    let mut draft = Draft { world, rules, placed, last };
    let workers: BTreeMap<&TicketId, &Seen> =
        world.workers.iter().rev().map(|seen| (&seen.worker.ticket, seen)).collect();
    let mut judged: BTreeMap<&TicketId, Judged<'_>> = BTreeMap::new();
    for entry in &world.tickets {
        let id = &entry.ticket.id;
        judged.insert(id, judge(world, rules, entry, workers.get(id).copied()));
    }
    let mut decision = Decision::default();
    take_candidates(&mut draft, &mut judged, &mut decision);
    let entries = world.tickets.iter().map(|entry| (&entry.ticket.id, entry)).collect();
    let mut standings = Standings { world, entries: &entries, judged: &judged, known: BTreeMap::new() };
    for entry in world.tickets.iter().filter(|entry| world.is_chosen(&entry.ticket.id)) {
        let id = &entry.ticket.id;
        let ticket = id.clone();
        match judged.get(id) {
            Some(Judged::Requeue) => decision.steps.push(Step::Requeue { ticket }),
            Some(Judged::Publish) => decision.steps.push(Step::Publish { ticket }),
            Some(Judged::Pass(why)) => decision.steps.push(Step::Pass { ticket, why: why.clone() }),
            Some(Judged::Care(worker, what)) => {
                let (worker, what) = ((*worker).clone(), what.clone());
                decision.steps.push(Step::Care { ticket, worker, what });
            }
            _ => {}
        }
        let standing = standings.of(id);
        if let Standing::Held(hold) = &standing {
            decision.holds.push(hold.clone());
        }
        decision.standings.push((id.clone(), standing));
    }
    decision.holds.extend(passing_holds(&mut standings));
    decision.holds.sort_by(|one, other| one.ticket.cmp(&other.ticket));
    decision.wake_at = decision.holds.iter().filter_map(|hold| hold.until).min();
    landing::land(world, rules, &judged, &mut decision);
    decision
}

/// What a look at one entry alone says.
enum Judged<'a> {
    /// It reached its end.
    Made,
    /// Somebody is at it.
    Moving,
    /// It waits for something that passes by itself.
    Passing(Hold),
    /// It waits for somebody.
    Held(Hold),
    /// It will not make it.
    Failed(String),
    /// Its dependencies are not satisfied.
    Blocked,
    /// It could be worked on; it has no place yet.
    Candidate(Candidate<'a>),
    /// It started from the branch of this one, and lands after it.
    Behind(&'a TicketId),
    /// It can land.
    Landable(WorkerId),
    /// Its worker is looked after.
    Care(&'a WorkerId, CareOf),
    /// Its next attempt is due.
    Requeue,
    /// Its publication was taken back.
    Publish,
    /// Its token passes on, and why its holder is passed over.
    Pass(Option<String>),
}

/// Looks at one entry.
fn judge<'a>(world: &World, rules: &Rules, entry: &'a QueueTicket, seen: Option<&'a Seen>) -> Judged<'a> {
    let id = &entry.ticket.id;
    let is_landing = matches!(entry.state, S::Review | S::Approved | S::Landing);
    match world.doing.get(id) {
        // A landing goes on with others when it has sent this one back.
        Some(Doing::Landing) if !is_landing => {}
        Some(_) => return Judged::Moving,
        None => {}
    }
    if let Some(judged) = elsewhere::judge(world, rules, entry, seen) {
        return match judged {
            Judged::Candidate(_) => set_back(world, entry).unwrap_or(judged),
            judged => judged,
        };
    }
    if let Some(judged) = ring::judge(world, entry, seen) {
        return judged;
    }
    let judged = match entry.state {
        S::Landed => Judged::Made,
        S::Done => unclosed(entry, seen).unwrap_or(Judged::Made),
        S::Cancelled => unclosed(entry, seen).unwrap_or_else(|| Judged::Failed("was cancelled".to_owned())),
        S::Dead => dead(world, entry, seen),
        // Whatever is queued is another thing than whatever is written.
        S::Open if world.chosen.is_none() => Judged::Moving,
        S::Open => Judged::Publish,
        S::WaitingApproval => person(id, "waits for somebody to let it run".to_owned()),
        S::Blocked => Judged::Blocked,
        S::Queued => queued(world, rules, entry, seen),
        S::Running | S::Lost => running(world, rules, entry, seen),
        S::Failed => failed(world, rules, entry, seen),
        S::Review | S::Approved | S::Landing => landing::judge(world, rules, entry, seen),
    };
    match judged {
        Judged::Candidate(_) | Judged::Landable(_) | Judged::Care(..) | Judged::Requeue | Judged::Publish => {
            set_back(world, entry).or_else(|| told(world, entry)).unwrap_or(judged)
        }
        // Who leads may have stopped it for a moment, to queue it again.
        Judged::Held(_) if world.is_led && entry.state == S::Failed && !is_settled(world, entry) => Judged::Moving,
        judged => judged,
    }
}

/// The hold of what was tried for an entry in vain, as long as it counts.
fn set_back<'a>(world: &World, entry: &QueueTicket) -> Option<Judged<'a>> {
    let setback = world.setbacks.get(&entry.ticket.id)?;
    if setback.at != (entry.state, entry.fence) || setback.until.is_some_and(|until| until <= world.now) {
        return None;
    }
    let (kind, until) = (setback.kind, setback.until);
    let hold = Hold { ticket: entry.ticket.id.clone(), kind, why: setback.why.clone(), until };
    Some(if kind.passes() { Judged::Passing(hold) } else { Judged::Held(hold) })
}

/// The hold that the leader tells of an entry, where this one stands by. Of one that changed a moment ago the leader may
/// not have heard yet.
fn told<'a>(world: &World, entry: &QueueTicket) -> Option<Judged<'a>> {
    let hold = world.told.get(&entry.ticket.id)?;
    is_settled(world, entry).then(|| Judged::Held(hold.clone()))
}

/// Whether an entry has been as it is for so long that whoever leads has had the time to see it.
fn is_settled(world: &World, entry: &QueueTicket) -> bool {
    entry.changed_at <= world.queue_now() && entry.changed_at.age_at(world.queue_now()) >= HOLD_SETTLES
}

/// A ticket that waits to be claimed.
fn queued<'a>(world: &World, rules: &Rules, entry: &'a QueueTicket, seen: Option<&Seen>) -> Judged<'a> {
    let id = &entry.ticket.id;
    if let Some(seen) = seen.filter(|seen| seen.liveness != Liveness::Dead) {
        let (worker, status) = (&seen.worker.id, seen.status.as_str());
        let why = format!("has a worker from before that is {status}: swarm send {worker}, or swarm stop {worker}");
        return person(id, why);
    }
    candidate(world, rules, entry)
}

/// A candidate with its agent, where there is one for it.
fn candidate<'a>(world: &World, rules: &Rules, entry: &'a QueueTicket) -> Judged<'a> {
    let ticket = &entry.ticket;
    // What another node can have is left to that one when it is its turn.
    let lacking = capability::lacking(world, rules, ticket)
        .filter(|_| capability::for_another_node(world, rules, ticket).is_none());
    let of_ring = ring::agent_of(world, rules, ticket);
    let (agent, is_distributed) = match (of_ring, &ticket.agent, rules.run.agents.first(), lacking) {
        (Some(of_ring), ..) => of_ring,
        // Who names an agent means that one, whatever it says of itself.
        (None, Some(named), ..) => (named.clone(), false),
        // Who of them has what it asks for is seen when it is its turn.
        (None, None, Some(first), _) => (first.clone(), true),
        (None, None, None, None) => (rules.agent.clone(), false),
        (None, None, None, Some(capability)) => {
            let agent = &rules.agent;
            let why = format!("needs `{capability}`, and agent `{agent}` does not offer it; name one that does");
            return person(&ticket.id, why);
        }
    };
    let (resumes, takes_over, hands) = (None, None, None);
    Judged::Candidate(Candidate { entry, agent, is_distributed, resumes, takes_over, hands })
}

/// A ticket whose attempt is under way, as far as the queue knows.
fn running<'a>(world: &World, rules: &Rules, entry: &'a QueueTicket, seen: Option<&'a Seen>) -> Judged<'a> {
    let id = &entry.ticket.id;
    if let Some(client) = entry.client() {
        // Its lease is looked after where others are answered.
        let (ticket, why) = (id.clone(), format!("is worked on by `{client}`, another program"));
        return Judged::Passing(Hold { ticket, kind: HoldKind::Place, why, until: None });
    }
    let is_ended = |seen: &&Seen| seen.liveness == Liveness::Dead && matches!(seen.worker.phase, Phase::Ended { .. });
    if seen.filter(is_ended).is_some_and(|seen| seen.worker.attempt.fence == entry.fence) {
        // The queue has yet to hear how it ended.
        return Judged::Moving;
    }
    let Some(seen) = seen.filter(|seen| !is_ended(seen)) else {
        // Whoever claimed it is about to write its worker down, or died before it could.
        let is_young =
            entry.changed_at.age_at(world.queue_now()) < CLAIM_SETTLES && entry.changed_at <= world.queue_now();
        return if is_young { Judged::Moving } else { candidate(world, rules, entry) };
    };
    if seen.status == Status::Lost
        && let Some(judged) = crashing(world, rules, seen)
    {
        return judged;
    }
    match seen.status {
        Status::Lost if seen.is_half_spawned() => candidate(world, rules, entry),
        Status::Lost if rules.run.restart == Restart::Never => {
            person(id, format!("lost its supervisor: swarm resume {}", seen.worker.id))
        }
        Status::Lost => {
            let resumes = Some(&seen.worker.id);
            Judged::Candidate(Candidate {
                entry,
                agent: seen.worker.agent.clone(),
                is_distributed: false,
                resumes,
                takes_over: None,
                hands: None,
            })
        }
        Status::Waiting if !is_new(seen, world.now) => {
            person(id, format!("waits for a person ({}): swarm attach {}", seen.reason, seen.worker.id))
        }
        Status::Paused => person(id, format!("is paused: swarm resume {}", seen.worker.id)),
        Status::Working => silent(world, rules, seen),
        _ => Judged::Moving,
    }
}

/// A worker that works: whether it is looked after because it shows no progress.
fn silent<'a>(world: &World, rules: &Rules, seen: &'a Seen) -> Judged<'a> {
    let id = &seen.worker.id;
    let sign = seen.live.as_ref().and_then(|live| live.sign.as_ref()).filter(|_| seen.liveness == Liveness::Alive);
    let Some(sign) = sign else { return Judged::Moving };
    let care = world.cares.get(id).cloned().unwrap_or_default();
    match stuck::decide(seen.status, sign, &care, &rules.health) {
        None | Some(StuckStep::Wait(_)) => Judged::Moving,
        Some(StuckStep::Nudge) => Judged::Care(id, CareOf::Nudge),
        Some(StuckStep::Restart { why }) => Judged::Care(id, CareOf::Restart { why }),
        Some(StuckStep::Fail { why }) => Judged::Care(id, CareOf::Fail { why }),
    }
}

/// Whether the attempt of a ticket was ended only to be started again.
fn owes_restart(world: &World, entry: &QueueTicket, seen: &Seen) -> bool {
    world.cares.get(&seen.worker.id).is_some_and(|care| care.restart_owed == Some(entry.fence))
}

/// How a worker ended badly so far. That it is lost now is written down when it is continued.
fn care_of(world: &World, seen: &Seen) -> Care {
    let mut care = world.cares.get(&seen.worker.id).cloned().unwrap_or_default();
    if seen.status == Status::Lost {
        let (at, fence) = (seen.since.unwrap_or(world.now), seen.worker.attempt.fence);
        care.note_end(BadEnd { at, fence, exit_code: None, why: "its supervisor was lost".to_owned() });
    }
    care
}

/// A worker that ended badly, or was lost, so often that it is given up; `None` where it may be started again.
fn crashing<'a>(world: &World, rules: &Rules, seen: &'a Seen) -> Option<Judged<'a>> {
    let id = &seen.worker.id;
    let care = care_of(world, seen);
    if let Some(why) = &care.gave_up {
        return Some(Judged::Failed(format!("{why}: swarm why {id}, then swarm resume {id}")));
    }
    match crash_loop::judge(&care, rules.health.crash_loop, world.now) {
        Again::Never(why) => Some(Judged::Care(id, CareOf::GiveUp { why })),
        Again::Now | Again::At(_) => None,
    }
}

/// Whether a status is so young that it may pass.
fn is_new(seen: &Seen, now: Time) -> bool {
    seen.since.is_some_and(|since| since <= now && since.age_at(now) < QUESTION_SETTLES)
}

/// The worker of a ticket that came to its end, whose supervisor was killed when it had told the queue and nobody else.
fn unclosed<'a>(entry: &QueueTicket, seen: Option<&'a Seen>) -> Option<Judged<'a>> {
    let seen =
        seen.filter(|seen| seen.status == Status::Lost && matches!(seen.worker.phase, Phase::Supervised { .. }))?;
    if seen.worker.attempt.fence != entry.fence {
        return None;
    }
    Some(Judged::Care(&seen.worker.id, CareOf::Close))
}

/// A ticket without attempts left.
fn dead<'a>(world: &World, entry: &QueueTicket, seen: Option<&'a Seen>) -> Judged<'a> {
    if let Some(seen) = seen.filter(|seen| owes_restart(world, entry, seen)) {
        return Judged::Care(&seen.worker.id, CareOf::RestartOwed);
    }
    if let Some(judged) = unclosed(entry, seen) {
        return judged;
    }
    let attempts = counted(entry.attempts as usize, "attempt");
    Judged::Failed(format!("failed, after {attempts}: {}", failure(entry, seen)))
}

/// A ticket whose last attempt failed and that has attempts left.
fn failed<'a>(world: &World, rules: &Rules, entry: &QueueTicket, seen: Option<&'a Seen>) -> Judged<'a> {
    let id = &entry.ticket.id;
    if seen.is_some_and(|seen| seen.worker.is_begun() && seen.liveness == Liveness::Alive) {
        // Its supervisor has told the queue and is about to say how it ended.
        return Judged::Moving;
    }
    if let Some(seen) = seen {
        if owes_restart(world, entry, seen) {
            return Judged::Care(&seen.worker.id, CareOf::RestartOwed);
        }
        if let Some(judged) = crashing(world, rules, seen) {
            return judged;
        }
    }
    match seen.map(|seen| &seen.worker.phase) {
        Some(Phase::Ended { outcome: Outcome::Stopped { reason }, .. }) => {
            person(id, format!("was stopped ({reason}): swarm resume {id} goes on with it"))
        }
        Some(Phase::Ended { outcome: Outcome::LimitReached { reason }, .. }) => Judged::Held(Hold {
            ticket: id.clone(),
            kind: HoldKind::Limit,
            why: format!("reached a limit: {reason}; with a higher one, swarm run {id} goes on"),
            until: None,
        }),
        _ => match entry
            .retry_at
            .or_else(|| backoff::due(entry.changed_at, entry.attempts, &rules.run.backoff, world.queue_now()))
        {
            Some(due) if due > world.queue_now() => Judged::Passing(Hold {
                ticket: id.clone(),
                kind: HoldKind::Time,
                why: format!(
                    "waits before attempt {}, because it failed: {}",
                    entry.attempts + 1,
                    failure(entry, seen)
                ),
                until: Some(world.by_own_clock(due)),
            }),
            _ => Judged::Requeue,
        },
    }
}

/// Why the last attempt of a ticket failed, as a clause.
fn failure(entry: &QueueTicket, seen: Option<&Seen>) -> String {
    let told = entry.error.clone().or_else(|| match &seen?.worker.phase {
        Phase::Ended { outcome, .. } => Some(outcome.verdict().1),
        _ => None,
    });
    told.unwrap_or_else(|| "nobody said why".to_owned())
}

/// A hold that only a person ends.
fn person<'a>(ticket: &TicketId, why: String) -> Judged<'a> {
    Judged::Held(Hold { ticket: ticket.clone(), kind: HoldKind::Person, why, until: None })
}

#[cfg(test)]
mod tests;
