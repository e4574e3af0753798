//! Starting the agent's process, typing into it, and noticing its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{CHUNK, DRAIN, Job, Running, Supervision, SupervisorError};
use crate::agent::{self, Exit, ExitInfo, Launch, LaunchPlan, Runtime};
use crate::config;
use crate::files::{self, Access};
use crate::model::Time;
use crate::model::briefing::Briefing;
use crate::model::event::Event;
use crate::model::worker::Figures;
use crate::process;
use crate::supervisor::MARKER;
use crate::supervisor::attached::Pane;
use crate::supervisor::finish::Progress;
use crate::supervisor::machine::Input;
use crate::terminal::{self, Pty, PtyCommand};

/// How often a finishing that was cancelled is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long a program gets to act on keys before the text that they prepare for (20 ms were enough for Claude Code).
const TAKES_KEYS: Duration = Duration::from_millis(150);
/// Pieces of typing that may wait for an agent that does not read.
const TYPED_AHEAD: usize = 256;
/// Lines of the screen that help to say why an agent ended.
const LAST_LINES: usize = 20;

impl Supervision {
    /// Starts the agent's process with this prompt.
    pub(super) fn start_agent(&mut self, prompt: &str, resume: Option<&str>) -> Result<(), SupervisorError> {
        let (launch, runtime) = self.plan_launch(prompt, resume)?;
        self.runtime = runtime;
        let is_counted_on = launch.usage_restarts && launch.is_resumed;
        self.facts.used_before = if is_counted_on { self.facts.figures } else { Figures::default() };
        self.spending.begin_process(launch.usage_restarts);
        let size = self.terminal.pane.as_ref().and_then(Pane::size).unwrap_or(self.terminal.size);
        let command = PtyCommand {
            argv: launch.argv,
            env: launch.env,
            cwd: self.assignment.worker.place.worktree.clone(),
            size,
            raw: launch.raw_output,
            stdin: None,
        };
        let pty = Arc::new(Pty::spawn(&command)?);
        let pid = pty.child_pid();
        self.runtime.started(pid);
        let (typing, queue) = mpsc::channel(TYPED_AHEAD);
        tokio::spawn(type_in_order(pty.clone(), queue));
        let identity = process::identify(pid)?;
        let raw_output = launch.raw_output;
        self.agent = Some(Running { pty, typing, identity, raw_output, is_silent: false, is_ending: false });
        let attempt = self.assignment.worker.attempt.number;
        let (agent, model) = (&self.assignment.handover.agent.name, self.assignment.handover.agent.model.clone());
        let (resumed, agent) = (launch.is_resumed, Some(agent.clone()));
        self.assignment.ledger.log(Event::AgentStarted { pid, attempt, resumed, agent, model })?;
        for text in launch.warnings {
            self.assignment.ledger.log(Event::Warning { text })?;
        }
        if let Some(session) = launch.session_id {
            self.set_session(session)?;
        }
        self.machine.handle(Input::Started { pid }, Time::now());
        Ok(())
    }

    /// Writes the prompt and works out what to start.
    fn plan_launch(&self, prompt: &str, resume: Option<&str>) -> Result<(Launch, Box<dyn Runtime>), SupervisorError> {
        let handover = &self.assignment.handover;
        let place = &self.assignment.worker.place;
        let system_prompt = config::render_system_prompt(&handover.agent, self.briefing())?;
        let prompt_file = self.assignment.paths.prompt(&self.assignment.worker.id);
        files::write_atomically(&prompt_file, prompt.as_bytes(), Access::Private)?;
        let plan = LaunchPlan {
            agent: &handover.agent,
            ticket: &self.assignment.worker.ticket,
            worker: &self.assignment.worker.id,
            branch: &place.branch,
            worktree: &place.worktree,
            repo: &handover.repository,
            common_dir: &handover.common_dir,
            worker_dir: &self.assignment.paths.worker_dir(&self.assignment.worker.id),
            prompt,
            ticket_prompt: handover.ticket_prompt.as_deref().unwrap_or(&handover.prompt),
            prompt_file: &prompt_file,
            system_prompt: &system_prompt,
            mode: self.assignment.launch_mode(),
            resume,
            env: &handover.env,
            swarm_exe: &handover.program,
            writable: &[],
            limits: &handover.limits,
            models: &handover.models,
            budget_usd: self.spending.budget.ticket.usd,
            spent_usd: self.spending.spent.ticket.cost_usd,
        };
        let mut runtime = agent::runtime(&handover.agent);
        let launch = runtime.launch(&plan)?;
        if resume.is_none() || launch.is_resumed {
            return Ok((launch, runtime));
        }
        // There is no such conversation, so the agent has not heard of its ticket.
        let anew = plan.anew();
        files::write_atomically(&prompt_file, anew.as_bytes(), Access::Private)?;
        let mut runtime = agent::runtime(&handover.agent);
        let launch = runtime.launch(&LaunchPlan { prompt: &anew, ..plan })?;
        Ok((launch, runtime))
    }

    /// The variables of templates.
    pub(super) fn briefing(&self) -> Briefing {
        Briefing::new(&self.assignment.worker, &self.assignment.handover.ticket, &self.assignment.handover.repository)
    }

