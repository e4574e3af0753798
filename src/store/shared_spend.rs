//! The spend ledger of several clones: what this one has to tell the others, and what they told.
//!
//! What a clone spent on one ticket on one day is told as a whole, each time it changed, and what is told last replaces what
//! was told before: so it may be told, and heard, any number of times.

use rusqlite::params;

use super::spend::{signed, spend_of, unsigned};
use super::{Store, StoreError, Txn};
use crate::model::Time;
use crate::model::day::Day;
use crate::model::spend::{Role, SpendEntry, SpendReport};

/// The fact that says how far others were heard.
const HEARD: &str = "spend_heard";

/// What is to be told of one ticket and day.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Untold {
    /// The day.
    pub(crate) day: Day,
    /// The ticket; empty for what is about none.
    pub(crate) ticket: String,
    /// How often it has changed.
    pub(crate) version: u64,
    /// What was spent.
    pub(crate) entries: Vec<SpendEntry>,
}

/// How far others were heard.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Heard {
    /// Names what they are heard in; a new one begins anew, and so does everything before the first.
    pub(crate) stream: String,
    /// The number of the last message there.
    pub(crate) seq: u64,
    /// When they were heard.
    pub(crate) at: Option<Time>,
    /// When all of them were begun to be heard from the first message on.
    pub(crate) anew_at: Option<Time>,
}

impl Store {
    /// What the others are to be told, oldest day first; each with what it is at this moment.
    pub(crate) fn untold_spend(&self) -> Result<Vec<Untold>, StoreError> {
        self.read(|txn| {
            let sql = "SELECT day, ticket, version FROM spend_told WHERE version > told ORDER BY day, ticket";
            let mut all = txn.rows(sql, [], |row| {
                let (day, ticket, version) = (Day::stored(row.get(0)?), row.get(1)?, unsigned(row.get(2)?));
                Ok(Untold { day, ticket, version, entries: Vec::new() })
            })?;
            for untold in &mut all {
                untold.entries = txn.own_spend(&untold.day, &untold.ticket)?;
            }
            Ok(all)
        })
    }

    /// Notes that this was told; what changed since is to be told again.
    pub(crate) fn note_told(&self, untold: &Untold) -> Result<(), StoreError> {
        self.write(|txn| {
            let sql = "UPDATE spend_told SET told = MAX(told, ?3) WHERE day = ?1 AND ticket = ?2";
            txn.run(sql, params![untold.day.as_str(), untold.ticket, signed(untold.version)]).map(drop)
        })
    }

    /// Notes that all that this clone spent since that day is to be told, as far as it is known here.
    pub(crate) fn untell_spend(&self, since: &Day) -> Result<(), StoreError> {
        self.write(|txn| {
            let sql = "INSERT INTO spend_told(day, ticket, version, told)
                         SELECT DISTINCT day, ticket, 1, 0 FROM spend WHERE node = '' AND day >= ?1
                       ON CONFLICT DO UPDATE SET version = version + 1";
            txn.run(sql, [since.as_str()]).map(drop)
        })
    }

    /// How far others were heard; nothing before the first time.
    pub(crate) fn spend_heard(&self) -> Result<Heard, StoreError> {
        let text = self.meta(HEARD)?;
        // What cannot be read is heard again from the beginning.
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
    }

    /// Takes what others told over, and how far they are heard with it.
    pub(crate) fn hear_spend(&self, reports: &[SpendReport], heard: &Heard) -> Result<(), StoreError> {
        self.write(|txn| {
            for report in reports {
                txn.take_report(report)?;
            }
            txn.set_meta(HEARD, &super::event::document("place", HEARD, heard)?)
        })
    }
}

