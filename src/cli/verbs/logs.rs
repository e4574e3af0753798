//! `swarm logs`: events, tool calls, or what the terminal showed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cli::Context;
use crate::cli::args::LogsArgs;
use crate::cli::output::{Style, cut, last_lines, one_line, width};
use crate::coordinator::{Control, Failure, LogPaths};
use crate::model::event::{Event, EventRecord};
use crate::model::tool_call::{ToolBody, ToolOutcome, ToolRecord};
use crate::model::{Time, counted, duration_text};
use crate::store::LogReader;
use crate::terminal;

/// How often a followed log is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Runs the verb.
pub(super) fn run(args: &LogsArgs, context: &Context) -> Result<(), Failure> {
    let control = context.control()?;
    let paths = control.log_paths(&args.worker)?;
    if args.terminal {
        return show_terminal(args, &paths, &control, context);
    }
    if args.tools {
        let reader = LogReader::<ToolRecord>::new(&paths.tools, 0);
        let numbers = RefCell::new(HashMap::new());
        follow(args, reader, &control, context, |record, context| tool_line(record, &numbers, context))
    } else {
        let reader = LogReader::<EventRecord>::new(&paths.events, 0);
        follow(args, reader, &control, context, event_line)
    }
}

/// Prints what is in a log, and with `--follow` what comes, until the worker has ended.
fn follow<T: DeserializeOwned + Serialize>(
    args: &LogsArgs,
    mut reader: LogReader<T>,
    control: &Control,
    context: &Context,
    line: impl Fn(&T, &Context) -> String,
) -> Result<(), Failure> {
    loop {
        // Asked before reading: what is written until the end is then still read.
        let living = args.follow && control.is_living(&args.worker)?;
        while let Some(record) = reader.next_record()? {
            match record {
                Ok(record) if context.output.json => context.output.record(&record)?,
                Ok(record) => context.output.line(&line(&record, context))?,
                Err(bad) => {
                    context.output.warn(&format!("a line at byte {} is not readable: {}", bad.offset, bad.reason))
                }
            }
        }
        if !living {
            return Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Prints the text that the terminal showed.
fn show_terminal(args: &LogsArgs, paths: &LogPaths, control: &Control, context: &Context) -> Result<(), Failure> {
    let mut shown = 0;
    loop {
        let living = args.follow && control.is_living(&args.worker)?;
        // Lines that have scrolled by do not change any more; the last one may.
        let lines = terminal::plain_text(&paths.terminal, usize::MAX)?;
        let end = if living { lines.len().saturating_sub(1) } else { lines.len() };
        for line in lines.get(shown..end).unwrap_or_default() {
            context.output.line(line)?;
        }
        shown = shown.max(end);
        if !living {
            return Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The time of day of a record, in UTC as everywhere.
pub(super) fn clock(at: Time) -> String {
    at.clock()
}

/// The numbers of the calls that have begun, by conversation and id.
type Numbers = RefCell<HashMap<(String, String), u64>>;

/// One tool record as a line, with the number by which `rewind` knows the call: that of its start.
fn tool_line(record: &ToolRecord, numbers: &Numbers, context: &Context) -> String {
    let key = (record.origin.session_id.clone(), record.call_id.clone());
    let number = *numbers.borrow_mut().entry(key).or_insert(record.seq);
    let at = context.output.paint(Style::Dim, &format!("{} {:>5}", clock(record.at), format!("#{number}")));
    let who = record.agent_id.as_ref().map(|id| format!(" ({id})")).unwrap_or_default();
    match &record.body {
        ToolBody::Start { input, .. } => {
            let room = width().unwrap_or(120).saturating_sub(record.tool.len() + who.len() + 22);
            let input = cut(&one_line(&brief(input)), room.max(20));
            format!("{at} -> {}{who} {}", context.output.paint(Style::Bold, &record.tool), input)
        }
        ToolBody::End { outcome, duration_ms, error, exit_code, .. } => {
            let (word, style) = match outcome {
                ToolOutcome::Ok => ("ok", Style::Green),
                ToolOutcome::Error => ("error", Style::Red),
                ToolOutcome::Denied => ("denied", Style::Yellow),
                ToolOutcome::Interrupted => ("interrupted", Style::Yellow),
                ToolOutcome::Lost => ("lost", Style::Red),
            };
            let took = duration_text(Duration::from_millis(*duration_ms));
            let code =
                exit_code.filter(|code| *code != 0).map(|code| format!(", exit code {code}")).unwrap_or_default();
            let error = error.as_ref().map(|error| format!(": {}", cut(&one_line(error), 100))).unwrap_or_default();
            format!("{at} <- {}{who} {} in {took}{code}{error}", record.tool, context.output.paint(style, word))
        }
    }
}

/// The part of a tool's input that says most.
fn brief(input: &serde_json::Value) -> String {
    let keys = ["command", "file_path", "path", "pattern", "url", "query", "description", "prompt"];
    let said = keys.iter().find_map(|key| input.get(key).and_then(serde_json::Value::as_str));
    said.map_or_else(|| input.to_string(), str::to_owned)
}

/// One event as a line.
fn event_line(record: &EventRecord, context: &Context) -> String {
    let at = context.output.paint(Style::Dim, &clock(record.at));
    // Line by line: what a check wrote has several.
    let text = event_text(&record.event).lines().map(one_line).collect::<Vec<_>>().join("\n");
    format!("{at} {text}")
}

/// An event as a sentence.
pub(super) fn event_text(event: &Event) -> String {
    match event {
        Event::SpawnStep { step } => format!("spawn: {}", step.as_clause()),
        Event::TakenOver { node, commit } => format!("goes on with what node {node} left ({})", commit.short()),
        Event::NotHandedOver { reason } => format!("could not be handed over to other nodes: {reason}"),
        Event::SpawnUndone { reason } => format!("spawn undone: {reason}"),
        Event::AgentStarted { pid, attempt, resumed: false, .. } => {
            format!("agent started as pid {pid}, attempt {attempt}")
        }
        Event::AgentStarted { pid, attempt, resumed: true, .. } => {
            format!("agent resumed as pid {pid}, attempt {attempt}")
        }
        Event::StatusChanged { status, reason } => format!("{}: {reason}", status.as_str()),
        Event::MessageQueued { bytes, from } => {
            let from = from.as_ref().map(|from| format!(" from {from}")).unwrap_or_default();
            format!("message{from} queued ({})", counted(*bytes, "byte"))
        }
        Event::MailSent { to, bytes, .. } => format!("message sent to {to} ({})", counted(*bytes, "byte")),
        Event::MailDelivered { from, .. } => format!("message from {from} delivered"),
        Event::MailExpired { from, .. } => format!("message from {from} expired before it could be delivered"),
        Event::MessageSent { bytes } => format!("message delivered ({})", counted(*bytes, "byte")),
        Event::ProviderRetry { reason } => format!("provider: {reason}"),
        Event::LeftoversCommitted { commit, files } => {
            format!("committed {} as {}", counted(*files, "leftover file"), commit.short())
        }
        Event::CheckRan { result } => {
            let end = if result.passed { String::new() } else { last_lines(&result.output_tail) };
            format!("check {}: {}\n{end}", result.clause(), result.run).trim_end().to_owned()
        }
        Event::OutsideScope { files, count } => {
            let more = if *count > files.len() { ", ..." } else { "" };
            format!("changes {} outside the scope: {}{more}", counted(*count, "file"), files.join(", "))
        }
        Event::AttemptEnded { outcome, .. } => {
            let (status, reason) = outcome.verdict();
            format!("attempt ended, {}: {reason}", status.as_str())
        }
        Event::ReviewerEnded { agent, commit, verdict, comments, cost_usd } => {
            let cost = cost_usd.map(|cost| format!(", ${cost:.2}")).unwrap_or_default();
            let word = if verdict == "no_verdict" { "gave no verdict" } else { verdict.as_str() };
            format!("reviewer {agent}: {word} at {}, {comments} comments{cost}", commit.short())
        }
        Event::Reviewed { verdict, commit, by } => format!("{verdict} at {} by {by}", commit.short()),
        Event::LandingIntent { target, to, .. } => format!("landing on {target} as {}", to.short()),
        Event::Landed { target, commit } => format!("landed on {target} as {}", commit.short()),
        Event::Returned { reason, files } if files.is_empty() => format!("returned: {reason}"),
        Event::Returned { reason, files } => format!("returned: {reason} ({})", files.join(", ")),
        Event::Released { keep } => format!("released, kept in {keep}"),
        Event::KeptRemoved { reference, commit, why } => format!("removed {reference} ({commit}): {why}"),
        Event::Rewound { call, keep, from, to } => {
            let (from, to) = (from.short(), to.short());
            format!("rewound to the state after call #{call}, from {from} to {to}, kept in {keep}")
        }
        Event::PullRequest { url, what } => format!("pull request {url}: {what}"),
        Event::Warning { text } => format!("warning: {text}"),
    }
}
