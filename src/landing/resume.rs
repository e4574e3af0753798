//! The last step of a landing, and what a dead process left before or inside it.

use std::path::PathBuf;

use super::evidence::Evidence;
use super::land::LandOptions;
use super::outcome::{Landed, Outcome, Report, Waiting, WaitingReason};
use super::{Landing, LandingError};
use crate::git::{Trash, crash_point};
use crate::model::error_text;
use crate::model::event::Event;
use crate::model::ticket::TicketState;
use crate::model::worker::Worker;
use crate::queue::{QueueTicket, Settlement};
use crate::store::{IntentId, LandingIntent};

impl Landing<'_> {
    /// Finishes or takes back the landings of dead processes, for a process whose turn it is.
    pub(super) fn resume_in_turn(&self, options: &LandOptions<'_>) -> Result<Vec<Report>, LandingError> {
        self.repository.repair_targets()?;
        self.repository.sweep_scratch()?;
        let mut reports = Vec::new();
        for (id, intent) in self.store.intents()? {
            let worker = intent.worker.clone();
            reports.push(Report { worker, outcome: self.resume_intent(id, &intent, options) });
        }
        for (ticket, state) in self.queue.states()? {
            if state == TicketState::Landing
                && let Some(entry) = self.queue.ticket(&ticket)?
                && self.is_ours(&entry)
                && !self.store.intents()?.iter().any(|(_, intent)| intent.ticket == ticket)
            {
                self.queue.settle(&ticket, entry.fence, Settlement::DeferLanding)?;
            }
        }
        Ok(reports)
    }

    /// Whether a ticket that is landing was taken by this node.
    fn is_ours(&self, entry: &QueueTicket) -> bool {
        let is_own = entry.node.as_deref().is_none_or(|node| node == self.queue.node());
        is_own || self.queue.server().is_none()
    }

    /// Finishes a landing whose commit is in the target, and takes any other back.
    pub(super) fn resume_intent(
        &self,
        id: IntentId,
        intent: &LandingIntent,
        options: &LandOptions<'_>,
    ) -> Result<Outcome, LandingError> {
        if let Some(shared) = self.shared {
            // It may be the tip already, though nobody could say so here any more.
            shared.catch_up(&intent.target)?;
        }
        let has_moved = match self.repository.branch_head(&intent.target)? {
            // Work that was in the target before needs no move.
            Some(head) if head == intent.from => intent.from == intent.to,
            Some(head) => self.repository.is_ancestor(&intent.to, &head)?,
            None => false,
        };
        if has_moved {
            let mut landed = self.finish(&[(id, intent.clone())], &[], options, &Trash::new(self.repository))?;
            return Ok(Outcome::Landed(landed.remove(0)));
        }
        let entry = self.queue.ticket(&intent.ticket)?;
        if entry.is_some_and(|entry| entry.state == TicketState::Landing && entry.fence == intent.fence) {
            self.queue.settle(&intent.ticket, intent.fence, Settlement::DeferLanding)?;
        }
        self.store.close_intents([id])?;
        let why = format!("an interrupted landing on `{}` was taken back", intent.target);
        Ok(Outcome::Waiting(Waiting { reason: WaitingReason::TargetBusy, why, files: Vec::new() }))
    }

    /// Step 7 of landings whose commits came into the target together: notes, tickets, events, releases, and at the end
    /// all their intents closed at once. Each step can be done twice.
    pub(super) fn finish(
        &self,
        landings: &[(IntentId, LandingIntent)],
        updated: &[PathBuf],
        options: &LandOptions<'_>,
        trash: &Trash,
    ) -> Result<Vec<Landed>, LandingError> {
        let facts = landings.iter().map(|(_, intent)| self.write_facts(intent, updated));
        let mut facts = facts.collect::<Result<Vec<_>, _>>()?;
        self.release_landed(&mut facts, options, trash);
        #[cfg(test)]
        if crate::git::crash::is_dead() {
            return Err(crate::git::GitError::Unborn.into());
        }
        crash_point!("released");
        self.close_intents(landings)?;
        Ok(facts.into_iter().map(|fact| fact.landed).collect())
    }

    /// Closes intents whose facts are written, or that came to nothing.
    pub(super) fn close_intents(&self, intents: &[(IntentId, LandingIntent)]) -> Result<(), LandingError> {
        Ok(self.store.close_intents(intents.iter().map(|(id, _)| *id))?)
    }

    /// Writes the note of a landing, marks its ticket and tells of it.
    fn write_facts(&self, intent: &LandingIntent, updated: &[PathBuf]) -> Result<Fact, LandingError> {
        let worker = self.worker(&intent.worker)?;
        let evidence = Evidence::load(self.paths, intent)?;
        let mut warnings = Vec::new();
        match &evidence {
            Some(evidence) => self.repository.add_note(intent.landed(), &evidence.line())?,
            None => warnings.push("the evidence of this landing was lost; its commit has no note".to_owned()),
        }
        crash_point!("note written");
        let settled = self.queue.settle(&intent.ticket, intent.fence, Settlement::Landed);
        let is_settled = settled.is_ok();
        match settled {
            Ok(_) => {
                let event = Event::Landed { target: intent.target.to_string(), commit: intent.landed().clone() };
                self.note_event(&worker, event)?;
            }
            // The target has the work; that its ticket went on meanwhile changes nothing of that.
            Err(error) => warnings.push(format!("the ticket could not be marked as landed: {error}")),
        }
        crash_point!("ticket landed");
        for worktree in updated {
            for path in self.repository.submodules_behind(worktree, &intent.from, &intent.to)? {
                let (path, worktree) = (path.display(), worktree.display());
                warnings.push(format!(
                    "the submodule `{path}` in `{worktree}` is not at the commit that landed; run git submodule update there"
                ));
            }
        }
        if !intent.moves() {
            let (target, head) = (&intent.target, intent.from.short());
            warnings.push(format!("`{target}` had this work already and was not moved; it is at {head}"));
        }
        let (tree, gates, tested) = match evidence {
            Some(evidence) => (evidence.tree, evidence.gates, Some(evidence.tested)),
            None => (self.repository.tree_of(&intent.to)?, Vec::new(), None),
        };
        let (from, commit, work) = (intent.from.clone(), intent.landed().clone(), intent.work.clone());
        let (updated, keep) = (updated.to_vec(), None);
        let landed = Landed { from, commit, tree, tested, work, gates, updated, keep, warnings };
        Ok(Fact { worker, is_settled, landed })
    }

    /// Releases the workers whose work landed; says where that failed.
    fn release_landed(&self, facts: &mut [Fact], options: &LandOptions<'_>, trash: &Trash) {
        let Some(stop) = options.stop else { return };
        let mut facts: Vec<&mut Fact> = facts.iter_mut().filter(|fact| fact.is_settled).collect();
        let workers: Vec<Worker> = facts.iter().map(|fact| fact.worker.clone()).collect();
        for (fact, stopped) in facts.iter_mut().zip(stop(&workers)) {
            let (id, landed) = (&fact.worker.id, &mut fact.landed);
            let release = || {
                self.catch_up(id, &landed.work)?;
                self.release_into(trash, id, "landed")
            };
            match stopped.and_then(|()| release().map_err(|error| error_text(&error))) {
                Ok(released) => {
                    if released.has_uncommitted {
                        let text = "was not committed and did not land; it is kept";
                        landed.warnings.push(format!("part of the work of `{id}` {text} in {}", released.keep));
                    }
                    if let Some(missing) = released.missing {
                        landed.warnings.push(format!("worker `{id}`: {}", missing.as_sentence()));
                    }
                    landed.keep = Some(released.keep);
                }
                Err(why) => {
                    landed.warnings.push(format!("worker `{id}` was not released: {why}; then run swarm rm {id}"));
                }
            }
        }
    }
}

/// A landing whose facts are written.
struct Fact {
    /// The worker.
    worker: Worker,
    /// Whether its ticket has landed, so that it can be released.
    is_settled: bool,
    /// What is told of it.
    landed: Landed,
}
