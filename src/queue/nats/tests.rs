//! The NATS engine under the contract, on a real server, and what only it promises.

mod shorten;

use std::io::Read;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::change::{Change, Draft};
use super::{Board, Log, NatsError, Objects};
use crate::model::Time;
use crate::model::queue::TlsFiles;
use crate::model::settings::Durability;
use crate::model::ticket::{DependencyKind, Ticket, TicketState};
use crate::process;
use crate::queue::contract::{Engine, needs, publish, queue_contract, request, ticket};
use crate::queue::file::operation::Operation;
use crate::queue::{ClaimRequest, Completion, Login, Queue, QueueError, Repository, Server};
use crate::store::{Content, StatePaths, Store};

/// No test waits longer for a server.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// A server process of its own, ended with the value.
pub(super) struct Process {
    /// The process.
    child: Child,
    /// Where it can be reached.
    pub(super) url: String,
}

impl Process {
    /// Starts one that keeps its streams in `folder`, on a port that the system chose.
    pub(super) fn start(folder: &Path) -> Self {
        Self::start_at(folder, "-1")
    }

    /// Starts one on that port.
    pub(super) fn start_at(folder: &Path, port: &str) -> Self {
        Self::start_with(folder, port, &["-js"])
    }

    /// Starts one with these arguments.
    fn start_with(folder: &Path, port: &str, args: &[&str]) -> Self {
        Self::start_program(&program(&[]), folder, port, args)
    }

