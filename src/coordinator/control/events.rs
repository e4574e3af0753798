//! The one event stream: what the queue, the workers and the coordinator wrote down, in one order.
//!
//! Every event has a number, given out in the order of commits and without gaps, so a reader that goes on where it
//! stopped misses nothing and repeats nothing, whatever it was doing meanwhile. Events are deleted when they are thirty
//! days old; a reader that asked for some of those is told which are missing.

use std::time::{Duration, Instant};

use super::Control;
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::views::{BusFact, EventView, Fact, QueueFact, StreamFact, VIEW_VERSION};
use crate::model::event::{EventRecord, SwarmRecord};
use crate::model::message::Message;
use crate::model::settings::Durability;
use crate::model::{TicketId, Time, parse_moment};
use crate::queue::QueueEvent;
use crate::store::{KEEP_EVENTS, Store, StoredEvent, StreamFilter};

/// How often the store's change counter is read; one page of shared memory.
const PEEK_EVERY: Duration = Duration::from_millis(50);
/// Events read in one go.
const BATCH: usize = 500;
/// Earlier events that somebody sees who follows without saying from where.
const SHOWN_BEFORE: i64 = 20;

/// Where to begin in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    /// With the first that is kept.
    Beginning,
    /// After this number.
    Seq(i64),
    /// With the first of this moment or later.
    Moment(Time),
    /// With the last few.
    Recent,
    /// With what comes.
    Now,
}

impl Since {
    /// Reads a number, a moment, a day, or an age.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.trim().parse::<i64>() {
            Ok(seq) if seq >= 0 => Ok(Self::Seq(seq)),
            Ok(_) => Err("the number of an event is not negative".to_owned()),
            Err(_) => parse_moment(text, Time::now()).map(Self::Moment),
        }
    }
}

/// Who says something in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// The queue.
    Queue,
    /// Workers and landing.
    Worker,
    /// The coordinator.
    Swarm,
    /// Messages on channels.
    Bus,
}

impl EventKind {
    /// The word in the store and in JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Worker => "worker",
            Self::Swarm => "swarm",
            Self::Bus => "bus",
        }
    }
}

/// Which events are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EventFilter {
    /// Only those about this ticket.
    pub(crate) ticket: Option<TicketId>,
    /// Only these kinds; all where none is named.
    pub(crate) kinds: Vec<EventKind>,
}

/// A reader of the stream, with its place in it and a connection to the store of its own, so that it sees what this
/// process writes as it sees what others write.
pub(crate) struct EventReader {
    /// Its own connection.
    store: Store,
    /// What is wanted.
    filter: StreamFilter,
    /// Everything up to here has been read.
    seq: i64,
    /// Whether events before the first that is kept were asked for, so that their lack is to be told.
    wants_all: bool,
    /// The store's change counter before the last read.
    version: i64,
}

impl Control {
    /// A reader of the event stream.
    ///
    /// # Errors
    /// [`FailureKind::Usage`] for a number that no event has yet: whoever read it read it elsewhere.
    pub(crate) fn events(&self, since: Since, filter: &EventFilter) -> Result<EventReader, Failure> {
        // Makes the state where there is none, so that following can begin before anything has happened.
        self.project.store()?;
        EventReader::open(Store::open(&self.project.paths, Durability::Normal)?, since, filter)
    }
}

impl EventReader {
    /// A reader with a connection of its own.
    fn open(store: Store, since: Since, filter: &EventFilter) -> Result<Self, Failure> {
        let last = store.last_seq()?;
        let (seq, wants_all) = match since {
            Since::Beginning => (0, false),
            Since::Seq(seq) if seq > last => {
                let text = format!("there is no event {seq} yet: the newest is {last}");
                return Err(Failure::new(FailureKind::Usage, text).hint("--since 0 begins with the first"));
            }
            Since::Seq(seq) => (seq, seq > 0),
            // Who asks for more than is kept wants to know it.
            Since::Moment(moment) if moment.age_at(Time::now()) > KEEP_EVENTS => (0, true),
            Since::Moment(moment) => (store.seq_before(moment)?, false),
            Since::Recent => ((last - SHOWN_BEFORE).max(0), false),
            Since::Now => (last, true),
        };
        let kinds = filter.kinds.iter().map(|kind| kind.as_str()).collect();
        let filter = StreamFilter { ticket: filter.ticket.clone(), kinds };
        let version = store.data_version()?;
        Ok(Self { store, filter, seq, wants_all, version })
    }

    /// The number up to which everything has been read.
    #[cfg(test)]
    fn seq(&self) -> i64 {
        self.seq
    }

    /// The next events, oldest first; empty when there are none for now.
    pub(crate) fn next_batch(&mut self) -> Result<Vec<EventView>, Failure> {
        loop {
            // Before reading: what is committed in between then counts as a change.
            self.version = self.store.data_version()?;
            let part = self.store.stream(self.seq, &self.filter, BATCH)?;
            let mut events = Vec::with_capacity(part.events.len() + 1);
            if self.wants_all && part.first_kept > self.seq + 1 {
                events.push(pruned(self.seq + 1, part.first_kept - 1));
            }
            // From here on, every number that is missing was pruned under the reader's eyes.
            self.wants_all = true;
            let is_end = part.seq == self.seq;
            self.seq = part.seq;
            events.extend(part.events.into_iter().map(view));
            if !events.is_empty() || is_end {
                return Ok(events);
            }
        }
    }

