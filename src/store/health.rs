//! Models that want to be left alone, and what was done about workers that did not go on.

use rusqlite::params;

use super::event::{document, parse};
use super::{Store, StoreError, Txn};
use crate::model::event::SwarmRecord;
use crate::model::health::{Care, Pace};
use crate::model::{Time, WorkerId};

impl Store {
    /// The models that asked for patience, over or not, by name.
    pub(crate) fn paces(&self) -> Result<Vec<Pace>, StoreError> {
        self.read(|txn| {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
            let rows = txn.rows("SELECT model, document FROM pacing ORDER BY model", [], read)?;
            rows.iter().map(|(model, text)| parse("pace", model, text)).collect()
        })
    }

    /// Stores what `refuse` makes of what was known of a model, with the fact that `told` makes of it where it has to wait
    /// longer than before.
    pub(crate) fn pace(
        &self,
        model: &str,
        refuse: impl FnOnce(Option<&Pace>) -> Pace,
        told: impl FnOnce(&Pace) -> SwarmRecord,
    ) -> Result<(), StoreError> {
        self.write(|txn| {
            let text: Option<String> =
                txn.row("SELECT document FROM pacing WHERE model = ?1", [model], |row| row.get(0))?;
            let before: Option<Pace> = text.map(|text| parse("pace", model, &text)).transpose()?;
            let pace = refuse(before.as_ref());
            let sql = "INSERT INTO pacing(model, document) VALUES(?1, ?2) ON CONFLICT DO UPDATE SET document = ?2";
            txn.run(sql, params![model, document("pace", model, &pace)?])?;
            if before.is_none_or(|before| before.until < pace.until) {
                txn.append_swarm_event(&told(&pace))?;
            }
            Ok(())
        })
    }

    /// Forgets that a model asked for patience, because it answers again: whatever it said, or with `asked_at` only what it
    /// said before it was asked for that answer. One that was being given when it refused somebody else proves nothing.
    pub(crate) fn end_pace(&self, model: &str, asked_at: Option<Time>) -> Result<(), StoreError> {
        // Mostly there is none, and looking takes no lock.
        let text: Option<String> =
            self.read(|txn| txn.row("SELECT document FROM pacing WHERE model = ?1", [model], |row| row.get(0)))?;
        let Some(text) = text else { return Ok(()) };
        let pace: Pace = parse("pace", model, &text)?;
        if asked_at.is_some_and(|asked_at| asked_at <= pace.at) {
            return Ok(());
        }
        self.write(|txn| txn.run("DELETE FROM pacing WHERE model = ?1 AND document = ?2", [model, &text]).map(|_| ()))
    }

    /// What was done about a worker; nothing where nothing had to be.
    #[cfg(test)]
    pub(crate) fn care(&self, worker: &WorkerId) -> Result<Care, StoreError> {
        self.read(|txn| txn.care(worker))
    }

    /// The same of all workers that something was done about.
    pub(crate) fn cares(&self) -> Result<Vec<(WorkerId, Care)>, StoreError> {
        self.read(|txn| {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
            let rows = txn.rows("SELECT worker, document FROM care ORDER BY worker", [], read)?;
            let known = rows.iter().filter_map(|(id, text)| Some((id.parse().ok()?, id, text)));
            known.map(|(worker, id, text)| Ok((worker, parse("care", id, text)?))).collect()
        })
    }

    /// Changes what is known of a worker; answers it as stored. `change` must not call the store.
    pub(crate) fn change_care(&self, worker: &WorkerId, change: impl FnOnce(&mut Care)) -> Result<Care, StoreError> {
        self.write(|txn| {
            let mut care = txn.care(worker)?;
            change(&mut care);
            let text = document("care", worker.as_str(), &care)?;
            let sql = "INSERT INTO care(worker, document) VALUES(?1, ?2) ON CONFLICT DO UPDATE SET document = ?2";
            txn.run(sql, params![worker.as_str(), text])?;
            Ok(care)
        })
    }

    /// Forgets it, because the worker ended well or begins anew.
    pub(crate) fn end_care(&self, worker: &WorkerId) -> Result<(), StoreError> {
        // Most never had any, and looking takes no lock.
        if self.read(|txn| txn.care(worker))? == Care::default() {
            return Ok(());
        }
        self.write(|txn| txn.run("DELETE FROM care WHERE worker = ?1", [worker.as_str()]).map(|_| ()))
    }
}

impl Txn<'_> {
    /// What was done about a worker.
    fn care(&self, worker: &WorkerId) -> Result<Care, StoreError> {
        let sql = "SELECT document FROM care WHERE worker = ?1";
        let text: Option<String> = self.row(sql, [worker.as_str()], |row| row.get(0))?;
        Ok(text.map(|text| parse("care", worker.as_str(), &text)).transpose()?.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::RunId;
    use crate::model::event::SwarmEvent;
    use crate::model::health::{BadEnd, Pacing};
    use crate::model::settings::Durability;
    use crate::store::StatePaths;

    #[test]
    fn a_pace_grows_until_the_model_answers_and_is_told_when_it_grows() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&StatePaths::new(folder.path()), Durability::Normal).unwrap();
        let refuse = |seconds: i64, wait: u64| {
            let wait = Some(Duration::from_secs(wait));
            let now = Time::from_millis(seconds * 1_000);
            let told = |pace: &Pace| {
                let Pace { model, why, until, .. } = pace.clone();
                SwarmRecord::now(&RunId::random(), SwarmEvent::Paced { model, why, until })
            };
            let made = |before: Option<&Pace>| Pace::after_refusal(before, "m", "429", wait, Pacing::default(), now);
            store.pace("m", made, told).unwrap();
            store.paces().unwrap().pop().unwrap()
        };
        assert_eq!(refuse(0, 60).strikes, 1);
        assert_eq!(refuse(1, 10).until, Time::from_millis(60_000));
        assert_eq!(refuse(61, 60).strikes, 2);
        let count = "SELECT count(*) FROM events WHERE kind = 'swarm'";
        let told: Option<i64> = store.read(|txn| txn.row(count, [], |row| row.get(0))).unwrap();
        assert_eq!(told, Some(2));
        let at = |seconds: i64| Some(Time::from_millis(seconds * 1_000));
        store.end_pace("m", at(61)).unwrap();
        assert_eq!(store.paces().unwrap().len(), 1, "somebody else was asking it already when it refused");
        store.end_pace("m", at(62)).unwrap();
        assert!(store.paces().unwrap().is_empty());
        refuse(200, 60);
        store.end_pace("m", None).unwrap();
        assert!(store.paces().unwrap().is_empty());
    }

    #[test]
    fn care_is_counted_on_by_whoever_opens_the_store_next() {
        let folder = tempfile::tempdir().unwrap();
        let paths = StatePaths::new(folder.path());
        let worker: WorkerId = "fix".parse().unwrap();
        let open = || Store::open(&paths, Durability::Normal).unwrap();
        let end = BadEnd { at: Time::from_millis(1), fence: 1, exit_code: Some(7), why: "exit code 7".to_owned() };
        open().change_care(&worker, |care| care.note_end(end.clone())).unwrap();
        let care = open().change_care(&worker, |care| care.restarts += 1).unwrap();
        assert_eq!((care.restarts, care.ends.as_slice()), (1, std::slice::from_ref(&end)));
        assert_eq!(open().cares().unwrap(), [(worker.clone(), care)]);
        open().end_care(&worker).unwrap();
        assert_eq!(open().care(&worker).unwrap(), Care::default());
    }
}
