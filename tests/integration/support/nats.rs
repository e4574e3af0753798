//! Real NATS servers for one test: one, or a cluster of three.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::swarm::TestSwarm;

/// No test waits longer for a server.
const PATIENCE: Duration = Duration::from_secs(60);
/// The servers of a cluster.
const CLUSTER: usize = 3;

/// A server that keeps its streams in a folder of the test; killed with the value.
#[derive(Debug)]
pub(crate) struct NatsServer {
    /// The process.
    child: Child,
    /// Where it can be reached.
    url: String,
    /// Where it tells how it is; empty where nobody asked for that.
    monitor: String,
}

impl NatsServer {
    /// Starts one on a port that the system chose.
    pub(crate) fn start(swarm: &TestSwarm) -> Self {
        Self::start_at(swarm, "-1")
    }

    /// Starts one on a port.
    pub(crate) fn start_at(swarm: &TestSwarm, port: &str) -> Self {
        Self::start_in(swarm, "nats", port, &[])
    }

    /// Starts one with its files in a folder beside the repository.
    fn start_in(swarm: &TestSwarm, folder: &str, port: &str, more: &[String]) -> Self {
        let folder = swarm.root().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        let mut command = swarm.command(tool(swarm, "install-nats"), swarm.root());
        command.args(["-js", "-a", "127.0.0.1", "-p", port, "-sd"]).arg(folder.join("streams"));
        command.arg("--ports_file_dir").arg(&folder).arg("--log").arg(folder.join("log")).args(more);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Ended with the value, also when it never says where it is.
        let mut server = Self { child, url: String::new(), monitor: String::new() };
        let ports = folder.join(format!("nats-server_{}.ports", server.child.id()));
        let started = Instant::now();
        loop {
            assert!(started.elapsed() < PATIENCE, "the server did not start");
            let text = std::fs::read_to_string(&ports).unwrap_or_default();
            let found = serde_json::from_str::<Value>(&text).ok();
            if let Some(url) = found.as_ref().and_then(|found| found["nats"][0].as_str()) {
                url.clone_into(&mut server.url);
                let monitor = found.as_ref().and_then(|found| found["monitoring"][0].as_str()).unwrap_or_default();
                monitor.trim_start_matches("http://").clone_into(&mut server.monitor);
                return server;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Where it can be reached.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Whether it says that it has all that it should have (docs.nats.io, "Monitoring JetStream", `/healthz`).
    fn is_healthy(&self) -> bool {
        let ask = || {
            let mut stream = TcpStream::connect(&self.monitor)?;
            stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok::<_, std::io::Error>(answer)
        };
        ask().is_ok_and(|answer| answer.lines().next().is_some_and(|line| line.contains(" 200 ")))
    }

    /// What it answers to a request on a subject, as any client would make it.
    pub(crate) fn ask(&self, subject: &str, request: &Value) -> Value {
        let mut stream = TcpStream::connect(self.url.trim_start_matches("nats://")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = request.to_string();
        let length = request.len();
        write!(stream, "CONNECT {{}}\r\nSUB answer 1\r\nPUB {subject} answer {length}\r\n{request}\r\n").unwrap();
        let lines = BufReader::new(stream).lines().map(Result::unwrap);
        let answer = lines.skip_while(|line| !line.starts_with("MSG answer")).nth(1).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    /// Its port.
    pub(crate) fn port(&self) -> String {
        self.url.rsplit(':').next().unwrap().to_owned()
    }

    /// Ends it.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three servers that keep every stream three times where they are asked to.
#[derive(Debug)]
pub(crate) struct NatsCluster {
    /// Those that run.
    servers: [Option<NatsServer>; CLUSTER],
    /// Where clients reach each.
    ports: [u16; CLUSTER],
    /// Where the others reach each.
    routes: [u16; CLUSTER],
}

impl NatsCluster {
    /// Starts all three, on ports that the system chose.
    pub(crate) fn start(swarm: &TestSwarm) -> Self {
        // All are known before the first one starts, so that each is there again where the others look for it.
        let listeners: Vec<_> = (0..2 * CLUSTER).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let chosen = |at: usize| listeners[at].local_addr().unwrap().port();
        let (ports, routes) = (std::array::from_fn(chosen), std::array::from_fn(|at| chosen(CLUSTER + at)));
        drop(listeners);
        let mut cluster = Self { servers: [const { None }; CLUSTER], ports, routes };
        (0..CLUSTER).for_each(|at| cluster.restart(swarm, at));
        cluster
    }

    /// Starts one that does not run.
    pub(crate) fn restart(&mut self, swarm: &TestSwarm, at: usize) {
        let route = |port: &u16| format!("nats://127.0.0.1:{port}");
        let routes: Vec<_> = self.routes.iter().map(route).collect();
        let named = [("--server_name", format!("s{at}")), ("--cluster_name", "tests".to_owned())];
        let places = [("--cluster", routes[at].clone()), ("--routes", routes.join(","))];
        let more = named.into_iter().chain(places).flat_map(|(name, value)| [name.to_owned(), value]);
        // Clients reach a server only where the test says that it is.
        let more: Vec<_> = more.chain(["--no_advertise=true", "-m", "-1"].map(str::to_owned)).collect();
        let port = self.ports[at].to_string();
        self.servers[at] = Some(NatsServer::start_in(swarm, &format!("nats{at}"), &port, &more));
    }

    /// Kills one.
    pub(crate) fn kill(&mut self, at: usize) {
        self.servers[at] = None;
    }

    /// Whether all run and have everything that any has: then one may be lost.
    pub(crate) fn is_whole(&self) -> bool {
        self.servers.iter().all(|server| server.as_ref().is_some_and(NatsServer::is_healthy))
    }

    /// Where clients reach each.
    pub(crate) fn ports(&self) -> [u16; CLUSTER] {
        self.ports
    }

    /// Where it can be reached, as settings say it.
    pub(crate) fn url(&self) -> String {
        self.ports.map(|port| format!("nats://127.0.0.1:{port}")).join(",")
    }
}

/// What a script of `tests/tools` keeps: the server with `install-nats`.
pub(crate) fn tool(swarm: &TestSwarm, name: &str) -> String {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools").join(name);
    let mut command = swarm.command(tool, Path::new("/"));
    // Its cache is in the home folder of whoever runs the tests, or where they say.
    for name in ["HOME", "SWARM_TEST_CACHE"] {
        std::env::var_os(name).map(|value| command.env(name, value));
    }
    let output = command.arg("--print-path").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
