//! `why`: what is behind the status of a worker, and what a ticket waits for.
//!
//! What a ticket waits for is what the engine of `run` and `up` says: of a coordinator that leads, what it wrote down, and
//! else what the same function decides about the same look, so that nobody is told of another rule than the one that holds.

use super::Control;
use super::status::worker_view;
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::register::Register;
use crate::coordinator::run::{Rules, Standing, decide};
use crate::coordinator::views::{NodeState, NodeView, VIEW_VERSION, WhyTicketView, WhyView};
use crate::landing::PullRecord;
use crate::model::coordination::{Hold, HoldKind};
use crate::model::ticket::TicketState;
use crate::model::worker::{Liveness, Phase, Status, Worker};
use crate::model::{TicketId, Time, counted, duration_text};
use crate::process;
use crate::queue::QueueTicket;
use crate::supervisor::MARKER;

/// What becomes of a ticket, as a coordinator sees it.
struct Outlook {
    /// Its entry, or what its entry would be.
    entry: Option<QueueTicket>,
    /// Whether the queue knows it; else there is only its file.
    is_queued: bool,
    /// Why it does not move; `None` where nothing is in its way.
    hold: Option<Hold>,
    /// Why it will not make it, or whether it has.
    end: Option<String>,
    /// Who leads and acts on it.
    leader: Option<String>,
    /// Where another node has it, as a clause.
    elsewhere: Option<String>,
}

impl Outlook {
    /// What a coordinator says of a hold, as a sentence.
    fn says(&self, hold: &Hold) -> String {
        let who = if self.leader.is_some() { "the coordinator says" } else { "a coordinator would say" };
        let until = hold.until.map(|until| format!(" (until {} UTC)", until.clock())).unwrap_or_default();
        format!("{who} that it {}{until}", hold.why)
    }

    /// Where the ticket stands, as a view.
    fn ticket(&self) -> Option<WhyTicketView> {
        let entry = self.entry.as_ref()?;
        Some(WhyTicketView {
            id: entry.ticket.id.to_string(),
            title: entry.ticket.title.clone(),
            state: if self.is_queued { entry.state } else { TicketState::Open },
            attempts: entry.attempts,
            max_attempts: entry.ticket.max_attempts,
            hold: self.hold.clone(),
        })
    }
}

impl Control {
    /// Everything behind the status of a worker, or behind where a ticket is that has none. While the server of the queue is
    /// away, by what this machine heard of it last.
    pub(crate) fn why(&self, name: &str) -> Result<WhyView, Failure> {
        let queue = self.project.make_do_with_tables()?;
        Ok(WhyView { queue, ..self.why_now(name)? })
    }

    /// The same by the queue as it can be had.
    fn why_now(&self, name: &str) -> Result<WhyView, Failure> {
        match self.worker(name) {
            Ok(worker) => self.why_worker(worker),
            Err(failure) if failure.kind == FailureKind::NotFound => self.why_ticket(name),
            Err(failure) => Err(failure),
        }
    }

    /// What a ticket without a worker of its name waits for.
    fn why_ticket(&self, name: &str) -> Result<WhyView, Failure> {
        let id: TicketId = name.parse().map_err(|_| nothing(name))?;
        let outlook = self.outlook(&id)?;
        let ticket = outlook.ticket().ok_or_else(|| nothing(name))?;
        let mut facts = Vec::new();
        if !outlook.is_queued {
            facts.push("it is a file that nothing has queued".to_owned());
        }
        if let Some(entry) = outlook.entry.as_ref().filter(|_| outlook.is_queued) {
            facts.push(format!("it is {} in the queue since {}", entry.state, entry.changed_at));
            let of = entry.ticket.max_attempts;
            facts.push(format!("it has had {} of {of}", counted(entry.attempts as usize, "attempt")));
            facts.extend(entry.error.as_ref().map(|error| format!("its last attempt failed: {error}")));
        }
        facts.extend(outlook.elsewhere.clone());
        let workers = self.project.store()?.workers()?;
        let own = workers.iter().filter(|worker| worker.ticket == id).map(|worker| worker.id.as_str());
        match own.collect::<Vec<_>>()[..] {
            [] => facts.push("it has no worker".to_owned()),
            ref own => facts.push(format!("its workers are {}; swarm why tells of each", own.join(", "))),
        }
        facts.extend(self.token_fact(&id)?);
        facts.extend(outlook.end.as_ref().map(|end| format!("it {end}")));
        facts.extend(outlook.hold.as_ref().map(|hold| outlook.says(hold)));
        facts.extend(next_step(&id, &outlook));
        let (version, at) = (VIEW_VERSION, Time::now());
        Ok(WhyView { version, at, queue: None, worker: None, ticket: Some(ticket), facts })
    }

