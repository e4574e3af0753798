//! Agents of the Agent Client Protocol as a runtime. A process of ours (`swarm acp`, hidden) stands in the worker's
//! terminal: it starts the agent as its child, speaks the protocol with it, shows what it does, takes what is typed,
//! and reports as the agent loop does. So attaching, recording, killing and resuming work as for every agent, and
//! [`Told`] reads its reports. This side, [`Acp`], starts that process.

mod calls;
mod peer;
mod plan;
mod run;

use super::super::event::{AgentEvent, Ending, ExitInfo, HookCall, HookReply};
use super::super::launch::{
    Confirm, Launch, LaunchPlan, Mode, StopRequest, Submission, check_argument, environment, find_program,
};
use super::super::preset;
use super::super::{AgentError, Probe, Runtime};
use super::told::Told;
use crate::model::Time;
use crate::model::agent::Agent;
use crate::terminal::bracketed_paste;

pub(crate) use self::plan::AcpPlan;
pub(crate) use self::run::run;

/// The key that empties the input line.
const CLEAR_INPUT: u8 = 0x15;

/// One running agent, seen from its supervisor.
#[derive(Debug, Default)]
pub(in crate::agent) struct Acp {
    /// Whether its process ends with its work.
    is_print: bool,
    /// What was told.
    told: Told,
}

impl Runtime for Acp {
    fn launch(&mut self, plan: &LaunchPlan<'_>) -> Result<Launch, AgentError> {
        if plan.mode == Mode::Print && plan.prompt.trim().is_empty() {
            return Err(AgentError::EmptyPrompt);
        }
        let (argv, env) = child(plan)?;
        for argument in &argv {
            check_argument(argument, "command line", "shorten the agent definition")?;
        }
        let file = plan.worker_dir.join("acp-plan.json");
        AcpPlan::new(plan, &argv).save(&file)?;
        self.is_print = plan.mode == Mode::Print;
        self.told = Told::default();
        Ok(Launch {
            argv: vec![plan.swarm_exe.into(), "acp".into(), file.clone().into()],
            env,
            files: vec![file],
            raw_output: false,
            session_id: plan.resume.map(ToOwned::to_owned),
            is_resumed: plan.resume.is_some(),
            usage_restarts: true,
            warnings: warnings(plan.agent),
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
            return Err(AgentError::CannotReceive { who: "an agent without a terminal" });
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
        // It ends the agent itself, and says goodbye.
        StopRequest { signal: rustix::process::Signal::TERM, to_group: false }
    }
}

/// Program and arguments of the agent, and the environment of both processes.
fn child(plan: &LaunchPlan<'_>) -> Result<(Vec<std::ffi::OsString>, Environment), AgentError> {
    let ours = [("SWARM_PROMPT_FILE", plan.prompt_file.as_os_str())];
    if let Some(preset) = &plan.agent.preset {
        return preset::acp(plan, preset);
    }
    let mut argv: Vec<std::ffi::OsString> = plan.agent.command.iter().map(Into::into).collect();
    let named = plan.agent.command.first().cloned().unwrap_or_default();
    let missing = || AgentError::ProgramNotFound { program: named.clone(), hint: format!("install `{named}`") };
    argv[0] = find_program(named.as_ref(), plan.env, plan.worktree).ok_or_else(missing)?.into();
    Ok((argv, environment(plan.env, &ours)))
}

/// An environment as a launch has it.
type Environment = Vec<(std::ffi::OsString, std::ffi::OsString)>;

/// Parts of the definition that do not reach the agent.
fn warnings(agent: &Agent) -> Vec<String> {
    let is_lost = !agent.tools.iter().all(|tool| tool.contains('('));
    let text = format!("an agent of the protocol cannot be told `tools` of the agent `{}`", agent.name);
    is_lost.then_some(text).into_iter().collect()
}

/// Whether the agent's program is there.
pub(in crate::agent) fn probe(agent: &Agent, env: &[(String, String)], cwd: &std::path::Path) -> Probe {
    match &agent.preset {
        Some(preset) => preset::probe(agent, preset, env, cwd),
        None => crate::agent::command::probe(agent, env, cwd),
    }
}
