//! What the agent of a new attempt is given: environment, prompt, and the hand-over to its supervisor.

use std::path::PathBuf;

use super::{MARKER, RuntimePaths, Spawner, SupervisorError};
use crate::agent::RECORD;
use crate::config::{SpawnDepth, Template, Templates, agent_environment};
use crate::model::agent::Agent;
use crate::model::briefing::Briefing;
use crate::model::budget::BudgetSettings;
use crate::model::ticket::{DependencyKind, Ticket};
use crate::model::topology::Token;
use crate::model::worker::Worker;
use crate::model::{TicketId, cut, error_text, tildes_around};
use crate::store::read_result;
use crate::supervisor::handover::{Handover, Reviewers, Session};
use crate::terminal::session_name;

impl Spawner {
    /// The allow-listed environment with what tells the agent where it is.
    pub(super) fn environment_of(
        &self,
        agent: &Agent,
        worker: &Worker,
    ) -> Result<Vec<(String, String)>, SupervisorError> {
        let place = &worker.place;
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let runtime = RuntimePaths::new(self.repository.common_dir(), &worker.id)?;
        let own = [
            ("SWARM_SOCKET", text(runtime.socket())),
            (MARKER, text(self.paths.worker_dir(&worker.id))),
            ("SWARM_TICKET", worker.ticket.to_string()),
            ("SWARM_WORKER", worker.id.to_string()),
            ("SWARM_AGENT_NAME", agent.name.to_string()),
            ("SWARM_ATTEMPT", worker.attempt.number.to_string()),
            ("SWARM_RUN", worker.attempt.run.as_str().to_owned()),
            ("SWARM_WORKTREE", text(place.worktree.clone())),
            ("SWARM_REPO", text(self.repository.anchor().to_owned())),
            ("SWARM_BRANCH", place.branch.to_string()),
            ("SWARM_BASE", place.base.to_string()),
            ("SWARM_TARGET_BRANCH", place.target.to_string()),
            ("SWARM_PROMPT_FILE", text(self.paths.prompt(&worker.id))),
            ("SWARM_RESULT_FILE", text(self.paths.given_result(&worker.id))),
            ("SWARM_PORT", place.first_port.to_string()),
            ("SWARM_PORT_COUNT", place.port_count.to_string()),
            ("TERM", crate::supervisor::run::TERM.to_owned()),
        ];
        let mut own: Vec<_> = own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        own.extend(SpawnDepth::of(&self.environment, &self.settings.limits).below());
        if let Some(file) = self.environment.get(RECORD).filter(|file| agent.runtime.is_own() && !file.is_empty()) {
            own.push((RECORD.to_owned(), text(std::path::absolute(file).unwrap_or_else(|_| file.into()))));
        }
        Ok(agent_environment(&self.environment, &self.settings, agent, &own))
    }

    /// The first prompt.
    pub(super) fn prompt(&self, ticket: &Ticket, worker: &Worker) -> Result<String, SupervisorError> {
        let (mut dependencies, mut results) = (Vec::new(), Vec::new());
        for dependency in &ticket.depends_on {
            let known = self.queue.ticket(&dependency.ticket)?;
            if dependency.kind == DependencyKind::Data {
                let title = known.as_ref().map(|known| known.ticket.title.clone()).unwrap_or_default();
                results.push(ResultView::new(
                    &dependency.ticket,
                    title,
                    self.result_of(&dependency.ticket, known.as_ref().map(|known| known.fence))?,
                ));
            }
            dependencies.push(DependencyView {
                ticket: dependency.ticket.to_string(),
                title: known.as_ref().map(|known| known.ticket.title.clone()).unwrap_or_default(),
                kind: dependency.kind,
                state: known.map_or("unknown", |known| known.state.as_str()),
                commit: None,
                is_base: worker.place.stacked_on.as_ref().is_some_and(|on| on.ticket == dependency.ticket),
            });
        }
        let briefing = Briefing::new(worker, ticket, self.repository.anchor());
        let ring = self.store.token(&ticket.id)?.and_then(RingView::new);
        let attempt = worker.attempt.number;
        let own = PromptVariables { body: &ticket.body, dependencies, results, attempt, ring };
        let templates = Templates::from_files(self.templates.clone())?;
        Ok(templates.render(Template::Prompt, briefing.with(own))?)
    }

