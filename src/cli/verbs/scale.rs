//! `swarm scale`.

use crate::cli::Context;
use crate::cli::args::{MetricChoice, ScaleArgs, ScaleSetArgs, ScaleVerb, ScopeChoice};
use crate::cli::output::{Style, Table, width};
use crate::coordinator::views::{PolicyView, ScaleReplayView, ScaleScopeView, ScaleView};
use crate::coordinator::{Failure, PolicyChange, ScaleChange};
use crate::model::scaling::{Metric, ScaleScope};
use crate::model::{Time, ago_text, counted, duration_text};

/// Runs the verb.
pub(super) fn run(args: &ScaleArgs, context: &Context) -> Result<(), Failure> {
    let control = context.control()?;
    let (scope, change) = match (&args.verb, args.workers) {
        (None, None) if args.dry_run => {
            let view = control.replay_scale(args.since)?;
            return show(&view, None, context);
        }
        (None, None) => return show(&control.scale()?, None, context),
        (None, Some(workers)) => (args.scope, ScaleChange::Number(workers)),
        (Some(ScaleVerb::Set(set)), _) => (set.which.scope, ScaleChange::Set(metric(set.which.metric), policy(set))),
        (Some(ScaleVerb::Pause(which)), _) => (which.scope, ScaleChange::Activate(metric(which.metric), false)),
        (Some(ScaleVerb::Resume(which)), _) => (which.scope, ScaleChange::Activate(metric(which.metric), true)),
        (Some(ScaleVerb::Remove(which)), _) => (which.scope, ScaleChange::Remove(metric(which.metric))),
        (Some(ScaleVerb::Reset(which)), _) => (which.scope, ScaleChange::Reset),
    };
    let scope = match scope {
        ScopeChoice::Node => ScaleScope::Node,
        ScopeChoice::Swarm => ScaleScope::Swarm,
    };
    show(&control.change_scale(scope, &change)?, Some(&said(scope, &change)), context)
}

/// The metric that was named.
fn metric(choice: MetricChoice) -> Metric {
    match choice {
        MetricChoice::QueueDepth => Metric::QueueDepth,
        MetricChoice::AgentUtilization => Metric::AgentUtilization,
        MetricChoice::ErrorRate => Metric::ErrorRate,
    }
}

/// What of a policy was given.
fn policy(args: &ScaleSetArgs) -> PolicyChange {
    PolicyChange {
        up: args.up,
        down: args.down,
        increment: args.by,
        decrement: args.down_by.or(args.by),
        cooldown: args.cooldown,
        evaluation_periods: args.periods,
        period: args.period,
        min_workers: args.min,
        max_workers: args.max,
    }
}

/// What was done, as a sentence.
fn said(scope: ScaleScope, change: &ScaleChange) -> String {
    let whose = match scope {
        ScaleScope::Node => "",
        ScaleScope::Swarm => " in the swarm",
    };
    match change {
        ScaleChange::Number(workers) => format!("Up to {} at once{whose} from now on.", counted(*workers, "worker")),
        ScaleChange::Reset => format!("The number of workers at once{whose} is the configured one again."),
        ScaleChange::Set(metric, _) => format!("Set the policy on {metric}{whose}."),
        ScaleChange::Activate(metric, true) => format!("The policy on {metric}{whose} counts again."),
        ScaleChange::Activate(metric, false) => format!("The policy on {metric}{whose} is paused."),
        ScaleChange::Remove(metric) => format!("Removed the policy on {metric}{whose}."),
    }
}

