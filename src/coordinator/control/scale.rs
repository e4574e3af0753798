//! `scale`: how many workers may run at once, set by hand, by policies, or played over the past.

use std::time::Duration;

use super::Control;
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::history::{self, RunHistory, Span, TicketHistory};
use crate::coordinator::register::Register;
use crate::coordinator::scaling::{Recorded, replay};
use crate::coordinator::views::{
    PolicyView, ReplayedView, ScaleReplayView, ScaleScopeView, ScaleView, ScaledView, VIEW_VERSION,
};
use crate::model::scaling::{
    Metric, ScaleScope, Scaled, ScalingAction, ScalingPolicy, ScalingState, SwarmScaling, bounds, contradiction,
};
use crate::model::{NodeName, Time, counted};
use crate::store::HistoryKind;

/// How often a change on the board is tried again where somebody else was faster.
const TRIES: u32 = 20;

/// What is changed about scaling.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ScaleChange {
    /// The number of workers at once.
    Number(usize),
    /// The number is what the configuration says again.
    Reset,
    /// A policy is made, or changed.
    Set(Metric, PolicyChange),
    /// A policy counts, or does not.
    Activate(Metric, bool),
    /// A policy is no more.
    Remove(Metric),
}

/// What of a policy is given anew.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct PolicyChange {
    /// Beyond this, more.
    pub(crate) up: Option<f64>,
    /// Beyond this, fewer.
    pub(crate) down: Option<f64>,
    /// How many more at a time.
    pub(crate) increment: Option<usize>,
    /// How many fewer.
    pub(crate) decrement: Option<usize>,
    /// How long nothing is changed after a change.
    pub(crate) cooldown: Option<Duration>,
    /// How many periods have to agree.
    pub(crate) evaluation_periods: Option<usize>,
    /// How long one is.
    pub(crate) period: Option<Duration>,
    /// The fewest workers.
    pub(crate) min_workers: Option<usize>,
    /// The most.
    pub(crate) max_workers: Option<usize>,
}

impl PolicyChange {
    /// The policy with what is given.
    fn over(&self, policy: ScalingPolicy) -> ScalingPolicy {
        ScalingPolicy {
            up: self.up.or(policy.up),
            down: self.down.or(policy.down),
            increment: self.increment.unwrap_or(policy.increment),
            decrement: self.decrement.unwrap_or(policy.decrement),
            cooldown: self.cooldown.unwrap_or(policy.cooldown),
            evaluation_periods: self.evaluation_periods.unwrap_or(policy.evaluation_periods),
            period: self.period.unwrap_or(policy.period),
            min_workers: self.min_workers.unwrap_or(policy.min_workers),
            max_workers: self.max_workers.or(policy.max_workers),
            ..policy
        }
    }
}

/// The numbers and policies of one scope, as they are.
struct Scope {
    scope: ScaleScope,
    state: ScalingState,
    policies: Vec<ScalingPolicy>,
    /// Workers at once without scaling.
    base: usize,
}

impl Scope {
    /// One by what is kept and what is configured.
    fn new(scope: ScaleScope, state: ScalingState, configured: &[ScalingPolicy], base: usize) -> Self {
        Self { policies: state.policies(configured, scope), scope, state, base }
    }

    /// Workers at once.
    fn workers(&self) -> usize {
        self.state.workers(&self.policies, self.base).unwrap_or(self.base)
    }

    /// The view of it.
    fn view(&self, entry: Option<&SwarmScaling>, own: &NodeName, now: Time) -> ScaleScopeView {
        let last_action_at = self.state.last.as_ref().map(|last| last.at);
        let policy = |policy: &ScalingPolicy| PolicyView {
            metric: policy.metric,
            up: policy.up,
            down: policy.down,
            increment: policy.increment,
            decrement: policy.decrement,
            cooldown_seconds: policy.cooldown.as_secs_f64(),
            evaluation_periods: policy.evaluation_periods,
            period_seconds: policy.period.as_secs_f64(),
            min_workers: policy.min_workers,
            max_workers: policy.max_workers,
            is_active: policy.is_active,
            is_set: self.state.changes.contains_key(&policy.metric),
            cools_until: policy.cools_until(last_action_at, now),
            text: policy.to_string(),
        };
        ScaleScopeView {
            scope: self.scope,
            workers: self.state.workers(&self.policies, self.base),
            max_workers: self.base,
            bounds: bounds(&self.policies, self.base),
            last: self.state.last.clone(),
            decider: entry.and_then(|entry| entry.decider.as_ref()).map(ToString::to_string),
            share: entry.and_then(|entry| entry.shares.get(own).copied()),
            policies: self.policies.iter().map(policy).collect(),
        }
    }

