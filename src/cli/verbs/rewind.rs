//! `swarm rewind`.

use crate::cli::Context;
use crate::cli::args::RewindArgs;
use crate::coordinator::{Failure, RewindRequest};

/// Runs the verb.
pub(super) fn run(args: &RewindArgs, context: &Context) -> Result<(), Failure> {
    let request = RewindRequest { worker: args.worker.clone(), to: args.to.clone(), dry_run: args.dry_run };
    let view = context.control()?.rewind(&request)?;
    if context.output.json {
        return context.output.document(&view);
    }
    if let Some(other) = view.state_of.filter(|other| *other > view.call) {
        let text =
            format!("calls up to #{other} ended together with #{}; their changes are in the state, too", view.call);
        context.output.warn(&text);
    }
    let verb = if view.dry_run { "Would bring" } else { "Brought" };
    let files = if view.files == 1 { "1 file".to_owned() } else { format!("{} files", view.files) };
    let (worker, call, tool) = (&view.worker, view.call, &view.tool);
    context
        .output
        .line(&format!("{verb} `{worker}` back to the state after call #{call} ({tool}): {files} changed"))?;
    if !view.left.is_empty() {
        let count = if view.left.len() == 1 { "1 commit".to_owned() } else { format!("{} commits", view.left.len()) };
        let is = if view.dry_run { "would leave" } else { "left" };
        context.output.line(&format!("  {count} {is} the branch, which is at {}:", &view.to[..8]))?;
        for commit in &view.left {
            context.output.line(&format!("    {} {}", &commit.id[..8], commit.subject))?;
        }
    }
    if let Some(keep) = &view.keep {
        context.output.line(&format!("  What was there is kept in {keep}"))?;
        context.output.narrate(&format!("its agent does not know of it; tell it: swarm send {worker} TEXT"));
    }
    Ok(())
}
