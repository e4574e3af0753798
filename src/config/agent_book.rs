//! All agents of a project, from everywhere they are defined.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use super::agent::parse_agent;
use super::error::{ConfigError, Problem};
use super::folder::read_folder;
use super::preset::Presets;
use crate::model::AgentName;
use crate::model::agent::{Agent, AgentOrigin};
use crate::model::preset::Preset;

/// The agents that come with `swarm`: file names and texts.
const BUILT_IN: [(&str, &str); 6] = [
    ("ticket-worker.md", include_str!("../../agents/ticket-worker.md")),
    ("code-reviewer.md", include_str!("../../agents/code-reviewer.md")),
    ("test-writer.md", include_str!("../../agents/test-writer.md")),
    ("documentation-writer.md", include_str!("../../agents/documentation-writer.md")),
    ("conflict-resolver.md", include_str!("../../agents/conflict-resolver.md")),
    ("planner.md", include_str!("../../agents/planner.md")),
];

/// Where agents are defined besides the built-in ones, from the weakest up.
#[derive(Debug, Default)]
pub(crate) struct AgentSources {
    /// The user's configuration folder, if there is one; `agents/*.md` in it are read.
    pub(crate) user_folder: Option<PathBuf>,
    /// Files of `.swarm/presets/` of the repository, as path for messages and text; those in `presets/` of the user's
    /// folder are read, too.
    pub(crate) presets: Vec<(PathBuf, String)>,
    /// Files of `.claude/agents/` of the repository, as path for messages and text.
    pub(crate) claude_project: Vec<(PathBuf, String)>,
    /// Files of `.swarm/agents/` of the repository, likewise.
    pub(crate) project: Vec<(PathBuf, String)>,
}

/// Agents by name. A stronger definition hides a weaker one of the same name, also when it is broken: an agent
/// with other permissions than its file says would be worse than none.
#[derive(Debug)]
pub(crate) struct AgentBook {
    /// What each name means: an agent, or why there is none.
    entries: BTreeMap<String, Entry>,
    /// Every broken file.
    problems: Vec<ConfigError>,
    /// What agents call by `preset`.
    presets: Presets,
}

/// What a name means.
#[derive(Debug)]
struct Entry {
    /// Where it was found.
    origin: AgentOrigin,
    /// The file, for the message when another one claims the same name.
    path: PathBuf,
    /// The agent or the fault in its file. That of a built-in one is read when it is first wanted.
    agent: OnceCell<Result<Agent, Problem>>,
}

impl Entry {
    /// The agent or the fault in its file.
    fn agent(&self) -> Result<&Agent, &Problem> {
        self.agent.get_or_init(|| self.read_built_in()).as_ref()
    }

    /// Reads a built-in agent. The text is found by the file, which every entry that is not read yet is made from.
    fn read_built_in(&self) -> Result<Agent, Problem> {
        let name = self.path.file_name().unwrap_or_default();
        let text = BUILT_IN.iter().find(|(file, _)| name == *file).map_or("", |(_, text)| text);
        // None of them names a preset.
        parse_agent(&self.path, text, self.origin, &Presets::default()).map_err(|(_, problem)| problem)
    }
}

/// Reads all agents.
///
/// # Errors
/// Only when the user's folder cannot be read; a broken file is a problem in the book.
pub(crate) fn load_agents(sources: &AgentSources) -> Result<AgentBook, ConfigError> {
    let presets = Presets::load(sources.user_folder.as_deref(), &sources.presets)?;
    let mut book = AgentBook { entries: BTreeMap::new(), problems: Vec::new(), presets };
    for (file, _) in BUILT_IN {
        let path = PathBuf::from("agents").join(file);
        let name = file.trim_end_matches(".md").to_owned();
        book.entries.insert(name, Entry { origin: AgentOrigin::BuiltIn, path, agent: OnceCell::new() });
    }
    if let Some(folder) = &sources.user_folder {
        for (path, bytes) in read_folder(&folder.join("agents"), &["md"])? {
            let text = String::from_utf8(bytes).ok();
            book.add(path, text.as_deref(), AgentOrigin::User);
        }
    }
    let project = [(&sources.claude_project, AgentOrigin::ClaudeProject), (&sources.project, AgentOrigin::Project)];
    for (files, origin) in project {
        for (path, text) in files {
            book.add(path.clone(), Some(text), origin);
        }
    }
    Ok(book)
}

impl AgentBook {
    /// Adds one file over what is there; `None` is a text that is not UTF-8.
    fn add(&mut self, path: PathBuf, text: Option<&str>, origin: AgentOrigin) {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        // A note for people beside the agents, not an agent.
        if stem == "README" {
            return;
        }
        let parsed = match text {
            Some(text) => parse_agent(&path, text, origin, &self.presets),
            None => Err((stem, Problem::in_file(path.display().to_string(), "not UTF-8 text"))),
        };
        let (name, mut agent) = match parsed {
            Ok(agent) => (agent.name.to_string(), Ok(agent)),
            Err((name, problem)) => (name, Err(problem)),
        };
        if let Some(earlier) = self.entries.get(&name).filter(|earlier| earlier.origin == origin) {
            let message = format!("`{name}` is already defined in `{}`", earlier.path.display());
            agent = Err(Problem::in_file(path.display().to_string(), message));
        }
        if let Err(problem) = &agent {
            self.problems.push(problem.clone().into());
        }
        self.entries.insert(name, Entry { origin, path, agent: OnceCell::from(agent) });
    }

    /// The agent of a name.
    ///
    /// # Errors
    /// The fault of its file, or that there is none, with the names there are.
    pub(crate) fn get(&self, name: &AgentName) -> Result<&Agent, ConfigError> {
        match self.entries.get(name.as_str()) {
            Some(entry) => entry.agent().map_err(|problem| problem.clone().into()),
            None => {
                let names: Vec<_> = self.all().map(|agent| agent.name.as_str()).collect();
                let problem = Problem::new(format!("there is no agent `{name}`"));
                Err(problem.with_valid("known agents", &names, name.as_str()).into())
            }
        }
    }

    /// Whether anything, usable or broken, is defined under a name.
    pub(crate) fn defines(&self, name: &AgentName) -> bool {
        self.entries.contains_key(name.as_str())
    }

    /// All usable presets by name.
    pub(crate) fn presets(&self) -> Vec<Preset> {
        self.presets.all()
    }

    /// All usable agents by name.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Agent> {
        self.entries.values().filter_map(|entry| entry.agent().ok())
    }

    /// The faults of all broken files, built-in ones first, then as in [`AgentSources`].
    pub(crate) fn problems(&self) -> &[ConfigError] {
        &self.problems
    }
}

#[cfg(test)]
mod tests;
