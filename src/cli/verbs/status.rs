//! `swarm status` and `swarm why`.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::Duration;

use serde::Serialize;

use crate::cli::Context;
use crate::cli::args::{StatusArgs, WorkerArgs};
use crate::cli::output::{Output, Style, Table, cut, last_lines, one_line, paragraph, width};
use crate::coordinator::Failure;
use crate::coordinator::views::{CoordinatorState, NodeState, NodeView, PullState, StatusView, WhyView, WorkerView};
use crate::model::health::Pace;
use crate::model::ticket::TicketState;
use crate::model::worker::{Evidence, Status};
use crate::model::{Time, ago_text, counted, short_age};

/// How often `--watch` draws anew.
const REDRAW_EVERY: Duration = Duration::from_secs(1);

/// Tickets that do not move of which `status` says why.
const HOLDS_SHOWN: usize = 10;

/// Runs `status`.
pub(super) fn run(args: &StatusArgs, context: &Context) -> Result<(), Failure> {
    let control = context.control()?;
    if !args.watch {
        let view = control.status(&args.workers, args.all)?;
        return show(&view, context);
    }
    follow(context, || control.status(&args.workers, args.all), render)
}

/// Shows a view anew every second until the person stops it: in place on a terminal, as one JSON line each with
/// `--json`, else one text after the other.
pub(super) fn follow<V: Serialize>(
    context: &Context,
    look: impl Fn() -> Result<V, Failure>,
    render: impl Fn(&V, &Output) -> String,
) -> Result<(), Failure> {
    let in_place = std::io::stdout().is_terminal() && !context.output.json;
    loop {
        let view = look()?;
        if in_place {
            redraw(&render(&view, &context.output), context)?;
        } else if context.output.json {
            context.output.record(&view)?;
        } else {
            context.output.print(&render(&view, &context.output))?;
        }
        std::thread::sleep(REDRAW_EVERY);
    }
}

/// Prints one status.
fn show(view: &StatusView, context: &Context) -> Result<(), Failure> {
    if context.output.json {
        context.output.document(view)
    } else {
        context.output.print(&render(view, &context.output))
    }
}

/// Draws over the last picture: home, each line cleared to its end, the rest cleared below.
fn redraw(text: &str, context: &Context) -> Result<(), Failure> {
    let rows = crate::terminal::terminal_size().map_or(24, |size| usize::from(size.rows));
    let text = context.output.visible(text);
    let lines: Vec<_> = text.lines().take(rows.saturating_sub(1)).collect();
    let mut picture = String::from("\x1b[H");
    for line in lines {
        write!(picture, "{line}\x1b[K\r\n").expect("a string takes all text");
    }
    picture.push_str("\x1b[J");
    context.output.print_bytes(picture.as_bytes())
}

/// The table a person reads.
fn render(view: &StatusView, output: &Output) -> String {
    if view.workers.is_empty() {
        let waiting = view.tickets.values().sum::<usize>();
        let tickets = if waiting > 0 { format!(" ({})", summary(view)) } else { String::new() };
        let more = format!("{}{}", paced(view, output), coordination(view, output));
        let text = paragraph(&format!("No workers{tickets}. {}", next_step(view)), 0);
        return format!("{text}\n{more}");
    }
    let mut text = table(view, output);
    text.push_str(&paced(view, output));
    writeln!(text, "\n{}", output.paint(Style::Dim, &summary(view))).expect("a string takes all text");
    text.push_str(&coordination(view, output));
    text
}

/// What a person does next who has no workers.
fn next_step(view: &StatusView) -> &'static str {
    let count = |state: TicketState| view.tickets.get(state.as_str()).copied().unwrap_or_default();
    let is_led = view.coordinator.as_ref().is_some_and(|coordinator| coordinator.leader.is_some());
    match count(TicketState::Open) + count(TicketState::Queued) + count(TicketState::Blocked) {
        _ if is_led => "The coordinator starts what it can: swarm queue list",
        0 => "Write a ticket: swarm ticket new ID",
        _ => "Start them: swarm run --all, or one: swarm spawn TICKET",
    }
}

