//! Batches: the work of several workers is stacked, tested as one, and lands as one.
//!
//! Each piece of approved work is merged onto the one before it, and the gates run on the tip of the stack: when they
//! pass, the target moves to exactly that tip, and so every tree it ever points to has passed. When they fail, and fail
//! again, the stack is halved until the first piece is found with which they fail. What lies below it has passed by
//! then and lands; the piece goes back to its agent with the output; what lay above is stacked anew on what landed.
//!
//! A red batch costs more than testing its pieces one by one when several of them are red. So the next batch is half as
//! large, down to a single piece. Each green one makes the next twice as large again, up to the configured size, but
//! only after several pieces in a row have passed: one green batch says little where every fifth piece is red.
//!
//! Work that does not fit the target is taken out before anything is tested. Work that only does not fit the work
//! below it is put off to the next batch: what it conflicts with may not land.

use std::collections::{BTreeMap, VecDeque};

use super::evidence::{Evidence, Tested};
use super::gate::{GateReport, Scratch};
use super::land::{Candidate, LandOptions, Next, red};
use super::outcome::{LandEvent, Outcome, Report, Waiting, WaitingReason};
use super::review::Standing;
use super::shared::Announced;
use super::speculate::{Expected, Speculation};
use super::{Landing, LandingError};
use crate::git::{Advance, Busy, Forecast, Trash, crash_point};
use crate::model::event::Event;
use crate::model::node::LandedTicket;
use crate::model::ticket::TicketState;
use crate::model::{BranchName, CommitId, Time, WorkerId};
use crate::queue::Settlement;
use crate::store::{IntentId, LandingIntent};

/// How many pieces must pass in a row before batches grow. With fewer, batches cost more gates than single pieces do
/// where every fifth is red (`benches/landing.rs` measures it); with more, they save less where few are.
const STREAK: usize = 8;

/// Work whose landing has begun, and what it would make of the target.
struct Layer {
    /// The work.
    candidate: Candidate,
    /// Built on the layer below, the lowest on the target.
    next: Next,
}

/// What testing a stack gave.
struct Search {
    /// How many layers, from the lowest, have passed together.
    green: usize,
    /// The reports of the gates that passed on the highest of them.
    passed: Vec<GateReport>,
    /// The reports for the layer above, the red one last; `None` when there is none.
    failed: Option<Vec<GateReport>>,
}

/// How moving the target went.
enum Moved {
    /// It moved; each layer's report is written.
    Landed,
    /// Somebody else moved it first.
    Underneath,
    /// A person's checkout is in the way.
    Waiting(Waiting),
}

/// When it is the turn of work that is not to land yet.
enum Turn {
    /// In the next batch.
    NextBatch,
    /// After the others that are left.
    Later,
}

/// One call's state.
struct Batches<'a, 'e> {
    landing: Landing<'a>,
    options: &'a LandOptions<'a>,
    events: &'e mut dyn FnMut(LandEvent<'_>),
    /// Workers whose turn is still to come.
    left: VecDeque<WorkerId>,
    /// What happened to the others.
    reports: Vec<Report>,
    /// Most workers in the next batch.
    size: usize,
    /// How much work has passed since some was red.
    streak: usize,
    /// How many of those to come do not merge with their target; they are a batch of their own.
    unmergeable: usize,
    /// Gates that run on what the next batch is expected to be.
    speculation: Option<Speculation>,
    /// Where the gates of the last batch ran.
    scratch: Option<Scratch>,
    /// Where the worktrees of released workers go.
    trash: Trash,
}

impl Landing<'_> {
    /// Lands workers, batch by batch; a report for each.
    pub(super) fn land_in_batches(
        &self,
        workers: &[WorkerId],
        options: &LandOptions<'_>,
        events: &mut dyn FnMut(LandEvent<'_>),
    ) -> Result<Vec<Report>, LandingError> {
        let left = workers.iter().cloned().collect();
        let mut batches = Batches {
            landing: *self,
            options,
            events,
            left,
            reports: Vec::new(),
            size: options.batch.max(1),
            streak: 0,
            unmergeable: 0,
            speculation: None,
            scratch: None,
            trash: Trash::new(self.repository),
        };
        batches.isolate();
        while !batches.left.is_empty() {
            if options.is_ended() {
                let left = std::mem::take(&mut batches.left);
                left.into_iter().for_each(|worker| batches.report(worker, Err(LandingError::Ended)));
                break;
            }
            let mut batch = batches.begin();
            let answer = batches.land(&mut batch);
            #[cfg(test)]
            if crate::git::crash::is_dead() {
                return answer.map(|()| Vec::new());
            }
            if let Err(failure) = answer {
                batches.take_stock(batch, failure);
            }
        }
        Ok(batches.reports)
    }
}

