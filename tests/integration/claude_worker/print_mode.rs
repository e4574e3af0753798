//! Workers without a person: print mode, and machines without tmux.

use serde_json::json;

use super::{ASKED, Stage, kill_9, long_text, missing, shell, writes};
use crate::support::model_server::{Fault, ModelServer, Script};

/// Starts the worker in print mode.
fn spawn(stage: &Stage) {
    stage.swarm.run(["spawn", "work", "--headless"]).success();
}

/// Leaves everything in `PATH` but tmux.
fn without_tmux(stage: &mut Stage) {
    let folder = stage.swarm.root().join("no-tmux");
    std::fs::create_dir(&folder).unwrap();
    let path = stage.swarm.environment()["PATH"].clone();
    for place in std::env::split_paths(&path) {
        for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
            if entry.file_name() != "tmux" {
                // The first of a name wins, as in PATH.
                std::os::unix::fs::symlink(entry.path(), folder.join(entry.file_name())).ok();
            }
        }
    }
    stage.swarm.set_env("PATH", folder);
}

#[test]
fn a_headless_worker_finishes_and_leaves_its_logs() {
    let stage = Stage::new(writes("a.txt"));
    spawn(&stage);
    let worker = stage.reach("review");
    assert_eq!((&worker["status"], &worker["commits"]), (&json!("done"), &json!(1)), "{worker:#}");
    assert_eq!((&worker["pid"], &worker["tmux_session"]), (&json!(null), &json!(null)), "{worker:#}");
    assert!(worker["cost_usd"].is_number() && worker["ended_at"].is_string(), "{worker:#}");
    assert_eq!(stage.tool_ends(), ["Write ok"]);
    let recording = stage.log_text("terminal.1.cast");
    assert!(recording.starts_with("{\"version\":2") || recording.starts_with("{\"version\": 2"), "{recording}");
    let shown = stage.swarm.run(["logs", "work", "--terminal"]).success();
    assert!(shown.contains("Wrote it."), "{shown}");
}

#[test]
fn an_ask_rule_in_print_mode_is_denied_and_needs_a_person() {
    let stage = Stage::new(
        Script::new()
            .call("Write", json!({"file_path": "{cwd}/a.txt", "content": "x\n"}))
            .call("Bash", shell("git push origin HEAD"))
            .say("Could not push."),
    );
    let agent = super::SHELL_AGENT.replace("allow:", "ask: [\"Bash(git push*)\"]\n  allow:");
    stage.swarm.write(".swarm/agents/shell.md", &agent);
    spawn(&stage);
    let output = stage.wait(&[]);
    assert_eq!(stage.tool_ends(), ["Write ok", "Bash denied"]);
    assert_eq!(output.code, 4, "{}\n{}", output.transcript(), stage.explain());
    let worker = stage.worker();
    assert_eq!(worker["status"], "waiting", "{worker:#}");
    assert_eq!(worker["reason"], "a person has to decide about: Bash git push origin HEAD", "{worker:#}");
    // The person did it, or not; the rest is as ever.
    stage.swarm.run(["resume", "work"]).success();
    assert_eq!(stage.reach("review")["commits"], 1);
}

#[test]
fn a_message_to_a_headless_worker_that_waits_is_its_next_turn() {
    let script = Script::new().call("Bash", shell("git push origin HEAD")).say("Could not push.");
    let stage = Stage::with(ModelServer::builder().script("work", script).script("more", writes("b.txt")));
    let agent = super::SHELL_AGENT.replace("allow:", "ask: [\"Bash(git push*)\"]\n  allow:");
    stage.swarm.write(".swarm/agents/shell.md", &agent);
    spawn(&stage);
    assert_eq!(stage.wait(&[]).code, 4);
    let session = stage.session_told("SCRIPT:work");
    stage.swarm.run(["send", "work", "SCRIPT:more instead"]).success();
    assert_eq!(stage.reach("review")["commits"], 1);
    assert_eq!(stage.session_told("SCRIPT:more"), session);
}

#[test]
fn an_unlisted_command_in_print_mode_is_denied_and_the_work_goes_on() {
    let stage = Stage::new(
        Script::new()
            .call("Bash", shell(ASKED))
            .call("Write", json!({"file_path": "{cwd}/a.txt", "content": "x\n"}))
            .say("Did the rest."),
    );
    spawn(&stage);
    let worker = stage.reach("review");
    assert_eq!(stage.tool_ends(), ["Bash denied", "Write ok"]);
    assert_eq!(stage.file("made.txt"), None);
    assert_eq!(worker["commits"], 1, "{worker:#}");
}

#[test]
fn an_api_error_in_print_mode_is_a_failure_with_its_reason() {
    let stage = Stage::new(writes("a.txt").failing(Fault::Status(529)));
    spawn(&stage);
    let output = stage.wait(&[]);
    assert_eq!(output.code, 1, "{}", output.transcript());
    let worker = stage.worker();
    assert_eq!((&worker["status"], &worker["ticket_state"]), (&json!("failed"), &json!("failed")), "{worker:#}");
    assert!(worker["reason"].as_str().unwrap().contains("529"), "{worker:#}");
    assert!(stage.file("a.txt").is_some());
}

