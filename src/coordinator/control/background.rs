//! `up` and `down`: the coordinator as a process of its own, in a tmux session or detached. It holds a lock for as long as
//! it lives, which is what makes its life provable, and says in a file who it is.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Control;
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::queue_place::Tables;
use crate::coordinator::views::{CoordinatorState, CoordinatorView, VIEW_VERSION};
use crate::files::{self, Access, FileLock};
use crate::model::worker::{ProcessIdentity, TmuxSession};
use crate::model::{Time, counted};
use crate::process;
use crate::queue::{Leader, Queue};
use crate::supervisor::node_name;
use crate::terminal::{NewTmuxSession, Size, Tmux, TmuxError, session_name_of};

/// How long a coordinator may take to say whether it leads.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// How long one that was asked to end may take: it finishes what it has begun.
const END_WITHIN: Duration = Duration::from_secs(60);
/// How long its lock may be held by somebody who only looks at it.
const PROBED_WITHIN: Duration = Duration::from_millis(200);
/// How often it is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Bytes of its log that are shown where it ended at once.
const LOG_TAIL: usize = 2_000;

/// What `up` was asked for: the arguments of the process in the background.
#[derive(Debug, Clone, Default)]
pub(crate) struct UpRequest {
    /// Arguments of the program, from its hidden verb on.
    pub(crate) args: Vec<String>,
    /// Whether it lands.
    pub(crate) lands: bool,
    /// Without tmux.
    pub(crate) headless: bool,
}

/// What the process in the background says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct UpRecord {
    /// It.
    process: ProcessIdentity,
    /// Its name as a holder of the lease.
    holder: String,
    /// Since when.
    since: Time,
}

/// What the process in the background is given: its own environment would be that of the tmux server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UpHandover {
    /// Program and arguments.
    pub(crate) argv: Vec<String>,
    /// The environment of whoever asked for it.
    pub(crate) environment: Vec<(String, String)>,
}

/// Proof that this process is the coordinator in the background, until it is dropped.
pub(crate) struct UpGuard {
    /// The file that says who it is.
    file: PathBuf,
    _lock: FileLock,
}

impl Drop for UpGuard {
    fn drop(&mut self) {
        files::remove_if_exists(&self.file).ok();
    }
}

impl UpHandover {
    /// Reads the file and removes it.
    pub(crate) fn take(path: &std::path::Path) -> Result<Self, Failure> {
        let bytes = files::read_if_exists(path)?.unwrap_or_default();
        files::remove_if_exists(path)?;
        serde_json::from_slice(&bytes).map_err(|error| Failure::from_error(FailureKind::Internal, &error))
    }
}

/// The name of a process as a holder of the lease.
pub(in crate::coordinator) fn holder_name() -> String {
    format!("process {} on {}", std::process::id(), node_name())
}

impl Control {
    /// Starts the coordinator in the background, and returns when it leads or stands by. One that runs already is left
    /// alone.
    pub(crate) fn up(&self, request: &UpRequest) -> Result<CoordinatorView, Failure> {
        if let Some(record) = self.background()? {
            return self.coordinator_view(Some(&record), "runs already");
        }
        self.check_run(request.lands)?;
        let file = files::runtime_folder()?.join(format!("up-{}.json", std::process::id()));
        let mut begun = self.begin_background(request, &file)?;
        let ready = self.await_background(&mut begun);
        files::remove_if_exists(&file)?;
        self.coordinator_view(Some(&ready?), "runs")
    }

