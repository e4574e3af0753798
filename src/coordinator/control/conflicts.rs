//! `conflicts`: the overlap radar as a view.

use super::Control;
use crate::coordinator::failure::Failure;
use crate::coordinator::views::{ConflictsView, OverlapFileView, OverlapView, ProposalView, VIEW_VERSION};
use crate::landing::{Overlap, OverlapVerdict, order};
use crate::model::ticket::Ticket;
use crate::model::worker::Worker;

impl Control {
    /// What merging any two workers' newest known work, or one with its target, would give.
    pub(crate) fn conflicts(&self) -> Result<ConflictsView, Failure> {
        let target = match self.project.settings()?.target.clone() {
            Some(target) => target,
            None => self.project.repository.default_target()?,
        };
        let workers = self.project.store()?.workers()?;
        let overlaps = self.with_landing(|landing| Ok(landing.overlaps(&workers)?))?;
        let proposals = self.proposals(&workers, &overlaps)?;
        let pairs = overlaps.into_iter().map(pair).collect();
        Ok(ConflictsView { version: VIEW_VERSION, target: target.to_string(), pairs, proposals })
    }

    /// For each two tickets whose work conflicts and of which neither waits for the other: the one that lands later
    /// could depend on the other.
    fn proposals(&self, workers: &[Worker], overlaps: &[Overlap]) -> Result<Vec<ProposalView>, Failure> {
        let conflicts: Vec<_> = overlaps
            .iter()
            .filter(|overlap| overlap.verdict == OverlapVerdict::Conflict)
            .filter_map(|overlap| Some((find(workers, &overlap.a)?, find(workers, &overlap.b)?)))
            .filter(|(a, b)| a.ticket != b.ticket)
            .collect();
        let mut entries = Vec::new();
        for worker in workers.iter().filter(|worker| !super::is_released(worker)) {
            entries.push(self.entry(&self.published_ticket(worker)?, worker)?);
        }
        let pairs: Vec<_> = conflicts.iter().map(|(a, b)| (a.id.clone(), b.id.clone())).collect();
        let order = order(&entries, &pairs);
        let place = |worker: &Worker| order.iter().position(|id| *id == worker.id);
        let mut proposals: Vec<ProposalView> = Vec::new();
        for (a, b) in conflicts {
            let (first, later) = if place(a) <= place(b) { (a, b) } else { (b, a) };
            let ticket = self.published_ticket(later)?;
            let waits = |ticket: &Ticket, other: &Worker| ticket.depends_on.iter().any(|d| d.ticket == other.ticket);
            if waits(&ticket, first) || waits(&self.published_ticket(first)?, later) {
                continue;
            }
            let ids = ticket.depends_on.iter().map(|dependency| dependency.ticket.to_string());
            let ids: Vec<_> = ids.chain([first.ticket.to_string()]).collect();
            let file = std::path::PathBuf::from(format!(".swarm/tickets/{}.md", later.ticket));
            let path = self.project.project_file(&file)?.map(|_| file);
            proposals.push(ProposalView {
                ticket: later.ticket.to_string(),
                depends_on: first.ticket.to_string(),
                path,
                line: format!("depends_on: [{}]", ids.join(", ")),
            });
        }
        proposals.dedup_by(|a, b| (&a.ticket, &a.depends_on) == (&b.ticket, &b.depends_on));
        Ok(proposals)
    }
}

/// The worker of a pair; none for the target.
fn find<'a>(workers: &'a [Worker], id: &str) -> Option<&'a Worker> {
    workers.iter().find(|worker| worker.id.as_str() == id)
}

/// One pair.
fn pair(overlap: Overlap) -> OverlapView {
    let files = overlap.files.into_iter().map(|found| OverlapFileView {
        path: found.file.path,
        kind: found.file.kind.as_str().to_owned(),
        hunks: found.hunks,
    });
    OverlapView { a: overlap.a, b: overlap.b, verdict: overlap.verdict, files: files.collect() }
}