    /// Remembers the agent's conversation for resume.
    pub(super) fn set_session(&mut self, session: String) -> Result<(), SupervisorError> {
        if self.assignment.worker.attempt.session_id.as_deref() == Some(session.as_str()) {
            return Ok(());
        }
        self.assignment.worker.attempt.session_id = Some(session.clone());
        self.tool_log.take(&agent::AgentEvent::SessionStarted { id: session.clone(), transcript: None })?;
        self.assignment.ledger.update(|worker| worker.attempt.session_id = Some(session))
    }

    /// Starts the agent again with a new prompt, in its conversation where it has one.
    pub(super) fn relaunch(&mut self, prompt: &str) -> Option<Input> {
        let resume = self.assignment.worker.attempt.session_id.clone();
        match self.start_agent(prompt, resume.as_deref()) {
            Ok(()) => None,
            Err(error) => {
                self.agent = None;
                let reason = format!("its agent could not be started again: {error}");
                Some(Input::Exited(agent::Ending::Failed { reason, is_transient: false, exit_code: None }))
            }
        }
    }

    /// Types a message.
    pub(super) async fn submit(&mut self, text: &str) {
        let Some(agent) = &self.agent else { return };
        match self.runtime.submit(text) {
            Ok(submission) => {
                let pieces = [submission.keys, submission.bytes].into_iter().filter(|piece| !piece.is_empty());
                if agent.typing.try_send(pieces.collect()).is_err() {
                    // It does not read what was typed before.
                    self.follow_up.push(Input::NotSubmitted { text: text.to_owned() });
                    return;
                }
                if submission.confirm == agent::Confirm::None {
                    let taken = agent::AgentEvent::TurnStarted { prompt: text.to_owned(), is_message: true };
                    self.follow_up.push(Input::Agent(taken));
                }
            }
            Err(error) => {
                self.note_error::<(), _>(Err(error));
                self.follow_up.push(Input::NotSubmitted { text: text.to_owned() });
            }
        }
    }

    /// The agent's process ended: reads what is left, then ends what it left running.
    pub(super) async fn agent_ended(&mut self, exit: std::io::Result<terminal::ExitInfo>) {
        let Some(agent) = &mut self.agent else { return };
        agent.is_ending = true;
        let mut rest = Vec::new();
        if !agent.is_silent {
            let pty = agent.pty.clone();
            pty.drain(DRAIN, |bytes| rest.extend_from_slice(&bytes[..bytes.len().min(16 * CHUNK)])).await.ok();
        }
        self.take_output(&rest).await;
        let exit = match exit {
            Ok(terminal::ExitInfo { signal: Some(signal), .. }) => Exit::Signal(signal),
            Ok(terminal::ExitInfo { code, .. }) => Exit::Code(code.unwrap_or(-1)),
            Err(_) => Exit::Code(-1),
        };
        let info = ExitInfo { exit, last_lines: self.terminal.screen.last_lines(LAST_LINES) };
        self.end_tree(Job::Exited(info));
    }

    /// Ends everything the agent started and reports `then`.
    pub(super) fn end_tree(&self, then: Job) {
        let group = self.agent.as_ref().map_or(0, |agent| agent.pty.child_pid());
        let grace = self.assignment.handover.limits.grace;
        let results = self.job_results.clone();
        let finishing = self.finishing.clone().filter(|_| self.machine.is_stopping());
        let marker = self.assignment.paths.worker_dir(&self.assignment.worker.id).to_string_lossy().into_owned();
        tokio::task::spawn_blocking(move || {
            if let Some(finishing) = finishing {
                end_finishing(&finishing, &marker, grace);
            }
            process::stop_agent_tree(group, grace).ok();
            results.blocking_send(then).ok();
        });
    }

    /// Sends a signal to the agent and all it started.
    pub(super) fn signal_agent(&self, what: rustix::process::Signal) -> Result<(), process::ProcessError> {
        let agent = self.agent.as_ref().map_or(0, |agent| agent.pty.child_pid());
        process::signal_agent_tree(agent, what)
    }

    /// Ends the agent; its exit, or [`Job::Gone`], follows.
    pub(super) fn end_agent(&mut self) {
        match &self.agent {
            Some(agent) if agent.is_ending => {}
            Some(agent) => {
                let group = agent.pty.child_pid();
                let request = self.runtime.stop();
                let grace = self.assignment.handover.limits.grace;
                tokio::task::spawn_blocking(move || {
                    process::ask_to_end(group, request.signal, request.to_group, grace);
                });
            }
            None => self.end_tree(Job::Gone),
        }
    }
}

/// Ends the hooks and checks of a finishing; they carry the worker's marker as the agent does.
fn end_finishing(finishing: &Progress, marker: &str, grace: Duration) {
    finishing.cancel();
    while finishing.is_running() {
        process::stop_marked(MARKER, marker, grace).ok();
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Types what comes, each piece whole before the next, and with a moment between those of one message.
async fn type_in_order(pty: Arc<Pty>, mut queue: mpsc::Receiver<Vec<Vec<u8>>>) {
    while let Some(pieces) = queue.recv().await {
        for (index, bytes) in pieces.iter().enumerate() {
            if index > 0 {
                tokio::time::sleep(TAKES_KEYS).await;
            }
            if pty.write_all(bytes).await.is_err() {
                return;
            }
        }
    }
}
