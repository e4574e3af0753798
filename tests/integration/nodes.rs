//! Several clones on one queue: each works and lands by itself, and all of them end at the same commit.

use std::io::Write;
use std::path::Path;

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::readme::blocks;
use crate::support::nodes::{Nodes, SCRIPT, WAITS};
use crate::support::schema::assert_conforms;
use crate::support::swarm::SWARM;

#[test]
fn two_clones_work_through_one_backlog_and_end_at_the_same_commit() {
    let tickets = ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9"];
    let nodes = Nodes::new(SCRIPT, "max_workers: 2\n", &tickets);
    nodes.join_first(&[]);
    nodes.join_second(&[]);
    let list = nodes.json(&nodes.first(), &["node", "list"]);
    assert_conforms(&list, "nodes");
    let names: Vec<_> = list["nodes"].as_array().unwrap().iter().map(|node| (&node["name"], &node["state"])).collect();
    assert_eq!(names, [(&"a".into(), &"active".into()), (&"b".into(), &"active".into())]);
    nodes.swarm.run(["queue", "add", "--all"]).success();
    nodes.await_landed(&nodes.second(), &tickets);
    nodes.assert_landed_once(&tickets);
    let started = std::fs::read_to_string(nodes.place("started.log")).unwrap();
    assert_eq!(started.lines().count(), tickets.len(), "no ticket was worked on twice:\n{started}");
    let places = std::fs::read_to_string(nodes.place("places.log")).unwrap();
    let at_second = places.lines().filter(|line| line.contains("/b/")).count();
    assert!(at_second > 0 && at_second < tickets.len(), "both worked:\n{places}");
    nodes.down();
}

#[test]
fn two_machines_work_on_one_queue_after_the_five_commands_of_the_readme() {
    let tickets = ["t0", "t1", "t2", "t3", "t4", "t5"];
    let nodes = Nodes::new(SCRIPT, "max_workers: 2\n", &tickets);
    let swarm = &nodes.swarm;
    std::fs::create_dir_all(nodes.place("b")).unwrap();
    let block = blocks("console").into_iter().find(|block| block.contains("node join")).unwrap();
    let (server, commands) = block.split_once('\n').unwrap();
    assert!(server.starts_with("box$ nats-server -js -sd "), "the test's own server is in its place: {server}");
    let first = nodes.first().display().to_string();
    let mut shown = String::new();
    for line in commands.lines() {
        let (machine, command) = line.split_once("$ ").unwrap();
        let command = command.split(" #").next().unwrap().trim();
        let command = command.replace("nats://box:4222", nodes.url()).replace("box:app", &first);
        let folder = if machine == "box" { nodes.first() } else { nodes.place("b") };
        let mut words = command.split_whitespace();
        assert_eq!(words.next(), Some("swarm"), "{line}");
        shown = swarm.run_in(&folder, words).success();
    }
    assert_eq!(commands.lines().count(), 4);
    assert!(shown.contains("box") && shown.contains("mill"), "{shown}");
    nodes.await_landed(&nodes.second(), &tickets);
    nodes.assert_landed_once(&tickets);
    nodes.down();
}

