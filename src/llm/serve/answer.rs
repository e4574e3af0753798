//! From a request to its answer: which API, which turn, which fault.

use std::io;
use std::net::TcpStream;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::anthropic::Anthropic;
use super::http::{self, Answering, HttpRequest, Unread};
use super::ollama::{self, Ollama};
use super::openai::Completions;
use super::protocol::{Asked, Protocol, fresh_id};
use super::record::{Reply, RequestRecord};
use super::responses::Responses;
use super::{Shared, openai};
use crate::llm::message::{Block, Message, StopReason};
use crate::llm::play::{Dialogue, Step, tokens};
use crate::llm::replay::SCRIPTED;
use crate::llm::script::{Fault, FaultKind, Tokens};

/// Headers by which clients name their session: Claude Code, Codex.
const SESSION_HEADERS: [&str; 3] = ["x-claude-code-session-id", "session_id", "session-id"];

/// How agents begin and end the statement of their working folder: Claude Code and others, Codex, Gemini.
const FOLDER_MARKS: [(&str, &str); 3] =
    [("orking directory: ", "\n"), ("<cwd>", "</cwd>"), ("working in the directory: ", "\n")];

/// What is said to a client that asks for a title in JSON.
const TITLE: &str = r#"{"title":"Scripted conversation"}"#;

/// Bytes that are an answer in no API.
const MALFORMED: &str = "{\"this is\": no answer, >>>\n\n";

/// Reads one request and answers it. With `is_welcome` false it is turned away.
pub(super) fn serve(connection: TcpStream, shared: &Shared, is_welcome: bool) -> io::Result<()> {
    let read = if is_welcome {
        http::read(&connection, || shared.is_stopping())
    } else {
        Err(Unread::Refused(503, "too many connections at one time"))
    };
    match read {
        Ok(request) => {
            let answering = Answering::new(connection, &request.method);
            Exchange { shared, request, answering }.answer()
        }
        Err(Unread::Gone) => Ok(()),
        Err(Unread::Refused(status, text)) => {
            let body = openai::error(status, text).to_string();
            Answering::new(connection, "GET").respond(status, "", body.as_bytes())
        }
    }
}

/// One request and the way back to its client.
struct Exchange<'a> {
    /// The server.
    shared: &'a Shared,
    /// What was asked.
    request: HttpRequest,
    /// The way back.
    answering: Answering,
}

