//! Verdicts on finished work, each bound to the commit it judged.

use super::{Landing, LandingError};
use crate::model::event::Event;
use crate::model::ticket::TicketState;
use crate::model::worker::Worker;
use crate::model::{CommitId, Time, WorkerId};
use crate::queue::Settlement;
use crate::store::{Review, ReviewVerdict};

/// What somebody says about a worker's work.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NewReview {
    /// Who, as git names them; `policy` where nobody was asked.
    pub(crate) by: String,
    /// About the whole; may be empty.
    pub(crate) text: String,
    /// The commit that was looked at; `None` is whatever the branch points to now.
    pub(crate) commit: Option<CommitId>,
}

/// Where a worker's work stands by its last verdict.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Standing {
    /// Nobody judged it.
    Unreviewed,
    /// Approved as it is now.
    Approved(Review),
    /// Approved at a commit that is no longer the branch's head.
    Voided(Review),
    /// Changes were requested.
    Rejected(Review),
}

impl Standing {
    /// Draws it from all reviews, oldest first; remarks decide nothing.
    pub(crate) fn of(reviews: &[Review], head: &CommitId) -> Self {
        let last = reviews.iter().rev().find(|review| review.verdict != ReviewVerdict::Commented);
        match last {
            None => Self::Unreviewed,
            Some(review) if review.verdict == ReviewVerdict::Rejected => Self::Rejected(review.clone()),
            Some(review) if review.commit == *head => Self::Approved(review.clone()),
            Some(review) => Self::Voided(review.clone()),
        }
    }
}

impl Landing<'_> {
    /// Approves a worker's work at one commit, and moves its ticket to `approved`.
    ///
    /// # Errors
    /// [`LandingError::NotInReview`] when nothing is to be judged, [`LandingError::MovedOn`] when the branch is not
    /// at the commit that was looked at.
    pub(crate) fn approve(&self, worker: &WorkerId, review: NewReview) -> Result<Review, LandingError> {
        let (worker, fence, _) = self.judged(worker, &review)?;
        let review = self.put_review(&worker, ReviewVerdict::Approved, review)?;
        self.queue.settle(&worker.ticket, fence, Settlement::Approve)?;
        Ok(review)
    }

    /// Asks for changes. An approved ticket is in review again; the caller takes the remarks to the agent.
    pub(crate) fn reject(&self, worker: &WorkerId, review: NewReview) -> Result<Review, LandingError> {
        let (worker, fence, state) = self.judged(worker, &review)?;
        let review = self.put_review(&worker, ReviewVerdict::Rejected, review)?;
        if state == TicketState::Approved {
            self.queue.settle(&worker.ticket, fence, Settlement::VoidApproval)?;
        }
        Ok(review)
    }

    /// Where a worker's work stands.
    pub(crate) fn standing(&self, worker: &Worker) -> Result<Standing, LandingError> {
        Ok(Standing::of(&self.store.reviews(&worker.id)?, &self.head_of(worker)?))
    }

    /// Checks that the work can be judged now.
    fn judged(&self, worker: &WorkerId, review: &NewReview) -> Result<(Worker, u64, TicketState), LandingError> {
        let worker = self.live_worker(worker)?;
        let ticket = self.ticket_of(&worker)?;
        if !matches!(ticket.state, TicketState::Review | TicketState::Approved) {
            return Err(LandingError::NotInReview { ticket: worker.ticket.clone(), state: ticket.state });
        }
        let now = self.head_of(&worker)?;
        match &review.commit {
            Some(judged) if *judged != now => {
                Err(LandingError::MovedOn { worker: worker.id.clone(), judged: judged.clone(), now })
            }
            _ => Ok((worker, ticket.fence, ticket.state)),
        }
    }

    /// Stores a review and the event of it.
    fn put_review(&self, worker: &Worker, verdict: ReviewVerdict, new: NewReview) -> Result<Review, LandingError> {
        let commit = match new.commit {
            Some(commit) => commit,
            None => self.head_of(worker)?,
        };
        let review = Review {
            ticket: worker.ticket.clone(),
            worker: worker.id.clone(),
            commit: commit.clone(),
            verdict,
            by: new.by.clone(),
            text: new.text,
            at: Time::now(),
        };
        self.store.put_review(&review)?;
        let verdict = match verdict {
            ReviewVerdict::Approved => "approved",
            ReviewVerdict::Rejected => "rejected",
            ReviewVerdict::Commented => "commented",
        };
        self.note_event(worker, Event::Reviewed { verdict: verdict.to_owned(), commit, by: new.by })?;
        Ok(review)
    }
}
