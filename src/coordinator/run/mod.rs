//! The engine of `swarm run` and `swarm up`.
//!
//! # Theory of operation
//!
//! One loop: keep the coordinator's lease, take the reports of what was begun, **look** at every worker and ticket,
//! **decide** ([`decide`], a pure function), **act**, and wait until the store changes or something is due. Acts that take
//! long (starting, resuming, landing with its gates) run on threads of their own, so that nothing keeps the loop from
//! looking.
//!
//! **Who acts.** Only the process that holds the lease of the role acts; it renews it before each act, and one that lost it
//! (it was stopped, or slept) stands by from then on. Whoever stands by looks as well, and takes over when the lease runs
//! out. What two leaders could still do at once, because one of them had begun before it lost the role, is kept apart by
//! what keeps any two commands apart: claims in the queue, the spawn lock of a worker, the landing lock.
//!
//! **Nodes.** Where a server keeps the queue, each clone that works on it is a node with a coordinator of its own: the role
//! is `coordinator@NODE`, and everything above holds within the node. It says on the board of the server that it is there,
//! looks which others are, follows what they land, and hands over what its workers have made. Tickets that others hold are
//! theirs while they are there; those of a node that is gone and whose leases are over it takes over, and what that one had
//! finished as well.
//!
//! **What survives.** The engine keeps no truth in memory. Tickets, workers and intents are in the store; waiting times
//! between attempts follow from what the queue recorded. A new engine sees what the last one saw, so `kill -9` of it loses
//! nothing: workers run on, half-done starts are undone by the next start, half-done landings by the next landing. Only how
//! often a start failed before it counted as an attempt is forgotten.
//!
//! **Scaling.** How many workers may run at once is what is configured, or what policies and people made of it while it ran
//! (`model::scaling`). It is measured at each look and kept in the store, or for all nodes together on the board of the
//! server, where one node decides for all. With a smaller number fewer start; nothing that runs is stopped.
//!
//! **Decisions age.** What was decided is carried out a while later, on a thread that may wait for a lock. So each act names
//! the states of the ticket that it was decided for, and the queue refuses it in any other: a cancellation in between wins.
//!
//! **Holds.** Why a ticket does not move is a fact in the store ([`Hold`]), replaced as a whole by who leads, and worth
//! something only as long as somebody leads. Whoever stands by believes those that need somebody: what was tried in vain
//! only the leader knows.
//!
//! **The end.** A run is over when none of its tickets moves any more: each reached its end, failed for good, or waits for
//! somebody. An interruption ends scheduling and nothing else: workers run on. The time limit of a run, and in CI an
//! interruption, ends its agents too, keeps their work, and leaves their tickets queued. However it ends, a set-up that goes
//! on is ended with it and its start taken back.

mod arrange;
mod assign;
mod backoff;
mod carry;
mod crash_loop;
mod distribution;
mod ending;
mod jobs;
mod lead;
mod lease;
mod nodes;
mod pace;
pub(super) mod pulse;
mod reread;
mod ring;
mod scaling;
mod schedule;
mod scope;
mod setback;
mod shorten;
mod spend;
pub(crate) mod stuck;
mod summary;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::control::{Choice, Control, holder_name};
use super::failure::Failure;
use super::views::RunView;
use crate::model::coordination::{Hold, HoldKind, RunRecord};
use crate::model::event::{SwarmEvent, SwarmRecord};
use crate::model::ticket::TicketState;
use crate::model::{TicketId, Time, WorkerId, counted};
use crate::queue::{Gateway, QueueError, QueueEvent, QueueTicket};
use arrange::Arrangement;
use assign::Assigner;
pub(crate) use distribution::Past;
pub(crate) use jobs::CareOf;
use jobs::{Done, Job, Jobs, Report};
use lease::Lease;
use nodes::Neighbours;
use pulse::{LOOK_EVERY, Mark, PEEK_EVERY, Pulse};
use reread::Configuration;
use scaling::Scaling;
pub(crate) use schedule::{Decision, Standing, Step, decide};
use shorten::Shortening;
pub(crate) use spend::Spent;
pub(crate) use summary::RunOutcome;
pub(crate) use world::{AgentFacts, Nodes, Peer, Rules, Seen, Setback, World};

/// How long an engine whose every look fails goes on trying before it ends.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);
/// The same where the queue is on a server, which may be away for a while.
const GIVE_UP_SERVER_AFTER: Duration = Duration::from_secs(600);
/// Events that are told at one look.
const HEARD_AT_ONCE: usize = 1_000;

