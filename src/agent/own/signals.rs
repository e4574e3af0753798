//! The signals that a loop's process takes over.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that matter to a loop.
pub(super) struct Signals {
    /// To end.
    pub(super) terminate: Signal,
    /// The terminal is gone.
    pub(super) hangup: Signal,
    /// To end the turn.
    pub(super) interrupt: Signal,
    /// The terminal has another size.
    pub(super) window: Signal,
}

impl Signals {
    /// Takes the signals over.
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            window: signal(SignalKind::window_change())?,
        })
    }
}
