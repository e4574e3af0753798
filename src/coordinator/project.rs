//! One repository as a command sees it: settings, agents, store and queue, each opened when first needed.

use std::cell::OnceCell;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::failure::{Failure, FailureKind};
use super::{history, queue_place};
use crate::config::{
    self, AgentBook, AgentSources, Environment, Layers, TrustStore, load_agents, load_settings, parse_ticket,
};
use crate::files;
use crate::git::Repository;
use crate::model::RunId;
use crate::model::agent::Agent;
use crate::model::coordination::COORDINATOR;
use crate::model::event::{SwarmEvent, SwarmRecord};
use crate::model::node::NodeRecord;
use crate::model::settings::{Durability, Settings};
use crate::model::ticket::Ticket;
use crate::model::{AgentName, NodeName, TicketId, Time, causes};
use crate::queue::{self, Engine, NatsError, Queue};
use crate::store::{StatePaths, Store};
use crate::supervisor::node_name;
use crate::terminal::Tmux;

/// The project's configuration.
const CONFIG: &str = ".swarm/config.yaml";

/// Letters of a machine's name in that of a node that was given none.
const MACHINE_CHARS: usize = 40;

/// Folders of a project with what agents are made of.
const AGENT_FOLDERS: [&str; 3] = [".swarm/presets", ".claude/agents", ".swarm/agents"];
/// The same of a user's folder.
const AGENT_FOLDERS_OF_USER: [&str; 2] = ["presets", "agents"];

/// What settings and agents come from at one moment, for whoever wants to know whether it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigFiles {
    /// The texts of the project's and the user's settings; `None` where one cannot be read.
    settings: [Option<Vec<u8>>; 2],
    /// The files of agents, each with when it was written and its length. Those of a bare repository are not looked at.
    agents: Vec<(PathBuf, SystemTime, u64)>,
}

/// Where and how a command was called.
#[derive(Debug, Clone, Default)]
pub(crate) struct Call {
    /// The folder to work in; absolute.
    pub(crate) directory: PathBuf,
    /// Settings from flags.
    pub(crate) overrides: Vec<(String, String)>,
    /// This process's environment.
    pub(crate) environment: Environment,
    /// The `swarm` program itself, absolute.
    pub(crate) program: PathBuf,
}

/// One repository.
pub(crate) struct Project {
    /// How the command was called.
    pub(crate) call: Call,
    /// The repository.
    pub(crate) repository: Repository,
    /// Where its state lies.
    pub(crate) paths: StatePaths,
    settings: OnceCell<Settings>,
    agents: OnceCell<AgentBook>,
    store: OnceCell<Arc<Store>>,
    queue: OnceCell<Arc<dyn Queue>>,
    /// This command, in events.
    run: RunId,
    /// Hears what is going on while a call takes its time.
    listener: Box<dyn Fn(&str)>,
}

impl Project {
    /// Finds the repository around the call's folder.
    pub(crate) fn open(call: Call, run: RunId) -> Result<Self, Failure> {
        let repository = Repository::discover(&call.directory)?;
        let paths = StatePaths::new(repository.common_dir());
        Ok(Self {
            call,
            repository,
            paths,
            settings: OnceCell::new(),
            agents: OnceCell::new(),
            store: OnceCell::new(),
            queue: OnceCell::new(),
            run,
            listener: Box::new(|_| ()),
        })
    }

    /// The same project, which says what a person who waits should know: a clause at a time.
    pub(crate) fn with_listener(self, listener: impl Fn(&str) + 'static) -> Self {
        Self { listener: Box::new(listener), ..self }
    }

    /// Says what is going on.
    pub(crate) fn tell(&self, what: &str) {
        (self.listener)(what);
    }

    /// The resolved settings.
    pub(crate) fn settings(&self) -> Result<&Settings, Failure> {
        if let Some(settings) = self.settings.get() {
            return Ok(settings);
        }
        let settings = self.load_settings(self.call.overrides.clone())?;
        Ok(self.settings.get_or_init(|| settings))
    }

