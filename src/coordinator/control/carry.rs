//! What goes from one node to another: the targets follow what others landed, and work on a ticket goes on elsewhere.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Control, is_released};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::register::Register;
use crate::files::FileLock;
use crate::git::Repository;
use crate::landing::{Followed, LandingError, NewReview, Parcel, Shared, Standing, Transport, tip_reference};
use crate::model::event::{Event, EventRecord};
use crate::model::node::{Approval, Carried, Made};
use crate::model::settings::{LandingMode, LandingSettings};
use crate::model::ticket::TicketState;
use crate::model::topology::Round;
use crate::model::worker::{Liveness, Worker};
use crate::model::{AgentName, BranchName, CommitId, TicketId, Time, WorkerId};
use crate::queue::{QueueError, QueueTicket};
use crate::store::{Review, read_log};
use crate::supervisor::{Inherited, SeenLease};

/// How old a bundle is that nothing points to, so that nothing will: sending one may take minutes.
const LEFT_AFTER: Duration = Duration::from_secs(15 * 60);

impl Control {
    /// Brings the targets of this clone up to what other nodes landed; what came of it, as clauses. Nothing where the queue is
    /// not shared.
    pub(in crate::coordinator) fn follow_tips(&self) -> Result<Vec<String>, Failure> {
        if self.project.queue()?.link().is_none() {
            return Ok(Vec::new());
        }
        let remote = self.pull_remote()?;
        let workers = self.project.store()?.workers()?.into_iter().filter(|worker| !is_released(worker));
        let targets: BTreeSet<BranchName> = workers.map(|worker| worker.place.target).chain([self.target()?]).collect();
        self.with_landing(|landing| {
            let Some(shared) = Shared::open(landing)? else { return Ok(Vec::new()) };
            let mut told = Vec::new();
            for target in targets {
                // What was landed by pull request has no tip: it is where it was merged.
                if let Some(remote) = &remote {
                    let failed = |error: LandingError| {
                        let why = crate::model::error_text(&error);
                        Some(format!("`{target}` could not follow `{remote}/{target}`: {why}"))
                    };
                    told.extend(landing.follow_remote(remote, &target).unwrap_or_else(failed));
                }
                if let Followed::Moved(node) = shared.catch_up(&target)? {
                    told.push(format!("`{target}` follows what node {node} landed"));
                }
            }
            Ok(told)
        })
    }

    /// The remote on which work is merged, where it lands by pull request.
    fn pull_remote(&self) -> Result<Option<String>, Failure> {
        let LandingSettings { mode, remote, .. } = &self.project.settings()?.landing;
        let is_there = *mode == LandingMode::Pr && self.project.repository.remote_url(remote)?.is_some();
        Ok(is_there.then(|| remote.clone()))
    }

    /// Hands the work of workers over as it is now, for other nodes to go on with when this one goes away, and throws away
    /// what was handed over of tickets that are over. Answers whose work could not be handed over, which keeps no other
    /// from it.
    pub(in crate::coordinator) fn carry(
        &self,
        workers: &[WorkerId],
        over: &[TicketId],
    ) -> Result<Vec<(WorkerId, Failure)>, Failure> {
        let queue = self.project.queue()?;
        let Some(register) = Register::open(&*queue)? else { return Ok(Vec::new()) };
        self.with_landing(|landing| {
            let Some(shared) = Shared::open(landing)? else { return Ok(Vec::new()) };
            let mut refused = Vec::new();
            for id in workers {
                let worker = self.worker(id.as_str());
                let carried = worker.and_then(|worker| self.carry_one(&worker, None, &register, shared.transport()));
                refused.extend(carried.err().map(|failure| (id.clone(), failure)));
            }
            for ticket in over {
                // It may have been published again since, and be another node's.
                let is_over = queue.ticket(ticket)?.is_none_or(|entry| entry.state.is_ended());
                if let Some((carried, _)) = register.carried(ticket)?.filter(|_| is_over) {
                    register.forget_carried(ticket)?;
                    shared.transport().forget(Parcel::Carried(ticket, carried.commit()))?;
                }
            }
            Ok(refused)
        })
    }

