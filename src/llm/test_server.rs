//! A server on loopback that answers with exactly the bytes a test wants, and what tests of providers share.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::ServerConnection;
use serde_json::{Value, json};

use super::draft::Draft;
use super::reference::ModelName;
use super::served::{Reception, Served};
use super::target::Target;
use super::{Answer, ChatError, ChatModel, ChatRequest, Delta, Message, ToolSpec};
use crate::config::Environment;
use crate::model::providers::{ModelSettings, Provider, ProviderKind};
use crate::model::settings::Settings;

/// How long a test waits for what must come.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A request as the server saw it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Method and path.
    pub(super) line: String,
    /// Header lines in lower case.
    pub(super) headers: Vec<String>,
    /// The body; null when there is none.
    pub(super) body: Value,
}

/// What the server answers.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    /// Written one after the other.
    pieces: Vec<Vec<u8>>,
    /// Whether the connection stays open, until the other side closes it.
    hangs: bool,
}

impl Reply {
    /// A complete answer with a status.
    pub(super) fn status(status: u16, headers: &[&str], body: &str) -> Self {
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let length = body.len();
        let head = format!("HTTP/1.1 {status} Some Words\r\ncontent-length: {length}\r\n{headers}\r\n");
        Self { pieces: vec![head.into_bytes(), body.into()], hangs: false }
    }

    /// A stream that ends as it should.
    pub(super) fn stream(body: &str) -> Self {
        let mut reply = Self::cut(body);
        reply.pieces.push(b"0\r\n\r\n".to_vec());
        reply
    }

    /// A stream whose connection breaks after `body`.
    pub(super) fn cut(body: &str) -> Self {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut pieces = vec![head.into()];
        pieces.extend(body.as_bytes().chunks(23).map(|chunk| {
            let mut piece = format!("{:x}\r\n", chunk.len()).into_bytes();
            piece.extend_from_slice(chunk);
            piece.extend_from_slice(b"\r\n");
            piece
        }));
        Self { pieces, hangs: false }
    }

    /// A stream that sends `body` and then nothing.
    pub(super) fn hang(body: &str) -> Self {
        Self { hangs: true, ..Self::cut(body) }
    }

    /// Nothing at all.
    pub(super) fn silence() -> Self {
        Self { pieces: Vec::new(), hangs: true }
    }
}

/// What the server does with a request.
type Answers = dyn Fn(&Seen) -> Reply + Send + Sync;

/// The server; it is gone when this is dropped.
pub(super) struct TestServer {
    /// Where it listens.
    address: SocketAddr,
    /// What it saw.
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Hears of each hanging connection that the other side closed.
    closed: mpsc::Receiver<()>,
    /// Its connections, to be shut down with it: who holds the other end may never run again.
    connections: Arc<Mutex<Vec<TcpStream>>>,
    /// Whether it shall end.
    ends: Arc<AtomicBool>,
    /// Accepts connections.
    thread: Option<JoinHandle<()>>,
}

impl TestServer {
    /// A server that answers each request on its own, many at once.
    pub(super) fn start(answers: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(None, answers)
    }

