//! Who sees the agent's terminal: the tmux pane and any number of attached clients, all alike.
//!
//! A viewer that does not read is skipped over and repainted when it reads again; it never slows the agent down.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::protocol::Frame;
use crate::terminal::{RawMode, Size};

/// Chunks of output that may wait for one viewer.
const BACKLOG: usize = 64;

/// Something a viewer did.
#[derive(Debug)]
pub(super) enum Seen {
    /// It typed.
    Input(u64, Vec<u8>),
    /// Its terminal has another size.
    Resize(u64, Size),
    /// It went away.
    Gone(u64),
}

/// All who see the terminal.
#[derive(Debug)]
pub(super) struct Viewers {
    /// Present viewers.
    all: Vec<Viewer>,
    /// Number for the next one.
    next: u64,
    /// What they do.
    seen: mpsc::Sender<Seen>,
}

/// One viewer.
#[derive(Debug)]
struct Viewer {
    /// Its number.
    id: u64,
    /// Its output.
    output: mpsc::Sender<Arc<[u8]>>,
    /// Whether it missed output and must be repainted.
    is_behind: bool,
    /// Whether what it types is dropped.
    read_only: bool,
}

impl Viewers {
    /// Nobody yet; what viewers do goes to `seen`.
    pub(super) fn new(seen: mpsc::Sender<Seen>) -> Self {
        Self { all: Vec::new(), next: 0, seen }
    }

    /// Registers a viewer and gives its number and the receiving end of its output.
    fn add(&mut self, read_only: bool) -> (u64, mpsc::Receiver<Arc<[u8]>>) {
        let (output, receiver) = mpsc::channel(BACKLOG);
        self.next += 1;
        self.all.push(Viewer { id: self.next, output, is_behind: true, read_only });
        (self.next, receiver)
    }

    /// Takes our own controlling terminal, which is the tmux pane, as a viewer; its present size comes back.
    /// `None` when there is none.
    pub(super) fn add_pane(&mut self) -> Option<(Pane, Size)> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
        let tty = options.open("/dev/tty").ok()?;
        let mode = RawMode::enter(&tty).ok()?;
        let size = window_size(&tty)?;
        let tty = Arc::new(watch(tty)?);
        let (id, output) = self.add(false);
        tokio::spawn(read_pane(id, tty.clone(), self.seen.clone()));
        tokio::spawn(write_pane(tty.clone(), output));
        Some((Pane { id, tty, _mode: mode }, size))
    }

    /// Takes a connected client as a viewer.
    pub(super) fn add_client(&mut self, stream: UnixStream, ahead: Vec<u8>, read_only: bool) -> u64 {
        let (reader, writer) = stream.into_split();
        let (id, output) = self.add(read_only);
        tokio::spawn(read_client(id, reader, ahead, self.seen.clone()));
        tokio::spawn(write_client(writer, output));
        id
    }

    /// Forgets a viewer.
    pub(super) fn remove(&mut self, id: u64) {
        self.all.retain(|viewer| viewer.id != id);
    }

    /// Whether what that viewer types reaches the agent.
    pub(super) fn may_type(&self, id: u64) -> bool {
        self.all.iter().any(|viewer| viewer.id == id && !viewer.read_only)
    }

    /// Whether anybody needs a repaint before the next output.
    pub(super) fn wants_repaint(&self) -> bool {
        self.all.iter().any(|viewer| viewer.is_behind && viewer.output.capacity() > 0)
    }

    /// Gives everybody who is behind the whole picture.
    pub(super) fn repaint(&mut self, picture: &[u8]) {
        let picture: Arc<[u8]> = picture.into();
        for viewer in self.all.iter_mut().filter(|viewer| viewer.is_behind) {
            viewer.is_behind = viewer.output.try_send(picture.clone()).is_err();
        }
    }

    /// Gives everybody who is up to date the next output.
    pub(super) fn show(&mut self, bytes: &[u8]) {
        let bytes: Arc<[u8]> = bytes.into();
        for viewer in self.all.iter_mut().filter(|viewer| !viewer.is_behind) {
            viewer.is_behind = viewer.output.try_send(bytes.clone()).is_err();
        }
    }
}

/// The tmux pane this process runs in. Its terminal mode is restored when dropped.
#[derive(Debug)]
pub(super) struct Pane {
    /// Its number among the viewers.
    pub(super) id: u64,
    /// The terminal.
    tty: Arc<AsyncFd<File>>,
    /// Raw mode while this lives.
    _mode: RawMode,
}

impl Pane {
    /// Its size now.
    pub(super) fn size(&self) -> Option<Size> {
        window_size(self.tty.get_ref())
    }

    /// Writes a last word without waiting.
    pub(super) fn say_goodbye(&self, text: &str) {
        self.tty.get_ref().write_all(text.as_bytes()).ok();
    }
}

/// Hands our terminal to the runtime.
fn watch(tty: File) -> Option<AsyncFd<File>> {
    let both = Interest::READABLE | Interest::WRITABLE;
    #[expect(unsafe_code, reason = "an owned file stays open and the same until it is dropped with its watch")]
    let watched = unsafe { AsyncFd::register_with_interest(tty, both) };
    watched.ok()
}

/// The window size of a terminal.
fn window_size(tty: &File) -> Option<Size> {
    let size = rustix::termios::tcgetwinsize(tty).ok()?;
    Some(Size { columns: size.ws_col, rows: size.ws_row })
}

/// Reads what a person types into the pane.
async fn read_pane(id: u64, tty: Arc<AsyncFd<File>>, seen: mpsc::Sender<Seen>) {
    let mut buffer = [0; 4096];
    loop {
        let Ok(mut guard) = tty.readable().await else { break };
        match guard.try_io(|tty| tty.get_ref().read(&mut buffer)) {
            Ok(Ok(count)) if count > 0 => {
                if seen.send(Seen::Input(id, buffer[..count].to_vec())).await.is_err() {
                    return;
                }
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(_) => break,
            Err(_would_block) => {}
        }
    }
    seen.send(Seen::Gone(id)).await.ok();
}

/// Writes output to the pane.
async fn write_pane(tty: Arc<AsyncFd<File>>, mut output: mpsc::Receiver<Arc<[u8]>>) {
    while let Some(bytes) = output.recv().await {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let Ok(mut guard) = tty.writable().await else { return };
            match guard.try_io(|tty| tty.get_ref().write(rest)) {
                Ok(Ok(count)) => rest = &rest[count..],
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(_)) => return,
                Err(_would_block) => {}
            }
        }
    }
}

/// Reads frames of a client.
async fn read_client(id: u64, mut reader: OwnedReadHalf, mut buffer: Vec<u8>, seen: mpsc::Sender<Seen>) {
    'connection: loop {
        loop {
            let event = match Frame::take(&mut buffer) {
                Ok(Some(Frame::Input(bytes))) => Seen::Input(id, bytes),
                Ok(Some(Frame::Resize { columns, rows })) => Seen::Resize(id, Size { columns, rows }),
                Ok(None) => break,
                Err(_) => break 'connection,
            };
            if seen.send(event).await.is_err() {
                return;
            }
        }
        match reader.read_buf(&mut buffer).await {
            Ok(count) if count > 0 => {}
            _ => break,
        }
    }
    seen.send(Seen::Gone(id)).await.ok();
}

/// Writes output to a client.
async fn write_client(mut writer: OwnedWriteHalf, mut output: mpsc::Receiver<Arc<[u8]>>) {
    while let Some(bytes) = output.recv().await {
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