    /// Ends the coordinator in the background; the workers run on.
    pub(crate) fn down(&self) -> Result<CoordinatorView, Failure> {
        let Some(record) = self.background()? else {
            // What one that was killed left; nobody misses it any more.
            if let Some(_lock) = FileLock::take_within(&self.project.paths.lock("up"), PROBED_WITHIN)? {
                files::remove_if_exists(&self.up_file())?;
            }
            self.end_background_session()?;
            return self.coordinator_view(None, "does not run");
        };
        let pid = record.process.pid;
        let is_it = process::identify(pid)? == Some(record.process.clone());
        if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).filter(|_| is_it) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        }
        let deadline = Instant::now() + END_WITHIN;
        while self.background()?.is_some() {
            if Instant::now() >= deadline {
                let text = format!("the coordinator (process {pid}) is still ending: it finishes what it has begun");
                return Err(Failure::new(FailureKind::TimedOut, text).hint("swarm down again waits on"));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        self.end_background_session()?;
        // It ended, whether or not a server says what goes on.
        self.project.make_do_with_tables()?;
        self.coordinator_view(None, "ended")
    }

    /// Makes this process the coordinator in the background.
    ///
    /// # Errors
    /// When another one is.
    pub(crate) fn be_background(&self) -> Result<UpGuard, Failure> {
        let lock = FileLock::take_within(&self.project.paths.lock("up"), Duration::from_secs(1))?;
        let lock =
            lock.ok_or_else(|| Failure::new(FailureKind::Failed, "another coordinator runs in the background"))?;
        let record = UpRecord { process: process::own_identity()?, holder: holder_name(), since: Time::now() };
        let bytes = serde_json::to_vec(&record).map_err(|e| Failure::from_error(FailureKind::Internal, &e))?;
        files::write_atomically(&self.up_file(), &bytes, Access::Private)?;
        Ok(UpGuard { file: self.up_file(), _lock: lock })
    }

    /// Writes down why the coordinator in the background ended, for whoever waits for it.
    pub(crate) fn log_background(&self, text: &str) -> Result<(), Failure> {
        use std::io::Write;
        let mut log = files::open_log(&self.up_log())?;
        writeln!(log, "{} {text}", Time::now()).map_err(files::FileError::on("write", &self.up_log()))?;
        Ok(())
    }

    /// Who leads now, and what it holds back; nothing where nobody's lease is good.
    pub(in crate::coordinator) fn leader_view(
        &self,
        queue: &dyn Queue,
        role: &str,
    ) -> Result<Option<CoordinatorView>, Failure> {
        let record = self.background()?;
        let mut view = self.coordinator_view_of(record.as_ref(), "runs", queue.leader(role)?)?;
        if let Some(killed) = self.killed_background()? {
            // Its own lease outlives it for a moment.
            let other = view.leader.as_ref().filter(|leader| **leader != killed.holder);
            let lead = other.map(|leader| format!(", and {leader} leads")).unwrap_or_default();
            let pid = killed.process.pid;
            let text =
                format!("The coordinator in the background (process {pid}) was killed{lead}: swarm up starts it");
            view = CoordinatorView { state: CoordinatorState::Killed, text, ..view };
        }
        Ok((view.state != CoordinatorState::None || view.leader.is_some()).then_some(view))
    }

    /// A coordinator in the background that is gone and took nothing away; `None` where one lives, or ended by itself.
    fn killed_background(&self) -> Result<Option<UpRecord>, Failure> {
        let is_held = || FileLock::is_held(&self.project.paths.lock("up"));
        if is_held()? {
            return Ok(None);
        }
        let bytes = files::read_if_exists(&self.up_file())?.unwrap_or_default();
        let record = serde_json::from_slice::<UpRecord>(&bytes).ok();
        // Another one may have written it meanwhile.
        Ok(record.filter(|_| !is_held().unwrap_or(true)))
    }

    /// The pid that a coordinator in the background had which was killed.
    pub(super) fn killed_pid(&self) -> Result<Option<u32>, Failure> {
        Ok(self.killed_background()?.map(|record| record.process.pid))
    }

    /// Where the process in the background says who it is.
    fn up_file(&self) -> PathBuf {
        self.project.paths.root().join("up.json")
    }

    /// Where it writes what it has to say.
    fn up_log(&self) -> PathBuf {
        self.project.paths.root().join("coordinator.log")
    }

    /// The process in the background, where one lives.
    fn background(&self) -> Result<Option<UpRecord>, Failure> {
        if !FileLock::is_held(&self.project.paths.lock("up"))? {
            return Ok(None);
        }
        let bytes = files::read_if_exists(&self.up_file())?.unwrap_or_default();
        // It holds the lock before it has written, and after it has taken the file away.
        Ok(serde_json::from_slice(&bytes).ok())
    }

    /// Starts the process.
    fn begin_background(&self, request: &UpRequest, file: &std::path::Path) -> Result<Begun, Failure> {
        let call = &self.project.call;
        let program = call.program.clone();
        let text = |text: OsString| text.into_string().ok();
        let environment = call.environment.all().into_iter();
        let mut argv = vec![program.to_string_lossy().into_owned()];
        argv.extend(["-C".to_owned(), call.directory.to_string_lossy().into_owned()]);
        argv.extend(call.overrides.iter().map(|(key, value)| format!("--config={key}={value}")));
        argv.extend(self.trusts.then(|| "--yes".to_owned()));
        argv.extend(request.args.iter().cloned());
        let handover = UpHandover {
            argv,
            environment: environment.filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect(),
        };
        let bytes = serde_json::to_vec(&handover).map_err(|e| Failure::from_error(FailureKind::Internal, &e))?;
        files::write_atomically(file, &bytes, Access::Private)?;
        let cwd = self.project.repository.anchor().to_owned();
        let argv: Vec<OsString> =
            [program.into(), "lead".into(), "--handover".into(), file.as_os_str().to_owned()].into();
        let tmux = if request.headless { None } else { self.project.tmux()? };
        let Some(tmux) = tmux else {
            let log = files::open_log(&self.up_log())?;
            let mut command = process::command(&argv[0]);
            command.args(&argv[1..]).current_dir(cwd).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            return Ok(Begun::Child(process::spawn(&mut command)?));
        };
        let new = NewTmuxSession { name: self.background_session(), cwd, argv, size: Size::UNSEEN };
        let session = match tmux.new_session(&new) {
            Err(TmuxError::Exists(old)) => {
                // Nobody holds its lock, so nothing but a finished pane can be in it.
                tmux.kill_session(&old)?;
                tmux.new_session(&new)?
            }
            made => made?,
        };
        Ok(Begun::Session(tmux, session))
    }

    /// Waits until the process has said who it is and somebody leads.
    fn await_background(&self, begun: &mut Begun) -> Result<UpRecord, Failure> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Some(record) = self.background()?
                && self.project.queue()?.leader(&self.role()?)?.is_some()
            {
                return Ok(record);
            }
            let has_ended = begun.has_ended()?;
            if has_ended || Instant::now() >= deadline {
                let what = if has_ended { "ended at once" } else { "did not answer in time" };
                let mut failure = Failure::new(FailureKind::Failed, format!("the coordinator {what}"));
                let log =
                    String::from_utf8_lossy(&files::read_if_exists(&self.up_log())?.unwrap_or_default()).into_owned();
                let tail: String = log.chars().skip(log.chars().count().saturating_sub(LOG_TAIL)).collect();
                failure.chain.extend(tail.trim().lines().last().map(str::to_owned));
                return Err(failure.hint(format!("its log is {}", self.up_log().display())));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// The name of its tmux session. No worker id begins with `_`.
    fn background_session(&self) -> String {
        session_name_of(&self.project.repository.name(), self.project.repository.common_dir(), "_coordinator")
    }

    /// Ends the session of a coordinator that has ended.
    fn end_background_session(&self) -> Result<(), Failure> {
        if let Some(tmux) = self.project.tmux()?
            && let Some(session) = tmux.find(&self.background_session())?
        {
            tmux.kill_session(&session)?;
        }
        Ok(())
    }

    /// What is to be said of the process in the background, and of who leads.
    fn coordinator_view(&self, record: Option<&UpRecord>, what: &str) -> Result<CoordinatorView, Failure> {
        let leader = match self.project.tables()? {
            Some(Tables { queue, role, .. }) => queue.leader(&role)?,
            None => None,
        };
        self.coordinator_view_of(record, what, leader)
    }

    /// The same where it is known who leads.
    fn coordinator_view_of(
        &self,
        record: Option<&UpRecord>,
        what: &str,
        leader: Option<Leader>,
    ) -> Result<CoordinatorView, Failure> {
        let state = match (record, &leader) {
            (None, _) => CoordinatorState::None,
            (Some(record), Some(leader)) if leader.holder == record.holder => CoordinatorState::Leads,
            (Some(_), _) => CoordinatorState::StandsBy,
        };
        let lead = leader.as_ref().map(|leader| leader.holder.clone());
        let text = match (record, &lead, state) {
            (Some(record), _, CoordinatorState::Leads) => {
                format!("The coordinator {what} in the background (process {}) and leads", record.process.pid)
            }
            (Some(record), Some(lead), _) => {
                let pid = record.process.pid;
                format!("The coordinator {what} in the background (process {pid}) and stands by: {lead} leads")
            }
            (Some(record), None, _) => {
                format!("The coordinator {what} in the background (process {})", record.process.pid)
            }
            (None, Some(lead), _) if what == "runs" => format!("{lead} leads"),
            (None, Some(lead), _) => format!("The coordinator in the background {what}; {lead} leads"),
            (None, None, _) if what == "ended" => {
                format!("The coordinator in the background ended; {} on", counted_running(self.busy()?.len()))
            }
            (None, None, _) => format!("The coordinator in the background {what}"),
        };
        Ok(CoordinatorView {
            version: VIEW_VERSION,
            state,
            pid: record.map(|record| record.process.pid),
            since: record.map(|record| record.since),
            leader: lead,
            lease_until: leader.map(|leader| leader.lease_until),
            text,
        })
    }
}

/// Workers that run, as the subject of a sentence.
fn counted_running(count: usize) -> String {
    match count {
        1 => "1 worker runs".to_owned(),
        count => format!("{} run", counted(count, "worker")),
    }
}

/// A process that was started and has not been heard of.
enum Begun {
    /// In this session.
    Session(Tmux, TmuxSession),
    /// As a child of this process.
    Child(Child),
}

impl Begun {
    /// Whether it is gone.
    fn has_ended(&mut self) -> Result<bool, Failure> {
        match self {
            Self::Session(tmux, session) => {
                let panes = tmux.list()?;
                Ok(panes.iter().find(|pane| pane.session == *session).is_none_or(|pane| pane.is_dead))
            }
            Self::Child(child) => Ok(matches!(child.try_wait(), Ok(Some(_)))),
        }
    }
}
