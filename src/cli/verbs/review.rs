//! `swarm diff` and `swarm review`.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use self::page::Viewer;
use crate::cli::Context;
use crate::cli::args::{DiffArgs, ReviewArgs};
use crate::cli::diff::render_patch;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::{one_line, width};
use crate::coordinator::views::ActionsView;
use crate::coordinator::{Control, Failure, FailureKind, ReviewRequest};
use crate::store::ReviewVerdict;

/// Files that are named in one sentence.
const FILES_NAMED: usize = 8;

mod draft;
mod editor;
mod page;
mod summary;

/// `diff`.
pub(super) fn diff(args: &DiffArgs, context: &Context) -> Result<(), Failure> {
    let control = context.control()?;
    if context.output.json {
        return context.output.document(&control.diff(&args.worker, args.stat, false, width())?);
    }
    let viewer = Viewer::of(&control, context)?;
    if !std::io::stdout().is_terminal() && !context.output.color && !args.stat {
        // For programs: what `git apply` takes, byte by byte.
        let patch = control.patch(&args.worker, true)?;
        tell(patch.bytes.is_empty(), patch.is_dirty, &patch.outside_scope, context);
        return context.output.print_bytes(&patch.bytes);
    }
    let Shown { text, is_dirty, outside_scope } = difference(&control, &args.worker, args.stat, &viewer, context)?;
    tell(text.is_empty(), is_dirty, &outside_scope, context);
    viewer.show(&text, context)
}

/// Says what the difference itself does not show.
fn tell(is_empty: bool, dirty: bool, outside_scope: &[String], context: &Context) {
    if is_empty {
        context.output.narrate("no changes");
    } else if dirty {
        context.output.narrate("uncommitted work is included");
    }
    if !outside_scope.is_empty() {
        context.output.narrate(&format!("outside the scope of its ticket: {}", named(outside_scope)));
    }
}

/// Files by their names, not too many of them.
fn named(files: &[String]) -> String {
    let first: Vec<_> = files.iter().take(FILES_NAMED).map(|file| one_line(file)).collect();
    match files.len().saturating_sub(FILES_NAMED) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// A difference as it is shown.
struct Shown {
    /// It.
    text: String,
    /// Whether uncommitted work is in it.
    is_dirty: bool,
    /// Files in it that are outside the scope of the ticket.
    outside_scope: Vec<String>,
}

/// Prints a diff: made safe on a terminal, else as git wrote it.
pub(super) fn print_diff(diff: &[u8], context: &Context) -> Result<(), Failure> {
    if std::io::stdout().is_terminal() {
        context.output.print(&String::from_utf8_lossy(diff))
    } else {
        context.output.print_bytes(diff)
    }
}

/// What a worker changed as its viewer wants it: git's own colours for a program that reads them, else ours.
fn difference(
    control: &Control,
    worker: &str,
    stat: bool,
    viewer: &Viewer,
    context: &Context,
) -> Result<Shown, Failure> {
    let color = context.output.color;
    let is_ours = color && std::io::stdout().is_terminal() && !matches!(viewer, Viewer::Filter(_));
    if stat || !is_ours {
        let view = control.diff(worker, stat, color, width())?;
        return Ok(Shown { text: view.text, is_dirty: view.dirty, outside_scope: view.outside_scope });
    }
    let patch = control.patch(worker, false)?;
    let text = render_patch(&String::from_utf8_lossy(&patch.bytes), width());
    Ok(Shown { text, is_dirty: patch.is_dirty, outside_scope: patch.outside_scope })
}

/// `review`.
pub(super) fn review(args: &ReviewArgs, context: &Context) -> Result<ExitCode, Failure> {
    let control = context.control()?;
    let request = request(args);
    if request.verdict.is_none() && args.message.is_some() {
        return Err(Failure::new(FailureKind::Usage, "a message needs a verdict").hint("add --approve or --reject"));
    }
    if args.editor || args.file.is_some() {
        return written(&control, args, context).map(|()| ExitCode::SUCCESS);
    }
    let says_something = says_something(&request);
    if says_something {
        judge(&control, &request, context)?;
    }
    if let Some(named) = &args.ask {
        // A reviewer has a process group of its own, and would outlive a command that just ends.
        let interrupt = Interrupt::listen_twice()?;
        return interrupt.exit(ask(&control, &args.worker, named, &interrupt.flag(), context), context);
    }
    if !says_something {
        show(&control, args, context)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes a review that the person writes, or wrote, as a text.
fn written(control: &Control, args: &ReviewArgs, context: &Context) -> Result<(), Failure> {
    if let Some(file) = &args.file {
        return judge(control, &editor::take(control, &args.worker, file, context)?, context);
    }
    let (request, path) = editor::write(control, &args.worker, context)?;
    judge(control, &request, context).map_err(|failure| editor::keep(failure, &args.worker, &path))?;
    Ok(crate::files::remove_if_exists(&path)?)
}

/// What the flags ask for.
fn request(args: &ReviewArgs) -> ReviewRequest {
    let verdict = match (args.approve, args.reject) {
        (true, _) => Some(ReviewVerdict::Approved),
        (_, true) => Some(ReviewVerdict::Rejected),
        _ => None,
    };
    ReviewRequest {
        worker: args.worker.clone(),
        commit: None,
        accept: args.accept.clone(),
        drop: args.drop.clone(),
        resolve: args.resolve.clone(),
        reopen: args.reopen.clone(),
        check: args.check.clone(),
        uncheck: args.uncheck.clone(),
        comments: args.comment.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect(),
        verdict,
        message: args.message.clone(),
    }
}

/// Whether a request does anything.
fn says_something(request: &ReviewRequest) -> bool {
    let choices = [&request.accept, &request.drop, &request.resolve, &request.reopen];
    request.verdict.is_some()
        || !request.comments.is_empty()
        || choices.iter().any(|choices| !choices.is_empty())
        || !request.check.is_empty()
        || !request.uncheck.is_empty()
}

/// Does what was asked for, and says so.
fn judge(control: &Control, request: &ReviewRequest, context: &Context) -> Result<(), Failure> {
    let done = control.judge(request)?;
    if context.output.json {
        context.output.document(&ActionsView::from(done))
    } else {
        context.output.line(&format!("`{}`: {}", done.worker, done.text))
    }
}

/// Asks reviewer agents.
fn ask(control: &Control, worker: &str, named: &[String], ends: &AtomicBool, context: &Context) -> Result<(), Failure> {
    let (view, result) = control.ask_reviewers(worker, named, ends, &mut |what| context.output.narrate(what))?;
    if context.output.json {
        context.output.document(&view)?;
    } else if view.done.is_empty() && result.is_ok() {
        context.output.line("Every reviewer gave its verdict on this commit already")?;
    }
    for action in view.done.iter().filter(|_| !context.output.json) {
        context.output.line(&format!("`{}`: {}", action.worker, action.text))?;
    }
    result
}

/// Shows what there is to judge.
fn show(control: &Control, args: &ReviewArgs, context: &Context) -> Result<(), Failure> {
    let json = context.output.json;
    let color = context.output.color && !json;
    let view = control.review(&args.worker, color, width())?;
    if json {
        return context.output.document(&view);
    }
    let viewer = Viewer::of(control, context)?;
    let mut text = summary::summary(&view, context);
    if !args.since {
        text.push('\n');
        text.push_str(&difference(control, &args.worker, false, &viewer, context)?.text);
    }
    viewer.show(&text, context)
}
