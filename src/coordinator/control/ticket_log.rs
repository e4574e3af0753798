//! `log`: what a ticket's landing rested on.

use super::Control;
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::views::{LogView, VIEW_VERSION};
use crate::landing::Evidence;
use crate::model::event::{Event, EventRecord};
use crate::model::{CommitId, TicketId};
use crate::store::read_log;

impl Control {
    /// The evidence of a ticket's landings, and what led to them. Notes alone are enough for it: a clone that fetched
    /// `refs/notes/swarm` and knows nothing else of the ticket gets the same evidence.
    pub(crate) fn ticket_log(&self, name: &str) -> Result<LogView, Failure> {
        let ticket = self.logged_ticket(name)?;
        let state = self.ticket_state(&ticket)?;
        let mut events = Vec::new();
        for worker in self.project.store()?.workers()?.into_iter().filter(|worker| worker.ticket == ticket) {
            let log = read_log::<EventRecord>(&self.project.paths.events(&worker.id))?;
            events.extend(log.records.into_iter().filter(|record| record.ticket == ticket && is_told(&record.event)));
        }
        events.sort_by_key(|record| record.at);
        let landings = self.landings(&ticket, &events)?;
        if state.is_none() && landings.is_empty() && events.is_empty() {
            return Err(Failure::new(FailureKind::NotFound, format!("nothing is known of a ticket `{ticket}`"))
                .hint("swarm ticket list shows all tickets"));
        }
        Ok(LogView { version: VIEW_VERSION, ticket: ticket.to_string(), state, landings, events })
    }

    /// The ticket that a name means: a ticket, or a worker of one.
    fn logged_ticket(&self, name: &str) -> Result<TicketId, Failure> {
        if let Ok(id) = name.parse()
            && let Some(worker) = self.project.store()?.worker(&id)?
        {
            return Ok(worker.ticket);
        }
        Ok(name.parse()?)
    }

    /// The evidence in the notes of the commits that landed; where no event names one, in all notes.
    fn landings(&self, ticket: &TicketId, events: &[EventRecord]) -> Result<Vec<Evidence>, Failure> {
        let repository = &self.project.repository;
        let mut commits: Vec<CommitId> = Vec::new();
        for record in events {
            if let Event::Landed { commit, .. } = &record.event
                && !commits.contains(commit)
            {
                commits.push(commit.clone());
            }
        }
        if commits.is_empty() {
            commits = repository.noted()?;
        }
        let mut landings = Vec::new();
        for commit in commits {
            let note = repository.note(&commit)?.unwrap_or_default();
            landings.extend(Evidence::of_note(&note).filter(|evidence| evidence.ticket == *ticket));
        }
        landings.sort_by_key(|evidence| evidence.at);
        Ok(landings)
    }
}

/// Whether an event is about judging and landing work.
fn is_told(event: &Event) -> bool {
    matches!(
        event,
        Event::Reviewed { .. }
            | Event::LandingIntent { .. }
            | Event::Landed { .. }
            | Event::Returned { .. }
            | Event::Released { .. }
            | Event::Warning { .. }
    )
}
