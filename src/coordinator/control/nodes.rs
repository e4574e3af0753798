//! `node join|list|drain|remove`: clones that work on one queue.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::{Control, UpRequest, is_released};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::register::{Register, Registered, SILENT_AFTER, taken};
use crate::coordinator::run::{Nodes, Peer};
use crate::coordinator::views::{NodeChangedView, NodeState, NodeView, NodesView, VIEW_VERSION};
use crate::files::{self, Access};
use crate::model::ticket::TicketState;
use crate::model::worker::Liveness;
use crate::model::{NodeName, Time};
use crate::queue::QueueTicket;

/// How long whoever asks a node for something waits until that has heard of it: it looks every second, and says how it is
/// every two.
const HEARD_WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked whether it has.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// What `node join` was asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct JoinRequest {
    /// The server; `None` is the one that is configured.
    pub(crate) server: Option<String>,
    /// The project's name there.
    pub(crate) project: Option<String>,
    /// What the node is called.
    pub(crate) name: Option<String>,
    /// What it offers beside what its agents offer.
    pub(crate) capabilities: Vec<String>,
    /// Workers at once.
    pub(crate) max_workers: Option<usize>,
    /// The remote that carries commits.
    pub(crate) remote: Option<String>,
    /// How its coordinator is started.
    pub(crate) up: UpRequest,
}

impl JoinRequest {
    /// The settings that follow from it, over those that the clone has already.
    fn settings(&self, name: &NodeName, mut known: Map<String, Value>) -> Map<String, Value> {
        fn section<'a>(known: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
            let slot = known.entry(key).or_insert_with(|| json!({}));
            if !slot.is_object() {
                *slot = json!({});
            }
            slot.as_object_mut().expect("it was made one above")
        }
        let queue = [("url", &self.server), ("project", &self.project)];
        for (key, value) in queue.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?))) {
            section(&mut known, "queue").insert(key.to_owned(), json!(value));
        }
        let node = section(&mut known, "node");
        node.insert("name".to_owned(), json!(name));
        if !self.capabilities.is_empty() {
            node.insert("capabilities".to_owned(), json!(self.capabilities));
        }
        if let Some(remote) = &self.remote {
            node.insert("remote".to_owned(), json!(remote));
        }
        if let Some(count) = self.max_workers {
            known.insert("max_workers".to_owned(), json!(count));
        }
        known
    }
}

impl Control {
    /// Makes this clone a node: writes its own settings, registers it, and starts its coordinator in the background. Where
    /// that cannot be, its settings are as before.
    pub(crate) fn node_join(&self, request: &JoinRequest) -> Result<NodeChangedView, Failure> {
        let path = self.project.paths.clone_settings();
        let before = files::read_if_exists(&path)?;
        // It is written as JSON, which is YAML.
        let known = before.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default();
        let name = match &request.name {
            Some(name) => name.parse()?,
            None => self.project.node(),
        };
        if name != self.project.node() {
            self.refuse_new_name()?;
        }
        let settings = Value::Object(request.settings(&name, known));
        let text = serde_json::to_vec_pretty(&settings).map_err(|e| Failure::from_error(FailureKind::Internal, &e))?;
        files::write_atomically(&path, &text, Access::Private)?;
        let joined = Self::open(self.project.call.clone(), self.trusts).and_then(|control| {
            control.register()?;
            // It goes by the new settings from its beginning.
            let up = control.down().and_then(|_| control.up(&request.up));
            if up.is_err() {
                control.project_register()?.forget(&name)?;
            }
            up
        });
        match joined {
            Ok(coordinator) => {
                let text = format!("Joined as node `{name}`. {}", coordinator.text);
                Ok(changed(&name, "joined", text))
            }
            Err(failure) => {
                match before {
                    Some(before) => files::write_atomically(&path, &before, Access::Private)?,
                    None => files::remove_if_exists(&path)?,
                }
                Err(failure)
            }
        }
    }

    /// Refuses to call this clone otherwise while workers hold tickets under the name that it has.
    fn refuse_new_name(&self) -> Result<(), Failure> {
        let mut workers = self.project.store()?.workers()?.into_iter().filter(|worker| !is_released(worker));
        match workers.find(|worker| self.liveness(worker) == Liveness::Alive) {
            None => Ok(()),
            Some(worker) => {
                let text = format!("worker `{}` runs under the name that this clone has", worker.id);
                Err(Failure::new(FailureKind::Failed, text).hint("wait for it, or end it: swarm stop"))
            }
        }
    }

    /// Registers this clone, free to take tickets.
    fn register(&self) -> Result<(), Failure> {
        self.project.repository.identity()?;
        let register = self.project_register()?;
        let record = self.project.node_record(self.project.settings()?.max_workers)?;
        let known = register.node(&record.name)?;
        if known.as_ref().is_some_and(|known| known.record.clone != record.clone && !known.is_gone()) {
            return Err(taken(&record.name));
        }
        register.set_draining(&record.name, false)?;
        match register.say(&record, known.map(|known| known.revision))? {
            Some(_) => Ok(()),
            None => Err(taken(&record.name)),
        }
    }

