//! The command line's shape: one place for every verb, flag and help text. Help, man pages and completions are
//! made from it.
//!
//! Structs of arguments and enums below a verb carry plain comments: clap would take a doc comment there for the about
//! text of the verb, over the verb's own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::TypedValueParser as _;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use clap_complete::engine::ArgValueCompleter;

use super::complete;
use crate::coordinator::{CommentChoice, Since};
use crate::model::{Time, parse_duration, parse_moment};
use crate::store::CommentId;

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

// `ticket`.
#[derive(Debug, Subcommand)]
pub(super) enum TicketVerb {
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
pub(super) struct TicketImportArgs {
    /// Numbers of issues; every open one when none is named.
    #[arg(value_name = "NUMBER", value_parser = issue_number)]
    pub(crate) numbers: Vec<u64>,
    /// The repository, instead of the one that gh finds here.
    #[arg(long, value_name = "OWNER/NAME", value_parser = repository_name)]
    pub(crate) repo: Option<String>,
    /// Only issues with this label.
    #[arg(long, value_name = "LABEL", conflicts_with = "numbers")]
    pub(crate) label: Option<String>,
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
pub(super) struct TicketNewArgs {
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
pub(super) struct TextArgs {
    /// The text itself.
    #[arg(short = 'p', long = "prompt", value_name = "TEXT")]
    pub(crate) prompt: Option<String>,
    /// A file with the text, from the folder of -C; `-` is standard input.
    #[arg(short = 'f', long = "file", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
}

// `ticket show`.
#[derive(Debug, Args)]
pub(super) struct TicketShowArgs {
    /// Ticket id, or path of a markdown file.
    #[arg(add = ArgValueCompleter::new(complete::tickets))]
    pub(crate) ticket: String,
}

// `spawn`.
#[derive(Debug, Args)]
pub(super) struct SpawnArgs {
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
pub(super) struct RunArgs {
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
pub(super) struct ReportArgs {
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
pub(super) struct WorkArgs {
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
pub(super) struct DownArgs {}

// `lead`.
#[derive(Debug, Args)]
pub(super) struct LeadArgs {
    /// Become the program that this file describes.
    #[arg(long)]
    pub(crate) handover: Option<PathBuf>,
    /// How it works.
    #[command(flatten)]
    pub(crate) work: WorkArgs,
}

// `queue`.
#[derive(Debug, Subcommand)]
pub(super) enum QueueVerb {
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
}

// `queue list`.
#[derive(Debug, Args)]
pub(super) struct QueueListArgs {
    /// Also what landed, is done or was cancelled.
    #[arg(long, short)]
    pub(crate) all: bool,
}

// `queue add`.
#[derive(Debug, Args)]
pub(super) struct QueueAddArgs {
    /// Ticket ids or paths of markdown files.
    #[arg(value_name = "TICKET", required_unless_present = "all", add = ArgValueCompleter::new(complete::tickets))]
    pub(crate) tickets: Vec<String>,
    /// Every ticket that is not over.
    #[arg(long, short, conflicts_with = "tickets")]
    pub(crate) all: bool,
}

// Several tickets.
#[derive(Debug, Args)]
pub(super) struct QueueTicketsArgs {
    /// Ticket ids.
    #[arg(value_name = "TICKET", required = true, add = ArgValueCompleter::new(complete::tickets))]
    pub(crate) tickets: Vec<String>,
}

// `status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
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
pub(super) struct ConflictsArgs {
    /// Redraw in place until Ctrl-C.
    #[arg(long, short)]
    pub(crate) watch: bool,
}

// One worker.
#[derive(Debug, Args)]
pub(super) struct WorkerArgs {
    /// Worker id.
    #[arg(add = ArgValueCompleter::new(complete::workers))]
    pub(crate) worker: String,
}

// What to resolve.
#[derive(Debug, Args)]
pub(super) struct ResolveArgs {
    /// Worker id.
    #[arg(add = ArgValueCompleter::new(complete::workers))]
    pub(crate) worker: String,
    /// Give the merge or rebase that is begun there up instead; what was edited in it is kept.
    #[arg(long)]
    pub(crate) abort: bool,
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

// `attach`.
#[derive(Debug, Args)]
pub(super) struct AttachArgs {
    /// Worker id.
    #[arg(add = ArgValueCompleter::new(complete::workers))]
    pub(crate) worker: String,
    /// Look only; nothing typed reaches the agent.
    #[arg(long, short)]
    pub(crate) read_only: bool,
}

// `send`.
#[derive(Debug, Args)]
pub(super) struct SendArgs {
    /// Worker id, then the text (`-` is standard input); with --all only the text. Several words are one text.
    #[arg(value_names = ["WORKER", "TEXT"], required = true, num_args = 1.., add = ArgValueCompleter::new(complete::workers))]
    pub(crate) words: Vec<String>,
    /// Send to every live worker.
    #[arg(long)]
    pub(crate) all: bool,
}

// `logs`.
#[derive(Debug, Args)]
pub(super) struct LogsArgs {
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
--since and misses none. They are kept for 30 days; where some that were asked for are gone, that is said.")]
pub(super) struct EventsArgs {
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
}

/// `events --kind`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum EventKindChoice {
    /// Tickets and their states.
    Queue,
    /// Workers, reviews and landings.
    Worker,
    /// The coordinator.
    Swarm,
}

// `stats`.
#[derive(Debug, Args)]
#[command(after_help = "\
Tickets count when they ended in the window, attempts when they were under way. Times are those that half and 95 of 100 \
cases stay within. What is not known is shown as `-`. The history begins when this version of swarm first saw the \
repository, at most 30 days before, and is kept from then on.")]
pub(super) struct StatsArgs {
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
pub(super) enum StatsChoice {
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

// `wait`.
#[derive(Debug, Args)]
pub(super) struct WaitArgs {
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
pub(super) struct PauseArgs {
    /// Which workers.
    #[command(flatten)]
    pub(crate) select: SelectArgs,
    /// Stop the agent's processes at once instead of at the turn boundary.
    #[arg(long)]
    pub(crate) now: bool,
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

// `diff`.
#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// Worker id.
    #[arg(add = ArgValueCompleter::new(complete::workers))]
    pub(crate) worker: String,
    /// Only files and counts.
    #[arg(long)]
    pub(crate) stat: bool,
}

// `review`.
#[derive(Debug, Args)]
#[command(after_help = "\
FILE:LINE is counted in the file as it is on the branch; FILE:3-7 is several lines, FILE:-3 a line that the work \
removes, FILE the file as a whole. Comments are kept until they are sent: --reject sends the message and every open \
comment as one prompt. What reviewer agents propose is sent only after --accept.")]
pub(super) struct ReviewArgs {
    /// Worker id.
    #[arg(add = ArgValueCompleter::new(complete::workers))]
    pub(crate) worker: String,
    /// Approve the branch at its present commit.
    #[arg(long, conflicts_with = "reject")]
    pub(crate) approve: bool,
    /// Send it back; message and open comments reach the agent as one prompt.
    #[arg(long)]
    pub(crate) reject: bool,
    /// What to say with the verdict.
    #[arg(long, short, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) message: Option<String>,
    /// A comment at FILE:LINE; repeatable.
    #[arg(long, num_args = 2, value_names = ["FILE:LINE", "TEXT"], action = clap::ArgAction::Append,
        allow_hyphen_values = true)]
    pub(crate) comment: Vec<String>,
    /// Take proposals of reviewer agents as comments of yours; `all` is every one.
    #[arg(long, value_name = "ID", num_args = 1.., value_parser = comment_choice)]
    pub(crate) accept: Vec<CommentChoice>,
    /// Drop proposals, or comments that were not sent; `all` is every proposal.
    #[arg(long, value_name = "ID", num_args = 1.., value_parser = comment_choice)]
    pub(crate) drop: Vec<CommentChoice>,
    /// Mark comments as dealt with; `all` is every open and sent one.
    #[arg(long, value_name = "ID", num_args = 1.., value_parser = comment_choice)]
    pub(crate) resolve: Vec<CommentChoice>,
    /// Open comments again, to be sent with the next rejection.
    #[arg(long, value_name = "ID", num_args = 1.., value_parser = comment_choice)]
    pub(crate) reopen: Vec<CommentChoice>,
    /// Tick items of the ticket's checklist.
    #[arg(long, value_name = "N", num_args = 1..)]
    pub(crate) check: Vec<usize>,
    /// Take ticks back.
    #[arg(long, value_name = "N", num_args = 1..)]
    pub(crate) uncheck: Vec<usize>,
    /// Write the review in your editor, over the diff: remarks below a line, the verdict at the top.
    #[arg(long, conflicts_with_all = ["approve", "reject", "message", "comment", "ask", "since"])]
    pub(crate) editor: bool,
    /// Take a review from a file that --editor kept; `-` is standard input.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath,
        conflicts_with_all = ["approve", "reject", "message", "comment", "ask", "since", "editor"])]
    pub(crate) file: Option<PathBuf>,
    /// Ask reviewer agents now: those of the ticket that gave no verdict yet, or these.
    #[arg(long, value_name = "AGENT", num_args = 0.., add = ArgValueCompleter::new(complete::agents),
        conflicts_with_all = ["approve", "reject", "message", "comment", "since"])]
    pub(crate) ask: Option<Vec<String>>,
    /// Show only what changed since the last verdict, and the comments.
    #[arg(long, conflicts_with_all = ["approve", "reject", "message", "comment"])]
    pub(crate) since: bool,
}

/// Reads `12`, `#12` or `all`.
fn comment_choice(text: &str) -> Result<CommentChoice, String> {
    let number = text.trim_start_matches('#').parse::<i64>().ok().filter(|number| *number > 0);
    match (text, number) {
        ("all", _) => Ok(CommentChoice::All),
        (_, Some(number)) => Ok(CommentChoice::One(CommentId(number))),
        _ => Err("expected the number of a comment, or `all`".to_owned()),
    }
}

// `merge`.
#[derive(Debug, Args)]
pub(super) struct MergeArgs {
    /// Workers to land; every approved one when none is named.
    #[arg(value_name = "WORKER", add = ArgValueCompleter::new(complete::workers))]
    pub(crate) workers: Vec<String>,
    /// What the target's history looks like, instead of the configured strategy.
    #[arg(long)]
    pub(crate) strategy: Option<StrategyChoice>,
    /// Print what would land, with forecast and gates, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Push the branches and open pull requests with gh or glab instead of merging here; called again, look how they
    /// are doing and release the workers whose work the target has. `landing.mode: pr` makes it the default.
    #[arg(long, conflicts_with_all = ["strategy", "dry_run"])]
    pub(crate) pr: bool,
    /// With pull requests: wait until each is merged, closed or has failed checks.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Give up waiting after this long, with exit code 6.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "wait")]
    pub(crate) timeout: Option<Duration>,
}

/// `merge --strategy`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum StrategyChoice {
    /// A merge commit.
    Merge,
    /// One commit with all changes.
    Squash,
    /// The branch's commits on top of the target.
    Rebase,
    /// The branch as it is; what the target has gone past goes back to its agent.
    FastForward,
}

// `recover`.
#[derive(Debug, Subcommand)]
pub(super) enum RecoverVerb {
    /// List everything that was kept.
    #[command(visible_alias = "ls")]
    List,
    /// Show what one keep ref holds.
    Show(RecoverShowArgs),
    /// Show how kept work differs from what its worker began with.
    Diff(RecoverDiffArgs),
    /// Bring kept work back as a branch, with its uncommitted part in a worktree if asked.
    Restore(RecoverRestoreArgs),
}

// `recover show`.
#[derive(Debug, Args)]
pub(super) struct RecoverShowArgs {
    /// Worker id (its newest keep ref) or full keep ref.
    #[arg(value_name = "WORKER|REF", add = ArgValueCompleter::new(complete::kept))]
    pub(crate) what: String,
}

// `recover diff`.
#[derive(Debug, Args)]
pub(super) struct RecoverDiffArgs {
    /// Worker id (its newest keep ref) or full keep ref.
    #[arg(value_name = "WORKER|REF", add = ArgValueCompleter::new(complete::kept))]
    pub(crate) what: String,
    /// Only what was not committed.
    #[arg(long)]
    pub(crate) uncommitted: bool,
    /// Only files and counts.
    #[arg(long)]
    pub(crate) stat: bool,
}

// `clean`.
#[derive(Debug, Args)]
#[command(after_help = "\
A worker can go when its ticket is over, nothing in its worktree is uncommitted, and one of six checks proves that its \
target has the content of its branch: ancestor, same_tree, nothing_to_merge, each_commit (picked or rebased), squashed, \
was_whole. Its work is kept all the same. Kept work can go after recover.keep_days, logs of workers that are gone after \
recover.log_days. Branches, worktrees and references that swarm did not make are never touched.")]
pub(super) struct CleanArgs {
    /// Remove what can go; so does --yes, which also lets go kept work younger than 30 days where the configuration
    /// keeps it for less.
    #[arg(long)]
    pub(crate) apply: bool,
    /// Only say what can go, whatever else is given.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Let kept work go after its time although it is nowhere else.
    #[arg(long)]
    pub(crate) unlanded: bool,
}

// `rewind`.
#[derive(Debug, Args)]
#[command(after_help = "\
`swarm logs WORKER --tools` shows the calls with their numbers. Files, branch and index become what they were after \
the call; ignored files stay. What was there before is kept: `swarm recover restore` brings it back, and going back to \
a later call goes forward again.")]
pub(super) struct RewindArgs {
    /// Worker id.
    #[arg(add = ArgValueCompleter::new(complete::workers))]
    pub(crate) worker: String,
    /// The call: its number, or its id.
    #[arg(long, value_name = "CALL")]
    pub(crate) to: String,
    /// Say what would change, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

// `recover restore`.
#[derive(Debug, Args)]
pub(super) struct RecoverRestoreArgs {
    /// Worker id (its newest keep ref) or full keep ref.
    #[arg(value_name = "WORKER|REF", add = ArgValueCompleter::new(complete::kept))]
    pub(crate) what: String,
    /// Branch to make; default `recovered/WORKER`.
    #[arg(long, value_name = "NAME")]
    pub(crate) branch: Option<String>,
    /// Folder of a new worktree that gets the uncommitted part as uncommitted changes.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) worktree: Option<PathBuf>,
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
pub(super) struct PlanArgs {
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
pub(super) enum PlanVerb {
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
pub(super) struct PlanNameArgs {
    /// Name of the plan.
    #[arg(value_name = "NAME")]
    pub(crate) plan: String,
}

// `budget`.
#[derive(Debug, Args)]
#[command(after_help = "\
Limits are set under `budget` in .swarm/config.yaml, for a ticket, a run and a day, and by `budget` in a ticket. \
Nothing is started over one, and an agent that reaches one ends with its work kept and exit code 7. A day is a local \
one, from midnight to midnight; a clock that jumps gives no new budget.")]
pub(super) struct BudgetArgs {
    /// What to add up by.
    #[arg(long, value_name = "WHAT", default_value = "ticket")]
    pub(crate) by: SpendByChoice,
    /// The first day to count: 2026-11-21, today, or 7d for seven days back; default a week.
    #[arg(long, value_name = "DAY")]
    pub(crate) since: Option<String>,
}

/// `budget --by`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum SpendByChoice {
    /// A row for each ticket.
    Ticket,
    /// A row for each agent.
    Agent,
    /// A row for each model.
    Model,
    /// A row for each day.
    Day,
}

// `agents`.
#[derive(Debug, Subcommand)]
pub(super) enum AgentsVerb {
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
pub(super) struct AgentArgs {
    /// Agent name.
    #[arg(add = ArgValueCompleter::new(complete::agents))]
    pub(crate) agent: String,
}

// `agents check`.
#[derive(Debug, Args)]
pub(super) struct AgentsCheckArgs {
    /// Agent names.
    #[arg(value_name = "AGENT", add = ArgValueCompleter::new(complete::agents))]
    pub(crate) agents: Vec<String>,
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

// `demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Leave the repository for exploring.
    #[arg(long)]
    pub(crate) keep: bool,
}

// `supervise`.
#[derive(Debug, Args)]
pub(super) struct SuperviseArgs {
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
pub(super) struct HookArgs {
    /// Event name as the agent's program says it.
    pub(crate) event: String,
}

/// Splits `KEY=VALUE`.
fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| "expected KEY=VALUE".to_owned())?;
    Ok((key.to_owned(), value.to_owned()))
}
