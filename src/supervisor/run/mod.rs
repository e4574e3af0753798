//! The supervisor's process: sets up, then one loop that picks one input, asks the machine, and carries out effects.

mod calls;
mod effects;
mod launch;
mod mail;
mod meter;
mod parts;
mod radar;
mod report;
mod spending;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::SupervisorError;
use super::attached::{Pane, Seen};
use super::finish::{Finishing, Progress};
use super::handover::{FirstWord, Handover};
use super::machine::{Input, Machine};
use super::server::Call;
use crate::agent::{self, ExitInfo, Runtime, ToolLog};
use crate::model::event::Event;
use crate::model::message::Message;
use crate::model::worker::{Changes, HEARTBEAT_EVERY, Outcome, ProcessIdentity};
use crate::model::{Time, error_text};
use crate::store::{StatePaths, write_messages};
use crate::terminal::Pty;
use meter::{Meter, Walk};
use parts::{Assignment, Display, Facts, Snapshots, Sources, Timers, Told};
use radar::Unseen;
use spending::Spending;

/// The terminal type agents see.
pub(super) const TERM: &str = "tmux-256color";
/// How long the supervisor lock may be held by others who only look at it.
const LOCK_WITHIN: Duration = Duration::from_secs(1);
/// How often timers are looked at.
const TICK: Duration = Duration::from_secs(1);
/// The same while nothing happens: with hundreds of idle workers each look counts.
const TICK_AT_REST: Duration = HEARTBEAT_EVERY;
/// How long nothing happens before that.
const REST_AFTER: Duration = Duration::from_secs(10);
/// How long output may still come after the agent's process ended.
const DRAIN: Duration = Duration::from_millis(500);
/// Bytes read from the terminal at once.
const CHUNK: usize = 32 * 1024;
/// Events of the system that are taken at once: a supervisor has a few descriptors.
const EVENTS: usize = 32;
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
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_io_events_per_tick(EVENTS).build();
    let runtime = runtime.map_err(|source| SupervisorError::Talk { source })?;
    let result = runtime.block_on(async {
        let mut supervision = Supervision::begin(handover)?;
        supervision.tell_ready();
        supervision.measure_earlier_work();
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
    // A log that cannot be written is not worth an agent: told to stderr, which may lie on the same full disk, the
    // failure would be a panic.
    let logger = tracing_subscriber::fmt().with_ansi(false).log_internal_errors(false);
    let logger = logger.with_writer(std::sync::Mutex::new(file)).finish();
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
    /// Finishing, and the fence under which what it found to be finished was handed over, where it was.
    Finish(Finishing, Option<u64>),
    /// The agent ended and its whole tree is gone.
    Exited(ExitInfo),
    /// The agent's whole tree is gone and it had ended before.
    Gone,
    /// The worktree was measured.
    Walked(Walk),
    /// A look at the overlaps is over.
    Looked,
    /// Something came for the worker over a server.
    MailCame,
    /// What is in the worker's mailbox.
    Mail(Vec<Message>),
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
    typing: mpsc::Sender<Vec<Vec<u8>>>,
    /// The process.
    identity: Option<ProcessIdentity>,
    /// Output goes to the runtime and people see what it makes of it.
    raw_output: bool,
    /// The terminal's output ended before the process.
    is_silent: bool,
    /// The process ended; its tree is being ended.
    is_ending: bool,
}

/// One worker's supervisor.
struct Supervision {
    /// Decides.
    machine: Machine,
    /// Knows the agent's program.
    runtime: Box<dyn Runtime>,
    /// The agent's process, while there is one.
    agent: Option<Running>,
    /// What it shows.
    terminal: Display,
    /// What it does.
    tool_log: ToolLog,
    /// Where inputs come from.
    sources: Sources,
    /// Where work beside the loop reports.
    job_results: mpsc::Sender<Job>,
    /// What is measured.
    facts: Facts,
    /// What it uses, and the signs that it goes on.
    meter: Meter,
    /// What it costs.
    spending: Spending,
    /// What was done when.
    timers: Timers,
    /// How the work is saved.
    snapshots: Snapshots,
    /// What of it the overlaps were not looked at for.
    unseen: Unseen,
    /// What others were told.
    told: Told,
    /// The outcome that the queue was told.
    concluded: Option<Outcome>,
    /// The last leftovers and checks.
    finishing: Option<Arc<Progress>>,
    /// What effects led to.
    follow_up: Vec<Input>,
    /// The loop is to be left.
    is_over: bool,
    /// Which worker, and under which lease. Last, because the lock in it is free only when everything else is gone.
    assignment: Assignment,
}

impl Supervision {
    /// Takes the lock, opens everything, starts the agent.
    fn begin(handover: Handover) -> Result<Self, SupervisorError> {
        let assignment = Assignment::take(handover)?;
        let (sources, senders) = Sources::open(&assignment)?;
        let terminal = Display::open(&assignment, senders.seen)?;
        let tool_log = assignment.open_tool_log()?;
        let now = Instant::now();
        let mut supervision = Self {
            machine: Machine::new(assignment.mode(), Time::now()),
            runtime: agent::runtime(&assignment.handover.agent),
            agent: None,
            facts: Facts::of(&assignment),
            meter: Meter::new(assignment.handover.health, now),
            spending: Spending::of(&assignment),
            timers: Timers::begin(now),
            snapshots: Snapshots::begin(now),
            unseen: Unseen::default(),
            told: Told::nothing(),
            concluded: None,
            finishing: None,
            follow_up: Vec::new(),
            is_over: false,
            job_results: senders.jobs,
            assignment,
            terminal,
            tool_log,
            sources,
        };
        let prompt = supervision.assignment.handover.prompt.clone();
        let resume = supervision.assignment.handover.resume.clone();
        supervision.forget_given_result();
        supervision.start_agent(&prompt, resume.as_deref())?;
        supervision.take_over_messages();
        supervision.watch_mail();
        supervision.write_live();
        Ok(supervision)
    }

    /// Takes over what an earlier supervisor took and could not deliver. Without it the agent works all the same.
    fn take_over_messages(&mut self) {
        let taken = match self.assignment.inherited_messages() {
            Ok(messages) if messages.is_empty() => return,
            Ok(messages) => {
                let count = messages.len();
                self.told.saved_messages.clone_from(&messages);
                self.machine.take_over_messages(messages);
                format!("earlier messages that had not reached its agent: {count}; they go to it when its turn ends")
            }
            Err(error) => format!("earlier messages to it could not be read: {}", error_text(&error)),
        };
        let logged = self.assignment.ledger.log(Event::Warning { text: taken });
        self.note_error(logged);
    }

    /// Tells the spawning command that the agent runs.
    fn tell_ready(&self) {
        let pid = self.agent.as_ref().map_or(0, |agent| agent.pty.child_pid());
        tell(&self.assignment.handover.ready, &FirstWord::Running { pid });
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
        self.end_telling().await;
        // Nobody answers from here on; the lock is still ours, so no other supervisor listens there yet.
        std::fs::remove_file(&self.assignment.handover.socket).ok();
        self.say_goodbye();
        self.refuse_the_rest();
        self.sources.server.close().await;
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
            Some(seen) = self.sources.seen.recv() => Wake::Seen(seen),
            Some(call) = self.sources.calls.recv() => Wake::Call(call),
            Some(job) = self.sources.jobs.recv() => Wake::Job(job),
            _ = self.sources.signals.terminate.recv() => Wake::Terminate,
            _ = self.sources.signals.interrupt.recv() => Wake::Terminate,
            _ = self.sources.signals.hangup.recv() => Wake::Tick,
            _ = self.sources.signals.window.recv() => Wake::WindowChange,
            _ = self.sources.signals.child.recv() => Wake::Child,
            _ = self.sources.tick.tick() => Wake::Tick,
            count = read => Wake::Output(count),
            exit = ended => Wake::Ended(exit),
        }
    }

    /// Whether nothing has happened for a while. Leases on a server are too short for rest.
    fn is_at_rest(&self) -> bool {
        let is_shared = self.assignment.handover.queue.is_some();
        !is_shared && self.timers.stirred.elapsed() >= REST_AFTER && self.meter.is_at_rest()
    }

    /// Notes that something happens.
    fn note_stir(&mut self) {
        if self.is_at_rest() {
            self.sources.tick.reset_after(TICK);
        }
        self.timers.stirred = Instant::now();
        self.timers.rests = false;
    }

    /// Turns what woke the loop into inputs.
    async fn wake(&mut self, wake: Wake, buffer: &[u8]) {
        // Jobs are begun by the clock.
        if !matches!(wake, Wake::Tick | Wake::Job(_)) {
            self.note_stir();
        }
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
                if let Some(size) = self.terminal.pane.as_ref().and_then(Pane::size) {
                    self.resize(size);
                }
            }
            Wake::Child => self.take_child(),
        }
    }

    /// Gives one input to the machine and carries out what follows, in order.
    async fn input(&mut self, input: Input) {
        // That time passed is no news: many workers at rest would each write a file every second for it.
        let mut is_news = !matches!(input, Input::Tick);
        let mut inputs = std::collections::VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for effect in self.machine.handle(input, Time::now()) {
                is_news = true;
                if let Some(next) = self.carry_out(effect).await {
                    inputs.push_back(next);
                }
            }
        }
        if self.machine.finishes_in_vain()
            && let Some(finishing) = &self.finishing
        {
            finishing.cancel();
        }
        self.told.live_is_stale |= is_news;
        self.save_messages();
    }

    /// Brings to disk what is on its way to the agent, before anybody is told that it was taken.
    fn save_messages(&mut self) {
        let pending = self.machine.pending_messages();
        if pending == self.told.saved_messages {
            return;
        }
        let path = self.assignment.paths.messages(&self.assignment.worker.id);
        match write_messages(&path, &pending) {
            Ok(()) => self.told.saved_messages = pending,
            Err(error) => self.note_error::<(), _>(Err(error)),
        }
    }
}
