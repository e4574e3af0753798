//! `swarm loop`: the hidden process that is our own agent loop. Its supervisor starts it with a plan, in a terminal.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tokio::sync::mpsc;

use crate::agent::{self, HookCall, LoopIo, LoopPlan, Reporter};
use crate::cli::Context;
use crate::cli::args::LoopArgs;
use crate::coordinator::{Failure, FailureKind};
use crate::llm::replay::Recorder;
use crate::llm::{self, ChatError, ChatModel, Surroundings};
use crate::supervisor::protocol::{Reply, Request};
use crate::supervisor::{Client, MARKER};
use crate::terminal::{self, RawMode};

/// Bytes read from the terminal at once.
const CHUNK: usize = 4096;

/// Runs the verb.
pub(super) fn run(args: &LoopArgs, context: &Context) -> Result<ExitCode, Failure> {
    let plan = LoopPlan::load(&args.plan)?;
    let model = open_model(&plan, args.record.as_deref(), context)?;
    let (io, raw) = streams(plan.is_print, context);
    let concluded = agent::run_loop(plan, model, io, Box::new(Messenger::new(context)));
    drop(raw);
    Ok(ExitCode::from(concluded?.exit_code()))
}

/// The streams of a process in the worker's terminal, and what keeps the terminal's input coming key by key.
pub(super) fn streams(is_print: bool, context: &Context) -> (LoopIo, Option<RawMode>) {
    let is_terminal = std::io::stdout().is_terminal();
    let takes_keys = !is_print && is_terminal && std::io::stdin().is_terminal();
    let raw = if takes_keys { RawMode::enter(std::io::stdin()).ok() } else { None };
    let io = LoopIo {
        keys: (!is_print).then(read_keys),
        screen: Box::new(std::io::BufWriter::new(std::io::stdout())),
        is_terminal: raw.is_some(),
        is_coloured: context.output.color,
        columns: || terminal::terminal_size().map(|size| size.columns),
        environment: context.environment.all(),
    };
    (io, raw)
}

/// Opens the model, and records it if wanted.
fn open_model(plan: &LoopPlan, record: Option<&Path>, context: &Context) -> Result<Box<dyn ChatModel>, Failure> {
    let surroundings = Surroundings {
        settings: &plan.models,
        environment: &context.environment,
        folder: &plan.worktree,
        budget: plan.budget,
    };
    let model = llm::model(&plan.model, surroundings).map_err(|error| failure(&error))?;
    match record {
        Some(file) => Ok(Box::new(Recorder::new(model, file, &plan.worktree)?)),
        None => Ok(model),
    }
}

/// The failure that a model's error is.
fn failure(error: &ChatError) -> Failure {
    let failure = Failure::from_error(FailureKind::Failed, error);
    match &error.hint {
        Some(hint) => failure.hint(hint.clone()),
        None => failure,
    }
}

/// Reads what is typed, on a thread of its own that ends with the process: a terminal's descriptor is shared with
/// others, so it is not made non-blocking.
fn read_keys() -> mpsc::UnboundedReceiver<Vec<u8>> {
    let (sender, keys) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let mut buffer = [0; CHUNK];
        loop {
            let count = match std::io::stdin().read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => 0,
            };
            if sender.send(buffer[..count].to_vec()).is_err() || count == 0 {
                return;
            }
        }
    });
    keys
}

/// Passes reports on by the supervisor's socket, and to the spool where nobody listens.
pub(super) struct Messenger {
    /// The supervisor's socket.
    socket: Option<PathBuf>,
    /// Where reports are kept for the next supervisor.
    spool: Option<PathBuf>,
    /// The connection, as long as it works.
    client: Option<Client>,
}

impl Messenger {
    /// A messenger by the variables that a supervisor sets.
    pub(super) fn new(context: &Context) -> Self {
        let path = |name: &str| context.environment.get(name).map(PathBuf::from);
        let spool = path(MARKER).map(|folder| folder.join("hooks.spool.jsonl"));
        Self { socket: path("SWARM_SOCKET"), spool, client: None }
    }

    /// Tells the supervisor; whether it heard.
    fn tell(&mut self, request: &Request) -> bool {
        // A connection that broke is made anew once: a supervisor may have been followed by another one.
        for _ in 0..2 {
            if self.client.is_none() {
                self.client = self.socket.as_deref().and_then(|socket| Client::connect(socket).ok()?);
            }
            let Some(client) = &mut self.client else { return false };
            match client.ask(request) {
                Ok(Reply::Hook { .. }) => return true,
                _ => self.client = None,
            }
        }
        false
    }
}

impl Reporter for Messenger {
    fn report(&mut self, call: &HookCall) {
        let is_told = self.tell(&Request::Hook { call: call.clone() });
        if let (false, Some(spool)) = (is_told, &self.spool) {
            agent::append_to_spool(spool, call).ok();
        }
    }
}
