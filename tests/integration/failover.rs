//! Nodes that go away or stop for a while: what they had in hand goes on at another one, once.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::nodes::{Nodes, SCRIPT, WAITS, handed_over, pid};
use crate::support::schema::assert_conforms;

/// How soon work of a node that was killed goes on at another one.
const GOES_ON_WITHIN: Duration = Duration::from_secs(15);

/// Begins something, and goes on only where it finds that.
const HALF: &str = r#"
echo "$SWARM_TICKET" >> "ROOT/started.log"
if [ -e half.txt ]; then
    cat half.txt > "$SWARM_TICKET.txt"
    rm half.txt
    exit 0
fi
echo begun > committed.txt
git add committed.txt
git commit --quiet -m "Begin"
echo "half of $SWARM_TICKET" > half.txt
while [ -e "ROOT/wait" ]; do sleep 0.05; done
"#;

#[test]
fn work_of_a_node_that_is_killed_goes_on_at_another_from_its_snapshot() {
    let nodes = Nodes::new(HALF, "", &["one"]);
    let swarm = &nodes.swarm;
    swarm.write_at(&nodes.place("wait"), "");
    nodes.join_first(&[]);
    swarm.run(["queue", "add", "one"]).success();
    let worktree = swarm.worktree("one");
    swarm.wait_until("the first half", || worktree.join("half.txt").exists());
    let has_half = || {
        let wip = ["cat-file", "-e", "refs/swarm/wip/one:half.txt"];
        swarm.git(wip).code == 0
    };
    swarm.wait_until("a snapshot of it", has_half);
    nodes.join_second(&[]);
    let snapshot = swarm.git(["rev-parse", "refs/swarm/wip/one"]).success();
    let clone = nodes.second();
    swarm
        .wait_until("the snapshot to be handed over", || handed_over(&nodes, &nodes.first(), "one") == snapshot.trim());
    let seen = nodes.json(&clone, &["status"]);
    assert_conforms(&seen, "status");
    let elsewhere = serde_json::json!([{"ticket": "one", "state": "running", "node": "a"}]);
    assert_eq!(seen["elsewhere"], elsewhere);
    swarm.run_in(&clone, ["why", "one"]).expect_code(0).says("node `a` has it");
    nodes.kill_all(&nodes.first());
    let killed_at = Instant::now();
    let log = nodes.place("started.log");
    swarm.wait_until("the work to go on", || std::fs::read_to_string(&log).unwrap().lines().count() == 2);
    assert!(killed_at.elapsed() < GOES_ON_WITHIN, "{:?}", killed_at.elapsed());
    nodes.await_landed(&clone, &["one"]);
    let read = |name: &str| std::fs::read_to_string(clone.join(name)).unwrap();
    assert_eq!((read("one.txt"), read("committed.txt")), ("half of one\n".to_owned(), "begun\n".to_owned()));
    let events = swarm.run_in(&clone, ["logs", "one"]).success();
    assert!(events.contains("goes on with what node a left"), "{events}");
    // The node that comes back follows, and leaves the ticket alone.
    swarm.run(["up", "--merge", "--headless", "--yes"]).success();
    nodes.assert_landed_once(&["one"]);
    assert_eq!(std::fs::read_to_string(&log).unwrap().lines().count(), 2);
    nodes.down();
}

