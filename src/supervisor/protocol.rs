//! What is said over a supervisor's socket: one JSON object a line each way, then raw bytes for an attached client.

use serde::{Deserialize, Serialize};

use crate::agent::HookCall;
use crate::model::CommitId;
use crate::model::budget::BudgetSettings;

/// A line from a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub(crate) enum Request {
    /// One hook call of the agent.
    Hook {
        /// The call.
        call: HookCall,
    },
    /// A message for the agent.
    Send {
        /// The text.
        text: String,
        /// Set when landing or review sends work back: finishing without a commit beyond this one is a failure.
        returned_at: Option<CommitId>,
    },
    /// A letter was put into the worker's mailbox.
    Mail {
        /// Which.
        id: String,
    },
    /// Something that the agent should know of, at the boundary of the turn that it is in; it is refused when it is in
    /// none, and replaces an earlier one that it has not read.
    Notice {
        /// The text.
        text: String,
    },
    /// Hold.
    Pause {
        /// Stop the processes at once.
        now: bool,
    },
    /// Go on after a pause, or look again at what a person was waited for.
    Resume {
        /// What may be spent from now on; absent leaves it as it is.
        #[serde(default)]
        budget: Option<BudgetSettings>,
    },
    /// End the agent, keep the work, and exit.
    Stop {
        /// Who asks, as a clause.
        reason: String,
        /// Whether the attempt has failed, instead of having been stopped.
        #[serde(default)]
        is_failure: bool,
    },
    /// Show the terminal; after the reply, frames from the client and raw bytes from the supervisor follow.
    Attach {
        /// Columns of the client's terminal.
        columns: u16,
        /// Rows of the client's terminal.
        rows: u16,
        /// Nothing typed reaches the agent.
        read_only: bool,
    },
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub(crate) enum Reply {
    /// Done.
    Ok,
    /// A hook's answer.
    Hook {
        /// What the hook prints.
        stdout: String,
    },
    /// The message was typed into the agent's terminal and the agent took it.
    Delivered,
    /// The message waits for the turn boundary.
    Queued {
        /// What it waits for.
        until: String,
    },
    /// The supervisor ends and did nothing of it; also what a connection says that closes without an answer.
    Ending,
    /// It cannot be done.
    Refused {
        /// Why, in one clause.
        why: String,
    },
}

/// What an attached client sends: a kind byte, a big-endian length, the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Typed bytes.
    Input(Vec<u8>),
    /// The client's terminal has another size.
    Resize {
        /// Columns.
        columns: u16,
        /// Rows.
        rows: u16,
    },
}

/// Largest payload of a frame in bytes; more is a broken client.
pub(crate) const FRAME_LIMIT: usize = 1 << 20;

impl Frame {
    /// The frame as sent.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (kind, payload) = match self {
            Self::Input(bytes) => (b'i', bytes.clone()),
            Self::Resize { columns, rows } => (b'r', [columns.to_be_bytes(), rows.to_be_bytes()].concat()),
        };
        let mut bytes = vec![kind];
        bytes.extend(u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    /// Takes one whole frame off the front of `buffer`; `None` when more bytes are needed.
    ///
    /// # Errors
    /// A clause when the bytes are no frame; the connection is of no use then.
    pub(crate) fn take(buffer: &mut Vec<u8>) -> Result<Option<Self>, &'static str> {
        let Some((header, rest)) = buffer.split_first_chunk::<5>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if length > FRAME_LIMIT {
            return Err("a frame is too large");
        }
        if rest.len() < length {
            return Ok(None);
        }
        let frame = match (header[0], &rest[..length]) {
            (b'i', bytes) => Self::Input(bytes.to_vec()),
            (b'r', &[c1, c0, r1, r0]) => {
                Self::Resize { columns: u16::from_be_bytes([c1, c0]), rows: u16::from_be_bytes([r1, r0]) }
            }
            _ => return Err("a frame has an unknown kind"),
        };
        buffer.drain(..5 + length);
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_being_split_anywhere() {
        let frames = [Frame::Input(b"hello".to_vec()), Frame::Resize { columns: 80, rows: 24 }, Frame::Input(vec![])];
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        let mut buffer = Vec::new();
        let mut seen = Vec::new();
        for byte in bytes {
            buffer.push(byte);
            while let Some(frame) = Frame::take(&mut buffer).unwrap() {
                seen.push(frame);
            }
        }
        assert_eq!(seen, frames);
    }

    #[test]
    fn a_broken_frame_is_refused() {
        assert!(Frame::take(&mut vec![b'x', 0, 0, 0, 0]).is_err());
        assert!(Frame::take(&mut vec![b'i', 255, 0, 0, 0]).is_err());
    }
}
