//! Looks at a play while it goes on: what the queue says, and whether work goes on after a fault.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::backlog::marks;
use super::field::{Field, Mended, Node};

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// States to which only work on a ticket leads.
const BEYOND: [&str; 5] = ["review", "approved", "landing", "landed", "done"];

/// By ticket its state, when that changed, and what keeps it.
pub(super) type States = BTreeMap<String, (String, String, String)>;

/// What has to go on after a fault.
#[derive(Debug)]
pub(super) struct Awaited {
    /// When it fell.
    pub(super) began: Instant,
    /// Tickets whose work was hit.
    pub(super) tickets: Vec<String>,
    /// What has to be back first, and the nodes whose coordinators are to be heard from then on.
    pub(super) heard: Option<(Mended, Vec<usize>)>,
}

impl Awaited {
    /// That work on tickets goes on.
    pub(super) fn work(began: Instant, tickets: Vec<String>) -> Self {
        Self { began, tickets, heard: None }
    }
}

/// What a node knows of all tickets; `None` where it does not answer.
pub(super) fn states(node: &Node) -> Option<States> {
    let list = node.ask(&["queue", "list", "--all", "--json"])?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let state = |entry: &Value| {
        let state = (text(&entry["state"]), text(&entry["changed_at"]), text(&entry["why"]));
        (text(&entry["ticket"]), state)
    };
    Some(list["tickets"].as_array()?.iter().map(state).collect())
}

/// Whether the coordinators of nodes said something within this time, as the first node that is well sees it.
fn are_heard(field: &Field, nodes: &[usize], within: Duration) -> bool {
    let list = field.well().and_then(|node| node.ask(&["node", "list", "--json"]));
    let list = list.as_ref().and_then(|list| list["nodes"].as_array()).cloned().unwrap_or_default();
    let is_heard = |at: &usize| {
        let node = list.iter().find(|node| node["name"] == field.nodes[*at].name);
        node.and_then(|node| node["heard_ms"].as_u64()).is_some_and(|age| u128::from(age) < within.as_millis())
    };
    nodes.iter().filter(|at| field.nodes[**at].is_well()).all(is_heard)
}

/// Waits until work goes on, and puts right meanwhile what is due; how long it took, `None` where nothing was hit. Where it
/// took longer than `long`, where the tickets were then is added to `told`.
pub(super) fn await_work(
    field: &mut Field,
    awaited: &Awaited,
    before: (usize, &States),
    (long, within): (Duration, Duration),
    told: &mut Option<String>,
) -> Result<Option<Duration>, String> {
    let mut missing: BTreeSet<&str> = awaited.tickets.iter().map(String::as_str).collect();
    let has_work = !missing.is_empty();
    let mut since = awaited.heard.is_none().then_some(awaited.began);
    loop {
        field.tend();
        if let (None, Some((what, _))) = (since, &awaited.heard) {
            since = (!field.awaits(*what)).then(Instant::now);
        }
        let new: BTreeSet<_> = marks(&field.ground).into_iter().skip(before.0).map(|mark| mark.ticket).collect();
        missing.retain(|ticket| !new.contains(*ticket));
        if let Some(now) = field.well().filter(|_| !missing.is_empty()).and_then(states) {
            let is_new = |ticket: &str| {
                let Some((state, at, why)) = now.get(ticket) else { return false };
                let is_as = |old: &(String, String, String)| (&old.0, &old.1) == (state, at);
                let is_beyond = BEYOND.contains(&state.as_str()) && !before.1.get(ticket).is_some_and(is_as);
                // Somebody would go on with it, and works on as much else as they may.
                is_beyond || why.starts_with("waits for a place")
            };
            missing.retain(|ticket| !is_new(ticket));
            if told.is_none() && since.is_some_and(|since| since.elapsed() > long) && !missing.is_empty() {
                let at: Vec<_> = missing.iter().map(|ticket| (ticket, now.get(*ticket))).collect();
                *told = Some(format!("after {long:.0?} these had not gone on: {at:?}"));
            }
        }
        if let Some(since) = since.filter(|_| missing.is_empty()) {
            match &awaited.heard {
                None => return Ok(has_work.then(|| since.elapsed())),
                Some((_, nodes)) if are_heard(field, nodes, since.elapsed()) => return Ok(Some(since.elapsed())),
                Some(_) => {}
            }
        }
        if since.is_some_and(|since| since.elapsed() > within) {
            return Err(format!("after {within:?} nothing goes on: {missing:?}"));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