    /// The register of the project.
    fn project_register(&self) -> Result<Register, Failure> {
        let register = Register::open(&*self.project.queue()?)?;
        register.ok_or_else(|| {
            let text = "the queue of this project is in the repository, so there are no nodes";
            Failure::new(FailureKind::Usage, text).hint("swarm node join nats://HOST:PORT makes this clone one")
        })
    }

    /// The nodes that are registered.
    pub(crate) fn nodes_view(&self) -> Result<NodesView, Failure> {
        let nodes = self.node_views(&self.project_register()?)?;
        Ok(NodesView { version: VIEW_VERSION, at: Time::now(), nodes })
    }

    /// The same without the rest.
    pub(super) fn node_views(&self, register: &Register) -> Result<Vec<NodeView>, Failure> {
        let (own, tickets) = (self.project.node(), self.project.queue()?.snapshot()?);
        let view = |node: Registered| {
            let has_work = held_by(&tickets, &node.record.name).next().is_some();
            view(node, &own, has_work)
        };
        Ok(register.nodes()?.into_iter().map(view).collect())
    }

    /// The nodes as a single look can tell; nothing where the queue is not shared.
    pub(super) fn nodes_at_once(&self) -> Result<Nodes, Failure> {
        let Some(register) = Register::open(&*self.project.queue()?)? else { return Ok(Nodes::default()) };
        let own = self.project.node();
        let nodes = register.nodes()?;
        let is_draining = nodes.iter().any(|node| node.record.name == own && node.is_draining);
        let peer = |node: &Registered| (node.record.name.to_string(), Peer::of(node, node.is_gone()));
        let has_assigner = self.topology()?.chosen.topology.has_assigner();
        let known = register.assignments()?.map(|(known, _)| known);
        let assignments = has_assigner.then_some(known);
        let peers: BTreeMap<_, _> = nodes.iter().filter(|node| node.record.name != own).map(peer).collect();
        let over = BTreeSet::new();
        Ok(Nodes { own: Some(own.to_string()), is_draining, peers, is_watched: true, over, assignments })
    }

    /// Asks a node to take nothing new, or to take tickets again.
    pub(crate) fn node_drain(&self, name: Option<&str>, undo: bool) -> Result<NodeChangedView, Failure> {
        let register = self.project_register()?;
        let known = self.registered(&register, name)?;
        let name = known.record.name.clone();
        register.set_draining(&name, !undo)?;
        if undo {
            return Ok(changed(&name, "active", format!("Node `{name}` takes tickets again")));
        }
        let from_when = match Self::await_draining(&register, &name)? {
            true => "",
            false => " from its next look on; it has not answered yet",
        };
        let text = match known.record.running {
            0 => format!("Node `{name}` takes nothing new{from_when}; nothing runs there"),
            count => {
                let runs = if count == 1 { "its worker runs".to_owned() } else { format!("its {count} workers run") };
                format!(
                    "Node `{name}` takes nothing new{from_when}; {runs} on: swarm node list tells when it is drained"
                )
            }
        };
        Ok(changed(&name, "drained", text))
    }

    /// Waits until a node knows that it takes nothing new, for a moment; whether it does. One that is gone takes nothing.
    fn await_draining(register: &Register, name: &NodeName) -> Result<bool, Failure> {
        let begun = Instant::now();
        while begun.elapsed() < HEARD_WITHIN {
            if register.node(name)?.is_none_or(|node| node.record.is_draining || node.is_gone()) {
                return Ok(true);
            }
            std::thread::sleep(ASK_EVERY);
        }
        Ok(false)
    }

