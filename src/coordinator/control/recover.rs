//! `recover`: work that was kept, and bringing it back.

use std::path::PathBuf;

use super::Control;
use crate::coordinator::failure::Failure;
use crate::coordinator::views::{DiffView, KeptCommitView, KeptView, RecoverView, RestoredView, VIEW_VERSION};
use crate::git::{DiffOptions, GitError, KeepEntry, RestoreTo};
use crate::landing::LandingError;

/// What of kept work is compared, and how it is printed.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeptDiff {
    /// Only what was not committed.
    pub(crate) uncommitted: bool,
    /// Files and counts instead of lines.
    pub(crate) stat: bool,
    /// Colours.
    pub(crate) color: bool,
    /// Columns for files and counts.
    pub(crate) width: Option<usize>,
}

impl Control {
    /// Everything that was kept, newest first.
    pub(crate) fn kept(&self) -> Result<RecoverView, Failure> {
        let kept = self.project.repository.kept()?;
        let kept = kept.iter().map(|entry| self.kept_view(entry)).collect::<Result<_, _>>()?;
        Ok(RecoverView { version: VIEW_VERSION, kept })
    }

    /// One piece of kept work, with what it changed as a diff.
    pub(crate) fn show_kept(&self, what: &str, color: bool) -> Result<(RecoverView, Vec<u8>), Failure> {
        self.with_landing(|landing| {
            let entry = landing.find_kept(what)?;
            let diff = landing.show_kept(&entry, &DiffOptions { color, ..DiffOptions::default() })?;
            Ok((RecoverView { version: VIEW_VERSION, kept: vec![self.kept_view(&entry)?] }, diff))
        })
    }

    /// How kept work differs from what its worker began with, or from what was committed.
    pub(crate) fn diff_kept(&self, what: &str, request: &KeptDiff) -> Result<(DiffView, Vec<u8>), Failure> {
        self.with_landing(|landing| {
            let entry = landing.find_kept(what)?;
            let width = request.width.filter(|_| request.stat);
            let options = DiffOptions { color: request.color, stat: request.stat, width, ..DiffOptions::default() };
            let base = if request.uncommitted { entry.head.clone() } else { landing.base_of_kept(&entry)? };
            let diff = self.project.repository.diff(&base, &entry.commit, &options)?;
            let view = DiffView {
                version: VIEW_VERSION,
                worker: entry.worker.to_string(),
                base: base.to_string(),
                head: entry.commit.to_string(),
                dirty: entry.has_uncommitted,
                outside_scope: Vec::new(),
                text: String::from_utf8_lossy(&diff).into_owned(),
            };
            Ok((view, diff))
        })
    }

    /// The view of kept work.
    fn kept_view(&self, entry: &KeepEntry) -> Result<KeptView, Failure> {
        let keep = super::clean::days(self.project.settings_or_default().recover.keep_days);
        let also = entry.also.iter().map(|(kind, commit)| KeptCommitView { kind: *kind, commit: commit.to_string() });
        Ok(KeptView {
            reference: entry.reference.clone(),
            worker: entry.worker.to_string(),
            commit: entry.commit.to_string(),
            branch: entry.branch.to_string(),
            reason: entry.reason.clone(),
            at: entry.at,
            has_uncommitted: entry.has_uncommitted,
            holds: holds(entry),
            uncommitted_files: entry.files,
            untracked_files: entry.untracked,
            also: also.collect(),
            bytes: self.project.repository.bytes_only_in(&[&entry.reference])?,
            expires_at: entry.at.after(keep),
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

/// What is in kept work, in words.
fn holds(entry: &KeepEntry) -> Vec<String> {
    let mut words = vec!["branch".to_owned()];
    if entry.from_snapshot && entry.has_uncommitted {
        words.push("snapshot".to_owned());
    } else if entry.has_uncommitted {
        // Notes of earlier versions do not tell the two apart.
        if entry.files > entry.untracked {
            words.push("uncommitted".to_owned());
        }
        if entry.untracked > 0 {
            words.push("untracked".to_owned());
        }
    }
    let kinds = entry.also.iter().filter_map(|(kind, _)| serde_json::to_value((*kind)?).ok());
    words.extend(kinds.filter_map(|kind| kind.as_str().map(str::to_owned)));
    words.extend(entry.operation.clone());
    words.dedup();
    words
}
