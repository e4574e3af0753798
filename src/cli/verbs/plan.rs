//! `swarm plan`.

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use crate::cli::Context;
use crate::cli::args::{PlanArgs, PlanVerb, TextArgs};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::{Style, Table, one_line, width};
use crate::coordinator::views::PlanView;
use crate::coordinator::{Failure, PlanRequest};
use crate::model::budget::usd_text;

/// Runs the verb.
pub(super) fn run(args: &PlanArgs, context: &Context) -> Result<ExitCode, Failure> {
    match &args.verb {
        None => {
            // A planner has a process group of its own, and would outlive a command that just ends.
            let interrupt = Interrupt::listen_twice()?;
            return interrupt.exit(plan(args, &interrupt.flag(), context), context);
        }
        Some(PlanVerb::List) => list(context)?,
        Some(PlanVerb::Show(named)) => show(&named.plan, context)?,
        Some(PlanVerb::Approve(named)) => approve(&named.plan, context)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `plan show`.
fn show(name: &str, context: &Context) -> Result<(), Failure> {
    let view = context.control()?.show_plan(name)?;
    if context.output.json {
        return context.output.document(&view);
    }
    context.output.print(&table(&view, context))
}

/// `plan GOAL`.
fn plan(args: &PlanArgs, ends: &AtomicBool, context: &Context) -> Result<(), Failure> {
    let text = TextArgs { prompt: args.goal.clone(), file: args.file.clone() };
    let goal = super::spawn::text(&text, context)?.unwrap_or_default();
    let request = PlanRequest { goal, agent: args.agent.clone(), name: args.name.clone() };
    let view = context.control()?.plan(&request, ends)?;
    if context.output.json {
        return context.output.document(&view);
    }
    context.output.print(&table(&view, context))?;
    if let Some(remarks) = &view.remarks {
        context.output.print(&format!("\n{}\n", remarks.trim()))?;
    }
    if let Some(cost) = view.cost_usd.filter(|cost| *cost > 0.0) {
        context.output.narrate(&format!("The plan cost {}.", usd_text(cost)));
    }
    let name = &view.name;
    context.output.narrate(&format!(
        "Nothing runs yet: edit the files in .swarm/plans/{name}, then swarm plan approve {name} makes tickets of them."
    ));
    Ok(())
}

/// `plan list`.
fn list(context: &Context) -> Result<(), Failure> {
    let view = context.control()?.plans()?;
    if context.output.json {
        return context.output.document(&view);
    }
    if view.plans.is_empty() && view.failed.is_empty() {
        context.output.narrate("No plans wait for approval. swarm plan \"GOAL\" makes one.");
        return Ok(());
    }
    let mut text = Table::new(&["PLAN", "TICKETS", "FIRST"], Some(2));
    for plan in &view.plans {
        let first = plan.tickets.first().map(|ticket| one_line(&ticket.title)).unwrap_or_default();
        let cells = [(Style::Bold, plan.name.clone()), (Style::Plain, plan.tickets.len().to_string())];
        text.row(cells.into_iter().chain([(Style::Plain, first)]));
    }
    context.output.print(&text.render(context.output.color, width()))?;
    for failed in &view.failed {
        context.output.warn(&format!("plan `{}` cannot be used: {}", failed.subject, failed.error));
    }
    Ok(())
}

/// `plan approve`.
fn approve(name: &str, context: &Context) -> Result<(), Failure> {
    let view = context.control()?.approve_plan(name)?;
    if context.output.json {
        return context.output.document(&view);
    }
    for ticket in &view.tickets {
        context.output.line(&format!("Wrote ticket `{}`: {}", ticket.id, one_line(&ticket.title)))?;
    }
    let names: Vec<_> = view.tickets.iter().map(|ticket| ticket.id.as_str()).collect();
    context.output.narrate(&format!("swarm run {} works on them", names.join(" ")));
    Ok(())
}

/// A plan as a table.
fn table(view: &PlanView, context: &Context) -> String {
    let mut table = Table::new(&["TICKET", "PRIO", "WAITS FOR", "SCOPE", "TITLE"], Some(4)).optional(&[3, 1]);
    let joined = |words: &[String]| if words.is_empty() { "-".to_owned() } else { words.join(", ") };
    for ticket in &view.tickets {
        table.row([
            (Style::Bold, ticket.id.clone()),
            (Style::Plain, ticket.priority.to_string()),
            (Style::Plain, joined(&ticket.depends_on)),
            (Style::Plain, joined(&ticket.scope)),
            (Style::Plain, one_line(&ticket.title)),
        ]);
    }
    table.render(context.output.color, width())
}
