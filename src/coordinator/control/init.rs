//! `init`: the files a project begins with. Nothing that is there is changed, nothing is committed.

use std::path::{Path, PathBuf};

use super::Control;
use crate::config::{init_files, workflow_file};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::views::{FindingView, InitView, VIEW_VERSION};
use crate::files::{self, FileError};
use crate::llm;
use crate::model::AgentName;
use crate::model::agent::{Agent, RuntimeKind};
use crate::model::preset::Preset;
use crate::model::providers::OLLAMA;

/// The line of the files that names the agent.
const AGENT_LINE: &str = "\nagent: ticket-worker\n";

/// The agent that a proposal defines.
const PROPOSED: &str = "found-worker";

impl Control {
    /// Writes what is missing of the configuration and a sample ticket into the main worktree, with `ci` also a workflow
    /// of GitHub Actions, and looks at what this machine lacks. Files that are there stay as they are.
    ///
    /// # Errors
    /// In a bare repository, and for an agent that is not defined; nothing is written then.
    pub(crate) fn init(&self, agent: Option<&str>, ci: bool) -> Result<InitView, Failure> {
        let top = self.project.repository.main_worktree().ok_or_else(|| {
            Failure::new(FailureKind::Usage, "the repository is bare: there is no worktree to write `.swarm` into")
                .hint("run swarm init in a clone, commit .swarm there and push it; a bare repository reads its target branch")
        })?;
        let agent: Option<AgentName> = agent.map(str::parse).transpose()?;
        if let Some(agent) = &agent {
            self.project.agent(agent)?;
        }
        let has_tickets = !self.ticket_paths()?.is_empty();
        let mut view = InitView { version: VIEW_VERSION, written: vec![], kept: vec![], findings: vec![] };
        for (name, text) in init_files().into_iter().chain(ci.then(workflow_file)) {
            let path = top.join(name);
            let is_sample = name.starts_with(".swarm/tickets/");
            if is_sample && has_tickets && !path.exists() {
                continue;
            }
            match write(&path, text, agent.as_ref())? {
                true => view.written.push(path),
                false => view.kept.push(path),
            }
        }
        view.findings = self.machine();
        if agent.is_none() {
            view.findings.extend(self.proposal(top, &mut view.written)?);
        }
        view.findings.extend(agent.and_then(|agent| self.other_agent(&agent)));
        Ok(view)
    }

    /// Where the default agent cannot run here and something else that was found could: an agent file for that, which
    /// nothing uses until a person says so. Claude Code comes first, then an Ollama with a model that can call tools,
    /// then any other program that there is a preset for.
    fn proposal(&self, top: &Path, written: &mut Vec<PathBuf>) -> Result<Option<FindingView>, Failure> {
        let book = self.project.agents()?;
        let Ok(default) = self.project.agent(&self.project.settings()?.agent) else { return Ok(None) };
        let can_run = |probe: &crate::agent::Probe| probe.problem.is_none() && probe.doubt.is_none();
        if default.runtime != RuntimeKind::Claude || self.probe_all(&[default])?.iter().all(can_run) {
            return Ok(None);
        }
        let Some(found) = self.found_runtime(default, &book.presets())? else { return Ok(None) };
        let Some(name) = PROPOSED.parse().ok().filter(|name: &AgentName| !book.defines(name)) else { return Ok(None) };
        let path = top.join(format!(".swarm/agents/{name}.md"));
        let text = format!("---\nname: {name}\ndescription: {}\n{}---\n{}", found.0, found.1, default.system_prompt);
        if write(&path, &text, None)? {
            written.push(path);
        }
        Ok(Some(FindingView {
            level: "warning".to_owned(),
            subject: "proposal".to_owned(),
            text: format!("claude cannot run here, but {} could; `{name}` is an agent for it", found.0),
            hint: Some(format!("set `agent: {name}` in .swarm/config.yaml, or delete .swarm/agents/{name}.md")),
            mend: None,
            mended: None,
        }))
    }

    /// The best runtime on this machine besides Claude Code: what it is, and the lines of an agent that choose it.
    fn found_runtime(&self, default: &Agent, presets: &[Preset]) -> Result<Option<(String, String)>, Failure> {
        let settings = self.project.settings()?.for_models();
        let environment = &self.project.call.environment;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::from_error(FailureKind::Internal, &error))?;
        let models = runtime.block_on(llm::tool_models(OLLAMA, &settings, environment));
        if let Some(model) = models.first() {
            let lines = format!("runtime: ollama\nmodel: \"{OLLAMA}/{model}\"\n");
            return Ok(Some((format!("Ollama with {model}"), lines)));
        }
        for preset in presets {
            let agent = Agent {
                runtime: RuntimeKind::Command,
                preset: Some(Box::new(preset.clone())),
                command: Vec::new(),
                ..default.clone()
            };
            if self.probe_all(&[&agent])?.iter().all(|probe| probe.problem.is_none() && probe.doubt.is_none()) {
                return Ok(Some((preset.title.clone(), format!("preset: {}\n", preset.name))));
            }
        }
        Ok(None)
    }

    /// A warning when a kept configuration does not name the agent that was asked for.
    fn other_agent(&self, wanted: &AgentName) -> Option<FindingView> {
        let configured = &self.project.settings().ok()?.agent;
        (configured != wanted).then(|| FindingView {
            level: "warning".to_owned(),
            subject: "config".to_owned(),
            text: format!("the default agent stays `{configured}`: .swarm/config.yaml was there already"),
            hint: Some(format!("set `agent: {wanted}` in .swarm/config.yaml")),
            mend: None,
            mended: None,
        })
    }
}

/// Writes a file unless it is there; whether it was written.
fn write(path: &Path, text: &str, agent: Option<&AgentName>) -> Result<bool, Failure> {
    let text = match agent.filter(|agent| agent.as_str() != "ticket-worker") {
        // In quotes, because an agent may be called `on` or `1.5`.
        Some(agent) => text.replacen(AGENT_LINE, &format!("\nagent: \"{agent}\"\n"), 1),
        None => text.to_owned(),
    };
    match files::write_new(path, text.as_bytes()) {
        Ok(()) => Ok(true),
        Err(FileError { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_names_its_agent_on_the_line_that_is_replaced() {
        for (name, text) in init_files() {
            assert_eq!(text.matches(AGENT_LINE).count(), 1, "{name}");
        }
    }
}
