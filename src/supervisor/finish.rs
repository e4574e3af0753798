//! What happens when an agent says it is finished: leftovers are committed, the ticket's checks run, and what is
//! there is judged against the base. Blocking; the supervisor runs it on a thread of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use super::machine::{FinishReport, RETURNS};
use crate::config::{Template, Templates};
use crate::git::{CommitOutcome, GitError, Operation, Repository};
use crate::model::briefing::Briefing;
use crate::model::event::Event;
use crate::model::scope::Scope;
use crate::model::settings::Limits;
use crate::model::ticket::Ticket;
use crate::model::worker::{CheckResult, Place};
use crate::model::{CommitId, counted, duration_text, error_text, size_text};
use crate::process::{self, Invocation, ProcessError};

/// Bytes of a check's output that are kept.
const OUTPUT_TAIL: usize = 8 * 1024;

/// Files outside of a scope that are named.
const OUTSIDE_SHOWN: usize = 50;

/// Lines of a refusing hook that are logged.
const HOOK_LINES: usize = 20;

/// What finishing needs to know.
#[derive(Debug, Clone)]
pub(super) struct Finish {
    /// The repository.
    pub(super) repository: Repository,
    /// Its ticket.
    pub(super) ticket: Ticket,
    /// Where it works.
    pub(super) place: Place,
    /// The agent's environment: checks and hooks see what the agent saw.
    pub(super) env: Vec<(String, String)>,
    /// Durations and sizes.
    pub(super) limits: Limits,
    /// The repository's template overrides.
    pub(super) templates: Vec<(PathBuf, String)>,
    /// The variables of templates.
    pub(super) briefing: Briefing,
    /// How often evidence was given back in this attempt.
    pub(super) returns: u32,
    /// A commit beyond this one is needed.
    pub(super) returned_at: Option<CommitId>,
    /// Whether another agent goes on with it, so that nothing needs to be there yet.
    pub(super) is_followed: bool,
    /// Whether it runs, and whether it should not any more.
    pub(super) progress: Arc<Progress>,
}

/// Where a finishing is, for who wants to end it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// It runs.
    is_running: AtomicBool,
    /// No further command is to be started.
    is_cancelled: AtomicBool,
}

impl Progress {
    /// One that is about to run.
    pub(super) fn begin() -> Arc<Self> {
        Arc::new(Self { is_running: AtomicBool::new(true), is_cancelled: AtomicBool::new(false) })
    }

    /// Whether it still runs.
    pub(super) fn is_running(&self) -> bool {
        self.is_running.load(Ordering::Acquire)
    }

    /// Whether nobody wants what it is about any more.
    pub(super) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }

    /// Whether there is a verdict that somebody still wants.
    pub(super) fn has_judged(&self) -> bool {
        !self.is_running() && !self.is_cancelled()
    }

    /// Makes it start no further command; the present one is the caller's to end.
    pub(super) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Release);
    }
}

/// What finishing found and did.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finishing {
    /// The verdict for the machine.
    pub(super) report: FinishReport,
    /// Results of the checks that ran.
    pub(super) checks: Vec<CheckResult>,
    /// Events to log.
    pub(super) events: Vec<Event>,
    /// Files that the work changes outside the scope of its ticket, the first ones.
    pub(super) outside_scope: Vec<String>,
}

impl Finish {
    /// Does it all. What goes wrong on the way passes or is something a person has to look at, never a lost attempt.
    pub(super) fn run(&self) -> Finishing {
        let report = FinishReport::NoChanges;
        let mut finishing = Finishing { report, checks: Vec::new(), events: Vec::new(), outside_scope: Vec::new() };
        finishing.report = match self.judge(&mut finishing) {
            Ok(report) => report,
            Err(error) => FinishReport::Hindered(error),
        };
        self.progress.is_running.store(false, Ordering::Release);
        finishing
    }

    /// The steps in order.
    fn judge(&self, done: &mut Finishing) -> Result<FinishReport, String> {
        // Without it everything would look new.
        self.head()?;
        if let Some(report) = self.commit_leftovers(done)? {
            return Ok(report);
        }
        let head = self.head()?;
        let nested = self.nested()?;
        if head == self.place.base {
            return Ok(match nested {
                Some(what) => {
                    FinishReport::NeedsPerson(format!("{what}; commit, move or remove it, then `swarm resume`"))
                }
                None if self.is_followed => FinishReport::Work(head),
                None => FinishReport::NoChanges,
            });
        }
        if let Some(text) = nested {
            done.events.push(Event::Warning { text });
        }
        if self.returned_at.as_ref() == Some(&head) {
            return Ok(FinishReport::NothingNew);
        }
        self.run_checks(done)?;
        if done.checks.iter().any(|check| !check.passed) {
            return self.checks_failed(&done.checks);
        }
        // A check may have committed or formatted something: what is judged is what is there now.
        match self.commit_leftovers(done)? {
            Some(report) => Ok(report),
            None => {
                let head = self.head()?;
                self.compare_with_scope(&head, done)?;
                Ok(FinishReport::Work(head))
            }
        }
    }

