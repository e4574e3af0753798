//! The rules of the coordinator.

pub(crate) mod crash_loop;
pub(crate) mod pace;
pub(crate) mod stuck;
