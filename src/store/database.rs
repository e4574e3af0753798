//! Opening the database and running transactions on it.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{StatePaths, StoreError, filesystem, schema};
use crate::files::{FileError, FileLock};
use crate::model::settings::Durability;

/// SQLite waits this long for the write lock before it says that the database is busy. Its own back-off was
/// measured better than a tighter loop at hundreds of processes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// A busy database is asked this often before the operation fails: half a minute in all.
const BUSY_ROUNDS: u32 = 6;
/// The write-ahead log is cut back to this size when it begins anew, in bytes. A checkpoint needs a moment without
/// readers for that: eight processes in a tight loop on a busy machine let the log grow to 40-300 MB before one came.
/// A smaller limit only makes the file system free and allocate the same blocks again and again.
const LOG_SIZE_LIMIT: i64 = 64 * 1024 * 1024;
/// Pages that [`Store::keep_little`] leaves, of 4 kB: what one transaction of a supervisor touches.
const FEW_PAGES: u32 = 8;
/// Distinct statements kept prepared per connection; more than this crate has.
const STATEMENTS: usize = 64;

/// An open database. Threads share it by reference and take turns.
#[derive(Debug)]
pub(crate) struct Store {
    /// The one connection of this value.
    connection: Mutex<Connection>,
    /// The database file, for messages.
    path: PathBuf,
    /// What commits outside landing intents wait for.
    durability: Durability,
}

impl Store {
    /// Opens the state for reading and writing; makes it when missing, and brings an older format up to date.
    ///
    /// # Errors
    /// [`StoreError::Newer`], [`StoreError::Copied`] and [`StoreError::NetworkFileSystem`] before anything is changed.
    pub(crate) fn open(paths: &StatePaths, durability: Durability) -> Result<Self, StoreError> {
        make_root(paths.root())?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let store = Self::connect(paths, flags, durability)?;
        match store.version()? {
            found if found == schema::newest() => {}
            found if found > schema::newest() => return Err(store.newer(found)),
            _ => store.bring_up_to_date(paths)?,
        }
        store.settle(paths)?;
        store.set_synchronous(durability)?;
        Ok(store)
    }

