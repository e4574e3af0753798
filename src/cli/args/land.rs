//! Arguments of the verbs for finished work: reviewing, landing, keeping and bringing back.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use clap_complete::engine::ArgValueCompleter;

use crate::cli::complete;
use crate::coordinator::CommentChoice;
use crate::model::parse_duration;
use crate::store::CommentId;

// What to resolve.
#[derive(Debug, Args)]
pub(in crate::cli) struct ResolveArgs {
    /// Worker id.
    #[arg(add = ArgValueCompleter::new(complete::workers))]
    pub(crate) worker: String,
    /// Give the merge or rebase that is begun there up instead; what was edited in it is kept.
    #[arg(long)]
    pub(crate) abort: bool,
}

// `review`.
#[derive(Debug, Args)]
#[command(after_help = "\
FILE:LINE is counted in the file as it is on the branch; FILE:3-7 is several lines, FILE:-3 a line that the work \
removes, FILE the file as a whole. Comments are kept until they are sent: --reject sends the message and every open \
comment as one prompt. What reviewer agents propose is sent only after --accept.")]
pub(in crate::cli) struct ReviewArgs {
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
pub(in crate::cli) struct MergeArgs {
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
pub(in crate::cli) enum StrategyChoice {
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
pub(in crate::cli) enum RecoverVerb {
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
pub(in crate::cli) struct RecoverShowArgs {
    /// Worker id (its newest keep ref) or full keep ref.
    #[arg(value_name = "WORKER|REF", add = ArgValueCompleter::new(complete::kept))]
    pub(crate) what: String,
}

// `recover diff`.
#[derive(Debug, Args)]
pub(in crate::cli) struct RecoverDiffArgs {
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
pub(in crate::cli) struct CleanArgs {
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
pub(in crate::cli) struct RewindArgs {
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
pub(in crate::cli) struct RecoverRestoreArgs {
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
