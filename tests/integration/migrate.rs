//! `swarm queue migrate`, killed at each of its steps: whatever it was about to say to the server, or had just said without
//! hearing the answer, the next command finds every ticket once and as it was.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::support::nats::NatsServer;
use crate::support::swarm::{SWARM, TestSwarm};

/// What the proxy does with the part of a conversation that it stops at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// The server does not hear it.
    Before,
    /// The server hears it, and its answer is heard by nobody.
    After,
}

/// Stands between `swarm` and a server, and says when so many parts of what `swarm` says were there.
struct Proxy {
    /// Its own address.
    url: String,
    /// Parts that are passed on until it stops; below zero: all.
    left: Arc<AtomicI64>,
    /// Whether the part at which it stops is passed on.
    passes_last: Arc<AtomicBool>,
    /// Hears that it stopped.
    stopped: mpsc::Receiver<()>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Begins to listen.
    fn start(server: &NatsServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let (left, passes_last) = (Arc::new(AtomicI64::new(-1)), Arc::<AtomicBool>::default());
        let over = Arc::<AtomicBool>::default();
        let (tell, stopped) = mpsc::channel();
        let port = server.port();
        let parts = (left.clone(), passes_last.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            let (left, passes_last, over) = parts;
            for client in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let (client, server) = (client.unwrap(), TcpStream::connect(format!("127.0.0.1:{port}")).unwrap());
                let (mut answers, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                // What the server says when it has done the last part; nothing of that is heard by the client.
                let last_answer = Arc::<Mutex<Option<&[u8]>>>::default();
                let (answer, told) = (last_answer.clone(), tell.clone());
                std::thread::spawn(move || {
                    pass(&mut answers, |part| match *answer.lock().unwrap() {
                        None => to_client.write_all(part).is_ok(),
                        Some(wanted) if part.windows(wanted.len()).any(|it| it == wanted) => {
                            // Nobody may listen any more.
                            told.send(()).ok();
                            true
                        }
                        Some(_) => true,
                    });
                });
                let (left, passes_last, tell) = (left.clone(), passes_last.clone(), tell.clone());
                std::thread::spawn(move || {
                    let (mut client, mut server) = (client, server);
                    pass(&mut client, |part| {
                        let now = left.load(Ordering::SeqCst);
                        if now > 0 {
                            left.store(now - 1, Ordering::SeqCst);
                        }
                        if now != 0 {
                            return server.write_all(part).is_ok();
                        }
                        let is_request = part.windows(4).any(|it| it == b"PUB ");
                        *last_answer.lock().unwrap() = Some(if is_request { b"MSG " } else { b"PONG" });
                        if passes_last.load(Ordering::SeqCst) {
                            server.write_all(part).and_then(|()| server.write_all(b"PING\r\n")).is_ok()
                        } else {
                            tell.send(()).is_ok()
                        }
                    });
                    server.shutdown(std::net::Shutdown::Both).ok();
                });
            }
        });
        Self { url, left, passes_last, stopped, over, thread: Some(thread) }
    }

    /// Stops at the part with this number, from 0.
    fn stop_at(&self, part: i64, cut: Cut) {
        self.passes_last.store(cut == Cut::After, Ordering::SeqCst);
        self.left.store(part, Ordering::SeqCst);
    }

    /// Passes everything on again.
    fn pass_all(&self) {
        self.left.store(-1, Ordering::SeqCst);
        while self.stopped.try_recv().is_ok() {}
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        TcpStream::connect(self.url.trim_start_matches("nats://")).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Hands every part that comes on, until that is of no use any more.
fn pass(from: &mut TcpStream, mut hand_on: impl FnMut(&[u8]) -> bool) {
    let mut part = vec![0; 256 * 1024];
    while let Ok(length @ 1..) = from.read(&mut part) {
        if !hand_on(&part[..length]) {
            return;
        }
    }
}

/// Runs `queue migrate` and kills it where the proxy stops; whether it was killed.
fn migrate_and_kill(swarm: &TestSwarm, proxy: &Proxy, to: &str) -> bool {
    let mut command = swarm.command(SWARM, &swarm.repository());
    command.args(["queue", "migrate", "--to", to]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut ended = None;
    let mut is_stopped = false;
    swarm.wait_until("the move to end or to be stopped", || {
        ended = child.try_wait().unwrap();
        is_stopped = proxy.stopped.recv_timeout(Duration::from_millis(5)).is_ok();
        ended.is_some() || is_stopped
    });
    if !is_stopped {
        assert!(ended.unwrap().success(), "{ended:?}");
        return false;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    true
}

#[test]
fn a_move_that_is_killed_at_any_step_loses_and_doubles_nothing() {
    let swarm = TestSwarm::new();
    let server = NatsServer::start(&swarm);
    let proxy = Proxy::start(&server);
    swarm.write_shell_agent("shell", "true");
    for id in ["one", "two"] {
        swarm.write_ticket(id, "shell", "Do it.");
    }
    swarm.write(".swarm/tickets/after.md", "---\nagent: shell\ndepends_on: [two]\n---\nDo after.\n");
    swarm.run(["queue", "add", "one", "two", "after"]).success();
    swarm.run(["queue", "cancel", "one"]).success();
    let list = || swarm.json(["queue", "list", "--all"]);
    let before = list()["tickets"].clone();
    let is_on_server = |view: &Value| view["queue"]["engine"] == "nats";
    let mut kills = [0, 0];
    for (direction, to) in [(0, proxy.url.as_str()), (1, "file")] {
        for cut in [Cut::Before, Cut::After] {
            for part in 0.. {
                // Where it begins.
                if is_on_server(&list()) != (direction == 1) {
                    let home = if direction == 1 { proxy.url.as_str() } else { "file" };
                    swarm.run(["queue", "migrate", "--to", home]).success();
                }
                swarm.write(".swarm/config.yaml", &format!("queue: {}\n", proxy.url));
                proxy.stop_at(part, cut);
                let was_killed = migrate_and_kill(&swarm, &proxy, to);
                proxy.pass_all();
                if !was_killed {
                    break;
                }
                kills[direction] += 1;
                let place = format!("to {to}, killed {cut:?} part {part}");
                // Whichever place the settings name: the one that is wrong is refused, and changes nothing.
                let view = swarm.run(["queue", "list", "--all", "--json"]).expect_code(0).json();
                assert_eq!(view["tickets"], before, "{place}");
                // The same again goes on with it, or says that it is there.
                let again = swarm.run(["queue", "migrate", "--to", to]);
                let is_there = again.stderr.contains("the tickets of this project are there already");
                assert!(again.code == 0 || is_there, "{place}: {}", again.transcript());
                let view = list();
                assert_eq!((&view["tickets"], is_on_server(&view)), (&before, direction == 0), "{place}");
            }
        }
    }
    assert!(kills[0] >= 10 && kills[1] >= 6, "{kills:?}");
}

/// Whether the stream of the project is a queue for others.
fn is_named(server: &NatsServer) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        let found = async_nats::jetstream::new(client).get_stream("SWARM_project").await;
        found.is_ok_and(|found| found.cached_info().config.metadata.contains_key("swarm-log"))
    })
}

