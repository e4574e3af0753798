//! `swarm ticket`.

use std::fmt::Write as _;
use std::io::{IsTerminal, Read};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};

use super::init::shown;
use crate::cli::Context;
use crate::cli::args::{TicketImportArgs, TicketNewArgs, TicketShowArgs, TicketVerb};
use crate::cli::output::{Style, Table, one_line, width};
use crate::coordinator::views::{ImportWord, TicketView};
use crate::coordinator::{Failure, FailureKind, ImportRequest, NewTicketRequest};
use crate::model::duration_text;
use crate::model::ticket::TicketState;

/// How long standard input may stay silent before a person is told what is waited for.
const SILENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Runs the verb.
pub(super) fn run(verb: &TicketVerb, context: &Context) -> Result<(), Failure> {
    match verb {
        TicketVerb::New(args) => new(args, context),
        TicketVerb::List => list(context),
        TicketVerb::Show(args) => show(args, context),
        TicketVerb::Import(args) => import(args, context),
    }
}

/// `ticket new`.
fn new(args: &TicketNewArgs, context: &Context) -> Result<(), Failure> {
    // Before a text is waited for: an id that cannot be used is known at once.
    let control = context.control()?;
    let text = match super::spawn::text(&args.text, context)? {
        Some(text) => Some(text),
        None => piped_text(context)?,
    };
    let view = control.new_ticket(&NewTicketRequest {
        id: args.id.clone(),
        title: args.title.clone(),
        agent: args.agent.clone(),
        priority: args.priority,
        depends_on: args.depends_on.clone(),
        checks: args.checks.clone(),
        text,
    })?;
    if context.output.json {
        return context.output.document(&view);
    }
    let directory = context.call()?.directory;
    for ticket in &view.tickets {
        let path = ticket.path.as_ref().map(|path| shown(path, &directory)).unwrap_or_default();
        context.output.line(&format!("Wrote ticket `{}` to {path}", ticket.id))?;
        match ticket.problem {
            Some(_) => context.output.narrate(&format!(
                "It has no text yet: write below its second line of dashes what is to be done, then swarm spawn {}",
                ticket.id
            )),
            None if context.output.verbose => context.output.narrate(&format!("swarm spawn {} starts it", ticket.id)),
            None => {}
        }
    }
    Ok(())
}

/// `ticket import`.
fn import(args: &TicketImportArgs, context: &Context) -> Result<(), Failure> {
    let request = ImportRequest {
        repository: args.repo.clone(),
        label: args.label.clone(),
        numbers: args.numbers.clone(),
        dry_run: args.dry_run,
    };
    let (view, result) = context.control()?.import_issues(&request)?;
    if context.output.json {
        context.output.document(&view)?;
        return result;
    }
    for issue in &view.issues {
        let (number, ticket) = (issue.number, &issue.ticket);
        context.output.line(&match issue.action {
            ImportWord::Imported => {
                let done = if view.dry_run { "Would import" } else { "Imported" };
                format!("{done} #{number} as `{ticket}`: {}", one_line(&issue.title))
            }
            ImportWord::Unchanged => format!("#{number} is `{ticket}` already, and has not changed"),
            ImportWord::Changed => {
                format!(
                    "#{number} has changed since it became `{ticket}`; the ticket was left as it is ({})",
                    issue.url
                )
            }
            ImportWord::Exists => format!("#{number} was not imported: there is another ticket `{ticket}`"),
        })?;
        issue.warnings.iter().for_each(|warning| context.output.warn(&format!("`{ticket}`: {warning}")));
    }
    if view.issues.is_empty() && view.failed.is_empty() {
        context.output.narrate("No open issues there.");
    }
    result
}

/// What was piped into standard input; `None` when nothing is, as for a terminal or the null device, or it is empty.
fn piped_text(context: &Context) -> Result<Option<String>, Failure> {
    let mut stdin = std::io::stdin();
    let kind = fstat(stdin.as_fd()).map(|stat| FileType::from_raw_mode(stat.st_mode));
    let is_text = matches!(kind, Ok(FileType::Fifo | FileType::RegularFile | FileType::Socket));
    if stdin.is_terminal() || !is_text {
        return Ok(None);
    }
    let silent = poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&SILENCE)).is_ok_and(|ready| ready == 0);
    if silent {
        context.output.narrate("waiting for the ticket's text on standard input (with < /dev/null it gets a skeleton)");
    }
    let mut text = String::new();
    let read = stdin.read_to_string(&mut text);
    read.map_err(|error| Failure::from_error(FailureKind::Usage, &error))?;
    Ok((!text.trim().is_empty()).then_some(text))
}