    /// Hands over what a worker has finished, as its supervisor wants it that judged `commit` to be so: before the queue hears
    /// of it, and because nobody else may be there to do so. What is finished in a clone that is no node is its person's.
    ///
    /// # Errors
    /// Also where it is not handed over as finished in the end, because somebody else was faster or the worker went on.
    pub(crate) fn carry_finished(&self, name: &str, commit: &str) -> Result<(), Failure> {
        let Some(register) = Register::open(&*self.project.queue()?)? else { return Ok(()) };
        if register.node(&self.project.node())?.is_none() {
            return Ok(());
        }
        let (worker, commit) = (self.worker(name)?, commit.parse()?);
        let carried = self.with_landing(|landing| {
            let Some(shared) = Shared::open(landing)? else { return Ok(None) };
            self.carry_one(&worker, Some(&commit), &register, shared.transport())
        });
        if let Err(failure) = &carried
            && failure.kind == FailureKind::NeedsPerson
        {
            self.note_not_carried(&worker.id, failure.chain.join(": "))?;
        }
        match carried? {
            Some(now) if now.made.head != commit || !now.made.is_finished => {
                let text = format!("`{}` is not handed over as finished", worker.id);
                Err(Failure::new(FailureKind::Failed, text))
            }
            _ => Ok(()),
        }
    }

    /// Deletes what nodes left on the server of the queue that died in the middle of handing something over.
    pub(in crate::coordinator) fn sweep(&self) -> Result<(), Failure> {
        self.with_landing(|landing| {
            let Some(shared) = Shared::open(landing)? else { return Ok(()) };
            let count = shared.sweep(LEFT_AFTER)?;
            if count > 0 {
                tracing::info!(count, "deleted bundles that nothing pointed to");
            }
            Ok(())
        })
    }

    /// Writes down that a worker's work cannot be handed over.
    pub(in crate::coordinator) fn note_not_carried(&self, id: &WorkerId, reason: String) -> Result<(), Failure> {
        self.log(&self.worker(id.as_str())?, Event::NotHandedOver { reason })
    }

    /// Hands the work of one worker over, of which its supervisor may have `judged` a commit to be finished before the queue
    /// knows so. What was handed over before stays until the board says otherwise. What others find now; `None` where there
    /// is nothing to hand over, or somebody else goes on with it.
    fn carry_one(
        &self,
        worker: &Worker,
        judged: Option<&CommitId>,
        register: &Register,
        transport: &Transport<'_>,
    ) -> Result<Option<Carried>, Failure> {
        let (repository, ticket, fence) = (&self.project.repository, &worker.ticket, worker.attempt.fence);
        // One at a time: who comes second would take the bundle of the first for its own, which nobody needs.
        let _alone = FileLock::wait(&self.project.paths.lock("carry"))?;
        let queue = self.project.queue()?;
        let is_over = |entry: &QueueTicket| entry.state.is_ended();
        let Some(entry) = queue.ticket(ticket)?.filter(|entry| !is_over(entry)) else { return Ok(None) };
        let Some(mut made) = self.work_of(worker, &entry)? else { return Ok(None) };
        let mut known = register.carried(ticket)?;
        if known.as_ref().is_some_and(|(carried, _)| carried.fence > fence) {
            // Somebody else goes on with it by now.
            return Ok(None);
        }
        let said = known.as_ref().map(|(said, _)| said).filter(|said| said.fence == fence);
        if entry.fence == fence && matches!(entry.state, TicketState::Running | TicketState::Lost) {
            made.is_finished = counts_as_finished(&made, said.map(|said| &said.made), judged);
        }
        if let Some((said, revision)) = known.as_ref()
            && said.fence == fence
            && is_outdated(&said.made, &made)
        {
            // Whatever becomes of the rest: what was gone on from is not what is finished.
            let mut taken_back = said.clone();
            taken_back.made.is_finished = false;
            register.say_carried(&taken_back, Some(*revision))?;
            known = register.carried(ticket)?;
            if known.as_ref().is_some_and(|(carried, _)| carried.fence > fence) {
                return Ok(None);
            }
        }
        let carried = Carried::now(ticket, fence, self.project.node().as_str(), made);
        // Whoever takes it over has followed what landed.
        let tip = repository.ref_commit(&tip_reference(&worker.place.target))?;
        let without = [tip.unwrap_or_else(|| worker.place.base.clone())];
        let (before, revision) = known.unzip();
        let is_there = before.as_ref().is_some_and(|before| before.commit() == carried.commit());
        if !is_there {
            transport.send(Parcel::Carried(ticket, carried.commit()), carried.commit(), &without)?;
        }
        let (mut now, mut needless) = (Some(carried), before.map(|before| before.commit().clone()));
        if let Some(carried) = &now
            && !register.say_carried(carried, revision)?
        {
            let said = register.carried(ticket)?.map(|(said, _)| said);
            let is_same = said.as_ref().is_some_and(|said| said.commit() == carried.commit());
            (needless, now) = ((!is_same).then(|| carried.commit().clone()), said);
        }
        if let Some(commit) = needless.filter(|_| !is_there) {
            transport.forget(Parcel::Carried(ticket, &commit))?;
        }
        // It may have landed meanwhile, and what was handed over been thrown away.
        if queue.ticket(ticket)?.is_none_or(|entry| is_over(&entry)) {
            register.forget_carried(ticket)?;
            if let Some(now) = now.take() {
                transport.forget(Parcel::Carried(ticket, now.commit()))?;
            }
        }
        Ok(now)
    }