impl Landing<'_> {
    /// A worker's work, when as far as can be seen at a glance it may land.
    fn expected(&self, id: &WorkerId) -> Result<Option<Expected>, LandingError> {
        let worker = self.live_worker(id)?;
        if self.ticket_of(&worker)?.state != TicketState::Approved {
            return Ok(None);
        }
        Ok(match self.standing(&worker)? {
            Standing::Approved(approval) => Some(Expected { worker, work: approval.commit }),
            _ => None,
        })
    }
}

impl Batches<'_, '_> {
    /// Puts work first that does not merge with its target: it costs no gate, and its agents hear of it before the
    /// others' gates have run. A batch takes such work out before its gates run anyway, so one batch needs no look
    /// ahead; and what cannot be looked at here is told where it is landed.
    fn isolate(&mut self) {
        if self.left.len() <= self.size {
            return;
        }
        let unmergeable = self.find_unmergeable().unwrap_or_default();
        let (first, rest): (Vec<_>, Vec<_>) = self.left.drain(..).partition(|worker| unmergeable.contains(worker));
        self.unmergeable = first.len();
        self.left = first.into_iter().chain(rest).collect();
    }

    /// The workers to come whose work does not merge with its target as it is.
    fn find_unmergeable(&self) -> Result<Vec<WorkerId>, LandingError> {
        let mut by_target: BTreeMap<BranchName, Vec<(WorkerId, CommitId)>> = BTreeMap::new();
        for id in &self.left {
            let Ok(expected) = self.landing.expected(id) else { continue };
            if let Some(Expected { worker, work }) = expected {
                by_target.entry(worker.place.target).or_default().push((worker.id, work));
            }
        }
        let rehearsal = self.landing.repository.rehearsal()?;
        let mut found = Vec::new();
        for (target, works) in by_target {
            let Some(head) = self.landing.repository.branch_head(&target)? else { continue };
            let pairs: Vec<_> = works.iter().map(|(_, work)| (head.clone(), work.clone())).collect();
            let forecasts = rehearsal.repository().forecast_many(&pairs, &head)?;
            let is_clean = |forecast: &Forecast| matches!(forecast, Forecast::Clean { .. });
            let bad = works.into_iter().zip(forecasts).filter(|(_, forecast)| !is_clean(forecast));
            found.extend(bad.map(|((worker, _), _)| worker));
        }
        Ok(found)
    }

    /// Begins to test what the next batch will be when all of `stack` lands.
    fn speculate(&mut self, stack: &[Layer]) -> Result<(), LandingError> {
        let (Some(delay), Some(top)) = (self.options.speculate_after, stack.last()) else { return Ok(()) };
        let mut expected = Vec::new();
        for id in self.left.iter().take(self.size) {
            match self.landing.expected(id) {
                Ok(Some(next)) if next.worker.place.target == top.candidate.worker.place.target => expected.push(next),
                Ok(Some(_)) => break,
                Ok(None) | Err(_) => {}
            }
        }
        self.speculation = Speculation::begin(&self.landing, self.options, &top.next.to, expected, delay)?;
        Ok(())
    }

