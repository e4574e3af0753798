//! A repository of its own with the real `swarm` in surroundings of their own: nothing of the person who runs the tests is
//! read or written, every test has its own tmux server, and nothing a test started outlives it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// The program under test.
pub(crate) const SWARM: &str = env!("CARGO_BIN_EXE_swarm");
/// Nothing a test waits for takes longer on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long leftover processes get to end by themselves when a test is over.
const GRACE: Duration = Duration::from_secs(8);

/// One repository with everything around it.
#[derive(Debug)]
pub(crate) struct TestSwarm {
    /// Holds everything; removed at the end.
    folder: TempDir,
    /// The same with symbolic links resolved.
    root: PathBuf,
    /// The whole environment of every program that is run here.
    environment: BTreeMap<String, OsString>,
}

/// How a program ended.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    /// Exit code; 128+n when signal n ended it.
    pub(crate) code: i32,
    /// Standard output; in a terminal, everything that was shown.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Output {
    /// Standard output of a success.
    #[track_caller]
    pub(crate) fn success(self) -> String {
        self.expect_code(0).stdout
    }

    /// The same, of an expected exit code.
    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "standard output:\n{}\nstandard error:\n{}", self.stdout, self.stderr);
        self
    }

    /// Fails unless either stream holds a text.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) {
        assert!(self.stdout.contains(text) || self.stderr.contains(text), "`{text}` is not in\n{}", self.transcript());
    }

    /// Standard output as one JSON document.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in\n{}\nstandard error:\n{}", self.stdout, self.stderr))
    }

    /// Everything of interest in one text, for snapshots.
    pub(crate) fn transcript(&self) -> String {
        let mut text = format!("exit code: {}\n", self.code);
        for (name, stream) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !stream.is_empty() {
                text.push_str(&format!("----- {name} -----\n{}\n", stream.trim_end_matches('\n')));
            }
        }
        text
    }
}

impl TestSwarm {
    /// A repository with one commit on `main`, without anything of `swarm` in it.
    pub(crate) fn new() -> Self {
        let swarm = Self::without_repository();
        let repository = swarm.repository();
        fs::create_dir(&repository).unwrap();
        swarm.git(["init", "--quiet", "-b", "main"]).success();
        swarm.git(["config", "user.name", "Test Person"]).success();
        swarm.git(["config", "user.email", "person@example.com"]).success();
        swarm.write("README.md", "# A project\n");
        swarm.git(["add", "README.md"]).success();
        swarm.git(["commit", "--quiet", "-m", "Start"]).success();
        swarm
    }

