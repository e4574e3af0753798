//! Chat with a model, whoever serves it.
//!
//! A [`ChatModel`] takes a whole conversation and gives the model's next message. What a provider can do differs;
//! what callers see does not: the same messages, tool calls, usage and errors for Ollama, OpenAI-compatible servers,
//! Anthropic Messages and a replayed recording. Nothing here knows about workers, tickets or terminals.

mod error;
mod message;
mod play;
pub(crate) mod replay;
pub(crate) mod script;

pub(crate) use error::{ChatError, Trouble};
pub(crate) use message::{Answer, Block, ChatRequest, Delta, Message, StopReason, ToolResult, ToolSpec, Usage};

/// Somebody who answers.
pub(crate) trait ChatModel: Send {
    /// Asks for the next message. `on_delta` hears of it as it comes, in order; what it heard before an error is not
    /// part of the conversation.
    ///
    /// Cancel safe: dropping the future ends the request at the provider, and the model can be asked again.
    ///
    /// # Errors
    /// One [`ChatError`] for the whole request; [`ChatError::trouble`] says what the caller can do about it.
    fn chat<'a>(
        &'a mut self,
        request: &'a ChatRequest<'a>,
        on_delta: &'a mut (dyn FnMut(Delta) + Send),
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Answer, ChatError>> + Send + 'a>>;

    /// Tokens that fit into one request with its answer; `None` where nobody says.
    fn context_window(&self) -> Option<u64>;

    /// `provider/model` as people write it; changes when a chain moves on.
    fn name(&self) -> String;
}
