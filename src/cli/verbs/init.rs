//! `swarm init`.

use std::path::Path;

use super::doctor;
use crate::cli::Context;
use crate::cli::args::InitArgs;
use crate::coordinator::Failure;
use crate::coordinator::views::InitView;

/// Runs the verb.
pub(super) fn run(args: &InitArgs, context: &Context) -> Result<(), Failure> {
    let view = context.control()?.init(args.agent.as_deref(), args.ci)?;
    if context.output.json {
        context.output.document(&view)?;
    } else {
        show(&view, context)?;
    }
    next_steps(&view, context);
    Ok(())
}

/// Prints what was written and what was found.
fn show(view: &InitView, context: &Context) -> Result<(), Failure> {
    let directory = context.call()?.directory;
    let mut text = String::new();
    for path in &view.written {
        text.push_str(&format!("Wrote {}\n", shown(path, &directory)));
    }
    for path in &view.kept {
        text.push_str(&format!("Kept {} as it was\n", shown(path, &directory)));
    }
    text.push('\n');
    text.push_str(&doctor::render(&view.findings, &context.output));
    context.output.print(&text)
}

/// Says what a person does next.
fn next_steps(view: &InitView, context: &Context) {
    let problems = || view.findings.iter().filter(|finding| finding.level == "problem");
    context.output.narrate("");
    if problems().count() > 0 {
        context.output.narrate("Mend the problems above first; swarm doctor looks again.");
    }
    if problems().any(|finding| finding.subject == "agent") {
        context.output.narrate("Instead of mending the default agent you can take another one:");
        context.output.narrate("  swarm agents check                    shows which agents can run here");
        context.output.narrate("  agent: NAME                           in .swarm/config.yaml makes one the default");
        context.output.narrate("  swarm spawn TICKET --agent NAME       takes one for a single ticket");
        context.output.narrate("A file .swarm/agents/NAME.md with `runtime: command` makes any program an agent.");
        context.output.narrate("Then describe some work, and start a worker on it:");
    } else {
        context.output.narrate("Next: describe some work, and start a worker on it:");
    }
    context.output.narrate("  swarm ticket new fix-parser --title \"Fix the parser\" -p \"What is to be done\"");
    context.output.narrate("  swarm spawn fix-parser");
    context.output.narrate("  swarm status --watch");
}

/// A path as it is seen from the working folder.
pub(super) fn shown(path: &Path, directory: &Path) -> String {
    path.strip_prefix(directory).unwrap_or(path).display().to_string()
}
