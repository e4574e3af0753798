//! What a review shows: the work, what was said about it, and what became of that.

use super::Control;
use crate::coordinator::failure::Failure;
use crate::coordinator::views::{
    ChecklistItemView, CommentView, CommitView, ReviewView, SinceView, SpotView, VIEW_VERSION, VerdictView,
};
use crate::git::{CommitInfo, DiffOptions};
use crate::landing::{ChecklistItem, Finder};
use crate::model::CommitId;
use crate::model::scope::Scope;
use crate::model::worker::Worker;
use crate::store::{Comment, Review, ReviewVerdict, read_result};

impl Control {
    /// What there is to judge about a worker; with `color`, what changed since the last verdict is coloured by git.
    pub(crate) fn review(&self, name: &str, color: bool, width: Option<usize>) -> Result<ReviewView, Failure> {
        let worker = self.worker(name)?;
        let head = self.present_head(&worker)?;
        let repository = &self.project.repository;
        let base = repository.own_base(&worker.place, &head)?;
        let commits = repository.commits_between(&base, &head)?;
        let options = DiffOptions { stat: true, width, ..DiffOptions::default() };
        let stat = repository.diff(&base, &head, &options)?;
        let verdicts = self.project.store()?.reviews(&worker.id)?;
        let since = self.since(&worker, &head, &base, &verdicts, color)?;
        let checklist = self.with_landing(|landing| Ok(landing.checklist(&worker)?))?;
        Ok(ReviewView {
            version: VIEW_VERSION,
            commit: Some(head.to_string()),
            commits: commits.into_iter().map(commit_view).collect(),
            stat: String::from_utf8_lossy(&stat).into_owned(),
            outside_scope: self.outside_scope(&worker, &base, &head)?,
            result: read_result(&self.project.paths.result(&worker.id))?,
            comments: self.comment_views(&worker, &head)?,
            checklist: checklist.into_iter().zip(1..).map(|item| item_view(item, &head)).collect(),
            reviewers: self.reviewer_views(&worker, &head)?,
            since,
            verdicts: verdict_views(verdicts, &head),
            worker: self.view(worker)?,
        })
    }

    /// The files between two commits that are outside the scope of a worker's ticket.
    pub(super) fn outside_scope(
        &self,
        worker: &Worker,
        base: &CommitId,
        head: &CommitId,
    ) -> Result<Vec<String>, Failure> {
        let scope = Scope::new(&self.published_ticket(worker)?.scope);
        if !scope.is_stated() {
            return Ok(Vec::new());
        }
        Ok(scope.outside(self.project.repository.changed_files(base, head)?))
    }

    /// The comments on a worker's work with where their places are in `head`.
    pub(super) fn comment_views(&self, worker: &Worker, head: &CommitId) -> Result<Vec<CommentView>, Failure> {
        let comments = self.project.store()?.comments(&worker.id)?;
        self.with_landing(|landing| {
            let mut finder = Finder::new(*landing, head);
            comments.into_iter().map(|comment| comment_view(comment, &mut finder)).collect()
        })
    }

    /// What changed since the last verdict.
    fn since(
        &self,
        worker: &Worker,
        head: &CommitId,
        base: &CommitId,
        verdicts: &[Review],
        color: bool,
    ) -> Result<Option<SinceView>, Failure> {
        let last = verdicts.iter().rev().find(|review| review.verdict != ReviewVerdict::Commented);
        let Some(last) = last.filter(|last| last.commit != *head) else { return Ok(None) };
        let repository = &self.project.repository;
        let mut view = SinceView {
            verdict: verdict_word(last.verdict).to_owned(),
            commit: last.commit.to_string(),
            is_rewritten: false,
            is_lost: false,
            commits: Vec::new(),
            text: String::new(),
        };
        if repository.resolve(last.commit.as_str())?.is_none() {
            view.is_lost = true;
        } else if repository.merge_base(&last.commit, head)?.as_ref() == Some(&last.commit) {
            view.commits = repository.commits_between(&last.commit, head)?.into_iter().map(commit_view).collect();
            let options = DiffOptions { color, ..DiffOptions::default() };
            view.text = String::from_utf8_lossy(&repository.diff(&last.commit, head, &options)?).into_owned();
        } else {
            view.is_rewritten = true;
            let before = repository.own_base(&worker.place, &last.commit)?;
            view.text = repository.range_diff((&before, &last.commit), (base, head), color)?;
        }
        Ok(Some(view))
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

/// A commit as a view.
fn commit_view(commit: CommitInfo) -> CommitView {
    CommitView { id: commit.id.to_string(), subject: commit.subject, author: commit.author }
}

/// Verdicts as views: an approval counts no more when the work went on or a later verdict took its place.
fn verdict_views(verdicts: Vec<Review>, head: &CommitId) -> Vec<VerdictView> {
    let last = verdicts.iter().rposition(|review| review.verdict != ReviewVerdict::Commented);
    let views = verdicts.into_iter().enumerate().map(|(index, review)| VerdictView {
        void: review.verdict == ReviewVerdict::Approved && (review.commit != *head || Some(index) != last),
        verdict: verdict_word(review.verdict).to_owned(),
        commit: review.commit.to_string(),
        by: review.by,
        text: review.text,
        at: review.at,
    });
    views.collect()
}

/// A comment as a view.
fn comment_view(comment: Comment, finder: &mut Finder<'_>) -> Result<CommentView, Failure> {
    let spot = finder.find(&comment.content)?;
    let (id, said) = (comment.id, comment.content);
    Ok(CommentView {
        id,
        state: said.state,
        by: said.by,
        commit: said.commit.to_string(),
        file: said.file,
        side: said.side,
        first_line: said.lines.map(|lines| lines.first),
        last_line: said.lines.map(|lines| lines.last),
        quote: said.quote,
        text: said.text,
        severity: said.severity,
        at: said.at,
        now: SpotView {
            fate: spot.fate,
            file: spot.file,
            first_line: spot.lines.map(|lines| lines.first),
            last_line: spot.lines.map(|lines| lines.last),
            code: spot.code,
        },
    })
}

/// An item of the checklist as a view.
fn item_view((item, number): (ChecklistItem, usize), head: &CommitId) -> ChecklistItemView {
    let is_ticked = item.is_ticked_at(head);
    let (ticked_at, by) = item.tick.map(|tick| (tick.commit.to_string(), tick.by)).unzip();
    ChecklistItemView { number, text: item.text, is_ticked, ticked_at, by }
}
