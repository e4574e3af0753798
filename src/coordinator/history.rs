//! What is worth knowing of events after they are deleted: one record a ticket and round, and one a run.
//!
//! The history is written from the event stream alone, in its order, each event once: [`catch_up`] takes the events that
//! no history was written of, changes the records they are about, and stores both the records and how far it got in one
//! transaction. So it does not matter who calls it when, or whether a caller dies. It is called before old events are
//! deleted, and before the history is read.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::failure::{Failure, FailureKind};
use crate::model::event::{Event, EventRecord, SwarmEvent, SwarmRecord};
use crate::model::ticket::TicketState;
use crate::model::worker::{Figures, Outcome};
use crate::model::{AgentName, RunId, TicketId, Time, WorkerId};
use crate::queue::{FileQueue, Queue, QueueEvent};
use crate::store::{HistoryKind, HistoryRow, Store, StoredEvent};

/// Events that are dealt with in one transaction.
const BATCH: usize = 1_000;

/// A ticket from one publication to the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TicketHistory {
    /// Which.
    pub(crate) ticket: TicketId,
    /// Its labels.
    pub(crate) labels: Vec<String>,
    /// When it was published; `None` where that was before the history began.
    pub(crate) published_at: Option<Time>,
    /// Where it is.
    pub(crate) state: TicketState,
    /// Since when.
    pub(crate) since: Time,
    /// How long it was queued so far: free to be taken, and not taken. Milliseconds.
    pub(crate) queued_ms: u64,
    /// When that was, oldest first; empty in records of versions that only added it up.
    #[serde(default)]
    pub(crate) queued: Vec<Span>,
    /// Its attempts, oldest first.
    pub(crate) attempts: Vec<AttemptHistory>,
}

/// An attempt on a ticket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct AttemptHistory {
    /// Its number.
    pub(crate) number: u32,
    /// Who made it; `None` while no worker has said anything.
    pub(crate) worker: Option<WorkerId>,
    /// The agent; `None` where that is not known.
    pub(crate) agent: Option<AgentName>,
    /// The model that the agent's definition names.
    pub(crate) model: Option<String>,
    /// When its ticket was running under it, oldest first.
    pub(crate) spans: Vec<Span>,
    /// How it ended, in a word; `None` while it has not.
    pub(crate) outcome: Option<String>,
    /// What it used; `None` where nobody counted.
    pub(crate) used: Option<Figures>,
}

/// A span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    /// Its beginning.
    pub(crate) from: Time,
    /// Its end; `None` while it lasts.
    pub(crate) to: Option<Time>,
}

/// A run of the coordinator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunHistory {
    /// Which.
    pub(crate) run: RunId,
    /// When it began.
    pub(crate) began_at: Time,
    /// When it was last heard of; its end, where it has ended.
    pub(crate) seen_at: Time,
    /// Its exit code; `None` while it has not ended, and for ever where it was killed.
    pub(crate) exit_code: Option<u8>,
    /// Workers at once, at its beginning.
    pub(crate) max_workers: u32,
    /// When that changed, and to what, oldest first.
    #[serde(default)]
    pub(crate) scaled: Vec<(Time, u32)>,
}

impl RunHistory {
    /// How many workers it could have at once, and between which moments, within `from` and `to`.
    pub(crate) fn places(&self, from: Time, to: Time) -> impl Iterator<Item = (Time, Time, u32)> {
        let begins = std::iter::once((self.began_at, self.max_workers)).chain(self.scaled.iter().copied());
        let ends = self.scaled.iter().map(|(at, _)| *at).chain([Time::from_millis(i64::MAX)]);
        begins.zip(ends).map(move |((begin, count), end)| (begin.max(from), end.min(to), count))
    }
}

impl Span {
    /// How much of it lies between two moments; what still lasts lasts until `to`.
    pub(crate) fn within(self, from: Time, to: Time) -> Duration {
        let (from, to) = (self.from.max(from), self.to.unwrap_or(to).min(to));
        from.age_at(to)
    }
}

impl TicketHistory {
    /// A ticket of which this is the first that is known.
    fn new(event: &QueueEvent, labels: Vec<String>) -> Self {
        Self {
            ticket: event.ticket.clone(),
            labels,
            published_at: is_publication(event).then_some(event.at),
            state: event.to,
            since: event.at,
            queued_ms: 0,
            queued: Vec::new(),
            attempts: Vec::new(),
        }
    }

    /// When it ended; `None` while it has not.
    pub(crate) fn ended_at(&self) -> Option<Time> {
        self.state.is_ended().then_some(self.since)
    }

    /// When it was free to be taken and not taken, oldest first.
    pub(crate) fn queued_spans(&self) -> impl Iterator<Item = Span> {
        let now = (self.state == TicketState::Queued).then_some(Span { from: self.since, to: None });
        self.queued.iter().copied().chain(now)
    }

