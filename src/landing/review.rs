//! Verdicts on finished work, each bound to the commit it judged.

use super::{Landing, LandingError};
use crate::files::FileLock;
use crate::model::event::Event;
use crate::model::ticket::TicketState;
use crate::model::worker::{Live, Outcome, Phase, Worker};
use crate::model::{CommitId, Time, WorkerId, error_text};
use crate::queue::Settlement;
use crate::store::{Review, ReviewVerdict, read_live, write_live};

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
        self.catch_up(&worker.id, &review.commit)?;
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

    /// Brings what is known of an ended worker up to the commit that was judged or landed: somebody may have added to it
    /// since its attempt ended.
    pub(super) fn catch_up(&self, id: &WorkerId, judged: &CommitId) -> Result<(), LandingError> {
        // Nobody starts it while its facts are changed; one that is being started writes its own.
        let Some(_unspawned) = FileLock::try_take(&self.paths.spawn_lock(id))? else { return Ok(()) };
        let is_behind = |worker: &Worker| {
            let ended = match &worker.phase {
                Phase::Ended { outcome: Outcome::Finished { commit }, .. } => Some(commit),
                _ => None,
            };
            ended.is_some_and(|commit| commit != judged)
        };
        let worker = self.worker(id)?;
        if !is_behind(&worker) || FileLock::is_held(&self.paths.supervisor_lock(id))? {
            return Ok(());
        }
        self.store.update_worker::<LandingError>(id, |row| {
            if is_behind(row)
                && let Phase::Ended { outcome, .. } = &mut row.phase
            {
                *outcome = Outcome::Finished { commit: judged.clone() };
            }
            Ok(())
        })?;
        // Figures are worth having, and no verdict fails over them.
        if let Err(error) = self.measure_again(&worker) {
            tracing::warn!(worker = id.as_str(), error = error_text(&error), "its changes could not be measured");
        }
        Ok(())
    }

    /// Measures the changes of a worker without a supervisor.
    fn measure_again(&self, worker: &Worker) -> Result<(), LandingError> {
        let path = self.paths.live(&worker.id);
        if let Some(live) = read_live(&path)?.filter(|live| live.attempt == worker.attempt.number) {
            let changes = Some(self.repository.save_and_measure(&worker.id, &worker.place, None)?);
            write_live(&path, &Live { changes, ..live })?;
        }
        Ok(())
    }

    /// Checks that the work can be judged now.
    fn judged(&self, worker: &WorkerId, review: &NewReview) -> Result<(Worker, u64, TicketState), LandingError> {
        let worker = self.live_worker(worker)?;
        let ticket = self.ticket_of(&worker)?;
        if !matches!(ticket.state, TicketState::Review | TicketState::Approved) {
            return Err(LandingError::NotInReview { ticket: worker.ticket.clone(), state: ticket.state });
        }
        // A verdict on what was made here is none on what goes on there.
        if let Some(node) = self.elsewhere(&worker, &ticket) {
            return Err(LandingError::Overtaken { node: node.to_owned(), worker: worker.id });
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
