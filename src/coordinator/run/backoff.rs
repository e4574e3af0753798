//! How long a ticket waits between attempts. Computed from what the queue recorded, so that it survives the coordinator.

use crate::model::Time;
use crate::model::settings::Backoff;

/// When a ticket that failed at `failed_at` for the `count`th time may be tried again; `None` when it may at `now`.
///
/// A failure in the future was recorded before the clock was set back, and nobody knows how long ago it was: it waits no
/// longer.
pub(crate) fn due(failed_at: Time, count: u32, backoff: &Backoff, now: Time) -> Option<Time> {
    let due = failed_at.after(backoff.wait_after(count));
    (failed_at <= now && due > now).then_some(due)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RULE: Backoff = Backoff { first: Duration::from_secs(10), factor: 2, max: Duration::from_secs(60) };

    #[test]
    fn each_wait_is_longer_up_to_the_longest() {
        let waits: Vec<_> = (1..6).map(|count| RULE.wait_after(count).as_secs()).collect();
        assert_eq!(waits, [10, 20, 40, 60, 60]);
        assert_eq!(RULE.wait_after(u32::MAX), RULE.max);
        let flat = Backoff { factor: 1, ..RULE };
        assert_eq!(flat.wait_after(9), RULE.first);
    }

    #[test]
    fn a_ticket_is_due_when_its_wait_is_over_and_a_clock_set_back_delays_nothing() {
        let at = |seconds: i64| Time::from_millis(seconds * 1_000);
        assert_eq!(due(at(100), 1, &RULE, at(100)), Some(at(110)));
        assert_eq!(due(at(100), 2, &RULE, at(119)), Some(at(120)));
        assert_eq!(due(at(100), 1, &RULE, at(110)), None);
        assert_eq!(due(at(100), 1, &RULE, at(50)), None, "the clock was set back");
    }
}
