//! What can go wrong between an agent definition and a running agent.

use std::path::PathBuf;

use crate::files::FileError;

/// Something about an agent that could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    /// Its program is not installed.
    #[error("no program `{program}` was found")]
    ProgramNotFound {
        /// As the definition names it.
        program: String,
        /// How to get it.
        hint: String,
    },
    /// One argument is longer than the kernel takes.
    #[error("the {what} has {bytes} bytes, and one argument takes at most {limit}")]
    ArgumentTooLong {
        /// Which argument.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The kernel's limit.
        limit: usize,
        /// What to do instead.
        hint: String,
    },
    /// An argument contains a zero byte, which no argument can.
    #[error("the {what} contains a zero byte")]
    ZeroByte {
        /// Which argument.
        what: &'static str,
    },
    /// Our own loop has no model to ask.
    #[error("the agent names no model")]
    NoModel,
    /// Print mode was asked for with nothing to do.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// The agent program refuses to run without permission questions as root.
    #[error("`permission_mode: bypass` does not work as root")]
    BypassAsRoot,
    /// An isolated agent would stop at the login screen.
    #[error("an isolated agent has no login of its own and the environment holds no credentials")]
    NoCredentials,
    /// This agent takes no messages after its start.
    #[error("{who} takes no messages while it runs")]
    CannotReceive {
        /// Which kind of agent.
        who: &'static str,
    },
    /// It asks a person something, and what is typed now would answer that.
    #[error("it asks a person something, and a message would be taken as the answer")]
    AsksPerson,
    /// It has not shown itself yet, and what is typed now would be lost.
    #[error("it has not started up yet")]
    NotReady,
    /// The agent names a provider that Claude Code cannot use.
    #[error("claude cannot use the provider `{name}`: {why}")]
    Provider {
        /// The provider.
        name: String,
        /// Why, as a clause.
        why: &'static str,
    },
    /// The program that our own process stands before did not start.
    #[error("the agent did not start")]
    Child {
        /// The cause.
        #[source]
        source: crate::process::ProcessError,
    },
    /// A pattern of secrets in the settings is no regular expression.
    #[error("`{pattern}` in `redact` is not a regular expression")]
    Pattern {
        /// As written.
        pattern: String,
        /// The cause.
        #[source]
        source: Box<regex::Error>,
    },
    /// A file could not be read or written.
    #[error("could not prepare the agent's files")]
    File(#[from] FileError),
    /// A line could not be added to a log.
    #[error("could not write to `{}`", path.display())]
    Log {
        /// The log.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

impl AgentError {
    /// What a person can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::ProgramNotFound { hint, .. } | Self::ArgumentTooLong { hint, .. } => return Some(hint.clone()),
            Self::BypassAsRoot => {
                "run as another user, choose `permission_mode: acceptEdits`, or set IS_SANDBOX=1 in a container"
            }
            Self::NoCredentials => {
                "set ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN or CLAUDE_CODE_OAUTH_TOKEN, or use `isolated: false`"
            }
            Self::Provider { .. } => "name one of `providers` in the settings that is of kind `ollama` or `anthropic`",
            Self::CannotReceive { .. } => "wait for its end, then start another attempt with what you have to say",
            Self::AsksPerson => "attach and answer, then send again",
            Self::NotReady => "wait a moment, then send again",
            Self::ZeroByte { .. } => "use `prompt: file`",
            Self::NoModel => "add a line such as `model: qwen3-coder` to the agent definition",
            Self::EmptyPrompt => "write the body of the ticket",
            Self::Child { .. } | Self::Pattern { .. } | Self::File(_) | Self::Log { .. } => return None,
        };
        Some(hint.to_owned())
    }
}