    /// Takes in a change of its state.
    fn moved(&mut self, event: &QueueEvent) {
        if self.state == TicketState::Queued {
            self.queued_ms += millis(self.since.age_at(event.at));
            self.queued.push(Span { from: self.since, to: Some(event.at) });
        }
        let attempt = self.attempts.last_mut();
        let open = attempt.and_then(|attempt| attempt.spans.last_mut()).filter(|span| span.to.is_none());
        if let Some(span) = open {
            span.to = Some(event.at);
        }
        if event.to == TicketState::Running {
            self.attempt(event.attempt).spans.push(Span { from: event.at, to: None });
        }
        // A claim that was given back is no attempt.
        let is_given_back = event.from == Some(TicketState::Running) && event.attempt < self.last_attempt();
        if is_given_back {
            self.attempts.retain(|attempt| attempt.number <= event.attempt);
        }
        self.state = event.to;
        self.since = event.at;
    }

    /// The number of the newest attempt.
    fn last_attempt(&self) -> u32 {
        self.attempts.last().map_or(0, |attempt| attempt.number)
    }

    /// An attempt by its number, made where it is not known yet.
    fn attempt(&mut self, number: u32) -> &mut AttemptHistory {
        let place = self.attempts.iter().position(|attempt| attempt.number == number).unwrap_or_else(|| {
            self.attempts.push(AttemptHistory {
                number,
                worker: None,
                agent: None,
                model: None,
                spans: Vec::new(),
                outcome: None,
                used: None,
            });
            self.attempts.len() - 1
        });
        &mut self.attempts[place]
    }

    /// Takes in what a worker says; whether that was of interest.
    fn told(&mut self, record: &EventRecord) -> bool {
        match &record.event {
            Event::AgentStarted { attempt, agent, model, .. } => {
                let known = self.attempt(*attempt);
                known.worker.clone_from(&record.worker);
                known.agent.clone_from(agent);
                known.model.clone_from(model);
            }
            Event::AttemptEnded { outcome, used } => {
                let by = |attempt: &&mut AttemptHistory| attempt.worker == record.worker;
                let Some(known) = self.attempts.iter_mut().rev().find(by) else { return false };
                known.outcome = Some(outcome_word(outcome).to_owned());
                // Who ends a lost attempt may not know what it used.
                known.used = used.or(known.used);
            }
            _ => return false,
        }
        true
    }
}

impl AttemptHistory {
    /// Whether it ended badly; `None` where it has not ended.
    pub(crate) fn is_failure(&self) -> Option<bool> {
        self.outcome.as_deref().map(|word| matches!(word, "failed" | "stopped" | "limit_reached"))
    }
}

/// Whether a change begins a new round of a ticket.
fn is_publication(event: &QueueEvent) -> bool {
    let is_over = |state| matches!(state, TicketState::Landed | TicketState::Done | TicketState::Cancelled);
    event.from.is_none_or(is_over) && !event.to.is_ended() && event.to != TicketState::Running
}

/// How an attempt ended, in a word.
fn outcome_word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Finished { .. } => "finished",
        Outcome::NoChanges => "no_changes",
        Outcome::Failed { .. } => "failed",
        Outcome::Stopped { .. } => "stopped",
        Outcome::LimitReached { .. } => "limit_reached",
    }
}

/// Writes the history of everything that happened so far.
pub(crate) fn catch_up(store: &Arc<Store>) -> Result<(), Failure> {
    loop {
        let (from, part) = store.unwritten_history(BATCH)?;
        if part.seq == from {
            return Ok(());
        }
        let mut draft = Draft { store, rows: Vec::new(), newest: HashMap::new(), first_at: None };
        for event in &part.events {
            draft.take(event)?;
        }
        let first_at = draft.first_at.unwrap_or_else(Time::now);
        // False means that somebody else wrote it; there may be more.
        store.write_history((from, part.seq), first_at, &draft.stored()?)?;
    }
}

/// What is known of a ticket or run.
enum Record {
    /// A ticket.
    Ticket(TicketHistory),
    /// A run.
    Run(RunHistory),
}

/// Records that some events change.
struct Draft<'a> {
    /// Where they come from.
    store: &'a Arc<Store>,
    /// The records with their numbers; new ones have none.
    rows: Vec<(Option<i64>, Record)>,
    /// The place of the newest record of a ticket or run; `None` where there is none.
    newest: HashMap<(bool, String), Option<usize>>,
    /// When the first of the events happened.
    first_at: Option<Time>,
}

