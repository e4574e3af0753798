//! Gates: commands that must pass on exactly the merged tree.
//!
//! A gate sees a whole checkout of the commit that will be the target, its standard input is empty, and what it
//! leaves running is ended with it. The next batch's gates get the same worktree only where it is proven to hold nothing
//! but its commit, so that it becomes what a new one would be. Each gate starts from the clean tree: what an earlier one changed, committed or
//! added is taken back, only ignored files (build output) stay. A pass is remembered by tree and gate definition; a
//! failure never is, because what was wrong may lie outside the tree.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::LandingError;
use crate::files::{Access, read_if_exists, write_atomically};
use crate::git::ScratchWorktree;
use crate::model::CommitId;
use crate::model::settings::Gate;
use crate::process::{Finished, Invocation, ProcessError, run_until, stop_marked};
use crate::store::StatePaths;

/// How much of a gate's output is kept, in bytes: the end, where failures are summed up.
const TAIL: usize = 16 * 1024;
/// Time that leftovers of a gate get to end by themselves.
const GRACE: Duration = Duration::from_secs(2);
/// Marks what a gate started.
const MARKER: &str = "SWARM_GATE_RUN";

/// Gates that somebody trusted; only the check of that trust makes one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ApprovedGates(Vec<Gate>);

/// Gates that nobody trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("these gates are not trusted: {}", names.join(", "))]
pub(crate) struct UntrustedGates {
    /// Their names.
    pub(crate) names: Vec<String>,
}

impl ApprovedGates {
    /// Takes the gates when each of them is trusted.
    ///
    /// # Errors
    /// [`UntrustedGates`] with those that are not.
    pub(crate) fn check(gates: &[Gate], is_trusted: impl Fn(&Gate) -> bool) -> Result<Self, UntrustedGates> {
        let untrusted = gates.iter().filter(|gate| !is_trusted(gate));
        let names: Vec<_> = untrusted.map(|gate| gate.name.clone()).collect();
        if names.is_empty() { Ok(Self(gates.to_vec())) } else { Err(UntrustedGates { names }) }
    }

    /// The gates, in the order they run.
    pub(super) fn gates(&self) -> &[Gate] {
        &self.0
    }
}

/// How one gate ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct GateReport {
    /// Its name.
    pub(crate) name: String,
    /// The command.
    pub(crate) run: String,
    /// Whether it passed.
    pub(crate) passed: bool,
    /// Exit code of the last try, as shells have it; `None` when the time limit ended it.
    pub(crate) exit_code: Option<i32>,
    /// Wall time of the last try in milliseconds.
    pub(crate) duration_ms: u64,
    /// How often it ran; above 1 and passed means it is flaky.
    pub(crate) tries: u32,
    /// Whether the pass was remembered from the same tree.
    pub(crate) cached: bool,
    /// The end of its output.
    pub(crate) output_tail: String,
}

/// A scratch worktree that is cleaned before each use but the first.
pub(super) struct Scratch {
    /// The worktree.
    worktree: ScratchWorktree,
    /// Whether something ran in it.
    is_used: bool,
}

impl Scratch {
    /// A fresh one.
    pub(super) fn new(worktree: ScratchWorktree) -> Self {
        Self { worktree, is_used: false }
    }

    /// One in `folder` that holds another commit and nothing else, where this one can become that.
    pub(super) fn moved_to(mut self, commit: &CommitId, folder: &Path) -> Option<Self> {
        let is_there = self.worktree.path().parent() == Some(folder);
        // What cannot be told makes a new one.
        let is_moved = is_there && self.worktree.move_to(commit).unwrap_or(false);
        self.is_used = false;
        is_moved.then_some(self)
    }

    /// Its folder, holding exactly its commit and ignored files.
    fn clean(&mut self) -> Result<&Path, LandingError> {
        if self.is_used {
            self.worktree.restore()?;
        }
        self.is_used = true;
        Ok(self.worktree.path())
    }
}

/// What gates run on and with.
pub(super) struct Bench<'a> {
    /// Where passes are remembered.
    pub(super) paths: &'a StatePaths,
    /// Tree of the commit, as hex.
    pub(super) tree: &'a str,
    /// Environment of the caller, whole.
    pub(super) environment: &'a [(OsString, OsString)],
    /// Variables of the project; part of a gate's definition.
    pub(super) settings_env: &'a BTreeMap<String, String>,
    /// `SWARM_*` facts about this landing.
    pub(super) facts: Vec<(String, String)>,
    /// Time a gate may take that names none.
    pub(super) timeout: Duration,
    /// Marks what these gates start.
    pub(super) token: String,
    /// Set by who ends these gates before their time; then a pass says nothing.
    pub(super) is_cancelled: Option<&'a AtomicBool>,
}