#[test]
fn nodes_are_named_drained_and_removed() {
    let nodes = Nodes::new(SCRIPT, "", &["one", "two"]);
    let swarm = &nodes.swarm;
    swarm.run(["node", "list"]).expect_code(2).says("hint: swarm node join nats://HOST:PORT");
    nodes.join_first(&["--capabilities", "gpu,big", "--max-workers", "2"]);
    std::fs::create_dir_all(nodes.place("b")).unwrap();
    let first = nodes.first().display().to_string();
    let taken = ["node", "join", nodes.url(), "--name", "a", "--headless", "--clone", &first];
    swarm.run_in(&nodes.place("b"), taken).expect_code(1).says("another clone is the node `a` at this moment");
    assert!(!nodes.second().join(".git/swarm/config.yaml").exists(), "nothing is left of a join that failed");
    let joined = swarm.run_in(&nodes.second(), ["node", "join", nodes.url(), "--name", "b", "--headless"]);
    joined.expect_code(0).says("Joined as node `b`.");
    let list = nodes.json(&nodes.first(), &["node", "list"]);
    let a = &list["nodes"][0];
    assert_eq!((&a["is_this"], &a["max_workers"]), (&true.into(), &2.into()));
    assert_eq!(a["capabilities"], serde_json::json!(["gpu", "big"]));
    let joined_at = a["joined_at"].clone();
    // Who takes nothing new leaves it to others.
    swarm.run(["node", "drain", "b"]).expect_code(0).says("Node `b` takes nothing new");
    let state = |name: &str| nodes.state(name);
    swarm.wait_until("the node to say that it is drained", || state("b") == "drained");
    swarm.run(["queue", "add", "one"]).success();
    nodes.await_landed(&nodes.first(), &["one"]);
    assert!(!std::fs::read_to_string(nodes.place("places.log")).unwrap().contains("/b/"));
    let refused = swarm.run(["node", "remove", "b"]).expect_code(1);
    refused.says("node `b` is at work: only its own clone can take it off");
    swarm.run(["node", "drain", "b", "--undo"]).expect_code(0).says("Node `b` takes tickets again");
    swarm.wait_until("the node to be active again", || state("b") == "active");
    assert_eq!(nodes.json(&nodes.first(), &["node", "list"])["nodes"][0]["joined_at"], joined_at);
    let removed = nodes.json(&nodes.second(), &["node", "remove"]);
    assert_conforms(&removed, "node");
    assert_eq!((&removed["node"], &removed["action"]), (&"b".into(), &"removed".into()));
    assert_eq!(state("b"), Value::Null);
    // One that was killed is gone after a while, and anybody can take it off.
    kill_process(nodes.coordinator(&nodes.first()), Signal::KILL).unwrap();
    let state_seen_by_b = || nodes.json(&nodes.second(), &["node", "list"])["nodes"][0]["state"].clone();
    swarm.wait_until("the node to be gone", || state_seen_by_b() == "gone");
    swarm.run_in(&nodes.second(), ["node", "remove", "a"]).success();
    assert_eq!(nodes.json(&nodes.second(), &["node", "list"])["nodes"], Value::Array(Vec::new()));
    nodes.down();
}

#[test]
fn a_ticket_that_needs_what_one_node_offers_waits_for_that_node() {
    let nodes = Nodes::new(SCRIPT, "agent: shell\n", &["plain"]);
    nodes.swarm.write(".swarm/tickets/big.md", "---\ncapabilities: [gpu]\n---\nDo big.\n");
    nodes.swarm.git(["add", "--all"]).success();
    nodes.swarm.git(["commit", "--quiet", "-m", "Another"]).success();
    nodes.join_first(&[]);
    nodes.join_second(&["--capabilities", "gpu"]);
    nodes.swarm.run(["queue", "add", "--all"]).success();
    nodes.await_landed(&nodes.first(), &["plain", "big"]);
    nodes.assert_landed_once(&["plain", "big"]);
    assert!(nodes.place("b/project").join(".git/swarm/workers/big").is_dir());
    assert!(!nodes.first().join(".git/swarm/workers/big").exists());
    nodes.down();
}

#[test]
fn a_target_that_went_its_own_way_is_told_and_left_alone() {
    let nodes = Nodes::new(SCRIPT, "", &["one", "two"]);
    let swarm = &nodes.swarm;
    nodes.join_first(&[]);
    nodes.join_second(&[]);
    nodes.drain("a");
    let own = ["commit", "--quiet", "--allow-empty", "-m", "Of a person"];
    swarm.git(own).success();
    let head = nodes.head(&nodes.first());
    swarm.run(["queue", "add", "one"]).success();
    nodes.await_landed(&nodes.second(), &["one"]);
    let log = || std::fs::read_to_string(nodes.first().join(".git/swarm/coordinator.log")).unwrap_or_default();
    swarm.wait_until("the coordinator to say so", || log().contains("have each commits that the other has not"));
    assert_eq!(nodes.head(&nodes.first()), head);
    // A person puts it right in one step, and what comes next has both.
    swarm.git(["rebase", "--quiet", "refs/swarm/tip/main"]).success();
    swarm.run(["node", "drain", "a", "--undo"]).success();
    nodes.drain("b");
    swarm.run(["queue", "add", "two"]).success();
    nodes.await_landed(&nodes.first(), &["two"]);
    nodes.assert_landed_once(&["one", "two"]);
    nodes.down();
}

