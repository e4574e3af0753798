//! `swarm supervise`: the hidden process that owns one worker.

use crate::cli::args::SuperviseArgs;
use crate::coordinator::Failure;
use crate::supervisor;

/// Runs the verb.
pub(super) fn run(args: &SuperviseArgs) -> Result<(), Failure> {
    Ok(supervisor::supervise(&args.handover)?)
}
