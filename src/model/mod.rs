//! Plain types every other module shares, and the pure state machines over them.
//!
//! Nothing here touches the disk, a process, a clock other than [`Time::now`], or a terminal. A value that
//! exists is valid: ids are checked when they are made, states carry the data that proves them.

pub(crate) mod agent;
pub(crate) mod briefing;
pub(crate) mod budget;
mod causes;
pub(crate) mod coordination;
pub(crate) mod day;
pub(crate) mod event;
pub(crate) mod health;
mod id;
pub(crate) mod message;
pub(crate) mod node;
pub(crate) mod node_event;
pub(crate) mod preset;
pub(crate) mod providers;
pub(crate) mod queue;
pub(crate) mod scaling;
pub(crate) mod scope;
pub(crate) mod settings;
pub(crate) mod spend;
pub(crate) mod ticket;
mod time;
pub(crate) mod tool_call;
pub(crate) mod topology;
mod words;
pub(crate) mod worker;

pub(crate) use causes::{causes, error_text};
pub(crate) use id::{AgentName, BranchName, CommitId, IdError, NodeName, RunId, TicketId, WorkerId};
pub(crate) use time::{Time, ago_text, duration_text, parse_duration, parse_moment, serde_duration, short_age};
pub(crate) use words::{counted, cut, size_text, tildes_around};
