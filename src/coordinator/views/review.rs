//! What a review shows and answers.

use schemars::JsonSchema;
use serde::Serialize;

use super::WorkerView;
use crate::landing::Fate;
use crate::model::Time;
use crate::store::{CommentId, CommentState, Side};

/// `review --json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct ReviewView {
    /// [`super::VIEW_VERSION`].
    pub(crate) version: u32,
    /// The worker.
    pub(crate) worker: WorkerView,
    /// The commit that is, or was, judged.
    pub(crate) commit: Option<String>,
    /// Commits since the base, oldest first.
    pub(crate) commits: Vec<CommitView>,
    /// Files with counts.
    pub(crate) stat: String,
    /// Files that the work changes outside the scope of its ticket; empty where that states none.
    pub(crate) outside_scope: Vec<String>,
    /// What the agent said of it at its end; null where it said nothing.
    pub(crate) result: Option<String>,
    /// Verdicts so far, oldest first.
    pub(crate) verdicts: Vec<VerdictView>,
    /// Comments so far, oldest first.
    pub(crate) comments: Vec<CommentView>,
    /// The ticket's checklist.
    pub(crate) checklist: Vec<ChecklistItemView>,
    /// The reviewers of the ticket with what each found last, in the order they are asked.
    pub(crate) reviewers: Vec<ReviewerView>,
    /// What changed since the last verdict; null without one, and where nothing did.
    pub(crate) since: Option<SinceView>,
}

/// One commit.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct CommitView {
    /// Commit id.
    pub(crate) id: String,
    /// First line of its message.
    pub(crate) subject: String,
    /// Author's name.
    pub(crate) author: String,
}

/// One verdict.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct VerdictView {
    /// `approved` or `rejected`.
    pub(crate) verdict: String,
    /// The commit it judged.
    pub(crate) commit: String,
    /// Who.
    pub(crate) by: String,
    /// What was said.
    pub(crate) text: String,
    /// When.
    pub(crate) at: Time,
    /// Whether it is an approval that counts no more, because the work went on or a later verdict took its place.
    pub(crate) void: bool,
}

/// One comment.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct CommentView {
    /// Its id.
    pub(crate) id: CommentId,
    /// Where it stands.
    pub(crate) state: CommentState,
    /// Who: a person as git names them, or an agent's name.
    pub(crate) by: String,
    /// The commit in which its lines are counted.
    pub(crate) commit: String,
    /// The file, from the repository's root.
    pub(crate) file: String,
    /// The work, or what was there before.
    pub(crate) side: Side,
    /// The first line; null is the file as a whole.
    pub(crate) first_line: Option<u32>,
    /// The last line.
    pub(crate) last_line: Option<u32>,
    /// Those lines as they were, at most twelve.
    pub(crate) quote: Vec<String>,
    /// The remark.
    pub(crate) text: String,
    /// How grave an agent finds it, in its own word.
    pub(crate) severity: Option<String>,
    /// When.
    pub(crate) at: Time,
    /// Where the place is in the commit that is judged now.
    pub(crate) now: SpotView,
}

/// Where the place of a comment is now.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct SpotView {
    /// What became of it.
    pub(crate) fate: Fate,
    /// The file's name now; null when it is gone.
    pub(crate) file: Option<String>,
    /// The first line now.
    pub(crate) first_line: Option<u32>,
    /// The last line now.
    pub(crate) last_line: Option<u32>,
    /// The code there now, at most twelve lines.
    pub(crate) code: Vec<String>,
}

/// One item of a checklist.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct ChecklistItemView {
    /// From 1; what `--check` takes.
    pub(crate) number: usize,
    /// What it says.
    pub(crate) text: String,
    /// Whether it is ticked at the commit that is judged.
    pub(crate) is_ticked: bool,
    /// The commit at which it was ticked last; null when never.
    pub(crate) ticked_at: Option<String>,
    /// Who ticked it.
    pub(crate) by: Option<String>,
}

/// What one reviewer found.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct ReviewerView {
    /// The agent.
    pub(crate) agent: String,
    /// How far it is.
    pub(crate) verdict: ReviewerWord,
    /// What it said, or why there is no verdict.
    pub(crate) summary: String,
    /// The commit it looked at; null when it was not asked.
    pub(crate) commit: Option<String>,
    /// Whether that is the commit that is judged now.
    pub(crate) is_current: bool,
    /// How often it was asked.
    pub(crate) tries: u32,
    /// Input tokens of all its runs on this work; null where they are not known.
    pub(crate) input_tokens: Option<u64>,
    /// Output tokens of all its runs on this work.
    pub(crate) output_tokens: Option<u64>,
    /// US dollars of all its runs on this work.
    pub(crate) cost_usd: Option<f64>,
    /// When its last run ended.
    pub(crate) ended_at: Option<Time>,
}

/// How far a reviewer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReviewerWord {
    /// It found the work good.
    Approve,
    /// It wants changes.
    Reject,
    /// It reads.
    Running,
    /// It gave no verdict that could be read, or its run was cut off. Never an approval.
    NoVerdict,
    /// It was not asked about this work.
    NotAsked,
}

impl ReviewerWord {
    /// As a clause.
    pub(crate) fn clause(self) -> &'static str {
        match self {
            Self::Approve => "approves",
            Self::Reject => "asks for changes",
            Self::Running => "reads",
            Self::NoVerdict => "no verdict",
            Self::NotAsked => "was not asked",
        }
    }
}

/// What changed since the last verdict.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct SinceView {
    /// `approved` or `rejected`.
    pub(crate) verdict: String,
    /// The commit it judged.
    pub(crate) commit: String,
    /// Whether commits were written anew since, so that `text` compares the two series commit by commit.
    pub(crate) is_rewritten: bool,
    /// Whether the judged commit is gone, so that nothing can be compared.
    pub(crate) is_lost: bool,
    /// New commits, oldest first; none where commits were written anew.
    pub(crate) commits: Vec<CommitView>,
    /// The difference, or what `git range-diff` prints where commits were written anew.
    pub(crate) text: String,
}
