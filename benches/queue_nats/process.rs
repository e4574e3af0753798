//! The processes of this bench and its clocks.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use swarm::bench_internals::QueueBench;
use tempfile::TempDir;

/// A server with its streams in a folder of its own, until it is dropped.
pub(crate) struct Server {
    process: Child,
    /// Its address.
    pub(crate) url: String,
    _folder: TempDir,
}

impl Server {
    /// Starts one on a port that the system chose.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temp folder");
        let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/install-nats");
        let answer = Command::new(tool).arg("--print-path").output().expect("the tool runs");
        let program = String::from_utf8(answer.stdout).expect("a path");
        let mut command = Command::new(program.trim());
        command.args(["-js", "-a", "127.0.0.1", "-p", "-1", "-sd"]).arg(folder.path().join("streams"));
        command.arg("--ports_file_dir").arg(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("the server starts; `tests/tools/install-nats` fetches it");
        let ports = folder.path().join(format!("nats-server_{}.ports", process.id()));
        let mut server = Self { process, url: String::new(), _folder: folder };
        server.url = address(&ports).expect("the server writes down its address");
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
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

/// Opens the queue of a server, or of the folder where there is none. A client of the NATS engine has a replica of its own,
/// in the folder's part of that name.
pub(crate) fn open(url: Option<&str>, folder: &Path, name: &str) -> QueueBench {
    let Some(url) = url else { return QueueBench::open(folder) };
    let replica = folder.join(name);
    std::fs::create_dir(&replica).expect("a folder of its own");
    QueueBench::open_nats(url, &replica)
}

/// This bench again, to do one part: `KIND URL|- FOLDER NAME`.
pub(crate) fn again(kind: &str, url: Option<&str>, folder: &Path, name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the bench's own path"));
    command.args([kind, url.unwrap_or("-")]).arg(folder).arg(name).stdin(Stdio::null());
    command
}

/// A child that talks by lines, until it is dropped: it ends when its input does.
pub(crate) struct Talker {
    process: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Talker {
    /// Starts one and waits for its first line.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the bench starts itself");
        let lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let mut talker = Self { input: process.stdin.take(), process, lines };
        assert_eq!(talker.hear(), "ready");
        talker
    }

    /// Its next line.
    pub(crate) fn hear(&mut self) -> String {
        self.lines.next().expect("the child lives").expect("it speaks UTF-8")
    }

    /// Asks for its next line.
    pub(crate) fn ask(&mut self) -> String {
        writeln!(self.input.as_ref().expect("it is there until the end")).expect("the child lives");
        self.hear()
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        drop(self.input.take());
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Nanoseconds by the clock that all processes of the machine share.
pub(crate) fn nanoseconds() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// Seconds of one core that this process took so far.
pub(crate) fn processor_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

/// The value that a share of them does not exceed.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (sorted.len() as f64 * share).ceil() as usize;
    sorted[index.clamp(1, sorted.len()) - 1]
}

/// Prints a bar on milliseconds: that of the 99th percentile.
pub(crate) fn print_bar(name: &str, times: &[f64], bar: f64) {
    let (middle, high) = (percentile(times, 0.5), percentile(times, 0.99));
    let word = if high <= bar { "met" } else { "MISSED" };
    println!("  {name:<38} p50 {middle:8.2} ms  p99 {high:8.2} ms  bar {bar:6.2}  {word}");
}
