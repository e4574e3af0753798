//! Looks at a play while it goes on: what `swarm status` says has to be true, and work has to go on after a fault.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::backlog::work_log;
use super::place::Place;

/// A status may be as old as the look that it was taken at, and no older.
const SETTLES: Duration = Duration::from_secs(6);
/// A lease is this long, and then somebody else leads or nobody.
const LEASE_ENDS: Duration = Duration::from_secs(10);
/// Statuses that say that an agent is there.
const LIVING: [&str; 5] = ["starting", "working", "waiting", "idle", "paused"];

/// What a person sees at one moment.
#[derive(Debug)]
pub(super) struct Look(Value);

/// A worker that is at work.
#[derive(Debug, Clone)]
pub(super) struct AtWork {
    pub(super) ticket: String,
    pub(super) agent: u32,
    pub(super) supervisor: u32,
}

impl Look {
    /// Looks; `None` where the program says that it cannot.
    pub(super) fn at(place: &Place) -> Result<Self, String> {
        let said = place.swarm.run(["status", "--all", "--json"]);
        if said.code == 0 { Ok(Self(said.json())) } else { Err(said.transcript()) }
    }

    /// The workers.
    fn workers(&self) -> &[Value] {
        self.0["workers"].as_array().unwrap()
    }

    /// Those that are at work, with an agent and a supervisor.
    pub(super) fn at_work(&self) -> Vec<AtWork> {
        let pid = |worker: &Value, key: &str| worker[key].as_u64().and_then(|pid| u32::try_from(pid).ok());
        let at_work = |worker: &Value| {
            let is_running = worker["ticket_state"] == "running" && LIVING.contains(&worker["status"].as_str()?);
            let (agent, supervisor) = (pid(worker, "pid")?, pid(worker, "supervisor_pid")?);
            is_running.then(|| AtWork { ticket: worker["ticket"].as_str().unwrap().to_owned(), agent, supervisor })
        };
        self.workers().iter().filter_map(at_work).collect()
    }

    /// Goes on with workers whose agent was ended by a signal in the middle of its conversation, as a person does: a
    /// coordinator does not know who sent it, and leaves the worker stopped.
    pub(super) fn resume_stopped(&self, place: &Place) {
        let is_stopped = |worker: &&Value| worker["status"] == "stopped" && worker["ticket_state"] == "failed";
        for worker in self.workers().iter().filter(is_stopped) {
            // It may find no place at once; then it is tried at the next look.
            drop(place.swarm.run(["resume", worker["id"].as_str().unwrap()]));
        }
    }

    /// The pid of who leads.
    pub(super) fn leader(&self) -> Option<u32> {
        self.0["coordinator"]["leader"].as_str()?.split(' ').nth(1)?.parse().ok()
    }

    /// State of each ticket that has a worker.
    fn states(&self) -> BTreeMap<&str, &str> {
        let state = |worker: &'_ Value| worker["ticket_state"].as_str().map(str::len);
        let known = self.workers().iter().filter(|worker| state(worker).is_some());
        known.map(|worker| (worker["ticket"].as_str().unwrap(), worker["ticket_state"].as_str().unwrap())).collect()
    }

    /// What it says that is not so.
    fn untruths(&self, place: &Place) -> Vec<String> {
        let mut untruths = Vec::new();
        let supervisors: BTreeSet<u32> = place
            .swarm
            .processes()
            .into_iter()
            .filter(|(_, shown)| shown.contains(" supervise "))
            .map(|it| it.0)
            .collect();
        for worker in self.workers() {
            let status = worker["status"].as_str().unwrap();
            let supervisor = worker["supervisor_pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
            if let Some(pid) = supervisor.filter(|_| LIVING.contains(&status))
                && !supervisors.contains(&pid)
            {
                untruths.push(format!("{} is {status} under {pid}, which is gone", worker["id"]));
            }
            if let Some(pid) = supervisor.filter(|_| status == "lost")
                && supervisors.contains(&pid)
            {
                untruths.push(format!("{} is lost, and its supervisor {pid} lives", worker["id"]));
            }
        }
        let landed = landed(place);
        for (ticket, _) in self.states().into_iter().filter(|(_, state)| *state == "landed") {
            if !landed.contains(&ticket.to_owned()) {
                untruths.push(format!("{ticket} is called landed and is not"));
            }
        }
        untruths
    }
}

/// The tickets in the target's history, oldest first.
pub(super) fn landed(place: &Place) -> Vec<String> {
    let format = "--format=%(trailers:key=Swarm-Ticket,valueonly)";
    let text = place.swarm.git(["log", "--first-parent", "--reverse", format, "main"]).success();
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Looks until what is said is true, which it has to be soon.
pub(super) fn assert_true(place: &Place) -> Result<(), String> {
    let began = Instant::now();
    loop {
        let untruths = Look::at(place)?.untruths(place);
        if untruths.is_empty() {
            return Ok(());
        }
        if began.elapsed() > SETTLES {
            return Err(format!("status says for {SETTLES:?} what is not so: {untruths:#?}"));
        }
    }
}

/// What has to go on after a fault.
#[derive(Debug)]
pub(super) struct Awaited {
    /// Tickets whose work was hit.
    pub(super) tickets: Vec<String>,
    /// Whether any work will do.
    pub(super) any: bool,
    /// Who led and is gone.
    pub(super) leader: Option<u32>,
}

/// Waits until work goes on; how long it took, `None` where there was nothing left to go on with.
pub(super) fn await_work(
    place: &Place,
    awaited: &Awaited,
    before: usize,
    within: Duration,
) -> Result<Option<Duration>, String> {
    let began = Instant::now();
    let mut missing: BTreeSet<&str> = awaited.tickets.iter().map(String::as_str).collect();
    let (mut leads, mut any) = (awaited.leader.is_none(), !awaited.any);
    let mut is_over = false;
    loop {
        let log = work_log(place);
        let new = &log[before.min(log.len())..];
        any |= !new.is_empty();
        missing.retain(|ticket| !new.iter().any(|(id, _)| id == ticket));
        if missing.is_empty() && any && leads {
            return Ok((!is_over || awaited.leader.is_some()).then(|| began.elapsed()));
        }
        match Look::at(place) {
            Ok(look) => {
                look.resume_stopped(place);
                let leader = look.leader();
                leads |= leader.is_some() && leader != awaited.leader;
                if began.elapsed() > LEASE_ENDS && leader.is_some() && leader == awaited.leader {
                    return Err(format!("{leader:?} is said to lead {LEASE_ENDS:?} after its end"));
                }
                let states = look.states();
                // It had done its work when the fault came.
                let has_ended = |ticket: &str| {
                    states.get(ticket).is_some_and(|state| !matches!(*state, "running" | "lost" | "failed" | "queued"))
                };
                is_over |= missing.iter().any(|ticket| has_ended(ticket));
                missing.retain(|ticket| !has_ended(ticket));
                if look.at_work().is_empty() && states.values().all(|state| has_no_work(state)) {
                    (any, is_over) = (true, true);
                }
            }
            Err(said) if began.elapsed() > within => return Err(said),
            Err(_) => {}
        }
        if began.elapsed() > within {
            return Err(format!("after {within:?} nothing goes on: {missing:?}, any work: {any}, a leader: {leads}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a ticket in this state needs no agent any more.
fn has_no_work(state: &str) -> bool {
    matches!(state, "landed" | "dead" | "done" | "review" | "approved" | "landing")
}
