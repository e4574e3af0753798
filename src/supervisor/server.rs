//! The supervisor's socket: takes connections, reads requests, and hands them to the loop one at a time.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::protocol::{Reply, Request};
use crate::files::FileError;

/// A request as the loop gets it.
#[derive(Debug)]
pub(super) enum Call {
    /// One that is answered with a line.
    Ask {
        /// What is asked.
        request: Request,
        /// Where the answer goes.
        answer: oneshot::Sender<Reply>,
    },
    /// A client that wants to see the terminal; its reply has been sent.
    Attach {
        /// The connection, with nothing read ahead but `ahead`.
        stream: UnixStream,
        /// Bytes that were read ahead.
        ahead: Vec<u8>,
        /// Columns of its terminal.
        columns: u16,
        /// Rows of its terminal.
        rows: u16,
        /// Nothing typed reaches the agent.
        read_only: bool,
    },
}

/// How long clients may take to read their last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// A socket that is listened on for as long as the runtime lives.
#[derive(Debug)]
pub(super) struct Server {
    /// Takes connections.
    accepting: JoinHandle<()>,
    /// Ends when no request is under way.
    answered: mpsc::Receiver<()>,
}

impl Server {
    /// Takes no more connections and waits until every answer that was given has been written. Without that a process
    /// that ends right after it answered would leave its clients with a closed connection.
    pub(super) async fn close(&mut self) {
        self.accepting.abort();
        tokio::time::timeout(LAST_ANSWERS, self.answered.recv()).await.ok();
    }
}

/// Listens on `socket`. A stale socket file is replaced: the caller holds the supervisor lock, so nobody listens on it.
pub(super) fn listen(socket: &Path, calls: mpsc::Sender<Call>) -> Result<Server, FileError> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(FileError::on("replace the socket", socket)(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(socket).map_err(FileError::on("listen on", socket))?;
    let (under_way, answered) = mpsc::channel(1);
    let accepting = tokio::spawn(async move {
        // Accept fails for want of descriptors only; the next round tries again.
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(serve(stream, calls.clone(), under_way.downgrade()));
                }
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    Ok(Server { accepting, answered })
}

/// Serves one connection until it closes or becomes a terminal. Each request holds `under_way` until its answer is
/// written.
async fn serve(stream: UnixStream, calls: mpsc::Sender<Call>, under_way: mpsc::WeakSender<()>) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        match stream.read_until(b'\n', &mut line).await {
            Ok(count) if count > 0 => {}
            _ => return,
        }
        let _answering = under_way.upgrade();
        let reply = match serde_json::from_slice(&line) {
            Ok(Request::Attach { columns, rows, read_only }) => {
                if write_reply(&mut stream, &Reply::Ok).await.is_ok() {
                    let ahead = stream.buffer().to_vec();
                    let call = Call::Attach { stream: stream.into_inner(), ahead, columns, rows, read_only };
                    calls.send(call).await.ok();
                }
                return;
            }
            Ok(request) => {
                let (answer, reply) = oneshot::channel();
                if calls.send(Call::Ask { request, answer }).await.is_err() {
                    return;
                }
                reply.await.unwrap_or(Reply::Ending)
            }
            Err(error) => Reply::Refused { why: format!("the request is not understood: {error}") },
        };
        if write_reply(&mut stream, &reply).await.is_err() {
            return;
        }
    }
}

/// Writes one reply line.
async fn write_reply(stream: &mut BufReader<UnixStream>, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    stream.write_all(&line).await
}
