//! Answers programs in any language that use the queue on its server, with nothing of ours but its messages.
//!
//! # Theory of operation
//!
//! Any number of processes are gateways at once; each thing is done by one of them. Three things come in:
//!
//! - **Submissions**: tickets that others handed in. They lie in a stream of their own (a work queue) until a gateway has
//!   folded one into the queue, so they can be handed in while nobody of ours runs. The key of a submission is the key of
//!   its publication, so one that is delivered twice is one ticket. What cannot be used goes to the stream of what was
//!   rejected, with the reason, before it is taken off.
//! - **Requests**: to claim, renew, complete, fail, release, and to ask. They are operations of the queue like any other:
//!   who asks is a holder with a lease and a fence. A request whose answer was lost may be made again.
//! - **Changes** of the log, by a consumer that all gateways share: each change of state is told in the stream of the
//!   history, and a ticket that can be claimed is announced there. A change is off the consumer's list when that is done, and
//!   its message has the name of the change, so after a crash it is told again and kept once.
//!
//! Besides, a gateway looks for leases that are over: nobody keeps the work of another program, so its attempt failed, and
//! the ticket is queued again where attempts are left.
//!
//! Receiving happens on the connection's thread, everything else on one thread of the gateway's own, which may block.

mod answer;
mod fold;
mod results;
mod streams;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::jetstream::Context;
use async_nats::{Client, Message};
use futures_util::StreamExt;
use tokio::sync::{Notify, mpsc};

use super::connection::Link;
use super::error::NatsError;
use crate::model::error_text;
use crate::model::settings::Backoff;
use crate::queue::Queue;
use answer::Request;
pub(super) use streams::make_submissions;
use streams::{Source, Streams};

/// The name under which gateways share what comes in.
pub(super) const GROUP: &str = "gateway";
/// How often leases that are over are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// What waits to be looked at, at most.
const INBOX: usize = 64;
/// How long the server holds the question for more; what it had to say when it was restarted is heard after this.
const PULL: Duration = Duration::from_secs(3);
/// The pause before what failed is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// How a gateway answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GatewaySettings {
    /// How long the history of tickets is kept.
    pub(crate) retention: Duration,
    /// How long what happened at the nodes is kept.
    pub(crate) keep_events: Duration,
    /// When an attempt that failed is followed by the next.
    pub(crate) backoff: Backoff,
}

/// Answers other programs until it is dropped.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// Ends the thread.
    over: Arc<Notify>,
    /// The thread.
    thread: Option<JoinHandle<()>>,
}

impl Gateway {
    /// Makes the streams that are missing and answers from now on; `None` where the queue is on no server.
    pub(crate) fn start(queue: &Arc<dyn Queue>, settings: GatewaySettings) -> Result<Option<Self>, NatsError> {
        let Some(link) = queue.link().cloned() else { return Ok(None) };
        let streams = Streams::open(&link, Some(settings.retention))?;
        if let Err(error) = link.keep_events(settings.keep_events) {
            tracing::warn!(
                error = error_text(&error),
                "the server may keep what happens at the nodes for another time"
            );
        }
        let (sender, inbox) = mpsc::channel(INBOX);
        let over = Arc::new(Notify::new());
        let desk = Desk { queue: queue.clone(), settings, over: over.clone(), streams, link };
        desk.receive(&sender)?;
        let failed = |error: std::io::Error| NatsError::unreachable("", Some(error.into()));
        let thread = std::thread::Builder::new().name(GROUP.to_owned()).spawn(move || desk.serve(inbox));
        Ok(Some(Self { over, thread: Some(thread.map_err(failed)?) }))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.over.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _panicked = thread.join();
        }
    }
}

/// Something to do.
enum Input {
    /// A request.
    Request(Request, Message),
    /// A ticket.
    Submitted(jetstream::Message),
    /// A message of the log.
    Changed(jetstream::Message),
    /// Leases are to be looked for.
    Sweep,
}

/// Where everything is looked at.
struct Desk {
    /// The queue.
    queue: Arc<dyn Queue>,
    /// The rules.
    settings: GatewaySettings,
    /// Says that it is over.
    over: Arc<Notify>,
    /// What things are called on the server.
    streams: Streams,
    /// The connection.
    link: Arc<Link>,
}

impl Desk {
    /// Begins to receive, on the connection's thread, until nobody takes it any more.
    fn receive(&self, inbox: &mpsc::Sender<Input>) -> Result<(), NatsError> {
        let context = self.link.context();
        let requests = Request::ALL.map(|request| (request, self.streams.subject(request.word())));
        let heartbeat = (Request::Heartbeat, format!("{}.heartbeat.*", self.link.names().prefix));
        let requests: Vec<_> = requests.into_iter().chain([heartbeat]).collect();
        let sources = [
            (self.streams.submissions(), Input::Submitted as fn(jetstream::Message) -> Input),
            (self.streams.changes(), Input::Changed as fn(jetstream::Message) -> Input),
        ];
        let inbox = inbox.clone();
        self.link.run(async move {
            for (request, subject) in requests {
                tokio::spawn(receive_requests(context.client(), request, subject, inbox.clone()));
            }
            for (source, wrap) in sources {
                tokio::spawn(receive_messages(context.clone(), source, wrap, inbox.clone()));
            }
        })
    }

    /// Looks at one thing after the other until it is over.
    fn serve(self, mut inbox: mpsc::Receiver<Input>) {
        let mut swept_at = Instant::now();
        loop {
            let due = SWEEP_EVERY.saturating_sub(swept_at.elapsed());
            let over = self.over.clone();
            let waited = self.link.run(async move {
                let next = tokio::select! {
                    biased;
                    () = over.notified() => None,
                    () = tokio::time::sleep(due) => Some(Input::Sweep),
                    input = inbox.recv() => input,
                };
                (inbox, next)
            });
            let Ok((rest, next)) = waited else { return };
            inbox = rest;
            match next {
                None => return,
                Some(Input::Request(request, message)) => self.answer(request, &message),
                Some(Input::Submitted(message)) => self.take_in(message),
                Some(Input::Changed(message)) => self.pass_on(message),
                Some(Input::Sweep) => {
                    if let Err(error) = self.give_up_lost() {
                        tracing::warn!(error = error_text(&error), "leases could not be looked at");
                    }
                    swept_at = Instant::now();
                }
            }
        }
    }
}

/// Receives what is asked on a subject.
async fn receive_requests(client: Client, request: Request, subject: String, inbox: mpsc::Sender<Input>) {
    loop {
        if let Ok(mut messages) = client.queue_subscribe(subject.clone(), GROUP.to_owned()).await {
            loop {
                let message = tokio::select! {
                    () = inbox.closed() => return,
                    message = messages.next() => message,
                };
                let Some(message) = message else { break };
                if inbox.send(Input::Request(request, message)).await.is_err() {
                    return;
                }
            }
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// Receives what a consumer has.
async fn receive_messages(
    context: Context,
    source: Source,
    wrap: fn(jetstream::Message) -> Input,
    inbox: mpsc::Sender<Input>,
) {
    loop {
        let received = tokio::select! {
            () = inbox.closed() => return,
            received = source.receive(&context, wrap, &inbox) => received,
        };
        if let Err(error) = received {
            tracing::warn!(error = error.to_string(), "the messages of a stream could not be received");
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}
