//! `swarm scale`: the number of workers follows the work or a person, while a coordinator runs and after it was killed.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::scenery::{Beside, QUICK, await_state, hold_back, let_go, repository, starts, states, ticket};
use crate::support::scene::signal;
use crate::support::schema::assert_conforms;
use crate::support::swarm::TestSwarm;

/// Says when it begins and ends, and waits until it may end.
const SPANS: &str = r#"
echo "+ $SWARM_TICKET" >> "$SWARM_REPO/../spans.log"
while [ -e "$SWARM_REPO/../wait" ] || [ -e "$SWARM_REPO/../wait-$SWARM_TICKET" ]; do sleep 0.05; done
echo "$SWARM_TICKET" > "$SWARM_TICKET.txt"
echo "- $SWARM_TICKET" >> "$SWARM_REPO/../spans.log"
"#;

/// A policy that is quick to act: a place for what waits, up to three, and back to one when nothing does.
const POLICY: &str = "scaling:\n  - {metric: queue_depth, up: 0.5, down: 0.4, evaluation_periods: 2, period: 300ms, \
                      cooldown: 700ms, max_workers: 3}\n";

/// A repository whose agents say when they work, with these settings and tickets.
fn spans(config: &str, tickets: &[&str]) -> TestSwarm {
    let swarm = repository();
    swarm.write_shell_agent("shell", SPANS);
    swarm.write(".swarm/config.yaml", &format!("{QUICK}{config}"));
    tickets.iter().for_each(|id| ticket(&swarm, id, &[]));
    swarm
}

/// How many agents worked at once at most, by what they say.
fn most_at_once(swarm: &TestSwarm) -> i64 {
    let log = fs::read_to_string(swarm.root().join("spans.log")).unwrap_or_default();
    let sums = log.lines().scan(0, |now, line| {
        *now += if line.starts_with('+') { 1 } else { -1 };
        Some(*now)
    });
    sums.max().unwrap_or(0)
}

/// Waits until so many tickets run.
#[track_caller]
fn await_running(swarm: &TestSwarm, count: usize) {
    swarm.wait_until(&format!("{count} to run"), || swarm.json(["status"])["tickets"]["running"] == count);
}

/// The events of scaling, as from and to.
fn scaled(swarm: &TestSwarm) -> Vec<(Value, Value)> {
    let events = swarm.run(["events", "--json"]).stdout;
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let scaled = events.filter(|event| event["event"] == "scaled");
    scaled.map(|event| (event["from"].clone(), event["to"].clone())).collect()
}

/// The one scope of a repository on its own.
fn node(swarm: &TestSwarm) -> Value {
    let view = swarm.json(["scale"]);
    assert_conforms(&view, "scale");
    view["scopes"][0].clone()
}

#[test]
fn the_number_follows_the_backlog_within_its_bounds_and_a_killed_coordinator_keeps_it() {
    let tickets = ["a", "b", "c", "d", "e", "f"];
    let swarm = spans(&format!("max_workers: 1\n{POLICY}"), &tickets);
    hold_back(&swarm, "wait");
    let up = swarm.json(["up", "--merge", "--headless"]);
    swarm.run(["queue", "add", "--all"]).success();
    await_running(&swarm, 3);
    swarm.wait_until("three to work", || most_at_once(&swarm) == 3);
    assert_eq!(scaled(&swarm), [(json!(1), json!(2)), (json!(2), json!(3))]);
    let before = node(&swarm);
    assert_eq!((&before["workers"], &before["bounds"]), (&json!(3), &json!([1, 3])));
    assert_eq!((&before["last"]["metric"], &before["last"]["to"]), (&json!("queue_depth"), &json!(3)));
    swarm.wait_until("the reason to be told", || {
        let holds = swarm.json(["status"])["holds"].clone();
        let said = "waits for a place: 3 of 3 workers run (set by queue_depth: swarm scale)";
        holds.as_array().is_some_and(|holds| holds.iter().any(|hold| hold["why"] == said))
    });
    swarm.run(["why", "f"]).says("set by queue_depth: swarm scale");
    swarm.run(["status"]).says("Up to 3 workers at once, set by queue_depth: swarm scale");
    swarm.run(["events"]).says("up to 3 workers at once, instead of 2: queue_depth is ");
    signal(&up["pid"], Signal::KILL);
    swarm.wait_until("nobody to lead", || swarm.json(["status"])["coordinator"]["leader"].is_null());
    assert_eq!(node(&swarm)["last"], before["last"]);
    swarm.json(["up", "--merge", "--headless"]);
    let status = swarm.json(["status"]);
    assert_eq!((&status["scaled"]["workers"], &status["tickets"]["running"]), (&json!(3), &json!(3)));
    assert_conforms(&status, "status");
    let_go(&swarm, "wait");
    tickets.iter().for_each(|id| await_state(&swarm, id, "landed"));
    swarm.wait_until("the number to go down again", || node(&swarm)["workers"] == 1);
    assert_eq!(scaled(&swarm)[2..], [(json!(3), json!(2)), (json!(2), json!(1))]);
    assert_eq!(most_at_once(&swarm), 3);
    swarm.run(["down"]).success();
    let stats = swarm.json(["stats"]);
    assert_eq!(stats["runs"]["max_workers"], 3, "{stats:#}");
}

