//! What to do next: one pure function from what is seen to a few steps. Nothing here has an effect; the order of its
//! answers is the order in which they are carried out.
//!
//! Every chosen ticket gets a **standing**: it made it, it moves (by itself, or by a step), it is held, or it failed for
//! good. A run is over when none moves. What keeps a ticket from moving is a [`Hold`], and its sentence is written here
//! or in the rule that says no, nowhere else.

use std::collections::BTreeMap;
use std::time::Duration;

use super::backoff;
use super::world::{Doing, Rules, Seen, World};
use crate::model::coordination::{Hold, HoldKind};
use crate::model::settings::Restart;
use crate::model::ticket::TicketState as S;
use crate::model::worker::{Liveness, Outcome, Phase, Status};
use crate::model::{AgentName, TicketId, Time, WorkerId, counted};
use crate::queue::QueueTicket;

/// How long a claim may be without a worker: whoever took it may be about to write the worker down.
const CLAIM_SETTLES: Duration = Duration::from_secs(3);
/// How long a landing may be nobody's before it is looked after.
const LANDING_SETTLES: Duration = Duration::from_secs(3);
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
    /// Continue a lost worker.
    Resume {
        /// Its ticket.
        ticket: TicketId,
        /// Which.
        worker: WorkerId,
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
    /// Its lost worker, which would go on; else it is started.
    pub(crate) resumes: Option<&'a WorkerId>,
}

/// What is known while deciding: what takes a place grows with every step.
pub(crate) struct Draft<'a> {
    /// What is seen.
    pub(crate) world: &'a World,
    /// By which rules.
    pub(crate) rules: &'a Rules,
    /// The tickets that take a place by now, each with its agent.
    pub(crate) placed: BTreeMap<TicketId, AgentName>,
}

/// Says why a candidate is not worked on now; `None` where the rule has nothing against it.
type Veto = fn(&Draft<'_>, &Candidate<'_>) -> Option<Hold>;

/// The rules that a candidate has to pass, in order. The first that says no gives the reason; the more a reason tells, the
/// earlier its rule.
const VETOES: &[Veto] = &[agent_limit, model_limit, places];

