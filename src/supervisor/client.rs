//! The other end of a supervisor's socket: one request and its reply, or an attached terminal.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::SupervisorError;
use super::protocol::{Reply, Request};

/// How long a supervisor may take for an answer. Stopping has the grace on top.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A connection to a living supervisor.
#[derive(Debug)]
pub(crate) struct Client {
    /// The connection.
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects; `None` when nobody listens.
    pub(crate) fn connect(socket: &Path) -> Result<Option<Self>, SupervisorError> {
        use ErrorKind::{ConnectionRefused, NotFound};
        let stream = match UnixStream::connect(socket) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => return Ok(None),
            Err(source) => return Err(SupervisorError::Talk { source }),
        };
        let talk = |source| SupervisorError::Talk { source };
        stream.set_read_timeout(Some(ANSWER_WITHIN)).map_err(talk)?;
        stream.set_write_timeout(Some(ANSWER_WITHIN)).map_err(talk)?;
        Ok(Some(Self { stream: BufReader::new(stream) }))
    }

    /// Waits longer for the next answers, such as for a stop with its grace.
    pub(crate) fn allow(&self, extra: Duration) -> Result<(), SupervisorError> {
        let limit = Some(ANSWER_WITHIN + extra);
        self.stream.get_ref().set_read_timeout(limit).map_err(|source| SupervisorError::Talk { source })
    }

    /// Asks and waits for the answer. A supervisor that ends meanwhile answers [`Reply::Ending`] in one way or another.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<Reply, SupervisorError> {
        let talk = |source| SupervisorError::Talk { source };
        let mut line = serde_json::to_vec(request).map_err(|source| SupervisorError::Talk { source: source.into() })?;
        line.push(b'\n');
        let mut answer = String::new();
        let written = self.stream.get_mut().write_all(&line);
        match written.and_then(|()| self.stream.read_line(&mut answer)) {
            Ok(0) => return Ok(Reply::Ending),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                return Ok(Reply::Ending);
            }
            // How a socket says that its read limit has passed.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(talk(ErrorKind::TimedOut.into())),
            Err(error) => return Err(talk(error)),
        }
        serde_json::from_str(&answer).map_err(|source| SupervisorError::Talk { source: source.into() })
    }

    /// Gives up the connection for raw bytes, with what was read ahead.
    pub(crate) fn into_raw(self) -> (UnixStream, Vec<u8>) {
        let ahead = self.stream.buffer().to_vec();
        (self.stream.into_inner(), ahead)
    }
}
