//! The JSON shapes every face shows. A contract: fields are added, never renamed; all keys are always present and
//! null means unknown. Their JSON Schemas are generated into `schemas/` and checked in.

mod events;
mod review;
mod run;
mod stats;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

pub(crate) use crate::git::LooseEnd;
use crate::git::{Check, Hunk};
pub(crate) use crate::landing::Evidence as LandingEvidence;
pub(crate) use crate::landing::{OverlapVerdict, PullState, Tested};
use crate::model::Time;
use crate::model::agent::{AgentOrigin, RuntimeKind};
use crate::model::budget::Scope;
use crate::model::coordination::Hold;
use crate::model::event::EventRecord;
use crate::model::health::{Pace, Resources};
use crate::model::ticket::{StartFrom, TicketState};
use crate::model::worker::{CheckResult, Evidence, Status};

pub(crate) use events::{EventView, Fact, QueueFact, StreamFact};
pub(crate) use review::{
    ChecklistItemView, CommentView, CommitView, ReviewView, ReviewerView, ReviewerWord, SinceView, SpotView,
    VerdictView,
};
pub(crate) use run::{CoordinatorState, CoordinatorView, QueueEntryView, QueueView, RunTicketView, RunView};
pub(crate) use stats::{Percentiles, StatsBy, StatsRow, StatsRuns, StatsView};

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

/// `ticket list --json`; with one ticket, `ticket new --json` and `ticket show --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct TicketsView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// Tickets by id.
    pub(crate) tickets: Vec<TicketView>,
    /// What a person should know about them together.
    pub(crate) warnings: Vec<String>,
}

/// One ticket.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct TicketView {
    /// Ticket id.
    pub(crate) id: String,
    /// One line.
    pub(crate) title: String,
    /// Where it is.
    pub(crate) state: TicketState,
    /// Its agent, the configured default included.
    pub(crate) agent: String,
    /// 1 to 10, higher first.
    pub(crate) priority: u8,
    /// Tickets it waits for.
    pub(crate) depends_on: Vec<String>,
    /// Whether it may start from the branch of the last of them that has not landed.
    pub(crate) start_from: StartFrom,
    /// Files it means to touch.
    pub(crate) scope: Vec<String>,
    /// Commands run before review.
    pub(crate) checks: Vec<String>,
    /// What a person ticks in the review, open items of the body included.
    pub(crate) checklist: Vec<String>,
    /// Agents that review the work, the configured ones included.
    pub(crate) reviewers: Vec<String>,
    /// Free words.
    pub(crate) labels: Vec<String>,
    /// What a node must offer to run it.
    pub(crate) capabilities: Vec<String>,
    /// Revision its branch starts from; the target where it names none.
    pub(crate) base: Option<String>,
    /// Branch it lands on, the configured or default one included; null when that cannot be told.
    pub(crate) target: Option<String>,
    /// Wall time of one attempt in milliseconds, the configured limit included; null is no limit.
    pub(crate) timeout_ms: Option<u64>,
    /// Attempts before it is dead.
    pub(crate) max_attempts: u32,
    /// Spending limit in US dollars; null is none.
    pub(crate) budget_usd: Option<f64>,
    /// Spending limit in tokens; null is none.
    pub(crate) budget_tokens: Option<u64>,
    /// Its file; null when only the queue has it.
    pub(crate) path: Option<PathBuf>,
    /// The prompt; null in lists.
    pub(crate) body: Option<String>,
    /// Why its file cannot be used; the other fields are then what the queue knows, or empty.
    pub(crate) problem: Option<String>,
}

/// `ticket import --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct ImportView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// The issues, by number.
    pub(crate) issues: Vec<ImportedView>,
    /// Issues that could not be imported.
    pub(crate) failed: Vec<FailureView>,
}

/// One issue.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct ImportedView {
    /// Its number.
    pub(crate) number: u64,
    /// Its address.
    pub(crate) url: String,
    /// Its title.
    pub(crate) title: String,
    /// The ticket.
    pub(crate) ticket: String,
    /// What was done.
    pub(crate) action: ImportWord,
    /// What was left out.
    pub(crate) warnings: Vec<String>,
}

/// What was done with an issue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ImportWord {
    /// Its ticket was written.
    Imported,
    /// It was imported before, and is as it was; its ticket was left alone.
    Unchanged,
    /// It was imported before, and has changed since; its ticket was left alone.
    Changed,
    /// Another ticket has its id; nothing was written.
    Exists,
}

/// `plan --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct PlanView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// Its name.
    pub(crate) name: String,
    /// Where its proposals are, as files for a person to edit; null when they became tickets.
    pub(crate) folder: Option<PathBuf>,
    /// The tickets, in an order in which they can start.
    pub(crate) tickets: Vec<PlannedTicketView>,
    /// What the planner said besides; null when it is not known.
    pub(crate) remarks: Option<String>,
    /// What the plan cost in US dollars; null when that is not known.
    pub(crate) cost_usd: Option<f64>,
}