    /// Starts this program with these arguments.
    fn start_program(program: &str, folder: &Path, port: &str, args: &[&str]) -> Self {
        let mut command = process::command(program);
        command.args(args).args(["-a", "127.0.0.1", "-p", port, "-sd"]).arg(folder.join("streams"));
        command.arg("--ports_file_dir").arg(folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = process::spawn(&mut command).unwrap();
        let ports = folder.join(format!("nats-server_{}.ports", child.id()));
        let started = Instant::now();
        let url = loop {
            assert!(started.elapsed() < DEADLINE, "the server did not start");
            let text = std::fs::read_to_string(&ports).unwrap_or_default();
            let found = serde_json::from_str::<serde_json::Value>(&text).ok();
            let url = found.as_ref().and_then(|found| found["nats"][0].as_str().or(found["tls"][0].as_str()));
            if let Some(url) = url {
                break url.to_owned();
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        Self { child, url }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        process::forget(self.child.id());
    }
}

/// The server program that `tests/tools/install-nats` keeps with these arguments.
fn program(args: &[&str]) -> String {
    let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/install-nats");
    let mut command = process::command(tool);
    let mut child = process::spawn(command.args(args).arg("--print-path").stdout(Stdio::piped())).unwrap();
    let mut path = String::new();
    child.stdout.take().unwrap().read_to_string(&mut path).unwrap();
    child.wait().unwrap();
    process::forget(child.id());
    path.trim().to_owned()
}

/// A queue on a server of its own; every handle has its own replica, as a machine would.
pub(crate) struct NatsEngine {
    /// Ended before its folder goes.
    server: Process,
    /// Streams and replicas.
    folder: TempDir,
}

impl NatsEngine {
    /// A server of its own.
    pub(crate) fn start() -> Self {
        Self::fresh()
    }

    /// Where it can be reached.
    pub(crate) fn url(&self) -> &str {
        &self.server.url
    }

    /// A queue on it, as a machine would have it.
    pub(crate) fn queue(&self) -> Arc<dyn Queue> {
        self.handle()
    }
}

impl Engine for NatsEngine {
    fn fresh() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { server: Process::start(folder.path()), folder }
    }

    fn handle(&self) -> Arc<dyn Queue> {
        Self::handle_at(&self.address())
    }

    fn address(&self) -> String {
        format!("{} {}", self.server.url, self.folder.path().display())
    }

    fn handle_at(address: &str) -> Arc<dyn Queue> {
        static REPLICAS: AtomicUsize = AtomicUsize::new(0);
        let (url, folder) = address.split_once(' ').unwrap();
        let number = REPLICAS.fetch_add(1, Ordering::Relaxed);
        let replica = Path::new(folder).join(format!("replica-{}-{number}", std::process::id()));
        std::fs::create_dir(&replica).unwrap();
        queue(url, &replica)
    }
}

/// A queue with its replica in a folder.
pub(super) fn queue(url: &str, replica: &Path) -> Arc<dyn Queue> {
    open(&server(url), "founder", replica).unwrap()
}

/// The project `tests` on the server at `url`.
fn server(url: &str) -> Server {
    let (address, project) = (url.to_owned(), "tests".to_owned());
    Server { address, project, login: Login::Nobody, tls: TlsFiles::default(), replicas: 1 }
}

/// A queue with its replica in a folder, of the repository with this one commit.
fn open(server: &Server, commit: &str, replica: &Path) -> Result<Arc<dyn Queue>, QueueError> {
    let store = Arc::new(Store::open(&StatePaths::new(replica), Durability::Normal).unwrap());
    let engine = crate::queue::Engine::Server { server: server.clone(), falls_back: false };
    let repository = Repository { founder: &|| Some(commit.to_owned()), has: &|other| other == commit };
    crate::queue::open(&store, &engine, &repository, "tests").map(|opened| opened.queue)
}

/// The log of the project `tests`.
pub(super) fn log(url: &str) -> Result<Log, NatsError> {
    Log::open(&server(url), Some("founder".to_owned()))
}

queue_contract!(NatsEngine, "queue::nats::tests");

/// A change of one event, as an operation of a queue would make it.
fn change(name: &str) -> Change {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&StatePaths::new(folder.path()), Durability::Normal).unwrap();
    let made: Result<Change, QueueError> = store.write(|txn| {
        let draft = Draft::new(1);
        let ticket = ticket(name);
        Operation::new(txn, "tests", Time::now()).told_to(&draft).publish(&Content::new(&ticket, name)?)?;
        draft.finish(txn)
    });
    made.unwrap()
}

#[test]
fn a_change_whose_answer_was_lost_is_offered_again_without_harm() {
    let engine = NatsEngine::fresh();
    let log = log(&engine.server.url).unwrap();
    let (first, second) = (change("first"), change("second"));
    assert!(log.append(0, &first).unwrap());
    assert_eq!(log.offer(0, &first, true).unwrap(), Some(true), "it had arrived");
    assert_eq!(log.offer(0, &second, true).unwrap(), Some(false), "the place is another's");
    assert!(!log.append(0, &second).unwrap());
    assert!(log.append(1, &second).unwrap());
    let found: Vec<_> = log.read(1, log.last(DEADLINE).unwrap()).unwrap();
    assert_eq!(found.iter().map(|(_, change)| &change.id).collect::<Vec<_>>(), [&first.id, &second.id]);
}

#[test]
fn what_was_acknowledged_survives_the_end_of_the_server_and_callers_wait_for_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let server = Process::start(folder.path());
    let (url, port) = (server.url.clone(), server.url.rsplit(':').next().unwrap().to_owned());
    let replicas: Vec<_> = ["one", "two"].map(|name| folder.path().join(name)).into();
    replicas.iter().for_each(|replica| std::fs::create_dir(replica).unwrap());
    let (one, two) = (queue(&url, &replicas[0]), queue(&url, &replicas[1]));
    publish(&*one, ticket("before")).unwrap();
    drop(server);
    let (published, server) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| publish(&*one, ticket("meanwhile")));
        let server = Process::start_at(folder.path(), &port);
        (waiting.join().unwrap(), server)
    });
    assert_eq!(published.unwrap(), TicketState::Queued);
    let claimed = two.claim(&ClaimRequest { limit: 9, ..request() }).unwrap();
    assert_eq!(claimed.iter().map(|claim| claim.ticket.id.as_str()).collect::<Vec<_>>(), ["before", "meanwhile"]);
    drop(server);
}

#[test]
fn without_a_server_the_caller_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let server = Process::start(folder.path());
    let url = server.url.clone();
    drop(server);
    let refused = log(&url).unwrap_err();
    assert_eq!(refused.to_string(), format!("no NATS server answered at `{url}`"));
}

