//! tmux sessions of released workers: they go with the worktree, and `doctor` names any that stayed.

use std::collections::BTreeMap;

use super::{Control, is_released};
use crate::coordinator::failure::Failure;
use crate::model::error_text;
use crate::model::worker::TmuxSession;
use crate::store::Store;
use crate::terminal::Tmux;

impl Control {
    /// Ends the sessions of released workers; nothing but a finished program can be in them. Nobody's work fails over
    /// one that stays.
    pub(super) fn end_released_sessions(&self) {
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
