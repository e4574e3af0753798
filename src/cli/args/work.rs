//! Arguments of the verbs that start, steer and await workers.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::TypedValueParser as _;
use clap::{Args, ValueHint};
use clap_complete::engine::ArgValueCompleter;

use super::{SelectArgs, TextArgs};
use crate::cli::complete;
use crate::model::parse_duration;

// `spawn`.
#[derive(Debug, Args)]
pub(in crate::cli) struct SpawnArgs {
    /// Ticket ids, paths of markdown files, or with -p/-f an id to write.
    #[arg(value_name = "TICKET", required = true, add = ArgValueCompleter::new(complete::tickets))]
    pub(crate) tickets: Vec<String>,
    /// Agent to use instead of the ticket's.
    #[arg(long, value_name = "AGENT", add = ArgValueCompleter::new(complete::agents))]
    pub(crate) agent: Option<String>,
    /// Revision the branch starts from, instead of the ticket's.
    #[arg(long, value_name = "REF")]
    pub(crate) base: Option<String>,
    /// The ticket's text, written to its file first.
    #[command(flatten)]
    pub(crate) text: TextArgs,
    /// Run without tmux and without a person: Claude in print mode, terminal through `swarm attach` only.
    #[arg(long)]
    pub(crate) headless: bool,
    /// Queue tickets for which there is no room, or that wait for another one; `swarm run` or `swarm up` starts them.
    #[arg(long)]
    pub(crate) queue: bool,
    /// Wait until the workers end or need a person; exit codes as `swarm wait`.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Print what would be done and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

// `run`.
#[derive(Debug, Args)]
pub(in crate::cli) struct RunArgs {
    /// Ticket ids or paths of markdown files; what they need comes along.
    #[arg(value_name = "TICKET", add = ArgValueCompleter::new(complete::tickets))]
    pub(crate) tickets: Vec<String>,
    /// Every ticket that is not over.
    #[arg(long, short, conflicts_with = "tickets")]
    pub(crate) all: bool,
    /// What `up` has as well.
    #[command(flatten)]
    pub(crate) work: WorkArgs,
    /// End after this long: stop the agents, keep their work, leave their tickets queued, exit 6.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// What is reported.
    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

// What a run reports.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct ReportArgs {
    /// As in CI: without tmux, terminal and questions; a line for each event; who ends the run ends its agents and keeps their
    /// work. Under GITHUB_ACTIONS also annotations and the summary of the step.
    #[arg(long)]
    pub(crate) ci: bool,
    /// Write every event as a line of JSON into this file, made anew; `-` is standard output.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) events: Option<PathBuf>,
    /// Write how each ticket went into this file, as JUnit XML, however the run ends.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) junit: Option<PathBuf>,
    /// Fill this folder at the end: reports, events, logs, recordings and differences of the workers, and a git bundle of
    /// their branches.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) artifacts: Option<PathBuf>,
}

// How a coordinator works.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct WorkArgs {
    /// Workers at once, instead of the configured number.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..).map(usize::from))]
    pub(crate) max_workers: Option<usize>,
    /// Land what is approved; with `landing.approval: auto` everything that is finished.
    #[arg(long, short)]
    pub(crate) merge: bool,
    /// Start workers without tmux and without a person.
    #[arg(long)]
    pub(crate) headless: bool,
}

// `down`.
#[derive(Debug, Args)]
pub(in crate::cli) struct DownArgs {}

// `lead`.
#[derive(Debug, Args)]
pub(in crate::cli) struct LeadArgs {
    /// Become the program that this file describes.
    #[arg(long)]
    pub(crate) handover: Option<PathBuf>,
    /// How it works.
    #[command(flatten)]
    pub(crate) work: WorkArgs,
}

// `attach`.
#[derive(Debug, Args)]
pub(in crate::cli) struct AttachArgs {
    /// Worker id.
    #[arg(add = ArgValueCompleter::new(complete::workers))]
    pub(crate) worker: String,
    /// Look only; nothing typed reaches the agent.
    #[arg(long, short)]
    pub(crate) read_only: bool,
}

// `send`.
#[derive(Debug, Args)]
pub(in crate::cli) struct SendArgs {
    /// Worker id, then the text (`-` is standard input); with --all only the text. Several words are one text.
    #[arg(value_names = ["WORKER", "TEXT"], required = true, num_args = 1.., add = ArgValueCompleter::new(complete::workers))]
    pub(crate) words: Vec<String>,
    /// Send to every live worker of this machine.
    #[arg(long)]
    pub(crate) all: bool,
    /// How long it waits for its worker at most; default a day.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) expires: Option<Duration>,
}

// `wait`.
#[derive(Debug, Args)]
pub(in crate::cli) struct WaitArgs {
    /// Workers to wait for; all live ones when none is named.
    #[arg(value_name = "WORKER", add = ArgValueCompleter::new(complete::workers))]
    pub(crate) workers: Vec<String>,
    /// Status or ticket state to wait for; repeatable. Default: done, failed, stopped, lost, waiting, review.
    #[arg(long = "for", value_name = "STATUS|STATE")]
    pub(crate) targets: Vec<String>,
    /// Until one of them is there, instead of all.
    #[arg(long)]
    pub(crate) any: bool,
    /// Give up after this long, with exit code 6.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
}

// `pause`.
#[derive(Debug, Args)]
pub(in crate::cli) struct PauseArgs {
    /// Which workers.
    #[command(flatten)]
    pub(crate) select: SelectArgs,
    /// Stop the agent's processes at once instead of at the turn boundary.
    #[arg(long)]
    pub(crate) now: bool,
}
