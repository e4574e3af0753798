//! `swarm replay`: model conversations without a model.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::cli::Context;
use crate::cli::args::{ReplayCheckArgs, ReplayServeArgs, ReplayVerb};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::{Output, Style, Table, one_line, width};
use crate::coordinator::{Failure, FailureKind};
use crate::files::{self, FileError};
use crate::llm::play::{Play, PlayError, PlayKind, PlayView};
use crate::llm::serve::{RequestRecord, ServeView, Server};
use crate::model::error_text;

/// How often it is looked whether the server should end.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs the verb.
pub(super) fn run(verb: &ReplayVerb, context: &Context) -> Result<(), Failure> {
    match verb {
        ReplayVerb::Serve(args) => serve(args, context),
        ReplayVerb::Check(args) => check(args, context),
    }
}

/// Reads a file to play.
fn load(file: &Path, context: &Context) -> Result<Play, Failure> {
    let file = context.call()?.directory.join(file);
    Play::load(&file).map_err(|error| match error {
        PlayError::Script(error) => error.into(),
        PlayError::Missing(_) => Failure::from_error(FailureKind::NotFound, &error),
        PlayError::NotText(_) | PlayError::Recording(_) => Failure::from_error(FailureKind::Usage, &error),
        PlayError::File(_) => Failure::from_error(FailureKind::Failed, &error),
    })
}

/// `replay check`.
fn check(args: &ReplayCheckArgs, context: &Context) -> Result<(), Failure> {
    let view = load(&args.file, context)?.view(&args.file);
    if context.output.json {
        return context.output.document(&view);
    }
    context.output.print(&render(&view, &context.output))
}

/// The table of conversations.
fn render(view: &PlayView, output: &Output) -> String {
    let chosen = if view.kind == PlayKind::Recording { "FIRST PROMPT" } else { "CHOSEN BY" };
    let mut table = Table::new(&["CONVERSATION", "TURNS", "CALLS", "FAULTS", chosen], Some(4));
    for one in &view.conversations {
        let numbers = [one.turns, one.calls, one.faults].map(|number| (Style::Plain, number.to_string()));
        let name = [(Style::Bold, one.name.clone())];
        table.row(name.into_iter().chain(numbers).chain([(Style::Plain, one.chosen_by.clone())]));
    }
    table.render(output.color, width())
}

/// `replay serve`.
fn serve(args: &ReplayServeArgs, context: &Context) -> Result<(), Failure> {
    let interrupt = Interrupt::listen()?;
    if !args.listen.ip().is_loopback() && !args.public {
        let text = format!("`{}` can be reached from other machines", args.listen);
        return Err(Failure::new(FailureKind::Usage, text).hint("add --public if that is meant"));
    }
    let play = load(&args.file, context)?;
    let view = play.view(&args.file);
    let log = args.requests.as_deref().map(|file| open_log(file, context)).transpose()?;
    let output = context.output.clone();
    let observer = move |record: &RequestRecord| tell(record, log.as_ref(), &output);
    let server = start(play, args.listen, Box::new(observer))?;
    let served = ServeView::new(&server, view);
    if context.output.json {
        context.output.record(&served)?;
    } else {
        context.output.print(&introduce(&served))?;
        context.output.narrate("Ctrl-C ends it; -v shows each request.");
    }
    let abandoned = if args.until_stdin_ends { when_stdin_ends() } else { Arc::default() };
    while !interrupt.is_set() && !abandoned.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK_EVERY);
    }
    drop(server);
    Ok(())
}

/// Starts the server.
fn start(play: Play, listen: SocketAddr, observer: crate::llm::serve::Observer) -> Result<Server, Failure> {
    Server::start(play, listen, observer).map_err(|error| {
        let mut failure = Failure::from_error(FailureKind::Failed, &error);
        failure.chain.insert(0, format!("could not listen at `{listen}`"));
        failure
    })
}

/// Where it is, and lines that point clients there; they can be pasted or given to `eval`.
fn introduce(served: &ServeView) -> String {
    let mut text = format!("# {} at {}\n", served.file(), served.url);
    for (name, value) in &served.environment {
        text.push_str(&format!("export {name}={value}\n"));
    }
    text
}

/// Opens the log of requests, made anew.
fn open_log(file: &Path, context: &Context) -> Result<Mutex<std::fs::File>, Failure> {
    let path = context.call()?.directory.join(file);
    let log = files::open_log(&path)?;
    log.set_len(0).map_err(FileError::on("empty", &path))?;
    Ok(Mutex::new(log))
}

/// Writes a request down and shows it.
fn tell(record: &RequestRecord, log: Option<&Mutex<std::fs::File>>, output: &Output) {
    if let Some(log) = log {
        let mut line = serde_json::to_vec(record).unwrap_or_default();
        line.push(b'\n');
        let written = log.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line);
        if let Err(error) = written {
            output.warn(&format!("a request could not be written down: {}", error_text(&error)));
        }
    }
    let reply = &record.reply;
    if let Some(error) = &reply.error {
        output.warn(&format!("{} {}: {error}", record.method, one_line(&record.path)));
    } else if output.verbose {
        let place = match (&reply.conversation, reply.turn) {
            (Some(name), Some(turn)) => format!("  {name} turn {turn}:"),
            _ => String::new(),
        };
        let answer = reply.answer.as_ref().map_or_else(String::new, |answer| format!(" {answer}"));
        let fault = reply.fault.as_ref().map_or_else(String::new, |fault| format!("  (fault: {fault})"));
        let what = format!("{} {}  {}{place}{answer}{fault}", record.method, record.path, reply.status);
        output.narrate(&one_line(&what));
    }
}

/// Says when standard input ends: whoever started us holds its other end, and closes it by dying, too.
fn when_stdin_ends() -> Arc<AtomicBool> {
    let ended = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ended);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        while !matches!(input.read(&mut [0; 256]), Ok(0) | Err(_)) {}
        told.store(true, Ordering::Relaxed);
    });
    ended
}
