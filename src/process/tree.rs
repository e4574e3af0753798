//! Ends a process with everything it started, by parent links, by process group, and by environment marker.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, waitpid};

use super::identity::{Stat, boot_id, is_gone, read_stat};
use super::usage::own_children;
use super::{APART, ProcessError, is_waited, spawn_lock};
use crate::model::worker::ProcessIdentity;

/// How often a process that was asked to end is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long a process may take to become another program; it hangs when a file system does.
const LONGEST_EXEC: Duration = Duration::from_secs(1);

/// The pids of all processes, in no order.
fn pids() -> Result<Vec<u32>, ProcessError> {
    let path = Path::new("/proc");
    let entries = fs::read_dir(path).map_err(|source| ProcessError::Table { path: path.into(), source })?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// All processes by pid.
fn table() -> Result<BTreeMap<u32, Stat>, ProcessError> {
    let mut table = BTreeMap::new();
    for pid in pids()? {
        if let Some(stat) = read_stat(pid)? {
            table.insert(pid, stat);
        }
    }
    Ok(table)
}

/// The living processes that `is_root` picks from the table, with all their descendants; children of ours that a
/// thread waits for count, and are followed, only where picked. What stands apart ([`APART`]) is none of them, and
/// neither is what is below it: an agent that runs `swarm spawn` starts a supervisor, or the tmux server with many.
fn below(is_root: impl Fn(&Stat) -> bool) -> Result<Vec<Stat>, ProcessError> {
    // Between its start and its registration a child of ours would look like one that was adopted.
    let starting = spawn_lock();
    let table = table()?;
    drop(starting);
    let mut queue: Vec<&Stat> = table.values().filter(|stat| is_root(stat)).collect();
    let mut seen: BTreeSet<u32> = queue.iter().map(|stat| stat.pid).collect();
    let mut found = Vec::new();
    while let Some(stat) = queue.pop() {
        if stands_apart(stat.pid)? {
            continue;
        }
        found.push(stat.clone());
        queue.extend(table.values().filter(|child| child.parent == stat.pid && seen.insert(child.pid)));
    }
    found.retain(|stat| stat.state != 'Z');
    Ok(found)
}

/// Whether a process was started to outlive the one that started it.
pub(super) fn stands_apart(pid: u32) -> Result<bool, ProcessError> {
    let start = format!("{APART}=").into_bytes();
    Ok(environ(pid)?.split(|byte| *byte == 0).any(|variable| variable.starts_with(&start)))
}

/// The environment that a process was started with; empty for a zombie and for one that is gone or another user's.
///
/// In the middle of becoming another program a process shows none for a moment, and whoever believed that would let it go.
fn environ(pid: u32) -> Result<Vec<u8>, ProcessError> {
    let path = format!("/proc/{pid}/environ");
    let (deadline, mut before) = (Instant::now() + LONGEST_EXEC, None);
    loop {
        match read_at_once(&path) {
            Ok(environ) if environ.is_empty() => {}
            Ok(environ) => return Ok(environ),
            Err(error) if is_gone(&error) || error.kind() == io::ErrorKind::PermissionDenied => return Ok(Vec::new()),
            Err(source) => return Err(ProcessError::Table { path: path.into(), source }),
        }
        let place = environment_place(pid);
        // Where it is being written down, beginning and end may be the same for a moment, but not at two looks.
        let is_empty = |[start, end]: &[String; 2]| start == end && start != "0" && place == before;
        if place.as_ref().is_none_or(is_empty) || Instant::now() >= deadline {
            return Ok(Vec::new());
        }
        before = place;
        std::thread::yield_now();
    }
}

/// Where the environment of a process begins and ends (fields 50 and 51 of proc_pid_stat(5)), 0 as long as that is not
/// known; `None` where there is no program: it has ended, or is of the kernel.
fn environment_place(pid: u32) -> Option<[String; 2]> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(50 - 3).map(str::to_owned);
    Some([fields.next()?, fields.next()?])
}

/// Reads a file of the process table in one call: what a process has is gone between two calls when it becomes another
/// program.
fn read_at_once(path: &str) -> io::Result<Vec<u8>> {
    let mut room = 1 << 18;
    loop {
        let mut bytes = vec![0; room];
        let length = fs::File::open(path)?.read(&mut bytes)?;
        if length < room {
            bytes.truncate(length);
            return Ok(bytes);
        }
        room *= 2;
    }
}

/// The descendants of `root`, itself excluded.
fn descendants(root: u32) -> Result<Vec<Stat>, ProcessError> {
    below(|stat| stat.parent == root)
}

