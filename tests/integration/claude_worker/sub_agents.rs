//! Sub-agents: whose call is whose, and that work that runs behind a turn is not taken for its end.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{ASKED, Stage, shell};
use crate::support::model_server::{
    Fault, INPUT_TOKENS, ModelServer, ModelServerBuilder, OUTPUT_TOKENS, Request, Script, call,
};

/// A call of a sub-agent that plays a script. That it runs behind the turn is what 2.1.329 does anyway.
fn agent(script: &str) -> Value {
    json!({
        "description": format!("Do {script}"),
        "subagent_type": "general-purpose",
        "prompt": format!("SCRIPT:{script}\nDo your part."),
        "run_in_background": true,
    })
}

/// A sub-agent that writes one file and runs one command.
fn helper(name: &str) -> Script {
    Script::new()
        .call("Write", json!({"file_path": format!("{{cwd}}/{name}.txt"), "content": "part\n"}))
        .call("Bash", shell(&format!("sh -c 'echo {name}'")))
        .say("Did my part.")
}

/// The starts in the tool log.
fn starts(stage: &Stage) -> Vec<Value> {
    stage.tool_log().into_iter().filter(|record| record["event"] == "start").collect()
}

/// Checks that every start has exactly one end that repeats whose call it is.
#[track_caller]
fn check_pairs(stage: &Stage) {
    let log = stage.tool_log();
    for start in starts(stage) {
        let ends = log.iter().filter(|record| record["event"] == "end" && record["call_id"] == start["call_id"]);
        let ends: Vec<_> = ends.collect();
        assert_eq!(ends.len(), 1, "{start}\n{ends:?}");
        for field in ["tool", "agent_id", "parent_call_id"] {
            assert_eq!(ends[0][field], start[field], "{start}\n{}", ends[0]);
        }
    }
    let count = log.iter().filter(|record| record["event"] == "end").count();
    assert_eq!(count, starts(stage).len(), "{log:#?}");
}

/// Checks whose calls are whose: `Agent` calls are the conversation's own, and the calls with a name in their input
/// are made by the sub-agent that plays the script of that name.
#[track_caller]
fn check_owners(stage: &Stage, names: &[&str]) {
    let starts = starts(stage);
    for name in names {
        let is_launch =
            |start: &&Value| start["tool"] == "Agent" && start["input"]["description"] == format!("Do {name}");
        let launch = starts.iter().find(is_launch).unwrap();
        assert!(launch["agent_id"].is_null() && launch["parent_call_id"].is_null(), "{launch}");
        let is_own = |start: &&Value| start["tool"] != "Agent" && start["input"].to_string().contains(name);
        let own: Vec<_> = starts.iter().filter(is_own).collect();
        assert_eq!(own.len(), 2, "{starts:#?}");
        for start in &own {
            assert_eq!(start["parent_call_id"], launch["call_id"], "{start}\n{:#?}", stage.tool_log());
            assert!(start["agent_id"].is_string(), "{start}");
            assert_eq!(start["agent_id"], own[0]["agent_id"], "{start}");
        }
    }
}

/// Checks that each answer of the model is counted once, whoever asked for it.
#[track_caller]
fn check_usage(stage: &Stage) {
    let is_answer = |path: &str| path.starts_with("/v1/messages?") || path == "/v1/messages";
    let answers = stage.server.requests().iter().filter(|request| is_answer(&request.path)).count() as u64;
    // Claude writes the figures of its last message down after it has said that its turn is over.
    stage.swarm.wait_until(&format!("the tokens of {answers} answers"), || {
        let worker = stage.worker();
        (&worker["input_tokens"], &worker["output_tokens"])
            == (&json!(answers * INPUT_TOKENS), &json!(answers * OUTPUT_TOKENS))
    });
}

/// Two sub-agents side by side, and the conversation waits for both.
fn two_helpers() -> ModelServerBuilder {
    let script =
        Script::new().turn(vec![call("Agent", agent("left")), call("Agent", agent("right"))]).say("Both are on it.");
    ModelServer::builder().script("work", script).script("left", helper("left")).script("right", helper("right"))
}

/// Makes the turn wait for its sub-agents, whatever their call says.
fn in_the_foreground(mut stage: Stage) -> Stage {
    stage.swarm.set_env("CLAUDE_CODE_DISABLE_BACKGROUND_TASKS", "1");
    stage
}

#[test]
fn the_calls_of_a_sub_agent_are_told_as_its_own() {
    let script = Script::new().call("Agent", agent("helper")).say("All done.");
    let builder = ModelServer::builder().script("work", script).script("helper", helper("helper"));
    let stage = in_the_foreground(Stage::with(builder));
    stage.spawn();
    let worker = stage.reach("review");
    assert_eq!(stage.tool_ends(), ["Write ok", "Bash ok 0", "Agent ok"], "{:#?}", stage.tool_log());
    check_pairs(&stage);
    check_owners(&stage, &["helper"]);
    assert_eq!((&worker["tool_calls"], &worker["commits"]), (&json!(3), &json!(1)), "{worker:#}");
    check_usage(&stage);
}

