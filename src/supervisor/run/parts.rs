//! What one worker's supervisor is made of, and how each part is opened.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::{Job, LOCK_WITHIN, TERM, TICK};
use crate::agent::{self, Redactor, ToolLog, Turns};
use crate::config;
use crate::files::FileLock;
use crate::git::Repository;
use crate::model::tool_call::ToolOrigin;
use crate::model::worker::{Changes, CheckResult, Figures, Live, Phase, Status, TmuxSession, Worker};
use crate::model::{CommitId, Time};
use crate::process;
use crate::queue;
use crate::store::{StatePaths, Store, read_live, read_messages, write_messages};
use crate::supervisor::SupervisorError;
use crate::supervisor::attached::{Pane, Seen, Viewers};
use crate::supervisor::handover::Handover;
use crate::supervisor::ledger::{Ledger, Renewal};
use crate::supervisor::machine::Mode;
use crate::supervisor::protocol::Reply;
use crate::supervisor::server::{self, Call, Server};
use crate::terminal::{CastHeader, Recording, Screen, ScreenRule, Size};

/// Which worker this is about, under which lease, and where its facts are.
pub(super) struct Assignment {
    /// What the spawning command said.
    pub(super) handover: Handover,
    /// Where state lies.
    pub(super) paths: StatePaths,
    /// The repository.
    pub(super) repository: Repository,
    /// The worker's row as this supervisor took it over.
    pub(super) worker: Worker,
    /// Events, row and queue.
    pub(super) ledger: Ledger,
    /// The fence of the present lease.
    pub(super) fence: u64,
    /// Finishing needs a commit beyond this one.
    pub(super) returned_at: Option<CommitId>,
    /// Proves that this supervisor lives.
    _lock: FileLock,
}

impl Assignment {
    /// Takes the worker's lock and its row.
    ///
    /// # Errors
    /// [`SupervisorError::Taken`] while another supervisor lives, [`SupervisorError::Superseded`] when the row is about
    /// another start.
    pub(super) fn take(handover: Handover) -> Result<Self, SupervisorError> {
        let paths = StatePaths::new(&handover.common_dir);
        let lock = FileLock::take_within(&paths.supervisor_lock(&handover.worker), LOCK_WITHIN)?;
        let lock = lock.ok_or_else(|| SupervisorError::Taken { worker: handover.worker.clone() })?;
        let store = Arc::new(Store::open(&paths, handover.durability)?);
        store.keep_little()?;
        let queue = queue::open_again(&store, handover.queue.clone(), &handover.node)?;
        let worker = store.worker(&handover.worker)?.ok_or(SupervisorError::NoRow)?;
        if worker.attempt.fence != handover.fence || !matches!(worker.phase, Phase::Preparing { .. }) {
            return Err(SupervisorError::Superseded { worker: worker.id });
        }
        let env = handover.env.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let repository = Repository::discover_with(&handover.common_dir, env)?;
        let ledger = Ledger::new(store, queue, &paths, &worker)?;
        ledger.take_over(process::own_identity()?, own_session(&handover))?;
        let (fence, returned_at) = (worker.attempt.fence, handover.returned_at.clone());
        Ok(Self { handover, paths, repository, worker, ledger, fence, returned_at, _lock: lock })
    }

    /// The messages that an earlier supervisor of this worker took and could not deliver. One of another worker of this
    /// name is nobody's any more.
    pub(super) fn inherited_messages(&self) -> Result<Vec<String>, SupervisorError> {
        let path = self.paths.messages(&self.worker.id);
        if let Phase::Preparing { before: None, .. } = self.worker.phase {
            write_messages(&path, &[])?;
            self.ledger.forget_mail_before(self.worker.created_at)?;
        }
        Ok(read_messages(&path)?)
    }

    /// How the worker's agent relates process and turns.
    pub(super) fn mode(&self) -> Mode {
        match agent::turns(&self.handover.agent, self.launch_mode()) {
            Turns::Conversation => Mode::Conversation,
            Turns::Resumable => Mode::Resumable,
            Turns::OneShot => Mode::OneShot,
        }
    }

    /// Whether the worker's agent has a person's terminal.
    pub(super) fn launch_mode(&self) -> agent::Mode {
        if self.worker.attempt.headless { agent::Mode::Print } else { agent::Mode::Interactive }
    }

    /// What knows the shapes of secrets, the configured ones among them.
    pub(super) fn redactor(&self) -> Result<Redactor, SupervisorError> {
        Ok(Redactor::new(&self.handover.redact)?)
    }

    /// The worker's tool log, with what came while no supervisor ran.
    pub(super) fn open_tool_log(&self) -> Result<ToolLog, SupervisorError> {
        let worker = &self.worker;
        let redactor = self.redactor()?;
        let spool = self.paths.hook_spool(&worker.id);
        let late = agent::late_events(worker.runtime, &agent::take_spool(&spool)?, None);
        let log = ToolLog::open(&self.paths.tool_calls(&worker.id), tool_origin(worker), redactor, &late, Time::now())?;
        agent::discard_spool(&spool)?;
        Ok(log)
    }
}

