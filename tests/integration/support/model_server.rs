//! A scripted model behind the Anthropic Messages API, on loopback, inside the test process.
//!
//! The real Claude Code CLI talks to it, so a test decides what the "model" says and which tools it calls, while
//! everything else (tools, permissions, hooks, terminal) is the agent's own code.
//!
//! A prompt picks its script with a marker, `SCRIPT:name key=value ...`, anywhere in its text. The server keeps no
//! conversation: which turn of the script comes next is the number of tool results after the marker, all of which every
//! request repeats. So scripts survive `--resume`, retries, and many agents talking to one server at once.
//! Only faults that happen a limited number of times are counted, per session, script and turn.
//!
//! Parts: [`script`] says what is answered, [`stream`] puts it into the API's event stream, [`http`] carries it.

mod http;
mod script;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub(crate) use script::{Fault, Script, call, say};
pub(crate) use stream::{INPUT_TOKENS, OUTPUT_TOKENS};

/// How long a test waits for a request before it fails: generous, since a loaded machine starts an agent in seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the server answers to a user who names no script.
const PLAIN_ANSWER: &str = "Understood.";

/// A request the server got, as the agent sent it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// `POST`, `GET`, ...
    pub(crate) method: String,
    /// Path with the query, such as `/v1/messages?beta=true`.
    pub(crate) path: String,
    /// Header names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// The JSON body, `null` if there was none.
    pub(crate) body: Value,
}

impl Request {
    /// The agent's session id, from its header; empty if it sent none.
    pub(crate) fn session_id(&self) -> &str {
        self.headers.get("x-claude-code-session-id").map_or("", String::as_str)
    }

    /// What the agent has been told so far, in order: the texts of all user messages, and what a person said to it while
    /// a tool ran, which the agent puts into the tool's result. Tool results as such are left out.
    pub(crate) fn user_texts(&self) -> Vec<String> {
        script::user_texts(&self.body)
    }

    /// Whether any user text of this request contains `needle`.
    pub(crate) fn mentions(&self, needle: &str) -> bool {
        self.user_texts().iter().any(|text| text.contains(needle))
    }

    /// The text of every tool result in the conversation, in order, with whether it was an error.
    pub(crate) fn tool_results(&self) -> Vec<(String, bool)> {
        script::tool_results(&self.body)
    }

    /// The system prompt as one text.
    pub(crate) fn system_text(&self) -> String {
        script::system_text(&self.body)
    }
}

/// Collects scripts and variables before the server starts.
#[derive(Debug, Default)]
pub(crate) struct ModelServerBuilder {
    /// Scripts by the name their marker uses.
    scripts: BTreeMap<String, Script>,
    /// Values for `{name}` in scripts, the same for every conversation.
    variables: BTreeMap<String, String>,
}

impl ModelServerBuilder {
    /// Adds a script that `SCRIPT:name` selects.
    pub(crate) fn script(mut self, name: &str, script: Script) -> Self {
        self.scripts.insert(name.to_owned(), script);
        self
    }

    /// Sets the value of `{name}` in all scripts. A `key=value` behind a marker wins over it, and it wins over `{cwd}` as
    /// read from the request.
    pub(crate) fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.insert(name.to_owned(), value.into());
        self
    }

    /// Starts the server on a port the kernel chooses.
    pub(crate) fn start(self) -> ModelServer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            scripts: self.scripts,
            variables: self.variables,
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        });
        let for_thread = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept_until_stopped(&listener, &for_thread));
        ModelServer { address, shared, acceptor: Some(acceptor) }
    }
}

/// A running scripted model. Dropping it ends every conversation with it and joins its threads.
#[derive(Debug)]
pub(crate) struct ModelServer {
    /// Where it listens.
    address: SocketAddr,
    /// What its threads share.
    shared: Arc<Shared>,
    /// The accepting thread; it joins the others. `None` once dropped.
    acceptor: Option<JoinHandle<()>>,
}

impl ModelServer {
    /// Begins a server without scripts.
    pub(crate) fn builder() -> ModelServerBuilder {
        ModelServerBuilder::default()
    }

