//! Budgets of several machines: each tells the others what it spent, and adds what they did to its own ledger, so that
//! every check goes by the sum.
//!
//! Whatever is lost on the way, by a server that lost its last messages or a program that could not read what a newer one
//! told, is made good within an hour: then all is heard again, and what is of late is told again. Neither changes anything
//! where nothing was lost.

use std::sync::Arc;
use std::time::Duration;

use super::nats::{Link, REPORTS_KEPT_DAYS};
use super::{Queue, QueueError};
use crate::files::FileLock;
use crate::model::day::{Day, DayClock};
use crate::model::spend::{SPEND_SCHEMA, SpendReport};
use crate::model::{NodeName, Time};
use crate::store::{Heard, StatePaths, Store, StoreError, clocks};

/// How often the others are heard, by all processes of a clone together.
const HEAR_EVERY: Duration = Duration::from_secs(2);
/// How often they are heard from the beginning.
const ANEW_EVERY: Duration = Duration::from_secs(3_600);
/// How many days back is told again then.
const TOLD_AGAIN_DAYS: u32 = 1;

/// When the others are heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hear {
    /// Not this time: somebody waits for no more than that the server is told.
    Not,
    /// Where nobody here did for two seconds.
    IfDue,
    /// In any case.
    Now,
}

/// Tells a server what this clone spent that it was not told yet, and hears what others did. Nothing where the queue is on no
/// server. False where another process of this clone does so for longer than `wait`.
pub(crate) fn share_spend(
    queue: &dyn Queue,
    store: &Store,
    paths: &StatePaths,
    wait: Duration,
    hear: Hear,
) -> Result<bool, QueueError> {
    let Some(link) = queue.link() else { return Ok(true) };
    let lock = FileLock::take_within(&paths.lock("spend"), wait).map_err(StoreError::from)?;
    let Some(_lock) = lock else { return Ok(false) };
    let clone = store.clone_id()?;
    let mut sharing = Sharing { link, store, clone, node: queue.node(), heard: store.spend_heard()? };
    sharing.share(Time::now(), hear).map(|()| true)
}

/// What one clone tells and hears.
struct Sharing<'a> {
    /// The connection.
    link: &'a Arc<Link>,
    /// The ledger.
    store: &'a Store,
    /// Whose.
    clone: String,
    /// The node that it is.
    node: &'a str,
    /// How far the others were heard.
    heard: Heard,
}

impl Sharing<'_> {
    /// Tells what is to be told, and hears the others where that is due.
    fn share(&mut self, now: Time, hear: Hear) -> Result<(), QueueError> {
        // A clock that was set back says nothing.
        let is_due =
            |last: Option<Time>, every: Duration| last.is_none_or(|last| last > now || last.after(every) <= now);
        match hear {
            // Where it is told is looked for when others are heard.
            Hear::Not if self.heard.stream.is_empty() => return Ok(()),
            Hear::Not => return self.tell(),
            Hear::IfDue if !is_due(self.heard.at, HEAR_EVERY) => return self.tell(),
            Hear::IfDue | Hear::Now => {}
        }
        let there = self.link.reports()?;
        let is_new = self.heard.stream != there.stream || there.seq < self.heard.seq;
        if is_new || is_due(self.heard.anew_at, ANEW_EVERY) {
            let back = if is_new { REPORTS_KEPT_DAYS } else { TOLD_AGAIN_DAYS };
            self.store.untell_spend(&today().before(back))?;
            self.heard = Heard { stream: there.stream, seq: 0, at: None, anew_at: Some(now) };
        }
        // What cannot be told keeps nobody from hearing.
        let told = self.tell();
        if self.heard.seq < there.seq {
            self.hear()?;
        }
        self.heard.at = Some(now);
        self.store.hear_spend(&[], &self.heard)?;
        told
    }

    /// Tells what was not told yet.
    fn tell(&mut self) -> Result<(), QueueError> {
        // A name that is none is one of the file engine.
        let Ok(node) = self.node.parse::<NodeName>() else { return Ok(()) };
        let before = self.heard.seq;
        for untold in self.store.untold_spend()? {
            let report = SpendReport {
                schema: SPEND_SCHEMA,
                at: Time::now(),
                clone: self.clone.clone(),
                node: node.clone(),
                day: untold.day.clone(),
                ticket: untold.ticket.parse().ok(),
                version: untold.version,
                entries: untold.entries.clone(),
            };
            match self.link.report(&report)? {
                // Nothing of another clone lies between.
                Some(seq) if seq == self.heard.seq + 1 => self.heard.seq = seq,
                Some(_) => {}
                // It is in the way of no other one, and told when it changes.
                None => tracing::warn!(ticket = untold.ticket, "what it cost is more than the server takes at once"),
            }
            self.store.note_told(&untold)?;
        }
        if self.heard.seq > before {
            self.store.hear_spend(&[], &self.heard)?;
        }
        Ok(())
    }

    /// Hears what others told since.
    fn hear(&mut self) -> Result<(), QueueError> {
        let days = today().before(REPORTS_KEPT_DAYS + 1)..=today().next();
        loop {
            let part = self.link.reports_after(self.heard.seq)?;
            let is_of_others = |report: &SpendReport| report.clone != self.clone && days.contains(&report.day);
            let others: Vec<_> = part.reports.into_iter().filter(is_of_others).collect();
            self.heard.seq = part.seq;
            self.store.hear_spend(&others, &self.heard)?;
            if !part.is_more {
                return Ok(());
            }
        }
    }
}