    /// The settings as they are without what this call says of them.
    pub(crate) fn configured(&self) -> Result<Settings, Failure> {
        if self.call.overrides.is_empty() { self.settings().cloned() } else { self.load_settings(Vec::new()) }
    }

    /// Resolves the settings, with these from flags.
    fn load_settings(&self, overrides: Vec<(String, String)>) -> Result<Settings, Failure> {
        let path = Path::new(CONFIG);
        let project = self.project_file(path)?.map(|text| (path.to_owned(), text));
        let environment = &self.call.environment;
        let clone = self.clone_file()?;
        Ok(load_settings(&Layers { user_folder: &config::user_folder()?, project, clone, environment, overrides })?)
    }

    /// This clone's own settings, where `swarm node join` wrote some.
    fn clone_file(&self) -> Result<Option<(PathBuf, String)>, Failure> {
        let path = self.paths.clone_settings();
        match files::read_if_exists(&path)? {
            Some(bytes) => Ok(Some((path.clone(), text_of(&path, bytes)?))),
            None => Ok(None),
        }
    }

    /// This clone's name among those that share a queue.
    pub(crate) fn node(&self) -> NodeName {
        let name = self.settings().ok().and_then(|settings| settings.node.name.clone());
        // Two clones on one machine are two nodes.
        name.unwrap_or_else(|| {
            let digest = Sha256::digest(self.repository.common_dir().as_os_str().as_bytes());
            let machine: String = node_name().chars().take(MACHINE_CHARS).collect();
            NodeName::near(&format!("{machine}-{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2]))
        })
    }

    /// What this node says about itself at rest.
    pub(crate) fn node_record(&self, max_workers: usize) -> Result<NodeRecord, Failure> {
        let capabilities = self.settings()?.node.capabilities.clone();
        Ok(NodeRecord::new(self.node(), self.store()?.clone_id()?, capabilities, max_workers))
    }

    /// The role of whoever coordinates here: where several nodes share a queue, each has its own coordinator.
    pub(crate) fn coordinator_role(&self, is_on_server: bool) -> String {
        if is_on_server { format!("{COORDINATOR}@{}", self.node()) } else { COORDINATOR.to_owned() }
    }

    /// Takes settings that were resolved before, instead of what the files say now.
    pub(crate) fn adopt_settings(&self, settings: Settings) {
        // Who has its own already keeps them.
        self.settings.set(settings).ok();
    }

    /// What settings and agents come from, as it is now.
    pub(crate) fn config_files(&self) -> ConfigFiles {
        let project = self.project_file(Path::new(CONFIG)).ok().flatten().map(String::into_bytes);
        let user_folder = config::user_folder().ok();
        let user = user_folder.as_ref().and_then(|folder| files::read_if_exists(&folder.join("config.yaml")).ok());
        let of_user = user_folder.iter().flat_map(|folder| AGENT_FOLDERS_OF_USER.map(|name| folder.join(name)));
        let top = self.repository.main_worktree();
        let of_project = top.iter().flat_map(|top| AGENT_FOLDERS.map(|name| top.join(name)));
        let mut agents: Vec<_> = of_user.chain(of_project).flat_map(|folder| stamps(&folder)).collect();
        agents.sort();
        ConfigFiles { settings: [project, user.flatten()], agents }
    }

    /// The resolved settings; where the configuration is broken, those of nobody having configured anything. For what
    /// must be possible all the same.
    pub(crate) fn settings_or_default(&self) -> Settings {
        self.settings().cloned().unwrap_or_default()
    }

    /// All agents.
    pub(crate) fn agents(&self) -> Result<&AgentBook, Failure> {
        if let Some(agents) = self.agents.get() {
            return Ok(agents);
        }
        let [presets, claude, own] = AGENT_FOLDERS;
        let agents = load_agents(&AgentSources {
            user_folder: Some(config::user_folder()?),
            presets: self.project_files(Path::new(presets))?,
            claude_project: self.project_files(Path::new(claude))?,
            project: self.project_files(Path::new(own))?,
        })?;
        Ok(self.agents.get_or_init(|| agents))
    }

    /// One agent by name.
    pub(crate) fn agent(&self, name: &AgentName) -> Result<&Agent, Failure> {
        Ok(self.agents()?.get(name)?)
    }

    /// Template overrides, by file.
    pub(crate) fn templates(&self) -> Result<Vec<(PathBuf, String)>, Failure> {
        self.project_files(Path::new(".swarm/templates"))
    }

    /// The store, made when missing.
    pub(crate) fn store(&self) -> Result<&Arc<Store>, Failure> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let durability = self.settings().map_or(Durability::Normal, |settings| settings.durability);
        let store = Arc::new(Store::open(&self.paths, durability)?);
        // Tidying up; a command that could do its work does not fail over it.
        if let Err(error) = Self::tidy(&store) {
            tracing::warn!(error = error.chain.join(": "), "old events could not be deleted");
        }
        Ok(self.store.get_or_init(|| store))
    }

    /// Deletes old events, once a day, after the history has taken from them what it keeps.
    fn tidy(store: &Arc<Store>) -> Result<(), Failure> {
        let now = Time::now();
        if store.is_pruning_due(now)? {
            history::catch_up(store)?;
            store.prune_events(now)?;
        }
        Ok(())
    }

    /// The queue, connected where it is on a server.
    pub(crate) fn queue(&self) -> Result<Arc<dyn Queue>, Failure> {
        if let Some(queue) = self.queue.get() {
            return Ok(queue.clone());
        }
        let engine = match self.settings() {
            Ok(settings) => queue_place::engine(&settings.queue, &self.repository, &self.call.environment)?,
            // An agent can be stopped whatever the configuration says: where its ticket is the store knows.
            Err(_) if self.store()?.read(queue::place)?.is_none() => Engine::File,
            Err(failure) => return Err(failure),
        };
        let repository = queue::Repository {
            founder: &|| self.repository.first_commit().ok().flatten().map(String::from),
            has: &|commit| self.repository.begins_with(commit).unwrap_or(false),
        };
        let by = match engine {
            Engine::File => node_name(),
            Engine::Server { .. } => self.node().to_string(),
        };
        let opened = queue::open(self.store()?, &engine, &repository, &by)?;
        if let Some(error) = opened.fell_back {
            self.tell_fall_back(&error)?;
        }
        Ok(self.queue.get_or_init(|| opened.queue).clone())
    }

    /// Takes a queue that was opened otherwise, where none was opened yet.
    pub(super) fn adopt_queue(&self, queue: Arc<dyn Queue>) {
        // Who has its own already keeps it.
        self.queue.set(queue).ok();
    }

    /// Says that the store takes the place of a server.
    fn tell_fall_back(&self, error: &NatsError) -> Result<(), Failure> {
        let why = causes(error).join(": ");
        self.tell(&format!("warning: tickets are queued in this repository, because {why}"));
        let fact = SwarmRecord::now(&self.run, SwarmEvent::QueueFellBack { why });
        self.store()?.append_swarm_event(&fact)?;
        Ok(())
    }

    /// The tmux server of the settings; `None` where tmux is missing or too old.
    pub(crate) fn tmux(&self) -> Result<Option<Tmux>, Failure> {
        let tmux = self.tmux_server(&self.settings()?.tmux.socket)?;
        Ok(self.is_usable(&tmux)?.then_some(tmux))
    }

    /// Whether tmux is there and new enough. Asking it costs a process, so a yes is remembered beside the sockets for
    /// as long as the program file stays the same.
    fn is_usable(&self, tmux: &Tmux) -> Result<bool, Failure> {
        let Some(stamp) = tmux.program_stamp() else { return Ok(false) };
        let known = files::runtime_folder()?.join("tmux.known");
        if files::read_if_exists(&known)?.as_deref() == Some(stamp.as_bytes()) {
            return Ok(true);
        }
        let is_usable = tmux.available().is_ok();
        if is_usable {
            files::write_atomically(&known, stamp.as_bytes(), files::Access::Private)?;
        }
        Ok(is_usable)
    }

    /// The tmux server behind `socket`. Our own configuration is written beside the sockets when it changed; a
    /// person's own server (a path) keeps its own.
    pub(crate) fn tmux_server(&self, socket: &str) -> Result<Tmux, Failure> {
        let config = if socket.contains('/') {
            None
        } else {
            let path = files::runtime_folder()?.join("tmux.conf");
            let text = include_bytes!("../../templates/tmux.conf");
            if files::read_if_exists(&path)?.as_deref() != Some(text.as_slice()) {
                files::write_atomically(&path, text, files::Access::Private)?;
            }
            Some(path)
        };
        Ok(Tmux::new(socket, config, self.call.environment.all()))
    }

    /// The trust decisions of this user.
    pub(crate) fn trust(&self) -> Result<TrustStore, Failure> {
        Ok(TrustStore::open(&config::user_folder()?)?)
    }

    /// The folder of ticket files, where there is a main worktree.
    pub(crate) fn ticket_folder(&self) -> Result<PathBuf, Failure> {
        let top = self.repository.main_worktree().ok_or_else(|| {
            Failure::new(FailureKind::Usage, "the repository is bare: tickets are read from its target branch")
                .hint("write tickets in a worktree and commit them, or spawn from a file")
        })?;
        Ok(top.join(".swarm/tickets"))
    }

    /// A ticket by id, from its file.
    pub(crate) fn ticket_file(&self, id: &TicketId) -> Result<Option<Ticket>, Failure> {
        let path = PathBuf::from(format!(".swarm/tickets/{id}.md"));
        match self.project_file(&path)? {
            Some(text) => Ok(Some(parse_ticket(&path, &text)?)),
            None => Ok(None),
        }
    }

    /// A file of the project as the main worktree has it, or the target branch where there is none.
    pub(crate) fn project_file(&self, path: &Path) -> Result<Option<String>, Failure> {
        let bytes = match self.repository.main_worktree() {
            Some(top) => files::read_if_exists(&top.join(path))?,
            None => match self.repository.default_target() {
                Ok(target) => self.repository.file_at(target.as_str(), path)?,
                Err(_) => None,
            },
        };
        bytes.map(|bytes| text_of(path, bytes)).transpose()
    }

    /// Paths of the files right in a folder of the project, by name, from the same place.
    pub(crate) fn project_paths(&self, folder: &Path) -> Result<Vec<PathBuf>, Failure> {
        let mut paths: Vec<PathBuf> = match self.repository.main_worktree() {
            Some(top) => list_folder(&top.join(folder))?.into_iter().map(|name| folder.join(name)).collect(),
            None => match self.repository.default_target() {
                Ok(target) => self.repository.list_at(target.as_str(), folder)?,
                Err(_) => Vec::new(),
            },
        };
        paths.sort();
        Ok(paths)
    }

    /// The files right in a folder of the project, by name, from the same place.
    pub(crate) fn project_files(&self, folder: &Path) -> Result<Vec<(PathBuf, String)>, Failure> {
        let mut found = Vec::new();
        for path in self.project_paths(folder)? {
            if let Some(text) = self.project_file(&path)? {
                found.push((path, text));
            }
        }
        Ok(found)
    }
}

/// The plain files right in a folder, each with when it was written and its length; none where it cannot be read.
fn stamps(folder: &Path) -> Vec<(PathBuf, SystemTime, u64)> {
    let names = list_folder(folder).unwrap_or_default();
    let stamp = |name: PathBuf| {
        let path = folder.join(name);
        let about = std::fs::metadata(&path).ok()?;
        Some((path, about.modified().ok()?, about.len()))
    };
    names.into_iter().filter_map(stamp).collect()
}

/// The text of a file.
fn text_of(path: &Path, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes)
        .map_err(|_| Failure::new(FailureKind::Usage, format!("`{}` is not UTF-8 text", path.display())))
}

/// Names of the plain files in a folder that are not hidden; none when it does not exist.
fn list_folder(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(files::FileError::on("list", folder)(error).into()),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(files::FileError::on("list", folder))?;
        let name = PathBuf::from(entry.file_name());
        if entry.path().is_file() && !name.to_string_lossy().starts_with('.') {
            names.push(name);
        }
    }
    Ok(names)
}