#[test]
fn a_ticket_whose_node_is_killed_while_it_sets_its_worker_up_goes_on_at_another() {
    // The first one waits, however long that takes.
    let setup =
        "setup: [{run: 'if mkdir ROOT/first; then while [ ! -e ROOT/go ]; do sleep 0.05; done; fi; touch made.txt'}]\n";
    let script = r#"echo "$SWARM_TICKET" >> "ROOT/started.log"; echo 1 > one.txt"#;
    let nodes = Nodes::new(script, setup, &["one"]);
    let swarm = &nodes.swarm;
    nodes.join_first(&[]);
    swarm.run(["queue", "add", "one"]).success();
    swarm.wait_until("its set-up to begin", || nodes.place("first").exists());
    nodes.join_second(&[]);
    // It takes longer than others would wait for a node that says nothing: its claim is renewed.
    let begun = Instant::now();
    let clone = nodes.second();
    swarm.wait_until("a lease to be over", || {
        assert_eq!(nodes.json(&clone, &["status"])["elsewhere"][0]["node"], "a");
        begun.elapsed() > Duration::from_secs(10)
    });
    kill_process(nodes.coordinator(&nodes.first()), Signal::KILL).unwrap();
    let killed_at = Instant::now();
    let log = nodes.place("started.log");
    swarm.wait_until("its agent to begin", || log.exists());
    assert!(killed_at.elapsed() < GOES_ON_WITHIN, "{:?}", killed_at.elapsed());
    nodes.await_landed(&clone, &["one"]);
    let landed = swarm.git_in(&clone, ["ls-tree", "--name-only", "main"]).success();
    assert!(landed.contains("one.txt") && !landed.contains("made.txt"), "{landed}");
    swarm.write_at(&nodes.place("go"), "");
    swarm.run(["up", "--merge", "--headless", "--yes"]).success();
    nodes.assert_landed_once(&["one"]);
    let workers = || nodes.json(&nodes.first(), &["status", "--all"])["workers"].clone();
    swarm.wait_until("its interrupted start to be undone", || workers() == serde_json::json!([]));
    assert!(!swarm.worktree("one").exists() && swarm.git(["branch", "--list", "swarm/*"]).success().is_empty());
    nodes.down();
}

#[test]
fn what_a_node_had_not_committed_is_work_where_set_up_commands_run() {
    let setup = "setup: [{run: touch made.txt}]\n";
    let script = r#"mkdir -p new; echo "$SWARM_TICKET" >> "ROOT/started.log"
[ -e new/work.txt ] || { echo work > new/work.txt; while [ -e "ROOT/wait" ]; do sleep 0.05; done; }"#;
    let nodes = Nodes::new(script, setup, &["one"]);
    let swarm = &nodes.swarm;
    swarm.write_at(&nodes.place("wait"), "");
    nodes.join_first(&[]);
    swarm.run(["queue", "add", "one"]).success();
    swarm.wait_until("a snapshot of it", || swarm.git(["cat-file", "-e", "refs/swarm/wip/one:new/work.txt"]).code == 0);
    nodes.join_second(&[]);
    let snapshot = swarm.git(["rev-parse", "refs/swarm/wip/one"]).success();
    swarm.wait_until("it to be handed over", || handed_over(&nodes, &nodes.first(), "one") == snapshot.trim());
    nodes.kill_all(&nodes.first());
    let clone = nodes.second();
    nodes.await_landed(&clone, &["one"]);
    let landed = swarm.git_in(&clone, ["ls-tree", "-r", "--name-only", "main"]).success();
    assert!(landed.contains("new/work.txt") && !landed.contains("made.txt"), "{landed}");
    nodes.down();
}

/// Adds to what it finds, and waits at each start for as long as there is a file with the number of that start.
const AGAIN: &str = r#"
pwd >> "ROOT/started.log"
start=$(wc -l < "ROOT/started.log")
echo "$start" >> half.txt
while [ -e "ROOT/wait.$start" ]; do sleep 0.05; done
cat half.txt > "$SWARM_TICKET.txt"
rm half.txt
"#;

#[test]
fn a_node_that_was_gone_goes_on_with_a_ticket_again_when_the_one_that_took_it_over_is_killed() {
    let nodes = Nodes::new(AGAIN, "", &["one"]);
    let swarm = &nodes.swarm;
    for start in 1..=2 {
        swarm.write_at(&nodes.place(&format!("wait.{start}")), "");
    }
    let log = nodes.place("started.log");
    let starts = || std::fs::read_to_string(&log).unwrap_or_default().lines().map(PathBuf::from).collect::<Vec<_>>();
    let await_handed_over = |clone: &Path, lines: usize| {
        let half = || swarm.git_in(clone, ["show", "refs/swarm/wip/one:half.txt"]).stdout.lines().count();
        swarm.wait_until("a snapshot of what it did", || half() == lines);
        let wip = || swarm.git_in(clone, ["rev-parse", "refs/swarm/wip/one"]).success();
        swarm.wait_until("the snapshot to be handed over", || handed_over(&nodes, clone, "one") == wip().trim());
    };
    nodes.join_first(&[]);
    swarm.run(["queue", "add", "one"]).success();
    swarm.wait_until("the first to begin", || starts().len() == 1);
    nodes.join_second(&[]);
    await_handed_over(&nodes.first(), 1);
    nodes.kill_all(&nodes.first());
    swarm.wait_until("the second to go on", || starts().len() == 2);
    swarm.run(["up", "--merge", "--headless", "--yes"]).success();
    swarm.wait_until("the first to be there again", || nodes.state("a") == "active");
    await_handed_over(&nodes.second(), 2);
    nodes.kill_all(&nodes.second());
    swarm.wait_until("the first to go on again", || starts().len() == 3);
    nodes.await_landed(&nodes.first(), &["one"]);
    assert_eq!(std::fs::read_to_string(nodes.first().join("one.txt")).unwrap(), "1\n2\n3\n");
    assert_eq!(starts()[0], starts()[2], "both were in the worktree of the first node");
    assert_ne!(starts()[0], starts()[1]);
    let kept = swarm.run(["recover", "list"]).success();
    assert!(kept.contains("another node went on with its ticket"), "{kept}");
    swarm.run_in(&nodes.second(), ["up", "--merge", "--headless", "--yes"]).success();
    nodes.assert_landed_once(&["one"]);
    nodes.down();
}

