//! `swarm demo`: the whole main path on a small repository, with the real agent loop and a script for its model.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::cli::Context;
use crate::cli::args::DemoArgs;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Style;
use crate::coordinator::views::{MergeView, StatusView};
use crate::coordinator::{
    Control, Failure, FailureKind, MergeProgress, MergeRequest, ReviewRequest, SpawnProgress, SpawnRequest, demo,
};
use crate::model::duration_text;
use crate::model::ticket::TicketState;
use crate::model::worker::{SpawnStep, Status};
use crate::store::ReviewVerdict;

/// How often the workers are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The agents take about two seconds; a demo that hangs is a fault to be told.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the verb.
pub(super) fn run(args: &DemoArgs, context: &Context) -> Result<ExitCode, Failure> {
    let interrupt = Interrupt::listen()?;
    let folder = tempfile::Builder::new().prefix("swarm-demo-").tempdir();
    let folder = folder.map_err(|error| Failure::from_error(FailureKind::Failed, &error))?;
    let repository = folder.path().join("inventory");
    let mut call = context.call()?;
    // A tmux server of its own, so that ending it touches nobody else's sessions, and its socket goes with the folder.
    let socket = folder.path().join("tmux").display().to_string();
    call.overrides.push(("tmux.socket".to_owned(), socket.clone()));
    let control = demo::make(&repository, &call)?;
    let story = Story { control: &control, context, interrupt, began: Instant::now() };
    let told = story.tell(&repository);
    if args.keep {
        // Kept also after a failure: then above all somebody wants to look.
        let kept = folder.keep();
        story.say_kept(&kept.join("inventory"), &socket)?;
    } else {
        story.clean()?;
    }
    match told {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(_) if story.interrupt.is_set() => Ok(ExitCode::from(130)),
        Err(failure) => Err(failure),
    }
}

/// What the demo needs while it is told.
struct Story<'a> {
    control: &'a Control,
    context: &'a Context,
    interrupt: Interrupt,
    began: Instant,
}

