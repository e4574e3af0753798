//! Sessions on a tmux server.
//!
//! The builders of `tmux_interface` write the commands; running them is ours, through the process door, because the
//! crate's own calls have neither a time limit nor an environment nor our spawn lock, and some of its commands lose
//! text. A session is addressed by its id **and** name: ids start again when a server does, and names match by prefix.
//! Nothing of a caller's environment reaches the server but what [`FORWARDED`] lists.
//!
//! Do not make a session from a process that collects its descendants: a server started by it becomes one of them.

mod format;

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tmux_interface::{
    AttachSession, IfShell, KillServer, KillSession, ListPanes, ListSessions, NewSession, SetOption, TmuxCommand,
};

use super::{ProgramError, Size, program};
use crate::model::worker::TmuxSession;
use crate::process::{self, Finished, Invocation, ProcessError};

use format::{LIST_FORMAT, escaped, parse_pane};
pub(crate) use format::{TmuxPane, TmuxVersion, session_name, session_name_of};

/// Oldest version whose options and formats are used here.
const OLDEST: TmuxVersion = TmuxVersion { major: 3, minor: 2 };
/// One call; a server under heavy load answers in milliseconds.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// How often a call is tried while a server is still going away.
const TRIES: u32 = 8;
/// Time before the second try; doubled each time, well under a second in all.
const FIRST_WAIT: Duration = Duration::from_millis(5);
/// The caller's variables that tmux may see, and so every pane: what finds programs, the socket and the language.
const FORWARDED: [&str; 12] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TERM", "TMUX_TMPDIR", "TZ"];

/// A tmux call that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TmuxError {
    /// There is no tmux.
    #[error("tmux is not installed")]
    Missing(#[source] ProgramError),
    /// The installed tmux is too old.
    #[error("tmux {found} is older than {OLDEST}")]
    TooOld {
        /// What is installed.
        found: TmuxVersion,
    },
    /// What runs in the session cannot be started as asked.
    #[error("could not start the program of the session")]
    Program(#[from] ProgramError),
    /// Something under that name is on the server already.
    #[error("session `{}` exists already", .0.name)]
    Exists(TmuxSession),
    /// The session is not there any more, or its id names another one now.
    #[error("session `{0}` is not on its tmux server")]
    Gone(String),
    /// tmux did not run or took too long.
    #[error("could not run tmux")]
    Run(#[from] ProcessError),
    /// tmux refused.
    #[error("tmux could not {attempt}: {message}")]
    Refused {
        /// What was asked.
        attempt: &'static str,
        /// Its last line on standard error.
        message: String,
    },
}

/// A session to make.
#[derive(Debug, Clone)]
pub(crate) struct NewTmuxSession {
    /// Its name, as [`session_name`] makes them.
    pub(crate) name: String,
    /// Working folder of its program.
    pub(crate) cwd: PathBuf,
    /// Program and arguments, given to the program as they are. No secrets: `ps` shows them.
    pub(crate) argv: Vec<OsString>,
    /// Size until somebody attaches.
    pub(crate) size: Size,
}

/// A way to show a session to a person: a program to run on their terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttachStep {
    /// Program and arguments.
    pub(crate) argv: Vec<OsString>,
    /// Variables to take out of its environment.
    pub(crate) unset: &'static [&'static str],
}

/// One tmux server, running or not.
#[derive(Debug, Clone)]
pub(crate) struct Tmux {
    /// Socket name, or path when it holds `/`.
    socket: String,
    /// Configuration file of our own server; `None` leaves a person's server its own.
    config: Option<PathBuf>,
    /// The forwarded part of the caller's environment.
    env: Vec<(OsString, OsString)>,
}

impl Tmux {
    /// The server behind `socket`, a name (`-L`) or a path when it holds `/` (`-S`). `config` is read if a call starts
    /// the server. Of `env`, the caller's environment, a dozen harmless variables are passed on.
    pub(crate) fn new(
        socket: impl Into<String>,
        config: Option<PathBuf>,
        env: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        let is_forwarded = |name: &OsStr| FORWARDED.iter().any(|known| name == *known);
        let env = env.into_iter().filter(|(name, _)| is_forwarded(name)).collect();
        Self { socket: socket.into(), config, env }
    }

