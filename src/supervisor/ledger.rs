//! What a supervisor writes about its worker to the store, the queue and the logs. All methods block for moments;
//! the loop calls them through [`crate::supervisor::run`]'s blocking helper.

use std::cell::Cell;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::{LEASE, SHARED_LEASE, SupervisorError};
use crate::model::event::{Event, EventRecord, SwarmEvent, SwarmRecord};
use crate::model::health::{BadEnd, Pace, Pacing};
use crate::model::message::Message;
use crate::model::spend::Role;
use crate::model::ticket::TicketState;
use crate::model::worker::{Outcome, Phase, ProcessIdentity, TmuxSession, Worker};
use crate::model::{AgentName, RunId, TicketId, Time, WorkerId, error_text};
use crate::queue::message::TaskResult;
use crate::queue::{self, Bus, BusError, Completion, Hear, Queue, QueueError, Renewed, Reopen, Subscription};
use crate::store::{Charge, Charged, Counted, Fate, StatePaths, Store, clocks, read_log, read_result};

/// How long the server of the queue may be away when an attempt ended, until that is given up.
const AWAY_AT_MOST: Duration = Duration::from_secs(3_600);
/// How often it is tried to keep what an attempt came to on a server that answers for the queue.
const KEEP_TRIES: u32 = 5;
/// The pause before it is asked again.
const TELL_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Where facts about one worker go.
#[derive(Clone)]
pub(crate) struct Ledger {
    /// The store.
    store: Arc<Store>,
    /// The queue.
    queue: Arc<dyn Queue>,
    /// Messages; opened when first needed.
    bus: Arc<OnceLock<Arc<dyn Bus>>>,
    /// Where its logs lie.
    paths: StatePaths,
    /// The worker.
    worker: WorkerId,
    /// Its ticket.
    ticket: TicketId,
    /// The run that started the attempt.
    run: RunId,
}

impl Ledger {
    /// A ledger for `worker`.
    pub(crate) fn new(
        store: Arc<Store>,
        queue: Arc<dyn Queue>,
        paths: &StatePaths,
        worker: &Worker,
    ) -> Result<Self, SupervisorError> {
        let (ticket, run) = (worker.ticket.clone(), worker.attempt.run.clone());
        Ok(Self { store, queue, bus: Arc::default(), paths: paths.clone(), worker: worker.id.clone(), ticket, run })
    }

    /// How long its lease lasts unless renewed: where several machines share the queue, one that is gone is missed soon.
    fn lease(&self) -> Duration {
        lease_of(&*self.queue)
    }

    /// How often it is to be renewed; by those at rest twice as seldom, because there may be hundreds of them.
    pub(crate) fn renew_every(&self, is_at_rest: bool) -> Duration {
        self.lease() / if is_at_rest { 2 } else { 4 }
    }

    /// Appends an event to the worker's log and to the store's.
    pub(crate) fn log(&self, event: Event) -> Result<(), SupervisorError> {
        let record = EventRecord::now(&self.run, &self.ticket, &self.worker, event);
        Ok(self.store.record_event(&self.paths, &record)?)
    }

    /// Appends a fact about the worker that concerns the whole swarm.
    pub(crate) fn tell_swarm(&self, event: SwarmEvent) -> Result<(), SupervisorError> {
        self.store.append_swarm_event(&self.fact(event))?;
        Ok(())
    }

    /// A fact about the worker.
    fn fact(&self, event: SwarmEvent) -> SwarmRecord {
        SwarmRecord::now(&self.run, event).about_worker(&self.ticket, &self.worker)
    }

    /// What is in the worker's mailbox on this machine, oldest first, what expired among it.
    pub(crate) fn own_mail(&self) -> Result<Vec<Message>, SupervisorError> {
        Ok(self.store.waiting_mail(&self.worker)?)
    }

    /// Forgets what waits since before then: it was for another worker of this name.
    pub(crate) fn forget_mail_before(&self, moment: Time) -> Result<(), SupervisorError> {
        Ok(self.store.withdraw_mail_before(&self.worker, moment)?)
    }

    /// The same, with what waits for the worker on a server as far as fewer than `limit` do here; what left the mailbox here
    /// goes from there.
    pub(crate) fn fetch_mail(&self, limit: usize) -> Result<Vec<Message>, SupervisorError> {
        match self.bus() {
            Ok(bus) => Ok(bus.mail(&self.worker, limit)?),
            Err(error) if error.is_away() => self.own_mail(),
            Err(error) => Err(error.into()),
        }
    }