    /// Takes the next workers that may land on one target and marks their tickets as landing.
    fn begin(&mut self) -> Vec<Candidate> {
        let mut batch: Vec<Candidate> = Vec::new();
        let mut passed_on = 0;
        let size = if self.unmergeable > 0 { std::mem::take(&mut self.unmergeable) } else { self.size };
        while batch.len() < size
            && let Some(worker) = self.left.pop_front()
        {
            (self.events)(LandEvent::Started(&worker));
            match self.landing.judge(&worker) {
                Ok(Ok(candidate)) => {
                    if batch.first().is_some_and(|first| first.worker.place.target != candidate.worker.place.target) {
                        self.left.push_front(worker);
                        break;
                    }
                    let ticket = &candidate.worker.ticket;
                    match self.landing.queue.settle(ticket, candidate.fence, Settlement::BeginLanding) {
                        Ok(_) => {
                            batch.push(candidate);
                            passed_on = 0;
                        }
                        Err(error) => self.report(worker, Err(error.into())),
                    }
                }
                Ok(Err(outcome)) => match self.turn_behind(&worker, &outcome, &batch) {
                    Ok(Some(Turn::NextBatch)) => {
                        self.left.push_front(worker);
                        break;
                    }
                    // Those that wait for each other would pass the turn on for ever.
                    Ok(Some(Turn::Later)) if passed_on < self.left.len() => {
                        passed_on += 1;
                        self.left.push_back(worker);
                    }
                    Ok(_) => {
                        let voided = self.landing.void(&worker, &outcome);
                        self.report(worker, voided.map(|()| outcome));
                    }
                    Err(error) => self.report(worker, Err(error)),
                },
                Err(error) => self.report(worker, Err(error)),
            }
        }
        batch
    }

    /// When it is the turn of work that waits for the dependency it started from; `None` when that is not about to land.
    fn turn_behind(
        &self,
        worker: &WorkerId,
        outcome: &Outcome,
        batch: &[Candidate],
    ) -> Result<Option<Turn>, LandingError> {
        let Some(dependency) = self.landing.waits_for_landing_of(worker, outcome)? else { return Ok(None) };
        if batch.iter().any(|candidate| candidate.worker.ticket == dependency) {
            return Ok(Some(Turn::NextBatch));
        }
        Ok(self.landing.is_among(&dependency, self.left.iter())?.then_some(Turn::Later))
    }

    /// Lands a batch. What was reported or put off is no longer in `batch` afterwards.
    fn land(&mut self, batch: &mut Vec<Candidate>) -> Result<(), LandingError> {
        crash_point!("landing begun");
        for round in 0..=self.options.rebuilds {
            if round > 0 {
                if let (Some(shared), Some(first)) = (self.landing.shared, batch.first()) {
                    shared.catch_up(&first.worker.place.target)?;
                }
                self.look_again(batch)?;
            }
            let mut stack = self.stack(batch)?;
            if stack.is_empty() {
                return Ok(());
            }
            let answer = self.land_stack(&mut stack);
            batch.extend(stack.into_iter().map(|layer| layer.candidate));
            if answer? {
                return Ok(());
            }
            for candidate in &*batch {
                (self.events)(LandEvent::Rebuilding(&candidate.worker.id));
            }
        }
        while let Some(candidate) = batch.first() {
            let target = &candidate.worker.place.target;
            let why = format!("`{target}` moved underneath again and again; if a gate moves it, it must not");
            let waiting = Waiting { reason: WaitingReason::TargetMoving, why, files: Vec::new() };
            self.take_back(candidate, Outcome::Waiting(waiting))?;
            batch.remove(0);
        }
        Ok(())
    }

    /// Takes out what may not land on a target that moved meanwhile: it may have moved back.
    fn look_again(&mut self, batch: &mut Vec<Candidate>) -> Result<(), LandingError> {
        let mut index = 0;
        while let Some(candidate) = batch.get(index) {
            match self.landing.objection(&candidate.worker, &candidate.work)? {
                Some((reason, why)) => {
                    self.take_back(candidate, Outcome::Waiting(Waiting { reason, why, files: Vec::new() }))?;
                    batch.remove(index);
                }
                None => index += 1,
            }
        }
        Ok(())
    }

    /// Builds a stack of a batch. Work that does not fit is taken out; after an error all the rest is in `batch`.
    fn stack(&mut self, batch: &mut Vec<Candidate>) -> Result<Vec<Layer>, LandingError> {
        let mut stack = Vec::new();
        let mut put_off = Vec::new();
        let built = self.build_layers(batch, &mut stack, &mut put_off);
        let built = built.and_then(|()| {
            while let Some(candidate) = put_off.last() {
                self.put_off(candidate)?;
                put_off.pop();
            }
            Ok(())
        });
        match built {
            Ok(()) => Ok(stack),
            Err(error) => {
                let layers = stack.into_iter().map(|layer| layer.candidate);
                batch.splice(0..0, layers.chain(put_off));
                Err(error)
            }
        }
    }

