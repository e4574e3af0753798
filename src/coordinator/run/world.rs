//! What the coordinator sees at one moment, and by which rules it decides: plain data, so that deciding needs neither
//! disk nor clock.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

use super::distribution::Past;
use super::spend::Spent;
use crate::model::coordination::{Hold, HoldKind};
use crate::model::health::{Care, HealthSettings, Pace};
use crate::model::node::Assignments;
use crate::model::scaling::Scaled;
use crate::model::settings::RunSettings;
use crate::model::ticket::{StartFrom, Ticket, TicketState, start_of};
use crate::model::topology::{Token, Topology};
use crate::model::worker::{Live, Liveness, Phase, Status, Worker};
use crate::model::{AgentName, TicketId, Time, WorkerId};
use crate::queue::{QueueTicket, client_name};

/// Everything at one moment.
///
/// Workers were looked at before tickets: a ticket is never older than what is known about its worker, so one that is
/// queued here was not being started when its worker was looked at.
#[derive(Debug, Clone)]
pub(crate) struct World {
    /// The moment.
    pub(crate) now: Time,
    /// Milliseconds that the clock of the queue is ahead: its entries have times by that one.
    pub(crate) queue_ahead: i64,
    /// Every entry of the queue, in claim order: priority, then age.
    pub(crate) tickets: Vec<QueueTicket>,
    /// Every worker that was not released, oldest first.
    pub(crate) workers: Vec<Seen>,
    /// Every agent by its name.
    pub(crate) agents: BTreeMap<AgentName, AgentFacts>,
    /// How agents did so far, where tickets are distributed among several.
    pub(crate) past: Past,
    /// The tickets to bring to an end; `None` is every one.
    pub(crate) chosen: Option<BTreeSet<TicketId>>,
    /// What this coordinator is doing right now.
    pub(crate) doing: BTreeMap<TicketId, Doing>,
    /// What it tried and could not do, by ticket.
    pub(crate) setbacks: BTreeMap<TicketId, Setback>,
    /// What whoever leads says holds tickets for somebody, while this coordinator stands by: only the leader knows what it
    /// tried in vain.
    pub(crate) told: BTreeMap<TicketId, Hold>,
    /// Whether somebody else leads, and is there.
    pub(crate) is_led: bool,
    /// Who leads and lands nothing for as long as it lives, while this coordinator stands by and would land.
    pub(crate) never_lands: Option<String>,
    /// Whether no process lands: then whatever is landing was left so by a dead one.
    pub(crate) nobody_lands: bool,
    /// Landings that are not over though the target has their work: of each ticket the worker that is not released, or
    /// whose intent is open.
    pub(crate) unfinished: BTreeMap<TicketId, WorkerId>,
    /// Models that asked for patience.
    pub(crate) paces: Vec<Pace>,
    /// How workers ended badly, and what was done about those that did not go on.
    pub(crate) cares: BTreeMap<WorkerId, Care>,
    /// What was spent, and what may be.
    pub(crate) spent: Spent,
    /// The nodes that share the queue.
    pub(crate) nodes: Nodes,
    /// The supervisor that owns each ticket, in a hierarchy.
    pub(crate) owners: BTreeMap<TicketId, String>,
    /// The tokens of tickets that go round a ring.
    pub(crate) tokens: BTreeMap<TicketId, Token>,
}

/// The nodes that share a queue, as this one sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Nodes {
    /// This one's name; `None` where the queue is not shared.
    pub(crate) own: Option<String>,
    /// Whether this one takes nothing new.
    pub(crate) is_draining: bool,
    /// The others that are registered, by name.
    pub(crate) peers: BTreeMap<String, Peer>,
    /// Whether they are looked at; else whoever holds something may be there.
    pub(crate) is_watched: bool,
    /// The tickets that others have in hand, and of which nothing was heard for as long as a lease lasts.
    pub(crate) over: BTreeSet<TicketId>,
    /// Which node is to take which ticket, where one node assigns; within, `None` where none has done so yet.
    pub(crate) assignments: Option<Option<Assignments>>,
}