    /// Waits until something was committed since the last read, or `until`; false when that passed. Costs a read of
    /// shared memory twenty times a second; `is_wanted` is asked as often and ends the wait as well.
    pub(crate) fn wait(&self, until: Option<Instant>, is_wanted: impl Fn() -> bool) -> Result<bool, Failure> {
        while self.store.data_version()? == self.version {
            if !is_wanted() || until.is_some_and(|until| Instant::now() >= until) {
                return Ok(false);
            }
            std::thread::sleep(PEEK_EVERY);
        }
        Ok(true)
    }
}

/// The line that says what is missing.
pub(super) fn pruned(first: i64, last: i64) -> EventView {
    about_stream(last, StreamFact::Pruned { first, last })
}

/// A line about the stream itself, of this moment.
pub(super) fn about_stream(seq: i64, fact: StreamFact) -> EventView {
    let fact = Fact::Stream(fact);
    EventView { version: VIEW_VERSION, seq, at: Time::now(), run: None, ticket: None, worker: None, node: None, fact }
}

/// The line of an event of a worker.
pub(super) fn of_worker(seq: i64, record: EventRecord) -> EventView {
    let EventRecord { at, run, ticket, worker, event, .. } = record;
    let (version, fact) = (VIEW_VERSION, Fact::Worker(event));
    EventView { version, seq, at, run, ticket: Some(ticket), worker, node: None, fact }
}

/// That of one of the coordinator.
pub(super) fn of_swarm(seq: i64, record: SwarmRecord) -> EventView {
    let SwarmRecord { at, run, ticket, worker, event, .. } = record;
    let (version, fact) = (VIEW_VERSION, Fact::Swarm(event));
    EventView { version, seq, at, run: Some(run), ticket, worker, node: None, fact }
}

/// One row as it is shown.
fn view(stored: StoredEvent) -> EventView {
    let seq = stored.seq;
    read(&stored).unwrap_or_else(|error| EventView {
        ticket: stored.ticket.parse().ok(),
        ..about_stream(seq, StreamFact::Unreadable { reason: error.to_string() })
    })
}