    /// The same behind TLS for `localhost`. Comes with the certificate to trust.
    pub(super) fn start_tls(answers: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> (Self, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        (Self::start_with(Some(Arc::new(tls)), answers), made.cert.pem())
    }

    /// The shared body.
    fn start_with(
        tls: Option<Arc<rustls::ServerConfig>>,
        answers: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, ends) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (closing, closed) = mpsc::channel();
        let answers: Arc<Answers> = Arc::new(answers);
        let connections: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let thread = {
            let (seen, ends, all) = (Arc::clone(&seen), Arc::clone(&ends), Arc::clone(&connections));
            thread::spawn(move || {
                let mut threads = Vec::new();
                for stream in listener.incoming() {
                    if ends.load(Ordering::SeqCst) {
                        break;
                    }
                    let (seen, answers, closing) = (Arc::clone(&seen), Arc::clone(&answers), closing.clone());
                    let tls = tls.clone();
                    let mut stream = stream.unwrap();
                    all.lock().unwrap().push(stream.try_clone().unwrap());
                    threads.push(thread::spawn(move || {
                        match tls {
                            None => serve(&mut stream, &seen, &*answers, &closing),
                            Some(tls) => {
                                let mut session = ServerConnection::new(tls).unwrap();
                                serve(&mut rustls::Stream::new(&mut session, &mut stream), &seen, &*answers, &closing);
                                session.send_close_notify();
                                session.write_tls(&mut stream).ok();
                            }
                        }
                        stream.shutdown(Shutdown::Both).ok();
                    }));
                }
                threads.into_iter().for_each(|thread| thread.join().unwrap());
            })
        };
        Self { address, seen, closed, connections, ends, thread: Some(thread) }
    }

    /// A server that answers chats in this order, the last one for ever, and nothing else.
    pub(super) fn chats(replies: Vec<Reply>) -> Self {
        let replies = Mutex::new(VecDeque::from(replies));
        Self::start(move |seen| {
            if !["/chat", "/completions", "/messages"].iter().any(|end| seen.line.ends_with(end)) {
                return Reply::status(404, &[], "");
            }
            let mut replies = replies.lock().unwrap();
            let reply = replies.front().unwrap().clone();
            if replies.len() > 1 {
                replies.pop_front();
            }
            reply
        })
    }

    /// Its address.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until the other side closed a hanging connection.
    pub(super) async fn closed(&self) {
        let end = std::time::Instant::now() + PATIENCE;
        while self.closed.try_recv().is_err() {
            assert!(std::time::Instant::now() < end, "nobody closed the connection");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Where it listens.
    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// What it saw so far, questions about models left out.
    pub(super) fn chats_seen(&self) -> Vec<Seen> {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .filter(|seen| seen.line.contains("/chat") || seen.line.contains("/messages"))
            .cloned()
            .collect()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        for connection in self.connections.lock().unwrap().iter() {
            connection.shutdown(Shutdown::Both).ok();
        }
        let ended = self.thread.take().unwrap().join();
        if !thread::panicking() {
            ended.unwrap();
        }
    }
}

/// Answers one connection.
fn serve(stream: &mut (impl Read + Write), all: &Mutex<Vec<Seen>>, answers: &Answers, closing: &mpsc::Sender<()>) {
    let Some(seen) = read_request(stream) else { return };
    all.lock().unwrap().push(seen.clone());
    let reply = answers(&seen);
    for piece in reply.pieces {
        // A client that has what it wants may be gone.
        if stream.write_all(&piece).is_err() {
            return;
        }
    }
    if reply.hangs {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).ok();
        closing.send(()).ok();
    }
}

/// Reads a request; `None` when the connection ends before.
fn read_request(stream: &mut impl Read) -> Option<Seen> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let mut lines = head.lines();
    let line = lines.next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<String> = lines.map(str::to_lowercase).collect();
    let length = headers
        .iter()
        .find_map(|header| header.strip_prefix("content-length: "))
        .map_or(0, |text| text.parse().unwrap());
    while bytes.len() < head_end + 4 + length {
        let count = stream.read(&mut buffer).unwrap();
        bytes.extend_from_slice(&buffer[..count]);
    }
    let body = &bytes[head_end + 4..];
    Some(Seen { line, headers, body: serde_json::from_slice(body).unwrap_or_default() })
}

/// A provider of this kind at an address.
pub(super) fn provider(kind: ProviderKind, url: &str) -> Provider {
    Provider { kind: Some(kind), url: Some(url.to_owned()), ..Provider::default() }
}

/// Settings with one provider `p`.
pub(super) fn settings(provider: Provider) -> ModelSettings {
    let mut settings = Settings::default().for_models();
    settings.providers.insert("p".to_owned(), provider);
    settings
}

