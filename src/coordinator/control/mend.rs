//! Putting right what `doctor` finds inconsistent.
//!
//! Only what is recorded as ours is ever touched: rows of the store, references under `refs/swarm/`, scratch worktrees that
//! were written down, files of the runtime folder. Work is kept in a keep ref before anything of it goes, processes are
//! ended by their identity or by the marker of their worker, and each thing is judged again right before it is mended.
//! Other worktrees, branches and locks are named and left.

use std::path::{Path, PathBuf};

use super::{Control, is_released};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::files::{self, FileLock};
use crate::git::{NewWorktree, is_gone};
use crate::model::event::{SwarmEvent, SwarmRecord};
use crate::model::ticket::TicketState;
use crate::model::worker::{Liveness, Phase, ProcessIdentity, Status, TmuxSession, Worker};
use crate::model::{BranchName, TicketId, WorkerId, counted};
use crate::process;
use crate::store::read_live;
use crate::supervisor::{Client, MARKER};
use crate::terminal::Tmux;

/// Something inconsistent that can be put right.
pub(super) enum Fault {
    /// A spawn whose process died.
    HalfSpawned(WorkerId),
    /// A worker without its supervisor.
    Lost(WorkerId),
    /// Processes of a worker that has ended.
    LeftProcesses(WorkerId),
    /// The folder of a worktree is gone; its branch is there.
    NoWorktree(WorkerId),
    /// Snapshots of nobody.
    Snapshots(WorkerId),
    /// git has a worktree of a former worker registered, and its folder is gone.
    StaleRegistration(PathBuf),
    /// A gate's worktree that a dead process left.
    Scratch(PathBuf),
    /// A session of a released worker.
    Session(Tmux, TmuxSession),
    /// A file in the runtime folder that belongs to no process any more.
    RuntimeFile(PathBuf),
    /// Ports of a worker that is gone.
    Ports(WorkerId),
    /// A ticket that is held in the queue, and nobody works on it.
    Unattended(TicketId),
    /// A worker whose ticket the queue does not know.
    NoTicket(WorkerId),
    /// A worker whose work landed.
    Unreleased(WorkerId),
}

impl Fault {
    /// What mending does, as a clause.
    pub(super) fn remedy(&self) -> String {
        match self {
            Self::HalfSpawned(_) => "takes the spawn back; what is in its worktree by now is kept".to_owned(),
            Self::Lost(id) => {
                format!(
                    "ends what its agent left running and notes the end; the work stays, and swarm resume {id} goes on"
                )
            }
            Self::LeftProcesses(_) => "ends these processes".to_owned(),
            Self::NoWorktree(_) => {
                "keeps its last snapshot in a keep ref and makes the worktree anew from its branch".to_owned()
            }
            Self::Snapshots(_) => "moves them into a keep ref, where swarm recover finds them".to_owned(),
            Self::StaleRegistration(_) => "has git forget this one registration".to_owned(),
            Self::Scratch(_) => "removes it; nothing in it is anybody's work".to_owned(),
            Self::Session(..) => "ends the session".to_owned(),
            Self::RuntimeFile(_) => "removes the file".to_owned(),
            Self::Ports(_) => "frees them".to_owned(),
            Self::Unattended(ticket) => format!("notes the attempt as failed; swarm spawn {ticket} begins again"),
            Self::NoTicket(_) | Self::Unreleased(_) => "keeps its work in a keep ref and releases it".to_owned(),
        }
    }
}

impl Control {
    /// Puts one thing right; says what was done, as a sentence without its full stop. What is in order by now is left.
    pub(super) fn mend(&self, fault: &Fault) -> Result<String, Failure> {
        let done = match fault {
            Fault::HalfSpawned(id) | Fault::Lost(id) => self.mend_worker(id)?,
            Fault::LeftProcesses(id) => {
                let count = self.reap(&self.worker(id.as_str())?)?;
                format!("Ended {}", processes(count))
            }
            Fault::NoWorktree(id) => self.mend_worktree(&self.worker(id.as_str())?)?,
            Fault::Snapshots(id) => self.mend_snapshots(id)?,
            Fault::StaleRegistration(path) => match self.project.repository.forget_missing_worktree(path)? {
                true => "Removed the registration".to_owned(),
                false => IN_ORDER.to_owned(),
            },
            Fault::Scratch(path) => {
                let repository = &self.project.repository;
                repository.sweep_scratch()?;
                if repository.dead_scratch()?.contains(path) {
                    let text = format!("not all files in {} can be deleted; look whose they are", path.display());
                    return Err(Failure::new(FailureKind::Failed, text));
                }
                "Removed it".to_owned()
            }
            Fault::Session(tmux, session) => {
                tmux.kill_session(session)?;
                "Ended the session".to_owned()
            }
            Fault::RuntimeFile(path) => mend_runtime(path)?,
            Fault::Ports(id) => {
                self.project.store()?.free_stale_ports(id)?;
                "Freed them".to_owned()
            }
            Fault::Unattended(ticket) => self.mend_ticket(ticket)?,
            Fault::NoTicket(id) => self.mend_without_ticket(&self.worker(id.as_str())?)?,
            Fault::Unreleased(id) => self.mend_unreleased(&self.worker(id.as_str())?)?,
        };
        if done != IN_ORDER {
            let fact = SwarmRecord::now(&self.run, SwarmEvent::Mended { what: format!("{}: {done}", fault.subject()) });
            self.project.store()?.append_swarm_event(&fact)?;
        }
        Ok(done)
    }