/// Shows how it is, or what would have been.
fn show(view: &ScaleView, said: Option<&str>, context: &Context) -> Result<(), Failure> {
    if context.output.json {
        return context.output.document(view);
    }
    said.iter().for_each(|said| context.output.narrate(said));
    let color = context.output.color;
    if let Some(replay) = &view.replay {
        if !replay.actions.is_empty() {
            context.output.print(&replayed(replay).render(color, width()))?;
        }
        context.output.narrate(&verdict(view, replay));
    } else {
        let mut text = scopes(view).render(color, width());
        if view.scopes.iter().any(|scope| !scope.policies.is_empty()) {
            text.push('\n');
            text.push_str(&policies(view).render(color, width()));
        }
        context.output.print(&text)?;
        if view.scopes.iter().all(|scope| scope.policies.is_empty()) {
            context.output.narrate("Nothing scales by itself: swarm scale set queue_depth --up 5 --down 1 --max 6");
        }
    }
    view.warnings.iter().for_each(|warning| context.output.warn(warning));
    Ok(())
}

/// A line for each number of workers.
fn scopes(view: &ScaleView) -> Table {
    let mut table = Table::new(&["SCOPE", "WORKERS", "BOUNDS", "HERE", "LAST CHANGE"], Some(4)).optional(&[3]);
    for scope in &view.scopes {
        let plain = |text: String| (Style::Plain, text);
        let workers =
            scope.workers.map_or_else(|| format!("{} (configured)", scope.max_workers), |count| count.to_string());
        let here = if scope.scope == ScaleScope::Node { Some(view.workers) } else { scope.share };
        table.row([
            (Style::Bold, scope.scope.to_string()),
            plain(workers),
            plain(scope.bounds.map_or_else(|| "-".to_owned(), |(low, high)| format!("{low} to {high}"))),
            plain(here.map_or_else(|| "-".to_owned(), |count| count.to_string())),
            (Style::Dim, last(scope, view.at)),
        ]);
    }
    table
}

/// What changed a number last.
fn last(scope: &ScaleScopeView, at: Time) -> String {
    scope.last.as_ref().map_or_else(
        || "-".to_owned(),
        |last| format!("{} to {}, {}: {}", last.from, last.to, ago_text(last.at.age_at(at)), last.why),
    )
}

/// A line for each policy.
fn policies(view: &ScaleView) -> Table {
    let mut table = Table::new(&["METRIC", "SCOPE", "STATE", "POLICY"], Some(3));
    for (scope, policy) in view.scopes.iter().flat_map(|scope| scope.policies.iter().map(move |policy| (scope, policy)))
    {
        let (style, state) = state(policy, view.at);
        let name = (Style::Bold, policy.metric.to_string());
        table.row([name, (Style::Plain, scope.scope.to_string()), (style, state), (Style::Plain, policy.text.clone())]);
    }
    table
}

/// Whether a policy may act now.
fn state(policy: &PolicyView, at: Time) -> (Style, String) {
    match policy.cools_until {
        _ if !policy.is_active => (Style::Yellow, "paused".to_owned()),
        Some(until) => (Style::Dim, format!("rests for {}", duration_text(until.until_from(at)))),
        None => (Style::Green, "active".to_owned()),
    }
}

/// A line for each change that would have been made.
fn replayed(replay: &ScaleReplayView) -> Table {
    let mut table = Table::new(&["AT", "SCOPE", "WORKERS", "WHY"], Some(3));
    for replayed in &replay.actions {
        let action = &replayed.action;
        let style = if action.to > action.from { Style::Green } else { Style::Yellow };
        table.row([
            (Style::Plain, action.at.to_string()),
            (Style::Plain, replayed.scope.to_string()),
            (style, format!("{} -> {}", action.from, action.to)),
            (Style::Plain, action.why.clone()),
        ]);
    }
    table
}

/// What a replay came to, as a sentence.
fn verdict(view: &ScaleView, replay: &ScaleReplayView) -> String {
    let runs = counted(replay.runs, "run");
    match replay.actions.len() {
        _ if view.scopes.iter().all(|scope| scope.policies.is_empty()) => "There are no policies.".to_owned(),
        0 => format!("The policies would have changed nothing in {runs} of a coordinator."),
        count => format!("The policies would have made {} in {runs} of a coordinator.", counted(count, "change")),
    }
}
