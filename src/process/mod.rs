//! The process door: everything that starts, waits for or ends a process goes through here.
//!
//! One lock covers every start, because the PTY crate opens descriptors that a concurrent fork would leak into
//! another child. A process is named by [`ProcessIdentity`], never by its number alone, so nothing that reuses a
//! pid is ever signalled.

mod identity;
mod run;
mod tree;
mod usage;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) use identity::{ancestors, boot_id, identify, may_live, own_identity, since_boot};
pub(crate) use run::{Finished, Invocation, run, run_until};
pub(crate) use tree::{
    ask_to_end, find_all_marked, find_marked, is_used_by, reap_orphans, signal_agent_tree, stop_agent_tree,
    stop_marked, stop_process,
};
pub(crate) use usage::{TreeUse, agent_tree_use, load_by_core, proportional_bytes};

/// Gives memory that this process has freed back to the system, where the allocator keeps it for itself otherwise
/// (malloc_trim(3)): a supervisor needs most of it for its first second only.
pub(crate) fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[expect(unsafe_code, reason = "the call takes no pointers, and may be made at any time from any thread")]
        // What it answers is whether there was anything to give back.
        let _given = unsafe { libc::malloc_trim(0) };
    }
}

/// A process that could not be started, waited for or read about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    /// It did not start.
    #[error("could not start `{program}`")]
    Start {
        /// What was to run.
        program: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// It started, and waiting for it or talking to it failed.
    #[error("could not follow `{program}`")]
    Follow {
        /// What runs.
        program: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// It took too long and was ended with everything it had started.
    #[error("`{program}` took longer than {}", crate::model::duration_text(*.limit))]
    TimedOut {
        /// What ran.
        program: String,
        /// The time it was given.
        limit: Duration,
        /// The end of what it had written by then, standard error last.
        output: String,
    },
    /// The process table could not be read.
    #[error("could not read `{}`", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

/// Covers every start of a process in this program.
static SPAWN: Mutex<()> = Mutex::new(());
/// Children that some thread waits for; everything else that we are parent of was adopted.
static WAITED: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// Children that nobody waits for: they go on by themselves, and may outlive us.
static LET_GO: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Takes the spawn lock, for the PTY crate's own fork and for descriptors that must not leak into one.
pub(crate) fn spawn_lock() -> MutexGuard<'static, ()> {
    SPAWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Set for processes of ours that outlive whoever started them, supervisors and tmux servers: when the tree around one
/// ends, it and what belongs to it go on. An agent may start them, by `swarm spawn`.
pub(crate) const APART: &str = "SWARM_APART";

/// A command with an unchanged environment, but for [`APART`], which no child inherits; callers narrow it. Start it with
/// [`spawn`].
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_remove(APART);
    command
}

/// Starts `command` under the spawn lock. The caller waits for the child and then calls [`forget`].
pub(crate) fn spawn(command: &mut Command) -> Result<Child, ProcessError> {
    let lock = spawn_lock();
    let child = command.spawn();
    if let Ok(child) = &child {
        note_waited(child.id());
    }
    drop(lock);
    child.map_err(|source| ProcessError::Start { program: program_text(command), source })
}

/// Notes that somebody waits for child `pid`, so that [`reap_orphans`] leaves it alone.
pub(crate) fn note_waited(pid: u32) {
    WAITED.lock().unwrap_or_else(PoisonError::into_inner).insert(pid);
}

/// Ends what [`note_waited`] began.
pub(crate) fn forget(pid: u32) {
    WAITED.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
}

/// Whether somebody waits for child `pid`.
fn is_waited(pid: u32) -> bool {
    WAITED.lock().unwrap_or_else(PoisonError::into_inner).contains(&pid)
}

/// Leaves a child to itself. A process that lives long calls [`collect_ended`] now and then: until then what has ended
/// keeps its place in the process table.
pub(crate) fn let_go(child: Child) {
    LET_GO.lock().unwrap_or_else(PoisonError::into_inner).push(child);
}

/// Takes leave of the children that were let go and have ended.
pub(crate) fn collect_ended() {
    LET_GO.lock().unwrap_or_else(PoisonError::into_inner).retain_mut(|child| {
        let lives = matches!(child.try_wait(), Ok(None));
        if !lives {
            forget(child.id());
        }
        lives
    });
}

/// The program's name for messages.
fn program_text(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
