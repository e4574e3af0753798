//! Arguments of the verbs for tickets before they run: `ticket`, `plan`, `queue`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use clap_complete::engine::ArgValueCompleter;

use crate::cli::complete;

// `ticket`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum TicketVerb {
    /// Write a new ticket file; the body comes from -p, -f or standard input, else from a skeleton.
    New(TicketNewArgs),
    /// List tickets with their states.
    #[command(visible_alias = "ls")]
    List,
    /// Show one ticket as it would be run.
    Show(TicketShowArgs),
    /// Write a ticket for each issue of GitHub that has none, through gh.
    Import(TicketImportArgs),
}

// `ticket import`.
#[derive(Debug, Args)]
#[command(after_help = "\
The ticket of issue 12, \"Fix the parser\", is 12-fix-the-parser; `depends on #7` in its text becomes a dependency. An \
issue that was imported before is left alone: it is told to be unchanged, or to have changed. What people write in \
issues is foreign text; read it before an agent works on it.")]
pub(in crate::cli) struct TicketImportArgs {
    /// Numbers of issues; every open one when none is named.
    #[arg(value_name = "NUMBER", value_parser = issue_number)]
    pub(crate) numbers: Vec<u64>,
    /// The repository, instead of the one that gh finds here.
    #[arg(long, value_name = "OWNER/NAME", value_parser = repository_name)]
    pub(crate) repo: Option<String>,
    /// Only issues with this label.
    #[arg(long, value_name = "LABEL", conflicts_with = "numbers")]
    pub(crate) label: Option<String>,
    /// Say which tickets would be written, and write none.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Reads `12` or `#12`.
fn issue_number(text: &str) -> Result<u64, String> {
    let number = text.trim_start_matches('#').parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "expected the number of an issue".to_owned())
}

/// Reads `OWNER/NAME` or `HOST/OWNER/NAME`; nothing that gh could take for a flag.
fn repository_name(text: &str) -> Result<String, String> {
    let is_word = |word: &str| {
        !word.is_empty()
            && !word.starts_with('-')
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let count = text.split('/').count();
    let is_name = (2..=3).contains(&count) && text.split('/').all(is_word);
    if is_name { Ok(text.to_owned()) } else { Err("expected OWNER/NAME".to_owned()) }
}

// `ticket new`.
#[derive(Debug, Args)]
pub(in crate::cli) struct TicketNewArgs {
    /// Id of the ticket: letters, digits, `.`, `_`, `-`.
    pub(crate) id: String,
    /// One line for lists and commit subjects.
    #[arg(long, short)]
    pub(crate) title: Option<String>,
    /// Agent that works on it.
    #[arg(long, value_name = "AGENT", add = ArgValueCompleter::new(complete::agents))]
    pub(crate) agent: Option<String>,
    /// 1 to 10, higher first.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=10))]
    pub(crate) priority: Option<u8>,
    /// A ticket that must have landed first; repeatable.
    #[arg(long = "depends-on", value_name = "TICKET", add = ArgValueCompleter::new(complete::tickets))]
    pub(crate) depends_on: Vec<String>,
    /// A command that must pass in the worktree before review; repeatable.
    #[arg(long = "check", value_name = "COMMAND")]
    pub(crate) checks: Vec<String>,
    /// The body.
    #[command(flatten)]
    pub(crate) text: TextArgs,
}

// Where a text comes from.
#[derive(Debug, Clone, Args)]
#[group(multiple = false)]
pub(in crate::cli) struct TextArgs {
    /// The text itself.
    #[arg(short = 'p', long = "prompt", value_name = "TEXT")]
    pub(crate) prompt: Option<String>,
    /// A file with the text, from the folder of -C; `-` is standard input.
    #[arg(short = 'f', long = "file", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
}

// `ticket show`.
#[derive(Debug, Args)]
pub(in crate::cli) struct TicketShowArgs {
    /// Ticket id, or path of a markdown file.
    #[arg(add = ArgValueCompleter::new(complete::tickets))]
    pub(crate) ticket: String,
}

// `queue`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum QueueVerb {
    /// List what is queued, runs or waits, in the order in which it is taken, and why it waits.
    #[command(visible_alias = "ls")]
    List(QueueListArgs),
    /// Queue tickets with everything they need, and start nothing.
    Add(QueueAddArgs),
    /// Queue failed, dead or cancelled tickets again; a dead one gets all its attempts anew.
    Retry(QueueTicketsArgs),
    /// End tickets; an agent that works on one is stopped, its work is kept.
    Cancel(QueueTicketsArgs),
    /// List tickets that failed, with why.
    Dead,
    /// Move all tickets between this repository and a NATS server, or none of them.
    Migrate(QueueMigrateArgs),
    /// Answer other programs that use the queue on a NATS server, until Ctrl-C, and start nothing.
    #[command(after_help = "\
A coordinator (run, up) answers them as well. Tickets that were handed in meanwhile wait on the server. README.md has the \
subjects, schemas/ the messages, and `swarm queue client` prints a client.")]
    Serve,
    /// Print a client of the queue on a NATS server: a module for Python.
    #[command(after_help = "\
It needs Python 3.9 or newer and the package nats-py: swarm queue client > swarm_client.py")]
    Client,
}

