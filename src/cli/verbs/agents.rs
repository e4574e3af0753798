//! `swarm agents`.

use std::fmt::Write as _;

use crate::cli::Context;
use crate::cli::args::AgentsVerb;
use crate::cli::output::{Style, Table, one_line, width};
use crate::coordinator::Failure;
use crate::coordinator::views::{AgentView, AgentsView};
use crate::model::agent::AgentOrigin;

/// Runs the verb.
pub(super) fn run(verb: &AgentsVerb, context: &Context) -> Result<(), Failure> {
    let control = context.control()?;
    match verb {
        AgentsVerb::List => show(&control.agents()?, context, list),
        AgentsVerb::Show(args) => show(&control.show_agent(&args.agent)?, context, details),
        AgentsVerb::Check(args) => {
            let (view, result) = control.check_agents(&args.agents)?;
            show(&view, context, checks)?;
            result
        }
    }
}

/// Prints a view, and the files that define no agent as warnings.
fn show(view: &AgentsView, context: &Context, render: fn(&AgentsView, &Context) -> String) -> Result<(), Failure> {
    if context.output.json {
        context.output.document(view)?;
    } else {
        context.output.print(&render(view, context))?;
    }
    view.problems.iter().for_each(|problem| context.output.warn(problem));
    Ok(())
}

/// The table of agents.
fn list(view: &AgentsView, context: &Context) -> String {
    let mut table = Table::new(&["AGENT", "RUNTIME", "MODEL", "FROM", "VERIFIED", "DESCRIPTION"], Some(5));
    for agent in &view.agents {
        let plain = |text: &str| (Style::Plain, text.to_owned());
        table.row([
            (Style::Bold, named(agent)),
            (Style::Plain, runtime(agent)),
            plain(agent.model.as_deref().unwrap_or("-")),
            plain(place(agent.origin)),
            plain(agent.verified.as_deref().unwrap_or("-")),
            (Style::Plain, one_line(&agent.description)),
        ]);
    }
    let text = table.render(context.output.color, width());
    format!("{text}\n{}\n", context.output.paint(Style::Dim, "* works on tickets that name no agent"))
}

/// The table of checks.
fn checks(view: &AgentsView, context: &Context) -> String {
    let mut table = Table::new(&["AGENT", "RUNTIME", "READY", "PROGRAM"], Some(3));
    for agent in &view.agents {
        let Some(check) = &agent.check else { continue };
        let ready = if check.ready { (Style::Green, "yes") } else { (Style::Red, "no") };
        let program = check.program.as_deref().or(check.problem.as_deref()).unwrap_or("-");
        let told = match (&check.program, &check.problem) {
            (Some(program), Some(problem)) => format!("{program}: {problem}"),
            _ => program.to_owned(),
        };
        table.row([
            (Style::Bold, named(agent)),
            (Style::Plain, runtime(agent)),
            (ready.0, ready.1.to_owned()),
            (Style::Plain, told),
        ]);
    }
    let mut text = table.render(context.output.color, width());
    let mut hints: Vec<_> = view.agents.iter().filter_map(|agent| agent.check.as_ref()?.hint.as_deref()).collect();
    hints.dedup();
    for hint in hints {
        writeln!(text, "{} {hint}", context.output.paint(Style::Cyan, "hint:")).expect("a string takes all text");
    }
    text
}

/// One agent, with its system prompt as written.
fn details(view: &AgentsView, context: &Context) -> String {
    let mut text = String::new();
    for agent in &view.agents {
        let join = |words: &[String]| (!words.is_empty()).then(|| words.join(", "));
        let command = (!agent.command.is_empty()).then(|| serde_json::to_string(&agent.command).unwrap_or_default());
        let rows = [
            ("description", Some(agent.description.clone())),
            ("runtime", Some(runtime(agent))),
            ("verified", agent.verified.clone()),
            ("command", command),
            ("model", agent.model.clone()),
            ("provider", agent.provider.clone()),
            ("tools", join(&agent.tools)),
            ("permissions", Some(agent.permission_mode.clone())),
            ("capabilities", join(&agent.capabilities)),
            ("isolated", agent.isolated.then(|| "yes".to_owned())),
            ("from", Some(place(agent.origin).to_owned())),
            ("default", agent.is_default.then(|| "yes".to_owned())),
        ];
        writeln!(text, "{}", context.output.paint(Style::Bold, &agent.name)).expect("a string takes all text");
        for (name, value) in rows.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            let name = context.output.paint(Style::Dim, &format!("{name:<12}"));
            writeln!(text, "{name}  {}", one_line(value)).expect("a string takes all text");
        }
        let prompt = agent.system_prompt.as_deref().unwrap_or_default();
        writeln!(text, "\n{}", prompt.trim_end()).expect("a string takes all text");
    }
    text
}

/// The runtime, with the preset of its program.
fn runtime(agent: &AgentView) -> String {
    match &agent.preset {
        Some(preset) => format!("{} {preset}", agent.runtime.as_str()),
        None => agent.runtime.as_str().to_owned(),
    }
}

/// A name with the mark of the default.
fn named(agent: &AgentView) -> String {
    format!("{}{}", agent.name, if agent.is_default { " *" } else { "" })
}

/// Where an agent is defined, for a person.
fn place(origin: AgentOrigin) -> &'static str {
    match origin {
        AgentOrigin::BuiltIn => "swarm",
        AgentOrigin::User => "you",
        AgentOrigin::ClaudeProject => ".claude/agents",
        AgentOrigin::Project => ".swarm/agents",
    }
}