    /// Opens the state for reading only; `None` when there is none yet. Cheaper than [`Store::open`] and makes
    /// nothing. An older format is brought up to date first, which does write, as does one that was moved.
    pub(crate) fn open_read_only(paths: &StatePaths) -> Result<Option<Self>, StoreError> {
        if !paths.db().exists() {
            return Ok(None);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let store = Self::connect(paths, flags, Durability::Normal)?;
        match store.version()? {
            found if found > schema::newest() => Err(store.newer(found)),
            found if found == schema::newest() && store.is_settled(paths)? => Ok(Some(store)),
            _ => {
                drop(store);
                Self::open(paths, Durability::Normal).map(Some)
            }
        }
    }

    /// Runs `body` in one write transaction: committed when it answers `Ok`, without effect otherwise.
    ///
    /// Waits up to half a minute for other writers. When it returns `Ok` the effect survives the end of any process.
    pub(crate) fn write<T, E: From<StoreError>>(&self, body: impl FnOnce(&Txn<'_>) -> Result<T, E>) -> Result<T, E> {
        let connection = self.lock();
        self.transact(&connection, "BEGIN IMMEDIATE", body)
    }

    /// Like [`Store::write`], and on the device when it returns, whatever the durability of the store.
    pub(crate) fn write_durably<T, E: From<StoreError>>(
        &self,
        body: impl FnOnce(&Txn<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let connection = self.lock();
        self.synchronous(&connection, Durability::Full)?;
        let answer = self.transact(&connection, "BEGIN IMMEDIATE", body);
        self.synchronous(&connection, self.durability)?;
        answer
    }

    /// Runs `body` on one unchanging view of the database. It never waits for writers and must not write.
    pub(crate) fn read<T, E: From<StoreError>>(&self, body: impl FnOnce(&Txn<'_>) -> Result<T, E>) -> Result<T, E> {
        let connection = self.lock();
        self.transact(&connection, "BEGIN DEFERRED", body)
    }

    /// A number that changes when another connection, of this process or another, committed something. It costs a
    /// few microseconds, so that waiting by polling is cheap. Writes through this same value do not change it.
    pub(crate) fn data_version(&self) -> Result<i64, StoreError> {
        let connection = self.lock();
        let read = || -> rusqlite::Result<i64> {
            connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
        };
        read().map_err(self.failed("read"))
    }

    /// What SQLite's own check finds wrong with the database, in its words; nothing is well. Reads every page.
    pub(crate) fn quick_check(&self) -> Result<Vec<String>, StoreError> {
        let connection = self.lock();
        let read = || -> rusqlite::Result<Vec<String>> {
            connection.prepare("PRAGMA quick_check(5)")?.query_map([], |row| row.get(0))?.collect()
        };
        let mut found = read().map_err(self.failed("check"))?;
        found.retain(|line| line != "ok");
        Ok(found)
    }

    /// A fact about the project as a whole.
    pub(crate) fn meta(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.read(|txn| txn.meta(key))
    }

    /// Stores a fact about the project as a whole.
    pub(crate) fn set_meta(&self, key: &str, value: &str) -> Result<(), StoreError> {
        self.write(|txn| txn.set_meta(key, value))
    }

    /// Connects and sets what does not touch the disk.
    pub(super) fn connect(paths: &StatePaths, flags: OpenFlags, durability: Durability) -> Result<Self, StoreError> {
        filesystem::refuse_network(paths.root())?;
        let path = paths.db();
        let failed = |source| StoreError::Database { attempt: "open the database", path: path.clone(), source };
        let connection = Connection::open_with_flags(&path, flags).map_err(failed)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(Self { connection: Mutex::new(connection), path, durability })
    }

    /// The database's format.
    fn version(&self) -> Result<u32, StoreError> {
        schema::version(&self.lock()).map_err(self.failed("open the database"))
    }

    /// The refusal of a format from the future.
    fn newer(&self, found: u32) -> StoreError {
        StoreError::Newer { path: self.path.clone(), found, known: schema::newest() }
    }

    /// Keeps only a few pages in memory from now on: for a process that asks little, among hundreds of its kind.
    pub(crate) fn keep_little(&self) -> Result<(), StoreError> {
        let pragmas = format!("PRAGMA cache_size = {FEW_PAGES}; PRAGMA shrink_memory");
        self.lock().execute_batch(&pragmas).map_err(self.failed("open the database"))
    }

    /// Makes or migrates the database, one process at a time: switching a new database to its write-ahead log is
    /// the one step that SQLite's own waiting does not cover.
    fn bring_up_to_date(&self, paths: &StatePaths) -> Result<(), StoreError> {
        let lock = FileLock::wait(&paths.lock("format"))?;
        let connection = self.lock();
        let work = || {
            let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
            debug_assert_eq!(mode, "wal");
            schema::migrate(&connection, schema::STEPS)
        };
        self.patiently(work).map_err(self.failed("prepare the database"))?;
        drop(lock);
        Ok(())
    }

    /// Sets what commits wait for on a fresh connection, with the other settings of a writer.
    fn set_synchronous(&self, durability: Durability) -> Result<(), StoreError> {
        let connection = self.lock();
        let limit = format!("PRAGMA journal_size_limit = {LOG_SIZE_LIMIT}; PRAGMA wal_autocheckpoint = 1000");
        connection.execute_batch(&limit).map_err(self.failed("open the database"))?;
        self.synchronous(&connection, durability)
    }

    /// Sets what commits wait for.
    fn synchronous(&self, connection: &Connection, durability: Durability) -> Result<(), StoreError> {
        let sql = match durability {
            Durability::Normal => "PRAGMA synchronous = NORMAL",
            Durability::Full => "PRAGMA synchronous = FULL",
        };
        connection.execute_batch(sql).map_err(self.failed("set up the database"))
    }

    /// Begins, runs and ends one transaction.
    fn transact<T, E: From<StoreError>>(
        &self,
        connection: &Connection,
        begin: &'static str,
        body: impl FnOnce(&Txn<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let run = |sql| -> rusqlite::Result<()> { connection.prepare_cached(sql)?.execute([]).map(|_| ()) };
        self.patiently(|| run(begin)).map_err(self.failed("begin a transaction on"))?;
        let txn = Txn { connection, path: &self.path };
        let answer = body(&txn)?;
        // A commit that finds the database busy leaves the transaction open and may be tried again.
        self.patiently(|| run("COMMIT")).map_err(self.failed("write to"))?;
        Ok(answer)
    }

    /// Tries again while the database is busy, each time after SQLite's own waiting.
    fn patiently(&self, mut step: impl FnMut() -> rusqlite::Result<()>) -> rusqlite::Result<()> {
        for _ in 1..BUSY_ROUNDS {
            match step() {
                Err(error) if is_busy(&error) => tracing::debug!(path = %self.path.display(), "the database is busy"),
                other => return other,
            }
        }
        step()
    }

    /// The connection; a panic of another user left no transaction behind.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An adapter for `map_err` that names the attempt and the database.
    fn failed(&self, attempt: &'static str) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        let path = self.path.clone();
        move |source| StoreError::Database { attempt, path: path.clone(), source }
    }
}

/// Whether the database was in somebody else's hands. `SQLITE_BUSY_SNAPSHOT` has the same primary code.
fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Makes the state folder, closed to other users: prompts and logs may hold secrets.
fn make_root(root: &Path) -> Result<(), StoreError> {
    if root.is_dir() {
        return Ok(());
    }
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root);
    made.map_err(FileError::on("make the folder", root)).map_err(StoreError::File)
}

/// A transaction in progress; rolled back unless its closure answers `Ok`.
#[derive(Debug)]
pub(crate) struct Txn<'a> {
    /// The store's connection.
    connection: &'a Connection,
    /// The database file, for messages.
    path: &'a Path,
}

impl Txn<'_> {
    /// A fact about the project as a whole.
    pub(crate) fn meta(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))
    }

