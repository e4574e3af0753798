//! The log of a queue: a stream that takes a message only right after the one its sender knew as the last.

use std::future::IntoFuture;
use std::time::{Duration, Instant};

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, LastRawMessageErrorKind, StorageType, Stream};
use async_nats::jetstream::{self, Context};
use tokio::task::JoinSet;

use super::change::Change;
use super::connection::Driver;

/// What one request waits for its answer. A server that is restarted answers nothing to what was under way.
const ANSWER: Duration = Duration::from_secs(2);
/// What an operation waits for a server that does not answer, all its requests together.
const PATIENCE: Duration = Duration::from_secs(10);
/// Messages asked for at once by a replica that is behind.
const WINDOW: u64 = 64;
/// The oldest server: older ones take options they do not have without a word, and do as if they had them.
const OLDEST: (u32, u32) = (2, 11);

/// The stream that is one project's log.
#[derive(Debug)]
pub(crate) struct Log {
    /// The connection's thread.
    driver: Driver,
    /// The server's face.
    context: Context,
    /// The stream.
    stream: Stream,
    /// Its only subject.
    subject: String,
    /// The server, for messages.
    address: String,
}

/// Why the log could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NatsError {
    /// Nobody answers there.
    #[error("no NATS server answered at `{address}`")]
    Unreachable {
        /// The address as configured, without secrets.
        address: String,
        /// The client's reason.
        #[source]
        source: Option<async_nats::Error>,
    },
    /// The server lacks what is needed.
    #[error("the NATS server at `{address}` is version {found}, and swarm needs 2.11 or newer")]
    TooOld {
        /// The address as configured, without secrets.
        address: String,
        /// What it says it is.
        found: String,
    },
    /// The stream could not be made or found.
    #[error("the NATS server at `{address}` has no stream for this project")]
    NoStream {
        /// The address as configured, without secrets.
        address: String,
        /// The client's reason.
        #[source]
        source: async_nats::Error,
    },
    /// The server stopped answering in the middle of a change.
    #[error("the NATS server at `{address}` did not answer, and it is not known whether it took the change")]
    Unanswered {
        /// The address as configured, without secrets.
        address: String,
    },
    /// The server refused.
    #[error("the NATS server at `{address}` refused")]
    Refused {
        /// The address as configured, without secrets.
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
}

impl Log {
    /// Connects to a server and finds the project's stream, or makes it.
    pub(crate) fn open(address: &str, project: &str) -> Result<Self, NatsError> {
        let driver = Driver::start().map_err(|error| unreachable(address, Some(error.into())))?;
        let (to, subject) = (address.to_owned(), format!("swarm.{project}.changes"));
        let config = Config {
            name: format!("SWARM_{project}"),
            subjects: vec![subject.clone()],
            storage: StorageType::File,
            allow_direct: true,
            ..Config::default()
        };
        let opened = driver.run(async move { open(&to, config).await });
        let (context, stream) = opened.ok_or_else(|| unreachable(address, None))??;
        Ok(Self { driver, context, stream, subject, address: address.to_owned() })
    }

    /// The number of the last message; 0 before the first.
    pub(super) fn last(&self) -> Result<u64, NatsError> {
        self.patiently(|| {
            let (stream, subject) = (self.stream.clone(), self.subject.clone());
            async move {
                match stream.get_last_raw_message_by_subject(&subject).await {
                    Ok(message) => Ok(message.sequence),
                    Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(0),
                    Err(error) => Err(error.into()),
                }
            }
        })
    }

    /// The changes with the numbers `first` to `last`.
    pub(super) fn read(&self, first: u64, last: u64) -> Result<Vec<(u64, Change)>, NatsError> {
        let mut messages = Vec::new();
        for from in (first..=last).step_by(WINDOW as usize) {
            let until = last.min(from + WINDOW - 1);
            messages.extend(self.patiently(|| {
                let stream = self.stream.clone();
                async move {
                    let mut asked = JoinSet::new();
                    for seq in from..=until {
                        let stream = stream.clone();
                        asked.spawn(async move {
                            stream.direct_get(seq).await.map(|message| (seq, Vec::from(message.payload)))
                        });
                    }
                    let mut found = Vec::new();
                    while let Some(answer) = asked.join_next().await {
                        found.push(answer??);
                    }
                    found.sort_by_key(|(seq, _)| *seq);
                    Ok(found)
                }
            })?);
        }
        let parse = |(seq, payload): (u64, Vec<u8>)| {
            let change = serde_json::from_slice(&payload).map_err(|source| NatsError::Unreadable { seq, source })?;
            Ok((seq, change))
        };
        messages.into_iter().map(parse).collect()
    }

