//! The supervisor's process: sets up, then one loop that picks one input, asks the machine, and carries out effects.

mod calls;
mod effects;
mod launch;
mod report;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::SupervisorError;
use super::attached::{Pane, Seen, Viewers};
use super::finish::{Finishing, Progress};
use super::handover::{FirstWord, Handover};
use super::ledger::Ledger;
use super::machine::{Input, Machine, Mode};
use super::protocol::Reply;
use super::server::{self, Call, Server};
use crate::agent::{self, ExitInfo, Redactor, Runtime, ToolLog};
use crate::config;
use crate::files::FileLock;
use crate::git::Repository;
use crate::model::agent::RuntimeKind;
use crate::model::tool_call::ToolOrigin;
use crate::model::worker::{
    Changes, CheckResult, Figures, Outcome, Phase, ProcessIdentity, Status, TmuxSession, Worker,
};
use crate::model::{CommitId, Time};
use crate::process;
use crate::queue::FileQueue;
use crate::store::{StatePaths, Store};
use crate::terminal::{CastHeader, Pty, Recording, Screen, ScreenRule, Size};

/// The terminal type agents see.
pub(super) const TERM: &str = "tmux-256color";
/// How long the supervisor lock may be held by others who only look at it.
const LOCK_WITHIN: Duration = Duration::from_secs(1);
/// How often timers are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often the lease is renewed; well below its length.
const RENEW_EVERY: Duration = Duration::from_secs(30);
/// How long output may still come after the agent's process ended.
const DRAIN: Duration = Duration::from_millis(500);
/// Bytes read from the terminal at once.
const CHUNK: usize = 32 * 1024;
/// The live file is written at most this often for figures alone.
const LIVE_EVERY: Duration = Duration::from_millis(500);
/// Lines of the screen that rules look at.
const RULE_LINES: usize = 20;

/// Supervises one worker until it ends. The hand-over file is read and removed.
///
/// # Errors
/// When the agent could not be started; the waiting command was told the same.
pub(crate) fn supervise(handover: &Path) -> Result<(), SupervisorError> {
    let handover = Handover::take(handover)?;
    let ready = handover.ready.clone();
    log_to_file(&handover)?;
    if handover.tmux.is_none() {
        // A session of its own: no terminal's Ctrl-C or hang-up reaches it.
        rustix::process::setsid().ok();
    }
    // Whatever the agent leaves behind becomes ours, so that it can be found and ended.
    rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1)).ok();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| SupervisorError::Talk { source })?;
    let result = runtime.block_on(async {
        let mut supervision = Supervision::begin(handover)?;
        supervision.tell_ready();
        supervision.run().await
    });
    if let Err(error) = &result {
        tell(&ready, &FirstWord::failed(error));
    }
    result
}

/// Sends this process's own log to the worker's folder.
fn log_to_file(handover: &Handover) -> Result<(), SupervisorError> {
    let paths = StatePaths::new(&handover.common_dir);
    let file = crate::files::open_log(&paths.supervisor_log(&handover.worker))?;
    let logger = tracing_subscriber::fmt().with_ansi(false).with_writer(std::sync::Mutex::new(file)).finish();
    // A second call happens in tests only.
    tracing::subscriber::set_global_default(logger).ok();
    Ok(())
}

/// Sends the first word to whoever waits for it; nobody waiting is fine.
fn tell(ready: &Path, word: &FirstWord) {
    if let (Ok(socket), Ok(bytes)) = (std::os::unix::net::UnixDatagram::unbound(), serde_json::to_vec(word)) {
        socket.send_to(&bytes, ready).ok();
    }
}

/// A result of work done beside the loop.
enum Job {
    /// A snapshot, with the worktree's figures.
    Snapshot(Result<Changes, String>),
    /// Finishing.
    Finish(Finishing),
    /// The agent ended and its whole tree is gone.
    Exited(ExitInfo),
    /// The agent's whole tree is gone and it had ended before.
    Gone,
    /// A lease was renewed: the fence, or `None` when it is lost.
    Renewed(Option<u64>),
}

/// What woke the loop.
enum Wake {
    /// The terminal showed something, or ended.
    Output(usize),
    /// The agent's process ended.
    Ended(std::io::Result<crate::terminal::ExitInfo>),
    /// A client asks.
    Call(Call),
    /// A viewer did something.
    Seen(Seen),
    /// Work is done.
    Job(Job),
    /// A second passed.
    Tick,
    /// We are asked to end.
    Terminate,
    /// The pane has another size.
    WindowChange,
    /// A child changed state.
    Child,
}

/// The agent's present process.
struct Running {
    /// Its terminal.
    pty: Arc<Pty>,
    /// What is to be typed.
    typing: mpsc::Sender<Vec<u8>>,
    /// The process.
    identity: Option<ProcessIdentity>,
    /// Output goes to the runtime and people see what it makes of it.
    raw_output: bool,
    /// The terminal's output ended before the process.
    is_silent: bool,
    /// The process ended; its tree is being ended.
    is_ending: bool,
}

