//! `topology show|list|set|reset`, and what the topology in force forbids the agents of workers.

use std::collections::BTreeMap;

use super::bus::Speaker;
use super::{Control, is_released};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::register::Register;
use crate::coordinator::views::{
    LinkKind, LinkView, MemberKind, MemberView, NodeView, SavedTopologyView, TokenView, TopologiesView,
    TopologyChangedView, TopologySource, TopologyView, VIEW_VERSION,
};
use crate::model::event::{SwarmEvent, SwarmRecord};
use crate::model::message::SenderKind;
use crate::model::ticket::{Ticket, TicketState};
use crate::model::topology::{
    Desk, NamedTopology, Role, Token, Topology, TopologyFault, TopologyRecord, TopologySetting, share_out,
};
use crate::model::{AgentName, TicketId, Time, WorkerId};
use crate::queue::QueueTicket;

/// Links between workers that are listed at most.
const LINKS_SHOWN: usize = 300;

/// A worker with its ticket, and what it does where that is known.
type Seated<'a> = (WorkerId, &'a QueueTicket, Option<String>);

/// The topology that holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::coordinator) struct InForce {
    /// Which one.
    pub(in crate::coordinator) chosen: NamedTopology,
    /// Who decided that.
    pub(in crate::coordinator) source: TopologySource,
}

impl InForce {
    /// What it is called: its name, or its kind.
    pub(in crate::coordinator) fn title(&self) -> String {
        let kind = self.chosen.topology.kind();
        self.chosen.name.as_ref().map_or_else(|| kind.to_owned(), |name| format!("{name} ({kind})"))
    }
}

impl Control {
    /// The topology that holds now: what somebody set, else what the configuration says, else a mesh.
    pub(in crate::coordinator) fn topology(&self) -> Result<InForce, Failure> {
        let register = Register::open(&*self.project.queue()?)?;
        let record = match &register {
            Some(register) => register.topology()?.map(|(record, _)| record),
            None => self.project.store()?.topology()?,
        };
        self.topology_by(record)
    }

    /// The same where this is what somebody set.
    pub(in crate::coordinator) fn topology_by(&self, record: Option<TopologyRecord>) -> Result<InForce, Failure> {
        if let Some(TopologyRecord { name, topology, .. }) = record {
            return Ok(InForce { chosen: NamedTopology { name, topology }, source: TopologySource::Set });
        }
        let settings = self.project.settings()?;
        let Some(setting) = &settings.topology else {
            let chosen = NamedTopology { name: None, topology: Topology::by_default() };
            return Ok(InForce { chosen, source: TopologySource::Default });
        };
        let chosen = setting.resolve(&settings.topologies).map_err(|fault| refused(&fault))?;
        Ok(InForce { chosen, source: TopologySource::Configuration })
    }

    /// The owner of each ticket that is not over, in a topology with supervisors.
    pub(in crate::coordinator) fn owners(
        &self,
        topology: &Topology,
        tickets: &[QueueTicket],
    ) -> Result<BTreeMap<TicketId, String>, Failure> {
        let supervisors = topology.supervisors();
        if supervisors.is_empty() {
            return Ok(BTreeMap::new());
        }
        if let Some(register) = Register::open(&*self.project.queue()?)? {
            // The nodes are the supervisors.
            return Ok(register.assignments()?.map(|(known, _)| known.tickets).unwrap_or_default());
        }
        let mut open: Vec<_> = tickets.iter().filter(|entry| !entry.state.is_ended()).collect();
        open.sort_by_key(|entry| (entry.published_at, &entry.ticket.id));
        let open: Vec<&Ticket> = open.into_iter().map(|entry| &entry.ticket).collect();
        Ok(share_out(&open, &self.project.store()?.owners()?, &supervisors))
    }

    /// Refuses to let the agent of a worker start or queue something where the topology leaves that to others.
    pub(super) fn check_may_assign(&self) -> Result<(), Failure> {
        let speaker = self.speaker()?;
        if speaker.from.kind != SenderKind::Worker {
            return Ok(());
        }
        let topology = self.topology()?.chosen.topology;
        if topology.may_assign(Role::Worker) {
            return Ok(());
        }
        let text = format!(
            "worker `{}` may not assign work to others: the topology is {}, in which {}",
            speaker.from.name,
            topology.kind(),
            topology.assigns()
        );
        Err(Failure::new(FailureKind::Failed, text)
            .hint("an agent writes what is left to do into its last message; a person starts it")
            .hint("swarm topology show tells who may assign to whom"))
    }

