//! Arguments of the verbs for agents and models, and of the hidden ones that agents run in.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use clap_complete::engine::ArgValueCompleter;

use crate::cli::complete;

// `agents`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum AgentsVerb {
    /// List agents and where they come from.
    #[command(visible_alias = "ls")]
    List,
    /// Show one agent's definition.
    Show(AgentArgs),
    /// Check whether agents can run here; all when none is named.
    ///
    /// Exit code: of named agents 0 when all can run, 3 when some cannot, 1 when none can. Without names all are shown
    /// and the default agent alone decides: 0 when it can run, else 1.
    Check(AgentsCheckArgs),
}

// One agent.
#[derive(Debug, Args)]
pub(in crate::cli) struct AgentArgs {
    /// Agent name.
    #[arg(add = ArgValueCompleter::new(complete::agents))]
    pub(crate) agent: String,
}

// `agents check`.
#[derive(Debug, Args)]
pub(in crate::cli) struct AgentsCheckArgs {
    /// Agent names.
    #[arg(value_name = "AGENT", add = ArgValueCompleter::new(complete::agents))]
    pub(crate) agents: Vec<String>,
}

// `replay`.
#[derive(Debug, Subcommand)]
pub(crate) enum ReplayVerb {
    /// Serve a script or recording as Ollama, OpenAI and Anthropic do, for testing agents offline.
    #[command(
        after_long_help = "A prompt chooses a conversation of the script by `SCRIPT:NAME` anywhere in its text, and \
        sets variables with `SCRIPT:NAME key=value`.\n\n\
        Turns with the faults `hang` and `hang_at_end` go on when they are released:\n  \
        curl -d '{\"conversation\": \"NAME\"}' URL/swarm/release"
    )]
    Serve(ReplayServeArgs),
    /// Check a script or recording, and list its conversations.
    Check(ReplayCheckArgs),
}

// `replay serve`.
#[derive(Debug, Args)]
pub(crate) struct ReplayServeArgs {
    /// A script (YAML or JSON, see schemas/script.json), or a recording (.jsonl).
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Address and port; port 0 is a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// Allow an address that other machines can reach.
    #[arg(long)]
    pub(crate) public: bool,
    /// Write each request as a line of JSON into this file, made anew.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) requests: Option<PathBuf>,
    /// End when standard input ends, and so with the program that holds its other end.
    #[arg(long)]
    pub(crate) until_stdin_ends: bool,
}

// `replay check`.
#[derive(Debug, Args)]
pub(crate) struct ReplayCheckArgs {
    /// A script or a recording.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
}

// `supervise`.
#[derive(Debug, Args)]
pub(in crate::cli) struct SuperviseArgs {
    /// Hand-over file written by the spawning command.
    pub(crate) handover: PathBuf,
}

// `loop`.
#[derive(Debug, Args)]
pub(crate) struct LoopArgs {
    /// Plan written by the supervisor.
    pub(crate) plan: PathBuf,
    /// Add what the model answers to this recording, for `model: replay:FILE`.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) record: Option<PathBuf>,
}

// `acp`.
#[derive(Debug, Args)]
pub(crate) struct AcpArgs {
    /// Plan written by the supervisor.
    pub(crate) plan: PathBuf,
}

// `hook`.
#[derive(Debug, Args)]
pub(in crate::cli) struct HookArgs {
    /// Event name as the agent's program says it.
    pub(crate) event: String,
}
