//! `swarm recover`.

use crate::cli::Context;
use crate::cli::args::RecoverVerb;
use crate::cli::output::{Style, Table, width};
use crate::coordinator::Failure;
use crate::model::{Time, short_age};

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
            let mut table = Table::new(&["WORKER", "AGE", "UNCOMMITTED", "REF", "WHY"], Some(4));
            let now = Time::now();
            for kept in view.kept {
                let uncommitted = if kept.has_uncommitted { "yes" } else { "no" };
                table.row([
                    (Style::Bold, kept.worker),
                    (Style::Plain, short_age(kept.at.age_at(now))),
                    (Style::Plain, uncommitted.to_owned()),
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
            }
            super::review::print_diff(&diff, context)
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
