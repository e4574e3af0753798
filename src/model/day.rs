//! Days that budgets are counted by: local ones, and not as many as a clock that jumps would make of them.
//!
//! The system clock alone decides nothing. Each look at it is compared with the time that the machine has run since the
//! look before (which counts suspension, and which nobody can set). Where they agree, the day is the clock's. Where the
//! clock jumped, the day goes on until its own midnight by the time that really passed; then the clock is believed
//! again, so that a clock that was put right is wrong for one day at most. Over a restart of the machine nothing is
//! known of the time between: a clock that went on is believed, one that went back is not.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// How far clock and running time may differ without the clock having jumped: corrections of a network's time are
/// smaller, and a budget that is two minutes early harms nobody.
const TOLERANCE: Duration = Duration::from_secs(120);

/// A local day, written `2026-11-21`; in order of time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct Day(String);

impl Day {
    /// The day of a moment in a time zone.
    fn of(at: Time, zone: &TimeZone) -> Self {
        let moment = Timestamp::from_millisecond(at.as_millis()).unwrap_or(Timestamp::UNIX_EPOCH);
        Self(moment.to_zoned(zone.clone()).date().to_string())
    }

    /// Reads a day as it is written.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::civil::Date>().ok().map(|date| Self(date.to_string()))
    }

    /// The day that many days before this one.
    pub(crate) fn before(&self, days: u32) -> Self {
        let date = self.0.parse::<jiff::civil::Date>().ok();
        let earlier = date.and_then(|date| date.checked_sub(jiff::Span::new().days(i64::from(days.min(36_500)))).ok());
        earlier.map_or_else(|| self.clone(), |date| Self(date.to_string()))
    }

    /// The day after this one.
    pub(crate) fn next(&self) -> Self {
        let next = self.0.parse::<jiff::civil::Date>().and_then(|date| date.tomorrow());
        next.map_or_else(|_| self.clone(), |date| Self(date.to_string()))
    }

    /// The day as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// A day that the store holds.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The file with the time zone of a machine (localtime(5)).
const LOCALTIME: &str = "/etc/localtime";

/// The time zone of this process, where `TZ` names one, else of this machine; UTC where nobody set one (tzset(3)).
///
/// To find a zone by its name the library lists all there are, in thousands of allocations that it keeps: too much for
/// hundreds of supervisors at once. The machine's own needs no name.
pub(crate) fn local_zone() -> TimeZone {
    if std::env::var_os("TZ").is_some() {
        return TimeZone::system();
    }
    let file = std::fs::read(LOCALTIME).ok();
    file.and_then(|data| TimeZone::tzif("Local", &data).ok()).unwrap_or(TimeZone::UTC)
}

/// A moment for a person, in the time zone of this machine: `2026-11-22 00:00`.
pub(crate) fn local_text(at: Time) -> String {
    let moment = Timestamp::from_millisecond(at.as_millis()).unwrap_or(Timestamp::UNIX_EPOCH);
    moment.to_zoned(local_zone()).strftime("%Y-%m-%d %H:%M").to_string()
}

/// What the clocks of the machine say at one moment.
#[derive(Debug, Clone)]
pub(crate) struct ClockReading {
    /// The system clock.
    pub(crate) wall: Time,
    /// Which start of the machine `since_boot` counts from.
    pub(crate) boot_id: String,
    /// How long the machine has run, suspension included.
    pub(crate) since_boot: Duration,
    /// Whose midnight a day ends at.
    pub(crate) zone: TimeZone,
}

/// The time that days are counted by, as of the last look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DayClock {
    /// The time that is believed.
    believed: Time,
    /// The start of the machine.
    boot_id: String,
    /// How long the machine had run, in milliseconds.
    since_boot_ms: u64,
}

/// What a look at the clocks comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Today {
    /// The day that is spent on.
    pub(crate) day: Day,
    /// What a person should know where the clock says another one.
    pub(crate) jump: Option<String>,
    /// When the next day begins, by the system clock.
    pub(crate) ends_at: Time,
}

impl DayClock {
    /// Looks at the clocks: the state for the next look, and the day.
    pub(crate) fn look(before: Option<&Self>, now: &ClockReading) -> (Self, Today) {
        let believed = before.map_or(now.wall, |before| before.believed_at(now));
        let day = Day::of(believed, &now.zone);
        let on_clock = Day::of(now.wall, &now.zone);
        let jump = (day != on_clock && apart(believed, now.wall) > TOLERANCE).then(|| {
            format!("the clock says {on_clock}, but it jumped: the budget of {day} goes on until that day is over")
        });
        let since_boot_ms = millis(now.since_boot);
        let left = Duration::from_millis(
            u64::try_from(midnight_after(believed, &now.zone) - believed.as_millis()).unwrap_or(0),
        );
        let today = Today { day, jump, ends_at: now.wall.after(left) };
        (Self { believed, boot_id: now.boot_id.clone(), since_boot_ms }, today)
    }

    /// What time it is, as far as that can be believed.
    fn believed_at(&self, now: &ClockReading) -> Time {
        if self.boot_id != now.boot_id {
            // Nobody knows how long the machine was off. A clock that went back gives no day twice.
            return if apart(self.believed, now.wall) <= TOLERANCE || now.wall >= self.believed {
                now.wall
            } else {
                self.going_on(now.since_boot, now)
            };
        }
        let passed = Duration::from_millis(millis(now.since_boot).saturating_sub(self.since_boot_ms));
        if apart(self.believed.after(passed), now.wall) <= TOLERANCE {
            return now.wall;
        }
        self.going_on(passed, now)
    }

