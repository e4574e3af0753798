//! Requests of other programs.

use std::time::Duration;

use async_nats::Message;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Desk;
use super::fold::json;
use crate::model::ticket::TicketState;
use crate::model::{TicketId, Time, cut};
use crate::queue::message::{
    ClaimAsk, CompletionAsk, Ended, FailureAsk, Grant, Lasting, LeaseAsk, ListAsk, Listing, MESSAGE_SCHEMA, Problem,
    ProblemKind, Refusal, ReleaseAsk, Renewal, StatusAsk, Task, TaskResult, TaskWithResult,
};
use crate::queue::{CLIENT, Claim, ClaimRequest, QueueError, QueueTicket, Renewed};

/// How long a lease lasts that says nothing about it.
const LEASE: Duration = Duration::from_secs(120);
/// Bytes of the name of a holder, and of a request.
const LONGEST_NAME: usize = 64;
/// Bytes that are kept of why an attempt failed.
const LONGEST_ERROR: usize = 2_000;
/// Entries of a list, where nothing is said about it.
const LISTED: usize = 100;
/// The most entries of a list.
const MOST_LISTED: usize = 200;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// For a ticket.
    Claim,
    /// To prolong a lease.
    Renew,
    /// To end an attempt well.
    Complete,
    /// To end an attempt badly.
    Fail,
    /// To give a ticket back.
    Release,
    /// About one ticket.
    Status,
    /// What there is.
    List,
    /// To prolong a lease, by one who waits for no answer.
    Heartbeat,
}

impl Request {
    /// Those about tickets.
    pub(super) const ALL: [Self; 7] =
        [Self::Claim, Self::Renew, Self::Complete, Self::Fail, Self::Release, Self::Status, Self::List];

    /// The last word of its subject.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Claim => "claimed",
            Self::Renew => "renewed",
            Self::Complete => "completed",
            Self::Fail => "failed",
            Self::Release => "released",
            Self::Status => "status",
            Self::List => "list",
            Self::Heartbeat => "heartbeat",
        }
    }
}

impl Desk {
    /// Does what is asked and says what came of it.
    pub(super) fn answer(&self, request: Request, message: &Message) {
        let payload = &message.payload[..];
        let answer = match request {
            // A lease that nobody hears of would only keep the ticket from others.
            Request::Claim if message.reply.is_none() => return,
            Request::Claim => self.claim(payload),
            Request::Renew | Request::Heartbeat => self.renew(payload),
            Request::Complete => self.complete(payload),
            Request::Fail => self.fail(payload),
            Request::Release => self.release(payload),
            Request::Status => self.status(payload),
            Request::List => self.list(payload),
        };
        let Some(reply) = message.reply.clone() else {
            if let Err(problem) = answer {
                let subject = message.subject.as_str();
                tracing::warn!(subject, problem = problem.to_string(), "what was told was of no use");
            }
            return;
        };
        let answer = answer.unwrap_or_else(|problem| json(&Refusal::from(problem)));
        let client = self.link.context().client();
        // Who hears no answer asks again.
        drop(self.link.once(async move { client.publish(reply, answer.into()).await }));
    }

    /// Claims a ticket for whoever asks.
    fn claim(&self, payload: &[u8]) -> Result<Vec<u8>, Problem> {
        let ask: ClaimAsk = read(payload)?;
        let is_name =
            |name: &str| !name.trim().is_empty() && !name.chars().any(char::is_control) && name.len() <= LONGEST_NAME;
        if !is_name(&ask.worker) {
            return Err(Problem::new(ProblemKind::Invalid, "`worker` is one line of up to 64 bytes"));
        }
        if ask.request_id.as_deref().is_some_and(|id| !is_name(id)) {
            return Err(Problem::new(ProblemKind::Invalid, "`request_id` is one line of up to 64 bytes"));
        }
        let request = ClaimRequest {
            node: format!("{CLIENT}{}", ask.worker),
            capabilities: ask.capabilities,
            limit: 1,
            only: ask.task_id.map(|ticket| vec![ticket]),
            lease: lease(ask.lease.as_ref())?,
            request_id: ask.request_id,
        };
        match self.queue.claim(&request)?.pop() {
            Some(claim) => self.grant(&claim).inspect_err(|_| {
                // Nobody will hear of the lease.
                drop(self.queue.release(&claim.ticket.id, claim.fence));
            }),
            None => Err(self.not_claimed(request.only.as_deref().and_then(<[_]>::first))?),
        }
    }

    /// The answer to a claim.
    fn grant(&self, claim: &Claim) -> Result<Vec<u8>, Problem> {
        let task = Task::from(self.entry(&claim.ticket.id)?);
        self.fitting(json(&Grant::new(claim, task)))
    }

    /// Why nothing was claimed.
    fn not_claimed(&self, ticket: Option<&TicketId>) -> Result<Problem, QueueError> {
        let Some(id) = ticket else {
            return Ok(Problem::new(ProblemKind::NotAvailable, "there is nothing that this worker could claim"));
        };
        let Some(entry) = self.queue.ticket(id)? else { return Ok(QueueError::NotFound(id.clone()).into()) };
        let text = match entry.state {
            TicketState::Queued => {
                let needs: Vec<_> = entry.ticket.capabilities.iter().map(|it| format!("`{it}`")).collect();
                format!("ticket `{id}` needs {}, or somebody had it a moment ago", needs.join(", "))
            }
            state => format!("ticket `{id}` is {state}"),
        };
        Ok(Problem::new(ProblemKind::NotAvailable, text))
    }

