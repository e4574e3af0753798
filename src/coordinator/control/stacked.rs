//! Work that started from the branch of a dependency, once that one has landed.
//!
//! The branch is left as it is. Where the target has the dependency as it was, there is nothing to do; where it has it as
//! other commits, only the worker's own are built onto the target when it lands, and the gates run on exactly that. So an
//! approval, a review under way and an agent at work all go on being about the commits that they saw; a rebase would void
//! the first two and pull the ground from under the third. What is left is to say so: to the agent, and to a person who asks.

use super::{Control, is_released};
use crate::coordinator::failure::Failure;
use crate::coordinator::views::MergeView;
use crate::model::TicketId;
use crate::model::ticket::TicketState;
use crate::model::worker::{Liveness, Phase, Worker};
use crate::supervisor::protocol::Request;

impl Control {
    /// Tells those whose branches stand on what landed. A failure keeps nobody from anything: `why` tells it as well.
    pub(super) fn tell_stacked_of(&self, view: &MergeView) {
        let workers = view.landed.iter().filter_map(|landed| self.worker(&landed.worker).ok());
        let tickets: Vec<_> = workers.map(|worker| worker.ticket).collect();
        if let Err(failure) = self.tell_stacked(&tickets) {
            tracing::warn!(error = failure.chain.join(": "), "stacked work could not be told what landed");
        }
    }

    /// Tells agents at work, at their next turn boundary, that the dependency their branch stands on has landed as other
    /// commits than those they have.
    fn tell_stacked(&self, landed: &[TicketId]) -> Result<(), Failure> {
        let is_about = |worker: &Worker| {
            let on = worker.place.stacked_on.as_ref();
            matches!(worker.phase, Phase::Supervised { .. }) && on.is_some_and(|on| landed.contains(&on.ticket))
        };
        for worker in self.project.store()?.workers()?.into_iter().filter(is_about) {
            let is_at_work = self.ticket_state(&worker.ticket)? == Some(TicketState::Running);
            if !is_at_work || self.liveness(&worker) != Liveness::Alive {
                continue;
            }
            if let Some(fact) = self.replay_fact(&worker)? {
                let text = format!("{fact}. Go on as you are: do not merge or rebase your branch because of it.");
                // One that takes no messages, or ends now, needs none: its work lands all the same.
                self.ask(&worker, &Request::Notice { text }).ok();
            }
        }
        Ok(())
    }

    /// What stands below a worker's branch and what becomes of that, as a sentence; `None` where it started from no
    /// dependency, or was released.
    pub(super) fn stack_fact(&self, worker: &Worker) -> Result<Option<String>, Failure> {
        let Some(on) = worker.place.stacked_on.as_ref().filter(|_| !is_released(worker)) else { return Ok(None) };
        let (id, ticket) = (&worker.id, &on.ticket);
        let state = self.ticket_state(ticket)?;
        Ok(Some(match state {
            Some(state @ (TicketState::Cancelled | TicketState::Dead)) => format!(
                "its branch started from that of `{ticket}`, which is {state} and will not land: swarm resolve {id} takes \
                 those commits out of it"
            ),
            Some(state) if !state.is_ended() => {
                format!("its branch started from that of `{ticket}`, which is {state}; it lands after it")
            }
            _ => match self.replay_fact(worker)? {
                Some(fact) => fact,
                None => format!("its branch started from that of `{ticket}`, which the target has as it was"),
            },
        }))
    }

    /// That only the own commits of a worker are brought to the target, which has its dependency as others.
    fn replay_fact(&self, worker: &Worker) -> Result<Option<String>, Failure> {
        let (repository, place) = (&self.project.repository, &worker.place);
        let (Some(on), Some(head), Some(onto)) =
            (&place.stacked_on, repository.branch_head(&place.branch)?, repository.branch_head(&place.target)?)
        else {
            return Ok(None);
        };
        let since = self.with_landing(|landing| Ok(landing.own_commits(worker, &onto, &head)?))?;
        Ok(since.map(|_| {
            format!(
                "`{}`, from whose branch this one started, has landed on `{}` as other commits; when this one lands, only \
                 its own commits are replayed there, and its branch stays as it is until then",
                on.ticket, place.target
            )
        }))
    }
}
