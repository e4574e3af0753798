//! What takes long, each on a thread of its own with a control of its own, so that looking and renewing go on. A thread
//! that is lost with its process leaves what a killed command leaves: the next look sees it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::world::Doing;
use crate::coordinator::control::{Beside, MergeProgress};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::views::MergeView;
use crate::model::ticket::TicketState;
use crate::model::{AgentName, TicketId, WorkerId};
use crate::supervisor::SeenLease;

/// Starts at once: two keep a small machine busy, and their locked parts take turns anyway.
const STARTS_AT_ONCE: usize = 2;

/// One piece of work.
#[derive(Debug, Clone)]
pub(super) enum Job {
    /// Start a worker for a ticket.
    Start {
        /// The ticket.
        ticket: TicketId,
        /// With whom.
        agent: AgentName,
        /// Without a terminal.
        headless: bool,
    },
    /// Start a worker for a ticket of a node that is gone.
    TakeOver {
        /// The ticket.
        ticket: TicketId,
        /// With whom.
        agent: AgentName,
        /// The lease that is over.
        lease: SeenLease,
        /// Without a terminal.
        headless: bool,
    },
    /// Let the next agent of a ring go on with work that is there.
    Hand {
        /// The ticket.
        ticket: TicketId,
        /// Its worker.
        worker: WorkerId,
        /// The agent.
        agent: AgentName,
    },
    /// Ask the reviewers of finished work whom nobody else asks.
    Ask {
        /// The worker.
        worker: WorkerId,
    },
    /// Bring the targets up to what other nodes landed.
    Follow,
    /// Hand work over, in case this node goes away.
    Carry {
        /// Whose.
        workers: Vec<WorkerId>,
        /// Tickets of which nothing needs to be handed over any more.
        over: Vec<TicketId>,
    },
    /// Delete what nodes left on the server that are gone.
    Sweep,
    /// Shorten the log of the queue where it is too long.
    Shorten,
    /// Continue a lost worker.
    Resume {
        /// Its ticket.
        ticket: TicketId,
        /// Which.
        worker: WorkerId,
    },
    /// Land finished work.
    Land {
        /// Whose.
        workers: Vec<(TicketId, WorkerId)>,
    },
    /// Look after a worker that does not go on.
    Care {
        /// Its ticket.
        ticket: TicketId,
        /// Which.
        worker: WorkerId,
        /// What to do.
        what: CareOf,
    },
    /// End a worker because the run is over.
    Stop {
        /// Its ticket.
        ticket: TicketId,
        /// Which.
        worker: WorkerId,
        /// Why, as a clause.
        reason: String,
    },
}

/// What is done about a worker that does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CareOf {
    /// Remind its agent.
    Nudge,
    /// End its agent and start it again.
    Restart {
        /// Why, as a clause.
        why: String,
    },
    /// Start it again, as was begun.
    RestartOwed,
    /// End its attempt as failed.
    Fail {
        /// Why, as a clause.
        why: String,
    },
    /// Start it no more.
    GiveUp {
        /// Why, as a clause.
        why: String,
    },
    /// Write down the end that its ticket has come to.
    Close,
}

/// What a job reports.
pub(super) enum Report {
    /// Something happens while it goes on, as a clause about a worker (empty: about none).
    Said(String, String),
    /// It is over.
    Done(Job, Result<Done, Failure>),
}

/// What a job that went well did.
pub(super) enum Done {
    /// A worker runs, or goes on, or was ended.
    Simply,
    /// Work was handed over, but for that of these workers.
    Carried(Vec<(WorkerId, Failure)>),
    /// Targets followed what other nodes landed, or could not: what came of it, as clauses.
    Followed(Vec<String>),
    /// A landing was tried: what it says, how it failed as a whole, and where each ticket is now.
    Landed(Box<Landing>),
}

/// How a landing went.
pub(super) struct Landing {
    /// What became of each worker.
    pub(super) view: MergeView,
    /// The failure of those that failed, if any did.
    pub(super) failure: Option<Failure>,
    /// State and fence of each ticket afterwards.
    pub(super) after: Vec<(TicketId, (TicketState, u64))>,
    /// Workers whose reviewers have not answered yet, each with whether nobody is asking them.
    pub(super) unread: Vec<(WorkerId, bool)>,
}

/// The jobs under way.
pub(super) struct Jobs {
    beside: Beside,
    sender: Sender<Report>,
    receiver: Receiver<Report>,
    /// By ticket, what is being done with it.
    doing: BTreeMap<TicketId, Doing>,
    /// Set when landings are to end.
    ends: Arc<AtomicBool>,
}

impl Jobs {
    /// None yet.
    pub(super) fn new(beside: Beside) -> Self {
        let (sender, receiver) = channel();
        Self { beside, sender, receiver, doing: BTreeMap::new(), ends: Arc::default() }
    }

    /// What is being done, by ticket.
    pub(super) fn doing(&self) -> &BTreeMap<TicketId, Doing> {
        &self.doing
    }

    /// Whether there is room for one more start.
    pub(super) fn may_start(&self) -> bool {
        self.doing.values().filter(|doing| matches!(doing, Doing::Starting { .. })).count() < STARTS_AT_ONCE
    }

    /// Whether anything is under way but landings.
    pub(super) fn has_short_ones(&self) -> bool {
        self.doing.values().any(|doing| *doing != Doing::Landing)
    }

    /// Begins what comes next by other settings.
    pub(super) fn work_by(&mut self, beside: Beside) {
        self.beside = beside;
    }

    /// Ends the landing under way: its gate is ended, and what did not land stays as it is.
    pub(super) fn end_landing(&self) {
        self.ends.store(true, Ordering::SeqCst);
    }