    /// The state after a change.
    fn changed(&self, change: &ScaleChange, configured: &[ScalingPolicy]) -> Result<ScalingState, Failure> {
        let mut state = self.state.clone();
        let known = |metric: Metric| self.policies.iter().find(|policy| policy.metric == metric).cloned();
        let named = |metric: Metric| known(metric).ok_or_else(|| self.no_policy(metric));
        match change {
            ScaleChange::Number(workers) => {
                self.check_number(*workers)?;
                let (at, from, why) = (Time::now(), self.workers(), "set by hand".to_owned());
                state.act(ScalingAction { at, from, to: *workers, metric: None, value: None, why });
            }
            ScaleChange::Reset => (state.number, state.is_by_hand) = (None, false),
            ScaleChange::Set(metric, change) => {
                let policy = change.over(known(*metric).unwrap_or_else(|| ScalingPolicy::new(*metric, self.scope)));
                state.changes.insert(*metric, Some(policy));
            }
            ScaleChange::Activate(metric, is_active) => {
                state.changes.insert(*metric, Some(ScalingPolicy { is_active: *is_active, ..named(*metric)? }));
            }
            ScaleChange::Remove(metric) => {
                named(*metric)?;
                let is_configured =
                    configured.iter().any(|policy| (policy.metric, policy.scope) == (*metric, self.scope));
                state.changes.remove(metric);
                if is_configured {
                    state.changes.insert(*metric, None);
                }
            }
        }
        self.check_policies(&state.policies(configured, self.scope))?;
        Ok(state)
    }

