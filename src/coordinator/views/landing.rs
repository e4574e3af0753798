//! What landing, and seeing conflicts before it, answers.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use crate::coordinator::views::LandingEvidence;
use crate::git::{Check, Hunk};
use crate::landing::{OverlapVerdict, PullState, Tested};
use crate::model::Time;
use crate::model::event::EventRecord;
use crate::model::ticket::TicketState;

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
