//! The overlap radar: what merging the work of any two workers would give, while their agents still work.
//!
//! Every worker's newest known state (its last snapshot, uncommitted files included, or its branch where that went on
//! since) is test-merged in memory with the target and with every other worker that lands on the same target. The
//! judge is the same `git merge-tree` that landing uses, so a forecast and the landing that follows it agree.
//!
//! Verdicts are remembered by the two commits and by the repository's merge settings: after one worker changed,
//! only its own pairs are judged anew. The memory is a cache: losing it, or two processes writing it at once, costs
//! time and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Landing, LandingError};
use crate::files::{Access, read_if_exists, write_atomically};
use crate::git::{ConflictFile, Forecast, Hunk, Rehearsal, Repository};
use crate::model::worker::{Phase, Worker};
use crate::model::{BranchName, CommitId, WorkerId};

/// Version of the memory's format; another one is forgotten.
const MEMORY_VERSION: u32 = 1;

/// What merging two states gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OverlapVerdict {
    /// They merge.
    Clean,
    /// They do not.
    Conflict,
    /// They are the same.
    Identical,
}

/// A file in which two states do not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OverlapFile {
    /// Which, and in what way.
    #[serde(flatten)]
    pub(crate) file: ConflictFile,
    /// Where, for files that merge by lines.
    pub(crate) hunks: Vec<Hunk>,
}

/// One pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Overlap {
    /// The target, or the worker whose id sorts first.
    pub(crate) a: String,
    /// The other worker.
    pub(crate) b: String,
    /// The verdict.
    pub(crate) verdict: OverlapVerdict,
    /// The files in conflict, by path; for histories without a common ancestor, none.
    pub(crate) files: Vec<OverlapFile>,
}

/// A verdict as it is remembered.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Remembered {
    /// The verdict.
    verdict: OverlapVerdict,
    /// The files in conflict.
    files: Vec<OverlapFile>,
}

/// All that is remembered.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Memory {
    /// Of what format.
    version: u32,
    /// Hash of what merging depends on besides the commits.
    settings: String,
    /// Verdicts by `commit commit`.
    pairs: BTreeMap<String, Remembered>,
}

/// A pair that wants a verdict: names, then commits.
type Pair = ([String; 2], (CommitId, CommitId));

impl Landing<'_> {
    /// Judges every worker that is not released against its target and against the others of that target. First the
    /// pairs with the targets, then those of workers, each in the order of the names.
    pub(crate) fn overlaps(&self, workers: &[Worker]) -> Result<Vec<Overlap>, LandingError> {
        let mut by_target: BTreeMap<BranchName, Vec<(String, CommitId)>> = BTreeMap::new();
        for worker in workers.iter().filter(|worker| !matches!(worker.phase, Phase::Released { .. })) {
            if let Some(commit) = self.newest_state(worker)?
                && !self.stands_elsewhere(worker, &commit)?
            {
                by_target.entry(worker.place.target.clone()).or_default().push((worker.id.to_string(), commit));
            }
        }
        let settings = merge_settings(self.repository)?;
        let known = self.remembered()?.unwrap_or_default();
        let mut memory = Memory { version: MEMORY_VERSION, settings, pairs: BTreeMap::new() };
        let (mut with_targets, mut with_each_other) = (Vec::new(), Vec::new());
        for (target, mut states) in by_target {
            let head = self.repository.branch_head(&target)?.ok_or_else(|| LandingError::NoTarget(target.clone()))?;
            states.sort();
            let pairs = pairs_of(target.as_str(), &head, &states);
            let verdicts = self.judge_pairs(&head, &pairs, &known)?;
            for ((names, (ours, theirs)), found) in pairs.into_iter().zip(verdicts) {
                let [a, b] = names;
                memory.pairs.insert(key(&ours, &theirs), found.clone());
                let place = if ours == head && a == target.as_str() { &mut with_targets } else { &mut with_each_other };
                place.push(Overlap { a, b, verdict: found.verdict, files: found.files });
            }
        }
        if memory.pairs.len() != known.pairs.len() || !memory.pairs.keys().eq(known.pairs.keys()) {
            let bytes = serde_json::to_vec(&memory).unwrap_or_default();
            write_atomically(&self.memory_file(), &bytes, Access::Shared)?;
        }
        with_targets.append(&mut with_each_other);
        Ok(with_targets)
    }

    /// Whether a worker's branch stands on commits of a dependency that landed as others: merging it as it is would name
    /// conflicts that landing, which takes only the worker's own commits, will not have.
    fn stands_elsewhere(&self, worker: &Worker, commit: &CommitId) -> Result<bool, LandingError> {
        let Some(target) = self.repository.branch_head(&worker.place.target)? else { return Ok(false) };
        Ok(self.own_commits(worker, &target, commit)?.is_some())
    }

    /// The pairs of these workers that are known to conflict, by what was judged before: nothing is merged for it.
    pub(crate) fn known_conflicts(&self, workers: &[Worker]) -> Result<Vec<(WorkerId, WorkerId)>, LandingError> {
        let Some(known) = self.remembered()? else { return Ok(Vec::new()) };
        let mut states = Vec::new();
        for worker in workers {
            if let Some(commit) = self.newest_state(worker)? {
                states.push((worker, commit));
            }
        }
        states.sort_by(|(a, _), (b, _)| a.id.as_str().cmp(b.id.as_str()));
        let mut found = Vec::new();
        for (index, (a, ours)) in states.iter().enumerate() {
            for (b, theirs) in &states[index + 1..] {
                let verdict = known.pairs.get(&key(ours, theirs)).map(|pair| pair.verdict);
                if verdict == Some(OverlapVerdict::Conflict) && a.place.target == b.place.target {
                    found.push((a.id.clone(), b.id.clone()));
                }
            }
        }
        Ok(found)
    }

    /// The memory of earlier verdicts, when it is of this version and of the present merge settings.
    fn remembered(&self) -> Result<Option<Memory>, LandingError> {
        let Some(bytes) = read_if_exists(&self.memory_file())? else { return Ok(None) };
        let memory = serde_json::from_slice::<Memory>(&bytes).ok();
        let settings = merge_settings(self.repository)?;
        Ok(memory.filter(|memory| memory.version == MEMORY_VERSION && memory.settings == settings))
    }

    /// Where verdicts are remembered.
    fn memory_file(&self) -> PathBuf {
        self.paths.root().join("overlaps.json")
    }

    /// The newest state of a worker's work that is known; `None` when both branch and snapshot are gone.
    fn newest_state(&self, worker: &Worker) -> Result<Option<CommitId>, LandingError> {
        let head = self.repository.branch_head(&worker.place.branch)?;
        let snapshot = self.repository.ref_commit(&Repository::wip_ref(&worker.id))?;
        Ok(match (head, snapshot) {
            (Some(head), Some(snapshot)) => {
                // A snapshot's parent is the head it was taken on; the branch may have gone on since.
                let taken_on = self.repository.commit_facts(&snapshot)?.parents.into_iter().next();
                Some(if taken_on.as_ref() == Some(&head) { snapshot } else { head })
            }
            (head, snapshot) => head.or(snapshot),
        })
    }

    /// The verdicts of pairs in their order, remembered ones as they are.
    fn judge_pairs(&self, target: &CommitId, pairs: &[Pair], known: &Memory) -> Result<Vec<Remembered>, LandingError> {
        let mut verdicts: Vec<_> = pairs.iter().map(|(_, (a, b))| known.pairs.get(&key(a, b)).cloned()).collect();
        let open: Vec<usize> = (0..pairs.len()).filter(|index| verdicts[*index].is_none()).collect();
        if !open.is_empty() {
            let rehearsal = self.repository.rehearsal()?;
            let commits: Vec<_> = open.iter().map(|index| pairs[*index].1.clone()).collect();
            let forecasts = rehearsal.repository().forecast_many(&commits, target)?;
            let mut trees = Trees { repository: self.repository, known: HashMap::new() };
            for ((index, (ours, theirs)), forecast) in open.into_iter().zip(&commits).zip(forecasts) {
                verdicts[index] = Some(weigh(&rehearsal, &mut trees, (ours, theirs), forecast)?);
            }
        }
        Ok(verdicts.into_iter().flatten().collect())
    }
}

