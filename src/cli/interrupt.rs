//! Ctrl-C as a fact that a loop can ask for, where leaving at once would leave something behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::coordinator::{Failure, FailureKind};

/// Whether the person pressed Ctrl-C or the program was asked to end.
#[derive(Debug, Clone)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on, for the rest of the process.
    pub(super) fn listen() -> Result<Self, Failure> {
        let flag = Self(Arc::default());
        let heard = flag.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::from_error(FailureKind::Internal, &error))?;
        std::thread::spawn(move || {
            runtime.block_on(async {
                use tokio::signal::unix::{SignalKind, signal};
                if let (Ok(mut interrupt), Ok(mut terminate)) =
                    (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
                {
                    tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                    heard.0.store(true, Ordering::Relaxed);
                }
            });
        });
        Ok(flag)
    }

    /// Whether it happened.
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
