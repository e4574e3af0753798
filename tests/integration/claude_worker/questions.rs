//! What only a person can answer, and what goes on behind a turn.

use serde_json::{Value, json};

use super::{SHELL_AGENT, Stage, shell};
use crate::support::model_server::{ModelServer, Script};

/// A question with two answers.
fn question() -> Value {
    let option = |label: &str| json!({"label": label, "description": format!("Paint it {label}")});
    json!({"questions": [{
        "question": "Which colour should it be?",
        "header": "Colour",
        "multiSelect": false,
        "options": [option("Red"), option("Blue")],
    }]})
}

/// Asks, then writes.
fn asks() -> Script {
    let write = json!({"file_path": "{cwd}/a.txt", "content": "x\n"});
    Script::new().call("AskUserQuestion", question()).call("Write", write).say("Painted it.")
}

#[test]
fn a_question_waits_for_a_person_and_no_message_answers_it() {
    let stage = Stage::new(asks());
    stage.spawn();
    let output = stage.wait(&[]);
    assert_eq!(output.code, 4, "{}\n{}", output.transcript(), stage.explain());
    stage.wait_for_screen("Enter to select");
    let sent = stage.swarm.run(["send", "work", "1"]).success();
    assert!(sent.contains("waits for a person to answer"), "{sent}");
    let worker = stage.worker();
    assert_eq!((&worker["status"], &worker["ticket_state"]), (&json!("waiting"), &json!("running")), "{worker:#}");
    assert_eq!(worker["reason"], "an answer to: Which colour should it be?", "{worker:#}");
    assert_eq!(stage.file("a.txt"), None);
    stage.answer("2");
    let request = stage.server.wait_for_request(|request| request.user_texts().iter().any(|text| text == "1"));
    assert!(request.tool_results()[0].0.contains("Blue"), "{:?}", request.tool_results());
    stage.reach("review");
    assert_eq!(stage.tool_ends(), ["AskUserQuestion ok", "Write ok"]);
}

#[test]
fn a_question_that_is_not_answered_leaves_the_worker_idle() {
    let stage = Stage::new(asks());
    stage.spawn();
    assert_eq!(stage.wait(&[]).code, 4);
    stage.wait_for_screen("Enter to select");
    stage.answer("Escape");
    let worker = stage.reach("idle");
    assert_eq!(worker["reason"], "its turn was interrupted", "{worker:#}");
    assert_eq!(stage.tool_ends(), ["AskUserQuestion denied"]);
}

#[test]
fn a_headless_agent_has_nobody_to_ask_and_goes_on() {
    let stage = Stage::new(asks());
    stage.swarm.run(["spawn", "work", "--headless"]).success();
    stage.reach("review");
    assert_eq!(stage.tool_ends(), ["AskUserQuestion error", "Write ok"]);
}

/// Plans, then writes; its agent may only plan.
fn plans() -> Stage {
    let script = Script::new()
        .call("Bash", shell("git status --short"))
        .call("ExitPlanMode", json!({"plan": "Write the file."}))
        .call("Write", json!({"file_path": "{cwd}/a.txt", "content": "x\n"}))
        .say("Wrote it.");
    let stage = Stage::new(script);
    stage.swarm.write(".swarm/agents/shell.md", &SHELL_AGENT.replace("acceptEdits", "plan"));
    stage
}

#[test]
fn a_plan_waits_for_approval_and_nothing_is_written_before() {
    let stage = plans();
    stage.spawn();
    let output = stage.wait(&[]);
    assert_eq!(output.code, 4, "{}\n{}", output.transcript(), stage.explain());
    let worker = stage.worker();
    assert_eq!((&worker["status"], &worker["ticket_state"]), (&json!("waiting"), &json!("running")), "{worker:#}");
    assert_eq!(worker["reason"], "a decision on its plan", "{worker:#}");
    assert_eq!(stage.file("a.txt"), None);
    stage.wait_for_screen("1. Yes");
    stage.answer("1");
    // What follows is the program's mode that asks each time, whatever mode the plan was made in.
    stage.wait_for_screen("Do you want to create a.txt?");
    assert_eq!((stage.wait(&[]).code, stage.file("a.txt")), (4, None));
    stage.answer("1");
    stage.reach("review");
    assert_eq!(stage.tool_ends(), ["Bash ok 0", "ExitPlanMode ok", "Write ok"]);
}

#[test]
fn a_plan_that_is_not_approved_leaves_the_worker_idle() {
    let stage = plans();
    stage.spawn();
    assert_eq!(stage.wait(&[]).code, 4);
    stage.wait_for_screen("1. Yes");
    stage.answer("Escape");
    let worker = stage.reach("idle");
    assert_eq!(worker["ticket_state"], "running", "{worker:#}");
    assert_eq!(stage.tool_ends(), ["Bash ok 0", "ExitPlanMode denied"]);
    assert_eq!(stage.file("a.txt"), None);
}

#[test]
fn a_headless_agent_that_may_only_plan_writes_nothing() {
    let stage = plans();
    stage.swarm.run(["spawn", "work", "--headless"]).success();
    let worker = stage.reach("done");
    assert_eq!(worker["reason"], "no changes", "{worker:#}");
    assert_eq!(stage.tool_ends(), ["Bash ok 0", "ExitPlanMode error", "Write denied"]);
    assert_eq!(stage.file("a.txt"), None);
}

/// Runs a command behind the turn until `go` is there, and says so.
fn in_background() -> Script {
    let mut input = shell("sh -c 'until test -f go; do sleep 0.05; done'");
    input["run_in_background"] = json!(true);
    Script::new()
        .call("Write", json!({"file_path": "{cwd}/a.txt", "content": "x\n"}))
        .call("Bash", input)
        .say("Started it.")
}

#[test]
fn a_worker_is_not_done_while_a_command_runs_behind_its_turn() {
    let stage = Stage::with(ModelServer::builder().script("work", in_background()));
    stage.spawn();
    let behind = "its turn ended, and a background task runs";
    stage.swarm.wait_until("the turn to end", || stage.worker()["reason"] == behind);
    let worker = stage.worker();
    assert_eq!((&worker["status"], &worker["ticket_state"]), (&json!("working"), &json!("running")), "{worker:#}");
    // Its agent listens meanwhile.
    let sent = stage.swarm.run(["send", "work", "How is it going?"]).success();
    assert!(sent.contains("Delivered"), "{sent}");
    stage.server.wait_for_request(|request| request.mentions("How is it going?"));
    stage.swarm.wait_until("the turn to end again", || stage.worker()["reason"] == behind);
    stage.swarm.write_at(&stage.swarm.worktree("work").join("go"), "");
    let worker = stage.reach("review");
    assert_eq!((&worker["status"], &worker["commits"]), (&json!("done"), &json!(1)), "{worker:#}");
    assert_eq!(stage.tool_ends(), ["Write ok", "Bash ok"]);
    stage.server.wait_for_request(|request| request.mentions("<task-notification>"));
}

#[test]
fn stop_ends_what_runs_behind_the_turn() {
    let stage = Stage::new(in_background());
    stage.spawn();
    stage
        .swarm
        .wait_until("the turn to end", || stage.worker()["reason"] == "its turn ended, and a background task runs");
    stage.swarm.run(["stop", "work"]).success();
    assert_eq!(stage.processes_with("until test"), []);
    assert_eq!(stage.worker()["status"], "stopped");
}
