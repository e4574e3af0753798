//! `swarm events`: everything that happened, in one order.

use std::time::{Duration, Instant};

use super::logs::{clock, event_text};
use crate::cli::Context;
use crate::cli::args::{EventKindChoice, EventsArgs};
use crate::cli::output::{Output, Style, one_line};
use crate::coordinator::views::{BusFact, EventView, Fact, QueueFact, StreamFact};
use crate::coordinator::{EventFilter, EventKind, EventReader, Failure, NodeEventReader, Since};
use crate::model::event::SwarmEvent;
use crate::model::worker::Status;
use crate::model::{AgentName, Time, counted, duration_text};

/// Columns that names of tickets and workers get at least, so that most lines are below each other.
const NAME_WIDTH: usize = 14;
/// The same of names of nodes.
const NODE_WIDTH: usize = 8;
/// How often it is seen to that somebody who went away without a sign does not keep us.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Runs the verb.
pub(super) fn run(args: &EventsArgs, context: &Context) -> Result<(), Failure> {
    let since = args.since.unwrap_or(if args.follow { Since::Recent } else { Since::Beginning });
    let mut reader = Reader::begin(args, since, context)?;
    let mut day = String::new();
    loop {
        let events = reader.next_batch()?;
        for event in &events {
            show(event, &mut day, context)?;
        }
        if !events.is_empty() {
            continue;
        }
        if !args.follow || !context.output.has_reader() {
            return Ok(());
        }
        reader.wait(|| context.output.has_reader())?;
    }
}

/// What is read.
enum Reader {
    /// What happened here.
    Here(EventReader),
    /// What happened at all nodes.
    AllNodes(NodeEventReader),
}

impl Reader {
    /// A reader of what was asked for.
    fn begin(args: &EventsArgs, since: Since, context: &Context) -> Result<Self, Failure> {
        let (control, filter) = (context.control()?, filter(args)?);
        Ok(match args.all_nodes {
            false => Self::Here(control.events(since, &filter)?),
            true => Self::AllNodes(control.node_events(since, &filter)?),
        })
    }

    /// The next events; empty when there are none for now.
    fn next_batch(&mut self) -> Result<Vec<EventView>, Failure> {
        match self {
            Self::Here(reader) => reader.next_batch(),
            Self::AllNodes(reader) => reader.next_batch(),
        }
    }

    /// Waits until there are more, as long as it `is_wanted` and for a while.
    fn wait(&mut self, is_wanted: impl Fn() -> bool) -> Result<bool, Failure> {
        let until = Some(Instant::now() + LOOK_EVERY);
        match self {
            Self::Here(reader) => reader.wait(until, is_wanted),
            Self::AllNodes(reader) => Ok(reader.wait(until, is_wanted)),
        }
    }
}

/// What was asked for.
fn filter(args: &EventsArgs) -> Result<EventFilter, Failure> {
    let ticket = args.ticket.as_deref().map(str::parse).transpose()?;
    let kinds = args.kinds.iter().map(|kind| match kind {
        EventKindChoice::Queue => EventKind::Queue,
        EventKindChoice::Worker => EventKind::Worker,
        EventKindChoice::Swarm => EventKind::Swarm,
        EventKindChoice::Bus => EventKind::Bus,
    });
    Ok(EventFilter { ticket, kinds: kinds.collect() })
}

/// Prints one event, for a person below the day it belongs to.
fn show(event: &EventView, day: &mut String, context: &Context) -> Result<(), Failure> {
    if context.output.json {
        return context.output.record(event);
    }
    let (today, _) = date(event.at);
    if *day != today {
        context.output.line(&context.output.paint(Style::Bold, &today))?;
        *day = today;
    }
    let number = if context.output.verbose { format!("{:>6} ", event.seq) } else { String::new() };
    context.output.line(&format!("{}{}", context.output.paint(Style::Dim, &number), event_line(event, &context.output)))
}

/// Day and time of day, in UTC as everywhere.
fn date(at: Time) -> (String, String) {
    (at.to_string().get(..10).unwrap_or_default().to_owned(), clock(at))
}

/// One event in a line: when, whom it is about, what.
pub(super) fn event_line(event: &EventView, output: &Output) -> String {
    let at = output.paint(Style::Dim, &clock(event.at));
    let (style, text) = text(event);
    let mut text = text.lines().map(one_line);
    let first = text.next().unwrap_or_default();
    // Anybody may write to the server, and no line of theirs looks like an event of its own.
    let indent = if event.node.is_some() { "  " } else { "" };
    let rest: String = text.map(|line| format!("\n{indent}{line}")).collect();
    let name = match (&event.worker, &event.ticket) {
        (Some(worker), _) => worker.as_str(),
        (None, Some(ticket)) => ticket.as_str(),
        (None, None) => "swarm",
    };
    let node = event.node.as_ref().map(|node| format!("{:NODE_WIDTH$} ", node.as_str())).unwrap_or_default();
    let name = output.paint(Style::Bold, &format!("{name:NAME_WIDTH$}"));
    format!("{at} {node}{name} {}{rest}", output.paint(style, &first))
}

