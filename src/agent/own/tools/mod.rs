//! What the model can do. The tools are named as Claude Code names its own that do the same, so that one agent
//! definition and one syntax of permission rules serve both.

mod cap;
mod edit;
mod find;
mod input;
mod mcp;
mod place;
mod read;
mod shell;
mod spec;
mod todo;
mod write;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

pub(super) use self::cap::{cap_text, floor};
pub(super) use self::input::Input;
use self::mcp::Servers;
pub(super) use self::place::Place;
use self::shell::Shells;
pub(super) use self::todo::{Todo, TodoStatus, read_todos};
use crate::llm::ToolSpec;
use crate::model::tool_call::ToolOutcome;

/// Decides whether a file, by its path, may be read.
pub(super) type MayRead = dyn Fn(&str) -> bool + Send + Sync;

/// A call of a tool.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    /// Its id; unique in the conversation.
    pub(super) id: String,
    /// The tool by its own name where there is such a tool, else as the model named it.
    pub(super) tool: String,
    /// What it is given.
    pub(super) input: Value,
}

/// What a call came to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Output {
    /// What the model gets to read.
    pub(super) text: String,
    /// How it ended.
    pub(super) outcome: ToolOutcome,
    /// Of a shell command that ran to its end.
    pub(super) exit_code: Option<i32>,
    /// Size of the whole output.
    pub(super) bytes: u64,
}

impl Output {
    /// A success.
    pub(super) fn ok(text: impl Into<String>) -> Self {
        Self::of(text.into(), ToolOutcome::Ok)
    }

    /// A failure, with what the model can do about it.
    pub(super) fn error(text: impl Into<String>) -> Self {
        Self::of(text.into(), ToolOutcome::Error)
    }

    /// A refusal.
    pub(super) fn denied(text: impl Into<String>) -> Self {
        Self::of(text.into(), ToolOutcome::Denied)
    }

    /// An end from outside.
    pub(super) fn interrupted(text: impl Into<String>) -> Self {
        Self::of(text.into(), ToolOutcome::Interrupted)
    }

    /// An end without an exit code.
    fn of(text: String, outcome: ToolOutcome) -> Self {
        Self { bytes: text.len() as u64, text, outcome, exit_code: None }
    }

    /// The text cut to `limit` bytes.
    fn capped(mut self, limit: usize) -> Self {
        self.text = cap_text(&self.text, limit);
        self
    }
}

impl From<Result<String, String>> for Output {
    fn from(result: Result<String, String>) -> Self {
        match result {
            Ok(text) => Self::ok(text),
            Err(text) => Self::error(text),
        }
    }
}

/// What the tools of a loop are made from.
pub(super) struct Workshop {
    /// Where files may be.
    pub(super) place: Place,
    /// Environment of what is started.
    pub(super) environment: Vec<(OsString, OsString)>,
    /// Where shells keep their output while they run.
    pub(super) folder: PathBuf,
    /// Marks everything that is started, so that it can be found and ended.
    pub(super) marker: String,
    /// Tools of the agent definition; empty is all.
    pub(super) tools: Vec<String>,
    /// Time of a call that names none.
    pub(super) timeout: Duration,
    /// Bytes of output that the model reads.
    pub(super) output: usize,
    /// Time between asking a tool to end and killing it.
    pub(super) grace: Duration,
    /// Which files no tool may show.
    pub(super) may_read: std::sync::Arc<MayRead>,
}

/// The tools of one loop. Calls come one at a time.
pub(super) struct Toolbox {
    /// What they are made from.
    workshop: Workshop,
    /// Shells and what runs in them.
    shells: Shells,
    /// MCP servers.
    servers: Servers,
    /// The list of what is to do.
    todos: RefCell<Vec<Todo>>,
}

impl Toolbox {
    /// Tools, with the MCP servers of the definition started. The second value says what is wrong with servers, one
    /// sentence each; the rest works.
    pub(super) async fn open(workshop: Workshop, servers: &BTreeMap<String, Value>) -> (Self, Vec<String>) {
        let (servers, warnings) = Servers::start(servers, &workshop).await;
        let shells = Shells::new(&workshop);
        (Self { workshop, shells, servers, todos: RefCell::default() }, warnings)
    }

    /// The tools as the model gets to know them.
    pub(super) fn specs(&self) -> Vec<ToolSpec> {
        let tools = &self.workshop.tools;
        let names: Vec<&str> = tools.iter().map(|tool| tool.split('(').next().unwrap_or(tool).trim()).collect();
        let is_chosen = |name: &str| {
            let served = |tool: &&str| name.strip_prefix(*tool).is_some_and(|rest| rest.starts_with("__"));
            let is_companion = matches!(name, "BashOutput" | "KillShell") && names.contains(&"Bash");
            names.is_empty() || names.contains(&name) || is_companion || names.iter().any(served)
        };
        // A server is named in the definition, and that says that its tools are wanted; a list may narrow it.
        let narrows = names.iter().any(|tool| tool.starts_with("mcp__"));
        let own = spec::own().into_iter().filter(|spec| is_chosen(&spec.name));
        let served = self.servers.specs().filter(|spec| !narrows || is_chosen(&spec.name));
        own.chain(served).collect()
    }

    /// Whether a tool changes nothing but what the loop itself knows, or only looks at files.
    pub(super) fn is_harmless(name: &str) -> bool {
        matches!(name, "Read" | "Glob" | "Grep" | "TodoWrite" | "BashOutput" | "KillShell")
    }

    /// Does what is asked. When `stop` becomes true, the call ends soon and says what it had done until then.
    pub(super) async fn call(&self, call: &Call, stop: watch::Receiver<bool>) -> Output {
        let Workshop { place, output, may_read, .. } = &self.workshop;
        let input = Input::new(&call.input);
        match call.tool.as_str() {
            "Read" => Output::from(read::read(place, &input, *output)),
            "Write" => Output::from(write::write(place, &input)),
            "Edit" => Output::from(edit::edit(place, &input)),
            "Bash" => self.shells.bash(&input, stop).await,
            "BashOutput" => self.shells.output(&input),
            "KillShell" => self.shells.kill(&input).await,
            "Glob" => find::run(find::glob(place, &input, may_read), stop).await.capped(*output),
            "Grep" => find::run(find::grep(place, &input, may_read), stop).await.capped(*output),
            "TodoWrite" => self.write_todos(&input),
            name => self.servers.call(name, &call.input, &self.workshop, stop).await.capped(*output),
        }
    }

    /// Replaces the list of what is to do.
    fn write_todos(&self, input: &Input<'_>) -> Output {
        match read_todos(input) {
            Ok(todos) => {
                *self.todos.borrow_mut() = todos;
                Output::ok("The list is updated.")
            }
            Err(reason) => Output::error(reason),
        }
    }

    /// The list of what is to do.
    pub(super) fn todos(&self) -> Vec<Todo> {
        self.todos.borrow().clone()
    }

    /// Sets the list to what an earlier process left.
    pub(super) fn set_todos(&self, todos: Vec<Todo>) {
        *self.todos.borrow_mut() = todos;
    }

    /// Shells that run in the background.
    pub(super) fn running_shells(&self) -> usize {
        self.shells.running()
    }

    /// Ends everything that was started and collects it.
    pub(super) async fn close(self) {
        self.servers.close(self.workshop.grace).await;
        self.shells.close().await;
    }
}

#[cfg(test)]
mod tests;
