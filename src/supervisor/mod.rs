//! One worker from the spawn transaction to its end.
//!
//! # Theory of operation
//!
//! **Spawn** ([`spawn`]) runs in the calling command: claim, branch and worktree, set-up, session, supervisor, agent.
//! Each step is written down in the worker's row before it has effects. A step that fails undoes the earlier ones;
//! a spawner that dies leaves a row that says where it was, and the next command that needs the worker undoes or
//! resumes it.
//!
//! **The supervisor** ([`supervise`]) is a process of its own, in the worker's tmux pane or detached. It holds a file
//! lock for as long as it lives, which is what makes its life provable. It owns the agent's pseudo-terminal and
//! everything the agent starts: as a child subreaper it stays parent of what the agent leaves behind. It reads one
//! input at a time (terminal, hooks, clients, timers, jobs), gives it to the [`machine`], which is plain code without a
//! clock, and carries out the effects. The pane is a client like any other; losing it changes nothing.
//!
//! **What is where**: lifecycle facts in the store's worker row (few writes), live evidence and figures in
//! `live.json` (a heartbeat every five seconds), events and tool calls as JSONL, the terminal as a recording.
//!
//! **What survives**: the end of the spawner, of the pane, of tmux changes nothing. When the supervisor is killed its
//! terminal goes, so its agent gets SIGHUP; the worker is `lost` from that moment by the free lock, its work lies in
//! the worktree and in the last snapshot, and `resume` continues it. What the agent left running is found by the
//! marker in its environment and ended before anything else happens to the worker.

mod attached;
mod client;
mod finish;
mod handover;
mod ledger;
mod machine;
pub(crate) mod protocol;
mod run;
mod server;
mod spawn;

use std::path::PathBuf;

use crate::agent::AgentError;
use crate::config::ConfigError;
use crate::files::FileError;
use crate::git::GitError;
use crate::process::ProcessError;
use crate::queue::{BusError, QueueError};
use crate::store::StoreError;
use crate::terminal::{PtyError, RecordingError, TmuxError};

pub(crate) use client::{ANSWER_WITHIN, Client, SLOW};
pub(crate) use handover::RuntimePaths;
pub(crate) use ledger::{node_name, tell_end};
pub(crate) use run::supervise;
pub(crate) use spawn::{
    ApprovedSetup, Continue, Inherited, Plan, Reserved, ReservedAgain, SeenLease, Spawned, Spawner, Start,
};

/// Names the worker of whatever an agent starts, wherever it goes.
pub(crate) const MARKER: &str = "SWARM_WORKER_DIR";

/// How long a lease lasts unless renewed.
pub(crate) const LEASE: std::time::Duration = std::time::Duration::from_secs(120);

/// The same where several machines share the queue, of a worker that runs or is being made.
pub(crate) const SHARED_LEASE: std::time::Duration = std::time::Duration::from_secs(8);

/// What went wrong with a worker.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SupervisorError {
    /// The hand-over file is broken.
    #[error("the hand-over file `{}` cannot be used", path.display())]
    Handover {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// The supervisor did not answer.
    #[error("could not talk to the supervisor")]
    Talk {
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The supervisor said why it could not start the agent.
    #[error("{error}")]
    NotStarted {
        /// Its words.
        error: String,
        /// Its hint.
        hint: Option<String>,
    },
    /// The supervisor ended, or said nothing in time.
    #[error("the supervisor {what}; its log is `{}`", log.display())]
    Silent {
        /// What it did.
        what: &'static str,
        /// Its log.
        log: PathBuf,
    },
    /// Another supervisor of the worker lives.
    #[error("another supervisor of `{worker}` runs")]
    Taken {
        /// The worker.
        worker: crate::model::WorkerId,
    },
    /// Another command is spawning the worker.
    #[error("worker `{worker}` is being spawned by another command")]
    Spawning {
        /// The worker.
        worker: crate::model::WorkerId,
    },
    /// Another command did something with the worker since this one looked.
    #[error("another command started worker `{worker}` meanwhile")]
    Superseded {
        /// The worker.
        worker: crate::model::WorkerId,
    },
    /// The worktree of a worker that was to go on is gone.
    #[error("the worktree `{}` of worker `{worker}` is gone", path.display())]
    NoWorktree {
        /// The worker.
        worker: crate::model::WorkerId,
        /// Where it was.
        path: PathBuf,
    },
    /// The branch of the dependency that a ticket starts from cannot be one's start.
    #[error("ticket `{ticket}` cannot start from the branch of `{dependency}`: {why}")]
    NoStart {
        /// The ticket.
        ticket: crate::model::TicketId,
        /// Its dependency.
        dependency: crate::model::TicketId,
        /// Why not, as a clause.
        why: String,
    },
    /// A set-up command failed.
    #[error("set-up command `{run}` {how}")]
    Setup {
        /// The command.
        run: String,
        /// How it failed, as the end of a sentence.
        how: String,
        /// The end of its output.
        output: String,
    },
    /// The ticket could not be claimed.
    #[error("ticket `{ticket}` is `{state}` and cannot be started")]
    NotClaimable {
        /// The ticket.
        ticket: crate::model::TicketId,
        /// Where it is.
        state: crate::model::ticket::TicketState,
    },
    /// The ticket has other content than the one that was to be started.
    #[error("ticket `{ticket}` was published with other content meanwhile")]
    Republished {
        /// The ticket.
        ticket: crate::model::TicketId,
    },
    /// Another node has the ticket.
    #[error("node `{node}` took ticket `{ticket}` over")]
    Elsewhere {
        /// The ticket.
        ticket: crate::model::TicketId,
        /// The node.
        node: String,
    },
    /// A base names nothing.
    #[error("`{base}` names no commit")]
    NoBase {
        /// The revision.
        base: String,
    },
    /// A disk operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The queue refused or failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The messages beside it could not be read or written.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The repository refused or failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The agent's terminal failed.
    #[error(transparent)]
    Pty(#[from] PtyError),
    /// Tmux failed.
    #[error(transparent)]
    Tmux(#[from] TmuxError),
    /// The recording failed.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The worker has no row in the store.
    #[error("the worker is not in the store")]
    NoRow,
    /// The agent cannot be started as defined.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// A template or setting is broken.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A process could not be started or followed.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl SupervisorError {
    /// What a person can do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::NotStarted { hint, .. } => hint.clone(),
            Self::Taken { worker } => Some(format!("swarm stop {worker}")),
            Self::Elsewhere { .. } => {
                Some("what this worker made is still here: swarm diff shows it, swarm rm keeps it".to_owned())
            }
            Self::Spawning { worker } | Self::Superseded { worker } => Some(format!("swarm status {worker}")),
            Self::NoWorktree { worker, .. } => {
                Some(format!("swarm rm {worker} keeps what was saved of its work; then swarm spawn begins anew"))
            }
            Self::Agent(error) => error.hint(),
            Self::Git(error) => error.hint(),
            Self::Store(error) => error.hint().map(str::to_owned),
            Self::Config(error) => error.hint().map(str::to_owned),
            _ => None,
        }
    }
}