/// Holds the gates of a ticket for as long as a file is there.
const GATE: &str = "gates: [{name: held, run: \"touch ROOT/gate.$SWARM_TICKET; while [ -e ROOT/hold.$SWARM_TICKET ]; do sleep 0.05; done\"}]\n";

#[test]
fn a_node_that_is_gone_stays_on_the_register_while_it_has_finished_work_unless_somebody_insists() {
    let nodes = Nodes::new(SCRIPT, GATE, &["one"]);
    let swarm = &nodes.swarm;
    swarm.write_at(&nodes.place("hold.one"), "");
    nodes.join_first(&[]);
    nodes.join_second(&[]);
    nodes.drain("b");
    swarm.run(["queue", "add", "one"]).success();
    swarm.wait_until("its gate", || nodes.place("gate.one").exists());
    let clone = nodes.second();
    swarm.run_in(&clone, ["logs", "one"]).expect_code(5).says("there is no worker `one` here: node `a` has its ticket");
    swarm.run_in(&clone, ["down"]).success();
    kill_process(nodes.coordinator(&nodes.first()), Signal::KILL).unwrap();
    swarm.wait_until("it to be gone", || nodes.state("a") == "gone");
    let refused = swarm.run_in(&clone, ["node", "remove", "a"]).expect_code(1);
    refused.says("node `a` is gone and has `one`, which is landing");
    swarm.wait_until("the other to be gone as well", || nodes.state("b") == "gone");
    let said = "node `a` has it, finished, and is gone: no node that is there lands anything";
    swarm.run_in(&clone, ["why", "one"]).expect_code(0).says(said);
    refused.says("swarm node remove a --force");
    swarm.run_in(&clone, ["node", "remove", "a", "--force"]).success();
    assert!(nodes.state("a").is_null());
    std::fs::remove_file(nodes.place("hold.one")).unwrap();
    nodes.down();
}

#[test]
fn a_node_is_drained_and_can_be_removed_when_what_it_finished_has_landed() {
    let nodes = Nodes::new(SCRIPT, GATE, &["one"]);
    let swarm = &nodes.swarm;
    swarm.write_at(&nodes.place("hold.one"), "");
    nodes.join_first(&[]);
    swarm.run(["queue", "add", "one"]).success();
    swarm.wait_until("its gate", || nodes.place("gate.one").exists());
    swarm.run(["node", "drain"]).success();
    let list = nodes.json(&nodes.first(), &["node", "list"]);
    assert_eq!((&list["nodes"][0]["state"], &list["nodes"][0]["running"]), (&"draining".into(), &0.into()));
    let refused = swarm.run(["node", "remove"]).expect_code(1);
    refused.says("node `a` has `one`, which is landing");
    refused.says("swarm node remove a --force");
    assert_eq!(nodes.state("a"), "draining", "its coordinator is still there");
    std::fs::remove_file(nodes.place("hold.one")).unwrap();
    swarm.wait_until("it to be drained", || nodes.state("a") == "drained");
    nodes.await_landed(&nodes.first(), &["one"]);
    swarm.run(["node", "remove"]).success();
}

