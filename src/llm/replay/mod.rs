//! `model: replay:FILE`, and the recordings that it plays.
//!
//! [`Replay`] answers from a script or a recording, always the same to the same conversation. Which answer comes next is
//! read off the conversation, so a loop that was killed goes on where it was. What the loop is told by its tools is
//! compared with what the recording saw: a replay that went another way says so instead of playing on.

mod compare;
mod recorder;
mod recording;

use std::future::pending;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

pub(crate) use recorder::Recorder;
#[cfg(test)]
pub(crate) use recording::Exchange;
pub(crate) use recording::{BadExchange, Recording};

use super::ChatModel;
use super::error::{ChatError, Trouble};
use super::message::{Answer, Block, ChatRequest, Delta, Usage};
use super::play::{Astray, Dialogue, FaultCounts, Play, Step};
use super::script::{Fault, FaultKind};
use crate::model::causes;

/// Bytes of text that one piece of a streamed answer has at most.
const PIECE_BYTES: usize = 48;

/// A model that plays a file.
#[derive(Debug)]
pub(crate) struct Replay {
    /// What it plays.
    play: Play,
    /// The working folder of the conversation.
    cwd: String,
    /// As people write it.
    name: String,
    /// Faults that have happened.
    faults: FaultCounts,
}

impl Replay {
    /// Opens a script, or a recording if the file's name ends in `.jsonl`. `cwd` is the folder in which the tools work.
    ///
    /// # Errors
    /// [`Trouble::BadRequest`] with what is wrong with the file, and where.
    pub(crate) fn open(file: &Path, cwd: &Path) -> Result<Self, ChatError> {
        let name = format!("replay:{}", file.display());
        match Play::load(file) {
            Ok(play) => Ok(Self { play, cwd: cwd.display().to_string(), name, faults: FaultCounts::default() }),
            Err(error) => Err(ChatError {
                model: name,
                trouble: Trouble::BadRequest,
                message: causes(&error).join(": "),
                hint: Some(format!("run `swarm replay check {}`", file.display())),
                source: None,
            }),
        }
    }

    /// The next answer, with the fault that is due before it.
    fn next(&self, request: &ChatRequest<'_>) -> Result<(Step, Option<Fault>), ChatError> {
        let dialogue = Dialogue {
            system: request.system.to_owned(),
            messages: request.messages.to_vec(),
            cwd: Some(self.cwd.clone()),
            session: String::new(),
        };
        let position = request.messages.len();
        let step = self.play.next(&dialogue, |index| format!("call-{position}-{index}"));
        let step = step.map_err(|astray| match astray {
            Astray::NoConversation(text) => self.trouble(Trouble::BadRequest, text),
            Astray::Mismatch(text) => self.trouble(Trouble::Mismatch, text),
        })?;
        let fault = self.faults.due("", &step);
        Ok((step, fault))
    }

    /// An error of this model.
    fn trouble(&self, trouble: Trouble, message: impl Into<String>) -> ChatError {
        ChatError { model: self.name.clone(), trouble, message: message.into(), hint: None, source: None }
    }

    /// Plays one step.
    async fn play(
        &self,
        request: &ChatRequest<'_>,
        on_delta: &mut (dyn FnMut(Delta) + Send),
    ) -> Result<Answer, ChatError> {
        let (step, fault) = self.next(request)?;
        match fault.as_ref().map(|fault| fault.kind) {
            Some(FaultKind::Status(status)) => return Err(self.status(status, fault.as_ref())),
            Some(FaultKind::Malformed) => return Err(self.trouble(Trouble::Malformed, "a scripted malformed answer")),
            // Nobody can release a conversation inside this process: it ends by being cancelled.
            Some(FaultKind::Hang) => pending().await,
            _ => {}
        }
        let slow = fault.as_ref().filter(|fault| fault.kind == FaultKind::Slow);
        pause(slow.and_then(|fault| fault.first)).await;
        for delta in deltas(&step.blocks) {
            on_delta(delta);
            match fault.as_ref().map(|fault| (fault.kind, fault.message.as_deref())) {
                Some((FaultKind::Cut, _)) => return Err(self.trouble(Trouble::Cut, "a scripted end in the middle")),
                Some((FaultKind::Error, message)) => {
                    return Err(self.trouble(Trouble::ServerError, message.unwrap_or(SCRIPTED)));
                }
                _ => pause(slow.and_then(|fault| fault.between)).await,
            }
        }
        if fault.is_some_and(|fault| fault.kind == FaultKind::HangAtEnd) {
            pending::<()>().await;
        }
        let usage = Usage {
            input_tokens: step.tokens.input_tokens,
            cached_tokens: 0,
            output_tokens: step.tokens.output_tokens,
            // Playing costs nothing, whatever the recorded answer did cost.
            cost_usd: Some(0.0),
            measured: step.measured,
        };
        Ok(Answer { blocks: step.blocks, stop: step.stop, usage, model: self.name.clone() })
    }

    /// The error that a provider's status stands for.
    fn status(&self, status: u16, fault: Option<&Fault>) -> ChatError {
        let retry_after = fault.and_then(|fault| fault.retry_after);
        let trouble = match status {
            401 | 403 => Trouble::Unauthorized,
            404 => Trouble::ModelMissing,
            413 => Trouble::TooLong,
            429 => Trouble::RateLimited { retry_after },
            503 | 529 => Trouble::Overloaded { retry_after },
            500.. => Trouble::ServerError,
            _ => Trouble::BadRequest,
        };
        let message = fault.and_then(|fault| fault.message.clone());
        self.trouble(trouble, message.unwrap_or_else(|| format!("{SCRIPTED} with status {status}")))
    }
}

/// What a fault without words of its own says.
pub(super) const SCRIPTED: &str = "a scripted fault";

/// Waits, if at all.
async fn pause(time: Option<Duration>) {
    if let Some(time) = time.filter(|time| !time.is_zero()) {
        tokio::time::sleep(time).await;
    }
}

/// An answer in the pieces in which it comes.
fn deltas(blocks: &[Block]) -> Vec<Delta> {
    let mut deltas = Vec::new();
    for block in blocks {
        match block {
            Block::Text { text } => deltas.extend(pieces(text).map(|piece| Delta::Text(piece.to_owned()))),
            Block::Thinking { text, .. } => {
                deltas.extend(pieces(text).map(|piece| Delta::Thinking(piece.to_owned())));
            }
            Block::ToolCall { name, .. } => deltas.push(Delta::ToolCall { name: name.clone() }),
        }
    }
    deltas
}

/// A text in pieces of whole characters; none of an empty one.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = (0..=PIECE_BYTES.min(rest.len())).rev().find(|end| rest.is_char_boundary(*end)).unwrap_or_default();
        let (piece, after) = rest.split_at(end);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

impl ChatModel for Replay {
    fn chat<'a>(
        &'a mut self,
        request: &'a ChatRequest<'a>,
        on_delta: &'a mut (dyn FnMut(Delta) + Send),
    ) -> Pin<Box<dyn Future<Output = Result<Answer, ChatError>> + Send + 'a>> {
        Box::pin(self.play(request, on_delta))
    }

    fn context_window(&self) -> Option<u64> {
        self.play.models().first().and_then(|model| model.context)
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

#[cfg(test)]
mod tests;
