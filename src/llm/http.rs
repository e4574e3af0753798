//! The connection to a model server: who is trusted, which way it goes, how long each part may take.
//!
//! Redirections are not followed: a request holds a key and a whole conversation, and they go where the configuration
//! says or nowhere. A server on this machine is reached without the proxies of the environment.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Client, Method, Response};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::Trouble;
use super::fault::Fault;
use super::target::Target;
use crate::config::Environment;
use crate::model::providers::{ProviderKind, Timeouts};

/// Bytes of a document that are read; a list of models is shorter, and so is what an error says.
const DOCUMENT_LIMIT: usize = 8 << 20;

/// Bytes of an answer with everything around it.
const ANSWER_LIMIT: usize = 256 << 20;

/// The way to one server.
pub(super) struct Http {
    /// The address; may hold a name and password.
    base: String,
    /// Headers of each request, the key among them.
    headers: HeaderMap,
    /// The key, to keep it out of messages.
    key: Option<String>,
    /// How long things may take.
    timeouts: Timeouts,
    /// What of the environment the client needs.
    way: Way,
    /// Made with the first request: the list of trusted certificates costs some milliseconds.
    client: OnceLock<Client>,
}

/// Which way requests go.
#[derive(Debug, Default)]
struct Way {
    /// The proxy.
    proxy: Option<String>,
    /// Hosts without it.
    no_proxy: Option<String>,
    /// A file with further trusted certificates.
    certificates: Option<String>,
    /// Whether TLS is spoken to anybody.
    tls: bool,
}

impl Http {
    /// The way to `target`; connects nowhere yet. A key that no header can hold is not sent, and refused like a wrong one.
    pub(super) fn new(
        target: &Target,
        base: String,
        key: Option<&str>,
        timeouts: Timeouts,
        environment: &Environment,
    ) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("swarm/", env!("CARGO_PKG_VERSION"))));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let (name, value) = match target.kind {
            ProviderKind::Anthropic => {
                headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
                (HeaderName::from_static("x-api-key"), key.map(str::to_owned))
            }
            _ => (AUTHORIZATION, key.map(|key| format!("Bearer {key}"))),
        };
        if let Some(mut value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let key = key.map(str::to_owned);
        Self { base, headers, key, timeouts, way: Way::find(target, environment), client: OnceLock::new() }
    }

    /// Asks for a document.
    ///
    /// # Errors
    /// Whatever keeps it from coming within `limit`, and refusals.
    pub(super) async fn fetch(
        &self,
        target: &Target,
        path: &str,
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<Value, Fault> {
        let end = Instant::now() + limit;
        let late = || target.timed_out(&format!("{} did not answer", target.url), limit, "first_byte");
        let read = async {
            let mut response = self.send(target, path, body).await?;
            let text = read_all(&mut response).await.map_err(|error| broken(target, error))?;
            if !response.status().is_success() {
                let text = self.without_key(text);
                return Err(target.refused(response.status().as_u16(), retry_after(response.headers()), &text));
            }
            serde_json::from_str(&text)
                .map_err(|error| target.malformed("the answer is not JSON", &text).caused_by(error))
        };
        timeout_at(end, read).await.map_err(|_| late())?
    }

    /// Asks for a stream. Returns when the server has accepted the request.
    ///
    /// # Errors
    /// Whatever keeps it from being accepted in time, and refusals.
    pub(super) async fn stream(&self, target: &Target, path: &str, body: &Value) -> Result<Incoming, Fault> {
        let began = Instant::now();
        let first = self.timeouts.first_byte.min(self.timeouts.total);
        let late = || target.timed_out("no answer began", first, "first_byte");
        let sent = timeout_at(began + first, self.send(target, path, Some(body)));
        let mut response = sent.await.map_err(|_| late())??;
        if !response.status().is_success() {
            let status = response.status().as_u16();
            let retry_after = retry_after(response.headers());
            // What the status says counts, even where the explanation does not come.
            let text = timeout_at(began + first, read_all(&mut response)).await;
            let text = self.without_key(text.map(Result::unwrap_or_default).unwrap_or_default());
            return Err(target.refused(status, retry_after, &text));
        }
        Ok(Incoming { response, timeouts: self.timeouts, began, has_begun: false, received: 0 })
    }

    /// Sends a request and waits for the head of the answer.
    async fn send(&self, target: &Target, path: &str, body: Option<&Value>) -> Result<Response, Fault> {
        let client = self.client(target)?;
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let mut request = client.request(method, format!("{}{path}", self.base)).headers(self.headers.clone());
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        request.send().await.map_err(|error| self.unsent(target, error))
    }

    /// What a server says, without the key, should it repeat that.
    fn without_key(&self, text: String) -> String {
        match &self.key {
            Some(key) => text.replace(key.as_str(), "[key]"),
            None => text,
        }
    }

    /// The client, made once.
    fn client(&self, target: &Target) -> Result<&Client, Fault> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = self.way.client(target, self.timeouts.connect)?;
        Ok(self.client.get_or_init(|| client))
    }

    /// Why a request got no answer at all.
    fn unsent(&self, target: &Target, error: reqwest::Error) -> Fault {
        let error = error.without_url();
        let url = &target.url;
        if error.is_builder() {
            return target.fault(Trouble::BadRequest, format!("`{url}` is not an address")).caused_by(error);
        }
        if error.is_connect() && error.is_timeout() {
            return target.timed_out(&format!("no connection to {url}"), self.timeouts.connect, "connect");
        }
        if !error.is_connect() {
            return Fault::new(Trouble::Cut, format!("the connection to {url} broke before an answer"))
                .caused_by(error);
        }
        if is_refused(&error) {
            return target.fault(Trouble::Refused, format!("nobody listens at {url}"));
        }
        target.fault(Trouble::Refused, format!("could not connect to {url}")).caused_by(error)
    }
}

