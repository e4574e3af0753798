//! The coordinator in the background.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::scenery::{Beside, QUICK, await_state, hold_back, let_go, repository, ticket};
use crate::support::scene::{assert_no_processes, signal};
use crate::support::schema::assert_conforms;
use crate::support::swarm::TestSwarm;

#[test]
fn a_coordinator_in_the_background_works_until_it_is_ended() {
    let swarm = repository();
    ticket(&swarm, "a", &[]);
    ticket(&swarm, "b", &["a"]);
    let up = swarm.json(["up", "--merge"]);
    assert_eq!(up["state"], "leads", "{up:#}");
    swarm.tmux(["list-sessions", "-F", "#{session_name}"]).says("_coordinator");
    swarm.run(["up"]).expect_code(0).says("The coordinator runs already in the background");
    swarm.run(["queue", "add", "b"]).expect_code(0);
    await_state(&swarm, "b", "landed");
    swarm.run(["status"]).says("in the background (process");
    swarm.run(["down"]).expect_code(0).says("The coordinator in the background ended");
    swarm.run(["down"]).expect_code(0).says("does not run");
    assert_no_processes(&swarm);
    let sessions = swarm.tmux(["list-sessions", "-F", "#{session_name}"]);
    assert!(!sessions.stdout.contains("_coordinator"), "{}", sessions.stdout);
}

#[test]
fn it_leaves_alone_what_is_written_and_not_queued_and_its_workers_outlive_it() {
    let swarm = repository();
    ticket(&swarm, "a", &[]);
    ticket(&swarm, "b", &[]);
    hold_back(&swarm, "wait-a");
    swarm.run(["up", "--headless"]).expect_code(0).says("and leads");
    swarm.run(["queue", "add", "a"]).expect_code(0);
    await_state(&swarm, "a", "running");
    swarm.run(["down"]).expect_code(0).says("1 worker runs on");
    let status = swarm.json(["status"]);
    assert_eq!((&status["workers"][0]["id"], &status["workers"][0]["status"]), (&json!("a"), &json!("working")));
    assert_eq!(status["workers"].as_array().unwrap().len(), 1);
    let_go(&swarm, "wait-a");
    await_state(&swarm, "a", "review");
}

#[test]
fn a_run_beside_it_stands_by_and_ends_with_its_tickets() {
    let swarm = repository();
    ticket(&swarm, "a", &[]);
    swarm.run(["up", "--headless"]).success();
    let mut run = Beside::start(&swarm, "run", &["run", "a"]);
    assert_eq!(run.end(&swarm), 0, "{}", run.says(&swarm));
    assert!(run.says(&swarm).contains("leads; this one stands by"), "{}", run.says(&swarm));
    swarm.run(["down"]).success();
}

#[test]
fn a_run_beside_it_ends_when_it_holds_its_ticket_and_refuses_to_wait_for_what_it_never_does() {
    let swarm = repository();
    swarm.write(".swarm/agents/gone.md", "---\nruntime: command\ncommand: [no-such-program-anywhere]\n---\nWork.\n");
    swarm.write_ticket("a", "gone", "Work.");
    swarm.run(["up", "--headless"]).success();
    swarm.run(["run", "a", "--merge"]).expect_code(4).says("coordinates in the background and lands nothing");
    let queue = swarm.json(["queue", "list", "--all"]);
    assert_eq!(queue["tickets"], json!([]), "a refusal has no effect");
    let output = swarm.run(["run", "a", "--timeout", "60s"]).expect_code(4);
    output.says("leads; this one stands by");
    output.says("`a` could not be started");
    swarm.run(["down"]).success();
}

