//! Topologies: who may assign tickets to whom, and who may message whom. Everything here is a pure function of the
//! topology and its members.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::scope::Scope;
use super::ticket::Ticket;
use super::{TicketId, Time};

mod ring;
#[cfg(test)]
mod tests;

pub(crate) use ring::{Ring, RingOrder, Round, Skipped, Token};

/// Who may assign and message whom, and who takes which tickets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Topology {
    /// One coordinator assigns; workers hear nobody else.
    Star(Star),
    /// Everybody takes what they can and messages everybody, or everybody near.
    Mesh(Mesh),
    /// Supervisors own parts of the tickets and a few workers each.
    Hierarchical(Hierarchical),
    /// The branch of each ticket passes several agents in order.
    Ring(Ring),
}

/// Parameters of a star.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Star {
    /// Coordinators that assign at the same time; one.
    pub(crate) coordinator_count: usize,
    /// Workers of the whole swarm at once, beside `max_workers` of each machine.
    pub(crate) max_workers: usize,
    /// Whether another node assigns when the one that does is gone.
    pub(crate) failover_coordinator: bool,
}

impl Default for Star {
    fn default() -> Self {
        Self { coordinator_count: 1, max_workers: 50, failover_coordinator: true }
    }
}

/// Parameters of a mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Mesh {
    /// Whom a worker may message.
    pub(crate) connection_strategy: Connections,
    /// How often a node says how it is.
    pub(crate) gossip_interval_ms: u64,
    /// Who takes a ticket that several nodes could take.
    pub(crate) routing: Routing,
}

impl Default for Mesh {
    fn default() -> Self {
        Self { connection_strategy: Connections::Full, gossip_interval_ms: 1_000, routing: Routing::Broadcast }
    }
}

/// Who takes a ticket that several nodes of a mesh could take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Routing {
    /// Whoever is first.
    Broadcast,
    /// The one that has the least to do, for a moment; then whoever is first.
    Targeted,
}

/// Whom a worker of a mesh may message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Connections {
    /// Every worker.
    Full,
    /// Those whose tickets depend on its own or the other way round, and those that may touch the same files.
    Nearest,
}

/// Parameters of a hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Hierarchical {
    /// How many there are on each level.
    pub(crate) levels: Levels,
    /// Workers that one supervisor has at once.
    pub(crate) parent_child_ratio: usize,
}

impl Default for Hierarchical {
    fn default() -> Self {
        Self { levels: Levels::default(), parent_child_ratio: 4 }
    }
}

/// How many there are on each level of a hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Levels {
    /// Coordinators; one.
    pub(crate) coordinator: usize,
    /// Supervisors.
    pub(crate) supervisor: usize,
    /// Workers at once, beside `max_workers`.
    pub(crate) worker: usize,
}

impl Default for Levels {
    fn default() -> Self {
        Self { coordinator: 1, supervisor: 3, worker: 12 }
    }
}

/// What somebody is in a topology.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// The one who assigns to all others.
    Leader,
    /// One of several equals who assign, or one who stands by.
    Coordinator,
    /// Who assigns a part of the tickets.
    Supervisor,
    /// Who works on tickets.
    Worker,
}

impl Role {
    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Coordinator => "coordinator",
            Self::Supervisor => "supervisor",
            Self::Worker => "worker",
        }
    }
}

/// A worker as others see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Desk<'a> {
    /// Its ticket.
    pub(crate) ticket: &'a Ticket,
    /// The supervisor whose ticket that is, in a hierarchy.
    pub(crate) supervisor: Option<&'a str>,
}

impl Topology {
    /// The words for the kinds.
    pub(crate) const KINDS: &[&str] = &["star", "mesh", "hierarchical", "ring"];

    /// What holds where nobody chose one: a full mesh, in which every node takes what it can.
    pub(crate) fn by_default() -> Self {
        Self::Mesh(Mesh { gossip_interval_ms: 2_000, ..Mesh::default() })
    }

