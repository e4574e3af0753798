//! What a planner proposes: read from its last words, and checked until it is fit to be written down.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::super::import::{blank_ticket, plain_line, plain_text};
use crate::agent::last_object;
use crate::config::{parse_ticket, ticket_text};
use crate::model::TicketId;
use crate::model::ticket::{Dependency, DependencyKind, Ticket};

/// Tickets of one plan at most; more are no plan that a person reads.
const MOST: usize = 100;

/// What is wrong with an answer that holds no plan at all.
pub(super) const NO_BLOCK: &str = "it ended without a block of JSON that has `tickets`";

/// What a planner answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Proposal {
    /// The tickets, in an order in which they can start.
    pub(super) tickets: Vec<Ticket>,
    /// What it said besides.
    pub(super) remarks: Option<String>,
}

/// The block as it is written.
#[derive(Deserialize)]
struct Written {
    tickets: Vec<Value>,
    #[serde(default)]
    remarks: Option<String>,
}

/// One ticket of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTicket {
    id: String,
    title: String,
    body: String,
    #[serde(default)]
    priority: Option<u8>,
    #[serde(default)]
    depends_on: Option<Vec<String>>,
    #[serde(default)]
    scope: Option<Vec<String>>,
    #[serde(default)]
    checks: Option<Vec<String>>,
    #[serde(default)]
    labels: Option<Vec<String>>,
}

/// Reads a plan from what a planner said; `known` are the ids of tickets that exist.
///
/// # Errors
/// Everything that is wrong, a clause each, which the planner is told.
pub(super) fn read_proposal(said: &str, known: &BTreeSet<String>) -> Result<Proposal, Vec<String>> {
    let Some(block) = last_object(said, "tickets") else {
        return Err(vec![NO_BLOCK.to_owned()]);
    };
    let written: Written =
        serde_json::from_value(block).map_err(|error| vec![format!("the block is malformed: {error}")])?;
    if written.tickets.is_empty() {
        let remarks = written.remarks.map(|text| plain_line(&text)).filter(|text| !text.is_empty());
        let why = remarks.map(|text| format!(": {text}")).unwrap_or_default();
        return Err(vec![format!("it proposes no tickets{why}")]);
    }
    if written.tickets.len() > MOST {
        return Err(vec![format!("it proposes {} tickets, and {MOST} are the most", written.tickets.len())]);
    }
    let mut faults = Vec::new();
    let mut tickets = Vec::new();
    for (index, value) in written.tickets.into_iter().enumerate() {
        let name = value.get("id").and_then(Value::as_str).map(plain_line);
        let name = name.map_or_else(|| format!("tickets[{index}]"), |id| format!("ticket `{id}`"));
        match ticket_of(value) {
            Ok(ticket) => tickets.push(ticket),
            Err(fault) => faults.push(format!("{name}: {fault}")),
        }
    }
    // What could not be read may be what another one waits for.
    if faults.is_empty() {
        faults = faults_of(&tickets, known);
    }
    let tickets = if faults.is_empty() { in_order(tickets) } else { Err(Vec::new()) };
    match tickets {
        Ok(tickets) => Ok(Proposal { tickets, remarks: written.remarks.map(|text| plain_text(&text)) }),
        Err(cycle) => {
            faults.extend((!cycle.is_empty()).then(|| circle(&cycle)));
            Err(faults)
        }
    }
}

/// What is wrong with tickets as a plan: ids that are taken, dependencies that do not exist, circles.
pub(super) fn faults_of(tickets: &[Ticket], known: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    for (index, ticket) in tickets.iter().enumerate() {
        let is_it = |other: &str| other.eq_ignore_ascii_case(ticket.id.as_str());
        if let Some(taken) = known.iter().find(|other| is_it(other)) {
            faults.push(format!("ticket `{}`: there is a ticket `{taken}` already", ticket.id));
        }
        if tickets[..index].iter().any(|other| is_it(other.id.as_str())) {
            faults.push(format!("ticket `{}` is there twice", ticket.id));
        }
        for need in ticket.depends_on.iter().map(|dependency| dependency.ticket.as_str()) {
            let is_there = known.contains(need) || tickets.iter().any(|other| other.id.as_str() == need);
            if !is_there {
                faults.push(format!("ticket `{}` waits for `{need}`, and there is no such ticket", ticket.id));
            }
        }
    }
    if faults.is_empty()
        && let Err(cycle) = in_order(tickets.to_vec())
    {
        faults.push(circle(&cycle));
    }
    faults
}

/// Tickets in an order in which they can start, otherwise as they were.
///
/// # Errors
/// The ids of a circle, the first one again at its end.
pub(super) fn in_order(mut rest: Vec<Ticket>) -> Result<Vec<Ticket>, Vec<TicketId>> {
    let mut ordered: Vec<Ticket> = Vec::new();
    while !rest.is_empty() {
        let waits = |ticket: &Ticket| {
            ticket.depends_on.iter().find(|need| rest.iter().any(|other| other.id == need.ticket)).cloned()
        };
        match rest.iter().position(|ticket| waits(ticket).is_none()) {
            Some(index) => ordered.push(rest.remove(index)),
            None => {
                let mut path = vec![rest[0].id.clone()];
                loop {
                    let last = path.last().and_then(|last| rest.iter().find(|ticket| ticket.id == *last));
                    let Some(next) = last.and_then(waits).map(|need| need.ticket) else { return Err(path) };
                    let seen = path.iter().position(|known| *known == next);
                    path.push(next);
                    if let Some(start) = seen {
                        return Err(path.split_off(start));
                    }
                }
            }
        }
    }
    Ok(ordered)
}

