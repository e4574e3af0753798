//! `swarm send`, `stop`, `pause`, `resume`, `restart`.

use crate::cli::Context;
use crate::cli::args::{PauseArgs, SelectArgs, SendArgs};
use crate::coordinator::{Acted, Failure, FailureKind, SendRequest};

/// `send`.
pub(super) fn send(args: &SendArgs, context: &Context) -> Result<(), Failure> {
    let (workers, text) = match (&args.words[..], args.all) {
        (words, true) => (Vec::new(), words.join(" ")),
        ([worker, words @ ..], false) if !words.is_empty() => (vec![worker.clone()], words.join(" ")),
        _ => return Err(Failure::new(FailureKind::Usage, "name a worker and the text to send")),
    };
    let text = if text == "-" { super::spawn::standard_input()? } else { text };
    let request = SendRequest { workers, all: args.all, text, expires: args.expires };
    show(context.control()?.send(&request)?, context)
}

/// `stop`.
pub(super) fn stop(args: &SelectArgs, context: &Context) -> Result<(), Failure> {
    show(context.control()?.stop(&args.workers, args.all)?, context)
}

/// `pause`.
pub(super) fn pause(args: &PauseArgs, context: &Context) -> Result<(), Failure> {
    show(context.control()?.pause(&args.select.workers, args.select.all, args.now)?, context)
}

/// `resume`.
pub(super) fn resume(args: &SelectArgs, context: &Context) -> Result<(), Failure> {
    show(context.control()?.resume(&args.workers, args.all)?, context)
}

/// `restart`.
pub(super) fn restart(args: &SelectArgs, context: &Context) -> Result<(), Failure> {
    show(context.control()?.restart(&args.workers, args.all)?, context)
}

/// Prints what was done to each worker.
pub(super) fn show((view, result): Acted, context: &Context) -> Result<(), Failure> {
    if context.output.json {
        context.output.document(&view)?;
    } else {
        for action in &view.done {
            context.output.line(&format!("`{}`: {}", action.worker, action.text))?;
        }
        if view.done.is_empty() && view.failed.is_empty() {
            context.output.narrate("no worker to act on");
        }
    }
    result
}
