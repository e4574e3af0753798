//! The last steps of a spawn: the session, the supervisor in it, and its first word.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::{MARKER, RuntimePaths, Spawned, Spawner, SupervisorError};
use crate::files;
use crate::model::ticket::TicketState;
use crate::model::worker::{SpawnStep, TmuxSession, Worker};
use crate::process;
use crate::store::StatePaths;
use crate::supervisor::handover::{FirstWord, Handover};
use crate::supervisor::ledger::begun_agent;
use crate::terminal::{NewTmuxSession, Size, Tmux, TmuxError};

/// How long a supervisor may take to say that its agent runs.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// How often a silent supervisor is looked at while its first word is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Spawner {
    /// Starts the supervisor in a tmux session or detached, and waits for its first word.
    pub(super) fn start_supervisor(
        &self,
        mut worker: Worker,
        handover: Handover,
        enter: &dyn Fn(SpawnStep) -> Result<(), SupervisorError>,
    ) -> Result<Spawned, SupervisorError> {
        self.check_held(&worker)?;
        enter(SpawnStep::Session)?;
        let runtime = RuntimePaths::new(&handover.common_dir, &worker.id)?;
        let ready = Ready::listen(handover.ready.clone())?;
        let file = handover.write(&runtime.handover(worker.attempt.fence))?;
        let argv = [self.program.clone().into(), "supervise".into(), file.path().as_os_str().to_owned()];
        let mut start = match self.tmux.as_ref().filter(|_| handover.tmux.is_some()) {
            Some(tmux) => {
                let session = self.new_session(tmux, &worker, argv.to_vec())?;
                worker.attempt.tmux = Some(session.clone());
                self.store.update_worker::<SupervisorError>(&worker.id, |row| {
                    row.attempt.tmux = Some(session.clone());
                    Ok(())
                })?;
                Begun::Session(tmux, session)
            }
            None => Begun::Child(self.start_detached(&worker, &argv)?),
        };
        let ready = ready.wait(&self.paths, &worker, &mut start);
        if let Begun::Child(child) = start {
            process::let_go(child);
        }
        let pid = Some(ready?);
        let worker = self.store.worker(&worker.id)?.ok_or(SupervisorError::NoRow)?;
        Ok(Spawned { worker, pid, took_branch: false })
    }

    /// Refuses a ticket that is not this worker's any more: set-up takes long, and somebody may have cancelled it. One
    /// whose lease ran out meanwhile is lost, and its supervisor takes it back.
    fn check_held(&self, worker: &Worker) -> Result<(), SupervisorError> {
        let known = self.queue.ticket(&worker.ticket)?;
        let own = known.as_ref().filter(|known| known.fence == worker.attempt.fence).map(|known| known.state);
        match own {
            Some(TicketState::Running | TicketState::Lost) => Ok(()),
            _ => {
                let state = known.map_or(TicketState::Open, |known| known.state);
                Err(SupervisorError::NotClaimable { ticket: worker.ticket.clone(), state })
            }
        }
    }

    /// Makes the tmux session; a dead one of an earlier attempt makes room.
    fn new_session(
        &self,
        tmux: &Tmux,
        worker: &Worker,
        argv: Vec<std::ffi::OsString>,
    ) -> Result<TmuxSession, SupervisorError> {
        let name = self.session_name(worker);
        let cwd = worker.place.worktree.clone();
        let new = NewTmuxSession { name, cwd, argv, size: Size::UNSEEN };
        match tmux.new_session(&new) {
            Err(TmuxError::Exists(old)) => {
                // The supervisor's lock was free, so nothing but a finished pane can be in it.
                tmux.kill_session(&old)?;
                Ok(tmux.new_session(&new)?)
            }
            made => Ok(made?),
        }
    }

    /// Starts the supervisor without a terminal.
    fn start_detached(&self, worker: &Worker, argv: &[std::ffi::OsString]) -> Result<Child, SupervisorError> {
        let log = files::open_log(&self.paths.supervisor_log(&worker.id))?;
        let mut command = process::command(&argv[0]);
        command.args(&argv[1..]).current_dir(&worker.place.worktree);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // An agent may have called us: its worker's mark would end this one with that one.
        command.env_remove(MARKER).env(process::APART, "1");
        // Its threads take turns: a heap for each of them would only be room that it takes and does not use (glibc's
        // mallopt(3)). In a session the server's configuration says the same.
        command.env("MALLOC_ARENA_MAX", "1").env("MALLOC_TRIM_THRESHOLD_", "65536").env("MALLOC_TOP_PAD_", "16384");
        Ok(process::spawn(&mut command)?)
    }
}

/// Waits for a supervisor's first word. The socket file goes when dropped.
struct Ready {
    /// Where it comes.
    socket: UnixDatagram,
    /// The file of the socket.
    path: PathBuf,
}

impl Ready {
    /// Listens at `path`.
    fn listen(path: PathBuf) -> Result<Self, SupervisorError> {
        std::fs::remove_file(&path).ok();
        let socket = UnixDatagram::bind(&path).map_err(files::FileError::on("listen on", &path))?;
        socket.set_read_timeout(Some(LOOK_EVERY)).map_err(files::FileError::on("listen on", &path))?;
        Ok(Self { socket, path })
    }

    /// The agent's pid, or why there is none. A supervisor that died is noticed before the time is over; one whose agent ran
    /// by then has begun, and is lost.
    fn wait(&self, paths: &StatePaths, worker: &Worker, begun: &mut Begun<'_>) -> Result<u32, SupervisorError> {
        let deadline = Instant::now() + READY_WITHIN;
        let log = paths.supervisor_log(&worker.id);
        loop {
            if let Some(word) = self.receive()? {
                return word;
            }
            if begun.has_ended()? {
                // Its word may have come between the two looks.
                return match self.receive()? {
                    Some(word) => word,
                    None => begun_agent(paths, worker)?
                        .ok_or(SupervisorError::Silent { what: "ended before its agent ran", log }),
                };
            }
            if Instant::now() >= deadline {
                return Err(SupervisorError::Silent { what: "did not answer in time", log });
            }
        }
    }

    /// The word, when one comes in the time between two looks.
    fn receive(&self) -> Result<Option<Result<u32, SupervisorError>>, SupervisorError> {
        let mut buffer = vec![0; 64 * 1024];
        let Ok(count) = self.socket.recv(&mut buffer) else { return Ok(None) };
        let word = serde_json::from_slice(&buffer[..count]);
        Ok(Some(match word.map_err(|source| SupervisorError::Talk { source: source.into() })? {
            FirstWord::Running { pid } => Ok(pid),
            FirstWord::Failed { error, hint } => Err(SupervisorError::NotStarted { error, hint }),
        }))
    }
}

/// A supervisor that was started and has not been heard of.
enum Begun<'a> {
    /// In this session.
    Session(&'a Tmux, TmuxSession),
    /// As a child of this process.
    Child(Child),
}

impl Begun<'_> {
    /// Whether its process is gone.
    fn has_ended(&mut self) -> Result<bool, SupervisorError> {
        match self {
            Self::Session(tmux, session) => {
                let panes = tmux.list()?;
                Ok(panes.iter().find(|pane| pane.session == *session).is_none_or(|pane| pane.is_dead))
            }
            Self::Child(child) => Ok(matches!(child.try_wait(), Ok(Some(_)))),
        }
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}
