//! `swarm topology`.

use crate::cli::Context;
use crate::cli::args::{TopologyFormat, TopologyVerb};
use crate::cli::output::{Style, Table, width};
use crate::coordinator::views::{TopologiesView, TopologyChangedView, TopologyView};
use crate::coordinator::{Failure, drawing};

/// Runs the verb.
pub(super) fn run(verb: &TopologyVerb, context: &Context) -> Result<(), Failure> {
    let control = context.control()?;
    match verb {
        TopologyVerb::Show(args) => show(&control.topology_view(args.name.as_deref())?, args.format, context),
        TopologyVerb::List => list(&control.topologies()?, context),
        TopologyVerb::Set(args) => changed(&control.set_topology(&args.kind, &args.parameters, args.dry_run)?, context),
        TopologyVerb::Reset => changed(&control.reset_topology()?, context),
    }
}

/// Prints a topology with everybody in it.
fn show(view: &TopologyView, format: TopologyFormat, context: &Context) -> Result<(), Failure> {
    if context.output.json {
        return context.output.document(view);
    }
    let text = match format {
        TopologyFormat::Text => drawing::text(view),
        TopologyFormat::Mermaid => drawing::mermaid(view),
        TopologyFormat::Dot => drawing::dot(view),
    };
    context.output.print(&text)
}

/// Prints what can be chosen.
fn list(view: &TopologiesView, context: &Context) -> Result<(), Failure> {
    if context.output.json {
        return context.output.document(view);
    }
    let mut table = Table::new(&["NAME", "KIND", "IN FORCE", "PARAMETERS"], None);
    for known in &view.topologies {
        let plain = |text: &str| (Style::Plain, text.to_owned());
        table.row(vec![
            (Style::Bold, known.name.clone()),
            plain(known.topology.kind()),
            plain(if known.is_in_force { "yes" } else { "" }),
            plain(&drawing::parameters(&known.topology)),
        ]);
    }
    context.output.print(&table.render(context.output.color, width()))
}

/// Prints what became of it.
fn changed(view: &TopologyChangedView, context: &Context) -> Result<(), Failure> {
    if context.output.json { context.output.document(view) } else { context.output.line(&view.text) }
}