impl Draft<'_> {
    /// Takes in one event. One that cannot be read here says nothing to the history.
    fn take(&mut self, stored: &StoredEvent) -> Result<(), Failure> {
        match stored.kind.as_str() {
            "queue" => match serde_json::from_str(&stored.data) {
                Ok(event) => self.moved(&event),
                Err(_) => Ok(()),
            },
            "worker" => match serde_json::from_str::<EventRecord>(&stored.data) {
                Ok(record) => self.told(&record),
                Err(_) => Ok(()),
            },
            "bus" => Ok(()),
            _ => match serde_json::from_str::<SwarmRecord>(&stored.data) {
                Ok(record) => self.ran(&record),
                Err(_) => Ok(()),
            },
        }
    }

    /// A ticket changed its state.
    fn moved(&mut self, event: &QueueEvent) -> Result<(), Failure> {
        self.first_at.get_or_insert(event.at);
        match self.ticket(&event.ticket)? {
            Some(known) if !is_publication(event) => known.moved(event),
            _ => {
                let queue = FileQueue::new(self.store.clone(), "history");
                let labels = queue.ticket(&event.ticket)?.map(|known| known.ticket.labels).unwrap_or_default();
                let mut ticket = TicketHistory::new(event, labels);
                if event.to == TicketState::Running {
                    ticket.moved(event);
                }
                self.newest.insert((true, event.ticket.as_str().to_lowercase()), Some(self.rows.len()));
                self.rows.push((None, Record::Ticket(ticket)));
            }
        }
        Ok(())
    }

    /// A worker said something.
    fn told(&mut self, record: &EventRecord) -> Result<(), Failure> {
        self.first_at.get_or_insert(record.at);
        if matches!(record.event, Event::AgentStarted { .. } | Event::AttemptEnded { .. })
            && let Some(ticket) = self.ticket(&record.ticket)?
        {
            ticket.told(record);
        }
        if let Some(run) = &record.run {
            self.seen(run, record.at)?;
        }
        Ok(())
    }

    /// The coordinator said something.
    fn ran(&mut self, record: &SwarmRecord) -> Result<(), Failure> {
        self.first_at.get_or_insert(record.at);
        if let SwarmEvent::RunBegan { max_workers, .. } = record.event {
            self.newest.insert((false, record.run.as_str().to_lowercase()), Some(self.rows.len()));
            let (run, max_workers) = (record.run.clone(), max_workers);
            let (began_at, seen_at, scaled) = (record.at, record.at, Vec::new());
            let run = RunHistory { run, began_at, seen_at, exit_code: None, max_workers, scaled };
            self.rows.push((None, Record::Run(run)));
        }
        self.seen(&record.run, record.at)?;
        if let SwarmEvent::Scaled { to, .. } = record.event
            && let Some(run) = self.run(&record.run)?
        {
            run.scaled.push((record.at, u32::try_from(to).unwrap_or(u32::MAX)));
        }
        if let SwarmEvent::RunEnded { exit_code, .. } = record.event
            && let Some(run) = self.run(&record.run)?
        {
            run.exit_code = Some(exit_code);
        }
        Ok(())
    }

    /// A run that has not ended was alive at a moment.
    fn seen(&mut self, run: &RunId, at: Time) -> Result<(), Failure> {
        if let Some(run) = self.run(run)?.filter(|run| run.exit_code.is_none()) {
            run.seen_at = run.seen_at.max(at);
        }
        Ok(())
    }

    /// The newest record of a ticket.
    fn ticket(&mut self, ticket: &TicketId) -> Result<Option<&mut TicketHistory>, Failure> {
        let place = self.place(HistoryKind::Ticket, ticket.as_str())?;
        Ok(place.and_then(|place| match &mut self.rows[place].1 {
            Record::Ticket(ticket) => Some(ticket),
            Record::Run(_) => None,
        }))
    }

    /// The record of a run; most are commands of a person and have none.
    fn run(&mut self, run: &RunId) -> Result<Option<&mut RunHistory>, Failure> {
        let place = self.place(HistoryKind::Run, run.as_str())?;
        Ok(place.and_then(|place| match &mut self.rows[place].1 {
            Record::Run(run) => Some(run),
            Record::Ticket(_) => None,
        }))
    }

    /// The place of the newest record, read from the store when it is first asked for.
    fn place(&mut self, kind: HistoryKind, name: &str) -> Result<Option<usize>, Failure> {
        let key = (kind == HistoryKind::Ticket, name.to_lowercase());
        if let Some(known) = self.newest.get(&key) {
            return Ok(*known);
        }
        let place = match self.store.last_history(kind, name)? {
            None => None,
            Some(row) => {
                let record = match kind {
                    HistoryKind::Ticket => Record::Ticket(parse(&row.document)?),
                    HistoryKind::Run => Record::Run(parse(&row.document)?),
                };
                self.rows.push((row.id, record));
                Some(self.rows.len() - 1)
            }
        };
        self.newest.insert(key, place);
        Ok(place)
    }

    /// The records as they are stored.
    fn stored(&self) -> Result<Vec<HistoryRow>, Failure> {
        let row = |(id, record): &(Option<i64>, Record)| {
            let (kind, name, changed_at, document) = match record {
                Record::Ticket(ticket) => {
                    (HistoryKind::Ticket, ticket.ticket.to_string(), ticket.since, serde_json::to_string(ticket))
                }
                Record::Run(run) => {
                    (HistoryKind::Run, run.run.as_str().to_owned(), run.seen_at, serde_json::to_string(run))
                }
            };
            let document = document.map_err(|error| Failure::from_error(FailureKind::Internal, &error))?;
            Ok(HistoryRow { id: *id, kind, name, changed_at, document })
        };
        self.rows.iter().map(row).collect()
    }
}

/// Reads a stored record.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(document: &str) -> Result<T, Failure> {
    serde_json::from_str(document).map_err(|error| Failure::from_error(FailureKind::Failed, &error))
}

/// A duration in milliseconds.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
