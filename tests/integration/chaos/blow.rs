//! What befalls a landing.

use std::collections::BTreeSet;
use std::fs;
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

use super::scenery::{Dice, Scenery};

/// A kind of blow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blow {
    /// `swarm merge` is killed; what it started runs on.
    Alone,
    /// It is killed with everything below it.
    Tree,
    /// Only what runs as its gate is killed.
    Gate,
    /// Everything is stopped and its files are copied; then it is gone, and the copy is what is left.
    Power,
    /// Ctrl-C.
    Interrupt,
}

impl Blow {
    /// One of them.
    pub(super) fn pick(dice: &mut Dice) -> Self {
        match dice.below(10) {
            0..3 => Self::Alone,
            3..6 => Self::Tree,
            6 => Self::Gate,
            7..9 => Self::Power,
            _ => Self::Interrupt,
        }
    }

    /// For the summary.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Alone => "killed alone",
            Self::Tree => "killed with its children",
            Self::Gate => "gate killed",
            Self::Power => "power cut",
            Self::Interrupt => "interrupted",
        }
    }
}

/// Lets a blow fall; false when it came too late. The landing has ended afterwards.
pub(super) fn strike(scenery: &Scenery, mut merge: Child, blow: Blow) -> bool {
    if merge.try_wait().unwrap().is_some() {
        return false;
    }
    let root = merge.id();
    let hit = match blow {
        Blow::Alone => signal(root, Signal::KILL),
        Blow::Tree => {
            let all = freeze(|| descendants(root));
            all.into_iter().filter(|pid| signal(*pid, Signal::KILL)).count() > 0
        }
        Blow::Gate => {
            let gates = scenery.swarm.processes().into_iter().filter(|(_, shown)| shown.contains("gate.sh"));
            gates.filter(|(pid, _)| signal(*pid, Signal::KILL)).count() > 0
        }
        Blow::Power => {
            let all = freeze(|| scenery.swarm.processes().into_iter().map(|(pid, _)| pid).collect());
            for name in ["project", "project-worktrees"] {
                scenery.copy(name, "after", name);
            }
            let killed = all.into_iter().filter(|pid| signal(*pid, Signal::KILL)).count();
            merge.wait().unwrap();
            scenery.swarm.wait_until("everything to be gone", || scenery.swarm.processes().is_empty());
            for name in ["project", "project-worktrees"] {
                let folder = scenery.swarm.root();
                fs::remove_dir_all(folder.join(name)).unwrap();
                fs::rename(folder.join("after").join(name), folder.join(name)).unwrap();
            }
            killed > 0
        }
        Blow::Interrupt => signal(root, Signal::INT),
    };
    scenery.swarm.wait_until("the landing to end", || merge.try_wait().unwrap().is_some());
    hit
}

/// Stops all processes that `look` finds, until none of them goes on: a supervisor that is not stopped yet continues its
/// stopped agent, and there are new ones. One that was stopped is among them also where it is found no more, as is a child
/// whose parent came to its end meanwhile: nobody else would ever let it go on.
pub(super) fn freeze(look: impl Fn() -> BTreeSet<u32>) -> BTreeSet<u32> {
    let (mut rounds, mut stopped) = (0, BTreeSet::new());
    loop {
        let all = look();
        let state = |pid: &u32| state(*pid).unwrap_or('X');
        let moving: Vec<_> = all.iter().filter(|pid| !['T', 'Z', 'X'].contains(&state(pid))).copied().collect();
        // Who waits in the kernel for a child that is stopped before it runs its program stops with it.
        if moving.iter().all(|pid| rounds > 50 && state(pid) == 'D') {
            stopped.retain(|pid| state(pid) == 'T');
            stopped.extend(all);
            return stopped;
        }
        stopped.extend(moving.iter().copied());
        send(moving, Signal::STOP);
        rounds += 1;
    }
}

/// The state letter of a process; `None` where it is gone.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// A process and all below it.
fn descendants(root: u32) -> BTreeSet<u32> {
    let parent = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Behind the name, which may hold anything: state, then parent.
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pairs: Vec<_> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = BTreeSet::from([root]);
    loop {
        let is_new = |(pid, parent): &&(u32, u32)| found.contains(parent) && !found.contains(pid);
        let below: Vec<_> = pairs.iter().filter(is_new).map(|(pid, _)| *pid).collect();
        if below.is_empty() {
            return found;
        }
        found.extend(below);
    }
}

/// Sends a signal to several processes; those that are gone are fine.
pub(super) fn send(pids: impl IntoIterator<Item = u32>, what: Signal) {
    for pid in pids {
        signal(pid, what);
    }
}

/// Sends a signal; false when the process is gone.
pub(super) fn signal(pid: u32, signal: Signal) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, signal).is_ok()
}
