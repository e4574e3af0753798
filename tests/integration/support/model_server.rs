//! A scripted model for one test: a `swarm replay serve` of its own, and short words for its scripts.
//!
//! Real agents talk to it, so a test decides what the "model" says and which tools it calls, while everything else (tools,
//! permissions, hooks, terminal) is the agent's own code. A prompt picks its script with a marker,
//! `SCRIPT:name key=value ...`, anywhere in its text.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::swarm::SWARM;

/// How long a test waits for a request before it fails: generous, since a loaded machine starts an agent in seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the log of requests is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What the model answers to a user who names no script.
pub(crate) const PLAIN_ANSWER: &str = "Understood.";

/// Tokens that every answer claims to have read, so that tests can check sums.
pub(crate) const INPUT_TOKENS: u64 = 100;

/// Tokens that every answer claims to have written.
pub(crate) const OUTPUT_TOKENS: u64 = 10;

/// One block of a model's message.
#[derive(Debug, Clone)]
pub(crate) enum Block {
    /// Text for the person.
    Text(String),
    /// A call of one of the agent's tools, and its input; `{name}` in any string is replaced.
    Call(String, Value),
}

/// A text block.
pub(crate) fn say(text: &str) -> Block {
    Block::Text(text.to_owned())
}

/// A tool call block.
pub(crate) fn call(tool: &str, input: Value) -> Block {
    Block::Call(tool.to_owned(), input)
}

/// What may go wrong instead of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An error answer with this HTTP status, such as 429, 500, 529 or 401.
    Status(u16),
    /// The connection closes in the middle of the event stream.
    #[cfg(feature = "real-agents")]
    Cut,
    /// Nothing comes, not even a header, until the script is released; then the turn.
    HangBefore,
    /// The turn's blocks come, but the message does not end until the script is released.
    HangAfter,
}

impl Fault {
    /// The word of the script format.
    fn kind(self) -> Value {
        match self {
            Self::Status(status) => json!(status),
            #[cfg(feature = "real-agents")]
            Self::Cut => json!("cut"),
            Self::HangBefore => json!("hang"),
            Self::HangAfter => json!("hang_at_end"),
        }
    }
}

/// The messages of one conversation, in order. The agent asks for the next one with the results of the tools that the last
/// one called, so every turn but the last should hold a call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    /// The turns as the script format has them.
    turns: Vec<Map<String, Value>>,
}

impl Script {
    /// A script without turns.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a turn: texts first, then calls that run in parallel.
    pub(crate) fn turn(mut self, blocks: Vec<Block>) -> Self {
        let texts: Vec<&str> = blocks
            .iter()
            .filter_map(|block| match block {
                Block::Text(text) => Some(text.as_str()),
                Block::Call(..) => None,
            })
            .collect();
        let mut turn = Map::new();
        if !texts.is_empty() {
            turn.insert("say".to_owned(), json!(texts.join("\n")));
        }
        let calls = blocks.iter().filter_map(|block| match block {
            Block::Text(_) => None,
            Block::Call(tool, input) => Some(json!({tool.as_str(): input})),
        });
        turn.insert("calls".to_owned(), calls.collect());
        self.turns.push(turn);
        self
    }

    /// Adds a turn of one text.
    pub(crate) fn say(self, text: &str) -> Self {
        self.turn(vec![say(text)])
    }

    /// Adds a turn of one tool call.
    pub(crate) fn call(self, tool: &str, input: Value) -> Self {
        self.turn(vec![call(tool, input)])
    }

    /// Makes the turn added last go wrong every time it is asked for.
    pub(crate) fn failing(self, fault: Fault) -> Self {
        self.with_fault(json!({"kind": fault.kind()}))
    }

    /// Makes the turn added last go wrong the first `times` times in each session, so that a retry gets through.
    pub(crate) fn failing_at_first(self, fault: Fault, times: u32) -> Self {
        self.with_fault(json!({"kind": fault.kind(), "times": times}))
    }

    /// Gives the turn added last a fault; a script without turns gets an empty one.
    fn with_fault(mut self, fault: Value) -> Self {
        if self.turns.is_empty() {
            self.turns.push(Map::new());
        }
        if let Some(last) = self.turns.last_mut() {
            last.insert("faults".to_owned(), json!([fault]));
        }
        self
    }
}

/// A request the server got.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Request {
    /// `POST`, `GET`, ...
    pub(crate) method: String,
    /// Path with the query, such as `/v1/messages?beta=true`.
    pub(crate) path: String,
    /// Header names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// The JSON body, `null` if there was none.
    pub(crate) body: Value,
    /// The system prompt, whatever the API.
    system: String,
    /// The conversation, whatever the API.
    messages: Vec<Value>,
}

impl Request {
    /// The agent's session id, from its header; empty if it sent none.
    pub(crate) fn session_id(&self) -> &str {
        self.headers.get("x-claude-code-session-id").map_or("", String::as_str)
    }

