//! How a queue on a server fails.

use std::path::PathBuf;

use async_nats::jetstream;
use async_nats::jetstream::context::{
    CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind, PublishError, PublishErrorKind,
};

/// The code of answers that say to ask later.
pub(super) const UNAVAILABLE: usize = 503;

/// Why a server's queue could not be read or written. Addresses in it hold no secrets.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NatsError {
    /// Nobody answers there.
    #[error("no NATS server answered at `{address}`")]
    Unreachable {
        /// The address as configured.
        address: String,
        /// The client's reason.
        #[source]
        source: Option<async_nats::Error>,
    },
    /// The server does not let us in.
    #[error("the NATS server at `{address}` refused the credentials")]
    Denied {
        /// The address as configured.
        address: String,
        /// The client's reason.
        #[source]
        source: async_nats::Error,
    },
    /// No encrypted connection came about.
    #[error("no encrypted connection to the NATS server at `{address}` came about")]
    Tls {
        /// The address as configured.
        address: String,
        /// The client's reason.
        #[source]
        source: async_nats::Error,
    },
    /// A file that says who we are could not be used.
    #[error("`{}` could not be used to log in at the NATS server", path.display())]
    Login {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The server lacks what is needed.
    #[error(
        "the NATS server at `{address}` is version {found}, and swarm needs 2.11 or newer: \
         older ones take options that they do not know without a word and do as if they had them"
    )]
    TooOld {
        /// The address as configured.
        address: String,
        /// What it says it is.
        found: String,
    },
    /// The server keeps nothing.
    #[error("JetStream is switched off on the NATS server at `{address}`, or for this account")]
    NoJetStream {
        /// The address as configured.
        address: String,
    },
    /// The server is there, and does not say what it keeps: of a cluster too few are there, or have yet to agree who leads.
    #[error("the NATS server at `{address}` does not say whether it has the project `{project}`")]
    Silent {
        /// The address as configured.
        address: String,
        /// The project's name there.
        project: String,
        /// The client's reason.
        #[source]
        source: async_nats::Error,
    },
    /// No stream could be made.
    #[error("the NATS server at `{address}` made no stream for the project `{project}`")]
    NotMade {
        /// The address as configured.
        address: String,
        /// The project's name there.
        project: String,
        /// The client's reason.
        #[source]
        source: async_nats::Error,
    },
    /// There is no stream.
    #[error("the NATS server at `{address}` has no queue of the project `{project}` any more")]
    NoStream {
        /// The address as configured.
        address: String,
        /// The project's name there.
        project: String,
        /// The client's reason.
        #[source]
        source: async_nats::Error,
    },
    /// There is no stream, and the repository has nothing by which others could tell that it is theirs.
    #[error("a repository without a commit cannot have its queue on a NATS server")]
    NoCommit,
    /// Another repository uses the name.
    #[error("the project `{project}` on the NATS server at `{address}` is another repository's")]
    Foreign {
        /// The address as configured.
        address: String,
        /// The project's name there.
        project: String,
    },
    /// The stream is not the one that this machine's replica is of.
    #[error("the queue `{project}` on the NATS server at `{address}` was made anew; this machine knows another one")]
    Replaced {
        /// The address as configured.
        address: String,
        /// The project's name there.
        project: String,
    },
    /// There is a queue where one was to be made.
    #[error("there is a queue `{project}` on the NATS server at `{address}` already")]
    Occupied {
        /// The address as configured.
        address: String,
        /// The project's name there.
        project: String,
    },
    /// The server stopped answering in the middle of a change.
    #[error("the NATS server at `{address}` did not answer, and it is not known whether it took the change")]
    Unanswered {
        /// The address as configured.
        address: String,
    },
    /// The server refused.
    #[error("the NATS server at `{address}` refused")]
    Refused {
        /// The address as configured.
        address: String,
        /// The client's reason.
        #[source]
        source: async_nats::Error,
    },
    /// A message that no program of ours wrote, or a newer one.
    #[error("message {seq} of the log is not a change of a queue that this program knows")]
    Unreadable {
        /// Its number.
        seq: u64,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The replica is of another log, or the log was cut.
    #[error("the log ends at {last}, but this machine's replica has {applied} of its messages")]
    Shorter {
        /// The log's last number.
        last: u64,
        /// The replica's.
        applied: u64,
    },
    /// The server lost messages that it had taken, and has others in their place.
    #[error(
        "message {seq} of the log is, or follows, another one than this machine's replica has: the server lost some that it had taken"
    )]
    Parted {
        /// Its number.
        seq: u64,
    },
    /// A message that nothing makes superfluous is gone, and no beginning stands for it.
    #[error("message {missing} of the log is gone, and nothing on the server says what it changed")]
    Gap {
        /// Its number.
        missing: u64,
    },
    /// What stands for the first messages of the log cannot be used.
    #[error(
        "what the log begins with, in place of its first {number} messages, is not on the server or cannot be read"
    )]
    NoBeginning {
        /// The number of the last message that it stands for.
        number: u64,
        /// What is wrong with it; `None` where it is not there.
        #[source]
        source: Option<serde_json::Error>,
    },
}

