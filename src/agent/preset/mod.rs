//! Any agent program that a preset describes: how it is started is in `start`, what it says is read by `mapping` and
//! told by `conversation`. What each program needs stands in data files, see [`crate::model::preset`].

mod conversation;
mod mapping;
mod start;

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use uuid::Uuid;

use self::conversation::{Conversation, fresh, show};
pub(super) use self::start::acp;
use self::start::install_hint;
use super::command::signal_name;
use super::event::{AgentEvent, Ending, Exit, ExitInfo, HookCall, HookReply};
use super::launch::{Confirm, Launch, LaunchPlan, Mode, StopRequest, Submission, Turns, find_program, variable};
use super::{AgentError, Probe, Runtime};
use crate::model::Time;
use crate::model::agent::Agent;
use crate::model::preset::{ExitMeaning, Preset, Start};
use crate::process::{Invocation, run};
use crate::terminal::bracketed_paste;

/// A line longer than this is left out: memory is finite.
const LINE_LIMIT: usize = 32 * 1024 * 1024;
/// How long a program may take to say its version. Some unpack themselves first.
const VERSION_WITHIN: Duration = Duration::from_secs(20);

/// One running program with a preset.
#[derive(Debug)]
pub(super) struct PresetAgent {
    /// What is known about it.
    preset: Preset,
    /// How it was started.
    start: Start,
    /// Whether a person's terminal is its input.
    is_interactive: bool,
    /// Whether it was given something to do.
    has_prompt: bool,
    /// Whether the beginning was told.
    is_begun: bool,
    /// What is known about its conversation.
    conversation: Conversation,
    /// The line under way.
    line: Vec<u8>,
    /// Whether the line under way is too long and left out.
    is_skipping: bool,
    /// The last line that was no event: where a program says why it did not start.
    last_text: Option<String>,
}

impl PresetAgent {
    /// A program that was not started.
    pub(super) fn new(preset: &Preset) -> Self {
        Self {
            preset: preset.clone(),
            start: preset.headless.clone(),
            is_interactive: false,
            has_prompt: false,
            is_begun: false,
            conversation: Conversation::default(),
            line: Vec::new(),
            is_skipping: false,
            last_text: None,
        }
    }

    /// Takes what a line or hook says.
    fn take(&mut self, document: &Value, at: Time, events: &mut Vec<AgentEvent>) -> bool {
        let Some(all) = mapping::read(&self.preset.events, document) else { return false };
        for said in all {
            self.conversation.take(said, at, events);
        }
        true
    }

    /// Takes the line under way as if it were whole.
    fn end_line(&mut self, at: Time, events: &mut Vec<AgentEvent>) {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.is_skipping) {
            show("(a line of more than 32 MiB was left out)", events);
            return;
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        match serde_json::from_str::<Value>(text) {
            Ok(document) if document.is_object() => {
                self.take(&document, at, events);
            }
            _ => {
                let is_known = self.take(&json!({"line": text}), at, events);
                if !is_known {
                    self.last_text = Some(text.to_owned());
                    show(text, events);
                }
            }
        }
    }

    /// Why it ended with a code, as far as it said something.
    fn reason(&self, code: i32, exit: &ExitInfo) -> String {
        let title = &self.preset.title;
        let on_screen = || exit.last_lines.iter().rev().map(String::as_str).find(|line| !line.trim().is_empty());
        match self.last_text.as_deref().or_else(on_screen) {
            Some(said) => format!("{title} exited with code {code}: {}", super::display::one_line(said, 300)),
            None => format!("{title} exited with code {code}"),
        }
    }

    /// Whether its preset says what the end of a turn looks like.
    fn marks_turns(&self) -> bool {
        self.start.stream && self.preset.events.iter().any(|rule| rule.turn_ended)
    }
}

impl Runtime for PresetAgent {
    fn launch(&mut self, plan: &LaunchPlan<'_>) -> Result<Launch, AgentError> {
        let launch = start::prepare(plan, &self.preset)?;
        self.start = start::way(&self.preset, plan.mode).clone();
        self.is_interactive = plan.mode == Mode::Interactive && self.preset.interactive.is_some();
        self.has_prompt = !plan.prompt.is_empty();
        self.is_begun = false;
        let prefix = self.preset.ids_repeat.then(|| format!("{}-", &Uuid::new_v4().simple().to_string()[..8]));
        let prefix = prefix.unwrap_or_default();
        self.conversation = fresh(plan.worktree, self.preset.usage, prefix, self.is_interactive);
        Ok(launch)
    }

    fn started(&mut self, _pid: u32) {}