/// Signals that matter here.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    window: Signal,
    child: Signal,
}

/// One worker's supervisor.
struct Supervision {
    handover: Handover,
    paths: StatePaths,
    repository: Repository,
    worker: Worker,
    ledger: Ledger,
    machine: Machine,
    runtime: Box<dyn Runtime>,
    agent: Option<Running>,
    screen: Screen,
    size: Size,
    rules: Vec<ScreenRule>,
    screen_changed: bool,
    recording: Recording,
    tool_log: ToolLog,
    viewers: Viewers,
    pane: Option<Pane>,
    server: Server,
    calls: mpsc::Receiver<Call>,
    seen: mpsc::Receiver<Seen>,
    jobs: mpsc::Receiver<Job>,
    job_results: mpsc::Sender<Job>,
    signals: Signals,
    tick: Interval,
    fence: u64,
    returned_at: Option<CommitId>,
    figures: Figures,
    changes: Option<Changes>,
    checks: Vec<CheckResult>,
    concluded: Option<Outcome>,
    finishing: Option<Arc<Progress>>,
    snapshot_runs: bool,
    last_snapshot: Instant,
    last_heartbeat: Instant,
    last_renewal: Instant,
    started: Instant,
    live_is_stale: bool,
    said: (Status, String),
    tells_tools: bool,
    snapshot_error: Option<String>,
    follow_up: Vec<Input>,
    unanswered_sends: Vec<oneshot::Sender<Reply>>,
    unanswered_stops: Vec<oneshot::Sender<Reply>>,
    is_over: bool,
    _lock: FileLock,
}

impl Supervision {
    /// Takes the lock, opens everything, starts the agent.
    fn begin(handover: Handover) -> Result<Self, SupervisorError> {
        let paths = StatePaths::new(&handover.common_dir);
        let lock = FileLock::take_within(&paths.supervisor_lock(&handover.worker), LOCK_WITHIN)?;
        let lock = lock.ok_or_else(|| SupervisorError::Taken { worker: handover.worker.clone() })?;
        let store = Arc::new(Store::open(&paths, handover.durability)?);
        let queue = Arc::new(FileQueue::new(store.clone(), &super::ledger::node_name()));
        let worker = store.worker(&handover.worker)?.ok_or(SupervisorError::NoRow)?;
        if worker.attempt.fence != handover.fence || !matches!(worker.phase, Phase::Preparing { .. }) {
            return Err(SupervisorError::Superseded { worker: worker.id });
        }
        let env = handover.env.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let repository = Repository::discover_with(&handover.common_dir, env)?;
        let ledger = Ledger::new(store, queue, &paths, &worker)?;
        ledger.take_over(process::own_identity()?, own_session(&handover))?;
        let (seen_sender, seen) = mpsc::channel(64);
        let (call_sender, calls) = mpsc::channel(64);
        let (job_results, jobs) = mpsc::channel(16);
        let server = server::listen(&handover.socket, call_sender)?;
        let mut viewers = Viewers::new(seen_sender);
        let (pane, size) = match handover.tmux.as_ref().and_then(|_| viewers.add_pane()) {
            Some((pane, size)) => (Some(pane), size),
            None => (None, Size::UNSEEN),
        };
        let header = CastHeader::new(size, TERM, &format!("{} ({})", worker.id, worker.agent));
        let recording = Recording::open(&paths.recording(&worker.id, worker.attempt.number), &header)?;
        let origin = tool_origin(&worker);
        let redactor = Redactor::new(&handover.redact)?;
        let spool = paths.hook_spool(&worker.id);
        let late = agent::late_events(worker.runtime, &agent::take_spool(&spool)?, None);
        let tool_log = ToolLog::open(&paths.tool_calls(&worker.id), origin, redactor, &late, Time::now())?;
        agent::discard_spool(&spool)?;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let now = Instant::now();
        let mut supervision = Self {
            rules: config::screen_rules(worker.runtime)?,
            machine: Machine::new(mode(&worker), Time::now()),
            runtime: agent::runtime(worker.runtime),
            fence: worker.attempt.fence,
            returned_at: handover.returned_at.clone(),
            screen: Screen::new(size),
            size,
            signals: Signals::listen()?,
            agent: None,
            screen_changed: false,
            figures: Figures::default(),
            changes: None,
            checks: Vec::new(),
            concluded: None,
            finishing: None,
            snapshot_runs: false,
            last_snapshot: now,
            last_heartbeat: now,
            last_renewal: now,
            started: now,
            live_is_stale: true,
            said: (Status::Starting, String::new()),
            tells_tools: worker.runtime == RuntimeKind::Claude,
            snapshot_error: None,
            follow_up: Vec::new(),
            unanswered_sends: Vec::new(),
            unanswered_stops: Vec::new(),
            is_over: false,
            _lock: lock,
            handover,
            paths,
            repository,
            worker,
            ledger,
            recording,
            tool_log,
            viewers,
            pane,
            server,
            calls,
            seen,
            jobs,
            job_results,
            tick,
        };
        let prompt = supervision.handover.prompt.clone();
        let resume = supervision.handover.resume.clone();
        supervision.start_agent(&prompt, resume.as_deref())?;
        supervision.write_live();
        Ok(supervision)
    }

