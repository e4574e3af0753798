//! Any program as an agent: the prompt goes in by file, standard input or argument, the exit code comes out.

use std::ffi::OsStr;
use std::path::Path;

use rustix::process::Signal;

use super::event::{AgentEvent, Ending, Exit, ExitInfo, HookCall, HookReply};
use super::launch::{
    Confirm, Launch, LaunchPlan, StopRequest, Submission, check_argument, environment, find_program,
    read_from_prompt_file,
};
use super::{AgentError, Probe, Runtime};
use crate::config::{CommandValues, expand_command};
use crate::model::Time;
use crate::model::agent::{Agent, PromptDelivery};

/// What to do about an argument that is too long.
const LONG_HINT: &str = "use `prompt: file` and `{prompt_file}` in the agent definition";

/// A program that runs as an agent.
#[derive(Debug, Default)]
pub(super) struct Command {
    /// Whether the terminal is its input, so that it can be typed to.
    reads_terminal: bool,
}

impl Runtime for Command {
    fn launch(&mut self, plan: &LaunchPlan<'_>) -> Result<Launch, AgentError> {
        let agent = plan.agent;
        let mut argv = expand_command(
            agent,
            &CommandValues {
                prompt_file: plan.prompt_file.as_os_str(),
                worktree: plan.worktree.as_os_str(),
                repo: plan.repo.as_os_str(),
                ticket: plan.ticket.as_str().as_ref(),
                worker: plan.worker.as_str().as_ref(),
                branch: plan.branch.as_str().as_ref(),
            },
        );
        let named = argv.first().cloned().unwrap_or_default();
        let missing =
            || AgentError::ProgramNotFound { program: named.to_string_lossy().into_owned(), hint: missing_hint(agent) };
        let program = find_program(&named, plan.env, plan.worktree).ok_or_else(missing)?;
        argv[0] = program.into();
        if agent.prompt == PromptDelivery::Argument {
            argv.push(plan.prompt.into());
        }
        for argument in &argv {
            check_argument(argument, "prompt or command line", LONG_HINT)?;
        }
        if agent.prompt == PromptDelivery::Stdin {
            argv = read_from_prompt_file(argv);
        }
        self.reads_terminal = agent.prompt != PromptDelivery::Stdin;
        Ok(Launch {
            argv,
            env: environment(plan.env, &[("SWARM_PROMPT_FILE", plan.prompt_file.as_os_str())]),
            files: Vec::new(),
            raw_output: false,
            session_id: None,
            is_resumed: false,
            usage_restarts: false,
            warnings: Vec::new(),
        })
    }

    fn started(&mut self, _pid: u32) {}

    fn output(&mut self, _bytes: &[u8], _at: Time) -> Vec<AgentEvent> {
        Vec::new()
    }

    fn hook(&mut self, _call: &HookCall) -> (Vec<AgentEvent>, HookReply) {
        (Vec::new(), HookReply::default())
    }

    fn poll(&mut self, _now: Time) -> Vec<AgentEvent> {
        Vec::new()
    }

    fn exited(&mut self, exit: &ExitInfo, _at: Time) -> (Vec<AgentEvent>, Ending) {
        let failed = |reason, exit_code| Ending::Failed { reason, is_transient: false, exit_code };
        let ending = match exit.exit {
            Exit::Code(0) => Ending::Finished { denied: Vec::new() },
            Exit::Code(code) => failed(format!("its command exited with code {code}"), Some(code)),
            Exit::Signal(number) => failed(format!("its command was ended by {}", signal_name(number)), None),
        };
        (Vec::new(), ending)
    }

    fn submit(&self, text: &str) -> Result<Submission, AgentError> {
        if !self.reads_terminal {
            return Err(AgentError::CannotReceive { who: "a command that read its prompt from standard input" });
        }
        let mut line = text.trim_end_matches('\n').replace("\r\n", "\n").replace('\n', "\r").into_bytes();
        line.push(b'\r');
        Ok(Submission { keys: Vec::new(), bytes: line, confirm: Confirm::None, is_queued_while_busy: true })
    }

    fn stop(&self) -> StopRequest {
        StopRequest { signal: Signal::TERM, to_group: true }
    }
}

/// How to get the program of `agent`.
fn missing_hint(agent: &Agent) -> String {
    let program = agent.command.first().map_or("", String::as_str);
    if program.contains('/') {
        format!("check that `{program}` is there and executable; a relative path counts from the worktree")
    } else {
        format!("install `{program}`, or change `command` of the agent `{}`", agent.name)
    }
}

/// Whether the program of a command agent is there.
pub(super) fn probe(agent: &Agent, env: &[(String, String)], cwd: &Path) -> Probe {
    let program = agent.command.first().cloned().unwrap_or_default();
    // A placeholder is known only at launch; a path relative to the worktree is looked for in `cwd`.
    let is_open = program.contains('{');
    let path = if is_open { None } else { find_program(OsStr::new(&program), env, cwd) };
    let is_missing = !is_open && path.is_none();
    Probe {
        path,
        version: None,
        model: None,
        problem: is_missing.then(|| format!("no program `{program}` was found")),
        doubt: None,
        hint: is_missing.then(|| missing_hint(agent)),
        program,
    }
}

/// A signal's name, such as `SIGKILL`, or its number.
pub(super) fn signal_name(number: i32) -> String {
    let name = match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return format!("signal {number}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests;
