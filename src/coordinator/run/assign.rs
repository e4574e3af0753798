//! Assigning tickets to nodes, in a topology in which one node does that for all of them.
//!
//! That node has the lease of a role, and says on the board which node is to take which ticket; every other one takes what is
//! assigned to it and nothing else. One that lost the role without noticing cannot write over what the next one said: the
//! entry is replaced only by who knows its last revision.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::lease::{Leading, Lease};
use super::schedule::suits;
use super::scope::scope_hold;
use super::world::{Rules, World};
use super::{Engine, News};
use crate::coordinator::failure::Failure;
use crate::model::TicketId;
use crate::model::coordination::ASSIGNER;
use crate::model::event::SwarmRecord;
use crate::model::node::Assignments;
use crate::model::ticket::{Ticket, TicketState};
use crate::model::topology::{Topology, owner_of};
use crate::queue::QueueTicket;

/// How often what another node assigned is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What one coordinator knows of who assigns.
#[derive(Default)]
pub(super) struct Assigner {
    /// The lease of the role, where this node may have it.
    lease: Option<Lease>,
    /// What is assigned, with the revision, and when that was looked at.
    seen: Option<(Option<(Assignments, u64)>, Instant)>,
}

impl Engine<'_> {
    /// Adds to a look which node is to take which ticket, and says so where that is for this node to say. Nothing where the
    /// queue is not shared, or the topology has nobody for that.
    pub(super) fn add_assignments(&mut self, world: &mut World) -> Result<(), Failure> {
        let Some(register) = self.nodes.register().cloned().filter(|_| self.rules.topology.has_assigner()) else {
            self.assigner.seen = None;
            return self.give_up_assigning();
        };
        let is_due = self.assigner.seen.as_ref().is_none_or(|(_, at)| at.elapsed() >= LOOK_EVERY);
        if is_due || self.assigner.lease.is_some() {
            self.assigner.seen = Some((register.assignments()?, Instant::now()));
        }
        let known = self.assigner.seen.as_ref().and_then(|(seen, _)| seen.clone());
        if self.leads && self.assigns(known.as_ref().map(|(known, _)| known.by.as_str()))? {
            let own = self.control.project().node();
            let (before, revision) =
                known.clone().map_or((BTreeMap::new(), None), |(known, revision)| (known.tickets, Some(revision)));
            let now = assign(world, &self.rules, &before);
            let is_mine = known.as_ref().is_some_and(|(known, _)| known.by == own.as_str());
            if (now != before || !is_mine) && register.assign(&Assignments::now(&own, now), revision)? {
                self.assigner.seen = Some((register.assignments()?, Instant::now()));
            }
        }
        let known = self.assigner.seen.as_ref().and_then(|(seen, _)| seen.as_ref());
        world.nodes.assignments = Some(known.map(|(known, _)| known.clone()));
        world.adopt_assignments(&self.rules);
        Ok(())
    }

    /// Whether this node assigns: it has the role, or takes it where it may.
    fn assigns(&mut self, before: Option<&str>) -> Result<bool, Failure> {
        let project = self.control.project();
        let own = project.node();
        let is_others = before.is_some_and(|node| node != own.as_str());
        if is_others && !self.rules.topology.fails_over() {
            self.give_up_assigning()?;
            return Ok(false);
        }
        if self.assigner.lease.is_none() {
            let (queue, paths) = (project.queue()?, project.paths.clone());
            self.assigner.lease = Some(Lease::new(queue, ASSIGNER.to_owned(), self.record.holder.clone(), paths));
        }
        let Some(lease) = self.assigner.lease.as_mut() else { return Ok(false) };
        let leading = lease.keep()?;
        let began = matches!(leading, Leading::Began(_));
        if let Some(event) = leading.fact(ASSIGNER) {
            self.note(SwarmRecord::now(&self.record.id, event))?;
        }
        if began {
            self.face.tell(&News::Said("this node assigns the tickets to all nodes"));
        }
        Ok(began || leading == Leading::Leads)
    }

    /// Gives the role up, where this node has it.
    pub(super) fn give_up_assigning(&mut self) -> Result<(), Failure> {
        let lost = match self.assigner.lease.take() {
            Some(mut lease) => lease.release()?,
            None => None,
        };
        if let Some(event) = lost.and_then(|leader| Leading::Lost(leader).fact(ASSIGNER)) {
            self.note(SwarmRecord::now(&self.record.id, event))?;
        }
        Ok(())
    }
}

/// A node that can take tickets.
struct Seat {
    name: String,
    limit: usize,
    capabilities: Vec<String>,
}