/// Another node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Whether it has said nothing for too long.
    pub(crate) is_gone: bool,
    /// Whether it lands what is approved.
    pub(crate) lands: bool,
    /// What it offers beside what its agents offer.
    pub(crate) capabilities: Vec<String>,
    /// Whether it takes nothing new.
    pub(crate) is_draining: bool,
    /// The tickets that somebody chose for it; `None` where it takes any.
    pub(crate) chosen: Option<BTreeSet<TicketId>>,
    /// Workers that ran there when it was heard last.
    pub(crate) running: usize,
    /// Workers that may run there at once.
    pub(crate) limit: usize,
}

impl Peer {
    /// Whether it would take this ticket.
    pub(crate) fn takes(&self, ticket: &TicketId) -> bool {
        !self.is_draining && self.chosen.as_ref().is_none_or(|chosen| chosen.contains(ticket))
    }
}

impl Nodes {
    /// The other node that holds or last held a ticket; `None` where it is this one's. A worker here under the same lease
    /// makes it this one's, whatever it was called then; another program on the server is no node.
    pub(crate) fn holder<'a>(&self, entry: &'a QueueTicket, seen: Option<&Seen>) -> Option<&'a str> {
        let own = self.own.as_deref()?;
        let node = entry.node.as_deref().filter(|node| *node != own && client_name(node).is_none())?;
        let is_here = seen.is_some_and(|seen| seen.worker.attempt.fence == entry.fence);
        (!is_here).then_some(node)
    }

    /// Whether another node is there, as far as anybody looks.
    pub(crate) fn is_there(&self, node: &str) -> bool {
        !self.is_watched || self.peers.get(node).is_some_and(|peer| !peer.is_gone)
    }

    /// Whether another node may be at work on a ticket that it holds: it is there, or has been gone for less than a lease.
    pub(crate) fn may_be_at(&self, node: &str, ticket: &TicketId) -> bool {
        self.is_there(node) || !self.over.contains(ticket)
    }
}

/// A worker with what is known about it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Its row.
    pub(crate) worker: Worker,
    /// Whether its supervisor lives, or before there is one, its spawner.
    pub(crate) liveness: Liveness,
    /// What its supervisor wrote last in this attempt.
    pub(crate) live: Option<Live>,
    /// What it is doing.
    pub(crate) status: Status,
    /// Why that is said, as a clause.
    pub(crate) reason: String,
    /// Since when, where that is known.
    pub(crate) since: Option<Time>,
}

/// What deciding needs to know about an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AgentFacts {
    /// Its model; `None` is the default of its program.
    pub(crate) model: Option<String>,
    /// The model that it asks, as patience is asked for it.
    pub(crate) asks: String,
    /// What it offers.
    pub(crate) capabilities: Vec<String>,
}

/// What the coordinator is doing with a ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Doing {
    /// Starting or resuming its worker; it takes a place.
    Starting {
        /// With whom, where that was chosen for it; else as its worker's row or the ticket says.
        agent: Option<AgentName>,
    },
    /// Landing its work.
    Landing,
    /// Ending its worker.
    Stopping,
    /// Looking after its worker, which does not go on.
    Caring,
}

/// Something that was tried for a ticket and could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setback {
    /// What it would take.
    pub(crate) kind: HoldKind,
    /// Why, as a clause to follow the ticket's name.
    pub(crate) why: String,
    /// When it is tried again; `None` is when the ticket has changed since.
    pub(crate) until: Option<Time>,
    /// The ticket as it was then: state and fence.
    pub(crate) at: (TicketState, u64),
    /// How often in a row.
    pub(crate) count: u32,
}

