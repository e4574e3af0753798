//! As much of HTTP/1.1 as an API client needs: one request per connection, answered whole or as a chunked stream.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::Request;

/// How often a reader that gets nothing looks whether the server is stopping.
const READ_TIMEOUT: Duration = Duration::from_millis(100);

/// The largest body taken, far above the 100 kB that an agent sends.
const BODY_LIMIT: usize = 64 * 1024 * 1024;

/// One request and the connection on which it is answered.
pub(super) struct Exchange {
    /// What the client asked.
    pub(super) request: Request,
    /// Where the answer goes.
    connection: TcpStream,
}

impl Exchange {
    /// Reads a request. Fails if the client closes, breaks the protocol, or `stopping` turns true while it is silent.
    pub(super) fn read(connection: TcpStream, stopping: impl Fn() -> bool) -> io::Result<Self> {
        connection.set_read_timeout(Some(READ_TIMEOUT))?;
        connection.set_nodelay(true)?;
        let mut reader = BufReader::new(Patient { connection: connection.try_clone()?, stopping });
        let first = read_line(&mut reader)?;
        let mut words = first.split(' ');
        let (Some(method), Some(path)) = (words.next(), words.next()) else {
            return Err(broken("a request line has a method and a path"));
        };
        let headers = read_headers(&mut reader)?;
        let body = read_body(&mut reader, &headers)?;
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? };
        let request = Request { method: method.to_owned(), path: path.to_owned(), headers, body };
        Ok(Self { request, connection })
    }

    /// Answers with a JSON document and closes.
    pub(super) fn respond(&mut self, status: u16, body: &Value) -> io::Result<()> {
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            reason(status),
            body.len()
        );
        self.connection.write_all(head.as_bytes())?;
        if self.request.method != "HEAD" {
            self.connection.write_all(body.as_bytes())?;
        }
        self.connection.flush()
    }

    /// Begins a chunked event stream.
    pub(super) fn begin_stream(&mut self) -> io::Result<()> {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
        self.connection.write_all(head.as_bytes())
    }

    /// Sends one chunk; `bytes` must not be empty, since an empty chunk is the end.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.connection.write_all(&chunk)
    }

    /// Ends the stream; without it the client sees a connection that broke.
    pub(super) fn end_stream(&mut self) -> io::Result<()> {
        self.connection.write_all(b"0\r\n\r\n")?;
        self.connection.flush()
    }
}

/// A connection whose read timeouts only give a chance to look whether the server stops.
struct Patient<S> {
    /// The client's connection, with a read timeout set.
    connection: TcpStream,
    /// Whether to give up.
    stopping: S,
}

impl<S: Fn() -> bool> Read for Patient<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.read(buffer) {
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
                        && !(self.stopping)() => {}
                other => return other,
            }
        }
    }
}

/// One line without its end; an error at the end of the input.
fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

/// Headers up to the empty line, names in lower case.
fn read_headers(reader: &mut impl BufRead) -> io::Result<BTreeMap<String, String>> {
    let mut headers = BTreeMap::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Ok(headers);
        }
        let (name, value) = line.split_once(':').ok_or_else(|| broken("a header has a colon"))?;
        headers.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
    }
}

/// The body: chunked, of a stated length, or none.
fn read_body(reader: &mut impl BufRead, headers: &BTreeMap<String, String>) -> io::Result<Vec<u8>> {
    if headers.get("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return read_chunks(reader);
    }
    let length = headers.get("content-length").map_or(Ok(0), |length| length.parse::<usize>());
    read_exactly(reader, length.map_err(|_| broken("a content length is a number"))?)
}

/// The chunks of a body, put together; trailers are dropped.
fn read_chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(reader)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| broken("a chunk size is a hexadecimal number"))?;
        if size == 0 {
            while !read_line(reader)?.is_empty() {}
            return Ok(body);
        }
        body.append(&mut read_exactly(reader, size)?);
        if body.len() > BODY_LIMIT {
            return Err(broken("the body is too large"));
        }
        read_line(reader)?;
    }
}

/// `length` bytes.
fn read_exactly(reader: &mut impl BufRead, length: usize) -> io::Result<Vec<u8>> {
    if length > BODY_LIMIT {
        return Err(broken("the body is too large"));
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The error for a client that does not speak HTTP.
fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// The phrase beside a status code.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        429 => "Too Many Requests",
        529 => "Overloaded",
        _ => "Error",
    }
}
