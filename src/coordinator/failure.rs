//! How a command fails, for every face: a kind with a stable code and exit code, the error with its causes, hints.

use std::error::Error;

use super::views::FailureView;
use crate::agent::AgentError;
use crate::config::ConfigError;
use crate::files::FileError;
use crate::git::GitError;
use crate::landing::{ForgeError, LandingError};
use crate::model::{IdError, causes};
use crate::process::ProcessError;
use crate::queue::{BusError, Elsewhere, QueueError};
use crate::store::StoreError;
use crate::supervisor::SupervisorError;
use crate::terminal::{RecordingError, TmuxError};

/// Kinds of failure; each has a stable word for JSON, HTTP and MCP, and an exit code (design section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// It was tried and did not work.
    Failed,
    /// The call makes no sense as given.
    Usage,
    /// Some of several failed.
    Partial,
    /// A person is needed: conflict, approval, review, trust.
    NeedsPerson,
    /// What was named does not exist.
    NotFound,
    /// Time ran out.
    TimedOut,
    /// A limit or budget was reached.
    Limit,
    /// A fault of this program.
    Internal,
}

impl FailureKind {
    /// Stable word.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Partial => "partial",
            Self::NeedsPerson => "needs_person",
            Self::NotFound => "not_found",
            Self::TimedOut => "timed_out",
            Self::Limit => "limit",
            Self::Internal => "internal",
        }
    }

    /// Exit code.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Partial => 3,
            Self::NeedsPerson => 4,
            Self::NotFound => 5,
            Self::TimedOut => 6,
            Self::Limit => 7,
            Self::Internal => 70,
        }
    }
}

/// A failure as a face shows it.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Kind.
    pub(crate) kind: FailureKind,
    /// What went wrong, outermost first; never empty.
    pub(crate) chain: Vec<String>,
    /// What a person can do, as commands or sentences.
    pub(crate) hints: Vec<String>,
}

impl Failure {
    /// A failure with one sentence.
    pub(crate) fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        Self { kind, chain: vec![text.into()], hints: Vec::new() }
    }

    /// A failure from an error and its causes.
    pub(crate) fn from_error(kind: FailureKind, error: &(dyn Error + 'static)) -> Self {
        Self { kind, chain: causes(error), hints: Vec::new() }
    }

    /// Adds a hint.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The failure of one of several subjects.
    pub(crate) fn view(&self, subject: &str) -> FailureView {
        FailureView {
            subject: subject.to_owned(),
            code: self.kind.code().to_owned(),
            error: self.chain.join(": "),
            hints: self.hints.clone(),
        }
    }
}

/// Makes failures of the errors of a module: its kind by the function given, its hint where it has one.
macro_rules! failure_from {
    ($error:ty, $kind:expr, $hint:expr) => {
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                let kind: fn(&$error) -> FailureKind = $kind;
                let hint: fn(&$error) -> Option<String> = $hint;
                let mut failure = Self::from_error(kind(&error), &error);
                failure.hints.extend(hint(&error));
                failure
            }
        }
    };
}

failure_from!(FileError, |_| FailureKind::Failed, |_| None);
failure_from!(IdError, |_| FailureKind::Usage, |_| None);
failure_from!(ProcessError, |_| FailureKind::Failed, |_| None);
failure_from!(StoreError, store_kind, |error| error.hint().map(str::to_owned));
failure_from!(QueueError, queue_kind, QueueError::hint);
failure_from!(BusError, bus_kind, BusError::hint);
failure_from!(GitError, git_kind, GitError::hint);
failure_from!(AgentError, |_| FailureKind::Failed, AgentError::hint);
failure_from!(TmuxError, |_| FailureKind::Failed, |_| None);
failure_from!(LandingError, landing_kind, LandingError::hint);
failure_from!(RecordingError, |_| FailureKind::Failed, |_| None);

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let mut failure = Self::from_error(FailureKind::Usage, &error);
        if let Some(snippet) = error.snippet() {
            failure.chain[0] = format!("{}\n{snippet}", failure.chain[0]);
        }
        failure.hints.extend(error.hint().map(str::to_owned));
        failure
    }
}