/// What `run` or `up` was asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunRequest {
    /// Ticket ids or paths.
    pub(crate) tickets: Vec<String>,
    /// Every ticket that is not over.
    pub(crate) all: bool,
    /// Whatever is queued, without an end.
    pub(crate) is_endless: bool,
    /// Land what is approved.
    pub(crate) lands: bool,
    /// Start workers without tmux and a person.
    pub(crate) headless: bool,
    /// End after this long.
    pub(crate) timeout: Option<Duration>,
    /// Whoever ends it ends its agents as well: the machine is about to go away.
    pub(crate) stops_agents: bool,
}

/// Hears what happens, and says when a person wants the run to end.
pub(crate) trait RunFace {
    /// Something happened.
    fn tell(&mut self, news: &News<'_>);
    /// The signal by which somebody asked the run to end, if anybody did.
    fn interrupted(&self) -> Option<i32>;
}

/// What a person who follows a run hears.
#[derive(Debug)]
pub(crate) enum News<'a> {
    /// A clause about the run as a whole.
    Said(&'a str),
    /// A ticket changed its state.
    Changed {
        /// How.
        event: &'a QueueEvent,
        /// The ticket at the last look.
        entry: &'a QueueTicket,
        /// The worker's reason, where it has one.
        reason: Option<&'a str>,
    },
    /// A ticket waits for somebody.
    Held(&'a Hold),
    /// A clause about a worker whose work lands.
    Landing(&'a str, &'a str),
}

/// How a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Nothing moves any more.
    Settled,
    /// Its time was over.
    TimedOut,
    /// Somebody ended it by this signal.
    Interrupted(i32),
}

/// Runs tickets to their end, or until somebody ends it. The second value is the failure for the exit code.
pub(crate) fn run(
    control: &Control,
    request: &RunRequest,
    face: &mut dyn RunFace,
) -> Result<(RunView, Result<(), Failure>), Failure> {
    control.check_run(request.lands)?;
    let mut engine = Engine::new(control, request, face)?;
    engine.begin()?;
    let ending = engine.turn_until_over()?;
    engine.end(ending)
}

/// One coordinator.
struct Engine<'a> {
    control: &'a Control,
    request: &'a RunRequest,
    face: &'a mut dyn RunFace,
    rules: Rules,
    configuration: Configuration,
    /// Settings and agents since the configuration changed; `None` where it has not.
    changed: Option<Control>,
    /// The tickets to bring to an end; `None` is every one.
    chosen: Option<BTreeSet<TicketId>>,
    lease: Lease,
    /// Whether it leads, and if not, who was told to lead.
    leads: bool,
    other: Option<String>,
    jobs: Jobs,
    nodes: Neighbours,
    scaling: Scaling,
    arrangement: Arrangement,
    assigner: Assigner,
    setbacks: BTreeMap<TicketId, Setback>,
    shortening: Shortening,
    /// The number of the last event that was told.
    heard: i64,
    /// The holds that were stored last, or told where it stands by; `None` before the first.
    held: Option<Vec<Hold>>,
    /// What was held before this one began.
    old_holds: Vec<Hold>,
    record: RunRecord,
    began_at: Instant,
    /// What it notices changes by.
    pulse: Pulse,
    /// The last look.
    last: Option<(World, Decision)>,
    /// Answers other programs, where the queue is on a server.
    _gateway: Option<Gateway>,
}

impl<'a> Engine<'a> {
    /// An engine that has done nothing yet.
    fn new(control: &'a Control, request: &'a RunRequest, face: &'a mut dyn RunFace) -> Result<Self, Failure> {
        let rules = control.rules(request.lands)?;
        let holder = holder_name();
        let gateway = control.gateway().unwrap_or_else(|failure| {
            let why = failure.chain.join(": ");
            face.tell(&News::Said(&format!("warning: other programs cannot use the queue: {why}")));
            None
        });
        let record = RunRecord {
            id: control.run_id().clone(),
            began_at: Time::now(),
            tickets: None,
            max_workers: rules.max_workers,
            lands: request.lands,
            holder: holder.clone(),
            ended: None,
        };
        Ok(Self {
            control,
            request,
            face,
            rules,
            configuration: Configuration::of(control),
            changed: None,
            chosen: None,
            lease: Lease::new(control.project().queue()?, control.role()?, holder, control.project().paths.clone()),
            leads: false,
            other: None,
            jobs: Jobs::new(control.beside()),
            nodes: Neighbours::new(),
            scaling: Scaling::default(),
            arrangement: Arrangement::new(control.topology()?),
            assigner: Assigner::default(),
            setbacks: BTreeMap::new(),
            shortening: Shortening::default(),
            heard: control.project().store()?.last_seq()?,
            held: None,
            old_holds: control.project().store()?.holds()?,
            record,
            began_at: Instant::now(),
            pulse: Pulse::of(control.project().store()?, &*control.project().queue()?),
            last: None,
            _gateway: gateway,
        })
    }

