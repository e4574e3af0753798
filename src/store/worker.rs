//! Workers and their port blocks.

use rusqlite::params;

use super::event::{document, parse};
use super::{Store, StoreError, Txn};
use crate::model::WorkerId;
use crate::model::settings::PortSettings;
use crate::model::worker::{Phase, Worker};

impl Store {
    /// One worker; `None` when it was never spawned.
    pub(crate) fn worker(&self, id: &WorkerId) -> Result<Option<Worker>, StoreError> {
        self.read(|txn| txn.worker(id))
    }

    /// All workers ever spawned, released ones included, in the order of their first spawn.
    pub(crate) fn workers(&self) -> Result<Vec<Worker>, StoreError> {
        self.read(|txn| {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
            let rows = txn.rows("SELECT id, document FROM workers ORDER BY row", [], read)?;
            rows.iter().map(|(id, text)| parse("worker", id, text)).collect()
        })
    }

    /// Stores a worker, new or known. Its ports are free again when it is released.
    pub(crate) fn put_worker(&self, worker: &Worker) -> Result<(), StoreError> {
        self.write(|txn| txn.put_worker(worker))
    }

    /// Changes a known worker in one transaction, so that no other process's change is lost; answers it as stored.
    ///
    /// `change` must not call the store. An error of it stores nothing.
    ///
    /// # Errors
    /// [`StoreError::NoWorker`] when the id is unknown.
    pub(crate) fn update_worker<E: From<StoreError>>(
        &self,
        id: &WorkerId,
        change: impl FnOnce(&mut Worker) -> Result<(), E>,
    ) -> Result<Worker, E> {
        self.write(|txn| {
            let mut worker = txn.worker(id)?.ok_or_else(|| StoreError::NoWorker(id.clone()))?;
            change(&mut worker)?;
            txn.put_worker(&worker)?;
            Ok(worker)
        })
    }

    /// Forgets a worker whose spawn was undone, and frees its ports. Its folder stays.
    pub(crate) fn forget_worker(&self, worker: &WorkerId) -> Result<(), StoreError> {
        self.write(|txn| {
            txn.free_ports(worker)?;
            txn.run("DELETE FROM workers WHERE id = ?1", [worker.as_str()]).map(|_| ())
        })
    }

    /// Gives `worker` a block of `ports.size` ports that no other unreleased worker has; answers its first port.
    ///
    /// A worker that has a block of that size keeps it. The lowest free block from `ports.base` up is taken, without
    /// looking whether something else listens there: a caller that found so asks again with that block's first port
    /// in `refused`. A size of 0 takes nothing and answers 0.
    ///
    /// # Errors
    /// [`StoreError::NoPorts`] when no block is left below 65,536.
    pub(crate) fn take_ports(
        &self,
        worker: &WorkerId,
        ports: PortSettings,
        refused: &[u16],
    ) -> Result<u16, StoreError> {
        if ports.size == 0 {
            return Ok(0);
        }
        self.write(|txn| txn.take_ports(worker, ports, refused))
    }
}

impl Store {
    /// Workers that have a block of ports although they are gone: released, or never written down.
    pub(crate) fn stale_ports(&self) -> Result<Vec<WorkerId>, StoreError> {
        self.read(|txn| {
            let sql = "SELECT p.worker FROM ports p LEFT JOIN workers w ON w.id = p.worker
                       WHERE w.id IS NULL OR w.phase = 'released' ORDER BY p.first";
            let ids = txn.rows(sql, [], |row| row.get::<_, String>(0))?;
            Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
        })
    }

    /// Frees the ports of a worker that is gone; those of any other stay.
    pub(crate) fn free_stale_ports(&self, worker: &WorkerId) -> Result<(), StoreError> {
        self.write(|txn| {
            let sql = "DELETE FROM ports WHERE worker = ?1
                       AND NOT EXISTS(SELECT 1 FROM workers WHERE id = ?1 AND phase <> 'released')";
            txn.run(sql, [worker.as_str()]).map(|_| ())
        })
    }
}

impl Txn<'_> {
    /// One worker.
    fn worker(&self, id: &WorkerId) -> Result<Option<Worker>, StoreError> {
        let sql = "SELECT document FROM workers WHERE id = ?1";
        let text: Option<String> = self.row(sql, [id.as_str()], |row| row.get(0))?;
        text.map(|text| parse("worker", id.as_str(), &text)).transpose()
    }

    /// Stores a worker.
    fn put_worker(&self, worker: &Worker) -> Result<(), StoreError> {
        let text = document("worker", worker.id.as_str(), worker)?;
        let phase = match worker.phase {
            Phase::Preparing { .. } => "preparing",
            Phase::Supervised { .. } => "supervised",
            Phase::Ended { .. } => "ended",
            Phase::Released { .. } => "released",
        };
        let sql = "INSERT INTO workers(id, ticket, phase, document) VALUES(?1, ?2, ?3, ?4)
                   ON CONFLICT(id) DO UPDATE SET ticket = ?2, phase = ?3, document = ?4";
        self.run(sql, params![worker.id.as_str(), worker.ticket.as_str(), phase, text])?;
        if matches!(worker.phase, Phase::Released { .. }) {
            self.free_ports(&worker.id)?;
        }
        Ok(())
    }

    /// The body of [`Store::take_ports`].
    fn take_ports(&self, worker: &WorkerId, ports: PortSettings, refused: &[u16]) -> Result<u16, StoreError> {
        let read =
            |row: &rusqlite::Row<'_>| Ok((row.get::<_, u32>(0)?, row.get::<_, u32>(1)?, row.get::<_, String>(2)?));
        let mut taken = self.rows("SELECT first, size, worker FROM ports ORDER BY first", [], read)?;
        let own = |(_, _, holder): &(u32, u32, String)| holder == worker.as_str();
        let usable = |first: u32| !refused.iter().any(|refused| u32::from(*refused) == first);
        if let Some((first, size, _)) = taken.iter().find(|block| own(block))
            && *size == u32::from(ports.size)
            && usable(*first)
            && let Ok(first) = u16::try_from(*first)
        {
            return Ok(first);
        }
        taken.retain(|block| !own(block));
        let size = u32::from(ports.size);
        let free = |first: u32| !taken.iter().any(|(other, length, _)| first < other + length && *other < first + size);
        let blocks = (u32::from(ports.base)..=65_536 - size.min(65_536)).step_by(usize::from(ports.size));
        let first = blocks.into_iter().find(|first| usable(*first) && free(*first));
        let first = first.and_then(|first| u16::try_from(first).ok());
        let first = first.ok_or(StoreError::NoPorts { base: ports.base, size: ports.size })?;
        let sql = "INSERT INTO ports(first, size, worker) VALUES(?1, ?2, ?3)
                   ON CONFLICT(worker) DO UPDATE SET first = ?1, size = ?2";
        self.run(sql, params![first, ports.size, worker.as_str()])?;
        Ok(first)
    }

    /// Frees the worker's ports.
    fn free_ports(&self, worker: &WorkerId) -> Result<(), StoreError> {
        self.run("DELETE FROM ports WHERE worker = ?1", [worker.as_str()]).map(|_| ())
    }
}
