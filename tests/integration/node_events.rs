//! What happens at all nodes of a queue, as one stream at each of them.

use std::collections::BTreeSet;
use std::fs::File;
use std::process::Child;

use serde_json::Value;

use crate::support::nodes::Nodes;
use crate::support::schema::assert_conforms;

/// An agent that writes a file.
const SCRIPT: &str = "echo done > \"$SWARM_TICKET.txt\"";

/// The events that a call prints.
fn events(nodes: &Nodes, more: &[&str]) -> Vec<Value> {
    let args = ["events", "--all-nodes", "--json"].iter().chain(more);
    lines(&nodes.swarm.run_in(&nodes.second(), args).success())
}

/// The events of a text, one a line.
fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The tickets that landed, as far as nodes told that.
fn landed(events: &[Value]) -> BTreeSet<&str> {
    let landed = events.iter().filter(|event| event["event"] == "landed");
    landed.map(|event| event["ticket"].as_str().unwrap()).collect()
}

/// A program that is ended with the test.
struct Follower(Child);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn the_events_of_all_nodes_are_one_stream_at_each_of_them() {
    let nodes = Nodes::new(SCRIPT, "", &["one", "two", "three"]);
    let swarm = &nodes.swarm;
    let refused = swarm.run(["events", "--all-nodes"]).expect_code(2);
    refused.says("the queue is in this repository, so there are no other nodes");
    nodes.join_first(&[]);
    nodes.join_second(&[]);
    swarm.run(["queue", "add", "one"]).success();
    let mut all = Vec::new();
    let tellers = |all: &[Value]| all.iter().filter_map(|event| event["node"].as_str().map(str::to_owned)).collect();
    swarm.wait_until("everything to be told", || {
        all = events(&nodes, &[]);
        let tellers: BTreeSet<String> = tellers(&all);
        tellers == BTreeSet::from(["a".to_owned(), "b".to_owned()]) && landed(&all).contains("one")
    });
    all.iter().for_each(|event| assert_conforms(event, "events"));
    // What is asked for, and from where.
    let half = all.len() / 2;
    let rest = events(&nodes, &["--since", &all[half - 1]["seq"].to_string()]);
    assert_eq!(rest[..all.len() - half], all[half..]);
    assert_eq!(events(&nodes, &["--since", "1h"])[..all.len()], all);
    for (flag, value) in [("--kind", "swarm"), ("--kind", "worker"), ("--ticket", "one")] {
        let some = events(&nodes, &[flag, value]);
        let is_asked_for = |event: &Value| event[&flag[2..]] == value;
        assert!(!some.is_empty() && some.iter().all(is_asked_for), "{flag} {value}: {some:?}");
    }
    assert!(events(&nodes, &["--ticket", "other"]).is_empty());
    swarm.run(["events", "--all-nodes", "--kind", "queue"]).expect_code(2).says("swarm events --kind queue has those");
    swarm.run(["events", "--all-nodes", "--since", "100000"]).expect_code(2).says("there is no event 100000 yet");
    let said = swarm.run(["events", "--all-nodes", "--ticket", "one"]).success();
    assert!(said.lines().any(|line| line.contains(" one ") && line.contains("landed on main")), "{said}");
    // Somebody who follows misses nothing and sees nothing twice, also when the server was away.
    let path = nodes.place("followed");
    let mut follower = swarm.command(env!("CARGO_BIN_EXE_swarm"), &nodes.first());
    follower.args(["events", "--all-nodes", "--follow", "--json", "--since", "0"]);
    let _follower = Follower(follower.stdout(File::create(&path).unwrap()).spawn().unwrap());
    let followed = || lines(std::fs::read_to_string(&path).unwrap().trim_end_matches(|letter| letter != '\n'));
    swarm.wait_until("what was there", || followed().len() >= all.len());
    swarm.run_in(&nodes.second(), ["queue", "add", "two"]).success();
    swarm.wait_until("what comes", || landed(&followed()).contains("two"));
    let nodes = nodes.without_server(|nodes| {
        let is_away = |event: &Value| event["event"] == "away";
        nodes.swarm.wait_until("the news that the server is away", || followed().iter().any(is_away));
        nodes.swarm.run(["events", "--all-nodes"]).expect_code(1);
    });
    let swarm = &nodes.swarm;
    swarm.wait_until("the server", || swarm.run(["queue", "add", "three"]).code == 0);
    nodes.await_landed(&nodes.first(), &["one", "two", "three"]);
    swarm.wait_until("what comes after it", || landed(&followed()).contains("three"));
    nodes.down();
    let told =
        |events: Vec<Value>| -> Vec<Value> { events.into_iter().filter(|event| event["kind"] != "stream").collect() };
    let all = told(events(&nodes, &[]));
    swarm.wait_until("the end", || told(followed()).len() >= all.len());
    assert_eq!(told(followed())[..all.len()], all);
}
