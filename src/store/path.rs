//! Where everything in the state folder is.

use std::path::{Path, PathBuf};

use crate::model::WorkerId;

/// The paths of one project's state, all under `<git common dir>/swarm`.
///
/// Making a value touches nothing on disk. Ids are safe as file names: their letters are checked where they are
/// made, and the queue refuses ids that a file system might fold into one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StatePaths {
    /// The state folder.
    root: PathBuf,
}

impl StatePaths {
    /// The state of the repository with this common folder (`git rev-parse --git-common-dir`, absolute).
    pub(crate) fn new(common_dir: &Path) -> Self {
        Self { root: common_dir.join("swarm") }
    }

    /// The state in this folder.
    pub(super) fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// The state folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Touched when somebody begins to look at overlaps.
    pub(crate) fn radar_look(&self) -> PathBuf {
        self.root.join("radar.look")
    }

    /// The database.
    pub(crate) fn db(&self) -> PathBuf {
        self.root.join("swarm.db")
    }

    /// The settings of this clone alone.
    pub(crate) fn clone_settings(&self) -> PathBuf {
        self.root.join("config.yaml")
    }

    /// The folder of one worker; kept after the worker is removed.
    pub(crate) fn worker_dir(&self, worker: &WorkerId) -> PathBuf {
        self.root.join("workers").join(worker.as_str())
    }

    /// What the worker's supervisor last wrote about it.
    pub(crate) fn live(&self, worker: &WorkerId) -> PathBuf {
        self.worker_dir(worker).join("live.json")
    }

    /// The worker's event log.
    pub(crate) fn events(&self, worker: &WorkerId) -> PathBuf {
        self.worker_dir(worker).join("events.jsonl")
    }

    /// The worker's tool log.
    pub(crate) fn tool_calls(&self, worker: &WorkerId) -> PathBuf {
        self.worker_dir(worker).join("tool_calls.jsonl")
    }

    /// The terminal recording of one attempt, in asciicast v2.
    pub(crate) fn recording(&self, worker: &WorkerId, attempt: u32) -> PathBuf {
        self.worker_dir(worker).join(format!("terminal.{attempt}.cast"))
    }

    /// The worker's first prompt as given to its agent.
    pub(crate) fn prompt(&self, worker: &WorkerId) -> PathBuf {
        self.worker_dir(worker).join("prompt.md")
    }

    /// What the worker's last finished attempt came to.
    pub(crate) fn result(&self, worker: &WorkerId) -> PathBuf {
        self.worker_dir(worker).join("result.md")
    }

    /// Where the worker's agent may put what it came to (`SWARM_RESULT_FILE`).
    pub(crate) fn given_result(&self, worker: &WorkerId) -> PathBuf {
        self.worker_dir(worker).join("result.given.md")
    }

    /// Messages that were taken and have not reached the agent.
    pub(crate) fn messages(&self, worker: &WorkerId) -> PathBuf {
        self.worker_dir(worker).join("messages.json")
    }

    /// What the worker's supervisor logs about itself.
    pub(crate) fn supervisor_log(&self, worker: &WorkerId) -> PathBuf {
        self.worker_dir(worker).join("supervisor.log")
    }

    /// The lock a supervisor holds as long as it lives.
    pub(crate) fn supervisor_lock(&self, worker: &WorkerId) -> PathBuf {
        self.worker_dir(worker).join("supervisor.lock")
    }

    /// Hook calls that found no supervisor.
    pub(crate) fn hook_spool(&self, worker: &WorkerId) -> PathBuf {
        self.worker_dir(worker).join("hooks.spool.jsonl")
    }

    /// The folder of one run of a reviewer.
    pub(crate) fn reviewer_dir(&self, worker: &WorkerId, run: i64) -> PathBuf {
        self.worker_dir(worker).join("reviewers").join(run.to_string())
    }

    /// What the command that asks a worker's reviewers has to say.
    pub(crate) fn reviewers_log(&self, worker: &WorkerId) -> PathBuf {
        self.worker_dir(worker).join("reviewers.log")
    }

    /// The lock that whoever runs a worker's reviewers holds.
    pub(crate) fn reviewers_lock(&self, worker: &WorkerId) -> PathBuf {
        self.lock(&format!("reviewers-{worker}"))
    }

    /// The lock that one spawn of a worker holds from its first effect to its end.
    pub(crate) fn spawn_lock(&self, worker: &WorkerId) -> PathBuf {
        self.lock(&format!("spawn-{worker}"))
    }

    /// A lock file for one purpose; `name` is a plain word of ours.
    pub(crate) fn lock(&self, name: &str) -> PathBuf {
        self.root.join("locks").join(format!("{name}.lock"))
    }
}