    /// Says that what another node had finished is handed over from here now, before the queue hears that it is finished
    /// here: this node may be the next one that goes away. Where that cannot be said, a coordinator does so later.
    pub(super) fn adopt_finished(&self, ticket: &TicketId, fence: u64, agent: &AgentName, made: &Made) {
        let said = self.project.queue().and_then(|queue| {
            let Some(register) = Register::open(&*queue)? else { return Ok(true) };
            let revision = register.carried(ticket)?.map(|(_, revision)| revision);
            let round = self.project.store()?.token(ticket)?.map(|token| Round { token, agent: agent.clone() });
            let made = Made { round, ..made.clone() };
            let carried = Carried::now(ticket, fence, self.project.node().as_str(), made);
            Ok(register.say_carried(&carried, revision)?)
        });
        let failed = match said {
            Ok(true) => return,
            Ok(false) => "somebody said something else of it meanwhile".to_owned(),
            Err(failure) => failure.chain.join(": "),
        };
        tracing::warn!(ticket = ticket.as_str(), error = failed, "its finished work could not be handed on");
    }

    /// What there is of a worker's work; `None` without a branch.
    pub(in crate::coordinator) fn work_of(
        &self,
        worker: &Worker,
        entry: &QueueTicket,
    ) -> Result<Option<Made>, Failure> {
        let repository = &self.project.repository;
        let is_own = entry.fence == worker.attempt.fence;
        let is_finished = is_own && is_finished(entry.state);
        let Some(head) = repository.branch_head(&worker.place.branch)? else { return Ok(None) };
        let snapshot = match repository.ref_commit(&Repository::wip_ref(&worker.id))? {
            // One of an older head says nothing about what is there now.
            Some(commit) if repository.commit_facts(&commit)?.parents.first() == Some(&head) => Some(commit),
            _ => None,
        };
        let mut approval = None;
        if is_finished && entry.state != TicketState::Review {
            let standing = self.with_landing(|landing| Ok(landing.standing(worker)?))?;
            if let Standing::Approved(Review { by, text, .. }) = standing {
                approval = Some(Approval { by, text });
            }
        }
        let token = self.project.store()?.token(&worker.ticket)?.filter(|_| is_own);
        let round = token.map(|token| Round { token, agent: worker.agent.clone() });
        Ok(Some(Made { head, snapshot, is_finished, approval, round }))
    }

    /// Takes the token of a ticket that another node worked on last, as that one handed it over; the agent that goes on with
    /// the ticket under the fence `now`. `None` where it goes round no ring, or nobody worked on it since it was here.
    pub(in crate::coordinator) fn take_token(&self, id: &TicketId, now: u64) -> Result<Option<AgentName>, Failure> {
        let Some(Carried { fence, made, .. }) = self.carried_elsewhere(id)? else { return Ok(None) };
        let (Some(round), store) = (made.round, self.project.store()?) else { return Ok(None) };
        if store.worker(&WorkerId::of(id, 1))?.is_some_and(|worker| worker.attempt.fence >= fence) {
            return Ok(None);
        }
        let Round { token, agent } = round.under(now, fence, made.is_finished);
        store.pass_token(id, store.token(id)?.as_ref(), &token)?;
        Ok(Some(agent))
    }