#[test]
fn commits_that_a_person_took_out_of_a_target_come_back_by_a_person_only() {
    let nodes = Nodes::new(SCRIPT, "", &["one", "two"]);
    let swarm = &nodes.swarm;
    nodes.join_first(&[]);
    nodes.join_second(&[]);
    nodes.drain("a");
    let before = nodes.head(&nodes.first());
    swarm.run(["queue", "add", "one"]).success();
    nodes.await_landed(&nodes.second(), &["one"]);
    nodes.assert_landed_once(&["one"]);
    let followed = || swarm.git(["rev-parse", "refs/swarm/followed/main"]);
    swarm.wait_until("the first to note that it followed", || followed().stdout == nodes.head(&nodes.first()));
    swarm.git(["reset", "--quiet", "--hard", before.trim()]).success();
    swarm.run(["queue", "add", "two"]).success();
    nodes.await_landed(&nodes.second(), &["two"]);
    let log = || std::fs::read_to_string(nodes.first().join(".git/swarm/coordinator.log")).unwrap_or_default();
    swarm.wait_until("the coordinator to say so", || log().contains("and somebody took them out"));
    assert_eq!(nodes.head(&nodes.first()), before);
    swarm.git(["merge", "--quiet", "--ff-only", "refs/swarm/tip/main"]).success();
    nodes.assert_landed_once(&["one", "two"]);
    nodes.down();
}

#[test]
fn a_node_that_joins_late_follows_all_that_landed_and_waits_for_files_of_a_person() {
    let nodes = Nodes::new(SCRIPT, "", &["one", "two", "three"]);
    let swarm = &nodes.swarm;
    std::fs::create_dir_all(nodes.place("b")).unwrap();
    swarm.git(["clone", "--quiet", ".", nodes.second().to_str().unwrap()]).success();
    nodes.join_first(&[]);
    for id in ["one", "two", "three"] {
        swarm.run(["queue", "add", id]).success();
        nodes.await_landed(&nodes.first(), &[id]);
    }
    let before = nodes.head(&nodes.second());
    swarm.write_at(&nodes.second().join("two.txt"), "of a person\n");
    let args = ["node", "join", nodes.url(), "--name", "b", "--headless", "--merge"];
    swarm.run_in(&nodes.second(), args).success();
    let log = || std::fs::read_to_string(nodes.second().join(".git/swarm/coordinator.log")).unwrap_or_default();
    swarm.wait_until("the coordinator to say so", || log().contains("cannot follow what other nodes landed"));
    assert_eq!(nodes.head(&nodes.second()), before);
    std::fs::remove_file(nodes.second().join("two.txt")).unwrap();
    nodes.assert_landed_once(&["one", "two", "three"]);
    nodes.down();
}

#[test]
fn a_node_can_join_when_more_has_landed_than_is_handed_over_piece_by_piece() {
    // More landings than bundles that lead to a tip, of work that began at different ones of them.
    let tickets: Vec<_> = (0..40).map(|number| format!("t{number:02}")).collect();
    let tickets: Vec<_> = tickets.iter().map(String::as_str).collect();
    let nodes = Nodes::new("echo \"$SWARM_TICKET\" > \"$SWARM_TICKET.txt\"", "max_workers: 3\n", &tickets);
    let swarm = &nodes.swarm;
    swarm.write(
        ".swarm/config.yaml",
        &format!("{}gates: []\n", swarm.read(".swarm/config.yaml").replace("auto}", "auto, batch: 1}")),
    );
    swarm.git(["commit", "--quiet", "-am", "One at a time"]).success();
    std::fs::create_dir_all(nodes.place("b")).unwrap();
    swarm.git(["clone", "--quiet", ".", nodes.second().to_str().unwrap()]).success();
    nodes.join_first(&[]);
    swarm.run(["queue", "add", "--all"]).success();
    nodes.await_landed(&nodes.first(), &tickets);
    let args = ["node", "join", nodes.url(), "--name", "b", "--headless", "--merge"];
    swarm.run_in(&nodes.second(), args).success();
    nodes.assert_landed_once(&tickets);
    nodes.down();
}

#[test]
fn commits_go_through_a_remote_where_that_is_configured() {
    let nodes = Nodes::new(SCRIPT, "node: {remote: origin}\n", &["one", "two", "three", "four"]);
    let swarm = &nodes.swarm;
    let bare = nodes.place("origin.git");
    swarm.git(["clone", "--quiet", "--bare", ".", bare.to_str().unwrap()]).success();
    swarm.git(["remote", "add", "origin", bare.to_str().unwrap()]).success();
    let published = swarm.git_in(&bare, ["rev-parse", "main"]).success();
    std::fs::create_dir_all(nodes.place("b")).unwrap();
    swarm.git(["clone", "--quiet", bare.to_str().unwrap(), nodes.second().to_str().unwrap()]).success();
    nodes.join_first(&[]);
    let args = ["node", "join", nodes.url(), "--name", "b", "--headless", "--merge"];
    swarm.run_in(&nodes.second(), args).success();
    swarm.run(["queue", "add", "--all"]).success();
    nodes.await_landed(&nodes.second(), &["one", "two", "three", "four"]);
    nodes.assert_landed_once(&["one", "two", "three", "four"]);
    let references = swarm.git_in(&bare, ["for-each-ref", "--format=%(refname)"]).success();
    assert!(references.contains("refs/swarm/tips/"), "{references}");
    let is_ours = |name: &str| name == "refs/heads/main" || name.starts_with("refs/swarm/");
    assert!(references.lines().all(is_ours), "{references}");
    assert_eq!(swarm.git_in(&bare, ["rev-parse", "main"]).success(), published);
    nodes.down();
}