    /// The server's socket name, or path.
    pub(crate) fn socket(&self) -> &str {
        &self.socket
    }

    /// Path, size and time of change of the installed program: what stays the same as long as its version does. `None`
    /// when there is none.
    pub(crate) fn program_stamp(&self) -> Option<String> {
        let name = [OsString::from("tmux")];
        let program = program::check(&name, &self.env, Path::new("/")).ok()?;
        let meta = std::fs::metadata(&program).ok()?;
        let (size, changed) = (meta.len(), (meta.mtime(), meta.mtime_nsec()));
        Some(format!("{} {size} {changed:?}", program.display()))
    }

    /// Whether there is a tmux at all, of whatever version.
    pub(crate) fn is_installed(&self) -> bool {
        self.program_stamp().is_some()
    }

    /// The installed version.
    ///
    /// # Errors
    /// [`TmuxError::Missing`] and [`TmuxError::TooOld`], for which a worker can run detached instead.
    pub(crate) fn available(&self) -> Result<TmuxVersion, TmuxError> {
        let name = [OsString::from("tmux")];
        let program = program::check(&name, &self.env, Path::new("/")).map_err(TmuxError::Missing)?;
        let mut call = Invocation::new(program, "/").args(["-V"]);
        call.env = Some(self.env.clone());
        call.timeout = Some(CALL_LIMIT);
        let answer = process::run(&call)?;
        let found = TmuxVersion::parse(&answer.text());
        let found = found.ok_or_else(|| refused("tell its version", &answer))?;
        if found < OLDEST { Err(TmuxError::TooOld { found }) } else { Ok(found) }
    }

    /// Makes a detached session whose pane runs `argv` and stays readable after it ends.
    ///
    /// # Errors
    /// [`TmuxError::Exists`] when the name is taken.
    pub(crate) fn new_session(&self, new: &NewTmuxSession) -> Result<TmuxSession, TmuxError> {
        let mut pane_env = self.env.clone();
        pane_env.retain(|(name, _)| name == "PATH");
        let program = program::check(&new.argv, &pane_env, &new.cwd)?;
        let args = new_session_args(new, program.as_os_str());
        let mut wait = FIRST_WAIT;
        for tries_left in (0..TRIES).rev() {
            let answer = self.call(&new.cwd, args.clone())?;
            let text = answer.text();
            if answer.status.success()
                && let Some((id, name)) = text.trim_end().split_once('\t')
            {
                return Ok(TmuxSession { socket: self.socket.clone(), id: id.to_owned(), name: name.to_owned() });
            }
            if let Some(session) = self.find(&new.name)? {
                return Err(TmuxError::Exists(session));
            }
            // A server whose last session just ended takes connections for a moment and then drops them.
            if tries_left == 0 {
                return Err(refused("make the session", &answer));
            }
            std::thread::sleep(wait);
            wait *= 2;
        }
        Err(TmuxError::Gone(new.name.clone()))
    }

    /// All sessions of the server with the state of their first pane, by one call; none when no server runs.
    pub(crate) fn list(&self) -> Result<Vec<TmuxPane>, TmuxError> {
        let panes = self.panes()?;
        if !panes.iter().any(TmuxPane::is_missed) {
            return Ok(panes);
        }
        // tmux 3.3a now and then misses the end of a program that lasts a few milliseconds, until another child of the
        // server ends: let one. If this call fails, the end stays unknown, which is true.
        self.call(Path::new("/"), vec!["run-shell".into(), "true".into()])?;
        self.panes()
    }

    /// Asks for the first pane of every session.
    fn panes(&self) -> Result<Vec<TmuxPane>, TmuxError> {
        let Some(answer) = self.listing()? else {
            return Ok(Vec::new());
        };
        let text = answer.text();
        let mut panes: Vec<TmuxPane> = text.lines().filter_map(|line| parse_pane(line, &self.socket)).collect();
        // A person may have split a worker's window; the worker's own pane is the oldest.
        panes.sort_by_key(TmuxPane::order);
        panes.dedup_by(|later, first| later.session.id == first.session.id);
        Ok(panes)
    }

