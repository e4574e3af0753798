//! What happens to a worker, as the machine hears of it.

use super::messages::Letter;
use crate::agent::{AgentEvent, Ending};
use crate::model::CommitId;
use crate::model::worker::Status;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::supervisor) enum Input {
    /// The agent's process runs.
    Started {
        /// Its pid.
        pid: u32,
    },
    /// A hook or stream event of the agent.
    Agent(AgentEvent),
    /// The agent's process ended, and everything it had started is gone.
    Exited(Ending),
    /// There was no agent to end any more.
    AgentGone,
    /// Leftovers and checks are through.
    Finish(FinishReport),
    /// A message for the agent.
    Send {
        /// The text.
        text: String,
        /// See [`crate::supervisor::protocol::Request::Send`].
        returned_at: Option<CommitId>,
    },
    /// A letter from the worker's mailbox.
    Letter {
        /// The text as the agent gets it.
        text: String,
        /// Which.
        letter: Letter,
    },
    /// A notice for the agent's next turn boundary.
    Notice {
        /// The text.
        text: String,
    },
    /// Hold.
    Pause {
        /// At once.
        now: bool,
    },
    /// Go on.
    Resume,
    /// Hold at the turn boundary, because a budget is used up.
    Hold {
        /// Which, as a clause.
        reason: String,
    },
    /// End the agent and keep the work.
    Stop {
        /// Why, as a clause.
        reason: String,
    },
    /// End the agent, because nothing comes of the attempt.
    GiveUp {
        /// Why, as a clause.
        reason: String,
    },
    /// End the agent at a limit and keep the work.
    Limit {
        /// Which, as a clause.
        reason: String,
    },
    /// The agent takes no message now: it is not ready, or asks something.
    NotSubmitted {
        /// The message.
        text: String,
    },
    /// A person typed in the agent's terminal.
    Typed {
        /// Whether the last byte submits the line.
        submitted: bool,
    },
    /// A screen rule matches, or none does any more.
    Screen(Option<Finding>),
    /// Time passed.
    Tick,
    /// The lease is gone for good.
    LeaseLost {
        /// Why, as a clause.
        why: String,
    },
}

/// What a screen rule says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::supervisor) struct Finding {
    /// What the agent is doing.
    pub(in crate::supervisor) status: Status,
    /// The same as a clause.
    pub(in crate::supervisor) what: String,
    /// Whether nothing but the screen tells this.
    pub(in crate::supervisor) is_news: bool,
}

/// What finishing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::supervisor) enum FinishReport {
    /// There is work to judge at this commit; checks passed.
    Work(CommitId),
    /// Nothing changed since the base.
    NoChanges,
    /// Work was returned and nothing new was committed.
    NothingNew,
    /// A commit hook refused the leftovers; the text is the prompt that says so.
    HookRefused(String),
    /// Checks failed; the text is the prompt that says so.
    ChecksFailed(String),
    /// A person has to look first.
    NeedsPerson(String),
    /// It could not be done, which may pass: the disk is full, or another program holds a lock.
    Hindered(String),
}
