//! `ticket new`, `list` and `show`: ticket files beside what the queue knows about them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::Control;
use crate::config::{Template, Templates, parse_ticket, ticket_text};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::queue_place::Tables;
use crate::coordinator::views::{TicketView, TicketsView, VIEW_VERSION};
use crate::files::{self, FileError};
use crate::model::ticket::{Dependency, DependencyKind, StartFrom, Ticket, TicketState, cycle, cycle_text};
use crate::model::{AgentName, TicketId};
use crate::queue::{FileQueue, Queue};

/// Where ticket files are, from the top of the repository.
const FOLDER: &str = ".swarm/tickets";

/// What `ticket new` was asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct NewTicketRequest {
    /// Id of the ticket.
    pub(crate) id: String,
    /// Title instead of one taken from the text.
    pub(crate) title: Option<String>,
    /// Agent instead of the configured one.
    pub(crate) agent: Option<String>,
    /// From 1 to 10.
    pub(crate) priority: Option<u8>,
    /// Tickets that must have landed first.
    pub(crate) depends_on: Vec<String>,
    /// Commands that must pass before review.
    pub(crate) checks: Vec<String>,
    /// The text, which may have front matter of its own; without one the file is a skeleton to be filled in.
    pub(crate) text: Option<String>,
}

/// The queue's view of tickets; empty where there is no state yet.
struct Known {
    /// The queue, where there is one.
    queue: Option<FileQueue>,
    /// Where each known ticket is.
    states: HashMap<TicketId, TicketState>,
}

/// What tickets that say nothing get.
struct Defaults {
    /// The configured agent.
    agent: String,
    /// The branch work lands on.
    target: Option<String>,
    /// Wall time of one attempt in milliseconds.
    timeout_ms: Option<u64>,
    /// The configured reviewers.
    reviewers: Vec<AgentName>,
    /// Where dependents start.
    start_from: StartFrom,
}

