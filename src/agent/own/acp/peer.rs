//! The agent at the other end: its process, and the protocol with it. Everything that it says comes out of one channel
//! in the order in which it was said; what is asked of it goes in by another.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::schema::{
    AuthMethod, CancelNotification, ContentBlock, Implementation, InitializeRequest, InitializeResponse,
    LoadSessionRequest, McpServer, NewSessionRequest, PromptRequest, PromptResponse, RequestPermissionRequest,
    RequestPermissionResponse, ResumeSessionRequest, SessionConfigOption, SessionConfigOptionCategory,
    SessionConfigValueId, SessionId, SessionNotification, SessionUpdate, SetSessionConfigOptionRequest, TextContent,
};
use agent_client_protocol::v1::{ConnectionTo, Responder};
use agent_client_protocol::{Agent, ByteStreams, Client};
use serde_json::{Value, json};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

use super::plan::AcpPlan;
use crate::files::open_log;
use crate::process;

/// What the agent says.
#[derive(Debug)]
pub(super) enum FromAgent {
    /// The conversation is open.
    Ready {
        /// Its id.
        session: String,
        /// What the agent calls itself.
        name: String,
        /// Whether it is the one that was to go on.
        goes_on: bool,
    },
    /// Something changed.
    Update(Box<SessionUpdate>),
    /// It asks whether it may do something.
    Asks(Box<RequestPermissionRequest>, Responder<RequestPermissionResponse>),
    /// Its turn is over.
    TurnOver(Result<PromptResponse, String>),
    /// Something of the definition could not be told to it.
    Warning(String),
    /// The conversation could not be opened, or the connection is gone.
    Lost(String),
    /// Its process ended, with this exit code.
    Exited(Option<i32>),
}

/// What is asked of the agent.
#[derive(Debug)]
pub(super) enum ToAgent {
    /// A message.
    Prompt(String),
    /// The turn shall end.
    Cancel,
}

/// A running agent.
pub(super) struct Peer {
    /// Its process.
    pub(super) pid: u32,
    /// What it says.
    pub(super) says: mpsc::UnboundedReceiver<FromAgent>,
    /// What is asked of it; dropped, its input ends.
    pub(super) asks: mpsc::UnboundedSender<ToAgent>,
}

impl Peer {
    /// Starts the agent and opens the conversation of the plan. Its standard error goes to a file in the worker's
    /// folder.
    ///
    /// # Errors
    /// When its process does not start.
    pub(super) fn start(plan: &AcpPlan) -> Result<Self, process::ProcessError> {
        let name = plan.argv.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default();
        let wrap = |source| process::ProcessError::Start { program: name.clone(), source };
        let log: Stdio = match open_log(&plan.worker_dir.join("acp-agent.log")) {
            Ok(log) => log.into(),
            Err(_) => Stdio::null(),
        };
        let mut command = process::command(plan.argv.first().map_or("".as_ref(), |program| program.as_os_str()));
        command.args(plan.argv.iter().skip(1)).current_dir(&plan.worktree).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = process::spawn(&mut command)?;
        let pid = child.id();
        let input = child.stdin.take().map(OwnedFd::from).ok_or_else(|| wrap(std::io::ErrorKind::BrokenPipe.into()))?;
        let output =
            child.stdout.take().map(OwnedFd::from).ok_or_else(|| wrap(std::io::ErrorKind::BrokenPipe.into()))?;
        let input = pipe::Sender::from_file(File::from(input)).map_err(wrap)?;
        let output = pipe::Receiver::from_file(File::from(output)).map_err(wrap)?;
        let (say, says) = mpsc::unbounded_channel();
        let (asks, asked) = mpsc::unbounded_channel();
        let ended = say.clone();
        std::thread::spawn(move || {
            let code = child.wait().ok().and_then(|status| status.code());
            process::forget(pid);
            ended.send(FromAgent::Exited(code)).ok();
        });
        let streams = ByteStreams::new(input.compat_write(), output.compat());
        tokio::spawn(converse(streams, plan.clone(), say, asked));
        Ok(Self { pid, says, asks })
    }
}

/// Speaks the protocol until the channel of requests closes or the connection is gone.
async fn converse(
    streams: ByteStreams<impl futures_io::AsyncWrite + Send + 'static, impl futures_io::AsyncRead + Send + 'static>,
    plan: AcpPlan,
    say: mpsc::UnboundedSender<FromAgent>,
    mut asked: mpsc::UnboundedReceiver<ToAgent>,
) {
    let (updates, asks, lost) = (say.clone(), say.clone(), say.clone());
    let result = Client
        .v1()
        .name("swarm")
        .on_receive_notification(
            async move |notification: SessionNotification, _cx| {
                updates.send(FromAgent::Update(Box::new(notification.update))).ok();
                Ok(())
            },
            agent_client_protocol::on_receive_notification!(),
        )
        .on_receive_request(
            async move |request: RequestPermissionRequest, responder, _cx| {
                asks.send(FromAgent::Asks(Box::new(request), responder)).ok();
                Ok(())
            },
            agent_client_protocol::on_receive_request!(),
        )
        .connect_with(streams, async move |connection: ConnectionTo<Agent>| {
            let session = open(&connection, &plan, &say).await?;
            while let Some(request) = asked.recv().await {
                match request {
                    ToAgent::Prompt(text) => {
                        let prompt = vec![ContentBlock::Text(TextContent::new(text))];
                        let answer = connection.send_request(PromptRequest::new(session.clone(), prompt));
                        let say = say.clone();
                        connection.spawn(async move {
                            let answer = answer.block_task().await.map_err(|error| error_text(&error));
                            say.send(FromAgent::TurnOver(answer)).ok();
                            Ok(())
                        })?;
                    }
                    ToAgent::Cancel => connection.send_notification(CancelNotification::new(session.clone()))?,
                }
            }
            Ok(())
        })
        .await;
    if let Err(error) = result {
        lost.send(FromAgent::Lost(error_text(&error))).ok();
    }
}

