//! One connection to a server, for callers that block.

use std::future::Future;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Drives a connection on a thread of its own, so that callers may block on it wherever they are.
#[derive(Debug)]
pub(super) struct Driver {
    /// Where its futures run.
    handle: Handle,
    /// Ends the thread when dropped.
    end: Option<oneshot::Sender<()>>,
    /// The thread.
    thread: Option<JoinHandle<()>>,
}

impl Driver {
    /// Starts the thread.
    ///
    /// # Errors
    /// Those of the system when it has no more threads or files.
    pub(super) fn start() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let drive = move || {
            // Either way of ending means that nobody calls any more.
            let _ended = runtime.block_on(ended);
        };
        let thread = std::thread::Builder::new().name("nats".to_owned()).spawn(drive)?;
        Ok(Self { handle, end: Some(end), thread: Some(thread) })
    }

    /// Runs a future to its end and blocks for it. `None` when the thread ended under it.
    pub(super) fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.handle.spawn(async move {
            // Nobody listens any more only when the caller is gone.
            let _gone = sender.send(future.await);
        });
        receiver.recv().ok()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _panicked = thread.join();
        }
    }
}
