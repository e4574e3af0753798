//! The JSON shapes every face shows. A contract: fields are added, never renamed; all keys are always present and
//! null means unknown. Their JSON Schemas are generated into `schemas/` and checked in.

mod budget;
mod bus;
mod events;
mod kept;
mod landing;
mod nodes;
mod review;
mod run;
mod scale;
mod stats;
mod tickets;
mod topology;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

pub(crate) use crate::git::LooseEnd;
pub(crate) use crate::landing::Evidence as LandingEvidence;
pub(crate) use crate::landing::{OverlapVerdict, PullState};
use crate::model::agent::{AgentOrigin, RuntimeKind};
use crate::model::coordination::Hold;
use crate::model::health::{Pace, Resources};
use crate::model::ticket::TicketState;
use crate::model::worker::{CheckResult, Evidence, Status};
use crate::model::{Time, ago_text};

pub(crate) use budget::{BudgetView, LimitView, SpendView};
pub(crate) use bus::{ChannelView, ChannelsView};
pub(crate) use events::{BusFact, EventView, Fact, QueueFact, StreamFact};
pub(crate) use kept::{
    CleanView, CleanedView, KeptCommitView, KeptView, RecoverView, RestoredView, RewindView, StaysView,
};
pub(crate) use landing::{
    ConflictView, ConflictsView, GateView, LandedView, LogView, MergeView, OverlapFileView, OverlapView, ProposalView,
    PullRequestView, ResolveView, ReturnedView, SettledView, WaitingView,
};
pub(crate) use nodes::{ElsewhereView, NodeChangedView, NodeState, NodeView, NodesView};
pub(crate) use review::{
    ChecklistItemView, CommentView, CommitView, ReviewView, ReviewerView, ReviewerWord, SinceView, SpotView,
    VerdictView,
};
pub(crate) use run::{
    CoordinatorState, CoordinatorView, MigrateView, MovedTicketView, QueueEntryView, QueueServeView, QueueView,
    RunTicketView, RunView,
};
pub(crate) use scale::{PolicyView, ReplayedView, ScaleReplayView, ScaleScopeView, ScaleView, ScaledView};
pub(crate) use stats::{Percentiles, StatsBy, StatsRow, StatsRuns, StatsView};
pub(crate) use tickets::{
    ImportView, ImportWord, ImportedView, PlanView, PlannedTicketView, PlansView, TicketView, TicketsView,
};
pub(crate) use topology::{
    LinkKind, LinkView, MemberKind, MemberView, SavedTopologyView, TokenView, TopologiesView, TopologyChangedView,
    TopologySource, TopologyView,
};

/// Version of every shape here.
pub(crate) const VIEW_VERSION: u32 = 1;

/// `status --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct StatusView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// When it was drawn up.
    pub(crate) at: Time,
    /// One entry a worker, oldest first.
    pub(crate) workers: Vec<WorkerView>,
    /// How many tickets are in each state; every state has a key.
    pub(crate) tickets: BTreeMap<String, usize>,
    /// Who starts, resumes and lands by itself; null where nobody does.
    pub(crate) coordinator: Option<CoordinatorView>,
    /// What does not move and why, as the coordinator found; empty where there is none.
    pub(crate) holds: Vec<Hold>,
    /// Models that want to be left alone, by name: a coordinator starts nothing new for them until then.
    pub(crate) paced: Vec<Pace>,
    /// Where the tickets are; null where there is no state yet.
    pub(crate) queue: Option<QueuePlaceView>,
    /// The nodes that share the queue; empty where nobody does.
    pub(crate) nodes: Vec<NodeView>,
    /// What other nodes work on.
    pub(crate) elsewhere: Vec<ElsewhereView>,
    /// How many workers a coordinator may run at once here; null where scaling says nothing, so that it is `max_workers`.
    pub(crate) scaled: Option<ScaledView>,
}

