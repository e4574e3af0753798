//! The command line's shape: one place for every verb, flag and help text. Help, man pages and completions are
//! made from it.
//!
//! Structs of arguments and enums below a verb carry plain comments: clap would take a doc comment there for the about
//! text of the verb, over the verb's own.

mod agents;
mod bus;
mod land;
mod look;
mod nodes;
mod scale;
mod tickets;
mod topology;
mod work;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use clap_complete::engine::ArgValueCompleter;

use super::complete;

pub(in crate::cli) use agents::{
    AcpArgs, AgentsVerb, HookArgs, LoopArgs, ReplayCheckArgs, ReplayServeArgs, ReplayVerb, SuperviseArgs,
};
pub(in crate::cli) use bus::{
    BusFollowArgs, BusPublishArgs, BusReadArgs, BusReplyArgs, BusRequestArgs, BusVerb, MessageArgs,
};
pub(in crate::cli) use land::{CleanArgs, MergeArgs, RecoverVerb, ResolveArgs, ReviewArgs, RewindArgs, StrategyChoice};
pub(in crate::cli) use look::{
    BudgetArgs, ConflictsArgs, DiffArgs, EventKindChoice, EventsArgs, LogsArgs, SpendByChoice, StatsArgs, StatsChoice,
    StatusArgs,
};
pub(in crate::cli) use nodes::{CarryArgs, JoinArgs, NodeVerb};
pub(in crate::cli) use scale::{MetricChoice, ScaleArgs, ScaleSetArgs, ScaleVerb, ScopeChoice};
pub(in crate::cli) use tickets::{
    PlanArgs, PlanVerb, QueueMigrateArgs, QueueVerb, TextArgs, TicketImportArgs, TicketNewArgs, TicketShowArgs,
    TicketVerb,
};
pub(in crate::cli) use topology::{TopologyFormat, TopologyVerb};
pub(in crate::cli) use work::{
    AttachArgs, DownArgs, LeadArgs, PauseArgs, ReportArgs, RunArgs, SendArgs, SpawnArgs, WaitArgs, WorkArgs,
};

