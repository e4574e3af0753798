//! `swarm conflicts`: who gets into whose way, while the agents still work.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::status::follow;
use crate::cli::Context;
use crate::cli::args::ConflictsArgs;
use crate::cli::output::{Output, Style, Table, cut, width};
use crate::coordinator::Failure;
use crate::coordinator::views::{ConflictsView, OverlapFileView, OverlapVerdict, OverlapView};
use crate::model::counted;

/// Most workers for which the matrix is drawn; beyond, the list of conflicts says more.
const MOST_COLUMNS: usize = 12;
/// Columns of a worker's name in the matrix.
const NAME_WIDTH: usize = 16;

/// Runs the verb.
pub(super) fn run(args: &ConflictsArgs, context: &Context) -> Result<(), Failure> {
    let control = context.control()?;
    if args.watch {
        return follow(context, || control.conflicts(), render);
    }
    let view = control.conflicts()?;
    if context.output.json {
        context.output.document(&view)
    } else {
        context.output.print(&render(&view, &context.output))
    }
}

/// The matrix, then each conflict with its places.
fn render(view: &ConflictsView, output: &Output) -> String {
    if view.pairs.is_empty() {
        return "No workers with work to compare.\n".to_owned();
    }
    let mut text = matrix(view, output);
    let conflicts: Vec<_> = view.pairs.iter().filter(|pair| pair.verdict == OverlapVerdict::Conflict).collect();
    for pair in &conflicts {
        text.push('\n');
        text.push_str(&conflict(pair, output));
    }
    let same: Vec<_> = view.pairs.iter().filter(|pair| pair.verdict == OverlapVerdict::Identical).collect();
    for pair in &same {
        writeln!(text, "\n`{}` and `{}` hold the same", pair.a, pair.b).expect("a string takes all text");
    }
    let found = if conflicts.is_empty() { "no conflict".to_owned() } else { counted(conflicts.len(), "conflict") };
    let summary = format!("{}, {found}", counted(view.pairs.len(), "pair"));
    writeln!(text, "\n{}", output.paint(Style::Dim, &summary)).expect("a string takes all text");
    text
}

/// Each worker in a row, with targets and workers as columns; nothing where there are too many.
fn matrix(view: &ConflictsView, output: &Output) -> String {
    let mut verdicts: BTreeMap<(&str, &str), OverlapVerdict> = BTreeMap::new();
    let (mut targets, mut workers) = (Vec::new(), Vec::new());
    for pair in &view.pairs {
        verdicts.insert((&pair.a, &pair.b), pair.verdict);
        verdicts.insert((&pair.b, &pair.a), pair.verdict);
        for (list, name) in [(&mut targets, pair.a.as_str()), (&mut workers, pair.b.as_str())] {
            if !list.contains(&name) {
                list.push(name);
            }
        }
    }
    // Every worker has a pair with its target, so whoever is never second is a target.
    targets.retain(|name| !workers.contains(name));
    workers.sort_unstable();
    if workers.len() > MOST_COLUMNS {
        return String::new();
    }
    let columns: Vec<&str> = targets.iter().chain(&workers).copied().collect();
    let headings: Vec<String> = columns.iter().map(|name| cut(name, NAME_WIDTH)).collect();
    let headings: Vec<&str> = std::iter::once("WORKER").chain(headings.iter().map(String::as_str)).collect();
    let mut table = Table::new(&headings, None);
    for worker in &workers {
        let cells = columns.iter().map(|other| match verdicts.get(&(*worker, *other)) {
            _ if worker == other => (Style::Dim, "-".to_owned()),
            Some(OverlapVerdict::Clean) => (Style::Green, "ok".to_owned()),
            Some(OverlapVerdict::Identical) => (Style::Yellow, "same".to_owned()),
            Some(OverlapVerdict::Conflict) => (Style::Red, "CONFLICT".to_owned()),
            None => (Style::Dim, "".to_owned()),
        });
        table.row(std::iter::once((Style::Bold, (*worker).to_owned())).chain(cells));
    }
    table.render(output.color, width())
}

/// One conflict: its files, and in each the places with what either side says.
fn conflict(pair: &OverlapView, output: &Output) -> String {
    let count = match pair.files.len() {
        0 => "have no common history".to_owned(),
        count => format!("conflict in {}", counted(count, "file")),
    };
    let mut text = output.paint(Style::Red, &format!("`{}` and `{}` {count}\n", pair.a, pair.b));
    for file in &pair.files {
        text.push_str(&places(pair, file, output));
    }
    text
}

/// The places of one file.
fn places(pair: &OverlapView, file: &OverlapFileView, output: &Output) -> String {
    let line_width = width().unwrap_or(120);
    let names = pair.a.len().max(pair.b.len());
    let mut text = format!("  {}  {}\n", file.path, output.paint(Style::Dim, &file.kind.replace('_', "/")));
    for hunk in &file.hunks {
        writeln!(text, "    line {}", hunk.line).expect("a string takes all text");
        for (name, lines) in [(&pair.a, &hunk.ours), (&pair.b, &hunk.theirs)] {
            let first = lines.first().map_or("(nothing)", String::as_str);
            let more =
                if lines.len() > 1 { format!(" (+{})", counted(lines.len() - 1, "line")) } else { String::new() };
            let line = format!("      {name:names$}  {}{more}", crate::cli::output::one_line(first.trim()));
            writeln!(text, "{}", cut(&line, line_width)).expect("a string takes all text");
        }
    }
    text
}
