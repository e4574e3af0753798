//! The line between a node and a server: a port of its own, behind which every byte passes through the test, which can
//! hold it, cut it, or let nobody through.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How often a thread looks whether its connection is cut.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Bytes on their way in one direction; the rest waits where it comes from.
const PIECE: usize = 1 << 16;

/// What goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Everything.
    Open,
    /// Nothing either way: it waits, and arrives when the line is open again.
    Held,
    /// Nothing to the server; what the server says arrives.
    HeldOut,
    /// Nothing from the server; what the node says arrives.
    HeldBack,
    /// Nobody: connections are reset, and new ones too.
    Cut,
}

impl Way {
    /// Whether bytes that go out, to the server, or come back, wait.
    fn holds(self, out: bool) -> bool {
        matches!((self, out), (Self::Held, _) | (Self::HeldOut, true) | (Self::HeldBack, false))
    }
}

/// A line; its connections end with it.
#[derive(Debug)]
pub(super) struct Line {
    /// The port on the node's side.
    port: u16,
    switch: Arc<Switch>,
}

/// What the threads of a line look at.
#[derive(Debug)]
struct Switch {
    setting: Mutex<Setting>,
    changed: Condvar,
}

/// How the line is set.
#[derive(Debug, Clone, Copy)]
struct Setting {
    way: Way,
    /// Connections of an earlier one are reset.
    epoch: u64,
    /// Whether the line is no longer needed.
    is_over: bool,
}

impl Line {
    /// A line to a port of this machine, whether or not somebody listens there.
    pub(super) fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let setting = Mutex::new(Setting { way: Way::Open, epoch: 0, is_over: false });
        let switch = Arc::new(Switch { setting, changed: Condvar::new() });
        let shared = switch.clone();
        std::thread::spawn(move || shared.accept(&listener, port));
        Self { port: own, switch }
    }

    /// Where the node connects.
    pub(super) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Sets what goes through. What waits is lost where connections are reset.
    pub(super) fn set(&self, way: Way, resets: bool) {
        let mut setting = self.switch.setting.lock().unwrap();
        setting.way = way;
        setting.epoch += u64::from(resets || way == Way::Cut);
        self.switch.changed.notify_all();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.switch.setting.lock().unwrap().is_over = true;
        self.switch.changed.notify_all();
        // Whoever waits for the next connection sees it then.
        TcpStream::connect(("127.0.0.1", self.port)).ok();
    }
}

impl Switch {
    /// How it is set now.
    fn now(&self) -> Setting {
        *self.setting.lock().unwrap()
    }

    /// Takes connections until the line is over.
    fn accept(self: Arc<Self>, listener: &TcpListener, port: u16) {
        for node in listener.incoming() {
            let Setting { way, epoch, is_over } = self.now();
            if is_over {
                return;
            }
            let (Ok(node), true) = (node, way != Way::Cut) else { continue };
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            for (from, to, out) in [(&node, &server, true), (&server, &node, false)] {
                let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                let switch = self.clone();
                std::thread::spawn(move || switch.pass(from, to, out, epoch));
            }
        }
    }

    /// Passes bytes on in one direction until either side ends or the connection is reset.
    fn pass(&self, mut from: TcpStream, mut to: TcpStream, out: bool, epoch: u64) {
        from.set_read_timeout(Some(LOOK_EVERY)).unwrap();
        to.set_nodelay(true).ok();
        let mut piece = vec![0; PIECE];
        while self.await_open(out, epoch) {
            let count = match from.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                Err(_) => break,
            };
            // It may have been held since.
            if !self.await_open(out, epoch) || to.write_all(&piece[..count]).is_err() {
                break;
            }
        }
        from.shutdown(Shutdown::Both).ok();
        to.shutdown(Shutdown::Both).ok();
    }

    /// Waits until bytes go through; false where the connection is reset.
    fn await_open(&self, out: bool, epoch: u64) -> bool {
        let mut setting = self.setting.lock().unwrap();
        loop {
            if setting.is_over || setting.epoch != epoch {
                return false;
            }
            if !setting.way.holds(out) {
                return true;
            }
            setting = self.changed.wait(setting).unwrap();
        }
    }
}
