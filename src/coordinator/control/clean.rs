//! `clean`: what nobody needs any more.

use std::time::Duration;

use super::{Control, partial};
use crate::coordinator::failure::Failure;
use crate::coordinator::views::{CleanView, CleanedView, StaysView, VIEW_VERSION};
use crate::landing::{CleanPolicy, Goes, Stays, Thing};
use crate::model::{CommitId, Time};

/// What `clean` was asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CleanRequest {
    /// Remove it.
    pub(crate) applies: bool,
    /// Kept work that is younger than thirty days may go where the configuration keeps it for less.
    pub(crate) insists: bool,
    /// Kept work that is nowhere else may go after its time.
    pub(crate) unlanded: bool,
}

/// A number of days.
pub(super) fn days(count: u32) -> Duration {
    Duration::from_secs(u64::from(count) * 24 * 60 * 60)
}

impl Control {
    /// Proposes what can go, and removes it where that is asked for. The second value is the failure for the exit code.
    pub(crate) fn clean(&self, request: CleanRequest) -> Result<(CleanView, Result<(), Failure>), Failure> {
        let settings = self.project.settings()?;
        let policy = CleanPolicy {
            keep: days(settings.recover.keep_days),
            logs: days(settings.recover.log_days),
            insists: request.insists,
            unlanded: request.unlanded,
            remote: settings.landing.remote.clone(),
            now: Time::now(),
        };
        let proposal = self.with_landing(|landing| Ok(landing.propose(&policy)?))?;
        let bytes = self.bytes_of(&proposal.goes)?;
        let mut view = CleanView {
            version: VIEW_VERSION,
            dry_run: !request.applies,
            goes: Vec::new(),
            stays: proposal.stays.iter().map(stays_view).collect(),
            failed: Vec::new(),
            bytes,
        };
        let mut failures = Vec::new();
        for goes in &proposal.goes {
            let mut entry = goes_view(goes);
            if request.applies {
                match self.with_landing(|landing| Ok(landing.clean(&goes.thing, &policy)?)) {
                    Ok(Ok(text)) => entry.text = Some(text),
                    Ok(Err(why)) => {
                        view.stays.push(stays_view(&Stays { thing: goes.thing.clone(), why }));
                        continue;
                    }
                    Err(failure) => {
                        failures.push((entry.subject, failure));
                        continue;
                    }
                }
            }
            view.goes.push(entry);
        }
        if request.applies {
            self.clear_released();
        }
        view.failed = failures.iter().map(|(subject, failure)| failure.view(subject)).collect();
        let result = partial(view.goes.len(), failures);
        Ok((view, result))
    }

    /// Bytes of everything together: what several references share is counted once.
    fn bytes_of(&self, goes: &[Goes]) -> Result<u64, Failure> {
        let references: Vec<&str> =
            goes.iter().filter_map(|goes| reference(&goes.thing)).map(|(name, _)| name).collect();
        let others = goes.iter().filter(|goes| reference(&goes.thing).is_none());
        Ok(others.map(|goes| goes.bytes).sum::<u64>() + self.project.repository.bytes_only_in(&references)?)
    }
}

/// The reference that a thing is, if it is one.
fn reference(thing: &Thing) -> Option<(&str, &CommitId)> {
    match thing {
        Thing::Kept { reference, commit, .. } | Thing::Snapshots { reference, commit } => Some((reference, commit)),
        Thing::Worker(_) | Thing::Scratch(_) | Thing::Logs(_) => None,
    }
}

/// The view of what can go.
fn goes_view(goes: &Goes) -> CleanedView {
    CleanedView {
        kind: goes.thing.kind().to_owned(),
        subject: goes.thing.subject(),
        bytes: goes.bytes,
        why: goes.why.clone(),
        check: goes.check,
        text: None,
    }
}

/// The view of what stays.
fn stays_view(stays: &Stays) -> StaysView {
    StaysView { kind: stays.thing.kind().to_owned(), subject: stays.thing.subject(), why: stays.why.clone() }
}
