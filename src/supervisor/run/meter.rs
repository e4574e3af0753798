//! What the worker uses, and the signs that it goes on.
//!
//! Looking must stay cheap when hundreds of workers idle: the process tree is read by its own links every few seconds, and
//! less often while nothing in it moves; the worktree is walked only along with a snapshot, when processor time was used
//! since the last walk, and never for more than a small part of the time.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::{RULE_LINES, Supervision};
use crate::agent::AgentEvent;
use crate::model::event::SwarmEvent;
use crate::model::health::{HealthSettings, Resources, Sign};
use crate::model::worker::{Changes, Status};
use crate::model::{Time, duration_text, size_text};
use crate::process::{self, TreeUse};
use crate::supervisor::machine::Mode;

/// How often the tree is looked at while it works.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The same when nothing in it has moved for a while.
const LOOK_AT_REST: Duration = Duration::from_secs(20);
/// A worktree is walked at most this often.
const WALK_EVERY: Duration = Duration::from_secs(10);
/// Walking takes at most one part in this many of the time.
const WALK_SHARE: u32 = 50;
/// Share of one core, in percent, from which the use of the processor by what an agent started is a sign of progress.
const BUSY: u32 = 1;
/// The same for an agent's own process that has a person's terminal: drawing a spinner took 2-8 % (Claude Code 2.1).
const BUSY_FACE: u32 = 20;

/// What is measured of processes and disk, and the last sign of progress.
pub(super) struct Meter {
    /// The limits.
    settings: HealthSettings,
    /// When the tree is looked at next.
    next: Instant,
    /// How long after the last look that is.
    every: Duration,
    /// The last look.
    last: Option<(Instant, TreeUse)>,
    /// Processor time of processes that are not in the last look any more.
    ended_cpu: Duration,
    /// What was made of it.
    resources: Option<Resources>,
    /// There is something new that the limits were not held against.
    is_fresh: bool,
    /// The worktree.
    disk: Disk,
    /// The last sign of progress, and when it was seen.
    sign: (Instant, Time, String),
    /// Its model asked for patience, and has not answered since.
    is_paced: bool,
    /// When its model was asked last; `None` where that is not known.
    asked_at: Option<Time>,
    /// The screen says that the model asks for patience.
    shows_patience: bool,
    /// That it is stuck was written down.
    is_told: bool,
    /// The letters that were on the screen.
    letters: u64,
}

/// The room that a worktree takes.
#[derive(Debug, Clone, Copy, Default)]
struct Disk {
    /// In bytes.
    bytes: Option<u64>,
    /// When the last walk ended, and how long it took.
    walked: Option<(Instant, Duration)>,
    /// Processor time of the tree then.
    cpu: Duration,
    /// A walk is under way.
    is_running: bool,
}

/// A walk through a worktree.
pub(super) struct Walk {
    /// Bytes on the disk.
    bytes: u64,
    /// How long it took.
    took: Duration,
    /// Processor time of the tree when it began.
    cpu: Duration,
}

impl Walk {
    /// Walks through a worktree.
    pub(super) fn through(worktree: &Path, cpu: Duration) -> Self {
        let began = Instant::now();
        let bytes = crate::files::disk_bytes(worktree);
        Self { bytes, took: began.elapsed(), cpu }
    }
}

impl Meter {
    /// A meter that looks soon.
    pub(super) fn new(settings: HealthSettings, now: Instant) -> Self {
        Self {
            settings,
            next: now + Duration::from_secs(1),
            every: LOOK_EVERY,
            last: None,
            ended_cpu: Duration::ZERO,
            resources: None,
            is_fresh: false,
            disk: Disk::default(),
            sign: (now, Time::now(), "it was started".to_owned()),
            is_paced: false,
            asked_at: None,
            shows_patience: false,
            is_told: false,
            letters: 0,
        }
    }

    /// Notes a sign of progress.
    pub(super) fn note(&mut self, what: &str) {
        self.sign.0 = Instant::now();
        self.sign.1 = Time::now();
        if self.sign.2 != what {
            what.clone_into(&mut self.sign.2);
        }
        self.is_told = false;
    }

    /// The last sign of progress as the live file has it.
    pub(super) fn sign(&self) -> Sign {
        let quiet = u64::try_from(self.sign.0.elapsed().as_millis()).unwrap_or(u64::MAX);
        Sign { what: self.sign.2.clone(), at: self.sign.1, quiet_ms: quiet }
    }

    /// How long there was no sign of progress, where that is long enough to be called stuck.
    pub(super) fn stuck_for(&self) -> Option<Duration> {
        let quiet = self.sign.0.elapsed();
        (!self.settings.stuck_after.is_zero() && quiet >= self.settings.stuck_after).then_some(quiet)
    }

