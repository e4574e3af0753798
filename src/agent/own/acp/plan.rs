//! What the process of an agent of the protocol is told at its start: one private file in the worker's folder.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::launch::{LaunchPlan, Mode};
use crate::files::{Access, FileError, write_atomically};
use crate::model::agent::{PermissionMode, Permissions};

/// Everything the process needs besides its environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct AcpPlan {
    /// Program, absolute, and arguments of the agent.
    pub(crate) argv: Vec<OsString>,
    /// The conversation to go on with.
    pub(crate) resume: Option<String>,
    /// Whether nobody answers, and the process ends with the work.
    pub(crate) is_print: bool,
    /// The model, where one is named.
    pub(crate) model: Option<String>,
    /// Who it is told to be; empty is nobody in particular.
    pub(crate) system_prompt: String,
    /// The first message; empty says nothing.
    pub(crate) prompt: String,
    /// The same where the agent cannot go on with the conversation.
    pub(crate) anew: String,
    /// Where it works. Absolute.
    pub(crate) worktree: PathBuf,
    /// What else it may write to. Absolute.
    pub(crate) writable: Vec<PathBuf>,
    /// What it may not write to in any case. Absolute.
    pub(crate) protected: Vec<PathBuf>,
    /// Where files of this worker may be written. Absolute.
    pub(crate) worker_dir: PathBuf,
    /// Tools of the definition; rules among them allow.
    pub(crate) tools: Vec<String>,
    /// How far it acts without asking.
    pub(crate) permission_mode: PermissionMode,
    /// Rules by tool and pattern.
    pub(crate) permissions: Permissions,
    /// MCP servers by name, as the definition has them.
    pub(crate) mcp_servers: BTreeMap<String, Value>,
    /// Time between asking the agent to end and killing it.
    pub(crate) grace: Duration,
}

impl AcpPlan {
    /// The plan of a launch that starts `argv`.
    pub(super) fn new(plan: &LaunchPlan<'_>, argv: &[OsString]) -> Self {
        let agent = plan.agent;
        Self {
            argv: argv.to_vec(),
            resume: plan.resume.map(ToOwned::to_owned),
            is_print: plan.mode == Mode::Print,
            model: agent.model.clone(),
            system_prompt: plan.system_prompt.to_owned(),
            prompt: plan.prompt.to_owned(),
            anew: plan.anew(),
            worktree: plan.worktree.to_owned(),
            writable: plan.writable.to_vec(),
            protected: vec![plan.repo.join(".swarm"), plan.common_dir.to_owned(), plan.worker_dir.to_owned()],
            worker_dir: plan.worker_dir.to_owned(),
            tools: agent.tools.clone(),
            permission_mode: agent.permission_mode,
            permissions: agent.permissions.clone(),
            mcp_servers: agent.mcp_servers.clone(),
            grace: plan.limits.grace,
        }
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