/// What happened, as a clause, and whether it is good.
fn text(event: &EventView) -> (Style, String) {
    match &event.fact {
        Fact::Queue(QueueFact::Moved { from, to, attempt, .. }) => {
            let from = from.map(|from| format!("{from} -> ")).unwrap_or_default();
            let attempt = if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
            (Style::Plain, format!("{from}{to}{attempt}"))
        }
        Fact::Worker(event) => (worker_style(event), event_text(event)),
        Fact::Swarm(fact) => (swarm_style(fact), swarm_text(fact, event.at)),
        Fact::Bus(BusFact::Published { message }) => {
            (Style::Plain, format!("{} on {}: {}", message.from, message.channel, message.text))
        }
        Fact::Stream(StreamFact::Pruned { first, last }) => {
            (Style::Yellow, format!("events {first} to {last} are not kept any more"))
        }
        Fact::Stream(StreamFact::Away { reason }) => {
            (Style::Yellow, format!("{reason}; what happens meanwhile comes when it is there again"))
        }
        Fact::Stream(StreamFact::Unreadable { reason }) => {
            (Style::Yellow, format!("event {} is not readable here: {reason}", event.seq))
        }
    }
}

/// How an event of a worker stands out.
fn worker_style(event: &crate::model::event::Event) -> Style {
    use crate::model::event::Event;
    match event {
        Event::StatusChanged { status, .. } => Style::of(*status),
        Event::AttemptEnded { outcome, .. } => Style::of(outcome.verdict().0),
        Event::CheckRan { result } if !result.passed => Style::Red,
        Event::Landed { .. } => Style::Green,
        Event::Returned { .. } | Event::NotHandedOver { .. } | Event::Warning { .. } | Event::ProviderRetry { .. } => {
            Style::Yellow
        }
        Event::SpawnUndone { .. } => Style::of(Status::Failed),
        _ => Style::Plain,
    }
}

/// How an event of the coordinator stands out.
fn swarm_style(event: &SwarmEvent) -> Style {
    match event {
        SwarmEvent::TokenPassed { skipped: Some(_), .. }
        | SwarmEvent::Stuck { .. }
        | SwarmEvent::LimitReached { .. }
        | SwarmEvent::Paced { .. } => Style::Yellow,
        SwarmEvent::Reconfigured { used: false, .. } | SwarmEvent::QueueFellBack { .. } => Style::Yellow,
        SwarmEvent::RunEnded { exit_code: 0, .. } => Style::Green,
        SwarmEvent::RunEnded { .. } => Style::Red,
        SwarmEvent::Held { .. } | SwarmEvent::HoldEnded => Style::Dim,
        _ => Style::Plain,
    }
}

/// An event of the coordinator that happened at `at`, as a clause.
fn swarm_text(event: &SwarmEvent, at: Time) -> String {
    match event {
        SwarmEvent::RunBegan { tickets, max_workers } => {
            let what = match tickets.len() {
                0 => "whatever is queued".to_owned(),
                count => counted(count, "ticket"),
            };
            format!("run began: {what}, up to {} at once", counted(*max_workers, "worker"))
        }
        SwarmEvent::RunEnded { exit_code, why } => format!("run ended with exit code {exit_code}: {why}"),
        SwarmEvent::LeaseTaken { role, holder, .. } => format!("{holder} is {role} now"),
        SwarmEvent::LeaseLost { role, holder, .. } => format!("{holder} is {role} no longer"),
        SwarmEvent::Reconfigured { why, .. } => format!("the configuration changed and {why}"),
        SwarmEvent::Scaled { from, to, why, .. } => {
            format!("up to {} at once, instead of {from}: {why}", counted(*to, "worker"))
        }
        SwarmEvent::TopologyChanged { from, to } => format!("the topology changed from {from} to {to}"),
        SwarmEvent::NodeChanged { node, to } => format!("node {node} {}", to.clause()),
        SwarmEvent::TokenPassed { from, to, turn, of, skipped } => {
            let name =
                |agent: &Option<AgentName>| agent.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string);
            let what = match (from, to) {
                (None, _) => format!("its token is with {}", name(to)),
                (Some(_), Some(_)) => format!("its token passed from {} to {}", name(from), name(to)),
                (Some(_), None) => "its round ended".to_owned(),
            };
            let place = to.as_ref().map(|_| format!(", {turn} of {of}")).unwrap_or_default();
            let why =
                skipped.as_ref().map(|why| format!("; {} was passed over: {why}", name(from))).unwrap_or_default();
            format!("{what}{place}{why}")
        }
        SwarmEvent::Held { why, until } => {
            let until = until.map(|until| format!(", until {}", clock(until))).unwrap_or_default();
            format!("held: {why}{until}")
        }
        SwarmEvent::HoldEnded => "held no longer".to_owned(),
        SwarmEvent::Paced { model, why, until } => format!("{model} is left alone until {}: {why}", clock(*until)),
        SwarmEvent::Stuck { since, why } => {
            format!("stuck for {}: {why}", duration_text(since.age_at(at)))
        }
        SwarmEvent::Nudged => "asked how it is getting on".to_owned(),
        SwarmEvent::LimitReached { why } => format!("limit reached: {why}"),
        SwarmEvent::QueueFellBack { why } => format!("tickets are queued in this repository, because {why}"),
        SwarmEvent::Mended { what } => what.clone(),
    }
}
