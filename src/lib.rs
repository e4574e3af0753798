//! Runs coding agents on the tickets of a git repository, many at once.

pub mod cli;
mod files;
mod git;
mod landing;
mod model;
mod process;
mod queue;
mod store;

/// What `benches/` measures; not an interface.
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod bench_internals {
    pub use crate::queue::bench::QueueBench;
}
