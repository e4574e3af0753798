//! Bash, BashOutput and KillShell: commands in sessions of their own, whose output goes to files without a name.
//!
//! A file takes output as fast as it comes, costs no memory, and needs nobody who reads along; what a command leaves
//! running may go on writing. Everything that is started carries two marks in its environment, that of the loop and
//! that of its call, by which it is found wherever it went.

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::cap::cap_file;
use super::input::Input;
use super::{Output, Workshop};
use crate::agent::display::without_codes;
use crate::model::duration_text;
use crate::model::tool_call::ToolOutcome;
use crate::process;

/// The variable that marks everything a loop started.
pub(super) const LOOP_MARK: &str = "SWARM_LOOP";
/// The variable that marks what one call started.
const CALL_MARK: &str = "SWARM_LOOP_CALL";
/// Longest time that a call may ask for.
const LONGEST: Duration = Duration::from_secs(60 * 60);
/// Largest output file.
const FILE_LIMIT: u64 = 256 * 1024 * 1024;
/// How often the size of the output is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// All shells of one loop.
pub(super) struct Shells {
    /// Working folder.
    cwd: PathBuf,
    /// Environment.
    environment: Vec<(OsString, OsString)>,
    /// Where output files are.
    folder: PathBuf,
    /// The loop's mark.
    marker: String,
    /// Time of a call that names none.
    timeout: Duration,
    /// Bytes of output that the model reads.
    limit: usize,
    /// Time between asking and killing.
    grace: Duration,
    /// Calls so far.
    count: Cell<u64>,
    /// In the background.
    background: RefCell<Vec<Background>>,
}

/// A command that was started.
struct Running {
    /// The shell.
    child: Child,
    /// What it writes.
    output: File,
    /// The mark of its call.
    mark: String,
}

/// A shell in the background.
struct Background {
    /// As the model names it.
    id: String,
    /// The command.
    command: Running,
    /// How it ended, once that was seen.
    ended: Option<ExitStatus>,
    /// How much of the output was shown.
    shown: u64,
}

/// Why a wait for a command was over.
enum Over {
    /// It ended.
    Ended,
    /// It took too long.
    TimedOut,
    /// The person wants to stop.
    Stopped,
    /// It wrote too much.
    TooMuch,
}

impl Shells {
    /// No shells yet.
    pub(super) fn new(workshop: &Workshop) -> Self {
        Self {
            cwd: workshop.place.worktree().to_owned(),
            environment: workshop.environment.clone(),
            folder: workshop.folder.clone(),
            marker: workshop.marker.clone(),
            timeout: workshop.timeout,
            limit: workshop.output,
            grace: workshop.grace,
            count: Cell::new(0),
            background: RefCell::default(),
        }
    }

    /// Runs a command to its end, or starts it in the background.
    pub(super) async fn bash(&self, input: &Input<'_>, stop: watch::Receiver<bool>) -> Output {
        let prepared = input.text("command").and_then(|command| Ok((command, self.time(input)?)));
        let (text, timeout) = match prepared {
            Ok(prepared) => prepared,
            Err(reason) => return Output::error(reason),
        };
        let command = match self.start(text) {
            Ok(command) => command,
            Err(reason) => return Output::error(reason),
        };
        if input.flag("run_in_background") {
            let id = format!("shell-{}", self.count.get());
            let said = format!("It runs in the background as `{id}`. Read it with BashOutput, end it with KillShell.");
            self.background.borrow_mut().push(Background { id, command, ended: None, shown: 0 });
            return Output::ok(said);
        }
        self.follow(command, timeout, stop).await
    }

    /// The time a call may take.
    fn time(&self, input: &Input<'_>) -> Result<Duration, String> {
        let asked = input.number("timeout")?.filter(|millis| *millis > 0).map(Duration::from_millis);
        Ok(asked.unwrap_or(self.timeout).min(LONGEST.max(self.timeout)))
    }

