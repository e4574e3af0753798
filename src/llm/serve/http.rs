//! As much of HTTP/1.1 as clients of a model need: one request a connection, answered whole or as a chunked stream.
//!
//! Everything is bounded: the head, the body, and the time a client may be silent while it asks or does not read.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// How often a reader that gets nothing looks whether it should give up.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long a client may take to send its request.
const REQUEST_TIME: Duration = Duration::from_secs(60);

/// How long a client may not read what it is sent.
const WRITE_TIME: Duration = Duration::from_secs(30);

/// The largest head; agents send about 2 kB.
const HEAD_LIMIT: u64 = 64 * 1024;

/// The largest body, far above the 100 kB that an agent with many tools sends, and above a megabyte of context.
const BODY_LIMIT: usize = 64 * 1024 * 1024;

/// What a client asked.
#[derive(Debug, Clone, Default)]
pub(super) struct HttpRequest {
    /// `POST`, `GET`, ...
    pub(super) method: String,
    /// Path with the query.
    pub(super) path: String,
    /// Header names in lower case.
    pub(super) headers: BTreeMap<String, String>,
    /// The body.
    pub(super) body: Vec<u8>,
}

/// A connection on which a request is answered.
#[derive(Debug)]
pub(super) struct Answering {
    /// To the client.
    connection: TcpStream,
    /// Whether the client wants the head only.
    is_head: bool,
}

/// A request that was not understood.
#[derive(Debug)]
pub(super) enum Unread {
    /// The client went away, or the server stops.
    Gone,
    /// It is answered with this status and text.
    Refused(u16, &'static str),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::Refused(408, "the request took too long"),
            io::ErrorKind::InvalidData => Self::Refused(400, "this is not HTTP/1.1"),
            _ => Self::Gone,
        }
    }
}

/// Reads a request; `is_stopping` says when to give up on a silent client.
pub(super) fn read(connection: &TcpStream, is_stopping: impl Fn() -> bool) -> Result<HttpRequest, Unread> {
    connection.set_read_timeout(Some(LOOK_EVERY))?;
    connection.set_write_timeout(Some(WRITE_TIME))?;
    connection.set_nodelay(true)?;
    let patient = Patient { connection: connection.try_clone()?, is_stopping, deadline: Instant::now() + REQUEST_TIME };
    let mut reader = BufReader::new(patient).take(HEAD_LIMIT);
    let mut request = read_head(&mut reader)?;
    let mut reader = reader.into_inner();
    if request.headers.contains_key("content-encoding") {
        return Err(Unread::Refused(415, "a compressed body is not understood"));
    }
    if request.headers.get("expect").is_some_and(|expected| expected.eq_ignore_ascii_case("100-continue")) {
        (&*connection).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    request.body = read_body(&mut reader, &request.headers)?;
    Ok(request)
}

/// The request line and the headers.
fn read_head(reader: &mut impl BufRead) -> Result<HttpRequest, Unread> {
    let first = read_line(reader)?;
    let mut words = first.split(' ');
    let (Some(method), Some(path), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Err(broken().into());
    };
    if !version.starts_with("HTTP/1.") || !path.starts_with('/') {
        return Err(broken().into());
    }
    let mut request = HttpRequest { method: method.to_owned(), path: path.to_owned(), ..HttpRequest::default() };
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Ok(request);
        }
        let (name, value) = line.split_once(':').ok_or_else(broken)?;
        request.headers.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
    }
}

/// One line without its end.
fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    match line.pop() {
        None => Err(io::ErrorKind::UnexpectedEof.into()),
        Some(b'\n') => Ok(String::from_utf8_lossy(&line).trim_end().to_owned()),
        // The client closed in the middle, or the head is larger than its limit.
        Some(_) => Err(broken()),
    }
}

