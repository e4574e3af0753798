//! Tests against the real git program, in temporary folders and away from the person's configuration.

mod add;
mod bundle;
mod content;
mod copy;
mod dead_locks;
mod discover;
mod keep;
mod leftovers;
mod odd;
mod pristine;
mod rewind;
mod snapshot;
mod support;
