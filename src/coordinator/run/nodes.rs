//! This node among the others: it says again and again that it is there, and sees which of the others are.
//!
//! Who is gone is judged by this process's own clock alone: a node whose entry did not change while this one looked at it
//! for [`GONE_AFTER`], and a lease that did not change for as long as it may last. So neither clocks that differ nor a
//! server that was away for a while make anybody gone: after a gap the observation begins anew.

use std::collections::BTreeMap;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::carry::Bags;
use super::jobs::{Done, Job};
use super::world::{Nodes, Peer, World};
use super::{Engine, News};
use crate::coordinator::failure::Failure;
use crate::coordinator::register::{BEAT_EVERY, GONE_AFTER, Register, Registered, SILENT_AFTER, taken};
use crate::model::event::{NodeNews, SwarmEvent, SwarmRecord};
use crate::model::node::NodeRecord;
use crate::model::settings::LandingMode;
use crate::model::ticket::TicketState;
use crate::model::topology::TopologyRecord;
use crate::model::{NodeName, TicketId, Time, error_text};
use crate::process;
use crate::queue::{self, Hear, QueueTicket};
use crate::supervisor::SHARED_LEASE;

/// How often the others are looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long they may not be looked at; after a longer time the observation begins anew.
const LONGEST_GAP: Duration = Duration::from_secs(4);
/// How often it is looked for what nodes that are gone left on the server.
const SWEEP_EVERY: Duration = Duration::from_secs(5 * 60);
/// How long targets that could not follow are left alone.
const FOLLOW_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What one coordinator knows of the nodes.
pub(super) struct Neighbours {
    /// The register; `None` where the queue is not shared, and before the first look.
    register: Option<Register>,
    /// The revision of what this node said last, and when it said that.
    said: Option<(Option<u64>, Instant)>,
    /// When this node joined, as it said that.
    joined_at: Option<Time>,
    /// When the others were looked at.
    looked_at: Option<Instant>,
    /// The others as they were seen last, and since when they are so.
    sights: BTreeMap<NodeName, (Registered, Instant)>,
    /// The revisions of what the others had said when that was told last, and whether they were silent.
    told: BTreeMap<NodeName, (u64, bool)>,
    /// What others have in hand, and since when that is so.
    leases: BTreeMap<TicketId, (Lease, Instant)>,
    /// Whether this node takes nothing new.
    is_draining: bool,
    /// The topology that somebody chose, as the board says; `None` before the first look.
    topology: Option<Option<TopologyRecord>>,
    /// What the targets here follow.
    tips: Tips,
    /// What was handed over of the work here.
    pub(super) bags: Bags,
    /// When it was looked last for what others left on the server.
    swept_at: Option<Instant>,
    /// What tells and hears what was spent; it answers with what went wrong.
    sharing: Option<JoinHandle<Option<String>>>,
    /// What went wrong with that last.
    unshared: Option<String>,
}

/// What landed last in the swarm, as far as the targets here have followed it.
#[derive(Default)]
struct Tips {
    /// The tips as they were followed, by their revisions.
    followed: Vec<(String, u64)>,
    /// Those that are being followed.
    under_way: Option<Vec<(String, u64)>>,
    /// Why they could not be, and when that was tried.
    failed: Option<(String, Instant)>,
}

/// What changes about a ticket whenever its holder does anything.
type Lease = (TicketState, u64, Option<Time>);