impl Control {
    /// Writes a new ticket file.
    ///
    /// # Errors
    /// When there is a ticket of that id already, also one that differs only in case; when a value is not valid.
    pub(crate) fn new_ticket(&self, request: &NewTicketRequest) -> Result<TicketsView, Failure> {
        let id: TicketId = request.id.parse()?;
        let folder = self.project.ticket_folder()?;
        let path = folder.join(format!("{id}.md"));
        self.refuse_known(&id)?;
        let ticket = self.ticket_from(request, &id, &path)?;
        let text = match request.text {
            Some(_) => ticket_text(&ticket),
            None => self.skeleton(&ticket, &path)?,
        };
        match files::write_new(&path, text.as_bytes()) {
            Err(FileError { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(exists(&id, &id));
            }
            written => written?,
        }
        let mut view = self.ticket_view(&ticket, TicketState::Open, &self.ticket_defaults()?);
        view.path = Some(path);
        if request.text.is_none() {
            view.body = None;
            view.problem = Some("the ticket has no text".to_owned());
        }
        Ok(TicketsView { version: VIEW_VERSION, tickets: vec![view], warnings: Vec::new() })
    }

    /// Fails when a file or the queue has the id, whatever its case.
    fn refuse_known(&self, id: &TicketId) -> Result<(), Failure> {
        let in_files = self.ticket_paths()?.into_iter().map(|path| stem(&path));
        let in_queue = self.known_tickets()?.states.into_keys().map(String::from);
        let taken = in_files.chain(in_queue).find(|known| known.eq_ignore_ascii_case(id.as_str()));
        taken.map_or(Ok(()), |taken| Err(exists(id, &taken)))
    }

    /// The ticket a request describes, checked as its file would be.
    fn ticket_from(&self, request: &NewTicketRequest, id: &TicketId, path: &Path) -> Result<Ticket, Failure> {
        let text = request.text.as_deref().unwrap_or(id.as_str());
        let mut ticket = parse_ticket(path, text)?;
        if let Some(title) = &request.title {
            ticket.title = title.split_whitespace().collect::<Vec<_>>().join(" ");
        }
        if let Some(agent) = &request.agent {
            let name = agent.parse()?;
            self.project.agent(&name)?;
            ticket.agent = Some(name);
        }
        ticket.priority = request.priority.unwrap_or(ticket.priority);
        for name in &request.depends_on {
            ticket.depends_on.push(Dependency { ticket: name.parse()?, kind: DependencyKind::Success });
        }
        ticket.checks.extend(request.checks.iter().cloned());
        Ok(parse_ticket(path, &ticket_text(&ticket))?)
    }

    /// The text of a file without a body, with what the request set in it.
    fn skeleton(&self, ticket: &Ticket, path: &Path) -> Result<String, Failure> {
        let whole = ticket_text(ticket);
        let head = whole.lines().skip(1).take_while(|line| *line != "---");
        let settings: Vec<_> = head.filter(|line| !line.starts_with("id:") && !line.starts_with("title:")).collect();
        let templates = Templates::from_files(self.project.templates()?)?;
        let context = json!({"id": ticket.id.as_str(), "title": ticket.title, "body": "", "settings": settings});
        let text = templates.render(Template::NewTicket, context)?;
        // A project's own template may be wrong, or leave out what the person asked for.
        let read = parse_ticket(path, &format!("{text}\n{}\n", ticket.body))?;
        let differs = read.agent != ticket.agent
            || read.priority != ticket.priority
            || read.depends_on != ticket.depends_on
            || read.checks != ticket.checks;
        if differs && !settings.is_empty() {
            let name = Template::NewTicket.file();
            let failure = Failure::new(FailureKind::Usage, format!("the template `{name}` drops what the flags say"));
            return Err(failure.hint("put the lines of `settings` into its front matter, or give the text with -p"));
        }
        Ok(text)
    }

    /// All tickets: those with files, and those that only the queue knows, by id. A broken file is an entry with its
    /// problem and hides no other.
    pub(crate) fn tickets(&self) -> Result<TicketsView, Failure> {
        let known = self.known_tickets()?;
        let defaults = self.ticket_defaults()?;
        let mut tickets = BTreeMap::new();
        for path in self.ticket_paths()? {
            let name = stem(&path);
            tickets.insert(name, self.listed_file(&path, &known, &defaults));
        }
        for (id, state) in &known.states {
            if tickets.contains_key(id.as_str()) {
                continue;
            }
            if let Some(entry) = known.queue.as_ref().map(|queue| queue.ticket(id)).transpose()?.flatten() {
                let mut view = self.ticket_view(&entry.ticket, *state, &defaults);
                view.body = None;
                tickets.insert(id.to_string(), view);
            }
        }
        let mut warnings = differing_in_case(tickets.keys());
        warnings.extend(cycles(&tickets));
        Ok(TicketsView { version: VIEW_VERSION, tickets: tickets.into_values().collect(), warnings })
    }

    /// The entry of one ticket file.
    fn listed_file(&self, path: &Path, known: &Known, defaults: &Defaults) -> TicketView {
        let shown = self.ticket_place(path);
        let read = self.project.project_file(path).and_then(|text| {
            let text = text.ok_or_else(|| Failure::new(FailureKind::NotFound, "it vanished while it was read"))?;
            Ok(parse_ticket(path, &text)?)
        });
        match read {
            Ok(ticket) => {
                let state = known.states.get(&ticket.id).copied().unwrap_or(TicketState::Open);
                let mut view = self.ticket_view(&ticket, state, defaults);
                view.path = Some(shown);
                view.body = None;
                view
            }
            Err(failure) => {
                // The first line says it; what follows draws the place.
                let lines = failure.chain.iter().filter_map(|text| text.lines().next());
                let problem = lines.collect::<Vec<_>>().join(": ");
                let name = stem(path);
                let id = name.parse::<TicketId>().ok();
                let state = id.and_then(|id| known.states.get(&id).copied()).unwrap_or(TicketState::Open);
                TicketView {
                    id: name,
                    title: String::new(),
                    state,
                    agent: String::new(),
                    priority: 0,
                    depends_on: Vec::new(),
                    start_from: StartFrom::Target,
                    scope: Vec::new(),
                    checks: Vec::new(),
                    checklist: Vec::new(),
                    reviewers: Vec::new(),
                    labels: Vec::new(),
                    capabilities: Vec::new(),
                    base: None,
                    target: None,
                    timeout_ms: None,
                    max_attempts: 0,
                    budget_usd: None,
                    budget_tokens: None,
                    path: Some(shown),
                    body: None,
                    problem: Some(problem),
                }
            }
        }
    }

    /// One ticket as it would be run: by id, or the path of a markdown file.
    pub(crate) fn ticket(&self, name: &str) -> Result<TicketsView, Failure> {
        let ticket = self.ticket_of(name)?;
        let state = self.known_tickets()?.states.get(&ticket.id).copied().unwrap_or(TicketState::Open);
        let mut view = self.ticket_view(&ticket, state, &self.ticket_defaults()?);
        let by_id = self.ticket_paths()?.into_iter().find(|path| stem(path) == ticket.id.as_str());
        let given = self.project.call.directory.join(name);
        view.path = if name == ticket.id.as_str() { by_id.map(|path| self.ticket_place(&path)) } else { Some(given) };
        Ok(TicketsView { version: VIEW_VERSION, tickets: vec![view], warnings: Vec::new() })
    }

    /// A ticket with its defaults filled in; its file is set by the caller.
    fn ticket_view(&self, ticket: &Ticket, state: TicketState, defaults: &Defaults) -> TicketView {
        let agent = ticket.agent.as_ref().map(ToString::to_string);
        let timeout = ticket.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        let target = ticket.target.clone().or_else(|| defaults.target.clone());
        let reviewers = ticket.reviewers.as_ref().unwrap_or(&defaults.reviewers);
        TicketView {
            id: ticket.id.to_string(),
            title: ticket.title.clone(),
            state,
            agent: agent.unwrap_or_else(|| defaults.agent.clone()),
            priority: ticket.priority,
            depends_on: ticket.depends_on.iter().map(|dependency| dependency.ticket.to_string()).collect(),
            start_from: ticket.start(defaults.start_from),
            scope: ticket.scope.clone(),
            checks: ticket.checks.clone(),
            checklist: ticket.checklist(),
            reviewers: reviewers.iter().map(ToString::to_string).collect(),
            labels: ticket.labels.clone(),
            capabilities: ticket.capabilities.clone(),
            base: ticket.base.clone().or_else(|| target.clone()),
            target,
            timeout_ms: timeout.or(defaults.timeout_ms).filter(|timeout| *timeout > 0),
            max_attempts: ticket.max_attempts,
            budget_usd: ticket.budget.usd,
            budget_tokens: ticket.budget.tokens,
            path: None,
            body: Some(ticket.body.clone()),
            problem: None,
        }
    }

    /// What tickets that say nothing get.
    fn ticket_defaults(&self) -> Result<Defaults, Failure> {
        let settings = self.project.settings()?;
        let named = settings.target.as_ref().map(ToString::to_string);
        let found = || self.project.repository.default_target().ok().map(|target| target.to_string());
        Ok(Defaults {
            agent: settings.agent.to_string(),
            target: named.or_else(found),
            timeout_ms: u64::try_from(settings.limits.timeout.as_millis()).ok(),
            reviewers: settings.review.agents.clone(),
            start_from: settings.run.start_from,
        })
    }

    /// What the queue knows, without making its state.
    fn known_tickets(&self) -> Result<Known, Failure> {
        let Some(Tables { queue, .. }) = self.project.tables()? else {
            return Ok(Known { queue: None, states: HashMap::new() });
        };
        let states = queue.states()?.into_iter().collect();
        Ok(Known { queue: Some(queue), states })
    }

    /// Paths of the ticket files from the top of the repository, by name.
    pub(super) fn ticket_paths(&self) -> Result<Vec<PathBuf>, Failure> {
        let mut paths = self.project.project_paths(Path::new(FOLDER))?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
        Ok(paths)
    }

    /// A path from the top of the repository as an absolute one; in a bare repository it stays as it is.
    fn ticket_place(&self, path: &Path) -> PathBuf {
        self.project.repository.main_worktree().map_or_else(|| path.to_owned(), |top| top.join(path))
    }
}

/// A warning for each set of ids that differ only in case.
fn differing_in_case<'a>(ids: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut alike = BTreeMap::<String, Vec<&str>>::new();
    for id in ids {
        alike.entry(id.to_ascii_lowercase()).or_default().push(id);
    }
    let clashes = alike.into_values().filter(|ids| ids.len() > 1);
    let said = clashes.map(|ids| {
        let names: Vec<_> = ids.iter().map(|id| format!("`{id}`")).collect();
        format!("tickets {} differ only in case, and some file systems take them for one", names.join(" and "))
    });
    said.collect()
}

