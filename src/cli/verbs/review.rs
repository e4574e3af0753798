//! `swarm diff` and `swarm review`.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::process::Stdio;

use crate::cli::Context;
use crate::cli::args::{DiffArgs, ReviewArgs};
use crate::cli::output::{Style, last_lines, one_line, width};
use crate::coordinator::views::{ActionsView, ReviewView};
use crate::coordinator::{Failure, FailureKind, ReviewRequest};
use crate::process;

/// `diff`.
pub(super) fn diff(args: &DiffArgs, context: &Context) -> Result<(), Failure> {
    let color = context.output.color && !context.output.json;
    let view = context.control()?.diff(&args.worker, args.stat, color, width())?;
    if context.output.json {
        return context.output.document(&view);
    }
    if view.text.is_empty() {
        context.output.narrate("no changes");
    } else if view.dirty {
        context.output.narrate("uncommitted work is included");
    }
    if std::io::stdout().is_terminal() {
        page(&view.text, context)
    } else {
        // A patch for a program is what git says, to the byte.
        context.output.print_bytes(view.text.as_bytes())
    }
}

/// Prints a diff: made safe on a terminal, else as git wrote it.
pub(super) fn print_diff(diff: &[u8], context: &Context) -> Result<(), Failure> {
    if std::io::stdout().is_terminal() {
        context.output.print(&String::from_utf8_lossy(diff))
    } else {
        context.output.print_bytes(diff)
    }
}

/// `review`.
pub(super) fn review(args: &ReviewArgs, context: &Context) -> Result<(), Failure> {
    let control = context.control()?;
    let comments = args.comment.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect::<Vec<_>>();
    if args.approve || args.reject || !comments.is_empty() {
        let request = ReviewRequest {
            worker: args.worker.clone(),
            approve: args.approve,
            reject: args.reject,
            message: args.message.clone(),
            comments,
        };
        let done = control.judge(&request)?;
        return if context.output.json {
            context.output.document(&ActionsView::from(done))
        } else {
            context.output.line(&format!("`{}`: {}", done.worker, done.text))
        };
    }
    if args.message.is_some() {
        return Err(Failure::new(FailureKind::Usage, "a message needs a verdict").hint("add --approve or --reject"));
    }
    let view = control.review(&args.worker)?;
    if context.output.json {
        return context.output.document(&view);
    }
    let diff = control.diff(&args.worker, false, context.output.color, width())?;
    let mut text = summary(&view, context);
    text.push('\n');
    text.push_str(&diff.text);
    page(&text, context)
}

/// What a reviewer reads before the diff.
fn summary(view: &ReviewView, context: &Context) -> String {
    let paint = |style, text: &str| context.output.paint(style, text);
    let worker = &view.worker;
    let mut text = format!("{}\n\n", paint(Style::Bold, &format!("{}: {}", worker.id, one_line(&worker.title))));
    let state = worker.ticket_state.map_or("-", |state| state.as_str());
    let mut fact = |name: &str, value: String| writeln!(text, "{name:<11}{value}").expect("a string takes all text");
    fact("Status", format!("{}, ticket {state}: {}", worker.status.as_str(), one_line(&worker.reason)));
    fact("Branch", format!("{} to land on {}", worker.branch, worker.target));
    if let Some(commit) = &view.commit {
        fact("Commit", commit.clone());
    }
    if let Some(calls) = worker.tool_calls {
        fact("Tool calls", format!("{calls}, {} failed", worker.tool_errors.unwrap_or(0)));
    }
    if let (Some(input), Some(output)) = (worker.input_tokens, worker.output_tokens) {
        let cost = worker.cost_usd.map(|cost| format!(", ${cost:.2}")).unwrap_or_default();
        fact("Tokens", format!("{input} in, {output} out{cost}"));
    }
    if worker.checks.is_empty() {
        fact("Checks", "the ticket names none".to_owned());
    }
    for check in &worker.checks {
        let style = if check.passed { Style::Green } else { Style::Red };
        fact("Check", format!("{}: {}", paint(style, &check.clause()), check.run));
        if !check.passed && !check.output_tail.trim().is_empty() {
            fact("", format!("the end of its output:\n{}", last_lines(&check.output_tail).trim_end()));
        }
    }
    for verdict in &view.verdicts {
        let short: String = verdict.commit.chars().take(8).collect();
        let said = if verdict.text.is_empty() { String::new() } else { format!(": {}", verdict.text) };
        let void = if verdict.void { ", void by now" } else { "" };
        fact("Verdict", format!("{} at {short} by {}{void}{said}", verdict.verdict, verdict.by));
    }
    writeln!(text, "\n{}", paint(Style::Bold, "Commits")).expect("a string takes all text");
    for commit in &view.commits {
        let short: String = commit.id.chars().take(8).collect();
        writeln!(
            text,
            "  {} {} ({})",
            paint(Style::Yellow, &short),
            one_line(&commit.subject),
            one_line(&commit.author)
        )
        .expect("a string takes all text");
    }
    if !view.stat.is_empty() {
        write!(text, "\n{}", view.stat).expect("a string takes all text");
    }
    let id = &worker.id;
    let next = format!("\nswarm review {id} --approve, or --reject -m TEXT [--comment FILE:LINE TEXT]\n");
    text.push_str(&paint(Style::Dim, &next));
    text
}

/// Shows a text through the person's pager on a terminal, else as it is.
fn page(text: &str, context: &Context) -> Result<(), Failure> {
    // Also what a pager shows: which one it is, and what it lets through, is not ours to know.
    let text = &context.output.visible(text);
    let rows = crate::terminal::terminal_size().map_or(24, |size| usize::from(size.rows));
    if !std::io::stdout().is_terminal() || text.lines().count() < rows {
        return context.output.print(text);
    }
    let set = ["SWARM_PAGER", "GIT_PAGER", "PAGER"].iter().find_map(|name| context.environment.get(name));
    let pager = set.unwrap_or("less");
    if pager.is_empty() || pager == "cat" {
        return context.output.print(text);
    }
    let mut command = process::command("sh");
    command.args(["-c", pager]).stdin(Stdio::piped());
    if context.environment.get("LESS").is_none() {
        // As git has it: quit when it fits, keep colours, leave the text on the screen.
        command.env("LESS", "FRX");
    }
    let Ok(mut child) = process::spawn(&mut command) else {
        return context.output.print(text);
    };
    if let Some(mut stdin) = child.stdin.take() {
        // A pager that a person quits early closes the pipe.
        stdin.write_all(text.as_bytes()).ok();
    }
    child.wait().ok();
    process::forget(child.id());
    Ok(())
}