impl Exchange<'_> {
    /// Answers by the path.
    fn answer(mut self) -> io::Result<()> {
        let text = String::from_utf8_lossy(&self.request.body).into_owned();
        let body =
            if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(Value::String(text)) };
        let record = RequestRecord::new(&self.request, body.clone());
        let path = self.request.path.split('?').next().unwrap_or_default().to_owned();
        let models = self.shared.models();
        let simple = match (self.request.method.as_str(), path.as_str()) {
            ("POST", "/v1/messages") => return self.answer_chat(record, &body, &Anthropic),
            ("POST", "/v1/chat/completions") => return self.answer_chat(record, &body, &Completions),
            ("POST", "/v1/responses") => return self.answer_chat(record, &body, &Responses),
            ("POST", "/api/chat") if body["messages"].as_array().is_some_and(Vec::is_empty) => {
                (200, ollama::loaded(&Ollama.read(&body)))
            }
            ("POST", "/api/chat") => return self.answer_chat(record, &body, &Ollama),
            ("POST", "/v1/messages/count_tokens") => {
                // Whatever turns claim to have read: programs ask in order to learn what fits.
                (200, json!({"input_tokens": tokens(self.request.body.len())}))
            }
            ("GET", "/v1/models") => (200, model_list(&models)),
            ("GET", "/api/version") => (200, ollama::version()),
            ("GET", "/api/tags") => (200, ollama::tags(&models)),
            ("GET", "/api/ps") => (200, ollama::running(&models)),
            ("POST", "/api/show") => self.show(&body),
            ("POST", "/swarm/release") => self.release(&body),
            ("GET" | "HEAD", "/") => (200, json!({})),
            _ => (404, openai::error(404, &format!("no such path: {path}"))),
        };
        let (status, answer) = simple;
        (self.shared.observer)(&record.answered(Reply { status, ..Reply::default() }));
        self.answering.respond(status, "", answer.to_string().as_bytes())
    }

    /// Tells about one model.
    fn show(&self, body: &Value) -> (u16, Value) {
        // Older clients say `name`.
        let name = body["model"].as_str().or_else(|| body["name"].as_str()).unwrap_or_default();
        match self.shared.model(name) {
            Some(model) => (200, ollama::show(&model)),
            None => (404, Ollama.error(404, &format!("model '{name}' not found"))),
        }
    }

    /// Lets a conversation go on.
    fn release(&self, body: &Value) -> (u16, Value) {
        match body["conversation"].as_str() {
            Some(conversation) => {
                self.shared.release(conversation);
                (200, json!({"released": conversation}))
            }
            None => (400, openai::error(400, "expected {\"conversation\": NAME}")),
        }
    }

    /// Plays the turn that a conversation has come to.
    fn answer_chat(mut self, record: RequestRecord, body: &Value, protocol: &dyn Protocol) -> io::Result<()> {
        let mut asked = protocol.read(body);
        asked.dialogue.cwd = working_folder(&asked.dialogue);
        asked.dialogue.session = self.session(&asked.dialogue);
        let dialogue = &asked.dialogue;
        let record = record.understood(&dialogue.system, &dialogue.messages, &dialogue.session);
        let step = match self.step(&asked) {
            Ok(step) => step,
            Err((status, message)) => {
                let error = Some(message.clone());
                (self.shared.observer)(&record.answered(Reply { status, error, ..Reply::default() }));
                let answer = protocol.error(status, &message).to_string();
                return self.answering.respond(status, "", answer.as_bytes());
            }
        };
        let fault = self.shared.faults.due(&dialogue.session, &step);
        (self.shared.observer)(&record.answered(reply(&step, fault.as_ref())));
        match &fault {
            Some(Fault { kind: FaultKind::Status(status), .. }) => self.send_status(*status, &fault, protocol),
            _ if asked.is_stream => self.send_stream(&asked, &step, fault.as_ref(), protocol),
            _ => self.send_whole(&asked, &step, fault.as_ref(), protocol),
        }
    }

    /// The turn to play, or the status and the words of a refusal.
    fn step(&self, asked: &Asked) -> Result<Step, (u16, String)> {
        if !asked.body.is_object() {
            return Err((400, "the body is no JSON object".to_owned()));
        }
        let Some(model) = self.shared.model(&asked.model) else {
            return Err((404, format!("model '{}' not found", asked.model)));
        };
        if asked.has_tools && !model.tools {
            return Err((400, format!("{} does not support tools", asked.model)));
        }
        if asked.wants_json {
            return Ok(title());
        }
        let next = self.shared.play.next(&asked.dialogue, |_| fresh_id("toolu"));
        next.map_err(|astray| (400, astray.text().to_owned()))
    }

    /// What tells this client from others.
    fn session(&self, dialogue: &Dialogue) -> String {
        let named = SESSION_HEADERS.iter().find_map(|name| self.request.headers.get(*name));
        named.cloned().unwrap_or_else(|| {
            let first = dialogue.messages.iter().find_map(|message| match message {
                Message::User { text } => Some(text.as_str()),
                _ => None,
            });
            let hash = Sha256::digest(first.unwrap_or_default().as_bytes());
            hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
        })
    }

    /// Sends an error answer.
    fn send_status(&mut self, status: u16, fault: &Option<Fault>, protocol: &dyn Protocol) -> io::Result<()> {
        let message = fault.as_ref().and_then(|fault| fault.message.as_deref()).unwrap_or(SCRIPTED);
        let retry_after = fault.as_ref().and_then(|fault| fault.retry_after);
        // Whole seconds is all that every client reads; the other header is what some read first.
        let headers = retry_after.map_or_else(String::new, |time| {
            let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
            format!("Retry-After: {seconds}\r\nRetry-After-Ms: {}\r\n", time.as_millis())
        });
        self.answering.respond(status, &headers, protocol.error(status, message).to_string().as_bytes())
    }

    /// Waits as a fault says before anything is sent; false if there is nobody to send to any more.
    fn wait_first(&self, step: &Step, fault: Option<&Fault>) -> bool {
        match fault {
            Some(Fault { kind: FaultKind::Hang, .. }) => self.wait_for_release(step),
            Some(Fault { kind: FaultKind::Slow, first, .. }) => self.shared.pause(*first),
            _ => true,
        }
    }

    /// Waits until the conversation is released.
    fn wait_for_release(&self, step: &Step) -> bool {
        self.shared.wait_for_release(&step.conversation, || self.answering.is_closed())
    }

    /// Sends the message as a stream, or as much of it as the fault lets through.
    fn send_stream(
        &mut self,
        asked: &Asked,
        step: &Step,
        fault: Option<&Fault>,
        protocol: &dyn Protocol,
    ) -> io::Result<()> {
        if !self.wait_first(step, fault) {
            return Ok(());
        }
        let frames = protocol.frames(asked, step);
        let kind = fault.map(|fault| fault.kind);
        let is_broken = matches!(kind, Some(FaultKind::Cut | FaultKind::Error | FaultKind::Malformed));
        let shown = if is_broken { frames.content.len().div_ceil(2) } else { frames.content.len() };
        let between = fault.and_then(|fault| fault.between);
        self.answering.begin_stream(protocol.stream_type())?;
        for frame in frames.start.iter().chain(&frames.content[..shown]) {
            self.answering.send(frame)?;
            if kind == Some(FaultKind::Slow) && !self.shared.pause(between) {
                return Ok(());
            }
        }
        match kind {
            // Nothing ends the stream: the client sees a connection that broke.
            Some(FaultKind::Cut) => return Ok(()),
            Some(FaultKind::Malformed) => self.answering.send(MALFORMED)?,
            Some(FaultKind::Error) => {
                let message = fault.and_then(|fault| fault.message.as_deref()).unwrap_or(SCRIPTED);
                self.answering.send(&protocol.error_frame(message))?;
            }
            Some(FaultKind::HangAtEnd) if !self.wait_for_release(step) => return Ok(()),
            _ => {
                for frame in &frames.end {
                    self.answering.send(frame)?;
                }
            }
        }
        self.answering.end_stream()
    }

    /// Sends the message as one document, or as much of it as the fault lets through.
    fn send_whole(
        &mut self,
        asked: &Asked,
        step: &Step,
        fault: Option<&Fault>,
        protocol: &dyn Protocol,
    ) -> io::Result<()> {
        if !self.wait_first(step, fault) {
            return Ok(());
        }
        let document = protocol.whole(asked, step).to_string();
        let (first, second) = document.as_bytes().split_at(document.len() / 2);
        match fault.map(|fault| fault.kind) {
            Some(FaultKind::Malformed) => self.answering.respond(200, "", MALFORMED.as_bytes()),
            Some(FaultKind::Error) => {
                let message = fault.and_then(|fault| fault.message.as_deref()).unwrap_or(SCRIPTED);
                self.answering.respond(500, "", protocol.error(500, message).to_string().as_bytes())
            }
            Some(FaultKind::Cut | FaultKind::HangAtEnd) => {
                self.answering.begin_whole(200, "", document.len())?;
                self.answering.send_raw(first)?;
                if fault.is_some_and(|fault| fault.kind == FaultKind::Cut) || !self.wait_for_release(step) {
                    return Ok(());
                }
                self.answering.send_raw(second)
            }
            _ => self.answering.respond(200, "", document.as_bytes()),
        }
    }
}

