//! A scripted model behind the APIs of Ollama, OpenAI and Anthropic, on loopback.
//!
//! Real clients talk to it: agent programs, our own loop, whatever a person wants to test. What it answers is decided by
//! a file ([`super::play`]); every request repeats its conversation, so the server keeps none. Only faults that happen a
//! limited number of times are counted, and conversations that hang are remembered once released.
//!
//! One thread accepts, each connection has a thread of its own and carries one request. Everything is bounded (see
//! [`http`]), and dropping the server ends all of them.
//!
//! Besides the APIs there is one path of ours: `POST /swarm/release {"conversation": NAME}` lets every turn of that
//! conversation that hangs go on, and keeps it from hanging again.

mod answer;
mod anthropic;
mod http;
mod ollama;
mod openai;
mod protocol;
mod record;
mod responses;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(crate) use record::RequestRecord;

use schemars::JsonSchema;
use serde::Serialize;

use super::play::{FaultCounts, Play, PlayView};
use super::script::ServedModel;

/// Connections at one time; more are turned away.
const CONNECTION_LIMIT: usize = 256;

/// How often a thread that waits looks at its client.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Memory of a connection's thread; parsing is the deepest it goes.
const STACK_BYTES: usize = 1024 * 1024;

/// Hears of every request, before it is answered.
pub(crate) type Observer = Box<dyn Fn(&RequestRecord) + Send + Sync>;

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    /// Where it listens.
    address: SocketAddr,
    /// What its threads share.
    shared: Arc<Shared>,
    /// The accepting thread; it joins the others. `None` once dropped.
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `play` at `address`; port 0 lets the kernel choose. `observer` hears of every request.
    ///
    /// # Errors
    /// When the address cannot be listened at.
    pub(crate) fn start(play: Play, address: SocketAddr, observer: Observer) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            play,
            observer,
            faults: FaultCounts::default(),
            connections: AtomicUsize::new(0),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let for_thread = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept_until_stopped(&listener, &for_thread));
        Ok(Self { address, shared, acceptor: Some(acceptor) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.lock().is_stopping = true;
        self.shared.changed.notify_all();
        // `accept` has no timeout: a connection wakes it, whether or not it then gets anything.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

/// Version of [`ServeView`].
const VERSION: u32 = 1;

/// Where a server is, and how clients get there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct ServeView {
    /// Version of this shape; within one version fields are only added.
    version: u32,
    /// Address and port.
    address: String,
    /// The same as a base URL.
    pub(crate) url: String,
    /// Variables that point clients of each API at the server.
    pub(crate) environment: BTreeMap<&'static str, String>,
    /// What it plays.
    play: PlayView,
}

impl ServeView {
    /// The view of a running server that plays this.
    pub(crate) fn new(server: &Server, play: PlayView) -> Self {
        let address = server.address().to_string();
        let url = format!("http://{address}");
        // The servers ask for no key, and clients do not start without one.
        let key = || "scripted".to_owned();
        let environment = BTreeMap::from([
            ("ANTHROPIC_BASE_URL", url.clone()),
            ("ANTHROPIC_AUTH_TOKEN", key()),
            ("OLLAMA_HOST", url.clone()),
            ("OPENAI_API_KEY", key()),
            ("OPENAI_BASE_URL", format!("{url}/v1")),
        ]);
        Self { version: VERSION, address, url, environment, play }
    }

    /// The file that is played.
    pub(crate) fn file(&self) -> &str {
        &self.play.file
    }
}

/// What the server's threads share.
struct Shared {
    /// What is answered.
    play: Play,
    /// Hears of every request.
    observer: Observer,
    /// Faults that have happened.
    faults: FaultCounts,
    /// Connections being served.
    connections: AtomicUsize,
    /// What changes while the server runs.
    state: Mutex<State>,
    /// Signalled on every change of `state`.
    changed: Condvar,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("state", &self.state).finish_non_exhaustive()
    }
}

/// What changes while the server runs.
#[derive(Debug, Default)]
struct State {
    /// Conversations that no longer hang.
    released: BTreeSet<String>,
    /// Set once, by drop.
    is_stopping: bool,
}

impl Shared {
    /// The state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the server stops.
    fn is_stopping(&self) -> bool {
        self.lock().is_stopping
    }

    /// Waits for a change of the state, at most `limit`.
    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Lets a conversation that hangs go on.
    fn release(&self, conversation: &str) {
        self.lock().released.insert(conversation.to_owned());
        self.changed.notify_all();
    }

    /// Waits until a conversation is released; false if the server stops or the client goes instead.
    fn wait_for_release(&self, conversation: &str, is_gone: impl Fn() -> bool) -> bool {
        let mut state = self.lock();
        loop {
            if state.is_stopping || state.released.contains(conversation) {
                return !state.is_stopping;
            }
            state = self.wait(state, LOOK_EVERY);
            if is_gone() {
                return false;
            }
        }
    }

    /// Waits this long; false if the server stops before.
    fn pause(&self, time: Option<Duration>) -> bool {
        let deadline = Instant::now() + time.unwrap_or_default();
        let mut state = self.lock();
        while !state.is_stopping {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            state = self.wait(state, left);
        }
        false
    }

    /// The models that are listed.
    fn models(&self) -> Vec<ServedModel> {
        match self.play.models() {
            [] => vec![ServedModel { name: "scripted".to_owned(), tools: true, context: None }],
            models => models.to_vec(),
        }
    }

    /// The model of a name; every name where the script names none. Ollama's clients add `:latest`.
    fn model(&self, name: &str) -> Option<ServedModel> {
        let plain = |name: &str| name.trim_end_matches(":latest").to_owned();
        match self.play.models() {
            [] => Some(ServedModel { name: name.to_owned(), tools: true, context: None }),
            models => models.iter().find(|model| plain(&model.name) == plain(name)).cloned(),
        }
    }
}

/// Serves each connection on a thread of its own until the server is dropped, then joins them all.
fn accept_until_stopped(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut serving: Vec<JoinHandle<()>> = Vec::new();
    loop {
        let accepted = listener.accept();
        if shared.is_stopping() {
            break;
        }
        serving.retain(|thread| !thread.is_finished());
        let Ok((connection, _)) = accepted else {
            // Out of descriptors, most likely: those that are served give some back.
            shared.pause(Some(LOOK_EVERY));
            continue;
        };
        let shared = Arc::clone(shared);
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        // Without a thread the connection just closes.
        serving.extend(thread.spawn(move || serve(connection, &shared)));
    }
    for thread in serving {
        drop(thread.join());
    }
}

/// Reads one request and answers it. A client that goes away is no fault of the server.
fn serve(connection: TcpStream, shared: &Shared) {
    let served = shared.connections.fetch_add(1, Ordering::Relaxed);
    drop(answer::serve(connection, shared, served < CONNECTION_LIMIT));
    shared.connections.fetch_sub(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
