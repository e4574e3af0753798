//! What is written down of a request.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::http::HttpRequest;
use crate::llm::message::Message;
use crate::model::Time;

/// Version of [`RequestRecord`].
const VERSION: u32 = 1;

/// Headers whose values are secrets.
const SECRET_HEADERS: [&str; 5] = ["authorization", "x-api-key", "api-key", "cookie", "proxy-authorization"];

/// A request to the scripted model, as a client sent it and as it was understood.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct RequestRecord {
    /// Version of this shape; within one version fields are only added.
    version: u32,
    /// When it had come whole.
    pub(crate) at: Time,
    /// `POST`, `GET`, ...
    pub(crate) method: String,
    /// Path with the query, such as `/v1/messages?beta=true`.
    pub(crate) path: String,
    /// Header names in lower case; keys and tokens are left out.
    headers: BTreeMap<String, String>,
    /// The JSON body; null if there was none, a text if it was no JSON.
    body: Value,
    /// The system prompt, whatever the API.
    system: String,
    /// The conversation, whatever the API; empty where a request has none.
    messages: Vec<Message>,
    /// What tells the client from others: a session it names, else made of its first prompt.
    session: String,
    /// How it is answered.
    pub(crate) reply: Reply,
}

/// How a request is answered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Reply {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The conversation it chose; absent if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) conversation: Option<String>,
    /// The turn that is played, from 1; absent with the conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) turn: Option<usize>,
    /// What the model says and calls, in short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) answer: Option<String>,
    /// The fault that happens instead, or with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<String>,
    /// Why there is nothing to play for it, maybe several lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

impl RequestRecord {
    /// A record of a request, not understood yet.
    pub(super) fn new(request: &HttpRequest, body: Value) -> Self {
        let hide = |name: &str, value: &str| {
            let shown = if SECRET_HEADERS.contains(&name) { "[redacted]" } else { value };
            (name.to_owned(), shown.to_owned())
        };
        Self {
            version: VERSION,
            at: Time::now(),
            method: request.method.clone(),
            path: request.path.clone(),
            headers: request.headers.iter().map(|(name, value)| hide(name, value)).collect(),
            body,
            system: String::new(),
            messages: Vec::new(),
            session: String::new(),
            reply: Reply::default(),
        }
    }

    /// The same with its conversation.
    pub(super) fn understood(mut self, system: &str, messages: &[Message], session: &str) -> Self {
        system.clone_into(&mut self.system);
        self.messages = messages.to_vec();
        session.clone_into(&mut self.session);
        self
    }

    /// The same with its answer.
    pub(super) fn answered(mut self, reply: Reply) -> Self {
        self.reply = reply;
        self
    }
}
