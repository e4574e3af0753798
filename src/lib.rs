//! Runs coding agents on the tickets of a git repository, many at once.

pub mod cli;
mod files;
mod git;
mod landing;
mod model;
mod process;
mod queue;
mod store;
