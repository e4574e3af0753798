//! The MCP servers that the agent definition names, as child processes that end with the loop. A server that does not
//! start, or dies, costs its tools and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::Duration;

use rmcp::model::{CallToolRequestParams, CallToolResult, ContentBlock, ResourceContents};
use rmcp::service::{RoleClient, RunningService, serve_client};
use serde::Deserialize;
use serde_json::Value;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::shell::LOOP_MARK;
use super::{Output, Workshop};
use crate::files;
use crate::llm::ToolSpec;
use crate::model::{duration_text, error_text};
use crate::process;

/// How long a server may take to start and list its tools.
const START_WITHIN: Duration = Duration::from_secs(30);
/// How long a server may take to end after its input ended.
const END_WITHIN: Duration = Duration::from_secs(2);
/// How often a server that should end is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Longest name of a tool that providers take.
const NAME_LIMIT: usize = 64;

/// How a definition writes a server that is a program.
#[derive(Debug, Deserialize)]
struct Definition {
    /// The program.
    command: String,
    /// Its arguments.
    #[serde(default)]
    args: Vec<String>,
    /// Variables on top of the agent's.
    #[serde(default)]
    env: BTreeMap<String, String>,
}

/// All servers of one loop.
#[derive(Default)]
pub(super) struct Servers {
    /// Those that started.
    running: Vec<Server>,
    /// Their tools, with the server's place in the list and the tool's own name.
    tools: Vec<(ToolSpec, usize, String)>,
}

/// One server.
struct Server {
    /// Its name in the definition.
    name: String,
    /// The conversation with it.
    service: RunningService<RoleClient, ()>,
    /// Its process.
    child: Child,
}

impl Servers {
    /// Starts all of them side by side. The second value says what is wrong, one sentence each.
    pub(super) async fn start(definitions: &BTreeMap<String, Value>, workshop: &Workshop) -> (Self, Vec<String>) {
        let (mut servers, mut warnings) = (Self::default(), Vec::new());
        let mut starting = tokio::task::JoinSet::new();
        let mut order = HashMap::new();
        for (place, (name, definition)) in definitions.iter().enumerate() {
            order.insert(name.clone(), place);
            match spawn(name, definition, workshop) {
                Ok((child, ends)) => {
                    let name = name.clone();
                    starting.spawn(async move { (name.clone(), greet(name, child, ends).await) });
                }
                Err(why) => warnings.push(format!("the MCP server `{name}` did not start: {why}")),
            }
        }
        let mut started = Vec::new();
        while let Some(Ok((name, result))) = starting.join_next().await {
            match result {
                Ok(greeted) => started.push(greeted),
                Err(why) => warnings.push(format!("the MCP server `{name}` did not start: {why}")),
            }
        }
        // The order of the definition, whoever was first.
        started.sort_by_key(|(server, _)| order.get(&server.name).copied());
        for (server, tools) in started {
            for tool in tools {
                let full = full_name(&server.name, &tool.name);
                if full.len() > NAME_LIMIT || servers.tools.iter().any(|(spec, _, _)| spec.name == full) {
                    warnings.push(format!("the tool `{full}` is left out: its name is too long or there twice"));
                    continue;
                }
                let description = tool.description.as_deref().unwrap_or_default().to_owned();
                let parameters = Value::Object(tool.input_schema.as_ref().clone());
                let spec = ToolSpec { name: full, description, parameters };
                servers.tools.push((spec, servers.running.len(), tool.name.into_owned()));
            }
            servers.running.push(server);
        }
        (servers, warnings)
    }

    /// The tools as the model gets to know them.
    pub(super) fn specs(&self) -> impl Iterator<Item = ToolSpec> {
        self.tools.iter().map(|(spec, _, _)| spec.clone())
    }

    /// Calls a tool by its full name.
    pub(super) async fn call(
        &self,
        name: &str,
        input: &Value,
        workshop: &Workshop,
        mut stop: watch::Receiver<bool>,
    ) -> Output {
        let Some((_, server, tool)) = self.tools.iter().find(|(spec, _, _)| spec.name == name) else {
            return Output::error(format!("there is no tool `{name}`"));
        };
        let server = &self.running[*server];
        let mut params = CallToolRequestParams::new(tool.clone());
        params.arguments = input.as_object().cloned();
        tokio::select! {
            result = server.service.peer().call_tool(params) => match result {
                Ok(result) => output(&result),
                Err(error) => Output::error(format!("the MCP server `{}` failed: {}", server.name, error_text(&error))),
            },
            () = tokio::time::sleep(workshop.timeout) => {
                Output::error(format!("it took longer than {} and was given up", duration_text(workshop.timeout)))
            }
            Ok(_) = stop.wait_for(|stop| *stop) => Output::interrupted("It was interrupted by the person."),
        }
    }

