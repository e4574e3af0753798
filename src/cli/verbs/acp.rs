//! `swarm acp`: the hidden process in a worker's terminal that speaks the Agent Client Protocol with an agent.

use std::process::ExitCode;

use super::own_loop::{Messenger, streams};
use crate::agent::{self, AcpPlan};
use crate::cli::Context;
use crate::cli::args::AcpArgs;
use crate::coordinator::Failure;

/// Runs the verb.
pub(super) fn run(args: &AcpArgs, context: &Context) -> Result<ExitCode, Failure> {
    let plan = AcpPlan::load(&args.plan)?;
    let (io, raw) = streams(plan.is_print, context);
    let concluded = agent::run_acp(plan, io, Box::new(Messenger::new(context)));
    drop(raw);
    Ok(ExitCode::from(concluded?.exit_code()))
}
