//! Messages between people, agents and programs: on channels, which everybody may read, and in the mailboxes of workers.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Time, WorkerId, cut};

/// Bytes of a message as JSON, at most.
pub(crate) const MESSAGE_BYTES: usize = 64 * 1024;

/// What the address of a mailbox begins with.
const MAIL: &str = "mail.";

/// One message; public as JSON, on servers too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Message {
    /// Version of this shape.
    pub(crate) schema: u32,
    /// Names the message: publishing it again publishes nothing. A reply names it.
    pub(crate) id: String,
    /// Its place in the order of its channel's engine; only grows. Absent in what is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seq: Option<u64>,
    /// When it was made.
    pub(crate) at: Time,
    /// Who says it.
    pub(crate) from: Sender,
    /// A channel, or `mail.` and a worker.
    pub(crate) channel: Address,
    /// What it says.
    pub(crate) text: String,
    /// Anything for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<Value>,
    /// The id of the message that this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reply_to: Option<String>,
    /// Nobody needs it any more after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<Time>,
}

/// Who says something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Sender {
    /// What kind of somebody.
    pub(crate) kind: SenderKind,
    /// Their name; a worker's is its id. May be empty.
    #[serde(default)]
    pub(crate) name: String,
}

/// Kinds of senders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SenderKind {
    /// A person at a terminal of their own.
    Person,
    /// The agent of a worker.
    Worker,
    /// `swarm` itself.
    Coordinator,
    /// Another program.
    Client,
}

impl Sender {
    /// A program about which nothing is known.
    pub(crate) fn client() -> Self {
        Self { kind: SenderKind::Client, name: String::new() }
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            SenderKind::Person => "person",
            SenderKind::Worker => "worker",
            SenderKind::Coordinator => "coordinator",
            SenderKind::Client => "client",
        };
        if self.name.is_empty() { f.write_str(kind) } else { write!(f, "{kind} {}", self.name) }
    }
}

/// Declares the channels with what they are for.
macro_rules! channels {
    ($($name:ident = $word:literal, $about:literal);+ $(;)?) => {
        /// Where everybody may listen.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Channel {
            $(#[doc = $about] $name),+
        }

        impl Channel {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$name),+];

            /// Its word.
            pub(crate) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word),+
                }
            }

            /// What it is for.
            pub(crate) fn about(self) -> &'static str {
                match self {
                    $(Self::$name => $about),+
                }
            }
        }
    };
}

channels! {
    Coordination = "coordination", "who does what, and in which order";
    Errors = "errors", "what went wrong; failed attempts and limits come by themselves";
    General = "general", "anything else";
    Results = "results", "what came of work; finished attempts and landings come by themselves";
    Roadmap = "roadmap", "what is planned";
    Status = "status", "how it goes; what workers do comes by itself";
    Tasks = "tasks", "every change of a ticket; to be read only";
}

impl Channel {
    /// Whether nobody publishes on it.
    pub(crate) fn is_read_only(self) -> bool {
        self == Self::Tasks
    }

    /// Those that are published on.
    pub(crate) fn open() -> Vec<Self> {
        Self::ALL.iter().copied().filter(|channel| !channel.is_read_only()).collect()
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Channel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|channel| channel.as_str() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|channel| channel.as_str()).collect();
            format!("`{text}` is not a channel; channels are {}", names.join(", "))
        })
    }
}

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub(crate) enum Address {
    /// To everybody who listens there.
    Channel(Channel),
    /// To one worker.
    Mail(WorkerId),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(channel) => channel.fmt(f),
            Self::Mail(worker) => write!(f, "{MAIL}{worker}"),
        }
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.strip_prefix(MAIL) {
            Some(worker) => Ok(Self::Mail(worker.parse().map_err(|error| format!("{error}"))?)),
            None => text.parse().map(Self::Channel),
        }
    }
}

impl Message {
    /// Version of the shape.
    const SCHEMA: u32 = 1;

    /// A message that is said now.
    pub(crate) fn now(from: Sender, channel: Address, text: impl Into<String>) -> Self {
        Self {
            schema: Self::SCHEMA,
            id: uuid::Uuid::new_v4().to_string(),
            seq: None,
            at: Time::now(),
            from,
            channel,
            text: text.into(),
            body: None,
            reply_to: None,
            expires_at: None,
        }
    }

    /// Reads what came over `channel` as number `seq` at `at`, whoever wrote it: what is missing is filled in, and what is no
    /// message of this shape is the text of one of nobody in particular.
    pub(crate) fn read(payload: &[u8], channel: Address, seq: u64, at: Time) -> Self {
        let value = serde_json::from_slice::<Value>(payload).unwrap_or(Value::Null);
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let time = |key: &str| serde_json::from_value::<Time>(value.get(key)?.clone()).ok();
        let from = value.get("from").and_then(|from| serde_json::from_value(from.clone()).ok());
        let plain = || cut(&String::from_utf8_lossy(payload), MESSAGE_BYTES).to_owned();
        Self {
            schema: Self::SCHEMA,
            id: text("id").filter(|id| !id.is_empty()).unwrap_or_else(|| seq.to_string()),
            seq: Some(seq),
            at: time("at").unwrap_or(at),
            from: from.unwrap_or_else(Sender::client),
            channel,
            text: text("text").unwrap_or_else(plain),
            body: value.get("body").filter(|body| !body.is_null()).cloned(),
            reply_to: text("reply_to"),
            expires_at: time("expires_at"),
        }
    }

    /// Whether nobody needs it any more.
    pub(crate) fn is_expired(&self, now: Time) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let worker: WorkerId = "fix+2".parse().unwrap();
        let from = Sender { kind: SenderKind::Worker, name: "other".to_owned() };
        let message = Message {
            body: Some(serde_json::json!({"a": [1]})),
            reply_to: Some("q".to_owned()),
            expires_at: Some(Time::from_millis(5)),
            ..Message::now(from, Address::Mail(worker), "Hello")
        };
        let json = serde_json::to_string(&message).unwrap();
        assert!(json.contains(r#""channel":"mail.fix+2""#) && !json.contains("seq"), "{json}");
        let read = Message::read(json.as_bytes(), message.channel.clone(), 7, Time::from_millis(0));
        assert_eq!(read, Message { seq: Some(7), ..message });
    }

    #[test]
    fn what_any_program_writes_is_a_message_of_a_client() {
        let read = |text: &str| {
            let at = Time::from_millis(9);
            let message = Message::read(text.as_bytes(), Address::Channel(Channel::General), 3, at);
            (message.from, message.text, message.id, message.at)
        };
        let client = |text: &str, id: &str| (Sender::client(), text.to_owned(), id.to_owned(), Time::from_millis(9));
        assert_eq!(read("plain"), client("plain", "3"));
        assert_eq!(read("[1, 2]"), client("[1, 2]", "3"));
        assert_eq!(read(r#"{"text":"hi","id":"x"}"#), client("hi", "x"));
        assert_eq!(read(r#"{"text":"hi","from":"me","at":5}"#), client("hi", "3"));
        let other = r#"{"task":"t"}"#;
        assert_eq!(read(other), client(other, "3"));
    }

    #[test]
    fn channels_are_known_by_their_words() {
        for channel in Channel::ALL {
            assert_eq!(channel.as_str().parse(), Ok(*channel));
        }
        assert!("chat".parse::<Channel>().unwrap_err().contains("coordination, errors"));
        assert!(Address::try_from("mail.a b".to_owned()).is_err());
    }
}