/// Forgets what waits for a change of a ticket whose state has changed since: it may be back in the same state at the
/// next look, as one that was blocked for a while by work that its dependency got back. And what was tried for one whose
/// landing is over.
pub(super) fn forget_changed(setbacks: &mut BTreeMap<TicketId, Setback>, world: &World) {
    for entry in &world.tickets {
        let id = &entry.ticket.id;
        let has_changed = |setback: &Setback| setback.until.is_none() && setback.at.0 != entry.state;
        let is_over = entry.state == TicketState::Landed && !world.unfinished.contains_key(id);
        if is_over || setbacks.get(id).is_some_and(has_changed) {
            setbacks.remove(id);
        }
    }
}

/// The rules of one run: settings and flags.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// Workers at once, as configured.
    pub(crate) max_workers: usize,
    /// The same where scaling says otherwise.
    pub(crate) scaled: Option<Scaled>,
    /// Who takes which tickets.
    pub(crate) topology: Topology,
    /// The agent of tickets that name none.
    pub(crate) agent: AgentName,
    /// What this node offers beside what agents offer.
    pub(crate) offers: Vec<String>,
    /// The section `run` of the settings.
    pub(crate) run: RunSettings,
    /// The section `health` of the settings.
    pub(crate) health: HealthSettings,
    /// Whether it lands what is approved.
    pub(crate) lands: bool,
    /// Whether work may land that no person approved.
    pub(crate) approves: bool,
    /// How long a pull request that was looked at is not looked at again.
    pub(crate) forge_poll: Duration,
}

impl Rules {
    /// Workers at once.
    pub(crate) fn limit(&self) -> usize {
        self.scaled.as_ref().map_or(self.max_workers, |scaled| scaled.workers)
    }
}

impl World {
    /// The moment by the clock of the queue.
    pub(crate) fn queue_now(&self) -> Time {
        Time::from_millis(self.now.as_millis() + self.queue_ahead)
    }

    /// A moment of the queue's clock by this machine's.
    pub(crate) fn by_own_clock(&self, at: Time) -> Time {
        Time::from_millis(at.as_millis() - self.queue_ahead)
    }

    /// A world of which nothing is known yet.
    pub(crate) fn empty(chosen: Option<BTreeSet<TicketId>>) -> Self {
        Self {
            now: Time::now(),
            queue_ahead: 0,
            tickets: Vec::new(),
            workers: Vec::new(),
            agents: BTreeMap::new(),
            past: Past::default(),
            chosen,
            doing: BTreeMap::new(),
            setbacks: BTreeMap::new(),
            told: BTreeMap::new(),
            is_led: false,
            never_lands: None,
            nobody_lands: false,
            unfinished: BTreeMap::new(),
            paces: Vec::new(),
            cares: BTreeMap::new(),
            spent: Spent::default(),
            nodes: Nodes::default(),
            owners: BTreeMap::new(),
            tokens: BTreeMap::new(),
        }
    }

    /// Takes over who owns which ticket in a hierarchy of nodes.
    pub(crate) fn adopt_assignments(&mut self, rules: &Rules) {
        if let (Topology::Hierarchical(_), Some(Some(known))) = (&rules.topology, &self.nodes.assignments) {
            self.owners = known.tickets.clone();
        }
    }

    /// How many tickets run at other nodes.
    pub(crate) fn elsewhere(&self) -> usize {
        let runs = |entry: &&QueueTicket| entry.state == TicketState::Running;
        let seen = |entry: &QueueTicket| self.worker_of(&entry.ticket.id);
        self.tickets.iter().filter(runs).filter(|entry| self.nodes.holder(entry, seen(entry)).is_some()).count()
    }

    /// The tickets that others work on: other nodes, but for those that this one could go on with, and other programs.
    pub(crate) fn worked_on_elsewhere(&self) -> impl Iterator<Item = &QueueTicket> {
        let is_held = |entry: &&QueueTicket| entry.state == TicketState::Running;
        let is_others = move |entry: &&QueueTicket| {
            let id = &entry.ticket.id;
            let node = self.nodes.holder(entry, self.worker_of(id));
            entry.client().is_some() || node.is_some_and(|node| self.nodes.may_be_at(node, id))
        };
        self.tickets.iter().filter(is_held).filter(is_others)
    }

