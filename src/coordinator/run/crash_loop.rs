//! A worker that ends badly again and again is not started for ever.

use std::time::Duration;

use crate::model::health::{Care, CrashLoop};
use crate::model::{Time, duration_text};

/// The longest pause between two starts of a worker that keeps ending badly.
const LONGEST: Duration = Duration::from_secs(60);

/// What the bad ends of a worker say about starting it once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Again {
    /// Nothing speaks against it.
    Now,
    /// Not before this.
    At(Time),
    /// It is a loop; why, as a sentence without its full stop.
    Never(String),
}

/// Judges the bad ends of a worker. An end that seems to lie in the future, because a clock was set back, is a recent one.
pub(crate) fn judge(care: &Care, rule: CrashLoop, now: Time) -> Again {
    let recent: Vec<_> = care.ends.iter().filter(|end| end.at.age_at(now) <= rule.within).collect();
    let Some(last) = recent.last() else { return Again::Now };
    if rule.count > 0 && recent.len() >= usize::try_from(rule.count).unwrap_or(usize::MAX) {
        let (count, within) = (recent.len(), duration_text(rule.within));
        return Again::Never(format!("it ended badly {count} times within {within}; the last time: {}", last.why));
    }
    // The first one may be chance.
    let Some(doublings) = recent.len().checked_sub(2) else { return Again::Now };
    let doublings = u32::try_from(doublings).unwrap_or(u32::MAX).min(6);
    let pause = Duration::from_secs(1 << doublings).min(LONGEST);
    let due = last.at.after(pause);
    // Of one in the future nobody knows how long ago it was; the next one will tell.
    if last.at <= now && due > now { Again::At(due) } else { Again::Now }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::health::BadEnd;

    fn at(seconds: i64) -> Time {
        Time::from_millis(seconds * 1_000)
    }

    fn care(ends: &[i64]) -> Care {
        let end = |seconds: &i64| BadEnd {
            at: at(*seconds),
            fence: 0,
            exit_code: Some(7),
            why: format!("code 7 at {seconds}"),
        };
        Care { ends: ends.iter().map(end).collect(), ..Care::default() }
    }

    #[test]
    fn starts_come_further_apart_and_end_with_the_loop() {
        let rule = CrashLoop { count: 4, within: Duration::from_secs(600) };
        assert_eq!(judge(&care(&[]), rule, at(0)), Again::Now);
        assert_eq!(judge(&care(&[100]), rule, at(100)), Again::Now, "once may be chance");
        assert_eq!(judge(&care(&[100, 102]), rule, at(102)), Again::At(at(103)));
        assert_eq!(judge(&care(&[100, 102, 105]), rule, at(106)), Again::At(at(107)));
        assert_eq!(judge(&care(&[100, 102, 105]), rule, at(107)), Again::Now);
        let why = "it ended badly 4 times within 10m; the last time: code 7 at 110".to_owned();
        assert_eq!(judge(&care(&[100, 102, 105, 110]), rule, at(111)), Again::Never(why));
        assert_eq!(judge(&care(&[100, 102, 105, 110]), rule, at(701)), Again::Now, "the first ones are long ago");
        let never = CrashLoop { count: 0, ..rule };
        assert_ne!(judge(&care(&[1; 40]), never, at(10)), Again::Now, "never a loop, and still a pause");
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_pause_longer() {
        let rule = CrashLoop::default();
        assert_eq!(judge(&care(&[8_000, 9_000]), rule, at(100)), Again::Now);
        assert_eq!(judge(&care(&[8_000, 9_000, 100]), rule, at(100)), Again::At(at(102)));
    }
}
