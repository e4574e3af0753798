//! Where the queue of a project is: what its settings say, with what they only name put in, and how far what this machine
//! knows of it can be trusted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::failure::{Failure, FailureKind};
use super::project::Project;
use super::views::{QueueEngine, QueuePlaceView};
use crate::config::Environment;
use crate::git::Repository;
use crate::model::queue::{AUTO, Address, FILE, Fallback, QueueSettings, TlsFiles};
use crate::model::{TicketId, Time};
use crate::queue::{Engine, FileQueue, Login, Place, Queue, QueueTicket, Server, place, seen};
use crate::store::Store;

/// The server that `auto` looks for where `NATS_URL` names none.
const LOCAL: &str = "nats://127.0.0.1:4222";
/// Bytes of a project's name that streams can be called by.
const LONGEST_NAME: usize = 64;

/// The engine that settings ask for. Secrets are read from the environment here.
pub(super) fn engine(
    settings: &QueueSettings,
    repository: &Repository,
    environment: &Environment,
) -> Result<Engine, Failure> {
    let is_auto = settings.url == AUTO;
    let address = match settings.url.as_str() {
        FILE => return Ok(Engine::File),
        AUTO => environment.get("NATS_URL").filter(|url| !url.is_empty()).unwrap_or(LOCAL),
        url => url,
    };
    // Whatever is wrong with it is not shown with it: it may hold a secret.
    let address =
        Address::parse(address).map_err(|why| Failure::new(FailureKind::Usage, format!("`NATS_URL`: {why}")))?;
    let project = settings.project.clone().unwrap_or_else(|| repository.name());
    if project.len() > LONGEST_NAME {
        let text = "the name of the repository's folder is too long for the name of a queue on a server";
        return Err(Failure::new(FailureKind::Usage, text).hint("set `queue.project` in .swarm/config.yaml"));
    }
    let login = match login(settings, repository, environment)? {
        Login::Nobody => match address.secret {
            Some((user, Some(password))) => Login::Password { user, password },
            Some((token, None)) => Login::Token(token),
            None => Login::Nobody,
        },
        login => login,
    };
    let file = |path: &Option<PathBuf>| path.as_deref().map(|path| place_of(path, repository, environment));
    let tls = TlsFiles { ca: file(&settings.tls.ca), cert: file(&settings.tls.cert), key: file(&settings.tls.key) };
    let server = Server { address: address.text, project, login, tls, replicas: settings.replicas };
    Ok(Engine::Server { server, falls_back: is_auto || settings.fallback == Some(Fallback::File) })
}

/// Who we are to the server.
fn login(settings: &QueueSettings, repository: &Repository, environment: &Environment) -> Result<Login, Failure> {
    let secret = |key: &str, name: &str| {
        let value = environment.get(name).filter(|value| !value.is_empty());
        value.map(str::to_owned).ok_or_else(|| {
            Failure::new(FailureKind::Usage, format!("`queue.{key}` names the variable `{name}`, which is not set"))
        })
    };
    let file = |path: &Path| place_of(path, repository, environment);
    Ok(match settings {
        QueueSettings { credentials: Some(path), .. } => Login::Credentials(file(path)),
        QueueSettings { nkey: Some(path), .. } => Login::Nkey(file(path)),
        QueueSettings { user: Some(user), password_env: Some(name), .. } => {
            Login::Password { user: user.clone(), password: secret("password_env", name)? }
        }
        QueueSettings { token_env: Some(name), .. } => Login::Token(secret("token_env", name)?),
        _ => Login::Nobody,
    })
}

/// A path of the settings as an absolute one: `~` is the home folder, others are seen from the main worktree.
fn place_of(path: &Path, repository: &Repository, environment: &Environment) -> PathBuf {
    match (path.strip_prefix("~"), environment.get("HOME")) {
        (Ok(rest), Some(home)) => Path::new(home).join(rest),
        _ => repository.anchor().join(path),
    }
}

/// The tables of a queue, for looking only.
pub(crate) struct Tables {
    /// The store that they are in.
    pub(crate) store: Arc<Store>,
    /// They.
    pub(crate) queue: FileQueue,
    /// The role of whoever coordinates here.
    pub(crate) role: String,
    /// Where they come from.
    pub(crate) view: QueuePlaceView,
}

impl Project {
    /// The tables of the queue, as new as they can be had; `None` where there is no state yet, and none is made. Where
    /// their server is away they are what this machine heard last, and say so.
    ///
    /// # Errors
    /// Those of the server where nothing at all is known of it.
    pub(crate) fn tables(&self) -> Result<Option<Tables>, Failure> {
        let local = Store::open_read_only(&self.paths)?.map(Arc::new);
        let place = local.as_ref().map_or(Ok(None), |store| store.read(place))?;
        let problem = match &place {
            Some(_) => self.queue().and_then(|queue| Ok(queue.refresh()?)).err(),
            None if self.is_newcomer(local.as_deref())? => {
                self.queue()?.refresh()?;
                None
            }
            None => None,
        };
        let store = match local {
            Some(store) => store,
            None => match Store::open_read_only(&self.paths)? {
                Some(store) => Arc::new(store),
                None => return Ok(None),
            },
        };
        let (place, seen) = store.read(|txn| Ok::<_, Failure>((crate::queue::place(txn)?, seen(txn)?)))?;
        let role = self.coordinator_role(place.is_some());
        let view = view(place, seen, problem);
        Ok(Some(Tables { queue: FileQueue::new(store.clone(), "status"), store, role, view }))
    }

    /// Where the queue is; while its server is away, whoever looks for it finds from now on what this machine heard of it
    /// last, which nobody can change.
    pub(crate) fn make_do_with_tables(&self) -> Result<Option<QueuePlaceView>, Failure> {
        let Some(Tables { queue, view, .. }) = self.tables()? else { return Ok(None) };
        if view.problem.is_some() {
            self.adopt_queue(Arc::new(queue));
        }
        Ok(Some(view))
    }

    /// What this machine heard last of a ticket, without asking any server.
    pub(crate) fn heard_of(&self, ticket: &TicketId) -> Result<Option<QueueTicket>, Failure> {
        Ok(FileQueue::new(self.store()?.clone(), "look").ticket(ticket)?)
    }

    /// Whether the settings name a server of which this machine knows nothing yet.
    fn is_newcomer(&self, store: Option<&Store>) -> Result<bool, Failure> {
        let is_named = self.settings().is_ok_and(|settings| ![FILE, AUTO].contains(&settings.queue.url.as_str()));
        if !is_named {
            return Ok(false);
        }
        let states = store.map_or(Ok(Vec::new()), |store| store.read(|txn| txn.ticket_states()))?;
        Ok(states.is_empty())
    }
}

/// What is said about where tables come from.
fn view(place: Option<Place>, seen: Option<Time>, problem: Option<Failure>) -> QueuePlaceView {
    let problem = problem.map(|failure| failure.chain.join(": "));
    match place {
        None => QueuePlaceView { engine: QueueEngine::File, address: None, project: None, as_of: None, problem: None },
        Some(Place { address, project, .. }) => QueuePlaceView {
            engine: QueueEngine::Nats,
            address: Some(address),
            project: Some(project),
            as_of: seen,
            problem,
        },
    }
}