    /// What a coordinator says of a ticket, or would say if it was to bring it and what it needs to an end.
    fn outlook(&self, id: &TicketId) -> Result<Outlook, Failure> {
        let leader = self.leader_of(id)?;
        let (workers, mut tickets) = self.observe()?;
        let known = tickets.iter().find(|entry| entry.ticket.id == *id).cloned();
        let (is_queued, elsewhere) = (known.is_some(), known.as_ref().map(|entry| self.elsewhere(entry)));
        let elsewhere = elsewhere.transpose()?.flatten();
        let mut outlook = Outlook { is_queued, entry: known, hold: None, end: None, leader, elsewhere };
        if outlook.entry.is_none() {
            let Some(ticket) = self.project.ticket_file(id)? else { return Ok(outlook) };
            outlook.entry = Some(QueueTicket::unpublished(ticket, Time::now()));
        }
        let choice = match self.choose(&[id.to_string()], false) {
            Ok(choice) => choice,
            // A circle, or a file that cannot be read: nothing decides about such a ticket.
            Err(failure) => {
                let (ticket, why) = (id.clone(), format!("cannot be queued: {}", failure.chain.join(": ")));
                outlook.hold = Some(Hold { ticket, kind: HoldKind::Person, why, until: None });
                return Ok(outlook);
            }
        };
        choice.add_unqueued(&mut tickets)?;
        outlook.entry = tickets.iter().find(|entry| entry.ticket.id == *id).cloned();
        let rules = Rules { scaled: self.scaled()?, ..self.rules(false)? };
        let mut world = self.world(&rules, workers, tickets, Some(choice.tickets))?;
        world.nodes = self.nodes_at_once()?;
        world.adopt_assignments(&rules);
        let decision = decide(&world, &rules);
        let held = if outlook.leader.is_some() { self.holds()? } else { Vec::new() };
        let hold = |holds: &[Hold]| holds.iter().find(|hold| hold.ticket == *id).cloned();
        outlook.hold = hold(&held).or_else(|| hold(&decision.holds));
        outlook.end =
            decision.standings.iter().find(|(ticket, _)| ticket == id).and_then(|(_, standing)| match standing {
                Standing::Failed(why) => Some(why.clone()),
                _ => None,
            });
        Ok(outlook)
    }

    /// Where another node has a ticket, and what becomes of it where that one is gone, as a clause.
    fn elsewhere(&self, entry: &QueueTicket) -> Result<Option<String>, Failure> {
        use TicketState::{Approved, Landing, Lost, Review, Running};
        let queue = self.project.queue()?;
        let is_finished = matches!(entry.state, Review | Approved | Landing);
        let is_had = queue.server().is_some() && (is_finished || matches!(entry.state, Running | Lost));
        let node = entry.node.as_deref().filter(|node| is_had && *node != queue.node() && entry.client().is_none());
        let Some(node) = node else { return Ok(None) };
        let has = format!("node `{node}` has it");
        let Some(register) = Register::open(&*queue)? else { return Ok(Some(has)) };
        let nodes = self.node_views(&register)?;
        let is_there = |known: &&NodeView| known.state != NodeState::Gone;
        match nodes.iter().find(|known| known.name == node) {
            None => return Ok(Some(format!("`{node}` has it, which is no node"))),
            Some(known) if is_there(&known) => return Ok(Some(has)),
            Some(_) => {}
        }
        let heir = nodes.iter().filter(is_there).find(|known| known.lands || !is_finished);
        Ok(Some(match (heir, is_finished) {
            (Some(_), _) => format!("{has} and is gone: another one goes on with it"),
            (None, true) => format!("{has}, finished, and is gone: no node that is there lands anything"),
            (None, false) => format!("{has} and is gone: no node is there that could go on with it"),
        }))
    }

    /// Who leads and acts on a ticket: one that brings other tickets to their end leaves it alone.
    fn leader_of(&self, id: &TicketId) -> Result<Option<String>, Failure> {
        let leader = self.project.queue()?.leader(&self.role()?)?;
        let Some(leader) = leader.map(|leader| leader.holder) else { return Ok(None) };
        let run = self.project.store()?.run_of(&leader)?;
        let is_left_alone = run.and_then(|run| run.tickets).is_some_and(|tickets| !tickets.contains(id));
        Ok((!is_left_alone).then_some(leader))
    }

    /// That the worker's model wants to be left alone, where it does.
    fn pace_of(&self, worker: &Worker) -> Result<Option<String>, Failure> {
        // An agent that is not defined any more is told elsewhere.
        let Ok(agent) = self.project.agent(&worker.agent) else { return Ok(None) };
        let model = agent.model_name();
        let paces = self.project.store()?.paces()?;
        let pace = paces.iter().find(|pace| pace.model == model && pace.holds_at(Time::now()));
        Ok(pace.map(|pace| format!("its model {}", pace.clause())))
    }