/// One proposed ticket.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct PlannedTicketView {
    /// Its id.
    pub(crate) id: String,
    /// One line.
    pub(crate) title: String,
    /// 1 to 10, higher first.
    pub(crate) priority: u8,
    /// Tickets it waits for.
    pub(crate) depends_on: Vec<String>,
    /// Files it means to touch.
    pub(crate) scope: Vec<String>,
    /// Commands run before review.
    pub(crate) checks: Vec<String>,
    /// Its file.
    pub(crate) path: PathBuf,
}

/// `plan list --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct PlansView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// Plans that wait for a person, by name.
    pub(crate) plans: Vec<PlanView>,
    /// Plans that cannot be read, and why.
    pub(crate) failed: Vec<FailureView>,
}

/// `budget --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct BudgetView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// When this was looked up.
    pub(crate) at: Time,
    /// The local day that is spent on, such as `2026-11-21`.
    pub(crate) day: String,
    /// When the next day begins.
    pub(crate) day_ends_at: Time,
    /// What agents do that reach a budget: `stop` or `pause`.
    pub(crate) on_reached: String,
    /// What may be spent, and how much of it is.
    pub(crate) limits: Vec<LimitView>,
    /// What the rows are by: `ticket`, `agent`, `model` or `day`.
    pub(crate) by: String,
    /// The first day that the rows count.
    pub(crate) since: String,
    /// What was spent since, the most expensive first; days in order.
    pub(crate) rows: Vec<SpendView>,
    /// All of it together.
    pub(crate) total: SpendView,
    /// What a person should know.
    pub(crate) warnings: Vec<String>,
}

/// One limit.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct LimitView {
    /// What it is for.
    pub(crate) scope: Scope,
    /// The ticket; null for the day, and for what holds for every ticket or run.
    pub(crate) ticket: Option<String>,
    /// `usd`, `tokens` or `time`.
    pub(crate) what: String,
    /// The limit: US dollars, tokens or seconds; null is none.
    pub(crate) limit: Option<f64>,
    /// What was spent; null for what holds for every ticket or run.
    pub(crate) spent: Option<f64>,
    /// Whether it is used up.
    pub(crate) is_reached: bool,
}

/// What was spent on something.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct SpendView {
    /// The ticket, agent, model or day; empty where there is none, as of a model that nobody names.
    pub(crate) name: String,
    /// Input tokens, cached ones included.
    pub(crate) input_tokens: u64,
    /// Output tokens.
    pub(crate) output_tokens: u64,
    /// US dollars, as far as they are known.
    pub(crate) cost_usd: f64,
    /// Of the tokens those whose price is not known.
    pub(crate) unpriced_tokens: u64,
    /// Of the tokens those that are a guess.
    pub(crate) estimated_tokens: u64,
    /// Time that agents worked, in milliseconds.
    pub(crate) time_ms: u64,
    /// Attempts, reviews and plans that spent something.
    pub(crate) attempts: usize,
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
    /// The worker.
    pub(crate) worker: WorkerView,
    /// Lifecycle facts and live checks, in the order they were weighed.
    pub(crate) facts: Vec<String>,
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

/// `merge --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct MergeView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// Whether nothing was changed.
    pub(crate) dry_run: bool,
    /// What landed, or would.
    pub(crate) landed: Vec<LandedView>,
    /// What went back to its agent, or would.
    pub(crate) returned: Vec<ReturnedView>,
    /// What waits for a person.
    pub(crate) waiting: Vec<WaitingView>,
    /// What was named and had nothing to land: it landed before, or there were no changes.
    pub(crate) settled: Vec<SettledView>,
    /// What was offered as a pull request and is not merged.
    pub(crate) pull_requests: Vec<PullRequestView>,
}

/// One pull request.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct PullRequestView {
    /// Worker id.
    pub(crate) worker: String,
    /// Its number; null where it was not opened.
    pub(crate) number: Option<u64>,
    /// Its address.
    pub(crate) url: String,
    /// Where it is.
    pub(crate) state: PullState,
    /// What this call did: `opened`, `pushed` (new commits), `found` (one that was there), or `unchanged`.
    pub(crate) action: String,
    /// Checks that passed or do not count.
    pub(crate) checks_passed: usize,
    /// Checks that have not ended.
    pub(crate) checks_pending: usize,
    /// Names of checks that failed.
    pub(crate) checks_failed: Vec<String>,
    /// When it was looked at.
    pub(crate) at: Time,
}