/// Runs coding agents on the tickets of a git repository, many at once, and lands their work tested.
///
/// Every worker has its own branch, worktree, tmux session and supervisor; nothing touches your checkout until
/// `swarm merge` moves the target branch to a tree that passed its gates.
#[derive(Debug, Parser)]
#[command(
    name = "swarm",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 some of several failed, 4 a person is needed, 5 not found, \
                  6 timed out, 7 limit reached, 70 internal fault, 128+n ended by signal n.\n\
                  Start with `swarm init`, or look around with `swarm demo`."
)]
pub(super) struct Cli {
    /// Flags every verb has.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

// Flags every verb has.
#[derive(Debug, Clone, Args)]
#[command(next_display_order = 900)]
pub(super) struct Global {
    /// Work as if started in DIR.
    #[arg(short = 'C', value_name = "DIR", global = true, value_hint = ValueHint::DirPath)]
    pub(crate) directory: Option<PathBuf>,
    /// Print one JSON document (or one object a line for streams) instead of text; refused where there is none.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Set a configuration key for this call, such as `landing.strategy=squash`; repeatable.
    #[arg(long = "config", value_name = "KEY=VALUE", global = true, value_parser = key_value)]
    pub(crate) overrides: Vec<(String, String)>,
    /// When to use colour.
    #[arg(long, value_name = "WHEN", default_value = "auto", global = true, hide_possible_values = false)]
    pub(crate) color: ColorChoice,
    /// Say more on standard error; repeatable.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
    /// Say nothing on standard error but errors.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Answer yes to questions, and trust the set-up and gate commands that this call runs.
    #[arg(short, long, global = true)]
    pub(crate) yes: bool,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The verbs. The arguments of a verb are made only when it is the one that is called: all of them together were most
/// of the time that a short command took.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(super) enum Verb {
    /// Write .swarm/config.yaml and a sample ticket, and say what is missing.
    Init(InitArgs),
    /// Write, list and show tickets.
    #[command(subcommand)]
    Ticket(TicketVerb),
    /// Start a worker for each ticket and return at once.
    Spawn(SpawnArgs),
    /// Bring tickets to their end: start workers as there is room, try again, land; then exit.
    ///
    /// Exit code: 0 when every ticket made it, 3 when some did not, 1 when none did, 4 when what is left needs a person, 6
    /// after --timeout, 7 at a limit. Without --merge a ticket has made it when its work is ready for review. The first
    /// Ctrl-C ends scheduling and leaves the workers running; the next `swarm run` goes on with them.
    Run(RunArgs),
    /// Start a coordinator in the background: it starts what is queued, tries again, lands.
    ///
    /// It runs in a tmux session of its own, or detached where tmux is missing, and stands by as long as a `swarm run`
    /// leads. The workers are none of its children: they run on without it.
    Up(WorkArgs),
    /// End the coordinator in the background; the workers run on.
    Down(DownArgs),
    /// Show, fill and mend the queue of tickets.
    #[command(subcommand)]
    Queue(QueueVerb),
    /// Show and set how many workers run at once, and the policies by which that follows the work.
    ///
    /// A coordinator that runs goes by it at its next look, and the next one as well. With a smaller number fewer workers
    /// start; one that runs is never stopped. Policies are written under `scaling` in .swarm/config.yaml, or set here.
    Scale(ScaleArgs),
    /// Let several clones, on several machines, work on one queue.
    #[command(subcommand)]
    Node(NodeVerb),
    /// Choose and show who may assign work to whom and who may message whom.
    #[command(subcommand)]
    Topology(TopologyVerb),
    /// Show what every worker does, and how that is known.
    #[command(visible_alias = "st")]
    Status(StatusArgs),
    /// Enter a worker's live terminal; leaving it never disturbs the agent.
    Attach(AttachArgs),
    /// Send a message to a worker's agent; it arrives at a turn boundary.
    Send(SendArgs),
    /// Show a worker's events, tool calls or terminal.
    Logs(LogsArgs),
    /// Show what happened, in one order: the queue, workers, landing and the coordinator.
    Events(EventsArgs),
    /// Talk on the channels that people, agents and programs share.
    #[command(subcommand)]
    Bus(BusVerb),
    /// Show how long things took, how well they went, and what they cost.
    Stats(StatsArgs),
    /// Wait until workers reach a status or their tickets a state.
    Wait(WaitArgs),
    /// End workers' agents; their work and worktrees stay.
    Stop(SelectArgs),
    /// Hold workers at their next turn boundary.
    Pause(PauseArgs),
    /// Continue paused or lost workers, in the agent's own session where it can.
    Resume(SelectArgs),
    /// Stop workers and begin a new attempt in the same worktree.
    Restart(SelectArgs),
    /// Remove workers; their work is kept under refs/swarm/keep first.
    Rm(SelectArgs),
    /// Show the evidence behind a worker's status.
    Why(WorkerArgs),
    /// Trust, list or revoke the set-up and gate commands of this repository.
    Trust(TrustArgs),
    /// Show what a worker changed since its base, uncommitted work included.
    Diff(DiffArgs),
    /// Show a worker's finished work, approve it, or send it back with comments.
    Review(ReviewArgs),
    /// Show which workers' work does not fit the target or each other, while the agents still work.
    Conflicts(ConflictsArgs),
    /// Land approved work: test merge, gates on exactly the merged tree, then move the target branch.
    Merge(MergeArgs),
    /// Show what a ticket's landing rested on: verdicts, gates, the tree they ran on.
    Log(TicketShowArgs),
    /// Bring the target into a worker's branch with your own merge tool, in its worktree.
    ///
    /// Its work is kept first. Opens `git mergetool` where merge.tool or merge.guitool is set, else your editor on the
    /// files in conflict. When nothing is in conflict any more the merge is concluded, and the ticket is in review.
    Resolve(ResolveArgs),
    /// List, show, compare and restore work kept from removed workers.
    #[command(subcommand)]
    Recover(RecoverVerb),
    /// Propose what can go, with sizes and reasons; remove it only with --apply.
    Clean(CleanArgs),
    /// Go back to the state after one of a worker's tool calls, keeping the present first.
    Rewind(RewindArgs),
    /// Let an agent propose tickets for a goal; a person edits and approves them before anything runs.
    Plan(PlanArgs),
    /// Show what was spent, and what may be.
    Budget(BudgetArgs),
    /// List, show and check agents.
    #[command(subcommand)]
    Agents(AgentsVerb),
    /// Look for whatever is missing or inconsistent, and say how to mend it.
    Doctor(DoctorArgs),
    /// Print a shell's completion script.
    Completions(CompletionsArgs),
    /// Print the manual page, or write all of them into a folder.
    Man(ManArgs),
    /// Play model conversations from a file, without a model.
    #[command(subcommand)]
    Replay(ReplayVerb),
    /// Run four workers in a small repository of its own, with a script in place of the model.
    Demo(DemoArgs),