#[test]
fn one_that_was_killed_is_missed_and_another_one_takes_its_place() {
    let swarm = repository();
    let up = swarm.json(["up"]);
    signal(&up["pid"], Signal::KILL);
    swarm.wait_until("nobody to lead", || swarm.json(["status"])["coordinator"]["leader"].is_null());
    let status = swarm.json(["status"]);
    assert_conforms(&status, "status");
    assert_eq!((&status["coordinator"]["state"], &status["coordinator"]["pid"]), (&"killed".into(), &Value::Null));
    let said = format!("The coordinator in the background (process {}) was killed: swarm up starts it", up["pid"]);
    swarm.run(["status"]).says(&said);
    swarm.run(["doctor"]).says("was killed, and nobody started it again");
    let again = swarm.json(["up"]);
    assert_eq!(again["state"], "leads");
    assert_ne!(again["pid"], up["pid"]);
    // Its terminal is not what it lives from.
    swarm.tmux(["kill-server"]).success();
    assert_eq!(swarm.json(["up"])["pid"], again["pid"]);
    swarm.run(["down"]).success();
    assert_no_processes(&swarm);
}

#[test]
fn what_it_could_never_do_is_told_at_once() {
    let swarm = repository();
    swarm.write(".swarm/config.yaml", "gates: [{name: g, run: 'true'}]\n");
    swarm.run(["up", "--merge"]).expect_code(4).says("swarm trust");
    assert_no_processes(&swarm);
}

#[test]
fn it_goes_by_the_configuration_as_it_is_now_and_keeps_the_last_good_one() {
    let swarm = repository();
    for id in ["a", "b"] {
        ticket(&swarm, id, &[]);
        hold_back(&swarm, &format!("wait-{id}"));
    }
    let config = |more: &str| swarm.write(".swarm/config.yaml", &format!("{QUICK}{more}"));
    config("max_workers: 1\n");
    swarm.run(["up", "--headless"]).success();
    swarm.run(["queue", "add", "a", "b"]).success();
    await_state(&swarm, "a", "running");
    let told = || swarm.run(["events", "--json"]).stdout;
    config("max_workers: many\n");
    swarm.wait_until("the bad configuration to be told", || {
        told().contains("cannot be used, so the one from before holds")
    });
    assert_eq!(swarm.json(["status"])["workers"].as_array().unwrap().len(), 1, "the one from before holds");
    config("max_workers: 2\n");
    swarm.wait_until("the good configuration to be told", || told().contains("holds from now on"));
    await_state(&swarm, "b", "running");
    swarm.run(["events"]).says("the configuration changed and holds from now on");
    ["wait-a", "wait-b"].iter().for_each(|held| let_go(&swarm, held));
    await_state(&swarm, "b", "review");
    swarm.run(["down"]).success();
}

#[test]
fn gates_that_wait_for_trust_hold_from_the_moment_that_they_have_it() {
    let swarm = repository();
    ticket(&swarm, "a", &[]);
    swarm.run(["up", "--merge", "--headless"]).success();
    let gated = swarm.root().join("gated");
    let gate = format!("gates: [{{name: g, run: 'touch \"{}\"'}}]\n", gated.display());
    swarm.write(".swarm/config.yaml", &format!("{QUICK}{gate}"));
    let told = |text: &str| swarm.run(["events", "--json"]).stdout.matches(text).count();
    swarm.wait_until("the gate without trust to be told", || told("cannot be used, so the one from before holds") > 0);
    swarm.run(["trust", "--yes"]).success();
    swarm.wait_until("the gate with trust to be told", || told("holds from now on") > 0);
    assert_eq!(told("cannot be used, so the one from before holds"), 1);
    swarm.run(["queue", "add", "a"]).success();
    await_state(&swarm, "a", "landed");
    assert!(gated.exists(), "it landed by the gates of before");
    swarm.run(["down"]).success();
}

