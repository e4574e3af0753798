//! Letting more or fewer workers run at once: by what was set while it runs, and by what the policies make of what is seen.
//!
//! For one node the coordinator that leads decides, and keeps the number in the store. For the swarm one node decides: the
//! one whose name is in the entry on the board, as long as it is there, and whoever is first to put its own name in when it
//! is not. The entry is changed by its revision alone, so one that has decided for a while without noticing that it is gone
//! changes nothing. It also says which share each node has; a node that is gone or takes nothing new has none.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::world::World;
use super::{Decision, Engine, News};
use crate::coordinator::control::Control;
use crate::coordinator::failure::Failure;
use crate::coordinator::register::Register;
use crate::coordinator::scaling::{Gauges, LONGEST_GAP, Reading};
use crate::model::event::{SwarmEvent, SwarmRecord};
use crate::model::node::NodeRecord;
use crate::model::scaling::{
    ScaleDecision, ScaleScope, ScalingAction, ScalingPolicy, ScalingState, SwarmScaling, shares,
};
use crate::model::ticket::TicketState;
use crate::model::{NodeName, Time};
use crate::queue::{QueueEvent, QueueTicket};
use crate::store::StoreError;

/// How often the entry of the swarm is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What one coordinator measures, and what it knows of the swarm's number.
#[derive(Debug, Default)]
pub(super) struct Scaling {
    /// What is measured here.
    node: Gauges,
    /// What is measured of the swarm, where this node decides for it.
    swarm: Gauges,
    /// The entry of the swarm with its revision.
    entry: Option<(SwarmScaling, u64)>,
    /// When that was looked at.
    looked_at: Option<Instant>,
}

impl Scaling {
    /// Hears how an attempt ended, where an event says that.
    pub(super) fn hear(&mut self, event: &QueueEvent, entry: Option<&QueueTicket>, own: Option<&str>) {
        let was_running = matches!(event.from, Some(TicketState::Running | TicketState::Lost));
        let is_failure = matches!(event.to, TicketState::Failed | TicketState::Dead);
        if !was_running || !is_failure && !matches!(event.to, TicketState::Review | TicketState::Done) {
            return;
        }
        self.swarm.ended(is_failure);
        let holder = entry.and_then(|entry| entry.node.as_deref());
        if own.is_none() || holder == own {
            self.node.ended(is_failure);
        }
    }

    /// What the swarm is scaled to, where it is.
    fn entry(&self) -> Option<&SwarmScaling> {
        self.entry.as_ref().map(|(entry, _)| entry)
    }
}

/// Lets time pass; whether a period ended whose samples can be decided by. Where nobody looked for too long, nothing that
/// was measured counts.
fn pass(gauges: &mut Gauges, policies: &[ScalingPolicy], now: Time) -> bool {
    gauges.follow(policies, now);
    if gauges.looked_at().is_some_and(|at| at.age_at(now) > LONGEST_GAP) {
        gauges.forget(now);
    }
    gauges.pass(now)
}

/// What follows from what was measured, as a change of `current`.
fn decided(gauges: &Gauges, state: &ScalingState, (current, base): (usize, usize), now: Time) -> Option<ScalingAction> {
    let last_action_at = state.last.as_ref().map(|last| last.at);
    match gauges.decide(current, base, last_action_at, now) {
        ScaleDecision::Hold(_) => None,
        ScaleDecision::Change { to, metric, value, why } => {
            Some(ScalingAction { at: now, from: current, to, metric: Some(metric), value: Some(value), why })
        }
    }
}

