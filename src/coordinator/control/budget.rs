//! Budgets: what they hold back before anything is started, and `swarm budget`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Control;
use crate::config::SpawnDepth;
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::run::Spent;
use crate::coordinator::views::{BudgetView, LimitView, SpendView, VIEW_VERSION};
use crate::llm::unpriced;
use crate::model::agent::RuntimeKind;
use crate::model::budget::{Budget, BudgetSettings, OnReached, Reached, Scope, Spend, Spendings};
use crate::model::day::Day;
use crate::model::ticket::Ticket;
use crate::model::{RunId, Time};
use crate::queue::{self, Hear, QueueTicket};
use crate::store::{Charged, SpendRow, clocks};

/// How long a command waits for another process of this clone that tells what was spent.
const SHARE_WITHIN: Duration = Duration::from_secs(5);
/// Days that `swarm budget` looks back where nobody says how many.
const LOOK_BACK: u32 = 6;

/// What rows of `swarm budget` are by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum SpendBy {
    /// A ticket each.
    #[default]
    Ticket,
    /// An agent each.
    Agent,
    /// A model each.
    Model,
    /// A node each.
    Node,
    /// A day each.
    Day,
}

/// What `swarm budget` was asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct BudgetRequest {
    /// What rows are by.
    pub(crate) by: SpendBy,
    /// The first day: `2026-11-21`, or how many days back, such as `7d`; a week where it is absent.
    pub(crate) since: Option<String>,
}

impl Control {
    /// Tells other machines what was spent here, and hears what they spent, where they share the queue. Why something of
    /// that may be missing, as a clause; budgets go by what is known here then.
    pub(in crate::coordinator) fn share_spend(&self) -> Option<String> {
        let shared = self.project.queue().and_then(|queue| {
            let (store, paths) = (self.project.store()?, &self.project.paths);
            Ok(queue::share_spend(&*queue, store, paths, SHARE_WITHIN, Hear::Now)?)
        });
        match shared {
            Ok(true) => None,
            Ok(false) => Some("another process here is still asking for it".to_owned()),
            Err(failure) => {
                let error = failure.chain.join(": ");
                tracing::warn!(error, "what was spent could not be shared");
                Some(error)
            }
        }
    }

    /// Refuses to start workers from within workers that are as deep as they may be.
    pub(crate) fn check_spawn_depth(&self) -> Result<(), Failure> {
        let depth = SpawnDepth::of(&self.project.call.environment, &self.project.settings()?.limits);
        if depth.allows() {
            return Ok(());
        }
        let text = format!(
            "this command runs inside a worker, at depth {}, and workers may be {} deep",
            depth.here, depth.limit
        );
        Err(Failure::new(FailureKind::Limit, text)
            .hint("an agent writes what is left to do into its last message; a person starts it")
            .hint("a person allows agents to start workers with `limits.spawn_depth` in .swarm/config.yaml"))
    }

    /// Refuses what would be started over today's budget, or this run's; what a person should know otherwise.
    pub(crate) fn check_day_budget(&self) -> Result<Vec<String>, Failure> {
        let BudgetSettings { run, day, .. } = self.project.settings()?.budget;
        if run == Budget::default() && day == Budget::default() {
            return Ok(Vec::new());
        }
        self.share_spend();
        let Charged { spent, today } = self.project.store()?.spendings(None, &self.run, &clocks())?;
        if let Some(reached) = day.reached(Scope::Day, &spent.day) {
            let failure = over(&reached).hint(format!("the next day begins at {}", local_time(today.ends_at)));
            return Err(today.jump.into_iter().fold(failure, Failure::hint));
        }
        if let Some(reached) = run.reached(Scope::Run, &spent.run) {
            return Err(over(&reached));
        }
        Ok(today.jump.into_iter().collect())
    }

    /// What a person should know who limits money, of an agent that never tells what it uses, or whose model has no price.
    pub(super) fn money_doubt(&self, agent: &str, ticket: &str) -> Result<Option<String>, Failure> {
        let budget = self.budget_of(&self.ticket_of(ticket)?)?;
        if !budget.limits_money() {
            return Ok(None);
        }
        let agent = self.project.agent(&agent.parse()?)?;
        if agent.runtime == RuntimeKind::Command && agent.preset.is_none() {
            return Ok(Some(format!(
                "agent `{}` does not tell what it uses: only a budget of time holds it",
                agent.name
            )));
        }
        if agent.runtime != RuntimeKind::Ollama {
            return Ok(None);
        }
        let settings = self.project.settings()?.for_models();
        let (unknown, is_all) = unpriced(&agent.model_name(), &settings, &self.project.call.environment);
        let Some(first) = unknown.first() else { return Ok(None) };
        let what = match (budget.ticket.usd, is_all) {
            (Some(_), true) => {
                "so it is not asked under this ticket's budget of money, and the agent is stopped with code 7"
            }
            (Some(_), false) => "so it is passed over under this ticket's budget of money",
            (None, _) => "so budgets of money do not count it; those of tokens and time do",
        };
        Ok(Some(format!(
            "the price of `{first}` is not known, {what}: add it to `prices`, or mark its provider `local`"
        )))
    }