    /// Starts a command.
    fn start(&self, text: &str) -> Result<Running, String> {
        let failed = |cause: &dyn std::fmt::Display| format!("could not start the command: {cause}");
        if text.contains('\0') {
            return Err(failed(&"it contains a zero byte"));
        }
        self.count.set(self.count.get() + 1);
        let mark = format!("{}.{}", self.marker, self.count.get());
        let output = tempfile::tempfile_in(&self.folder).map_err(|error| failed(&error))?;
        let stream = || -> std::io::Result<Stdio> { Ok(OwnedFd::from(output.try_clone()?).into()) };
        let path = self.environment.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path);
        let shell = which::which_in("bash", path, &self.cwd).unwrap_or_else(|_| "/bin/sh".into());
        let mut command = process::command(shell);
        command.arg("-c").arg(text).current_dir(&self.cwd).env_clear();
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env(LOOP_MARK, &self.marker).env(CALL_MARK, &mark);
        command.stdin(Stdio::null());
        command.stdout(stream().map_err(|error| failed(&error))?);
        command.stderr(stream().map_err(|error| failed(&error))?);
        // Away from our terminal: a program that asks for a password there must fail, not take the person's keys.
        #[expect(
            unsafe_code,
            reason = "setsid is safe between fork and exec (signal-safety(7)), and nothing else is done"
        )]
        unsafe {
            command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?));
        }
        let child = process::spawn(&mut command).map_err(|error| failed(&crate::model::error_text(&error)))?;
        Ok(Running { child, output, mark })
    }

    /// Waits for the end of a command, and ends it when it may not go on.
    async fn follow(&self, mut command: Running, timeout: Duration, stop: watch::Receiver<bool>) -> Output {
        let over = match command.wait(timeout, stop).await {
            Ok(over) => over,
            Err(error) => {
                self.end(&mut command).await;
                return Output::error(format!("could not follow the command: {error}"));
            }
        };
        let status = match over {
            Over::Ended => command.collect(),
            _ => self.end(&mut command).await,
        };
        let bytes = command.size();
        let text = self.text(&command.output, 0, bytes);
        let code = status.map(|status| status.code().or_else(|| status.signal().map(|number| 128 + number)));
        let code = code.flatten();
        let with = |note: &str| if text.is_empty() { note.to_owned() } else { format!("{}\n{note}", text.trim_end()) };
        let (outcome, said, exit_code) = match over {
            Over::Ended if code == Some(0) => (ToolOutcome::Ok, with_default(&text), code),
            Over::Ended => (ToolOutcome::Error, with(&format!("Exit code {}", code.unwrap_or(-1))), code),
            Over::TimedOut => {
                let limit = duration_text(timeout);
                (ToolOutcome::Error, with(&format!("It was ended because it took longer than {limit}.")), None)
            }
            Over::TooMuch => (
                ToolOutcome::Error,
                with(&format!("It was ended because it wrote more than {FILE_LIMIT} bytes.")),
                None,
            ),
            Over::Stopped => (ToolOutcome::Interrupted, with("It was interrupted by the person."), None),
        };
        Output { text: said, outcome, exit_code, bytes }
    }

    /// What was written between two places, as text without terminal codes, cut to what the model reads.
    fn text(&self, output: &File, from: u64, to: u64) -> String {
        let text = cap_file(output, from, to, self.limit);
        text.map_or_else(|error| format!("(its output could not be read: {error})"), |text| without_codes(&text))
    }

    /// Ends a command with everything it started.
    async fn end(&self, command: &mut Running) -> Option<ExitStatus> {
        let (mark, grace) = (command.mark.clone(), self.grace);
        tokio::task::spawn_blocking(move || process::stop_marked(CALL_MARK, &mark, grace).ok()).await.ok();
        // What took its mark off is killed at least.
        command.child.kill().ok();
        command.collect()
    }

    /// Shows what a shell wrote since the last look.
    pub(super) fn output(&self, input: &Input<'_>) -> Output {
        let mut all = self.background.borrow_mut();
        let Some(shell) = find(&mut all, input) else { return Output::error(self.unknown(&all)) };
        shell.look();
        let to = shell.command.size();
        let text = self.text(&shell.command.output, shell.shown, to);
        let bytes = to.saturating_sub(shell.shown);
        shell.shown = to;
        let state = match shell.ended {
            None => "It is still running.".to_owned(),
            Some(status) => format!("It ended: exit code {}.", code_of(status)),
        };
        let text = if text.is_empty() { "(nothing new)".to_owned() } else { text };
        Output { bytes, ..Output::ok(format!("{}\n{state}", text.trim_end())) }
    }

    /// Ends a shell.
    pub(super) async fn kill(&self, input: &Input<'_>) -> Output {
        let taken = {
            let mut all = self.background.borrow_mut();
            match find(&mut all, input).map(|shell| shell.id.clone()) {
                Some(id) => all.iter().position(|shell| shell.id == id).map(|at| all.remove(at)),
                None => return Output::error(self.unknown(&all)),
            }
        };
        let Some(mut shell) = taken else { return Output::error("it is gone") };
        shell.look();
        if shell.ended.is_none() {
            shell.ended = self.end(&mut shell.command).await;
        }
        let said = format!("`{}` ended: exit code {}.", shell.id, shell.ended.map_or(-1, code_of));
        self.background.borrow_mut().push(shell);
        Output::ok(said)
    }

    /// What is said of an id that nobody has.
    fn unknown(&self, all: &[Background]) -> String {
        let ids: Vec<&str> = all.iter().map(|shell| shell.id.as_str()).collect();
        if ids.is_empty() {
            return "No shell was started in the background.".to_owned();
        }
        format!("There is no such shell. There are: {}", ids.join(", "))
    }

    /// How many run in the background.
    pub(super) fn running(&self) -> usize {
        let mut all = self.background.borrow_mut();
        all.iter_mut().for_each(Background::look);
        all.iter().filter(|shell| shell.ended.is_none()).count()
    }

    /// Ends everything and collects every child.
    pub(super) async fn close(self) {
        let (mark, grace) = (self.marker.clone(), self.grace);
        tokio::task::spawn_blocking(move || process::stop_marked(LOOP_MARK, &mark, grace).ok()).await.ok();
        for mut shell in self.background.into_inner() {
            shell.look();
            if shell.ended.is_none() {
                shell.command.child.kill().ok();
                shell.command.collect();
            }
        }
    }
}

