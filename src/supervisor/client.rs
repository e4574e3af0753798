//! The other end of a supervisor's socket: one request and its reply, or an attached terminal.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::SupervisorError;
use super::protocol::{Reply, Request};

/// From here on a person who waits is told for what.
pub(crate) const SLOW: Duration = Duration::from_secs(2);
/// How long a supervisor may take for an answer; a message has been taken by its agent then.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long a supervisor may take to read a request.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

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
        stream.set_write_timeout(Some(WRITE_WITHIN)).map_err(talk)?;
        Ok(Some(Self { stream: BufReader::new(stream) }))
    }

    /// Asks and waits for the answer. A supervisor that ends meanwhile answers [`Reply::Ending`] in one way or another.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<Reply, SupervisorError> {
        let late = || SupervisorError::Talk { source: ErrorKind::TimedOut.into() };
        self.ask_within(request, ANSWER_WITHIN, &|| ())?.ok_or_else(late)
    }

    /// The same, for a caller that has something to say: `None` when there is no answer `within` the time, of which `slow` hears once after
    /// [`SLOW`].
    pub(crate) fn ask_within(
        &mut self,
        request: &Request,
        within: Duration,
        slow: &dyn Fn(),
    ) -> Result<Option<Reply>, SupervisorError> {
        let talk = |source| SupervisorError::Talk { source };
        let mut line = serde_json::to_vec(request).map_err(|source| talk(source.into()))?;
        line.push(b'\n');
        let mut answer = Vec::new();
        let mut heard = self.stream.get_mut().write_all(&line).and_then(|()| self.read(&mut answer, within.min(SLOW)));
        if heard.as_ref().is_err_and(is_over_time) && within > SLOW {
            slow();
            heard = self.read(&mut answer, within - SLOW);
        }
        match heard {
            Ok(0) if answer.is_empty() => Ok(Some(Reply::Ending)),
            Ok(_) => serde_json::from_slice(&answer).map(Some).map_err(|source| talk(source.into())),
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                Ok(Some(Reply::Ending))
            }
            Err(error) if is_over_time(&error) => Ok(None),
            Err(error) => Err(talk(error)),
        }
    }

    /// Reads on to the end of a line; what has come when the time is over stays in `answer`.
    fn read(&mut self, answer: &mut Vec<u8>, within: Duration) -> std::io::Result<usize> {
        self.stream.get_ref().set_read_timeout(Some(within))?;
        self.stream.read_until(b'\n', answer)
    }

    /// Gives up the connection for raw bytes, with what was read ahead.
    pub(crate) fn into_raw(self) -> (UnixStream, Vec<u8>) {
        let ahead = self.stream.buffer().to_vec();
        (self.stream.into_inner(), ahead)
    }
}

/// How a socket says that its time limit has passed.
fn is_over_time(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    use super::*;

    #[test]
    fn who_waits_for_a_supervisor_that_hangs_is_told_once_and_gets_no_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut client = Client::connect(&path).unwrap().unwrap();
        let (began, told) = (Instant::now(), Cell::new(None));
        let answer = client.ask_within(&Request::Resume { budget: None }, SLOW * 3 / 2, &|| {
            assert_eq!(told.replace(Some(began.elapsed())), None);
        });
        assert_eq!(answer.unwrap(), None);
        assert!(told.get().unwrap() >= SLOW && began.elapsed() >= SLOW * 3 / 2);
        drop(listener);
    }
}
