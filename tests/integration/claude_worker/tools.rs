//! Tool calls: what is logged, what is refused, what a person is asked.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{ASKED, Stage, is_below, shell};
use crate::support::model_server::{INPUT_TOKENS, OUTPUT_TOKENS, Script, call};

/// The names of a record's fields.
fn keys(record: &Value) -> BTreeSet<&str> {
    record.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The fields that every record has.
const COMMON: [&str; 12] =
    ["schema", "seq", "event", "at", "run", "ticket", "worker", "attempt", "agent", "runtime", "session_id", "call_id"];

/// A script with every kind of ending a call can have by itself.
fn all_kinds() -> Script {
    Script::new()
        .call("Write", json!({"file_path": "{cwd}/a.txt", "content": "one\n"}))
        .call("Edit", json!({"file_path": "{cwd}/a.txt", "old_string": "one", "new_string": "two"}))
        .call("Bash", shell("sh -c 'echo out; exit 3'"))
        .turn(vec![call("Bash", shell("git status --short")), call("Read", json!({"file_path": "{cwd}/a.txt"}))])
        .call("Write", json!({"file_path": "{cwd}/../escaped.txt", "content": "no\n"}))
        .say("Did what I could.")
}

/// What the log must say about that script.
fn check_all_kinds(stage: &Stage, turns: u64) {
    let mut ends = stage.tool_ends();
    // The two calls of one turn run side by side.
    ends[3..5].sort();
    assert_eq!(ends, ["Write ok", "Edit ok", "Bash error 3", "Bash ok 0", "Read ok", "Write denied"]);
    let log = stage.tool_log();
    let session = stage.session_told("SCRIPT:work");
    for (index, record) in log.iter().enumerate() {
        assert_eq!((&record["schema"], &record["seq"]), (&json!(1), &json!(index + 1)), "{record}");
        assert_eq!((&record["worker"], &record["agent"]), (&json!("work"), &json!("shell")), "{record}");
        assert_eq!((&record["runtime"], &record["session_id"]), (&json!("claude"), &json!(session)), "{record}");
        let own: &[&str] =
            if record["event"] == "start" { &["input"] } else { &["outcome", "duration_ms", "output_bytes"] };
        let wanted: BTreeSet<&str> = COMMON.into_iter().chain(["tool"]).chain(own.iter().copied()).collect();
        assert!(keys(record).is_superset(&wanted), "{record}");
        let same = log.iter().filter(|other| other["call_id"] == record["call_id"]);
        assert_eq!(same.map(|other| other["event"].as_str().unwrap()).collect::<Vec<_>>(), ["start", "end"]);
    }
    let failed = log.iter().find(|record| record["exit_code"] == 3).unwrap();
    assert!(failed["error"].as_str().unwrap().contains("out"), "{failed}");
    let denied = log.last().unwrap();
    assert!(denied["error"].as_str().unwrap().contains("outside your worktree"), "{denied}");
    assert!(!is_below(stage.swarm.root(), "escaped.txt"), "a write outside the worktree happened");
    assert_eq!(stage.file("a.txt").as_deref(), Some("two\n"));
    // Claude writes the figures of its last message down after it has said that its turn is over.
    stage.swarm.wait_until("all tokens", || stage.worker()["input_tokens"] == turns * INPUT_TOKENS);
    let worker = stage.worker();
    assert_eq!((&worker["tool_calls"], &worker["tool_errors"]), (&json!(6), &json!(1)), "{worker:#}");
    assert_eq!(worker["output_tokens"], turns * OUTPUT_TOKENS, "{worker:#}");
}

#[test]
fn every_tool_call_is_logged_as_the_contract_says() {
    let stage = Stage::new(all_kinds());
    stage.spawn();
    stage.reach("review");
    check_all_kinds(&stage, 6);
}

#[test]
fn print_mode_logs_tool_calls_as_the_contract_says() {
    let stage = Stage::new(all_kinds());
    stage.swarm.run(["spawn", "work", "--headless"]).success();
    stage.reach("review");
    check_all_kinds(&stage, 6);
    let worker = stage.worker();
    assert!(worker["cost_usd"].as_f64().is_some_and(|cost| cost > 0.0), "{worker:#}");
}

#[test]
fn secrets_in_a_command_stay_out_of_the_tool_log() {
    let secret = format!("ghp_{}", "0123456789abcdefghijABCDEFGHIJ012345");
    let stage = Stage::new(
        Script::new().call("Bash", shell(&format!("sh -c 'TOKEN={secret}; echo $TOKEN | wc -c'"))).say("Counted."),
    );
    stage.spawn();
    stage.reach("done");
    assert!(!stage.log_text("tool_calls.jsonl").contains(&secret));
    let log = stage.tool_log();
    assert_eq!(log[0]["redacted"], json!(["command"]), "{}", log[0]);
    assert!(log[0]["input"]["command"].as_str().unwrap().starts_with("sh -c"), "{}", log[0]);
    assert_eq!(stage.tool_ends(), ["Bash ok 0"]);
}

#[test]
fn a_question_makes_the_worker_wait_and_its_answer_makes_it_go_on() {
    let stage = Stage::new(Script::new().call("Bash", shell(ASKED)).say("Made it."));
    stage.spawn();
    let output = stage.wait(&[]);
    assert_eq!(output.code, 4, "{}\n{}", output.transcript(), stage.explain());
    let worker = stage.worker();
    assert_eq!((&worker["status"], &worker["ticket_state"]), (&json!("waiting"), &json!("running")), "{worker:#}");
    assert_eq!(worker["reason"], format!("permission for Bash {ASKED}"));
    // What is sent now must not answer the question.
    let sent = stage.swarm.run(["send", "work", "also say hello"]).success();
    assert!(sent.contains("waits for a person to answer"), "{sent}");
    stage.wait_for_screen("Do you want to proceed?");
    assert_eq!(stage.file("made.txt"), None);
    stage.answer("1");
    let request = stage.server.wait_for_request(|request| request.mentions("also say hello"));
    assert_eq!(request.tool_results().len(), 1);
    stage.reach("review");
    assert_eq!(stage.tool_ends(), ["Bash ok 0"]);
    assert!(stage.file("made.txt").is_some());
}

#[test]
fn a_refused_question_is_a_denied_call_and_leaves_the_worker_idle() {
    let stage = Stage::new(Script::new().call("Bash", shell(ASKED)).say("Made it."));
    stage.spawn();
    assert_eq!(stage.wait(&[]).code, 4);
    stage.wait_for_screen("Do you want to proceed?");
    stage.answer("Escape");
    let worker = stage.reach("idle");
    assert_eq!(worker["ticket_state"], "running", "{worker:#}");
    assert_eq!(stage.tool_ends(), ["Bash denied"]);
    assert_eq!(stage.file("made.txt"), None);
}