impl Neighbours {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        Self {
            register: None,
            said: None,
            joined_at: None,
            looked_at: None,
            sights: BTreeMap::new(),
            told: BTreeMap::new(),
            leases: BTreeMap::new(),
            is_draining: false,
            topology: None,
            tips: Tips::default(),
            bags: Bags::default(),
            swept_at: None,
            sharing: None,
            unshared: None,
        }
    }

    /// The topology that somebody chose for all nodes; `None` where the queue is not shared.
    pub(super) fn topology(&self) -> Option<Option<TopologyRecord>> {
        self.topology.clone()
    }

    /// Takes a look at the register over; what changed about the others since the one before.
    fn see(&mut self, own: &NodeName, nodes: Vec<Registered>, now: Instant) -> Vec<(NodeName, NodeNews)> {
        let is_first = self.looked_at.is_none();
        if self.looked_at.is_some_and(|at| now.duration_since(at) > LONGEST_GAP) {
            // Nobody knows what they did meanwhile: the server may have been away.
            (self.sights, self.leases) = (BTreeMap::new(), BTreeMap::new());
        }
        self.looked_at = Some(now);
        self.is_draining = nodes.iter().any(|node| node.record.name == *own && node.is_draining);
        let mut before = std::mem::take(&mut self.sights);
        for node in nodes.into_iter().filter(|node| node.record.name != *own) {
            let known = before.remove(&node.record.name).filter(|(known, _)| known.revision == node.revision);
            let since = known.map_or(now, |(_, since)| since);
            self.sights.insert(node.record.name.clone(), (node, since));
        }
        self.news(is_first, now)
    }

    /// What changed about the others since that was told last. Who was silent is so until it says something, whatever was
    /// not seen meanwhile.
    fn news(&mut self, is_first: bool, now: Instant) -> Vec<(NodeName, NodeNews)> {
        let (mut before, mut news) = (std::mem::take(&mut self.told), Vec::new());
        for (name, (node, since)) in &self.sights {
            let (is_silent, what) = match before.remove(name) {
                None if is_first => (node.age >= SILENT_AFTER, None),
                None => (false, Some(NodeNews::Joined)),
                Some((said, true)) if said == node.revision => (true, None),
                Some((_, true)) => (false, Some(NodeNews::Back)),
                Some((_, false)) if now.duration_since(*since) < SILENT_AFTER => (false, None),
                Some((_, false)) => (true, Some(NodeNews::Silent)),
            };
            self.told.insert(name.clone(), (node.revision, is_silent));
            news.extend(what.map(|what| (name.clone(), what)));
        }
        news.extend(before.into_keys().map(|name| (name, NodeNews::Left)));
        news
    }

    /// Notes what others have in hand, by a lease or because they finished it.
    fn see_leases(&mut self, own: &str, tickets: &[QueueTicket], now: Instant) {
        let mut before = std::mem::take(&mut self.leases);
        let is_held = |entry: &&QueueTicket| entry.state.is_begun() || entry.state == TicketState::Lost;
        let is_others = |entry: &&QueueTicket| entry.node.as_deref().is_some_and(|node| node != own);
        for entry in tickets.iter().filter(is_held).filter(is_others) {
            let lease = (entry.state, entry.fence, entry.lease_until);
            // That a lease ran out is written down by whoever sees it: its holder did nothing.
            let is_as = |known: &Lease| *known == lease || (entry.state == TicketState::Lost && known.1 == entry.fence);
            let known = before.remove(&entry.ticket.id).filter(|(known, _)| is_as(known));
            self.leases.insert(entry.ticket.id.clone(), (lease, known.map_or(now, |(_, since)| since)));
        }
    }

    /// The nodes that are there, this one included: what each said last, and whether it takes nothing new.
    pub(super) fn present(&self, own: NodeRecord, now: Instant) -> Vec<(NodeRecord, bool)> {
        let is_there = |since: &Instant| now.duration_since(*since) < GONE_AFTER;
        let others = self.sights.values().filter(|(_, since)| is_there(since));
        let others = others.map(|(node, _)| (node.record.clone(), node.is_draining));
        others.chain([(own, self.is_draining)]).collect()
    }

    /// The register, where the queue is shared.
    pub(super) fn register(&self) -> Option<&Register> {
        self.register.as_ref()
    }

    /// The same for deciding.
    fn as_seen(&self, own: &NodeName, tickets: &[QueueTicket], now: Instant) -> Nodes {
        let peer = |(node, since): &(Registered, Instant)| Peer::of(node, now.duration_since(*since) >= GONE_AFTER);
        let is_over = |entry: &&QueueTicket| {
            let known = self.leases.get(&entry.ticket.id);
            known.is_some_and(|(_, since)| now.duration_since(*since) >= SHARED_LEASE)
        };
        Nodes {
            own: Some(own.to_string()),
            is_draining: self.is_draining,
            peers: self.sights.iter().map(|(name, sight)| (name.to_string(), peer(sight))).collect(),
            is_watched: self.looked_at.is_some(),
            over: tickets.iter().filter(is_over).map(|entry| entry.ticket.id.clone()).collect(),
            assignments: None,
        }
    }
}

