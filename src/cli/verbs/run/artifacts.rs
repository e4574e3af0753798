//! The folder of what a CI job keeps: reports, logs, recordings, differences, and a bundle of the commits.
//!
//! What matters most is written first: a job that was told to end has seconds.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::report::Report;
use super::{github, junit};
use crate::coordinator::{Control, Failure, FailureKind};
use crate::files::{self, Access};

/// The folder.
pub(super) struct Artifacts(PathBuf);

impl Artifacts {
    /// Makes the folder; what an earlier run left there stays.
    pub(super) fn make(folder: &Path) -> Result<Self, Failure> {
        files::make_folder(folder)?;
        Ok(Self(folder.to_owned()))
    }

    /// A file in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes everything. What cannot be had is named in the answer, and keeps nothing else from being written.
    pub(super) fn write(&self, report: &Report, view: Option<&impl Serialize>, control: &Control) -> Vec<Failure> {
        let workers: Vec<String> = report.cases.iter().filter_map(|case| case.worker.clone()).collect();
        let mut failures = Vec::new();
        let mut note = |step: Result<(), Failure>| failures.extend(step.err());
        note(self.text("junit.xml", &junit::document(report)));
        note(self.text("summary.md", &github::summary(report)));
        if let Some(view) = view {
            note(json(view).and_then(|text| self.text("run.json", &text)));
        }
        note(control.bundle(&workers, &self.file("branches.bundle")).map(drop));
        let stats = control.stats(Some(report.began_at), None);
        note(stats.and_then(|stats| json(&stats)).and_then(|text| self.text("stats.json", &text)));
        for worker in &workers {
            match control.collect(worker, &self.0.join("workers").join(worker)) {
                Ok(parts) => parts.into_iter().for_each(|failure| note(Err(failure))),
                Err(failure) => note(Err(failure)),
            }
        }
        failures
    }

    /// One text file.
    fn text(&self, name: &str, text: &str) -> Result<(), Failure> {
        Ok(files::write_atomically(&self.file(name), text.as_bytes(), Access::Shared)?)
    }
}

/// A view as a document.
fn json(view: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(view);
    Ok(format!("{}\n", text.map_err(|error| Failure::from_error(FailureKind::Internal, &error))?))
}
