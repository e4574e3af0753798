//! Many commands at once on one repository.

use std::collections::BTreeSet;
use std::fs;

use crate::support::scene::{assert_no_processes, await_file, await_status, scene, worker};
use crate::support::swarm::{Output, TestSwarm};

/// Runs until it is ended, and says so at once.
const STAYS: &str = "touch up; while :; do sleep 0.05; done";

/// Runs one command a list of arguments, all at once.
fn at_once(swarm: &TestSwarm, commands: &[Vec<String>]) -> Vec<Output> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = commands.iter().map(|args| scope.spawn(move || swarm.run(args))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// A spawn of each ticket, after the tickets were written.
fn spawns(swarm: &TestSwarm, ids: impl IntoIterator<Item = String>) -> Vec<Vec<String>> {
    let spawn = |id: String| {
        swarm.write_ticket(&id, "shell", "Work.");
        vec!["spawn".to_owned(), id]
    };
    ids.into_iter().map(spawn).collect()
}

#[test]
fn commands_at_once_never_exceed_the_limit() {
    let swarm = scene(STAYS);
    swarm.write(".swarm/config.yaml", "max_workers: 2\n");
    let commands = spawns(&swarm, (1..=6).map(|number| format!("T-{number}")));
    let outputs = at_once(&swarm, &commands);
    let (started, refused): (Vec<_>, Vec<_>) = outputs.iter().partition(|output| output.code == 0);
    assert_eq!((started.len(), refused.len()), (2, 4), "{outputs:#?}");
    for output in refused {
        assert_eq!(output.code, 7, "{}", output.transcript());
        assert!(
            output.stderr.contains("2 of 2 workers run") && output.stderr.contains("max_workers"),
            "{}",
            output.stderr
        );
    }
    let status = swarm.json(["status", "--all"]);
    assert_eq!(status["workers"].as_array().unwrap().len(), 2, "who was refused left no trace");
    assert_eq!((&status["tickets"]["running"], &status["tickets"]["queued"]), (&2.into(), &0.into()));
    swarm.run(["stop", "--all"]).success();
}

#[test]
fn a_worker_that_is_brought_back_needs_a_place_too() {
    let swarm = scene(STAYS);
    swarm.write(".swarm/config.yaml", "max_workers: 1\n");
    swarm.write_ticket("T-2", "shell", "Work.");
    swarm.run(["spawn", "T-1"]).success();
    swarm.run(["stop", "T-1"]).success();
    swarm.run(["spawn", "T-2"]).success();
    await_status(&swarm, "T-2", "working");
    for args in [&["resume", "T-1"][..], &["restart", "T-1"], &["send", "T-1", "Go on."], &["spawn", "T-1"]] {
        let output = swarm.run(args).expect_code(7);
        let says = "1 of 1 workers run, no room for 1 more";
        assert!(output.stderr.contains(says) && output.stderr.contains("max_workers"), "{args:?}: {}", output.stderr);
        let stopped = worker(&swarm, "T-1");
        assert_eq!((&stopped["status"], &stopped["attempt"]), (&"stopped".into(), &1.into()), "{args:?}");
    }
    // A worker that runs has a place of its own, even when the limit went below what runs.
    swarm.run(["restart", "T-2"]).success();
    assert_eq!(worker(&swarm, "T-2")["attempt"], 2);
    swarm.run(["resume", "T-1", "--config", "max_workers=2"]).success();
    swarm.run(["restart", "T-1"]).success();
    swarm.run(["stop", "--all"]).success();
    let outputs = at_once(&swarm, &[vec!["resume".into(), "T-1".into()], vec!["resume".into(), "T-2".into()]]);
    let mut codes: Vec<_> = outputs.iter().map(|output| output.code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 7], "{outputs:#?}");
    swarm.run(["stop", "--all"]).success();
    assert_no_processes(&swarm);
}

#[test]
fn twenty_spawns_at_once_all_succeed_with_ports_of_their_own() {
    let swarm = scene("seq $SWARM_PORT $((SWARM_PORT + SWARM_PORT_COUNT - 1)) > ports");
    swarm.write(".swarm/config.yaml", "max_workers: 20\nports: {base: 43000, size: 10}\n");
    let mut commands = spawns(&swarm, (1..=20).map(|number| format!("T-{number}")));
    for args in commands.iter_mut().step_by(2) {
        args.push("--headless".to_owned());
    }
    for output in at_once(&swarm, &commands) {
        output.success();
    }
    let ids: Vec<_> = (1..=20).map(|number| format!("T-{number}")).collect();
    let wait: Vec<_> = ["wait", "--timeout", "50s"].into_iter().map(str::to_owned).chain(ids.clone()).collect();
    swarm.run(wait).success();
    let mut ports = BTreeSet::new();
    for id in &ids {
        let text = fs::read_to_string(swarm.worktree(id).join("ports")).unwrap();
        let own: Vec<u16> = text.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(own.len(), 10);
        assert!(own.into_iter().all(|port| ports.insert(port)), "blocks overlap");
    }
    assert_no_processes(&swarm);
}

