//! The spend ledger: what every agent used, on which day, for which ticket and run.
//!
//! Programs tell what a conversation used from its beginning, so each such counter has an account, and only what goes
//! beyond the sum of its account is new: telling the same twice, or again after a crash, charges nothing. The figures
//! of one account are kept in one row a day, run and model, so that the ledger grows with the work and not with the
//! number of answers. Money that is told later than its tokens covers them.
//!
//! What other clones on the same queue spent is in rows of theirs ([`super::shared_spend`]), which every sum counts.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::params;

use super::{Store, StoreError, Txn};
use crate::model::budget::{Spend, Spendings};
use crate::model::day::{ClockReading, Day, DayClock, Today};
use crate::model::spend::Role;
use crate::model::{AgentName, RunId, TicketId, Time, WorkerId};
use crate::process;

/// The fact that holds the clock of days.
const DAY_CLOCK: &str = "day_clock";

/// Reads the clocks of this machine.
pub(crate) fn clocks() -> ClockReading {
    ClockReading {
        wall: Time::now(),
        boot_id: process::boot_id().to_owned(),
        since_boot: process::since_boot(),
        zone: crate::model::day::local_zone(),
    }
}

/// What a counter stands at.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Counted {
    /// Input tokens, cached ones included.
    pub(crate) input_tokens: u64,
    /// Output tokens.
    pub(crate) output_tokens: u64,
    /// US dollars for all of it; `None` where the price is not known.
    pub(crate) cost_usd: Option<f64>,
    /// Whether the tokens are a guess.
    pub(crate) is_estimated: bool,
}

/// What is to be charged.
#[derive(Debug, Clone)]
pub(crate) struct Charge<'a> {
    /// The counter: a conversation, or one process of an agent whose count begins anew with it.
    pub(crate) account: &'a str,
    /// Who spends.
    pub(crate) role: Role,
    /// The command or coordinator run.
    pub(crate) run: &'a RunId,
    /// The ticket; `None` for what is about none.
    pub(crate) ticket: Option<&'a TicketId>,
    /// The worker.
    pub(crate) worker: Option<&'a WorkerId>,
    /// The worker's attempt.
    pub(crate) attempt: u32,
    /// The agent.
    pub(crate) agent: &'a AgentName,
    /// Its model, as people write it; empty where it names none.
    pub(crate) model: &'a str,
    /// What the counter stands at; `None` where the agent tells nothing.
    pub(crate) counted: Option<Counted>,
    /// Time the agent worked since the last charge.
    pub(crate) worked: Duration,
}

/// What a charge comes to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Charged {
    /// What was spent now, where it counts.
    pub(crate) spent: Spendings,
    /// The day it was charged to.
    pub(crate) today: Today,
}

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SpendRow {
    /// The day.
    pub(crate) day: Day,
    /// The run.
    pub(crate) run: String,
    /// The ticket; empty for what is about none.
    pub(crate) ticket: String,
    /// The worker, or empty.
    pub(crate) worker: String,
    /// The worker's attempt.
    pub(crate) attempt: u32,
    /// The agent.
    pub(crate) agent: String,
    /// Its model, or empty.
    pub(crate) model: String,
    /// What was used.
    pub(crate) spend: Spend,
    /// Of its tokens those that are a guess.
    pub(crate) estimated_tokens: u64,
    /// The node that spent it; empty for this one.
    pub(crate) node: String,
}

impl Store {
    /// Charges what is new, and sums up what was spent, in one transaction.
    pub(crate) fn charge(&self, charge: &Charge<'_>, now: &ClockReading) -> Result<Charged, StoreError> {
        self.write(|txn| {
            let today = txn.look_at_day(now)?;
            txn.charge(charge, &today.day, now.wall)?;
            let spent = txn.spendings(charge.ticket, charge.run, &today.day)?;
            Ok(Charged { spent, today })
        })
    }

    /// The day that is spent on, and what was spent on it, in a run and on a ticket. The day is written down only where
    /// something is charged.
    pub(crate) fn spendings(
        &self,
        ticket: Option<&TicketId>,
        run: &RunId,
        now: &ClockReading,
    ) -> Result<Charged, StoreError> {
        self.read(|txn| {
            let (_, today) = DayClock::look(txn.day_clock()?.as_ref(), now);
            let spent = txn.spendings(ticket, run, &today.day)?;
            Ok(Charged { spent, today })
        })
    }

