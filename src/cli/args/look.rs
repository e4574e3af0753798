//! Arguments of the verbs that show what goes on and what it cost.

use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCompleter;

use crate::cli::complete;
use crate::coordinator::Since;
use crate::model::{Time, parse_moment};

// `status`.
#[derive(Debug, Args)]
pub(in crate::cli) struct StatusArgs {
    /// Workers to show; all when none is named.
    #[arg(value_name = "WORKER", add = ArgValueCompleter::new(complete::workers))]
    pub(crate) workers: Vec<String>,
    /// Redraw in place until Ctrl-C.
    #[arg(long, short)]
    pub(crate) watch: bool,
    /// Also show released and removed workers.
    #[arg(long, short)]
    pub(crate) all: bool,
}

// `conflicts`.
#[derive(Debug, Args)]
#[command(after_help = "\
Every worker's newest saved state, uncommitted files included, is merged in memory with the target and with every \
other worker of that target; no file of anybody is touched. Conflicts are an answer, not a failure: the exit code is 0.")]
pub(in crate::cli) struct ConflictsArgs {
    /// Redraw in place until Ctrl-C.
    #[arg(long, short)]
    pub(crate) watch: bool,
}

// `logs`.
#[derive(Debug, Args)]
pub(in crate::cli) struct LogsArgs {
    /// Worker id.
    #[arg(add = ArgValueCompleter::new(complete::workers))]
    pub(crate) worker: String,
    /// Keep printing what is added until the worker ends.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Tool calls instead of events.
    #[arg(long, conflicts_with = "terminal")]
    pub(crate) tools: bool,
    /// Terminal text instead of events.
    #[arg(long)]
    pub(crate) terminal: bool,
}

// `events`.
#[derive(Debug, Args)]
#[command(after_help = "\
Events have numbers that grow by one, so a program that notes the number of the last one it dealt with goes on there with \
--since and misses none. They are kept for 30 days; where some that were asked for are gone, that is said. Those of all \
nodes have numbers of the server, which keeps them for `queue.keep_events`: a day where nothing is said about it.")]
pub(in crate::cli) struct EventsArgs {
    /// Keep printing what comes, until Ctrl-C; without --since after the last twenty.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Begin after the event of this number, or with those of a moment (2026-11-21T10:00:00Z, 2026-11-21), or of this
    /// long ago (2h).
    #[arg(long, value_name = "SEQ|TIME|DURATION", value_parser = Since::parse)]
    pub(crate) since: Option<Since>,
    /// Only what is about this ticket.
    #[arg(long, value_name = "TICKET", add = ArgValueCompleter::new(complete::tickets))]
    pub(crate) ticket: Option<String>,
    /// Only what these say; repeatable.
    #[arg(long = "kind", value_name = "KIND")]
    pub(crate) kinds: Vec<EventKindChoice>,
    /// What happened to workers and coordinators of every node, as they told the server of the queue.
    #[arg(long)]
    pub(crate) all_nodes: bool,
}

/// `events --kind`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(in crate::cli) enum EventKindChoice {
    /// Tickets and their states.
    Queue,
    /// Workers, reviews and landings.
    Worker,
    /// The coordinator.
    Swarm,
    /// Messages on channels.
    Bus,
}

// `stats`.
#[derive(Debug, Args)]
#[command(after_help = "\
Tickets count when they ended in the window, attempts when they were under way. Times are those that half and 95 of 100 \
cases stay within. What is not known is shown as `-`. The history begins when this version of swarm first saw the \
repository, at most 30 days before, and is kept from then on.")]
pub(in crate::cli) struct StatsArgs {
    /// Only what happened in this time: as long ago as 7d, or since a day or moment.
    #[arg(long, value_name = "DURATION|TIME", value_parser = moment)]
    pub(crate) since: Option<Time>,
    /// One row for each agent, model, label or day.
    #[arg(long)]
    pub(crate) by: Option<StatsChoice>,
    /// Draw the tickets that ended as bars, by day where --by says nothing else.
    #[arg(long)]
    pub(crate) chart: bool,
}

/// `stats --by`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(in crate::cli) enum StatsChoice {
    /// The agent; a ticket counts for that of its last attempt.
    Agent,
    /// The model that the agent's definition names.
    Model,
    /// The ticket's labels; a ticket counts for each.
    Label,
    /// The day of the end, in UTC.
    Day,
}

/// Reads a moment, or how long ago it was.
fn moment(text: &str) -> Result<Time, String> {
    parse_moment(text, Time::now())
}

// `diff`.
#[derive(Debug, Args)]
pub(in crate::cli) struct DiffArgs {
    /// Worker id.
    #[arg(add = ArgValueCompleter::new(complete::workers))]
    pub(crate) worker: String,
    /// Only files and counts.
    #[arg(long)]
    pub(crate) stat: bool,
}

// `budget`.
#[derive(Debug, Args)]
#[command(after_help = "\
Limits are set under `budget` in .swarm/config.yaml, for a ticket, a run and a day, and by `budget` in a ticket. \
Nothing is started over one, and an agent that reaches one ends with its work kept and exit code 7. A day is a local \
one, from midnight to midnight; a clock that jumps gives no new budget.")]
pub(in crate::cli) struct BudgetArgs {
    /// What to add up by.
    #[arg(long, value_name = "WHAT", default_value = "ticket")]
    pub(crate) by: SpendByChoice,
    /// The first day to count: 2026-11-21, today, or 7d for seven days back; default a week.
    #[arg(long, value_name = "DAY")]
    pub(crate) since: Option<String>,
}

/// `budget --by`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(in crate::cli) enum SpendByChoice {
    /// A row for each ticket.
    Ticket,
    /// A row for each agent.
    Agent,
    /// A row for each model.
    Model,
    /// A row for each machine that works on the queue.
    Node,
    /// A row for each day.
    Day,
}