    /// Refuses a number that the policies would not leave as it is.
    fn check_number(&self, workers: usize) -> Result<(), Failure> {
        match bounds(&self.policies, self.base) {
            Some((low, high)) if !(low..=high).contains(&workers) => {
                let text = format!("the policies allow {low} to {high} workers at once, not {workers}");
                Err(Failure::new(FailureKind::Usage, text)
                    .hint("swarm scale set METRIC --min N --max N moves the bounds"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses policies that say nothing or contradict each other.
    fn check_policies(&self, policies: &[ScalingPolicy]) -> Result<(), Failure> {
        for policy in policies {
            if let Some((key, why)) = policy.fault() {
                let text = format!("the policy on {} cannot be: `{key}`: {why}", policy.metric);
                return Err(Failure::new(FailureKind::Usage, text).hint("swarm scale set --help"));
            }
        }
        match contradiction(policies) {
            Some((low, high)) => {
                let text =
                    format!("no number of workers is at least {low} and at most {high}, as the policies ask for");
                Err(Failure::new(FailureKind::Usage, text).hint("swarm scale shows them"))
            }
            None => Ok(()),
        }
    }

    /// The failure for a metric that no policy looks at.
    fn no_policy(&self, metric: Metric) -> Failure {
        let text = format!("no policy of the scope `{}` looks at {metric}", self.scope);
        Failure::new(FailureKind::NotFound, text).hint("swarm scale shows the policies")
    }
}

impl Control {
    /// How many workers a coordinator may run at once here, where scaling says that, with what this node knows of the
    /// swarm.
    pub(in crate::coordinator) fn scaled_by(&self, entry: Option<&SwarmScaling>) -> Result<Option<Scaled>, Failure> {
        self.scaled_with(&self.project.store()?.scaling()?, entry)
    }

    /// The same by what is kept here.
    fn scaled_with(&self, state: &ScalingState, entry: Option<&SwarmScaling>) -> Result<Option<Scaled>, Failure> {
        let settings = self.project.settings()?;
        let policies = state.policies(&settings.scaling, ScaleScope::Node);
        let node = Scaled::of_node(state, &policies, settings.max_workers);
        let entry = entry.filter(|entry| !entry.shares.is_empty());
        Ok(Scaled::fewest(node, entry.map(|entry| Scaled::share(entry, &self.project.node()))))
    }

    /// The same, with what the server says of the swarm now.
    pub(super) fn scaled(&self) -> Result<Option<Scaled>, Failure> {
        let entry = self.swarm_scaling()?.map(|(entry, _)| entry);
        self.scaled_by(entry.as_ref())
    }

    /// What the swarm is scaled to, with its revision; `None` where nobody scales it, or there is none.
    fn swarm_scaling(&self) -> Result<Option<(SwarmScaling, u64)>, Failure> {
        let register = Register::open(&*self.project.queue()?)?;
        Ok(register.map(|register| register.scaling()).transpose()?.flatten())
    }

    /// What scaling allows here, for `status`; `None` also where that is not known.
    pub(super) fn scaled_view(
        &self,
        state: &ScalingState,
        entry: Option<&SwarmScaling>,
    ) -> Result<Option<ScaledView>, Failure> {
        // A status is worth having while the configuration cannot be read.
        let Ok(settings) = self.project.settings() else { return Ok(None) };
        let (scaled, max_workers) = (self.scaled_with(state, entry)?, settings.max_workers);
        Ok(scaled.map(|Scaled { workers, scope, by }| {
            let text = format!("Up to {} at once, set by {by}: swarm scale", counted(workers, "worker"));
            ScaledView { workers, max_workers, scope, text }
        }))
    }

    /// The scopes that there are.
    fn scopes(&self, entry: Option<&SwarmScaling>) -> Result<Vec<Scope>, Failure> {
        let settings = self.project.settings()?;
        let state = self.project.store()?.scaling()?;
        let mut scopes = vec![Scope::new(ScaleScope::Node, state, &settings.scaling, settings.max_workers)];
        if let Some(register) = Register::open(&*self.project.queue()?)? {
            let nodes = register.nodes()?;
            let works = nodes.iter().filter(|node| !node.is_gone() && !node.is_draining);
            let base = works.map(|node| node.record.max_workers).sum();
            let state = entry.map(|entry| entry.state.clone()).unwrap_or_default();
            scopes.push(Scope::new(ScaleScope::Swarm, state, &settings.scaling, base));
        }
        Ok(scopes)
    }

    /// The numbers and policies as they are.
    pub(crate) fn scale(&self) -> Result<ScaleView, Failure> {
        let entry = self.swarm_scaling()?.map(|(entry, _)| entry);
        let (now, own) = (Time::now(), self.project.node());
        let settings = self.project.settings()?;
        let scopes = self.scopes(entry.as_ref())?;
        let in_swarm = |scope: &Scope| entry.as_ref().filter(|_| scope.scope == ScaleScope::Swarm);
        let views: Vec<_> = scopes.iter().map(|scope| scope.view(in_swarm(scope), &own, now)).collect();
        let is_alone = views.len() == 1;
        let idle = settings.scaling.iter().filter(|policy| policy.scope == ScaleScope::Swarm && is_alone);
        let warning = |policy: &ScalingPolicy| {
            format!(
                "the policy on {} is for the swarm, and the queue is in this repository: it does nothing",
                policy.metric
            )
        };
        Ok(ScaleView {
            version: VIEW_VERSION,
            at: now,
            workers: self.scaled_by(entry.as_ref())?.map_or(settings.max_workers, |scaled| scaled.workers),
            max_workers: settings.max_workers,
            scopes: views,
            replay: None,
            warnings: idle.map(warning).collect(),
        })
    }

    /// Changes a number or a policy; a coordinator that runs goes by it at its next look.
    pub(crate) fn change_scale(&self, scope: ScaleScope, change: &ScaleChange) -> Result<ScaleView, Failure> {
        // Where a server is to say what there is beside, nothing is changed that it could not be told with.
        self.swarm_scaling()?;
        let settings = self.project.settings()?;
        let blocks = settings.port_blocks();
        let most = match change {
            ScaleChange::Number(workers) => Some(*workers),
            ScaleChange::Set(_, change) => change.max_workers,
            _ => None,
        };
        if scope == ScaleScope::Node && most.is_some_and(|most| most > blocks) {
            let text = format!("there are ports for {} only", counted(blocks, "worker"));
            return Err(Failure::new(FailureKind::Usage, text).hint("see `ports` in .swarm/config.yaml"));
        }
        match scope {
            ScaleScope::Node => {
                let base = settings.max_workers;
                self.project.store()?.write(|txn| {
                    let known = Scope::new(scope, txn.scaling()?, &settings.scaling, base);
                    let state = known.changed(change, &settings.scaling)?;
                    Ok::<_, Failure>(txn.set_scaling(&state)?)
                })?;
            }
            ScaleScope::Swarm => self.change_swarm_scale(change)?,
        }
        self.scale()
    }

    /// The same on the board.
    fn change_swarm_scale(&self, change: &ScaleChange) -> Result<(), Failure> {
        let Some(register) = Register::open(&*self.project.queue()?)? else {
            let text = "the queue of this project is in the repository, so there is no swarm of nodes";
            return Err(Failure::new(FailureKind::Usage, text).hint("leave `--scope swarm` out"));
        };
        let configured = &self.project.settings()?.scaling;
        for _ in 0..TRIES {
            let (entry, revision) =
                register.scaling()?.map_or((None, None), |(entry, known)| (Some(entry), Some(known)));
            let scopes = self.scopes(entry.as_ref())?;
            let scope = scopes.iter().find(|scope| scope.scope == ScaleScope::Swarm);
            let Some(scope) = scope else { break };
            let state = scope.changed(change, configured)?;
            let entry = SwarmScaling { state, ..entry.unwrap_or_default() };
            if register.say_scaling(&entry, revision)?.is_some() {
                return Ok(());
            }
        }
        Err(Failure::new(FailureKind::Failed, "others change the scaling of the swarm all the time").hint("try again"))
    }

    /// What the policies would have done since a moment, by what is recorded.
    pub(crate) fn replay_scale(&self, since: Option<Time>) -> Result<ScaleView, Failure> {
        let entry = self.swarm_scaling()?.map(|(entry, _)| entry);
        let mut actions = Vec::new();
        let (mut runs, scopes) = (0, self.scopes(entry.as_ref())?);
        let is_shared = scopes.len() > 1;
        for scope in scopes {
            let recorded = self.recorded(since, is_shared && scope.scope == ScaleScope::Node)?;
            runs = recorded.runs.len();
            let played = replay(&scope.policies, &recorded, scope.base);
            actions.extend(played.into_iter().map(|action| ReplayedView { scope: scope.scope, action }));
        }
        actions.sort_by_key(|replayed| replayed.action.at);
        Ok(ScaleView { replay: Some(ScaleReplayView { since, runs, actions }), ..self.scale()? })
    }

    /// What is recorded since a moment; of other nodes nothing where only this one `is_meant`.
    fn recorded(&self, since: Option<Time>, is_meant: bool) -> Result<Recorded, Failure> {
        let store = self.project.store()?;
        history::catch_up(store)?;
        let (from, now) = (since.unwrap_or(Time::from_millis(i64::MIN)), Time::now());
        let tickets = store.history(HistoryKind::Ticket, Time::from_millis(i64::MIN))?;
        let runs = store.history(HistoryKind::Run, from)?;
        let mut recorded = Recorded::default();
        for row in &runs {
            let run: RunHistory = history::parse(&row.document)?;
            recorded.runs.push((run.began_at.max(from), run.seen_at));
        }
        let within = |span: Span| (span.from, span.to.unwrap_or(now));
        for row in &tickets {
            let ticket: TicketHistory = history::parse(&row.document)?;
            recorded.waiting.extend(ticket.queued_spans().map(within));
            for attempt in ticket.attempts.iter().filter(|attempt| !is_meant || attempt.worker.is_some()) {
                recorded.busy.extend(attempt.spans.iter().copied().map(within));
                let end = attempt.spans.last().and_then(|span| span.to);
                recorded.ended.extend(end.zip(attempt.is_failure()));
            }
        }
        Ok(recorded)
    }
}
