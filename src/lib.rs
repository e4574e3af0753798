//! Runs coding agents on the tickets of a git repository, many at once.

mod agent;
pub mod cli;
mod files;
mod model;
mod process;
