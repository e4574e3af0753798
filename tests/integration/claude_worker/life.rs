//! Stop, resume, and the deaths of what surrounds the agent.

use std::time::Instant;

use serde_json::json;

use super::{LOST_WITHIN, Stage, kill_9, shell, writes};
use crate::support::model_server::{Fault, Script};

/// Writes a file, then a tool hangs for ever.
fn hangs() -> Script {
    Script::new()
        .call("Write", json!({"file_path": "{cwd}/a.txt", "content": "half\n"}))
        .call("Bash", shell("sh -c 'tail -f /dev/null'"))
        .say("Never said.")
}

#[test]
fn stop_ends_the_agent_with_its_tools_and_resume_goes_on_in_the_same_conversation() {
    let stage = Stage::new(hangs());
    stage.spawn();
    stage.wait_for_calls(2);
    stage.swarm.wait_until("the tool's process", || !stage.processes_with("tail -f").is_empty());
    let stopped = stage.swarm.run(["stop", "work"]).success();
    assert!(stopped.contains("is stopped"), "{stopped}");
    for name in ["tail -f", "claude", "swarm supervise"] {
        assert_eq!(stage.processes_with(name), [], "{name} outlived the stop");
    }
    let worker = stage.worker();
    assert_eq!((&worker["status"], &worker["pid"]), (&json!("stopped"), &json!(null)), "{worker:#}");
    assert_eq!(stage.file("a.txt").as_deref(), Some("half\n"));
    let ends = stage.tool_ends();
    assert_eq!(ends.len(), 2, "{ends:?}");
    assert!(matches!(ends[1].as_str(), "Bash interrupted" | "Bash lost" | "Bash error 143"), "{ends:?}");
    let session = stage.session_told("SCRIPT:work");
    stage.swarm.run(["resume", "work"]).success();
    let request = stage.server.wait_for_request(|request| request.mentions("You were interrupted"));
    assert_eq!(request.session_id(), session);
    assert!(request.mentions("SCRIPT:work"), "the earlier conversation is gone: {:?}", request.user_texts());
    let worker = stage.reach("review");
    assert_eq!(worker["commits"], 1, "{worker:#}");
}

#[test]
fn a_killed_supervisor_is_told_as_lost_and_resume_finishes_the_work() {
    let stage = Stage::new(hangs());
    stage.spawn();
    stage.wait_for_calls(2);
    let session = stage.session_told("SCRIPT:work");
    kill_9(&stage.worker()["supervisor_pid"]);
    let killed = Instant::now();
    let output = stage.wait(&[]);
    assert!(killed.elapsed() < LOST_WITHIN, "told after {:?}", killed.elapsed());
    assert_eq!(output.code, 4, "{}", output.transcript());
    let worker = stage.worker();
    assert_eq!((&worker["status"], &worker["ticket_state"]), (&json!("lost"), &json!("lost")), "{worker:#}");
    assert_eq!(stage.file("a.txt").as_deref(), Some("half\n"));
    stage.swarm.run(["resume", "work"]).success();
    let request = stage.server.wait_for_request(|request| request.mentions("You were interrupted"));
    assert_eq!(request.session_id(), session);
    let worker = stage.reach("review");
    assert_eq!((&worker["commits"], &worker["attempt"]), (&json!(1), &json!(1)), "{worker:#}");
    assert_eq!(stage.processes_with("tail -f"), [], "the tool of the lost agent runs on");
    let ends = stage.tool_ends();
    assert_eq!(ends.len(), 2, "{ends:?}");
    assert_eq!(ends[0], "Write ok");
}

#[test]
fn a_killed_agent_leaves_no_tool_running_and_is_not_done() {
    let stage = Stage::new(hangs());
    stage.spawn();
    stage.wait_for_calls(2);
    stage.swarm.wait_until("the tool's process", || !stage.processes_with("tail -f").is_empty());
    kill_9(&stage.worker()["pid"]);
    assert_eq!(stage.wait(&[]).code, 1);
    let worker = stage.worker();
    let told = (&worker["status"], &worker["reason"]);
    assert_eq!(told, (&json!("stopped"), &json!("claude was ended by SIGKILL")), "{worker:#}");
    assert_eq!(stage.processes_with("tail -f"), []);
    assert_eq!(stage.tool_ends(), ["Write ok", "Bash interrupted"]);
    assert_eq!(stage.evidence("exit").as_deref(), Some("claude was ended by SIGKILL"));
    assert_eq!(stage.file("a.txt").as_deref(), Some("half\n"));
    stage.swarm.run(["resume", "work"]).success();
    stage.reach("review");
}

