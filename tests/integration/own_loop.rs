//! Workers whose agent is our own loop, in real tmux, with scripts in place of a model.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::Value;

use crate::support::model_server::ModelServer;
use crate::support::swarm::{Output, TestSwarm};

/// How long a worker gets to come to rest.
const PATIENCE: &str = "60s";

/// What the agents may do.
const RULES: &str = "permission_mode: acceptEdits\npermissions:\n  allow: [\"Bash(git *)\", \"Bash(sh -c *)\"]\n  \
    ask: [\"Bash(git tag *)\"]\n";

/// The conversations that the tests play.
const SCRIPT: &str = r#"
conversations:
  - name: commit
    turns:
      - say: I write it first.
        calls:
          - Write: {file_path: parser.txt, content: "parsed\n"}
      - calls:
          - Bash: {command: "git add parser.txt && git commit -q -m 'Add the parser'"}
      - say: Added the parser.
  - name: more
    turns:
      - calls:
          - Edit: {file_path: parser.txt, old_string: parsed, new_string: parsed twice}
      - say: Changed it.
  - name: tag
    turns:
      - calls:
          - Bash: {command: git tag v1}
      - say: Tagged or not.
  - name: hang
    turns:
      - calls:
          - Write: {file_path: a.txt, content: "half\n"}
      - calls:
          - Bash: {command: "sh -c 'tail -f /dev/null'"}
      - calls:
          - Write: {file_path: b.txt, content: "whole\n"}
      - say: Done after all.
  - name: escape
    turns:
      - calls:
          - Write: {file_path: ../outside.txt, content: x}
          - Nothing: {}
          - Read: {file_path: /etc/hostname}
          - Write: {file_path: inside.txt, content: x}
      - say: Stayed inside.
  - name: interrupted
    turns:
      - calls:
          - Bash: {command: "sh -c 'tail -f /dev/null'"}
      - say: Never said.
"#;

/// A repository with a ticket `work` that plays one of the conversations.
struct Stage {
    swarm: TestSwarm,
}

impl Stage {
    fn new(conversation: &str) -> Self {
        let swarm = TestSwarm::new();
        swarm.write("script.yaml", SCRIPT);
        swarm.write_ticket("work", "own", &format!("SCRIPT:{conversation}\nDo the work."));
        let stage = Self { swarm };
        stage.write_agent("replay", "script.yaml");
        stage
    }

    /// Makes the ticket's agent one of this runtime and model.
    fn write_agent(&self, runtime: &str, model: &str) {
        let head = format!("name: own\ndescription: Our own loop\nruntime: {runtime}\nmodel: {model}\n{RULES}");
        self.swarm.write(".swarm/agents/own.md", &format!("---\n{head}---\nWork.\n"));
    }

    /// Lets the agent run any command.
    fn allow_all(&self) {
        let agent = self.swarm.read(".swarm/agents/own.md").replace("\"Bash(git *)\"", "Bash");
        self.swarm.write(".swarm/agents/own.md", &agent);
    }

    #[track_caller]
    fn spawn(&self, flags: &[&str]) {
        self.swarm.run(["spawn", "work"].iter().chain(flags)).success();
    }

    fn wait(&self, targets: &[&str]) -> Output {
        let targets = targets.iter().flat_map(|target| ["--for", target]);
        self.swarm.run(["wait", "work", "--timeout", PATIENCE].into_iter().chain(targets))
    }

    #[track_caller]
    fn reach(&self, target: &str) -> Value {
        let output = self.wait(&[target]);
        assert_eq!(output.code, 0, "{}\n{}", output.transcript(), self.explain());
        self.worker()
    }

    #[track_caller]
    fn worker(&self) -> Value {
        self.swarm.json(["status", "work"])["workers"][0].take()
    }

    fn explain(&self) -> String {
        let why = self.swarm.run(["why", "work"]).transcript();
        let events = self.swarm.run(["logs", "work"]).stdout;
        format!("{why}\n{events}\n{}\n{}", self.screen(), self.log_text("supervisor.log"))
    }