#[test]
fn replicas_have_the_same_tables_whoever_made_the_changes() {
    let engine = NatsEngine::fresh();
    let handles: Vec<_> = (0..3).map(|_| engine.handle()).collect();
    for number in 0..30 {
        let depends_on = if number % 3 == 2 { vec![needs("t0", DependencyKind::Success)] } else { Vec::new() };
        let ticket = Ticket { priority: 1 + number % 5, depends_on, ..ticket(&format!("t{number}")) };
        publish(&*handles[usize::from(number % 3)], ticket).unwrap();
    }
    for handle in &handles {
        for claim in handle.claim(&ClaimRequest { limit: 5, ..request() }).unwrap() {
            handle.complete(&claim.ticket.id, claim.fence, Completion::Done).unwrap();
        }
    }
    let (first, events) = (handles[0].snapshot().unwrap(), handles[0].events_since(0, 999).unwrap());
    assert!(first.iter().any(|entry| entry.state == TicketState::Done) && events.len() > 40);
    for handle in &handles[1..] {
        assert_eq!(handle.snapshot().unwrap(), first);
        assert_eq!(handle.events_since(0, 999).unwrap(), events);
    }
}

#[test]
fn a_log_that_lost_what_the_replica_has_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let replica = folder.path().join("replica");
    std::fs::create_dir(&replica).unwrap();
    let server = Process::start(folder.path());
    publish(&*queue(&server.url, &replica), ticket("kept")).unwrap();
    drop(server);
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let server = Process::start(&other);
    let refused = open(&self::server(&server.url), "founder", &replica).err().unwrap();
    let reason = std::error::Error::source(&refused).unwrap().to_string();
    assert!(reason.contains("has no queue of the project `tests` any more"), "{reason}");
    drop(log(&server.url).unwrap());
    let refused = open(&self::server(&server.url), "founder", &replica).err().unwrap();
    let reason = std::error::Error::source(&refused).unwrap().to_string();
    assert!(reason.contains("was made anew; this machine knows another one"), "{reason}");
}

#[test]
fn a_log_that_lost_its_end_and_grew_again_is_refused_to_whoever_has_that_end() {
    let folder = tempfile::tempdir().unwrap();
    let replicas = ["has it", "is behind"].map(|name| folder.path().join(name));
    replicas.iter().for_each(|replica| std::fs::create_dir(replica).unwrap());
    let [has_it, is_behind] = &replicas;
    let copy = |from: &str, to: &str| {
        let mut copy = process::command("cp");
        copy.arg("-a").args([from, to].map(|name| folder.path().join(name)));
        assert!(copy.status().unwrap().success());
    };
    let server = Process::start(folder.path());
    publish(&*queue(&server.url, has_it), ticket("kept")).unwrap();
    assert_eq!(queue(&server.url, is_behind).states().unwrap().len(), 1);
    drop(server);
    copy("streams", "as it was");
    let server = Process::start(folder.path());
    for id in ["lost", "too"] {
        publish(&*queue(&server.url, has_it), ticket(id)).unwrap();
    }
    drop(server);
    // As after a power cut, or with an old copy of its files.
    std::fs::remove_dir_all(folder.path().join("streams")).unwrap();
    copy("as it was", "streams");
    let server = Process::start(folder.path());
    let refused = queue(&server.url, has_it).states().unwrap_err();
    assert!(matches!(refused, QueueError::Nats(NatsError::Shorter { .. })), "{refused:?}");
    // Whether it is as long as it was or longer, nothing is read from it and nothing written to it.
    for ids in [["new", "newer"].as_slice(), &["newest"]] {
        for id in ids {
            publish(&*queue(&server.url, is_behind), ticket(id)).unwrap();
        }
        let own = queue(&server.url, has_it);
        for refused in [own.states().unwrap_err(), publish(&*own, ticket("late")).unwrap_err()] {
            assert!(matches!(refused, QueueError::Nats(NatsError::Parted { .. })), "{refused:?}");
        }
    }
    let refused = queue(&server.url, has_it).states().unwrap_err();
    assert!(refused.hint().is_some_and(|hint| hint.contains("swarm queue migrate --to file")));
    assert_eq!(queue(&server.url, is_behind).states().unwrap().len(), 4);
}

