//! Waiting until there may be something new to look at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::queue::{Queue, Watch};
use crate::store::{Store, StoreError};

/// How often everything is looked at even if the store did not change: a supervisor that was killed writes nothing.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Changes that follow each other closely are looked at together.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(150);
/// How often the store's change counter is read, one page of shared memory: half of the ten milliseconds that a ticket may
/// wait until somebody who has nothing to do claims it.
pub(in crate::coordinator) const PEEK_EVERY: Duration = Duration::from_millis(5);

/// What a coordinator notices changes by.
#[derive(Clone)]
pub(in crate::coordinator) struct Pulse {
    store: Arc<Store>,
    /// What other machines do, where the queue is on a server: the store has it only after a look.
    watch: Option<Arc<Watch>>,
}

/// How much was known at one moment.
#[derive(Debug, Clone, Copy)]
pub(in crate::coordinator) struct Mark {
    version: i64,
    /// The last change of the server's that was heard of or applied here: what this process did itself is no news.
    known: u64,
}

impl Pulse {
    /// That of a project with its queue, whose tables are in a store.
    pub(in crate::coordinator) fn of(store: &Arc<Store>, queue: &dyn Queue) -> Self {
        let watch = queue.link().map(|link| Arc::new(Watch::begin(link)));
        Self { store: store.clone(), watch }
    }

    /// What is known before a look: whatever changes from here on is news.
    pub(in crate::coordinator) fn mark(&self) -> Result<Mark, StoreError> {
        let known = self.watch.as_ref().map_or(0, |watch| watch.known(&self.store));
        Ok(Mark { version: self.store.data_version()?, known })
    }

    /// Whether there is news since.
    fn has_news_since(&self, mark: Mark) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.heard() > mark.known)
            || self.store.data_version().ok() != Some(mark.version)
    }

    /// Begins to wait for news since `mark`, or until something is due in so long.
    pub(in crate::coordinator) fn wait(&self, mark: Mark, due: Option<Duration>) -> Wait {
        let within = due.map_or(LOOK_EVERY, |due| due.min(LOOK_EVERY)).max(LOOK_AT_MOST_EVERY);
        Wait { pulse: self.clone(), mark, begun: Instant::now(), within, has_news: false }
    }
}

/// A wait under way.
pub(in crate::coordinator) struct Wait {
    pulse: Pulse,
    mark: Mark,
    begun: Instant,
    within: Duration,
    has_news: bool,
}

impl Wait {
    /// Whether to wait for [`PEEK_EVERY`] more, and ask again.
    pub(in crate::coordinator) fn goes_on(&mut self) -> bool {
        self.has_news |= self.pulse.has_news_since(self.mark);
        let waited = self.begun.elapsed();
        waited < self.within && !(self.has_news && waited >= LOOK_AT_MOST_EVERY)
    }

    /// Hears of something new that the store does not know of.
    pub(in crate::coordinator) fn hear(&mut self) {
        self.has_news = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::settings::Durability;
    use crate::queue::{FileQueue, LeadRequest};
    use crate::store::StatePaths;

    #[test]
    fn a_wait_ends_by_news_after_a_moment_and_without_any_when_a_look_is_due() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Arc::new(Store::open(&StatePaths::new(folder.path()), Durability::Normal).unwrap());
        let (store, other) = (open(), open());
        let queue = FileQueue::new(other, "other");
        let pulse = Pulse::of(&store, &FileQueue::new(store.clone(), "one"));
        let since = |ago: Duration, mark| Wait { begun: Instant::now() - ago, ..pulse.wait(mark, None) };
        let mark = pulse.mark().unwrap();
        assert!(since(LOOK_AT_MOST_EVERY, mark).goes_on(), "nothing happened");
        assert!(!since(LOOK_EVERY, mark).goes_on(), "it is time to look anyway");
        let mut told = since(LOOK_AT_MOST_EVERY, mark);
        told.hear();
        assert!(!told.goes_on(), "there was a report");
        let request = LeadRequest { role: "role".into(), holder: "other".into(), lease: Duration::from_secs(9) };
        queue.leader_lease(&request).unwrap();
        assert!(!since(LOOK_AT_MOST_EVERY, mark).goes_on(), "the store changed");
        assert!(pulse.wait(mark, None).goes_on(), "more may follow");
        assert!(since(LOOK_AT_MOST_EVERY, pulse.mark().unwrap()).goes_on(), "that is known by now");
    }
}
