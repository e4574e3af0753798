//! The coordinator's lease: who leads acts, everybody else stands by. Whoever lost it without noticing (it was stopped, or
//! the machine slept) notices before its next act, because each act renews it first.
//!
//! Whoever leads also holds a file lock with the number of its lease in the name, which the system lets go when the process
//! ends, however it ends. So one that was killed is followed within a moment on the same machine, and after the time of its
//! lease everywhere else. A leader that is only stopped keeps its lock.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::files::{self, FileLock};
use crate::model::error_text;
use crate::queue::{Lead, LeadRequest, Leader, Queue, QueueError, Renewed};
use crate::store::StatePaths;

/// How long the lease lasts unless renewed: a leader that was killed is missed after that.
pub(crate) const LEASE: Duration = Duration::from_secs(4);
/// How often it is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// A renewal that is younger than this still counts when something is to be done.
const IS_FRESH: Duration = Duration::from_millis(200);

/// How long the lock of a leader may be held by somebody who only looks at it.
const LOCK_WITHIN: Duration = Duration::from_millis(200);
/// How long the lock of a leader has to be free until it counts as gone: what it had begun as it was killed, such as a
/// supervisor, is itself by then.
const IS_GONE_AFTER: Duration = Duration::from_millis(500);

/// The lease of one process.
pub(super) struct Lease {
    queue: Arc<dyn Queue>,
    /// The role.
    role: String,
    /// This process, for people.
    holder: String,
    /// What it holds.
    held: Option<Leader>,
    /// When that was last heard, by a clock that nobody sets.
    renewed_at: Instant,
    paths: StatePaths,
    /// Proves that this leader lives.
    alive: Option<FileLock>,
    /// The lease whose lock was seen free, and since when.
    gone: Option<(u64, Instant)>,
}

/// Where a process stands in the role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Leading {
    /// It has led before.
    Leads,
    /// It leads from now on.
    Began(Leader),
    /// It led, and somebody took the role meanwhile.
    Lost(Leader),
    /// Somebody else leads.
    StandsBy(Leader),
}

impl Lease {
    /// No lease yet.
    pub(super) fn new(queue: Arc<dyn Queue>, role: String, holder: String, paths: StatePaths) -> Self {
        Self { queue, role, holder, held: None, renewed_at: Instant::now(), paths, alive: None, gone: None }
    }

    /// Takes, keeps or notices the loss of the lease.
    pub(super) fn keep(&mut self) -> Result<Leading, QueueError> {
        self.keep_for(RENEW_EVERY)
    }

    /// The same right before an act, for which what was heard a second ago is too old.
    pub(super) fn confirm(&mut self) -> Result<Leading, QueueError> {
        self.keep_for(IS_FRESH)
    }

    /// The same with a renewal that may be `old` at most.
    fn keep_for(&mut self, old: Duration) -> Result<Leading, QueueError> {
        if let Some(held) = &self.held {
            if self.renewed_at.elapsed() < old {
                return Ok(Leading::Leads);
            }
            let asked_at = Instant::now();
            return match self.queue.renew_lead(&self.role, held.fence, LEASE)? {
                Renewed::Held { .. } => {
                    self.renewed_at = asked_at;
                    Ok(Leading::Leads)
                }
                Renewed::Lost => {
                    let lost = held.clone();
                    self.held = None;
                    self.let_go(lost.fence);
                    Ok(Leading::Lost(lost))
                }
            };
        }
        let role = self.role.clone();
        let request = LeadRequest { role, holder: self.holder.clone(), lease: LEASE };
        let mut asked_at = Instant::now();
        let mut lead = self.queue.leader_lease(&request)?;
        if let Lead::Held(leader) = &lead
            && self.is_gone(leader.fence)
        {
            asked_at = Instant::now();
            lead = self.queue.succeed(&request, leader.fence)?;
        }
        match lead {
            Lead::Taken(leader) => {
                self.renewed_at = asked_at;
                self.hold(leader.fence);
                self.held = Some(leader.clone());
                Ok(Leading::Began(leader))
            }
            Lead::Held(leader) => Ok(Leading::StandsBy(leader)),
        }
    }

    /// Gives the role up; what was held.
    pub(super) fn release(&mut self) -> Result<Option<Leader>, QueueError> {
        let Some(held) = self.held.take() else { return Ok(None) };
        self.queue.release_lead(&self.role, held.fence)?;
        self.let_go(held.fence);
        Ok(Some(held))
    }

    /// The role.
    pub(super) fn role(&self) -> &str {
        &self.role
    }

    /// Whether the leader seemed to be gone when it was looked at last.
    pub(super) fn misses_leader(&self) -> bool {
        self.gone.is_some()
    }

    /// The lock that the holder of a lease holds.
    fn lock_of(&self, fence: u64) -> PathBuf {
        // The role of a node has its name behind an `@`, and no other node has these locks.
        let role = self.role.split('@').next().unwrap_or_default();
        self.paths.lock(&format!("{role}-{fence}"))
    }