/// The model `p/m` of a provider.
pub(super) fn served(provider: Provider) -> Served {
    served_in(provider, &[])
}

/// The same with variables.
pub(super) fn served_in(provider: Provider, variables: &[(&str, &str)]) -> Served {
    let name = ModelName { provider: "p".to_owned(), model: "m".to_owned() };
    Served::new(name, &settings(provider), &variables.iter().copied().collect::<Environment>())
}

/// A tool.
pub(super) fn tool() -> ToolSpec {
    let parameters = json!({"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]});
    ToolSpec { name: "read".to_owned(), description: "Reads a file.".to_owned(), parameters }
}

/// The beginning of a conversation.
pub(super) fn hello() -> Vec<Message> {
    vec![Message::User { text: "Hello".to_owned() }]
}

/// Asks a model, with a system prompt and one tool, and collects what it heard.
pub(super) async fn chat(model: &mut dyn ChatModel, messages: &[Message]) -> (Result<Answer, ChatError>, Vec<Delta>) {
    let tools = [tool()];
    let request = ChatRequest { system: "Be good.", messages, tools: &tools };
    let mut deltas = Vec::new();
    let mut on_delta = |delta| deltas.push(delta);
    let answer = tokio::time::timeout(PATIENCE, model.chat(&request, &mut on_delta)).await.expect("an answer in time");
    (answer, deltas)
}

/// The error of a chat that a server answers with `reply`.
pub(super) async fn chat_error(kind: ProviderKind, reply: Reply) -> ChatError {
    let server = TestServer::chats(vec![reply]);
    chat(&mut served(provider(kind, &server.url())), &hello()).await.0.unwrap_err()
}

/// What a served model makes of a stream that comes in these pieces, without a connection.
pub(super) fn decode(served: &Served, pieces: &[&[u8]]) -> Result<(Answer, Vec<Delta>), ChatError> {
    let mut deltas = Vec::new();
    let mut on_delta = |delta| deltas.push(delta);
    let answer = {
        let mut reception = Reception::new(served.wire.as_ref(), &served.target, &mut on_delta);
        let read = pieces.iter().try_for_each(|piece| match reception.is_complete {
            true => Ok(()),
            false => reception.feed(piece),
        });
        let ended = read.and_then(|()| reception.end());
        let (draft, end): (Draft<'_>, _) = ended.map_err(|fault| fault.of("p/m"))?;
        let request = ChatRequest { system: "", messages: &hello(), tools: &[] };
        draft.finish(end, &request, "p/m".to_owned(), &served.tariff)
    };
    Ok((answer, deltas))
}

/// Deltas with neighbours of one kind joined, for streams that were cut differently.
pub(super) fn joined(deltas: &[Delta]) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    let mut last = "";
    for delta in deltas {
        let (kind, text) = match delta {
            Delta::Text(text) => ("text", text),
            Delta::Thinking(text) => ("thinking", text),
            Delta::ToolCall { name } => ("call", name),
            Delta::Restart { reason } => ("restart", reason),
            Delta::Busy { why, .. } => ("busy", why),
        };
        match joined.last_mut() {
            Some(shown) if kind == last && kind != "call" => shown.push_str(text),
            _ => joined.push(format!("{kind} {text}")),
        }
        last = kind;
    }
    joined
}

/// Where a name of a target is enough.
pub(super) fn target(kind: ProviderKind) -> Target {
    served(provider(kind, "http://127.0.0.1:11434")).target
}

/// A stream cut at these places.
pub(super) fn cut_at(stream: &[u8], mut at: Vec<usize>) -> Vec<&[u8]> {
    at.sort_unstable();
    at.push(stream.len());
    let mut from = 0;
    at.into_iter().map(|to| &stream[std::mem::replace(&mut from, to)..to]).collect()
}
