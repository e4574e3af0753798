//! The report of a run that ended, from what is known about its tickets and workers.

use std::collections::HashMap;

use super::report::{Case, Reason, Report, Verdict};
use crate::coordinator::Control;
use crate::coordinator::views::{RunTicketView, RunView, WorkerView};
use crate::model::TicketId;
use crate::model::coordination::HoldKind;
use crate::model::ticket::TicketState;

impl Report {
    /// The report of a run that ended. What cannot be found out about a ticket is left out.
    pub(super) fn of(view: &RunView, control: &Control) -> Self {
        let workers = control.status(&[], true).map(|status| status.workers).unwrap_or_default();
        // The newest of each ticket; what landed has given its worker up.
        let workers: HashMap<&str, &WorkerView> =
            workers.iter().map(|worker| (worker.ticket.as_str(), worker)).collect();
        let times = control.work_times(view.began_at, view.ended_at).unwrap_or_default();
        let case = |ticket: &RunTicketView| {
            let worker = workers.get(ticket.ticket.as_str()).copied();
            let id: Option<TicketId> = ticket.ticket.parse().ok();
            Case {
                ticket: ticket.ticket.clone(),
                title: ticket.title.clone(),
                file: id.as_ref().and_then(|id| control.file_of_ticket(id)),
                state: ticket.state.to_string(),
                agent: worker.map(|worker| worker.agent.clone()),
                worker: worker.map(|worker| worker.id.clone()),
                branch: worker.map(|worker| worker.branch.clone()),
                attempts: ticket.attempts,
                took: id.and_then(|id| times.get(&id).copied()),
                cost_usd: worker.and_then(|worker| worker.cost_usd),
                verdict: verdict(ticket, worker, control),
            }
        };
        Self {
            run: view.run.as_str().to_owned(),
            began_at: view.began_at,
            ended_at: view.ended_at,
            exit_code: view.exit_code,
            why: view.why.clone(),
            cases: view.tickets.iter().map(case).collect(),
            broken: None,
        }
    }
}

/// How a ticket went. One that nobody can start without a person is a fault, not one whose turn did not come.
fn verdict(ticket: &RunTicketView, worker: Option<&WorkerView>, control: &Control) -> Verdict {
    let why = ticket.why.clone().unwrap_or_else(|| format!("is {}", ticket.state));
    let evidence = || worker.map(|worker| control.explained(worker)).unwrap_or_default();
    match ticket.state {
        _ if ticket.made => Verdict::Made,
        TicketState::Failed | TicketState::Dead => Verdict::Failed(Reason { why, evidence: evidence() }),
        _ if ticket.attempts == 0 && ticket.waits_for != Some(HoldKind::Person) => Verdict::NotStarted(why),
        _ => Verdict::Unfinished(Reason { why, evidence: evidence() }),
    }
}
