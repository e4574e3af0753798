//! A place to launch agents in, for this module's tests.

use std::path::{Path, PathBuf};

use super::launch::{LaunchPlan, Mode};
use crate::files::{Access, write_atomically};
use crate::model::agent::{Agent, AgentOrigin, PermissionMode, Permissions, PromptDelivery, RuntimeKind};
use crate::model::providers::ModelSettings;
use crate::model::settings::Limits;
use crate::model::{BranchName, TicketId, WorkerId};

/// Folders of one worker.
pub(super) struct Place {
    folder: tempfile::TempDir,
    ticket: TicketId,
    worker: WorkerId,
    branch: BranchName,
    prompt_file: PathBuf,
    repo: PathBuf,
    worktree: PathBuf,
    worker_dir: PathBuf,
    common_dir: PathBuf,
    exe: PathBuf,
    limits: Limits,
    models: ModelSettings,
    /// The environment of the plan.
    pub(super) env: Vec<(String, String)>,
    /// The conversation to resume.
    pub(super) resume: Option<String>,
    /// The system prompt.
    pub(super) system_prompt: String,
}

impl Place {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let at = |name: &str| root.join(name);
        for name in ["repo/.git/swarm/workers/fix", "tree", "home"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Self {
            ticket: "fix".parse().unwrap(),
            worker: "fix".parse().unwrap(),
            branch: "swarm/fix".parse().unwrap(),
            worker_dir: at("repo/.git/swarm/workers/fix"),
            prompt_file: at("repo/.git/swarm/workers/fix/prompt.md"),
            repo: at("repo"),
            common_dir: at("repo/.git"),
            worktree: at("tree"),
            exe: at("it's here/swarm"),
            limits: Limits::default(),
            models: ModelSettings::default(),
            env: vec![
                variable("PATH", "/usr/bin:/bin"),
                variable("HOME", &at("home").display().to_string()),
                // Any program will do where nothing is started.
                variable("SWARM_CLAUDE", "/bin/true"),
            ],
            resume: None,
            system_prompt: String::new(),
            folder,
        }
    }

    pub(super) fn worktree(&self) -> &Path {
        &self.worktree
    }

    pub(super) fn repo(&self) -> &Path {
        &self.repo
    }

    pub(super) fn worker_dir(&self) -> &Path {
        &self.worker_dir
    }

    pub(super) fn home(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("home")
    }

    pub(super) fn prompt_file(&self) -> &Path {
        &self.prompt_file
    }

    pub(super) fn write_prompt(&self, text: &str) {
        write_atomically(&self.prompt_file, text.as_bytes(), Access::Private).unwrap();
    }

    pub(super) fn plan<'a>(&'a self, agent: &'a Agent, prompt: &'a str, mode: Mode) -> LaunchPlan<'a> {
        LaunchPlan {
            agent,
            ticket: &self.ticket,
            worker: &self.worker,
            branch: &self.branch,
            worktree: &self.worktree,
            repo: &self.repo,
            common_dir: &self.common_dir,
            worker_dir: &self.worker_dir,
            prompt,
            ticket_prompt: "",
            prompt_file: &self.prompt_file,
            system_prompt: &self.system_prompt,
            mode,
            resume: self.resume.as_deref(),
            env: &self.env,
            swarm_exe: &self.exe,
            writable: &[],
            limits: &self.limits,
            models: &self.models,
            budget_usd: None,
            spent_usd: 0.0,
        }
    }
}

/// An agent with nothing special about it.
pub(super) fn agent(runtime: RuntimeKind) -> Agent {
    Agent {
        name: "ticket-worker".parse().unwrap(),
        description: String::new(),
        runtime,
        command: Vec::new(),
        preset: None,
        prompt: PromptDelivery::File,
        model: None,
        provider: None,
        tools: Vec::new(),
        permission_mode: PermissionMode::AcceptEdits,
        permissions: Permissions::default(),
        isolated: false,
        mcp_servers: std::collections::BTreeMap::new(),
        capabilities: Vec::new(),
        env: std::collections::BTreeMap::new(),
        system_prompt: String::new(),
        origin: AgentOrigin::BuiltIn,
        file: std::path::PathBuf::new(),
    }
}