    /// The node that holds or last held a ticket; `None` where that is none that is registered.
    pub(crate) fn node_of<'a>(&'a self, entry: &'a QueueTicket) -> Option<&'a str> {
        entry.node.as_deref().filter(|node| client_name(node).is_none())?;
        match self.nodes.holder(entry, self.worker_of(&entry.ticket.id)) {
            Some(node) => self.nodes.peers.contains_key(node).then_some(node),
            None => self.nodes.own.as_deref(),
        }
    }

    /// The ticket from whose branch one would start now, before that has landed; `None` where it starts from its base or
    /// target.
    pub(crate) fn begins_behind(&self, ticket: &Ticket) -> Option<&QueueTicket> {
        if ticket.base.is_some() || ticket.start_from != Some(StartFrom::Dependency) {
            return None;
        }
        let Ok(needs) = ticket.needs(|id| Ok::<_, Infallible>(self.ticket(id).map(|entry| entry.state)));
        self.ticket(&start_of(&needs)?.dependency.ticket)
    }

    /// The entry of a ticket.
    pub(crate) fn ticket(&self, id: &TicketId) -> Option<&QueueTicket> {
        self.tickets.iter().find(|entry| entry.ticket.id == *id)
    }

    /// The worker of a ticket; the first one, where there are variants.
    pub(crate) fn worker_of(&self, ticket: &TicketId) -> Option<&Seen> {
        self.workers.iter().find(|seen| seen.worker.ticket == *ticket)
    }

    /// Whether a ticket is among those to bring to an end.
    pub(crate) fn is_chosen(&self, ticket: &TicketId) -> bool {
        self.chosen.as_ref().is_none_or(|chosen| chosen.contains(ticket))
    }

    /// The workers that take a place: begun, alive, and their ticket runs. A worker whose work is in review only keeps its
    /// agent at hand.
    pub(crate) fn busy(&self) -> impl Iterator<Item = &Seen> {
        let running: BTreeSet<_> = self
            .tickets
            .iter()
            .filter(|entry| entry.state == TicketState::Running)
            .map(|entry| &entry.ticket.id)
            .collect();
        let is_busy = move |seen: &&Seen| {
            seen.worker.is_begun() && seen.liveness == Liveness::Alive && running.contains(&seen.worker.ticket)
        };
        self.workers.iter().filter(is_busy)
    }

    /// The tickets that take a place, each with its agent: those of busy workers, and those being started.
    pub(crate) fn placed(&self, rules: &Rules) -> BTreeMap<TicketId, AgentName> {
        let starting = self.doing.iter().filter_map(|(id, doing)| {
            let Doing::Starting { agent } = doing else { return None };
            let by_row = || self.worker_of(id).map(|seen| seen.worker.agent.clone());
            let by_ticket = || self.ticket(id).and_then(|entry| entry.ticket.agent.clone());
            let agent = agent.clone().or_else(by_row).or_else(by_ticket);
            Some((id.clone(), agent.unwrap_or_else(|| rules.agent.clone())))
        });
        let busy = self.busy().map(|seen| (seen.worker.ticket.clone(), seen.worker.agent.clone()));
        starting.chain(busy).collect()
    }
}

impl Seen {
    /// Whether it is the rest of a first spawn whose process died: there is nothing to go on with.
    pub(crate) fn is_half_spawned(&self) -> bool {
        matches!(self.worker.phase, Phase::Preparing { before: None, .. }) && self.liveness == Liveness::Dead
    }
}

#[cfg(test)]
impl Rules {
    /// Rules without anything particular, with room for so many workers.
    pub(crate) fn plain(max_workers: usize) -> Self {
        Self {
            max_workers,
            scaled: None,
            topology: Topology::by_default(),
            agent: "shell".parse().expect("a valid name"),
            offers: Vec::new(),
            run: RunSettings::default(),
            health: HealthSettings::default(),
            lands: true,
            approves: false,
            forge_poll: Duration::from_secs(15),
        }
    }
}