#[test]
fn a_node_that_was_suspended_while_it_landed_cannot_land_over_another() {
    let nodes = Nodes::new(SCRIPT, GATE, &["one", "two"]);
    let swarm = &nodes.swarm;
    swarm.write_at(&nodes.place("hold.one"), "");
    nodes.join_first(&[]);
    swarm.run(["queue", "add", "one"]).success();
    swarm.wait_until("its gate", || nodes.place("gate.one").exists());
    let suspended = nodes.coordinator(&nodes.first());
    kill_process(suspended, Signal::STOP).unwrap();
    std::fs::remove_file(nodes.place("hold.one")).unwrap();
    nodes.join_second(&[]);
    swarm.run_in(&nodes.second(), ["queue", "add", "two"]).success();
    nodes.await_landed(&nodes.second(), &["two"]);
    assert_eq!(nodes.states(&nodes.second())["one"], "landing");
    kill_process(suspended, Signal::CONT).unwrap();
    nodes.await_landed(&nodes.second(), &["one"]);
    nodes.assert_landed_once(&["one", "two"]);
    nodes.down();
}

#[test]
fn finished_work_of_a_node_that_is_killed_lands_elsewhere_with_its_approval() {
    let nodes = Nodes::new(SCRIPT, "", &["one"]);
    let swarm = &nodes.swarm;
    let gate = GATE.replace("ROOT", &swarm.root().display().to_string());
    swarm.write(".swarm/config.yaml", &format!("limits: {{grace: 500ms, snapshot_every: 300ms}}\n{gate}"));
    swarm.git(["commit", "--quiet", "-am", "A person approves"]).success();
    swarm.write_at(&nodes.place("hold.one"), "");
    nodes.join_first(&[]);
    swarm.run(["queue", "add", "one"]).success();
    swarm.wait_until("the work to be finished", || nodes.states(&nodes.first())["one"] == "review");
    swarm.run(["review", "one", "--approve"]).success();
    swarm.wait_until("its gate", || nodes.place("gate.one").exists());
    let is_said = || swarm.run(["why", "one"]).stdout.contains("was handed over as finished and approved");
    swarm.wait_until("the approval to be handed over", is_said);
    kill_process(nodes.coordinator(&nodes.first()), Signal::KILL).unwrap();
    nodes.join_second(&[]);
    let clone = nodes.second();
    swarm.wait_until("the other node to have it", || clone.join(".git/swarm/workers/one").exists());
    std::fs::remove_file(nodes.place("hold.one")).unwrap();
    nodes.await_landed(&clone, &["one"]);
    let log = std::fs::read_to_string(nodes.place("started.log")).unwrap();
    assert_eq!(log, "one\n", "what is finished is not worked on again");
    let events = swarm.run_in(&clone, ["logs", "one"]).success();
    assert!(events.contains("goes on with what node a left") && events.contains("Person"), "{events}");
    // The node that comes back follows, and gives its own worker up.
    swarm.run(["up", "--merge", "--headless", "--yes"]).success();
    nodes.assert_landed_once(&["one"]);
    swarm.wait_until("its worktree to be released", || !swarm.worktree("one").exists());
    nodes.down();
}

#[test]
fn what_an_agent_finishes_after_its_coordinator_was_killed_lands_elsewhere() {
    let script =
        r#"echo "$SWARM_TICKET" >> "ROOT/started.log"; until [ -e "ROOT/go" ]; do sleep 0.05; done; echo 1 > one.txt"#;
    let nodes = Nodes::new(script, "", &["one"]);
    let (swarm, clone) = (&nodes.swarm, nodes.second());
    nodes.join_first(&[]);
    swarm.run(["queue", "add", "one"]).success();
    swarm.wait_until("its agent to begin", || nodes.place("started.log").exists());
    kill_process(nodes.coordinator(&nodes.first()), Signal::KILL).unwrap();
    swarm.write_at(&nodes.place("go"), "");
    swarm.wait_until("the work to be finished", || nodes.states(&nodes.first())["one"] == "review");
    // Whoever sees that it is finished can have it.
    swarm.run(["why", "one"]).says("was handed over as finished");
    nodes.join_second(&[]);
    nodes.await_landed(&clone, &["one"]);
    let log = std::fs::read_to_string(nodes.place("started.log")).unwrap();
    assert_eq!(log, "one\n", "what is finished is not worked on again");
    assert_eq!(swarm.git_in(&clone, ["show", "main:one.txt"]).success(), "1\n");
    nodes.down();
}