/// An answer on its way.
pub(super) struct Incoming {
    /// The connection.
    response: Response,
    /// How long it may take.
    timeouts: Timeouts,
    /// When it was asked for.
    began: Instant,
    /// Whether anything came.
    has_begun: bool,
    /// Bytes so far.
    received: usize,
}

impl Incoming {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// A time-out, a broken connection, or an answer that never ends.
    pub(super) async fn next(&mut self, target: &Target) -> Result<Option<impl AsRef<[u8]> + use<>>, Fault> {
        let Timeouts { first_byte, idle, total, .. } = self.timeouts;
        let end = self.began + total;
        let next = if self.has_begun { Instant::now() + idle } else { self.began + first_byte };
        let piece = timeout_at(next.min(end), self.response.chunk()).await.map_err(|_| match self.has_begun {
            _ if end <= next => target.timed_out("the answer did not end", total, "total"),
            true => target.timed_out("the answer did not go on", idle, "idle"),
            false => target.timed_out("no answer began", first_byte, "first_byte"),
        })?;
        let piece = piece.map_err(|error| broken(target, error))?;
        self.has_begun = true;
        self.received += piece.as_ref().map_or(0, |piece| piece.len());
        if self.received > ANSWER_LIMIT {
            return Err(Fault::new(Trouble::Malformed, format!("the answer has more than {ANSWER_LIMIT} bytes")));
        }
        Ok(piece)
    }
}

/// The answer broke off.
fn broken(target: &Target, error: reqwest::Error) -> Fault {
    target.cut().caused_by(error.without_url())
}

/// The text of a short answer; more than the limit is cut off.
async fn read_all(response: &mut Response) -> Result<String, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > DOCUMENT_LIMIT {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether the cause of an error is that nobody listens.
fn is_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| {
        let io = error.downcast_ref::<std::io::Error>();
        io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused)
    })
}

/// When the provider wants to be asked again: `retry-after-ms`, or `retry-after` in seconds or as a date (RFC 9110,
/// section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |name: &str| text(name)?.parse::<f64>().ok();
    if let Some(milliseconds) = number("retry-after-ms") {
        return Duration::try_from_secs_f64(milliseconds / 1_000.0).ok();
    }
    if let Some(seconds) = number("retry-after") {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = jiff::fmt::rfc2822::parse(text("retry-after")?).ok()?;
    let wait = date.timestamp().duration_since(jiff::Timestamp::now());
    Some(Duration::try_from(wait).unwrap_or_default())
}

/// Whether an address is on this machine.
pub(super) fn is_here(url: &str) -> bool {
    match reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)) {
        Some(host) => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host == "localhost"
                || host.ends_with(".localhost")
                || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
        }
        None => false,
    }
}