    /// What was spent on each ticket, ever.
    pub(crate) fn spend_of_tickets(&self) -> Result<BTreeMap<TicketId, Spend>, StoreError> {
        self.read(|txn| {
            let sql = "SELECT ticket, TOTAL(input_tokens), TOTAL(output_tokens), TOTAL(cost_usd),
                         TOTAL(unpriced_tokens), TOTAL(time_ms) FROM spend WHERE ticket != '' GROUP BY ticket";
            let rows = txn.rows(sql, [], |row| Ok((row.get::<_, String>(0)?, spend_of(row, 1)?)))?;
            Ok(rows.into_iter().filter_map(|(ticket, spend)| Some((ticket.parse().ok()?, spend))).collect())
        })
    }

    /// The rows from a day on, oldest first.
    pub(crate) fn spend_since(&self, first: &Day) -> Result<Vec<SpendRow>, StoreError> {
        self.read(|txn| {
            let sql = "SELECT day, run, ticket, worker, attempt, agent, model, input_tokens, output_tokens, cost_usd,
                         unpriced_tokens, time_ms, estimated_tokens, node
                       FROM spend WHERE day >= ?1 ORDER BY day, first_at, account, run, attempt, model";
            txn.rows(sql, [first.as_str()], |row| {
                Ok(SpendRow {
                    day: Day::stored(row.get(0)?),
                    run: row.get(1)?,
                    ticket: row.get(2)?,
                    worker: row.get(3)?,
                    attempt: row.get(4)?,
                    agent: row.get(5)?,
                    model: row.get(6)?,
                    spend: spend_of(row, 7)?,
                    estimated_tokens: unsigned(row.get(12)?),
                    node: row.get(13)?,
                })
            })
        })
    }
}

impl Txn<'_> {
    /// The clock of days as it was left.
    fn day_clock(&self) -> Result<Option<DayClock>, StoreError> {
        let text: Option<String> = self.row("SELECT value FROM meta WHERE key = ?1", [DAY_CLOCK], |row| row.get(0))?;
        // One that cannot be read is begun anew.
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Looks at the clocks and remembers what they said.
    fn look_at_day(&self, now: &ClockReading) -> Result<Today, StoreError> {
        let (clock, today) = DayClock::look(self.day_clock()?.as_ref(), now);
        let text = super::event::document("clock", DAY_CLOCK, &clock)?;
        self.run(
            "INSERT INTO meta(key, value) VALUES(?1, ?2) ON CONFLICT DO UPDATE SET value = ?2",
            params![DAY_CLOCK, text],
        )?;
        Ok(today)
    }

    /// Charges what goes beyond the account.
    fn charge(&self, charge: &Charge<'_>, day: &Day, at: Time) -> Result<(), StoreError> {
        let sql = "SELECT TOTAL(input_tokens), TOTAL(output_tokens), TOTAL(cost_usd), TOTAL(unpriced_tokens), 0
                   FROM spend WHERE account = ?1";
        let known = self.row(sql, [charge.account], |row| spend_of(row, 0))?.unwrap_or_default();
        let new = added(&known, charge.counted);
        if let Some(Counted { cost_usd: Some(_), .. }) = charge.counted {
            self.note_spend_of(charge.account)?;
            self.run(
                "UPDATE spend SET unpriced_tokens = 0 WHERE account = ?1 AND unpriced_tokens > 0",
                [charge.account],
            )?;
        }
        if new == Spend::default() && charge.worked.is_zero() {
            return Ok(());
        }
        let estimated = charge.counted.filter(|counted| counted.is_estimated).map_or(0, |_| new.tokens());
        let sql = "INSERT INTO spend(account, day, run, model, ticket, worker, attempt, agent, role, input_tokens,
                     output_tokens, cost_usd, unpriced_tokens, estimated_tokens, time_ms, first_at, last_at)
                   VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?16)
                   ON CONFLICT DO UPDATE SET input_tokens = input_tokens + ?10, output_tokens = output_tokens + ?11,
                     cost_usd = cost_usd + ?12, unpriced_tokens = unpriced_tokens + ?13,
                     estimated_tokens = estimated_tokens + ?14, time_ms = time_ms + ?15, last_at = ?16";
        self.run(
            sql,
            params![
                charge.account,
                day.as_str(),
                charge.run.as_str(),
                charge.model,
                charge.ticket.map_or("", TicketId::as_str),
                charge.worker.map_or("", WorkerId::as_str),
                charge.attempt,
                charge.agent.as_str(),
                charge.role.as_str(),
                signed(new.input_tokens),
                signed(new.output_tokens),
                new.cost_usd,
                signed(new.unpriced_tokens),
                signed(estimated),
                signed(u64::try_from(charge.worked.as_millis()).unwrap_or(u64::MAX)),
                at.as_millis(),
            ],
        )?;
        self.note_spend(day, charge.ticket.map_or("", TicketId::as_str))
    }

    /// What was spent on a ticket, in a run and on a day.
    fn spendings(&self, ticket: Option<&TicketId>, run: &RunId, day: &Day) -> Result<Spendings, StoreError> {
        let sum =
            |sql, key: &str| Ok::<_, StoreError>(self.row(sql, [key], |row| spend_of(row, 0))?.unwrap_or_default());
        let ticket = ticket.map(|ticket| sum(BY_TICKET, ticket.as_str())).transpose()?.unwrap_or_default();
        Ok(Spendings { ticket, run: sum(BY_RUN, run.as_str())?, day: sum(BY_DAY, day.as_str())? })
    }
}

