//! A real NATS server for one test.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::swarm::TestSwarm;

/// No test waits longer for a server.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that keeps its streams in a folder of the test; killed with the value.
#[derive(Debug)]
pub(crate) struct NatsServer {
    /// The process.
    child: Child,
    /// Where it can be reached.
    url: String,
}

impl NatsServer {
    /// Starts one on a port that the system chose.
    pub(crate) fn start(swarm: &TestSwarm) -> Self {
        Self::start_at(swarm, "-1")
    }

    /// Starts one on a port.
    pub(crate) fn start_at(swarm: &TestSwarm, port: &str) -> Self {
        let folder = swarm.root().join("nats");
        std::fs::create_dir_all(&folder).unwrap();
        let mut command = swarm.command(tool(swarm, "install-nats"), swarm.root());
        command.args(["-js", "-a", "127.0.0.1", "-p", port, "-sd"]).arg(folder.join("streams"));
        command.arg("--ports_file_dir").arg(&folder);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Ended with the value, also when it never says where it is.
        let mut server = Self { child, url: String::new() };
        let ports = folder.join(format!("nats-server_{}.ports", server.child.id()));
        let started = Instant::now();
        loop {
            assert!(started.elapsed() < PATIENCE, "the server did not start");
            let text = std::fs::read_to_string(&ports).unwrap_or_default();
            let found = serde_json::from_str::<Value>(&text).ok();
            if let Some(url) = found.as_ref().and_then(|found| found["nats"][0].as_str()) {
                url.clone_into(&mut server.url);
                return server;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Where it can be reached.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Its port.
    pub(crate) fn port(&self) -> String {
        self.url.rsplit(':').next().unwrap().to_owned()
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
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
