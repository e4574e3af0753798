//! The events of a run as they come: lines for a log, records for a program. On a thread of its own, so that nothing waits
//! for who reads them.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::cli::output::Output;
use crate::cli::verbs::events::event_line;
use crate::coordinator::views::{EventView, Fact, QueueFact};
use crate::coordinator::{EventReader, Failure, FailureKind};
use crate::files::{self, FileError};
use crate::model::event::Event;
use crate::model::ticket::TicketState;
use crate::model::worker::Status;

/// How often it is asked whether the run is over.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where records go.
pub(super) enum Records {
    /// Standard output.
    Stdout,
    /// A file, made anew.
    File(File),
}

impl Records {
    /// A file, made anew with its folders.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            files::make_folder(folder)?;
        }
        Ok(Self::File(File::create(path).map_err(FileError::on("make", path))?))
    }

    /// Writes one event as a line.
    fn write(&mut self, event: &EventView, output: &Output) -> Result<(), Failure> {
        match self {
            Self::Stdout => output.record(event),
            Self::File(file) => {
                let mut line =
                    serde_json::to_vec(event).map_err(|error| Failure::from_error(FailureKind::Internal, &error))?;
                line.push(b'\n');
                file.write_all(&line).map_err(|error| Failure::from_error(FailureKind::Failed, &error))
            }
        }
    }
}

/// What becomes of each event.
pub(super) struct Sinks {
    /// Where records go; one that cannot be written to any more is left out from then on.
    pub(super) records: Vec<Records>,
    /// Whether there are lines for a person, and whether they go to standard error.
    pub(super) lines: Option<Stream>,
    /// The streams.
    pub(super) output: Output,
}

/// One of the two streams for text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl Stream {
    /// Prints a line; a reader that went away is no concern of the run.
    pub(super) fn line(self, text: &str, output: &Output) {
        match self {
            Self::Out => drop(output.line(text)),
            Self::Err => output.narrate(text),
        }
    }
}

impl Sinks {
    /// Passes an event on. The failures of records that end here.
    fn take(&mut self, event: &EventView) -> Vec<Failure> {
        if let Some(stream) = self.lines.filter(|_| self.output.verbose || is_worth_a_line(event)) {
            // What comes from agents never begins a line: CI systems read commands there.
            stream.line(&event_line(event, &self.output).replace('\n', "\n  | "), &self.output);
        }
        let mut failures = Vec::new();
        self.records.retain_mut(|records| match records.write(event, &self.output) {
            Ok(()) => true,
            Err(failure) => {
                failures.push(failure);
                false
            }
        });
        failures
    }
}

/// Whether a log wants an event; details and steps between are for `--verbose`.
fn is_worth_a_line(event: &EventView) -> bool {
    match &event.fact {
        Fact::Queue(QueueFact::Moved { from, to, .. }) => {
            // The first publication as queued is followed by what becomes of it.
            !matches!((from, to), (_, TicketState::Approved | TicketState::Landing) | (None, TicketState::Queued))
        }
        Fact::Worker(event) => match event {
            Event::StatusChanged { status, .. } => matches!(status, Status::Waiting | Status::Lost),
            Event::SpawnStep { .. }
            | Event::MessageQueued { .. }
            | Event::MessageSent { .. }
            | Event::MailSent { .. }
            | Event::MailDelivered { .. }
            | Event::LandingIntent { .. }
            | Event::Released { .. } => false,
            _ => true,
        },
        Fact::Swarm(_) | Fact::Bus(_) | Fact::Stream(_) => true,
    }
}

/// The thread.
pub(super) struct Follower {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Failure>>,
}

impl Follower {
    /// Begins to pass on what happens after the reader's place.
    pub(super) fn begin(reader: EventReader, sinks: Sinks) -> Self {
        let is_over = Arc::<AtomicBool>::default();
        let told = is_over.clone();
        Self { is_over, thread: std::thread::spawn(move || follow(reader, sinks, &told)) }
    }

    /// Passes on what there still is, and ends. What was not passed on, and why.
    pub(super) fn end(self) -> Vec<Failure> {
        self.is_over.store(true, Ordering::Release);
        let fault = || Failure::new(FailureKind::Internal, "the thread that passes events on ended with a panic");
        self.thread.join().unwrap_or_else(|_| vec![fault()])
    }
}

/// Passes events on until the run is over and there are none left.
fn follow(mut reader: EventReader, mut sinks: Sinks, is_over: &AtomicBool) -> Vec<Failure> {
    let mut failures = Vec::new();
    loop {
        // Asked before reading: what was written until the end is then still read.
        let is_last = is_over.load(Ordering::Acquire);
        let events = match reader.next_batch() {
            Ok(events) => events,
            Err(failure) => {
                failures.push(failure);
                return failures;
            }
        };
        events.iter().for_each(|event| failures.extend(sinks.take(event)));
        if events.is_empty() && is_last {
            return failures;
        }
        if events.is_empty() {
            let until = Some(Instant::now() + LOOK_EVERY);
            if let Err(failure) = reader.wait(until, || !is_over.load(Ordering::Acquire)) {
                failures.push(failure);
                return failures;
            }
        }
    }
}
