//! What goes from one node to another: the targets follow what others landed, and work on a ticket goes on elsewhere.

use std::collections::BTreeSet;

use super::{Control, is_released};
use crate::coordinator::failure::Failure;
use crate::coordinator::register::Register;
use crate::git::Repository;
use crate::landing::{Followed, LandingError, Parcel, Shared, Transport, tip_reference};
use crate::model::node::Carried;
use crate::model::worker::{Liveness, Worker};
use crate::model::{BranchName, CommitId, TicketId, WorkerId};
use crate::supervisor::{Inherited, Left, SeenLease};

impl Control {
    /// Brings the targets of this clone up to what other nodes landed; those that moved, each with the node. Nothing where
    /// the queue is not shared.
    pub(in crate::coordinator) fn follow_tips(&self) -> Result<Vec<(BranchName, String)>, Failure> {
        if self.project.queue()?.link().is_none() {
            return Ok(Vec::new());
        }
        let workers = self.project.store()?.workers()?.into_iter().filter(|worker| !is_released(worker));
        let targets: BTreeSet<BranchName> = workers.map(|worker| worker.place.target).chain([self.target()?]).collect();
        self.with_landing(|landing| {
            let Some(shared) = Shared::open(landing)? else { return Ok(Vec::new()) };
            let mut moved = Vec::new();
            for target in targets {
                if let Followed::Moved(node) = shared.follow(&target)? {
                    moved.push((target, node));
                }
            }
            Ok(moved)
        })
    }

    /// Hands the work of workers over as it is now, for other nodes to go on with when this one goes away, and throws away
    /// what was handed over of tickets that are over.
    pub(in crate::coordinator) fn carry(&self, workers: &[WorkerId], over: &[TicketId]) -> Result<(), Failure> {
        let queue = self.project.queue()?;
        let Some(register) = Register::open(&*queue)? else { return Ok(()) };
        self.with_landing(|landing| {
            let Some(shared) = Shared::open(landing)? else { return Ok(()) };
            for id in workers {
                self.carry_one(&self.worker(id.as_str())?, &register, shared.transport())?;
            }
            for ticket in over {
                if let Some((carried, _)) = register.carried(ticket)? {
                    shared.transport().forget(Parcel::Carried(ticket, carried.fence))?;
                    register.forget_carried(ticket)?;
                }
            }
            Ok(())
        })
    }

    /// Hands the work of one worker over.
    fn carry_one(&self, worker: &Worker, register: &Register, transport: &Transport<'_>) -> Result<(), Failure> {
        let (repository, ticket, fence) = (&self.project.repository, &worker.ticket, worker.attempt.fence);
        let Some(state) = self.work_of(worker)? else { return Ok(()) };
        let known = register.carried(ticket)?;
        if known.as_ref().is_some_and(|(carried, _)| carried.fence > fence) {
            // Somebody else goes on with it by now.
            return Ok(());
        }
        let carried = Carried::now(ticket, fence, self.project.node().as_str(), state);
        // Whoever takes it over has followed what landed.
        let tip = repository.ref_commit(&tip_reference(&worker.place.target))?;
        let without = [tip.unwrap_or_else(|| worker.place.base.clone())];
        transport.send(Parcel::Carried(ticket, fence), carried.commit(), &without)?;
        let (before, revision) = known.unzip();
        register.say_carried(&carried, revision)?;
        if let Some(before) = before.filter(|before| before.fence != fence) {
            transport.forget(Parcel::Carried(ticket, before.fence))?;
        }
        Ok(())
    }

    /// Where a worker's branch is, and the snapshot on top of it with what is not committed; `None` without a branch.
    pub(in crate::coordinator) fn work_of(
        &self,
        worker: &Worker,
    ) -> Result<Option<(CommitId, Option<CommitId>)>, Failure> {
        let repository = &self.project.repository;
        let Some(head) = repository.branch_head(&worker.place.branch)? else { return Ok(None) };
        let snapshot = match repository.ref_commit(&Repository::wip_ref(&worker.id))? {
            // One of an older head says nothing about what is there now.
            Some(commit) if repository.merge_base(&commit, &head)?.as_ref() == Some(&head) => Some(commit),
            _ => None,
        };
        Ok(Some((head, snapshot)))
    }

    /// What other nodes have of a worker's work, as a clause; `None` where nobody does.
    pub(super) fn carried_of(&self, worker: &Worker) -> Result<Option<String>, Failure> {
        let Some(register) = Register::open(&*self.project.queue()?)? else { return Ok(None) };
        let own = self.project.node();
        Ok(register.carried(&worker.ticket)?.map(|(carried, _)| match carried.node == own.as_str() {
            true => format!(
                "what it made until {} ({}) was handed over, for other nodes to go on with",
                carried.at,
                carried.commit()
            ),
            false => format!("node `{}` handed over what it made of its ticket until {}", carried.node, carried.at),
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

    /// The work on a ticket that another node handed over last.
    fn carried_elsewhere(&self, ticket: &TicketId) -> Result<Option<Carried>, Failure> {
        let Some(register) = Register::open(&*self.project.queue()?)? else { return Ok(None) };
        let own = self.project.node();
        let carried = register.carried(ticket)?.map(|(carried, _)| carried);
        Ok(carried.filter(|carried| carried.node != own.as_str()))
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
        let holder = queue.ticket(ticket)?.and_then(|entry| entry.node).filter(|node| node != own.as_str());
        let nothing = || takes_over.and(holder.clone()).map(|node| Inherited { node, left: None });
        let Some(carried) = self.carried_elsewhere(ticket)? else { return Ok(nothing()) };
        let into = format!("refs/swarm/inherited/{ticket}");
        let taken = self.with_landing(|landing| {
            let Some(shared) = Shared::open(landing)? else { return Ok(true) };
            let parcel = Parcel::Carried(ticket, carried.fence);
            match shared.transport().take(parcel, carried.commit(), &into) {
                Err(LandingError::NotSent { .. }) => Ok(false),
                // Whoever began without it would throw it away.
                taken => Ok(taken.map(|()| true)?),
            }
        });
        if !taken? {
            return Ok(nothing());
        }
        let left = Some(Left { head: carried.head, snapshot: carried.snapshot });
        Ok(Some(Inherited { node: carried.node, left }))
    }
}