/// The tmux session this process is in: its server says so in the environment of everything it starts, as
/// `socket,server pid,session number`.
fn own_session(handover: &Handover) -> Option<TmuxSession> {
    let session = handover.tmux.as_ref()?;
    let environment = config::environment();
    let (_, number) = environment.get("TMUX")?.rsplit_once(',')?;
    Some(TmuxSession { socket: session.socket.clone(), id: format!("${number}"), name: session.name.clone() })
}

/// What goes into every record of the tool log.
fn tool_origin(worker: &Worker) -> ToolOrigin {
    ToolOrigin {
        run: worker.attempt.run.clone(),
        ticket: worker.ticket.clone(),
        worker: worker.id.clone(),
        attempt: worker.attempt.number,
        agent: worker.agent.clone(),
        runtime: worker.runtime,
        session_id: worker.attempt.session_id.clone().unwrap_or_default(),
    }
}

/// What the agent shows, who looks at it, and what is kept of it.
pub(super) struct Display {
    /// The screen as it is.
    pub(super) screen: Screen,
    /// Its size.
    pub(super) size: Size,
    /// What to look for on it.
    pub(super) rules: Vec<ScreenRule>,
    /// It changed since the rules were looked at.
    pub(super) has_changed: bool,
    /// All of it.
    pub(super) recording: Recording,
    /// Who looks.
    pub(super) viewers: Viewers,
    /// The tmux pane this process is in.
    pub(super) pane: Option<Pane>,
}

impl Display {
    /// The display of an agent about to be started. What viewers do goes to `seen`.
    pub(super) fn open(assignment: &Assignment, seen: mpsc::Sender<Seen>) -> Result<Self, SupervisorError> {
        let worker = &assignment.worker;
        let mut viewers = Viewers::new(seen);
        let (pane, size) = match assignment.handover.tmux.as_ref().and_then(|_| viewers.add_pane()) {
            Some((pane, size)) => (Some(pane), size),
            None => (None, Size::UNSEEN),
        };
        let header = CastHeader::new(size, TERM, &format!("{} ({})", worker.id, worker.agent));
        let recording = Recording::open(&assignment.paths.recording(&worker.id, worker.attempt.number), &header)?;
        let rules = config::screen_rules(&assignment.handover.agent)?;
        Ok(Self { screen: Screen::new(size), size, rules, has_changed: false, recording, viewers, pane })
    }
}

/// Where inputs come from.
pub(super) struct Sources {
    /// Listens for clients.
    pub(super) server: Server,
    /// What clients ask.
    pub(super) calls: mpsc::Receiver<Call>,
    /// What viewers do.
    pub(super) seen: mpsc::Receiver<Seen>,
    /// Work that is done.
    pub(super) jobs: mpsc::Receiver<Job>,
    /// Signals.
    pub(super) signals: Signals,
    /// The clock.
    pub(super) tick: Interval,
}

/// Where viewers and jobs write to.
pub(super) struct Senders {
    /// What viewers do.
    pub(super) seen: mpsc::Sender<Seen>,
    /// Work that is done.
    pub(super) jobs: mpsc::Sender<Job>,
}

impl Sources {
    /// Listens to everything, to clients at the socket of `assignment`.
    pub(super) fn open(assignment: &Assignment) -> Result<(Self, Senders), SupervisorError> {
        let (seen_sender, seen) = mpsc::channel(64);
        let (call_sender, calls) = mpsc::channel(64);
        let (job_sender, jobs) = mpsc::channel(16);
        let signals = Signals::listen()?;
        let server = server::listen(&assignment.handover.socket, call_sender)?;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok((Self { server, calls, seen, jobs, signals, tick }, Senders { seen: seen_sender, jobs: job_sender }))
    }
}

/// Signals that matter here.
pub(super) struct Signals {
    /// SIGTERM.
    pub(super) terminate: Signal,
    /// SIGINT.
    pub(super) interrupt: Signal,
    /// SIGHUP.
    pub(super) hangup: Signal,
    /// SIGWINCH.
    pub(super) window: Signal,
    /// SIGCHLD.
    pub(super) child: Signal,
}

impl Signals {
    /// Takes the signals over; SIGHUP (the pane closed) thereby ends nothing.
    fn listen() -> Result<Self, SupervisorError> {
        let listen = |kind| signal(kind).map_err(|source| SupervisorError::Talk { source });
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
            window: listen(SignalKind::window_change())?,
            child: listen(SignalKind::child())?,
        })
    }
}