/// Sums of a ticket, a run, a day.
const BY_TICKET: &str = "SELECT TOTAL(input_tokens), TOTAL(output_tokens), TOTAL(cost_usd), TOTAL(unpriced_tokens),
  TOTAL(time_ms) FROM spend WHERE ticket = ?1";
const BY_RUN: &str = "SELECT TOTAL(input_tokens), TOTAL(output_tokens), TOTAL(cost_usd), TOTAL(unpriced_tokens),
  TOTAL(time_ms) FROM spend WHERE run = ?1";
const BY_DAY: &str = "SELECT TOTAL(input_tokens), TOTAL(output_tokens), TOTAL(cost_usd), TOTAL(unpriced_tokens),
  TOTAL(time_ms) FROM spend WHERE day = ?1";

/// What of a counter is not in its account yet.
fn added(known: &Spend, counted: Option<Counted>) -> Spend {
    let Some(counted) = counted else { return Spend::default() };
    let input_tokens = counted.input_tokens.saturating_sub(known.input_tokens);
    let output_tokens = counted.output_tokens.saturating_sub(known.output_tokens);
    let cost_usd =
        counted.cost_usd.filter(|cost| cost.is_finite()).map_or(0.0, |cost| (cost - known.cost_usd).max(0.0));
    let unpriced_tokens = if counted.cost_usd.is_none() { input_tokens + output_tokens } else { 0 };
    // Sums of small amounts are never exact, and a rest of them is not worth a row.
    let cost_usd = if cost_usd < 1e-9 { 0.0 } else { cost_usd };
    Spend { input_tokens, output_tokens, cost_usd, unpriced_tokens, time: Duration::ZERO }
}