#[test]
fn the_id_of_a_change_is_that_of_no_other_one() {
    use super::replica::{changed, changed_id, set_changed};
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&StatePaths::new(folder.path()), Durability::Normal).unwrap();
    store
        .write::<_, QueueError>(|txn| {
            set_changed(txn, Some(5), Some("five"))?;
            assert_eq!((changed(txn)?, changed_id(txn)?.as_deref()), (Some(5), Some("five")));
            // A program that knows nothing of ids.
            txn.set_meta("queue_log_changed", "6")?;
            assert_eq!((changed(txn)?, changed_id(txn)?), (Some(6), None));
            Ok(())
        })
        .unwrap();
}

#[test]
fn the_name_of_one_repository_is_refused_to_another() {
    let engine = NatsEngine::fresh();
    let folders: Vec<_> = ["own", "clone", "other"].map(|name| engine.folder.path().join(name)).into();
    folders.iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
    let server = server(&engine.server.url);
    publish(&*open(&server, "a", &folders[0]).unwrap(), ticket("one")).unwrap();
    let of_clone = open(&server, "a", &folders[1]).unwrap();
    assert_eq!(of_clone.states().unwrap().len(), 1, "a clone has the same history");
    let refused = open(&server, "b", &folders[2]).err().unwrap();
    assert!(matches!(refused, QueueError::Nats(NatsError::Foreign { .. })), "{refused:?}");
    let renamed = Server { project: "other.tests".to_owned(), ..server };
    assert_eq!(open(&renamed, "b", &folders[2]).unwrap().states().unwrap(), []);
}

#[test]
fn a_queue_that_another_repository_has_just_begun_is_not_taken_for_a_left_one() {
    let engine = NatsEngine::fresh();
    let server = server(&engine.server.url);
    drop(Log::open(&server, Some("theirs".to_owned())).unwrap());
    let refused = Log::begin(&server, "ours").unwrap_err();
    assert!(matches!(refused, NatsError::Foreign { .. }), "{refused:?}");
    // One that was begun by a move that was cut off, too.
    Log::begin(&server, "theirs").unwrap();
    let refused = Log::begin(&server, "ours").unwrap_err();
    assert!(matches!(refused, NatsError::Foreign { .. }), "{refused:?}");
    Log::begin(&server, "theirs").unwrap().name().unwrap();
    assert_eq!(Log::open(&server, None).unwrap().identity().founder, "theirs");
}

#[test]
fn a_seed_of_a_key_lets_its_owner_in_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let (own, other) = (nkeys::KeyPair::new_user(), nkeys::KeyPair::new_user());
    let config = format!("jetstream {{}}\nauthorization {{ users: [ {{ nkey: {} }} ] }}\n", own.public_key());
    let path = |name: &str| folder.path().join(name);
    crate::files::write_new(&path("server.conf"), config.as_bytes()).unwrap();
    // With the words around it that the project's own tool writes.
    for (name, pair) in [("own.nk", &own), ("other.nk", &other)] {
        let text = format!("# a seed\n{}\n", pair.seed().unwrap());
        crate::files::write_new(&path(name), text.as_bytes()).unwrap();
    }
    let process = Process::start_with(folder.path(), "-1", &["-js", "-c", path("server.conf").to_str().unwrap()]);
    let with = |login| Log::open(&Server { login, ..server(&process.url) }, Some("founder".to_owned()));
    assert!(with(Login::Nkey(path("own.nk"))).is_ok());
    for login in [Login::Nkey(path("other.nk")), Login::Nobody] {
        let refused = with(login).unwrap_err();
        assert!(matches!(refused, NatsError::Denied { .. }), "{refused:?}");
        assert!(!format!("{refused:?}").contains(&other.seed().unwrap()));
    }
    crate::files::write_new(&path("none.nk"), b"nothing here\n").unwrap();
    assert!(with(Login::Nkey(path("none.nk"))).is_err());
}

