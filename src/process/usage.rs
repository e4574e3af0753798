//! What a tree of processes uses: read from the children files of the tree alone, because a look at the whole process
//! table by hundreds of supervisors would keep a core busy.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use super::identity::is_gone;
use super::tree::{agent_tree, stands_apart};
use super::{ProcessError, is_waited, spawn_lock};

/// What an agent's processes use at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TreeUse {
    /// Processor time of the agent's own process.
    pub(crate) own_cpu: Duration,
    /// Processor time of all living processes, and of those they started and collected.
    pub(crate) cpu: Duration,
    /// Resident memory in bytes, shared pages once for each process.
    pub(crate) resident_bytes: u64,
    /// The living processes.
    pub(crate) pids: Vec<u32>,
}

/// Looks at the agent's tree: the agent, all below it, and what this process adopted from it as a child subreaper, but
/// nothing that stands apart, such as another worker that the agent started. Processes that begin or end meanwhile may
/// be missed.
pub(crate) fn agent_tree_use(agent: u32) -> Result<TreeUse, ProcessError> {
    let mut sum = TreeUse::default();
    // Between its start and its registration a child of ours would look like one that was adopted.
    let starting = spawn_lock();
    let listed = own_children()?;
    drop(starting);
    let Some(mut queue) = listed else {
        for stat in agent_tree(agent)? {
            sum.add(agent, stat.pid)?;
        }
        return Ok(sum);
    };
    queue.retain(|pid| *pid == agent || !is_waited(*pid));
    let mut seen: BTreeSet<u32> = queue.iter().copied().collect();
    while let Some(pid) = queue.pop() {
        if stands_apart(pid)? {
            continue;
        }
        sum.add(agent, pid)?;
        queue.extend(children(pid)?.into_iter().filter(|child| seen.insert(*child)));
    }
    Ok(sum)
}

/// The load of this machine over the last minute, by core; `None` where the system does not tell.
pub(crate) fn load_by_core() -> Option<f64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    let load: f64 = text.split_whitespace().next()?.parse().ok()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Some((load / f64::from(u32::try_from(cores).unwrap_or(1)) * 100.0).round() / 100.0)
}

impl TreeUse {
    /// Adds one process; a zombie holds nothing but the time it used.
    fn add(&mut self, agent: u32, pid: u32) -> Result<(), ProcessError> {
        let Some(text) = read(Path::new(&format!("/proc/{pid}/stat")))? else { return Ok(()) };
        let Some(one) = parse(&text) else { return Ok(()) };
        let (own, all) = (ticks(one.own_ticks), ticks(one.own_ticks + one.collected_ticks));
        if pid == agent {
            self.own_cpu = own;
        }
        self.cpu += all;
        if one.state != 'Z' {
            self.resident_bytes += one.resident_pages * u64::try_from(rustix::param::page_size()).unwrap_or(4096);
            self.pids.push(pid);
        }
        Ok(())
    }
}

/// The memory that these processes hold together, shared pages divided among those that share them; costs a walk through
/// their page tables. A process that does not tell counts what is resident.
pub(crate) fn proportional_bytes(pids: &[u32]) -> Result<u64, ProcessError> {
    let mut sum = 0;
    for pid in pids {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kilobytes = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
        sum += match kilobytes {
            Some(kilobytes) => kilobytes * 1024,
            None => {
                let mut one = TreeUse::default();
                one.add(0, *pid)?;
                one.resident_bytes
            }
        };
    }
    Ok(sum)
}

/// The children of this process, zombies included; `None` where the kernel does not list them.
pub(super) fn own_children() -> Result<Option<Vec<u32>>, ProcessError> {
    static LISTED: OnceLock<bool> = OnceLock::new();
    let own = std::process::id();
    if !LISTED.get_or_init(|| Path::new(&format!("/proc/self/task/{own}/children")).exists()) {
        return Ok(None);
    }
    children(own).map(Some)
}

/// The children of a process, by all of its threads.
fn children(pid: u32) -> Result<Vec<u32>, ProcessError> {
    let folder = format!("/proc/{pid}/task");
    let threads = match fs::read_dir(&folder) {
        Ok(threads) => threads,
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        Err(source) => return Err(ProcessError::Table { path: folder.into(), source }),
    };
    let mut found = Vec::new();
    for thread in threads.flatten() {
        if let Some(text) = read(&thread.path().join("children"))? {
            found.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    Ok(found)
}

/// Reads a file of a process; `None` when the process is gone.
fn read(path: &Path) -> Result<Option<String>, ProcessError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if is_gone(&error) => Ok(None),
        Err(source) => Err(ProcessError::Table { path: path.into(), source }),
    }
}

