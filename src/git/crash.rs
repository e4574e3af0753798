//! Lets tests end an operation at a named point as if its process had been killed there: nothing after the point
//! runs, no guard tidies up, only the kernel's locks are dropped. Or lets something else happen at that point.

use std::cell::{Cell, RefCell};

/// A point and what happens there.
type Meanwhile = (&'static str, Box<dyn FnOnce()>);

thread_local! {
    /// Where the next operation of this thread ends.
    static AT: Cell<Option<&'static str>> = const { Cell::new(None) };
    /// Whether it has ended there.
    static DEAD: Cell<bool> = const { Cell::new(false) };
    /// What happens at a point.
    static MEANWHILE: RefCell<Option<Meanwhile>> = const { RefCell::new(None) };
}

/// Does something once, when this thread reaches `point`.
pub(crate) fn meanwhile(point: &'static str, happens: impl FnOnce() + 'static) {
    MEANWHILE.set(Some((point, Box::new(happens))));
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
    let is_here = MEANWHILE.with_borrow(|meanwhile| meanwhile.as_ref().is_some_and(|(at, _)| *at == point));
    if is_here && let Some((_, happens)) = MEANWHILE.take() {
        happens();
    }
    if AT.get() == Some(point) {
        DEAD.set(true);
    }
    DEAD.get()
}
