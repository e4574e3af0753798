//! Answers for the shell while a person types: ids of what is there. Whatever goes wrong is no candidate.

use std::ffi::OsStr;

use clap_complete::engine::CompletionCandidate;

use crate::config;
use crate::coordinator::{Call, Control};
use crate::model::message::Channel;

/// The repository around the shell's folder.
fn control() -> Option<Control> {
    let directory = std::env::current_dir().ok()?;
    let program = std::env::current_exe().ok()?;
    let call = Call { directory, overrides: Vec::new(), environment: config::environment(), program };
    Control::open(call, false).ok()
}

/// Names that begin with what was typed, with a description each.
fn candidates(current: &OsStr, all: impl IntoIterator<Item = (String, String)>) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    let fitting = all.into_iter().filter(|(name, _)| name.starts_with(current));
    fitting.map(|(name, help)| CompletionCandidate::new(name).help(Some(help.into()))).collect()
}

/// Workers that are not released.
pub(super) fn workers(current: &OsStr) -> Vec<CompletionCandidate> {
    let status = control().and_then(|control| control.status(&[], false).ok());
    let workers = status.into_iter().flat_map(|status| status.workers);
    candidates(current, workers.map(|worker| (worker.id, format!("{}: {}", worker.status.as_str(), worker.title))))
}

/// Tickets.
pub(super) fn tickets(current: &OsStr) -> Vec<CompletionCandidate> {
    let view = control().and_then(|control| control.tickets().ok());
    let tickets = view.into_iter().flat_map(|view| view.tickets);
    candidates(current, tickets.map(|ticket| (ticket.id, ticket.title)))
}

/// Channels.
pub(super) fn channels(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(current, Channel::ALL.iter().map(|channel| (channel.to_string(), channel.about().to_owned())))
}

/// Agents.
pub(super) fn agents(current: &OsStr) -> Vec<CompletionCandidate> {
    let view = control().and_then(|control| control.agents().ok());
    let agents = view.into_iter().flat_map(|view| view.agents);
    candidates(current, agents.map(|agent| (agent.name, agent.description)))
}

/// Workers of which work is kept.
pub(super) fn kept(current: &OsStr) -> Vec<CompletionCandidate> {
    let view = control().and_then(|control| control.kept().ok());
    let kept = view.into_iter().flat_map(|view| view.kept);
    candidates(current, kept.map(|kept| (kept.reference, kept.reason)))
}