    fn output(&mut self, bytes: &[u8], at: Time) -> Vec<AgentEvent> {
        let mut events = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + piece.len() > LINE_LIMIT {
                self.is_skipping = true;
                self.line.clear();
            }
            if !self.is_skipping {
                self.line.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                self.end_line(at, &mut events);
            }
        }
        events
    }

    fn hook(&mut self, call: &HookCall) -> (Vec<AgentEvent>, HookReply) {
        let mut events = Vec::new();
        let mut document = call.payload.clone();
        if let Some(fields) = document.as_object_mut() {
            fields.insert("hook".to_owned(), json!(call.event));
            self.take(&document, call.at, &mut events);
        }
        (events, HookReply::default())
    }

    fn poll(&mut self, _now: Time) -> Vec<AgentEvent> {
        let mut events = Vec::new();
        // Its hooks tell the end of a turn only. That the first one began follows from the start.
        if self.is_interactive && self.start.hooks && !std::mem::replace(&mut self.is_begun, true) {
            if self.has_prompt {
                self.conversation.begin(&mut events);
            } else {
                events.push(AgentEvent::TurnEnded { finished: false, background: 0, last_message: None });
            }
        }
        events
    }

    fn exited(&mut self, exit: &ExitInfo, at: Time) -> (Vec<AgentEvent>, Ending) {
        let mut events = Vec::new();
        self.end_line(at, &mut events);
        self.conversation.close_calls(at, &mut events);
        let interrupted = |reason: String| Ending::Interrupted { reason };
        let code = match exit.exit {
            Exit::Code(code) => code,
            Exit::Signal(number) => {
                let reason = format!("{} was ended by {}", self.preset.title, signal_name(number));
                return (events, interrupted(reason));
            }
        };
        let failed = |reason, is_transient| Ending::Failed { reason, is_transient, exit_code: Some(code) };
        let ending = match (self.conversation.failure(), self.preset.exit_codes.get(&code.to_string()), code) {
            (_, Some(ExitMeaning::Limit), _) => Ending::Limit { reason: self.reason(code, exit) },
            (_, Some(ExitMeaning::NeedsPerson), _) => Ending::NeedsPerson { reason: self.reason(code, exit) },
            (_, Some(ExitMeaning::Interrupted), _) => interrupted(self.reason(code, exit)),
            (Some((reason, is_transient)), ..) => failed(reason.clone(), *is_transient),
            (None, None, 0) if self.marks_turns() && !self.conversation.has_ended_turn() => {
                interrupted(format!("{} ended in the middle of a turn", self.preset.title))
            }
            (None, None, 0) => Ending::Finished { denied: self.conversation.denied().to_vec() },
            (None, None, 129 | 130 | 131 | 137 | 143) => {
                interrupted(format!("{} was ended by {}", self.preset.title, signal_name(code - 128)))
            }
            (None, None, _) => failed(self.reason(code, exit), false),
        };
        (events, ending)
    }

    fn submit(&self, text: &str) -> Result<Submission, AgentError> {
        if !self.is_interactive {
            return Err(AgentError::CannotReceive { who: "a program in print mode" });
        }
        if self.conversation.is_waiting() {
            return Err(AgentError::AsksPerson);
        }
        let bytes = [&bracketed_paste(text.trim()), &b"\r"[..]].concat();
        Ok(Submission { keys: Vec::new(), bytes, confirm: Confirm::None, is_queued_while_busy: true })
    }

    fn stop(&self) -> StopRequest {
        StopRequest { signal: Signal::TERM, to_group: true }
    }
}

/// How the program's process relates to its turns.
pub(super) fn turns(preset: &Preset, mode: Mode) -> Turns {
    let start = start::way(preset, mode);
    match (start.stream, start.hooks, &start.resume) {
        (false, true, _) => Turns::Conversation,
        (_, _, Some(_)) if start.stream => Turns::Resumable,
        _ => Turns::OneShot,
    }
}

/// Whether it tells of its tool calls.
pub(super) fn tells_tools(preset: &Preset, mode: Mode) -> bool {
    start::way(preset, mode).stream
}

/// Whether the program is there, starts, and somebody is logged in.
pub(super) fn probe(agent: &Agent, preset: &Preset, env: &[(String, String)], cwd: &Path) -> Probe {
    let (named, before) = agent.command.split_first().map_or((&preset.program, &[][..]), |(name, rest)| (name, rest));
    let path = find_program(named.as_ref(), env, cwd);
    let mut probe =
        Probe { program: named.clone(), path, version: None, model: None, problem: None, doubt: None, hint: None };
    let Some(path) = &probe.path else {
        probe.problem = Some(format!("no program `{named}` was found"));
        probe.hint = Some(install_hint(preset));
        return probe;
    };
    let mut call = Invocation::new(path, cwd).args(before.iter().chain(&preset.version));
    call.env = Some(env.iter().map(|(name, value)| (name.into(), value.into())).collect());
    call.timeout = Some(VERSION_WITHIN);
    match run(&call) {
        Ok(finished) if finished.status.success() => {
            probe.version = finished.text().lines().last().map(|line| line.trim().to_owned());
        }
        Ok(finished) => probe.problem = Some(format!("`{named}` exited with code {} at once", finished.code())),
        Err(error) => probe.problem = Some(error.to_string()),
    }
    if probe.problem.is_some() {
        probe.hint = Some(install_hint(preset));
    } else if !is_logged_in(preset, env) {
        probe.doubt = Some("nobody seems to be logged in".to_owned());
        probe.hint = preset.login.as_ref().map(|login| format!("log in with `{}`", login.command));
    }
    probe
}

/// Whether a key or a file that holds a login is there; true where nothing is known about logins.
fn is_logged_in(preset: &Preset, env: &[(String, String)]) -> bool {
    let Some(login) = &preset.login else { return true };
    let home = variable(env, "HOME").unwrap_or("/");
    let moved = [("~/.config/", "XDG_CONFIG_HOME"), ("~/.local/share/", "XDG_DATA_HOME")];
    let is_there = |file: &String| {
        let moved = moved.iter().find_map(|(place, name)| Some((file.strip_prefix(place)?, variable(env, name)?)));
        match (moved, file.strip_prefix("~/")) {
            (Some((rest, folder)), _) => Path::new(folder).join(rest).exists(),
            (None, Some(rest)) => Path::new(home).join(rest).exists(),
            (None, None) => Path::new(file).exists(),
        }
    };
    login.env.iter().any(|name| variable(env, name).is_some()) || login.files.iter().any(is_there)
}

#[cfg(test)]
mod tests;
