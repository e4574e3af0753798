//! Where a play happens: the broker, and the nodes with their lines to it. Each node has surroundings of its own, as if it
//! were another machine, so that whatever runs there is known by its folder.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::super::blow::{freeze, send};
use super::broker::Broker;
use super::line::{Line, Way};
use crate::support::swarm::{Output, TestSwarm};

/// The nodes.
const NAMES: [&str; 3] = ["a", "b", "c"];
/// How long a coordinator that cannot be started is left alone.
const START_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// One clone with its own machine.
#[derive(Debug)]
pub(super) struct Node {
    /// What it is called.
    pub(super) name: &'static str,
    /// Its clone and surroundings.
    pub(super) swarm: TestSwarm,
    /// Its lines to the servers.
    lines: Vec<Line>,
    /// What is wrong with it.
    pub(super) trouble: Option<Trouble>,
}

/// What a fault did to a node, until that is undone.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Its coordinator does not run.
    Down,
    /// It takes nothing new.
    Drained,
    /// Its lines are not open.
    Apart,
    /// All of it is stopped.
    Suspended(Vec<u32>),
}

/// What puts something right, and when.
#[derive(Debug)]
struct Remedy {
    due: Instant,
    what: Mended,
}

/// What is put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mended {
    /// A node.
    Node(usize),
    /// A server.
    Server(usize),
}

/// A time in which a node could not know who else works on its tickets; seconds since 1970.
#[derive(Debug)]
pub(super) struct Blind {
    pub(super) node: &'static str,
    pub(super) from: f64,
    /// `None` while it lasts.
    pub(super) until: Option<f64>,
}

/// Everything of a play.
#[derive(Debug)]
pub(super) struct Field {
    /// The nodes; before the ground, whose end waits for all that runs.
    pub(super) nodes: Vec<Node>,
    /// Servers that are away.
    pub(super) away: Vec<usize>,
    broker: Broker,
    /// What is to be put right.
    remedies: Vec<Remedy>,
    /// When which node could not know everything.
    pub(super) blind: Vec<Blind>,
    /// The repository that all nodes clone, and what no fault touches.
    pub(super) ground: TestSwarm,
}

impl Node {
    /// A program of this node.
    fn run(&self, args: &[&str]) -> Output {
        self.swarm.run(args)
    }

    /// What the program answers in JSON; `None` where it does not.
    pub(super) fn ask(&self, args: &[&str]) -> Option<Value> {
        let said = self.run(args);
        if said.code == 0 { serde_json::from_str(&said.stdout).ok() } else { None }
    }

    /// Starts its coordinator, where that is not there; whether it is.
    pub(super) fn up(&self) -> bool {
        self.run(&["up", "--merge", "--headless", "--yes"]).code == 0
    }

    /// Lets its lines through, or not.
    pub(super) fn set_lines(&self, way: Way, resets: bool) {
        self.lines.iter().for_each(|line| line.set(way, resets));
    }

    /// Everything that runs there.
    pub(super) fn processes(&self) -> Vec<u32> {
        self.swarm.processes().into_iter().map(|(pid, _)| pid).collect()
    }

    /// Kills everything there at once.
    pub(super) fn kill(&self) {
        let all = freeze(|| self.processes().into_iter().collect());
        send(all, Signal::KILL);
        self.swarm.wait_until("everything there to be gone", || self.processes().is_empty());
    }

    /// Whether nothing is wrong with it.
    pub(super) fn is_well(&self) -> bool {
        self.trouble.is_none()
    }
}

impl Field {
    /// A broker and nodes; the backlog is in the repository already.
    pub(super) fn new(ground: TestSwarm, is_cluster: bool) -> Self {
        let broker = Broker::start(&ground, is_cluster);
        let node = |name| {
            let mut swarm = TestSwarm::without_repository();
            swarm.set_env("CHAOS", ground.root().as_os_str());
            swarm.set_env("CHAOS_NODE", name);
            let git = "[user]\nname = Person\nemail = person@example.com\n[gc]\nauto = 0\n";
            swarm.write_at(&swarm.root().join("home/.gitconfig"), git);
            let (from, to) = (ground.repository(), swarm.repository());
            ground.git(["clone", "--quiet", from.to_str().unwrap(), to.to_str().unwrap()]).success();
            let lines = broker.lines();
            Node { name, swarm, lines, trouble: None }
        };
        let nodes = NAMES.map(node).into();
        let field = Self { nodes, broker, away: Vec::new(), remedies: Vec::new(), blind: Vec::new(), ground };
        field.nodes.iter().for_each(|node| node.join());
        field
    }