    /// Where it is heard that something came over a server; `None` where nothing does.
    pub(crate) fn await_mail(&self) -> Result<Option<Box<dyn Subscription>>, SupervisorError> {
        Ok(self.bus()?.await_mail(&self.worker))
    }

    /// Takes a letter out of the mailbox; whether it was still in it.
    pub(crate) fn settle_mail(&self, id: &str, fate: Fate) -> Result<bool, SupervisorError> {
        Ok(self.store.settle_mail(&self.worker, id, fate)?)
    }

    /// Tells a server what happened; in the file engine that is told already.
    pub(crate) fn tell_facts(&self) -> Result<(), SupervisorError> {
        if self.queue.link().is_none() {
            return Ok(());
        }
        let events = queue::tell_events(&*self.queue, &self.store, &self.paths);
        queue::tell_facts(self.bus()?.as_ref(), &self.store, &self.paths)?;
        Ok(events?)
    }

    /// Tells a server what was spent here, and may `hear` what was spent elsewhere, unless another process of this machine
    /// does so for longer than `wait`; nothing in the file engine.
    pub(crate) fn share_spend(&self, wait: Duration, hear: Hear) -> Result<(), SupervisorError> {
        queue::share_spend(&*self.queue, &self.store, &self.paths, wait, hear)?;
        Ok(())
    }

    /// The messages beside the queue.
    fn bus(&self) -> Result<Arc<dyn Bus>, BusError> {
        if let Some(bus) = self.bus.get() {
            return Ok(bus.clone());
        }
        let bus = queue::bus(self.queue.as_ref(), &self.store, &self.paths)?;
        Ok(self.bus.get_or_init(|| bus).clone())
    }

    /// Notes that a model wants to be left alone, for `wait` or as the settings say.
    pub(crate) fn pace(
        &self,
        model: &str,
        why: &str,
        wait: Option<Duration>,
        pacing: Pacing,
    ) -> Result<(), SupervisorError> {
        let refuse = |before: Option<&Pace>| Pace::after_refusal(before, model, why, wait, pacing, Time::now());
        let told = |pace: &Pace| {
            let Pace { model, why, until, .. } = pace.clone();
            self.fact(SwarmEvent::Paced { model, why, until })
        };
        Ok(self.store.pace(model, refuse, told)?)
    }

    /// Notes that a model answers again, to a question that was asked then.
    pub(crate) fn end_pace(&self, model: &str, asked_at: Option<Time>) -> Result<(), SupervisorError> {
        Ok(self.store.end_pace(model, asked_at)?)
    }

    /// Counts a bad end, and forgets what was counted after a good one. A worker that somebody stopped counts nothing.
    fn count_end(&self, fence: u64, outcome: &Outcome) -> Result<(), SupervisorError> {
        match outcome {
            Outcome::Failed { reason, exit_code } => {
                let end = BadEnd { at: Time::now(), fence, exit_code: *exit_code, why: reason.clone() };
                self.store.change_care(&self.worker, |care| care.note_end(end))?;
            }
            Outcome::Finished { .. } | Outcome::NoChanges => self.store.end_care(&self.worker)?,
            Outcome::Stopped { .. } | Outcome::LimitReached { .. } => {}
        }
        Ok(())
    }

    /// Charges what the worker's agent used to the spend ledger.
    pub(crate) fn charge(&self, used: &Used) -> Result<Charged, SupervisorError> {
        let charge = Charge {
            account: &used.account,
            role: Role::Worker,
            run: &self.run,
            ticket: Some(&self.ticket),
            worker: Some(&self.worker),
            attempt: used.attempt,
            agent: &used.agent,
            model: &used.model,
            counted: used.counted,
            worked: used.worked,
        };
        Ok(self.store.charge(&charge, &clocks())?)
    }

    /// What was spent on the ticket, in the run and today.
    pub(crate) fn spendings(&self) -> Result<Charged, SupervisorError> {
        Ok(self.store.spendings(Some(&self.ticket), &self.run, &clocks())?)
    }

