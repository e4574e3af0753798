//! Connecting to a server, and the stream that is a project's.

use std::collections::HashMap;

use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, LastRawMessageErrorKind, StorageType, Stream};
use async_nats::jetstream::{self, Context, ErrorCode};
use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, ServerAddr};
use uuid::Uuid;

use super::change::Change;
use super::connection::ANSWER;
use super::error::{NatsError, UNAVAILABLE};
use super::gateway::make_submissions;
use crate::queue::server::{Login, Server, bucket, encoded};

/// The oldest server: older ones take options they do not have without a word, and do as if they had them.
const OLDEST: (u32, u32) = (2, 11);
/// The words for streams beside that of the log.
const BESIDE: [&str; 6] = ["tasks", "history", "rejected", "channels", "spend", "events"];
/// The key of a stream's metadata that names its log.
const LOG: &str = "swarm-log";
/// The key with the commit that the history of its repository begins with.
const FOUNDER: &str = "swarm-founder";

/// What things are called on the server.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// The stream of the log; those of other things begin like it.
    pub(super) stream: String,
    /// The project, for messages.
    pub(super) project: String,
    /// What all subjects begin with.
    pub(super) prefix: String,
    /// The subject of its messages.
    pub(super) changes: String,
    /// What the subjects of renewals begin with.
    pub(super) renewals: String,
    /// All of them.
    pub(super) all: String,
    /// The stream of messages.
    pub(super) channels: String,
    /// The stream of what was spent.
    pub(super) spend: String,
    /// The stream of what happens at the nodes.
    pub(super) events: String,
    /// The bucket of the board.
    pub(super) board: String,
    /// The bucket of objects.
    pub(super) objects: String,
    /// How many servers keep each of them.
    pub(super) replicas: usize,
}

impl Names {
    /// Those of a project on a server.
    pub(super) fn of(server: &Server) -> Self {
        let (bucket, project) = (bucket(&server.project), encoded(&server.project));
        let stream = stream_name(&project);
        Self {
            project: server.project.clone(),
            prefix: format!("swarm.{project}"),
            changes: format!("swarm.{project}.changes"),
            renewals: format!("swarm.{project}.renewals"),
            all: format!("swarm.{project}.>"),
            channels: format!("{stream}_channels"),
            spend: format!("{stream}_spend"),
            events: format!("{stream}_events"),
            board: format!("swarm_{bucket}_nodes"),
            objects: format!("swarm_{bucket}_objects"),
            replicas: server.replicas,
            stream,
        }
    }

    /// The stream, nobody's yet.
    fn config(&self) -> Config {
        Config {
            name: self.stream.clone(),
            subjects: vec![self.changes.clone(), format!("{}.>", self.renewals)],
            storage: StorageType::File,
            num_replicas: self.replicas,
            allow_direct: self.is_direct(),
            allow_rollup: true,
            ..Config::default()
        }
    }

    /// Whether any server that keeps something may answer for it. Not where there are several: one that is behind would say
    /// of what it has not got yet that it is not there.
    pub(super) fn is_direct(&self) -> bool {
        self.replicas == 1
    }
}

/// The stream of the log of an encoded project; the others' names are this one with a word behind it. A project whose own
/// name ends in such a word has another name than those of the project without it.
fn stream_name(project: &str) -> String {
    match project.rsplit_once('_') {
        Some((start, end)) if BESIDE.contains(&end) => format!("SWARM_{start}=5F{end}"),
        _ => format!("SWARM_{project}"),
    }
}

/// Whose log a stream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Names the log; a stream that is made anew has another one.
    pub(crate) log: String,
    /// The commit that the history of its repository begins with.
    pub(crate) founder: String,
}

impl Identity {
    /// Reads it off a stream.
    pub(super) fn of(config: &Config, server: &Server) -> Result<Self, NatsError> {
        match (config.metadata.get(LOG), config.metadata.get(FOUNDER)) {
            (Some(log), Some(founder)) => Ok(Self { log: log.clone(), founder: founder.clone() }),
            _ => Err(foreign(server)),
        }
    }
}