impl Running {
    /// Waits until it ends or may not go on.
    async fn wait(&self, timeout: Duration, mut stop: watch::Receiver<bool>) -> std::io::Result<Over> {
        let pid =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or(std::io::ErrorKind::InvalidInput)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        #[expect(
            unsafe_code,
            reason = "an owned descriptor stays open and the same until it is dropped with its watch"
        )]
        let ended = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
        let deadline = Instant::now() + timeout;
        loop {
            tokio::select! {
                biased;
                ready = ended.readable() => { drop(ready?); return Ok(Over::Ended) }
                Ok(_) = stop.wait_for(|stop| *stop) => return Ok(Over::Stopped),
                () = sleep_until(deadline) => return Ok(Over::TimedOut),
                () = tokio::time::sleep(LOOK_EVERY) => if self.size() > FILE_LIMIT { return Ok(Over::TooMuch) },
            }
        }
    }

    /// Size of the output so far.
    fn size(&self) -> u64 {
        self.output.metadata().map_or(0, |meta| meta.len())
    }

    /// Takes the end of a child that has ended.
    fn collect(&mut self) -> Option<ExitStatus> {
        let status = self.child.wait().ok();
        process::forget(self.child.id());
        status
    }
}

impl Background {
    /// Sees whether it ended.
    fn look(&mut self) {
        if self.ended.is_none()
            && let Ok(Some(status)) = self.command.child.try_wait()
        {
            process::forget(self.command.child.id());
            self.ended = Some(status);
        }
    }
}

/// The shell that a call names.
fn find<'a>(all: &'a mut [Background], input: &Input<'_>) -> Option<&'a mut Background> {
    let id = input.text("bash_id").ok()?;
    all.iter_mut().find(|shell| shell.id == id)
}

/// The output, or that there is none.
fn with_default(text: &str) -> String {
    if text.trim().is_empty() { "(no output)".to_owned() } else { text.to_owned() }
}

/// An exit code as shells have it.
fn code_of(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|number| 128 + number)).unwrap_or(-1)
}
