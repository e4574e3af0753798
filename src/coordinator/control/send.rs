//! Messages for workers: into the mailbox, and from there to the agent at the boundary of a turn.

use std::time::Duration;

use super::Control;
use super::act::{Acted, Admission, action, released};
use super::bus::Speaker;
use super::{is_released, partial};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::views::{ActionView, ActionsView, VIEW_VERSION};
use crate::model::message::{Address, Message, SenderKind};
use crate::model::worker::{Liveness, Phase, Worker};
use crate::model::{TicketId, WorkerId};
use crate::queue::{self, client_name, post_here};
use crate::store::Fate;
use crate::supervisor::protocol::{Reply, Request};

/// How long a message waits for its worker.
const EXPIRES: Duration = Duration::from_secs(24 * 3_600);

/// A message for workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SendRequest {
    /// To these.
    pub(crate) workers: Vec<String>,
    /// To all live ones.
    pub(crate) all: bool,
    /// What it says.
    pub(crate) text: String,
    /// How long it waits at most; `None` is a day.
    pub(crate) expires: Option<Duration>,
}

impl Control {
    /// Sends a message to the named workers, or to all live ones of this machine.
    pub(crate) fn send(&self, request: &SendRequest) -> Result<Acted, Failure> {
        if request.text.trim().is_empty() {
            return Err(Failure::new(FailureKind::Usage, "the message is empty"));
        }
        let speaker = self.speaker()?;
        let own = speaker.worker.as_ref().map(|worker| worker.id.to_string());
        let names = match request.all {
            false => request.workers.clone(),
            true => {
                let all = self.project.store()?.workers()?.into_iter();
                let live = all.filter(|worker| self.liveness(worker) == Liveness::Alive);
                live.map(|worker| worker.id.into()).filter(|id: &String| Some(id) != own.as_ref()).collect()
            }
        };
        let mut view = ActionsView { version: VIEW_VERSION, done: Vec::new(), failed: Vec::new() };
        let mut failures = Vec::new();
        for name in names {
            match self.send_to(&name, &speaker, request) {
                Ok(action) => view.done.push(action),
                Err(failure) => failures.push((name, failure)),
            }
        }
        view.failed = failures.iter().map(|(name, failure)| failure.view(name)).collect();
        let result = partial(view.done.len(), failures);
        Ok((view, result))
    }

    /// Sends a message to one worker.
    fn send_to(&self, name: &str, speaker: &Speaker, request: &SendRequest) -> Result<ActionView, Failure> {
        let id: WorkerId = name.parse()?;
        if speaker.worker.as_ref().is_some_and(|worker| worker.id == id) {
            return Err(Failure::new(FailureKind::Usage, format!("`{id}` is the worker that this command runs in")));
        }
        let message = Message::now(speaker.from.clone(), Address::Mail(id.clone()), request.text.clone());
        let expires_at = Some(message.at.after(request.expires.unwrap_or(EXPIRES)));
        let message = Message { expires_at, ..message };
        match self.project.store()?.worker(&id)? {
            Some(worker) if self.is_elsewhere(&worker)? => self.send_away(&id, speaker, &message),
            Some(worker) if is_released(&worker) => Err(released(&worker)),
            Some(worker) => self.send_here(worker, speaker, &message),
            None => self.send_away(&id, speaker, &message),
        }
    }

    /// Whether another node has the ticket of a worker that was here, under a newer lease than that had or after it was
    /// released: what is said to the worker is for that node. While the server is away, what was heard last counts; about a
    /// worker that lives here it is not asked.
    fn is_elsewhere(&self, worker: &Worker) -> Result<bool, Failure> {
        if self.project.store()?.read(queue::place)?.is_none() {
            return Ok(false);
        }
        if self.liveness(worker) != Liveness::Alive
            && let Err(failure) = self.project.queue().and_then(|queue| Ok(queue.refresh()?))
        {
            tracing::warn!(error = failure.chain.join(": "), "the queue could not be asked who has the ticket");
        }
        let Some(entry) = self.project.heard_of(&worker.ticket)? else { return Ok(false) };
        let own = self.project.node();
        let is_others = entry.node.as_deref().is_some_and(|node| node != own.as_str() && client_name(node).is_none());
        let is_newer = is_released(worker) || entry.fence > worker.attempt.fence;
        Ok(is_others && is_newer && !entry.state.is_ended())
    }

