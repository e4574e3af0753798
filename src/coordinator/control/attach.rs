//! `attach` and `logs`: where a worker's terminal and logs are. The face does the showing.

use std::path::PathBuf;

use super::{Control, is_released};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::model::worker::{Liveness, Worker};
use crate::supervisor::Client;
use crate::terminal::AttachStep;

/// A way to see a worker's terminal.
pub(crate) enum Attachment {
    /// Run one of these programs, best first.
    Tmux(Vec<AttachStep>),
    /// Talk to the supervisor.
    Socket(Client),
}

/// Where a worker's logs are.
#[derive(Debug, Clone)]
pub(crate) struct LogPaths {
    /// Event log.
    pub(crate) events: PathBuf,
    /// Tool log.
    pub(crate) tools: PathBuf,
    /// Recording of the present or last attempt.
    pub(crate) terminal: PathBuf,
}

impl Control {
    /// A way to see a worker's terminal: its tmux session while that is there, else its supervisor's socket.
    pub(crate) fn attachment(&self, name: &str, read_only: bool) -> Result<Attachment, Failure> {
        let worker = self.worker(name)?;
        if let Some(session) = &worker.attempt.tmux {
            let tmux = self.project.tmux_server(&session.socket)?;
            if tmux.available().is_ok() && tmux.has_session(session)? {
                let outer = self.project.call.environment.get("TMUX");
                return Ok(Attachment::Tmux(tmux.attach_plan(session, read_only, outer)));
            }
        }
        match self.client(&worker.id)? {
            Some(client) => Ok(Attachment::Socket(client)),
            None => Err(self.nothing_to_attach(worker)),
        }
    }

    /// The failure for a worker without a terminal.
    fn nothing_to_attach(&self, worker: Worker) -> Failure {
        let id = worker.id.clone();
        let gone = is_released(&worker);
        let known = self.know(worker, None);
        let text = format!("worker `{id}` has no terminal: it is {}", known.verdict.status.as_str());
        let failure = Failure::new(FailureKind::Failed, text);
        let failure = failure.hint(format!("swarm logs {id} --terminal shows what it printed"));
        if gone { failure } else { failure.hint(format!("swarm resume {id} starts it again")) }
    }

    /// Where a worker's logs are.
    pub(crate) fn log_paths(&self, name: &str) -> Result<LogPaths, Failure> {
        let worker = self.worker(name)?;
        let paths = &self.project.paths;
        Ok(LogPaths {
            events: paths.events(&worker.id),
            tools: paths.tool_calls(&worker.id),
            terminal: paths.recording(&worker.id, worker.attempt.number),
        })
    }

    /// Whether anything may still be added to a worker's logs.
    pub(crate) fn is_living(&self, name: &str) -> Result<bool, Failure> {
        Ok(self.liveness(&self.worker(name)?) != Liveness::Dead)
    }
}
