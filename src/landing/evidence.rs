//! What a landing rests on, as a record for the notes and as text for an agent.

use std::fmt::Write;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LandingError;
use super::gate::GateReport;
use crate::files::read_if_exists;
use crate::git::{ConflictFile, Repository};
use crate::model::settings::Strategy;
use crate::model::worker::Worker;
use crate::model::{BranchName, CommitId, TicketId, Time, WorkerId, duration_text};
use crate::store::{LandingIntent, Review, StatePaths};

/// Commits of the target that are named to an agent at most.
const HISTORY: usize = 20;

/// The evidence of one landing: one line of the note on the landed commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Evidence {
    /// Version of this shape.
    pub(crate) schema: u32,
    /// The ticket.
    pub(crate) ticket: TicketId,
    /// The worker.
    pub(crate) worker: WorkerId,
    /// The target.
    pub(crate) target: BranchName,
    /// How the commit was built.
    pub(crate) strategy: Strategy,
    /// Where the target pointed before.
    pub(crate) from: CommitId,
    /// The head of the worker's branch.
    pub(crate) work: CommitId,
    /// The commit that landed.
    pub(crate) commit: CommitId,
    /// Its tree, as hex.
    pub(crate) tree: String,
    /// What the gates ran on.
    pub(crate) tested: Tested,
    /// The gates.
    pub(crate) gates: Vec<GateReport>,
    /// Who approved.
    pub(crate) approvals: Vec<Approved>,
    /// When it was about to land.
    pub(crate) at: Time,
}

/// The commit that gates ran on: the landed one, or the tip of the batch in which it landed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Tested {
    /// The commit to which the target moved at once.
    pub(crate) commit: CommitId,
    /// Its tree, as hex.
    pub(crate) tree: String,
}

/// One approval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Approved {
    /// Who.
    pub(crate) by: String,
    /// The commit that was judged.
    pub(crate) commit: CommitId,
    /// What they said.
    pub(crate) text: String,
    /// When.
    pub(crate) at: Time,
}

impl Evidence {
    /// Gathers it before the target moves.
    pub(super) fn new(
        intent: &LandingIntent,
        tree: &str,
        tested: &Tested,
        strategy: Strategy,
        gates: Vec<GateReport>,
        approval: &Review,
    ) -> Self {
        let Review { by, commit, text, at, .. } = approval.clone();
        Self {
            schema: 1,
            ticket: intent.ticket.clone(),
            worker: intent.worker.clone(),
            target: intent.target.clone(),
            strategy,
            from: intent.from.clone(),
            work: intent.work.clone(),
            commit: intent.landed().clone(),
            tree: tree.to_owned(),
            tested: tested.clone(),
            gates,
            approvals: vec![Approved { by, commit, text, at }],
            at: intent.at,
        }
    }

    /// What was saved with an intent; `None` when it is not there or of another version.
    pub(super) fn load(paths: &StatePaths, intent: &LandingIntent) -> Result<Option<Self>, LandingError> {
        if let Some(line) = &intent.evidence {
            return Ok(serde_json::from_str(line).ok());
        }
        let bytes = read_if_exists(&path(paths, &intent.worker, intent.landed()))?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Reads the lines of a note; what is not ours or of another version is passed over.
    pub(crate) fn of_note(note: &str) -> impl Iterator<Item = Self> {
        note.lines().filter_map(|line| serde_json::from_str(line).ok())
    }

    /// The line of the note.
    pub(super) fn line(&self) -> String {
        serde_json::to_string(self).expect("plain data with string keys always serialises")
    }
}

/// Where earlier versions had the evidence of a landing, beside its intent.
fn path(paths: &StatePaths, worker: &WorkerId, commit: &CommitId) -> PathBuf {
    paths.worker_dir(worker).join(format!("landing.{}.json", commit.short()))
}

/// A conflict as it was found.
pub(super) struct Conflict<'a> {
    /// The files.
    pub(super) files: &'a [ConflictFile],
    /// What git says.
    pub(super) messages: &'a [String],
    /// The commit that could not be replayed.
    pub(super) commit: Option<&'a CommitId>,
}

/// Tells an agent what its work conflicts with.
pub(super) fn conflict_text(
    repository: &Repository,
    worker: &Worker,
    work: &CommitId,
    onto: &CommitId,
    conflict: &Conflict<'_>,
) -> Result<String, LandingError> {
    let target = &worker.place.target;
    let branch = &worker.place.branch;
    let mut text = format!("`{branch}` ({}) does not fit `{target}` ({}).\n", work.short(), onto.short());
    let mut line = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("writing to a string never fails");
    if let Some(commit) = conflict.commit {
        line(format_args!("The commit that cannot be replayed: {}", commit.short()));
    }
    if !conflict.files.is_empty() {
        line(format_args!("\nFiles in conflict:"));
    }
    for file in conflict.files {
        line(format_args!("- {} ({})", file.path, file.kind.as_str()));
    }
    line(format_args!("\nWhat git says:"));
    for message in conflict.messages {
        line(format_args!("- {message}"));
    }
    let paths: Vec<_> = conflict.files.iter().map(|file| file.path.as_str()).collect();
    let history = repository.history_of(work, onto, &paths, HISTORY)?;
    if !history.is_empty() {
        line(format_args!("\nCommits on `{target}` that touched these files since the branch left it:"));
    }
    for commit in history {
        line(format_args!("- {commit}"));
    }
    Ok(text)
}

/// A red gate in one sentence.
pub(super) fn gate_sentence(gate: &GateReport) -> String {
    let name = &gate.name;
    let tries = if gate.tries > 1 { format!(" in {} tries", gate.tries) } else { String::new() };
    match gate.exit_code {
        Some(code) => format!("gate `{name}` failed with exit code {code}{tries}"),
        None => format!("gate `{name}` ran out of time{tries}"),
    }
}

/// Tells an agent how its work failed a gate.
pub(super) fn gate_text(gate: &GateReport, worker: &Worker, onto: &CommitId) -> String {
    let took = duration_text(std::time::Duration::from_millis(gate.duration_ms));
    let (branch, target) = (&worker.place.branch, &worker.place.target);
    let mut text = format!("`{branch}` merged into `{target}` ({}): {}.\n", onto.short(), gate_sentence(gate));
    text.push_str(&format!("\nCommand: {}\nTime: {took}\n", gate.run));
    if !gate.output_tail.trim().is_empty() {
        text.push_str(&format!("\nThe end of its output:\n\n{}\n", gate.output_tail.trim_end()));
    }
    text
}
