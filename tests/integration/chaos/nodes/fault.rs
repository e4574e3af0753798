//! What befalls the nodes and what is between them.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::super::blow::{freeze, signal};
use super::super::scenery::Dice;
use super::field::{Field, Mended, Trouble};
use super::line::Way;
use super::watch::Awaited;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A node's coordinator is killed, and is back after a while.
    Coordinator,
    /// A supervisor is killed; its agent runs on alone.
    Supervisor,
    /// An agent is killed.
    Agent,
    /// Everything of a node is killed; its coordinator is back after a while.
    Node,
    /// The same, or only the coordinator, and it does not come back in this play.
    ForGood,
    /// A server is killed.
    Server,
    /// Nothing gets from or to a node.
    Apart,
    /// Nothing gets from or to any node.
    AllApart,
    /// Everything of a node stands still.
    Suspension,
    /// A node is to take nothing new.
    Drain,
}

/// Of thirty faults, how many are of each kind.
const SHARES: [(Fault, u64); 10] = [
    (Fault::Coordinator, 4),
    (Fault::Supervisor, 4),
    (Fault::Agent, 2),
    (Fault::Node, 5),
    (Fault::ForGood, 1),
    (Fault::Server, 4),
    (Fault::Apart, 4),
    (Fault::AllApart, 1),
    (Fault::Suspension, 4),
    (Fault::Drain, 1),
];

/// States in which a node has the work on a ticket in hand.
const IN_HAND: [&str; 4] = ["running", "review", "approved", "landing"];

impl Fault {
    /// One of them.
    pub(super) fn pick(dice: &mut Dice) -> Self {
        let mut number = dice.below(SHARES.iter().map(|(_, share)| share).sum());
        for (fault, share) in SHARES {
            if number < share {
                return fault;
            }
            number -= share;
        }
        Self::Coordinator
    }

    /// For the summary.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator killed",
            Self::Supervisor => "supervisor killed",
            Self::Agent => "agent killed",
            Self::Node => "node killed",
            Self::ForGood => "node gone for good",
            Self::Server => "server killed",
            Self::Apart => "node cut off",
            Self::AllApart => "all nodes cut off",
            Self::Suspension => "node suspended",
            Self::Drain => "node drained",
        }
    }
}

/// What fell, for the story, and what has to go on.
#[derive(Debug)]
pub(super) struct Struck {
    pub(super) told: String,
    pub(super) awaited: Awaited,
}

/// Lets a fault fall; `None` where there was nothing that it could hit.
pub(super) fn strike(field: &mut Field, fault: Fault, dice: &mut Dice) -> Option<Struck> {
    let well = field.all_well();
    // Somebody has to be there to go on.
    let needs = if matches!(fault, Fault::Supervisor | Fault::Agent | Fault::Server) { 1 } else { 2 };
    if well.len() < needs {
        return None;
    }
    let at = well[usize::try_from(dice.below(well.len() as u64)).unwrap()];
    let has_all_servers = field.away.is_empty();
    match fault {
        Fault::Server if field.has_servers() => {
            let server = usize::try_from(dice.below(field.servers() as u64)).unwrap();
            let pause = Duration::from_millis(dice.below(10_000));
            field.kill_server(server);
            field.mend_after(Mended::Server(server), pause);
            Some(Struck {
                told: format!("server {server} for {pause:.1?}"),
                awaited: back(Mended::Server(server), well),
            })
        }
        Fault::AllApart if well.len() == field.nodes.len() && has_all_servers => {
            let pause = Duration::from_millis(dice.below(15_000));
            let way = way(dice);
            for at in &well {
                part(field, *at, way, pause);
            }
            let awaited = back(Mended::Node(*well.last()?), well);
            Some(Struck { told: format!("all {way:?} for {pause:.1?}"), awaited })
        }
        Fault::Apart => {
            let (way, pause) = (way(dice), Duration::from_millis(dice.below(20_000)));
            part(field, at, way, pause);
            let told = format!("{} {way:?} for {pause:.1?}", field.nodes[at].name);
            Some(Struck { told, awaited: back(Mended::Node(at), vec![at]) })
        }
        Fault::ForGood if well.len() < field.nodes.len() || !has_all_servers => None,
        Fault::Server | Fault::AllApart => None,
        _ => strike_node(field, at, fault, dice),
    }
}