    /// The raw list of panes; `None` when there is no session. A server that has lost its last session and is about to
    /// end still takes calls, and refuses this one.
    fn listing(&self) -> Result<Option<Finished>, TmuxError> {
        let mut wait = FIRST_WAIT;
        for tries_left in (0..TRIES).rev() {
            let answer = self.call(Path::new("/"), words(ListPanes::new().all().format(LIST_FORMAT).build()))?;
            if answer.status.success() {
                return Ok(Some(answer));
            }
            let sessions = self.call(Path::new("/"), words(ListSessions::new().build()))?;
            if !self.is_up() || (sessions.status.success() && sessions.stdout.is_empty()) {
                return Ok(None);
            }
            if tries_left == 0 {
                return Err(refused("list its sessions", &answer));
            }
            std::thread::sleep(wait);
            wait *= 2;
        }
        Ok(None)
    }

    /// Whether that very session is there. `has-session` would answer for a name or for an id, never for both.
    pub(crate) fn has_session(&self, session: &TmuxSession) -> Result<bool, TmuxError> {
        Ok(self.list()?.iter().any(|pane| pane.session == *session))
    }

    /// The session of exactly that name.
    pub(crate) fn find(&self, name: &str) -> Result<Option<TmuxSession>, TmuxError> {
        Ok(self.list()?.into_iter().map(|pane| pane.session).find(|session| session.name == name))
    }

    /// Ends that very session and no other; whether it was there. Id and name are checked inside the server, so
    /// nothing can change between look and act.
    pub(crate) fn kill_session(&self, session: &TmuxSession) -> Result<bool, TmuxError> {
        let kill = KillSession::new().target_session(format!("'={}'", session.id)).build();
        let then = format!("display-message -p killed ; {kill}");
        let check = IfShell::new()
            .not_execute()
            .target_pane(target(session))
            .shell_command(format!("#{{==:#{{session_name}},{}}}", session.name))
            .command(then)
            .build();
        let answer = self.call(Path::new("/"), words(check))?;
        // The server may go down with its last session before it has answered.
        if answer.text().contains("killed") || !self.is_up() {
            return Ok(answer.text().contains("killed"));
        }
        if answer.status.success() || !self.list()?.iter().any(|pane| pane.session == *session) {
            return Ok(false);
        }
        Err(refused("end the session", &answer))
    }

    /// Ends the server with all its sessions; for a server of one's own only. One that is not up is no error.
    pub(crate) fn kill_server(&self) -> Result<(), TmuxError> {
        self.call(Path::new("/"), words(KillServer::new().build()))?;
        Ok(())
    }

    /// Program and arguments that show the session on a terminal outside tmux.
    pub(crate) fn attach_command(&self, session: &TmuxSession, read_only: bool) -> Vec<OsString> {
        let attach = AttachSession::new().target_session(format!("={}", session.id));
        let attach = if read_only { attach.read_only() } else { attach };
        // By its path: a popup runs with the outer server's idea of where sockets are.
        let mut argv = vec![OsString::from("tmux"), "-S".into(), self.socket_path().into_os_string()];
        argv.extend(words(attach.build()));
        argv
    }

    /// Ways to show the session, best first; the next one is for when a way fails at once. `outer` is the value of
    /// `TMUX` when the person sits in a tmux: then its popup, or a nested client, or, on this very server, their
    /// client switches. No way kills anything.
    pub(crate) fn attach_plan(&self, session: &TmuxSession, read_only: bool, outer: Option<&str>) -> Vec<AttachStep> {
        const NESTED: &[&str] = &["TMUX", "TMUX_PANE"];
        let attach = self.attach_command(session, read_only);
        let Some(outer) = outer.filter(|outer| !outer.is_empty()) else {
            return vec![AttachStep { argv: attach, unset: &[] }];
        };
        let socket = outer.split(',').next().unwrap_or_default();
        if Path::new(socket) == self.socket_path() {
            let mut argv = vec![OsString::from("tmux")];
            argv.extend(self.server_args());
            argv.push("switch-client".into());
            argv.extend(read_only.then(|| "-r".into()));
            argv.extend(["-t".into(), format!("={}", session.id).into()]);
            return vec![AttachStep { argv, unset: &[] }, AttachStep { argv: attach, unset: NESTED }];
        }
        let popup = ["tmux", "display-popup", "-E", "-w", "100%", "-h", "100%", "--"];
        let clean = ["env", "-u", "TMUX", "-u", "TMUX_PANE"];
        let mut argv: Vec<OsString> = popup.into_iter().chain(clean).map(OsString::from).collect();
        argv.extend(attach.iter().cloned());
        vec![AttachStep { argv, unset: &[] }, AttachStep { argv: attach, unset: NESTED }]
    }

