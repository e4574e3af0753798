//! What is said: requests, messages, answers. The serialised forms are what conversation files and recordings hold.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Everything a model is given for one answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChatRequest<'a> {
    /// The system prompt; empty is none.
    pub(crate) system: &'a str,
    /// The conversation, oldest first: begins with a user message, and every tool call of a message is answered by
    /// the tool message right after it.
    pub(crate) messages: &'a [Message],
    /// The tools it may call.
    pub(crate) tools: &'a [ToolSpec],
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "role", rename_all = "snake_case")]
pub(crate) enum Message {
    /// From the person, or from us in their place.
    User {
        /// What was said.
        text: String,
    },
    /// From the model.
    Assistant {
        /// Its parts in order; may be empty.
        blocks: Vec<Block>,
    },
    /// What the tools answered.
    Tool {
        /// One for each call of the message before, in its order.
        results: Vec<ToolResult>,
    },
}

/// One part of a model's message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Block {
    /// Said to the person.
    Text {
        /// What.
        text: String,
    },
    /// Thought before saying.
    Thinking {
        /// What.
        text: String,
        /// The provider's proof that these are its thoughts, to be sent back with them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signature: Option<String>,
    },
    /// A call of a tool.
    ToolCall {
        /// Pairs call and result; made up by us where the provider gives none. Unique in a conversation.
        id: String,
        /// The tool as the model named it; it may not exist.
        name: String,
        /// Its input. A text that should have been a JSON object, but is not, stays what it was: a JSON string.
        input: Value,
    },
}

/// What one tool call came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ToolResult {
    /// The call's id.
    pub(crate) call_id: String,
    /// The call's tool; some providers pair by it.
    pub(crate) name: String,
    /// What the model gets to read.
    pub(crate) text: String,
    /// Whether it went wrong.
    #[serde(default)]
    pub(crate) is_error: bool,
}

/// A tool as the model gets to know it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToolSpec {
    /// Its name: letters, digits, `_` and `-`, at most 64.
    pub(crate) name: String,
    /// What it does and how to use it well.
    pub(crate) description: String,
    /// JSON Schema of its input, an object.
    pub(crate) parameters: Value,
}

/// A piece of an answer as it comes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Delta {
    /// More text.
    Text(String),
    /// More thought.
    Thinking(String),
    /// A tool call began; its input comes with the answer.
    ToolCall {
        /// The tool's name.
        name: String,
    },
    /// All of this answer that came so far is void: it begins anew, with another model or after a lost connection.
    Restart {
        /// One clause for a person.
        reason: String,
    },
    /// Nothing of the answer: the only model that is left is busy or over its limits, and is waited for.
    Busy {
        /// What it said, one clause.
        why: String,
        /// How long it asks for.
        wait: Option<Duration>,
    },
}

/// The model's next message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// The message, an [`Message::Assistant`]'s parts.
    pub(crate) blocks: Vec<Block>,
    /// Why it ended there.
    pub(crate) stop: StopReason,
    /// What it cost.
    pub(crate) usage: Usage,
    /// `provider/model` that gave it.
    pub(crate) model: String,
}

/// Why a message ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StopReason {
    /// The model had nothing more to say. Whether it called tools is in the blocks.
    End,
    /// It ran into its limit of output tokens or the end of its context.
    Length,
    /// The provider withheld the rest, in its word.
    Refused(String),
}

/// What one answer used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Usage {
    /// Input tokens, cached ones included.
    pub(crate) input_tokens: u64,
    /// Those of the input tokens that the provider had in its cache.
    #[serde(default)]
    pub(crate) cached_tokens: u64,
    /// Output tokens, thoughts included.
    pub(crate) output_tokens: u64,
    /// US dollars by the price table; zero for local models, `None` where no price is known.
    pub(crate) cost_usd: Option<f64>,
    /// Whether the provider counted the tokens; otherwise we estimated them.
    pub(crate) measured: bool,
}
