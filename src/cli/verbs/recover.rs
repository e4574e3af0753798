//! `swarm recover`.

use crate::cli::Context;
use crate::cli::args::RecoverVerb;
use crate::cli::output::{Style, Table, width};
use crate::coordinator::views::{KeptView, LooseEnd};
use crate::coordinator::{Failure, KeptDiff};
use crate::model::{Time, short_age, size_text};

/// Runs the verb.
pub(super) fn run(verb: &RecoverVerb, context: &Context) -> Result<(), Failure> {
    let control = context.control()?;
    match verb {
        RecoverVerb::List => {
            let view = control.kept()?;
            if context.output.json {
                return context.output.document(&view);
            }
            if view.kept.is_empty() {
                return context.output.line("Nothing is kept");
            }
            let mut table = Table::new(&["WORKER", "AGE", "SIZE", "HOLDS", "REF", "WHY"], Some(5)).optional(&[2]);
            let now = Time::now();
            for kept in view.kept {
                table.row([
                    (Style::Bold, kept.worker),
                    (Style::Plain, short_age(kept.at.age_at(now))),
                    (Style::Plain, size_text(kept.bytes)),
                    (Style::Plain, kept.holds.join(" ")),
                    (Style::Plain, kept.reference),
                    (Style::Dim, kept.reason),
                ]);
            }
            context.output.print(&table.render(context.output.color, width()))
        }
        RecoverVerb::Show(args) => {
            let (view, diff) = control.show_kept(&args.what, context.output.color && !context.output.json)?;
            if context.output.json {
                return context.output.document(&view);
            }
            for kept in &view.kept {
                let head = format!("{} from `{}`, kept at {}: {}", kept.reference, kept.branch, kept.at, kept.reason);
                context.output.line(&context.output.paint(Style::Bold, &head))?;
                context.output.print(&details(kept))?;
            }
            super::review::print_diff(&diff, context)
        }
        RecoverVerb::Diff(args) => {
            let color = context.output.color && !context.output.json;
            let request = KeptDiff { uncommitted: args.uncommitted, stat: args.stat, color, width: width() };
            let (view, diff) = control.diff_kept(&args.what, &request)?;
            if context.output.json { context.output.document(&view) } else { super::review::print_diff(&diff, context) }
        }
        RecoverVerb::Restore(args) => {
            let view = control.restore(&args.what, args.branch.as_deref(), args.worktree.clone())?;
            if context.output.json {
                return context.output.document(&view);
            }
            if let Some(commit) = &view.beside {
                context.output.narrate(&format!("warning: the worker's branch was at {commit}, which is not in it"));
            }
            if view.left_uncommitted {
                let text = format!("warning: uncommitted work is not in a branch; it stays in {}", view.reference);
                context.output.narrate(&text);
                let hint = format!("swarm recover restore {} --branch NAME --worktree PATH brings it too", args.what);
                context.output.narrate(&format!("hint: {hint}"));
            }
            match view.worktree {
                Some(path) => context.output.line(&format!("Restored `{}` in {}", view.branch, path.display())),
                None => context.output.line(&format!("Restored `{}`", view.branch)),
            }
        }
    }
}

/// What one keep ref holds, a fact a line.
fn details(kept: &KeptView) -> String {
    let size = size_text(kept.bytes);
    let mut text = format!("  holds {}; nothing else has {size} of it\n", kept.holds.join(", "));
    if kept.uncommitted_files > 0 {
        let (files, untracked) = (kept.uncommitted_files, kept.untracked_files);
        text.push_str(&format!("  {files} files were not committed, {untracked} of them not tracked\n"));
    }
    for also in &kept.also {
        let what = also.kind.map_or("another commit", LooseEnd::as_clause);
        text.push_str(&format!("  {what}: git show {}\n", also.commit));
    }
    text.push_str(&format!("  swarm clean proposes its removal from {} on\n", kept.expires_at));
    text
}