    /// Moves the work of a batch into layers or, where it does not fit those below, to what is put off.
    fn build_layers(
        &mut self,
        batch: &mut Vec<Candidate>,
        stack: &mut Vec<Layer>,
        put_off: &mut Vec<Candidate>,
    ) -> Result<(), LandingError> {
        let Some(first) = batch.first() else { return Ok(()) };
        let head = self.landing.target_head(first)?;
        while let Some(candidate) = batch.first() {
            let below = stack.last().map_or(&head, |layer| &layer.next.to).clone();
            let is_lowest = below == head;
            let outcome = match self.landing.build(candidate, below, self.options)? {
                Ok(next) => {
                    stack.push(Layer { candidate: batch.remove(0), next });
                    continue;
                }
                Err(outcome) if is_lowest => outcome,
                Err(_) => match self.landing.build(candidate, head.clone(), self.options)? {
                    Ok(_) => {
                        put_off.push(batch.remove(0));
                        continue;
                    }
                    Err(outcome) => outcome,
                },
            };
            self.take_back(candidate, outcome)?;
            batch.remove(0);
        }
        Ok(())
    }

    /// Tests a stack, lands what passed, returns what failed and puts the rest off; false when the target moved
    /// underneath. What was dealt with is no longer in `stack` afterwards.
    fn land_stack(&mut self, stack: &mut Vec<Layer>) -> Result<bool, LandingError> {
        let Search { green, passed, failed } = self.longest_green(stack)?;
        if green > 0 {
            match self.advance(stack, green, passed)? {
                Moved::Landed => {}
                Moved::Underneath => return Ok(false),
                Moved::Waiting(waiting) => {
                    while let Some(layer) = stack.first() {
                        self.take_back(&layer.candidate, Outcome::Waiting(waiting.clone()))?;
                        stack.remove(0);
                    }
                    return Ok(true);
                }
            }
        }
        self.adapt(green, failed.is_some());
        if let (Some(gates), Some(culprit)) = (failed, stack.first()) {
            let outcome = Outcome::Returned(red(&culprit.candidate, &culprit.next, gates));
            self.take_back(&culprit.candidate, outcome)?;
            stack.remove(0);
        }
        while let Some(layer) = stack.last() {
            self.put_off(&layer.candidate)?;
            stack.pop();
        }
        Ok(true)
    }

    /// Sets how much work is tested together: as much as pays where work is as often red as it was.
    fn adapt(&mut self, green: usize, is_red: bool) {
        let most = self.options.batch.max(1);
        self.streak = if is_red { 0 } else { self.streak + green };
        if is_red {
            self.size = (self.size / 2).max(1);
        } else if self.streak >= STREAK {
            self.size = (self.size * 2).min(most);
        }
    }

    /// Runs the gates on the tip, and where they fail, on ever smaller parts of the stack.
    fn longest_green(&mut self, stack: &[Layer]) -> Result<Search, LandingError> {
        let guess = self.speculation.take();
        self.speculate(stack)?;
        if let (Some(guess), Some(top)) = (guess, stack.last()) {
            guess.settle(&top.next.tree, &self.options.ends);
        }
        let whole = self.test(stack, stack.len())?;
        if passes(&whole) {
            return Ok(Search { green: stack.len(), passed: whole, failed: None });
        }
        // What was guessed stands on a stack that does not land.
        self.speculation = None;
        let (mut green, mut passed) = (0, Vec::new());
        let (mut red, mut failed) = (stack.len(), whole);
        while red - green > 1 {
            let middle = usize::midpoint(green, red);
            let reports = self.test(stack, middle)?;
            if passes(&reports) {
                (green, passed) = (middle, reports);
            } else {
                (red, failed) = (middle, reports);
            }
        }
        Ok(Search { green, passed, failed: Some(failed) })
    }

    /// Runs the gates on the lowest `count` layers.
    fn test(&mut self, stack: &[Layer], count: usize) -> Result<Vec<GateReport>, LandingError> {
        let tip = &stack[count - 1];
        // A flaky gate would send the whole batch through a search for somebody who is innocent.
        let insists = stack.len() > 1;
        let place = (self.options, &mut self.scratch);
        self.landing.test((&tip.candidate, &tip.next), &stack[0].next.from, insists, place, self.events)
    }