/// Bytes as letters, in the way of tokens.
fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let encode = |chunk: &[u8]| {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        let letter = move |place: usize| char::from(LETTERS[(bits >> (18 - 6 * place)) as usize & 63]);
        (0..=chunk.len()).map(letter).collect::<String>()
    };
    bytes.chunks(3).map(encode).collect()
}

/// What the owner of a key says about the owner of another, as a server of accounts reads it.
fn token(by: &nkeys::KeyPair, about: &nkeys::KeyPair, what: &serde_json::Value) -> String {
    let (issuer, subject) = (by.public_key(), about.public_key());
    let claims =
        serde_json::json!({"jti": subject, "iat": 1, "iss": issuer, "sub": subject, "name": "x", "nats": what});
    let head = base64url(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let text = format!("{head}.{}", base64url(claims.to_string().as_bytes()));
    let signature = by.sign(text.as_bytes()).unwrap();
    format!("{text}.{}", base64url(&signature))
}

#[test]
fn a_credentials_file_lets_its_user_in_and_none_of_another_account() {
    use nkeys::KeyPair;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, text: String| crate::files::write_new(&path(name), text.as_bytes()).unwrap();
    let (operator, system, account) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
    let limits = serde_json::json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1});
    let operators = token(&operator, &operator, &serde_json::json!({"type": "operator", "version": 2}));
    let accounts = [(&system, serde_json::json!({})), (&account, limits)].map(|(account, limits)| {
        let what = serde_json::json!({"type": "account", "version": 2, "limits": limits});
        format!("{}: {}", account.public_key(), token(&operator, account, &what))
    });
    let config = format!(
        "operator: {operators}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{\n{}\n}}\n",
        system.public_key(),
        accounts.join("\n")
    );
    write("server.conf", config);
    for (name, account) in [("own.creds", &account), ("other.creds", &KeyPair::new_account())] {
        let user = KeyPair::new_user();
        let what = serde_json::json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1});
        let (token, seed) = (token(account, &user, &what), user.seed().unwrap());
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        write(name, text);
    }
    let process = Process::start_with(folder.path(), "-1", &["-js", "-c", path("server.conf").to_str().unwrap()]);
    let with = |login| Log::open(&Server { login, ..server(&process.url) }, Some("founder".to_owned()));
    with(Login::Credentials(path("own.creds"))).unwrap();
    for login in [Login::Credentials(path("other.creds")), Login::Nobody] {
        let refused = with(login).unwrap_err();
        assert!(matches!(refused, NatsError::Denied { .. }), "{refused:?}");
    }
}

#[test]
fn a_real_server_that_is_too_old_is_refused_with_the_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start_program(&program(&["--old"]), folder.path(), "-1", &["-js"]);
    let refused = log(&process.url).unwrap_err();
    let said = format!("the NATS server at `{}` is version 2.10.26, and swarm needs 2.11 or newer: ", process.url);
    assert!(refused.to_string().starts_with(&said), "{refused}");
}

#[test]
fn a_server_without_jetstream_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = Process::start_with(folder.path(), "-1", &[]);
    let refused = log(&server.url).unwrap_err();
    assert!(matches!(refused, NatsError::NoJetStream { .. }), "{refused:?}");
}

#[test]
fn a_server_tells_the_right_user_from_others() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start_with(folder.path(), "-1", &["-js", "--user", "me", "--pass", "sesame"]);
    let login = |password: &str| Login::Password { user: "me".to_owned(), password: password.to_owned() };
    let with = |login| Log::open(&Server { login, ..server(&process.url) }, Some("founder".to_owned()));
    assert!(with(login("sesame")).is_ok());
    for login in [login("wrong"), Login::Nobody, Login::Token("sesame".to_owned())] {
        let refused = with(login).unwrap_err();
        assert!(matches!(refused, NatsError::Denied { .. }), "{refused:?}");
        let shown = format!("{refused:?} {}", crate::model::error_text(&refused));
        assert!(!shown.contains("sesame") && !shown.contains("wrong"), "{shown}");
    }
    let missing = with(Login::Credentials(folder.path().join("no.creds"))).unwrap_err();
    assert!(matches!(missing, NatsError::Login { .. }), "{missing:?}");
}

