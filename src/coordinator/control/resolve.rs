//! `resolve`: a person merges the target into a worker's branch, in the worker's worktree and with their own tools.

use std::path::PathBuf;

use super::{Control, is_released};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::views::{ResolveView, VIEW_VERSION};
use crate::git::{Begin, Begun};
use crate::model::settings::OnConflict;
use crate::model::ticket::TicketState;
use crate::model::worker::{Liveness, Status, Worker};
use crate::model::{CommitId, WorkerId};
use crate::queue::Settlement;
use crate::supervisor::protocol::Request;

/// What a person has to resolve.
#[derive(Debug, Clone)]
pub(crate) struct Resolving {
    /// The worker's id.
    pub(crate) worker: String,
    /// Its worktree.
    pub(crate) worktree: PathBuf,
    /// Files in conflict, from its root.
    pub(crate) files: Vec<PathBuf>,
    /// The keep ref of the work as it was.
    keep: Option<String>,
}

impl Control {
    /// Keeps a worker's work and begins to bring its target into it, or goes on with what was begun.
    ///
    /// # Errors
    /// While the agent works: two at one merge lose each other's edits.
    pub(crate) fn begin_resolve(&self, name: &str) -> Result<Resolving, Failure> {
        let worker = self.worker(name)?;
        self.refuse_unresolvable(&worker)?;
        let (repository, place) = (&self.project.repository, &worker.place);
        let resolving =
            |files, keep| Resolving { worker: worker.id.to_string(), worktree: place.worktree.clone(), files, keep };
        if repository.operation_in(&place.worktree)?.is_some() {
            return Ok(resolving(repository.unmerged(&place.worktree)?, None));
        }
        let head = self.head(&worker)?;
        let onto = repository.branch_head(&place.target)?.ok_or_else(|| {
            Failure::new(FailureKind::NotFound, format!("there is no target branch `{}`", place.target))
        })?;
        let stands_elsewhere = self.with_landing(|landing| Ok(landing.own_commits(&worker, &onto, &head)?))?.is_some();
        if repository.is_ancestor(&onto, &head)? && !stands_elsewhere {
            return Ok(resolving(Vec::new(), None));
        }
        let what = match self.project.settings()?.landing.on_conflict {
            OnConflict::Rebase => Begin::Rebase,
            OnConflict::Merge | OnConflict::Nothing => Begin::Merge,
        };
        let files = match self.begin_in(&worker, what, &onto)? {
            Begun::Open { files, .. } => files,
            Begun::Done => Vec::new(),
            Begun::Refused { why } => {
                let text = format!("`{}` cannot be brought into worker `{}`: {why}", place.target, worker.id);
                return Err(Failure::new(FailureKind::NeedsPerson, text)
                    .hint(format!("commit or move it there: cd {}", place.worktree.display())));
            }
        };
        let kept = self.with_landing(|landing| Ok(landing.find_kept(worker.id.as_str())?))?;
        Ok(resolving(files, Some(kept.reference)))
    }

    /// Keeps a worker's work and brings its own commits to `onto`, where they fit and its agent is not at work. Whether it
    /// did; else all is as it was.
    pub(super) fn replay(&self, id: &WorkerId, onto: &CommitId) -> Result<bool, Failure> {
        let worker = self.worker(id.as_str())?;
        let (repository, place) = (&self.project.repository, &worker.place);
        if self.refuse_unresolvable(&worker).is_err() || repository.operation_in(&place.worktree)?.is_some() {
            return Ok(false);
        }
        match self.begin_in(&worker, Begin::Rebase, onto)? {
            Begun::Done => {}
            Begun::Refused { .. } => return Ok(false),
            Begun::Open { .. } => {
                let reason = format!("before the replay on `{}` was given up", place.target);
                let kept = repository.keep(&worker.id, Some(&place.worktree), &place.branch, &reason)?;
                repository.give_up(&place.worktree, &kept)?;
                return Ok(false);
            }
        }
        self.back_to_review(&worker)?;
        Ok(true)
    }

    /// Refuses a worker whose worktree is not a person's to work in now.
    pub(super) fn refuse_unresolvable(&self, worker: &Worker) -> Result<(), Failure> {
        let id = &worker.id;
        if is_released(worker) {
            let text = format!("worker `{id}` was released; its worktree is gone");
            return Err(Failure::new(FailureKind::Failed, text)
                .hint(format!("swarm recover restore {id} brings its work back")));
        }
        let known = self.know(worker.clone(), None);
        let is_busy = matches!(known.verdict.status, Status::Starting | Status::Working);
        if known.liveness == Liveness::Alive && is_busy {
            let text = format!("the agent of worker `{id}` works in that worktree: {}", known.verdict.reason);
            return Err(Failure::new(FailureKind::NeedsPerson, text)
                .hint(format!("swarm stop {id}, or wait for it: swarm wait {id}")));
        }
        Ok(())
    }

