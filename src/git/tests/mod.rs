//! Tests against the real git program, in temporary folders and away from the person's configuration.

mod add;
mod copy;
mod discover;
mod keep;
mod leftovers;
mod odd;
mod snapshot;
mod support;
