//! Several clones on one queue: each works and lands by itself, all of them end at the same commit, and what one that goes
//! away had in hand goes on at another.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::nats::NatsServer;
use crate::support::schema::assert_conforms;
use crate::support::swarm::{Output, TestSwarm};

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
    fn drain(&self, name: &str) {
        self.swarm.run(["node", "drain", name]).success();
        self.swarm.wait_until("the node to say that it is drained", || self.state(name) == "drained");
    }

    /// The head of a clone's target.
    fn head(&self, clone: &Path) -> String {
        self.swarm.git_in(clone, ["rev-parse", "main"]).success()
    }

    /// Waits until both targets are at the same commit, and checks that every ticket landed there exactly once and that no
    /// other work did.
    fn assert_landed_once(&self, tickets: &[&str]) {
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
fn pid(value: &Value) -> Pid {
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
    swarm.wait_until("the snapshot to be handed over", || handed_over(&nodes, "one") == snapshot.trim());
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

/// The commit that the first node handed over of a ticket.
fn handed_over(nodes: &Nodes, ticket: &str) -> String {
    let why = nodes.swarm.json(["why", ticket]);
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