#[test]
fn a_node_that_is_killed_before_it_could_hand_over_what_it_finished_leaves_that_to_another() {
    let nodes = Nodes::new(SCRIPT, "", &["one"]);
    let (swarm, clone) = (&nodes.swarm, nodes.second());
    nodes.join_first(&[]);
    nodes.join_second(&[]);
    nodes.drain("b");
    // Nothing can be handed over.
    let lock = nodes.first().join(".git/swarm/locks/carry.lock");
    swarm.write_at(&lock, "");
    let lock = std::fs::File::open(&lock).unwrap();
    lock.lock().unwrap();
    swarm.run(["queue", "add", "one"]).success();
    let is_committed = || swarm.git(["cat-file", "-e", "swarm/one:one.txt"]).code == 0;
    swarm.wait_until("the work to be there", is_committed);
    let began = Instant::now();
    swarm.wait_until("time to pass", || {
        assert_eq!(nodes.states(&clone)["one"], "running", "nobody says that it is finished before others can have it");
        began.elapsed() > Duration::from_secs(2)
    });
    nodes.kill_all(&nodes.first());
    swarm.run_in(&clone, ["node", "drain", "--undo"]).success();
    nodes.await_landed(&clone, &["one"]);
    let log = std::fs::read_to_string(nodes.place("started.log")).unwrap();
    assert_eq!(log, "one\none\n", "nothing was left of it");
    drop(lock);
    nodes.down();
}

#[test]
fn what_was_finished_once_and_then_rejected_is_worked_on_by_whoever_takes_it_over() {
    let nodes = Nodes::new(AGAIN, "", &["one"]);
    let swarm = &nodes.swarm;
    swarm.write(".swarm/config.yaml", "limits: {grace: 500ms, snapshot_every: 300ms}\n");
    swarm.git(["commit", "--quiet", "-am", "A person approves"]).success();
    swarm.write_at(&nodes.place("wait.2"), "");
    let log = nodes.place("started.log");
    let starts = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
    nodes.join_first(&[]);
    swarm.run(["queue", "add", "one"]).success();
    let is_said = || swarm.run(["why", "one"]).stdout.contains("was handed over as finished");
    swarm.wait_until("the finished work to be handed over", is_said);
    // Nobody says any more that it was rejected.
    kill_process(nodes.coordinator(&nodes.first()), Signal::KILL).unwrap();
    swarm.run(["review", "one", "--reject", "-m", "Do it again."]).success();
    swarm.wait_until("its agent to begin again", || starts() == 2);
    nodes.kill_all(&nodes.first());
    nodes.join_second(&[]);
    swarm.wait_until("its agent to begin at the other node", || starts() == 3);
    let clone = nodes.second();
    swarm.wait_until("the work to be finished there", || nodes.states(&clone)["one"] == "review");
    assert_eq!(swarm.git_in(&clone, ["show", "swarm/one:one.txt"]).success(), "3\n");
    nodes.down();
}

/// A reviewer that says when it is asked, and waits as long as a file is there.
const REVIEWER: &str = r#"echo $PPID >> "ROOT/asked"; while [ -e "ROOT/wait" ]; do sleep 0.05; done
echo '{"verdict": "approve", "summary": "Fine."}'"#;