    /// Prolongs a lease.
    fn renew(&self, payload: &[u8]) -> Result<Vec<u8>, Problem> {
        let ask: LeaseAsk = read(payload)?;
        self.not_ours(&ask.task_id)?;
        match self.queue.renew(&ask.task_id, ask.fence, lease(ask.lease.as_ref())?)? {
            Renewed::Held { lease_until } => {
                Ok(json(&Renewal { schema: MESSAGE_SCHEMA, task_id: ask.task_id, lease_until }))
            }
            Renewed::Lost => {
                let text = format!("ticket `{}` is not held under fence {} any more", ask.task_id, ask.fence);
                Err(Problem::new(ProblemKind::Stale, text))
            }
        }
    }

    /// Ends an attempt well, and keeps what it came to.
    fn complete(&self, payload: &[u8]) -> Result<Vec<u8>, Problem> {
        let ask: CompletionAsk = read(payload)?;
        let owner = self.not_ours(&ask.task_id)?.client().map(str::to_owned);
        let (task_id, fence) = (ask.task_id, ask.fence);
        let result = ask.result.map(|result| TaskResult::now(&task_id, fence, owner, result));
        if let Some(result) = &result {
            self.fitting(json(result))?;
        }
        let state = self.queue.complete(&task_id, fence, ask.outcome.into())?;
        if let Some(result) = result {
            // After the fence was good; whoever hears nothing of it says it again.
            self.link.keep_result(&result).map_err(QueueError::from)?;
        }
        Ok(json(&Ended::new(task_id, state)))
    }

    /// Ends an attempt badly.
    fn fail(&self, payload: &[u8]) -> Result<Vec<u8>, Problem> {
        let ask: FailureAsk = read(payload)?;
        let attempts = self.not_ours(&ask.task_id)?.attempts;
        let wait = match &ask.retry_in {
            Some(wait) => wait.pause().map_err(invalid)?,
            None => self.settings.backoff.wait_after(attempts),
        };
        // Every message about the ticket has it from now on.
        let error = cut(&ask.error, LONGEST_ERROR);
        let state = self.queue.fail(&ask.task_id, ask.fence, error, Some(Time::now().after(wait)))?;
        Ok(json(&Ended::new(ask.task_id, state)))
    }

    /// Takes a ticket back.
    fn release(&self, payload: &[u8]) -> Result<Vec<u8>, Problem> {
        let ask: ReleaseAsk = read(payload)?;
        self.not_ours(&ask.task_id)?;
        let state = self.queue.release(&ask.task_id, ask.fence)?;
        Ok(json(&Ended::new(ask.task_id, state)))
    }

    /// Tells everything about one ticket.
    fn status(&self, payload: &[u8]) -> Result<Vec<u8>, Problem> {
        let ask: StatusAsk = read(payload)?;
        let entry = self.entry(&ask.task_id)?;
        let result = self.result(&entry)?;
        self.fitting(json(&TaskWithResult { task: entry.into(), result }))
    }

    /// What the last holder of a ticket said that it came to.
    fn result(&self, entry: &QueueTicket) -> Result<Option<Value>, QueueError> {
        let found = self.link.result_of(&entry.ticket.id)?;
        Ok(found.filter(|found| found.fence == entry.fence).map(|found| found.result))
    }

    /// Tells what there is.
    fn list(&self, payload: &[u8]) -> Result<Vec<u8>, Problem> {
        let ask: ListAsk = if payload.is_empty() { ListAsk::default() } else { read(payload)? };
        let limit = ask.limit.unwrap_or(LISTED).min(MOST_LISTED);
        self.fitting(json(&Listing::new(self.queue.snapshot()?, limit)))
    }

    /// An entry of the queue that no worker of `swarm` holds: the fence of one is no secret, and only its supervisor speaks
    /// for it.
    fn not_ours(&self, ticket: &TicketId) -> Result<QueueTicket, Problem> {
        let entry = self.entry(ticket)?;
        let is_held = matches!(entry.state, TicketState::Running | TicketState::Lost);
        if is_held && entry.client().is_none() {
            let text = format!("ticket `{ticket}` is held by a worker of swarm by now");
            return Err(Problem::new(ProblemKind::Stale, text));
        }
        Ok(entry)
    }

    /// An entry of the queue.
    fn entry(&self, ticket: &TicketId) -> Result<QueueTicket, QueueError> {
        self.queue.ticket(ticket)?.ok_or_else(|| QueueError::NotFound(ticket.clone()))
    }

    /// A message that the server takes.
    fn fitting(&self, message: Vec<u8>) -> Result<Vec<u8>, Problem> {
        let most = self.link.context().client().server_info().max_payload;
        if message.len() <= most {
            return Ok(message);
        }
        Err(Problem::new(ProblemKind::Invalid, format!("it is longer than the {most} bytes that the server takes")))
    }
}

/// Reads a request.
fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Problem> {
    Ok(serde_json::from_slice(payload)?)
}

/// The time of a lease.
fn lease(asked: Option<&Lasting>) -> Result<Duration, Problem> {
    asked.map_or(Ok(LEASE), |asked| asked.lease().map_err(invalid))
}

/// That a value is not good.
fn invalid(text: String) -> Problem {
    Problem::new(ProblemKind::Invalid, text)
}
