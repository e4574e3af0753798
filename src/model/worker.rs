//! Workers: identity, lifecycle facts, live evidence, and the verdict drawn from them.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::agent::RuntimeKind;
use super::health::{Resources, Sign};
use super::{AgentName, BranchName, CommitId, RunId, TicketId, Time, WorkerId, duration_text};

/// Heartbeats are written this often.
pub(crate) const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
/// The live file is written whole this often at least, by whoever goes on without news: sooner than programs that know
/// nothing of touched files call a heartbeat stale.
pub(crate) const LIVE_WHOLE_EVERY: Duration = Duration::from_secs(15);
/// A heartbeat older than this says that its supervisor is stuck or the machine was asleep.
pub(crate) const HEARTBEAT_STALE: Duration = Duration::from_secs(20);

/// A worker as the store holds it: who it is, where it works, and its lifecycle facts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Worker {
    /// Its id.
    pub(crate) id: WorkerId,
    /// The ticket it works on.
    pub(crate) ticket: TicketId,
    /// The ticket's title at spawn.
    pub(crate) title: String,
    /// The agent it runs.
    pub(crate) agent: AgentName,
    /// The kind of program that executes the agent.
    pub(crate) runtime: RuntimeKind,
    /// Where its files and refs are.
    pub(crate) place: Place,
    /// Its present or last attempt.
    pub(crate) attempt: Attempt,
    /// What is known for certain about its lifecycle.
    pub(crate) phase: Phase,
    /// When the worker was first spawned.
    pub(crate) created_at: Time,
}

/// Where a worker's files and refs are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Absolute path of its worktree.
    pub(crate) worktree: PathBuf,
    /// Its branch.
    pub(crate) branch: BranchName,
    /// The commit the branch started from.
    pub(crate) base: CommitId,
    /// The branch its work lands on.
    pub(crate) target: BranchName,
    /// First port of its block.
    pub(crate) first_port: u16,
    /// Ports in its block.
    pub(crate) port_count: u16,
    /// Whether the branch was made by the spawn; one that was there before is never deleted.
    pub(crate) made_branch: bool,
    /// Paths in the worktree that `copy` and `setup` made: never committed as leftovers. Relative, sorted.
    pub(crate) made_paths: Vec<PathBuf>,
    /// Whose work the base is, where the branch started from a dependency that had not landed.
    #[serde(default)]
    pub(crate) stacked_on: Option<StackedOn>,
}

/// The dependency from whose branch a worker's own one started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StackedOn {
    /// Its ticket.
    pub(crate) ticket: TicketId,
    /// Its branch.
    pub(crate) branch: BranchName,
}

/// One execution of a ticket by a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attempt {
    /// From 1; resume keeps it.
    pub(crate) number: u32,
    /// The fence of the lease under which it runs or ran.
    pub(crate) fence: u64,
    /// The command or coordinator run that started it.
    pub(crate) run: RunId,
    /// The agent's own conversation, for resume.
    pub(crate) session_id: Option<String>,
    /// When it began.
    pub(crate) started_at: Time,
    /// Whether it runs without tmux and a person.
    pub(crate) headless: bool,
    /// Its tmux session, where it has one.
    pub(crate) tmux: Option<TmuxSession>,
}

/// A tmux session by what addresses it for certain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TmuxSession {
    /// Socket name or path of its server.
    pub(crate) socket: String,
    /// Session id, such as `$3`.
    pub(crate) id: String,
    /// Session name, for people.
    pub(crate) name: String,
}

/// What is known for certain about a worker's lifecycle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub(crate) enum Phase {
    /// A spawn is being carried out; its step was written before it was begun.
    Preparing {
        /// The step under way.
        step: SpawnStep,
        /// The process that spawns.
        spawner: ProcessIdentity,
        /// When the spawn began.
        since: Time,
        /// How the attempt before ended; absent when branch and worktree are this spawn's to undo.
        before: Option<Outcome>,
        /// The released worker of that name whose row this spawn took; undoing puts it back.
        #[serde(default)]
        earlier: Option<Box<Worker>>,
    },
    /// A supervisor took over.
    Supervised {
        /// The supervisor.
        supervisor: ProcessIdentity,
        /// When it took over.
        since: Time,
    },
    /// The attempt ended; worktree and branch are still there.
    Ended {
        /// How.
        outcome: Outcome,
        /// When.
        at: Time,
    },
    /// The worktree was released after its work was kept.
    Released {
        /// How its last attempt ended.
        outcome: Outcome,
        /// The keep ref that holds its work.
        keep: String,
        /// When it was released.
        at: Time,
        /// When its last attempt ended; `None` where it never did, or an older version wrote this.
        #[serde(default)]
        ended_at: Option<Time>,
    },
}

