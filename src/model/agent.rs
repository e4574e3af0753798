//! Agent definitions: who a worker is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::AgentName;
use super::preset::Preset;

/// An agent as its markdown file defines it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Agent {
    /// Its name.
    pub(crate) name: AgentName,
    /// One line for lists.
    pub(crate) description: String,
    /// The kind of program that executes it, with what that kind needs.
    pub(crate) runtime: RuntimeKind,
    /// Program and arguments; used by the runtimes `command` and `acp` only, never empty there without a preset. With
    /// one it is what is started in place of the preset's program, and the preset's arguments follow.
    pub(crate) command: Vec<String>,
    /// What is known about its program, where it names a preset.
    pub(crate) preset: Option<Box<Preset>>,
    /// How a `command` agent gets its prompt.
    pub(crate) prompt: PromptDelivery,
    /// Model name as its runtime understands it; `None` is the runtime's default.
    pub(crate) model: Option<String>,
    /// Who serves the model of a `claude` agent in place of Anthropic, by its name in the settings.
    pub(crate) provider: Option<String>,
    /// Tools it may use; empty is the runtime's default set.
    pub(crate) tools: Vec<String>,
    /// How far it acts without asking.
    pub(crate) permission_mode: PermissionMode,
    /// Rules by tool and pattern.
    pub(crate) permissions: Permissions,
    /// Whether it gets its own configuration folder instead of the person's.
    pub(crate) isolated: bool,
    /// MCP servers by name, passed to the runtime as written.
    pub(crate) mcp_servers: BTreeMap<String, serde_json::Value>,
    /// What it can do, for matching with tickets.
    pub(crate) capabilities: Vec<String>,
    /// Extra environment.
    pub(crate) env: BTreeMap<String, String>,
    /// System prompt, a template.
    pub(crate) system_prompt: String,
    /// Where the definition was found.
    pub(crate) origin: AgentOrigin,
    /// Its file, as messages name it; empty in what an older version handed over.
    #[serde(default)]
    pub(crate) file: PathBuf,
}

impl Agent {
    /// The model it asks, as far as agents can be told apart by it: its name, or whoever chooses one in its place.
    pub(crate) fn model_name(&self) -> String {
        match (&self.model, &self.provider, &self.preset) {
            (Some(model), Some(provider), _) => format!("{provider}/{model}"),
            (Some(model), None, _) => model.clone(),
            (None, _, None) if self.runtime == RuntimeKind::Claude => "claude".to_owned(),
            (None, ..) => self.name.to_string(),
        }
    }
}

/// The kind of program that executes an agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RuntimeKind {
    /// The Claude Code program.
    #[default]
    Claude,
    /// Any program.
    Command,
    /// Any agent that speaks the Agent Client Protocol.
    Acp,
    /// The agent loop of `swarm` itself, with a model from Ollama or any other provider.
    Ollama,
    /// The same loop with a recorded conversation in place of a model.
    Replay,
}

impl RuntimeKind {
    /// The word used in files and JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Command => "command",
            Self::Acp => "acp",
            Self::Ollama => "ollama",
            Self::Replay => "replay",
        }
    }

    /// Whether it is the agent loop of `swarm` itself.
    pub(crate) fn is_own(self) -> bool {
        matches!(self, Self::Ollama | Self::Replay)
    }
}

/// How a `command` agent gets its prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PromptDelivery {
    /// By the file that `{prompt_file}` and `SWARM_PROMPT_FILE` name.
    #[default]
    File,
    /// On standard input, which then ends.
    Stdin,
    /// As the last argument.
    Argument,
}

/// How far an agent acts without asking.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PermissionMode {
    /// Asks for everything that is not allowed by rule.
    #[serde(rename = "default")]
    Default,
    /// Edits files without asking.
    #[default]
    #[serde(rename = "acceptEdits")]
    AcceptEdits,
    /// Reads and plans only.
    #[serde(rename = "plan")]
    Plan,
    /// Never asks; only by explicit definition.
    #[serde(rename = "bypass")]
    Bypass,
}

/// Permission rules in Claude Code's syntax, such as `Bash(cargo test*)`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Permissions {
    /// Done without asking.
    pub(crate) allow: Vec<String>,
    /// Waits for a person; denied where none can answer.
    pub(crate) ask: Vec<String>,
    /// Never done.
    pub(crate) deny: Vec<String>,
}

/// Where an agent definition was found; later variants override earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AgentOrigin {
    /// Embedded in the program.
    BuiltIn,
    /// `agents/` in the user's configuration folder.
    User,
    /// `.claude/agents/` of the repository.
    ClaudeProject,
    /// `.swarm/agents/` of the repository.
    Project,
}