#[test]
fn a_number_set_by_hand_counts_at_once_and_stops_nobody() {
    let swarm = spans("max_workers: 1\n", &["a", "b", "c", "d"]);
    ["a", "b", "c", "d"].iter().for_each(|id| hold_back(&swarm, &format!("wait-{id}")));
    let mut run = Beside::start(&swarm, "run", &["run", "--all", "--headless"]);
    await_running(&swarm, 1);
    swarm.run(["scale", "3"]).expect_code(0).says("Up to 3 workers at once from now on.");
    swarm.wait_until("three to work", || most_at_once(&swarm) == 3);
    swarm.run(["scale", "1"]).success();
    let_go(&swarm, "wait-a");
    await_state(&swarm, "a", "review");
    let held = |ticket: &str, why: &str| {
        let holds = swarm.json(["status"])["holds"].clone();
        holds.as_array().is_some_and(|holds| holds.iter().any(|hold| hold["ticket"] == ticket && hold["why"] == why))
    };
    swarm.wait_until("the fourth to be held for the two that run on", || {
        held("d", "waits for a place: 2 of 1 workers run (set by hand: swarm scale)")
    });
    assert_eq!((states(&swarm)["b"].as_str(), states(&swarm)["c"].as_str()), ("running", "running"));
    ["b", "c", "d"].iter().for_each(|id| let_go(&swarm, &format!("wait-{id}")));
    assert_eq!(run.end(&swarm), 0, "{}", run.says(&swarm));
    assert_eq!(most_at_once(&swarm), 3);
    let log = fs::read_to_string(swarm.root().join("spans.log")).unwrap();
    assert_eq!(log.lines().count(), 8, "nobody was stopped and started again:\n{log}");
    assert!(run.says(&swarm).contains("up to 3 workers at once, instead of 1: set by hand"), "{}", run.says(&swarm));
    // The next run goes by it as well, until it is taken back.
    swarm.run(["scale", "2"]).success();
    swarm.run(["run", "--all"]).says("up to 2 workers at once (set by hand: swarm scale)");
    swarm.run(["scale", "reset"]).expect_code(0);
    assert_eq!(node(&swarm)["workers"], Value::Null);
    swarm.run(["run", "--all"]).says("up to 1 worker at once");
    assert!(starts(&swarm).is_empty());
}

