//! `swarm clean`.

use crate::cli::Context;
use crate::cli::args::CleanArgs;
use crate::cli::output::Style;
use crate::coordinator::views::CleanView;
use crate::coordinator::{CleanRequest, Failure};
use crate::model::size_text;

/// Runs the verb.
pub(super) fn run(args: &CleanArgs, context: &Context) -> Result<(), Failure> {
    let insists = context.global.yes && !args.dry_run;
    let request = CleanRequest { applies: (args.apply || insists) && !args.dry_run, insists, unlanded: args.unlanded };
    let (view, result) = context.control()?.clean(request)?;
    if context.output.json {
        context.output.document(&view)?;
    } else {
        context.output.print(&render(&view, context))?;
        if view.dry_run && !view.goes.is_empty() {
            context.output.narrate("nothing was removed; swarm clean --apply removes it");
        }
    }
    result
}

/// What a person reads.
fn render(view: &CleanView, context: &Context) -> String {
    let mut text = String::new();
    let bold = |title: &str| context.output.paint(Style::Bold, title);
    if view.goes.is_empty() {
        text.push_str(if view.dry_run { "Nothing can go\n" } else { "Nothing was removed\n" });
    } else {
        let title = if view.dry_run { "Can go" } else { "Removed" };
        text.push_str(&format!("{} ({})\n", bold(title), size_text(view.bytes)));
    }
    for entry in &view.goes {
        let check = entry.check.map(|check| format!(" [{}]", check.as_str())).unwrap_or_default();
        let size = size_text(entry.bytes);
        text.push_str(&format!("  {:<9} {} ({size}): {}{check}\n", entry.kind, entry.subject, entry.why));
        if let Some(done) = &entry.text {
            text.push_str(&format!("            {done}\n"));
        }
    }
    if !view.stays.is_empty() {
        text.push_str(&format!("{}\n", bold("Stays")));
    }
    for entry in &view.stays {
        text.push_str(&format!("  {:<9} {}: {}\n", entry.kind, entry.subject, entry.why));
    }
    text
}
