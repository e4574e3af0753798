//! Topologies of several nodes: one assigns to all, and its end is another one's beginning or everybody's wait.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::support::nodes::Nodes;
use crate::support::swarm::TestSwarm;

/// An agent that waits as long as a file of its ticket is there, and writes another one.
const SCRIPT: &str = r#"while [ -e "ROOT/wait.$SWARM_TICKET" ]; do sleep 0.05; done
echo done > "$SWARM_TICKET.txt""#;

/// Two clones by a topology whose tickets wait, each with its label.
fn nodes(topology: &str, tickets: &[(&str, &str)]) -> Nodes {
    let nodes = Nodes::new(SCRIPT, &format!("topology: {topology}\n"), &[]);
    for (id, label) in tickets {
        let text = format!("---\nagent: shell\nlabels: [{label}]\n---\nDo {id}.\n");
        nodes.swarm.write(&format!(".swarm/tickets/{id}.md"), &text);
        nodes.swarm.write_at(&nodes.place(&format!("wait.{id}")), "");
    }
    nodes.swarm.git(["add", "--all"]).success();
    nodes.swarm.git(["commit", "--quiet", "-m", "Tickets"]).success();
    nodes
}

/// Makes both clones nodes of one place each; `a` is the one that assigns.
fn join(nodes: &Nodes) {
    nodes.join_first(&["--max-workers", "1"]);
    nodes.swarm.wait_until("the first node to assign", || role(nodes, "a") == "leader");
    nodes.join_second(&["--max-workers", "1"]);
    nodes.swarm.wait_until("the second node", || nodes.state("b") == "active");
    // The first one looks at the others every second, and nobody else can tell that it has.
    let since = Instant::now();
    nodes.swarm.wait_until("the first node to see it", || since.elapsed() > Duration::from_secs(4));
}

/// The role of a node, as the second clone sees it where it is there.
fn role(nodes: &Nodes, node: &str) -> String {
    let second = nodes.second();
    let clone = if second.exists() { second } else { nodes.first() };
    let view = nodes.json(&clone, &["topology", "show"]);
    let member = view["members"].as_array().unwrap().iter().find(|member| member["id"] == node).cloned();
    member.unwrap_or_default()["role"].as_str().unwrap_or_default().to_owned()
}

/// The tickets that are worked on, each with its node.
fn running(nodes: &Nodes, clone: &Path) -> Vec<(String, String)> {
    let view = nodes.json(clone, &["topology", "show"]);
    let workers = view["members"].as_array().unwrap().iter().filter(|member| member["what"] == "worker");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found: Vec<_> = workers.map(|member| (text(&member["tickets"][0]), text(&member["parent"]))).collect();
    found.sort();
    found
}

/// Why a ticket waits, as a clone sees it.
fn why(nodes: &Nodes, clone: &Path, ticket: &str) -> String {
    nodes.swarm.run_in(clone, ["why", ticket]).stdout
}

fn let_go(swarm: &TestSwarm, ticket: &str) {
    std::fs::remove_file(swarm.root().join(format!("wait.{ticket}"))).unwrap();
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(one, other)| ((*one).to_owned(), (*other).to_owned())).collect()
}

#[test]
fn in_a_star_one_node_assigns_to_all_and_another_takes_that_over_from_one_that_is_gone() {
    let nodes = nodes("star", &[("t1", "x"), ("t2", "x"), ("t3", "x")]);
    join(&nodes);
    assert_eq!(role(&nodes, "b"), "coordinator");
    nodes.swarm.run(["queue", "add", "t1", "t2", "t3"]).success();
    nodes.swarm.wait_until("a ticket at each node", || running(&nodes, &nodes.first()).len() == 2);
    assert_eq!(running(&nodes, &nodes.first()), pairs(&[("t1", "a"), ("t2", "b")]));
    let (first, second) = (nodes.first(), nodes.second());
    nodes.swarm.wait_until("the third to wait at both", || {
        why(&nodes, &first, "t3").contains("waits for a node that has room")
            && why(&nodes, &second, "t3").contains("waits for node `a` to assign it")
    });
    kill_process(nodes.coordinator(&first), Signal::KILL).unwrap();
    nodes.swarm.wait_until("the other node to assign", || role(&nodes, "b") == "leader");
    let_go(&nodes.swarm, "t2");
    nodes
        .swarm
        .wait_until("the third ticket there", || running(&nodes, &second).contains(&("t3".to_owned(), "b".to_owned())));
    let events = nodes.swarm.run_in(&second, ["events"]).success();
    assert!(events.contains("is assigner now"), "{events}");
    for ticket in ["t1", "t3"] {
        let_go(&nodes.swarm, ticket);
    }
    nodes.await_landed(&second, &["t2", "t3"]);
    nodes.down();
}