/// The agent's tree: the agent itself while it lives, all below it, and what this process adopted as a child subreaper
/// with all below that. Other children that a thread waits for (our own git calls) are not part of it.
pub(super) fn agent_tree(agent: u32) -> Result<Vec<Stat>, ProcessError> {
    let own = std::process::id();
    below(|stat| stat.parent == own && (stat.pid == agent || !is_waited(stat.pid)))
}

/// Whether that very process still runs (a zombie does not).
fn still_runs(stat: &Stat) -> bool {
    let now = read_stat(stat.pid).ok().flatten();
    now.is_some_and(|now| now.start_ticks == stat.start_ticks && now.state != 'Z')
}

/// Sends `signal` to that very process.
fn signal(stat: &Stat, signal: Signal) {
    if let Some(pid) = raw_pid(stat.pid).filter(|_| still_runs(stat)) {
        // It may end between look and call; that is what was wanted.
        kill_process(pid, signal).ok();
    }
}

/// The pid as rustix has it.
fn raw_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// Ends the tree of the agent with pid `agent`, be it a living child or one that ended: the agent, the tool shells
/// that left its group, and what this process adopted from them. TERM first, KILL after `grace`; stopped processes are
/// continued so that they can end. Blocks until all are gone or killed.
pub(crate) fn stop_agent_tree(agent: u32, grace: Duration) -> Result<(), ProcessError> {
    for stat in &agent_tree(agent)? {
        signal(stat, Signal::TERM);
        signal(stat, Signal::CONT);
    }
    finish(|| agent_tree(agent), grace)
}

/// Ends that very process: TERM, then KILL after `grace`. Blocks until it is gone or killed.
pub(crate) fn stop_process(process: &ProcessIdentity, grace: Duration) -> Result<(), ProcessError> {
    let look = || {
        let stat = read_stat(process.pid)?.filter(|stat| stat.start_ticks == process.start_ticks && stat.state != 'Z');
        Ok(stat.filter(|_| process.boot_id == boot_id()).into_iter().collect::<Vec<_>>())
    };
    for stat in &look()? {
        signal(stat, Signal::TERM);
        signal(stat, Signal::CONT);
    }
    finish(look, grace)
}