impl Way {
    /// What the environment says about the way to `target`, as curl(1) reads it: the lower-case name first, and no
    /// upper-case `HTTP_PROXY` beside a CGI request, where it is a header of a stranger.
    fn find(target: &Target, environment: &Environment) -> Self {
        let is_https = target.url.starts_with("https://");
        let value = |name: &str| environment.get(name).filter(|value| !value.trim().is_empty()).map(str::to_owned);
        let is_cgi = environment.get("REQUEST_METHOD").is_some();
        let names: &[&str] = match is_https {
            true => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
            false if is_cgi => &["http_proxy", "all_proxy", "ALL_PROXY"],
            false => &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"],
        };
        let proxy = if target.is_here { None } else { names.iter().find_map(|name| value(name)) };
        Self {
            tls: is_https || proxy.as_ref().is_some_and(|proxy| proxy.starts_with("https://")),
            proxy,
            no_proxy: value("no_proxy").or_else(|| value("NO_PROXY")),
            certificates: value("SSL_CERT_FILE"),
        }
    }

    /// A client that goes this way.
    fn client(&self, target: &Target, connect: Duration) -> Result<Client, Fault> {
        let wrong = |what: &'static str| {
            move |error: reqwest::Error| Fault::new(Trouble::BadRequest, what).caused_by(error.without_url())
        };
        // Connections to this machine cost nothing; elsewhere they are kept for the next turn.
        let kept = usize::from(!target.is_here);
        let mut builder = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(connect)
            .pool_max_idle_per_host(kept)
            .pool_idle_timeout(Duration::from_secs(30))
            .tls_backend_preconfigured(self.trust()?);
        if let Some(proxy) = &self.proxy {
            let no_proxy = self.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string);
            let proxy = reqwest::Proxy::all(proxy).map_err(wrong("the proxy of the environment is not an address"))?;
            builder = builder.proxy(proxy.no_proxy(no_proxy));
        }
        builder.build().map_err(wrong("could not set up the connection"))
    }

    /// Who is trusted: what the system trusts, and the certificates of `SSL_CERT_FILE`.
    fn trust(&self) -> Result<rustls::ClientConfig, Fault> {
        let crypto = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&crypto))
            .with_safe_default_protocol_versions()
            .map_err(|error| Fault::new(Trouble::BadRequest, "could not set up TLS").caused_by(error))?;
        if !self.tls {
            return Ok(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth());
        }
        let extra: Vec<_> = match &self.certificates {
            Some(file) => {
                let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
                let message = || format!("could not read the certificates of SSL_CERT_FILE, `{file}`");
                read.map_err(|error| Fault::new(Trouble::BadRequest, message()).caused_by(error))?
            }
            None => Vec::new(),
        };
        let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(extra, crypto).map_err(|error| {
            Fault::new(Trouble::BadRequest, "this machine has no list of trusted certificates")
                .hint("Install the package `ca-certificates`, or name a file of them in SSL_CERT_FILE.")
                .caused_by(error)
        })?;
        // The verifier checks certificates like the default one; only where its roots come from differs.
        Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_in_three_ways() {
        let wait = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_str(value).unwrap());
            retry_after(&headers)
        };
        assert_eq!(wait("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("retry-after", "0.25"), Some(Duration::from_millis(250)));
        assert_eq!(wait("retry-after-ms", "1500"), Some(Duration::from_millis(1_500)));
        let past = wait("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(past, Some(Duration::ZERO));
        let future = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(100);
        let future = jiff::fmt::rfc2822::to_string(&future.to_zoned(jiff::tz::TimeZone::UTC)).unwrap();
        let wait_for_it = wait("retry-after", &future).unwrap().as_secs();
        assert!((95..=100).contains(&wait_for_it), "{wait_for_it}");
        for nonsense in ["soon", "-3", "inf"] {
            assert_eq!(wait("retry-after", nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn this_machine_has_many_names() {
        for here in
            ["http://localhost:1", "http://127.0.0.2", "https://[::1]/x", "http://a.localhost", "http://0.0.0.0"]
        {
            assert!(is_here(here), "{here}");
        }
        for elsewhere in
            ["http://localhost.example", "http://10.0.0.1", "http://box", "nonsense", "http://127.0.0.1.example"]
        {
            assert!(!is_here(elsewhere), "{elsewhere}");
        }
    }
}