#[test]
fn a_message_to_an_ended_headless_worker_resumes_its_conversation() {
    let stage = Stage::with(ModelServer::builder().script("work", writes("one.txt")).script("more", writes("two.txt")));
    spawn(&stage);
    stage.reach("review");
    let session = stage.session_told("SCRIPT:work");
    stage.swarm.run(["send", "work", "SCRIPT:more"]).success();
    let request = stage.server.wait_for_request(|request| request.mentions("SCRIPT:more"));
    assert_eq!(request.session_id(), session);
    assert!(request.mentions("Do the work."), "{:?}", request.user_texts());
    let worker = stage.reach("review");
    assert_eq!(worker["commits"], 2, "{worker:#}");
    assert_eq!(stage.tool_ends(), ["Write ok", "Write ok"]);
}

#[test]
fn prompts_and_messages_of_200_kilobytes_reach_a_headless_worker_whole() {
    let stage = Stage::with(ModelServer::builder().script("work", writes("a.txt")).script("more", writes("b.txt")));
    let (prompt, message) = (long_text("prompt"), long_text("message"));
    stage.swarm.write_ticket("work", "shell", &format!("{prompt}The end.\nSCRIPT:work"));
    spawn(&stage);
    stage.reach("review");
    stage.swarm.run_with_input(["send", "work", "-"], &format!("{message}SCRIPT:more")).success();
    assert_eq!(stage.reach("review")["commits"], 2);
    let request = stage.server.wait_for_request(|request| request.mentions("SCRIPT:more"));
    let read = request.user_texts().join("\n");
    assert_eq!((missing(&prompt, &read), missing(&message, &read)), (Vec::new(), Vec::new()));
}

#[test]
fn a_message_to_a_busy_headless_worker_is_its_next_turn() {
    let script = writes("one.txt").failing_at_first(Fault::HangBefore, 1);
    let stage = Stage::with(ModelServer::builder().script("work", script).script("more", writes("two.txt")));
    spawn(&stage);
    stage.wait_for_calls(1);
    let sent = stage.swarm.run(["send", "work", "SCRIPT:more"]).success();
    assert!(sent.contains("waits for the running turn to end"), "{sent}");
    stage.server.release("work");
    let worker = stage.reach("review");
    assert_eq!(stage.tool_ends(), ["Write ok", "Write ok"], "{worker:#}");
    assert!(stage.file("two.txt").is_some());
}

#[test]
fn a_failing_check_is_the_next_turn_of_a_headless_worker() {
    let stage =
        Stage::with(ModelServer::builder().script("work", writes("one.txt")).script("repair", writes("two.txt")));
    stage.check_for_two();
    spawn(&stage);
    let worker = stage.reach("review");
    assert_eq!((&worker["commits"], &worker["attempt"]), (&json!(2), &json!(1)), "{worker:#}");
}

#[test]
fn a_killed_headless_agent_leaves_no_tool_running_and_is_not_done() {
    let stage = Stage::new(
        Script::new()
            .call("Write", json!({"file_path": "{cwd}/a.txt", "content": "half\n"}))
            .call("Bash", shell("sh -c 'tail -f /dev/null'"))
            .say("Never said."),
    );
    spawn(&stage);
    stage.wait_for_calls(2);
    stage.swarm.wait_until("the tool's process", || !stage.processes_with("tail -f").is_empty());
    kill_9(&stage.worker()["pid"]);
    let output = stage.wait(&[]);
    assert_eq!(output.code, 1, "{}", output.transcript());
    let worker = stage.worker();
    assert_eq!((&worker["status"], &worker["reason"]), (&json!("stopped"), &json!("claude was ended by SIGKILL")));
    assert_eq!(stage.processes_with("tail -f"), []);
    assert_eq!(stage.tool_ends(), ["Write ok", "Bash interrupted"]);
    stage.swarm.run(["resume", "work"]).success();
    stage.reach("review");
}

#[test]
fn a_killed_headless_supervisor_is_lost_and_resumes() {
    let stage = Stage::new(
        Script::new()
            .call("Write", json!({"file_path": "{cwd}/a.txt", "content": "half\n"}))
            .call("Bash", shell("sh -c 'tail -f /dev/null'"))
            .say("Never said."),
    );
    spawn(&stage);
    stage.wait_for_calls(2);
    let session = stage.session_told("SCRIPT:work");
    kill_9(&stage.worker()["supervisor_pid"]);
    assert_eq!(stage.wait(&[]).code, 4);
    assert_eq!(stage.worker()["status"], "lost");
    stage.swarm.run(["resume", "work"]).success();
    let request = stage.server.wait_for_request(|request| request.mentions("You were interrupted"));
    assert_eq!(request.session_id(), session);
    stage.reach("review");
    assert_eq!(stage.processes_with("tail -f"), []);
}

#[test]
fn without_tmux_a_headless_worker_works() {
    let mut stage = Stage::new(writes("a.txt"));
    without_tmux(&mut stage);
    spawn(&stage);
    assert_eq!(stage.reach("review")["commits"], 1);
}

#[test]
fn without_tmux_an_interactive_worker_works_and_can_be_attached() {
    let mut stage = Stage::with(ModelServer::builder().script("work", writes("a.txt")).script("more", writes("b.txt")));
    without_tmux(&mut stage);
    stage.swarm.run(["spawn", "work"]).success();
    let worker = stage.reach("review");
    assert_eq!(worker["tmux_session"], json!(null), "{worker:#}");
    let shown = stage.swarm.run_in_terminal_after("Wrote it.", ["attach", "work"], "\x11d");
    assert_eq!(shown.code, 0, "{}", shown.stdout);
    assert!(shown.stdout.contains("Wrote it."), "{}", shown.stdout);
    stage.swarm.run(["send", "work", "SCRIPT:more"]).success();
    assert_eq!(stage.reach("review")["commits"], 2);
}