/// Steps of the spawn transaction, in order; each is written down before it has effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SpawnStep {
    /// The ticket is claimed.
    Claim,
    /// Branch and worktree are made.
    Worktree,
    /// Ignored files are copied, set-up commands run.
    Setup,
    /// The session is made and the supervisor started in it.
    Session,
    /// The supervisor starts the agent.
    Agent,
}

/// A process, not its reusable number: pid, start time and boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessIdentity {
    /// Process id.
    pub(crate) pid: u32,
    /// Start time in clock ticks since boot (proc(5), field 22 of `/proc/PID/stat`).
    pub(crate) start_ticks: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub(crate) boot_id: String,
}

/// The reason of an attempt that a person ended. Nobody begins another one by itself, on whatever machine.
pub(crate) const STOPPED_BY_PERSON: &str = "a person stopped it";

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// Finished with work, which is in review.
    Finished {
        /// The branch's head that is to be judged.
        commit: CommitId,
    },
    /// Finished well without changes.
    NoChanges,
    /// Failed.
    Failed {
        /// One sentence for a person.
        reason: String,
        /// The agent's exit code, where it ended by one.
        exit_code: Option<i32>,
    },
    /// Stopped by a person, with its work kept.
    Stopped {
        /// One sentence: who, or by what.
        reason: String,
    },
    /// Stopped at a limit or its budget, with its work kept.
    LimitReached {
        /// One sentence: which.
        reason: String,
    },
}

/// What something is doing now, drawn from evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// Being prepared.
    Starting,
    /// A turn is under way; for a `command` agent: the process lives.
    Working,
    /// Needs a person; the reason says for what.
    Waiting,
    /// The turn ended, not finished.
    Idle,
    /// Held by us.
    Paused,
    /// Ended well or finished.
    Done,
    /// Ended badly.
    Failed,
    /// Stopped by a person or a limit.
    Stopped,
    /// No supervisor where one should be.
    Lost,
    /// The evidence contradicts itself or could not be read.
    Unknown,
}

impl Status {
    /// Every status, in the order of a worker's life.
    pub(crate) const ALL: [Self; 10] = [
        Self::Starting,
        Self::Working,
        Self::Waiting,
        Self::Idle,
        Self::Paused,
        Self::Done,
        Self::Failed,
        Self::Stopped,
        Self::Lost,
        Self::Unknown,
    ];

    /// The word used in JSON and on screen.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Working => "working",
            Self::Waiting => "waiting",
            Self::Idle => "idle",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Lost => "lost",
            Self::Unknown => "unknown",
        }
    }

    /// The status a word names, if any.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

/// Where a piece of evidence comes from, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EvidenceSource {
    /// How the agent's process ended.
    Exit,
    /// A hook of the agent, or its event stream.
    Hook,
    /// The agent's own status file.
    StatusFile,
    /// The process table.
    Process,
    /// The supervisor's heartbeat.
    Heartbeat,
    /// Terminal output or a screen rule.
    Terminal,
    /// Commits and changed files.
    Git,
}

/// One thing known about a worker, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Evidence {
    /// Where it comes from.
    pub(crate) source: EvidenceSource,
    /// What it says, in one clause.
    pub(crate) says: String,
    /// When it was last true for certain.
    pub(crate) at: Time,
}

/// What a supervisor writes about its worker to `live.json`, whole, at every change, and at heartbeats that say
/// something new or come [`LIVE_WHOLE_EVERY`] after it was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Live {
    /// When it was written.
    pub(crate) heartbeat_at: Time,
    /// The attempt it speaks of.
    pub(crate) attempt: u32,
    /// The agent's process while it lives.
    pub(crate) agent: Option<ProcessIdentity>,
    /// What the worker is doing, by the supervisor's verdict.
    pub(crate) status: Status,
    /// Why, in one clause.
    pub(crate) reason: String,
    /// Since when the status holds.
    pub(crate) since: Time,
    /// What the verdict rests on, one entry a source.
    pub(crate) evidence: Vec<Evidence>,
    /// Counted so far.
    pub(crate) figures: Figures,
    /// The worktree at the last snapshot.
    pub(crate) changes: Option<Changes>,
    /// What the agent's processes used at the last look.
    #[serde(default)]
    pub(crate) resources: Option<Resources>,
    /// The last sign that it goes on.
    #[serde(default)]
    pub(crate) sign: Option<Sign>,
    /// Results of the ticket's checks, when they ran.
    pub(crate) checks: Vec<CheckResult>,
    /// The budget at which it is held, as a clause.
    #[serde(default)]
    pub(crate) held_at: Option<String>,
    /// Files that the finished work changes outside the scope of its ticket; the first ones, where there are many.
    #[serde(default)]
    pub(crate) outside_scope: Vec<String>,
}