    /// Runs one tmux call.
    fn call(&self, cwd: &Path, args: Vec<OsString>) -> Result<Finished, TmuxError> {
        // `-u`: without it a client in a plain locale gets tabs and letters as underscores.
        let mut call = Invocation::new("tmux", cwd).args(["-u"]).args(self.server_args()).args(args);
        call.env = Some(self.env.clone());
        call.timeout = Some(CALL_LIMIT);
        Ok(process::run(&call)?)
    }

    /// The arguments that name the server.
    fn server_args(&self) -> Vec<OsString> {
        let flag = if self.socket.contains('/') { "-S" } else { "-L" };
        let mut args = vec![flag.into(), self.socket.clone().into()];
        if let Some(config) = &self.config {
            args.extend(["-f".into(), config.clone().into_os_string()]);
        }
        args
    }

    /// Where the server listens (tmux(1), `-L`).
    fn socket_path(&self) -> PathBuf {
        if self.socket.contains('/') {
            return PathBuf::from(&self.socket);
        }
        let folder = self.env.iter().find(|(name, value)| name == "TMUX_TMPDIR" && !value.is_empty());
        let folder = folder.map_or(Path::new("/tmp"), |(_, value)| Path::new(value));
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        folder.join(format!("tmux-{}", rustix::process::getuid().as_raw())).join(&self.socket)
    }

    /// Whether a server takes connections. Asked only after a call failed, to tell absence from failure.
    fn is_up(&self) -> bool {
        UnixStream::connect(self.socket_path()).is_ok()
    }
}

/// The arguments that make a session. The working folder is the client's own, because `-c` expands formats and
/// so would run commands that a folder's name holds.
fn new_session_args(new: &NewTmuxSession, program: &OsStr) -> Vec<OsString> {
    let size = new.size.clamped();
    let make = NewSession::new()
        .detached()
        .print()
        .format("#{session_id}\t#{session_name}")
        .session_name(&*new.name)
        .width(usize::from(size.columns))
        .height(usize::from(size.rows));
    let mut args = words(make.build());
    args.push("--".into());
    if new.argv.len() == 1 {
        // A lone argument is a shell command to tmux.
        args.extend(["/bin/sh", "-c", r#"exec "$0""#].map(OsString::from));
    }
    args.push(escaped(program));
    args.extend(new.argv.iter().skip(1).map(|arg| escaped(arg)));
    // Same call, same queue: set before the server can notice that the program ended.
    let pane = format!("={}:", new.name);
    for (is_window, option, value) in [(true, "remain-on-exit", "on"), (false, "destroy-unattached", "off")] {
        let set = SetOption::new().target_pane(pane.clone()).option(option).value(value);
        let set = if is_window { set.window() } else { set };
        args.push(";".into());
        args.extend(words(set.build()));
    }
    args
}

/// The target of a session's current pane, by id.
fn target(session: &TmuxSession) -> String {
    format!("={}:", session.id)
}

/// A built command as arguments.
fn words(command: TmuxCommand<'_>) -> Vec<OsString> {
    command.to_vec().iter().map(|word| OsString::from(word.as_ref())).collect()
}

/// The error for a call that tmux refused.
fn refused(attempt: &'static str, answer: &Finished) -> TmuxError {
    let text = String::from_utf8_lossy(&answer.stderr);
    let message = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it gave no reason");
    TmuxError::Refused { attempt, message: message.to_owned() }
}

#[cfg(test)]
mod tests;
