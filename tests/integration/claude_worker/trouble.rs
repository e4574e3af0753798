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
    // No hook tells it: the program's own file does.
    assert_eq!(stage.evidence("status_file").as_deref(), Some("its turn was interrupted"));
    stage.swarm.run(["why", "work"]).says("its turn was interrupted");
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
fn a_message_after_an_interrupt_is_not_put_behind_the_old_one() {
    // Before the model says anything, an interrupt puts the message back into the input line.
    let script = Script::new().say("Never said.").failing_at_first(Fault::HangBefore, 1);
    let stage = Stage::with(ModelServer::builder().script("work", script).script("more", writes("b.txt")));
    stage.spawn();
    stage.session_told("SCRIPT:work");
    stage.wait_for_screen("esc to interrupt");
    stage.press(&["Escape"]);
    stage.reach("idle");
    stage.swarm.run(["send", "work", "SCRIPT:more instead"]).success();
    let request = stage.server.wait_for_request(|request| request.mentions("SCRIPT:more"));
    assert_eq!(request.user_texts().last().unwrap(), "SCRIPT:more instead");
    stage.reach("review");
}

/// How often the provider was told to be in trouble, with the words.
fn retries(stage: &Stage) -> Vec<String> {
    let records = stage.records("events.jsonl").into_iter().filter(|event| event["event"] == "provider_retry");
    records.map(|event| event["reason"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_agent_whose_provider_limits_its_rate_is_working_and_says_so() {
    let mut stage = Stage::new(writes("a.txt").failing_at_first(Fault::Status(429), 4));
    stage.swarm.set_env("CLAUDE_CODE_MAX_RETRIES", "10");
    stage.spawn();
    // Its first retries do not say why on the screen.
    let limited = "its provider limits its rate, and it tries again";
    stage.swarm.wait_until("the retry to be told", || stage.worker()["reason"] == limited);
    assert_eq!(stage.worker()["status"], "working");
    assert!(stage.evidence("terminal").unwrap().contains("rate"), "{}", stage.explain());
    stage.reach("review");
    assert!(retries(&stage).iter().any(|reason| reason == limited), "{:?}", retries(&stage));
}

#[test]
fn an_agent_whose_provider_is_overloaded_says_so_while_it_tries_again() {
    let mut stage = Stage::new(writes("a.txt").failing(Fault::Status(529)));
    stage.swarm.set_env("CLAUDE_CODE_MAX_RETRIES", "10");
    stage.spawn();
    stage.swarm.wait_until("the retry to be told", || !retries(&stage).is_empty());
    assert_eq!(stage.wait(&[]).code, 4);
    let worker = stage.worker();
    assert!(worker["reason"].as_str().unwrap().contains("529 Overloaded"), "{worker:#}");
}

#[test]
fn a_headless_agent_tells_each_retry() {
    let stage = Stage::new(writes("a.txt").failing_at_first(Fault::Status(429), 1));
    stage.swarm.run(["spawn", "work", "--headless"]).success();
    stage.reach("review");
    assert_eq!(retries(&stage), ["the provider answered 429 (rate limit), retry 1 of 1"]);
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
