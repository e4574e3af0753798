//! How a run ended: one line a ticket, and the exit code.

use super::Ending;
use super::schedule::{Decision, Standing};
use super::world::World;
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::views::{RunTicketView, RunView, VIEW_VERSION};
use crate::model::coordination::{HoldKind, RunRecord};
use crate::model::counted;
use crate::model::ticket::TicketState;

/// How a run as a whole ended; the word in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunOutcome {
    /// Every ticket made it.
    Done,
    /// Some did not.
    Partial,
    /// None did.
    Failed,
    /// What is left needs a person.
    NeedsPerson,
    /// Its time was over.
    TimedOut,
    /// A limit or budget ended it.
    Limit,
    /// Somebody ended it.
    Interrupted,
}

/// View and failure of a run.
pub(super) fn of_run(
    record: &RunRecord,
    world: &World,
    decision: &Decision,
    ending: Ending,
) -> (RunView, Result<(), Failure>) {
    let tickets: Vec<_> = decision
        .standings
        .iter()
        .filter_map(|(id, standing)| {
            let entry = world.ticket(id)?;
            let (why, waits_for) = match standing {
                Standing::Made => (None, None),
                Standing::Moving => (Some(format!("is {}", entry.state)), None),
                Standing::Held(hold) => (Some(hold.why.clone()), Some(hold.kind)),
                Standing::Failed(why) => (Some(why.clone()), None),
            };
            let seen = world.worker_of(id);
            Some(RunTicketView {
                ticket: id.to_string(),
                title: entry.ticket.title.clone(),
                state: entry.state,
                made: *standing == Standing::Made,
                worker: seen.map(|seen| seen.worker.id.to_string()),
                attempts: entry.attempts,
                why,
                waits_for,
            })
        })
        .collect();
    let outcome = outcome(&tickets, ending);
    let made = tickets.iter().filter(|ticket| ticket.made).count();
    let (kind, why) = told(outcome, made, tickets.len(), ending);
    let exit_code = match (ending, kind) {
        (Ending::Interrupted(signal), _) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        (_, Some(kind)) => kind.exit_code(),
        (_, None) => 0,
    };
    let result = match kind {
        None => Ok(()),
        Some(kind) => Err(hints(Failure::new(kind, why.clone()), &tickets, ending)),
    };
    let view = RunView {
        version: VIEW_VERSION,
        run: record.id.clone(),
        outcome,
        exit_code,
        why,
        began_at: record.began_at,
        ended_at: world.now,
        made,
        tickets,
    };
    (view, result)
}

/// How the run as a whole ended.
fn outcome(tickets: &[RunTicketView], ending: Ending) -> RunOutcome {
    match ending {
        Ending::Interrupted(_) => return RunOutcome::Interrupted,
        Ending::TimedOut if tickets.iter().any(|ticket| !ticket.made) => return RunOutcome::TimedOut,
        Ending::TimedOut | Ending::Settled => {}
    }
    let left: Vec<_> = tickets.iter().filter(|ticket| !ticket.made).collect();
    let all_wait = |kind| left.iter().all(|ticket| ticket.waits_for == Some(kind));
    match left.len() {
        0 => RunOutcome::Done,
        _ if all_wait(HoldKind::Person) => RunOutcome::NeedsPerson,
        _ if all_wait(HoldKind::Limit) => RunOutcome::Limit,
        count if count == tickets.len() => RunOutcome::Failed,
        _ => RunOutcome::Partial,
    }
}

/// The kind of failure that an outcome is, and one clause about it.
fn told(outcome: RunOutcome, made: usize, all: usize, ending: Ending) -> (Option<FailureKind>, String) {
    let left = all - made;
    let of_all = format!("{made} of {}", counted(all, "ticket"));
    match outcome {
        RunOutcome::Done => (None, format!("{} made it", counted(all, "ticket"))),
        RunOutcome::Partial => (Some(FailureKind::Partial), format!("{of_all} made it")),
        RunOutcome::Failed => (Some(FailureKind::Failed), format!("none of {} made it", counted(all, "ticket"))),
        RunOutcome::NeedsPerson => {
            (Some(FailureKind::NeedsPerson), format!("{of_all} made it, and {left} cannot go on without a person"))
        }
        RunOutcome::Limit => (Some(FailureKind::Limit), format!("{of_all} made it, and {left} reached a limit")),
        RunOutcome::TimedOut => (Some(FailureKind::TimedOut), format!("the time was over when {of_all} had made it")),
        RunOutcome::Interrupted => {
            let signal = match ending {
                Ending::Interrupted(2) => "Ctrl-C".to_owned(),
                Ending::Interrupted(signal) => format!("signal {signal}"),
                _ => "a person".to_owned(),
            };
            (Some(FailureKind::Failed), format!("ended by {signal} when {of_all} had made it"))
        }
    }
}

/// What a person can do next.
fn hints(failure: Failure, tickets: &[RunTicketView], ending: Ending) -> Failure {
    let has = |state: TicketState| tickets.iter().any(|ticket| ticket.state == state && !ticket.made);
    let mut failure = failure;
    let is_ended = ending != Ending::Settled;
    if is_ended && has(TicketState::Running) {
        failure = failure.hint("its workers run on: swarm status shows them, swarm stop --all ends them");
    }
    match ending {
        Ending::Interrupted(_) => failure = failure.hint("swarm run goes on with the rest where this one ended"),
        // Of one that stood by, whoever leads goes on.
        Ending::TimedOut if has(TicketState::Running) => {}
        Ending::TimedOut => {
            failure = failure.hint("the rest is queued and its work is kept: swarm run goes on with it")
        }
        Ending::Settled => {}
    }
    if has(TicketState::Dead) {
        failure = failure.hint("swarm queue retry TICKET gives a dead ticket all its attempts anew");
    }
    failure
}