    /// Notes what the work changes outside the scope of its ticket. That is for the review, and stops nothing.
    fn compare_with_scope(&self, head: &CommitId, done: &mut Finishing) -> Result<(), String> {
        let scope = Scope::new(&self.ticket.scope);
        if !scope.is_stated() {
            return Ok(());
        }
        let base = self.repository.own_base(&self.place, head).map_err(|error| sentence(&error))?;
        let files = self.repository.changed_files(&base, head).map_err(|error| sentence(&error))?;
        let mut outside = scope.outside(files);
        let count = outside.len();
        outside.truncate(OUTSIDE_SHOWN);
        if count > 0 {
            done.events.push(Event::OutsideScope { files: outside.clone(), count });
        }
        done.outside_scope = outside;
        Ok(())
    }

    /// Says no once it is cancelled.
    fn go_on(&self) -> Result<(), String> {
        if self.progress.is_cancelled() { Err("finishing was interrupted".to_owned()) } else { Ok(()) }
    }

    /// Commits what is left; a report when that ends the finishing.
    fn commit_leftovers(&self, done: &mut Finishing) -> Result<Option<FinishReport>, String> {
        let worktree = &self.place.worktree;
        let leftovers = self.repository.leftovers(worktree, &self.place.made_paths).map_err(|e| sentence(&e))?;
        if let Some(operation) = leftovers.operation {
            return Ok(Some(unfinished(operation)));
        }
        if leftovers.branch.as_ref() != Some(&self.place.branch) {
            let why = format!("its worktree is not on its branch `{}`", self.place.branch);
            return Ok(Some(FinishReport::NeedsPerson(why)));
        }
        if leftovers.files.is_empty() {
            return Ok(None);
        }
        if leftovers.files.len() > self.limits.leftover_files || leftovers.bytes > self.limits.leftover_bytes {
            return Ok(Some(FinishReport::NeedsPerson(too_much(&leftovers.files, leftovers.bytes))));
        }
        self.go_on()?;
        let message = self.render(Template::CommitLeftovers, ())?;
        let env: Vec<_> = self.env.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let outcome = self
            .repository
            .commit_leftovers(worktree, &leftovers.files, &message, self.limits.commit_timeout, Some(&env))
            .map_err(|e| sentence(&e))?;
        match outcome {
            CommitOutcome::Committed(commit) => {
                done.events.push(Event::LeftoversCommitted { commit, files: leftovers.files.len() });
                Ok(None)
            }
            CommitOutcome::Nothing => Ok(None),
            CommitOutcome::HookRefused { hook, output } => {
                let text = format!("commit hook {hook} refused; at its end it said:\n{}", tail(&output));
                done.events.push(Event::Warning { text });
                Ok(Some(self.hook_refused(&output, &leftovers.files)?))
            }
            CommitOutcome::Unfinished(operation) => Ok(Some(unfinished(operation))),
            CommitOutcome::TimedOut { output } => Ok(Some(FinishReport::NeedsPerson(commit_took_too_long(&output)))),
        }
    }

    /// What is said of work inside repositories of their own, which no commit of the branch can hold.
    fn nested(&self) -> Result<Option<String>, String> {
        let leftovers = self.repository.leftovers(&self.place.worktree, &self.place.made_paths);
        let nested = leftovers.map_err(|error| sentence(&error))?.nested;
        let paths: Vec<_> = nested.iter().map(|path| format!("`{}`", path.display())).collect();
        let what = || format!("there is uncommitted work in repositories of their own: {}", paths.join(", "));
        Ok((!paths.is_empty()).then(what))
    }

    /// The branch's head in the worktree.
    fn head(&self) -> Result<CommitId, String> {
        let head = self.repository.branch_head(&self.place.branch).map_err(|e| sentence(&e))?;
        head.ok_or_else(|| {
            let branch = &self.place.branch;
            format!("its branch `{branch}` is gone; bring it back (git branch {branch} COMMIT), then `swarm resume`")
        })
    }

    /// Runs the ticket's checks in order, to the first that fails.
    fn run_checks(&self, done: &mut Finishing) -> Result<(), String> {
        for run in &self.ticket.checks {
            self.go_on()?;
            let result = run_command(run, &self.place.worktree, &self.env, self.limits.check_timeout)
                .map_err(|error| format!("check `{run}` could not run: {error}"))?;
            done.events.push(Event::CheckRan { result: result.clone() });
            let passed = result.passed;
            done.checks.push(result);
            if !passed {
                break;
            }
        }
        Ok(())
    }