#[test]
fn of_spawns_of_one_ticket_exactly_one_wins() {
    let swarm = scene("echo start >> ../starts; touch up; while :; do sleep 0.05; done");
    let outputs = at_once(&swarm, &vec![vec!["spawn".to_owned(), "T-1".to_owned()]; 4]);
    let won = outputs.iter().filter(|output| output.code == 0).count();
    assert_eq!(won, 1, "{outputs:#?}");
    for output in outputs.iter().filter(|output| output.code != 0) {
        assert_eq!(output.code, 1, "{}", output.transcript());
        assert!(output.stderr.contains("T-1") && output.stderr.contains("hint"), "{}", output.stderr);
    }
    await_status(&swarm, "T-1", "working");
    await_file(&swarm, "T-1", "up");
    let starts = fs::read_to_string(swarm.root().join("project-worktrees/starts")).unwrap();
    assert_eq!(starts, "start\n");
    swarm.run(["stop", "T-1"]).success();
}

#[test]
fn of_new_attempts_at_once_exactly_one_wins() {
    let swarm = scene("echo start >> ../starts; touch up; while :; do sleep 0.05; done");
    swarm.run(["spawn", "T-1"]).success();
    await_file(&swarm, "T-1", "up");
    swarm.run(["stop", "T-1"]).success();
    fs::remove_file(swarm.worktree("T-1").join("up")).unwrap();
    let outputs = at_once(&swarm, &vec![vec!["spawn".to_owned(), "T-1".to_owned()]; 4]);
    assert_eq!(outputs.iter().filter(|output| output.code == 0).count(), 1, "{outputs:#?}");
    await_file(&swarm, "T-1", "up");
    let starts = fs::read_to_string(swarm.root().join("project-worktrees/starts")).unwrap();
    assert_eq!(starts.lines().count(), 2);
    assert_eq!(worker(&swarm, "T-1")["attempt"], 2);
    swarm.run(["stop", "T-1"]).success();
}

#[test]
fn ids_that_begin_alike_are_never_mixed_up() {
    let swarm = scene(STAYS);
    swarm.write(".swarm/config.yaml", "max_workers: 5\n");
    let ids = ["T-1", "T-12", "T-1.2", "T-1-2", "T-1_2"];
    for id in ids {
        swarm.write_ticket(id, "shell", "Work.");
    }
    swarm.run(["spawn"].iter().chain(&ids)).success();
    let sessions = |swarm: &TestSwarm| swarm.tmux(["list-sessions", "-F", "#{session_name}"]).success().lines().count();
    for id in ids {
        await_file(&swarm, id, "up");
    }
    assert_eq!(sessions(&swarm), 5);
    swarm.run(["stop", "T-1"]).success();
    assert_eq!(worker(&swarm, "T-1")["status"], "stopped");
    for id in &ids[1..] {
        assert_eq!(worker(&swarm, id)["status"], "working", "{id}");
    }
    swarm.run(["restart", "T-1"]).success();
    await_status(&swarm, "T-1", "working");
    swarm.run(["stop", "T-1.2"]).success();
    for id in ["T-1", "T-12", "T-1-2", "T-1_2"] {
        assert_eq!(worker(&swarm, id)["status"], "working", "{id}");
    }
    swarm.run(["stop", "T"]).expect_code(5);
    swarm.run(["stop", "--all"]).success();
    assert_no_processes(&swarm);
}

#[test]
fn an_unmet_dependency_needs_a_person_before_any_effect() {
    let swarm = scene(STAYS);
    swarm.write(".swarm/tickets/T-2.md", "---\nagent: shell\ndepends_on: [T-1]\n---\nWork.\n");
    let output = swarm.run(["spawn", "T-2"]).expect_code(4);
    assert!(output.stderr.contains("waits for `T-1`"), "{}", output.transcript());
    assert_eq!(swarm.json(["status", "--all"])["workers"], serde_json::json!([]));
    assert!(!swarm.worktree("T-2").exists());
}

#[test]
fn some_of_several_failing_is_told_for_each() {
    let swarm = scene("true");
    swarm.write_ticket("T-2", "shell", "Work.");
    swarm.write_at(&swarm.worktree("T-2").join("in-the-way"), "x");
    let output = swarm.run(["spawn", "T-1", "T-2", "--json"]).expect_code(3);
    let view = output.json();
    assert_eq!((&view["spawned"][0]["worker"], &view["failed"][0]["subject"]), (&"T-1".into(), &"T-2".into()));
    swarm.run(["stop", "T-1", "T-9"]).expect_code(5);
}