    /// What was used, as far as it is known.
    pub(super) fn resources(&self) -> Option<Resources> {
        self.resources.map(|resources| Resources { disk_bytes: self.disk.bytes, ..resources })
    }

    /// Takes whether the screen says that the model asks for patience; whether that is new.
    pub(super) fn shows_patience(&mut self, shows: bool) -> bool {
        !std::mem::replace(&mut self.shows_patience, shows) && shows
    }

    /// Takes a look at the tree.
    fn take(&mut self, seen: TreeUse, now: Instant) -> Used {
        let before = self.last.replace((now, seen.clone()));
        let (then, old) = before.unwrap_or((now, TreeUse::default()));
        // What ended without being collected by its parent takes its time along.
        self.ended_cpu += old.cpu.saturating_sub(seen.cpu);
        let elapsed = now.duration_since(then);
        let percent = |used: Duration| match elapsed.as_millis() {
            0 => None,
            millis => u32::try_from(used.as_millis() * 100 / millis).ok(),
        };
        let (own, all) = (seen.own_cpu.saturating_sub(old.own_cpu), seen.cpu.saturating_sub(old.cpu));
        let used = Used { own: percent(own).unwrap_or(0), others: percent(all.saturating_sub(own)).unwrap_or(0) };
        let is_at_rest = all.is_zero() && old.pids.len() == seen.pids.len();
        self.every = if is_at_rest { (self.every * 2).min(LOOK_AT_REST) } else { LOOK_EVERY };
        self.next = now + self.every;
        let cpu = self.ended_cpu + seen.cpu;
        self.is_fresh = true;
        self.resources = Some(Resources {
            at: Time::now(),
            cpu_ms: u64::try_from(cpu.as_millis()).unwrap_or(u64::MAX),
            cpu_percent: percent(all),
            memory_bytes: seen.resident_bytes,
            process_count: seen.pids.len(),
            disk_bytes: None,
        });
        used
    }

    /// Whether nothing in the tree has moved lately.
    pub(super) fn is_at_rest(&self) -> bool {
        self.every > LOOK_EVERY
    }

    /// Whether the tree was looked at after a moment.
    pub(super) fn has_looked_since(&self, then: Instant) -> bool {
        self.last.as_ref().is_some_and(|(at, _)| *at > then)
    }

    /// Processor time so far.
    pub(super) fn cpu(&self) -> Duration {
        self.ended_cpu + self.last.as_ref().map_or(Duration::ZERO, |(_, seen)| seen.cpu)
    }

    /// The limit that was reached at the last look, as a sentence without its full stop; once for each look.
    pub(super) fn limit_reached(&mut self) -> Option<String> {
        if !std::mem::take(&mut self.is_fresh) {
            return None;
        }
        let (limits, (_, seen)) = (&self.settings, self.last.as_ref()?);
        let reached = |what: String, key: &str, limit: String| {
            format!("{what}, and `health.{key}` is {limit}; raise it in .swarm/config.yaml")
        };
        if let Some(limit) = limits.max_memory.filter(|limit| seen.resident_bytes > limit.0) {
            // Pages that are shared would count several times.
            let held = process::proportional_bytes(&seen.pids).unwrap_or(seen.resident_bytes);
            if held > limit.0 {
                return Some(reached(
                    format!("its processes hold {} of memory", size_text(held)),
                    "max_memory",
                    size_text(limit.0),
                ));
            }
        }
        if let Some(limit) = limits.max_processes.filter(|limit| seen.pids.len() > *limit) {
            return Some(reached(format!("it runs {} processes", seen.pids.len()), "max_processes", limit.to_string()));
        }
        if let Some(limit) = limits.max_cpu.filter(|limit| self.cpu() > *limit) {
            let used = duration_text(self.cpu());
            return Some(reached(format!("it used {used} of processor time"), "max_cpu", duration_text(limit)));
        }
        let (limit, bytes) = limits.max_disk.zip(self.disk.bytes).filter(|(limit, bytes)| *bytes > limit.0)?;
        Some(reached(format!("its worktree takes {} on the disk", size_text(bytes)), "max_disk", size_text(limit.0)))
    }

    /// The processor time at which a walk through the worktree begins, if one is due.
    pub(super) fn begin_walk(&mut self, now: Instant) -> Option<Duration> {
        let cpu = self.cpu();
        let is_due = match self.disk.walked {
            None => true,
            Some((at, took)) => {
                cpu > self.disk.cpu && now.duration_since(at) >= WALK_EVERY.max(took.saturating_mul(WALK_SHARE))
            }
        };
        if !is_due || std::mem::replace(&mut self.disk.is_running, true) {
            return None;
        }
        Some(cpu)
    }

