//! `swarm demo`: the whole path through the real agent loop, with a script for its model.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::swarm::TestSwarm;

/// What is in the folder for temporary files.
fn left(swarm: &TestSwarm) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(swarm.root().join("tmp")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The calls of a worker that ended, as `tool outcome`.
fn calls(repository: &Path, worker: &str) -> Vec<String> {
    let log = repository.join(".git/swarm/workers").join(worker).join("tool_calls.jsonl");
    let log = std::fs::read_to_string(log).unwrap();
    let records = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let ends = records.filter(|record| record["event"] == "end");
    ends.map(|end| format!("{} {}", end["tool"].as_str().unwrap(), end["outcome"].as_str().unwrap())).collect()
}

#[test]
fn four_branches_land_one_after_its_conflict_and_nothing_is_left() {
    let swarm = TestSwarm::without_repository();
    let output = swarm.run_in(swarm.root(), ["demo"]).expect_code(0);
    for text in [
        "Returned `total`: `inventory.sh` conflicts with `main`\n",
        "Landed `total`",
        "Four branches landed in",
        "No model took part",
    ] {
        output.says(text);
    }
    assert_eq!(output.stdout.matches("  Landed `").count(), 4, "{}", output.stdout);
    assert_eq!(left(&swarm), Vec::<PathBuf>::new());
    assert_eq!(swarm.processes(), []);
}

#[test]
fn what_is_kept_can_be_explored_and_shows_that_the_calls_were_real() {
    let swarm = TestSwarm::without_repository();
    let output = swarm.run_in(swarm.root(), ["demo", "--keep"]).expect_code(0);
    let folder = left(&swarm).into_iter().find(|path| path.join("inventory").is_dir()).unwrap();
    let repository = folder.join("inventory");
    let socket = folder.join("tmux").display().to_string();
    assert!(output.stdout.contains(&format!("tmux -S {socket} kill-server")), "{}", output.stdout);
    let conflict = ["Bash ok", "Read ok", "Edit ok", "Edit ok", "Bash ok", "Bash ok"];
    let made = calls(&repository, "total");
    assert!(made.ends_with(&conflict.map(ToOwned::to_owned)), "the merge is mended where it was begun: {made:?}");
    let help = swarm.command("sh", &repository).args(["inventory.sh", "help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("  search TEXT") && help.contains("  total  "), "{help}");
    assert!(swarm.command("sh", &repository).arg("test.sh").status().unwrap().success());
    let view = swarm.run_in(&repository, ["status", "--all", "--json"]).json();
    assert!(view["workers"].as_array().unwrap().iter().all(|worker| worker["ticket_state"] == "landed"), "{view:#}");
    // What the demo says about removing it is all there is to do.
    swarm.command("tmux", swarm.root()).args(["-S", &socket, "kill-server"]).output().unwrap();
    swarm.wait_until("the end of all processes", || swarm.processes().is_empty());
}