#[test]
fn sub_agents_side_by_side_keep_their_calls_apart() {
    let stage = in_the_foreground(Stage::with(two_helpers()));
    stage.spawn();
    stage.reach("review");
    check_pairs(&stage);
    check_owners(&stage, &["left", "right"]);
    check_usage(&stage);
}

#[test]
fn sub_agents_behind_the_turn_keep_their_calls_apart_and_both_are_waited_for() {
    let stage = Stage::with(two_helpers());
    stage.spawn();
    stage.reach("review");
    check_pairs(&stage);
    check_owners(&stage, &["left", "right"]);
    let reports = stage
        .server
        .requests()
        .iter()
        .flat_map(Request::user_texts)
        .filter(|text| text.contains("<task-id>"))
        .collect::<BTreeSet<_>>();
    assert_eq!(reports.len(), 2, "{reports:?}");
    let ended = stage.records("events.jsonl").into_iter().filter(|event| event["event"] == "attempt_ended");
    assert_eq!(ended.count(), 1);
    check_usage(&stage);
}

#[test]
fn print_mode_tells_the_calls_of_sub_agents_too() {
    let stage = Stage::with(two_helpers());
    stage.swarm.run(["spawn", "work", "--headless"]).success();
    let worker = stage.reach("review");
    check_pairs(&stage);
    check_owners(&stage, &["left", "right"]);
    check_usage(&stage);
    assert!(worker["cost_usd"].as_f64().is_some_and(|cost| cost > 0.0), "{worker:#}");
}

#[test]
fn a_worker_is_not_done_while_a_sub_agent_runs_behind_its_turn() {
    let script = Script::new().call("Agent", agent("helper")).say("Launched it.");
    let helper = helper("helper").failing_at_first(Fault::HangBefore, 1);
    let stage = Stage::with(ModelServer::builder().script("work", script).script("helper", helper));
    stage.spawn();
    stage.wait_for_screen("Launched it.");
    stage.wait_for_calls(3);
    let behind = "its turn ended, and a background task runs";
    stage.swarm.wait_until("the turn to end", || stage.worker()["reason"] == behind);
    let worker = stage.worker();
    assert_eq!((&worker["status"], &worker["ticket_state"]), (&json!("working"), &json!("running")), "{worker:#}");
    stage.server.release("helper");
    let worker = stage.reach("review");
    assert_eq!((&worker["commits"], &worker["tool_calls"]), (&json!(1), &json!(3)), "{worker:#}");
    check_pairs(&stage);
    check_owners(&stage, &["helper"]);
    check_usage(&stage);
}

#[test]
fn a_question_of_a_sub_agent_makes_the_worker_wait() {
    let script = Script::new().call("Agent", agent("helper")).say("Launched it.");
    let asks = Script::new().call("Bash", shell(ASKED)).say("Did my part.");
    let stage = Stage::with(ModelServer::builder().script("work", script).script("helper", asks));
    stage.spawn();
    assert_eq!(stage.wait(&[]).code, 4, "{}", stage.explain());
    let worker = stage.worker();
    assert_eq!((&worker["status"], &worker["ticket_state"]), (&json!("waiting"), &json!("running")), "{worker:#}");
    // The screen may show the question before the hook tells what it is about.
    let asked = format!("permission for Bash {ASKED}");
    stage.swarm.wait_until("the question", || stage.worker()["reason"] == asked);
    stage.wait_for_screen("Do you want to proceed?");
    stage.answer("1");
    stage.reach("review");
    check_pairs(&stage);
    assert!(stage.file("made.txt").is_some());
}

#[test]
fn an_interrupt_ends_the_calls_of_a_sub_agent_that_the_turn_waits_for() {
    let script = Script::new().call("Agent", agent("helper")).say("Never said.");
    let hangs = Script::new().call("Bash", shell("sh -c 'tail -f /dev/null'")).say("Never said.");
    let builder = ModelServer::builder().script("work", script).script("helper", hangs);
    let stage = in_the_foreground(Stage::with(builder));
    stage.spawn();
    stage.wait_for_calls(2);
    stage.swarm.wait_until("the tool's process", || !stage.processes_with("tail -f").is_empty());
    stage.press(&["Escape"]);
    let worker = stage.reach("idle");
    assert_eq!(worker["ticket_state"], "running", "{worker:#}");
    check_pairs(&stage);
    assert_eq!(stage.tool_ends().len(), 2);
    assert!(stage.tool_ends().iter().all(|end| end.ends_with("interrupted")), "{:?}", stage.tool_ends());
    assert_eq!(stage.processes_with("tail -f"), []);
}
