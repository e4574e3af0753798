//! How a command fails, for every face: a kind with a stable code and exit code, the error with its causes, hints.

use std::error::Error;

use super::views::FailureView;

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
        let mut chain = vec![error.to_string()];
        let mut cause = error.source();
        while let Some(error) = cause {
            chain.push(error.to_string());
            cause = error.source();
        }
        Self { kind, chain, hints: Vec::new() }
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
