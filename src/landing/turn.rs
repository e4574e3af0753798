//! Whose turn it is to land, and the end of what a dead process's turn left running.
//!
//! Everything that a landing starts, git calls, hooks and gates alike, carries the turn's token in its environment, and
//! the token is written down while the turn lasts. Who takes the next turn and finds a token there ends what carries
//! it, so that nothing of a dead landing goes on changing worktrees and refs beside a living one.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{LandEvent, Landing, LandingError};
use crate::files::{Access, FileLock, read_if_exists, remove_if_exists, sweep_half_written, write_atomically};
use crate::git::Repository;
use crate::process::{may_live, stop_marked};
use crate::store::StatePaths;

/// The variable that carries the token.
pub(super) const MARKER: &str = "SWARM_LANDING";
/// Time that leftovers of a dead turn get to end by themselves: git then takes its locks away.
const GRACE: Duration = Duration::from_secs(2);

/// How often one who waits for a turn looks whether it still wants it.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The turn of this process; over when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    /// Marks what is started in it.
    token: String,
    /// Where the token is written down.
    record: PathBuf,
    /// Says that this process lives.
    _lock: FileLock,
}

impl Turn {
    /// Writes a new token down after what the last turn left was ended.
    fn begin(paths: &StatePaths, lock: FileLock) -> Result<Self, LandingError> {
        let record = paths.lock("landing").with_extension("turn");
        if let Some(left) = read_if_exists(&record)? {
            stop_marked(MARKER, &String::from_utf8_lossy(&left), GRACE)?;
            sweep(paths)?;
        } else if let Some(folder) = record.parent() {
            // One that died as it wrote its token down left nothing else.
            sweep_half_written(folder, &may_live)?;
        }
        let token = uuid::Uuid::new_v4().to_string();
        write_atomically(&record, token.as_bytes(), Access::Private)?;
        Ok(Self { token, record, _lock: lock })
    }

    /// The repository with every call of the program marked.
    pub(super) fn marked(&self, repository: &Repository) -> Repository {
        repository.with_variable(MARKER, &self.token)
    }
}

/// Removes what the dead process was writing: in the git folders, whose index it locks, and in the state folder.
fn sweep(paths: &StatePaths) -> Result<(), LandingError> {
    let root = paths.root();
    let Some(common_dir) = root.parent() else { return Ok(()) };
    for folder in [common_dir, root, &root.join("moves"), &root.join("scratch"), &root.join("locks")] {
        sweep_half_written(folder, &may_live)?;
    }
    for parent in [common_dir.join("worktrees"), root.join("workers"), root.join("gates")] {
        for folder in std::fs::read_dir(&parent).into_iter().flatten().flatten() {
            sweep_half_written(&folder.path(), &may_live)?;
        }
    }
    Ok(())
}

impl Drop for Turn {
    fn drop(&mut self) {
        #[cfg(test)]
        if crate::git::crash::is_dead() {
            return;
        }
        // A token that stays costs the next turn a look at the processes and nothing else.
        remove_if_exists(&self.record).ok();
    }
}

impl Landing<'_> {
    /// Whether no process lands here now: then every ticket that is landing was left so by a dead one.
    pub(crate) fn is_idle(&self) -> Result<bool, LandingError> {
        Ok(!FileLock::is_held(&self.paths.lock("landing"))?)
    }

    /// Waits until no other process lands here, and ends what a dead one left running.
    pub(super) fn take_turn(&self, events: &mut dyn FnMut(LandEvent<'_>)) -> Result<Turn, LandingError> {
        let path = self.paths.lock("landing");
        let lock = match FileLock::try_take(&path)? {
            Some(lock) => lock,
            None => {
                events(LandEvent::WaitingForOthers);
                FileLock::wait(&path)?
            }
        };
        Turn::begin(self.paths, lock)
    }

    /// The same, but waits no longer than until somebody sets `ends`: then `None`.
    pub(super) fn take_turn_unless(
        &self,
        ends: &AtomicBool,
        events: &mut dyn FnMut(LandEvent<'_>),
    ) -> Result<Option<Turn>, LandingError> {
        let path = self.paths.lock("landing");
        let mut lock = FileLock::try_take(&path)?;
        if lock.is_none() {
            events(LandEvent::WaitingForOthers);
        }
        while lock.is_none() && !ends.load(Ordering::SeqCst) {
            lock = FileLock::take_within(&path, LOOK_EVERY)?;
        }
        lock.map(|lock| Turn::begin(self.paths, lock)).transpose()
    }
}