    /// Everything behind a worker's status, with fresh looks at processes.
    fn why_worker(&self, worker: Worker) -> Result<WhyView, Failure> {
        let state = self.ticket_state(&worker.ticket)?;
        let mut known = self.know(worker, state);
        self.reconcile(&mut known)?;
        let mut facts = vec![lifecycle(&known.worker.phase)];
        facts.push(match known.liveness {
            Liveness::Alive => "its supervisor holds its lock, so it lives".to_owned(),
            Liveness::Dead => "nobody holds the supervisor's lock, so no supervisor lives".to_owned(),
            Liveness::Unreadable => "the supervisor's lock could not be read".to_owned(),
        });
        match &known.live {
            Some(live) => {
                let age = duration_text(live.heartbeat_at.age_at(Time::now()));
                facts.push(format!("its last heartbeat is {age} old and said {}", live.status.as_str()));
            }
            None => facts.push("no heartbeat of this attempt was found".to_owned()),
        }
        facts.extend(self.token_fact(&known.worker.ticket)?);
        facts.extend(self.carried_of(&known.worker)?);
        facts.extend(self.pace_of(&known.worker)?);
        if let Some(sign) = known.live.as_ref().and_then(|live| live.sign.as_ref()) {
            let quiet = duration_text(sign.quiet());
            facts.push(format!("the last sign of progress was {quiet} before that: {}", sign.what));
        }
        let marker = self.project.paths.worker_dir(&known.worker.id);
        let running = process::find_marked(MARKER, &marker.to_string_lossy())?;
        let pids: Vec<_> = running.iter().map(|process| process.pid.to_string()).collect();
        if known.verdict.status == Status::Lost {
            known.left_behind = running.iter().map(|process| process.pid).collect();
        }
        facts.push(match (running.is_empty(), known.liveness) {
            (true, _) => "no process of its agent runs".to_owned(),
            (false, Liveness::Alive) => format!("processes of its agent: {}", pids.join(", ")),
            (false, _) => format!("processes its agent left behind: {}; swarm stop ends them", pids.join(", ")),
        });
        if let Some(record) = PullRecord::load(&self.project.paths, &known.worker.id)? {
            let age = duration_text(record.at.age_at(Time::now()));
            let asked = if record.number.is_some() { record.clause() } else { "its branch is pushed".to_owned() };
            facts.push(format!("{asked}; the forge was asked {age} ago"));
        }
        if let Some(state) = known.ticket_state {
            facts.push(format!("its ticket is {state} in the queue"));
        }
        facts.extend(self.stack_fact(&known.worker)?);
        let outlook = self.outlook(&known.worker.ticket)?;
        facts.extend(outlook.elsewhere.as_ref().map(|elsewhere| format!("of its ticket: {elsewhere}")));
        facts.extend(outlook.end.as_ref().map(|end| format!("its ticket {end}")));
        facts.extend(outlook.hold.as_ref().map(|hold| outlook.says(hold)));
        let state = outlook.entry.as_ref().map(|entry| entry.state);
        facts.extend(state.and_then(|state| again(&known.worker.ticket, state)));
        let ticket = outlook.ticket();
        let (version, at, worker) = (VIEW_VERSION, Time::now(), Some(worker_view(&known)));
        Ok(WhyView { version, at, queue: None, worker, ticket, facts })
    }
}

/// The failure for a name that nothing has.
fn nothing(name: &str) -> Failure {
    Failure::new(FailureKind::NotFound, format!("there is no worker and no ticket `{name}`"))
        .hint("swarm status --all lists workers, swarm ticket list tickets")
}

/// How a ticket that failed or was cancelled is tried again.
fn again(id: &TicketId, state: TicketState) -> Option<String> {
    match state {
        TicketState::Dead => Some(format!("swarm queue retry {id} gives it all its attempts anew")),
        TicketState::Failed | TicketState::Cancelled => Some(format!("swarm queue retry {id} queues it again")),
        _ => None,
    }
}

/// What a person can do about a ticket without a worker.
fn next_step(id: &TicketId, outlook: &Outlook) -> Option<String> {
    let state = outlook.entry.as_ref()?.state;
    if let Some(again) = again(id, state) {
        return Some(again);
    }
    Some(match state {
        _ if state.is_ended() => return None,
        _ if !outlook.is_queued => format!("swarm run {id} or swarm spawn {id} starts it"),
        _ if outlook.elsewhere.is_some() => return None,
        _ if outlook.leader.is_none() => {
            format!("no coordinator runs that would start it: swarm run {id}, or swarm up")
        }
        _ if outlook.hold.is_none() => "the coordinator is about to act on it".to_owned(),
        _ => return None,
    })
}

/// A lifecycle fact as a sentence.
fn lifecycle(phase: &Phase) -> String {
    match phase {
        Phase::Preparing { step, since, .. } => format!("a spawn was {} at {since}", step.as_clause()),
        Phase::Supervised { supervisor, since } => format!("supervisor {} took over at {since}", supervisor.pid),
        Phase::Ended { outcome, at } => format!("its attempt ended at {at}: {}", outcome.verdict().1),
        Phase::Released { keep, at, .. } => format!("it was released at {at}; its work is kept in {keep}"),
    }
}
