//! What other programs are answered.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::submission::PriorityWord;
use super::{MESSAGE_SCHEMA, Unusable};
use crate::model::ticket::{Ticket, TicketState};
use crate::model::{TicketId, Time, causes, cut};
use crate::queue::{Claim, QueueError, QueueTicket, client_name};

/// Bytes of a text that a message has twice.
const SAID_TWICE: usize = 200_000;

/// Bytes of a title in a list.
const LISTED_TITLE: usize = 400;

/// A ticket with everything that is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Task {
    /// [`MESSAGE_SCHEMA`].
    pub(crate) schema: u32,
    /// The ticket.
    #[serde(flatten)]
    pub(crate) ticket: Ticket,
    /// Its id.
    pub(crate) task_id: TicketId,
    /// Its text; null where it is longer than 200,000 bytes and `body` alone has it.
    pub(crate) description: Option<String>,
    /// The tickets it depends on.
    pub(crate) blocked_by: Vec<TicketId>,
    /// Its priority by name.
    pub(crate) priority_name: PriorityWord,
    /// Where it is in its life.
    pub(crate) state: TicketState,
    /// The same in the words of task boards.
    pub(crate) status: TaskStatus,
    /// Who holds it.
    pub(crate) owner: Option<String>,
    /// When it was claimed; null unless it is held.
    pub(crate) started_at: Option<Time>,
    /// The last lease given out; 0 before the first.
    pub(crate) fence: u64,
    /// Attempts begun.
    pub(crate) attempts: u32,
    /// When its lease ends unless renewed.
    pub(crate) lease_until: Option<Time>,
    /// When it is queued again by itself after a failure.
    pub(crate) retry_at: Option<Time>,
    /// Why its last attempt failed.
    pub(crate) last_error: Option<String>,
    /// The dependencies that keep it from starting.
    pub(crate) waits_for: Vec<TicketId>,
    /// When it was published.
    pub(crate) published_at: Time,
    /// When its state last changed.
    pub(crate) changed_at: Time,
}

impl From<QueueTicket> for Task {
    fn from(entry: QueueTicket) -> Self {
        let ticket = entry.ticket;
        let is_held = matches!(entry.state, TicketState::Running | TicketState::Lost);
        Self {
            schema: MESSAGE_SCHEMA,
            task_id: ticket.id.clone(),
            description: (ticket.body.len() <= SAID_TWICE).then(|| ticket.body.clone()),
            blocked_by: ticket.depends_on.iter().map(|need| need.ticket.clone()).collect(),
            priority_name: PriorityWord::of(ticket.priority),
            state: entry.state,
            status: entry.state.into(),
            owner: entry.node.filter(|_| is_held).map(owner),
            started_at: (entry.state == TicketState::Running).then_some(entry.changed_at),
            fence: entry.fence,
            attempts: entry.attempts,
            lease_until: entry.lease_until,
            retry_at: entry.retry_at,
            last_error: entry.error,
            waits_for: entry.waits_for.into_iter().map(|need| need.ticket).collect(),
            published_at: entry.published_at,
            changed_at: entry.changed_at,
            ticket,
        }
    }
}

/// Who holds a ticket, as that one calls itself.
fn owner(node: String) -> String {
    client_name(&node).map(str::to_owned).unwrap_or(node)
}

/// Where a ticket is, in the words of task boards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TaskStatus {
    /// It can be claimed.
    Available,
    /// Something has to happen first.
    Blocked,
    /// Somebody holds it.
    InProgress,
    /// The work is done; whether it was judged and landed, `state` says.
    Completed,
    /// The last attempt failed.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

impl From<TicketState> for TaskStatus {
    fn from(state: TicketState) -> Self {
        use TicketState as S;
        match state {
            S::Queued => Self::Available,
            S::Open | S::Blocked | S::WaitingApproval => Self::Blocked,
            S::Running | S::Lost => Self::InProgress,
            S::Review | S::Approved | S::Landing | S::Landed | S::Done => Self::Completed,
            S::Failed | S::Dead => Self::Failed,
            S::Cancelled => Self::Cancelled,
        }
    }
}

/// The answer about one ticket.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct TaskWithResult {
    /// The ticket.
    #[serde(flatten)]
    pub(crate) task: Task,
    /// What its last holder said that it came to; null where it said nothing, or too long ago.
    pub(crate) result: Option<serde_json::Value>,
}

/// The answer to a claim that is granted.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Grant {
    /// [`MESSAGE_SCHEMA`].
    schema: u32,
    /// That it is granted.
    granted: bool,
    /// The ticket.
    task: Task,
    /// The same as in `task`: proves the lease in whatever is asked about it from now on.
    pub(crate) fence: u64,
    /// The attempt this is, from 1.
    attempt: u32,
    /// When the lease ends unless renewed.
    lease_until: Time,
}

impl Grant {
    /// Of a claim; `task` is the ticket as it is now.
    pub(crate) fn new(claim: &Claim, task: Task) -> Self {
        let Claim { attempt, fence, lease_until, .. } = *claim;
        Self { schema: MESSAGE_SCHEMA, granted: true, task, fence, attempt, lease_until }
    }
}

/// The answer to a renewal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Renewal {
    /// [`MESSAGE_SCHEMA`].
    pub(crate) schema: u32,
    /// The ticket.
    pub(crate) task_id: TicketId,
    /// When the lease ends unless renewed again.
    pub(crate) lease_until: Time,
}

/// The answer to whoever ended an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Ended {
    /// [`MESSAGE_SCHEMA`].
    schema: u32,
    /// The ticket.
    task_id: TicketId,
    /// Where it is now.
    state: TicketState,
    /// The same in the words of task boards.
    status: TaskStatus,
}

