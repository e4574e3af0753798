//! What landing answers and tells.

use std::path::PathBuf;

use super::LandingError;
use super::evidence::Tested;
use super::gate::GateReport;
use crate::git::ConflictFile;
use crate::model::{CommitId, WorkerId};

/// What happened to one worker.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// The target contains the work.
    Landed(Landed),
    /// The work must go back to its agent; the ticket is `approved` until the caller reopens it.
    Returned(Returned),
    /// Nothing is wrong with the work; it cannot land now.
    Waiting(Waiting),
}

/// Work that is in the target.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Landed {
    /// Where the target pointed before.
    pub(crate) from: CommitId,
    /// Where the target points now.
    pub(crate) commit: CommitId,
    /// Its tree, as hex.
    pub(crate) tree: String,
    /// What the gates ran on; `None` when the evidence was lost.
    pub(crate) tested: Option<Tested>,
    /// The head of the worker's branch that landed.
    pub(crate) work: CommitId,
    /// The gates, in the order they ran.
    pub(crate) gates: Vec<GateReport>,
    /// Worktrees that have the target checked out and followed.
    pub(crate) updated: Vec<PathBuf>,
    /// The keep ref that holds the work; `None` when the worker was not released.
    pub(crate) keep: Option<String>,
    /// What deserves a person's eye, one sentence each.
    pub(crate) warnings: Vec<String>,
}

/// Work that must go back to its agent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Returned {
    /// The kind of reason.
    pub(crate) reason: ReturnReason,
    /// Why, in one sentence.
    pub(crate) why: String,
    /// Files in conflict.
    pub(crate) files: Vec<ConflictFile>,
    /// Everything known, as text for the agent's next prompt.
    pub(crate) evidence: String,
    /// The gates that ran, the red one last.
    pub(crate) gates: Vec<GateReport>,
    /// The target's head that it was built on.
    pub(crate) onto: CommitId,
    /// The fence under which to reopen the ticket.
    pub(crate) fence: u64,
}

/// Why work goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReturnReason {
    /// It does not fit the target.
    Conflict,
    /// A gate failed on the merged tree.
    GateFailed,
    /// The target went on, and only a fast-forward may land.
    Behind,
}

/// Work that cannot land now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Waiting {
    /// The kind of reason.
    pub(crate) reason: WaitingReason,
    /// Why, in one sentence.
    pub(crate) why: String,
    /// Files in a person's checkout that are in the way.
    pub(crate) files: Vec<PathBuf>,
}

/// Why work waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitingReason {
    /// Nobody approved it.
    NotApproved,
    /// New commits came after the approval, which is void.
    ApprovalVoided,
    /// It points to a submodule's commit that is nowhere but in the worktree.
    StrandedSubmodule,
    /// It started from the branch of a dependency that has not landed.
    DependencyOpen,
    /// It would bring back commits that a person took out of the target.
    TargetRewound,
    /// A checkout of the target cannot follow.
    TargetBusy,
    /// The target moved underneath again and again.
    TargetMoving,
}

/// One worker's share of a call.
#[derive(Debug)]
pub(crate) struct Report {
    /// The worker.
    pub(crate) worker: WorkerId,
    /// What happened; an error concerns this worker only.
    pub(crate) outcome: Result<Outcome, LandingError>,
}

/// What happens while workers land, as it happens.
#[derive(Debug)]
pub(crate) enum LandEvent<'a> {
    /// Another process lands; this one waits for it.
    WaitingForOthers,
    /// A dead process's landing was finished or taken back.
    Resumed(&'a Report),
    /// It is a worker's turn.
    Started(&'a WorkerId),
    /// A gate begins.
    GateStarted(&'a WorkerId, &'a str),
    /// A gate ended, or its pass was remembered.
    GateEnded(&'a WorkerId, &'a GateReport),
    /// The target moved underneath; it is built again.
    Rebuilding(&'a WorkerId),
    /// A worker's turn is over.
    Ended(&'a Report),
}

/// What landing a worker would do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    /// The worker.
    pub(crate) worker: WorkerId,
    /// What would come of it.
    pub(crate) prospect: Prospect,
}

/// What would come of a landing before its gates have run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Prospect {
    /// It would be tested and land.
    Land {
        /// The tree that the target would have, as hex.
        tree: String,
        /// The gates, in the order they would run.
        gates: Vec<PlannedGate>,
    },
    /// It would go back.
    Return(Returned),
    /// It would wait.
    Wait(Waiting),
}

/// A gate that would run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedGate {
    /// Its name.
    pub(crate) name: String,
    /// Whether its pass on this tree is remembered, so that it would not run.
    pub(crate) is_remembered: bool,
}

impl Prospect {
    /// The prospect of work that would not even be tested.
    pub(super) fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Waiting(waiting) => Self::Wait(waiting),
            Outcome::Returned(returned) => Self::Return(returned),
            Outcome::Landed(_) => unreachable!("nothing lands while it is judged and built"),
        }
    }
}
