//! `swarm stats`: how long things took, how well they went, and what they cost.

use std::fmt::Write as _;
use std::time::Duration;

use crate::cli::Context;
use crate::cli::args::{StatsArgs, StatsChoice};
use crate::cli::output::{Output, Style, Table, cut, one_line, width};
use crate::coordinator::Failure;
use crate::coordinator::views::{Percentiles, StatsBy, StatsRow, StatsView};
use crate::model::{counted, duration_text};

/// Columns where nobody says how many there are.
const WIDTH: usize = 80;
/// Columns that a name gets in the chart at most.
const NAME_WIDTH: usize = 20;
/// A block of one to eight eighths.
const EIGHTHS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];

/// Runs the verb.
pub(super) fn run(args: &StatsArgs, context: &Context) -> Result<(), Failure> {
    let by = args.by.map(|by| match by {
        StatsChoice::Agent => StatsBy::Agent,
        StatsChoice::Model => StatsBy::Model,
        StatsChoice::Label => StatsBy::Label,
        StatsChoice::Day => StatsBy::Day,
    });
    let view = context.control()?.stats(args.since, by.or(args.chart.then_some(StatsBy::Day)))?;
    if context.output.json {
        return context.output.document(&view);
    }
    let columns = width().unwrap_or(WIDTH);
    let mut text = summary(&view);
    if !view.groups.is_empty() && args.by.is_some() {
        write!(text, "\n{}", table(&view).render(context.output.color, Some(columns)))
            .expect("a string takes all text");
    }
    if args.chart {
        write!(text, "\n{}", chart(&view.groups, columns, &context.output)).expect("a string takes all text");
    }
    context.output.print(&text)
}

/// Everything together, a line a figure.
fn summary(view: &StatsView) -> String {
    let total = &view.total;
    let Some(known_from) = view.known_from else { return "Nothing has happened here yet.\n".to_owned() };
    let from = view.since.filter(|since| *since > known_from).unwrap_or(known_from);
    let window = from.age_at(view.at);
    let mut text = format!("Since {from} ({})\n", duration_text(window));
    let mut line = |name: &str, what: String| writeln!(text, "{name:<12} {what}").expect("a string takes all text");
    line("tickets", tickets(total));
    line("attempts", attempts(total));
    line("completion", spread(total.completion, "from publication to a good end"));
    line("waiting", spread(total.waiting, "free to be taken and not taken"));
    line("working", spread(total.working, "an attempt"));
    line(
        "throughput",
        match total.throughput_per_hour {
            Some(rate) => format!("{} tickets an hour while workers ran", number(rate)),
            None => "-".to_owned(),
        },
    );
    line("utilisation", utilisation(view));
    line(
        "tokens",
        match (total.input_tokens, total.output_tokens) {
            (None, None) => "-".to_owned(),
            (input, output) => format!("{} in, {} out", tokens(input), tokens(output)),
        },
    );
    line("cost", cost(total));
    text
}

/// How the tickets ended.
fn tickets(row: &StatsRow) -> String {
    let parts = [(row.landed, "landed"), (row.done, "done"), (row.failed, "failed"), (row.cancelled, "cancelled")];
    let parts: Vec<_> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    let rate = row.success_rate.map(|rate| format!(" ({} went well)", percent(rate))).unwrap_or_default();
    match parts.is_empty() {
        true => "none ended".to_owned(),
        false => format!("{} ended: {}{rate}", row.ended, parts.join(", ")),
    }
}

/// How many attempts there were.
fn attempts(row: &StatsRow) -> String {
    let failed = if row.attempts_failed > 0 { format!(", {} failed", row.attempts_failed) } else { String::new() };
    format!("{}{failed}", row.attempts)
}

/// Percentiles with what they are about.
fn spread(percentiles: Percentiles, what: &str) -> String {
    match (percentiles.p50_ms, percentiles.p95_ms) {
        (Some(half), Some(most)) => format!("p50 {}, p95 {} ({what})", time(half), time(most)),
        _ => "-".to_owned(),
    }
}

/// How busy the workers of runs were.
fn utilisation(view: &StatsView) -> String {
    match (view.total.utilisation, view.runs.max_workers) {
        (Some(part), Some(max)) => {
            let (runs, wall) = (counted(view.runs.count, "run"), time(view.runs.wall_ms));
            let full = view.total.utilisation_while_queued;
            let full = full.map(|part| format!("; {} while tickets waited", percent(part)));
            format!("{} of {} ({runs}, {wall}){}", percent(part), counted(max, "worker"), full.unwrap_or_default())
        }
        _ => "- (no run of the coordinator)".to_owned(),
    }
}

