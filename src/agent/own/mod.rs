//! The agent loop of `swarm` itself: a runtime that needs no agent program, only a model.
//!
//! The loop is a process of its own in the worker's terminal (`swarm loop`, hidden), so that attaching, recording,
//! killing and resuming work as for every agent. This side of it, [`Own`], starts that process and reads its reports;
//! the other side, [`run`], is the process.

pub(super) mod acp;
#[cfg(feature = "bench-internals")]
mod bench;
mod context;
mod conversation;
mod face;
mod model_task;
mod permission;
mod plan;
mod report;
mod run;
mod signals;
mod text_calls;
mod told;
mod tools;
mod turn;

use std::ffi::OsString;

use uuid::Uuid;

#[cfg(feature = "bench-internals")]
pub use self::bench::{LoopTimes, measure as measure_loop};
pub(crate) use self::plan::LoopPlan;
use self::plan::conversation_file;
pub(super) use self::plan::model;
pub(crate) use self::report::Reporter;
pub(crate) use self::run::{LoopIo, run};
use self::told::Told;
use super::event::{AgentEvent, Ending, ExitInfo, HookCall, HookReply};
use super::launch::{Confirm, Launch, LaunchPlan, Mode, StopRequest, Submission, environment, variable};
use super::{AgentError, Probe, Runtime};
use crate::model::Time;
use crate::model::agent::Agent;
use crate::terminal::bracketed_paste;

/// The variable that names the recording which a worker's conversation is added to.
pub(crate) const RECORD: &str = "SWARM_RECORD";
/// The key that empties the loop's input line.
const CLEAR_INPUT: u8 = 0x15;

/// One running loop, seen from its supervisor.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// Whether its process ends with its work.
    is_print: bool,
    /// What it told.
    told: Told,
}

impl Runtime for Own {
    fn launch(&mut self, plan: &LaunchPlan<'_>) -> Result<Launch, AgentError> {
        if plan.mode == Mode::Print && plan.prompt.trim().is_empty() {
            return Err(AgentError::EmptyPrompt);
        }
        // A conversation may have ended before its first message was written; calls of another one are not its calls.
        let known = plan.resume.filter(|id| conversation::has_begun(&conversation_file(plan.worker_dir, id)));
        let session = known.map_or_else(|| Uuid::new_v4().to_string(), ToOwned::to_owned);
        let file = plan.worker_dir.join("loop-plan.json");
        LoopPlan::new(plan, &session)?.save(&file)?;
        self.is_print = plan.mode == Mode::Print;
        self.told = Told::default();
        let mut argv: Vec<OsString> = vec![plan.swarm_exe.into(), "loop".into(), file.clone().into()];
        if let Some(recording) = variable(plan.env, RECORD) {
            argv.extend(["--record".into(), recording.into()]);
        }
        Ok(Launch {
            argv,
            env: environment(plan.env, &[("SWARM_PROMPT_FILE", plan.prompt_file.as_os_str())]),
            files: vec![file],
            raw_output: false,
            session_id: Some(session),
            is_resumed: known.is_some(),
            usage_restarts: false,
            warnings: Vec::new(),
        })
    }

    fn started(&mut self, _pid: u32) {}

    fn output(&mut self, _bytes: &[u8], _at: Time) -> Vec<AgentEvent> {
        Vec::new()
    }

    fn hook(&mut self, call: &HookCall) -> (Vec<AgentEvent>, HookReply) {
        (self.told.take(call, self.is_print), HookReply::default())
    }

    fn poll(&mut self, _now: Time) -> Vec<AgentEvent> {
        Vec::new()
    }

    fn exited(&mut self, exit: &ExitInfo, at: Time) -> (Vec<AgentEvent>, Ending) {
        let events = self.told.close_calls(at);
        (events, self.told.ending(exit, self.is_print))
    }

    fn submit(&self, text: &str) -> Result<Submission, AgentError> {
        if self.is_print {
            return Err(AgentError::CannotReceive { who: "the agent loop in print mode" });
        }
        if self.told.is_waiting() {
            return Err(AgentError::AsksPerson);
        }
        if !self.told.is_ready() {
            return Err(AgentError::NotReady);
        }
        let bytes = [&[CLEAR_INPUT][..], &bracketed_paste(text.trim()), b"\r"].concat();
        Ok(Submission { keys: Vec::new(), bytes, confirm: Confirm::TurnStarted, is_queued_while_busy: true })
    }

    fn stop(&self) -> StopRequest {
        // It ends its tools itself, and says goodbye.
        StopRequest { signal: rustix::process::Signal::TERM, to_group: false }
    }
}

/// The loop is part of this program, so it is always there; [`super::probe()`] asks for its model.
pub(super) fn probe(agent: &Agent) -> Probe {
    let is_missing = agent.model.is_none();
    Probe {
        program: "swarm loop".to_owned(),
        path: None,
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        model: None,
        problem: is_missing.then(|| AgentError::NoModel.to_string()),
        doubt: None,
        hint: is_missing.then(|| AgentError::NoModel.hint()).flatten(),
    }
}

#[cfg(test)]
mod tests;