    /// Own one worker's terminal and process tree.
    #[command(hide = true)]
    Supervise(SuperviseArgs),
    /// Be the coordinator in the background.
    #[command(hide = true)]
    Lead(LeadArgs),
    /// Look at the overlaps once and tell agents what is new.
    #[command(hide = true)]
    Radar,
    /// Hand the finished work of a worker over to other nodes.
    #[command(hide = true)]
    Carry(CarryArgs),
    /// Run our own agent loop by a plan.
    #[command(hide = true)]
    Loop(LoopArgs),
    /// Speak the Agent Client Protocol with an agent, in a worker's terminal.
    #[command(hide = true)]
    Acp(AcpArgs),
    /// Pass one hook call of an agent to its supervisor.
    #[command(hide = true)]
    Hook(HookArgs),
}

// `init`.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Agent for tickets that name none.
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// Also write .github/workflows/swarm.yml, by which GitHub Actions runs the tickets.
    #[arg(long)]
    pub(crate) ci: bool,
}

// One worker.
#[derive(Debug, Args)]
pub(super) struct WorkerArgs {
    /// Worker id.
    #[arg(add = ArgValueCompleter::new(complete::workers))]
    pub(crate) worker: String,
}

// Several workers.
#[derive(Debug, Args)]
pub(super) struct SelectArgs {
    /// Worker ids.
    #[arg(value_name = "WORKER", required_unless_present = "all", add = ArgValueCompleter::new(complete::workers))]
    pub(crate) workers: Vec<String>,
    /// All workers to whom it applies.
    #[arg(long, conflicts_with = "workers")]
    pub(crate) all: bool,
}

// `trust`.
#[derive(Debug, Args)]
pub(super) struct TrustArgs {
    /// List what is trusted, here and elsewhere.
    #[arg(long, conflicts_with = "revoke")]
    pub(crate) list: bool,
    /// Take back the trust in this repository's commands.
    #[arg(long)]
    pub(crate) revoke: bool,
}

// `doctor`.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Say what would be done about what can be put right; with --yes, do it. Work is kept before anything goes.
    #[arg(long)]
    pub(crate) mend: bool,
}

// `completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// Which shell.
    pub(crate) shell: Shell,
}

// `man`.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Verb whose page to print; the overview when none is named.
    #[arg(conflicts_with = "out")]
    pub(crate) verb: Option<String>,
    /// Write every page into this folder.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out: Option<PathBuf>,
}

// `demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Leave the repository for exploring.
    #[arg(long)]
    pub(crate) keep: bool,
}

/// Splits `KEY=VALUE`.
fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| "expected KEY=VALUE".to_owned())?;
    Ok((key.to_owned(), value.to_owned()))
}
