//! Chat with a model, whoever serves it.
//!
//! A [`ChatModel`] takes a whole conversation and gives the model's next message. What a provider can do differs;
//! what callers see does not: the same messages, tool calls, usage and errors for Ollama, OpenAI-compatible servers,
//! Anthropic Messages and a replayed recording. Nothing here knows about workers, tickets or terminals.
//!
//! [`model`] opens what a person named: one model, a list of models in order of preference, or a recording. What it
//! gives tries again, waits and moves on by itself (`chain`), so an error from it is final for this request. Below the
//! chain, `served` asks one model of one provider: `wire` holds what differs between providers (the shape of requests
//! and streams), `http` the connection with its time-outs, `target` the words and fixing commands of errors, `draft`
//! the answer as it grows, `prices` what it cost.
//!
//! Why our own code over a plain HTTP client, and no client crate (read in their sources, versions as of this writing):
//! `genai` 0.7 speaks to all providers, keeps `retry-after` and has an idle time-out, but its Ollama part never sends
//! `num_ctx` or `keep_alive`, ignores an `{"error"}` line in the middle of a stream, and turns a stream that was cut
//! into a good answer. `ollama-rs` 0.3 prints broken lines and error lines to stderr and goes on, drops a chunk that
//! ends inside a character, and keeps no status code. `async-openai` 0.43 is strict about OpenAI's own types, where
//! compatible servers differ most, and speaks to nobody else. `rig-core` 0.46 is the closest (Ollama's fields,
//! error lines, `retry-after`), but needs a newer compiler than we support, changes its interface with every release
//! and brings 120 crates. `siumai` 0.11 is a beta. None keeps arguments that are not JSON, and none tells a cut
//! stream from a finished one for every provider. The parts we need are three decoders of a few hundred lines, so
//! `reqwest` (HTTP/1.1, proxies, time-outs) with `rustls` does the rest. Together they add 2.6 MB to a stripped program and
//! less than 0.1 ms to its start. Nothing of either runs before the first request: the client is made then, in 0.1 ms, or in
//! 4 ms for `https` with its list of trusted certificates.

mod anthropic;
mod chain;
mod draft;
mod endpoint;
mod error;
mod fault;
mod http;
mod lines;
mod message;
mod ollama;
mod openai;
pub(crate) mod play;
mod prices;
mod probe;
mod reference;
pub(crate) mod replay;
pub(crate) mod script;
pub(crate) mod serve;
mod served;
mod target;
#[cfg(test)]
mod test_server;
mod wire;

pub(crate) use chain::Budget;
pub(crate) use endpoint::{Endpoint, endpoint, tool_models};
pub(crate) use error::{ChatError, Trouble};
pub(crate) use message::{Answer, Block, ChatRequest, Delta, Message, StopReason, ToolResult, ToolSpec, Usage};
pub(crate) use probe::{Probe, probe, unpriced};

use std::path::Path;

use self::reference::Reference;
use crate::config::Environment;
use crate::model::providers::ModelSettings;

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

    /// Tokens that fit into one request with its answer; `None` where nobody says. A provider may tell it with the
    /// first answer only, and a chain that moves on changes it, so ask before each request.
    fn context_window(&self) -> Option<u64>;

    /// `provider/model` as people write it; changes when a chain moves on.
    fn name(&self) -> String;
}

/// What a model is opened with.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    /// Who serves models.
    pub(crate) settings: &'a ModelSettings,
    /// Where keys and addresses are, by the names in the settings.
    pub(crate) environment: &'a Environment,
    /// The folder in which the tools of the conversation work; a recording is played back into it.
    pub(crate) folder: &'a Path,
    /// What models that cost money may cost together; `None` is without limit.
    pub(crate) budget: Option<Budget>,
}

/// Opens what `reference` names: `provider/model`, a model of the default provider, the name of a list in `models`, or
/// `replay:FILE`. Asks nobody yet, so that a server which is not there is told by the first request.
///
/// # Errors
/// [`Trouble::BadRequest`] when nothing has that name, or a recording cannot be read.
pub(crate) fn model(reference: &str, surroundings: Surroundings<'_>) -> Result<Box<dyn ChatModel>, ChatError> {
    let Surroundings { settings, environment, folder, budget } = surroundings;
    match reference::resolve(reference, settings)? {
        Reference::Models(names) => {
            let models = names.into_iter().map(|name| served::open(name, settings, environment)).collect();
            Ok(Box::new(chain::Chain::new(models, budget)))
        }
        Reference::Replay(file) => Ok(Box::new(replay::Replay::open(&file, folder)?)),
    }
}