/// The node of each ticket that is not over: of one that is begun the one that has it, of others the one of before as long
/// as that is there, and else the one that the topology gives it to. In a star a ticket that waits goes to the node with room
/// that has the least to do, where nothing runs elsewhere that may touch the same files; in a hierarchy every ticket goes to a
/// node, whether that has room or not. One that starts from the branch of another ticket goes to the node that has that, or
/// waits.
fn assign(world: &World, rules: &Rules, before: &BTreeMap<TicketId, String>) -> BTreeMap<TicketId, String> {
    let seats = seats(world, rules);
    let is_there = |node: &str| seats.iter().any(|seat| seat.name == node);
    // A node for which somebody chose tickets takes no others.
    let takes = |node: &str, entry: &QueueTicket| match world.nodes.peers.get(node) {
        Some(peer) => peer.takes(&entry.ticket.id),
        None => world.is_chosen(&entry.ticket.id),
    };
    let is_free = |entry: &QueueTicket| match entry.state {
        TicketState::Running | TicketState::Lost => world.nodes.over.contains(&entry.ticket.id),
        state => !state.is_begun(),
    };
    let open: Vec<&QueueTicket> = world.tickets.iter().filter(|entry| !entry.state.is_ended()).collect();
    let mut now = BTreeMap::new();
    for entry in &open {
        let (id, start) = (&entry.ticket.id, start_node(world, entry));
        let earlier = before.get(id).map(String::as_str);
        let keeps = |node: &&str| is_there(node) && takes(node, entry) && start.is_none_or(|start| start == *node);
        let node = if is_free(entry) { earlier.filter(keeps) } else { world.node_of(entry).or(earlier) };
        now.extend(node.map(|node| (id.clone(), node.to_owned())));
    }
    let tickets: Vec<&Ticket> = open.iter().map(|entry| &entry.ticket).collect();
    for entry in open.iter().filter(|entry| is_free(entry)) {
        let (ticket, start) = (&entry.ticket, start_node(world, entry));
        let able = seats.iter().filter(|seat| takes(&seat.name, entry) && start.is_none_or(|start| start == seat.name));
        let able = able.filter(|seat| suits(world, rules, ticket, &seat.capabilities));
        let node = match &rules.topology {
            _ if now.contains_key(&ticket.id) => None,
            Topology::Star(_) if !is_waiting(entry) => None,
            Topology::Star(star) => {
                let free = with_room(world, able, &now, star.max_workers);
                let fresh = |id: &TicketId| now.get(id).filter(|_| !before.contains_key(id)).map(String::as_str);
                let seat = free.into_iter().find(|seat| is_apart(world, rules, ticket, &fresh, &seat.name));
                seat.map(|seat| seat.name.clone())
            }
            Topology::Hierarchical(own) => {
                let names: Vec<_> = able.map(|seat| seat.name.clone()).take(own.levels.supervisor).collect();
                owner_of(ticket, &tickets, &now, &names)
            }
            _ => None,
        };
        now.extend(node.map(|node| (ticket.id.clone(), node)));
    }
    now
}

/// The node at which alone a ticket can start now: the one that has the ticket from whose branch it starts.
fn start_node<'a>(world: &'a World, entry: &QueueTicket) -> Option<&'a str> {
    let is_startable = is_waiting(entry);
    world.begins_behind(&entry.ticket).filter(|_| is_startable).and_then(|need| world.node_of(need))
}

/// Whether a ticket could be worked on if a node took it.
fn is_waiting(entry: &QueueTicket) -> bool {
    matches!(entry.state, TicketState::Queued | TicketState::Running | TicketState::Lost)
}

/// Whether a ticket may go to a node though others may touch the same files: beside one that runs it goes nowhere, and beside
/// one that is `fresh` from being given to a node only there, since each node takes them one after the other. One that waits
/// at its node for something else keeps nobody back.
fn is_apart<'a>(
    world: &World,
    rules: &Rules,
    ticket: &Ticket,
    fresh: &impl Fn(&TicketId) -> Option<&'a str>,
    node: &str,
) -> bool {
    let is_beside = |entry: &&QueueTicket| match entry.state {
        TicketState::Running => !world.nodes.over.contains(&entry.ticket.id),
        TicketState::Queued => fresh(&entry.ticket.id).is_some_and(|given| given != node),
        _ => false,
    };
    let others = world.tickets.iter().filter(is_beside).map(|entry| &entry.ticket);
    rules.run.allow_scope_overlap || scope_hold(ticket, others).is_none()
}

/// The nodes that take tickets, by name.
fn seats(world: &World, rules: &Rules) -> Vec<Seat> {
    let own = world.nodes.own.clone().filter(|_| !world.nodes.is_draining);
    let own = own.map(|name| Seat { name, limit: rules.limit(), capabilities: rules.offers.clone() });
    let peers = world
        .nodes
        .peers
        .iter()
        .filter(|(_, peer)| !peer.is_gone && !peer.is_draining)
        .map(|(name, peer)| Seat { name: name.clone(), limit: peer.limit, capabilities: peer.capabilities.clone() });
    let mut seats: Vec<_> = own.into_iter().chain(peers).collect();
    seats.sort_by(|one, other| one.name.cmp(&other.name));
    seats
}

/// The nodes with room, the one that has the least to do for its size first; none where the whole swarm has as many workers
/// as it may.
fn with_room<'a>(
    world: &World,
    able: impl Iterator<Item = &'a Seat>,
    now: &BTreeMap<TicketId, String>,
    most: usize,
) -> Vec<&'a Seat> {
    let mut busy: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in world.tickets.iter().filter(|entry| is_waiting(entry)) {
        let holder = entry.node.as_deref().filter(|_| entry.state != TicketState::Queued);
        let node = now.get(&entry.ticket.id).map(String::as_str).or(holder);
        *busy.entry(node.unwrap_or_default()).or_default() += 1;
    }
    busy.remove("");
    if busy.values().sum::<usize>() >= most {
        return Vec::new();
    }
    let count = |seat: &Seat| busy.get(seat.name.as_str()).copied().unwrap_or_default();
    let mut free: Vec<_> = able.filter(|seat| count(seat) < seat.limit).collect();
    free.sort_by_key(|seat| count(seat) * 1_000 / seat.limit.max(1));
    free
}

#[cfg(test)]
mod tests;
