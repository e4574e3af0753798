//! Budgets of several machines: each tells the others what it spent, and adds what they did to its own ledger, so that
//! every check goes by the sum.

use std::sync::Arc;
use std::time::Duration;

use super::nats::{Link, REPORTS_KEPT_DAYS};
use super::{Queue, QueueError};
use crate::files::FileLock;
use crate::model::day::DayClock;
use crate::model::spend::{SPEND_SCHEMA, SpendReport};
use crate::model::{Time, error_text};
use crate::store::{Heard, StatePaths, Store, StoreError, clocks};

/// How often the others are heard, by all processes of a clone together.
const HEAR_EVERY_MS: i64 = 2_000;

/// Tells a server what this clone spent that it was not told yet, and hears what others did, at most every two seconds.
/// Nothing where the queue is on no server, and where another process of this clone does so for longer than `wait`.
pub(crate) fn share_spend(
    queue: &dyn Queue,
    store: &Store,
    paths: &StatePaths,
    wait: Duration,
) -> Result<(), QueueError> {
    share_at(queue, store, paths, wait, Time::now())
}

/// The same at a moment.
fn share_at(queue: &dyn Queue, store: &Store, paths: &StatePaths, wait: Duration, now: Time) -> Result<(), QueueError> {
    let Some(link) = queue.link() else { return Ok(()) };
    let lock = FileLock::take_within(&paths.lock("spend"), wait).map_err(StoreError::from)?;
    let Some(_lock) = lock else { return Ok(()) };
    let ledger = Ledger { link, store, clone: store.clone_id()? };
    let known = store.spend_heard()?;
    let hears = store.hears_spend_after(HEAR_EVERY_MS, now)?;
    if !hears && known != Heard::default() {
        return ledger.tell(queue.node());
    }
    let there = link.reports()?;
    let is_known = known.stream == there.stream && known.seq <= there.seq;
    let from = if is_known { known } else { ledger.begin(&there)? };
    ledger.tell(queue.node())?;
    if from.seq < there.seq { ledger.hear(from) } else { Ok(()) }
}

/// The ledger of one clone among those of the others.
struct Ledger<'a> {
    /// The connection.
    link: &'a Arc<Link>,
    /// The ledger.
    store: &'a Store,
    /// Whose.
    clone: String,
}

