//! From finished work to a moved target: verdicts, gates, landing, release, recovery. Plain code, no model.
//!
//! # Theory of operation
//!
//! **Verdicts** ([`review`]) judge a commit, not a worker: an approval holds only while the worker's branch points
//! to the commit that was approved. They are stored, and the ticket is moved along in the queue.
//!
//! **Landing** ([`Landing::land`]) takes approved work in the order given, several workers' at once ([`batch`]):
//!
//! 1. *Judge*: the ticket is `approved` and the approval is for the branch's head. A new commit voids it.
//! 2. *Take*: the ticket becomes `landing` ([`Settlement::BeginLanding`] is granted once).
//! 3. *Build*: the commits the target would become, as objects only, each worker's on the one before. A conflict with
//!    the target returns the work.
//! 4. *Gates*: each runs in a scratch worktree of exactly the last of these commits. A red one starts the search for
//!    the work that makes it red, which is returned.
//! 5. *Intent*: what was tested and what will move is on the device before anything moves.
//! 6. *Move*: compare-and-swap of the target with the worktrees that have it checked out. When the target moved
//!    underneath, back to 3; when a person's checkout is in the way, the ticket is `approved` again and waits.
//! 7. *Facts*: the note with the evidence, the ticket `landed` and the event of each that landed, then the releases of
//!    their workers; then their intents are closed, all at once.
//!
//! **Who owns what.** One process lands at a time per repository: it holds the `landing` lock, so under that lock
//! every `landing` ticket and every open intent is a dead process's. The target belongs to whoever wins its
//! compare-and-swap. Worktree and agent belong to their supervisor: landing starts and stops no agent. What must go
//! back to one is answered as [`Outcome::Returned`], with the ticket `approved`, and the caller reopens it.
//!
//! **Several nodes.** Where others share the queue, a landing also takes its turn among them, starts from what landed last,
//! and moves the tip of the target that all of them follow before its own target ([`shared`]).
//!
//! **What survives a crash.** Whoever takes the turn after a dead process first ends what that one left running
//! ([`turn`]); then its landings are finished or taken back. An intent whose commit is in the target
//! is finished from step 7, every step of which can be done twice; any other intent is dropped and its ticket is
//! `approved` again, as is a `landing` ticket without intent (its process died in steps 2 to 5). Half-updated
//! checkouts are finished by [`Repository::repair_targets`], scratch worktrees are swept. The intent is closed last,
//! so there is no moment from which the rest would be forgotten.
//!
//! **Nothing is lost.** [`Landing::release`] removes a worktree and a branch only against a [`crate::git::KeptWork`],
//! which holds the branch's head: after a squash or a rebase the original commits are there, and
//! [`Landing::restore`] brings them back.

mod batch;
#[cfg(feature = "bench-internals")]
pub(crate) mod bench;
mod checklist;
mod clean;
mod evidence;
mod forge;
mod gate;
mod issues;
mod land;
mod order;
mod outcome;
mod pull_request;
mod radar;
mod recover;
mod release;
mod remark;
mod resume;
mod review;
mod reviewer;
mod rewind;
mod shared;
mod speculate;
mod spot;
mod stack;
mod sweep;
mod transport;
mod turn;

use std::path::PathBuf;

use crate::files::FileError;
use crate::git::{GitError, Repository};
use crate::model::event::{Event, EventRecord};
use crate::model::ticket::TicketState;
use crate::model::worker::Worker;
use crate::model::{BranchName, CommitId, RunId, TicketId, WorkerId};
use crate::process::ProcessError;
use crate::queue::{Queue, QueueError, QueueTicket};
use crate::store::{CommentId, CommentState, Lines, StatePaths, Store, StoreError};

pub(crate) use checklist::ChecklistItem;
pub(crate) use clean::{CleanPolicy, Goes, Stays, Thing};
pub(crate) use evidence::{Evidence, Tested};
pub(crate) use forge::{Checks, Forge, ForgeError, ForgeKind, PullState};
pub(crate) use gate::{ApprovedGates, GateReport};
pub(crate) use issues::Issue;
#[cfg(test)]
pub(crate) use issues::Label as IssueLabel;
pub(crate) use land::{LandOptions, PrepareScratch};
pub(crate) use order::{Entry, order};
pub(crate) use outcome::{LandEvent, Landed, Outcome, Plan, Prospect, Report, ReturnReason, Returned, Waiting};
pub(crate) use pull_request::{Offered, PullLanded, PullOptions, PullRecord};
pub(crate) use radar::{Overlap, OverlapVerdict};
pub(crate) use release::Missing;
pub(crate) use remark::{RemarkPlace, Remarking};
pub(crate) use review::{NewReview, Standing};
pub(crate) use reviewer::{Reviewer, Spoken};
pub(crate) use rewind::RewindPlan;
pub(crate) use shared::{CARRIED, Followed, Shared, TIPS, tip_reference};
pub(crate) use spot::{Fate, Finder};
pub(crate) use transport::{Parcel, Transport};