#[test]
fn without_failover_nobody_assigns_until_the_node_that_does_is_back() {
    let nodes = nodes("{kind: star, failover_coordinator: false}", &[("t1", "x")]);
    join(&nodes);
    let (first, second) = (nodes.first(), nodes.second());
    kill_process(nodes.coordinator(&first), Signal::KILL).unwrap();
    nodes.swarm.run_in(&second, ["queue", "add", "t1"]).success();
    nodes.swarm.wait_until("the ticket to be held", || {
        why(&nodes, &second, "t1").contains("waits for node `a`, which alone assigns tickets and is gone")
    });
    assert_eq!((running(&nodes, &second), role(&nodes, "b")), (Vec::new(), "coordinator".to_owned()));
    nodes.swarm.run(["up", "--headless", "--merge", "--yes"]).success();
    let_go(&nodes.swarm, "t1");
    nodes.await_landed(&second, &["t1"]);
    nodes.down();
}

#[test]
fn in_a_hierarchy_each_node_owns_a_part_of_the_tickets_and_takes_nothing_of_another() {
    let nodes = nodes("hierarchical", &[("t1", "ui"), ("t2", "core"), ("t3", "ui")]);
    join(&nodes);
    nodes.swarm.run(["queue", "add", "t1", "t2", "t3"]).success();
    nodes.swarm.wait_until("a ticket at each node", || running(&nodes, &nodes.first()).len() == 2);
    assert_eq!(running(&nodes, &nodes.first()), pairs(&[("t1", "a"), ("t2", "b")]));
    let_go(&nodes.swarm, "t2");
    nodes.await_landed(&nodes.first(), &["t2"]);
    // The second node has room, and leaves what is the first one's alone.
    nodes.swarm.wait_until("it to say so", || why(&nodes, &nodes.second(), "t3").contains("is assigned to node `a`"));
    assert_eq!(running(&nodes, &nodes.first()), pairs(&[("t1", "a")]));
    let view = nodes.json(&nodes.second(), &["topology", "show"]);
    let a = view["members"].as_array().unwrap().iter().find(|member| member["id"] == "a").unwrap();
    assert_eq!(a["tickets"], serde_json::json!(["t3"]));
    // In a mesh it takes it.
    nodes.swarm.run(["topology", "set", "mesh"]).success();
    nodes.swarm.wait_until("the second node to take it", || {
        running(&nodes, &nodes.first()).contains(&("t3".to_owned(), "b".to_owned()))
    });
    for ticket in ["t1", "t3"] {
        let_go(&nodes.swarm, ticket);
    }
    nodes.await_landed(&nodes.first(), &["t1", "t3"]);
    nodes.down();
}

#[test]
fn in_a_mesh_with_targeted_routing_a_ticket_goes_to_the_node_that_has_less_to_do() {
    let nodes = nodes("{kind: mesh, routing: targeted}", &[("t1", "x"), ("t2", "x")]);
    let (swarm, first) = (&nodes.swarm, nodes.first());
    nodes.join_first(&["--max-workers", "2"]);
    swarm.run(["queue", "add", "t1"]).success();
    swarm.wait_until("the first ticket to run", || running(&nodes, &first) == pairs(&[("t1", "a")]));
    nodes.join_second(&["--max-workers", "2"]);
    let events = || swarm.run(["events"]).success();
    swarm.wait_until("the first node to know the second", || events().contains("b joined"));
    // The first hears of it at once, has a place, and leaves it alone.
    swarm.run(["queue", "add", "t2"]).success();
    swarm.wait_until("the second ticket to run", || running(&nodes, &first).len() == 2);
    assert_eq!(running(&nodes, &first), pairs(&[("t1", "a"), ("t2", "b")]));
    for ticket in ["t1", "t2"] {
        let_go(swarm, ticket);
    }
    nodes.await_landed(&first, &["t1", "t2"]);
    nodes.down();
}

/// The time between two words of the first node about itself, on average.
fn silence(nodes: &Nodes) -> Duration {
    let (mut age, mut words, mut first) = (0, 0, Instant::now());
    nodes.swarm.wait_until("five words of the node", || {
        let view = nodes.json(&nodes.first(), &["node", "list"]);
        let before = std::mem::replace(&mut age, view["nodes"][0]["heard_ms"].as_u64().unwrap());
        if age < before {
            words += 1;
            first = if words == 1 { Instant::now() } else { first };
        }
        words == 5
    });
    first.elapsed() / 4
}

#[test]
fn in_a_mesh_a_node_tells_about_itself_as_often_as_it_is_to() {
    let nodes = Nodes::new(SCRIPT, "topology: {kind: mesh, gossip_interval_ms: 2000}\n", &[]);
    nodes.join_first(&[]);
    assert!(silence(&nodes) > Duration::from_millis(1_600));
    nodes.swarm.run(["topology", "set", "mesh", "gossip_interval_ms=1000"]).success();
    nodes.swarm.wait_until("the change to be seen", || silence(&nodes) < Duration::from_millis(1_500));
    nodes.swarm.run(["down"]).success();
}