/// Trees of commits, each looked up once.
struct Trees<'a> {
    repository: &'a Repository,
    known: HashMap<CommitId, String>,
}

impl Trees<'_> {
    /// The tree of a commit.
    fn of(&mut self, commit: &CommitId) -> Result<String, LandingError> {
        if let Some(tree) = self.known.get(commit) {
            return Ok(tree.clone());
        }
        let tree = self.repository.commit_facts(commit)?.tree;
        self.known.insert(commit.clone(), tree.clone());
        Ok(tree)
    }
}

/// What a forecast says about two states.
fn weigh(
    rehearsal: &Rehearsal,
    trees: &mut Trees<'_>,
    (ours, theirs): (&CommitId, &CommitId),
    forecast: Forecast,
) -> Result<Remembered, LandingError> {
    let (verdict, files) = match forecast {
        Forecast::Clean { tree } => {
            let is_same = trees.of(ours)? == tree && trees.of(theirs)? == tree;
            (if is_same { OverlapVerdict::Identical } else { OverlapVerdict::Clean }, Vec::new())
        }
        Forecast::Conflict { tree, files, .. } => {
            let with_hunks = files.into_iter().map(|file| {
                let hunks = rehearsal.hunks(&tree, &file)?;
                Ok(OverlapFile { file, hunks })
            });
            (OverlapVerdict::Conflict, with_hunks.collect::<Result<_, LandingError>>()?)
        }
        Forecast::Unrelated => (OverlapVerdict::Conflict, Vec::new()),
    };
    Ok(Remembered { verdict, files })
}

/// The pairs of one target: each state with the target, then each with those after it.
fn pairs_of(target: &str, head: &CommitId, states: &[(String, CommitId)]) -> Vec<Pair> {
    let with_target =
        states.iter().map(|(worker, commit)| ([target.to_owned(), worker.clone()], (head.clone(), commit.clone())));
    let with_each_other = states.iter().enumerate().flat_map(|(index, (a, ours))| {
        let others = states[index + 1..].iter();
        others.map(move |(b, theirs)| ([a.clone(), b.clone()], (ours.clone(), theirs.clone())))
    });
    with_target.chain(with_each_other).collect()
}

/// The key of a pair in the memory.
fn key(ours: &CommitId, theirs: &CommitId) -> String {
    format!("{ours} {theirs}")
}

/// A hash of what merging depends on besides commits: configuration, the person's own included, and attributes that no
/// commit holds.
fn merge_settings(repository: &Repository) -> Result<String, LandingError> {
    let mut hash = Sha256::new();
    let attributes = read_if_exists(&repository.common_dir().join("info/attributes"))?.unwrap_or_default();
    for bytes in [attributes, repository.merge_configuration()?] {
        hash.update(bytes.len().to_le_bytes());
        hash.update(bytes);
    }
    Ok(hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}