    /// Whether one node assigns tickets to all others, where several share a queue.
    pub(crate) fn has_assigner(&self) -> bool {
        matches!(self, Self::Star(_) | Self::Hierarchical(_))
    }

    /// Whether another node takes that over from one that is gone.
    pub(crate) fn fails_over(&self) -> bool {
        !matches!(self, Self::Star(Star { failover_coordinator: false, .. }))
    }

    /// How often a node says how it is; `None` where the topology says nothing of it.
    pub(crate) fn gossip(&self) -> Option<Duration> {
        match self {
            Self::Mesh(mesh) => Some(Duration::from_millis(mesh.gossip_interval_ms)),
            _ => None,
        }
    }

    /// The word for its kind.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Star(_) => "star",
            Self::Mesh(_) => "mesh",
            Self::Hierarchical(_) => "hierarchical",
            Self::Ring(_) => "ring",
        }
    }

    /// The role of whoever starts and lands: the leader's, unless there are several equals.
    pub(crate) fn role_of_coordinator(&self, leads: bool) -> Role {
        match self {
            Self::Mesh(_) => Role::Coordinator,
            _ if leads => Role::Leader,
            _ => Role::Coordinator,
        }
    }

    /// Whether somebody in this role may start workers and queue tickets. A person always may.
    pub(crate) fn may_assign(&self, role: Role) -> bool {
        role != Role::Worker || matches!(self, Self::Mesh(_))
    }

    /// Whether the agent of one worker may message another worker; people and coordinators reach everybody. `from` is
    /// `None` where it is no worker of this swarm.
    pub(crate) fn may_message(&self, from: Option<&Desk<'_>>, to: &Desk<'_>) -> bool {
        match (self, from) {
            (Self::Mesh(mesh), _) if mesh.connection_strategy == Connections::Full => true,
            (Self::Mesh(_), Some(from)) => are_near(from.ticket, to.ticket),
            (Self::Hierarchical(_), Some(from)) => from.supervisor.is_some() && from.supervisor == to.supervisor,
            (Self::Star(_) | Self::Ring(_), _) | (_, None) => false,
        }
    }

    /// Who may assign, as a sentence.
    pub(crate) fn assigns(&self) -> String {
        match self {
            Self::Star(_) => "the coordinator assigns every ticket, workers assign none".to_owned(),
            Self::Mesh(_) => "every coordinator takes what it can, and workers may start workers".to_owned(),
            Self::Hierarchical(_) => {
                "the coordinator gives tickets to supervisors, each of which assigns its own to workers".to_owned()
            }
            Self::Ring(_) => "the coordinator gives the branch of a ticket to one agent after the other".to_owned(),
        }
    }

    /// Who may message whom, as a sentence.
    pub(crate) fn messages(&self) -> String {
        let rule = match self {
            Self::Star(_) => "only people and coordinators message workers",
            Self::Mesh(mesh) if mesh.connection_strategy == Connections::Full => "everybody messages everybody",
            Self::Mesh(_) => "workers message those whose tickets need each other or may touch the same files",
            Self::Hierarchical(_) => "workers message those of the same supervisor",
            Self::Ring(_) => {
                "what an agent leaves goes to the next one, and only people and coordinators message workers"
            }
        };
        rule.to_owned()
    }

    /// The names of the supervisors among which tickets are shared out; none but in a hierarchy.
    pub(crate) fn supervisors(&self) -> Vec<String> {
        match self {
            Self::Hierarchical(own) => {
                (1..=own.levels.supervisor).map(|number| format!("supervisor-{number}")).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Workers at once in the whole swarm; `None` where the topology says nothing of it.
    pub(crate) fn max_workers(&self) -> Option<usize> {
        match self {
            Self::Star(own) => Some(own.max_workers),
            Self::Hierarchical(own) => Some(own.levels.worker),
            Self::Mesh(_) | Self::Ring(_) => None,
        }
    }

    /// The parameters of a ring, where it is one.
    pub(crate) fn ring(&self) -> Option<&Ring> {
        match self {
            Self::Ring(ring) => Some(ring),
            _ => None,
        }
    }

    /// What is wrong with the parameters together: which one, and why.
    pub(crate) fn fault(&self) -> Option<(&'static str, String)> {
        match self {
            Self::Star(own) if own.coordinator_count != 1 => {
                Some(("coordinator_count", "one coordinator assigns; more stand by of themselves".to_owned()))
            }
            Self::Star(own) if own.max_workers == 0 => {
                Some(("max_workers", "at least one worker is needed".to_owned()))
            }
            // A node counts as gone after seven seconds, and two of its signs may be lost.
            Self::Mesh(own) if !(1_000..=2_000).contains(&own.gossip_interval_ms) => {
                Some(("gossip_interval_ms", "expected a number from 1000 to 2000".to_owned()))
            }
            Self::Star(_) | Self::Mesh(_) => None,
            Self::Hierarchical(own) => own.fault(),
            Self::Ring(own) => own.fault(),
        }
    }
}

impl Hierarchical {
    /// What is wrong with it.
    fn fault(&self) -> Option<(&'static str, String)> {
        let (levels, ratio) = (&self.levels, self.parent_child_ratio);
        if levels.coordinator != 1 {
            return Some(("levels.coordinator", "one coordinator leads; more stand by of themselves".to_owned()));
        }
        if levels.supervisor == 0 || levels.supervisor > 64 {
            return Some(("levels.supervisor", "expected a number from 1 to 64".to_owned()));
        }
        if levels.worker == 0 || ratio == 0 {
            let key = if ratio == 0 { "parent_child_ratio" } else { "levels.worker" };
            return Some((key, "at least one worker is needed".to_owned()));
        }
        let most = levels.supervisor.saturating_mul(ratio);
        (levels.worker > most).then(|| {
            let count = levels.supervisor;
            ("levels.worker", format!("{count} supervisors with {ratio} workers each have {most} workers at most"))
        })
    }
}

/// Whether two tickets are near each other: one needs the other, or they say that they touch the same files.
fn are_near(one: &Ticket, other: &Ticket) -> bool {
    let needs = |one: &Ticket, other: &Ticket| one.depends_on.iter().any(|need| need.ticket == other.id);
    let (scope, others) = (Scope::new(&one.scope), Scope::new(&other.scope));
    let overlap = scope.is_stated() && others.is_stated() && scope.common(&others).is_some();
    needs(one, other) || needs(other, one) || overlap
}

/// Shares tickets that have no supervisor yet out among supervisors: what has its first label in common with tickets of
/// one goes there, everything else to the one with the fewest tickets, the first of several. Tickets of a supervisor that
/// is not there any more are shared out again. `tickets` are the unfinished ones in the order in which they were
/// published. The result has every one of them.
pub(crate) fn share_out(
    tickets: &[&Ticket],
    known: &BTreeMap<TicketId, String>,
    supervisors: &[String],
) -> BTreeMap<TicketId, String> {
    let mut owners = BTreeMap::new();
    for ticket in tickets {
        let owner = known.get(&ticket.id).filter(|owner| supervisors.contains(owner));
        owners.extend(owner.map(|owner| (ticket.id.clone(), owner.clone())));
    }
    for ticket in tickets {
        let owner = owner_of(ticket, tickets, &owners, supervisors);
        owners.extend(owner.map(|owner| (ticket.id.clone(), owner)));
    }
    owners
}

/// The supervisor that a ticket goes to; `None` where there is none, or the ticket has one.
pub(crate) fn owner_of(
    ticket: &Ticket,
    tickets: &[&Ticket],
    owners: &BTreeMap<TicketId, String>,
    supervisors: &[String],
) -> Option<String> {
    if owners.contains_key(&ticket.id) {
        return None;
    }
    let alike = |other: &&&Ticket| ticket.labels.first().is_some_and(|label| other.labels.first() == Some(label));
    let of_label = tickets.iter().filter(alike).filter_map(|other| owners.get(&other.id));
    let same = of_label.into_iter().find(|owner| supervisors.contains(owner)).cloned();
    let count = |name: &&String| owners.values().filter(|owner| owner == name).count();
    same.or_else(|| supervisors.iter().min_by_key(count).cloned())
}

/// A topology as configuration and `swarm topology set` write it: a kind with parameters, or the name of a saved one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct TopologySetting(Map<String, Value>);

/// What is wrong with a setting: the parameter where it is one, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopologyFault {
    /// The parameter, with dots.
    pub(crate) key: Option<String>,
    /// Why, as a clause.
    pub(crate) why: String,
}

/// A topology and the name it was chosen by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedTopology {
    /// Its name, where it is a saved one.
    pub(crate) name: Option<String>,
    /// The topology.
    pub(crate) topology: Topology,
}

