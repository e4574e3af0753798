//! `swarm replay`: the scripted model over real sockets, in each protocol, with each fault.

mod check;
mod faults;
mod protocols;
mod server;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::model_server::ModelServer;

/// Nothing that is asked here takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A way to ask a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Api {
    /// Anthropic's Messages.
    Messages,
    /// OpenAI's chat completions.
    Completions,
    /// OpenAI's responses.
    Responses,
    /// Ollama's chat.
    Ollama,
}

/// All of them.
const APIS: [Api; 4] = [Api::Messages, Api::Completions, Api::Responses, Api::Ollama];

impl Api {
    /// Where it is asked.
    fn path(self) -> &'static str {
        match self {
            Self::Messages => "/v1/messages",
            Self::Completions => "/v1/chat/completions",
            Self::Responses => "/v1/responses",
            Self::Ollama => "/api/chat",
        }
    }

    /// A request of one prompt.
    fn prompt(self, text: &str, is_stream: bool) -> Value {
        let messages = json!([{"role": "user", "content": text}]);
        let key = if self == Self::Responses { "input" } else { "messages" };
        json!({"model": "m", "stream": is_stream, key: messages})
    }

    /// What ends a whole stream.
    fn end(self) -> &'static str {
        match self {
            Self::Messages => "\"type\":\"message_stop\"",
            Self::Completions => "data: [DONE]",
            Self::Responses => "event: response.completed",
            Self::Ollama => "\"done\":true",
        }
    }
}

/// What came back.
#[derive(Debug, Clone)]
struct Answer {
    /// The HTTP status; 0 if there was none.
    status: u16,
    /// Header lines.
    head: String,
    /// The body, put together of its chunks.
    body: String,
    /// Whether the body came to its end.
    is_complete: bool,
}

impl Answer {
    /// Takes what was received apart.
    fn parse(received: &str) -> Self {
        let (head, mut rest) = received.split_once("\r\n\r\n").unwrap_or((received, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let head = head.to_ascii_lowercase();
        if !head.contains("transfer-encoding: chunked") {
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
            return Self { status, is_complete: length == Some(rest.len()), head, body: rest.to_owned() };
        }
        let (mut body, mut is_complete) = (String::new(), false);
        while let Some((size, after)) = rest.split_once("\r\n") {
            let size = usize::from_str_radix(size, 16).unwrap();
            is_complete = size == 0;
            if is_complete || after.len() < size {
                break;
            }
            body.push_str(&after[..size]);
            rest = after[size..].trim_start_matches("\r\n");
        }
        Self { status, head, body, is_complete }
    }

    /// The body as one document.
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The documents of a stream: of each `data:` line, or of each line.
    fn events(&self) -> Vec<Value> {
        let lines = self.body.lines().filter(|line| !line.starts_with("event:") && !line.is_empty());
        let lines = lines.map(|line| line.strip_prefix("data: ").unwrap_or(line)).filter(|line| *line != "[DONE]");
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))).collect()
    }
}

/// Sends bytes and reads until the server closes.
fn exchange(server: &ModelServer, request: &[u8]) -> Answer {
    let mut connection = TcpStream::connect(server.address()).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection.write_all(request).unwrap();
    let mut received = Vec::new();
    // A server that refuses may close before it has read everything.
    connection.read_to_end(&mut received).ok();
    Answer::parse(&String::from_utf8_lossy(&received))
}

/// Sends a request without a body.
fn get(server: &ModelServer, path: &str) -> Answer {
    exchange(server, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
}

/// Sends a document, with further header lines.
fn post_with(server: &ModelServer, path: &str, headers: &str, body: &Value) -> Answer {
    let body = body.to_string();
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    exchange(server, (head + &body).as_bytes())
}

/// Sends a document.
fn post(server: &ModelServer, path: &str, body: &Value) -> Answer {
    post_with(server, path, "", body)
}

/// Asks for the answer to one prompt.
fn ask(server: &ModelServer, api: Api, prompt: &str, is_stream: bool) -> Answer {
    post(server, api.path(), &api.prompt(prompt, is_stream))
}