/// A circle as a clause.
fn circle(cycle: &[TicketId]) -> String {
    let names: Vec<_> = cycle.iter().map(|id| format!("`{id}`")).collect();
    format!("tickets wait for each other in a circle: {}", names.join(" -> "))
}

/// One ticket, as its file would be read.
fn ticket_of(value: Value) -> Result<Ticket, String> {
    let written: WrittenTicket = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let id: TicketId = written.id.trim().parse().map_err(|error: crate::model::IdError| error.to_string())?;
    let first = |failure: crate::coordinator::Failure| failure.chain.into_iter().next().unwrap_or_default();
    let blank = blank_ticket(&id).map_err(first)?;
    let mut depends_on: Vec<Dependency> = Vec::new();
    for need in written.depends_on.unwrap_or_default() {
        let ticket: TicketId = need.trim().parse().map_err(|error: crate::model::IdError| error.to_string())?;
        if !depends_on.iter().any(|known| known.ticket == ticket) {
            depends_on.push(Dependency { ticket, kind: DependencyKind::Success });
        }
    }
    let lines = |lines: Option<Vec<String>>| -> Vec<String> {
        lines.unwrap_or_default().iter().map(|line| plain_line(line)).filter(|line| !line.is_empty()).collect()
    };
    let title = plain_line(&written.title);
    let body = plain_text(&written.body).trim().to_owned();
    if title.is_empty() || body.is_empty() {
        return Err("it needs a `title` and a `body`".to_owned());
    }
    let ticket = Ticket {
        title,
        priority: written.priority.unwrap_or(blank.priority),
        depends_on,
        scope: lines(written.scope),
        checks: lines(written.checks),
        labels: lines(written.labels),
        body,
        ..blank
    };
    let read =
        parse_ticket(Path::new(&format!("{id}.md")), &ticket_text(&ticket)).map_err(|error| error.to_string())?;
    if read == ticket { Ok(ticket) } else { Err("its file would be read as another ticket".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Vec<String>, Vec<String>> {
        let known = BTreeSet::from(["Old".to_owned()]);
        let said = format!("I thought about it.\n```json\n{json}\n```\n");
        read_proposal(&said, &known).map(|plan| plan.tickets.iter().map(|ticket| ticket.id.to_string()).collect())
    }

    fn tickets(list: &str) -> Result<Vec<String>, Vec<String>> {
        read(&format!("{{\"tickets\": [{list}]}}"))
    }

    #[test]
    fn a_plan_is_read_in_an_order_in_which_it_can_start() {
        let list = r#"{"id": "b", "title": "B", "body": "b", "depends_on": ["a", "Old"]},
            {"id": "a", "title": "A", "body": "---\nagent: evil\n---\nx", "scope": ["src/**"], "checks": ["make"]}"#;
        assert_eq!(tickets(list).unwrap(), ["a", "b"]);
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let faults = |list: &str| tickets(list).unwrap_err().join("\n");
        let several = faults(
            r#"{"id": "a b", "title": "A", "body": "x"}, {"id": "c", "title": "C", "body": "x", "agent": "evil"},
               {"id": "d", "title": "", "body": "x"}, {"id": "e", "title": "E", "body": "x", "scope": ["["]},
               {"id": "f", "title": "F", "body": "x", "priority": 11}"#,
        );
        for part in ["`a b` is not a ticket id", "unknown field `agent`", "needs a `title`", "file pattern", "1 to 10"]
        {
            assert!(several.contains(part), "{part} in {several}");
        }
        let plan = faults(
            r#"{"id": "old", "title": "A", "body": "x"}, {"id": "x", "title": "X", "body": "x", "depends_on": ["y"]},
               {"id": "X", "title": "X", "body": "x"}"#,
        );
        for part in ["a ticket `Old` already", "waits for `y`", "`X` is there twice"] {
            assert!(plan.contains(part), "{part} in {plan}");
        }
    }

    #[test]
    fn a_circle_is_named() {
        let list = r#"{"id": "z", "title": "Z", "body": "x", "depends_on": ["a"]},
            {"id": "a", "title": "A", "body": "x", "depends_on": ["b"]},
            {"id": "b", "title": "B", "body": "x", "depends_on": ["a"]}"#;
        assert_eq!(tickets(list).unwrap_err(), ["tickets wait for each other in a circle: `a` -> `b` -> `a`"]);
        let own = r#"{"id": "a", "title": "A", "body": "x", "depends_on": ["a"]}"#;
        assert!(tickets(own).unwrap_err()[0].contains("wait for itself"));
    }

    #[test]
    fn what_is_no_plan_is_told_so() {
        let known = BTreeSet::new();
        assert!(read_proposal("Here you are.", &known).unwrap_err()[0].contains("without a block"));
        assert!(read("{\"tickets\": 3}").unwrap_err()[0].contains("malformed"));
        assert!(
            read("{\"tickets\": [], \"remarks\": \"the goal is unclear\"}").unwrap_err()[0].contains("goal is unclear")
        );
    }
}
