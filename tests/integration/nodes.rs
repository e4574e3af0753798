//! Several clones on one queue: each works and lands by itself, all of them end at the same commit, and what one that goes
//! away had in hand goes on at another.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::readme::blocks;
use crate::support::nats::NatsServer;
use crate::support::schema::assert_conforms;
use crate::support::swarm::{Output, SWARM, TestSwarm};

/// How soon work of a node that was killed goes on at another one.
const GOES_ON_WITHIN: Duration = Duration::from_secs(15);

/// Two clones of a repository and a server; the first clone is the test's own repository.
pub(crate) struct Nodes {
    pub(crate) swarm: TestSwarm,
    server: NatsServer,
}

impl Nodes {
    /// A repository with these tickets, whose agent runs a script; `ROOT` in it is the folder of the test.
    pub(crate) fn new(script: &str, config: &str, tickets: &[&str]) -> Self {
        let swarm = TestSwarm::new();
        let root = swarm.root().display().to_string();
        swarm.write_at(&swarm.root().join("home/.gitconfig"), "[user]\nname = Person\nemail = person@example.com\n");
        swarm.write_shell_agent("shell", &script.replace("ROOT", &root));
        let common = "landing: {approval: auto}\nlimits: {grace: 500ms, snapshot_every: 300ms}\n";
        swarm.write(".swarm/config.yaml", &format!("{common}{}", config.replace("ROOT", &root)));
        for id in tickets {
            swarm.write_ticket(id, "shell", &format!("Do {id}."));
        }
        swarm.git(["add", "--all"]).success();
        swarm.git(["commit", "--quiet", "-m", "Tickets"]).success();
        let server = NatsServer::start(&swarm);
        Self { swarm, server }
    }

    /// Where the server is.
    pub(crate) fn url(&self) -> &str {
        self.server.url()
    }

    /// The repository of the first node.
    pub(crate) fn first(&self) -> PathBuf {
        self.swarm.repository()
    }

    /// That of the second one.
    pub(crate) fn second(&self) -> PathBuf {
        self.swarm.root().join("b/project")
    }

    /// A file beside everything.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.swarm.root().join(name)
    }

    /// Makes the first clone a node.
    pub(crate) fn join_first(&self, more: &[&str]) {
        let args = ["node", "join", self.server.url(), "--name", "a", "--headless", "--merge", "--yes"];
        self.swarm.run(args.iter().chain(more)).success();
    }

    /// Clones the first and makes that a node.
    pub(crate) fn join_second(&self, more: &[&str]) {
        std::fs::create_dir_all(self.place("b")).unwrap();
        let first = self.first().display().to_string();
        let args = ["node", "join", self.server.url(), "--name", "b", "--headless", "--merge", "--yes"];
        let clone = ["--clone", &first];
        self.run_b_at(&self.place("b"), args.iter().chain(more).chain(&clone).copied()).success();
    }

    /// Runs the program somewhere.
    fn run_b_at<'a>(&self, folder: &Path, args: impl IntoIterator<Item = &'a str>) -> Output {
        self.swarm.run_in(folder, args)
    }

    /// What the program answers in JSON in a clone.
    pub(crate) fn json(&self, clone: &Path, args: &[&str]) -> Value {
        self.swarm.run_in(clone, args.iter().chain(&["--json"])).expect_code(0).json()
    }

    /// The states of all tickets, as a clone sees them.
    pub(crate) fn states(&self, clone: &Path) -> BTreeMap<String, String> {
        let list = self.json(clone, &["queue", "list", "--all"]);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        list["tickets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| (text(&entry["ticket"]), text(&entry["state"])))
            .collect()
    }

    /// Waits until these tickets have landed.
    pub(crate) fn await_landed(&self, clone: &Path, tickets: &[&str]) {
        self.swarm.wait_until("the tickets to land", || {
            // The server may be away for a moment.
            let list = self.swarm.run_in(clone, ["queue", "list", "--all", "--json"]);
            let landed = |id: &&str| {
                let entries = serde_json::from_str::<Value>(&list.stdout).ok();
                let entries = entries.as_ref().and_then(|view| view["tickets"].as_array().cloned());
                entries.unwrap_or_default().iter().any(|entry| entry["ticket"] == **id && entry["state"] == "landed")
            };
            list.code == 0 && tickets.iter().all(landed)
        });
    }

    /// What a node does, as the first clone sees it.
    pub(crate) fn state(&self, name: &str) -> Value {
        let list = self.json(&self.first(), &["node", "list"]);
        let node = list["nodes"].as_array().unwrap().iter().find(|node| node["name"] == name).cloned();
        node.map_or(Value::Null, |node| node["state"].clone())
    }

    /// Lets a node take nothing new, and waits until it says so.
    pub(crate) fn drain(&self, name: &str) {
        self.swarm.run(["node", "drain", name]).success();
        self.swarm.wait_until("the node to say that it is drained", || self.state(name) == "drained");
    }

    /// The head of a clone's target.
    pub(crate) fn head(&self, clone: &Path) -> String {
        self.swarm.git_in(clone, ["rev-parse", "main"]).success()
    }

    /// Waits until both targets are at the same commit, and checks that every ticket landed there exactly once and that no
    /// other work did.
    pub(crate) fn assert_landed_once(&self, tickets: &[&str]) {
        self.swarm
            .wait_until("both targets to be at one commit", || self.head(&self.first()) == self.head(&self.second()));
        for clone in [self.first(), self.second()] {
            let format = "--format=%(trailers:key=Swarm-Ticket,valueonly,separator=%x20)";
            let log = self.swarm.git_in(&clone, ["log", "--first-parent", format, "main"]).success();
            let mut landed: Vec<_> = log.lines().filter(|line| !line.trim().is_empty()).collect();
            landed.sort_unstable();
            let mut wanted = tickets.to_vec();
            wanted.sort_unstable();
            assert_eq!(landed, wanted, "{}", clone.display());
            // The files follow the branch in a moment.
            self.swarm.wait_until("the checkout to follow", || {
                let has = |id: &&str| clone.join(format!("{id}.txt")).is_file();
                tickets.iter().all(has) && self.swarm.git_in(&clone, ["status", "--porcelain"]).success().is_empty()
            });
        }
    }

    /// Ends both coordinators.
    pub(crate) fn down(&self) {
        for clone in [self.first(), self.second()] {
            self.swarm.run_in(&clone, ["down"]).success();
        }
    }

    /// The process of a clone's coordinator.
    pub(crate) fn coordinator(&self, clone: &Path) -> Pid {
        pid(&self.json(clone, &["status"])["coordinator"]["pid"])
    }
}

