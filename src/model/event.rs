//! The event log: facts about a worker, one JSON object a line.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scaling::{Metric, ScaleScope};
use super::worker::{CheckResult, Figures, Outcome, SpawnStep, Status};
use super::{AgentName, CommitId, NodeName, RunId, TicketId, Time, WorkerId};

/// One line of `events.jsonl`, and the data of one row of the store's event table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct EventRecord {
    /// Version of this shape.
    pub(crate) schema: u32,
    /// When it happened.
    pub(crate) at: Time,
    /// The command or coordinator run it belongs to.
    pub(crate) run: Option<RunId>,
    /// The ticket it is about.
    pub(crate) ticket: TicketId,
    /// The worker it is about, where there is one.
    pub(crate) worker: Option<WorkerId>,
    /// What happened.
    #[serde(flatten)]
    pub(crate) event: Event,
}

impl EventRecord {
    /// Version of the shape of a line.
    const SCHEMA: u32 = 1;

    /// A fact about a worker that is true from now on.
    pub(crate) fn now(run: &RunId, ticket: &TicketId, worker: &WorkerId, event: Event) -> Self {
        let (run, ticket, worker) = (run.clone(), ticket.clone(), worker.clone());
        Self { schema: Self::SCHEMA, at: Time::now(), run: Some(run), ticket, worker: Some(worker), event }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// A spawn step is about to have effects.
    SpawnStep {
        /// Which.
        step: SpawnStep,
    },
    /// A spawn failed and was undone.
    SpawnUndone {
        /// Why.
        reason: String,
    },
    /// A worker goes on with work that another node began.
    TakenOver {
        /// The node.
        node: String,
        /// What it left.
        commit: CommitId,
    },
    /// What a worker made cannot be handed over to other nodes: they go on from what they have of it.
    NotHandedOver {
        /// Why.
        reason: String,
    },
    /// The agent's process started.
    AgentStarted {
        /// Its pid.
        pid: u32,
        /// From 1.
        attempt: u32,
        /// Whether it continues an earlier conversation.
        resumed: bool,
        /// The agent; null where an older version wrote this.
        agent: Option<AgentName>,
        /// The model that the agent's definition names; null where it names none.
        model: Option<String>,
    },
    /// The worker's status changed.
    StatusChanged {
        /// To what.
        status: Status,
        /// Why.
        reason: String,
    },
    /// A message was taken that has to wait for the agent.
    MessageQueued {
        /// Size of the text in bytes.
        bytes: usize,
        /// Who sent it; absent where that is a person, or a command of `swarm`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<String>,
    },
    /// A message was delivered to the agent.
    MessageSent {
        /// Size of the text in bytes.
        bytes: usize,
    },
    /// The worker's agent sent a message to another worker's.
    MailSent {
        /// Names the message.
        id: String,
        /// To which worker.
        to: WorkerId,
        /// Size of the text in bytes.
        bytes: usize,
    },
    /// A message of the worker's mailbox was delivered to the agent.
    MailDelivered {
        /// Names the message.
        id: String,
        /// Who sent it.
        from: String,
    },
    /// A message of the worker's mailbox was not delivered in time.
    MailExpired {
        /// Names the message.
        id: String,
        /// Who sent it.
        from: String,
    },
    /// The agent's provider answered with an error that it retries.
    ProviderRetry {
        /// What it said.
        reason: String,
    },
    /// Leftover changes were committed for the agent.
    LeftoversCommitted {
        /// The commit.
        commit: CommitId,
        /// How many files.
        files: usize,
    },
    /// A check of the ticket ran.
    CheckRan {
        /// How it ended.
        result: CheckResult,
    },
    /// The finished work changes files outside the scope of its ticket.
    OutsideScope {
        /// The files, the first ones where there are many.
        files: Vec<String>,
        /// How many there are.
        count: usize,
    },
    /// The attempt ended.
    AttemptEnded {
        /// How.
        #[serde(flatten)]
        outcome: Outcome,
        /// What it used, from its beginning on; null where nobody counted.
        used: Option<Figures>,
    },
    /// A verdict on the work.
    Reviewed {
        /// `approved` or `rejected`.
        verdict: String,
        /// The commit it judged.
        commit: CommitId,
        /// Who, as git names them.
        by: String,
    },
    /// A reviewer agent was asked, and ended.
    ReviewerEnded {
        /// The agent.
        agent: String,
        /// The commit it looked at.
        commit: CommitId,
        /// `approve`, `reject` or `no_verdict`.
        verdict: String,
        /// How many comments it proposed.
        comments: usize,
        /// US dollars; absent where they are not known.
        cost_usd: Option<f64>,
    },
    /// A landing is about to move the target.
    LandingIntent {
        /// The target branch.
        target: String,
        /// Where it points.
        from: CommitId,
        /// Where it will point.
        to: CommitId,
    },
    /// The target contains the work.
    Landed {
        /// The target branch.
        target: String,
        /// Where it points now.
        commit: CommitId,
    },
    /// Landing returned the work to its agent.
    Returned {
        /// Why, in one sentence.
        reason: String,
        /// Files in conflict.
        files: Vec<String>,
    },
    /// The worktree was released and its work kept.
    Released {
        /// The keep ref.
        keep: String,
    },
    /// A keep ref was removed, because a person let it go after its time.
    KeptRemoved {
        /// The keep ref.
        reference: String,
        /// What it pointed to.
        commit: CommitId,
        /// Why it could go.
        why: String,
    },
    /// The worktree was brought back to the state after a tool call.
    Rewound {
        /// The call, by its number in the tool log.
        call: u64,
        /// The keep ref with the state before.
        keep: String,
        /// Where the branch was.
        from: CommitId,
        /// Where it is now.
        to: CommitId,
    },
    /// The work was offered as a pull request, or something about that changed.
    PullRequest {
        /// Its address.
        url: String,
        /// What is new, as a clause.
        what: String,
    },
    /// Something that deserves a person's eye and stopped nothing.
    Warning {
        /// One sentence.
        text: String,
    },
}

/// A fact that the coordinator establishes about its run, its role or a ticket: one row of kind `swarm` in the store's
/// event table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SwarmRecord {
    /// Version of this shape.
    pub(crate) schema: u32,
    /// When it happened.
    pub(crate) at: Time,
    /// The coordinator run, or the command, that says it.
    pub(crate) run: RunId,
    /// The ticket it is about; null where it is about none.
    pub(crate) ticket: Option<TicketId>,
    /// The worker it is about; null where it is about none.
    pub(crate) worker: Option<WorkerId>,
    /// What happened.
    #[serde(flatten)]
    pub(crate) event: SwarmEvent,
}