    /// Changes the worker's row.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Worker)) -> Result<(), SupervisorError> {
        self.store.update_worker::<SupervisorError>(&self.worker, |worker| {
            change(worker);
            Ok(())
        })?;
        Ok(())
    }

    /// Whether another agent of its ring has its turn when this one has had its own under this fence.
    pub(crate) fn is_followed(&self, fence: u64, agent: &AgentName) -> Result<bool, SupervisorError> {
        Ok(self.store.token(&self.ticket)?.is_some_and(|token| !token.is_over(fence, agent)))
    }

    /// Notes that this supervisor took over, and in which session: its spawner may be dead.
    pub(crate) fn take_over(
        &self,
        supervisor: ProcessIdentity,
        session: Option<TmuxSession>,
    ) -> Result<(), SupervisorError> {
        self.update(|worker| {
            worker.attempt.tmux = session;
            worker.phase = Phase::Supervised { supervisor, since: Time::now() };
        })
    }

    /// Ends the attempt in the queue. A ticket that has moved on is left alone. While the server of the queue is away that
    /// is tried again and again: what was worked for is not given up for a server that is restarted. The fence that it has
    /// from then on.
    pub(crate) fn complete(&self, fence: u64, outcome: &Outcome) -> Result<u64, SupervisorError> {
        let tries = Cell::new(0);
        let done = self.await_queue(|| {
            self.keep_result(fence, outcome, &tries)?;
            tell_end(&*self.queue, &self.ticket, fence, outcome)
        });
        if let Ok((_, now)) = &done
            && *now != fence
        {
            self.keep_result(*now, outcome, &Cell::new(KEEP_TRIES)).ok();
        }
        self.count_end(fence, outcome)?;
        match done {
            Ok((_, now)) => {
                if now != fence {
                    self.update(|worker| worker.attempt.fence = now)?;
                }
                Ok(now)
            }
            Err(QueueError::Stale { .. } | QueueError::Illegal { .. }) => {
                self.log(Event::Warning { text: "the ticket had moved on when the attempt ended".to_owned() })?;
                Ok(fence)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Puts what the attempt came to where other machines find it, before anything that waits for it can begin there. What
    /// the server will not keep is no reason not to end, nor is what it does not answer while the queue does.
    fn keep_result(&self, fence: u64, outcome: &Outcome, tries: &Cell<u32>) -> Result<(), QueueError> {
        let Some(link) = self.queue.link().filter(|_| matches!(outcome, Outcome::Finished { .. } | Outcome::NoChanges))
        else {
            return Ok(());
        };
        let Some(text) = read_result(&self.paths.result(&self.worker))? else { return Ok(()) };
        // Somebody else may have gone on with the ticket, and what they make of it counts.
        if self.queue.ticket(&self.ticket)?.is_none_or(|entry| entry.fence != fence) {
            return Ok(());
        }
        let owner = Some(self.queue.node().to_owned());
        let Err(error) = link.keep_result(&TaskResult::now(&self.ticket, fence, owner, text.into())) else {
            return Ok(());
        };
        tries.set(tries.get() + 1);
        if error.is_away() && tries.get() < KEEP_TRIES {
            return Err(error.into());
        }
        let text = format!("what it came to is not on the server: {}", error_text(&error));
        self.log(Event::Warning { text }).ok();
        Ok(())
    }

    /// Tells the queue how it ended, again and again while its server is away.
    fn await_queue<T>(&self, tell: impl Fn() -> Result<T, QueueError>) -> Result<T, QueueError> {
        let started = Instant::now();
        let mut is_waiting = false;
        loop {
            match tell() {
                Err(error) if error.is_away() && started.elapsed() < AWAY_AT_MOST => {
                    if !std::mem::replace(&mut is_waiting, true) {
                        let text =
                            format!("its end is told to the queue as soon as that answers: {}", error_text(&error));
                        self.log(Event::Warning { text }).ok();
                    }
                    std::thread::sleep(TELL_AGAIN_AFTER);
                }
                told => return told,
            }
        }
    }

    /// Writes down how the worker ended.
    pub(crate) fn end(&self, outcome: &Outcome) -> Result<(), SupervisorError> {
        self.log(Event::AttemptEnded { outcome: outcome.clone(), used: None })?;
        self.close(outcome)
    }

    /// Writes down how the worker ended whose attempt was ended before.
    pub(crate) fn close(&self, outcome: &Outcome) -> Result<(), SupervisorError> {
        let outcome = outcome.clone();
        self.update(|worker| worker.phase = Phase::Ended { outcome, at: Time::now() })
    }

    /// Takes the ticket back under a new lease, because its agent got more to do; the new fence. One that a person
    /// cancelled stays so.
    pub(crate) fn reopen(&self, expected_fence: u64) -> Result<u64, SupervisorError> {
        self.take_back(expected_fence, FROM_IDLE)
    }

    /// Takes the ticket back under a new lease, where it is in one of these states.
    fn take_back(&self, fence: u64, from: Option<&'static [TicketState]>) -> Result<u64, SupervisorError> {
        let claim = self.queue.reopen(&taking_back(&*self.queue, &self.ticket, fence, from))?;
        self.update(|worker| worker.attempt.fence = claim.fence)?;
        Ok(claim.fence)
    }

    /// Extends the lease; where the ticket was held to be lost, takes it again if nobody has it. A ticket that was
    /// cancelled or ended otherwise stays as it is.
    pub(crate) fn renew(&self, fence: u64) -> Result<Renewal, SupervisorError> {
        match self.queue.renew(&self.ticket, fence, self.lease())? {
            Renewed::Held { .. } => Ok(Renewal::Held { fence }),
            Renewed::Lost => match self.take_back(fence, FROM_LOST) {
                Ok(fence) => Ok(Renewal::Held { fence }),
                Err(SupervisorError::Queue(QueueError::Stale { .. })) => {
                    Ok(Renewal::Gone { why: "its lease went to somebody else".to_owned() })
                }
                Err(SupervisorError::Queue(QueueError::Illegal { edge, .. })) => {
                    Ok(Renewal::Gone { why: gone_to(edge.state) })
                }
                Err(error) => Err(error),
            },
        }
    }
}

/// The agent that a worker's attempt began with, as its supervisor wrote down.
pub(super) fn begun_agent(paths: &StatePaths, worker: &Worker) -> Result<Option<u32>, SupervisorError> {
    let log = read_log::<EventRecord>(&paths.events(&worker.id))?;
    Ok(log.records.iter().rev().find_map(|record| match record.event {
        Event::AgentStarted { pid, attempt, .. } if attempt == worker.attempt.number => Some(pid),
        _ => None,
    }))
}

/// Tells a queue how an attempt ended: the state that its ticket has then, and the fence. One that was only held to be lost
/// is taken back first where its work is done, so that this does not stay lost.
pub(crate) fn tell_end(
    queue: &dyn Queue,
    ticket: &TicketId,
    fence: u64,
    outcome: &Outcome,
) -> Result<(TicketState, u64), QueueError> {
    let completion = match outcome {
        Outcome::Finished { .. } => Completion::Review,
        Outcome::NoChanges => Completion::Done,
        Outcome::Failed { reason, .. } | Outcome::Stopped { reason } | Outcome::LimitReached { reason } => {
            return Ok((queue.fail(ticket, fence, reason, None)?, fence));
        }
    };
    match queue.complete(ticket, fence, completion) {
        Err(QueueError::Illegal { edge, .. }) if edge.state == TicketState::Lost => {
            let claim = queue.reopen(&taking_back(queue, ticket, fence, FROM_LOST))?;
            Ok((queue.complete(ticket, claim.fence, completion)?, claim.fence))
        }
        done => Ok((done?, fence)),
    }
}

/// The request to take a ticket back under a new lease, where it is in one of these states.
fn taking_back(
    queue: &dyn Queue,
    ticket: &TicketId,
    expected_fence: u64,
    from: Option<&'static [TicketState]>,
) -> Reopen {
    let (ticket, node, lease) = (ticket.clone(), queue.node().to_owned(), lease_of(queue));
    Reopen { ticket, expected_fence, node, lease, counts_attempt: false, from }
}

/// Where a ticket is whose lease may be taken again.
const FROM_LOST: Option<&[TicketState]> = Some(&[TicketState::Lost]);

/// Where a ticket is whose agent may get more to do.
const FROM_IDLE: Option<&[TicketState]> = Some(&[
    TicketState::Review,
    TicketState::Approved,
    TicketState::Landing,
    TicketState::Lost,
    TicketState::Failed,
    TicketState::Dead,
    TicketState::Done,
]);

/// How long leases of a queue last unless renewed.
pub(super) fn lease_of(queue: &dyn Queue) -> Duration {
    if queue.server().is_some() { SHARED_LEASE } else { LEASE }
}

/// The answer to a renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// The lease goes on under this fence.
    Held {
        /// The fence.
        fence: u64,
    },
    /// There is none any more.
    Gone {
        /// Why, as a clause.
        why: String,
    },
}

/// That a ticket is in a state in which nobody holds it, as a clause.
fn gone_to(state: TicketState) -> String {
    match state {
        TicketState::Cancelled => "its ticket was cancelled".to_owned(),
        state => format!("its ticket is {state} and no longer held"),
    }
}

/// What a worker's agent used.
#[derive(Debug, Clone)]
pub(crate) struct Used {
    /// Its counter.
    pub(crate) account: String,
    /// From 1.
    pub(crate) attempt: u32,
    /// The agent.
    pub(crate) agent: AgentName,
    /// Its model; empty where it names none.
    pub(crate) model: String,
    /// What the counter stands at.
    pub(crate) counted: Option<Counted>,
    /// Time it worked since the last charge.
    pub(crate) worked: Duration,
}

/// This machine's name among the holders of leases.
pub(crate) fn node_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
