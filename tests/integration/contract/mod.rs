//! One contract for all runtimes: the same small job, done by the real program of each with a scripted model on loopback,
//! must look the same from outside, as far as the runtime says that it can. What each says stands in `runtimes.rs`; the
//! table in the README is made from it. Runtimes whose programs have to be installed are tested with the feature
//! `real-agents`.

mod runtimes;
mod table;

use serde_json::{Value, json};

use self::runtimes::{Resume, Runtime};
use crate::support::model_server::{Fault, ModelServer, Script};
use crate::support::swarm::{Output, TestSwarm};

/// How long a worker gets to come to rest; a loaded machine starts an agent in seconds.
const PATIENCE: &str = "90s";

/// A repository with its scripted model and a ticket `work` for an agent of one runtime.
struct Stage {
    /// Ends before the server does: its agents talk to it.
    swarm: TestSwarm,
    /// The model.
    server: ModelServer,
}

impl Stage {
    /// A stage whose scripts are made for the worktree of `work`.
    fn new(runtime: &Runtime, scripts: &[(&str, Script)]) -> Self {
        let mut swarm = TestSwarm::new();
        let tree = swarm.worktree("work").display().to_string();
        let builder = ModelServer::builder().variable("tree", tree);
        let builder = scripts.iter().fold(builder, |builder, (name, script)| builder.script(name, script.clone()));
        let server = builder.start();
        (runtime.prepare)(&mut swarm, &server);
        swarm.write(".swarm/agents/subject.md", &runtime.agent());
        swarm.write_ticket("work", "subject", "SCRIPT:work\nDo the work.");
        Self { swarm, server }
    }

    /// Starts the worker.
    #[track_caller]
    fn spawn(&self, args: &[&str]) {
        self.swarm.run(["spawn", "work"].iter().chain(args)).success();
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
    fn worker(&self) -> Value {
        self.swarm.json(["status", "work"])["workers"][0].take()
    }

    /// Everything about the worker that helps to understand a failure.
    fn explain(&self) -> String {
        let told = |args: &[&str]| self.swarm.run(args).transcript();
        let parts = [told(&["why", "work"]), told(&["logs", "work"]), told(&["logs", "work", "--terminal"])];
        format!(
            "{}\n{}\n{}",
            parts.join("\n"),
            self.file_of_worker("supervisor.log"),
            self.file_of_worker("acp-agent.log")
        )
    }

    /// A file of the worker's folder.
    fn file_of_worker(&self, name: &str) -> String {
        std::fs::read_to_string(self.swarm.worker_dir("work").join(name)).unwrap_or_default()
    }

    /// The tool log as `tool outcome exit_code`, one entry for each call that ended, in the order of the ends.
    fn tool_ends(&self) -> Vec<String> {
        let log = self.file_of_worker("tool_calls.jsonl");
        let records = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let end = |end: Value| {
            let code = end["exit_code"].as_i64().map(|code| format!(" {code}")).unwrap_or_default();
            format!("{} {}{code}", end["tool"].as_str().unwrap(), end["outcome"].as_str().unwrap())
        };
        records.filter(|record| record["event"] == "end").map(end).collect()
    }

    /// A file of the worker's worktree.
    fn file(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.swarm.worktree("work").join(name)).ok()
    }
}

/// Writes a file, runs a command that fails, tries one that is forbidden, and says so.
fn a_whole_job(runtime: &Runtime) {
    let script = Script::new();
    let calls = [(runtime.write)("a.txt"), (runtime.shell)("sh -c 'exit 3'"), (runtime.shell)("rm README.md")];
    let script =
        calls.into_iter().fold(script, |script, (tool, input)| script.call(tool, input)).say("Did most of it.");
    let stage = Stage::new(runtime, &[("work", script)]);
    stage.spawn(&["--headless"]);
    let worker = stage.reach("review");
    assert_eq!((&worker["status"], &worker["commits"]), (&json!("done"), &json!(1)), "{worker:#}\n{}", stage.explain());
    assert!(stage.file("a.txt").is_some() && stage.file("README.md").is_some(), "{}", stage.explain());
    assert_eq!(stage.tool_ends(), runtime.ends, "{}", stage.explain());
    let calls = if runtime.ends.is_empty() { Value::Null } else { json!(runtime.ends.len()) };
    assert_eq!(worker["tool_calls"], calls, "{worker:#}");
    assert_eq!(worker["input_tokens"].as_u64().is_some_and(|tokens| tokens >= 100), runtime.usage, "{worker:#}");
    assert_eq!(worker["cost_usd"].is_number(), runtime.cost, "{worker:#}");
    assert_eq!(worker["cost_usd"].as_f64() == Some(0.0), runtime.is_free, "{worker:#}");
}