#[test]
fn a_run_that_lands_does_not_wait_for_one_that_took_the_lead_and_never_does() {
    let swarm = repository();
    ticket(&swarm, "a", &[]);
    hold_back(&swarm, "wait-a");
    swarm.run(["up", "--headless"]).says("and leads");
    let database = rusqlite::Connection::open(swarm.repository().join(".git/swarm/swarm.db")).unwrap();
    let lands = |lands: bool| {
        let sql = format!(
            "UPDATE runs SET document = json_set(document, '$.lands', json('{lands}'))
             WHERE json_extract(document, '$.tickets') IS NULL"
        );
        assert_eq!(database.execute(&sql, []).unwrap(), 1);
    };
    // When the run begins, somebody leads who lands; then it is one who does not.
    lands(true);
    let mut run = Beside::start(&swarm, "run", &["run", "a", "--merge"]);
    run.await_words(&swarm, "leads; this one stands by");
    lands(false);
    let_go(&swarm, "wait-a");
    assert_eq!(run.end(&swarm), 4, "{}", run.says(&swarm));
    assert!(run.says(&swarm).contains("coordinates and lands nothing: swarm merge"), "{}", run.says(&swarm));
    assert_eq!(swarm.json(["queue", "list"])["tickets"][0]["state"], "review");
    swarm.run(["down"]).success();
}

/// A coordinator in the background that could not start `a`, whose agent is missing.
fn parked() -> (TestSwarm, Value) {
    let swarm = repository();
    swarm.write_ticket("a", "late", "Work.");
    let up = swarm.json(["up", "--headless"]);
    swarm.run(["queue", "add", "a"]).success();
    swarm.wait_until("it to be told that it cannot be started", || {
        let queue = swarm.json(["queue", "list"]);
        queue["tickets"][0]["why"].as_str().is_some_and(|why| why.contains("could not be started"))
    });
    assert_ne!(swarm.json(["queue", "list"])["tickets"][0]["until"], Value::Null, "it is tried again in any case");
    (swarm, up["pid"].clone())
}

#[test]
fn what_an_agent_was_missing_for_starts_when_it_is_there_and_nobody_believes_the_reason_of_before() {
    let (swarm, _) = parked();
    swarm.write_shell_agent("late", "echo late > late.txt");
    swarm.run(["run", "a", "--headless", "--timeout", "50s"]).expect_code(0).says("leads; this one stands by");
    assert_eq!(swarm.json(["queue", "list"])["tickets"][0]["state"], "review");
    swarm.run(["down"]).success();
}

#[test]
fn what_a_killed_coordinator_said_holds_nothing() {
    let (swarm, pid) = parked();
    signal(&pid, Signal::KILL);
    swarm.write_shell_agent("late", "echo late > late.txt");
    swarm.run(["run", "a", "--headless", "--timeout", "50s"]).expect_code(0);
}

#[test]
fn a_ticket_that_could_not_be_started_is_tried_again_when_somebody_says_so() {
    let swarm = repository();
    swarm.write(".swarm/tickets/a.md", "---\nagent: shell\nbase: later\n---\nWork.\n");
    swarm.run(["up", "--headless"]).success();
    swarm.run(["queue", "add", "a"]).success();
    let why = || swarm.json(["queue", "list"])["tickets"][0]["why"].to_string();
    swarm.wait_until("it to be told that it cannot be started", || why().contains("could not be started"));
    swarm.git(["branch", "later"]).success();
    swarm.run(["queue", "retry", "a"]).success();
    let begun = Instant::now();
    await_state(&swarm, "a", "review");
    assert!(begun.elapsed() < Duration::from_secs(30), "it waited for its time");
    swarm.run(["down"]).success();
}

#[test]
fn a_run_that_stands_by_ends_no_agent_when_its_time_is_over_and_says_so() {
    let swarm = repository();
    ticket(&swarm, "a", &[]);
    hold_back(&swarm, "wait-a");
    swarm.run(["up", "--headless"]).success();
    swarm.run(["queue", "add", "a"]).success();
    await_state(&swarm, "a", "running");
    let output = swarm.run(["run", "a", "--timeout", "1s"]).expect_code(6);
    output.says("its workers run on");
    assert!(!output.stderr.contains("ending the agents"), "{}", output.stderr);
    let_go(&swarm, "wait-a");
    await_state(&swarm, "a", "review");
    swarm.run(["down"]).success();
}
