//! Has the overlaps looked at when the worktree changed, by a process of its own: the supervisor knows one worker, and
//! the radar all of them. That process tells the agents; one that fails costs nothing but the news.

use std::time::{Duration, Instant, SystemTime};

use super::{Job, Supervision};
use crate::model::worker::Changes;
use crate::process::{self, Invocation};

/// How often overlaps are looked at, by whichever of the repository's supervisors.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long looking may take.
const LOOK_WITHIN: Duration = Duration::from_secs(120);

/// What others have not looked at yet.
#[derive(Debug, Default)]
pub(super) struct Unseen {
    /// When the worktree changed for the first time since somebody looked.
    since: Option<SystemTime>,
    /// A look that this supervisor began is under way.
    is_looking: bool,
    /// When this supervisor began its last look, whatever came of it.
    begun: Option<Instant>,
}

impl Supervision {
    /// Notes a snapshot that differs from the one before.
    pub(super) fn note_change(&mut self, before: Option<Changes>, now: &Changes) {
        let is_new = before.is_none_or(|before| Changes { at: now.at, ..before } != *now);
        // A worktree as it was made is in nobody's way.
        let is_work = now.files_changed > 0;
        if is_new && is_work && self.unseen.since.is_none() && self.assignment.handover.radar_env.is_some() {
            self.unseen.since = Some(SystemTime::now());
        }
    }

    /// Begins a look when one is due: something changed since the last one, and that was a while ago.
    pub(super) fn begin_look_if_due(&mut self) {
        let (Some(since), Some(env)) = (self.unseen.since, &self.assignment.handover.radar_env) else { return };
        let last = std::fs::metadata(self.assignment.paths.radar_look()).and_then(|meta| meta.modified()).ok();
        if last.is_some_and(|last| last >= since) {
            self.unseen.since = None;
            return;
        }
        let is_early = last.is_some_and(|last| last.elapsed().unwrap_or_default() < LOOK_EVERY)
            || self.unseen.begun.is_some_and(|begun| begun.elapsed() < LOOK_EVERY);
        if is_early || std::mem::replace(&mut self.unseen.is_looking, true) {
            return;
        }
        self.unseen.begun = Some(Instant::now());
        let handover = &self.assignment.handover;
        let mut call = Invocation::new(&handover.program, &handover.repository).args(["--quiet", "radar"]);
        call.env = Some(env.iter().map(|(name, value)| (name.into(), value.into())).collect());
        call.timeout = Some(LOOK_WITHIN);
        let results = self.job_results.clone();
        tokio::task::spawn_blocking(move || {
            process::run(&call).ok();
            results.blocking_send(Job::Looked).ok();
        });
    }

    /// A look that this supervisor began is over.
    pub(super) fn look_ended(&mut self) {
        self.unseen.is_looking = false;
    }
}