    /// Goes on with a ticket of a node that is gone: with what that one left of the work on it, which is judged and lands
    /// here where it was finished.
    ///
    /// # Errors
    /// [`FailureKind::NeedsPerson`] where it was finished and not handed over as such: no agent makes it a second time.
    pub(in crate::coordinator) fn take_over(
        &self,
        id: &TicketId,
        agent: &AgentName,
        headless: bool,
        seen: SeenLease,
    ) -> Result<(), Failure> {
        let queue = self.project.queue()?;
        let known = || Ok::<_, Failure>(queue.ticket(id)?.ok_or_else(|| QueueError::NotFound(id.clone()))?);
        let entry = known()?;
        // What it said last is about this attempt.
        let carried = self.carried_elsewhere(id)?.filter(|carried| carried.fence == seen.fence);
        if is_finished(entry.state) && !carried.as_ref().is_some_and(|carried| carried.made.is_finished) {
            let node = entry.node.as_deref().unwrap_or("another node");
            let text = format!("is finished on node `{node}`, which is gone and had not handed it over");
            return Err(Failure::new(FailureKind::NeedsPerson, text)
                .hint(format!("start that node again; swarm queue cancel {id} gives its work up")));
        }
        if entry.state == TicketState::Landing {
            let by_pull = self.project.settings()?.landing.mode == LandingMode::Pr;
            let target = match &entry.ticket.target {
                Some(target) => target.parse().map_err(crate::git::GitError::from)?,
                None => self.target()?,
            };
            self.with_landing(|landing| match by_pull {
                true => Ok(landing.take_pull_from_gone(id, seen.fence)?),
                false => Ok(landing.take_from_gone(id, seen.fence, &target)?),
            })?;
            if known()?.state == TicketState::Landed {
                return Ok(());
            }
        }
        self.start_published(id, agent, headless, Some(seen))?;
        let was_approved = matches!(entry.state, TicketState::Approved | TicketState::Landing);
        match carried.filter(|_| was_approved).map(|carried| carried.made) {
            // As it was approved where it was taken over from, and still was when it was.
            Some(Made { head, approval: Some(Approval { by, text }), .. }) if known()?.state == TicketState::Review => {
                let review = NewReview { by, text, commit: Some(head) };
                self.with_landing(|landing| Ok(landing.approve(&WorkerId::of(id, 1), review).map(drop)?))
            }
            _ => Ok(()),
        }
    }

    /// What other nodes have of a worker's work, and why they have no more of it, as clauses.
    pub(super) fn carried_of(&self, worker: &Worker) -> Result<Vec<String>, Failure> {
        let Some(register) = Register::open(&*self.project.queue()?)? else { return Ok(Vec::new()) };
        let own = self.project.node();
        let known = register.carried(&worker.ticket)?.map(|(carried, _)| carried);
        // It is handed over before the queue knows that it is finished, and only that makes it so.
        let is_finished = self.ticket_state(&worker.ticket)?.is_some_and(is_finished);
        let had = known.as_ref().map(|carried| match carried.node == own.as_str() {
            true => format!(
                "what it made until {} ({}) was handed over{}, for other nodes to go on with",
                carried.at,
                carried.commit(),
                match (carried.made.is_finished && is_finished, &carried.made.approval) {
                    (false, _) => "",
                    (true, None) => " as finished",
                    (true, Some(_)) => " as finished and approved",
                }
            ),
            false => format!("node `{}` handed over what it made of its ticket until {}", carried.node, carried.at),
        });
        let since = known.filter(|carried| carried.node == own.as_str()).map(|carried| carried.at);
        Ok(had.into_iter().chain(self.not_carried(worker, since)?).collect())
    }

    /// Why what a worker made in its attempt cannot be handed over, where that was found after `since`.
    fn not_carried(&self, worker: &Worker, since: Option<Time>) -> Result<Option<String>, Failure> {
        if self.ticket_state(&worker.ticket)?.is_none_or(TicketState::is_ended) {
            return Ok(None);
        }
        let log = read_log::<EventRecord>(&self.project.paths.events(&worker.id))?;
        let mut attempt =
            log.records.iter().rev().take_while(|record| !matches!(record.event, Event::AgentStarted { .. }));
        Ok(attempt.find_map(|record| match &record.event {
            Event::NotHandedOver { reason } if since.is_none_or(|since| record.at > since) => {
                Some(format!("what it makes could not be handed over to other nodes at {}: {reason}", record.at))
            }
            _ => None,
        }))
    }