impl Live {
    /// Whether this says nothing that `before` did not, but for the moments at which it was so.
    pub(crate) fn adds_nothing_to(&self, before: &Self) -> bool {
        let mut timeless = self.clone();
        timeless.heartbeat_at = before.heartbeat_at;
        for (own, known) in timeless.evidence.iter_mut().zip(&before.evidence) {
            own.at = known.at;
        }
        if let (Some(own), Some(known)) = (&mut timeless.sign, &before.sign) {
            own.quiet_ms = known.quiet_ms;
        }
        timeless == *before
    }

    /// Takes over a later heartbeat that said nothing new. What counts from the heartbeat goes on with it, though by no
    /// more than [`LIVE_WHOLE_EVERY`], whatever the clock did.
    pub(crate) fn beat_again(&mut self, at: Time) {
        let later = self.heartbeat_at.age_at(at);
        if let Some(sign) = &mut self.sign {
            let later = later.min(LIVE_WHOLE_EVERY).as_millis();
            sign.quiet_ms = sign.quiet_ms.saturating_add(u64::try_from(later).unwrap_or(0));
        }
        self.heartbeat_at = self.heartbeat_at.max(at);
    }
}

/// What an attempt used so far; `None` where the runtime cannot say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Figures {
    /// Tool calls begun.
    pub(crate) tool_calls: Option<u64>,
    /// Tool calls that ended in an error.
    pub(crate) tool_errors: Option<u64>,
    /// Input tokens, cached ones included.
    pub(crate) input_tokens: Option<u64>,
    /// Output tokens.
    pub(crate) output_tokens: Option<u64>,
    /// US dollars.
    pub(crate) cost_usd: Option<f64>,
}

/// A worktree against its base at one snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Changes {
    /// Commits on the branch since its base.
    pub(crate) commits: usize,
    /// Files that differ from the base, uncommitted ones included.
    pub(crate) files_changed: usize,
    /// Lines added.
    pub(crate) insertions: usize,
    /// Lines removed.
    pub(crate) deletions: usize,
    /// Whether anything is not committed.
    pub(crate) dirty: bool,
    /// When the snapshot was taken.
    pub(crate) at: Time,
}

/// How one check of a ticket ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct CheckResult {
    /// The command as written.
    pub(crate) run: String,
    /// Whether it exited with 0 in time.
    pub(crate) passed: bool,
    /// Its exit code; `None` when it was ended by a signal or the time limit.
    pub(crate) exit_code: Option<i32>,
    /// Whether the time limit ended it.
    #[serde(default)]
    pub(crate) timed_out: bool,
    /// Wall time in milliseconds.
    pub(crate) duration_ms: u64,
    /// The end of its output, at most a few kilobytes.
    pub(crate) output_tail: String,
}

impl Changes {
    /// Those of a worktree in which nothing was done.
    pub(crate) fn none(at: Time) -> Self {
        Self { commits: 0, files_changed: 0, insertions: 0, deletions: 0, dirty: false, at }
    }
}

impl CheckResult {
    /// How it ended, as a clause.
    pub(crate) fn clause(&self) -> String {
        let took = duration_text(Duration::from_millis(self.duration_ms));
        match (self.passed, self.exit_code) {
            (true, _) => format!("passed in {took}"),
            (false, Some(code)) => format!("failed with exit code {code} in {took}"),
            (false, None) if self.timed_out => format!("ran out of time after {took}"),
            (false, None) => format!("was ended by a signal after {took}"),
        }
    }
}

/// What the lock and the process table say about a supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Liveness {
    /// It holds its lock.
    Alive,
    /// Nobody holds the lock.
    Dead,
    /// It could not be found out.
    Unreadable,
}

/// A status with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The status.
    pub(crate) status: Status,
    /// Why, in one clause.
    pub(crate) reason: String,
    /// Since when, where that is known.
    pub(crate) since: Option<Time>,
}

