//! Landing where several nodes share a queue: one at a time in the whole swarm, each on what landed last.
//!
//! Whoever lands has the role [`LANDING`], a lease that is renewed while gates run. The **tip** of a target is the commit
//! that landed on it last, an entry of the board that is changed only by who knows its last revision. A landing first
//! brings its own target up to the tip. Then, when its gates have passed, it hands the new commit over and moves the tip:
//! that is the moment in which the work has landed. Its own target follows; where it dies in between, it follows at the
//! next look, and the landing is finished by what is found there.
//!
//! Who was stopped for longer than its lease has no turn any more, finds that out before it moves the tip, and could not
//! move it anyway where another one did: its landing is taken back, and its work lands on what is there by then.
//!
//! The tip names the tickets that came in with it, so whoever sees it may say to the queue that they have landed; who moves
//! it on does so before. What a node was landing that is gone, and what is not in the tip, is **taken from it** in a turn of
//! somebody else, who writes the tip anew before: were that node to wake up right where it moves the tip, it could not.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use super::transport::{Parcel, Transport};
use super::{LandEvent, Landing, LandingError};
use crate::files::FileLock;
use crate::git::{Advance, Repository};
use crate::model::node::{LandedTicket, Tip};
use crate::model::ticket::TicketState;
use crate::model::{BranchName, CommitId, TicketId, Time};
use crate::queue::{Board, Lead, LeadRequest, Leader, Queue, QueueError, Renewed, Settlement};
use crate::store::StatePaths;

/// The keys of tips.
pub(crate) const TIPS: &str = "tip";
/// The keys of work that was handed over, each with its ticket.
pub(crate) const CARRIED: &str = "carried";
/// The role of whoever lands.
const LANDING: &str = "landing";
/// How long its lease lasts unless renewed.
const LEASE: Duration = Duration::from_secs(8);
/// How often it is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// How often one who waits for its turn asks for it.
const ASK_EVERY: Duration = Duration::from_millis(300);
/// How long after it was sent a commit may be made the tip: longer than sending takes, shorter than such a bundle stays.
const FRESH: Duration = Duration::from_secs(10 * 60);
/// Bundles that lead from what every clone has to the tip; then one takes their place.
const LONGEST_CHAIN: usize = 32;

/// What the nodes that share a target have of it.
pub(crate) struct Shared<'a> {
    repository: &'a Repository,
    paths: &'a StatePaths,
    queue: &'a dyn Queue,
    pub(super) board: Board,
    transport: Transport<'a>,
    /// The turn, where it is this process's.
    turn: Option<Leader>,
    /// Whether somebody else took it.
    is_over: AtomicBool,
    /// The tips that were followed, with their revisions.
    tips: RefCell<BTreeMap<BranchName, (Tip, u64)>>,
}

/// How a target stands to its tip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Followed {
    /// It had the tip, or there is none.
    HadIt,
    /// It was moved to the tip, which this node landed.
    Moved(String),
}

/// Whether the swarm has a landing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Announced {
    /// It has.
    Yes,
    /// Somebody landed meanwhile.
    Underneath,
}

impl<'a> Shared<'a> {
    /// What is shared with other nodes; `None` where the queue is not.
    pub(crate) fn open(landing: &Landing<'a>) -> Result<Option<Self>, LandingError> {
        let Some(link) = landing.queue.link() else { return Ok(None) };
        Ok(Some(Self {
            repository: landing.repository,
            paths: landing.paths,
            queue: landing.queue,
            board: Board::open(link).map_err(QueueError::from)?,
            transport: Transport::open(landing.repository, link, (landing.remote, landing.bundle_bytes))?,
            turn: None,
            is_over: AtomicBool::new(false),
            tips: RefCell::default(),
        }))
    }