/// A title in JSON.
fn title() -> Step {
    Step {
        conversation: String::new(),
        turn: 0,
        blocks: vec![Block::Text { text: TITLE.to_owned() }],
        stop: StopReason::End,
        tokens: Tokens { input_tokens: 0, output_tokens: 0 },
        measured: true,
        faults: Vec::new(),
    }
}

/// What is written down of an answer.
fn reply(step: &Step, fault: Option<&Fault>) -> Reply {
    let parts = step.blocks.iter().map(|block| match block {
        Block::Text { .. } => "text",
        Block::Thinking { .. } => "thinking",
        Block::ToolCall { name, .. } => name,
    });
    let has_name = !step.conversation.is_empty();
    Reply {
        status: match fault.map(|fault| fault.kind) {
            Some(FaultKind::Status(status)) => status,
            _ => 200,
        },
        conversation: has_name.then(|| step.conversation.clone()),
        turn: has_name.then_some(step.turn + 1),
        answer: Some(parts.collect::<Vec<_>>().join(", ")),
        fault: fault.map(|fault| fault.kind.to_string()),
        error: None,
    }
}

/// The client's working folder, which agents tell the model in a line of their own.
fn working_folder(dialogue: &Dialogue) -> Option<String> {
    let said = dialogue.messages.iter().filter_map(|message| match message {
        Message::User { text } => Some(text.as_str()),
        _ => None,
    });
    std::iter::once(dialogue.system.as_str()).chain(said).find_map(|text| {
        FOLDER_MARKS.iter().find_map(|(begin, end)| {
            let (_, rest) = text.split_once(begin)?;
            let folder = rest.split(end).next().unwrap_or(rest).trim();
            folder.starts_with('/').then(|| folder.to_owned())
        })
    })
}

/// `GET /v1/models`, in a shape that is right for both APIs that have it.
fn model_list(models: &[crate::llm::script::ServedModel]) -> Value {
    let list = models.iter().map(|model| {
        json!({
            "id": model.name, "object": "model", "type": "model", "display_name": model.name, "created": 0,
            "created_at": "1970-01-01T00:00:00Z", "owned_by": "script",
        })
    });
    json!({"object": "list", "data": list.collect::<Value>(), "has_more": false})
}
