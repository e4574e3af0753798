//! What is done about a worker that works and shows no sign of progress.
//!
//! Silence proves nothing, so the steps are mild and far apart: a reminder at the next turn boundary, where the agent can
//! take one; after as much time again, a new start in the same worktree and conversation; and when those are used up, the
//! attempt fails with its work kept. Each step is counted in the worker's [`Care`] before it is taken, so that a
//! coordinator that dies in the middle leaves its successor with the right count.

use std::time::Duration;

use crate::model::duration_text;
use crate::model::health::{Care, HealthSettings, Sign};
use crate::model::worker::Status;

/// What the agent of a stuck worker is told.
pub(crate) const NUDGE: &str = "Nothing was seen of you for a while. If something blocks you, say what it is in one sentence \
                                and end your turn; else go on with the ticket.";

/// What is to be done about one worker now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StuckStep {
    /// Nothing; when it says nothing more, it is to be looked at again after this time.
    Wait(Duration),
    /// Remind it.
    Nudge,
    /// End its agent and start it again.
    Restart {
        /// Why, as a clause.
        why: String,
    },
    /// End the attempt as failed.
    Fail {
        /// Why, as a sentence without its full stop.
        why: String,
    },
}

/// Decides about one worker. `sign` is the last sign of progress as of its last heartbeat; only a supervisor's own clock
/// counts, so that a clock that jumps or a machine that slept makes nobody stuck. `None` where there is nothing to decide.
pub(crate) fn decide(status: Status, sign: &Sign, care: &Care, health: &HealthSettings) -> Option<StuckStep> {
    if health.stuck_after.is_zero() || status != Status::Working {
        return None;
    }
    let quiet = sign.quiet();
    let patience = health.stuck_after.saturating_mul(2);
    if quiet < health.stuck_after {
        return Some(StuckStep::Wait(health.stuck_after - quiet));
    }
    if care.nudges <= care.restarts {
        return Some(StuckStep::Nudge);
    }
    if quiet < patience {
        return Some(StuckStep::Wait(patience - quiet));
    }
    let silence = format!("it showed no sign of progress for {} (the last: {})", duration_text(quiet), sign.what);
    if care.restarts < health.restarts {
        return Some(StuckStep::Restart { why: silence });
    }
    let tries = match care.restarts {
        0 => String::new(),
        1 => " after it had been started again once".to_owned(),
        count => format!(" after it had been started again {count} times"),
    };
    Some(StuckStep::Fail { why: format!("{silence}{tries}") })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Time;

    const MINUTE: Duration = Duration::from_secs(60);

    fn quiet(minutes: u64) -> Sign {
        Sign { what: "a tool call ended".to_owned(), at: Time::from_millis(0), quiet_ms: minutes * 60_000 }
    }

    fn care(nudges: u32, restarts: u32) -> Care {
        Care { nudges, restarts, ..Care::default() }
    }

    #[test]
    fn a_reminder_then_a_new_start_then_the_end() {
        let health = HealthSettings::default();
        let step = |minutes, care: &Care| decide(Status::Working, &quiet(minutes), care, &health).unwrap();
        assert_eq!(step(4, &care(0, 0)), StuckStep::Wait(6 * MINUTE));
        assert_eq!(step(10, &care(0, 0)), StuckStep::Nudge);
        assert_eq!(step(12, &care(1, 0)), StuckStep::Wait(8 * MINUTE), "one reminder is enough");
        let why = "it showed no sign of progress for 20m (the last: a tool call ended)".to_owned();
        assert_eq!(step(20, &care(1, 0)), StuckStep::Restart { why: why.clone() });
        assert_eq!(step(10, &care(1, 1)), StuckStep::Nudge, "the agent that was started anew");
        let failed = StuckStep::Fail { why: format!("{why} after it had been started again once") };
        assert_eq!(step(20, &care(2, 1)), failed);
    }

    #[test]
    fn only_who_works_is_stuck_and_only_where_that_is_wanted() {
        let health = HealthSettings::default();
        for status in Status::ALL.into_iter().filter(|status| *status != Status::Working) {
            assert_eq!(decide(status, &quiet(1_000), &care(0, 0), &health), None, "{status:?}");
        }
        let never = HealthSettings { stuck_after: Duration::ZERO, ..health };
        assert_eq!(decide(Status::Working, &quiet(1_000), &care(0, 0), &never), None);
    }

    proptest! {
        #[test]
        fn whoever_counts_on_comes_to_an_end(restarts in 0_u32..4, lives in 1_usize..6) {
            // However often the coordinator changes, only what is written down counts.
            let health = HealthSettings { restarts, ..HealthSettings::default() };
            let mut care = Care::default();
            let (mut minutes, mut steps) = (0, Vec::new());
            loop {
                prop_assert!(steps.len() < 3 * (restarts as usize + 1) + lives);
                match decide(Status::Working, &quiet(minutes), &care, &health).unwrap() {
                    StuckStep::Wait(time) => minutes += time.as_secs() / 60,
                    StuckStep::Nudge => { care.nudges += 1; steps.push("nudge") }
                    StuckStep::Restart { .. } => { care.restarts += 1; minutes = 0; steps.push("restart") }
                    StuckStep::Fail { .. } => break,
                }
            }
            prop_assert_eq!(steps.iter().filter(|step| **step == "restart").count(), restarts as usize);
            prop_assert_eq!(steps.iter().filter(|step| **step == "nudge").count(), restarts as usize + 1);
        }
    }
}
