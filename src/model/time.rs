//! Moments and durations as they are stored and shown.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment in UTC with millisecond precision; written as RFC 3339, `2026-11-21T10:00:00.123Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Time(i64);

impl Time {
    /// The present by the system clock.
    pub(crate) fn now() -> Self {
        Self(jiff::Timestamp::now().as_millisecond())
    }

    /// A moment by its milliseconds since 1970-01-01 UTC.
    pub(crate) const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub(crate) fn as_millis(self) -> i64 {
        self.0
    }

    /// How long ago this was at `now`; zero when it lies in the future (a clock was set back).
    pub(crate) fn age_at(self, now: Self) -> Duration {
        Duration::from_millis(u64::try_from(now.0.saturating_sub(self.0)).unwrap_or(0))
    }

    /// How long it is until this moment, seen from `now`; zero when it is over.
    pub(crate) fn until_from(self, now: Self) -> Duration {
        now.age_at(self)
    }

    /// This moment plus `duration`.
    pub(crate) fn after(self, duration: Duration) -> Self {
        let later = self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX));
        // What is later cannot be written down.
        Self(later.min(jiff::Timestamp::MAX.as_second() * 1_000))
    }
}

impl Time {
    /// The time of day in UTC, `14:02:05`.
    pub(crate) fn clock(self) -> String {
        self.to_string().get(11..19).unwrap_or_default().to_owned()
    }
}

impl From<SystemTime> for Time {
    fn from(at: SystemTime) -> Self {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(at.duration_since(UNIX_EPOCH).map_or_else(|before| -millis(before.duration()), millis))
    }
}

impl From<Time> for SystemTime {
    fn from(at: Time) -> Self {
        let distance = Duration::from_millis(at.0.unsigned_abs());
        let moment = if at.0 < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
        moment.unwrap_or(UNIX_EPOCH)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(timestamp) => write!(f, "{timestamp:.3}"),
            Err(_) => write!(f, "@{}", self.0),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let timestamp: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Self(timestamp.as_millisecond()))
    }
}

impl schemars::JsonSchema for Time {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "date-time"})
    }
}

/// Reads a duration such as `90s`, `30m` or `1h 30m`; units from milliseconds to days.
///
/// # Errors
/// A sentence for a person when the text is no duration or is negative.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let explain = || format!("`{text}` is not a duration such as `90s`, `30m` or `2h`");
    // A bare number has no unit; `jiff` refuses days in a signed duration, so they are spelled as hours.
    let hours = match text.trim().strip_suffix('d') {
        Some(days) => format!("{}h", days.trim().parse::<u64>().map_err(|_| explain())?.saturating_mul(24)),
        None => text.trim().to_owned(),
    };
    let signed: jiff::SignedDuration = hours.parse().map_err(|_| explain())?;
    Duration::try_from(signed).map_err(|_| explain())
}

/// Reads a moment: RFC 3339 (`2026-11-21T10:00:00Z`), a day (`2026-11-21`, its beginning in UTC), or a duration such as
/// `2h`, which means that long before `now`.
///
/// # Errors
/// A sentence for a person when the text is none of them.
pub(crate) fn parse_moment(text: &str, now: Time) -> Result<Time, String> {
    let text = text.trim();
    if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
        return Ok(Time(timestamp.as_millisecond()));
    }
    if let Ok(day) = text.parse::<jiff::civil::Date>()
        && let Ok(start) = day.to_zoned(jiff::tz::TimeZone::UTC)
    {
        return Ok(Time(start.timestamp().as_millisecond()));
    }
    let ago = parse_duration(text).map_err(|_| {
        format!("`{text}` is neither a moment such as `2026-11-21T10:00:00Z`, a day, nor a duration such as `2h`")
    })?;
    Ok(Time(now.0.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX))))
}

