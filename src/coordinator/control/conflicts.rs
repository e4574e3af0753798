//! `conflicts`: the overlap radar as a view.

use super::Control;
use crate::coordinator::failure::Failure;
use crate::coordinator::views::{ConflictsView, OverlapFileView, OverlapView, VIEW_VERSION};
use crate::landing::Overlap;

impl Control {
    /// What merging any two workers' newest known work, or one with its target, would give.
    pub(crate) fn conflicts(&self) -> Result<ConflictsView, Failure> {
        let target = match self.project.settings()?.target.clone() {
            Some(target) => target,
            None => self.project.repository.default_target()?,
        };
        let workers = self.project.store()?.workers()?;
        let overlaps = self.with_landing(|landing| Ok(landing.overlaps(&workers)?))?;
        let pairs = overlaps.into_iter().map(pair).collect();
        Ok(ConflictsView { version: VIEW_VERSION, target: target.to_string(), pairs })
    }
}

/// One pair.
fn pair(overlap: Overlap) -> OverlapView {
    let files = overlap.files.into_iter().map(|found| OverlapFileView {
        path: found.file.path,
        kind: found.file.kind.as_str().to_owned(),
        hunks: found.hunks,
    });
    OverlapView { a: overlap.a, b: overlap.b, verdict: overlap.verdict, files: files.collect() }
}