#[test]
fn an_agent_that_a_person_closes_in_the_middle_of_a_turn_is_stopped() {
    let stage = Stage::new(hangs());
    stage.spawn();
    stage.wait_for_calls(2);
    stage.wait_for_screen("esc to interrupt");
    stage.press(&["-l", "/exit"]);
    stage.wait_for_screen("Exit the CLI");
    stage.press(&["Enter"]);
    assert_eq!(stage.wait(&[]).code, 1);
    let worker = stage.worker();
    let reason = "claude was closed in the middle of a turn";
    assert_eq!((&worker["status"], &worker["reason"]), (&json!("stopped"), &json!(reason)), "{worker:#}");
    assert_eq!((stage.evidence("exit").as_deref(), stage.tool_ends()[1].as_str()), (Some(reason), "Bash interrupted"));
    assert_eq!(stage.evidence("hook").as_deref(), Some("said goodbye: prompt_input_exit"));
    assert_eq!(stage.processes_with("tail -f"), []);
    stage.swarm.run(["resume", "work"]).success();
    stage.reach("review");
}

#[test]
fn an_agent_that_a_person_closes_when_it_has_finished_stays_finished() {
    let stage = Stage::new(writes("a.txt"));
    stage.spawn();
    stage.reach("review");
    stage.press(&["C-c"]);
    stage.wait_for_screen("Press Ctrl-C again to exit");
    stage.press(&["C-c"]);
    stage.swarm.wait_until("the agent to be gone", || stage.worker()["pid"].is_null());
    stage.swarm.wait_until("the supervisor to be gone", || stage.processes_with("swarm supervise").is_empty());
    let worker = stage.worker();
    assert_eq!((&worker["status"], &worker["ticket_state"]), (&json!("done"), &json!("review")), "{worker:#}");
    assert_eq!(stage.evidence("exit").as_deref(), Some("the agent ended well"));
}

#[test]
fn an_agent_that_is_interrupted_and_then_closed_is_stopped() {
    let stage = Stage::new(hangs());
    stage.spawn();
    stage.wait_for_calls(2);
    stage.wait_for_screen("esc to interrupt");
    stage.press(&["C-c"]);
    stage.wait_for_screen("Interrupted");
    stage.reach("idle");
    assert_eq!(stage.tool_ends(), ["Write ok", "Bash interrupted"]);
    stage.press(&["C-c"]);
    stage.wait_for_screen("Press Ctrl-C again to exit");
    stage.press(&["C-c"]);
    assert_eq!(stage.wait(&["stopped"]).code, 0, "{}", stage.explain());
    let worker = stage.worker();
    assert_eq!(worker["reason"], "claude was closed before it had finished", "{worker:#}");
    assert_eq!(worker["ticket_state"], "failed");
}

#[test]
fn stop_ends_what_a_killed_supervisor_left_behind() {
    let stage = Stage::new(hangs());
    stage.spawn();
    stage.wait_for_calls(2);
    kill_9(&stage.worker()["supervisor_pid"]);
    stage.swarm.run(["stop", "work"]).success();
    for name in ["tail -f", "claude"] {
        assert_eq!(stage.processes_with(name), [], "{name} outlived the stop");
    }
    assert_eq!(stage.worker()["status"], "stopped");
    stage.swarm.run(["resume", "work"]).success();
    stage.reach("review");
}

#[test]
fn a_killed_tmux_server_changes_nothing_for_the_worker() {
    let stage = Stage::new(writes("a.txt").failing_at_first(Fault::HangBefore, 1));
    stage.spawn();
    stage.wait_for_calls(1);
    stage.swarm.tmux(["kill-server"]).success();
    stage.swarm.wait_until("the loss of the pane to be noticed", || {
        stage.log_text("events.jsonl").contains("tmux pane is gone")
    });
    let worker = stage.worker();
    assert_eq!(worker["status"], "working", "{worker:#}");
    let shown = stage.swarm.run_in_terminal_after("a.txt", ["attach", "work"], "\x11d");
    assert_eq!(shown.code, 0, "{}", shown.stdout);
    stage.server.release("work");
    let worker = stage.reach("review");
    assert_eq!(worker["commits"], 1, "{worker:#}");
}

#[test]
fn restart_begins_a_new_conversation_in_the_same_worktree() {
    let stage = Stage::new(hangs());
    stage.spawn();
    stage.wait_for_calls(2);
    let session = stage.session_told("SCRIPT:work");
    stage.swarm.run(["restart", "work"]).success();
    let request = stage.server.wait_for_request(|request| request.session_id() != session);
    assert!(request.tool_results().is_empty());
    let worker = stage.worker();
    assert_eq!(worker["attempt"], 2, "{worker:#}");
    assert!(stage.file("a.txt").is_some());
}

#[test]
fn pause_holds_at_the_turn_boundary_and_resume_finishes() {
    let stage = Stage::new(writes("a.txt").failing_at_first(Fault::HangBefore, 1));
    stage.spawn();
    stage.wait_for_calls(1);
    stage.swarm.run(["pause", "work"]).success();
    stage.server.release("work");
    let worker = stage.reach("paused");
    assert_eq!(worker["ticket_state"], "running", "{worker:#}");
    stage.swarm.run(["resume", "work"]).success();
    assert_eq!(stage.reach("review")["commits"], 1);
}