impl Worker {
    /// Draws the verdict on this worker from its lifecycle facts, its supervisor's liveness and the live file.
    ///
    /// Facts win over liveness, liveness wins over what a supervisor wrote earlier, and what cannot be read is
    /// `unknown`, never a guess.
    pub(crate) fn verdict(&self, liveness: Liveness, live: Option<&Live>, now: Time) -> Verdict {
        let verdict = |status, reason: String, since| Verdict { status, reason, since };
        match (&self.phase, liveness) {
            (Phase::Ended { outcome, at }, Liveness::Dead) => {
                let (status, reason) = outcome.verdict();
                verdict(status, reason, Some(*at))
            }
            (Phase::Released { outcome, at, ended_at, .. }, Liveness::Dead) => {
                let (status, reason) = outcome.verdict();
                verdict(status, reason, Some(ended_at.unwrap_or(*at)))
            }
            (_, Liveness::Unreadable) => {
                verdict(Status::Unknown, "the supervisor's lock could not be read".to_owned(), None)
            }
            (Phase::Preparing { step, since, .. }, Liveness::Alive) => {
                verdict(Status::Starting, step.as_clause().to_owned(), Some(*since))
            }
            (Phase::Preparing { step, since, .. }, Liveness::Dead) => {
                verdict(Status::Lost, format!("the spawn ended while {}", step.as_clause()), Some(*since))
            }
            (Phase::Supervised { since, .. }, Liveness::Dead) => {
                let last = live.map_or(*since, |live| live.heartbeat_at);
                verdict(Status::Lost, "its supervisor is gone; the work is kept".to_owned(), Some(last))
            }
            (_, Liveness::Alive) => match live {
                None => verdict(Status::Unknown, "the supervisor has not reported yet".to_owned(), None),
                Some(live) if live.heartbeat_at.age_at(now) > HEARTBEAT_STALE => {
                    let age = duration_text(live.heartbeat_at.age_at(now));
                    verdict(Status::Unknown, format!("the last heartbeat is {age} old"), Some(live.heartbeat_at))
                }
                Some(live) => verdict(live.status, live.reason.clone(), Some(live.since)),
            },
        }
    }

    /// Whether nobody can have changed anything on its branch yet, because both are being made.
    pub(crate) fn is_untouched(&self) -> bool {
        matches!(self.phase, Phase::Preparing { before: None, .. }) && self.place.made_branch
    }

    /// What is known of its changes before the first snapshot of an attempt, from the last live file of any attempt.
    pub(crate) fn early_changes(&self, last: Option<&Live>) -> Option<Changes> {
        let is_first = match &self.phase {
            Phase::Preparing { before, .. } => before.is_none(),
            Phase::Supervised { .. } => self.attempt.number == 1,
            Phase::Ended { .. } | Phase::Released { .. } => return None,
        };
        if is_first {
            // What is on a branch that was there before takes a look at it.
            return self.place.made_branch.then(|| Changes::none(self.attempt.started_at));
        }
        last.and_then(|live| live.changes)
    }

    /// Whether an attempt is under way or its agent still sits in its session, as far as the facts say.
    pub(crate) fn is_begun(&self) -> bool {
        matches!(self.phase, Phase::Preparing { .. } | Phase::Supervised { .. })
    }
}

impl SpawnStep {
    /// What is being done, as the end of a sentence.
    pub(crate) fn as_clause(self) -> &'static str {
        match self {
            Self::Claim => "claiming the ticket",
            Self::Worktree => "making the worktree",
            Self::Setup => "setting up the worktree",
            Self::Session => "starting the session",
            Self::Agent => "starting the agent",
        }
    }
}