    /// Takes the lock of a lease, and removes that of the one before. Without it this leader is only missed later, and
    /// its file must not be there: it would say that the leader is gone.
    fn hold(&mut self, fence: u64) {
        self.gone = None;
        let path = self.lock_of(fence);
        self.alive = FileLock::take_within(&path, LOCK_WITHIN).unwrap_or_else(|error| {
            tracing::warn!(error = error_text(&error), "the coordinator's lock could not be taken");
            None
        });
        if self.alive.is_none() {
            self.remove(fence);
        }
        self.remove(fence - 1);
    }

    /// Lets the lock of a lease go.
    fn let_go(&mut self, fence: u64) {
        self.remove(fence);
        self.alive = None;
    }

    /// Removes the file of a lock.
    fn remove(&self, fence: u64) {
        if let Err(error) = files::remove_if_exists(&self.lock_of(fence)) {
            tracing::warn!(error = error_text(&error), "a coordinator's lock could not be removed");
        }
    }

    /// Whether the process that had a lease is known to be gone: it had the lock, and nobody has it for a while. Where it
    /// never had the lock, as on another machine, nothing is known.
    fn is_gone(&mut self, fence: u64) -> bool {
        let path = self.lock_of(fence);
        if !path.exists() || FileLock::is_held(&path).unwrap_or(true) {
            self.gone = None;
            return false;
        }
        match self.gone {
            Some((seen, since)) if seen == fence => since.elapsed() >= IS_GONE_AFTER,
            _ => {
                self.gone = Some((fence, Instant::now()));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::coordination::COORDINATOR;
    use crate::model::settings::Durability;
    use crate::queue::FileQueue;
    use crate::store::Store;

    /// A process that would lead.
    fn lease(folder: &std::path::Path, holder: &str) -> Lease {
        let paths = StatePaths::new(folder);
        let store = Arc::new(Store::open(&paths, Durability::Normal).unwrap());
        Lease::new(Arc::new(FileQueue::new(store, holder)), COORDINATOR.to_owned(), holder.to_owned(), paths)
    }

    /// Asks until the answer is another than to stand by; how long that took.
    fn await_lead(lease: &mut Lease) -> (Leading, Duration) {
        let begun = Instant::now();
        loop {
            match lease.keep().unwrap() {
                Leading::StandsBy(_) => std::thread::sleep(Duration::from_millis(10)),
                other => return (other, begun.elapsed()),
            }
        }
    }

    #[test]
    fn a_leader_that_is_gone_is_followed_before_its_lease_is_over_and_one_that_lives_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (mut one, mut other) = (lease(folder.path(), "one"), lease(folder.path(), "other"));
        assert!(matches!(one.keep().unwrap(), Leading::Began(_)));
        let begun = Instant::now();
        while begun.elapsed() < IS_GONE_AFTER * 3 {
            assert!(matches!(other.keep().unwrap(), Leading::StandsBy(_)));
            assert_eq!(one.keep().unwrap(), Leading::Leads);
            std::thread::sleep(Duration::from_millis(50));
        }
        // As a process that was killed: nothing is given up.
        drop(one);
        let (led, took) = await_lead(&mut other);
        assert!(matches!(led, Leading::Began(Leader { fence: 2, .. })), "{led:?}");
        assert!(took >= IS_GONE_AFTER && took < LEASE / 2, "{took:?}");
        let locks = std::fs::read_dir(StatePaths::new(folder.path()).lock("x").parent().unwrap()).unwrap();
        let names: Vec<_> = locks.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        assert_eq!(names.iter().filter(|name| name.starts_with("coordinator-")).count(), 1, "{names:?}");
    }

    #[test]
    fn a_leader_whose_lock_nobody_knows_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (mut one, mut other) = (lease(folder.path(), "one"), lease(folder.path(), "other"));
        assert!(matches!(one.keep().unwrap(), Leading::Began(_)));
        one.remove(1);
        drop(one);
        let (_, took) = await_lead(&mut other);
        assert!(took > LEASE / 2, "{took:?}");
    }

    #[test]
    fn who_only_looks_at_the_lock_of_a_leader_costs_it_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut one = lease(folder.path(), "one");
        let path = one.lock_of(1);
        drop(FileLock::wait(&path).unwrap());
        let looks = std::fs::File::open(&path).unwrap();
        looks.lock_shared().unwrap();
        let looker = std::thread::spawn(move || {
            std::thread::sleep(LOCK_WITHIN / 4);
            drop(looks);
        });
        assert!(matches!(one.keep().unwrap(), Leading::Began(Leader { fence: 1, .. })));
        looker.join().unwrap();
        assert!(FileLock::is_held(&path).unwrap());
    }

    #[test]
    fn a_leader_that_gives_up_is_followed_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (mut one, mut other) = (lease(folder.path(), "one"), lease(folder.path(), "other"));
        assert!(matches!(one.keep().unwrap(), Leading::Began(_)));
        assert!(one.release().unwrap().is_some());
        assert!(matches!(other.keep().unwrap(), Leading::Began(_)));
    }
}