    /// Ends the set-up commands of the starts under way, each of which fails by that and takes itself back.
    pub(super) fn end_set_ups(&self) {
        let is_start = |doing: &Doing| matches!(doing, Doing::Starting { .. });
        for ticket in self.doing.iter().filter(|(_, doing)| is_start(doing)).map(|(ticket, _)| ticket.clone()) {
            let beside = self.beside.clone();
            std::thread::spawn(move || {
                if let Err(failure) = beside.open().and_then(|control| control.end_set_up(&ticket)) {
                    let error = failure.chain.join(": ");
                    tracing::warn!(ticket = ticket.as_str(), error, "its set-up could not be ended");
                }
            });
        }
    }

    /// Begins a job.
    pub(super) fn begin(&mut self, job: Job) {
        for (ticket, doing) in job.claims() {
            self.doing.insert(ticket, doing);
        }
        let (beside, sender, ends) = (self.beside.clone(), self.sender.clone(), self.ends.clone());
        std::thread::spawn(move || {
            let work = || carry_out(beside, &job, &mut Told { sender: &sender, ends });
            let fault = || Err(Failure::new(FailureKind::Internal, "it met a fault of this program; see above"));
            let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| fault());
            // Nobody hears it any more when the run was left in the middle of it.
            sender.send(Report::Done(job, result)).ok();
        });
    }

    /// The next report, waiting for it at most so long; `None` where there is none.
    pub(super) fn next(&mut self, within: Duration) -> Option<Report> {
        let report = match self.receiver.recv_timeout(within) {
            Ok(report) => report,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
        };
        if let Report::Done(job, _) = &report {
            for (ticket, _) in job.claims() {
                self.doing.remove(&ticket);
            }
        }
        Some(report)
    }
}

impl Job {
    /// The tickets it is about, and what it does with them.
    fn claims(&self) -> Vec<(TicketId, Doing)> {
        match self {
            Self::Start { ticket, agent, .. }
            | Self::Hand { ticket, agent, .. }
            | Self::TakeOver { ticket, agent, .. } => {
                vec![(ticket.clone(), Doing::Starting { agent: Some(agent.clone()) })]
            }
            Self::Follow | Self::Sweep | Self::Carry { .. } | Self::Ask { .. } | Self::Shorten => Vec::new(),
            Self::Resume { ticket, .. } => vec![(ticket.clone(), Doing::Starting { agent: None })],
            Self::Care { ticket, .. } => vec![(ticket.clone(), Doing::Caring)],
            Self::Stop { ticket, .. } => vec![(ticket.clone(), Doing::Stopping)],
            Self::Land { workers } => workers.iter().map(|(ticket, _)| (ticket.clone(), Doing::Landing)).collect(),
        }
    }
}

/// Does a job.
fn carry_out(beside: Beside, job: &Job, told: &mut Told<'_>) -> Result<Done, Failure> {
    let control = beside.open()?;
    match job {
        Job::Start { ticket, agent, headless } => {
            control.start_published(ticket, agent, *headless, None).map(|_| Done::Simply)
        }
        Job::TakeOver { ticket, agent, lease, headless } => {
            control.take_over(ticket, agent, *headless, *lease).map(|()| Done::Simply)
        }
        Job::Hand { worker, agent, .. } => control.hand_on(worker, agent).map(|()| Done::Simply),
        Job::Ask { worker } => control.ask_unasked(worker, &told.ends).map(|()| Done::Simply),
        Job::Follow => control.follow_tips().map(Done::Followed),
        Job::Sweep => control.sweep().map(|()| Done::Simply),
        Job::Carry { workers, over } => control.carry(workers, over).map(Done::Carried),
        Job::Shorten => control.shorten_log().map(|()| Done::Simply),
        Job::Resume { worker, .. } => control.resume_lost(worker).map(|()| Done::Simply),
        Job::Care { worker, what, .. } => control.care_for(worker, what).map(|()| Done::Simply),
        Job::Stop { worker, reason, .. } => control.stop_for_later(worker, reason).map(|()| Done::Simply),
        Job::Land { workers } => {
            let names: Vec<_> = workers.iter().map(|(_, worker)| worker.clone()).collect();
            let mut unread = Vec::new();
            for worker in &names {
                // Where that cannot be told, landing fails the same way, for this worker alone, and says why.
                let is_unasked = control.misses_reviewers(worker).unwrap_or(false);
                if is_unasked || control.awaits_reviewers(worker).unwrap_or(false) {
                    unread.push((worker.clone(), is_unasked));
                }
            }
            let is_read = |worker: &WorkerId| unread.iter().all(|(unread, _)| unread != worker);
            let ready: Vec<_> = names.into_iter().filter(is_read).collect();
            let (view, result) = control.land(&ready, told)?;
            let queue = control.project().queue()?;
            let mut after = Vec::new();
            for (ticket, _) in workers {
                after.extend(queue.ticket(ticket)?.map(|known| (ticket.clone(), (known.state, known.fence))));
            }
            Ok(Done::Landed(Box::new(Landing { view, failure: result.err(), after, unread })))
        }
    }
}

/// Tells the engine what happens while work lands.
struct Told<'a> {
    sender: &'a Sender<Report>,
    ends: Arc<AtomicBool>,
}

impl MergeProgress for Told<'_> {
    fn tell(&mut self, worker: &str, what: &str) {
        if !what.is_empty() {
            self.sender.send(Report::Said(worker.to_owned(), what.to_owned())).ok();
        }
    }

    fn ends(&self) -> Arc<AtomicBool> {
        self.ends.clone()
    }
}