/// Where the tickets of a project are.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct QueuePlaceView {
    /// What keeps them.
    pub(crate) engine: QueueEngine,
    /// The server; null without one.
    pub(crate) address: Option<String>,
    /// The project's name there.
    pub(crate) project: Option<String>,
    /// When this machine last had all that the server has; null without one.
    pub(crate) as_of: Option<Time>,
    /// Why what is shown may be older than what the server has; null where it is not.
    pub(crate) problem: Option<String>,
}

impl QueuePlaceView {
    /// How old what is shown may be at a moment, as a sentence; `None` where it is as new as can be.
    pub(crate) fn staleness(&self, at: Time) -> Option<String> {
        let problem = self.problem.as_ref()?;
        Some(match self.as_of {
            Some(as_of) => format!("The queue is shown as it was {}: {problem}", ago_text(as_of.age_at(at))),
            None => format!("The queue is shown as far as it is known here: {problem}"),
        })
    }
}

/// What keeps a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum QueueEngine {
    /// The project's own store.
    File,
    /// A NATS server.
    Nats,
}

/// One worker.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct WorkerView {
    /// Worker id.
    pub(crate) id: String,
    /// Ticket id.
    pub(crate) ticket: String,
    /// The ticket's title.
    pub(crate) title: String,
    /// Agent name.
    pub(crate) agent: String,
    /// Kind of program that executes the agent.
    pub(crate) runtime: RuntimeKind,
    /// What it is doing.
    pub(crate) status: Status,
    /// Why that is said.
    pub(crate) reason: String,
    /// Since when, where that is known.
    pub(crate) since: Option<Time>,
    /// What the status rests on, strongest first.
    pub(crate) evidence: Vec<Evidence>,
    /// Where its ticket is.
    pub(crate) ticket_state: Option<TicketState>,
    /// Short name of its branch; kept after release.
    pub(crate) branch: String,
    /// Commit id the branch started from.
    pub(crate) base: String,
    /// Branch it lands on.
    pub(crate) target: String,
    /// Its worktree; null once released.
    pub(crate) worktree: Option<PathBuf>,
    /// Name of its tmux session; null without one.
    pub(crate) tmux_session: Option<String>,
    /// The agent's pid while it runs.
    pub(crate) pid: Option<u32>,
    /// The supervisor's pid while it runs.
    pub(crate) supervisor_pid: Option<u32>,
    /// Commits since the base, at `changes_at`.
    pub(crate) commits: Option<usize>,
    /// Files changed since the base, uncommitted ones included.
    pub(crate) files_changed: Option<usize>,
    /// Lines added.
    pub(crate) insertions: Option<usize>,
    /// Lines removed.
    pub(crate) deletions: Option<usize>,
    /// Whether anything is not committed.
    pub(crate) dirty: Option<bool>,
    /// When the change figures were taken.
    pub(crate) changes_at: Option<Time>,
    /// Tool calls begun; null where the runtime cannot say.
    pub(crate) tool_calls: Option<u64>,
    /// Tool calls that failed.
    pub(crate) tool_errors: Option<u64>,
    /// Input tokens, cached ones included.
    pub(crate) input_tokens: Option<u64>,
    /// Output tokens.
    pub(crate) output_tokens: Option<u64>,
    /// US dollars.
    pub(crate) cost_usd: Option<f64>,
    /// What the agent's processes use while it runs, and used last when it does not; null before the first look.
    pub(crate) resources: Option<Resources>,
    /// Seconds without a sign of progress, at the last heartbeat; null where no supervisor told.
    pub(crate) quiet_seconds: Option<u64>,
    /// Results of the ticket's checks; empty before they ran.
    pub(crate) checks: Vec<CheckResult>,
    /// Files that its finished work changes outside the scope of its ticket, the first fifty.
    pub(crate) outside_scope: Vec<String>,
    /// From 1.
    pub(crate) attempt: u32,
    /// When the attempt began.
    pub(crate) started_at: Time,
    /// The supervisor's last sign of life.
    pub(crate) heartbeat_at: Option<Time>,
    /// When the attempt ended.
    pub(crate) ended_at: Option<Time>,
    /// The limit or budget at which it ended, or is held; null where there is none.
    pub(crate) limit_reached: Option<String>,
    /// The keep ref that holds its work once released.
    pub(crate) keep: Option<String>,
    /// Its pull request while its approved work waits in one, as `merge --pr` saw it last.
    pub(crate) pull_request: Option<PullRequestView>,
}