    /// Stores a fact about the project as a whole.
    pub(crate) fn set_meta(&self, key: &str, value: &str) -> Result<(), StoreError> {
        let sql = "INSERT INTO meta(key, value) VALUES(?1, ?2) ON CONFLICT DO UPDATE SET value = ?2";
        self.run(sql, [key, value]).map(|_| ())
    }

    /// Forgets a fact about the project as a whole.
    pub(crate) fn forget_meta(&self, key: &str) -> Result<(), StoreError> {
        self.run("DELETE FROM meta WHERE key = ?1", [key]).map(|_| ())
    }

    /// Runs one statement that answers no rows; the number of rows it changed.
    pub(super) fn run(&self, sql: &'static str, params: impl rusqlite::Params) -> Result<usize, StoreError> {
        let run = || -> rusqlite::Result<usize> { self.connection.prepare_cached(sql)?.execute(params) };
        run().map_err(|source| self.failed("write to", source))
    }

    /// Runs one insert; the row id it made.
    pub(super) fn insert(&self, sql: &'static str, params: impl rusqlite::Params) -> Result<i64, StoreError> {
        self.run(sql, params)?;
        Ok(self.connection.last_insert_rowid())
    }

    /// All rows of one query.
    pub(super) fn rows<T>(
        &self,
        sql: &'static str,
        params: impl rusqlite::Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let run =
            || -> rusqlite::Result<Vec<T>> { self.connection.prepare_cached(sql)?.query_map(params, read)?.collect() };
        run().map_err(|source| self.failed("read", source))
    }

    /// The first row of one query.
    pub(super) fn row<T>(
        &self,
        sql: &'static str,
        params: impl rusqlite::Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        use rusqlite::OptionalExtension;
        let run = || -> rusqlite::Result<Option<T>> {
            self.connection.prepare_cached(sql)?.query_row(params, read).optional()
        };
        run().map_err(|source| self.failed("read", source))
    }

    /// Reads rows until `take` answers `false`.
    pub(super) fn scan(
        &self,
        sql: &'static str,
        params: impl rusqlite::Params,
        mut take: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<bool>,
    ) -> Result<(), StoreError> {
        let run = || -> rusqlite::Result<()> {
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query(params)?;
            while let Some(row) = rows.next()? {
                if !take(row)? {
                    break;
                }
            }
            Ok(())
        };
        run().map_err(|source| self.failed("read", source))
    }

    /// A failure on this database.
    fn failed(&self, attempt: &'static str, source: rusqlite::Error) -> StoreError {
        StoreError::Database { attempt, path: self.path.to_owned(), source }
    }
}

impl Drop for Txn<'_> {
    fn drop(&mut self) {
        // After a commit, and where SQLite rolled back by itself, nothing is open. A failing rollback leaves the
        // transaction to the next user, whose own begin then fails and says so.
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, path = %self.path.display(), "could not roll back");
        }
    }
}