    /// Chooses and publishes the tickets.
    fn begin(&mut self) -> Result<(), Failure> {
        self.check_leader()?;
        if !self.request.is_endless {
            let choice = self.control.choose(&self.request.tickets, self.request.all)?;
            self.tell_choice(&choice);
            self.control.publish_chosen(&choice)?;
            self.record.tickets = Some(choice.tickets.iter().cloned().collect());
            self.chosen = Some(choice.tickets);
        }
        self.control.project().store()?.put_run_record(&self.record)?;
        let tickets = self.record.tickets.clone().unwrap_or_default();
        let max_workers = u32::try_from(self.rules.limit()).unwrap_or(u32::MAX);
        self.note(SwarmRecord::now(&self.record.id, SwarmEvent::RunBegan { tickets, max_workers }))
    }

    /// Says which tickets come along.
    fn tell_choice(&mut self, choice: &Choice) {
        for (added, needed_by) in &choice.added {
            self.face.tell(&News::Said(&format!("`{added}` comes along: `{needed_by}` needs it")));
        }
        let count = counted(choice.tickets.len(), "ticket");
        let workers = counted(self.rules.limit(), "worker");
        let by = self.rules.scaled.as_ref().map(|scaled| format!(" (set by {}: swarm scale)", scaled.by));
        self.face.tell(&News::Said(&format!("{count}, up to {workers} at once{}", by.unwrap_or_default())));
    }

    /// Appends a fact to the event stream.
    fn note(&self, record: SwarmRecord) -> Result<(), Failure> {
        self.control.project().store()?.append_swarm_event(&record)?;
        Ok(())
    }

    /// The loop.
    fn turn_until_over(&mut self) -> Result<Ending, Failure> {
        let mut failing: Option<(Instant, String)> = None;
        loop {
            if let Some(signal) = self.face.interrupted() {
                if self.request.stops_agents {
                    self.stop_all(&format!("the run was ended by signal {signal}"))?;
                }
                return Ok(Ending::Interrupted(signal));
            }
            if self.request.timeout.is_some_and(|timeout| self.began_at.elapsed() >= timeout) {
                let text = crate::model::duration_text(self.request.timeout.unwrap_or_default());
                self.stop_all(&format!("the run's time was over after {text}"))?;
                return Ok(Ending::TimedOut);
            }
            let mark = self.pulse.mark()?;
            match self.turn() {
                Ok(true) => return Ok(Ending::Settled),
                Ok(false) => failing = None,
                Err(failure) => self.bear(failure, &mut failing)?,
            }
            self.await_change(mark);
        }
    }

    /// Goes on after a failed turn, as long as that makes sense: the disk may be full for a while, or the database busy.
    fn bear(&mut self, failure: Failure, failing: &mut Option<(Instant, String)>) -> Result<(), Failure> {
        let text = failure.chain.join(": ");
        let (since, told) = failing.get_or_insert((Instant::now(), String::new()));
        if *told != text {
            self.face.tell(&News::Said(&format!("could not look or act, and tries again: {text}")));
            *told = text;
        }
        let is_on_server = self.control.project().queue()?.server().is_some();
        let patience = if is_on_server { GIVE_UP_SERVER_AFTER } else { GIVE_UP_AFTER };
        if !self.request.is_endless && since.elapsed() > patience { Err(failure) } else { Ok(()) }
    }