    /// Tells the spawning command that the agent runs.
    fn tell_ready(&self) {
        let pid = self.agent.as_ref().map_or(0, |agent| agent.pty.child_pid());
        tell(&self.handover.ready, &FirstWord::Running { pid });
    }

    /// The loop.
    async fn run(&mut self) -> Result<(), SupervisorError> {
        let mut buffer = vec![0; CHUNK];
        while !self.is_over {
            let wake = self.next_wake(&mut buffer).await;
            self.wake(wake, &buffer).await;
            self.say_status().await;
        }
        self.write_live();
        // Nobody answers from here on; the lock is still ours, so no other supervisor listens there yet.
        std::fs::remove_file(&self.handover.socket).ok();
        self.say_goodbye();
        self.refuse_the_rest();
        self.server.close().await;
        Ok(())
    }

    /// Picks one input.
    async fn next_wake(&mut self, buffer: &mut [u8]) -> Wake {
        let agent = self.agent.as_ref();
        let read = async {
            match agent.filter(|agent| !agent.is_silent) {
                Some(agent) => agent.pty.read(buffer).await.unwrap_or(0),
                None => std::future::pending().await,
            }
        };
        let ended = async {
            match agent.filter(|agent| !agent.is_ending) {
                Some(agent) => agent.pty.wait().await,
                None => std::future::pending().await,
            }
        };
        // Output may never end, so everything else goes before it; but what an agent wrote before it ended is seen before
        // the end.
        tokio::select! {
            biased;
            Some(seen) = self.seen.recv() => Wake::Seen(seen),
            Some(call) = self.calls.recv() => Wake::Call(call),
            Some(job) = self.jobs.recv() => Wake::Job(job),
            _ = self.signals.terminate.recv() => Wake::Terminate,
            _ = self.signals.interrupt.recv() => Wake::Terminate,
            _ = self.signals.hangup.recv() => Wake::Tick,
            _ = self.signals.window.recv() => Wake::WindowChange,
            _ = self.signals.child.recv() => Wake::Child,
            _ = self.tick.tick() => Wake::Tick,
            count = read => Wake::Output(count),
            exit = ended => Wake::Ended(exit),
        }
    }

    /// Turns what woke the loop into inputs.
    async fn wake(&mut self, wake: Wake, buffer: &[u8]) {
        match wake {
            Wake::Output(0) => {
                if let Some(agent) = &mut self.agent {
                    agent.is_silent = true;
                }
            }
            Wake::Output(count) => self.take_output(&buffer[..count]).await,
            Wake::Ended(exit) => self.agent_ended(exit).await,
            Wake::Seen(seen) => self.take_seen(seen).await,
            Wake::Call(call) => self.take_call(call).await,
            Wake::Job(job) => self.take_job(job).await,
            Wake::Tick => self.take_tick().await,
            Wake::Terminate => {
                self.input(Input::Stop { reason: "its supervisor was asked to end".to_owned() }).await;
            }
            Wake::WindowChange => {
                if let Some(size) = self.pane.as_ref().and_then(Pane::size) {
                    self.resize(size);
                }
            }
            Wake::Child => self.take_child(),
        }
    }

    /// Gives one input to the machine and carries out what follows, in order.
    async fn input(&mut self, input: Input) {
        let mut inputs = std::collections::VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for effect in self.machine.handle(input, Time::now()) {
                if let Some(next) = self.carry_out(effect).await {
                    inputs.push_back(next);
                }
            }
        }
        self.live_is_stale = true;
    }
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

/// The tmux session this process is in: its server says so in the environment of everything it starts, as
/// `socket,server pid,session number`.
fn own_session(handover: &Handover) -> Option<TmuxSession> {
    let session = handover.tmux.as_ref()?;
    let environment = config::environment();
    let (_, number) = environment.get("TMUX")?.rsplit_once(',')?;
    Some(TmuxSession { socket: session.socket.clone(), id: format!("${number}"), name: session.name.clone() })
}

/// How the worker's agent relates process and turns.
fn mode(worker: &Worker) -> Mode {
    match (worker.runtime, worker.attempt.headless) {
        (RuntimeKind::Claude, false) => Mode::Conversation,
        (RuntimeKind::Claude, true) => Mode::Resumable,
        (RuntimeKind::Command, _) => Mode::OneShot,
    }
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