/// Reads one row by its kind.
fn read(stored: &StoredEvent) -> serde_json::Result<EventView> {
    let (version, seq) = (VIEW_VERSION, stored.seq);
    Ok(match stored.kind.as_str() {
        "queue" => {
            let QueueEvent { at, ticket, from, to, fence, attempt, by, .. } = serde_json::from_str(&stored.data)?;
            let fact = Fact::Queue(QueueFact::Moved { from, to, fence, attempt, by });
            EventView { version, seq, at, run: None, ticket: Some(ticket), worker: None, node: None, fact }
        }
        "bus" => {
            let message: Message = serde_json::from_str(&stored.data)?;
            let fact = Fact::Bus(BusFact::Published { message: message.clone() });
            EventView { version, seq, at: message.at, run: None, ticket: None, worker: None, node: None, fact }
        }
        "swarm" => of_swarm(seq, serde_json::from_str(&stored.data)?),
        _ => of_worker(seq, serde_json::from_str(&stored.data)?),
    })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::model::event::{Event, SwarmEvent};
    use crate::model::{RunId, WorkerId};
    use crate::store::StatePaths;

    fn paths() -> (tempfile::TempDir, StatePaths) {
        let folder = tempfile::tempdir().unwrap();
        let paths = StatePaths::new(folder.path());
        (folder, paths)
    }

    fn open(paths: &StatePaths) -> Store {
        Store::open(paths, Durability::Normal).unwrap()
    }

    fn worker_event(ticket: &str) -> EventRecord {
        let (ticket, worker): (TicketId, WorkerId) = (ticket.parse().unwrap(), ticket.parse().unwrap());
        EventRecord::now(&RunId::random(), &ticket, &worker, Event::Warning { text: "odd".to_owned() })
    }

    fn reader(paths: &StatePaths, since: Since, filter: &EventFilter) -> EventReader {
        EventReader::open(open(paths), since, filter).unwrap()
    }

    /// Everything there is for now.
    fn rest(reader: &mut EventReader) -> Vec<EventView> {
        let mut all = Vec::new();
        loop {
            match reader.next_batch().unwrap() {
                batch if batch.is_empty() => return all,
                batch => all.extend(batch),
            }
        }
    }

    fn seqs(events: &[EventView]) -> Vec<i64> {
        events.iter().map(|event| event.seq).collect()
    }

    #[test]
    fn a_follower_sees_every_event_of_many_writers_once_and_in_order() {
        const WRITERS: usize = 4;
        const EACH: usize = 300;
        let (_folder, paths) = paths();
        drop(open(&paths));
        let mut seen = Vec::new();
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let paths = &paths;
                scope.spawn(move || {
                    let store = open(paths);
                    for _ in 0..EACH {
                        store.append_event(&worker_event(&format!("t{writer}"))).unwrap();
                    }
                });
            }
            let mut reader = reader(&paths, Since::Now, &EventFilter::default());
            // What was there before it began to follow is not its business.
            let first = reader.seq();
            let deadline = Instant::now() + Duration::from_secs(60);
            while seen.last().copied().unwrap_or(first) < (WRITERS * EACH) as i64 {
                assert!(Instant::now() < deadline, "{seen:?}");
                seen.extend(seqs(&reader.next_batch().unwrap()));
                reader.wait(Some(Instant::now() + Duration::from_secs(1)), || true).unwrap();
            }
            assert_eq!(seen, (first + 1..=(WRITERS * EACH) as i64).collect::<Vec<_>>());
        });
        let all = rest(&mut reader(&paths, Since::Beginning, &EventFilter::default()));
        assert_eq!(all.len(), WRITERS * EACH, "more than one part of the stream");
    }

    #[test]
    fn a_filter_skips_and_never_stops_the_reader() {
        let (_folder, paths) = paths();
        let store = open(&paths);
        for number in 0..1_200 {
            store.append_event(&worker_event(if number == 1_100 { "rare" } else { "usual" })).unwrap();
        }
        store.append_swarm_event(&SwarmRecord::now(&RunId::random(), SwarmEvent::HoldEnded)).unwrap();
        let rare = EventFilter { ticket: Some("RARE".parse().unwrap()), kinds: Vec::new() };
        let mut reader_of_rare = reader(&paths, Since::Beginning, &rare);
        assert_eq!(seqs(&rest(&mut reader_of_rare)), [1_101]);
        assert_eq!(reader_of_rare.seq(), 1_201, "it is told of nothing twice");
        let swarm = EventFilter { ticket: None, kinds: vec![EventKind::Swarm] };
        let events = rest(&mut reader(&paths, Since::Seq(100), &swarm));
        assert_eq!(seqs(&events), [1_201]);
        assert_eq!(events[0].fact, Fact::Swarm(SwarmEvent::HoldEnded));
        assert_eq!(rest(&mut reader(&paths, Since::Recent, &EventFilter::default())).len(), 20);
    }

    #[test]
    fn who_asked_for_events_that_are_gone_is_told_which() {
        let (_folder, paths) = paths();
        let store = open(&paths);
        let mut follower = reader(&paths, Since::Now, &EventFilter::default());
        let start = Time::now();
        for _ in 0..5 {
            store.append_event(&worker_event("a")).unwrap();
        }
        let later = start.after(2 * KEEP_EVENTS);
        store.append_event(&EventRecord { at: later, ..worker_event("b") }).unwrap();
        store.prune_events(later).unwrap();
        let facts =
            |events: Vec<EventView>| events.into_iter().map(|event| (event.seq, event.fact)).collect::<Vec<_>>();
        let gone = |first| Fact::Stream(StreamFact::Pruned { first, last: 5 });
        let kept = Fact::Worker(worker_event("b").event);
        assert_eq!(facts(rest(&mut follower)), [(5, gone(1)), (6, kept.clone())]);
        let since = |since| facts(rest(&mut reader(&paths, since, &EventFilter::default())));
        assert_eq!(since(Since::Seq(3)), [(5, gone(4)), (6, kept.clone())]);
        assert_eq!(since(Since::Moment(Time::from_millis(0))), [(5, gone(1)), (6, kept.clone())]);
        assert_eq!(since(Since::Beginning), [(6, kept.clone())], "nobody asked for the others");
        assert_eq!(since(Since::Moment(start)), [(6, kept)]);
        let other = EventFilter { ticket: Some("c".parse().unwrap()), kinds: Vec::new() };
        assert_eq!(facts(rest(&mut reader(&paths, Since::Seq(3), &other))), [(5, gone(4))]);
    }

    #[test]
    fn an_event_that_cannot_be_read_is_said_to_be_there() {
        let (_folder, paths) = paths();
        let store = open(&paths);
        let record = serde_json::json!({"schema": 9, "event": "from_the_future"});
        store.write(|txn| txn.append_queue_event(&"a".parse().unwrap(), &record)).unwrap();
        let events = rest(&mut reader(&paths, Since::Beginning, &EventFilter::default()));
        assert!(matches!(&events[0].fact, Fact::Stream(StreamFact::Unreadable { .. })), "{events:?}");
        assert_eq!(events[0].ticket, Some("a".parse().unwrap()));
    }

    #[test]
    fn a_number_from_elsewhere_is_refused() {
        let (_folder, paths) = paths();
        let failure = EventReader::open(open(&paths), Since::Seq(7), &EventFilter::default()).err().unwrap();
        assert_eq!(failure.kind, FailureKind::Usage);
        assert_eq!(Since::parse("12"), Ok(Since::Seq(12)));
        assert!(Since::parse("-1").is_err() && Since::parse("never").is_err());
    }
}
