//! Arguments of the verbs about nodes.

use clap::builder::TypedValueParser as _;
use clap::{Args, Subcommand};

// `node`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum NodeVerb {
    /// Make this clone a node: it works on the tickets of a queue together with other clones.
    ///
    /// Writes settings of this clone alone (nothing that is committed), registers it at the server, and starts its
    /// coordinator in the background, as `swarm up` does.
    Join(JoinArgs),
    /// List the nodes, and what each does.
    #[command(visible_alias = "ls")]
    List(NodeListArgs),
    /// Let a node take nothing new; its workers come to their end.
    Drain(DrainArgs),
    /// Take a node off the register: this one, or one that is gone.
    #[command(visible_alias = "rm")]
    Remove(NodeRemoveArgs),
}

// `node join`.
#[derive(Debug, Args)]
pub(in crate::cli) struct JoinArgs {
    /// The NATS server that keeps the queue; the configured one when none is named.
    #[arg(value_name = "nats://HOST:PORT")]
    pub(crate) server: Option<String>,
    /// The project's name there; default the name of the repository's folder.
    #[arg(long, value_name = "NAME")]
    pub(crate) project: Option<String>,
    /// What the node is called; default the machine's name and a mark of the clone.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// What it offers beside what its agents offer, with commas between.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) capabilities: Vec<String>,
    /// Workers at once, from now on.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..).map(usize::from))]
    pub(crate) max_workers: Option<usize>,
    /// Hand commits to other nodes through this git remote instead of the server.
    #[arg(long, value_name = "REMOTE")]
    pub(crate) remote: Option<String>,
    /// Clone the repository first, into FOLDER or one of its name, and make that clone the node.
    #[arg(long, num_args = 1..=2, value_names = ["URL", "FOLDER"])]
    pub(crate) clone: Vec<String>,
    /// Land what is approved; with `landing.approval: auto` everything that is finished.
    #[arg(long, short)]
    pub(crate) merge: bool,
    /// Start workers without tmux and without a person.
    #[arg(long)]
    pub(crate) headless: bool,
}

// `node list`.
#[derive(Debug, Args)]
pub(in crate::cli) struct NodeListArgs {}

// `node drain`.
#[derive(Debug, Args)]
pub(in crate::cli) struct DrainArgs {
    /// Which node; this one when none is named.
    pub(crate) node: Option<String>,
    /// Let it take tickets again.
    #[arg(long)]
    pub(crate) undo: bool,
}

// node remove
#[derive(Debug, Args)]
pub(in crate::cli) struct NodeRemoveArgs {
    /// Which node; this one when none is named.
    pub(crate) node: Option<String>,
    /// Also while it has tickets that the others go on with as long as it is on the register.
    #[arg(long)]
    pub(crate) force: bool,
}

// `carry`.
#[derive(Debug, Args)]
pub(in crate::cli) struct CarryArgs {
    /// The worker.
    pub(crate) worker: String,
    /// The commit that was judged to be finished.
    pub(crate) commit: String,
}
