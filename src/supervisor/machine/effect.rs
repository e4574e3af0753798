//! What the machine asks for.

use super::messages::{Letter, Parcel};
use crate::model::CommitId;
use crate::model::event::Event;
use crate::model::worker::Outcome;

/// What the loop has to do.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::supervisor) enum Effect {
    /// Type a message into the agent's terminal.
    Submit(String),
    /// Start the agent again with this prompt: in its conversation, or afresh.
    Relaunch(Parcel),
    /// Take these letters out of the mailbox: the agent has them.
    Delivered(Parcel),
    /// Take this letter out of the mailbox: its time is over.
    Expired(Letter),
    /// Take these letters out of the mailbox: the agent does not take them, and their sender was told.
    GivenUp(Parcel),
    /// Run leftovers and checks.
    BeginFinish,
    /// Take the ticket back under a lease.
    Reopen,
    /// End the attempt in the queue and in the worker's facts.
    Conclude(Outcome),
    /// End the agent's processes.
    EndAgent,
    /// Stop the agent's processes where they are.
    Freeze,
    /// Let them run again.
    Thaw,
    /// Close as lost what no end of a tool call will come for.
    CloseTools,
    /// Save the worktree.
    Snapshot,
    /// Remember that finishing needs a commit beyond this one.
    ExpectBeyond(CommitId),
    /// Write an event.
    Log(Event),
    /// Leave the loop.
    Exit,
}