/// A warning for each circle of tickets that wait for each other, told at the first of its tickets.
fn cycles(tickets: &BTreeMap<String, TicketView>) -> Vec<String> {
    let is_settled = |ticket: &TicketView| matches!(ticket.state, TicketState::Landed | TicketState::Done);
    let ids = |names: &[String]| names.iter().filter_map(|name| name.parse().ok()).collect::<Vec<TicketId>>();
    let needs = |id: &TicketId| {
        let open = tickets.get(id.as_str()).filter(|ticket| !is_settled(ticket));
        Ok::<_, std::convert::Infallible>(open.map(|ticket| ids(&ticket.depends_on)).unwrap_or_default())
    };
    let mut warnings = Vec::new();
    for id in tickets.keys().filter_map(|name| name.parse::<TicketId>().ok()) {
        let Ok(found) = cycle(&id, needs);
        // Tickets are gone through by name, so a circle begins with the first of its names once.
        if let Some(found) = found.filter(|found| found.iter().all(|other| *other >= id)) {
            warnings.push(format!("tickets wait for each other and none can start: {}", cycle_text(&found)));
        }
    }
    warnings
}

/// A file's name without its extension.
fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The refusal of a ticket that is there; `taken` may differ from `id` in case.
fn exists(id: &TicketId, taken: &(impl AsRef<str> + ?Sized)) -> Failure {
    let taken = taken.as_ref();
    let failure = if id.as_str() == taken {
        Failure::new(FailureKind::Failed, format!("ticket `{id}` exists already"))
    } else {
        let text = format!("ticket `{taken}` exists already, and some file systems take `{id}` for the same name");
        Failure::new(FailureKind::Failed, text)
    };
    failure.hint(format!("swarm ticket show {taken} shows it; choose another id, or edit its file"))
}