/// A duration in at most two units, for a person: `850ms`, `12s`, `3m 5s`, `2h 10m`, `4d 3h`.
pub(crate) fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let pair = |big: u64, big_unit: &str, small: u64, small_unit: &str| {
        if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit} {small}{small_unit}") }
    };
    match seconds {
        0 if duration.as_millis() > 0 => format!("{}ms", duration.as_millis()),
        0..60 => format!("{seconds}s"),
        60..3_600 => pair(seconds / 60, "m", seconds % 60, "s"),
        3_600..86_400 => pair(seconds / 3_600, "h", seconds % 3_600 / 60, "m"),
        _ => pair(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// An age in its largest unit, for tables; `now` below a second.
pub(crate) fn short_age(age: Duration) -> String {
    if age < Duration::from_secs(1) {
        return "now".to_owned();
    }
    duration_text(age).split(' ').next().unwrap_or_default().to_owned()
}

/// An age in a sentence: `3m 5s ago`, or `just now` below a second.
pub(crate) fn ago_text(age: Duration) -> String {
    if age < Duration::from_secs(1) { "just now".to_owned() } else { format!("{} ago", duration_text(age)) }
}

/// Serde of a [`Duration`] as the text of [`parse_duration`]; use with `#[serde(with = "serde_duration")]`.
pub(crate) mod serde_duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the duration in its short text form.
    pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}ms", duration.as_millis()))
    }

    /// Reads the text form.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse_duration(&text).map_err(serde::de::Error::custom)
    }

    /// The same for an optional duration.
    pub(crate) mod option {
        use std::time::Duration;

        use serde::{Deserialize, Deserializer, Serializer};

        /// Writes the text form, or null.
        #[expect(clippy::ref_option, reason = "serde's `with` passes the field by reference")]
        pub(crate) fn serialize<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
            match value {
                Some(duration) => super::serialize(duration, serializer),
                None => serializer.serialize_none(),
            }
        }

        /// Reads the text form or null.
        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
            let text = Option::<String>::deserialize(deserializer)?;
            text.map(|text| super::super::parse_duration(&text)).transpose().map_err(serde::de::Error::custom)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_rfc3339_with_milliseconds() {
        let time = Time::from_millis(1_763_719_200_123);
        let text = serde_json::to_string(&time).unwrap();
        assert_eq!(text, "\"2025-11-21T10:00:00.123Z\"");
        assert_eq!(serde_json::from_str::<Time>(&text).unwrap(), time);
    }

    #[test]
    fn the_latest_moment_can_be_written_down_and_read() {
        let latest = Time::now().after(Duration::MAX);
        let text = serde_json::to_string(&latest).unwrap();
        assert_eq!(serde_json::from_str::<Time>(&text).unwrap(), latest, "{text}");
    }

    #[test]
    fn durations_are_read_and_shown() {
        for (text, seconds) in [("90s", 90), ("30m", 1_800), ("1h 30m", 5_400), ("2d", 172_800), ("0s", 0)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "5", "-3s", "soon", "d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert_eq!(duration_text(Duration::from_secs(7_800)), "2h 10m");
        assert_eq!(duration_text(Duration::from_millis(850)), "850ms");
        assert_eq!(duration_text(Duration::from_secs(60)), "1m");
    }

    #[test]
    fn what_is_younger_than_a_second_is_now() {
        let ages = [0, 128, 1_000, 185_000].map(Duration::from_millis);
        assert_eq!(ages.map(short_age), ["now", "now", "1s", "3m"]);
        assert_eq!(ages.map(ago_text), ["just now", "just now", "1s ago", "3m 5s ago"]);
    }

    #[test]
    fn a_moment_is_given_as_such_as_a_day_or_as_an_age() {
        let now = Time::from_millis(1_763_719_200_123);
        let read = |text| parse_moment(text, now).map(|moment| moment.to_string());
        assert_eq!(read("2025-11-21T10:00:00Z").as_deref(), Ok("2025-11-21T10:00:00.000Z"));
        assert_eq!(read("2025-11-21T12:00:00+02:00").as_deref(), Ok("2025-11-21T10:00:00.000Z"));
        assert_eq!(read(" 2025-11-21 ").as_deref(), Ok("2025-11-21T00:00:00.000Z"));
        assert_eq!(read("1h").as_deref(), Ok("2025-11-21T09:00:00.123Z"));
        for bad in ["", "soon", "2025-13-01", "12"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_age_is_never_negative() {
        let now = Time::from_millis(1_000);
        assert_eq!(Time::from_millis(5_000).age_at(now), Duration::ZERO);
        assert_eq!(Time::from_millis(400).age_at(now), Duration::from_millis(600));
    }
}