    /// The value for `ANTHROPIC_BASE_URL`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far, in the order of arrival.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// Waits until a request has come, or comes, for which `wanted` holds, and returns the first such.
    ///
    /// # Panics
    /// After a minute without one, listing the user texts that did come.
    pub(crate) fn wait_for_request(&self, wanted: impl Fn(&Request) -> bool) -> Request {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.lock();
        loop {
            if let Some(found) = state.requests.iter().find(|request| wanted(request)) {
                return found.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no such request within {PATIENCE:?}; got:\n{}", describe(&state.requests));
            state = self.shared.wait(state, left);
        }
    }

    /// Lets every turn of script `name` that hangs go on, and does not let that script hang again.
    pub(crate) fn release(&self, name: &str) {
        self.shared.lock().released.insert(name.to_owned());
        self.shared.changed.notify_all();
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        // `accept` has no timeout: a connection wakes it, whether or not it then gets anything.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

/// What the server's threads share.
#[derive(Debug)]
struct Shared {
    /// See [`ModelServerBuilder`].
    scripts: BTreeMap<String, Script>,
    /// See [`ModelServerBuilder`].
    variables: BTreeMap<String, String>,
    /// What changes while the server runs.
    state: Mutex<State>,
    /// Signalled on every change of `state`.
    changed: Condvar,
}

/// What changes while the server runs.
#[derive(Debug, Default)]
struct State {
    /// All requests, oldest first.
    requests: Vec<Request>,
    /// Scripts that no longer hang.
    released: BTreeSet<String>,
    /// How often a fault has happened, by session, script and turn.
    faults: HashMap<(String, String, usize), u32>,
    /// Set once, by drop.
    stopping: bool,
}

impl Shared {
    /// The state. A thread that panicked holding it has failed its own test only.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Waits for a change of the state, at most `limit`.
    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, limit).unwrap_or_else(std::sync::PoisonError::into_inner).0
    }

    /// Blocks until script `name` is released; false if the server stops instead.
    fn wait_for_release(&self, name: &str) -> bool {
        let mut state = self.lock();
        while !state.stopping && !state.released.contains(name) {
            state = self.wait(state, PATIENCE);
        }
        !state.stopping
    }

    /// The fault of this turn that is due now, counting it.
    fn due_fault(
        &self,
        session: &str,
        script: &str,
        turn: usize,
        planned: Option<&script::PlannedFault>,
    ) -> Option<Fault> {
        let planned = planned?;
        let mut state = self.lock();
        let seen = state.faults.entry((session.to_owned(), script.to_owned(), turn)).or_default();
        if planned.times.is_some_and(|times| *seen >= times) {
            return None;
        }
        *seen += 1;
        Some(planned.fault)
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

/// Serves each connection on a thread of its own until the server is dropped, then joins them all.
fn accept_until_stopped(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut serving: Vec<JoinHandle<()>> = Vec::new();
    while let Ok((connection, _)) = listener.accept() {
        if shared.lock().stopping {
            break;
        }
        serving.retain(|thread| !thread.is_finished());
        let shared = Arc::clone(shared);
        serving.push(std::thread::spawn(move || serve(connection, &shared)));
    }
    for thread in serving {
        drop(thread.join());
    }
}

/// Reads one request, records it, and answers it. A client that goes away is no fault of the server.
fn serve(connection: TcpStream, shared: &Shared) {
    let Ok(mut exchange) = http::Exchange::read(connection, || shared.lock().stopping) else { return };
    let request = exchange.request.clone();
    shared.lock().requests.push(request.clone());
    shared.changed.notify_all();
    drop(answer(&request, &mut exchange, shared));
}

/// Answers by the kind of request; only `/v1/messages` follows scripts.
fn answer(request: &Request, exchange: &mut http::Exchange, shared: &Shared) -> std::io::Result<()> {
    let path = request.path.split('?').next().unwrap_or_default();
    match (request.method.as_str(), path) {
        ("POST", "/v1/messages") => answer_message(request, exchange, shared),
        ("POST", "/v1/messages/count_tokens") => exchange.respond(200, &json!({"input_tokens": 1000})),
        ("GET", "/v1/models") => exchange.respond(200, &json!({"data": [], "has_more": false})),
        ("HEAD" | "GET", "/") => exchange.respond(200, &json!({})),
        _ => exchange.respond(404, &stream::error_body(404, &format!("no such path: {path}"))),
    }
}

/// Plays the turn that the conversation has come to.
fn answer_message(request: &Request, exchange: &mut http::Exchange, shared: &Shared) -> std::io::Result<()> {
    if script::asks_for_json(&request.body) {
        return stream::send(exchange, &request.body, &[say(r#"{"title":"Scripted conversation"}"#)]);
    }
    let Some(place) = script::place(&request.body) else {
        return stream::send(exchange, &request.body, &[say(PLAIN_ANSWER)]);
    };
    let Some(script) = shared.scripts.get(&place.script) else {
        let message = format!("the test has no script `{}`", place.script);
        return exchange.respond(400, &stream::error_body(400, &message));
    };
    let variables = script::variables(&request.body, &shared.variables, &place);
    let (blocks, planned) = script.turn_at(place.turn, &variables);
    match shared.due_fault(request.session_id(), &place.script, place.turn, planned) {
        None => stream::send(exchange, &request.body, &blocks),
        Some(Fault::Status(code)) => exchange.respond(code, &stream::error_body(code, "scripted fault")),
        Some(Fault::Cut) => stream::send_cut(exchange, &request.body, &blocks),
        Some(Fault::HangBefore) => {
            if shared.wait_for_release(&place.script) {
                stream::send(exchange, &request.body, &blocks)?;
            }
            Ok(())
        }
        Some(Fault::HangAfter) => {
            stream::send_waiting(exchange, &request.body, &blocks, || shared.wait_for_release(&place.script))
        }
    }
}
