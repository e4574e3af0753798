//! `diff` and `review`: what a worker made, and verdicts on it.

use serde::Serialize;

use super::act::Admission;
use super::{Control, is_released};
use crate::config::{Template, Templates};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::views::{ActionView, DiffView, VIEW_VERSION};
use crate::git::DiffOptions;
use crate::landing::{Landing, LandingError, NewReview, RemarkPlace, Remarking};
use crate::model::CommitId;
use crate::model::briefing::Briefing;
use crate::model::ticket::{Ticket, TicketState};
use crate::model::worker::Worker;
use crate::store::{Comment, CommentId, CommentState, ReviewVerdict};

/// What a person says about a worker's work; carried out in the order of the fields.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReviewRequest {
    /// The worker.
    pub(crate) worker: String,
    /// The commit that was looked at; `None` is whatever the branch points to now.
    pub(crate) commit: Option<CommitId>,
    /// Proposals that become comments of the person.
    pub(crate) accept: Vec<CommentChoice>,
    /// Proposals and comments that nobody wants.
    pub(crate) drop: Vec<CommentChoice>,
    /// Comments that are dealt with.
    pub(crate) resolve: Vec<CommentChoice>,
    /// Comments that are to be sent again.
    pub(crate) reopen: Vec<CommentChoice>,
    /// Items of the checklist to tick, by number.
    pub(crate) check: Vec<usize>,
    /// Items of the checklist to take the tick from.
    pub(crate) uncheck: Vec<usize>,
    /// About places: as [`RemarkPlace`] reads them, and text.
    pub(crate) comments: Vec<(String, String)>,
    /// The verdict.
    pub(crate) verdict: Option<ReviewVerdict>,
    /// About the whole.
    pub(crate) message: Option<String>,
}

/// One or all comments of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommentChoice {
    /// All to which it applies.
    All,
    /// This one.
    One(CommentId),
}

/// A worker's work in the form that `git apply` takes.
pub(crate) struct Patch {
    /// It.
    pub(crate) bytes: Vec<u8>,
    /// Whether uncommitted work is in it.
    pub(crate) is_dirty: bool,
    /// Files in it that are outside the scope of the ticket.
    pub(crate) outside_scope: Vec<String>,
}