    /// A published ticket with the budget that its file says now, where it has used its own up: a person may have raised
    /// it, and it is no part of the work.
    pub(super) fn with_raised_budget(&self, ticket: Ticket) -> Result<Ticket, Failure> {
        if self.check_ticket_budget(&ticket).is_ok() {
            return Ok(ticket);
        }
        let budget = self.budget_of(&ticket)?.ticket;
        Ok(Ticket { budget, ..ticket })
    }

    /// Refuses what would be started over a ticket's budget.
    pub(super) fn check_ticket_budget(&self, ticket: &Ticket) -> Result<(), Failure> {
        let budget = ticket.budget.or(self.project.settings()?.budget.ticket);
        if budget == Budget::default() {
            return Ok(());
        }
        self.share_spend();
        let charged = self.project.store()?.spendings(Some(&ticket.id), &self.run, &clocks())?;
        match budget.reached(Scope::Ticket, &charged.spent.ticket) {
            Some(reached) => Err(over(&reached)),
            None => Ok(()),
        }
    }

    /// Refuses to go on with work over any budget.
    pub(super) fn check_budgets(&self, ticket: &Ticket, run: &RunId) -> Result<(), Failure> {
        let budget = self.budget_of(ticket)?;
        if budget.is_limited() {
            self.share_spend();
        }
        let charged = self.project.store()?.spendings(Some(&ticket.id), run, &clocks())?;
        budget.reached(&charged.spent).map_or(Ok(()), |reached| Err(over(&reached)))
    }

    /// The budgets of a ticket as its file and the settings are now: a person may have raised them since it began.
    pub(super) fn budget_of(&self, ticket: &Ticket) -> Result<BudgetSettings, Failure> {
        let settings = self.project.settings()?.budget;
        let written = self.project.ticket_file(&ticket.id).ok().flatten().map_or(ticket.budget, |file| file.budget);
        Ok(BudgetSettings { ticket: written.or(settings.ticket), ..settings })
    }

    /// What the coordinator needs to know about spending; what no budget limits is not added up.
    pub(in crate::coordinator) fn spent(&self, tickets: &[QueueTicket]) -> Result<Spent, Failure> {
        let budget = self.project.settings()?.budget;
        let limits_tickets =
            budget.ticket != Budget::default() || tickets.iter().any(|entry| entry.ticket.budget != Budget::default());
        if !limits_tickets && budget.run == Budget::default() && budget.day == Budget::default() {
            return Ok(Spent::default());
        }
        let store = self.project.store()?;
        let Charged { spent, today } = store.spendings(None, &self.run, &clocks())?;
        let spends = if limits_tickets { store.spend_of_tickets()? } else { BTreeMap::new() };
        let is_reached = |ticket: &Ticket| {
            let spent = spends.get(&ticket.id).copied().unwrap_or_default();
            ticket.budget.or(budget.ticket).reached(Scope::Ticket, &spent).is_some()
        };
        let mut raised = BTreeMap::new();
        for ticket in tickets.iter().filter(|entry| !entry.state.is_ended()).map(|entry| &entry.ticket) {
            if is_reached(ticket) {
                raised.insert(ticket.id.clone(), self.budget_of(ticket)?.ticket);
            }
        }
        let (run, day, day_ends_at) = (spent.run, spent.day, Some(today.ends_at));
        Ok(Spent { budget, run, day, day_ends_at, tickets: spends, raised })
    }

