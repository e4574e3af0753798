//! One file per verb: what it asks of [`crate::coordinator::Control`], and how the answer is shown.

mod acp;
mod act;
mod agents;
mod attach;
mod budget;
mod bus;
mod clean;
mod completions;
mod conflicts;
mod demo;
mod doctor;
mod events;
mod hook;
mod init;
mod log;
mod logs;
mod man;
mod merge;
mod node;
mod own_loop;
mod plan;
mod queue;
mod recover;
mod replay;
mod resolve;
mod review;
mod rewind;
mod run;
mod scale;
mod spawn;
mod stats;
mod status;
mod supervise;
mod ticket;
mod topology;
mod trust;
mod up;
mod wait;

use std::process::ExitCode;

use super::Context;
use super::args::Verb;
use crate::coordinator::{Failure, FailureKind};

/// Runs a verb. Its exit code where that is not simply success.
pub(super) fn run(verb: Verb, context: &Context) -> Result<ExitCode, Failure> {
    if let Some((what, instead)) = without_json(&verb).filter(|_| context.output.json) {
        let failure = Failure::new(FailureKind::Usage, format!("{what} has no answer in JSON"));
        return Err(failure.hint(instead));
    }
    match verb {
        Verb::Init(args) => init::run(&args, context)?,
        Verb::Ticket(verb) => ticket::run(&verb, context)?,
        Verb::Spawn(args) => spawn::run(&args, context)?,
        Verb::Run(args) => return run::run(&args, context),
        Verb::Up(args) => up::up(&args, context)?,
        Verb::Down(args) => up::down(&args, context)?,
        Verb::Lead(args) => return up::lead(&args, context),
        Verb::Queue(verb) => queue::run(&verb, context)?,
        Verb::Scale(args) => scale::run(&args, context)?,
        Verb::Node(verb) => node::run(&verb, context)?,
        Verb::Topology(verb) => topology::run(&verb, context)?,
        Verb::Status(args) => status::run(&args, context)?,
        Verb::Attach(args) => return attach::run(&args, context),
        Verb::Send(args) => act::send(&args, context)?,
        Verb::Log(args) => log::run(&args, context)?,
        Verb::Logs(args) => logs::run(&args, context)?,
        Verb::Events(args) => events::run(&args, context)?,
        Verb::Bus(verb) => bus::run(&verb, context)?,
        Verb::Stats(args) => stats::run(&args, context)?,
        Verb::Wait(args) => wait::run(&args, context)?,
        Verb::Stop(args) => act::stop(&args, context)?,
        Verb::Pause(args) => act::pause(&args, context)?,
        Verb::Resume(args) => act::resume(&args, context)?,
        Verb::Restart(args) => act::restart(&args, context)?,
        Verb::Why(args) => status::explain(&args, context)?,
        Verb::Rm(args) => merge::rm(&args, context)?,
        Verb::Diff(args) => review::diff(&args, context)?,
        Verb::Review(args) => return review::review(&args, context),
        Verb::Conflicts(args) => conflicts::run(&args, context)?,
        Verb::Merge(args) => return merge::merge(&args, context),
        Verb::Resolve(args) => resolve::run(&args, context)?,
        Verb::Recover(verb) => recover::run(&verb, context)?,
        Verb::Clean(args) => clean::run(&args, context)?,
        Verb::Rewind(args) => rewind::run(&args, context)?,
        Verb::Demo(args) => return demo::run(&args, context),
        Verb::Replay(verb) => replay::run(&verb, context)?,
        Verb::Plan(args) => return plan::run(&args, context),
        Verb::Budget(args) => budget::run(&args, context)?,
        Verb::Trust(args) => trust::run(&args, context)?,
        Verb::Agents(verb) => agents::run(&verb, context)?,
        Verb::Doctor(args) => doctor::run(&args, context)?,
        Verb::Completions(args) => completions::run(&args, context)?,
        Verb::Man(args) => man::run(&args, context)?,
        Verb::Supervise(args) => supervise::run(&args)?,
        Verb::Acp(args) => return acp::run(&args, context),
        Verb::Radar => context.control()?.tell_overlaps()?,
        Verb::Carry(args) => context.control()?.carry_finished(&args.worker, &args.commit)?,
        Verb::Loop(args) => return own_loop::run(&args, context),
        Verb::Hook(args) => hook::run(&args, context)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What has no answer in JSON, and what to do instead. It is refused: a script would take text for an answer.
fn without_json(verb: &Verb) -> Option<(&'static str, &'static str)> {
    let plain = "leave out --json";
    match verb {
        Verb::Attach(_) => Some(("attach", "swarm status --json and swarm logs --json tell what a worker does")),
        Verb::Completions(_) => Some(("completions", plain)),
        Verb::Man(_) => Some(("man", plain)),
        Verb::Demo(_) => Some(("demo", plain)),
        Verb::Logs(args) if args.terminal => Some((
            "logs --terminal",
            "leave out --json, or read terminal.N.cast in the worker's folder of .git/swarm/workers",
        )),
        _ => None,
    }
}
