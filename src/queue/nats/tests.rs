//! The NATS engine under the contract, on a real server, and what only it promises.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::change::{Change, Draft};
use super::{Log, NatsQueue};
use crate::model::settings::Durability;
use crate::model::ticket::{DependencyKind, Ticket, TicketState};
use crate::process;
use crate::queue::contract::{Engine, needs, publish, queue_contract, request, ticket};
use crate::queue::file::operation::Operation;
use crate::queue::{ClaimRequest, Completion, Queue, QueueError};
use crate::store::{Content, StatePaths, Store};

/// No test waits longer for a server.
const DEADLINE: Duration = Duration::from_secs(20);

/// A server of its own, ended with the value.
struct Server {
    /// The process.
    child: Child,
    /// Where it can be reached.
    url: String,
}

impl Server {
    /// Starts one that keeps its streams in `folder`, on a port that the system chose.
    fn start(folder: &Path) -> Self {
        Self::start_at(folder, "-1")
    }

    /// Starts one on that port.
    fn start_at(folder: &Path, port: &str) -> Self {
        let mut command = process::command(program());
        command.args(["-js", "-a", "127.0.0.1", "-p", port, "-sd"]).arg(folder.join("streams"));
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

/// A change of one event, as an operation of a queue would make it.
fn change(name: &str) -> Change {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&StatePaths::new(folder.path()), Durability::Normal).unwrap();
    let made: Result<Change, QueueError> = store.write(|txn| {
        let draft = Draft::new(1);
        let ticket = ticket(name);
        Operation::new(txn, "tests").told_to(&draft).publish(&Content::new(&ticket, name)?)?;
        draft.finish(txn)
    });
    made.unwrap()
}

#[test]
fn a_change_whose_answer_was_lost_is_offered_again_without_harm() {
    let engine = NatsEngine::fresh();
    let log = Log::open(&engine.server.url, "tests").unwrap();
    let (first, second) = (change("first"), change("second"));
    assert!(log.append(0, &first).unwrap());
    assert_eq!(log.offer(0, &first, true).unwrap(), Some(true), "it had arrived");
    assert_eq!(log.offer(0, &second, true).unwrap(), Some(false), "the place is another's");
    assert!(!log.append(0, &second).unwrap());
    assert!(log.append(1, &second).unwrap());
    let found: Vec<_> = log.read(1, log.last().unwrap()).unwrap();
    assert_eq!(found.iter().map(|(_, change)| &change.id).collect::<Vec<_>>(), [&first.id, &second.id]);
}

#[test]
fn what_was_acknowledged_survives_the_end_of_the_server_and_callers_wait_for_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let (url, port) = (server.url.clone(), server.url.rsplit(':').next().unwrap().to_owned());
    let replicas: Vec<_> = ["one", "two"].map(|name| folder.path().join(name)).into();
    replicas.iter().for_each(|replica| std::fs::create_dir(replica).unwrap());
    let (one, two) = (queue(&url, &replicas[0]), queue(&url, &replicas[1]));
    publish(&one, ticket("before")).unwrap();
    drop(server);
    let (published, server) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| publish(&one, ticket("meanwhile")));
        let server = Server::start_at(folder.path(), &port);
        (waiting.join().unwrap(), server)
    });
    assert_eq!(published.unwrap(), TicketState::Queued);
    let claimed = two.claim(&ClaimRequest { limit: 9, ..request() }).unwrap();
    assert_eq!(claimed.iter().map(|claim| claim.ticket.id.as_str()).collect::<Vec<_>>(), ["before", "meanwhile"]);
    drop(server);
}

#[test]
fn without_a_server_the_caller_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let url = server.url.clone();
    drop(server);
    let refused = Log::open(&url, "tests").unwrap_err();
    assert_eq!(refused.to_string(), format!("no NATS server answered at `{url}`"));
}

#[test]
fn replicas_have_the_same_tables_whoever_made_the_changes() {
    let engine = NatsEngine::fresh();
    let handles: Vec<_> = (0..3).map(|_| engine.handle()).collect();
    for number in 0..30 {
        let depends_on = if number % 3 == 2 { vec![needs("t0", DependencyKind::Success)] } else { Vec::new() };
        let ticket = Ticket { priority: 1 + number % 5, depends_on, ..ticket(&format!("t{number}")) };
        publish(&*handles[usize::from(number % 3)], ticket).unwrap();
    }
    for handle in &handles {
        for claim in handle.claim(&ClaimRequest { limit: 5, ..request() }).unwrap() {
            handle.complete(&claim.ticket.id, claim.fence, Completion::Done).unwrap();
        }
    }
    let (first, events) = (handles[0].snapshot().unwrap(), handles[0].events_since(0, 999).unwrap());
    assert!(first.iter().any(|entry| entry.state == TicketState::Done) && events.len() > 40);
    for handle in &handles[1..] {
        assert_eq!(handle.snapshot().unwrap(), first);
        assert_eq!(handle.events_since(0, 999).unwrap(), events);
    }
}

#[test]
fn a_log_that_lost_what_the_replica_has_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let replica = folder.path().join("replica");
    std::fs::create_dir(&replica).unwrap();
    let server = Server::start(folder.path());
    publish(&queue(&server.url, &replica), ticket("kept")).unwrap();
    drop(server);
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let server = Server::start(&other);
    let refused = queue(&server.url, &replica).snapshot().unwrap_err();
    let reason = std::error::Error::source(&refused).unwrap().to_string();
    assert_eq!(reason, "the log ends at 0, but this machine's replica has 1 of its messages");
}
