//! Commit hooks of the repository: what they refuse goes back to the agent, and nothing gets around them.

use serde_json::json;

use super::{Stage, shell, writes};
use crate::support::model_server::{ModelServer, Script};

/// A stage whose repository refuses commits with a file `bad.txt`, and says so with script `repair` in its words.
fn strict(script: Script, repair: Script) -> Stage {
    let stage = Stage::with(ModelServer::builder().script("work", script).script("repair", repair));
    let hook = stage.swarm.repository().join(".git/hooks/pre-commit");
    let runs = stage.swarm.root().join("runs");
    let text = format!(
        "#!/bin/sh\necho ran >>'{}'\ntest ! -e bad.txt || {{ echo 'bad.txt has no licence, do SCRIPT:repair' >&2; exit 1; }}\n",
        runs.display()
    );
    stage.swarm.write_at(&hook, &text);
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    stage
}

/// How often the hook ran.
fn runs(stage: &Stage) -> usize {
    std::fs::read_to_string(stage.swarm.root().join("runs")).unwrap_or_default().lines().count()
}

/// Gives the file another name.
fn repairs() -> Script {
    Script::new().call("Bash", shell("sh -c 'mv bad.txt good.txt'")).say("Renamed it.")
}

/// The files that the worker's branch adds.
fn committed(stage: &Stage) -> String {
    stage.swarm.git(["diff", "--name-only", "main", "swarm/work"]).success()
}

#[test]
fn a_hook_that_refuses_the_commit_of_an_agent_is_the_result_of_its_command() {
    let script = Script::new()
        .call("Write", json!({"file_path": "{cwd}/bad.txt", "content": "x\n"}))
        .call("Bash", shell("git add bad.txt && git commit -q -m 'Add a file'"))
        .call("Bash", shell("git mv bad.txt good.txt && git commit -q -m 'Add a file'"))
        .say("Committed it.");
    let stage = strict(script, repairs());
    stage.spawn();
    let worker = stage.reach("review");
    assert_eq!(stage.tool_ends(), ["Write ok", "Bash error 1", "Bash ok 0"]);
    assert!(stage.tool_log().iter().any(|end| end["error"].as_str().is_some_and(|said| said.contains("no licence"))));
    assert_eq!((&worker["commits"], runs(&stage)), (&json!(1), 2), "{worker:#}");
    assert_eq!(committed(&stage), "good.txt\n");
}

#[test]
fn a_hook_that_refuses_the_leftovers_goes_back_to_the_agent() {
    let stage = strict(writes("bad.txt"), repairs());
    stage.spawn();
    let worker = stage.reach("review");
    let request = stage.server.wait_for_request(|request| request.mentions("no licence"));
    assert!(request.mentions("Do not bypass the hook"), "{:?}", request.user_texts());
    assert_eq!((&worker["commits"], runs(&stage)), (&json!(1), 2), "{worker:#}");
    assert_eq!(committed(&stage), "good.txt\n");
}

#[test]
fn a_hook_that_refuses_the_leftovers_of_a_headless_agent_is_its_next_turn() {
    let stage = strict(writes("bad.txt"), repairs());
    stage.swarm.run(["spawn", "work", "--headless"]).success();
    let worker = stage.reach("review");
    assert_eq!((&worker["commits"], runs(&stage)), (&json!(1), 2), "{worker:#}");
    assert_eq!(committed(&stage), "good.txt\n");
}

#[test]
fn a_hook_that_goes_on_refusing_fails_the_ticket_after_two_returns() {
    let stage = strict(writes("bad.txt"), Script::new().say("I see nothing wrong."));
    stage.spawn();
    let worker = stage.reach("failed");
    assert_eq!(worker["reason"], "a commit hook refused its changes", "{worker:#}");
    assert_eq!(runs(&stage), 3);
    let told = stage.server.requests().last().unwrap().user_texts();
    assert_eq!(told.iter().filter(|text| text.contains("no licence")).count(), 2, "{told:?}");
    assert_eq!((committed(&stage).as_str(), &worker["commits"]), ("", &json!(0)));
    assert!(stage.file("bad.txt").is_some(), "the work is kept");
}

#[test]
fn the_built_in_worker_cannot_bypass_a_hook() {
    let script = Script::new()
        .call("Write", json!({"file_path": "{cwd}/bad.txt", "content": "x\n"}))
        .call("Bash", shell("git add bad.txt && git commit -q --no-verify -m 'Add a file'"))
        .say("Tried.");
    let stage = strict(script, repairs());
    stage.swarm.write_ticket("work", "ticket-worker", "SCRIPT:work\nDo the work.");
    stage.spawn();
    stage.swarm.wait_until("the commit to be refused", || stage.tool_ends().len() >= 2);
    assert_eq!(stage.tool_ends()[..2], ["Write ok", "Bash denied"]);
}