impl Outcome {
    /// The final status and its reason.
    pub(crate) fn verdict(&self) -> (Status, String) {
        match self {
            Self::Finished { commit } => (Status::Done, format!("finished at {}", commit.short())),
            Self::NoChanges => (Status::Done, "no changes".to_owned()),
            Self::Failed { reason, .. } => (Status::Failed, reason.clone()),
            Self::Stopped { reason } | Self::LimitReached { reason } => (Status::Stopped, reason.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(phase: Phase) -> Worker {
        let commit = "0123456789012345678901234567890123456789";
        Worker {
            id: "fix".parse().unwrap(),
            ticket: "fix".parse().unwrap(),
            title: "Fix".to_owned(),
            agent: "shell".parse().unwrap(),
            runtime: RuntimeKind::Command,
            place: Place {
                worktree: "/w".into(),
                branch: "swarm/fix".parse().unwrap(),
                base: commit.parse().unwrap(),
                target: "main".parse().unwrap(),
                first_port: 41_000,
                port_count: 10,
                made_branch: true,
                made_paths: Vec::new(),
                stacked_on: None,
            },
            attempt: Attempt {
                number: 1,
                fence: 1,
                run: RunId::random(),
                session_id: None,
                started_at: Time::from_millis(0),
                headless: false,
                tmux: None,
            },
            phase,
            created_at: Time::from_millis(0),
        }
    }

    fn supervised() -> Worker {
        let supervisor = ProcessIdentity { pid: 1, start_ticks: 1, boot_id: "b".to_owned() };
        worker(Phase::Supervised { supervisor, since: Time::from_millis(0) })
    }

    fn live(heartbeat_at: Time) -> Live {
        Live {
            heartbeat_at,
            attempt: 1,
            agent: None,
            status: Status::Working,
            reason: "running".to_owned(),
            since: heartbeat_at,
            evidence: Vec::new(),
            figures: Figures::default(),
            changes: None,
            resources: None,
            sign: None,
            checks: Vec::new(),
            held_at: None,
            outside_scope: Vec::new(),
        }
    }

    #[test]
    fn a_live_file_says_something_new_where_more_than_its_moments_differ() {
        let (at, later) = (Time::from_millis(1_000), Time::from_millis(6_000));
        let mut before = live(at);
        before.evidence = vec![Evidence { source: EvidenceSource::Hook, says: "it works".to_owned(), at }];
        before.sign = Some(Sign { what: "it was started".to_owned(), at, quiet_ms: 0 });
        let mut after = Live { heartbeat_at: later, ..before.clone() };
        after.evidence[0].at = later;
        after.sign.as_mut().unwrap().quiet_ms = 5_000;
        assert!(after.adds_nothing_to(&before));
        let other = Evidence { says: "it waits".to_owned(), ..after.evidence[0].clone() };
        assert!(!Live { evidence: vec![other], ..after.clone() }.adds_nothing_to(&before));
        assert!(!Live { evidence: Vec::new(), ..after.clone() }.adds_nothing_to(&before));
        assert!(!Live { status: Status::Idle, ..after.clone() }.adds_nothing_to(&before));
        assert!(!Live { sign: None, ..after }.adds_nothing_to(&before));
    }

    #[test]
    fn a_heartbeat_without_news_moves_what_counts_from_it_and_a_clock_that_jumps_not_much() {
        let at = |seconds: i64| Time::from_millis(seconds * 1_000);
        let quiet_after = |beat: i64| {
            let mut live = live(at(100));
            live.sign = Some(Sign { what: String::new(), at: at(90), quiet_ms: 10_000 });
            live.beat_again(at(beat));
            (live.heartbeat_at.as_millis() / 1_000, live.sign.unwrap().quiet().as_secs())
        };
        assert_eq!((quiet_after(110), quiet_after(50), quiet_after(9_999)), ((110, 20), (100, 10), (9_999, 25)));
    }

    #[test]
    fn a_worker_without_supervisor_is_lost_whatever_it_last_wrote() {
        let now = Time::from_millis(1_000);
        let verdict = supervised().verdict(Liveness::Dead, Some(&live(now)), now);
        assert_eq!(verdict.status, Status::Lost);
    }

    #[test]
    fn a_stale_heartbeat_is_unknown_not_working() {
        let now = Time::from_millis(60_000);
        let verdict = supervised().verdict(Liveness::Alive, Some(&live(Time::from_millis(0))), now);
        assert_eq!((verdict.status, verdict.reason.as_str()), (Status::Unknown, "the last heartbeat is 1m old"));
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        let now = Time::from_millis(0);
        assert_eq!(supervised().verdict(Liveness::Unreadable, None, now).status, Status::Unknown);
        assert_eq!(supervised().verdict(Liveness::Alive, None, now).status, Status::Unknown);
    }

    #[test]
    fn an_interrupted_spawn_is_lost_and_names_its_step() {
        let spawner = ProcessIdentity { pid: 1, start_ticks: 1, boot_id: "b".to_owned() };
        let phase = Phase::Preparing {
            step: SpawnStep::Setup,
            spawner,
            since: Time::from_millis(0),
            before: None,
            earlier: None,
        };
        let verdict = worker(phase).verdict(Liveness::Dead, None, Time::from_millis(1));
        assert_eq!(verdict.status, Status::Lost);
        assert_eq!(verdict.reason, "the spawn ended while setting up the worktree");
    }
}
