//! `swarm doctor`.

use std::os::unix::net::UnixListener;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::with_shell_agent;
use crate::support::swarm::TestSwarm;

/// Texts of the findings on one level.
fn texts(view: &Value, level: &str) -> Vec<String> {
    let findings = view["findings"].as_array().unwrap().iter();
    let of_level = findings.filter(|finding| finding["level"] == level);
    of_level.map(|finding| finding["text"].as_str().unwrap().to_owned()).collect()
}

/// Starts a worker that works until it is stopped, and waits until its agent runs.
fn spawn_long_worker(swarm: &TestSwarm) -> Value {
    swarm.write_shell_agent("long", "sleep 1000");
    swarm.write_ticket("work", "long", "Work.");
    swarm.run(["spawn", "work", "--headless"]).success();
    swarm.wait_until("the agent to run", || swarm.json(["status"])["workers"][0]["pid"].is_number());
    swarm.json(["status"])["workers"][0].clone()
}

#[test]
fn a_fresh_repository_is_well_and_stays_as_it_is() {
    let swarm = with_shell_agent();
    let output = swarm.run(["doctor"]).expect_code(0);
    insta::assert_snapshot!(swarm.redact(&output.transcript()));
    assert!(!swarm.repository().join(".git/swarm").exists(), "looking makes no state");
}

#[test]
fn a_live_worker_is_well() {
    let swarm = with_shell_agent();
    spawn_long_worker(&swarm);
    let view = swarm.json(["doctor"]);
    assert_eq!((texts(&view, "problem"), texts(&view, "warning")), (vec![], vec![]), "{view}");
    assert!(texts(&view, "ok").contains(&"1 with a worktree, 1 of them live".to_owned()), "{view}");
}

#[test]
fn a_killed_supervisor_leaves_a_lost_worker_and_its_processes_as_problems() {
    let swarm = with_shell_agent();
    let worker = spawn_long_worker(&swarm);
    let pid = worker["supervisor_pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
    swarm.wait_until("the worker to be lost", || swarm.json(["status"])["workers"][0]["status"] == "lost");
    let output = swarm.run(["doctor", "--json"]).expect_code(1);
    let problems = texts(&output.json(), "problem").join("\n");
    assert!(problems.contains("`work` is lost"), "{problems}");
    let warnings = texts(&output.json(), "warning").join("\n");
    assert!(warnings.contains("nobody listens on"), "{warnings}");
}

#[test]
fn a_ticket_whose_worker_is_lost_is_no_longer_told_as_running() {
    let swarm = with_shell_agent();
    let worker = spawn_long_worker(&swarm);
    let pid = worker["supervisor_pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
    swarm.wait_until("the doctor to see it", || swarm.run(["doctor"]).stdout.contains("`work` is lost"));
    assert_eq!(swarm.json(["ticket", "show", "work"])["tickets"][0]["state"], "lost");
}

#[test]
fn a_worktree_and_a_branch_that_vanished_are_problems() {
    let swarm = with_shell_agent();
    swarm.write_ticket("work", "script", "Work.");
    swarm.run(["spawn", "work", "--headless"]).success();
    swarm.wait_until("the worker to end", || swarm.json(["status"])["workers"][0]["status"] == "done");
    std::fs::remove_dir_all(swarm.worktree("work")).unwrap();
    swarm.git(["worktree", "prune"]).success();
    swarm.git(["branch", "-D", "swarm/work"]).success();
    swarm.git(["worktree", "add", "--quiet", "-b", "mine", "../mine"]).success();
    std::fs::remove_dir_all(swarm.root().join("mine")).unwrap();
    let output = swarm.run(["doctor"]).expect_code(1);
    assert!(output.stdout.contains("the worktree of `work` is not usable"), "{}", output.stdout);
    assert!(output.stdout.contains("the branch `swarm/work` of `work` is gone"), "{}", output.stdout);
    assert!(output.stdout.contains("git worktree prune"), "{}", output.stdout);
    assert!(output.stderr.contains("2 problems were found"), "{}", output.stderr);
}

#[test]
fn stale_sockets_and_old_hand_over_files_are_named() {
    let swarm = with_shell_agent();
    swarm.run(["doctor"]).success();
    let folder = swarm.runtime_folder();
    drop(UnixListener::bind(folder.join("0123.sock")).unwrap());
    let old = std::fs::File::create(folder.join("0123-1.json")).unwrap();
    old.set_modified(SystemTime::now() - Duration::from_secs(600)).unwrap();
    std::fs::File::create(folder.join("0456-1.json")).unwrap();
    let warnings = texts(&swarm.json(["doctor"]), "warning").join("\n");
    assert!(warnings.contains("0123.sock") && warnings.contains("0123-1.json"), "{warnings}");
    assert!(!warnings.contains("0456"), "a fresh hand-over file is on its way: {warnings}");
}

#[test]
fn a_damaged_database_is_a_problem_with_a_way_out() {
    let swarm = with_shell_agent();
    swarm.write_ticket("work", "script", "Work.");
    swarm.run(["spawn", "work", "--headless"]).success();
    swarm.wait_until("the worker to end", || swarm.json(["status"])["workers"][0]["status"] == "done");
    swarm.wait_until("the supervisor to be gone", || swarm.processes().is_empty());
    std::fs::remove_file(swarm.repository().join(".git/swarm/swarm.db-wal")).ok();
    swarm.write(".git/swarm/swarm.db", "this is no database, whatever its name says\n");
    let output = swarm.run(["doctor"]).expect_code(1);
    assert!(output.stdout.contains("move it away and start afresh"), "{}", output.stdout);
}

#[test]
fn untrusted_commands_and_a_broken_configuration_are_told() {
    let swarm = with_shell_agent();
    swarm.write(".swarm/config.yaml", "agent: script\nsetup: [{run: make}]\n");
    let view = swarm.json(["doctor"]);
    assert!(texts(&view, "warning").join("\n").contains("1 of 1 set-up commands and gates are not trusted"), "{view}");
    swarm.write(".swarm/config.yaml", "agnt: script\n");
    let output = swarm.run(["doctor"]).expect_code(1);
    assert!(output.stdout.contains("agnt"), "{}", output.stdout);
}

#[test]
fn doctor_names_only_snapshots_that_are_there() {
    let swarm = with_shell_agent();
    swarm.write_ticket("work", "script", "Work.");
    swarm.run(["spawn", "work", "--headless", "--wait"]).success();
    swarm.git(["update-ref", "-d", "refs/swarm/wip/work"]).success();
    std::fs::remove_dir_all(swarm.worktree("work")).unwrap();
    let hint = |swarm: &TestSwarm| {
        let view = swarm.run(["doctor", "--json"]).json();
        let findings = view["findings"].as_array().unwrap().iter();
        let of = findings.filter(|finding| finding["subject"] == "worktrees" && finding["level"] == "problem");
        of.map(|finding| finding["hint"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(hint(&swarm), ["its commits are on `swarm/work`; swarm rm work keeps them"]);
    swarm.git(["update-ref", "refs/swarm/wip/work", "main"]).success();
    let named = "git branch recovered/work refs/swarm/wip/work";
    assert_eq!(hint(&swarm), [format!("{named} brings its last snapshot back")]);
    let words: Vec<_> = named.split(' ').skip(1).collect();
    swarm.git(words).success();
}
