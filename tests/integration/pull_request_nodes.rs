//! Two nodes that land by pull request: each offers what it finished, and both targets follow what the forge merged.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Signal, kill_process};

use crate::pull_request_run::with_forge;
use crate::support::nodes::Nodes;

/// Writes down what it finds and one file.
const SCRIPT: &str = r#"
echo "$SWARM_TICKET" >> "ROOT/started.log"
ls > "seen-by-$SWARM_TICKET.txt"
echo "$SWARM_TICKET" > "$SWARM_TICKET.txt"
"#;

/// Two clones of a bare remote, and a forge.
struct Team {
    nodes: Nodes,
    forge: PathBuf,
    remote: PathBuf,
}

impl Team {
    /// The tickets `lower` and, after it, `upper`.
    fn new() -> Self {
        let mut nodes = Nodes::new(SCRIPT, "", &["lower"]);
        let swarm = &mut nodes.swarm;
        let (forge, remote) = with_forge(swarm);
        let landing = "landing: {mode: pr, forge: gh, approval: auto, poll: 500ms}\n";
        swarm.write(".swarm/config.yaml", &format!("{landing}limits: {{grace: 500ms, snapshot_every: 300ms}}\n"));
        swarm.write(".swarm/tickets/upper.md", "---\nagent: shell\ndepends_on: [lower]\n---\nDo upper.\n");
        swarm.git(["add", "--all"]).success();
        swarm.git(["commit", "--quiet", "-m", "Land by pull request"]).success();
        swarm.git(["clone", "--quiet", "--bare", ".", remote.to_str().unwrap()]).success();
        swarm.git(["remote", "add", "origin", remote.to_str().unwrap()]).success();
        fs::create_dir_all(swarm.root().join("b")).unwrap();
        let second = nodes.second();
        nodes.swarm.git(["clone", "--quiet", remote.to_str().unwrap(), second.to_str().unwrap()]).success();
        Self { nodes, forge, remote }
    }

    /// Makes the second clone a node.
    fn join_second(&self) {
        let args = ["node", "join", self.nodes.url(), "--name", "b", "--headless", "--merge"];
        self.nodes.swarm.run_in(&self.nodes.second(), args).success();
    }

    /// Waits until a pull request is open.
    fn await_open(&self, number: usize) {
        let branch = self.forge.join(format!("{number}.branch"));
        self.nodes.swarm.wait_until("the pull request to be opened", || branch.exists());
    }

    /// Merges the branch of a ticket into the remote's `main`, as somebody would in the forge.
    fn merge_there(&self, ticket: &str) {
        let (swarm, clone) = (&self.nodes.swarm, self.nodes.place(&format!("clone-{ticket}")));
        swarm.git(["clone", "--quiet", self.remote.to_str().unwrap(), clone.to_str().unwrap()]).success();
        let at = |args: &[&str]| swarm.git_in(&clone, args).success();
        at(&["merge", "-q", "--squash", &format!("origin/swarm/{ticket}")]);
        at(&["commit", "-qm", &format!("Squashed {ticket}")]);
        at(&["push", "-q", "origin", "main"]);
    }

    /// Waits until the targets of both clones are where the remote's is, with their checkouts.
    fn await_followed(&self) {
        let merged = self.nodes.head(&self.remote);
        for clone in [self.nodes.first(), self.nodes.second()] {
            let is_clean =
                |clone: &Path| self.nodes.swarm.git_in(clone, ["status", "--porcelain"]).success().is_empty();
            self.nodes
                .swarm
                .wait_until("the target to follow", || self.nodes.head(&clone) == merged && is_clean(&clone));
        }
    }

    /// How many pull requests were opened.
    fn opened(&self) -> usize {
        let calls = fs::read_to_string(self.forge.join("calls")).unwrap_or_default();
        calls.lines().filter(|call| call.starts_with("create")).count()
    }

    /// The tickets that were worked on, in order.
    fn started(&self) -> String {
        fs::read_to_string(self.nodes.place("started.log")).unwrap()
    }
}

#[test]
fn what_one_node_landed_by_pull_request_is_where_another_one_begins() {
    let team = Team::new();
    let (nodes, swarm) = (&team.nodes, &team.nodes.swarm);
    nodes.join_first(&[]);
    swarm.run(["queue", "add", "--all"]).success();
    team.await_open(1);
    team.join_second();
    swarm.run(["node", "drain", "a"]).success();
    assert_eq!(nodes.state("a"), "draining", "what it offered has yet to be merged");
    assert_eq!(nodes.states(&nodes.second())["lower"], "approved");
    team.merge_there("lower");
    nodes.await_landed(&nodes.second(), &["lower"]);
    team.await_open(2);
    let seen = swarm.git_in(&nodes.second(), ["show", "swarm/upper:seen-by-upper.txt"]).success();
    assert!(seen.lines().any(|name| name == "lower.txt"), "{seen}");
    let offered = swarm.git_in(&nodes.second(), ["diff", "--name-only", "origin/main...swarm/upper"]).success();
    assert_eq!(offered, "seen-by-upper.txt\nupper.txt\n", "its pull request has its own work only");
    team.merge_there("upper");
    nodes.await_landed(&nodes.first(), &["upper"]);
    team.await_followed();
    assert_eq!((team.started().as_str(), team.opened()), ("lower\nupper\n", 2));
    // Nothing but the forge's merges moved a target, and the board says nothing of one.
    let tips = swarm.git(["for-each-ref", "refs/swarm/tip/", "refs/swarm/followed/"]).success();
    assert_eq!(tips, "");
    nodes.down();
}

#[test]
fn the_pull_request_of_a_node_that_is_gone_is_seen_to_its_end_by_another() {
    let team = Team::new();
    let (nodes, swarm) = (&team.nodes, &team.nodes.swarm);
    nodes.join_first(&[]);
    swarm.run(["queue", "add", "lower"]).success();
    team.await_open(1);
    let is_said = || swarm.run(["why", "lower"]).stdout.contains("was handed over as finished and approved");
    swarm.wait_until("the approval to be handed over", is_said);
    kill_process(nodes.coordinator(&nodes.first()), Signal::KILL).unwrap();
    team.join_second();
    let has_it = || nodes.second().join(".git/swarm/workers/lower").exists();
    swarm.wait_until("the other node to have it", has_it);
    team.merge_there("lower");
    nodes.await_landed(&nodes.second(), &["lower"]);
    assert_eq!((team.started().as_str(), team.opened()), ("lower\n", 1), "nothing was done twice");
    // The node that comes back follows, and gives its own worker up.
    swarm.run(["up", "--merge", "--headless", "--yes"]).success();
    team.await_followed();
    swarm.wait_until("its worktree to be released", || !swarm.worktree("lower").exists());
    assert_eq!((team.started().as_str(), team.opened()), ("lower\n", 1));
    nodes.down();
}