    fn log_text(&self, name: &str) -> String {
        std::fs::read_to_string(self.swarm.worker_dir("work").join(name)).unwrap_or_default()
    }

    fn tool_log(&self) -> Vec<Value> {
        self.log_text("tool_calls.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The tool log as `tool outcome exit_code`, one entry for each call that ended.
    fn tool_ends(&self) -> Vec<String> {
        let ends = self.tool_log().into_iter().filter(|record| record["event"] == "end");
        ends.map(|end| {
            let code = end["exit_code"].as_i64().map(|code| format!(" {code}")).unwrap_or_default();
            format!("{} {}{code}", end["tool"].as_str().unwrap(), end["outcome"].as_str().unwrap())
        })
        .collect()
    }

    #[track_caller]
    fn wait_for_calls(&self, count: usize) {
        self.swarm.wait_until("a tool call", || {
            self.tool_log().iter().filter(|record| record["event"] == "start").count() >= count
        });
    }

    fn screen(&self) -> String {
        self.swarm.tmux(["capture-pane", "-p", "-t", ":"]).stdout
    }

    #[track_caller]
    fn wait_for_screen(&self, text: &str) {
        self.swarm.wait_until(&format!("`{text}` on the screen"), || self.screen().contains(text));
    }

    #[track_caller]
    fn press(&self, keys: &[&str]) {
        self.swarm.tmux(["send-keys", "-t", ":"].iter().chain(keys)).success();
    }

    fn file(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.swarm.worktree("work").join(name)).ok()
    }

    fn processes_with(&self, text: &str) -> Vec<(u32, String)> {
        let is_it = |line: &str| line.contains(text) && !line.starts_with("tmux ");
        self.swarm.processes().into_iter().filter(|(_, line)| is_it(line)).collect()
    }
}

/// Ends a process at once; it may have ended by itself.
fn kill_9(pid: &Value) {
    let pid = i32::try_from(pid.as_i64().unwrap()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).ok();
}

#[test]
fn an_interactive_worker_commits_takes_a_message_and_commits_again() {
    let stage = Stage::new("commit");
    stage.spawn(&[]);
    let worker = stage.reach("review");
    assert_eq!((&worker["status"], &worker["commits"]), (&"done".into(), &1.into()), "{worker:#}");
    assert_eq!((&worker["tool_calls"], &worker["runtime"]), (&2.into(), &"replay".into()), "{worker:#}");
    assert!(worker["pid"].is_u64() && worker["input_tokens"].is_u64(), "{worker:#}");
    assert_eq!(stage.tool_ends(), ["Write ok", "Bash ok 0"]);
    for text in ["I write it first.", "-> Write parser.txt", "Added the parser."] {
        stage.wait_for_screen(text);
    }
    let sent = stage.swarm.run(["send", "work", "Once more.\nSCRIPT:more"]);
    assert_eq!(sent.code, 0, "{}\n{}", sent.transcript(), stage.explain());
    stage.swarm.wait_until("the second commit", || stage.worker()["commits"] == 2);
    stage.reach("review");
    assert_eq!(stage.file("parser.txt").as_deref(), Some("parsed twice\n"));
    assert_eq!(stage.tool_ends(), ["Write ok", "Bash ok 0", "Edit ok"]);
}

#[test]
fn a_worker_without_a_terminal_ends_with_its_work() {
    let stage = Stage::new("commit");
    stage.spawn(&["--headless"]);
    let worker = stage.reach("review");
    assert_eq!((&worker["commits"], &worker["pid"]), (&1.into(), &Value::Null), "{worker:#}");
    assert_eq!(stage.tool_ends(), ["Write ok", "Bash ok 0"]);
}

#[test]
fn a_question_waits_for_the_person_in_the_terminal() {
    let stage = Stage::new("tag");
    stage.spawn(&[]);
    let worker = stage.reach("waiting");
    assert_eq!(worker["reason"], "permission for Bash git tag v1", "{worker:#}");
    stage.wait_for_screen("Allow Bash git tag v1?");
    stage.press(&["y"]);
    stage.wait_for_screen("Tagged or not.");
    assert_eq!(stage.tool_ends(), ["Bash ok 0"]);
    assert_eq!(stage.swarm.git(["tag", "--list"]).success(), "v1\n");
}

#[test]
fn without_a_person_a_question_is_left_to_one() {
    let stage = Stage::new("tag");
    stage.spawn(&["--headless"]);
    let output = stage.wait(&[]);
    assert_eq!(output.code, 4, "{}\n{}", output.transcript(), stage.explain());
    let worker = stage.worker();
    assert_eq!(worker["reason"], "a person has to decide about: Bash git tag v1", "{worker:#}");
    assert_eq!(stage.tool_ends(), ["Bash denied"]);
    assert_eq!(stage.swarm.git(["tag", "--list"]).success(), "");
}

#[test]
fn stop_ends_the_loop_with_its_tools_and_resume_goes_on() {
    let stage = Stage::new("hang");
    stage.spawn(&[]);
    stage.wait_for_calls(2);
    stage.swarm.wait_until("the tool's process", || !stage.processes_with("tail -f").is_empty());
    stage.swarm.run(["stop", "work"]).success();
    for name in ["tail -f", "swarm loop", "swarm supervise"] {
        assert_eq!(stage.processes_with(name), [], "{name} outlived the stop");
    }
    assert_eq!(stage.tool_ends(), ["Write ok", "Bash interrupted"]);
    stage.swarm.run(["resume", "work"]).success();
    stage.reach("review");
    assert_eq!((stage.file("a.txt"), stage.file("b.txt")), (Some("half\n".into()), Some("whole\n".into())));
    assert_eq!(stage.tool_ends(), ["Write ok", "Bash interrupted", "Write ok"]);
}

#[test]
fn a_killed_worker_resumes_and_makes_no_call_twice() {
    let stage = Stage::new("hang");
    stage.spawn(&[]);
    stage.wait_for_calls(2);
    stage.swarm.wait_until("the tool's process", || !stage.processes_with("tail -f").is_empty());
    let worker = stage.worker();
    kill_9(&worker["pid"]);
    kill_9(&worker["supervisor_pid"]);
    let killed = Instant::now();
    assert_eq!(stage.wait(&[]).code, 4);
    assert!(killed.elapsed().as_secs() < 10);
    stage.swarm.run(["resume", "work"]).success();
    let worker = stage.reach("review");
    assert_eq!(worker["attempt"], 1, "{worker:#}");
    assert_eq!(stage.processes_with("tail -f"), [], "the tool of the lost loop runs on");
    let ends = stage.tool_ends();
    assert_eq!((ends.len(), ends[0].as_str(), ends[2].as_str()), (3, "Write ok", "Write ok"), "{ends:?}");
    assert!(stage.log_text("loop-plan.json").contains("\"session\""));
}

#[test]
fn a_loop_whose_conversation_was_never_written_hears_of_its_ticket_when_it_is_resumed() {
    let stage = Stage::new("hang");
    stage.spawn(&[]);
    stage.wait_for_calls(2);
    stage.swarm.run(["stop", "work"]).success();
    let conversation = || -> PathBuf {
        let plan: Value = serde_json::from_str(&stage.log_text("loop-plan.json")).unwrap();
        plan["conversation"].as_str().unwrap().into()
    };
    let text = std::fs::read_to_string(conversation()).unwrap();
    // As a full disk leaves it: opened, and nothing said.
    stage.swarm.write_at(&conversation(), &format!("{}\n", text.lines().next().unwrap()));
    stage.swarm.run(["resume", "work"]).success();
    stage.wait_for_calls(4);
    let text = std::fs::read_to_string(conversation()).unwrap();
    let said = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let said = said.filter(|line| line["entry"] == "user").collect::<Vec<_>>();
    let first = said[0]["text"].as_str().unwrap();
    assert!(first.contains("Do the work.") && first.contains("You were interrupted."), "{first}");
    assert_eq!(said.len(), 1, "{said:#?}");
    stage.swarm.run(["stop", "work"]).success();
}

#[test]
fn control_c_interrupts_the_turn_and_the_loop_lives_on() {
    let stage = Stage::new("interrupted");
    stage.spawn(&[]);
    stage.wait_for_calls(1);
    stage.swarm.wait_until("the tool's process", || !stage.processes_with("tail -f").is_empty());
    stage.press(&["C-c"]);
    stage.wait_for_screen("(interrupted)");
    stage.swarm.wait_until("the end of the tool", || stage.processes_with("tail -f").is_empty());
    assert_eq!(stage.tool_ends(), ["Bash interrupted"]);
    let worker = stage.reach("idle");
    assert!(worker["pid"].is_u64(), "{worker:#}");
    stage.press(&["/status", "Enter"]);
    stage.wait_for_screen("conversation");
    stage.press(&["SCRIPT:commit", "Enter"]);
    stage.reach("review");
    stage.press(&["/exit", "Enter"]);
    stage.swarm.wait_until("the end of the worker", || stage.worker()["pid"].is_null());
}

#[test]
fn nothing_outside_of_the_worktree_is_touched() {
    let stage = Stage::new("escape");
    stage.spawn(&["--headless"]);
    stage.reach("review");
    assert_eq!(stage.tool_ends(), ["Write error", "Nothing error", "Read error", "Write ok"]);
    assert!(!stage.swarm.root().join("project-worktrees/outside.txt").exists());
    assert_eq!(stage.file("inside.txt").as_deref(), Some("x"));
}

#[test]
fn a_conversation_is_recorded_and_the_recording_does_the_same_work() {
    let mut stage = Stage::new("commit");
    let recording = stage.swarm.repository().join("recording.jsonl");
    stage.swarm.set_env("SWARM_RECORD", recording.as_os_str());
    stage.spawn(&["--headless"]);
    stage.reach("review");
    let again = Stage::new("commit");
    std::fs::copy(recording, again.swarm.repository().join("recording.jsonl")).unwrap();
    std::fs::remove_file(again.swarm.repository().join("script.yaml")).unwrap();
    again.write_agent("ollama", "replay:recording.jsonl");
    again.spawn(&["--headless"]);
    again.reach("review");
    let tree = |stage: &Stage| stage.swarm.git(["rev-parse", "swarm/work^{tree}"]).success();
    assert_eq!(tree(&stage), tree(&again));
    // Another conversation than the recorded one is told from it.
    let other = Stage::new("more");
    std::fs::copy(again.swarm.repository().join("recording.jsonl"), other.swarm.repository().join("r.jsonl")).unwrap();
    other.write_agent("replay", "r.jsonl");
    other.spawn(&["--headless"]);
    assert_eq!(other.wait(&[]).code, 1);
    assert!(other.worker()["reason"].as_str().unwrap().contains("was recorded with"), "{}", other.explain());
}

/// Fifty turns, each of which makes a file or adds a line, and then two that mend what kills left out: a model looks, too.
fn long_script() -> String {
    let mut turns = String::new();
    for at in 0..50 {
        let call = match at % 3 {
            0 => format!("Write: {{file_path: f{at}, content: \"{at}\\n\"}}"),
            1 => format!("Bash: {{command: \"echo {at} > f{at}\"}}"),
            _ => format!(
                "Edit: {{file_path: f{}, old_string: \"{}\", new_string: \"{} and {at}\"}}",
                at - 1,
                at - 1,
                at - 1
            ),
        };
        turns.push_str(&format!("      - say: Step {at}.\n        calls:\n          - {call}\n"));
    }
    let mend = "for i in $(seq 0 49); do case $((i % 3)) in 0) echo $i > f$i;; 1) echo \"$i and $((i+1))\" > f$i;; esac; done; \
        rm -f f49; echo 49 > f49";
    let mend = format!("      - calls:\n          - Bash: {{command: {}}}\n", Value::String(mend.to_owned()));
    format!("conversations:\n  - name: long\n    turns:\n{turns}{mend}{mend}      - say: Done.\n")
}

#[test]
fn fifty_turns_killed_again_and_again_end_in_the_same_tree() {
    let tree = |kills: u32| {
        let stage = Stage::new("long");
        stage.swarm.write("script.yaml", &long_script());
        stage.write_agent("replay", "script.yaml");
        stage.allow_all();
        stage.spawn(&["--headless"]);
        for kill in 0..kills {
            let calls = usize::try_from(kill * 6 + kill % 4).unwrap();
            stage.swarm.wait_until("calls or the end", || {
                stage.tool_log().iter().filter(|record| record["event"] == "start").count() > calls
                    || stage.worker()["ticket_state"] == "review"
            });
            let worker = stage.worker();
            // The turns that mend are left alone: no call is made again, theirs neither.
            let begun = stage.tool_log().iter().filter(|record| record["event"] == "start").count();
            if worker["ticket_state"] == "review" || begun > 42 {
                break;
            }
            if worker["pid"].is_u64() {
                kill_9(&worker["pid"]);
            }
            stage.wait(&["stopped", "review", "lost"]);
            if stage.worker()["ticket_state"] == "review" {
                break;
            }
            stage.swarm.run(["resume", "work"]).success();
        }
        stage.reach("review");
        let log = stage.tool_log();
        let count = |event: &str| log.iter().filter(|record| record["event"] == event).count();
        assert_eq!(count("start"), count("end"), "every start has one end");
        stage.swarm.git(["grep", "", "swarm/work"]).success()
    };
    assert_eq!(tree(7), tree(0));
}

#[test]
fn two_hundred_turns_with_ten_megabytes_of_output_stay_small() {
    let stage = Stage::new("flood");
    let turn = |at: u32| format!("      - calls:\n          - Bash: {{command: \"seq 1 9300; echo {at}\"}}\n");
    let turns: String = (0..200).map(turn).collect();
    stage
        .swarm
        .write("script.yaml", &format!("conversations:\n  - name: flood\n    turns:\n{turns}      - say: Done.\n"));
    stage.swarm.write(".swarm/config.yaml", "limits: {max_turns: 300}\n");
    stage.allow_all();
    stage.spawn(&[]);
    let worker = stage.reach("done");
    let ends = stage.tool_log().into_iter().filter(|record| record["event"] == "end");
    let bytes: u64 = ends.map(|end| end["output_bytes"].as_u64().unwrap()).sum();
    assert!(bytes > 9_000_000, "{bytes}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker["pid"])).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kilobytes < 40_000, "{line}");
}

#[test]
fn every_kind_of_provider_does_the_work_and_its_key_reaches_no_tool() {
    let script = r#"
conversations:
  - name: served
    turns:
      - calls:
          - Bash: {command: "sh -c 'echo \"[$TEST_MODEL_KEY]\" > key.txt'"}
      - faults: [{kind: 503, times: 1}]
        say: Second.
        calls:
          - Write: {file_path: b.txt, content: "b\n"}
      - say: Done.
"#;
    let server = ModelServer::of(script);
    for (kind, path) in [("ollama", ""), ("openai", "/v1"), ("anthropic", "")] {
        let mut stage = Stage::new("served");
        stage.swarm.set_env("TEST_MODEL_KEY", format!("key-of-{kind}"));
        let url = format!("{}{path}", server.url());
        let config = format!("providers: {{test: {{kind: {kind}, url: \"{url}\", key_env: TEST_MODEL_KEY}}}}\n");
        stage.swarm.write(".swarm/config.yaml", &config);
        stage.write_agent("ollama", "test/m");
        stage.spawn(&["--headless"]);
        let worker = stage.reach("review");
        assert_eq!(stage.tool_ends(), ["Bash ok 0", "Write ok"], "{kind}");
        assert_eq!(stage.file("key.txt").as_deref(), Some("[]\n"), "{kind}");
        assert!(worker["input_tokens"].as_u64().unwrap() > 0, "{worker:#}");
        assert!(
            stage.log_text("events.jsonl").contains("provider_retry"),
            "{kind}: {}",
            stage.log_text("events.jsonl")
        );
    }
}

/// Two models of one server, the first of which costs a dollar a token.
fn with_prices(server: &ModelServer, models: &str) -> Stage {
    let stage = Stage::new("served");
    let url = server.url();
    let config = format!(
        "providers:\n  dear: {{kind: openai, url: \"{url}/v1\", local: false}}\n  free: {{kind: ollama, url: \"{url}\"}}\n\
         prices: {{dear/m: {{input: 1000000, output: 1000000}}}}\nmodels: {{mine: [{models}]}}\n"
    );
    stage.swarm.write(".swarm/config.yaml", &config);
    stage.write_agent("ollama", "mine");
    let ticket = stage.swarm.read(".swarm/tickets/work.md").replacen("---\n", "---\nbudget: {usd: 5}\n", 1);
    stage.swarm.write(".swarm/tickets/work.md", &ticket);
    stage
}

/// The conversation of the tests of budgets.
const SERVED: &str = r#"
usage: {input_tokens: 100, output_tokens: 10}
conversations:
  - name: served
    turns:
      - calls:
          - Write: {file_path: a.txt, content: "a\n"}
      - calls:
          - Write: {file_path: b.txt, content: "b\n"}
      - say: Done.
"#;

#[test]
fn a_model_over_the_budget_is_followed_by_one_that_costs_nothing() {
    let server = ModelServer::of(SERVED);
    for flags in [&["--headless"][..], &[]] {
        let stage = with_prices(&server, "dear/m, free/m");
        stage.spawn(flags);
        let worker = stage.reach("review");
        assert_eq!(worker["cost_usd"], 110.0, "{worker:#}");
        assert_eq!(stage.tool_ends(), ["Write ok", "Write ok"]);
        let events = stage.log_text("events.jsonl");
        let switches = events.lines().filter(|line| line.contains("provider_retry")).collect::<Vec<_>>();
        assert_eq!(switches.len(), 1, "{events}");
        let told = "the budget of $5.00 is used up ($110.00 spent); going on with free/m";
        assert!(switches[0].contains(told), "{switches:?}");
    }
}

#[test]
fn without_another_model_the_budget_ends_the_work_with_code_7() {
    let server = ModelServer::of(SERVED);
    for flags in [&["--headless"][..], &[]] {
        let stage = with_prices(&server, "dear/m");
        stage.spawn(flags);
        let output = stage.wait(&[]);
        assert_eq!(output.code, 7, "{}\n{}", output.transcript(), stage.explain());
        let worker = stage.worker();
        assert_eq!(worker["status"], "stopped", "{worker:#}");
        assert!(worker["reason"].as_str().unwrap().contains("budget of"), "{worker:#}");
        assert_eq!(stage.file("a.txt").as_deref(), Some("a\n"), "the work is kept");
        assert!(stage.log_text("events.jsonl").contains("\"limit_reached\""));
    }
}

#[test]
fn what_is_typed_while_it_works_is_queued_and_control_c_twice_ends_it() {
    let stage = Stage::new("interrupted");
    stage.spawn(&[]);
    stage.swarm.wait_until("the tool's process", || !stage.processes_with("tail -f").is_empty());
    stage.press(&["SCRIPT:more", "Enter"]);
    stage.wait_for_screen("queued");
    stage.press(&["/help", "Enter"]);
    stage.wait_for_screen("/status");
    assert_eq!(stage.tool_ends(), Vec::<String>::new(), "the tool runs on");
    stage.press(&["C-c"]);
    // The queued message begins the next turn: its edit finds no file.
    stage.wait_for_screen("Changed it.");
    stage.swarm.wait_until("both calls", || stage.tool_ends() == ["Bash interrupted", "Edit error"]);
    stage.press(&["SCRIPT:interrupted", "Enter"]);
    stage.swarm.wait_until("the tool's process", || !stage.processes_with("tail -f").is_empty());
    stage.press(&["C-c", "C-c"]);
    stage.swarm.wait_until("the end of the loop", || stage.worker()["pid"].is_null());
    stage.swarm.wait_until("the end of the tool", || stage.processes_with("tail -f").is_empty());
}

#[test]
fn a_model_that_cannot_be_reached_is_told_with_what_to_do() {
    let stage = Stage::new("commit");
    let agent = "---\nname: own\ndescription: x\nruntime: ollama\nmodel: nobody/none\n---\nWork.\n";
    stage.swarm.write(".swarm/agents/own.md", agent);
    stage.spawn(&["--headless"]);
    let output = stage.wait(&[]);
    assert_eq!(output.code, 1, "{}\n{}", output.transcript(), stage.explain());
    let reason = stage.worker()["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("nobody"), "{reason}");
}

/// A model whose first answer is a refusal.
const REFUSED: &str = r#"
conversations:
  - name: quick
    turns:
      - calls:
          - Write: {file_path: b.txt, content: "b\n"}
      - say: Done.
  - name: served
    turns:
      - faults: [{kind: 429, times: 1, retry_after: 6s, message: slow down}]
        calls:
          - Write: {file_path: a.txt, content: "a\n"}
      - say: Done.
"#;

#[test]
fn a_model_that_refuses_is_paced_until_it_answers() {
    let server = ModelServer::of(REFUSED);
    let stage = Stage::new("served");
    let config = format!("providers: {{test: {{kind: openai, url: \"{}/v1\"}}}}\n", server.url());
    stage.swarm.write(".swarm/config.yaml", &config);
    stage.write_agent("ollama", "test/m");
    stage.spawn(&["--headless"]);
    let mut paced = Value::Null;
    stage.swarm.wait_until("the model to be paced", || {
        paced = stage.swarm.json(["status"])["paced"].get(0).cloned().unwrap_or_default();
        !paced.is_null()
    });
    assert_eq!((&paced["model"], &paced["strikes"]), (&"test/m".into(), &1.into()));
    assert!(paced["why"].as_str().unwrap().contains("slow down"), "{paced:#}");
    assert!(stage.swarm.run(["status"]).success().contains("`test/m` asks for patience until "));
    assert!(stage.swarm.run(["why", "work"]).success().contains("its model `test/m` asks for patience until "));
    // A coordinator starts nothing new for the model until then, and says why.
    stage.swarm.write_ticket("other", "own", "SCRIPT:quick\nDo it.");
    let output = stage.swarm.run(["run", "other", "--headless"]);
    assert_eq!(output.code, 0, "{}", output.transcript());
    assert_eq!(stage.reach("review")["status"], "done");
    assert_eq!(stage.swarm.json(["status"])["paced"], serde_json::json!([]), "it has answered");
    let database = rusqlite::Connection::open(stage.swarm.repository().join(".git/swarm/swarm.db")).unwrap();
    let sql =
        "SELECT count(*) FROM events WHERE kind = 'swarm' AND ticket = 'other' AND data LIKE '%asks for patience%'";
    let held: i64 = database.query_row(sql, [], |row| row.get(0)).unwrap();
    assert!(held >= 1, "it was held");
}

#[test]
fn an_answer_to_another_worker_ends_the_patience_of_a_model() {
    let server = ModelServer::of(&REFUSED.replace("retry_after: 6s", "retry_after: 25s"));
    let stage = Stage::new("served");
    let config = format!("providers: {{test: {{kind: openai, url: \"{}/v1\"}}}}\n", server.url());
    stage.swarm.write(".swarm/config.yaml", &config);
    stage.write_agent("ollama", "test/m");
    stage.spawn(&["--headless"]);
    let paced = || stage.swarm.json(["status"])["paced"].as_array().unwrap().len();
    stage.swarm.wait_until("the model to be paced", || paced() == 1);
    stage.swarm.write_ticket("other", "own", "SCRIPT:quick\nDo it.");
    stage.swarm.run(["spawn", "other", "--headless", "--wait"]).success();
    assert_eq!(paced(), 0, "it has answered");
    let refused = stage.swarm.json(["status", "work"])["workers"][0].clone();
    assert_eq!(refused["status"], "working", "{refused:#}");
    stage.swarm.run(["stop", "work"]).success();
}
