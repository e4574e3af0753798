//! `agents list`, `show` and `check`.

use super::{Control, partial};
use crate::agent::{Probe, probe};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::views::{AgentCheckView, AgentView, AgentsView, VIEW_VERSION};
use crate::model::AgentName;
use crate::model::agent::{Agent, RuntimeKind};

/// Programs asked for their version at once; each may be a runtime of hundreds of megabytes.
const AT_ONCE: usize = 3;

/// One program with its surroundings, and the agents that use it.
struct Question<'a> {
    /// The first of the agents.
    agent: &'a Agent,
    /// Its environment.
    env: Vec<(String, String)>,
    /// All of them.
    agents: Vec<&'a AgentName>,
}

impl Control {
    /// All agents by name, and what is wrong with files that define none.
    pub(crate) fn agents(&self) -> Result<AgentsView, Failure> {
        let book = self.project.agents()?;
        let agents: Result<_, Failure> = book.all().map(|agent| self.agent_view(agent)).collect();
        self.agents_view(agents?)
    }

    /// One agent with its system prompt.
    pub(crate) fn show_agent(&self, name: &str) -> Result<AgentsView, Failure> {
        let agent = self.known_agent(name)?;
        let mut view = self.agent_view(agent)?;
        view.system_prompt = Some(agent.system_prompt.clone());
        Ok(AgentsView { version: VIEW_VERSION, agents: vec![view], problems: Vec::new() })
    }

    /// Asks whether agents can run here: the named ones, or all. The second value is the failure for the exit code: of
    /// the named ones, or without names of the configured default alone.
    pub(crate) fn check_agents(&self, names: &[String]) -> Result<(AgentsView, Result<(), Failure>), Failure> {
        let mut agents = Vec::new();
        if names.is_empty() {
            agents.extend(self.project.agents()?.all());
        }
        for name in names {
            let agent = self.known_agent(name)?;
            if !agents.iter().any(|known: &&Agent| known.name == agent.name) {
                agents.push(agent);
            }
        }
        let found = self.probe_all(&agents)?;
        let mut views = Vec::new();
        let mut failures = Vec::new();
        let mut ready = 0;
        for (agent, probe) in agents.iter().zip(&found) {
            let mut view = self.agent_view(agent)?;
            let counts = !names.is_empty() || view.is_default;
            match not_ready(agent, probe) {
                Some(failure) if counts => failures.push((agent.name.to_string(), failure)),
                Some(_) => {}
                None => ready += 1,
            }
            view.check = Some(check_view(probe));
            views.push(view);
        }
        if names.is_empty() {
            // Without names one agent decides, and the others are no half of a success.
            ready = 0;
            self.project.agent(&self.project.settings()?.agent)?;
        }
        Ok((self.agents_view(views)?, partial(ready, failures)))
    }

    /// The agent of a name that a person gave.
    fn known_agent(&self, name: &str) -> Result<&Agent, Failure> {
        let name: AgentName = name.parse()?;
        let book = self.project.agents()?;
        book.get(&name).map_err(|error| {
            let mut failure = Failure::from(error);
            if !book.defines(&name) {
                failure.kind = FailureKind::NotFound;
            }
            failure
        })
    }

    /// Asks the programs of agents and those who serve their models, each once; answers in the order of the agents.
    pub(super) fn probe_all(&self, agents: &[&Agent]) -> Result<Vec<Probe>, Failure> {
        let mut questions: Vec<Question<'_>> = Vec::new();
        for agent in agents {
            let env = self.agent_env(agent)?;
            let same = |known: &&mut Question<'_>| {
                known.agent.runtime == agent.runtime
                    && known.agent.command == agent.command
                    && known.agent.preset == agent.preset
                    && (known.agent.provider == agent.provider && known.agent.model == agent.model)
                    && known.env == env
            };
            match questions.iter_mut().find(same) {
                Some(known) => known.agents.push(&agent.name),
                None => questions.push(Question { agent, env, agents: vec![&agent.name] }),
            }
        }
        let cwd = self.project.repository.anchor();
        let models = self.project.settings()?.for_models();
        let mut answers = Vec::new();
        for some in questions.chunks(AT_ONCE) {
            let probes: Vec<Probe> = std::thread::scope(|scope| {
                let ask = |one: &Question<'_>| probe(one.agent, &one.env, cwd, Some(&models));
                let asked: Vec<_> = some.iter().map(|one| scope.spawn(move || ask(one))).collect();
                asked.into_iter().map(|thread| thread.join().expect("a probe reports its failures")).collect()
            });
            answers.extend(some.iter().zip(probes));
        }
        let answer = |agent: &&Agent| {
            let of = answers.iter().find(|(question, _)| question.agents.contains(&&agent.name));
            of.map(|(_, probe)| probe.clone()).expect("every agent is in a question")
        };
        Ok(agents.iter().map(answer).collect())
    }

    /// The view of several agents.
    fn agents_view(&self, agents: Vec<AgentView>) -> Result<AgentsView, Failure> {
        let problems = self.project.agents()?.problems().iter().map(ToString::to_string).collect();
        Ok(AgentsView { version: VIEW_VERSION, agents, problems })
    }

    /// One agent without check and prompt.
    fn agent_view(&self, agent: &Agent) -> Result<AgentView, Failure> {
        let mode = serde_json::to_value(agent.permission_mode).ok();
        let mode = mode.as_ref().and_then(|mode| mode.as_str()).unwrap_or_default();
        Ok(AgentView {
            name: agent.name.to_string(),
            description: agent.description.clone(),
            runtime: agent.runtime,
            preset: agent.preset.as_ref().map(|preset| preset.name.clone()),
            verified: verified(agent),
            model: agent.model.clone(),
            provider: agent.provider.clone(),
            origin: agent.origin,
            is_default: agent.name == self.project.settings()?.agent,
            command: agent.command.clone(),
            tools: agent.tools.clone(),
            permission_mode: mode.to_owned(),
            isolated: agent.isolated,
            capabilities: agent.capabilities.clone(),
            check: None,
            system_prompt: None,
        })
    }
}

/// How far an agent's runtime was seen to work.
fn verified(agent: &Agent) -> Option<String> {
    match (agent.runtime, &agent.preset) {
        (_, Some(preset)) => Some(preset.verified.text()),
        (RuntimeKind::Claude, None) => Some("run against 2.1.329".to_owned()),
        (runtime, None) => runtime.is_own().then(|| "part of swarm".to_owned()),
    }
}

/// The failure of an agent that cannot run here.
fn not_ready(agent: &Agent, probe: &Probe) -> Option<Failure> {
    let problem = probe.problem.as_ref().or(probe.doubt.as_ref())?;
    let mut failure = Failure::new(FailureKind::Failed, format!("agent `{}` cannot run: {problem}", agent.name));
    failure.hints.extend(probe.hint.clone());
    Some(failure)
}

/// What a probe found.
fn check_view(probe: &Probe) -> AgentCheckView {
    let program = match (&probe.path, &probe.version) {
        (Some(path), Some(version)) => Some(format!("{} {version}", path.display())),
        (Some(path), None) => Some(path.display().to_string()),
        (None, Some(version)) => Some(format!("{} {version}", probe.program)),
        (None, None) => None,
    };
    let with = |program| match &probe.model {
        Some(model) => format!("{program} with {model}"),
        None => program,
    };
    let program = program.map(with);
    let problem = probe.problem.clone().or_else(|| probe.doubt.clone());
    AgentCheckView { ready: problem.is_none(), program, problem, hint: probe.hint.clone() }
}
