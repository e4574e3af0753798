//! tmux sessions and sockets of released workers: they go with the worktree, and `doctor` names any that stayed.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Control, is_released};
use crate::coordinator::failure::Failure;
use crate::files::{self, FileLock};
use crate::model::worker::TmuxSession;
use crate::model::{WorkerId, error_text};
use crate::process;
use crate::store::Store;
use crate::supervisor::RuntimePaths;
use crate::terminal::Tmux;

impl Control {
    /// Ends the sessions of released workers, in which nothing but a finished program can be, and removes the sockets
    /// that killed supervisors of theirs left. Nobody's work fails over one that stays.
    pub(super) fn clear_released(&self) {
        if let Err(failure) = self.remove_released_sockets() {
            let error = failure.chain.join(": ");
            tracing::warn!(error, "the sockets of released workers could not be removed");
        }
        let left = match self.released_sessions() {
            Ok(left) => left,
            Err(failure) => {
                tracing::warn!(
                    error = failure.chain.join(": "),
                    "the sessions of released workers could not be listed"
                );
                return;
            }
        };
        for (tmux, session) in left {
            if let Err(error) = tmux.kill_session(&session) {
                tracing::warn!(session = session.name, error = error_text(&error), "a session could not be ended");
            }
        }
    }

    /// Removes the sockets of released workers.
    fn remove_released_sockets(&self) -> Result<(), Failure> {
        let Some(store) = Store::open_read_only(&self.project.paths)? else { return Ok(()) };
        store.workers()?.iter().filter(|worker| is_released(worker)).try_for_each(|it| self.remove_dead_socket(&it.id))
    }

    /// Removes the socket of a worker whose supervisor was killed; one that is supervised or being spawned keeps it.
    pub(super) fn remove_dead_socket(&self, worker: &WorkerId) -> Result<(), Failure> {
        let socket = RuntimePaths::new(self.project.repository.common_dir(), worker)?.socket();
        if !socket.exists() {
            return Ok(());
        }
        // A supervisor is started under this lock only, and takes its own before it listens.
        let paths = &self.project.paths;
        let Some(_unspawned) = FileLock::try_take(&paths.spawn_lock(worker))? else { return Ok(()) };
        if !FileLock::is_held(&paths.supervisor_lock(worker))? {
            files::remove_if_exists(&socket)?;
        }
        Ok(())
    }

    /// The sessions of released workers that are still there, by one call a tmux server.
    pub(super) fn released_sessions(&self) -> Result<Vec<(Tmux, TmuxSession)>, Failure> {
        let Some(store) = Store::open_read_only(&self.project.paths)? else { return Ok(Vec::new()) };
        let mut servers: BTreeMap<String, Vec<TmuxSession>> = BTreeMap::new();
        for worker in store.workers()?.into_iter().filter(is_released) {
            if let Some(session) = worker.attempt.tmux {
                servers.entry(session.socket.clone()).or_default().push(session);
            }
        }
        let mut left = Vec::new();
        for (socket, sessions) in servers {
            let tmux = self.project.tmux_server(&socket)?;
            if !tmux.is_installed() {
                continue;
            }
            let there = tmux.list()?;
            let is_there = |session: &TmuxSession| there.iter().any(|pane| pane.session == *session);
            left.extend(sessions.into_iter().filter(is_there).map(|session| (tmux.clone(), session)));
        }
        Ok(left)
    }
}

/// Removes the sockets on which killed commands waited for the first word of a supervisor.
pub(super) fn remove_abandoned_sockets() -> Result<(), Failure> {
    let folder = files::runtime_folder()?;
    for entry in std::fs::read_dir(&folder).map_err(files::FileError::on("list", &folder))? {
        let path = entry.map_err(files::FileError::on("list", &folder))?.path();
        if path.extension().is_some_and(|extension| extension == "ready") && is_abandoned(&path)? {
            files::remove_if_exists(&path)?;
        }
    }
    Ok(())
}

/// Whether the process whose pid ends the name `HASH-PID.ready` is gone.
pub(super) fn is_abandoned(path: &Path) -> Result<bool, Failure> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let pid = stem.rsplit('-').next().and_then(|pid| pid.parse().ok());
    Ok(match pid {
        Some(pid) => process::identify(pid)?.is_none(),
        None => false,
    })
}
