//! Lets tests end an operation at a named point as if its process had been killed there: nothing after the point
//! runs, no guard tidies up, only the kernel's locks are dropped.

use std::cell::Cell;

thread_local! {
    /// Where the next operation of this thread ends.
    static AT: Cell<Option<&'static str>> = const { Cell::new(None) };
    /// Whether it has ended there.
    static DEAD: Cell<bool> = const { Cell::new(false) };
}

/// Ends the next operation of this thread at `point`.
pub(crate) fn arm(point: &'static str) {
    AT.set(Some(point));
    DEAD.set(false);
}

/// Lets this thread live again; whether the armed point was reached.
pub(crate) fn revive() -> bool {
    AT.set(None);
    DEAD.replace(false)
}

/// Whether guards must leave everything as it is.
pub(crate) fn is_dead() -> bool {
    DEAD.get()
}

/// Whether the operation ends at `point`.
pub(crate) fn is_reached(point: &str) -> bool {
    if AT.get() == Some(point) {
        DEAD.set(true);
    }
    DEAD.get()
}