impl Ledger<'_> {
    /// Begins with a server that does not have what was told, and others are heard on from the beginning.
    fn begin(&self, there: &Heard) -> Result<Heard, QueueError> {
        let (_, today) = DayClock::look(None, &clocks());
        self.store.untell_spend(&today.day.before(REPORTS_KEPT_DAYS))?;
        let heard = Heard { stream: there.stream.clone(), seq: 0 };
        self.store.hear_spend(&[], &heard)?;
        Ok(heard)
    }

    /// Tells what was not told yet.
    fn tell(&self, node: &str) -> Result<(), QueueError> {
        // A name that is none is one of the file engine.
        let Ok(node) = node.parse() else { return Ok(()) };
        for untold in self.store.untold_spend()? {
            let report = SpendReport {
                schema: SPEND_SCHEMA,
                at: Time::now(),
                clone: self.clone.clone(),
                node: Clone::clone(&node),
                day: untold.day.clone(),
                ticket: untold.ticket.parse().ok(),
                entries: untold.entries.clone(),
            };
            match self.link.report(&report, untold.version) {
                // Such as one that is too large: it is in the way of no other one, and told when it changes.
                Err(error) if error.is_refusal() => {
                    tracing::warn!(ticket = untold.ticket, error = error_text(&error), "its cost could not be told");
                }
                told => told?,
            }
            self.store.note_told(&untold)?;
        }
        Ok(())
    }

    /// Hears what others told since.
    fn hear(&self, mut heard: Heard) -> Result<(), QueueError> {
        loop {
            let part = self.link.reports_after(heard.seq)?;
            let others: Vec<_> = part.reports.into_iter().filter(|report| report.clone != self.clone).collect();
            heard.seq = part.seq;
            self.store.hear_spend(&others, &heard)?;
            if !part.is_more {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
#[cfg(feature = "real-agents")]
mod tests {
    use std::cell::Cell;

    use tempfile::TempDir;

    use super::*;
    use crate::model::RunId;
    use crate::model::budget::Spend;
    use crate::model::settings::Durability;
    use crate::model::spend::Role;
    use crate::queue::NatsEngine;
    use crate::store::{Charge, Counted};

    /// A clone whose queue is on a server.
    struct Machine {
        queue: Arc<dyn Queue>,
        store: Store,
        paths: StatePaths,
        run: RunId,
        now: Cell<Time>,
        _folder: TempDir,
    }

    impl Machine {
        fn new(engine: &NatsEngine) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let paths = StatePaths::new(folder.path());
            let store = Store::open(&paths, Durability::Normal).unwrap();
            let now = Cell::new(Time::now());
            Self { queue: engine.queue(), store, paths, run: RunId::random(), now, _folder: folder }
        }

        /// Charges what a counter stands at to a ticket.
        fn charge(&self, ticket: &str, tokens: u64, model: &str) {
            let charge = Charge {
                account: &format!("session:{ticket}"),
                role: Role::Worker,
                run: &self.run,
                ticket: Some(&ticket.parse().unwrap()),
                worker: Some(&ticket.parse().unwrap()),
                attempt: 1,
                agent: &"a".parse().unwrap(),
                model,
                counted: Some(Counted { input_tokens: tokens, ..Counted::default() }),
                worked: Duration::ZERO,
            };
            self.store.charge(&charge, &clocks()).unwrap();
        }

        /// Tells and hears, long after that was done last.
        fn share(&self) {
            self.share_after(60_000);
        }

        /// Tells, and hears if that is due so many milliseconds after the time before.
        fn share_after(&self, passed: i64) {
            let now = Time::from_millis(self.now.get().as_millis() + passed);
            self.now.set(now);
            share_at(&*self.queue, &self.store, &self.paths, Duration::ZERO, now).unwrap();
        }

        /// What is known to be spent on a ticket and today, in tokens.
        fn spent(&self, ticket: &str) -> (u64, u64) {
            let ticket = ticket.parse().unwrap();
            let spent = self.store.spendings(Some(&ticket), &self.run, &clocks()).unwrap().spent;
            (Spend::tokens(&spent.ticket), Spend::tokens(&spent.day))
        }
    }

    #[test]
    fn machines_on_one_queue_know_what_all_of_them_spent() {
        let engine = NatsEngine::start();
        let [one, other] = [(); 2].map(|()| Machine::new(&engine));
        one.charge("fix", 100, "m");
        one.share();
        other.charge("fix", 10, "m");
        other.share();
        assert_eq!(other.spent("fix"), (110, 110));
        assert_eq!(one.spent("fix"), (100, 100), "it has not looked since");
        one.charge("fix", 150, "m");
        one.charge("docs", 7, "m");
        one.share();
        other.share();
        for machine in [&one, &other] {
            assert_eq!((machine.spent("fix"), machine.spent("docs").0), ((160, 167), 7));
        }
        // Who is new hears all of it.
        let new = Machine::new(&engine);
        new.share();
        assert_eq!(new.spent("fix"), (160, 167));
    }

    #[test]
    fn what_was_spent_is_told_at_once_and_the_others_are_heard_now_and_then() {
        let engine = NatsEngine::start();
        let [one, other] = [(); 2].map(|()| Machine::new(&engine));
        other.share();
        one.share();
        one.charge("fix", 100, "m");
        one.share_after(1);
        assert_eq!(one.store.untold_spend().unwrap(), []);
        other.share_after(1_999);
        assert_eq!(other.spent("fix"), (0, 0));
        other.share_after(1);
        assert_eq!(other.spent("fix"), (100, 100));
    }

    #[test]
    fn one_process_of_a_clone_shares_at_a_time() {
        let engine = NatsEngine::start();
        let one = Machine::new(&engine);
        one.charge("fix", 100, "m");
        let lock = FileLock::wait(&one.paths.lock("spend")).unwrap();
        one.share();
        assert_eq!(one.store.untold_spend().unwrap().len(), 1);
        drop(lock);
        one.share();
        assert_eq!(one.store.untold_spend().unwrap(), []);
    }

    #[test]
    fn a_server_that_lost_what_was_told_is_told_again() {
        let engine = NatsEngine::start();
        let [one, other] = [(); 2].map(|()| Machine::new(&engine));
        one.charge("fix", 100, "m");
        one.share();
        other.share();
        one.queue.link().unwrap().forget_reports();
        one.share();
        one.charge("fix", 120, "m");
        one.share();
        other.share();
        assert_eq!(other.spent("fix"), (120, 120));
        let new = Machine::new(&engine);
        new.share();
        assert_eq!(new.spent("fix"), (120, 120));
    }

    #[test]
    fn a_report_that_the_server_does_not_take_is_in_the_way_of_no_other() {
        let engine = NatsEngine::start();
        let [one, other] = [(); 2].map(|()| Machine::new(&engine));
        one.charge("a-large", 100, &"m".repeat(2 << 20));
        one.charge("fix", 10, "m");
        one.share();
        other.share();
        assert_eq!((other.spent("a-large").0, other.spent("fix").0), (0, 10));
        assert_eq!(one.spent("fix"), (10, 110));
    }
}