    /// The surroundings alone; the folder of the repository does not exist yet.
    pub(crate) fn without_repository() -> Self {
        // Short, because sockets are in it and their paths may have 107 bytes.
        let folder = tempfile::Builder::new().prefix("sw").tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["home", "config", "run", "tmp"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        fs::set_permissions(root.join("run"), Permissions::from_mode(0o700)).unwrap();
        let unique = root.file_name().unwrap().to_string_lossy().into_owned();
        let path = std::env::var_os("PATH").expect("PATH is set");
        let mut environment = BTreeMap::from([
            ("PATH".to_owned(), path),
            ("LANG".to_owned(), "C.UTF-8".into()),
            ("TERM".to_owned(), "xterm-256color".into()),
            ("GIT_CONFIG_NOSYSTEM".to_owned(), "1".into()),
            ("SWARM_TMUX_SOCKET".to_owned(), unique.into()),
            // Nobody listens there: an Ollama of the person who runs the tests is not for them.
            ("OLLAMA_HOST".to_owned(), "127.0.0.1:9".into()),
        ]);
        let places = [("HOME", "home"), ("XDG_CONFIG_HOME", "config"), ("XDG_RUNTIME_DIR", "run"), ("TMPDIR", "tmp")];
        for (name, place) in places.into_iter().chain([("TMUX_TMPDIR", "run")]) {
            environment.insert(name.to_owned(), root.join(place).into());
        }
        Self { folder, root, environment }
    }

    /// The repository's main worktree. Worktrees are beside it.
    pub(crate) fn repository(&self) -> PathBuf {
        self.root.join("project")
    }

    /// The folder around the repository, which nobody else uses.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where `swarm` keeps a person's own settings.
    pub(crate) fn user_config(&self) -> PathBuf {
        self.root.join("config/swarm")
    }

    /// Where `swarm` keeps its sockets.
    pub(crate) fn runtime_folder(&self) -> PathBuf {
        self.root.join("run/swarm")
    }

    /// The folder of logs of one worker.
    pub(crate) fn worker_dir(&self, worker: &str) -> PathBuf {
        self.repository().join(".git/swarm/workers").join(worker)
    }

    /// The worktree of one worker where it is by default.
    pub(crate) fn worktree(&self, worker: &str) -> PathBuf {
        self.root.join("project-worktrees").join(worker)
    }

    /// Sets a variable for everything that is run from now on.
    pub(crate) fn set_env(&mut self, name: &str, value: impl Into<OsString>) {
        self.environment.insert(name.to_owned(), value.into());
    }

    /// The environment of everything that is run here.
    pub(crate) fn environment(&self) -> &BTreeMap<String, OsString> {
        &self.environment
    }

    /// Writes a file of the repository, with its folders.
    pub(crate) fn write(&self, path: &str, text: &str) {
        self.write_at(&self.repository().join(path), text);
    }

    /// Writes a file anywhere.
    pub(crate) fn write_at(&self, path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Reads a file of the repository.
    #[track_caller]
    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Defines an agent whose program is `sh -c SCRIPT`, run in the worker's worktree.
    pub(crate) fn write_shell_agent(&self, name: &str, script: &str) {
        let command = serde_json::to_string(&["sh", "-c", script]).unwrap();
        let text = format!(
            "---\nname: {name}\ndescription: A script\nruntime: command\ncommand: {command}\nprompt: file\n---\nWork.\n"
        );
        self.write(&format!(".swarm/agents/{name}.md"), &text);
    }

    /// Writes a ticket for an agent.
    pub(crate) fn write_ticket(&self, id: &str, agent: &str, body: &str) {
        self.write(&format!(".swarm/tickets/{id}.md"), &format!("---\nagent: {agent}\n---\n{body}\n"));
    }

    /// Runs `swarm` in the repository, with nothing on standard input.
    #[must_use = "a program may have failed"]
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        self.run_program(SWARM, &self.repository(), args, None)
    }

    /// Runs `swarm` in the repository with a text on standard input.
    #[must_use = "a program may have failed"]
    pub(crate) fn run_with_input<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>, input: &str) -> Output {
        self.run_program(SWARM, &self.repository(), args, Some(input))
    }

    /// Runs `swarm` in another folder.
    #[must_use = "a program may have failed"]
    pub(crate) fn run_in<S: AsRef<OsStr>>(&self, folder: &Path, args: impl IntoIterator<Item = S>) -> Output {
        self.run_program(SWARM, folder, args, None)
    }

    /// Runs `swarm --json` and returns the document of a success.
    #[track_caller]
    pub(crate) fn json<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Value {
        let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let output = self.run(args.iter().map(OsString::as_os_str).chain([OsStr::new("--json")])).expect_code(0);
        output.json()
    }