/// Decides.
pub(crate) fn decide(world: &World, rules: &Rules) -> Decision {
    let mut draft = Draft { world, rules, placed: world.placed(rules) };
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
    land(world, &judged, &mut decision);
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
    /// It can land.
    Landable(WorkerId),
    /// Its next attempt is due.
    Requeue,
    /// Its publication was taken back.
    Publish,
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
    let judged = match entry.state {
        S::Landed | S::Done => Judged::Made,
        S::Review | S::Approved if !rules.lands => Judged::Made,
        S::Landing if !rules.lands => Judged::Moving,
        S::Cancelled => Judged::Failed("was cancelled".to_owned()),
        S::Dead => Judged::Failed(format!(
            "failed, after {}: {}",
            counted(entry.attempts as usize, "attempt"),
            failure(entry, seen)
        )),
        // Whatever is queued is another thing than whatever is written.
        S::Open if world.chosen.is_none() => Judged::Moving,
        S::Open => Judged::Publish,
        S::WaitingApproval => person(id, "waits for somebody to let it run".to_owned()),
        S::Blocked => Judged::Blocked,
        S::Queued => queued(world, rules, entry, seen),
        S::Running | S::Lost => running(world, rules, entry, seen),
        S::Failed => failed(world, rules, entry, seen),
        S::Review if !rules.approves => {
            let worker = seen.map_or(id.as_str(), |seen| seen.worker.id.as_str());
            person(id, format!("waits for a verdict: swarm review {worker}"))
        }
        S::Landing if entry.changed_at.age_at(world.now) < LANDING_SETTLES => Judged::Moving,
        S::Review | S::Approved | S::Landing => match seen {
            Some(seen) => Judged::Landable(seen.worker.id.clone()),
            None => person(id, "has no worker any more whose work could land: swarm recover list".to_owned()),
        },
    };
    match judged {
        Judged::Candidate(_) | Judged::Landable(_) | Judged::Requeue | Judged::Publish => {
            set_back(world, entry).unwrap_or(judged)
        }
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
    let agent = ticket.agent.clone().unwrap_or_else(|| rules.agent.clone());
    let facts = world.agents.get(&agent);
    let offers = |capability: &&String| facts.is_some_and(|facts| facts.capabilities.contains(capability));
    // Who names an agent means that one, whatever it says of itself.
    let missing: Vec<_> = ticket.capabilities.iter().filter(|capability| !offers(capability)).collect();
    match (ticket.agent.is_some(), missing.first()) {
        (false, Some(capability)) => person(
            &ticket.id,
            format!("needs `{capability}`, and agent `{agent}` does not offer it; name one that does"),
        ),
        _ => Judged::Candidate(Candidate { entry, agent, resumes: None }),
    }
}

/// A ticket whose attempt is under way, as far as the queue knows.
fn running<'a>(world: &World, rules: &Rules, entry: &'a QueueTicket, seen: Option<&'a Seen>) -> Judged<'a> {
    let id = &entry.ticket.id;
    let Some(seen) = seen else {
        // Whoever claimed it is about to write its worker down, or died before it could.
        let is_young = entry.changed_at.age_at(world.now) < CLAIM_SETTLES && entry.changed_at <= world.now;
        return if is_young { Judged::Moving } else { candidate(world, rules, entry) };
    };
    match seen.status {
        Status::Lost if seen.is_half_spawned() => candidate(world, rules, entry),
        Status::Lost if rules.run.restart == Restart::Never => {
            person(id, format!("lost its supervisor: swarm resume {}", seen.worker.id))
        }
        Status::Lost => {
            let resumes = Some(&seen.worker.id);
            Judged::Candidate(Candidate { entry, agent: seen.worker.agent.clone(), resumes })
        }
        Status::Waiting if !is_new(seen, world.now) => {
            person(id, format!("waits for a person ({}): swarm attach {}", seen.reason, seen.worker.id))
        }
        Status::Paused => person(id, format!("is paused: swarm resume {}", seen.worker.id)),
        _ => Judged::Moving,
    }
}

/// Whether a status is so young that it may pass.
fn is_new(seen: &Seen, now: Time) -> bool {
    seen.since.is_some_and(|since| since <= now && since.age_at(now) < QUESTION_SETTLES)
}

/// A ticket whose last attempt failed and that has attempts left.
fn failed<'a>(world: &World, rules: &Rules, entry: &QueueTicket, seen: Option<&Seen>) -> Judged<'a> {
    let id = &entry.ticket.id;
    if seen.is_some_and(|seen| seen.worker.is_begun() && seen.liveness == Liveness::Alive) {
        // Its supervisor has told the queue and is about to say how it ended.
        return Judged::Moving;
    }
    match seen.map(|seen| &seen.worker.phase) {
        Some(Phase::Ended { outcome: Outcome::Stopped { reason }, .. }) => {
            person(id, format!("was stopped ({reason}): swarm resume {id} goes on with it"))
        }
        Some(Phase::Ended { outcome: Outcome::LimitReached { reason }, .. }) => Judged::Held(Hold {
            ticket: id.clone(),
            kind: HoldKind::Limit,
            why: format!("{reason}; raise it in the ticket, then swarm run {id}"),
            until: None,
        }),
        _ => match entry
            .retry_at
            .or_else(|| backoff::due(entry.changed_at, entry.attempts, &rules.run.backoff, world.now))
        {
            Some(due) if due > world.now => Judged::Passing(Hold {
                ticket: id.clone(),
                kind: HoldKind::Time,
                why: format!(
                    "waits before attempt {}, because it failed: {}",
                    entry.attempts + 1,
                    failure(entry, seen)
                ),
                until: Some(due),
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

/// Gives candidates their places: lost workers first, which hold work already, then the others in claim order.
fn take_candidates<'a>(
    draft: &mut Draft<'a>,
    judged: &mut BTreeMap<&'a TicketId, Judged<'a>>,
    decision: &mut Decision,
) {
    for resumes in [true, false] {
        for entry in &draft.world.tickets {
            let id = &entry.ticket.id;
            let Some(Judged::Candidate(candidate)) = judged.get(id) else { continue };
            if candidate.resumes.is_some() != resumes || !draft.world.is_chosen(id) {
                continue;
            }
            if let Some(hold) = VETOES.iter().find_map(|veto| veto(draft, candidate)) {
                let held = if hold.kind.passes() { Judged::Passing(hold) } else { Judged::Held(hold) };
                judged.insert(id, held);
                continue;
            }
            draft.placed.insert(id.clone(), candidate.agent.clone());
            decision.steps.push(match candidate.resumes {
                Some(worker) => Step::Resume { ticket: id.clone(), worker: worker.clone() },
                None => Step::Start { ticket: id.clone(), agent: candidate.agent.clone() },
            });
        }
    }
}

/// As many workers run as may.
fn places(draft: &Draft<'_>, candidate: &Candidate<'_>) -> Option<Hold> {
    let (count, limit) = (draft.placed.len(), draft.rules.max_workers);
    (count >= limit).then(|| no_place(candidate, format!("waits for a place: {count} of {limit} workers run")))
}

/// As many workers run with its agent as may.
fn agent_limit(draft: &Draft<'_>, candidate: &Candidate<'_>) -> Option<Hold> {
    let limit = *draft.rules.run.max_per_agent.get(&candidate.agent)?;
    let count = draft.placed.values().filter(|agent| **agent == candidate.agent).count();
    let why = || format!("waits for a place: {count} of {limit} workers of agent `{}` run", candidate.agent);
    (count >= limit).then(|| no_place(candidate, why()))
}

/// As many workers run with its model as may.
fn model_limit(draft: &Draft<'_>, candidate: &Candidate<'_>) -> Option<Hold> {
    let model_of = |agent: &AgentName| draft.world.agents.get(agent).and_then(|facts| facts.model.as_ref());
    let model = model_of(&candidate.agent)?;
    let limit = *draft.rules.run.max_per_model.get(model)?;
    let count = draft.placed.values().filter(|agent| model_of(agent) == Some(model)).count();
    let why = || format!("waits for a place: {count} of {limit} workers of model `{model}` run");
    (count >= limit).then(|| no_place(candidate, why()))
}

/// A hold for want of a place.
pub(crate) fn no_place(candidate: &Candidate<'_>, why: String) -> Hold {
    Hold { ticket: candidate.entry.ticket.id.clone(), kind: HoldKind::Place, why, until: None }
}

/// What was judged of every entry, and where each stands: worked out once a look, however many need the same ticket.
struct Standings<'a> {
    world: &'a World,
    entries: &'a BTreeMap<&'a TicketId, &'a QueueTicket>,
    judged: &'a BTreeMap<&'a TicketId, Judged<'a>>,
    /// Those that are known; `None` while it is being worked out. The queue refuses circles, and one that is there all the
    /// same ends there.
    known: BTreeMap<TicketId, Option<Standing>>,
}

impl Standings<'_> {
    /// Where a ticket stands, by its own look and by those it needs.
    fn of(&mut self, id: &TicketId) -> Standing {
        if let Some(known) = self.known.get(id) {
            return known.clone().unwrap_or(Standing::Moving);
        }
        self.known.insert(id.clone(), None);
        let standing = match self.judged.get(id) {
            Some(Judged::Made) => Standing::Made,
            Some(Judged::Held(hold)) => Standing::Held(hold.clone()),
            Some(Judged::Failed(why)) => Standing::Failed(why.clone()),
            Some(Judged::Blocked) => self.blocked(id),
            _ => Standing::Moving,
        };
        self.known.insert(id.clone(), Some(standing.clone()));
        standing
    }

    /// Where a ticket stands whose dependencies are not satisfied: where the worst of them stands.
    fn blocked(&mut self, id: &TicketId) -> Standing {
        let Some(entry) = self.entries.get(id) else { return Standing::Moving };
        let mut worst = Standing::Moving;
        for dependency in &entry.waits_for {
            let now = self.needed(id, &dependency.ticket);
            if rank(&now) > rank(&worst) {
                worst = now;
            }
        }
        worst
    }

    /// Where a ticket stands for the sake of one that it needs.
    fn needed(&mut self, id: &TicketId, need: &TicketId) -> Standing {
        let held = |kind, why| Standing::Held(Hold { ticket: id.clone(), kind, why, until: None });
        let Some(needed) = self.entries.get(need) else {
            return held(HoldKind::Person, format!("waits for `{need}`, and there is no such ticket"));
        };
        let state = needed.state;
        match self.of(need) {
            Standing::Made => {
                held(HoldKind::Person, format!("waits for `{need}`, which is in {state} and has to land"))
            }
            Standing::Held(hold) => held(hold.kind, format!("waits for `{need}`, which {}", hold.why)),
            Standing::Failed(why) => Standing::Failed(format!("needs `{need}`, which {why}")),
            Standing::Moving if !self.world.is_chosen(need) && !state.is_begun() => {
                held(HoldKind::Person, format!("waits for `{need}`, which is {state} and not part of this run"))
            }
            Standing::Moving => Standing::Moving,
        }
    }
}

/// How bad a standing of a dependency is.
fn rank(standing: &Standing) -> u8 {
    match standing {
        Standing::Made | Standing::Moving => 0,
        Standing::Held(_) => 1,
        Standing::Failed(_) => 2,
    }
}

/// The holds of chosen tickets that move: for a place, for time, for another ticket.
fn passing_holds(standings: &mut Standings<'_>) -> Vec<Hold> {
    let (world, entries, judged) = (standings.world, standings.entries, standings.judged);
    let mut holds = Vec::new();
    for entry in world.tickets.iter().filter(|entry| world.is_chosen(&entry.ticket.id)) {
        let id = &entry.ticket.id;
        match judged.get(id) {
            Some(Judged::Passing(hold)) => holds.push(hold.clone()),
            Some(Judged::Blocked) if standings.of(id) == Standing::Moving => {
                let Some(need) = entry.waits_for.first().map(|dependency| &dependency.ticket) else { continue };
                let state = entries.get(need).map_or(S::Open, |needed| needed.state);
                let why = format!("waits for `{need}`, which is {state}");
                holds.push(Hold { ticket: id.clone(), kind: HoldKind::Dependency, why, until: None });
            }
            _ => {}
        }
    }
    holds
}

/// Lands everything that can land, in one go; a landing under way is waited for.
fn land(world: &World, judged: &BTreeMap<&TicketId, Judged<'_>>, decision: &mut Decision) {
    if world.doing.values().any(|doing| *doing == Doing::Landing) {
        return;
    }
    let mut workers = Vec::new();
    for entry in world.tickets.iter().filter(|entry| world.is_chosen(&entry.ticket.id)) {
        if let Some(Judged::Landable(worker)) = judged.get(&entry.ticket.id) {
            workers.push((entry.ticket.id.clone(), worker.clone()));
        }
    }
    if !workers.is_empty() {
        decision.steps.push(Step::Land { workers });
    }
}

#[cfg(test)]
mod tests;
