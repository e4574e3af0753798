//! Runtimes: agent definition + ticket -> program, arguments, environment and files; and back: what the program
//! prints, its hooks and its files -> events and an ending.
//!
//! A [`Runtime`] owns the knowledge about one kind of program and nothing else. It starts no process, opens no
//! terminal and keeps no log: the supervisor does, and feeds it. So everything here is a plain function of what
//! was fed, apart from the files [`Runtime::launch`] writes and [`Runtime::poll`] reads.
//!
//! Calls are told once: however often and in whatever order hooks and stream speak of a tool call, a runtime
//! emits at most one [`AgentEvent::ToolStarted`] and one [`AgentEvent::ToolEnded`] for it. [`ToolLog`] keeps the
//! same promise over restarts of the supervisor.

mod answer;
mod claude;
mod command;
mod display;
mod error;
mod event;
mod launch;
mod own;
mod patience;
mod policy;
mod preset;
mod probe;
mod redact;
mod spool;
#[cfg(test)]
mod testing;
mod tool_log;

pub(crate) use answer::last_object;
pub(crate) use error::AgentError;
pub(crate) use event::{AgentEvent, Denial, Ending, Exit, ExitInfo, HookCall, HookReply, Usage};
#[cfg(test)]
pub(crate) use event::{ToolEnd, ToolStart};
pub(crate) use launch::{Confirm, Launch, LaunchPlan, Mode, StopRequest, Submission, Turns};
pub(crate) use own::acp::{AcpPlan, run as run_acp};
pub(crate) use own::{LoopIo, LoopPlan, RECORD, Reporter, run as run_loop};
#[cfg(feature = "bench-internals")]
pub use own::{LoopTimes, measure_loop};
pub(crate) use policy::{Policy, policy_file, reply_by_policy};
pub(crate) use probe::{Probe, probe};
pub(crate) use redact::Redactor;
pub(crate) use spool::{append_to_spool, discard_spool, take_spool};
pub(crate) use tool_log::ToolLog;

use crate::model::Time;
use crate::model::agent::{Agent, RuntimeKind};

/// One running agent as its kind of program shows itself. A value serves one launch.
pub(crate) trait Runtime: Send {
    /// Works out what to start, and writes the files it needs into the plan's worker folder and nowhere else.
    /// Starts nothing. The same plan may be launched again; files are then replaced.
    fn launch(&mut self, plan: &LaunchPlan) -> Result<Launch, AgentError>;

    /// Takes note of the agent's process. The first thing called after the start.
    fn started(&mut self, pid: u32);

    /// Takes what the agent wrote, in order, cut anywhere. Only to be called where [`Launch::raw_output`] is set.
    /// What is to be shown comes back as [`AgentEvent::Display`].
    fn output(&mut self, bytes: &[u8], at: Time) -> Vec<AgentEvent>;

    /// Takes one hook call and says what the hook answers. Unknown hooks and odd payloads are answered with
    /// consent and no event. Calls may come late, twice or not at all.
    fn hook(&mut self, call: &HookCall) -> (Vec<AgentEvent>, HookReply);

    /// Looks at the files the agent keeps about itself. They are hints: what is missing or unreadable is no event.
    /// Cheap enough for once a second.
    fn poll(&mut self, now: Time) -> Vec<AgentEvent>;

    /// Draws the end from how the process ended and all that was fed before. Ends every open call. Called once,
    /// after the last output was fed.
    fn exited(&mut self, exit: &ExitInfo, at: Time) -> (Vec<AgentEvent>, Ending);

    /// What to type so that `text` becomes the agent's next message.
    ///
    /// # Errors
    /// [`AgentError::CannotReceive`] where this agent takes no messages, [`AgentError::NotReady`] and
    /// [`AgentError::AsksPerson`] where it does not take one now.
    fn submit(&self, text: &str) -> Result<Submission, AgentError>;

    /// How to ask the agent to end by itself.
    fn stop(&self) -> StopRequest;
}

/// What the hook calls of an agent that is gone tell, oldest first; they are judged as they were then, by `policy`.
/// For calls that found no supervisor and were kept in a spool.
pub(crate) fn late_events(kind: RuntimeKind, calls: &[HookCall], policy: Option<Policy>) -> Vec<AgentEvent> {
    match kind {
        RuntimeKind::Claude => {
            let mut runtime = claude::Claude::for_late_calls(policy);
            calls.iter().flat_map(|call| runtime.hook(call).0).collect()
        }
        RuntimeKind::Command => Vec::new(),
        RuntimeKind::Acp => {
            let mut runtime = own::acp::Acp::default();
            calls.iter().flat_map(|call| runtime.hook(call).0).collect()
        }
        RuntimeKind::Ollama | RuntimeKind::Replay => {
            let mut runtime = own::Own::default();
            calls.iter().flat_map(|call| runtime.hook(call).0).collect()
        }
    }
}

/// A fresh runtime for an agent.
pub(crate) fn runtime(agent: &Agent) -> Box<dyn Runtime> {
    match (agent.runtime, &agent.preset) {
        (RuntimeKind::Claude, _) => Box::new(claude::Claude::default()),
        (RuntimeKind::Command, Some(preset)) => Box::new(preset::PresetAgent::new(preset)),
        (RuntimeKind::Command, None) => Box::new(command::Command::default()),
        (RuntimeKind::Acp, _) => Box::new(own::acp::Acp::default()),
        (RuntimeKind::Ollama | RuntimeKind::Replay, _) => Box::new(own::Own::default()),
    }
}

/// How an agent's process relates to its turns.
pub(crate) fn turns(agent: &Agent, mode: Mode) -> Turns {
    match (agent.runtime, &agent.preset, mode) {
        (RuntimeKind::Command, Some(preset), mode) => preset::turns(preset, mode),
        (RuntimeKind::Command, None, _) => Turns::OneShot,
        (_, _, Mode::Interactive) => Turns::Conversation,
        (_, _, Mode::Print) => Turns::Resumable,
    }
}

/// Whether an agent tells of its tool calls.
pub(crate) fn tells_tools(agent: &Agent, mode: Mode) -> bool {
    match (agent.runtime, &agent.preset) {
        (RuntimeKind::Command, Some(preset)) => preset::tells_tools(preset, mode),
        (runtime, _) => runtime != RuntimeKind::Command,
    }
}