/// Whether a message was not taken because somebody said so, and not because nobody said anything.
pub(super) fn is_answer(error: &PublishError) -> bool {
    error.kind() == PublishErrorKind::MaxPayloadExceeded || answer_in(error).is_some()
}

/// What JetStream answered, in an error of the client.
fn answer_in<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e jetstream::Error> {
    std::iter::successors(Some(error), |error| error.source()).find_map(<dyn std::error::Error>::downcast_ref)
}

/// Whether a stream could not be looked at or made for a reason that passes: nobody answered, or that was to ask later.
pub(super) fn is_passing(error: &async_nats::Error) -> bool {
    let says_later = |answer: &jetstream::Error| answer.code() == UNAVAILABLE;
    let looked = error.downcast_ref::<GetStreamError>().map(GetStreamError::kind);
    let made = error.downcast_ref::<CreateStreamError>().map(CreateStreamError::kind);
    match (looked, made) {
        (Some(GetStreamErrorKind::Request), _) => true,
        (Some(GetStreamErrorKind::JetStream(answer)), _) => says_later(&answer),
        (_, Some(CreateStreamErrorKind::TimedOut | CreateStreamErrorKind::JetStreamUnavailable)) => true,
        (_, Some(CreateStreamErrorKind::JetStream(answer))) => says_later(&answer),
        _ => false,
    }
}

impl NatsError {
    /// The failure to reach a server.
    pub(super) fn unreachable(address: &str, source: Option<async_nats::Error>) -> Self {
        Self::Unreachable { address: address.to_owned(), source }
    }

    /// Whether the server answered and would not, and will not another time.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. }) && !self.is_away()
    }

    /// Whether the server may be back in a moment.
    pub(crate) fn is_away(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Unanswered { .. } => true,
            // Such as a cluster that has yet to agree who leads, or a disk that is full.
            Self::Refused { source, .. } => {
                answer_in(source.as_ref()).is_some_and(|answer| answer.code() == UNAVAILABLE)
            }
            _ => false,
        }
    }

    /// Whether there is no server that could be used, whoever asks.
    pub(crate) fn is_no_server(&self) -> bool {
        match self {
            // It may have the queue.
            Self::Silent { .. } => false,
            Self::Denied { .. } | Self::Tls { .. } | Self::TooOld { .. } | Self::NoJetStream { .. } => true,
            _ => self.is_away(),
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { address, .. } | Self::Silent { address, .. } | Self::Unanswered { address }
                if address.contains(',') =>
            {
                "more than half of its servers have to run, and to reach each other".to_owned()
            }
            Self::Unreachable { address, .. } | Self::Silent { address, .. } | Self::Unanswered { address } => {
                let port = address.rsplit(':').next().unwrap_or("4222");
                format!("is it running? nats-server -js -p {port} starts one; `queue` in .swarm/config.yaml names it")
            }
            Self::Denied { .. } => {
                "set `credentials`, `nkey`, `user` with `password_env`, or `token_env` of `queue` in .swarm/config.yaml"
                    .to_owned()
            }
            Self::Tls { .. } => {
                "if an authority of your own signed its certificate, name that in `queue.tls.ca`".to_owned()
            }
            Self::TooOld { .. } => "install a newer nats-server, or set `queue: file`".to_owned(),
            Self::NoJetStream { .. } => {
                "start it with `nats-server -js`, or allow JetStream for the account".to_owned()
            }
            Self::NoCommit => "make a first commit".to_owned(),
            Self::Foreign { .. } => "if it is the same project, fetch its history first (git fetch --unshallow); else \
                                     give this one another name: `queue.project` in .swarm/config.yaml"
                .to_owned(),
            Self::Replaced { address, .. } => format!(
                "a fresh clone takes the new one: swarm node join {address} --clone URL; what this machine knows of \
                 the old one can be kept: swarm queue migrate --to file"
            ),
            Self::Shorter { .. } | Self::Parted { .. } => {
                "what this machine knows of the old one can be kept: swarm queue migrate --to file".to_owned()
            }
            Self::Gap { .. } | Self::NoBeginning { .. } => {
                "a machine that still has the whole queue can move it: swarm queue migrate --to file, and back"
                    .to_owned()
            }
            Self::Occupied { address, .. } => format!(
                "if that is this project's, a fresh clone takes it: swarm node join {address} --clone URL; else give \
                 this one another name: `queue.project` in .swarm/config.yaml"
            ),
            Self::NoStream { .. } => {
                "whoever moved it into a repository, or deleted it, knows where it is; what this machine \
                                      knows of it can be kept: swarm queue migrate --to file"
                    .to_owned()
            }
            Self::NotMade { .. } => {
                "with `queue.replicas` above 1, as many servers have to be in one cluster".to_owned()
            }
            Self::Login { .. } | Self::Refused { .. } | Self::Unreadable { .. } => return None,
        })
    }
}
