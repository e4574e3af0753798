//! The clock that counts where several machines share a queue: the server's. Leases are given and end by it, so that a
//! machine whose clock differs neither ends the leases of others nor keeps its own for longer than it said.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::model::Time;

/// How long a reading counts.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// By how much the machine's clock and the time that passed may differ until somebody set that clock, or the machine slept.
const JUMP: i64 = 1_000;

/// How this machine's clock stands to the server's.
#[derive(Debug, Default)]
pub(super) struct Clock(Mutex<Option<Reading>>);

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy)]
struct Reading {
    /// Milliseconds that the server's clock is ahead.
    ahead: i64,
    /// This machine's.
    local: Time,
    /// The same by a clock that nobody sets.
    at: Instant,
}

impl Reading {
    /// Whether it still counts.
    fn is_good(&self, local: Time, at: Instant) -> bool {
        let passed = at.saturating_duration_since(self.at);
        let by_clock = local.as_millis() - self.local.as_millis();
        let by_time = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
        passed < READ_AGAIN_AFTER && (by_clock - by_time).abs() < JUMP
    }
}

impl Clock {
    /// What the server's clock says at a moment that is `local` by this machine's. `ask` asks the server for its time, where
    /// the last reading does not count any more; nothing takes the place of its answer.
    pub(super) fn by_server<E>(&self, local: Time, ask: impl FnOnce() -> Result<Time, E>) -> Result<Time, E> {
        let known = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = match known.filter(|known| known.is_good(Time::now(), Instant::now())) {
            Some(known) => known,
            None => read(ask)?,
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reading);
        Ok(Time::from_millis(local.as_millis() + reading.ahead))
    }
}

/// Asks the server: its answer is from the middle of the time that it took.
fn read<E>(ask: impl FnOnce() -> Result<Time, E>) -> Result<Reading, E> {
    let (before, began) = (Time::now(), Instant::now());
    let server = ask()?;
    let at = Instant::now();
    let local = before.after(at.duration_since(began));
    // Half of the time that it took: the server's clock was read somewhere in between.
    let asked = before.after(at.duration_since(began) / 2);
    Ok(Reading { ahead: server.as_millis() - asked.as_millis(), local, at })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This machine's clock, so far off.
    fn off(by: i64) -> Time {
        Time::from_millis(Time::now().as_millis() + by)
    }

    /// How far the server's clock is ahead by a clock that asks one that is `server` ahead; `None` where that is away.
    fn ahead(clock: &Clock, server: Option<i64>) -> Option<i64> {
        clock.by_server(Time::from_millis(0), || server.map(off).ok_or(())).ok().map(Time::as_millis)
    }

    #[test]
    fn times_are_the_servers_and_are_read_now_and_then() {
        let clock = Clock::default();
        assert_eq!(ahead(&clock, None), None, "this machine's clock is no answer");
        let first = ahead(&clock, Some(-300_000)).unwrap();
        assert!((first + 300_000).abs() < 50, "{first}");
        assert_eq!([ahead(&clock, Some(7)), ahead(&clock, None)], [Some(first); 2], "a reading counts for a while");
    }

    #[test]
    fn a_reading_is_over_with_time_and_when_the_machines_clock_was_set() {
        let (local, at) = (Time::now(), Instant::now());
        let reading = Reading { ahead: 5, local, at };
        let later = |clock: u64, time: u64| {
            reading.is_good(local.after(Duration::from_secs(clock)), at + Duration::from_secs(time))
        };
        assert!(later(0, 0) && later(59, 59));
        assert!(!later(60, 60), "it is old");
        assert!(!later(30, 3) && !later(3, 30), "somebody set the clock, or the machine slept");
        assert!(!reading.is_good(Time::from_millis(local.as_millis() - 2_000), at), "back, too");
    }

    #[test]
    fn a_reading_from_before_somebody_set_the_clock_counts_no_more() {
        let (local, at) = (off(-90_000), Instant::now());
        let clock = Clock(Mutex::new(Some(Reading { ahead: 5_000, local, at })));
        assert_eq!(ahead(&clock, None), None);
        let now = ahead(&clock, Some(1_000)).unwrap();
        assert!((now - 1_000).abs() < 50, "{now}");
    }
}
