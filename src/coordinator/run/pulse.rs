//! Waiting until there may be something new to look at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::queue::{Queue, Watch};
use crate::store::{Store, StoreError};

/// How often everything is looked at even if the store did not change: a supervisor that was killed writes nothing.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Changes that follow each other closely are looked at together: after a look that took a moment, nobody looks for this
/// many such moments, so that a coordinator spends a tenth of its time looking, however much happens.
const REST: u32 = 9;
/// The longest such rest: with many workers a look takes longer, and tickets are not to wait for it.
const LONGEST_REST: Duration = Duration::from_millis(150);
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
    at: Instant,
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
        Ok(Mark { at: Instant::now(), version: self.store.data_version()?, known })
    }

    /// Whether there is news since.
    fn has_news_since(&self, mark: Mark) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.heard() > mark.known)
            || self.store.data_version().ok() != Some(mark.version)
    }

    /// Begins to wait, after a look that began at `mark`, for news since, or until something is due in so long.
    pub(in crate::coordinator) fn wait(&self, mark: Mark, due: Option<Duration>) -> Wait {
        let rest = rest_after(mark.at.elapsed());
        let within = due.map_or(LOOK_EVERY, |due| due.min(LOOK_EVERY)).max(rest);
        Wait { pulse: self.clone(), mark, begun: Instant::now(), rest, within, has_news: false }
    }
}

/// How long nobody looks again after a look that took so long.
fn rest_after(look: Duration) -> Duration {
    look.saturating_mul(REST).clamp(PEEK_EVERY, LONGEST_REST)
}

/// A wait under way.
pub(in crate::coordinator) struct Wait {
    pulse: Pulse,
    mark: Mark,
    begun: Instant,
    rest: Duration,
    within: Duration,
    has_news: bool,
}

impl Wait {
    /// Whether to wait for [`PEEK_EVERY`] more, and ask again.
    pub(in crate::coordinator) fn goes_on(&mut self) -> bool {
        self.has_news |= self.pulse.has_news_since(self.mark);
        let waited = self.begun.elapsed();
        waited < self.within && !(self.has_news && waited >= self.rest)
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
        assert!(since(LONGEST_REST, mark).goes_on(), "nothing happened");
        assert!(!since(LOOK_EVERY, mark).goes_on(), "it is time to look anyway");
        let mut told = since(LONGEST_REST, mark);
        told.hear();
        assert!(!told.goes_on(), "there was a report");
        let request = LeadRequest { role: "role".into(), holder: "other".into(), lease: Duration::from_secs(9) };
        queue.leader_lease(&request).unwrap();
        assert!(!since(LONGEST_REST, mark).goes_on(), "the store changed");
        let long = Mark { at: Instant::now() - LONGEST_REST, ..mark };
        assert!(pulse.wait(long, None).goes_on(), "more may follow");
        assert!(since(LONGEST_REST, pulse.mark().unwrap()).goes_on(), "that is known by now");
    }

    #[test]
    fn the_longer_a_look_is_the_longer_is_the_rest_after_it() {
        for (look, rest) in [(0, 5), (1, 9), (10, 90), (17, 150), (9000, 150)] {
            assert_eq!(rest_after(Duration::from_millis(look)), Duration::from_millis(rest), "{look} ms");
        }
    }
}
