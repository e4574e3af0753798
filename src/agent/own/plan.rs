//! What a loop is told at its start: one private file in the worker's folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::AgentError;
use crate::agent::launch::{LaunchPlan, Mode};
use crate::files::{Access, FileError, write_atomically};
use crate::llm::Budget;
use crate::model::agent::{Agent, PermissionMode, Permissions, RuntimeKind};
use crate::model::providers::ModelSettings;

/// How a model that is a recording is written.
const REPLAY: &str = "replay:";

/// Everything a loop's process needs besides its environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LoopPlan {
    /// Id of the conversation.
    pub(crate) session: String,
    /// The file that holds it; there when the conversation goes on.
    pub(crate) conversation: PathBuf,
    /// Whether nobody answers, and the process ends with the work.
    pub(crate) is_print: bool,
    /// The model, as people write it.
    pub(crate) model: String,
    /// Who it is told to be; empty is nobody in particular.
    pub(crate) system_prompt: String,
    /// The first message; empty says nothing.
    pub(crate) prompt: String,
    /// Where it works. Absolute.
    pub(crate) worktree: PathBuf,
    /// What else it may write to. Absolute.
    pub(crate) writable: Vec<PathBuf>,
    /// What it may not write to in any case. Absolute.
    pub(crate) protected: Vec<PathBuf>,
    /// Where files of this worker may be written. Absolute.
    pub(crate) worker_dir: PathBuf,
    /// Tools it may use, as the agent definition lists them; empty is all.
    pub(crate) tools: Vec<String>,
    /// How far it acts without asking.
    pub(crate) permission_mode: PermissionMode,
    /// Rules by tool and pattern.
    pub(crate) permissions: Permissions,
    /// MCP servers by name, as the definition has them.
    pub(crate) mcp_servers: BTreeMap<String, Value>,
    /// Who serves models.
    pub(crate) models: ModelSettings,
    /// What models that cost money may cost; `None` is without limit.
    pub(crate) budget: Option<Budget>,
    /// Answers of the model in one turn.
    pub(crate) max_turns: u32,
    /// Time of a tool that was given none.
    pub(crate) tool_timeout: Duration,
    /// Bytes of a tool's output that the model reads.
    pub(crate) tool_output: usize,
    /// Time between asking a tool to end and killing it.
    pub(crate) grace: Duration,
}

impl LoopPlan {
    /// The plan of a launch, for the conversation `session`.
    pub(super) fn new(plan: &LaunchPlan<'_>, session: &str) -> Result<Self, AgentError> {
        let agent = plan.agent;
        Ok(Self {
            session: session.to_owned(),
            conversation: conversation_file(plan.worker_dir, session),
            is_print: plan.mode == Mode::Print,
            model: model(agent, plan.repo).ok_or(AgentError::NoModel)?,
            system_prompt: plan.system_prompt.to_owned(),
            prompt: plan.prompt.to_owned(),
            worktree: plan.worktree.to_owned(),
            writable: plan.writable.to_vec(),
            protected: vec![plan.repo.join(".swarm"), plan.common_dir.to_owned(), plan.worker_dir.to_owned()],
            worker_dir: plan.worker_dir.to_owned(),
            tools: agent.tools.clone(),
            permission_mode: agent.permission_mode,
            permissions: agent.permissions.clone(),
            mcp_servers: agent.mcp_servers.clone(),
            models: plan.models.clone(),
            budget: plan.budget_usd.map(|limit_usd| Budget { limit_usd, spent_usd: plan.spent_usd }),
            max_turns: plan.limits.max_turns,
            tool_timeout: plan.limits.tool_timeout,
            tool_output: plan.limits.tool_output,
            grace: plan.limits.grace,
        })
    }

    /// Writes it with access for the owner only: it holds the prompt, and what servers are started with.
    pub(super) fn save(&self, path: &Path) -> Result<(), FileError> {
        let text = serde_json::to_vec(self).expect("a plan has text keys only");
        write_atomically(path, &text, Access::Private)
    }

    /// Reads a plan.
    ///
    /// # Errors
    /// When it cannot be read, or is not one.
    pub(crate) fn load(path: &Path) -> Result<Self, FileError> {
        let bytes = std::fs::read(path).map_err(FileError::on("read the plan", path))?;
        serde_json::from_slice(&bytes).map_err(|error| FileError::on("understand the plan", path)(error.into()))
    }
}

/// The file of a conversation.
pub(super) fn conversation_file(worker_dir: &Path, session: &str) -> PathBuf {
    worker_dir.join(format!("conversation.{session}.jsonl"))
}

/// The model of an agent as people write it; the file of a recording is looked for in the main worktree.
pub(in crate::agent) fn model(agent: &Agent, repo: &Path) -> Option<String> {
    let named = agent.model.as_deref()?;
    let recording = match named.strip_prefix(REPLAY) {
        Some(file) => file,
        None if agent.runtime == RuntimeKind::Replay => named,
        None => return Some(named.to_owned()),
    };
    Some(format!("{REPLAY}{}", repo.join(recording).display()))
}
