//! Short words for scenes with scripted agents.

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::swarm::TestSwarm;

/// A repository with an agent `shell` that runs `script` in its worktree, and a ticket `T-1` for it.
pub(crate) fn scene(script: &str) -> TestSwarm {
    let swarm = TestSwarm::new();
    swarm.write_shell_agent("shell", script);
    swarm.write_ticket("T-1", "shell", "Work.");
    swarm
}

/// Ends processes soon, so that a test of the hard way is short.
pub(crate) const SHORT_GRACE: &str = "limits: {grace: 300ms}\n";

/// One worker of `status`.
#[track_caller]
pub(crate) fn worker(swarm: &TestSwarm, id: &str) -> Value {
    let status = swarm.json(["status", "--all", id]);
    assert_eq!(status["workers"].as_array().unwrap().len(), 1, "{status:#}");
    status["workers"][0].clone()
}

/// Waits until a worker has a status; the worker then.
#[track_caller]
pub(crate) fn await_status(swarm: &TestSwarm, id: &str, status: &str) -> Value {
    let mut seen = Value::Null;
    swarm.wait_until(&format!("`{id}` to be {status}"), || {
        seen = worker(swarm, id);
        seen["status"] == status
    });
    seen
}

/// Waits until a worker's script has made a file in its worktree.
#[track_caller]
pub(crate) fn await_file(swarm: &TestSwarm, id: &str, file: &str) {
    let path = swarm.worktree(id).join(file);
    swarm.wait_until(&format!("{}", path.display()), || path.exists());
}

/// Sends a signal to one process; one that is gone by then is fine.
pub(crate) fn signal(pid: &Value, signal: Signal) {
    let pid = pid.as_i64().and_then(|pid| Pid::from_raw(pid.try_into().unwrap())).unwrap();
    match kill_process(pid, signal) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => panic!("{pid:?}: {error}"),
    }
}

/// The state letter of a process; `Z` also when there is none.
pub(crate) fn process_state(pid: &Value) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rfind(')').and_then(|end| stat[end + 2..].chars().next()).unwrap_or('Z')
}

/// The processes of this test besides its tmux server.
pub(crate) fn processes(swarm: &TestSwarm) -> Vec<String> {
    let is_tmux = |command: &str| command.split(' ').next().is_some_and(|program| program.ends_with("tmux"));
    let others = swarm.processes().into_iter().filter(|(_, command)| !is_tmux(command));
    others.map(|(pid, command)| format!("{pid} {command}")).collect()
}

/// Nothing that a worker started runs any more.
#[track_caller]
pub(crate) fn assert_no_processes(swarm: &TestSwarm) {
    // A supervisor has a few instructions to go after it has answered.
    swarm.wait_until("every process to be gone", || processes(swarm).is_empty());
}
