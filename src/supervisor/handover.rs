//! What a spawning command hands to the supervisor it starts: one private file that is read once and removed.
//!
//! The environment of an agent may hold keys, so it travels neither in arguments nor through the tmux server.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::SupervisorError;
use crate::files::{self, Access, FileError};
use crate::model::agent::Agent;
use crate::model::budget::BudgetSettings;
use crate::model::health::HealthSettings;
use crate::model::providers::ModelSettings;
use crate::model::settings::{Durability, Limits};
use crate::model::ticket::Ticket;
use crate::model::{AgentName, CommitId, WorkerId, error_text};
use crate::queue::Server;

/// Everything a supervisor needs besides the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Handover {
    /// The repository's git common dir.
    pub(crate) common_dir: PathBuf,
    /// The repository's main worktree, or its common dir where it is bare: `{repo}` in commands.
    pub(crate) repository: PathBuf,
    /// The worker to supervise.
    pub(crate) worker: WorkerId,
    /// The fence of the lease under which it is started; a supervisor of an older start must not run.
    pub(crate) fence: u64,
    /// Its ticket as frozen when it was published.
    pub(crate) ticket: Ticket,
    /// Its agent as resolved by the spawning command.
    pub(crate) agent: Agent,
    /// The prompt.
    pub(crate) prompt: String,
    /// The ticket's own prompt, where the prompt is another one.
    #[serde(default)]
    pub(crate) ticket_prompt: Option<String>,
    /// The conversation to continue.
    pub(crate) resume: Option<String>,
    /// Landing or review sent work back: finishing needs a commit beyond this one.
    pub(crate) returned_at: Option<CommitId>,
    /// The agent's whole environment.
    pub(crate) env: Vec<(String, String)>,
    /// Durations and sizes.
    pub(crate) limits: Limits,
    /// What the agent may use.
    #[serde(default)]
    pub(crate) health: HealthSettings,
    /// What may be spent, the ticket's own limits among it.
    pub(crate) budget: BudgetSettings,
    /// States after tool calls that are kept.
    pub(crate) call_states: usize,
    /// Who serves models.
    pub(crate) models: ModelSettings,
    /// Extra patterns of secrets.
    pub(crate) redact: Vec<String>,
    /// How hard the store writes.
    pub(crate) durability: Durability,
    /// The server that keeps the queue, where one does.
    #[serde(default)]
    pub(crate) queue: Option<Server>,
    /// The name under which it acts there.
    pub(crate) node: String,
    /// The repository's template overrides, by file.
    pub(crate) templates: Vec<(PathBuf, String)>,
    /// The tmux session it is started in; without one it runs detached.
    pub(crate) tmux: Option<Session>,
    /// Where the supervisor listens. Named here, because a tmux server may know another runtime folder.
    pub(crate) socket: PathBuf,
    /// Datagram socket that waits for the first word; absent when nobody waits.
    pub(crate) ready: PathBuf,
    /// The environment in which the program looks at overlaps; absent where agents are not told of them.
    pub(crate) radar_env: Option<Vec<(String, String)>>,
    /// The environment in which the program hands finished work over to other nodes; absent where there are none.
    pub(crate) carry_env: Option<Vec<(String, String)>>,
    /// The `swarm` program, for hooks.
    pub(crate) program: PathBuf,
    /// The agents that review the work when it is finished.
    pub(crate) reviewers: Option<Reviewers>,
}

/// Who is asked about finished work, and how the program is called for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reviewers {
    /// The agents.
    pub(crate) agents: Vec<AgentName>,
    /// The environment of the spawning command: each of them gets the part that is allowed.
    pub(crate) env: Vec<(String, String)>,
}

impl Handover {
    /// Writes the file with access for the owner only.
    pub(super) fn write(&self, path: &Path) -> Result<HandoverFile, SupervisorError> {
        let bytes =
            serde_json::to_vec(self).map_err(|source| SupervisorError::Handover { path: path.into(), source })?;
        files::write_atomically(path, &bytes, Access::Private)?;
        Ok(HandoverFile(path.to_owned()))
    }

    /// Reads the file and removes it.
    pub(crate) fn take(path: &Path) -> Result<Self, SupervisorError> {
        let bytes = std::fs::read(path).map_err(FileError::on("read", path))?;
        std::fs::remove_file(path).map_err(FileError::on("remove", path))?;
        serde_json::from_slice(&bytes).map_err(|source| SupervisorError::Handover { path: path.into(), source })
    }
}

/// A hand-over file on its way; when this is dropped it is gone, read or not.
#[derive(Debug)]
pub(super) struct HandoverFile(PathBuf);

impl HandoverFile {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for HandoverFile {
    fn drop(&mut self) {
        // The supervisor removes it as it reads it.
        std::fs::remove_file(&self.0).ok();
    }
}

/// A tmux session by what is known of it before it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    /// Socket name or path of its server.
    pub(crate) socket: String,
    /// Its name.
    pub(crate) name: String,
}

/// The first word of a supervisor to the command that started it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "snake_case")]
pub(crate) enum FirstWord {
    /// The agent runs.
    Running {
        /// The agent's pid.
        pid: u32,
    },
    /// It could not be started.
    Failed {
        /// Why, causes included.
        error: String,
        /// What a person can do about it.
        hint: Option<String>,
    },
}

impl FirstWord {
    /// The word for an error, with its causes and what it hints at.
    pub(super) fn failed(error: &SupervisorError) -> Self {
        Self::Failed { error: error_text(error), hint: error.hint() }
    }
}

/// The files of one worker in the runtime folder. Names are hashes, because a socket's path may have 107 bytes only
/// (unix(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuntimePaths {
    /// The folder.
    folder: PathBuf,
    /// Hash of repository and worker.
    stem: String,
}

impl RuntimePaths {
    /// Paths for `worker` of the repository with that common dir.
    pub(crate) fn new(common_dir: &Path, worker: &WorkerId) -> Result<Self, FileError> {
        let mut hash = Sha256::new();
        hash.update(common_dir.as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update(worker.as_str());
        let stem = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { folder: files::runtime_folder()?, stem })
    }

    /// The supervisor's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join(format!("{}.sock", self.stem))
    }

    /// The hand-over file of one start.
    pub(crate) fn handover(&self, fence: u64) -> PathBuf {
        self.folder.join(format!("{}-{fence}.json", self.stem))
    }

    /// The datagram socket on which one start waits for the first word.
    pub(crate) fn ready(&self) -> PathBuf {
        self.ready_of(std::process::id())
    }

    /// The same of another process.
    pub(crate) fn ready_of(&self, spawner: u32) -> PathBuf {
        self.folder.join(format!("{}-{spawner}.ready", self.stem))
    }
}