#[test]
fn reviewers_of_finished_work_are_asked_by_the_node_that_takes_it_over() {
    let nodes = Nodes::new(SCRIPT, "", &["one"]);
    let swarm = &nodes.swarm;
    swarm.write_shell_agent("reader", &REVIEWER.replace("ROOT", &swarm.root().display().to_string()));
    swarm.write(".swarm/config.yaml", "limits: {grace: 500ms}\nreview: {agents: [reader], agents_approve: true}\n");
    swarm.git(["add", "--all"]).success();
    swarm.git(["commit", "--quiet", "-m", "A reviewer"]).success();
    swarm.write_at(&nodes.place("wait"), "");
    nodes.join_first(&[]);
    swarm.run(["queue", "add", "one"]).success();
    let asked = || std::fs::read_to_string(nodes.place("asked")).unwrap_or_default();
    swarm.wait_until("the reviewer to be asked", || asked().ends_with('\n'));
    let is_said = || swarm.run(["why", "one"]).stdout.contains("was handed over as finished");
    swarm.wait_until("the work to be handed over", is_said);
    kill_process(nodes.coordinator(&nodes.first()), Signal::KILL).unwrap();
    kill_process(Pid::from_raw(asked().trim().parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    std::fs::remove_file(nodes.place("wait")).unwrap();
    nodes.join_second(&[]);
    nodes.await_landed(&nodes.second(), &["one"]);
    assert_eq!(asked().lines().count(), 2);
    let log = std::fs::read_to_string(nodes.place("started.log")).unwrap();
    assert_eq!(log, "one\n", "what is finished is not worked on again");
    nodes.down();
}

/// A hook by which whoever lands is killed when it moves its own target: the tip has moved then.
const KILLS_LANDER: &str = r#"#!/bin/sh
[ "$1" = prepared ] && grep -q " refs/heads/main$" || exit 0
mv "$0" "$0.done"
kill -9 $(cut -d " " -f 4 "/proc/$PPID/stat")
"#;

#[test]
fn what_landed_is_marked_as_landed_by_others_where_its_node_dies_before_it_says_so() {
    let nodes = Nodes::new(SCRIPT, "", &["one", "two"]);
    let swarm = &nodes.swarm;
    let hook = nodes.first().join(".git/hooks/reference-transaction");
    swarm.write_at(&hook, KILLS_LANDER);
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&hook, executable).unwrap();
    nodes.join_first(&[]);
    swarm.run(["queue", "add", "one"]).success();
    swarm.wait_until("the node to die while it lands", || hook.with_extension("done").exists());
    assert_eq!(nodes.states(&nodes.first())["one"], "landing");
    nodes.join_second(&[]);
    nodes.await_landed(&nodes.second(), &["one"]);
    swarm.run_in(&nodes.second(), ["queue", "add", "two"]).success();
    nodes.await_landed(&nodes.second(), &["two"]);
    let log = std::fs::read_to_string(nodes.place("started.log")).unwrap();
    assert_eq!(log, "one\ntwo\n", "what has landed is not worked on again");
    swarm.run(["up", "--merge", "--headless", "--yes"]).success();
    nodes.assert_landed_once(&["one", "two"]);
    nodes.down();
}

#[test]
fn what_a_person_stops_while_the_server_is_away_stays_stopped() {
    let tickets = ["one", "two"];
    let nodes = Nodes::new(WAITS, "", &tickets);
    for id in tickets {
        nodes.swarm.write_at(&nodes.place(&format!("wait.{id}")), "");
    }
    nodes.join_first(&[]);
    nodes.swarm.run(["queue", "add", "--all"]).success();
    let started = || std::fs::read_to_string(nodes.place("started.log")).unwrap_or_default().lines().count();
    nodes.swarm.wait_until("their agents to begin", || started() == 2);
    let workers = nodes.json(&nodes.first(), &["status"])["workers"].clone();
    let nodes = nodes.without_server(|nodes| {
        let stopped = nodes.swarm.run(["stop", "one"]).expect_code(0);
        stopped.says("Stopped; it is stopped; its queue is told when the server answers");
        // One whose supervisor cannot be asked any more.
        let two = workers.as_array().unwrap().iter().find(|worker| worker["ticket"] == "two").unwrap();
        kill_process(pid(&two["supervisor_pid"]), Signal::KILL).unwrap();
        nodes.swarm.run(["stop", "two"]).expect_code(0).says("it had left behind were ended; its queue is told when");
        for worker in workers.as_array().unwrap() {
            // Of a process that has ended nothing but its number may be left.
            let words = std::fs::read(format!("/proc/{}/cmdline", worker["pid"])).unwrap_or_default();
            assert!(words.is_empty(), "its agent has ended: {worker}");
        }
        for worker in nodes.json(&nodes.first(), &["status"])["workers"].as_array().unwrap() {
            assert_eq!(worker["status"], "stopped", "{worker}");
        }
    });
    let states = || nodes.states(&nodes.first());
    let is_told = || tickets.iter().all(|id| states()[*id] == "failed");
    nodes.swarm.wait_until("the queue to hear of it", is_told);
    for id in tickets {
        nodes.swarm.run(["why", id]).expect_code(0).says("a person stopped it");
        std::fs::remove_file(nodes.place(&format!("wait.{id}"))).unwrap();
        nodes.swarm.run(["queue", "retry", id]).success();
    }
    nodes.await_landed(&nodes.first(), &tickets);
    let started = std::fs::read_to_string(nodes.place("started.log")).unwrap();
    assert_eq!(started.lines().count(), 4, "each began once more, when a person said so: {started}");
    nodes.swarm.run(["down"]).success();
}
