//! The NATS engine against the file engine, in one run: publish, claim and complete by one client and by eight.
//!
//! Each client is a process. Those of the file engine share one store, as on one machine; those of the NATS engine have
//! a replica each, as if each were a machine of its own, and a server on loopback with files for its streams and its own
//! default of `sync_interval`. There is no bar: design section 10 names none for the NATS engine.
//!
//! Run it with `cargo bench --bench queue_nats --features bench-internals`, after `tests/tools/install-nats`.

#![expect(clippy::print_stdout, reason = "a bench answers on standard output")]
#![expect(clippy::disallowed_methods, reason = "a bench is outside the program's own door")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use swarm::bench_internals::QueueBench;

/// Tickets of each client.
const ROUNDS: usize = 300;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    // A child is `queue_nats client URL|- FOLDER NUMBER`; cargo itself passes `--bench`.
    match args.get(1..5) {
        Some([kind, url, folder, number]) if kind == "client" => client(url, folder.as_ref(), number),
        _ => compare(),
    }
}

/// Measures both engines with one client and with eight.
fn compare() {
    for clients in [1, 8] {
        let file = throughput(clients, None);
        let folder = tempfile::tempdir().expect("a temp folder");
        let (mut server, url) = start_server(folder.path());
        let nats = throughput(clients, Some(&url));
        server.kill().expect("the server runs");
        server.wait().expect("the server ends");
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
        let mut command = Command::new(std::env::current_exe().expect("the bench's own path"));
        command.args(["client", url.unwrap_or("-")]).arg(folder.path()).arg(number.to_string());
        command.stdin(Stdio::null()).spawn().expect("the bench starts itself")
    };
    let children: Vec<Child> = (0..clients).map(start).collect();
    for mut child in children {
        assert!(child.wait().expect("a client ends").success());
    }
    (clients * ROUNDS) as f64 / started.elapsed().as_secs_f64()
}

/// The work of one client.
fn client(url: &str, folder: &Path, number: &str) {
    let queue = match url {
        "-" => QueueBench::open(folder),
        _ => {
            let replica = folder.join(number);
            std::fs::create_dir(&replica).expect("a folder of its own");
            QueueBench::open_nats(url, &replica)
        }
    };
    for round in 0..ROUNDS {
        queue.publish(&format!("t{number}-{round}"));
        let (name, fence) = queue.claim().expect("everybody publishes before they claim");
        queue.complete(&name, fence);
    }
}

/// Starts a server on a port that the system chose; the process and its address.
fn start_server(folder: &Path) -> (Child, String) {
    let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/install-nats");
    let answer = Command::new(tool).arg("--print-path").output().expect("the tool runs");
    let program = String::from_utf8(answer.stdout).expect("a path");
    let mut command = Command::new(program.trim());
    command.args(["-js", "-a", "127.0.0.1", "-p", "-1", "-sd"]).arg(folder.join("streams"));
    command.arg("--ports_file_dir").arg(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut server = command.spawn().expect("the server starts; `tests/tools/install-nats` fetches it");
    let Some(url) = address(&folder.join(format!("nats-server_{}.ports", server.id()))) else {
        server.kill().expect("the server runs");
        server.wait().expect("the server ends");
        panic!("the server did not start");
    };
    (server, url)
}

/// Waits for the file in which a server writes down its addresses.
fn address(ports: &Path) -> Option<String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        let text = std::fs::read_to_string(ports).unwrap_or_default();
        if let Some(url) = text.split('"').find(|part| part.starts_with("nats://")) {
            return Some(url.to_owned());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    None
}
