//! Isolated agents: a folder of their own, and nothing of the person's is read or written.

use serde_json::json;

use super::{SHELL_AGENT, Stage, is_below, writes};
use crate::support::model_server::ModelServer;

/// A stage whose agent is isolated, and whose person never ran the program.
fn isolated() -> Stage {
    let stage = Stage::with(ModelServer::builder().script("work", writes("a.txt")).script("more", writes("b.txt")));
    let agent = SHELL_AGENT.replace("runtime: claude\n", "runtime: claude\nisolated: true\n");
    stage.swarm.write(".swarm/agents/shell.md", &agent);
    std::fs::remove_dir_all(stage.swarm.root().join("agent/claude")).unwrap();
    stage
}

/// Checks that the program kept what it keeps in the worker's own folder.
#[track_caller]
fn check_own_folder(stage: &Stage) {
    let own = stage.swarm.worker_dir("work").join("claude");
    assert!(is_below(&own.join("projects"), &format!("{}.jsonl", stage.session_told("SCRIPT:work"))));
    assert!(!stage.swarm.root().join("agent/claude").exists(), "the person's folder was made");
    let home = stage.swarm.root().join("home");
    for name in [".claude", ".claude.json", ".local"] {
        assert!(!home.join(name).exists(), "{name} was made in the person's home");
    }
}

#[test]
fn an_isolated_agent_asks_nothing_and_leaves_the_persons_folder_alone() {
    let stage = isolated();
    stage.spawn();
    let worker = stage.reach("review");
    assert_eq!(worker["commits"], 1, "{worker:#}");
    let asked = stage.records("events.jsonl").into_iter().filter(|event| event["status"] == "waiting");
    assert_eq!(asked.count(), 0);
    check_own_folder(&stage);
    let session = stage.session_told("SCRIPT:work");
    // Its conversation goes on from its own folder.
    stage.swarm.run(["stop", "work"]).success();
    stage.swarm.run(["send", "work", "SCRIPT:more"]).success();
    let request = stage.server.wait_for_request(|request| request.mentions("SCRIPT:more"));
    assert_eq!(request.session_id(), session);
    assert!(request.mentions("Do the work."), "{:?}", request.user_texts());
    assert_eq!(stage.reach("review")["commits"], 2);
    check_own_folder(&stage);
}

#[test]
fn an_isolated_agent_works_in_print_mode_too() {
    let stage = isolated();
    stage.swarm.run(["spawn", "work", "--headless"]).success();
    assert_eq!(stage.reach("review")["commits"], 1);
    check_own_folder(&stage);
}

#[test]
fn an_isolated_agent_without_credentials_is_refused_before_anything_is_made() {
    let mut stage = isolated();
    stage.swarm.set_env("ANTHROPIC_API_KEY", "");
    let refused = stage.swarm.run(["spawn", "work"]);
    assert_ne!(refused.code, 0);
    refused.says("ANTHROPIC_API_KEY");
    assert!(!stage.swarm.worktree("work").exists());
    let workers = stage.swarm.json(["status"]);
    assert_eq!(workers["workers"], json!([]));
}