// `queue migrate`.
#[derive(Debug, Args)]
pub(in crate::cli) struct QueueMigrateArgs {
    /// Where to: `file` (this repository), or the address of a server such as nats://HOST:PORT.
    #[arg(long, value_name = "PLACE")]
    pub(crate) to: String,
    /// Only say what would move.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

// `queue list`.
#[derive(Debug, Args)]
pub(in crate::cli) struct QueueListArgs {
    /// Also what landed, is done or was cancelled.
    #[arg(long, short)]
    pub(crate) all: bool,
}

// `queue add`.
#[derive(Debug, Args)]
pub(in crate::cli) struct QueueAddArgs {
    /// Ticket ids or paths of markdown files.
    #[arg(value_name = "TICKET", required_unless_present = "all", add = ArgValueCompleter::new(complete::tickets))]
    pub(crate) tickets: Vec<String>,
    /// Every ticket that is not over.
    #[arg(long, short, conflicts_with = "tickets")]
    pub(crate) all: bool,
}

// Several tickets.
#[derive(Debug, Args)]
pub(in crate::cli) struct QueueTicketsArgs {
    /// Ticket ids.
    #[arg(value_name = "TICKET", required = true, add = ArgValueCompleter::new(complete::tickets))]
    pub(crate) tickets: Vec<String>,
}

// `plan`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
The planner reads a checkout of the target and changes nothing. Its tickets are files in .swarm/plans/NAME: edit, add \
and remove them, then `swarm plan approve NAME` makes tickets of them. Nothing runs before that."
)]
pub(in crate::cli) struct PlanArgs {
    /// What to do with a plan.
    #[command(subcommand)]
    pub(crate) verb: Option<PlanVerb>,
    /// What is to be reached; `-` is standard input.
    #[arg(value_name = "GOAL", required_unless_present = "file")]
    pub(crate) goal: Option<String>,
    /// A file with the goal; `-` is standard input.
    #[arg(short = 'f', long = "file", value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "goal")]
    pub(crate) file: Option<PathBuf>,
    /// Who plans.
    #[arg(long, value_name = "AGENT", add = ArgValueCompleter::new(complete::agents))]
    pub(crate) agent: Option<String>,
    /// Name of the plan; default the first words of the goal.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

// `plan`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum PlanVerb {
    /// List the plans that wait for approval.
    #[command(visible_alias = "ls")]
    List,
    /// Show a plan as its files are now.
    Show(PlanNameArgs),
    /// Check a plan and make tickets of it.
    Approve(PlanNameArgs),
}

// One plan.
#[derive(Debug, Args)]
pub(in crate::cli) struct PlanNameArgs {
    /// Name of the plan.
    #[arg(value_name = "NAME")]
    pub(crate) plan: String,
}
