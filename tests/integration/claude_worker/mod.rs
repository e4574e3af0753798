//! Workers whose agent is the real Claude Code CLI, against a scripted model on loopback, in real tmux.

mod commit_hooks;
mod isolated;
mod life;
mod messages;
mod print_mode;
mod questions;
mod reviewer;
mod sub_agents;
mod tools;
mod trouble;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::claude::ClaudeHome;
use crate::support::model_server::{ModelServer, ModelServerBuilder, Script};
use crate::support::swarm::{Output, TestSwarm};

/// How long a worker gets to come to rest; a loaded machine starts an agent in seconds.
const PATIENCE: &str = "60s";
/// How long it may take until an answer shows: consent does only in a file that is read once a second.
const ANSWERED_WITHIN: Duration = Duration::from_secs(4);
/// A shell command that the agent may not run without asking.
const ASKED: &str = "install -m 600 README.md made.txt";
/// An agent that may run any shell command it likes, and else only what the built-in ones may.
const SHELL_AGENT: &str = "---\nname: shell\ndescription: A worker with a shell\nruntime: claude\n\
    permission_mode: acceptEdits\npermissions:\n  allow: [\"Bash(sh -c *)\", \"Bash(git *)\"]\n---\nWork.\n";

/// A repository whose agents reach only the scripted model.
pub(crate) fn claude_swarm(server: &ModelServer) -> TestSwarm {
    let mut swarm = TestSwarm::new();
    let folder = swarm.root().join("agent");
    std::fs::create_dir(&folder).unwrap();
    let home = ClaudeHome::prepare(&folder, server, &[&swarm.repository()]);
    for (name, value) in home.environment() {
        if name != "HOME" && name != "TMPDIR" {
            swarm.set_env(name, value.as_str());
        }
    }
    swarm
}

/// One repository with its scripted model and a ticket `work` that plays script `work`.
struct Stage {
    /// Ends before the server does: its agents talk to it.
    swarm: TestSwarm,
    /// The model.
    server: ModelServer,
}

impl Stage {
    /// A stage for one script.
    fn new(script: Script) -> Self {
        Self::with(ModelServer::builder().script("work", script))
    }

    /// A stage for several scripts.
    fn with(builder: ModelServerBuilder) -> Self {
        let server = builder.start();
        let swarm = claude_swarm(&server);
        swarm.write(".swarm/agents/shell.md", SHELL_AGENT);
        swarm.write_ticket("work", "shell", "SCRIPT:work\nDo the work.");
        Self { swarm, server }
    }

    /// Makes the ticket have a check that fails with script `repair` as its words until `two.txt` is there.
    fn check_for_two(&self) -> String {
        self.swarm.write("hint", "two is missing, do SCRIPT:repair\n");
        self.swarm.git(["add", "hint"]).success();
        self.swarm.git(["commit", "--quiet", "-m", "Add a hint"]).success();
        let check = "test -f two.txt || { cat hint; exit 1; }".to_owned();
        let ticket = json!({"agent": "shell", "checks": [check]});
        self.swarm.write(".swarm/tickets/work.md", &format!("---\n{ticket}\n---\nSCRIPT:work\n"));
        check
    }

    /// Starts the worker in tmux.
    #[track_caller]
    fn spawn(&self) {
        self.swarm.run(["spawn", "work"]).success();
    }

    /// Waits until the worker is at rest, or where `--for` says.
    fn wait(&self, targets: &[&str]) -> Output {
        let targets = targets.iter().flat_map(|target| ["--for", target]);
        self.swarm.run(["wait", "work", "--timeout", PATIENCE].into_iter().chain(targets))
    }

    /// Waits for the worker to get there, and shows what it did instead where it did not.
    #[track_caller]
    fn reach(&self, target: &str) -> Value {
        let output = self.wait(&[target]);
        assert_eq!(output.code, 0, "{}\n{}", output.transcript(), self.explain());
        self.worker()
    }

    /// The worker as `status` has it.
    #[track_caller]
    fn worker(&self) -> Value {
        self.swarm.json(["status", "work"])["workers"][0].take()
    }

    /// Everything about the worker that helps to understand a failure.
    fn explain(&self) -> String {
        let why = self.swarm.run(["why", "work"]).transcript();
        let events = self.swarm.run(["logs", "work"]).stdout;
        format!("{why}\n{events}\n{}\n{}", self.screen(), self.log_text("supervisor.log"))
    }

    /// A file of the worker's folder.
    fn log_text(&self, name: &str) -> String {
        std::fs::read_to_string(self.swarm.worker_dir("work").join(name)).unwrap_or_default()
    }