    /// Appends a change as the message after `after`; `false` when another one is there already.
    pub(super) fn append(&self, after: u64, change: &Change) -> Result<bool, NatsError> {
        let started = Instant::now();
        let mut is_repeated = false;
        loop {
            match self.offer(after, change, is_repeated)? {
                Some(is_taken) => return Ok(is_taken),
                None if started.elapsed() > PATIENCE => {
                    return Err(NatsError::Unanswered { address: self.address.clone() });
                }
                None => is_repeated = true,
            }
        }
    }

    /// Offers a change once, or again: then the message in its place may be itself. `None` when no answer came.
    pub(super) fn offer(&self, after: u64, change: &Change, is_repeated: bool) -> Result<Option<bool>, NatsError> {
        let payload = serde_json::to_vec(change).map_err(|error| self.refused(error.into()))?;
        let message = PublishMessage::build().payload(payload.into()).expected_last_sequence(after);
        let (context, subject) = (self.context.clone(), self.subject.clone());
        let sent = self.within_time(async move { context.send_publish(subject, message).await?.into_future().await });
        match sent {
            Some(Ok(_)) => Ok(Some(true)),
            Some(Err(error)) if error.kind() == PublishErrorKind::WrongLastSequence => {
                let is_there = || Ok(self.read(after + 1, after + 1)?.iter().any(|(_, found)| found.id == change.id));
                (if is_repeated { is_there() } else { Ok(false) }).map(Some)
            }
            Some(Err(error)) if error.kind() == PublishErrorKind::MaxPayloadExceeded => Err(self.refused(error.into())),
            _ => Ok(None),
        }
    }

    /// Repeats a request that changes nothing until it is answered.
    fn patiently<T, F>(&self, request: impl Fn() -> F) -> Result<T, NatsError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, async_nats::Error>> + Send + 'static,
    {
        let started = Instant::now();
        loop {
            match self.within_time(request()) {
                Some(Ok(answer)) => return Ok(answer),
                failed if started.elapsed() > PATIENCE => {
                    return Err(unreachable(&self.address, failed.and_then(Result::err)));
                }
                _ => {}
            }
        }
    }

    /// Runs one request; `None` when no answer came in time.
    fn within_time<T: Send + 'static>(&self, request: impl Future<Output = T> + Send + 'static) -> Option<T> {
        self.driver.run(async move { tokio::time::timeout(ANSWER, request).await.ok() })?
    }

    /// The server's refusal.
    fn refused(&self, source: async_nats::Error) -> NatsError {
        NatsError::Refused { address: self.address.clone(), source }
    }
}

/// Connects, checks the version and finds or makes the stream.
async fn open(address: &str, config: Config) -> Result<(Context, Stream), NatsError> {
    let options = async_nats::ConnectOptions::new().name("swarm").connection_timeout(ANSWER);
    let client = options.connect(address).await.map_err(|error| unreachable(address, Some(error.into())))?;
    let found = client.server_info().version;
    if !is_new_enough(&found) {
        return Err(NatsError::TooOld { address: address.to_owned(), found });
    }
    let mut context = jetstream::new(client);
    context.set_timeout(ANSWER);
    let made = context.get_or_create_stream(config).await;
    let stream = made.map_err(|source| NatsError::NoStream { address: address.to_owned(), source: source.into() })?;
    Ok((context, stream))
}

/// Whether a server of this version has all that is used.
fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) >= OLDEST,
        _ => false,
    }
}

/// The failure to reach a server.
fn unreachable(address: &str, source: Option<async_nats::Error>) -> NatsError {
    NatsError::Unreachable { address: address.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::is_new_enough;

    #[test]
    fn servers_before_2_11_are_too_old() {
        for version in ["2.11.0", "2.15.1", "3.0.0-beta.1"] {
            assert!(is_new_enough(version), "{version}");
        }
        for version in ["2.9.10", "2.10.29", "1.99.0", "", "new"] {
            assert!(!is_new_enough(version), "{version}");
        }
    }
}
