//! Gates of the next batch, run while those of the present one run, as if the present one would land.
//!
//! Nothing lands on a guess: all that a speculation leaves is the memory of gates that passed on a tree, and landing
//! asks that memory by the tree it really built. A right guess has that tree, and its gates do not run again; a wrong
//! one is ended with everything it started, and what it learned stays true of a tree that nobody asks for.
//!
//! It begins when the present gates have run for a moment, so that quick gates pay nothing for it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::gate::{ApprovedGates, Bench, Scratch, stop_run};
use super::land::{LandOptions, PrepareScratch, build_on};
use super::{Landing, LandingError};
use crate::git::{Built, Commit, Repository};
use crate::model::settings::Strategy;
use crate::model::worker::Worker;
use crate::model::{CommitId, Time};
use crate::store::StatePaths;

/// How often a guess that nobody waits for is looked at until it is gone, and one who waits whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Work that is expected in the next batch.
pub(super) struct Expected {
    /// The worker.
    pub(super) worker: Worker,
    /// The commit that was approved.
    pub(super) work: CommitId,
}

/// Gates of a guessed batch under way; ended with everything it started when dropped.
pub(super) struct Speculation {
    /// Ends the wait before the beginning.
    begin: Option<Sender<()>>,
    /// Says that nobody wants it any more.
    is_cancelled: Arc<AtomicBool>,
    /// Marks what its gates start.
    token: String,
    /// The tree that its gates run on, once it is built.
    trees: Receiver<String>,
    /// The thread.
    thread: Option<JoinHandle<()>>,
}

/// What the thread needs, all its own.
struct Guess {
    repository: Repository,
    paths: StatePaths,
    strategy: Strategy,
    gates: ApprovedGates,
    environment: Vec<(OsString, OsString)>,
    settings_env: BTreeMap<String, String>,
    gate_timeout: Duration,
    commit_timeout: Duration,
    prepare: Option<PrepareScratch>,
    /// What the present batch would make of the target.
    tip: CommitId,
    expected: Vec<Expected>,
    is_cancelled: Arc<AtomicBool>,
    token: String,
}

impl Speculation {
    /// Begins to test `expected` on `tip` after `delay`; `None` where there is nothing to test.
    pub(super) fn begin(
        landing: &Landing<'_>,
        options: &LandOptions<'_>,
        tip: &CommitId,
        expected: Vec<Expected>,
        delay: Duration,
    ) -> Result<Option<Self>, LandingError> {
        if expected.is_empty() || options.gates.gates().is_empty() {
            return Ok(None);
        }
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let token = uuid::Uuid::new_v4().to_string();
        let guess = Guess {
            repository: landing.repository.plain()?,
            paths: landing.paths.clone(),
            strategy: options.strategy,
            gates: options.gates.clone(),
            environment: options.environment.clone(),
            settings_env: options.settings_env.clone(),
            gate_timeout: options.gate_timeout,
            commit_timeout: options.commit_timeout,
            prepare: options.prepare.clone(),
            tip: tip.clone(),
            expected,
            is_cancelled: is_cancelled.clone(),
            token: token.clone(),
        };
        let (begin, wait) = channel::<()>();
        let (tell, trees) = channel();
        let thread = std::thread::spawn(move || {
            if matches!(wait.recv_timeout(delay), Err(RecvTimeoutError::Timeout)) {
                // What went wrong here goes wrong again where it counts, and is told there.
                guess.test(&tell).ok();
            }
        });
        Ok(Some(Self { begin: Some(begin), is_cancelled, token, trees, thread: Some(thread) }))
    }

    /// Waits for its gates when they run on `tree`, until somebody sets `ends`, and ends it otherwise. Afterwards the
    /// memory of passed gates holds what it found.
    pub(super) fn settle(mut self, tree: &str, ends: &AtomicBool) {
        if !self.trees.try_iter().any(|guessed| guessed == tree) {
            return;
        }
        while !ends.load(Ordering::SeqCst) {
            // The thread has nothing more to tell; it hangs up when it is through.
            if matches!(self.trees.recv_timeout(LOOK_EVERY), Err(RecvTimeoutError::Disconnected)) {
                self.thread.take().map(JoinHandle::join);
                return;
            }
        }
    }
}

impl Drop for Speculation {
    fn drop(&mut self) {
        self.is_cancelled.store(true, Ordering::SeqCst);
        self.begin.take();
        let Some(thread) = self.thread.take() else { return };
        // A gate may begin between a look and the next, so it is looked at until the thread is gone.
        while !thread.is_finished() {
            stop_run(&self.token).ok();
            std::thread::sleep(LOOK_EVERY);
        }
        stop_run(&self.token).ok();
        thread.join().ok();
    }
}

impl Guess {
    /// Builds the batch and runs its gates, to the first that fails.
    fn test(&self, tell: &Sender<String>) -> Result<(), LandingError> {
        let Some((top, commit, tree)) = self.build()? else { return Ok(()) };
        tell.send(tree.clone()).ok();
        let worker = &self.expected[top].worker;
        let bench = Bench {
            paths: &self.paths,
            tree: &tree,
            environment: &self.environment,
            settings_env: &self.settings_env,
            facts: super::land::gate_facts(&self.repository, worker, &commit, &self.tip),
            timeout: self.gate_timeout,
            token: self.token.clone(),
            is_cancelled: Some(&self.is_cancelled),
        };
        let mut scratch = None;
        for gate in self.gates.gates() {
            if self.is_cancelled.load(Ordering::SeqCst) {
                break;
            }
            if bench.remembered(gate)?.is_some() {
                continue;
            }
            if scratch.is_none() {
                scratch = Some(self.scratch(worker, &commit)?);
            }
            let scratch = scratch.as_mut().expect("it was made above");
            // A red one runs again where it counts, which is its second try.
            if !bench.run(gate, scratch, 0)?.passed {
                break;
            }
        }
        Ok(())
    }

    /// The batch as landing would stack it, as the last of it that fits, the commit and its tree.
    fn build(&self) -> Result<Option<(usize, CommitId, String)>, LandingError> {
        let message = format!("Speculation of {}", Time::now());
        let commit = Commit { message: &message, timeout: self.commit_timeout };
        let mut top: Option<(usize, CommitId, String)> = None;
        for (index, expected) in self.expected.iter().enumerate() {
            if self.is_cancelled.load(Ordering::SeqCst) {
                return Ok(None);
            }
            let below = top.as_ref().map_or(&self.tip, |(_, commit, _)| commit).clone();
            let work = (&expected.worker.place, &expected.work);
            match build_on(&self.repository, self.strategy, &below, work, &commit)? {
                Built::New { commit, tree } => top = Some((index, commit, tree)),
                Built::Nothing | Built::Behind | Built::Conflict { .. } => {}
            }
        }
        Ok(top)
    }

    /// A scratch worktree of the guessed commit.
    fn scratch(&self, worker: &Worker, commit: &CommitId) -> Result<Scratch, LandingError> {
        let own = &worker.place.worktree;
        let parent: PathBuf = own.parent().ok_or_else(|| LandingError::BadPlace(own.clone()))?.to_owned();
        let scratch = self.repository.scratch_worktree(commit, &parent)?;
        if let Some(prepare) = &self.prepare {
            prepare(scratch.path()).map_err(LandingError::Prepare)?;
        }
        Ok(Scratch::new(scratch))
    }
}