/// Who leads, and what does not move.
fn coordination(view: &StatusView, output: &Output) -> String {
    let stale = view.queue.as_ref().and_then(|queue| queue.staleness(view.at));
    let mut text =
        stale.map(|stale| format!("{}\n", output.paint(Style::Yellow, &one_line(&stale)))).unwrap_or_default();
    text.push_str(&nodes(view, output));
    let Some(coordinator) = &view.coordinator else { return text };
    let style = if coordinator.state == CoordinatorState::Killed { Style::Yellow } else { Style::Dim };
    text.push_str(&format!("{}\n", output.paint(style, &one_line(&coordinator.text))));
    if let Some(scaled) = &view.scaled {
        text.push_str(&format!("{}\n", output.paint(Style::Dim, &one_line(&scaled.text))));
    }
    for hold in view.holds.iter().take(HOLDS_SHOWN) {
        writeln!(text, "`{}` {}", hold.ticket, one_line(&hold.why)).expect("a string takes all text");
    }
    if view.holds.len() > HOLDS_SHOWN {
        let more = view.holds.len() - HOLDS_SHOWN;
        writeln!(text, "and {more} more: swarm queue list").expect("a string takes all text");
    }
    text
}

/// The nodes, and what the others work on.
fn nodes(view: &StatusView, output: &Output) -> String {
    if view.nodes.is_empty() {
        return String::new();
    }
    let node = |node: &NodeView| match node.state {
        NodeState::Active => format!("{} ({} of {})", node.name, node.running, node.max_workers),
        state => format!("{} ({})", node.name, state.as_str()),
    };
    let names: Vec<_> = view.nodes.iter().map(node).collect();
    let mut text = format!("{}\n", output.paint(Style::Dim, &format!("Nodes: {}", names.join(", "))));
    for ticket in &view.elsewhere {
        writeln!(text, "`{}` is {} on node {}", ticket.ticket, ticket.state, ticket.node)
            .expect("a string takes all text");
    }
    text
}