    /// Sends a message to a worker of this machine. Where none of its processes lives, a person's message starts its agent
    /// again with it; an agent's waits until somebody else does that.
    fn send_here(&self, worker: Worker, speaker: &Speaker, message: &Message) -> Result<ActionView, Failure> {
        let id = worker.id.clone();
        self.check_may_message(speaker, &id, &worker.ticket)?;
        let is_of_person = speaker.from.kind == SenderKind::Person;
        if is_of_person && self.liveness(&worker) == Liveness::Dead {
            return self.deliver(worker, &message.text, None, Admission::Limited, None);
        }
        self.count_message_of(speaker)?;
        let store = self.project.store()?;
        post_here(store, &id, message, self.project.settings_or_default().limits.mailbox)?;
        self.note_sent(speaker, &id, message)?;
        match self.ask(&worker, &Request::Mail { id: message.id.clone() })? {
            Some(Reply::Queued { until }) => {
                Ok(action(&id, "queued", format!("Queued the message; it waits for {until}")))
            }
            Some(Reply::Refused { why }) => {
                Err(Failure::new(FailureKind::NeedsPerson, why).hint(format!("swarm attach {id} shows its terminal")))
            }
            Some(_) => Ok(action(&id, "delivered", "Delivered the message".to_owned())),
            None if self.is_being_started(&id)? => {
                Ok(action(&id, "queued", "Queued the message; it waits for the end of the first turn".to_owned()))
            }
            // It has ended since it was looked at.
            None if is_of_person && store.settle_mail(&id, &message.id, Fate::Withdrawn)? => {
                self.deliver(self.worker(id.as_str())?, &message.text, None, Admission::Limited, None)
            }
            None => {
                let text = "Queued the message; it waits for the worker to be started again".to_owned();
                Ok(action(&id, "queued", text))
            }
        }
    }

    /// Whether somebody starts a worker now.
    fn is_being_started(&self, id: &WorkerId) -> Result<bool, Failure> {
        let worker = self.worker(id.as_str())?;
        Ok(matches!(worker.phase, Phase::Preparing { .. }) && self.liveness(&worker) == Liveness::Alive)
    }

    /// Sends a message to a worker of another machine, through the server of the queue.
    fn send_away(&self, id: &WorkerId, speaker: &Speaker, message: &Message) -> Result<ActionView, Failure> {
        let queue = self.project.queue()?;
        let ticket: TicketId = id.as_str().split('+').next().unwrap_or_default().parse()?;
        let entry = queue.link().and(queue.ticket(&ticket)?);
        let Some(entry) = entry.filter(|entry| !entry.state.is_ended() && entry.attempts > 0) else {
            return Err(Failure::new(FailureKind::NotFound, format!("there is no worker `{id}`"))
                .hint("swarm status --all lists workers"));
        };
        if let Some(client) = entry.client() {
            let text = format!("`{ticket}` is worked on by `{client}`, another program, which has no mailbox");
            return Err(Failure::new(FailureKind::Failed, text).hint("swarm bus publish general TEXT reaches programs"));
        }
        self.check_may_message(speaker, id, &ticket)?;
        self.count_message_of(speaker)?;
        self.bus()?.post(id, message, self.project.settings_or_default().limits.mailbox)?;
        self.note_sent(speaker, id, message)?;
        let node = entry.node.map_or_else(|| "the machine that runs it".to_owned(), |node| format!("`{node}`"));
        Ok(action(id, "queued", format!("Put the message into its mailbox; {node} fetches it from there")))
    }
}