    /// What was spent, and what may be.
    pub(crate) fn budget(&self, request: &BudgetRequest) -> Result<BudgetView, Failure> {
        let missing = self.share_spend();
        let now = clocks();
        let settings = self.project.settings()?.budget;
        let store = self.project.store()?;
        let Charged { spent, today } = store.spendings(None, &self.run, &now)?;
        let since = match &request.since {
            Some(text) => first_day(text, &today.day)?,
            None => today.day.before(LOOK_BACK),
        };
        let rows = store.spend_since(&since)?;
        let total = sum("", &rows.iter().collect::<Vec<_>>());
        let mut limits = limits_of(&settings, &spent);
        limits.extend(self.ticket_limits(&rows)?);
        let mut warnings = warnings(&settings, &total, today.jump);
        warnings.extend(missing.map(|why| format!("what other machines spent of late is missing: {why}")));
        Ok(BudgetView {
            version: VIEW_VERSION,
            at: Time::now(),
            day: today.day.to_string(),
            day_ends_at: today.ends_at,
            on_reached: match settings.on_reached {
                OnReached::Stop => "stop".to_owned(),
                OnReached::Pause => "pause".to_owned(),
            },
            limits,
            by: request.by.as_str().to_owned(),
            since: since.to_string(),
            rows: grouped_by(request.by, &rows, self.project.node().as_str()),
            warnings,
            total,
        })
    }

    /// The limits of tickets that say so themselves, or that have reached one, among those that spent something.
    fn ticket_limits(&self, rows: &[SpendRow]) -> Result<Vec<LimitView>, Failure> {
        let settings = self.project.settings()?.budget;
        let tickets: BTreeSet<_> = rows.iter().map(|row| row.ticket.as_str()).filter(|id| !id.is_empty()).collect();
        let mut limits = Vec::new();
        for id in tickets {
            let Ok(id) = id.parse() else { continue };
            let file = self.project.ticket_file(&id).ok().flatten();
            let own = match file {
                Some(ticket) => ticket.budget,
                None => self.project.heard_of(&id)?.map(|known| known.ticket.budget).unwrap_or_default(),
            };
            let budget = own.or(settings.ticket);
            if budget == Budget::default() {
                continue;
            }
            let spent = self.project.store()?.spendings(Some(&id), &self.run, &clocks())?.spent.ticket;
            if own != Budget::default() || budget.reached(Scope::Ticket, &spent).is_some() {
                let views = views_of(Scope::Ticket, Some(id.as_str()), &budget, Some(&spent));
                limits.extend(views.into_iter().filter(|limit| limit.limit.is_some()));
            }
        }
        Ok(limits)
    }
}

impl SpendBy {
    /// The word for it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Agent => "agent",
            Self::Model => "model",
            Self::Node => "node",
            Self::Day => "day",
        }
    }

    /// What a row belongs to, on the node that is called `here`.
    fn key<'r>(self, row: &'r SpendRow, here: &'r str) -> &'r str {
        match self {
            Self::Ticket => &row.ticket,
            Self::Agent => &row.agent,
            Self::Model => &row.model,
            Self::Node if row.node.is_empty() => here,
            Self::Node => &row.node,
            Self::Day => row.day.as_str(),
        }
    }
}

/// The failure of what would go over a budget.
fn over(reached: &Reached) -> Failure {
    Failure::new(FailureKind::Limit, reached.to_string())
        .hint(reached.how_to_raise())
        .hint("swarm budget shows what was spent on what")
}

/// A moment for a person: local date, hour and minute.
fn local_time(at: Time) -> String {
    crate::model::day::local_text(at)
}

/// The first day that a person names.
fn first_day(text: &str, today: &Day) -> Result<Day, Failure> {
    let back = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
    let named = match text {
        "today" => Some(today.clone()),
        _ => back.map(|days| today.before(days)).or_else(|| Day::parse(text)),
    };
    named.ok_or_else(|| {
        Failure::new(FailureKind::Usage, format!("`{text}` is no day"))
            .hint("write it like 2026-11-21, today, or 7d for the seven days before today")
    })
}

/// The limits of day, run and ticket as the settings have them.
fn limits_of(settings: &BudgetSettings, spent: &Spendings) -> Vec<LimitView> {
    let day = views_of(Scope::Day, None, &settings.day, Some(&spent.day));
    let run = views_of(Scope::Run, None, &settings.run, None);
    let ticket = views_of(Scope::Ticket, None, &settings.ticket, None);
    day.into_iter().chain(run).chain(ticket).collect()
}

/// The three limits of a budget.
fn views_of(scope: Scope, ticket: Option<&str>, budget: &Budget, spent: Option<&Spend>) -> Vec<LimitView> {
    let all = [
        ("usd", budget.usd, spent.map(|spent| spent.cost_usd)),
        ("tokens", budget.tokens.map(|tokens| tokens as f64), spent.map(|spent| spent.tokens() as f64)),
        ("time", budget.time.map(|time| time.as_secs_f64()), spent.map(|spent| spent.time.as_secs_f64())),
    ];
    let view = |(what, limit, spent): (&str, Option<f64>, Option<f64>)| LimitView {
        scope,
        ticket: ticket.map(str::to_owned),
        what: what.to_owned(),
        limit,
        spent,
        is_reached: limit.zip(spent).is_some_and(|(limit, spent)| spent >= limit),
    };
    all.into_iter().map(view).collect()
}