/// Opens the conversation: goes on with an earlier one where the agent can, without replay where it can do that, too.
async fn open(
    connection: &ConnectionTo<Agent>,
    plan: &AcpPlan,
    say: &mpsc::UnboundedSender<FromAgent>,
) -> Result<SessionId, agent_client_protocol::Error> {
    let mut hello = InitializeRequest::new(ProtocolVersion::V1);
    hello.client_info = Some(Implementation::new("swarm", env!("CARGO_PKG_VERSION")));
    let agent = connection.send_request(hello).block_task().await?;
    let (servers, unusable) = servers(plan);
    for name in unusable {
        say.send(FromAgent::Warning(format!("the MCP server `{name}` has no `command` or `url`"))).ok();
    }
    let can_resume = agent.agent_capabilities.session_capabilities.resume.is_some();
    let (session, options, goes_on) = match &plan.resume {
        Some(id) if can_resume => {
            let mut request = ResumeSessionRequest::new(id.clone(), plan.worktree.clone());
            request.mcp_servers = servers;
            let opened = connection.send_request(request).block_task().await?;
            (SessionId::new(id.clone()), opened.config_options, true)
        }
        Some(id) if agent.agent_capabilities.load_session => {
            let mut request = LoadSessionRequest::new(id.clone(), plan.worktree.clone());
            request.mcp_servers = servers;
            let opened = connection.send_request(request).block_task().await?;
            (SessionId::new(id.clone()), opened.config_options, true)
        }
        earlier => {
            if earlier.is_some() {
                say.send(FromAgent::Warning("it cannot go on with a conversation, and begins anew".to_owned())).ok();
            }
            let mut request = NewSessionRequest::new(plan.worktree.clone());
            request.mcp_servers = servers;
            let opened = connection.send_request(request).block_task().await;
            let opened = opened.map_err(|error| with_login(error, &agent))?;
            (opened.session_id, opened.config_options, false)
        }
    };
    if let Some(model) = &plan.model {
        choose_model(connection, &session, options.unwrap_or_default(), model, say).await?;
    }
    let name = agent.agent_info.map_or_else(|| "agent".to_owned(), |info| format!("{} {}", info.name, info.version));
    say.send(FromAgent::Ready { session: session.to_string(), name, goes_on }).ok();
    Ok(session)
}

/// Sets the model where the agent lets one be chosen.
async fn choose_model(
    connection: &ConnectionTo<Agent>,
    session: &SessionId,
    options: Vec<SessionConfigOption>,
    model: &str,
    say: &mpsc::UnboundedSender<FromAgent>,
) -> Result<(), agent_client_protocol::Error> {
    let option = options.into_iter().find(|option| option.category == Some(SessionConfigOptionCategory::Model));
    let Some(option) = option else {
        say.send(FromAgent::Warning(format!("its model cannot be chosen, so `{model}` is not told to it"))).ok();
        return Ok(());
    };
    let request =
        SetSessionConfigOptionRequest::new(session.clone(), option.id, SessionConfigValueId::new(model.to_owned()));
    connection.send_request(request).block_task().await.map(|_| ())
}

/// The MCP servers of the definition in the protocol's words, and the names of those that cannot be said in them.
fn servers(plan: &AcpPlan) -> (Vec<McpServer>, Vec<String>) {
    let mut usable = Vec::new();
    let mut unusable = Vec::new();
    for (name, server) in &plan.mcp_servers {
        let pairs = |field: &str| -> Vec<Value> {
            let fields = server.get(field).and_then(Value::as_object).into_iter().flatten();
            fields.map(|(name, value)| json!({"name": name, "value": value})).collect()
        };
        let told = if server.get("command").is_some() {
            let args = server.get("args").cloned().unwrap_or_else(|| json!([]));
            json!({"name": name, "command": server["command"], "args": args, "env": pairs("env")})
        } else {
            let kind = server.get("type").and_then(Value::as_str).unwrap_or("http");
            json!({"type": kind, "name": name, "url": server.get("url"), "headers": pairs("headers")})
        };
        match serde_json::from_value(told) {
            Ok(server) => usable.push(server),
            Err(_) => unusable.push(name.clone()),
        }
    }
    (usable, unusable)
}

/// An error of the agent, with the ways to log in where it wants that.
fn with_login(mut error: agent_client_protocol::Error, agent: &InitializeResponse) -> agent_client_protocol::Error {
    let way = |method: &AuthMethod| {
        let method = serde_json::to_value(method).unwrap_or_default();
        let text = |field: &str| method.get(field).and_then(Value::as_str).map(ToOwned::to_owned);
        text("description").or_else(|| text("name"))
    };
    let ways: Vec<String> = agent.auth_methods.iter().filter_map(way).collect();
    if i32::from(error.code) == -32000 && !ways.is_empty() {
        error.message = format!("{}: {}", error.message, ways.join("; or "));
    }
    error
}

/// What an error says, with its details where it has some.
fn error_text(error: &agent_client_protocol::Error) -> String {
    let details = error.data.as_ref().map(|data| match data {
        Value::String(text) => text.clone(),
        other => {
            let inner = ["/details", "/message", "/error"].iter().find_map(|pointer| other.pointer(pointer)?.as_str());
            inner.map_or_else(|| other.to_string(), ToOwned::to_owned)
        }
    });
    match details {
        Some(details) if !details.is_empty() => format!("{}: {details}", error.message),
        _ => error.message.clone(),
    }
}