/// The name of the log that a stream is, and the commit that the history of its repository begins with; empty where it has
/// none.
pub(super) fn marks_of(config: &Config) -> (String, String) {
    let mark = |key: &str| config.metadata.get(key).cloned().unwrap_or_default();
    (mark(LOG), mark(FOUNDER))
}

/// A stream beside the log of the repository that begins with the commit `founder`.
pub(super) fn marked(config: Config, founder: &str) -> Config {
    let metadata = HashMap::from([(FOUNDER.to_owned(), founder.to_owned())]);
    Config { metadata, ..config }
}

/// Finds a stream, with the age that is wanted where that `counts`, or makes it.
pub(super) async fn ensure(context: &Context, wanted: Config, counts: bool) -> Result<Stream, async_nats::Error> {
    let found = match context.get_stream(&wanted.name).await {
        Ok(found) => found,
        // Whoever was faster made the same.
        Err(_) => match context.create_stream(wanted.clone()).await {
            Ok(made) => return Ok(made),
            Err(error) => context.get_stream(&wanted.name).await.map_err(|_| error)?,
        },
    };
    let config = &found.cached_info().config;
    if config.subjects != wanted.subjects || marks_of(config) != marks_of(&wanted) {
        return Err(format!("the stream `{}` is another repository's, or of something else", wanted.name).into());
    }
    if config.max_age == wanted.max_age || !counts {
        return Ok(found);
    }
    let changed = Config { max_age: wanted.max_age, duplicate_window: wanted.duplicate_window, ..config.clone() };
    context.update_stream(changed).await?;
    Ok(found)
}

/// That a stream is somebody else's.
pub(crate) fn foreign(server: &Server) -> NatsError {
    NatsError::Foreign { address: server.address.clone(), project: server.project.clone() }
}

/// Finds the stream or, with a founder, makes it.
pub(super) async fn open(
    server: &Server,
    context: &Context,
    names: &Names,
    founder: Option<&str>,
) -> Result<Stream, NatsError> {
    match (context.get_stream(&names.stream).await, founder) {
        (Ok(found), _) => Ok(found),
        (Err(error), Some(founder)) if is_missing(&error.kind()) => make(server, context, names, founder).await,
        (Err(error), _) => Err(match error.kind() {
            kind if is_missing(&kind) => no_stream(server, error.into()),
            GetStreamErrorKind::JetStream(answer) if is_off(&answer) => no_jetstream(server),
            // Of several servers too few are there, or they have yet to agree who leads: nobody knows what there is.
            GetStreamErrorKind::JetStream(answer) if answer.code() == UNAVAILABLE => silent(server, error.into()),
            GetStreamErrorKind::Request => silent(server, error.into()),
            _ => NatsError::Refused { address: server.address.clone(), source: error.into() },
        }),
    }
}

/// That there is no stream.
fn no_stream(server: &Server, source: async_nats::Error) -> NatsError {
    NatsError::NoStream { address: server.address.clone(), project: server.project.clone(), source }
}

/// That there is no stream, and none could be made.
fn not_made(server: &Server, source: async_nats::Error) -> NatsError {
    NatsError::NotMade { address: server.address.clone(), project: server.project.clone(), source }
}

/// That there can be no stream.
fn no_jetstream(server: &Server) -> NatsError {
    NatsError::NoJetStream { address: server.address.clone() }
}

/// That nobody says whether there is one.
fn silent(server: &Server, source: async_nats::Error) -> NatsError {
    NatsError::Silent { address: server.address.clone(), project: server.project.clone(), source }
}

/// Connects to a server that has all that is needed.
pub(super) async fn context(server: &Server) -> Result<Context, NatsError> {
    let address = || server.address.clone();
    let client = connect(server).await?;
    let info = client.server_info();
    if !is_new_enough(&info.version) {
        return Err(NatsError::TooOld { address: address(), found: info.version });
    }
    if !info.jetstream {
        return Err(NatsError::NoJetStream { address: address() });
    }
    let mut context = jetstream::new(client);
    context.set_timeout(ANSWER);
    Ok(context)
}