    /// One look and what follows from it; whether the run is over.
    fn turn(&mut self) -> Result<bool, Failure> {
        // Supervisors without a terminal are children of ours.
        crate::process::collect_ended();
        let leading = self.lease.keep()?;
        self.hear_lead(leading)?;
        self.meet_nodes()?;
        self.shorten()?;
        self.reread()?;
        self.hear_scale()?;
        self.reread_topology()?;
        let (workers, tickets) = self.control.observe()?;
        let control = self.changed.as_ref().unwrap_or(self.control);
        let mut world = control.world(&self.rules, workers, tickets, self.chosen.clone())?;
        self.add_nodes(&mut world);
        self.add_assignments(&mut world)?;
        self.carry(&world)?;
        if !self.leads {
            self.add_leader(&mut world)?;
        }
        world::forget_changed(&mut self.setbacks, &world);
        (world.doing, world.setbacks) = (self.jobs.doing().clone(), self.setbacks.clone());
        let decision = decide(&world, &self.rules);
        self.tell_changes(&world)?;
        self.scale(&world, &decision)?;
        if self.leads {
            self.keep_owners(&world)?;
            self.forget_tokens(&world)?;
            self.store_holds(&decision.holds)?;
            for step in decision.steps.clone() {
                self.act(step)?;
            }
        } else {
            self.tell_holds(&decision.holds);
        }
        let is_over = !self.request.is_endless
            && decision.is_over()
            && self.jobs.doing().is_empty()
            && !self.shortening.is_under_way;
        self.last = Some((world, decision));
        Ok(is_over)
    }

    /// Says what tickets went through, each step of it, however quickly one followed the other.
    fn tell_changes(&mut self, world: &World) -> Result<(), Failure> {
        for (seq, event) in self.control.project().queue()?.events_since(self.heard, HEARD_AT_ONCE)? {
            self.heard = seq;
            self.scaling.hear(&event, world.ticket(&event.ticket), world.nodes.own.as_deref());
            if event.from == Some(event.to) {
                // Somebody published it anew, whatever was tried in vain.
                self.setbacks.remove(&event.ticket);
            }
            if let Some(entry) = world.ticket(&event.ticket).filter(|_| world.is_chosen(&event.ticket)) {
                let reason = world.worker_of(&event.ticket).map(|seen| seen.reason.as_str());
                self.face.tell(&News::Changed { event: &event, entry, reason });
            }
        }
        Ok(())
    }

    /// Says what holds tickets for somebody, where the leader stores it.
    fn tell_holds(&mut self, holds: &[Hold]) {
        let before = self.held.replace(holds.to_vec()).unwrap_or_default();
        let is_known = |hold: &Hold| before.iter().any(|old| old.ticket == hold.ticket && old.kind == hold.kind);
        for hold in holds.iter().filter(|hold| !hold.kind.passes() && !is_known(hold)) {
            self.face.tell(&News::Held(hold));
        }
    }

    /// Stores the holds where they changed, and notes for each ticket that is held for another kind of reason.
    fn store_holds(&mut self, holds: &[Hold]) -> Result<(), Failure> {
        if self.held.as_deref() == Some(holds) {
            return Ok(());
        }
        let store = self.control.project().store()?;
        let before: BTreeMap<TicketId, HoldKind> = match self.held.take() {
            Some(held) => held.into_iter().map(|hold| (hold.ticket, hold.kind)).collect(),
            None => store.holds()?.into_iter().map(|hold| (hold.ticket, hold.kind)).collect(),
        };
        store.set_holds(holds)?;
        for hold in holds.iter().filter(|hold| before.get(&hold.ticket) != Some(&hold.kind)) {
            if !hold.kind.passes() {
                self.face.tell(&News::Held(hold));
            }
            let event = SwarmEvent::Held { why: hold.why.clone(), until: hold.until };
            self.note(SwarmRecord::now(&self.record.id, event).about(&hold.ticket))?;
        }
        for ticket in before.keys().filter(|ticket| !holds.iter().any(|hold| hold.ticket == **ticket)) {
            self.note(SwarmRecord::now(&self.record.id, SwarmEvent::HoldEnded).about(ticket))?;
        }
        self.held = Some(holds.to_vec());
        Ok(())
    }

