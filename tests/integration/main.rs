//! Integration tests: the real program against real git, tmux and agents.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod budget;
#[cfg(feature = "real-agents")]
mod budget_nodes;
#[cfg(feature = "real-agents")]
mod bundles;
mod bus;
mod capacity;
mod chaos;
mod ci;
#[cfg(feature = "real-agents")]
mod claude_cli;
#[cfg(feature = "real-agents")]
mod claude_worker;
mod contract;
mod copies;
mod demo;
mod events;
#[cfg(feature = "real-agents")]
mod failover;
mod finish;
#[cfg(feature = "real-agents")]
mod foreign;
mod health;
mod landing;
mod layering;
#[cfg(feature = "real-agents")]
mod migrate;
#[cfg(feature = "real-agents")]
mod nats;
#[cfg(feature = "real-agents")]
mod node_events;
#[cfg(feature = "real-agents")]
mod nodes;
mod own_loop;
mod plan;
mod processes;
mod pull_request;
#[cfg(feature = "real-agents")]
mod pull_request_nodes;
mod pull_request_run;
mod queue;
mod readme;
mod real_package;
mod recovery;
mod replay;
mod review;
mod run;
mod spawn;
mod stack;
mod status;
mod support;
mod terminal;
mod topology;
mod verbs;
mod why;
