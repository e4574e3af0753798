//! What gateways do by themselves: tickets that were handed in become part of the queue, changes of the queue are told, and
//! leases that are over end.

use std::time::Duration;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::{AckKind, Message};
use serde::Serialize;

use super::Desk;
use crate::model::ticket::TicketState;
use crate::model::{TicketId, Time, cut, error_text};
use crate::queue::message::{MESSAGE_SCHEMA, Problem, ProblemKind, Rejected, Submission, Task};
use crate::queue::nats::change::Change;
use crate::queue::nats::error::NatsError;
use crate::queue::{NewTicket, QueueError};

/// Bytes of a message that could not be used that are kept.
const KEPT_BYTES: usize = 64 * 1024;
/// How long a message waits after the server or the store failed.
const LATER: Duration = Duration::from_secs(1);

impl Desk {
    /// Folds a ticket that was handed in into the queue, or rejects it; then it is off the list.
    pub(super) fn take_in(&self, message: Message) {
        let Ok(seq) = message.info().map(|info| info.stream_sequence) else { return };
        let taken = match self.publish(&message, seq) {
            Err(problem) if problem.kind == ProblemKind::Unavailable => Err(problem.to_string()),
            Err(problem) => self.reject(&message, seq, problem).map_err(|error| error_text(&error)),
            Ok(()) => Ok(()),
        };
        self.close(message, taken);
    }

    /// Publishes a ticket that was handed in.
    fn publish(&self, message: &Message, seq: u64) -> Result<(), Problem> {
        let submission = Submission::read(&message.payload)?;
        let named = message.headers.as_ref().and_then(|headers| headers.get(NATS_MESSAGE_ID)).map(ToString::to_string);
        // Without a name it is the message itself that may be delivered twice.
        let key = submission.key.clone().or(named).unwrap_or_else(|| format!("{}/{seq}", self.streams.log_name));
        let ticket = submission.ticket()?;
        let id = ticket.id.clone();
        let published = self.queue.publish(&NewTicket { ticket, dedupe_key: format!("submitted/{key}") })?;
        if published.ticket == id {
            return Ok(());
        }
        let text =
            format!("key `{key}` handed ticket `{}` in before; each ticket needs a key of its own", published.ticket);
        Err(Problem::new(ProblemKind::Invalid, text))
    }

    /// Keeps a message that could not be used for people.
    fn reject(&self, message: &Message, seq: u64, error: Problem) -> Result<(), NatsError> {
        let text = String::from_utf8_lossy(&message.payload);
        let kept = cut(&text, KEPT_BYTES);
        let rejected = Rejected {
            schema: MESSAGE_SCHEMA,
            at: Time::now(),
            seq,
            error,
            is_cut: kept.len() < text.len(),
            message: kept.to_owned(),
        };
        self.keep("rejected", &rejected, &format!("{}/{seq}", self.streams.log_name))
    }

    /// Tells what a message of the log changed; then it is off the list.
    pub(super) fn pass_on(&self, message: Message) {
        let Ok(seq) = message.info().map(|info| info.stream_sequence) else { return };
        let told = match serde_json::from_slice::<Change>(&message.payload) {
            Ok(change) => self.tell(&change, seq).map_err(|error| error_text(&error)),
            // A newer program wrote it, and its gateways can tell it; this one cannot.
            Err(error) => Err(error.to_string()),
        };
        self.close(message, told);
    }

    /// Tells each change of state once, and each ticket that can be claimed since and still can.
    fn tell(&self, change: &Change, seq: u64) -> Result<(), QueueError> {
        let mut queued: Vec<(&TicketId, Option<u64>)> = change.brought().map(|id| (id, None)).collect();
        for (index, event) in change.events().iter().enumerate() {
            let id = format!("{}/{seq}/{index}", self.streams.log_name);
            let subject = self.streams.subject_of("changed", event.ticket.as_str());
            self.link.keep(subject, json(event), &id)?;
            if event.to == TicketState::Queued {
                queued.push((&event.ticket, Some(event.fence)));
            }
        }
        for (ticket, fence) in queued {
            let entry = self.queue.ticket(ticket)?.filter(|entry| entry.state == TicketState::Queued);
            let Some(entry) = entry.filter(|entry| fence.is_none_or(|fence| fence == entry.fence)) else { continue };
            let id = format!("{}/{seq}/{ticket}", self.streams.log_name);
            match self.keep("available", &Task::from(entry), &id) {
                Err(error) if error.is_refusal() => {
                    tracing::warn!(ticket = ticket.as_str(), error = error_text(&error), "too long to be announced");
                }
                kept => kept?,
            }
        }
        Ok(())
    }

    /// Takes a message off the list, or leaves it there for later.
    fn close(&self, message: Message, done: Result<(), String>) {
        let kind = match &done {
            Ok(()) => AckKind::Ack,
            Err(error) => {
                tracing::warn!(error, subject = message.subject.as_str(), "a message is left for later");
                AckKind::Nak(Some(LATER))
            }
        };
        // Where that is lost the server hands it out again, and nothing is done twice.
        drop(self.link.once(async move { message.ack_with(kind).await }));
    }

    /// Ends the attempts of other programs whose leases are over, and queues what is due.
    pub(super) fn give_up_lost(&self) -> Result<(), QueueError> {
        self.queue.expire(Time::now())?;
        let lost = self.queue.states()?.into_iter().filter(|(_, state)| *state == TicketState::Lost);
        for (ticket, _) in lost {
            let Some(entry) = self.queue.ticket(&ticket)?.filter(|entry| entry.state == TicketState::Lost) else {
                continue;
            };
            let Some(client) = entry.client() else { continue };
            let why = format!("`{client}` was not heard of before its lease was over");
            match self.queue.fail(&ticket, entry.fence, &why, Some(Time::now())) {
                // Somebody else was faster.
                Ok(_) | Err(QueueError::Stale { .. } | QueueError::Illegal { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Appends a message to the stream of its subject, once for each `id`.
    pub(super) fn keep(&self, word: &str, message: &impl Serialize, id: &str) -> Result<(), NatsError> {
        self.link.keep(self.streams.subject(word), json(message), id).map(drop)
    }
}

/// A message as it is sent.
pub(super) fn json(message: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("messages have keys of text")
}