impl Control {
    /// Runs something with the landing of this repository.
    pub(super) fn with_landing<T>(&self, act: impl FnOnce(&Landing<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        let (queue, settings) = (self.project.queue()?, self.project.settings_or_default());
        let landing = Landing {
            repository: &self.project.repository,
            store: self.project.store()?,
            paths: &self.project.paths,
            queue: &*queue,
            run: &self.run,
            remote: settings.node.remote.as_deref(),
            bundle_bytes: settings.node.bundle_bytes,
            shared: None,
        };
        act(&landing)
    }

    /// What a worker changed since its base; uncommitted work of a worker that is not released is included by way of
    /// a snapshot.
    pub(crate) fn diff(&self, name: &str, stat: bool, color: bool, width: Option<usize>) -> Result<DiffView, Failure> {
        let worker = self.worker(name)?;
        let (head, dirty) = self.present_work(&worker)?;
        let base = self.project.repository.own_base(&worker.place, &head)?;
        let options = DiffOptions { color, stat, width, paths: Vec::new() };
        let text = self.project.repository.diff(&base, &head, &options)?;
        Ok(DiffView {
            version: VIEW_VERSION,
            worker: worker.id.to_string(),
            base: base.to_string(),
            head: head.to_string(),
            dirty,
            outside_scope: self.outside_scope(&worker, &base, &head)?,
            text: String::from_utf8_lossy(&text).into_owned(),
        })
    }

    /// The same in the form that `git apply` takes; without `binary`, binary files are named only.
    pub(crate) fn patch(&self, name: &str, binary: bool) -> Result<Patch, Failure> {
        let worker = self.worker(name)?;
        let (head, dirty) = self.present_work(&worker)?;
        let repository = &self.project.repository;
        let base = repository.own_base(&worker.place, &head)?;
        let patch =
            if binary { repository.patch(&base, &head)? } else { repository.patch_text(&base, &head)?.into_bytes() };
        Ok(Patch { bytes: patch, is_dirty: dirty, outside_scope: self.outside_scope(&worker, &base, &head)? })
    }

    /// What a worker's work at one commit changed, as text.
    pub(crate) fn patch_at(&self, name: &str, commit: &CommitId) -> Result<String, Failure> {
        let worker = self.worker(name)?;
        let repository = &self.project.repository;
        if repository.resolve(commit.as_str())?.is_none() {
            return Err(Failure::new(FailureKind::NotFound, format!("there is no commit {}", commit.short())));
        }
        Ok(repository.patch_text(&repository.own_base(&worker.place, commit)?, commit)?)
    }

    /// The pager that git is configured to show differences with; empty is none.
    pub(crate) fn pager_setting(&self) -> Result<Option<String>, Failure> {
        Ok(self.project.repository.pager_setting()?)
    }

    /// The person's editor, as git chooses it.
    pub(crate) fn editor(&self) -> Result<String, Failure> {
        self.project.repository.editor().map_err(|error| Failure::from(error).hint("set EDITOR, or core.editor in git"))
    }

    /// The folder of a worker's files.
    pub(crate) fn worker_folder(&self, name: &str) -> Result<std::path::PathBuf, Failure> {
        Ok(self.project.paths.worker_dir(&self.worker(name)?.id))
    }

    /// The commit that holds a worker's present work, and whether some of it is not committed.
    fn present_work(&self, worker: &Worker) -> Result<(CommitId, bool), Failure> {
        let repository = &self.project.repository;
        if is_released(worker) {
            let kept = self.with_landing(|landing| Ok(landing.find_kept(worker.id.as_str())?))?;
            return Ok((kept.commit, kept.has_uncommitted));
        }
        if worker.place.worktree.is_dir() {
            let place = &worker.place;
            let taken = repository.snapshot(&place.worktree, &worker.id, &place.made_paths, false)?;
            return Ok((taken.commit, taken.dirty));
        }
        Ok((self.head(worker)?, false))
    }

    /// The head of a worker's branch.
    pub(super) fn head(&self, worker: &Worker) -> Result<CommitId, Failure> {
        self.project.repository.branch_head(&worker.place.branch)?.ok_or_else(|| {
            let text = format!("the branch `{}` of worker `{}` is gone", worker.place.branch, worker.id);
            Failure::new(FailureKind::NotFound, text).hint("swarm recover list shows what is kept")
        })
    }

    /// The commit that is judged: the branch's head, or what is kept of it.
    pub(super) fn present_head(&self, worker: &Worker) -> Result<CommitId, Failure> {
        if is_released(worker) {
            return Ok(self.with_landing(|landing| Ok(landing.find_kept(worker.id.as_str())?))?.head);
        }
        self.head(worker)
    }

    /// The person at the keyboard, as git names them.
    fn person(&self) -> Result<String, Failure> {
        let identity = self.project.repository.identity()?;
        Ok(format!("{} <{}>", identity.name, identity.email))
    }

    /// Takes what a person says. Everything is checked before anything is done. A rejection reaches the worker's agent
    /// as one message.
    pub(crate) fn judge(&self, request: &ReviewRequest) -> Result<ActionView, Failure> {
        let worker = self.worker(&request.worker)?;
        if is_released(&worker) {
            return Err(LandingError::IsReleased(worker.id).into());
        }
        let (by, head) = (self.person()?, self.head(&worker)?);
        if let Some(judged) = request.commit.as_ref().filter(|judged| **judged != head) {
            let (worker, judged) = (worker.id, judged.clone());
            return Err(LandingError::MovedOn { worker, judged, now: head }.into());
        }
        let how = Remarking { by: by.clone(), commit: head.clone(), state: CommentState::Open };
        let comments = self.with_landing(|landing| {
            let made = request.comments.iter().map(|(place, text)| {
                let place: RemarkPlace =
                    place.parse().map_err(|error| Failure::from_error(FailureKind::Usage, &error))?;
                Ok(landing.remark(&worker, &place, text, &how)?)
            });
            made.collect::<Result<Vec<_>, Failure>>()
        })?;
        let mut done = self.move_comments(&worker, request)?;
        self.with_landing(|landing| {
            landing.tick(&worker, &request.check, true, &by, &head)?;
            Ok(landing.tick(&worker, &request.uncheck, false, &by, &head)?)
        })?;
        done.extend(numbered("Ticked", &request.check).into_iter().chain(numbered("Unticked", &request.uncheck)));
        let ids = self.project.store()?.add_comments(&comments)?;
        let review = NewReview { by, text: request.message.clone().unwrap_or_default(), commit: Some(head) };
        match request.verdict {
            Some(ReviewVerdict::Approved) => self.approve(worker, review, done),
            Some(ReviewVerdict::Rejected) => self.reject(worker, review, done),
            Some(ReviewVerdict::Commented) | None => {
                if !ids.is_empty() {
                    done.push(format!("Noted {}; --reject sends it to the agent with the verdict", listed(&ids)));
                }
                let (worker, action) = (worker.id.to_string(), "commented".to_owned());
                Ok(ActionView { worker, action, text: done.join(". ") })
            }
        }
    }

    /// Moves comments from state to state as asked; what was done, one sentence each.
    fn move_comments(&self, worker: &Worker, request: &ReviewRequest) -> Result<Vec<String>, Failure> {
        use CommentState as S;
        let moves: [(&[CommentChoice], &str, &[S], S); 4] = [
            (&request.accept, "Accepted", &[S::Proposed, S::Dropped], S::Open),
            (&request.drop, "Dropped", &[S::Proposed, S::Open], S::Dropped),
            (&request.resolve, "Resolved", &[S::Open, S::Sent], S::Resolved),
            (&request.reopen, "Reopened", &[S::Sent, S::Resolved, S::Dropped], S::Open),
        ];
        let mut done = Vec::new();
        for (choices, word, from, to) in moves.into_iter().filter(|(choices, ..)| !choices.is_empty()) {
            let all = self.project.store()?.comments(&worker.id)?;
            // What `all` means is what the verb is for: proposals to accept or drop, the rest to resolve.
            let is_meant = |comment: &&Comment| match word {
                "Accepted" | "Dropped" => comment.content.state == S::Proposed,
                _ => from.contains(&comment.content.state),
            };
            let mut ids: Vec<CommentId> = Vec::new();
            for choice in choices {
                match choice {
                    CommentChoice::All => ids.extend(all.iter().filter(is_meant).map(|comment| comment.id)),
                    CommentChoice::One(id) => ids.push(*id),
                }
            }
            self.with_landing(|landing| Ok(landing.move_comments(&worker.id, &ids, from, to)?))?;
            let what = if ids.is_empty() { "nothing: there is no such comment".to_owned() } else { listed(&ids) };
            done.push(format!("{word} {what}"));
        }
        Ok(done)
    }

    /// Approves.
    fn approve(&self, worker: Worker, review: NewReview, mut done: Vec<String>) -> Result<ActionView, Failure> {
        if self.project.settings()?.review.require_checklist
            && let Some(commit) = &review.commit
        {
            self.with_landing(|landing| Ok(landing.require_checklist(&worker, commit)?))?;
        }
        let (open, judged) = self.with_landing(|landing| {
            let open = landing.comments_in(&worker.id, CommentState::Open)?;
            Ok((open, landing.approve(&worker.id, review)?))
        })?;
        done.push(format!("Approved at {}", judged.commit.short()));
        if !open.is_empty() {
            let ids: Vec<_> = open.iter().map(|comment| comment.id).collect();
            done.push(format!("{} stays unsent", listed(&ids)));
        }
        Ok(ActionView { worker: worker.id.to_string(), action: "approved".to_owned(), text: done.join(". ") })
    }

    /// Sends work back with every open comment in one message. They count as sent when that was taken.
    fn reject(&self, worker: Worker, review: NewReview, mut done: Vec<String>) -> Result<ActionView, Failure> {
        let open = self.with_landing(|landing| Ok(landing.comments_in(&worker.id, CommentState::Open)?))?;
        if review.text.trim().is_empty() && open.is_empty() {
            return Err(Failure::new(FailureKind::Usage, "a rejection needs a reason")
                .hint("add -m TEXT, or --comment FILE:LINE TEXT, or accept a proposal: --accept ID"));
        }
        self.check_may_message(&self.speaker()?, &worker.id, &worker.ticket)?;
        let ticket = self.published_ticket(&worker)?;
        let prompt = self.changes_requested(&worker, &ticket, &review, &open)?;
        let (id, head) = (worker.id.clone(), review.commit.clone());
        self.with_landing(|landing| Ok(landing.reject(&id, review)?))?;
        let delivered = self.deliver(worker, &prompt, head, Admission::Always, None)?;
        let ids: Vec<_> = open.iter().map(|comment| comment.id).collect();
        self.with_landing(|landing| {
            Ok(landing.move_comments(&id, &ids, &[CommentState::Open], CommentState::Sent)?)
        })?;
        done.push(format!("Rejected. {}", delivered.text));
        Ok(ActionView { action: "rejected".to_owned(), text: done.join(". "), ..delivered })
    }

    /// The message that a rejection is.
    fn changes_requested(
        &self,
        worker: &Worker,
        ticket: &Ticket,
        review: &NewReview,
        comments: &[Comment],
    ) -> Result<String, Failure> {
        let summary = Some(review.text.trim()).filter(|text| !text.is_empty());
        let comments = comments.iter().map(Remark::from).collect();
        let variables = ChangesRequested { reviewer: &review.by, summary, comments };
        self.render(Template::ChangesRequested, worker, ticket, variables)
    }

    /// Renders one of the repository's templates.
    pub(super) fn render(
        &self,
        template: Template,
        worker: &Worker,
        ticket: &Ticket,
        variables: impl Serialize,
    ) -> Result<String, Failure> {
        let briefing = Briefing::new(worker, ticket, self.project.repository.anchor());
        let templates = Templates::from_files(self.project.templates()?)?;
        Ok(templates.render(template, briefing.with(variables))?)
    }

    /// The ticket as it was published.
    pub(super) fn published_ticket(&self, worker: &Worker) -> Result<Ticket, Failure> {
        let known = self.project.queue()?.ticket(&worker.ticket)?;
        known
            .map(|known| known.ticket)
            .ok_or_else(|| Failure::new(FailureKind::NotFound, format!("the queue has no ticket `{}`", worker.ticket)))
    }

    /// Whether a ticket's work is waiting for a verdict.
    pub(super) fn is_in_review(&self, worker: &Worker) -> Result<bool, Failure> {
        Ok(self.ticket_state(&worker.ticket)? == Some(TicketState::Review))
    }
}

/// Comments by their ids.
fn listed(ids: &[CommentId]) -> String {
    ids.iter().map(CommentId::to_string).collect::<Vec<_>>().join(", ")
}

/// What was done to items of the checklist.
fn numbered(word: &str, numbers: &[usize]) -> Option<String> {
    let numbers: Vec<_> = numbers.iter().map(usize::to_string).collect();
    (!numbers.is_empty()).then(|| format!("{word} {}", numbers.join(", ")))
}

/// Variables of `changes_requested.md`.
#[derive(Serialize)]
struct ChangesRequested<'a> {
    reviewer: &'a str,
    summary: Option<&'a str>,
    comments: Vec<Remark>,
}

/// A comment as the template sees it.
#[derive(Serialize)]
pub(super) struct Remark {
    id: i64,
    file: String,
    line: Option<u32>,
    place: String,
    quote: Vec<String>,
    text: String,
    by: String,
}

impl From<&Comment> for Remark {
    fn from(comment: &Comment) -> Self {
        let said = &comment.content;
        Self {
            id: comment.id.0,
            file: said.file.clone(),
            line: said.lines.map(|lines| lines.first),
            place: RemarkPlace::of(said).to_string(),
            quote: said.quote.clone(),
            text: said.text.clone(),
            by: said.by.clone(),
        }
    }
}
