//! What was tried for a ticket and could not be done, and when it is tried again.

use std::time::Duration;

use super::jobs::{Job, Landing};
use super::world::Setback;
use super::{Engine, LOOK_EVERY};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::model::coordination::HoldKind;
use crate::model::ticket::TicketState;
use crate::model::{TicketId, Time};

/// How often a start may fail in a row before a person has to look.
const START_TRIES: u32 = 3;
/// How long a worker is left alone that could not be started so often.
const START_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// How often a landing may break off in a row before a person has to look.
const LAND_TRIES: u32 = 3;
/// How long work that could not land is left alone, the first time; doubled each time up to the longest.
const LAND_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// The longest of these times.
const LAND_AGAIN_WITHIN: Duration = Duration::from_secs(60);

impl Engine<'_> {
    /// State and fence of a ticket now. The last look may have seen it in the middle of what failed since.
    fn found_at(&self, ticket: &TicketId) -> Option<(TicketState, u64)> {
        let now = self.control.project().queue().and_then(|queue| Ok(queue.ticket(ticket)?));
        match now {
            Ok(known) => known.map(|known| (known.state, known.fence)),
            Err(_) => self.known_at(ticket),
        }
    }

    /// State and fence of a ticket at the last look.
    pub(super) fn known_at(&self, ticket: &TicketId) -> Option<(TicketState, u64)> {
        let (world, _) = self.last.as_ref()?;
        world.ticket(ticket).map(|entry| (entry.state, entry.fence))
    }

    /// Notes that a worker could not be started. What a person has to mend is not tried again before the ticket or the
    /// configuration changes; who goes on without an end looks again all the same, since it may have been mended elsewhere.
    pub(super) fn not_started(&mut self, ticket: TicketId, failure: &Failure) {
        use TicketState as S;
        let Some(at) = self.found_at(&ticket) else { return };
        if !matches!(at.0, S::Queued | S::Running | S::Lost | S::Failed | S::Dead) {
            // It went its own way, which is no failure.
            self.setbacks.remove(&ticket);
            return;
        }
        let count = self.setbacks.get(&ticket).map_or(0, |setback| setback.count) + 1;
        let wait = self.rules.run.backoff.wait_after(count);
        let text = failure.chain.join(": ");
        let (kind, until, count) = match failure.kind {
            // Somebody else took the last place, or the ticket went its own way.
            FailureKind::Limit => (HoldKind::Place, Some(Time::now().after(LOOK_EVERY)), count - 1),
            FailureKind::NeedsPerson | FailureKind::Usage | FailureKind::NotFound => {
                let again = self.request.is_endless.then(|| Time::now().after(START_AGAIN_AFTER));
                (HoldKind::Person, again, count)
            }
            // It may be the machine, as when its disk is full; whoever goes on without an end looks again.
            _ if count >= START_TRIES => (HoldKind::Person, Some(Time::now().after(START_AGAIN_AFTER)), count),
            _ => (HoldKind::Time, Some(Time::now().after(wait)), count),
        };
        let why = format!("could not be started: {text}");
        self.setbacks.insert(ticket, Setback { kind, why, until, at, count });
    }

    /// Notes that the work of a node that is gone could not be taken over. What was finished there is asked for again now
    /// and then: that node may come back.
    pub(super) fn not_taken_over(&mut self, ticket: TicketId, failure: &Failure) {
        use TicketState as S;
        match self.found_at(&ticket) {
            Some(at @ (S::Review | S::Approved | S::Landing, _)) => {
                let (kind, count) = (HoldKind::Person, 1);
                let until = Some(Time::now().after(START_AGAIN_AFTER));
                let why = failure.chain.join(": ");
                self.setbacks.insert(ticket, Setback { kind, why, until, at, count });
            }
            _ => self.not_started(ticket, failure),
        }
    }

    /// Notes what did not land and is not with its agent again.
    pub(super) fn landed(&mut self, landing: &Landing) {
        for (ticket, at) in &landing.after {
            if at.0 == TicketState::Landed {
                // The next look forgets it where nothing is left to be done.
                self.not_landed(ticket.clone(), *at, HoldKind::Time, "is still to be released".to_owned());
                continue;
            }
            let is_waiting = matches!(at.0, TicketState::Review | TicketState::Approved | TicketState::Landing);
            // What went back to its agent may be in review anew before the landing of the others is over.
            let is_returned = landing.view.returned.iter().any(|returned| returned.worker == ticket.as_str());
            if !is_waiting || is_returned {
                self.setbacks.remove(ticket);
                continue;
            }
            let told = landing.view.waiting.iter().find(|waiting| waiting.worker == ticket.as_str());
            let pull = landing.view.pull_requests.iter().find(|pull| pull.worker == ticket.as_str());
            if let Some((worker, is_unasked)) = landing.unread.iter().find(|(id, _)| id.as_str() == ticket.as_str()) {
                let was_seen = self.setbacks.get(ticket).is_some_and(|setback| setback.at == *at);
                self.not_landed(ticket.clone(), *at, HoldKind::Time, "waits for its reviewers".to_owned());
                // Who finished it may be about to ask them.
                if *is_unasked && was_seen {
                    self.jobs.begin(Job::Ask { worker: worker.clone() });
                }
            } else if let Some(told) = told {
                self.not_landed(ticket.clone(), *at, HoldKind::Person, format!("waits to land: {}", told.why));
            } else if let Some(pull) = pull {
                // Its checks end by themselves; merging it is somebody's or the forge's to do.
                let kind = if pull.checks_pending > 0 { HoldKind::Time } else { HoldKind::Person };
                let until = Some(Time::now().after(self.rules.forge_poll));
                let why = format!("waits in pull request {}", pull.url);
                self.setbacks.insert(ticket.clone(), Setback { kind, why, until, at: *at, count: 1 });
            } else if let Some(failure) = &landing.failure {
                self.landing_failed(ticket.clone(), *at, failure);
            }
        }
    }

    /// Leaves a ticket alone for a while whose landing broke off. It may be the machine, or a server that is away: it is
    /// tried again also where no approval says so yet, and a person looks when that goes on.
    pub(super) fn landing_failed(&mut self, ticket: TicketId, at: (TicketState, u64), failure: &Failure) {
        self.broke_off(ticket, at, failure, format!("could not land: {}", failure.chain.join(": ")));
    }

    /// The same of whatever else is to be done before it can land.
    pub(super) fn broke_off(&mut self, ticket: TicketId, at: (TicketState, u64), failure: &Failure, why: String) {
        let before = self.setbacks.get(&ticket).filter(|setback| setback.at == at);
        let count = before.map_or(0, |setback| setback.count) + 1;
        let needs_person =
            matches!(failure.kind, FailureKind::NeedsPerson | FailureKind::Usage | FailureKind::NotFound);
        let kind = if needs_person || count >= LAND_TRIES { HoldKind::Person } else { HoldKind::Time };
        let until = Some(Time::now().after(land_again_after(count)));
        self.setbacks.insert(ticket, Setback { kind, why, until, at, count });
    }

    /// Leaves a ticket alone for a while that could not land. One whose approval was taken back waits for a change.
    pub(super) fn not_landed(&mut self, ticket: TicketId, at: (TicketState, u64), kind: HoldKind, why: String) {
        let before = self.setbacks.get(&ticket).filter(|setback| setback.at == at);
        let count = before.map_or(0, |setback| setback.count) + 1;
        let is_for_good = at.0 == TicketState::Review && kind == HoldKind::Person;
        let until = (!is_for_good).then(|| Time::now().after(land_again_after(count)));
        self.setbacks.insert(ticket, Setback { kind, why, until, at, count });
    }
}

/// How long work is left alone that could not land so often.
fn land_again_after(count: u32) -> Duration {
    LAND_AGAIN_AFTER.saturating_mul(2u32.saturating_pow(count - 1)).min(LAND_AGAIN_WITHIN)
}