/// `ticket list`.
fn list(context: &Context) -> Result<(), Failure> {
    let view = context.control()?.tickets()?;
    if context.output.json {
        context.output.document(&view)?;
    } else if view.tickets.is_empty() {
        context.output.narrate("No tickets. Write one: swarm ticket new ID --title \"...\"");
    } else {
        let mut table = Table::new(&["TICKET", "STATE", "PRIO", "AGENT", "WAITS FOR", "TITLE"], Some(5));
        view.tickets.iter().for_each(|ticket| table.row(cells(ticket)));
        context.output.print(&table.render(context.output.color, width()))?;
    }
    for warning in &view.warnings {
        context.output.warn(warning);
    }
    for (ticket, problem) in view.tickets.iter().filter_map(|ticket| Some((ticket, ticket.problem.as_ref()?))) {
        context.output.warn(&format!("ticket `{}` cannot be used: {problem}", ticket.id));
    }
    Ok(())
}

/// One row.
fn cells(ticket: &TicketView) -> [(Style, String); 6] {
    let plain = |text: String| (Style::Plain, text);
    if ticket.problem.is_some() {
        let dash = || plain("-".to_owned());
        let told = (Style::Red, "its file cannot be used".to_owned());
        return [(Style::Bold, ticket.id.clone()), (Style::Red, "broken".to_owned()), dash(), dash(), dash(), told];
    }
    let waits = if ticket.depends_on.is_empty() { "-".to_owned() } else { ticket.depends_on.join(", ") };
    [
        (Style::Bold, ticket.id.clone()),
        (state_style(ticket.state), ticket.state.as_str().to_owned()),
        plain(ticket.priority.to_string()),
        plain(ticket.agent.clone()),
        plain(waits),
        plain(one_line(&ticket.title)),
    ]
}

/// How a state looks.
fn state_style(state: TicketState) -> Style {
    use TicketState as S;
    match state {
        S::Open | S::Queued => Style::Plain,
        S::Running | S::Landing => Style::Cyan,
        S::Blocked | S::WaitingApproval | S::Review | S::Approved => Style::Yellow,
        S::Landed | S::Done => Style::Green,
        S::Failed | S::Dead | S::Lost => Style::Red,
        S::Cancelled => Style::Dim,
    }
}

/// `ticket show`.
fn show(args: &TicketShowArgs, context: &Context) -> Result<(), Failure> {
    let view = context.control()?.ticket(&args.ticket)?;
    if context.output.json {
        return context.output.document(&view);
    }
    let directory = context.call()?.directory;
    let mut text = String::new();
    for ticket in &view.tickets {
        let title = context.output.paint(Style::Bold, &one_line(&ticket.title));
        writeln!(text, "`{}` {title}", ticket.id).expect("a string takes all text");
        let file = ticket.path.as_ref().map(|path| shown(path, &directory));
        let rows = rows(ticket).into_iter().chain([("file", file.or(Some("none; known from the queue".to_owned())))]);
        for (name, value) in rows.filter_map(|(name, value)| Some((name, value?))) {
            let name = context.output.paint(Style::Dim, &format!("{name:<12}"));
            writeln!(text, "{name}  {value}").expect("a string takes all text");
        }
        let body = ticket.body.as_deref().unwrap_or_default();
        writeln!(text, "\n{}", body.trim_end()).expect("a string takes all text");
    }
    context.output.print(&text)
}

/// The fields of a ticket that say something.
fn rows(ticket: &TicketView) -> Vec<(&'static str, Option<String>)> {
    let join = |words: &[String]| (!words.is_empty()).then(|| words.join(", "));
    let usd = ticket.budget_usd.map(|usd| format!("${usd}"));
    let tokens = ticket.budget_tokens.map(|tokens| format!("{tokens} tokens"));
    let budget: Vec<String> = [usd, tokens].into_iter().flatten().collect();
    vec![
        ("state", Some(ticket.state.as_str().to_owned())),
        ("agent", Some(ticket.agent.clone())),
        ("priority", Some(ticket.priority.to_string())),
        ("waits for", join(&ticket.depends_on)),
        ("scope", join(&ticket.scope)),
        ("checks", join(&ticket.checks)),
        ("checklist", join(&ticket.checklist)),
        ("reviewers", join(&ticket.reviewers)),
        ("base", ticket.base.clone()),
        ("target", ticket.target.clone()),
        ("timeout", ticket.timeout_ms.map(|timeout| duration_text(Duration::from_millis(timeout)))),
        ("attempts", Some(ticket.max_attempts.to_string())),
        ("budget", join(&budget)),
        ("capabilities", join(&ticket.capabilities)),
        ("labels", join(&ticket.labels)),
    ]
}
