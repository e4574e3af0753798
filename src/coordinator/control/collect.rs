//! What is taken out of a repository that goes away when its CI job ends: logs, differences, recordings, commits.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::Control;
use crate::coordinator::failure::Failure;
use crate::coordinator::history::{self, TicketHistory};
use crate::coordinator::views::WorkerView;
use crate::files::{self, Access, FileError};
use crate::model::event::{Event, EventRecord};
use crate::model::worker::Place;
use crate::model::{TicketId, Time, WorkerId};
use crate::store::{HistoryKind, read_log};
use crate::terminal;

/// Lines of a terminal that are evidence.
const TERMINAL_LINES: usize = 40;
/// A recording of more than this many bytes is not read for its last lines.
const READ_AT_MOST: u64 = 20_000_000;

impl Control {
    /// What explains how a worker's work ended: failed checks, why landing gave it back, the end of its terminal.
    /// Several lines; what cannot be read is left out.
    pub(crate) fn explained(&self, worker: &WorkerView) -> String {
        let mut text = format!("{} is {}: {}\n", worker.id, worker.status.as_str(), worker.reason);
        let mut say = |what: std::fmt::Arguments<'_>| text.write_fmt(what).expect("a string takes all text");
        for check in worker.checks.iter().filter(|check| !check.passed) {
            say(format_args!("\ncheck {}: {}\n{}\n", check.clause(), check.run, check.output_tail.trim_end()));
        }
        let Ok(id) = worker.id.parse::<WorkerId>() else { return text };
        let log = read_log::<EventRecord>(&self.project.paths.events(&id)).map(|log| log.records).unwrap_or_default();
        let returned = log.iter().rev().find_map(|record| match &record.event {
            Event::Returned { reason, files } => Some((reason, files)),
            _ => None,
        });
        if let Some((reason, files)) = returned {
            say(format_args!("\nreturned: {reason}\n"));
            files.iter().for_each(|file| say(format_args!("  {file}\n")));
        }
        let recording = self.project.paths.recording(&id, worker.attempt);
        let is_short = std::fs::metadata(&recording).is_ok_and(|about| about.len() <= READ_AT_MOST);
        let lines = is_short.then(|| terminal::plain_text(&recording, TERMINAL_LINES).ok()).flatten();
        let lines: Vec<_> = lines.unwrap_or_default().into_iter().filter(|line| !line.trim().is_empty()).collect();
        if !lines.is_empty() {
            say(format_args!("\nThe end of its terminal:\n{}\n", lines.join("\n")));
        }
        text
    }

    /// The file of a ticket, from the top of the repository; `None` where it has none.
    pub(crate) fn file_of_ticket(&self, ticket: &TicketId) -> Option<String> {
        let path = format!(".swarm/tickets/{ticket}.md");
        let top = self.project.repository.main_worktree()?;
        top.join(&path).exists().then_some(path)
    }

    /// How long the workers of each ticket ran between two moments.
    pub(crate) fn work_times(&self, from: Time, to: Time) -> Result<HashMap<TicketId, Duration>, Failure> {
        let store = self.project.store()?;
        history::catch_up(store)?;
        let mut times: HashMap<TicketId, Duration> = HashMap::new();
        for row in store.history(HistoryKind::Ticket, Time::from_millis(i64::MIN))? {
            let known: TicketHistory = history::parse(&row.document)?;
            let spans = known.attempts.iter().flat_map(|attempt| &attempt.spans);
            let ran: Duration = spans.map(|span| span.within(from, to)).sum();
            if !known.attempts.is_empty() {
                *times.entry(known.ticket).or_default() += ran;
            }
        }
        Ok(times)
    }

    /// Copies a worker's logs and recordings into a folder, with its difference to its base as `diff.patch` and what
    /// its terminal showed as `terminal.txt`. Everything that can be had; the failures of what could not.
    pub(crate) fn collect(&self, worker: &str, folder: &Path) -> Result<Vec<Failure>, Failure> {
        let worker = self.worker(worker)?;
        let paths = &self.project.paths;
        files::make_folder(folder)?;
        let mut failures = Vec::new();
        let mut logs = vec![
            paths.events(&worker.id),
            paths.tool_calls(&worker.id),
            paths.supervisor_log(&worker.id),
            paths.prompt(&worker.id),
        ];
        logs.extend((1..=worker.attempt.number).map(|attempt| paths.recording(&worker.id, attempt)));
        for log in logs.iter().filter(|log| log.exists()) {
            let Some(name) = log.file_name() else { continue };
            let copied = std::fs::copy(log, folder.join(name)).map_err(FileError::on("copy", log));
            failures.extend(copied.err().map(Failure::from));
        }
        match self.patch(worker.id.as_str(), true) {
            Ok(patch) => files::write_atomically(&folder.join("diff.patch"), &patch.bytes, Access::Shared)?,
            Err(failure) => failures.push(failure),
        }
        let recording = paths.recording(&worker.id, worker.attempt.number);
        if recording.exists() {
            match terminal::plain_text(&recording, usize::MAX) {
                Ok(lines) => {
                    let text = format!("{}\n", lines.join("\n"));
                    files::write_atomically(&folder.join("terminal.txt"), text.as_bytes(), Access::Shared)?;
                }
                Err(error) => failures.push(error.into()),
            }
        }
        Ok(failures)
    }

    /// Writes a git bundle of what workers made: their branches and the targets they landed on, the snapshots of what was
    /// not committed, and what was kept of them. How many references are in it; 0 writes nothing.
    ///
    /// What a remote is known to have is left out; who fetches from the bundle has it from there.
    pub(crate) fn bundle(&self, workers: &[String], path: &Path) -> Result<usize, Failure> {
        let repository = &self.project.repository;
        let mut references = BTreeSet::new();
        for name in workers {
            let Place { branch, target, .. } = self.worker(name)?.place;
            let own = [branch, target].map(|branch| format!("refs/heads/{branch}"));
            for reference in own.into_iter().chain([format!("refs/swarm/wip/{name}")]) {
                if repository.ref_commit(&reference)?.is_some() {
                    references.insert(reference);
                }
            }
            references.extend(repository.references(&format!("refs/swarm/keep/{name}/"))?);
        }
        let mut known = BTreeSet::new();
        for remote in repository.references("refs/remotes/")? {
            known.extend(repository.ref_commit(&remote)?);
        }
        let (references, known): (Vec<_>, Vec<_>) = (references.into_iter().collect(), known.into_iter().collect());
        Ok(repository.bundle(path, &references, &known)?)
    }
}