/// The day that it is here.
fn today() -> Day {
    DayClock::look(None, &clocks()).1.day
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
            self.sharing().share(now, Hear::IfDue).unwrap();
        }

        fn sharing(&self) -> Sharing<'_> {
            let (clone, heard) = (self.store.clone_id().unwrap(), self.store.spend_heard().unwrap());
            let (link, store, node) = (self.queue.link().unwrap(), &self.store, self.queue.node());
            Sharing { link, store, clone, node, heard }
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
        let share = || share_spend(&*one.queue, &one.store, &one.paths, Duration::ZERO, Hear::IfDue).unwrap();
        let lock = FileLock::wait(&one.paths.lock("spend")).unwrap();
        assert!(!share());
        assert_eq!(one.store.untold_spend().unwrap().len(), 1);
        drop(lock);
        assert!(share());
        assert_eq!(one.store.untold_spend().unwrap(), []);
    }

    #[test]
    fn what_only_this_clone_told_is_not_read_again() {
        let engine = NatsEngine::start();
        let [one, other] = [(); 2].map(|()| Machine::new(&engine));
        one.share();
        one.charge("fix", 100, "m");
        one.share();
        assert_eq!(one.store.spend_heard().unwrap().seq, 1);
        other.charge("fix", 10, "m");
        other.share();
        one.charge("fix", 120, "m");
        one.share_after(1);
        assert_eq!((one.store.spend_heard().unwrap().seq, one.spent("fix").0), (1, 120));
        one.share();
        assert_eq!((one.store.spend_heard().unwrap().seq, one.spent("fix").0), (3, 130));
    }

    #[test]
    fn what_a_server_lost_of_late_is_made_good_within_an_hour() {
        let engine = NatsEngine::start();
        let [one, other] = [(); 2].map(|()| Machine::new(&engine));
        for machine in [&one, &other] {
            machine.share();
        }
        one.charge("fix", 100, "m");
        other.charge("docs", 10, "m");
        for machine in [&one, &other] {
            machine.share();
        }
        // What came last is gone, and something else is in its place.
        one.queue.link().unwrap().forget_report(1);
        other.charge("docs", 20, "m");
        other.share();
        let new = Machine::new(&engine);
        new.share();
        assert_eq!((new.spent("fix").0, new.spent("docs").0), (0, 20));
        one.share_after(3_600_000);
        new.share();
        assert_eq!((new.spent("fix").0, new.spent("docs").0), (100, 20));
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
