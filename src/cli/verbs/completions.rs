//! `swarm completions`.

use clap_complete::env::Shells;

use crate::cli::Context;
use crate::cli::args::CompletionsArgs;
use crate::coordinator::{Failure, FailureKind};

/// The program that a script asks for candidates, and completes for.
const PROGRAM: &str = "swarm";

/// Prints a script that asks `swarm` itself for candidates, so that ids of workers and tickets complete too.
pub(super) fn run(args: &CompletionsArgs, context: &Context) -> Result<(), Failure> {
    let internal = |error: std::io::Error| Failure::from_error(FailureKind::Internal, &error);
    let shells = Shells::builtins();
    let name = args.shell.to_string();
    let shell = shells.completer(&name).ok_or_else(|| {
        let known: Vec<_> = shells.names().collect();
        Failure::new(FailureKind::Usage, format!("no completions for `{name}`"))
            .hint(format!("one of {}", known.join(", ")))
    })?;
    let mut script = Vec::new();
    // The variable is the one that `CompleteEnv` listens to.
    shell.write_registration("COMPLETE", PROGRAM, PROGRAM, PROGRAM, &mut script).map_err(internal)?;
    context.output.print_bytes(&script)
}