/// Landing for one repository; borrows what it works on.
#[derive(Clone, Copy)]
pub(crate) struct Landing<'a> {
    /// The repository.
    pub(crate) repository: &'a Repository,
    /// Where workers, reviews and intents are.
    pub(crate) store: &'a Store,
    /// Where the state folder's files are.
    pub(crate) paths: &'a StatePaths,
    /// Where tickets are.
    pub(crate) queue: &'a dyn Queue,
    /// The command or coordinator run that acts.
    pub(crate) run: &'a RunId,
    /// The git remote that carries commits to other nodes, where the server of the queue does not.
    pub(crate) remote: Option<&'a str>,
    /// Bytes of a bundle that the server carries at most.
    pub(crate) bundle_bytes: u64,
    /// What is shared with other nodes, for a process whose turn it is among them.
    pub(crate) shared: Option<&'a Shared<'a>>,
}

/// Why landing could not do what was asked. Work that does not fit is no error but an [`Outcome`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum LandingError {
    /// Whoever landed was asked to end.
    #[error("it was ended before it was done; the work is as it was and can land again")]
    Ended,
    /// Another node took the turn, because this process was stopped for too long.
    #[error("another node took the turn to land meanwhile; the work is as it was and can land again")]
    TurnOver,
    /// What another node landed is not to be had.
    #[error("the commit {} that another node has is not on the server, and not here", commit.short())]
    NotSent {
        /// The commit.
        commit: CommitId,
    },
    /// Work that the server would have to carry is too large for it.
    #[error("what leads to the commit {} has {bytes} bytes, and `node.bundle_bytes` lets {limit} through the server of the \
        queue at once", commit.short())]
    TooLarge {
        /// The commit.
        commit: CommitId,
        /// Bytes of its bundle.
        bytes: u64,
        /// Most bytes of one.
        limit: u64,
    },
    /// The target went two ways.
    #[error("`{target}` here and what node `{node}` landed on it have each commits that the other has not")]
    Diverged {
        /// The target.
        target: BranchName,
        /// Who landed last.
        node: String,
        /// The reference that holds what landed, here.
        own: String,
    },
    /// Somebody took commits out of the target that all nodes have.
    #[error("`{target}` had commits that landed, up to {}, and somebody took them out", commit.short())]
    TakenOut {
        /// The target.
        target: BranchName,
        /// The commit at which it was.
        commit: CommitId,
        /// The reference that holds what landed, here.
        own: String,
    },
    /// A checkout keeps the target from following what others landed.
    #[error("`{target}` cannot follow what other nodes landed: it is checked out in `{}`: {why}", worktree.display())]
    CannotFollow {
        /// The target.
        target: BranchName,
        /// Where.
        worktree: PathBuf,
        /// Why, as a clause.
        why: String,
    },
    /// What the board says of a target cannot be read.
    #[error("what landed last on `{target}` is told in a form that this program does not know")]
    UnknownTip {
        /// The target.
        target: BranchName,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// What the board says of something else cannot be read.
    #[error("the entry `{key}` of the board has a form that this program does not know")]
    UnknownEntry {
        /// What it is called.
        key: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// No such worker.
    #[error("there is no worker `{0}`")]
    NoWorker(WorkerId),
    /// The worker's ticket is not in the queue.
    #[error("the queue has no ticket `{0}`")]
    NoTicket(TicketId),
    /// The worktree was released before.
    #[error("worker `{0}` was released")]
    IsReleased(WorkerId),
    /// Another node went on with its ticket.
    #[error("node `{node}` has gone on with the ticket of worker `{worker}`")]
    Overtaken {
        /// The worker.
        worker: WorkerId,
        /// The node.
        node: String,
    },
    /// A supervisor runs the worker.
    #[error("the supervisor of worker `{0}` is running")]
    IsSupervised(WorkerId),
    /// The worker has no branch any more.
    #[error("the branch `{branch}` of worker `{worker}` is gone")]
    NoWork {
        /// The worker.
        worker: WorkerId,
        /// Its branch.
        branch: BranchName,
    },
    /// The ticket is not in a state in which it is judged.
    #[error("ticket `{ticket}` is {state}, not in review")]
    NotInReview {
        /// The ticket.
        ticket: TicketId,
        /// Its state.
        state: TicketState,
    },
    /// The work changed while it was judged.
    #[error("worker `{worker}` is at {} now, not at {}", now.short(), judged.short())]
    MovedOn {
        /// The worker.
        worker: WorkerId,
        /// The commit that was judged.
        judged: CommitId,
        /// The branch's head.
        now: CommitId,
    },
    /// A comment without a text.
    #[error("the comment on `{place}` is empty")]
    EmptyComment {
        /// Where.
        place: String,
    },
    /// A comment on a file that the commit does not have.
    #[error("{} has no file `{file}`", commit.short())]
    NoSuchFile {
        /// The file.
        file: String,
        /// The commit.
        commit: CommitId,
        /// Files that the work changes.
        changed: Vec<String>,
        /// How many more of them there are.
        more: usize,
    },
    /// A comment on lines that the file does not have.
    #[error("`{file}` has no {} {lines} at {}: {}", if lines.first == lines.last { "line" } else { "lines" },
        commit.short(), if *count == 0 { "it is empty".to_owned() } else { format!("it has lines 1 to {count}") })]
    NoSuchLine {
        /// The file.
        file: String,
        /// The commit.
        commit: CommitId,
        /// The lines.
        lines: Lines,
        /// How many it has.
        count: usize,
    },
    /// A comment on lines of a binary file.
    #[error("`{file}` is binary, so it has no lines")]
    NoLines {
        /// The file.
        file: String,
    },
    /// The worker has no such comment.
    #[error("worker `{worker}` has no comment {id}")]
    NoComment {
        /// The worker.
        worker: WorkerId,
        /// The comment.
        id: CommentId,
    },
    /// A comment that cannot get another state.
    #[error("comment {id} is {}, so it cannot become {}", state.as_str(), to.as_str())]
    WrongCommentState {
        /// The comment.
        id: CommentId,
        /// Its state.
        state: CommentState,
        /// The state it should get.
        to: CommentState,
    },
    /// The checklist has no such item.
    #[error("the checklist of `{ticket}` has no item {number}: {}", if *count == 0 { "it is empty".to_owned() } else { format!("it has items 1 to {count}") })]
    NoItem {
        /// The ticket.
        ticket: TicketId,
        /// The item.
        number: usize,
        /// How many it has.
        count: usize,
    },
    /// An approval that the configuration refuses.
    #[error("the checklist of `{ticket}` is not ticked at {}: {}", commit.short(), items.join("; "))]
    Unticked {
        /// The ticket.
        ticket: TicketId,
        /// The commit to approve.
        commit: CommitId,
        /// What is not ticked, with numbers.
        items: Vec<String>,
    },
    /// The target branch is not there.
    #[error("there is no target branch `{0}`")]
    NoTarget(BranchName),
    /// There is no such remote.
    #[error("there is no remote `{0}`")]
    NoRemote(String),
    /// The remote's branch has commits that the worker's has not.
    #[error("the branch `{branch}` on `{remote}` has commits that somebody else pushed")]
    ForeignCommits {
        /// The remote.
        remote: String,
        /// The branch.
        branch: BranchName,
    },
    /// A push was refused.
    #[error("`{remote}` refused `{branch}`: {why}")]
    PushRefused {
        /// The remote.
        remote: String,
        /// The branch.
        branch: BranchName,
        /// Why, in git's words.
        why: String,
    },
    /// A pull request was opened, and its number was not told.
    #[error("`{0}` did not say which pull request it opened")]
    NoPull(&'static str),
    /// The forge could not be used.
    #[error(transparent)]
    Forge(ForgeError),
    /// Nothing was kept under that name.
    #[error("nothing is kept of `{0}`")]
    NothingKept(String),
    /// The commit message could not be made.
    #[error("could not write the commit message: {0}")]
    Message(String),
    /// The scratch worktree could not be prepared.
    #[error("could not prepare the gates' worktree: {0}")]
    Prepare(String),
    /// A worktree path without a folder around it.
    #[error("`{}` is no place for a worktree", .0.display())]
    BadPlace(PathBuf),
    /// The repository failed.
    #[error("the repository could not be used")]
    Git(#[from] GitError),
    /// The store failed.
    #[error("the store could not be used")]
    Store(#[from] StoreError),
    /// The queue failed or refused.
    #[error("the ticket could not be moved along")]
    Queue(#[from] QueueError),
    /// A file of ours failed.
    #[error("a state file could not be used")]
    Files(#[from] FileError),
    /// What an agent wrote down about itself cannot be used.
    #[error("what the reviewer told could not be read")]
    Agent(#[from] crate::agent::AgentError),
    /// A program could not be run.
    #[error("a program could not be run")]
    Process(#[from] ProcessError),
}

impl LandingError {
    /// What a person can do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::NoWorker(_) => Some("see the workers: swarm status --all".to_owned()),
            Self::IsReleased(worker) | Self::NoWork { worker, .. } => {
                Some(format!("its work is kept: swarm recover show {worker}"))
            }
            Self::Overtaken { worker, .. } => Some(format!("swarm rm {worker} keeps what was made here")),
            Self::IsSupervised(worker) => Some(format!("stop it first: swarm stop {worker}")),
            Self::NotInReview { ticket, .. } => Some(format!("see what it is doing: swarm why {ticket}")),
            Self::MovedOn { worker, .. } => Some(format!("look at the new work: swarm review {worker}")),
            Self::NoSuchFile { changed, more, .. } if !changed.is_empty() => {
                let more = if *more > 0 { format!(" and {more} more") } else { String::new() };
                Some(format!("the work changes {}{more}", changed.join(", ")))
            }
            Self::NoLines { file } => Some(format!("comment on the whole file: --comment {file} TEXT")),
            Self::NoComment { worker, .. } => Some(format!("see them: swarm review {worker}")),
            Self::NoItem { ticket, .. } => Some(format!("see them: swarm review {ticket}")),
            Self::Unticked { ticket, .. } => Some(format!("tick them: swarm review {ticket} --check N... --approve")),
            Self::NotSent { .. } => {
                Some("clone from the same place, or fetch what the other clone has: git fetch; then repeat".to_owned())
            }
            Self::TooLarge { bytes, .. } => Some(format!(
                "in .swarm/config.yaml raise the limit, `node: {{bundle_bytes: {}}}`, or let a git remote carry commits, \
                 `node: {{remote: origin}}`",
                bytes.saturating_mul(2)
            )),
            Self::Diverged { target, own, .. } => Some(format!("on `{target}`: git rebase {own}, or git merge {own}")),
            Self::TakenOut { target, own, .. } => Some(format!(
                "other nodes build on them: on `{target}`, git merge --ff-only {own} brings them back, and git revert then undoes \
                 them for everybody"
            )),
            Self::CannotFollow { .. } => Some("commit or stash what is there; it follows by itself then".to_owned()),
            Self::NoTarget(_) => Some("set `target` in .swarm/config.yaml".to_owned()),
            Self::NoRemote(_) => Some("set `landing.remote` to one of those of: git remote".to_owned()),
            Self::ForeignCommits { remote, branch } => {
                Some(format!("fetch them, merge or drop them, then repeat: git fetch {remote} {branch}"))
            }
            Self::PushRefused { .. } => Some("mend what it says, then repeat: nothing else was done".to_owned()),
            Self::NoPull(_) => Some("repeat it: a pull request that is open is found again".to_owned()),
            Self::Forge(error) => error.hint(),
            Self::NothingKept(_) => Some("see what is kept: swarm recover list".to_owned()),
            Self::Git(error) => error.hint(),
            _ => None,
        }
    }
}

impl Landing<'_> {
    /// A worker that was not released.
    fn live_worker(&self, id: &WorkerId) -> Result<Worker, LandingError> {
        let worker = self.worker(id)?;
        match worker.phase {
            crate::model::worker::Phase::Released { .. } => Err(LandingError::IsReleased(id.clone())),
            _ => Ok(worker),
        }
    }

    /// Any worker.
    fn worker(&self, id: &WorkerId) -> Result<Worker, LandingError> {
        self.store.worker(id)?.ok_or_else(|| LandingError::NoWorker(id.clone()))
    }

    /// A worker's entry in the queue.
    fn ticket_of(&self, worker: &Worker) -> Result<QueueTicket, LandingError> {
        self.queue.ticket(&worker.ticket)?.ok_or_else(|| LandingError::NoTicket(worker.ticket.clone()))
    }

    /// The other node that holds or last held a ticket; `None` where a worker here has its work.
    fn elsewhere<'t>(&self, worker: &Worker, ticket: &'t QueueTicket) -> Option<&'t str> {
        let node = ticket.node.as_deref().filter(|node| *node != self.queue.node())?;
        (self.queue.server().is_some() && worker.attempt.fence != ticket.fence).then_some(node)
    }

    /// The head of a worker's branch.
    fn head_of(&self, worker: &Worker) -> Result<CommitId, LandingError> {
        let head = self.repository.branch_head(&worker.place.branch)?;
        head.ok_or_else(|| LandingError::NoWork { worker: worker.id.clone(), branch: worker.place.branch.clone() })
    }

    /// Writes down what happened.
    fn note_event(&self, worker: &Worker, event: Event) -> Result<(), LandingError> {
        let record = EventRecord::now(self.run, &worker.ticket, &worker.id, event);
        self.store.record_event(self.paths, &record)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