impl Ended {
    /// Of a ticket that is in this state now.
    pub(crate) fn new(task_id: TicketId, state: TicketState) -> Self {
        Self { schema: MESSAGE_SCHEMA, task_id, state, status: state.into() }
    }
}

/// The answer to what there is. What waits or is held is in the order in which tickets are taken, what ended newest first.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Listing {
    /// [`MESSAGE_SCHEMA`].
    schema: u32,
    /// When.
    at: Time,
    /// What can be claimed.
    available: Vec<ListedTask>,
    /// What somebody holds.
    in_progress: Vec<ListedTask>,
    /// What is done.
    completed: Vec<ListedTask>,
    /// What something has to happen for first.
    blocked: Vec<ListedTask>,
    /// What failed.
    failed: Vec<ListedTask>,
    /// What somebody ended.
    cancelled: Vec<ListedTask>,
    /// How many there are of each, also beyond the lists.
    total: BTreeMap<TaskStatus, usize>,
}

/// A ticket in a list.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
struct ListedTask {
    /// Its id.
    task_id: TicketId,
    /// One line; the beginning of a long one.
    title: String,
    /// 1 to 10, higher first.
    priority: u8,
    /// The tickets it depends on.
    blocked_by: Vec<TicketId>,
    /// What its holder must offer.
    capabilities: Vec<String>,
    /// Where it is in its life.
    state: TicketState,
    /// Who holds it.
    owner: Option<String>,
    /// When it was claimed; null unless it is held.
    started_at: Option<Time>,
    /// When its state last changed.
    changed_at: Time,
}

impl From<QueueTicket> for ListedTask {
    fn from(entry: QueueTicket) -> Self {
        let task = Task::from(entry);
        Self {
            task_id: task.task_id,
            title: cut(&task.ticket.title, LISTED_TITLE).to_owned(),
            priority: task.ticket.priority,
            blocked_by: task.blocked_by,
            capabilities: task.ticket.capabilities,
            state: task.state,
            owner: task.owner,
            started_at: task.started_at,
            changed_at: task.changed_at,
        }
    }
}

impl Listing {
    /// Of these entries, which are in claim order; at most `limit` in a list.
    pub(crate) fn new(entries: Vec<QueueTicket>, limit: usize) -> Self {
        let mut lists: BTreeMap<TaskStatus, Vec<QueueTicket>> = BTreeMap::new();
        for entry in entries {
            lists.entry(entry.state.into()).or_default().push(entry);
        }
        let total = lists.iter().map(|(status, list)| (*status, list.len())).collect();
        let mut list = |status: TaskStatus| {
            let mut list = lists.remove(&status).unwrap_or_default();
            if matches!(status, TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Cancelled) {
                list.sort_by_key(|entry| std::cmp::Reverse(entry.changed_at));
            }
            list.truncate(limit);
            list.into_iter().map(ListedTask::from).collect()
        };
        Self {
            schema: MESSAGE_SCHEMA,
            at: Time::now(),
            available: list(TaskStatus::Available),
            in_progress: list(TaskStatus::InProgress),
            completed: list(TaskStatus::Completed),
            blocked: list(TaskStatus::Blocked),
            failed: list(TaskStatus::Failed),
            cancelled: list(TaskStatus::Cancelled),
            total,
        }
    }
}

/// The answer to what is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Refusal {
    /// [`MESSAGE_SCHEMA`].
    schema: u32,
    /// That nothing was granted.
    granted: bool,
    /// Why.
    pub(crate) error: Problem,
}

impl From<Problem> for Refusal {
    fn from(error: Problem) -> Self {
        Self { schema: MESSAGE_SCHEMA, granted: false, error }
    }
}

/// Why something is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Problem {
    /// What a program can do about it.
    pub(crate) kind: ProblemKind,
    /// The error and its causes, for people.
    text: String,
    /// What a person can do about it.
    hint: Option<String>,
}

/// Kinds of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProblemKind {
    /// The message is not what it should be: sending it again is of no use.
    Invalid,
    /// There is no such ticket.
    NotFound,
    /// The ticket cannot be had now, or nothing is there to claim: later it may be.
    NotAvailable,
    /// The lease is over: somebody else has the ticket, or may have it.
    Stale,
    /// The state of the ticket does not allow it.
    Illegal,
    /// The queue did not answer: the same may work in a moment.
    Unavailable,
}

impl Problem {
    /// One without a cause.
    pub(crate) fn new(kind: ProblemKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), hint: None }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        let kind = match &error {
            QueueError::NotFound(_) => ProblemKind::NotFound,
            QueueError::Stale { .. } => ProblemKind::Stale,
            QueueError::Illegal { .. } => ProblemKind::Illegal,
            QueueError::Cycle(_) | QueueError::CaseClash { .. } => ProblemKind::Invalid,
            QueueError::Nats(error) if error.is_refusal() => ProblemKind::Invalid,
            QueueError::Store(_) | QueueError::Nats(_) | QueueError::Elsewhere(_) | QueueError::Move(_) => {
                ProblemKind::Unavailable
            }
        };
        Self { kind, text: causes(&error).join(": "), hint: error.hint() }
    }
}

impl From<Unusable> for Problem {
    fn from(error: Unusable) -> Self {
        let hint = match &error {
            Unusable::Value(error) => error.hint().map(str::to_owned),
            Unusable::Shape(_) | Unusable::Id | Unusable::Twice(..) => None,
        };
        Self { kind: ProblemKind::Invalid, text: causes(&error).join(": "), hint }
    }
}

impl From<serde_json::Error> for Problem {
    fn from(error: serde_json::Error) -> Self {
        Self::new(ProblemKind::Invalid, format!("the message is not of its shape: {error}"))
    }
}
