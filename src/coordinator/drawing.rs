//! A topology as a tree for a terminal, and as graphs for Mermaid and Graphviz.

use super::views::{LinkKind, MemberKind, MemberView, TopologyView};
use crate::model::counted;
use crate::model::topology::Topology;

/// A topology as a tree: each member below who assigns to it.
pub(crate) fn text(view: &TopologyView) -> String {
    let name = view.name.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
    let parameters = parameters(&view.topology);
    let parameters = if parameters.is_empty() { String::new() } else { format!(" ({parameters})") };
    let mut out = format!("{name}{}{parameters}, {}\n", view.topology.kind(), view.source.clause());
    out += &format!("assign: {}\nmessage: {}\n\n", view.assigns, view.messages);
    let ids: Vec<_> = view.members.iter().map(|member| member.id.as_str()).collect();
    let is_root = |member: &&MemberView| member.parent.as_deref().is_none_or(|parent| !ids.contains(&parent));
    for member in view.members.iter().filter(is_root) {
        out += &format!("{}\n", label(member, " "));
        branch(view, &member.id, "", &mut out);
    }
    if !view.tokens.is_empty() {
        out += "\ntokens:\n";
    }
    for token in &view.tokens {
        let (of, turn) = (token.agents.len(), token.turn);
        let place = match &token.holder {
            Some(holder) => format!("with {holder}, {turn} of {of}"),
            None => "at its end".to_owned(),
        };
        let skipped =
            token.skipped.iter().map(|skipped| format!("; {} was passed over: {}", skipped.agent, skipped.why));
        out += &format!("  {}: {place}{}\n", token.ticket, skipped.collect::<String>());
    }
    out
}

/// The members below one.
fn branch(view: &TopologyView, parent: &str, indent: &str, out: &mut String) {
    let below: Vec<_> = view.members.iter().filter(|member| member.parent.as_deref() == Some(parent)).collect();
    for (index, member) in below.iter().enumerate() {
        let is_last = index + 1 == below.len();
        let (knee, rest) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        *out += &format!("{indent}{knee}{}\n", label(member, " "));
        branch(view, &member.id, &format!("{indent}{rest}"), out);
    }
}

/// What is said of a member, with this between its parts.
fn label(member: &MemberView, between: &str) -> String {
    let mut parts = vec![member.id.clone(), format!("({})", member.role.as_str())];
    parts.extend(member.status.clone());
    if let Some(count) = member.max_workers {
        parts.push(format!("up to {}", counted(count, "worker")));
    }
    if member.what != MemberKind::Worker && !member.tickets.is_empty() {
        parts.push(format!("waiting: {}", member.tickets.join(", ")));
    }
    parts.join(between)
}

