//! Health of workers: what they may use, what they use, and when one that shows nothing is looked after.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Time, serde_duration};

/// Limits of one worker's resources, and what is done about workers that do not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HealthSettings {
    /// A worker that says it works and shows no sign of progress for this long is called stuck; zero is never.
    #[serde(with = "serde_duration")]
    pub(crate) stuck_after: Duration,
    /// How often a coordinator starts a stuck agent again before the ticket fails.
    pub(crate) restarts: u32,
    /// When a worker that ends again and again is left alone.
    pub(crate) crash_loop: CrashLoop,
    /// How long a model is left alone that is busy or over its limits, where its provider does not say.
    pub(crate) pacing: Pacing,
    /// Memory that the processes of one agent may hold; `None` is no limit.
    pub(crate) max_memory: Option<ByteSize>,
    /// Processor time that one attempt may use; `None` is no limit.
    #[serde(with = "serde_duration::option")]
    pub(crate) max_cpu: Option<Duration>,
    /// Processes that one agent may have at once; `None` is no limit.
    pub(crate) max_processes: Option<usize>,
    /// Room on the disk that one worktree may take; `None` is no limit.
    pub(crate) max_disk: Option<ByteSize>,
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self {
            stuck_after: Duration::from_secs(10 * 60),
            restarts: 1,
            crash_loop: CrashLoop::default(),
            pacing: Pacing::default(),
            max_memory: None,
            max_cpu: None,
            max_processes: None,
            max_disk: None,
        }
    }
}

/// How many bad ends within which time are a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CrashLoop {
    /// Ends, from 2; 0 is never.
    pub(crate) count: u32,
    /// Within this time.
    #[serde(with = "serde_duration")]
    pub(crate) within: Duration,
}

impl Default for CrashLoop {
    fn default() -> Self {
        Self { count: 4, within: Duration::from_secs(10 * 60) }
    }
}

/// How long a model is left alone: `first`, then twice as long each time, `max` at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Pacing {
    /// After the first refusal.
    #[serde(with = "serde_duration")]
    pub(crate) first: Duration,
    /// At most.
    #[serde(with = "serde_duration")]
    pub(crate) max: Duration,
}

impl Default for Pacing {
    fn default() -> Self {
        Self { first: Duration::from_secs(30), max: Duration::from_secs(15 * 60) }
    }
}

/// What the processes of one agent used when its supervisor looked last.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Resources {
    /// When it was looked.
    pub(crate) at: Time,
    /// Processor time of this supervisor's agent so far, in milliseconds. What a process used that went to the background
    /// and ended between two looks is missing.
    pub(crate) cpu_ms: u64,
    /// Processor time used since the look before, in percent of one core; absent at the first look.
    pub(crate) cpu_percent: Option<u32>,
    /// Resident memory in bytes; pages that processes share count once for each.
    pub(crate) memory_bytes: u64,
    /// Living processes, the agent's own included.
    pub(crate) process_count: usize,
    /// Bytes that the worktree takes on the disk, ignored files included; absent before it was measured.
    pub(crate) disk_bytes: Option<u64>,
}

/// The last sign that a worker goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sign {
    /// What it was, as a clause: `a tool call ended`.
    pub(crate) what: String,
    /// When it was seen.
    pub(crate) at: Time,
    /// How long before the heartbeat that was, in milliseconds, by a clock that nobody sets and that stands still while the
    /// machine is suspended.
    pub(crate) quiet_ms: u64,
}

impl Sign {
    /// How long the worker had shown nothing at its last heartbeat.
    pub(crate) fn quiet(&self) -> Duration {
        Duration::from_millis(self.quiet_ms)
    }
}

/// A model that wants to be left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Pace {
    /// The model, as agents name it.
    pub(crate) model: String,
    /// What its provider said, as a clause.
    pub(crate) why: String,
    /// When it said so last.
    pub(crate) at: Time,
    /// Nothing new is started for it before this.
    pub(crate) until: Time,
    /// How often it had to say so without a success between.
    pub(crate) strikes: u32,
}

/// A clock that was set back by more than this since a model asked for patience says nothing about how long that was.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

impl Pace {
    /// What follows when the provider of `model` refuses: `before` is what was known of it, `wait` what the provider asks
    /// for. Refusals within the time that is waited anyway, such as those of several workers at once, are one.
    pub(crate) fn after_refusal(
        before: Option<&Self>,
        model: &str,
        why: &str,
        wait: Option<Duration>,
        pacing: Pacing,
        now: Time,
    ) -> Self {
        let strikes = match before {
            Some(before) if before.holds_at(now) => before.strikes,
            // What is long over counts no more.
            Some(before) if before.until.age_at(now) <= pacing.max * 2 => before.strikes.saturating_add(1),
            _ => 1,
        };
        let doubled = pacing.first.saturating_mul(1 << (strikes - 1).min(20)).min(pacing.max);
        let until = now.after(wait.unwrap_or(doubled));
        let until = before.filter(|before| before.holds_at(now)).map_or(until, |before| before.until.max(until));
        Self { model: model.to_owned(), why: why.to_owned(), at: now, until, strikes }
    }

    /// Until when it wants to be left alone and why, as a clause without its subject.
    pub(crate) fn clause(&self) -> String {
        format!("`{}` asks for patience until {} UTC: {}", self.model, self.until.clock(), self.why)
    }

    /// Whether the model is still to be left alone.
    pub(crate) fn holds_at(&self, now: Time) -> bool {
        now < self.until && now.after(CLOCK_TOLERANCE) >= self.at
    }
}