impl Story<'_> {
    /// The whole of it.
    fn tell(&self, repository: &Path) -> Result<(), Failure> {
        self.heading("A small repository with four tickets; two of them will conflict")?;
        self.line(&format!("  {}", repository.display()))?;
        self.heading("swarm spawn search total counts docs")?;
        let tickets: Vec<String> = demo::TICKETS.iter().map(|ticket| (*ticket).to_owned()).collect();
        let request = SpawnRequest { tickets: tickets.clone(), ..SpawnRequest::default() };
        let (view, result) = self.control.spawn(&request, &Quiet)?;
        for spawned in &view.spawned {
            self.line(&format!("  Spawned `{}` on `{}`", spawned.worker, spawned.branch))?;
        }
        result?;
        self.heading("swarm status --watch")?;
        self.watch(&tickets)?;
        self.heading("swarm review WORKER --approve, swarm merge")?;
        let merged = self.approve_and_merge(&tickets)?;
        let returned: Vec<String> = merged.returned.iter().map(|entry| entry.worker.clone()).collect();
        if !returned.is_empty() {
            self.heading("The conflict went back to its agent, with the evidence as its next prompt")?;
            self.watch(&returned)?;
            self.heading("swarm review WORKER --approve, swarm merge")?;
            self.approve_and_merge(&returned)?;
        }
        self.heading("git log --graph --oneline main")?;
        self.line(self.control.graph(self.context.output.color)?.trim_end())?;
        let took = duration_text(self.began.elapsed());
        self.line(&format!(
            "\nFour branches landed in {took}, each tested as exactly the tree that landed. No model took part: what it would \
             have said came from a file, and the agent loop made every call for real."
        ))
    }

    /// Shows the workers until all of them rest.
    fn watch(&self, workers: &[String]) -> Result<(), Failure> {
        let in_place = std::io::stdout().is_terminal();
        let deadline = Instant::now() + PATIENCE;
        let mut said = BTreeMap::new();
        let mut lines = 0;
        loop {
            let view = self.control.status(workers, true)?;
            if in_place {
                lines = self.redraw(&view, lines)?;
            } else {
                self.tell_changes(&view, &mut said)?;
            }
            // Whoever says that it is done moves its ticket right after that.
            let has_moved = |state: Option<TicketState>| state != Some(TicketState::Running);
            if view.workers.iter().all(|worker| is_at_rest(worker.status) && has_moved(worker.ticket_state)) {
                return all_in_review(&view);
            }
            if self.interrupt.is_set() {
                return Err(Failure::new(FailureKind::Failed, "interrupted"));
            }
            if Instant::now() > deadline {
                return Err(Failure::new(FailureKind::TimedOut, "the demo's workers did not finish"));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Draws the table over the last one; its height comes back.
    fn redraw(&self, view: &StatusView, last: usize) -> Result<usize, Failure> {
        let table = self.context.output.visible(&super::status::table(view, &self.context.output));
        let up = if last > 0 { format!("\x1b[{last}A") } else { String::new() };
        let lines: String = table.lines().map(|line| format!("{line}\x1b[K\n")).collect();
        self.context.output.print_bytes(format!("{up}{lines}").as_bytes())?;
        Ok(table.lines().count())
    }

    /// Without a terminal: a line for each change.
    fn tell_changes(&self, view: &StatusView, said: &mut BTreeMap<String, Status>) -> Result<(), Failure> {
        for worker in &view.workers {
            if said.insert(worker.id.clone(), worker.status) != Some(worker.status) {
                self.line(&format!("  {}: {}, {}", worker.id, worker.status.as_str(), worker.reason))?;
            }
        }
        Ok(())
    }

    /// Approves finished work and lands what fits.
    fn approve_and_merge(&self, workers: &[String]) -> Result<MergeView, Failure> {
        for worker in workers {
            let verdict = Some(ReviewVerdict::Approved);
            let approve = ReviewRequest { worker: worker.clone(), verdict, ..ReviewRequest::default() };
            let done = self.control.judge(&approve)?;
            self.line(&format!("  `{worker}`: {}", done.text))?;
        }
        let request = MergeRequest { workers: workers.to_vec(), ..MergeRequest::default() };
        let (view, result) = self.control.merge(&request, &mut Quiet)?;
        for landed in &view.landed {
            let commit = landed.commit.as_ref().map_or("", |commit| &commit[..8]);
            let gates: Vec<_> = landed.gates.iter().map(|gate| format!("gate {} passed", gate.name)).collect();
            self.line(&format!("  Landed `{}` as {commit} ({})", landed.worker, gates.join(", ")))?;
        }
        for returned in &view.returned {
            self.line(&format!("  Returned `{}`: {}", returned.worker, returned.why))?;
        }
        if view.returned.is_empty() { result.map(|()| view) } else { Ok(view) }
    }

    /// Removes everything.
    fn clean(&self) -> Result<(), Failure> {
        let (_, stopped) = self.control.stop(&[], true)?;
        self.control.kill_tmux_server()?;
        self.control.forget_trust()?;
        stopped?;
        self.context.output.narrate("Removed the demo's repository; --keep leaves it for exploring.");
        Ok(())
    }

    /// Says where everything lies.
    fn say_kept(&self, repository: &Path, socket: &str) -> Result<(), Failure> {
        let place = repository.display();
        self.line(&format!("\nEverything is kept:\n  repository   {place}"))?;
        self.line(&format!("  logs         {place}/.git/swarm/workers/*/events.jsonl, terminal.1.cast"))?;
        self.line(&format!("  terminals    tmux -S {socket} list-sessions"))?;
        self.line(&format!("Try: cd {place} && swarm status --all, swarm logs search, swarm recover list"))?;
        self.line(&format!(
            "Remove it: tmux -S {socket} kill-server; rm -r {}",
            repository.parent().unwrap_or(repository).display()
        ))
    }

    /// One line of the story.
    fn line(&self, text: &str) -> Result<(), Failure> {
        self.context.output.line(text)
    }

    /// What comes next.
    fn heading(&self, text: &str) -> Result<(), Failure> {
        self.line(&format!("\n{}", self.context.output.paint(Style::Bold, text)))
    }
}

/// Whether a worker has come to rest.
fn is_at_rest(status: Status) -> bool {
    !matches!(status, Status::Starting | Status::Working | Status::Idle | Status::Unknown)
}

/// Every worker's work is in review.
fn all_in_review(view: &StatusView) -> Result<(), Failure> {
    match view.workers.iter().find(|worker| worker.ticket_state != Some(TicketState::Review)) {
        None => Ok(()),
        Some(worker) => {
            let text = format!("`{}` is {}: {}", worker.id, worker.status.as_str(), worker.reason);
            Err(Failure::new(FailureKind::Failed, text).hint("repeat with --keep and look at its logs"))
        }
    }
}

/// Hears of progress and says nothing: the demo has its own words.
struct Quiet;

impl SpawnProgress for Quiet {
    fn step(&self, _ticket: &str, _step: SpawnStep) {}
    fn done(&self, _ticket: &str, _spawned: bool) {}
}

impl MergeProgress for Quiet {
    fn tell(&mut self, _worker: &str, _what: &str) {}
}