    /// The time that was believed and `passed` since; the clock's own when a midnight is between them.
    fn going_on(&self, passed: Duration, now: &ClockReading) -> Time {
        let believed = self.believed.after(passed);
        if believed.as_millis() >= midnight_after(self.believed, &now.zone) { now.wall } else { believed }
    }
}

/// The next midnight after a moment, in milliseconds since 1970.
fn midnight_after(at: Time, zone: &TimeZone) -> i64 {
    let moment = Timestamp::from_millisecond(at.as_millis()).unwrap_or(Timestamp::UNIX_EPOCH);
    let next = moment.to_zoned(zone.clone()).tomorrow().and_then(|tomorrow| tomorrow.start_of_day());
    next.map_or(i64::MAX, |midnight| midnight.timestamp().as_millisecond())
}

/// How far two moments are apart.
fn apart(one: Time, other: Time) -> Duration {
    one.age_at(other).max(other.age_at(one))
}

/// Milliseconds of a duration.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A machine whose clocks a test sets: hours of the first day by the system clock, and hours it has run.
    pub(crate) fn reading(boot: &str, wall_hours: f64, boot_hours: f64) -> ClockReading {
        const FIRST: i64 = 1_795_219_200_000;
        let hours = Duration::from_secs_f64(boot_hours * 3600.0);
        let wall = Time::from_millis(FIRST + (wall_hours * 3_600_000.0) as i64);
        ClockReading { wall, boot_id: boot.to_owned(), since_boot: hours, zone: TimeZone::UTC }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::reading;
    use super::*;

    /// The days that looks at these clocks give: boot, hours by the clock, hours the machine has run.
    fn days(looks: &[(&str, f64, f64)]) -> Vec<(String, bool)> {
        let mut clock = None;
        let look = |(boot, wall, run): &(&str, f64, f64)| {
            let (next, today) = DayClock::look(clock.as_ref(), &reading(boot, *wall, *run));
            clock = Some(next);
            (today.day.as_str()[8..].to_owned(), today.jump.is_some())
        };
        looks.iter().map(look).collect()
    }

    fn shown(days: &[(String, bool)]) -> String {
        let word = |(day, jump): &(String, bool)| format!("{day}{}", if *jump { "!" } else { "" });
        days.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn days_follow_a_clock_that_runs_as_it_should() {
        assert_eq!(
            shown(&days(&[("a", 1.0, 0.0), ("a", 23.9, 22.9), ("a", 24.1, 23.1), ("a", 73.0, 72.0)])),
            "21 21 22 24"
        );
    }

    #[test]
    fn a_clock_that_jumps_ahead_gives_no_new_day_before_midnight_has_really_come() {
        let looks = [("a", 10.0, 0.0), ("a", 34.5, 0.5), ("a", 40.0, 6.0), ("a", 48.5, 14.5), ("a", 49.0, 15.0)];
        assert_eq!(shown(&days(&looks)), "21 21! 21! 23 23");
    }

    #[test]
    fn a_clock_that_is_set_back_gives_no_day_twice() {
        let looks = [("a", 25.0, 0.0), ("a", 2.0, 1.0), ("a", 3.0, 2.0)];
        assert_eq!(shown(&days(&looks)), "22 22! 22!");
        // Over a restart as well; what ran since then counts.
        let looks = [("a", 25.0, 5.0), ("b", 2.0, 0.1), ("b", 3.0, 1.1), ("b", 26.0, 24.1)];
        assert_eq!(shown(&days(&looks)), "22 22! 22! 22");
    }

    #[test]
    fn a_machine_that_was_off_or_asleep_finds_a_new_day() {
        assert_eq!(shown(&days(&[("a", 20.0, 5.0), ("b", 30.0, 0.1)])), "21 22");
        assert_eq!(shown(&days(&[("a", 20.0, 5.0), ("a", 30.0, 15.0)])), "21 22");
    }

    #[test]
    fn a_clock_that_was_wrong_at_first_is_believed_after_a_day() {
        // Begun at 1970 or a year ahead, then put right.
        let looks = [("a", 24.0 * 300.0 + 12.0, 0.0), ("a", 12.1, 0.1), ("a", 24.2, 12.2), ("a", 30.0, 18.0)];
        let days = days(&looks);
        assert_eq!(days[1], (days[0].0.clone(), true));
        assert_eq!(shown(&days[2..]), "22 22");
    }

    #[test]
    fn a_days_end_is_told_by_the_clock_people_see() {
        let (clock, _) = DayClock::look(None, &reading("a", 22.0, 0.0));
        let (_, today) = DayClock::look(Some(&clock), &reading("a", 30.0, 1.0));
        assert_eq!(today.ends_at, reading("a", 31.0, 1.0).wall);
    }

    #[test]
    fn days_are_read_and_counted_back() {
        let day = Day::parse("2026-03-01").unwrap();
        assert_eq!(day.before(1).as_str(), "2026-02-28");
        assert_eq!(day.before(1).next(), day);
        assert_eq!(Day::parse("yesterday"), None);
    }
}