/// The parameters in a line.
pub(crate) fn parameters(topology: &Topology) -> String {
    let value = serde_json::to_value(topology).unwrap_or_default();
    let mut found = Vec::new();
    flatten("", &value, &mut found);
    found.retain(|(key, _)| key != "kind");
    found.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

/// Every value with its key, the way `swarm topology set` takes them.
fn flatten(key: &str, value: &serde_json::Value, found: &mut Vec<(String, String)>) {
    match value {
        serde_json::Value::Object(map) => {
            for (name, value) in map {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                flatten(&key, value, found);
            }
        }
        serde_json::Value::Array(items) => {
            let items: Vec<_> =
                items.iter().map(|item| item.as_str().map_or(item.to_string(), str::to_owned)).collect();
            found.push((key.to_owned(), items.join(",")));
        }
        serde_json::Value::String(text) => found.push((key.to_owned(), text.clone())),
        other => found.push((key.to_owned(), other.to_string())),
    }
}

/// A topology as a Mermaid flow chart: arrows assign, dotted lines message, thick arrows pass on.
pub(crate) fn mermaid(view: &TopologyView) -> String {
    let mut out = "flowchart TD\n".to_owned();
    for (index, member) in view.members.iter().enumerate() {
        let text = label(member, "<br>").replace('"', "#quot;");
        out += &format!("  n{index}[\"{text}\"]\n");
    }
    for link in &view.links {
        let Some((from, to)) = places(view, &link.from, &link.to) else { continue };
        let line = match link.what {
            LinkKind::Assigns => "-->",
            LinkKind::Messages => "-.-",
            LinkKind::Passes => "==>",
        };
        out += &format!("  n{from} {line} n{to}\n");
    }
    out
}

/// A topology as a Graphviz graph: arrows assign, dashed lines message, thick arrows pass on.
pub(crate) fn dot(view: &TopologyView) -> String {
    let mut out = "digraph swarm {\n  node [shape=box];\n".to_owned();
    for (index, member) in view.members.iter().enumerate() {
        let text = label(member, "\n").replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        out += &format!("  n{index} [label=\"{text}\"];\n");
    }
    for link in &view.links {
        let Some((from, to)) = places(view, &link.from, &link.to) else { continue };
        let style = match link.what {
            LinkKind::Assigns => "",
            LinkKind::Messages => " [style=dashed, dir=none, constraint=false]",
            LinkKind::Passes => " [style=bold, constraint=false]",
        };
        out += &format!("  n{from} -> n{to}{style};\n");
    }
    out + "}\n"
}

/// Where two members are in the list.
fn places(view: &TopologyView, from: &str, to: &str) -> Option<(usize, usize)> {
    let place = |id: &str| view.members.iter().position(|member| member.id == id);
    Some((place(from)?, place(to)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::views::{LinkView, TopologySource, VIEW_VERSION};
    use crate::model::Time;
    use crate::model::topology::{Role, TopologySetting};

    /// A small hierarchy; a worker's name holds what graphs have to quote.
    fn hierarchy() -> TopologyView {
        let setting =
            TopologySetting::parse("hierarchical", &["levels.supervisor=1".to_owned(), "levels.worker=4".to_owned()]);
        let topology = setting.unwrap().resolve(&Default::default()).unwrap().topology;
        let member = |id: &str, what, role, parent: Option<&str>| MemberView {
            id: id.to_owned(),
            what,
            role,
            parent: parent.map(str::to_owned),
            status: None,
            max_workers: None,
            tickets: Vec::new(),
        };
        let worker = |id| member(id, MemberKind::Worker, Role::Worker, Some("supervisor-1"));
        let supervisor = member("supervisor-1", MemberKind::Supervisor, Role::Supervisor, Some("host"));
        let link = |from: &str, to: &str, what| LinkView { from: from.to_owned(), to: to.to_owned(), what };
        TopologyView {
            version: VIEW_VERSION,
            at: Time::from_millis(0),
            name: None,
            source: TopologySource::Set,
            assigns: topology.assigns(),
            messages: topology.messages(),
            topology,
            members: vec![
                member("host", MemberKind::Coordinator, Role::Leader, None),
                MemberView { max_workers: Some(4), tickets: vec!["c".to_owned()], ..supervisor },
                MemberView { status: Some("working".to_owned()), ..worker("a") },
                worker("say \"b\""),
            ],
            links: vec![
                link("host", "supervisor-1", LinkKind::Assigns),
                link("supervisor-1", "a", LinkKind::Assigns),
                link("a", "say \"b\"", LinkKind::Messages),
                link("a", "somebody who is not there", LinkKind::Messages),
            ],
            tokens: Vec::new(),
            links_left_out: 0,
        }
    }

    #[test]
    fn a_topology_is_a_tree_and_two_graphs() {
        let view = hierarchy();
        insta::assert_snapshot!(text(&view), @r#"
        hierarchical (levels.coordinator=1 levels.supervisor=1 levels.worker=4 parent_child_ratio=4), set while running
        assign: the coordinator gives tickets to supervisors, each of which assigns its own to workers
        message: workers message those of the same supervisor

        host (leader)
        └─ supervisor-1 (supervisor) up to 4 workers waiting: c
           ├─ a (worker) working
           └─ say "b" (worker)
        "#);
        insta::assert_snapshot!(mermaid(&view), @r#"
        flowchart TD
          n0["host<br>(leader)"]
          n1["supervisor-1<br>(supervisor)<br>up to 4 workers<br>waiting: c"]
          n2["a<br>(worker)<br>working"]
          n3["say #quot;b#quot;<br>(worker)"]
          n0 --> n1
          n1 --> n2
          n2 -.- n3
        "#);
        insta::assert_snapshot!(dot(&view), @r#"
        digraph swarm {
          node [shape=box];
          n0 [label="host\n(leader)"];
          n1 [label="supervisor-1\n(supervisor)\nup to 4 workers\nwaiting: c"];
          n2 [label="a\n(worker)\nworking"];
          n3 [label="say \"b\"\n(worker)"];
          n0 -> n1;
          n1 -> n2;
          n2 -> n3 [style=dashed, dir=none, constraint=false];
        }
        "#);
    }
}
