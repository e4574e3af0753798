//! Two clones of a repository that work on one queue.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::nats::NatsServer;
use super::swarm::TestSwarm;

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
        self.swarm.run_in(&self.place("b"), args.iter().chain(more).chain(&clone)).success();
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

    /// Ends the server, does something, and starts one with what it kept at the same place.
    pub(crate) fn without_server(mut self, act: impl FnOnce(&Self)) -> Self {
        let port = self.server.port();
        self.server.kill();
        act(&self);
        self.server = NatsServer::start_at(&self.swarm, &port);
        self
    }

    /// Kills the coordinator of a clone, if it has one, and then supervisors and agents of its workers.
    pub(crate) fn kill_all(&self, clone: &Path) {
        let status = self.json(clone, &["status"]);
        let workers = status["workers"].as_array().unwrap().iter();
        let processes = workers.flat_map(|worker| [&worker["supervisor_pid"], &worker["pid"]]);
        let processes = [&status["coordinator"]["pid"]].into_iter().chain(processes);
        for process in processes.filter(|process| !process.is_null()) {
            kill_process(pid(process), Signal::KILL).unwrap();
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

/// The commit that a node handed over of a ticket that it works on.
pub(crate) fn handed_over(nodes: &Nodes, clone: &Path, ticket: &str) -> String {
    let why = nodes.json(clone, &["why", ticket]);
    let mut facts = why["facts"].as_array().unwrap().iter().filter_map(Value::as_str);
    let fact = facts.find(|fact| fact.contains("was handed over")).unwrap_or_default();
    fact.split(['(', ')']).nth(1).unwrap_or_default().to_owned()
}

/// Writes down who works on what, and one file.
pub(crate) const SCRIPT: &str = r#"
echo "$SWARM_TICKET" >> "ROOT/started.log"
pwd >> "ROOT/places.log"
sleep 0.3
echo "$SWARM_TICKET" > "$SWARM_TICKET.txt"
"#;

/// An agent that notes its start, waits as long as a file of its ticket is there, and writes another one.
pub(crate) const WAITS: &str = r#"echo "$SWARM_TICKET" >> "ROOT/started.log"
while [ -e "ROOT/wait.$SWARM_TICKET" ]; do sleep 0.05; done
echo done > "$SWARM_TICKET.txt""#;
