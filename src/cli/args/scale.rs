//! Arguments of `scale`.

use std::time::Duration;

use clap::builder::TypedValueParser as _;
use clap::{Args, Subcommand, ValueEnum};

use crate::model::{Time, parse_duration, parse_moment};

// `scale`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(in crate::cli) struct ScaleArgs {
    /// What to do with a policy, or with the number.
    #[command(subcommand)]
    pub(crate) verb: Option<ScaleVerb>,
    /// Workers at once from now on; without it everything is shown.
    #[arg(value_name = "N", value_parser = clap::value_parser!(u16).range(1..).map(usize::from))]
    pub(crate) workers: Option<usize>,
    /// Whose number: this node's, or that of all nodes together.
    #[arg(long, value_name = "SCOPE", default_value = "node", requires = "workers")]
    pub(crate) scope: ScopeChoice,
    /// Show what the policies would have done, by what is recorded; change nothing.
    #[arg(long, conflicts_with = "workers")]
    pub(crate) dry_run: bool,
    /// With --dry-run: only since then; a moment, a day, or how long ago.
    #[arg(long, value_name = "WHEN", value_parser = moment, requires = "dry_run")]
    pub(crate) since: Option<Time>,
}

/// Reads a moment, or how long ago it was.
fn moment(text: &str) -> Result<Time, String> {
    parse_moment(text, Time::now())
}

// `scale`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ScaleVerb {
    /// Make a policy, or change what is given of one.
    Set(ScaleSetArgs),
    /// Let a policy neither ask nor bound for a while; the number stays as it is.
    Pause(ScaleMetricArgs),
    /// Let a policy count again.
    Resume(ScaleMetricArgs),
    /// Take a policy away, also one of the configuration.
    #[command(visible_alias = "rm")]
    Remove(ScaleMetricArgs),
    /// Take the number back that was set by hand or by policies; it is the configured one again.
    Reset(ScaleResetArgs),
}

// `scale set`.
#[derive(Debug, Args)]
#[command(after_help = "\
A policy needs one of --up and --down. With queue_depth and agent_utilization it asks for more workers above --up and for \
fewer below --down; with error_rate for more below --up and for fewer above --down. What is set here goes before the same \
policy in .swarm/config.yaml, and is kept where the coordinator keeps its state.")]
pub(in crate::cli) struct ScaleSetArgs {
    /// What it looks at, and for whom.
    #[command(flatten)]
    pub(crate) which: ScaleMetricArgs,
    /// More workers beyond this: tickets that wait for a place, or a part from 0 to 1.
    #[arg(long, value_name = "VALUE")]
    pub(crate) up: Option<f64>,
    /// Fewer workers beyond this.
    #[arg(long, value_name = "VALUE")]
    pub(crate) down: Option<f64>,
    /// How many more or fewer at a time; default 1.
    #[arg(long, value_name = "N")]
    pub(crate) by: Option<usize>,
    /// How many fewer at a time, where that differs.
    #[arg(long, value_name = "N")]
    pub(crate) down_by: Option<usize>,
    /// How long nothing changes after a change; default 5m.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) cooldown: Option<Duration>,
    /// How many periods in a row have to agree; default 3.
    #[arg(long, value_name = "N")]
    pub(crate) periods: Option<usize>,
    /// How long one is; default 1m.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) period: Option<Duration>,
    /// The fewest workers at once; default 1.
    #[arg(long, value_name = "N")]
    pub(crate) min: Option<usize>,
    /// The most; where no policy says so it is the configured `max_workers`, for the swarm that of all its nodes.
    #[arg(long, value_name = "N")]
    pub(crate) max: Option<usize>,
}

// One policy.
#[derive(Debug, Args)]
pub(in crate::cli) struct ScaleMetricArgs {
    /// What it looks at.
    #[arg(value_name = "METRIC")]
    pub(crate) metric: MetricChoice,
    /// For whom it decides: each node for itself, or one for all nodes of a queue on a server.
    #[arg(long, value_name = "SCOPE", default_value = "node")]
    pub(crate) scope: ScopeChoice,
}

// `scale reset`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ScaleResetArgs {
    /// Whose number.
    #[arg(long, value_name = "SCOPE", default_value = "node")]
    pub(crate) scope: ScopeChoice,
}

/// What a policy looks at.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(in crate::cli) enum MetricChoice {
    /// Tickets that would be worked on if there were a place.
    QueueDepth,
    /// Places that are taken, as a part of all.
    AgentUtilization,
    /// Attempts that ended badly, as a part of those that ended.
    ErrorRate,
}

/// For whom is decided.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(in crate::cli) enum ScopeChoice {
    /// One node.
    Node,
    /// All nodes together.
    Swarm,
}
