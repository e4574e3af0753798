//! `init`: the files a project begins with. Nothing that is there is changed, nothing is committed.

use std::path::Path;

use super::Control;
use crate::config::init_files;
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::views::{FindingView, InitView, VIEW_VERSION};
use crate::files::{self, FileError};
use crate::model::AgentName;

/// The line of the files that names the agent.
const AGENT_LINE: &str = "\nagent: ticket-worker\n";

impl Control {
    /// Writes what is missing of the configuration and a sample ticket into the main worktree, and looks at what this
    /// machine lacks. Files that are there stay as they are.
    ///
    /// # Errors
    /// In a bare repository, and for an agent that is not defined; nothing is written then.
    pub(crate) fn init(&self, agent: Option<&str>) -> Result<InitView, Failure> {
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
        for (name, text) in init_files() {
            let path = top.join(name);
            let is_sample = name != ".swarm/config.yaml";
            if is_sample && has_tickets && !path.exists() {
                continue;
            }
            match write(&path, text, agent.as_ref())? {
                true => view.written.push(path),
                false => view.kept.push(path),
            }
        }
        view.findings = self.machine();
        view.findings.extend(agent.and_then(|agent| self.other_agent(&agent)));
        Ok(view)
    }

    /// A warning when a kept configuration does not name the agent that was asked for.
    fn other_agent(&self, wanted: &AgentName) -> Option<FindingView> {
        let configured = &self.project.settings().ok()?.agent;
        (configured != wanted).then(|| FindingView {
            level: "warning".to_owned(),
            subject: "config".to_owned(),
            text: format!("the default agent stays `{configured}`: .swarm/config.yaml was there already"),
            hint: Some(format!("set `agent: {wanted}` in .swarm/config.yaml")),
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
