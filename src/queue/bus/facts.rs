//! What happens by itself, as messages: the events of workers, landing, coordinator and queue, told on their channels.

use serde_json::{Value, json};

use super::{Bus, BusError};
use crate::model::event::{Event, EventRecord, SwarmEvent, SwarmRecord};
use crate::model::message::{Address, Channel, Message, Sender, SenderKind};
use crate::model::worker::Outcome;
use crate::model::{Time, counted, cut};
use crate::queue::QueueEvent;
use crate::store::{StatePaths, Store, StoredEvent, StreamFilter, read_result};

/// Bytes of what a worker came to that are told with the end of its attempt.
const RESULT_TOLD: usize = 4 * 1024;
/// The store's word for the number of the last event that was told on a server.
const TOLD: &str = "bus_told";
/// How far back what happened before anything was told still is, in milliseconds.
const FIRST_TOLD: i64 = 3_600_000;
/// Events told in one go.
const BATCH: usize = 100;

/// Tells a server what the events of this machine say that it was not told yet; the first time those of the last hour.
/// Called by whoever made some; two that do so at once tell each once, because the id of a message says which event it is.
pub(crate) fn tell_facts(bus: &dyn Bus, store: &Store, paths: &StatePaths) -> Result<(), BusError> {
    let clone = store.clone_id()?;
    let filter = StreamFilter { ticket: None, kinds: vec!["worker", "swarm"] };
    loop {
        let told = match store.meta(TOLD)?.and_then(|text| text.parse().ok()) {
            Some(told) => told,
            None => store.seq_before(Time::from_millis(Time::now().as_millis() - FIRST_TOLD))?,
        };
        let part = store.stream(told, &filter, BATCH)?;
        for event in &part.events {
            if let Some(message) = fact(event, paths) {
                let id = format!("{clone}-{}", event.seq);
                bus.publish(&Message { id, seq: None, ..message })?;
            }
        }
        if part.seq == told {
            return Ok(());
        }
        store.write::<_, BusError>(|txn| {
            let known = txn.meta(TOLD)?.and_then(|text| text.parse::<i64>().ok());
            Ok(txn.set_meta(TOLD, &known.unwrap_or(0).max(part.seq).to_string())?)
        })?;
    }
}

/// An event as a message; `None` for one that no channel tells. Its id is its number, with a word before it.
pub(super) fn fact(event: &StoredEvent, paths: &StatePaths) -> Option<Message> {
    let (at, by, channel, text, body) = match event.kind.as_str() {
        "worker" => of_worker(&event.data, paths)?,
        "swarm" => of_swarm(&event.data)?,
        "queue" => of_queue(&event.data)?,
        _ => return None,
    };
    let from = Sender { kind: SenderKind::Coordinator, name: by };
    let message = Message::now(from, Address::Channel(channel), text);
    Some(Message {
        id: format!("event-{}", event.seq),
        seq: u64::try_from(event.seq).ok(),
        at,
        body: Some(body),
        ..message
    })
}

/// What is told of an event: when, who says it, where, in which words, and for programs.
type Told = (Time, String, Channel, String, Value);

/// A fact about a worker.
fn of_worker(data: &str, paths: &StatePaths) -> Option<Told> {
    let record: EventRecord = serde_json::from_str(data).ok()?;
    let worker = record.worker.as_ref()?;
    let (channel, what) = match &record.event {
        Event::AgentStarted { attempt, .. } => (Channel::Status, format!("attempt {attempt} began")),
        Event::StatusChanged { status, reason } => (Channel::Status, format!("{}: {reason}", status.as_str())),
        Event::AttemptEnded { outcome, .. } => {
            let channel = match outcome {
                Outcome::Finished { .. } | Outcome::NoChanges => Channel::Results,
                Outcome::Failed { .. } | Outcome::LimitReached { .. } => Channel::Errors,
                Outcome::Stopped { .. } => Channel::Status,
            };
            let (status, reason) = outcome.verdict();
            (channel, format!("{}: {reason}", status.as_str()))
        }
        Event::NotHandedOver { reason } => (Channel::Errors, format!("not handed over to other nodes: {reason}")),
        Event::SpawnUndone { reason } => (Channel::Errors, format!("not started: {reason}")),
        Event::Landed { target, commit } => (Channel::Results, format!("landed on {target} as {}", commit.short())),
        Event::Returned { reason, .. } => (Channel::Status, format!("returned: {reason}")),
        _ => return None,
    };
    let mut body = serde_json::to_value(&record).ok()?;
    if let Event::AttemptEnded { outcome: Outcome::Finished { .. } | Outcome::NoChanges, .. } = record.event {
        let result = read_result(&paths.result(worker)).ok().flatten();
        body["result"] = result.map_or(Value::Null, |text| cut(&text, RESULT_TOLD).into());
    }
    Some((record.at, "supervisor".to_owned(), channel, format!("{worker}: {what}"), body))
}

/// A fact of the coordinator.
fn of_swarm(data: &str) -> Option<Told> {
    let record: SwarmRecord = serde_json::from_str(data).ok()?;
    let (channel, what) = match &record.event {
        SwarmEvent::RunBegan { .. } => (Channel::Status, "a run began".to_owned()),
        SwarmEvent::RunEnded { why, .. } => (Channel::Status, format!("a run ended: {why}")),
        SwarmEvent::LeaseTaken { role, holder, .. } => (Channel::Status, format!("{holder} is {role}")),
        SwarmEvent::Scaled { to, why, .. } => {
            (Channel::Status, format!("up to {} at once: {why}", counted(*to, "worker")))
        }
        SwarmEvent::TopologyChanged { to, .. } => (Channel::Coordination, format!("the topology is {to} now")),
        SwarmEvent::LimitReached { why } => (Channel::Errors, why.clone()),
        SwarmEvent::Stuck { why, .. } => (Channel::Errors, format!("stuck: {why}")),
        _ => return None,
    };
    let about = record.worker.as_ref().map(ToString::to_string);
    let about = about.or_else(|| record.ticket.as_ref().map(ToString::to_string));
    let text = about.map_or_else(|| what.clone(), |about| format!("{about}: {what}"));
    let body = serde_json::to_value(&record).ok()?;
    Some((record.at, "coordinator".to_owned(), channel, text, body))
}

/// A change of a ticket.
fn of_queue(data: &str) -> Option<Told> {
    let event: QueueEvent = serde_json::from_str(data).ok()?;
    let from = event.from.map(|from| format!("{from} -> ")).unwrap_or_default();
    let text = format!("{}: {from}{}", event.ticket, event.to);
    let body = json!(event);
    Some((event.at, event.by, Channel::Tasks, text, body))
}