/// `spawn --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct SpawnView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// Whether nothing was changed.
    pub(crate) dry_run: bool,
    /// Workers that run, or would.
    pub(crate) spawned: Vec<SpawnedView>,
    /// Tickets that wait in the queue instead, with --queue.
    pub(crate) queued: Vec<QueuedView>,
    /// Tickets that did not get a worker.
    pub(crate) failed: Vec<FailureView>,
}

/// A ticket that was queued instead of started.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct QueuedView {
    /// Ticket id.
    pub(crate) ticket: String,
    /// Where it is.
    pub(crate) state: TicketState,
    /// Why it was not started, as a clause.
    pub(crate) why: String,
}

/// One spawned worker.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct SpawnedView {
    /// Worker id.
    pub(crate) worker: String,
    /// Ticket id.
    pub(crate) ticket: String,
    /// Agent name.
    pub(crate) agent: String,
    /// Its branch.
    pub(crate) branch: String,
    /// Its worktree.
    pub(crate) worktree: PathBuf,
    /// Commit the branch starts from.
    pub(crate) base: String,
    /// Name of its tmux session; null without one.
    pub(crate) tmux_session: Option<String>,
    /// The agent's pid; null in a dry run.
    pub(crate) pid: Option<u32>,
    /// From 1.
    pub(crate) attempt: u32,
    /// What deserves a person's eye, one sentence each.
    pub(crate) warnings: Vec<String>,
}

/// One of several things that failed.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct FailureView {
    /// What it was about: a worker or ticket.
    pub(crate) subject: String,
    /// Stable word for the kind of failure.
    pub(crate) code: String,
    /// What went wrong, causes included.
    pub(crate) error: String,
    /// What a person can do.
    pub(crate) hints: Vec<String>,
}

/// `stop`, `pause`, `resume`, `restart`, `rm`, `send`, and `review` with a verdict: what was done to each worker.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct ActionsView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// What was done.
    pub(crate) done: Vec<ActionView>,
    /// What was not.
    pub(crate) failed: Vec<FailureView>,
}

impl From<ActionView> for ActionsView {
    fn from(action: ActionView) -> Self {
        Self { version: VIEW_VERSION, done: vec![action], failed: Vec::new() }
    }
}

/// What was done to one worker.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct ActionView {
    /// Worker id.
    pub(crate) worker: String,
    /// Stable word for what was done, such as `stopped` or `queued`.
    pub(crate) action: String,
    /// The same for a person, with details.
    pub(crate) text: String,
}

/// `wait --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct WaitView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// `reached`, `ended`, `needs_person` or `timed_out`.
    pub(crate) outcome: String,
    /// The workers waited for, as they are now.
    pub(crate) workers: Vec<WorkerView>,
}

/// `why --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct WhyView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// When it was drawn up.
    pub(crate) at: Time,
    /// Where the queue is, and how old what is said of it where it cannot be reached; null where there is none yet.
    pub(crate) queue: Option<QueuePlaceView>,
    /// The worker; null where what was asked for is a ticket without one of its name.
    pub(crate) worker: Option<WorkerView>,
    /// The ticket, and what it waits for; null where neither queue nor files know it any more.
    pub(crate) ticket: Option<WhyTicketView>,
    /// Lifecycle facts and live checks, in the order they were weighed.
    pub(crate) facts: Vec<String>,
}

/// A ticket in `why --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct WhyTicketView {
    /// Ticket id.
    pub(crate) id: String,
    /// Title.
    pub(crate) title: String,
    /// Its state; `open` also where there is only its file.
    pub(crate) state: TicketState,
    /// Attempts begun so far.
    pub(crate) attempts: u32,
    /// Attempts it may have.
    pub(crate) max_attempts: u32,
    /// Why it does not move, as the coordinator says, or as one would say; null where nothing is in its way.
    pub(crate) hold: Option<Hold>,
}