impl SwarmRecord {
    /// Version of the shape.
    const SCHEMA: u32 = 1;

    /// A fact of a run that is true from now on.
    pub(crate) fn now(run: &RunId, event: SwarmEvent) -> Self {
        Self { schema: Self::SCHEMA, at: Time::now(), run: run.clone(), ticket: None, worker: None, event }
    }

    /// The same fact, about a ticket.
    pub(crate) fn about(self, ticket: &TicketId) -> Self {
        Self { ticket: Some(ticket.clone()), ..self }
    }

    /// The same fact, about a worker and its ticket.
    pub(crate) fn about_worker(self, ticket: &TicketId, worker: &WorkerId) -> Self {
        Self { ticket: Some(ticket.clone()), worker: Some(worker.clone()), ..self }
    }
}

/// What a node did, as others see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NodeNews {
    /// It is on the register for the first time since this coordinator looks.
    Joined,
    /// It has said nothing for 4.5 seconds. After 7 it is gone, and others go on with what it had.
    Silent,
    /// It says something again.
    Back,
    /// It is off the register.
    Left,
}

impl NodeNews {
    /// What it did, as a clause.
    pub(crate) fn clause(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Silent => "says nothing any more",
            Self::Back => "is heard again",
            Self::Left => "was taken off the register",
        }
    }
}

/// What the coordinator did or found. Sentences in it are clauses without a full stop, written where the fact is
/// established and shown as they are everywhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum SwarmEvent {
    /// A run of the coordinator began.
    RunBegan {
        /// The tickets it is to bring to an end; empty where it takes whatever is queued.
        tickets: Vec<TicketId>,
        /// Workers at once.
        max_workers: u32,
    },
    /// A run of the coordinator ended; one that was killed never says so.
    RunEnded {
        /// Its exit code.
        exit_code: u8,
        /// How it ended, as a clause.
        why: String,
    },
    /// A process took a role.
    LeaseTaken {
        /// Which.
        role: String,
        /// Who has it now.
        holder: String,
        /// Proves the lease.
        fence: u64,
    },
    /// A process lost a role to another, or gave it up.
    LeaseLost {
        /// Which.
        role: String,
        /// Who had it.
        holder: String,
        /// The lease it was.
        fence: u64,
    },
    /// The configuration changed while a coordinator ran.
    Reconfigured {
        /// Whether it holds from now on; else the one from before does.
        used: bool,
        /// What came of it, as a clause.
        why: String,
    },
    /// Another number of workers may run at once from now on. Those that run go on.
    Scaled {
        /// Whose number was decided on.
        scope: ScaleScope,
        /// How many this coordinator could run before.
        from: usize,
        /// How many it can run now.
        to: usize,
        /// The metric whose policy asked for it; null where a person did, or other nodes came or went.
        metric: Option<Metric>,
        /// Its value.
        value: Option<f64>,
        /// Why, as a clause.
        why: String,
    },
    /// Another topology holds from now on.
    TopologyChanged {
        /// The one before.
        from: String,
        /// The one from now on.
        to: String,
    },
    /// Another node of the queue came, went, or is not heard any more.
    NodeChanged {
        /// Its name.
        node: NodeName,
        /// What it did.
        to: NodeNews,
    },
    /// The token of a ticket passed to another agent of its ring.
    TokenPassed {
        /// The one that had it; null when the ticket begins its round.
        from: Option<AgentName>,
        /// The one that has it now; null when nobody is left.
        to: Option<AgentName>,
        /// Whose turn it is, from 1.
        turn: usize,
        /// How many turns there are.
        of: usize,
        /// Why the one that had it was passed over, as a clause; null when it had its turn.
        skipped: Option<String>,
    },
    /// A ticket that could be worked on is not started, or no longer for the reason before.
    Held {
        /// Why, as a clause.
        why: String,
        /// Until when, where a time is known.
        until: Option<Time>,
    },
    /// What held a ticket is over.
    HoldEnded,
    /// A model wants to be left alone, and no worker is started with it for a while.
    Paced {
        /// The model.
        model: String,
        /// Why, as a clause.
        why: String,
        /// Until when.
        until: Time,
    },
    /// A worker works and shows no progress.
    Stuck {
        /// Since when.
        since: Time,
        /// What is missing, as a clause.
        why: String,
    },
    /// A stuck worker was asked how it is getting on.
    Nudged,
    /// A limit or budget was reached.
    LimitReached {
        /// Which, and how to raise it, as a clause.
        why: String,
    },
    /// Tickets are queued in the repository, because there was no server that could be used.
    QueueFellBack {
        /// Why, as a clause.
        why: String,
    },
    /// Something inconsistent was put right.
    Mended {
        /// What, as a clause in the past tense.
        what: String,
    },
}
