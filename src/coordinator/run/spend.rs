//! Budgets of the coordinator: nothing is started over one.

use std::collections::BTreeMap;

use super::schedule::{Candidate, Draft};
use crate::model::budget::{BudgetSettings, Scope, Spend};
use crate::model::coordination::{Hold, HoldKind};
use crate::model::{TicketId, Time};

/// What was spent, and what may be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spent {
    /// The budgets of the settings.
    pub(crate) budget: BudgetSettings,
    /// What this run spent.
    pub(crate) run: Spend,
    /// What was spent today.
    pub(crate) day: Spend,
    /// When the next day begins; `None` where no budget was looked at.
    pub(crate) day_ends_at: Option<Time>,
    /// What was spent on each ticket.
    pub(crate) tickets: BTreeMap<TicketId, Spend>,
}

/// A budget of its ticket, of the run or of the day is used up. Somebody has to raise it; one of the day also comes back
/// with the next day, which a coordinator without an end lives to see.
pub(crate) fn budget(draft: &Draft<'_>, candidate: &Candidate<'_>) -> Option<Hold> {
    let spent = &draft.world.spent;
    let ticket = &candidate.entry.ticket;
    let own = spent.tickets.get(&ticket.id).copied().unwrap_or_default();
    let of_ticket = ticket.budget.or(spent.budget.ticket).reached(Scope::Ticket, &own);
    let of_run = || spent.budget.run.reached(Scope::Run, &spent.run);
    let of_day = || spent.budget.day.reached(Scope::Day, &spent.day);
    let reached = of_ticket.or_else(of_run).or_else(of_day)?;
    let until = spent.day_ends_at.filter(|_| reached.scope == Scope::Day);
    let why = format!("is not started: {reached}; {}", reached.how_to_raise());
    Some(Hold { ticket: ticket.id.clone(), kind: HoldKind::Limit, why, until })
}
