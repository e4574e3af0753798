//! `swarm budget`.

use std::time::Duration;

use crate::cli::Context;
use crate::cli::args::{BudgetArgs, SpendByChoice};
use crate::cli::output::{Style, Table, width};
use crate::coordinator::views::{BudgetView, LimitView, SpendView};
use crate::coordinator::{BudgetRequest, Failure, SpendBy};
use crate::model::budget::{Scope, grouped, usd_text};
use crate::model::duration_text;

/// Runs the verb.
pub(super) fn run(args: &BudgetArgs, context: &Context) -> Result<(), Failure> {
    let by = match args.by {
        SpendByChoice::Ticket => SpendBy::Ticket,
        SpendByChoice::Agent => SpendBy::Agent,
        SpendByChoice::Model => SpendBy::Model,
        SpendByChoice::Node => SpendBy::Node,
        SpendByChoice::Day => SpendBy::Day,
    };
    let view = context.control()?.budget(&BudgetRequest { by, since: args.since.clone() })?;
    if context.output.json {
        context.output.document(&view)?;
    } else {
        let width = width();
        let mut text = limits(&view).render(context.output.color, width);
        text.push('\n');
        if view.rows.is_empty() {
            context.output.print(&text)?;
            context.output.narrate(&format!("Nothing was spent since {}.", view.since));
        } else {
            text.push_str(&rows(&view).render(context.output.color, width));
            context.output.print(&text)?;
        }
    }
    view.warnings.iter().for_each(|warning| context.output.warn(warning));
    Ok(())
}

/// A line for each limit, and for what was spent today without one.
fn limits(view: &BudgetView) -> Table {
    let mut table = Table::new(&["BUDGET", "SPENT", "LIMIT", "LEFT"], Some(0));
    for limit in view.limits.iter().filter(|limit| limit.limit.is_some() || limit.scope == Scope::Day) {
        let name = match (limit.scope, &limit.ticket) {
            (Scope::Day, _) => format!("{} on {}", of(&limit.what), view.day),
            (Scope::Run, _) => format!("{} of each run", of(&limit.what)),
            (Scope::Ticket, None) => format!("{} of each ticket", of(&limit.what)),
            (Scope::Ticket, Some(ticket)) => format!("{} of {ticket}", of(&limit.what)),
        };
        let amount = |amount: Option<f64>| amount.map_or_else(|| "-".to_owned(), |amount| shown(&limit.what, amount));
        let limited = limit.limit.map_or_else(|| "none".to_owned(), |limited| shown(&limit.what, limited));
        let cells = [(Style::Plain, name), (Style::Bold, amount(limit.spent)), (Style::Plain, limited), left(limit)];
        table.row(cells);
    }
    table
}

/// What is left of a limit.
fn left(limit: &LimitView) -> (Style, String) {
    match limit.limit.zip(limit.spent) {
        None => (Style::Plain, "-".to_owned()),
        Some(_) if limit.is_reached => (Style::Red, "used up".to_owned()),
        Some((limited, spent)) => {
            let percent = ((1.0 - spent / limited) * 100.0).floor();
            (if percent < 20.0 { Style::Yellow } else { Style::Green }, format!("{percent:.0} %"))
        }
    }
}

/// A line for each ticket, agent, model or day, and one for all.
fn rows(view: &BudgetView) -> Table {
    let name = view.by.to_uppercase();
    let mut table = Table::new(&[&name, "COST", "INPUT", "OUTPUT", "TIME", "ATTEMPTS"], Some(0)).optional(&[5]);
    let is_several = view.rows.len() > 1;
    view.rows.iter().for_each(|row| table.row(cells(row, none_of(&view.by), Style::Plain)));
    if is_several {
        table.row(cells(&view.total, "all", Style::Bold));
    }
    table
}

/// One row; `none` is the name of one that has none.
fn cells(row: &SpendView, none: &str, style: Style) -> [(Style, String); 6] {
    let name = if row.name.is_empty() { none.to_owned() } else { row.name.clone() };
    let about = if row.estimated_tokens > 0 { "~" } else { "" };
    [
        (style, name),
        (Style::Bold, cost(row)),
        (Style::Plain, format!("{about}{}", grouped(row.input_tokens))),
        (Style::Plain, format!("{about}{}", grouped(row.output_tokens))),
        (Style::Plain, duration_text(Duration::from_millis(row.time_ms))),
        (Style::Plain, row.attempts.to_string()),
    ]
}

