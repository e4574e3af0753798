//! What a coordinator keeps: who leads, which runs there were, and what is held and why.

use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::event::{document, parse};
use super::ticket::signed;
use super::{Store, StoreError, Txn};
use crate::model::Time;
use crate::model::coordination::{Hold, RunRecord};

/// Who has a role, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leadership {
    /// Who.
    pub(crate) holder: String,
    /// Proves the lease.
    pub(crate) fence: u64,
    /// When it ends unless renewed.
    pub(crate) lease_until: Time,
}

impl Txn<'_> {
    /// Who has or last had a role.
    pub(crate) fn leadership(&self, role: &str) -> Result<Option<Leadership>, StoreError> {
        let sql = "SELECT holder, fence, lease_until FROM leases WHERE role = ?1";
        self.row(sql, [role], |row| {
            let (holder, fence) = (row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs());
            Ok(Leadership { holder, fence, lease_until: Time::from_millis(row.get(2)?) })
        })
    }

    /// Who has or last had each role.
    pub(crate) fn leaderships(&self) -> Result<Vec<(String, Leadership)>, StoreError> {
        self.rows("SELECT role, holder, fence, lease_until FROM leases ORDER BY role", [], |row| {
            let (holder, fence) = (row.get(1)?, row.get::<_, i64>(2)?.unsigned_abs());
            Ok((row.get(0)?, Leadership { holder, fence, lease_until: Time::from_millis(row.get(3)?) }))
        })
    }

    /// Stores who has a role.
    pub(crate) fn put_leadership(&self, role: &str, who: &Leadership) -> Result<(), StoreError> {
        let sql = "INSERT INTO leases(role, holder, fence, lease_until) VALUES(?1, ?2, ?3, ?4)
                   ON CONFLICT(role) DO UPDATE SET holder = ?2, fence = ?3, lease_until = ?4";
        self.run(sql, params![role, who.holder, signed(who.fence), who.lease_until.as_millis()]).map(|_| ())
    }
}

impl Store {
    /// What is held and why, by ticket.
    pub(crate) fn holds(&self) -> Result<Vec<Hold>, StoreError> {
        self.read(|txn| {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
            let rows = txn.rows("SELECT ticket, document FROM holds ORDER BY ticket", [], read)?;
            rows.iter().map(|(ticket, text)| parse("hold", ticket, text)).collect()
        })
    }

    /// Stores what is held, in place of all that was stored before.
    pub(crate) fn set_holds(&self, holds: &[Hold]) -> Result<(), StoreError> {
        let documents: Vec<_> = holds
            .iter()
            .map(|hold| Ok((hold.ticket.as_str(), document("hold", hold.ticket.as_str(), hold)?)))
            .collect::<Result<_, StoreError>>()?;
        self.write(|txn| {
            txn.run("DELETE FROM holds", [])?;
            for (ticket, text) in &documents {
                txn.run("INSERT OR REPLACE INTO holds(ticket, document) VALUES(?1, ?2)", params![ticket, text])?;
            }
            Ok(())
        })
    }

    /// The newest run of this holder that has not ended; `None` where there is none.
    pub(crate) fn run_of(&self, holder: &str) -> Result<Option<RunRecord>, StoreError> {
        self.read(|txn| {
            let sql = "SELECT id, document FROM runs
                       WHERE json_extract(document, '$.holder') = ?1 AND json_extract(document, '$.ended') IS NULL
                       ORDER BY json_extract(document, '$.began_at') DESC LIMIT 1";
            let found = txn.row(sql, [holder], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
            found.map(|(id, text)| parse("run", &id, &text)).transpose()
        })
    }

    /// Stores a run of a coordinator, new or known.
    pub(crate) fn put_run_record(&self, run: &RunRecord) -> Result<(), StoreError> {
        let text = document("run", run.id.as_str(), run)?;
        self.write(|txn| {
            let sql = "INSERT INTO runs(id, document) VALUES(?1, ?2) ON CONFLICT(id) DO UPDATE SET document = ?2";
            txn.run(sql, params![run.id.as_str(), text]).map(|_| ())
        })
    }
}
