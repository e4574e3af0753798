//! What every face can ask for, and the shapes of the answers.
//!
//! [`Control`] is one repository under one command: it opens what a request needs, acts, and gives back a view. It
//! keeps no state between calls that is not in the store, so any number of commands work on a repository at once.

#[cfg(feature = "bench-internals")]
pub(crate) mod bench;
mod control;
pub(crate) mod demo;
pub(crate) mod drawing;
mod failure;
mod history;
mod project;
mod queue_place;
mod register;
mod run;
mod scaling;
pub(crate) mod views;

pub(crate) use control::{
    Acted, Attachment, BudgetRequest, BusFilter, CleanRequest, CommentChoice, Control, EventFilter, EventKind,
    EventReader, Heard, ImportRequest, JoinRequest, KeptDiff, LogPaths, MergeProgress, MergeRequest, NewTicketRequest,
    NodeEventReader, PlanRequest, PolicyChange, PublishRequest, QueueFilter, Resolving, ReviewRequest, RewindRequest,
    ScaleChange, SendRequest, Since, SpawnProgress, SpawnRequest, SpendBy, UpHandover, UpRequest, WaitRequest,
    has_markers,
};
pub(crate) use failure::{Failure, FailureKind};
pub(crate) use project::Call;
pub(crate) use run::{News, RunFace, RunRequest, run};