    /// Takes a walk.
    pub(super) fn take_walk(&mut self, walk: &Walk) {
        self.is_fresh = true;
        self.disk = Disk {
            bytes: Some(walk.bytes),
            walked: Some((Instant::now(), walk.took)),
            cpu: walk.cpu,
            is_running: false,
        };
    }
}

/// Shares of one core, in percent.
struct Used {
    /// Of the agent's own process.
    own: u32,
    /// Of everything else in its tree.
    others: u32,
}

impl Supervision {
    /// Looks at the process tree when that is due.
    pub(super) fn look_at_tree(&mut self, now: Instant) {
        let Some(agent) = self.agent.as_ref().filter(|_| now >= self.meter.next) else { return };
        let seen = match process::agent_tree_use(agent.pty.child_pid()) {
            Ok(seen) => seen,
            Err(error) => {
                self.meter.next = now + LOOK_AT_REST;
                return self.note_error::<(), _>(Err(error));
            }
        };
        let used = self.meter.take(seen, now);
        let has_face = self.assignment.mode() == Mode::Conversation;
        if used.others >= BUSY || used.own >= if has_face { BUSY_FACE } else { BUSY } {
            self.meter.note("its processes used the processor");
        }
        if has_face {
            let letters = letters(&self.terminal.screen.last_lines(RULE_LINES));
            if std::mem::replace(&mut self.meter.letters, letters) != letters {
                self.meter.note("its screen changed");
            }
        }
    }

    /// Takes output as a sign of progress where it can be one: an agent with a face draws all the time, and what counts
    /// there is looked at with the tree.
    pub(super) fn note_output(&mut self) {
        if self.assignment.mode() != Mode::Conversation {
            self.meter.note("it wrote output");
        }
    }

    /// Takes a change of the worktree as a sign of progress.
    pub(super) fn note_worktree(&mut self, before: Option<Changes>, now: &Changes) {
        if before.is_some_and(|before| Changes { at: now.at, ..before } != *now) {
            self.meter.note("its worktree changed");
        }
    }

    /// How long a worker that works has shown no sign of progress, where it is stuck.
    pub(super) fn stuck_for(&self) -> Option<Duration> {
        let is_at_work = self.machine.verdict().0 == Status::Working && self.machine.is_attempting();
        self.meter.stuck_for().filter(|_| is_at_work && !self.machine.is_frozen())
    }

    /// Writes down that the model wants to be left alone; nobody starts anything new with it for a while.
    pub(super) async fn pace(&mut self, why: &str, wait: Option<Duration>) {
        self.meter.is_paced = true;
        let model = self.assignment.handover.agent.model_name();
        let (pacing, why) = (self.assignment.handover.health.pacing, why.to_owned());
        self.book(move |ledger| ledger.pace(&model, &why, wait, pacing)).await;
    }

    /// Whether an event says that the model answered. Programs other than our own loop count up what they used when they
    /// fail, too.
    pub(super) fn answers(&self, event: &AgentEvent) -> bool {
        match event {
            AgentEvent::ToolStarted(_) | AgentEvent::TurnEnded { finished: true, .. } => true,
            AgentEvent::Usage(_) => self.assignment.handover.agent.runtime.is_own(),
            _ => false,
        }
    }

    /// Writes down that the model answers again, where it had asked this worker for patience.
    pub(super) async fn end_pace(&mut self) {
        if std::mem::take(&mut self.meter.is_paced) {
            let model = self.assignment.handover.agent.model_name();
            self.book(move |ledger| ledger.end_pace(&model, None)).await;
        }
    }

    /// Takes an answer of the model: it needs no patience any more, whichever worker it had asked for that.
    pub(super) async fn note_answer(&mut self) {
        self.end_pace().await;
        if let Some(asked_at) = self.meter.asked_at {
            let model = self.assignment.handover.agent.model_name();
            self.book(move |ledger| ledger.end_pace(&model, Some(asked_at))).await;
        }
    }

    /// Notes that the model is asked from now on: a turn began, or it gets what a tool call gave.
    pub(super) fn note_question(&mut self, event: &AgentEvent) {
        if matches!(event, AgentEvent::TurnStarted { .. } | AgentEvent::ToolEnded(_)) {
            self.meter.asked_at = Some(Time::now());
        }
    }

    /// Writes down once that the worker shows no sign of progress.
    pub(super) async fn tell_stuck(&mut self) {
        let Some(quiet) = self.stuck_for() else { return };
        if !std::mem::replace(&mut self.meter.is_told, true) {
            let last = self.meter.sign().what;
            self.told.live_is_stale = true;
            let why = format!("no sign of progress for {}; the last: {last}", duration_text(quiet));
            let since = self.meter.sign().at;
            self.tell_swarm(SwarmEvent::Stuck { since, why }).await;
        }
    }
}