/// A line for each model that wants to be left alone.
fn paced(view: &StatusView, output: &Output) -> String {
    let line = |pace: &Pace| format!("{}\n", output.paint(Style::Yellow, &one_line(&pace.clause())));
    let lines: String = view.paced.iter().map(line).collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

/// The workers as a table.
pub(super) fn table(view: &StatusView, output: &Output) -> String {
    let headings =
        ["WORKER", "AGENT", "BRANCH", "STATUS", "AGE", "TICKET", "CHANGES", "CALLS", "COST", "CHECKS", "WHY"];
    // A narrow terminal does without branch, agent, cost, calls, in this order.
    let mut table = Table::new(&headings, Some(headings.len() - 1)).optional(&[2, 1, 8, 7]);
    for worker in &view.workers {
        table.row(cells(worker, view.at));
    }
    table.render(output.color, width())
}

/// One row.
fn cells(worker: &WorkerView, now: Time) -> Vec<(Style, String)> {
    let plain = |text: String| (Style::Plain, text);
    let age = worker.since.map(|since| short_age(since.age_at(now))).unwrap_or_else(|| "-".to_owned());
    let state = worker.ticket_state.map_or("-", |state| state.as_str()).to_owned();
    let calls = worker.tool_calls.map_or("-".to_owned(), |calls| match worker.tool_errors {
        Some(errors) if errors > 0 => format!("{calls} ({errors} failed)"),
        _ => calls.to_string(),
    });
    vec![
        (Style::Bold, worker.id.clone()),
        plain(worker.agent.clone()),
        plain(worker.branch.clone()),
        (Style::of(worker.status), worker.status.as_str().to_owned()),
        plain(age),
        plain(state),
        plain(changes(worker)),
        plain(calls),
        plain(worker.cost_usd.map_or("-".to_owned(), |cost| format!("${cost:.2}"))),
        checks(worker),
        (Style::Dim, why(worker)),
    ]
}

/// Why the status holds, and where approved work waits.
fn why(worker: &WorkerView) -> String {
    let Some(pull) = &worker.pull_request else {
        return match worker.outside_scope.len() {
            0 => one_line(&worker.reason),
            count => one_line(&format!("{}; {} outside its scope", worker.reason, counted(count, "file"))),
        };
    };
    let checks = super::merge::checks_text(pull);
    let state = match pull.state {
        PullState::Open => "open",
        PullState::Merged => "merged",
        PullState::Closed => "closed",
    };
    one_line(&format!("pull request {} is {state} ({checks})", pull.url))
}

/// Commits and lines of a worker.
fn changes(worker: &WorkerView) -> String {
    let (Some(commits), Some(plus), Some(minus)) = (worker.commits, worker.insertions, worker.deletions) else {
        return "-".to_owned();
    };
    let dirty = if worker.dirty == Some(true) { "*" } else { "" };
    match (commits, plus, minus) {
        (0, 0, 0) => "none".to_owned(),
        _ => format!("{commits}c +{plus} -{minus}{dirty}"),
    }
}

/// The checks in a word.
fn checks(worker: &WorkerView) -> (Style, String) {
    if worker.checks.is_empty() {
        return (Style::Plain, "-".to_owned());
    }
    match worker.checks.iter().filter(|check| !check.passed).count() {
        0 => (Style::Green, "passed".to_owned()),
        failed => (Style::Red, format!("{failed} failed")),
    }
}

/// How many tickets are where, without the zeros.
fn summary(view: &StatusView) -> String {
    let order = crate::model::ticket::TicketState::ALL;
    let counted = order.iter().filter_map(|state| {
        let count = view.tickets.get(state.as_str()).copied().unwrap_or(0);
        (count > 0).then(|| format!("{count} {state}"))
    });
    let parts: Vec<_> = counted.collect();
    if parts.is_empty() { "no tickets in the queue".to_owned() } else { format!("tickets: {}", parts.join(", ")) }
}

/// Runs `why`.
pub(super) fn explain(args: &WorkerArgs, context: &Context) -> Result<(), Failure> {
    let view = context.control()?.why(&args.worker)?;
    if context.output.json {
        return context.output.document(&view);
    }
    if let Some(stale) = view.queue.as_ref().and_then(|queue| queue.staleness(view.at)) {
        context.output.warn(&stale);
    }
    let mut text = match (&view.worker, &view.ticket) {
        (Some(worker), _) => about_worker(worker, &view, context),
        (None, Some(ticket)) => {
            let why = ticket.hold.as_ref().map(|hold| format!(": it {}", one_line(&hold.why))).unwrap_or_default();
            format!("`{}` is {}{why}\n", ticket.id, ticket.state)
        }
        (None, None) => String::new(),
    };
    text.push_str("\nFacts\n");
    for fact in &view.facts {
        writeln!(text, "  {}", paragraph(&one_line(fact), 2)).expect("a string takes all text");
    }
    if let Some(worker) = &view.worker {
        text.push_str(&behind_worker(worker, view.at));
    }
    context.output.print(&text)
}

/// The status of a worker and since when.
fn about_worker(worker: &WorkerView, view: &WhyView, context: &Context) -> String {
    let status = context.output.paint(Style::of(worker.status), worker.status.as_str());
    let mut text = format!("`{}` is {status}: {}\n", worker.id, one_line(&worker.reason));
    if let Some(since) = worker.since.filter(|_| worker.status != Status::Unknown) {
        writeln!(text, "since {since} ({})", ago_text(since.age_at(view.at))).expect("a string takes all text");
    }
    text
}

/// Checks and evidence of a worker.
fn behind_worker(worker: &WorkerView, now: Time) -> String {
    let mut text = String::new();
    if !worker.checks.is_empty() {
        text.push_str("\nChecks\n");
    }
    for check in &worker.checks {
        writeln!(text, "  {}: {}", check.clause(), one_line(&check.run)).expect("a string takes all text");
        if !check.passed {
            text.push_str(&last_lines(&check.output_tail));
        }
    }
    if !worker.evidence.is_empty() {
        text.push_str("\nEvidence, strongest first\n");
        for evidence in &worker.evidence {
            text.push_str(&evidence_line(evidence, now));
        }
    }
    text
}

/// One piece of evidence.
fn evidence_line(evidence: &Evidence, now: Time) -> String {
    let source = serde_json::to_value(evidence.source).ok();
    let source = source.as_ref().and_then(|source| source.as_str()).unwrap_or_default();
    let age = match short_age(evidence.at.age_at(now)) {
        now if now == "now" => now,
        age => format!("{age} ago"),
    };
    format!("  {source:<11} {age:>9}  {}\n", cut(&one_line(&evidence.says), 100))
}