    /// Ends what is left of a worker without supervisor, or takes its spawn back.
    fn mend_worker(&self, id: &WorkerId) -> Result<String, Failure> {
        let known = self.know(self.worker(id.as_str())?, None);
        if known.verdict.status != Status::Lost {
            return Ok(IN_ORDER.to_owned());
        }
        Ok(self.stop_one(&known.worker, "its supervisor was lost")?.text)
    }

    /// Makes the worktree of a worker anew, whose folder is gone.
    fn mend_worktree(&self, worker: &Worker) -> Result<String, Failure> {
        let (repository, place) = (&self.project.repository, &worker.place);
        let Some(_unspawned) = FileLock::try_take(&self.project.paths.spawn_lock(&worker.id))? else {
            return Ok(IN_ORDER.to_owned());
        };
        let is_supervised = FileLock::is_held(&self.project.paths.supervisor_lock(&worker.id))?;
        if !is_gone(&place.worktree) || is_supervised || is_released(worker) {
            return Ok(IN_ORDER.to_owned());
        }
        let kept = repository.keep(&worker.id, Some(&place.worktree), &place.branch, "its worktree was gone")?;
        repository.remove_worktree(&place.worktree, &kept)?;
        repository.add_worktree(&NewWorktree {
            path: place.worktree.clone(),
            branch: place.branch.clone(),
            base: place.base.clone(),
            use_existing_branch: true,
        })?;
        let keep = kept.keep_ref();
        let rest = match (kept.has_uncommitted(), place.made_paths.is_empty()) {
            (true, _) => format!("; what was not committed is in {keep}: swarm recover show {keep}"),
            (false, false) => "; what setup and copy had made is not in it".to_owned(),
            (false, true) => String::new(),
        };
        Ok(format!("Made the worktree anew from `{}`{rest}", place.branch))
    }

    /// Moves the snapshots of nobody into a keep ref.
    fn mend_snapshots(&self, id: &WorkerId) -> Result<String, Failure> {
        let row = self.project.store()?.worker(id)?;
        if row.as_ref().is_some_and(|row| !is_released(row)) {
            return Ok(IN_ORDER.to_owned());
        }
        let branch: BranchName = match &row {
            Some(row) => row.place.branch.clone(),
            None => self.project.settings_or_default().branch.replace("{worker}", id.as_str()).parse()?,
        };
        let kept = self.project.repository.keep(id, None, &branch, "its snapshots were nobody's")?;
        self.project.repository.delete_snapshots(&kept)?;
        Ok(format!("Moved them into {}", kept.keep_ref()))
    }

    /// Notes that nobody works on a ticket.
    fn mend_ticket(&self, ticket: &TicketId) -> Result<String, Failure> {
        let queue = self.project.queue()?;
        if !self.is_unattended(ticket)? {
            return Ok(IN_ORDER.to_owned());
        }
        let Some(entry) = queue.ticket(ticket)? else { return Ok(IN_ORDER.to_owned()) };
        queue.declare_lost(ticket, entry.fence)?;
        queue.fail(ticket, entry.fence, "nobody was working on it", None)?;
        Ok("Noted the attempt as failed".to_owned())
    }

    /// Whether a ticket is held in the queue although no worker is at it.
    pub(super) fn is_unattended(&self, ticket: &TicketId) -> Result<bool, Failure> {
        let queue = self.project.queue()?;
        let entry = queue.ticket(ticket)?.filter(|entry| entry.client().is_none());
        // What another node holds is that one's to look after.
        let is_own = entry.as_ref().and_then(|entry| entry.node.as_deref()).is_none_or(|node| node == queue.node());
        let state = entry.filter(|_| is_own || queue.server().is_none()).map(|entry| entry.state);
        let is_held = matches!(state, Some(TicketState::Running | TicketState::Lost));
        // A spawn that has just claimed it holds this lock.
        let spawns = FileLock::is_held(&self.project.paths.spawn_lock(&WorkerId::of(ticket, 1)))?;
        let workers = self.project.store()?.workers()?;
        let works = workers.iter().any(|worker| worker.ticket == *ticket && worker.is_begun());
        Ok(is_held && !spawns && !works)
    }