    /// Takes files as resolved that had conflict markers and have none any more, for editors that tell git nothing.
    pub(crate) fn take_edited(&self, resolving: &Resolving, had_markers: &[PathBuf]) -> Result<(), Failure> {
        let repository = &self.project.repository;
        let left = repository.unmerged(&resolving.worktree)?;
        let is_resolved =
            |file: &&PathBuf| had_markers.contains(*file) && !has_markers(&resolving.worktree.join(file.as_path()));
        let done: Vec<_> = left.iter().filter(is_resolved).cloned().collect();
        if !done.is_empty() {
            repository.take_resolved(&resolving.worktree, &done)?;
        }
        Ok(())
    }

    /// Concludes what no file is open of any more and hands the work back to review. The second value is the failure
    /// for the exit code.
    pub(crate) fn end_resolve(&self, resolving: &Resolving) -> Result<(ResolveView, Result<(), Failure>), Failure> {
        let worker = self.worker(&resolving.worker)?;
        let (repository, worktree) = (&self.project.repository, &resolving.worktree);
        let mut left = repository.unmerged(worktree)?;
        if left.is_empty()
            && let Begun::Open { files, .. } =
                repository.conclude(worktree, self.project.settings()?.limits.commit_timeout)?
        {
            left = files;
        }
        let operation = repository.operation_in(worktree)?.map(|operation| operation.as_str().to_owned());
        if operation.is_none() {
            self.back_to_review(&worker)?;
        }
        let view = self.resolve_view(&worker, resolving.keep.clone(), operation, left)?;
        let result = match view.operation {
            None => Ok(()),
            Some(_) => {
                let files: Vec<_> = view.left.iter().map(|file| format!("`{}`", file.display())).collect();
                let text = format!("still in conflict: {}", files.join(", "));
                Err(Failure::new(FailureKind::NeedsPerson, text)
                    .hint(format!("go on with it: swarm resolve {}", worker.id)))
            }
        };
        Ok((view, result))
    }

    /// Gives up what is begun in a worker's worktree, after its files were kept. The second value is what was given up.
    ///
    /// # Errors
    /// While the agent works, and when the files cannot be kept.
    pub(crate) fn give_up_resolve(&self, name: &str) -> Result<(ResolveView, Option<&'static str>), Failure> {
        let worker = self.worker(name)?;
        self.refuse_unresolvable(&worker)?;
        let (repository, place) = (&self.project.repository, &worker.place);
        let mut keep = None;
        let operation = repository.operation_in(&place.worktree)?;
        if let Some(operation) = operation {
            let reason = format!("before its {} was given up", operation.as_str());
            let kept = repository.keep(&worker.id, Some(&place.worktree), &place.branch, &reason)?;
            repository.give_up(&place.worktree, &kept)?;
            keep = Some(kept.keep_ref().to_owned());
        }
        Ok((self.resolve_view(&worker, keep, None, Vec::new())?, operation.map(|operation| operation.as_str())))
    }

    /// Where a worker's worktree and ticket are.
    fn resolve_view(
        &self,
        worker: &Worker,
        keep: Option<String>,
        operation: Option<String>,
        left: Vec<PathBuf>,
    ) -> Result<ResolveView, Failure> {
        let commit = self.project.repository.branch_head(&worker.place.branch)?;
        Ok(ResolveView {
            version: VIEW_VERSION,
            worker: worker.id.to_string(),
            worktree: worker.place.worktree.clone(),
            commit: commit.map(|commit| commit.to_string()),
            ticket_state: self.ticket_state(&worker.ticket)?,
            keep,
            operation,
            left,
        })
    }

    /// Takes the ticket to where the new commit is judged.
    fn back_to_review(&self, worker: &Worker) -> Result<(), Failure> {
        let queue = self.project.queue()?;
        let Some(entry) = queue.ticket(&worker.ticket)? else { return Ok(()) };
        match entry.state {
            TicketState::Approved => {
                let outcome = self.with_landing(|landing| Ok(landing.standing(worker)?))?;
                if !matches!(outcome, crate::landing::Standing::Approved(_)) {
                    queue.settle(&worker.ticket, entry.fence, Settlement::VoidApproval)?;
                }
            }
            // Its supervisor waits for the end of the merge; it looks again, and finishes.
            TicketState::Running => self.ask(worker, &Request::Resume { budget: None }).map(drop)?,
            _ => {}
        }
        Ok(())
    }
}

/// Whether a file holds the marker with which a conflict begins.
pub(crate) fn has_markers(path: &std::path::Path) -> bool {
    let bytes = crate::files::read_if_exists(path).ok().flatten().unwrap_or_default();
    bytes.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"<<<<<<< "))
}
