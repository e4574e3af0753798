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
/// The fact that says when they were.
const HEARD_AT: &str = "spend_heard_at";
/// The fact that tells this clone from every other one.
const CLONE: &str = "clone_id";

/// What is to be told of one ticket and day.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Untold {
    /// The day.
    pub(crate) day: Day,
    /// The ticket; empty for what is about none.
    pub(crate) ticket: String,
    /// How often it has changed.
    pub(crate) version: i64,
    /// What was spent.
    pub(crate) entries: Vec<SpendEntry>,
}

/// How far others were heard.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Heard {
    /// Names what they are heard in; a new one begins anew.
    pub(crate) stream: String,
    /// The number of the last message there.
    pub(crate) seq: u64,
}

impl Store {
    /// What tells this clone from every other one.
    pub(crate) fn clone_id(&self) -> Result<String, StoreError> {
        self.write(|txn| {
            if let Some(known) = txn.meta(CLONE)? {
                return Ok(known);
            }
            let new = uuid::Uuid::new_v4().to_string();
            txn.set_meta(CLONE, &new)?;
            Ok(new)
        })
    }

    /// What the others are to be told, oldest day first; each with what it is at this moment.
    pub(crate) fn untold_spend(&self) -> Result<Vec<Untold>, StoreError> {
        self.read(|txn| {
            let sql = "SELECT day, ticket, version FROM spend_told WHERE version > told ORDER BY day, ticket";
            let mut all = txn.rows(sql, [], |row| {
                let (day, ticket, version) = (Day::stored(row.get(0)?), row.get(1)?, row.get(2)?);
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
            txn.run(sql, params![untold.day.as_str(), untold.ticket, untold.version]).map(drop)
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

    /// Whether others are to be heard, because nobody here did for that long: says so to one at a time.
    pub(crate) fn hears_spend_after(&self, pause_ms: i64, now: Time) -> Result<bool, StoreError> {
        let is_due = |text: Option<String>| {
            let last = text.and_then(|text| text.parse::<i64>().ok());
            // A clock that went back says nothing.
            last.is_none_or(|last| !(0..pause_ms).contains(&(now.as_millis() - last)))
        };
        if !is_due(self.meta(HEARD_AT)?) {
            return Ok(false);
        }
        self.write(|txn| {
            let is_due = is_due(txn.meta(HEARD_AT)?);
            if is_due {
                txn.set_meta(HEARD_AT, &now.as_millis().to_string())?;
            }
            Ok(is_due)
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

    /// Puts what another clone spent on a ticket on a day in the place of what it told before.
    fn take_report(&self, report: &SpendReport) -> Result<(), StoreError> {
        let SpendReport { clone, node, day, .. } = report;
        let ticket = report.ticket.as_ref().map_or("", |ticket| ticket.as_str());
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
    struct Clone {
        store: Store,
        run: RunId,
        _folder: tempfile::TempDir,
    }

    impl Clone {
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
        let clone = Clone::new();
        clone.charge("s1", Some("fix"), 100, Some(0.5), 1.0);
        let hear = |reports: &[SpendReport], seq| {
            clone.store.hear_spend(reports, &Heard { stream: "s".to_owned(), seq }).unwrap();
        };
        hear(&[report("c1", Some("fix"), 10, 0.25), report("c2", Some("fix"), 1, 0.25)], 1);
        hear(&[report("c1", Some("fix"), 20, 0.5), report("c1", None, 1_000, 1.0)], 2);
        hear(&[report("c1", Some("fix"), 20, 0.5)], 3);
        let (ticket, day) = clone.spent("fix");
        assert_eq!((ticket.input_tokens, ticket.cost_usd), (121, 1.25));
        assert_eq!((day.input_tokens, day.cost_usd), (1_121, 2.25));
        assert_eq!(clone.store.spend_heard().unwrap(), Heard { stream: "s".to_owned(), seq: 3 });
        // The run's own budget is nobody else's, and no account here takes theirs for its own.
        clone.charge("s1", Some("fix"), 130, Some(0.5), 1.1);
        let run = clone.store.spendings(None, &clone.run, &reading("a", 1.0, 1.0)).unwrap().spent.run;
        assert_eq!(run.input_tokens, 130);
        let rows = clone.store.spend_since(&Day::parse("2026-11-21").unwrap()).unwrap();
        let nodes: Vec<_> = rows.iter().map(|row| (row.node.as_str(), row.ticket.as_str())).collect();
        assert_eq!(nodes.iter().filter(|(node, _)| *node == "far").count(), 3, "{nodes:?}");
        assert_eq!(clone.tell(), [line("21", "fix", 130)], "what others told is theirs to tell");
    }

    #[test]
    fn what_changed_is_told_until_it_is() {
        let clone = Clone::new();
        assert_eq!(clone.tell(), []);
        clone.charge("s1", Some("fix"), 100, None, 1.0);
        clone.charge("s2", Some("fix"), 10, None, 1.0);
        clone.charge("p", None, 5, Some(0.1), 1.0);
        clone.charge("s1", Some("fix"), 150, None, 25.0);
        let untold = clone.store.untold_spend().unwrap();
        clone.charge("s2", Some("fix"), 11, None, 25.0);
        untold.iter().for_each(|untold| clone.store.note_told(untold).unwrap());
        assert_eq!(clone.tell(), [line("22", "fix", 51)], "it changed after it was looked at");
        assert_eq!(clone.tell(), []);
        // Telling the same again changes nothing; a price that is known later does, also of the day before.
        clone.charge("s1", Some("fix"), 150, None, 25.0);
        assert_eq!(clone.tell(), []);
        clone.charge("s1", Some("fix"), 150, Some(0.3), 25.0);
        assert_eq!(clone.tell(), [line("21", "fix", 110), line("22", "fix", 51)]);
        // Who is new is told everything of late.
        clone.store.untell_spend(&Day::parse("2026-11-22").unwrap()).unwrap();
        assert_eq!(clone.tell(), [line("22", "fix", 51)]);
        clone.store.untell_spend(&Day::parse("2026-11-21").unwrap()).unwrap();
        assert_eq!(clone.tell(), [line("21", "", 5), line("21", "fix", 110), line("22", "fix", 51)]);
    }

    #[test]
    fn one_at_a_time_hears_and_not_all_the_time() {
        let clone = Clone::new();
        let hears = |at| clone.store.hears_spend_after(2_000, Time::from_millis(at)).unwrap();
        assert_eq!([10_000, 10_001, 11_999, 12_000, 12_001].map(hears), [true, false, false, true, false]);
        assert!(hears(5_000), "the clock was set back");
    }

    #[test]
    fn a_clone_keeps_its_name() {
        let (one, other) = (Clone::new(), Clone::new());
        let name = one.store.clone_id().unwrap();
        assert_eq!(one.store.clone_id().unwrap(), name);
        assert_ne!(other.store.clone_id().unwrap(), name);
    }
}