/// One landed worker.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct LandedView {
    /// Worker id.
    pub(crate) worker: String,
    /// The commit the target points at now; null in a dry run.
    pub(crate) commit: Option<String>,
    /// Its tree.
    pub(crate) tree: String,
    /// What the gates ran on: this commit, or the tip of the batch in which it landed; null in a dry run.
    pub(crate) tested: Option<Tested>,
    /// Commits of the branch that went in.
    pub(crate) commits: usize,
    /// The branch it landed on.
    pub(crate) target: String,
    /// Gate results on exactly the tested tree.
    pub(crate) gates: Vec<GateView>,
    /// The keep ref that still holds the branch.
    pub(crate) keep: Option<String>,
    /// The check that found the work in the target, where a forge merged it.
    pub(crate) check: Option<Check>,
    /// What deserves a person's eye, one sentence each.
    pub(crate) warnings: Vec<String>,
}

/// One worker with nothing to land.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct SettledView {
    /// Worker id.
    pub(crate) worker: String,
    /// The commit as which its work landed; null when there were no changes.
    pub(crate) commit: Option<String>,
    /// Why there is nothing to land, in one clause.
    pub(crate) why: String,
}

/// One gate's result.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct GateView {
    /// Its name.
    pub(crate) name: String,
    /// Whether it passed; null in a dry run.
    pub(crate) passed: Option<bool>,
    /// Exit code; null when a signal or the time limit ended it, or in a dry run.
    pub(crate) exit_code: Option<i32>,
    /// Wall time in milliseconds.
    pub(crate) duration_ms: u64,
    /// Whether the result was known for this tree from an earlier run.
    pub(crate) cached: bool,
    /// The end of its output where it failed, else empty.
    pub(crate) output_tail: String,
}

/// One worker whose work went back.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct ReturnedView {
    /// Worker id.
    pub(crate) worker: String,
    /// Why, in one sentence.
    pub(crate) why: String,
    /// Files in conflict.
    pub(crate) files: Vec<ConflictView>,
    /// The gates that ran, the one that failed last.
    pub(crate) gates: Vec<GateView>,
}

/// `resolve --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct ResolveView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// Worker id.
    pub(crate) worker: String,
    /// Its worktree.
    pub(crate) worktree: PathBuf,
    /// What is under way there: `merge` or `rebase`; null when nothing is open any more.
    pub(crate) operation: Option<String>,
    /// Files that are still in conflict.
    pub(crate) left: Vec<PathBuf>,
    /// The branch's commit.
    pub(crate) commit: Option<String>,
    /// Where the ticket is.
    pub(crate) ticket_state: Option<TicketState>,
    /// The keep ref that holds the work as it was before; null when nothing was begun.
    pub(crate) keep: Option<String>,
}

/// One file in conflict.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct ConflictView {
    /// Path within the repository.
    pub(crate) path: String,
    /// Kind of conflict as git names it.
    pub(crate) kind: String,
}

/// `log --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct LogView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// Ticket id.
    pub(crate) ticket: String,
    /// Where it is; null when the queue does not know it.
    pub(crate) state: Option<TicketState>,
    /// What each of its landings rested on, oldest first, from the notes in `refs/notes/swarm`.
    pub(crate) landings: Vec<LandingEvidence>,
    /// Verdicts, landings, returns and releases of its workers, oldest first, from their event logs.
    pub(crate) events: Vec<EventRecord>,
}

/// Answer of `conflicts`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct ConflictsView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// The branch that work lands on where a ticket names no other.
    pub(crate) target: String,
    /// Every pair: each worker with its target, then workers with each other.
    pub(crate) pairs: Vec<OverlapView>,
    /// Dependencies that would keep tickets whose work conflicts out of each other's way.
    pub(crate) proposals: Vec<ProposalView>,
}

/// A dependency between two tickets whose work conflicts.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct ProposalView {
    /// The ticket that would wait.
    pub(crate) ticket: String,
    /// The ticket that lands first.
    pub(crate) depends_on: String,
    /// The ticket's file; null when it has none.
    pub(crate) path: Option<PathBuf>,
    /// The line of its front matter that says so, dependencies that it has already included.
    pub(crate) line: String,
}

/// What merging two states gives.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct OverlapView {
    /// A target branch, or the worker whose id sorts first.
    pub(crate) a: String,
    /// The other worker.
    pub(crate) b: String,
    /// Whether they merge.
    pub(crate) verdict: OverlapVerdict,
    /// Files in conflict, by path; none where the histories have no common ancestor.
    pub(crate) files: Vec<OverlapFileView>,
}

/// One file in which two states do not fit.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct OverlapFileView {
    /// Path within the repository.
    pub(crate) path: String,
    /// Kind of conflict as git names it.
    pub(crate) kind: String,
    /// The places, for files that merge by lines; at most twenty.
    pub(crate) hunks: Vec<Hunk>,
}