    /// Waits for the turn, or until somebody sets `ends`: then `false`.
    pub(super) fn take_turn(
        &mut self,
        ends: &AtomicBool,
        events: &mut dyn FnMut(LandEvent<'_>),
    ) -> Result<bool, LandingError> {
        let holder = format!("process {} of {}", std::process::id(), self.queue.node());
        let request = LeadRequest { role: LANDING.to_owned(), holder, lease: LEASE };
        let mut is_told = false;
        while !ends.load(Ordering::SeqCst) {
            if let Lead::Taken(turn) = self.queue.leader_lease(&request)? {
                self.turn = Some(turn);
                return Ok(true);
            }
            if !std::mem::replace(&mut is_told, true) {
                events(LandEvent::WaitingForOthers);
            }
            std::thread::sleep(ASK_EVERY);
        }
        Ok(false)
    }

    /// Does `work` in the turn, which is renewed meanwhile and given up afterwards.
    pub(super) fn in_turn<T>(&self, work: impl FnOnce() -> T) -> T {
        let Some(turn) = &self.turn else { return work() };
        let (queue, is_over) = (self.queue, &self.is_over);
        std::thread::scope(|scope| {
            let (end, ended) = channel::<()>();
            scope.spawn(move || {
                while ended.recv_timeout(RENEW_EVERY) == Err(RecvTimeoutError::Timeout) {
                    // A server that is away is asked again; whether the turn is over then, the tip tells.
                    if let Ok(Renewed::Lost) = queue.renew_lead(LANDING, turn.fence, LEASE) {
                        is_over.store(true, Ordering::SeqCst);
                        return;
                    }
                }
            });
            let done = work();
            drop(end);
            if let Err(error) = queue.release_lead(LANDING, turn.fence) {
                let error = crate::model::error_text(&error);
                tracing::warn!(error, "the turn to land could not be given up, and ends by itself");
            }
            done
        })
    }

    /// Refuses to go on where the turn is somebody else's by now.
    fn check_turn(&self) -> Result<u64, LandingError> {
        let Some(turn) = &self.turn else { return Err(LandingError::TurnOver) };
        let is_lost = || Ok::<_, LandingError>(self.queue.renew_lead(LANDING, turn.fence, LEASE)? == Renewed::Lost);
        if self.is_over.load(Ordering::SeqCst) || is_lost()? {
            return Err(LandingError::TurnOver);
        }
        Ok(turn.fence)
    }

    /// The tip of a target with its revision; `None` where nothing landed on it yet.
    fn tip(&self, target: &BranchName) -> Result<Option<(Tip, u64)>, LandingError> {
        let Some(entry) = self.board.entry(&key(target)).map_err(QueueError::from)? else { return Ok(None) };
        let tip = serde_json::from_slice(&entry.value)
            .map_err(|source| LandingError::UnknownTip { target: target.clone(), source })?;
        Ok(Some((tip, entry.revision)))
    }

    /// Brings a target of this clone up to the tip. One that has more than the tip stays as it is.
    ///
    /// # Errors
    /// [`LandingError::Diverged`] where both have commits that the other has not, [`LandingError::TakenOut`] where it had
    /// commits of other nodes and has them no more, [`LandingError::CannotFollow`] where a checkout is in the way. Nothing
    /// changed then.
    pub(crate) fn follow(&self, target: &BranchName) -> Result<Followed, LandingError> {
        let Some((tip, revision)) = self.tip(target)? else { return Ok(Followed::HadIt) };
        // One at a time: each follows to the end.
        let _alone = FileLock::wait(&self.paths.lock("tips"))?;
        let commit = &tip.commit;
        let own = tip_reference(target);
        if self.repository.ref_commit(&own)?.as_ref() != Some(commit) {
            self.transport.take(Parcel::Tip(commit), commit, &own)?;
        }
        let followed = followed_reference(target);
        loop {
            let head = self.repository.branch_head(target)?.ok_or_else(|| LandingError::NoTarget(target.clone()))?;
            if self.repository.is_ancestor(commit, &head)? {
                self.repository.set_swarm_ref(&followed, commit)?;
                self.tips.borrow_mut().insert(target.clone(), (tip, revision));
                return Ok(Followed::HadIt);
            }
            if !self.repository.is_ancestor(&head, commit)? {
                return Err(LandingError::Diverged { target: target.clone(), node: tip.node, own });
            }
            if let Some(had) = self.repository.ref_commit(&followed)?
                && !self.repository.is_ancestor(&had, &head)?
            {
                return Err(LandingError::TakenOut { target: target.clone(), commit: had, own });
            }
            let reason = format!("swarm: followed node {}", tip.node);
            match self.repository.advance_target(target, &head, commit, &reason)? {
                Advance::Moved { .. } => {
                    self.repository.set_swarm_ref(&followed, commit)?;
                    let node = tip.node.clone();
                    self.tips.borrow_mut().insert(target.clone(), (tip, revision));
                    return Ok(Followed::Moved(node));
                }
                Advance::MovedUnderneath { .. } => {}
                Advance::Busy(busy) => {
                    let (worktree, why) = (busy.worktree, busy.why);
                    return Err(LandingError::CannotFollow { target: target.clone(), worktree, why });
                }
            }
        }
    }

    /// Hands the commit over that a target is about to move to, and makes it the tip. Only where the tip is still the one
    /// that was followed, and the turn still this process's.
    pub(super) fn announce(
        &self,
        target: &BranchName,
        (from, to): (&CommitId, &CommitId),
        landed: Vec<LandedTicket>,
    ) -> Result<Announced, LandingError> {
        let known = self.tips.borrow().get(target).cloned();
        if let Some((tip, _)) = &known
            && self.repository.is_ancestor(to, &tip.commit)?
        {
            // It has this work already.
            self.check_turn()?;
            return Ok(Announced::Yes);
        }
        let (base, mut chain, below) = match &known {
            Some((tip, _)) => (tip.base.clone(), tip.chain.clone(), tip.commit.clone()),
            None => (from.clone(), Vec::new(), from.clone()),
        };
        let sent_at = Time::now();
        let old = if chain.len() >= LONGEST_CHAIN
            && self.transport.send(Parcel::Tip(to), to, std::slice::from_ref(&base)).is_ok()
        {
            std::mem::take(&mut chain)
        } else {
            self.transport.send(Parcel::Tip(to), to, &[below])?;
            Vec::new()
        };
        chain.push(to.clone());
        let fence = self.check_turn()?;
        if sent_at.age_at(Time::now()) > FRESH {
            // The machine was asleep: what was sent may have been deleted as left by a node that is gone.
            return Ok(Announced::Underneath);
        }
        if known.as_ref().is_some_and(|(tip, _)| tip.fence > fence) {
            return Err(LandingError::TurnOver);
        }
        if let Some((tip, _)) = &known {
            self.mark_landed(tip)?;
        }
        let mut tip = Tip::now(to.clone(), self.queue.node().to_owned(), fence, base);
        (tip.chain, tip.landed) = (chain, landed);
        match self.put_tip(target, tip, known.map(|(_, revision)| revision))? {
            true => {
                self.repository.set_swarm_ref(&tip_reference(target), to)?;
                for commit in old {
                    if let Err(error) = self.transport.forget(Parcel::Tip(&commit)) {
                        let error = crate::model::error_text(&error);
                        tracing::warn!(error, "a bundle that nobody needs any more could not be deleted");
                    }
                }
                Ok(Announced::Yes)
            }
            false => {
                // It may have been the tip for a moment, by a try whose answer was lost: then others lead over it.
                if !self.tip(target)?.is_some_and(|(tip, _)| tip.chain.contains(to)) {
                    self.transport.forget(Parcel::Tip(to)).ok();
                }
                Ok(Announced::Underneath)
            }
        }
    }

    /// Writes a tip where the last revision of it is `known`; false where somebody was faster.
    fn put_tip(&self, target: &BranchName, tip: Tip, known: Option<u64>) -> Result<bool, LandingError> {
        let value =
            serde_json::to_vec(&tip).map_err(|source| LandingError::UnknownTip { target: target.clone(), source })?;
        let revision = self.board.put(&key(target), &value, known).map_err(QueueError::from)?;
        let is_put = revision.is_some();
        if let Some(revision) = revision {
            self.tips.borrow_mut().insert(target.clone(), (tip, revision));
        }
        Ok(is_put)
    }

    /// Says to the queue which tickets have landed with the tip, where whoever landed them has not come to that, and brings
    /// the target of this clone up to it.
    pub(crate) fn catch_up(&self, target: &BranchName) -> Result<Followed, LandingError> {
        if let Some((tip, _)) = self.tip(target)? {
            self.mark_landed(&tip)?;
        }
        self.follow(target)
    }

    /// Says to the queue that the tickets have landed which came in with a tip.
    fn mark_landed(&self, tip: &Tip) -> Result<(), LandingError> {
        for LandedTicket { ticket, fence } in &tip.landed {
            let entry = self.queue.ticket(ticket)?.filter(|entry| entry.fence == *fence);
            let settled = match entry.map(|entry| entry.state) {
                Some(TicketState::Landing) => self.queue.settle(ticket, *fence, Settlement::Landed),
                // Whoever landed it took it back: no answer told it that the tip had moved.
                Some(TicketState::Approved) => self
                    .queue
                    .settle(ticket, *fence, Settlement::BeginLanding)
                    .and_then(|_| self.queue.settle(ticket, *fence, Settlement::Landed)),
                _ => continue,
            };
            match settled {
                // Somebody else says so at the same time, or gave it back to its agent.
                Ok(_) | Err(QueueError::Stale { .. } | QueueError::Illegal { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Takes a ticket from a node that is gone and was landing it: it has landed then, or is approved again and cannot land
    /// any more by what that node had begun.
    fn take_from_gone(&self, ticket: &TicketId, fence: u64, target: &BranchName) -> Result<(), LandingError> {
        self.catch_up(target)?;
        let entry = self.queue.ticket(ticket)?;
        if entry.is_none_or(|entry| (entry.state, entry.fence) != (TicketState::Landing, fence)) {
            return Ok(());
        }
        let turn = self.check_turn()?;
        let known = self.tips.borrow().get(target).cloned();
        let (tip, revision) = match known {
            Some((mut tip, revision)) => {
                tip.fence = turn;
                (tip, Some(revision))
            }
            None => {
                let head =
                    self.repository.branch_head(target)?.ok_or_else(|| LandingError::NoTarget(target.clone()))?;
                (Tip::now(head.clone(), self.queue.node().to_owned(), turn, head), None)
            }
        };
        if !self.put_tip(target, tip, revision)? {
            return Err(LandingError::TurnOver);
        }
        self.queue.settle(ticket, fence, Settlement::DeferLanding)?;
        Ok(())
    }

    /// The way to other nodes.
    pub(crate) fn transport(&self) -> &Transport<'a> {
        &self.transport
    }
}

impl Landing<'_> {
    /// Waits for the turn and takes a ticket from a node that is gone and was landing it.
    pub(crate) fn take_from_gone(
        &self,
        ticket: &TicketId,
        fence: u64,
        target: &BranchName,
    ) -> Result<(), LandingError> {
        let Some(mut shared) = Shared::open(self)? else { return Ok(()) };
        if !shared.take_turn(&AtomicBool::new(false), &mut |_| {})? {
            return Err(LandingError::Ended);
        }
        shared.in_turn(|| shared.take_from_gone(ticket, fence, target))
    }
}

/// The reference that holds the tip of a target, as far as this clone has followed it.
pub(crate) fn tip_reference(target: &BranchName) -> String {
    format!("refs/swarm/tip/{target}")
}

/// The reference that holds the last tip that the target of this clone had.
fn followed_reference(target: &BranchName) -> String {
    format!("refs/swarm/followed/{target}")
}

/// The key of a target's tip: letters and digits are themselves, every other byte is `=` and two digits.
fn key(target: &BranchName) -> String {
    let plain = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("={byte:02X}"),
    };
    format!("{TIPS}.{}", target.as_str().bytes().map(plain).collect::<String>())
}