impl Engine<'_> {
    /// Says that this node is there, where it leads, and looks at the others. Nothing where the queue is not shared.
    pub(super) fn meet_nodes(&mut self) -> Result<(), Failure> {
        let queue = self.control.project().queue()?;
        if queue.link().is_none() {
            return Ok(());
        }
        if self.nodes.register.is_none() {
            self.nodes.register = Register::open(&*queue)?;
        }
        let Some(register) = self.nodes.register.clone() else { return Ok(()) };
        let is_due = |at: Option<Instant>, every: Duration| at.is_none_or(|at| at.elapsed() >= every);
        if self.leads && is_due(self.nodes.said.map(|(_, at)| at), self.rules.topology.gossip().unwrap_or(BEAT_EVERY)) {
            self.beat(&register)?;
        }
        if is_due(self.nodes.looked_at, LOOK_EVERY) {
            self.begin_sharing()?;
            let own = self.control.project().node();
            let news = self.nodes.see(&own, register.nodes()?, Instant::now());
            for (node, to) in news.into_iter().filter(|_| self.leads) {
                self.face.tell(&News::Said(&format!("node {node} {}", to.clause())));
                self.note(SwarmRecord::now(&self.record.id, SwarmEvent::NodeChanged { node, to }))?;
            }
            self.nodes.topology = Some(register.topology()?.map(|(record, _)| record));
            if self.leads {
                self.follow_tips(&register)?;
                if is_due(self.nodes.swept_at, SWEEP_EVERY) {
                    self.nodes.swept_at = Some(Instant::now());
                    self.jobs.begin(Job::Sweep);
                }
            }
        }
        Ok(())
    }

    /// Tells what was spent and what happened here, and hears what was spent elsewhere, beside the loop, where that is not
    /// under way: there may be much of it.
    fn begin_sharing(&mut self) -> Result<(), Failure> {
        if let Some(sharing) = self.nodes.sharing.take_if(|sharing| sharing.is_finished()) {
            // A panic of the thread was reported when it happened.
            let failed = sharing.join().unwrap_or_default();
            if failed != self.nodes.unshared
                && let Some(error) = &failed
            {
                tracing::warn!(error, "what was spent, or what happened, could not be shared");
            }
            self.nodes.unshared = failed;
        }
        if self.nodes.sharing.is_some() {
            return Ok(());
        }
        let project = self.control.project();
        let (queue, store, paths) = (project.queue()?, project.store()?.clone(), project.paths.clone());
        self.nodes.sharing = Some(std::thread::spawn(move || {
            let shared = queue::share_spend(&*queue, &store, &paths, Duration::ZERO, Hear::IfDue);
            let told = queue::tell_events(&*queue, &store, &paths);
            shared.err().map(|error| error_text(&error)).or(told.err().map(|error| error_text(&error)))
        }));
        Ok(())
    }

    /// Begins to bring the targets here up to what landed elsewhere, where there is something new.
    fn follow_tips(&mut self, register: &Register) -> Result<(), Failure> {
        let mut now = register.tips()?;
        now.extend(self.pulled_elsewhere()?);
        let tips = &mut self.nodes.tips;
        let is_due = tips.failed.as_ref().is_none_or(|(_, at)| at.elapsed() >= FOLLOW_AGAIN_AFTER);
        if tips.under_way.is_none() && is_due && now != tips.followed {
            tips.under_way = Some(now);
            self.jobs.begin(Job::Follow);
        }
        Ok(())
    }

    /// The tickets that landed elsewhere by pull request: these have no tip.
    fn pulled_elsewhere(&self) -> Result<Vec<(String, u64)>, Failure> {
        let project = self.changed.as_ref().unwrap_or(self.control).project();
        if project.settings()?.landing.mode != LandingMode::Pr {
            return Ok(Vec::new());
        }
        let own = project.node();
        let tickets = self.last.iter().flat_map(|(world, _)| &world.tickets);
        let landed = tickets.filter(|entry| entry.state == TicketState::Landed);
        let elsewhere = landed.filter(|entry| entry.node.as_deref().is_some_and(|node| node != own.as_str()));
        Ok(elsewhere.map(|entry| (entry.ticket.id.to_string(), entry.fence)).collect())
    }

    /// Hears how that went.
    pub(super) fn followed(&mut self, followed: Result<Done, Failure>) {
        let tips = &mut self.nodes.tips;
        let now = tips.under_way.take().unwrap_or_default();
        match followed {
            Ok(done) => {
                (tips.followed, tips.failed) = (now, None);
                if let Done::Followed(told) = done {
                    told.iter().for_each(|what| self.face.tell(&News::Said(what)));
                }
            }
            Err(failure) => {
                let text = failure.chain.join(": ");
                if tips.failed.as_ref().is_none_or(|(known, _)| *known != text) {
                    self.face.tell(&News::Said(&format!("could not follow what other nodes landed: {text}")));
                }
                tips.failed = Some((text, Instant::now()));
            }
        }
    }

    /// What this node would say of itself now.
    pub(super) fn own_record(&self) -> Result<NodeRecord, Failure> {
        let mut record = self.control.project().node_record(self.rules.max_workers)?;
        record.scaled = self.rules.scaled.as_ref().map(|scaled| scaled.workers);
        record.running = self.last.as_ref().map_or(0, |(world, _)| world.busy().count());
        (record.lands, record.is_draining) = (self.rules.lands, self.nodes.is_draining);
        record.chosen = self.chosen.clone();
        Ok(record)
    }

    /// Says that this node is there.
    fn beat(&mut self, register: &Register) -> Result<(), Failure> {
        let now = Instant::now();
        let mut record = self.own_record()?;
        record.load = process::load_by_core();
        record.joined_at = self.nodes.joined_at.unwrap_or(record.joined_at);
        let mut known = self.nodes.said.and_then(|(revision, _)| revision);
        if known.is_none() {
            known = own_revision(register, &mut record)?;
        }
        let mut said = register.say(&record, known)?;
        if said.is_none() {
            // Somebody removed it, or `swarm node join` said it again.
            known = own_revision(register, &mut record)?;
            said = register.say(&record, known)?;
        }
        (self.nodes.said, self.nodes.joined_at) = (Some((said, now)), Some(record.joined_at));
        Ok(())
    }

    /// Adds the nodes to a look.
    pub(super) fn add_nodes(&mut self, world: &mut World) {
        let project = self.control.project();
        if self.nodes.register.is_none() {
            return;
        }
        let (own, now) = (project.node(), Instant::now());
        self.nodes.see_leases(own.as_str(), &world.tickets, now);
        // The look at the tickets may have waited for the server: for that long nobody was seen, and nobody is missed.
        world.nodes = self.nodes.as_seen(&own, &world.tickets, self.nodes.looked_at.unwrap_or(now));
    }

    /// Leaves the register as somebody who ends, so that nobody waits for a node that was never to stay.
    pub(super) fn leave_nodes(&mut self) {
        let project = self.control.project();
        let is_joined = project.settings().is_ok_and(|settings| settings.node.name.is_some());
        if let (Some(register), false, Some(_)) = (&self.nodes.register, is_joined, self.nodes.said.take())
            && let Err(error) = register.forget(&project.node())
        {
            tracing::warn!(error = error_text(&error), "this node could not be taken off the register");
        }
    }
}

