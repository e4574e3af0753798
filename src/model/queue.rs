//! Where the queue is, as a person says it.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::serde_duration;

/// The port of a server whose address names none.
const PORT: u16 = 4222;

/// Where tickets wait.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct QueueSettings {
    /// `file`, `auto`, or the address of a NATS server; several servers of one cluster with commas between.
    pub(crate) url: String,
    /// The project's name on the server; `None` is the name of the repository's folder.
    pub(crate) project: Option<String>,
    /// A credentials file, as `nsc` writes it.
    pub(crate) credentials: Option<PathBuf>,
    /// A file with the seed of an NKey.
    pub(crate) nkey: Option<PathBuf>,
    /// A user, with `password_env`.
    pub(crate) user: Option<String>,
    /// The variable that holds the password.
    pub(crate) password_env: Option<String>,
    /// The variable that holds a token.
    pub(crate) token_env: Option<String>,
    /// How the connection is encrypted.
    pub(crate) tls: TlsFiles,
    /// What takes the place of a server that cannot be reached.
    pub(crate) fallback: Option<Fallback>,
    /// How long a server keeps what became of tickets for other programs; zero is for ever. Tickets themselves it keeps.
    #[serde(with = "serde_duration")]
    pub(crate) retention: Duration,
    /// How long a server keeps what happened at the nodes; zero is for ever.
    #[serde(with = "serde_duration")]
    pub(crate) keep_events: Duration,
    /// How many servers of a cluster keep each thing, from 1 to [`MOST_REPLICAS`]; counts when the queue is made there.
    pub(crate) replicas: usize,
    /// Messages that the log of a queue on a server may have before a copy of all tickets takes the place of most of them.
    pub(crate) keep_log: u64,
}

/// The servers that can keep a stream (docs.nats.io/nats-concepts/jetstream/streams).
pub(crate) const MOST_REPLICAS: usize = 5;

/// How long a server keeps the history of tickets where nothing is said about it.
const RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How long a server keeps what happened at the nodes where nothing is said about it. Each has its own for longer.
const KEEP_EVENTS: Duration = Duration::from_secs(24 * 60 * 60);

/// Messages of a log where nothing is said about it: a machine that joins reads them in seconds, and a copy of the tickets
/// is made every some thousand tickets.
const KEEP_LOG: u64 = 20_000;

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            url: FILE.to_owned(),
            project: None,
            credentials: None,
            nkey: None,
            user: None,
            password_env: None,
            token_env: None,
            tls: TlsFiles::default(),
            fallback: None,
            retention: RETENTION,
            keep_events: KEEP_EVENTS,
            replicas: 1,
            keep_log: KEEP_LOG,
        }
    }
}

/// The word for the project's own store.
pub(crate) const FILE: &str = "file";
/// The word for a server where there is one.
pub(crate) const AUTO: &str = "auto";

/// Files of an encrypted connection, in PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TlsFiles {
    /// Who may have signed the server's certificate; `None` is whom the system trusts.
    pub(crate) ca: Option<PathBuf>,
    /// Our own certificate.
    pub(crate) cert: Option<PathBuf>,
    /// Its key.
    pub(crate) key: Option<PathBuf>,
}

/// What takes the place of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fallback {
    /// The project's own store.
    File,
}

/// The address of a server, or of several of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// Complete addresses with commas between, and nothing secret.
    pub(crate) text: String,
    /// Name and password, or a token alone, where the text held them.
    pub(crate) secret: Option<(String, Option<String>)>,
}

impl Address {
    /// Reads an address; one without a scheme is `nats://`. The error is a sentence that repeats nothing of the text,
    /// because that may hold a secret.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let (mut servers, mut secret) = (Vec::new(), None);
        for part in text.split(',').map(str::trim) {
            let (scheme, rest) = part.split_once("://").unwrap_or(("nats", part));
            if !matches!(scheme, "nats" | "tls") {
                return Err("expected an address that begins with `nats://` or `tls://`");
            }
            let (inside, place) = rest.rsplit_once('@').map_or((None, rest), |(inside, place)| (Some(inside), place));
            if let Some(inside) = inside {
                let pair = inside.split_once(':');
                let pair = pair.map_or((inside, None), |(name, password)| (name, Some(password.to_owned())));
                secret = Some((pair.0.to_owned(), pair.1));
            }
            let (host, port) = host_and_port(place.strip_suffix('/').unwrap_or(place))?;
            servers.push(format!("{scheme}://{host}:{port}"));
        }
        Ok(Self { text: servers.join(","), secret })
    }
}

/// The two parts of `host:port` or `[address]:port`.
fn host_and_port(place: &str) -> Result<(&str, u16), &'static str> {
    let port_at = match place.rfind(']') {
        Some(end) => place[end..].find(':').map(|at| end + at),
        None => place.find(':'),
    };
    let (host, port) = port_at.map_or((place, None), |at| (&place[..at], Some(&place[at + 1..])));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match inner {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(is_plain),
    };
    let port = port.map_or(Ok(PORT), |port| port.parse());
    match port {
        Ok(port) if is_host && port > 0 => Ok((host, port)),
        _ => Err("expected HOST or HOST:PORT after the `://` of an address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_completed_and_their_secrets_taken_out() {
        let text = |text: &str| Address::parse(text).map(|address| address.text);
        assert_eq!(text("nats://box").unwrap(), "nats://box:4222");
        assert_eq!(text("127.0.0.1:4333/").unwrap(), "nats://127.0.0.1:4333");
        assert_eq!(text("tls://[::1]:9, tls://b").unwrap(), "tls://[::1]:9,tls://b:4222");
        let address = Address::parse("nats://me:pa:ss@box").unwrap();
        assert_eq!(address.secret, Some(("me".to_owned(), Some("pa:ss".to_owned()))));
        assert_eq!(address.text, "nats://box:4222");
        assert_eq!(Address::parse("nats://token@box").unwrap().secret, Some(("token".to_owned(), None)));
        for bad in ["", "http://box", "nats://", "nats://box:x", "nats://box:0", "nats://a b", "nats://[::1", "box/x"] {
            assert!(text(bad).is_err(), "{bad}");
        }
    }
}
