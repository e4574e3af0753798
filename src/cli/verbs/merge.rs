//! `swarm merge` and `swarm rm`.

use std::fmt::Write as _;
use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::Context;
use crate::cli::args::{MergeArgs, SelectArgs, StrategyChoice};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::{last_lines, one_line};
use crate::coordinator::views::{GateView, MergeView, PullRequestView, PullState};
use crate::coordinator::{Failure, FailureKind, MergeProgress, MergeRequest};
use crate::model::settings::Strategy;
use crate::model::{counted, duration_text};

/// `merge`.
pub(super) fn merge(args: &MergeArgs, context: &Context) -> Result<ExitCode, Failure> {
    let strategy = args.strategy.map(|choice| match choice {
        StrategyChoice::Merge => Strategy::Merge,
        StrategyChoice::Squash => Strategy::Squash,
        StrategyChoice::Rebase => Strategy::Rebase,
        StrategyChoice::FastForward => Strategy::FastForward,
    });
    let request = MergeRequest {
        workers: args.workers.clone(),
        strategy,
        dry_run: args.dry_run,
        by_pull_request: args.pr,
        wait: args.wait,
        timeout: args.timeout,
    };
    // A gate has a process group of its own, and would outlive a command that just ends.
    let interrupt = Interrupt::listen_twice()?;
    let mut progress = Spinner { ends: interrupt.flag(), ..Spinner::new(context.output.narrate) };
    let merged = context.control()?.merge(&request, &mut progress);
    progress.clear();
    let (view, result) = merged?;
    if context.output.json {
        context.output.document(&view)?;
    } else {
        show(&view, context)?;
        if result.is_ok() && is_empty(&view) {
            context.output.line("Nothing to land")?;
            context.output.narrate("approve finished work first: swarm review WORKER --approve");
        }
    }
    interrupt.exit(result, context)
}

/// Whether no worker was looked at.
fn is_empty(view: &MergeView) -> bool {
    view.landed.is_empty()
        && view.returned.is_empty()
        && view.waiting.is_empty()
        && view.settled.is_empty()
        && view.pull_requests.is_empty()
}

/// Prints what landed.
fn show(view: &MergeView, context: &Context) -> Result<(), Failure> {
    let (landed, returns) = if view.dry_run { ("Would land", "Would return") } else { ("Landed", "Returned") };
    for entry in &view.landed {
        let commit = entry.commit.as_ref().map(|commit| format!(" as {}", &commit[..8])).unwrap_or_default();
        let commits = counted(entry.commits, "commit");
        let mut gates = gates(&entry.gates);
        if let (Some(tested), Some(commit)) = (&entry.tested, &entry.commit)
            && tested.commit.as_str() != commit
        {
            write!(gates, " on the batch up to {}", tested.commit.short()).expect("a string takes all text");
        }
        if let Some(check) = entry.check {
            gates = format!(", found by {}", check.as_str());
        }
        context
            .output
            .line(&format!("{landed} `{}` on `{}`{commit} ({commits}{gates})", entry.worker, entry.target))?;
        entry.warnings.iter().for_each(|warning| context.output.warn(warning));
    }
    if view.dry_run {
        for entry in &view.returned {
            context.output.line(&format!("{returns} `{}`: {}", entry.worker, entry.why))?;
        }
        for entry in &view.waiting {
            context.output.line(&format!("Would leave `{}` waiting: {}", entry.worker, entry.why))?;
        }
    }
    for entry in &view.returned {
        for file in &entry.files {
            context.output.narrate(&format!("  {} ({})", file.path, file.kind));
        }
        narrate_failed(&entry.worker, &entry.gates, context);
    }
    for entry in &view.waiting {
        narrate_failed(&entry.worker, &entry.gates, context);
    }
    for entry in &view.pull_requests {
        context.output.line(&pull_line(entry))?;
    }
    for entry in &view.settled {
        context.output.line(&format!("`{}` {}", entry.worker, entry.why))?;
    }
    Ok(())
}