impl From<SupervisorError> for Failure {
    fn from(error: SupervisorError) -> Self {
        match error {
            SupervisorError::File(error) => error.into(),
            SupervisorError::Store(error) => error.into(),
            SupervisorError::Queue(error) => error.into(),
            SupervisorError::Bus(error) => error.into(),
            SupervisorError::Git(error) => error.into(),
            SupervisorError::Agent(error) => error.into(),
            SupervisorError::Config(error) => error.into(),
            SupervisorError::Tmux(error) => error.into(),
            SupervisorError::Process(error) => error.into(),
            SupervisorError::Setup { ref output, .. } if !output.trim().is_empty() => {
                let text = error.to_string();
                Self { kind: FailureKind::Failed, chain: vec![format!("{text}\n{}", output.trim_end())], hints: vec![] }
            }
            other => {
                let kind = match &other {
                    SupervisorError::NoBase { .. } => FailureKind::NotFound,
                    SupervisorError::NotClaimable { .. } => FailureKind::NeedsPerson,
                    _ => FailureKind::Failed,
                };
                let mut failure = Self::from_error(kind, &other);
                failure.hints.extend(other.hint());
                failure
            }
        }
    }
}

/// How a refusal of the store counts.
fn store_kind(error: &StoreError) -> FailureKind {
    match error {
        StoreError::Copied { .. } => FailureKind::NeedsPerson,
        _ => FailureKind::Failed,
    }
}

/// How a refusal of the queue counts.
fn queue_kind(error: &QueueError) -> FailureKind {
    match error {
        QueueError::NotFound(_) => FailureKind::NotFound,
        QueueError::Cycle(_) | QueueError::CaseClash { .. } => FailureKind::Usage,
        QueueError::Elsewhere(Elsewhere::InFile { .. } | Elsewhere::OnServer(_)) => FailureKind::Usage,
        _ => FailureKind::Failed,
    }
}

/// How a refusal of the bus counts.
fn bus_kind(error: &BusError) -> FailureKind {
    match error {
        BusError::TooLarge { .. } | BusError::ReadOnly(_) | BusError::NotThere(_) => FailureKind::Usage,
        BusError::MailboxFull { .. } => FailureKind::Limit,
        BusError::Store(_) | BusError::Nats(_) => FailureKind::Failed,
    }
}

/// How a refusal of git counts.
fn git_kind(error: &GitError) -> FailureKind {
    match error {
        GitError::NotARepository { .. } => FailureKind::Usage,
        GitError::NoBranch { .. } => FailureKind::NotFound,
        GitError::NoIdentity { .. } => FailureKind::NeedsPerson,
        _ => FailureKind::Failed,
    }
}

/// How a refusal of landing counts.
fn landing_kind(error: &LandingError) -> FailureKind {
    match error {
        LandingError::NoWorker(_) | LandingError::NoTicket(_) | LandingError::NothingKept(_) => FailureKind::NotFound,
        LandingError::NoRemote(_) => FailureKind::NotFound,
        LandingError::NotInReview { .. }
        | LandingError::MovedOn { .. }
        | LandingError::ForeignCommits { .. }
        | LandingError::Unticked { .. }
        | LandingError::TooLarge { .. }
        | LandingError::Forge(ForgeError::NotLoggedIn { .. }) => FailureKind::NeedsPerson,
        LandingError::EmptyComment { .. }
        | LandingError::NoSuchFile { .. }
        | LandingError::NoSuchLine { .. }
        | LandingError::NoLines { .. }
        | LandingError::WrongCommentState { .. } => FailureKind::Usage,
        LandingError::NoComment { .. } | LandingError::NoItem { .. } => FailureKind::NotFound,
        _ => FailureKind::Failed,
    }
}
