//! `swarm log`: what a ticket's landing rested on, and what led to it.

use std::fmt::Write as _;
use std::time::Duration;

use super::logs::event_text;
use crate::cli::Context;
use crate::cli::args::TicketShowArgs;
use crate::cli::output::{Output, Style, last_lines, one_line};
use crate::coordinator::Failure;
use crate::coordinator::views::{LandingEvidence, LogView};
use crate::landing::GateReport;
use crate::model::duration_text;

/// Runs the verb.
pub(super) fn run(args: &TicketShowArgs, context: &Context) -> Result<(), Failure> {
    let view = context.control()?.ticket_log(&args.ticket)?;
    if context.output.json {
        return context.output.document(&view);
    }
    context.output.print(&render(&view, &context.output))
}

/// The events, then each landing.
fn render(view: &LogView, output: &Output) -> String {
    let state = view.state.map_or("not in the queue", |state| state.as_str());
    let mut text = format!("{}  {state}\n", output.paint(Style::Bold, &view.ticket));
    for record in &view.events {
        let worker = record.worker.as_ref().filter(|worker| worker.as_str() != view.ticket);
        let worker = worker.map(|worker| format!("{worker}: ")).unwrap_or_default();
        line(
            &mut text,
            format_args!(
                "  {}  {worker}{}",
                output.paint(Style::Dim, &record.at.to_string()),
                event_text(&record.event)
            ),
        );
    }
    for landing in &view.landings {
        text.push('\n');
        evidence(&mut text, landing, output);
    }
    if view.landings.is_empty() {
        text.push_str("\nNot landed.\n");
    }
    text
}

/// One landing.
fn evidence(text: &mut String, landing: &LandingEvidence, output: &Output) {
    let title = format!("Landed as {} on {}", landing.commit.short(), landing.target);
    line(
        text,
        format_args!("{}  {}", output.paint(Style::Green, &title), output.paint(Style::Dim, &landing.at.to_string())),
    );
    line(text, format_args!("  worker    {}, its work {}", landing.worker, landing.work.short()));
    line(text, format_args!("  strategy  {}, on {}", landing.strategy.as_str(), landing.from.short()));
    line(text, format_args!("  tree      {}", landing.tree));
    if landing.tested.commit != landing.commit {
        let (tip, tree) = (landing.tested.commit.short(), &landing.tested.tree);
        line(text, format_args!("  tested    as part of the batch up to {tip}, tree {tree}"));
    }
    for approval in &landing.approvals {
        let said = if approval.text.trim().is_empty() {
            String::new()
        } else {
            format!(": {}", one_line(approval.text.trim()))
        };
        line(text, format_args!("  approved  by {} at {}{said}", approval.by, approval.commit.short()));
    }
    if landing.gates.is_empty() {
        line(text, format_args!("  gates     none"));
    }
    for gate in &landing.gates {
        line(text, format_args!("  gate      {}", gate_text(gate)));
        let shown = last_lines(&gate.output_tail);
        if !shown.trim().is_empty() {
            line(text, format_args!("{}", shown.trim_end()));
        }
    }
}

/// A gate in a line.
fn gate_text(gate: &GateReport) -> String {
    let word = if gate.passed { "passed" } else { "failed" };
    let took = duration_text(Duration::from_millis(gate.duration_ms));
    let tries = if gate.tries > 1 { format!(", try {}", gate.tries) } else { String::new() };
    let cached = if gate.cached { ", known from an earlier run on this tree" } else { "" };
    format!("{} {word} in {took}{tries}{cached}: {}", gate.name, one_line(&gate.run))
}

/// Appends a line.
fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    writeln!(text, "{what}").expect("a string takes all text");
}
