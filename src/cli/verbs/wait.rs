//! `swarm wait`.

use crate::cli::Context;
use crate::cli::args::WaitArgs;
use crate::cli::output::one_line;
use crate::coordinator::{Control, Failure, WaitRequest};

/// Runs the verb.
pub(super) fn run(args: &WaitArgs, context: &Context) -> Result<(), Failure> {
    let request = WaitRequest {
        workers: args.workers.clone(),
        targets: args.targets.clone(),
        any: args.any,
        timeout: args.timeout,
    };
    wait(&request, &context.control()?, context)
}

/// Waits and shows where the workers stand then.
pub(super) fn wait(request: &WaitRequest, control: &Control, context: &Context) -> Result<(), Failure> {
    let (view, result) = control.wait(request)?;
    if context.output.json {
        context.output.document(&view)?;
    } else {
        for worker in &view.workers {
            let status = worker.status.as_str();
            context.output.line(&format!("`{}` is {status}: {}", worker.id, one_line(&worker.reason)))?;
        }
        if view.workers.is_empty() {
            context.output.narrate("no live worker to wait for");
        }
    }
    result
}
