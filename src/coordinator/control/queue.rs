//! `queue list|add|retry|cancel|dead`: what waits, and what a person does about it.

use std::collections::HashMap;

use super::Control;
use super::act::{Acted, action};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::queue_place::Tables;
use crate::coordinator::views::{ActionView, ActionsView, QueueEntryView, QueueServeView, QueueView, VIEW_VERSION};
use crate::model::coordination::Hold;
use crate::model::queue::QueueSettings;
use crate::model::ticket::TicketState;
use crate::model::worker::{Liveness, Phase};
use crate::model::{TicketId, Time, WorkerId};
use crate::queue::{Gateway, GatewaySettings, Keep, Queue, QueueError, QueueTicket};

/// Which entries are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueFilter {
    /// Those that are not over.
    Open,
    /// Every one.
    All,
    /// Those that failed.
    Failed,
}

impl Control {
    /// The entries of the queue in claim order, with what holds them while somebody leads.
    pub(crate) fn queue_view(&self, filter: QueueFilter) -> Result<QueueView, Failure> {
        let mut view =
            QueueView { version: VIEW_VERSION, at: Time::now(), leader: None, queue: None, tickets: Vec::new() };
        let Some(Tables { store, queue, role, view: place }) = self.project.tables()? else {
            // Nothing was ever queued here; a bad setting is not to look like that.
            self.check_queue_settings()?;
            return Ok(view);
        };
        view.queue = Some(place);
        view.leader = queue.leader(&role)?.map(|leader| leader.holder);
        let holds = if view.leader.is_some() { store.holds()? } else { Vec::new() };
        let holds: HashMap<&TicketId, &Hold> = holds.iter().map(|hold| (&hold.ticket, hold)).collect();
        let is_listed = |entry: &QueueTicket| match filter {
            QueueFilter::All => true,
            QueueFilter::Open => {
                !matches!(entry.state, TicketState::Landed | TicketState::Done | TicketState::Cancelled)
            }
            QueueFilter::Failed => matches!(entry.state, TicketState::Failed | TicketState::Dead),
        };
        let entries = queue.snapshot()?;
        view.tickets = entries
            .into_iter()
            .filter(is_listed)
            .map(|entry| {
                let hold = holds.get(&entry.ticket.id).copied().cloned();
                entry_view(entry, hold)
            })
            .collect();
        Ok(view)
    }

    /// Answers other programs that use the queue on its server, until it is dropped; `None` where it is on none.
    pub(in crate::coordinator) fn gateway(&self) -> Result<Option<Gateway>, Failure> {
        let settings = self.project.settings()?;
        let QueueSettings { retention, keep_events, .. } = settings.queue;
        let settings = GatewaySettings { retention, keep_events, backoff: settings.run.backoff };
        Ok(Gateway::start(&self.project.queue()?, settings).map_err(QueueError::from)?)
    }

    /// Shortens the log of the queue where it has more messages than the settings say.
    pub(in crate::coordinator) fn shorten_log(&self) -> Result<(), Failure> {
        let keep = Keep::messages(self.project.settings()?.queue.keep_log);
        Ok(self.project.queue()?.shorten(&keep)?)
    }

    /// Answers other programs until the gateway is dropped, and starts nothing.
    pub(crate) fn queue_serve(&self) -> Result<(Gateway, QueueServeView), Failure> {
        let queue = self.project.queue()?;
        match (self.gateway()?, queue.server(), queue.link()) {
            (Some(gateway), Some(server), Some(link)) => {
                let (address, project) = (server.address.clone(), server.project.clone());
                let prefix = link.prefix().to_owned();
                Ok((gateway, QueueServeView { version: VIEW_VERSION, address, project, prefix }))
            }
            _ => {
                let text = "the queue is in this repository, where no other program can reach it";
                Err(Failure::new(FailureKind::Usage, text).hint("swarm queue migrate --to nats://HOST:PORT moves it"))
            }
        }
    }

    /// What holds each ticket, while somebody leads.
    pub(super) fn holds(&self) -> Result<Vec<Hold>, Failure> {
        let Some(Tables { store, queue, role, .. }) = self.project.tables()? else { return Ok(Vec::new()) };
        let leads = queue.leader(&role)?.is_some();
        Ok(if leads { store.holds()? } else { Vec::new() })
    }

    /// Queues tickets with everything they need; nothing is started.
    pub(crate) fn queue_add(&self, names: &[String], all: bool) -> Result<Acted, Failure> {
        self.check_may_assign()?;
        let choice = self.choose(names, all)?;
        let published = self.publish_chosen(&choice)?;
        let queue = self.project.queue()?;
        let mut view = ActionsView { version: VIEW_VERSION, done: Vec::new(), failed: Vec::new() };
        for id in choice.order() {
            let Some(entry) = queue.ticket(&id)? else { continue };
            let needed = choice.added.iter().find(|(added, _)| *added == id);
            let because = needed.map(|(_, by)| format!(", because `{by}` needs it")).unwrap_or_default();
            let (word, text) = match (published.contains(&id), entry.state) {
                (true, TicketState::Blocked) => ("queued", format!("Queued{because}; it {}", waits(&entry))),
                (true, _) => ("queued", format!("Queued{because}")),
                (false, state) => ("unchanged", format!("It is {state} already")),
            };
            view.done.push(ActionView { worker: id.to_string(), action: word.to_owned(), text });
        }
        Ok((view, Ok(())))
    }