/// Killed in the middle, without a chance to tidy up, it leaves nothing running, and goes on with what it knew.
fn killed_and_resumed(runtime: &Runtime) {
    let (tool, input) = (runtime.write)("a.txt");
    let script = Script::new().call(tool, input).say("Wrote it.").failing(Fault::HangBefore);
    let stage = Stage::new(runtime, &[("work", script)]);
    // For the program without a model: that it is to hang this once.
    stage.swarm.write_at(&stage.swarm.root().join("home/hang"), "");
    stage.spawn(&["--headless"]);
    stage.swarm.wait_until("the first half", || stage.file("a.txt").is_some());
    if runtime.has_model {
        stage.server.wait_for_request(|request| !request.tool_results().is_empty());
    }
    let pid = i32::try_from(stage.worker()["pid"].as_i64().unwrap()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
    assert_eq!(stage.wait(&[]).code, 1, "{}", stage.explain());
    // A program that nothing is known about failed, whatever ended it.
    let status = if runtime.has_model { "stopped" } else { "failed" };
    assert_eq!(stage.worker()["status"], status, "{}", stage.explain());
    let left = |(_, line): &(u32, String)| runtime.processes.iter().any(|name| line.contains(name));
    assert_eq!(stage.swarm.processes().into_iter().find(left), None);
    if runtime.has_model {
        stage.server.release("work");
    }
    stage.swarm.run(["resume", "work"]).success();
    let worker = stage.reach("review");
    // What failed is tried again; what was stopped goes on.
    let attempt = if runtime.has_model { 1 } else { 2 };
    assert_eq!((&worker["commits"], &worker["attempt"]), (&json!(1), &json!(attempt)), "{worker:#}");
    if runtime.resume == Resume::Conversation {
        let last = stage.server.wait_for_request(|request| request.mentions("You were interrupted"));
        assert!(last.mentions("Do the work."), "{:?}", last.user_texts());
        let writes = stage.tool_ends().iter().filter(|end| end.ends_with("ok") || end.ends_with("ok 0")).count();
        assert_eq!(writes, 1, "{:?}", stage.tool_ends());
    }
}

/// In a person's terminal it ends its turn without ending, and takes a message for the next one.
fn turns_in_a_terminal(runtime: &Runtime) {
    let writes = |name: &str| {
        let (tool, input) = (runtime.write)(name);
        Script::new().call(tool, input).say("Wrote it.")
    };
    let stage = Stage::new(runtime, &[("work", writes("a.txt")), ("more", writes("b.txt"))]);
    stage.spawn(&[]);
    let worker = stage.reach("review");
    assert!(worker["pid"].is_u64(), "it stays for more: {worker:#}");
    stage.swarm.run(["send", "work", "SCRIPT:more"]).success();
    stage.swarm.wait_until("the second file", || stage.file("b.txt").is_some());
    let worker = stage.reach("review");
    assert_eq!(worker["commits"], 2, "{worker:#}\n{}", stage.explain());
}

/// A rule that asks waits for the person in the terminal, and goes on with the answer.
fn a_question_in_a_terminal(runtime: &Runtime) {
    let (tool, input) = (runtime.shell)("touch made.txt");
    let stage = Stage::new(runtime, &[("work", Script::new().call(tool, input).say("Done."))]);
    stage.spawn(&[]);
    let worker = stage.reach("waiting");
    assert!(worker["reason"].as_str().unwrap().contains("touch made.txt"), "{worker:#}");
    stage.swarm.tmux(["send-keys", "-t", ":", runtime.consent]).success();
    stage.swarm.wait_until("the end of the turn", || stage.worker()["ticket_state"] == "review");
    assert!(stage.file("made.txt").is_some(), "{}", stage.explain());
}

/// A rule that asks, and nobody to answer: denied, and the worker waits for a person with exit code 4.
fn a_question_to_nobody(runtime: &Runtime) {
    let (tool, input) = (runtime.shell)("git push origin HEAD");
    let (write, written) = (runtime.write)("a.txt");
    let script = Script::new().call(write, written).call(tool, input).say("Could not push.");
    let stage = Stage::new(runtime, &[("work", script)]);
    stage.spawn(&["--headless"]);
    let output = stage.wait(&[]);
    assert_eq!(output.code, 4, "{}\n{}", output.transcript(), stage.explain());
    assert_eq!(stage.worker()["status"], "waiting", "{}", stage.explain());
}

/// The scenarios of each runtime as tests of their own.
macro_rules! contract {
    ($($(#[$needs:meta])? $name:ident: $runtime:expr => [$($scenario:ident),*];)*) => {
        $($(#[$needs])?
        mod $name {
            $(#[test]
            fn $scenario() {
                super::$scenario(&$runtime);
            })*
        })*

        /// What is tested of each runtime.
        const TESTED: &[(&Runtime, &[&str])] = &[$((&$runtime, &[$(stringify!($scenario)),*])),*];
    };
}

contract! {
    #[cfg(feature = "real-agents")]
    claude: crate::contract::runtimes::CLAUDE =>
        [a_whole_job, killed_and_resumed, turns_in_a_terminal, a_question_in_a_terminal, a_question_to_nobody];
    #[cfg(feature = "real-agents")]
    claude_elsewhere: crate::contract::runtimes::CLAUDE_ELSEWHERE => [a_whole_job, killed_and_resumed];
    ollama: crate::contract::runtimes::OLLAMA =>
        [a_whole_job, killed_and_resumed, turns_in_a_terminal, a_question_in_a_terminal, a_question_to_nobody];
    #[cfg(feature = "real-agents")]
    acp: crate::contract::runtimes::ACP =>
        [a_whole_job, killed_and_resumed, turns_in_a_terminal, a_question_in_a_terminal, a_question_to_nobody];
    #[cfg(feature = "real-agents")]
    codex: crate::contract::runtimes::CODEX => [a_whole_job, killed_and_resumed, turns_in_a_terminal];
    #[cfg(feature = "real-agents")]
    opencode: crate::contract::runtimes::OPENCODE => [a_whole_job, killed_and_resumed];
    command: crate::contract::runtimes::COMMAND => [a_whole_job, killed_and_resumed];
}