/// An agent that notes its turn, waits as long as a file of its own is there, and writes down who it is.
const TURN: &str = r#"me=$SWARM_AGENT_NAME
echo "$me" >> "ROOT/turns"
while [ -e "ROOT/wait.$me" ]; do sleep 0.05; done
echo "$me" >> turns.txt"#;

/// A node in a ring of three agents, of which the second waits; `t` goes round it, and the second has its turn.
fn ring_of_one_node() -> Nodes {
    let nodes = Nodes::new(TURN, "topology: {kind: ring, agents: [one, two, three], skip_unhealthy: false}\n", &[]);
    for agent in ["one", "two", "three"] {
        nodes.swarm.write_shell_agent(agent, &TURN.replace("ROOT", &nodes.swarm.root().display().to_string()));
    }
    nodes.swarm.write(".swarm/tickets/t.md", "---\ntitle: Go round\n---\nDo it.\n");
    nodes.swarm.git(["add", "--all"]).success();
    nodes.swarm.git(["commit", "--quiet", "-m", "A ring"]).success();
    nodes.swarm.write_at(&nodes.place("wait.two"), "");
    nodes.join_first(&[]);
    nodes.swarm.run(["queue", "add", "t"]).success();
    nodes.swarm.wait_until("the second to have its turn", || turns(&nodes) == "one\ntwo\n");
    nodes
}

fn turns(nodes: &Nodes) -> String {
    std::fs::read_to_string(nodes.place("turns")).unwrap_or_default()
}

#[test]
fn a_ticket_goes_on_round_its_ring_at_another_node_when_its_own_is_killed_in_a_turn() {
    let nodes = ring_of_one_node();
    let said = || nodes.swarm.run(["why", "t"]).stdout.contains("was handed over");
    nodes.swarm.wait_until("its work to be handed over", said);
    nodes.kill_all(&nodes.first());
    nodes.join_second(&[]);
    nodes.swarm.wait_until("the second to begin again there", || turns(&nodes) == "one\ntwo\ntwo\n");
    std::fs::remove_file(nodes.place("wait.two")).unwrap();
    nodes.await_landed(&nodes.second(), &["t"]);
    assert_eq!(turns(&nodes), "one\ntwo\ntwo\nthree\n", "nobody has a turn twice but who was killed in it");
    assert_eq!(nodes.swarm.git_in(&nodes.second(), ["show", "main:turns.txt"]).success(), "one\ntwo\nthree\n");
    nodes.down();
}

#[test]
fn the_next_agent_of_a_ring_has_its_turn_at_another_node_when_its_own_is_killed_between_two() {
    let nodes = ring_of_one_node();
    // Nobody passes the token on any more.
    kill_process(nodes.coordinator(&nodes.first()), Signal::KILL).unwrap();
    std::fs::remove_file(nodes.place("wait.two")).unwrap();
    nodes.swarm.wait_until("its turn to end", || nodes.states(&nodes.first())["t"] == "review");
    // But what the second made is handed over by its supervisor.
    let said = || why(&nodes, &nodes.first(), "t").contains("was handed over as finished");
    nodes.swarm.wait_until("its work to be handed over", said);
    nodes.join_second(&[]);
    nodes.await_landed(&nodes.second(), &["t"]);
    assert_eq!(turns(&nodes), "one\ntwo\nthree\n");
    nodes.down();
}

#[test]
fn a_finished_turn_that_was_handed_over_is_followed_by_the_next_one_at_another_node() {
    let nodes = ring_of_one_node();
    // The third cannot begin on the first node.
    std::fs::remove_file(nodes.first().join(".swarm/agents/three.md")).unwrap();
    std::fs::remove_file(nodes.place("wait.two")).unwrap();
    let (first, second) = (nodes.first(), nodes.second());
    nodes.swarm.wait_until("the third to be waited for", || why(&nodes, &first, "t").contains("to mend `three`"));
    let head = nodes.swarm.git(["rev-parse", "swarm/t"]).success();
    let is_said = || {
        let text = why(&nodes, &first, "t");
        let told = text.split_once(") was handed over as finished").and_then(|(before, _)| before.rsplit_once('('));
        // A snapshot builds on the head.
        told.is_some_and(|(_, commit)| nodes.swarm.git(["merge-base", "--is-ancestor", head.trim(), commit]).code == 0)
    };
    nodes.swarm.wait_until("the work of the second to be handed over", is_said);
    kill_process(nodes.coordinator(&first), Signal::KILL).unwrap();
    nodes.join_second(&[]);
    nodes.await_landed(&second, &["t"]);
    assert_eq!(turns(&nodes), "one\ntwo\nthree\n", "the second has no other turn");
    assert_eq!(nodes.swarm.git_in(&second, ["show", "main:turns.txt"]).success(), "one\ntwo\nthree\n");
    nodes.down();
}
