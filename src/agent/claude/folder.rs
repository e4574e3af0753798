//! The program's own folder: where it keeps its login, settings, conversations and status files.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::agent::AgentError;
use crate::agent::launch::{LaunchPlan, variable};
use crate::files::{Access, read_if_exists, write_atomically};
use crate::model::agent::PermissionMode;

/// The folder that one agent uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folder {
    /// `CLAUDE_CONFIG_DIR`, or `.claude` in the home folder.
    root: PathBuf,
    /// The file with trust and accepted keys: in the folder when that was moved, else beside it.
    state: PathBuf,
}

impl Folder {
    /// The person's folder by an environment; `None` without a home.
    pub(super) fn of_person(env: &[(String, String)]) -> Option<Self> {
        if let Some(root) = variable(env, "CLAUDE_CONFIG_DIR") {
            return Some(Self::moved(Path::new(root)));
        }
        let home = Path::new(variable(env, "HOME")?);
        Some(Self { root: home.join(".claude"), state: home.join(".claude.json") })
    }

    /// A folder that `CLAUDE_CONFIG_DIR` names.
    pub(super) fn moved(root: &Path) -> Self {
        Self { root: root.to_owned(), state: root.join(".claude.json") }
    }

    /// The folder itself.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where plans are written in plan mode.
    pub(super) fn plans(&self) -> PathBuf {
        self.root.join("plans")
    }

    /// The status file of a process.
    pub(super) fn status_file(&self, pid: u32) -> PathBuf {
        self.root.join("sessions").join(format!("{pid}.json"))
    }

    /// Whether a conversation of this id was ever written. Its file lies in a folder named after the working folder,
    /// by a rule that changed between versions, so all of them are looked at. One that is empty was cut off by a full disk.
    pub(super) fn has_conversation(&self, id: &str) -> bool {
        let Ok(projects) = std::fs::read_dir(self.root.join("projects")) else { return false };
        let name = format!("{id}.jsonl");
        projects.flatten().any(|project| std::fs::metadata(project.path().join(&name)).is_ok_and(|file| file.len() > 0))
    }

    /// Whether the program will ask first if it may work there. A repository is trusted by the exact path of its
    /// main worktree or of the linked worktree; folders above do not count (2.1.329).
    pub(super) fn asks_for_trust(&self, plan: &LaunchPlan<'_>) -> bool {
        let Some(state) = self.load_state() else { return true };
        let is_trusted = |path: &Path| {
            let project = state.get("projects").and_then(|projects| projects.get(path.to_string_lossy().as_ref()));
            project.and_then(|project| project.get("hasTrustDialogAccepted")).and_then(Value::as_bool) == Some(true)
        };
        !is_trusted(plan.repo) && !is_trusted(plan.worktree)
    }

    /// Whether the program will ask first if it may use the API key of the environment.
    pub(super) fn asks_for_key(&self, env: &[(String, String)]) -> bool {
        let Some(key) = variable(env, "ANTHROPIC_API_KEY") else { return false };
        let approved = self.load_state().and_then(|state| {
            let approved = state.get("customApiKeyResponses")?.get("approved")?.as_array()?.clone();
            Some(approved.iter().any(|known| known.as_str() == Some(key_tail(key))))
        });
        !approved.unwrap_or(false)
    }

    /// The state file, where it is there and readable.
    fn load_state(&self) -> Option<Map<String, Value>> {
        let bytes = read_if_exists(&self.state).ok().flatten()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Answers the program's first-run questions for an isolated agent, and leaves what else is in its state file.
    pub(super) fn seed(&self, plan: &LaunchPlan<'_>) -> Result<PathBuf, AgentError> {
        let mut state = self.load_state().unwrap_or_default();
        state.insert("hasCompletedOnboarding".to_owned(), json!(true));
        if let Some(key) = variable(plan.env, "ANTHROPIC_API_KEY") {
            state.insert("customApiKeyResponses".to_owned(), json!({"approved": [key_tail(key)], "rejected": []}));
        }
        if plan.agent.permission_mode == PermissionMode::Bypass {
            state.insert("bypassPermissionsModeAccepted".to_owned(), json!(true));
        }
        let projects = as_object(state.entry("projects").or_insert(Value::Null));
        for path in [plan.repo, plan.worktree] {
            let project = projects.entry(path.to_string_lossy()).or_insert(Value::Null);
            as_object(project).insert("hasTrustDialogAccepted".to_owned(), json!(true));
        }
        let text = Value::Object(state).to_string();
        write_atomically(&self.state, text.as_bytes(), Access::Private)?;
        Ok(self.state.clone())
    }
}

/// The part of an API key by which the program remembers it: the last 20 characters.
fn key_tail(key: &str) -> &str {
    key.char_indices().rev().nth(19).map_or(key, |(at, _)| &key[at..])
}

/// The fields of a value; one that is no object becomes an empty one.
fn as_object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was made an object above")
}