/// What a stat line says of use (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
struct Use {
    /// Field 3.
    state: char,
    /// Fields 14 and 15: user and kernel time of its own.
    own_ticks: u64,
    /// Fields 16 and 17: the same of children it waited for.
    collected_ticks: u64,
    /// Field 24.
    resident_pages: u64,
}

/// Parses a stat line; the name in brackets may itself hold brackets and spaces.
fn parse(line: &str) -> Option<Use> {
    let fields: Vec<&str> = line[line.rfind(')')? + 1..].split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Use {
        state: fields.first()?.chars().next()?,
        own_ticks: number(14)? + number(15)?,
        collected_ticks: number(16)? + number(17)?,
        resident_pages: number(24)?,
    })
}

/// Clock ticks as a time.
fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 1_000 / rustix::param::clock_ticks_per_second().max(1))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::process::{APART, command, forget, note_waited, spawn, stop_marked};

    #[test]
    fn a_stat_line_is_parsed_by_its_last_bracket() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 50 6 7 8 20 0 1 0 123456 900 77 0";
        let one = parse(line).unwrap();
        assert_eq!(one, Use { state: 'S', own_ticks: 56, collected_ticks: 15, resident_pages: 77 });
    }

    #[test]
    fn a_tree_is_counted_with_what_left_its_session_and_without_children_of_ours() {
        let mut other = spawn(command("sleep").arg("1000")).unwrap();
        let mut shell = command("sh");
        shell.args(["-c", "setsid sleep 1000 & i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; sleep 1000"]);
        let mut agent = spawn(shell.env("SWARM_TEST_USE", "counted")).unwrap();
        note_waited(agent.id());
        let deadline = Instant::now() + Duration::from_secs(20);
        let found = loop {
            let found = agent_tree_use(agent.id()).unwrap();
            if found.pids.len() == 3 && found.own_cpu > Duration::ZERO {
                break found;
            }
            assert!(Instant::now() < deadline, "{found:?}");
            std::thread::yield_now();
        };
        assert!(!found.pids.contains(&other.id()) && found.pids.contains(&agent.id()));
        assert!(found.cpu >= found.own_cpu && found.resident_bytes > 100_000);
        let proportional = proportional_bytes(&found.pids).unwrap();
        assert!(proportional > 0 && proportional <= found.resident_bytes, "{proportional} {found:?}");
        stop_marked("SWARM_TEST_USE", "counted", Duration::ZERO).unwrap();
        other.kill().unwrap();
        for child in [&mut other, &mut agent] {
            child.wait().unwrap();
            forget(child.id());
        }
    }

    #[test]
    fn what_stands_apart_is_not_the_agents_and_both_ways_of_looking_agree() {
        let mut shell = command("sh");
        let nested = format!("{APART}=1 sh -c 'sleep 1000 & sleep 1000 & wait' & sleep 1000 & wait");
        let mut agent = spawn(shell.args(["-c", &nested]).env("SWARM_TEST_USE", "apart")).unwrap();
        note_waited(agent.id());
        let deadline = Instant::now() + Duration::from_secs(20);
        let all_pids = || {
            let children =
                |pids: Vec<u32>| -> Vec<u32> { pids.iter().flat_map(|pid| children(*pid).unwrap()).collect() };
            let first = children(vec![agent.id()]);
            let second = children(first.clone());
            [first, second].concat()
        };
        while all_pids().len() < 4 {
            assert!(Instant::now() < deadline, "{:?}", all_pids());
            std::thread::yield_now();
        }
        // A child that has not begun its own program yet still has the environment of the shell.
        let found = loop {
            let found = agent_tree_use(agent.id()).unwrap();
            if found.pids.len() == 2 {
                break found;
            }
            assert!(Instant::now() < deadline, "{found:?}");
            std::thread::yield_now();
        };
        let mut by_table: Vec<_> = agent_tree(agent.id()).unwrap().iter().map(|stat| stat.pid).collect();
        let mut by_children = found.pids;
        by_table.retain(|pid| *pid == agent.id() || children(agent.id()).unwrap().contains(pid));
        by_children.sort_unstable();
        by_table.sort_unstable();
        assert_eq!(by_children, by_table);
        stop_marked("SWARM_TEST_USE", "apart", Duration::ZERO).unwrap();
        agent.wait().unwrap();
        forget(agent.id());
    }

    #[test]
    fn an_agent_that_is_gone_uses_nothing() {
        let mut child = spawn(&mut command("true")).unwrap();
        child.wait().unwrap();
        forget(child.id());
        // Other tests of this process may have children of their own that nobody registered.
        let found = agent_tree_use(child.id()).unwrap();
        assert!(!found.pids.contains(&child.id()) && found.own_cpu == Duration::ZERO);
    }
}