#[test]
fn a_dry_run_tells_what_policies_would_have_done_with_a_run_that_is_over() {
    let swarm = spans("max_workers: 1\n", &["a", "b", "c"]);
    hold_back(&swarm, "wait");
    let mut run = Beside::start(&swarm, "run", &["run", "--all", "--headless"]);
    swarm.wait_until("two to wait for a second", || {
        run.begun.elapsed() > std::time::Duration::from_secs(2) && swarm.json(["status"])["tickets"]["running"] == 1
    });
    let_go(&swarm, "wait");
    assert_eq!(run.end(&swarm), 0, "{}", run.says(&swarm));
    swarm.run(["scale", "--dry-run"]).expect_code(0).says("There are no policies.");
    let set = ["scale", "set", "queue_depth", "--up", "1.5", "--periods", "2", "--period", "200ms", "--cooldown", "1h"];
    swarm.run(set.iter().chain(&["--max", "2"])).success();
    let view = swarm.json(["scale", "--dry-run"]);
    assert_conforms(&view, "scale");
    let actions = view["replay"]["actions"].as_array().unwrap();
    assert_eq!(actions.len(), 1, "{view:#}");
    assert_eq!(
        (&actions[0]["from"], &actions[0]["to"], &actions[0]["metric"]),
        (&json!(1), &json!(2), &json!("queue_depth"))
    );
    swarm.run(["scale", "--dry-run"]).expect_code(0).says("The policies would have made 1 change in 1 run");
    let later = swarm.json(["scale", "--dry-run", "--since", "2099-01-01"]);
    assert_eq!(later["replay"]["actions"], json!([]));
    assert_eq!(node(&swarm)["last"], Value::Null, "nothing was done");
    assert!(scaled(&swarm).is_empty());
}

#[test]
fn policies_are_set_paused_and_removed_and_impossible_ones_refused() {
    let swarm = spans("max_workers: 2\nscaling: [{metric: error_rate, down: 0.5}]\n", &["a"]);
    swarm.run(["scale"]).says("-1 above 50 %; 3 x 1m, then 5m of rest");
    swarm.run(["scale", "set", "queue_depth"]).expect_code(2).says("a policy needs one of the thresholds");
    swarm.run(["scale", "set", "queue_depth", "--up", "1", "--down", "2"]).expect_code(2).says("less than `up`");
    swarm.run(["scale", "set", "error_rate", "--max", "2"]).success();
    let apart = ["scale", "set", "queue_depth", "--up", "5", "--min", "3"];
    swarm.run(apart).expect_code(2).says("no number of workers is at least 3 and at most 2");
    let set = ["scale", "set", "queue_depth", "--up", "5", "--down", "1", "--max", "4", "--by", "2"];
    swarm.run(set).expect_code(0).says("Set the policy on queue_depth.");
    swarm.run(["scale", "set", "error_rate", "--max", "6"]).success();
    let now = node(&swarm);
    assert_eq!((&now["workers"], &now["bounds"]), (&json!(2), &json!([1, 4])));
    let names: Vec<_> =
        now["policies"].as_array().unwrap().iter().map(|policy| (&policy["metric"], &policy["text"])).collect();
    let depth = "+2 above 5.0, -2 below 1.0; 3 x 1m, then 5m of rest";
    let rate = "-1 above 50 %; 3 x 1m, then 5m of rest";
    assert_eq!(names, [(&json!("queue_depth"), &json!(depth)), (&json!("error_rate"), &json!(rate))]);
    swarm.run(["scale", "5"]).expect_code(2).says("the policies allow 1 to 4 workers at once, not 5");
    swarm.run(["scale", "4"]).success();
    assert!(node(&swarm)["policies"][0]["cools_until"].is_string(), "policies leave a person's number for a while");
    swarm.run(["scale", "pause", "queue_depth"]).success();
    assert_eq!((&node(&swarm)["workers"], &node(&swarm)["bounds"]), (&json!(4), &json!([1, 6])));
    swarm.run(["scale", "resume", "queue_depth"]).success();
    swarm.run(["scale", "remove", "queue_depth"]).success();
    swarm.run(["scale", "remove", "queue_depth"]).expect_code(5).says("looks at queue_depth");
    swarm.run(["scale", "remove", "error_rate"]).success();
    assert_eq!(node(&swarm)["policies"], json!([]), "a configured one is gone as well");
    swarm
        .run(["scale", "set", "queue_depth", "--up", "1", "--scope", "swarm"])
        .expect_code(2)
        .says("no swarm of nodes");
    swarm.write(".swarm/config.yaml", "scaling: [{metric: queue_depth, up: 1, down: 2}]\n");
    swarm.run(["scale"]).expect_code(2).says("`scaling[0].down`: it must be less than `up`");
}