/// The body: chunked, of a stated length, or none.
fn read_body(reader: &mut impl BufRead, headers: &BTreeMap<String, String>) -> Result<Vec<u8>, Unread> {
    if headers.get("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return read_chunks(reader);
    }
    let length = headers.get("content-length").map_or(Ok(0), |length| length.parse::<usize>());
    read_exactly(reader, length.map_err(|_| broken())?, 0)
}

/// The chunks of a body, put together; trailers are dropped.
fn read_chunks(reader: &mut impl BufRead) -> Result<Vec<u8>, Unread> {
    let mut body = Vec::new();
    loop {
        let line = read_line(&mut reader.by_ref().take(HEAD_LIMIT))?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| broken())?;
        if size == 0 {
            while !read_line(&mut reader.by_ref().take(HEAD_LIMIT))?.is_empty() {}
            return Ok(body);
        }
        body.append(&mut read_exactly(reader, size, body.len())?);
        read_line(&mut reader.by_ref().take(HEAD_LIMIT))?;
    }
}

/// `length` bytes, of a body of which there are `before` already.
fn read_exactly(reader: &mut impl BufRead, length: usize, before: usize) -> Result<Vec<u8>, Unread> {
    if length > BODY_LIMIT.saturating_sub(before) {
        return Err(Unread::Refused(413, "the body is too large"));
    }
    // Grows as bytes come: a length that is only claimed takes no memory.
    let mut bytes = Vec::new();
    reader.take(u64::try_from(length).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    if bytes.len() == length { Ok(bytes) } else { Err(Unread::Gone) }
}

/// The error for a client that does not speak HTTP.
fn broken() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// A connection whose read timeouts only give a chance to look whether to give up.
struct Patient<S> {
    /// The client's connection, with a read timeout set.
    connection: TcpStream,
    /// Whether the server stops.
    is_stopping: S,
    /// When the client has had its time.
    deadline: Instant,
}

impl<S: Fn() -> bool> Read for Patient<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.read(buffer) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    if (self.is_stopping)() {
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                    if Instant::now() > self.deadline {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                other => return other,
            }
        }
    }
}

impl Answering {
    /// The connection after its request was read.
    pub(super) fn new(connection: TcpStream, method: &str) -> Self {
        Self { connection, is_head: method == "HEAD" }
    }

    /// Answers with a JSON document and closes. `headers` are whole lines with their ends.
    pub(super) fn respond(&mut self, status: u16, headers: &str, body: &[u8]) -> io::Result<()> {
        self.begin_whole(status, headers, body.len())?;
        if !self.is_head {
            self.send_raw(body)?;
        }
        self.connection.flush()
    }

    /// Sends the head of an answer of `length` bytes, which [`Answering::send_raw`] sends.
    pub(super) fn begin_whole(&mut self, status: u16, headers: &str, length: usize) -> io::Result<()> {
        let reason = reason(status);
        let head = format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\n{headers}Content-Length: {length}\r\n\
             Connection: close\r\n\r\n"
        );
        self.connection.write_all(head.as_bytes())
    }

    /// Sends bytes of a whole answer.
    pub(super) fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.connection.write_all(bytes)
    }

    /// Begins a chunked stream of this content type.
    pub(super) fn begin_stream(&mut self, content_type: &str) -> io::Result<()> {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nCache-Control: no-cache\r\n\
             Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        );
        self.connection.write_all(head.as_bytes())
    }

    /// Sends one chunk of a stream; nothing for an empty one, which would be its end.
    pub(super) fn send(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.connection.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
    }

    /// Ends a stream; without it the client sees a connection that broke.
    pub(super) fn end_stream(&mut self) -> io::Result<()> {
        self.connection.write_all(b"0\r\n\r\n")?;
        self.connection.flush()
    }

    /// Whether the client has gone away.
    pub(super) fn is_closed(&self) -> bool {
        self.connection.set_nonblocking(true).ok();
        let seen = self.connection.peek(&mut [0]);
        self.connection.set_nonblocking(false).ok();
        match seen {
            Ok(count) => count == 0,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }
}

/// The phrase beside a status code.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        529 => "Overloaded",
        _ => "Error",
    }
}
