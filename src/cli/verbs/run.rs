//! `swarm run`.

mod artifacts;
mod cases;
mod ci;
mod follow;
mod github;
mod junit;
mod report;

use std::io::IsTerminal;

use crate::cli::Context;
use crate::cli::args::RunArgs;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::{Output, one_line};
use crate::coordinator::views::{RunTicketView, RunView};
use crate::coordinator::{Control, Failure, FailureKind, News, RunFace, RunRequest};
use crate::model::ticket::TicketState as S;
use crate::model::{counted, duration_text};
use ci::Reporting;

/// Runs the verb; its exit code where a signal ended it.
pub(super) fn run(args: &RunArgs, context: &Context) -> Result<std::process::ExitCode, Failure> {
    if args.tickets.is_empty() && !args.all {
        let failure = Failure::new(FailureKind::Usage, "name tickets, or say --all");
        return Err(failure.hint("swarm ticket list shows what there is"));
    }
    let request = RunRequest {
        tickets: args.tickets.clone(),
        all: args.all,
        is_endless: false,
        lands: args.work.merge,
        headless: args.work.headless || args.report.ci,
        timeout: args.timeout,
        stops_agents: args.report.ci,
    };
    let control = control(args.work.max_workers, context)?;
    let mut face =
        if args.report.ci { Lines::for_ci(context.output.clone())? } else { Lines::new(context.output.clone())? };
    let reporting = Reporting::begin(&args.report, &control, context)?;
    let ran = crate::coordinator::run(&control, &request, &mut face);
    let view = ran.as_ref().map(|(view, _)| view);
    let lines = view.ok().filter(|_| !context.output.json).map(summary).unwrap_or_default();
    reporting.end(view, &lines, &control);
    let (view, result) = ran?;
    if context.output.json {
        context.output.document(&view)?;
    }
    finish(&view, result, context)
}

/// The repository, with another number of workers where one was given.
pub(super) fn control(max_workers: Option<usize>, context: &Context) -> Result<Control, Failure> {
    let mut call = context.call()?;
    call.overrides.extend(max_workers.map(|count| ("max_workers".to_owned(), count.to_string())));
    let output = context.output.clone();
    Ok(Control::open(call, context.global.yes)?.with_listener(move |what| output.narrate(what)))
}

/// The exit code of a run: that of its failure, or of the signal that ended it.
fn finish(view: &RunView, result: Result<(), Failure>, context: &Context) -> Result<std::process::ExitCode, Failure> {
    match result {
        Err(failure) if view.exit_code != failure.kind.exit_code() => {
            context.output.failure(&failure);
            Ok(std::process::ExitCode::from(view.exit_code))
        }
        Err(failure) => Err(failure),
        Ok(()) => Ok(std::process::ExitCode::SUCCESS),
    }
}

/// A line on standard error for each thing that happens.
pub(super) struct Lines {
    output: Output,
    interrupt: Interrupt,
    /// Whether somebody may be watching, who wants to hear of gates as well.
    is_live: bool,
    /// Whether the lines of events tell what happens to tickets.
    is_ci: bool,
}

impl Lines {
    /// Listens for interruptions from now on.
    pub(super) fn new(output: Output) -> Result<Self, Failure> {
        let is_live = std::io::stderr().is_terminal();
        Ok(Self { output, interrupt: Interrupt::listen_twice()?, is_live, is_ci: false })
    }

    /// The same in CI, where events tell most of it. Who ends a job sends one signal after the other; the first one counts.
    fn for_ci(output: Output) -> Result<Self, Failure> {
        Ok(Self { output, interrupt: Interrupt::listen()?, is_live: false, is_ci: true })
    }

    /// The same for a process in the background, which a terminal that goes away does not end.
    pub(super) fn in_background(output: Output) -> Result<Self, Failure> {
        Ok(Self { output, interrupt: Interrupt::listen_in_background()?, is_live: true, is_ci: false })
    }
}

impl RunFace for Lines {
    fn tell(&mut self, news: &News<'_>) {
        match news {
            News::Said(text) => self.output.narrate(text),
            _ if self.is_ci => {}
            News::Held(hold) => self.output.narrate(&format!("`{}` {}", hold.ticket, one_line(&hold.why))),
            News::Landing(worker, what) if self.output.verbose || self.is_live => {
                let about = if worker.is_empty() { String::new() } else { format!("`{worker}`: ") };
                self.output.narrate(&format!("{about}{}", one_line(what)));
            }
            News::Landing(..) => {}
            News::Changed { event, entry, reason } => {
                let (id, from) = (&event.ticket, event.from);
                let error = entry.error.as_deref().map(|error| format!(": {}", one_line(error))).unwrap_or_default();
                let text = match (from, event.to) {
                    (_, S::Running) if from == Some(S::Lost) => format!("Resumed `{id}`"),
                    (Some(S::Review | S::Approved | S::Landing), S::Running) => {
                        format!("`{id}` went back to its agent")
                    }
                    (_, S::Running) if event.attempt > 1 => format!("Started `{id}`, attempt {}", event.attempt),
                    (_, S::Running) => format!("Started `{id}`"),
                    (Some(_), S::Review) if from != Some(S::Approved) => format!("Finished `{id}`"),
                    (_, S::Done) => format!("Finished `{id}` without changes"),
                    (_, S::Landed) => format!("Landed `{id}`"),
                    (_, S::Failed) => format!("`{id}` failed{error}"),
                    (_, S::Dead) => format!("`{id}` failed and has no attempt left{error}"),
                    (_, S::Cancelled) => format!("`{id}` was cancelled"),
                    (_, S::Lost) => {
                        format!("`{id}` is lost: {}", reason.map(one_line).unwrap_or_default())
                    }
                    _ => return,
                };
                self.output.narrate(&text);
            }
        }
    }

    fn interrupted(&self) -> Option<i32> {
        self.interrupt.signal()
    }
}

/// The closing summary: what made it in one line, then each ticket that did not and why.
fn summary(view: &RunView) -> Vec<String> {
    let left: Vec<&RunTicketView> = view.tickets.iter().filter(|ticket| !ticket.made).collect();
    let why = |ticket: &&RunTicketView| ticket.why.as_deref().map(one_line).unwrap_or_default();
    let mut lines: Vec<_> = left.iter().map(|ticket| format!("`{}` {}", ticket.ticket, why(ticket))).collect();
    let in_state = |state: S| view.tickets.iter().filter(|ticket| ticket.made && ticket.state == state).count();
    let parts: Vec<_> = [
        (in_state(S::Landed), "landed"),
        (in_state(S::Done), "done without changes"),
        (in_state(S::Review), "ready for review"),
        (in_state(S::Approved) + in_state(S::Landing), "approved"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    let took = duration_text(view.began_at.age_at(view.ended_at));
    let made = if parts.is_empty() { "nothing finished".to_owned() } else { parts.join(", ") };
    let rest = if left.is_empty() { String::new() } else { format!(", {} left", counted(left.len(), "ticket")) };
    lines.push(format!("Ran {} in {took}: {made}{rest}", counted(view.tickets.len(), "ticket")));
    lines
}
