//! `swarm doctor`.

use std::fmt::Write as _;

use crate::cli::Context;
use crate::cli::args::DoctorArgs;
use crate::cli::output::{Output, Style, one_line};
use crate::coordinator::Failure;
use crate::coordinator::views::FindingView;

/// Runs the verb.
pub(super) fn run(args: &DoctorArgs, context: &Context) -> Result<(), Failure> {
    let applies = args.mend && context.global.yes;
    let (view, result) = context.control()?.doctor(applies);
    if context.output.json {
        context.output.document(&view)?;
        return result;
    }
    context.output.print(&render(&view.findings, &context.output))?;
    let count = view.findings.iter().filter(|finding| finding.mend.is_some()).count();
    match (count, args.mend, applies) {
        (0, true, _) => context.output.narrate("there is nothing to mend"),
        (0, false, _) | (_, _, true) => {}
        (_, true, false) => {
            context.output.narrate("nothing was changed; swarm doctor --mend --yes does what is said here")
        }
        (1, false, _) => context.output.narrate("1 finding can be mended: swarm doctor --mend says how"),
        (_, false, _) => {
            context.output.narrate(&format!("{count} findings can be mended: swarm doctor --mend says how"));
        }
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
        let mend = finding.mended.as_deref().map(|done| ("mended:", done));
        if let Some((word, what)) = mend.or(finding.mend.as_deref().map(|remedy| ("mending:", remedy))) {
            let word = output.paint(Style::Cyan, word);
            writeln!(text, "{:7}  {:<width$}  {word} {}", "", "", one_line(what)).expect("a string takes all text");
        }
    }
    text
}
