//! The Claude Code program as a runtime, in a terminal and in print mode.
//!
//! Three sources tell what it does: hooks (both modes), its event stream (print mode) and files it keeps about
//! itself (hints). They speak of the same things in any order, so all of them go through one [`Session`], which
//! tells each thing once. What was measured about the program, with which versions, is noted where it is used.

mod arguments;
mod ending;
mod folder;
mod hooks;
mod parts;
mod session;
mod status_file;
mod stream;
mod transcript;
mod version;

use std::path::PathBuf;

use rustix::process::Signal;

use self::folder::Folder;
use self::session::Session;
use self::status_file::{Doing, StatusFile};
use self::stream::Stream;
use self::transcript::Transcript;
use super::display;
use super::event::{AgentEvent, Ending, ExitInfo, HookCall, HookReply, Usage};
use super::launch::{Confirm, Launch, LaunchPlan, Mode, StopRequest, Submission};
use super::policy::Policy;
use super::{AgentError, Runtime};
use crate::model::Time;
use crate::model::tool_call::ToolOutcome;
use crate::terminal::bracketed_paste;

pub(super) use self::version::probe;

/// Keys that empty the input line: to the end of the line, then delete line by line; one Ctrl-U takes one line or one
/// line end. In one write with a text they would be taken for a part of it (2.1.197, 2.1.329).
const CLEAR_INPUT: &[u8] = &{
    let mut keys = [0x15; 51];
    keys[0] = 0x05;
    keys
};

/// One running Claude Code.
#[derive(Debug, Default)]
pub(super) struct Claude {
    /// Whether its process ends with its work.
    is_print: bool,
    /// What it may not do; `None` judges nothing.
    policy: Option<Policy>,
    /// Where it keeps files about itself.
    folder: Option<Folder>,
    /// Its process.
    pid: Option<u32>,
    /// What is known about its conversation.
    session: Session,
    /// Its output in print mode.
    stream: Stream,
    /// Its conversation file.
    transcript: Transcript,
    /// Whether the model costs nothing, where somebody else than Anthropic serves it.
    is_free_elsewhere: Option<bool>,
    /// The usage last told.
    told_usage: Option<Usage>,
}

impl Claude {
    /// A runtime that only reads the hook calls of a process that is gone.
    pub(super) fn for_late_calls(policy: Option<Policy>) -> Self {
        Self { policy, ..Self::default() }
    }

    /// What the program says it is doing.
    fn status(&self) -> Option<StatusFile> {
        status_file::read(self.folder.as_ref()?, self.pid?)
    }

    /// Appends a usage event when the figures have grown.
    fn tell_usage(&mut self, events: &mut Vec<AgentEvent>) {
        let mut usage = self.stream.usage().merge(self.transcript.usage());
        if let Some(is_free) = self.is_free_elsewhere {
            // The program prices every model as if it were Anthropic's.
            usage.cost_usd = is_free.then_some(0.0);
        }
        if usage != self.told_usage.unwrap_or_default() {
            self.told_usage = Some(usage);
            events.push(AgentEvent::Usage(usage));
        }
    }
}

impl Runtime for Claude {
    fn launch(&mut self, plan: &LaunchPlan<'_>) -> Result<Launch, AgentError> {
        let prepared = arguments::prepare(plan)?;
        self.is_print = plan.mode == Mode::Print;
        self.session = Session::new(self.is_print, prepared.launch.session_id.clone().unwrap_or_default());
        self.stream = Stream::new(plan.worktree);
        self.transcript = Transcript::default();
        self.is_free_elsewhere = prepared.provider.map(|provider| provider.is_free);
        self.policy = Some(prepared.policy);
        self.folder = Some(prepared.folder);
        Ok(prepared.launch)
    }

    fn started(&mut self, pid: u32) {
        self.pid = Some(pid);
    }

    fn output(&mut self, bytes: &[u8], at: Time) -> Vec<AgentEvent> {
        let mut events = Vec::new();
        self.stream.feed(bytes, at, &mut self.session, &mut events);
        self.tell_usage(&mut events);
        events
    }

    fn hook(&mut self, call: &HookCall) -> (Vec<AgentEvent>, HookReply) {
        if let Some(path) = call.text("transcript_path") {
            self.transcript.follow(&PathBuf::from(path));
        }
        hooks::take(call, self.policy.as_ref(), &mut self.session)
    }

    fn poll(&mut self, now: Time) -> Vec<AgentEvent> {
        let mut events = Vec::new();
        if !self.is_print {
            self.session.compare(self.status().as_ref(), now, &mut events);
        }
        self.transcript.read_on();
        self.tell_usage(&mut events);
        events
    }

    fn exited(&mut self, exit: &ExitInfo, at: Time) -> (Vec<AgentEvent>, Ending) {
        let mut events = Vec::new();
        self.stream.finish(at, &mut self.session, &mut events);
        self.transcript.read_on();
        self.tell_usage(&mut events);
        self.session.close_calls(ToolOutcome::Interrupted, at, &mut events, |_| true);
        let ending = if self.is_print {
            ending::of_print(exit, self.stream.result(), self.stream.last_text(), self.session.denied())
        } else {
            ending::of_terminal(exit, &self.session)
        };
        (events, ending)
    }

    fn submit(&self, text: &str) -> Result<Submission, AgentError> {
        if self.is_print {
            return Err(AgentError::CannotReceive { who: "claude in print mode" });
        }
        let status = self.status();
        if self.session.is_waiting() || status.as_ref().is_some_and(|status| matches!(status.doing, Doing::Waiting(_)))
        {
            return Err(AgentError::AsksPerson);
        }
        if !self.session.is_ready() && status.is_none() {
            return Err(AgentError::NotReady);
        }
        let keys = if self.session.begin_typing() { Vec::new() } else { CLEAR_INPUT.to_vec() };
        // One write is enough, and nothing can come between its parts.
        let bytes = [&paste(text), b"\r".as_slice()].concat();
        Ok(Submission { keys, bytes, confirm: Confirm::TurnStarted, is_queued_while_busy: true })
    }

    fn stop(&self) -> StopRequest {
        // It ends its tools itself, and says goodbye by its SessionEnd hook.
        StopRequest { signal: Signal::TERM, to_group: false }
    }
}

/// A text as one paste. A text that begins like a command of the program would not reach the model: a line before it
/// makes it a message (after a space, the key that submits is lost); control characters are dropped from a paste, so
/// none may hide such a beginning. A tab reaches the model as four spaces, and four lines or more come in a frame of
/// tags: the program's doing (2.1.329).
fn paste(text: &str) -> Vec<u8> {
    let text = text.trim_start_matches(|letter: char| letter.is_whitespace() || letter.is_control()).trim_end();
    if text.starts_with(['/', '!']) { bracketed_paste(&format!("Message:\n{text}")) } else { bracketed_paste(text) }
}

impl Usage {
    /// The greater of two figures each: both are counts of one conversation, and one may lag behind.
    fn merge(self, other: Self) -> Self {
        let cost_usd = match (self.cost_usd, other.cost_usd) {
            (Some(one), Some(two)) => Some(one.max(two)),
            (one, two) => one.or(two),
        };
        Self {
            input_tokens: self.input_tokens.max(other.input_tokens),
            output_tokens: self.output_tokens.max(other.output_tokens),
            cost_usd,
            is_estimated: false,
        }
    }
}

#[cfg(test)]
mod tests;