/// Makes the stream. Where somebody else does so at the same time, theirs counts.
async fn make(server: &Server, context: &Context, names: &Names, founder: &str) -> Result<Stream, NatsError> {
    let log = Uuid::new_v4().to_string();
    let metadata = HashMap::from([(LOG.to_owned(), log), (FOUNDER.to_owned(), founder.to_owned())]);
    let config = Config { metadata, ..names.config() };
    match context.create_stream(config).await {
        Ok(stream) => {
            // Without it, whoever answers first makes it.
            drop(make_submissions(context, names, founder).await);
            Ok(stream)
        }
        Err(error) => match context.get_stream(&names.stream).await {
            Ok(stream) => Ok(stream),
            Err(_) => Err(match error.kind() {
                CreateStreamErrorKind::JetStream(answer) if is_off(&answer) => no_jetstream(server),
                CreateStreamErrorKind::JetStream(answer) if answer.code() == UNAVAILABLE => {
                    silent(server, error.into())
                }
                CreateStreamErrorKind::TimedOut => silent(server, error.into()),
                _ => not_made(server, error.into()),
            }),
        },
    }
}

/// Makes a stream that has no name of a log yet.
pub(super) async fn begin(
    server: &Server,
    context: &Context,
    names: &Names,
    founder: &str,
) -> Result<(Stream, Identity), NatsError> {
    let failed = |source: async_nats::Error| not_made(server, source);
    if let Ok(found) = context.get_stream(&names.stream).await {
        let config = &found.cached_info().config;
        let (address, project) = (server.address.clone(), server.project.clone());
        match marks_of(config) {
            // Also an empty one may be another's that has just begun.
            (_, found) if found != founder => return Err(NatsError::Foreign { address, project }),
            (log, _) if log.is_empty() || is_over(&found, &names.all).await => {}
            _ => return Err(NatsError::Occupied { address, project }),
        }
        context.delete_stream(&names.stream).await.map_err(|error| failed(error.into()))?;
    }
    let mut config = names.config();
    config.metadata.insert(FOUNDER.to_owned(), founder.to_owned());
    let stream = context.create_stream(config).await.map_err(|error| failed(error.into()))?;
    Ok((stream, Identity { log: Uuid::new_v4().to_string(), founder: founder.to_owned() }))
}

/// Whether a log is empty or closed.
async fn is_over(stream: &Stream, subject: &str) -> bool {
    match stream.get_last_raw_message_by_subject(subject).await {
        Ok(last) => serde_json::from_slice::<Change>(&last.payload).is_ok_and(|change| change.closes),
        Err(error) => error.kind() == LastRawMessageErrorKind::NoMessageFound,
    }
}

/// The configuration of a stream with the name of its log.
pub(super) fn named(stream: &Stream, identity: &Identity) -> Config {
    let mut config = stream.cached_info().config.clone();
    config.metadata.insert(LOG.to_owned(), identity.log.clone());
    config
}

/// Connects to one of the servers.
async fn connect(server: &Server) -> Result<Client, NatsError> {
    let mut options = ConnectOptions::new().name("swarm").connection_timeout(ANSWER);
    options = log_in(options, &server.login).await?;
    options = options.require_tls(server.is_encrypted());
    if let Some(ca) = &server.tls.ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let (Some(cert), Some(key)) = (&server.tls.cert, &server.tls.key) {
        options = options.add_client_certificate(cert.clone(), key.clone());
    }
    let failed = |error: ConnectError| {
        let address = server.address.clone();
        match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                NatsError::Denied { address, source: error.into() }
            }
            ConnectErrorKind::Tls => NatsError::Tls { address, source: error.into() },
            _ if is_of_tls(&error) => NatsError::Tls { address, source: error.into() },
            _ => NatsError::Unreachable { address, source: Some(error.into()) },
        }
    };
    let addresses = server.address.split(',').map(str::parse::<ServerAddr>).collect::<Result<Vec<_>, _>>();
    let addresses = addresses.map_err(|error| NatsError::unreachable(&server.address, Some(error.into())))?;
    options.connect(addresses).await.map_err(failed)
}

