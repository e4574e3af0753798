//! Publish, claim and complete by one client and by eight.

use std::path::Path;
use std::process::Child;
use std::time::Instant;

use crate::process::{Server, again, open};

/// Tickets of each client.
const ROUNDS: usize = 300;

/// Measures both engines with one client and with eight.
pub(crate) fn compare() {
    for clients in [1, 8] {
        let file = throughput(clients, None);
        let server = Server::start();
        let nats = throughput(clients, Some(&server.url));
        println!("publish + claim + complete, {clients} clients, {ROUNDS} tickets each:");
        println!("  file engine {file:8.0} tickets/s");
        println!("  NATS engine {nats:8.0} tickets/s  ({:.3} of the file engine)", nats / file);
    }
}

/// Tickets a second through one engine.
fn throughput(clients: usize, url: Option<&str>) -> f64 {
    let folder = tempfile::tempdir().expect("a temp folder");
    let started = Instant::now();
    let start = |number: usize| {
        let mut command = again("client", url, folder.path(), &number.to_string());
        command.spawn().expect("the bench starts itself")
    };
    let children: Vec<Child> = (0..clients).map(start).collect();
    for mut child in children {
        assert!(child.wait().expect("a client ends").success());
    }
    (clients * ROUNDS) as f64 / started.elapsed().as_secs_f64()
}

/// The work of one client.
pub(crate) fn client(url: Option<&str>, folder: &Path, number: &str) {
    let queue = open(url, folder, number);
    for round in 0..ROUNDS {
        queue.publish(&format!("t{number}-{round}"));
        let (name, fence) = queue.claim().expect("everybody publishes before they claim");
        queue.complete(&name, fence);
    }
}
