//! Telling agents whose work theirs conflicts with: what the hidden `radar` does for the supervisors.
//!
//! A fact is that a worker's work conflicts with another's (or the target's) in these files. Each is told once; it is
//! told again only when it changed: another file, another worker. Where a conflict is inside a file moves with every
//! edit, and is no fact of its own. A fact that is gone is forgotten without a word, so that its return is news.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Control, is_released};
use crate::config::Template;
use crate::coordinator::failure::Failure;
use crate::files::{Access, FileLock, read_if_exists, write_atomically};
use crate::git::Hunk;
use crate::landing::{Overlap, OverlapVerdict};
use crate::model::worker::{Phase, Status, Worker};
use crate::supervisor::protocol::{Reply, Request};

/// Workers beyond which nobody is told by itself: the pairs grow with the square of it, and they would be judged again
/// at every change. `swarm conflicts` answers all the same.
const MOST_WORKERS: usize = 200;
/// Lines of one side of a place that are told.
const LINES_TOLD: usize = 5;
/// Places of one file that are told.
const PLACES_TOLD: usize = 5;

/// What one worker was told: the files with their kinds, by who the other side is.
type Facts = BTreeMap<String, BTreeSet<String>>;

/// What all workers were told.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    /// By worker and attempt: a new attempt that began a new conversation knows nothing.
    workers: BTreeMap<String, Facts>,
}

impl Control {
    /// Looks at the overlaps once and tells agents what is new. Nothing where another process is at it.
    pub(crate) fn tell_overlaps(&self) -> Result<(), Failure> {
        let paths = &self.project.paths;
        let Some(_turn) = FileLock::try_take(&paths.lock("radar"))? else { return Ok(()) };
        // Before anything is read, so that what changes from here on is looked at again, and a look that fails or is not
        // wanted is not tried again at once.
        write_atomically(&paths.radar_look(), b"", Access::Shared)?;
        if !self.project.settings()?.landing.tell_overlaps {
            return Ok(());
        }
        let workers: Vec<_> =
            self.project.store()?.workers()?.into_iter().filter(|worker| !is_released(worker)).collect();
        if workers.len() > MOST_WORKERS {
            return Ok(());
        }
        let overlaps = self.with_landing(|landing| Ok(landing.overlaps(&workers)?))?;
        let file = paths.root().join("overlaps-told.json");
        let bytes = read_if_exists(&file)?.unwrap_or_default();
        let before = serde_json::from_slice::<Told>(&bytes).unwrap_or_default();
        let mut told = Told::default();
        for worker in &workers {
            let facts = facts(worker, &overlaps);
            let known = before.workers.get(&key(worker)).cloned().unwrap_or_default();
            let is_news =
                facts.iter().any(|(other, files)| !known.get(other).is_some_and(|seen| seen.is_superset(files)));
            let facts = match is_news {
                true if self.tell_one(worker, &workers, &overlaps)? => facts,
                true => known,
                false => facts,
            };
            if !facts.is_empty() {
                told.workers.insert(key(worker), facts);
            }
        }
        if told != before {
            write_atomically(&file, &serde_json::to_vec(&told).unwrap_or_default(), Access::Shared)?;
        }
        Ok(())
    }

    /// Tells one worker's agent, when it is in a turn and did not opt out; whether it will hear of it.
    fn tell_one(&self, worker: &Worker, workers: &[Worker], overlaps: &[Overlap]) -> Result<bool, Failure> {
        // One that ends holds its lock a moment longer than it listens, and is not worth waiting for.
        let status = self.know(worker.clone(), None).verdict.status;
        let is_in_turn = matches!(status, Status::Working | Status::Waiting);
        if !matches!(worker.phase, Phase::Supervised { .. }) || !is_in_turn {
            return Ok(false);
        }
        let ticket = self.published_ticket(worker)?;
        if ticket.tell_overlaps == Some(false) {
            return Ok(false);
        }
        let told = conflicts_of(worker, overlaps).map(|(other, overlap, is_first)| {
            let known = workers.iter().find(|known| known.id.as_str() == other);
            let files = overlap.files.iter().map(|found| FileTold {
                path: found.file.path.clone(),
                kind: found.file.kind.as_str(),
                places: found.hunks.iter().take(PLACES_TOLD).map(|hunk| PlaceTold::of(hunk, is_first)).collect(),
            });
            Conflicting {
                name: other.to_owned(),
                ticket: known.map(|known| known.ticket.to_string()),
                ticket_title: known.map(|known| known.title.clone()),
                files: files.collect(),
            }
        });
        let variables = Overlapping { overlaps: told.collect() };
        let text = self.render(Template::Overlap, worker, &ticket, variables)?;
        let Ok(Some(mut client)) = self.client(&worker.id) else { return Ok(false) };
        Ok(matches!(client.ask(&Request::Notice { text }), Ok(Reply::Ok)))
    }
}

/// What names a worker's conversation.
fn key(worker: &Worker) -> String {
    format!("{}#{}", worker.id, worker.attempt.number)
}

/// The conflicts of one worker: with whom, and whether its own lines are the first ones of a place.
fn conflicts_of<'a>(worker: &'a Worker, overlaps: &'a [Overlap]) -> impl Iterator<Item = (&'a str, &'a Overlap, bool)> {
    let id = worker.id.as_str();
    overlaps.iter().filter(|overlap| overlap.verdict == OverlapVerdict::Conflict).filter_map(move |overlap| {
        match (overlap.a == id, overlap.b == id) {
            (true, _) => Some((overlap.b.as_str(), overlap, true)),
            (_, true) => Some((overlap.a.as_str(), overlap, false)),
            _ => None,
        }
    })
}

/// The facts of one worker.
fn facts(worker: &Worker, overlaps: &[Overlap]) -> Facts {
    let files = |overlap: &Overlap| {
        overlap.files.iter().map(|found| format!("{} {}", found.file.kind.as_str(), found.file.path)).collect()
    };
    conflicts_of(worker, overlaps).map(|(other, overlap, _)| (other.to_owned(), files(overlap))).collect()
}

/// Variables of `overlap.md`.
#[derive(Serialize)]
struct Overlapping {
    overlaps: Vec<Conflicting>,
}

/// One other side.
#[derive(Serialize)]
struct Conflicting {
    /// The worker, or the target.
    name: String,
    /// The worker's ticket; none for the target.
    ticket: Option<String>,
    /// Its title.
    ticket_title: Option<String>,
    /// The files.
    files: Vec<FileTold>,
}

/// One file.
#[derive(Serialize)]
struct FileTold {
    path: String,
    kind: &'static str,
    places: Vec<PlaceTold>,
}

/// One place.
#[derive(Serialize)]
struct PlaceTold {
    line: usize,
    /// What the other side has there.
    theirs: Vec<String>,
}

impl PlaceTold {
    /// What the other side has at a place.
    fn of(hunk: &Hunk, is_first: bool) -> Self {
        let theirs = if is_first { &hunk.theirs } else { &hunk.ours };
        Self { line: hunk.line, theirs: theirs.iter().take(LINES_TOLD).cloned().collect() }
    }
}