impl Peer {
    /// A registered node, as deciding knows it.
    pub(in crate::coordinator) fn of(node: &Registered, is_gone: bool) -> Self {
        Self {
            is_gone,
            lands: node.record.lands,
            capabilities: node.record.capabilities.clone(),
            is_draining: node.is_draining,
            chosen: node.record.chosen.clone(),
            running: node.record.running,
            limit: node.record.limit(),
        }
    }
}

/// The revision of what is registered under a node's name, `None` where nothing is; since when it is there goes into
/// `record`.
fn own_revision(register: &Register, record: &mut NodeRecord) -> Result<Option<u64>, Failure> {
    match register.node(&record.name)? {
        Some(known) if known.record.clone != record.clone && !known.is_gone() => Err(taken(&record.name)),
        Some(known) => {
            if known.record.clone == record.clone {
                record.joined_at = known.record.joined_at;
            }
            Ok(Some(known.revision))
        }
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ticket::Ticket;

    /// A node that said something under this revision.
    fn node(name: &str, revision: u64) -> Registered {
        let record = NodeRecord::new(name.parse().unwrap(), "clone".to_owned(), Vec::new(), 1);
        Registered { record, revision, age: Duration::ZERO, is_draining: false }
    }

    /// A ticket that another node holds.
    fn held(lease_until: i64, changed_at: i64) -> QueueTicket {
        let at = Time::from_millis;
        QueueTicket {
            state: TicketState::Running,
            fence: 1,
            node: Some("other".to_owned()),
            lease_until: Some(at(lease_until)),
            changed_at: at(changed_at),
            ..QueueTicket::unpublished(Ticket::plain("one".parse().unwrap()), at(0))
        }
    }

    #[test]
    fn a_node_is_gone_when_it_says_nothing_while_it_is_looked_at() {
        let (own, began) = ("own".parse().unwrap(), Instant::now());
        let mut nodes = Neighbours::new();
        let is_gone_at = |nodes: &mut Neighbours, revision, after: u64| {
            let now = began + Duration::from_secs(after);
            nodes.see(&own, vec![node("own", 9), node("other", revision)], now);
            let seen = nodes.as_seen(&own, &[], now);
            assert_eq!(seen.peers.len(), 1);
            seen.peers["other"].is_gone
        };
        let mut first_gone = |revision, from: u64| (from..).find(|after| is_gone_at(&mut nodes, revision, *after));
        assert_eq!((first_gone(1, 0), first_gone(2, 8)), (Some(7), Some(15)));
        // The server was away: nobody could say anything.
        assert_eq!(first_gone(2, 40), Some(47));
    }

    #[test]
    fn what_other_nodes_do_is_told_once() {
        let (own, began) = ("own".parse().unwrap(), Instant::now());
        let mut nodes = Neighbours::new();
        let mut news = |after: u64, there: &[(&str, u64)]| {
            let there = there.iter().map(|(name, revision)| node(name, *revision)).collect();
            let news = nodes.see(&own, there, began + Duration::from_millis(after));
            news.into_iter().map(|(name, what)| format!("{name} {}", what.clause())).collect::<Vec<_>>()
        };
        assert_eq!(news(0, &[("own", 1), ("other", 1)]), [""; 0], "it was there before");
        assert_eq!(news(1_000, &[("other", 1), ("new", 1)]), ["new joined"]);
        assert_eq!(news(4_499, &[("other", 1), ("new", 2)]), [""; 0]);
        assert_eq!(news(4_500, &[("other", 1), ("new", 2)]), ["other says nothing any more"]);
        assert_eq!(news(5_000, &[("other", 1), ("new", 2)]), [""; 0]);
        // The server was away: of one that was heard nobody knows.
        assert_eq!(news(60_000, &[("other", 1), ("new", 2)]), [""; 0]);
        assert_eq!(news(61_000, &[("other", 2), ("new", 3)]), ["other is heard again"]);
        assert_eq!(news(62_000, &[("new", 3)]), ["other was taken off the register"]);
    }

    #[test]
    fn a_lease_is_over_when_it_stays_as_it_is_for_longer_than_it_lasts_whatever_the_clocks_say() {
        let (own, began) = ("own".parse().unwrap(), Instant::now());
        let mut nodes = Neighbours::new();
        let mut is_over_at = |entry: &QueueTicket, after: u64| {
            let now = began + Duration::from_secs(after);
            nodes.looked_at = Some(now);
            nodes.see_leases("own", std::slice::from_ref(entry), now);
            !nodes.as_seen(&own, std::slice::from_ref(entry), now).over.is_empty()
        };
        let renewed = held(9_000_000, 0);
        assert!(!is_over_at(&renewed, 0) && !is_over_at(&renewed, 7) && is_over_at(&renewed, 8));
        assert!(!is_over_at(&held(9_000_001, 0), 9), "it was renewed");
        let lost = QueueTicket { state: TicketState::Lost, lease_until: None, ..held(9_000_001, 0) };
        assert!(!is_over_at(&lost, 16) && is_over_at(&lost, 17), "its holder did nothing");
    }
}
