//! `swarm node`.

use super::up;
use crate::cli::Context;
use crate::cli::args::{JoinArgs, NodeVerb, WorkArgs};
use crate::cli::output::{Style, Table, width};
use crate::coordinator::views::{NodeChangedView, NodeState, NodesView};
use crate::coordinator::{Control, Failure, JoinRequest};
use crate::model::short_age;

/// Runs the verb.
pub(super) fn run(verb: &NodeVerb, context: &Context) -> Result<(), Failure> {
    match verb {
        NodeVerb::Join(args) => join(args, context),
        NodeVerb::List(_) => list(&context.control()?.nodes_view()?, context),
        NodeVerb::Drain(args) => show(&context.control()?.node_drain(args.node.as_deref(), args.undo)?, context),
        NodeVerb::Remove(args) => show(&context.control()?.node_remove(args.node.as_deref(), args.force)?, context),
    }
}

/// Makes a clone a node.
fn join(args: &JoinArgs, context: &Context) -> Result<(), Failure> {
    let mut call = context.call()?;
    if let Some(url) = args.clone.first() {
        call.directory = Control::clone_for_node(url, args.clone.get(1).map(String::as_str), &call.directory)?;
        context.output.narrate(&format!("cloned into {}", call.directory.display()));
    }
    let output = context.output.clone();
    let control = Control::open(call, context.global.yes)?.with_listener(move |what| output.narrate(what));
    let work = WorkArgs { max_workers: None, merge: args.merge, headless: args.headless };
    let request = JoinRequest {
        server: args.server.clone(),
        project: args.project.clone(),
        name: args.name.clone(),
        capabilities: args.capabilities.clone(),
        max_workers: args.max_workers,
        remote: args.remote.clone(),
        up: up::request(&work),
    };
    show(&control.node_join(&request)?, context)
}

/// Prints what became of a node.
fn show(view: &NodeChangedView, context: &Context) -> Result<(), Failure> {
    if context.output.json { context.output.document(view) } else { context.output.line(&view.text) }
}

/// Prints the nodes.
fn list(view: &NodesView, context: &Context) -> Result<(), Failure> {
    if context.output.json {
        return context.output.document(view);
    }
    if view.nodes.is_empty() {
        return context.output.line("No nodes. swarm node join nats://HOST:PORT makes a clone one");
    }
    let mut table = Table::new(&["NODE", "STATE", "WORKERS", "LOAD", "LANDS", "HEARD", "CAPABILITIES"], None);
    for node in &view.nodes {
        let plain = |text: String| (Style::Plain, text);
        let name = if node.is_this { format!("{} (this)", node.name) } else { node.name.clone() };
        let heard = short_age(std::time::Duration::from_millis(node.heard_ms));
        table.row(vec![
            (Style::Bold, name),
            (style(node.state), node.state.as_str().to_owned()),
            plain(format!("{} of {}", node.running, node.max_workers)),
            plain(node.load.map_or_else(|| "-".to_owned(), |load| format!("{load:.2}"))),
            plain(if node.lands { "yes" } else { "no" }.to_owned()),
            plain(heard),
            plain(node.capabilities.join(", ")),
        ]);
    }
    context.output.print(&table.render(context.output.color, width()))
}

/// How a state looks.
fn style(state: NodeState) -> Style {
    match state {
        NodeState::Active => Style::Green,
        NodeState::Draining | NodeState::Drained | NodeState::Silent => Style::Yellow,
        NodeState::Gone => Style::Red,
    }
}