    /// Carries out one step, or begins to; only while it leads.
    fn act(&mut self, step: Step) -> Result<(), Failure> {
        if !self.still_leads()? {
            return Ok(());
        }
        let headless = self.request.headless;
        match step {
            Step::Publish { ticket } => self.control.publish_again(&ticket)?,
            Step::Requeue { ticket } => match self.control.project().queue()?.requeue(&ticket) {
                // Another node was faster.
                Err(QueueError::Illegal { .. }) => {}
                requeued => drop(requeued?),
            },
            // What finds no room now is decided again at the next look.
            Step::Start { .. } | Step::Resume { .. } if !self.jobs.may_start() => {}
            Step::Start { ticket, agent } => {
                let agent = self.whose_turn(&ticket, agent, true)?;
                self.jobs.begin(Job::Start { ticket, agent, headless });
            }
            Step::Pass { ticket, why } => self.pass_token(&ticket, why)?,
            Step::Hand { .. } if !self.jobs.may_start() => {}
            Step::Hand { ticket, worker, agent } => self.jobs.begin(Job::Hand { ticket, worker, agent }),
            Step::TakeOver { .. } if !self.jobs.may_start() => {}
            Step::TakeOver { ticket, agent, lease } => {
                let entry = self.last.as_ref().and_then(|(world, _)| world.ticket(&ticket));
                let node = entry.and_then(|entry| entry.node.clone()).unwrap_or_default();
                let begins = entry.is_some_and(|entry| matches!(entry.state, TicketState::Running | TicketState::Lost));
                self.face.tell(&News::Said(&format!("takes `{ticket}` over from node {node}, which is gone")));
                let agent = self.whose_turn(&ticket, agent, begins)?;
                self.jobs.begin(Job::TakeOver { ticket, agent, lease, headless });
            }
            Step::Resume { ticket, worker } => self.jobs.begin(Job::Resume { ticket, worker }),
            Step::Land { workers } => self.jobs.begin(Job::Land { workers }),
            Step::Care { ticket, worker, what } => self.jobs.begin(Job::Care { ticket, worker, what }),
        }
        Ok(())
    }

    /// Waits for a report, a change of the store or of the queue's server, the next moment that matters, or a second.
    fn await_change(&mut self, mark: Mark) {
        let due = self.last.as_ref().and_then(|(world, decision)| Some(decision.wake_at?.until_from(world.now)));
        let mut wait = self.pulse.wait(mark, due);
        while wait.goes_on() && self.face.interrupted().is_none() {
            if let Some(report) = self.jobs.next(PEEK_EVERY) {
                self.take(report);
                wait.hear();
            }
        }
    }

    /// Takes a report of a job.
    fn take(&mut self, report: Report) {
        match report {
            Report::Said(worker, what) => self.face.tell(&News::Landing(&worker, &what)),
            // Who would ask them is gone, with what they said.
            Report::Done(Job::TakeOver { ticket, .. }, Ok(_)) => {
                self.setbacks.remove(&ticket);
                self.jobs.begin(Job::Ask { worker: WorkerId::of(&ticket, 1) });
            }
            Report::Done(Job::Follow, followed) => self.followed(followed),
            Report::Done(Job::Carry { .. }, carried) => self.carried(carried),
            Report::Done(Job::Shorten, shortened) => self.shortened(shortened),
            Report::Done(Job::Sweep, Err(failure)) => {
                let error = failure.chain.join(": ");
                tracing::warn!(error, "it could not be looked for what nodes left on the server that are gone");
            }
            Report::Done(Job::Start { ticket, .. } | Job::Hand { ticket, .. } | Job::Resume { ticket, .. }, Ok(_)) => {
                self.setbacks.remove(&ticket);
            }
            Report::Done(Job::TakeOver { ticket, .. }, Err(failure)) => self.not_taken_over(ticket, &failure),
            Report::Done(Job::Start { ticket, .. } | Job::Hand { ticket, .. }, Err(failure)) => {
                self.token_not_taken(ticket, &failure);
            }
            Report::Done(Job::Resume { ticket, .. }, Err(failure)) => self.not_started(ticket, &failure),
            Report::Done(Job::Land { .. }, Ok(Done::Landed(landing))) => self.landed(&landing),
            Report::Done(Job::Land { workers }, Err(failure)) => {
                for (ticket, _) in workers {
                    if let Some(at) = self.known_at(&ticket) {
                        self.landing_failed(ticket, at, &failure);
                    }
                }
            }
            Report::Done(Job::Stop { worker, .. }, Err(failure)) => {
                let text = format!("`{worker}` could not be stopped: {}", failure.chain.join(": "));
                self.face.tell(&News::Said(&text));
            }
            Report::Done(Job::Care { ticket, worker, .. }, Err(failure)) => {
                let text = format!("`{worker}` could not be looked after: {}", failure.chain.join(": "));
                self.face.tell(&News::Said(&text));
                self.not_started(ticket, &failure);
            }
            Report::Done(Job::Ask { worker }, Err(failure)) => self.not_asked(&worker, &failure),
            Report::Done(..) => {}
        }
    }
}