#[test]
fn a_certificate_counts_when_its_authority_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let path = |name: &str| folder.path().join(name);
    for (name, text) in [("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())] {
        crate::files::write_new(&path(name), text.as_bytes()).unwrap();
    }
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    let args = ["-js", "--tls", "--tlscert", cert.to_str().unwrap(), "--tlskey", key.to_str().unwrap()];
    let process = Process::start_with(folder.path(), "-1", &args);
    let url = process.url.replace("nats://", "tls://");
    let unknown = log(&url).unwrap_err();
    assert!(matches!(unknown, NatsError::Tls { .. }), "{unknown:?}");
    let tls = TlsFiles { ca: Some(cert), ..TlsFiles::default() };
    let with = |url: &str| Log::open(&Server { tls: tls.clone(), ..server(url) }, Some("founder".to_owned()));
    assert!(with(&url).is_ok());
    // Who names an authority wants nobody else to read along, whatever the address begins with and the server asks for.
    assert!(with(&process.url.replace("tls://", "nats://")).is_ok());
    let plain = tempfile::tempdir().unwrap();
    let plain = Process::start(plain.path());
    let refused = with(&plain.url).unwrap_err();
    assert!(matches!(refused, NatsError::Tls { .. }), "{refused:?}");
}

#[test]
fn a_server_that_asks_for_a_certificate_of_ours_gets_it() {
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, text: String| crate::files::write_new(&path(name), text.as_bytes()).unwrap();
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write("ca.pem", params.self_signed(&authority_key).unwrap().pem());
    let authority = Issuer::new(params, authority_key);
    let uses = [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)];
    for (name, purpose) in uses {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        write(&format!("{name}.pem"), params.signed_by(&key, &authority).unwrap().pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
    let text = |name: &str| path(name).to_str().unwrap().to_owned();
    let (cert, key, ca) = (text("server.pem"), text("server.key"), text("ca.pem"));
    let args = ["-js", "--tlsverify", "--tlscert", &cert, "--tlskey", &key, "--tlscacert", &ca];
    let process = Process::start_with(folder.path(), "-1", &args);
    let url = process.url.replace("nats://", "tls://");
    let ca_alone = TlsFiles { ca: Some(path("ca.pem")), ..TlsFiles::default() };
    let whole = TlsFiles { cert: Some(path("client.pem")), key: Some(path("client.key")), ..ca_alone.clone() };
    let with = |tls| Log::open(&Server { tls, ..server(&url) }, Some("founder".to_owned()));
    assert!(with(whole).is_ok());
    let refused = with(ca_alone).unwrap_err();
    assert!(matches!(refused, NatsError::Tls { .. } | NatsError::Unreachable { .. }), "{refused:?}");
}

#[test]
fn renewals_of_a_lease_are_one_message_of_the_log_and_a_replica_that_is_behind_passes_over_the_rest() {
    let engine = NatsEngine::fresh();
    let (one, two) = (engine.handle(), engine.handle());
    publish(&*one, ticket("held")).unwrap();
    assert_eq!(two.states().unwrap().len(), 1);
    let claim = one.claim(&request()).unwrap().pop().unwrap();
    for _ in 0..200 {
        one.renew(&claim.ticket.id, claim.fence, Duration::from_secs(60)).unwrap();
    }
    let log = log(&engine.server.url).unwrap();
    let kept: Vec<_> = log.read(1, log.last(DEADLINE).unwrap()).unwrap().into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(kept, [1, 2, 202]);
    let newcomer = engine.handle();
    let expected = one.snapshot().unwrap();
    assert_eq!((two.snapshot().unwrap(), newcomer.snapshot().unwrap()), (expected.clone(), expected));
    two.complete(&claim.ticket.id, claim.fence, Completion::Done).unwrap();
    assert_eq!(newcomer.states().unwrap(), [(claim.ticket.id, TicketState::Done)]);
}

#[test]
fn an_entry_of_the_board_is_changed_only_by_who_knows_it() {
    let engine = NatsEngine::fresh();
    let queue = engine.handle();
    let board = Board::open(queue.link().unwrap()).unwrap();
    let other = Board::open(engine.handle().link().unwrap()).unwrap();
    assert_eq!(board.entry("node.a").unwrap(), None);
    let first = board.put("node.a", b"one", None).unwrap().unwrap();
    assert_eq!(other.put("node.a", b"mine", None).unwrap(), None);
    let second = other.put("node.a", b"two", Some(first)).unwrap().unwrap();
    assert_eq!(board.put("node.a", b"three", Some(first)).unwrap(), None);
    board.put("node.b", b"b", None).unwrap().unwrap();
    board.put("nodes.c", b"c", None).unwrap().unwrap();
    let entries = board.entries("node").unwrap();
    let told: Vec<_> = entries.iter().map(|entry| (&*entry.key, &*entry.value)).collect();
    assert_eq!(told, [("node.a", &b"two"[..]), ("node.b", b"b")]);
    assert_eq!(entries[0].revision, second);
    // By the server's clock, which goes on while nobody writes.
    let before = entries[0].age;
    let older = || board.entries("node").unwrap()[0].age > before;
    assert!(before < DEADLINE && until(older));
    board.remove("node.a").unwrap();
    assert_eq!((board.entry("node.a").unwrap(), board.entries("node").unwrap().len()), (None, 1));
    assert!(other.put("node.a", b"anew", None).unwrap().is_some());
}

#[test]
fn files_come_back_as_they_were_put() {
    let engine = NatsEngine::fresh();
    let objects = Objects::open(engine.handle().link().unwrap()).unwrap();
    assert_eq!(objects.get("tip").unwrap(), None);
    let large: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).collect();
    objects.put("tip", large.clone()).unwrap();
    assert_eq!(objects.get("tip").unwrap(), Some(large));
    objects.put("tip", b"short".to_vec()).unwrap();
    assert_eq!(objects.get("tip").unwrap(), Some(b"short".to_vec()));
    objects.delete("tip").unwrap();
    objects.delete("tip").unwrap();
    assert_eq!(objects.get("tip").unwrap(), None);
}

