//! Ctrl-C as a fact that a loop can ask for, where leaving at once would leave something behind.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use rustix::process::{Signal, getpid, kill_process};

use super::Context;
use crate::coordinator::{Failure, FailureKind};

/// Whether the person pressed Ctrl-C or the program was asked to end.
#[derive(Debug, Clone)]
pub(super) struct Interrupt {
    /// The signal; 0 before there was one.
    signal: Arc<AtomicI32>,
    /// Whether there was one.
    flag: Arc<AtomicBool>,
}

impl Interrupt {
    /// Listens from now on, for the rest of the process.
    pub(super) fn listen() -> Result<Self, Failure> {
        Self::listen_for(false)
    }

    /// The same for a process in the background: a terminal that goes away does not end it.
    pub(super) fn listen_in_background() -> Result<Self, Failure> {
        let flag = Self::listen_for(true)?;
        // Once somebody listens for it, the signal does not end the process any more, whether anybody goes on listening
        // or not.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::from_error(FailureKind::Internal, &error))?;
        runtime
            .block_on(async { tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).map(drop) })
            .ok();
        Ok(flag)
    }

    /// The same for what may take long to end in good order: asked a second time, the process ends at once, as if it had
    /// been killed.
    pub(super) fn listen_twice() -> Result<Self, Failure> {
        Self::listen_for(true)
    }

    /// Listens; whether a second time ends the process.
    fn listen_for(ends_at_second: bool) -> Result<Self, Failure> {
        let flag = Self { signal: Arc::default(), flag: Arc::default() };
        let heard = flag.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::from_error(FailureKind::Internal, &error))?;
        // From here on, and not only when the thread gets its turn, no such signal ends the process.
        let signals = runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            Ok::<_, std::io::Error>((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
        });
        let (mut interrupt, mut terminate) =
            signals.map_err(|error| Failure::from_error(FailureKind::Internal, &error))?;
        std::thread::spawn(move || {
            runtime.block_on(async {
                loop {
                    let signal = tokio::select! { _ = interrupt.recv() => 2, _ = terminate.recv() => 15 };
                    heard.flag.store(true, Ordering::SeqCst);
                    if heard.signal.swap(signal, Ordering::Relaxed) != 0 && ends_at_second {
                        kill_process(getpid(), Signal::KILL).ok();
                    }
                }
            });
        });
        Ok(flag)
    }

    /// Whether it happened.
    pub(super) fn is_set(&self) -> bool {
        self.signal().is_some()
    }

    /// What is set when it happens, for those who know nothing of signals.
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        self.flag.clone()
    }

    /// The exit code of what may have been interrupted: that of the signal, and why there is no answer is told all the same.
    pub(super) fn exit(&self, result: Result<(), Failure>, context: &Context) -> Result<ExitCode, Failure> {
        match (self.signal(), result) {
            (Some(signal), Err(failure)) => {
                context.output.failure(&failure);
                Ok(ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX)))
            }
            (_, result) => result.map(|()| ExitCode::SUCCESS),
        }
    }

    /// The signal by which it happened.
    pub(super) fn signal(&self) -> Option<i32> {
        Some(self.signal.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
    }
}
