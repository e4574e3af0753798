//! Runs coding agents on the tickets of a git repository, many at once.

mod agent;
pub mod cli;
mod config;
mod coordinator;
mod files;
mod git;
mod landing;
mod llm;
mod model;
mod process;
mod queue;
mod store;
mod supervisor;
mod terminal;

/// What `benches/` measures; not an interface.
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod bench_internals {
    pub use crate::agent::{LoopTimes, measure_loop};
    pub use crate::coordinator::bench::{ManyWorkers, Waiting};
    pub use crate::landing::bench::{BundleWay, ReadyWork};
    pub use crate::queue::bench::{GatewayBench, QueueBench};
}