/// What it cost.
fn cost(row: &StatsRow) -> String {
    let unknown = match row.cost_unknown_attempts {
        0 => String::new(),
        count if count == row.attempts => return "-".to_owned(),
        count => format!("; of {} it is not known", counted(count, "attempt")),
    };
    let each = row.cost_per_landed_usd.map(|each| format!(", {} a landed ticket", dollars(each))).unwrap_or_default();
    row.cost_usd.map_or("-".to_owned(), |cost| format!("{}{each}{unknown}", dollars(cost)))
}

/// The rows of a table.
fn table(view: &StatsView) -> Table {
    let first = match view.by {
        Some(StatsBy::Agent) => "AGENT",
        Some(StatsBy::Model) => "MODEL",
        Some(StatsBy::Label) => "LABEL",
        Some(StatsBy::Day) | None => "DAY",
    };
    let headings = [first, "LANDED", "DONE", "FAILED", "OK", "TIME", "WAIT", "TRIES", "BUSY", "COST", "$/LANDED"];
    // A narrow terminal does without utilisation, waiting, done, attempts, in this order.
    let mut table = Table::new(&headings, Some(0)).optional(&[8, 6, 2, 7]);
    for row in &view.groups {
        let pair = |of: Percentiles| match (of.p50_ms, of.p95_ms) {
            (Some(half), Some(most)) => format!("{}/{}", short(half), short(most)),
            _ => "-".to_owned(),
        };
        let failed = if row.failed > 0 { Style::Red } else { Style::Plain };
        let cells = [
            (Style::Bold, row.name.as_deref().map_or("-".to_owned(), one_line)),
            (Style::Plain, row.landed.to_string()),
            (Style::Plain, row.done.to_string()),
            (failed, row.failed.to_string()),
            (Style::Plain, row.success_rate.map_or("-".to_owned(), percent)),
            (Style::Plain, pair(row.completion)),
            (Style::Plain, pair(row.waiting)),
            (Style::Plain, row.attempts.to_string()),
            (Style::Plain, row.utilisation.map_or("-".to_owned(), percent)),
            (Style::Plain, row.cost_usd.map_or("-".to_owned(), dollars)),
            (Style::Plain, row.cost_per_landed_usd.map_or("-".to_owned(), dollars)),
        ];
        table.row(cells);
    }
    table
}

/// A bar for each row: what ended well, then what failed.
fn chart(rows: &[StatsRow], columns: usize, output: &Output) -> String {
    let rows: Vec<_> = rows.iter().filter(|row| row.ended > 0).collect();
    let most = rows.iter().map(|row| row.landed + row.done + row.failed).max().unwrap_or(0);
    let names: Vec<_> =
        rows.iter().map(|row| cut(&row.name.as_deref().map_or("-".to_owned(), one_line), NAME_WIDTH)).collect();
    let widest = names.iter().map(|name| unicode_width::UnicodeWidthStr::width(name.as_str())).max().unwrap_or(0);
    let room = columns.saturating_sub(widest + 24).max(10);
    let mut text = String::new();
    for (row, name) in rows.iter().zip(&names) {
        let pad = widest - unicode_width::UnicodeWidthStr::width(name.as_str());
        let good = bar(row.landed + row.done, most, room);
        // In words, too: colour and shape are not for everybody.
        let failed = if row.failed > 0 { format!(", {} failed", row.failed) } else { String::new() };
        let bad = "░".repeat(scaled(row.failed, most, room) / 8);
        writeln!(
            text,
            "{name}{:pad$}  {}{} {} well{failed}",
            "",
            output.paint(Style::Green, &good),
            output.paint(Style::Red, &bad),
            row.landed + row.done
        )
        .expect("a string takes all text");
    }
    if text.is_empty() { "No ticket ended.\n".to_owned() } else { text }
}

/// A number as eighths of a column, where `most` takes all of `room`; what is there has at least one.
fn scaled(count: usize, most: usize, room: usize) -> usize {
    if count == 0 { 0 } else { (count * room * 8 / most.max(1)).max(1) }
}

/// A bar of whole blocks and a last part of one.
fn bar(count: usize, most: usize, room: usize) -> String {
    let eighths = scaled(count, most, room);
    let mut bar = "█".repeat(eighths / 8);
    bar.extend((eighths % 8).checked_sub(1).map(|rest| EIGHTHS[rest]));
    bar
}

