//! What a run reports besides its closing summary: events as they come, and at its end a JUnit file, what GitHub shows, and
//! a folder of everything.
//!
//! Reports are written however the run ended: well, at a limit, by a signal, or before it began.

use std::path::{Path, PathBuf};

use crate::cli::Context;
use crate::cli::args::ReportArgs;
use crate::cli::output::Output;
use crate::coordinator::views::RunView;
use crate::coordinator::{Control, EventFilter, Failure, FailureKind, Since};
use crate::files::{self, Access, FileError};
use crate::model::Time;

use super::artifacts::Artifacts;
use super::follow::{Follower, Records, Sinks, Stream};
use super::github::{self, Silence};
use super::junit;
use super::report::Report;

/// Events of a run are written here in the folder of artifacts.
const EVENTS_FILE: &str = "events.jsonl";

/// The reports of one run.
pub(super) struct Reporting<'a> {
    /// Which.
    args: &'a ReportArgs,
    /// The streams and the environment.
    context: &'a Context,
    /// Where text for a person goes.
    stream: Stream,
    /// The folder of everything.
    artifacts: Option<Artifacts>,
    /// The JUnit file.
    junit: Option<PathBuf>,
    /// Passes events on.
    follower: Option<Follower>,
    /// Keeps what others say from being commands to the CI system.
    silence: Option<Silence>,
    /// When it began.
    began_at: Time,
}

impl<'a> Reporting<'a> {
    /// Begins with what happens from now on.
    ///
    /// # Errors
    /// When a place to write to cannot be made: before anything has happened.
    pub(super) fn begin(args: &'a ReportArgs, control: &Control, context: &'a Context) -> Result<Self, Failure> {
        let to_stdout = is_stdout(args);
        // Paths are meant from the folder of -C.
        let directory = context.call()?.directory;
        let place = |path: &Option<PathBuf>| path.as_ref().map(|path| directory.join(path));
        if to_stdout && context.output.json {
            let failure = Failure::new(FailureKind::Usage, "--events - and --json both want standard output");
            return Err(failure.hint("give --events a file"));
        }
        let stream = if args.ci && !to_stdout && !context.output.json { Stream::Out } else { Stream::Err };
        let artifacts = place(&args.artifacts).as_deref().map(Artifacts::make).transpose()?;
        let mut records = Vec::new();
        let file = place(&args.events).filter(|_| !to_stdout);
        if to_stdout {
            records.push(Records::Stdout);
        }
        if let Some(path) = &file {
            records.push(Records::open(path)?);
        }
        if let Some(path) = artifacts.as_ref().map(|folder| folder.file(EVENTS_FILE))
            && !file.is_some_and(|other| is_same_file(&other, &path))
        {
            records.push(Records::open(&path)?);
        }
        let lines = args.ci.then_some(stream);
        let silence = if args.ci && is_github(context) {
            let (silence, line) = Silence::begin();
            stream.line(&line, &context.output);
            Some(silence)
        } else {
            None
        };
        let follower = if lines.is_some() || !records.is_empty() {
            let reader = control.events(Since::Now, &EventFilter::default())?;
            Some(Follower::begin(reader, Sinks { records, lines, output: context.output.clone() }))
        } else {
            None
        };
        let junit = place(&args.junit);
        Ok(Self { args, context, stream, artifacts, junit, follower, silence, began_at: Time::now() })
    }

    /// Prints the closing summary, to standard output unless events have that, and writes every report. What could not be
    /// written is a warning each: the run is what its exit code says.
    pub(super) fn end(self, ran: Result<&RunView, &Failure>, summary: &[String], control: &Control) {
        let output = &self.context.output;
        for failure in self.follower.map(Follower::end).unwrap_or_default() {
            warn("the events could not be passed on", &failure, output);
        }
        let answers = if is_stdout(self.args) { Stream::Err } else { Stream::Out };
        // While nothing is taken for a command: it has words of agents.
        summary.iter().for_each(|line| answers.line(line, output));
        let is_wanted = self.args.ci || self.junit.is_some() || self.artifacts.is_some();
        if !is_wanted {
            return;
        }
        let report = match ran {
            Ok(view) => Report::of(view, control),
            Err(failure) => Report::broken(failure, self.began_at),
        };
        if let Some(path) = &self.junit {
            let written = files::write_atomically(path, junit::document(&report).as_bytes(), Access::Shared);
            if let Err(error) = written {
                warn("the JUnit report could not be written", &error.into(), output);
            }
        }
        if let Some(silence) = self.silence {
            self.stream.line(&silence.end(), output);
            for line in github::annotations(&report) {
                self.stream.line(&line, output);
            }
        }
        if let Some(path) = self.context.environment.get("GITHUB_STEP_SUMMARY").filter(|_| self.args.ci)
            && is_github(self.context)
            && let Err(failure) = append(Path::new(path), &github::summary(&report))
        {
            warn("the summary of the step could not be written", &failure, output);
        }
        for failure in self.artifacts.map(|folder| folder.write(&report, ran.ok(), control)).unwrap_or_default() {
            warn("something is missing in the artifacts", &failure, output);
        }
    }
}

/// Whether events go to standard output.
fn is_stdout(args: &ReportArgs) -> bool {
    args.events.as_deref().is_some_and(|path| path.as_os_str() == "-")
}

/// Whether GitHub Actions runs this.
fn is_github(context: &Context) -> bool {
    context.environment.get("GITHUB_ACTIONS") == Some("true")
}

/// Whether two paths are one file that exists.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    real(one).is_some() && real(one) == real(other)
}

/// Appends to a file that others have written to.
fn append(path: &Path, text: &str) -> Result<(), Failure> {
    use std::io::Write;
    let mut file = files::open_log(path)?;
    Ok(file.write_all(text.as_bytes()).map_err(FileError::on("append to", path))?)
}

/// Tells of a report that could not be written.
fn warn(what: &str, failure: &Failure, output: &Output) {
    output.warn(&format!("{what}: {}", failure.chain.join(": ")));
}
