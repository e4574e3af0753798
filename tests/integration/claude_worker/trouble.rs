//! What goes wrong, and that it is told as what it is.

use serde_json::json;

use super::{Stage, shell, writes};
use crate::support::model_server::{Fault, ModelServer, Script};

#[test]
fn an_api_error_makes_the_worker_wait_with_its_reason() {
    let script = writes("a.txt").failing(Fault::Status(529));
    let stage = Stage::with(ModelServer::builder().script("work", script).script("again", writes("b.txt")));
    stage.spawn();
    let output = stage.wait(&[]);
    assert_eq!(output.code, 4, "{}\n{}", output.transcript(), stage.explain());
    let worker = stage.worker();
    assert_eq!((&worker["status"], &worker["ticket_state"]), (&json!("waiting"), &json!("running")), "{worker:#}");
    let reason = worker["reason"].as_str().unwrap();
    assert!(reason.starts_with("its turn failed: API Error: 529"), "{reason}");
    // Its work is neither lost nor taken for finished; a message goes on.
    assert!(stage.file("a.txt").is_some());
    stage.swarm.run(["send", "work", "SCRIPT:again"]).success();
    let worker = stage.reach("review");
    assert_eq!(worker["files_changed"], 2, "{worker:#}");
}

#[test]
fn an_interrupt_by_a_person_is_idle_and_not_done() {
    let script = Script::new()
        .call("Write", json!({"file_path": "{cwd}/a.txt", "content": "half\n"}))
        .call("Bash", shell("sh -c 'tail -f /dev/null'"))
        .say("Never said.");
    let stage = Stage::with(ModelServer::builder().script("work", script).script("more", writes("b.txt")));
    stage.spawn();
    stage.wait_for_calls(2);
    stage.wait_for_screen("esc to interrupt");
    stage.press(&["Escape"]);
    let worker = stage.reach("idle");
    assert_eq!(worker["ticket_state"], "running", "{worker:#}");
    assert_eq!(stage.tool_ends(), ["Write ok", "Bash interrupted"]);
    stage.swarm.run(["send", "work", "SCRIPT:more"]).success();
    let worker = stage.reach("review");
    assert_eq!(worker["files_changed"], 2, "{worker:#}");
}

#[test]
fn an_interrupt_while_the_model_speaks_is_idle_and_not_done() {
    let script = Script::new().say("Thinking.").failing_at_first(Fault::HangAfter, 1);
    let stage = Stage::new(script);
    stage.spawn();
    stage.wait_for_screen("Thinking.");
    stage.press(&["Escape"]);
    let worker = stage.reach("idle");
    assert_eq!(worker["ticket_state"], "running", "{worker:#}");
}

#[test]
fn a_retried_api_error_is_work_and_not_trouble() {
    let stage = Stage::new(writes("a.txt").failing_at_first(Fault::Status(500), 1));
    stage.spawn();
    let worker = stage.reach("review");
    assert_eq!(worker["status"], "done", "{worker:#}");
}

#[test]
fn an_agent_that_exits_by_itself_is_told_as_it_is() {
    let stage = Stage::new(Script::new().say("Thinking.").failing_at_first(Fault::HangAfter, 1));
    stage.spawn();
    stage.wait_for_screen("Thinking.");
    super::kill_9(&stage.worker()["pid"]);
    let output = stage.wait(&[]);
    assert_eq!(output.code, 1, "{}", output.transcript());
    let worker = stage.worker();
    assert_eq!(worker["status"], "stopped", "{worker:#}");
    assert_eq!(worker["reason"], "claude was ended by SIGKILL", "{worker:#}");
    assert_ne!(worker["ticket_state"], "review");
}

#[test]
fn an_untrusted_repository_makes_the_worker_wait_for_a_person() {
    let stage = Stage::new(writes("a.txt"));
    let settings = stage.swarm.root().join("agent/claude/.claude.json");
    let mut seed: serde_json::Value = serde_json::from_slice(&std::fs::read(&settings).unwrap()).unwrap();
    seed["projects"] = json!({});
    stage.swarm.write_at(&settings, &seed.to_string());
    stage.spawn();
    let output = stage.wait(&[]);
    assert_eq!(output.code, 4, "{}\n{}", output.transcript(), stage.explain());
    let reason = stage.worker()["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("trust"), "{reason}");
    stage.press(&["Down"]);
    stage.press(&["Enter"]);
    stage.session_told("SCRIPT:work");
    stage.swarm.wait_until("the question to be over", || stage.worker()["status"] != "waiting");
    stage.reach("review");
}

#[test]
fn resume_goes_on_after_an_api_error() {
    // The request and its one retry fail; what comes after the resume gets through.
    let stage = Stage::new(writes("a.txt").failing_at_first(Fault::Status(500), 2));
    stage.spawn();
    assert_eq!(stage.wait(&[]).code, 4);
    stage.swarm.run(["resume", "work"]).success();
    stage.server.wait_for_request(|request| request.mentions("was ended by an error"));
    assert_eq!(stage.reach("review")["commits"], 1);
}