    /// The report of failed checks.
    fn checks_failed(&self, checks: &[CheckResult]) -> Result<FinishReport, String> {
        let limit = duration_text(self.limits.check_timeout);
        let failures = checks.iter().filter(|check| !check.passed).map(|check| Failure {
            command: &check.run,
            exit_code: check.exit_code,
            timeout: check.timed_out.then_some(&limit),
            output: &check.output_tail,
            output_cut: check.output_tail.len() >= OUTPUT_TAIL,
        });
        let failures = failures.collect();
        let passed = checks.iter().filter(|check| check.passed).map(|check| check.run.as_str()).collect();
        Ok(FinishReport::ChecksFailed(self.render(Template::ChecksFailed, Checks { failures, passed })?))
    }

    /// The prompt for a refused commit.
    fn hook_refused(&self, output: &str, files: &[PathBuf]) -> Result<FinishReport, String> {
        let files = files.iter().map(|file| file.display().to_string()).collect();
        let output_cut = output.len() >= OUTPUT_TAIL;
        let tries_left = RETURNS.saturating_sub(self.returns + 1);
        let refused = Refused { exit_code: None, timeout: None, output, output_cut, files, tries_left };
        Ok(FinishReport::HookRefused(self.render(Template::HookFailed, refused)?))
    }

    /// Renders one of our templates.
    fn render(&self, template: Template, more: impl Serialize) -> Result<String, String> {
        let templates = Templates::from_files(self.templates.clone()).map_err(|error| error.to_string())?;
        templates.render(template, self.briefing.with(more)).map_err(|error| error.to_string())
    }
}

/// Runs one shell command in a worktree and keeps the end of its output.
///
/// # Errors
/// When it could not be started or followed; running too long is a result.
pub(super) fn run_command(
    run: &str,
    worktree: &Path,
    env: &[(String, String)],
    timeout: Duration,
) -> Result<CheckResult, ProcessError> {
    let mut call = Invocation::new("sh", worktree).args(["-c", run]);
    call.env = Some(env.iter().map(|(name, value)| (name.into(), value.into())).collect());
    call.timeout = Some(timeout);
    call.tail = Some(OUTPUT_TAIL);
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let run = run.to_owned();
    match process::run(&call) {
        Ok(done) => Ok(CheckResult {
            run,
            passed: done.status.success(),
            exit_code: done.status.code(),
            timed_out: false,
            duration_ms: millis(done.duration),
            output_tail: done.text(),
        }),
        Err(ProcessError::TimedOut { output, limit, .. }) => Ok(CheckResult {
            run,
            passed: false,
            exit_code: None,
            timed_out: true,
            duration_ms: millis(limit),
            output_tail: output,
        }),
        Err(error) => Err(error),
    }
}

/// The last lines of what a hook said.
fn tail(output: &str) -> String {
    let lines: Vec<_> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    if lines.is_empty() { "nothing".to_owned() } else { lines[lines.len().saturating_sub(HOOK_LINES)..].join("\n") }
}

/// What a person reads when a commit hook hangs.
fn commit_took_too_long(output: &str) -> String {
    match output.lines().map(str::trim).rfind(|line| !line.is_empty()) {
        Some(last) => format!("committing its leftovers took too long; the last its hooks said: {last}"),
        None => "committing its leftovers took too long, and its hooks said nothing".to_owned(),
    }
}

/// What a person reads when the agent left git in the middle of something.
fn unfinished(operation: Operation) -> FinishReport {
    let what = format!("{operation:?}").to_lowercase();
    FinishReport::NeedsPerson(format!("a {what} is unfinished in its worktree; end it, then `swarm resume`"))
}

/// What a person reads when there is too much to commit unasked.
fn too_much(files: &[PathBuf], bytes: u64) -> String {
    let first: Vec<_> = files.iter().take(3).map(|file| file.display().to_string()).collect();
    format!(
        "{} ({}) {} too many to commit unasked: {}{}; commit, ignore or remove them, then `swarm resume`",
        counted(files.len(), "uncommitted file"),
        size_text(bytes),
        if files.len() == 1 { "is" } else { "are" },
        first.join(", "),
        if files.len() > first.len() { ", ..." } else { "" }
    )
}

/// An error with its causes and its hint in one line.
fn sentence(error: &GitError) -> String {
    match error.hint() {
        Some(hint) => format!("{}; {hint}", error_text(error)),
        None => error_text(error),
    }
}

/// Variables of `hook_failed.md`.
#[derive(Serialize)]
struct Refused<'a> {
    exit_code: Option<i32>,
    timeout: Option<String>,
    output: &'a str,
    output_cut: bool,
    files: Vec<String>,
    tries_left: u32,
}

/// Variables of `checks_failed.md`.
#[derive(Serialize)]
struct Checks<'a> {
    failures: Vec<Failure<'a>>,
    passed: Vec<&'a str>,
}

/// One failed check.
#[derive(Serialize)]
struct Failure<'a> {
    command: &'a str,
    exit_code: Option<i32>,
    timeout: Option<&'a String>,
    output: &'a str,
    output_cut: bool,
}