/// What a screen says without what a spinner and its counters change.
fn letters(lines: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for letter in lines.iter().flat_map(|line| line.chars()).filter(|letter| letter.is_alphabetic()) {
        letter.hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::health::ByteSize;

    fn seen(own: u64, all: u64, resident: u64, count: u32) -> TreeUse {
        TreeUse {
            own_cpu: Duration::from_secs(own),
            cpu: Duration::from_secs(all),
            resident_bytes: resident,
            pids: (1..=count).map(|pid| u32::MAX - pid).collect(),
        }
    }

    fn meter(settings: HealthSettings) -> (Meter, Instant) {
        let now = Instant::now();
        (Meter::new(settings, now), now)
    }

    #[test]
    fn processor_time_never_falls_and_its_share_is_of_one_core() {
        let (mut meter, now) = meter(HealthSettings::default());
        meter.take(seen(1, 4, 0, 2), now);
        let used = meter.take(seen(2, 14, 0, 3), now + Duration::from_secs(5));
        assert_eq!((used.own, used.others), (20, 180));
        assert_eq!(meter.resources().unwrap().cpu_percent, Some(200));
        meter.take(seen(2, 3, 0, 1), now + Duration::from_secs(10));
        assert_eq!(meter.resources().unwrap().cpu_ms, 14_000);
        meter.take(seen(2, 5, 0, 1), now + Duration::from_secs(15));
        assert_eq!(meter.resources().unwrap().cpu_ms, 16_000);
    }

    #[test]
    fn a_tree_at_rest_is_looked_at_less_often_and_one_that_moves_at_once_again() {
        let (mut meter, now) = meter(HealthSettings::default());
        for _ in 0..4 {
            meter.take(seen(0, 1, 0, 1), now);
        }
        assert_eq!(meter.every, LOOK_AT_REST);
        meter.take(seen(0, 1, 0, 2), now);
        assert_eq!(meter.every, LOOK_EVERY);
    }

    #[test]
    fn each_limit_says_which_it_is_and_how_to_raise_it() {
        let limited = |settings, all, count, disk: Option<u64>| {
            let (mut meter, now) = meter(settings);
            meter.take(seen(0, all, 0, count), now);
            meter.disk.bytes = disk;
            meter.limit_reached()
        };
        let none = HealthSettings::default();
        assert_eq!(limited(none, 1_000_000, 1_000, Some(u64::MAX)), None);
        let processes = HealthSettings { max_processes: Some(3), ..none };
        assert_eq!(limited(processes, 0, 3, None), None);
        let text = limited(processes, 0, 4, None).unwrap();
        assert_eq!(text, "it runs 4 processes, and `health.max_processes` is 3; raise it in .swarm/config.yaml");
        let cpu = HealthSettings { max_cpu: Some(Duration::from_secs(60)), ..none };
        assert!(limited(cpu, 61, 1, None).unwrap().contains("1m 1s of processor time, and `health.max_cpu` is 1m"));
        let disk = HealthSettings { max_disk: Some(ByteSize(1_000)), ..none };
        assert_eq!(limited(disk, 0, 1, None), None, "not measured");
        assert!(limited(disk, 0, 1, Some(2_000)).unwrap().contains("2.0 kB on the disk"));
    }

    #[test]
    fn a_worktree_is_walked_again_only_after_work_and_a_while() {
        let (mut meter, now) = meter(HealthSettings::default());
        let cpu = meter.begin_walk(now).unwrap();
        assert_eq!(meter.begin_walk(now), None, "one at a time");
        meter.take_walk(&Walk { bytes: 7, took: Duration::from_secs(1), cpu });
        let later = Instant::now() + Duration::from_secs(49);
        meter.take(seen(0, 1, 0, 1), now);
        assert_eq!(meter.begin_walk(later), None, "it took long");
        assert!(meter.begin_walk(later + Duration::from_secs(2)).is_some());
        meter.take_walk(&Walk { bytes: 7, took: Duration::ZERO, cpu: Duration::from_secs(1) });
        assert_eq!(meter.begin_walk(later + Duration::from_secs(3_600)), None, "nothing ran since");
    }

    #[test]
    fn a_spinner_is_no_progress_and_words_are() {
        let lines = |text: &str| letters(&[text.to_owned()]);
        assert_eq!(lines("✻ Thinking… (12s · ↑ 120)"), lines("✶ Thinking… (13s · ↑ 124)"));
        assert_ne!(lines("Thinking"), lines("Reading"));
    }
}