/// A process of a view.
pub(crate) fn pid(value: &Value) -> Pid {
    Pid::from_raw(i32::try_from(value.as_i64().unwrap()).unwrap()).unwrap()
}

/// Writes down who works on what, and one file.
const SCRIPT: &str = r#"
echo "$SWARM_TICKET" >> "ROOT/started.log"
pwd >> "ROOT/places.log"
sleep 0.3
echo "$SWARM_TICKET" > "$SWARM_TICKET.txt"
"#;

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
        let command = command.replace("nats://box:4222", nodes.server.url()).replace("box:app", &first);
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
    let taken = ["node", "join", nodes.server.url(), "--name", "a", "--headless", "--clone", &first];
    swarm.run_in(&nodes.place("b"), taken).expect_code(1).says("another clone is the node `a` at this moment");
    assert!(!nodes.second().join(".git/swarm/config.yaml").exists(), "nothing is left of a join that failed");
    let joined = swarm.run_in(&nodes.second(), ["node", "join", nodes.server.url(), "--name", "b", "--headless"]);
    joined.expect_code(0).says("Joined as node `b`.");
    let list = nodes.json(&nodes.first(), &["node", "list"]);
    let a = &list["nodes"][0];
    assert_eq!((&a["is_this"], &a["max_workers"]), (&true.into(), &2.into()));
    assert_eq!(a["capabilities"], serde_json::json!(["gpu", "big"]));
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
    let status = nodes.json(&nodes.first(), &["status"]);
    let worker = &status["workers"][0];
    let seen = nodes.json(&clone, &["status"]);
    assert_conforms(&seen, "status");
    let elsewhere = serde_json::json!([{"ticket": "one", "state": "running", "node": "a"}]);
    assert_eq!(seen["elsewhere"], elsewhere);
    swarm.run_in(&clone, ["why", "one"]).expect_code(0).says("node `a` has it");
    for process in [&status["coordinator"]["pid"], &worker["supervisor_pid"], &worker["pid"]] {
        kill_process(pid(process), Signal::KILL).unwrap();
    }
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
    let status = nodes.json(&nodes.first(), &["status"]);
    let worker = &status["workers"][0];
    for process in [&status["coordinator"]["pid"], &worker["supervisor_pid"], &worker["pid"]] {
        kill_process(pid(process), Signal::KILL).unwrap();
    }
    let clone = nodes.second();
    nodes.await_landed(&clone, &["one"]);
    let landed = swarm.git_in(&clone, ["ls-tree", "-r", "--name-only", "main"]).success();
    assert!(landed.contains("new/work.txt") && !landed.contains("made.txt"), "{landed}");
    nodes.down();
}

