//! `swarm doctor`.

use std::fmt::Write as _;

use crate::cli::Context;
use crate::cli::args::DoctorArgs;
use crate::cli::output::{Output, Style, one_line};
use crate::coordinator::Failure;
use crate::coordinator::views::FindingView;

/// Runs the verb.
pub(super) fn run(_args: &DoctorArgs, context: &Context) -> Result<(), Failure> {
    let (view, result) = context.control()?.doctor();
    if context.output.json {
        context.output.document(&view)?;
    } else {
        context.output.print(&render(&view.findings, &context.output))?;
    }
    result
}

/// A line for each finding, with what to do about it below.
pub(super) fn render(findings: &[FindingView], output: &Output) -> String {
    let width = findings.iter().map(|finding| finding.subject.len()).max().unwrap_or_default();
    let mut text = String::new();
    for finding in findings {
        let style = match finding.level.as_str() {
            "ok" => Style::Green,
            "warning" => Style::Yellow,
            _ => Style::Red,
        };
        // Padded before it is painted, so that colour codes take no columns.
        let level = output.paint(style, &format!("{:<7}", finding.level));
        let what = one_line(&finding.text);
        writeln!(text, "{level}  {:<width$}  {what}", finding.subject).expect("a string takes all text");
        if let Some(hint) = &finding.hint {
            writeln!(text, "{:7}  {:<width$}  {} {hint}", "", "", output.paint(Style::Cyan, "hint:"))
                .expect("a string takes all text");
        }
    }
    text
}