/// Rows together by what they belong to.
fn grouped_by(by: SpendBy, rows: &[SpendRow], here: &str) -> Vec<SpendView> {
    let mut groups: BTreeMap<&str, Vec<&SpendRow>> = BTreeMap::new();
    for row in rows {
        groups.entry(by.key(row, here)).or_default().push(row);
    }
    let mut views: Vec<_> = groups.into_iter().map(|(name, rows)| sum(name, &rows)).collect();
    if by != SpendBy::Day {
        let tokens = |view: &SpendView| view.input_tokens.saturating_add(view.output_tokens);
        views.sort_by(|one, other| {
            other
                .cost_usd
                .total_cmp(&one.cost_usd)
                .then(tokens(other).cmp(&tokens(one)))
                .then(other.time_ms.cmp(&one.time_ms))
        });
    }
    views
}

/// All of some rows.
fn sum(name: &str, rows: &[&SpendRow]) -> SpendView {
    let spend = rows.iter().fold(Spend::default(), |sum, row| sum.plus(&row.spend));
    let attempts: BTreeSet<_> = rows.iter().map(|row| (&row.worker, row.attempt, &row.agent, &row.run)).collect();
    SpendView {
        name: name.to_owned(),
        input_tokens: spend.input_tokens,
        output_tokens: spend.output_tokens,
        cost_usd: spend.cost_usd,
        unpriced_tokens: spend.unpriced_tokens,
        estimated_tokens: rows.iter().fold(0, |sum: u64, row| sum.saturating_add(row.estimated_tokens)),
        time_ms: u64::try_from(spend.time.min(Duration::MAX).as_millis()).unwrap_or(u64::MAX),
        attempts: attempts.len(),
    }
}

/// What a person should know about the figures.
fn warnings(settings: &BudgetSettings, total: &SpendView, jump: Option<String>) -> Vec<String> {
    let mut warnings: Vec<String> = jump.into_iter().collect();
    if total.unpriced_tokens > 0 {
        let tokens = crate::model::budget::grouped(total.unpriced_tokens);
        let held = if settings.limits_money() { ", so budgets of money do not hold them" } else { "" };
        warnings.push(format!(
            "the price of {tokens} tokens is not known{held}; `prices` in .swarm/config.yaml can name it"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(day: &str, ticket: &str, agent: &str, attempt: u32, cost_usd: f64) -> SpendRow {
        SpendRow {
            day: Day::parse(day).unwrap(),
            run: "r".to_owned(),
            ticket: ticket.to_owned(),
            worker: ticket.to_owned(),
            attempt,
            agent: agent.to_owned(),
            model: "m".to_owned(),
            spend: Spend { input_tokens: 10, output_tokens: 1, cost_usd, ..Spend::default() },
            estimated_tokens: 0,
            node: if ticket == "a" { String::new() } else { "far".to_owned() },
        }
    }

    #[test]
    fn rows_are_together_by_what_was_asked_for_the_dearest_first() {
        let rows = [
            row("2026-11-20", "a", "x", 1, 1.0),
            row("2026-11-21", "a", "x", 1, 0.5),
            row("2026-11-21", "b", "y", 1, 4.0),
            row("2026-11-21", "b", "y", 2, 1.0),
        ];
        let shown = |by| {
            let views = grouped_by(by, &rows, "here");
            views.into_iter().map(|view| (view.name, view.cost_usd, view.attempts)).collect::<Vec<_>>()
        };
        assert_eq!(shown(SpendBy::Ticket), [("b".to_owned(), 5.0, 2), ("a".to_owned(), 1.5, 1)]);
        assert_eq!(shown(SpendBy::Day), [("2026-11-20".to_owned(), 1.0, 1), ("2026-11-21".to_owned(), 5.5, 3)]);
        assert_eq!(shown(SpendBy::Model), [("m".to_owned(), 6.5, 3)]);
        assert_eq!(shown(SpendBy::Node), [("far".to_owned(), 5.0, 2), ("here".to_owned(), 1.5, 1)]);
    }

    #[test]
    fn days_are_named_in_three_ways() {
        let today = Day::parse("2026-11-21").unwrap();
        let first = |text| first_day(text, &today).map(|day| day.to_string());
        assert_eq!(first("7d").unwrap(), "2026-11-14");
        assert_eq!(first("2026-10-01").unwrap(), "2026-10-01");
        assert_eq!(first("today").unwrap(), "2026-11-21");
        assert_eq!(first("last week").unwrap_err().kind, FailureKind::Usage);
    }
}