#[test]
fn a_node_that_is_gone_stays_on_the_register_while_it_has_tickets_unless_somebody_insists() {
    let nodes = Nodes::new(HALF, "", &["one"]);
    let swarm = &nodes.swarm;
    swarm.write_at(&nodes.place("wait"), "");
    nodes.join_first(&[]);
    nodes.join_second(&[]);
    nodes.drain("b");
    swarm.run(["queue", "add", "one"]).success();
    swarm.wait_until("its agent to begin", || nodes.place("started.log").exists());
    let clone = nodes.second();
    swarm.run_in(&clone, ["logs", "one"]).expect_code(5).says("there is no worker `one` here: node `a` has its ticket");
    let status = nodes.json(&nodes.first(), &["status"]);
    let worker = &status["workers"][0];
    for process in [&status["coordinator"]["pid"], &worker["supervisor_pid"], &worker["pid"]] {
        kill_process(pid(process), Signal::KILL).unwrap();
    }
    swarm.wait_until("it to be gone", || nodes.state("a") == "gone");
    let refused = swarm.run_in(&clone, ["node", "remove", "a"]).expect_code(1);
    refused.says("node `a` is gone and has `one`, which is ");
    refused.says("swarm node remove a --force");
    swarm.run_in(&clone, ["node", "remove", "a", "--force"]).success();
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
    let kill_all = |clone: &Path| {
        let status = nodes.json(clone, &["status"]);
        let worker = &status["workers"][0];
        for process in [&status["coordinator"]["pid"], &worker["supervisor_pid"], &worker["pid"]] {
            kill_process(pid(process), Signal::KILL).unwrap();
        }
    };
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
    kill_all(&nodes.first());
    swarm.wait_until("the second to go on", || starts().len() == 2);
    swarm.run(["up", "--merge", "--headless", "--yes"]).success();
    swarm.wait_until("the first to be there again", || nodes.state("a") == "active");
    await_handed_over(&nodes.second(), 2);
    kill_all(&nodes.second());
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

/// The commit that a node handed over of a ticket that it works on.
pub(crate) fn handed_over(nodes: &Nodes, clone: &Path, ticket: &str) -> String {
    let why = nodes.json(clone, &["why", ticket]);
    let mut facts = why["facts"].as_array().unwrap().iter().filter_map(Value::as_str);
    let fact = facts.find(|fact| fact.contains("was handed over")).unwrap_or_default();
    fact.split(['(', ')']).nth(1).unwrap_or_default().to_owned()
}

/// Holds the gates of a ticket for as long as a file is there.
const GATE: &str = "gates: [{name: held, run: \"touch ROOT/gate.$SWARM_TICKET; while [ -e ROOT/hold.$SWARM_TICKET ]; do sleep 0.05; done\"}]\n";

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
    let is_said = || swarm.run(["why", "one"]).stdout.contains("was handed over as finished");
    swarm.wait_until("the finished work to be handed over", is_said);
    nodes.join_second(&[]);
    nodes.await_landed(&clone, &["one"]);
    let log = std::fs::read_to_string(nodes.place("started.log")).unwrap();
    assert_eq!(log, "one\n", "what is finished is not worked on again");
    assert_eq!(swarm.git_in(&clone, ["show", "main:one.txt"]).success(), "1\n");
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
    let status = nodes.json(&nodes.first(), &["status"]);
    for process in [&status["workers"][0]["supervisor_pid"], &status["workers"][0]["pid"]] {
        kill_process(pid(process), Signal::KILL).unwrap();
    }
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
    let args = ["node", "join", nodes.server.url(), "--name", "b", "--headless", "--merge"];
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
    let args = ["node", "join", nodes.server.url(), "--name", "b", "--headless", "--merge"];
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
    let args = ["node", "join", nodes.server.url(), "--name", "b", "--headless", "--merge"];
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
    let Nodes { swarm, server } = nodes;
    let port = server.port();
    drop(server);
    let nodes = Nodes { server: NatsServer::start_at(&swarm, &port), swarm };
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

/// An agent that notes its start, waits as long as a file of its ticket is there, and writes another one.
const WAITS: &str = r#"echo "$SWARM_TICKET" >> "ROOT/started.log"
while [ -e "ROOT/wait.$SWARM_TICKET" ]; do sleep 0.05; done
echo done > "$SWARM_TICKET.txt""#;

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
    // Each goes by its share at its next look.
    for clone in [nodes.first(), nodes.second()] {
        nodes.swarm.wait_until("the share to be noted", || {
            let events = nodes.run_b_at(&clone, ["events", "--json"]).stdout;
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
        .run_b_at(&nodes.second(), ["scale", "set", "queue_depth", "--scope", "swarm"].iter().chain(&policy).copied())
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
    nodes.run_b_at(&nodes.second(), ["up", "--headless", "--merge", "--yes"]).success();
    nodes.swarm.wait_until("its share to be back", || shares() == (2.into(), 2.into()));
    std::fs::remove_file(nodes.place("wait")).unwrap();
    nodes.await_landed(&nodes.first(), &tickets);
    nodes.assert_landed_once(&tickets);
    nodes.down();
}