/// Whether an error is one of the encryption, which the client hands on as one of the connection.
fn is_of_tls(error: &ConnectError) -> bool {
    let io = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::InvalidData)
}

/// Says who we are.
async fn log_in(options: ConnectOptions, login: &Login) -> Result<ConnectOptions, NatsError> {
    Ok(match login {
        Login::Nobody => options,
        Login::Credentials(path) => {
            let read = options.credentials_file(path).await;
            read.map_err(|source| NatsError::Login { path: path.clone(), source })?
        }
        Login::Nkey(path) => {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|source| NatsError::Login { path: path.clone(), source })?;
            // What `nk` writes may have comments around the seed.
            let seed = text.lines().map(str::trim).find(|line| line.starts_with('S')).unwrap_or_default();
            options.nkey(seed.to_owned())
        }
        Login::Password { user, password } => options.user_and_password(user.clone(), password.clone()),
        Login::Token(token) => options.token(token.clone()),
    })
}

/// Whether a server of this version has all that is used.
fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) >= OLDEST,
        _ => false,
    }
}

/// Whether there is no stream of that name.
pub(super) fn is_missing(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// Whether JetStream says that it is off.
fn is_off(error: &jetstream::Error) -> bool {
    let codes = [ErrorCode::JETSTREAM_NOT_ENABLED, ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT];
    codes.contains(&error.error_code())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::{BESIDE, Names, is_new_enough};
    use crate::model::queue::TlsFiles;
    use crate::queue::nats::{Log, NatsError};
    use crate::queue::server::{Login, Server};

    /// A server that says it is of this version, and answers nobody but with a pong; its address.
    fn scripted(version: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("nats://{}", listener.local_addr().unwrap());
        let info = format!(
            "INFO {{\"server_id\":\"x\",\"version\":\"{version}\",\"proto\":1,\"jetstream\":true,\"headers\":true,\
             \"max_payload\":1048576}}\r\n"
        );
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(info.as_bytes()).unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while let Some(Ok(line)) = lines.next() {
                if line.starts_with("PING") {
                    stream.write_all(b"PONG\r\n").unwrap();
                }
            }
        });
        address
    }

    /// A project's place there.
    fn at(address: String) -> Server {
        let project = "tests".to_owned();
        Server { address, project, login: Login::Nobody, tls: TlsFiles::default(), replicas: 1 }
    }

    #[test]
    fn a_server_that_is_too_old_is_refused_with_the_reason() {
        let address = scripted("2.9.10");
        let refused = Log::open(&at(address.clone()), Some("founder".to_owned())).unwrap_err();
        assert!(matches!(refused, NatsError::TooOld { .. }), "{refused:?}");
        let said = format!("the NATS server at `{address}` is version 2.9.10, and swarm needs 2.11 or newer: ");
        assert!(refused.to_string().starts_with(&said), "{refused}");
    }

    #[test]
    fn that_nobody_says_whether_there_is_a_stream_is_not_that_there_is_none() {
        for founder in [None, Some("0123".to_owned())] {
            let error = Log::open(&at(scripted("2.15.1")), founder).unwrap_err();
            assert!(matches!(error, NatsError::Silent { .. }), "{error:?}");
            assert!(error.is_away() && !error.is_no_server(), "nobody goes elsewhere for that");
        }
    }

    #[test]
    fn no_stream_of_one_project_has_the_name_of_one_of_another() {
        let projects =
            ["app", "app_tasks", "app_tasks_history", "app_channels", "app=5Ftasks", "tasks", "_tasks", "app_"];
        let mut names = Vec::new();
        for project in projects {
            let server = Server { project: project.to_owned(), ..at("nats://127.0.0.1:1".to_owned()) };
            let Names { stream, .. } = Names::of(&server);
            names.extend(BESIDE.map(|word| format!("{stream}_{word}")));
            names.push(stream);
        }
        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len(), "{names:?}");
        assert!(names.contains(&"SWARM_app_tasks".to_owned()));
    }

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