/// Lets one fall that hits something within a node.
fn strike_node(field: &mut Field, at: usize, fault: Fault, dice: &mut Dice) -> Option<Struck> {
    let node = &field.nodes[at];
    let status = node.ask(&["status", "--all", "--json"])?;
    let workers = || status["workers"].as_array().unwrap().iter();
    let name = node.name;
    let in_hand = tickets(workers().filter(|worker| IN_HAND.iter().any(|state| worker["ticket_state"] == *state)));
    let running: Vec<_> = workers().filter(|worker| worker["ticket_state"] == "running").collect();
    let victim = running.get(usize::try_from(dice.below(running.len() as u64)).unwrap());
    let coordinator = pid(&status["coordinator"]["pid"]);
    let began = Instant::now();
    match fault {
        Fault::Coordinator => {
            signal(coordinator?, Signal::KILL).then_some(())?;
            let pause = Duration::from_millis(dice.below(8000));
            field.afflict(at, Trouble::Down);
            field.mend_after(Mended::Node(at), pause);
            Some(Struck { told: format!("{name} for {pause:.1?}"), awaited: back(Mended::Node(at), vec![at]) })
        }
        Fault::Supervisor | Fault::Agent => {
            let key = if fault == Fault::Agent { "pid" } else { "supervisor_pid" };
            signal(pid(&victim?[key])?, Signal::KILL).then_some(())?;
            let ticket = tickets(victim.copied().into_iter());
            field.blind_for_now(at);
            Some(Struck { told: format!("{name} {ticket:?}"), awaited: Awaited::work(began, ticket) })
        }
        Fault::Node => {
            node.kill();
            let pause = Duration::from_millis(dice.below(30_000));
            field.afflict(at, Trouble::Down);
            field.mend_after(Mended::Node(at), pause);
            let told = format!("{name} for {pause:.1?} with {in_hand:?}");
            Some(Struck { told, awaited: Awaited::work(began, in_hand) })
        }
        Fault::ForGood => {
            node.kill();
            field.afflict(at, Trouble::Down);
            Some(Struck { told: format!("{name} with {in_hand:?}"), awaited: Awaited::work(began, in_hand) })
        }
        Fault::Suspension => {
            let stopped = freeze(|| node.processes().into_iter().collect()).into_iter().collect();
            // Mostly for longer than leases last.
            let pause = Duration::from_millis(dice.below(25_000));
            field.afflict(at, Trouble::Suspended(stopped));
            field.mend_after(Mended::Node(at), pause);
            let told = format!("{name} for {pause:.1?} with {in_hand:?}");
            Some(Struck { told, awaited: Awaited::work(began, in_hand) })
        }
        Fault::Drain => {
            node.ask(&["node", "drain", name, "--json"])?;
            field.afflict(at, Trouble::Drained);
            field.mend_after(Mended::Node(at), Duration::from_millis(dice.below(10_000)));
            Some(Struck { told: name.to_owned(), awaited: Awaited::work(began, Vec::new()) })
        }
        Fault::Server | Fault::Apart | Fault::AllApart => None,
    }
}

/// How a line is disturbed.
fn way(dice: &mut Dice) -> Way {
    [Way::Held, Way::HeldOut, Way::HeldBack, Way::Cut][usize::try_from(dice.below(4)).unwrap()]
}

/// Disturbs the lines of a node for a while.
fn part(field: &mut Field, at: usize, way: Way, pause: Duration) {
    field.nodes[at].set_lines(way, false);
    field.afflict(at, Trouble::Apart);
    field.mend_after(Mended::Node(at), pause);
}

/// That nodes are heard again when something is back.
fn back(what: Mended, nodes: Vec<usize>) -> Awaited {
    Awaited { began: Instant::now(), tickets: Vec::new(), heard: Some((what, nodes)) }
}

/// The tickets of workers.
fn tickets<'a>(workers: impl Iterator<Item = &'a Value>) -> Vec<String> {
    workers.map(|worker| worker["ticket"].as_str().unwrap().to_owned()).collect()
}

/// A process of a view.
fn pid(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|pid| u32::try_from(pid).ok())
}
