//! The end of a run: what was begun is brought to an end or left so that the next one goes on with it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::jobs::Job;
use super::schedule::{Decision, decide};
use super::world::World;
use super::{Ending, Engine, LOOK_EVERY, News, PEEK_EVERY, summary};
use crate::coordinator::failure::Failure;
use crate::coordinator::views::RunView;
use crate::model::coordination::RunEnd;
use crate::model::event::{SwarmEvent, SwarmRecord};
use crate::model::ticket::TicketState;
use crate::model::worker::Liveness;
use crate::model::{TicketId, Time};

/// How long an engine that was told to end waits for a landing.
const LANDING_ENDS_WITHIN: Duration = Duration::from_secs(5);
/// How long an engine that was told to end waits for set-up commands until it ends them.
const STARTS_END_WITHIN: Duration = Duration::from_secs(10);
/// How long it waits for whatever else it has begun.
const END_WITHIN: Duration = Duration::from_secs(30);

impl Engine<'_> {
    /// Ends the agents of the chosen tickets, all at once. Where somebody else leads, they are that one's to end.
    pub(super) fn stop_all(&mut self, reason: &str) -> Result<(), Failure> {
        if !self.still_leads()? {
            return Ok(());
        }
        self.face.tell(&News::Said(&format!("{reason}; ending the agents, their work is kept")));
        self.drain()?;
        if !self.still_leads()? {
            return Ok(());
        }
        let (workers, tickets) = self.control.observe()?;
        let is_chosen = |id: &TicketId| self.chosen.as_ref().is_none_or(|chosen| chosen.contains(id));
        let is_running =
            |id: &TicketId| tickets.iter().any(|entry| entry.ticket.id == *id && entry.state == TicketState::Running);
        for seen in workers {
            let (ticket, worker) = (seen.worker.ticket.clone(), seen.worker.id.clone());
            // What is still being started has no agent to end.
            let is_ours = is_chosen(&ticket) && is_running(&ticket) && !self.jobs.doing().contains_key(&ticket);
            if seen.liveness == Liveness::Alive && is_ours {
                self.jobs.begin(Job::Stop { ticket, worker, reason: reason.to_owned() });
            }
        }
        self.await_short(END_WITHIN)
    }

    /// Waits for what was begun and is short; a landing is finished by the next one where it does not end in time. A set-up
    /// that goes on is ended, and its start is taken back: nobody would hear of it when this process is gone.
    fn drain(&mut self) -> Result<(), Failure> {
        self.await_short(STARTS_END_WITHIN)?;
        let begun = Instant::now();
        while self.jobs.has_short_ones() && begun.elapsed() < END_WITHIN {
            // It may be about to begin.
            self.jobs.end_set_ups();
            self.await_short(LOOK_EVERY)?;
        }
        Ok(())
    }

    /// Waits for what was begun, but for landings.
    fn await_short(&mut self, within: Duration) -> Result<(), Failure> {
        let begun = Instant::now();
        while self.jobs.has_short_ones() && begun.elapsed() < within {
            self.await_report()?;
        }
        Ok(())
    }

    /// Takes a report of what is under way, if one comes in a moment. Who leads keeps the lead meanwhile: nobody else acts
    /// on tickets that are being brought to their end here.
    fn await_report(&mut self) -> Result<(), Failure> {
        if let Some(report) = self.jobs.next(PEEK_EVERY) {
            self.take(report);
        }
        if self.leads {
            let leading = self.lease.keep()?;
            self.hear_lead(leading)?;
        }
        Ok(())
    }

    /// Waits for a landing under way: as long as it takes where a person asked to end, who can ask again; else for
    /// moments. What it has not done by then the next landing finishes.
    fn await_landing(&mut self, ending: Ending) -> Result<(), Failure> {
        let within = match ending {
            Ending::Interrupted(2) => Duration::MAX,
            _ => LANDING_ENDS_WITHIN,
        };
        if self.jobs.doing().is_empty() {
            return Ok(());
        }
        if within == Duration::MAX {
            self.face.tell(&News::Said("waiting for the landing under way; a second Ctrl-C leaves it to the next one"));
        }
        let begun = Instant::now();
        while !self.jobs.doing().is_empty() && begun.elapsed() < within {
            self.await_report()?;
        }
        // What its gate started would run on without anybody who hears it.
        self.jobs.end_landing();
        let ended = Instant::now();
        while !self.jobs.doing().is_empty() && ended.elapsed() < LANDING_ENDS_WITHIN {
            self.await_report()?;
        }
        Ok(())
    }

    /// Ends the run: gives the lead up, says how it ended.
    pub(super) fn end(mut self, ending: Ending) -> Result<(RunView, Result<(), Failure>), Failure> {
        self.drain()?;
        self.await_landing(ending)?;
        let (workers, tickets) = self.control.observe()?;
        let (mut world, _) = match self.last.take() {
            Some(last) => last,
            None => (World::empty(self.chosen.clone()), Decision::default()),
        };
        (world.now, world.workers, world.tickets, world.doing) = (Time::now(), workers, tickets, BTreeMap::new());
        world.setbacks = std::mem::take(&mut self.setbacks);
        let decision = decide(&world, &self.rules);
        self.tell_changes(&world)?;
        let (view, result) = summary::of_run(&self.record, &world, &decision, ending);
        if self.still_leads()? {
            self.control.project().store()?.set_holds(&[])?;
        }
        self.leave_nodes();
        self.release()?;
        let exit_code = view.exit_code;
        self.record.ended = Some(RunEnd { at: Time::now(), exit_code, why: view.why.clone() });
        self.control.project().store()?.put_run_record(&self.record)?;
        self.note(SwarmRecord::now(&self.record.id, SwarmEvent::RunEnded { exit_code, why: view.why.clone() }))?;
        self.control.tell_facts();
        Ok((view, result))
    }
}
