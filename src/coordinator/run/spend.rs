//! Budgets of the coordinator: nothing is started over one.

use std::collections::BTreeMap;

use super::schedule::{Candidate, Draft};
use crate::model::budget::{Budget, BudgetSettings, Scope, Spend};
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
    /// The budgets of tickets that have used theirs up, as their files say now: a person may have raised them since the
    /// ticket was published.
    pub(crate) raised: BTreeMap<TicketId, Budget>,
}

/// A budget of its ticket, of the run or of the day is used up. Somebody has to raise it; one of the day also comes back
/// with the next day, which a coordinator without an end lives to see.
pub(crate) fn budget(draft: &Draft<'_>, candidate: &Candidate<'_>) -> Option<Hold> {
    let spent = &draft.world.spent;
    let ticket = &candidate.entry.ticket;
    let own = spent.tickets.get(&ticket.id).copied().unwrap_or_default();
    let published = || ticket.budget.or(spent.budget.ticket);
    let budget = spent.raised.get(&ticket.id).copied().unwrap_or_else(published);
    let of_ticket = budget.reached(Scope::Ticket, &own);
    let of_run = || spent.budget.run.reached(Scope::Run, &spent.run);
    let of_day = || spent.budget.day.reached(Scope::Day, &spent.day);
    let reached = of_ticket.or_else(of_run).or_else(of_day)?;
    let until = spent.day_ends_at.filter(|_| reached.scope == Scope::Day);
    let why = format!("is not started: {reached}; {}", reached.how_to_raise());
    Some(Hold { ticket: ticket.id.clone(), kind: HoldKind::Limit, why, until })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::coordinator::run::{Rules, World, decide};
    use crate::model::health::HealthSettings;
    use crate::model::settings::RunSettings;
    use crate::model::ticket::{Ticket, TicketState};
    use crate::model::topology::Topology;
    use crate::queue::QueueTicket;

    /// What is decided about one queued ticket: how many steps, and the first hold.
    fn decided(budget: BudgetSettings, own: Budget, spent: Spend) -> (usize, Option<Hold>) {
        decided_with(budget, own, None, spent)
    }

    /// The same with the budget that its file says.
    fn decided_with(
        budget: BudgetSettings,
        own: Budget,
        raised: Option<Budget>,
        spent: Spend,
    ) -> (usize, Option<Hold>) {
        let mut ticket = Ticket::plain("fix".parse().unwrap());
        ticket.budget = own;
        let now = Time::from_millis(1_000);
        let entry = QueueTicket {
            ticket,
            state: TicketState::Queued,
            attempts: 0,
            fence: 0,
            node: None,
            lease_until: None,
            retry_at: None,
            error: None,
            waits_for: Vec::new(),
            published_at: now,
            changed_at: now,
        };
        let mut world = World::empty(None);
        world.spent = Spent {
            budget,
            run: spent,
            day: spent,
            day_ends_at: Some(now.after(Duration::from_secs(60))),
            tickets: BTreeMap::from([(entry.ticket.id.clone(), spent)]),
            raised: raised.map(|raised| (entry.ticket.id.clone(), raised)).into_iter().collect(),
        };
        world.tickets.push(entry);
        let rules = Rules {
            max_workers: 3,
            scaled: None,
            topology: Topology::by_default(),
            agent: "a".parse().unwrap(),
            offers: Vec::new(),
            run: RunSettings::default(),
            health: HealthSettings::default(),
            lands: false,
            approves: false,
            forge_poll: Duration::from_secs(15),
        };
        let decision = decide(&world, &rules);
        (decision.steps.len(), decision.holds.into_iter().next())
    }

    #[test]
    fn nothing_is_started_over_a_budget_and_the_hold_says_which_and_how_to_raise_it() {
        let limit = Budget { tokens: Some(10), ..Budget::default() };
        let spent = Spend { input_tokens: 10, ..Spend::default() };
        let day = BudgetSettings { day: limit, ..BudgetSettings::default() };
        let (steps, hold) = decided(day, Budget::default(), spent);
        let hold = hold.unwrap();
        assert_eq!((steps, hold.kind), (0, HoldKind::Limit));
        assert!(
            hold.why.contains("today's budget of 10 tokens") && hold.why.contains("budget.day.tokens"),
            "{}",
            hold.why
        );
        assert!(hold.until.is_some(), "the next day brings a new one");
        let (steps, hold) = decided(BudgetSettings::default(), limit, spent);
        assert_eq!((steps, hold.unwrap().until), (0, None));
        assert_eq!(decided(day, limit, Spend::default()).0, 1);
    }

    #[test]
    fn a_budget_that_was_raised_since_the_ticket_was_published_counts() {
        let limit = |tokens| Budget { tokens: Some(tokens), ..Budget::default() };
        let spent = Spend { input_tokens: 10, ..Spend::default() };
        let steps = |raised| decided_with(BudgetSettings::default(), limit(10), Some(limit(raised)), spent).0;
        assert_eq!((steps(10), steps(11)), (0, 1));
    }
}