/// A number of milliseconds for a sentence.
fn time(millis: u64) -> String {
    duration_text(Duration::from_millis(millis))
}

/// A number of milliseconds in its largest unit.
fn short(millis: u64) -> String {
    time(millis).split(' ').next().unwrap_or_default().to_owned()
}

/// A part of one as a percentage.
fn percent(part: f64) -> String {
    format!("{:.0}%", part * 100.0)
}

/// A number with as many digits as say something.
fn number(value: f64) -> String {
    if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// US dollars; small amounts are not rounded to nothing.
fn dollars(amount: f64) -> String {
    if amount > 0.0 && amount < 0.01 { format!("${amount:.4}") } else { format!("${amount:.2}") }
}

/// A number of tokens.
fn tokens(count: Option<u64>) -> String {
    match count {
        None => "-".to_owned(),
        Some(count @ 0..1_000) => count.to_string(),
        Some(count @ 1_000..1_000_000) => format!("{:.1}k", count as f64 / 1e3),
        Some(count) => format!("{:.1}M", count as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::views::StatsRuns;
    use crate::model::Time;

    fn row(name: &str, landed: usize, failed: usize, cost: Option<f64>) -> StatsRow {
        let times = Percentiles { count: landed, p50_ms: Some(185_000), p95_ms: Some(7_800_000) };
        StatsRow {
            name: Some(name.to_owned()),
            ended: landed + failed,
            landed,
            done: 0,
            failed,
            cancelled: 0,
            success_rate: Some(landed as f64 / (landed + failed) as f64),
            attempts: landed + 2 * failed,
            attempts_failed: 2 * failed,
            completion: times,
            waiting: Percentiles::default(),
            working: times,
            throughput_per_hour: Some(12.34),
            utilisation: None,
            utilisation_while_queued: None,
            input_tokens: Some(1_234_567),
            output_tokens: None,
            cost_usd: cost,
            cost_unknown_attempts: if cost.is_some() { 0 } else { landed + 2 * failed },
            cost_per_landed_usd: cost.map(|cost| cost / landed as f64),
        }
    }

    fn view() -> StatsView {
        let at = Time::from_millis(1_763_719_200_000);
        StatsView {
            version: 1,
            at,
            since: None,
            known_from: Some(Time::from_millis(at.as_millis() - 7_200_000)),
            by: Some(StatsBy::Agent),
            total: row("all", 27, 3, Some(5.4)),
            groups: vec![row("an-agent-with-a-name-that-goes-on", 20, 3, Some(0.0061)), row("writer", 7, 0, None)],
            runs: StatsRuns { count: 0, wall_ms: 0, max_workers: None },
        }
    }

    #[test]
    fn figures_are_lines_and_what_is_unknown_is_a_dash() {
        insta::assert_snapshot!(summary(&view()), @r"
        Since 2025-11-21T08:00:00.000Z (2h)
        tickets      30 ended: 27 landed, 3 failed (90% went well)
        attempts     33, 6 failed
        completion   p50 3m 5s, p95 2h 10m (from publication to a good end)
        waiting      -
        working      p50 3m 5s, p95 2h 10m (an attempt)
        throughput   12 tickets an hour while workers ran
        utilisation  - (no run of the coordinator)
        tokens       1.2M in, - out
        cost         $5.40, $0.20 a landed ticket
        ");
    }

    #[test]
    fn the_table_fits_eighty_columns() {
        let text = table(&view()).render(false, Some(80));
        assert!(text.lines().all(|line| unicode_width::UnicodeWidthStr::width(line) <= 80), "{text}");
        insta::assert_snapshot!(text, @r"
        AGENT                      LANDED  FAILED  OK    TIME   TRIES  COST     $/LANDED
        an-agent-with-a-name-tha…  20      3       87%   3m/2h  26     $0.0061  $0.0003
        writer                     7       0       100%  3m/2h  7      -        -
        ");
    }

    #[test]
    fn bars_are_as_long_as_their_numbers_and_say_them() {
        let output = Output::plain();
        let text = chart(&view().groups, 80, &output);
        assert!(text.lines().all(|line| unicode_width::UnicodeWidthStr::width(line) <= 80), "{text}");
        insta::assert_snapshot!(text, @r"
        an-agent-with-a-nam…  ███████████████████████████████▎░░░░ 20 well, 3 failed
        writer                ██████████▉ 7 well
        ");
        assert_eq!((bar(0, 10, 10), bar(1, 1_000, 10), bar(10, 10, 3)), (String::new(), "▏".into(), "███".into()));
    }
}
