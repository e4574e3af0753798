//! What the worker's agent costs: counted here, kept in the ledger, and held against the budgets.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::Supervision;
use super::mail::share;
use super::parts::Assignment;
use crate::agent::Usage;
use crate::model::budget::{Budget, BudgetSettings, Reached, Spend, Spendings};
use crate::model::event::Event;
use crate::queue::Hear;
use crate::store::{Charged, Counted};
use crate::supervisor::ledger::Used;

/// How often time is charged of an agent that tells nothing, where a budget limits that, or what others spend.
const CHARGE_EVERY: Duration = Duration::from_secs(10);
/// The same where none does: hundreds of workers at rest would keep the ledger busy, which sums up at each charge.
const CHARGE_UNLIMITED_EVERY: Duration = Duration::from_secs(60);

/// How long another process of this machine is waited for that tells what was spent.
const SHARE_WITHIN: Duration = Duration::from_secs(1);

/// What one worker spends.
pub(super) struct Spending {
    /// What may be spent, the ticket's own limits among it.
    pub(super) budget: BudgetSettings,
    /// What was spent, as of the last charge.
    pub(super) spent: Spendings,
    /// Names the agent's present process.
    process: String,
    /// Whether its count begins anew with each process.
    restarts: bool,
    /// What its counter stands at.
    counted: Option<Counted>,
    /// Time it worked that is not charged.
    worked: Duration,
    /// Until when that was looked at.
    looked: Instant,
    /// The last charge.
    charged: Instant,
    /// Whether it was told that its price is not known.
    told_unpriced: bool,
    /// What was told last of the clock.
    told_jump: Option<String>,
    /// Whether other machines may use up what it may spend.
    is_shared: bool,
}

impl Spending {
    /// The spending of a worker whose agent was not started yet. A ledger that cannot be read now is read with the
    /// first charge.
    pub(super) fn of(assignment: &Assignment) -> Self {
        let spent = assignment.ledger.spendings().map(|charged| charged.spent).unwrap_or_default();
        let now = Instant::now();
        Self {
            budget: assignment.handover.budget,
            spent,
            process: String::new(),
            restarts: false,
            counted: None,
            worked: Duration::ZERO,
            looked: now,
            charged: now,
            told_unpriced: false,
            told_jump: None,
            is_shared: assignment.handover.queue.is_some(),
        }
    }

    /// The agent's program is started; `restarts` says that it counts from nothing although a conversation goes on.
    pub(super) fn begin_process(&mut self, restarts: bool) {
        self.process = format!("process:{}", Uuid::new_v4());
        self.restarts = restarts;
        self.counted = None;
    }

    /// Takes what the agent tells.
    pub(super) fn count(&mut self, usage: &Usage) {
        self.counted = Some(Counted {
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cost_usd: usage.cost_usd,
            is_estimated: usage.is_estimated,
        });
    }

    /// Time passed, and the agent worked or did not.
    pub(super) fn work(&mut self, is_working: bool) {
        let now = Instant::now();
        if is_working {
            self.worked += now.duration_since(self.looked);
        }
        self.looked = now;
    }

    /// Whether time is to be charged.
    pub(super) fn is_due(&self) -> bool {
        let looks_often = self.budget.limits_time() || (self.is_shared && self.budget.is_limited());
        let every = if looks_often { CHARGE_EVERY } else { CHARGE_UNLIMITED_EVERY };
        !self.worked.is_zero() && self.charged.elapsed() >= every
    }

    /// The counter that the agent's figures belong to: its conversation, or its process.
    fn account(&self, session: Option<&str>) -> String {
        match session {
            Some(session) if !self.restarts => format!("session:{session}"),
            _ => self.process.clone(),
        }
    }

    /// The budget that is used up; with `is_held` the ticket's money is somebody else's concern.
    pub(super) fn reached(&self, is_held: bool) -> Option<Reached> {
        let ticket = self.budget.ticket;
        let ticket = if is_held { Budget { usd: None, ..ticket } } else { ticket };
        let uncharged = Spend { time: self.worked, ..Spend::default() };
        let Spendings { ticket: on_ticket, run, day } = &self.spent;
        let spent =
            Spendings { ticket: on_ticket.plus(&uncharged), run: run.plus(&uncharged), day: day.plus(&uncharged) };
        BudgetSettings { ticket, ..self.budget }.reached(&spent)
    }

    /// What a person should know after a charge, each thing once.
    fn news(&mut self, charged: &Charged) -> Vec<String> {
        let mut news = Vec::new();
        let is_unpriced =
            charged.spent.ticket.unpriced_tokens > 0 && self.counted.is_some_and(|now| now.cost_usd.is_none());
        if is_unpriced && self.budget.limits_money() && !self.told_unpriced {
            self.told_unpriced = true;
            news.push(
                "its price is not known, so budgets of money do not count it; those of tokens and time do".to_owned(),
            );
        }
        if charged.today.jump.is_some() && charged.today.jump != self.told_jump {
            news.extend(charged.today.jump.clone());
        }
        self.told_jump.clone_from(&charged.today.jump);
        news
    }
}

impl Supervision {
    /// Tells a server what was spent. One that is away is told by whoever comes next.
    pub(super) async fn share_spend(&mut self) {
        self.book(|ledger| {
            share(ledger, SHARE_WITHIN, Hear::Not);
            Ok(())
        })
        .await;
    }

    /// Writes what is new into the ledger. What cannot be written now is written with the next charge.
    pub(super) async fn charge(&mut self) {
        self.spending.work(self.machine.is_working());
        let worker = &self.assignment.worker;
        let agent = &self.assignment.handover.agent;
        let worked = self.spending.worked;
        let used = Used {
            account: self.spending.account(worker.attempt.session_id.as_deref()),
            attempt: worker.attempt.number,
            agent: agent.name.clone(),
            model: agent.model.clone().unwrap_or_default(),
            counted: self.spending.counted,
            worked,
        };
        self.spending.charged = Instant::now();
        let Some(charged) = self.book(move |ledger| ledger.charge(&used)).await else { return };
        self.spending.worked -= worked;
        self.spending.spent = charged.spent;
        self.begin_telling();
        for text in self.spending.news(&charged) {
            self.log(Event::Warning { text }).await;
        }
    }
}
