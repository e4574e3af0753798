//! What a person sees of an agent's terminal, and what of their keys reaches it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use crate::support::scene::{assert_no_processes, await_file, await_status, scene, worker};
use crate::support::swarm::{SWARM, TestSwarm};

/// A person's terminal with a program in it.
struct Terminal<'a> {
    swarm: &'a TestSwarm,
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    keys: Box<dyn Write + Send>,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Reads until nobody has the terminal open any more.
    reader: JoinHandle<()>,
}

/// A size of a terminal.
fn size(columns: u16, rows: u16) -> PtySize {
    PtySize { rows, cols: columns, ..PtySize::default() }
}

impl<'a> Terminal<'a> {
    /// Runs `swarm` in a terminal of 100x30.
    fn open(swarm: &'a TestSwarm, args: &[&str]) -> Self {
        let pair = native_pty_system().openpty(size(100, 30)).unwrap();
        let mut command = CommandBuilder::new(SWARM);
        command.env_clear();
        command.cwd(swarm.repository());
        command.args(args);
        swarm.environment().iter().for_each(|(name, value)| command.env(name, value));
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let mut reader = pair.master.try_clone_reader().unwrap();
        let (sink, mut buffer) = (shown.clone(), [0; 4096]);
        let reader = std::thread::spawn(move || {
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                sink.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        let keys = pair.master.take_writer().unwrap();
        Self { swarm, child, master: pair.master, keys, shown, reader }
    }

    /// Waits until something was shown.
    #[track_caller]
    fn sees(&self, text: &str) {
        let shown = || String::from_utf8_lossy(&self.shown.lock().unwrap()).contains(text);
        self.swarm.wait_until(&format!("`{text}` on the screen"), shown);
    }

    /// Types.
    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the end, and until all is shown; the exit code.
    #[track_caller]
    fn ends(mut self) -> u32 {
        let mut status = None;
        self.swarm.wait_until("the terminal's program to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        self.swarm.wait_until("its last words to be shown", || self.reader.is_finished());
        status.unwrap().exit_code()
    }
}

/// Greets, then writes every line it gets to `lines`, until one is `end`.
const LISTENS: &str = "echo 'hello from the agent'; touch up
    while read -r line && [ \"$line\" != end ]; do echo \"$line\" >> lines; echo \"heard $line\"; done";

/// The lines that an agent of [`LISTENS`] has heard.
fn lines(swarm: &TestSwarm) -> String {
    fs::read_to_string(swarm.worktree("T-1").join("lines")).unwrap_or_default()
}

#[test]
fn attach_shows_the_session_passes_keys_and_leaves_it_running() {
    for how in [&[][..], &["--headless"]] {
        let swarm = scene(LISTENS);
        swarm.run(["spawn", "T-1"].iter().chain(how)).success();
        await_file(&swarm, "T-1", "up");
        let mut terminal = Terminal::open(&swarm, &["attach", "T-1"]);
        terminal.sees("hello from the agent");
        terminal.types("from a person\r");
        terminal.sees("heard from a person");
        assert_eq!(lines(&swarm), "from a person\n");
        terminal.types("\x11d");
        let shown = terminal.shown.clone();
        assert_eq!(terminal.ends(), 0, "{how:?}");
        let text = String::from_utf8_lossy(&shown.lock().unwrap()).into_owned();
        assert_eq!(text.contains("Left; the worker runs on."), !how.is_empty(), "{text}");
        assert_eq!(worker(&swarm, "T-1")["status"], "working");
        let mut terminal = Terminal::open(&swarm, &["attach", "T-1"]);
        terminal.sees("heard from a person");
        terminal.types("end\r");
        if how.is_empty() {
            // The pane stays with its last words until it is released.
            terminal.sees("swarm: T-1 is done");
            terminal.types("\x11d");
        } else {
            terminal.sees("The worker's terminal ended.");
        }
        terminal.ends();
        await_status(&swarm, "T-1", "done");
    }
}

#[test]
fn a_read_only_view_passes_no_keys() {
    for how in [&[][..], &["--headless"]] {
        let swarm = scene(LISTENS);
        swarm.run(["spawn", "T-1"].iter().chain(how)).success();
        await_file(&swarm, "T-1", "up");
        let mut reader = Terminal::open(&swarm, &["attach", "T-1", "--read-only"]);
        reader.sees("hello from the agent");
        reader.types("from a reader\r");
        let mut writer = Terminal::open(&swarm, &["attach", "T-1"]);
        writer.sees("hello from the agent");
        writer.types("from a writer\r");
        reader.sees("heard from a writer");
        assert_eq!(lines(&swarm), "from a writer\n", "{how:?}");
        writer.types("\x11d");
        writer.ends();
        reader.types("\x11d");
        assert_eq!(reader.ends(), 0);
        swarm.run(["stop", "T-1"]).success();
    }
}

#[test]
fn attach_without_a_terminal_is_a_usage_error() {
    let swarm = scene(LISTENS);
    swarm.run(["spawn", "T-1"]).success();
    let output = swarm.run(["attach", "T-1"]).expect_code(2);
    assert!(
        output.stderr.contains("needs a terminal") && output.stderr.contains("swarm logs T-1 --terminal"),
        "{}",
        output.stderr
    );
    swarm.run(["stop", "T-1"]).success();
}

#[test]
fn a_new_size_reaches_the_agent_without_a_key() {
    for how in [&[][..], &["--headless"]] {
        let swarm = scene("trap 'stty size > size' WINCH; echo ready; touch up; while :; do sleep 0.02; done");
        swarm.run(["spawn", "T-1"].iter().chain(how)).success();
        await_file(&swarm, "T-1", "up");
        let mut terminal = Terminal::open(&swarm, &["attach", "T-1"]);
        terminal.sees("ready");
        terminal.master.resize(size(77, 21)).unwrap();
        // Our tmux keeps one line for itself.
        let rows = if how.is_empty() { "20 77\n" } else { "21 77\n" };
        swarm.wait_until("the size to arrive", || {
            fs::read_to_string(swarm.worktree("T-1").join("size")).unwrap_or_default() == rows
        });
        terminal.types("\x11d");
        assert_eq!(terminal.ends(), 0);
        swarm.run(["stop", "T-1"]).success();
    }
}

#[test]
fn attach_after_the_session_was_killed_goes_through_the_supervisor() {
    let swarm = scene(LISTENS);
    swarm.run(["spawn", "T-1"]).success();
    await_file(&swarm, "T-1", "up");
    swarm.tmux(["kill-server"]).success();
    let mut terminal = Terminal::open(&swarm, &["attach", "T-1"]);
    terminal.sees("hello from the agent");
    terminal.types("end\r");
    assert_eq!(terminal.ends(), 0);
    await_status(&swarm, "T-1", "done");
}

#[test]
fn a_persons_own_server_and_habits_are_respected() {
    let mut swarm = scene(LISTENS);
    let socket = swarm.root().join("own.socket");
    let text = "set -g base-index 1\nset -g pane-base-index 1\nset -g prefix C-a\nset -g renumber-windows on\n";
    swarm.write_at(&swarm.root().join("home/.tmux.conf"), text);
    let own = |swarm: &TestSwarm, args: &[&str]| {
        let output = swarm.command("tmux", swarm.root()).arg("-S").arg(&socket).args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    own(&swarm, &["new-session", "-d", "-s", "mine"]);
    swarm.set_env("SWARM_TMUX_SOCKET", socket.clone());
    swarm.run(["spawn", "T-1"]).success();
    await_file(&swarm, "T-1", "up");
    let sessions = own(&swarm, &["list-sessions", "-F", "#{session_name}"]);
    assert!(sessions.contains("mine") && sessions.contains("T-1"), "{sessions}");
    let mut terminal = Terminal::open(&swarm, &["attach", "T-1"]);
    terminal.sees("hello from the agent");
    terminal.types("to the agent\r");
    terminal.sees("heard to the agent");
    terminal.types("\x01d");
    terminal.ends();
    swarm.run(["stop", "T-1"]).success();
    swarm.run(["restart", "T-1"]).success();
    swarm.run(["stop", "T-1"]).success();
    assert_eq!(own(&swarm, &["show-options", "-gv", "prefix"]), "C-a\n", "their options are untouched");
    assert!(own(&swarm, &["list-sessions", "-F", "#{session_name}"]).contains("mine"));
    own(&swarm, &["kill-server"]);
    assert_no_processes(&swarm);
}

#[test]
fn the_recording_is_an_asciicast_and_its_text_can_be_read() {
    let swarm = scene("printf 'one\\n\\033[31mtw\\303\\266\\033[0m\\n\\377 not text \\0 nul\\n'; echo done > made.txt");
    swarm.run(["spawn", "T-1", "--wait"]).success();
    let text = fs::read_to_string(swarm.worker_dir("T-1").join("terminal.1.cast")).unwrap();
    let mut values = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let header = values.next().unwrap();
    assert_eq!((&header["version"], &header["width"], &header["height"]), (&2.into(), &120.into(), &40.into()));
    let mut last = 0.0;
    for event in values {
        let at = event[0].as_f64().unwrap();
        assert!(
            at >= last && ["o", "r", "i", "m"].contains(&event[1].as_str().unwrap()) && event[2].is_string(),
            "{event}"
        );
        last = at;
    }
    let shown = swarm.run(["logs", "T-1", "--terminal"]).success();
    assert!(shown.contains("one") && shown.contains("twö") && shown.contains("not text"), "{shown}");
}

/// A prompt with everything that a shell, a terminal or a template could stumble over.
const NASTY: &str = "It's \"quoted\" `touch ticked` $(touch dollared) ${HOME} \\n {{ braces }} {% tag %} %s ; & | > x\n\n# Heading\n\
    \ttab — dash, ünïcode, emoji 🐝\n--flag\n-n";

#[test]
fn a_nasty_prompt_arrives_as_written_by_file_standard_input_and_argument() {
    for (prompt, command) in [
        ("file", r#"["sh", "-c", "cat \"$1\" > got", "sh", "{prompt_file}"]"#),
        ("stdin", r#"["sh", "-c", "cat > got"]"#),
        ("argument", r#"["sh", "-c", "printf %s \"$1\" > got", "sh"]"#),
    ] {
        let swarm = TestSwarm::new();
        let agent = format!(
            "---\nname: shell\ndescription: x\nruntime: command\ncommand: {command}\nprompt: {prompt}\n---\nx\n"
        );
        swarm.write(".swarm/agents/shell.md", &agent);
        swarm.write_ticket("T-1", "shell", NASTY);
        swarm.run(["spawn", "T-1"]).success();
        swarm.run(["wait", "T-1", "--timeout", "20s"]).success();
        let got = fs::read_to_string(swarm.worktree("T-1").join("got")).unwrap();
        assert!(got.contains(NASTY), "{prompt}: {got}");
        assert!(!swarm.worktree("T-1").join("ticked").exists() && !swarm.worktree("T-1").join("dollared").exists());
    }
}

#[test]
fn a_huge_prompt_arrives_by_file_and_standard_input_and_is_refused_as_an_argument() {
    let huge: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
    assert!(huge.len() > 200_000);
    for (prompt, command) in [
        ("file", r#"["sh", "-c", "cat \"$1\" > got", "sh", "{prompt_file}"]"#),
        ("stdin", r#"["sh", "-c", "cat > got"]"#),
        ("argument", r#"["true"]"#),
    ] {
        let swarm = TestSwarm::new();
        let agent = format!(
            "---\nname: shell\ndescription: x\nruntime: command\ncommand: {command}\nprompt: {prompt}\n---\nx\n"
        );
        swarm.write(".swarm/agents/shell.md", &agent);
        swarm.write_ticket("T-1", "shell", &huge);
        let output = swarm.run(["spawn", "T-1"]);
        if prompt == "argument" {
            assert_eq!(output.code, 1, "{}", output.transcript());
            assert!(output.stderr.contains("prompt: file"), "{}", output.stderr);
            assert_eq!(swarm.json(["status", "--all"])["workers"], serde_json::json!([]));
            continue;
        }
        output.success();
        swarm.run(["wait", "T-1", "--timeout", "20s"]).success();
        let got = fs::read_to_string(swarm.worktree("T-1").join("got")).unwrap();
        assert!(got.contains(huge.trim_end()), "{prompt}: {} bytes", got.len());
    }
}

#[test]
fn a_terminal_that_asks_without_end_and_never_listens_blocks_nobody() {
    let swarm = scene(
        "stty raw -echo; i=0; while [ $i -lt 20000 ]; do printf '\\033[6n'; i=$((i+1)); done; touch up; sleep 1000",
    );
    swarm.run(["spawn", "T-1", "--headless"]).success();
    await_file(&swarm, "T-1", "up");
    let mut terminal = Terminal::open(&swarm, &["attach", "T-1"]);
    terminal.sees("leaves");
    let paste = "x".repeat(200_000);
    let mut keys = std::mem::replace(&mut terminal.keys, Box::new(std::io::sink()));
    std::thread::spawn(move || keys.write_all(paste.as_bytes()).ok());
    swarm.run(["stop", "T-1"]).success();
    assert_eq!(worker(&swarm, "T-1")["status"], "stopped");
    terminal.child.kill().ok();
    terminal.ends();
}

#[test]
fn without_tmux_a_worker_runs_detached() {
    let mut swarm = scene(LISTENS);
    let bin = swarm.root().join("bin");
    fs::create_dir(&bin).unwrap();
    for program in ["git", "sh", "touch", "sleep", "cat"] {
        std::os::unix::fs::symlink(which::which(program).unwrap(), bin.join(program)).unwrap();
    }
    swarm.write_at(&bin.join("marker"), "");
    fs::set_permissions(bin.join("marker"), fs::Permissions::from_mode(0o644)).unwrap();
    swarm.set_env("PATH", bin);
    swarm.run(["spawn", "T-1"]).success();
    await_file(&swarm, "T-1", "up");
    assert_eq!(worker(&swarm, "T-1")["tmux_session"], serde_json::Value::Null);
    let mut terminal = Terminal::open(&swarm, &["attach", "T-1"]);
    terminal.sees("hello from the agent");
    terminal.types("end\r");
    assert_eq!(terminal.ends(), 0);
    await_status(&swarm, "T-1", "done");
}