    /// The records of a log of the worker.
    fn records(&self, name: &str) -> Vec<Value> {
        self.log_text(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The tool log.
    fn tool_log(&self) -> Vec<Value> {
        self.records("tool_calls.jsonl")
    }

    /// The tool log as `tool outcome exit_code`, one entry for each call that ended, in the order of the ends.
    fn tool_ends(&self) -> Vec<String> {
        let ends = self.tool_log().into_iter().filter(|record| record["event"] == "end");
        ends.map(|end| {
            let code = end["exit_code"].as_i64().map(|code| format!(" {code}")).unwrap_or_default();
            format!("{} {}{code}", end["tool"].as_str().unwrap(), end["outcome"].as_str().unwrap())
        })
        .collect()
    }

    /// Waits until the agent has begun this many tool calls.
    #[track_caller]
    fn wait_for_calls(&self, count: usize) {
        self.swarm.wait_until("a tool call", || {
            self.tool_log().iter().filter(|record| record["event"] == "start").count() >= count
        });
    }

    /// What a source of evidence says about the worker.
    fn evidence(&self, source: &str) -> Option<String> {
        let worker = self.worker();
        let mut evidence = worker["evidence"].as_array().unwrap().iter();
        let said = evidence.find(|evidence| evidence["source"] == source)?;
        Some(said["says"].as_str().unwrap().to_owned())
    }

    /// Presses a key that answers what the worker waits for, and waits until it is answered. A dialog takes no keys in
    /// its first moment, so the key is pressed again when nothing comes of it.
    #[track_caller]
    fn answer(&self, key: &str) {
        let asked = self.worker()["reason"].clone();
        let mut pressed: Option<Instant> = None;
        self.swarm.wait_until("the question to be over", || {
            let is_over = self.worker()["reason"] != asked;
            if !is_over && pressed.is_none_or(|at| at.elapsed() > ANSWERED_WITHIN) {
                self.press(&[key]);
                pressed = Some(Instant::now());
            }
            is_over
        });
    }

    /// What the worker's tmux pane shows.
    fn screen(&self) -> String {
        self.swarm.tmux(["capture-pane", "-p", "-t", ":"]).stdout
    }

    /// Waits until the pane shows a text.
    #[track_caller]
    fn wait_for_screen(&self, text: &str) {
        self.swarm.wait_until(&format!("`{text}` on the screen"), || self.screen().contains(text));
    }

    /// Presses keys in the worker's pane, as a person would.
    #[track_caller]
    fn press(&self, keys: &[&str]) {
        let keys = keys.iter().copied();
        self.swarm.tmux(["send-keys", "-t", ":"].into_iter().chain(keys)).success();
    }

    /// A file of the worker's worktree.
    fn file(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.swarm.worktree("work").join(name)).ok()
    }

    /// The command lines of the living processes of this test that contain `text`.
    fn processes_with(&self, text: &str) -> Vec<(u32, String)> {
        // The tmux server keeps the command line of the command that started it.
        let is_it = |line: &str| line.contains(text) && !line.starts_with("tmux ");
        self.swarm.processes().into_iter().filter(|(_, line)| is_it(line)).collect()
    }

    /// Waits until some user text of some request contains this, and returns the session it came in.
    fn session_told(&self, text: &str) -> String {
        self.server.wait_for_request(|request| request.mentions(text)).session_id().to_owned()
    }
}

/// A script that writes one file and says so.
fn writes(name: &str) -> Script {
    let path = format!("{{cwd}}/{name}");
    Script::new().call("Write", json!({"file_path": path, "content": "content\n"})).say("Wrote it.")
}

/// A text of 4,000 lines and 200 kB that says `mark` in every line.
fn long_text(mark: &str) -> String {
    (0..4_000).map(|number| format!("Line {number} of a very long and \"awkward\" text: {mark}.\n")).collect()
}

/// The lines of a text that are not in what the model read.
fn missing<'a>(text: &'a str, read: &str) -> Vec<&'a str> {
    text.lines().filter(|line| !read.contains(line)).collect()
}

/// A call of the shell tool.
fn shell(command: &str) -> Value {
    json!({"command": command, "description": "Run a command"})
}

/// Ends a process at once, without a chance to tidy up.
fn kill_9(pid: &Value) {
    let pid = i32::try_from(pid.as_i64().unwrap()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
}

/// Whether a file of that name is in a folder or below.
fn is_below(folder: &Path, name: &str) -> bool {
    std::fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        entry.file_name() == name || entry.file_type().is_ok_and(|kind| kind.is_dir()) && is_below(&entry.path(), name)
    })
}

/// Told in this time when a supervisor is gone.
const LOST_WITHIN: Duration = Duration::from_secs(5);

#[test]
fn an_interactive_worker_writes_commits_and_goes_to_review() {
    let stage = Stage::new(
        Script::new()
            .call("Write", json!({"file_path": "{cwd}/parser.txt", "content": "parsed\n"}))
            .call("Bash", shell("git add parser.txt && git commit -q -m 'Add the parser'"))
            .say("Added the parser."),
    );
    stage.spawn();
    let output = stage.wait(&[]);
    assert_eq!(output.code, 0, "{}\n{}", output.transcript(), stage.explain());
    let worker = stage.worker();
    assert_eq!(worker["status"], "done", "{worker:#}");
    assert_eq!(worker["ticket_state"], "review");
    assert_eq!(worker["tool_calls"], 2, "{worker:#}");
    assert_eq!(worker["commits"], 1);
    assert!(worker["pid"].is_u64(), "the agent stays for more: {worker:#}");
}