    /// Writes the intents of the lowest `green` layers, moves the target to the highest of them, and writes the facts.
    fn advance(&mut self, stack: &mut Vec<Layer>, green: usize, gates: Vec<GateReport>) -> Result<Moved, LandingError> {
        let landing = self.landing;
        let (target, from, to) = {
            let (lowest, tip) = (&stack[0], &stack[green - 1]);
            (lowest.candidate.worker.place.target.clone(), lowest.next.from.clone(), tip.next.to.clone())
        };
        let opened = self.open_intents(&stack[..green], gates)?;
        crash_point!("intent written");
        let names: Vec<_> = stack[..green].iter().map(|layer| layer.candidate.worker.id.as_str()).collect();
        let reason = format!("swarm: landed {}", names.join(", "));
        if let Some(moved) = self.announce(&opened, &target, &from, &to)? {
            return Ok(moved);
        }
        let advance = landing.repository.advance_target(&target, &from, &to, &reason)?;
        let mut warning = None;
        let updated = match advance {
            Advance::Moved { updated } => updated,
            // Somebody else, or a gate, moved it to what was tested or beyond.
            Advance::MovedUnderneath { found: Some(found) } if landing.repository.is_ancestor(&to, &found)? => {
                let (to, found) = (to.short(), found.short());
                let text = "was moved by somebody else while this work was tested, and has it; a gate must not move it";
                warning = Some(format!("`{target}` {text}: {to} landed, and it is at {found}"));
                Vec::new()
            }
            // The swarm has it, and this clone's target follows when it can.
            Advance::MovedUnderneath { .. } | Advance::Busy(_) if landing.shared.is_some() => {
                warning =
                    Some(format!("the swarm has this work, and `{target}` here does not yet: it follows by itself"));
                Vec::new()
            }
            Advance::MovedUnderneath { .. } => {
                landing.close_intents(&opened)?;
                return Ok(Moved::Underneath);
            }
            Advance::Busy(busy) => {
                landing.close_intents(&opened)?;
                return Ok(Moved::Waiting(checked_out(&target, busy)));
            }
        };
        crash_point!("advanced");
        for mut landed in landing.finish(&opened, &updated, self.options, &self.trash)? {
            landed.warnings.extend(warning.clone());
            let layer = stack.remove(0);
            self.report(layer.candidate.worker.id, Ok(Outcome::Landed(landed)));
        }
        Ok(Moved::Landed)
    }

    /// Lets the whole swarm have what is about to land, where others share the target. How the move went, where it ends with
    /// that.
    fn announce(
        &self,
        opened: &[(IntentId, LandingIntent)],
        target: &BranchName,
        from: &CommitId,
        to: &CommitId,
    ) -> Result<Option<Moved>, LandingError> {
        let Some(shared) = self.landing.shared else { return Ok(None) };
        let repository = self.landing.repository;
        // Once the swarm has it, there is no way back.
        if repository.branch_head(target)?.as_ref() != Some(from) {
            self.landing.close_intents(opened)?;
            return Ok(Some(Moved::Underneath));
        }
        if let Some(busy) = repository.hindrance(target, from, to)? {
            self.landing.close_intents(opened)?;
            return Ok(Some(Moved::Waiting(checked_out(target, busy))));
        }
        let landed = |(_, intent): &(IntentId, LandingIntent)| LandedTicket {
            ticket: intent.ticket.clone(),
            fence: intent.fence,
        };
        match shared.announce(target, (from, to), opened.iter().map(landed).collect())? {
            Announced::Yes => Ok(None),
            Announced::Underneath => {
                self.landing.close_intents(opened)?;
                Ok(Some(Moved::Underneath))
            }
        }
    }