#[test]
fn nodes_go_on_when_their_server_is_restarted() {
    let tickets = ["t0", "t1", "t2", "t3", "t4", "t5"];
    let nodes = Nodes::new(SCRIPT, "max_workers: 2\n", &tickets);
    nodes.join_first(&[]);
    nodes.join_second(&[]);
    nodes.swarm.run(["queue", "add", "--all"]).success();
    let log = nodes.place("started.log");
    let started = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
    nodes.swarm.wait_until("work to begin", || started() >= 2);
    let nodes = nodes.without_server(|_| ());
    nodes.await_landed(&nodes.first(), &tickets);
    nodes.assert_landed_once(&tickets);
    assert_eq!(started(), tickets.len(), "no ticket was worked on twice");
    nodes.down();
}

/// Waits for a file to go, and writes another one.
const HELD: &str = r#"
while [ -e "ROOT/wait" ]; do sleep 0.05; done
echo "$SWARM_TICKET" > "$SWARM_TICKET.txt"
"#;

#[test]
fn a_node_whose_clock_differs_ends_no_lease_of_another() {
    let nodes = Nodes::new(WAITS, "", &["one", "ahead", "behind"]);
    let swarm = &nodes.swarm;
    let (clock, library) = (nodes.place("clock"), nodes.place("clock.so"));
    swarm.write_at(&nodes.place("clock.c"), include_str!("chaos/runs/clock.c"));
    let define = format!("-DCLOCK_FILE=\"{}\"", clock.display());
    let mut cc = swarm.command("cc", swarm.root());
    cc.args(["-O1", "-shared", "-fPIC", &define, "-o"]).arg(&library).arg(nodes.place("clock.c"));
    assert!(cc.status().unwrap().success(), "{cc:?}");
    swarm.write_at(&nodes.place("wait.one"), "");
    nodes.join_first(&[]);
    swarm.run(["queue", "add", "one"]).success();
    nodes.join_second(&[]);
    swarm.run_in(&nodes.second(), ["down"]).success();
    let states = || nodes.states(&nodes.first());
    swarm.wait_until("the first node to work", || states()["one"] == "running");
    for (ticket, off) in [("ahead", 3600), ("behind", -3600_i64)] {
        let shift = (off * 1_000_000_000).to_ne_bytes();
        std::fs::File::create(&clock).and_then(|mut file| file.write_all(&shift)).unwrap();
        swarm.run(["queue", "add", ticket]).success();
        let mut run = swarm.command(SWARM, &nodes.second());
        run.args(["run", ticket, "--headless", "--merge", "--yes", "--timeout", "60s"]).env("LD_PRELOAD", &library);
        let output = run.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!((&*states()["one"], &*states()[ticket]), ("running", "landed"));
    }
    std::fs::remove_file(nodes.place("wait.one")).unwrap();
    nodes.await_landed(&nodes.first(), &["one"]);
    let events = swarm.run_in(&nodes.second(), ["events", "--json"]).success();
    assert!(!events.contains(r#""to":"lost""#), "{events}");
    assert_eq!(std::fs::read_to_string(nodes.place("started.log")).unwrap(), "one\nahead\nbehind\n");
    swarm.run(["down"]).success();
}

#[test]
fn one_number_for_all_nodes_is_divided_over_those_that_are_there() {
    let tickets = ["t0", "t1", "t2", "t3", "t4", "t5"];
    let nodes = Nodes::new(HELD, "max_workers: 2\n", &tickets);
    nodes.swarm.write_at(&nodes.place("wait"), "");
    nodes.join_first(&[]);
    nodes.join_second(&[]);
    let swarm = |clone: &Path| {
        let view = nodes.json(clone, &["scale"]);
        assert_conforms(&view, "scale");
        view["scopes"].as_array().unwrap().iter().find(|scope| scope["scope"] == "swarm").cloned().unwrap()
    };
    let running = |clone: &Path| nodes.json(clone, &["status"])["workers"].as_array().unwrap().len();
    let both = || (running(&nodes.first()), running(&nodes.second()));
    let shares = || (swarm(&nodes.first())["share"].clone(), swarm(&nodes.second())["share"].clone());
    nodes.swarm.run(["scale", "2", "--scope", "swarm"]).expect_code(0).says("Up to 2 workers at once in the swarm");
    nodes.swarm.wait_until("each to have one", || shares() == (1.into(), 1.into()));
    nodes.swarm.wait_until("each to say so", || {
        let list = nodes.json(&nodes.first(), &["node", "list"]);
        list["nodes"].as_array().unwrap().iter().all(|node| node["max_workers"] == 1)
    });
    // Each goes by its share at its next look.
    for clone in [nodes.first(), nodes.second()] {
        nodes.swarm.wait_until("the share to be noted", || {
            let events = nodes.swarm.run_in(&clone, ["events", "--json"]).stdout;
            events.contains(r#""event":"scaled""#) && events.contains("this node's share of 2 in the swarm")
        });
    }
    nodes.swarm.run(["queue", "add", "--all"]).success();
    nodes.swarm.wait_until("one to run on each", || both() == (1, 1));
    nodes.swarm.wait_until("the others to be held", || {
        let holds = nodes.json(&nodes.first(), &["status"])["holds"].clone();
        holds.to_string().contains("1 of 1 workers run (set by this node's share of 2 in the swarm: swarm scale)")
    });
    assert_eq!(both(), (1, 1));
    let policy = ["--up", "0.5", "--periods", "1", "--period", "500ms", "--cooldown", "500ms"];
    nodes
        .swarm
        .run_in(&nodes.second(), ["scale", "set", "queue_depth", "--scope", "swarm"].iter().chain(&policy))
        .success();
    nodes.swarm.wait_until("all places to be taken", || both() == (2, 2));
    assert_eq!((swarm(&nodes.first())["workers"].clone(), shares()), (4.into(), (2.into(), 2.into())));
    // Whoever decided, the one that is left decides now, and for itself alone.
    kill_process(nodes.coordinator(&nodes.second()), Signal::KILL).unwrap();
    nodes.swarm.wait_until("the node that is gone to have no share", || {
        let seen = swarm(&nodes.second());
        seen["share"].is_null() && seen["decider"] == "a"
    });
    assert_eq!(swarm(&nodes.first())["share"], 2);
    nodes.swarm.run_in(&nodes.second(), ["up", "--headless", "--merge", "--yes"]).success();
    nodes.swarm.wait_until("its share to be back", || shares() == (2.into(), 2.into()));
    std::fs::remove_file(nodes.place("wait")).unwrap();
    nodes.await_landed(&nodes.first(), &tickets);
    nodes.assert_landed_once(&tickets);
    nodes.down();
}

#[test]
fn what_a_ticket_came_to_is_told_to_whoever_needs_it_on_another_node() {
    let script = "cp \"$SWARM_PROMPT_FILE\" ROOT/prompt.$SWARM_TICKET\n\
                  echo \"$SWARM_TICKET found forty-two at $(pwd)\" > \"$SWARM_RESULT_FILE\"\n";
    let nodes = Nodes::new(script, "", &["survey"]);
    let swarm = &nodes.swarm;
    let needs = "---\nagent: shell\ndepends_on: [{ticket: survey, kind: data}]\n---\nUse it.\n";
    swarm.write(".swarm/tickets/user.md", needs);
    swarm.git(["add", "--all"]).success();
    swarm.git(["commit", "--quiet", "-m", "One that needs it"]).success();
    nodes.join_first(&[]);
    nodes.join_second(&[]);
    nodes.drain("b");
    swarm.run(["queue", "add", "survey"]).success();
    let is_done = |id: &str| nodes.states(&nodes.first()).get(id).is_some_and(|state| state == "done");
    swarm.wait_until("the survey to be done", || is_done("survey"));
    swarm.run(["node", "drain", "b", "--undo"]).success();
    nodes.drain("a");
    swarm.run(["queue", "add", "user"]).success();
    swarm.wait_until("what needs it to be done", || is_done("user"));
    let prompt = std::fs::read_to_string(nodes.place("prompt.user")).unwrap();
    assert!(prompt.contains("survey found forty-two at"), "{prompt}");
    let places = nodes.json(&nodes.second(), &["status", "--all"])["workers"].clone();
    assert_eq!(places[0]["ticket"], "user", "{places}");
    nodes.down();
}
