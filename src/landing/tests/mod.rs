//! Landing against real git, a real store and the file queue.

mod batch;
mod clean;
mod gates;
mod landing;
mod pull_request;
mod queue;
mod radar;
mod release;
mod resume;
mod review;
mod rewind;
mod stack;
mod support;
#[cfg(feature = "real-agents")]
mod sweep;
