//! `recover`: work that was kept, and bringing it back.

use std::path::PathBuf;

use super::Control;
use crate::coordinator::failure::Failure;
use crate::coordinator::views::{KeptView, RecoverView, RestoredView, VIEW_VERSION};
use crate::git::{DiffOptions, GitError, KeepEntry, RestoreTo};
use crate::landing::LandingError;

impl Control {
    /// Everything that was kept, newest first.
    pub(crate) fn kept(&self) -> Result<RecoverView, Failure> {
        let kept = self.project.repository.kept()?;
        Ok(RecoverView { version: VIEW_VERSION, kept: kept.iter().map(kept_view).collect() })
    }

    /// One piece of kept work, with what it changed as a diff.
    pub(crate) fn show_kept(&self, what: &str, color: bool) -> Result<(RecoverView, Vec<u8>), Failure> {
        self.with_landing(|landing| {
            let entry = landing.find_kept(what)?;
            let diff = landing.show_kept(&entry, &DiffOptions { color, ..DiffOptions::default() })?;
            Ok((RecoverView { version: VIEW_VERSION, kept: vec![kept_view(&entry)] }, diff))
        })
    }

    /// Brings kept work back as a branch, and in a worktree where one is asked for.
    pub(crate) fn restore(
        &self,
        what: &str,
        branch: Option<&str>,
        worktree: Option<PathBuf>,
    ) -> Result<RestoredView, Failure> {
        self.with_landing(|landing| {
            let entry = landing.find_kept(what)?;
            let branch = match branch {
                Some(branch) => branch.parse()?,
                None => format!("recovered/{}", entry.worker.as_str().replace('+', "-")).parse()?,
            };
            let worktree = worktree.map(|path| self.project.call.directory.join(path));
            let to = RestoreTo { branch, worktree };
            let restored = landing.restore(&entry, &to).map_err(|error| not_restored(error, what))?;
            Ok(RestoredView {
                version: VIEW_VERSION,
                branch: to.branch.to_string(),
                left_uncommitted: entry.has_uncommitted && !restored.has_uncommitted,
                worktree: restored.worktree,
                beside: entry.beside.map(|commit| commit.to_string()),
                reference: entry.reference,
            })
        })
    }
}

/// The failure of a restore, whose flags name another place.
fn not_restored(error: LandingError, what: &str) -> Failure {
    let flag = match &error {
        LandingError::Git(GitError::BranchExists { .. }) => Some("--branch NAME"),
        LandingError::Git(GitError::PathTaken { .. }) => Some("--worktree DIR"),
        _ => None,
    };
    let mut failure = Failure::from(error);
    if let Some(flag) = flag {
        failure.hints = vec![format!("name another one: swarm recover restore {what} {flag}")];
    }
    failure
}

/// The view of kept work.
fn kept_view(entry: &KeepEntry) -> KeptView {
    KeptView {
        reference: entry.reference.clone(),
        worker: entry.worker.to_string(),
        commit: entry.commit.to_string(),
        branch: entry.branch.to_string(),
        reason: entry.reason.clone(),
        at: entry.at,
        has_uncommitted: entry.has_uncommitted,
    }
}