impl TopologySetting {
    /// A kind or name with parameters, each `key=value`; a key with dots is a part of a part, a value with commas a list.
    pub(crate) fn parse(kind: &str, parameters: &[String]) -> Result<Self, TopologyFault> {
        let mut map = Map::from_iter([("kind".to_owned(), Value::from(kind))]);
        for parameter in parameters {
            let Some((key, text)) = parameter.split_once('=').filter(|(key, _)| !key.is_empty()) else {
                return Err(TopologyFault { key: None, why: format!("`{parameter}` is not KEY=VALUE") });
            };
            let word = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
            let value = match text.contains(',') {
                true => text.split(',').map(|part| word(part.trim())).collect(),
                false => word(text),
            };
            put(&mut map, key, value);
        }
        Ok(Self(map))
    }

    /// The topology that is meant, where these are saved by name.
    pub(crate) fn resolve(&self, saved: &BTreeMap<String, Topology>) -> Result<NamedTopology, TopologyFault> {
        let fault = |key: &str, why: String| TopologyFault { key: Some(key.to_owned()), why };
        let kind = self.0.get("kind").and_then(Value::as_str);
        let kind = kind.ok_or_else(|| fault("kind", "expected a kind, or the name of a saved topology".to_owned()))?;
        if !Topology::KINDS.contains(&kind) {
            let Some(topology) = saved.get(kind) else {
                let known = Topology::KINDS.iter().copied().chain(saved.keys().map(String::as_str));
                let known = known.collect::<Vec<_>>().join(", ");
                return Err(fault("kind", format!("there is no topology `{kind}`; there are {known}")));
            };
            if self.0.len() > 1 {
                return Err(fault("kind", format!("`{kind}` is saved with its parameters; it takes no others")));
            }
            return Ok(NamedTopology { name: Some(kind.to_owned()), topology: topology.clone() });
        }
        let topology: Topology = serde_json::from_value(Value::Object(self.0.clone()))
            .map_err(|error| TopologyFault { key: None, why: format!("no {kind}: {error}") })?;
        match topology.fault() {
            Some((key, why)) => Err(fault(key, why)),
            None => Ok(NamedTopology { name: None, topology }),
        }
    }
}

/// Puts a value where a key with dots says.
fn put(map: &mut Map<String, Value>, key: &str, value: Value) {
    match key.split_once('.') {
        Some((first, rest)) => {
            let slot = map.entry(first).or_insert_with(|| Value::Object(Map::new()));
            if !slot.is_object() {
                *slot = Value::Object(Map::new());
            }
            put(slot.as_object_mut().expect("it was made one above"), rest, value);
        }
        None => drop(map.insert(key.to_owned(), value)),
    }
}

/// The topology that somebody chose with `swarm topology set`, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TopologyRecord {
    /// Version of this shape.
    schema: u32,
    /// The name it was chosen by, where it was a saved one.
    pub(crate) name: Option<String>,
    /// The topology.
    pub(crate) topology: Topology,
    /// Who chose it.
    pub(crate) by: String,
    /// When.
    pub(crate) at: Time,
}

impl TopologyRecord {
    /// One that was chosen now.
    pub(crate) fn now(chosen: NamedTopology, by: String) -> Self {
        Self { schema: 1, name: chosen.name, topology: chosen.topology, by, at: Time::now() }
    }
}