impl Engine<'_> {
    /// The settings as they are now.
    fn now_control(&self) -> &Control {
        self.changed.as_ref().unwrap_or(self.control)
    }

    /// Goes by the number that was set since the last look, and says so.
    pub(super) fn hear_scale(&mut self) -> Result<(), Failure> {
        let is_due = self.scaling.looked_at.is_none_or(|at| at.elapsed() >= LOOK_EVERY);
        if let Some(register) = self.nodes.register().filter(|_| is_due) {
            self.scaling.entry = register.scaling()?;
            self.scaling.looked_at = Some(Instant::now());
        }
        let before = self.rules.limit();
        self.rules.scaled = self.now_control().scaled_by(self.scaling.entry())?;
        if self.rules.limit() == before { Ok(()) } else { self.tell_scaled(before) }
    }

    /// Says that another number of workers may run from now on, and why.
    fn tell_scaled(&mut self, before: usize) -> Result<(), Failure> {
        let now = self.rules.limit();
        let (scope, action) = self.cause(now)?;
        let (metric, value) = action.as_ref().map_or((None, None), |action| (action.metric, action.value));
        let why = match (&action, &self.rules.scaled) {
            (Some(action), Some(scaled)) if scope == ScaleScope::Swarm => format!("{}: {}", scaled.by, action.why),
            (Some(action), _) => action.why.clone(),
            (None, Some(scaled)) => scaled.by.clone(),
            (None, None) => "what is configured".to_owned(),
        };
        self.face.tell(&News::Said(&format!("up to {now} workers at once, instead of {before}: {why}")));
        if self.leads {
            let event = SwarmEvent::Scaled { scope, from: before, to: now, metric, value, why };
            self.note(SwarmRecord::now(&self.record.id, event))?;
        }
        Ok(())
    }

    /// Whose number counts, and what changed that last, where that is what made it `now`.
    fn cause(&self, now: usize) -> Result<(ScaleScope, Option<ScalingAction>), Failure> {
        let scope = self.rules.scaled.as_ref().map_or(ScaleScope::Node, |scaled| scaled.scope);
        let action = match scope {
            ScaleScope::Swarm => self.scaling.entry().and_then(|entry| entry.state.last.clone()),
            ScaleScope::Node => self.control.project().store()?.scaling()?.last.filter(|last| last.to == now),
        };
        Ok((scope, action))
    }

    /// Measures, and changes the number where the policies say so; only where it leads.
    pub(super) fn scale(&mut self, world: &World, decision: &Decision) -> Result<(), Failure> {
        if !self.leads {
            self.scaling.node.forget(world.now);
            self.scaling.swarm.forget(world.now);
            return Ok(());
        }
        self.scale_node(world, decision.waiting)?;
        match self.nodes.register().cloned() {
            Some(register) => self.scale_swarm(&register, world, decision.waiting + decision.waiting_elsewhere),
            None => Ok(()),
        }
    }

    /// The same for this node.
    fn scale_node(&mut self, world: &World, waiting: usize) -> Result<(), Failure> {
        let (base, now) = (self.rules.max_workers, world.now);
        let configured = self.now_control().project().settings()?.scaling.clone();
        let state = self.control.project().store()?.scaling()?;
        let policies = state.policies(&configured, ScaleScope::Node);
        let ended = pass(&mut self.scaling.node, &policies, now);
        let current = state.workers(&policies, base).unwrap_or(base);
        let places = self.rules.limit();
        self.scaling.node.see(Reading { waiting, busy: world.placed(&self.rules).len(), places }, now);
        match decided(&self.scaling.node, &state, (current, base), now).filter(|_| ended) {
            Some(action) => self.act_here(&state, action),
            None => Ok(()),
        }
    }

    /// Changes the number of this node, unless somebody else did since `known`: whoever did meant it.
    fn act_here(&mut self, known: &ScalingState, action: ScalingAction) -> Result<(), Failure> {
        let ScalingAction { from, to, metric, value, why, .. } = action.clone();
        let text = format!("up to {to} workers at once, instead of {from}: {why}");
        let event = SwarmEvent::Scaled { scope: ScaleScope::Node, from, to, metric, value, why };
        let record = SwarmRecord::now(&self.record.id, event);
        let is_done = self.control.project().store()?.write(|txn| {
            if txn.scaling()? != *known {
                return Ok::<_, StoreError>(false);
            }
            let mut state = known.clone();
            state.act(action);
            txn.set_scaling(&state)?;
            txn.append_swarm_event(&record)?;
            Ok(true)
        })?;
        if is_done {
            self.rules.scaled = self.now_control().scaled_by(self.scaling.entry())?;
            self.face.tell(&News::Said(&text));
        }
        Ok(())
    }

    /// The same for the swarm, where this node decides for it.
    fn scale_swarm(&mut self, register: &Register, world: &World, waiting: usize) -> Result<(), Failure> {
        let own = self.control.project().node();
        let configured = self.now_control().project().settings()?.scaling.clone();
        let (mut entry, revision) = match &self.scaling.entry {
            Some((entry, revision)) => (entry.clone(), Some(*revision)),
            None => (SwarmScaling::default(), None),
        };
        let policies = entry.state.policies(&configured, ScaleScope::Swarm);
        let present = self.nodes.present(self.own_record()?, Instant::now());
        let is_there = |name: &NodeName| present.iter().any(|(record, _)| record.name == *name);
        let others = entry.decider.as_ref().is_some_and(|decider| *decider != own && is_there(decider));
        if others || policies.is_empty() && entry.decider.is_none() && !entry.state.is_by_hand {
            self.scaling.swarm.forget(world.now);
            return Ok(());
        }
        let before = entry.clone();
        if policies.is_empty() && !entry.state.is_by_hand {
            // Nobody scales the swarm any more.
            (entry.decider, entry.shares) = (None, BTreeMap::new());
        } else {
            self.decide_for_all(&mut entry, &policies, &present, (waiting, world.now));
            entry.decider = Some(own);
        }
        if entry != before {
            let said = register.say_scaling(&entry, revision)?;
            // Where somebody else was faster, the next look tells what they said.
            self.scaling.entry = said.map(|revision| (entry, revision)).or(self.scaling.entry.take());
            self.scaling.looked_at = said.and(self.scaling.looked_at);
            self.hear_scale()?;
        }
        Ok(())
    }

    /// Measures the swarm, in which so many tickets wait for a place now, changes its number where the policies say so, and
    /// divides it over the nodes that are there.
    fn decide_for_all(
        &mut self,
        entry: &mut SwarmScaling,
        policies: &[ScalingPolicy],
        present: &[(NodeRecord, bool)],
        (waiting, now): (usize, Time),
    ) {
        let capacities: BTreeMap<NodeName, usize> = present
            .iter()
            .filter(|(_, is_draining)| !is_draining)
            .map(|(record, _)| (record.name.clone(), record.max_workers))
            .collect();
        let base: usize = capacities.values().sum();
        let ended = pass(&mut self.scaling.swarm, policies, now);
        let current = entry.state.workers(policies, base).unwrap_or(base).min(base);
        let busy = present.iter().map(|(record, _)| record.running).sum();
        self.scaling.swarm.see(Reading { waiting, busy, places: current }, now);
        let action = decided(&self.scaling.swarm, &entry.state, (current, base), now).filter(|_| ended);
        let action = action.map(|action| ScalingAction { to: action.to.min(base), ..action });
        let current = match action.filter(|action| action.to != current) {
            Some(action) => {
                let to = action.to;
                entry.state.act(action);
                to
            }
            None => current,
        };
        entry.shares = shares(current, &capacities);
    }
}