    /// Puts intents with the evidence of layers that will land together on the device.
    fn open_intents(
        &self,
        layers: &[Layer],
        gates: Vec<GateReport>,
    ) -> Result<Vec<(IntentId, LandingIntent)>, LandingError> {
        let Some(tip) = layers.last() else { return Ok(Vec::new()) };
        let landing = self.landing;
        let tested = Tested { commit: tip.next.to.clone(), tree: tip.next.tree.clone() };
        let mut intents = Vec::with_capacity(layers.len());
        for Layer { candidate, next } in layers {
            let worker = &candidate.worker;
            let mut intent = LandingIntent {
                ticket: worker.ticket.clone(),
                worker: worker.id.clone(),
                fence: candidate.fence,
                work: candidate.work.clone(),
                target: worker.place.target.clone(),
                from: next.from.clone(),
                to: next.to.clone(),
                at: Time::now(),
                evidence: None,
            };
            let strategy = self.options.strategy;
            let evidence = Evidence::new(&intent, &next.tree, &tested, strategy, gates.clone(), &candidate.approval);
            intent.evidence = Some(evidence.line());
            intents.push(intent);
        }
        let ids = landing.store.put_intents(&intents)?;
        for (layer, intent) in layers.iter().zip(&intents) {
            let (target, from, to) = (intent.target.to_string(), intent.from.clone(), intent.to.clone());
            landing.note_event(&layer.candidate.worker, Event::LandingIntent { target, from, to })?;
        }
        Ok(ids.into_iter().zip(intents).collect())
    }

    /// Makes a ticket `approved` again and reports why its work did not land.
    fn take_back(&mut self, candidate: &Candidate, outcome: Outcome) -> Result<(), LandingError> {
        self.landing.queue.settle(&candidate.worker.ticket, candidate.fence, Settlement::DeferLanding)?;
        if let Outcome::Returned(returned) = &outcome {
            let files = returned.files.iter().map(|file| file.path.clone()).collect();
            let event = Event::Returned { reason: returned.why.clone(), files };
            self.landing.note_event(&candidate.worker, event)?;
        }
        self.report(candidate.worker.id.clone(), Ok(outcome));
        Ok(())
    }

    /// Makes a ticket `approved` again whose turn comes in the next batch, before those that are left.
    fn put_off(&mut self, candidate: &Candidate) -> Result<(), LandingError> {
        self.landing.queue.settle(&candidate.worker.ticket, candidate.fence, Settlement::DeferLanding)?;
        self.left.push_front(candidate.worker.id.clone());
        Ok(())
    }

    /// After a failure: finishes the landings whose commits are in the target all the same and takes the others back.
    /// Those have their turn again one by one, so that the failure is told of the one it concerns.
    fn take_stock(&mut self, batch: Vec<Candidate>, failure: LandingError) {
        let mut failure = Some(failure);
        let is_one_of_several = batch.len() > 1;
        for candidate in batch.into_iter().rev() {
            let worker = candidate.worker.id.clone();
            match self.aftermath(&candidate) {
                Ok(Some(outcome)) => self.report(worker, Ok(outcome)),
                Ok(None) if is_one_of_several => self.left.push_front(worker),
                Ok(None) => {
                    if let Some(failure) = failure.take() {
                        self.report(worker, Err(failure));
                    }
                }
                Err(error) => self.report(worker, Err(error)),
            }
        }
        (self.size, self.streak) = (1, 0);
    }

    /// Finishes the landing of one piece of work after a failure, or takes it back: then `None`.
    fn aftermath(&self, candidate: &Candidate) -> Result<Option<Outcome>, LandingError> {
        let (worker, fence) = (&candidate.worker, candidate.fence);
        let mut intents = self.landing.store.intents()?.into_iter();
        let found = intents.find(|(_, intent)| intent.worker == worker.id && intent.fence == fence);
        let Some((id, intent)) = found else {
            self.landing.queue.settle(&worker.ticket, fence, Settlement::DeferLanding)?;
            return Ok(None);
        };
        self.landing.repository.repair_targets()?;
        let outcome = self.landing.resume_intent(id, &intent, self.options)?;
        Ok(matches!(outcome, Outcome::Landed(_)).then_some(outcome))
    }

    /// Writes a report down and tells of it.
    fn report(&mut self, worker: WorkerId, outcome: Result<Outcome, LandingError>) {
        let report = Report { worker, outcome };
        (self.events)(LandEvent::Ended(&report));
        self.reports.push(report);
    }
}

/// That a person's checkout is in the way.
fn checked_out(target: &BranchName, busy: Busy) -> Waiting {
    let why = format!("`{target}` is checked out in `{}`: {}", busy.worktree.display(), busy.why);
    Waiting { reason: WaitingReason::TargetBusy, why, files: busy.files }
}

/// Whether all gates passed.
fn passes(reports: &[GateReport]) -> bool {
    reports.iter().all(|report| report.passed)
}
