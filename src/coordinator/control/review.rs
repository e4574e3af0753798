//! `diff` and `review`: what a worker made, and verdicts on it.

use std::path::PathBuf;

use serde::Serialize;

use super::act::Admission;
use super::{Control, is_released};
use crate::config::{Template, Templates};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::views::{ActionView, CommitView, DiffView, ReviewView, VIEW_VERSION, VerdictView};
use crate::git::DiffOptions;
use crate::landing::{Landing, NewReview};
use crate::model::CommitId;
use crate::model::briefing::Briefing;
use crate::model::ticket::{Ticket, TicketState};
use crate::model::worker::Worker;
use crate::store::{ReviewComment, ReviewVerdict};

/// A verdict or remarks.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReviewRequest {
    /// The worker.
    pub(crate) worker: String,
    /// Approve.
    pub(crate) approve: bool,
    /// Send it back.
    pub(crate) reject: bool,
    /// About the whole.
    pub(crate) message: Option<String>,
    /// About places: `FILE:LINE` and text.
    pub(crate) comments: Vec<(String, String)>,
}

impl Control {
    /// Runs something with the landing of this repository.
    pub(super) fn with_landing<T>(&self, act: impl FnOnce(&Landing<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        let queue = self.project.queue()?;
        let landing = Landing {
            repository: &self.project.repository,
            store: self.project.store()?,
            paths: &self.project.paths,
            queue: &*queue,
            run: &self.run,
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
            text: String::from_utf8_lossy(&text).into_owned(),
        })
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
    fn head(&self, worker: &Worker) -> Result<CommitId, Failure> {
        self.project.repository.branch_head(&worker.place.branch)?.ok_or_else(|| {
            let text = format!("the branch `{}` of worker `{}` is gone", worker.place.branch, worker.id);
            Failure::new(FailureKind::NotFound, text).hint("swarm recover list shows what is kept")
        })
    }

    /// What there is to judge about a worker.
    pub(crate) fn review(&self, name: &str) -> Result<ReviewView, Failure> {
        let worker = self.worker(name)?;
        let head = self.present_head(&worker)?;
        let repository = &self.project.repository;
        let base = repository.own_base(&worker.place, &head)?;
        let commits = repository.commits_between(&base, &head)?;
        let options = DiffOptions { stat: true, ..DiffOptions::default() };
        let stat = repository.diff(&base, &head, &options)?;
        let verdicts = self.project.store()?.reviews(&worker.id)?;
        let last = verdicts.iter().rposition(|review| review.verdict != ReviewVerdict::Commented);
        let verdicts = verdicts.into_iter().enumerate().map(|(index, review)| VerdictView {
            void: review.verdict == ReviewVerdict::Approved && (review.commit != head || Some(index) != last),
            verdict: verdict_word(review.verdict).to_owned(),
            commit: review.commit.to_string(),
            by: review.by,
            text: review.text,
            at: review.at,
        });
        Ok(ReviewView {
            version: VIEW_VERSION,
            commit: Some(head.to_string()),
            commits: commits
                .into_iter()
                .map(|commit| CommitView { id: commit.id.to_string(), subject: commit.subject, author: commit.author })
                .collect(),
            stat: String::from_utf8_lossy(&stat).into_owned(),
            verdicts: verdicts.collect(),
            worker: self.view(worker)?,
        })
    }

    /// The commit that is judged: the branch's head, or what is kept of it.
    fn present_head(&self, worker: &Worker) -> Result<CommitId, Failure> {
        if is_released(worker) {
            return Ok(self.with_landing(|landing| Ok(landing.find_kept(worker.id.as_str())?))?.head);
        }
        self.head(worker)
    }

    /// Gives a verdict. A rejection reaches the worker's agent as one message.
    pub(crate) fn judge(&self, request: &ReviewRequest) -> Result<ActionView, Failure> {
        let worker = self.worker(&request.worker)?;
        let comments =
            request.comments.iter().map(|(place, text)| comment(place, text)).collect::<Result<Vec<_>, _>>()?;
        let identity = self.project.repository.identity()?;
        let review = NewReview {
            by: format!("{} <{}>", identity.name, identity.email),
            text: request.message.clone().unwrap_or_default(),
            comments,
            commit: None,
        };
        let id = &worker.id;
        let verdict =
            |action: &str, text: String| ActionView { worker: id.to_string(), action: action.to_owned(), text };
        if request.approve {
            let judged = self.with_landing(|landing| Ok(landing.approve(id, review)?))?;
            return Ok(verdict("approved", format!("Approved at {}", judged.commit.short())));
        }
        if !request.reject {
            self.with_landing(|landing| Ok(landing.comment(id, review)?))?;
            return Ok(verdict("commented", "Noted; --reject sends it to the agent with the verdict".to_owned()));
        }
        self.reject(worker, review)
    }

    /// Sends work back with everything that was said about it since the last verdict.
    fn reject(&self, worker: Worker, review: NewReview) -> Result<ActionView, Failure> {
        let earlier = self.open_remarks(&worker)?;
        let said = !review.text.trim().is_empty() || !review.comments.is_empty() || !earlier.is_empty();
        if !said {
            return Err(Failure::new(FailureKind::Usage, "a rejection needs a reason")
                .hint("add -m TEXT, or --comment FILE:LINE TEXT"));
        }
        let ticket = self.published_ticket(&worker)?;
        let mut comments = earlier;
        comments.extend(review.comments.iter().map(Remark::from));
        let prompt = self.changes_requested(&worker, &ticket, &review, comments)?;
        let head = self.head(&worker)?;
        self.with_landing(|landing| Ok(landing.reject(&worker.id, review)?))?;
        let delivered = self.deliver(worker, &prompt, Some(head), Admission::Always)?;
        Ok(ActionView { action: "rejected".to_owned(), text: format!("Rejected. {}", delivered.text), ..delivered })
    }

    /// Remarks made since the last verdict.
    fn open_remarks(&self, worker: &Worker) -> Result<Vec<Remark>, Failure> {
        let reviews = self.project.store()?.reviews(&worker.id)?;
        let last = reviews.iter().rposition(|review| review.verdict != ReviewVerdict::Commented);
        let open = reviews.iter().skip(last.map_or(0, |last| last + 1));
        let mut remarks = Vec::new();
        for review in open {
            if !review.text.trim().is_empty() {
                remarks.push(Remark { file: None, line: None, text: review.text.clone() });
            }
            remarks.extend(review.comments.iter().map(Remark::from));
        }
        Ok(remarks)
    }

    /// The message that a rejection is.
    fn changes_requested(
        &self,
        worker: &Worker,
        ticket: &Ticket,
        review: &NewReview,
        comments: Vec<Remark>,
    ) -> Result<String, Failure> {
        let summary = Some(review.text.trim()).filter(|text| !text.is_empty());
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

/// Reads `FILE:LINE`.
fn comment(place: &str, text: &str) -> Result<ReviewComment, Failure> {
    let parsed = place.rsplit_once(':').and_then(|(file, line)| Some((file, line.parse::<u32>().ok()?)));
    match parsed {
        Some((file, line)) if !file.is_empty() && line > 0 => {
            Ok(ReviewComment { file: PathBuf::from(file), line, text: text.to_owned() })
        }
        _ => Err(Failure::new(FailureKind::Usage, format!("`{place}` is not FILE:LINE"))),
    }
}

/// The word for a verdict.
fn verdict_word(verdict: ReviewVerdict) -> &'static str {
    match verdict {
        ReviewVerdict::Approved => "approved",
        ReviewVerdict::Rejected => "rejected",
        ReviewVerdict::Commented => "commented",
    }
}

/// Variables of `changes_requested.md`.
#[derive(Serialize)]
struct ChangesRequested<'a> {
    reviewer: &'a str,
    summary: Option<&'a str>,
    comments: Vec<Remark>,
}

/// A remark as the template sees it.
#[derive(Serialize)]
struct Remark {
    file: Option<String>,
    line: Option<u32>,
    text: String,
}

impl From<&ReviewComment> for Remark {
    fn from(comment: &ReviewComment) -> Self {
        let file = Some(comment.file.display().to_string());
        Self { file, line: Some(comment.line), text: comment.text.clone() }
    }
}
