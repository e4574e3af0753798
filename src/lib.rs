//! Runs coding agents on the tickets of a git repository, many at once.

mod agent;
pub mod cli;
mod config;
mod coordinator;
mod files;
mod git;
mod model;
mod process;
mod queue;
mod store;
mod supervisor;
mod terminal;
