//! What happens on one machine, told to whoever looks at all nodes of its queue.

use super::{Queue, QueueError};
use crate::files::FileLock;
use crate::model::node_event::NodeEvent;
use crate::model::{NodeName, Time};
use crate::store::{StatePaths, Store, StoreError, StreamFilter};

/// The store's word for the number of the last event that was told.
const TOLD: &str = "events_told";
/// How far back what happened before anything was told still is, in milliseconds.
const FIRST_TOLD: i64 = 3_600_000;
/// Events told in one go.
const BATCH: usize = 100;

/// Tells a server what happened to workers and the coordinator of this machine that it was not told yet; the first time that of
/// the last hour. Nothing where the queue is on none, or while another process of this machine does so.
pub(crate) fn tell_events(queue: &dyn Queue, store: &Store, paths: &StatePaths) -> Result<(), QueueError> {
    // A name that is none is one of the file engine.
    let (Some(link), Ok(node)) = (queue.link(), queue.node().parse::<NodeName>()) else { return Ok(()) };
    let lock = FileLock::try_take(&paths.lock("events")).map_err(StoreError::from)?;
    let Some(_alone) = lock else { return Ok(()) };
    let clone = store.clone_id()?;
    let filter = StreamFilter { ticket: None, kinds: vec!["worker", "swarm"] };
    let mut told = match store.meta(TOLD)?.and_then(|text| text.parse().ok()) {
        Some(told) => told,
        None => store.seq_before(Time::from_millis(Time::now().as_millis() - FIRST_TOLD))?,
    };
    loop {
        let part = store.stream(told, &filter, BATCH)?;
        if part.seq == told {
            return Ok(());
        }
        let events = part.events.iter();
        let events = events.filter_map(|event| NodeEvent::of(&node, &clone, event.seq, &event.kind, &event.data));
        link.tell_events(&events.collect::<Vec<_>>())?;
        told = part.seq;
        store.set_meta(TOLD, &told.to_string())?;
    }
}

#[cfg(test)]
#[cfg(feature = "real-agents")]
mod tests {
    use super::*;
    use crate::model::RunId;
    use crate::model::event::{Event, EventRecord, SwarmEvent, SwarmRecord};
    use crate::model::node_event::NodeFact;
    use crate::model::settings::Durability;
    use crate::queue::{NatsEngine, Start};

    /// More than are told, or read, at once.
    const MANY: u64 = 700;

    #[test]
    fn what_happens_on_a_machine_is_told_once_and_in_order() {
        let engine = NatsEngine::start();
        let (queue, folder) = (engine.queue(), tempfile::tempdir().unwrap());
        let paths = StatePaths::new(folder.path());
        let store = Store::open(&paths, Durability::Normal).unwrap();
        let (run, link) = (RunId::random(), queue.link().unwrap());
        let happens = |ticket: &str| {
            let (worker, ticket) = (ticket.parse().unwrap(), ticket.parse().unwrap());
            let event = EventRecord::now(&run, &ticket, &worker, Event::Warning { text: "Ah.".repeat(300) });
            store.record_event(&paths, &event).unwrap();
        };
        let tell = || tell_events(&*queue, &store, &paths).unwrap();
        let none = (
            link.events_kept(std::time::Duration::ZERO).unwrap().last,
            link.events_from(Start::Beginning, std::time::Duration::ZERO),
        );
        assert!(none.0 == 0 && none.1.is_err(), "there is no stream yet");
        tell();
        happens("good");
        store.append_swarm_event(&SwarmRecord::now(&run, SwarmEvent::Nudged)).unwrap();
        tell();
        tell();
        store.set_meta(TOLD, "0").unwrap();
        tell();
        let read = |from| {
            let part = link.events_from(from, std::time::Duration::ZERO).unwrap();
            let events = part.events.into_iter().map(|(seq, event)| {
                let NodeEvent { node, clone, fact, .. } = event.unwrap();
                assert_eq!((node.as_str(), clone), (queue.node(), store.clone_id().unwrap()));
                let about = match fact {
                    NodeFact::Worker(record) => record.ticket.to_string(),
                    NodeFact::Swarm(record) => format!("{:?}", record.event),
                };
                (seq, about)
            });
            (events.collect::<Vec<_>>(), part.is_more)
        };
        let first = [(1, "good".to_owned()), (2, "Nudged".to_owned())];
        assert_eq!(read(Start::Beginning), (first.to_vec(), false));
        assert_eq!(read(Start::After(1)), (first[1..].to_vec(), false));
        (0..MANY).for_each(|number| happens(&format!("t{number}")));
        tell();
        let (mut all, is_more) = read(Start::After(2));
        assert!(is_more);
        let (rest, is_more) = read(Start::After(all.last().unwrap().0));
        assert!(!is_more);
        all.extend(rest);
        let expected: Vec<_> = (0..MANY).map(|number| (number + 3, format!("t{number}"))).collect();
        assert_eq!(all, expected);
    }
}
