//! What the supervisor says about its worker: the live file, status events, its own log, the last word in the pane.

use tokio::time::Instant;

use super::Supervision;
use crate::model::event::Event;
use crate::model::worker::{LIVE_WHOLE_EVERY, Live, Status};
use crate::model::{Time, duration_text, error_text};
use crate::store::{touch_live, write_live};
use crate::supervisor::protocol::Reply;

impl Supervision {
    /// Writes what changed: the status to the event log, the figures to the live file, answers to who waits for them.
    pub(super) async fn say_status(&mut self) {
        for input in std::mem::take(&mut self.follow_up) {
            self.input(input).await;
        }
        let (status, reason, _) = self.machine.verdict();
        let said = (status, reason.to_owned());
        if self.told.said.0 != said.0 || status == Status::Waiting && self.told.said.1 != said.1 {
            let event = Event::StatusChanged { status: said.0, reason: said.1.clone() };
            if self.told.said.0 != said.0 {
                self.meter.note(&format!("it became {}", status.as_str()));
            }
            self.told.said = said;
            self.write_live();
            self.log(event).await;
        } else if self.told.live_is_stale && self.timers.heartbeat.elapsed() >= super::LIVE_EVERY {
            self.beat();
        }
        self.answer_sends();
    }

    /// Tells senders that their message was taken, or will not be.
    fn answer_sends(&mut self) {
        if self.told.unanswered_sends.is_empty() || self.machine.is_confirming() {
            return;
        }
        let (status, reason, _) = self.machine.verdict();
        let taken = status != Status::Waiting;
        let why = reason.to_owned();
        for answer in self.told.unanswered_sends.drain(..) {
            answer.send(if taken { Reply::Delivered } else { Reply::Refused { why: why.clone() } }).ok();
        }
    }

    /// Writes the live file, as a heartbeat or because something changed; a heartbeat at rest without news only touches it.
    pub(super) fn beat(&mut self) {
        self.timers.heartbeat = Instant::now();
        self.told.live_is_stale = false;
        if !(self.is_at_rest() && self.touch_live()) {
            self.write_live();
        }
    }

    /// Says that what the live file says still holds; whether that is all there is to say, and could be said.
    fn touch_live(&self) -> bool {
        let live = self.live();
        let known = self.told.live.as_ref().filter(|(_, written_at)| written_at.elapsed() < LIVE_WHOLE_EVERY);
        known.is_some_and(|(known, _)| live.adds_nothing_to(known))
            && touch_live(&self.assignment.paths.live(&self.assignment.worker.id), live.heartbeat_at).is_ok()
    }

    /// Writes the live file whole.
    pub(super) fn write_live(&mut self) {
        let live = self.live();
        let written = write_live(&self.assignment.paths.live(&self.assignment.worker.id), &live);
        self.told.live = written.is_ok().then(|| (live, Instant::now()));
        self.note_error(written);
    }

    /// What there is to say of the worker now.
    fn live(&self) -> Live {
        let (status, reason, since) = self.machine.verdict();
        Live {
            heartbeat_at: Time::now(),
            attempt: self.assignment.worker.attempt.number,
            agent: self.agent.as_ref().and_then(|agent| agent.identity.clone()),
            status,
            reason: match self.stuck_for() {
                Some(quiet) => {
                    let (quiet, last) = (duration_text(quiet), self.meter.sign().what);
                    format!("no sign of progress for {quiet} (the last: {last}); {reason}")
                }
                None => reason.to_owned(),
            },
            since,
            evidence: self.machine.evidence(),
            figures: self.facts.figures,
            changes: self.facts.changes,
            resources: self.meter.resources(),
            sign: Some(self.meter.sign()),
            checks: self.facts.checks.clone(),
            held_at: self.machine.held_at().map(str::to_owned),
            outside_scope: self.facts.outside_scope.clone(),
        }
    }

    /// Writes an error to the supervisor's log; the worker goes on.
    pub(super) fn note_error<T, E: std::error::Error>(&self, result: Result<T, E>) {
        if let Err(error) = result {
            tracing::warn!(error = error_text(&error), "went on after an error");
        }
    }

    /// Answers who waits for the end.
    pub(super) fn answer_stops(&mut self) {
        for answer in self.told.unanswered_stops.drain(..) {
            answer.send(Reply::Ok).ok();
        }
    }

    /// Answers who waits for the end, and leaves a last word in the pane.
    pub(super) fn say_goodbye(&mut self) {
        self.answer_stops();
        if let Some(pane) = &self.terminal.pane {
            let (status, reason, _) = self.machine.verdict();
            let id = &self.assignment.worker.id;
            pane.say_goodbye(&format!("\r\n\x1b[2mswarm: {id} is {}: {reason}\x1b[0m\r\n", status.as_str()));
        }
    }

    /// Drops the requests that nobody will answer; their clients are told that this is the end.
    pub(super) fn refuse_the_rest(&mut self) {
        self.sources.calls.close();
        while self.sources.calls.try_recv().is_ok() {}
        self.told.unanswered_sends.clear();
    }
}