    /// Ends the conversations, then the processes.
    pub(super) async fn close(self, grace: Duration) {
        let closing = self.running.into_iter().map(|server| server.close(grace));
        let closing: Vec<_> = closing.collect();
        for server in closing {
            server.await;
        }
    }
}

impl Server {
    /// Ends the conversation, which ends a server's input and so the server; a server that stays is killed.
    async fn close(mut self, grace: Duration) {
        self.service.close_with_timeout(END_WITHIN).await.ok();
        end(&mut self.child, grace.min(END_WITHIN)).await;
    }
}

/// Waits for a child that should end, kills it otherwise, and collects it.
async fn end(child: &mut Child, grace: Duration) {
    let deadline = Instant::now() + grace;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() >= deadline {
            child.kill().ok();
            child.wait().ok();
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    process::forget(child.id());
}

/// The two ends of a conversation with a process.
type Ends = (pipe::Receiver, pipe::Sender);

/// Starts a server's process.
fn spawn(name: &str, definition: &Value, workshop: &Workshop) -> Result<(Child, Ends), String> {
    let definition: Definition = match Definition::deserialize(definition) {
        Ok(definition) => definition,
        Err(_) if definition.get("url").is_some() => return Err("only servers with a `command` can be used".to_owned()),
        Err(error) => return Err(format!("its definition is not understood: {error}")),
    };
    let cwd = workshop.place.worktree();
    let path = workshop.environment.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path);
    let program = which::which_in(&definition.command, path, cwd)
        .map_err(|_| format!("no program `{}` was found", definition.command))?;
    let log = files::open_log(&workshop.folder.join(format!("mcp-{}.log", plain_name(name))));
    let mut command = process::command(program);
    command.args(&definition.args).current_dir(cwd).env_clear();
    command.envs(workshop.environment.iter().map(|(name, value)| (name, value)));
    command.envs(&definition.env).env(LOOP_MARK, &workshop.marker);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
    command.stderr(log.map_or_else(|_| Stdio::null(), Stdio::from));
    let mut child = process::spawn(&mut command).map_err(|error| error_text(&error))?;
    let ends = child.stdin.take().zip(child.stdout.take()).ok_or_else(|| "it has no pipes".to_owned())?;
    let connect = || -> std::io::Result<Ends> {
        let (input, output) = (OwnedFd::from(ends.0), OwnedFd::from(ends.1));
        rustix::io::ioctl_fionbio(&input, true)?;
        rustix::io::ioctl_fionbio(&output, true)?;
        Ok((pipe::Receiver::from_owned_fd(output)?, pipe::Sender::from_owned_fd(input)?))
    };
    match connect() {
        Ok(ends) => Ok((child, ends)),
        Err(error) => {
            child.kill().ok();
            child.wait().ok();
            process::forget(child.id());
            Err(error.to_string())
        }
    }
}

/// Opens the conversation and asks for the tools.
async fn greet(name: String, mut child: Child, ends: Ends) -> Result<(Server, Vec<rmcp::model::Tool>), String> {
    let opened = timeout(START_WITHIN, async {
        let service = serve_client((), ends).await.map_err(|error| error_text(&error))?;
        let tools = service.peer().list_all_tools().await.map_err(|error| error_text(&error))?;
        Ok((service, tools))
    });
    let late = || Err(format!("it did not answer within {}", duration_text(START_WITHIN)));
    match opened.await.unwrap_or_else(|_| late()) {
        Ok((service, tools)) => Ok((Server { name, service, child }, tools)),
        Err(why) => {
            end(&mut child, Duration::ZERO).await;
            Err(why)
        }
    }
}

/// The name of a server's tool for the model and for permission rules.
fn full_name(server: &str, tool: &str) -> String {
    format!("mcp__{}__{}", plain_name(server), plain_name(tool))
}

/// A name with only the letters that providers take.
fn plain_name(name: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    name.chars().map(|letter| if is_plain(letter) { letter } else { '_' }).collect()
}

/// What a server answered, as text.
fn output(result: &CallToolResult) -> Output {
    let part = |block: &ContentBlock| match block {
        ContentBlock::Text(text) => text.text.clone(),
        ContentBlock::Image(image) => format!("(an image, {})", image.mime_type),
        ContentBlock::Audio(audio) => format!("(a sound, {})", audio.mime_type),
        ContentBlock::Resource(resource) => match &resource.resource {
            ResourceContents::TextResourceContents { text, .. } => text.clone(),
            _ => "(a resource that is no text)".to_owned(),
        },
        ContentBlock::ResourceLink(link) => format!("(a resource at {})", link.uri),
        _ => "(something that is no text)".to_owned(),
    };
    let mut text: Vec<String> = result.content.iter().map(part).collect();
    if text.is_empty()
        && let Some(value) = &result.structured_content
    {
        text.push(value.to_string());
    }
    let text = text.join("\n");
    if result.is_error == Some(true) { Output::error(text) } else { Output::ok(text) }
}