    /// Refuses a message from one worker's agent to another worker where the topology does not let them talk.
    pub(super) fn check_may_message(&self, speaker: &Speaker, to: &WorkerId, ticket: &TicketId) -> Result<(), Failure> {
        if speaker.from.kind != SenderKind::Worker {
            return Ok(());
        }
        let topology = self.topology()?.chosen.topology;
        if topology == Topology::by_default() {
            return Ok(());
        }
        let tickets = self.project.queue()?.snapshot()?;
        let owners = self.owners(&topology, &tickets)?;
        let desk = |id: &TicketId| {
            let entry = tickets.iter().find(|entry| entry.ticket.id == *id)?;
            Some(desk(&entry.ticket, &owners))
        };
        let own = speaker.worker.as_ref().and_then(|worker| desk(&worker.ticket));
        if desk(ticket).is_some_and(|to| topology.may_message(own.as_ref(), &to)) {
            return Ok(());
        }
        let text = format!(
            "worker `{}` may not message `{to}`: the topology is {}, in which {}",
            speaker.from.name,
            topology.kind(),
            topology.messages()
        );
        Err(Failure::new(FailureKind::Failed, text)
            .hint("swarm bus publish coordination TEXT says it where everybody can read it")
            .hint("swarm topology show tells who may message whom"))
    }

    /// The topology that holds now, or one of this name as it would be, with everybody in it.
    pub(crate) fn topology_view(&self, name: Option<&str>) -> Result<TopologyView, Failure> {
        match name {
            None => self.view_of(self.topology()?),
            Some(name) => {
                let chosen = self.resolve(name, &[])?;
                self.view_of(InForce { chosen, source: TopologySource::Asked })
            }
        }
    }

    /// Every topology that can be chosen by a word.
    pub(crate) fn topologies(&self) -> Result<TopologiesView, Failure> {
        let now = self.topology()?.chosen;
        let saved = &self.project.settings()?.topologies;
        let names = Topology::KINDS.iter().map(|kind| (*kind).to_owned()).chain(saved.keys().cloned());
        let topologies = names.map(|name| {
            let chosen = self.resolve(&name, &[])?;
            Ok(SavedTopologyView { name, is_in_force: chosen == now, topology: chosen.topology })
        });
        Ok(TopologiesView { version: VIEW_VERSION, topologies: topologies.collect::<Result<_, Failure>>()? })
    }

    /// Makes another topology hold from now on; coordinators that run go by it at their next look.
    pub(crate) fn set_topology(
        &self,
        kind: &str,
        parameters: &[String],
        dry_run: bool,
    ) -> Result<TopologyChangedView, Failure> {
        let chosen = self.resolve(kind, parameters)?;
        if let Topology::Ring(ring) = &chosen.topology {
            ring.agents.iter().try_for_each(|agent| self.project.agent(agent).map(drop))?;
        }
        let by = self.chooser()?;
        self.change_topology(Some(TopologyRecord::now(chosen, by)), dry_run)
    }

    /// Lets the configuration decide again.
    pub(crate) fn reset_topology(&self) -> Result<TopologyChangedView, Failure> {
        self.chooser()?;
        self.change_topology(None, false)
    }

    /// Whoever runs this command, who must be no agent: it would decide for the others.
    fn chooser(&self) -> Result<String, Failure> {
        let speaker = self.speaker()?;
        if speaker.from.kind != SenderKind::Worker {
            return Ok(speaker.from.to_string());
        }
        let text = format!("worker `{}` may not change the topology of all", speaker.from.name);
        Err(Failure::new(FailureKind::Failed, text)
            .hint("a person does: swarm topology set, in a terminal of their own"))
    }

    /// What a word and parameters mean.
    fn resolve(&self, kind: &str, parameters: &[String]) -> Result<NamedTopology, Failure> {
        let saved = &self.project.settings()?.topologies;
        TopologySetting::parse(kind, parameters)
            .and_then(|setting| setting.resolve(saved))
            .map_err(|fault| refused(&fault))
    }

    /// Keeps what somebody chose, or nothing.
    fn change_topology(&self, record: Option<TopologyRecord>, dry_run: bool) -> Result<TopologyChangedView, Failure> {
        let before = self.topology()?;
        let now = self.topology_by(record.clone())?;
        let changed = now.chosen != before.chosen;
        if !dry_run {
            match Register::open(&*self.project.queue()?)? {
                Some(register) => register.set_topology(record.as_ref())?,
                None => self.project.store()?.set_topology(record.as_ref())?,
            }
        }
        if changed && !dry_run {
            let event = SwarmEvent::TopologyChanged { from: before.title(), to: now.title() };
            self.project.store()?.append_swarm_event(&SwarmRecord::now(&self.run, event))?;
        }
        let (title, old) = (now.title(), before.title());
        let text = match (dry_run, changed) {
            (true, true) => format!("Would change the topology from {old} to {title}"),
            (false, true) => format!("Changed the topology from {old} to {title}"),
            (_, false) => format!("The topology is {title} already"),
        };
        Ok(TopologyChangedView { version: VIEW_VERSION, dry_run, changed, text, now: self.view_of(now)? })
    }

