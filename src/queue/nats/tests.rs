//! The NATS engine under the contract, on a real server, and what only it promises.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Log, NatsQueue};
use crate::model::settings::Durability;
use crate::process;
use crate::queue::Queue;
use crate::queue::contract::{Engine, queue_contract};
use crate::store::{StatePaths, Store};

/// No test waits longer for a server.
const DEADLINE: Duration = Duration::from_secs(20);

/// A server of its own, ended with the value.
pub(crate) struct Server {
    /// The process.
    child: Child,
    /// Where it can be reached.
    pub(crate) url: String,
}

impl Server {
    /// Starts one that keeps its streams in `folder`, on a port that the system chose.
    pub(crate) fn start(folder: &Path) -> Self {
        let mut command = process::command(program());
        command.args(["-js", "-a", "127.0.0.1", "-p", "-1", "-sd"]).arg(folder.join("streams"));
        command.arg("--ports_file_dir").arg(folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = process::spawn(&mut command).unwrap();
        let ports = folder.join(format!("nats-server_{}.ports", child.id()));
        let started = Instant::now();
        let url = loop {
            assert!(started.elapsed() < DEADLINE, "the server did not start");
            let text = std::fs::read_to_string(&ports).unwrap_or_default();
            let found = serde_json::from_str::<serde_json::Value>(&text).ok();
            if let Some(url) = found.as_ref().and_then(|found| found["nats"][0].as_str()) {
                break url.to_owned();
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        Self { child, url }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        process::forget(self.child.id());
    }
}

/// The server program that `tests/tools/install-nats` keeps.
fn program() -> String {
    let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/install-nats");
    let mut child = process::spawn(process::command(tool).arg("--print-path").stdout(Stdio::piped())).unwrap();
    let mut path = String::new();
    child.stdout.take().unwrap().read_to_string(&mut path).unwrap();
    child.wait().unwrap();
    process::forget(child.id());
    path.trim().to_owned()
}

/// A queue on a server of its own; every handle has its own replica, as a machine would.
struct NatsEngine {
    /// Ended before its folder goes.
    server: Server,
    /// Streams and replicas.
    folder: TempDir,
}

impl Engine for NatsEngine {
    fn fresh() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { server: Server::start(folder.path()), folder }
    }

    fn handle(&self) -> Box<dyn Queue> {
        Self::handle_at(&self.address())
    }

    fn address(&self) -> String {
        format!("{} {}", self.server.url, self.folder.path().display())
    }

    fn handle_at(address: &str) -> Box<dyn Queue> {
        static REPLICAS: AtomicUsize = AtomicUsize::new(0);
        let (url, folder) = address.split_once(' ').unwrap();
        let number = REPLICAS.fetch_add(1, Ordering::Relaxed);
        let replica = Path::new(folder).join(format!("replica-{}-{number}", std::process::id()));
        std::fs::create_dir(&replica).unwrap();
        Box::new(queue(url, &replica))
    }
}

/// A queue with its replica in a folder.
fn queue(url: &str, replica: &Path) -> NatsQueue {
    let store = Arc::new(Store::open(&StatePaths::new(replica), Durability::Normal).unwrap());
    NatsQueue::new(Log::open(url, "tests").unwrap(), store, "tests")
}

queue_contract!(NatsEngine, "queue::nats::tests");
