//! How long a ticket waits for a process that waits for tickets.
//!
//! One process publishes, another waits as a coordinator that has nothing to do does, and claims. The time is from the
//! return of `publish` to the return of `claim`. With the NATS engine the two are two machines: each has a replica and, as
//! each coordinator does, answers other programs beside.

use std::path::Path;
use std::time::Duration;

use swarm::bench_internals::{QueueBench, Waiting};

use crate::process::{Server, Talker, again, nanoseconds, open, print_bar};

/// Tickets of each engine.
const TICKETS: u64 = 150;
/// The pause between two, at least: a coordinator has looked again by then, and has nothing to do.
const PAUSE: Duration = Duration::from_millis(160);
/// Milliseconds that it is longer by at most, so that tickets come at any moment between two peeks.
const SPREAD: u64 = 50;

/// What waits in one engine, and who publishes for it.
struct Side {
    queue: QueueBench,
    waiter: Talker,
    times: Vec<f64>,
}

impl Side {
    /// Starts a process that waits.
    fn start(url: Option<&str>, folder: &Path) -> Self {
        let queue = open(url, folder, "publisher");
        Self { queue, waiter: Talker::start(again("waiter", url, folder, "waiter")), times: Vec::new() }
    }

    /// Publishes a ticket and waits until it is claimed.
    fn assign(&mut self, number: u64) {
        let name = format!("t{number}");
        self.queue.publish(&name);
        let published = nanoseconds();
        let line = self.waiter.hear();
        let (claimed, at) = line.split_once(' ').expect("a name and a moment");
        assert_eq!(claimed, name);
        let at: i64 = at.parse().expect("the moment is a number");
        // A claim may return before the publication that it is about does.
        self.times.push((at - published).max(0) as f64 / 1e6);
    }
}

/// Measures both engines, ticket by ticket in turns.
pub(crate) fn compare() {
    let (folder, server) = (tempfile::tempdir().expect("a temp folder"), Server::start());
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    for place in [&here, &there] {
        std::fs::create_dir(place).expect("the folder is fresh");
    }
    let mut file = Side::start(None, &here);
    let mut nats = Side::start(Some(&server.url), &there);
    let _gateway = nats.queue.gateway();
    for number in 0..TICKETS {
        let spread = number * 37 % SPREAD;
        std::thread::sleep(PAUSE + Duration::from_millis(spread));
        file.assign(number);
        nats.assign(number);
    }
    println!("from `publish` to the claim of a process that waits, {TICKETS} tickets:");
    print_bar("file engine", &file.times, 10.0);
    print_bar("NATS engine", &nats.times, 50.0);
}

/// Waits for tickets and says when it had each, until it is ended.
pub(crate) fn wait(url: Option<&str>, folder: &Path, name: &str) {
    let queue = open(url, folder, name);
    let _gateway = url.map(|_| queue.gateway());
    let waiting = Waiting::on(queue);
    println!("ready");
    loop {
        let (ticket, _) = waiting.next();
        println!("{ticket} {}", nanoseconds());
    }
}
