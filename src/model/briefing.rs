//! The variables that every prompt and message template gets (`templates/README.md` lists them).

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::ticket::Ticket;
use super::worker::Worker;

/// Who works on what and where, as templates see it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Briefing {
    worker: String,
    ticket: String,
    title: String,
    branch: String,
    base: String,
    target: String,
    worktree: PathBuf,
    repo: PathBuf,
    checks: Vec<String>,
    scope: Vec<String>,
    labels: Vec<String>,
    port: u16,
    ports: u16,
}

impl Briefing {
    /// The variables for one worker; `repository` is the main worktree, or the common dir of a bare repository.
    pub(crate) fn new(worker: &Worker, ticket: &Ticket, repository: &Path) -> Self {
        Self {
            worker: worker.id.to_string(),
            ticket: ticket.id.to_string(),
            title: ticket.title.clone(),
            branch: worker.place.branch.to_string(),
            base: worker.place.base.to_string(),
            target: worker.place.target.to_string(),
            worktree: worker.place.worktree.clone(),
            repo: repository.to_owned(),
            checks: ticket.checks.clone(),
            scope: ticket.scope.clone(),
            labels: ticket.labels.clone(),
            port: worker.place.first_port,
            ports: worker.place.port_count,
        }
    }

    /// These variables with more beside them.
    pub(crate) fn with<T: Serialize>(&self, more: T) -> Briefed<'_, T> {
        Briefed { briefing: self, more }
    }
}

/// A [`Briefing`] with the variables of one template.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Briefed<'a, T> {
    /// The common ones.
    #[serde(flatten)]
    briefing: &'a Briefing,
    /// The template's own.
    #[serde(flatten)]
    more: T,
}