/// Money, with a mark where it is not all of it.
fn cost(row: &SpendView) -> String {
    let tokens = row.input_tokens.saturating_add(row.output_tokens);
    match row.unpriced_tokens {
        0 if tokens == 0 && row.cost_usd == 0.0 => "-".to_owned(),
        0 => usd_text(row.cost_usd),
        unpriced if unpriced >= tokens && row.cost_usd == 0.0 => "unknown".to_owned(),
        _ => format!("{} + unknown", usd_text(row.cost_usd)),
    }
}

/// What stands for a name that is not there.
fn none_of(by: &str) -> &'static str {
    match by {
        "model" => "(the agent's own)",
        "ticket" => "(no ticket)",
        _ => "-",
    }
}

/// What is limited, for a person.
fn of(what: &str) -> &'static str {
    match what {
        "usd" => "money",
        "tokens" => "tokens",
        _ => "agents' time",
    }
}

/// An amount for a person.
fn shown(what: &str, amount: f64) -> String {
    match what {
        "usd" => usd_text(amount),
        "tokens" => grouped(amount as u64),
        _ => duration_text(Duration::try_from_secs_f64(amount).unwrap_or(Duration::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Time;

    fn spend(name: &str, cost_usd: f64, input_tokens: u64, unpriced_tokens: u64) -> SpendView {
        SpendView {
            name: name.to_owned(),
            input_tokens,
            output_tokens: 20_000,
            cost_usd,
            unpriced_tokens,
            estimated_tokens: 0,
            time_ms: 754_000,
            attempts: 2,
        }
    }

    fn limit(scope: Scope, ticket: Option<&str>, what: &str, limit: Option<f64>, spent: Option<f64>) -> LimitView {
        let is_reached = limit.zip(spent).is_some_and(|(limit, spent)| spent >= limit);
        LimitView { scope, ticket: ticket.map(str::to_owned), what: what.to_owned(), limit, spent, is_reached }
    }

    fn view() -> BudgetView {
        BudgetView {
            version: 1,
            at: Time::from_millis(0),
            day: "2026-11-21".to_owned(),
            day_ends_at: Time::from_millis(0),
            on_reached: "stop".to_owned(),
            limits: vec![
                limit(Scope::Day, None, "usd", Some(10.0), Some(8.5)),
                limit(Scope::Day, None, "tokens", None, Some(1_234_567.0)),
                limit(Scope::Day, None, "time", None, Some(8_000.0)),
                limit(Scope::Run, None, "usd", None, None),
                limit(Scope::Ticket, None, "tokens", Some(500_000.0), None),
                limit(Scope::Ticket, Some("fix-the-parser"), "usd", Some(2.0), Some(2.25)),
            ],
            by: "ticket".to_owned(),
            since: "2026-11-15".to_owned(),
            rows: vec![
                spend("fix-the-parser-of-quoted-fields", 7.25, 1_100_000, 0),
                spend("docs", 1.25, 90_000, 110_000),
                spend("", 0.0, 4_000, 24_000),
            ],
            total: spend("", 8.5, 1_194_000, 134_000),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn limits_and_spending_fit_eighty_columns() {
        let text = format!("{}\n{}", limits(&view()).render(false, Some(80)), rows(&view()).render(false, Some(80)));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text, @r"
        BUDGET                      SPENT      LIMIT    LEFT
        money on 2026-11-21         $8.50      $10.00   15 %
        tokens on 2026-11-21        1,234,567  none     -
        agents' time on 2026-11-21  2h 13m     none     -
        tokens of each ticket       -          500,000  -
        money of fix-the-parser     $2.25      $2.00    used up

        TICKET                     COST             INPUT      OUTPUT  TIME     ATTEMPTS
        fix-the-parser-of-quoted…  $7.25            1,100,000  20,000  12m 34s  2
        docs                       $1.25 + unknown  90,000     20,000  12m 34s  2
        (no ticket)                unknown          4,000      20,000  12m 34s  2
        all                        $8.50 + unknown  1,194,000  20,000  12m 34s  2
        ");
    }
}