/// How the attempts of a worker ended badly, and what was done when it did not go on. Kept, so that whoever looks after it
/// next goes on counting; gone when an attempt ends well.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Care {
    /// How often it was reminded.
    pub(crate) nudges: u32,
    /// How often it was started again because it was stuck.
    pub(crate) restarts: u32,
    /// It was ended to be started again, and that has not come about yet: the fence of the lease that ended for it. What
    /// the ticket went through since, under another one or to a good end, settles it.
    pub(crate) restart_owed: Option<u64>,
    /// Why it is not started any more, until a person decides otherwise.
    pub(crate) gave_up: Option<String>,
    /// The last bad ends, oldest first.
    pub(crate) ends: Vec<BadEnd>,
}

/// A bad end of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BadEnd {
    /// When.
    pub(crate) at: Time,
    /// The fence of the lease under which it ran.
    pub(crate) fence: u64,
    /// The agent's exit code, where it ended by one.
    pub(crate) exit_code: Option<i32>,
    /// Why, as a clause.
    pub(crate) why: String,
}

/// Bad ends that are kept of one worker.
const ENDS_KEPT: usize = 50;

impl Care {
    /// Takes a bad end in; one that was taken in before, by a coordinator that died since, counts once.
    pub(crate) fn note_end(&mut self, end: BadEnd) {
        self.ends.retain(|known| known.fence != end.fence);
        self.ends.push(end);
        let surplus = self.ends.len().saturating_sub(ENDS_KEPT);
        self.ends.drain(..surplus);
    }
}

/// An amount of data in bytes; written as a number, or as a text with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ByteSize(pub(crate) u64);

/// Units and what they stand for.
const UNITS: [(&str, u64); 12] = [
    ("KIB", 1 << 10),
    ("MIB", 1 << 20),
    ("GIB", 1 << 30),
    ("TIB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("K", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];

impl std::str::FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a size such as `500MB`, `4GB` or `2GiB`");
        let upper = text.trim().to_ascii_uppercase();
        let found = UNITS.iter().find_map(|(unit, bytes)| Some((upper.strip_suffix(unit)?, *bytes)));
        let (number, bytes) = found.unwrap_or((&upper, 1));
        let (whole, part) = number.trim().split_once('.').unwrap_or((number.trim(), ""));
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        if part.len() > 3 || !part.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(wrong());
        }
        let thousandths: u64 = format!("{part:0<3}").parse().map_err(|_| wrong())?;
        let sum = whole.checked_mul(bytes).and_then(|sum| sum.checked_add(bytes / 1_000 * thousandths));
        sum.map(Self).ok_or_else(wrong)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

/// Reads a size from a number or a text.
struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = ByteSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as `500MB` or `4GB`")
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
        Ok(ByteSize(bytes))
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
        u64::try_from(bytes).map(ByteSize).map_err(|_| E::custom("a size cannot be negative"))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_unit() {
        for (text, bytes) in [
            ("17", 17),
            ("500MB", 500_000_000),
            ("4 GB", 4_000_000_000),
            ("1.5g", 1_500_000_000),
            ("2GiB", 2 << 30),
            ("64k", 64_000),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for bad in ["", "GB", "-1", "1.GBx", "4 apples", "99999999999T", "1.x"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
        let read: Option<ByteSize> = serde_json::from_str("\"1KB\"").unwrap();
        assert_eq!(read, Some(ByteSize(1_000)));
    }

    #[test]
    fn a_refusal_waits_as_asked_and_else_twice_as_long_each_time() {
        let pacing = Pacing { first: Duration::from_secs(10), max: Duration::from_secs(35) };
        let at = |seconds: i64| Time::from_millis(seconds * 1_000);
        let refuse = |before: Option<&Pace>, wait: Option<u64>, now| {
            Pace::after_refusal(before, "m", "429", wait.map(Duration::from_secs), pacing, now)
        };
        let first = refuse(None, None, at(0));
        assert_eq!((first.until, first.strikes), (at(10), 1));
        let meanwhile = refuse(Some(&first), None, at(5));
        assert_eq!((meanwhile.until, meanwhile.strikes), (at(15), 1), "several workers at once are one refusal");
        let shorter = refuse(Some(&meanwhile), Some(1), at(6));
        assert_eq!(shorter.until, at(15), "what was asked for stands");
        let second = refuse(Some(&first), None, at(11));
        assert_eq!((second.until, second.strikes), (at(31), 2));
        let third = refuse(Some(&second), None, at(32));
        assert_eq!(third.until, at(67), "at most");
        assert_eq!(refuse(Some(&third), Some(3_600), at(70)).until, at(3_670), "as asked");
        assert_eq!(refuse(Some(&third), None, at(67 + 71)).strikes, 1, "long over");
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_hold_a_model_for_longer() {
        let pace = Pace::after_refusal(None, "m", "429", None, Pacing::default(), Time::from_millis(10_000_000));
        assert!(pace.holds_at(Time::from_millis(10_000_000)) && pace.holds_at(Time::from_millis(9_990_000)));
        assert!(!pace.holds_at(Time::from_millis(10_030_000)) && !pace.holds_at(Time::from_millis(1_000_000)));
    }

    #[test]
    fn settings_survive_the_hand_over() {
        let settings = HealthSettings {
            max_memory: Some(ByteSize(1)),
            max_cpu: Some(Duration::from_millis(1_500)),
            ..HealthSettings::default()
        };
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<HealthSettings>(&text).unwrap(), settings);
    }
}