    /// What the agent has been told so far, in order: the texts of all user messages, and what a person said to it while
    /// a tool ran, which the agent puts into the tool's result. Tool results as such are left out.
    pub(crate) fn user_texts(&self) -> Vec<String> {
        let said = self.messages.iter().filter(|message| message["role"] == "user");
        said.map(|message| message["text"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Whether any user text of this request contains `needle`.
    pub(crate) fn mentions(&self, needle: &str) -> bool {
        self.user_texts().iter().any(|text| text.contains(needle))
    }

    /// The text of every tool result in the conversation, in order, with whether it was an error.
    pub(crate) fn tool_results(&self) -> Vec<(String, bool)> {
        let results = self.messages.iter().filter_map(|message| message["results"].as_array()).flatten();
        results.map(|one| (one["text"].as_str().unwrap_or_default().to_owned(), one["is_error"] == true)).collect()
    }

    /// The system prompt as one text.
    pub(crate) fn system_text(&self) -> String {
        self.system.clone()
    }
}

/// Collects scripts and variables before the server starts.
#[derive(Debug)]
pub(crate) struct ModelServerBuilder {
    /// The script file.
    file: Value,
}

impl ModelServerBuilder {
    /// Adds a script that `SCRIPT:name` selects.
    pub(crate) fn script(mut self, name: &str, script: Script) -> Self {
        let conversations = self.file["conversations"].as_array_mut().expect("it was made so");
        conversations.push(json!({"name": name, "turns": script.turns}));
        self
    }

    /// Sets the value of `{name}` in all scripts. A `key=value` behind a marker wins over it, and it wins over `{cwd}` as
    /// read from the request.
    pub(crate) fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.file["variables"][name] = json!(value.into());
        self
    }

    /// Starts the server on a port the kernel chooses.
    pub(crate) fn start(self) -> ModelServer {
        ModelServer::of(&self.file.to_string())
    }
}

/// A running scripted model. Dropping it ends its process and every conversation with it.
#[derive(Debug)]
pub(crate) struct ModelServer {
    /// The server's process. It ends with this one, too, whose pipe is its standard input.
    process: Child,
    /// Where it listens.
    url: String,
    /// Holds the script and the log of requests.
    folder: TempDir,
    /// What was read of the log.
    seen: Mutex<Seen>,
}

/// The log of requests as far as it was read.
#[derive(Debug, Default)]
struct Seen {
    /// Bytes read, whole lines.
    bytes: u64,
    /// The requests in them.
    requests: Vec<Request>,
}

impl ModelServer {
    /// Begins a server without scripts.
    pub(crate) fn builder() -> ModelServerBuilder {
        let usage = json!({"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS});
        let file = json!({"usage": usage, "otherwise": PLAIN_ANSWER, "variables": {}, "conversations": []});
        ModelServerBuilder { file }
    }

    /// Starts a server for a whole script.
    pub(crate) fn of(script: &str) -> Self {
        Self::of_file("script.yaml", script)
    }

    /// Starts a server for a file of that name, whose ending says what it is.
    #[expect(clippy::disallowed_methods, reason = "the door in `process` is not visible to integration tests")]
    pub(crate) fn of_file(name: &str, text: &str) -> Self {
        let folder = TempDir::new().expect("the temp folder can be written");
        let file = folder.path().join(name);
        let mut writing = std::fs::File::create(&file).expect("the folder is ours");
        writing.write_all(text.as_bytes()).expect("the folder is ours");
        let mut command = Command::new(SWARM);
        command.args(["replay", "serve", "--json", "--until-stdin-ends", "--requests"]);
        command.arg(folder.path().join("requests.jsonl")).arg(&file).env_clear();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("the program under test can be run");
        let mut line = String::new();
        let mut stdout = BufReader::new(process.stdout.take().expect("it is piped"));
        stdout.read_line(&mut line).expect("the server tells its address");
        let told: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in `{line}` of\n{text}"));
        let url = told["url"].as_str().expect("the server tells its address").to_owned();
        Self { process, url, folder, seen: Mutex::default() }
    }

    /// The value for `ANTHROPIC_BASE_URL`.
    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Every request so far, in the order of arrival.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.read().requests.clone()
    }

    /// Waits until a request has come, or comes, for which `wanted` holds, and returns the first such.
    ///
    /// # Panics
    /// After a minute without one, listing the user texts that did come.
    pub(crate) fn wait_for_request(&self, wanted: impl Fn(&Request) -> bool) -> Request {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.read();
            if let Some(found) = seen.requests.iter().find(|request| wanted(request)) {
                return found.clone();
            }
            let got = &seen.requests;
            assert!(Instant::now() < deadline, "no such request within {PATIENCE:?}; got:\n{}", describe(got));
            drop(seen);
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Lets every turn of script `name` that hangs go on, and does not let that script hang again.
    pub(crate) fn release(&self, name: &str) {
        let body = json!({"conversation": name}).to_string();
        let mut connection = TcpStream::connect(self.address()).expect("the server listens");
        let head = format!("POST /swarm/release HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len());
        connection.write_all((head + &body).as_bytes()).expect("the server reads");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).expect("the server answers");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// The log of requests as it was written.
    pub(crate) fn log_text(&self) -> String {
        std::fs::read_to_string(self.log()).expect("the server made its log")
    }

    /// Where the log of requests is.
    fn log(&self) -> PathBuf {
        self.folder.path().join("requests.jsonl")
    }

    /// Reads on in the log.
    fn read(&self) -> MutexGuard<'_, Seen> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = std::fs::File::open(self.log()).expect("the server made its log");
        file.seek(SeekFrom::Start(seen.bytes)).expect("the log can be read");
        let mut text = Vec::new();
        file.read_to_end(&mut text).expect("the log can be read");
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let request: Request = serde_json::from_slice(line).expect("each line is a request");
            if request.path != "/swarm/release" {
                seen.requests.push(request);
            }
        }
        seen.bytes += whole as u64;
        seen
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// One line per request with its last user text, for the message of a failed wait.
fn describe(requests: &[Request]) -> String {
    let lines = requests.iter().map(|request| {
        let texts = request.user_texts();
        let last = texts.last().map_or("", String::as_str);
        format!("  {} {} {:?} {:?}", request.method, request.path, request.session_id(), last)
    });
    lines.collect::<Vec<_>>().join("\n")
}
