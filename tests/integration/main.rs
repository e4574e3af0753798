//! Integration tests: the real program against real git, tmux and agents.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod claude_cli;
mod claude_worker;
mod landing;
mod layering;
mod licences;
mod spawn;
mod support;
mod verbs;