    /// Releases the worker here whose ticket another node has gone on with since: the work goes on from what that one left,
    /// and what was made here is kept.
    pub(super) fn release_overtaken(&self, id: &WorkerId, takes_over: Option<SeenLease>) -> Result<(), Failure> {
        let Some(worker) = self.project.store()?.worker(id)?.filter(|worker| !is_released(worker)) else {
            return Ok(());
        };
        let since = match takes_over {
            Some(seen) => Some(seen.fence),
            None => self.carried_elsewhere(&worker.ticket)?.map(|carried| carried.fence),
        };
        if since.is_some_and(|fence| fence > worker.attempt.fence) && self.liveness(&worker) == Liveness::Dead {
            let reason = "another node went on with its ticket";
            self.stop_one(&worker, reason)?;
            self.with_landing(|landing| Ok(landing.release(id, reason)?))?;
        }
        Ok(())
    }

    /// The work on a ticket that another node handed over last; also what was taken over from it here and not begun on.
    fn carried_elsewhere(&self, ticket: &TicketId) -> Result<Option<Carried>, Failure> {
        let Some(register) = Register::open(&*self.project.queue()?)? else { return Ok(None) };
        let Some((carried, _)) = register.carried(ticket)? else { return Ok(None) };
        if carried.node != self.project.node().as_str() {
            return Ok(Some(carried));
        }
        let worker = self.project.store()?.worker(&WorkerId::of(ticket, 1))?;
        Ok(worker.is_none_or(|worker| worker.attempt.fence < carried.fence).then_some(carried))
    }

    /// What another node left of the work on a ticket; with `takes_over`, that it left nothing is told as well.
    pub(super) fn inherited(
        &self,
        takes_over: Option<SeenLease>,
        ticket: &TicketId,
    ) -> Result<Option<Inherited>, Failure> {
        let queue = self.project.queue()?;
        if queue.link().is_none() {
            return Ok(None);
        }
        let own = self.project.node();
        let entry = queue.ticket(ticket)?;
        let was_finished = entry.as_ref().is_some_and(|entry| is_finished(entry.state));
        let holder = entry.and_then(|entry| entry.node).filter(|node| node != own.as_str());
        let nothing = || takes_over.and(holder.clone()).map(|node| Inherited { node, left: None });
        let into = format!("refs/swarm/inherited/{ticket}");
        let mut known = self.carried_elsewhere(ticket)?;
        while let Some(carried) = known {
            let taken = self.with_landing(|landing| {
                let Some(shared) = Shared::open(landing)? else { return Ok(true) };
                let parcel = Parcel::Carried(ticket, carried.commit());
                match shared.transport().take(parcel, carried.commit(), &into) {
                    Err(LandingError::NotSent { .. }) => Ok(false),
                    // Whoever began without it would throw it away.
                    taken => Ok(taken.map(|()| true)?),
                }
            });
            if taken? {
                let mut made = carried.made;
                // What was finished once is only what a later attempt goes on from.
                let counts = was_finished && takes_over.is_some_and(|seen| seen.fence == carried.fence);
                made.is_finished = made.is_finished && counts;
                return Ok(Some(Inherited { node: carried.node, left: Some(made) }));
            }
            // Something newer may have taken its place meanwhile.
            known = self.carried_elsewhere(ticket)?.filter(|now| *now != carried);
        }
        Ok(nothing())
    }
}

/// Whether work counts as finished whose ticket is not so yet: it was judged to be, or was `said` to be before, which holds
/// as long as no commit is added to it. A snapshot of it says nothing, since there is always one.
fn counts_as_finished(made: &Made, said: Option<&Made>, judged: Option<&CommitId>) -> bool {
    judged == Some(&made.head) || said.is_some_and(|said| said.is_finished && said.head == made.head)
}

/// Whether something else is `said` to be finished than is, so that nobody may take that for it meanwhile.
fn is_outdated(said: &Made, made: &Made) -> bool {
    said.is_finished && (!made.is_finished || said.head != made.head)
}

/// Whether an attempt has come to a good end whose ticket is in this state.
fn is_finished(state: TicketState) -> bool {
    matches!(state, TicketState::Review | TicketState::Approved | TicketState::Landing)
}

#[cfg(all(test, feature = "real-agents"))]
mod tests;