impl Bench<'_> {
    /// The remembered pass of a gate on this tree.
    pub(super) fn remembered(&self, gate: &Gate) -> Result<Option<GateReport>, LandingError> {
        let Some(bytes) = read_if_exists(&self.memory(gate))? else {
            return Ok(None);
        };
        // A file of another version is no memory.
        let report = serde_json::from_slice::<GateReport>(&bytes).ok();
        Ok(report.filter(|report| report.passed).map(|report| GateReport { cached: true, ..report }))
    }

    /// Runs a gate in `scratch`, again after a failure as often as `retry` allows.
    ///
    /// # Errors
    /// [`LandingError::Ended`] when it was cancelled, which says nothing about the work.
    pub(super) fn run(&self, gate: &Gate, scratch: &mut Scratch, retry: u32) -> Result<GateReport, LandingError> {
        let mut tries = 1;
        loop {
            let report = self.try_once(gate, scratch.clean()?, tries)?;
            if self.is_cancelled() {
                return Err(LandingError::Ended);
            }
            if report.passed {
                let bytes = serde_json::to_vec(&report).unwrap_or_default();
                write_atomically(&self.memory(gate), &bytes, Access::Shared)?;
            }
            if report.passed || tries > retry {
                return Ok(report);
            }
            tries += 1;
        }
    }

    /// Runs a gate once and ends what it leaves behind.
    fn try_once(&self, gate: &Gate, cwd: &Path, tries: u32) -> Result<GateReport, LandingError> {
        let started = Instant::now();
        let stop = || drop(stop_run(&self.token));
        let answer = run_until(&self.invocation(gate, cwd), || self.is_cancelled(), stop);
        let elapsed = started.elapsed();
        stop_run(&self.token)?;
        let mut report = GateReport {
            name: gate.name.clone(),
            run: gate.run.clone(),
            passed: false,
            exit_code: None,
            duration_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            tries,
            cached: false,
            output_tail: String::new(),
        };
        match answer {
            Ok(finished) => {
                report.passed = finished.code() == 0;
                report.exit_code = Some(finished.code());
                report.output_tail = tail_text(&finished);
            }
            Err(ProcessError::TimedOut { output, .. }) => report.output_tail = output,
            Err(error) => return Err(error.into()),
        }
        Ok(report)
    }

    /// The call of a gate.
    fn invocation(&self, gate: &Gate, cwd: &Path) -> Invocation {
        let mut call = Invocation::new("sh", cwd).args(["-c", gate.run.as_str()]);
        call.env = Some(self.environment.to_vec());
        call.unset =
            ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX"].map(OsString::from).into();
        let own = [("SWARM_GATE".to_owned(), gate.name.clone()), (MARKER.to_owned(), self.token.clone())];
        let project = self.settings_env.iter().map(|(name, value)| (name.clone(), value.clone()));
        let set = project.chain(self.facts.iter().cloned()).chain(own);
        call.set = set.map(|(name, value)| (name.into(), value.into())).collect();
        call.timeout = Some(gate.timeout.unwrap_or(self.timeout));
        call.tail = Some(TAIL);
        call
    }

    /// Whether nobody wants to know any more.
    fn is_cancelled(&self) -> bool {
        self.is_cancelled.is_some_and(|flag| flag.load(Ordering::SeqCst))
    }

    /// Where a gate's pass on this tree is remembered.
    fn memory(&self, gate: &Gate) -> PathBuf {
        let mut hash = Sha256::new();
        let variables = self.settings_env.iter().flat_map(|(name, value)| [name, value]);
        for part in [&gate.name, &gate.run].into_iter().chain(variables) {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        let definition: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        self.paths.root().join("gates").join(self.tree).join(format!("{definition}.json"))
    }
}

/// Ends what the gates of one run left running.
pub(super) fn stop_run(token: &str) -> Result<(), LandingError> {
    stop_marked(MARKER, token, GRACE)?;
    Ok(())
}

/// The end of what a gate wrote, from the beginning of a line.
fn tail_text(finished: &Finished) -> String {
    let text = String::from_utf8_lossy(&finished.stdout);
    match text.find('\n') {
        Some(newline) if finished.stdout.len() >= TAIL => text[newline + 1..].to_owned(),
        _ => text.into_owned(),
    }
}
