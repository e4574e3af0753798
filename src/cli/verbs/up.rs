//! `swarm up`, `swarm down`, and the process in the background that they start and end.

use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use super::run::{Lines, control};
use crate::cli::Context;
use crate::cli::args::{DownArgs, LeadArgs, WorkArgs};
use crate::coordinator::views::CoordinatorView;
use crate::coordinator::{Failure, FailureKind, RunRequest, UpHandover, UpRequest};
use crate::process;

/// `up`.
pub(super) fn up(args: &WorkArgs, context: &Context) -> Result<(), Failure> {
    show(&context.control()?.up(&request(args))?, context)
}

/// What is asked for.
pub(super) fn request(args: &WorkArgs) -> UpRequest {
    let mut given = vec!["lead".to_owned()];
    given.extend(args.max_workers.map(|count| format!("--max-workers={count}")));
    given.extend(args.merge.then(|| "--merge".to_owned()));
    given.extend(args.headless.then(|| "--headless".to_owned()));
    UpRequest { args: given, lands: args.merge, headless: args.headless }
}

/// `down`.
pub(super) fn down(_: &DownArgs, context: &Context) -> Result<(), Failure> {
    show(&context.control()?.down()?, context)
}

/// Prints what became of the coordinator.
fn show(view: &CoordinatorView, context: &Context) -> Result<(), Failure> {
    if context.output.json { context.output.document(view) } else { context.output.line(&view.text) }
}

/// `lead`: the process in the background. It ends when it is asked to, and never by itself.
pub(super) fn lead(args: &LeadArgs, context: &Context) -> Result<ExitCode, Failure> {
    if let Some(file) = &args.handover {
        return Err(become_described(file, context)?);
    }
    // A session of its own: no terminal's Ctrl-C reaches it. In a tmux pane it leads its session already.
    rustix::process::setsid().ok();
    let control = control(args.work.max_workers, context)?;
    let led = lead_until_asked(args, &control, context);
    if let Err(failure) = &led {
        control.log_background(&failure.chain.join(": ")).ok();
    }
    led
}

/// Leads until somebody asks it to end.
fn lead_until_asked(
    args: &LeadArgs,
    control: &crate::coordinator::Control,
    context: &Context,
) -> Result<ExitCode, Failure> {
    let mut face = Lines::in_background(context.output.clone())?;
    let _guard = control.be_background()?;
    let request =
        RunRequest { is_endless: true, lands: args.work.merge, headless: args.work.headless, ..RunRequest::default() };
    let (view, _) = crate::coordinator::run(control, &request, &mut face)?;
    Ok(ExitCode::from(view.exit_code))
}

/// Becomes the program that a hand-over describes, with the environment of whoever wrote it; the failure where that is not
/// possible.
fn become_described(file: &std::path::Path, context: &Context) -> Result<Failure, Failure> {
    let handover = UpHandover::take(file)?;
    let [program, args @ ..] = &handover.argv[..] else {
        return Err(Failure::new(FailureKind::Internal, "the hand-over names no program"));
    };
    let mut command = process::command(program);
    command.args(args).env_clear().envs(handover.environment);
    // What it can show is a matter of the terminal it is in.
    if let Some(terminal) = context.environment.get("TERM") {
        command.env("TERM", terminal);
    }
    Ok(Failure::from_error(FailureKind::Failed, &command.exec()))
}