/// Five columns as what was spent. Sums are floating-point numbers: they cannot overflow, and are exact to 2^53.
pub(super) fn spend_of(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Spend> {
    let number = |index: usize| -> rusqlite::Result<f64> {
        Ok(match row.get_ref(first + index)? {
            rusqlite::types::ValueRef::Integer(number) => number as f64,
            rusqlite::types::ValueRef::Real(number) => number,
            _ => 0.0,
        })
    };
    Ok(Spend {
        input_tokens: number(0)? as u64,
        output_tokens: number(1)? as u64,
        cost_usd: number(2)?,
        unpriced_tokens: number(3)? as u64,
        time: Duration::from_millis(number(4)? as u64),
    })
}

/// A count as SQLite has it.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count as we have it.
pub(super) fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::day::testing::reading;
    use crate::model::settings::Durability;
    use crate::store::StatePaths;

    /// A store in a folder of its own.
    struct Ledger {
        store: Store,
        paths: StatePaths,
        run: RunId,
        _folder: tempfile::TempDir,
    }

    impl Ledger {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let paths = StatePaths::new(folder.path());
            let store = Store::open(&paths, Durability::Normal).unwrap();
            Self { store, paths, run: RunId::random(), _folder: folder }
        }

        fn charge(&self, account: &str, counted: Option<(u64, Option<f64>)>, worked: u64, hour: f64) -> Spendings {
            self.charge_at(account, counted, worked, &reading("a", hour, hour)).spent
        }

        fn charge_at(
            &self,
            account: &str,
            counted: Option<(u64, Option<f64>)>,
            worked: u64,
            now: &ClockReading,
        ) -> Charged {
            let counted =
                counted.map(|(input_tokens, cost_usd)| Counted { input_tokens, cost_usd, ..Counted::default() });
            let (ticket, worker) = ("fix".parse().unwrap(), "fix".parse().unwrap());
            let charge = Charge {
                account,
                role: Role::Worker,
                run: &self.run,
                ticket: Some(&ticket),
                worker: Some(&worker),
                attempt: 1,
                agent: &"a".parse().unwrap(),
                model: "m",
                counted,
                worked: Duration::from_secs(worked),
            };
            self.store.charge(&charge, now).unwrap()
        }
    }

    #[test]
    fn what_a_counter_told_before_is_not_charged_again() {
        let mut ledger = Ledger::new();
        ledger.charge("s1", Some((100, Some(0.1))), 0, 1.0);
        ledger.charge("s1", Some((100, Some(0.1))), 0, 1.1);
        // A process that was killed and its successor read the same conversation.
        ledger.store = Store::open(&ledger.paths, Durability::Normal).unwrap();
        let spent = ledger.charge("s1", Some((150, Some(0.25))), 0, 1.2);
        assert_eq!((spent.ticket.input_tokens, spent.ticket.cost_usd), (150, 0.25));
        // A counter of its own begins at nothing; one that falls takes nothing back.
        ledger.charge("s2", Some((30, Some(0.5))), 0, 1.3);
        let spent = ledger.charge("s1", Some((10, Some(0.1))), 0, 1.4);
        assert_eq!((spent.run.input_tokens, spent.run.cost_usd), (180, 0.75));
        assert_eq!(ledger.store.spend_since(&Day::parse("2026-11-01").unwrap()).unwrap().len(), 2);
    }

    #[test]
    fn work_after_midnight_belongs_to_the_next_day() {
        let ledger = Ledger::new();
        ledger.charge("s1", Some((100, None)), 60, 23.0);
        let spent = ledger.charge("s1", Some((130, None)), 60, 25.0);
        assert_eq!((spent.day.input_tokens, spent.ticket.input_tokens), (30, 130));
        assert_eq!((spent.day.time.as_secs(), spent.ticket.time.as_secs()), (60, 120));
        let rows = ledger.store.spend_since(&Day::parse("2026-11-22").unwrap()).unwrap();
        assert_eq!(
            rows.iter().map(|row| (row.day.as_str(), row.spend.input_tokens)).collect::<Vec<_>>(),
            [("2026-11-22", 30)]
        );
    }

    #[test]
    fn a_clock_that_jumps_gives_no_new_budget() {
        let ledger = Ledger::new();
        ledger.charge("s1", Some((100, None)), 0, 10.0);
        let jumped = ledger.charge_at("s1", Some((120, None)), 0, &reading("a", 35.0, 10.1));
        assert_eq!(jumped.spent.day.input_tokens, 120);
        assert!(jumped.today.jump.unwrap().contains("2026-11-22"));
        let back = ledger.charge_at("s1", Some((130, None)), 0, &reading("a", -20.0, 10.2));
        assert_eq!((back.spent.day.input_tokens, back.today.day.as_str()), (130, "2026-11-21"));
        assert_eq!(
            ledger.store.spendings(None, &ledger.run, &reading("a", 60.0, 10.3)).unwrap().spent.day.input_tokens,
            130
        );
    }

    #[test]
    fn a_price_that_is_not_known_is_unknown_and_not_nothing() {
        let ledger = Ledger::new();
        let spent = ledger.charge("s1", Some((100, None)), 0, 1.0);
        assert_eq!((spent.day.unpriced_tokens, spent.day.cost_usd), (100, 0.0));
        // Money that is told later covers what was told before it.
        let spent = ledger.charge("s1", Some((150, Some(0.3))), 0, 1.1);
        assert_eq!((spent.day.unpriced_tokens, spent.day.cost_usd), (0, 0.3));
        let spent = ledger.charge("s1", Some((170, None)), 0, 1.2);
        assert_eq!((spent.day.unpriced_tokens, spent.day.tokens()), (20, 170));
    }

    #[test]
    fn agents_that_tell_nothing_cost_time() {
        let ledger = Ledger::new();
        ledger.charge("p1", None, 30, 1.0);
        let spent = ledger.charge("p1", None, 12, 1.1);
        assert_eq!((spent.day.time.as_secs(), spent.day.tokens()), (42, 0));
        ledger.charge("p2", None, 0, 1.2);
        assert_eq!(ledger.store.spend_since(&Day::parse("2026-11-01").unwrap()).unwrap().len(), 1);
    }
}
