//! What befalls a run.

use std::time::Duration;

use rustix::process::Signal;

use super::super::blow::{send, signal};
use super::super::scenery::Dice;
use super::coordinators::Coordinators;
use super::place::{Bystander, Place};
use super::watch::{AtWork, Awaited, Look};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Who leads is killed, and sometimes who stands by as well.
    Coordinator,
    /// A supervisor is killed; its agent runs on alone.
    Supervisor,
    /// An agent is killed.
    Agent,
    /// The tmux server is killed.
    Tmux,
    /// Everything is killed at once.
    Everything,
    /// Everything stands still for a while, and the clock goes on meanwhile.
    Suspension,
    /// The clock jumps.
    Clock,
    /// A coordinator or a worker is killed, and its pids are others' at once.
    Pids,
    /// There is no room on the disk for a while.
    Disk,
    /// The power is cut, and the machine starts again from what is on its disk.
    Power,
}

/// Of twenty faults, how many are of each kind.
const SHARES: [(Fault, u64); 10] = [
    (Fault::Coordinator, 3),
    (Fault::Supervisor, 4),
    (Fault::Agent, 2),
    (Fault::Tmux, 2),
    (Fault::Everything, 2),
    (Fault::Suspension, 2),
    (Fault::Clock, 1),
    (Fault::Pids, 2),
    (Fault::Disk, 1),
    (Fault::Power, 1),
];

impl Fault {
    /// One of them; `has_machine` tells whether all can fall.
    pub(super) fn pick(dice: &mut Dice, has_machine: bool) -> Self {
        let possible = || SHARES.into_iter().filter(|(fault, _)| has_machine || !fault.needs_machine());
        let mut number = dice.below(possible().map(|(_, share)| share).sum());
        for (fault, share) in possible() {
            if number < share {
                return fault;
            }
            number -= share;
        }
        Self::Coordinator
    }

    /// Whether it befalls only a machine that is the test's own.
    fn needs_machine(self) -> bool {
        matches!(self, Self::Clock | Self::Pids | Self::Disk | Self::Power)
    }

    /// The names of those that need such a machine.
    pub(super) fn of_machine() -> Vec<&'static str> {
        SHARES.iter().filter(|(fault, _)| fault.needs_machine()).map(|(fault, _)| fault.name()).collect()
    }

    /// For the summary.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator killed",
            Self::Supervisor => "supervisor killed",
            Self::Agent => "agent killed",
            Self::Tmux => "tmux server killed",
            Self::Everything => "everything killed",
            Self::Suspension => "suspended",
            Self::Clock => "clock jumped",
            Self::Pids => "killed, pids reused",
            Self::Disk => "disk full",
            Self::Power => "power cut",
        }
    }
}

/// What fell: what has to go on, and who took over pids.
#[derive(Debug)]
pub(super) struct Struck {
    pub(super) awaited: Awaited,
    pub(super) bystanders: Vec<Bystander>,
}

/// Lets a fault fall; `None` where there was nothing that it could hit.
pub(super) fn strike(place: &mut Place, team: &mut Coordinators, fault: Fault, dice: &mut Dice) -> Option<Struck> {
    let look = Look::at(place).ok()?;
    let (at_work, leader) = (look.at_work(), look.leader());
    let nothing = Awaited { tickets: Vec::new(), any: !at_work.is_empty(), leader: None };
    let mut struck = Struck { awaited: nothing, bystanders: Vec::new() };
    let everybody = || at_work.iter().map(|worker| worker.ticket.clone()).collect();
    match fault {
        Fault::Coordinator => {
            struck.awaited.leader = Some(kill_coordinators(place, team, leader?, dice.below(3) == 0)?);
            struck.awaited.any = false;
        }
        Fault::Supervisor => {
            let victim = one_of(&at_work, dice)?;
            if !signal(victim.supervisor, Signal::KILL) {
                return None;
            }
            struck.awaited = of(&[victim]);
        }
        Fault::Agent => {
            let victim = one_of(&at_work, dice)?;
            if !signal(victim.agent, Signal::KILL) {
                return None;
            }
            struck.awaited = of(&[victim]);
        }
        Fault::Tmux => {
            let is_server = |shown: &str| shown.split(' ').next().is_some_and(|program| program.ends_with("tmux"));
            let servers = place.swarm.processes().into_iter().filter(|(_, shown)| is_server(shown));
            if servers.filter(|(pid, _)| signal(*pid, Signal::KILL)).count() == 0 {
                return None;
            }
        }
        Fault::Everything => {
            place.kill_everything();
            team.await_end();
            place.await_silence();
            struck.awaited.tickets = everybody();
        }
        Fault::Suspension => {
            let stopped = place.freeze();
            // Sometimes for longer than a lease lasts.
            let longest = if dice.below(4) == 0 { 6000 } else { 800 };
            std::thread::sleep(Duration::from_millis(100 + dice.below(longest)));
            place.set_clock(dice.below(40_000).cast_signed());
            send(stopped, Signal::CONT);
        }
        Fault::Clock => place.set_clock(dice.below(400_000).cast_signed() - 200_000),
        Fault::Pids => {
            let victims: Vec<u32> = match (one_of(&at_work, dice), leader.filter(|_| dice.below(3) == 0)) {
                (_, Some(leader)) => {
                    struck.awaited.leader = Some(kill_coordinators(place, team, leader, false)?);
                    vec![leader]
                }
                (Some(victim), None) => {
                    struck.awaited = of(std::slice::from_ref(&victim));
                    [victim.supervisor, victim.agent].into_iter().filter(|pid| signal(*pid, Signal::KILL)).collect()
                }
                (None, None) => return None,
            };
            team.take_leave_of(&victims);
            struck.bystanders = victims.into_iter().map(|pid| place.reuse(pid)).collect();
        }
        Fault::Disk => {
            place.fill_disk();
            std::thread::sleep(Duration::from_millis(200 + dice.below(2500)));
            place.free_disk();
        }
        Fault::Power => {
            place.cut_power(|| team.await_end());
            struck.awaited.tickets = everybody();
        }
    }
    Some(struck)
}

/// Any one.
fn one_of(workers: &[AtWork], dice: &mut Dice) -> Option<AtWork> {
    workers.get(usize::try_from(dice.below(workers.len() as u64)).unwrap()).cloned()
}

/// Work of these has to go on.
fn of(workers: &[AtWork]) -> Awaited {
    let tickets = workers.iter().map(|worker| worker.ticket.clone()).collect();
    Awaited { tickets, any: false, leader: None }
}

/// Kills who leads, or all; who led.
fn kill_coordinators(place: &Place, team: &mut Coordinators, leader: u32, all: bool) -> Option<u32> {
    let pids = team.pids(place);
    if !pids.contains(&leader) {
        return None;
    }
    let killed: Vec<_> = pids.into_iter().filter(|pid| all || *pid == leader).collect();
    send(killed.iter().copied(), Signal::KILL);
    team.take_leave_of(&killed);
    let lives = || place.swarm.processes().iter().any(|(pid, _)| killed.contains(pid));
    place.swarm.wait_until("who was killed to be gone", || !lives());
    Some(leader)
}
