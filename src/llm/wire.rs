//! What differs between the ways of speaking to models.

use serde_json::Value;

use super::ChatRequest;
use super::draft::{Draft, End};
use super::fault::Fault;
use super::lines::Framing;
use super::target::Target;

/// One way of speaking to models. Knows nothing of connections.
pub(super) trait Wire: Send + Sync {
    /// How its streams are cut.
    fn framing(&self) -> Framing;

    /// The path of a chat, below the address.
    fn path(&self) -> &'static str;

    /// The request, complete.
    fn body(&self, request: &ChatRequest<'_>) -> Value;

    /// Reads one answer.
    fn decoder<'a>(&'a self, target: &'a Target) -> Box<dyn Decoder + 'a>;

    /// How to ask for what a model can do; `None` where there is no such question.
    fn question(&self) -> Option<Question> {
        None
    }

    /// What the answer to the question says.
    fn abilities(&self, answer: &Value) -> Abilities {
        let _: &Value = answer;
        Abilities::default()
    }

    /// Learns from a refusal how the server wants to be asked. True when the same request is worth another try.
    fn learn(&mut self, fault: &Fault) -> bool {
        let _: &Fault = fault;
        false
    }
}

/// A question to the server about a model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Question {
    /// The path, below the address.
    pub(super) path: String,
    /// What is sent; `None` is a GET.
    pub(super) body: Option<Value>,
}

/// What a server says about a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Abilities {
    /// Whether it has the model; `None` when it does not say.
    pub(super) present: Option<bool>,
    /// Tokens of a request with its answer.
    pub(super) context_window: Option<u64>,
    /// Whether the model can call tools.
    pub(super) tools: Option<bool>,
    /// Models it has, for advice.
    pub(super) others: Vec<String>,
}

/// Reads the payloads of one answer.
pub(super) trait Decoder: Send {
    /// Takes the next payload. True when the answer is complete and nothing more is wanted.
    fn payload(&mut self, payload: &str, draft: &mut Draft<'_>) -> Result<bool, Fault>;

    /// The stream ended. Completes what is open.
    ///
    /// # Errors
    /// [`Trouble::Cut`](super::Trouble::Cut) when the answer is not complete.
    fn end(&mut self, draft: &mut Draft<'_>) -> Result<End, Fault>;
}