/// Waits until `look` finds nothing, then kills what is left after `grace`, again until nothing is left.
fn finish(look: impl Fn() -> Result<Vec<Stat>, ProcessError>, grace: Duration) -> Result<(), ProcessError> {
    let deadline = Instant::now() + grace;
    // KILL cannot be refused, but a process in an uninterruptible call lingers: give up on it then.
    let last = deadline + Duration::from_secs(5);
    loop {
        reap_orphans();
        let left = look()?;
        if left.is_empty() || Instant::now() >= last {
            return Ok(());
        }
        if Instant::now() >= deadline {
            left.iter().for_each(|stat| signal(stat, Signal::KILL));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Kills a group at once, and the descendants of its leader.
pub(super) fn kill_group_and_descendants(leader: u32) {
    let below = descendants(leader).unwrap_or_default();
    if let Some(pid) = raw_pid(leader) {
        kill_process_group(pid, Signal::KILL).ok();
    }
    below.iter().for_each(|stat| signal(stat, Signal::KILL));
}

/// The living processes whose environment holds `NAME=value`: what a worker's agent started carries its marker
/// wherever it went. Processes of other users are not seen.
pub(crate) fn find_marked(name: &str, value: &str) -> Result<Vec<ProcessIdentity>, ProcessError> {
    let identity =
        |stat: Stat| ProcessIdentity { pid: stat.pid, start_ticks: stat.start_ticks, boot_id: boot_id().to_owned() };
    Ok(marked(name, value)?.into_iter().map(identity).collect())
}

/// The pids of the living processes whose environment has `NAME`, by its value: one look at the process table for many
/// workers.
pub(crate) fn find_all_marked(name: &str) -> Result<BTreeMap<Vec<u8>, Vec<u32>>, ProcessError> {
    let start = format!("{name}=").into_bytes();
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
    each_environment(|pid, environ| {
        let value = environ.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(start.as_slice()));
        if let Some(value) = value {
            found.entry(value.to_owned()).or_default().push(pid);
        }
        Ok(())
    })?;
    Ok(found)
}

/// The stat lines behind [`find_marked`].
fn marked(name: &str, value: &str) -> Result<Vec<Stat>, ProcessError> {
    let marker = format!("{name}={value}").into_bytes();
    let mut found = Vec::new();
    each_environment(|pid, environ| {
        if environ.split(|byte| *byte == 0).any(|variable| variable == marker) {
            found.extend(read_stat(pid)?.filter(|stat| stat.state != 'Z'));
        }
        Ok(())
    })?;
    Ok(found)
}

/// The same; where there is none, a second look finds what was started, and left by its parent, during the first.
fn marked_at_last(name: &str, value: &str) -> Result<Vec<Stat>, ProcessError> {
    let found = marked(name, value)?;
    if found.is_empty() { marked(name, value) } else { Ok(found) }
}

/// Shows the environment of every process but this one, as far as it may be read; that of a zombie is empty.
fn each_environment(mut look: impl FnMut(u32, &[u8]) -> Result<(), ProcessError>) -> Result<(), ProcessError> {
    let own = std::process::id();
    for pid in pids()?.into_iter().filter(|pid| *pid != own) {
        look(pid, &environ(pid)?)?;
    }
    Ok(())
}

/// Whether a living process whose name begins with `program` works in or below one of `places`, or names one in its
/// arguments or in a variable of its own (`PROGRAM_...`), or any process has `file` open. Processes of other users are not
/// seen.
pub(crate) fn is_used_by(program: &str, places: &[&Path], file: &Path) -> Result<bool, ProcessError> {
    let prefix = format!("{}_", program.to_uppercase());
    for pid in pids()? {
        let entry = Path::new("/proc").join(pid.to_string());
        if fs::read(entry.join("comm")).is_ok_and(|name| name.starts_with(program.as_bytes())) {
            let cwd = fs::read_link(entry.join("cwd")).unwrap_or_default();
            let arguments = fs::read(entry.join("cmdline")).unwrap_or_default();
            let environ = environ(pid)?;
            let own = environ.split(|byte| *byte == 0).filter(|variable| variable.starts_with(prefix.as_bytes()));
            let said: Vec<&[u8]> = own.chain([arguments.as_slice()]).collect();
            let names = |place: &Path| {
                let place = place.as_os_str().as_encoded_bytes();
                said.iter().any(|text| text.windows(place.len()).any(|part| part == place))
            };
            if places.iter().any(|place| cwd.starts_with(place) || names(place)) {
                return Ok(true);
            }
        }
        let open = fs::read_dir(entry.join("fd")).into_iter().flatten().flatten();
        if open.filter_map(|open| fs::read_link(open.path()).ok()).any(|path| path == file) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Ends every process that [`find_marked`] finds: TERM, then KILL after `grace`. Returns how many there were.
pub(crate) fn stop_marked(name: &str, value: &str, grace: Duration) -> Result<usize, ProcessError> {
    let first = marked_at_last(name, value)?;
    if first.is_empty() {
        return Ok(0);
    }
    for stat in &first {
        signal(stat, Signal::TERM);
        signal(stat, Signal::CONT);
    }
    finish(|| marked_at_last(name, value), grace)?;
    Ok(first.len())
}

/// Collects the zombies this process adopted as a child subreaper; children that a thread waits for are left.
///
/// Every child that ends calls for it: where the kernel lists the children of a process, nobody else is looked at.
pub(crate) fn reap_orphans() {
    let _starting = spawn_lock();
    let own = std::process::id();
    let stats: Vec<Stat> = match own_children() {
        Ok(Some(children)) => children.into_iter().filter_map(|pid| read_stat(pid).ok()?).collect(),
        _ => table().unwrap_or_default().into_values().collect(),
    };
    let zombies = stats.into_iter().filter(|stat| stat.parent == own && stat.state == 'Z');
    for stat in zombies.filter(|stat| !is_waited(stat.pid)) {
        if let Some(pid) = raw_pid(stat.pid) {
            waitpid(Some(pid), WaitOptions::NOHANG).ok();
        }
    }
}

/// Sends `what` to every process of the agent's tree.
pub(crate) fn signal_agent_tree(agent: u32, what: Signal) -> Result<(), ProcessError> {
    agent_tree(agent)?.iter().for_each(|stat| signal(stat, what));
    Ok(())
}

/// Asks a group's leader, or the whole group, to end, and kills the leader's tree when it still runs after `grace`.
/// The end itself is seen by whoever waits for the leader. Blocks for at most `grace`.
pub(crate) fn ask_to_end(leader: u32, first: Signal, to_group: bool, grace: Duration) {
    let (Some(pid), Ok(Some(stat))) = (raw_pid(leader), read_stat(leader)) else { return };
    // It may be stopped, and then never hears of the request.
    signal_agent_tree(leader, Signal::CONT).ok();
    if to_group {
        kill_process_group(pid, first).ok();
    } else {
        signal(&stat, first);
    }
    let deadline = Instant::now() + grace;
    while still_runs(&stat) {
        if Instant::now() >= deadline {
            kill_group_and_descendants(leader);
            return;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