    /// Queues failed and dead tickets again, by hand. One that is queued is published anew, so that whoever could not start
    /// it tries again.
    pub(crate) fn queue_retry(&self, names: &[String]) -> Result<Acted, Failure> {
        self.check_may_assign()?;
        self.each_ticket(names, |control, entry| {
            let id = &entry.ticket.id;
            control.forget_care(&WorkerId::of(id, 1))?;
            let state = match entry.state {
                TicketState::Failed | TicketState::Dead => control.project.queue()?.requeue(id)?,
                TicketState::Cancelled | TicketState::Queued | TicketState::Blocked => {
                    control.publish(&*control.project.queue()?, entry.ticket.clone())?
                }
                state => {
                    let text =
                        format!("ticket `{id}` is {state}: only what failed or was cancelled can be tried again");
                    return Err(Failure::new(FailureKind::Failed, text));
                }
            };
            Ok(("queued", format!("Queued again; it is {state}")))
        })
    }

    /// Ends tickets: an agent that works on one is stopped, its work is kept. The ticket is cancelled first, so that
    /// nobody starts a worker for it between a look at the workers and the end.
    pub(crate) fn queue_cancel(&self, names: &[String]) -> Result<Acted, Failure> {
        self.each_ticket(names, |control, entry| {
            let id = &entry.ticket.id;
            control.project.queue()?.cancel(id)?;
            let workers = control.project.store()?.workers()?;
            let own = workers.into_iter().filter(|worker| worker.ticket == *id && worker.is_begun());
            let mut ends = Vec::new();
            for worker in own.filter(|worker| control.liveness(worker) == Liveness::Alive) {
                ends.push(match worker.phase {
                    // Whoever spawns it looks at the ticket before the agent starts, and its supervisor right after.
                    Phase::Preparing { .. } => format!("; worker `{}` is being started, and is taken back", worker.id),
                    _ => {
                        control.stop_one(&worker, "its ticket was cancelled")?;
                        format!("; worker `{}` was stopped, its work is kept", worker.id)
                    }
                });
            }
            Ok(("cancelled", format!("Cancelled{}", ends.concat())))
        })
    }

    /// Does something to each named ticket of the queue.
    fn each_ticket(
        &self,
        names: &[String],
        act: impl Fn(&Self, &QueueTicket) -> Result<(&'static str, String), Failure>,
    ) -> Result<Acted, Failure> {
        let mut view = ActionsView { version: VIEW_VERSION, done: Vec::new(), failed: Vec::new() };
        let mut failures = Vec::new();
        for name in names {
            let acted = name.parse::<TicketId>().map_err(Failure::from).and_then(|id| {
                let entry = self.project.queue()?.ticket(&id)?;
                let entry = entry.ok_or_else(|| QueueError::NotFound(id.clone()))?;
                act(self, &entry)
            });
            match acted {
                Ok((word, text)) => view.done.push(action(&name.parse()?, word, text)),
                Err(failure) => failures.push((name.clone(), failure)),
            }
        }
        view.failed = failures.iter().map(|(id, failure)| failure.view(id)).collect();
        let result = super::partial(view.done.len(), failures);
        Ok((view, result))
    }
}

/// What an entry waits for, as a clause.
fn waits(entry: &QueueTicket) -> String {
    let needs: Vec<_> = entry.waits_for.iter().map(|need| format!("`{}`", need.ticket)).collect();
    format!("waits for {}", needs.join(", "))
}

/// One entry as a view.
fn entry_view(entry: QueueTicket, hold: Option<Hold>) -> QueueEntryView {
    let blocked = (entry.state == TicketState::Blocked).then(|| waits(&entry));
    let (until, why) = match hold {
        Some(hold) => (hold.until, Some(hold.why)),
        None => (None, blocked.or_else(|| entry.error.clone())),
    };
    QueueEntryView {
        ticket: entry.ticket.id.to_string(),
        title: entry.ticket.title,
        state: entry.state,
        priority: entry.ticket.priority,
        agent: entry.ticket.agent.map(String::from),
        attempts: entry.attempts,
        max_attempts: entry.ticket.max_attempts,
        needs: entry.ticket.depends_on.iter().map(|need| need.ticket.to_string()).collect(),
        why,
        until,
        error: entry.error,
        published_at: entry.published_at,
        changed_at: entry.changed_at,
    }
}