#[test]
fn what_another_clone_queues_before_a_killed_move_is_finished_is_kept() {
    let swarm = TestSwarm::new();
    let server = NatsServer::start(&swarm);
    let proxy = Proxy::start(&server);
    swarm.write_shell_agent("shell", "true");
    swarm.write_ticket("one", "shell", "Do it.");
    swarm.run(["queue", "add", "one"]).success();
    let clone = swarm.root().join("clone/project");
    swarm.git(["clone", "--quiet", ".", clone.to_str().unwrap()]).success();
    swarm.write_at(&clone.join(".swarm/config.yaml"), &format!("queue: {}\n", server.url()));
    swarm.write_at(&clone.join(".swarm/tickets/theirs.md"), "Do theirs.\n");
    swarm.write(".swarm/config.yaml", &format!("queue: {}\n", proxy.url));
    let migrate = |to: &str| swarm.run(["queue", "migrate", "--to", to]).success();
    for part in 0.. {
        proxy.stop_at(part, Cut::After);
        assert!(migrate_and_kill(&swarm, &proxy, &proxy.url), "the queue was never named without being finished");
        proxy.pass_all();
        if is_named(&server) {
            break;
        }
        migrate(&proxy.url);
        migrate("file");
    }
    swarm.run_in(&clone, ["queue", "add", "theirs"]).expect_code(0);
    migrate(&proxy.url);
    let view = swarm.json(["queue", "list"]);
    let queued: Vec<_> = view["tickets"].as_array().unwrap().iter().map(|entry| entry["ticket"].clone()).collect();
    assert_eq!(queued, ["one", "theirs"]);
    swarm.run(["queue", "cancel", "theirs"]).success();
    let view = swarm.run_in(&clone, ["queue", "list", "--json"]).expect_code(0).json();
    assert_eq!((view["tickets"].as_array().unwrap().len(), &view["tickets"][0]["ticket"]), (1, &"one".into()));
}