impl Txn<'_> {
    /// Notes that something was spent on a ticket on a day, which the others are to be told.
    pub(super) fn note_spend(&self, day: &Day, ticket: &str) -> Result<(), StoreError> {
        let sql = "INSERT INTO spend_told(day, ticket, version, told) VALUES(?1, ?2, 1, 0)
                   ON CONFLICT DO UPDATE SET version = version + 1";
        self.run(sql, [day.as_str(), ticket]).map(drop)
    }

    /// The same of what of an account has no price yet, and gets one.
    pub(super) fn note_spend_of(&self, account: &str) -> Result<(), StoreError> {
        let sql = "INSERT INTO spend_told(day, ticket, version, told)
                     SELECT DISTINCT day, ticket, 1, 0 FROM spend WHERE account = ?1 AND unpriced_tokens > 0
                   ON CONFLICT DO UPDATE SET version = version + 1";
        self.run(sql, [account]).map(drop)
    }

    /// What this clone spent on a ticket on a day, oldest first.
    fn own_spend(&self, day: &Day, ticket: &str) -> Result<Vec<SpendEntry>, StoreError> {
        let sql = "SELECT run, worker, attempt, agent, model, role, TOTAL(input_tokens), TOTAL(output_tokens),
                     TOTAL(cost_usd), TOTAL(unpriced_tokens), TOTAL(time_ms), MAX(0, SUM(estimated_tokens))
                   FROM spend WHERE day = ?1 AND ticket = ?2 AND node = ''
                   GROUP BY run, worker, attempt, agent, model, role ORDER BY MIN(first_at), run, worker, attempt, role";
        let rows = self.rows(sql, [day.as_str(), ticket], |row| {
            let (worker, agent): (String, String) = (row.get(1)?, row.get(3)?);
            let role: String = row.get(5)?;
            let spend = spend_of(row, 6)?;
            // Both were checked when they were written.
            let (Ok(agent), Some(role)) = (agent.parse(), Role::of(&role)) else { return Ok(None) };
            Ok(Some(SpendEntry {
                run: row.get(0)?,
                worker: worker.parse().ok(),
                attempt: row.get(2)?,
                agent,
                model: row.get(4)?,
                role,
                input_tokens: spend.input_tokens,
                output_tokens: spend.output_tokens,
                cost_usd: spend.cost_usd,
                unpriced_tokens: spend.unpriced_tokens,
                estimated_tokens: unsigned(row.get(11)?),
                time_ms: u64::try_from(spend.time.as_millis()).unwrap_or(u64::MAX),
            }))
        })?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// Puts what another clone spent on a ticket on a day in the place of what it told before; one that is late changes
    /// nothing.
    fn take_report(&self, report: &SpendReport) -> Result<(), StoreError> {
        let SpendReport { clone, node, day, .. } = report;
        let ticket = report.ticket.as_ref().map_or("", |ticket| ticket.as_str());
        let sql = "INSERT INTO spend_heard(report, version) VALUES(?1, ?2)
                   ON CONFLICT DO UPDATE SET version = ?2 WHERE version <= ?2";
        if self.run(sql, params![format!("{clone}/{day}/{ticket}"), signed(report.version)])? == 0 {
            return Ok(());
        }
        // No account of this clone begins like that, and `0` comes right after `/`.
        let (accounts, end) = (format!("@{clone}/{day}/{ticket}/"), format!("@{clone}/{day}/{ticket}0"));
        self.run("DELETE FROM spend WHERE account >= ?1 AND account < ?2", [&accounts, &end])?;
        let sql = "INSERT INTO spend(account, day, run, model, ticket, worker, attempt, agent, role, input_tokens,
                     output_tokens, cost_usd, unpriced_tokens, estimated_tokens, time_ms, first_at, last_at, node)
                   VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?16, ?17)";
        for (index, entry) in report.entries.iter().enumerate() {
            self.run(
                sql,
                params![
                    format!("{accounts}{index}"),
                    day.as_str(),
                    entry.run,
                    entry.model,
                    ticket,
                    entry.worker.as_ref().map_or("", |worker| worker.as_str()),
                    entry.attempt,
                    entry.agent.as_str(),
                    entry.role.as_str(),
                    signed(entry.input_tokens),
                    signed(entry.output_tokens),
                    entry.cost_usd,
                    signed(entry.unpriced_tokens),
                    signed(entry.estimated_tokens),
                    signed(entry.time_ms),
                    report.at.as_millis(),
                    node.as_str(),
                ],
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RunId;
    use crate::model::budget::Spend;
    use crate::model::day::testing::reading;
    use crate::model::settings::Durability;
    use crate::model::spend::testing::report;
    use crate::store::{Charge, Counted, StatePaths};

    /// A clone of its own, and its run.
    struct Machine {
        store: Store,
        run: RunId,
        _folder: tempfile::TempDir,
    }

    impl Machine {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(&StatePaths::new(folder.path()), Durability::Normal).unwrap();
            Self { store, run: RunId::random(), _folder: folder }
        }

        /// Charges what a counter stands at on the first day, or the one after.
        fn charge(&self, account: &str, ticket: Option<&str>, tokens: u64, cost_usd: Option<f64>, hour: f64) {
            let ticket = ticket.map(|ticket| ticket.parse().unwrap());
            let charge = Charge {
                account,
                role: Role::Worker,
                run: &self.run,
                ticket: ticket.as_ref(),
                worker: None,
                attempt: 1,
                agent: &"a".parse().unwrap(),
                model: "m",
                counted: Some(Counted { input_tokens: tokens, cost_usd, ..Counted::default() }),
                worked: std::time::Duration::ZERO,
            };
            self.store.charge(&charge, &reading("a", hour, hour)).unwrap();
        }

        /// What was spent on a ticket, and on the first day.
        fn spent(&self, ticket: &str) -> (Spend, Spend) {
            let ticket = ticket.parse().unwrap();
            let spent = self.store.spendings(Some(&ticket), &self.run, &reading("a", 1.0, 1.0)).unwrap().spent;
            (spent.ticket, spent.day)
        }

        /// What is to be told, and notes that it was.
        fn tell(&self) -> Vec<(String, String, u64)> {
            let untold = self.store.untold_spend().unwrap();
            untold.iter().for_each(|untold| self.store.note_told(untold).unwrap());
            let line = |untold: Untold| {
                let tokens = untold.entries.iter().map(|entry| entry.input_tokens).sum();
                (untold.day.to_string(), untold.ticket, tokens)
            };
            untold.into_iter().map(line).collect()
        }
    }

    fn line(day: &str, ticket: &str, tokens: u64) -> (String, String, u64) {
        (format!("2026-11-{day}"), ticket.to_owned(), tokens)
    }

    #[test]
    fn what_others_spent_counts_once_however_often_they_tell_it() {
        let here = Machine::new();
        here.charge("s1", Some("fix"), 100, Some(0.5), 1.0);
        let hear = |reports: &[SpendReport], seq| {
            here.store.hear_spend(reports, &Heard { seq, ..Heard::default() }).unwrap();
        };
        hear(&[report("c1", Some("fix"), 10, 0.25), report("c2", Some("fix"), 1, 0.25)], 1);
        hear(&[report("c1", Some("fix"), 20, 0.5), report("c1", None, 1_000, 1.0)], 2);
        hear(&[report("c1", Some("fix"), 20, 0.5)], 3);
        let (ticket, day) = here.spent("fix");
        assert_eq!((ticket.input_tokens, ticket.cost_usd), (121, 1.25));
        assert_eq!((day.input_tokens, day.cost_usd), (1_121, 2.25));
        assert_eq!(here.store.spend_heard().unwrap().seq, 3);
        // The run's own budget is nobody else's, and no account here takes theirs for its own.
        here.charge("s1", Some("fix"), 130, Some(0.5), 1.1);
        let run = here.store.spendings(None, &here.run, &reading("a", 1.0, 1.0)).unwrap().spent.run;
        assert_eq!(run.input_tokens, 130);
        let rows = here.store.spend_since(&Day::parse("2026-11-21").unwrap()).unwrap();
        let nodes: Vec<_> = rows.iter().map(|row| (row.node.as_str(), row.ticket.as_str())).collect();
        assert_eq!(nodes.iter().filter(|(node, _)| *node == "far").count(), 3, "{nodes:?}");
        assert_eq!(here.tell(), [line("21", "fix", 130)], "what others told is theirs to tell");
    }

    #[test]
    fn what_changed_is_told_until_it_is() {
        let here = Machine::new();
        assert_eq!(here.tell(), []);
        here.charge("s1", Some("fix"), 100, None, 1.0);
        here.charge("s2", Some("fix"), 10, None, 1.0);
        here.charge("p", None, 5, Some(0.1), 1.0);
        here.charge("s1", Some("fix"), 150, None, 25.0);
        let untold = here.store.untold_spend().unwrap();
        here.charge("s2", Some("fix"), 11, None, 25.0);
        untold.iter().for_each(|untold| here.store.note_told(untold).unwrap());
        assert_eq!(here.tell(), [line("22", "fix", 51)], "it changed after it was looked at");
        assert_eq!(here.tell(), []);
        // Telling the same again changes nothing; a price that is known later does, also of the day before.
        here.charge("s1", Some("fix"), 150, None, 25.0);
        assert_eq!(here.tell(), []);
        here.charge("s1", Some("fix"), 150, Some(0.3), 25.0);
        assert_eq!(here.tell(), [line("21", "fix", 110), line("22", "fix", 51)]);
        // Who is new is told everything of late.
        here.store.untell_spend(&Day::parse("2026-11-22").unwrap()).unwrap();
        assert_eq!(here.tell(), [line("22", "fix", 51)]);
        here.store.untell_spend(&Day::parse("2026-11-21").unwrap()).unwrap();
        assert_eq!(here.tell(), [line("21", "", 5), line("21", "fix", 110), line("22", "fix", 51)]);
    }

    #[test]
    fn a_report_that_comes_late_changes_nothing() {
        let here = Machine::new();
        let hear = |version, tokens| {
            let report = SpendReport { version, ..report("c1", Some("fix"), tokens, 0.0) };
            here.store.hear_spend(&[report], &Heard::default()).unwrap();
            here.spent("fix").0.input_tokens
        };
        assert_eq!([hear(6, 60), hear(5, 50), hear(6, 60), hear(7, 70)], [60, 60, 60, 70]);
    }
}