#[test]
fn what_is_stored_is_deleted_as_it_was_seen_and_what_was_never_whole_with_it() {
    let engine = NatsEngine::fresh();
    let queue = engine.handle();
    let link = queue.link().unwrap();
    let objects = Objects::open(link).unwrap();
    let bucket = &link.names().objects;
    for name in ["one", "two", "gone"] {
        objects.put(name, name.as_bytes().to_vec()).unwrap();
    }
    objects.delete("gone").unwrap();
    let (context, parts) = (link.context(), format!("$O.{bucket}.C.half"));
    let sent = link.run(async move { context.publish(parts, "half".into()).await.unwrap().await }).unwrap();
    sent.unwrap();
    let stored = objects.stored().unwrap();
    let mut names: Vec<_> = stored.iter().map(|stored| stored.name.as_deref()).collect();
    names.sort_unstable();
    assert_eq!(names, [None, None, Some("one"), Some("two")]);
    assert!(stored.iter().all(|stored| stored.age < DEADLINE));
    // What was written since stays.
    objects.put("one", b"anew".to_vec()).unwrap();
    stored.iter().for_each(|stored| objects.discard(stored).unwrap());
    assert_eq!((objects.get("one").unwrap(), objects.get("two").unwrap()), (Some(b"anew".to_vec()), None));
    let left: Vec<_> = objects.stored().unwrap().into_iter().map(|stored| stored.name).collect();
    assert_eq!(left, [Some("one".to_owned())]);
    objects.put("two", b"again".to_vec()).unwrap();
    assert_eq!(objects.get("two").unwrap(), Some(b"again".to_vec()));
}

/// Whether something comes to be in time.
fn until(holds: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    while started.elapsed() < DEADLINE {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}