    /// The first node with which nothing is wrong.
    pub(super) fn well(&self) -> Option<&Node> {
        self.nodes.iter().find(|node| node.is_well())
    }

    /// The nodes with which nothing is wrong, by their places.
    pub(super) fn all_well(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|at| self.nodes[*at].is_well()).collect()
    }

    /// Whether a server may be killed.
    pub(super) fn has_servers(&self) -> bool {
        self.away.is_empty() && self.broker.is_whole()
    }

    /// How many servers there are.
    pub(super) fn servers(&self) -> usize {
        self.broker.count()
    }

    /// Kills a server.
    pub(super) fn kill_server(&mut self, at: usize) {
        self.broker.kill(at);
        self.away.push(at);
        (0..self.nodes.len()).for_each(|node| self.blind(node));
    }

    /// Notes that something is wrong with a node from now on.
    pub(super) fn afflict(&mut self, at: usize, trouble: Trouble) {
        self.nodes[at].trouble = Some(trouble);
        self.blind(at);
    }

    /// Notes that a node cannot know everything from now on.
    pub(super) fn blind(&mut self, at: usize) {
        self.blind.push(Blind { node: self.nodes[at].name, from: now(), until: None });
    }

    /// Notes that a node, where nothing else is wrong, cannot know everything at this moment.
    pub(super) fn blind_for_now(&mut self, at: usize) {
        self.blind.push(Blind { node: self.nodes[at].name, from: now(), until: Some(now()) });
    }

    /// Starts what was to stay away.
    pub(super) fn bring_back_all(&mut self) {
        for at in 0..self.nodes.len() {
            if self.nodes[at].trouble.is_some() {
                self.mend_after(Mended::Node(at), Duration::ZERO);
            }
        }
        self.mend_all();
    }

    /// Puts something right after a while.
    pub(super) fn mend_after(&mut self, what: Mended, pause: Duration) {
        self.remedies.push(Remedy { due: Instant::now() + pause, what });
    }

    /// Whether something is still to be put right.
    pub(super) fn awaits(&self, what: Mended) -> bool {
        self.remedies.iter().any(|remedy| remedy.what == what)
    }

    /// Puts right what is due.
    pub(super) fn tend(&mut self) {
        for Remedy { due, what } in std::mem::take(&mut self.remedies) {
            if due > Instant::now() {
                self.remedies.push(Remedy { due, what });
            } else if !self.mend(what) {
                self.remedies.push(Remedy { due: Instant::now() + START_AGAIN_AFTER, what });
            }
        }
    }

    /// Puts right everything but nodes that are never to be there again, and waits until it is.
    pub(super) fn mend_all(&mut self) {
        let now = Instant::now();
        self.remedies.iter_mut().for_each(|remedy| remedy.due = now);
        let deadline = now + Duration::from_secs(90);
        while !self.remedies.is_empty() {
            assert!(Instant::now() < deadline, "not everything comes back: {:?}", self.remedies);
            self.tend();
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Puts one thing right; false where that has to be tried again.
    fn mend(&mut self, what: Mended) -> bool {
        match what {
            Mended::Server(at) => {
                self.broker.restart(&self.ground, at);
                self.away.retain(|away| *away != at);
                self.blind.iter_mut().for_each(|blind| blind.until = blind.until.or(Some(now())));
            }
            Mended::Node(at) => {
                let node = &mut self.nodes[at];
                match &node.trouble {
                    Some(Trouble::Down) if !node.up() => return false,
                    Some(Trouble::Drained) if node.run(&["node", "drain", node.name, "--undo"]).code != 0 => {
                        return false;
                    }
                    Some(Trouble::Apart) => node.set_lines(Way::Open, false),
                    Some(Trouble::Suspended(stopped)) => send(stopped.iter().copied(), Signal::CONT),
                    Some(Trouble::Down | Trouble::Drained) | None => {}
                }
                node.trouble = None;
                let own = self.blind.iter_mut().filter(|blind| blind.node == node.name);
                own.for_each(|blind| blind.until = blind.until.or(Some(now())));
            }
        }
        true
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
}

impl Node {
    /// Makes its clone a node; its coordinator runs from then on.
    fn join(&self) {
        let url: Vec<_> = self.lines.iter().map(Line::url).collect();
        self.run(&["trust", "--yes"]).success();
        let args = ["node", "join", &url.join(","), "--name", self.name, "--headless", "--merge", "--yes"];
        // The servers of a cluster have to agree on who leads first.
        self.swarm.wait_until("the node to join", || self.run(&args).code == 0);
    }
}
