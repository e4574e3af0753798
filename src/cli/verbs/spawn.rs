//! `swarm spawn`.

use std::io::{IsTerminal, Read};
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::cli::Context;
use crate::cli::args::{SpawnArgs, TextArgs};
use crate::cli::output::one_line;
use crate::coordinator::views::SpawnView;
use crate::coordinator::{Failure, FailureKind, SpawnProgress, SpawnRequest, WaitRequest};
use crate::model::worker::SpawnStep;

/// Runs the verb.
pub(super) fn run(args: &SpawnArgs, context: &Context) -> Result<(), Failure> {
    let request = SpawnRequest {
        tickets: args.tickets.clone(),
        agent: args.agent.clone(),
        base: args.base.clone(),
        text: text(&args.text, context)?,
        headless: args.headless,
        dry_run: args.dry_run,
        queues: args.queue,
        ..SpawnRequest::default()
    };
    let control = context.control()?;
    let progress = Bars::new(context.output.narrate);
    let (view, result) = control.spawn(&request, &progress)?;
    progress.clear();
    if context.output.json && !args.wait {
        context.output.document(&view)?;
    } else if !args.wait {
        show(&view, context)?;
    }
    result?;
    if !args.wait || args.dry_run {
        return Ok(());
    }
    let workers: Vec<_> = view.spawned.iter().map(|spawned| spawned.worker.clone()).collect();
    if workers.is_empty() {
        // Without names, all live workers would be waited for.
        return if context.output.json { context.output.document(&view) } else { show(&view, context) };
    }
    super::wait::wait(&WaitRequest { workers, ..WaitRequest::default() }, &control, context)
}

/// The text that -p or -f names; `None` when neither was given.
pub(super) fn text(args: &TextArgs, context: &Context) -> Result<Option<String>, Failure> {
    if let Some(text) = &args.prompt {
        return Ok(Some(if text == "-" { standard_input()? } else { text.clone() }));
    }
    match &args.file {
        Some(file) if file.as_os_str() == "-" => standard_input().map(Some),
        Some(file) => {
            // From the folder of -C, as git has it for its own paths.
            let path = context.call()?.directory.join(file);
            std::fs::read_to_string(path).map(Some).map_err(|error| {
                let mut failure = Failure::from_error(FailureKind::NotFound, &error);
                failure.chain.insert(0, format!("could not read `{}`", file.display()));
                failure
            })
        }
        None => Ok(None),
    }
}

/// All of standard input. A terminal is refused: a person would sit before a program that seems to hang.
pub(super) fn standard_input() -> Result<String, Failure> {
    let mut stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(Failure::new(FailureKind::Usage, "standard input is a terminal; pipe the text in"));
    }
    let mut text = String::new();
    stdin.read_to_string(&mut text).map_err(|error| Failure::from_error(FailureKind::Usage, &error))?;
    Ok(text)
}

/// Prints what was spawned, or would be.
fn show(view: &SpawnView, context: &Context) -> Result<(), Failure> {
    for spawned in &view.spawned {
        let verb = if view.dry_run { "Would spawn" } else { "Spawned" };
        let attempt = if spawned.attempt > 1 { format!(", attempt {}", spawned.attempt) } else { String::new() };
        context.output.line(&format!(
            "{verb} `{}` with `{}` on `{}` in {}{attempt}",
            spawned.worker,
            spawned.agent,
            spawned.branch,
            spawned.worktree.display()
        ))?;
        spawned.warnings.iter().for_each(|warning| context.output.warn(warning));
    }
    for entry in &view.queued {
        let verb = if view.dry_run { "Would queue" } else { "Queued" };
        context.output.line(&format!("{verb} `{}`: {}", entry.ticket, one_line(&entry.why)))?;
    }
    if !view.dry_run && !view.queued.is_empty() {
        context.output.narrate("swarm run or swarm up starts what is queued");
    }
    if !view.dry_run && context.output.verbose {
        context.output.narrate("swarm status --watch shows them, swarm attach WORKER enters a terminal");
    }
    Ok(())
}

/// A line on standard error for each ticket being spawned, when that takes longer than a blink.
struct Bars {
    /// Draws them; hidden without a terminal.
    all: MultiProgress,
    /// One a ticket under way.
    bars: Mutex<Vec<(String, ProgressBar)>>,
    /// Whether to draw at all.
    is_on: bool,
}

impl Bars {
    /// No bars yet.
    fn new(is_on: bool) -> Self {
        Self { all: MultiProgress::new(), bars: Mutex::default(), is_on: is_on && std::io::stderr().is_terminal() }
    }

    /// Takes everything off the screen.
    fn clear(&self) {
        self.all.clear().ok();
    }
}

impl SpawnProgress for Bars {
    fn step(&self, ticket: &str, step: SpawnStep) {
        // The first steps take milliseconds; a line that only flickers helps nobody.
        if !self.is_on || step < SpawnStep::Worktree {
            return;
        }
        let mut bars = self.bars.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let text = format!("{ticket}: {}", step.as_clause());
        if let Some((_, bar)) = bars.iter().find(|(known, _)| known == ticket) {
            bar.set_message(text);
            return;
        }
        let bar = self.all.add(ProgressBar::new_spinner());
        bar.set_style(ProgressStyle::default_spinner());
        bar.set_message(text);
        bar.enable_steady_tick(Duration::from_millis(100));
        bars.push((ticket.to_owned(), bar));
    }

    fn done(&self, ticket: &str, _spawned: bool) {
        let mut bars = self.bars.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        bars.retain(|(known, bar)| {
            if known == ticket {
                bar.finish_and_clear();
            }
            known != ticket
        });
    }
}
