//! Arguments of `topology`.

use clap::{Args, Subcommand, ValueEnum};

// `topology`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum TopologyVerb {
    /// Show the topology with everybody in it: roles, who assigns to whom, who may message whom.
    Show(TopologyShowArgs),
    /// List the topologies that can be chosen, with their parameters.
    #[command(visible_alias = "ls")]
    List,
    /// Make another topology hold from now on; coordinators that run go by it at once.
    ///
    /// KIND is star, mesh, hierarchical or ring with parameters such as `max_workers=8`,
    /// `levels.supervisor=2` or `agents=ticket-worker,test-writer`; NAME is a topology saved under `topologies` in .swarm/config.yaml.
    Set(TopologySetArgs),
    /// Let the configuration decide again.
    Reset,
}

// `topology show`.
#[derive(Debug, Args)]
pub(in crate::cli) struct TopologyShowArgs {
    /// Show this kind or saved topology instead, as it would be.
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// How it is drawn.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: TopologyFormat,
}

/// How a topology is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum TopologyFormat {
    /// A tree.
    Text,
    /// A Mermaid flow chart.
    Mermaid,
    /// A Graphviz graph.
    Dot,
}

// `topology set`.
#[derive(Debug, Args)]
pub(in crate::cli) struct TopologySetArgs {
    /// A kind, or the name of a saved topology.
    #[arg(value_name = "KIND|NAME")]
    pub(crate) kind: String,
    /// Parameters of a kind.
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) parameters: Vec<String>,
    /// Only say what would change.
    #[arg(long)]
    pub(crate) dry_run: bool,
}
