//! `swarm queue`.

use std::time::Duration;

use super::act;
use crate::cli::Context;
use crate::cli::args::{QueueMigrateArgs, QueueVerb};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::{Style, Table, one_line, width};
use crate::coordinator::views::{QueueEntryView, QueueView};
use crate::coordinator::{Control, Failure, QueueFilter};
use crate::model::ticket::TicketState;
use crate::model::{counted, short_age};

/// Runs the verb.
pub(super) fn run(verb: &QueueVerb, context: &Context) -> Result<(), Failure> {
    let control = context.control()?;
    match verb {
        QueueVerb::List(args) => {
            let filter = if args.all { QueueFilter::All } else { QueueFilter::Open };
            show(&control.queue_view(filter)?, "The queue is empty", context)
        }
        QueueVerb::Dead => show(&control.queue_view(QueueFilter::Failed)?, "No ticket has failed", context),
        QueueVerb::Add(args) => act::show(control.queue_add(&args.tickets, args.all)?, context),
        QueueVerb::Retry(args) => act::show(control.queue_retry(&args.tickets)?, context),
        QueueVerb::Migrate(args) => migrate(&control, args, context),
        QueueVerb::Serve => serve(&control, context),
        QueueVerb::Client => context.output.print_bytes(CLIENT.as_bytes()),
        QueueVerb::Cancel(args) => act::show(control.queue_cancel(&args.tickets)?, context),
    }
}

/// The client for Python.
const CLIENT: &str = include_str!("../../../templates/clients/swarm_client.py");
/// How often it is looked whether it should end.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Answers other programs until somebody ends it.
fn serve(control: &Control, context: &Context) -> Result<(), Failure> {
    let interrupt = Interrupt::listen()?;
    let (gateway, served) = control.queue_serve()?;
    if context.output.json {
        context.output.record(&served)?;
    } else {
        context.output.line(&format!("Answering at {}, subjects {}.>", served.address, served.prefix))?;
        context.output.narrate("Ctrl-C ends it; it starts no agent.");
    }
    while !interrupt.is_set() {
        std::thread::sleep(LOOK_EVERY);
    }
    drop(gateway);
    Ok(())
}

/// Moves the tickets.
fn migrate(control: &Control, args: &QueueMigrateArgs, context: &Context) -> Result<(), Failure> {
    let view = control.queue_migrate(&args.to, args.dry_run)?;
    if context.output.json {
        return context.output.document(&view);
    }
    for ticket in &view.tickets {
        context.output.line(&format!(
            "{} {}",
            ticket.ticket,
            context.output.paint(Style::Dim, ticket.state.as_str())
        ))?;
    }
    let what = if view.moved { "Moved" } else { "Would move" };
    let count = counted(view.tickets.len(), "ticket");
    context.output.line(&format!("{what} {count} from {} to {}", view.from, view.to))?;
    if view.moved && !control.names_queue(&args.to) {
        context.output.narrate(&format!("hint: set `queue: {}` in .swarm/config.yaml", args.to));
    }
    Ok(())
}

/// Prints a list of tickets.
fn show(view: &QueueView, when_empty: &str, context: &Context) -> Result<(), Failure> {
    if context.output.json {
        return context.output.document(view);
    }
    if let Some(stale) = view.queue.as_ref().and_then(|queue| queue.staleness(view.at)) {
        context.output.warn(&stale);
    }
    if view.tickets.is_empty() {
        return context.output.line(when_empty);
    }
    let headings = ["TICKET", "STATE", "PRIORITY", "ATTEMPTS", "AGE", "WHY", "TITLE"];
    // A narrow terminal does without title, priority, attempts, in this order.
    let mut table = Table::new(&headings, Some(headings.len() - 2)).optional(&[6, 2, 3]);
    for entry in &view.tickets {
        let plain = |text: String| (Style::Plain, text);
        table.row(vec![
            (Style::Bold, entry.ticket.clone()),
            (style(entry.state), entry.state.to_string()),
            plain(entry.priority.to_string()),
            plain(format!("{} of {}", entry.attempts, entry.max_attempts)),
            plain(short_age(entry.changed_at.age_at(view.at))),
            (Style::Dim, why(entry, view)),
            plain(one_line(&entry.title)),
        ]);
    }
    context.output.print(&table.render(context.output.color, width()))
}

/// How a state looks.
fn style(state: TicketState) -> Style {
    match state {
        TicketState::Running | TicketState::Landing => Style::Cyan,
        TicketState::Landed | TicketState::Done => Style::Green,
        TicketState::Review | TicketState::Approved | TicketState::WaitingApproval => Style::Yellow,
        TicketState::Failed | TicketState::Dead | TicketState::Lost => Style::Red,
        _ => Style::Plain,
    }
}

/// Why a ticket does not move, and until when.
fn why(entry: &QueueEntryView, view: &QueueView) -> String {
    let nobody = || match entry.state {
        TicketState::Queued if view.leader.is_none() => "nobody starts it: swarm run, or swarm up".to_owned(),
        _ => String::new(),
    };
    let why = entry.why.as_deref().map_or_else(nobody, one_line);
    match entry.until.filter(|until| *until > view.at) {
        Some(until) => format!("{why} (for {})", short_age(view.at.age_at(until))),
        None => why,
    }
}