/// `diff --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct DiffView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// Worker id.
    pub(crate) worker: String,
    /// Commit id of the base.
    pub(crate) base: String,
    /// Commit id compared with it: the branch's head, or a snapshot with uncommitted work.
    pub(crate) head: String,
    /// Whether uncommitted work is included.
    pub(crate) dirty: bool,
    /// Files in it that are outside the scope of the ticket; empty where that states none.
    pub(crate) outside_scope: Vec<String>,
    /// Unified diff, or the stat.
    pub(crate) text: String,
}

/// `agents list|show|check --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct AgentsView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// Agents by name.
    pub(crate) agents: Vec<AgentView>,
    /// Definitions that cannot be used, each with file and position.
    pub(crate) problems: Vec<String>,
}

/// One agent.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct AgentView {
    /// Its name.
    pub(crate) name: String,
    /// One line.
    pub(crate) description: String,
    /// Kind of program that executes it.
    pub(crate) runtime: RuntimeKind,
    /// Name of the preset of its program, where it has one.
    pub(crate) preset: Option<String>,
    /// How far its runtime and preset were seen to work; null where nothing is known about the program.
    pub(crate) verified: Option<String>,
    /// Model, where one is named.
    pub(crate) model: Option<String>,
    /// Who serves the model of a `claude` agent in place of Anthropic.
    pub(crate) provider: Option<String>,
    /// Where the definition was found.
    pub(crate) origin: AgentOrigin,
    /// Whether it is the configured default.
    pub(crate) is_default: bool,
    /// Program and arguments of a `command` agent; empty elsewhere.
    pub(crate) command: Vec<String>,
    /// Tools it may use; empty is its runtime's default set.
    pub(crate) tools: Vec<String>,
    /// How far it acts without asking: `default`, `acceptEdits`, `plan` or `bypass`.
    pub(crate) permission_mode: String,
    /// Whether it has a configuration folder of its own.
    pub(crate) isolated: bool,
    /// What it can do, for matching with tickets.
    pub(crate) capabilities: Vec<String>,
    /// Result of the check; null outside `agents check`.
    pub(crate) check: Option<AgentCheckView>,
    /// The system prompt; null outside `agents show`.
    pub(crate) system_prompt: Option<String>,
}

/// Whether an agent can run here.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct AgentCheckView {
    /// Whether it can.
    pub(crate) ready: bool,
    /// The program found, with its version where it says one.
    pub(crate) program: Option<String>,
    /// What is missing.
    pub(crate) problem: Option<String>,
    /// The command that mends it.
    pub(crate) hint: Option<String>,
}

/// `doctor --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct DoctorView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// What was looked at, in order.
    pub(crate) findings: Vec<FindingView>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct FindingView {
    /// `ok`, `warning` or `problem`.
    pub(crate) level: String,
    /// What was looked at.
    pub(crate) subject: String,
    /// What was found.
    pub(crate) text: String,
    /// The command that mends it.
    pub(crate) hint: Option<String>,
    /// What `doctor --mend` does about it, as a clause; null where it can do nothing.
    pub(crate) mend: Option<String>,
    /// What it did, in one sentence; null where it was not asked to, or failed.
    pub(crate) mended: Option<String>,
}

/// `trust --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct TrustView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// Commands with the present decision: those of this repository in the order they are configured, then with
    /// `--list` all others that were trusted; with `--revoke` those whose trust was taken back.
    pub(crate) commands: Vec<TrustedView>,
}

/// One command.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct TrustedView {
    /// `setup` or `gate`.
    pub(crate) kind: String,
    /// The command.
    pub(crate) run: String,
    /// The repository it belongs to.
    pub(crate) repository: String,
    /// Whether it may run.
    pub(crate) trusted: bool,
}

/// `init --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct InitView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// Files that were written.
    pub(crate) written: Vec<PathBuf>,
    /// Files that were there and stayed as they are.
    pub(crate) kept: Vec<PathBuf>,
    /// What was found about this machine.
    pub(crate) findings: Vec<FindingView>,
}