    /// Runs git in the repository.
    #[must_use = "a program may have failed"]
    pub(crate) fn git<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        self.run_program("git", &self.repository(), args, None)
    }

    /// Runs git in another folder.
    #[must_use = "a program may have failed"]
    pub(crate) fn git_in<S: AsRef<OsStr>>(&self, folder: &Path, args: impl IntoIterator<Item = S>) -> Output {
        self.run_program("git", folder, args, None)
    }

    /// Runs tmux on the server of this test.
    #[must_use = "a program may have failed"]
    pub(crate) fn tmux<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        let socket = self.environment["SWARM_TMUX_SOCKET"].clone();
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        self.run_program("tmux", &self.root, ["-L".into(), socket].into_iter().chain(args), None)
    }

    /// A program with this environment and nothing else, not started yet.
    #[expect(clippy::disallowed_methods, reason = "the door in `process` is not visible to integration tests")]
    pub(crate) fn command(&self, program: impl AsRef<OsStr>, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(folder).env_clear().envs(&self.environment);
        command
    }

    /// Runs a program to its end. Its streams must be closed then: who leaves them open in a child would make every
    /// `$(swarm ...)` hang.
    fn run_program<S: AsRef<OsStr>>(
        &self,
        program: &str,
        folder: &Path,
        args: impl IntoIterator<Item = S>,
        input: Option<&str>,
    ) -> Output {
        let mut command = self.command(program, folder);
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let shown = format!("{command:?}");
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{shown}: {error}"));
        let (stdout, stderr) = (drain(child.stdout.take().unwrap()), drain(child.stderr.take().unwrap()));
        if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
            let text = text.to_owned();
            // The program may end without reading.
            std::thread::spawn(move || stdin.write_all(text.as_bytes()).ok());
        }
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() >= deadline {
                child.kill().ok();
                child.wait().ok();
                let told = stderr.recv_timeout(GRACE).unwrap_or_default();
                panic!("{shown} did not end; standard error:\n{told}");
            }
            std::thread::sleep(LOOK_EVERY);
        };
        let collect = |stream: Receiver<String>| match stream.recv_timeout(GRACE) {
            Ok(text) => text,
            Err(_) => panic!("{shown} ended, and something it started keeps its output open"),
        };
        use std::os::unix::process::ExitStatusExt;
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Output { code, stdout: collect(stdout), stderr: collect(stderr) }
    }

    /// Runs `swarm` in a terminal of 120 columns, typing `input` at once; `stdout` is what the terminal was sent.
    #[must_use = "a program may have failed"]
    pub(crate) fn run_in_terminal<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>, input: &str) -> Output {
        self.run_in_terminal_after("", args, input)
    }

    /// The same, typing `input` when the terminal has been sent `cue`.
    #[must_use = "a program may have failed"]
    pub(crate) fn run_in_terminal_after<S: AsRef<OsStr>>(
        &self,
        cue: &str,
        args: impl IntoIterator<Item = S>,
        input: &str,
    ) -> Output {
        let size = PtySize { rows: 40, cols: 120, ..PtySize::default() };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(SWARM);
        command.env_clear();
        command.cwd(self.repository());
        args.into_iter().for_each(|arg| command.arg(arg));
        self.environment.iter().for_each(|(name, value)| command.env(name, value));
        let mut child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let (saw_cue, shown) = drain_with_cue(cue, pair.master.try_clone_reader().unwrap());
        saw_cue.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the terminal never showed `{cue}`"));
        pair.master.take_writer().unwrap().write_all(input.as_bytes()).unwrap();
        let mut status = None;
        self.wait_until("the command in the terminal to end", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        let code = status.map_or(-1, |status| i32::try_from(status.exit_code()).unwrap());
        Output { code, stdout: shown.recv_timeout(GRACE).unwrap_or_default(), stderr: String::new() }
    }

    /// Waits until `holds`, looking often; fails with `what` when it takes too long.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "waited in vain for {what}\n{}", self.describe());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// What a person who looks at a failed test wants to know first.
    fn describe(&self) -> String {
        let mut text = String::new();
        let workers = fs::read_dir(self.repository().join(".git/swarm/workers"));
        for worker in workers.into_iter().flatten().flatten() {
            for name in ["events.jsonl", "supervisor.log"] {
                let content = fs::read_to_string(worker.path().join(name)).unwrap_or_default();
                text.push_str(&format!("--- {} {name}\n{content}\n", worker.file_name().to_string_lossy()));
            }
        }
        text
    }

    /// A text with everything replaced that differs between two runs: folders, commit ids, times, pids and versions.
    pub(crate) fn redact(&self, text: &str) -> String {
        let text = text.replace(&self.root.display().to_string(), "[ROOT]");
        let unique = self.environment["SWARM_TMUX_SOCKET"].to_string_lossy().into_owned();
        let mut text = text.replace(&unique, "[SOCKET]");
        let rules = [
            (r"\b[0-9a-f]{40}\b", "[COMMIT]"),
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[TIME]"),
            (r"(\bpid\b\D{0,3}|process(es)? )\d+", "$1[PID]"),
            (r"\b(git|tmux) \d+\.[0-9a-z.]+", "$1 [VERSION]"),
            (r"\r\n", "\n"),
        ];
        for (pattern, replacement) in rules {
            text = regex::Regex::new(pattern).unwrap().replace_all(&text, replacement).into_owned();
        }
        text
    }

    /// The living processes of this test: those with its folder in their arguments or environment.
    pub(crate) fn processes(&self) -> Vec<(u32, String)> {
        let root = self.root.as_os_str().as_encoded_bytes();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            // It may end meanwhile, or be somebody else's.
            let environ = environment(&entry.path());
            let cmdline = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let is_ours = [&cmdline, &environ].iter().any(|bytes| bytes.windows(root.len()).any(|part| part == root));
            if is_ours && pid != std::process::id() {
                let shown = String::from_utf8_lossy(&cmdline).replace('\0', " ");
                found.push((pid, shown));
            }
        }
        found
    }

    /// Sends a signal to every process of this test.
    fn signal_all(&self, signal: Signal) {
        for (pid, _) in self.processes() {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            pid.map(|pid| kill_process(pid, signal).ok());
        }
    }
}

