//! Keeping the log of a queue on a server short: now and then, by whichever coordinator comes to it.

use std::time::{Duration, Instant};

use super::jobs::{Done, Job};
use super::{Engine, News};
use crate::coordinator::failure::Failure;

/// How often it is looked whether the log is too long; a new beginning of it has stood for long enough by the next time.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// How that goes.
#[derive(Debug, Default)]
pub(super) struct Shortening {
    /// When it was last looked; `None` before the first time.
    looked_at: Option<Instant>,
    /// Whether it is being done: what is half sent would stay on the server if the run ended now.
    pub(super) is_under_way: bool,
    /// Why it failed the last time.
    failed: Option<String>,
}

impl Engine<'_> {
    /// Begins to look whether the log is too long, where it is time and the queue has one.
    pub(super) fn shorten(&mut self) -> Result<(), Failure> {
        let is_due = self.shortening.looked_at.is_none_or(|at| at.elapsed() >= LOOK_EVERY);
        if self.leads && is_due && !self.shortening.is_under_way && self.control.project().queue()?.link().is_some() {
            self.shortening.looked_at = Some(Instant::now());
            self.shortening.is_under_way = true;
            self.jobs.begin(Job::Shorten);
        }
        Ok(())
    }

    /// Hears how that went.
    pub(super) fn shortened(&mut self, result: Result<Done, Failure>) {
        self.shortening.is_under_way = false;
        let failed = result.err().map(|failure| failure.chain.join(": "));
        if let Some(text) = failed.as_ref().filter(|text| self.shortening.failed.as_ref() != Some(text)) {
            self.face.tell(&News::Said(&format!("the log of the queue could not be shortened: {text}")));
        }
        self.shortening.failed = failed;
    }
}