    /// Takes a node off the register: this one, whose coordinator is ended first, or one that is gone.
    ///
    /// # Errors
    /// While one has finished work, unless it is `forced`: of one that is gone the others take that over as long as it is on
    /// the register. What ran there they take over in any case; while anything runs here, it stays.
    pub(crate) fn node_remove(&self, name: Option<&str>, forced: bool) -> Result<NodeChangedView, Failure> {
        let register = self.project_register()?;
        let known = self.registered(&register, name)?;
        let (name, is_own) = (known.record.name.clone(), known.record.name == self.project.node());
        if !is_own && !known.is_gone() {
            let text = format!("node `{name}` is at work: only its own clone can take it off");
            return Err(Failure::new(FailureKind::Failed, text).hint(format!("swarm node drain {name}")));
        }
        let tickets = self.project.queue()?.snapshot()?;
        let held: Vec<_> = held_by(&tickets, &name).collect();
        if is_own && let Some(entry) = held.iter().find(|entry| entry.state == TicketState::Running) {
            let text = format!("ticket `{}` runs here", entry.ticket.id);
            return Err(Failure::new(FailureKind::Failed, text)
                .hint(format!("swarm node drain {name}, and wait for it; or swarm stop {}", entry.ticket.id)));
        }
        let finished: Vec<_> = held.into_iter().filter(|entry| entry.state != TicketState::Running).collect();
        if let Some(first) = finished.first().filter(|_| !forced) {
            let more = if finished.len() > 1 { format!(" and {} more", finished.len() - 1) } else { String::new() };
            let (is, lands) = match is_own {
                true => ("", "it lands here first: swarm merge, or swarm node list until this one is drained"),
                false => (
                    "is gone and ",
                    "where a node has joined with --merge it lands as long as this one is on the register",
                ),
            };
            let text = format!("node `{name}` {is}has `{}`{more}, which is {}", first.ticket.id, first.state);
            return Err(Failure::new(FailureKind::Failed, text)
                .hint(lands)
                .hint(format!("swarm node remove {name} --force leaves it to a person")));
        }
        if is_own {
            self.down()?;
            self.forget_node_settings()?;
        }
        register.forget(&name)?;
        Ok(changed(&name, "removed", format!("Node `{name}` is off the register")))
    }

    /// Takes what makes this clone a node out of its own settings; where the queue is stays.
    fn forget_node_settings(&self) -> Result<(), Failure> {
        let path = self.project.paths.clone_settings();
        let Some(bytes) = files::read_if_exists(&path)? else { return Ok(()) };
        let Ok(mut known) = serde_json::from_slice::<Map<String, Value>>(&bytes) else {
            tracing::warn!(path = %path.display(), "the clone's settings were edited, and are left as they are");
            return Ok(());
        };
        known.remove("node");
        let text = serde_json::to_vec_pretty(&Value::Object(known));
        let text = text.map_err(|error| Failure::from_error(FailureKind::Internal, &error))?;
        Ok(files::write_atomically(&path, &text, Access::Private)?)
    }

    /// The node that somebody named, or this one.
    fn registered(&self, register: &Register, name: Option<&str>) -> Result<Registered, Failure> {
        let name = match name {
            Some(name) => name.parse()?,
            None => self.project.node(),
        };
        register.node(&name)?.ok_or_else(|| {
            Failure::new(FailureKind::NotFound, format!("there is no node `{name}`")).hint("swarm node list shows all")
        })
    }

    /// Clones a repository for a node; the folder of the clone.
    pub(crate) fn clone_for_node(url: &str, folder: Option<&str>, here: &std::path::Path) -> Result<PathBuf, Failure> {
        let last = url.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default();
        let name = folder.unwrap_or_else(|| last.strip_suffix(".git").unwrap_or(last));
        let path = here.join(name);
        if name.is_empty() || path.exists() {
            let text = format!("`{}` is no place for a clone", path.display());
            return Err(Failure::new(FailureKind::Usage, text).hint("name another folder after the address"));
        }
        crate::git::Repository::clone_from(url, &path, here)?;
        Ok(path)
    }
}

/// The tickets that a node has in hand: it works on them, or has finished them and they have not landed yet.
fn held_by<'a>(tickets: &'a [QueueTicket], name: &NodeName) -> impl Iterator<Item = &'a QueueTicket> {
    use TicketState::{Approved, Landing, Review, Running};
    let is_held = |entry: &&QueueTicket| matches!(entry.state, Running | Review | Approved | Landing);
    tickets.iter().filter(is_held).filter(move |entry| entry.node.as_deref() == Some(name.as_str()))
}

/// A node as a view; whether it `has_work` the queue knows.
fn view(node: Registered, own: &NodeName, has_work: bool) -> NodeView {
    let state = match (node.is_gone(), node.is_draining) {
        (true, _) => NodeState::Gone,
        _ if node.age >= SILENT_AFTER => NodeState::Silent,
        (_, true) if node.record.running == 0 && node.record.is_draining && !has_work => NodeState::Drained,
        (_, true) => NodeState::Draining,
        _ => NodeState::Active,
    };
    let (max_workers, record) = (node.record.limit(), node.record);
    NodeView {
        is_this: record.name == *own,
        name: record.name.to_string(),
        state,
        capabilities: record.capabilities,
        running: record.running,
        max_workers,
        load: record.load,
        lands: record.lands,
        version: record.version,
        joined_at: record.joined_at,
        heard_ms: u64::try_from(node.age.as_millis()).unwrap_or(u64::MAX),
    }
}

/// What became of a node.
fn changed(name: &NodeName, action: &str, text: String) -> NodeChangedView {
    NodeChangedView { version: VIEW_VERSION, node: name.to_string(), action: action.to_owned(), text }
}