    /// What a ticket came to: what its last holder left on the server of the queue, else the result of its newest worker here
    /// that left one.
    fn result_of(&self, ticket: &TicketId, fence: Option<u64>) -> Result<Option<String>, SupervisorError> {
        let shared = self.queue.link().map(|link| link.result_of(ticket)).transpose();
        let shared = shared.unwrap_or_else(|error| {
            tracing::warn!(error = error_text(&error), "what is on the server that a ticket came to could not be read");
            None
        });
        if let Some(result) = shared.flatten().filter(|result| Some(result.fence) == fence) {
            return Ok(Some(result.text()));
        }
        let mut workers = self.store.workers()?;
        workers.retain(|worker| worker.ticket == *ticket);
        workers.sort_by_key(|worker| std::cmp::Reverse(worker.attempt.started_at));
        for worker in workers {
            if let Some(text) = read_result(&self.paths.result(&worker.id))? {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    /// What the supervisor gets.
    pub(super) fn handover(
        &self,
        worker: &Worker,
        ticket: &Ticket,
        agent: &Agent,
        env: Vec<(String, String)>,
        prompt: String,
    ) -> Result<Handover, SupervisorError> {
        let runtime = RuntimePaths::new(self.repository.common_dir(), &worker.id)?;
        Ok(Handover {
            common_dir: self.repository.common_dir().to_owned(),
            repository: self.repository.anchor().to_owned(),
            worker: worker.id.clone(),
            fence: worker.attempt.fence,
            tmux: self.expected_session(worker),
            ticket: ticket.clone(),
            agent: agent.clone(),
            prompt,
            ticket_prompt: None,
            resume: None,
            returned_at: None,
            env,
            limits: self.settings.limits,
            health: self.settings.health,
            budget: BudgetSettings { ticket: ticket.budget.or(self.settings.budget.ticket), ..self.settings.budget },
            call_states: self.settings.recover.snapshots,
            models: self.settings.for_models(),
            redact: self.settings.redact.clone(),
            durability: self.settings.durability,
            queue: self.queue.server().cloned(),
            node: self.queue.node().to_owned(),
            templates: self.templates.clone(),
            socket: runtime.socket(),
            ready: runtime.ready(),
            radar_env: self.settings.landing.tell_overlaps.then(|| self.radar_env()),
            carry_env: self.queue.server().map(|_| self.texts_of_environment().collect()),
            program: self.program.clone(),
            reviewers: self.reviewers(ticket),
        })
    }

    /// What of this process's environment the program needs to find repository, configuration and sockets again.
    fn radar_env(&self) -> Vec<(String, String)> {
        let is_needed = |name: &str| RADAR_ENV.contains(&name) || name.starts_with("GIT_CONFIG");
        self.texts_of_environment().filter(|(name, _)| is_needed(name)).collect()
    }

    /// Who reviews the finished work: the ticket's own reviewers, else the configured ones; nobody while other agents of a
    /// ring are to go on with it.
    fn reviewers(&self, ticket: &Ticket) -> Option<Reviewers> {
        let agents = ticket.reviewers.clone().unwrap_or_else(|| self.settings.review.agents.clone());
        let token = self.store.token(&ticket.id).ok().flatten();
        let is_last = token.is_none_or(|token| token.turn + 1 >= token.agents.len());
        (!agents.is_empty() && is_last).then(|| Reviewers { agents, env: self.texts_of_environment().collect() })
    }

    /// The variables of this process that are texts.
    fn texts_of_environment(&self) -> impl Iterator<Item = (String, String)> {
        let all = self.environment.all().into_iter();
        all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
    }

    /// The session the supervisor will find itself in; none when it runs detached.
    fn expected_session(&self, worker: &Worker) -> Option<Session> {
        let tmux = self.tmux.as_ref().filter(|_| !worker.attempt.headless)?;
        Some(Session { socket: tmux.socket().to_owned(), name: self.session_name(worker) })
    }

    /// The name of the worker's tmux session.
    pub(super) fn session_name(&self, worker: &Worker) -> String {
        session_name(&self.repository.name(), self.repository.common_dir(), &worker.id)
    }
}

/// Bytes of another ticket's result that a prompt has room for.
const RESULT_SHOWN: usize = 16 * 1024;

/// Variables that say where things are.
const RADAR_ENV: [&str; 9] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "SWARM_TARGET",
    "SWARM_DURABILITY",
];

/// A dependency as `prompt.md` sees it.
#[derive(serde::Serialize)]
struct DependencyView {
    ticket: String,
    title: String,
    kind: DependencyKind,
    state: &'static str,
    commit: Option<String>,
    is_base: bool,
}

/// What another ticket came to, as `prompt.md` sees it.
#[derive(serde::Serialize)]
struct ResultView {
    ticket: String,
    title: String,
    text: Option<String>,
    is_cut: bool,
    fence: String,
}

impl ResultView {
    /// The view of a result, cut to what a prompt has room for.
    fn new(ticket: &TicketId, title: String, text: Option<String>) -> Self {
        let whole = text.unwrap_or_default();
        let kept = cut(&whole, RESULT_SHOWN);
        let fence = tildes_around(kept);
        let is_cut = kept.len() < whole.len();
        let text = Some(kept.to_owned()).filter(|text| !text.is_empty());
        Self { ticket: ticket.to_string(), title, text, is_cut, fence }
    }
}

/// A ring as the agent whose turn it is sees it.
#[derive(serde::Serialize)]
struct RingView {
    /// The agents in order.
    agents: Vec<String>,
    /// Whose turn it is, and its number from 1.
    agent: String,
    turn: usize,
    /// The one that had its turn last.
    before: Option<String>,
    /// What that one left.
    text: Option<String>,
    is_cut: bool,
    fence: String,
}

impl RingView {
    /// The view of a token that somebody has.
    fn new(token: Token) -> Option<Self> {
        let agent = token.holder()?.to_string();
        let (before, text) = token.report.map(|report| (report.agent.to_string(), report.text)).unzip();
        let whole = text.flatten().unwrap_or_default();
        let kept = cut(&whole, RESULT_SHOWN);
        let (fence, is_cut) = (tildes_around(kept), kept.len() < whole.len());
        let text = Some(kept.to_owned()).filter(|text| !text.is_empty());
        let agents = token.agents.iter().map(ToString::to_string).collect();
        Some(Self { agents, agent, turn: token.turn + 1, before, text, is_cut, fence })
    }
}

/// The variables of `prompt.md` besides the common ones.
#[derive(serde::Serialize)]
struct PromptVariables<'a> {
    body: &'a str,
    dependencies: Vec<DependencyView>,
    results: Vec<ResultView>,
    attempt: u32,
    /// `None` of a ticket that goes round no ring.
    ring: Option<RingView>,
}