    /// A topology with everybody who is there.
    fn view_of(&self, in_force: InForce) -> Result<TopologyView, Failure> {
        let topology = &in_force.chosen.topology;
        let tickets = self.project.queue()?.snapshot()?;
        let owners = self.owners(topology, &tickets)?;
        let mut members = self.coordinators(topology)?;
        let root = members.iter().find(|member| member.parent.is_none()).map(|member| member.id.clone());
        let is_shared = members.iter().any(|member| member.what == MemberKind::Node);
        for member in members.iter_mut().filter(|_| is_shared) {
            member.tickets = waiting(&member.id, &owners, &tickets);
        }
        let lanes = if is_shared { Vec::new() } else { topology.supervisors() };
        members.extend(supervisors(lanes, topology, root.as_deref(), &owners, &tickets));
        let (agents, passes) = ring_members(topology, root.as_deref());
        members.extend(agents);
        let tokens = self.project.store()?.tokens()?;
        let holder = |id: &TicketId| tokens.get(id).and_then(Token::holder).map(ToString::to_string);
        let workers = self.desks(&tickets)?;
        let mut links = Vec::new();
        for (worker, entry, status) in &workers {
            let node = members.iter().find(|member| entry.node.as_ref() == Some(&member.id));
            let by_node = node.map(|node| node.id.clone());
            let by_ring = holder(&entry.ticket.id).filter(|id| members.iter().any(|member| member.id == *id));
            let parent = by_ring.or(by_node).or_else(|| owners.get(&entry.ticket.id).cloned()).or_else(|| root.clone());
            members.push(MemberView {
                id: worker.to_string(),
                what: MemberKind::Worker,
                role: Role::Worker,
                parent,
                status: status.clone(),
                max_workers: None,
                tickets: vec![entry.ticket.id.to_string()],
            });
        }
        for member in &members {
            let from = member.parent.clone();
            links.extend(from.map(|from| LinkView { from, to: member.id.clone(), what: LinkKind::Assigns }));
        }
        links.extend(passes);
        let talks = talks(topology, &workers, &owners);
        let links_left_out = talks.len().saturating_sub(LINKS_SHOWN);
        links.extend(talks.into_iter().take(LINKS_SHOWN));
        Ok(TopologyView {
            version: VIEW_VERSION,
            at: Time::now(),
            source: in_force.source,
            assigns: topology.assigns(),
            messages: topology.messages(),
            name: in_force.chosen.name.clone(),
            topology: in_force.chosen.topology,
            members,
            links,
            tokens: tokens.into_iter().map(token_view).collect(),
            links_left_out,
        })
    }

    /// Who starts and lands: every node, or whoever coordinates this repository.
    fn coordinators(&self, topology: &Topology) -> Result<Vec<MemberView>, Failure> {
        let queue = self.project.queue()?;
        if let Some(register) = Register::open(&*queue)? {
            let assigner = register.assignments()?.map(|(known, _)| known.by).filter(|_| topology.has_assigner());
            let nodes = self.node_views(&register)?.into_iter();
            return Ok(nodes.map(|node| node_member(topology, node, assigner.as_deref())).collect());
        }
        let (parent, tickets) = (None, Vec::new());
        let leader = queue.leader(&self.role()?)?;
        let status = leader.as_ref().map_or("nobody coordinates", |_| "leads");
        let max_workers = self.project.settings()?.max_workers;
        let max_workers = topology.max_workers().map_or(max_workers, |most| most.min(max_workers));
        Ok(vec![MemberView {
            id: leader.map_or_else(|| "coordinator".to_owned(), |leader| leader.holder),
            what: MemberKind::Coordinator,
            role: topology.role_of_coordinator(true),
            parent,
            status: Some(status.to_owned()),
            max_workers: Some(max_workers),
            tickets,
        }])
    }

    /// Every worker on a ticket that is not over, here and at other nodes, with its status where it is known.
    fn desks<'a>(&self, tickets: &'a [QueueTicket]) -> Result<Vec<Seated<'a>>, Failure> {
        let workers = self.project.store()?.workers()?;
        let entries: BTreeMap<_, _> = tickets.iter().map(|entry| (&entry.ticket.id, entry)).collect();
        let mut found = Vec::new();
        for worker in workers.into_iter().filter(|worker| !is_released(worker)) {
            let Some(entry) = entries.get(&worker.ticket).filter(|entry| !entry.state.is_ended()) else { continue };
            let known = self.know(worker, Some(entry.state));
            found.push((known.worker.id, *entry, Some(known.verdict.status.as_str().to_owned())));
        }
        let own = self.project.node();
        let is_elsewhere = |entry: &&QueueTicket| {
            entry.state == TicketState::Running && entry.node.as_deref().is_some_and(|node| node != own.as_str())
        };
        for entry in tickets.iter().filter(is_elsewhere) {
            if !found.iter().any(|(_, known, _)| known.ticket.id == entry.ticket.id) {
                found.push((WorkerId::of(&entry.ticket.id, 1), entry, None));
            }
        }
        Ok(found)
    }
}

