//! Names processes so that a reused pid is never mistaken for the one meant.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;

use super::ProcessError;
use crate::model::worker::ProcessIdentity;

/// The fields of `/proc/PID/stat` that matter here (proc_pid_stat(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stat {
    /// Field 1.
    pub(super) pid: u32,
    /// Field 3; `Z` is a zombie.
    pub(super) state: char,
    /// Field 4.
    pub(super) parent: u32,
    /// Field 22, clock ticks since boot.
    pub(super) start_ticks: u64,
}

/// Reads the stat line of `pid`; `None` when there is no such process.
pub(super) fn read_stat(pid: u32) -> Result<Option<Stat>, ProcessError> {
    let path = PathBuf::from(format!("/proc/{pid}/stat"));
    match fs::read(&path) {
        Ok(bytes) => Ok(parse_stat(&String::from_utf8_lossy(&bytes))),
        Err(error) if is_gone(&error) => Ok(None),
        Err(source) => Err(ProcessError::Table { path, source }),
    }
}

/// Whether reading `/proc/PID/...` failed because the process ended.
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

/// Parses a stat line; the name in brackets may itself hold brackets and spaces.
fn parse_stat(line: &str) -> Option<Stat> {
    let pid = line.split(' ').next()?.parse().ok()?;
    let rest = &line[line.rfind(')')? + 1..];
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    // Field 22 is the 18th after the parent, which is field 4.
    let start_ticks = fields.nth(17)?.parse().ok()?;
    Some(Stat { pid, state, parent, start_ticks })
}

/// The id of this boot of the machine.
pub(crate) fn boot_id() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
    })
}

/// How long the machine has run since it started, suspension included; nobody can set this clock.
pub(crate) fn since_boot() -> std::time::Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    std::time::Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Names the process that has `pid` now; `None` when there is none, or only its zombie.
pub(crate) fn identify(pid: u32) -> Result<Option<ProcessIdentity>, ProcessError> {
    let stat = read_stat(pid)?.filter(|stat| stat.state != 'Z');
    Ok(stat.map(|stat| ProcessIdentity { pid, start_ticks: stat.start_ticks, boot_id: boot_id().to_owned() }))
}

/// Whether a process with `pid` may live; what cannot be told does.
pub(crate) fn may_live(pid: u32) -> bool {
    !matches!(identify(pid), Ok(None))
}

/// Names this process.
pub(crate) fn own_identity() -> Result<ProcessIdentity, ProcessError> {
    let pid = std::process::id();
    let gone = || ProcessError::Table { path: "/proc/self/stat".into(), source: io::ErrorKind::NotFound.into() };
    identify(pid)?.ok_or_else(gone)
}

/// The processes that this one is below, its parent first.
pub(crate) fn ancestors() -> Result<Vec<ProcessIdentity>, ProcessError> {
    let mut found = Vec::new();
    let mut next = read_stat(std::process::id())?.map(|stat| stat.parent);
    while let Some(pid) = next.filter(|pid| *pid > 0) {
        let Some(stat) = read_stat(pid)? else { break };
        next = Some(stat.parent);
        found.push(ProcessIdentity { pid, start_ticks: stat.start_ticks, boot_id: boot_id().to_owned() });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_is_parsed() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 0 0";
        let stat = parse_stat(line).unwrap();
        assert_eq!(stat, Stat { pid: 42, state: 'S', parent: 7, start_ticks: 123_456 });
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let own = own_identity().unwrap();
        let found = identify(own.pid).unwrap();
        assert_eq!(found.as_ref(), Some(&own));
        let earlier = ProcessIdentity { start_ticks: own.start_ticks - 1, ..own.clone() };
        let other_boot = ProcessIdentity { boot_id: "x".to_owned(), ..own };
        assert!(found.as_ref() != Some(&earlier) && found.as_ref() != Some(&other_boot));
    }
}