/// What is measured of the worker.
pub(super) struct Facts {
    /// Tool calls, tokens, cost.
    pub(super) figures: Figures,
    /// What was used before the present process, where its own count begins at nothing.
    pub(super) used_before: Figures,
    /// What the last snapshot found.
    pub(super) changes: Option<Changes>,
    /// How the checks of the last finishing went.
    pub(super) checks: Vec<CheckResult>,
    /// The fence under which the finished work is where other nodes find it.
    pub(super) handed_over_fence: Option<u64>,
    /// Files that the finished work changes outside its scope.
    pub(super) outside_scope: Vec<String>,
    /// The last thing that the agent said at the end of a turn.
    pub(super) answer: Option<String>,
    /// Whether the runtime tells of tool calls at all.
    pub(super) tells_tools: bool,
}

impl Facts {
    /// What is known before anything is measured.
    pub(super) fn of(assignment: &Assignment) -> Self {
        let worker = &assignment.worker;
        let last = read_live(&assignment.paths.live(&worker.id)).ok().flatten();
        // What an earlier supervisor of the same attempt counted; figures that the agent tells replace it.
        let counted = last.as_ref().filter(|last| last.attempt == worker.attempt.number).map(|last| last.figures);
        Self {
            figures: counted.unwrap_or_default(),
            used_before: Figures::default(),
            changes: worker.early_changes(last.as_ref()),
            checks: Vec::new(),
            handed_over_fence: None,
            outside_scope: Vec::new(),
            answer: None,
            tells_tools: agent::tells_tools(&assignment.handover.agent, assignment.launch_mode()),
        }
    }
}

/// When what was done last.
pub(super) struct Timers {
    /// The attempt began, for its time limit.
    pub(super) attempt: Instant,
    /// Something happened that the clock did not bring.
    pub(super) stirred: Instant,
    /// Whether nothing has happened for a while, as of the last tick.
    pub(super) rests: bool,
    /// The live file was written.
    pub(super) heartbeat: Instant,
    /// The lease was renewed; `None` before the first time.
    pub(super) renewal: Option<Instant>,
    /// The mailbox was looked at; `None` before the first time.
    pub(super) mail: Option<Instant>,
    /// The renewal under way.
    pub(super) renewing: Option<JoinHandle<Option<Renewal>>>,
}

/// Snapshots of the worktree.
pub(super) struct Snapshots {
    /// One is under way.
    pub(super) is_running: bool,
    /// The last one began.
    pub(super) last: Instant,
    /// What the agent's processes had used of the processor then.
    pub(super) cpu: Duration,
    /// How many times as long the pause to the next one is while they use nothing.
    pub(super) rest: u32,
    /// Why the last one failed.
    pub(super) error: Option<String>,
    /// Calls that ended and whose state is to be saved: numbers of the first and the last in the tool log.
    pub(super) calls: Option<(u64, u64)>,
    /// How many calls ended whose state was to be saved.
    pub(super) call_count: u64,
    /// Agents that wait for the state after their call to be saved.
    pub(super) held: Vec<HeldReply>,
}

/// The answer to a hook, held back.
pub(super) struct HeldReply {
    /// Where it goes.
    pub(super) answer: oneshot::Sender<Reply>,
    /// It.
    pub(super) reply: Reply,
    /// Since when.
    pub(super) since: Instant,
}

impl Timers {
    /// All begin now.
    pub(super) fn begin(now: Instant) -> Self {
        Self { attempt: now, stirred: now, rests: false, heartbeat: now, renewal: None, mail: None, renewing: None }
    }
}

impl Snapshots {
    /// The first one is due in a while.
    pub(super) fn begin(now: Instant) -> Self {
        Self {
            is_running: false,
            last: now,
            cpu: Duration::ZERO,
            rest: 1,
            error: None,
            calls: None,
            call_count: 0,
            held: Vec::new(),
        }
    }

    /// Gives the answers that were held back for this long.
    pub(super) fn release(&mut self, after: Duration) {
        for held in self.held.extract_if(.., |held| held.since.elapsed() >= after) {
            held.answer.send(held.reply).ok();
        }
    }
}

/// What others know, and who waits to be told.
pub(super) struct Told {
    /// There is more to say than the live file does.
    pub(super) live_is_stale: bool,
    /// What the live file says, and when it was written; `None` where it could not be.
    pub(super) live: Option<(Live, Instant)>,
    /// The last status event.
    pub(super) said: (Status, String),
    /// The messages that are on disk, because they have not reached the agent.
    pub(super) saved_messages: Vec<String>,
    /// The letters that the machine was given, by id.
    pub(super) letters: BTreeSet<String>,
    /// The telling of a server what happened, under way or done.
    pub(super) telling: Option<JoinHandle<()>>,
    /// Senders of messages that are not confirmed.
    pub(super) unanswered_sends: Vec<oneshot::Sender<Reply>>,
    /// Who asked for the end.
    pub(super) unanswered_stops: Vec<oneshot::Sender<Reply>>,
}

impl Told {
    /// Nothing is told yet.
    pub(super) fn nothing() -> Self {
        Self {
            live_is_stale: true,
            live: None,
            said: (Status::Starting, String::new()),
            saved_messages: Vec::new(),
            letters: BTreeSet::new(),
            telling: None,
            unanswered_sends: Vec::new(),
            unanswered_stops: Vec::new(),
        }
    }
}