/// A worker as others see it, by its ticket.
fn desk<'a>(ticket: &'a Ticket, owners: &'a BTreeMap<TicketId, String>) -> Desk<'a> {
    Desk { ticket, supervisor: owners.get(&ticket.id).map(String::as_str) }
}

/// A node among the others, where this one assigns.
fn node_member(topology: &Topology, node: NodeView, assigner: Option<&str>) -> MemberView {
    let is_assigner = assigner == Some(node.name.as_str());
    let role = match topology {
        Topology::Hierarchical(_) if !is_assigner => Role::Supervisor,
        _ => topology.role_of_coordinator(is_assigner),
    };
    let ratio = match topology {
        Topology::Hierarchical(own) => own.parent_child_ratio,
        _ => usize::MAX,
    };
    MemberView {
        what: MemberKind::Node,
        role,
        parent: assigner.filter(|_| !is_assigner).map(str::to_owned),
        status: Some(node.state.as_str().to_owned()),
        max_workers: Some(node.max_workers.min(ratio)),
        tickets: Vec::new(),
        id: node.name,
    }
}

/// The tickets that wait for one owner.
fn waiting(name: &str, owners: &BTreeMap<TicketId, String>, tickets: &[QueueTicket]) -> Vec<String> {
    let is_waiting = |entry: &&QueueTicket| !entry.state.is_begun() && !entry.state.is_ended();
    let waiting = tickets.iter().filter(is_waiting).map(|entry| &entry.ticket.id);
    waiting.filter(|id| owners.get(id).is_some_and(|owner| owner == name)).map(ToString::to_string).collect()
}

/// The supervisors of these names with what waits for each.
fn supervisors(
    names: Vec<String>,
    topology: &Topology,
    root: Option<&str>,
    owners: &BTreeMap<TicketId, String>,
    tickets: &[QueueTicket],
) -> Vec<MemberView> {
    let Topology::Hierarchical(own) = topology else { return Vec::new() };
    let supervisor = |name: String| MemberView {
        what: MemberKind::Supervisor,
        role: Role::Supervisor,
        parent: root.map(str::to_owned),
        status: None,
        max_workers: Some(own.parent_child_ratio),
        tickets: waiting(&name, owners, tickets),
        id: name,
    };
    names.into_iter().map(supervisor).collect()
}

/// The agents of a ring, and who passes to whom.
fn ring_members(topology: &Topology, root: Option<&str>) -> (Vec<MemberView>, Vec<LinkView>) {
    let Some(ring) = topology.ring() else { return (Vec::new(), Vec::new()) };
    let agent = |name: &AgentName| MemberView {
        id: name.to_string(),
        what: MemberKind::Agent,
        role: Role::Worker,
        parent: root.map(str::to_owned),
        status: None,
        max_workers: None,
        tickets: Vec::new(),
    };
    let pass =
        |pair: &[AgentName]| LinkView { from: pair[0].to_string(), to: pair[1].to_string(), what: LinkKind::Passes };
    (ring.agents.iter().map(agent).collect(), ring.agents.windows(2).map(pass).collect())
}

/// A token as a view.
fn token_view((ticket, token): (TicketId, Token)) -> TokenView {
    TokenView {
        ticket: ticket.to_string(),
        holder: token.holder().cloned(),
        turn: token.turn + 1,
        since: token.since,
        agents: token.agents,
        skipped: token.skipped,
    }
}

/// Which workers may message each other.
fn talks(topology: &Topology, workers: &[Seated<'_>], owners: &BTreeMap<TicketId, String>) -> Vec<LinkView> {
    let mut links = Vec::new();
    for (index, (from, entry, _)) in workers.iter().enumerate() {
        let own = desk(&entry.ticket, owners);
        for (to, entry, _) in &workers[index + 1..] {
            if topology.may_message(Some(&own), &desk(&entry.ticket, owners)) {
                links.push(LinkView { from: from.to_string(), to: to.to_string(), what: LinkKind::Messages });
            }
        }
    }
    links
}

/// The failure for a setting that cannot be.
fn refused(fault: &TopologyFault) -> Failure {
    let key = fault.key.as_ref().map(|key| format!("`{key}`: ")).unwrap_or_default();
    Failure::new(FailureKind::Usage, format!("{key}{}", fault.why))
        .hint("swarm topology list shows the topologies with their parameters")
}