/// One worker that waits for a person.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct WaitingView {
    /// Worker id.
    pub(crate) worker: String,
    /// Why, in one sentence.
    pub(crate) why: String,
    /// The gates that ran, the one that failed last.
    pub(crate) gates: Vec<GateView>,
}

/// `recover list --json` and `recover show --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct RecoverView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// Newest first.
    pub(crate) kept: Vec<KeptView>,
}

/// One keep ref.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct KeptView {
    /// Full ref name.
    pub(crate) reference: String,
    /// Worker id.
    pub(crate) worker: String,
    /// Commit id it points at.
    pub(crate) commit: String,
    /// The branch the work was on.
    pub(crate) branch: String,
    /// Why it was kept.
    pub(crate) reason: String,
    /// When.
    pub(crate) at: Time,
    /// Whether it holds work that was not committed.
    pub(crate) has_uncommitted: bool,
    /// What is in it, in words: `branch`, `uncommitted`, `untracked`, `index`, `autostash`, `other_side`,
    /// `before_rebase`, `snapshot` (files of the last snapshot, because the worktree was gone), or the name of an
    /// operation that was unfinished.
    pub(crate) holds: Vec<String>,
    /// How many files were not committed.
    pub(crate) uncommitted_files: usize,
    /// How many of them git did not track.
    pub(crate) untracked_files: usize,
    /// Commits that are kept besides, such as staged changes: what each is, and its id.
    pub(crate) also: Vec<KeptCommitView>,
    /// Bytes on disk that nothing but this ref holds.
    pub(crate) bytes: u64,
    /// When `swarm clean` begins to propose its removal.
    pub(crate) expires_at: Time,
}

/// A commit that is kept besides branch and files.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct KeptCommitView {
    /// What it is: `index`, `autostash`, `other_side` or `before_rebase`; null where an earlier version kept it.
    pub(crate) kind: Option<LooseEnd>,
    /// Its id.
    pub(crate) commit: String,
}

/// `clean --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct CleanView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// Whether nothing was removed.
    pub(crate) dry_run: bool,
    /// What was removed, or can go.
    pub(crate) goes: Vec<CleanedView>,
    /// What stays although it is old or ended.
    pub(crate) stays: Vec<StaysView>,
    /// What could not be removed.
    pub(crate) failed: Vec<FailureView>,
    /// Bytes of everything in `goes` together; those of references are free when git cleans up.
    pub(crate) bytes: u64,
}

/// One thing that can go.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct CleanedView {
    /// `worker`, `kept`, `snapshots`, `scratch` or `logs`.
    pub(crate) kind: String,
    /// Worker id, reference or path.
    pub(crate) subject: String,
    /// Its bytes on disk.
    pub(crate) bytes: u64,
    /// Why it can go.
    pub(crate) why: String,
    /// The check that proved its content to be in the target, where that was asked.
    pub(crate) check: Option<Check>,
    /// What was done; null in a dry run.
    pub(crate) text: Option<String>,
}

/// One thing that stays.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct StaysView {
    /// `worker`, `kept`, `snapshots`, `scratch` or `logs`.
    pub(crate) kind: String,
    /// Worker id, reference or path.
    pub(crate) subject: String,
    /// Why it stays.
    pub(crate) why: String,
}

/// `rewind --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct RewindView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// Whether nothing was changed.
    pub(crate) dry_run: bool,
    /// Worker id.
    pub(crate) worker: String,
    /// The call's number in the tool log.
    pub(crate) call: u64,
    /// Its tool.
    pub(crate) tool: String,
    /// When the state was saved; null for the state that the worker began with.
    pub(crate) saved_at: Option<Time>,
    /// The last call whose changes are in the state; later than `call` where several ended together.
    pub(crate) state_of: Option<u64>,
    /// Where the branch was.
    pub(crate) from: String,
    /// Where it is now.
    pub(crate) to: String,
    /// Commits that are no longer on the branch, oldest first.
    pub(crate) left: Vec<CommitView>,
    /// How many files changed.
    pub(crate) files: usize,
    /// The keep ref with the state before; null in a dry run.
    pub(crate) keep: Option<String>,
}

/// `recover restore --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct RestoredView {
    /// [`VIEW_VERSION`].
    pub(crate) version: u32,
    /// The branch that was made.
    pub(crate) branch: String,
    /// The worktree that was made, if any.
    pub(crate) worktree: Option<PathBuf>,
    /// Whether uncommitted work is not in the branch and was left in the keep ref, for want of a worktree.
    pub(crate) left_uncommitted: bool,
    /// Further commits that are kept and are not in the branch: where the worker's branch was.
    pub(crate) beside: Option<String>,
    /// The keep ref, which stays.
    pub(crate) reference: String,
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