/// Environment of a process by its folder in /proc; empty where it has ended, or is somebody else's.
///
/// One that is just becoming another program shows none for a moment, and is looked at again.
fn environment(process: &Path) -> Vec<u8> {
    let mut before = None;
    loop {
        // In one call: between two of them the process may have become another program.
        let mut environ = vec![0; 1 << 18];
        let read = File::open(process.join("environ")).and_then(|mut file| file.read(&mut environ));
        environ.truncate(read.unwrap_or_default());
        let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
        // Where it begins and ends (proc_pid_stat(5)), 0 as long as that is not known.
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ').skip(50 - 3);
        let place = fields.take(2).map(str::to_owned).collect::<Vec<_>>();
        let is_empty = place.first() == place.last() && place.first().is_none_or(|at| at != "0");
        // What has ended, and what is of the kernel, has no program.
        let has_program = fs::read_link(process.join("exe")).is_ok();
        if !environ.is_empty() || !has_program || is_empty && before.as_ref() == Some(&place) {
            return environ;
        }
        before = Some(place);
        std::thread::yield_now();
    }
}

impl Drop for TestSwarm {
    fn drop(&mut self) {
        // A test may leave workers running; that they survive their terminal is what `swarm` promises.
        self.signal_all(Signal::TERM);
        self.signal_all(Signal::CONT);
        let start = Instant::now();
        while !self.processes().is_empty() && start.elapsed() < 2 * GRACE {
            if start.elapsed() > GRACE {
                self.signal_all(Signal::KILL);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let left = self.processes();
        if !std::thread::panicking() {
            assert!(left.is_empty(), "processes outlive their test in {}: {left:?}", self.folder.path().display());
        }
    }
}

/// Reads a stream to its end on a thread of its own; the first channel says when `cue` has come.
fn drain_with_cue(cue: &str, mut stream: impl Read + Send + 'static) -> (Receiver<()>, Receiver<String>) {
    let (cue, (cue_sender, saw_cue), (sender, receiver)) = (cue.to_owned(), channel(), channel());
    std::thread::spawn(move || {
        let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
        loop {
            if String::from_utf8_lossy(&bytes).contains(&cue) {
                cue_sender.send(()).ok();
            }
            // A terminal whose program ended answers with an error instead of an end.
            match stream.read(&mut chunk) {
                Ok(0) | Err(_) => break,
                Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            }
        }
        sender.send(String::from_utf8_lossy(&bytes).into_owned()).ok();
    });
    (saw_cue, receiver)
}

/// Reads a stream to its end on a thread of its own.
fn drain(mut stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A terminal whose program ended answers with an error instead of an end.
        stream.read_to_end(&mut bytes).ok();
        sender.send(String::from_utf8_lossy(&bytes).into_owned()).ok();
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_test_outlives_it() {
        let swarm = TestSwarm::new();
        // A shell that ignores TERM, and a child that left its group: the worst a worker may leave behind.
        swarm.write_shell_agent("stubborn", "trap '' TERM HUP; setsid sleep 1000 & sleep 1000; wait");
        swarm.write_ticket("work", "stubborn", "Work.");
        swarm.run(["spawn", "work"]).success();
        swarm.tmux(["list-sessions", "-F", "#{session_name}"]).says("-work");
        swarm.wait_until("both processes", || {
            swarm.processes().iter().filter(|(_, shown)| shown.starts_with("sleep ")).count() == 2
        });
        assert!(swarm.worker_dir("work").join("events.jsonl").exists());
        let (root, before) = (swarm.root().to_owned(), swarm.processes());
        assert!(before.len() >= 4, "a tmux server, a supervisor, and the two: {before:?}");
        drop(swarm);
        for (pid, shown) in before {
            let now = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let root = root.as_os_str().as_encoded_bytes();
            assert!(!now.windows(root.len()).any(|part| part == root), "{pid} lives: {shown}");
        }
        assert!(!root.exists());
    }
}