    /// Releases a worker whose ticket the queue does not know.
    fn mend_without_ticket(&self, worker: &Worker) -> Result<String, Failure> {
        if is_released(worker) || self.ticket_state(&worker.ticket)?.is_some() {
            return Ok(IN_ORDER.to_owned());
        }
        if self.liveness(worker) != Liveness::Dead {
            let text = format!("`{}` is live; it is left alone", worker.id);
            return Err(Failure::new(FailureKind::Failed, text).hint(format!("swarm stop {}", worker.id)));
        }
        self.mend_by_release(worker, "its ticket was gone")
    }

    /// Releases a worker whose work landed.
    fn mend_unreleased(&self, worker: &Worker) -> Result<String, Failure> {
        match self.awaits_release(worker)? {
            true => self.mend_by_release(worker, "landed"),
            false => Ok(IN_ORDER.to_owned()),
        }
    }

    /// Ends what a worker left running and releases it.
    fn mend_by_release(&self, worker: &Worker, reason: &str) -> Result<String, Failure> {
        self.reap(worker)?;
        let released = self.with_landing(|landing| Ok(landing.release(&worker.id, reason)?))?;
        Ok(format!("Released it; its work is kept in {}", released.keep))
    }

    /// What runs on of a worker that nobody supervises: what carries its marker, and the agent that its supervisor wrote
    /// down, as long as that very process lives. A pid that something else has by now is not among them.
    pub(super) fn left_running(&self, worker: &Worker) -> Result<Vec<ProcessIdentity>, Failure> {
        if self.liveness(worker) != Liveness::Dead {
            return Ok(Vec::new());
        }
        let marker = self.project.paths.worker_dir(&worker.id);
        let mut running = process::find_marked(MARKER, &marker.to_string_lossy())?;
        let live = read_live(&self.project.paths.live(&worker.id)).ok().flatten();
        if let Some(agent) = live.and_then(|live| live.agent)
            && process::identify(agent.pid)?.as_ref() == Some(&agent)
            && !running.contains(&agent)
        {
            running.push(agent);
        }
        Ok(running)
    }

    /// Ends what [`Self::left_running`] finds; how many there were.
    pub(super) fn reap(&self, worker: &Worker) -> Result<usize, Failure> {
        // Whoever starts it again meanwhile ends them first, and what it starts carries the same marker.
        let Some(_unspawned) = FileLock::try_take(&self.project.paths.spawn_lock(&worker.id))? else { return Ok(0) };
        let left = self.left_running(worker)?;
        if left.is_empty() {
            return Ok(0);
        }
        let grace = self.project.settings_or_default().limits.grace;
        let marker = self.project.paths.worker_dir(&worker.id);
        process::stop_marked(MARKER, &marker.to_string_lossy(), grace)?;
        for process in &left {
            process::stop_process(process, grace)?;
        }
        Ok(left.len())
    }
}

/// What mending says of a thing that needs it no more.
const IN_ORDER: &str = "It is in order by now";

impl Fault {
    /// What it is about.
    fn subject(&self) -> String {
        match self {
            Self::HalfSpawned(id)
            | Self::Lost(id)
            | Self::LeftProcesses(id)
            | Self::NoWorktree(id)
            | Self::Snapshots(id)
            | Self::Ports(id)
            | Self::NoTicket(id)
            | Self::Unreleased(id) => format!("worker `{id}`"),
            Self::StaleRegistration(path) | Self::Scratch(path) | Self::RuntimeFile(path) => {
                format!("`{}`", path.display())
            }
            Self::Session(_, session) => format!("session `{}`", session.name),
            Self::Unattended(ticket) => format!("ticket `{ticket}`"),
        }
    }
}

/// Removes a file of the runtime folder, unless somebody listens there by now.
fn mend_runtime(path: &Path) -> Result<String, Failure> {
    let is_socket = path.extension().is_some_and(|extension| extension == "sock");
    if is_socket && Client::connect(path)?.is_some() {
        return Ok(IN_ORDER.to_owned());
    }
    files::remove_if_exists(path)?;
    Ok("Removed it".to_owned())
}

/// A number of processes.
pub(super) fn processes(count: usize) -> String {
    if count == 1 { "1 process".to_owned() } else { format!("{count} processes") }
}

/// A lock file of git that has been there for longer than any git command of ours takes.
pub(super) fn old_lock(path: &Path) -> Option<std::time::Duration> {
    const OLD: std::time::Duration = std::time::Duration::from_secs(5 * 60);
    let age = std::fs::metadata(path).ok()?.modified().ok()?.elapsed().ok()?;
    (age > OLD).then_some(age)
}

/// Whether a worker's row says that its spawn is under way or was cut off.
pub(super) fn is_preparing(worker: &Worker) -> bool {
    matches!(worker.phase, Phase::Preparing { .. })
}

/// Pids of processes, for people.
pub(super) fn pids(processes: &[ProcessIdentity]) -> String {
    let pids: Vec<_> = processes.iter().map(|process| process.pid.to_string()).collect();
    format!("{} ({})", pids.join(", "), counted(pids.len(), "pid"))
}