/// A pull request as a line.
fn pull_line(entry: &PullRequestView) -> String {
    let worker = &entry.worker;
    let what = match (entry.state, entry.action.as_str()) {
        (PullState::Merged, _) => "is merged as",
        (PullState::Closed, _) => "was closed as",
        (PullState::Open, "opened") => "is offered as",
        (PullState::Open, "pushed") => "was pushed again to",
        (PullState::Open, "found") => "has found its open",
        (PullState::Open, _) => "waits in",
    };
    let checks = checks_text(entry);
    format!("`{worker}` {what} pull request {} ({checks})", entry.url)
}

/// The checks of a pull request in a few words.
pub(super) fn checks_text(entry: &PullRequestView) -> String {
    match (entry.checks_failed.as_slice(), entry.checks_pending, entry.checks_passed) {
        ([], 0, 0) => "no checks".to_owned(),
        ([], pending, passed) => format!("{passed} checks passed, {pending} pending"),
        (failed, ..) => format!("checks failed: {}", failed.join(", ")),
    }
}

/// Shows the end of what a failed gate wrote.
fn narrate_failed(worker: &str, gates: &[GateView], context: &Context) {
    for gate in gates.iter().filter(|gate| gate.passed == Some(false)) {
        let shown = last_lines(&gate.output_tail);
        let what = if shown.is_empty() { "wrote nothing" } else { "wrote at its end:" };
        context.output.narrate(&format!("gate `{}` of `{worker}` {what}\n{}", gate.name, shown.trim_end()));
    }
}

/// The gates in a few words.
fn gates(gates: &[GateView]) -> String {
    if gates.is_empty() {
        return ", no gates".to_owned();
    }
    let took: u64 = gates.iter().map(|gate| gate.duration_ms).sum();
    let names: Vec<_> = gates.iter().map(|gate| gate.name.as_str()).collect();
    let took = if took > 0 { format!(" in {}", duration_text(Duration::from_millis(took))) } else { String::new() };
    format!(", gates {}{took}", names.join(" "))
}

/// `rm`.
pub(super) fn rm(args: &SelectArgs, context: &Context) -> Result<(), Failure> {
    let confirm = |names: &[String]| {
        if context.global.yes {
            return Ok(true);
        }
        ask(&removal(names))
    };
    super::act::show(context.control()?.rm(&args.workers, args.all, &confirm)?, context)
}

/// The question before workers are removed.
fn removal(names: &[String]) -> String {
    let whose = if names.len() == 1 { "Its" } else { "Their" };
    format!("Remove {}? {whose} work is kept under refs/swarm/keep first.", names.join(", "))
}

/// Asks a yes-or-no question on standard error.
///
/// # Errors
/// Without a terminal: a person is needed.
pub(super) fn ask(question: &str) -> Result<bool, Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Failure::new(FailureKind::NeedsPerson, "this needs a yes, and there is no terminal to ask on")
            .hint("repeat with --yes"));
    }
    let failed = |error: std::io::Error| Failure::from_error(FailureKind::Failed, &error);
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush()).map_err(failed)?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
}

/// One line on standard error while work lands.
struct Spinner {
    /// The line; hidden without a terminal.
    bar: Option<ProgressBar>,
    /// Set when the landing is to end.
    ends: Arc<AtomicBool>,
}

impl Spinner {
    /// A line, if one is wanted and there is a terminal for it.
    fn new(is_on: bool) -> Self {
        let bar = (is_on && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(ProgressStyle::default_spinner());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, ends: Arc::default() }
    }

    /// Takes the line off the screen.
    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl MergeProgress for Spinner {
    fn tell(&mut self, worker: &str, what: &str) {
        if let Some(bar) = &self.bar {
            let what = one_line(what);
            bar.set_message(if worker.is_empty() { what } else { format!("{worker}: {what}") });
        }
    }

    fn ends(&self) -> Arc<AtomicBool> {
        self.ends.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_worker_is_asked_about_as_one() {
        let of = |names: &[&str]| removal(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["a"]), "Remove a? Its work is kept under refs/swarm/keep first.");
        assert_eq!(of(&["a", "b"]), "Remove a, b? Their work is kept under refs/swarm/keep first.");
    }
}
